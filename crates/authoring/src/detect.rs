//! Tells what a JSON file defines, by its shape alone: for deploying folders of files whose names say nothing.

use serde_json::Value;

use crate::member::{find, get, items, present, type_of};
use crate::{Dialect, DocumentKind, types};

/// The dialect and kind of a whole document, or none where it is something else.
///
/// A type that only one dialect knows decides; where both know it, members that only one dialect has decide
/// (`connectVia`, references as objects, `gatewayName`, `availability`); version 2 where nothing does.
pub fn detect(document: &Value) -> Option<(Dialect, DocumentKind)> {
    let inner = get(document, "properties")?;
    let object = inner.as_object()?;
    if find(object, "activities").is_some_and(Value::is_array) {
        return Some((pipeline_dialect(inner), DocumentKind::Pipeline));
    }
    let name = type_of(inner);
    if let Some(reference) = find(object, "linkedServiceName") {
        let dialect = if reference.is_object() { Dialect::V2 } else { Dialect::V1 };
        return Some((dialect, DocumentKind::Dataset));
    }
    let known = [Dialect::V1, Dialect::V2].map(|dialect| types::linked_service(dialect, name).is_some());
    let dialect = match known {
        [true, false] => Dialect::V1,
        [false, true] => Dialect::V2,
        [true, true] if linked_service_is_v1(inner) => Dialect::V1,
        [true, true] => Dialect::V2,
        [false, false] => return None,
    };
    Some((dialect, DocumentKind::LinkedService))
}

fn linked_service_is_v1(properties: &Value) -> bool {
    if ["connectVia", "parameters", "annotations", "version"].iter().any(|name| present(properties, name).is_some()) {
        return false;
    }
    let Some(members) = get(properties, "typeProperties").and_then(Value::as_object) else { return false };
    find(members, "gatewayName").is_some()
        || present(properties, "hubName").is_some()
        || members.values().all(|value| !value.is_object() && !expression_text(value))
            && members
                .keys()
                .any(|key| key.eq_ignore_ascii_case("connectionString") || key.eq_ignore_ascii_case("sasUri"))
            && ["AzureStorage", "AzureStorageSas"].iter().any(|name| type_of(properties).eq_ignore_ascii_case(name))
}

fn expression_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with('@') || text.contains("@{"))
}

fn pipeline_dialect(properties: &Value) -> Dialect {
    let v1_members = ["start", "end", "isPaused", "pipelineMode", "hubName", "expirationTime", "datasets"];
    let v2_members = ["parameters", "variables", "concurrency", "folder", "annotations", "runDimensions"];
    if v2_members.iter().any(|name| present(properties, name).is_some()) {
        return Dialect::V2;
    }
    if v1_members.iter().any(|name| present(properties, name).is_some()) {
        return Dialect::V1;
    }
    let names_only = |activity: &Value| {
        let ends: Vec<&Value> = ["inputs", "outputs"].iter().flat_map(|side| items(activity, side)).collect();
        !ends.is_empty() && ends.iter().all(|end| get(end, "name").is_some() && get(end, "referenceName").is_none())
    };
    if items(properties, "activities").iter().any(names_only) { Dialect::V1 } else { Dialect::V2 }
}

/// The `name` a document gives itself.
pub fn document_name(document: &Value) -> Option<&str> {
    crate::member::text(document, "name").filter(|name| !name.is_empty())
}
