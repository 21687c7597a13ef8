//! The host's life: poll for hints, take jobs while there is room, pass cancels on, report what an earlier life left
//! behind. Each job is a task of its own; this loop only hands out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dmg_ambient::{Ambient, TaskGroup};
use dmg_protocol::channel::{
    Hints, JobGrant, NodeStatus, POLL, POLL_SECONDS, PollRequest, TAKE, TakeAnswer, TakeRequest,
};
use dmg_protocol::{CommandId, Epoch, Fault, JobId, Signed};
use dmg_seal::open_signed;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::channel::PROGRAM;
use super::enroll::publish;
use super::folder::NodeFolder;
use super::job::{self, Stop};
use super::lease::pause;
use super::load::jobs_limit;
use super::node::Node;
use super::process::{Spawner, WorkerProgram, hide_memory};
use super::status::{Connection, note_connection};

const TAKE_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_MARGIN: Duration = Duration::from_secs(15);
/// Between polls that would be answered at once although there is no room, or nothing was left to take.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// How long the host waits for its jobs when it is stopped.
const DRAIN: Duration = Duration::from_secs(20);
/// How often a node that the service refuses looks whether it was registered anew.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// How often it asks the service again, in such looks.
const REFUSED_LOOKS: u32 = 10;

/// Runs the host of a registered node until `shutdown`.
pub async fn run(data: &Path, ambient: &Ambient, shutdown: CancellationToken) -> Result<(), Fault> {
    run_with(data, WorkerProgram::this()?, ambient, shutdown).await
}

/// As [`run`], with another program for the workers.
pub async fn run_with(
    data: &Path,
    program: WorkerProgram,
    ambient: &Ambient,
    shutdown: CancellationToken,
) -> Result<(), Fault> {
    let folder = NodeFolder::open(data)?;
    let Some(_lock) = folder.lock()? else {
        return Err(Fault::new(
            "UserErrorInUse",
            format!("Another host is already running on the folder {}.", data.display()),
        )
        .remedy("Stop the other host, or give this node a folder of its own."));
    };
    hide_memory();
    let spawner = Spawner::start()?;
    loop {
        let (node, state) = Node::load(&folder, ambient, spawner.clone(), program.clone())?;
        tracing::info!(node = %node.record.node, gateway = %node.record.gateway, service = %state.endpoint, "host started");
        let refused = Host::new(Arc::new(node), folder.clone()).serve(&shutdown).await;
        if shutdown.is_cancelled() {
            note_connection(&folder, ambient, Connection::Stopped);
            return Ok(());
        }
        tracing::error!("{refused}");
        note_connection(&folder, ambient, Connection::Refused { reason: refused.message });
        for _ in 0..REFUSED_LOOKS {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = ambient.sleep(REFUSED_PAUSE) => {}
            }
            if folder.state()?.is_some_and(|now| now != state) {
                break;
            }
        }
    }
}

struct Host {
    node: Arc<Node>,
    folder: NodeFolder,
    tasks: TaskGroup<(JobId, Epoch)>,
    /// Jobs that run, or whose end is not reported yet.
    stops: BTreeMap<(JobId, Epoch), watch::Sender<Stop>>,
    limit: u32,
    connected: bool,
}

impl Host {
    fn new(node: Arc<Node>, folder: NodeFolder) -> Self {
        Host { node, folder, tasks: TaskGroup::new(), stops: BTreeMap::new(), limit: jobs_limit(), connected: false }
    }

