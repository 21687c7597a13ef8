//! Store URIs of `dmg copy`: what a person types for a store, without any secret.

use dmg_protocol::Fault;
use dmg_protocol::catalog::{SettingKind, StoreDescriptor};
use dmg_protocol::job::{FormatSpec, ParquetCompression, ParquetFormat, StoreObject, StoreRef, TextFormat};
use serde_json::{Map, Value, json};

/// One end of a copy as typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Side {
    /// The URI.
    pub(crate) uri: String,
    /// `schema.table` or `table`.
    pub(crate) table: Option<String>,
    /// A query.
    pub(crate) query: Option<String>,
    /// `parquet`, `text`, `csv`, `tsv`.
    pub(crate) format: Option<String>,
    /// What stands between the values of a text file, where that is not what the format says.
    pub(crate) delimiter: Option<String>,
    /// `none`, `snappy`, `zstd`.
    pub(crate) compression: Option<String>,
    /// Another endpoint than the cloud's own: an emulator, a private endpoint.
    pub(crate) endpoint: Option<String>,
}

/// A parsed end.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) store: StoreRef,
    pub(crate) object: StoreObject,
    pub(crate) format: Option<FormatSpec>,
    /// Settings name the secret of this store goes by, given its text.
    pub(crate) secret: SecretName,
}

/// What a secret file holds for a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretName {
    /// The store needs none.
    None,
    /// A database password.
    Password,
    /// An access token, where the URI says that one logs in.
    Token,
    /// An account key, or a SAS token if it looks like one.
    KeyOrSas,
}

/// What a URI of a store begins with.
const SCHEMES: &[&str] =
    &["postgres", "postgresql", "mysql", "mariadb", "sqlserver", "mssql", "sqlite", "file", "azblob"];

/// The URI without what may be a secret: what stands before the host, save for the user's name, and the parameters.
fn shown(uri: &str) -> String {
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| SCHEMES.contains(scheme));
    // What is in no form of ours may hold a password anywhere; and one may hold anything, even what ends a host.
    let Some(scheme) = scheme.filter(|_| !uri.contains(';')) else {
        let word = uri.split([':', '/', '@', ';', '=']).next().filter(|word| *word == uri || uri.contains("://"));
        return word.map_or("…".to_owned(), |word| if word == uri { word.to_owned() } else { format!("{word}://…") });
    };
    let rest = &uri[scheme.len() + 1..];
    let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let user = user.map(|user| match user.split_once(':') {
        Some((name, _)) => format!("{name}:…@"),
        None => format!("{user}@"),
    });
    let (place, more) = rest.split_once('?').map_or((rest, ""), |(place, _)| (place, "?…"));
    format!("{scheme}:{}{place}{more}", user.unwrap_or_default())
}

fn refuse(uri: &str, why: &str) -> Fault {
    let uri = shown(uri);
    Fault::new("UserErrorSettings", format!("\"{uri}\" is no store that dmg copy knows: {why}.")).remedy(
        "Write postgres://, mysql:// or sqlserver://user@host:port/database, sqlite:FILE, file:PATH or \
             azblob://account/container/path.",
    )
}

/// Parses one end of a copy.
pub(crate) fn parse(side: &Side) -> Result<Parsed, Fault> {
    let uri = side.uri.as_str();
    let (scheme, rest) = uri.split_once(':').ok_or_else(|| refuse(uri, "it has no scheme"))?;
    match scheme {
        "postgres" | "postgresql" => database(side, "postgres", 5432),
        "mysql" | "mariadb" => database(side, "mysql", 3306),
        "sqlserver" | "mssql" => database(side, "sqlserver", 1433),
        "sqlite" => sqlite(side, rest),
        "file" => file(side, rest),
        "azblob" => azblob(side, rest),
        _ => Err(refuse(uri, "the scheme is unknown")),
    }
}

fn reference(store: &str, settings: Map<String, Value>) -> StoreRef {
    StoreRef {
        store: store.to_owned(),
        linked_service: None,
        settings,
        envelope: None,
        binding: std::collections::BTreeMap::new(),
    }
}

