//! Dates and times by .NET custom formats in a culture, both ways. A text that does not match to its last character,
//! or says something the kind cannot hold, is refused by its class.

use dmg_protocol::{Fault, Kind};

use crate::culture::Culture;

pub(crate) const DAY_MICROS: i64 = 86_400_000_000;
const TOO_FINE: &str = "finer than microseconds";
const NO_MATCH: &str = "not of the given format";
const NO_DATE: &str = "not a date that exists";
/// Two digits of a year up to this one are years from 2000 on.
const TWO_DIGITS_MAX: i64 = 49;

/// A compiled format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
    culture: &'static Culture,
    /// Whether a number of one digit may have two, as in formats of our own choice.
    lenient: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(String),
    Year(usize),
    Month(usize),
    Day(usize),
    Hour(usize),
    HalfHour(usize),
    Minute(usize),
    Second(usize),
    /// Digits of a second; whether ending zeros may be missing.
    Fraction(usize, bool),
    Half(usize),
    Offset(usize),
    /// `K`: an offset or `Z`, or nothing.
    Zone,
}

/// Where a text stands in time.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    hour: i64,
    half_hour: Option<i64>,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    micros: i64,
    offset_minutes: Option<i64>,
}

impl Pattern {
    /// Compiles a format: a custom one, or the letters `d`, `T`, `t`, `s`, `u`, `o`, `G`, `g`.
    pub(crate) fn new(format: &str, culture: &'static Culture) -> Result<Self, Fault> {
        let standard;
        let custom = match format {
            "d" => culture.short_date,
            "T" => culture.long_time,
            "s" => "yyyy-MM-ddTHH:mm:ss",
            "u" => "yyyy-MM-dd HH:mm:ss'Z'",
            "o" | "O" => "yyyy-MM-ddTHH:mm:ss.fffffffK",
            "t" | "g" | "G" => {
                let time = culture.long_time;
                let time = if format == "G" { time.to_owned() } else { time.replace(":ss", "") };
                standard = if format == "t" { time } else { format!("{} {time}", culture.short_date) };
                &standard
            }
            custom => custom,
        };
        let tokens = compile(custom, culture).ok_or_else(|| {
            Fault::new("UserErrorNotSupported", format!("The date format \"{format}\" is not understood."))
                .remedy("Use a custom format such as yyyy-MM-dd HH:mm:ss.")
        })?;
        Ok(Pattern { tokens, culture, lenient: false })
    }

    /// The formats a culture writes dates of a kind in, for texts without a format of their own.
    pub(crate) fn usual(kind: Kind, culture: &'static Culture) -> Vec<Self> {
        let (date, time) = (culture.short_date, culture.long_time);
        let short_time = time.replace(":ss", "");
        let formats = match kind {
            Kind::Date => vec![date.to_owned(), "yyyy-MM-dd".to_owned()],
            Kind::Time => vec![time.to_owned(), short_time, "HH:mm:ss.FFFFFF".to_owned()],
            Kind::Instant => vec![format!("{date} {time} zzz"), "yyyy-MM-ddTHH:mm:ss.FFFFFFK".to_owned()],
            _ => vec![
                format!("{date} {time}"),
                format!("{date} {short_time}"),
                date.to_owned(),
                "yyyy-MM-dd HH:mm:ss.FFFFFF".to_owned(),
                "yyyy-MM-ddTHH:mm:ss.FFFFFF".to_owned(),
                "yyyy-MM-dd".to_owned(),
            ],
        };
        let compiled = formats.iter().filter_map(|format| compile(format, culture));
        compiled.map(|tokens| Pattern { tokens, culture, lenient: true }).collect()
    }

