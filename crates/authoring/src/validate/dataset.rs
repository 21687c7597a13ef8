//! Checks of datasets.

use serde_json::Value;

use super::{array, known_type, object, reference, required};
use crate::member::{present, text, type_of};
use crate::{Dialect, Finding, types};

/// Dataset types of version 2 whose place is a `location`.
const LOCATED: &[&str] = &["Avro", "Binary", "DelimitedText", "Excel", "Iceberg", "Json", "Orc", "Parquet", "Xml"];

const FREQUENCIES: &[&str] = &["Minute", "Hour", "Day", "Week", "Month"];

pub(super) fn check(dialect: Dialect, properties: &Value, findings: &mut Vec<Finding>) {
    let known = known_type(properties, "dataset", dialect, types::dataset, findings);
    let service = "$.properties.linkedServiceName";
    match (dialect, present(properties, "linkedServiceName")) {
        (_, None) => findings.push(Finding::error(service, "The member \"linkedServiceName\" is missing.")),
        (Dialect::V1, Some(Value::String(name))) if !name.is_empty() => {}
        (Dialect::V1, Some(_)) => {
            findings.push(Finding::error(service, "The member \"linkedServiceName\" must be a name."));
        }
        (Dialect::V2, Some(value)) => reference(value, "LinkedServiceReference", service, findings),
    }
    let path = "$.properties.typeProperties";
    let members = object(properties, "typeProperties", "$.properties", findings);
    let name = known.as_ref().map_or("", |known| known.name);
    if let Some(known) = &known {
        required(members.unwrap_or(&Value::Null), known.required, path, findings);
        if dialect == Dialect::V2 && LOCATED.contains(&known.name) {
            location(members.unwrap_or(&Value::Null), path, findings);
        }
    }
    if let Some(members) = members {
        format(members, path, findings);
    }
    columns(properties, "structure", findings);
    // The schema of a Json dataset is a JSON schema, not a list of columns.
    if !name.eq_ignore_ascii_case("Json") {
        columns(properties, "schema", findings);
    }
    if dialect == Dialect::V1 {
        availability(properties, findings);
    }
}

fn location(members: &Value, path: &str, findings: &mut Vec<Finding>) {
    let path = format!("{path}.location");
    match present(members, "location") {
        None => findings.push(Finding::error(path, "The member \"location\" is missing.")),
        Some(location) if !location.is_object() => {
            findings.push(Finding::error(path, "The member \"location\" must be an object."));
        }
        Some(location) if !type_of(location).ends_with("Location") => {
            let message = "The type of a location ends in \"Location\", such as \"AzureBlobStorageLocation\".";
            findings.push(Finding::error(format!("{path}.type"), message));
        }
        Some(_) => {}
    }
}

const FORMATS: &[&str] = &["TextFormat", "JsonFormat", "AvroFormat", "OrcFormat", "ParquetFormat"];

fn format(members: &Value, path: &str, findings: &mut Vec<Finding>) {
    let Some(format) = object(members, "format", path, findings) else { return };
    let name = type_of(format);
    if !name.eq_ignore_ascii_case("Expression") && !FORMATS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        let message = format!("\"{name}\" is not a format; formats are {}.", FORMATS.join(", "));
        findings.push(Finding::error(format!("{path}.format.type"), message));
    }
}

fn columns(properties: &Value, member: &str, findings: &mut Vec<Finding>) {
    for (index, column) in array(properties, member, "$.properties", findings).iter().enumerate() {
        if member == "structure" && text(column, "name").is_none_or(str::is_empty) {
            let path = format!("$.properties.{member}[{index}].name");
            findings.push(Finding::error(path, "A column needs a name."));
        }
    }
}

fn availability(properties: &Value, findings: &mut Vec<Finding>) {
    let path = "$.properties.availability";
    let Some(availability) = object(properties, "availability", "$.properties", findings) else {
        if present(properties, "availability").is_none() {
            findings.push(Finding::error(path, "The object \"availability\" is missing."));
        }
        return;
    };
    let frequency = text(availability, "frequency").unwrap_or_default();
    if !FREQUENCIES.iter().any(|known| known.eq_ignore_ascii_case(frequency)) {
        let message = format!("The frequency is one of {}.", FREQUENCIES.join(", "));
        findings.push(Finding::error(format!("{path}.frequency"), message));
    }
    let interval = present(availability, "interval").and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    });
    match interval {
        Some(interval) if interval >= 1 && (interval >= 15 || !frequency.eq_ignore_ascii_case("Minute")) => {}
        Some(_) if frequency.eq_ignore_ascii_case("Minute") => {
            findings
                .push(Finding::error(format!("{path}.interval"), "With frequency Minute the interval is at least 15."));
        }
        _ => findings.push(Finding::error(format!("{path}.interval"), "The interval is a whole number from 1 on.")),
    }
}
