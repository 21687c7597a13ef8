//! Writes into a table: rows go into a staging table of the same file, in short transactions of one connection, and
//! become visible in one transaction together with the mark (see `commit.rs`). SQLite has one writer at a time: lanes
//! take turns. What SQLite would silently change, such as NaN into NULL, is refused here, row by row.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_connector::{
    Column, Committed, Error, Holding, MarkContent, MarkState, PartReport, PartWriter, Refused, Result, Rule, Sink,
    SinkPlan, SinkRequest, Source, Traffic, row_plan,
};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, CommitShape, Fault, WriteMode};
use rusqlite::{Connection, OpenFlags};

use super::commit;
use super::encode::{Cell, Encoded};
use super::errors::error;
use super::hold::hold;
use super::read::{SqliteSource, blocking};
use super::screen;
use super::target::{Affinity, STAGING_PREFIX, Target, quoted, quoted_list};

/// How long a write waits for another program's.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Bytes of rows after which a transaction of staging ends, so that others get their turn.
const STAGE_BYTES: usize = 8 << 20;

/// Everything fixed about one attempt's writing.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) path: PathBuf,
    pub(super) ambient: Ambient,
    pub(super) request: SinkRequest,
    pub(super) target: Target,
    pub(super) planned: Vec<ColumnPlan>,
    pub(super) shape: CommitShape,
    /// Whether staged rows are tried one by one before the commit.
    pub(super) screens: bool,
}

impl Work {
    pub(super) fn failed(&self, e: rusqlite::Error) -> Error {
        error(&self.path, e)
    }

    /// Name of the staging table.
    pub(super) fn staging(&self) -> String {
        format!("{STAGING_PREFIX}{}", self.request.attempt.short())
    }

    /// The planned columns, quoted, in plan order.
    pub(super) fn column_list(&self) -> String {
        quoted_list(self.planned.iter().map(|column| column.sink.as_str()))
    }

    /// The columns that are staged: those planned and, where rows are tried, what tells them apart.
    fn staged_plans(&self) -> Vec<ColumnPlan> {
        self.planned.iter().cloned().chain(self.screens.then(|| row_plan("INTEGER"))).collect()
    }

    /// Planned columns that the table lacks.
    pub(super) fn missing(&self) -> impl Iterator<Item = &ColumnPlan> {
        self.planned.iter().filter(|plan| self.target.exists() && self.target.column(&plan.sink).is_none())
    }

    /// Columns that identify a row of the target.
    pub(super) fn keys(&self) -> Vec<String> {
        if !self.request.keys.is_empty() {
            return self.request.keys.clone();
        }
        let found = self.target.found.iter().filter(|found| found.column.key).map(|found| found.column.name.clone());
        let planned = self.planned.iter().filter(|plan| plan.key).map(|plan| plan.sink.clone());
        if self.target.exists() { found.collect() } else { planned.collect() }
    }

    /// Statements that make the staging table.
    pub(super) fn staging_statements(&self) -> String {
        let staging = self.staging();
        if self.target.exists() && self.shape == CommitShape::Swap {
            let made = self.target.alike(&staging).unwrap_or_default();
            let added = self.missing().map(|plan| {
                format!("; ALTER TABLE {} ADD COLUMN {} {}", quoted(&staging), quoted(&plan.sink), plan.sink_type)
            });
            return made + &added.collect::<String>();
        }
        let columns = self.planned.iter().map(|plan| match self.target.column(&plan.sink) {
            Some(found) => {
                // What the target refuses is to be found while staging, not at the commit.
                let required = if found.column.nullable { "" } else { " NOT NULL" };
                format!(
                    "{} {}{required}",
                    quoted(&plan.sink),
                    written_type(&found.column.type_name, self.target.strict)
                )
            }
            None => {
                let required = if plan.required && !self.target.exists() { " NOT NULL" } else { "" };
                format!("{} {}{required}", quoted(&plan.sink), plan.sink_type)
            }
        });
        let mut columns: Vec<String> = columns.collect();
        if self.screens {
            columns.extend(screen::columns());
        }
        if !self.target.exists() {
            let keys = self.keys();
            if !keys.is_empty() {
                columns.push(format!("PRIMARY KEY ({})", quoted_list(keys.iter().map(String::as_str))));
            }
        }
        let strict = if self.target.strict { " STRICT" } else { "" };
        format!("CREATE TABLE {} ({}){strict}", quoted(&staging), columns.join(", "))
    }

