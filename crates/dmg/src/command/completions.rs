//! `dmg completions`: the script a shell needs to complete our commands, derived from the commands themselves.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "Example: dmg completions bash > ~/.local/share/bash-completion/completions/dmg")]
pub(crate) struct CompletionsArguments {
    /// Which shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &CompletionsArguments) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "dmg", &mut script);
    crate::display::say(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}
