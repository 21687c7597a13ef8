//! A TDS fixture of one test's own in the place of SQL Server, spoken to by python-tds.

use std::path::Path;

use dmg_tds_fixture::{Armed, Fault, Fixture, Options};
use serde_json::{Value, json};

use crate::program::judge;

/// The password of the fixture's log-in.
pub const PASSWORD: &str = "Fixture-Password-1";

/// A server that goes away with its test.
#[derive(Debug)]
pub struct Server {
    fixture: Fixture,
}

impl Server {
    /// A new server, if there is a Python to ask it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start() -> Option<Server> {
        let server = Server { fixture: Fixture::start(Options::default()).expect("the TDS fixture starts") };
        server.asked("run", &["SELECT 1"])?;
        Some(server)
    }

    fn asked(&self, action: &str, more: &[&str]) -> Option<String> {
        let port = self.fixture.port.to_string();
        let arguments = [&[action, port.as_str()], more].concat();
        let output = judge("judge/sql_server.py", arguments)?.output().expect("Python starts");
        assert!(output.status.success(), "{more:?}\n{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).expect("text"))
    }

    /// Runs a batch; the lines of what it answers, values separated by bars.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn sql(&self, text: &str) -> String {
        self.asked("run", &[text]).expect("Python was there before")
    }

    /// Writes a table as text, as `COPY ... CSV HEADER` of psql would.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn dump(&self, table: &str, file: &Path) {
        let file = file.to_str().expect("a plain path");
        let _ = self.asked("dump", &[table, file]).expect("Python was there before");
    }

    /// The store in a job.
    pub fn store(&self) -> Value {
        json!({ "store": "sqlserver", "settings": { "host": "127.0.0.1", "port": self.fixture.port,
            "database": "fixture", "user": "sa", "trustServerCertificate": "true" } })
    }

    /// Holds the next request with these words back, and gives whether it has come.
    pub fn hold_back(&self, words: &str, milliseconds: u64) -> impl Fn() -> bool + use<'_> {
        let seen = move |words: &str| self.fixture.requests().iter().filter(|text| text.contains(words)).count();
        let before = seen(words);
        self.fixture.fault(Armed { when: words.to_owned(), ..Armed::next(Fault::Delay(milliseconds)) });
        let words = words.to_owned();
        move || seen(&words) > before
    }
}
