//! Text to values: one builder per column. A text that is no value is refused by its class, never quoted.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder, Float32Builder,
    Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    Time64NanosecondBuilder, TimestampMicrosecondBuilder, UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use dmg_protocol::Kind;

use crate::moment::{NANOS_INFINITY, OffsetInstantBuilder, nanos_type};

const SECONDS_PER_DAY: i64 = 86_400;
/// Digits behind the second that a microsecond has, and a nanosecond.
const MICROS: usize = 6;
const NANOS: usize = 9;

const NOT_BOOLEAN: &str = "not a boolean";
const NOT_INTEGER: &str = "not a whole number";
const NOT_FLOAT: &str = "not a number";
const NOT_DECIMAL: &str = "not a decimal number";
const NOT_BYTES: &str = "not hexadecimal bytes beginning with \\x";
const NOT_DATE: &str = "not a date";
const NOT_TIMESTAMP: &str = "not a date and time";
const NOT_INSTANT: &str = "not a date and time with a UTC offset";
const NOT_TIME: &str = "not a time of day";
const NOT_UUID: &str = "not a UUID";
const OUT_OF_RANGE: &str = "out of the column's range";
const TOO_MANY_DIGITS: &str = "a number with more digits than the column holds";
const TOO_FINE: &str = "finer than microseconds";
const FINER_THAN_NANOS: &str = "finer than nanoseconds";
const NOT_MINUTES: &str = "a time whose UTC offset is not of whole minutes";

type Parsed<T> = Result<T, &'static str>;

/// Builds a column of a kind out of text forms.
pub struct ColumnParser {
    builder: Builder,
}

enum Builder {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    UInt8(UInt8Builder),
    UInt16(UInt16Builder),
    UInt32(UInt32Builder),
    UInt64(UInt64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, u8),
    DecimalText(StringBuilder),
    Text(StringBuilder),
    Bytes(BinaryBuilder, Vec<u8>),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Instant(TimestampMicrosecondBuilder),
    Time(Time64MicrosecondBuilder),
    TimestampNanos(Decimal128Builder),
    InstantNanos(Decimal128Builder),
    TimeNanos(Time64NanosecondBuilder),
    WithOffset(OffsetInstantBuilder),
    Uuid(FixedSizeBinaryBuilder),
}

/// Runs the same expression on whichever builder there is.
macro_rules! on_builder {
    ($self:expr, $builder:ident => $run:expr) => {
        match $self {
            Builder::Boolean($builder) => $run,
            Builder::Int8($builder) => $run,
            Builder::Int16($builder) => $run,
            Builder::Int32($builder) => $run,
            Builder::Int64($builder) => $run,
            Builder::UInt8($builder) => $run,
            Builder::UInt16($builder) => $run,
            Builder::UInt32($builder) => $run,
            Builder::UInt64($builder) => $run,
            Builder::Float32($builder) => $run,
            Builder::Float64($builder) => $run,
            Builder::Decimal($builder, ..) => $run,
            Builder::DecimalText($builder) | Builder::Text($builder) => $run,
            Builder::Bytes($builder, _) => $run,
            Builder::Date($builder) => $run,
            Builder::Timestamp($builder) | Builder::Instant($builder) => $run,
            Builder::Time($builder) => $run,
            Builder::TimestampNanos($builder) | Builder::InstantNanos($builder) => $run,
            Builder::TimeNanos($builder) => $run,
            Builder::WithOffset($builder) => $run,
            Builder::Uuid($builder) => $run,
        }
    };
}

