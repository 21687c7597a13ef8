//! Conversions between kinds: one small strategy per column, chosen once, with the promise it can keep. What loses
//! something by the author's word is in `lossy`, what reads or writes by a culture in `styled`.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, Decimal128Array, FixedSizeBinaryArray, Float32Array, PrimitiveArray,
    TimestampMicrosecondArray,
};
use arrow_cast::{CastOptions, cast_with_options};
use dmg_connector::{data_type, text_form};
use dmg_protocol::{Kind, Verdict};

use crate::lossy::Lossy;
use crate::nanos;
use crate::styled::Style;

/// How the values of one column get from one kind to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// Nothing to do.
    Same,
    /// The carrier is the same, the kind's name differs: text kinds.
    Relabel,
    /// A cast of Arrow's own; a value that does not fit becomes NULL there, and is found by counting.
    Cast { from: Kind, to: Kind },
    /// A number to another carrier by a cast, if it survives the way back.
    ThereAndBack { from: Kind, to: Kind },
    /// Decimal to another scale, without rounding.
    Rescale { from: u8, to_precision: u8, to_scale: u8 },
    /// Decimal without a fraction to an integer.
    Whole { from: u8, to: Kind },
    /// Double to single, if it survives the way back.
    Narrow,
    /// Date to midnight of that day.
    Midnight,
    /// Midnight to the date of that day.
    Day,
    /// The octets of a UUID.
    UuidToBytes,
    /// 16 octets to a UUID.
    BytesToUuid,
    /// Any kind to its text form.
    ToText(Kind),
    /// Text form to its kind.
    FromText(Kind),
    /// Text to a kind by the author's culture and format.
    Read { to: Kind, style: Style },
    /// A kind to text by the author's culture and format; `exact` if the text must read back.
    Write { from: Kind, style: Style, exact: bool },
    /// Text with blanks behind it, up to so many characters.
    Pad(usize),
    /// A moment to another kind of moment; what would be cut is refused.
    Moment { from: Kind, to: Kind },
    /// Moments in nanoseconds of which none lies outside, ends included.
    Within { first: i128, last: i128 },
    /// What loses something, by the author's word.
    Lossy(Lossy),
    /// Two in a row.
    Then(Arc<(Conversion, Conversion)>),
}

/// A value that cannot be converted: its row in the batch and what kind of trouble it is. Never the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    pub(crate) row: usize,
    pub(crate) class: String,
}

/// The way from one kind to another and what it promises, or none. Never one that loses anything unseen.
pub(crate) fn conversion(from: Kind, to: Kind) -> Option<(Conversion, Verdict)> {
    use Kind::{Bytes, Date, DecimalText, EngineText, Float32, Float64, Json, Text, Timestamp, Uuid};
    if from == to {
        return Some((Conversion::Same, Verdict::Exact));
    }
    if let Some(verdict) = nanos::sound(from, to) {
        return Some((Conversion::Moment { from, to }, verdict));
    }
    let cast = Conversion::Cast { from, to };
    let there_and_back = (Conversion::ThereAndBack { from, to }, Verdict::Checked);
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
        (Kind::Decimal { scale, .. }, whole) if integer(whole).is_some() => {
            (Conversion::Whole { from: scale, to }, Verdict::Checked)
        }
        (integer_kind, Kind::Decimal { precision, scale }) if integer(integer_kind).is_some() => {
            let digits = integer(integer_kind).map_or(38, |i| i.digits);
            (cast, if precision - scale >= digits { Verdict::Widened } else { Verdict::Checked })
        }
        (integer_kind, Float64) if integer(integer_kind).is_some_and(|i| i.bits <= 32) => (cast, Verdict::Widened),
        (integer_kind, Float32) if integer(integer_kind).is_some_and(|i| i.bits <= 16) => (cast, Verdict::Widened),
        (integer_kind, Float32 | Float64) if integer(integer_kind).is_some() => there_and_back,
        (Float32 | Float64, integer_kind) if integer(integer_kind).is_some() => there_and_back,
        (Float32, Float64) => (cast, Verdict::Widened),
        (Float64, Float32) => (Conversion::Narrow, Verdict::Checked),
        (Date, Timestamp) => (Conversion::Midnight, Verdict::Checked),
        (Timestamp, Date) => (Conversion::Day, Verdict::Checked),
        (Uuid, Bytes) => (Conversion::UuidToBytes, Verdict::Widened),
        (Bytes, Uuid) => (Conversion::BytesToUuid, Verdict::Checked),
        (Kind::Decimal { .. }, DecimalText) => (Conversion::ToText(from), Verdict::Exact),
        (integer_kind, DecimalText) if integer(integer_kind).is_some() => (Conversion::ToText(from), Verdict::Widened),
        (DecimalText | Json | EngineText, Text) => (Conversion::Relabel, Verdict::Exact),
        (Text, Json | EngineText) | (EngineText | Json, EngineText | Json) => (Conversion::Relabel, Verdict::Checked),
        (_, Text | EngineText) => (Conversion::ToText(from), Verdict::Widened),
        // Such numbers as text may have other digits than doubles do.
        (DecimalText, Float32 | Float64) => return None,
        (Text | DecimalText | EngineText, _) => (Conversion::FromText(to), Verdict::Checked),
        _ => return None,
    })
}

