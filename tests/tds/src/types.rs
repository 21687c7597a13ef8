//! The types of SQL Server: their names, sizes and how the wire describes them. Values are in `value`.

use std::sync::Mutex;

use crate::read::{Reader, WireError};

/// The length of a `(max)` type.
pub const MAX: u16 = 0xFFFF;

/// A declared type. Lengths are in characters for `n...` types and in bytes for the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the types of SQL Server by name")]
pub enum Type {
    Bit,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Real,
    Float,
    SmallMoney,
    Money,
    Decimal {
        precision: u8,
        scale: u8,
        numeric: bool,
    },
    Date,
    Time(u8),
    SmallDateTime,
    DateTime,
    DateTime2(u8),
    DateTimeOffset(u8),
    Char(u16),
    VarChar(u16),
    NChar(u16),
    NVarChar(u16),
    Text,
    NText,
    Binary(u16),
    VarBinary(u16),
    Image,
    Guid,
    Xml,
    Variant,
    RowVersion,
    /// A CLR type by name: hierarchyid, geography or geometry.
    Udt(&'static str),
    /// A table type, as a parameter.
    Table(String),
}

/// How text compares and which bytes non-Unicode text has on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Collation {
    /// SQL_Latin1_General_CP1_CI_AS, the server's own.
    #[default]
    Ignoring,
    /// SQL_Latin1_General_CP1_CS_AS
    Sensitive,
    /// Latin1_General_BIN2
    Binary,
    /// Latin1_General_100_CI_AS_SC_UTF8
    Utf8,
    /// Latin1_General_100_BIN2_UTF8
    Utf8Binary,
}

impl Collation {
    /// By name; an unknown name is none.
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_uppercase();
        if upper == "DATABASE_DEFAULT" || upper == "CATALOG_DEFAULT" {
            return Some(Self::Ignoring);
        }
        if !upper.contains("_CI_") && !upper.contains("_CS_") && !upper.contains("_BIN") {
            return None;
        }
        let (utf8, binary) = (upper.contains("UTF8"), upper.contains("_BIN"));
        Some(match (utf8, binary) {
            (true, true) => Self::Utf8Binary,
            (true, false) => Self::Utf8,
            (false, true) => Self::Binary,
            (false, false) if upper.contains("_CS_") => Self::Sensitive,
            (false, false) => Self::Ignoring,
        })
    }

    /// The name the catalog shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ignoring => "SQL_Latin1_General_CP1_CI_AS",
            Self::Sensitive => "SQL_Latin1_General_CP1_CS_AS",
            Self::Binary => "Latin1_General_BIN2",
            Self::Utf8 => "Latin1_General_100_CI_AS_SC_UTF8",
            Self::Utf8Binary => "Latin1_General_100_BIN2_UTF8",
        }
    }

    pub(crate) fn wire(self) -> [u8; 5] {
        match self {
            Self::Ignoring => [0x09, 0x04, 0xD0, 0x00, 0x34],
            Self::Sensitive => [0x09, 0x04, 0xC0, 0x00, 0x33],
            Self::Binary => [0x09, 0x04, 0x00, 0x02, 0x00],
            Self::Utf8 => [0x09, 0x04, 0xD0, 0x24, 0x00],
            Self::Utf8Binary => [0x09, 0x04, 0x00, 0x26, 0x00],
        }
    }

    fn from_wire(bytes: [u8; 5]) -> Self {
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let (ignore, binary, utf8) = (word >> 20 & 1 == 1, word >> 24 & 3 != 0, word >> 26 & 1 == 1);
        match (utf8, binary, ignore) {
            (true, true, _) => Self::Utf8Binary,
            (true, false, _) => Self::Utf8,
            (false, true, _) => Self::Binary,
            (false, false, true) => Self::Ignoring,
            (false, false, false) => Self::Sensitive,
        }
    }

    /// The collation registered with SQLite.
    pub(crate) fn sqlite(self) -> &'static str {
        match self {
            Self::Ignoring | Self::Utf8 => "TDS_CI",
            Self::Sensitive => "TDS_CS",
            Self::Binary | Self::Utf8Binary => "TDS_BIN",
        }
    }

    pub(crate) fn utf8(self) -> bool {
        matches!(self, Self::Utf8 | Self::Utf8Binary)
    }
}

