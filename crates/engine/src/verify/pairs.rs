//! Which column of one side belongs to which of the other, and the kind both can be compared in. Pure. A pair of kinds
//! that no kind can hold exactly is refused by name, never compared by guess.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_schema::SchemaRef;
use dmg_connector::{Column, data_type, text_form};
use dmg_protocol::job::ColumnMapping;
use dmg_protocol::{Fault, Kind, Verdict};

use crate::convert::{Conversion, conversion};
use crate::lossy::lossy;

/// What the caller says about columns.
#[derive(Debug, Clone, Default)]
pub struct ColumnChoice {
    /// Compare these only, by their names in FROM; empty: all.
    pub columns: Vec<String>,
    /// Compare all but these, by their name in either side.
    pub except: Vec<String>,
    /// Columns whose names differ.
    pub mapping: Vec<ColumnMapping>,
}

/// A pair of columns and the way of each into the common kind.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) from: Side,
    pub(super) to: Side,
    /// The kind both are compared in.
    pub(super) kind: Kind,
}

/// One column of one side.
#[derive(Debug, Clone)]
pub(super) struct Side {
    pub(super) name: String,
    pub(super) index: usize,
    pub(super) align: Align,
    pub(super) key: bool,
}

/// How values get into the common kind.
#[derive(Debug, Clone)]
pub(super) enum Align {
    /// As a copy would convert them.
    Convert(Conversion),
    /// By a cast of Arrow's own that cannot fail.
    Cast(Kind),
    /// Text that should be the text form of a kind: `007` and `7` are the same number. What cannot be read as that
    /// kind stays as it is, and is then no value of the other side.
    Canonical(Kind),
    /// Numbers as text, without zeros behind the last digit.
    Number(Kind),
}

