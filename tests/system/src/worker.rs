//! A worker process without a host: the test says what a host would say over the pipes, and may kill it at a moment of
//! its choice. So one run can be attempted again and again under rising epochs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::program::dmg;
use crate::wait::now;

/// No attempt of these tests takes longer.
const DEADLINE: Duration = Duration::from_secs(300);

/// When a worker is killed.
#[derive(Debug, Clone, Copy)]
pub enum Kill {
    /// That long after it got its job.
    AfterStart(Duration),
    /// That long after its commit was allowed.
    AfterGrant(Duration),
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Ended {
    /// With a receipt.
    Finished(Box<Value>),
    /// With a fault.
    Failed(Value),
    /// By the kill.
    Killed,
}

impl Ended {
    /// Wants the receipt.
    ///
    /// # Panics
    /// When there is none.
    pub fn receipt(self) -> Value {
        match self {
            Ended::Finished(receipt) => *receipt,
            other => panic!("wanted a receipt: {other:?}"),
        }
    }

    /// Wants the fault of that code; gives its message.
    ///
    /// # Panics
    /// When it ended otherwise.
    pub fn fault(self, code: &str) -> String {
        match self {
            Ended::Failed(fault) if fault["code"] == code => fault["message"].as_str().unwrap_or_default().to_owned(),
            other => panic!("wanted {code}: {other:?}"),
        }
    }
}

/// Carries out one attempt of a job: a `CopyJob` without its type. `secrets` are those of source and sink.
///
/// # Panics
/// When the worker cannot be started or says nothing for very long.
pub fn attempt(job: &Value, run: &str, epoch: u64, secrets: [Value; 2], kill: Option<Kill>) -> Ended {
    let mut worker = Worker::start(job, run, epoch, secrets);
    let pause = match kill {
        Some(Kill::AfterStart(pause)) => Some(pause),
        _ => None,
    };
    let mut at = pause.map(|pause| now() + pause);
    loop {
        let wait = at.map_or(DEADLINE, |at| at.saturating_duration_since(now()));
        match worker.next(wait) {
            Heard::Ended(ended) => return ended,
            Heard::Granted => {
                if let Some(Kill::AfterGrant(pause)) = kill {
                    at = Some(now() + pause);
                }
            }
            Heard::Other => {}
            Heard::Silence if at.is_some() => return Ended::Killed,
            Heard::Silence => panic!("the worker says nothing"),
        }
    }
}

/// What came from a worker.
enum Heard {
    Ended(Ended),
    Granted,
    Other,
    Silence,
}

/// A worker at work. It is killed when it is dropped.
pub struct Worker {
    child: Child,
    /// Gone when its host is to be gone.
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// The plan it told, where it got so far.
    pub plan: Option<Value>,
    /// Rows it said it has read, at last.
    pub rows_read: u64,
}

impl Worker {
    /// Starts an attempt, as [`attempt`] does.
    ///
    /// # Panics
    /// When the worker cannot be started.
    pub fn start(job: &Value, run: &str, epoch: u64, secrets: [Value; 2]) -> Worker {
        Self::start_after(job, run, epoch, secrets, None)
    }

    /// Starts an attempt that is told of the plan of an earlier one.
    ///
    /// # Panics
    /// When the worker cannot be started.
    pub fn start_after(job: &Value, run: &str, epoch: u64, secrets: [Value; 2], plan: Option<&Value>) -> Worker {
        let [source, sink] = secrets;
        Self::start_with(job, run, epoch, [source, sink, json!({})], plan)
    }

    /// Starts an attempt with the secrets of source, sink, and the store of rows left out.
    ///
    /// # Panics
    /// When the worker cannot be started.
    pub fn start_with(job: &Value, run: &str, epoch: u64, secrets: [Value; 3], plan: Option<&Value>) -> Worker {
        let mut child = dmg(["node", "worker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the worker starts");
        let mut input = child.stdin.take().expect("piped");
        let lines = lines(&mut child);
        let mut full = job.clone();
        full["type"] = json!("copy");
        let [source, sink, beside] = secrets;
        let mut start = json!({
            "say": "start", "job": full, "attempt": { "namespace": "tests", "run": run, "epoch": epoch },
            "sourceSecrets": source, "sinkSecrets": sink, "redirectSecrets": beside, "digestKey": null,
        });
        if let Some(plan) = plan {
            start["plan"] = plan.clone();
        }
        say(&mut input, &start);
        Worker { child, input: Some(input), lines, plan: None, rows_read: 0 }
    }

    fn next(&mut self, wait: Duration) -> Heard {
        let line = match self.lines.recv_timeout(wait) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Heard::Silence,
            Err(error) => panic!("the worker ended without a word: {error}"),
        };
        match line["say"].as_str().unwrap_or_default() {
            "mayCommit" => {
                if let Some(input) = &mut self.input {
                    say(input, &json!({ "say": "commitAnswer", "granted": true }));
                }
                return Heard::Granted;
            }
            "planned" => self.plan = Some(line["plan"].clone()),
            "progress" => self.rows_read = line["progress"]["rowsRead"].as_u64().unwrap_or_default(),
            "finished" => return Heard::Ended(Ended::Finished(Box::new(line["receipt"].clone()))),
            "failed" => return Heard::Ended(Ended::Failed(line["fault"].clone())),
            _ => {}
        }
        Heard::Other
    }

    /// Waits for its last word; whether it may commit is answered with yes.
    ///
    /// # Panics
    /// When it says nothing for very long.
    pub fn end(&mut self) -> Ended {
        loop {
            match self.next(DEADLINE) {
                Heard::Ended(ended) => return ended,
                Heard::Silence => panic!("the worker says nothing"),
                Heard::Granted | Heard::Other => {}
            }
        }
    }

    /// Hears what it has said until that holds.
    ///
    /// # Panics
    /// When it ends before, or nothing comes of it for very long.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let started = now();
        while !holds() {
            match self.next(Duration::from_millis(20)) {
                Heard::Ended(ended) => panic!("it ended before {what}: {ended:?}"),
                _ => assert!(now() - started < DEADLINE, "waited for {what}"),
            }
        }
        // What it said before, such as its plan, is heard too.
        while !matches!(self.next(Duration::ZERO), Heard::Silence) {}
    }

    /// Its host is gone; gives its last word.
    ///
    /// # Panics
    /// When it does not end.
    pub fn abandon(&mut self) -> Ended {
        drop(self.input.take());
        self.end()
    }

    /// `STOP`, `CONT` or another signal by name.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(input: &mut ChildStdin, message: &Value) {
    // A worker that is gone says so by its silence.
    let _ = writeln!(input, "{message}");
}

fn lines(child: &mut Child) -> Receiver<Value> {
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let Ok(message) = serde_json::from_str(&line) else { continue };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}
