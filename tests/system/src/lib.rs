//! Worlds for tests of the whole product: a database of one's own, the real executable, the judges in Python. Nothing
//! here stands in for a part that can run. It never sleeps: it waits for conditions with a deadline.
#![expect(clippy::print_stderr, reason = "a test that cannot run must say so")]

mod client;
pub mod database;
pub mod installation;
pub mod mariadb;
pub mod program;
pub mod scan;
pub mod sql_server;
pub mod wait;
pub mod worker;

pub use database::Database;
pub use installation::Installation;
pub use program::{Answer, dmg, judge};

/// What a test without its server does: says so for the runner to count, and ends.
#[macro_export]
macro_rules! need {
    ($what:expr) => {
        match $what {
            Some(value) => value,
            None => {
                $crate::skipped(concat!(module_path!(), ": ", stringify!($what), " is not there"));
                return;
            }
        }
    };
}

/// Says that a test could not run. The runner counts these lines.
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// Writes a line about a test that went wrong.
pub fn report(line: &str) {
    eprintln!("{line}");
}

/// Azurite: endpoint of the account and the file with its key.
#[derive(Debug, Clone)]
pub struct Azurite {
    /// `http://127.0.0.1:PORT/devstoreaccount1`
    pub endpoint: String,
    /// File that holds the account key.
    pub key_file: String,
}

/// The emulator of this test run, if there is one.
pub fn azurite() -> Option<Azurite> {
    let endpoint = format!("{}/devstoreaccount1", dmg_ambient::environment("DMG_TEST_AZURITE")?);
    Some(Azurite { endpoint, key_file: dmg_ambient::environment("DMG_TEST_AZURITE_KEY_FILE")? })
}
