//! Secrets in linked service documents: taken out at the door, replaced by the mask, carried as one envelope. What
//! is stored, shown and bound afterwards holds no secret text. Sealing itself is done elsewhere.

use dmg_protocol::{Fault, MASK, Secret, Secrets};
use serde_json::{Map, Value};

use crate::connection_string::{self, plain};
use crate::linked_service::seal_binding;
use crate::member::{get, get_mut, spelled, text, type_of};
use crate::{Dialect, types};

/// Members that hold a secret even where they come as plain text, without case, blanks and `_`.
const SECRET_MEMBERS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "accesstokensecret",
    "accountkey",
    "apikey",
    "apitoken",
    "authorization",
    "authorizedcredential",
    "catalogadminpassword",
    "clientkey",
    "clientsecret",
    "clusterpassword",
    "clustersshpassword",
    "consumerkey",
    "consumersecret",
    "credential",
    "developertoken",
    "embeddedcertdata",
    "functionkey",
    "key",
    "keyfilecontent",
    "licensekey",
    "mwsauthtoken",
    "packagepassword",
    "passphrase",
    "password",
    "pfx",
    "privatekey",
    "privatekeycontent",
    "privatekeypassphrase",
    "pwd",
    "refreshtoken",
    "sastoken",
    "secretaccesskey",
    "secretkey",
    "securitytoken",
    "serviceprincipalcredential",
    "serviceprincipalembeddedcert",
    "serviceprincipalembeddedcertpassword",
    "serviceprincipalkey",
    "sessionid",
    "sessiontoken",
    "sslkey",
    "sslpassword",
    "usertoken",
];

/// Parts of connection strings that hold a secret, spelled the same way.
const SECRET_PARTS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "accountkey",
    "apikey",
    "clientsecret",
    "clustersecret",
    "credential",
    "key",
    "keystorepassword",
    "passphrase",
    "password",
    "privatekey",
    "pwd",
    "refreshtoken",
    "secret",
    "secretkey",
    "serviceprincipalkey",
    "sharedaccesskey",
    "sharedaccesssignature",
    "sslkey",
    "sslpassword",
    "token",
    "truststorepassword",
];

/// A linked service taken apart.
#[derive(Debug)]
pub struct SplitLinkedService {
    /// The document as sent, with [`MASK`] where secrets were. Safe to store.
    pub document_without_secrets: Value,
    /// The secrets by settings name. Empty where the document brought none.
    pub secrets: Secrets,
    /// Secrets that came as the mask and so mean "unchanged". Empty where the document brings an envelope.
    pub masked: Vec<String>,
    /// The envelope the document brought, if it brought no secret in clear.
    pub envelope: Option<String>,
}

/// Whether a member of that name holds a secret even where it comes as plain text.
pub(crate) fn is_secret_member(name: &str) -> bool {
    SECRET_MEMBERS.contains(&plain(name).as_str())
}

/// What to do with a secret text that was found.
enum Action {
    Keep,
    Replace(String),
    Remove,
}

/// Takes the secrets out of a linked service. A document with some secrets in clear and others masked is refused:
/// one envelope holds all of them, and only the gateway could open the old one.
pub fn split_secrets(dialect: Dialect, document: &Value) -> Result<SplitLinkedService, Fault> {
    let mut stripped = document.clone();
    let mut secrets = Secrets::none();
    let mut masked = Vec::new();
    visit(dialect, &mut stripped, &mut |name, value| {
        if value == MASK {
            masked.push(name.to_owned());
            return Action::Keep;
        }
        secrets.insert(name, Secret::from(value));
        Action::Replace(MASK.to_owned())
    });
    let envelope = envelope_of(dialect, document);
    if !secrets.is_empty() {
        if !masked.is_empty() {
            let names = masked.join(", ");
            let message = format!("Some secrets of the linked service are new, others are masked: {names}.");
            return Err(Fault::new("UserErrorDocument", message)
                .remedy("Send all secrets of a linked service together, or all of them masked."));
        }
        // The old envelope held what is replaced now.
        remove_envelope(&mut stripped);
        return Ok(SplitLinkedService { document_without_secrets: stripped, secrets, masked, envelope: None });
    }
    if envelope.is_some() {
        // The envelope holds the secrets; only a target that came masked must still be looked up.
        masked.retain(|name| matches!(name.as_str(), "connectionString" | "sasUri"));
    }
    Ok(SplitLinkedService { document_without_secrets: stripped, secrets, masked, envelope })
}