impl ColumnParser {
    /// A builder for about that many rows.
    pub fn new(kind: Kind, rows: usize) -> Self {
        let text = || StringBuilder::with_capacity(rows, rows * 8);
        let micros = || TimestampMicrosecondBuilder::with_capacity(rows);
        let nanos = || Decimal128Builder::with_capacity(rows).with_data_type(nanos_type());
        let builder = match kind {
            Kind::Boolean => Builder::Boolean(BooleanBuilder::with_capacity(rows)),
            Kind::Int8 => Builder::Int8(Int8Builder::with_capacity(rows)),
            Kind::Int16 => Builder::Int16(Int16Builder::with_capacity(rows)),
            Kind::Int32 => Builder::Int32(Int32Builder::with_capacity(rows)),
            Kind::Int64 => Builder::Int64(Int64Builder::with_capacity(rows)),
            Kind::UInt8 => Builder::UInt8(UInt8Builder::with_capacity(rows)),
            Kind::UInt16 => Builder::UInt16(UInt16Builder::with_capacity(rows)),
            Kind::UInt32 => Builder::UInt32(UInt32Builder::with_capacity(rows)),
            Kind::UInt64 => Builder::UInt64(UInt64Builder::with_capacity(rows)),
            Kind::Float32 => Builder::Float32(Float32Builder::with_capacity(rows)),
            Kind::Float64 => Builder::Float64(Float64Builder::with_capacity(rows)),
            Kind::Decimal { precision, scale } => {
                let typed = Decimal128Builder::with_capacity(rows).with_data_type(crate::data_type(kind));
                Builder::Decimal(typed, precision, scale)
            }
            Kind::DecimalText => Builder::DecimalText(text()),
            Kind::Text | Kind::Json | Kind::EngineText => Builder::Text(text()),
            Kind::Bytes => Builder::Bytes(BinaryBuilder::with_capacity(rows, rows * 8), Vec::new()),
            Kind::Date => Builder::Date(Date32Builder::with_capacity(rows)),
            Kind::Timestamp => Builder::Timestamp(micros()),
            Kind::Instant => Builder::Instant(micros().with_timezone("UTC")),
            Kind::Time => Builder::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            Kind::TimestampNanos => Builder::TimestampNanos(nanos()),
            Kind::InstantNanos => Builder::InstantNanos(nanos()),
            Kind::TimeNanos => Builder::TimeNanos(Time64NanosecondBuilder::with_capacity(rows)),
            Kind::InstantWithOffset => Builder::WithOffset(OffsetInstantBuilder::with_capacity(rows)),
            Kind::Uuid => Builder::Uuid(FixedSizeBinaryBuilder::with_capacity(rows, 16)),
        };
        ColumnParser { builder }
    }

    /// Adds a value. A text that is none of the kind is refused by its class, which completes the sentence
    /// "the value is ...", and adds nothing.
    #[inline]
    pub fn push(&mut self, text: &str) -> Parsed<()> {
        match &mut self.builder {
            Builder::Boolean(builder) => builder.append_value(boolean(text)?),
            Builder::Int8(builder) => builder.append_value(integer(text)?),
            Builder::Int16(builder) => builder.append_value(integer(text)?),
            Builder::Int32(builder) => builder.append_value(integer(text)?),
            Builder::Int64(builder) => builder.append_value(integer(text)?),
            Builder::UInt8(builder) => builder.append_value(integer(text)?),
            Builder::UInt16(builder) => builder.append_value(integer(text)?),
            Builder::UInt32(builder) => builder.append_value(integer(text)?),
            Builder::UInt64(builder) => builder.append_value(integer(text)?),
            Builder::Float32(builder) => builder.append_value(float(text, f32::is_infinite)?),
            Builder::Float64(builder) => builder.append_value(float(text, f64::is_infinite)?),
            Builder::Decimal(builder, precision, scale) => builder.append_value(decimal(text, *precision, *scale)?),
            Builder::DecimalText(builder) => builder.append_value(decimal_text(text)?),
            Builder::Text(builder) => builder.append_value(text),
            Builder::Bytes(builder, scratch) => {
                bytes(text, scratch)?;
                builder.append_value(&scratch);
            }
            Builder::Date(builder) => builder.append_value(date(text)?),
            Builder::Timestamp(builder) => builder.append_value(timestamp(text)?),
            Builder::Instant(builder) => builder.append_value(instant(text)?),
            Builder::Time(builder) => {
                builder.append_value(time::<MICROS>(text.as_bytes(), true).map_err(|class| class.of(NOT_TIME))?)
            }
            Builder::TimestampNanos(builder) => builder.append_value(timestamp_nanos(text)?),
            Builder::InstantNanos(builder) => builder.append_value(instant_nanos(text)?.0),
            Builder::TimeNanos(builder) => {
                builder.append_value(time::<NANOS>(text.as_bytes(), true).map_err(|class| class.of(NOT_TIME))?)
            }
            Builder::WithOffset(builder) => builder.append_value(with_offset(text)?),
            Builder::Uuid(builder) => builder.append_value(uuid(text)?).expect("a UUID has 16 octets"),
        }
        Ok(())
    }

