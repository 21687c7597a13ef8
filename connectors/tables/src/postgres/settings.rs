//! Typed settings of a PostgreSQL server, and everything a connection is made from. The password is a `Secret`.

use std::sync::Arc;
use std::time::Duration;

use dmg_connector::{Result, Session};
use dmg_protocol::catalog::{SettingDescriptor, SettingKind};
use dmg_protocol::{Secret, Secrets};
use serde_json::{Map, Value};

use crate::settings::{Settings, setting};
use crate::tls::SslMode;

/// A server, a database and who logs in.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) ssl_mode: SslMode,
    pub(super) connect_timeout: Duration,
    pub(super) password: Option<Secret<String>>,
    pub(super) session: Session,
}

impl Server {
    /// Checks the settings and joins them with secret and session.
    pub(super) fn new(settings: &Map<String, Value>, secrets: &Secrets, session: Session) -> Result<Arc<Self>> {
        let settings = Settings::check(&super::DESCRIPTOR, settings)?;
        let ssl_mode = settings.ssl_mode(&[])?;
        Ok(Arc::new(Server {
            host: settings.required("host")?.to_owned(),
            port: settings.integer("port", 1..=65_535)?.unwrap_or(5432) as u16,
            database: settings.required("database")?.to_owned(),
            user: settings.required("user")?.to_owned(),
            ssl_mode,
            connect_timeout: settings.connect_timeout()?,
            password: secrets.get("password").map(|secret| Secret::new(secret.expose().clone())),
            session,
        }))
    }

    /// The server, for people.
    pub(super) fn place(&self) -> String {
        format!("PostgreSQL {}:{}", self.host, self.port)
    }
}

/// What forms, connection strings and documents may say.
pub(super) const SETTINGS: &[SettingDescriptor] = &[
    setting("host", &["server", "data source", "address"], SettingKind::Text, true, true, "Host name or address."),
    setting("port", &[], SettingKind::Integer, false, true, "TCP port; 5432 if absent."),
    setting("database", &["initial catalog", "dbname", "db"], SettingKind::Text, true, true, "Database."),
    setting("user", &["username", "user name", "uid", "user id"], SettingKind::Text, true, false, "Role that logs in."),
    setting(
        "sslMode",
        &["encryption method", "sslmode"],
        SettingKind::Text,
        false,
        false,
        "disable, prefer (default), require, verify-ca or verify-full.",
    ),
    setting(
        "connectTimeoutSeconds",
        &["connect timeout", "connection timeout", "timeout"],
        SettingKind::Integer,
        false,
        false,
        "Seconds to wait for a connection; 15 if absent.",
    ),
    setting("password", &["pwd"], SettingKind::Secret, false, false, "Password of the role."),
];
