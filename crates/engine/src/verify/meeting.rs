//! The kind in which two kinds are compared, and the way of each into it. Pure. Whatever pair a copy can carry has one;
//! where that takes the author's word, such as which zone a clock showed, the word is asked for and never guessed.

use dmg_protocol::{Kind, Verdict};

use super::align::Align;
use crate::convert::{Conversion, conversion, integer, is_text};
use crate::lossy::lossy;

/// Two kinds side by side.
#[derive(Debug, Clone)]
pub(super) struct Common {
    /// The kind that is told: the values of both are values of it.
    pub(super) kind: Kind,
    /// The kind they are hashed in, which has a form for values that are none of `kind` too.
    pub(super) hashed: Kind,
    pub(super) from: Align,
    pub(super) to: Align,
}

/// Why two kinds have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Apart {
    /// No type holds the values of both.
    Foreign,
    /// One has a zone, the other none; to hand both over as that kind says which.
    Zone(Kind),
}

/// The kind two kinds are compared in without a word of the author.
pub(super) fn common(a: Kind, b: Kind) -> Result<Common, Apart> {
    let both = |kind: Kind| Some(Common { kind, hashed: kind, from: exactly(a, kind)?, to: exactly(b, kind)? });
    if a == b {
        return both(a).ok_or(Apart::Foreign);
    }
    if let (Some(x), Some(y)) = (clock(a), clock(b)) {
        return match (x, y) {
            (Clock::Local, Clock::Local) => both(Kind::TimestampNanos).ok_or(Apart::Foreign),
            // A moment with an offset is compared as the moment it is, as the databases that have such do.
            (Clock::Zoned, Clock::Zoned) => both(Kind::InstantNanos).ok_or(Apart::Foreign),
            _ => Err(Apart::Zone(zoned(a, b))),
        };
    }
    if is_number(a) && is_number(b) {
        return numbers(a, b).or_else(|| as_numbers(a, b)).ok_or(Apart::Foreign);
    }
    let text = |kind| is_text(kind) || kind == Kind::DecimalText;
    let (kind, hashed, same) = (Kind::Text, Kind::Text, Align::SAME);
    let found = match (text(a), text(b)) {
        (true, true) if is_text(a) && is_text(b) => Some(Common { kind, hashed, from: same.clone(), to: same }),
        (true, true) => as_numbers(a, b),
        (true, false) => {
            let to = Align::Convert(Conversion::ToText(b));
            Some(Common { kind, hashed, from: Align::Canonical(b), to })
        }
        (false, true) => {
            let from = Align::Convert(Conversion::ToText(a));
            Some(Common { kind, hashed, from, to: Align::Canonical(a) })
        }
        (false, false) => both(b).or_else(|| both(a)),
    };
    found.ok_or(Apart::Foreign)
}

/// Both handed over as a kind, as a copy would by the author's word; none where it could not.
pub(super) fn handed_over(a: Kind, b: Kind, kind: Kind) -> Option<Common> {
    if kind == Kind::DecimalText {
        return as_numbers(a, b);
    }
    if let (Some(from), Some(to)) = (exactly(a, kind), exactly(b, kind)) {
        return Some(Common { kind, hashed: kind, from, to });
    }
    // A value that cannot be handed over is compared as the text it is.
    let way = |from: Kind| Some(Align::HandOver { from, way: hand_over(from, kind)?, kind });
    Some(Common { kind, hashed: Kind::Text, from: way(a)?, to: way(b)? })
}

/// What a copy does that may lose.
fn hand_over(from: Kind, to: Kind) -> Option<Conversion> {
    match (conversion(from, to), lossy(from, to)) {
        (Some((way, verdict)), losing) => match losing {
            Some((losing, _)) if verdict == Verdict::Checked => Some(Conversion::Lossy(losing)),
            _ => Some(way),
        },
        (None, losing) => losing.map(|(way, _)| Conversion::Lossy(way)),
    }
}