    /// The value of a kind, as its carrier counts: days, or microseconds.
    pub(crate) fn read(&self, text: &str, kind: Kind) -> Result<i64, &'static str> {
        let mut parts = Parts::default();
        let mut rest = text.trim();
        for token in &self.tokens {
            rest = self.token(token, rest, &mut parts)?;
        }
        if !rest.is_empty() {
            return Err(NO_MATCH);
        }
        parts.value(kind)
    }

    fn token<'a>(&self, token: &Token, text: &'a str, parts: &mut Parts) -> Result<&'a str, &'static str> {
        let culture = self.culture;
        let mut rest = text;
        let mut number = |width: usize, max: usize| -> Result<i64, &'static str> {
            let least = if self.lenient && width == 2 { 1 } else { width };
            let digits = text.bytes().take(max).take_while(u8::is_ascii_digit).count();
            if digits < least {
                return Err(NO_MATCH);
            }
            rest = &text[digits..];
            text[..digits].parse().map_err(|_| NO_MATCH)
        };
        match token {
            Token::Literal(literal) => rest = text.strip_prefix(literal.as_str()).ok_or(NO_MATCH)?,
            Token::Year(width) if *width <= 2 => {
                let year = number(*width, 2)?;
                parts.year = Some(if year <= TWO_DIGITS_MAX { 2000 + year } else { 1900 + year });
            }
            Token::Year(width) => parts.year = Some(number(*width, *width)?),
            Token::Month(width) if *width >= 3 => {
                let lists: [&[&str; 12]; 2] = match width {
                    3 => [&culture.short_months, &culture.short_months],
                    _ => [&culture.months_beside_day, &culture.months],
                };
                let (month, left) = name_in(text, lists).ok_or(NO_MATCH)?;
                (parts.month, rest) = (Some(month as i64 + 1), left);
            }
            Token::Month(width) => parts.month = Some(number(*width, 2)?),
            Token::Day(width) if *width >= 3 => {
                let days = if *width == 3 { &culture.short_days } else { &culture.days };
                rest = name_in(text, [days, days]).ok_or(NO_MATCH)?.1;
            }
            Token::Day(width) => parts.day = Some(number(*width, 2)?),
            Token::Hour(width) => parts.hour = number(*width, 2)?,
            Token::HalfHour(width) => parts.half_hour = Some(number(*width, 2)?),
            Token::Minute(width) => parts.minute = number(*width, 2)?,
            Token::Second(width) => parts.second = number(*width, 2)?,
            Token::Fraction(width, optional) => {
                let digits = text.bytes().take(*width).take_while(u8::is_ascii_digit).count();
                if !optional && digits < *width {
                    return Err(NO_MATCH);
                }
                let value: i64 = if digits == 0 { 0 } else { text[..digits].parse().map_err(|_| NO_MATCH)? };
                rest = &text[digits..];
                parts.micros = match digits {
                    0..=6 => value * 10_i64.pow(6 - digits as u32),
                    _ if value % 10_i64.pow(digits as u32 - 6) == 0 => value / 10_i64.pow(digits as u32 - 6),
                    _ => return Err(TOO_FINE),
                };
            }
            Token::Half(width) => {
                let short = |half: &str| if *width == 1 { half.chars().take(1).collect() } else { half.to_owned() };
                let after = strip_name(text, &short(culture.halves[1])).map(|left| (true, left));
                let found = after.or_else(|| strip_name(text, &short(culture.halves[0])).map(|left| (false, left)));
                let (afternoon, left) = found.ok_or(NO_MATCH)?;
                (parts.afternoon, rest) = (Some(afternoon), left);
            }
            Token::Offset(width) => {
                let (offset, left) = offset(text, *width).ok_or(NO_MATCH)?;
                (parts.offset_minutes, rest) = (Some(offset), left);
            }
            Token::Zone => {
                if let Some(left) = text.strip_prefix('Z') {
                    (parts.offset_minutes, rest) = (Some(0), left);
                } else if let Some((offset, left)) = offset(text, 3) {
                    (parts.offset_minutes, rest) = (Some(offset), left);
                }
            }
        }
        Ok(rest)
    }

    /// Writes a value of a kind; infinities have no form.
    pub(crate) fn write(&self, value: i64, kind: Kind) -> Result<String, &'static str> {
        let (days, micros) = match kind {
            Kind::Date if value == i64::from(i32::MAX) || value == i64::from(i32::MIN) => return Err("an infinity"),
            Kind::Date => (value, 0),
            Kind::Time => (0, value),
            _ if value == i64::MAX || value == i64::MIN => return Err("an infinity"),
            _ => (value.div_euclid(DAY_MICROS), value.rem_euclid(DAY_MICROS)),
        };
        let (year, month, day) = civil(days);
        if !(1..=9999).contains(&year) {
            return Err("a year outside 1 to 9999");
        }
        let (hour, minute, second) = (micros / 3_600_000_000, micros / 60_000_000 % 60, micros / 1_000_000 % 60);
        let beside_day = self.tokens.iter().any(|token| matches!(token, Token::Day(1 | 2)));
        let weekday = (days + 4).rem_euclid(7) as usize;
        let culture = self.culture;
        let index = month as usize - 1;
        let mut out = String::new();
        for token in &self.tokens {
            match token {
                Token::Literal(literal) => out.push_str(literal),
                Token::Year(width) if *width <= 2 => out.push_str(&padded(year % 100, *width)),
                Token::Year(width) => out.push_str(&padded(year, *width)),
                Token::Month(3) => out.push_str(culture.short_months[index]),
                Token::Month(width) if *width > 3 && beside_day => out.push_str(culture.months_beside_day[index]),
                Token::Month(width) if *width > 3 => out.push_str(culture.months[index]),
                Token::Month(width) => out.push_str(&padded(month, *width)),
                Token::Day(3) => out.push_str(culture.short_days[weekday]),
                Token::Day(width) if *width > 3 => out.push_str(culture.days[weekday]),
                Token::Day(width) => out.push_str(&padded(day, *width)),
                Token::Hour(width) => out.push_str(&padded(hour, *width)),
                Token::HalfHour(width) => out.push_str(&padded((hour + 11) % 12 + 1, *width)),
                Token::Minute(width) => out.push_str(&padded(minute, *width)),
                Token::Second(width) => out.push_str(&padded(second, *width)),
                Token::Fraction(width, optional) => write_fraction(micros % 1_000_000, *width, *optional, &mut out)?,
                Token::Half(width) => {
                    let half = culture.halves[usize::from(hour >= 12)];
                    out.extend(half.chars().take(if *width == 1 { 1 } else { usize::MAX }));
                }
                Token::Offset(1) => out.push_str("+0"),
                Token::Offset(2) => out.push_str("+00"),
                Token::Offset(_) => out.push_str("+00:00"),
                Token::Zone if kind == Kind::Instant => out.push('Z'),
                Token::Zone => {}
            }
        }
        Ok(out)
    }
}

