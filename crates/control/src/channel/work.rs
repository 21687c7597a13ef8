//! Work for nodes: hints, grants under a lease, renewals, plans and ends. Which job means what is decided in
//! `runs`; here it is checked that the right node asks.

use std::time::Duration;

use dmg_protocol::channel::{
    CertificateRequest, FinishAnswer, FinishRequest, Hints, JobGrant, LEASE_SECONDS, LeaseAnswer, NodeStatus, Outcome,
    POLL_SECONDS, PlanRequest, PollRequest, RenewRequest, TakeAnswer, TakeRequest,
};
use dmg_protocol::{Attempt, Fault, Receipt, Signed};
use dmg_seal::{RecipientCertificate, open_signed};
use dmg_state::{Gateway, Grant, Moment, Node, Report};
use serde_json::{Value, json};

use super::{Caller, Result, no_session, not_registered};
use crate::presence::{NodeState, node_state};
use crate::runs;
use crate::runs::outcome::{self, Proof};
use crate::service::Service;

/// How often a node's word is written to the database.
const NOTE_EVERY: Duration = Duration::from_secs(60);
const LEASE_MICROS: Moment = LEASE_SECONDS as Moment * 1_000_000;
const COMMAND_MAX: usize = 128;

/// Whether a node can open what is sealed to its gateway. Without that it gets no job.
pub(crate) fn opens_credentials(gateway: &Gateway, status: Option<&NodeStatus>) -> bool {
    let wanted = gateway.certificate.as_deref().and_then(|pem| RecipientCertificate::from_pem(pem).ok());
    match (wanted, status) {
        (Some(wanted), Some(status)) => {
            status.holds_certificate && status.certificate_thumbprint.as_deref() == Some(wanted.thumbprint())
        }
        (None, Some(_)) => true,
        (_, None) => false,
    }
}

/// How many jobs a node may hold.
fn limit(node: &Node, status: &NodeStatus) -> u32 {
    node.jobs_limit.unwrap_or(status.concurrent_jobs_limit).max(1)
}

/// Answers hints, at once or when there are some.
pub(crate) async fn poll(service: &Service, caller: Caller, request: PollRequest) -> Result<Signed> {
    let Caller { node, session, nonce } = caller;
    let started = service.ambient.uptime();
    if service.presence.note(&node.id, &request.status, started, NOTE_EVERY) {
        service.state.note_node(&node.id, Some(request.status.clone()), None, false, service.now()).await?;
    }
    let mut bell = service.bell();
    let held = service.presence.hold(&node.id);
    let wait = Duration::from_secs(request.wait_seconds.min(POLL_SECONDS));
    let hints = loop {
        bell.borrow_and_update();
        // A poll may be held for long: whoever was cut off meanwhile is told at once.
        let Some(node) = service.state.node(&node.id).await? else { return Err(not_registered()) };
        let Some(gateway) = service.state.gateway_by_id(&node.gateway).await? else { return Err(not_registered()) };
        if service.sessions.owner(&session, service.ambient.uptime()).is_none() {
            return Err(no_session());
        }
        let (waiting, jobs) = service.state.node_work(&gateway.id, &node.id, service.now()).await?;
        let work = waiting
            && opens_credentials(&gateway, Some(&request.status))
            && (jobs.len() as u32) < limit(&node, &request.status);
        let cancel: Vec<_> = jobs
            .into_iter()
            .filter(|(id, cancel)| *cancel && request.status.running.contains(id))
            .map(|(id, _)| id)
            .collect();
        let hints = Hints { work, cancel, concurrent_jobs_limit: node.jobs_limit, nonce };
        let left = wait.saturating_sub(service.ambient.uptime().saturating_sub(started));
        if hints.work || !hints.cancel.is_empty() || left.is_zero() {
            break hints;
        }
        tokio::select! {
            // The sender lives as long as the service.
            _ = bell.changed() => {}
            () = service.ambient.sleep(left) => {}
            () = service.stopping.cancelled() => break hints,
        }
    };
    drop(held);
    service.presence.touch(&node.id, service.ambient.uptime());
    Ok(service.identity.sign("dmg-hints/1", &hints))
}

/// Hands out a job.
pub(crate) async fn take(service: &Service, caller: Caller, request: TakeRequest) -> Result<TakeAnswer> {
    let node = &caller.node;
    if request.command_id.as_str().is_empty() || request.command_id.as_str().len() > COMMAND_MAX {
        return Err(Fault::new("UserErrorBadRequest", "The command has no proper id.").into());
    }
    let Some(gateway) = service.state.gateway_by_id(&node.gateway).await? else { return Err(not_registered()) };
    let (_, status) = service.presence.of(&node.id, service.ambient.uptime());
    let status = status.unwrap_or_default();
    if node_state(true, opens_credentials(&gateway, Some(&status))) != NodeState::Online {
        return Ok(TakeAnswer::default());
    }
    let now = service.now();
    let grant = Grant {
        gateway: gateway.id,
        node: node.id.clone(),
        command: request.command_id.clone(),
        lease_until: now + LEASE_MICROS,
        held_max: limit(node, &status),
    };
    dmg_ambient::failpoint!("service.take");
    let Some(job) = service.state.take_job(grant, now).await? else { return Ok(TakeAnswer::default()) };
    dmg_ambient::failpoint!("service.taken");
    tracing::info!(job = %job.id, node = %node.name, epoch = %job.epoch, "a job was taken");
    runs::forward_of(service, &job.run).await?;
    let grant = JobGrant {
        job_id: job.id,
        attempt: Attempt { namespace: job.factory.to_string(), run: job.run, epoch: job.epoch },
        command_id: request.command_id,
        node_id: node.id.clone(),
        factory_id: job.factory,
        job: job.job,
        earlier_plan: job.plan,
        lease_seconds: LEASE_SECONDS,
    };
    Ok(TakeAnswer { grant: Some(service.identity.sign("dmg-job/1", &grant)) })
}

