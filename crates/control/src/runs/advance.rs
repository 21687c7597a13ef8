//! What a run does next: a pure function of the run, its activities and the time. Called after every event until it
//! has nothing more to say.

use dmg_protocol::run::{ActivityRunStatus as Status, DependencyCondition, PipelineRunStatus};
use dmg_protocol::{Fault, JobId};
use dmg_state::{ActivityRun, JobState, Moment, NewJob, PipelineRun, Purpose, RunAction};

/// The next steps of a run; none when it has to wait or is over.
pub(crate) fn advance(run: &PipelineRun, activities: &[ActivityRun], now: Moment) -> Vec<RunAction> {
    if run.status.is_final() {
        return Vec::new();
    }
    let mut actions: Vec<RunAction> =
        activities.iter().filter_map(|activity| step(run, activities, activity, now)).collect();
    if !actions.is_empty() {
        return actions;
    }
    if activities.iter().all(|activity| activity.status.is_final()) {
        let (status, message) = verdict(run, activities);
        return vec![RunAction::Run { status, message }];
    }
    let status = if run.cancel { PipelineRunStatus::Canceling } else { PipelineRunStatus::InProgress };
    if run.status != status {
        actions.push(RunAction::Run { status, message: String::new() });
    }
    actions
}

/// When an attempt has taken too long.
pub(crate) fn timed_out(activity: &ActivityRun, now: Moment) -> bool {
    let limit = activity.definition.timeout_seconds.and_then(|seconds| i64::try_from(seconds).ok());
    match (limit, activity.queued) {
        (Some(limit), Some(queued)) => now >= queued.saturating_add(limit.saturating_mul(1_000_000)),
        _ => false,
    }
}

/// The fault of an activity that was stopped: for taking too long, or by somebody's wish.
pub(crate) fn stopped(activity: &ActivityRun, now: Moment) -> (Status, Fault) {
    let name = &activity.definition.name;
    if timed_out(activity, now) {
        let seconds = activity.definition.timeout_seconds.unwrap_or_default();
        let fault = Fault::new("UserErrorCancelled", format!("The activity \"{name}\" took longer than {seconds} s."))
            .remedy("Raise the timeout in its policy, or look why it takes so long.");
        return (Status::TimedOut, fault);
    }
    (Status::Cancelled, Fault::new("UserErrorCancelled", format!("The activity \"{name}\" was cancelled.")))
}

fn step(run: &PipelineRun, all: &[ActivityRun], activity: &ActivityRun, now: Moment) -> Option<RunAction> {
    let ordinal = activity.ordinal;
    let end = |status, fault| Some(RunAction::End { ordinal, status, fault });
    if activity.status.is_final() {
        return None;
    }
    if activity.status == Status::Pending {
        if run.cancel {
            let (status, fault) = stopped(activity, now);
            return end(status, Some(fault));
        }
        return match ready(activity, all) {
            Ready::Wait => None,
            Ready::Never => end(Status::Skipped, None),
            Ready::Now => Some(begin(run, activity)),
        };
    }
    let stop = run.cancel || timed_out(activity, now);
    match activity.job {
        None | Some((JobState::Done, ..)) => {
            let gateway = activity.definition.gateway_name.as_deref().unwrap_or_default();
            let message = format!("The gateway \"{gateway}\" was deleted while the activity waited for it.");
            end(Status::Failed, Some(Fault::new("UserErrorNotFound", message).remedy("Name a gateway that exists.")))
        }
        Some((JobState::Queued, ..)) if stop => {
            let (status, fault) = stopped(activity, now);
            end(status, Some(fault))
        }
        Some((JobState::Held, false, _)) if stop => Some(RunAction::StopJob { ordinal }),
        Some(_) => None,
    }
}

