//! Tables and queries: what a dataset of a database and its source or sink mean.

use dmg_protocol::Fault;
use dmg_protocol::job::{ProcedureParameter, StoreObject};
use serde_json::Value;

use super::copy::{refuse_member, wrong_type};
use super::dataset::BoundDataset;
use super::procedure;
use crate::member::{get, present, text, type_of};

/// Dataset types that mean a table.
const TABLES: &[(&str, &str)] = &[
    ("postgres", "RelationalTable"),
    ("postgres", "PostgreSqlTable"),
    ("postgres", "PostgreSqlV2Table"),
    ("postgres", "AzurePostgreSqlTable"),
    ("sqlite", "RelationalTable"),
    ("sqlite", "SqliteTable"),
    ("mysql", "RelationalTable"),
    ("mysql", "MySqlTable"),
    ("mysql", "MariaDBTable"),
    ("mysql", "AzureMySqlTable"),
    ("mysql", "AzureMariaDBTable"),
    ("sqlserver", "SqlServerTable"),
    ("sqlserver", "AzureSqlTable"),
    ("sqlserver", "AzureSqlMITable"),
    ("sqlserver", "AzureSqlDWTable"),
    ("sqlserver", "AmazonRdsForSqlServerTable"),
];

const SOURCES: &[(&str, &str)] = &[
    ("postgres", "RelationalSource"),
    ("postgres", "PostgreSqlSource"),
    ("postgres", "PostgreSqlV2Source"),
    ("postgres", "AzurePostgreSqlSource"),
    ("sqlite", "RelationalSource"),
    ("sqlite", "SqliteSource"),
    ("mysql", "RelationalSource"),
    ("mysql", "MySqlSource"),
    ("mysql", "MariaDBSource"),
    ("mysql", "AzureMySqlSource"),
    ("mysql", "AzureMariaDBSource"),
    ("sqlserver", "SqlSource"),
    ("sqlserver", "SqlServerSource"),
    ("sqlserver", "AzureSqlSource"),
    ("sqlserver", "SqlMISource"),
    ("sqlserver", "SqlDWSource"),
    ("sqlserver", "AmazonRdsForSqlServerSource"),
];

const SINKS: &[(&str, &str)] = &[
    ("postgres", "PostgreSqlSink"),
    ("postgres", "AzurePostgreSqlSink"),
    ("sqlite", "SqliteSink"),
    ("mysql", "MySqlSink"),
    ("mysql", "AzureMySqlSink"),
    ("sqlserver", "SqlSink"),
    ("sqlserver", "SqlServerSink"),
    ("sqlserver", "AzureSqlSink"),
    ("sqlserver", "SqlMISink"),
    ("sqlserver", "SqlDWSink"),
];

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
    let partitions = text(source, "partitionOption").unwrap_or("None");
    let settings = get(source, "partitionSettings").unwrap_or(&Value::Null);
    let bounds = ["partitionUpperBound", "partitionLowerBound", "partitionNames"];
    if partitions.eq_ignore_ascii_case("DynamicRange") || bounds.iter().any(|name| present(settings, name).is_some()) {
        // The bounds would filter rows; physical partitions are what the connector chooses by itself.
        return Err(refuse_member("source", "partitionOption"));
    }
    if let Some(name) = text(source, "sqlReaderStoredProcedureName").filter(|name| !name.trim().is_empty()) {
        if text(source, "sqlReaderQuery").is_some_and(|query| !query.trim().is_empty()) {
            let message = "The source has both sqlReaderQuery and sqlReaderStoredProcedureName.";
            return Err(Fault::new("UserErrorDocument", message).remedy("Keep the one that is meant."));
        }
        return Ok(StoreObject::Query { text: call(name.trim(), &procedure::parameters(source)?) });
    }
    if let Some(query) =
        text(source, "sqlReaderQuery").or_else(|| text(source, "query")).filter(|query| !query.trim().is_empty())
    {
        if query.contains("?Adf") {
            return Err(refuse_member("source", "query with ?Adf tokens"));
        }
        return Ok(StoreObject::Query { text: query.to_owned() });
    }
    table(dataset)
}

/// A procedure that yields rows, as the statement SQL Server takes.
fn call(name: &str, parameters: &[ProcedureParameter]) -> String {
    // The name is the author's own, in parts: each is quoted anew, so that it is one name and nothing else.
    let parts = split_name(name);
    let name = parts.iter().map(|part| format!("[{}]", part.replace(']', "]]"))).collect::<Vec<_>>().join(".");
    let given = parameters.iter().map(|parameter| {
        let value = parameter.value.as_deref().map(|value| format!("N'{}'", value.replace('\'', "''")));
        let plain: String = parameter.name.chars().filter(|c| c.is_alphanumeric() || "_#$".contains(*c)).collect();
        format!(" @{plain} = {}", value.as_deref().unwrap_or("NULL"))
    });
    format!("EXEC {name}{}", given.collect::<Vec<_>>().join(","))
}

/// The table to write. How is the business of `write`.
pub(super) fn sink(dataset: &BoundDataset, sink: &Value) -> Result<StoreObject, Fault> {
    if !fits(SINKS, &dataset.store.store, type_of(sink)) {
        return Err(wrong_type("sink", type_of(sink), dataset));
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
    use dmg_protocol::job::ProcedureParameter;

    use super::{call, split_name};

    #[test]
    fn a_procedure_is_called_by_quoted_names_and_texts() {
        let parameter = |name: &str, value: Option<&str>| ProcedureParameter {
            name: name.to_owned(),
            type_name: None,
            value: value.map(str::to_owned),
        };
        let given = [parameter("day", Some("it's")), parameter("none; DROP", None)];
        assert_eq!(call("dbo.[my proc]", &given), "EXEC [dbo].[my proc] @day = N'it''s', @noneDROP = NULL");
    }

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
