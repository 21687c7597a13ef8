//! The functions of the expression language that this release knows, one line each. An unknown one is refused by
//! name.

use std::cmp::Ordering;

use base64::Engine as _;
use serde_json::{Number, Value};

use super::dates;
use super::evaluate::to_text;

type Outcome = Result<Value, String>;

/// Calls a function. Names are matched without case.
pub(super) fn call(name: &str, arguments: &[Value], now_micros: Option<i64>) -> Outcome {
    let lower = name.to_ascii_lowercase();
    let found = TABLE.iter().find(|(known, ..)| known.to_ascii_lowercase() == lower);
    let Some((known, least, most, function)) = found else {
        return Err(format!("The template function '{name}' is not defined or not valid."));
    };
    if arguments.len() < *least || arguments.len() > *most {
        let wanted = match (least, most) {
            (least, most) if least == most => format!("{least}"),
            (least, &MANY) => format!("at least {least}"),
            (least, most) => format!("{least} to {most}"),
        };
        return Err(format!("The function '{known}' takes {wanted} arguments, not {}.", arguments.len()));
    }
    function(arguments, now_micros).map_err(|reason| format!("The function '{known}': {reason}"))
}

const MANY: usize = usize::MAX;

type Function = fn(&[Value], Option<i64>) -> Outcome;

