//! Holds the test servers while something runs. `tests/servers/run` starts them and stops them when its input ends,
//! so they go away however this program ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context, Result, bail};

use crate::steps;

/// Running test servers; dropping them stops them.
pub(crate) struct Servers {
    /// Environment of the tests.
    pub(crate) environment: Vec<(String, String)>,
    child: Child,
    input: Option<ChildStdin>,
}

/// Installs what is missing and starts the servers. `postgres` holds settings such as `fsync=off`.
pub(crate) fn start(postgres: &str) -> Result<Servers> {
    println!("== test servers");
    let script = steps::root().join("tests/servers/run");
    let mut child = steps::command(script.to_str().context("the repository's path is not UTF-8")?, &[])
        .env("DMG_SERVERS_POSTGRES", postgres)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("tests/servers/run did not start")?;
    let input = child.stdin.take();
    let output = child.stdout.take().context("tests/servers/run has no output")?;
    let mut servers = Servers { environment: Vec::new(), child, input };
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == "READY" {
            return Ok(servers);
        }
        if let Some((name, value)) = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
            servers.environment.push((name.to_owned(), value.to_owned()));
        }
    }
    bail!("the test servers did not start; see above")
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the test servers could not be waited for: {error}");
        }
    }
}

/// `cargo xtask servers`: for developers, until Ctrl-C.
pub(crate) fn hold() -> Result<()> {
    let servers = start("fsync=off")?;
    let mut text = String::new();
    for (name, value) in &servers.environment {
        text.push_str(&format!("export {name}={value}\n"));
    }
    std::fs::write(steps::root().join(".test-servers/env"), &text)?;
    println!("{text}\nIn another terminal: . .test-servers/env\nCtrl-C stops the servers.");
    loop {
        std::thread::park();
    }
}
