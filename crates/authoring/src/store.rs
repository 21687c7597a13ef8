//! From the members of a linked service to the settings of a connector, one function per connector. Says what a
//! connector cannot do; never looks at a secret.

use std::collections::BTreeMap;

use dmg_protocol::{Fault, MASK};
use serde_json::{Map, Value, json};

use crate::connection_string::{self, plain};
use crate::member::{get, type_of};
use crate::secrets::secret_text;

/// Members of a linked service and the parts of its connection string by plain name. Masks are left out.
#[derive(Debug, Default)]
pub(crate) struct Members(BTreeMap<String, Value>);

impl Members {
    /// Collects `typeProperties`. Parts of the connection string stand behind members of their own.
    pub(crate) fn of(type_properties: &Value) -> Self {
        let mut members = BTreeMap::new();
        let connection = get(type_properties, "connectionString");
        let connection = connection.and_then(|value| secret_text(value).or_else(|| value.as_str()));
        for part in connection_string::parse(connection.unwrap_or_default()) {
            if part.value != MASK {
                members.insert(part.plain_name(), Value::String(part.value));
            }
        }
        for (name, value) in type_properties.as_object().into_iter().flatten() {
            let value = match value {
                Value::Object(_) => match secret_text(value) {
                    // It becomes an address below, without its query. Any other secret would only end up in a message.
                    Some(text) if plain(name) == "sasuri" => json!(text),
                    Some(_) => continue,
                    None if type_of(value).eq_ignore_ascii_case("Expression") => {
                        get(value, "value").cloned().unwrap_or_default()
                    }
                    None => continue,
                },
                other => other.clone(),
            };
            if !value.is_null() && value != MASK && plain(name) != "connectionstring" {
                members.insert(plain(name), value);
            }
        }
        Members(members)
    }

    /// The first of these that is there, as a value.
    fn value(&self, names: &[&str]) -> Option<&Value> {
        names.iter().find_map(|name| self.0.get(*name))
    }

    /// The first of these that is there and not empty, as text.
    pub(crate) fn text(&self, names: &[&str]) -> Option<String> {
        let text = match self.value(names)? {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        (!text.is_empty()).then_some(text)
    }
}

/// Where the store is, and how it proves to be it: the bound settings, as far as the members say. Never fails, so that every linked service has
/// a binding.
pub(crate) fn target(connector: Option<&str>, members: &Members) -> Map<String, Value> {
    let mut found = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            found.insert(name.to_owned(), Value::String(value));
        }
    };
    match connector {
        Some("postgres") => {
            put("host", members.text(POSTGRES_HOST));
            put("port", members.text(&["port"]));
            put("database", members.text(POSTGRES_DATABASE));
            put("sslMode", postgres_ssl_mode("", members).ok().flatten().map(str::to_owned));
        }
        Some("mysql") => {
            put("host", members.text(POSTGRES_HOST));
            put("port", members.text(&["port"]));
            put("database", members.text(POSTGRES_DATABASE));
            put("sslMode", mysql_ssl_mode("", members).ok().flatten().map(str::to_owned));
        }
        Some("sqlserver") => {
            put("host", members.text(SQL_SERVER_HOST));
            put("port", members.text(&["port"]));
            put("database", members.text(SQL_SERVER_DATABASE));
            put("redirectHosts", members.text(&["redirecthosts"]));
            put("encrypt", Some(sql_server_encrypt(members)));
            put("trustServerCertificate", members.text(&["trustservercertificate"]));
            put("hostNameInCertificate", members.text(&["hostnameincertificate"]));
        }
        Some("sqlite") => put("path", members.text(SQLITE_PATH)),
        Some("file") => put("root", members.text(&["host"]).map(file_root)),
        Some("azblob") => {
            let place = BlobPlace::of(members);
            put("account", place.account);
            put("endpoint", place.endpoint);
        }
        _ => {
            put("server", members.text(&["server", "datasource", "address", "servernode", "dbcname"]));
            put("host", members.text(&["host"]));
            put("port", members.text(&["port", "portnumber"]));
            put("database", members.text(&["database", "initialcatalog", "databasename"]));
            put("url", members.text(&["url", "baseurl", "serviceurl", "datalakestoreuri", "environmenturl"]));
            put("account", members.text(&["accountname", "accountendpoint"]));
            put("endpoint", members.text(&["serviceendpoint", "sasuri", "blobendpoint", "endpoint"]));
        }
    }
    found
}