const TABLE: &[(&str, usize, usize, Function)] = &[
    ("add", 2, 2, |a, _| arithmetic(a, i64::checked_add, |x, y| x + y)),
    ("addDays", 2, 3, |a, _| dates::add(a, 86_400)),
    ("addHours", 2, 3, |a, _| dates::add(a, 3_600)),
    ("addMinutes", 2, 3, |a, _| dates::add(a, 60)),
    ("addSeconds", 2, 3, |a, _| dates::add(a, 1)),
    ("and", 2, 2, |a, _| Ok(Value::Bool(boolean(&a[0])? && boolean(&a[1])?))),
    ("array", 1, 1, |a, _| Ok(Value::Array(vec![a[0].clone()]))),
    ("base64", 1, 1, |a, _| Ok(Value::String(base64::engine::general_purpose::STANDARD.encode(text(&a[0])?)))),
    ("base64ToString", 1, 1, |a, _| from_base64(text(&a[0])?)),
    ("bool", 1, 1, |a, _| boolean(&a[0]).map(Value::Bool)),
    ("coalesce", 1, MANY, |a, _| Ok(a.iter().find(|value| !value.is_null()).cloned().unwrap_or(Value::Null))),
    ("concat", 1, MANY, |a, _| concat(a)),
    ("contains", 2, 2, |a, _| contains(&a[0], &a[1]).map(Value::Bool)),
    ("createArray", 0, MANY, |a, _| Ok(Value::Array(a.to_vec()))),
    ("dayOfMonth", 1, 1, |a, _| dates::part(&a[0], |date| i64::from(date.day()))),
    ("dayOfWeek", 1, 1, |a, _| dates::part(&a[0], |date| i64::from(date.weekday().number_days_from_sunday()))),
    ("dayOfYear", 1, 1, |a, _| dates::part(&a[0], |date| i64::from(date.ordinal()))),
    ("div", 2, 2, |a, _| {
        if number(&a[1])? == 0.0 {
            return Err("the divisor is 0.".to_owned());
        }
        arithmetic(a, i64::checked_div, |x, y| x / y)
    }),
    ("empty", 1, 1, |a, _| Ok(Value::Bool(length(&a[0])? == 0))),
    ("endsWith", 2, 2, |a, _| Ok(Value::Bool(lower(&a[0])?.ends_with(&lower(&a[1])?)))),
    ("equals", 2, 2, |a, _| Ok(Value::Bool(equal(&a[0], &a[1])))),
    ("first", 1, 1, |a, _| Ok(edge(&a[0], true))),
    ("float", 1, 1, |a, _| number(&a[0]).and_then(from_float)),
    ("formatDateTime", 1, 2, |a, _| dates::format(&a[0], a.get(1))),
    ("greater", 2, 2, |a, _| Ok(Value::Bool(order(&a[0], &a[1])? == Ordering::Greater))),
    ("greaterOrEquals", 2, 2, |a, _| Ok(Value::Bool(order(&a[0], &a[1])? != Ordering::Less))),
    ("if", 3, 3, |a, _| Ok(if boolean(&a[0])? { a[1].clone() } else { a[2].clone() })),
    ("indexOf", 2, 2, |a, _| Ok(index_of(lower(&a[0])?, |text| text.find(&lower(&a[1]).unwrap_or_default())))),
    ("int", 1, 1, |a, _| integer(&a[0]).map(Value::from)),
    ("join", 2, 2, |a, _| {
        let delimiter = text(&a[1])?;
        Ok(Value::String(items(&a[0])?.iter().map(to_text).collect::<Vec<_>>().join(delimiter)))
    }),
    ("json", 1, 1, |a, _| serde_json::from_str(text(&a[0])?).map_err(|_| "the text is not JSON.".to_owned())),
    ("last", 1, 1, |a, _| Ok(edge(&a[0], false))),
    ("lastIndexOf", 2, 2, |a, _| Ok(index_of(lower(&a[0])?, |text| text.rfind(&lower(&a[1]).unwrap_or_default())))),
    ("length", 1, 1, |a, _| Ok(Value::from(length(&a[0])? as i64))),
    ("less", 2, 2, |a, _| Ok(Value::Bool(order(&a[0], &a[1])? == Ordering::Less))),
    ("lessOrEquals", 2, 2, |a, _| Ok(Value::Bool(order(&a[0], &a[1])? != Ordering::Greater))),
    ("max", 1, MANY, |a, _| extreme(a, Ordering::Greater)),
    ("min", 1, MANY, |a, _| extreme(a, Ordering::Less)),
    ("mod", 2, 2, |a, _| {
        if number(&a[1])? == 0.0 {
            return Err("the divisor is 0.".to_owned());
        }
        arithmetic(a, i64::checked_rem, |x, y| x % y)
    }),
    ("mul", 2, 2, |a, _| arithmetic(a, i64::checked_mul, |x, y| x * y)),
    ("not", 1, 1, |a, _| boolean(&a[0]).map(|value| Value::Bool(!value))),
    ("or", 2, 2, |a, _| Ok(Value::Bool(boolean(&a[0])? || boolean(&a[1])?))),
    ("range", 2, 2, |a, _| range(integer(&a[0])?, integer(&a[1])?)),
    ("replace", 3, 3, |a, _| Ok(Value::String(replace(text(&a[0])?, text(&a[1])?, text(&a[2])?)))),
    ("skip", 2, 2, |a, _| {
        let count = usize::try_from(integer(&a[1])?).unwrap_or_default();
        Ok(Value::Array(items(&a[0])?.iter().skip(count).cloned().collect()))
    }),
    ("split", 2, 2, |a, _| {
        let parts = text(&a[0])?.split(text(&a[1])?);
        Ok(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
    }),
    ("startOfDay", 1, 2, |a, _| dates::start(a, dates::Unit::Day)),
    ("startOfHour", 1, 2, |a, _| dates::start(a, dates::Unit::Hour)),
    ("startOfMonth", 1, 2, |a, _| dates::start(a, dates::Unit::Month)),
    ("startsWith", 2, 2, |a, _| Ok(Value::Bool(lower(&a[0])?.starts_with(&lower(&a[1])?)))),
    ("string", 1, 1, |a, _| Ok(Value::String(to_text(&a[0])))),
    ("sub", 2, 2, |a, _| arithmetic(a, i64::checked_sub, |x, y| x - y)),
    ("substring", 2, 3, |a, _| substring(a)),
    ("take", 2, 2, |a, _| take(&a[0], integer(&a[1])?)),
    ("ticks", 1, 1, |a, _| dates::ticks(&a[0])),
    ("toLower", 1, 1, |a, _| Ok(Value::String(text(&a[0])?.to_lowercase()))),
    ("toUpper", 1, 1, |a, _| Ok(Value::String(text(&a[0])?.to_uppercase()))),
    ("trim", 1, 1, |a, _| Ok(Value::String(text(&a[0])?.trim().to_owned()))),
    ("uriComponent", 1, 1, |a, _| Ok(Value::String(uri_component(text(&a[0])?)))),
    ("utcNow", 0, 1, |a, now| dates::now(now, a.first())),
];

pub(super) fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("a text is needed, not {}.", kind(value)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn lower(value: &Value) -> Result<String, String> {
    text(value).map(str::to_lowercase)
}

fn items(value: &Value) -> Result<&[Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("an array is needed, not {}.", kind(value)))
}

fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Number(value) => Ok(value.as_f64() != Some(0.0)),
        Value::String(value) if value.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(value) if value.eq_ignore_ascii_case("false") => Ok(false),
        other => Err(format!("a boolean is needed, not {}.", kind(other))),
    }
}

fn number(value: &Value) -> Result<f64, String> {
    let found = match value {
        Value::Number(value) => value.as_f64(),
        Value::String(value) => value.trim().parse().ok(),
        _ => None,
    };
    found.ok_or_else(|| format!("a number is needed, not {}.", kind(value)))
}

pub(super) fn integer(value: &Value) -> Result<i64, String> {
    let found = match value {
        Value::Number(value) => value.as_i64(),
        Value::String(value) => value.trim().parse().ok(),
        _ => None,
    };
    found.ok_or_else(|| format!("a whole number is needed, not {}.", kind(value)))
}

fn from_float(value: f64) -> Outcome {
    Number::from_f64(value).map(Value::Number).ok_or_else(|| "the result is not a number.".to_owned())
}

