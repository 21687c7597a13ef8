//! Writes into a table: rows go by COPY into a staging table no reader looks at, and become visible in one
//! transaction together with the mark (see `commit.rs`). It never truncates and never touches the target before.

use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{
    Column, Committed, Error, Holding, MarkContent, MarkState, PartReport, PartWriter, Result, Sink, SinkPlan,
    SinkRequest, Source, Traffic,
};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{ColumnPlan, CommitShape, Fault, Kind, WriteMode};

use super::catalog::{self, Readable, quoted, quoted_list};
use super::client::{COPY_BYTES, Client};
use super::commit;
use super::connect::connect;
use super::encode;
use super::hold::hold;
use super::read::PostgresSource;
use super::settings::Server;

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
    found: Vec<Readable>,
    pub(super) planned: Vec<ColumnPlan>,
    /// For everything but rows. Gone when it broke; opened again when needed.
    pub(super) control: tokio::sync::Mutex<Control>,
    /// Sessions between parts.
    idle: Arc<Mutex<Vec<Client>>>,
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
    pub(super) async fn client(&mut self, server: &Server) -> Result<&mut Client> {
        if let Some(mut client) = self.client.take() {
            // A successor or an administrator may have ended it between two commands.
            if client.usable() && client.batch("").await.is_ok() {
                return Ok(self.client.insert(client));
            }
            self.lost = Some(client.process);
        }
        let mut client = connect(server).await?;
        if let Some(process) = self.lost {
            commit::end_session(&mut client, &server.place(), process, &server.session.application).await?;
            self.lost = None;
        }
        Ok(self.client.insert(client))
    }
}

