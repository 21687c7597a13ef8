//! Reads tables and queries: one exported snapshot, and as many sessions on it as there are lanes. A part is a range
//! of blocks, read by binary COPY and decoded in place. It never sorts and never reads ahead of the caller.

use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{BatchLimits, BatchStream, Column, Result, Room, Source, Traffic};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, Fault, PartPlan};
use serde::{Deserialize, Serialize};

use super::catalog::{self, Readable, Relation};
use super::client::Client;
use super::connect::connect;
use super::decode::Decoder;
use super::errors;
use super::settings::Server;
use super::types::Form;
use crate::parts::{self, Active, part};

/// Below this many blocks a table is not worth splitting: 8 MiB.
const SPLIT_BLOCKS_MIN: u64 = 1024;
/// Blocks looked at to guess the rows of a table without statistics.
const SAMPLE_BLOCKS: u64 = 16;
/// The 11 bytes a binary COPY starts with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// What a part reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PartSpec {
    /// What follows FROM; absent for the source's query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// First block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    /// Block behind the last; absent: to the end, however far it grew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
}

/// An opened table or query.
pub(super) struct PostgresSource {
    server: Arc<Server>,
    /// Holds the snapshot.
    control: tokio::sync::Mutex<Option<Client>>,
    snapshot: String,
    /// Sessions on the snapshot that no part uses now.
    idle: Arc<Mutex<Vec<Client>>>,
    columns: Vec<Column>,
    forms: Vec<Form>,
    /// What follows SELECT.
    select: String,
    query: Option<String>,
    parts: Vec<PartPlan>,
    rows_estimate: Option<u64>,
    label: String,
    notices: Vec<String>,
    traffic: Arc<Traffic>,
}

/// What is read, besides which columns.
enum Body {
    Table(Relation),
    Query(String),
}

impl PostgresSource {
    /// Opens what a job names.
    pub(super) async fn open(
        server: Arc<Server>,
        object: &StoreObject,
        lanes: usize,
        rows_per_part: u64,
    ) -> Result<Self> {
        let (mut client, snapshot) = snapshot(&server).await?;
        let (body, columns) = match object {
            StoreObject::Table { schema, table } => {
                let relation = catalog::relation(&mut client, schema.as_deref(), table).await?;
                let relation = relation.ok_or_else(|| catalog::missing(&server.place(), schema.as_deref(), table))?;
                let columns = catalog::table_columns(&mut client, &relation).await?;
                (Body::Table(relation), columns)
            }
            StoreObject::Query { text } => {
                let text = text.trim().trim_end_matches(';').trim_end().to_owned();
                let columns = catalog::query_columns(&mut client, &text).await?;
                (Body::Query(text), columns)
            }
            StoreObject::Files { .. } => {
                return Err(Fault::new("UserErrorSettings", "PostgreSQL has tables, not files.").into());
            }
        };
        Self::new(server, client, snapshot, body, columns, lanes, rows_per_part).await
    }

    /// Opens a table by the plan's columns and kinds.
    pub(super) async fn planned(
        server: Arc<Server>,
        schema: &str,
        table: &str,
        planned: &[ColumnPlan],
        lanes: usize,
    ) -> Result<Self> {
        let (mut client, snapshot) = snapshot(&server).await?;
        let relation = catalog::relation(&mut client, Some(schema), table).await?;
        let relation = relation.ok_or_else(|| catalog::missing(&server.place(), Some(schema), table))?;
        let found = catalog::table_columns(&mut client, &relation).await?;
        let columns = catalog::as_planned(&found, planned)?;
        Self::new(server, client, snapshot, Body::Table(relation), columns, lanes, 500_000).await
    }

    async fn new(
        server: Arc<Server>,
        mut client: Client,
        snapshot: String,
        body: Body,
        columns: Vec<Readable>,
        lanes: usize,
        rows_per_part: u64,
    ) -> Result<Self> {
        if columns.is_empty() {
            let message = "There is no column to read: the table has none, or the query yields no rows by its nature.";
            return Err(Fault::new("UserErrorSchemaMismatch", message).into());
        }
        let mut notices = Vec::new();
        let (parts, rows_estimate, what, query) = match body {
            Body::Table(relation) => {
                if relation.row_security {
                    notices.push(format!("Row security is active on {}: hidden rows are not read.", relation.label()));
                }
                let (parts, rows) = plan_parts(&mut client, &relation, lanes, rows_per_part).await?;
                (parts, rows, format!("table {}", relation.label()), None)
            }
            Body::Query(text) => {
                let spec = PartSpec { from: None, first: None, end: None };
                (vec![part(0, "query".to_owned(), &spec)], None, "query".to_owned(), Some(text))
            }
        };
        let select = columns.iter().map(Readable::expression).collect::<Vec<_>>().join(", ");
        let label = format!("{}/{}, {what}", server.place(), server.database);
        Ok(PostgresSource {
            server,
            control: tokio::sync::Mutex::new(Some(client)),
            snapshot,
            idle: Arc::default(),
            forms: columns.iter().map(|column| column.reading.form).collect(),
            columns: columns.into_iter().map(|column| column.column).collect(),
            select,
            query,
            parts,
            rows_estimate,
            label,
            notices,
            traffic: Arc::default(),
        })
    }

