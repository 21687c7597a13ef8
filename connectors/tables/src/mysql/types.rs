//! The types of MariaDB and MySQL and the kinds they are: one table. What is not in it travels as the server's text.

use dmg_protocol::Kind;

use super::client::Described;
use super::settings::{Odd, Server};

/// How a value looks in a row of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `0` or `1`.
    Flag,
    /// A bit as an octet.
    Bit,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    /// Up to 64 bits as octets, the highest first.
    Bits,
    Float32,
    Float64,
    /// Digits with a point, to that precision and scale.
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// The same, kept as text.
    DecimalText,
    Text,
    Bytes,
    Date,
    Moment,
    Time,
    /// 36 characters.
    UuidText,
    /// 16 octets.
    UuidBytes,
}

/// How a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) kind: Kind,
    pub(super) form: Form,
}

const fn of(kind: Kind, form: Form) -> Reading {
    Reading { kind, form }
}

/// A column type taken apart: `decimal(15,2) unsigned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColumnType {
    /// The word before the brackets, in small letters.
    pub(super) base: String,
    /// The whole, as the server writes it.
    pub(super) text: String,
    first: Option<u32>,
    second: Option<u32>,
    unsigned: bool,
    /// Whether text of it may be JSON only.
    pub(super) json: bool,
    /// The character set of a text column.
    pub(super) charset: Option<String>,
}

