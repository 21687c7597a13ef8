//! A linked service as a store: which gateway reaches it, what its credential is bound to, and the dialect-neutral
//! reference a job carries.

use std::collections::BTreeMap;

use dmg_protocol::job::StoreRef;
use dmg_protocol::{Fault, binding};
use serde_json::{Map, Value};

use crate::expression::{self, Scope};
use crate::member::{find, get, present, properties, text, type_of, type_properties};
use crate::references::AUTO_RESOLVE;
use crate::secrets::envelope_of;
use crate::store::{Members, settings, target};
use crate::{Dialect, types};

/// The gateway a linked service names. None means any gateway of the factory, or the cloud runtime.
pub fn gateway_of(dialect: Dialect, document: &Value) -> Option<String> {
    let name = match dialect {
        Dialect::V1 => text(type_properties(document), "gatewayName"),
        Dialect::V2 => get(properties(document), "connectVia").and_then(|reference| text(reference, "referenceName")),
    };
    name.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(AUTO_RESOLVE)).map(str::to_owned)
}

/// What the envelope of this linked service must be bound to. `document` may still hold secrets or not; they take no
/// part. Works for stores without a connector too, since their documents are stored and sealed as well. For a
/// parameterized linked service the text of the template is bound.
pub fn seal_binding(
    dialect: Dialect,
    name: &str,
    factory_id: &str,
    document: &Value,
) -> Result<BTreeMap<String, String>, Fault> {
    let type_name = type_of(properties(document));
    let Some(known) = types::linked_service(dialect, type_name) else {
        return Err(Fault::new("UserErrorDocument", format!("The linked service type \"{type_name}\" is not known.")));
    };
    let connector = types::connector(dialect, type_name);
    let place = target(connector, &Members::of(type_properties(document)));
    Ok(binding(factory_id, name, connector.unwrap_or(known.name), &place))
}

/// The store of a linked service with `parameters` given by whoever refers to it. A store that this release has no
/// connector for is `UserErrorNotSupported`.
pub fn store_ref(
    dialect: Dialect,
    name: &str,
    factory_id: &str,
    document: &Value,
    parameters: &Map<String, Value>,
) -> Result<StoreRef, Fault> {
    let inner = properties(document);
    let type_name = type_of(inner);
    let Some(connector) = types::connector(dialect, type_name) else {
        return Err(no_connector(name, type_name));
    };
    if let Some(member) = vault_reference(type_properties(document)) {
        let message =
            format!("The linked service \"{name}\" takes its {member} from a key vault, which is not supported yet.");
        return Err(
            Fault::new("UserErrorNotSupported", message).remedy("Enter the secret in the linked service itself.")
        );
    }
    let evaluated = match dialect {
        Dialect::V1 => type_properties(document).clone(),
        Dialect::V2 => {
            let arguments = arguments("linked service", name, get(inner, "parameters"), parameters)?;
            let scope = Scope { linked_service: Some(&arguments), ..Scope::default() };
            expression::evaluate(&without_envelope(type_properties(document)), scope)?
        }
    };
    let settings = settings(connector, name, &Members::of(&evaluated))?;
    let envelope = envelope_of(dialect, document);
    let bound = binding(factory_id, name, connector, &settings);
    if envelope.is_some() && bound != seal_binding(dialect, name, factory_id, document)? {
        let message = format!(
            "The linked service \"{name}\" has a stored secret and a target that depends on parameters; such a secret \
             could be sent anywhere."
        );
        return Err(Fault::new("UserErrorNotSupported", message)
            .remedy("Make one linked service per target, or leave only other members to parameters."));
    }
    Ok(StoreRef {
        store: connector.to_owned(),
        linked_service: Some(name.to_owned()),
        settings,
        envelope,
        binding: bound,
    })
}

/// Seconds a statement may take, where the linked service says so and needs no parameter for it.
pub(crate) fn command_timeout(document: &Value) -> Option<u64> {
    Members::of(type_properties(document)).text(&["commandtimeout"])?.parse().ok()
}

/// The envelope is no template.
fn without_envelope(members: &Value) -> Value {
    let Some(members) = members.as_object() else { return Value::Null };
    let kept = members.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("encryptedCredential"));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn no_connector(name: &str, type_name: &str) -> Fault {
    let message = format!(
        "The linked service \"{name}\" is of type {type_name}. It is stored and checked, but no copy can use it until \
         the connector of that store is built."
    );
    Fault::new("UserErrorNotSupported", message)
        .remedy("Use PostgreSQL, SQLite, a file folder or Azure Blob storage meanwhile.")
        .with("type", type_name)
}

/// The member that refers to a key vault.
fn vault_reference(members: &Value) -> Option<&str> {
    let members = members.as_object()?;
    members
        .iter()
        .find(|(_, value)| type_of(value).eq_ignore_ascii_case("AzureKeyVaultSecret"))
        .map(|(name, _)| name.as_str())
}

/// The parameters of an object: the values given, else their defaults. One without either is refused.
pub(crate) fn arguments(
    what: &str,
    name: &str,
    declared: Option<&Value>,
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, Fault> {
    let mut arguments = Map::new();
    for (parameter, declaration) in declared.and_then(Value::as_object).into_iter().flatten() {
        let value = find(given, parameter).or_else(|| present(declaration, "defaultValue"));
        let Some(value) = value else {
            let message = format!("The parameter \"{parameter}\" of {what} \"{name}\" has no value and no default.");
            return Err(Fault::new("UserErrorExpression", message).remedy("Give the parameter a value."));
        };
        let kind = type_of(declaration);
        let converted = convert(value, kind).ok_or_else(|| {
            let message = format!("The parameter \"{parameter}\" of {what} \"{name}\" must be of type {kind}.");
            Fault::new("UserErrorExpression", message).remedy("Give it a value of that type.")
        })?;
        arguments.insert(parameter.clone(), converted);
    }
    if let Some(unknown) = given.keys().find(|key| find(&arguments, key).is_none()) {
        let message = format!("The {what} \"{name}\" has no parameter \"{unknown}\".");
        return Err(Fault::new("UserErrorExpression", message).remedy("Correct the name, or declare the parameter."));
    }
    Ok(arguments)
}

/// A value in its declared type, where that can be without guessing.
fn convert(value: &Value, kind: &str) -> Option<Value> {
    match (kind.to_ascii_lowercase().as_str(), value) {
        ("string", Value::Number(_) | Value::Bool(_)) => Some(Value::String(value.to_string())),
        ("string", Value::String(_)) => Some(value.clone()),
        ("string", _) => None,
        ("int", Value::String(text)) => text.trim().parse::<i64>().ok().map(Value::from),
        ("int", Value::Number(number)) if number.is_i64() || number.is_u64() => Some(value.clone()),
        ("int", _) => None,
        ("float", Value::String(text)) => {
            text.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Value::Number)
        }
        ("float", Value::Number(_)) => Some(value.clone()),
        ("float", _) => None,
        ("bool", Value::String(text)) => text.trim().to_ascii_lowercase().parse::<bool>().ok().map(Value::Bool),
        ("bool", Value::Bool(_)) => Some(value.clone()),
        ("bool", _) => None,
        ("array", Value::String(text)) => serde_json::from_str(text).ok().filter(Value::is_array),
        ("array", Value::Array(_)) => Some(value.clone()),
        ("array", _) => None,
        ("object", Value::String(text)) => serde_json::from_str(text).ok().filter(Value::is_object),
        _ => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests;
