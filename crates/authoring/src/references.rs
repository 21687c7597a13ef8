//! Which other resources a document names, so that a missing one can be reported and a used one kept.

use serde_json::Value;

use crate::member::{get, items, present, properties, text};
use crate::{Dialect, DocumentKind, Reference, ReferenceKind};

/// Every reference of a document, in document order, doubles included.
pub fn references(dialect: Dialect, kind: DocumentKind, document: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    let inner = properties(document);
    match (dialect, kind) {
        (Dialect::V1, DocumentKind::LinkedService) => {
            if let Some(type_properties) = get(inner, "typeProperties") {
                named(
                    type_properties,
                    "gatewayName",
                    ReferenceKind::Gateway,
                    "$.properties.typeProperties",
                    &mut found,
                );
            }
        }
        (Dialect::V1, DocumentKind::Dataset) => {
            named(inner, "linkedServiceName", ReferenceKind::LinkedService, "$.properties", &mut found);
        }
        (Dialect::V1, DocumentKind::Pipeline) => {
            for (index, activity) in items(inner, "activities").iter().enumerate() {
                let path = format!("$.properties.activities[{index}]");
                named(activity, "linkedServiceName", ReferenceKind::LinkedService, &path, &mut found);
                for side in ["inputs", "outputs"] {
                    for (end_index, end) in items(activity, side).iter().enumerate() {
                        named(end, "name", ReferenceKind::Dataset, &format!("{path}.{side}[{end_index}]"), &mut found);
                    }
                }
                if let Some(type_properties) = get(activity, "typeProperties") {
                    named_deep(type_properties, &format!("{path}.typeProperties"), &mut found);
                }
            }
        }
        (Dialect::V2, _) => typed_deep(inner, "$.properties", &mut found),
    }
    found
}

/// A version 1 reference: a member that is a plain name.
fn named(value: &Value, member: &str, kind: ReferenceKind, path: &str, found: &mut Vec<Reference>) {
    if let Some(name) = text(value, member).filter(|name| !name.is_empty()) {
        found.push(Reference { kind, name: name.to_owned(), path: format!("{path}.{member}") });
    }
}

/// Version 1: `linkedServiceName` of staging and redirect settings.
fn named_deep(value: &Value, path: &str, found: &mut Vec<Reference>) {
    if let Value::Object(members) = value {
        named(value, "linkedServiceName", ReferenceKind::LinkedService, path, found);
        for (name, member) in members {
            named_deep(member, &format!("{path}.{name}"), found);
        }
    }
}

/// Version 2: every object with `referenceName` and a `type` that ends in `Reference`.
fn typed_deep(value: &Value, path: &str, found: &mut Vec<Reference>) {
    match value {
        Value::Object(members) => {
            let kind = present(value, "type").and_then(Value::as_str).and_then(|name| {
                let kinds = [
                    ("LinkedServiceReference", ReferenceKind::LinkedService),
                    ("DatasetReference", ReferenceKind::Dataset),
                    ("PipelineReference", ReferenceKind::Pipeline),
                    ("IntegrationRuntimeReference", ReferenceKind::Gateway),
                ];
                kinds.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
            });
            if let (Some(kind), Some(name)) = (kind, text(value, "referenceName")) {
                // The managed runtime is always there, whatever gateways the factory has.
                if !(kind == ReferenceKind::Gateway && name.eq_ignore_ascii_case(AUTO_RESOLVE)) {
                    found.push(Reference { kind, name: name.to_owned(), path: format!("{path}.referenceName") });
                }
            }
            for (name, member) in members {
                typed_deep(member, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(values) => {
            for (index, member) in values.iter().enumerate() {
                typed_deep(member, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// The name that version 2 gives the runtime of copies without a gateway.
pub(crate) const AUTO_RESOLVE: &str = "AutoResolveIntegrationRuntime";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(dialect: Dialect, kind: DocumentKind, document: Value, expected: &[&str]) {
        let found: Vec<String> = references(dialect, kind, &document)
            .into_iter()
            .map(|reference| format!("{:?} {} {}", reference.kind, reference.name, reference.path))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn both_dialects() {
        check(
            Dialect::V1,
            DocumentKind::LinkedService,
            json!({"properties": {"type": "OnPremisesSqlServer", "typeProperties": {"GatewayName": "gw"}}}),
            &["Gateway gw $.properties.typeProperties.gatewayName"],
        );
        check(
            Dialect::V1,
            DocumentKind::Pipeline,
            json!({"properties": {"activities": [{"type": "Copy", "inputs": [{"name": "In"}], "outputs": [{"name": "Out"}],
                "typeProperties": {"stagingSettings": {"linkedServiceName": "Stage"}}}]}}),
            &[
                "Dataset In $.properties.activities[0].inputs[0].name",
                "Dataset Out $.properties.activities[0].outputs[0].name",
                "LinkedService Stage $.properties.activities[0].typeProperties.stagingSettings.linkedServiceName",
            ],
        );
        check(
            Dialect::V2,
            DocumentKind::Dataset,
            json!({"properties": {"linkedServiceName": {"referenceName": "L", "type": "LinkedServiceReference"}}}),
            &["LinkedService L $.properties.linkedServiceName.referenceName"],
        );
        check(
            Dialect::V2,
            DocumentKind::LinkedService,
            json!({"properties": {"connectVia": {"referenceName": "IR", "type": "IntegrationRuntimeReference"},
                "typeProperties": {"password": {"type": "AzureKeyVaultSecret", "secretName": "s",
                    "store": {"referenceName": "KV", "type": "LinkedServiceReference"}}}}}),
            &[
                "Gateway IR $.properties.connectVia.referenceName",
                "LinkedService KV $.properties.typeProperties.password.store.referenceName",
            ],
        );
    }
}
