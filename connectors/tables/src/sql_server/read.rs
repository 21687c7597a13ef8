//! Reads tables, queries and the rows of procedures. Where the database allows snapshots, all sessions of a source
//! begin theirs while nobody can write to the table, so that they see the same, and a large table is read in ranges
//! of its leading key. Else one session reads as the database lets it, and says so. It never sorts.

use std::sync::Arc;

use async_trait::async_trait;
use dmg_connector::{BatchLimits, BatchStream, Column, Result, Source, Traffic};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, Fault, Kind, PartPlan};
use serde::{Deserialize, Serialize};

use super::catalog::{self, Readable, Relation, quoted, texts};
use super::connect::connect;
use super::decode::Decoder;
use super::driver::Driver;
use super::pool::Pool;
use super::settings::{Isolation, Server};
use super::types::Form;
use crate::parts::{self, part};

/// Below this many rows a table is not worth splitting.
const SPLIT_ROWS_MIN: u64 = 10_000;
/// How long writers may keep us from the moment in which all snapshots begin.
const STANDSTILL_MILLISECONDS: u32 = 5_000;
/// What a part reads: rows whose key is at least `from` and below `to`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PartSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<i64>,
}

/// An opened table or query.
pub(super) struct SqlServerSource {
    pool: Arc<Pool>,
    columns: Vec<Column>,
    forms: Vec<Form>,
    body: Body,
    parts: Vec<PartPlan>,
    rows_estimate: Option<u64>,
    label: String,
    notices: Vec<String>,
    traffic: Arc<Traffic>,
}

/// What is read.
enum Body {
    /// Select list and table.
    Table { select: String, from: String },
    /// The author's own text.
    Query(String),
}

/// What the database says of itself.
struct Database {
    snapshots: bool,
    versioned: bool,
    synapse: bool,
}

impl SqlServerSource {
    /// Opens what a job names.
    pub(super) async fn open(
        server: Arc<Server>,
        object: &StoreObject,
        lanes: usize,
        rows_per_part: u64,
    ) -> Result<Self> {
        let mut session = connect(&server).await?;
        match object {
            StoreObject::Table { schema, table } => {
                let relation = catalog::relation(session.as_mut(), schema.as_deref(), table).await?;
                let relation = relation.ok_or_else(|| catalog::missing(&server.place(), schema.as_deref(), table))?;
                if !matches!(relation.kind.as_str(), "U" | "V") {
                    // A synonym or function: the server describes it like a query.
                    let text = format!("SELECT * FROM {}", relation.quoted());
                    return Self::query(server, session, text, format!("table {}", relation.label())).await;
                }
                let columns = catalog::table_columns(session.as_mut(), &relation).await?;
                Self::table(server, session, relation, columns, lanes, rows_per_part, true).await
            }
            StoreObject::Query { text } => {
                let text = text.trim().trim_end_matches(';').trim_end().to_owned();
                Self::query(server, session, text, "query".to_owned()).await
            }
            StoreObject::Files { .. } => {
                Err(Fault::new("UserErrorSettings", "SQL Server has tables, not files.").into())
            }
        }
    }

    /// Opens a table by the plan's columns and kinds. `still`: nobody else writes to it.
    pub(super) async fn planned(
        server: Arc<Server>,
        schema: &str,
        table: &str,
        planned: &[ColumnPlan],
        lanes: usize,
        still: bool,
    ) -> Result<Self> {
        let mut session = connect(&server).await?;
        let relation = catalog::relation(session.as_mut(), Some(schema), table).await?;
        let relation = relation.ok_or_else(|| catalog::missing(&server.place(), Some(schema), table))?;
        let found = catalog::table_columns(session.as_mut(), &relation).await?;
        let columns = catalog::as_planned(&found, planned)?;
        Self::table(server, session, relation, columns, lanes, 500_000, !still).await
    }