/// All settings of the connector.
pub(crate) fn settings(connector: &str, name: &str, members: &Members) -> Result<Map<String, Value>, Fault> {
    let mut settings = target(Some(connector), members);
    match connector {
        "postgres" => postgres(name, members, &mut settings)?,
        "mysql" => mysql(name, members, &mut settings)?,
        "sqlite" => need(name, &settings, "path", "path")?,
        "sqlserver" => sql_server(name, members, &mut settings)?,
        "file" => file(name, members, &settings)?,
        "azblob" => azure_blob(name, members, &mut settings)?,
        other => return Err(unsupported(format!("No connector serves the store \"{other}\" of \"{name}\"."))),
    }
    Ok(settings)
}

fn unsupported(message: String) -> Fault {
    Fault::new("UserErrorNotSupported", message)
}

fn need(name: &str, settings: &Map<String, Value>, setting: &str, member: &str) -> Result<(), Fault> {
    if settings.contains_key(setting) {
        return Ok(());
    }
    Err(Fault::new("UserErrorSettings", format!("The linked service \"{name}\" does not say its {member}.")))
}

const POSTGRES_HOST: &[&str] = &["server", "host", "datasource"];
const POSTGRES_DATABASE: &[&str] = &["database", "initialcatalog", "db"];
const POSTGRES_USER: &[&str] = &["username", "userid", "uid", "user"];
const SQLITE_PATH: &[&str] = &["path", "datasource", "database", "filename"];

/// The names of `sslMode`, in the order of their numbers in version 2.
const SSL_MODES: &[(&str, &str)] = &[
    ("disable", "disable"),
    ("allow", "prefer"),
    ("prefer", "prefer"),
    ("require", "require"),
    ("verifyca", "verify-ca"),
    ("verifyfull", "verify-full"),
];

/// What PostgreSQL and MySQL have in common: a place, and a log-in by user name and password, never by `certificate`.
fn server(name: &str, members: &Members, certificate: &[&str], settings: &mut Map<String, Value>) -> Result<(), Fault> {
    need(name, settings, "host", "server")?;
    need(name, settings, "database", "database")?;
    port(name, settings)?;
    if let Some(kind) = members.text(&["authenticationtype"])
        && !["basic", "anonymous"].contains(&kind.to_lowercase().as_str())
    {
        return Err(unsupported(format!(
            "The linked service \"{name}\" logs in by {kind}; only user name and password are supported."
        )));
    }
    if certificate.iter().any(|refused| members.text(&[refused]).is_some()) {
        return Err(unsupported(format!(
            "The linked service \"{name}\" logs in with a client certificate, which is not supported yet."
        )));
    }
    Ok(())
}

fn postgres(name: &str, members: &Members, settings: &mut Map<String, Value>) -> Result<(), Fault> {
    server(name, members, &["sslcertificate", "sslkey", "sslpassword", "sslcert"], settings)?;
    if let Some(mode) = postgres_ssl_mode(name, members)? {
        settings.insert("sslMode".to_owned(), json!(mode));
    }
    user_and_timeout(name, members, settings)
}

/// The port as a number.
fn port(name: &str, settings: &mut Map<String, Value>) -> Result<(), Fault> {
    if let Some(port) = settings.get("port").and_then(Value::as_str) {
        let port: u16 = port.parse().map_err(|_| {
            Fault::new(
                "UserErrorSettings",
                format!("The port \"{port}\" of linked service \"{name}\" is not a number up to 65535."),
            )
        })?;
        settings.insert("port".to_owned(), json!(port));
    }
    Ok(())
}

fn user_and_timeout(name: &str, members: &Members, settings: &mut Map<String, Value>) -> Result<(), Fault> {
    if let Some(user) = members.text(POSTGRES_USER) {
        settings.insert("user".to_owned(), json!(user));
    }
    if let Some(seconds) = members.text(&["connectiontimeout", "connecttimeout", "timeout"]) {
        let seconds: u32 = seconds.parse().map_err(|_| {
            let message = format!(
                "The connection timeout \"{seconds}\" of linked service \"{name}\" is not a number of seconds."
            );
            Fault::new("UserErrorSettings", message)
        })?;
        // 0 means no limit there; here every wait has one, so it falls back to the default.
        if seconds > 0 {
            settings.insert("connectTimeoutSeconds".to_owned(), json!(seconds));
        }
    }
    need(name, settings, "user", "user name")
}

