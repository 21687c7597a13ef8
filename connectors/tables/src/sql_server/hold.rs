//! What a column of a SQL Server table makes of a column that is to go into it, and what can be promised. Pure.

use dmg_connector::{Column, Holding};
use dmg_protocol::{Kind, Verdict};

use super::types::{Native, native, native_kind};

/// Types whose name no other engine uses for anything else: the same name on both sides means the same values.
const OWN: &[&str] = &[
    "nchar",
    "nvarchar",
    "binary",
    "varbinary",
    "float",
    "money",
    "smallmoney",
    "smalldatetime",
    "datetime2",
    "datetimeoffset",
    "rowversion",
    "sql_variant",
    "hierarchyid",
    "geography",
    "geometry",
];

/// How the target holds a source column; a table yet to be created takes the native type.
pub(super) fn hold(source: &Column, target: Option<&Column>) -> Holding {
    let Some(target) = target else {
        let kind = native_kind(source.kind, &source.type_name);
        let type_name = native(source.kind, &source.type_name);
        let fine = source.kind == Kind::TimeNanos;
        if source.type_name == type_name && (fine || OWN.contains(&Native::parse(&type_name).name.as_str())) {
            return Holding::exact(kind, type_name);
        }
        return promised(kind, type_name, limits_of_kind(kind));
    };
    let name = &target.type_name;
    let base = Native::parse(name).name;
    if source.type_name == *name && source.kind == target.kind && OWN.contains(&base.as_str()) {
        return Holding::exact(target.kind, name.clone());
    }
    match (source.kind, base.as_str()) {
        (Kind::Timestamp, "datetime2") => promised(Kind::Timestamp, name.clone(), limits(name, Kind::Timestamp)),
        (Kind::Time, "time") => promised(Kind::Time, name.clone(), limits(name, Kind::Time)),
        (kind @ (Kind::Instant | Kind::InstantNanos), "datetimeoffset") => {
            promised(kind, name.clone(), limits(name, kind))
        }
        (_, _) if target.kind == Kind::EngineText => {
            let reason = format!("the text must be what {name} itself writes");
            promised(Kind::EngineText, name.clone(), Some(reason))
        }
        (_, _) => promised(target.kind, name.clone(), limits(name, target.kind)),
    }
}

fn promised(kind: Kind, type_name: String, reason: Option<String>) -> Holding {
    match reason {
        None => Holding::exact(kind, type_name),
        Some(reason) => Holding { kind, type_name, verdict: Verdict::Checked, reason: Some(reason) },
    }
}

/// What no type of the server can hold of a kind.
fn limits_of_kind(kind: Kind) -> Option<String> {
    match kind {
        Kind::Float32 | Kind::Float64 => Some("NaN and infinities cannot be held".to_owned()),
        Kind::Date | Kind::Timestamp | Kind::Instant => Some("only the years 1 to 9999 can be held".to_owned()),
        Kind::Time => Some("24:00:00 cannot be held".to_owned()),
        Kind::TimestampNanos | Kind::InstantNanos | Kind::InstantWithOffset => {
            Some("only the years 1 to 9999 in steps of 100 nanoseconds can be held".to_owned())
        }
        Kind::TimeNanos => Some("24:00:00 cannot be held, nor what is finer than 100 nanoseconds".to_owned()),
        _ => None,
    }
}

/// What a type may refuse, cut, pad or round of its kind.
fn limits(type_name: &str, kind: Kind) -> Option<String> {
    let native = Native::parse(type_name);
    let free = match native.name.as_str() {
        "bit" | "tinyint" | "smallint" | "int" | "bigint" | "decimal" | "numeric" | "uniqueidentifier" | "ntext"
        | "image" => true,
        "nvarchar" | "varbinary" => native.limit().is_none(),
        _ => false,
    };
    if free {
        return None;
    }
    Some(limits_of_kind(kind).filter(|_| matches!(native.name.as_str(), "real" | "float" | "date")).unwrap_or_else(
        || match native.name.as_str() {
            "char" | "varchar" | "text" => {
                format!("every value must fit {type_name} and its code page without change")
            }
            _ => format!("every value must fit {type_name} without change"),
        },
    ))
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
            (("int32", "int"), ("int32", "int"), "int32", Verdict::Exact),
            (("int64", "bigint"), ("int32", "int"), "int32", Verdict::Exact),
            (("text", "text"), ("text", "nvarchar(max)"), "text", Verdict::Exact),
            (("text", "text"), ("text", "nvarchar(5)"), "text", Verdict::Checked),
            (("text", "nvarchar(5)"), ("text", "nvarchar(5)"), "text", Verdict::Exact),
            (("text", "text"), ("text", "varchar(max)"), "text", Verdict::Checked),
            (("timestamp", "timestamp"), ("timestamp-nanos", "datetime2(7)"), "timestamp", Verdict::Checked),
            (
                ("timestamp-nanos", "datetime2(7)"),
                ("timestamp-nanos", "datetime2(7)"),
                "timestamp-nanos",
                Verdict::Exact,
            ),
            (("timestamp-nanos", "datetime2(7)"), ("timestamp", "datetime2(3)"), "timestamp", Verdict::Checked),
            (
                ("instant-with-offset", "datetimeoffset(7)"),
                ("instant-with-offset", "datetimeoffset(7)"),
                "instant-with-offset",
                Verdict::Exact,
            ),
            (("instant", "timestamptz"), ("instant-with-offset", "datetimeoffset(7)"), "instant", Verdict::Checked),
            (("float64", "double precision"), ("float64", "float"), "float64", Verdict::Checked),
            (("float64", "float"), ("float64", "float"), "float64", Verdict::Exact),
            (("decimal(10,2)", "numeric(10,2)"), ("decimal(19,4)", "money"), "decimal(19,4)", Verdict::Checked),
            (("decimal(10,2)", "numeric(10,2)"), ("decimal(12,2)", "decimal(12,2)"), "decimal(12,2)", Verdict::Exact),
        ] {
            let held = hold(&column(source.0, source.1), Some(&column(target.0, target.1)));
            assert_eq!((held.kind.to_string().as_str(), held.verdict), (kind, verdict), "{source:?} to {target:?}");
        }
    }

    #[test]
    fn holdings_of_a_new_table() {
        for (source, kind, type_name, verdict) in [
            (("int64", "bigint"), "int64", "bigint", Verdict::Exact),
            (("uint64", "bigint unsigned"), "decimal(20,0)", "decimal(20,0)", Verdict::Exact),
            (("text", "varchar(20)"), "text", "nvarchar(20)", Verdict::Exact),
            (("timestamp", "timestamp"), "timestamp", "datetime2(6)", Verdict::Checked),
            (("timestamp-nanos", "datetime2(7)"), "timestamp-nanos", "datetime2(7)", Verdict::Exact),
            (("timestamp-nanos", "TIMESTAMP(NANOS,false)"), "timestamp-nanos", "datetime2(7)", Verdict::Checked),
            (("time-nanos", "time(7)"), "time-nanos", "time(7)", Verdict::Exact),
            (("instant-with-offset", "datetimeoffset(3)"), "instant-with-offset", "datetimeoffset(3)", Verdict::Exact),
            (("engine-text", "interval"), "text", "nvarchar(max)", Verdict::Exact),
            (("decimal(19,4)", "money"), "decimal(19,4)", "money", Verdict::Exact),
        ] {
            let held = hold(&column(source.0, source.1), None);
            let found = (held.kind.to_string(), held.type_name.as_str(), held.verdict);
            assert_eq!((found.0.as_str(), found.1, found.2), (kind, type_name, verdict), "{source:?}");
        }
    }
}