    async fn table(
        server: Arc<Server>,
        mut session: Box<dyn Driver>,
        relation: Relation,
        columns: Vec<Readable>,
        lanes: usize,
        rows_per_part: u64,
        isolated: bool,
    ) -> Result<Self> {
        if columns.is_empty() {
            let message = format!("Table {} has no column to read.", relation.label());
            return Err(Fault::new("UserErrorSchemaMismatch", message).into());
        }
        let from = relation.quoted();
        let is_table = relation.kind == "U";
        let rows_estimate = if is_table { catalog::rows_estimate(session.as_mut(), &relation).await? } else { None };
        let mut notices = Vec::new();
        let mut sessions = vec![session];
        let mut key = None;
        if isolated {
            let database = database(sessions[0].as_mut()).await?;
            let isolation = isolation(&server, &database, &mut notices);
            let large = rows_estimate.is_some_and(|rows| rows >= SPLIT_ROWS_MIN);
            if isolation == Some(Isolation::Snapshot) && large && lanes > 1 {
                key = splitting_key(sessions[0].as_mut(), &relation, &columns).await?;
            }
            if let Some(isolation) = isolation {
                for _ in 1..if key.is_some() { lanes } else { 1 } {
                    sessions.push(connect(&server).await?);
                }
                for session in &mut sessions {
                    begin(session.as_mut(), isolation).await?;
                }
                if key.is_some() && !together(&server, &mut sessions, &from).await? {
                    sessions.truncate(1);
                    key = None;
                    notices.push(format!(
                        "Writers held table {} for so long that it is read by one session instead of {lanes}.",
                        relation.label()
                    ));
                }
                look(sessions[0].as_mut(), &from).await?;
            }
        }
        let parts = match key {
            Some(key) => {
                let count = part_count(rows_estimate.unwrap_or(0), lanes as u64, rows_per_part);
                ranges(sessions[0].as_mut(), &relation, &key, count).await?
            }
            None => vec![part(0, relation.label(), &PartSpec::default())],
        };
        let select = columns.iter().map(Readable::expression).collect::<Vec<_>>().join(", ");
        let label = format!("{}/{}, table {}", server.place(), server.database, relation.label());
        let body = Body::Table { select, from };
        Ok(Self::new(sessions, columns, body, parts, rows_estimate, label, notices))
    }

    async fn query(server: Arc<Server>, mut session: Box<dyn Driver>, text: String, what: String) -> Result<Self> {
        let columns = catalog::query_columns(session.as_mut(), &text).await?;
        let database = database(session.as_mut()).await?;
        let mut notices = Vec::new();
        if let Some(isolation) = isolation(&server, &database, &mut notices) {
            begin(session.as_mut(), isolation).await?;
        }
        let label = format!("{}/{}, {what}", server.place(), server.database);
        let parts = vec![part(0, what, &PartSpec::default())];
        Ok(Self::new(vec![session], columns, Body::Query(text), parts, None, label, notices))
    }

    fn new(
        sessions: Vec<Box<dyn Driver>>,
        columns: Vec<Readable>,
        body: Body,
        parts: Vec<PartPlan>,
        rows_estimate: Option<u64>,
        label: String,
        notices: Vec<String>,
    ) -> Self {
        SqlServerSource {
            pool: Pool::new(sessions),
            forms: columns.iter().map(|column| column.form).collect(),
            columns: columns.into_iter().map(|column| column.column).collect(),
            body,
            parts,
            rows_estimate,
            label,
            notices,
            traffic: Arc::default(),
        }
    }

    fn statement(&self, spec: &PartSpec) -> String {
        match &self.body {
            Body::Query(text) => text.clone(),
            Body::Table { select, from } => statement(select, from, spec),
        }
    }
}

fn statement(select: &str, from: &str, spec: &PartSpec) -> String {
    let key = quoted(spec.key.as_deref().unwrap_or_default());
    let bounds = [(spec.from, ">="), (spec.to, "<")];
    let conditions: Vec<String> =
        bounds.into_iter().filter_map(|(bound, sign)| bound.map(|bound| format!("{key} {sign} {bound}"))).collect();
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("SELECT {select} FROM {from}{filter}")
}

