//! Checkpoints: which parts are staged. Each is a row in a table beside the staging table, written in one transaction
//! with the rows of its part; its key makes it impossible to stage a part twice. A later attempt takes both tables over
//! by one RENAME, which waits for whoever still writes: afterwards nobody finds them under the old names. Only where
//! the staging table has transactions.

use dmg_connector::{Checkpoint, Error, PartReport, Result, Resumption, Sums};
use dmg_protocol::Epoch;

use super::client::{Client, literal, quoted};
use super::commit;
use super::write::MySqlSink;
use crate::checkpoint::{self, damaged, fingerprint_of, read, staged_already, table_of, taken_over, values};

fn in_schema(sink: &MySqlSink, table: &str) -> String {
    format!("{}.{}", quoted(&sink.target.schema), quoted(table))
}

/// This attempt's table of checkpoints.
pub(super) fn own(sink: &MySqlSink) -> String {
    in_schema(sink, &table_of(&sink.staging()))
}

/// The statement that makes it, for the work of that fingerprint.
pub(super) fn statement(sink: &MySqlSink, fingerprint: &str) -> String {
    format!(
        "CREATE TABLE {} (part int unsigned NOT NULL PRIMARY KEY, `rows` bigint unsigned NOT NULL, \
         bytes bigint unsigned NOT NULL, `read` longtext NOT NULL) \
         ENGINE = InnoDB DEFAULT CHARACTER SET ascii COMMENT = {}",
        own(sink),
        literal(&key(sink, fingerprint))
    )
}

/// The statement that notes a part, inside its transaction.
pub(super) fn note(table: &str, part: u32, report: &PartReport, read: &Sums) -> String {
    format!("INSERT INTO {table} VALUES ({})", values(part, report, read, literal))
}

/// Says what it means that the note of a part was refused.
pub(super) fn explained(part: u32, error: Error) -> Error {
    if error.fault.code != "UserErrorDuplicateKey" {
        return error;
    }
    staged_already(part, error)
}

fn key(sink: &MySqlSink, fingerprint: &str) -> String {
    let target = format!("{:?} {:?} {:?}", sink.shape, sink.found, sink.definition);
    checkpoint::key(fingerprint, &target)
}

/// The checkpoint of one part, if its rows are staged.
pub(super) async fn find(sink: &MySqlSink, client: &mut Client, part: u32) -> Result<Option<Checkpoint>> {
    let kept = all(client, &format!("{} WHERE part = {part}", own(sink))).await.map_err(taken_over)?;
    Ok(kept.ok_or_else(|| damaged(part))?.pop())
}

/// Checkpoints; none at all where one is damaged.
async fn all(client: &mut Client, from: &str) -> Result<Option<Vec<Checkpoint>>> {
    let rows = client.query(&format!("SELECT part, `rows`, bytes, `read` FROM {from}")).await?.rows;
    Ok(rows.into_iter().map(read).collect())
}

/// Takes over what a lower epoch staged, if it is of the same work. Leaves it where it is otherwise.
pub(super) async fn adopt(sink: &MySqlSink, client: &mut Client, fingerprint: &str) -> Result<Resumption> {
    let Some((epoch, staging)) = commit::lower_staging(sink, client).await? else { return Ok(Resumption::default()) };
    let parts = table_of(&staging);
    let sql = format!(
        "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        literal(&sink.target.schema),
        literal(&parts)
    );
    // None: made by a version without checkpoints, or removed meanwhile.
    let Some(found) = client.query(&sql).await?.single() else { return Ok(Resumption::default()) };
    if found != key(sink, fingerprint) {
        return Ok(Resumption { other: fingerprint_of(&found), ..Resumption::default() });
    }
    let (own_rows, own_parts) = (sink.staging_quoted(), own(sink));
    client.batch(&format!("DROP TABLE IF EXISTS {own_rows}, {own_parts}")).await?;
    dmg_ambient::failpoint!("mysql.adopt", dmg_connector::cut());
    // Waits for transactions that still write there. From then on a lower epoch has staged all it ever will.
    let rename =
        format!("RENAME TABLE {} TO {own_rows}, {} TO {own_parts}", in_schema(sink, &staging), in_schema(sink, &parts));
    match client.batch(&rename).await {
        Ok(_) => {}
        Err(error) if error.fault.code == "UserErrorTableMissing" => return Ok(Resumption::default()),
        Err(error) => return Err(error),
    }
    dmg_ambient::failpoint!("mysql.adopted", dmg_connector::cut());
    match all(client, &own_parts).await? {
        Some(kept) => Ok(Resumption { from: Some(Epoch(epoch)), kept, other: None }),
        None => Ok(Resumption { other: Some(fingerprint.to_owned()), ..Resumption::default() }),
    }
}