/// Keeps a lease.
pub(crate) async fn renew(service: &Service, caller: Caller, request: RenewRequest) -> Result<LeaseAnswer> {
    service.presence.touch(&caller.node.id, service.ambient.uptime());
    let RenewRequest { job_id, epoch, progress } = request;
    let until = service.now() + LEASE_MICROS;
    dmg_ambient::failpoint!("service.renew");
    let lease = service.state.renew_job(&job_id, &caller.node.id, epoch, until, progress).await?;
    Ok(LeaseAnswer { held: lease.held, lease_seconds: LEASE_SECONDS, cancel: lease.cancel })
}

/// Stores a plan before anything moves.
pub(crate) async fn plan(service: &Service, caller: Caller, request: PlanRequest) -> Result<LeaseAnswer> {
    let PlanRequest { job_id, epoch, plan } = request;
    let until = service.now() + LEASE_MICROS;
    dmg_ambient::failpoint!("service.plan");
    let lease = service.state.plan_job(&job_id, &caller.node.id, epoch, plan, until).await?;
    dmg_ambient::failpoint!("service.planned");
    Ok(LeaseAnswer { held: lease.held, lease_seconds: LEASE_SECONDS, cancel: lease.cancel })
}

/// Ends an attempt.
pub(crate) async fn finish(service: &Service, caller: Caller, request: FinishRequest) -> Result<FinishAnswer> {
    let FinishRequest { job_id, epoch, outcome, progress } = request;
    let now = service.now();
    let proof = match &outcome {
        Outcome::Succeeded { receipt } => Some(check(receipt, &caller.node)),
        _ => None,
    };
    let word = match &outcome {
        Outcome::Succeeded { .. } => "succeeded".to_owned(),
        Outcome::Probed { .. } => "probed".to_owned(),
        Outcome::Called { .. } => "called its procedure".to_owned(),
        Outcome::Browsed { .. } => "browsed".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
        Outcome::Failed { fault } => format!("failed with {}", fault.code),
        Outcome::Released { fault } => format!("was given back for {}", fault.code),
    };
    let decision = outcome.clone();
    dmg_ambient::failpoint!("service.finish");
    let report = Report { id: job_id.clone(), node: caller.node.id.clone(), epoch, outcome, progress };
    let accepted = service
        .state
        .finish_job(report, now, move |job, activity| {
            let proof = proof.map(|proof| proof.and_then(|proof| belongs(proof, job)));
            outcome::decide(job, activity, &decision, proof, now)
        })
        .await?;
    dmg_ambient::failpoint!("service.finished");
    tracing::info!(job = %job_id, node = %caller.node.name, %epoch, accepted, "a job {word}");
    // The job's id is its activity run's.
    runs::forward_of(service, &dmg_protocol::RunId::new(job_id.as_str())).await?;
    service.ring();
    Ok(FinishAnswer { accepted })
}

/// A receipt counts only if the node that holds the job signed it.
fn check(signed: &Signed, node: &Node) -> std::result::Result<Proof, Fault> {
    let receipt: Receipt = open_signed(signed, "dmg-receipt/1", &node.public_key)?;
    Ok(Proof { signed: signed.clone(), receipt })
}

/// And only for the run it was made for.
fn belongs(proof: Proof, job: &dmg_state::Job) -> std::result::Result<Proof, Fault> {
    let Attempt { namespace, run, .. } = &proof.receipt.attempt;
    if *run != job.run || *namespace != job.factory.as_str() {
        return Err(Fault::new("UserErrorReceipt", "The node sent the receipt of another run."));
    }
    Ok(proof)
}

/// Stores the gateway's certificate.
pub(crate) async fn certificate(service: &Service, caller: Caller, request: CertificateRequest) -> Result<Value> {
    let certificate = RecipientCertificate::from_pem(&request.certificate)?;
    let stored = service.state.put_certificate(&caller.node.gateway, &certificate.to_pem(), request.replace).await?;
    if !stored {
        let message = "The gateway has another certificate already, to which credentials may be sealed.";
        return Err(Fault::new("UserErrorNameTaken", message)
            .remedy("Import the gateway's certificate on this node: dmg node certificate import.")
            .into());
    }
    tracing::info!(thumbprint = certificate.thumbprint(), "a gateway certificate was published");
    service.ring();
    Ok(json!({ "thumbprint": certificate.thumbprint() }))
}
