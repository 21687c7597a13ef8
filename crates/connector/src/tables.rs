//! The contract of sources and sinks. Table stores implement it directly; the engine implements it for files by
//! joining a byte store with a format.

use std::pin::Pin;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_protocol::catalog::StoreDescriptor;
use dmg_protocol::job::{ListedTable, ProcedureCall, ProcedureOutcome, Slice, StoreObject, WriteProcedure};
use dmg_protocol::{Attempt, ColumnPlan, CommitShape, Epoch, Fault, Kind, PartPlan, Secrets, Verdict, WriteMode};
use futures::Stream;
use serde_json::{Map, Value};

use crate::{FileEntry, Holding, Rejects, Result, Session, Sums, Traffic};

/// One column of a source or a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Kind of its values.
    pub kind: Kind,
    /// The store's own type name, as its users write it: `numeric(15,2)`.
    pub type_name: String,
    /// Whether NULL may occur.
    pub nullable: bool,
    /// Whether it belongs to the primary key.
    pub key: bool,
}

/// How large batches may be. A source ends a batch at whichever limit comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Rows.
    pub rows: usize,
    /// Bytes in memory.
    pub bytes: usize,
    /// A single value larger than this is refused with `UserErrorBudgetExceeded`, naming row and column.
    pub value_bytes: usize,
}

/// Record batches of one part, in order. Ends with the part; dropping it stops the read.
pub type BatchStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// Where a row stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// For people: the file.
    pub label: String,
    /// Its path, as columns show it that tell the file.
    pub path: Option<String>,
    /// The row's number there, from 1.
    pub row: u64,
}

/// An opened source: one consistent state of the data for as long as it lives.
#[async_trait]
pub trait Source: Send + Sync {
    /// For people, without secrets: `PostgreSQL db01:5432/sales, table public.orders`.
    fn label(&self) -> String;

    /// Columns in source order. Batches of [`Source::read`] have exactly [`crate::schema`] of these.
    fn columns(&self) -> &[Column];

    /// Parts in source order, at least one. Every row is in exactly one part.
    fn parts(&self) -> &[PartPlan];

    /// Rows expected in all, if the store can tell cheaply.
    fn rows_estimate(&self) -> Option<u64>;

    /// How many parts can be read at once, if that has an end: whoever begins one more waits until another is over.
    fn at_once(&self) -> usize {
        usize::MAX
    }

    /// Whether another process reading the same parts later would see the same rows.
    fn repeatable(&self) -> bool;

    /// What tells whether another process sees the very same data: equal texts, equal rows in every part. Only of a
    /// repeatable source; files: paths, sizes and stamps.
    fn identity(&self) -> Option<String> {
        None
    }

    /// Reads one part. May be called for several parts at once, up to the number of lanes asked for at open; may be
    /// called again for the same part and then yields the same rows.
    async fn read(&self, part: &PartPlan, limits: BatchLimits) -> Result<BatchStream>;

    /// As [`Source::read`], but rows that do not fit the columns go to `rejects`. Batches may be empty then. Stores
    /// whose rows always fit need not implement it.
    async fn read_tolerant(&self, part: &PartPlan, limits: BatchLimits, rejects: Arc<Rejects>) -> Result<BatchStream> {
        let _ = rejects;
        self.read(part, limits).await
    }

    /// Bytes and streams so far.
    fn traffic(&self) -> Arc<Traffic>;

    /// Where a row of a part stands, counted from 1, in sources whose parts hold several files; known for rows that
    /// were read. `None`: the part's label and the row's number say it.
    fn place(&self, part: &PartPlan, row: u64) -> Option<Place> {
        let _ = (part, row);
        None
    }

    /// The files it reads, counted from 0, in the order of their parts; none of a table.
    fn file(&self, index: usize) -> Option<&FileEntry> {
        let _ = index;
        None
    }

    /// Remarks for the receipt.
    fn notices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Checks, after everything was read, that the source did not change (files: stamps). Ends snapshots.
    async fn finish(&self) -> Result<()>;
}

