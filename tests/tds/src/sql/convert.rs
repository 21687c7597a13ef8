//! From one type to another, as CAST, as CONVERT with a style, or as an assignment, which refuses to cut.

use crate::errors::SqlError;
use crate::types::{Collation, MAX, Type};
use crate::value::{
    DAYS_1753, DAYS_1900, Moment, Value, format_decimal, from_bytes, from_utf16, guid_bytes, guid_text, parse_decimal,
    rescale, to_bytes, to_utf16,
};
use crate::wire_value::{read_variant, write_variant};

type Converted = Result<Value, SqlError>;

/// Why a conversion is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Cast,
    Assign,
}

pub(crate) fn convert(value: &Value, from: &Type, to: &Type, style: i64, why: Why) -> Converted {
    if value.is_null() {
        return Ok(Value::Null);
    }
    if *from == Type::Variant && *to != Type::Variant {
        let Value::Bytes(bytes) = value else { return Err(failed(value, from, to)) };
        let (inner, value, _) = read_variant(bytes).map_err(|_| failed(value, from, to))?;
        return convert(&value, &inner, to, style, why);
    }
    match to {
        Type::Bit | Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt => integer(value, from, to),
        Type::Real | Type::Float => float(value, from, to),
        Type::Decimal { precision, scale, .. } => exact(value, from, to, *precision, *scale),
        Type::Money => exact(value, from, to, 19, 4).and_then(|value| money_range(value, i64::MAX.into(), to)),
        Type::SmallMoney => exact(value, from, to, 10, 4).and_then(|value| money_range(value, i32::MAX.into(), to)),
        Type::Date
        | Type::Time(_)
        | Type::SmallDateTime
        | Type::DateTime
        | Type::DateTime2(_)
        | Type::DateTimeOffset(_) => moment(value, from, to),
        Type::Guid => match value {
            Value::Bytes(bytes) if bytes.len() >= 16 => {
                Ok(Value::text(guid_text(bytes[..16].try_into().expect("sixteen bytes"))))
            }
            _ => match guid_bytes(&value.to_text()) {
                Some(bytes) => Ok(Value::text(guid_text(bytes))),
                None => Err(SqlError::new(
                    8169,
                    "Conversion failed when converting from a character string to uniqueidentifier.",
                )),
            },
        },
        Type::Char(_)
        | Type::VarChar(_)
        | Type::NChar(_)
        | Type::NVarChar(_)
        | Type::Text
        | Type::NText
        | Type::Xml => fit_text(text(value, from, to, style), to, why),
        Type::Binary(_) | Type::VarBinary(_) | Type::Image | Type::RowVersion | Type::Udt(_) => {
            fit_bytes(bytes(value, from, to, style, why)?, to, why)
        }
        Type::Variant => {
            if *from == Type::Variant {
                return Ok(value.clone());
            }
            write_variant(from, value, Collation::default()).map(Value::Bytes).ok_or_else(|| clash(from, to))
        }
        Type::Table(_) => Err(clash(from, to)),
    }
}

fn clash(from: &Type, to: &Type) -> SqlError {
    SqlError::new(206, format!("Operand type clash: {} is incompatible with {}", from.name(), to.name()))
}

fn overflow(to: &Type) -> SqlError {
    SqlError::new(8115, format!("Arithmetic overflow error converting expression to data type {}.", to.name()))
}

fn failed(value: &Value, from: &Type, to: &Type) -> SqlError {
    if to.is_integer() {
        return SqlError::new(
            245,
            format!(
                "Conversion failed when converting the {} value '{}' to data type {}.",
                from.name(),
                value.to_text(),
                to.name()
            ),
        );
    }
    SqlError::new(8114, format!("Error converting data type {} to {}.", from.name(), to.name()))
}

