//! What a person does to this repository, as commands: test it, check its rules, make its pages, measure it, pack it.
//! Nothing here is part of the product.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "these commands talk to a person")]

mod bench;
mod chaos;
mod dist;
mod fuzz;
mod pages;
mod servers;
mod steps;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask test       install what the tests need, start the servers, check and test everything
cargo xtask servers    start the test servers, print their environment, stop them at Ctrl-C
cargo xtask tidy       check the rules of the house; --bless accepts changed counts
cargo xtask docs       write the generated pages
cargo xtask bench      measure against peers; writes docs/benchmarks.md
cargo xtask fuzz       campaigns of the fuzzer; --coverage tells what is reached
cargo xtask chaos      break copies on purpose; --seed, --kills, --bugs and more
cargo xtask dist       build what is shipped, with its checksum";

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match arguments.first().map(String::as_str) {
        Some("test") => test::run(&rest),
        Some("servers") => servers::hold(),
        Some("tidy") => tidy::run(rest.contains(&"--bless")),
        Some("docs") => pages::write(),
        Some("bench") => bench::run(&rest),
        Some("fuzz") => fuzz::run(&rest),
        Some("chaos") => chaos::run(&rest),
        Some("dist") => dist::run(),
        _ => bail!("what is to be done?\n{USAGE}"),
    }
}
