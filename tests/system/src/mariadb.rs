//! A MariaDB database of one test's own, spoken to by the server's own client.

use std::io::Write;
use std::process::{Command, Stdio};

/// A database that goes away with its test.
#[derive(Debug)]
pub struct Database {
    /// `user@host:port`.
    server: String,
    /// Its name.
    pub name: String,
    /// File with the password.
    pub password_file: String,
    password: String,
}

impl Database {
    /// A new database on the server of this test run, if there is one.
    pub fn create() -> Option<Database> {
        let url = dmg_ambient::environment("DMG_TEST_MARIADB")?;
        let password_file = dmg_ambient::environment("DMG_TEST_MARIADB_PASSWORD_FILE")?;
        let (server, _) = url.trim_start_matches("mysql://").rsplit_once('/').expect("the URL names a database");
        let password = std::fs::read_to_string(&password_file).expect("the password file can be read");
        let chance: String = dmg_ambient::Ambient::real().uuid().chars().take(8).collect();
        let name = format!("test_{chance}");
        let database =
            Database { server: server.to_owned(), name, password_file, password: password.trim().to_owned() };
        database.run("", &format!("CREATE DATABASE {} CHARACTER SET utf8mb4", database.name));
        Some(database)
    }

    /// `mysql://user@host:port/database`, as `dmg copy` takes it.
    pub fn url(&self) -> String {
        format!("mysql://{}/{}", self.server, self.name)
    }

    /// Host and port of the server.
    pub fn host_and_port(&self) -> (String, u16) {
        let place = self.server.rsplit('@').next().expect("there is a host");
        let (host, port) = place.split_once(':').expect("there is a port");
        (host.to_owned(), port.parse().expect("the port is a number"))
    }

    /// The user of the tests.
    pub fn user(&self) -> String {
        self.server.split('@').next().expect("there is a user").to_owned()
    }

    /// Runs SQL and returns what the client prints, tab-separated and without a header.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn sql(&self, text: &str) -> String {
        self.run(&self.name, text)
    }

    fn run(&self, database: &str, text: &str) -> String {
        let (host, port) = self.host_and_port();
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4"]);
        command.args(["-h", &host, "-P", &port.to_string(), "-u", &self.user()]);
        if !database.is_empty() {
            command.arg(database);
        }
        let mut child = command
            .env("MYSQL_PWD", &self.password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the MariaDB client is installed");
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("the client reads");
        let output = child.wait_with_output().expect("the client ends");
        let start: String = text.chars().take(200).collect();
        assert!(output.status.success(), "{start}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the client prints UTF-8")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.run("", &format!("DROP DATABASE IF EXISTS {}", self.name));
        }
    }
}