/// Numbers in a kind of numbers that holds all values of both.
fn numbers(a: Kind, b: Kind) -> Option<Common> {
    let both = |kind: Kind| Some(Common { kind, hashed: kind, from: exactly(a, kind)?, to: exactly(b, kind)? });
    let (Some(x), Some(y)) = (digits(a), digits(b)) else {
        return [a, b, Kind::Float64].into_iter().filter(|kind| is_float(*kind)).find_map(both);
    };
    let (whole, scale) = (x.0.max(y.0), x.1.max(y.1));
    let decimal = |kind: Kind| matches!(kind, Kind::Decimal { .. });
    if !decimal(a)
        && !decimal(b)
        && let Some(found) = both(Kind::Int64).or_else(|| both(Kind::UInt64))
    {
        return Some(found);
    }
    both(Kind::Decimal { precision: (whole + scale <= 38).then_some(whole + scale)?, scale })
}

/// Numbers of any size, and texts that may be numbers, in the shortest text that says them exactly.
fn as_numbers(a: Kind, b: Kind) -> Option<Common> {
    let number = |kind: Kind| is_number(kind) || is_text(kind);
    let (kind, hashed) = (Kind::DecimalText, Kind::DecimalText);
    (number(a) && number(b)).then_some(Common { kind, hashed, from: Align::Number(a), to: Align::Number(b) })
}

/// The way into a kind that holds every value.
fn exactly(from: Kind, to: Kind) -> Option<Align> {
    match (from, to) {
        _ if from == to => return Some(Align::SAME),
        // Its two values are those of every number.
        (Kind::Boolean, to) if is_number(to) => {
            return lossy(from, to).map(|(way, _)| Align::Convert(Conversion::Lossy(way)));
        }
        // The moment, without what the clock showed.
        (Kind::InstantWithOffset, Kind::InstantNanos) => {
            return lossy(from, to).map(|(way, _)| Align::Convert(Conversion::Lossy(way)));
        }
        _ => {}
    }
    // Numbers as text keep a scale that says nothing of their value.
    let (way, verdict) = conversion(from, to).filter(|_| to != Kind::DecimalText)?;
    (verdict <= Verdict::Widened).then_some(Align::Convert(way))
}

/// Whether a moment has a zone.
#[derive(Clone, Copy)]
enum Clock {
    Local,
    Zoned,
}

fn clock(kind: Kind) -> Option<Clock> {
    Some(match kind {
        Kind::Date | Kind::Timestamp | Kind::TimestampNanos => Clock::Local,
        Kind::Instant | Kind::InstantNanos | Kind::InstantWithOffset => Clock::Zoned,
        _ => return None,
    })
}

/// The kind of instants that cuts nothing of either.
fn zoned(a: Kind, b: Kind) -> Kind {
    let coarse = |kind| matches!(kind, Kind::Date | Kind::Timestamp | Kind::Instant);
    if coarse(a) && coarse(b) { Kind::Instant } else { Kind::InstantNanos }
}

/// Digits before and behind the point of exact numbers of a bounded size.
fn digits(kind: Kind) -> Option<(u8, u8)> {
    match kind {
        Kind::Boolean => Some((1, 0)),
        Kind::Decimal { precision, scale } => Some((precision - scale, scale)),
        _ => integer(kind).map(|integer| (integer.digits, 0)),
    }
}

pub(super) fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float32 | Kind::Float64)
}

