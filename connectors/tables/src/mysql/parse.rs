//! Texts of numbers, dates and times as the server writes them, to values, without an allocation. What is not as the
//! server writes it is an error, never a guess.

use super::decode::Refusal;

type Parsed<T> = Result<T, Refusal>;

pub(super) const MICROS_PER_DAY: i64 = 86_400_000_000;

const POWERS: [i128; 39] = {
    let mut powers = [1_i128; 39];
    let mut index = 1;
    while index < 39 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// Digits only, at most 19 of them.
#[inline]
fn small(digits: &[u8]) -> Parsed<u64> {
    let mut value = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Refusal::Damaged);
        }
        value = value * 10 + u64::from(digit);
    }
    Ok(value)
}

/// A whole number without a sign.
#[inline]
pub(super) fn unsigned(text: &[u8]) -> Parsed<u64> {
    match text.len() {
        0 => Err(Refusal::Damaged),
        1..=19 => small(text),
        // Leading zeros fill up to any width.
        _ => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Refusal::Range),
    }
}

/// A whole number.
#[inline]
pub(super) fn signed(text: &[u8]) -> Parsed<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    if (1..=18).contains(&digits.len()) {
        let value = small(digits)? as i64;
        return Ok(if negative { -value } else { value });
    }
    let value = i128::from(unsigned(digits)?);
    i64::try_from(if negative { -value } else { value }).map_err(|_| Refusal::Range)
}

/// A decimal as a whole number of units of its scale.
#[inline]
pub(super) fn decimal(text: &[u8], precision: u8, scale: u8) -> Parsed<i128> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, text),
    };
    let scale = usize::from(scale);
    // The server writes as many digits behind the point as the type has.
    let point = match digits.len().checked_sub(scale + 1) {
        Some(at) if scale > 0 && digits[at] == b'.' => at,
        _ => digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len()),
    };
    let (whole, fraction) = (&digits[..point], digits.get(point + 1..).unwrap_or(&[]));
    if whole.is_empty() && fraction.is_empty() {
        return Err(Refusal::Damaged);
    }
    let kept = &fraction[..fraction.len().min(scale)];
    if fraction[kept.len()..].iter().any(|byte| *byte != b'0') {
        return Err(Refusal::Digits);
    }
    let value = if whole.len() + kept.len() <= 18 {
        i128::from(small(whole)? * POWERS[kept.len()] as u64 + small(kept)?)
    } else {
        let whole = &whole[whole.iter().position(|byte| *byte != b'0').unwrap_or(whole.len())..];
        if whole.len() + kept.len() > 38 {
            return Err(Refusal::Digits);
        }
        let mut value = 0_i128;
        for byte in whole.iter().chain(kept) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(Refusal::Damaged);
            }
            value = value * 10 + i128::from(digit);
        }
        value
    };
    let missing = scale - kept.len();
    let value = if missing > 0 { value.checked_mul(POWERS[missing]).ok_or(Refusal::Digits)? } else { value };
    if value >= POWERS[usize::from(precision.min(38))] {
        return Err(Refusal::Digits);
    }
    Ok(if negative { -value } else { value })
}

/// Exactly so many digits.
#[inline]
fn fixed<const N: usize>(text: &[u8], at: usize) -> Parsed<i64> {
    let digits = text.get(at..at + N).ok_or(Refusal::Damaged)?;
    Ok(small(digits)? as i64)
}

/// Days since 1970-01-01 of a day in the proleptic Gregorian calendar.
#[inline]
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `2024-02-29`. A zero in any place is no date.
#[inline]
pub(super) fn date(text: &[u8]) -> Parsed<i64> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return Err(Refusal::Damaged);
    }
    let (year, month, day) = (fixed::<4>(text, 0)?, fixed::<2>(text, 5)?, fixed::<2>(text, 8)?);
    if month == 0 || day == 0 {
        return Err(Refusal::ZeroDate);
    }
    let longest = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        1..=12 => 31,
        _ => return Err(Refusal::Damaged),
    };
    if day > longest {
        return Err(Refusal::ZeroDate);
    }
    Ok(days(year, month, day))
}

/// Microseconds of `.5` or `.123456`, or of nothing.
#[inline]
fn fraction(text: &[u8]) -> Parsed<i64> {
    match text.split_first() {
        None => Ok(0),
        Some((b'.', digits)) if (1..=6).contains(&digits.len()) => {
            Ok(small(digits)? as i64 * POWERS[6 - digits.len()] as i64)
        }
        Some(_) => Err(Refusal::Damaged),
    }
}