fn integer(value: &Value, from: &Type, to: &Type) -> Converted {
    let number: i128 = match value {
        Value::Integer(number) => (*number).into(),
        Value::Float(number) if number.abs() < 1e30 => number.trunc() as i128,
        Value::Float(_) => return Err(overflow(to)),
        Value::Text(_) if from.is_exact() => {
            let (number, scale) = parse_decimal(&value.to_text()).ok_or_else(|| failed(value, from, to))?;
            number / 10_i128.pow(scale.into())
        }
        Value::Text(_) if from.is_text() => {
            let text = value.to_text();
            match text.trim() {
                "" => 0,
                word if *to == Type::Bit && word.eq_ignore_ascii_case("true") => 1,
                word if *to == Type::Bit && word.eq_ignore_ascii_case("false") => 0,
                word => word.parse().map_err(|_| failed(value, from, to))?,
            }
        }
        Value::Bytes(bytes) => {
            let last = &bytes[bytes.len().saturating_sub(8)..];
            last.iter().fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte)).into()
        }
        _ => return Err(clash(from, to)),
    };
    let range = match to {
        Type::Bit => return Ok(Value::Integer(i64::from(number != 0))),
        Type::TinyInt => 0..=255,
        Type::SmallInt => i16::MIN.into()..=i16::MAX.into(),
        Type::Int => i32::MIN.into()..=i32::MAX.into(),
        _ => i64::MIN.into()..=i64::MAX.into(),
    };
    if range.contains(&number) { Ok(Value::Integer(number as i64)) } else { Err(overflow(to)) }
}

fn float(value: &Value, from: &Type, to: &Type) -> Converted {
    let number = match value {
        Value::Integer(number) => *number as f64,
        Value::Float(number) => *number,
        Value::Text(_) if from.is_text() || from.is_exact() => {
            let text = value.to_text();
            let text = text.trim();
            let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
            if text.is_empty() {
                0.0
            } else {
                text.parse::<f64>()
                    .ok()
                    .filter(|number| plain && number.is_finite())
                    .ok_or_else(|| failed(value, from, to))?
            }
        }
        _ => return Err(clash(from, to)),
    };
    if *to == Type::Float {
        return Ok(Value::Float(number));
    }
    let narrow = number as f32;
    if narrow.is_finite() { Ok(Value::Float(narrow.into())) } else { Err(overflow(to)) }
}

fn exact(value: &Value, from: &Type, to: &Type, precision: u8, scale: u8) -> Converted {
    let (number, has) = match value {
        Value::Integer(number) => (i128::from(*number), 0),
        Value::Float(number) => {
            let text = format!("{number:.*}", usize::from(scale));
            parse_decimal(&text).ok_or_else(|| overflow(to))?
        }
        Value::Text(_) if from.is_text() || from.is_exact() => {
            let text = value.to_text();
            let text = text.trim().replace(['$', ','], "");
            if text.is_empty() && matches!(to, Type::Money | Type::SmallMoney) {
                (0, 0)
            } else {
                parse_decimal(&text).ok_or_else(|| failed(value, from, to))?
            }
        }
        _ => return Err(clash(from, to)),
    };
    let number = rescale(number, has, scale).ok_or_else(|| overflow(to))?;
    if number.unsigned_abs() >= 10_u128.pow(precision.into()) {
        return Err(overflow(to));
    }
    Ok(Value::text(format_decimal(number, scale)))
}

fn money_range(value: Value, most: i128, to: &Type) -> Converted {
    let (number, _) = parse_decimal(&value.to_text()).ok_or_else(|| overflow(to))?;
    if (-most - 1..=most).contains(&number) { Ok(value) } else { Err(overflow(to)) }
}

fn moment(value: &Value, from: &Type, to: &Type) -> Converted {
    let number_to_moment = matches!(to, Type::DateTime | Type::SmallDateTime);
    let moment = match value {
        Value::Integer(days) if number_to_moment => Moment { days: DAYS_1900 + days, ticks: 0, offset: 0 },
        Value::Text(_) if from.is_exact() || from.is_bytes() => return Err(clash(from, to)),
        Value::Text(_) => Moment::parse(&value.to_text()).ok_or_else(|| {
            SqlError::new(241, "Conversion failed when converting date and/or time from character string.")
        })?,
        _ => return Err(clash(from, to)),
    };
    let local = if matches!(from, Type::DateTimeOffset(_)) || from.is_text() {
        moment.plus(moment.offset * 600_000_000)
    } else {
        moment
    };
    let out_of_range = || {
        SqlError::new(
            242,
            format!(
                "The conversion of a {} data type to a {} data type resulted in an out-of-range value.",
                from.name(),
                to.name()
            ),
        )
    };
    let stored = match to {
        Type::Date => local.date(),
        Type::Time(scale) => local.rounded(*scale).time(7),
        Type::DateTime2(scale) => local.rounded(*scale).stored(),
        Type::DateTimeOffset(scale) => moment.rounded(*scale).stored_with_offset(),
        Type::SmallDateTime => {
            if !(DAYS_1900..=DAYS_1900 + 65_535).contains(&local.days) {
                return Err(out_of_range());
            }
            let minutes = (local.ticks + 300_000_000) / 600_000_000;
            Moment { ticks: 0, ..local }.plus(minutes * 600_000_000).stored()
        }
        _ => {
            if local.days < DAYS_1753 {
                return Err(out_of_range());
            }
            let units = (local.ticks * 3 + 50_000) / 100_000;
            Moment { ticks: 0, ..local }.plus((units * 100_000 + 1) / 3).stored()
        }
    };
    Ok(Value::text(stored))
}