/// `scheme://user@host:port/database?setting=value`: the settings are those of the store's descriptor.
fn database(side: &Side, store: &str, port: u16) -> Result<Parsed, Fault> {
    let password = || Fault::new("UserErrorPasswordInUri", "The URI holds a password.");
    let scheme = side.uri.split(':').next().unwrap_or_default();
    let url = url::Url::parse(&side.uri).map_err(|error| refuse(&format!("{scheme}:…"), &error.to_string()))?;
    if url.password().is_some() {
        return Err(password());
    }
    let Some(descriptor) = dmg_gateway::worker::catalog().into_iter().find(|descriptor| descriptor.name == store)
    else {
        let message = format!("This build of dmg has no connector for {scheme}.");
        return Err(Fault::new("UserErrorNotSupported", message));
    };
    if url.host_str().is_some_and(|host| host.contains([';', '='])) {
        return Err(refuse(&side.uri, "its parameters stand behind a question mark, with & between them"));
    }
    let mut settings = Map::new();
    settings.insert("host".into(), json!(url.host_str().unwrap_or("localhost").trim_matches(['[', ']'])));
    settings.insert("port".into(), json!(url.port().unwrap_or(port)));
    let database = percent_decode(url.path().trim_start_matches('/'));
    if database.is_empty() {
        return Err(refuse(&side.uri, "the database is missing"));
    }
    settings.insert("database".into(), json!(database));
    if !url.username().is_empty() {
        settings.insert("user".into(), json!(percent_decode(url.username())));
    }
    let plain = |name: &str| name.replace(['_', ' ', '-'], "").to_lowercase();
    for (name, value) in url.query_pairs() {
        let wanted = plain(&name);
        let known = descriptor
            .settings
            .iter()
            .find(|setting| plain(setting.name) == wanted || setting.aliases.iter().any(|alias| plain(alias) == wanted))
            .or_else(|| {
                let seconds = format!("{wanted}seconds");
                descriptor.settings.iter().find(|setting| plain(setting.name) == seconds)
            });
        let Some(setting) = known else {
            return Err(unknown(&side.uri, &name, descriptor));
        };
        let unfit = |what: &str| {
            let message = format!("The parameter \"{name}\" of \"{}\" is not {what}.", shown(&side.uri));
            Fault::new("UserErrorSettings", message)
        };
        let value = match setting.kind {
            SettingKind::Secret => return Err(password()),
            SettingKind::Text => json!(value),
            SettingKind::Integer => json!(value.parse::<i64>().map_err(|_| unfit("a whole number"))?),
            SettingKind::Boolean => json!(value.parse::<bool>().map_err(|_| unfit("true or false"))?),
        };
        settings.insert(setting.name.to_owned(), value);
    }
    let kind = settings.get("authenticationType").and_then(Value::as_str).unwrap_or_default();
    let secret = if kind.eq_ignore_ascii_case("AccessToken") { SecretName::Token } else { SecretName::Password };
    Ok(Parsed { store: reference(store, settings), object: table_or_query(side)?, format: None, secret })
}

/// A parameter that the store does not have.
fn unknown(uri: &str, name: &str, descriptor: &StoreDescriptor) -> Fault {
    // What is no word may be a piece of a password.
    let word = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' '));
    let name = if word { name } else { "…" };
    let message = format!("\"{}\" has the unknown parameter \"{name}\".", shown(uri));
    let fault = Fault::new("UserErrorSettings", message);
    if matches!(name, "table" | "query") {
        return fault.remedy(format!("Give it right after the URI, as --{name}."));
    }
    let apart = ["host", "port", "database", "user"];
    let settings = descriptor.settings.iter().filter(|setting| setting.kind != SettingKind::Secret);
    let known: Vec<_> = settings.map(|setting| setting.name).filter(|name| !apart.contains(name)).collect();
    fault.remedy(format!("It knows {}.", known.join(", ")))
}

fn sqlite(side: &Side, rest: &str) -> Result<Parsed, Fault> {
    let path = absolute(rest, &side.uri)?;
    let settings = Map::from_iter([("path".to_owned(), json!(path))]);
    Ok(Parsed {
        store: reference("sqlite", settings),
        object: table_or_query(side)?,
        format: None,
        secret: SecretName::None,
    })
}

pub(crate) fn table_or_query(side: &Side) -> Result<StoreObject, Fault> {
    match (&side.table, &side.query) {
        (Some(_), Some(_)) => {
            Err(Fault::new("UserErrorSettings", "Both a table and a query are given.").remedy("Give one of them."))
        }
        (None, Some(query)) => Ok(StoreObject::Query { text: query.clone() }),
        (Some(table), None) => {
            let (schema, table) = match split_name(table) {
                Some((schema, table)) => (Some(schema), table),
                None => (None, unquote(table)),
            };
            Ok(StoreObject::Table { schema, table })
        }
        (None, None) => {
            Err(Fault::new("UserErrorSettings", format!("Nothing says which table of {} is meant.", side.uri))
                .remedy("Add --table NAME or --query SQL right after its URI."))
        }
    }
}