fn padded(value: i64, width: usize) -> String {
    format!("{value:0width$}")
}

/// Digits a format has no room for must be zero.
fn write_fraction(micros: i64, width: usize, optional: bool, out: &mut String) -> Result<(), &'static str> {
    let digits = format!("{micros:06}0");
    let (kept, cut) = digits.split_at(width.min(7));
    if cut.bytes().any(|digit| digit != b'0') {
        return Err("finer than the format");
    }
    let kept = if optional { kept.trim_end_matches('0') } else { kept };
    if kept.is_empty() && out.ends_with('.') {
        out.pop();
    }
    out.push_str(kept);
    Ok(())
}

/// The longest name a text begins with, without regard to case.
fn name_in<'a, const N: usize>(text: &'a str, lists: [&[&str; N]; 2]) -> Option<(usize, &'a str)> {
    let all = lists.into_iter().flat_map(|list| list.iter().enumerate());
    let mut found: Vec<(usize, &str)> =
        all.filter_map(|(index, name)| strip_name(text, name).map(|left| (index, left))).collect();
    found.sort_by_key(|(_, left)| left.len());
    found.first().copied()
}

fn strip_name<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text.chars();
    for wanted in name.chars() {
        let c = rest.next()?;
        if c != wanted && !c.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
    }
    Some(rest.as_str())
}

/// `+1`, `+01` or `+01:30`, by width.
fn offset(text: &str, width: usize) -> Option<(i64, &str)> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
    if digits == 0 || (width > 1 && digits < 2) {
        return None;
    }
    let hours: i64 = rest[..digits].parse().ok()?;
    let mut rest = &rest[digits..];
    let mut minutes = 0;
    if width > 2 {
        let after = rest.strip_prefix(':')?;
        minutes = after.get(..2)?.parse().ok().filter(|minutes| (0..60).contains(minutes))?;
        rest = &after[2..];
    }
    (hours <= 18).then_some((sign * (hours * 60 + minutes), rest))
}

