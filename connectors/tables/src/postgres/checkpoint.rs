//! Checkpoints: which parts are staged. Each is a row in a table beside the staging table, written in one transaction
//! with the rows of its part, so that rows and checkpoint are there together or not at all; its key makes it impossible
//! to stage a part twice. A later attempt takes both tables over by giving them its own names, under a lock that
//! nobody else can hold: whoever still knows the old names finds nothing to write to.

use dmg_connector::{Checkpoint, Error, PartReport, Result, Resumption, Sums};
use dmg_protocol::Epoch;

use super::catalog::quoted;
use super::client::Client;
use super::shape::literal;
use super::write::PostgresSink;
use super::{mark, sessions};
use crate::checkpoint::{self, damaged, fingerprint_of, read, staged_already, table_of, taken_over, values};

fn in_schema(sink: &PostgresSink, table: &str) -> String {
    format!("{}.{}", quoted(&sink.target.schema), quoted(table))
}

/// This attempt's table of checkpoints.
pub(super) fn own(sink: &PostgresSink) -> String {
    in_schema(sink, &table_of(&sink.staging()))
}

/// The statements that make it, for the work of that fingerprint; part of the statements that make the staging table.
pub(super) fn statements(sink: &PostgresSink, fingerprint: &str) -> String {
    let table = own(sink);
    format!(
        "CREATE TABLE {table} (part int PRIMARY KEY, rows bigint NOT NULL, bytes bigint NOT NULL, read text NOT NULL); \
         COMMENT ON TABLE {table} IS {}",
        literal(&key(sink, fingerprint))
    )
}

/// The statement that ends a part, inside its transaction.
pub(super) fn note(table: &str, part: u32, report: &PartReport, read: &Sums) -> String {
    format!("INSERT INTO {table} VALUES ({}); COMMIT", values(part, report, read, literal))
}

/// Says what it means that the note of a part was refused.
pub(super) fn explained(part: u32, error: Error) -> Error {
    if error.fault.context.get("sqlState").is_none_or(|state| state != "23505") {
        return error;
    }
    staged_already(part, error)
}

fn key(sink: &PostgresSink, fingerprint: &str) -> String {
    // The statement of a procedure names the staging table, and that has another name in each epoch.
    let target = format!("{:?} {:?}", sink.way, sink.found).replace(&sink.staging(), "");
    checkpoint::key(fingerprint, &target)
}

/// The checkpoint of one part, if its rows are staged.
pub(super) async fn find(sink: &PostgresSink, client: &mut Client, part: u32) -> Result<Option<Checkpoint>> {
    let sql = format!("SELECT part, rows, bytes, read FROM {} WHERE part = $1::int", own(sink));
    let rows = client.query(&sql, &[Some(&part.to_string())]).await.map_err(taken_over)?.rows;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    read(row).ok_or_else(|| damaged(part)).map(Some)
}

/// Takes over what a lower epoch staged, if it is of the same work. Leaves it where it is otherwise.
pub(super) async fn adopt(sink: &PostgresSink, client: &mut Client, fingerprint: &str) -> Result<Resumption> {
    let lower = mark::staging_tables(sink, client).await?.into_iter();
    let lower = lower.filter(|(epoch, _)| *epoch < sink.request.attempt.epoch);
    let Some((epoch, staging)) = lower.max() else { return Ok(Resumption::default()) };
    let found = locked(sink, client, epoch, &staging, fingerprint).await;
    if client.usable() && !matches!(&found, Ok(found) if found.from.is_some()) {
        client.batch("ROLLBACK").await?;
    }
    match found {
        // Made by a version without checkpoints, or removed meanwhile.
        Err(error) if error.fault.code == "UserErrorTableMissing" => Ok(Resumption::default()),
        found => found,
    }
}

/// The same, in a transaction of its own that is left open if nothing is taken over.
async fn locked(
    sink: &PostgresSink,
    client: &mut Client,
    epoch: Epoch,
    staging: &str,
    fingerprint: &str,
) -> Result<Resumption> {
    let (rows, parts) = (in_schema(sink, staging), in_schema(sink, &table_of(staging)));
    let lock = format!("BEGIN; LOCK TABLE {rows}, {parts} IN ACCESS EXCLUSIVE MODE");
    sessions::insist(client, &sink.server.place(), &sink.request.attempt, &lock).await?;
    // From here on a lower epoch has staged all it ever will: what it had not committed is gone with its session.
    let sql = "SELECT obj_description($1::regclass, 'pg_class')";
    let found = client.query(sql, &[Some(&parts)]).await?.single().unwrap_or_default();
    if found != key(sink, fingerprint) {
        return Ok(Resumption { other: fingerprint_of(&found), ..Resumption::default() });
    }
    let kept = client.query(&format!("SELECT part, rows, bytes, read FROM {parts}"), &[]).await?.rows;
    let Some(kept) = kept.into_iter().map(read).collect::<Option<Vec<_>>>() else {
        return Ok(Resumption { other: Some(fingerprint.to_owned()), ..Resumption::default() });
    };
    let (own_rows, own_parts) = (sink.staging(), table_of(&sink.staging()));
    let sql = format!(
        "DROP TABLE IF EXISTS {}, {}; ALTER TABLE {rows} RENAME TO {}; ALTER TABLE {parts} RENAME TO {}",
        in_schema(sink, &own_rows),
        in_schema(sink, &own_parts),
        quoted(&own_rows),
        quoted(&own_parts)
    );
    client.batch(&sql).await?;
    dmg_ambient::failpoint!("postgres.adopt", dmg_connector::cut());
    client.batch("COMMIT").await?;
    dmg_ambient::failpoint!("postgres.adopted", dmg_connector::cut());
    Ok(Resumption { from: Some(epoch), kept, other: None })
}
