//! Reads a table or query inside one read transaction on a thread of its own. One part: SQLite has one reader's view
//! per connection, and reading it is rarely what a copy waits for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_ambient::TaskGroup;
use dmg_connector::{BatchLimits, BatchStream, Column, Error, Result, Source, Traffic, schema};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, Fault, Kind, PartPlan};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

use super::errors::error;
use super::target::{self, quoted, quoted_list};
use super::types::{Cells, kind, kind_of_value};

/// Batches waiting between the reading thread and the copy.
const BATCHES_AHEAD: usize = 2;
/// Rows looked at to find the kind of a column without a declared type.
const SAMPLE_ROWS: usize = 1000;

/// An opened table or query.
pub(super) struct SqliteSource {
    path: PathBuf,
    /// In a read transaction until `finish`.
    connection: Arc<Mutex<Connection>>,
    sql: String,
    columns: Vec<Column>,
    parts: Vec<PartPlan>,
    label: String,
    traffic: Arc<Traffic>,
}

/// Runs blocking work on a thread and waits for it.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let mut tasks = TaskGroup::new();
    tasks.spawn_blocking(work);
    match tasks.join_next().await {
        Some(Ok(result)) => result,
        _ => Err(Fault::new("SystemErrorInternal", "A thread that works on SQLite crashed.").into()),
    }
}

pub(super) fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| error(path, e))?;
    // The first statement that reads fixes the state that is seen until the end.
    connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").map_err(|e| error(path, e))?;
    Ok(connection)
}

/// Says what the file is.
pub(super) async fn probe(path: PathBuf) -> Result<String> {
    blocking(move || {
        connect(&path)?;
        Ok(format!("SQLite {}", rusqlite::version()))
    })
    .await
}

impl SqliteSource {
    /// Opens what a job names.
    pub(super) async fn open(path: PathBuf, object: &StoreObject) -> Result<Self> {
        let (sql, what) = match object {
            StoreObject::Table { schema, table } => {
                let from = schema.iter().chain([table]).map(|name| quoted(name)).collect::<Vec<_>>().join(".");
                (format!("SELECT * FROM {from}"), format!("table {table}"))
            }
            StoreObject::Query { text } => (text.trim().trim_end_matches(';').to_owned(), "query".to_owned()),
            StoreObject::Files { .. } => {
                return Err(Fault::new("UserErrorSettings", "SQLite has tables, not files.").into());
            }
        };
        let label = format!("SQLite {}, {what}", path.display());
        let (opened, statement) = (path.clone(), sql.clone());
        let table = match object {
            StoreObject::Table { table, .. } => Some(table.clone()),
            _ => None,
        };
        let (connection, columns) = blocking(move || {
            let connection = connect(&opened)?;
            let mut columns = describe(&connection, &opened, &statement)?;
            if let Some(table) = table {
                note_keys(&connection, &table, &mut columns).map_err(|e| error(&opened, e))?;
            }
            Ok((connection, columns))
        })
        .await?;
        let parts = vec![PartPlan { index: 0, label: what, spec: serde_json::Value::Null }];
        let connection = Arc::new(Mutex::new(connection));
        Ok(SqliteSource { path, connection, sql, columns, parts, label, traffic: Arc::default() })
    }
}

impl SqliteSource {
    /// Opens a table that a plan filled, to read exactly the planned columns in the planned kinds.
    pub(super) async fn planned(path: PathBuf, table: &str, plan: &[ColumnPlan]) -> Result<Self> {
        let columns: Vec<Column> = plan
            .iter()
            .map(|plan| Column {
                name: plan.sink.clone(),
                kind: plan.kind,
                type_name: plan.sink_type.clone(),
                nullable: true,
                key: false,
            })
            .collect();
        let names = quoted_list(columns.iter().map(|column| column.name.as_str()));
        let sql = format!("SELECT {names} FROM {}", quoted(table));
        let opened = path.clone();
        let connection = blocking(move || connect(&opened)).await?;
        let label = format!("SQLite {}, table {table}", path.display());
        let parts = vec![PartPlan { index: 0, label: format!("table {table}"), spec: serde_json::Value::Null }];
        let connection = Arc::new(Mutex::new(connection));
        Ok(SqliteSource { path, connection, sql, columns, parts, label, traffic: Arc::default() })
    }
}

/// Adds what a table says of keys and NULL; views say nothing.
fn note_keys(connection: &Connection, table: &str, columns: &mut [Column]) -> rusqlite::Result<()> {
    for found in target::columns(connection, table, false)? {
        if let Some(column) = columns.iter_mut().find(|column| column.name == found.column.name) {
            column.nullable = found.column.nullable;
            column.key = found.column.key;
        }
    }
    Ok(())
}

/// Names and kinds: by declared type, else by the first values.
fn describe(connection: &Connection, path: &Path, sql: &str) -> Result<Vec<Column>> {
    let failed = |e| error(path, e);
    let mut statement = connection.prepare(sql).map_err(failed)?;
    if !statement.readonly() || statement.column_count() == 0 {
        let message = "The query yields no rows by its nature; it must be a single SELECT.";
        return Err(Fault::new("UserErrorSettings", message).into());
    }
    let mut columns = Vec::new();
    let mut open = Vec::new();
    for (index, described) in statement.columns().enumerate() {
        let declared = described.decl_type().unwrap_or_default();
        let kind = kind(declared);
        if kind.is_none() {
            open.push(index);
        }
        let (name, type_name) = (described.name().to_owned(), declared.to_owned());
        if columns.iter().any(|column: &Column| column.name == name) {
            let message = format!("The query yields two columns named \"{name}\".");
            let remedy = "Give each column of the query a name of its own, with AS.";
            return Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy).into());
        }
        columns.push(Column { name, kind: kind.unwrap_or(Kind::Text), type_name, nullable: true, key: false });
    }
    let mut rows = statement.query([]).map_err(failed)?;
    for _ in 0..SAMPLE_ROWS {
        if open.is_empty() {
            break;
        }
        let Some(row) = rows.next().map_err(failed)? else { break };
        let mut unknown = Vec::new();
        for index in open {
            match kind_of_value(row.get_ref(index).map_err(failed)?) {
                Some(kind) => columns[index].kind = kind,
                None => unknown.push(index),
            }
        }
        open = unknown;
    }
    for column in columns.iter_mut().filter(|column| column.type_name.is_empty()) {
        column.type_name = column.kind.to_string();
    }
    Ok(columns)
}

