//! Writes into a table: rows go by COPY to where no reader sees them, and become visible in one transaction together
//! with the mark (see `commit.rs`). It never truncates and never touches the target before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use dmg_connector::{
    Checkpoint, Column, Committed, Holding, MarkContent, MarkState, PartWriter, Refused, Result, Resumption, Rule,
    Sink, SinkPlan, SinkRequest, Source, Traffic, row_plan,
};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, Fault, WriteMode};

use super::catalog::{self, Readable, Relation, quoted, quoted_list};
use super::checkpoint;
use super::client::Client;
use super::commit;
use super::connect::connect;
use super::hold::hold;
use super::read::PostgresSource;
use super::routine::{self, Routine};
use super::screen::{self, Screen};
use super::sessions::{self, LOCK_SECONDS};
use super::settings::Server;
use super::shape::{self, Expected, Way};
use super::writer::{Encoding, Noting, Place, Taken, Writer};
use super::{mark, publish};
use crate::lost::Lost;

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

/// An opened sink.
pub(super) struct PostgresSink {
    pub(super) server: Arc<Server>,
    pub(super) request: SinkRequest,
    pub(super) target: Target,
    relation: Option<Relation>,
    pub(super) found: Vec<Readable>,
    routine: Option<Routine>,
    expected: Expected,
    pub(super) planned: Vec<ColumnPlan>,
    /// How the rows get into the target; fixed by the plan.
    pub(super) way: Way,
    /// What staged rows are held against, where those that the target refuses are left out.
    pub(super) screen: Option<Screen>,
    /// How rows are written down; known once there is a table to write to.
    encoding: Mutex<Option<Arc<Encoding>>>,
    /// For everything but rows. Gone when it broke; opened again when needed.
    control: tokio::sync::Mutex<Control>,
    /// The session whose transaction takes the rows, where they go to the target itself. One part at a time has it.
    direct: Arc<tokio::sync::Mutex<Option<Client>>>,
    /// Sessions between parts.
    idle: Arc<Mutex<Vec<Client>>>,
    /// Server processes of sessions that broke off in the middle of a part.
    lost: Lost,
    /// Rows that the server took, by part.
    rows_taken: Taken,
    /// Rows that were taken out of the staging again.
    rows_out: AtomicU64,
    traffic: Arc<Traffic>,
}

/// The control session, and the one that was lost in doubt.
#[derive(Default)]
pub(super) struct Control {
    client: Option<Client>,
    lost: Option<i32>,
}

impl Control {
    /// The session; a new one if the last broke. A lost session is ended first, so that whatever it was doing is
    /// decided before anybody looks.
    pub(super) async fn client(&mut self, server: &Arc<Server>) -> Result<&mut Client> {
        if let Some(mut client) = self.client.take() {
            // A successor or an administrator may have ended it between two commands.
            if client.usable() && client.batch("").await.is_ok() {
                return Ok(self.client.insert(client));
            }
            self.lost = Some(client.process);
        }
        let mut client = connect(server).await?;
        if let Some(process) = self.lost {
            sessions::end_session(&mut client, &server.place(), process, &server.session.application).await?;
            self.lost = None;
        }
        Ok(self.client.insert(client))
    }

    /// From now on, that is the session.
    fn replace(&mut self, client: Client) {
        self.client = Some(client);
    }
}

