//! The text of a `sql_variant`: its base type, a colon, the value: `int:42`. What is written reads back exactly, as
//! far as the driver tells the base type: text is always `nvarchar`.

use super::cell::{Cell, Value};
use super::moment;

/// Appends base type and text.
pub(super) fn write(cell: Cell<'_>, out: &mut Vec<u8>) -> Option<()> {
    let text = match cell {
        Cell::Null => return None,
        Cell::Bool(value) => format!("bit:{}", u8::from(value)),
        Cell::U8(value) => format!("tinyint:{value}"),
        Cell::I16(value) => format!("smallint:{value}"),
        Cell::I32(value) => format!("int:{value}"),
        Cell::I64(value) => format!("bigint:{value}"),
        Cell::F32(value) => format!("real:{value:?}"),
        Cell::F64(value) => format!("float:{value:?}"),
        Cell::Text(text) | Cell::Xml(text) => format!("nvarchar:{text}"),
        Cell::Bytes(octets) => {
            let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("varbinary:0x{hex}")
        }
        Cell::Uuid(octets) => format!("uniqueidentifier:{}", uuid_text(octets)),
        Cell::Decimal { value, scale } => format!("decimal({scale}):{value}"),
        Cell::DateTime { days, ticks } => format!("datetime:{days}.{ticks}"),
        Cell::SmallDateTime { days, minutes } => format!("smalldatetime:{days}.{minutes}"),
        Cell::Date(_) => named("date:".to_owned(), cell)?,
        Cell::Time { scale, .. } => named(format!("time({scale}):"), cell)?,
        Cell::DateTime2 { scale, .. } => named(format!("datetime2({scale}):"), cell)?,
        Cell::Offset { scale, .. } => named(format!("datetimeoffset({scale}):"), cell)?,
    };
    out.extend_from_slice(text.as_bytes());
    Some(())
}

fn named(mut text: String, cell: Cell<'_>) -> Option<String> {
    let mut out = Vec::new();
    moment::write(cell, &mut out)?;
    text.push_str(std::str::from_utf8(&out).ok()?);
    Some(text)
}

fn uuid_text(octets: [u8; 16]) -> String {
    let hex: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]].map(<[String]>::concat).join("-")
}

/// The value of such a text; `None` if nothing of ours wrote it.
pub(super) fn parse(text: &str) -> Option<Value<'static>> {
    let (name, value) = text.split_once(':')?;
    let (name, scale) = match name.split_once('(') {
        Some((name, scale)) => (name, scale.strip_suffix(')')?.parse::<u8>().ok()?),
        None => (name, 0),
    };
    let pair = || value.split_once('.');
    Some(Value::Cell(match name {
        "bit" => Cell::Bool(match value {
            "0" => false,
            "1" => true,
            _ => return None,
        }),
        "tinyint" => Cell::U8(value.parse().ok()?),
        "smallint" => Cell::I16(value.parse().ok()?),
        "int" => Cell::I32(value.parse().ok()?),
        "bigint" => Cell::I64(value.parse().ok()?),
        "real" => Cell::F32(value.parse().ok().filter(|value: &f32| value.is_finite())?),
        "float" => Cell::F64(value.parse().ok().filter(|value: &f64| value.is_finite())?),
        "nvarchar" => return Some(Value::Text(value.to_owned())),
        "varbinary" => return unhex(value.strip_prefix("0x")?).map(Value::Bytes),
        "uniqueidentifier" => {
            let octets = unhex(&value.replace('-', ""))?;
            Cell::Uuid(octets.try_into().ok()?)
        }
        "decimal" if scale <= 38 => Cell::Decimal { value: value.parse().ok()?, scale },
        "datetime" => Cell::DateTime { days: pair()?.0.parse().ok()?, ticks: pair()?.1.parse().ok()? },
        "smalldatetime" => Cell::SmallDateTime { days: pair()?.0.parse().ok()?, minutes: pair()?.1.parse().ok()? },
        "date" | "time" | "datetime2" | "datetimeoffset" if scale <= 7 => moment::parse(value, name, scale)?,
        _ => return None,
    }))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (cell, expected) in [
            (Cell::Bool(true), "bit:1"),
            (Cell::U8(255), "tinyint:255"),
            (Cell::I16(-1), "smallint:-1"),
            (Cell::I32(42), "int:42"),
            (Cell::I64(i64::MIN), "bigint:-9223372036854775808"),
            (Cell::F64(0.1), "float:0.1"),
            (Cell::F32(1.5e-40), "real:1.5e-40"),
            (Cell::Decimal { value: -1250, scale: 2 }, "decimal(2):-1250"),
            (Cell::Uuid([0x11; 16]), "uniqueidentifier:11111111-1111-1111-1111-111111111111"),
            (Cell::Date(0), "date:0001-01-01"),
            (Cell::DateTime2 { days: 0, ticks: 1, scale: 7 }, "datetime2(7):0001-01-01 00:00:00.0000001"),
            (Cell::DateTime { days: -1, ticks: 3 }, "datetime:-1.3"),
        ] {
            let mut out = Vec::new();
            write(cell, &mut out).expect("is a value");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
            assert_eq!(parse(expected), Some(Value::Cell(cell)), "{expected}");
        }
        assert_eq!(parse("nvarchar:a:b"), Some(Value::Text("a:b".to_owned())));
        assert_eq!(parse("varbinary:0x00ff"), Some(Value::Bytes(vec![0, 255])));
        for odd in ["", "int", "int:", "int:x", "thing:1", "varbinary:0xé0", "decimal(99):1", "bit:2"] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }
}
