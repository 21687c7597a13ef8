//! SQL Server's types by name: the kind each is carried in, the form it is read in, the type it is staged in, and the
//! type a created column gets. One table each, nothing else.

use dmg_protocol::Kind;

/// A type of the server as its users write it, taken apart: `decimal(10,2)`, `nvarchar(max)`, `hierarchyid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Native {
    /// Base name, small letters.
    pub(super) name: String,
    /// Length, precision or scale, whichever comes first; [`MAX`] for `max`.
    pub(super) first: Option<u32>,
    /// Scale of a decimal.
    pub(super) second: Option<u32>,
}

/// The length of `(max)`.
pub(super) const MAX: u32 = u32::MAX;

impl Native {
    /// Takes the text apart. A text that is no type is a name.
    pub(super) fn parse(text: &str) -> Self {
        let text = text.trim().to_ascii_lowercase();
        let (name, rest) = match text.split_once('(') {
            Some((name, rest)) => (name.trim().to_owned(), rest.trim_end_matches(')')),
            None => (text, ""),
        };
        let mut numbers = rest.split(',').map(|number| match number.trim() {
            "max" => Some(MAX),
            number => number.parse().ok(),
        });
        let first = numbers.next().flatten();
        Native { name, first, second: numbers.next().flatten() }
    }

    /// As its users write it.
    pub(super) fn text(&self) -> String {
        let number = |number: u32| if number == MAX { "max".to_owned() } else { number.to_string() };
        match (self.first, self.second) {
            (Some(first), Some(second)) => format!("{}({},{second})", self.name, number(first)),
            (Some(first), None) => format!("{}({})", self.name, number(first)),
            _ => self.name.clone(),
        }
    }

    /// The type of a column from what the catalog says: base name, bytes, precision, scale.
    pub(super) fn of_catalog(name: &str, bytes: i32, precision: u32, scale: u32) -> Self {
        let name = name.to_ascii_lowercase();
        let length = |unit: i32| Some(if bytes < 0 { MAX } else { (bytes / unit) as u32 });
        let (first, second) = match name.as_str() {
            "char" | "varchar" | "binary" | "varbinary" => (length(1), None),
            "nchar" | "nvarchar" => (length(2), None),
            "decimal" | "numeric" => (Some(precision), Some(scale)),
            "datetime2" | "time" | "datetimeoffset" => (Some(scale), None),
            "timestamp" => return Native { name: "rowversion".to_owned(), first: None, second: None },
            _ => (None, None),
        };
        Native { name, first, second }
    }

    /// Length of a text or bytes type where it has one.
    pub(super) fn limit(&self) -> Option<usize> {
        self.first.filter(|first| *first != MAX).map(|first| first as usize)
    }

    /// Digits behind the seconds.
    pub(super) fn seconds_scale(&self) -> u8 {
        self.first.map_or(7, |scale| scale.min(7) as u8)
    }

    /// Whether it is text in the code page of its collation.
    pub(super) fn code_page(&self) -> bool {
        matches!(self.name.as_str(), "char" | "varchar" | "text")
    }

    /// Whether it is a type of the CLR.
    pub(super) fn clr(&self) -> bool {
        form(self).is_none()
    }
}

/// What a cell is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Boolean,
    UInt8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Date,
    Timestamp,
    Instant,
    Time,
    TimestampNanos,
    InstantNanos,
    TimeNanos,
    WithOffset,
    Uuid,
    Text,
    Bytes,
    /// Base type and text of a `sql_variant`.
    Variant,
}

/// How a type is read by itself; `None` for names that are none of the server's own: types of the CLR.
fn form(native: &Native) -> Option<Form> {
    Some(match native.name.as_str() {
        "bit" => Form::Boolean,
        "tinyint" => Form::UInt8,
        "smallint" => Form::Int16,
        "int" => Form::Int32,
        "bigint" => Form::Int64,
        "real" => Form::Float32,
        "float" => match native.first {
            Some(..=24) => Form::Float32,
            _ => Form::Float64,
        },
        "decimal" | "numeric" => Form::Decimal {
            precision: native.first.unwrap_or(18).clamp(1, 38) as u8,
            scale: native.second.unwrap_or(0).min(38) as u8,
        },
        "money" => Form::Decimal { precision: 19, scale: 4 },
        "smallmoney" => Form::Decimal { precision: 10, scale: 4 },
        "date" => Form::Date,
        "datetime" | "smalldatetime" => Form::Timestamp,
        "datetime2" if native.seconds_scale() <= 6 => Form::Timestamp,
        "time" if native.seconds_scale() <= 6 => Form::Time,
        "datetime2" => Form::TimestampNanos,
        "time" => Form::TimeNanos,
        "datetimeoffset" => Form::WithOffset,
        "uniqueidentifier" => Form::Uuid,
        "char" | "varchar" | "text" | "nchar" | "nvarchar" | "ntext" | "sysname" | "xml" | "json" => Form::Text,
        "binary" | "varbinary" | "image" | "rowversion" | "timestamp" => Form::Bytes,
        "sql_variant" => Form::Variant,
        _ => return None,
    })
}

