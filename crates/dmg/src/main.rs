//! The one executable: parses everything, builds a runtime, runs one command and says how it ended. It decides
//! nothing about data or the service; it wires and prints.

mod allocator;
mod client;
mod command;
mod context;
mod display;
mod failure;
mod logging;
mod ours;
mod secret_input;
mod uri;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use dmg_ambient::Ambient;
use tokio_util::sync::CancellationToken;

use crate::command::{Arguments, Command};
use crate::display::Output;
use crate::failure::Failure;

fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.format(&mut Arguments::command()).exit(),
    };
    let output = Output::new(arguments.output);
    let result = logging::start(&arguments.command, arguments.log_format).and_then(|()| {
        // The same provider everywhere; a second installation is refused, which only says that it is there.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        runtime(&arguments.command)?.block_on(with_signals(arguments.command, &matches, output))
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output.failure(&failure.fault);
            ExitCode::from(failure.exit)
        }
    }
}

/// Two threads serve a service or a node, which wait most of the time; a copy gets what the machine has.
fn runtime(command: &Command) -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    if command.moves_data() {
        allocator::give_back();
    }
    let threads = if command.moves_data() { cores.max(2) } else { 2 };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Failure::configuration(format!("The program cannot start its threads: {error}.")))
}

/// Runs the command; the first interrupt asks it to end in order, the second ends the program.
async fn with_signals(command: Command, matches: &clap::ArgMatches, output: Output) -> Result<u8, Failure> {
    let ambient = Ambient::real();
    let cancel = CancellationToken::new();
    let worker = command.is_worker();
    let work = command::run(command, matches, &ambient, output, cancel.clone());
    tokio::pin!(work);
    let mut signals = Signals::new(worker)?;
    tokio::select! {
        result = &mut work => return result,
        () = signals.next() => cancel.cancel(),
    }
    if worker {
        return Ok(EXIT_SIGNAL);
    }
    tokio::select! {
        result = &mut work => result,
        () = signals.next() => Ok(EXIT_SIGNAL),
    }
}

/// Exit code of a program that a signal ended.
const EXIT_SIGNAL: u8 = 130;

struct Signals {
    /// A worker shares its host's terminal: there the interrupt is meant for the host, which tells its workers.
    only_terminate: bool,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new(only_terminate: bool) -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let refused = |error| Failure::configuration(format!("The program cannot listen for signals: {error}."));
        Ok(Signals {
            only_terminate,
            interrupt: signal(SignalKind::interrupt()).map_err(refused)?,
            terminate: signal(SignalKind::terminate()).map_err(refused)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv(), if !self.only_terminate => {}
            _ = self.terminate.recv() => {}
        }
    }
}
