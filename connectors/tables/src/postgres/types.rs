//! PostgreSQL's types and the kinds they are: one table. What is not in it travels as the server's own text.

use dmg_protocol::Kind;

/// How a value looks in binary COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Boolean,
    Int16,
    Int32,
    Int64,
    Oid,
    Float32,
    Float64,
    /// Base 10000, to that precision and scale.
    Numeric {
        precision: u8,
        scale: u8,
    },
    Text,
    /// A version byte, then text.
    Jsonb,
    Bytes,
    Date,
    Timestamp,
    Time,
    Uuid,
}

/// How a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) kind: Kind,
    pub(super) form: Form,
    /// Whether the server is asked for its text.
    pub(super) cast: bool,
}

impl Reading {
    const fn binary(kind: Kind, form: Form) -> Self {
        Reading { kind, form, cast: false }
    }

    const fn text(kind: Kind) -> Self {
        Reading { kind, form: Form::Text, cast: true }
    }
}

pub(super) const NUMERIC: u32 = 1700;
pub(super) const BPCHAR: u32 = 1042;
pub(super) const VARCHAR: u32 = 1043;
pub(super) const JSON: u32 = 114;
pub(super) const JSONB: u32 = 3802;

const TYPES: &[(u32, Reading)] = &[
    (16, Reading::binary(Kind::Boolean, Form::Boolean)),
    (17, Reading::binary(Kind::Bytes, Form::Bytes)),
    (19, Reading::binary(Kind::Text, Form::Text)), // name
    (20, Reading::binary(Kind::Int64, Form::Int64)),
    (21, Reading::binary(Kind::Int16, Form::Int16)),
    (23, Reading::binary(Kind::Int32, Form::Int32)),
    (25, Reading::binary(Kind::Text, Form::Text)),
    (26, Reading::binary(Kind::UInt32, Form::Oid)),
    (JSON, Reading::binary(Kind::Json, Form::Text)),
    (700, Reading::binary(Kind::Float32, Form::Float32)),
    (701, Reading::binary(Kind::Float64, Form::Float64)),
    (BPCHAR, Reading::binary(Kind::Text, Form::Text)),
    (VARCHAR, Reading::binary(Kind::Text, Form::Text)),
    (1082, Reading::binary(Kind::Date, Form::Date)),
    (1083, Reading::binary(Kind::Time, Form::Time)),
    (1114, Reading::binary(Kind::Timestamp, Form::Timestamp)),
    (1184, Reading::binary(Kind::Instant, Form::Timestamp)),
    (2950, Reading::binary(Kind::Uuid, Form::Uuid)),
    (JSONB, Reading::binary(Kind::Json, Form::Jsonb)),
];

/// How a column of that type (never a domain) is read by itself.
pub(super) fn reading(type_oid: u32, modifier: i32) -> Reading {
    if type_oid == NUMERIC {
        return match numeric_limits(modifier) {
            Some((precision @ 1..=38, scale @ 0..=38)) if scale <= precision => {
                let (precision, scale) = (precision as u8, scale as u8);
                Reading::binary(Kind::Decimal { precision, scale }, Form::Numeric { precision, scale })
            }
            _ => Reading::text(Kind::DecimalText),
        };
    }
    TYPES.iter().find(|(oid, _)| *oid == type_oid).map_or(Reading::text(Kind::EngineText), |(_, reading)| *reading)
}

/// How a column of that type is read as a planned kind; `None` if no plan of ours could have asked for it.
pub(super) fn reading_as(type_oid: u32, modifier: i32, kind: Kind) -> Option<Reading> {
    let own = reading(type_oid, modifier);
    if own.kind == kind {
        return Some(own);
    }
    match kind {
        Kind::Decimal { precision, scale } if type_oid == NUMERIC => {
            Some(Reading::binary(kind, Form::Numeric { precision, scale }))
        }
        Kind::DecimalText if type_oid == NUMERIC => Some(Reading::text(kind)),
        Kind::EngineText => Some(Reading::text(kind)),
        Kind::Text | Kind::Json if own.form == Form::Text => Some(Reading { kind, ..own }),
        _ => None,
    }
}

