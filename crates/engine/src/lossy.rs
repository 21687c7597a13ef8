//! Conversions that lose something. They are chosen only where the author said so: by naming the column, or for all
//! columns by `allowDataTruncation`. A value that has no counterpart at all is still refused.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float32Type, Float64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, Decimal128Array, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use dmg_connector::{data_type, text_form};
use dmg_protocol::Kind;

use crate::convert::{DAY_MICROS, Unfit, checked_cast, day_of, each, integer};
use crate::nanos;

/// What is lost, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lossy {
    /// Digits behind the point, rounded half away from zero.
    Round { from: Kind, to: Kind },
    /// Digits a float has no room for.
    Float { from: Kind, to: Kind },
    /// The zone: the wall clock of UTC is kept, or taken for it.
    Zone { to: Kind },
    /// Digits behind the microsecond, the offset, the zone or the time of day of a moment.
    Moment { from: Kind, to: Kind },
    /// The time of day.
    TimeOfDay,
    /// Midnight in UTC of a day.
    DayInUtc,
    /// True and false as 1 and 0.
    BooleanToNumber { to: Kind },
    /// Whether a number is not zero.
    NumberToBoolean { from: Kind },
    /// The end of a text: characters, or units of UTF-16.
    Cut { most: usize, utf16: bool },
}

/// What sort of word it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// `allowDataTruncation`, or the column's name.
    Truncation,
    /// `treatBooleanAsNumber`, or the column's name.
    BooleanAsNumber,
    /// The column's name.
    Name,
}

/// The way that loses something, and the word it takes.
pub(crate) fn lossy(from: Kind, to: Kind) -> Option<(Lossy, Word)> {
    use Kind::{Boolean, Date, Decimal, DecimalText, Float32, Float64, Instant, Timestamp};
    let whole = |kind| integer(kind).is_some();
    if let Some(word) = nanos::losing(from, to) {
        return Some((Lossy::Moment { from, to }, word));
    }
    Some(match (from, to) {
        (Decimal { .. } | DecimalText, Decimal { .. }) => (Lossy::Round { from, to }, Word::Truncation),
        (Decimal { .. } | DecimalText, kind) if whole(kind) => (Lossy::Round { from, to }, Word::Truncation),
        (Float32 | Float64, Decimal { .. }) => (Lossy::Round { from, to }, Word::Name),
        (Float32 | Float64, kind) if whole(kind) => (Lossy::Round { from, to }, Word::Name),
        (Decimal { .. } | DecimalText, Float32 | Float64) => (Lossy::Float { from, to }, Word::Truncation),
        (Float64, Float32) => (Lossy::Float { from, to }, Word::Truncation),
        (kind, Float32 | Float64) if whole(kind) => (Lossy::Float { from, to }, Word::Name),
        (Instant, Timestamp) => (Lossy::Zone { to }, Word::Truncation),
        (Timestamp, Instant) => (Lossy::Zone { to }, Word::Name),
        (Timestamp | Instant, Date) => (Lossy::TimeOfDay, Word::Truncation),
        (Date, Instant) => (Lossy::DayInUtc, Word::Name),
        (Boolean, kind) if whole(kind) || matches!(kind, Float32 | Float64 | Decimal { .. }) => {
            (Lossy::BooleanToNumber { to }, Word::BooleanAsNumber)
        }
        (kind, Boolean) if whole(kind) || matches!(kind, Float32 | Float64 | Decimal { .. }) => {
            (Lossy::NumberToBoolean { from }, Word::BooleanAsNumber)
        }
        _ => return None,
    })
}

/// The length a type name limits text to: `varchar(5)`, `character varying(5)`, `nvarchar(5)`.
pub(crate) fn text_limit(type_name: &str) -> Option<Lossy> {
    let lower = type_name.trim().to_ascii_lowercase();
    let (base, rest) = lower.split_once('(')?;
    let most = rest.split_once(')')?.0.trim().parse().ok()?;
    let base = base.trim();
    let known = ["varchar", "character varying", "nvarchar", "char", "character", "nchar", "bpchar", "varchar2"];
    (known.contains(&base) && most > 0).then(|| Lossy::Cut { most, utf16: base.starts_with('n') })
}