/// Kind and form of a type by itself.
pub(super) fn reading(native: &Native) -> (Kind, Form) {
    let form = form(native).unwrap_or(Form::Bytes);
    let kind = match form {
        Form::Boolean => Kind::Boolean,
        Form::UInt8 => Kind::UInt8,
        Form::Int16 => Kind::Int16,
        Form::Int32 => Kind::Int32,
        Form::Int64 => Kind::Int64,
        Form::Float32 => Kind::Float32,
        Form::Float64 => Kind::Float64,
        Form::Decimal { precision, scale } => Kind::Decimal { precision, scale },
        Form::Date => Kind::Date,
        Form::Timestamp => Kind::Timestamp,
        Form::Instant => Kind::Instant,
        Form::Time => Kind::Time,
        Form::TimestampNanos => Kind::TimestampNanos,
        Form::InstantNanos => Kind::InstantNanos,
        Form::TimeNanos => Kind::TimeNanos,
        Form::WithOffset => Kind::InstantWithOffset,
        Form::Uuid => Kind::Uuid,
        Form::Text if native.name == "xml" => Kind::EngineText,
        Form::Text if native.name == "json" => Kind::Json,
        Form::Text => Kind::Text,
        Form::Bytes => Kind::Bytes,
        Form::Variant => Kind::EngineText,
    };
    (kind, form)
}

/// How a type is read as a planned kind; `None` if no plan of ours could have asked for it.
pub(super) fn reading_as(native: &Native, kind: Kind) -> Option<Form> {
    let (own, form) = reading(native);
    if own == kind {
        return Some(form);
    }
    match (native.name.as_str(), kind) {
        ("datetime2", Kind::Timestamp) => Some(Form::Timestamp),
        ("time", Kind::Time) => Some(Form::Time),
        ("datetimeoffset", Kind::Instant) => Some(Form::Instant),
        ("datetime2", Kind::TimestampNanos) => Some(Form::TimestampNanos),
        ("time", Kind::TimeNanos) => Some(Form::TimeNanos),
        ("datetimeoffset", Kind::InstantNanos) => Some(Form::InstantNanos),
        ("decimal" | "numeric", Kind::Decimal { precision, scale }) => Some(Form::Decimal { precision, scale }),
        (_, Kind::Text | Kind::Json | Kind::EngineText | Kind::DecimalText) if form == Form::Text => Some(Form::Text),
        _ => None,
    }
}

/// What stands in a SELECT for a column of that type, so that it arrives without loss whatever the driver can do:
/// text of a code page is converted by the server, money goes as decimal.
pub(super) fn selected(quoted: &str, native: &Native) -> String {
    match native.name.as_str() {
        "char" | "varchar" => match native.limit().filter(|limit| *limit <= 4000) {
            Some(limit) => format!("CAST({quoted} AS nvarchar({limit})) AS {quoted}"),
            None => format!("CAST({quoted} AS nvarchar(max)) AS {quoted}"),
        },
        "text" | "ntext" | "json" => format!("CAST({quoted} AS nvarchar(max)) AS {quoted}"),
        "image" => format!("CAST({quoted} AS varbinary(max)) AS {quoted}"),
        "money" => format!("CAST({quoted} AS decimal(19,4)) AS {quoted}"),
        "smallmoney" => format!("CAST({quoted} AS decimal(10,4)) AS {quoted}"),
        _ if native.clr() => format!("CAST({quoted} AS varbinary(max)) AS {quoted}"),
        _ => quoted.to_owned(),
    }
}

/// The type a column is staged in. It is the target's own wherever rows can be loaded into it in bulk as it is; the
/// others take values that were checked to fit and come into the target by a conversion that cannot change them.
pub(super) fn staged(target: &Native, collation: Option<&str>) -> Native {
    let utf8 = collation.is_some_and(|collation| collation.to_ascii_uppercase().ends_with("_UTF8"));
    match target.name.as_str() {
        "smalldatetime" => Native::parse("datetime2(0)"),
        "time" => Native::parse("time(7)"),
        "datetimeoffset" => Native::parse("datetimeoffset(7)"),
        "nchar" | "nvarchar" | "sysname" => match target.limit().unwrap_or(128) {
            limit @ 1..=2000 if target.first != Some(MAX) => Native::parse(&format!("nvarchar({limit})")),
            _ => Native::parse("nvarchar(max)"),
        },
        "char" | "varchar" | "text" if utf8 => Native::parse("nvarchar(max)"),
        "text" => Native::parse("varchar(max)"),
        "ntext" | "json" => Native::parse("nvarchar(max)"),
        "image" => Native::parse("varbinary(max)"),
        _ if target.clr() => Native::parse("varbinary(max)"),
        _ => target.clone(),
    }
}