    /// Adds NULL.
    pub fn push_null(&mut self) {
        on_builder!(&mut self.builder, builder => builder.append_null());
    }

    /// Ends the column; the parser is empty afterwards and can be used again.
    pub fn finish(&mut self) -> ArrayRef {
        on_builder!(&mut self.builder, builder => Arc::new(builder.finish()))
    }
}

fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(NOT_BOOLEAN),
    }
}

fn integer<T: std::str::FromStr<Err = std::num::ParseIntError>>(text: &str) -> Parsed<T> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        PosOverflow | NegOverflow => OUT_OF_RANGE,
        _ if text.strip_prefix('-').is_some_and(|digits| digits.parse::<u64>().is_ok()) => OUT_OF_RANGE,
        _ => NOT_INTEGER,
    })
}

/// What Rust reads, except that a finite text beyond the range is not an infinity.
fn float<T: std::str::FromStr + Copy>(text: &str, infinite: fn(T) -> bool) -> Parsed<T> {
    let value: T = text.parse().map_err(|_| NOT_FLOAT)?;
    if infinite(value) && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(OUT_OF_RANGE);
    }
    Ok(value)
}

/// Sign, digits before the point and digits behind it.
fn decimal_parts(text: &str) -> Parsed<(bool, &str, &str)> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !all_digits || (whole.is_empty() && fraction.is_empty()) {
        return Err(NOT_DECIMAL);
    }
    Ok((negative, whole.trim_start_matches('0'), fraction))
}

fn decimal(text: &str, precision: u8, scale: u8) -> Parsed<i128> {
    let scale = usize::from(scale);
    let (negative, whole, fraction) = decimal_parts(text)?;
    let kept = &fraction[..fraction.len().min(scale)];
    if whole.len() + scale > usize::from(precision) || fraction[kept.len()..].bytes().any(|digit| digit != b'0') {
        return Err(TOO_MANY_DIGITS);
    }
    // At most 38 digits: within i128.
    let digits = whole.bytes().chain(kept.bytes()).chain(std::iter::repeat_n(b'0', scale - kept.len()));
    let value = if whole.len() + scale <= 18 {
        i128::from(digits.fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0')))
    } else {
        digits.fold(0_i128, |value, digit| value * 10 + i128::from(digit - b'0'))
    };
    Ok(if negative { -value } else { value })
}

/// Canonical decimal text: no plus sign, no leading zeros, no negative zero, the scale as given.
fn decimal_text(text: &str) -> Parsed<std::borrow::Cow<'_, str>> {
    for name in ["NaN", "Infinity", "-Infinity"] {
        if text.eq_ignore_ascii_case(name) {
            return Ok(name.into());
        }
    }
    let (negative, whole, fraction) = decimal_parts(text)?;
    let zero = whole.is_empty() && fraction.bytes().all(|digit| digit == b'0');
    let sign = if negative && !zero { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    if text.len() == sign.len() + whole.len() + point.len() + fraction.len() && !(negative && zero) {
        return Ok(text.into());
    }
    Ok([sign, whole, point, fraction].concat().into())
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn bytes(text: &str, out: &mut Vec<u8>) -> Parsed<()> {
    out.clear();
    let digits = text.strip_prefix("\\x").ok_or(NOT_BYTES)?.as_bytes();
    if digits.len() % 2 != 0 {
        return Err(NOT_BYTES);
    }
    for pair in digits.chunks_exact(2) {
        let (high, low) = (hex_digit(pair[0]).ok_or(NOT_BYTES)?, hex_digit(pair[1]).ok_or(NOT_BYTES)?);
        out.push(high << 4 | low);
    }
    Ok(())
}

fn uuid(text: &str) -> Parsed<[u8; 16]> {
    let text = text.as_bytes();
    let mut value = [0_u8; 16];
    let dashed = text.len() == 36;
    if !dashed && text.len() != 32 {
        return Err(NOT_UUID);
    }
    let mut at = 0;
    for (index, octet) in value.iter_mut().enumerate() {
        if dashed && matches!(index, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return Err(NOT_UUID);
            }
            at += 1;
        }
        let (high, low) = (hex_digit(text[at]).ok_or(NOT_UUID)?, hex_digit(text[at + 1]).ok_or(NOT_UUID)?);
        *octet = high << 4 | low;
        at += 2;
    }
    Ok(value)
}

/// Why a date or time was refused: as no such thing at all, or by a class of its own.
enum Refused {
    Form,
    Class(&'static str),
}

impl Refused {
    fn of(self, form: &'static str) -> &'static str {
        match self {
            Refused::Form => form,
            Refused::Class(class) => class,
        }
    }
}

fn digits(text: &[u8]) -> Result<i64, Refused> {
    if text.is_empty() || text.len() > 9 {
        return Err(Refused::Form);
    }
    text.iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'9' => Ok(value * 10 + i64::from(byte - b'0')),
        _ => Err(Refused::Form),
    })
}

/// Day number of `YYYY-MM-DD`, years from four digits up.
fn day(text: &[u8], before_christ: bool) -> Result<i64, Refused> {
    let length = text.len();
    if !(10..=13).contains(&length) || text[length - 6] != b'-' || text[length - 3] != b'-' {
        return Err(Refused::Form);
    }
    let shown = digits(&text[..length - 6])?;
    let (month, day) = (digits(&text[length - 5..length - 3])?, digits(&text[length - 2..])?);
    let year = if before_christ { 1 - shown } else { shown };
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => 31,
    };
    if shown == 0 || !(1..=12).contains(&month) || !(1..=last).contains(&day) {
        return Err(Refused::Form);
    }
    let year = year - i64::from(month <= 2);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Ok(year.div_euclid(400) * 146_097 + day_of_era - 719_468)
}