impl ColumnType {
    /// Takes apart what the server's catalog says.
    pub(super) fn parse(text: &str, charset: Option<String>, json: bool) -> Self {
        let lower = text.to_ascii_lowercase();
        let base: String = lower.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let inside = lower.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(inside, _)| inside);
        let mut numbers = inside.split(',').map(|number| number.trim().parse().ok());
        let (first, second) = (numbers.next().flatten(), numbers.next().flatten());
        let behind = lower.rsplit_once(')').map_or(lower.as_str(), |(_, rest)| rest);
        let unsigned = behind.contains("unsigned") || behind.contains("zerofill");
        ColumnType { base, text: text.to_owned(), first, second, unsigned, json, charset }
    }

    /// The type of a query's column, from the wire.
    pub(super) fn described(column: &Described) -> Self {
        const UNSIGNED: u16 = 32;
        const ENUM: u16 = 256;
        const SET: u16 = 2048;
        const BINARY: u16 = 63;
        let binary = column.charset == BINARY;
        let unsigned = if column.flags & UNSIGNED != 0 { " unsigned" } else { "" };
        let characters = column.length / 4;
        let fraction = |name: &str| match column.decimals {
            digits @ 1..=6 => format!("{name}({digits})"),
            _ => name.to_owned(),
        };
        let text = match column.code {
            1 => format!("tinyint{unsigned}"),
            2 => format!("smallint{unsigned}"),
            3 => format!("int{unsigned}"),
            9 => format!("mediumint{unsigned}"),
            8 => format!("bigint{unsigned}"),
            4 => format!("float{unsigned}"),
            5 => format!("double{unsigned}"),
            0 | 246 => {
                let scale = u32::from(column.decimals);
                let sign = u32::from(unsigned.is_empty()) + u32::from(scale > 0);
                format!("decimal({},{scale}){unsigned}", column.length.saturating_sub(sign).max(1))
            }
            7 => fraction("timestamp"),
            12 => fraction("datetime"),
            11 => fraction("time"),
            10 => "date".to_owned(),
            13 => "year".to_owned(),
            16 => format!("bit({})", column.length),
            245 => "json".to_owned(),
            255 => "geometry".to_owned(),
            6 => "varchar(0)".to_owned(),
            _ if column.flags & ENUM != 0 => "enum".to_owned(),
            _ if column.flags & SET != 0 => "set".to_owned(),
            249..=252 if binary => "longblob".to_owned(),
            249..=252 => "longtext".to_owned(),
            254 if binary => format!("binary({})", column.length),
            254 => format!("char({characters})"),
            _ if binary => format!("varbinary({})", column.length),
            _ => format!("varchar({characters})"),
        };
        // Whatever the column holds, the session's character set is what comes.
        let charset = (!binary && text.contains("char") || text.ends_with("text")).then(|| "utf8mb4".to_owned());
        Self::parse(&text, charset, false)
    }

    /// As people write it, with the character set where it is not the usual one.
    pub(super) fn label(&self) -> String {
        match &self.charset {
            Some(charset) if charset != "utf8mb4" => format!("{} character set {charset}", self.text),
            _ if self.json => "json".to_owned(),
            _ => self.text.clone(),
        }
    }

    /// Digits a moment or time has behind the second.
    pub(super) fn fraction(&self) -> u32 {
        self.first.unwrap_or(0)
    }

    /// How it is read by itself.
    pub(super) fn reading(&self, server: &Server) -> Reading {
        let odd = |odd: Odd, reading: Reading| match odd {
            Odd::Refuse => reading,
            Odd::Text => of(Kind::EngineText, Form::Text),
        };
        match (self.base.as_str(), self.unsigned) {
            ("tinyint", false) => of(Kind::Int8, Form::Int8),
            ("tinyint", true) => of(Kind::UInt8, Form::UInt8),
            ("smallint", false) => of(Kind::Int16, Form::Int16),
            ("smallint", true) => of(Kind::UInt16, Form::UInt16),
            ("mediumint" | "int" | "integer", false) => of(Kind::Int32, Form::Int32),
            ("mediumint" | "int" | "integer", true) => of(Kind::UInt32, Form::UInt32),
            ("bigint", false) => of(Kind::Int64, Form::Int64),
            ("bigint", true) => of(Kind::UInt64, Form::UInt64),
            ("year", _) => of(Kind::Int16, Form::Int16),
            ("bit", _) if self.first.unwrap_or(1) == 1 => of(Kind::Boolean, Form::Bit),
            ("bit", _) => of(Kind::UInt64, Form::Bits),
            ("float", _) => of(Kind::Float32, Form::Float32),
            ("double" | "real", _) => of(Kind::Float64, Form::Float64),
            ("decimal" | "numeric", _) => match self.decimal() {
                (precision @ 1..=38, scale @ 0..=38) if scale <= precision => {
                    let (precision, scale) = (precision as u8, scale as u8);
                    of(Kind::Decimal { precision, scale }, Form::Decimal { precision, scale })
                }
                _ => of(Kind::DecimalText, Form::DecimalText),
            },
            ("date", _) => odd(server.zero_dates, of(Kind::Date, Form::Date)),
            ("datetime", _) => odd(server.zero_dates, of(Kind::Timestamp, Form::Moment)),
            ("timestamp", _) => odd(server.zero_dates, of(Kind::Instant, Form::Moment)),
            ("time", _) => odd(server.long_times, of(Kind::Time, Form::Time)),
            ("uuid", _) => of(Kind::Uuid, Form::UuidText),
            ("json", _) => of(Kind::Json, Form::Text),
            ("binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob", _) => {
                of(Kind::Bytes, Form::Bytes)
            }
            (base, _) if spatial(base) => of(Kind::Bytes, Form::Bytes),
            _ if self.json => of(Kind::Json, Form::Text),
            ("char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set", _) => {
                of(Kind::Text, Form::Text)
            }
            _ => of(Kind::EngineText, Form::Text),
        }
    }

    /// How it is read as a planned kind; `None` if no plan of ours could have asked for it.
    pub(super) fn reading_as(&self, kind: Kind, server: &Server) -> Option<Reading> {
        let own = self.reading(server);
        if own.kind == kind {
            return Some(own);
        }
        let form = match (kind, self.base.as_str()) {
            (Kind::Boolean, "tinyint") => Form::Flag,
            (Kind::Int8, _) if self.whole() => Form::Int8,
            (Kind::Int16, _) if self.whole() => Form::Int16,
            (Kind::Int32, _) if self.whole() => Form::Int32,
            (Kind::Int64, _) if self.whole() => Form::Int64,
            (Kind::UInt8, _) if self.whole() => Form::UInt8,
            (Kind::UInt16, _) if self.whole() => Form::UInt16,
            (Kind::UInt32, _) if self.whole() => Form::UInt32,
            (Kind::UInt64, _) if self.whole() => Form::UInt64,
            (Kind::Decimal { precision, scale }, "decimal" | "numeric") => Form::Decimal { precision, scale },
            (Kind::DecimalText, "decimal" | "numeric") => Form::DecimalText,
            (Kind::Instant | Kind::Timestamp, "datetime" | "timestamp") => Form::Moment,
            (Kind::Date, "date") => Form::Date,
            (Kind::Time, "time") => Form::Time,
            (Kind::Uuid, "binary" | "varbinary") if self.first == Some(16) => Form::UuidBytes,
            (Kind::Uuid, "char" | "varchar") => Form::UuidText,
            (Kind::Text | Kind::Json | Kind::EngineText | Kind::DecimalText, _) if own.form == Form::Text => Form::Text,
            (Kind::EngineText, "date" | "datetime" | "timestamp" | "time") => Form::Text,
            _ => return None,
        };
        Some(of(kind, form))
    }

    fn whole(&self) -> bool {
        matches!(self.base.as_str(), "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" | "year")
    }

    /// Whether a part may be a range of its values.
    pub(super) fn splits(&self) -> bool {
        self.whole() && self.base != "year"
    }

    fn decimal(&self) -> (u32, u32) {
        (self.first.unwrap_or(10), self.second.unwrap_or(0))
    }
}

/// Types whose octets are the server's own form of a geometry: a reference system and WKB.
pub(super) fn spatial(base: &str) -> bool {
    matches!(
        base,
        "geometry"
            | "point"
            | "linestring"
            | "polygon"
            | "multipoint"
            | "multilinestring"
            | "multipolygon"
            | "geometrycollection"
            | "geomcollection"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_taken_apart() {
        for (text, base, first, second, unsigned) in [
            ("bigint(20) unsigned", "bigint", Some(20), None, true),
            ("int(5) unsigned zerofill", "int", Some(5), None, true),
            ("decimal(65,30)", "decimal", Some(65), Some(30), false),
            ("enum('a(1)','unsigned')", "enum", None, None, false),
            ("datetime", "datetime", None, None, false),
        ] {
            let parsed = ColumnType::parse(text, None, false);
            let found = (parsed.base.as_str(), parsed.first, parsed.second, parsed.unsigned);
            assert_eq!(found, (base, first, second, unsigned), "{text}");
        }
    }
}