    /// A session on the snapshot.
    async fn lane(&self) -> Result<Client> {
        let idle = self.idle.lock().expect("no one panics while holding it").pop();
        if let Some(client) = idle {
            return Ok(client);
        }
        let mut client = connect(&self.server).await?;
        // The name of a snapshot is hex digits and dashes, from the server itself.
        let sql = format!(
            "SET jit = off; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'",
            self.snapshot.replace('\'', "")
        );
        match client.batch(&sql).await {
            Ok(()) => Ok(client),
            // The server knows no such snapshot any more; there is no other that has these rows.
            Err(error) if client.usable() => Err(dmg_connector::Error::caused(parts::snapshot_ended(), error)),
            Err(error) => Err(error),
        }
    }

    fn statement(&self, spec: &PartSpec) -> String {
        let from = match (&spec.from, &self.query) {
            (Some(from), _) => from.clone(),
            (None, query) => format!("({}\n) AS q", query.as_deref().unwrap_or_default()),
        };
        let mut conditions = Vec::new();
        if let Some(first) = spec.first.filter(|first| *first > 0) {
            conditions.push(format!("ctid >= '({first},0)'::tid"));
        }
        if let Some(end) = spec.end {
            conditions.push(format!("ctid < '({end},0)'::tid"));
        }
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        format!("COPY (SELECT {} FROM {from}{filter}) TO STDOUT (FORMAT binary)", self.select)
    }
}

/// Opens the session that holds the snapshot, and gives the snapshot's name.
async fn snapshot(server: &Arc<Server>) -> Result<(Client, String)> {
    let mut client = connect(server).await?;
    client.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let name = client.query("SELECT pg_export_snapshot()", &[]).await?.single();
    let name = name.ok_or_else(|| errors::garbled(&server.place(), "no name for a snapshot"))?;
    Ok((client, name))
}

/// Splits a table, or each leaf of a partitioned one, into block ranges of about `rows_per_part` rows, at least one per lane where that pays.
async fn plan_parts(
    client: &mut Client,
    parent: &Relation,
    lanes: usize,
    rows_per_part: u64,
) -> Result<(Vec<PartPlan>, Option<u64>)> {
    let relations = match parent.kind {
        'p' => catalog::leaves(client, &parent.oid).await?,
        _ => vec![parent.clone()],
    };
    let mut parts = Vec::new();
    let mut total = Some(0_u64);
    for relation in &relations {
        let rows = match relation.rows {
            Some(rows) => Some(rows),
            None => guess_rows(client, relation).await?,
        };
        total = total.zip(rows).map(|(total, rows)| total + rows);
        let whole = matches!(relation.kind, 'v' | 'f') || relation.inherited || client.version < 14;
        let share = if relations.len() > 1 { 1 } else { lanes as u64 };
        let count = if whole { 1 } else { part_count(relation.blocks, rows, share, rows_per_part) };
        let from = if relation.inherited || matches!(relation.kind, 'v' | 'f') {
            relation.quoted()
        } else {
            format!("ONLY {}", relation.quoted())
        };
        for index in 0..count {
            let first = relation.blocks * index / count;
            let end = (index + 1 < count).then_some(relation.blocks * (index + 1) / count);
            let label = match (count, end) {
                (1, _) => relation.label(),
                (_, Some(end)) => format!("{} blocks {first} to {}", relation.label(), end - 1),
                (_, None) => format!("{} from block {first}", relation.label()),
            };
            let spec = PartSpec { from: Some(from.clone()), first: (count > 1).then_some(first), end };
            parts.push(part(parts.len() as u32, label, &spec));
        }
    }
    if parts.is_empty() {
        // A partitioned table without partitions has no row.
        let spec = PartSpec { from: Some(format!("ONLY {}", parent.quoted())), first: None, end: None };
        parts.push(part(0, "no partition".to_owned(), &spec));
    }
    Ok((parts, total))
}

fn part_count(blocks: u64, rows: Option<u64>, lanes: u64, rows_per_part: u64) -> u64 {
    let by_lanes = if blocks >= SPLIT_BLOCKS_MIN { lanes } else { 1 };
    parts::part_count(rows.unwrap_or(0), by_lanes, rows_per_part).min(blocks.max(1))
}

/// Rows of a table without statistics, from its first blocks.
async fn guess_rows(client: &mut Client, relation: &Relation) -> Result<Option<u64>> {
    if !matches!(relation.kind, 'r' | 'm') || client.version < 14 {
        return Ok(None);
    }
    let sql = format!("SELECT count(*) FROM ONLY {} WHERE ctid < '({SAMPLE_BLOCKS},0)'::tid", relation.quoted());
    let seen: Option<u64> = client.query(&sql, &[]).await?.single().and_then(|count| count.parse().ok());
    let looked_at = relation.blocks.clamp(1, SAMPLE_BLOCKS);
    Ok(seen.map(|seen| seen * relation.blocks.max(1) / looked_at))
}

