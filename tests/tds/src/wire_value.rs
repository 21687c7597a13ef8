//! Values to and from the bytes of the wire, both directions beside each other.

use crate::read::{Reader, WireError};
use crate::types::{Collation, MAX, Type, WireType};
use crate::value::{
    DAY, DAYS_1900, DAYS_MAX, Moment, Value, format_decimal, from_bytes, from_utf16, guid_bytes, guid_text,
    parse_decimal, rescale, to_bytes, to_utf16,
};

const PLP_NULL: u64 = u64::MAX;
const PLP_UNKNOWN: u64 = u64::MAX - 1;

fn invalid(what: &str) -> WireError {
    WireError::Invalid(what.to_owned())
}

/// Reads one value. In rows a text or image has a pointer in front, in parameters it has none.
pub(crate) fn read_value(from: &mut Reader, wire: &WireType, in_row: bool) -> Result<Value, WireError> {
    let token = wire.token;
    match token {
        0x1F => Ok(Value::Null),
        0x30 | 0x32 | 0x34 | 0x38 | 0x7F | 0x3A..=0x3E | 0x7A => {
            let size = match token {
                0x30 | 0x32 => 1,
                0x34 => 2,
                0x38 | 0x3A | 0x3B | 0x7A => 4,
                _ => 8,
            };
            let bytes = from.bytes(size)?;
            read_scalar(&bytes, &wire.ty, wire.collation)
        }
        0x24 | 0x26 | 0x68 | 0x6D..=0x6F | 0x37 | 0x3F | 0x6A | 0x6C | 0x28..=0x2B | 0x25 | 0x27 | 0x2D | 0x2F => {
            let size = usize::from(from.u8()?);
            if size == 0 && !matches!(token, 0x25 | 0x27 | 0x2D | 0x2F) {
                return Ok(Value::Null);
            }
            if size == 0xFF && matches!(token, 0x25 | 0x27 | 0x2D | 0x2F) {
                return Ok(Value::Null);
            }
            let bytes = from.bytes(size)?;
            read_scalar(&bytes, &wire.ty, wire.collation)
        }
        0xA5 | 0xA7 | 0xE7 if wire.size == 0xFFFF => read_plp(from, wire),
        0xF0 | 0xF1 => read_plp(from, wire),
        0xA5 | 0xA7 | 0xAD | 0xAF | 0xE7 | 0xEF => {
            let size = from.u16()?;
            if size == 0xFFFF {
                return Ok(Value::Null);
            }
            if u32::from(size) > wire.size {
                return Err(invalid("a value is longer than its type"));
            }
            let bytes = from.bytes(usize::from(size))?;
            read_scalar(&bytes, &wire.ty, wire.collation)
        }
        0x22 | 0x23 | 0x63 => {
            if in_row {
                let pointer = usize::from(from.u8()?);
                if pointer == 0 {
                    return Ok(Value::Null);
                }
                from.slice(pointer + 8)?;
            }
            let size = from.u32()?;
            if size == u32::MAX {
                return Ok(Value::Null);
            }
            let bytes = from.bytes(size as usize)?;
            read_scalar(&bytes, &wire.ty, wire.collation)
        }
        0x62 => {
            let size = from.u32()?;
            if size == 0 {
                return Ok(Value::Null);
            }
            if size > 8016 {
                return Err(invalid("a variant is too long"));
            }
            let bytes = from.bytes(size as usize)?;
            read_variant(&bytes)?;
            Ok(Value::Bytes(bytes))
        }
        _ => Err(invalid("a value of an unknown type")),
    }
}

fn read_plp(from: &mut Reader, wire: &WireType) -> Result<Value, WireError> {
    let total = from.u64()?;
    if total == PLP_NULL {
        return Ok(Value::Null);
    }
    let mut bytes = Vec::new();
    loop {
        let size = from.u32()? as usize;
        if size == 0 {
            break;
        }
        if bytes.len() + size > 512 << 20 {
            return Err(WireError::TooLong);
        }
        bytes.extend_from_slice(from.slice(size)?);
    }
    if total != PLP_UNKNOWN && total != bytes.len() as u64 {
        return Err(invalid("the chunks of a value do not add up to its length"));
    }
    read_scalar(&bytes, &wire.ty, wire.collation)
}

fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A value's bytes, without any length, to the value.
pub(crate) fn read_scalar(bytes: &[u8], ty: &Type, collation: Collation) -> Result<Value, WireError> {
    let wanted = |count: usize| if bytes.len() == count { Ok(()) } else { Err(invalid("a value of a wrong length")) };
    Ok(match ty {
        Type::Bit => {
            wanted(1)?;
            Value::Integer(i64::from(bytes[0] != 0))
        }
        Type::TinyInt => {
            wanted(1)?;
            Value::Integer(i64::from(bytes[0]))
        }
        Type::SmallInt | Type::Int | Type::BigInt => {
            let size = [2, 4, 8][usize::from(*ty != Type::SmallInt) + usize::from(*ty == Type::BigInt)];
            wanted(size)?;
            let shift = 64 - size as u32 * 8;
            Value::Integer((unsigned(bytes) << shift) as i64 >> shift)
        }
        Type::Real => {
            wanted(4)?;
            float(f64::from(f32::from_bits(unsigned(bytes) as u32)))?
        }
        Type::Float => {
            wanted(8)?;
            float(f64::from_bits(unsigned(bytes)))?
        }
        Type::SmallMoney => {
            wanted(4)?;
            Value::text(format_decimal(i128::from(unsigned(bytes) as u32 as i32), 4))
        }
        Type::Money => {
            wanted(8)?;
            let number = unsigned(&bytes[..4]) << 32 | unsigned(&bytes[4..]);
            Value::text(format_decimal(i128::from(number as i64), 4))
        }
        Type::Decimal { precision, scale, .. } => {
            if !(2..=17).contains(&bytes.len()) {
                return Err(invalid("a decimal of a wrong length"));
            }
            let magnitude = bytes[1..].iter().rev().fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
            if magnitude >= 10_u128.pow(u32::from(*precision)) {
                return Err(invalid("a decimal with more digits than its precision"));
            }
            let number = magnitude as i128;
            Value::text(format_decimal(if bytes[0] == 0 { -number } else { number }, *scale))
        }
        Type::Date => {
            wanted(3)?;
            Value::text(moment(unsigned(bytes) as i64, 0)?.date())
        }
        Type::Time(scale) => Value::text(moment(0, read_time(bytes, *scale)?)?.time(7)),
        Type::DateTime2(scale) => {
            let (time, date) = split(bytes, 3)?;
            Value::text(moment(unsigned(date) as i64, read_time(time, *scale)?)?.stored())
        }
        Type::DateTimeOffset(scale) => {
            let (rest, offset) = split(bytes, 2)?;
            let (time, date) = split(rest, 3)?;
            let offset = i64::from(unsigned(offset) as u16 as i16);
            if offset.abs() > 840 {
                return Err(invalid("an impossible time zone"));
            }
            let moment = moment(unsigned(date) as i64, read_time(time, *scale)?)?;
            Value::text(Moment { offset, ..moment }.stored_with_offset())
        }
        Type::SmallDateTime => {
            wanted(4)?;
            let minutes = unsigned(&bytes[2..]) as i64;
            Value::text(moment(DAYS_1900 + unsigned(&bytes[..2]) as i64, minutes * 600_000_000)?.stored())
        }
        Type::DateTime => {
            wanted(8)?;
            let days = DAYS_1900 + i64::from(unsigned(&bytes[..4]) as u32 as i32);
            let ticks = (unsigned(&bytes[4..]) as i64 * 100_000 + 1) / 3;
            Value::text(moment(days, ticks)?.stored())
        }
        Type::Guid => {
            wanted(16)?;
            Value::text(guid_text(bytes.try_into().expect("sixteen bytes")))
        }
        Type::Char(_) | Type::VarChar(_) | Type::Text => Value::Text(from_bytes(bytes, collation.utf8())),
        Type::NChar(_) | Type::NVarChar(_) | Type::NText | Type::Xml => {
            if bytes.len() % 2 == 1 {
                return Err(invalid("text of an odd length"));
            }
            let bytes = if *ty == Type::Xml { bytes.strip_prefix(&[0xFF, 0xFE]).unwrap_or(bytes) } else { bytes };
            Value::Text(from_utf16(bytes))
        }
        Type::Binary(_) | Type::VarBinary(_) | Type::Image | Type::RowVersion | Type::Udt(_) | Type::Variant => {
            Value::Bytes(bytes.to_vec())
        }
        Type::Table(_) => return Err(invalid("a table is no value")),
    })
}

