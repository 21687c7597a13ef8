//! PostgreSQL's binary numeric, digits in base 10000, to and from scaled integers and decimal text. It never rounds.

use super::decode::Refusal;

const POWERS: [i128; 39] = {
    let mut powers = [1_i128; 39];
    let mut index = 1;
    while index < 39 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// The value times 10^scale, if it has no digit beyond the scale and at most `precision` digits.
#[inline]
pub(super) fn decode(bytes: &[u8], precision: u8, scale: u8) -> Result<i128, Refusal> {
    let (head, digits) = bytes.split_first_chunk::<8>().ok_or(Refusal::Damaged)?;
    let count = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let weight = i32::from(i16::from_be_bytes([head[2], head[3]]));
    let sign = u16::from_be_bytes([head[4], head[5]]);
    if digits.len() != count * 2 {
        return Err(Refusal::Damaged);
    }
    let negative = match sign {
        0x0000 => false,
        0x4000 => true,
        0xC000 | 0xD000 | 0xF000 => return Err(Refusal::NotFinite),
        _ => return Err(Refusal::Damaged),
    };
    if count == 0 {
        return Ok(0);
    }
    // The last digit group stands for units of 10^shift after scaling.
    let shift = (weight - count as i32 + 1) * 4 + i32::from(scale);
    let value = if count <= 4 { small(digits, shift)? } else { large(digits, shift)? };
    if value >= POWERS[usize::from(precision.min(38))] {
        return Err(Refusal::Digits);
    }
    Ok(if negative { -value } else { value })
}

/// Up to four groups: all in 64 bits.
#[inline]
fn small(digits: &[u8], shift: i32) -> Result<i128, Refusal> {
    let mut value = 0_i64;
    for pair in digits.chunks_exact(2) {
        value = value * 10_000 + i64::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    match shift {
        0 => Ok(i128::from(value)),
        1..=18 => Ok(i128::from(value) * POWERS[shift as usize]),
        -18..=-1 => {
            let power = POWERS[-shift as usize] as i64;
            if value % power != 0 {
                return Err(Refusal::Digits);
            }
            Ok(i128::from(value / power))
        }
        _ => large(digits, shift),
    }
}

#[cold]
fn large(digits: &[u8], shift: i32) -> Result<i128, Refusal> {
    let mut groups = digits.chunks_exact(2).map(|pair| i128::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut value = 0_i128;
    if shift >= 0 {
        for group in groups {
            value = value.checked_mul(10_000).and_then(|value| value.checked_add(group)).ok_or(Refusal::Digits)?;
        }
        for _ in 0..shift {
            value = value.checked_mul(10).ok_or(Refusal::Digits)?;
        }
        return Ok(value);
    }
    // Digits beyond the scale must be zeros: whole groups first, then the rest of the group that straddles it.
    let beyond = (-shift) as usize;
    let (whole, rest) = (beyond / 4, (beyond % 4) as u32);
    let kept = (digits.len() / 2).saturating_sub(whole);
    for _ in 0..kept.saturating_sub(1) {
        let group = groups.next().ok_or(Refusal::Damaged)?;
        value = value.checked_mul(10_000).and_then(|value| value.checked_add(group)).ok_or(Refusal::Digits)?;
    }
    if kept > 0 {
        let group = groups.next().ok_or(Refusal::Damaged)?;
        let power = 10_i128.pow(rest);
        if group % power != 0 {
            return Err(Refusal::Digits);
        }
        let factor = 10_000 / power;
        value = value.checked_mul(factor).and_then(|value| value.checked_add(group / power)).ok_or(Refusal::Digits)?;
    }
    if groups.any(|group| group != 0) {
        return Err(Refusal::Digits);
    }
    Ok(value)
}

/// Groups of four digits that 38 digits, cut at the point, can touch.
const GROUPS_MAX: usize = 12;
/// Sign words of the format.
const NEGATIVE: u16 = 0x4000;
const NOT_A_NUMBER: u16 = 0xC000;
const INFINITE: u16 = 0xD000;
const NEGATIVE_INFINITE: u16 = 0xF000;

/// Appends length and value of an integer that stands for itself divided by 10^scale.
#[inline]
pub(super) fn encode(value: i128, scale: u8, out: &mut Vec<u8>) {
    let magnitude = value.unsigned_abs();
    let sign = if value < 0 { NEGATIVE } else { 0 };
    match u64::try_from(magnitude) {
        Ok(small) => encode_small(small, sign, scale, out),
        Err(_) => encode_large(magnitude, sign, scale, out),
    }
}

/// Collects groups from the least significant on; zeros at the end are never stored.
struct Groups {
    groups: [u16; GROUPS_MAX],
    stored: usize,
    seen: usize,
}

impl Groups {
    #[inline]
    fn new() -> Self {
        Groups { groups: [0; GROUPS_MAX], stored: 0, seen: 0 }
    }

    #[inline]
    fn push(&mut self, group: u16) {
        self.seen += 1;
        if group != 0 || self.stored > 0 {
            self.groups[self.stored] = group;
            self.stored += 1;
        }
    }

    #[inline]
    fn write(&self, sign: u16, scale: u8, out: &mut Vec<u8>) {
        let mut bytes = [0_u8; 12 + 2 * GROUPS_MAX];
        let length = 8 + 2 * self.stored;
        let behind_the_point = usize::from(scale).div_ceil(4);
        let weight = if self.stored == 0 { 0 } else { self.seen as i16 - 1 - behind_the_point as i16 };
        bytes[..4].copy_from_slice(&(length as u32).to_be_bytes());
        bytes[4..6].copy_from_slice(&(self.stored as u16).to_be_bytes());
        bytes[6..8].copy_from_slice(&weight.to_be_bytes());
        bytes[8..10].copy_from_slice(&sign.to_be_bytes());
        bytes[10..12].copy_from_slice(&u16::from(scale).to_be_bytes());
        let pairs = bytes[12..].chunks_exact_mut(2);
        for (pair, group) in pairs.zip(self.groups[..self.stored].iter().rev()) {
            pair.copy_from_slice(&group.to_be_bytes());
        }
        out.extend_from_slice(&bytes[..4 + length]);
    }
}

#[inline]
fn encode_small(mut value: u64, sign: u16, scale: u8, out: &mut Vec<u8>) {
    let mut groups = Groups::new();
    // The digits of the last group do not reach its end unless the scale is a multiple of four.
    let odd = u32::from(scale % 4);
    if odd > 0 && value > 0 {
        let power = 10_u64.pow(odd);
        groups.push((value % power * 10_u64.pow(4 - odd)) as u16);
        value /= power;
    }
    while value > 0 {
        groups.push((value % 10_000) as u16);
        value /= 10_000;
    }
    groups.write(sign, scale, out);
}

#[cold]
fn encode_large(mut value: u128, sign: u16, scale: u8, out: &mut Vec<u8>) {
    let mut groups = Groups::new();
    let odd = u32::from(scale % 4);
    if odd > 0 {
        let power = 10_u128.pow(odd);
        groups.push((value % power * 10_u128.pow(4 - odd)) as u16);
        value /= power;
    }
    while value > 0 {
        groups.push((value % 10_000) as u16);
        value /= 10_000;
    }
    groups.write(sign, scale, out);
}

/// Appends length and value of canonical decimal text; `None`, with nothing appended, if it is none.
pub(super) fn encode_text(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let special = match text {
        "NaN" => Some(NOT_A_NUMBER),
        "Infinity" => Some(INFINITE),
        "-Infinity" => Some(NEGATIVE_INFINITE),
        _ => None,
    };
    if let Some(sign) = special {
        out.extend_from_slice(&[0, 0, 0, 8, 0, 0, 0, 0]);
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        return Some(());
    }
    let (sign, digits) = text.strip_prefix('-').map_or((0, text), |rest| (NEGATIVE, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let numeral = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !numeral(whole) || !numeral(fraction) {
        return None;
    }
    let whole_groups = whole.len().div_ceil(4);
    let count = whole_groups + fraction.len().div_ceil(4);
    let (count, weight) = (u16::try_from(count).ok()?, i16::try_from(whole_groups - 1).ok()?);
    let scale = u16::try_from(fraction.len()).ok().filter(|scale| *scale <= 0x3fff)?;
    out.extend_from_slice(&(8 + 2 * u32::from(count)).to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    let group = |digits: &[u8], missing: usize| {
        let value = digits.iter().fold(0_u16, |value, digit| value * 10 + u16::from(digit - b'0'));
        (value * 10_u16.pow(missing as u32)).to_be_bytes()
    };
    let (first, rest) = whole.as_bytes().split_at(whole.len() - (whole_groups - 1) * 4);
    out.extend_from_slice(&group(first, 0));
    rest.chunks_exact(4).for_each(|digits| out.extend_from_slice(&group(digits, 0)));
    fraction.as_bytes().chunks(4).for_each(|digits| out.extend_from_slice(&group(digits, 4 - digits.len())));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes decimal text the way the server does.
    fn as_sent(text: &str) -> Vec<u8> {
        let (sign, text) = text.strip_prefix('-').map_or((0_u16, text), |rest| (0x4000, rest));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let mut digits = "0".repeat((4 - whole.len() % 4) % 4) + whole;
        let mut weight = digits.len() as i16 / 4 - 1;
        digits += fraction;
        digits += &"0".repeat((4 - fraction.len() % 4) % 4);
        let mut groups: Vec<u16> =
            digits.as_bytes().chunks(4).map(|c| std::str::from_utf8(c).unwrap().parse().unwrap()).collect();
        while groups.first() == Some(&0) {
            groups.remove(0);
            weight -= 1;
        }
        while groups.last() == Some(&0) {
            groups.pop();
        }
        let mut bytes = Vec::new();
        bytes.extend((groups.len() as u16).to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend((fraction.len() as u16).to_be_bytes());
        groups.iter().for_each(|group| bytes.extend(group.to_be_bytes()));
        bytes
    }

    #[test]
    fn values() {
        for (text, precision, scale, expected) in [
            ("0", 5, 2, 0),
            ("1", 5, 2, 100),
            ("-1.5", 5, 2, -150),
            ("0.01", 5, 2, 1),
            ("0.0001", 10, 4, 1),
            ("10000", 10, 2, 1_000_000),
            ("12345678.87654321", 16, 8, 1_234_567_887_654_321),
            ("1234567890123456.78", 18, 2, 123_456_789_012_345_678),
            ("9999999999999999999999999999.9999999999", 38, 10, 10_i128.pow(38) - 1),
            ("-99999999999999999999999999999999999999", 38, 0, 1 - 10_i128.pow(38)),
            ("0.00000000000000000000000000000000000001", 38, 38, 1),
            ("100000000000000000000", 38, 0, 10_i128.pow(20)),
        ] {
            assert_eq!(decode(&as_sent(text), precision, scale), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nothing_is_rounded_or_guessed() {
        assert_eq!(decode(&as_sent("1.005"), 5, 2), Err(Refusal::Digits));
        assert_eq!(decode(&as_sent("12345678901234567890.005"), 38, 2), Err(Refusal::Digits));
        assert_eq!(decode(&as_sent("1000"), 5, 2), Err(Refusal::Digits));
        for sign in [0xC000_u16, 0xD000, 0xF000] {
            let mut bytes = as_sent("0");
            bytes[4..6].copy_from_slice(&sign.to_be_bytes());
            assert_eq!(decode(&bytes, 5, 2), Err(Refusal::NotFinite));
        }
        assert_eq!(decode(&as_sent("1")[..9], 5, 2), Err(Refusal::Damaged));
        assert_eq!(decode(&[], 5, 2), Err(Refusal::Damaged));
    }

    #[test]
    fn integers_there_and_back() {
        for scale in [0_u8, 1, 2, 3, 4, 5, 10, 37, 38] {
            for value in [0_i128, 1, -1, 9, 10_000, 99_999, 123_456_789, -1_000_000, i128::from(u64::MAX) + 1] {
                for value in [value, value * 10, 10_i128.pow(38) - 1 - value.abs(), 1 - 10_i128.pow(38) + value.abs()] {
                    let mut bytes = Vec::new();
                    encode(value, scale, &mut bytes);
                    let (length, body) = bytes.split_first_chunk::<4>().expect("a length");
                    assert_eq!(u32::from_be_bytes(*length) as usize, body.len());
                    assert_eq!(decode(body, 38, scale), Ok(value), "{value} with scale {scale}");
                }
            }
        }
    }

    #[test]
    fn texts_as_the_server_sends_them() {
        for text in ["1", "-1.5", "12345678.87654321", "10000", "1234567890123456.78", "-0.10"] {
            let mut bytes = Vec::new();
            encode_text(text, &mut bytes).expect("a number");
            let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len()) as u8;
            assert_eq!(decode(&bytes[4..], 38, scale), decode(&as_sent(text), 38, scale), "{text}");
            assert_eq!(bytes[10..12], u16::from(scale).to_be_bytes(), "the scale of {text}");
        }
        for odd in ["", "-", ".5", "1e5", "+1", "1,5", " 1", "Inf"] {
            assert_eq!(encode_text(odd, &mut Vec::new()), None, "{odd}");
        }
    }
}