    /// The declared type of a target column; with it values fare in staging as they will in the target.
    fn declared(&self, plan: &ColumnPlan) -> String {
        self.target.column(&plan.sink).map_or_else(|| plan.sink_type.clone(), |found| found.column.type_name.clone())
    }
}

/// A declared type as SQL takes it again.
fn written_type(declared: &str, strict: bool) -> String {
    if declared.is_empty() {
        return if strict { "ANY".to_owned() } else { String::new() };
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || " _(),.+-".contains(c);
    let balanced = declared.matches('(').count() == declared.matches(')').count();
    if balanced && declared.chars().all(plain) { declared.to_owned() } else { quoted(declared) }
}

/// The one connection that writes. Absent as long as there is no file.
#[derive(Default)]
pub(super) struct Writing {
    connection: Option<Connection>,
    /// Bytes of the open staging transaction.
    open: usize,
}

impl Writing {
    pub(super) fn connection(&mut self, work: &Work) -> Result<&mut Connection> {
        if self.connection.is_none() {
            self.connection = Some(connect(&work.path, work.request.create_table)?);
        }
        Ok(self.connection.as_mut().expect("it was just made"))
    }
}

fn connect(path: &Path, create: bool) -> Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let failed = |e| error(path, e);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(LOCK_WAIT).map_err(failed)?;
    // A table that takes another's name must not drag along what refers to the other.
    connection.execute_batch("PRAGMA legacy_alter_table = ON; PRAGMA foreign_keys = ON").map_err(failed)?;
    Ok(connection)
}

type Shared = Arc<Mutex<Writing>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Writing> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An opened sink.
pub(super) struct SqliteSink {
    work: Arc<Work>,
    writing: Shared,
    traffic: Arc<Traffic>,
}

impl SqliteSink {
    /// Opens the file and looks at the target. Changes nothing.
    pub(super) async fn open(path: PathBuf, ambient: Ambient, request: SinkRequest) -> Result<Self> {
        let StoreObject::Table { schema, table } = &request.object else {
            let message = "A copy into SQLite needs a table; a query or files cannot be written to.";
            return Err(Fault::new("UserErrorSettings", message).into());
        };
        if request.mode == WriteMode::Procedure {
            let message = "SQLite has no stored procedures that could take rows.";
            return Err(Fault::new("UserErrorNotSupported", message).into());
        }
        if schema.as_ref().is_some_and(|schema| !schema.eq_ignore_ascii_case("main")) {
            let message = format!("SQLite {} has the schema main only.", path.display());
            let remedy = "Name the table without a schema.";
            return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
        }
        let (name, create) = (table.clone(), request.create_table);
        let (opened, writing) = (path.clone(), Shared::default());
        let shared = writing.clone();
        let target = blocking(move || {
            if create && !opened.exists() {
                return Ok(Target::absent(&name));
            }
            let connection = connect(&opened, false)?;
            let target = Target::look(&connection, &opened, &name)?;
            lock(&shared).connection = Some(connection);
            Ok(target)
        })
        .await?;
        if !target.exists() && !create {
            let message = format!("There is no table \"{}\" in SQLite {}.", target.table, path.display());
            return Err(Fault::new("UserErrorTableMissing", message).into());
        }
        let work =
            Work { path, ambient, request, target, planned: Vec::new(), shape: CommitShape::Staged, screens: false };
        check_request(&work)?;
        Ok(SqliteSink { work: Arc::new(work), writing, traffic: Arc::default() })
    }

    /// Runs something with the one connection, on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Work, &mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (work, shared) = (self.work.clone(), self.writing.clone());
        blocking(move || run(&work, lock(&shared).connection(&work)?)).await
    }
}

