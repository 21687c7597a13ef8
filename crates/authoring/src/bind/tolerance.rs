//! Whether rows that do not fit are left out, and where they are told: the members of both dialects. The limits are ours.

use dmg_protocol::Fault;
use dmg_protocol::job::{LogLevel, Redirect, RedirectLayout, SessionLog, Tolerance};
use serde_json::Value;

use super::copy::refuse_member;
use super::{Context, dataset};
use crate::member::{get, present, text, truth, whole};

/// What a copy says on rows that do not fit, and on its log.
#[derive(Default)]
pub(super) struct Said {
    pub(super) tolerance: Option<Tolerance>,
    pub(super) log: Option<Box<SessionLog>>,
    /// The gateway that reaches the store of either file.
    pub(super) gateway: Option<String>,
}

/// Where the members say that something is told.
struct Place<'a> {
    member: &'static str,
    /// Linked service and path.
    location: &'a Value,
    /// Of a log; absent for a redirect file.
    level: Option<LogLevel>,
}

pub(super) fn of(context: &Context<'_>, members: &Value) -> Result<Said, Fault> {
    let skip = get(members, "skipErrorFile").and_then(Value::as_object);
    if let Some((member, _)) = skip.into_iter().flatten().find(|(_, value)| truth(value) == Some(true)) {
        // They skip whole files of a copy byte for byte, which there is none of.
        return Err(refuse_member("copy", &format!("skipErrorFile.{member}")));
    }
    let mut said = Said::default();
    let places = places(members)?;
    if present(members, "enableSkipIncompatibleRow").and_then(truth) == Some(true) {
        let (rows_max, share_max) = (limit(members, "maxSkippedRows")?, share(members)?);
        said.tolerance = Some(Tolerance { rows_max, share_max, redirect: None });
    } else {
        let limits = ["maxSkippedRows", "maxSkippedPercent"].into_iter().find(|name| present(members, name).is_some());
        let redirect = places.iter().find(|place| place.level.is_none()).map(|place| place.member);
        if let Some(member) = redirect.or(limits) {
            let message = format!("The copy has {member}, but skips no rows: enableSkipIncompatibleRow is not true.");
            return Err(Fault::new("UserErrorDocument", message).remedy("Set it to true, or leave the member out."));
        }
    }
    if let [Place { member: one, .. }, Place { member: other, .. }, ..] = places.as_slice() {
        let message = format!("The copy says twice where skipped rows go: in {one} and in {other}.");
        return Err(Fault::new("UserErrorDocument", message).remedy("Keep one of them."));
    }
    if let Some(Place { location, level, .. }) = places.first() {
        let service = get(location, "linkedServiceName").unwrap_or(&Value::Null);
        let (store, gateway) = dataset::service(context, service)?;
        let folder = text(location, "path").unwrap_or_default().trim_matches('/').to_owned();
        said.gateway = gateway;
        match (level, &mut said.tolerance) {
            (Some(level), _) => said.log = Some(Box::new(SessionLog { store, folder, level: *level })),
            (None, Some(tolerance)) => {
                let layout = RedirectLayout::Original;
                tolerance.redirect = Some(Box::new(Redirect { store, folder, layout }));
            }
            (None, None) => {}
        }
    }
    Ok(said)
}

fn places(members: &Value) -> Result<Vec<Place<'_>>, Fault> {
    let mut places = Vec::new();
    if let Some(location) = present(members, "redirectIncompatibleRowSettings") {
        places.push(Place { member: "redirectIncompatibleRowSettings", location, level: None });
    }
    let member = "logStorageSettings";
    if let Some(location) = present(members, member) {
        places.push(Place { member, location, level: Some(level(location, member)?) });
    }
    let member = "logSettings";
    if let Some(settings) = present(members, member)
        && present(settings, "enableCopyActivityLog").and_then(truth) == Some(true)
    {
        let location = present(settings, "logLocationSettings").ok_or_else(|| {
            let message = "The member \"logSettings\" has no \"logLocationSettings\".";
            Fault::new("UserErrorDocument", message).remedy("Name a linked service and a path in it.")
        })?;
        places.push(Place { member, location, level: Some(log_level(settings)?) });
    }
    Ok(places)
}

fn log_level(settings: &Value) -> Result<LogLevel, Fault> {
    let known = ["enableCopyActivityLog", "copyActivityLogSettings", "logLocationSettings"];
    refuse_unknown(settings, "logSettings", &known)?;
    let Some(log) = present(settings, "copyActivityLogSettings") else { return Ok(LogLevel::default()) };
    refuse_unknown(log, "logSettings.copyActivityLogSettings", &["logLevel", "enableReliableLogging"])?;
    level(log, "logSettings.copyActivityLogSettings")
}

fn refuse_unknown(settings: &Value, place: &str, known: &[&str]) -> Result<(), Fault> {
    let members = settings.as_object().into_iter().flatten();
    let unknown =
        members.map(|(name, _)| name).find(|name| !known.iter().any(|known| known.eq_ignore_ascii_case(name)));
    unknown.map_or(Ok(()), |name| Err(refuse_member("copy", &format!("{place}.{name}"))))
}

fn level(log: &Value, place: &str) -> Result<LogLevel, Fault> {
    // Our log is always complete: it is committed like any target.
    if present(log, "enableReliableLogging").is_some_and(|value| truth(value).is_none()) {
        let message = format!("\"{place}.enableReliableLogging\" is true or false.");
        return Err(Fault::new("UserErrorDocument", message));
    }
    let Some(level) = present(log, "logLevel") else { return Ok(LogLevel::default()) };
    match level.as_str().unwrap_or_default() {
        level if level.eq_ignore_ascii_case("Info") => Ok(LogLevel::Info),
        level if level.eq_ignore_ascii_case("Warning") => Ok(LogLevel::Warning),
        level => {
            let message = format!("\"{place}.logLevel\" is Info or Warning, not \"{level}\".");
            Err(Fault::new("UserErrorDocument", message))
        }
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
