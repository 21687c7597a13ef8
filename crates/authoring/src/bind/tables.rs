//! Tables and queries: what a dataset of a database and its source or sink mean.

use dmg_protocol::job::{CopyOptions, StoreObject};
use dmg_protocol::{Fault, WriteMode};
use serde_json::Value;

use super::copy::{refuse_member, wrong_type};
use super::dataset::BoundDataset;
use crate::member::{get, items, present, text, type_of};

/// Dataset types that mean a table.
const TABLES: &[(&str, &str)] = &[
    ("postgres", "RelationalTable"),
    ("postgres", "PostgreSqlTable"),
    ("postgres", "PostgreSqlV2Table"),
    ("postgres", "AzurePostgreSqlTable"),
    ("sqlite", "RelationalTable"),
    ("sqlite", "SqliteTable"),
];

const SOURCES: &[(&str, &str)] = &[
    ("postgres", "RelationalSource"),
    ("postgres", "PostgreSqlSource"),
    ("postgres", "PostgreSqlV2Source"),
    ("postgres", "AzurePostgreSqlSource"),
    ("sqlite", "RelationalSource"),
    ("sqlite", "SqliteSource"),
];

const SINKS: &[(&str, &str)] = &[("postgres", "PostgreSqlSink"), ("postgres", "AzurePostgreSqlSink")];

/// Whether a connector serves tables.
pub(super) fn serves(connector: &str) -> bool {
    TABLES.iter().any(|(known, _)| *known == connector)
}

fn fits(table: &[(&str, &str)], connector: &str, name: &str) -> bool {
    table.iter().any(|(known, kind)| *known == connector && kind.eq_ignore_ascii_case(name))
}

/// The table or query to read.
pub(super) fn source(dataset: &BoundDataset, source: &Value) -> Result<StoreObject, Fault> {
    if !fits(SOURCES, &dataset.store.store, type_of(source)) {
        return Err(wrong_type("source", type_of(source), dataset));
    }
    if items(source, "additionalColumns").iter().next().is_some() {
        return Err(refuse_member("source", "additionalColumns"));
    }
    let partitions = text(source, "partitionOption").unwrap_or("None");
    let settings = get(source, "partitionSettings").unwrap_or(&Value::Null);
    let bounds = ["partitionUpperBound", "partitionLowerBound", "partitionNames"];
    if partitions.eq_ignore_ascii_case("DynamicRange") || bounds.iter().any(|name| present(settings, name).is_some()) {
        // The bounds would filter rows; physical partitions are what the connector chooses by itself.
        return Err(refuse_member("source", "partitionOption"));
    }
    if let Some(query) = text(source, "query").filter(|query| !query.trim().is_empty()) {
        if query.contains("?Adf") {
            return Err(refuse_member("source", "query with ?Adf tokens"));
        }
        return Ok(StoreObject::Query { text: query.to_owned() });
    }
    table(dataset)
}

/// The table to write, and how.
pub(super) fn sink(dataset: &BoundDataset, sink: &Value, options: &mut CopyOptions) -> Result<StoreObject, Fault> {
    let name = type_of(sink);
    if name.eq_ignore_ascii_case("SqliteSink") && dataset.store.store == "sqlite" {
        let message =
            format!("The dataset \"{}\" is a SQLite table, which can be read but not written yet.", dataset.name);
        return Err(Fault::new("UserErrorNotSupported", message).remedy("Choose a PostgreSQL table or a file as sink."));
    }
    if !fits(SINKS, &dataset.store.store, name) {
        return Err(wrong_type("sink", name, dataset));
    }
    let method = text(sink, "writeMethod").or_else(|| text(sink, "writeBehavior")).unwrap_or("CopyCommand");
    options.mode = match method.to_ascii_lowercase().as_str() {
        "copycommand" | "bulkinsert" | "insert" | "append" => WriteMode::Append,
        "overwrite" => WriteMode::Overwrite,
        _ => return Err(refuse_member("sink", &format!("writeMethod {method}"))),
    };
    let script = text(sink, "preCopyScript").or_else(|| text(sink, "sqlWriterCleanupScript"));
    options.pre_copy_script = script.filter(|script| !script.trim().is_empty()).map(str::to_owned);
    options.create_table = match text(sink, "tableOption").unwrap_or("none").to_ascii_lowercase().as_str() {
        "none" | "" => false,
        "autocreate" => true,
        other => return Err(refuse_member("sink", &format!("tableOption {other}"))),
    };
    for member in ["sliceIdentifierColumnName", "sqlWriterStoredProcedureName"] {
        if present(sink, member).is_some_and(|value| value != "") {
            return Err(refuse_member("sink", member));
        }
    }
    table(dataset)
}

/// `schema` and `table`, or `tableName` with an optional schema in front.
fn table(dataset: &BoundDataset) -> Result<StoreObject, Fault> {
    if !fits(TABLES, &dataset.store.store, &dataset.type_name) {
        return Err(unfitting(dataset));
    }
    let member = |name: &str| text(&dataset.members, name).map(str::trim).filter(|text| !text.is_empty());
    if let Some(table) = member("table") {
        return Ok(StoreObject::Table { schema: member("schema").map(str::to_owned), table: table.to_owned() });
    }
    let Some(name) = member("tableName") else {
        let message = format!("The dataset \"{}\" names no table, and the source gives no query.", dataset.name);
        return Err(
            Fault::new("UserErrorSettings", message).remedy("Add tableName to the dataset or query to the source.")
        );
    };
    let mut parts = split_name(name);
    let table = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    if table.is_empty() || !parts.is_empty() {
        let message = format!("The table name \"{name}\" of dataset \"{}\" cannot be understood.", dataset.name);
        return Err(Fault::new("UserErrorSettings", message)
            .remedy("Write it as table or schema.table; quote names that hold a dot."));
    }
    Ok(StoreObject::Table { schema, table })
}

fn unfitting(dataset: &BoundDataset) -> Fault {
    let service = dataset.store.linked_service.as_deref().unwrap_or_default();
    let message = format!(
        "The dataset \"{}\" of type {} does not fit its linked service \"{service}\".",
        dataset.name, dataset.type_name
    );
    Fault::new("UserErrorDocument", message).remedy("Choose the dataset type that belongs to the store.")
}

/// Splits at dots outside `"..."`, `` `...` `` and `[...]`.
fn split_name(name: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut characters = name.chars().peekable();
    while let Some(c) = characters.next() {
        let close = match c {
            '.' => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            '[' if part.is_empty() => ']',
            '"' | '`' if part.is_empty() => c,
            other => {
                part.push(other);
                continue;
            }
        };
        while let Some(inner) = characters.next() {
            if inner != close {
                part.push(inner);
            } else if characters.peek() == Some(&close) {
                characters.next();
                part.push(close);
            } else {
                break;
            }
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::split_name;

    #[test]
    fn names() {
        for (name, expected) in [
            ("orders", vec!["orders"]),
            ("sales.orders", vec!["sales", "orders"]),
            ("\"a.b\".\"c\"\"d\"", vec!["a.b", "c\"d"]),
            ("[dbo].[My.Table]", vec!["dbo", "My.Table"]),
            ("a.b.c", vec!["a", "b", "c"]),
            ("", vec![""]),
        ] {
            assert_eq!(split_name(name), expected, "{name}");
        }
    }
}
