//! Declared types of SQLite and the kinds they are, one table; and how a stored value becomes a value of its kind.
//! Nothing is converted that would not come back: a value of another storage class is refused.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{Array, ArrayRef};
use dmg_connector::text_form::ColumnParser;
use dmg_protocol::Kind;
use rusqlite::types::ValueRef;

/// The kind of a declared type, by words in it; the first that matches counts. `None` where it says nothing.
pub(super) fn kind(declared: &str) -> Option<Kind> {
    const WORDS: &[(&str, Kind)] = &[
        ("BOOL", Kind::Boolean),
        ("POINT", Kind::Text),
        ("INT", Kind::Int64),
        ("CHAR", Kind::Text),
        ("CLOB", Kind::Text),
        ("TEXT", Kind::Text),
        ("JSON", Kind::Text),
        ("DATE", Kind::Text),
        ("TIME", Kind::Text),
        ("UUID", Kind::Text),
        ("BLOB", Kind::Bytes),
        ("REAL", Kind::Float64),
        ("FLOA", Kind::Float64),
        ("DOUB", Kind::Float64),
        ("DEC", Kind::DecimalText),
        ("NUMERIC", Kind::DecimalText),
        ("NUMBER", Kind::DecimalText),
    ];
    let declared = declared.to_ascii_uppercase();
    // The name our own tables give to exact decimals; TEXT in it makes SQLite keep the digits.
    if let Some(limits) = declared.strip_prefix("DECIMAL_TEXT") {
        return Some(format!("decimal{}", limits.replace(' ', "")).parse().unwrap_or(Kind::DecimalText));
    }
    WORDS.iter().find(|(word, _)| declared.contains(word)).map(|(_, kind)| *kind)
}

/// The kind of a column without a declared type, by the first value that is not NULL.
pub(super) fn kind_of_value(value: ValueRef<'_>) -> Option<Kind> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(_) => Some(Kind::Int64),
        ValueRef::Real(_) => Some(Kind::Float64),
        ValueRef::Text(_) => Some(Kind::Text),
        ValueRef::Blob(_) => Some(Kind::Bytes),
    }
}

