//! The functions and collations SQLite gets from us: conversions, exact arithmetic, times, and how values compare.

use std::cmp::Ordering;

use rusqlite::Connection;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};

use super::convert::{Why, convert};
use crate::errors::SqlError;
use crate::types::Type;
use crate::value::{
    DAY, Moment, Value, civil_from_days, days_from_civil, format_decimal, guid_bytes, parse_decimal, rescale, to_utf16,
};

static NEXT_ID: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

type Computed = Result<Value, SqlError>;

fn failed(error: &SqlError) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(error.packed().into())
}

pub(crate) fn register(connection: &Connection) -> rusqlite::Result<()> {
    connection.create_collation("TDS_CI", |a: &str, b: &str| folded(a).cmp(folded(b)))?;
    connection.create_collation("TDS_CS", |a: &str, b: &str| trimmed(a).cmp(trimmed(b)))?;
    connection.create_collation("TDS_BIN", |a: &str, b: &str| trimmed(a).cmp(trimmed(b)))?;
    connection.create_collation("TDS_DECIMAL", decimals)?;
    connection
        .create_collation("TDS_INSTANT", |a: &str, b: &str| a.get(..27).unwrap_or(a).cmp(b.get(..27).unwrap_or(b)))?;
    connection.create_collation("TDS_GUID", guids)?;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("tds_cast", 5, flags, |context| {
        let value = Value::of(context.get_raw(0));
        let (from, to) = (type_at(context, 1)?, type_at(context, 2)?);
        let mode: i64 = context.get(4)?;
        let why = if mode == 1 { Why::Assign } else { Why::Cast };
        match convert(&value, &from, &to, context.get(3)?, why) {
            Ok(value) => Ok(value),
            Err(_) if mode == 2 => Ok(Value::Null),
            Err(error) => Err(failed(&error)),
        }
    })?;
    connection.create_scalar_function("tds_arith", 4, flags, |context| {
        let operation: String = context.get(0)?;
        let (a, b) = (Value::of(context.get_raw(1)), Value::of(context.get_raw(2)));
        arithmetic(&operation, &a, &b, &type_at(context, 3)?).map_err(|error| failed(&error))
    })?;
    connection.create_scalar_function("tds_text", -1, flags, |context| {
        let name: String = context.get(0)?;
        let arguments: Vec<Value> = (1..context.len()).map(|at| Value::of(context.get_raw(at))).collect();
        text_function(&name, &arguments).map_err(|error| failed(&error))
    })?;
    connection.create_scalar_function("tds_time", -1, flags, |context| {
        let name: String = context.get(0)?;
        let arguments: Vec<Value> = (1..context.len()).map(|at| Value::of(context.get_raw(at))).collect();
        time_function(&name, &arguments).map_err(|error| failed(&error))
    })?;
    connection.create_scalar_function("tds_math", 2, flags, |context| {
        let name: String = context.get(0)?;
        let number: Option<f64> = context.get(1)?;
        Ok(number.map(|number| match name.as_str() {
            "floor" => number.floor(),
            "ceil" => number.ceil(),
            "sign" => number.signum(),
            _ => number.sqrt(),
        }))
    })?;
    connection.create_scalar_function("tds_checksum", -1, flags, |context| {
        let mut sum = 0_i32;
        for at in 0..context.len() {
            for byte in Value::of(context.get_raw(at)).to_text().to_lowercase().trim_end().bytes() {
                sum = sum.rotate_left(4) ^ i32::from(byte);
            }
        }
        Ok(sum)
    })?;
    connection.create_scalar_function("tds_newid", 0, FunctionFlags::SQLITE_UTF8, |_| {
        // Numbers that only grow are new enough; the version and variant bits make them well-formed.
        let number = NEXT_ID.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut bytes = u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_le_bytes();
        bytes[7] = bytes[7] & 0x0F | 0x40;
        bytes[8] = bytes[8] & 0x3F | 0x80;
        Ok(Value::text(crate::value::guid_text(bytes)))
    })?;
    connection.create_aggregate_function("tds_sum", 1, flags, Sum)?;
    Ok(())
}

fn type_at(context: &Context<'_>, at: usize) -> rusqlite::Result<Type> {
    let number: i64 = context.get(at)?;
    Type::by_number(number).ok_or_else(|| failed(&SqlError::new(50_000, "an unknown type number")))
}

