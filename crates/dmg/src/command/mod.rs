//! All commands in plain sight: one line here and one file each. What a command does is in its file.

mod apply;
mod completions;
mod copy;
mod credential;
mod dataset;
mod document;
mod factory;
mod gateway;
mod linked_service;
mod login;
mod node;
mod pipeline;
pub(crate) mod receipt;
mod run;
mod service;
mod store;
mod text_options;
mod up;
mod verify;
mod write_options;

use clap::{ArgMatches, Parser, Subcommand};
use dmg_ambient::Ambient;
use tokio_util::sync::CancellationToken;

use crate::display::{Format, Output};
use crate::failure::Failure;
use crate::logging::LogFormat;

/// Moves data between stores behind your firewall and outside, and proves every copy.
#[derive(Debug, Parser)]
#[command(name = "dmg", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = "New here? `dmg up` shows all of it in a few seconds.\n\
    Set DMG_LOG=info or debug for log lines on standard error.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How answers look
    #[arg(
        long,
        global = true,
        display_order = 900,
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
        display_order = 900,
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
    /// Start everything on this machine: a service, a node and a sample copy
    Up(up::UpArguments),
    /// Copy from one store to another, without a service
    Copy(Box<copy::CopyArguments>),
    /// Compare two stores, and name the rows that differ
    Verify(Box<verify::VerifyArguments>),
    /// Look into a store: schemas, tables, columns, first rows; call its procedures
    #[command(subcommand)]
    Store(Box<store::StoreCommand>),
    /// Show and check the proof a copy ends in
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Remember a service, so that other commands find it
    Login(login::LoginArguments),
    /// Deploy files or folders of JSON documents, in the order they need
    Apply(apply::ApplyArguments),
    /// Factories: what everything else belongs to
    #[command(subcommand)]
    Factory(factory::FactoryCommand),
    /// Gateways (integration runtimes) and their keys
    #[command(subcommand)]
    Gateway(gateway::GatewayCommand),
    /// Linked services: stores and how to reach them
    #[command(subcommand)]
    LinkedService(linked_service::LinkedServiceCommand),
    /// Datasets: tables and files inside stores
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    /// Pipelines: what is to be copied; start one with `pipeline run`
    #[command(subcommand)]
    Pipeline(pipeline::PipelineCommand),
    /// Runs of pipelines
    #[command(subcommand)]
    Run(run::RunCommand),
    /// Seal the secrets of a linked service before it leaves this machine
    #[command(subcommand)]
    Credential(credential::CredentialCommand),
    /// The part that runs next to the data
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// The part that nodes and people talk to
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Print completions for a shell
    Completions(completions::CompletionsArguments),
}

impl Command {
    /// Whether it runs until it is told to stop.
    pub(crate) fn serves(&self) -> bool {
        matches!(self, Command::Service(_) | Command::Node(node::NodeCommand::Run(_)))
    }

    /// Whether it is the worker of a node.
    pub(crate) fn is_worker(&self) -> bool {
        matches!(self, Command::Node(node::NodeCommand::Worker))
    }

    /// Whether the engine runs in this process.
    pub(crate) fn moves_data(&self) -> bool {
        matches!(self, Command::Copy(_) | Command::Verify(_)) || self.is_worker()
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
        Command::Up(arguments) => up::run(arguments, ambient, output, cancel).await,
        Command::Copy(arguments) => {
            let own = matches.subcommand_matches("copy").expect("clap parsed this very command");
            Ok(copy::run(ambient, *arguments, own, output.json(), &cancel).await?)
        }
        Command::Verify(arguments) => {
            let own = matches.subcommand_matches("verify").expect("clap parsed this very command");
            Ok(verify::run(ambient, *arguments, own, output, &cancel).await?)
        }
        Command::Store(command) => store::run(*command, ambient, output, &cancel).await,
        Command::Receipt(command) => Ok(receipt::run(&command, output.json())?),
        Command::Login(arguments) => login::run(arguments, output).await,
        Command::Apply(arguments) => apply::run(arguments, output).await,
        Command::Factory(command) => factory::run(command, output).await,
        Command::Gateway(command) => gateway::run(command, output).await,
        Command::LinkedService(command) => linked_service::run(command, ambient, output).await,
        Command::Dataset(command) => dataset::run(command, output).await,
        Command::Pipeline(command) => pipeline::run(command, ambient, output, &cancel).await,
        Command::Run(command) => run::run(command, ambient, output).await,
        Command::Credential(command) => credential::run(command, output).await,
        Command::Node(command) => node::run(command, ambient, output, cancel).await,
        Command::Service(command) => service::run(command, ambient, output, cancel).await,
        Command::Completions(arguments) => completions::run(&arguments),
    }
}