impl Lossy {
    pub(crate) fn apply(self, array: &ArrayRef) -> Result<ArrayRef, Unfit> {
        match self {
            Lossy::Round { from, to: to @ Kind::Decimal { precision, scale } } => {
                rounded(array, from, precision, scale, to)
            }
            Lossy::Round { from, to } => {
                let whole = rounded(array, from, 38, 0, Kind::Decimal { precision: 38, scale: 0 })?;
                checked_cast(&whole, to)
            }
            Lossy::Float { from, to } => float(array, from, to),
            Lossy::Zone { to } => each::<TimestampMicrosecondType, TimestampMicrosecondType>(array, to, Ok),
            Lossy::Moment { from, to } => nanos::convert(array, from, to, false),
            Lossy::TimeOfDay => {
                each::<TimestampMicrosecondType, Date32Type>(array, Kind::Date, |moment| Ok(day_of(moment)?.0))
            }
            Lossy::DayInUtc => each::<Date32Type, TimestampMicrosecondType>(array, Kind::Instant, |days| match days {
                i32::MAX => Ok(i64::MAX),
                i32::MIN => Ok(i64::MIN),
                _ => i64::from(days).checked_mul(DAY_MICROS).ok_or("a date outside instant"),
            }),
            Lossy::BooleanToNumber { to } => checked_cast(&checked_cast(array, Kind::Int8)?, to),
            Lossy::NumberToBoolean { from } => Ok(to_boolean(array, from)),
            Lossy::Cut { most, utf16 } => Ok(cut(array, most, utf16)),
        }
    }
}

fn to_boolean(array: &ArrayRef, from: Kind) -> ArrayRef {
    let zero = |row: usize| match from {
        Kind::Float64 => array.as_primitive::<Float64Type>().value(row) == 0.0,
        Kind::Float32 => array.as_primitive::<Float32Type>().value(row) == 0.0,
        Kind::Decimal { .. } => array.as_primitive::<Decimal128Type>().value(row) == 0,
        _ => {
            let mut text = Vec::new();
            text_form::ColumnText::new(array.as_ref(), from).write(row, &mut text);
            text == b"0"
        }
    };
    Arc::new((0..array.len()).map(|row| array.is_valid(row).then(|| !zero(row))).collect::<BooleanArray>())
}

fn cut(array: &ArrayRef, most: usize, utf16: bool) -> ArrayRef {
    let source = array.as_string::<i32>();
    let kept = |text: &str| -> usize {
        let mut units = 0;
        let end = text.char_indices().find(|(_, c)| {
            units += if utf16 { c.len_utf16() } else { 1 };
            units > most
        });
        end.map_or(text.len(), |(at, _)| at)
    };
    Arc::new(source.iter().map(|text| text.map(|text| &text[..kept(text)])).collect::<StringArray>())
}

/// Any number as a decimal, rounded half away from zero at the digits people see: those of the shortest text.
fn rounded(array: &ArrayRef, from: Kind, precision: u8, scale: u8, to: Kind) -> Result<ArrayRef, Unfit> {
    let texts = text_form::array_to_text(array, from);
    let mut values = Vec::with_capacity(texts.len());
    for row in 0..texts.len() {
        let value = if texts.is_null(row) {
            Ok(0)
        } else {
            let text = texts.value(row);
            match text.contains(['e', 'E']).then(|| plain(text)) {
                Some(plain) => round_text(&plain, precision, scale),
                None => round_text(text, precision, scale),
            }
        };
        values.push(value.map_err(|class| Unfit { row, class: class.to_owned() })?);
    }
    let array = Decimal128Array::new(values.into(), texts.nulls().cloned());
    Ok(Arc::new(array.with_data_type(data_type(to))))
}

/// A float's text without an exponent; a text of many zeros for the very large and small.
fn plain(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| text.to_owned(), |value| format!("{value}"))
}

fn round_text(text: &str, precision: u8, scale: u8) -> Result<i128, &'static str> {
    const TOO_LARGE: &str = "a number too large for the target";
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return Err("not a finite number");
    }
    let whole = whole.trim_start_matches('0');
    let scale = usize::from(scale);
    if whole.len() + scale > 38 {
        return Err(TOO_LARGE);
    }
    let kept = fraction.bytes().chain(std::iter::repeat(b'0')).take(scale);
    let value = whole.bytes().chain(kept).fold(0_i128, |value, digit| value * 10 + i128::from(digit - b'0'));
    let up = fraction.as_bytes().get(scale).is_some_and(|digit| *digit >= b'5');
    let value = value + i128::from(up);
    let limit = 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    if value >= limit {
        return Err(TOO_LARGE);
    }
    Ok(if negative { -value } else { value })
}

