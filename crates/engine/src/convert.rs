//! Conversions between kinds: one small strategy per column, chosen once, with the promise it can keep.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float32Type, Float64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Decimal128Array, Float32Array, TimestampMicrosecondArray};
use arrow_cast::{CastOptions, cast_with_options};
use dmg_connector::{data_type, text_form};
use dmg_protocol::{Kind, Verdict};

/// How the values of one column get from one kind to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// Nothing to do.
    Same,
    /// The carrier is the same, the kind's name differs: text kinds.
    Relabel,
    /// A cast of Arrow's own; a value that does not fit becomes NULL there, and is found by counting.
    Cast { from: Kind, to: Kind },
    /// Decimal to another scale, without rounding.
    Rescale { from: u8, to_precision: u8, to_scale: u8 },
    /// Double to single, if it survives the way back.
    Narrow,
    /// Date to midnight of that day.
    Midnight,
    /// Any kind to its text form.
    ToText(Kind),
    /// Text form to its kind.
    FromText(Kind),
}

/// A value that cannot be converted: its row in the batch and what kind of trouble it is. Never the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) row: usize,
    pub(crate) class: String,
}

/// The way from one kind to another and what it promises, or none.
pub(crate) fn conversion(from: Kind, to: Kind) -> Option<(Conversion, Verdict)> {
    use Kind::{Date, DecimalText, EngineText, Float32, Float64, Json, Text, Timestamp};
    if from == to {
        return Some((Conversion::Same, Verdict::Exact));
    }
    let cast = Conversion::Cast { from, to };
    if let (Some(a), Some(b)) = (integer(from), integer(to)) {
        let holds = (b.signed || !a.signed) && (b.bits > a.bits || (b.bits == a.bits && b.signed == a.signed));
        return Some((cast, if holds { Verdict::Widened } else { Verdict::Checked }));
    }
    Some(match (from, to) {
        (Kind::Decimal { precision: p, scale: s }, Kind::Decimal { precision, scale }) => {
            let holds = scale >= s && precision - scale >= p - s;
            let verdict = if holds { Verdict::Widened } else { Verdict::Checked };
            (Conversion::Rescale { from: s, to_precision: precision, to_scale: scale }, verdict)
        }
        (integer_kind, Kind::Decimal { precision, scale }) if integer(integer_kind).is_some() => {
            let digits = integer(integer_kind).map_or(38, |i| i.digits);
            (cast, if precision - scale >= digits { Verdict::Widened } else { Verdict::Checked })
        }
        (integer_kind, Float64) if integer(integer_kind).is_some_and(|i| i.bits <= 32) => (cast, Verdict::Widened),
        (Float32, Float64) => (cast, Verdict::Widened),
        (Float64, Float32) => (Conversion::Narrow, Verdict::Checked),
        (Date, Timestamp) => (Conversion::Midnight, Verdict::Checked),
        (Kind::Decimal { .. }, DecimalText) => (Conversion::ToText(from), Verdict::Exact),
        (integer_kind, DecimalText) if integer(integer_kind).is_some() => (Conversion::ToText(from), Verdict::Widened),
        (DecimalText | Json | EngineText, Text) => (Conversion::Relabel, Verdict::Exact),
        (Text, Json | EngineText) | (EngineText | Json, EngineText | Json) => (Conversion::Relabel, Verdict::Checked),
        (_, Text | EngineText) => (Conversion::ToText(from), Verdict::Widened),
        (Text | DecimalText | EngineText, _) => (Conversion::FromText(to), Verdict::Checked),
        _ => return None,
    })
}

struct Integer {
    signed: bool,
    bits: u8,
    digits: u8,
}

fn integer(kind: Kind) -> Option<Integer> {
    let (signed, bits, digits) = match kind {
        Kind::Int8 => (true, 8, 3),
        Kind::Int16 => (true, 16, 5),
        Kind::Int32 => (true, 32, 10),
        Kind::Int64 => (true, 64, 19),
        Kind::UInt8 => (false, 8, 3),
        Kind::UInt16 => (false, 16, 5),
        Kind::UInt32 => (false, 32, 10),
        Kind::UInt64 => (false, 64, 20),
        _ => return None,
    };
    Some(Integer { signed, bits, digits })
}

impl Conversion {
    /// Converts one column of a batch.
    pub(crate) fn apply(self, array: &ArrayRef) -> Result<ArrayRef, Unfit> {
        match self {
            Conversion::Same | Conversion::Relabel => Ok(array.clone()),
            Conversion::Cast { to, .. } => checked_cast(array, to),
            Conversion::Rescale { from, to_precision, to_scale } => rescale(array, from, to_precision, to_scale),
            Conversion::Narrow => narrow(array),
            Conversion::Midnight => midnight(array),
            Conversion::ToText(from) => Ok(Arc::new(text_form::array_to_text(array, from))),
            Conversion::FromText(to) => text_form::text_to_array(array.as_string::<i32>(), to)
                .map_err(|(row, class)| Unfit { row, class: class.to_owned() }),
        }
    }
}

fn checked_cast(array: &ArrayRef, to: Kind) -> Result<ArrayRef, Unfit> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let unfit = |row| Unfit { row, class: format!("a number outside {to}") };
    let result = cast_with_options(array, &data_type(to), &options).map_err(|_| unfit(0))?;
    if result.null_count() == array.null_count() {
        return Ok(result);
    }
    let row = (0..array.len()).find(|row| result.is_null(*row) && !array.is_null(*row)).unwrap_or(0);
    Err(unfit(row))
}

