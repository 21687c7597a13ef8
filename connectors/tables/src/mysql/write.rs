//! Writes into a table: rows go by LOAD DATA LOCAL, or by INSERT where the server forbids that, into a staging table
//! no reader looks at, and become visible in one step together with the mark (see `commit.rs`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{
    Checkpoint, Column, Committed, Error, Holding, MarkContent, MarkState, PartReport, PartWriter, Refused, Result,
    Resumption, Rule, Sink, SinkPlan, SinkRequest, Source, Sums, Traffic, row_plan,
};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, CommitShape, Fault, WriteMode};

use super::catalog::{self, Readable, Relation};
use super::checkpoint;
use super::client::{Client, Done, Version, quoted, quoted_list};
use super::commit;
use super::connect::{Purpose, connect};
use super::encode::{Rows, Slot, Style};
use super::hold::hold;
use super::read::MySqlSource;
use super::screen;
use super::sessions;
use super::settings::Server;
use super::shape;
use super::types::ColumnType;
use super::{call, calls};
use crate::lost::{InHand, Lost};
use crate::screen::Held;

/// A file is sent in pieces of about this size.
const PIECE_BYTES: usize = 256 * 1024;
/// A buffer that has grown beyond this, for an unusually long value, is not kept.
const LARGE_BYTES: usize = 4 * 1024 * 1024;
/// A multi-row INSERT is about this long.
const INSERT_BYTES: usize = 1024 * 1024;

/// Where rows go.
pub(super) struct Target {
    pub(super) schema: String,
    pub(super) table: String,
    /// What is there; else the commit makes it.
    pub(super) exists: Option<Relation>,
}

