//! PostgreSQL's binary numeric, digits in base 10000, to a scaled integer. It never rounds.

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes decimal text the way the server does.
    fn encode(text: &str) -> Vec<u8> {
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
            assert_eq!(decode(&encode(text), precision, scale), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nothing_is_rounded_or_guessed() {
        assert_eq!(decode(&encode("1.005"), 5, 2), Err(Refusal::Digits));
        assert_eq!(decode(&encode("12345678901234567890.005"), 38, 2), Err(Refusal::Digits));
        assert_eq!(decode(&encode("1000"), 5, 2), Err(Refusal::Digits));
        for sign in [0xC000_u16, 0xD000, 0xF000] {
            let mut bytes = encode("0");
            bytes[4..6].copy_from_slice(&sign.to_be_bytes());
            assert_eq!(decode(&bytes, 5, 2), Err(Refusal::NotFinite));
        }
        assert_eq!(decode(&encode("1")[..9], 5, 2), Err(Refusal::Damaged));
        assert_eq!(decode(&[], 5, 2), Err(Refusal::Damaged));
    }
}