/// As text, before its length is looked at.
fn text(value: &Value, from: &Type, to: &Type, style: i64) -> Vec<u8> {
    match (value, from) {
        (Value::Float(number), _) => float_text(*number, *from == Type::Real, style).into_bytes(),
        (Value::Integer(number), _) => number.to_string().into_bytes(),
        (Value::Bytes(bytes), _) => match style {
            1 => format!("0x{}", hex(bytes)).into_bytes(),
            2 => hex(bytes).into_bytes(),
            _ if to.is_unicode() => from_utf16(bytes),
            _ => from_bytes(bytes, false),
        },
        (Value::Text(_), Type::Money | Type::SmallMoney) if style == 0 => {
            let (number, scale) = parse_decimal(&value.to_text()).unwrap_or((0, 0));
            format_decimal(rescale(number, scale, 2).unwrap_or(0), 2).into_bytes()
        }
        (
            Value::Text(_),
            Type::Date
            | Type::Time(_)
            | Type::DateTime
            | Type::SmallDateTime
            | Type::DateTime2(_)
            | Type::DateTimeOffset(_),
        ) => moment_text(&value.to_text(), from, style).into_bytes(),
        (Value::Text(text), _) => {
            // What the code page of a non-Unicode type lacks is lost, as the server does it.
            if from.is_unicode() && matches!(to, Type::Char(_) | Type::VarChar(_) | Type::Text) {
                from_bytes(&to_bytes(text, false), false)
            } else {
                text.clone()
            }
        }
        (Value::Null, _) => Vec::new(),
    }
}

fn float_text(number: f64, real: bool, style: i64) -> String {
    let digits = match style {
        1 => 8,
        2 => 16,
        3 if real => 9,
        3 => 17,
        _ => 6,
    };
    let scientific = format!("{number:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if style != 0 || !(-5..15).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let mantissa = if style == 0 && mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        return format!("{mantissa}e{sign}{:03}", exponent.abs());
    }
    let places = (digits as i32 - 1 - exponent).max(0) as usize;
    let plain = format!("{number:.places$}");
    if plain.contains('.') { plain.trim_end_matches('0').trim_end_matches('.').to_owned() } else { plain }
}