impl PostgresSink {
    /// Connects and looks at the target. Changes nothing.
    pub(super) async fn open(server: Arc<Server>, request: SinkRequest) -> Result<Self> {
        let StoreObject::Table { schema, table } = &request.object else {
            let message = "A copy into PostgreSQL needs a table; a query or files cannot be written to.";
            return Err(Fault::new("UserErrorSettings", message).into());
        };
        if !matches!(request.mode, WriteMode::Append | WriteMode::Overwrite) {
            let message = "PostgreSQL takes rows only by appending or overwriting here.";
            return Err(Fault::new("UserErrorNotSupported", message).into());
        }
        let mut control = Control::default();
        let client = control.client(&server).await?;
        // A predecessor stuck in its commit may hold locks that even a look at the target would wait for.
        commit::end_lower_epochs(client, &server.place(), &request.attempt).await?;
        let (target, found) = match catalog::relation(client, schema.as_deref(), table).await? {
            Some(relation) if matches!(relation.kind, 'r' | 'p') => {
                let found = catalog::table_columns(client, &relation).await?;
                (Target { schema: relation.schema, table: relation.name, exists: true }, found)
            }
            Some(relation) => {
                let message = format!("{} is no table but a view or the like.", relation.label());
                let remedy = "Name a table as the target.";
                return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
            }
            None if request.create_table => {
                let schema = match schema {
                    Some(schema) => schema.clone(),
                    None => {
                        let current = client.query("SELECT current_schema()", &[]).await?.single();
                        current.unwrap_or_else(|| "public".to_owned())
                    }
                };
                (Target { schema, table: table.clone(), exists: false }, Vec::new())
            }
            None => return Err(catalog::missing(&server.place(), schema.as_deref(), table).into()),
        };
        Ok(PostgresSink {
            server,
            request,
            target,
            found,
            planned: Vec::new(),
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
        quoted_list(self.planned.iter().map(|column| column.sink.as_str()))
    }

    /// The statements that make the staging table.
    fn staging_statements(&self) -> String {
        let staging = self.staging_quoted();
        if !self.target.exists {
            let columns: Vec<_> =
                self.planned.iter().map(|column| format!("{} {}", quoted(&column.sink), column.sink_type)).collect();
            return format!("CREATE TABLE {staging} ({})", columns.join(", "));
        }
        let mut sql = format!(
            "CREATE TABLE {staging} AS SELECT {} FROM {} WITH NO DATA",
            self.column_list(),
            self.target.quoted()
        );
        // What the target refuses is to be found while staging, not at the commit.
        let required = self
            .planned
            .iter()
            .filter(|plan| self.found.iter().any(|found| found.column.name == plan.sink && !found.column.nullable));
        let required: Vec<_> =
            required.map(|plan| format!("ALTER COLUMN {} SET NOT NULL", quoted(&plan.sink))).collect();
        if !required.is_empty() {
            sql.push_str(&format!("; ALTER TABLE {staging} {}", required.join(", ")));
        }
        sql
    }
}

#[async_trait]
impl Sink for PostgresSink {
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
        self.planned = columns.to_vec();
        let mut notices = Vec::new();
        if self.target.exists {
            // Also tells now rather than later that two kinds do not go together.
            catalog::as_planned(&self.found, columns)?;
        } else {
            notices.push(format!("Table {} does not exist and is created by the commit.", self.target.label()));
        }
        Ok(SinkPlan { shape: CommitShape::Staged, condition: None, notices })
    }

    async fn mark(&self) -> Result<MarkState> {
        let mut control = self.control.lock().await;
        let client = control.client(&self.server).await?;
        commit::end_lower_epochs(client, &self.server.place(), &self.request.attempt).await?;
        commit::mark(self, client).await
    }

    async fn begin(&self) -> Result<()> {
        let mut control = self.control.lock().await;
        let client = control.client(&self.server).await?;
        commit::end_lower_epochs(client, &self.server.place(), &self.request.attempt).await?;
        dmg_ambient::failpoint!("postgres.begin", dmg_connector::cut());
        commit::drop_staging_up_to_now(self, client).await?;
        dmg_ambient::failpoint!("postgres.swept", dmg_connector::cut());
        commit::make_mark_table(self, client).await?;
        client.batch(&self.staging_statements()).await?;
        dmg_ambient::failpoint!("postgres.staging.made", dmg_connector::cut());
        Ok(())
    }

    async fn part(&self, index: u32) -> Result<Box<dyn PartWriter>> {
        let idle = self.idle.lock().expect("no one panics while holding it").pop();
        let mut client = match idle {
            Some(client) => client,
            None => connect(&self.server).await?,
        };
        client.copy_in(&format!("COPY {} ({}) FROM STDIN", self.staging_quoted(), self.column_list())).await?;
        dmg_ambient::failpoint!("postgres.copy.begun", dmg_connector::cut());
        self.traffic.opened();
        Ok(Box::new(Writer {
            client: Some(client),
            kinds: self.planned.iter().map(|column| column.kind).collect(),
            buffer: Vec::with_capacity(COPY_BYTES + COPY_BYTES / 4),
            report: PartReport::default(),
            index,
            idle: self.idle.clone(),
            traffic: self.traffic.clone(),
        }))
    }

    async fn staged(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        self.idle.lock().expect("no one panics while holding it").clear();
        let (schema, staging) = (&self.target.schema, self.staging());
        let source = PostgresSource::planned(self.server.clone(), schema, &staging, &self.planned, lanes).await?;
        Ok(Some(Box::new(source)))
    }

    async fn commit(&self, content: &MarkContent) -> Result<Committed> {
        let mut control = self.control.lock().await;
        let client = control.client(&self.server).await?;
        commit::commit(self, client, content).await
    }

    async fn committed(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        if self.request.mode == WriteMode::Append {
            return Ok(None);
        }
        let Target { schema, table, .. } = &self.target;
        let source = PostgresSource::planned(self.server.clone(), schema, table, &self.planned, lanes).await?;
        Ok(Some(Box::new(source)))
    }

    async fn abort(&self) -> Result<()> {
        self.idle.lock().expect("no one panics while holding it").clear();
        let mut control = self.control.lock().await;
        let client = control.client(&self.server).await?;
        if client.in_transaction() {
            client.batch("ROLLBACK").await?;
        }
        dmg_ambient::failpoint!("postgres.abort", dmg_connector::cut());
        client.batch(&format!("SET lock_timeout = '10s'; DROP TABLE IF EXISTS {}", self.staging_quoted())).await
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.traffic.clone()
    }
}

/// One part on its way into the staging table. Dropped early, it closes its session and the server forgets the rows.
struct Writer {
    client: Option<Client>,
    kinds: Vec<Kind>,
    buffer: Vec<u8>,
    report: PartReport,
    index: u32,
    idle: Arc<Mutex<Vec<Client>>>,
    traffic: Arc<Traffic>,
}

impl Writer {
    async fn send(&mut self) -> Result<()> {
        let client = self.client.as_mut().ok_or_else(ended)?;
        dmg_ambient::failpoint!("postgres.copy.send", dmg_connector::cut());
        client.copy_data(&self.buffer).await?;
        self.report.bytes += self.buffer.len() as u64;
        self.traffic.add_bytes(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }
}

fn ended() -> Error {
    Fault::new("SystemErrorInternal", "A part was written to after its end.").into()
}

#[async_trait]
impl PartWriter for Writer {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let mut row = 0;
        while row < batch.num_rows() {
            row = encode::rows(&batch, &self.kinds, row, COPY_BYTES, &mut self.buffer);
            if self.buffer.len() >= COPY_BYTES {
                self.send().await?;
            }
        }
        self.report.rows += batch.num_rows() as u64;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<PartReport> {
        if !self.buffer.is_empty() {
            self.send().await?;
        }
        let mut client = self.client.take().ok_or_else(ended)?;
        dmg_ambient::failpoint!("postgres.copy.finish", dmg_connector::cut());
        let rows = client.copy_finish().await?;
        dmg_ambient::failpoint!("postgres.copy.finished", dmg_connector::cut());
        if rows != self.report.rows {
            let message = format!(
                "{} took {rows} rows of part {} where {} were sent.",
                client.wire.place, self.index, self.report.rows
            );
            return Err(Fault::new("SystemErrorVerification", message).into());
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
