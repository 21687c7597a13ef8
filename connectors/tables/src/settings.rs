//! Reads a store's settings by its descriptor, so that every store refuses the same mistakes in the same words.
//! Secrets never pass through here.

use std::time::Duration;

use dmg_connector::Result;
use dmg_protocol::Fault;
use dmg_protocol::catalog::{SettingDescriptor, SettingKind, StoreDescriptor};
use serde_json::{Map, Value};

use crate::tls::SslMode;

/// One line of a store's table of settings.
pub(crate) const fn setting(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: SettingKind,
    required: bool,
    bound: bool,
    help: &'static str,
) -> SettingDescriptor {
    SettingDescriptor { name, aliases, kind, required, bound, help }
}

/// The settings of one store, checked against its descriptor.
pub(crate) struct Settings<'a> {
    store: &'static StoreDescriptor,
    values: &'a Map<String, Value>,
}

impl<'a> Settings<'a> {
    /// Refuses unknown, missing and mistyped settings.
    pub(crate) fn check(store: &'static StoreDescriptor, values: &'a Map<String, Value>) -> Result<Self> {
        for name in values.keys() {
            let known = store.settings.iter().any(|s| s.name == name && s.kind != SettingKind::Secret);
            if !known {
                let names: Vec<_> =
                    store.settings.iter().filter(|s| s.kind != SettingKind::Secret).map(|s| s.name).collect();
                let message = format!("{} has no setting \"{name}\".", store.title);
                let remedy = format!("Use one of: {}.", names.join(", "));
                return Err(Fault::new("UserErrorSettings", message).remedy(remedy).with("setting", name).into());
            }
        }
        let settings = Settings { store, values };
        for setting in store.settings.iter().filter(|s| s.kind != SettingKind::Secret) {
            match setting.kind {
                SettingKind::Integer => drop(settings.integer(setting.name, 0..=i64::MAX)?),
                _ if setting.required => drop(settings.required(setting.name)?),
                _ => drop(settings.text(setting.name)?),
            }
        }
        Ok(settings)
    }

    /// A refusal that names the setting.
    pub(crate) fn refuse(&self, name: &str, why: &str) -> dmg_connector::Error {
        let message = format!("Setting \"{name}\" of {} {why}.", self.store.title);
        Fault::new("UserErrorSettings", message).with("setting", name).into()
    }

    /// A text; an empty one counts as absent.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.refuse(name, "must be text")),
        }
    }

    /// A text that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&'a str> {
        self.text(name)?.ok_or_else(|| self.refuse(name, "is missing"))
    }

    /// A whole number within a range; connection strings give it as text.
    pub(crate) fn integer(&self, name: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<i64>> {
        let number = match self.values.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        match number {
            Some(number) if range.contains(&number) => Ok(Some(number)),
            Some(_) => {
                let why = format!("must be between {} and {}", range.start(), range.end());
                Err(self.refuse(name, &why))
            }
            None => Err(self.refuse(name, "must be a whole number")),
        }
    }

    /// `connectTimeoutSeconds`.
    pub(crate) fn connect_timeout(&self) -> Result<Duration> {
        Ok(Duration::from_secs(self.integer("connectTimeoutSeconds", 1..=600)?.unwrap_or(15) as u64))
    }

    /// `sslMode`, in PostgreSQL's words and those that are the store's own.
    pub(crate) fn ssl_mode(&self, own: &[(&str, SslMode)]) -> Result<SslMode> {
        Ok(match self.text("sslMode")?.map(str::to_ascii_lowercase).as_deref() {
            None | Some("prefer") => SslMode::Prefer,
            Some("disable") => SslMode::Disable,
            Some("require") => SslMode::Require,
            Some("verify-ca" | "verifyca") => SslMode::VerifyCa,
            Some("verify-full" | "verifyfull") => SslMode::VerifyFull,
            Some(word) => match own.iter().find(|(own, _)| *own == word) {
                Some((_, mode)) => *mode,
                None => {
                    let why = "must be one of disable, prefer, require, verify-ca, verify-full";
                    return Err(self.refuse("sslMode", why));
                }
            },
        })
    }
}
