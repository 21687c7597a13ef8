//! Writes into a table: rows are loaded in bulk into a staging table no reader looks at, and become visible in one
//! transaction together with the mark (see `commit.rs`). It never truncates and never touches the target before.

use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{
    Column, Committed, Error, Holding, MarkContent, MarkState, PartReport, PartWriter, ROW_COLUMN, Refused, Result,
    Rule, Sink, SinkPlan, SinkRequest, Source, Traffic,
};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, CommitShape, Fault, Retry, WriteMode};

use super::admit;
use super::catalog::{self, Readable, quoted};
use super::commit;
use super::connect::connect;
use super::driver::{Driver, Load};
use super::encode::{Fit, Taker};
use super::hold::hold;
use super::publish;
use super::read::SqlServerSource;
use super::screen;
use super::settings::Server;
use super::types::{Native, published, staged};
use crate::screen::Held;

/// Where rows go.
pub(super) struct Target {
    pub(super) schema: String,
    pub(super) table: String,
    /// Whether it exists; else the commit makes it.
    pub(super) exists: bool,
}

impl Target {
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    pub(super) fn label(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

/// A planned column: what it is in the staging table and how it comes into the target.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub(super) plan: ColumnPlan,
    /// The target's type, in the words of a statement, with its collation.
    pub(super) target_type: String,
    /// The staging table's, likewise.
    pub(super) staging_type: String,
    /// What the SELECT from the staging table says.
    pub(super) expression: String,
    pub(super) nullable: bool,
    pub(super) identity: bool,
    /// Whether the target lacks it and the commit adds it.
    pub(super) added: bool,
    taker: Taker,
}

impl Staged {
    /// Its name, quoted.
    pub(super) fn name(&self) -> String {
        quoted(&self.plan.sink)
    }

    /// Whether it goes into the target as it is staged.
    pub(super) fn plain(&self) -> bool {
        self.expression == self.name()
    }
}

/// An opened sink.
pub(super) struct SqlServerSink {
    pub(super) server: Arc<Server>,
    pub(super) request: SinkRequest,
    pub(super) target: Target,
    found: Vec<Readable>,
    primary_key: Vec<String>,
    /// Triggers of the target.
    triggers: Vec<String>,
    pub(super) staged: Vec<Staged>,
    /// What staged rows are held against, in this order.
    pub(super) screen: Vec<Held>,
    /// For everything but rows. Gone when it broke; opened again when needed.
    control: tokio::sync::Mutex<Control>,
    /// Sessions between parts.
    idle: Arc<Mutex<Vec<Box<dyn Driver>>>>,
    traffic: Arc<Traffic>,
}

/// The control session.
#[derive(Default)]
struct Control {
    session: Option<Box<dyn Driver>>,
}

impl Control {
    /// The session; a new one if the last broke, or was ended by a successor between two commands.
    async fn session(&mut self, server: &Server) -> Result<&mut Box<dyn Driver>> {
        if let Some(mut session) = self.session.take()
            && session.usable()
            && session.batch("IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION").await.is_ok()
        {
            return Ok(self.session.insert(session));
        }
        let session = connect(server).await?;
        Ok(self.session.insert(session))
    }
}

impl SqlServerSink {
    /// Connects and looks at the target. Changes nothing.
    pub(super) async fn open(server: Arc<Server>, request: SinkRequest) -> Result<Self> {
        let StoreObject::Table { schema, table } = &request.object else {
            let message = "A copy into SQL Server needs a table; a query or files cannot be written to.";
            return Err(Fault::new("UserErrorSettings", message).into());
        };
        let mut control = Control::default();
        let session = control.session(&server).await?.as_mut();
        admit::refuse_synapse(session).await?;
        commit::end_lower_epochs(session, &request.attempt).await;
        let mut triggers = Vec::new();
        let (target, found, primary_key) = if request.mode == WriteMode::Procedure {
            let found = publish::table_type(session, &request).await?;
            let schema = match schema {
                Some(schema) => schema.clone(),
                None => default_schema(session).await?,
            };
            (Target { schema, table: table.clone(), exists: true }, found, Vec::new())
        } else {
            match catalog::relation(session, schema.as_deref(), table).await? {
                Some(relation) if relation.kind == "U" => {
                    let found = catalog::table_columns(session, &relation).await?;
                    let key = catalog::primary_key(session, &relation).await?;
                    triggers = admit::triggers(session, &relation).await?;
                    (Target { schema: relation.schema, table: relation.name, exists: true }, found, key)
                }
                Some(relation) => {
                    let message = format!("{} is no table but a view or the like.", relation.label());
                    let remedy = "Name a table as the target.";
                    return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
                }
                None if request.create_table => {
                    admit::check_name("table name", table)?;
                    let schema = match schema {
                        Some(schema) => schema.clone(),
                        None => default_schema(session).await?,
                    };
                    (Target { schema, table: table.clone(), exists: false }, Vec::new(), Vec::new())
                }
                None => return Err(catalog::missing(&server.place(), schema.as_deref(), table).into()),
            }
        };
        if let Some(slice) = request.slice.as_ref().filter(|_| request.mode == WriteMode::Slice) {
            publish::slice_literal(&found, slice, &target.label())?;
        }
        Ok(SqlServerSink {
            server,
            request,
            target,
            found,
            primary_key,
            triggers,
            staged: Vec::new(),
            screen: Vec::new(),
            control: tokio::sync::Mutex::new(control),
            idle: Arc::default(),
            traffic: Arc::default(),
        })
    }