/// What the engine asks of a sink.
#[derive(Debug, Clone)]
pub struct SinkRequest {
    /// Who writes.
    pub attempt: Attempt,
    /// What to write to.
    pub object: StoreObject,
    /// What happens to what is already there.
    pub mode: WriteMode,
    /// Columns that identify a row, for upsert; empty: the target's primary key.
    pub keys: Vec<String>,
    /// The slice that is replaced. In the commit the sink deletes the rows that have its value and gives the value to
    /// the staged ones: the column is no planned column.
    pub slice: Option<Slice>,
    /// The procedure that takes the rows.
    pub procedure: Option<WriteProcedure>,
    /// Rows of one write, where the author named a number.
    pub batch_rows: Option<u32>,
    /// Longest time of one write, where the author named one.
    pub batch_timeout: Option<std::time::Duration>,
    /// Whether columns the target lacks are added in the commit transaction.
    pub add_columns: bool,
    /// SQL to run in the commit transaction before the rows become visible.
    pub pre_copy_script: Option<String>,
    /// Whether to create a missing table, with native types for the kinds given.
    pub create_table: bool,
    /// How many parts are written at once.
    pub lanes: usize,
    /// Bytes the sink may hold over all lanes.
    pub budget_bytes: usize,
    /// Whether rows that the target's own constraints refuse are to be left out: the sink then sees to it, as far as it
    /// can, that they get as far as the staging place. See [`Sink::screens`].
    pub screen: bool,
}

impl SinkRequest {
    /// A request that appends, with nothing special.
    pub fn append(attempt: Attempt, object: StoreObject) -> Self {
        SinkRequest {
            attempt,
            object,
            mode: WriteMode::Append,
            keys: Vec::new(),
            slice: None,
            procedure: None,
            batch_rows: None,
            batch_timeout: None,
            add_columns: false,
            pre_copy_script: None,
            create_table: false,
            lanes: 1,
            budget_bytes: 64 << 20,
            screen: false,
        }
    }
}

/// Name of the column behind the planned ones that tells staged rows apart: part and number of the row, ascending in
/// the order of the source, never NULL. It is staged where the sink screens, and never gets into the target.
pub const ROW_COLUMN: &str = "__dmg_row";

/// The plan of [`ROW_COLUMN`], by the store's name of 64-bit integers.
pub fn row_plan(sink_type: &str) -> ColumnPlan {
    ColumnPlan {
        source: ROW_COLUMN.to_owned(),
        sink: ROW_COLUMN.to_owned(),
        kind: Kind::Int64,
        source_type: sink_type.to_owned(),
        sink_type: sink_type.to_owned(),
        key: false,
        required: true,
        verdict: Verdict::Exact,
        reason: None,
    }
}

/// Why rows are refused: one of the target's constraints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The target's columns it speaks of.
    pub columns: Vec<String>,
    /// Fault code.
    pub code: &'static str,
    /// A sentence that quotes no value.
    pub reason: String,
}

/// A staged row that a constraint of the target refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Its value of [`ROW_COLUMN`].
    pub row: i64,
    /// Which of the rules that [`Sink::screen`] gave.
    pub rule: usize,
}

/// What a sink says before anything is changed.
#[derive(Debug, Clone)]
pub struct SinkPlan {
    /// How the commit will happen.
    pub shape: CommitShape,
    /// The state of the target the commit depends on.
    pub condition: Option<String>,
    /// Remarks for the plan.
    pub notices: Vec<String>,
}

/// What the sink's mark says about this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkState {
    /// No mark of this run.
    None,
    /// This run committed, under this or an earlier epoch.
    Committed(Committed),
    /// A higher epoch of this run was here: step down.
    Newer(dmg_protocol::Epoch),
}

/// What the commit writes down beside the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkContent {
    /// Rows staged.
    pub rows: u64,
    /// Digest of what was staged: row sum, 32 hex digits, or empty.
    pub digest: String,
}

/// A commit that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// What the sink remembers, for people: an ETag, a mark row, a file stamp.
    pub mark: String,
    /// Rows the mark tells of.
    pub rows: u64,
    /// The digest the mark tells of.
    pub digest: String,
    /// The epoch that committed.
    pub epoch: dmg_protocol::Epoch,
}

/// What one part wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartReport {
    /// Rows staged.
    pub rows: u64,
    /// Bytes staged, as the store counts them.
    pub bytes: u64,
    /// Digest of what was encoded, decoded again, where the writer does that.
    pub decoded: Option<Sums>,
}

