//! Service, host and worker as the three processes they are, driven by the command line: a copy that survives the kill
//! of each of them, a cancel, a node that is cut off. The files are compared with what a clean copy makes.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says why it is skipped")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_system_tests::wait;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);
/// Enough rows for a kill to meet a copy that runs.
const ROWS: usize = 1_500_000;

/// A process of ours, killed when the test ends.
struct Process(Child);

impl Process {
    fn start(program: &Path, arguments: &[&str], log: &Path) -> Process {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .env("DMG_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        Process(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn first_answer(&mut self) -> Value {
        let mut output = BufReader::new(self.0.stdout.take().unwrap());
        let (mut text, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the process ended without an answer: {text}");
            text.push_str(&line);
            if let Ok(value) = serde_json::from_str(&text) {
                return value;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct World {
    program: PathBuf,
    folder: tempfile::TempDir,
    ambient: Ambient,
    url: String,
    service: Process,
    host: Option<Process>,
}

impl World {
    fn new() -> Option<World> {
        let program = std::env::current_exe().unwrap().parent()?.parent()?.join("dmg");
        if !program.is_file() {
            eprintln!("SKIPPED: {} was not built; build the package dmg first", program.display());
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("store")).unwrap();
        let (service, url) = start_service(&program, folder.path(), "127.0.0.1:0");
        let mut world = World { program, folder, ambient: Ambient::real(), url, service, host: None };
        world.answer(&["factory", "create", "sales"]);
        let key = world.answer(&["gateway", "create", "onprem"])["properties"]["key"].as_str().unwrap().to_owned();
        world.register(&key);
        world.start_host();
        world.until("the gateway to be online", |world| world.state() == "Online");
        world.deploy();
        Some(world)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--output", "json"]);
        if arguments[0] != "node" {
            command.args(["--service", &self.url, "--token-file", &self.path("service/admin.token")]);
            command.args(["--ca", &self.path("service/service.pem"), "--factory", "sales"]);
        }
        command.env("XDG_CONFIG_HOME", self.folder.path().join("config")).stdin(Stdio::null()).output().unwrap()
    }

    /// The JSON answer of a command that must work.
    fn answer(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "dmg {}: {text}{error}", arguments.join(" "));
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    fn register(&self, key: &str) -> Value {
        self.answer(&["node", "register", key, "--name", "n1", "--data", &self.path("node")])
    }

    fn start_host(&mut self) {
        let (data, log) = (self.path("node"), self.folder.path().join("host.log"));
        self.host = Some(Process::start(&self.program, &["node", "run", "--data", &data, "--output", "json"], &log));
    }

    fn restart_service(&mut self) {
        self.service.kill();
        let listen = self.url.trim_start_matches("https://").to_owned();
        (self.service, self.url) = start_service(&self.program, self.folder.path(), &listen);
    }

    fn state(&self) -> String {
        let status = self.answer(&["gateway", "show", "onprem"]);
        status["properties"]["state"].as_str().unwrap_or_default().to_owned()
    }

    fn until(&self, what: &str, mut condition: impl FnMut(&World) -> bool) {
        let said = || {
            let log = std::fs::read_to_string(self.folder.path().join("host.log")).unwrap_or_default();
            format!("the host said {:#?}", log.lines().rev().take(30).collect::<Vec<_>>())
        };
        wait::until_or(what, PATIENCE, || condition(self).then_some(()), said);
    }

    fn deploy(&self) {
        let rows: String = (0..ROWS).map(|row| format!("{row},name {row},{}.5\n", row % 1000)).collect();
        std::fs::write(self.path("store/in.csv"), format!("id,name,amount\n{rows}")).unwrap();
        std::fs::write(self.path("store/small.csv"), "id,name,amount\n1,a,2.5\n").unwrap();
        let service = json!({ "referenceName": "Disk", "type": "LinkedServiceReference" });
        let location = |file: &str| json!({ "type": "FileServerLocation", "fileName": file });
        let text = |file: &str| {
            json!({ "type": "DelimitedText", "linkedServiceName": service,
                "typeProperties": { "location": location(file), "columnDelimiter": ",", "firstRowAsHeader": true } })
        };
        let parquet = |file: &str| {
            json!({ "type": "Parquet", "linkedServiceName": service,
                "typeProperties": { "location": location(file) } })
        };
        let pipeline = |input: &str, output: &str| {
            json!({ "activities": [{ "name": "Copy", "type": "Copy",
                "inputs": [{ "referenceName": input, "type": "DatasetReference" }],
                "outputs": [{ "referenceName": output, "type": "DatasetReference" }],
                "typeProperties": { "source": { "type": "DelimitedTextSource" }, "sink": { "type": "ParquetSink" } } }] })
        };
        let disk = json!({ "type": "FileServer",
            "connectVia": { "referenceName": "onprem", "type": "IntegrationRuntimeReference" },
            "typeProperties": { "host": self.path("store") } });
        std::fs::create_dir(self.path("documents")).unwrap();
        for (name, properties) in [
            ("Disk", disk),
            ("In", text("in.csv")),
            ("Small", text("small.csv")),
            ("Out", parquet("out.parquet")),
            ("SmallOut", parquet("small.parquet")),
            ("big", pipeline("In", "Out")),
            ("small", pipeline("Small", "SmallOut")),
        ] {
            let document = json!({ "name": name, "properties": properties });
            std::fs::write(self.path(&format!("documents/{name}.json")), document.to_string()).unwrap();
        }
        self.answer(&["apply", &self.path("documents")]);
    }

    fn start(&self, pipeline: &str) -> String {
        self.answer(&["pipeline", "run", pipeline])["runId"].as_str().unwrap().to_owned()
    }

    fn status_of(&self, run: &str) -> String {
        let output = self.run(&["run", "show", run]);
        let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout) else { return String::new() };
        let status = answer.get("status").or_else(|| answer.pointer("/run/status"));
        status.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Waits for a worker of this node, and gives its process id.
    fn worker(&self) -> u32 {
        let mut worker = None;
        self.until("a worker", |world| {
            worker = children(world.host.as_ref().unwrap().0.id()).first().copied();
            worker.is_some()
        });
        worker.unwrap()
    }

    fn expect_end(&self, run: &str, expect: &str) {
        let mut status = String::new();
        self.until(&format!("the end of the run as {expect}"), |world| {
            status = world.status_of(run);
            ["Succeeded", "Failed", "Cancelled"].contains(&status.as_str())
        });
        assert_eq!(status, expect, "{}", String::from_utf8_lossy(&self.run(&["run", "show", run]).stdout));
    }

    /// The target holds what the receipt says, and the folder nothing else.
    fn expect_whole(&self, run: &str) {
        let receipt = self.answer(&["run", "receipt", run]).to_string();
        assert!(receipt.contains(&format!("{ROWS}")), "{receipt}");
        let mut files: Vec<String> = std::fs::read_dir(self.path("store"))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, ["in.csv", "out.parquet", "small.csv"]);
    }
}

fn start_service(program: &Path, folder: &Path, listen: &str) -> (Process, String) {
    let data = folder.join("service");
    let arguments = ["service", "run", "--data", data.to_str().unwrap(), "--listen", listen, "--output", "json"];
    let mut service = Process::start(program, &arguments, &folder.join("service.log"));
    let url = service.first_answer()["service"].as_str().unwrap().to_owned();
    (service, url)
}

fn children(parent: u32) -> Vec<u32> {
    let list = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    list.flat_map(|task| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>()
    })
    .collect()
}

fn kill(process: u32) {
    assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
}

#[test]
fn a_copy_survives_the_kill_of_worker_host_and_service() {
    let Some(mut world) = World::new() else { return };
    let run = world.start("big");
    kill(world.worker());
    world.expect_end(&run, "Succeeded");
    world.expect_whole(&run);

    let run = world.start("big");
    let worker = world.worker();
    world.host.as_mut().unwrap().kill();
    world.until("the worker to die with its host", |_| !Path::new(&format!("/proc/{worker}")).exists());
    world.start_host();
    world.expect_end(&run, "Succeeded");
    world.expect_whole(&run);

    let run = world.start("big");
    let worker = world.worker();
    world.restart_service();
    assert_eq!(world.worker(), worker, "a running copy was given up because the service was away");
    world.expect_end(&run, "Succeeded");
    world.expect_whole(&run);
}

#[test]
fn a_cancelled_run_changes_nothing() {
    let Some(world) = World::new() else { return };
    std::fs::write(world.path("store/out.parquet"), "the old content").unwrap();
    let run = world.start("big");
    let worker = world.worker();
    world.answer(&["run", "cancel", &run]);
    world.expect_end(&run, "Cancelled");
    world.until("the worker to end", |_| !Path::new(&format!("/proc/{worker}")).exists());
    assert_eq!(std::fs::read_to_string(world.path("store/out.parquet")).unwrap(), "the old content");
}

#[test]
fn a_regenerated_key_cuts_nodes_off_and_a_new_one_brings_them_back() {
    let Some(world) = World::new() else { return };
    let run = world.start("small");
    world.expect_end(&run, "Succeeded");
    let old = world.answer(&["gateway", "key", "list", "onprem"]);
    let old = old["authKey1"].as_str().unwrap();
    world.answer(&["gateway", "key", "regenerate", "onprem", "--cut-off"]);
    let cut = world.ambient.uptime();
    world.until("the node to be cut off", |world| {
        let status = world.answer(&["node", "status", "--data", &world.path("node")]);
        status["connection"] == "refused"
    });
    assert!(world.ambient.uptime() - cut < Duration::from_secs(5));

    let output = world.run(&["node", "register", old, "--name", "n1", "--data", &world.path("node")]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("The gateway key is invalid or empty. Specify a valid gateway key from the portal."),
        "{said}"
    );

    let key = world.answer(&["gateway", "key", "list", "onprem"]);
    world.register(key["authKey1"].as_str().unwrap());
    world.until("the gateway to be online again", |world| world.state() == "Online");
    let run = world.start("small");
    world.expect_end(&run, "Succeeded");
}
