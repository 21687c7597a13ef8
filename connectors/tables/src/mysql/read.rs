//! Reads tables and queries on one snapshot. For several lanes as many sessions start their snapshot while the table
//! is locked against writers for a moment; a part is a range of an integer key. It never sorts and never reads ahead
//! of the caller.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{BatchLimits, BatchStream, Column, Result, Room, Source, Traffic};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, Fault, PartPlan};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::catalog::{self, Readable, Relation};
use super::client::{Client, literal, quoted};
use super::connect::{Purpose, connect};
use super::decode::Decoder;
use super::settings::Server;
use super::types::Form;
use crate::parts::{self, Active};

/// Below this many rows a table is not worth splitting by lanes alone.
const SPLIT_ROWS_MIN: u64 = 50_000;
/// Tables that the statistics call smaller than this are counted, as far as this.
const COUNT_ROWS_MAX: u64 = 200_000;
/// How long the moment of the lock may keep writers waiting.
const LOCK_SECONDS: u32 = 10;
/// Starts what is read; nothing in it may write.
const BEGIN: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

/// What a part reads: the rows whose key is in a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PartSpec {
    /// The condition; absent: all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
}

/// An opened table or query.
pub(super) struct MySqlSource {
    lanes: Lanes,
    columns: Vec<Column>,
    forms: Vec<Form>,
    /// Up to and without the condition.
    statement: String,
    parts: Vec<PartPlan>,
    rows_estimate: Option<u64>,
    label: String,
    notices: Vec<String>,
    traffic: Arc<Traffic>,
}

/// Sessions on the snapshot. A session that is lost cannot be replaced: the snapshot is its own.
#[derive(Clone)]
struct Lanes {
    idle: Arc<Mutex<Vec<Client>>>,
    free: Arc<Semaphore>,
    alive: Arc<AtomicUsize>,
    /// How many there were.
    count: usize,
}

/// A session on loan; it goes back by itself, or is lost if nobody knows what its server is about to say.
struct Lane {
    client: Option<Client>,
    permit: Option<OwnedSemaphorePermit>,
    /// Whether what the server says next are rows.
    in_rows: bool,
    lanes: Lanes,
}

impl Lanes {
    fn new(clients: Vec<Client>) -> Self {
        let count = clients.len();
        Lanes {
            idle: Arc::new(Mutex::new(clients)),
            free: Arc::new(Semaphore::new(count)),
            alive: Arc::new(AtomicUsize::new(count)),
            count,
        }
    }

    /// A session, as soon as one is free. One that was left in the middle of its rows gives the others first, for
    /// nothing else has its snapshot.
    async fn take(&self, packet_bytes_max: usize, traffic: &Traffic) -> Result<Lane> {
        loop {
            let permit = self.free.clone().acquire_owned().await.ok();
            let client = self.idle.lock().expect("no one panics while holding it").pop();
            let (Some(permit), Some(client)) = (permit, client) else {
                return Err(parts::snapshot_ended().into());
            };
            let mut lane = Lane { client: Some(client), permit: Some(permit), in_rows: false, lanes: self.clone() };
            if lane.drain(packet_bytes_max, traffic).await {
                return Ok(lane);
            }
        }
    }
}

impl Lane {
    /// Reads what was left of a result. `false` if the session broke.
    async fn drain(&mut self, packet_bytes_max: usize, traffic: &Traffic) -> bool {
        let Some(client) = &mut self.client else { return false };
        self.in_rows = !client.usable();
        while !client.usable() {
            match client.buffered_row(packet_bytes_max) {
                Ok(Some(Some(_))) => {}
                // Another result behind this one is not what was asked for.
                Ok(Some(None)) if client.usable() => {}
                Ok(None) if client.wire.fill(packet_bytes_max).await.is_ok() => {
                    traffic.add_bytes(client.wire.take_bytes_read());
                }
                _ => {
                    self.in_rows = false;
                    return false;
                }
            }
        }
        client.wire.shrink();
        self.in_rows = false;
        true
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        match self.client.take() {
            // One without its transaction would read another state.
            Some(mut client) if client.in_transaction() && (client.usable() || self.in_rows) => {
                client.wire.shrink();
                let mut idle = self.lanes.idle.lock().expect("no one panics while holding it");
                // What must be drained is taken last.
                let at = if client.usable() { idle.len() } else { 0 };
                idle.insert(at, client);
            }
            _ => {
                permit.forget();
                if self.lanes.alive.fetch_sub(1, Ordering::SeqCst) == 1 {
                    self.lanes.free.close();
                }
            }
        }
    }
}