impl PostgresSink {
    /// Connects and looks at the target. Changes nothing.
    pub(super) async fn open(server: Arc<Server>, request: SinkRequest) -> Result<Self> {
        let StoreObject::Table { schema, table } = &request.object else {
            let message = "A copy into PostgreSQL needs a table; a query or files cannot be written to.";
            return Err(Fault::new("UserErrorSettings", message).into());
        };
        let mut control = Control::default();
        let client = control.client(&server).await?;
        // A predecessor stuck in its commit may hold locks that even a look at the target would wait for.
        sessions::end_lower_epochs(client, &server.place(), &request.attempt).await?;
        let routine = match (request.mode, &request.procedure) {
            (WriteMode::Procedure, Some(procedure)) => Some(routine::find(client, &procedure.name, None).await?),
            (WriteMode::Procedure, None) => {
                let message = "Rows are to be handed to a procedure, and none is named.";
                return Err(Fault::new("UserErrorSettings", message).into());
            }
            _ => None,
        };
        let relation = catalog::relation(client, schema.as_deref(), table).await?;
        let (target, found) = match &relation {
            Some(relation) if matches!(relation.kind, 'r' | 'p') => {
                let found = catalog::table_columns(client, relation).await?;
                (Target { schema: relation.schema.clone(), table: relation.name.clone(), exists: true }, found)
            }
            Some(relation) if routine.is_none() => {
                let message = format!("{} is no table but a view or the like.", relation.label());
                let remedy = "Name a table as the target.";
                return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
            }
            None if !request.create_table && routine.is_none() => {
                return Err(catalog::missing(&server.place(), schema.as_deref(), table).into());
            }
            _ => {
                let schema = match schema {
                    Some(schema) => schema.clone(),
                    None => {
                        let current = client.query("SELECT current_schema()", &[]).await?.single();
                        current.unwrap_or_else(|| "public".to_owned())
                    }
                };
                (Target { schema, table: table.clone(), exists: false }, Vec::new())
            }
        };
        Ok(PostgresSink {
            server,
            request,
            target,
            relation,
            found,
            routine,
            expected: Expected::default(),
            planned: Vec::new(),
            way: Way::Insert,
            screen: None,
            encoding: Mutex::default(),
            control: tokio::sync::Mutex::new(control),
            direct: Arc::default(),
            idle: Arc::default(),
            lost: Lost::default(),
            rows_taken: Arc::default(),
            rows_out: AtomicU64::new(0),
            traffic: Arc::default(),
        })
    }

    /// Name of the staging table, without its schema.
    pub(super) fn staging(&self) -> String {
        mark::staging_name(&self.request.attempt)
    }

    pub(super) fn staging_quoted(&self) -> String {
        format!("{}.{}", quoted(&self.target.schema), quoted(&self.staging()))
    }

    /// The columns that are staged: those planned and, where rows are screened, what tells them apart.
    fn staged_plans(&self) -> Vec<ColumnPlan> {
        self.planned.iter().cloned().chain(self.screen.as_ref().map(|_| row_plan("bigint"))).collect()
    }

    /// The planned columns, quoted, in plan order.
    pub(super) fn column_list(&self) -> String {
        quoted_list(self.planned.iter().map(|column| column.sink.as_str()))
    }

    /// Planned columns that the target lacks and is to get.
    pub(super) fn added(&self) -> impl Iterator<Item = &ColumnPlan> {
        publish::added(&self.planned, &self.found).filter(|_| self.target.exists && self.routine.is_none())
    }

    /// Rows that the server took: each part's own count, and only of parts that ended well.
    pub(super) fn rows_taken(&self) -> u64 {
        let taken: u64 = self.rows_taken.lock().expect("no one panics while holding it").values().sum();
        taken.saturating_sub(self.rows_out.load(Ordering::SeqCst))
    }

    /// The author's script, if it says anything.
    pub(super) fn script(&self) -> Option<&str> {
        self.request.pre_copy_script.as_deref().filter(|script| !script.trim().is_empty())
    }

    /// The primary key of a table that is made: what an upsert goes by, else what the source has.
    pub(super) fn new_keys(&self) -> Vec<String> {
        if self.request.mode == WriteMode::Upsert {
            return self.request.keys.clone();
        }
        let keys: Vec<&ColumnPlan> = self.planned.iter().filter(|plan| plan.key).collect();
        // A type without an order cannot be part of a key.
        if keys.iter().any(|plan| matches!(plan.sink_type.as_str(), "json" | "xml" | "point")) {
            return Vec::new();
        }
        keys.into_iter().map(|plan| plan.sink.clone()).collect()
    }

