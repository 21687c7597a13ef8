//! Checks of a whole document against its dialect: everything that can be said without looking at other documents,
//! all findings at once. Members nobody knows are kept and not remarked on, as in the original.

mod dataset;
mod linked_service;
mod pipeline;

use dmg_protocol::names::is_resource_name;
use serde_json::Value;

use crate::member::{get, present, text, type_of};
use crate::types::TypeInfo;
use crate::{Dialect, DocumentKind, Finding};

/// All findings about a document that is to be stored under `name`. Empty means nothing to say.
pub fn validate(dialect: Dialect, kind: DocumentKind, name: &str, document: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !is_resource_name(name) {
        findings.push(Finding::error("$.name", name_rule(name)));
    }
    if !document.is_object() {
        findings.push(Finding::error("$", "A document is a JSON object."));
        return findings;
    }
    if let Some(own) = text(document, "name")
        && !own.eq_ignore_ascii_case(name)
    {
        let message = format!("The document calls itself \"{own}\" but is stored as \"{name}\".");
        findings.push(Finding::warning("$.name", message));
    }
    let Some(properties) = present(document, "properties").filter(|properties| properties.is_object()) else {
        findings.push(Finding::error("$.properties", "The object \"properties\" is missing."));
        return findings;
    };
    doubles(document, "$", kind, &mut findings);
    match kind {
        DocumentKind::LinkedService => linked_service::check(dialect, name, document, &mut findings),
        DocumentKind::Dataset => dataset::check(dialect, properties, &mut findings),
        DocumentKind::Pipeline => pipeline::check(dialect, properties, &mut findings),
    }
    if kind != DocumentKind::LinkedService {
        no_secrets(properties, "$.properties", kind, &mut findings);
    }
    parameters(properties, &mut findings);
    findings
}

/// The naming rule in words.
fn name_rule(name: &str) -> String {
    format!(
        "The name \"{name}\" must start with a letter, a digit or \"_\", hold none of < > * # . % & : \\ + ? / and have at \
         most 260 characters."
    )
}

/// `type` of `properties`, checked against the table; the finding is made here.
fn known_type(
    properties: &Value,
    what: &str,
    dialect: Dialect,
    find: fn(Dialect, &str) -> Option<TypeInfo>,
    findings: &mut Vec<Finding>,
) -> Option<TypeInfo> {
    let path = "$.properties.type";
    match present(properties, "type") {
        None => findings.push(Finding::error(path, "The member \"type\" is missing.")),
        Some(Value::String(name)) => {
            let known = find(dialect, name);
            if known.is_none() {
                findings.push(Finding::error(
                    path,
                    format!("\"{name}\" is not a type of {what} in {}.", generation(dialect)),
                ));
            }
            return known;
        }
        Some(_) => findings.push(Finding::error(path, "The member \"type\" must be a text.")),
    }
    None
}

fn generation(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::V1 => "version 1",
        Dialect::V2 => "version 2",
    }
}

/// Every required member that is missing; `a|b` asks for one of them.
fn required(value: &Value, names: &[&str], path: &str, findings: &mut Vec<Finding>) {
    for names in names {
        if names.split('|').any(|name| present(value, name).is_some_and(|member| member != "")) {
            continue;
        }
        let mut alternatives: Vec<&str> = names.split('|').filter(|name| *name != "encryptedCredential").collect();
        let first = alternatives.remove(0);
        let message = if alternatives.is_empty() {
            format!("The member \"{first}\" is missing.")
        } else {
            format!("One of the members \"{first}\", \"{}\" is missing.", alternatives.join("\", \""))
        };
        findings.push(Finding::error(format!("{path}.{first}"), message));
    }
}

/// A member that must be an object if it is there.
fn object<'a>(value: &'a Value, name: &str, path: &str, findings: &mut Vec<Finding>) -> Option<&'a Value> {
    let member = present(value, name)?;
    if member.is_object() {
        return Some(member);
    }
    findings.push(Finding::error(format!("{path}.{name}"), format!("The member \"{name}\" must be an object.")));
    None
}