impl Target {
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    pub(super) fn label(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

/// An opened sink.
pub(super) struct MySqlSink {
    pub(super) server: Arc<Server>,
    pub(super) request: SinkRequest,
    pub(super) target: Target,
    /// For messages: `MariaDB db01:3306`.
    pub(super) place: String,
    version: Version,
    pub(super) found: Vec<Readable>,
    pub(super) planned: Vec<ColumnPlan>,
    pub(super) shape: CommitShape,
    /// What staged rows are held against, where those that the target refuses are left out.
    pub(super) screen: Vec<Held>,
    /// What the target was when its replacement was planned.
    pub(super) definition: Option<String>,
    slots: Arc<[Slot]>,
    style: Style,
    /// For everything but rows. Gone when it broke; opened again when needed.
    control: tokio::sync::Mutex<Control>,
    /// Sessions between parts.
    idle: Arc<Mutex<Vec<Client>>>,
    /// Sessions that broke off in the middle of a part.
    lost: Lost,
    next_slot: AtomicU32,
    traffic: Arc<Traffic>,
}

/// The control session, and the one that was lost in doubt.
#[derive(Default)]
struct Control {
    client: Option<Client>,
    lost: Option<u32>,
}

impl MySqlSink {
    /// Connects and looks at the target. Changes nothing.
    pub(super) async fn open(server: Arc<Server>, request: SinkRequest) -> Result<Self> {
        let StoreObject::Table { schema, table } = &request.object else {
            let message = "A copy into MariaDB or MySQL needs a table; a query or files cannot be written to.";
            return Err(Fault::new("UserErrorSettings", message).into());
        };
        let mut client = connect(&server, Purpose::Write).await?;
        sessions::claim(&mut client, &request.attempt, 0).await?;
        // A predecessor stuck in its commit may hold locks that even a look at the target would wait for.
        sessions::end_lower_epochs(&mut client, &request.attempt).await?;
        let schema = schema.as_ref().unwrap_or(&server.database).clone();
        let (exists, found) = match catalog::relation(&mut client, &schema, table).await? {
            Some(relation) if !relation.view => {
                let found = catalog::table_columns(&mut client, &server, &relation.schema, &relation.name).await?;
                (Some(relation), found)
            }
            Some(relation) => {
                let message = format!("{} is no table but a view.", relation.label());
                return Err(Fault::new("UserErrorSettings", message).remedy("Name a table as the target.").into());
            }
            None if request.create_table => (None, Vec::new()),
            None => return Err(catalog::missing(&client.wire.place, &schema, table).into()),
        };
        let local = client.query("SELECT @@local_infile").await?.single();
        let mut sink = MySqlSink {
            place: client.wire.place.clone(),
            version: client.version.clone(),
            target: Target { schema, table: table.clone(), exists },
            server,
            request,
            found,
            planned: Vec::new(),
            shape: CommitShape::Staged,
            screen: Vec::new(),
            definition: None,
            slots: Arc::from([]),
            style: if local.as_deref() == Some("1") { Style::File } else { Style::Values },
            control: tokio::sync::Mutex::default(),
            idle: Arc::default(),
            lost: Lost::default(),
            next_slot: AtomicU32::new(1),
            traffic: Arc::default(),
        };
        sink.check_mode(&mut client).await?;
        sink.control = tokio::sync::Mutex::new(Control { client: Some(client), lost: None });
        Ok(sink)
    }

    /// What a mode needs of the target.
    async fn check_mode(&mut self, client: &mut Client) -> Result<()> {
        let exists = self.target.exists.is_some();
        match self.request.mode {
            WriteMode::Append | WriteMode::Overwrite => {}
            WriteMode::Upsert => {
                if self.request.keys.is_empty() {
                    let keys = self.found.iter().filter(|readable| readable.column.key);
                    self.request.keys = keys.map(|readable| readable.column.name.clone()).collect();
                }
                if self.request.keys.is_empty() {
                    let message = format!("Table {} has no primary key to upsert by.", self.target.label());
                    let remedy = "Name the columns that identify a row as the keys of the copy.";
                    return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
                }
                let unknown = self.request.keys.iter().find(|key| catalog::find(&self.found, key).is_none());
                if let Some(key) = unknown.filter(|_| exists) {
                    return Err(self.no_column(key));
                }
            }
            WriteMode::Slice => {
                let Some(slice) = &self.request.slice else {
                    let message = "The copy replaces a slice, and none is named.";
                    return Err(Fault::new("UserErrorSettings", message).into());
                };
                if exists && catalog::find(&self.found, &slice.column).is_none() {
                    return Err(self.no_column(&slice.column));
                }
                let column = slice.column.clone();
                self.found.retain(|readable| !readable.column.name.eq_ignore_ascii_case(&column) || !exists);
            }
            WriteMode::Procedure => {
                let Some(procedure) = &self.request.procedure else {
                    let message = "The copy writes by a stored procedure, and none is named.";
                    return Err(Fault::new("UserErrorSettings", message).into());
                };
                calls::check(client)?;
                call::parameters(client, &self.server, &procedure.name).await?;
            }
        }
        Ok(())
    }

    fn no_column(&self, name: &str) -> Error {
        let message = format!("Table {} has no column \"{name}\".", self.target.label());
        Fault::new("UserErrorColumnMissing", message).with("column", name).into()
    }

    /// A session of this attempt, known to successors by its lock.
    async fn session(&self) -> Result<Client> {
        let mut client = connect(&self.server, Purpose::Write).await?;
        let slot = self.next_slot.fetch_add(1, Ordering::Relaxed);
        sessions::claim(&mut client, &self.request.attempt, slot).await?;
        Ok(client)
    }

    /// The control session; a new one if the last broke. A lost session is ended first, so that whatever it was doing
    /// is decided before anybody looks.
    async fn control<'a>(&self, control: &'a mut Control) -> Result<&'a mut Client> {
        if let Some(mut client) = control.client.take() {
            // A successor or an administrator may have ended it between two commands.
            if client.usable() && client.batch("DO 0").await.is_ok() {
                return Ok(control.client.insert(client));
            }
            control.lost = Some(client.id);
        }
        let mut client = self.session().await?;
        if let Some(lost) = control.lost {
            sessions::end_own(&mut client, &self.request.attempt, lost).await?;
            control.lost = None;
        }
        Ok(control.client.insert(client))
    }