fn infinity(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("infinity") => Some(true),
        _ if text.eq_ignore_ascii_case("-infinity") => Some(false),
        _ => None,
    }
}

fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |rest| (rest, true))
}

fn date(text: &str) -> Parsed<i32> {
    if let Some(positive) = infinity(text) {
        return Ok(if positive { i32::MAX } else { i32::MIN });
    }
    let (text, before_christ) = era(text);
    let days = day(text.as_bytes(), before_christ).map_err(|refused| refused.of(NOT_DATE))?;
    match i32::try_from(days) {
        Ok(days) if days != i32::MAX && days != i32::MIN => Ok(days),
        _ => Err(OUT_OF_RANGE),
    }
}

/// Steps of 10^-DIGITS seconds since midnight of `HH:MM[:SS[.f]]`.
fn time<const DIGITS: usize>(text: &[u8], may_be_24: bool) -> Result<i64, Refused> {
    if text.len() < 5 || text[2] != b':' {
        return Err(Refused::Form);
    }
    let (hours, minutes) = (digits(&text[..2])?, digits(&text[3..5])?);
    let (mut seconds, mut fraction) = (0, 0);
    if text.len() > 5 {
        if text.len() < 8 || text[5] != b':' {
            return Err(Refused::Form);
        }
        seconds = digits(&text[6..8])?;
        if text.len() > 8 {
            if text[8] != b'.' || text.len() == 9 {
                return Err(Refused::Form);
            }
            let behind = &text[9..];
            let kept = &behind[..behind.len().min(DIGITS)];
            fraction = digits(kept)? * 10_i64.pow((DIGITS - kept.len()) as u32);
            let rest = &behind[kept.len()..];
            if !rest.iter().all(u8::is_ascii_digit) {
                return Err(Refused::Form);
            }
            if rest.iter().any(|digit| *digit != b'0') {
                return Err(Refused::Class(if DIGITS == MICROS { TOO_FINE } else { FINER_THAN_NANOS }));
            }
        }
    }
    let of_day = (hours * 3600 + minutes * 60 + seconds) * steps::<DIGITS>() + fraction;
    let day = SECONDS_PER_DAY * steps::<DIGITS>();
    let most = if may_be_24 { day } else { day - 1 };
    if minutes > 59 || seconds > 59 || of_day > most {
        return Err(Refused::Form);
    }
    Ok(of_day)
}

/// Steps of a second.
const fn steps<const DIGITS: usize>() -> i64 {
    10_i64.pow(DIGITS as u32)
}

/// Day and time, a blank or `T` between them; a day alone is its midnight.
fn day_and_time<const DIGITS: usize>(text: &str, before_christ: bool, offset_seconds: i64) -> Result<i128, Refused> {
    let bytes = text.as_bytes();
    let split = bytes.iter().position(|byte| matches!(byte, b' ' | b'T')).unwrap_or(bytes.len());
    let days = day(&bytes[..split], before_christ)?;
    let of_day = if split == bytes.len() { 0 } else { time::<DIGITS>(&bytes[split + 1..], false)? };
    let seconds = i128::from(days) * i128::from(SECONDS_PER_DAY) - i128::from(offset_seconds);
    Ok(seconds * i128::from(steps::<DIGITS>()) + i128::from(of_day))
}