fn float(number: f64) -> Result<Value, WireError> {
    if number.is_finite() { Ok(Value::Float(number)) } else { Err(invalid("a float that is no number")) }
}

fn split(bytes: &[u8], last: usize) -> Result<(&[u8], &[u8]), WireError> {
    let at = bytes.len().checked_sub(last).ok_or_else(|| invalid("a value of a wrong length"))?;
    Ok(bytes.split_at(at))
}

fn time_size(scale: u8) -> usize {
    [3, 3, 3, 4, 4, 5, 5, 5][usize::from(scale.min(7))]
}

fn read_time(bytes: &[u8], scale: u8) -> Result<i64, WireError> {
    if bytes.len() != time_size(scale) {
        return Err(invalid("a time of a wrong length"));
    }
    let ticks = unsigned(bytes) as i64 * 10_i64.pow(u32::from(7 - scale.min(7)));
    if ticks < DAY { Ok(ticks) } else { Err(invalid("a time beyond midnight")) }
}

fn moment(days: i64, ticks: i64) -> Result<Moment, WireError> {
    if !(0..=DAYS_MAX).contains(&days) || !(0..DAY).contains(&ticks) {
        return Err(invalid("an impossible date or time"));
    }
    Ok(Moment { days, ticks, offset: 0 })
}

/// The type and value inside a variant.
pub(crate) fn read_variant(bytes: &[u8]) -> Result<(Type, Value, Collation), WireError> {
    let mut from = Reader::of(bytes.to_vec());
    let token = from.u8()?;
    let properties = from.u8()?;
    let mut collation = Collation::default();
    let ty = match token {
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
        0x24 => Type::Guid,
        0x28 => Type::Date,
        0x29 => Type::Time(from.u8()?.min(7)),
        0x2A => Type::DateTime2(from.u8()?.min(7)),
        0x2B => Type::DateTimeOffset(from.u8()?.min(7)),
        0x6A | 0x6C => {
            let (precision, scale) = (from.u8()?, from.u8()?);
            if !(1..=38).contains(&precision) || scale > precision {
                return Err(invalid("impossible precision"));
            }
            Type::Decimal { precision, scale, numeric: token == 0x6C }
        }
        0xA5 | 0xAD => {
            let size = from.u16()?.max(1);
            if token == 0xA5 { Type::VarBinary(size) } else { Type::Binary(size) }
        }
        0xA7 | 0xAF | 0xE7 | 0xEF => {
            let mut head = vec![token, 0, 0];
            let wire_collation: [u8; 5] = from.array()?;
            let size = from.u16()?;
            head[1..].copy_from_slice(&size.to_le_bytes());
            head.extend(wire_collation);
            let wire = WireType::read(&mut Reader::of(head))?;
            collation = wire.collation;
            wire.ty
        }
        _ => return Err(invalid("a variant of an unknown type")),
    };
    let read = bytes.len() - from.rest()?.len();
    if read != usize::from(properties) + 2 {
        return Err(invalid("a variant whose properties have a wrong length"));
    }
    let value = read_scalar(&bytes[read..], &ty, collation)?;
    Ok((ty, value, collation))
}