fn trimmed(text: &str) -> &str {
    text.trim_end_matches(' ')
}

fn folded(text: &str) -> impl Iterator<Item = char> {
    trimmed(text).chars().flat_map(char::to_lowercase)
}

fn decimals(a: &str, b: &str) -> Ordering {
    match (parse_decimal(a), parse_decimal(b)) {
        (Some((a, a_scale)), Some((b, b_scale))) => {
            let scale = a_scale.max(b_scale);
            match (rescale(a, a_scale, scale), rescale(b, b_scale, scale)) {
                (Some(a), Some(b)) => a.cmp(&b),
                // Digits beyond what fits side by side: the whole parts decide.
                _ => (a / 10_i128.pow(a_scale.into())).cmp(&(b / 10_i128.pow(b_scale.into()))),
            }
        }
        _ => a.cmp(b),
    }
}

/// The last six bytes weigh most.
fn guids(a: &str, b: &str) -> Ordering {
    let key = |text: &str| {
        guid_bytes(text).map(|g| {
            [g[10], g[11], g[12], g[13], g[14], g[15], g[8], g[9], g[6], g[7], g[4], g[5], g[0], g[1], g[2], g[3]]
        })
    };
    key(a).cmp(&key(b))
}

struct Sum;

impl Aggregate<Option<(i128, u8)>, Value> for Sum {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Option<(i128, u8)>> {
        Ok(None)
    }

    fn step(&self, context: &mut Context<'_>, sum: &mut Option<(i128, u8)>) -> rusqlite::Result<()> {
        let value = Value::of(context.get_raw(0));
        if value.is_null() {
            return Ok(());
        }
        let overflow =
            || failed(&SqlError::new(8115, "Arithmetic overflow error converting expression to data type numeric."));
        let (number, scale) = parse_decimal(&value.to_text()).ok_or_else(overflow)?;
        let (so_far, has) = sum.unwrap_or((0, scale));
        let wide = scale.max(has);
        let added = rescale(so_far, has, wide).zip(rescale(number, scale, wide)).and_then(|(a, b)| a.checked_add(b));
        *sum = Some((added.ok_or_else(overflow)?, wide));
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, sum: Option<Option<(i128, u8)>>) -> rusqlite::Result<Value> {
        Ok(sum.flatten().map_or(Value::Null, |(number, scale)| Value::text(format_decimal(number, scale))))
    }
}

fn by_zero() -> SqlError {
    SqlError::new(8134, "Divide by zero error encountered.")
}

fn too_big(ty: &Type) -> SqlError {
    SqlError::new(8115, format!("Arithmetic overflow error converting expression to data type {}.", ty.name()))
}

