//! Which column goes where, as what, and with which promise. Pure: schemas and mapping in, columns out.

use dmg_connector::{Column, Holding, Sink};
use dmg_protocol::job::{ColumnMapping, CopyOptions, DeclaredColumn, Drift};
use dmg_protocol::{ColumnPlan, Fault, Kind, Verdict};

use crate::convert::{Conversion, conversion, is_text};
use crate::lossy::{Word, lossy, text_limit};
use crate::nanos;
use crate::styled::Style;

/// One planned column and how to get it.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) plan: ColumnPlan,
    /// Index of the column in the source's batches.
    pub(crate) source: usize,
    pub(crate) conversion: Conversion,
}

/// What the author says about columns.
pub(crate) struct Wishes<'a> {
    /// Which column goes where; empty means by name.
    pub(crate) mapping: &'a [ColumnMapping],
    /// How text of the source is to be read.
    pub(crate) declared: &'a [DeclaredColumn],
    /// What may be lost, and added.
    pub(crate) options: &'a CopyOptions,
    /// Whether the sink writes texts, for which the author's culture and formats count.
    pub(crate) writes_text: bool,
}

/// What the author says about one column.
#[derive(Debug, Clone, Copy, Default)]
struct Wish<'a> {
    kind: Option<Kind>,
    format: Option<&'a str>,
    culture: Option<&'a str>,
}

/// Plans all columns, in target order where the target has columns of its own, else in source order.
pub(crate) fn plan_declared(
    source: &[Column],
    target: Option<&[Column]>,
    wishes: &Wishes<'_>,
    sink: &dyn Sink,
) -> Result<Vec<Planned>, Fault> {
    refuse_doubles(source)?;
    let pairs = pairs(source, target, wishes.mapping, wishes.options.drift)?;
    // A part of a key is no key.
    let mapped = |index: usize| pairs.iter().any(|(pair, ..)| *pair == index);
    let whole_key = source.iter().enumerate().all(|(index, column)| !column.key || mapped(index));
    let mut planned = Vec::with_capacity(pairs.len());
    for (index, name, target_column) in pairs {
        let column = &source[index];
        let wish = wish(column, &name, wishes);
        // A kind in between decides how the sink holds the column.
        let styled = wishes.writes_text
            && wish.kind.is_none()
            && !is_text(column.kind)
            && style(column, wish, wishes.options, column.kind)?.is_some();
        let between = wish.kind.filter(|kind| *kind != column.kind).or(styled.then_some(Kind::Text));
        let renamed = Column { name: name.clone(), kind: between.unwrap_or(column.kind), ..column.clone() };
        let holding = sink.hold(&renamed, target_column);
        let span = sink.span(&holding);
        // Who allows digits to be cut gets a type that holds every year.
        let coarser = nanos::coarse(renamed.kind).filter(|_| {
            let way = Way { column, name: &name, holding: &holding, wish, options: wishes.options };
            span.is_some() && wish.kind.is_none() && way.may_lose(Word::Truncation)
        });
        let (holding, span) = match coarser {
            Some(kind) => (sink.hold(&Column { kind, ..renamed.clone() }, target_column), None),
            None => (holding, span),
        };
        let way = Way { column, name: &name, holding: &holding, wish, options: wishes.options };
        let (conversion, promise) = way.find(between)?;
        let verdict = promise.max(holding.verdict);
        let reason = holding.reason.clone().or_else(|| match promise {
            Verdict::Exact => None,
            _ => Some(format!("{} becomes {}", column.kind, holding.kind)),
        });
        if verdict == Verdict::Lossy && !way.may_lose(Word::Truncation) {
            return Err(way.loses(reason.as_deref().unwrap_or("the types differ")));
        }
        let (conversion, verdict, reason) = way.cut(conversion, verdict, reason);
        let conversion = match span {
            Some((first, last)) if verdict >= Verdict::Checked => conversion.then(Conversion::Within { first, last }),
            _ => conversion,
        };
        let pads = target_column.filter(|target| target.type_name != column.type_name && holding.kind == Kind::Text);
        let (conversion, verdict, reason) = match pads.and_then(|target| sink.pads(target)) {
            Some(characters) => {
                let padded = format!("texts are padded with blanks to {characters} characters");
                (conversion.then(Conversion::Pad(characters)), verdict.max(Verdict::Checked), Some(padded))
            }
            None => (conversion, verdict, reason),
        };
        planned.push(Planned {
            plan: ColumnPlan {
                source: column.name.clone(),
                sink: name,
                kind: holding.kind,
                source_type: column.type_name.clone(),
                sink_type: holding.type_name,
                key: column.key && whole_key,
                required: !column.nullable,
                verdict,
                reason,
            },
            source: index,
            conversion,
        });
    }
    if planned.is_empty() {
        let message = "There is no column to copy: source and target have no column name in common.";
        return Err(Fault::new("UserErrorSchemaMismatch", message));
    }
    Ok(planned)
}

