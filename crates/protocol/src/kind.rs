//! What kind of value a column holds, and what a copy may promise about it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kind of a value, wider than any store. Its Arrow carrier is fixed by `dmg-connector`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// True or false.
    Boolean,
    /// Signed integer of 8 bits.
    Int8,
    /// Signed integer of 16 bits.
    Int16,
    /// Signed integer of 32 bits.
    Int32,
    /// Signed integer of 64 bits.
    Int64,
    /// Unsigned integer of 8 bits.
    UInt8,
    /// Unsigned integer of 16 bits.
    UInt16,
    /// Unsigned integer of 32 bits.
    UInt32,
    /// Unsigned integer of 64 bits.
    UInt64,
    /// IEEE 754 single, with NaN, infinities and negative zero.
    Float32,
    /// IEEE 754 double, with NaN, infinities and negative zero.
    Float64,
    /// Exact decimal with at most 38 digits.
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits behind the point.
        scale: u8,
    },
    /// Any other decimal, NaN and infinities included, as decimal text with its scale kept.
    DecimalText,
    /// Valid UTF-8 text.
    Text,
    /// Octets.
    Bytes,
    /// Days since 1970-01-01; the infinities are the extremes of i32.
    Date,
    /// Microseconds since 1970-01-01 without a zone; the infinities are the extremes of i64.
    Timestamp,
    /// Microseconds since 1970-01-01 UTC; the infinities are the extremes of i64.
    Instant,
    /// Microseconds since midnight, 24:00:00 included.
    Time,
    /// A timestamp finer than microseconds: nanoseconds since 1970-01-01 in 38 digits, wide enough for every year; the
    /// infinities are the extremes of those digits.
    TimestampNanos,
    /// The same since 1970-01-01 UTC.
    InstantNanos,
    /// Nanoseconds since midnight, 24:00:00 included.
    TimeNanos,
    /// An instant in nanoseconds, as [`Kind::InstantNanos`], and the minutes its clock was east of UTC.
    InstantWithOffset,
    /// 16 octets in RFC 9562 order.
    Uuid,
    /// JSON text as the source gave it.
    Json,
    /// The source engine's own text form of a type we do not model; written back by a cast of the same engine.
    EngineText,
}

/// A text that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of value")]
pub struct ParseKindError(pub String);

const PLAIN: [(Kind, &str); 25] = [
    (Kind::Boolean, "boolean"),
    (Kind::Int8, "int8"),
    (Kind::Int16, "int16"),
    (Kind::Int32, "int32"),
    (Kind::Int64, "int64"),
    (Kind::UInt8, "uint8"),
    (Kind::UInt16, "uint16"),
    (Kind::UInt32, "uint32"),
    (Kind::UInt64, "uint64"),
    (Kind::Float32, "float32"),
    (Kind::Float64, "float64"),
    (Kind::DecimalText, "decimal"),
    (Kind::Text, "text"),
    (Kind::Bytes, "bytes"),
    (Kind::Date, "date"),
    (Kind::Timestamp, "timestamp"),
    (Kind::Instant, "instant"),
    (Kind::Time, "time"),
    (Kind::TimestampNanos, "timestamp-nanos"),
    (Kind::InstantNanos, "instant-nanos"),
    (Kind::TimeNanos, "time-nanos"),
    (Kind::InstantWithOffset, "instant-with-offset"),
    (Kind::Uuid, "uuid"),
    (Kind::Json, "json"),
    (Kind::EngineText, "engine-text"),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Kind::Decimal { precision, scale } = self {
            return write!(f, "decimal({precision},{scale})");
        }
        let name = PLAIN.iter().find(|(kind, _)| kind == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Kind {
    type Err = ParseKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseKindError(text.to_owned());
        if let Some((kind, _)) = PLAIN.iter().find(|(_, name)| *name == text) {
            return Ok(*kind);
        }
        let inner = text.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(refuse)?;
        let (precision, scale) = inner.split_once(',').ok_or_else(refuse)?;
        let precision: u8 = precision.parse().map_err(|_| refuse())?;
        let scale: u8 = scale.parse().map_err(|_| refuse())?;
        if precision == 0 || precision > 38 || scale > precision {
            return Err(refuse());
        }
        Ok(Kind::Decimal { precision, scale })
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the plan promises about a column, before the first row moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Cannot differ.
    Exact,
    /// A wider type holds every value.
    Widened,
    /// Exact if every value passes a test at run time; the first that fails stops the copy before the commit.
    Checked,
    /// Values may change. Refused unless the author names the column.
    Lossy,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Exact => "exact",
            Verdict::Widened => "widened",
            Verdict::Checked => "checked",
            Verdict::Lossy => "lossy",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back() {
        let decimal = Kind::Decimal { precision: 38, scale: 10 };
        for kind in PLAIN.iter().map(|(kind, _)| *kind).chain([decimal]) {
            assert_eq!(kind.to_string().parse::<Kind>(), Ok(kind));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "int", "decimal(39,0)", "decimal(3,4)", "decimal(0,0)", "decimal(a,b)", "Decimal"] {
            assert!(text.parse::<Kind>().is_err(), "{text}");
        }
    }
}