    /// Name of the staging table, without its schema.
    pub(super) fn staging(&self) -> String {
        commit::staging_name(&self.request.attempt)
    }

    pub(super) fn staging_quoted(&self) -> String {
        format!("{}.{}", quoted(&self.target.schema), quoted(&self.staging()))
    }

    /// The columns that are staged: those planned and, where rows are screened, what tells them apart.
    fn staged_plans(&self) -> Vec<ColumnPlan> {
        self.planned.iter().cloned().chain((!self.screen.is_empty()).then(|| row_plan("bigint"))).collect()
    }

    /// The planned columns, quoted, in plan order.
    pub(super) fn column_list(&self) -> String {
        quoted_list(self.planned.iter().map(|column| column.sink.as_str()))
    }

    pub(super) fn procedure_name(&self) -> &str {
        self.request.procedure.as_ref().map_or("", |procedure| procedure.name.as_str())
    }

    /// Planned columns the target does not have.
    pub(super) fn added(&self) -> Vec<&ColumnPlan> {
        let missing = |plan: &&ColumnPlan| catalog::find(&self.found, &plan.sink).is_none();
        self.planned.iter().filter(missing).filter(|_| self.target.exists.is_some()).collect()
    }

    /// The type of a planned column in the staging table.
    fn own_type(&self, plan: &ColumnPlan) -> ColumnType {
        match catalog::find(&self.found, &plan.sink) {
            Some(found) => found.own.clone(),
            None => ColumnType::parse(&plan.sink_type, Some("utf8mb4".to_owned()), false),
        }
    }

    /// The statements that make the staging table.
    fn staging_statements(&self) -> Vec<String> {
        let staging = self.staging_quoted();
        let define = |plan: &&ColumnPlan| format!("{} {}", quoted(&plan.sink), plan.sink_type);
        if self.target.exists.is_none() {
            return vec![self.create_statement(&staging)];
        }
        let mut statements = match self.shape {
            CommitShape::Swap => vec![format!("CREATE TABLE {staging} LIKE {}", self.target.quoted())],
            _ => {
                let has = |plan: &&ColumnPlan| catalog::find(&self.found, &plan.sink).is_some();
                let columns = quoted_list(self.planned.iter().filter(has).map(|plan| plan.sink.as_str()));
                let columns = if columns.is_empty() { "1 AS `__dmg_none`".to_owned() } else { columns };
                vec![format!(
                    "CREATE TABLE {staging} ENGINE = InnoDB SELECT {columns} FROM {} WHERE 1 = 0",
                    self.target.quoted()
                )]
            }
        };
        let mut added: Vec<String> = self.added().iter().map(|plan| format!("ADD COLUMN {}", define(plan))).collect();
        if !self.screen.is_empty() {
            added.push(screen::columns());
        }
        if !added.is_empty() {
            statements.push(format!("ALTER TABLE {staging} {}", added.join(", ")));
        }
        statements
    }

    /// A whole new table, which takes the target's name later.
    fn create_statement(&self, staging: &str) -> String {
        let keys: Vec<&str> = match self.request.mode {
            WriteMode::Upsert => self.request.keys.iter().map(String::as_str).collect(),
            _ => self.planned.iter().filter(|plan| plan.key).map(|plan| plan.sink.as_str()).collect(),
        };
        let is_key = |plan: &ColumnPlan| keys.iter().any(|key| key.eq_ignore_ascii_case(&plan.sink));
        // A key of unlimited text cannot be; the table then goes without.
        let long = self.planned.iter().any(|plan| is_key(plan) && plan.sink_type.starts_with("long"));
        let mut lines: Vec<String> = self
            .planned
            .iter()
            .map(|plan| {
                let required = if plan.required || (is_key(plan) && !long) { " NOT NULL" } else { "" };
                format!("{} {}{required}", quoted(&plan.sink), plan.sink_type)
            })
            .collect();
        if let Some(slice) = &self.request.slice {
            lines.push(format!("{} binary(32)", quoted(&slice.column)));
        }
        if !keys.is_empty() && !long {
            lines.push(format!("PRIMARY KEY ({})", quoted_list(keys)));
        }
        format!("CREATE TABLE {staging} ({}) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4", lines.join(", "))
    }

