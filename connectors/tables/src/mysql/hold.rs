//! What a column of a MariaDB or MySQL table makes of a column that is to go into it, and what can be promised; and
//! the type a created column gets. Pure.

use dmg_connector::{Column, Holding};
use dmg_protocol::{Kind, Verdict};

use super::client::Version;

const YEARS: &str = "only the years 0 to 9999 can be stored, and no infinity";
const FINITE: &str = "NaN, the infinities and negative zero cannot be stored";
const IN_UTC: &str = "the moment is stored in UTC; only the years 0 to 9999 can be";
/// Characters a created column may be limited to; longer ones would fill a row.
const CHARACTERS_MAX: u32 = 500;

fn checked(kind: Kind, type_name: &str, reason: &str) -> Holding {
    Holding { kind, type_name: type_name.to_owned(), verdict: Verdict::Checked, reason: Some(reason.to_owned()) }
}

/// How the target holds a source column; a table yet to be created takes the native type.
pub(super) fn hold(source: &Column, target: Option<&Column>, version: &Version) -> Holding {
    let Some(target) = target else { return native(source, version) };
    let name = target.type_name.as_str();
    let base = base(name);
    let exact = |kind: Kind| Holding::exact(kind, name);
    if name == "uuid" && target.kind == Kind::Uuid {
        return checked(Kind::Uuid, name, "MariaDB's uuid takes only those whose version and variant are known");
    }
    if source.type_name == target.type_name && source.kind == target.kind {
        return exact(target.kind);
    }
    let fits = || format!("every value must fit {name} without change");
    match (source.kind, target.kind) {
        (Kind::EngineText, _) if source.type_name == target.type_name => exact(Kind::EngineText),
        (Kind::Boolean, Kind::Int8) => exact(Kind::Boolean),
        (Kind::Uuid, Kind::Bytes) if name == "binary(16)" => exact(Kind::Uuid),
        (Kind::Uuid, Kind::Text) if name.starts_with("char(36)") || name.starts_with("varchar(36)") => {
            exact(Kind::Uuid)
        }
        (Kind::Instant | Kind::InstantNanos | Kind::InstantWithOffset, Kind::Timestamp) => {
            checked(Kind::Instant, name, IN_UTC)
        }
        (Kind::Instant | Kind::InstantNanos | Kind::InstantWithOffset, Kind::Instant) => {
            checked(Kind::Instant, name, "only moments from 1970 to 2038 can be stored (2106 in newer versions)")
        }
        (Kind::Timestamp | Kind::TimestampNanos | Kind::Date, Kind::Timestamp)
            if whole_moments(name) && !of_mysql(source) =>
        {
            checked(Kind::Timestamp, name, YEARS)
        }
        (Kind::Timestamp, Kind::Timestamp) if whole_moments(name) => exact(Kind::Timestamp),
        (_, Kind::Date) if !of_mysql(source) => checked(Kind::Date, name, YEARS),
        (Kind::Time, Kind::Time) if name == "time(6)" => exact(Kind::Time),
        (Kind::Decimal { precision, scale }, Kind::DecimalText) => match limits(name) {
            Some((p, s)) if s >= u32::from(scale) && p - s.min(p) >= u32::from(precision - scale) => exact(source.kind),
            _ => checked(source.kind, name, &fits()),
        },
        (_, Kind::Float32 | Kind::Float64) if !of_mysql(source) && !whole(source.kind) => {
            checked(target.kind, name, FINITE)
        }
        (_, Kind::Json) => checked(Kind::Json, name, "the text must be JSON as the server takes it"),
        (_, Kind::Text) if name == "longtext" => exact(Kind::Text),
        (_, Kind::Bytes) if name == "longblob" => exact(Kind::Bytes),
        (Kind::Bytes, Kind::Text) | (Kind::Text, Kind::Bytes) => exact(target.kind),
        (_, Kind::Text | Kind::Bytes | Kind::EngineText | Kind::DecimalText | Kind::Timestamp | Kind::Time) => {
            checked(target.kind, name, &fits())
        }
        (_, kind) if matches!(base, "year" | "bit") => checked(kind, name, &fits()),
        (_, kind) => exact(kind),
    }
}

