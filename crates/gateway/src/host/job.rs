//! One job on this node, from the grant to the report: opens its credentials, starts its worker, carries messages both
//! ways, and says how it ended. What a copy does is the worker's business.

use std::sync::Arc;
use std::time::Duration;

use dmg_ambient::TaskGroup;
use dmg_protocol::channel::{FINISH, FinishAnswer, FinishRequest, JobGrant, Outcome};
use dmg_protocol::worker::{FromWorker, OUTCOME, OUTCOME_UNKNOWN, PipeSecret, PipeSecrets, Progress, Start, ToWorker};
use dmg_protocol::{Fault, Receipt, Signed};
use tokio::sync::{mpsc, oneshot, watch};

use super::lease::{Ask, Lease, LeaseView, pause};
use super::node::Node;
use super::process::Worker;

/// How long a worker may take to stop once asked.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// The same when it was told that it may commit: a commit under way is better finished than cut.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);
/// How long a worker may say nothing at all.
const SILENCE_MOST: Duration = Duration::from_secs(15 * 60);
/// How long a worker may live after its last word.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);
const FINISH_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a job is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Stop {
    /// It is not.
    #[default]
    No,
    /// The host stops: the job is given back.
    Release,
    /// The run was cancelled.
    Cancel,
    /// Another epoch may have the job.
    LeaseLost,
}

/// Runs a granted job to its report.
pub(crate) async fn run(node: Arc<Node>, mut grant: JobGrant, stop: watch::Receiver<Stop>) {
    let taken = node.ambient.rfc3339();
    let span = (grant.job_id.clone(), grant.attempt.epoch);
    tracing::info!(job = %span.0, run = %grant.attempt.run, epoch = %span.1, "job taken");
    let (progress, last_progress) = watch::channel(None);
    dmg_ambient::failpoint!("host.taken");
    let outcome = match node.journal.begin(&grant, taken.clone()) {
        Ok(()) => work(&node, &mut grant, stop, &progress).await,
        Err(fault) => Outcome::Released { fault },
    };
    let progress = last_progress.borrow().clone();
    let finish = FinishRequest { job_id: span.0, epoch: span.1, outcome, progress };
    dmg_ambient::failpoint!("host.ended");
    if let Err(fault) = node.journal.end(&finish, taken) {
        tracing::error!(job = %finish.job_id, "the end of a job cannot be noted: {fault}");
    }
    dmg_ambient::failpoint!("host.end.noted");
    report(&node, &finish).await;
}

/// Reports an end until the service has answered, then forgets the job.
pub(crate) async fn report(node: &Node, finish: &FinishRequest) {
    let mut attempt = 0;
    loop {
        match node.channel.call::<FinishAnswer>(FINISH, finish, FINISH_TIMEOUT).await {
            Ok((FinishAnswer { accepted }, _)) => {
                tracing::info!(job = %finish.job_id, accepted, outcome = name(&finish.outcome), "job reported");
                break;
            }
            Err(fault)
                if matches!(
                    fault.code.as_str(),
                    "UserErrorGatewayKey" | "UserErrorNotFound" | "SystemErrorLeaseLost"
                ) =>
            {
                tracing::warn!(job = %finish.job_id, "the service does not want the end of a job: {}", fault.message);
                break;
            }
            Err(fault) => {
                tracing::info!(job = %finish.job_id, "the end of a job is not reported yet: {}", fault.message)
            }
        }
        node.ambient.sleep(pause(&node.ambient, attempt)).await;
        attempt += 1;
    }
    dmg_ambient::failpoint!("host.reported");
    if let Err(fault) = node.journal.forget(&finish.job_id, finish.epoch) {
        tracing::error!(job = %finish.job_id, "the journal cannot be cleaned: {fault}");
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Probed { .. } => "probed",
        Outcome::Called { .. } => "called",
        Outcome::Browsed { .. } => "browsed",
        Outcome::Failed { .. } => "failed",
        Outcome::Cancelled => "cancelled",
        Outcome::Released { .. } => "released",
    }
}

