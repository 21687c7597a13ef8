//! What comes next in a run: states of activities in, actions out.

use dmg_protocol::run::{ActivityDefinition, ActivityDependency};
use dmg_protocol::{Epoch, FactoryId, GatewayId, PipelineRunId, RunId};
use serde_json::{Map, Value, json};

use super::*;

fn run(cancel: bool) -> PipelineRun {
    PipelineRun {
        id: PipelineRunId::new("r"),
        factory: FactoryId::new("f"),
        pipeline: "p".into(),
        parameters: Map::new(),
        group: "r".into(),
        status: PipelineRunStatus::Queued,
        message: String::new(),
        cancel,
        started: 0,
        ended: None,
        changed: 0,
    }
}

/// `name status needs condition`: one activity a line.
fn activity(ordinal: u32, name: &str, status: Status, needs: &[(&str, DependencyCondition)]) -> ActivityRun {
    let job: dmg_protocol::job::Job =
        serde_json::from_value(json!({"type": "probe", "store": {"store": "file", "settings": {}}})).unwrap();
    let held = match status {
        Status::Queued => Some((JobState::Queued, false, Epoch(0))),
        Status::InProgress => Some((JobState::Held, false, Epoch(1))),
        _ => None,
    };
    ActivityRun {
        id: RunId::new(format!("a{ordinal}")),
        run: PipelineRunId::new("r"),
        ordinal,
        definition: ActivityDefinition {
            name: name.into(),
            type_name: "Copy".into(),
            depends_on: needs
                .iter()
                .map(|(activity, condition)| ActivityDependency {
                    activity: (*activity).to_owned(),
                    conditions: vec![*condition],
                })
                .collect(),
            timeout_seconds: Some(60),
            gateway: Some(GatewayId::new("g")),
            gateway_name: Some("gw".into()),
            job: Some(job),
            ..ActivityDefinition::default()
        },
        status,
        attempt: 0,
        queued: Some(0),
        started: None,
        ended: None,
        fault: None,
        output: Value::Null,
        changed: 0,
        job: held,
    }
}

fn texts(run: &PipelineRun, activities: &[ActivityRun], now: Moment) -> Vec<String> {
    advance(run, activities, now)
        .into_iter()
        .map(|action| match action {
            RunAction::Start { ordinal, .. } => format!("start {ordinal}"),
            RunAction::End { ordinal, status, .. } => format!("end {ordinal} {}", status.as_str()),
            RunAction::StopJob { ordinal } => format!("stop {ordinal}"),
            RunAction::Run { status, message } => format!("run {} {message}", status.as_str()).trim_end().to_owned(),
        })
        .collect()
}

#[test]
fn steps() {
    use DependencyCondition as D;
    use Status::*;
    let (go, stop) = (run(false), run(true));
    let cases: Vec<(&PipelineRun, Vec<ActivityRun>, Moment, &[&str])> = vec![
        (&go, vec![activity(0, "a", Pending, &[])], 0, &["start 0"]),
        (&go, vec![activity(0, "a", Pending, &[]), activity(1, "b", Pending, &[])], 0, &["start 0", "start 1"]),
        (&go, vec![activity(0, "a", Queued, &[])], 0, &["run InProgress"]),
        (
            &go,
            vec![activity(0, "a", Queued, &[]), activity(1, "b", Pending, &[("A", D::Succeeded)])],
            0,
            &["run InProgress"],
        ),
        (
            &go,
            vec![activity(0, "a", Succeeded, &[]), activity(1, "b", Pending, &[("A", D::Succeeded)])],
            0,
            &["start 1"],
        ),
        (
            &go,
            vec![activity(0, "a", Failed, &[]), activity(1, "b", Pending, &[("a", D::Succeeded)])],
            0,
            &["end 1 Skipped"],
        ),
        (&go, vec![activity(0, "a", Failed, &[]), activity(1, "b", Pending, &[("a", D::Failed)])], 0, &["start 1"]),
        (
            &go,
            vec![activity(0, "a", Skipped, &[]), activity(1, "b", Pending, &[("a", D::Completed)])],
            0,
            &["end 1 Skipped"],
        ),
        (&go, vec![activity(0, "a", Pending, &[("nobody", D::Succeeded)])], 0, &["end 0 Skipped"]),
        // The leaves decide.
        (&go, vec![activity(0, "a", Succeeded, &[])], 0, &["run Succeeded"]),
        (&go, vec![activity(0, "a", Failed, &[])], 0, &["run Failed Operation on target a failed"]),
        (
            &go,
            vec![activity(0, "a", Failed, &[]), activity(1, "b", Succeeded, &[("a", D::Failed)])],
            0,
            &["run Succeeded"],
        ),
        (
            &go,
            vec![activity(0, "a", Failed, &[]), activity(1, "b", Skipped, &[("a", D::Succeeded)])],
            0,
            &["run Failed Operation on target a failed"],
        ),
        (
            &go,
            vec![activity(0, "a", Succeeded, &[]), activity(1, "b", Skipped, &[("a", D::Failed)])],
            0,
            &["run Succeeded"],
        ),
        // Time.
        (&go, vec![activity(0, "a", Queued, &[])], 60_000_000, &["end 0 TimedOut"]),
        (&go, vec![activity(0, "a", InProgress, &[])], 60_000_000, &["stop 0"]),
        // Cancel.
        (&stop, vec![activity(0, "a", Pending, &[])], 0, &["end 0 Cancelled"]),
        (&stop, vec![activity(0, "a", Queued, &[])], 0, &["end 0 Cancelled"]),
        (&stop, vec![activity(0, "a", InProgress, &[])], 0, &["stop 0"]),
        (&stop, vec![activity(0, "a", Cancelled, &[])], 0, &["run Cancelled The run was cancelled."]),
        (&stop, vec![activity(0, "a", Succeeded, &[])], 0, &["run Succeeded"]),
    ];
    for (index, (run, activities, now, expect)) in cases.iter().enumerate() {
        assert_eq!(texts(run, activities, *now), *expect, "case {index}");
    }
}

#[test]
fn a_deleted_gateway_and_a_refusal_fail_the_activity() {
    let mut lost = activity(0, "a", Status::Queued, &[]);
    lost.job = None;
    assert_eq!(texts(&run(false), &[lost], 0), ["end 0 Failed"]);
    let mut refused = activity(0, "a", Status::Pending, &[]);
    refused.definition.refusal = Some(Fault::new("UserErrorNotSupported", "No."));
    assert_eq!(texts(&run(false), &[refused], 0), ["end 0 Failed"]);
    let mut off = activity(0, "a", Status::Pending, &[]);
    off.definition.inactive = Some(Status::Succeeded);
    assert_eq!(texts(&run(false), &[off], 0), ["end 0 Succeeded"]);
    let mut told = activity(0, "a", Status::InProgress, &[]);
    told.job = Some((JobState::Held, true, Epoch(1)));
    assert_eq!(texts(&run(true), &[told], 0), ["run Canceling"]);
}
