//! The text of dates and times inside a `sql_variant`: as the server writes them, without the blank before the offset,
//! which it takes just as well. What is written reads back exactly.

use super::cell::{Cell, DAY_TICKS, civil, day_of, in_ticks7};

/// Appends the text; `None` if the cell is no such thing.
pub(super) fn write(cell: Cell<'_>, out: &mut Vec<u8>) -> Option<()> {
    match cell {
        Cell::Date(days) => date(i64::from(days), out),
        Cell::Time { ticks, scale } => time(ticks, scale, out),
        Cell::DateTime2 { days, ticks, scale } => {
            date(i64::from(days), out);
            out.push(b' ');
            time(ticks, scale, out);
        }
        Cell::Offset { days, ticks, scale, minutes } => {
            // The wire says UTC; people read local time.
            let local = in_ticks7(ticks, scale) as i64 + i64::from(minutes) * 600_000_000;
            let days = i64::from(days) + local.div_euclid(DAY_TICKS);
            date(days, out);
            out.push(b' ');
            let step = 10_u64.pow(u32::from(7 - scale.min(7)));
            time(local.rem_euclid(DAY_TICKS) as u64 / step, scale, out);
            let (sign, minutes) = if minutes < 0 { (b'-', -i32::from(minutes)) } else { (b'+', i32::from(minutes)) };
            out.push(sign);
            out.extend_from_slice(format!("{:02}:{:02}", minutes / 60, minutes % 60).as_bytes());
        }
        _ => return None,
    }
    Some(())
}

fn date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    out.extend_from_slice(format!("{year:04}-{month:02}-{day:02}").as_bytes());
}

fn time(ticks: u64, scale: u8, out: &mut Vec<u8>) {
    let scale = scale.min(7);
    let per_second = 10_u64.pow(u32::from(scale));
    let (seconds, fraction) = (ticks / per_second, ticks % per_second);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    out.extend_from_slice(format!("{hours:02}:{minutes:02}:{seconds:02}").as_bytes());
    if scale > 0 {
        out.extend_from_slice(format!(".{fraction:0width$}", width = usize::from(scale)).as_bytes());
    }
}

/// A cell of that scale from text that this module, or the server, wrote. `None` for anything else, and for what the
/// scale would round.
pub(super) fn parse(text: &str, type_name: &str, scale: u8) -> Option<Cell<'static>> {
    match type_name {
        "time" => parse_time(text, scale).map(|ticks| Cell::Time { ticks, scale }),
        "datetime2" => {
            let (date, time) = text.split_at_checked(10)?;
            let time = time.strip_prefix([' ', 'T'])?;
            Some(Cell::DateTime2 { days: parse_date(date)?, ticks: parse_time(time, scale)?, scale })
        }
        "datetimeoffset" => {
            let at = text.len().checked_sub(6)?;
            let (moment, offset) = text.split_at_checked(at)?;
            let minutes = parse_offset(offset)?;
            let (date, time) = moment.trim_end().split_at_checked(10)?;
            let ticks = parse_time(time.strip_prefix([' ', 'T'])?, scale)?;
            let utc = in_ticks7(ticks, scale) as i64 - i64::from(minutes) * 600_000_000;
            let days = i64::from(parse_date(date)?) + utc.div_euclid(DAY_TICKS);
            let step = 10_u64.pow(u32::from(7 - scale));
            let days = u32::try_from(days).ok().filter(|days| i64::from(*days) <= super::cell::LAST_DAY)?;
            Some(Cell::Offset { days, ticks: utc.rem_euclid(DAY_TICKS) as u64 / step, scale, minutes })
        }
        "date" => parse_date(text).map(Cell::Date),
        _ => None,
    }
}

fn number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn parse_date(text: &str) -> Option<u32> {
    let mut fields = text.split('-');
    let (year, month, day) = (fields.next()?, fields.next()?, fields.next()?);
    if (year.len(), month.len(), day.len()) != (4, 2, 2) || fields.next().is_some() {
        return None;
    }
    day_of(i64::from(number(year)?), number(month)?, number(day)?)
}

fn parse_time(text: &str, scale: u8) -> Option<u64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut fields = clock.split(':');
    let (hours, minutes, seconds) = (number(fields.next()?)?, number(fields.next()?)?, number(fields.next()?)?);
    if clock.len() != 8 || fields.next().is_some() || hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    if text.ends_with('.') || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kept = fraction.len().min(usize::from(scale));
    if fraction.as_bytes()[kept..].iter().any(|digit| *digit != b'0') {
        return None;
    }
    let value = if kept == 0 { 0 } else { u64::from(number(&fraction[..kept])?) };
    let value = value * 10_u64.pow(u32::from(scale) - kept as u32);
    Some(u64::from(hours * 3600 + minutes * 60 + seconds) * 10_u64.pow(u32::from(scale)) + value)
}

fn parse_offset(text: &str) -> Option<i16> {
    let (sign, rest) = text.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = (hours * 60 + minutes) as i16;
    match sign {
        "+" if minutes < 60 && total <= 840 => Some(total),
        "-" if minutes < 60 && total <= 840 => Some(-total),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (name, scale, text) in [
            ("time", 7, "23:59:59.9999999"),
            ("time", 0, "00:00:00"),
            ("datetime2", 7, "0001-01-01 00:00:00.0000000"),
            ("datetime2", 7, "9999-12-31 23:59:59.9999999"),
            ("datetime2", 3, "2024-02-29 12:34:56.789"),
            ("datetimeoffset", 7, "2024-02-29 00:30:00.1234567+05:30"),
            ("datetimeoffset", 0, "2024-02-29 23:30:00-14:00"),
            ("datetimeoffset", 2, "1969-12-31 23:59:59.99+00:00"),
        ] {
            let cell = parse(text, name, scale).expect(text);
            let mut out = Vec::new();
            write(cell, &mut out).expect("is one");
            assert_eq!(String::from_utf8(out).expect("text"), text);
        }
        let cell = parse("2024-02-29 00:30:00+05:30", "datetimeoffset", 0).expect("parses");
        assert_eq!(cell, Cell::Offset { days: 738_943, ticks: 19 * 3600, scale: 0, minutes: 330 });
        assert_eq!(parse("2024-02-29 00:30:00 +05:30", "datetimeoffset", 0), Some(cell));
    }

    #[test]
    fn nothing_is_rounded_or_guessed() {
        for (name, scale, text) in [
            ("time", 3, "00:00:00.0001"),
            ("time", 7, "24:00:00"),
            ("time", 7, "1:00:00"),
            ("time", 7, "00:00:00."),
            ("datetime2", 7, "2023-02-29 00:00:00"),
            ("datetime2", 7, "2023-02-28"),
            ("datetime2", 7, "2024-01-01 00:00:00é"),
            ("datetimeoffset", 7, "2024-01-01 00:00:00"),
            ("datetimeoffset", 7, "2024-01-01 00:00:00+15:00"),
            ("datetimeoffset", 7, "0001-01-01 00:00:00+01:00"),
            ("date", 0, "infinity"),
        ] {
            assert_eq!(parse(text, name, scale), None, "{text}");
        }
    }
}
