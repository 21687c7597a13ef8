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
        Some(Self::on(&url, password_file))
    }

    /// A new database on that server.
    fn on(url: &str, password_file: String) -> Database {
        let (server, _) = url.trim_start_matches("mysql://").rsplit_once('/').expect("the URL names a database");
        let password = std::fs::read_to_string(&password_file).expect("the password file can be read");
        let database = Database {
            server: server.to_owned(),
            name: client::name(),
            password_file,
            password: password.trim().to_owned(),
        };
        database.run("", &format!("CREATE DATABASE {} CHARACTER SET utf8mb4", database.name));
        database
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

/// A server of one test's own, with settings of its own.
#[derive(Debug)]
pub struct Server {
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts one, if the server of this test run says that there is one to be started.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(settings: &[&str]) -> Option<(Server, Database)> {
        dmg_ambient::environment("DMG_TEST_MARIADB")?;
        // The server runs under another user, who must find the way.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(everybody).tempdir().expect("a folder");
        let output = script("start").arg(folder.path().join("server")).args(settings).output().expect("bash runs");
        let server = Server { folder };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
        };
        let database = Database::on(&value("DMG_TEST_MARIADB"), value("DMG_TEST_MARIADB_PASSWORD_FILE"));
        Some((server, database))
    }
}

fn script(name: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(crate::program::test_file(&format!("servers/mariadb/{name}")));
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = script("stop").arg(self.folder.path().join("server")).status();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.run("", &format!("DROP DATABASE IF EXISTS {}", self.name));
        }
    }
}
