//! `dmg run`: runs of pipelines, how they go, how they ended and the receipts they ended in.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use dmg_ambient::Ambient;
use dmg_protocol::worker::Progress;
use dmg_protocol::{Fault, Receipt, Signed};
use dmg_seal::open_signed;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, V2, nothing, segment};
use crate::command::receipt;
use crate::context::ServiceArguments;
use crate::display::progress::Bar;
use crate::display::{Output, Table, moment, word};
use crate::failure::{EXIT_FAULT, Failure};
use crate::ours::{self, OURS};

/// How often a waiting command asks.
const ASK_EVERY: Duration = Duration::from_millis(400);

/// `dmg run …`
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// List runs, newest first
    List(List),
    /// Show a run and its activities
    Show(Id),
    /// Stop a run; what it would have written is left as it was
    Cancel(Id),
    /// Print the receipt of a run, or write it to a file
    Receipt(OfReceipt),
}

/// Which runs.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only runs of this pipeline
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Only runs that changed in so many hours
    #[arg(long, default_value_t = 24 * 7)]
    hours: u32,
    #[command(flatten)]
    service: ServiceArguments,
}

/// One run.
#[derive(Debug, Args)]
pub(crate) struct Id {
    /// Id of the run
    id: String,
    #[command(flatten)]
    service: ServiceArguments,
}

/// Whose receipt.
#[derive(Debug, Args)]
pub(crate) struct OfReceipt {
    /// Id of the run
    id: String,
    /// Activity, where the run has several
    #[arg(long, value_name = "NAME")]
    activity: Option<String>,
    /// Write the signed receipt to this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    service: ServiceArguments,
}

/// Runs `dmg run`.
pub(crate) async fn run(command: RunCommand, ambient: &Ambient, output: Output) -> Result<u8, Failure> {
    match command {
        RunCommand::List(arguments) => list(arguments, ambient, output).await,
        RunCommand::Show(arguments) => {
            let client = Client::open(&arguments.service)?;
            let factory = client.factory().await?;
            let run = get(&client, &factory, &arguments.id).await?;
            let activities = activities(&client, &factory, &arguments.id).await?;
            output.answer(&json!({ "run": run, "activities": activities }), || text(&run, &activities, output));
            Ok(0)
        }
        RunCommand::Cancel(arguments) => {
            let client = Client::open(&arguments.service)?;
            let factory = client.factory().await?;
            client.post(&format!("{}/cancel", path(&client, &factory, &arguments.id)), V2, &nothing()).await?;
            output.answer(&json!({ "runId": arguments.id, "cancelled": true }), || {
                format!("Run {} is told to stop.", arguments.id)
            });
            Ok(0)
        }
        RunCommand::Receipt(arguments) => of_receipt(arguments, output).await,
    }
}

fn path(client: &Client, factory: &str, id: &str) -> String {
    format!("{}/pipelineruns/{}", client.factory_path(factory), segment(id))
}

async fn get(client: &Client, factory: &str, id: &str) -> Result<Value, Fault> {
    client.get(&path(client, factory, id), V2).await
}

/// A window of time that leaves nothing out, as the query asks for one.
fn all_time() -> Value {
    json!({ "lastUpdatedAfter": "2000-01-01T00:00:00Z", "lastUpdatedBefore": "2999-01-01T00:00:00Z" })
}

/// The activity runs of a run, in the order they started.
pub(crate) async fn activities(client: &Client, factory: &str, id: &str) -> Result<Vec<Value>, Fault> {
    let path = format!("{}/queryActivityruns", path(client, factory, id));
    let mut answer = client.post(&path, V2, &all_time()).await?;
    let mut all = match answer["value"].take() {
        Value::Array(all) => all,
        _ => Vec::new(),
    };
    all.sort_by_key(|activity| word(&activity["activityRunStart"]));
    Ok(all)
}

async fn list(arguments: List, ambient: &Ambient, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let after = ambient.unix_micros() - i64::from(arguments.hours) * 3_600_000_000;
    let mut body = json!({
        "lastUpdatedAfter": dmg_ambient::rfc3339(after),
        "lastUpdatedBefore": "2999-01-01T00:00:00Z",
        "orderBy": [{ "orderBy": "RunStart", "order": "DESC" }],
    });
    if let Some(pipeline) = &arguments.pipeline {
        body["filters"] = json!([{ "operand": "PipelineName", "operator": "Equals", "values": [pipeline] }]);
    }
    let path = format!("{}/queryPipelineRuns", client.factory_path(&factory));
    let mut runs = Vec::new();
    loop {
        let mut answer = client.post(&path, V2, &body).await?;
        if let Value::Array(some) = answer["value"].take() {
            runs.extend(some);
        }
        match answer["continuationToken"].take() {
            Value::Null => break,
            token => body["continuationToken"] = token,
        }
    }
    output.answer(&json!(runs), || {
        let mut table = Table::new(&["RUN", "PIPELINE", "STATUS", "STARTED (UTC)", "SECONDS", "MESSAGE"]);
        for run in &runs {
            table.row([
                word(&run["runId"]),
                word(&run["pipelineName"]),
                output.status(&word(&run["status"])),
                moment(&word(&run["runStart"])),
                seconds(&run["durationInMs"]),
                first_line(&word(&run["message"])),
            ]);
        }
        table.text("No pipeline has run yet. Start one with dmg pipeline run NAME.")
    });
    Ok(0)
}

