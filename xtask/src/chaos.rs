//! Breaks copies on purpose: builds the executable with failpoints, makes sure of the servers' programs, and hands over
//! to `tests/chaos`, which is Python so that no line of the judge is the product's.

use std::fs;

use anyhow::{Context, Result};

use crate::steps;

/// A campaign of about ten minutes, when no size is given.
const DEFAULT: &[&str] = &[
    "--kills",
    "60",
    "--zombies",
    "40",
    "--late",
    "16",
    "--overtaken",
    "30",
    "--resumes",
    "16",
    "--adopted",
    "12",
    "--cancels",
    "30",
    "--replaces",
    "10",
    "--foreign",
    "12",
    "--moving",
    "8",
    "--parts",
    "12",
    "--corrupt",
    "12",
    "--clocks",
    "4",
    "--durable",
    "2",
    "--server-kills",
    "6",
    "--failpoints",
    "150",
    "--nth",
    "8",
    "--network",
    "30",
    "--stack",
    "12",
    "--bugs",
    "rotate",
];

/// `cargo xtask chaos [--seed N] [--kills N] ...`; the arguments are those of `tests/chaos/chaos.py`.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let build =
        ["build", "--profile", "quick", "--locked", "-p", "dmg", "-p", "dmg-faultproxy", "-p", "dmg-tds-fixture"];
    let mut build = steps::command(env!("CARGO"), &build);
    steps::run("executable with failpoints", build.args(["--features", "dmg/failpoints"]))?;
    let root = steps::root();
    let place = root.join(".test-servers");
    let install = root.join("tests/servers/install");
    let mut install = steps::command(install.to_str().context("the repository's path is not UTF-8")?, &[]);
    steps::run("programs of the servers", install.arg(&place))?;
    // A build beside the campaign must not change what is being broken.
    let programs = root.join("target/chaos");
    fs::create_dir_all(&programs)?;
    for name in ["dmg", "dmg-faultproxy", "tds-fixture"] {
        let to = programs.join(name);
        if to.exists() {
            fs::remove_file(&to)?;
        }
        fs::copy(root.join("target/quick").join(name), to)?;
    }
    let python = place.join("venv/bin/python3");
    let mut chaos = steps::command(python.to_str().context("the repository's path is not UTF-8")?, &[]);
    chaos.arg("tests/chaos/chaos.py").arg("--servers").arg(&place);
    chaos.arg("--program").arg(programs.join("dmg")).arg("--proxy").arg(programs.join("dmg-faultproxy"));
    chaos.arg("--tds").arg(programs.join("tds-fixture"));
    let sized = arguments.iter().any(|word| word.starts_with("--") && !["--seed", "--minutes"].contains(word));
    chaos.args(if sized { &[] } else { DEFAULT }).args(arguments);
    steps::run("chaos", &mut chaos)
}
