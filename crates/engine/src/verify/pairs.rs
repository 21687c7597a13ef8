//! Which column of one side belongs to which of the other, and how both are compared. Pure. A column without counterpart
//! and a pair of kinds that has nothing in common are refused by name, never passed over and never compared by guess.

use std::collections::BTreeMap;

use dmg_connector::Column;
use dmg_protocol::job::ColumnMapping;
use dmg_protocol::{Fault, Kind};

use super::align::Align;
use super::meeting::{Apart, Common, common, handed_over, is_float};

/// What the caller says about columns.
#[derive(Debug, Clone, Default)]
pub struct ColumnChoice {
    /// Compare these only, by their names in FROM; empty: all.
    pub columns: Vec<String>,
    /// Compare all but these, by their name in either side.
    pub except: Vec<String>,
    /// Columns whose names differ.
    pub mapping: Vec<ColumnMapping>,
    /// Kinds that columns are compared in instead of the one found, by their name in either side. What loses something
    /// on its way there is allowed to.
    pub kinds: BTreeMap<String, Kind>,
}

/// A pair of columns and the way of each into the common kind.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) from: Side,
    pub(super) to: Side,
    /// The kind both are compared in.
    pub(super) kind: Kind,
    /// The kind both are hashed in.
    pub(super) hashed: Kind,
    /// The float of the two, where a number of other digits is compared with it.
    pub(super) float: Option<Kind>,
}

/// One column of one side.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) name: String,
    pub(super) index: usize,
    pub(super) align: Align,
    pub(super) key: bool,
}

/// Pairs all columns to be compared, in the order of FROM.
pub(super) fn pairs(from: &[Column], to: &[Column], choice: &ColumnChoice) -> Result<Vec<Pair>, Fault> {
    let mut pairs = Vec::new();
    let mut taken = vec![false; to.len()];
    for name in choice.columns.iter().chain(choice.mapping.iter().map(|line| &line.source)) {
        find(from, name, "FROM")?;
    }
    if let Some(name) = choice.kinds.keys().find(|name| position(from, name).or(position(to, name)).is_none()) {
        let message = format!("--as names the column \"{name}\", which neither side has.");
        return Err(Fault::new("UserErrorColumnMissing", message).remedy("Correct the name.").with("column", name));
    }
    refuse_doubles(from, "FROM")?;
    refuse_doubles(to, "TO")?;
    let chosen = |column: &Column, choice: &[String]| choice.iter().any(|name| named(&column.name, name));
    let mut lonely = Vec::new();
    for (index, column) in from.iter().enumerate() {
        let asked = choice.columns.is_empty() || chosen(column, &choice.columns);
        let line = choice.mapping.iter().find(|line| named(&column.name, &line.source));
        let partner = match line {
            Some(line) => Some(find(to, &line.sink, "TO")?),
            None => position(to, &column.name),
        };
        let seen = partner.is_some_and(|partner| std::mem::replace(&mut taken[partner], true));
        if !asked || chosen(column, &choice.except) || partner.is_some_and(|at| chosen(&to[at], &choice.except)) {
            continue;
        }
        let Some(partner) = partner else {
            lonely.push(format!("\"{}\" (only in FROM)", column.name));
            continue;
        };
        if seen {
            let message = format!("Column \"{}\" of TO is the counterpart of two columns of FROM.", to[partner].name);
            return Err(Fault::new("UserErrorSchemaMismatch", message)
                .remedy("Leave one of them out with --except, or pair them with --mapping FROM=TO."));
        }
        pairs.push(pair(index, column, partner, &to[partner], choice)?);
    }
    if choice.columns.is_empty() {
        let rest = to.iter().zip(&taken).filter(|(column, taken)| !**taken && !chosen(column, &choice.except));
        lonely.extend(rest.map(|(column, _)| format!("\"{}\" (only in TO)", column.name)));
    }
    if !lonely.is_empty() {
        let message = format!("These columns have no counterpart on the other side: {}.", lonely.join(", "));
        return Err(Fault::new("UserErrorSchemaMismatch", message)
            .remedy("Name the columns to compare with --columns, leave some out with --except, or pair names with --mapping FROM=TO."));
    }
    if pairs.is_empty() {
        return Err(Fault::new("UserErrorSchemaMismatch", "There is no column to compare."));
    }
    Ok(pairs)
}

