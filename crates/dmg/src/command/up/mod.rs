//! `dmg up`: a service, one registered node and a sample copy on this machine, in one process besides the workers.
//! Everything it does goes through the public API and the node's ordinary registration; it has no door of its own.

mod folder;
mod sample;
mod words;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dmg_ambient::{Ambient, TaskGroup};
use dmg_control::ServiceConfig;
use dmg_gateway::host;
use dmg_protocol::{Fault, Receipt, Secret};
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;

use self::folder::Folder;
use self::words::Ready;
use crate::client::{Client, V2, nothing, segment};
use crate::command::{document, pipeline, run as runs, service};
use crate::context::{Connection, RESOURCE_GROUP, SUBSCRIPTION};
use crate::display::Output;
use crate::failure::{Failure, file_fault};

/// The sample's factory.
const FACTORY: &str = "sample";
/// The sample's gateway; its documents name it.
const GATEWAY: &str = "local";
/// How long each part may take to end in order.
const DRAIN: Duration = Duration::from_secs(15);

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    /// Folder for everything [default: dmg/up in your data folder, usually ~/.local/share]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the service listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Start afresh: remove what an earlier `dmg up` made in the folder
    #[arg(long)]
    reset: bool,
}

type Part = TaskGroup<Result<(), Fault>>;

/// Starts everything, runs the sample, and stays until told to stop.
pub(crate) async fn run(
    arguments: UpArguments,
    ambient: &Ambient,
    output: Output,
    cancel: CancellationToken,
) -> Result<u8, Failure> {
    let root = arguments.data.map_or_else(default_folder, Ok)?;
    let folder = Folder::open(&root, arguments.reset)?;
    let (mut service, mut node) = (Part::new(), Part::new());
    let (stop_service, stop_node) = (CancellationToken::new(), CancellationToken::new());
    let started = ambient.uptime();

    let running = service::build(ServiceConfig::new(folder.service(), arguments.listen), ambient).await?;
    let address = service::reachable(running.address()?);
    service.spawn(running.run(stop_service.clone()));

    let result = tokio::select! {
        () = cancel.cancelled() => Ok(()),
        ended = service.join_next() => Err(part_ended("service", ended)),
        result = async {
            let client = client(&folder, address)?;
            introduce(&client, &folder, &address.to_string(), ambient).await?;
            let (data, world, stop) = (folder.node(), ambient.clone(), stop_node.clone());
            node.spawn(async move { host::run(&data, &world, stop).await });
            let (run, receipt) = copy_sample(&client, &folder, &mut node, ambient).await?;
            let seconds = (ambient.uptime() - started).as_secs_f64();
            let ready = Ready { service: client.service(), folder: &folder, run: &run, receipt: &receipt, seconds };
            output.answer(&ready.value(), || ready.text(output));
            Ok(())
        } => result,
    };
    let result = match result {
        Ok(()) if !cancel.is_cancelled() => tokio::select! {
            () = cancel.cancelled() => Ok(()),
            ended = service.join_next() => Err(part_ended("service", ended)),
            ended = node.join_next() => Err(part_ended("node", ended)),
        },
        other => other,
    };
    output.note("Stopping.");
    stop_node.cancel();
    drain(&mut node).await;
    stop_service.cancel();
    drain(&mut service).await;
    result.map(|()| 0)
}

/// Waits for a part to end, for a while.
async fn drain(part: &mut Part) {
    let ended = async { while part.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::warn!("a part did not end in time and is cut off");
        part.shutdown().await;
    }
}

/// A part that ended by itself, which none should.
fn part_ended(name: &str, ended: Option<Result<Result<(), Fault>, tokio::task::JoinError>>) -> Failure {
    match ended {
        Some(Ok(Err(fault))) => fault.into(),
        _ => Fault::new("SystemErrorInternal", format!("The {name} ended by itself.")).into(),
    }
}