    /// Chooses how the rows get into the target, with remarks for the plan.
    async fn choose(&self, client: &mut Client, notices: &mut Vec<String>) -> Result<Way> {
        let label = self.target.label();
        if let (Some(routine), Some(procedure)) = (&self.routine, &self.request.procedure) {
            let columns: Vec<&str> = self.planned.iter().map(|plan| plan.sink.as_str()).collect();
            let statement = routine.for_each_row(&self.staging_quoted(), &columns, &procedure.parameters)?;
            return Ok(Way::Call { statement });
        }
        let Some(relation) = &self.relation else {
            if self.request.mode == WriteMode::Upsert && self.request.keys.is_empty() {
                let message = format!("Table {label} does not exist, so it has no key to replace rows by.");
                let remedy = "Name the key columns of the upsert.";
                return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
            }
            shape::check_name("table", &self.target.table)?;
            notices.push(format!("Table {label} does not exist and is created by the commit."));
            return Ok(Way::Become);
        };
        if matches!(self.request.mode, WriteMode::Overwrite | WriteMode::Slice) {
            shape::refuse_cascades(client, relation).await?;
        }
        match self.request.mode {
            WriteMode::Append if self.expected.little() && self.goes_direct()? => Ok(Way::Direct),
            WriteMode::Append | WriteMode::Procedure => Ok(Way::Insert),
            WriteMode::Overwrite if self.script().is_some() => {
                notices.push(format!("Rows of {label} are deleted one by one: the script before the copy needs them."));
                Ok(Way::DeleteAll)
            }
            WriteMode::Overwrite => match shape::structure(client, &relation.oid).await? {
                Ok(structure) => Ok(Way::Replace(structure)),
                Err(obstacle) => {
                    notices.push(format!("Rows of {label} are deleted one by one: the table {obstacle}."));
                    Ok(Way::DeleteAll)
                }
            },
            WriteMode::Upsert => shape::upsert(client, relation, &self.request.keys).await,
            WriteMode::Slice => {
                let slice = self.request.slice.as_ref().ok_or_else(no_slice)?;
                let found = self.found.iter().find(|found| found.column.name == slice.column).ok_or_else(|| {
                    let message = format!("Table {label} has no column \"{}\" to tell slices by.", slice.column);
                    let remedy = "Add it to the table, as bytea or character varying(64), and leave it NULL.";
                    Fault::new("UserErrorColumnMissing", message).remedy(remedy).with("column", &slice.column)
                })?;
                let value = shape::slice_value(&slice.column, found.column.kind, &slice.value)?;
                Ok(Way::Slice { column: slice.column.clone(), value })
            }
        }
    }

    /// What staged rows can be held against, where rows that the target refuses are to be left out.
    async fn holds_against(
        &self,
        client: &mut Client,
        way: &mut Way,
        notices: &mut Vec<String>,
    ) -> Result<Option<Screen>> {
        let Some(relation) = self.relation.as_ref().filter(|_| self.request.screen && self.routine.is_none()) else {
            return Ok(None);
        };
        let label = self.target.label();
        if self.script().is_some() {
            let what = "it is not known before the commit what the script before the copy leaves there";
            notices.push(format!("Rows that {label} refuses are not left out but stop the copy: {what}."));
            return Ok(None);
        }
        let screen = screen::of(self, client, relation, way).await?;
        if screen.as_ref().is_some_and(|screen| screen.checks) && matches!(way, Way::Replace(_)) {
            notices.push(format!("Rows of {label} are deleted one by one: each new row is held against its checks."));
            *way = Way::DeleteAll;
        }
        Ok(screen)
    }

    /// Whether rows can be sent to the target itself and still be proved: by decoding again what is sent.
    fn goes_direct(&self) -> Result<bool> {
        if self.script().is_some() || self.added().next().is_some() || self.request.screen {
            return Ok(false);
        }
        let columns = catalog::as_planned(&self.found, &self.planned)?;
        Ok(Encoding::of(&columns, &self.planned).is_binary() && columns.iter().all(|column| !column.reading.cast))
    }

    fn check_columns(&self) -> Result<()> {
        let slice = self.request.slice.as_ref().map(|slice| slice.column.as_str());
        for (index, plan) in self.planned.iter().enumerate() {
            if self.planned[..index].iter().any(|other| other.sink == plan.sink) || Some(plan.sink.as_str()) == slice {
                let message = format!("Column \"{}\" of {} would be written twice.", plan.sink, self.target.label());
                return Err(Fault::new("UserErrorSchemaMismatch", message).with("column", &plan.sink).into());
            }
            if !self.found.iter().any(|found| found.column.name == plan.sink) {
                shape::check_name("column", &plan.sink)?;
            }
        }
        for key in self.request.keys.iter().filter(|_| self.request.mode == WriteMode::Upsert) {
            if !self.planned.iter().any(|plan| plan.sink == *key) {
                let message = format!("Key column \"{key}\" is not among the columns that are written.");
                return Err(Fault::new("UserErrorColumnMissing", message).with("column", key).into());
            }
        }
        Ok(())
    }

