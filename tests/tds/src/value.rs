//! A value as SQLite keeps it, without loss: integers and floats as themselves, decimals and money as exact text, times
//! as text of fixed width, Unicode as WTF-8 (a lone surrogate survives), bytes as bytes, a variant as its wire form.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

/// One value; what it means depends on its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL
    Null,
    /// bit and the integers
    Integer(i64),
    /// real and float
    Float(f64),
    /// text, decimals, money, dates, times, unique identifiers
    Text(Vec<u8>),
    /// binary values, CLR values, row versions, variants
    Bytes(Vec<u8>),
}

impl Value {
    /// Text as a value.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes())
    }

    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Float(number),
            ValueRef::Text(text) => Self::Text(text.to_vec()),
            ValueRef::Blob(bytes) => Self::Bytes(bytes.to_vec()),
        }
    }

    /// The text of a value that has one; numbers are written out.
    pub fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// The number of an integer value.
    pub fn to_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Float(number) => Some(*number as i64),
            Self::Text(text) => {
                let text = std::str::from_utf8(text).ok()?.trim();
                text.split('.').next().and_then(|whole| whole.parse().ok())
            }
            _ => None,
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Float(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// UTF-16 to WTF-8.
pub(crate) fn from_utf16(bytes: &[u8]) -> Vec<u8> {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let mut out = Vec::with_capacity(bytes.len());
    for decoded in char::decode_utf16(units) {
        match decoded {
            Ok(character) => out.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
            Err(lone) => {
                let unit = u32::from(lone.unpaired_surrogate());
                out.extend([0xE0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 0x3F) as u8, 0x80 | (unit & 0x3F) as u8]);
            }
        }
    }
    out
}

/// WTF-8 to UTF-16.
pub(crate) fn to_utf16(bytes: &[u8]) -> Vec<u16> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(text) => {
                out.extend(text.encode_utf16());
                break;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                out.extend(String::from_utf8_lossy(good).encode_utf16());
                let surrogate = bad.len() >= 3 && bad[0] == 0xED && bad[1] >= 0xA0;
                out.push(if surrogate {
                    0xD000 | u16::from(bad[1] & 0x3F) << 6 | u16::from(bad[2] & 0x3F)
                } else {
                    0xFFFD
                });
                rest = &bad[if surrogate { 3 } else { 1 }..];
            }
        }
    }
    out
}

/// Windows-1252, the upper half's first quarter; 0 is undefined there and stands for itself.
const CP1252: [u16; 32] = [
    0x20AC, 0x81, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8D, 0x017D,
    0x8F, 0x90, 0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,
    0x017E, 0x0178,
];

/// Non-Unicode bytes of the wire to text.
pub(crate) fn from_bytes(bytes: &[u8], utf8: bool) -> Vec<u8> {
    if utf8 || bytes.is_ascii() {
        return String::from_utf8_lossy(bytes).into_owned().into_bytes();
    }
    let text: String = bytes
        .iter()
        .map(|byte| match byte {
            0x80..=0x9F => char::from_u32(u32::from(CP1252[usize::from(byte - 0x80)])).expect("a table of characters"),
            other => char::from(*other),
        })
        .collect();
    text.into_bytes()
}

/// Text to non-Unicode bytes; what the code page lacks becomes a question mark, as the server does.
pub(crate) fn to_bytes(text: &[u8], utf8: bool) -> Vec<u8> {
    if utf8 || text.is_ascii() {
        return text.to_vec();
    }
    let mut out = Vec::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        let code = u32::from(character);
        if code < 0x80 || (0xA0..0x100).contains(&code) {
            out.push(code as u8);
        } else if let Some(at) = CP1252.iter().position(|known| u32::from(*known) == code) {
            out.push(0x80 + at as u8);
        } else {
            out.extend(std::iter::repeat_n(b'?', character.len_utf16()));
        }
    }
    out
}

/// An exact number: its digits and how many of them stand after the point.
pub(crate) fn parse_decimal(text: &str) -> Option<(i128, u8)> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mut mantissa, mut scale, mut point, mut any) = (0_i128, 0_u8, false, false);
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => {
                any = true;
                if point && scale == 38 {
                    continue;
                }
                mantissa = mantissa.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
                scale += u8::from(point);
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    any.then_some((if negative { -mantissa } else { mantissa }, scale))
}

pub(crate) fn format_decimal(mantissa: i128, scale: u8) -> String {
    let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if mantissa < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Another scale; half away from zero where digits go.
pub(crate) fn rescale(mantissa: i128, from: u8, to: u8) -> Option<i128> {
    if to >= from {
        return mantissa.checked_mul(10_i128.checked_pow(u32::from(to - from))?);
    }
    let divisor = 10_i128.checked_pow(u32::from(from - to))?;
    let (whole, rest) = (mantissa / divisor, mantissa % divisor);
    let up = rest.abs() >= divisor - rest.abs();
    Some(if up { whole + mantissa.signum() } else { whole })
}

/// Days since 0001-01-01.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 306
}

pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 306;
    let era = z.div_euclid(146_097);
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// The last day there is, 9999-12-31, since 0001-01-01.
pub(crate) const DAYS_MAX: i64 = 3_652_058;
/// 1900-01-01
pub(crate) const DAYS_1900: i64 = 693_595;
/// 1753-01-01, the first day of `datetime`
pub(crate) const DAYS_1753: i64 = 639_905;
/// Steps of 100 ns in a day.
pub(crate) const DAY: i64 = 864_000_000_000;

/// A moment: days since 0001-01-01, steps of 100 ns since midnight, minutes east of Greenwich.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment {
    pub(crate) days: i64,
    pub(crate) ticks: i64,
    pub(crate) offset: i64,
}

