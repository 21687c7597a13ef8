//! Arrow columns as SQLite values, and which values SQLite would silently change.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray};
use dmg_connector::text_form::array_to_text;
use dmg_protocol::Kind;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::target::Affinity;

/// One column of a batch.
pub(super) struct Encoded<'a> {
    values: Values<'a>,
    /// Text that looks like a number must not go in.
    numeric: bool,
    /// NULL must not go in.
    required: bool,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Integer(&'a Int64Array),
    Real(&'a Float64Array),
    Text(StringArray),
    Bytes(&'a BinaryArray),
}

/// Sizes of values.
pub(super) struct Cell;

impl Cell {
    /// Bytes of a value, about.
    pub(super) fn size(value: &ToSqlOutput<'_>) -> usize {
        match value {
            ToSqlOutput::Borrowed(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => bytes.len(),
            _ => 8,
        }
    }
}

impl<'a> Encoded<'a> {
    pub(super) fn new(array: &'a ArrayRef, kind: Kind, affinity: Affinity, required: bool) -> Self {
        let values = match kind {
            Kind::Boolean => Values::Boolean(array.as_boolean()),
            Kind::Int64 => Values::Integer(array.as_primitive::<Int64Type>()),
            Kind::Float64 => Values::Real(array.as_primitive::<Float64Type>()),
            Kind::Bytes => Values::Bytes(array.as_binary::<i32>()),
            _ => Values::Text(array_to_text(array, kind)),
        };
        Encoded { values, numeric: matches!(affinity, Affinity::Numeric | Affinity::Real), required }
    }

    /// One value, or what it is that SQLite cannot keep.
    pub(super) fn value(&self, row: usize) -> Result<ToSqlOutput<'_>, &'static str> {
        let value = match &self.values {
            Values::Boolean(values) => values.is_valid(row).then(|| ValueRef::Integer(i64::from(values.value(row)))),
            Values::Integer(values) => values.is_valid(row).then(|| ValueRef::Integer(values.value(row))),
            Values::Real(values) if values.is_valid(row) => {
                let value = values.value(row);
                if value.is_nan() {
                    return Err("NaN");
                }
                if value == 0.0 && value.is_sign_negative() {
                    return Err("negative zero");
                }
                Some(ValueRef::Real(value))
            }
            Values::Real(_) => None,
            Values::Text(values) if values.is_valid(row) => {
                let text = values.value(row);
                if self.numeric && looks_like_a_number(text) {
                    return Err("text that looks like a number");
                }
                Some(ValueRef::Text(text.as_bytes()))
            }
            Values::Text(_) => None,
            Values::Bytes(values) => values.is_valid(row).then(|| ValueRef::Blob(values.value(row))),
        };
        match value {
            None if self.required => Err("NULL"),
            value => Ok(ToSqlOutput::Borrowed(value.unwrap_or(ValueRef::Null))),
        }
    }
}

/// Whether a column of numeric affinity would make a number of it.
fn looks_like_a_number(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let begins = text.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    begins && text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::looks_like_a_number;

    #[test]
    fn numbers_in_text() {
        for (text, expected) in [
            ("1", true),
            (" -1.5e3 ", true),
            (".5", true),
            ("+7.", true),
            ("2024-01-01", false),
            ("12:00", false),
            ("inf", false),
            ("NaN", false),
            ("", false),
            ("0x10", false),
        ] {
            assert_eq!(looks_like_a_number(text), expected, "{text}");
        }
    }
}