fn default_folder() -> Result<PathBuf, Failure> {
    dmg_ambient::environment("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| dmg_ambient::environment("HOME").map(|home| Path::new(&home).join(".local/share")))
        .map(|folder| folder.join("dmg/up"))
        .ok_or_else(|| {
            Failure::configuration("Neither XDG_DATA_HOME nor HOME says where your data is.")
                .remedy("Name a folder with --data DIR.")
        })
}

fn client(folder: &Folder, address: SocketAddr) -> Result<Client, Failure> {
    let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(|error| file_fault("read", &path, &error));
    Client::new(Connection {
        service: format!("https://{address}"),
        token: Secret::new(read(folder.token())?.trim().to_owned()),
        ca: Some(read(folder.certificate())?.into_bytes()),
        factory: Some(FACTORY.to_owned()),
        resource_group: RESOURCE_GROUP.to_owned(),
        subscription: SUBSCRIPTION.to_owned(),
    })
}

/// Makes the factory and the gateway if need be, and registers the node with it.
async fn introduce(client: &Client, folder: &Folder, endpoint: &str, ambient: &Ambient) -> Result<(), Failure> {
    let factory = client.factory_path(FACTORY);
    if client.find(&factory, V2).await?.is_none() {
        client.put(&factory, V2, &json!({ "location": "local" })).await?;
    }
    let gateway = format!("{factory}/integrationRuntimes/{GATEWAY}");
    let data = folder.node();
    if client.find(&gateway, V2).await?.is_none() {
        let body = json!({ "properties": { "type": "SelfHosted", "description": "The node that dmg up runs." } });
        client.put(&gateway, V2, &body).await?;
        // A node of a gateway that is gone cannot come back.
        if data.exists() {
            std::fs::remove_dir_all(&data).map_err(|error| file_fault("removed", &data, &error))?;
        }
    }
    match host::status(&data) {
        Ok(report) if report.endpoint == endpoint => return Ok(()),
        // The service moved to another port: the node is introduced again, and keeps its certificate.
        Ok(report) => {
            client.delete(&format!("{gateway}/nodes/{}", segment(&report.node)), V2).await?;
        }
        Err(_) => {}
    }
    let keys = client.post(&format!("{gateway}/listAuthKeys"), V2, &nothing()).await?;
    let key = Secret::new(keys["authKey1"].as_str().unwrap_or_default().to_owned());
    host::register(key.expose(), None, &data, None, ambient).await?;
    Ok(())
}

/// Deploys what is missing of the sample, runs it and gives the run's id and receipt.
async fn copy_sample(
    client: &Client,
    folder: &Folder,
    node: &mut Part,
    ambient: &Ambient,
) -> Result<(String, Receipt), Failure> {
    sample::database(&folder.sample())?;
    for document in sample::documents(&folder.sample(), &folder.documents())? {
        if document::find(client, FACTORY, document.kind, &document.name).await?.is_none() {
            let (path, version) = document::place(client, FACTORY, sample::DIALECT, document.kind, &document.name);
            client.put(&path, version, &document.body).await?;
        }
    }
    let run = pipeline::create_run(client, FACTORY, sample::PIPELINE, Map::new()).await?;
    let never = CancellationToken::new();
    let status = tokio::select! {
        status = runs::wait(client, FACTORY, &run, ambient, &never) => status?,
        ended = node.join_next() => return Err(part_ended("node", ended)),
    };
    if status.as_deref() != Some("Succeeded") {
        return Err(sample_failed(client, &run).await?.into());
    }
    let receipts = runs::receipts(client, FACTORY, &run).await?;
    let (_, signed) = receipts.first().ok_or_else(|| {
        Fault::new("SystemErrorInternal", "The sample copy succeeded, but the service has no receipt of it.")
    })?;
    Ok((run, runs::open(signed)?))
}

/// Why the sample did not work, in the words of its activity.
async fn sample_failed(client: &Client, run: &str) -> Result<Fault, Fault> {
    let activities = runs::activities(client, FACTORY, run).await?;
    let error = activities.iter().map(|activity| &activity["error"]).find(|error| error["message"].is_string());
    let why = error.map_or("the service gives no reason", |error| error["message"].as_str().unwrap_or_default());
    Ok(Fault::new("SystemErrorInternal", format!("The sample copy did not work: {why}"))
        .remedy("Try dmg up --reset; DMG_LOG=debug shows more."))
}
