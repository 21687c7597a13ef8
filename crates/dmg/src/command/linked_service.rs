//! `dmg linked-service`: stores and how to reach them, as documents, and a test from where the gateway stands.

use std::time::Duration;

use clap::Subcommand;
use dmg_ambient::Ambient;
use dmg_authoring::DocumentKind;
use dmg_protocol::Fault;
use serde_json::Value;

use crate::client::{Client, nothing, segment};
use crate::command::document::{self, List, Name, Put};
use crate::display::Output;
use crate::failure::{EXIT_FAULT, Failure};
use crate::ours::{self, OURS};

/// How long a test may take before we stop asking.
const TEST_SECONDS_MAX: u64 = 120;

/// `dmg linked-service …`
#[derive(Debug, Subcommand)]
pub(crate) enum LinkedServiceCommand {
    /// Send a linked service from a file; its secrets are sealed before they leave this machine
    #[command(visible_alias = "create")]
    Put(Put),
    /// List them
    List(List),
    /// Show one, secrets masked
    Show(Name),
    /// Delete one that no dataset uses
    Delete(Name),
    /// Connect to the store from the gateway and say whether it works
    Test(Name),
}

/// Runs `dmg linked-service`.
pub(crate) async fn run(command: LinkedServiceCommand, ambient: &Ambient, output: Output) -> Result<u8, Failure> {
    let kind = DocumentKind::LinkedService;
    match command {
        LinkedServiceCommand::Put(arguments) => document::put(arguments, kind, output).await,
        LinkedServiceCommand::List(arguments) => document::list(arguments, kind, output).await,
        LinkedServiceCommand::Show(arguments) => document::show(arguments, kind, output).await,
        LinkedServiceCommand::Delete(arguments) => document::delete(arguments, kind, output).await,
        LinkedServiceCommand::Test(arguments) => test(arguments, ambient, output).await,
    }
}

async fn test(arguments: Name, ambient: &Ambient, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let path = ours::connection_test(&client, &factory, &arguments.name);
    let mut answer = client.post(&path, OURS, &nothing()).await?;
    let id = answer["id"].as_str().map(str::to_owned);
    let deadline = ambient.uptime() + Duration::from_secs(TEST_SECONDS_MAX);
    while let (Some(id), false) = (&id, ended(&answer)) {
        if ambient.uptime() > deadline {
            let message = format!("The test of \"{}\" has not ended after {TEST_SECONDS_MAX} s.", arguments.name);
            return Err(Fault::new("NetworkErrorStoreUnreachable", message)
                .remedy("Check that a node of the gateway is online: dmg gateway list.")
                .into());
        }
        ambient.sleep(Duration::from_millis(300)).await;
        answer = client.get(&format!("{path}/{}", segment(id)), OURS).await?;
    }
    if answer["status"] == "Succeeded" {
        output.answer(&answer, || {
            let detail = answer["detail"].as_str().unwrap_or_default();
            format!("{} works. {detail}", arguments.name).trim_end().to_owned()
        });
        return Ok(0);
    }
    if let Ok(fault) = serde_json::from_value::<Fault>(answer["fault"].clone()) {
        return Err(fault.into());
    }
    output.answer(&answer, || format!("{} does not work: {}", arguments.name, answer["status"]));
    Ok(EXIT_FAULT)
}

fn ended(answer: &Value) -> bool {
    matches!(answer["status"].as_str(), Some("Succeeded" | "Failed" | "Cancelled"))
}