    /// Works until it is stopped or the service refuses the node; gives the refusal.
    async fn serve(mut self, shutdown: &CancellationToken) -> Fault {
        self.report_earlier();
        let refusal = tokio::select! {
            () = shutdown.cancelled() => Fault::new("UserErrorCancelled", "The host was stopped."),
            refusal = self.poll_forever() => refusal,
        };
        for stop in self.stops.values() {
            stop.send_replace(Stop::Release);
        }
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("jobs did not end in time; what they did is reported at the next start");
        }
        self.tasks.shutdown().await;
        refusal
    }

    /// Jobs of an earlier life of the host: their end, or that they are given back.
    fn report_earlier(&mut self) {
        for entry in self.node.journal.entries() {
            let node = Arc::clone(&self.node);
            let (stop, _) = watch::channel(Stop::No);
            self.stops.insert((entry.job_id.clone(), entry.epoch), stop);
            self.tasks.spawn(async move {
                let finish = entry.report();
                job::report(&node, &finish).await;
                (finish.job_id, finish.epoch)
            });
        }
    }

    async fn poll_forever(&mut self) -> Fault {
        let mut attempt = 0;
        loop {
            match self.poll().await {
                Ok(hints) => {
                    attempt = 0;
                    if !self.connected {
                        self.publish_certificate().await;
                    }
                    self.note(Connection::Connected);
                    if let Err(fault) = self.follow(hints).await {
                        if fault.code == "UserErrorGatewayKey" {
                            return fault;
                        }
                        tracing::warn!("work cannot be taken: {fault}");
                        self.node.ambient.sleep(pause(&self.node.ambient, attempt)).await;
                    }
                }
                Err(fault) if fault.code == "UserErrorGatewayKey" => return fault,
                Err(fault) => {
                    if attempt == 0 {
                        tracing::warn!("the service does not answer, it is asked again: {fault}");
                    }
                    self.note(Connection::Disconnected { reason: fault.message });
                    attempt += 1;
                    self.node.ambient.sleep(pause(&self.node.ambient, attempt)).await;
                }
            }
            self.reap();
        }
    }

    /// Makes sure that the service has the certificate: it may have been away when it was made.
    async fn publish_certificate(&self) {
        let published = match self.folder.credential_key() {
            Ok(Some(key)) => publish(&self.node.channel, &key, false).await,
            Ok(None) => {
                tracing::warn!(
                    "this node does not hold the gateway's certificate and gets no jobs until it is imported"
                );
                Ok(())
            }
            Err(fault) => Err(fault),
        };
        if let Err(fault) = published {
            tracing::warn!("the gateway certificate is not published: {fault}");
        }
    }

    fn note(&mut self, connection: Connection) {
        let connected = matches!(connection, Connection::Connected);
        if connected && !self.connected {
            tracing::info!(node = %self.node.record.node, "connected to the cloud service");
        }
        if connected != self.connected || !connected {
            note_connection(&self.folder, &self.node.ambient, connection);
        }
        self.connected = connected;
    }

    async fn poll(&mut self) -> Result<Hints, Fault> {
        self.reap();
        let thumbprint = self.node.vault.thumbprint()?;
        let load = self.node.meter.read(&self.node.ambient);
        let status = NodeStatus {
            running: self.stops.keys().map(|(job, _)| job.clone()).collect(),
            concurrent_jobs_limit: self.limit,
            max_concurrent_jobs: jobs_limit() * 2,
            available_memory_mib: load.available_memory_mib,
            cpu_percent: load.cpu_percent,
            sent_bytes: load.sent_bytes,
            received_bytes: load.received_bytes,
            holds_certificate: thumbprint.is_some(),
            certificate_thumbprint: thumbprint,
            program: PROGRAM.to_owned(),
        };
        // The first poll is answered at once, so that the node is known to be there.
        let wait_seconds = if self.connected { POLL_SECONDS } else { 0 };
        let request = PollRequest { status, wait_seconds };
        let timeout = Duration::from_secs(wait_seconds) + POLL_MARGIN;
        let (signed, nonce) = self.node.channel.call::<Signed>(POLL, &request, timeout).await?;
        let hints: Hints = open_signed(&signed, "dmg-hints/1", self.node.channel.service_key())?;
        if hints.nonce != nonce {
            return Err(Fault::new("NetworkErrorServiceIdentity", "An old answer of the service was repeated."));
        }
        Ok(hints)
    }

    async fn follow(&mut self, hints: Hints) -> Result<(), Fault> {
        if let Some(limit) = hints.concurrent_jobs_limit {
            self.limit = limit.max(1);
        }
        for (_, stop) in self.stops.iter().filter(|((job, _), _)| hints.cancel.contains(job)) {
            stop.send_if_modified(|stop| std::mem::replace(stop, Stop::Cancel) != Stop::Cancel);
        }
        self.reap();
        let mut took = false;
        while hints.work && self.tasks.len() < self.limit as usize {
            let Some(grant) = self.take().await? else { break };
            took = true;
            let (stop, wanted) = watch::channel(Stop::No);
            let (node, id) = (Arc::clone(&self.node), (grant.job_id.clone(), grant.attempt.epoch));
            for (_, earlier) in self.stops.iter().filter(|((job, _), _)| *job == id.0) {
                earlier.send_replace(Stop::LeaseLost);
            }
            self.stops.insert(id.clone(), stop);
            self.tasks.spawn(async move {
                job::run(node, grant, wanted).await;
                id
            });
        }
        if (hints.work && !took) || !hints.cancel.is_empty() {
            self.node.ambient.sleep(BUSY_PAUSE).await;
        }
        Ok(())
    }

    /// Takes one job. The command's id makes a repeated request get the same grant, so none is lost on the way.
    async fn take(&self) -> Result<Option<JobGrant>, Fault> {
        dmg_ambient::failpoint!("host.take");
        let request = TakeRequest { command_id: CommandId::new(self.node.ambient.uuid()) };
        let mut attempt = 0;
        let answer = loop {
            match self.node.channel.call::<TakeAnswer>(TAKE, &request, TAKE_TIMEOUT).await {
                Ok((answer, _)) => break answer,
                Err(fault) if fault.code.starts_with("NetworkError") && attempt < 5 => {
                    self.node.ambient.sleep(pause(&self.node.ambient, attempt)).await;
                    attempt += 1;
                }
                Err(fault) => return Err(fault),
            }
        };
        let Some(signed) = answer.grant else { return Ok(None) };
        let grant: JobGrant = open_signed(&signed, "dmg-job/1", self.node.channel.service_key())?;
        let wrong = |what: &str| {
            Err(Fault::new(
                "NetworkErrorServiceIdentity",
                format!("The service handed out a job that is not for this node: {what}."),
            ))
        };
        if &grant.node_id != self.node.channel.node_id() {
            return wrong("it names another node");
        }
        if grant.command_id != request.command_id {
            return wrong("it answers another request");
        }
        if grant.factory_id != self.node.record.factory_id || grant.attempt.namespace != grant.factory_id.as_str() {
            return wrong("it belongs to another factory");
        }
        let newest = self.stops.keys().filter(|(job, _)| *job == grant.job_id).map(|(_, epoch)| *epoch).max();
        if newest.is_some_and(|epoch| epoch >= grant.attempt.epoch) {
            return wrong("it is already running here");
        }
        Ok(Some(grant))
    }

    /// Forgets jobs that have ended.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            match ended {
                Ok(job) => drop(self.stops.remove(&job)),
                Err(error) => tracing::error!(%error, "a job's task failed"),
            }
        }
    }
}