#[async_trait]
impl Source for SqliteSource {
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
        None
    }

    fn repeatable(&self) -> bool {
        false
    }

    async fn read(&self, part: &PartPlan, limits: BatchLimits) -> Result<BatchStream> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        let work = Reading {
            path: self.path.clone(),
            connection: self.connection.clone(),
            sql: self.sql.clone(),
            columns: self.columns.clone(),
            label: part.label.clone(),
            limits,
            traffic: self.traffic.clone(),
            sender,
        };
        let mut tasks = TaskGroup::new();
        tasks.spawn_blocking(move || work.run());
        Ok(Box::pin(futures::stream::unfold((receiver, tasks, None), |(mut receiver, tasks, gone)| async move {
            drop::<Option<Gone>>(gone);
            receiver.recv().await.map(|(batch, gone)| (batch, (receiver, tasks, gone)))
        })))
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }

    async fn finish(&self) -> Result<()> {
        let (connection, path) = (self.connection.clone(), self.path.clone());
        blocking(move || {
            let connection = connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if connection.is_autocommit() {
                Ok(())
            } else {
                connection.execute_batch("COMMIT").map_err(|e| error(&path, e))
            }
        })
        .await
    }
}

/// Is dropped when a batch has gone.
type Gone = oneshot::Sender<()>;

/// One pass over the rows, on its thread. Ends early when nobody listens any more.
struct Reading {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
    sql: String,
    columns: Vec<Column>,
    label: String,
    limits: BatchLimits,
    traffic: Arc<Traffic>,
    sender: mpsc::Sender<(Result<RecordBatch>, Option<Gone>)>,
}

impl Reading {
    fn run(self) {
        self.traffic.opened();
        if let Err(failure) = self.rows() {
            // If nobody listens, nobody needs to know.
            let _ = self.sender.blocking_send((Err(failure), None));
        }
        self.traffic.closed();
    }

    fn rows(&self) -> Result<()> {
        let failed = |e| error(&self.path, e);
        let connection = self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut statement = connection.prepare(&self.sql).map_err(failed)?;
        if statement.column_count() != self.columns.len() {
            return Err(Fault::new("UserErrorSourceChanged", "The table changed while it was read.").into());
        }
        let mut rows = statement.query([]).map_err(failed)?;
        let mut cells: Vec<Cells> = self.columns.iter().map(|column| Cells::new(column.kind)).collect();
        let (mut held, mut bytes, mut number) = (0, 0, 0_u64);
        while let Some(row) = rows.next().map_err(failed)? {
            number += 1;
            for (index, cells) in cells.iter_mut().enumerate() {
                let value = row.get_ref(index).map_err(failed)?;
                let size = match value {
                    rusqlite::types::ValueRef::Text(content) | rusqlite::types::ValueRef::Blob(content) => {
                        content.len()
                    }
                    _ => 8,
                };
                if size > self.limits.value_bytes {
                    return Err(self.too_large(index, number));
                }
                bytes += size;
                cells.push(value).map_err(|class| self.refuse(index, number, class))?;
            }
            held += 1;
            if held >= self.limits.rows || bytes >= self.limits.bytes.min(1 << 30) {
                if !self.send(&mut cells, bytes)? {
                    return Ok(());
                }
                (held, bytes) = (0, 0);
            }
        }
        if held > 0 {
            self.send(&mut cells, bytes)?;
        }
        Ok(())
    }

    /// Hands a batch over; `false` if nobody listens any more.
    fn send(&self, cells: &mut [Cells], bytes: usize) -> Result<bool> {
        self.traffic.add_bytes(bytes as u64);
        let arrays = cells.iter_mut().map(Cells::take).collect();
        let batch = RecordBatch::try_new(schema(&self.columns), arrays).map_err(|e| {
            Error::caused(Fault::new("SystemErrorInternal", "Decoded columns do not fit their schema."), e)
        })?;
        if bytes < self.limits.bytes.saturating_mul(2) {
            return Ok(self.sender.blocking_send((Ok(batch), None)).is_ok());
        }
        // No second large value is read while the first is in memory.
        let (gone, waited_for) = oneshot::channel();
        let sent = self.sender.blocking_send((Ok(batch), Some(gone))).is_ok();
        let _ = waited_for.blocking_recv();
        Ok(sent)
    }

    fn refuse(&self, index: usize, row: u64, class: &str) -> Error {
        let Column { name, type_name, .. } = &self.columns[index];
        let message = format!("Column \"{name}\" ({type_name}) holds {class}, in row {row} of {}.", self.label);
        let remedy = format!("Read it by a query with CAST(\"{name}\" AS TEXT), or correct the value.");
        Fault::new("UserErrorValue", message).remedy(remedy).with("column", name).with("row", row).into()
    }

    fn too_large(&self, index: usize, row: u64) -> Error {
        let name = &self.columns[index].name;
        let message =
            format!("Column \"{name}\" holds a value too large for the memory budget, in row {row} of {}.", self.label);
        Fault::new("UserErrorBudgetExceeded", message).with("column", name).with("row", row).into()
    }
}