    /// The statements that make the staging table.
    fn staging_statements(&self) -> String {
        let staging = self.staging_quoted();
        let add = |column: &ColumnPlan| format!("ADD COLUMN {} {}", quoted(&column.sink), column.sink_type);
        let mut changes: Vec<String> = self.added().map(add).collect();
        let mut sql = match &self.way {
            Way::Become | Way::Call { .. } => {
                let keys = self.new_keys();
                let columns = self.planned.iter().map(|plan| {
                    let required = matches!(self.way, Way::Become) && (plan.required || keys.contains(&plan.sink));
                    let required = if required { " NOT NULL" } else { "" };
                    format!("{} {}{required}", quoted(&plan.sink), plan.sink_type)
                });
                format!("CREATE TABLE {staging} ({})", columns.collect::<Vec<_>>().join(", "))
            }
            Way::Replace(_) => format!(
                "CREATE TABLE {staging} (LIKE {} INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS)",
                self.target.quoted()
            ),
            _ => {
                let found = self.planned.iter().filter(|plan| self.found_column(plan).is_some());
                let list = quoted_list(found.map(|plan| plan.sink.as_str()));
                // What the target refuses is to be found while staging, not at the commit.
                changes.extend(self.planned.iter().filter_map(|plan| {
                    let found = self.found_column(plan)?;
                    (!found.column.nullable).then(|| format!("ALTER COLUMN {} SET NOT NULL", quoted(&plan.sink)))
                }));
                format!("CREATE TABLE {staging} AS SELECT {list} FROM {} WITH NO DATA", self.target.quoted())
            }
        };
        if self.screen.is_some() {
            changes.extend(screen::columns());
        }
        if !changes.is_empty() {
            sql.push_str(&format!("; ALTER TABLE {staging} {}", changes.join(", ")));
        }
        sql
    }

    fn found_column(&self, plan: &ColumnPlan) -> Option<&Readable> {
        self.found.iter().find(|found| found.column.name == plan.sink)
    }

    /// Makes the staging, or takes over what a lower epoch staged of the same work.
    async fn start(&self, fingerprint: Option<&str>) -> Result<Resumption> {
        let mut control = self.control.lock().await;
        let client = control.client(&self.server).await?;
        sessions::end_lower_epochs(client, &self.server.place(), &self.request.attempt).await?;
        dmg_ambient::failpoint!("postgres.begin", dmg_connector::cut());
        let found = match fingerprint {
            Some(fingerprint) => checkpoint::adopt(self, client, fingerprint).await?,
            None => Resumption::default(),
        };
        let kept = found.kept.iter().map(|kept| (kept.part, kept.report.rows));
        *self.rows_taken.lock().expect("no one panics while holding it") = kept.collect();
        mark::drop_staging_up_to_now(self, client, found.from.is_some()).await?;
        dmg_ambient::failpoint!("postgres.swept", dmg_connector::cut());
        mark::make_table(self, client).await?;
        let columns = if self.way == Way::Direct {
            self.begin_direct().await?;
            catalog::as_planned(&self.found, &self.planned)?
        } else {
            if found.from.is_none() {
                let checkpoints = checkpoint::statements(self, fingerprint.unwrap_or_default());
                client.batch(&format!("{}; {checkpoints}", self.staging_statements())).await?;
            }
            let staging = catalog::relation(client, Some(&self.target.schema), &self.staging()).await?;
            let staging = staging.ok_or_else(|| {
                Fault::new("SystemErrorLeaseLost", "The staging table is gone: another attempt took over.")
            })?;
            catalog::as_planned(&catalog::table_columns(client, &staging).await?, &self.staged_plans())?
        };
        dmg_ambient::failpoint!("postgres.staging.made", dmg_connector::cut());
        let encoding = Encoding::of(&columns, &self.staged_plans());
        *self.encoding.lock().expect("no one panics while holding it") = Some(Arc::new(encoding));
        Ok(found)
    }

    /// Opens the transaction that takes the rows.
    async fn begin_direct(&self) -> Result<()> {
        let mut client = connect(&self.server).await?;
        let sql = format!(
            "BEGIN; SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; LOCK TABLE {} IN ROW EXCLUSIVE MODE",
            self.target.quoted()
        );
        client.batch(&sql).await?;
        *self.direct.lock().await = Some(client);
        Ok(())
    }
}