async fn work(
    node: &Arc<Node>,
    grant: &mut JobGrant,
    stop: watch::Receiver<Stop>,
    progress: &watch::Sender<Option<Progress>>,
) -> Outcome {
    dmg_ambient::failpoint!("host.noted");
    let opened = match node.vault.open_job(&grant.factory_id, &mut grant.job) {
        Ok(opened) => opened,
        Err(fault) => return Outcome::Failed { fault },
    };
    dmg_ambient::failpoint!("host.opened");
    let mut worker = match node.spawner.spawn(&node.program).await {
        Ok(worker) => worker,
        Err(fault) => return Outcome::Released { fault },
    };
    let start = Start {
        job: grant.job.clone(),
        attempt: grant.attempt.clone(),
        source_secrets: PipeSecrets::new(&opened.source),
        sink_secrets: PipeSecrets::new(&opened.sink),
        redirect_secrets: PipeSecrets::new(&opened.redirect),
        digest_key: Some(PipeSecret::new(&opened.digest_key)),
        plan: grant.earlier_plan.take(),
    };
    drop(opened);
    dmg_ambient::failpoint!("host.spawned");
    worker.say(&ToWorker::Start(Box::new(start))).await;
    dmg_ambient::failpoint!("host.started");

    let (view, lease) = watch::channel(LeaseView::default());
    let (asks, asked) = mpsc::channel(4);
    let mut tasks = TaskGroup::new();
    let keeper = Lease {
        ambient: node.ambient.clone(),
        channel: Arc::clone(&node.channel),
        job_id: grant.job_id.clone(),
        epoch: grant.attempt.epoch,
        progress: progress.subscribe(),
        view,
    };
    tasks.spawn(keeper.keep(asked));
    let mut conversation =
        Conversation { node, worker, asks, progress, stop: Stop::No, granted: false, deadline: None, answer: None };
    let last = conversation.hold(stop, lease).await;
    let ended = conversation.worker.ended(EXIT_PATIENCE).await;
    let (stop, granted) = (conversation.stop, conversation.granted);
    drop(conversation);
    tasks.shutdown().await;
    outcome(node, last, stop, granted, ended)
}

/// Host and worker talking about one job.
struct Conversation<'a> {
    node: &'a Node,
    worker: Worker,
    asks: mpsc::Sender<Ask>,
    progress: &'a watch::Sender<Option<Progress>>,
    stop: Stop,
    /// Whether the worker was told that it may commit.
    granted: bool,
    /// When the worker is killed.
    deadline: Option<Duration>,
    /// The service's word on the commit, when it is awaited.
    answer: Option<oneshot::Receiver<bool>>,
}

impl Conversation<'_> {
    /// Carries messages until the worker's last word. None: it ended without one.
    async fn hold(
        &mut self,
        mut stop: watch::Receiver<Stop>,
        mut lease: watch::Receiver<LeaseView>,
    ) -> Option<FromWorker> {
        let mut heard = self.node.ambient.uptime();
        let wanted = *stop.borrow_and_update();
        self.wants_stop(wanted).await;
        loop {
            if self.answer.is_some() {
                // It waits for the service's word on its commit, however long the service is away.
                heard = self.node.ambient.uptime();
            }
            let silence = (heard + SILENCE_MOST).saturating_sub(self.node.ambient.uptime());
            let patience = self.deadline.map_or(silence, |at| at.saturating_sub(self.node.ambient.uptime()));
            tokio::select! {
                message = self.worker.next() => {
                    heard = self.node.ambient.uptime();
                    match message? {
                        FromWorker::Planned { plan } => self.ask(Ask::Plan(plan)).await,
                        FromWorker::Progress { progress } => { self.progress.send_replace(Some(progress)); }
                        FromWorker::MayCommit => self.may_commit().await,
                        last => return Some(last),
                    }
                }
                granted = wait_for(&mut self.answer) => self.commit_answer(granted).await,
                Ok(()) = stop.changed() => {
                    let wanted = *stop.borrow_and_update();
                    self.wants_stop(wanted).await;
                }
                Ok(()) = lease.changed() => {
                    let LeaseView { lost, cancel } = *lease.borrow_and_update();
                    if lost {
                        self.wants_stop(Stop::LeaseLost).await;
                    } else if cancel {
                        self.wants_stop(Stop::Cancel).await;
                    }
                }
                () = self.node.ambient.sleep(patience) => {
                    tracing::warn!(stop = ?self.stop, "a worker did not stop when asked, or fell silent; it is ended");
                    self.worker.kill();
                    heard = self.node.ambient.uptime();
                    self.deadline = None;
                }
            }
        }
    }

    async fn may_commit(&mut self) {
        if self.stop != Stop::No {
            return self.commit_answer(false).await;
        }
        dmg_ambient::failpoint!("host.commit.asked");
        let (sender, answer) = oneshot::channel();
        self.answer = Some(answer);
        self.ask(Ask::MayCommit(sender)).await;
    }

    async fn commit_answer(&mut self, granted: bool) {
        self.answer = None;
        self.granted |= granted;
        dmg_ambient::failpoint!("host.commit.answered");
        self.worker.say(&ToWorker::CommitAnswer { granted }).await;
    }

    async fn ask(&mut self, ask: Ask) {
        // A lease that is lost asks nothing any more, and says so by its view.
        let _ = self.asks.send(ask).await;
    }

    async fn wants_stop(&mut self, wanted: Stop) {
        if wanted == Stop::No || self.stop != Stop::No {
            self.stop = self.stop.max(wanted);
            return;
        }
        self.stop = wanted;
        let patience = if self.granted { COMMIT_PATIENCE } else { STOP_PATIENCE };
        self.deadline = Some(self.node.ambient.uptime() + patience);
        if self.answer.is_some() {
            self.commit_answer(false).await;
        }
        self.worker.say(&ToWorker::Cancel).await;
    }
}

