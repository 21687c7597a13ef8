//! Values to text: one strategy per column, chosen once.

use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{
    Array, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array, StringArray,
};
use dmg_protocol::Kind;

use crate::moment::{NANOS_INFINITY, NANOS_PER_DAY, OffsetInstants};

const MICROS_PER_DAY: i64 = 86_400_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Days no calendar reaches; what lies beyond is no moment of ours.
const FAR_DAYS: i128 = 1 << 52;

/// Writes the values of one column as text.
pub enum ColumnText<'a> {
    /// True or false.
    Boolean(&'a BooleanArray),
    /// Signed integers of 8 bits.
    Int8(&'a [i8]),
    /// Signed integers of 16 bits.
    Int16(&'a [i16]),
    /// Signed integers of 32 bits.
    Int32(&'a [i32]),
    /// Signed integers of 64 bits.
    Int64(&'a [i64]),
    /// Unsigned integers of 8 bits.
    UInt8(&'a [u8]),
    /// Unsigned integers of 16 bits.
    UInt16(&'a [u16]),
    /// Unsigned integers of 32 bits.
    UInt32(&'a [u32]),
    /// Unsigned integers of 64 bits.
    UInt64(&'a [u64]),
    /// Singles.
    Float32(&'a Float32Array),
    /// Doubles.
    Float64(&'a Float64Array),
    /// Decimals with that many digits behind the point.
    Decimal(&'a Decimal128Array, u8),
    /// All kinds carried as text.
    Text(&'a StringArray),
    /// Octets.
    Bytes(&'a BinaryArray),
    /// Days.
    Date(&'a [i32]),
    /// Microseconds, and whether they are UTC.
    Timestamp(&'a [i64], bool),
    /// Microseconds since midnight.
    Time(&'a [i64]),
    /// Nanoseconds, and whether they are UTC.
    Nanos(&'a [i128], bool),
    /// Nanoseconds since midnight.
    TimeNanos(&'a [i64]),
    /// Instants with their offsets.
    WithOffset(OffsetInstants<'a>),
    /// 16 octets.
    Uuid(&'a FixedSizeBinaryArray),
}

impl<'a> ColumnText<'a> {
    /// The strategy for a column.
    ///
    /// # Panics
    /// If the column does not have the carrier of the kind.
    pub fn new(column: &'a dyn Array, kind: Kind) -> Self {
        match kind {
            Kind::Boolean => ColumnText::Boolean(column.as_boolean()),
            Kind::Int8 => ColumnText::Int8(column.as_primitive::<Int8Type>().values()),
            Kind::Int16 => ColumnText::Int16(column.as_primitive::<Int16Type>().values()),
            Kind::Int32 => ColumnText::Int32(column.as_primitive::<Int32Type>().values()),
            Kind::Int64 => ColumnText::Int64(column.as_primitive::<Int64Type>().values()),
            Kind::UInt8 => ColumnText::UInt8(column.as_primitive::<UInt8Type>().values()),
            Kind::UInt16 => ColumnText::UInt16(column.as_primitive::<UInt16Type>().values()),
            Kind::UInt32 => ColumnText::UInt32(column.as_primitive::<UInt32Type>().values()),
            Kind::UInt64 => ColumnText::UInt64(column.as_primitive::<UInt64Type>().values()),
            Kind::Float32 => ColumnText::Float32(column.as_primitive::<Float32Type>()),
            Kind::Float64 => ColumnText::Float64(column.as_primitive::<Float64Type>()),
            Kind::Decimal { scale, .. } => ColumnText::Decimal(column.as_primitive::<Decimal128Type>(), scale),
            Kind::DecimalText | Kind::Text | Kind::Json | Kind::EngineText => {
                ColumnText::Text(column.as_string::<i32>())
            }
            Kind::Bytes => ColumnText::Bytes(column.as_binary::<i32>()),
            Kind::Date => ColumnText::Date(column.as_primitive::<Date32Type>().values()),
            Kind::Timestamp => ColumnText::Timestamp(column.as_primitive::<TimestampMicrosecondType>().values(), false),
            Kind::Instant => ColumnText::Timestamp(column.as_primitive::<TimestampMicrosecondType>().values(), true),
            Kind::Time => ColumnText::Time(column.as_primitive::<Time64MicrosecondType>().values()),
            Kind::TimestampNanos => ColumnText::Nanos(column.as_primitive::<Decimal128Type>().values(), false),
            Kind::InstantNanos => ColumnText::Nanos(column.as_primitive::<Decimal128Type>().values(), true),
            Kind::TimeNanos => ColumnText::TimeNanos(column.as_primitive::<Time64NanosecondType>().values()),
            Kind::InstantWithOffset => {
                ColumnText::WithOffset(OffsetInstants::of(column).expect("the carrier of the kind"))
            }
            Kind::Uuid => ColumnText::Uuid(column.as_fixed_size_binary()),
        }
    }

    /// Appends the text of one value, which must not be NULL.
    #[inline]
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            ColumnText::Boolean(column) => out.extend_from_slice(if column.value(row) { b"true" } else { b"false" }),
            ColumnText::Int8(values) => signed(i64::from(values[row]), out),
            ColumnText::Int16(values) => signed(i64::from(values[row]), out),
            ColumnText::Int32(values) => signed(i64::from(values[row]), out),
            ColumnText::Int64(values) => signed(values[row], out),
            ColumnText::UInt8(values) => unsigned(u64::from(values[row]), out),
            ColumnText::UInt16(values) => unsigned(u64::from(values[row]), out),
            ColumnText::UInt32(values) => unsigned(u64::from(values[row]), out),
            ColumnText::UInt64(values) => unsigned(values[row], out),
            ColumnText::Float32(column) => float32(column.value(row), out),
            ColumnText::Float64(column) => float64(column.value(row), out),
            ColumnText::Decimal(column, scale) => decimal(column.value(row), usize::from(*scale), out),
            ColumnText::Text(column) => out.extend_from_slice(column.value(row).as_bytes()),
            ColumnText::Bytes(column) => {
                out.extend_from_slice(b"\\x");
                column.value(row).iter().for_each(|byte| hex(*byte, out));
            }
            ColumnText::Date(values) => date(values[row], out),
            ColumnText::Timestamp(values, utc) => timestamp(values[row], *utc, out),
            ColumnText::Time(values) => time(values[row], out),
            ColumnText::Nanos(values, utc) => nanos(values[row], *utc, out),
            ColumnText::TimeNanos(values) => time_nanos(values[row].unsigned_abs(), out),
            ColumnText::WithOffset(values) => with_offset(values, row, out),
            ColumnText::Uuid(column) => {
                for (index, byte) in column.value(row).iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) {
                        out.push(b'-');
                    }
                    hex(*byte, out);
                }
            }
        }
    }
}

#[inline]
fn hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[inline]
fn signed(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(value.unsigned_abs(), out);
}

#[inline]
fn unsigned(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Exactly `width` digits, of which the value has no more.
#[inline]
fn padded(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Rust's shortest form that reads back, without the `.0` of whole numbers.
fn float64(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        finite(format_args!("{value:?}"), out);
    } else {
        not_finite(value, out);
    }
}

fn float32(value: f32, out: &mut Vec<u8>) {
    if value.is_finite() {
        finite(format_args!("{value:?}"), out);
    } else {
        not_finite(f64::from(value), out);
    }
}

fn finite(text: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    out.write_fmt(text).expect("writing into memory does not fail");
    if out.ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
}

fn not_finite(value: f64, out: &mut Vec<u8>) {
    let text: &[u8] = match value {
        value if value.is_nan() => b"NaN",
        value if value > 0.0 => b"Infinity",
        _ => b"-Infinity",
    };
    out.extend_from_slice(text);
}

fn decimal(value: i128, scale: usize, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let start = out.len();
    match u64::try_from(value.unsigned_abs()) {
        Ok(small) => unsigned(small, out),
        Err(_) => out.write_fmt(format_args!("{}", value.unsigned_abs())).expect("writing into memory does not fail"),
    }
    if scale == 0 {
        return;
    }
    let digits = out.len() - start;
    if digits <= scale {
        let missing = scale + 1 - digits;
        out.splice(start..start, std::iter::repeat_n(b'0', missing));
    }
    let point = out.len() - scale;
    out.push(0);
    out.copy_within(point..point + scale, point + 1);
    out[point] = b'.';
}

/// Year, month and day of a day number since 1970-01-01, in the proleptic Gregorian calendar with a year 0.
fn civil(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u64, day as u64)
}

/// The day; whether ` BC` has to follow.
fn day(days: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil(days);
    let before_christ = year <= 0;
    let shown = if before_christ { 1 - year } else { year }.unsigned_abs();
    if shown < 10_000 {
        padded(shown, 4, out);
    } else {
        unsigned(shown, out);
    }
    out.push(b'-');
    padded(month, 2, out);
    out.push(b'-');
    padded(day, 2, out);
    before_christ
}

fn date(days: i32, out: &mut Vec<u8>) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            if day(i64::from(days), out) {
                out.extend_from_slice(b" BC");
            }
        }
    }
}

fn time(micros: i64, out: &mut Vec<u8>) {
    let micros = micros.unsigned_abs();
    clock(micros / 1_000_000, micros % 1_000_000, 6, out);
}

fn time_nanos(nanos: u64, out: &mut Vec<u8>) {
    clock(nanos / NANOS_PER_SECOND, nanos % NANOS_PER_SECOND, 9, out);
}

/// Hours, minutes, seconds, and the digits of the fraction without the zeros at its end.
#[inline]
fn clock(seconds: u64, fraction: u64, digits: usize, out: &mut Vec<u8>) {
    padded(seconds / 3600, 2, out);
    out.push(b':');
    padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    padded(seconds % 60, 2, out);
    if fraction != 0 {
        out.push(b'.');
        padded(fraction, digits, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

fn timestamp(micros: i64, utc: bool, out: &mut Vec<u8>) {
    match micros {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        i64::MIN => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let before_christ = day(micros.div_euclid(MICROS_PER_DAY), out);
    out.push(b' ');
    time(micros.rem_euclid(MICROS_PER_DAY), out);
    if utc {
        out.extend_from_slice(b"+00");
    }
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// Day and time of day; whether ` BC` has to follow.
fn day_and_nanos(moment: i128, out: &mut Vec<u8>) -> bool {
    let before_christ = day(moment.div_euclid(NANOS_PER_DAY).clamp(-FAR_DAYS, FAR_DAYS) as i64, out);
    out.push(b' ');
    time_nanos(moment.rem_euclid(NANOS_PER_DAY) as u64, out);
    before_christ
}

fn infinity(moment: i128) -> Option<&'static [u8]> {
    match moment {
        NANOS_INFINITY => Some(b"infinity"),
        moment if moment == -NANOS_INFINITY => Some(b"-infinity"),
        _ => None,
    }
}

fn nanos(moment: i128, utc: bool, out: &mut Vec<u8>) {
    if let Some(text) = infinity(moment) {
        return out.extend_from_slice(text);
    }
    let before_christ = day_and_nanos(moment, out);
    if utc {
        out.extend_from_slice(b"+00");
    }
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// What a clock with the offset shows, and the offset.
fn with_offset(values: &OffsetInstants<'_>, row: usize, out: &mut Vec<u8>) {
    if let Some(text) = infinity(values.instants[row]) {
        return out.extend_from_slice(text);
    }
    let before_christ = day_and_nanos(values.local(row), out);
    let offset = values.offsets[row];
    out.push(if offset < 0 { b'-' } else { b'+' });
    let minutes = u64::from(offset.unsigned_abs());
    padded(minutes / 60, 2, out);
    out.push(b':');
    padded(minutes % 60, 2, out);
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}