/// Whether a kind is carried as text.
pub(crate) fn is_text(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Json | Kind::EngineText)
}

pub(crate) struct Integer {
    signed: bool,
    bits: u8,
    pub(crate) digits: u8,
}

/// What an integer kind holds; none for others.
pub(crate) fn integer(kind: Kind) -> Option<Integer> {
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

/// Rows looked at at once after one that does not fit; doubled as long as all fit.
const WINDOW_ROWS: usize = 16;

impl Conversion {
    /// Converts one column of a batch.
    pub(crate) fn apply(&self, array: &ArrayRef) -> Result<ArrayRef, Unfit> {
        match self {
            Conversion::Same | Conversion::Relabel => Ok(array.clone()),
            Conversion::Cast { to, .. } => checked_cast(array, *to),
            Conversion::ThereAndBack { from, to } => there_and_back(array, *from, *to),
            Conversion::Rescale { from, to_precision, to_scale } => rescale(array, *from, *to_precision, *to_scale),
            Conversion::Whole { from, to } => rescale(array, *from, 38, 0).and_then(|whole| checked_cast(&whole, *to)),
            Conversion::Narrow => narrow(array),
            Conversion::Midnight => midnight(array),
            Conversion::Day => day(array),
            Conversion::UuidToBytes => Ok(Arc::new(BinaryArray::from_iter(array.as_fixed_size_binary().iter()))),
            Conversion::BytesToUuid => bytes_to_uuid(array),
            Conversion::ToText(from) => Ok(Arc::new(text_form::array_to_text(array, *from))),
            Conversion::FromText(to) => text_form::text_to_array(array.as_string::<i32>(), *to)
                .map_err(|(row, class)| Unfit { row, class: class.to_owned() }),
            Conversion::Read { to, style } => style.read(array, *to),
            Conversion::Write { from, style, exact } => style.write(array, *from, *exact),
            Conversion::Pad(characters) => Ok(padded(array, *characters)),
            Conversion::Moment { from, to } => nanos::convert(array, *from, *to, true),
            Conversion::Within { first, last } => nanos::within(array, *first, *last),
            Conversion::Lossy(lossy) => lossy.apply(array),
            Conversion::Then(both) => both.0.apply(array).and_then(|between| both.1.apply(&between)),
        }
    }

    /// Every row of a batch that cannot be converted, in order. For the slow path only.
    pub(crate) fn unfit_rows(&self, array: &ArrayRef) -> Vec<Unfit> {
        let mut unfit = Vec::new();
        let (mut start, mut window) = (0, array.len());
        while start < array.len() {
            let length = window.min(array.len() - start);
            let Err(Unfit { row, class }) = self.apply(&array.slice(start, length)) else {
                start += length;
                window *= 2;
                continue;
            };
            // Of two conversions in a row, the second may refuse an earlier row than the first did.
            let before = self.unfit_rows(&array.slice(start, row));
            unfit.extend(before.into_iter().map(|unfit| Unfit { row: start + unfit.row, ..unfit }));
            unfit.push(Unfit { row: start + row, class });
            start += row + 1;
            window = WINDOW_ROWS;
        }
        unfit
    }

    /// One after the other.
    pub(crate) fn then(self, next: Conversion) -> Conversion {
        match (self, next) {
            (Conversion::Same, other) | (other, Conversion::Same) => other,
            (first, second) => Conversion::Then(Arc::new((first, second))),
        }
    }
}

/// A text that is too long stays as it is: the sink names it.
fn padded(array: &ArrayRef, characters: usize) -> ArrayRef {
    let texts = array.as_string::<i32>();
    let blanks = " ".repeat(characters);
    let mut padded = StringBuilder::with_capacity(texts.len(), texts.len() * characters);
    for text in texts {
        let Some(text) = text else {
            padded.append_null();
            continue;
        };
        let length = if text.is_ascii() { text.len() } else { text.chars().count() };
        let blanks = &blanks[..characters.saturating_sub(length)];
        padded.write_str(text).and_then(|()| padded.write_str(blanks)).expect("memory takes all that is written");
        padded.append_value("");
    }
    Arc::new(padded.finish())
}

/// Values of one primitive carrier to another, one by one; the first that does not fit is named.
pub(crate) fn each<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    array: &ArrayRef,
    to: Kind,
    convert: impl Fn(F::Native) -> Result<T::Native, &'static str>,
) -> Result<ArrayRef, Unfit> {
    let source = array.as_primitive::<F>();
    let mut values = Vec::with_capacity(source.len());
    for row in 0..source.len() {
        if source.is_null(row) {
            values.push(T::Native::default());
            continue;
        }
        values.push(convert(source.value(row)).map_err(|class| Unfit { row, class: class.to_owned() })?);
    }
    let result = PrimitiveArray::<T>::new(values.into(), source.nulls().cloned());
    Ok(Arc::new(result.with_data_type(data_type(to))))
}