/// What the catalog says about a system type: name, system_type_id, user_type_id.
pub(crate) const SYSTEM_TYPES: &[(&str, i64, i64, i64, i64, i64)] = &[
    ("image", 34, 34, 16, 0, 0),
    ("text", 35, 35, 16, 0, 0),
    ("uniqueidentifier", 36, 36, 16, 0, 0),
    ("date", 40, 40, 3, 10, 0),
    ("time", 41, 41, 5, 16, 7),
    ("datetime2", 42, 42, 8, 27, 7),
    ("datetimeoffset", 43, 43, 10, 34, 7),
    ("tinyint", 48, 48, 1, 3, 0),
    ("smallint", 52, 52, 2, 5, 0),
    ("int", 56, 56, 4, 10, 0),
    ("smalldatetime", 58, 58, 4, 16, 0),
    ("real", 59, 59, 4, 24, 0),
    ("money", 60, 60, 8, 19, 4),
    ("datetime", 61, 61, 8, 23, 3),
    ("float", 62, 62, 8, 53, 0),
    ("sql_variant", 98, 98, 8016, 0, 0),
    ("ntext", 99, 99, 16, 0, 0),
    ("bit", 104, 104, 1, 1, 0),
    ("decimal", 106, 106, 17, 38, 38),
    ("numeric", 108, 108, 17, 38, 38),
    ("smallmoney", 122, 122, 4, 10, 4),
    ("bigint", 127, 127, 8, 19, 0),
    ("hierarchyid", 240, 128, 892, 0, 0),
    ("geometry", 240, 129, -1, 0, 0),
    ("geography", 240, 130, -1, 0, 0),
    ("varbinary", 165, 165, 8000, 0, 0),
    ("varchar", 167, 167, 8000, 0, 0),
    ("binary", 173, 173, 8000, 0, 0),
    ("char", 175, 175, 8000, 0, 0),
    ("timestamp", 189, 189, 8, 0, 0),
    ("nvarchar", 231, 231, 8000, 0, 0),
    ("nchar", 239, 239, 8000, 0, 0),
    ("xml", 241, 241, -1, 0, 0),
    ("sysname", 231, 256, 256, 0, 0),
];

impl Type {
    /// The type's bare name.
    pub fn name(&self) -> &str {
        match self {
            Self::Bit => "bit",
            Self::TinyInt => "tinyint",
            Self::SmallInt => "smallint",
            Self::Int => "int",
            Self::BigInt => "bigint",
            Self::Real => "real",
            Self::Float => "float",
            Self::SmallMoney => "smallmoney",
            Self::Money => "money",
            Self::Decimal { numeric: false, .. } => "decimal",
            Self::Decimal { .. } => "numeric",
            Self::Date => "date",
            Self::Time(_) => "time",
            Self::SmallDateTime => "smalldatetime",
            Self::DateTime => "datetime",
            Self::DateTime2(_) => "datetime2",
            Self::DateTimeOffset(_) => "datetimeoffset",
            Self::Char(_) => "char",
            Self::VarChar(_) => "varchar",
            Self::NChar(_) => "nchar",
            Self::NVarChar(_) => "nvarchar",
            Self::Text => "text",
            Self::NText => "ntext",
            Self::Binary(_) => "binary",
            Self::VarBinary(_) => "varbinary",
            Self::Image => "image",
            Self::Guid => "uniqueidentifier",
            Self::Xml => "xml",
            Self::Variant => "sql_variant",
            Self::RowVersion => "timestamp",
            Self::Udt(name) => name,
            Self::Table(name) => name,
        }
    }

    /// The type as a declaration writes it, such as `decimal(10,2)`.
    pub fn declared(&self) -> String {
        let name = self.name();
        match self {
            Self::Decimal { precision, scale, .. } => format!("{name}({precision},{scale})"),
            Self::Time(scale) | Self::DateTime2(scale) | Self::DateTimeOffset(scale) => format!("{name}({scale})"),
            Self::VarChar(MAX) | Self::NVarChar(MAX) | Self::VarBinary(MAX) => format!("{name}(max)"),
            Self::Char(n) | Self::VarChar(n) | Self::NChar(n) | Self::NVarChar(n) => format!("{name}({n})"),
            Self::Binary(n) | Self::VarBinary(n) => format!("{name}({n})"),
            _ => name.to_owned(),
        }
    }

