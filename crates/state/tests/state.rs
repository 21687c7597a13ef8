//! The state over a real database file: names, tags, the queue with its leases and epochs, and what survives a start.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dmg_protocol::channel::Outcome;
use dmg_protocol::run::{ActivityDefinition, ActivityRunStatus, PipelineRunStatus};
use dmg_protocol::{CommandId, Epoch, FactoryId, Fault, GatewayId, JobId, NodeId, PipelineRunId, RunId};
use dmg_state::{
    DocumentKey, Error, Factory, Finish, Grant, JobState, NewDocument, NewJob, NewPipelineRun, Node, PipelineRun,
    Purpose, Report, RunAction, RunFilter, Slot, State,
};
use serde_json::{Map, json};

struct World {
    state: State,
    folder: tempfile::TempDir,
}

fn factory(id: &str, name: &str) -> Factory {
    Factory {
        id: FactoryId::new(id),
        name: name.into(),
        subscription: "s".into(),
        resource_group: "g".into(),
        body: json!({"location": "here"}),
        etag: 0,
        created: 1,
    }
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("service.db")).unwrap();
        state.put_factory(factory("f", "Sales"), None).await.unwrap();
        let id = FactoryId::new("f");
        for name in ["g1", "g2"] {
            state.put_gateway(GatewayId::new(name), &id, name, json!({}), None, 1).await.unwrap();
        }
        for (node, gateway) in [("n1", "g1"), ("n2", "g1"), ("n3", "g2")] {
            state
                .put_node(Node {
                    id: NodeId::new(node),
                    gateway: GatewayId::new(gateway),
                    name: node.into(),
                    machine: "m".into(),
                    public_key: "k".into(),
                    program: "p".into(),
                    registered: 1,
                    last_start: None,
                    last_connect: None,
                    status: None,
                    jobs_limit: None,
                })
                .await
                .unwrap();
        }
        World { state, folder }
    }

    fn again(&self) -> State {
        State::open(&self.folder.path().join("service.db")).unwrap()
    }

    async fn queue(&self, id: &str) {
        let job = serde_json::from_value(json!({"type": "probe", "store": {"store": "file", "settings": {}}})).unwrap();
        let new = NewJob {
            id: JobId::new(id),
            factory: FactoryId::new("f"),
            gateway: GatewayId::new("g1"),
            run: RunId::new(id),
            purpose: Purpose::Probe,
            job,
        };
        self.state.queue_job(new, 10).await.unwrap();
    }

    async fn take(&self, node: &str, command: &str, now: i64) -> Option<dmg_state::Job> {
        let gateway = if node == "n3" { "g2" } else { "g1" };
        let grant = Grant {
            gateway: GatewayId::new(gateway),
            node: NodeId::new(node),
            command: CommandId::new(command),
            lease_until: now + 100,
            held_max: 2,
        };
        self.state.take_job(grant, now).await.unwrap()
    }
}

fn again(fault: &str) -> Finish {
    Finish::Again { not_before: 500, release: true, fault: Fault::new(fault, "x") }
}

fn end(status: ActivityRunStatus) -> Finish {
    Finish::End { status, fault: None, output: json!({}), receipt: None }
}

fn report(job: &dmg_state::Job, node: &str) -> Report {
    Report {
        id: job.id.clone(),
        node: NodeId::new(node),
        epoch: job.epoch,
        outcome: Outcome::Cancelled,
        progress: None,
    }
}