fn float(array: &ArrayRef, from: Kind, to: Kind) -> Result<ArrayRef, Unfit> {
    if integer(from).is_some() || from == Kind::Float64 {
        let options = CastOptions { safe: true, ..CastOptions::default() };
        let cast = cast_with_options(array, &data_type(to), &options);
        return cast.map_err(|error| Unfit { row: 0, class: error.to_string() });
    }
    // Through text: the nearest float, rounded once.
    let texts = text_form::array_to_text(array, from);
    text_form::text_to_array(&texts, to).map_err(|(row, class)| Unfit { row, class: class.to_owned() })
}

#[cfg(test)]
mod tests {
    use arrow_array::{Float64Array, Int64Array, TimestampMicrosecondArray};

    use super::*;

    fn texts(from: &str, to: &str, array: ArrayRef) -> Vec<String> {
        let (from, to) = (from.parse().expect("kind"), to.parse().expect("kind"));
        let result = lossy(from, to).expect("a way").0.apply(&array).expect("fits");
        assert_eq!(result.data_type(), &data_type(to));
        text_form::array_to_text(&result, to).iter().map(|text| text.unwrap_or("NULL").to_owned()).collect()
    }

    #[test]
    fn losses() {
        let decimals = || -> ArrayRef {
            let values = vec![Some(125), Some(-125), None, Some(124), Some(-49)];
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(10, 2).expect("fits"))
        };
        assert_eq!(texts("decimal(10,2)", "decimal(10,1)", decimals()), ["1.3", "-1.3", "NULL", "1.2", "-0.5"]);
        assert_eq!(texts("decimal(10,2)", "int32", decimals()), ["1", "-1", "NULL", "1", "0"]);
        assert_eq!(texts("decimal(10,2)", "float64", decimals()), ["1.25", "-1.25", "NULL", "1.24", "-0.49"]);
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![2.5, -2.5, 0.1, 1e-9, 1.005]));
        assert_eq!(texts("float64", "decimal(10,2)", doubles.clone()), ["2.50", "-2.50", "0.10", "0.00", "1.01"]);
        assert_eq!(texts("float64", "int16", doubles.clone()), ["3", "-3", "0", "0", "1"]);
        assert_eq!(texts("float64", "float32", doubles), ["2.5", "-2.5", "0.1", "1e-9", "1.005"]);
        let moments: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![-1, DAY_MICROS + 5, i64::MAX]));
        assert_eq!(texts("timestamp", "date", moments.clone()), ["1969-12-31", "1970-01-02", "infinity"]);
        assert_eq!(texts("timestamp", "instant", moments)[1], "1970-01-02 00:00:00.000005+00");
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]));
        assert_eq!(texts("boolean", "int64", flags.clone()), ["1", "0", "NULL"]);
        assert_eq!(texts("boolean", "decimal(3,1)", flags), ["1.0", "0.0", "NULL"]);
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(-7), None]));
        assert_eq!(texts("int64", "boolean", numbers), ["false", "true", "NULL"]);
    }

    #[test]
    fn what_has_no_counterpart_is_refused() {
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN, 1e300]));
        let (way, _) = lossy(Kind::Float64, Kind::Decimal { precision: 10, scale: 2 }).expect("a way");
        assert_eq!(way.apply(&doubles).expect_err("no number").row, 1);
        assert_eq!(round_text("99.995", 4, 2), Err("a number too large for the target"));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        for (type_name, text, expected) in [
            ("character varying(3)", "äöüß", "äöü"),
            ("nvarchar(3)", "a🎉b", "a🎉"),
            ("nvarchar(2)", "a🎉b", "a"),
            ("VARCHAR(9)", "short", "short"),
        ] {
            let cut = text_limit(type_name).expect("a limit");
            let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
            assert_eq!(cut.apply(&array).expect("cuts").as_string::<i32>().value(0), expected, "{type_name}");
        }
        assert_eq!(text_limit("numeric(5)"), None);
        assert_eq!(text_limit("text"), None);
    }
}
