//! A database of its own for each test, and the life of a copy as the engine leads it, without the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arrow_array::RecordBatch;
use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::{
    BatchLimits, Column, Committed, Digester, MarkContent, MarkState, Result, Session, Sink, SinkRequest, Source, Sums,
    TableConnection, published_seed,
};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{Attempt, ColumnPlan, Epoch, RunId, Secret, Secrets, WriteMode};
use futures::StreamExt;
use serde_json::{Map, Value, json};
use tokio_postgres::NoTls;

pub(crate) const LIMITS: BatchLimits = BatchLimits { rows: 1000, bytes: 4 << 20, value_bytes: 1 << 20 };

/// The test server, and a database made for one test.
pub(crate) struct World {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    pub(crate) sql: tokio_postgres::Client,
    _tasks: TaskGroup,
}

static DATABASES: AtomicU32 = AtomicU32::new(0);

impl World {
    /// A fresh database, or nothing if there is no server.
    #[expect(clippy::print_stderr, reason = "a skipped test says so loudly")]
    pub(crate) async fn new(name: &str) -> Option<World> {
        let Some(url) = dmg_ambient::environment("DMG_TEST_POSTGRES") else {
            eprintln!("SKIPPED: DMG_TEST_POSTGRES names no PostgreSQL server");
            return None;
        };
        let rest = url.strip_prefix("postgres://").expect("postgres://user@host:port/database");
        let (user, rest) = rest.split_once('@').expect("user@");
        let (address, admin) = rest.split_once('/').expect("/database");
        let (host, port) = address.split_once(':').expect(":port");
        let password = dmg_ambient::environment("DMG_TEST_POSTGRES_PASSWORD_FILE")
            .map_or(String::new(), |file| std::fs::read_to_string(file).expect("the password file").trim().to_owned());
        let number = DATABASES.fetch_add(1, Ordering::SeqCst);
        let database = format!("t_{}_{number}_{name}", std::process::id());
        let (host, port, user) = (host.to_owned(), port.parse().expect("a port"), user.to_owned());
        let mut tasks = TaskGroup::new();
        let sql = session(&mut tasks, &host, port, &user, &password, admin).await;
        sql.batch_execute(&format!("CREATE DATABASE {database}")).await.expect("a database of our own");
        let sql = session(&mut tasks, &host, port, &user, &password, &database).await;
        sql.batch_execute("SET extra_float_digits = 3; SET TimeZone = 'UTC'").await.expect("set");
        Some(World { host, port, user, password, database, sql, _tasks: tasks })
    }

    /// Another session, for whoever must not wait.
    pub(crate) async fn another(&self, tasks: &mut TaskGroup) -> tokio_postgres::Client {
        session(tasks, &self.host, self.port, &self.user, &self.password, &self.database).await
    }

    pub(crate) fn settings(&self) -> Map<String, Value> {
        let value = json!({"host": self.host, "port": self.port, "database": self.database, "user": self.user});
        value.as_object().expect("an object").clone()
    }

    pub(crate) fn secrets(&self) -> Secrets {
        [("password".to_owned(), Secret::new(self.password.clone()))].into_iter().collect()
    }

    pub(crate) async fn open(
        &self,
        settings: Map<String, Value>,
        application: &str,
    ) -> Result<Arc<dyn TableConnection>> {
        let session = Session::new(Ambient::real(), application);
        dmg_tables::store("postgres").expect("is in the list").open(&settings, &self.secrets(), session).await
    }

    pub(crate) async fn source(&self, object: StoreObject, lanes: usize, rows: u64) -> Result<Box<dyn Source>> {
        self.open(self.settings(), "dmg/test").await?.source(&object, lanes, rows).await
    }

    pub(crate) async fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        let application = request.attempt.session_name();
        self.open(self.settings(), &application).await?.sink(request).await
    }

    /// The single value of a query, as text.
    pub(crate) async fn value(&self, query: &str) -> String {
        let row = self.sql.query_one(&format!("SELECT ({query})::text"), &[]).await.expect(query);
        row.get::<_, Option<String>>(0).unwrap_or_else(|| "NULL".to_owned())
    }

    pub(crate) async fn run(&self, script: &str) {
        self.sql.batch_execute(script).await.expect(script);
    }
}