/// `2024-02-29 12:34:56.789`, in microseconds since 1970.
#[inline]
pub(super) fn moment(text: &[u8]) -> Parsed<i64> {
    if text.len() < 19 || text[10] != b' ' || text[13] != b':' || text[16] != b':' {
        return Err(Refusal::Damaged);
    }
    let day = date(&text[..10])?;
    let seconds = fixed::<2>(text, 11)? * 3600 + fixed::<2>(text, 14)? * 60 + fixed::<2>(text, 17)?;
    Ok(day * MICROS_PER_DAY + seconds * 1_000_000 + fraction(&text[19..])?)
}

/// `12:34:56.789`, in microseconds; up to 24 hours.
#[inline]
pub(super) fn time(text: &[u8]) -> Parsed<i64> {
    if text.first() == Some(&b'-') {
        return Err(Refusal::LongTime);
    }
    let colon = text.iter().position(|byte| *byte == b':').ok_or(Refusal::Damaged)?;
    if !(2..=3).contains(&colon) || text.get(colon + 3) != Some(&b':') {
        return Err(Refusal::Damaged);
    }
    let seconds =
        small(&text[..colon])? as i64 * 3600 + fixed::<2>(text, colon + 1)? * 60 + fixed::<2>(text, colon + 4)?;
    let micros = seconds * 1_000_000 + fraction(&text[colon + 6..])?;
    if micros > MICROS_PER_DAY { Err(Refusal::LongTime) } else { Ok(micros) }
}

/// `01234567-89ab-cdef-0123-456789abcdef`.
pub(super) fn uuid(text: &[u8]) -> Parsed<[u8; 16]> {
    if text.len() != 36 || [8, 13, 18, 23].iter().any(|at| text[*at] != b'-') {
        return Err(Refusal::Damaged);
    }
    let mut out = [0; 16];
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    for byte in &mut out {
        for _ in 0..2 {
            let digit = digits.next().and_then(|digit| char::from(*digit).to_digit(16)).ok_or(Refusal::Damaged)?;
            *byte = *byte << 4 | digit as u8;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        assert_eq!(signed(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(signed(b"9223372036854775807"), Ok(i64::MAX));
        assert_eq!(unsigned(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(unsigned(b"00000000000000000000000007"), Ok(7));
        assert_eq!(unsigned(b"18446744073709551616"), Err(Refusal::Range));
        assert_eq!(signed(b"9223372036854775808"), Err(Refusal::Range));
        for odd in [&b""[..], b"-", b"1x", b"1.0"] {
            assert_eq!(signed(odd), Err(Refusal::Damaged), "{odd:?}");
        }
    }

    #[test]
    fn decimals() {
        for (text, precision, scale, expected) in [
            ("0.00", 15, 2, Ok(0)),
            ("-0.01", 15, 2, Ok(-1)),
            ("123.4", 15, 2, Ok(12_340)),
            ("9999999999999.99", 15, 2, Ok(999_999_999_999_999)),
            ("99999999999999999999999999999999999999", 38, 0, Ok(POWERS[38 - 1] * 10 - 1)),
            (
                "-1234567890123456789012345678.0123456789",
                38,
                10,
                Ok(-12_345_678_901_234_567_890_123_456_780_123_456_789),
            ),
            ("0001.50", 5, 2, Ok(150)),
            ("1.005", 5, 2, Err(Refusal::Digits)),
            ("1000", 3, 0, Err(Refusal::Digits)),
            ("", 3, 0, Err(Refusal::Damaged)),
            ("1e5", 9, 0, Err(Refusal::Damaged)),
        ] {
            assert_eq!(decimal(text.as_bytes(), precision, scale), expected, "{text}");
        }
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(date(b"1970-01-01"), Ok(0));
        assert_eq!(date(b"2024-02-29"), Ok(19_782));
        assert_eq!(date(b"0000-01-01"), Ok(-719_528));
        for zero in ["0000-00-00", "2024-00-10", "2024-01-00", "2023-02-29", "2024-04-31"] {
            assert_eq!(date(zero.as_bytes()), Err(Refusal::ZeroDate), "{zero}");
        }
        assert_eq!(moment(b"1970-01-01 00:00:01.5"), Ok(1_500_000));
        assert_eq!(moment(b"9999-12-31 23:59:59.999999"), Ok(253_402_300_799_999_999));
        assert_eq!(moment(b"0000-00-00 00:00:00"), Err(Refusal::ZeroDate));
        assert_eq!(time(b"23:59:59.000001"), Ok(86_399_000_001));
        assert_eq!(time(b"24:00:00"), Ok(MICROS_PER_DAY));
        for long in ["24:00:01", "838:59:59", "-00:00:01"] {
            assert_eq!(time(long.as_bytes()), Err(Refusal::LongTime), "{long}");
        }
        assert_eq!(time(b"1:2"), Err(Refusal::Damaged));
    }
}