/// The value of a compiled format, or nothing where it is not understood.
fn compile(format: &str, culture: &'static Culture) -> Option<Vec<Token>> {
    let mut tokens: Vec<Token> = Vec::new();
    let literal = |tokens: &mut Vec<Token>, text: &str| match tokens.last_mut() {
        Some(Token::Literal(last)) => last.push_str(text),
        _ => tokens.push(Token::Literal(text.to_owned())),
    };
    let characters: Vec<char> = format.chars().collect();
    let mut at = 0;
    while at < characters.len() {
        let c = characters[at];
        let run = characters[at..].iter().take_while(|other| **other == c).count();
        let mut used = run;
        match c {
            'y' => tokens.push(Token::Year(if run == 3 { 4 } else { run.min(4) })),
            'M' => tokens.push(Token::Month(run.min(4))),
            'd' => tokens.push(Token::Day(run.min(4))),
            'H' => tokens.push(Token::Hour(run.min(2))),
            'h' => tokens.push(Token::HalfHour(run.min(2))),
            'm' => tokens.push(Token::Minute(run.min(2))),
            's' => tokens.push(Token::Second(run.min(2))),
            'f' | 'F' if run <= 7 => tokens.push(Token::Fraction(run, c == 'F')),
            't' => tokens.push(Token::Half(run.min(2))),
            'z' => tokens.push(Token::Offset(run.min(3))),
            'K' => tokens.extend(std::iter::repeat_n(Token::Zone, run)),
            '/' => literal(&mut tokens, &culture.date_separator.repeat(run)),
            '\'' | '"' => {
                let end = characters[at + 1..].iter().position(|other| *other == c)?;
                let text: String = characters[at + 1..at + 1 + end].iter().collect();
                literal(&mut tokens, &text);
                used = end + 2;
            }
            '\\' => {
                literal(&mut tokens, &characters.get(at + 1)?.to_string());
                used = 2;
            }
            '%' => used = 1,
            'f' | 'F' | 'g' => return None,
            other => literal(&mut tokens, &other.to_string().repeat(run)),
        }
        at += used;
    }
    let says_something = tokens.iter().any(|token| !matches!(token, Token::Literal(_)));
    says_something.then_some(tokens)
}

impl Parts {
    fn value(&self, kind: Kind) -> Result<i64, &'static str> {
        let hour = match (self.half_hour, self.afternoon) {
            (Some(hour), _) if !(1..=12).contains(&hour) => return Err(NO_DATE),
            (Some(hour), Some(true)) => hour % 12 + 12,
            (Some(hour), _) => hour % 12,
            (None, _) => self.hour,
        };
        if !(0..=23).contains(&hour) || self.minute > 59 || self.second > 59 {
            return Err(NO_DATE);
        }
        let micros = ((hour * 60 + self.minute) * 60 + self.second) * 1_000_000 + self.micros;
        if kind == Kind::Time {
            return Ok(micros);
        }
        let days = match (self.year, self.month.unwrap_or(1), self.day.unwrap_or(1)) {
            (Some(year), month, day) => days_of(year, month, day).ok_or(NO_DATE)?,
            _ => return Err("a date without a year"),
        };
        match kind {
            Kind::Date if micros != 0 => Err("a date with a time of day"),
            Kind::Date => Ok(days),
            Kind::Instant => match self.offset_minutes {
                Some(offset) => Ok(days * DAY_MICROS + micros - offset * 60_000_000),
                None => Err("a time without a UTC offset"),
            },
            _ if self.offset_minutes.is_some_and(|offset| offset != 0) => Err("a time with a UTC offset"),
            _ => Ok(days * DAY_MICROS + micros),
        }
    }
}

/// Days since 1970-01-01; `None` where there is no such day.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=last).contains(&day) || year < 1 {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    Some(
        year.div_euclid(400) * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year
            - 719_468,
    )
}