pub(crate) fn checked_cast(array: &ArrayRef, to: Kind) -> Result<ArrayRef, Unfit> {
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

/// Numbers that are the same in both carriers.
fn there_and_back(array: &ArrayRef, from: Kind, to: Kind) -> Result<ArrayRef, Unfit> {
    let unfit = |row| Unfit { row, class: format!("a number that is not the same as {to}") };
    // What is beyond the range becomes NULL there, or another number; either is found on the way back.
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let there = cast_with_options(array, &data_type(to), &options).map_err(|_| unfit(0))?;
    let back = cast_with_options(&there, &data_type(from), &options).map_err(|_| unfit(0))?;
    let differs = |row: usize| match from {
        // The bits: negative zero is no integer.
        Kind::Float64 => {
            let (a, b) = (array.as_primitive::<Float64Type>(), back.as_primitive::<Float64Type>());
            a.value(row).to_bits() != b.value(row).to_bits()
        }
        Kind::Float32 => {
            let (a, b) = (array.as_primitive::<Float32Type>(), back.as_primitive::<Float32Type>());
            a.value(row).to_bits() != b.value(row).to_bits()
        }
        _ => array.slice(row, 1).to_data() != back.slice(row, 1).to_data(),
    };
    match (0..array.len()).find(|row| array.is_valid(*row) && (back.is_null(*row) || differs(*row))) {
        Some(row) => Err(unfit(row)),
        None => Ok(there),
    }
}

fn bytes_to_uuid(array: &ArrayRef) -> Result<ArrayRef, Unfit> {
    let source = array.as_binary::<i32>();
    if let Some(row) = (0..source.len()).find(|row| source.is_valid(*row) && source.value(*row).len() != 16) {
        return Err(Unfit { row, class: "not of 16 bytes".to_owned() });
    }
    let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(source.iter(), 16);
    Ok(Arc::new(uuids.map_err(|error| Unfit { row: 0, class: error.to_string() })?))
}

/// Microseconds of a day.
pub(crate) const DAY_MICROS: i64 = crate::date_format::DAY_MICROS;

/// The day of a moment, and what is left of it. Infinities are days of their own.
pub(crate) fn day_of(moment: i64) -> Result<(i32, i64), &'static str> {
    match moment {
        i64::MAX => Ok((i32::MAX, 0)),
        i64::MIN => Ok((i32::MIN, 0)),
        _ => {
            let days = i32::try_from(moment.div_euclid(DAY_MICROS)).map_err(|_| "a day outside date")?;
            Ok((days, moment.rem_euclid(DAY_MICROS)))
        }
    }
}