    /// By name and the numbers in brackets; `max` is -1.
    pub fn named(name: &str, arguments: &[i64]) -> Option<Self> {
        let first = arguments.first().copied();
        let scale = |default: u8| match first {
            None => Some(default),
            Some(n @ 0..=7) => Some(n as u8),
            Some(_) => None,
        };
        let length = |longest: i64, default: u16| match first {
            None => Some(default),
            Some(-1) => Some(MAX),
            Some(n) if n >= 1 && n <= longest => Some(n as u16),
            Some(_) => None,
        };
        let fixed = |longest: i64| length(longest, 1).filter(|n| *n != MAX);
        let lower = name.to_ascii_lowercase();
        Some(match lower.as_str() {
            "bit" => Self::Bit,
            "tinyint" => Self::TinyInt,
            "smallint" => Self::SmallInt,
            "int" | "integer" => Self::Int,
            "bigint" => Self::BigInt,
            "real" => Self::Real,
            "float" | "double" => match first {
                Some(1..=24) => Self::Real,
                None | Some(25..=53) => Self::Float,
                _ => return None,
            },
            "smallmoney" => Self::SmallMoney,
            "money" => Self::Money,
            "decimal" | "dec" | "numeric" => {
                let precision = u8::try_from(first.unwrap_or(18)).ok().filter(|p| (1..=38).contains(p))?;
                let scale = u8::try_from(arguments.get(1).copied().unwrap_or(0)).ok().filter(|s| *s <= precision)?;
                Self::Decimal { precision, scale, numeric: lower == "numeric" }
            }
            "date" => Self::Date,
            "time" => Self::Time(scale(7)?),
            "smalldatetime" => Self::SmallDateTime,
            "datetime" => Self::DateTime,
            "datetime2" => Self::DateTime2(scale(7)?),
            "datetimeoffset" => Self::DateTimeOffset(scale(7)?),
            "char" | "character" => Self::Char(fixed(8000)?),
            "varchar" => Self::VarChar(length(8000, 1)?),
            "nchar" => Self::NChar(fixed(4000)?),
            "nvarchar" => Self::NVarChar(length(4000, 1)?),
            "sysname" => Self::NVarChar(128),
            "text" => Self::Text,
            "ntext" => Self::NText,
            "image" => Self::Image,
            "binary" => Self::Binary(fixed(8000)?),
            "varbinary" => Self::VarBinary(length(8000, 1)?),
            "uniqueidentifier" => Self::Guid,
            "xml" => Self::Xml,
            "sql_variant" => Self::Variant,
            "rowversion" | "timestamp" => Self::RowVersion,
            "hierarchyid" => Self::Udt("hierarchyid"),
            "geography" => Self::Udt("geography"),
            "geometry" => Self::Udt("geometry"),
            _ => return None,
        })
    }

    /// max_length, precision and scale as sys.columns shows them.
    pub(crate) fn sizes(&self) -> (i64, i64, i64) {
        let length = |n: u16, width: i64| if n == MAX { -1 } else { i64::from(n) * width };
        match self {
            Self::Decimal { precision, scale, .. } => {
                let bytes = [5, 9, 13, 17][decimal_class(*precision)];
                (bytes, i64::from(*precision), i64::from(*scale))
            }
            Self::Time(scale) => {
                ([3, 3, 3, 4, 4, 5, 5, 5][usize::from(*scale)], time_precision(8, *scale), i64::from(*scale))
            }
            Self::DateTime2(scale) => {
                ([6, 6, 6, 7, 7, 8, 8, 8][usize::from(*scale)], time_precision(19, *scale), i64::from(*scale))
            }
            Self::DateTimeOffset(scale) => {
                ([8, 8, 8, 9, 9, 10, 10, 10][usize::from(*scale)], time_precision(26, *scale), i64::from(*scale))
            }
            Self::Char(n) | Self::VarChar(n) | Self::Binary(n) | Self::VarBinary(n) => (length(*n, 1), 0, 0),
            Self::NChar(n) | Self::NVarChar(n) => (length(*n, 2), 0, 0),
            other => {
                let found = SYSTEM_TYPES.iter().find(|row| row.0 == other.name());
                found.map_or((-1, 0, 0), |row| (row.3, row.4, row.5))
            }
        }
    }

    pub(crate) fn ids(&self) -> (i64, i64) {
        SYSTEM_TYPES.iter().find(|row| row.0 == self.name()).map_or((243, 257), |row| (row.1, row.2))
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(
            self,
            Self::Char(_)
                | Self::VarChar(_)
                | Self::NChar(_)
                | Self::NVarChar(_)
                | Self::Text
                | Self::NText
                | Self::Xml
        )
    }

