//! Measures the copy against its peers on this machine: see `xtask/bench/bench.py`, which does the work, and
//! `docs/benchmarks.md`, which it writes.

use anyhow::Result;

use crate::{servers, steps};

/// The section that counts instructions, with a programme of its own instead of the product's.
const COUNTED: &str = "instructions";

/// `cargo xtask bench [OPTION...]`; options go to the script.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let only = options.iter().position(|option| *option == "--only").and_then(|at| options.get(at + 1));
    let asked = |section: &str| only.is_none_or(|only| only.split(',').any(|name| name == section));
    if only.is_none_or(|only| *only != COUNTED) {
        let build = ["build", "--release", "--locked", "--package", "dmg"];
        steps::run("release build", &mut steps::command(env!("CARGO"), &build))?;
    }
    if asked(COUNTED) {
        steps::run("what counting needs", &mut steps::command("xtask/bench/install", &[]))?;
    }
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