/// Collects the values of one column.
pub(super) enum Cells {
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Real(Float64Builder),
    /// Decimals without limits, as text.
    Decimal(StringBuilder),
    /// Decimals with limits.
    Limited(ColumnParser),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

impl Cells {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Boolean => Cells::Boolean(BooleanBuilder::new()),
            Kind::Int64 => Cells::Integer(Int64Builder::new()),
            Kind::Float64 => Cells::Real(Float64Builder::new()),
            Kind::DecimalText => Cells::Decimal(StringBuilder::new()),
            Kind::Decimal { .. } => Cells::Limited(ColumnParser::new(kind, 0)),
            Kind::Bytes => Cells::Bytes(BinaryBuilder::new()),
            _ => Cells::Text(StringBuilder::new()),
        }
    }

    /// Adds a value; gives back what it is if it is not of the column's kind.
    pub(super) fn push(&mut self, value: ValueRef<'_>) -> Result<(), &'static str> {
        match (self, value) {
            (Cells::Boolean(cells), ValueRef::Null) => cells.append_null(),
            (Cells::Integer(cells), ValueRef::Null) => cells.append_null(),
            (Cells::Real(cells), ValueRef::Null) => cells.append_null(),
            (Cells::Decimal(cells) | Cells::Text(cells), ValueRef::Null) => cells.append_null(),
            (Cells::Bytes(cells), ValueRef::Null) => cells.append_null(),
            (Cells::Limited(cells), ValueRef::Null) => cells.push_null(),
            (Cells::Limited(cells), ValueRef::Integer(number)) => cells.push(&number.to_string()).map_err(digits)?,
            (Cells::Limited(cells), ValueRef::Text(text)) => {
                cells.push(std::str::from_utf8(text).map_err(|_| "text that is no decimal")?).map_err(digits)?;
            }
            (Cells::Boolean(cells), ValueRef::Integer(bit @ (0 | 1))) => cells.append_value(bit == 1),
            (Cells::Integer(cells), ValueRef::Integer(number)) => cells.append_value(number),
            (Cells::Real(cells), ValueRef::Real(number)) => cells.append_value(number),
            // Whole doubles may be stored as integers; those that a double holds come back as they were.
            (Cells::Real(cells), ValueRef::Integer(number)) if is_double(number) => {
                cells.append_value(number as f64);
            }
            (Cells::Decimal(cells), ValueRef::Integer(number)) => cells.append_value(number.to_string()),
            (Cells::Decimal(cells), ValueRef::Real(number)) if number.is_finite() => {
                cells.append_value(number.to_string());
            }
            (Cells::Decimal(cells), ValueRef::Text(text)) => {
                cells.append_value(decimal(text).ok_or("text that is no decimal")?);
            }
            (Cells::Text(cells), ValueRef::Text(text)) => {
                cells.append_value(std::str::from_utf8(text).map_err(|_| "text that is not UTF-8")?);
            }
            (Cells::Bytes(cells), ValueRef::Blob(bytes)) => cells.append_value(bytes),
            (_, ValueRef::Integer(_)) => return Err("an integer"),
            (_, ValueRef::Real(_)) => return Err("a floating-point number"),
            (_, ValueRef::Text(_)) => return Err("text"),
            (_, ValueRef::Blob(_)) => return Err("a blob"),
        }
        Ok(())
    }

    /// The column so far.
    pub(super) fn take(&mut self) -> ArrayRef {
        let array: Arc<dyn Array> = match self {
            Cells::Boolean(cells) => Arc::new(cells.finish()),
            Cells::Integer(cells) => Arc::new(cells.finish()),
            Cells::Real(cells) => Arc::new(cells.finish()),
            Cells::Decimal(cells) | Cells::Text(cells) => Arc::new(cells.finish()),
            Cells::Bytes(cells) => Arc::new(cells.finish()),
            Cells::Limited(cells) => return cells.finish(),
        };
        array
    }
}

/// Whether a double holds the number without any change.
fn is_double(number: i64) -> bool {
    i128::from(number) == (number as f64) as i128
}

fn digits(_: &'static str) -> &'static str {
    "a number that does not fit the declared digits"
}

/// Text that is plain decimal digits with at most one point and a sign.
fn decimal(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    if ["NaN", "Infinity", "-Infinity"].contains(&text) {
        return Some(text);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits(whole) && all_digits(fraction)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types() {
        for (declared, expected) in [
            ("INTEGER", Some("int64")),
            ("bigint", Some("int64")),
            ("VARCHAR(20)", Some("text")),
            ("DECIMAL(15,2)", Some("decimal")),
            ("double precision", Some("float64")),
            ("BLOB", Some("bytes")),
            ("boolean", Some("boolean")),
            ("DATETIME", Some("text")),
            ("DECIMAL_TEXT(15,2)", Some("decimal(15,2)")),
            ("decimal_text", Some("decimal")),
            ("DECIMAL_TEXT(99)", Some("decimal")),
            ("", None),
            ("odd", None),
        ] {
            assert_eq!(kind(declared).map(|kind| kind.to_string()).as_deref(), expected, "{declared}");
        }
    }

    #[test]
    fn a_value_of_another_class_is_refused() {
        let mut cells = Cells::new(Kind::Int64);
        assert!(cells.push(ValueRef::Integer(1)).is_ok());
        assert_eq!(cells.push(ValueRef::Text(b"1")), Err("text"));
        assert_eq!(Cells::new(Kind::Boolean).push(ValueRef::Integer(2)), Err("an integer"));
        assert_eq!(Cells::new(Kind::Float64).push(ValueRef::Integer(i64::MAX)), Err("an integer"));
        assert!(Cells::new(Kind::Float64).push(ValueRef::Integer(1 << 62)).is_ok());
        assert!(Cells::new(Kind::DecimalText).push(ValueRef::Text(b"-1.50")).is_ok());
        assert!(Cells::new(Kind::DecimalText).push(ValueRef::Text(b"1e5")).is_err());
    }
}