fn pair(index: usize, column: &Column, partner: usize, other: &Column, choice: &ColumnChoice) -> Result<Pair, Fault> {
    let asked = choice.kinds.iter().find(|(name, _)| named(&column.name, name) || named(&other.name, name));
    let found = match asked {
        Some((_, kind)) => handed_over(column.kind, other.kind, *kind).ok_or_else(|| no_such(column, other, *kind))?,
        None => common(column.kind, other.kind).map_err(|apart| no_common(column, other, apart))?,
    };
    let floats = [column.kind, other.kind].into_iter().find(|kind| is_float(*kind));
    let float = floats.filter(|_| asked.is_none() && found.kind == Kind::DecimalText);
    let Common { kind, hashed, from, to } = found;
    Ok(Pair {
        from: Side { name: column.name.clone(), index, align: from, key: column.key },
        to: Side { name: other.name.clone(), index: partner, align: to, key: other.key },
        kind,
        hashed,
        float,
    })
}

fn no_common(column: &Column, other: &Column, apart: Apart) -> Fault {
    let (name, why) = (
        &column.name,
        if apart == Apart::Foreign { "no type holds the values of both" } else { "one has a zone, the other none" },
    );
    let message = format!(
        "Column \"{name}\" of type {} cannot be compared with column \"{}\" of type {}: {why}.",
        column.type_name, other.name, other.type_name
    );
    let remedy = match apart {
        Apart::Foreign => format!("Leave it out with --except \"{name}\", or convert one side in a query."),
        Apart::Zone(kind) => format!(
            "Say --as \"{name}={kind}\" if the clock without a zone shows UTC. Else convert one side in a query, or leave \
             the column out with --except \"{name}\"."
        ),
    };
    Fault::new("UserErrorSchemaMismatch", message).remedy(remedy).with("column", name)
}

fn no_such(column: &Column, other: &Column, kind: Kind) -> Fault {
    let message = format!(
        "Column \"{}\" of type {} and column \"{}\" of type {} cannot both be handed over as {kind}.",
        column.name, column.type_name, other.name, other.type_name
    );
    Fault::new("UserErrorSchemaMismatch", message)
        .remedy("Choose another kind with --as, or leave --as out.")
        .with("column", &column.name)
}

/// What a person may not expect of the comparison of those pairs, which differ.
pub(super) fn hint<'a>(differing: impl Iterator<Item = &'a Pair>) -> Option<String> {
    let of: Vec<(&str, Kind)> = differing.filter_map(|pair| Some((pair.from.name.as_str(), pair.float?))).collect();
    let (name, float) = of.first()?;
    let names: Vec<&str> = of.iter().map(|(name, _)| *name).collect();
    Some(format!(
        "compared by all digits of both numbers, of which a {float} has more than it shows: {}; --as \"{name}={float}\" \
         compares the nearest {float} of each instead",
        names.join(", ")
    ))
}

fn refuse_doubles(columns: &[Column], side: &str) -> Result<(), Fault> {
    let double = columns.iter().enumerate().find(|(at, column)| columns[..*at].iter().any(|c| c.name == column.name));
    double.map_or(Ok(()), |(_, column)| {
        let message = format!("{side} has two columns named \"{}\".", column.name);
        Err(Fault::new("UserErrorSchemaMismatch", message)
            .remedy("Give each column its own name, for example with AS in the query."))
    })
}

fn named(name: &str, wanted: &str) -> bool {
    name == wanted || name.eq_ignore_ascii_case(wanted)
}

fn find(columns: &[Column], name: &str, side: &str) -> Result<usize, Fault> {
    position(columns, name).ok_or_else(|| {
        let known = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        let message = format!("{side} has no column \"{name}\". It has: {known}.");
        Fault::new("UserErrorColumnMissing", message).with("column", name)
    })
}

