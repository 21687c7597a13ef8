//! Holds every table store against the suite of its family, on a real server or file, and prints what each claims.
//! PostgreSQL and MariaDB need servers (DMG_TEST_POSTGRES, DMG_TEST_MARIADB); without one its store is skipped, loudly.

#[path = "tables/mysql_support.rs"]
mod mysql_support;

#[path = "tables/sql_server_support.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod sql_server_support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use dmg_ambient::TaskGroup;
use dmg_connector::conformance::{TableWorld, tables};
use dmg_protocol::job::WriteProcedure;
use dmg_protocol::{Secret, Secrets};
use serde_json::{Map, Value, json};
use tokio_postgres::{Client, Config, NoTls};

static NUMBER: AtomicU32 = AtomicU32::new(0);

#[tokio::test(flavor = "multi_thread")]
async fn every_table_store_does_what_it_claims_and_refuses_the_rest() {
    let mut broken = Vec::new();
    for store in dmg_tables::STORES {
        let name = store.descriptor().name;
        let world: Box<dyn TableWorld> = match name {
            "postgres" => match Postgres::new().await {
                Some(world) => Box::new(world),
                None => {
                    eprintln!("SKIPPED: the conformance of {name}: DMG_TEST_POSTGRES names no server");
                    continue;
                }
            },
            "sqlserver" => Box::new(sql_server_support::SqlServer::new().await),
            "mysql" => match mysql_support::MariaDb::new("conformance") {
                Some(world) => Box::new(world),
                None => continue,
            },
            "sqlite" => Box::new(Sqlite::new()),
            other => panic!("store {other} has no world to be tested in"),
        };
        let report = tables(*store, world.as_ref()).await;
        eprint!("{report}");
        if !report.holds() {
            broken.push(name);
        }
    }
    assert!(broken.is_empty(), "see the lines above: {broken:?}");
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

/// A database of its own on the test server.
struct Postgres {
    settings: Map<String, Value>,
    password: String,
    sql: Client,
    _tasks: TaskGroup,
}

impl Postgres {
    async fn new() -> Option<Self> {
        let url = dmg_ambient::environment("DMG_TEST_POSTGRES")?;
        let file = dmg_ambient::environment("DMG_TEST_POSTGRES_PASSWORD_FILE")?;
        let password = std::fs::read_to_string(file).expect("the password file").trim().to_owned();
        let config: Config = url.parse().expect("postgres://user@host:port/database");
        let user = config.get_user().expect("a user").to_owned();
        let [port] = *config.get_ports() else { panic!("one port") };
        let host = url.rsplit('@').next().and_then(|rest| rest.split(':').next()).expect("a host").to_owned();
        let database = format!("c_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let mut tasks = TaskGroup::new();
        let admin = session(&mut tasks, config.clone(), &password).await;
        admin.batch_execute(&format!("CREATE DATABASE {database}")).await.expect("a database of our own");
        let mut own = config;
        own.dbname(&database);
        let sql = session(&mut tasks, own, &password).await;
        let settings = object(json!({"host": host, "port": port, "database": database, "user": user}));
        Some(Postgres { settings, password, sql, _tasks: tasks })
    }
}

async fn session(tasks: &mut TaskGroup, mut config: Config, password: &str) -> Client {
    let (client, connection) = config.password(password).connect(NoTls).await.expect("the test server");
    tasks.spawn(async move { drop(connection.await) });
    client
}

#[async_trait]
impl TableWorld for Postgres {
    fn settings(&self) -> Map<String, Value> {
        self.settings.clone()
    }

    fn secrets(&self) -> Secrets {
        [("password".to_owned(), Secret::new(self.password.clone()))].into_iter().collect()
    }

    async fn make(&self, table: &str, rows: u64) {
        let script = format!(
            "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} AS SELECT g AS id, rpad('row ' || g, 200, 'ä') AS name \
             FROM generate_series(1::bigint, {rows}) g; ANALYZE {table}"
        );
        self.sql.batch_execute(&script).await.expect("makes the table");
    }

    async fn add(&self, table: &str, id: u64) {
        self.sql.batch_execute(&format!("INSERT INTO {table} VALUES ({id}, 'late')")).await.expect("adds a row");
    }

    async fn make_keyed(&self, table: &str) {
        let script = format!("CREATE TABLE {table} (id bigint PRIMARY KEY, name text)");
        self.sql.batch_execute(&script).await.expect("makes the table");
    }

    async fn make_sliced(&self, table: &str) {
        let script = format!("CREATE TABLE {table} (id bigint, name text, slice bytea)");
        self.sql.batch_execute(&script).await.expect("makes the table");
    }

    async fn make_write_procedure(&self, table: &str) -> Option<WriteProcedure> {
        let name = self.make_procedure(table).await?;
        Some(WriteProcedure { name, table_type: None, table_parameter: None, parameters: Vec::new() })
    }

    async fn make_procedure(&self, table: &str) -> Option<String> {
        let script = format!(
            "CREATE PROCEDURE add_{table}(id bigint, name text) LANGUAGE sql AS 'INSERT INTO {table} VALUES ($1, $2)'"
        );
        self.sql.batch_execute(&script).await.expect("makes the procedure");
        Some(format!("add_{table}"))
    }

    async fn names(&self) -> Vec<String> {
        let query = "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S') \
             AND relnamespace = 'public'::regnamespace";
        let rows = self.sql.query(query, &[]).await.expect("lists");
        let mut names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        names.sort();
        names
    }
}

/// A database file of its own, in the mode in which others can write while one reads.
struct Sqlite {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Sqlite {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let world = Sqlite { path: folder.path().join("data.db"), _folder: folder };
        world.run("PRAGMA journal_mode = wal");
        world
    }

    fn run(&self, script: &str) {
        let connection = rusqlite::Connection::open(&self.path).expect("opens");
        connection.execute_batch(script).expect("runs");
    }
}

#[async_trait]
impl TableWorld for Sqlite {
    fn settings(&self) -> Map<String, Value> {
        object(json!({"path": self.path}))
    }

    fn secrets(&self) -> Secrets {
        Secrets::none()
    }

    async fn make(&self, table: &str, rows: u64) {
        self.run(&format!(
            "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id INTEGER, name TEXT); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
             INSERT INTO {table} SELECT i, printf('row %d %200s', i, 'ä') FROM n WHERE i <= {rows}"
        ));
    }

    async fn add(&self, table: &str, id: u64) {
        self.run(&format!("INSERT INTO {table} VALUES ({id}, 'late')"));
    }

    async fn make_keyed(&self, table: &str) {
        self.run(&format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT)"));
    }

    async fn make_sliced(&self, table: &str) {
        self.run(&format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id INTEGER, name TEXT, slice BLOB)"));
    }

    async fn names(&self) -> Vec<String> {
        let connection = rusqlite::Connection::open(&self.path).expect("opens");
        let mut statement = connection.prepare("SELECT name FROM sqlite_schema ORDER BY name").expect("prepares");
        let names = statement.query_map([], |row| row.get(0)).expect("lists");
        names.map(|name| name.expect("a name")).collect()
    }
}