/// Splits `schema.table` at the first point outside of quotes.
fn split_name(name: &str) -> Option<(String, String)> {
    let mut quoted = false;
    for (at, c) in name.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => return Some((unquote(&name[..at]), unquote(&name[at + 1..]))),
            _ => {}
        }
    }
    None
}

fn unquote(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

fn absolute(path: &str, uri: &str) -> Result<String, Fault> {
    let path = path.strip_prefix("//").map_or(path, |rest| if rest.starts_with('/') { rest } else { path });
    if path.is_empty() {
        return Err(refuse(uri, "the path is missing"));
    }
    let absolute = std::path::absolute(path).map_err(|error| refuse(uri, &error.to_string()))?;
    let mut text = absolute.to_string_lossy().into_owned();
    if path.ends_with('/') && !text.ends_with('/') {
        text.push('/');
    }
    Ok(text)
}

fn file(side: &Side, rest: &str) -> Result<Parsed, Fault> {
    let path = absolute(rest, &side.uri)?;
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path.as_str()));
    let settings = Map::from_iter([("root".to_owned(), json!(if folder.is_empty() { "/" } else { folder }))]);
    let object = StoreObject::Files {
        folder: String::new(),
        file: (!name.is_empty()).then(|| name.to_owned()),
        recursive: false,
    };
    let format = format(side, name)?;
    Ok(Parsed { store: reference("file", settings), object, format: Some(format), secret: SecretName::None })
}

fn azblob(side: &Side, rest: &str) -> Result<Parsed, Fault> {
    let path = rest.strip_prefix("//").ok_or_else(|| refuse(&side.uri, "write azblob://account/container/path"))?;
    if path.contains(['?', '@']) {
        return Err(Fault::new("UserErrorPasswordInUri", "The URI seems to hold a SAS token or a key."));
    }
    let mut pieces = path.splitn(3, '/');
    let (account, container) = (pieces.next().unwrap_or(""), pieces.next().unwrap_or(""));
    let blob = percent_decode(pieces.next().unwrap_or(""));
    if account.is_empty() || container.is_empty() {
        return Err(refuse(&side.uri, "account or container is missing"));
    }
    let mut settings =
        Map::from_iter([("account".to_owned(), json!(account)), ("container".to_owned(), json!(container))]);
    if let Some(endpoint) = &side.endpoint {
        settings.insert("endpoint".into(), json!(endpoint));
    }
    let (folder, name) = blob.rsplit_once('/').unwrap_or(("", blob.as_str()));
    let object = StoreObject::Files {
        folder: folder.to_owned(),
        file: (!name.is_empty()).then(|| name.to_owned()),
        recursive: false,
    };
    let format = format(side, name)?;
    Ok(Parsed { store: reference("azblob", settings), object, format: Some(format), secret: SecretName::KeyOrSas })
}

/// The format by `--format`, else by the file name's ending.
fn format(side: &Side, name: &str) -> Result<FormatSpec, Fault> {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    let named = side.format.as_deref().or(ending.as_deref()).unwrap_or("");
    if let (true, Some(_)) = (named == "parquet", &side.delimiter) {
        let message = format!("A delimiter belongs to a text file; \"{}\" is a Parquet file.", side.uri);
        return Err(Fault::new("UserErrorSettings", message).remedy("Leave --delimiter out."));
    }
    let mut spec = match named {
        "parquet" => {
            let compression = match side.compression.as_deref() {
                None | Some("snappy") => ParquetCompression::Snappy,
                Some("zstd") => ParquetCompression::Zstd,
                Some("none") => ParquetCompression::None,
                Some(other) => {
                    let message = format!("Parquet compression \"{other}\" is not known.");
                    return Err(Fault::new("UserErrorSettings", message).remedy("Use none, snappy or zstd."));
                }
            };
            return Ok(FormatSpec::Parquet(ParquetFormat { compression }));
        }
        "csv" | "txt" | "text" => TextFormat::lossless(),
        "tsv" | "tab" => TextFormat { column_delimiter: "\t".into(), ..TextFormat::lossless() },
        _ => {
            let message = format!("The format of \"{}\" cannot be told from its name.", side.uri);
            return Err(
                Fault::new("UserErrorSettings", message).remedy("Add --format parquet or --format text after it.")
            );
        }
    };
    if let Some(delimiter) = &side.delimiter {
        spec.column_delimiter = delimiter_of(delimiter)?;
    }
    if side.compression.is_some() {
        let message = "Compressed text files are not supported yet.";
        return Err(Fault::new("UserErrorNotSupported", message));
    }
    Ok(FormatSpec::Text(spec))
}

