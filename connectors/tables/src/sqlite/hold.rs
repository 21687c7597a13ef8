//! How a SQLite column holds a column that is to go into it, and what can be promised. Pure. Decimals go into columns
//! that keep text: one of numeric affinity would make floating-point numbers of them.

use dmg_connector::{Column, Holding};
use dmg_protocol::{Kind, Verdict};

use super::target::Affinity;
use super::types::kind as kind_of_type;

/// How the target holds a source column; a table or column yet to be made takes the native type.
pub(super) fn hold(source: &Column, target: Option<&Column>) -> Holding {
    match target {
        None => native(source.kind),
        Some(target) if target.type_name.is_empty() => {
            Holding { type_name: "any type".to_owned(), ..native(source.kind) }
        }
        Some(target) => existing(source.kind, target),
    }
}

/// The best type for a kind.
fn native(kind: Kind) -> Holding {
    match kind {
        Kind::Boolean => Holding::exact(kind, "BOOLEAN"),
        Kind::UInt64 => Holding::exact(Kind::Decimal { precision: 20, scale: 0 }, "DECIMAL_TEXT(20,0)"),
        whole if is_whole(whole) => Holding::exact(Kind::Int64, "INTEGER"),
        Kind::Float32 | Kind::Float64 => real("REAL"),
        Kind::Decimal { precision, scale } => Holding::exact(kind, format!("DECIMAL_TEXT({precision},{scale})")),
        Kind::DecimalText => Holding::exact(kind, "DECIMAL_TEXT"),
        Kind::Bytes => Holding::exact(kind, "BLOB"),
        Kind::Date => Holding::exact(Kind::Text, "DATE"),
        Kind::Timestamp | Kind::TimestampNanos => Holding::exact(Kind::Text, "TIMESTAMP"),
        Kind::Instant | Kind::InstantNanos | Kind::InstantWithOffset => {
            Holding::exact(Kind::Text, "TIMESTAMP WITH TIME ZONE")
        }
        Kind::Time | Kind::TimeNanos => Holding::exact(Kind::Text, "TIME"),
        Kind::Uuid => Holding::exact(Kind::Text, "UUID"),
        _ => Holding::exact(Kind::Text, "TEXT"),
    }
}

fn existing(source: Kind, target: &Column) -> Holding {
    let type_name = target.type_name.as_str();
    let affinity = Affinity::of(type_name);
    let exact = |kind| Holding::exact(kind, type_name);
    let checked = |kind, reason: &str| Holding {
        kind,
        type_name: type_name.to_owned(),
        verdict: Verdict::Checked,
        reason: Some(reason.to_owned()),
    };
    let numbers = matches!(target.kind, Kind::DecimalText) || kind_of_type(type_name).is_none();
    match (target.kind, affinity) {
        (Kind::Float64, _) => real(type_name),
        (_, Affinity::Numeric) if numbers => match source {
            Kind::UInt64 => exact(Kind::Int64),
            whole if is_whole(whole) => exact(Kind::Int64),
            Kind::Float32 | Kind::Float64 => real(type_name),
            Kind::Decimal { .. } | Kind::DecimalText => Holding {
                verdict: Verdict::Lossy,
                reason: Some(format!("SQLite keeps numbers of a {type_name} column as floating point")),
                ..real(type_name)
            },
            _ => checked(Kind::Text, LIKE_NUMBERS),
        },
        (Kind::DecimalText, _) => match source {
            Kind::Decimal { .. } => exact(source),
            whole if is_whole(whole) => exact(Kind::Decimal { precision: 20, scale: 0 }),
            _ => exact(Kind::DecimalText),
        },
        (Kind::Text, Affinity::Numeric) => match source {
            Kind::Date | Kind::Timestamp | Kind::Instant | Kind::Time | Kind::Uuid => exact(Kind::Text),
            Kind::TimestampNanos | Kind::InstantNanos | Kind::TimeNanos | Kind::InstantWithOffset => exact(Kind::Text),
            _ => checked(Kind::Text, LIKE_NUMBERS),
        },
        (kind, _) => exact(kind),
    }
}

const LIKE_NUMBERS: &str = "text that looks like a number would become one";

fn real(type_name: &str) -> Holding {
    Holding {
        kind: Kind::Float64,
        type_name: type_name.to_owned(),
        verdict: Verdict::Checked,
        reason: Some("SQLite has neither NaN nor negative zero".to_owned()),
    }
}

fn is_whole(kind: Kind) -> bool {
    use Kind::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    matches!(kind, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: Kind, type_name: &str) -> Column {
        Column { name: "c".into(), kind, type_name: type_name.into(), nullable: true, key: false }
    }

    #[test]
    fn holdings() {
        for (source, target, kind, verdict) in [
            ("int32", None, "int64", Verdict::Exact),
            ("uint64", None, "decimal(20,0)", Verdict::Exact),
            ("decimal(15,2)", None, "decimal(15,2)", Verdict::Exact),
            ("float64", None, "float64", Verdict::Checked),
            ("date", None, "text", Verdict::Exact),
            ("decimal(15,2)", Some("DECIMAL(15,2)"), "float64", Verdict::Lossy),
            ("int64", Some("DECIMAL(15,2)"), "int64", Verdict::Exact),
            ("decimal(15,2)", Some("DECIMAL_TEXT"), "decimal(15,2)", Verdict::Exact),
            ("decimal(15,2)", Some("DECIMAL_TEXT(10,1)"), "decimal(10,1)", Verdict::Exact),
            ("text", Some("DATE"), "text", Verdict::Checked),
            ("date", Some("DATE"), "text", Verdict::Exact),
            ("int64", Some("odd"), "int64", Verdict::Exact),
            ("bytes", Some(""), "bytes", Verdict::Exact),
        ] {
            let target = target.map(|name| column(kind_of_type(name).unwrap_or(Kind::Text), name));
            let held = hold(&column(source.parse().expect("a kind"), "x"), target.as_ref());
            let name = target.map(|target| target.type_name);
            assert_eq!((held.kind.to_string().as_str(), held.verdict), (kind, verdict), "{source} into {name:?}");
        }
    }
}
