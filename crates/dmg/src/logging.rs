//! Where log lines go: to standard error, as text or JSON, by the level in `DMG_LOG`. Answers never go here.

use dmg_protocol::Fault;
use tracing_subscriber::EnvFilter;

use crate::command::Command;
use crate::failure::{Failure, IntoConfiguration};

/// Whose lines are never shown, whatever `DMG_LOG` says.
const SILENT: &str = "tiberius=off";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `DMG_LOG` holds a filter such as `info` or `dmg_control=debug`.
pub(crate) fn start(command: &Command, format: LogFormat) -> Result<(), Failure> {
    let level = if command.serves() { "info" } else { "warn" };
    let filter = match dmg_ambient::environment("DMG_LOG") {
        None => EnvFilter::new(level),
        Some(text) => text.parse::<EnvFilter>().map_err(|error| {
            Fault::new("UserErrorSettings", format!("DMG_LOG holds \"{text}\", which is no log filter: {error}."))
                .remedy("Set it to error, warn, info, debug or trace, or unset it.")
                .into_configuration()
        })?,
    };
    // The driver of SQL Server logs the server's messages word for word, and they quote values of rows.
    let filter = filter.add_directive(SILENT.parse().expect("it is a directive"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(crate::display::color_on(&std::io::stderr()))
        .with_target(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