impl Moment {
    /// Moves by steps of 100 ns.
    pub(crate) fn plus(self, ticks: i64) -> Self {
        let all = i128::from(self.days) * i128::from(DAY) + i128::from(self.ticks) + i128::from(ticks);
        let day = i128::from(DAY);
        Self { days: all.div_euclid(day) as i64, ticks: all.rem_euclid(day) as i64, offset: self.offset }
    }

    pub(crate) fn date(self) -> String {
        let (year, month, day) = civil_from_days(self.days);
        format!("{year:04}-{month:02}-{day:02}")
    }

    pub(crate) fn time(self, scale: u8) -> String {
        let (seconds, rest) = (self.ticks / 10_000_000, self.ticks % 10_000_000);
        let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        if scale > 0 {
            text.push('.');
            text.push_str(&format!("{rest:07}")[..usize::from(scale.min(7))]);
        }
        text
    }

    /// Rounds the time to a scale.
    pub(crate) fn rounded(self, scale: u8) -> Self {
        let unit = 10_i64.pow(u32::from(7 - scale.min(7)));
        let ticks = (self.ticks + unit / 2) / unit * unit;
        Self { ticks: 0, ..self }.plus(ticks)
    }

    /// How SQLite keeps it: date and time to 100 ns.
    pub(crate) fn stored(self) -> String {
        format!("{} {}", self.date(), self.time(7))
    }

    /// How SQLite keeps a moment with an offset: in universal time, so that text order is order in time.
    pub(crate) fn stored_with_offset(self) -> String {
        format!("{} {:+05}", self.stored(), self.offset)
    }

    /// Reads what is stored, and what people write: dates, times or both, with `T` or a blank, with an offset.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return Some(Self { days: DAYS_1900, ticks: 0, offset: 0 });
        }
        let mut moment = Self { days: DAYS_1900, ticks: 0, offset: 0 };
        let mut rest = text;
        if let Some((days, after)) = parse_date(rest) {
            moment.days = days;
            rest = after;
            if rest.is_empty() {
                return Some(moment);
            }
            rest = rest.strip_prefix('T').or_else(|| rest.strip_prefix(' '))?.trim_start();
        }
        let (ticks, after) = parse_time(rest)?;
        moment.ticks = ticks;
        rest = after.trim_start();
        if rest.is_empty() {
            return Some(moment);
        }
        if rest.eq_ignore_ascii_case("z") {
            return Some(moment);
        }
        let sign = match rest.as_bytes()[0] {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let digits = &rest[1..];
        if digits.len() == 4 && !digits.contains(':') {
            // The stored form: minutes, and the time already universal.
            moment.offset = sign * digits.parse::<i64>().ok()?;
            return Some(moment);
        }
        let (hours, minutes) = digits.split_once(':')?;
        moment.offset = sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?);
        (moment.offset.abs() <= 840).then(|| moment.plus(-moment.offset * 600_000_000))
    }
}

fn number(text: &str, from: usize, to: usize) -> Option<i64> {
    let part = text.get(from..to)?;
    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
}

fn parse_date(text: &str) -> Option<(i64, &str)> {
    let (year, month, day, length) = if text.get(4..5) == Some("-") {
        (number(text, 0, 4)?, number(text, 5, 7)?, number(text, 8, 10)?, 10)
    } else if text.len() >= 8 && number(text, 0, 8).is_some() {
        (number(text, 0, 4)?, number(text, 4, 6)?, number(text, 6, 8)?, 8)
    } else if text.get(2..3) == Some("/") {
        (number(text, 6, 10)?, number(text, 0, 2)?, number(text, 3, 5)?, 10)
    } else {
        return None;
    };
    let days = days_from_civil(year, month, day);
    (year >= 1 && civil_from_days(days) == (year, month, day)).then(|| (days, &text[length..]))
}

fn parse_time(text: &str) -> Option<(i64, &str)> {
    let (hour, minute) = (number(text, 0, 2)?, number(text, 3, 5)?);
    if text.get(2..3) != Some(":") || hour > 23 || minute > 59 {
        return None;
    }
    let mut ticks = (hour * 3600 + minute * 60) * 10_000_000;
    let mut rest = &text[5..];
    if let Some(after) = rest.strip_prefix(':') {
        let second = number(after, 0, 2).filter(|second| *second < 60)?;
        ticks += second * 10_000_000;
        rest = &after[2..];
        if let Some(after) = rest.strip_prefix('.') {
            let count = after.bytes().take_while(u8::is_ascii_digit).count();
            let digits = format!("{:0<7}", &after[..count.min(7)]);
            ticks += digits.parse::<i64>().ok()?;
            // A ninth digit and so on rounds.
            ticks += i64::from(after.as_bytes().get(7).is_some_and(|byte| (b'5'..=b'9').contains(byte)));
            rest = &after[count..];
        }
    }
    Some((ticks, rest))
}

/// A unique identifier's text from the bytes of the wire: the first three groups are little-endian.
pub(crate) fn guid_text(bytes: [u8; 16]) -> String {
    let b = bytes;
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (at, from) in order.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02X}", b[from]));
    }
    text
}

pub(crate) fn guid_bytes(text: &str) -> Option<[u8; 16]> {
    let text = text.trim();
    let text = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(text);
    let well_formed = text.len() >= 36
        && text.is_char_boundary(36)
        && text[..36].char_indices().all(|(at, character)| match at {
            8 | 13 | 18 | 23 => character == '-',
            _ => character.is_ascii_hexdigit(),
        });
    if !well_formed {
        return None;
    }
    let digits: String = text[..36].chars().filter(|character| *character != '-').collect();
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut bytes = [0; 16];
    for (at, to) in order.into_iter().enumerate() {
        bytes[to] = u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(bytes)
}