/// A value and its type as a variant's bytes.
pub(crate) fn write_variant(ty: &Type, value: &Value, collation: Collation) -> Option<Vec<u8>> {
    let mut properties = Vec::new();
    let token = match ty {
        Type::Bit => 0x32,
        Type::TinyInt => 0x30,
        Type::SmallInt => 0x34,
        Type::Int => 0x38,
        Type::BigInt => 0x7F,
        Type::Real => 0x3B,
        Type::Float => 0x3E,
        Type::SmallMoney => 0x7A,
        Type::Money => 0x3C,
        Type::SmallDateTime => 0x3A,
        Type::DateTime => 0x3D,
        Type::Guid => 0x24,
        Type::Date => 0x28,
        Type::Time(scale) | Type::DateTime2(scale) | Type::DateTimeOffset(scale) => {
            properties.push(*scale);
            match ty {
                Type::Time(_) => 0x29,
                Type::DateTime2(_) => 0x2A,
                _ => 0x2B,
            }
        }
        Type::Decimal { precision, scale, numeric } => {
            properties.extend([*precision, *scale]);
            if *numeric { 0x6C } else { 0x6A }
        }
        Type::Binary(size) | Type::VarBinary(size) if *size != MAX => {
            properties.extend(size.to_le_bytes());
            if matches!(ty, Type::Binary(_)) { 0xAD } else { 0xA5 }
        }
        Type::Char(size) | Type::VarChar(size) if *size != MAX => {
            properties.extend(collation.wire());
            properties.extend(size.to_le_bytes());
            if matches!(ty, Type::Char(_)) { 0xAF } else { 0xA7 }
        }
        Type::NChar(size) | Type::NVarChar(size) if *size != MAX => {
            properties.extend(collation.wire());
            properties.extend((size * 2).to_le_bytes());
            if matches!(ty, Type::NChar(_)) { 0xEF } else { 0xE7 }
        }
        _ => return None,
    };
    let mut out = vec![token, properties.len() as u8];
    out.extend(properties);
    out.extend(scalar_bytes(ty, value, collation));
    Some(out)
}

/// Writes one value as a row carries it.
pub(crate) fn write_value(out: &mut Vec<u8>, ty: &Type, nullable: bool, collation: Collation, value: &Value) {
    let null = value.is_null();
    match ty {
        Type::VarChar(MAX) | Type::NVarChar(MAX) | Type::VarBinary(MAX) | Type::Xml | Type::Udt(_) => {
            if null {
                out.extend(PLP_NULL.to_le_bytes());
                return;
            }
            let bytes = scalar_bytes(ty, value, collation);
            out.extend((bytes.len() as u64).to_le_bytes());
            // Chunks of an odd size, so that no client relies on a character being whole in its chunk.
            for chunk in bytes.chunks(8001) {
                out.extend((chunk.len() as u32).to_le_bytes());
                out.extend(chunk);
            }
            out.extend(0_u32.to_le_bytes());
        }
        Type::Text | Type::NText | Type::Image => {
            if null {
                out.push(0);
                return;
            }
            out.push(16);
            out.extend([0x64; 16]);
            out.extend([0x32; 8]);
            let bytes = scalar_bytes(ty, value, collation);
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        }
        Type::Variant => {
            let bytes = scalar_bytes(ty, value, collation);
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        }
        _ if ty.is_text() || ty.is_bytes() => {
            if null {
                out.extend([0xFF, 0xFF]);
                return;
            }
            let bytes = scalar_bytes(ty, value, collation);
            out.extend((bytes.len() as u16).to_le_bytes());
            out.extend(bytes);
        }
        _ => {
            let bytes = if null { Vec::new() } else { scalar_bytes(ty, value, collation) };
            let fixed = !nullable
                && (ty.is_integer()
                    || matches!(
                        ty,
                        Type::Real
                            | Type::Float
                            | Type::Money
                            | Type::SmallMoney
                            | Type::DateTime
                            | Type::SmallDateTime
                    ));
            if !fixed {
                out.push(bytes.len() as u8);
            }
            out.extend(bytes);
        }
    }
}