fn day(array: &ArrayRef) -> Result<ArrayRef, Unfit> {
    each::<TimestampMicrosecondType, Date32Type>(array, Kind::Date, |moment| match day_of(moment)? {
        (days, 0) => Ok(days),
        _ => Err("a moment with a time of day"),
    })
}

fn midnight(array: &ArrayRef) -> Result<ArrayRef, Unfit> {
    let source = array.as_primitive::<Date32Type>();
    let mut values = Vec::with_capacity(source.len());
    for row in 0..source.len() {
        let moment = match source.value(row) {
            i32::MAX => Some(i64::MAX),
            i32::MIN => Some(i64::MIN),
            days => i64::from(days).checked_mul(DAY_MICROS),
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
            ("int64", "float64", Some(Verdict::Checked)),
            ("float64", "int32", Some(Verdict::Checked)),
            ("int8", "float32", Some(Verdict::Widened)),
            ("decimal(10,2)", "int32", Some(Verdict::Checked)),
            ("decimal", "float64", None),
            ("boolean", "int32", None),
            ("instant", "timestamp", None),
            ("timestamp", "date", Some(Verdict::Checked)),
            ("uuid", "bytes", Some(Verdict::Widened)),
            ("bytes", "uuid", Some(Verdict::Checked)),
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

    #[test]
    fn texts_are_padded_by_characters() {
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec![Some("ab"), None, Some("äöü"), Some("long one"), Some("")]));
        let padded = Conversion::Pad(4).apply(&texts).expect("nothing is refused");
        let expected: ArrayRef =
            Arc::new(StringArray::from(vec![Some("ab  "), None, Some("äöü "), Some("long one"), Some("    ")]));
        assert_eq!(&padded, &expected);
    }

    #[test]
    fn numbers_that_differ_are_found() {
        let numbers: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(1 << 53), None, Some((1 << 53) + 1), Some(i64::MAX)]));
        let found = |from: &str, to: &str, array: &ArrayRef| -> Vec<usize> {
            let way = conversion(from.parse().expect("kind"), to.parse().expect("kind")).expect("a way").0;
            way.unfit_rows(array).iter().map(|unfit| unfit.row).collect()
        };
        assert_eq!(found("int64", "float64", &numbers), [2, 3]);
        let doubles: ArrayRef =
            Arc::new(Float64Array::from(vec![1.0, 0.5, -0.0, f64::NAN, 1e300, 9.223372036854776e18]));
        assert_eq!(found("float64", "int64", &doubles), [1, 2, 3, 4, 5]);
        let decimals = Decimal128Array::from(vec![100, 150, 200, 99_999_999_900]).with_precision_and_scale(12, 2);
        let decimals: ArrayRef = Arc::new(decimals.expect("fits"));
        assert_eq!(found("decimal(12,2)", "int16", &decimals), [1, 3]);
        let moments: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, 1, -DAY_MICROS, i64::MAX]));
        assert_eq!(found("timestamp", "date", &moments), [1]);
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&[0_u8; 16][..], b"short"]));
        assert_eq!(found("bytes", "uuid", &bytes), [1]);
    }

    #[test]
    fn all_rows_that_do_not_fit_are_found() {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..1000).map(|n| if n % 7 == 3 { "x".to_owned() } else { n.to_string() }),
        ));
        let unfit = conversion(Kind::Text, Kind::Int32).expect("a way").0.unfit_rows(&texts);
        let rows: Vec<usize> = unfit.iter().map(|unfit| unfit.row).collect();
        assert_eq!(rows, (0..1000).filter(|n| n % 7 == 3).collect::<Vec<_>>());
    }
}