impl MySqlSource {
    /// Opens what a job names.
    pub(super) async fn open(
        server: Arc<Server>,
        object: &StoreObject,
        lanes: usize,
        rows_per_part: u64,
    ) -> Result<Self> {
        let mut client = connect(&server, Purpose::Read).await?;
        match object {
            StoreObject::Table { schema, table } => {
                let schema = schema.as_ref().unwrap_or(&server.database).clone();
                let relation = catalog::relation(&mut client, &schema, table).await?;
                let relation = relation.ok_or_else(|| catalog::missing(&client.wire.place, &schema, table))?;
                let columns = catalog::table_columns(&mut client, &server, &relation.schema, &relation.name).await?;
                Self::table(&server, client, relation, columns, lanes, rows_per_part).await
            }
            StoreObject::Query { text } => {
                let text = text.trim().trim_end_matches(';').trim_end().to_owned();
                let columns = catalog::query_columns(&mut client, &server, &text).await?;
                // Only what must be read through an expression makes the query an inner one.
                let statement = if columns.iter().any(|column| column.reading.form == Form::Float32) {
                    format!("SELECT {} FROM ({text}\n) AS q", expressions(&columns))
                } else {
                    text
                };
                client.batch(BEGIN).await?;
                let whole = vec![part(0, "query".to_owned(), None)];
                let label = format!("{}/{}, query", client.wire.place, server.database);
                Ok(Self::new(vec![client], columns, statement, whole, None, label, Vec::new()))
            }
            StoreObject::Files { .. } => {
                Err(Fault::new("UserErrorSettings", "MariaDB and MySQL have tables, not files.").into())
            }
        }
    }

    /// Opens a table by the plan's columns and kinds.
    pub(super) async fn planned(
        server: &Server,
        schema: &str,
        table: &str,
        planned: &[ColumnPlan],
        lanes: usize,
    ) -> Result<Self> {
        let mut client = connect(server, Purpose::Read).await?;
        let relation = catalog::relation(&mut client, schema, table).await?;
        let relation = relation.ok_or_else(|| catalog::missing(&client.wire.place, schema, table))?;
        let found = catalog::table_columns(&mut client, server, schema, table).await?;
        let columns = catalog::as_planned(&found, planned, server)?;
        Self::table(server, client, relation, columns, lanes, 500_000).await
    }

    async fn table(
        server: &Server,
        mut client: Client,
        relation: Relation,
        columns: Vec<Readable>,
        lanes: usize,
        rows_per_part: u64,
    ) -> Result<Self> {
        if columns.is_empty() {
            return Err(Fault::new("UserErrorSchemaMismatch", "There is no column to read.").into());
        }
        let mut notices = Vec::new();
        let rows = rows(&mut client, &relation, rows_per_part).await?;
        let wanted = part_count(rows, lanes as u64, rows_per_part);
        let key = match wanted > 1 && relation.transactional {
            true => split_key(&mut client, &relation, server).await?,
            false => None,
        };
        if !relation.transactional && !relation.view {
            let message = "has no snapshots: rows that others change while it is read may be mixed";
            notices.push(format!("Engine {} of {} {message}.", relation.engine, relation.label()));
        }
        let mut sessions = Vec::new();
        if key.is_some() && lanes > 1 {
            sessions = snapshots(server, &mut client, &relation, lanes.min(wanted as usize)).await?;
            if sessions.is_empty() {
                let message = "may not be locked by this user, so one session reads all of it";
                notices.push(format!("Table {} {message}.", relation.label()));
            }
        }
        if sessions.is_empty() {
            client.batch(BEGIN).await?;
            sessions.push(client);
        }
        let parts = match &key {
            Some(key) => ranges(&mut sessions[0], &relation, key, wanted).await?,
            None => vec![part(0, relation.label(), None)],
        };
        let place = &sessions[0].wire.place;
        let label = format!("{place}/{}, table {}", server.database, relation.label());
        let statement = format!("SELECT {} FROM {}", expressions(&columns), relation.quoted());
        Ok(Self::new(sessions, columns, statement, parts, rows, label, notices))
    }