/// Pairs all columns to be compared, in the order of FROM.
pub(super) fn pairs(from: &[Column], to: &[Column], choice: &ColumnChoice) -> Result<Vec<Pair>, Fault> {
    let mut pairs = Vec::new();
    let mut taken = vec![false; to.len()];
    for name in choice.columns.iter().chain(choice.mapping.iter().map(|line| &line.source)) {
        find(from, name, "FROM")?;
    }
    let chosen = |column: &Column, choice: &[String]| choice.iter().any(|name| named(&column.name, name));
    let mut lonely = Vec::new();
    for (index, column) in from.iter().enumerate() {
        let asked = choice.columns.is_empty() || chosen(column, &choice.columns);
        let line = choice.mapping.iter().find(|line| named(&column.name, &line.source));
        let partner = match line {
            Some(line) => Some(find(to, &line.sink, "TO")?),
            None => position(to, &column.name),
        };
        if let Some(partner) = partner {
            taken[partner] = true;
        }
        if !asked || chosen(column, &choice.except) || partner.is_some_and(|at| chosen(&to[at], &choice.except)) {
            continue;
        }
        let Some(partner) = partner else {
            lonely.push(format!("\"{}\" (only in FROM)", column.name));
            continue;
        };
        pairs.push(pair(index, column, partner, &to[partner])?);
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

fn pair(index: usize, column: &Column, partner: usize, other: &Column) -> Result<Pair, Fault> {
    let Some((kind, align, other_align)) = common(column.kind, other.kind) else {
        let message = format!(
            "Column \"{}\" of type {} cannot be compared with column \"{}\" of type {}: no type holds the values of both.",
            column.name, column.type_name, other.name, other.type_name
        );
        return Err(Fault::new("UserErrorSchemaMismatch", message)
            .remedy(format!("Leave it out with --except {}, or convert one side in a query.", column.name))
            .with("column", &column.name));
    };
    Ok(Pair {
        from: Side { name: column.name.clone(), index, align, key: column.key },
        to: Side { name: other.name.clone(), index: partner, align: other_align, key: other.key },
        kind,
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

/// The kind two kinds are compared in, and the way of each.
fn common(a: Kind, b: Kind) -> Option<(Kind, Align, Align)> {
    use Kind::{
        Boolean, Bytes, Decimal, DecimalText, Float32, Float64, InstantNanos, InstantWithOffset, Int64, Text, UInt64,
        Uuid,
    };
    let same = Align::Convert(Conversion::Same);
    if a == b {
        return Some((a, same.clone(), same));
    }
    let both = |kind: Kind| Some((kind, exactly(a, kind)?, exactly(b, kind)?));
    if let (Some(x), Some(y)) = (digits(a), digits(b)) {
        let (whole, scale) = (x.0.max(y.0), x.1.max(y.1));
        let integers = scale == 0 && whole <= 20 && !matches!(a, Decimal { .. }) && !matches!(b, Decimal { .. });
        return match whole + scale {
            _ if integers && a != UInt64 && b != UInt64 => both(Int64),
            _ if integers && unsigned(a) && unsigned(b) => both(UInt64),
            precision if precision <= 38 => both(Decimal { precision, scale }),
            _ => Some((DecimalText, Align::Number(a), Align::Number(b))),
        };
    }
    // A moment with an offset is compared as the moment it is, as the databases that have such do.
    if let (Some(x), Some(y)) = (moment(a), moment(b))
        && (a == InstantWithOffset || b == InstantWithOffset)
    {
        return Some((InstantNanos, x, y));
    }
    if matches!((a, b), (DecimalText, _) | (_, DecimalText)) {
        let number = |kind: Kind| digits(kind).is_some() || kind == DecimalText || is_text(kind);
        return (number(a) && number(b)).then_some((DecimalText, Align::Number(a), Align::Number(b)));
    }
    match (is_text(a), is_text(b)) {
        (true, true) => return Some((Text, same.clone(), same)),
        (true, false) => return Some((Text, Align::Canonical(b), Align::Convert(Conversion::ToText(b)))),
        (false, true) => return Some((Text, Align::Convert(Conversion::ToText(a)), Align::Canonical(a))),
        (false, false) => {}
    }
    match (a, b) {
        (Float32, Float64) | (Float64, Float32) => return both(Float64),
        (Boolean, other) if digits(other).is_some_and(|(whole, scale)| whole <= 19 && scale == 0) => {
            return Some((Int64, Align::Cast(Int64), exactly(other, Int64)?));
        }
        (other, Boolean) if digits(other).is_some_and(|(whole, scale)| whole <= 19 && scale == 0) => {
            return Some((Int64, exactly(other, Int64)?, Align::Cast(Int64)));
        }
        (Uuid, Bytes) => return Some((Bytes, Align::Cast(Bytes), same)),
        (Bytes, Uuid) => return Some((Bytes, same, Align::Cast(Bytes))),
        _ => {}
    }
    both(b).or_else(|| both(a))
}

/// The way into a kind that holds every value.
fn exactly(from: Kind, to: Kind) -> Option<Align> {
    let (way, verdict) = conversion(from, to)?;
    // The extremes of a date that no timestamp reaches stop the comparison by name; nothing is compared wrongly.
    let safe = verdict <= Verdict::Widened || (from, to) == (Kind::Date, Kind::Timestamp);
    safe.then_some(Align::Convert(way))
}

/// The way of instants into their common kind.
fn moment(kind: Kind) -> Option<Align> {
    let to = Kind::InstantNanos;
    let way = match kind {
        Kind::InstantWithOffset => Conversion::Lossy(lossy(kind, to)?.0),
        Kind::Instant | Kind::InstantNanos => conversion(kind, to)?.0,
        _ => return None,
    };
    Some(Align::Convert(way))
}

/// Digits before and behind the point of exact numbers of a bounded size.
fn digits(kind: Kind) -> Option<(u8, u8)> {
    Some(match kind {
        Kind::Int8 | Kind::UInt8 => (3, 0),
        Kind::Int16 | Kind::UInt16 => (5, 0),
        Kind::Int32 | Kind::UInt32 => (10, 0),
        Kind::Int64 => (19, 0),
        Kind::UInt64 => (20, 0),
        Kind::Decimal { precision, scale } => (precision - scale, scale),
        _ => return None,
    })
}

fn unsigned(kind: Kind) -> bool {
    matches!(kind, Kind::UInt8 | Kind::UInt16 | Kind::UInt32 | Kind::UInt64)
}

fn is_text(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Json | Kind::EngineText)
}

/// A batch of a source as the compared columns in their common kinds.
pub(super) fn align(batch: &RecordBatch, sides: &[Side], schema: &SchemaRef) -> dmg_connector::Result<RecordBatch> {
    let mut arrays = Vec::with_capacity(sides.len());
    for side in sides {
        let array = batch.column(side.index);
        arrays.push(match &side.align {
            Align::Convert(way) => way.apply(array).map_err(|unfit| {
                let message = format!("Column \"{}\" cannot be compared: a value is {}.", side.name, unfit.class);
                Fault::new("UserErrorValue", message).with("column", &side.name)
            })?,
            Align::Cast(kind) => cast(array, &data_type(*kind)).map_err(|error| {
                let message = format!("Column \"{}\" cannot be compared: {error}.", side.name);
                Fault::new("SystemErrorInternal", message)
            })?,
            Align::Canonical(kind) => reread_all(array.as_string::<i32>(), *kind),
            Align::Number(kind) => numbers(array, *kind),
        });
    }
    RecordBatch::try_new(schema.clone(), arrays).map_err(|error| {
        let message = "The columns of a batch are not as their source described them.";
        dmg_connector::Error::caused(Fault::new("SystemErrorInternal", message), error)
    })
}

/// Texts in the one form of their kind: all at once, and one by one only where some cannot be read.
fn reread_all(texts: &StringArray, kind: Kind) -> ArrayRef {
    match text_form::text_to_array(texts, kind) {
        Ok(values) if values.null_count() == texts.null_count() => Arc::new(text_form::array_to_text(&values, kind)),
        _ => canonical(texts, |text| reread(text, kind)),
    }
}

/// Each text in the one form of its kind, or as it was.
fn canonical(texts: &StringArray, form: impl Fn(&str) -> Option<String>) -> ArrayRef {
    let form = |text: &str| form(text).unwrap_or_else(|| text.to_owned());
    Arc::new(texts.iter().map(|text| text.map(form)).collect::<StringArray>())
}

/// A text read as a value of the kind and written again.
fn reread(text: &str, kind: Kind) -> Option<String> {
    let one = StringArray::from(vec![text]);
    let value = text_form::text_to_array(&one, kind).ok()?;
    value.is_valid(0).then(|| text_form::array_to_text(&value, kind).value(0).to_owned())
}

/// Exact numbers of any kind as the shortest text.
fn numbers(array: &ArrayRef, kind: Kind) -> ArrayRef {
    let texts = text_form::array_to_text(array, kind);
    let is_number = |text: &str| !is_text(kind) || reread(text, Kind::DecimalText).is_some();
    canonical(&texts, |text| is_number(text).then(|| shortest(text)))
}

fn shortest(text: &str) -> String {
    let text = text.strip_prefix('+').unwrap_or(text);
    let text = match text.split_once('.') {
        Some((whole, behind)) if !text.contains(['e', 'E']) => match behind.trim_end_matches('0') {
            "" => whole.to_owned(),
            behind => format!("{whole}.{behind}"),
        },
        _ => text.to_owned(),
    };
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return text;
    }
    let short = digits.trim_start_matches('0');
    let short = if short.is_empty() || short.starts_with('.') { format!("0{short}") } else { short.to_owned() };
    if short == "0" { short } else { format!("{sign}{short}") }
}

#[cfg(test)]
mod tests {
    use arrow_array::{BooleanArray, Int64Array};

    use super::*;

    fn kind(a: &str, b: &str) -> Option<String> {
        let (a, b) = (a.parse().expect("kind"), b.parse().expect("kind"));
        let one = common(a, b).map(|(kind, ..)| kind.to_string());
        assert_eq!(one, common(b, a).map(|(kind, ..)| kind.to_string()), "either way");
        one
    }

    #[test]
    fn common_kinds() {
        for (a, b, expected) in [
            ("int32", "int64", Some("int64")),
            ("uint64", "int64", Some("decimal(20,0)")),
            ("uint64", "uint8", Some("uint64")),
            ("boolean", "int16", Some("int64")),
            ("int64", "decimal(10,2)", Some("decimal(21,2)")),
            ("decimal(10,2)", "decimal(12,4)", Some("decimal(12,4)")),
            ("decimal(38,0)", "decimal(38,10)", Some("decimal")),
            ("decimal", "decimal(10,2)", Some("decimal")),
            ("decimal", "text", Some("decimal")),
            ("float32", "float64", Some("float64")),
            ("int32", "float64", Some("float64")),
            ("int64", "float64", None),
            ("decimal(10,2)", "float64", None),
            ("date", "timestamp", Some("timestamp")),
            ("timestamp", "instant", None),
            ("timestamp", "timestamp-nanos", Some("timestamp-nanos")),
            ("date", "timestamp-nanos", Some("timestamp-nanos")),
            ("time", "time-nanos", Some("time-nanos")),
            ("instant", "instant-nanos", Some("instant-nanos")),
            ("instant", "instant-with-offset", Some("instant-nanos")),
            ("instant-nanos", "instant-with-offset", Some("instant-nanos")),
            ("timestamp-nanos", "instant-with-offset", None),
            ("instant-with-offset", "text", Some("text")),
            ("json", "text", Some("text")),
            ("instant", "text", Some("text")),
            ("uuid", "bytes", Some("bytes")),
        ] {
            assert_eq!(kind(a, b).as_deref(), expected, "{a} and {b}");
        }
    }

    fn aligned(align: Align, array: ArrayRef, kind: Kind) -> ArrayRef {
        let column = |kind| Column { name: "c".into(), kind, type_name: String::new(), nullable: true, key: false };
        let schema = dmg_connector::schema(&[column(kind)]);
        let field = arrow_schema::Field::new("c", array.data_type().clone(), true);
        let batch = RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(vec![field])), vec![array]).expect("fits");
        let side = Side { name: "c".into(), index: 0, align, key: false };
        align_one(&batch, side, &schema)
    }

    fn align_one(batch: &RecordBatch, side: Side, schema: &SchemaRef) -> ArrayRef {
        align(batch, &[side], schema).expect("it can be").column(0).clone()
    }

    #[test]
    fn texts_are_compared_as_values_and_nonsense_as_itself() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("007"), Some("x"), None, Some("")]));
        let found = aligned(Align::Canonical(Kind::Int64), texts, Kind::Text);
        assert_eq!(found.as_string::<i32>(), &StringArray::from(vec![Some("7"), Some("x"), None, Some("")]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["1.50", "1.5", "-0.0", "00.10", "NaN", "abc"]));
        let found = aligned(Align::Number(Kind::Text), texts, Kind::DecimalText);
        assert_eq!(found.as_string::<i32>(), &StringArray::from(vec!["1.5", "1.5", "0", "0.1", "NaN", "abc"]));
        let yes: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        let found = aligned(Align::Cast(Kind::Int64), yes, Kind::Int64);
        assert_eq!(*found, Int64Array::from(vec![1, 0]));
    }

    #[test]
    fn a_column_without_counterpart_is_named() {
        let column =
            |name: &str, kind| Column { name: name.into(), kind, type_name: "t".into(), nullable: true, key: false };
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
}