/// What stands in the SELECT that moves a staged column into the target.
pub(super) fn published(quoted: &str, target: &Native, staged: &Native, type_name: &str) -> String {
    if target.clr() {
        return format!("CAST({quoted} AS {type_name})");
    }
    if target == staged {
        return quoted.to_owned();
    }
    format!("CAST({quoted} AS {})", target.text())
}

/// The type a created column gets for a kind.
pub(super) fn native(kind: Kind, source_type: &str) -> String {
    match kind {
        Kind::Boolean => "bit".to_owned(),
        Kind::UInt8 => "tinyint".to_owned(),
        Kind::Int8 | Kind::Int16 => "smallint".to_owned(),
        Kind::UInt16 | Kind::Int32 => "int".to_owned(),
        Kind::UInt32 | Kind::Int64 => "bigint".to_owned(),
        Kind::UInt64 => "decimal(20,0)".to_owned(),
        Kind::Float32 => "real".to_owned(),
        Kind::Float64 => "float".to_owned(),
        Kind::Decimal { precision, scale } => match source_type {
            "money" | "smallmoney" => source_type.to_owned(),
            _ => format!("decimal({precision},{scale})"),
        },
        Kind::DecimalText | Kind::Json => "nvarchar(max)".to_owned(),
        Kind::Text => limited(source_type, &["char", "varchar", "nchar", "nvarchar"], 4000).map_or_else(
            || "nvarchar(max)".to_owned(),
            // One byte of a code page or of UTF-8 is never more than one unit of UTF-16.
            |(name, limit)| format!("n{}({limit})", name.trim_start_matches('n')),
        ),
        Kind::EngineText => match Native::parse(source_type) {
            own if own.name == "sql_variant" && own.first.is_none() => "sql_variant".to_owned(),
            _ => "nvarchar(max)".to_owned(),
        },
        Kind::Bytes => limited(source_type, &["binary", "varbinary"], 8000)
            .map_or_else(|| "varbinary(max)".to_owned(), |(name, limit)| format!("{name}({limit})")),
        Kind::Date => "date".to_owned(),
        Kind::Timestamp => "datetime2(6)".to_owned(),
        Kind::Instant => "datetimeoffset(6)".to_owned(),
        Kind::Time => "time(6)".to_owned(),
        Kind::TimestampNanos => "datetime2(7)".to_owned(),
        Kind::InstantNanos => "datetimeoffset(7)".to_owned(),
        Kind::TimeNanos => "time(7)".to_owned(),
        Kind::InstantWithOffset => match Native::parse(source_type) {
            own if own.name == "datetimeoffset" => format!("datetimeoffset({})", own.seconds_scale()),
            _ => "datetimeoffset(7)".to_owned(),
        },
        Kind::Uuid => "uniqueidentifier".to_owned(),
    }
}

/// A source type that is one of these with a plain length, word for word; nothing else may reach a statement.
fn limited<'a>(source_type: &str, names: &[&'a str], most: u32) -> Option<(&'a str, u32)> {
    let (name, rest) = source_type.split_once('(')?;
    let limit: u32 = rest.strip_suffix(')')?.parse().ok()?;
    let name = names.iter().find(|known| **known == name)?;
    (1..=most).contains(&limit).then_some((name, limit))
}

