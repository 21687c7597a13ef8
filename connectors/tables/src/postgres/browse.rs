//! What there is to choose from: schemas, tables and columns, without reading a row.

use dmg_connector::{Column, Result};
use dmg_protocol::Fault;
use dmg_protocol::job::{ListedTable, StoreObject};

use super::catalog;
use super::client::Client;

/// Schemas that are not the system's, sorted.
pub(super) async fn schemas(client: &mut Client) -> Result<Vec<String>> {
    let sql = "SELECT nspname FROM pg_namespace WHERE nspname <> 'information_schema' AND nspname !~ '^pg_' \
         AND has_schema_privilege(oid, 'USAGE')";
    let rows = client.query(sql, &[]).await?.rows;
    let mut names: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    names.sort();
    Ok(names)
}

/// Tables and views of a schema, sorted by name; those of copies under way are left out.
pub(super) async fn tables(client: &mut Client, schema: Option<&str>, limit: usize) -> Result<Vec<ListedTable>> {
    let sql = "SELECT n.nspname, c.relname, c.relkind IN ('v', 'm'), \
         CASE WHEN c.relkind <> 'v' AND c.reltuples >= 0 THEN c.reltuples::bigint END, \
         CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) END \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = coalesce($1, current_schema()) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         AND NOT starts_with(c.relname, '_dmg_') AND NOT starts_with(c.relname, '__dmg_') \
         ORDER BY c.relname::text COLLATE \"C\" LIMIT $2::bigint";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).to_string();
    let rows = client.query(sql, &[schema, Some(&limit)]).await?.rows;
    if rows.is_empty()
        && let Some(schema) = schema
    {
        let found = client.query("SELECT FROM pg_namespace WHERE nspname = $1", &[Some(schema)]).await?;
        if found.rows.is_empty() {
            let message = format!("{} has no schema \"{schema}\".", client.wire.place);
            let remedy = "Check the schema name, capital letters included.";
            return Err(Fault::new("UserErrorContainerMissing", message).remedy(remedy).into());
        }
    }
    let listed = rows.into_iter().map(|row| {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        ListedTable {
            schema: next(),
            name: next().unwrap_or_default(),
            kind: if next().as_deref() == Some("t") { "view" } else { "table" }.to_owned(),
            rows_estimate: next().and_then(|rows| rows.parse().ok()),
            bytes: next().and_then(|bytes| bytes.parse().ok()),
        }
    });
    Ok(listed.collect())
}

/// Columns of a table, view or query.
pub(super) async fn describe(client: &mut Client, object: &StoreObject) -> Result<Vec<Column>> {
    let found = match object {
        StoreObject::Table { schema, table } => {
            let relation = catalog::relation(client, schema.as_deref(), table).await?;
            let relation = relation.ok_or_else(|| catalog::missing(&client.wire.place, schema.as_deref(), table))?;
            catalog::table_columns(client, &relation).await?
        }
        StoreObject::Query { text } => {
            catalog::query_columns(client, text.trim().trim_end_matches(';').trim_end()).await?
        }
        StoreObject::Files { .. } => {
            return Err(Fault::new("UserErrorSettings", "PostgreSQL has tables, not files.").into());
        }
    };
    Ok(found.into_iter().map(|readable| readable.column).collect())
}