/// The type of a created column.
fn native(source: &Column, version: &Version) -> Holding {
    let kind = source.kind;
    let exact = |type_name: &str| Holding::exact(kind, type_name);
    let own = of_mysql(source);
    match kind {
        Kind::Boolean => exact("tinyint(1)"),
        Kind::Int8 => exact("tinyint"),
        Kind::Int16 => exact("smallint"),
        Kind::Int32 => exact("int"),
        Kind::Int64 => exact("bigint"),
        Kind::UInt8 => exact("tinyint unsigned"),
        Kind::UInt16 => exact("smallint unsigned"),
        Kind::UInt32 => exact("int unsigned"),
        Kind::UInt64 => exact("bigint unsigned"),
        Kind::Float32 if own => exact("float"),
        Kind::Float32 => checked(kind, "float", FINITE),
        Kind::Float64 if own => exact("double"),
        Kind::Float64 => checked(kind, "double", FINITE),
        Kind::Decimal { precision, scale } if scale <= if version.mariadb { 38 } else { 30 } => {
            exact(&format!("decimal({precision},{scale})"))
        }
        Kind::Decimal { .. } => Holding {
            kind: Kind::DecimalText,
            type_name: "longtext".to_owned(),
            verdict: Verdict::Widened,
            reason: Some("the server's decimals have at most 30 digits behind the point".to_owned()),
        },
        Kind::DecimalText => match limits(&source.type_name) {
            // Smaller ones of its own are decimals with limits. Who only writes such limits, as SQLite does, keeps
            // other digits, which a column with limits would not give back as they were.
            Some((p @ 39..=65, s @ 0..=38)) if own && s <= p => exact(&format!("decimal({p},{s})")),
            _ => exact(if source.key { "varchar(255)" } else { "longtext" }),
        },
        Kind::Text => text(source),
        Kind::EngineText => Holding { kind: Kind::Text, ..text(source) },
        Kind::Bytes => match length(&source.type_name, &["varbinary", "binary"]) {
            Some(octets @ 1..=2000) if own => exact(&format!("{}({octets})", base(&source.type_name))),
            _ if source.key => checked(kind, "varbinary(767)", "a key has at most 767 bytes"),
            _ => exact("longblob"),
        },
        Kind::Date if own => exact("date"),
        Kind::Date => checked(kind, "date", YEARS),
        Kind::Timestamp if own => exact("datetime(6)"),
        Kind::Timestamp | Kind::TimestampNanos => checked(Kind::Timestamp, "datetime(6)", YEARS),
        Kind::Instant | Kind::InstantNanos => checked(Kind::Instant, "datetime(6)", IN_UTC),
        Kind::InstantWithOffset => Holding { kind: Kind::Text, ..text(source) },
        Kind::Time | Kind::TimeNanos => Holding::exact(Kind::Time, "time(6)"),
        // MariaDB's own type refuses many that others hold.
        Kind::Uuid => exact("char(36) CHARACTER SET ascii COLLATE ascii_bin"),
        Kind::Json if version.mariadb => exact("json"),
        Kind::Json => checked(kind, "json", "the text must be JSON as the server takes it"),
    }
}

/// Text keeps its limit where it has a small one.
fn text(source: &Column) -> Holding {
    let limit = length(&source.type_name, &["varchar", "character varying", "char", "character"]);
    let (kind, type_name) = match limit {
        Some(characters @ 1..=CHARACTERS_MAX) => (Kind::Text, format!("varchar({characters})")),
        _ if source.key => {
            let fixed = "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
            return checked(Kind::Text, fixed, "a key has at most 255 characters");
        }
        _ => (Kind::Text, "longtext".to_owned()),
    };
    // What is equal under a language's rules would be one key.
    let exactly = if source.key { " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" } else { "" };
    Holding::exact(kind, format!("{type_name}{exactly}"))
}

