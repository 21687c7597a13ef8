//! `dmg factory`: makes, lists, shows and deletes factories. The original's version 2 resource, nothing added.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::client::{Client, V2};
use crate::context::ServiceArguments;
use crate::display::{Output, Table, moment, word};
use crate::failure::Failure;

/// `dmg factory …`
#[derive(Debug, Subcommand)]
pub(crate) enum FactoryCommand {
    /// Make a factory; an existing one is left as it is
    Create(Create),
    /// List the factories of the resource group
    List(List),
    /// Show one
    Show(Name),
    /// Delete one, with everything in it
    Delete(Name),
}

/// A new factory.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Letters and digits in groups joined by dashes, 3 to 63 characters
    name: String,
    /// Where it is, for people; the service does not look at it
    #[arg(long, default_value = "local")]
    location: String,
    #[command(flatten)]
    service: ServiceArguments,
}

/// Which service.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    service: ServiceArguments,
}

/// One factory.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The factory
    name: String,
    #[command(flatten)]
    service: ServiceArguments,
}

/// Runs `dmg factory`.
pub(crate) async fn run(command: FactoryCommand, output: Output) -> Result<u8, Failure> {
    match command {
        FactoryCommand::Create(arguments) => {
            let client = Client::open(&arguments.service)?;
            let path = client.factory_path(&arguments.name);
            let body = json!({ "location": arguments.location });
            let (answer, said) = match client.find(&path, V2).await? {
                Some(factory) => (factory, "is there already"),
                None => (client.put(&path, V2, &body).await?, "created"),
            };
            output.answer(&answer, || format!("Factory {} {said}.", arguments.name));
        }
        FactoryCommand::List(arguments) => {
            let client = Client::open(&arguments.service)?;
            let all = client.list(&client.factories(), V2).await?;
            output.answer(&json!(all), || {
                let mut table = Table::new(&["NAME", "LOCATION", "CREATED"]);
                for factory in &all {
                    table.row([
                        word(&factory["name"]),
                        word(&factory["location"]),
                        moment(&word(&factory["properties"]["createTime"])),
                    ]);
                }
                table.text("There is no factory yet. Make one with dmg factory create NAME.")
            });
        }
        FactoryCommand::Show(arguments) => {
            let client = Client::open(&arguments.service)?;
            let factory = client.get(&client.factory_path(&arguments.name), V2).await?;
            output.answer(&factory, || serde_json::to_string_pretty(&factory).unwrap_or_default());
        }
        FactoryCommand::Delete(arguments) => {
            let client = Client::open(&arguments.service)?;
            let there = client.delete(&client.factory_path(&arguments.name), V2).await?;
            output.answer(&json!({ "deleted": there }), || match there {
                true => format!("Factory {} deleted.", arguments.name),
                false => format!("There was no factory {}.", arguments.name),
            });
        }
    }
    Ok(0)
}
