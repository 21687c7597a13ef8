//! All commands in plain sight: one line here and one file each. What a command does is in its file.

mod completions;
mod copy;
mod factory;
mod gateway;
mod login;
mod node;
pub(crate) mod receipt;

use clap::{ArgMatches, Parser, Subcommand};
use dmg_ambient::Ambient;
use tokio_util::sync::CancellationToken;

use crate::display::{Format, Output};
use crate::failure::Failure;
use crate::logging::LogFormat;

/// Moves data between stores behind your firewall and outside, and proves every copy.
#[derive(Debug, Parser)]
#[command(name = "dmg", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "Set DMG_LOG=info or debug for log lines on standard error.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How answers look
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "human",
        hide_possible_values = true,
        value_name = "human|json"
    )]
    pub(crate) output: Format,
    /// How log lines look
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        hide_possible_values = true,
        value_name = "text|json"
    )]
    pub(crate) log_format: LogFormat,
}

/// One command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy from one store to another, without a service
    Copy(Box<copy::CopyArguments>),
    /// Show and check the proof a copy ends in
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Remember a service, so that other commands find it
    Login(login::LoginArguments),
    /// Factories: what everything else belongs to
    #[command(subcommand)]
    Factory(factory::FactoryCommand),
    /// Gateways (integration runtimes) and their keys
    #[command(subcommand)]
    Gateway(gateway::GatewayCommand),
    /// The part that runs next to the data
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Print completions for a shell
    Completions(completions::CompletionsArguments),
}

impl Command {
    /// Whether it runs until it is told to stop.
    pub(crate) fn serves(&self) -> bool {
        matches!(self, Command::Node(node::NodeCommand::Run(_)))
    }

    /// Whether the engine runs in this process.
    pub(crate) fn moves_data(&self) -> bool {
        matches!(self, Command::Copy(_) | Command::Node(node::NodeCommand::Worker))
    }
}

/// Runs one command. Returns the exit code.
pub(crate) async fn run(
    command: Command,
    matches: &ArgMatches,
    ambient: &Ambient,
    output: Output,
    cancel: CancellationToken,
) -> Result<u8, Failure> {
    match command {
        Command::Copy(arguments) => {
            let own = matches.subcommand_matches("copy").expect("clap parsed this very command");
            Ok(copy::run(ambient, *arguments, own, output.json(), &cancel).await?)
        }
        Command::Receipt(command) => Ok(receipt::run(&command, output.json())?),
        Command::Login(arguments) => login::run(arguments, output).await,
        Command::Factory(command) => factory::run(command, output).await,
        Command::Gateway(command) => gateway::run(command, output).await,
        Command::Node(command) => node::run(command, ambient, output, cancel).await,
        Command::Completions(arguments) => completions::run(&arguments),
    }
}
