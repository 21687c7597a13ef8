//! Measures the copy against its peers on this machine: see `xtask/bench/bench.py`, which does the work, and
//! `docs/benchmarks.md`, which it writes.

use anyhow::Result;

use crate::{servers, steps};

/// `cargo xtask bench [OPTION...]`; options go to the script.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let build = ["build", "--release", "--locked", "--package", "dmg"];
    steps::run("release build", &mut steps::command(env!("CARGO"), &build))?;
    // Everything in memory, every commit on disk.
    let servers = servers::start("shared_buffers=2GB max_wal_size=8GB fsync=on")?;
    let python = servers.environment.iter().find(|(name, _)| name == "DMG_TEST_PYTHON");
    let python = python.map_or("python3", |(_, value)| value.as_str());
    let wanted =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "xtask/bench/requirements.txt"];
    steps::run("peers", &mut steps::command(python, &wanted))?;
    let mut bench = steps::command(python, &["xtask/bench/bench.py"]);
    steps::run("measure", bench.args(options).envs(servers.environment.iter().cloned()))
}