fn moment_text(stored: &str, from: &Type, style: i64) -> String {
    let Some(moment) = Moment::parse(stored) else { return stored.to_owned() };
    let local = moment.plus(moment.offset * 600_000_000);
    let scale = match from {
        Type::Time(scale) | Type::DateTime2(scale) | Type::DateTimeOffset(scale) => *scale,
        Type::DateTime => 3,
        _ => 0,
    };
    // datetime shows thousandths rounded to .000, .003, .007.
    let local = if *from == Type::DateTime { local.rounded(3) } else { local };
    let (date, time) = (local.date(), local.time(scale));
    let whole = local.time(0);
    let zone = match from {
        Type::DateTimeOffset(_) => {
            let sign = if moment.offset < 0 { '-' } else { '+' };
            format!(" {sign}{:02}:{:02}", moment.offset.abs() / 60, moment.offset.abs() % 60)
        }
        _ => String::new(),
    };
    match (from, style) {
        (_, 112) => date.replace('-', ""),
        (_, 23) => date,
        (_, 108) => whole,
        (Type::Date, _) => date,
        (Type::Time(_), _) => time,
        (_, 126) => format!("{date}T{time}{}", zone.trim_start()),
        (_, 127) => format!("{}T{}Z", moment.date(), moment.time(scale)),
        (_, 120) => format!("{date} {whole}{zone}"),
        (Type::DateTime | Type::SmallDateTime, 0 | 100) => {
            let (year, month, day) = crate::value::civil_from_days(local.days);
            let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let minutes = local.ticks / 600_000_000;
            let (hour, half) = (minutes / 60, if minutes >= 720 { "PM" } else { "AM" });
            let hour = if hour % 12 == 0 { 12 } else { hour % 12 };
            format!("{} {day:>2} {year} {hour:>2}:{:02}{half}", names[month as usize - 1], minutes % 60)
        }
        _ => format!("{date} {time}{zone}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn truncated(why: Why, to: &Type) -> Result<(), SqlError> {
    match why {
        Why::Cast => Ok(()),
        Why::Assign => Err(SqlError::new(
            2628,
            format!(
                "String or binary data would be truncated in a column of type {}. The statement has been terminated.",
                to.declared()
            ),
        )),
    }
}

fn fit_text(text: Vec<u8>, to: &Type, why: Why) -> Converted {
    let (size, wide, pad) = match to {
        Type::Char(size) => (*size, false, true),
        Type::NChar(size) => (*size, true, true),
        Type::VarChar(size) => (*size, false, false),
        Type::NVarChar(size) => (*size, true, false),
        _ => return Ok(Value::Text(text)),
    };
    if size == MAX {
        return Ok(Value::Text(text));
    }
    let size = usize::from(size);
    let units = to_utf16(&text);
    let length = if wide || text.is_ascii() { units.len() } else { to_bytes(&text, false).len() };
    if length > size {
        let blank_tail = units[size.min(units.len())..].iter().all(|unit| *unit == u16::from(b' '));
        if !blank_tail {
            truncated(why, to)?;
        }
        let cut: Vec<u8> = units[..size.min(units.len())].iter().flat_map(|unit| unit.to_le_bytes()).collect();
        return Ok(Value::Text(from_utf16(&cut)));
    }
    let mut text = text;
    if pad {
        text.extend(std::iter::repeat_n(b' ', size - length));
    }
    Ok(Value::Text(text))
}

fn bytes(value: &Value, from: &Type, to: &Type, style: i64, why: Why) -> Result<Vec<u8>, SqlError> {
    Ok(match (value, from) {
        (Value::Bytes(bytes), _) => bytes.clone(),
        (Value::Text(_), Type::Guid) => guid_bytes(&value.to_text()).unwrap_or_default().to_vec(),
        (Value::Text(text), _) if from.is_text() => {
            if matches!(to, Type::Udt(_)) {
                return Err(SqlError::new(
                    6522,
                    format!("A .NET Framework error occurred: this server cannot read the text of a {}.", to.name()),
                ));
            }
            if style == 1 || style == 2 {
                let digits = value.to_text();
                let digits = if style == 1 { digits.strip_prefix("0x").unwrap_or(&digits) } else { &digits };
                let good = digits.len() % 2 == 0 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                if !good {
                    return Err(failed(value, from, to));
                }
                return Ok((0..digits.len() / 2)
                    .map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).expect("two digits"))
                    .collect());
            }
            if why == Why::Assign {
                return Err(SqlError::new(
                    257,
                    format!(
                        "Implicit conversion from data type {} to {} is not allowed. Use the CONVERT function to run this query.",
                        from.name(),
                        to.name()
                    ),
                ));
            }
            if from.is_unicode() {
                to_utf16(text).into_iter().flat_map(u16::to_le_bytes).collect()
            } else {
                to_bytes(text, false)
            }
        }
        (Value::Integer(number), _) => {
            let size = match from {
                Type::Bit | Type::TinyInt => 1,
                Type::SmallInt => 2,
                Type::BigInt => 8,
                _ => 4,
            };
            let all = number.to_be_bytes();
            let mut bytes = all[8 - size..].to_vec();
            // A shorter binary keeps the low end of a number.
            if let Type::Binary(width) | Type::VarBinary(width) = to
                && usize::from(*width) < bytes.len()
            {
                bytes.drain(..bytes.len() - usize::from(*width));
            }
            if let Type::Binary(width) = to {
                while bytes.len() < usize::from(*width) {
                    bytes.insert(0, 0);
                }
            }
            bytes
        }
        (Value::Float(number), Type::Real) => (*number as f32).to_be_bytes().to_vec(),
        (Value::Float(number), _) => number.to_be_bytes().to_vec(),
        _ => return Err(clash(from, to)),
    })
}

fn fit_bytes(mut bytes: Vec<u8>, to: &Type, why: Why) -> Converted {
    let (size, pad) = match to {
        Type::Binary(size) => (*size, true),
        Type::VarBinary(size) => (*size, false),
        Type::RowVersion => (8, true),
        _ => return Ok(Value::Bytes(bytes)),
    };
    if size != MAX {
        if bytes.len() > usize::from(size) {
            truncated(why, to)?;
            bytes.truncate(size.into());
        }
        if pad {
            bytes.resize(size.into(), 0);
        }
    }
    Ok(Value::Bytes(bytes))
}