/// A part whose rows are staged, as the sink remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The part's place in the source's order.
    pub part: u32,
    /// Rows and bytes staged.
    pub report: PartReport,
    /// What was read for it.
    pub read: Sums,
}

/// What a sink found when it was asked to go on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resumption {
    /// The epoch whose staging was kept.
    pub from: Option<Epoch>,
    /// Its parts, in no order. Nothing else is staged.
    pub kept: Vec<Checkpoint>,
    /// The fingerprint of what was there instead, and was thrown away.
    pub other: Option<String>,
}

/// Writes one part into the staging place.
#[async_trait]
pub trait PartWriter: Send {
    /// Takes a batch whose schema is the planned columns by their *sink* kind, in plan order.
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;
    /// What was read for this part, all of it; said right before the end. A sink that keeps checkpoints writes it down
    /// together with the rows.
    fn note(&mut self, read: &Sums) {
        let _ = read;
    }
    /// Everything of this part is staged. Not yet visible.
    async fn finish(self: Box<Self>) -> Result<PartReport>;
}

/// An opened sink for one attempt. Order of calls: `columns`, `hold`, `plan`, `mark`, `begin` or `resume`, `part`
/// (several at once), `staged`, `commit`; or `abort` at any point after `begin`.
#[async_trait]
pub trait Sink: Send + Sync {
    /// For people, without secrets.
    fn label(&self) -> String;

    /// Columns of the existing target; `None` where it has none of its own (a file) or does not exist yet.
    async fn columns(&self) -> Result<Option<Vec<Column>>>;

    /// How the sink would hold a column: for a target with columns of its own, `target` names it.
    fn hold(&self, source: &Column, target: Option<&Column>) -> Holding;

    /// As [`crate::Format::span`].
    fn span(&self, holding: &Holding) -> Option<(i128, i128)> {
        let _ = holding;
        None
    }

    /// Characters to which that column pads text with blanks, where it holds a text and the padded one to be the same.
    /// The copy then pads before it digests, so that what is read back is what was sent.
    fn pads(&self, target: &Column) -> Option<usize> {
        let _ = target;
        None
    }

    /// What the source says will come: rows, as far as it knows, and parts. Called before `plan`, if at all; a guess
    /// that helps to choose a shape, never a promise.
    fn expect(&mut self, rows: Option<u64>, parts: usize) {
        let _ = (rows, parts);
    }

    /// Fixes shape and condition for those columns. Changes nothing. Refuses what cannot work.
    async fn plan(&mut self, columns: &[ColumnPlan]) -> Result<SinkPlan>;

    /// Reads the mark of this run. Called before `begin` and after every doubt about a commit.
    async fn mark(&self) -> Result<MarkState>;

    /// Removes what lower epochs of this run left, ends their sessions, makes the staging place.
    async fn begin(&self) -> Result<()>;

    /// Whether the sink keeps a checkpoint of each part, in one step with the part's rows: then a part that broke off
    /// can be written again, and a later attempt can go on with what is staged. Known after `plan`.
    fn checkpoints(&self) -> bool {
        false
    }

    /// As [`Sink::begin`], but what a lower epoch staged under the same fingerprint is kept, out of that epoch's reach,
    /// and its checkpoints are told. Everything else is removed as by `begin`.
    async fn resume(&self, fingerprint: &str) -> Result<Resumption> {
        let _ = fingerprint;
        self.begin().await?;
        Ok(Resumption::default())
    }

    /// After a writer of that part failed or was dropped: sees to it that its outcome is decided, and gives the part's
    /// checkpoint if its rows are staged after all. Only of a sink that keeps checkpoints.
    async fn settle(&self, part: u32) -> Result<Option<Checkpoint>> {
        let _ = part;
        Ok(None)
    }

    /// A writer for that part. Several may be open at once.
    async fn part(&self, index: u32) -> Result<Box<dyn PartWriter>>;

    /// Whether the target has constraints that staged rows can be held against before the commit. Asked after `plan`.
    /// Batches then have a further column of 64-bit integers behind the planned ones, [`ROW_COLUMN`].
    fn screens(&self) -> bool {
        false
    }