fn arithmetic(a: &[Value], whole: fn(i64, i64) -> Option<i64>, float: fn(f64, f64) -> f64) -> Outcome {
    if let (Some(x), Some(y)) = (a[0].as_i64(), a[1].as_i64()) {
        return whole(x, y).map(Value::from).ok_or_else(|| "the result is too large.".to_owned());
    }
    if !a[0].is_number() || !a[1].is_number() {
        let other = if a[0].is_number() { &a[1] } else { &a[0] };
        return Err(format!("a number is needed, not {}.", kind(other)));
    }
    from_float(float(number(&a[0])?, number(&a[1])?))
}

fn equal(x: &Value, y: &Value) -> bool {
    match (x, y) {
        (Value::Bool(a), Value::Number(b)) | (Value::Number(b), Value::Bool(a)) => {
            b.as_f64() == Some(f64::from(u8::from(*a)))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => x == y,
    }
}

fn order(x: &Value, y: &Value) -> Result<Ordering, String> {
    match (x, y) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(_), Value::Number(_)) => {
            number(x)?.partial_cmp(&number(y)?).ok_or_else(|| "the numbers cannot be compared.".to_owned())
        }
        _ => Err(format!("{} and {} cannot be compared.", kind(x), kind(y))),
    }
}

fn extreme(a: &[Value], wanted: Ordering) -> Outcome {
    let values = if a.len() == 1 { items(&a[0])? } else { a };
    let Some(mut best) = values.first() else { return Err("there is nothing to choose from.".to_owned()) };
    for value in values {
        number(value)?;
        if order(value, best)? == wanted {
            best = value;
        }
    }
    Ok(best.clone())
}

/// Texts are joined; arrays are joined to one array.
fn concat(a: &[Value]) -> Outcome {
    if a.iter().all(Value::is_array) {
        return Ok(Value::Array(a.iter().filter_map(Value::as_array).flatten().cloned().collect()));
    }
    Ok(Value::String(a.iter().map(to_text).collect()))
}

fn contains(collection: &Value, value: &Value) -> Result<bool, String> {
    match collection {
        Value::String(whole) => Ok(whole.contains(&to_text(value))),
        Value::Array(values) => Ok(values.iter().any(|item| equal(item, value))),
        Value::Object(members) => Ok(crate::member::find(members, text(value)?).is_some()),
        other => Err(format!("a text, an array or an object is needed, not {}.", kind(other))),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(text) => Ok(text.chars().count()),
        Value::Array(values) => Ok(values.len()),
        Value::Object(members) => Ok(members.len()),
        Value::Null => Ok(0),
        other => Err(format!("a text, an array or an object is needed, not {}.", kind(other))),
    }
}

fn edge(value: &Value, first: bool) -> Value {
    match value {
        Value::Array(values) => if first { values.first() } else { values.last() }.cloned().unwrap_or(Value::Null),
        Value::String(text) => {
            let found = if first { text.chars().next() } else { text.chars().last() };
            found.map_or(Value::Null, |c| Value::String(c.to_string()))
        }
        _ => Value::Null,
    }
}

fn index_of(whole: String, find: impl Fn(&str) -> Option<usize>) -> Value {
    find(&whole).map_or(Value::from(-1), |at| Value::from(whole[..at].chars().count() as i64))
}

fn replace(whole: &str, old: &str, new: &str) -> String {
    if old.is_empty() { whole.to_owned() } else { whole.replace(old, new) }
}

/// Most items that `range` makes, as in the original's loops.
const RANGE_ITEMS_MAX: i64 = 100_000;

fn range(start: i64, count: i64) -> Outcome {
    if !(0..=RANGE_ITEMS_MAX).contains(&count) {
        return Err(format!("the count must be between 0 and {RANGE_ITEMS_MAX}."));
    }
    let end = start.checked_add(count).ok_or_else(|| "the result is too large.".to_owned())?;
    Ok(Value::Array((start..end).map(Value::from).collect()))
}

fn substring(a: &[Value]) -> Outcome {
    let characters: Vec<char> = text(&a[0])?.chars().collect();
    let outside = || "start and length must lie inside the text.".to_owned();
    let start = usize::try_from(integer(&a[1])?).map_err(|_| outside())?;
    let count = match a.get(2) {
        Some(count) => usize::try_from(integer(count)?).map_err(|_| outside())?,
        None => characters.len().saturating_sub(start),
    };
    let end = start.checked_add(count).ok_or_else(outside)?;
    characters.get(start..end).map(|part| Value::String(part.iter().collect())).ok_or_else(outside)
}

fn take(value: &Value, count: i64) -> Outcome {
    let count = usize::try_from(count).unwrap_or_default();
    match value {
        Value::String(text) => Ok(Value::String(text.chars().take(count).collect())),
        other => Ok(Value::Array(items(other)?.iter().take(count).cloned().collect())),
    }
}

fn from_base64(encoded: &str) -> Outcome {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Value::String).ok_or_else(|| "the text is not base64 of UTF-8.".to_owned())
}

fn uri_component(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::TABLE;

    #[test]
    fn the_table_is_sorted() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].0.to_lowercase() < pair[1].0.to_lowercase(), "{} before {}", pair[0].0, pair[1].0);
        }
    }
}