    fn new(
        sessions: Vec<Client>,
        columns: Vec<Readable>,
        statement: String,
        parts: Vec<PartPlan>,
        rows_estimate: Option<u64>,
        label: String,
        notices: Vec<String>,
    ) -> Self {
        MySqlSource {
            lanes: Lanes::new(sessions),
            forms: columns.iter().map(|column| column.reading.form).collect(),
            columns: columns.into_iter().map(|column| column.column).collect(),
            statement,
            parts,
            rows_estimate,
            label,
            notices,
            traffic: Arc::default(),
        }
    }
}

fn expressions(columns: &[Readable]) -> String {
    columns.iter().map(Readable::expression).collect::<Vec<_>>().join(", ")
}

fn part(index: u32, label: String, filter: Option<String>) -> PartPlan {
    parts::part(index, label, &PartSpec { filter })
}

/// Sessions whose snapshots are the same: while the table is locked against writers nothing of it can change, and
/// the lock waits for those that wrote to it. None where the user may not lock it.
async fn snapshots(server: &Server, locker: &mut Client, relation: &Relation, count: usize) -> Result<Vec<Client>> {
    let mut sessions = Vec::with_capacity(count);
    for _ in 0..count {
        sessions.push(connect(server, Purpose::Read).await?);
    }
    locker.batch(&format!("SET lock_wait_timeout = {LOCK_SECONDS}")).await?;
    if let Err(error) = locker.batch(&format!("LOCK TABLES {} READ", relation.quoted())).await {
        let refused = ["UserErrorPermission", "StoreErrorConflict"].contains(&error.fault.code.as_str());
        return if refused && locker.usable() { Ok(Vec::new()) } else { Err(error) };
    }
    for session in &mut sessions {
        session.batch(BEGIN).await?;
    }
    locker.batch("UNLOCK TABLES").await?;
    Ok(sessions)
}

/// Rows by the statistics; small tables, and those without, are counted.
async fn rows(client: &mut Client, relation: &Relation, rows_per_part: u64) -> Result<Option<u64>> {
    if relation.view || relation.rows.is_some_and(|rows| rows >= COUNT_ROWS_MAX) {
        return Ok(relation.rows);
    }
    let most = COUNT_ROWS_MAX.min(rows_per_part.saturating_mul(16));
    let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {} LIMIT {most}) AS q", relation.quoted());
    let counted: Option<u64> = client.query(&sql).await?.single().and_then(|count| count.parse().ok());
    Ok(counted.max(relation.rows))
}

fn part_count(rows: Option<u64>, lanes: u64, rows_per_part: u64) -> u64 {
    let rows = rows.unwrap_or(0);
    let by_lanes = if rows >= SPLIT_ROWS_MIN { lanes } else { 1 };
    parts::part_count(rows, by_lanes, rows_per_part)
}

/// The first column of the primary key, or without one of any index, if it is an integer.
async fn split_key(client: &mut Client, relation: &Relation, server: &Server) -> Result<Option<String>> {
    let sql = format!(
        "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} \
         AND SEQ_IN_INDEX = 1 AND INDEX_TYPE = 'BTREE' AND SUB_PART IS NULL ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME",
        literal(&relation.schema),
        literal(&relation.name)
    );
    let names = client.query(&sql).await?.rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
    let names: Vec<String> = names.collect();
    let columns = catalog::table_columns(client, server, &relation.schema, &relation.name).await?;
    let integer = |name: &String| catalog::find(&columns, name).is_some_and(|column| column.own.splits());
    // A primary key that is no integer decides the order of the rows: another index would jump about in them.
    let primary = columns.iter().any(|column| column.column.key);
    Ok(if primary { names.into_iter().next().filter(integer) } else { names.into_iter().find(integer) })
}

/// Ranges of equal width over the key.
async fn ranges(client: &mut Client, relation: &Relation, key: &str, count: u64) -> Result<Vec<PartPlan>> {
    let key = quoted(key);
    let sql = format!("SELECT MIN({key}), MAX({key}) FROM {}", relation.quoted());
    let row = client.query(&sql).await?.rows.into_iter().next().unwrap_or_default();
    let bound = |index: usize| row.get(index).and_then(Option::as_ref).and_then(|text| text.parse::<i128>().ok());
    let (Some(least), Some(most)) = (bound(0), bound(1)) else {
        return Ok(vec![part(0, relation.label(), None)]);
    };
    let width = most - least + 1;
    let count = i128::from(count).min(width);
    let edge = |index: i128| least + width * index / count;
    let ranges = (0..count).map(|index| {
        let (from, to) = (edge(index), edge(index + 1));
        let filter = match (index == 0, index + 1 == count) {
            (true, true) => None,
            // The snapshot is the same, but a condition that leaves nothing out cannot leave anything out.
            (true, false) => Some(format!("({key} < {to} OR {key} IS NULL)")),
            (false, true) => Some(format!("{key} >= {from}")),
            (false, false) => Some(format!("{key} >= {from} AND {key} < {to}")),
        };
        part(index as u32, format!("{} {key} {from} to {}", relation.label(), to - 1), filter)
    });
    Ok(ranges.collect())
}

