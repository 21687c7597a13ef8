//! A whole installation as processes of the real executable: a service, a node, and whatever workers the node starts.
//! Each can be killed and started again. Everything lives in one folder and on free loopback ports.

use std::fs::{File, OpenOptions};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{self, Answer};
use crate::wait::until;

const START: Duration = Duration::from_secs(30);

/// The installation. Its processes end with it.
#[derive(Debug)]
pub struct Installation {
    folder: TempDir,
    port: u16,
    log: String,
    /// Commands so far, where their answers are kept.
    recorded: Option<AtomicU32>,
    service: Option<Child>,
    node: Option<Child>,
}

impl Installation {
    /// Starts a service; makes factory `tests` and gateway `onprem`; registers a node and starts it; waits until it
    /// is online. `log` is the level of all processes.
    ///
    /// # Panics
    /// When anything of that fails.
    pub fn start(log: &str) -> Installation {
        Self::start_with(log, None)
    }

    /// The same, with commands at that level of logging too, and every answer kept in the folder `answers`.
    ///
    /// # Panics
    /// When anything of that fails.
    pub fn start_recorded(log: &str) -> Installation {
        Self::start_with(log, Some(AtomicU32::new(0)))
    }

    fn start_with(log: &str, recorded: Option<AtomicU32>) -> Installation {
        let folder = tempfile::Builder::new().prefix("dmg-installation-").tempdir().expect("a folder");
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("a free port").port();
        let mut it = Installation { folder, port, log: log.to_owned(), recorded, service: None, node: None };
        for name in ["tmp", "answers"] {
            std::fs::create_dir(it.path(name)).expect("a folder");
        }
        it.start_service();
        let _ = it.dmg(["factory", "create", "tests"]).ok();
        let created = it.dmg(["gateway", "create", "onprem"]).ok();
        let key = find(&created.json(), &["key", "Key"]).expect("a new gateway has a key");
        let key_file = it.path("gateway-key");
        std::fs::write(&key_file, key).expect("the key is kept");
        let data = it.node_data();
        let mut register = program::dmg(["node", "register", "--key-file"]);
        register.arg(&key_file).args(["--name", "node1", "--data"]).arg(&data);
        let _ = it.answer("node register", &mut register).ok();
        it.start_node();
        it.wait_online();
        it
    }

    /// A path inside the installation's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The service's data folder.
    pub fn service_data(&self) -> PathBuf {
        self.path("service")
    }

    /// The node's data folder.
    pub fn node_data(&self) -> PathBuf {
        self.path("node")
    }

    /// Address of the service.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// File with the access token.
    pub fn token_file(&self) -> PathBuf {
        self.service_data().join("admin.token")
    }

    /// File with the certificate to trust.
    pub fn ca(&self) -> PathBuf {
        self.service_data().join("service.pem")
    }

    /// Runs a command of the client against this service, for JSON.
    pub fn dmg<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Answer {
        let mut command = program::dmg(arguments);
        command.args(["--output", "json", "--factory", "tests", "--service", &self.url()]);
        command.arg("--token-file").arg(self.token_file()).arg("--ca").arg(self.ca());
        let name = command.get_args().take(2).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        self.answer(&name, &mut command)
    }