/// One character that can stand between values; `tab` is one too.
fn delimiter_of(text: &str) -> Result<String, Fault> {
    let text = if matches!(text, "tab" | "\\t") { "\t" } else { text };
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(c), None) if !matches!(c, '"' | '\r' | '\n') => Ok(c.to_string()),
        _ => {
            let message = format!("\"{text}\" cannot stand between values.");
            Err(Fault::new("UserErrorSettings", message).remedy("Give one character, such as ; or |, or the word tab."))
        }
    }
}

fn percent_decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(uri: &str) -> Side {
        Side { uri: uri.into(), table: Some("s.t".into()), ..Side::default() }
    }

    #[test]
    fn stores() {
        let parsed = parse(&side("postgres://etl@db01:6432/sales?sslmode=require")).expect("valid");
        assert_eq!(
            serde_json::to_string(&parsed.store.settings).expect("json"),
            r#"{"host":"db01","port":6432,"database":"sales","user":"etl","sslMode":"require"}"#
        );
        assert_eq!(parsed.object, StoreObject::Table { schema: Some("s".into()), table: "t".into() });
        let parsed = parse(&side("file:/data/out/x.parquet")).expect("valid");
        assert_eq!(parsed.store.settings["root"], "/data/out");
        let parsed = parse(&side("azblob://acme/raw/2026/x.csv")).expect("valid");
        assert!(matches!(parsed.object, StoreObject::Files { ref folder, .. } if folder == "2026"));
    }

    #[test]
    fn delimiters() {
        for (given, expected) in
            [(";", Some(";")), ("tab", Some("\t")), ("|", Some("|")), ("\"", None), ("ab", None), ("", None)]
        {
            assert_eq!(delimiter_of(given).ok().as_deref(), expected, "{given}");
        }
        let side = |uri: &str| Side { uri: uri.into(), delimiter: Some(";".into()), ..Side::default() };
        let format = parse(&side("file:/data/x.csv")).expect("valid").format;
        assert!(matches!(format, Some(FormatSpec::Text(text)) if text.column_delimiter == ";"));
        assert_eq!(parse(&side("file:/data/x.parquet")).expect_err("no text").code, "UserErrorSettings");
    }

    #[test]
    fn passwords_are_not_shown() {
        for uri in [
            "oracle://etl:hush@db01/sales",
            "postgres://etl@db01/sales?pwd=hush",
            "postgres://etl@db01?token=hush",
            "azblobs://acme/raw/x.csv?sig=hush",
            "postgres://etl:hu/sh@db01/sales",
            "postgres://etl:hu?sh@db01/sales",
            "etl:hush@db01/sales",
            "Server=tcp:db01,1433;User=etl;Password=hush",
            "Server=db01;User=etl;Password=hush",
            "jdbc:sqlserver://db01;user=etl;password=hush",
            "sqlserver://db01;user=etl;password=hush",
            "sqlserver://db01;user=etl;password=hush/sales",
            "postgres://etl:1/2?hush@db01",
        ] {
            let fault = parse(&side(uri)).expect_err(uri);
            let told = format!("{} {}", fault.message, fault.remedy);
            assert!(!told.contains("hu") && !told.contains("sh@"), "{uri}: {told}");
        }
        let told = parse(&side("postgres://etl@db01/sales?table=t")).expect_err("unknown").remedy;
        assert_eq!(told, "Give it right after the URI, as --table.");
    }

    #[test]
    fn passwords_are_refused() {
        for uri in ["postgres://u:p@h/db", "postgres://u@h/db?password=p", "azblob://a/c/x.csv?sv=1&sig=2"] {
            assert_eq!(parse(&side(uri)).expect_err(uri).code, "UserErrorPasswordInUri", "{uri}");
        }
    }

    #[test]
    fn quoted_names() {
        for (text, expected) in [
            ("t", (None, "t")),
            ("s.t", (Some("s"), "t")),
            ("\"a.b\"", (None, "a.b")),
            ("\"a.b\".\"c\"\"d\"", (Some("a.b"), "c\"d")),
        ] {
            let object = table_or_query(&Side { table: Some(text.into()), ..Side::default() }).expect("a table");
            let (schema, table) = expected;
            assert_eq!(object, StoreObject::Table { schema: schema.map(str::to_owned), table: table.into() }, "{text}");
        }
    }
}