    /// Finds the staged rows that the target's constraints refuse, by queries, and marks them; gives the rules that they
    /// break, none where every row fits. Constraints are taken one after the other: not null, checks and foreign keys,
    /// then unique keys. Of rows with the same key the first in the order of the source stays. What queries cannot
    /// find, such as a trigger, fails the commit. Called when all parts are staged; may be repeated.
    async fn screen(&self) -> Result<Vec<Rule>> {
        Ok(Vec::new())
    }

    /// Marked rows behind that one, in order, at most so many.
    async fn refused(&self, after: i64, rows_max: usize) -> Result<Vec<Refused>> {
        let _ = (after, rows_max);
        Ok(Vec::new())
    }

    /// Takes the marked rows out of the staging place. Gives their number.
    async fn take_out(&self) -> Result<u64> {
        Ok(0)
    }

    /// Closes the staging place and opens it for reading in a second session; `None` where that cannot be.
    /// Its columns have the planned kinds in plan order.
    async fn staged(&self, lanes: usize) -> Result<Option<Box<dyn Source>>>;

    /// The one atomic step. May be repeated; a repeat after success finds the mark and says the same.
    async fn commit(&self, content: &MarkContent) -> Result<Committed>;

    /// The committed target, opened for reading, for verify level `full`; `None` where rows cannot be told from
    /// older ones (append).
    async fn committed(&self, lanes: usize) -> Result<Option<Box<dyn Source>>>;

    /// Removes the staging place. Never touches the target.
    async fn abort(&self) -> Result<()>;

    /// Bytes, streams.
    fn traffic(&self) -> Arc<Traffic>;

    /// Files written, 0 for tables.
    fn files(&self) -> u64 {
        0
    }

    /// The path of a file written, counted from 0, and its bytes; ends the file. Asked when all parts are staged.
    async fn file(&self, index: usize) -> Result<Option<(String, u64)>> {
        let _ = index;
        Ok(None)
    }
}

/// A table store: describes itself and opens connections.
#[async_trait]
pub trait TableConnector: Send + Sync {
    /// Names, settings, capabilities.
    fn descriptor(&self) -> &'static StoreDescriptor;

    /// Pure check of the settings.
    fn validate(&self, settings: &Map<String, Value>) -> Result<()>;

    /// Connects. What it starts ends with the returned value.
    async fn open(
        &self,
        settings: &Map<String, Value>,
        secrets: &Secrets,
        session: Session,
    ) -> Result<Arc<dyn TableConnection>>;
}

/// A connection to a table store.
#[async_trait]
pub trait TableConnection: Send + Sync {
    /// Says what answered: product and version.
    async fn probe(&self) -> Result<String>;

    /// Opens a table or query for reading on one snapshot, split for at most `lanes` readers; `rows_per_part` is
    /// the size the sink likes best.
    async fn source(&self, object: &StoreObject, lanes: usize, rows_per_part: u64) -> Result<Box<dyn Source>>;

    /// Opens a table for writing. Refuses modes the store does not claim with `UserErrorNotSupported`.
    async fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>>;

    /// Schemas of the store, sorted, those of the system left out.
    async fn schemas(&self) -> Result<Vec<String>> {
        Err(unclaimed("be browsed"))
    }

    /// Tables and views of a schema (the default one where absent), sorted by name, at most `limit`. Tables of our own
    /// (`__dmg_...`, staging) are left out.
    async fn tables(&self, schema: Option<&str>, limit: usize) -> Result<Vec<ListedTable>> {
        let _ = (schema, limit);
        Err(unclaimed("be browsed"))
    }

    /// Columns of a table, view or query, without reading rows.
    async fn describe(&self, object: &StoreObject) -> Result<Vec<Column>> {
        let _ = object;
        Err(unclaimed("be browsed"))
    }

    /// Calls a stored procedure. Dropping the future cancels the call at the server.
    async fn call(&self, call: &ProcedureCall) -> Result<ProcedureOutcome> {
        let _ = call;
        Err(unclaimed("call stored procedures"))
    }
}

fn unclaimed(what: &str) -> crate::Error {
    Fault::new("UserErrorNotSupported", format!("This store cannot {what} here.")).into()
}

/// A holding that fits without any change.
impl Holding {
    /// The sink holds exactly that kind.
    pub fn exact(kind: Kind, type_name: impl Into<String>) -> Self {
        Holding { kind, type_name: type_name.into(), verdict: Verdict::Exact, reason: None }
    }
}
