//! Moves staged rows to where readers look, inside the commit's transaction: one function per mode.

use dmg_connector::{Error, Result};
use dmg_protocol::{Fault, WriteMode};

use super::call::{self, Parameter};
use super::catalog;
use super::client::{Client, literal, quoted, quoted_list};
use super::errors::{self, ServerError};
use super::types::{ColumnType, spatial};
use super::write::MySqlSink;

/// Calls sent to the server at once, and bytes of them.
const CALLS: usize = 500;
const CALL_BYTES: usize = 256 * 1024;

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
        WriteMode::Procedure => return calls(sink, client).await,
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

/// Hands each staged row to the procedure. Rows are asked for as literals, so that no value is bent on the way.
async fn calls(sink: &MySqlSink, client: &mut Client) -> Result<u64> {
    let Some(procedure) = &sink.request.procedure else { return Ok(0) };
    let parameters = call::parameters(client, &sink.server, &procedure.name).await?;
    let mut arguments = Vec::new();
    for parameter in &parameters {
        let column = sink.planned.iter().find(|plan| plan.sink.eq_ignore_ascii_case(&parameter.name));
        let fixed = procedure.parameters.iter().find(|given| given.name.eq_ignore_ascii_case(&parameter.name));
        arguments.push(match (column, fixed) {
            (_, Some(given)) => literal(&given.value.as_deref().map_or("NULL".to_owned(), literal)),
            (Some(plan), None) => column_literal(sink, &plan.sink),
            (None, None) => return Err(unfed(parameter, &procedure.name)),
        });
    }
    let known = |name: &str| parameters.iter().any(|parameter| parameter.name.eq_ignore_ascii_case(name));
    if let Some(plan) = sink.planned.iter().find(|plan| !known(&plan.sink)) {
        let message = format!("Procedure {} has no parameter for column \"{}\".", procedure.name, plan.sink);
        return Err(Fault::new("UserErrorSettings", message).with("column", &plan.sink).into());
    }
    let name = call::name(&sink.server, &procedure.name).quoted();
    let list = if arguments.is_empty() { "''".to_owned() } else { format!("CONCAT_WS(',', {})", arguments.join(", ")) };
    let mut reader = super::connect::connect(&sink.server, super::connect::Purpose::Read).await?;
    reader.stream(&format!("SELECT {list} FROM {}", sink.staging_quoted())).await?;
    let (mut script, mut pending, mut rows) = (String::new(), 0, 0_u64);
    loop {
        let limit = super::wire::PACKET_BYTES_MAX;
        let end = match reader.buffered_row(limit)? {
            None => {
                reader.wire.fill(limit).await?;
                continue;
            }
            Some(None) => true,
            Some(Some(packet)) => {
                let body = reader.wire.body(packet);
                let values = super::wire::Walk(body).text();
                let values = values.ok_or_else(|| errors::garbled(&reader.wire.place, "a damaged row"))?;
                script.push_str(&format!("CALL {name}({values});"));
                pending += 1;
                rows += 1;
                false
            }
        };
        if pending > 0 && (end || pending >= CALLS || script.len() >= CALL_BYTES) {
            client.script(&script).await?;
            script.clear();
            pending = 0;
        }
        if end {
            return Ok(rows);
        }
    }
}

fn unfed(parameter: &Parameter, procedure: &str) -> Error {
    let message = format!("Parameter \"{}\" of procedure {procedure} gets no value.", parameter.name);
    let remedy =
        "Map a column of the source to a column of that name, or give it in the stored procedure's parameters.";
    Fault::new("UserErrorSettings", message).remedy(remedy).with("parameter", &parameter.name).into()
}

/// An expression that yields the value of a column as a literal.
fn column_literal(sink: &MySqlSink, name: &str) -> String {
    let column = quoted(name);
    let own = catalog::find(&sink.found, name).map(|found| found.own.clone());
    let planned = sink.planned.iter().find(|plan| plan.sink == name);
    let own = own.unwrap_or_else(|| {
        ColumnType::parse(planned.map_or("", |plan| plan.sink_type.as_str()), Some("utf8mb4".to_owned()), false)
    });
    let base = own.base.as_str();
    if base.ends_with("binary") || base.ends_with("blob") || spatial(base) {
        return format!("COALESCE(CONCAT('x''', HEX({column}), ''''), 'NULL')");
    }
    match base {
        "bit" => format!("COALESCE(CAST({column} AS UNSIGNED), 'NULL')"),
        "float" => format!("COALESCE({column} * 1e0, 'NULL')"),
        _ => format!("QUOTE({column})"),
    }
}
