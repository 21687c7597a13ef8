//! Typed settings of a SQLite database: where its file is.

use std::path::PathBuf;

use dmg_connector::Result;
use dmg_protocol::catalog::{SettingDescriptor, SettingKind};
use serde_json::{Map, Value};

use crate::settings::Settings;

/// What forms and documents may say.
pub(super) const SETTINGS: &[SettingDescriptor] = &[SettingDescriptor {
    name: "path",
    aliases: &["data source", "database", "file", "filename"],
    kind: SettingKind::Text,
    required: true,
    bound: true,
    help: "Path of the database file on the gateway's machine.",
}];

/// The path.
pub(super) fn path(settings: &Map<String, Value>) -> Result<PathBuf> {
    Ok(PathBuf::from(Settings::check(&super::DESCRIPTOR, settings)?.required("path")?))
}
