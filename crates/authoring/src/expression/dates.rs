//! Date functions and .NET date formats, in UTC and with English names. Other time zones and cultures are refused by
//! not being there.

use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

use super::functions::{integer, text};

type Outcome = Result<Value, String>;

/// What a date is cut to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Hour,
    Day,
    Month,
}

const ROUND_TRIP: &str = "yyyy-MM-ddTHH:mm:ss.fffffffK";

fn outside() -> String {
    "the date is out of range.".to_owned()
}

/// `utcNow`.
pub(super) fn now(now_micros: Option<i64>, pattern: Option<&Value>) -> Outcome {
    let micros = now_micros.ok_or_else(|| "the time is known only inside a run.".to_owned())?;
    formatted(&from_micros(micros)?, pattern)
}

fn from_micros(micros: i64) -> Result<OffsetDateTime, String> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).map_err(|_| outside())
}

/// The round-trip form of a time: seven decimals and `Z`.
pub(crate) fn round_trip(micros: i64) -> String {
    from_micros(micros).map(|date| write(&date, ROUND_TRIP)).unwrap_or_default()
}

/// `formatDateTime`.
pub(super) fn format(value: &Value, pattern: Option<&Value>) -> Outcome {
    formatted(&parse(text(value)?)?, pattern)
}

/// `addDays` and the like: `seconds` per unit.
pub(super) fn add(a: &[Value], seconds: i64) -> Outcome {
    let span = integer(&a[1])?.checked_mul(seconds).ok_or_else(outside)?;
    let date = parse(text(&a[0])?)?.checked_add(Duration::seconds(span)).ok_or_else(outside)?;
    formatted(&date, a.get(2))
}

/// `startOfDay` and the like.
pub(super) fn start(a: &[Value], unit: Unit) -> Outcome {
    let date = parse(text(&a[0])?)?;
    let hour = if unit == Unit::Hour { date.hour() } else { 0 };
    let day = if unit == Unit::Month { 1 } else { date.day() };
    let cut = Date::from_calendar_date(date.year(), date.month(), day).map_err(|_| outside())?;
    let time = Time::from_hms(hour, 0, 0).map_err(|_| outside())?;
    formatted(&PrimitiveDateTime::new(cut, time).assume_utc(), a.get(1))
}

/// A number out of a date.
pub(super) fn part(value: &Value, of: fn(&OffsetDateTime) -> i64) -> Outcome {
    Ok(Value::from(of(&parse(text(value)?)?)))
}

/// 100 ns steps since 0001-01-01.
pub(super) fn ticks(value: &Value) -> Outcome {
    const UNIX_EPOCH_TICKS: i128 = 621_355_968_000_000_000;
    let date = parse(text(value)?)?;
    let ticks = date.unix_timestamp_nanos() / 100 + UNIX_EPOCH_TICKS;
    i64::try_from(ticks).map(Value::from).map_err(|_| outside())
}

fn formatted(date: &OffsetDateTime, pattern: Option<&Value>) -> Outcome {
    let pattern = match pattern {
        Some(pattern) => text(pattern)?,
        None => "o",
    };
    let mut characters = pattern.chars();
    let custom = match (characters.next(), characters.next()) {
        (Some(standard), None) => {
            standard_pattern(standard).ok_or_else(|| format!("the date format \"{pattern}\" is not known."))?
        }
        (None, _) => ROUND_TRIP,
        _ => pattern,
    };
    Ok(Value::String(write(date, custom)))
}

/// Standard formats of one letter, in the culture en-US.
fn standard_pattern(letter: char) -> Option<&'static str> {
    Some(match letter {
        'd' => "M/d/yyyy",
        'D' => "dddd, MMMM d, yyyy",
        'f' => "dddd, MMMM d, yyyy h:mm tt",
        'F' | 'U' => "dddd, MMMM d, yyyy h:mm:ss tt",
        'g' => "M/d/yyyy h:mm tt",
        'G' => "M/d/yyyy h:mm:ss tt",
        'm' | 'M' => "MMMM d",
        'o' | 'O' => ROUND_TRIP,
        'r' | 'R' => "ddd, dd MMM yyyy HH:mm:ss 'GMT'",
        's' => "yyyy-MM-ddTHH:mm:ss",
        't' => "h:mm tt",
        'T' => "h:mm:ss tt",
        'u' => "yyyy-MM-dd HH:mm:ss'Z'",
        'y' | 'Y' => "MMMM yyyy",
        _ => return None,
    })
}

