//! Moves staged rows to where readers look, inside the commit's transaction: one function per mode.

use dmg_connector::{Error, Result};
use dmg_protocol::{Fault, WriteMode};

use super::calls;
use super::catalog;
use super::client::{Client, literal, quoted, quoted_list};
use super::errors::{self, ServerError};
use super::write::MySqlSink;

/// Adds the columns the target lacks. DDL commits by itself, so this comes before the transaction.
pub(super) async fn add_columns(sink: &MySqlSink, client: &mut Client) -> Result<()> {
    if !sink.request.add_columns {
        return Ok(());
    }
    // Another attempt may have added them and died.
    let (schema, table) = (&sink.target.schema, &sink.target.table);
    let now = catalog::table_columns(client, &sink.server, schema, table).await?;
    let missing = sink.added().into_iter().filter(|plan| catalog::find(&now, &plan.sink).is_none());
    let added: Vec<String> =
        missing.map(|plan| format!("ADD COLUMN {} {}", quoted(&plan.sink), plan.sink_type)).collect();
    if !added.is_empty() {
        client.batch(&format!("ALTER TABLE {} {}", sink.target.quoted(), added.join(", "))).await?;
    }
    Ok(())
}

/// Gives the number of staged rows that are now in the target.
pub(super) async fn publish(sink: &MySqlSink, client: &mut Client) -> Result<u64> {
    let (target, staging, columns) = (sink.target.quoted(), sink.staging_quoted(), sink.column_list());
    match sink.request.mode {
        WriteMode::Append => {}
        WriteMode::Overwrite => {
            client.batch(&format!("DELETE FROM {target}")).await?;
        }
        WriteMode::Slice => {
            let slice = sink.request.slice.as_ref();
            let slice = slice.ok_or_else(|| Error::from(Fault::new("SystemErrorInternal", "No slice is named.")))?;
            let value = slice_value(sink, client, &slice.column, &slice.value).await?;
            let column = quoted(&slice.column);
            client.batch(&format!("DELETE FROM {target} WHERE {column} = {value}")).await?;
            let sql = format!("INSERT INTO {target} ({columns}, {column}) SELECT {columns}, {value} FROM {staging}");
            return inserted(client, &sql).await;
        }
        WriteMode::Upsert => return upsert(sink, client).await,
        WriteMode::Procedure => return calls::calls(sink, client).await,
    }
    inserted(client, &format!("INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging}")).await
}

/// Runs a statement that must not bend anything.
async fn inserted(client: &mut Client, sql: &str) -> Result<u64> {
    let done = client.batch(sql).await?;
    if done.warnings > 0 {
        let place = client.wire.place.clone();
        let row = client.query("SHOW WARNINGS LIMIT 1").await?.rows.into_iter().next().unwrap_or_default();
        let mut row = row.into_iter().flatten();
        let level = row.next().unwrap_or_default();
        if level != "Note" {
            let number = row.next().and_then(|number| number.parse().ok()).unwrap_or(0);
            let error = ServerError { number, message: row.next().unwrap_or_default() };
            return Err(errors::error(&place, &error));
        }
    }
    Ok(done.affected)
}

/// The slice's value as a literal of its column: octets, or the digits where it is text.
pub(super) async fn slice_value(sink: &MySqlSink, client: &mut Client, column: &str, value: &str) -> Result<String> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Fault::new("SystemErrorInternal", "The value of a slice is not in hex digits.").into());
    }
    let (schema, table) = (&sink.target.schema, &sink.target.table);
    let found = catalog::table_columns(client, &sink.server, schema, table).await?;
    let octets = catalog::find(&found, column).is_some_and(|column| column.own.base.ends_with("binary"));
    Ok(if octets { format!("x'{value}'") } else { literal(value) })
}

/// Replaces by key and adds the others. An INSERT that updates on any key would hide that another unique key collides.
async fn upsert(sink: &MySqlSink, client: &mut Client) -> Result<u64> {
    let (target, staging) = (sink.target.quoted(), sink.staging_quoted());
    let keys = &sink.request.keys;
    let key_list = quoted_list(keys.iter().map(String::as_str));
    let double = format!("SELECT COUNT(*) FROM {staging} GROUP BY {key_list} HAVING COUNT(*) > 1 LIMIT 1");
    if client.query(&double).await?.single().is_some() {
        let message = format!("Two rows for {} have the same key ({}).", sink.target.label(), keys.join(", "));
        let remedy = "Make the rows of the source unique by the key, or name more key columns.";
        return Err(Fault::new("UserErrorDuplicateKey", message).remedy(remedy).into());
    }
    let same: Vec<String> = keys.iter().map(|key| format!("t.{0} <=> s.{0}", quoted(key))).collect();
    let same = same.join(" AND ");
    let set: Vec<String> = sink.planned.iter().map(|plan| format!("t.{0} = s.{0}", quoted(&plan.sink))).collect();
    let update = format!("UPDATE {target} t JOIN {staging} s ON {same} SET {}", set.join(", "));
    let replaced = inserted(client, &update).await?;
    let columns = sink.column_list();
    let of_staging: Vec<String> = sink.planned.iter().map(|plan| format!("s.{}", quoted(&plan.sink))).collect();
    let insert = format!(
        "INSERT INTO {target} ({columns}) SELECT {} FROM {staging} s \
         WHERE NOT EXISTS (SELECT 1 FROM {target} t WHERE {same})",
        of_staging.join(", ")
    );
    Ok(replaced + inserted(client, &insert).await?)
}
