//! Calls a stored procedure: parameters by the types the author named, output values and return status back. At least
//! once is all that can be promised: a lost answer is followed by another call.

use std::time::Duration;

use dmg_connector::{Error, Result};
use dmg_protocol::Fault;
use dmg_protocol::job::{ProcedureCall, ProcedureOutcome, ProcedureParameter};

use super::catalog::{requoted, texts};
use super::cell::DAYS_TO_1970;
use super::driver::{Argument, Driver, Typed};
use super::publish::parameter_name;

/// Calls it, and cancels it at the server after its time.
pub(super) async fn call(session: &mut dyn Driver, call: &ProcedureCall) -> Result<ProcedureOutcome> {
    let Some(name) = requoted(&call.name) else {
        let message = format!("\"{}\" is no name of a procedure.", call.name);
        let remedy = "Write schema.name, with [ ] around odd names.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    };
    let outputs = outputs(session, &name).await?;
    let mut arguments = Vec::with_capacity(call.parameters.len());
    for parameter in &call.parameters {
        let name = parameter_name(&parameter.name)?;
        let output = outputs.iter().any(|output| output.eq_ignore_ascii_case(&name));
        arguments.push(Argument { name, output, value: typed(parameter)? });
    }
    let timeout = call.timeout_seconds.map(Duration::from_secs);
    session.call(&name, &arguments, timeout).await.map_err(|error| {
        let late = error.fault.code == "StoreErrorTimeout";
        if late { Error { fault: Box::new(call.too_long()), ..error } } else { error }
    })
}

/// Parameters that give a value back. A procedure that cannot be seen has none as far as we know.
async fn outputs(session: &mut dyn Driver, name: &str) -> Result<Vec<String>> {
    let sql = "SELECT p.name FROM sys.parameters p WHERE p.object_id = OBJECT_ID(@P1) AND p.is_output = 1";
    Ok(session.query(sql, &[Some(name)]).await?.into_iter().map(|row| texts(row)()).collect())
}

/// The value by the author's type; without one the server converts the text.
fn typed(parameter: &ProcedureParameter) -> Result<Typed> {
    let name = parameter.type_name.as_deref().unwrap_or("String").to_ascii_lowercase();
    let text = parameter.value.as_deref();
    let refuse = || -> dmg_connector::Error {
        let type_name = parameter.type_name.as_deref().unwrap_or("String");
        let message = format!("The value of parameter \"{}\" is no {type_name}.", parameter.name);
        Fault::new("UserErrorSettings", message).with("parameter", &parameter.name).into()
    };
    let made = match name.as_str() {
        "byte" | "int16" | "int32" | "int64" | "int" | "sbyte" | "uint16" | "uint32" => {
            Typed::Whole(parsed(text, |text| text.trim().parse().ok()).ok_or_else(refuse)?)
        }
        "decimal" => Typed::Decimal(parsed(text, decimal).ok_or_else(refuse)?),
        "boolean" | "bool" => Typed::Truth(parsed(text, truth).ok_or_else(refuse)?),
        "guid" => Typed::Uuid(parsed(text, uuid).ok_or_else(refuse)?),
        "date" | "datetime" => Typed::Moment(parsed(text, moment).ok_or_else(refuse)?),
        _ => Typed::Text(parameter.value.clone()),
    };
    Ok(made)
}

/// NULL, or a value that parses; `None` for one that does not.
#[expect(clippy::option_option, reason = "the outer one is whether there is a value, the inner one NULL")]
fn parsed<T>(text: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => parse(text).map(Some),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn decimal(text: &str) -> Option<(i128, u8)> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = [whole, fraction].concat();
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if all.trim_start_matches('0').len() > 38 || fraction.len() > 38 {
        return None;
    }
    let value: i128 = all.parse().ok()?;
    Some((if negative { -value } else { value }, fraction.len() as u8))
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let bare: String = text.trim().trim_matches(['{', '}']).chars().filter(|c| *c != '-').collect();
    if bare.len() != 32 || !bare.is_ascii() {
        return None;
    }
    let mut octets = [0; 16];
    for (index, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&bare[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(octets)
}

/// Day since 0001-01-01 and steps of 100 ns. A moment with an offset is taken to UTC.
fn moment(text: &str) -> Option<(u32, u64)> {
    let text = text.trim();
    if let Some(super::cell::Cell::DateTime2 { days, ticks, .. }) = super::moment::parse(text, "datetime2", 7) {
        return Some((days, ticks));
    }
    if let Some(super::cell::Cell::Date(days)) = super::moment::parse(text, "date", 0) {
        return Some((days, 0));
    }
    let zoned = text.strip_suffix('Z').map(|text| format!("{text}+00:00")).unwrap_or_else(|| text.to_owned());
    match super::moment::parse(&zoned, "datetimeoffset", 7)? {
        super::cell::Cell::Offset { days, ticks, .. } if i64::from(days) <= DAYS_TO_1970 * 10 => Some((days, ticks)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(type_name: &str, value: Option<&str>) -> Option<Typed> {
        let parameter =
            ProcedureParameter { name: "p".into(), type_name: Some(type_name.into()), value: value.map(str::to_owned) };
        typed(&parameter).ok()
    }

    #[test]
    fn values_by_type() {
        for (name, value, expected) in [
            ("String", Some("it's"), Some(Typed::Text(Some("it's".into())))),
            ("Int32", Some("-7"), Some(Typed::Whole(Some(-7)))),
            ("Int32", None, Some(Typed::Whole(None))),
            ("Int32", Some("7.5"), None),
            ("Decimal", Some("-12.50"), Some(Typed::Decimal(Some((-1250, 2))))),
            ("Decimal", Some("."), None),
            ("Boolean", Some("True"), Some(Typed::Truth(Some(true)))),
            ("Boolean", Some("yes"), None),
            ("Date", Some("1970-01-01"), Some(Typed::Moment(Some((719_162, 0))))),
            ("DateTime", Some("1970-01-01T00:00:01Z"), Some(Typed::Moment(Some((719_162, 10_000_000))))),
            ("DateTime", Some("1970-01-01 00:00:00.0000001"), Some(Typed::Moment(Some((719_162, 1))))),
            (
                "Guid",
                Some("00112233-4455-6677-8899-aabbccddeeff"),
                made("Guid", Some("00112233445566778899AABBCCDDEEFF")),
            ),
            ("Guid", Some("0011"), None),
        ] {
            assert_eq!(made(name, value), expected, "{name} {value:?}");
        }
        assert!(made("Guid", Some("00112233-4455-6677-8899-aabbccddeeff")).is_some());
    }
}