/// What a document that came with masks means: the stored one's secrets, in the new document. Refused where the
/// bound target is another, or nothing is stored under that name.
pub fn unchanged(
    dialect: Dialect,
    name: &str,
    factory_id: &str,
    sent: &Value,
    stored: Option<&Value>,
) -> Result<Value, Fault> {
    let refuse = |message: String| {
        Fault::new("UserErrorDocument", message).remedy("Enter the secret itself in place of the mask.")
    };
    let Some(stored) = stored else {
        return Err(refuse(format!("The linked service \"{name}\" came with a masked secret, but none is stored.")));
    };
    let Some(envelope) = envelope_of(dialect, stored) else {
        return Err(refuse(format!("The linked service \"{name}\" came with a masked secret, but none is stored.")));
    };
    let mut filled = sent.clone();
    fill_connection_string(&mut filled, stored);
    let (before, after) =
        (seal_binding(dialect, name, factory_id, stored)?, seal_binding(dialect, name, factory_id, &filled)?);
    if before != after {
        let names = after
            .iter()
            .filter(|(key, value)| before.get(*key) != Some(value))
            .map(|(key, _)| key.as_str())
            .chain(before.keys().filter(|key| !after.contains_key(*key)).map(String::as_str))
            .collect::<Vec<_>>()
            .join(", ");
        let message = format!(
            "The linked service \"{name}\" names another target than before ({names}), so its stored secret is not used."
        );
        return Err(
            Fault::new("UserErrorCredentialBound", message).remedy("Enter the secret again for the new target.")
        );
    }
    Ok(with_envelope(dialect, &filled, &envelope))
}

/// A connection string that came masked as a whole is the stored one.
fn fill_connection_string(sent: &mut Value, stored: &Value) {
    for member in ["connectionString", "sasUri"] {
        let Some(before) = get(crate::member::type_properties(stored), member) else { continue };
        let Some(place) = type_properties_mut(sent).and_then(|inner| get_mut(inner, member)) else { continue };
        let came_masked = secret_text(place) == Some(MASK) || place.as_str() == Some(MASK);
        if came_masked {
            *place = before.clone();
        }
    }
}

/// The document with an envelope: for version 1 inside a plain `connectionString` where there is one, else as
/// `typeProperties.encryptedCredential`. An older envelope is replaced.
pub fn with_envelope(dialect: Dialect, document: &Value, envelope: &str) -> Value {
    let mut sealed = document.clone();
    remove_envelope(&mut sealed);
    let Some(inner) = type_properties_mut(&mut sealed) else { return sealed };
    if dialect == Dialect::V1
        && let Some(Value::String(text)) = get_mut(inner, "connectionString")
    {
        let separator = if text.is_empty() || text.ends_with(';') { "" } else { ";" };
        text.push_str(&format!("{separator}EncryptedCredential={envelope}"));
        return sealed;
    }
    if let Some(members) = inner.as_object_mut() {
        members.insert("encryptedCredential".to_owned(), Value::String(envelope.to_owned()));
    }
    sealed
}

/// The document as answers show it: every secret text is the mask, of a connection string only the secret part.
pub fn masked(dialect: Dialect, document: &Value) -> Value {
    let mut shown = document.clone();
    visit(dialect, &mut shown, &mut |_, _| Action::Replace(MASK.to_owned()));
    shown
}

/// The document without its masked secrets, for files: what remains is meant to be sent again with its envelope.
pub fn without_masks(dialect: Dialect, document: &Value) -> Value {
    let mut clean = document.clone();
    visit(dialect, &mut clean, &mut |_, value| if value == MASK { Action::Remove } else { Action::Keep });
    clean
}

/// The envelope in a document.
pub(crate) fn envelope_of(_dialect: Dialect, document: &Value) -> Option<String> {
    let inner = crate::member::type_properties(document);
    let direct = text(inner, "encryptedCredential").map(str::to_owned);
    let in_string = || {
        let connection = get(inner, "connectionString")?;
        let text = secret_text(connection).or_else(|| connection.as_str())?;
        let parts = connection_string::parse(text);
        parts.into_iter().find(|part| part.plain_name() == "encryptedcredential").map(|part| part.value)
    };
    direct.or_else(in_string).filter(|envelope| !envelope.is_empty() && envelope != MASK)
}

fn remove_envelope(document: &mut Value) {
    let Some(inner) = type_properties_mut(document) else { return };
    if let Some(members) = inner.as_object_mut()
        && let Some(key) = spelled(members, "encryptedCredential")
    {
        members.shift_remove(&key);
    }
    if let Some(connection) = get_mut(inner, "connectionString")
        && let Some(text) = text_place(connection)
    {
        *text = connection_string::rewrite(text, |part| (part.plain_name() == "encryptedcredential").then_some(None));
    }
}

fn type_properties_mut(document: &mut Value) -> Option<&mut Value> {
    let enveloped = get(document, "properties").is_some();
    let inner = if enveloped { get_mut(document, "properties")? } else { document };
    get_mut(inner, "typeProperties")
}

/// The text inside a `SecureString`.
pub(crate) fn secret_text(value: &Value) -> Option<&str> {
    if type_of(value).eq_ignore_ascii_case("SecureString") { text(value, "value") } else { None }
}

