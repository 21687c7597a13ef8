//! `dmg pipeline`: what is to be copied, as documents, and starting it.

use std::io::IsTerminal;

use clap::{Args, Subcommand};
use dmg_ambient::Ambient;
use dmg_authoring::DocumentKind;
use dmg_protocol::Fault;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, V2, segment};
use crate::command::document::{self, List, Name, Put};
use crate::command::run as runs;
use crate::context::ServiceArguments;
use crate::display::Output;
use crate::display::progress::Bar;
use crate::failure::Failure;

/// `dmg pipeline …`
#[derive(Debug, Subcommand)]
pub(crate) enum PipelineCommand {
    /// Send a pipeline from a file
    #[command(visible_alias = "create")]
    Put(Put),
    /// List them
    List(List),
    /// Show one
    Show(Name),
    /// Delete one
    Delete(Name),
    /// Start a run
    Run(Start),
}

/// A run to start.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// The pipeline
    name: String,
    /// A parameter; repeat for more. Numbers, true, lists and objects are written as in JSON
    #[arg(long, value_name = "K=V")]
    parameter: Vec<String>,
    /// Wait for the end; the exit code is 1 if the run fails
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    service: ServiceArguments,
}

/// Runs `dmg pipeline`.
pub(crate) async fn run(
    command: PipelineCommand,
    ambient: &Ambient,
    output: Output,
    cancel: &CancellationToken,
) -> Result<u8, Failure> {
    let kind = DocumentKind::Pipeline;
    match command {
        PipelineCommand::Put(arguments) => document::put(arguments, kind, output).await,
        PipelineCommand::List(arguments) => document::list(arguments, kind, output).await,
        PipelineCommand::Show(arguments) => document::show(arguments, kind, output).await,
        PipelineCommand::Delete(arguments) => document::delete(arguments, kind, output).await,
        PipelineCommand::Run(arguments) => start(arguments, ambient, output, cancel).await,
    }
}

async fn start(arguments: Start, ambient: &Ambient, output: Output, cancel: &CancellationToken) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let found = document::find(&client, &factory, DocumentKind::Pipeline, &arguments.name).await?;
    let Some((_, pipeline)) = found else {
        let message = format!("Factory \"{factory}\" has no pipeline \"{}\".", arguments.name);
        return Err(Fault::new("UserErrorNotFound", message).remedy("dmg pipeline list shows them.").into());
    };
    let parameters = parameters(&arguments.parameter, &pipeline)?;
    let run = create_run(&client, &factory, &arguments.name, parameters).await?;
    if !arguments.wait {
        output.answer(&json!({ "runId": run }), || format!("Run {run} started. See how it goes: dmg run show {run}"));
        return Ok(0);
    }
    output.note(&format!("Run {run} started."));
    let bar = (!output.json() && std::io::stderr().is_terminal()).then(Bar::new);
    let ended = runs::wait_and_show(&client, &factory, &run, ambient, cancel, bar.as_ref()).await;
    if let Some(bar) = &bar {
        bar.clear();
    }
    match ended? {
        Some(status) => runs::show_end(&client, &factory, &run, &status, output).await,
        None => {
            output.note(&format!("Not waiting any longer; the run goes on. Stop it with dmg run cancel {run}"));
            Ok(crate::failure::EXIT_FAULT)
        }
    }
}

/// Starts a run and gives its id.
pub(crate) async fn create_run(
    client: &Client,
    factory: &str,
    pipeline: &str,
    parameters: Map<String, Value>,
) -> Result<String, Fault> {
    let path = format!("{}/pipelines/{}/createRun", client.factory_path(factory), segment(pipeline));
    let answer = client.post(&path, V2, &Value::Object(parameters)).await?;
    answer["runId"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Fault::new("SystemErrorInternal", "The service started a run and did not say its id."))
}

/// `k=v` as the pipeline declares `k`: text stays text, everything else is read as JSON.
fn parameters(given: &[String], pipeline: &Value) -> Result<Map<String, Value>, Failure> {
    let mut parameters = Map::new();
    let declared = &pipeline["properties"]["parameters"];
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            return Err(
                Failure::configuration(format!("\"{text}\" is no parameter.")).remedy("Write --parameter name=value.")
            );
        };
        let kind = declared[name]["type"].as_str();
        let value = match kind {
            Some(kind) if !kind.eq_ignore_ascii_case("String") && !kind.eq_ignore_ascii_case("SecureString") => {
                serde_json::from_str(value).map_err(|_| {
                    Failure::configuration(format!("Parameter \"{name}\" is of type {kind}; its value is not."))
                        .remedy("Write the value as in JSON, for example 7, true, [1,2] or {\"a\":1}.")
                })?
            }
            _ => Value::String(value.to_owned()),
        };
        parameters.insert(name.to_owned(), value);
    }
    Ok(parameters)
}
