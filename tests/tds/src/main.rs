//! The fixture as a program: prints its port, then serves until its input ends.

use std::io::Read;
use std::process::ExitCode;

use dmg_tds_fixture::{Encryption, Fixture, Options};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its interface")]
fn main() -> ExitCode {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--port" => options.port = value().parse().unwrap_or(0),
            "--login" => options.login = value(),
            "--password" => options.password = value(),
            "--windows" => options.windows = Some((value(), String::new())),
            "--windows-password" => {
                options.windows = options.windows.take().map(|(account, _)| (account, value()));
            }
            "--database" => options.databases.push(value()),
            "--strict" => options.strict_only = true,
            "--encryption" => {
                options.encryption = match value().as_str() {
                    "none" => Encryption::NotSupported,
                    "required" => Encryption::Required,
                    _ => Encryption::Optional,
                }
            }
            other => {
                eprintln!(
                    "unknown argument {other}; known are --port --login --password --windows --windows-password --database \
                     --strict --encryption"
                );
                return ExitCode::from(64);
            }
        }
    }
    let fixture = match Fixture::start(options) {
        Ok(fixture) => fixture,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("READY {}", fixture.port);
    print!("{}", fixture.certificate);
    // Whoever holds the other end may die in any way, and the server goes with it.
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    ExitCode::SUCCESS
}
