//! A MariaDB database of one test's own, spoken to by the server's own client.

use std::process::Command;

use crate::client;

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
        let database = Database {
            server: server.to_owned(),
            name: client::name(),
            password_file,
            password: password.trim().to_owned(),
        };
        database.run("", &format!("CREATE DATABASE {} CHARACTER SET utf8mb4", database.name));
        Some(database)
    }

    /// `mysql://user@host:port/database`, as `dmg copy` takes it.
    pub fn url(&self) -> String {
        format!("mysql://{}/{}", self.server, self.name)
    }

    /// Host and port of the server.
    pub fn host_and_port(&self) -> (String, u16) {
        client::host_and_port(&self.server)
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
        client::answer(command.env("MYSQL_PWD", &self.password), text)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.run("", &format!("DROP DATABASE IF EXISTS {}", self.name));
        }
    }
}
