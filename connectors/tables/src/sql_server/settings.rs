//! Typed settings of a SQL Server, and everything a session is made from. Password and token are `Secret`.

use std::sync::Arc;
use std::time::Duration;

use dmg_connector::{Result, Session};
use dmg_protocol::catalog::{SettingDescriptor, SettingKind};
use dmg_protocol::{Fault, Secret, Secrets};
use serde_json::{Map, Value};

use super::ntlm::Account;
use super::route;
use crate::settings::Settings;

/// How a session is encrypted; the words are those of connection strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encrypt {
    /// The log-in only, and whoever answers is believed, as older drivers do it.
    Optional,
    /// Everything, checked.
    Mandatory,
    /// Everything, checked, TLS before the first word of the protocol (TDS 8).
    Strict,
}

/// How a source sees what others write meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    Snapshot,
    Serializable,
    RepeatableRead,
    ReadCommitted,
    ReadUncommitted,
}

impl Isolation {
    /// What follows `SET TRANSACTION ISOLATION LEVEL`.
    pub(super) fn words(self) -> &'static str {
        match self {
            Isolation::Snapshot => "SNAPSHOT",
            Isolation::Serializable => "SERIALIZABLE",
            Isolation::RepeatableRead => "REPEATABLE READ",
            Isolation::ReadCommitted => "READ COMMITTED",
            Isolation::ReadUncommitted => "READ UNCOMMITTED",
        }
    }
}

/// Who logs in.
pub(super) enum Login {
    /// A log-in of the server.
    Sql { user: String, password: Secret<String> },
    /// An account of Windows. Settings are checked without secrets too, so the password is missed at log-in only.
    Windows { account: Account, password: Option<Secret<String>> },
    /// A token of Entra.
    Token(Secret<String>),
}

/// A server, a database and who logs in.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) login: Login,
    pub(super) encrypt: Encrypt,
    pub(super) trust_certificate: bool,
    pub(super) certificate_name: Option<String>,
    /// Other hosts that the server may send a log-in on to.
    pub(super) redirect_hosts: Vec<String>,
    pub(super) isolation: Option<Isolation>,
    pub(super) read_only: bool,
    pub(super) packet_bytes: Option<u32>,
    pub(super) connect_timeout: Duration,
    pub(super) session: Session,
}

impl Server {
    /// Checks the settings and joins them with secrets and session.
    pub(super) fn new(settings: &Map<String, Value>, secrets: &Secrets, session: Session) -> Result<Arc<Self>> {
        let settings = Settings::check(&super::DESCRIPTOR, settings)?;
        let (host, port) = address(&settings)?;
        let (login, encrypt) = (login(&settings, secrets)?, encrypt(&settings)?);
        if matches!(login, Login::Token(_)) && encrypt == Encrypt::Optional {
            return Err(settings.refuse("encrypt", "must be mandatory or strict where an access token logs in"));
        }
        Ok(Arc::new(Server {
            host,
            port,
            database: settings.required("database")?.to_owned(),
            login,
            encrypt,
            trust_certificate: truth(&settings, "trustServerCertificate")?.unwrap_or(false),
            certificate_name: settings.text("hostNameInCertificate")?.map(str::to_owned),
            redirect_hosts: settings.text("redirectHosts")?.map(route::named).unwrap_or_default(),
            isolation: isolation(&settings)?,
            read_only: read_only(&settings)?,
            packet_bytes: settings.integer("packetSize", 512..=32_767)?.map(|bytes| bytes as u32),
            connect_timeout: settings.connect_timeout()?,
            session,
        }))
    }

    /// The server, for people.
    pub(super) fn place(&self) -> String {
        format!("SQL Server {}:{}", self.host, self.port)
    }
}