fn no_slice() -> dmg_connector::Error {
    Fault::new("UserErrorSettings", "A slice is to be replaced, and none is named.").into()
}

#[async_trait]
impl Sink for PostgresSink {
    fn label(&self) -> String {
        let what = if self.routine.is_some() { "procedure for" } else { "table" };
        format!("{}/{}, {what} {}", self.server.place(), self.server.database, self.target.label())
    }

    async fn columns(&self) -> Result<Option<Vec<Column>>> {
        if let (Some(routine), Some(procedure)) = (&self.routine, &self.request.procedure) {
            return Ok(Some(routine.columns(&procedure.parameters)));
        }
        if !self.target.exists {
            return Ok(None);
        }
        let slice = self.request.slice.as_ref().map(|slice| slice.column.as_str());
        let writable = self.found.iter().filter(|readable| !readable.generated);
        let writable = writable.filter(|readable| Some(readable.column.name.as_str()) != slice);
        Ok(Some(writable.map(|readable| readable.column.clone()).collect()))
    }

    fn hold(&self, source: &Column, target: Option<&Column>) -> Holding {
        hold(source, target)
    }

    fn pads(&self, target: &Column) -> Option<usize> {
        target.type_name.strip_prefix("character(")?.strip_suffix(')')?.parse().ok()
    }

    fn expect(&mut self, rows: Option<u64>, parts: usize) {
        self.expected = Expected { rows, parts };
    }

    async fn plan(&mut self, columns: &[ColumnPlan]) -> Result<SinkPlan> {
        if columns.is_empty() {
            return Err(Fault::new("UserErrorSchemaMismatch", "No column of the source goes into the target.").into());
        }
        self.planned = columns.to_vec();
        self.check_columns()?;
        if self.target.exists && self.routine.is_none() {
            // Also tells now rather than later that two kinds do not go together.
            let old: Vec<ColumnPlan> = columns
                .iter()
                .filter(|plan| !self.request.add_columns || self.found_column(plan).is_some())
                .cloned()
                .collect();
            catalog::as_planned(&self.found, &old)?;
        }
        let mut notices = Vec::new();
        let way = {
            let mut control = self.control.lock().await;
            let client = control.client(&self.server).await?;
            let mut way = self.choose(client, &mut notices).await?;
            self.screen = self.holds_against(client, &mut way, &mut notices).await?;
            way
        };
        if let Way::Upsert { keys, .. } = &way
            && let Some(key) = keys.iter().find(|key| !columns.iter().any(|plan| plan.sink == **key))
        {
            let message = format!("Key column \"{key}\" of {} is not written.", self.target.label());
            return Err(Fault::new("UserErrorColumnMissing", message).with("column", key).into());
        }
        for plan in self.added() {
            notices.push(format!("Column {} is added to {}.", quoted(&plan.sink), self.target.label()));
        }
        self.way = way;
        Ok(SinkPlan { shape: self.way.shape(), condition: None, notices })
    }

    async fn mark(&self) -> Result<MarkState> {
        let mut control = self.control.lock().await;
        let client = control.client(&self.server).await?;
        sessions::end_lower_epochs(client, &self.server.place(), &self.request.attempt).await?;
        mark::state(self, client).await
    }

    async fn begin(&self) -> Result<()> {
        self.start(None).await.map(drop)
    }

    fn checkpoints(&self) -> bool {
        self.way != Way::Direct
    }

    async fn resume(&self, fingerprint: &str) -> Result<Resumption> {
        self.start(Some(fingerprint)).await
    }

    async fn settle(&self, part: u32) -> Result<Option<Checkpoint>> {
        // What broke one session has likely broken those that wait for work.
        self.idle.lock().expect("no one panics while holding it").clear();
        let mut control = self.control.lock().await;
        let client = control.client(&self.server).await?;
        while let Some(lost) = self.lost.last() {
            let process = i32::try_from(lost).unwrap_or_default();
            sessions::end_session(client, &self.server.place(), process, &self.server.session.application).await?;
            self.lost.ended(lost);
        }
        dmg_ambient::failpoint!("postgres.settle", dmg_connector::cut());
        let kept = checkpoint::find(self, client, part).await?;
        if let Some(kept) = &kept {
            self.rows_taken.lock().expect("no one panics while holding it").insert(part, kept.report.rows);
        }
        Ok(kept)
    }