/// What the author says about a column: in its line of the mapping, else where the source is declared.
fn wish<'a>(column: &Column, name: &str, wishes: &Wishes<'a>) -> Wish<'a> {
    let alike = |text: &str| text.eq_ignore_ascii_case(name);
    let line = wishes.mapping.iter().find(|line| alike(&line.sink) && line.source.eq_ignore_ascii_case(&column.name));
    let declared = wishes.declared.iter().find(|declared| declared.name == column.name);
    // A declared column without culture and format is read as its kind by the file's reader.
    let declared = declared.filter(|declared| declared.format.is_some() || declared.culture.is_some());
    let said = wishes.options.conversion.kinds.iter().find(|(column, _)| alike(column)).map(|(_, kind)| *kind);
    // The types of documents have steps of 100 ns: what the source holds so finely is not to be cut by their names.
    let typed = line.and_then(|line| line.kind).filter(|kind| nanos::coarse(column.kind) != Some(*kind));
    Wish {
        kind: said.or(typed).or(declared.and_then(|declared| declared.kind)),
        format: line
            .and_then(|line| line.format.as_deref())
            .or(declared.and_then(|declared| declared.format.as_deref())),
        culture: line
            .and_then(|line| line.culture.as_deref())
            .or(declared.and_then(|declared| declared.culture.as_deref())),
    }
}

/// The author's culture and format for texts of a kind.
fn style(column: &Column, wish: Wish<'_>, options: &CopyOptions, kind: Kind) -> Result<Option<Style>, Fault> {
    let said = &options.conversion;
    let general = match kind {
        Kind::Date => &said.date_format,
        Kind::Timestamp => &said.timestamp_format,
        Kind::Instant => &said.instant_format,
        Kind::Time => &said.time_format,
        _ => &None,
    };
    let culture = wish.culture.or(said.culture.as_deref());
    Style::of(kind, wish.format.or(general.as_deref()), culture).map_err(|fault| fault.with("column", &column.name))
}

/// The way of one column into its holding.
struct Way<'a> {
    column: &'a Column,
    name: &'a str,
    holding: &'a Holding,
    wish: Wish<'a>,
    options: &'a CopyOptions,
}