/// `host`, `host,1433`, `tcp:host,1433`, `.`; an instance is found by its port only.
fn address(settings: &Settings<'_>) -> Result<(String, u16)> {
    let written = settings.required("host")?;
    let text = written.strip_prefix("tcp:").unwrap_or(written).trim();
    if text.starts_with("np:") || text.starts_with("lpc:") || text.starts_with("\\\\") {
        return Err(settings.refuse("host", "names a pipe or shared memory; only TCP can be spoken"));
    }
    let (name, port) = match text.rsplit_once(',') {
        Some((name, port)) => (name.trim(), Some(port.trim())),
        None => (text, None),
    };
    let stated = settings.integer("port", 1..=65_535)?.map(|port| port as u16);
    let port = match port {
        Some(port) => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            Some(port.ok_or_else(|| settings.refuse("host", "has no port between 1 and 65535 behind the comma"))?)
        }
        None => stated,
    };
    let (host, instance) = match name.split_once('\\') {
        Some((host, instance)) => (host, Some(instance)),
        None => (name, None),
    };
    if let (Some(instance), None) = (instance, port) {
        let message = format!("The instance \"{instance}\" of {host} has no port.");
        let remedy = format!("Write {host},PORT as server: the port the instance listens on, without its name.");
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).with("setting", "host").into());
    }
    let host = match host.to_ascii_lowercase().as_str() {
        "" | "." | "(local)" => "localhost".to_owned(),
        _ => host.to_owned(),
    };
    Ok((host, port.unwrap_or(1433)))
}

fn login(settings: &Settings<'_>, secrets: &Secrets) -> Result<Login> {
    let secret = |name: &str| secrets.get(name).map(|secret| Secret::new(secret.expose().clone()));
    let kind = settings.text("authenticationType")?.unwrap_or("SQL").to_ascii_lowercase();
    match kind.as_str() {
        "sql" | "sqlpassword" => {}
        "accesstoken" | "token" => {}
        "windows" | "integrated" => return windows(settings, secret("password")),
        "serviceprincipal" | "systemassignedmanagedidentity" | "userassignedmanagedidentity" | "managedidentity" => {
            let message =
                "This gateway does not fetch tokens from Entra, which a log-in by an identity of the cloud needs.";
            let remedy =
                "Fetch a token for https://database.windows.net/ and log in with authenticationType AccessToken.";
            return Err(Fault::new("UserErrorNotSupported", message).remedy(remedy).into());
        }
        _ => return Err(settings.refuse("authenticationType", "must be SQL, Windows or AccessToken")),
    }
    if let Some(token) = secret("accessToken") {
        return Ok(Login::Token(token));
    }
    if kind.ends_with("token") && !secrets.is_empty() {
        return Err(settings.refuse("accessToken", "is missing"));
    }
    let user = settings.text("user")?.unwrap_or_default().to_owned();
    if user.is_empty() && !kind.ends_with("token") {
        return Err(settings.refuse("user", "is missing"));
    }
    Ok(Login::Sql { user, password: secret("password").unwrap_or_else(|| Secret::new(String::new())) })
}

fn windows(settings: &Settings<'_>, password: Option<Secret<String>>) -> Result<Login> {
    let user = settings.text("user")?.unwrap_or_default();
    if user.is_empty() {
        return Err(nobody().into());
    }
    let refuse = || settings.refuse("user", "must be DOMAIN\\user, user@domain or user where Windows logs in");
    Ok(Login::Windows { account: Account::parse(user).ok_or_else(refuse)?, password })
}

/// Windows is to log in, and nobody says as whom, or with which password.
pub(super) fn nobody() -> Fault {
    let message = "This gateway does not log in to SQL Server as the account of Windows it runs under.";
    let remedy = "Give an account of its own for this: user DOMAIN\\user (or user@domain.example) and its password.";
    Fault::new("UserErrorNotSupported", message).remedy(remedy)
}

fn encrypt(settings: &Settings<'_>) -> Result<Encrypt> {
    match settings.text("encrypt")?.map(str::to_ascii_lowercase).as_deref() {
        None | Some("true" | "yes" | "mandatory") => Ok(Encrypt::Mandatory),
        Some("false" | "no" | "optional") => Ok(Encrypt::Optional),
        Some("strict") => Ok(Encrypt::Strict),
        Some(_) => Err(settings.refuse("encrypt", "must be one of mandatory, optional, strict")),
    }
}

fn truth(settings: &Settings<'_>, name: &str) -> Result<Option<bool>> {
    match settings.text(name)?.map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("true" | "yes" | "1") => Ok(Some(true)),
        Some("false" | "no" | "0") => Ok(Some(false)),
        Some(_) => Err(settings.refuse(name, "must be true or false")),
    }
}

