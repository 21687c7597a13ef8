//! Checks of linked services.

use serde_json::Value;

use super::{known_type, no_secrets, object, reference, required};
use crate::expression::has_expression;
use crate::member::{get, present, type_of};
use crate::secrets::{is_parameter, is_secret_member};
use crate::store::{Members, settings};
use crate::{Dialect, DocumentKind, Finding, types};

pub(super) fn check(dialect: Dialect, name: &str, document: &Value, findings: &mut Vec<Finding>) {
    let properties = crate::member::properties(document);
    let known = known_type(properties, "linked service", dialect, types::linked_service, findings);
    if dialect == Dialect::V2
        && let Some(via) = present(properties, "connectVia")
    {
        reference(via, "IntegrationRuntimeReference", "$.properties.connectVia", findings);
    }
    misplaced(document, "$", "properties", findings);
    misplaced(properties, "$.properties", "typeProperties", findings);
    let path = "$.properties.typeProperties";
    let Some(members) = object(properties, "typeProperties", "$.properties", findings) else {
        if present(properties, "typeProperties").is_none() {
            findings.push(Finding::error(path, "The object \"typeProperties\" is missing."));
        }
        return;
    };
    unsealable("", members, path, findings);
    let Some(known) = known else { return };
    let before = findings.len();
    required(members, known.required, path, findings);
    let complete = findings.len() == before;
    for name in known.expected {
        if present(members, name).is_none() && !asked(known.required, name) {
            let message = format!("The contract of {} asks for \"{name}\"; it is not needed here.", known.name);
            findings.push(Finding::warning(format!("{path}.{name}"), message));
        }
    }
    if dialect == Dialect::V1
        && types::needs_gateway(known.name)
        && !present(members, "gatewayName").is_none_or(Value::is_string)
    {
        findings.push(Finding::error(format!("{path}.gatewayName"), "The member \"gatewayName\" must be a text."));
    }
    let Some(connector) = types::connector(dialect, known.name) else {
        let message = format!("{} is stored, but no copy can use it until its connector is built.", known.name);
        findings.push(Finding::warning("$.properties.type", message));
        return;
    };
    if !complete || dialect == Dialect::V2 && has_expression(members) {
        return;
    }
    if let Err(fault) = settings(connector, name, &Members::of(members)) {
        findings.push(if fault.code == "UserErrorNotSupported" {
            Finding::warning(path, fault.message)
        } else {
            Finding::error(path, fault.message)
        });
    }
}

/// Secrets are sealed inside `typeProperties`; anywhere else they would be stored in clear.
fn misplaced(value: &Value, path: &str, inside: &str, findings: &mut Vec<Finding>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        if name.eq_ignore_ascii_case(inside) {
            continue;
        }
        let path = format!("{path}.{name}");
        if is_secret_member(name) || name.eq_ignore_ascii_case("connectionString") {
            findings.push(Finding::error(path, format!("The member \"{name}\" belongs into \"typeProperties\".")));
        } else {
            no_secrets(member, &path, DocumentKind::LinkedService, findings);
        }
    }
}

/// Secrets in a shape that is not taken out and sealed, and that would so be stored in clear. What is found is named,
/// never repeated.
fn unsealable(name: &str, value: &Value, path: &str, findings: &mut Vec<Finding>) {
    let secret =
        is_secret_member(name) || ["connectionString", "sasUri"].iter().any(|it| name.eq_ignore_ascii_case(it));
    let kind = type_of(value);
    let text = get(value, "value").unwrap_or(&Value::Null);
    let readable = match value {
        Value::Null | Value::String(_) | Value::Array(_) => true,
        Value::Bool(_) | Value::Number(_) => !secret,
        Value::Object(_) if kind.eq_ignore_ascii_case("SecureString") => text.is_string() || text.is_null(),
        Value::Object(_) if secret && kind.eq_ignore_ascii_case("Expression") => {
            text.as_str().is_some_and(is_parameter)
        }
        Value::Object(_) => !secret || is_reference(kind),
    };
    if !readable {
        let message = format!("The secret \"{name}\" must be a text, or a SecureString with a text.");
        findings.push(Finding::error(path, message));
        return;
    }
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                unsealable(name, item, &format!("{path}[{index}]"), findings);
            }
        }
        Value::Object(members) => {
            for (inner, member) in members {
                let path = format!("{path}.{inner}");
                let holds = is_secret_member(inner) || inner.eq_ignore_ascii_case("value");
                if is_reference(kind) && holds && !member.is_null() {
                    let message = format!("A reference cannot hold a secret itself, but this one has \"{inner}\".");
                    findings.push(Finding::error(path, message));
                } else {
                    unsealable(inner, member, &path, findings);
                }
            }
        }
        _ => {}
    }
}

/// Objects that say where a secret is.
fn is_reference(kind: &str) -> bool {
    kind.ends_with("Secret") || kind.ends_with("Reference")
}

/// Whether a required alternative already covers the member.
fn asked(required: &[&str], name: &str) -> bool {
    required.iter().any(|names| names.split('|').any(|known| known == name))
}