/// Whether the source is one of the two itself: its values fit what is named alike.
fn of_mysql(source: &Column) -> bool {
    let base = base(&source.type_name);
    match source.kind {
        Kind::Float32 => base == "float" && source.type_name != "float4",
        Kind::Float64 => base == "double" && source.type_name != "double precision",
        Kind::Timestamp => base == "datetime",
        Kind::Bytes => matches!(base, "binary" | "varbinary"),
        Kind::DecimalText => base == "decimal",
        // Others call it date as well, and mean more years.
        _ => false,
    }
}

fn whole(kind: Kind) -> bool {
    use Kind::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    matches!(kind, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64)
}

fn whole_moments(name: &str) -> bool {
    name == "datetime(6)"
}

fn base(type_name: &str) -> &str {
    type_name.split(['(', ' ']).next().unwrap_or_default()
}

/// The numbers in the brackets of a decimal.
fn limits(type_name: &str) -> Option<(u32, u32)> {
    let inside = type_name.split_once('(')?.1.split_once(')')?.0;
    let (precision, scale) = inside.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

/// The number in the brackets behind one of those words.
fn length(type_name: &str, words: &[&str]) -> Option<u32> {
    let (word, rest) = type_name.split_once('(')?;
    let (number, behind) = rest.split_once(')')?;
    (words.contains(&word.trim()) && (behind.is_empty() || behind.starts_with(" character set")))
        .then(|| number.parse().ok())?
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
        let version = Version::parse("10.11.6-MariaDB");
        for (source, target, kind, verdict) in [
            (("int32", "integer"), ("int32", "int(11)"), "int32", Verdict::Exact),
            (("text", "text"), ("text", "varchar(5)"), "text", Verdict::Checked),
            (("text", "text"), ("text", "longtext"), "text", Verdict::Exact),
            (("text", "varchar(5)"), ("text", "varchar(5)"), "text", Verdict::Exact),
            (("boolean", "boolean"), ("int8", "tinyint(1)"), "boolean", Verdict::Exact),
            (("uuid", "uuid"), ("bytes", "binary(16)"), "uuid", Verdict::Exact),
            (("instant", "timestamp with time zone"), ("timestamp", "datetime(6)"), "instant", Verdict::Checked),
            (("float64", "double precision"), ("float64", "double"), "float64", Verdict::Checked),
            (("float64", "double"), ("float64", "double"), "float64", Verdict::Exact),
            (("decimal(10,2)", "numeric(10,2)"), ("decimal", "decimal(65,30)"), "decimal(10,2)", Verdict::Exact),
            (("decimal(38,10)", "numeric(38,10)"), ("decimal", "decimal(50,30)"), "decimal(38,10)", Verdict::Checked),
            (("engine-text", "time(6)"), ("time", "time(6)"), "engine-text", Verdict::Exact),
            (("date", "date"), ("date", "date"), "date", Verdict::Exact),
        ] {
            let held = hold(&column(source.0, source.1), Some(&column(target.0, target.1)), &version);
            assert_eq!((held.kind.to_string().as_str(), held.verdict), (kind, verdict), "{source:?} to {target:?}");
        }
    }

    #[test]
    fn limits_that_nobody_keeps_are_not_taken_over() {
        let version = Version::parse("10.11.6-MariaDB");
        let new = |type_name: &str| hold(&column("decimal", type_name), None, &version).type_name;
        assert_eq!((new("decimal(15,2)"), new("decimal(50,2)")), ("longtext".to_owned(), "decimal(50,2)".to_owned()));
    }

    #[test]
    fn only_plain_type_names_reach_a_statement() {
        let version = Version::parse("10.11.6-MariaDB");
        for (odd, expected) in [
            ("varchar(20)", "varchar(20)"),
            ("character varying(20)", "varchar(20)"),
            ("varchar(20); DROP TABLE t", "longtext"),
            ("varchar(x)", "longtext"),
            ("varchar(9999)", "longtext"),
        ] {
            assert_eq!(hold(&column("text", odd), None, &version).type_name, expected, "{odd}");
        }
    }
}