/// What can be refused before columns are planned.
fn check_request(work: &Work) -> Result<()> {
    let Work { target, request, .. } = work;
    let missing = |name: &str| -> Error {
        let message = format!("Table \"{}\" has no column \"{name}\".", target.table);
        Fault::new("UserErrorColumnMissing", message).with("column", name).into()
    };
    if request.mode == WriteMode::Slice {
        let slice = request.slice.as_ref().ok_or_else(|| {
            let remedy = "Name the column that holds it, and its value.";
            Fault::new("UserErrorSettings", "Nothing says which slice is to be replaced.").remedy(remedy)
        })?;
        if target.exists() && target.column(&slice.column).is_none() {
            return Err(missing(&slice.column));
        }
    }
    if request.mode == WriteMode::Upsert {
        if let Some(name) = request.keys.iter().find(|name| target.exists() && target.column(name).is_none()) {
            return Err(missing(name));
        }
        if target.exists() && work.keys().is_empty() {
            let message = format!("Table \"{}\" has no primary key, and no key columns are named.", target.table);
            let remedy = "Name the columns that identify a row.";
            return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
        }
    }
    Ok(())
}

fn check_plan(work: &Work) -> Result<()> {
    let Work { target, request, planned, .. } = work;
    let plans = |name: &str| planned.iter().any(|plan| plan.sink.eq_ignore_ascii_case(name));
    for plan in planned {
        if target.column(&plan.sink).is_some_and(|found| found.generated) {
            let message = format!("Column \"{}\" of table \"{}\" is computed by SQLite.", plan.sink, target.table);
            let remedy = "Leave the column out of the mapping.";
            return Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy).into());
        }
    }
    if let Some(plan) = work.missing().next()
        && !request.add_columns
    {
        let message = format!("Table \"{}\" has no column \"{}\".", target.table, plan.sink);
        return Err(Fault::new("UserErrorColumnMissing", message).with("column", &plan.sink).into());
    }
    if let Some(slice) = &request.slice
        && plans(&slice.column)
    {
        let message = format!("The column \"{}\" marks the slice; the source cannot fill it too.", slice.column);
        return Err(Fault::new("UserErrorSettings", message).remedy("Leave it out of the mapping.").into());
    }
    if request.mode == WriteMode::Upsert {
        let keys = work.keys();
        if keys.is_empty() {
            let message = "Rows are to be replaced by key, but no column is named or known as key.";
            return Err(Fault::new("UserErrorSettings", message).remedy("Name the key columns.").into());
        }
        if let Some(key) = keys.iter().find(|key| !plans(key)) {
            let message = format!("The key column \"{key}\" gets no value from the source.");
            let remedy = "Map a source column to it, or name other key columns.";
            return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
        }
    }
    Ok(())
}

#[async_trait]
impl Sink for SqliteSink {
    fn label(&self) -> String {
        format!("SQLite {}, table {}", self.work.path.display(), self.work.target.table)
    }

    async fn columns(&self) -> Result<Option<Vec<Column>>> {
        let target = &self.work.target;
        let writable = target.found.iter().filter(|found| !found.generated).map(|found| found.column.clone());
        Ok(target.exists().then(|| writable.collect()))
    }

    fn hold(&self, source: &Column, target: Option<&Column>) -> Holding {
        hold(source, target)
    }