    pub(crate) fn is_unicode(&self) -> bool {
        matches!(self, Self::NChar(_) | Self::NVarChar(_) | Self::NText | Self::Xml)
    }

    pub(crate) fn is_bytes(&self) -> bool {
        matches!(self, Self::Binary(_) | Self::VarBinary(_) | Self::Image | Self::RowVersion | Self::Udt(_))
    }

    pub(crate) fn is_exact(&self) -> bool {
        matches!(self, Self::Decimal { .. } | Self::Money | Self::SmallMoney)
    }

    pub(crate) fn is_integer(&self) -> bool {
        matches!(self, Self::Bit | Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt)
    }

    /// Precedence when two types meet; the higher wins.
    pub(crate) fn precedence(&self) -> u8 {
        match self {
            Self::Udt(_) | Self::Table(_) => 30,
            Self::Variant => 29,
            Self::Xml => 28,
            Self::DateTimeOffset(_) => 27,
            Self::DateTime2(_) => 26,
            Self::DateTime => 25,
            Self::SmallDateTime => 24,
            Self::Date => 23,
            Self::Time(_) => 22,
            Self::Float => 21,
            Self::Real => 20,
            Self::Decimal { .. } => 19,
            Self::Money => 18,
            Self::SmallMoney => 17,
            Self::BigInt => 16,
            Self::Int => 15,
            Self::SmallInt => 14,
            Self::TinyInt => 13,
            Self::Bit => 12,
            Self::NText => 11,
            Self::Text => 10,
            Self::Image => 9,
            Self::RowVersion => 8,
            Self::Guid => 7,
            Self::NVarChar(_) => 6,
            Self::NChar(_) => 5,
            Self::VarChar(_) => 4,
            Self::Char(_) => 3,
            Self::VarBinary(_) => 2,
            Self::Binary(_) => 1,
        }
    }

    /// The collation of SQLite under which values of this type compare right.
    pub(crate) fn sqlite_collation(&self, collation: Collation) -> Option<&'static str> {
        match self {
            _ if self.is_exact() => Some("TDS_DECIMAL"),
            Self::DateTimeOffset(_) => Some("TDS_INSTANT"),
            Self::Guid => Some("TDS_GUID"),
            _ if self.is_text() => Some(collation.sqlite()),
            _ => None,
        }
    }

    /// A number for SQL text, where the type itself cannot stand.
    pub(crate) fn interned(&self) -> i64 {
        let mut types = TYPES.lock().expect("no holder of this lock can panic");
        let found = types.iter().position(|known| known == self);
        let at = found.unwrap_or_else(|| {
            types.push(self.clone());
            types.len() - 1
        });
        at as i64
    }

    pub(crate) fn by_number(number: i64) -> Option<Self> {
        let types = TYPES.lock().expect("no holder of this lock can panic");
        types.get(usize::try_from(number).ok()?).cloned()
    }
}

static TYPES: Mutex<Vec<Type>> = Mutex::new(Vec::new());

fn decimal_class(precision: u8) -> usize {
    match precision {
        0..=9 => 0,
        10..=19 => 1,
        20..=28 => 2,
        _ => 3,
    }
}

fn time_precision(base: i64, scale: u8) -> i64 {
    if scale == 0 { base } else { base + 1 + i64::from(scale) }
}

/// A type as one message spells it: the token decides how values are framed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WireType {
    pub(crate) token: u8,
    pub(crate) ty: Type,
    /// The declared size in bytes where the token has one.
    pub(crate) size: u32,
    pub(crate) collation: Collation,
}