    /// Name of the staging table, without its schema.
    pub(super) fn staging(&self) -> String {
        commit::staging_name(&self.request.attempt)
    }

    pub(super) fn staging_quoted(&self) -> String {
        format!("{}.{}", quoted(&self.target.schema), quoted(&self.staging()))
    }

    /// The planned columns, quoted, in plan order.
    pub(super) fn column_list(&self) -> String {
        self.staged.iter().map(Staged::name).collect::<Vec<_>>().join(", ")
    }

    /// Columns of the target as they were found.
    pub(super) fn found(&self) -> &[Readable] {
        &self.found
    }

    /// Columns that identify a row.
    pub(super) fn keys(&self) -> &[String] {
        if self.request.keys.is_empty() { &self.primary_key } else { &self.request.keys }
    }

    /// Whether the staging table itself can become the new target.
    pub(super) fn swaps(&self) -> bool {
        !self.target.exists && self.staged.iter().all(Staged::plain)
    }

    /// The key of a table that is created, where its types can be one.
    pub(super) fn created_key(&self) -> Option<String> {
        let keys: Vec<&Staged> = self.staged.iter().filter(|column| column.plan.key).collect();
        let small = |column: &&Staged| {
            let native = Native::parse(&column.plan.sink_type);
            let long = matches!(native.name.as_str(), "nvarchar" | "nchar" | "varbinary" | "binary");
            !long || native.limit().is_some_and(|limit| limit <= 400)
        };
        let names: Vec<String> = keys.iter().map(|column| column.name()).collect();
        let fits = !keys.is_empty() && keys.len() <= 16 && keys.iter().all(small);
        fits.then(|| format!("PRIMARY KEY NONCLUSTERED ({})", names.join(", ")))
    }

    /// The statement that makes the staging table.
    fn staging_statement(&self) -> String {
        let columns: Vec<String> = self
            .staged
            .iter()
            .map(|column| {
                let null = if column.nullable { "NULL" } else { "NOT NULL" };
                format!("{} {} {null}", column.name(), column.staging_type)
            })
            .chain(self.swaps().then(|| self.created_key()).flatten())
            .chain(screen::columns().into_iter().filter(|_| self.screens()))
            .collect();
        format!("CREATE TABLE {} ({})", self.staging_quoted(), columns.join(", "))
    }