    async fn plan(&mut self, columns: &[ColumnPlan]) -> Result<SinkPlan> {
        if columns.is_empty() {
            return Err(Fault::new("UserErrorSchemaMismatch", "No column of the source goes into the target.").into());
        }
        let mut work = Work { planned: columns.to_vec(), ..self.work.as_ref().clone() };
        check_plan(&work)?;
        if work.request.screen && work.target.exists() {
            work.screens = self.with(|work, connection| screen::any(work, connection, &work.target)).await?;
        }
        let overwrite = work.request.mode == WriteMode::Overwrite;
        let mut notices = Vec::new();
        work.shape = match work.target.bound {
            _ if !work.target.exists() => {
                notices.push(format!("Table {} does not exist and is created by the commit.", work.target.table));
                CommitShape::Swap
            }
            None if overwrite && work.screens => {
                notices.push(
                    "Rows are deleted and inserted, because those that the table refuses are left out.".to_owned(),
                );
                CommitShape::Staged
            }
            None if overwrite => CommitShape::Swap,
            Some(why) if overwrite => {
                notices.push(format!("Rows are deleted and inserted, because the table cannot be exchanged: {why}."));
                CommitShape::Staged
            }
            _ => CommitShape::Staged,
        };
        let added: Vec<_> = work.missing().map(|plan| plan.sink.clone()).collect();
        if !added.is_empty() {
            notices.push(format!("The commit adds to table {}: {}.", work.target.table, added.join(", ")));
        }
        let shape = work.shape;
        self.work = Arc::new(work);
        Ok(SinkPlan { shape, condition: None, notices })
    }

    async fn mark(&self) -> Result<MarkState> {
        if !self.work.path.exists() && self.work.request.create_table {
            return Ok(MarkState::None);
        }
        self.with(commit::mark).await
    }

    async fn begin(&self) -> Result<()> {
        self.with(commit::begin).await
    }

    async fn part(&self, index: u32) -> Result<Box<dyn PartWriter>> {
        let work = &self.work;
        let staged = work.staged_plans();
        let names = quoted_list(staged.iter().map(|plan| plan.sink.as_str()));
        let marks = vec!["?"; staged.len()].join(", ");
        self.traffic.opened();
        Ok(Box::new(Writer {
            // Constraints of the table may say IGNORE or REPLACE; rows must not vanish without a word.
            sql: format!("INSERT OR ABORT INTO {} ({}) VALUES ({marks})", quoted(&work.staging()), names).into(),
            affinities: staged.iter().map(|plan| Affinity::of(&work.declared(plan))).collect(),
            work: work.clone(),
            writing: self.writing.clone(),
            report: PartReport::default(),
            index,
            traffic: self.traffic.clone(),
        }))
    }

    fn screens(&self) -> bool {
        self.work.screens
    }

    async fn screen(&self) -> Result<Vec<Rule>> {
        let (work, shared) = (self.work.clone(), self.writing.clone());
        blocking(move || {
            let mut writing = lock(&shared);
            end_transaction(&work, &mut writing)?;
            screen::screen(&work, writing.connection(&work)?)
        })
        .await
    }

    async fn refused(&self, after: i64, rows_max: usize) -> Result<Vec<Refused>> {
        self.with(move |work, connection| screen::refused(work, connection, after, rows_max)).await
    }

    async fn take_out(&self) -> Result<u64> {
        self.with(|work, connection| screen::take_out(work, connection)).await
    }

    async fn staged(&self, _lanes: usize) -> Result<Option<Box<dyn Source>>> {
        let (work, shared) = (self.work.clone(), self.writing.clone());
        blocking(move || end_transaction(&work, &mut lock(&shared))).await?;
        let source = SqliteSource::planned(self.work.path.clone(), &self.work.staging(), &self.work.planned).await?;
        Ok(Some(Box::new(source)))
    }

    async fn commit(&self, content: &MarkContent) -> Result<Committed> {
        let content = content.clone();
        let (work, shared) = (self.work.clone(), self.writing.clone());
        blocking(move || {
            let mut writing = lock(&shared);
            end_transaction(&work, &mut writing)?;
            commit::commit(&work, writing.connection(&work)?, &content)
        })
        .await
    }

    async fn committed(&self, _lanes: usize) -> Result<Option<Box<dyn Source>>> {
        if self.work.request.mode != WriteMode::Overwrite {
            return Ok(None);
        }
        let Work { path, target, planned, .. } = self.work.as_ref();
        Ok(Some(Box::new(SqliteSource::planned(path.clone(), &target.table, planned).await?)))
    }

    async fn abort(&self) -> Result<()> {
        if !self.work.path.exists() {
            return Ok(());
        }
        self.with(commit::abort).await
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }
}