impl WireType {
    /// Reads TYPE_INFO. A table type is read by `tvp`.
    pub(crate) fn read(from: &mut Reader) -> Result<Self, WireError> {
        let token = from.u8()?;
        let mut size = 0_u32;
        let mut collation = Collation::default();
        let bad = |what: &str| WireError::Invalid(format!("type {token:#04x}: {what}"));
        let ty = match token {
            0x1F => Type::Int,
            0x30 => Type::TinyInt,
            0x32 => Type::Bit,
            0x34 => Type::SmallInt,
            0x38 => Type::Int,
            0x7F => Type::BigInt,
            0x3A => Type::SmallDateTime,
            0x3B => Type::Real,
            0x3C => Type::Money,
            0x3D => Type::DateTime,
            0x3E => Type::Float,
            0x7A => Type::SmallMoney,
            0x28 => Type::Date,
            0x24 | 0x26 | 0x68 | 0x6D | 0x6E | 0x6F => {
                size = u32::from(from.u8()?);
                match (token, size) {
                    (0x24, 16) => Type::Guid,
                    (0x26, 1) => Type::TinyInt,
                    (0x26, 2) => Type::SmallInt,
                    (0x26, 4) => Type::Int,
                    (0x26, 8) => Type::BigInt,
                    (0x68, 1) => Type::Bit,
                    (0x6D, 4) => Type::Real,
                    (0x6D, 8) => Type::Float,
                    (0x6E, 4) => Type::SmallMoney,
                    (0x6E, 8) => Type::Money,
                    (0x6F, 4) => Type::SmallDateTime,
                    (0x6F, 8) => Type::DateTime,
                    _ => return Err(bad("impossible length")),
                }
            }
            0x37 | 0x3F | 0x6A | 0x6C => {
                size = u32::from(from.u8()?);
                let (precision, scale) = (from.u8()?, from.u8()?);
                if !(1..=38).contains(&precision) || scale > precision {
                    return Err(bad("impossible precision"));
                }
                Type::Decimal { precision, scale, numeric: matches!(token, 0x3F | 0x6C) }
            }
            0x29..=0x2B => {
                let scale = from.u8()?;
                if scale > 7 {
                    return Err(bad("impossible scale"));
                }
                match token {
                    0x29 => Type::Time(scale),
                    0x2A => Type::DateTime2(scale),
                    _ => Type::DateTimeOffset(scale),
                }
            }
            0x25 | 0x2D => {
                size = u32::from(from.u8()?);
                let n = (size as u16).max(1);
                if token == 0x25 { Type::VarBinary(n) } else { Type::Binary(n) }
            }
            0x27 | 0x2F => {
                size = u32::from(from.u8()?);
                let n = (size as u16).max(1);
                if token == 0x27 { Type::VarChar(n) } else { Type::Char(n) }
            }
            0xA5 | 0xAD => {
                size = u32::from(from.u16()?);
                let n = (size as u16).max(1);
                if token == 0xA5 { Type::VarBinary(n) } else { Type::Binary(n) }
            }
            0xA7 | 0xAF | 0xE7 | 0xEF => {
                size = u32::from(from.u16()?);
                collation = Collation::from_wire(from.array()?);
                let n = size as u16;
                let wide = if n == MAX { MAX } else { (n / 2).max(1) };
                match token {
                    0xA7 => Type::VarChar(n.max(1)),
                    0xAF => Type::Char(n.max(1)),
                    0xE7 => Type::NVarChar(wide),
                    _ => Type::NChar(wide),
                }
            }
            0x22 => {
                size = from.u32()?;
                Type::Image
            }
            0x23 | 0x63 => {
                size = from.u32()?;
                collation = Collation::from_wire(from.array()?);
                if token == 0x23 { Type::Text } else { Type::NText }
            }
            0x62 => {
                size = from.u32()?;
                Type::Variant
            }
            0xF1 => {
                if from.u8()? != 0 {
                    from.b_varchar()?;
                    from.b_varchar()?;
                    from.us_varchar()?;
                }
                Type::Xml
            }
            0xF0 => read_udt(from)?,
            _ => return Err(bad("unknown")),
        };
        Ok(Self { token, ty, size, collation })
    }
}

fn read_udt(from: &mut Reader) -> Result<Type, WireError> {
    // Parameters carry three names; column metadata of a bulk load carries the size and an assembly name as well, which
    // clients leave out because they send such columns as varbinary(max).
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(from.b_varchar()?.to_ascii_lowercase());
    }
    let name = names.pop().unwrap_or_default();
    Ok(match name.as_str() {
        "hierarchyid" => Type::Udt("hierarchyid"),
        "geometry" => Type::Udt("geometry"),
        "geography" => Type::Udt("geography"),
        _ => return Err(WireError::Invalid(format!("unknown CLR type {name}"))),
    })
}