    /// How a planned column is staged.
    fn stage(&self, plan: &ColumnPlan, readable: Option<&Readable>) -> Staged {
        let (native, type_quoted, collation, nullable) = match readable {
            Some(found) => {
                let nullable = found.column.nullable;
                (found.native.clone(), found.type_quoted.clone(), found.collation.clone(), nullable)
            }
            None => {
                let native = Native::parse(&plan.sink_type);
                let added = self.target.exists;
                (native.clone(), native.text(), None, added || !(plan.required || plan.key))
            }
        };
        let held = staged(&native, collation.as_deref());
        let text = matches!(held.name.as_str(), "char" | "varchar" | "nchar" | "nvarchar");
        // A type of the database's own may have a collation that its name does not tell; the letters of a collation
        // are those of a name.
        let suffix = match collation.as_deref().filter(|_| text) {
            Some(collation) if collation.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                format!(" COLLATE {collation}")
            }
            _ => String::new(),
        };
        Staged {
            expression: published(&quoted(&plan.sink), &native, &held, &type_quoted),
            target_type: type_quoted,
            staging_type: format!("{}{suffix}", held.text()),
            nullable,
            identity: readable.is_some_and(|found| found.identity),
            added: self.target.exists && readable.is_none(),
            taker: Taker {
                name: plan.sink.clone(),
                type_name: plan.sink_type.clone(),
                kind: plan.kind,
                nullable,
                fit: Fit::of(&native, collation.as_deref()),
            },
            plan: plan.clone(),
        }
    }

    fn plans(&self) -> Vec<ColumnPlan> {
        self.staged.iter().map(|column| column.plan.clone()).collect()
    }

    /// What staged rows can be held against, where rows that the target refuses are to be left out; or why nothing.
    async fn holds_against(&self, session: &mut dyn Driver) -> Result<(Vec<Held>, Option<String>)> {
        if !self.request.screen || !self.target.exists || self.request.mode == WriteMode::Procedure {
            return Ok((Vec::new(), None));
        }
        if self.request.pre_copy_script.as_ref().is_some_and(|script| !script.trim().is_empty()) {
            let label = self.target.label();
            let why = "it is not known before the commit what the script before the copy leaves there";
            let notice = format!("Rows that {label} refuses are not left out but stop the copy: {why}.");
            return Ok((Vec::new(), Some(notice)));
        }
        Ok((screen::of(self, session).await?, None))
    }
}

async fn default_schema(session: &mut dyn Driver) -> Result<String> {
    let rows = session.batch("SELECT SCHEMA_NAME() AS name").await?;
    let name = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
    Ok(name.unwrap_or_else(|| "dbo".to_owned()))
}

#[async_trait]
impl Sink for SqlServerSink {
    fn label(&self) -> String {
        format!("{}/{}, table {}", self.server.place(), self.server.database, self.target.label())
    }

    async fn columns(&self) -> Result<Option<Vec<Column>>> {
        if !self.target.exists {
            return Ok(None);
        }
        let writable = self.found.iter().filter(|readable| !readable.generated);
        Ok(Some(writable.map(|readable| readable.column.clone()).collect()))
    }

    fn hold(&self, source: &Column, target: Option<&Column>) -> Holding {
        hold(source, target)
    }