fn arithmetic(operation: &str, a: &Value, b: &Value, ty: &Type) -> Computed {
    if a.is_null() || b.is_null() {
        return Ok(Value::Null);
    }
    if ty.is_exact() {
        return exact_arithmetic(operation, &a.to_text(), &b.to_text(), ty);
    }
    if let (Value::Integer(a), Value::Integer(b)) = (a, b) {
        let result = match operation {
            "+" => a.checked_add(*b),
            "-" => a.checked_sub(*b),
            "*" => a.checked_mul(*b),
            "/" | "%" if *b == 0 => return Err(by_zero()),
            "/" => a.checked_div(*b),
            "%" => a.checked_rem(*b),
            "&" => Some(a & b),
            "|" => Some(a | b),
            _ => Some(a ^ b),
        };
        let result = Value::Integer(result.ok_or_else(|| too_big(ty))?);
        return convert(&result, &Type::BigInt, ty, 0, Why::Cast);
    }
    let number = |value: &Value| match value {
        Value::Float(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    };
    let (Some(a), Some(b)) = (number(a), number(b)) else {
        return Err(SqlError::new(8117, format!("Operand data type is invalid for the operator {operation}.")));
    };
    let result = match operation {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" if b == 0.0 => return Err(by_zero()),
        "/" => a / b,
        _ => {
            return Err(SqlError::new(
                8117,
                format!("Operand data type float is invalid for the operator {operation}."),
            ));
        }
    };
    if result.is_finite() { Ok(Value::Float(result)) } else { Err(too_big(ty)) }
}

fn exact_arithmetic(operation: &str, a: &str, b: &str, ty: &Type) -> Computed {
    let ((a, a_scale), (b, b_scale)) = parse_decimal(a).zip(parse_decimal(b)).ok_or_else(|| too_big(ty))?;
    let scale = match ty {
        Type::Decimal { scale, .. } => *scale,
        _ => 4,
    };
    let wide = a_scale.max(b_scale);
    let aligned = || rescale(a, a_scale, wide).zip(rescale(b, b_scale, wide));
    let (number, has) = match operation {
        "+" => (aligned().and_then(|(a, b)| a.checked_add(b)), wide),
        "-" => (aligned().and_then(|(a, b)| a.checked_sub(b)), wide),
        "*" => (a.checked_mul(b), a_scale + b_scale),
        "/" | "%" if b == 0 => return Err(by_zero()),
        "/" => (rescale(a, a_scale, scale + b_scale).map(|a| a / b), scale),
        "%" => (aligned().map(|(a, b)| a % b), wide),
        _ => return Err(SqlError::new(8117, "Operand data type numeric is invalid for the operator.")),
    };
    let number = number.and_then(|number| rescale(number, has, scale)).ok_or_else(|| too_big(ty))?;
    let text = Value::text(format_decimal(number, scale));
    convert(&text, &Type::Decimal { precision: 38, scale, numeric: false }, ty, 0, Why::Cast)
}

/// Functions on text; `NULL` in, `NULL` out.
fn text_function(name: &str, arguments: &[Value]) -> Computed {
    if arguments.iter().any(Value::is_null) {
        return Ok(Value::Null);
    }
    let text = |at: usize| arguments[at].to_text();
    let number = |at: usize| arguments[at].to_integer().unwrap_or(0);
    let characters = |at: usize| text(at).chars().collect::<Vec<_>>();
    Ok(match name {
        "len" => Value::Integer(to_utf16(text(0).trim_end_matches(' ').as_bytes()).len() as i64),
        "bytes" => Value::Integer(match &arguments[0] {
            Value::Text(text) if number(1) == 2 => to_utf16(text).len() as i64 * 2,
            Value::Text(text) => crate::value::to_bytes(text, false).len() as i64,
            Value::Bytes(bytes) => bytes.len() as i64,
            _ => 8,
        }),
        "upper" => Value::text(text(0).to_uppercase()),
        "lower" => Value::text(text(0).to_lowercase()),
        "ltrim" => Value::text(text(0).trim_start_matches(' ')),
        "rtrim" => Value::text(text(0).trim_end_matches(' ')),
        "trim" => Value::text(text(0).trim_matches(' ')),
        "reverse" => Value::text(text(0).chars().rev().collect::<String>()),
        "left" => Value::text(characters(0).into_iter().take(number(1).max(0) as usize).collect::<String>()),
        "right" => {
            let all = characters(0);
            Value::text(all[all.len().saturating_sub(number(1).max(0) as usize)..].iter().collect::<String>())
        }
        "substring" => {
            let (start, length) = (number(1) - 1, number(2));
            let end = start.saturating_add(length).max(0) as usize;
            let start = start.max(0) as usize;
            let take = end.saturating_sub(start);
            match &arguments[0] {
                Value::Bytes(bytes) => Value::Bytes(bytes.iter().skip(start).take(take).copied().collect()),
                _ => Value::text(characters(0).into_iter().skip(start).take(take).collect::<String>()),
            }
        }
        "replace" if text(1).is_empty() => arguments[0].clone(),
        "replace" => Value::text(text(0).replace(&text(1), &text(2))),
        "charindex" => {
            let (needle, hay) = (text(0).to_lowercase(), text(1).to_lowercase());
            let from = arguments.get(2).and_then(Value::to_integer).unwrap_or(1).max(1) as usize - 1;
            let skipped: usize = hay.chars().take(from).map(char::len_utf8).sum();
            let found = hay[skipped..].find(&needle).map(|at| hay[..skipped + at].chars().count() as i64 + 1);
            Value::Integer(found.unwrap_or(0))
        }
        "quotename" => {
            let quote = arguments.get(1).map_or_else(|| "[".to_owned(), Value::to_text);
            let (open, close) =
                if quote.starts_with(['[', ']']) { ("[", "]") } else { (quote.as_str(), quote.as_str()) };
            Value::text(format!("{open}{}{close}", text(0).replace(close, &close.repeat(2))))
        }
        "replicate" => {
            let count = number(1).max(0) as usize;
            let piece = match &arguments[0] {
                Value::Text(bytes) | Value::Bytes(bytes) => bytes.clone(),
                other => other.to_text().into_bytes(),
            };
            if piece.len().saturating_mul(count) > 256 << 20 {
                return Err(SqlError::new(8631, "Internal error: Server stack limit has been reached."));
            }
            Value::Text(piece.repeat(count))
        }
        "char" => char::from_u32(number(0) as u32).map_or(Value::Null, Value::text),
        "unicode" => to_utf16(text(0).as_bytes()).first().map_or(Value::Null, |unit| Value::Integer((*unit).into())),
        "like" => {
            let escape = arguments.get(2).map(Value::to_text).and_then(|text| text.chars().next());
            let fold = |text: String| if number(3) == 1 { text.to_lowercase() } else { text };
            let (hay, pattern): (Vec<char>, Vec<char>) =
                (fold(text(0)).chars().collect(), fold(text(1)).chars().collect());
            Value::Integer(like(&hay, &pattern, escape).into())
        }
        "variant" => return variant_property(&arguments[0], &text(1)),
        _ => return Err(SqlError::new(195, format!("'{name}' is not a recognized built-in function name."))),
    })
}

fn variant_property(value: &Value, property: &str) -> Computed {
    let Value::Bytes(bytes) = value else { return Ok(Value::Null) };
    let Ok((ty, _, _)) = crate::wire_value::read_variant(bytes) else { return Ok(Value::Null) };
    let (length, precision, scale) = ty.sizes();
    Ok(match property.to_ascii_lowercase().as_str() {
        "basetype" => Value::text(ty.name()),
        "precision" => Value::text(precision.to_string()),
        "scale" => Value::text(scale.to_string()),
        "maxlength" => Value::text(length.to_string()),
        _ => Value::Null,
    })
}

/// LIKE with `%`, `_`, `[a-z]`, `[^a]` and an escape.
fn like(text: &[char], pattern: &[char], escape: Option<char>) -> bool {
    let Some(first) = pattern.first() else { return text.iter().all(|character| *character == ' ') };
    if Some(*first) == escape && pattern.len() > 1 {
        return text.first() == Some(&pattern[1]) && like(&text[1..], &pattern[2..], escape);
    }
    match first {
        '%' => {
            let rest = &pattern[1..];
            (0..=text.len()).any(|at| like(&text[at..], rest, escape))
        }
        '_' => !text.is_empty() && like(&text[1..], &pattern[1..], escape),
        '[' => {
            let Some(end) = pattern.iter().position(|character| *character == ']') else { return false };
            let Some(character) = text.first() else { return false };
            let mut set = &pattern[1..end];
            let negated = set.first() == Some(&'^');
            if negated {
                set = &set[1..];
            }
            let mut found = false;
            let mut at = 0;
            while at < set.len() {
                if at + 2 < set.len() && set[at + 1] == '-' {
                    found |= (set[at]..=set[at + 2]).contains(character);
                    at += 3;
                } else {
                    found |= set[at] == *character;
                    at += 1;
                }
            }
            found != negated && like(&text[1..], &pattern[end + 1..], escape)
        }
        other => text.first() == Some(other) && like(&text[1..], &pattern[1..], escape),
    }
}

/// DATEADD, DATEDIFF, DATEPART on stored moments.
fn time_function(name: &str, arguments: &[Value]) -> Computed {
    if arguments.iter().any(Value::is_null) {
        return Ok(Value::Null);
    }
    let part = part_of(&arguments[0].to_text())?;
    let moment = |at: usize| {
        Moment::parse(&arguments[at].to_text()).ok_or_else(|| {
            SqlError::new(241, "Conversion failed when converting date and/or time from character string.")
        })
    };
    match name {
        "add" => {
            let count = arguments[1].to_integer().unwrap_or(0);
            let stored = arguments[2].to_text();
            let moved = add(moment(2)?, part, count)?;
            // The result keeps the form of what came in.
            Ok(Value::text(match stored.len() {
                10 => moved.date(),
                16 => moved.time(7),
                27 => moved.stored(),
                _ => moved.stored_with_offset(),
            }))
        }
        "diff" => Ok(Value::Integer(boundaries(moment(2)?, part)? - boundaries(moment(1)?, part)?)),
        _ => {
            let utc = moment(1)?;
            let local = utc.plus(utc.offset * 600_000_000);
            let (year, month, day) = civil_from_days(local.days);
            let ticks = local.ticks;
            Ok(Value::Integer(match part {
                "year" => year,
                "quarter" => (month - 1) / 3 + 1,
                "month" => month,
                "day" => day,
                "dayofyear" => local.days - days_from_civil(year, 1, 1) + 1,
                "weekday" => (local.days + 1) % 7 + 1,
                "hour" => ticks / 36_000_000_000,
                "minute" => ticks / 600_000_000 % 60,
                "second" => ticks / 10_000_000 % 60,
                "millisecond" => ticks / 10_000 % 1000,
                "microsecond" => ticks / 10 % 1_000_000,
                "nanosecond" => ticks % 10_000_000 * 100,
                "tzoffset" => utc.offset,
                _ => return Err(SqlError::new(155, format!("'{part}' is not a recognized datepart option."))),
            }))
        }
    }
}

fn part_of(word: &str) -> Result<&'static str, SqlError> {
    Ok(match word {
        "year" | "yy" | "yyyy" => "year",
        "quarter" | "qq" | "q" => "quarter",
        "month" | "mm" | "m" => "month",
        "dayofyear" | "dy" | "y" => "dayofyear",
        "day" | "dd" | "d" => "day",
        "week" | "wk" | "ww" => "week",
        "weekday" | "dw" => "weekday",
        "hour" | "hh" => "hour",
        "minute" | "mi" | "n" => "minute",
        "second" | "ss" | "s" => "second",
        "millisecond" | "ms" => "millisecond",
        "microsecond" | "mcs" => "microsecond",
        "nanosecond" | "ns" => "nanosecond",
        "tzoffset" | "tz" => "tzoffset",
        _ => return Err(SqlError::new(155, format!("'{word}' is not a recognized datepart option."))),
    })
}