/// Precision and scale of a numeric's type modifier; `None` where unconstrained.
pub(super) fn numeric_limits(modifier: i32) -> Option<(i32, i32)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    // The scale is a signed number of 11 bits since version 15; before, it was never negative.
    let scale = ((packed & 0x7ff) ^ 0x400) - 0x400;
    Some(((packed >> 16) & 0xffff, scale))
}

/// The type a created table gets for a kind.
pub(super) fn native(kind: Kind, source_type: &str) -> String {
    match kind {
        Kind::Boolean => "boolean".to_owned(),
        Kind::Int8 | Kind::UInt8 | Kind::Int16 => "smallint".to_owned(),
        Kind::UInt16 | Kind::Int32 => "integer".to_owned(),
        Kind::UInt32 | Kind::Int64 => "bigint".to_owned(),
        Kind::UInt64 => "numeric(20,0)".to_owned(),
        Kind::Float32 => "real".to_owned(),
        Kind::Float64 => "double precision".to_owned(),
        Kind::Decimal { precision, scale } => format!("numeric({precision},{scale})"),
        Kind::DecimalText => "numeric".to_owned(),
        Kind::Text => limited_text(source_type).unwrap_or("text").to_owned(),
        Kind::EngineText | Kind::InstantWithOffset => "text".to_owned(),
        Kind::Bytes => "bytea".to_owned(),
        Kind::Date => "date".to_owned(),
        Kind::Timestamp | Kind::TimestampNanos => "timestamp without time zone".to_owned(),
        Kind::Instant | Kind::InstantNanos => "timestamp with time zone".to_owned(),
        Kind::Time | Kind::TimeNanos => "time without time zone".to_owned(),
        Kind::Uuid => "uuid".to_owned(),
        Kind::Json => if source_type == "jsonb" { "jsonb" } else { "json" }.to_owned(),
    }
}

/// A source type that is one of PostgreSQL's own limited text types, word for word; nothing else may reach a
/// statement.
fn limited_text(source_type: &str) -> Option<&str> {
    let rest = source_type.strip_prefix("character varying(").or_else(|| source_type.strip_prefix("character("))?;
    let digits = rest.strip_suffix(')')?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(source_type)
}

/// The kind a created column of [`native`] type holds.
pub(super) fn native_kind(kind: Kind) -> Kind {
    match kind {
        Kind::Int8 | Kind::UInt8 => Kind::Int16,
        Kind::UInt16 => Kind::Int32,
        Kind::UInt32 => Kind::Int64,
        Kind::UInt64 => Kind::Decimal { precision: 20, scale: 0 },
        // The server's own type with a zone keeps no offset.
        Kind::EngineText | Kind::InstantWithOffset => Kind::Text,
        Kind::TimestampNanos => Kind::Timestamp,
        Kind::InstantNanos => Kind::Instant,
        Kind::TimeNanos => Kind::Time,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_by_their_modifier() {
        let modifier = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        for (modifier, kind) in [
            (-1, "decimal"),
            (modifier(15, 2), "decimal(15,2)"),
            (modifier(38, 10), "decimal(38,10)"),
            (modifier(39, 0), "decimal"),
            (modifier(5, -2), "decimal"),
            (modifier(3, 5), "decimal"),
        ] {
            assert_eq!(reading(NUMERIC, modifier).kind.to_string(), kind);
        }
    }

    #[test]
    fn unknown_types_travel_as_text() {
        for oid in [1186, 1007, 3904, 600, 16_400] {
            assert_eq!(reading(oid, -1), Reading::text(Kind::EngineText), "{oid}");
        }
    }

    #[test]
    fn only_plain_type_names_reach_a_statement() {
        assert_eq!(native(Kind::Text, "character(5)"), "character(5)");
        assert_eq!(native(Kind::Text, "character varying(20)"), "character varying(20)");
        for odd in ["character(5); DROP TABLE t", "character()", "varchar(5)", "character varying(1)) --"] {
            assert_eq!(native(Kind::Text, odd), "text", "{odd}");
        }
    }
}