async fn session(
    tasks: &mut TaskGroup,
    host: &str,
    port: u16,
    user: &str,
    password: &str,
    database: &str,
) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port).user(user).password(password).dbname(database);
    let (client, connection) = config.connect(NoTls).await.expect("the test server");
    tasks.spawn(async move { drop(connection.await) });
    client
}

pub(crate) fn table(name: &str) -> StoreObject {
    StoreObject::Table { schema: None, table: name.to_owned() }
}

pub(crate) fn query(text: &str) -> StoreObject {
    StoreObject::Query { text: text.to_owned() }
}

pub(crate) fn request(run: &str, epoch: u64, name: &str, mode: WriteMode) -> SinkRequest {
    let attempt = Attempt { namespace: "test".to_owned(), run: RunId::new(run), epoch: Epoch(epoch) };
    SinkRequest { mode, lanes: 2, ..SinkRequest::append(attempt, table(name)) }
}

/// Every batch of every part.
pub(crate) async fn read_all(source: &dyn Source, limits: BatchLimits) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for part in source.parts() {
        let mut stream = source.read(part, limits).await?;
        while let Some(batch) = stream.next().await {
            batches.push(batch?);
        }
    }
    Ok(batches)
}

pub(crate) fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// Plans columns by name, as the engine does where no kind has to change.
pub(crate) async fn plan(source: &dyn Source, sink: &mut dyn Sink) -> Result<Vec<ColumnPlan>> {
    let target = sink.columns().await?;
    let plans: Vec<ColumnPlan> = source
        .columns()
        .iter()
        .map(|column| {
            let found = target
                .as_ref()
                .map(|columns| columns.iter().find(|other| other.name == column.name).expect("a column of that name"));
            let held = sink.hold(column, found);
            assert_eq!(held.kind, column.kind, "column {}", column.name);
            ColumnPlan {
                source: column.name.clone(),
                sink: column.name.clone(),
                kind: held.kind,
                source_type: column.type_name.clone(),
                sink_type: held.type_name,
                key: false,
                required: false,
                verdict: held.verdict,
                reason: held.reason,
            }
        })
        .collect();
    sink.plan(&plans).await?;
    Ok(plans)
}

/// Stages everything; gives rows and digest of what was read.
pub(crate) async fn stage(source: &dyn Source, sink: &mut dyn Sink) -> Result<Sums> {
    assert_eq!(sink.mark().await?, MarkState::None);
    plan(source, sink).await?;
    sink.begin().await?;
    let mut digester = Digester::new(source.columns(), published_seed());
    for part in source.parts() {
        let mut writer = sink.part(part.index).await?;
        let mut stream = source.read(part, LIMITS).await?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            digester.update(&batch)?;
            writer.write(batch).await?;
        }
        writer.finish().await?;
    }
    source.finish().await?;
    Ok(digester.finish())
}

/// What is in the staging place, digested.
pub(crate) async fn staged(sink: &dyn Sink, columns: &[Column]) -> Result<Sums> {
    let staged = sink.staged(2).await?.expect("staging can be read");
    digest(staged.as_ref(), columns).await
}

pub(crate) async fn digest(source: &dyn Source, columns: &[Column]) -> Result<Sums> {
    let kinds = |columns: &[Column]| columns.iter().map(|c| (c.name.clone(), c.kind)).collect::<Vec<_>>();
    assert_eq!(kinds(source.columns()), kinds(columns));
    let mut digester = Digester::new(columns, published_seed());
    for batch in read_all(source, LIMITS).await? {
        digester.update(&batch)?;
    }
    Ok(digester.finish())
}

/// A whole copy.
pub(crate) async fn copy(source: &dyn Source, sink: &mut dyn Sink) -> Result<Committed> {
    let read = stage(source, sink).await?;
    let arrived = staged(sink, source.columns()).await?;
    assert_eq!(read, arrived, "what was staged");
    let committed = sink.commit(&content(&read)).await?;
    if let Some(back) = sink.committed(2).await? {
        assert_eq!(digest(back.as_ref(), source.columns()).await?, read, "what was committed");
    }
    Ok(committed)
}

pub(crate) fn content(sums: &Sums) -> MarkContent {
    MarkContent { rows: sums.rows, digest: sums.row_hex() }
}

/// The code of an expected failure.
pub(crate) fn code<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => "no failure".to_owned(),
        Err(error) => error.fault.code,
    }
}

/// The whole text of an expected failure.
pub(crate) fn text<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => "no failure".to_owned(),
        Err(error) => error.fault.to_string(),
    }
}
