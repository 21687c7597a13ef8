//! `dmg dataset`: tables and files inside stores, as documents.

use clap::Subcommand;
use dmg_authoring::DocumentKind;

use crate::command::document::{self, List, Name, Put};
use crate::display::Output;
use crate::failure::Failure;

/// `dmg dataset …`
#[derive(Debug, Subcommand)]
pub(crate) enum DatasetCommand {
    /// Send a dataset from a file
    #[command(visible_alias = "create")]
    Put(Put),
    /// List them
    List(List),
    /// Show one
    Show(Name),
    /// Delete one
    Delete(Name),
}

/// Runs `dmg dataset`.
pub(crate) async fn run(command: DatasetCommand, output: Output) -> Result<u8, Failure> {
    let kind = DocumentKind::Dataset;
    match command {
        DatasetCommand::Put(arguments) => document::put(arguments, kind, output).await,
        DatasetCommand::List(arguments) => document::list(arguments, kind, output).await,
        DatasetCommand::Show(arguments) => document::show(arguments, kind, output).await,
        DatasetCommand::Delete(arguments) => document::delete(arguments, kind, output).await,
    }
}
