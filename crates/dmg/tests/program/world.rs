//! A world for tests of the program: its own folders, its own environment, and programs that end with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Folders and environment of one test.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        World { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that sees nothing of the person who runs the test.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dmg"));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_DATA_HOME", self.path("data"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("the program starts")
    }

    /// Runs to the end; must end well. Gives standard output.
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "dmg {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Starts a program that runs until it is told to stop, and waits for the JSON it says first.
    pub(crate) fn serve(&self, arguments: &[&str]) -> (Running, serde_json::Value) {
        let mut child = self
            .command()
            .args(arguments)
            .args(["--output", "json"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(self.path("stderr.txt")).expect("a file"))
            .spawn()
            .expect("the program starts");
        let stdout = child.stdout.take().expect("it is piped");
        let running = Running { child: Some(child) };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut said = String::new();
            while reader.read_line(&mut said).is_ok_and(|bytes| bytes > 0) {
                if let Ok(value) = serde_json::from_str::<serde_json::Value>(&said) {
                    let _ = sender.send(value);
                    break;
                }
            }
            // Reads on, so that the program never writes into a closed pipe.
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
        });
        match receiver.recv_timeout(DEADLINE) {
            Ok(value) => (running, value),
            Err(_) => panic!("dmg {arguments:?} said nothing: {}", self.stderr()),
        }
    }

    /// What the program that serves wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.path("stderr.txt")).unwrap_or_default()
    }
}

/// A program that is stopped with the test.
pub(crate) struct Running {
    child: Option<Child>,
}

impl Running {
    /// Interrupts it as Ctrl-C does, and gives its exit code.
    pub(crate) fn interrupt(mut self) -> Option<i32> {
        let mut child = self.child.take().expect("it runs");
        let id = child.id().to_string();
        Command::new("kill").args(["-INT", &id]).status().expect("kill is there");
        child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a file is there and holds something.
pub(crate) fn holds_something(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}