async fn database(session: &mut dyn Driver) -> Result<Database> {
    let sql = "SELECT snapshot_isolation_state, is_read_committed_snapshot_on, \
         CAST(SERVERPROPERTY('EngineEdition') AS int) FROM sys.databases WHERE database_id = DB_ID()";
    let row = session.batch(sql).await?.into_iter().next().unwrap_or_default();
    let mut next = texts(row);
    let (snapshots, versioned) = (next() == "1", next() == "1");
    Ok(Database { snapshots, versioned, synapse: catalog::SYNAPSE.contains(&next().as_str()) })
}

/// How to read: as the author says, else on a snapshot if there can be one. `None`: without a transaction.
fn isolation(server: &Server, database: &Database, notices: &mut Vec<String>) -> Option<Isolation> {
    if let Some(isolation) = server.isolation {
        return Some(isolation);
    }
    if database.snapshots && !database.synapse {
        return Some(Isolation::Snapshot);
    }
    notices.push(if database.synapse {
        "This engine has no snapshot that lasts over statements: rows are read as they are committed.".to_owned()
    } else if database.versioned {
        "The database allows no snapshot isolation: each statement of this copy sees its own moment.".to_owned()
    } else {
        "The database allows no snapshot isolation: rows that others change while they are read may be missed or read \
         twice. ALTER DATABASE ... SET ALLOW_SNAPSHOT_ISOLATION ON prevents that."
            .to_owned()
    });
    if database.synapse { None } else { Some(Isolation::ReadCommitted) }
}

async fn begin(session: &mut dyn Driver, isolation: Isolation) -> Result<()> {
    let sql = format!("SET TRANSACTION ISOLATION LEVEL {}; BEGIN TRANSACTION", isolation.words());
    session.batch(&sql).await.map(drop)
}

/// The first look at data begins a snapshot.
async fn look(session: &mut dyn Driver, from: &str) -> Result<()> {
    session.batch(&format!("SELECT TOP (1) 1 AS one FROM {from}")).await.map(drop)
}

/// Begins the snapshots of all sessions while the table is locked against writers; `false` if the lock was not to be
/// had.
async fn together(server: &Server, sessions: &mut [Box<dyn Driver>], from: &str) -> Result<bool> {
    let mut guard = connect(server).await?;
    let lock = format!(
        "SET LOCK_TIMEOUT {STANDSTILL_MILLISECONDS}; BEGIN TRANSACTION; \
         SELECT TOP (1) 1 AS one FROM {from} WITH (TABLOCK, HOLDLOCK)"
    );
    match guard.batch(&lock).await {
        Ok(_) => {}
        Err(error) if error.fault.code == "StoreErrorConflict" => return Ok(false),
        Err(error) => return Err(error),
    }
    for session in sessions {
        look(session.as_mut(), from).await?;
    }
    guard.batch("ROLLBACK TRANSACTION").await?;
    Ok(true)
}

/// The column by which a table can be cut into ranges: a whole number that is never NULL and leads an index.
async fn splitting_key(session: &mut dyn Driver, relation: &Relation, columns: &[Readable]) -> Result<Option<String>> {
    let Some(name) = catalog::leading_column(session, relation).await? else { return Ok(None) };
    let fits = |found: &&Readable| {
        let whole = matches!(found.column.kind, Kind::UInt8 | Kind::Int16 | Kind::Int32 | Kind::Int64);
        found.column.name == name && whole && !found.column.nullable
    };
    Ok(columns.iter().find(fits).map(|found| found.column.name.clone()))
}

fn part_count(rows: u64, lanes: u64, rows_per_part: u64) -> u64 {
    let by_lanes = if rows >= SPLIT_ROWS_MIN { lanes } else { 1 };
    parts::part_count(rows, by_lanes, rows_per_part)
}