/// Writes a date by a custom .NET format.
fn write(date: &OffsetDateTime, pattern: &str) -> String {
    let characters: Vec<char> = pattern.chars().collect();
    let mut written = String::new();
    let mut at = 0;
    while at < characters.len() {
        let c = characters[at];
        let run = characters[at..].iter().take_while(|other| **other == c).count();
        let used = match c {
            '\'' | '"' => {
                let inner = characters[at + 1..].iter().take_while(|other| **other != c);
                let text: String = inner.collect();
                let count = text.chars().count();
                written.push_str(&text);
                count + 2
            }
            '\\' => {
                written.extend(characters.get(at + 1));
                2
            }
            '%' => 1,
            _ => {
                written.push_str(&specifier(date, c, run));
                run
            }
        };
        at += used;
    }
    written
}

fn specifier(date: &OffsetDateTime, c: char, run: usize) -> String {
    let padded = |value: i64| if run == 1 { value.to_string() } else { format!("{value:02}") };
    let hour12 = i64::from((date.hour() + 11) % 12 + 1);
    let month = date.month().to_string();
    let weekday = date.weekday().to_string();
    match (c, run) {
        ('d', 1 | 2) => padded(i64::from(date.day())),
        ('d', 3) => weekday[..3].to_owned(),
        ('d', _) => weekday,
        ('M', 1 | 2) => padded(i64::from(u8::from(date.month()))),
        ('M', 3) => month[..3].to_owned(),
        ('M', _) => month,
        ('y', 1 | 2) => padded(i64::from(date.year().rem_euclid(100))),
        ('y', _) => format!("{:0run$}", date.year()),
        ('H', _) => padded(i64::from(date.hour())),
        ('h', _) => padded(hour12),
        ('m', _) => padded(i64::from(date.minute())),
        ('s', _) => padded(i64::from(date.second())),
        ('f', _) => format!("{:09}", date.nanosecond())[..run.min(7)].to_owned(),
        ('F', _) => format!("{:09}", date.nanosecond())[..run.min(7)].trim_end_matches('0').to_owned(),
        ('t', 1) => if date.hour() < 12 { "A" } else { "P" }.to_owned(),
        ('t', _) => if date.hour() < 12 { "AM" } else { "PM" }.to_owned(),
        ('z', 1) => "+0".to_owned(),
        ('z', 2) => "+00".to_owned(),
        ('z', _) => "+00:00".to_owned(),
        ('K', _) => "Z".repeat(run),
        ('g', _) => "A.D.".to_owned(),
        _ => std::iter::repeat_n(c, run).collect(),
    }
}

/// ISO 8601 with or without time and offset, and `M/d/yyyy[ H:mm[:ss][ AM|PM]]`. Without an offset it is UTC.
fn parse(text: &str) -> Result<OffsetDateTime, String> {
    let trimmed = text.trim();
    let found = OffsetDateTime::parse(trimmed, &Rfc3339)
        .ok()
        .map(|date| date.to_offset(UtcOffset::UTC))
        .or_else(|| iso(trimmed))
        .or_else(|| american(trimmed));
    found.ok_or_else(|| format!("\"{trimmed}\" is not a date."))
}

fn iso(text: &str) -> Option<OffsetDateTime> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let mut numbers = date.split('-');
    let (year, month, day) = (numbers.next()?, numbers.next()?, numbers.next()?);
    if numbers.next().is_some() || year.len() != 4 {
        return None;
    }
    combine(year, month, day, clock(time, None)?)
}

fn american(text: &str) -> Option<OffsetDateTime> {
    let (date, time) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    let mut numbers = date.split('/');
    let (month, day, year) = (numbers.next()?, numbers.next()?, numbers.next()?);
    if numbers.next().is_some() {
        return None;
    }
    let (time, half) = match time.rsplit_once(' ') {
        Some((time, half)) => (time, Some(half)),
        None => (time, None),
    };
    combine(year, month, day, clock(time, half)?)
}

fn combine(year: &str, month: &str, day: &str, time: Time) -> Option<OffsetDateTime> {
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

fn clock(text: &str, half: Option<&str>) -> Option<Time> {
    let mut numbers = text.split(':');
    let mut hour: u8 = numbers.next()?.parse().ok()?;
    let minute: u8 = numbers.next()?.parse().ok()?;
    let (second, fraction) = match numbers.next() {
        Some(rest) => rest.split_once('.').unwrap_or((rest, "0")),
        None => ("0", "0"),
    };
    if numbers.next().is_some() || fraction.len() > 9 {
        return None;
    }
    match half.map(str::to_ascii_uppercase).as_deref() {
        None => {}
        Some("AM") if (1..=12).contains(&hour) => hour %= 12,
        Some("PM") if (1..=12).contains(&hour) => hour = hour % 12 + 12,
        Some(_) => return None,
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Time::from_hms_nano(hour, minute, second.parse().ok()?, nanos).ok()
}