fn seconds(milliseconds: &Value) -> String {
    milliseconds.as_f64().map_or(String::new(), |number| format!("{:.1}", number / 1000.0))
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// A run for people.
fn text(run: &Value, activities: &[Value], output: Output) -> String {
    let mut text = format!(
        "{} of pipeline {}  {}\n",
        output.strong(&word(&run["runId"])),
        word(&run["pipelineName"]),
        output.status(&word(&run["status"]))
    );
    let message = word(&run["message"]);
    if !message.is_empty() {
        text.push_str(&format!("{message}\n"));
    }
    let mut table = Table::new(&["ACTIVITY", "STATUS", "STARTED (UTC)", "SECONDS", "ROWS READ", "ROWS COPIED"]);
    for activity in activities {
        table.row([
            word(&activity["activityName"]),
            output.status(&word(&activity["status"])),
            moment(&word(&activity["activityRunStart"])),
            seconds(&activity["durationInMs"]),
            activity["output"]["rowsRead"].as_u64().map_or(String::new(), receipt::thousands),
            activity["output"]["rowsCopied"].as_u64().map_or(String::new(), receipt::thousands),
        ]);
    }
    text.push_str(&table.text("No activity has started yet."));
    for activity in activities {
        let why = word(&activity["error"]["message"]);
        if !why.is_empty() {
            let code = word(&activity["error"]["errorCode"]);
            text.push_str(&format!("\n{}: {why}\n  ({code})", word(&activity["activityName"])));
        }
    }
    text
}

/// Waits for a run's end. None when told not to wait any longer.
pub(crate) async fn wait(
    client: &Client,
    factory: &str,
    id: &str,
    ambient: &Ambient,
    cancel: &CancellationToken,
) -> Result<Option<String>, Fault> {
    wait_and_show(client, factory, id, ambient, cancel, None).await
}

/// As [`wait`], with a bar that shows how far the copies are.
pub(crate) async fn wait_and_show(
    client: &Client,
    factory: &str,
    id: &str,
    ambient: &Ambient,
    cancel: &CancellationToken,
    bar: Option<&Bar>,
) -> Result<Option<String>, Fault> {
    loop {
        let run = get(client, factory, id).await?;
        let status = word(&run["status"]);
        if matches!(status.as_str(), "Succeeded" | "Failed" | "Cancelled") {
            return Ok(Some(status));
        }
        if let Some(bar) = bar {
            let all = activities(client, factory, id).await?;
            let running = all.iter().find(|activity| activity["status"] == "InProgress");
            let progress = running.map(|activity| activity["output"]["progress"].clone());
            if let Some(progress) = progress.and_then(|value| serde_json::from_value::<Progress>(value).ok()) {
                bar.update(&progress);
            }
        }
        tokio::select! {
            () = ambient.sleep(ASK_EVERY) => {}
            () = cancel.cancelled() => return Ok(None),
        }
    }
}

/// Shows how a run ended; the exit code says it too.
pub(crate) async fn show_end(
    client: &Client,
    factory: &str,
    id: &str,
    status: &str,
    output: Output,
) -> Result<u8, Failure> {
    let run = get(client, factory, id).await?;
    let activities = activities(client, factory, id).await?;
    output.answer(&json!({ "run": run, "activities": activities }), || text(&run, &activities, output));
    Ok(if status == "Succeeded" { 0 } else { EXIT_FAULT })
}

/// The signed receipts of a run: activity and receipt.
pub(crate) async fn receipts(client: &Client, factory: &str, id: &str) -> Result<Vec<(String, Signed)>, Fault> {
    let mut found = Vec::new();
    for activity in activities(client, factory, id).await? {
        let (name, run) = (word(&activity["activityName"]), word(&activity["activityRunId"]));
        let path = ours::receipt(client, factory, id, &run);
        if let Some(body) = client.find(&path, OURS).await? {
            let signed = serde_json::from_value(body).map_err(|error| {
                Fault::new("UserErrorReceipt", format!("The receipt of activity \"{name}\" is unreadable: {error}."))
            })?;
            found.push((name, signed));
        }
    }
    Ok(found)
}

/// What is inside a signed receipt, its signature checked.
pub(crate) fn open(signed: &Signed) -> Result<Receipt, Fault> {
    open_signed(signed, receipt::RECEIPT_KIND, &signed.signature.public_key)
}

async fn of_receipt(arguments: OfReceipt, output: Output) -> Result<u8, Failure> {
    let client = Client::open(&arguments.service)?;
    let factory = client.factory().await?;
    let mut all = receipts(&client, &factory, &arguments.id).await?;
    if let Some(name) = &arguments.activity {
        all.retain(|(activity, _)| activity.eq_ignore_ascii_case(name));
    }
    if all.len() > 1 {
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!("The run has several receipts, of activities {}.", names.join(", "));
        return Err(Fault::new("UserErrorSettings", message).remedy("Name one with --activity.").into());
    }
    let Some((_, signed)) = all.pop() else {
        let message = format!("Run {} has no receipt.", arguments.id);
        return Err(Fault::new("UserErrorNotFound", message)
            .remedy("Only a copy that succeeded has one; dmg run show says how the run stands.")
            .into());
    };
    let opened = open(&signed)?;
    if let Some(file) = &arguments.file {
        receipt::write(file, &signed)?;
    }
    let value = serde_json::to_value(&signed).unwrap_or_default();
    output.answer(&value, || {
        let mut lines = receipt::receipt_lines(&opened);
        if let Some(file) = &arguments.file {
            lines.push(format!("receipt  {}", file.display()));
        }
        lines.join("\n")
    });
    Ok(0)
}