/// Ranges of about the same width over what the key covers now. The first and the last are open, so that no row is
/// outside.
async fn ranges(session: &mut dyn Driver, relation: &Relation, key: &str, count: u64) -> Result<Vec<PartPlan>> {
    let column = quoted(key);
    let sql = format!("SELECT CAST(MIN({column}) AS bigint), CAST(MAX({column}) AS bigint) FROM {}", relation.quoted());
    let mut next = texts(session.batch(&sql).await?.into_iter().next().unwrap_or_default());
    let bounds: (Option<i64>, Option<i64>) = (next().parse().ok(), next().parse().ok());
    let (Some(least), Some(most)) = bounds else {
        return Ok(vec![part(0, relation.label(), &PartSpec::default())]);
    };
    let cuts = cuts(least, most, count);
    let mut parts = Vec::with_capacity(cuts.len() + 1);
    for index in 0..=cuts.len() {
        let (from, to) = (index.checked_sub(1).map(|before| cuts[before]), cuts.get(index).copied());
        let label = match (from, to) {
            (None, None) => relation.label(),
            (None, Some(to)) => format!("{} {key} below {to}", relation.label()),
            (Some(from), Some(to)) => format!("{} {key} {from} to {}", relation.label(), to - 1),
            (Some(from), None) => format!("{} {key} from {from}", relation.label()),
        };
        parts.push(part(index as u32, label, &PartSpec { key: Some(key.to_owned()), from, to }));
    }
    Ok(parts)
}

/// Where ranges begin, the first left out.
fn cuts(least: i64, most: i64, count: u64) -> Vec<i64> {
    let width = i128::from(most) - i128::from(least) + 1;
    let count = i128::from(count).min(width);
    (1..count).map(|index| (i128::from(least) + width * index / count) as i64).collect()
}

#[async_trait]
impl Source for SqlServerSource {
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
        self.pool.count()
    }

    /// Snapshots end with this process.
    fn repeatable(&self) -> bool {
        false
    }

    async fn read(&self, part: &PartPlan, limits: BatchLimits) -> Result<BatchStream> {
        let spec: PartSpec = parts::spec(part, "SQL Server")?;
        let (session, lease) = self.pool.take(&self.traffic).await?;
        let decoder = Decoder::new(&self.columns, &self.forms, limits, &part.label);
        Ok(session.read(self.statement(&spec), decoder, Box::new(lease)))
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    fn notices(&self) -> Vec<String> {
        self.notices.clone()
    }

    async fn finish(&self) -> Result<()> {
        self.pool.end();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_by_rows_and_lanes() {
        for (rows, lanes, expected) in [(0, 2, 1), (9_999, 4, 1), (10_000, 4, 4), (6_000_000, 2, 12)] {
            assert_eq!(part_count(rows, lanes, 500_000), expected, "{rows} rows");
        }
    }

    #[test]
    fn ranges_cover_every_key() {
        assert_eq!(cuts(1, 100, 4), [26, 51, 76]);
        assert!(cuts(5, 5, 4).is_empty());
        assert_eq!(cuts(1, 3, 10), [2, 3]);
        assert_eq!(cuts(i64::MIN, i64::MAX, 2), [0]);
    }

    #[test]
    fn statements() {
        let spec = |from, to| PartSpec { key: Some("i]d".to_owned()), from, to };
        for (spec, expected) in [
            (PartSpec::default(), "SELECT [a], [b] FROM [dbo].[t]"),
            (spec(None, Some(10)), "SELECT [a], [b] FROM [dbo].[t] WHERE [i]]d] < 10"),
            (spec(Some(-3), Some(10)), "SELECT [a], [b] FROM [dbo].[t] WHERE [i]]d] >= -3 AND [i]]d] < 10"),
            (spec(Some(10), None), "SELECT [a], [b] FROM [dbo].[t] WHERE [i]]d] >= 10"),
        ] {
            assert_eq!(statement("[a], [b]", "[dbo].[t]", &spec), expected);
        }
    }
}
