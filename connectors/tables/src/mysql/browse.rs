//! Looks at what a server holds: databases, tables, columns. Reads no rows.

use dmg_connector::{Column, Result};
use dmg_protocol::Fault;
use dmg_protocol::job::{ListedTable, StoreObject};

use super::catalog;
use super::client::literal;
use super::connect::{Purpose, connect};
use super::settings::Server;

/// Databases, those of the server itself left out.
pub(super) async fn schemas(server: &Server) -> Result<Vec<String>> {
    let mut client = connect(server, Purpose::Read).await?;
    let sql = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE LOWER(SCHEMA_NAME) NOT IN \
         ('information_schema', 'performance_schema', 'mysql', 'sys')";
    let rows = client.query(sql).await?.rows;
    let mut names: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    names.sort();
    Ok(names)
}

/// Tables and views of a database.
pub(super) async fn tables(server: &Server, schema: Option<&str>, limit: usize) -> Result<Vec<ListedTable>> {
    let mut client = connect(server, Purpose::Read).await?;
    let schema = schema.unwrap_or(&server.database);
    let sql = format!(
        "SELECT TABLE_NAME, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH + INDEX_LENGTH FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {} AND TABLE_TYPE <> 'SEQUENCE' AND TABLE_NAME NOT LIKE '\\\\_\\\\_dmg%' \
         AND TABLE_NAME NOT LIKE '\\\\_dmg%' ORDER BY BINARY TABLE_NAME LIMIT {limit}",
        literal(schema)
    );
    let tables = client.query(&sql).await?.rows.into_iter().map(|row| {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        let name = next().unwrap_or_default();
        let view = next().is_some_and(|kind| kind.contains("VIEW"));
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
        ListedTable {
            schema: Some(schema.to_owned()),
            name,
            kind: if view { "view" } else { "table" }.to_owned(),
            rows_estimate: number(next()),
            bytes: number(next()),
        }
    });
    Ok(tables.collect())
}

/// Columns of a table, view or query.
pub(super) async fn describe(server: &Server, object: &StoreObject) -> Result<Vec<Column>> {
    let mut client = connect(server, Purpose::Read).await?;
    let columns = match object {
        StoreObject::Table { schema, table } => {
            let schema = schema.as_deref().unwrap_or(&server.database);
            let relation = catalog::relation(&mut client, schema, table).await?;
            let relation = relation.ok_or_else(|| catalog::missing(&client.wire.place, schema, table))?;
            catalog::table_columns(&mut client, server, &relation.schema, &relation.name).await?
        }
        StoreObject::Query { text } => {
            let text = text.trim().trim_end_matches(';').trim_end();
            catalog::query_columns(&mut client, server, text).await?
        }
        StoreObject::Files { .. } => {
            return Err(Fault::new("UserErrorSettings", "MariaDB and MySQL have tables, not files.").into());
        }
    };
    Ok(columns.into_iter().map(|readable| readable.column).collect())
}