impl Way<'_> {
    fn find(&self, between: Option<Kind>) -> Result<(Conversion, Verdict), Fault> {
        let held = self.holding.kind;
        let Some(between) = between else { return self.step(self.column.kind, held) };
        let (first, promise) = self.step(self.column.kind, between)?;
        let (second, other) = self.step(between, held)?;
        Ok((first.then(second), promise.max(other)))
    }

    fn step(&self, from: Kind, to: Kind) -> Result<(Conversion, Verdict), Fault> {
        if is_text(from)
            && !is_text(to)
            && let Some(style) = self.style(to)?
        {
            return Ok((Conversion::Read { to, style }, Verdict::Checked));
        }
        // Formats know microseconds.
        let (read, written) =
            (nanos::coarse(to).filter(|_| is_text(from)), nanos::coarse(from).filter(|_| is_text(to)));
        // A culture alone says nothing of offsets; a format that is given has to be followed, and loses them.
        let offset = from == Kind::InstantWithOffset || to == Kind::InstantWithOffset;
        let said = self.wish.format.is_some() || self.options.conversion.instant_format.is_some();
        if let Some(between) = read.or(written).filter(|_| said || !offset)
            && self.style(between)?.is_some()
        {
            let (first, promise) = self.step(from, between)?;
            let (second, other) = self.step(between, to)?;
            return Ok((first.then(second), promise.max(other)));
        }
        if is_text(to)
            && !is_text(from)
            && let Some(style) = self.style(from)?
        {
            let exact = !self.may_lose(Word::Truncation);
            let verdict = if exact { Verdict::Checked } else { Verdict::Lossy };
            return Ok((Conversion::Write { from, style, exact }, verdict));
        }
        let sound = conversion(from, to);
        let losing = lossy(from, to);
        match (sound, losing) {
            (Some(sound), Some((way, word))) if sound.1 == Verdict::Checked && self.may_lose(word) => {
                Ok((Conversion::Lossy(way), Verdict::Lossy))
            }
            (Some(sound), _) => Ok(sound),
            (None, Some((way, word))) if self.may_lose(word) => Ok((Conversion::Lossy(way), Verdict::Lossy)),
            (None, Some(_)) => Err(self.loses(&format!("{from} becomes {to}"))),
            (None, None) => {
                let message = format!(
                    "Column \"{}\" of type {} cannot go into column \"{}\" of type {}.",
                    self.column.name, self.column.type_name, self.name, self.holding.type_name
                );
                Err(Fault::new("UserErrorSchemaMismatch", message).with("column", self.name))
            }
        }
    }

    fn style(&self, kind: Kind) -> Result<Option<Style>, Fault> {
        style(self.column, self.wish, self.options, kind)
    }

    fn may_lose(&self, word: Word) -> bool {
        let said = &self.options.conversion;
        self.options.allows(self.name, Verdict::Lossy)
            || match word {
                Word::Truncation => said.allow_truncation,
                Word::BooleanAsNumber => said.boolean_as_number,
                Word::Name => false,
            }
    }

    fn loses(&self, reason: &str) -> Fault {
        let message = format!(
            "Column \"{}\" would lose values on its way from {} to {}: {reason}.",
            self.column.name, self.column.type_name, self.holding.type_name
        );
        Fault::new("UserErrorColumnLossy", message).with("column", self.name)
    }

    /// Cuts texts to the target's length, where the author allows it.
    fn cut(
        &self,
        conversion: Conversion,
        verdict: Verdict,
        reason: Option<String>,
    ) -> (Conversion, Verdict, Option<String>) {
        let limited = self.holding.kind == Kind::Text && self.holding.verdict == Verdict::Checked;
        match text_limit(&self.holding.type_name).filter(|_| limited && self.may_lose(Word::Truncation)) {
            Some(cut) => {
                let reason = format!("texts are cut to the length of {}", self.holding.type_name);
                (conversion.then(Conversion::Lossy(cut)), Verdict::Lossy, Some(reason))
            }
            None => (conversion, verdict, reason),
        }
    }
}

fn refuse_doubles(columns: &[Column]) -> Result<(), Fault> {
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].iter().any(|other| other.name == column.name) {
            let message = format!("The source has two columns named \"{}\".", column.name);
            let remedy = "Give each column its own name, for example with AS in the query.";
            return Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy));
        }
    }
    Ok(())
}

type Pair<'a> = (usize, String, Option<&'a Column>);

fn pairs<'a>(
    source: &[Column],
    target: Option<&'a [Column]>,
    mapping: &[ColumnMapping],
    drift: Drift,
) -> Result<Vec<Pair<'a>>, Fault> {
    let find = |columns: &[Column], name: &str, side: &str| -> Result<usize, Fault> {
        position(columns, name).ok_or_else(|| {
            let known = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("The {side} has no column \"{name}\". It has: {known}.");
            Fault::new("UserErrorColumnMissing", message).with("column", name)
        })
    };
    // A column the target lacks is one to add, where the author wants that.
    let find_target = |target: &'a [Column], name: &str| match position(target, name) {
        None if drift == Drift::Add => Ok(None),
        _ => find(target, name, "target").map(|index| Some(&target[index])),
    };
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    if mapping.is_empty() {
        for (index, column) in source.iter().enumerate() {
            let Some(target) = target else {
                pairs.push((index, column.name.clone(), None));
                continue;
            };
            let found = find_target(target, &column.name)?;
            pairs.push((index, found.map_or(&column.name, |found| &found.name).clone(), found));
        }
    }
    for line in mapping {
        let index = find(source, &line.source, "source")?;
        let found = match target {
            Some(target) => find_target(target, &line.sink)?,
            None => None,
        };
        let name = found.map_or_else(|| line.sink.clone(), |column| column.name.clone());
        if pairs.iter().any(|(_, taken, _)| *taken == name) {
            return Err(Fault::new("UserErrorSchemaMismatch", format!("Two columns are mapped to \"{name}\".")));
        }
        pairs.push((index, name, found));
    }
    Ok(pairs)
}

/// By exact name, else by the one name that is equal without regard to case.
fn position(columns: &[Column], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name == name).or_else(|| {
        let mut alike = columns.iter().enumerate().filter(|(_, column)| column.name.eq_ignore_ascii_case(name));
        let first = alike.next();
        if alike.next().is_some() { None } else { first.map(|(index, _)| index) }
    })
}