fn in_micros(text: &str, before_christ: bool, offset_seconds: i64) -> Result<i64, Refused> {
    match i64::try_from(day_and_time::<MICROS>(text, before_christ, offset_seconds)?) {
        Ok(total) if total != i64::MAX && total != i64::MIN => Ok(total),
        _ => Err(Refused::Class(OUT_OF_RANGE)),
    }
}

fn timestamp(text: &str) -> Parsed<i64> {
    if let Some(positive) = infinity(text) {
        return Ok(if positive { i64::MAX } else { i64::MIN });
    }
    let (text, before_christ) = era(text);
    in_micros(text, before_christ, 0).map_err(|refused| refused.of(NOT_TIMESTAMP))
}

fn instant(text: &str) -> Parsed<i64> {
    if let Some(positive) = infinity(text) {
        return Ok(if positive { i64::MAX } else { i64::MIN });
    }
    let (text, before_christ) = era(text);
    let (rest, offset) = zone(text)?;
    in_micros(rest, before_christ, offset).map_err(|refused| refused.of(NOT_INSTANT))
}

fn nanos_infinity(text: &str) -> Option<i128> {
    infinity(text).map(|positive| if positive { NANOS_INFINITY } else { -NANOS_INFINITY })
}

fn timestamp_nanos(text: &str) -> Parsed<i128> {
    if let Some(infinity) = nanos_infinity(text) {
        return Ok(infinity);
    }
    let (text, before_christ) = era(text);
    day_and_time::<NANOS>(text, before_christ, 0).map_err(|refused| refused.of(NOT_TIMESTAMP))
}

/// Nanoseconds, and seconds east of UTC.
fn instant_nanos(text: &str) -> Parsed<(i128, i64)> {
    if let Some(infinity) = nanos_infinity(text) {
        return Ok((infinity, 0));
    }
    let (text, before_christ) = era(text);
    let (rest, offset) = zone(text)?;
    let moment = day_and_time::<NANOS>(rest, before_christ, offset).map_err(|refused| refused.of(NOT_INSTANT))?;
    Ok((moment, offset))
}

fn with_offset(text: &str) -> Parsed<(i128, i16)> {
    let (moment, offset) = instant_nanos(text)?;
    if offset % 60 != 0 {
        return Err(NOT_MINUTES);
    }
    // At most 18 hours.
    Ok((moment, (offset / 60) as i16))
}

/// A text without its UTC offset, and the offset in seconds.
fn zone(text: &str) -> Parsed<(&str, i64)> {
    if let Some(rest) = text.strip_suffix('Z') {
        return Ok((rest, 0));
    }
    // The dashes of the day come before the first colon.
    let colon = text.find(':').ok_or(NOT_INSTANT)?;
    let sign = colon + text[colon..].find(['+', '-']).ok_or(NOT_INSTANT)?;
    let offset = utc_offset(&text.as_bytes()[sign..]).map_err(|refused| refused.of(NOT_INSTANT))?;
    // SQL Server writes a blank before it.
    Ok((text[..sign].strip_suffix(' ').unwrap_or(&text[..sign]), offset))
}

/// Seconds east of UTC: `+HH`, `+HHMM`, `+HH:MM` or `+HH:MM:SS`.
fn utc_offset(text: &[u8]) -> Result<i64, Refused> {
    let (hours, minutes, seconds) = match *text {
        [_, ref hours @ ..] if hours.len() == 2 => (digits(hours)?, 0, 0),
        [_, a, b, c, d] => (digits(&[a, b])?, digits(&[c, d])?, 0),
        [_, a, b, b':', c, d] => (digits(&[a, b])?, digits(&[c, d])?, 0),
        [_, a, b, b':', c, d, b':', e, f] => (digits(&[a, b])?, digits(&[c, d])?, digits(&[e, f])?),
        _ => return Err(Refused::Form),
    };
    if hours > 18 || minutes > 59 || seconds > 59 {
        return Err(Refused::Form);
    }
    let total = hours * 3600 + minutes * 60 + seconds;
    Ok(if text[0] == b'-' { -total } else { total })
}