/// The names of MySQL's `sslMode`, in the order of their numbers in version 2.
const MYSQL_SSL_MODES: &[(&str, &str)] = &[
    ("disabled", "disable"),
    ("preferred", "prefer"),
    ("required", "require"),
    ("verifyca", "verify-ca"),
    ("verifyidentity", "verify-full"),
    ("none", "disable"),
    ("disable", "disable"),
    ("prefer", "prefer"),
    ("require", "require"),
    ("verifyfull", "verify-full"),
];

fn mysql(name: &str, members: &Members, settings: &mut Map<String, Value>) -> Result<(), Fault> {
    server(name, members, &["sslcert", "sslkey"], settings)?;
    let is_true = |member: &str| members.text(&[member]).is_some_and(|value| ["true", "1"].contains(&value.as_str()));
    if is_true("convertzerodatetime") {
        let message = format!("The linked service \"{name}\" asks to turn zero dates into the first day of year 1.");
        return Err(unsupported(message).remedy("Use allowZeroDateTime, which reads dates as the server's text."));
    }
    if is_true("allowzerodatetime") {
        settings.insert("zeroDates".to_owned(), json!("text"));
    }
    if let Some(mode) = mysql_ssl_mode(name, members)? {
        settings.insert("sslMode".to_owned(), json!(mode));
    }
    user_and_timeout(name, members, settings)
}

fn mysql_ssl_mode(name: &str, members: &Members) -> Result<Option<&'static str>, Fault> {
    let Some(mode) = members.text(&["sslmode"]) else { return Ok(None) };
    let wanted = plain(&mode).replace('-', "");
    let by_number = wanted.parse::<usize>().ok().filter(|number| *number < 5).map(|number| MYSQL_SSL_MODES[number]);
    let found = by_number.or_else(|| MYSQL_SSL_MODES.iter().find(|(known, _)| *known == wanted).copied());
    found.map(|(_, mode)| Some(mode)).ok_or_else(|| {
        let message = format!("The sslMode \"{mode}\" of linked service \"{name}\" is not known.");
        Fault::new("UserErrorSettings", message)
            .remedy("Use 0 to 4 or DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY.")
    })
}

fn postgres_ssl_mode(name: &str, members: &Members) -> Result<Option<&'static str>, Fault> {
    if let Some(mode) = members.text(&["sslmode"]) {
        let wanted = plain(&mode).replace('-', "");
        let by_number = wanted.parse::<usize>().ok().and_then(|number| SSL_MODES.get(number));
        let found = by_number.or_else(|| SSL_MODES.iter().find(|(known, _)| *known == wanted));
        return found.map(|(_, mode)| Some(*mode)).ok_or_else(|| {
            let message = format!("The sslMode \"{mode}\" of linked service \"{name}\" is not known.");
            Fault::new("UserErrorSettings", message)
                .remedy("Use 0 to 5 or disable, prefer, require, verify-ca, verify-full.")
        });
    }
    // The older driver's words.
    let Some(method) = members.text(&["encryptionmethod"]) else { return Ok(None) };
    let validate = members.text(&["validateservercertificate"]).is_none_or(|value| value != "0");
    match (method.as_str(), validate) {
        ("0", _) => Ok(Some("disable")),
        ("1", true) => Ok(Some("verify-full")),
        ("1", false) => Ok(Some("require")),
        ("6", _) => Ok(Some("prefer")),
        _ => {
            let message = format!("The EncryptionMethod \"{method}\" of linked service \"{name}\" is not known.");
            Err(Fault::new("UserErrorSettings", message).remedy("Use 0, 1 or 6."))
        }
    }
}

const SQL_SERVER_HOST: &[&str] = &["server", "datasource", "address", "addr", "networkaddress", "host"];
const SQL_SERVER_DATABASE: &[&str] = &["database", "initialcatalog"];