    async fn part(&self, index: u32) -> Result<Box<dyn PartWriter>> {
        let encoding = self.encoding.lock().expect("no one panics while holding it").clone();
        let encoding = encoding.ok_or_else(|| Fault::new("SystemErrorInternal", "A part came before the staging."))?;
        let (mut place, table) = if self.way == Way::Direct {
            // Parts take turns: the transaction has one session.
            let place = Place::Direct(self.direct.clone().lock_owned().await);
            (place, self.target.quoted())
        } else {
            (Place::Staging(self.idle.clone()), self.staging_quoted())
        };
        let client = match place.take() {
            Some(client) => client,
            None if self.way == Way::Direct => {
                let message = format!("The session that takes the rows of {} is gone.", self.target.label());
                return Err(Fault::new("SystemErrorLeaseLost", message).into());
            }
            None => connect(&self.server).await?,
        };
        let staged = self.staged_plans();
        let mut statement = format!(
            "COPY {table} ({}) FROM STDIN{}",
            quoted_list(staged.iter().map(|plan| plan.sink.as_str())),
            encoding.option()
        );
        let noting = self
            .checkpoints()
            .then(|| Noting { table: checkpoint::own(self), session: self.lost.in_hand(client.process) });
        if noting.is_some() {
            // The rows and their checkpoint become staged together.
            statement.insert_str(0, "BEGIN; ");
        }
        let (place, part) = ((place, self.rows_taken.clone()), (index, noting));
        Ok(Box::new(Writer::start(client, &statement, place, encoding, part, self.traffic.clone()).await?))
    }

    fn screens(&self) -> bool {
        self.screen.is_some()
    }

    async fn screen(&self) -> Result<Vec<Rule>> {
        self.idle.lock().expect("no one panics while holding it").clear();
        let mut control = self.control.lock().await;
        screen::screen(self, control.client(&self.server).await?).await
    }

    async fn refused(&self, after: i64, rows_max: usize) -> Result<Vec<Refused>> {
        let mut control = self.control.lock().await;
        screen::refused(self, control.client(&self.server).await?, after, rows_max).await
    }

    async fn take_out(&self) -> Result<u64> {
        let mut control = self.control.lock().await;
        let rows = screen::take_out(self, control.client(&self.server).await?).await?;
        self.rows_out.fetch_add(rows, Ordering::SeqCst);
        Ok(rows)
    }

    async fn staged(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        if self.way == Way::Direct {
            return Ok(None);
        }
        self.idle.lock().expect("no one panics while holding it").clear();
        let (schema, staging) = (&self.target.schema, self.staging());
        let source = PostgresSource::planned(self.server.clone(), schema, &staging, &self.planned, lanes).await?;
        Ok(Some(Box::new(source)))
    }

    async fn commit(&self, content: &MarkContent) -> Result<Committed> {
        let mut control = self.control.lock().await;
        if let Some(direct) = self.direct.lock().await.take() {
            control.replace(direct);
        }
        let client = control.client(&self.server).await?;
        commit::commit(self, client, content).await
    }

    async fn committed(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        let alone = self.way == Way::Become || self.request.mode == WriteMode::Overwrite;
        if !alone || self.routine.is_some() {
            return Ok(None);
        }
        let Target { schema, table, .. } = &self.target;
        let source = PostgresSource::planned(self.server.clone(), schema, table, &self.planned, lanes).await?;
        Ok(Some(Box::new(source)))
    }

    async fn abort(&self) -> Result<()> {
        self.idle.lock().expect("no one panics while holding it").clear();
        // Its transaction ends with it.
        drop(self.direct.lock().await.take());
        let mut control = self.control.lock().await;
        let client = control.client(&self.server).await?;
        if client.in_transaction() {
            client.batch("ROLLBACK").await?;
        }
        dmg_ambient::failpoint!("postgres.abort", dmg_connector::cut());
        client
            .batch(&format!(
                "SET lock_timeout = '10s'; DROP TABLE IF EXISTS {}, {}",
                self.staging_quoted(),
                checkpoint::own(self)
            ))
            .await
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }
}