fn begin(run: &PipelineRun, activity: &ActivityRun) -> RunAction {
    let definition = &activity.definition;
    let ordinal = activity.ordinal;
    if let Some(status) = definition.inactive {
        return RunAction::End { ordinal, status, fault: None };
    }
    match (&definition.job, &definition.gateway, &definition.refusal) {
        (Some(job), Some(gateway), None) => RunAction::Start {
            ordinal,
            job: Box::new(NewJob {
                // One job per activity run, over all attempts; so it can carry the same id.
                id: JobId::new(activity.id.as_str()),
                factory: run.factory.clone(),
                gateway: gateway.clone(),
                run: activity.id.clone(),
                purpose: Purpose::Activity,
                job: job.clone(),
            }),
        },
        (_, _, refusal) => {
            let fault = refusal.clone().unwrap_or_else(|| {
                Fault::new("SystemErrorInternal", format!("The activity \"{}\" has nothing to do.", definition.name))
            });
            RunAction::End { ordinal, status: Status::Failed, fault: Some(fault) }
        }
    }
}

enum Ready {
    Wait,
    Now,
    Never,
}

fn ready(activity: &ActivityRun, all: &[ActivityRun]) -> Ready {
    let mut ready = Ready::Now;
    for dependency in &activity.definition.depends_on {
        let other = all.iter().find(|other| other.definition.name.eq_ignore_ascii_case(&dependency.activity));
        match other {
            Some(other) if !other.status.is_final() => ready = Ready::Wait,
            Some(other) if dependency.conditions.iter().any(|condition| fits(*condition, other.status)) => {}
            _ => return Ready::Never,
        }
    }
    ready
}

fn fits(condition: DependencyCondition, status: Status) -> bool {
    match condition {
        DependencyCondition::Succeeded => status == Status::Succeeded,
        DependencyCondition::Failed => matches!(status, Status::Failed | Status::TimedOut),
        DependencyCondition::Completed => matches!(status, Status::Succeeded | Status::Failed | Status::TimedOut),
        DependencyCondition::Skipped => status == Status::Skipped,
    }
}

/// The end of a run, by the original's rule: the leaves decide, and a skipped leaf passes the question to those it
/// waited for.
fn verdict(run: &PipelineRun, all: &[ActivityRun]) -> (PipelineRunStatus, String) {
    let is_needed = |activity: &ActivityRun| {
        all.iter().any(|other| {
            other.definition.depends_on.iter().any(|d| d.activity.eq_ignore_ascii_case(&activity.definition.name))
        })
    };
    let mut open: Vec<&ActivityRun> = all.iter().filter(|activity| !is_needed(activity)).collect();
    let mut seen = vec![false; all.len()];
    let mut bad: Vec<&ActivityRun> = Vec::new();
    while let Some(activity) = open.pop() {
        let place = activity.ordinal as usize;
        if seen.get(place).copied().unwrap_or(true) {
            continue;
        }
        seen[place] = true;
        match activity.status {
            Status::Succeeded => {}
            Status::Skipped => open.extend(all.iter().filter(|other| {
                activity.definition.depends_on.iter().any(|d| d.activity.eq_ignore_ascii_case(&other.definition.name))
            })),
            _ => bad.push(activity),
        }
    }
    if bad.is_empty() {
        return (PipelineRunStatus::Succeeded, String::new());
    }
    if run.cancel && bad.iter().any(|activity| activity.status == Status::Cancelled) {
        return (PipelineRunStatus::Cancelled, "The run was cancelled.".to_owned());
    }
    // All that failed is told, also what another activity was meant to catch: it is why that one ran.
    let message = all
        .iter()
        .filter(|activity| matches!(activity.status, Status::Failed | Status::TimedOut | Status::Cancelled))
        .map(|activity| {
            let name = &activity.definition.name;
            let why = activity.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
            format!("Operation on target {name} failed{why}")
        })
        .collect::<Vec<_>>()
        .join(" ");
    (PipelineRunStatus::Failed, message)
}

#[cfg(test)]
mod tests;