/// Members that are settings under their own name, and that name.
const SQL_SERVER_PLAIN: &[(&[&str], &str)] = &[
    (&["username", "userid", "uid", "user"], "user"),
    (&["trustservercertificate"], "trustServerCertificate"),
    (&["hostnameincertificate"], "hostNameInCertificate"),
    (&["applicationintent"], "applicationIntent"),
    (&["packetsize"], "packetSize"),
    (&["connecttimeout", "connectiontimeout", "timeout"], "connectTimeoutSeconds"),
];

fn sql_server(name: &str, members: &Members, settings: &mut Map<String, Value>) -> Result<(), Fault> {
    need(name, settings, "host", "server")?;
    need(name, settings, "database", "database")?;
    let kind = members.text(&["authenticationtype"]);
    let integrated = members.text(&["integratedsecurity", "trustedconnection"]).map(|value| value.to_lowercase());
    let windows = kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("Windows"))
        || integrated.as_deref().is_some_and(|value| ["true", "yes", "sspi"].contains(&value));
    let identity = ["serviceprincipalid", "tenant", "authentication"].iter().any(|m| members.text(&[m]).is_some());
    let token = kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("AccessToken"));
    let known = |kind: &str| ["sql", "basic", "windows", "accesstoken"].contains(&kind.to_lowercase().as_str());
    if identity || kind.as_deref().is_some_and(|kind| !known(kind)) {
        return Err(unsupported(format!(
            "The linked service \"{name}\" logs in with an identity of the cloud, for which this gateway fetches no token."
        ))
        .remedy(
            "Use a log-in of the server (authenticationType SQL with user name and password), or fetch the token yourself \
             and give it as accessToken with authenticationType AccessToken.",
        ));
    }
    if members.text(&["columnencryptionsetting"]).is_some_and(|value| value.eq_ignore_ascii_case("enabled")) {
        return Err(unsupported(format!("The linked service \"{name}\" asks for Always Encrypted.")));
    }
    for (names, setting) in SQL_SERVER_PLAIN {
        // 0 means no limit there; here every wait has one, so it falls back to the default.
        if let Some(value) = members.text(names).filter(|value| *setting != "connectTimeoutSeconds" || value != "0") {
            settings.insert((*setting).to_owned(), json!(value));
        }
    }
    settings.insert("encrypt".to_owned(), json!(sql_server_encrypt(members)));
    if windows {
        settings.insert("authenticationType".to_owned(), json!("Windows"));
        let named = settings.contains_key("user") || members.text(&["encryptedcredential"]).is_some();
        let message = format!(
            "The linked service \"{name}\" logs in to SQL Server as the account of Windows the gateway runs under."
        );
        let remedy = "Add an account of its own: userName DOMAIN\\user (or user@domain.example) and password.";
        return if named { Ok(()) } else { Err(unsupported(message).remedy(remedy)) };
    }
    if token {
        settings.insert("authenticationType".to_owned(), json!("AccessToken"));
        return Ok(());
    }
    // Documents of the original carry the user inside their own encrypted credential; they are kept as they are.
    if members.text(&["encryptedcredential"]).is_some() {
        return Ok(());
    }
    need(name, settings, "user", "user name")
}

/// A connection string of old encrypts only if it says so; the members of today encrypt unless they say otherwise.
fn sql_server_encrypt(members: &Members) -> String {
    let usual = if members.text(&["authenticationtype"]).is_some() { "mandatory" } else { "optional" };
    members.text(&["encrypt"]).map_or(usual.to_owned(), |value| value.to_lowercase())
}

/// `localhost` is the whole machine, as gateways before 2.0 had it.
fn file_root(host: String) -> String {
    if host.eq_ignore_ascii_case("localhost") { "/".to_owned() } else { host }
}

fn file(name: &str, members: &Members, settings: &Map<String, Value>) -> Result<(), Fault> {
    need(name, settings, "root", "host")?;
    let root = settings.get("root").and_then(Value::as_str).unwrap_or_default();
    if root.starts_with("\\\\") || root.starts_with("//") {
        let message = format!(
            "The linked service \"{name}\" names the network share {root}, which the gateway cannot open itself."
        );
        return Err(unsupported(message)
            .remedy("Mount the share on the gateway's machine and name the folder it is mounted at as host."));
    }
    if members.text(&["userid", "username", "user"]).is_some() {
        let message = format!("The linked service \"{name}\" logs in to a file server, which is not supported.");
        return Err(unsupported(message).remedy(
            "Mount the share on the gateway's machine, name that folder as host, and leave userId and password out.",
        ));
    }
    Ok(())
}