fn rescale(array: &ArrayRef, from: u8, precision: u8, scale: u8) -> Result<ArrayRef, Unfit> {
    let source = array.as_primitive::<Decimal128Type>();
    let limit = 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    let factor = 10_i128.pow(u32::from(scale.abs_diff(from)));
    let convert = |value: i128| {
        let moved =
            if scale >= from { value.checked_mul(factor) } else { (value % factor == 0).then_some(value / factor) };
        moved.filter(|moved| moved.unsigned_abs() < limit.unsigned_abs())
    };
    let mut values = Vec::with_capacity(source.len());
    for row in 0..source.len() {
        if source.is_null(row) {
            values.push(0);
            continue;
        }
        let class = || format!("a number with more digits than decimal({precision},{scale})");
        values.push(convert(source.value(row)).ok_or_else(|| Unfit { row, class: class() })?);
    }
    let result = Decimal128Array::new(values.into(), source.nulls().cloned());
    let result = result.with_precision_and_scale(precision, scale as i8);
    Ok(Arc::new(result.map_err(|error| Unfit { row: 0, class: error.to_string() })?))
}

fn narrow(array: &ArrayRef) -> Result<ArrayRef, Unfit> {
    let source = array.as_primitive::<Float64Type>();
    for row in 0..source.len() {
        let value = source.value(row);
        let back = f64::from(value as f32);
        let survives = back == value || (back.is_nan() && value.is_nan());
        if !source.is_null(row) && !survives {
            return Err(Unfit { row, class: "a double that is no single".to_owned() });
        }
    }
    let values: Float32Array = source.unary::<_, Float32Type>(|value| value as f32);
    Ok(Arc::new(values))
}

fn midnight(array: &ArrayRef) -> Result<ArrayRef, Unfit> {
    const DAY: i64 = 86_400_000_000;
    let source = array.as_primitive::<Date32Type>();
    let mut values = Vec::with_capacity(source.len());
    for row in 0..source.len() {
        let moment = match source.value(row) {
            i32::MAX => Some(i64::MAX),
            i32::MIN => Some(i64::MIN),
            days => i64::from(days).checked_mul(DAY),
        };
        let valid = moment.filter(|_| !source.is_null(row)).unwrap_or(0);
        if moment.is_none() && !source.is_null(row) {
            return Err(Unfit { row, class: "a date outside timestamp".to_owned() });
        }
        values.push(valid);
    }
    let nulls = source.nulls().cloned();
    Ok(Arc::new(
        TimestampMicrosecondArray::new(values.into(), nulls) as arrow_array::PrimitiveArray<TimestampMicrosecondType>
    ))
}

#[cfg(test)]
mod tests {
    use arrow_array::{Float64Array, Int64Array, StringArray};

    use super::*;

    fn verdict(from: &str, to: &str) -> Option<Verdict> {
        conversion(from.parse().expect("kind"), to.parse().expect("kind")).map(|(_, verdict)| verdict)
    }

    #[test]
    fn promises() {
        for (from, to, expected) in [
            ("int32", "int32", Some(Verdict::Exact)),
            ("int32", "int64", Some(Verdict::Widened)),
            ("int64", "int32", Some(Verdict::Checked)),
            ("uint32", "int64", Some(Verdict::Widened)),
            ("uint64", "int64", Some(Verdict::Checked)),
            ("int64", "uint64", Some(Verdict::Checked)),
            ("int32", "decimal(12,2)", Some(Verdict::Widened)),
            ("int32", "decimal(10,2)", Some(Verdict::Checked)),
            ("decimal(10,2)", "decimal(12,4)", Some(Verdict::Widened)),
            ("decimal(10,2)", "decimal(10,4)", Some(Verdict::Checked)),
            ("decimal(10,2)", "decimal", Some(Verdict::Exact)),
            ("decimal", "decimal(10,2)", Some(Verdict::Checked)),
            ("float64", "float32", Some(Verdict::Checked)),
            ("int64", "float64", None),
            ("instant", "timestamp", None),
            ("timestamp", "date", None),
            ("json", "text", Some(Verdict::Exact)),
            ("text", "int32", Some(Verdict::Checked)),
            ("date", "text", Some(Verdict::Widened)),
        ] {
            assert_eq!(verdict(from, to), expected, "{from} to {to}");
        }
    }

    fn apply(from: &str, to: &str, array: ArrayRef) -> Result<ArrayRef, Unfit> {
        conversion(from.parse().expect("kind"), to.parse().expect("kind")).expect("a way").0.apply(&array)
    }

    #[test]
    fn the_first_value_that_does_not_fit_is_named() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(1 << 40)]));
        assert_eq!(apply("int64", "int32", numbers).expect_err("too large").row, 2);
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![1.5, f64::NAN, 0.1]));
        assert_eq!(apply("float64", "float32", doubles).expect_err("no single").row, 2);
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["1", "x"]));
        assert_eq!(apply("text", "int32", texts).expect_err("no number").row, 1);
        let decimals: ArrayRef = Arc::new(
            Decimal128Array::from(vec![Some(100), None, Some(101)]).with_precision_and_scale(10, 2).expect("fits"),
        );
        assert_eq!(apply("decimal(10,2)", "decimal(10,1)", decimals).expect_err("a digit would be lost").row, 2);
    }
}