/// The kind a created column of [`native`] type holds.
pub(super) fn native_kind(kind: Kind, source_type: &str) -> Kind {
    match kind {
        Kind::Int8 => Kind::Int16,
        Kind::UInt16 => Kind::Int32,
        Kind::UInt32 => Kind::Int64,
        Kind::UInt64 => Kind::Decimal { precision: 20, scale: 0 },
        Kind::DecimalText | Kind::Json => Kind::Text,
        Kind::EngineText if native(kind, source_type) == "nvarchar(max)" => Kind::Text,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_taken_apart_and_put_together() {
        for text in ["int", "decimal(10,2)", "nvarchar(max)", "varchar(20)", "datetime2(7)", "hierarchyid"] {
            assert_eq!(Native::parse(text).text(), text);
        }
        for (name, bytes, precision, scale, text) in [
            ("nvarchar", 40, 0, 0, "nvarchar(20)"),
            ("nvarchar", -1, 0, 0, "nvarchar(max)"),
            ("varchar", 20, 0, 0, "varchar(20)"),
            ("decimal", 9, 10, 2, "decimal(10,2)"),
            ("datetime2", 8, 27, 7, "datetime2(7)"),
            ("timestamp", 8, 0, 0, "rowversion"),
            ("int", 4, 10, 0, "int"),
            ("geography", -1, 0, 0, "geography"),
        ] {
            assert_eq!(Native::of_catalog(name, bytes, precision, scale).text(), text);
        }
    }

    #[test]
    fn every_type_has_a_kind() {
        for (text, kind) in [
            ("bit", "boolean"),
            ("tinyint", "uint8"),
            ("smallint", "int16"),
            ("int", "int32"),
            ("bigint", "int64"),
            ("real", "float32"),
            ("float", "float64"),
            ("float(24)", "float32"),
            ("money", "decimal(19,4)"),
            ("smallmoney", "decimal(10,4)"),
            ("decimal(38,10)", "decimal(38,10)"),
            ("numeric(18,0)", "decimal(18,0)"),
            ("date", "date"),
            ("datetime", "timestamp"),
            ("smalldatetime", "timestamp"),
            ("datetime2(6)", "timestamp"),
            ("datetime2(7)", "timestamp-nanos"),
            ("time(6)", "time"),
            ("time(7)", "time-nanos"),
            ("datetimeoffset(3)", "instant-with-offset"),
            ("uniqueidentifier", "uuid"),
            ("char(3)", "text"),
            ("text", "text"),
            ("xml", "engine-text"),
            ("rowversion", "bytes"),
            ("image", "bytes"),
            ("sql_variant", "engine-text"),
            ("hierarchyid", "bytes"),
            ("geography", "bytes"),
            ("geometry", "bytes"),
        ] {
            assert_eq!(reading(&Native::parse(text)).0.to_string(), kind, "{text}");
        }
    }

    #[test]
    fn what_is_staged_otherwise_is_converted_back() {
        for (target, collation, stage, publish) in [
            ("int", None, "int", "[c]"),
            ("nvarchar(20)", None, "nvarchar(20)", "[c]"),
            ("nvarchar(3000)", None, "nvarchar(max)", "CAST([c] AS nvarchar(3000))"),
            ("nchar(5)", None, "nvarchar(5)", "CAST([c] AS nchar(5))"),
            ("varchar(20)", Some("Latin1_General_CI_AS"), "varchar(20)", "[c]"),
            ("varchar(20)", Some("Latin1_General_100_CI_AS_SC_UTF8"), "nvarchar(max)", "CAST([c] AS varchar(20))"),
            ("text", None, "varchar(max)", "CAST([c] AS text)"),
            ("image", None, "varbinary(max)", "CAST([c] AS image)"),
            ("time(3)", None, "time(7)", "CAST([c] AS time(3))"),
            ("datetimeoffset(7)", None, "datetimeoffset(7)", "[c]"),
            ("smalldatetime", None, "datetime2(0)", "CAST([c] AS smalldatetime)"),
            ("geography", None, "varbinary(max)", "CAST([c] AS geography)"),
            ("xml", None, "xml", "[c]"),
        ] {
            let target = Native::parse(target);
            let held = staged(&target, collation);
            assert_eq!(held.text(), stage, "{target:?}");
            assert_eq!(published("[c]", &target, &held, &target.name), publish);
        }
    }

    #[test]
    fn only_plain_type_names_reach_a_statement() {
        for (source, expected) in [
            ("nvarchar(20)", "nvarchar(20)"),
            ("varchar(20)", "nvarchar(20)"),
            ("char(3)", "nchar(3)"),
            ("varchar(8000)", "nvarchar(max)"),
            ("text", "nvarchar(max)"),
            ("nvarchar(1)); DROP TABLE t --", "nvarchar(max)"),
        ] {
            assert_eq!(native(Kind::Text, source), expected, "{source}");
        }
        assert_eq!(native(Kind::TimestampNanos, "datetime2(7)"), "datetime2(7)");
        assert_eq!(native(Kind::InstantWithOffset, "datetimeoffset(3)"), "datetimeoffset(3)");
        assert_eq!(native(Kind::InstantWithOffset, "odd(3)"), "datetimeoffset(7)");
        assert_eq!(native(Kind::EngineText, "interval"), "nvarchar(max)");
        assert_eq!(native_kind(Kind::EngineText, "interval"), Kind::Text);
        assert_eq!(native_kind(Kind::EngineText, "sql_variant"), Kind::EngineText);
    }
}
