//! What the rest of this folder asks of a driver: one session that runs batches, reads rows into batches, loads rows
//! in bulk and calls procedures. Which driver answers is decided in `connect.rs` and nowhere else.

use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{BatchStream, Result};
use dmg_protocol::job::ProcedureOutcome;

use super::decode::Decoder;
use super::encode::Taker;

/// A row of a small answer: every value as text.
pub(super) type Row = Vec<Option<String>>;

/// Called with the session once its rows are read to the end, and with the bytes of each batch before.
pub(super) trait Reading: Send {
    /// So many bytes came.
    fn bytes(&mut self, bytes: u64);
    /// The rows are at their end; the session is free again.
    fn done(self: Box<Self>, session: Box<dyn Driver>);
}

/// Where rows are loaded in bulk.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// Schema and name, quoted.
    pub(super) table: String,
    /// Column names, quoted.
    pub(super) columns: Vec<String>,
    /// What each column takes.
    pub(super) takers: Vec<Taker>,
    /// Whether the whole table is locked for the load: only a heap lets several loads in at once.
    pub(super) lock: bool,
}

/// A parameter of a called procedure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Argument {
    /// Name with its `@`.
    pub(super) name: String,
    /// Whether a value comes back.
    pub(super) output: bool,
    /// The value.
    pub(super) value: Typed,
}

/// A value by the author's type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Typed {
    Text(Option<String>),
    Whole(Option<i64>),
    Decimal(Option<(i128, u8)>),
    Truth(Option<bool>),
    Uuid(Option<[u8; 16]>),
    /// Day since 0001-01-01 and steps of 100 ns.
    Moment(Option<(u32, u64)>),
}

/// One session.
#[async_trait]
pub(super) trait Driver: Send {
    /// The server, for messages.
    fn place(&self) -> &str;

    /// Whether another statement may be sent: the connection stands and nothing of an answer is left in it.
    fn usable(&self) -> bool;

    /// Runs a batch to its end. Gives the rows of its last result.
    async fn batch(&mut self, sql: &str) -> Result<Vec<Row>>;

    /// Runs one statement with text parameters `@P1`, `@P2`, ... Gives the rows of its last result.
    async fn query(&mut self, sql: &str, parameters: &[Option<&str>]) -> Result<Vec<Row>>;

    /// Runs a batch and decodes the rows of its only result. Dropped early, the session ends.
    fn read(self: Box<Self>, sql: String, decoder: Decoder, reading: Box<dyn Reading>) -> BatchStream;

    /// Loads rows `from..to` of a batch. `before` is how many of this part came before, for messages.
    async fn load(&mut self, load: &Load, batch: &RecordBatch, from: usize, to: usize, before: u64) -> Result<u64>;

    /// Calls a procedure. After the time, the call is cancelled at the server.
    async fn call(&mut self, name: &str, arguments: &[Argument], timeout: Option<Duration>)
    -> Result<ProcedureOutcome>;
}