    /// Runs any command in this world: with its folder for temporary files, its level of logging and its record.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn answer(&self, name: &str, command: &mut Command) -> Answer {
        command.env("TMPDIR", self.path("tmp"));
        let Some(recorded) = &self.recorded else { return Answer::of(command) };
        let answer = Answer::of(command.env("DMG_LOG", &self.log));
        let name = name.replace('/', "-");
        let number = recorded.fetch_add(1, Ordering::Relaxed);
        for (what, text) in [("output", &answer.output), ("errors", &answer.errors)] {
            let file = self.path("answers").join(format!("{number:04} {name}.{what}"));
            std::fs::write(file, text).expect("the answer is kept");
        }
        answer
    }

    fn log_file(&self, name: &str) -> File {
        let path = self.path(&format!("{name}.log"));
        OpenOptions::new().append(true).create(true).open(path).expect("a log file")
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Child {
        command
            .env("DMG_LOG", &self.log)
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .stdout(self.log_file(name))
            .stderr(self.log_file(name))
            .spawn()
            .expect("the program starts")
    }

    /// Starts the service and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    pub fn start_service(&mut self) {
        let mut command = program::dmg(["service", "run", "--data"]);
        command.arg(self.service_data()).arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        self.service = Some(self.spawn("service", &mut command));
        let token = self.token_file();
        until("the service to listen", START, || {
            (token.exists() && TcpStream::connect(("127.0.0.1", self.port)).is_ok()).then_some(())
        });
    }

    /// Starts the node.
    pub fn start_node(&mut self) {
        let mut command = program::dmg(["node", "run", "--data"]);
        command.arg(self.node_data());
        self.node = Some(self.spawn("node", &mut command));
    }

    /// Waits until the service sees the node online.
    ///
    /// # Panics
    /// When it does not come.
    pub fn wait_online(&self) {
        until("the node to be online", START, || {
            let shown = self.dmg(["gateway", "show", "onprem"]);
            (shown.code == 0 && shown.output.contains("Online")).then_some(())
        });
    }

    /// Kills the service without a word.
    pub fn kill_service(&mut self) {
        kill(self.service.take());
    }

    /// Kills the node's host without a word.
    pub fn kill_node(&mut self) {
        kill(self.node.take());
    }

    /// Process ids of the node's workers now.
    pub fn workers(&self) -> Vec<u32> {
        self.node.as_ref().map_or(Vec::new(), |node| children(node.id()))
    }

    /// Process ids of everything that runs, workers included.
    pub fn processes(&self) -> Vec<u32> {
        let mut all: Vec<u32> = [&self.service, &self.node].into_iter().flatten().map(Child::id).collect();
        all.extend(self.workers());
        all
    }

    /// What a process wrote so far: `service` or `node` (workers write there too).
    pub fn log_text(&self, name: &str) -> String {
        std::fs::read(self.path(&format!("{name}.log")))
            .map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Bytes in a log so far, to look only at what comes after.
    pub fn log_length(&self, name: &str) -> usize {
        std::fs::metadata(self.path(&format!("{name}.log"))).map_or(0, |metadata| metadata.len() as usize)
    }

    /// Puts a document of that noun (`linked-service`, `dataset`, `pipeline`).
    ///
    /// # Panics
    /// When it is refused.
    pub fn put(&self, noun: &str, name: &str, properties: Value) {
        let file = self.path(&format!("{noun}-{name}.json"));
        let text = serde_json::json!({ "name": name, "properties": properties }).to_string();
        std::fs::write(&file, text).expect("a document file");
        let _ = self.dmg([noun, "put", file.to_str().expect("a plain path"), "--name", name]).ok();
        std::fs::remove_file(&file).expect("it may hold a secret");
    }

    /// Starts a pipeline and returns the run id.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, pipeline: &str) -> String {
        let started = self.dmg(["pipeline", "run", pipeline]).ok();
        find(&started.json(), &["runId"]).expect("a started run has an id")
    }

    /// Run and activities as `dmg run show` answers; nothing while the service is away.
    pub fn show(&self, run: &str) -> Option<Value> {
        let shown = self.dmg(["run", "show", run]);
        (shown.code == 0).then(|| shown.json())
    }

    /// Waits for the end of a run; returns its status and what was shown.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait_run(&self, run: &str, deadline: Duration) -> (String, Value) {
        until("the run to end", deadline, || {
            let shown = self.show(run)?;
            let status = shown["run"]["status"].as_str()?.to_owned();
            matches!(status.as_str(), "Succeeded" | "Failed" | "Cancelled").then_some((status, shown))
        })
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["service", "node"] {
                let text = self.log_text(name);
                let tail: Vec<_> = text.lines().rev().take(40).collect();
                crate::report(&format!("last lines of {name}.log:"));
                tail.iter().rev().for_each(|line| crate::report(line));
            }
        }
        kill(self.node.take());
        kill(self.service.take());
    }
}

fn kill(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Children of a process, by `/proc`.
fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let status = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).unwrap_or_default();
        // The name stands in parentheses and may hold anything; state and parent follow it.
        let after = status.rsplit(')').next().unwrap_or_default();
        if after.split_whitespace().nth(1).and_then(|text| text.parse::<u32>().ok()) == Some(parent) {
            found.push(id);
        }
    }
    found
}

/// Sends SIGKILL to a process that this test started.
pub fn kill_process(id: u32) {
    let _ = Command::new("kill").args(["-9", &id.to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// The first of those members anywhere in a document.
pub fn find(document: &Value, names: &[&str]) -> Option<String> {
    match document {
        Value::Object(members) => members
            .iter()
            .find(|(name, value)| names.contains(&name.as_str()) && value.is_string())
            .and_then(|(_, value)| value.as_str().map(str::to_owned))
            .or_else(|| members.values().find_map(|value| find(value, names))),
        Value::Array(items) => items.iter().find_map(|value| find(value, names)),
        _ => None,
    }
}