/// Writes TYPE_INFO for a result column; gives how values are framed.
pub(crate) fn write_type(out: &mut Vec<u8>, ty: &Type, nullable: bool, collation: Collation) {
    let n = |out: &mut Vec<u8>, fixed: u8, token: u8, size: u8| {
        if nullable { out.extend([token, size]) } else { out.push(fixed) }
    };
    let text = |out: &mut Vec<u8>, token: u8, size: u16| {
        out.push(token);
        out.extend(size.to_le_bytes());
        out.extend(collation.wire());
    };
    let wide = |size: u16| if size == MAX { MAX } else { size * 2 };
    match ty {
        Type::Bit => n(out, 0x32, 0x68, 1),
        Type::TinyInt => n(out, 0x30, 0x26, 1),
        Type::SmallInt => n(out, 0x34, 0x26, 2),
        Type::Int => n(out, 0x38, 0x26, 4),
        Type::BigInt => n(out, 0x7F, 0x26, 8),
        Type::Real => n(out, 0x3B, 0x6D, 4),
        Type::Float => n(out, 0x3E, 0x6D, 8),
        Type::SmallMoney => n(out, 0x7A, 0x6E, 4),
        Type::Money => n(out, 0x3C, 0x6E, 8),
        Type::SmallDateTime => n(out, 0x3A, 0x6F, 4),
        Type::DateTime => n(out, 0x3D, 0x6F, 8),
        Type::Decimal { precision, scale, numeric } => {
            let size = [5, 9, 13, 17][decimal_class(*precision)];
            out.extend([if *numeric { 0x6C } else { 0x6A }, size, *precision, *scale]);
        }
        Type::Date => out.push(0x28),
        Type::Time(scale) => out.extend([0x29, *scale]),
        Type::DateTime2(scale) => out.extend([0x2A, *scale]),
        Type::DateTimeOffset(scale) => out.extend([0x2B, *scale]),
        Type::Char(size) => text(out, 0xAF, *size),
        Type::VarChar(size) => text(out, 0xA7, *size),
        Type::NChar(size) => text(out, 0xEF, wide(*size)),
        Type::NVarChar(size) => text(out, 0xE7, wide(*size)),
        Type::Text | Type::NText => {
            let (token, size) = if *ty == Type::Text { (0x23, 0x7FFF_FFFF_u32) } else { (0x63, 0x7FFF_FFFE) };
            out.push(token);
            out.extend(size.to_le_bytes());
            out.extend(collation.wire());
        }
        Type::Image => {
            out.push(0x22);
            out.extend(0x7FFF_FFFF_u32.to_le_bytes());
        }
        Type::Binary(size) => {
            out.push(0xAD);
            out.extend(size.to_le_bytes());
        }
        Type::VarBinary(size) => {
            out.push(0xA5);
            out.extend(size.to_le_bytes());
        }
        Type::RowVersion => out.extend([0xAD, 8, 0]),
        Type::Guid => out.extend([0x24, 16]),
        Type::Xml => out.extend([0xF1, 0]),
        Type::Variant => {
            out.push(0x62);
            out.extend(8009_u32.to_le_bytes());
        }
        Type::Udt(name) => {
            out.push(0xF0);
            out.extend(if *name == "hierarchyid" { 892_u16 } else { 0xFFFF }.to_le_bytes());
            for part in ["master", "sys", name] {
                b_varchar(out, part);
            }
            us_varchar(out, &assembly(name));
        }
        // A table type is never a result column.
        Type::Table(_) => out.extend([0xE7, 0xFF, 0xFF, 0x09, 0x04, 0xD0, 0x00, 0x34]),
    }
}

fn assembly(name: &str) -> String {
    let class = match name {
        "hierarchyid" => "SqlHierarchyId",
        "geometry" => "SqlGeometry",
        _ => "SqlGeography",
    };
    format!(
        "Microsoft.SqlServer.Types.{class}, Microsoft.SqlServer.Types, Version=11.0.0.0, Culture=neutral, \
         PublicKeyToken=89845dcd8080cc91"
    )
}

/// UTF-16 text with a length of one byte.
pub(crate) fn b_varchar(out: &mut Vec<u8>, text: &str) {
    let units: Vec<u16> = text.encode_utf16().take(255).collect();
    out.push(units.len() as u8);
    out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
}

/// UTF-16 text with a length of two bytes.
pub(crate) fn us_varchar(out: &mut Vec<u8>, text: &str) {
    let units: Vec<u16> = text.encode_utf16().take(65_535).collect();
    out.extend((units.len() as u16).to_le_bytes());
    out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
}