/// Year, month and day of a day number since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::culture::culture;

    fn read(format: &str, name: &str, kind: Kind, text: &str) -> Result<i64, &'static str> {
        Pattern::new(format, culture(Some(name)).expect("known")).expect("compiles").read(text, kind)
    }

    #[test]
    fn reading() {
        let day = |y, m, d| Ok(days_of(y, m, d).expect("a day"));
        for (format, name, kind, text, expected) in [
            ("dd/MM/yyyy", "", Kind::Date, "29/02/2024", day(2024, 2, 29)),
            ("dd/MM/yyyy", "de-de", Kind::Date, "29.02.2024", day(2024, 2, 29)),
            ("dd/MM/yyyy", "", Kind::Date, "29/02/2023", Err(NO_DATE)),
            ("dd/MM/yyyy", "", Kind::Date, "29/2/2024", Err(NO_MATCH)),
            ("d/M/yy", "", Kind::Date, "9/2/49", day(2049, 2, 9)),
            ("d/M/yy", "", Kind::Date, "09/12/50", day(1950, 12, 9)),
            ("d MMMM yyyy", "fr-fr", Kind::Date, "1 août 2024", day(2024, 8, 1)),
            ("d MMMM yyyy", "ru-ru", Kind::Date, "1 марта 2024", day(2024, 3, 1)),
            ("d MMM yyyy", "de-de", Kind::Date, "1 mär 2024", day(2024, 3, 1)),
            ("dddd, d MMMM yyyy", "nl-nl", Kind::Date, "vrijdag, 1 maart 2024", day(2024, 3, 1)),
            ("yyyyMMddHHmmss", "", Kind::Date, "20240229120000", Err("a date with a time of day")),
            ("h:mm tt", "en-us", Kind::Time, "12:30 AM", Ok(1_800_000_000)),
            ("h:mm tt", "en-us", Kind::Time, "1:30 PM", Ok(48_600_000_000)),
            ("HH:mm:ss.fffffff", "", Kind::Time, "00:00:00.1234560", Ok(123_456)),
            ("HH:mm:ss.fffffff", "", Kind::Time, "00:00:00.1234567", Err(TOO_FINE)),
            ("HH:mm:ss.FFF", "", Kind::Time, "00:00:00.5", Ok(500_000)),
            ("yyyy-MM-dd HH:mm zzz", "", Kind::Instant, "1970-01-01 01:00 +01:00", Ok(0)),
            ("o", "", Kind::Instant, "1970-01-01T00:00:01.0000000Z", Ok(1_000_000)),
            ("s", "", Kind::Instant, "1970-01-01T00:00:01", Err("a time without a UTC offset")),
            ("s", "", Kind::Timestamp, "1970-01-01T00:00:01 ", Ok(1_000_000)),
            ("s", "", Kind::Timestamp, "1970-01-01T00:00:01x", Err(NO_MATCH)),
        ] {
            assert_eq!(read(format, name, kind, text), expected, "{text} by {format} in {name:?}");
        }
    }

    #[test]
    fn writing_reads_back() {
        let moment = days_of(2024, 3, 1).expect("a day") * DAY_MICROS + 48_605_500_000;
        for (format, name, expected) in [
            ("dd/MM/yyyy HH:mm:ss.fff", "de-de", "01.03.2024 13:30:05.500"),
            ("d MMMM yyyy 'at' h:mm:ss.F tt", "en-us", "1 March 2024 at 1:30:05.5 PM"),
            ("d MMMM yyyy HH:mm:ss.f", "ru-ru", "1 марта 2024 13:30:05.5"),
            ("ddd dd MMM yy HH:mm:ss.f", "fr-fr", "ven. 01 mars 24 13:30:05.5"),
        ] {
            let pattern = Pattern::new(format, culture(Some(name)).expect("known")).expect("compiles");
            assert_eq!(pattern.write(moment, Kind::Timestamp).as_deref(), Ok(expected), "{format}");
            assert_eq!(pattern.read(expected, Kind::Timestamp), Ok(moment), "{format}");
        }
        let alone = Pattern::new("MMMM yyyy", culture(Some("ru-ru")).expect("known")).expect("compiles");
        assert_eq!(alone.write(moment, Kind::Timestamp).as_deref(), Ok("март 2024"));
        assert!(Pattern::new("ffffffff", culture(None).expect("known")).is_err());
        assert!(Pattern::new("'x'", culture(None).expect("known")).is_err());
    }
}
