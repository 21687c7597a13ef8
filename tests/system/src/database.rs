//! A PostgreSQL database of one test's own, spoken to by psql, a client nobody here wrote.

use std::process::Command;

use crate::client;

/// A database that goes away with its test.
#[derive(Debug)]
pub struct Database {
    /// `postgres://user@host:port`, without the database.
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
        let url = dmg_ambient::environment("DMG_TEST_POSTGRES")?;
        let password_file = dmg_ambient::environment("DMG_TEST_POSTGRES_PASSWORD_FILE")?;
        Some(Self::create_at(&url, &password_file))
    }

    /// A new database on that server.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn create_at(url: &str, password_file: &str) -> Database {
        let (server, _) = url.rsplit_once('/').expect("the URL names a database");
        let password = std::fs::read_to_string(password_file).expect("the password file can be read");
        let (server, password_file) = (server.to_owned(), password_file.to_owned());
        let database = Database { server, name: client::name(), password_file, password: password.trim().to_owned() };
        database.maintain(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", database.name));
        database.maintain(&format!("CREATE DATABASE {} TEMPLATE template0", database.name));
        database
    }

    /// `postgres://user@host:port/database`, as `dmg copy` takes it.
    pub fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// The server's host and port.
    pub fn host_and_port(&self) -> (String, u16) {
        client::host_and_port(&self.server)
    }

    /// The user of the tests.
    pub fn user(&self) -> String {
        let rest = self.server.trim_start_matches("postgres://");
        rest.split('@').next().expect("there is a user").to_owned()
    }

    /// Runs SQL and returns what psql prints.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn sql(&self, text: &str) -> String {
        self.psql(&self.url(), text)
    }

    /// Runs SQL that answers one number.
    ///
    /// # Panics
    /// When it does not.
    pub fn number(&self, text: &str) -> i64 {
        self.sql(text).trim().parse().expect("the answer is a number")
    }

    /// Rows of either relation that the other lacks, as text, counted with their repetitions: 0 means equal.
    pub fn differences(&self, left: &str, right: &str) -> i64 {
        let one_way = |a: &str, b: &str| {
            format!("(SELECT count(*) FROM (SELECT t::text FROM {a} t EXCEPT ALL SELECT t::text FROM {b} t) d)")
        };
        let query = format!("SELECT {} + {}", one_way(left, right), one_way(right, left));
        self.number(&format!("SET extra_float_digits = 3; SET TimeZone = 'UTC'; {query}"))
    }

    fn maintain(&self, text: &str) {
        self.psql(&format!("{}/postgres", self.server), text);
    }

    fn psql(&self, url: &str, text: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-qAtX", "-v", "ON_ERROR_STOP=1", url]).env("PGPASSWORD", &self.password);
        client::answer(&mut psql, text)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.maintain(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}