    async fn plan(&mut self, columns: &[ColumnPlan]) -> Result<SinkPlan> {
        if columns.is_empty() {
            return Err(Fault::new("UserErrorSchemaMismatch", "No column of the source goes into the target.").into());
        }
        let mut notices = Vec::new();
        let mut all = Vec::with_capacity(columns.len());
        for plan in columns {
            let readable = self.found.iter().find(|readable| readable.column.name == plan.sink);
            match readable {
                Some(_) => drop(catalog::as_planned(&self.found, std::slice::from_ref(plan))?),
                None if !self.target.exists || self.request.add_columns => {
                    admit::check_name("column name", &plan.sink)?;
                }
                None => drop(catalog::as_planned(&self.found, std::slice::from_ref(plan))?),
            }
            all.push(self.stage(plan, readable));
        }
        self.staged = all;
        if self.request.mode == WriteMode::Upsert {
            publish::check_keys(self)?;
        }
        if !self.target.exists {
            notices.push(format!("Table {} does not exist and is created by the commit.", self.target.label()));
            if self.created_key().is_none() && columns.iter().any(|column| column.key) {
                notices.push("Its key columns are of types that cannot be a key: it gets none.".to_owned());
            }
        }
        if !self.triggers.is_empty() {
            let (table, names) = (self.target.label(), self.triggers.join(", "));
            notices.push(format!("Triggers of {table} run inside the commit, once for all rows: {names}."));
        }
        let mut control = self.control.lock().await;
        let session = control.session(&self.server).await?.as_mut();
        let (screen, left_in) = self.holds_against(session).await?;
        drop(control);
        self.screen = screen;
        notices.extend(left_in);
        let shape = match self.request.mode {
            WriteMode::Procedure => CommitShape::Procedure,
            _ if self.swaps() => CommitShape::Swap,
            _ => CommitShape::Staged,
        };
        Ok(SinkPlan { shape, condition: None, notices })
    }

    async fn mark(&self) -> Result<MarkState> {
        let mut control = self.control.lock().await;
        let session = control.session(&self.server).await?.as_mut();
        commit::end_lower_epochs(session, &self.request.attempt).await;
        commit::mark(self, session).await
    }

    async fn begin(&self) -> Result<()> {
        let mut control = self.control.lock().await;
        let session = control.session(&self.server).await?.as_mut();
        commit::end_lower_epochs(session, &self.request.attempt).await;
        dmg_ambient::failpoint!("sql_server.begin", dmg_connector::cut());
        commit::drop_staging_up_to_now(self, session).await?;
        dmg_ambient::failpoint!("sql_server.swept", dmg_connector::cut());
        commit::make_mark_table(self, session).await?;
        session.batch(&self.staging_statement()).await?;
        dmg_ambient::failpoint!("sql_server.staging.made", dmg_connector::cut());
        Ok(())
    }

    async fn part(&self, index: u32) -> Result<Box<dyn PartWriter>> {
        let idle = self.idle.lock().expect("no one panics while holding it").pop();
        let session = match idle {
            Some(session) => session,
            None => connect(&self.server).await?,
        };
        self.traffic.opened();
        let mut columns: Vec<String> = self.staged.iter().map(Staged::name).collect();
        let mut takers: Vec<Taker> = self.staged.iter().map(|column| column.taker.clone()).collect();
        if self.screens() {
            columns.push(quoted(ROW_COLUMN));
            takers.push(screen::taker());
        }
        Ok(Box::new(Writer {
            session: Some(session),
            load: Load {
                table: self.staging_quoted(),
                columns,
                takers,
                lock: !(self.swaps() && self.created_key().is_some()),
            },
            server: self.server.clone(),
            rows_max: self.request.batch_rows.map_or(usize::MAX, |rows| rows.max(1) as usize),
            timeout: self.request.batch_timeout,
            report: PartReport::default(),
            index,
            idle: self.idle.clone(),
            traffic: self.traffic.clone(),
        }))
    }

    fn screens(&self) -> bool {
        !self.screen.is_empty()
    }

    async fn screen(&self) -> Result<Vec<Rule>> {
        self.idle.lock().expect("no one panics while holding it").clear();
        let mut control = self.control.lock().await;
        let session = control.session(&self.server).await?.as_mut();
        screen::screen(self, session).await.map_err(|error| commit::explained(self, error))
    }

    async fn refused(&self, after: i64, rows_max: usize) -> Result<Vec<Refused>> {
        let mut control = self.control.lock().await;
        screen::refused(self, control.session(&self.server).await?.as_mut(), after, rows_max).await
    }

    async fn take_out(&self) -> Result<u64> {
        let mut control = self.control.lock().await;
        screen::take_out(self, control.session(&self.server).await?.as_mut()).await
    }

