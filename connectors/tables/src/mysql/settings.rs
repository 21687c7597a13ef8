//! Typed settings of a MariaDB or MySQL server, and everything a connection is made from. The password is a `Secret`.

use std::sync::Arc;
use std::time::Duration;

use dmg_connector::{Result, Session};
use dmg_protocol::catalog::{SettingDescriptor, SettingKind};
use dmg_protocol::{Secret, Secrets};
use serde_json::{Map, Value};

use crate::settings::{Settings, setting};
use crate::tls::SslMode;

/// What `ssl-mode` of MySQL's own client calls them.
const SSL_MODES: &[(&str, SslMode)] = &[
    ("preferred", SslMode::Prefer),
    ("disabled", SslMode::Disable),
    ("required", SslMode::Require),
    ("verify_ca", SslMode::VerifyCa),
    ("verify_identity", SslMode::VerifyFull),
    ("verify-identity", SslMode::VerifyFull),
];

/// What becomes of values other stores do not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    /// The copy stops at the first, naming row and column.
    Refuse,
    /// The whole column travels as the server's own text.
    Text,
}

/// A server, a database and who logs in.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) ssl_mode: SslMode,
    pub(super) zero_dates: Odd,
    pub(super) long_times: Odd,
    pub(super) connect_timeout: Duration,
    pub(super) password: Option<Secret<String>>,
    pub(super) session: Session,
}

impl Server {
    /// Checks the settings and joins them with secret and session.
    pub(super) fn new(settings: &Map<String, Value>, secrets: &Secrets, session: Session) -> Result<Arc<Self>> {
        let settings = Settings::check(&super::DESCRIPTOR, settings)?;
        let ssl_mode = settings.ssl_mode(SSL_MODES)?;
        let odd = |name: &str| match settings.text(name)?.map(str::to_ascii_lowercase).as_deref() {
            None | Some("refuse") => Ok(Odd::Refuse),
            Some("text") => Ok(Odd::Text),
            Some(_) => Err(settings.refuse(name, "must be refuse or text")),
        };
        Ok(Arc::new(Server {
            host: settings.required("host")?.to_owned(),
            port: settings.integer("port", 1..=65_535)?.unwrap_or(3306) as u16,
            database: settings.required("database")?.to_owned(),
            user: settings.required("user")?.to_owned(),
            ssl_mode,
            zero_dates: odd("zeroDates")?,
            long_times: odd("longTimes")?,
            connect_timeout: settings.connect_timeout()?,
            password: secrets.get("password").map(|secret| Secret::new(secret.expose().clone())),
            session,
        }))
    }

    /// The server, for people, before it has said which of the two it is.
    pub(super) fn place(&self) -> String {
        format!("MySQL {}:{}", self.host, self.port)
    }
}

/// What forms, connection strings and documents may say.
pub(super) const SETTINGS: &[SettingDescriptor] = &[
    setting("host", &["server", "data source", "address"], SettingKind::Text, true, true, "Host name or address."),
    setting("port", &[], SettingKind::Integer, false, true, "TCP port; 3306 if absent."),
    setting("database", &["initial catalog", "dbname", "db"], SettingKind::Text, true, true, "Database."),
    setting("user", &["username", "user name", "uid", "user id"], SettingKind::Text, true, false, "User that logs in."),
    setting(
        "sslMode",
        &["ssl mode", "sslmode"],
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
    setting(
        "zeroDates",
        &["zero dates"],
        SettingKind::Text,
        false,
        false,
        "refuse (default): a date such as 0000-00-00 stops the copy; text: columns of dates are read as text.",
    ),
    setting(
        "longTimes",
        &["long times"],
        SettingKind::Text,
        false,
        false,
        "refuse (default): a time below 0 or beyond 24 hours stops the copy; text: columns of times are read as text.",
    ),
    setting("password", &["pwd"], SettingKind::Secret, false, false, "Password of the user."),
];
