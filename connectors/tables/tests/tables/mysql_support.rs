//! A MariaDB database of a test's own. The judge is the `mariadb` client, which shares no code with the store.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use dmg_connector::conformance::TableWorld;
use dmg_protocol::job::WriteProcedure;
use dmg_protocol::{Secret, Secrets};
use serde_json::{Map, Value, json};

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The test server, and a database made for one test.
pub(crate) struct MariaDb {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
}

impl MariaDb {
    /// A fresh database, or nothing if there is no server.
    #[expect(clippy::print_stderr, reason = "a skipped test says so loudly")]
    pub(crate) fn new(name: &str) -> Option<Self> {
        let Some(url) = dmg_ambient::environment("DMG_TEST_MARIADB") else {
            eprintln!("SKIPPED: DMG_TEST_MARIADB names no MariaDB server");
            return None;
        };
        let password = dmg_ambient::environment("DMG_TEST_MARIADB_PASSWORD_FILE")
            .map_or(String::new(), |file| std::fs::read_to_string(file).expect("the password file").trim().to_owned());
        Some(Self::on(&url, &password, name))
    }

    /// A fresh database on that server.
    pub(crate) fn on(url: &str, password: &str, name: &str) -> Self {
        let rest = url.strip_prefix("mysql://").expect("mysql://user@host:port/database");
        let (user, rest) = rest.split_once('@').expect("user@");
        let (address, admin) = rest.split_once('/').expect("/database");
        let (host, port) = address.split_once(':').expect(":port");
        let number = DATABASES.fetch_add(1, Ordering::SeqCst);
        let mut world = MariaDb {
            host: host.to_owned(),
            port: port.parse().expect("a port"),
            user: user.to_owned(),
            password: password.to_owned(),
            database: admin.to_owned(),
        };
        let database = format!("t_{}_{number}_{name}", std::process::id());
        world.run(&format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"));
        world.database = database;
        world
    }

    /// What the client says to a script: rows by tabs and lines, without names.
    pub(crate) fn run(&self, script: &str) -> String {
        let (good, out, errors) = self.try_run(script);
        assert!(good, "{script}: {errors}");
        out
    }

    /// Whether a script worked, what it said, and what went wrong.
    pub(crate) fn try_run(&self, script: &str) -> (bool, String, String) {
        let mut child = Command::new("mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names", "--raw", "--binary-mode"])
            .args(["--default-character-set=utf8mb4", "-h", &self.host, "-P", &self.port.to_string(), "-u", &self.user])
            .arg(&self.database)
            .env("MYSQL_PWD", &self.password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the mariadb client");
        child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("writes");
        let output = child.wait_with_output().expect("ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().to_owned();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    pub(crate) fn own_settings(&self) -> Map<String, Value> {
        let value = json!({"host": self.host, "port": self.port, "database": self.database, "user": self.user});
        value.as_object().expect("an object").clone()
    }

    pub(crate) fn own_secrets(&self) -> Secrets {
        [("password".to_owned(), Secret::new(self.password.clone()))].into_iter().collect()
    }
}

#[async_trait]
impl TableWorld for MariaDb {
    fn settings(&self) -> Map<String, Value> {
        self.own_settings()
    }

    fn secrets(&self) -> Secrets {
        self.own_secrets()
    }

    async fn make(&self, table: &str, rows: u64) {
        self.run(&format!(
            "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (id bigint, name varchar(250), KEY (id)); \
             INSERT INTO {table} SELECT seq, RPAD(CONCAT('row ', seq), 200, 'ä') FROM seq_1_to_1000000 \
             WHERE seq <= {rows}"
        ));
    }

    async fn add(&self, table: &str, id: u64) {
        self.run(&format!("INSERT INTO {table} VALUES ({id}, 'late')"));
    }

    async fn make_keyed(&self, table: &str) {
        self.run(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, name varchar(250))"));
    }

    async fn make_sliced(&self, table: &str) {
        self.run(&format!("CREATE TABLE {table} (id bigint, name varchar(250), slice binary(32))"));
    }

    async fn make_write_procedure(&self, table: &str) -> Option<WriteProcedure> {
        let name = self.make_procedure(table).await?;
        Some(WriteProcedure { name, table_type: None, table_parameter: None, parameters: Vec::new() })
    }

    async fn make_procedure(&self, table: &str) -> Option<String> {
        self.run(&format!(
            "CREATE PROCEDURE add_{table}(IN id bigint, IN name varchar(250)) INSERT INTO {table} VALUES (id, name)"
        ));
        Some(format!("add_{table}"))
    }

    async fn names(&self) -> Vec<String> {
        let names = self.run("SHOW TABLES");
        let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}