#[async_trait]
impl Source for MySqlSource {
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

    /// Each part needs a session of the snapshot.
    fn at_once(&self) -> usize {
        self.lanes.count
    }

    /// The snapshot ends with this process.
    fn repeatable(&self) -> bool {
        false
    }

    async fn read(&self, part: &PartPlan, limits: BatchLimits) -> Result<BatchStream> {
        let spec: PartSpec = parts::spec(part, "MySQL")?;
        let filter = spec.filter.map_or(String::new(), |filter| format!(" WHERE {filter}"));
        let packet_bytes_max = limits.value_bytes.saturating_mul(2).clamp(64 * 1024, 1 << 30);
        let mut lane = self.lanes.take(packet_bytes_max, &self.traffic).await?;
        let client = lane.client.as_mut().expect("a lane just taken has its session");
        client.wire.count_waits(&self.traffic);
        let described = client.stream(&format!("{}{filter}", self.statement)).await?;
        lane.in_rows = true;
        if described.len() != self.columns.len() {
            let message = "The query yields other columns than a moment ago.";
            return Err(Fault::new("UserErrorSourceChanged", message).into());
        }
        let reader = PartReader {
            lane: Some(lane),
            decoder: Decoder::new(&self.columns, &self.forms, limits, &part.label),
            packet_bytes_max,
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
        let sessions = std::mem::take(&mut *self.lanes.idle.lock().expect("no one panics while holding it"));
        for mut session in sessions.into_iter().filter(Client::usable) {
            session.batch("COMMIT").await?;
        }
        Ok(())
    }
}

/// One part on its way. Dropped early, it leaves its session to who reads next, or to be closed with the source.
struct PartReader {
    /// Gone when the part is at its end.
    lane: Option<Lane>,
    decoder: Decoder,
    packet_bytes_max: usize,
    active: Active,
    /// For rows with large values.
    room: Room,
}

impl PartReader {
    /// The next batch; none at the end of the part.
    async fn batch(&mut self) -> Result<Option<RecordBatch>> {
        // The batch before has gone.
        self.room.give_back();
        while let Some(client) = self.lane.as_mut().and_then(|lane| lane.client.as_mut()) {
            let done = loop {
                // What is longer is looked at below, where as much of it is read as names the column.
                if client.wire.pending().is_some_and(|length| length > self.packet_bytes_max) {
                    break false;
                }
                match client.buffered_row(self.packet_bytes_max)? {
                    Some(Some(packet)) => {
                        self.decoder.row(client.wire.body(packet))?;
                        if self.decoder.full() {
                            if self.room.is_taken() {
                                client.wire.shrink();
                            }
                            return self.decoder.take().map(Some);
                        }
                    }
                    Some(None) => break true,
                    None => break false,
                }
            };
            if done {
                if let Some(mut lane) = self.lane.take() {
                    lane.in_rows = false;
                }
                break;
            }
            let pending = client.wire.pending().unwrap_or(0);
            self.room.pass(pending.min(self.packet_bytes_max)).await;
            if pending > self.packet_bytes_max {
                while client.wire.partial().len() < self.packet_bytes_max {
                    let before = client.wire.partial().len();
                    client.wire.fill(self.packet_bytes_max).await?;
                    if client.wire.partial().len() == before {
                        break;
                    }
                }
                return Err(self.decoder.oversized(client.wire.partial()));
            }
            client.wire.fill(self.packet_bytes_max).await?;
            self.active.add_bytes(client.wire.take_bytes_read());
        }
        if self.decoder.is_empty() { Ok(None) } else { self.decoder.take().map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_by_rows_and_lanes() {
        for (rows, lanes, expected) in
            [(Some(0), 2, 1), (Some(1000), 2, 1), (Some(60_000), 2, 2), (Some(6_000_000), 2, 12), (None, 2, 1)]
        {
            assert_eq!(part_count(rows, lanes, 500_000), expected, "{rows:?}");
        }
    }
}