fn isolation(settings: &Settings<'_>) -> Result<Option<Isolation>> {
    let text = settings.text("isolationLevel")?.map(|text| text.to_ascii_lowercase().replace(' ', ""));
    Ok(match text.as_deref() {
        None => None,
        Some("snapshot") => Some(Isolation::Snapshot),
        Some("serializable") => Some(Isolation::Serializable),
        Some("repeatableread") => Some(Isolation::RepeatableRead),
        Some("readcommitted") => Some(Isolation::ReadCommitted),
        Some("readuncommitted") => Some(Isolation::ReadUncommitted),
        Some(_) => {
            let why = "must be Snapshot, Serializable, RepeatableRead, ReadCommitted or ReadUncommitted";
            return Err(settings.refuse("isolationLevel", why));
        }
    })
}

fn read_only(settings: &Settings<'_>) -> Result<bool> {
    match settings.text("applicationIntent")?.map(str::to_ascii_lowercase).as_deref() {
        None | Some("readwrite") => Ok(false),
        Some("readonly") => Ok(true),
        Some(_) => Err(settings.refuse("applicationIntent", "must be ReadWrite or ReadOnly")),
    }
}

const fn text(name: &'static str, aliases: &'static [&'static str], help: &'static str) -> SettingDescriptor {
    SettingDescriptor { name, aliases, kind: SettingKind::Text, required: false, bound: false, help }
}

const fn needed(name: &'static str, aliases: &'static [&'static str], help: &'static str) -> SettingDescriptor {
    SettingDescriptor { name, aliases, kind: SettingKind::Text, required: true, bound: true, help }
}

const fn number(
    name: &'static str,
    aliases: &'static [&'static str],
    bound: bool,
    help: &'static str,
) -> SettingDescriptor {
    SettingDescriptor { name, aliases, kind: SettingKind::Integer, required: false, bound, help }
}

const fn secret(name: &'static str, aliases: &'static [&'static str], help: &'static str) -> SettingDescriptor {
    SettingDescriptor { name, aliases, kind: SettingKind::Secret, required: false, bound: false, help }
}

/// What forms, connection strings and documents may say.
pub(super) const SETTINGS: &[SettingDescriptor] = &[
    needed(
        "host",
        &["server", "data source", "address", "addr", "network address"],
        "Host name or address; also host,port.",
    ),
    number("port", &[], true, "TCP port; 1433 if absent."),
    needed("database", &["initial catalog", "db"], "Database."),
    text("user", &["username", "user name", "uid", "user id"], "Log-in."),
    text("authenticationType", &[], "SQL (default), Windows (with user DOMAIN\\user and password) or AccessToken."),
    text("encrypt", &[], "mandatory (default), optional or strict."),
    text("trustServerCertificate", &[], "true to take any certificate; false if absent."),
    text("hostNameInCertificate", &[], "Name the server's certificate must have, where it is not the host's."),
    SettingDescriptor {
        name: "redirectHosts",
        aliases: &[],
        kind: SettingKind::Text,
        required: false,
        bound: true,
        help: "Other hosts the server may send the log-in on to: names, or *.domain; none if absent.",
    },
    text(
        "isolationLevel",
        &["isolation level"],
        "How a source reads: Snapshot (default where the database allows it), ReadCommitted, ...",
    ),
    text("applicationIntent", &["application intent"], "ReadWrite (default) or ReadOnly."),
    number("packetSize", &["packet size"], false, "Bytes of a network packet; the server's choice if absent."),
    number(
        "connectTimeoutSeconds",
        &["connect timeout", "connection timeout", "timeout"],
        false,
        "Seconds to wait for a connection; 15 if absent.",
    ),
    secret("password", &["pwd"], "Password of the log-in."),
    secret("accessToken", &["access token"], "Access token of Entra, in place of user and password."),
];

#[cfg(test)]
mod tests {
    use dmg_ambient::Ambient;
    use serde_json::json;

    use super::*;

    fn server(value: Value) -> Result<Arc<Server>> {
        with_secrets(value, &Secrets::none())
    }

    fn with_secrets(value: Value, secrets: &Secrets) -> Result<Arc<Server>> {
        let mut settings = json!({"database": "sales", "user": "etl"}).as_object().expect("an object").clone();
        settings.extend(value.as_object().expect("an object").clone());
        Server::new(&settings, secrets, Session::new(Ambient::test(1), "dmg/test"))
    }

    #[test]
    fn a_token_goes_only_over_what_is_encrypted() {
        let secret = |name: &str| [(name.to_owned(), Secret::from("t"))].into_iter().collect::<Secrets>();
        let by_token = |encrypt: &str| json!({"host": "db01", "authenticationType": "AccessToken", "encrypt": encrypt});
        for (encrypt, given, expected) in [
            ("mandatory", "accessToken", None),
            ("strict", "accessToken", None),
            ("optional", "accessToken", Some("encrypt")),
            ("mandatory", "password", Some("accessToken")),
        ] {
            let fault = with_secrets(by_token(encrypt), &secret(given)).err().map(|error| error.fault);
            let named = fault.as_ref().and_then(|fault| fault.context.get("setting")).map(String::as_str);
            assert_eq!(named, expected, "{encrypt} with {given}");
        }
    }

    #[test]
    fn an_account_of_windows_needs_a_name() {
        let password = [("password".to_owned(), Secret::from("p"))].into_iter().collect::<Secrets>();
        for (user, expected) in [
            ("CORP\\etl", Ok(("CORP", "etl"))),
            ("etl@corp.example", Ok(("", "etl@corp.example"))),
            ("", Err("UserErrorNotSupported")),
            ("CORP\\", Err("UserErrorSettings")),
        ] {
            let settings = json!({"host": "db01", "authenticationType": "windows", "user": user});
            let found = with_secrets(settings, &password);
            let found = match found.as_ref().map(|server| &server.login) {
                Ok(Login::Windows { account, .. }) => Ok((account.domain.as_str(), account.user.as_str())),
                Ok(_) => panic!("another log-in"),
                Err(error) => Err(error.fault.code.as_str()),
            };
            assert_eq!(found, expected, "{user}");
        }
    }

    #[test]
    fn addresses() {
        for (host, expected) in [
            ("db01", Some(("db01", 1433))),
            ("db01,1500", Some(("db01", 1500))),
            ("tcp:db01, 1500", Some(("db01", 1500))),
            ("db01\\sales,1500", Some(("db01", 1500))),
            (".", Some(("localhost", 1433))),
            ("(local)", Some(("localhost", 1433))),
            ("db01\\sales", None),
            ("db01,x", None),
            ("db01,0", None),
            ("np:\\\\db01\\pipe\\sql", None),
        ] {
            let found = server(json!({"host": host})).ok().map(|server| (server.host.clone(), server.port));
            assert_eq!(found, expected.map(|(host, port)| (host.to_owned(), port)), "{host}");
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        for (settings, expected) in [
            (json!({"host": "db01", "authenticationType": "Windows", "user": ""}), "UserErrorNotSupported"),
            (json!({"host": "db01", "authenticationType": "Integrated", "user": ""}), "UserErrorNotSupported"),
            (json!({"host": "db01", "authenticationType": "ServicePrincipal"}), "UserErrorNotSupported"),
            (json!({"host": "db01", "authenticationType": "SystemAssignedManagedIdentity"}), "UserErrorNotSupported"),
            (json!({"host": "db01", "authenticationType": "Kerberos"}), "UserErrorSettings"),
            (json!({"host": "db01", "encrypt": "maybe"}), "UserErrorSettings"),
            (json!({"host": "db01", "isolationLevel": "Chaos"}), "UserErrorSettings"),
            (json!({"host": "db01", "user": ""}), "UserErrorSettings"),
            (json!({"host": "db01", "trustServerCertificate": "perhaps"}), "UserErrorSettings"),
            (json!({"host": "db01", "noSuch": "x"}), "UserErrorSettings"),
        ] {
            let code = server(settings.clone()).err().map(|error| error.fault.code.clone());
            assert_eq!(code.as_deref(), Some(expected), "{settings}");
        }
    }
}