    /// What starts a part: the LOAD DATA, or the front of each INSERT.
    fn part_statement(&self) -> String {
        let staging = self.staging_quoted();
        if self.style == Style::Values {
            let names = quoted_list(self.slots.iter().map(|slot| slot.name.as_str()));
            return format!("INSERT INTO {staging} ({names}) VALUES ");
        }
        let slots: Vec<_> =
            self.slots.iter().enumerate().map(|(index, slot)| slot.load(index, &quoted(&slot.name))).collect();
        let into: Vec<&str> = slots.iter().map(|(into, _)| into.as_str()).collect();
        let set: Vec<&str> = slots.iter().filter_map(|(_, set)| set.as_deref()).collect();
        let set = if set.is_empty() { String::new() } else { format!(" SET {}", set.join(", ")) };
        format!(
            "LOAD DATA LOCAL INFILE 'dmg' INTO TABLE {staging} CHARACTER SET binary \
             FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({}){set}",
            into.join(", ")
        )
    }

    /// Makes the staging, or takes over what a lower epoch staged of the same work.
    async fn start(&self, fingerprint: Option<&str>) -> Result<Resumption> {
        let mut control = self.control.lock().await;
        let client = self.control(&mut control).await?;
        sessions::end_lower_epochs(client, &self.request.attempt).await?;
        dmg_ambient::failpoint!("mysql.begin", dmg_connector::cut());
        client.batch(&format!("SET lock_wait_timeout = {}", commit::LOCK_SECONDS)).await?;
        let found = match fingerprint {
            Some(fingerprint) => checkpoint::adopt(self, client, fingerprint).await?,
            None => Resumption::default(),
        };
        commit::sweep(self, client, found.from.is_some()).await?;
        dmg_ambient::failpoint!("mysql.swept", dmg_connector::cut());
        commit::make_mark_table(self, client).await?;
        if found.from.is_none() {
            for statement in self.staging_statements() {
                client.batch(&statement).await?;
            }
            if self.checkpoints() {
                client.batch(&checkpoint::statement(self, fingerprint.unwrap_or_default())).await?;
            }
        }
        dmg_ambient::failpoint!("mysql.staging.made", dmg_connector::cut());
        Ok(found)
    }

    /// What staged rows can be held against, where rows that the target refuses are to be left out; or why nothing.
    async fn holds_against(&self, client: &mut Client) -> Result<(Vec<Held>, Option<String>)> {
        let Some(relation) = self.target.exists.as_ref().filter(|_| self.request.screen) else {
            return Ok((Vec::new(), None));
        };
        let oldest = if client.version.mariadb { (10, 2, 0) } else { (8, 0, 0) };
        let why = if self.request.mode == WriteMode::Procedure {
            return Ok((Vec::new(), None));
        } else if client.version.number < oldest {
            format!("version {} cannot number rows", client.version.text)
        } else if !relation.transactional {
            format!("engine {} has no transactions", relation.engine)
        } else if self.request.pre_copy_script.as_ref().is_some_and(|script| !script.trim().is_empty()) {
            "it is not known before the commit what the script before the copy leaves there".to_owned()
        } else {
            return Ok((screen::of(self, client).await?, None));
        };
        let label = self.target.label();
        Ok((Vec::new(), Some(format!("Rows that {label} refuses are not left out but stop the copy: {why}."))))
    }

    fn clear_idle(&self) {
        self.idle.lock().expect("no one panics while holding it").clear();
    }
}

