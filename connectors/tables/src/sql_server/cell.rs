//! One value on its way between a driver and Arrow, as SQL Server's protocol counts it, and the calendar between its
//! way of counting and ours. It borrows what it can.

use dmg_connector::NANOS_PER_DAY;

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    U8(u8),
    I16(i16),
    I32(i32),
    I64(i64),
    F32(f32),
    F64(f64),
    /// Text that was Unicode or is now.
    Text(&'a str),
    Xml(&'a str),
    Bytes(&'a [u8]),
    /// RFC order.
    Uuid([u8; 16]),
    /// The value times 10^scale.
    Decimal {
        value: i128,
        scale: u8,
    },
    /// Days since 0001-01-01.
    Date(u32),
    /// Steps of 10^-scale seconds since midnight.
    Time {
        ticks: u64,
        scale: u8,
    },
    DateTime2 {
        days: u32,
        ticks: u64,
        scale: u8,
    },
    /// Day and time in UTC, and the minutes that a reader adds to see local time.
    Offset {
        days: u32,
        ticks: u64,
        scale: u8,
        minutes: i16,
    },
    /// Days since 1900-01-01 and steps of 1/300 second.
    DateTime {
        days: i32,
        ticks: u32,
    },
    /// Days since 1900-01-01 and minutes.
    SmallDateTime {
        days: u16,
        minutes: u16,
    },
}

/// A cell, or a value that owns what a cell only borrows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Cell(Cell<'a>),
    Text(String),
    Bytes(Vec<u8>),
}

/// Days from 0001-01-01 to 1970-01-01.
pub(super) const DAYS_TO_1970: i64 = 719_162;
/// Days from 1900-01-01 to 1970-01-01.
pub(super) const DAYS_1900_TO_1970: i64 = 25_567;
/// The last day: 9999-12-31, since 0001-01-01.
pub(super) const LAST_DAY: i64 = 3_652_058;
/// Microseconds of a day.
pub(super) const DAY: i64 = 86_400_000_000;
/// Nanoseconds of the server's finest step.
pub(super) const NANOS_PER_TICK: i64 = 100;
/// Minutes an offset from UTC may have: fourteen hours.
const OFFSET_MINUTES_MAX: u16 = 840;
/// Steps of 1/300 second of a day.
const DATETIME_TICKS: u32 = 25_920_000;
/// Steps of 100 ns of a day.
pub(super) const DAY_TICKS: i64 = 864_000_000_000;

const TENS: [u64; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// Whether the server has such a value at all: a driver passes on what it is sent, and no date or time may be taken for
/// another one because a number was too large for it.
#[inline]
pub(super) fn possible(cell: Cell<'_>) -> bool {
    let day = |days: i64| (0..=LAST_DAY).contains(&days);
    let time = |ticks, scale| scale <= 7 && in_ticks7(ticks, scale) < DAY_TICKS as u64;
    match cell {
        Cell::Date(days) => day(i64::from(days)),
        Cell::Time { ticks, scale } => time(ticks, scale),
        Cell::DateTime2 { days, ticks, scale } => day(i64::from(days)) && time(ticks, scale),
        Cell::Offset { days, ticks, scale, minutes } => {
            day(i64::from(days)) && time(ticks, scale) && minutes.unsigned_abs() <= OFFSET_MINUTES_MAX
        }
        Cell::DateTime { days, ticks } => {
            day(i64::from(days) + DAYS_TO_1970 - DAYS_1900_TO_1970) && ticks < DATETIME_TICKS
        }
        Cell::SmallDateTime { minutes, .. } => minutes < 1440,
        _ => true,
    }
}

/// Steps of 10^-scale seconds in steps of 100 ns.
#[inline]
pub(super) fn in_ticks7(ticks: u64, scale: u8) -> u64 {
    ticks.saturating_mul(TENS[usize::from(7 - scale.min(7))])
}

/// Microseconds of a time of day; `None` if it is finer.
#[inline]
pub(super) fn in_micros(ticks: u64, scale: u8) -> Option<i64> {
    let ticks = in_ticks7(ticks, scale);
    ticks.is_multiple_of(10).then_some((ticks / 10) as i64)
}

/// Steps of 10^-scale seconds of a time of day in microseconds; `None` if it is finer than that.
#[inline]
pub(super) fn from_micros(micros: i64, scale: u8) -> Option<u64> {
    let ticks = micros as u64 * 10;
    let step = TENS[usize::from(7 - scale.min(7))];
    ticks.is_multiple_of(step).then_some(ticks / step)
}

/// Microseconds since 1970 as day since 0001-01-01 and microseconds of the day, where SQL Server has that day.
#[inline]
pub(super) fn split_micros(micros: i64) -> Option<(u32, i64)> {
    let days = micros.div_euclid(DAY) + DAYS_TO_1970;
    (0..=LAST_DAY).contains(&days).then_some((days as u32, micros.rem_euclid(DAY)))
}

/// Nanoseconds since 1970 as day since 0001-01-01 and nanoseconds of the day, where SQL Server has that day.
#[inline]
pub(super) fn split_nanos(nanos: i128) -> Option<(u32, u64)> {
    let days = nanos.div_euclid(NANOS_PER_DAY) + i128::from(DAYS_TO_1970);
    let inside = (0..=i128::from(LAST_DAY)).contains(&days);
    inside.then_some((days as u32, nanos.rem_euclid(NANOS_PER_DAY) as u64))
}

/// Steps of 10^-scale seconds of a time of day in nanoseconds; `None` if it is finer than that.
#[inline]
pub(super) fn from_nanos(nanos: u64, scale: u8) -> Option<u64> {
    let step = TENS[usize::from(9 - scale.min(7))];
    nanos.is_multiple_of(step).then_some(nanos / step)
}

/// Milliseconds of a day in steps of 1/300 second, as the server itself shows them: 0, 3, 7, 10, ...
pub(super) fn shown_millis(ticks: u32) -> i64 {
    (i64::from(ticks) * 10 + 1) / 3
}

/// Steps of 1/300 second whose shown milliseconds are these; `None` if there is none.
pub(super) fn from_shown_millis(millis: i64) -> Option<u32> {
    let ticks = (millis * 3 + 5) / 10;
    let ticks = u32::try_from(ticks).ok()?;
    (shown_millis(ticks) == millis).then_some(ticks)
}

/// Year, month and day of a day since 0001-01-01.
pub(super) fn civil(days: i64) -> (i64, u32, u32) {
    // Counted from March, so that the leap day is the last of its year.
    let shifted = days + 306;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// Day since 0001-01-01 of a date that exists; `None` for others and beyond the year 9999.
pub(super) fn day_of(year: i64, month: u32, day: u32) -> Option<u32> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let shifted_year = year - i64::from(month <= 2);
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let shifted_month = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let of_year = (153 * shifted_month + 2) / 5 + i64::from(day) - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 306;
    (civil(days) == (year, month, day)).then_some(days as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_goes_there_and_back() {
        for (days, date) in [
            (0, (1, 1, 1)),
            (DAYS_TO_1970, (1970, 1, 1)),
            (DAYS_TO_1970 - DAYS_1900_TO_1970, (1900, 1, 1)),
            (LAST_DAY, (9999, 12, 31)),
            (730_178, (2000, 2, 29)),
            (639_796, (1752, 9, 14)),
        ] {
            assert_eq!(civil(days), date, "{days}");
            assert_eq!(day_of(date.0, date.1, date.2), Some(days as u32), "{date:?}");
        }
        for days in (0..=LAST_DAY).step_by(97) {
            let (year, month, day) = civil(days);
            assert_eq!(day_of(year, month, day), Some(days as u32));
        }
        for (year, month, day) in [(2023, 2, 29), (0, 1, 1), (10_000, 1, 1), (2024, 13, 1), (2024, 4, 31), (2024, 1, 0)]
        {
            assert_eq!(day_of(year, month, day), None, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn what_no_server_has_is_known() {
        let day = DAY_TICKS as u64;
        for (cell, expected) in [
            (Cell::Date(LAST_DAY as u32), true),
            (Cell::Date(LAST_DAY as u32 + 1), false),
            (Cell::Time { ticks: day - 1, scale: 7 }, true),
            (Cell::Time { ticks: day, scale: 7 }, false),
            (Cell::Time { ticks: 86_400, scale: 0 }, false),
            (Cell::Time { ticks: u64::MAX, scale: 0 }, false),
            (Cell::DateTime { days: -53_690, ticks: 25_919_999 }, true),
            (Cell::DateTime { days: 0x0808_0808, ticks: 0 }, false),
            (Cell::DateTime { days: i32::MIN, ticks: 0 }, false),
            (Cell::DateTime { days: 0, ticks: 25_920_000 }, false),
            (Cell::SmallDateTime { days: u16::MAX, minutes: 1439 }, true),
            (Cell::SmallDateTime { days: 0, minutes: 1440 }, false),
            (Cell::Offset { days: 0, ticks: 0, scale: 0, minutes: -840 }, true),
            (Cell::Offset { days: 0, ticks: 0, scale: 0, minutes: i16::MIN }, false),
            (Cell::I32(-1), true),
        ] {
            assert_eq!(possible(cell), expected, "{cell:?}");
        }
    }

    #[test]
    fn steps_of_a_three_hundredth_are_shown_as_the_server_does() {
        for (ticks, millis) in [(0, 0), (1, 3), (2, 7), (3, 10), (299, 997), (300, 1000), (25_919_999, 86_399_997)] {
            assert_eq!(shown_millis(ticks), millis);
            assert_eq!(from_shown_millis(millis), Some(ticks));
        }
        for millis in [1, 2, 4, 5, 6, 8, 9, 999] {
            assert_eq!(from_shown_millis(millis), None, "{millis}");
        }
    }

    #[test]
    fn times_of_each_scale() {
        assert_eq!(in_micros(123, 3), Some(123_000));
        assert_eq!(in_micros(1_234_567, 7), None);
        assert_eq!(in_micros(1_234_560, 7), Some(123_456));
        assert_eq!(from_micros(123_000, 3), Some(123));
        assert_eq!(from_micros(123_400, 3), None);
        assert_eq!(from_micros(123_456, 7), Some(1_234_560));
        assert_eq!(split_micros(0), Some((719_162, 0)));
        assert_eq!(split_micros(-1), Some((719_161, DAY - 1)));
        assert_eq!(split_micros(i64::MAX), None);
        assert_eq!(split_micros(i64::MIN), None);
    }
}