/// The word on the commit; never ready while none is awaited. An answer that will not come is a no.
async fn wait_for(answer: &mut Option<oneshot::Receiver<bool>>) -> bool {
    match answer {
        Some(answer) => answer.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

/// How a job ended, from the worker's last word and why it was stopped.
fn outcome(
    node: &Node,
    last: Option<FromWorker>,
    stop: Stop,
    granted: bool,
    ended: Option<std::process::ExitStatus>,
) -> Outcome {
    match last {
        Some(FromWorker::Finished { receipt }) => Outcome::Succeeded { receipt: signed(node, &receipt) },
        Some(FromWorker::Probed { detail }) => Outcome::Probed { detail },
        Some(FromWorker::Called { outcome }) => Outcome::Called { returned: outcome },
        Some(FromWorker::Browsed { listing }) => Outcome::Browsed { listing },
        Some(FromWorker::Failed { fault }) => {
            let stopped = matches!(fault.code.as_str(), "UserErrorCancelled" | "SystemErrorLeaseLost");
            match stop {
                Stop::Cancel if stopped => Outcome::Cancelled,
                Stop::Release if stopped => Outcome::Released { fault: host_stops() },
                Stop::LeaseLost if stopped => Outcome::Released { fault: lease_lost() },
                _ if deserves_another_attempt(&fault) => Outcome::Released { fault },
                _ => Outcome::Failed { fault },
            }
        }
        _ => match stop {
            // Killed after it was told to commit: only the mark in the sink knows whether it did.
            Stop::Cancel if !granted => Outcome::Cancelled,
            Stop::Release => Outcome::Released { fault: host_stops() },
            Stop::LeaseLost => Outcome::Released { fault: lease_lost() },
            _ => Outcome::Released { fault: aborted(ended) },
        },
    }
}

/// The target changed under the commit, or nobody knows whether the commit happened: another attempt, which reads the
/// mark first, settles it.
fn deserves_another_attempt(fault: &Fault) -> bool {
    matches!(fault.code.as_str(), "SystemErrorLeaseLost" | "StoreErrorCommitRefused")
        || fault.context.get(OUTCOME).is_some_and(|outcome| outcome == OUTCOME_UNKNOWN)
}

fn signed(node: &Node, receipt: &Receipt) -> Signed {
    let mut receipt = receipt.clone();
    // The worker has no identity; who it worked for is the host's to say.
    receipt.parties.node.clone_from(&node.record.node);
    let mut signed = node.channel.identity().sign("dmg-receipt/1", &receipt);
    signed.vouched = Some(Box::new(node.record_signed.clone()));
    signed
}

fn host_stops() -> Fault {
    Fault::new("SystemErrorAborted", "The node's host was stopped; the job is given back.")
}

fn lease_lost() -> Fault {
    Fault::new(
        "SystemErrorLeaseLost",
        "The service gave the job to another attempt; this one stopped before its commit.",
    )
}

fn aborted(ended: Option<std::process::ExitStatus>) -> Fault {
    let how = ended.map_or_else(|| "for an unknown reason".to_owned(), |status| format!("with {status}"));
    Fault::new("SystemErrorAborted", format!("The worker process ended {how}, without a result."))
}
