//! Whether rows that do not fit are left out, and where they go: the members of both dialects. The limits are ours.

use dmg_protocol::Fault;
use dmg_protocol::job::{Redirect, Tolerance};
use serde_json::Value;

use super::copy::refuse_member;
use super::{Context, dataset};
use crate::member::{get, present, text, truth, whole};

/// The tolerance of a copy and the gateway its redirect needs.
pub(super) fn of(context: &Context<'_>, members: &Value) -> Result<(Option<Tolerance>, Option<String>), Fault> {
    let skip = get(members, "skipErrorFile").and_then(Value::as_object);
    if let Some((member, _)) = skip.into_iter().flatten().find(|(_, value)| truth(value) == Some(true)) {
        // They skip whole files of a copy byte for byte, which there is none of.
        return Err(refuse_member("copy", &format!("skipErrorFile.{member}")));
    }
    let on = present(members, "enableSkipIncompatibleRow").and_then(truth) == Some(true);
    let places = places(members)?;
    if !on {
        let limits = ["maxSkippedRows", "maxSkippedPercent"].into_iter().find(|name| present(members, name).is_some());
        if let Some(member) = places.first().map(|(member, _)| *member).or(limits) {
            let message = format!("The copy has {member}, but skips no rows: enableSkipIncompatibleRow is not true.");
            return Err(Fault::new("UserErrorDocument", message).remedy("Set it to true, or leave the member out."));
        }
        return Ok((None, None));
    }
    let mut tolerance =
        Tolerance { rows_max: limit(members, "maxSkippedRows")?, share_max: share(members)?, redirect: None };
    let gateway = match places.as_slice() {
        [] => None,
        [(_, place)] => {
            let (store, gateway) = dataset::service(context, get(place, "linkedServiceName").unwrap_or(&Value::Null))?;
            let folder = text(place, "path").unwrap_or_default().trim_matches('/').to_owned();
            tolerance.redirect = Some(Box::new(Redirect { store, folder }));
            gateway
        }
        [(one, _), (other, _), ..] => {
            let message = format!("The copy says twice where skipped rows go: in {one} and in {other}.");
            return Err(Fault::new("UserErrorDocument", message).remedy("Keep one of them."));
        }
    };
    Ok((Some(tolerance), gateway))
}

/// Where the members say that skipped rows go.
fn places(members: &Value) -> Result<Vec<(&'static str, &Value)>, Fault> {
    let mut places = Vec::new();
    for member in ["redirectIncompatibleRowSettings", "logStorageSettings"] {
        if let Some(settings) = present(members, member) {
            if member == "logStorageSettings" {
                check_level(settings, member)?;
            }
            places.push((member, settings));
        }
    }
    if let Some(settings) = present(members, "logSettings")
        && present(settings, "enableCopyActivityLog").and_then(truth) == Some(true)
    {
        let location = present(settings, "logLocationSettings").ok_or_else(|| {
            let message = "The member \"logSettings\" has no \"logLocationSettings\".";
            Fault::new("UserErrorDocument", message).remedy("Name a linked service and a path in it.")
        })?;
        check_log(settings)?;
        places.push(("logSettings", location));
    }
    Ok(places)
}

/// What the log of the original can be told, and ours not: it has the rows left out, and always all of them.
fn check_log(settings: &Value) -> Result<(), Fault> {
    let known = ["enableCopyActivityLog", "copyActivityLogSettings", "logLocationSettings"];
    refuse_unknown(settings, "logSettings", &known)?;
    let Some(log) = present(settings, "copyActivityLogSettings") else { return Ok(()) };
    refuse_unknown(log, "logSettings.copyActivityLogSettings", &["logLevel", "enableReliableLogging"])?;
    check_level(log, "logSettings.copyActivityLogSettings")
}

fn refuse_unknown(settings: &Value, place: &str, known: &[&str]) -> Result<(), Fault> {
    let members = settings.as_object().into_iter().flatten();
    let unknown =
        members.map(|(name, _)| name).find(|name| !known.iter().any(|known| known.eq_ignore_ascii_case(name)));
    unknown.map_or(Ok(()), |name| Err(refuse_member("copy", &format!("{place}.{name}"))))
}

fn check_level(log: &Value, place: &str) -> Result<(), Fault> {
    let reliable = present(log, "enableReliableLogging").is_none_or(|value| truth(value).is_some());
    match present(log, "logLevel").map(|level| level.as_str().unwrap_or_default()) {
        _ if !reliable => {
            let message = format!("\"{place}.enableReliableLogging\" is true or false.");
            Err(Fault::new("UserErrorDocument", message))
        }
        Some(level) if level.eq_ignore_ascii_case("Info") => {
            // Files that were copied are in the receipt.
            Err(refuse_member("copy", &format!("the value Info of {place}.logLevel")))
        }
        Some(level) if !level.eq_ignore_ascii_case("Warning") => {
            let message = format!("\"{place}.logLevel\" is Info or Warning, not \"{level}\".");
            Err(Fault::new("UserErrorDocument", message))
        }
        _ => Ok(()),
    }
}

/// How many at most, where it is said.
pub(super) fn limit(members: &Value, name: &str) -> Result<Option<u64>, Fault> {
    let Some(value) = present(members, name) else { return Ok(None) };
    let message = || format!("\"{name}\" is a whole number, not {value}.");
    whole(value).map(Some).ok_or_else(|| Fault::new("UserErrorDocument", message()))
}

fn share(members: &Value) -> Result<Option<f64>, Fault> {
    let Some(value) = present(members, "maxSkippedPercent") else { return Ok(None) };
    let number = value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    let message = || format!("\"maxSkippedPercent\" is a number from 0 to 100, not {value}.");
    let percent = number.filter(|percent| (0.0..=100.0).contains(percent));
    percent.map(|percent| Some(percent / 100.0)).ok_or_else(|| Fault::new("UserErrorDocument", message()))
}
