//! What a column of a PostgreSQL table makes of a column that is to go into it, and what can be promised. Pure.

use dmg_connector::{Column, Holding};
use dmg_protocol::{Kind, Verdict};

use super::types::{native, native_kind};

/// How the target holds a source column; a table yet to be created takes the native type.
pub(super) fn hold(source: &Column, target: Option<&Column>) -> Holding {
    let Some(target) = target else {
        return Holding::exact(native_kind(source.kind), native(source.kind, &source.type_name));
    };
    let checked = |kind: Kind, reason: String| Holding {
        kind,
        type_name: target.type_name.clone(),
        verdict: Verdict::Checked,
        reason: Some(reason),
    };
    let exact = |kind: Kind| Holding::exact(kind, target.type_name.clone());
    let same_type = source.type_name == target.type_name;
    match (source.kind, target.kind) {
        (Kind::EngineText, Kind::EngineText) if same_type => exact(Kind::EngineText),
        (_, Kind::EngineText) => {
            let reason = format!("the text must be what {} itself writes", target.type_name);
            checked(Kind::EngineText, reason)
        }
        // A numeric wider than 38 digits or without limits takes numbers as they are, and is read back as they are.
        (Kind::Decimal { .. }, Kind::DecimalText) if target.type_name == "numeric" => exact(source.kind),
        (Kind::Decimal { .. }, Kind::DecimalText) => checked(source.kind, limit(&target.type_name)),
        (kind, Kind::DecimalText) if whole(kind) => exact(Kind::Decimal { precision: 20, scale: 0 }),
        (Kind::DecimalText, Kind::DecimalText) if same_type || target.type_name == "numeric" => {
            exact(Kind::DecimalText)
        }
        (_, Kind::DecimalText) => checked(Kind::DecimalText, limit(&target.type_name)),
        (_, Kind::Json) if target.type_name == "jsonb" && !same_type => {
            checked(Kind::Json, "the text must be what jsonb itself writes".to_owned())
        }
        (_, kind) if same_type || !limited(&target.type_name) => exact(kind),
        (_, kind) => checked(kind, limit(&target.type_name)),
    }
}

fn limit(type_name: &str) -> String {
    format!("every value must fit {type_name} without change")
}

fn whole(kind: Kind) -> bool {
    use Kind::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    matches!(kind, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64)
}

/// Whether the type, or the domain behind the name, may cut, pad or refuse values of its kind. Decimals are not
/// meant: their limits are in the kind.
fn limited(type_name: &str) -> bool {
    const FREE: &[&str] = &[
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "oid",
        "real",
        "double precision",
        "text",
        "character varying",
        "bytea",
        "date",
        "time without time zone",
        "timestamp without time zone",
        "timestamp with time zone",
        "uuid",
        "json",
        "jsonb",
    ];
    !FREE.contains(&type_name) && !type_name.starts_with("numeric(")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: &str, type_name: &str) -> Column {
        let kind = kind.parse().expect("a kind");
        Column { name: "c".into(), kind, type_name: type_name.into(), nullable: true, key: false }
    }

    #[test]
    fn holdings() {
        for (source, target, kind, verdict) in [
            (("int32", "integer"), ("int32", "integer"), "int32", Verdict::Exact),
            (("int64", "bigint"), ("int32", "integer"), "int32", Verdict::Exact),
            (("text", "text"), ("text", "character varying(5)"), "text", Verdict::Checked),
            (("text", "character(5)"), ("text", "character(5)"), "text", Verdict::Exact),
            (("text", "text"), ("text", "text"), "text", Verdict::Exact),
            (("decimal", "numeric"), ("decimal", "numeric"), "decimal", Verdict::Exact),
            (("decimal(10,2)", "numeric(10,2)"), ("decimal", "numeric"), "decimal(10,2)", Verdict::Exact),
            (("decimal", "numeric"), ("decimal", "numeric(60,3)"), "decimal", Verdict::Checked),
            (("int64", "bigint"), ("decimal", "numeric"), "decimal(20,0)", Verdict::Exact),
            (("engine-text", "interval"), ("engine-text", "interval"), "engine-text", Verdict::Exact),
            (("text", "text"), ("engine-text", "interval"), "engine-text", Verdict::Checked),
            (("json", "json"), ("json", "jsonb"), "json", Verdict::Checked),
            (("json", "jsonb"), ("json", "json"), "json", Verdict::Exact),
            (
                ("instant", "timestamp with time zone"),
                ("instant", "timestamp(0) with time zone"),
                "instant",
                Verdict::Checked,
            ),
            (("int32", "integer"), ("int32", "positive"), "int32", Verdict::Checked),
        ] {
            let held = hold(&column(source.0, source.1), Some(&column(target.0, target.1)));
            assert_eq!((held.kind.to_string().as_str(), held.verdict), (kind, verdict), "{source:?} to {target:?}");
        }
    }
}
