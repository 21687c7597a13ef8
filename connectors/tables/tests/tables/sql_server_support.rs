//! A SQL Server of one test's own: the fixture that speaks its protocol, a database in it, and a session that does not
//! come from the store under test. What a real server does beyond the protocol is not shown by any of this.

use std::sync::Arc;

use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_connector::conformance::TableWorld;
use dmg_connector::{Result, Session, Sink, SinkRequest, Source, TableConnection};
use dmg_protocol::job::{StoreObject, WriteProcedure};
use dmg_protocol::{Secret, Secrets};
use dmg_tds_fixture::{Fixture, Options};
use serde_json::{Map, Value, json};
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

const DATABASE: &str = "sales";
const USER: &str = "etl";
const PASSWORD: &str = "p;a\"s's w0rd";

/// The server and a session of the test's own.
pub(crate) struct SqlServer {
    pub(crate) fixture: Fixture,
    sql: tokio::sync::Mutex<Client<Compat<TcpStream>>>,
}

impl SqlServer {
    /// A fresh server with an empty database that allows snapshots.
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// The same, and otherwise as the options say.
    pub(crate) async fn with(options: Options) -> Self {
        let options =
            Options { login: USER.into(), password: PASSWORD.into(), databases: vec![DATABASE.into()], ..options };
        let fixture = Fixture::start(options).expect("the fixture starts");
        let sql = session(fixture.port).await;
        SqlServer { fixture, sql: tokio::sync::Mutex::new(sql) }
    }

    pub(crate) fn settings_with(&self, more: Value) -> Map<String, Value> {
        let mut settings = object(json!({
            "host": "127.0.0.1", "port": self.fixture.port, "database": DATABASE, "user": USER,
            "trustServerCertificate": "true",
        }));
        settings.extend(object(more));
        settings
    }

    pub(crate) async fn open(
        &self,
        settings: Map<String, Value>,
        application: &str,
    ) -> Result<Arc<dyn TableConnection>> {
        let session = Session::new(Ambient::real(), application);
        dmg_tables::store("sqlserver").expect("is in the list").open(&settings, &self.secrets(), session).await
    }

    pub(crate) async fn source(&self, object: StoreObject, lanes: usize, rows: u64) -> Result<Box<dyn Source>> {
        self.open(self.settings(), "dmg/test").await?.source(&object, lanes, rows).await
    }

    pub(crate) async fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        let application = request.attempt.session_name();
        self.open(self.settings(), &application).await?.sink(request).await
    }

    /// How often a request held this text.
    pub(crate) fn asked(&self, text: &str) -> usize {
        self.fixture.requests().iter().filter(|request| request.contains(text)).count()
    }

    /// Runs a script.
    pub(crate) async fn run(&self, script: &str) {
        let mut sql = self.sql.lock().await;
        sql.simple_query(script).await.expect(script).into_results().await.expect(script);
    }

    /// Rows of a query, as the driver shows its values.
    pub(crate) async fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let mut sql = self.sql.lock().await;
        let rows = sql.simple_query(query).await.expect(query).into_first_result().await.expect(query);
        rows.iter().map(|row| row.cells().map(|(_, data)| shown(data)).collect()).collect()
    }

    /// The single value of a query.
    pub(crate) async fn value(&self, query: &str) -> String {
        self.rows(query).await.remove(0).remove(0)
    }
}

fn shown(data: &ColumnData<'_>) -> String {
    match data {
        ColumnData::U8(Some(value)) => value.to_string(),
        ColumnData::I16(Some(value)) => value.to_string(),
        ColumnData::I32(Some(value)) => value.to_string(),
        ColumnData::I64(Some(value)) => value.to_string(),
        ColumnData::String(Some(text)) => text.to_string(),
        other => format!("{other:?}"),
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

async fn session(port: u16) -> Client<Compat<TcpStream>> {
    let mut config = Config::new();
    config.host("127.0.0.1");
    config.port(port);
    config.database(DATABASE);
    config.encryption(EncryptionLevel::Off);
    config.trust_cert();
    config.application_name("judge");
    config.authentication(AuthMethod::sql_server(USER, PASSWORD));
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.expect("the fixture");
    Client::connect(config, tcp.compat_write()).await.expect("logs in")
}

#[async_trait]
impl TableWorld for SqlServer {
    fn settings(&self) -> Map<String, Value> {
        self.settings_with(json!({}))
    }

    fn secrets(&self) -> Secrets {
        [("password".to_owned(), Secret::new(PASSWORD.to_owned()))].into_iter().collect()
    }

    async fn make(&self, table: &str, rows: u64) {
        self.run(&format!(
            "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id bigint NOT NULL, name nvarchar(400) NULL); \
             CREATE CLUSTERED INDEX by_id ON {table} (id)"
        ))
        .await;
        let name = format!("{:ä<190}", "row ");
        let mut sql = self.sql.lock().await;
        let mut load = sql.bulk_insert(table).await.expect("begins");
        for id in 1..=rows {
            let mut row = tiberius::TokenRow::with_capacity(2);
            row.push(ColumnData::I64(Some(id as i64)));
            row.push(ColumnData::String(Some(format!("{name} {id}").into())));
            load.send(row).await.expect("takes a row");
        }
        load.finalize().await.expect("loads");
    }

    async fn add(&self, table: &str, id: u64) {
        self.run(&format!("INSERT INTO {table} (id, name) VALUES ({id}, N'late')")).await;
    }

    async fn names(&self) -> Vec<String> {
        let query = "SELECT o.name FROM sys.objects o WHERE o.type IN ('U', 'V')";
        let mut names: Vec<String> = self.rows(query).await.into_iter().map(|mut row| row.remove(0)).collect();
        names.sort();
        names
    }

    async fn make_keyed(&self, table: &str) {
        self.run(&format!(
            "DROP TABLE IF EXISTS {table}; \
             CREATE TABLE {table} (id bigint NOT NULL PRIMARY KEY, name nvarchar(400) NULL)"
        ))
        .await;
    }

    async fn make_sliced(&self, table: &str) {
        self.run(&format!(
            "DROP TABLE IF EXISTS {table}; \
             CREATE TABLE {table} (id bigint NOT NULL, name nvarchar(400) NULL, slice binary(32) NULL)"
        ))
        .await;
    }

    async fn make_write_procedure(&self, table: &str) -> Option<WriteProcedure> {
        self.run(&format!("CREATE TYPE {table}_rows AS TABLE (id bigint NOT NULL, name nvarchar(400) NULL)")).await;
        self.run(&format!(
            "CREATE PROCEDURE {table}_take @{table} {table}_rows READONLY AS \
             INSERT INTO {table} (id, name) SELECT id, name FROM @{table}"
        ))
        .await;
        Some(WriteProcedure {
            name: format!("dbo.{table}_take"),
            table_type: Some(format!("dbo.{table}_rows")),
            table_parameter: None,
            parameters: Vec::new(),
        })
    }

    async fn make_procedure(&self, table: &str) -> Option<String> {
        self.run(&format!(
            "CREATE PROCEDURE {table}_add @id bigint, @name nvarchar(400) AS \
             INSERT INTO {table} (id, name) VALUES (@id, @name)"
        ))
        .await;
        Some(format!("{table}_add"))
    }
}
