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
    let [source, sink] = secrets;
    say(
        &mut input,
        &json!({
            "say": "start", "job": full, "attempt": { "namespace": "tests", "run": run, "epoch": epoch },
            "sourceSecrets": source, "sinkSecrets": sink, "redirectSecrets": {}, "digestKey": null,
        }),
    );
    let started = now();
    let mut at = match kill {
        Some(Kill::AfterStart(pause)) => Some(started + pause),
        _ => None,
    };
    let ended = loop {
        let wait = at.map_or(DEADLINE, |at| at.saturating_duration_since(now()));
        let line = match lines.recv_timeout(wait) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) if at.is_some() => break Ended::Killed,
            Err(error) => panic!("the worker says nothing: {error}"),
        };
        match line["say"].as_str().unwrap_or_default() {
            "mayCommit" => {
                say(&mut input, &json!({ "say": "commitAnswer", "granted": true }));
                if let Some(Kill::AfterGrant(pause)) = kill {
                    at = Some(now() + pause);
                }
            }
            "finished" => break Ended::Finished(Box::new(line["receipt"].clone())),
            "failed" => break Ended::Failed(line["fault"].clone()),
            _ => {}
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    ended
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