    async fn staged(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        self.idle.lock().expect("no one panics while holding it").clear();
        let (schema, staging) = (&self.target.schema, self.staging());
        let source =
            SqlServerSource::planned(self.server.clone(), schema, &staging, &self.plans(), lanes, true).await?;
        Ok(Some(Box::new(source)))
    }

    async fn commit(&self, content: &MarkContent) -> Result<Committed> {
        let mut control = self.control.lock().await;
        let session = control.session(&self.server).await?.as_mut();
        commit::commit(self, session, content).await
    }

    async fn committed(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        if self.request.mode != WriteMode::Overwrite {
            return Ok(None);
        }
        let Target { schema, table, .. } = &self.target;
        let source = SqlServerSource::planned(self.server.clone(), schema, table, &self.plans(), lanes, false).await?;
        Ok(Some(Box::new(source)))
    }

    async fn abort(&self) -> Result<()> {
        self.idle.lock().expect("no one panics while holding it").clear();
        let mut control = self.control.lock().await;
        let session = control.session(&self.server).await?.as_mut();
        dmg_ambient::failpoint!("sql_server.abort", dmg_connector::cut());
        commit::drop_staging(session, &self.staging_quoted(), 10).await
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }
}

/// One part on its way into the staging table. Dropped early, its session ends; what it loaded goes with the staging
/// table.
struct Writer {
    session: Option<Box<dyn Driver>>,
    load: Load,
    server: Arc<Server>,
    rows_max: usize,
    timeout: Option<std::time::Duration>,
    report: PartReport,
    index: u32,
    idle: Arc<Mutex<Vec<Box<dyn Driver>>>>,
    traffic: Arc<Traffic>,
}

fn ended() -> Error {
    Fault::new("SystemErrorInternal", "A part was written to after its end.").into()
}

impl Writer {
    async fn load(&mut self, batch: &RecordBatch, from: usize, to: usize) -> Result<u64> {
        // Taken out, so that a write that fails or is dropped midway takes the session along.
        dmg_ambient::failpoint!("sql_server.load", dmg_connector::cut());
        let mut session = self.session.take().ok_or_else(ended)?;
        let before = self.report.rows - from as u64;
        let loading = session.load(&self.load, batch, from, to, before);
        let rows = match self.timeout {
            None => loading.await?,
            Some(timeout) => tokio::select! {
                biased;
                rows = loading => rows?,
                () = self.server.session.ambient.sleep(timeout) => {
                    let (place, seconds) = (self.server.place(), timeout.as_secs());
                    let message = format!("{place} did not take a write of {} rows within {seconds} seconds.", to - from);
                    let remedy = "Raise writeBatchTimeout or lower writeBatchSize.";
                    return Err(Fault::new("StoreErrorTimeout", message).remedy(remedy).retry(Retry::AfterFix).into());
                }
            },
        };
        self.session = Some(session);
        dmg_ambient::failpoint!("sql_server.loaded", dmg_connector::cut());
        Ok(rows)
    }
}

#[async_trait]
impl PartWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let size = batch.get_array_memory_size() as u64;
        let mut from = 0;
        while from < batch.num_rows() {
            let to = batch.num_rows().min(from.saturating_add(self.rows_max));
            let rows = self.load(&batch, from, to).await?;
            if rows != (to - from) as u64 {
                let message = format!(
                    "{} took {rows} rows of part {} where {} were sent.",
                    self.server.place(),
                    self.index,
                    to - from
                );
                return Err(Fault::new("SystemErrorVerification", message).into());
            }
            // Counted load by load: whoever watches takes bytes for signs of life.
            let bytes = size * rows / batch.num_rows() as u64;
            self.report.rows += rows;
            self.report.bytes += bytes;
            self.traffic.add_bytes(bytes);
            from = to;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<PartReport> {
        let session = self.session.take().ok_or_else(ended)?;
        if session.usable() {
            self.idle.lock().expect("no one panics while holding it").push(session);
        }
        Ok(self.report.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.traffic.closed();
    }
}
