//! What the end of an attempt means: over, or once more. Pure; the queue makes it true.

use dmg_protocol::channel::Outcome;
use dmg_protocol::job::Job as Work;
use dmg_protocol::run::ActivityRunStatus as Status;
use dmg_protocol::{Fault, Receipt, Retry, Signed};
use dmg_state::{ActivityRun, Finish, Job, Moment, Purpose};
use serde_json::Value;

use super::advance::stopped;
use super::output;

/// How often a job may be given back or lost before it fails.
const RELEASES_MAX: u32 = 5;
/// A connection test is not worth more than a second try.
const PROBE_RELEASES_MAX: u32 = 1;
/// Pause before a job that was given back is handed out again, times how often it was.
const RELEASE_PAUSE_MICROS: i64 = 500_000;

/// A receipt that was checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proof {
    /// As signed.
    pub(crate) signed: Signed,
    /// What it says.
    pub(crate) receipt: Receipt,
}

/// What follows from an outcome. `proof` is the checked receipt of a success, or why it is none.
pub(crate) fn decide(
    job: &Job,
    activity: Option<&ActivityRun>,
    outcome: &Outcome,
    proof: Option<Result<Proof, Fault>>,
    now: Moment,
) -> Finish {
    let end = |status, fault| Finish::End { status, fault, output: Value::Object(Default::default()), receipt: None };
    match outcome {
        Outcome::Succeeded { .. } => match proof {
            Some(Ok(proof)) => Finish::End {
                status: Status::Succeeded,
                fault: None,
                output: activity.map_or(Value::Null, |activity| output::of_copy(&proof, job, activity, now)),
                receipt: Some(proof.signed),
            },
            Some(Err(fault)) => end(Status::Failed, Some(fault)),
            None => end(Status::Failed, Some(Fault::new("UserErrorReceipt", "The copy came without a receipt."))),
        },
        Outcome::Probed { .. } if matches!(job.job, Work::Probe(_)) => end(Status::Succeeded, None),
        Outcome::Browsed { .. } if matches!(job.job, Work::Browse(_)) => end(Status::Succeeded, None),
        Outcome::Called { returned: outcome } if matches!(job.job, Work::Procedure(_)) => Finish::End {
            status: Status::Succeeded,
            fault: None,
            output: activity.map_or(Value::Null, |activity| output::of_procedure(outcome, job, activity, now)),
            receipt: None,
        },
        Outcome::Probed { .. } | Outcome::Browsed { .. } | Outcome::Called { .. } => {
            let message = "The node ended the job in a way that jobs of its type do not end.";
            end(Status::Failed, Some(Fault::new("SystemErrorInternal", message)))
        }
        Outcome::Cancelled if !job.cancel => {
            release(job, activity, now, &Fault::new("SystemErrorAborted", "The node stopped the attempt."))
        }
        Outcome::Cancelled => stop(activity, now),
        _ if job.cancel => stop(activity, now),
        Outcome::Released { fault } => release(job, activity, now, fault),
        Outcome::Failed { fault } if matches!(fault.code.as_str(), "SystemErrorLeaseLost" | "SystemErrorAborted") => {
            release(job, activity, now, fault)
        }
        Outcome::Failed { fault } => match activity {
            Some(activity) if activity.attempt < activity.definition.retry && fault.retry != Retry::Never => {
                let pause = i64::try_from(activity.definition.retry_interval_seconds).unwrap_or(i64::MAX / 2_000_000);
                Finish::Again {
                    not_before: now.saturating_add(pause.saturating_mul(1_000_000)),
                    release: false,
                    fault: fault.clone(),
                }
            }
            _ => end(Status::Failed, Some(fault.clone())),
        },
    }
}

/// What follows from a lease that ran out.
pub(crate) fn expired(job: &Job, activity: Option<&ActivityRun>, now: Moment) -> Finish {
    if job.cancel {
        return stop(activity, now);
    }
    let fault = Fault::new("SystemErrorLeaseLost", "The node that held the job was not heard of in time.");
    release(job, activity, now, &fault)
}

fn stop(activity: Option<&ActivityRun>, now: Moment) -> Finish {
    let (status, fault) = activity.map_or_else(
        || (Status::Cancelled, Fault::new("UserErrorCancelled", "It was cancelled.")),
        |activity| stopped(activity, now),
    );
    Finish::End { status, fault: Some(fault), output: Value::Object(Default::default()), receipt: None }
}

fn release(job: &Job, _activity: Option<&ActivityRun>, now: Moment, fault: &Fault) -> Finish {
    let most = if job.purpose == Purpose::Probe { PROBE_RELEASES_MAX } else { RELEASES_MAX };
    if job.releases >= most {
        let message = format!("{} It was tried {} times.", fault.message, job.releases + 1);
        let fault = Fault { message, ..fault.clone() };
        return Finish::End {
            status: Status::Failed,
            fault: Some(fault),
            output: Value::Object(Default::default()),
            receipt: None,
        };
    }
    let not_before = now + RELEASE_PAUSE_MICROS * i64::from(job.releases);
    Finish::Again { not_before, release: true, fault: fault.clone() }
}