/// By exact name, else by the one name that is equal without regard to case.
pub(super) fn position(columns: &[Column], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name == name).or_else(|| {
        let mut alike = columns.iter().enumerate().filter(|(_, column)| column.name.eq_ignore_ascii_case(name));
        let first = alike.next();
        if alike.next().is_some() { None } else { first.map(|(index, _)| index) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column { name: name.into(), kind, type_name: format!("({kind})"), nullable: true, key: false }
    }

    #[test]
    fn a_column_without_counterpart_is_named() {
        let from = [column("id", Kind::Int32), column("a", Kind::Text)];
        let to = [column("ID", Kind::Int64), column("b", Kind::Text)];
        let fault = pairs(&from, &to, &ColumnChoice::default()).expect_err("two lonely columns");
        assert_eq!(
            fault.message,
            "These columns have no counterpart on the other side: \"a\" (only in FROM), \"b\" (only in TO)."
        );
        let choice = ColumnChoice { mapping: vec![ColumnMapping::named("a", "b")], ..ColumnChoice::default() };
        assert_eq!(pairs(&from, &to, &choice).expect("paired").len(), 2);
        let choice = ColumnChoice { except: vec!["a".into(), "b".into()], ..ColumnChoice::default() };
        assert_eq!(pairs(&from, &to, &choice).expect("left out").len(), 1);
        let choice = ColumnChoice { columns: vec!["id".into()], ..ColumnChoice::default() };
        assert_eq!(pairs(&from, &to, &choice).expect("one").len(), 1);
    }

    #[test]
    fn a_column_is_compared_once() {
        let twice = [column("a", Kind::Int32), column("a", Kind::Int32)];
        let once = [column("a", Kind::Int32)];
        for (from, to) in [(&twice[..], &once[..]), (&once, &twice), (&twice, &twice)] {
            let fault = pairs(from, to, &ColumnChoice::default()).expect_err("ambiguous");
            assert!(fault.message.contains("two columns named \"a\""), "{fault}");
        }
        let cases = [column("a", Kind::Int32), column("A", Kind::Int32)];
        let fault = pairs(&cases, &once, &ColumnChoice::default()).expect_err("ambiguous");
        assert_eq!(fault.message, "Column \"a\" of TO is the counterpart of two columns of FROM.");
    }

    #[test]
    fn the_authors_kind_goes_before_the_one_found() {
        let (from, to) = ([column("At", Kind::Instant)], [column("at", Kind::Timestamp)]);
        let fault = pairs(&from, &to, &ColumnChoice::default()).expect_err("no zone");
        assert!(fault.message.ends_with("one has a zone, the other none."), "{fault}");
        assert!(fault.remedy.contains("--as \"At=instant\""), "{fault}");
        let said =
            |name: &str, kind| ColumnChoice { kinds: [(name.to_owned(), kind)].into(), ..ColumnChoice::default() };
        for kind in [Kind::Instant, Kind::Timestamp, Kind::Date, Kind::Text] {
            assert_eq!(pairs(&from, &to, &said("at", kind)).expect("said").first().map(|pair| pair.kind), Some(kind));
        }
        let fault = pairs(&from, &to, &said("at", Kind::Uuid)).expect_err("no way");
        assert!(fault.message.ends_with("cannot both be handed over as uuid."), "{fault}");
        let fault = pairs(&from, &to, &said("when", Kind::Instant)).expect_err("a typo");
        assert_eq!(fault.message, "--as names the column \"when\", which neither side has.");
    }

    #[test]
    fn who_compares_a_double_with_a_decimal_is_told_how() {
        let (from, to) = ([column("x", Kind::Decimal { precision: 10, scale: 2 })], [column("x", Kind::Float64)]);
        let hint = |choice: &ColumnChoice| hint(pairs(&from, &to, choice).expect("comparable").iter());
        assert!(hint(&ColumnChoice::default()).is_some_and(|hint| hint.contains("--as \"x=float64\"")));
        let said = ColumnChoice { kinds: [("x".to_owned(), Kind::Float64)].into(), ..ColumnChoice::default() };
        assert_eq!(hint(&said), None);
    }
}