/// A member that must be an array if it is there.
fn array<'a>(value: &'a Value, name: &str, path: &str, findings: &mut Vec<Finding>) -> &'a [Value] {
    match present(value, name) {
        None => &[],
        Some(Value::Array(items)) => items,
        // The whole array may be an expression.
        Some(other) if type_of(other).eq_ignore_ascii_case("Expression") => &[],
        Some(_) => {
            findings.push(Finding::error(format!("{path}.{name}"), format!("The member \"{name}\" must be an array.")));
            &[]
        }
    }
}

/// A reference of version 2: `{"referenceName": ..., "type": wanted}`.
fn reference(value: &Value, wanted: &str, path: &str, findings: &mut Vec<Finding>) {
    if !value.is_object() {
        let message = format!("A reference is an object {{\"referenceName\": ..., \"type\": \"{wanted}\"}}.");
        findings.push(Finding::error(path, message));
        return;
    }
    if text(value, "referenceName").is_none_or(str::is_empty) {
        findings.push(Finding::error(format!("{path}.referenceName"), "The member \"referenceName\" is missing."));
    }
    if !type_of(value).eq_ignore_ascii_case(wanted) {
        findings
            .push(Finding::error(format!("{path}.type"), format!("The type of this reference must be \"{wanted}\".")));
    }
    object(value, "parameters", path, findings);
}

/// Only linked services are sealed; a secret anywhere else would be stored in clear.
fn no_secrets(value: &Value, path: &str, kind: DocumentKind, findings: &mut Vec<Finding>) {
    match value {
        Value::Object(members) => {
            if type_of(value).eq_ignore_ascii_case("SecureString") && get(value, "value").is_some() {
                let message = match kind {
                    DocumentKind::LinkedService => "A secret belongs into \"typeProperties\".".to_owned(),
                    _ => format!("A {kind} cannot hold a secret; only linked services are sealed."),
                };
                findings.push(Finding::error(path, message));
                return;
            }
            for (name, member) in members {
                no_secrets(member, &format!("{path}.{name}"), kind, findings);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                no_secrets(item, &format!("{path}[{index}]"), kind, findings);
            }
        }
        _ => {}
    }
}

/// Members that differ only in case. One of them would be read and the other stored unread, with whatever secret it
/// holds. Below `typeProperties` of datasets and pipelines names are the author's own.
fn doubles(value: &Value, path: &str, kind: DocumentKind, findings: &mut Vec<Finding>) {
    let Some(members) = value.as_object() else {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            doubles(item, &format!("{path}[{index}]"), kind, findings);
        }
        return;
    };
    let mut seen = std::collections::BTreeSet::new();
    for (name, member) in members {
        let path = format!("{path}.{name}");
        if !seen.insert(name.to_lowercase()) {
            findings
                .push(Finding::error(&path, format!("The member \"{name}\" is there twice, in different spelling.")));
        }
        if kind == DocumentKind::LinkedService || path.eq_ignore_ascii_case("$.properties") {
            doubles(member, &path, kind, findings);
        }
    }
}

const PARAMETER_TYPES: &[&str] = &["String", "Int", "Float", "Bool", "Array", "Object", "SecureString"];

/// Declared parameters: `{"name": {"type": ..., "defaultValue": ...}}`.
fn parameters(properties: &Value, findings: &mut Vec<Finding>) {
    let Some(declared) = object(properties, "parameters", "$.properties", findings) else { return };
    for (name, declaration) in declared.as_object().into_iter().flatten() {
        let path = format!("$.properties.parameters.{name}");
        let kind = type_of(declaration);
        if !PARAMETER_TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
            let message = format!("The type of a parameter is one of {}.", PARAMETER_TYPES.join(", "));
            findings.push(Finding::error(format!("{path}.type"), message));
        }
        if kind.eq_ignore_ascii_case("SecureString") && present(declaration, "defaultValue").is_some() {
            let message = "A parameter cannot have a secret as its default; it would be stored in clear.";
            findings.push(Finding::error(format!("{path}.defaultValue"), message));
        }
    }
}

#[cfg(test)]
mod tests;