#[async_trait]
impl Source for PostgresSource {
    fn label(&self) -> String {
        self.label.clone()
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn parts(&self) -> &[PartPlan] {
        &self.parts
    }

    fn rows_estimate(&self) -> Option<u64> {
        self.rows_estimate
    }

    /// The snapshot ends with this process.
    fn repeatable(&self) -> bool {
        false
    }

    async fn read(&self, part: &PartPlan, limits: BatchLimits) -> Result<BatchStream> {
        let spec: PartSpec = parts::spec(part, "PostgreSQL")?;
        let mut client = self.lane().await?;
        client.wire.count_waits(&self.traffic);
        client.copy_out(&self.statement(&spec)).await?;
        let reader = PartReader {
            client: Some(client),
            decoder: Decoder::new(&self.columns, &self.forms, limits, &part.label),
            frame_bytes_max: limits.value_bytes.saturating_mul(2).clamp(64 * 1024, 1 << 30),
            started: false,
            idle: self.idle.clone(),
            active: Active::new(self.traffic.clone()),
            room: Room::here(),
        };
        Ok(Box::pin(futures::stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.batch().await?.map(|batch| (batch, reader)))
        })))
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    async fn finish(&self) -> Result<()> {
        let lanes = std::mem::take(&mut *self.idle.lock().expect("no one panics while holding it"));
        drop(lanes);
        if let Some(mut client) = self.control.lock().await.take() {
            // Every part was read on the snapshot to its end; a holder that is lost by now held it long enough.
            let _ = client.batch("COMMIT").await;
        }
        Ok(())
    }
}

/// One part on its way. Dropped early, it closes its session and has the server stop.
struct PartReader {
    /// Gone when the part is at its end.
    client: Option<Client>,
    decoder: Decoder,
    frame_bytes_max: usize,
    /// Whether the header of the stream was seen.
    started: bool,
    idle: Arc<Mutex<Vec<Client>>>,
    active: Active,
    /// For rows with large values.
    room: Room,
}

impl PartReader {
    /// The next batch; none at the end of the part.
    async fn batch(&mut self) -> Result<Option<RecordBatch>> {
        // The batch before has gone.
        self.room.give_back();
        while let Some(client) = self.client.as_mut() {
            let done = loop {
                let Some(frame) = client.wire.buffered(u32::MAX as usize)? else { break false };
                match frame.tag {
                    b'd' => {
                        let mut body = client.wire.body(frame);
                        if !self.started {
                            body = after_header(body)
                                .ok_or_else(|| errors::garbled(&client.wire.place, "a COPY without its header"))?;
                            self.started = true;
                        }
                        if self.decoder.row(body)? && self.decoder.full() {
                            if self.room.is_taken() {
                                client.wire.shrink();
                            }
                            return self.decoder.take().map(Some);
                        }
                    }
                    b'E' => return Err(client.fail(frame).await),
                    b'Z' => {
                        client.ready(frame);
                        break true;
                    }
                    _ => {}
                }
            };
            if done {
                self.finish_part();
                break;
            }
            let pending = client.wire.pending();
            self.room.pass(pending.map_or(0, |(_, length)| length.min(self.frame_bytes_max))).await;
            if let Some((tag, length)) = pending
                && length > self.frame_bytes_max
            {
                if tag != b'd' {
                    return Err(errors::garbled(&client.wire.place, "a message that is too large"));
                }
                // As much of the row as memory allows, to name the column.
                while client.wire.partial().len() < self.frame_bytes_max {
                    client.wire.fill(self.frame_bytes_max).await?;
                }
                let partial = client.wire.partial();
                let row = if self.started { partial } else { after_header(partial).unwrap_or_default() };
                return Err(self.decoder.oversized(row));
            }
            client.wire.fill(self.frame_bytes_max).await?;
            self.active.add_bytes(client.wire.take_bytes_read());
        }
        if self.decoder.is_empty() { Ok(None) } else { self.decoder.take().map(Some) }
    }

    /// Gives the session back, if its transaction is sound.
    fn finish_part(&mut self) {
        if let Some(mut client) = self.client.take()
            && client.usable()
            && client.in_transaction()
        {
            client.wire.shrink();
            self.idle.lock().expect("no one panics while holding it").push(client);
        }
    }
}

/// What follows the header of a binary COPY.
fn after_header(body: &[u8]) -> Option<&[u8]> {
    let rest = body.strip_prefix(SIGNATURE)?;
    let (_flags, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    rest.get(u32::from_be_bytes(*length) as usize..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_by_rows_and_lanes() {
        for (blocks, rows, lanes, expected) in [
            (0, Some(0), 2, 1),
            (10, Some(1000), 2, 1),
            (1024, Some(1000), 2, 2),
            (112_000, Some(6_000_000), 2, 12),
            (112_000, None, 2, 2),
            (3, Some(10_000_000), 2, 3),
        ] {
            assert_eq!(part_count(blocks, rows, lanes, 500_000), expected, "{blocks} blocks");
        }
    }
}