/// Ends the open transaction of staging, if there is one.
fn end_transaction(work: &Work, writing: &mut Writing) -> Result<()> {
    writing.open = 0;
    let connection = writing.connection(work)?;
    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("COMMIT").map_err(|e| work.failed(e)) }
}

/// One part on its way into the staging table.
struct Writer {
    work: Arc<Work>,
    writing: Shared,
    sql: Arc<str>,
    affinities: Vec<Affinity>,
    report: PartReport,
    index: u32,
    traffic: Arc<Traffic>,
}

#[async_trait]
impl PartWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows() as u64;
        let (work, shared, sql) = (self.work.clone(), self.writing.clone(), self.sql.clone());
        let (affinities, before, index) = (self.affinities.clone(), self.report.rows, self.index);
        let bytes = blocking(move || {
            let inserting = Inserting { work: &work, affinities: &affinities, before, index };
            let mut writing = lock(&shared);
            let inserted = inserting.rows(&mut writing, &sql, &batch);
            if inserted.is_err()
                && let Some(connection) = &writing.connection
                && !connection.is_autocommit()
            {
                // What it was about is already known.
                let _ = connection.execute_batch("ROLLBACK");
            }
            inserted
        })
        .await?;
        self.report.rows += rows;
        self.report.bytes += bytes as u64;
        self.traffic.add_bytes(bytes as u64);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<PartReport> {
        dmg_ambient::failpoint!("sqlite.part.end", dmg_connector::cut());
        let (work, shared) = (self.work.clone(), self.writing.clone());
        blocking(move || end_transaction(&work, &mut lock(&shared))).await?;
        Ok(self.report.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.traffic.closed();
    }
}

/// One batch on its way in.
struct Inserting<'a> {
    work: &'a Work,
    affinities: &'a [Affinity],
    before: u64,
    index: u32,
}

impl Inserting<'_> {
    fn rows(&self, writing: &mut Writing, sql: &str, batch: &RecordBatch) -> Result<usize> {
        let work = self.work;
        let columns: Vec<Encoded> = work
            .staged_plans()
            .iter()
            .zip(batch.columns())
            .zip(self.affinities)
            .map(|((plan, array), affinity)| {
                let required = work.target.column(&plan.sink).is_some_and(|found| !found.column.nullable);
                Encoded::new(array, plan.kind, *affinity, required)
            })
            .collect();
        let mut bytes = 0;
        dmg_ambient::failpoint!("sqlite.insert", dmg_connector::cut());
        let connection = writing.connection(work)?;
        if connection.is_autocommit() {
            connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| work.failed(e))?;
        }
        let mut statement = connection.prepare_cached(sql).map_err(|e| commit::explained(work, work.failed(e)))?;
        for row in 0..batch.num_rows() {
            for (index, column) in columns.iter().enumerate() {
                let value = column.value(row).map_err(|class| self.refuse(index, row, class))?;
                bytes += Cell::size(&value);
                statement.raw_bind_parameter(index + 1, value).map_err(|e| work.failed(e))?;
            }
            statement.raw_execute().map_err(|e| self.refused(row, work.failed(e)))?;
        }
        drop(statement);
        writing.open += bytes;
        if writing.open >= STAGE_BYTES {
            end_transaction(work, writing)?;
        }
        Ok(bytes)
    }

    fn refuse(&self, index: usize, row: usize, class: &str) -> Error {
        let plan = &self.work.planned[index];
        let row = self.before + row as u64 + 1;
        let message = format!(
            "Column \"{}\" holds {class} in row {row} of part {}; SQLite's type {} cannot keep it.",
            plan.sink, self.index, plan.sink_type
        );
        Fault::new("UserErrorValue", message).with("column", &plan.sink).with("row", row).into()
    }

    /// What a constraint of the table said about a row.
    fn refused(&self, row: usize, error: Error) -> Error {
        let mut error = commit::explained(self.work, error);
        let row = self.before + row as u64 + 1;
        error.fault.message.push_str(&format!(" It was row {row} of part {}.", self.index));
        error
    }
}