#[async_trait]
impl Sink for MySqlSink {
    fn label(&self) -> String {
        format!("{}/{}, table {}", self.place, self.server.database, self.target.label())
    }

    async fn columns(&self) -> Result<Option<Vec<Column>>> {
        if self.target.exists.is_none() {
            return Ok(None);
        }
        let writable = self.found.iter().filter(|readable| !readable.generated);
        Ok(Some(writable.map(|readable| readable.column.clone()).collect()))
    }

    fn hold(&self, source: &Column, target: Option<&Column>) -> Holding {
        hold(source, target, &self.version)
    }

    async fn plan(&mut self, columns: &[ColumnPlan]) -> Result<SinkPlan> {
        if columns.is_empty() {
            return Err(Fault::new("UserErrorSchemaMismatch", "No column of the source goes into the target.").into());
        }
        self.planned = columns.to_vec();
        let known: Vec<ColumnPlan> = columns
            .iter()
            .filter(|plan| !self.request.add_columns || catalog::find(&self.found, &plan.sink).is_some())
            .cloned()
            .collect();
        if self.target.exists.is_some() {
            // Also tells now rather than later that two kinds do not go together.
            catalog::as_planned(&self.found, &known, &self.server)?;
        }
        if self.request.mode == WriteMode::Upsert {
            let planned = |key: &&String| columns.iter().any(|plan| plan.sink.eq_ignore_ascii_case(key));
            if let Some(key) = self.request.keys.iter().find(|key| !planned(key)) {
                let message = format!("Key column \"{key}\" gets no value from the source.");
                return Err(Fault::new("UserErrorColumnMissing", message).with("column", key).into());
            }
        }
        let mut control = self.control.lock().await;
        let client = self.control(&mut control).await?;
        let (screen, left_in) = self.holds_against(client).await?;
        self.screen = screen;
        self.slots = self.staged_plans().iter().map(|plan| Slot::new(plan, &self.own_type(plan))).collect();
        let (shape, mut notices) = shape::choose(self, client).await?;
        let replaces = shape == CommitShape::Swap && self.target.exists.is_some();
        let definition = if replaces { Some(shape::definition(self, client).await?) } else { None };
        drop(control);
        (self.shape, self.definition) = (shape, definition);
        notices.extend(left_in);
        if self.style == Style::Values {
            notices.push("The server forbids LOAD DATA LOCAL, so rows go by INSERT, which is slower.".to_owned());
        }
        Ok(SinkPlan { shape, condition: None, notices })
    }

    async fn mark(&self) -> Result<MarkState> {
        let mut control = self.control.lock().await;
        let client = self.control(&mut control).await?;
        sessions::end_lower_epochs(client, &self.request.attempt).await?;
        commit::mark(self, client).await
    }

    async fn begin(&self) -> Result<()> {
        self.start(None).await.map(drop)
    }

    fn checkpoints(&self) -> bool {
        let replaced = self.target.exists.as_ref().filter(|_| self.shape == CommitShape::Swap);
        replaced.is_none_or(|relation| relation.transactional)
    }

    async fn resume(&self, fingerprint: &str) -> Result<Resumption> {
        self.start(Some(fingerprint)).await
    }

    async fn settle(&self, part: u32) -> Result<Option<Checkpoint>> {
        // What broke one session has likely broken those that wait for work.
        self.clear_idle();
        let mut control = self.control.lock().await;
        let client = self.control(&mut control).await?;
        while let Some(lost) = self.lost.last() {
            sessions::end_own(client, &self.request.attempt, u32::try_from(lost).unwrap_or_default()).await?;
            self.lost.ended(lost);
        }
        dmg_ambient::failpoint!("mysql.settle", dmg_connector::cut());
        checkpoint::find(self, client, part).await
    }