fn is_number(kind: Kind) -> bool {
    digits(kind).is_some() || is_float(kind) || kind == Kind::DecimalText
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, ArrayRef, StringArray};
    use dmg_connector::text_form::{array_to_text, text_to_array};

    use super::*;
    use crate::lossy::Word;

    const KINDS: [&str; 31] = [
        "boolean",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float32",
        "float64",
        "decimal",
        "decimal(1,0)",
        "decimal(10,2)",
        "decimal(20,0)",
        "decimal(38,0)",
        "decimal(38,10)",
        "decimal(38,38)",
        "text",
        "bytes",
        "date",
        "timestamp",
        "instant",
        "time",
        "timestamp-nanos",
        "instant-nanos",
        "time-nanos",
        "instant-with-offset",
        "uuid",
        "json",
        "engine-text",
    ];

    /// Texts of values, awkward ones among them; each kind takes those it can read.
    const VALUES: [&str; 41] = [
        "0",
        "1",
        "-1",
        "7",
        "100",
        "0.5",
        "0.1",
        "1.25",
        "-0",
        "-0.0",
        "1.50",
        "16777217",
        "9007199254740993",
        "9223372036854775807",
        "18446744073709551615",
        "-9223372036854775808",
        "99999999999999999999999999999999999999",
        "0.00000000000000000000000000000000000001",
        "1e300",
        "5e-324",
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "false",
        "2024-02-29",
        "infinity",
        "-infinity",
        "5874897-12-31",
        "0001-01-01",
        "2024-02-29 00:00:00",
        "2024-02-29 12:34:56.123456",
        "2024-02-29 12:34:56.123456789",
        "2024-02-29 12:34:56.123456+00",
        "2024-02-29 12:34:56.123456789+05:30",
        "12:34:56.123456",
        "24:00:00",
        "00:00:00.000000001",
        "6f1f1dc6-50f5-4ec5-8f0c-5c9aa0c5b1a0",
        "\\x6f1f1dc650f54ec58f0c5c9aa0c5b1a0",
        "word",
    ];

    fn kind(text: &str) -> Kind {
        text.parse().expect("a kind")
    }

    fn readable(kind: Kind) -> ArrayRef {
        let reads = |text: &&&str| text_to_array(&StringArray::from(vec![**text]), kind).is_ok();
        let texts: StringArray = VALUES.iter().filter(reads).map(|text| Some(*text)).chain([None]).collect();
        text_to_array(&texts, kind).expect("each was read")
    }

    /// What a copy from one kind to the other brings over, and what became of it.
    fn copied(way: &Conversion, array: &ArrayRef) -> (ArrayRef, ArrayRef) {
        let unfit: Vec<usize> = way.unfit_rows(array).iter().map(|unfit| unfit.row).collect();
        let fits: Vec<usize> = (0..array.len()).filter(|row| !unfit.contains(row)).collect();
        let slices: Vec<ArrayRef> = fits.iter().map(|row| array.slice(*row, 1)).collect();
        let slices: Vec<&dyn Array> = slices.iter().map(AsRef::as_ref).collect();
        let kept = arrow_select::concat::concat(&slices).expect("of one kind");
        let arrived = way.apply(&kept).expect("all fit");
        (kept, arrived)
    }

    fn judge(common: &Common, kept: &ArrayRef, arrived: &ArrayRef, what: &str) {
        let (left, right) =
            (common.from.apply(kept, "c").expect("aligned"), common.to.apply(arrived, "c").expect("aligned"));
        assert_eq!(left.data_type(), &dmg_connector::data_type(common.hashed), "{what}");
        let (left, right) = (array_to_text(&left, common.hashed), array_to_text(&right, common.hashed));
        assert_eq!(left, right, "{what}, compared as {}", common.kind);
    }

    /// Whatever a copy can carry can be compared, and what it carried is equal.
    #[test]
    fn every_pair_a_copy_can_carry() {
        let mut pairs = 0;
        for (from, to) in KINDS.iter().flat_map(|from| KINDS.iter().map(move |to| (kind(from), kind(to)))) {
            let what = format!("{from} to {to}");
            let found = common(from, to);
            if let Some((way, _)) = conversion(from, to) {
                let common = found.clone().unwrap_or_else(|apart| panic!("{what}: {apart:?}"));
                let (kept, arrived) = copied(&way, &readable(from));
                judge(&common, &kept, &arrived, &what);
                // Where the word lets more through, a single is rounded at the digits it shows.
                if lossy(from, to).is_none() {
                    let asked = handed_over(from, to, to).unwrap_or_else(|| panic!("{what} by word"));
                    judge(&asked, &kept, &arrived, &format!("{what} by word"));
                }
                pairs += 1;
            }
            if let Some((way, word)) = lossy(from, to) {
                match found {
                    Ok(_) => {}
                    Err(Apart::Zone(kind)) => assert!(handed_over(from, to, kind).is_some(), "{what} as {kind}"),
                    Err(Apart::Foreign) => panic!("{what}, which takes {word:?}"),
                }
                let (kept, arrived) = copied(&Conversion::Lossy(way), &readable(from));
                let asked = handed_over(from, to, to).unwrap_or_else(|| panic!("{what} by word"));
                judge(&asked, &kept, &arrived, &format!("{what} by word"));
                assert!(matches!(word, Word::Truncation | Word::BooleanAsNumber | Word::Name));
                pairs += 1;
            }
        }
        assert!(pairs > 500, "{pairs} pairs");
    }

    /// No comparison that needs no word ends at a value, and none is looser than it was asked for.
    #[test]
    fn every_value_has_a_form() {
        for (a, b) in KINDS.iter().flat_map(|a| KINDS.iter().map(move |b| (kind(a), kind(b)))) {
            let (Ok(one), other) = (common(a, b), common(b, a)) else { continue };
            assert_eq!(Some(one.kind), other.ok().map(|common| common.kind), "{a} and {b}, either way");
            let aligned = one.from.apply(&readable(a), "c").expect("every value has a form");
            let texts = array_to_text(&aligned, one.hashed);
            let mut different: Vec<&str> = texts.iter().flatten().collect();
            different.sort_unstable();
            different.dedup();
            let own = array_to_text(&readable(a), a);
            let mut own: Vec<&str> = own.iter().flatten().collect();
            own.sort_unstable();
            own.dedup();
            // A scale, an offset and another spelling are no other value.
            let same_values = matches!(a, Kind::DecimalText | Kind::InstantWithOffset) || is_text(a);
            assert!(same_values || different.len() == own.len(), "{a} and {b}: {own:?} became {different:?}");
        }
    }

    #[test]
    fn common_kinds() {
        for (a, b, expected) in [
            ("int32", "int64", "int64"),
            ("uint64", "int64", "decimal(20,0)"),
            ("uint64", "uint8", "uint64"),
            ("boolean", "int16", "int64"),
            ("boolean", "decimal(3,1)", "decimal(3,1)"),
            ("boolean", "float64", "float64"),
            ("boolean", "decimal", "decimal"),
            ("int64", "decimal(10,2)", "decimal(21,2)"),
            ("decimal(10,2)", "decimal(12,4)", "decimal(12,4)"),
            ("decimal(38,0)", "decimal(38,10)", "decimal"),
            ("decimal", "decimal(10,2)", "decimal"),
            ("decimal", "text", "decimal"),
            ("float32", "float64", "float64"),
            ("int16", "float32", "float32"),
            ("int32", "float32", "float64"),
            ("int32", "float64", "float64"),
            ("int64", "float64", "decimal"),
            ("decimal(10,2)", "float64", "decimal"),
            ("decimal", "float32", "decimal"),
            ("date", "timestamp", "timestamp-nanos"),
            ("timestamp", "timestamp-nanos", "timestamp-nanos"),
            ("time", "time-nanos", "time-nanos"),
            ("instant", "instant-nanos", "instant-nanos"),
            ("instant", "instant-with-offset", "instant-nanos"),
            ("instant-with-offset", "text", "text"),
            ("json", "text", "text"),
            ("instant", "text", "text"),
            ("uuid", "bytes", "bytes"),
        ] {
            let found = common(kind(a), kind(b)).map(|common| common.kind);
            assert_eq!(found, Ok(kind(expected)), "{a} and {b}");
        }
        for (a, b, apart) in [
            ("timestamp", "instant", Apart::Zone(Kind::Instant)),
            ("instant-with-offset", "date", Apart::Zone(Kind::InstantNanos)),
            ("timestamp-nanos", "instant", Apart::Zone(Kind::InstantNanos)),
            ("date", "int32", Apart::Foreign),
            ("time", "timestamp", Apart::Foreign),
        ] {
            assert_eq!(common(kind(a), kind(b)).expect_err("nothing in common"), apart, "{a} and {b}");
        }
    }
}