/// A value's bytes without any length.
pub(crate) fn scalar_bytes(ty: &Type, value: &Value, collation: Collation) -> Vec<u8> {
    if value.is_null() {
        return Vec::new();
    }
    let integer = || value.to_integer().unwrap_or(0);
    let exact = |scale: u8| {
        let (number, has) = parse_decimal(&value.to_text()).unwrap_or((0, 0));
        rescale(number, has, scale).unwrap_or(0)
    };
    let moment = || Moment::parse(&value.to_text()).unwrap_or(Moment { days: 0, ticks: 0, offset: 0 });
    let real = || match value {
        Value::Float(number) => *number,
        Value::Integer(number) => *number as f64,
        other => other.to_text().trim().parse().unwrap_or(0.0),
    };
    match ty {
        Type::Bit | Type::TinyInt => vec![integer() as u8],
        Type::SmallInt => (integer() as i16).to_le_bytes().to_vec(),
        Type::Int => (integer() as i32).to_le_bytes().to_vec(),
        Type::BigInt => integer().to_le_bytes().to_vec(),
        Type::Real => (real() as f32).to_le_bytes().to_vec(),
        Type::Float => real().to_le_bytes().to_vec(),
        Type::SmallMoney => (exact(4) as i32).to_le_bytes().to_vec(),
        Type::Money => {
            let number = exact(4) as i64;
            let mut bytes = ((number >> 32) as i32).to_le_bytes().to_vec();
            bytes.extend((number as u32).to_le_bytes());
            bytes
        }
        Type::Decimal { precision, scale, .. } => {
            let number = exact(*scale);
            let size = match precision {
                0..=9 => 4,
                10..=19 => 8,
                20..=28 => 12,
                _ => 16,
            };
            let mut bytes = vec![u8::from(number >= 0)];
            bytes.extend(&number.unsigned_abs().to_le_bytes()[..size]);
            bytes
        }
        Type::Date => moment().days.to_le_bytes()[..3].to_vec(),
        Type::Time(scale) => time_bytes(moment().ticks, *scale),
        Type::DateTime2(scale) => {
            let moment = moment();
            let mut bytes = time_bytes(moment.ticks, *scale);
            bytes.extend(&moment.days.to_le_bytes()[..3]);
            bytes
        }
        Type::DateTimeOffset(scale) => {
            let moment = moment();
            let mut bytes = time_bytes(moment.ticks, *scale);
            bytes.extend(&moment.days.to_le_bytes()[..3]);
            bytes.extend((moment.offset as i16).to_le_bytes());
            bytes
        }
        Type::SmallDateTime => {
            let moment = moment();
            let mut bytes = ((moment.days - DAYS_1900) as u16).to_le_bytes().to_vec();
            bytes.extend(((moment.ticks / 600_000_000) as u16).to_le_bytes());
            bytes
        }
        Type::DateTime => {
            let moment = moment();
            let mut bytes = ((moment.days - DAYS_1900) as i32).to_le_bytes().to_vec();
            bytes.extend((((moment.ticks * 3 + 50_000) / 100_000) as u32).to_le_bytes());
            bytes
        }
        Type::Guid => guid_bytes(&value.to_text()).unwrap_or_default().to_vec(),
        Type::Char(_) | Type::VarChar(_) | Type::Text => match value {
            Value::Text(text) => to_bytes(text, collation.utf8()),
            other => other.to_text().into_bytes(),
        },
        Type::NChar(_) | Type::NVarChar(_) | Type::NText | Type::Xml | Type::Table(_) => {
            let units = match value {
                Value::Text(text) => to_utf16(text),
                other => to_utf16(other.to_text().as_bytes()),
            };
            units.into_iter().flat_map(u16::to_le_bytes).collect()
        }
        Type::Binary(_) | Type::VarBinary(_) | Type::Image | Type::RowVersion | Type::Udt(_) | Type::Variant => {
            match value {
                Value::Bytes(bytes) | Value::Text(bytes) => bytes.clone(),
                other => other.to_text().into_bytes(),
            }
        }
    }
}

fn time_bytes(ticks: i64, scale: u8) -> Vec<u8> {
    let units = ticks / 10_i64.pow(u32::from(7 - scale.min(7)));
    units.to_le_bytes()[..time_size(scale)].to_vec()
}