fn unit(part: &str) -> Option<i64> {
    Some(match part {
        "week" => 7 * DAY,
        "day" | "dayofyear" | "weekday" => DAY,
        "hour" => 36_000_000_000,
        "minute" => 600_000_000,
        "second" => 10_000_000,
        "millisecond" => 10_000,
        "microsecond" => 10,
        _ => return None,
    })
}

fn add(moment: Moment, part: &str, count: i64) -> Result<Moment, SqlError> {
    let overflow = || SqlError::new(517, "Adding a value to a 'datetime' column caused an overflow.");
    let months = match part {
        "year" => count.checked_mul(12),
        "quarter" => count.checked_mul(3),
        "month" => Some(count),
        _ => {
            let ticks = match unit(part) {
                Some(unit) => count.checked_mul(unit),
                None => Some(count / 100),
            };
            let moved = moment.plus(ticks.ok_or_else(overflow)?);
            return if (0..=crate::value::DAYS_MAX).contains(&moved.days) { Ok(moved) } else { Err(overflow()) };
        }
    };
    let (year, month, day) = civil_from_days(moment.days);
    let all = months.and_then(|months| months.checked_add(year * 12 + month - 1)).ok_or_else(overflow)?;
    let (year, month) = (all.div_euclid(12), all.rem_euclid(12) + 1);
    if !(1..=9999).contains(&year) {
        return Err(overflow());
    }
    let next = if month == 12 { days_from_civil(year + 1, 1, 1) } else { days_from_civil(year, month + 1, 1) };
    let last = next - days_from_civil(year, month, 1);
    Ok(Moment { days: days_from_civil(year, month, day.min(last)), ..moment })
}

/// How many borders of a part lie before a moment.
fn boundaries(moment: Moment, part: &str) -> Result<i64, SqlError> {
    let (year, month, _) = civil_from_days(moment.days);
    Ok(match part {
        "year" => year,
        "quarter" => year * 4 + (month - 1) / 3,
        "month" => year * 12 + month,
        "week" => (moment.days + 1) / 7,
        _ => {
            let unit = unit(part).unwrap_or(1);
            let all = i128::from(moment.days) * i128::from(DAY) + i128::from(moment.ticks);
            (all / i128::from(unit)) as i64
        }
    })
}