    async fn part(&self, index: u32) -> Result<Box<dyn PartWriter>> {
        let idle = self.idle.lock().expect("no one panics while holding it").pop();
        let mut client = match idle {
            Some(client) => client,
            None => self.session().await?,
        };
        let statement = self.part_statement();
        let noting = self.checkpoints().then(|| (checkpoint::own(self), self.lost.in_hand(client.id)));
        client.wire.count_waits(&self.traffic);
        client.batch("START TRANSACTION").await?;
        let mut buffer = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        match self.style {
            Style::File => client.load(&statement).await?,
            Style::Values => buffer.extend_from_slice(statement.as_bytes()),
        }
        dmg_ambient::failpoint!("mysql.load.begun", dmg_connector::cut());
        self.traffic.opened();
        Ok(Box::new(Writer {
            client: Some(client),
            slots: self.slots.clone(),
            style: self.style,
            statement,
            buffer,
            batch_rows: self.request.batch_rows.map_or(usize::MAX, |rows| rows.max(1) as usize),
            rows_in_buffer: 0,
            taken: Done::default(),
            noting,
            read: Sums::default(),
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
        self.clear_idle();
        let mut control = self.control.lock().await;
        screen::screen(self, self.control(&mut control).await?).await
    }

    async fn refused(&self, after: i64, rows_max: usize) -> Result<Vec<Refused>> {
        let mut control = self.control.lock().await;
        screen::refused(self, self.control(&mut control).await?, after, rows_max).await
    }

    async fn take_out(&self) -> Result<u64> {
        let mut control = self.control.lock().await;
        screen::take_out(self, self.control(&mut control).await?).await
    }

    async fn staged(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        self.clear_idle();
        let (schema, staging) = (&self.target.schema, self.staging());
        let source = MySqlSource::planned(&self.server, schema, &staging, &self.planned, lanes).await?;
        Ok(Some(Box::new(source)))
    }

    async fn commit(&self, content: &MarkContent) -> Result<Committed> {
        self.clear_idle();
        let mut control = self.control.lock().await;
        let client = self.control(&mut control).await?;
        commit::commit(self, client, content).await
    }

    async fn committed(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        if self.request.mode != WriteMode::Overwrite {
            return Ok(None);
        }
        let Target { schema, table, .. } = &self.target;
        let source = MySqlSource::planned(&self.server, schema, table, &self.planned, lanes).await?;
        Ok(Some(Box::new(source)))
    }

    async fn abort(&self) -> Result<()> {
        self.clear_idle();
        let mut control = self.control.lock().await;
        let client = self.control(&mut control).await?;
        if client.in_transaction() {
            client.batch("ROLLBACK").await?;
        }
        dmg_ambient::failpoint!("mysql.abort", dmg_connector::cut());
        client.batch("SET lock_wait_timeout = 10").await?;
        client
            .batch(&format!("DROP TABLE IF EXISTS {}, {}", checkpoint::own(self), self.staging_quoted()))
            .await
            .map(drop)
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }
}

/// One part on its way into the staging table. Dropped early, it closes its session and the server forgets the rows.
struct Writer {
    client: Option<Client>,
    slots: Arc<[Slot]>,
    style: Style,
    statement: String,
    buffer: Vec<u8>,
    batch_rows: usize,
    rows_in_buffer: usize,
    taken: Done,
    /// The table of checkpoints, and the session as one that may be lost.
    noting: Option<(String, InHand)>,
    read: Sums,
    report: PartReport,
    index: u32,
    idle: Arc<Mutex<Vec<Client>>>,
    traffic: Arc<Traffic>,
}

fn ended() -> Error {
    Fault::new("SystemErrorInternal", "A part was written to after its end.").into()
}

impl Writer {
    async fn send(&mut self) -> Result<()> {
        let client = self.client.as_mut().ok_or_else(ended)?;
        dmg_ambient::failpoint!("mysql.load.send", dmg_connector::cut());
        let bytes = self.buffer.len() as u64;
        match self.style {
            Style::File => {
                client.load_data(&self.buffer).await?;
                self.buffer.clear();
                if self.buffer.capacity() > LARGE_BYTES {
                    self.buffer = Vec::new();
                }
            }
            Style::Values => {
                // The comma behind the last row.
                self.buffer.pop();
                let sql = std::str::from_utf8(&self.buffer).map_err(|_| ended())?;
                let done = client.batch(sql).await?;
                self.taken.affected += done.affected;
                self.taken.warnings = self.taken.warnings.saturating_add(done.warnings);
                if done.warnings > 0 {
                    return Err(first_warning(client).await);
                }
                self.buffer.truncate(self.statement.len());
                self.rows_in_buffer = 0;
            }
        }
        self.report.bytes += bytes;
        self.traffic.add_bytes(bytes);
        Ok(())
    }

    /// Whether there are rows that were not sent.
    fn holds_rows(&self) -> bool {
        match self.style {
            Style::File => !self.buffer.is_empty(),
            Style::Values => self.buffer.len() > self.statement.len(),
        }
    }
}

/// What the server would have let pass: LOAD DATA LOCAL bends values and skips rows, and only warns.
async fn first_warning(client: &mut Client) -> Error {
    let place = client.wire.place.clone();
    let rows = match client.query("SHOW WARNINGS LIMIT 1").await {
        Ok(answer) => answer.rows,
        Err(error) => return error,
    };
    let mut row = rows.into_iter().next().unwrap_or_default().into_iter().flatten().skip(1);
    let number = row.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let message = row.next().unwrap_or_default();
    let mut fault = super::errors::fault(&place, &super::errors::ServerError { number, message });
    if fault.code == "StoreErrorFailed" {
        fault.code = "UserErrorValue".to_owned();
    }
    fault.into()
}

#[async_trait]
impl PartWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let slots = self.slots.clone();
        let rows = Rows::new(&batch, &slots, self.style, self.report.rows);
        let (bytes, most) = match self.style {
            Style::File => (PIECE_BYTES, usize::MAX),
            Style::Values => (INSERT_BYTES, self.batch_rows),
        };
        let mut row = 0;
        while row < batch.num_rows() {
            if most == usize::MAX {
                row = rows.write(row, bytes, &mut self.buffer)?;
            } else {
                // One by one, so that a statement has as many rows as the author wants.
                let next = rows.write_one(row, &mut self.buffer)?;
                self.rows_in_buffer += next - row;
                row = next;
            }
            if self.buffer.len() >= bytes || self.rows_in_buffer >= most {
                self.send().await?;
            }
        }
        self.report.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn note(&mut self, read: &Sums) {
        self.read = read.clone();
    }

    async fn finish(mut self: Box<Self>) -> Result<PartReport> {
        if self.holds_rows() {
            self.send().await?;
        }
        let mut client = self.client.take().ok_or_else(ended)?;
        dmg_ambient::failpoint!("mysql.load.finish", dmg_connector::cut());
        let done = match self.style {
            Style::File => client.load_finish().await?,
            Style::Values => self.taken,
        };
        dmg_ambient::failpoint!("mysql.load.finished", dmg_connector::cut());
        if done.warnings > 0 {
            return Err(first_warning(&mut client).await);
        }
        if done.affected != self.report.rows {
            let message = format!(
                "{} took {} rows of part {} where {} were sent.",
                client.wire.place, done.affected, self.index, self.report.rows
            );
            return Err(Fault::new("SystemErrorVerification", message).into());
        }
        if let Some((table, _)) = &self.noting {
            dmg_ambient::failpoint!("mysql.part.note", dmg_connector::cut());
            let sql = checkpoint::note(table, self.index, &self.report, &self.read);
            client.batch(&sql).await.map_err(|error| checkpoint::explained(self.index, error))?;
        }
        client.batch("COMMIT").await?;
        dmg_ambient::failpoint!("mysql.part.noted", dmg_connector::cut());
        if let Some((_, session)) = &mut self.noting {
            session.give_back();
        }
        self.idle.lock().expect("no one panics while holding it").push(client);
        Ok(self.report.clone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.traffic.closed();
    }
}