/// The text of a plain string or a `SecureString`, for changing it.
fn text_place(value: &mut Value) -> Option<&mut String> {
    if value.is_object() {
        secret_text(value)?;
        return text_place(get_mut(value, "value")?);
    }
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Calls `act` with settings name and text of every secret in the linked service.
fn visit(dialect: Dialect, document: &mut Value, act: &mut dyn FnMut(&str, &str) -> Action) {
    let name = type_of(crate::member::properties(document)).to_owned();
    let connector = types::connector(dialect, &name);
    let Some(inner) = type_properties_mut(document) else { return };
    if let Some(members) = inner.as_object_mut() {
        visit_members(connector, "", members, act);
    }
}

fn visit_members(
    connector: Option<&str>,
    prefix: &str,
    members: &mut Map<String, Value>,
    act: &mut dyn FnMut(&str, &str) -> Action,
) {
    let keys: Vec<String> = members.keys().cloned().collect();
    for key in keys {
        let Some(value) = members.get_mut(&key) else { continue };
        if !visit_member(connector, prefix, &key, value, act) {
            members.shift_remove(&key);
        }
    }
}

/// Visits one member; false where it is to be removed.
fn visit_member(
    connector: Option<&str>,
    prefix: &str,
    key: &str,
    value: &mut Value,
    act: &mut dyn FnMut(&str, &str) -> Action,
) -> bool {
    let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    let secure = secret_text(value).is_some();
    if let Some(place) = text_place(value) {
        let member = plain(key);
        if member == "encryptedcredential" || is_parameter(place) {
            return true;
        }
        return match member.as_str() {
            "connectionstring" => visit_connection_string(connector, secure, place, act),
            "sasuri" => visit_sas_uri(place, act),
            _ if secure || is_secret_member(key) => {
                let name = setting_name(connector, &member).unwrap_or(&path).to_owned();
                apply(place, act(&name, &place.clone()))
            }
            _ => true,
        };
    }
    match value {
        // A reference to a secret or to a credential is not a secret.
        Value::Object(inner)
            if !type_of_map(inner).ends_with("Secret") && !type_of_map(inner).ends_with("Reference") =>
        {
            visit_members(connector, &path, inner, act);
        }
        Value::Array(values) => {
            for (index, item) in values.iter_mut().enumerate() {
                visit_member(connector, &format!("{path}[{index}]"), key, item, act);
            }
        }
        _ => {}
    }
    true
}

fn type_of_map(members: &Map<String, Value>) -> &str {
    crate::member::find(members, "type").and_then(Value::as_str).unwrap_or_default()
}

fn apply(place: &mut String, action: Action) -> bool {
    match action {
        Action::Keep => true,
        Action::Replace(text) => {
            *place = text;
            true
        }
        Action::Remove => false,
    }
}

/// Text that is a parameter, not a secret: `@linkedService().password` and `@{...}`.
pub(crate) fn is_parameter(text: &str) -> bool {
    text.starts_with('@') && text.to_ascii_lowercase().contains("linkedservice()")
}

fn visit_connection_string(
    connector: Option<&str>,
    secure: bool,
    place: &mut String,
    act: &mut dyn FnMut(&str, &str) -> Action,
) -> bool {
    let parts = connection_string::parse(place);
    let as_uri = place.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('='));
    let whole = place == MASK || as_uri || secure && parts.iter().all(|part| part.value.is_empty());
    if whole {
        return apply(place, act("connectionString", &place.clone()));
    }
    *place = connection_string::rewrite(place, |part| {
        let name = part.plain_name();
        if !SECRET_PARTS.contains(&name.as_str()) || part.value.is_empty() {
            return None;
        }
        let setting = setting_name(connector, &name).map_or_else(|| part.name.clone(), str::to_owned);
        match act(&setting, &part.value) {
            Action::Keep => None,
            Action::Replace(text) => Some(Some(text)),
            Action::Remove => Some(None),
        }
    });
    true
}

/// The secret of a SAS URI is its query; the address stays readable and bound.
fn visit_sas_uri(place: &mut String, act: &mut dyn FnMut(&str, &str) -> Action) -> bool {
    if place == MASK {
        return apply(place, act("sasUri", MASK));
    }
    let Some((address, query)) = place.split_once('?') else { return true };
    match act("sasToken", query) {
        Action::Keep => {}
        Action::Replace(text) => *place = format!("{address}?{text}"),
        Action::Remove => *place = address.to_owned(),
    }
    true
}

/// What the catalog calls a secret.
fn setting_name(connector: Option<&str>, name: &str) -> Option<&'static str> {
    match (connector, name) {
        (_, "password" | "pwd") => Some("password"),
        (Some("azblob"), "accountkey") => Some("accountKey"),
        (Some("sqlserver"), "accesstoken") => Some("accessToken"),
        (Some("azblob"), "sastoken" | "sharedaccesssignature") => Some("sasToken"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