#[tokio::test]
async fn factory_names_are_unique_without_case_and_tags_grow() {
    let world = World::start().await;
    let before = world.state.factory("SALES").await.unwrap().unwrap();
    assert!(matches!(world.state.put_factory(factory("other", "sales"), None).await, Err(Error::Taken)));
    let changed = world.state.put_factory(before.clone(), Some(before.etag)).await.unwrap();
    assert!(changed.etag > before.etag);
    assert!(matches!(world.state.put_factory(before.clone(), Some(before.etag)).await, Err(Error::Changed)));
    assert!(world.state.delete_factory(&before.id).await.unwrap());
    assert!(!world.state.delete_factory(&before.id).await.unwrap());
    assert!(world.state.gateways(&before.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn documents_share_names_over_dialects_and_refuse_stale_writers() {
    let world = World::start().await;
    let key = DocumentKey { factory: FactoryId::new("f"), kind: "dataset", name: "In".into() };
    let new = |dialect| NewDocument { key: key.clone(), dialect, body: json!({"unknown": [1, {"b": 2, "a": 1}]}) };
    let first = world.state.put_document(new("v2"), None, None, 5).await.unwrap();
    assert!(matches!(world.state.put_document(new("v1"), None, Some(first.etag), 5).await, Err(Error::Taken)));
    assert!(matches!(world.state.put_document(new("v2"), None, None, 5).await, Err(Error::Changed)));
    let second = world.state.put_document(new("v2"), Some(first.etag), Some(first.etag), 6).await.unwrap();
    assert!(second.etag > first.etag);
    let lower = DocumentKey { name: "in".into(), ..key.clone() };
    let read = world.again().document(&lower).await.unwrap().unwrap();
    assert_eq!((read.name.as_str(), read.body.to_string()), ("In", new("v2").body.to_string()));
    assert!(world.state.delete_document(&lower).await.unwrap());
    assert!(!world.state.delete_document(&lower).await.unwrap());
}

#[tokio::test]
async fn keys_certificates_and_nodes() {
    let world = World::start().await;
    let id = GatewayId::new("g1");
    let renewed = world.state.regenerate_key(&id, Slot::Two).await.unwrap().unwrap();
    assert_eq!(renewed.generations, [1, 2]);
    assert!(world.state.put_certificate(&id, "A", false).await.unwrap());
    assert!(world.state.put_certificate(&id, "A", false).await.unwrap());
    assert!(!world.state.put_certificate(&id, "B", false).await.unwrap());
    assert!(world.state.put_certificate(&id, "B", true).await.unwrap());
    // Registering again under a name replaces the node.
    let mut node = world.state.node(&NodeId::new("n1")).await.unwrap().unwrap();
    node.id = NodeId::new("n1-new");
    node.name = "N1".into();
    world.state.put_node(node).await.unwrap();
    assert!(world.state.node(&NodeId::new("n1")).await.unwrap().is_none());
    assert_eq!(world.state.delete_nodes(&id).await.unwrap().len(), 2);
    assert!(world.state.nodes(&id).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_job_is_held_by_one_node_under_growing_epochs() {
    let world = World::start().await;
    world.queue("a").await;
    assert!(world.take("n3", "c0", 20).await.is_none(), "another gateway's queue");
    let first = world.take("n1", "c1", 20).await.unwrap();
    assert_eq!(world.take("n1", "c1", 30).await.unwrap().epoch, first.epoch, "a repeated command");
    assert!(world.take("n2", "c2", 30).await.is_none());
    // Only the holder with its epoch renews and ends.
    let renew = |node: &'static str, epoch| {
        world.state.renew_job(&first.id, Box::leak(Box::new(NodeId::new(node))), epoch, 200, None)
    };
    assert!(renew("n1", first.epoch).await.unwrap().held);
    assert!(!renew("n2", first.epoch).await.unwrap().held);
    assert!(!renew("n1", Epoch(first.epoch.0 + 1)).await.unwrap().held);
    assert!(!world.state.finish_job(report(&first, "n2"), 40, |_, _| end(ActivityRunStatus::Failed)).await.unwrap());
    // The lease was renewed to 200: nothing expires before.
    assert!(world.state.expire_leases(199, |_, _| again("SystemErrorLeaseLost")).await.unwrap().jobs.is_empty());
    assert_eq!(world.state.expire_leases(200, |_, _| again("SystemErrorLeaseLost")).await.unwrap().jobs.len(), 1);
    assert!(!renew("n1", first.epoch).await.unwrap().held);
    // It waits until 500.
    assert!(world.take("n2", "c3", 499).await.is_none());
    assert!(world.state.job_due(499, 500).await.unwrap());
    let second = world.take("n2", "c4", 500).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(second.releases, 1);
    assert!(!world.state.finish_job(report(&first, "n1"), 510, |_, _| end(ActivityRunStatus::Failed)).await.unwrap());
    assert!(world.state.finish_job(report(&second, "n2"), 510, |_, _| end(ActivityRunStatus::Failed)).await.unwrap());
    // The same report again counts and changes nothing.
    assert!(world.state.finish_job(report(&second, "n2"), 520, |_, _| again("SystemErrorAborted")).await.unwrap());
    let done = world.state.job_of_run(&second.run).await.unwrap().unwrap();
    assert_eq!((done.state, done.ended), (JobState::Done, Some(510)));
}

#[tokio::test]
async fn a_node_holds_no_more_than_it_may_and_the_queue_survives_a_start() {
    let world = World::start().await;
    for id in ["a", "b", "c"] {
        world.queue(id).await;
    }
    assert!(world.take("n1", "c1", 20).await.is_some());
    assert!(world.take("n1", "c2", 20).await.is_some());
    assert!(world.take("n1", "c3", 20).await.is_none());
    let state = world.again();
    let (waiting, held) = state.node_work(&GatewayId::new("g1"), &NodeId::new("n1"), 20).await.unwrap();
    assert!(waiting);
    assert_eq!(held.len(), 2);
    state.extend_leases(1000).await.unwrap();
    assert!(state.expire_leases(999, |_, _| again("SystemErrorLeaseLost")).await.unwrap().jobs.is_empty());
    assert_eq!(state.queue_lengths(&GatewayId::new("g1")).await.unwrap(), (1, vec![(NodeId::new("n1"), 2)]));
}

#[tokio::test]
async fn runs_change_whole_and_are_found_by_their_last_change() {
    let world = World::start().await;
    let run = PipelineRun {
        id: PipelineRunId::new("r"),
        factory: FactoryId::new("f"),
        pipeline: "p".into(),
        parameters: Map::new(),
        group: "r".into(),
        status: PipelineRunStatus::Queued,
        message: String::new(),
        cancel: false,
        started: 100,
        ended: None,
        changed: 100,
    };
    let definition = ActivityDefinition { name: "copy".into(), ..ActivityDefinition::default() };
    let activities = vec![(RunId::new("a0"), definition.clone()), (RunId::new("a1"), definition)];
    world.state.put_run(NewPipelineRun { run: run.clone(), activities }).await.unwrap();
    assert_eq!(world.state.open_runs().await.unwrap(), std::slice::from_ref(&run.id));
    let changed = world
        .state
        .change_run(&run.id, 200, |run, activities| {
            if run.status.is_final() {
                return Vec::new();
            }
            match activities.iter().find(|activity| !activity.status.is_final()) {
                Some(activity) => {
                    vec![RunAction::End { ordinal: activity.ordinal, status: ActivityRunStatus::Skipped, fault: None }]
                }
                None => vec![RunAction::Run { status: PipelineRunStatus::Failed, message: "m".into() }],
            }
        })
        .await
        .unwrap();
    assert!(changed);
    let read = world.state.run(&run.factory, &run.id).await.unwrap().unwrap();
    assert_eq!((read.status, read.ended, read.changed), (PipelineRunStatus::Failed, Some(200), 200));
    assert!(world.state.open_runs().await.unwrap().is_empty());
    assert!(!world.state.cancel_run(&run.id, 300).await.unwrap());
    for (after, before, expect) in [(0, 200, 0), (0, 201, 1), (200, 300, 1), (201, 300, 0)] {
        let found = world.state.runs(&run.factory, RunFilter { after, before }).await.unwrap();
        assert_eq!(found.len(), expect, "{after}..{before}");
    }
    assert_eq!(world.state.run_of_activity(&RunId::new("a1")).await.unwrap(), Some(run.id));
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let world = World::start().await;
    let path = world.folder.path().join("newer.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(State::open(&path), Err(Error::Newer(99, 2))));
}