/// Account, endpoint and container of a blob store.
#[derive(Debug, Default)]
struct BlobPlace {
    account: Option<String>,
    endpoint: Option<String>,
    container: Option<String>,
}

impl BlobPlace {
    fn of(members: &Members) -> Self {
        let address = members.text(&["sasuri", "serviceendpoint", "blobendpoint"]);
        let mut place = address.as_deref().map(Self::of_address).unwrap_or_default();
        if let Some(account) = members.text(&["accountname", "account"]) {
            place.account = Some(account);
        }
        let suffix = members.text(&["endpointsuffix"]);
        let protocol = members.text(&["defaultendpointsprotocol"]);
        let standard =
            |text: &Option<String>, usual: &str| text.as_deref().is_none_or(|text| text.eq_ignore_ascii_case(usual));
        if address.is_none()
            && let Some(account) = &place.account
            && !(standard(&suffix, DEFAULT_SUFFIX) && standard(&protocol, "https"))
        {
            let (protocol, suffix) =
                (protocol.unwrap_or("https".to_owned()), suffix.unwrap_or(DEFAULT_SUFFIX.to_owned()));
            place.endpoint = Some(format!("{protocol}://{account}.blob.{suffix}"));
        }
        place
    }

    /// `https://account.blob.core.windows.net/container`, or with the account as first folder for an address whose
    /// host is a number or `localhost`.
    fn of_address(address: &str) -> Self {
        let address = address.split('?').next().unwrap_or_default().trim_end_matches('/');
        let Some((protocol, rest)) = address.split_once("://") else { return Self::default() };
        let mut segments = rest.split('/');
        let authority = segments.next().unwrap_or_default();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let by_path = host.eq_ignore_ascii_case("localhost")
            || host.starts_with('[')
            || host.chars().all(|c| c.is_ascii_digit() || c == '.');
        let account = if by_path { segments.next() } else { host.split('.').next() };
        let account = account.filter(|account| !account.is_empty()).map(str::to_owned);
        let endpoint = match (&account, by_path) {
            (Some(account), true) => Some(format!("{protocol}://{authority}/{account}")),
            (Some(account), false) if address_is_default(protocol, authority, account) => None,
            _ => Some(format!("{protocol}://{authority}")),
        };
        let container = segments.next().filter(|segment| !segment.is_empty()).map(str::to_owned);
        BlobPlace { account, endpoint, container }
    }
}

const DEFAULT_SUFFIX: &str = "core.windows.net";

fn address_is_default(protocol: &str, authority: &str, account: &str) -> bool {
    protocol.eq_ignore_ascii_case("https")
        && authority.eq_ignore_ascii_case(&format!("{account}.blob.{DEFAULT_SUFFIX}"))
}

fn azure_blob(name: &str, members: &Members, settings: &mut Map<String, Value>) -> Result<(), Fault> {
    if members.text(&["usedevelopmentstorage"]).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(unsupported(format!("The linked service \"{name}\" uses the shortcut UseDevelopmentStorage."))
            .remedy("Write out AccountName, AccountKey and BlobEndpoint of the emulator."));
    }
    if members.text(&["containeruri"]).is_some() {
        return Err(unsupported(format!(
            "The linked service \"{name}\" reads a public container, which is not supported yet."
        )));
    }
    let identity = ["serviceprincipalid", "tenant"].iter().any(|member| members.text(&[member]).is_some());
    let kind = members.text(&["authenticationtype"]).map(|kind| kind.to_lowercase());
    if identity || kind.as_deref().is_some_and(|kind| !["accountkey", "sasuri"].contains(&kind)) {
        return Err(unsupported(format!(
            "The linked service \"{name}\" logs in with an identity of the cloud; only account key and SAS are supported."
        )));
    }
    need(name, settings, "account", "account name")?;
    if let Some(container) = BlobPlace::of(members).container {
        settings.insert("container".to_owned(), json!(container));
    }
    Ok(())
}
