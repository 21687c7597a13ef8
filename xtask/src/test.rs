//! Everything that must hold before a change is good: format, lints, rules of the house, tests against real servers.
//! The last lines are the test runner's own summary.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{servers, steps};

/// Tests may break the program at named places; the lints see it as it is shipped.
const FAILPOINTS: &str = "dmg/failpoints";

/// `cargo xtask test [FILTER...]`; a filter leaves out what does not test.
pub(crate) fn run(filters: &[&str]) -> Result<()> {
    let cargo = env!("CARGO");
    if filters.is_empty() {
        steps::run("format", &mut steps::command(cargo, &["fmt", "--all", "--check"]))?;
        let clippy =
            ["clippy", "--profile", "quick", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        steps::run("lints", &mut steps::command(cargo, &clippy))?;
    }
    let servers = servers::start("fsync=off")?;
    // The system tests drive the real executable. Everything is built at once: built alone, it would get other features
    // of its dependencies, and they would be compiled twice.
    let build = ["build", "--profile", "quick", "--locked", "--workspace", "--all-targets", "--features", FAILPOINTS];
    steps::run("executable and tests", &mut steps::command(cargo, &build))?;
    if filters.is_empty() {
        let doc =
            ["test", "--doc", "--profile", "quick", "--workspace", "--locked", "--quiet", "--features", FAILPOINTS];
        let mut doc = steps::command(cargo, &doc);
        steps::run("examples in comments", doc.envs(servers.environment.iter().cloned()))?;
    }
    if has_nextest() {
        nextest(cargo, filters, &servers)
    } else {
        let mut arguments =
            vec!["test", "--profile", "quick", "--workspace", "--all-targets", "--locked", "--no-fail-fast"];
        arguments.extend(["--features", FAILPOINTS]);
        arguments.push("--");
        arguments.extend(filters);
        let mut test = steps::command(cargo, &arguments);
        steps::run("tests", test.envs(servers.environment.iter().cloned()))
    }
}

fn has_nextest() -> bool {
    let probe = Command::new("cargo-nextest").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    probe.is_ok_and(|status| status.success())
}

fn nextest(cargo: &str, filters: &[&str], servers: &servers::Servers) -> Result<()> {
    println!("== tests");
    let arguments = ["nextest", "run", "--cargo-profile", "quick", "--workspace", "--locked", "--no-fail-fast"];
    let mut child = steps::command(cargo, &arguments)
        .args(["--features", FAILPOINTS])
        .args(filters)
        .envs(servers.environment.iter().cloned())
        .stderr(Stdio::piped())
        .spawn()
        .context("cargo nextest did not start")?;
    let stderr = child.stderr.take().context("nextest has no output")?;
    let mut summary = String::new();
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        writeln!(std::io::stderr(), "{line}")?;
        if line.trim_start().starts_with("Summary") {
            summary = line;
        }
    }
    let status = child.wait()?;
    let skipped = skipped();
    if !skipped.is_empty() {
        println!("{} tests say that they could not run:", skipped.len());
        for line in &skipped {
            println!("  {line}");
        }
        println!("{summary}");
    }
    if !status.success() {
        bail!("tests failed");
    }
    Ok(())
}

/// What tests said when the server or program they need was not there; nextest keeps their output in a report.
fn skipped() -> Vec<String> {
    let report = std::fs::read_to_string(steps::root().join("target/nextest/default/junit.xml")).unwrap_or_default();
    let mut lines: Vec<String> = report
        .lines()
        .filter_map(|line| line.find("SKIPPED:").map(|at| line[at..].trim_end_matches("</system-err>").to_owned()))
        .collect();
    lines.sort();
    lines
}
