//! What a database file holds: tables, views and their columns.

use std::path::PathBuf;

use dmg_connector::Result;
use dmg_protocol::Fault;
use dmg_protocol::job::ListedTable;

use super::errors::error;
use super::read::{blocking, connect};

/// Tables and views, sorted by name, those of the system and of ours left out.
pub(super) async fn tables(path: PathBuf, schema: Option<&str>, limit: usize) -> Result<Vec<ListedTable>> {
    if let Some(schema) = schema.filter(|schema| !schema.eq_ignore_ascii_case("main")) {
        let message = format!("SQLite {} has no schema \"{schema}\".", path.display());
        return Err(Fault::new("UserErrorSettings", message).remedy("Its one schema is main.").into());
    }
    blocking(move || {
        let failed = |e| error(&path, e);
        let connection = connect(&path)?;
        let sql = "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
             AND name NOT LIKE '\\_dmg\\_%' ESCAPE '\\' AND name NOT LIKE '\\_\\_dmg\\_%' ESCAPE '\\' ORDER BY name LIMIT ?1";
        let mut statement = connection.prepare(sql).map_err(failed)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let listed = statement.query_map([limit], |row| {
            Ok(ListedTable {
                schema: Some("main".to_owned()),
                name: row.get(0)?,
                kind: row.get(1)?,
                rows_estimate: None,
                bytes: None,
            })
        });
        listed.and_then(Iterator::collect).map_err(failed)
    })
    .await
}
