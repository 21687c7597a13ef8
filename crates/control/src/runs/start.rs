//! Starting a run: bind the pipeline over one picture of the factory's documents, choose a gateway for each activity,
//! store everything, go.

use std::collections::HashMap;

use dmg_authoring::{BoundActivity, Condition, Dialect, FactoryContext, Lookup, RunContext, bind};
use dmg_protocol::job::Job;
use dmg_protocol::run::{
    ActivityDefinition, ActivityDependency, ActivityRunStatus, DependencyCondition, PipelineRunStatus,
};
use dmg_protocol::{Fault, PipelineRunId, RunId};
use dmg_state::{Document, Factory, Gateway, NewPipelineRun, PipelineRun};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::presence::NodeState;
use crate::service::Service;
use crate::{api, runs};

/// Most activities a pipeline may have; the original's limit.
const ACTIVITIES_MAX: usize = 120;

/// The documents and gateways of a factory at one moment.
pub(crate) struct Picture {
    linked_services: HashMap<String, (Dialect, Value)>,
    datasets: HashMap<String, (Dialect, Value)>,
    gateways: Vec<Gateway>,
}

impl Picture {
    /// Takes the picture.
    pub(crate) async fn of(service: &Service, factory: &Factory) -> Result<Self> {
        let mut picture = Picture { linked_services: HashMap::new(), datasets: HashMap::new(), gateways: Vec::new() };
        for Document { kind, name, dialect, body, .. } in service.state.documents(&factory.id).await? {
            let Some(dialect) = Dialect::parse(&dialect) else { continue };
            let name = name.to_lowercase();
            match kind.as_str() {
                "linkedservice" => drop(picture.linked_services.insert(name, (dialect, body))),
                "dataset" => drop(picture.datasets.insert(name, (dialect, body))),
                _ => {}
            }
        }
        picture.gateways = service.state.gateways(&factory.id).await?;
        Ok(picture)
    }
}

impl Lookup for Picture {
    fn linked_service(&self, name: &str) -> Option<(Dialect, Value)> {
        self.linked_services.get(&name.to_lowercase()).cloned()
    }

    fn dataset(&self, name: &str) -> Option<(Dialect, Value)> {
        self.datasets.get(&name.to_lowercase()).cloned()
    }

    fn gateway(&self, name: &str) -> bool {
        self.gateways.iter().any(|gateway| gateway.name.eq_ignore_ascii_case(name))
    }
}

/// What a run is started with.
pub(crate) struct Start<'a> {
    pub(crate) factory: &'a Factory,
    pub(crate) pipeline: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) document: &'a Value,
    pub(crate) parameters: Map<String, Value>,
    /// The run this one repeats.
    pub(crate) group: Option<String>,
}

/// Starts a run and answers its id.
pub(crate) async fn start(service: &Service, start: Start<'_>) -> Result<PipelineRunId> {
    let Start { factory, pipeline, dialect, document, parameters, group } = start;
    let id = PipelineRunId::new(service.ambient.uuid());
    let now = service.now();
    let picture = Picture::of(service, factory).await?;
    let context = RunContext {
        run_id: id.to_string(),
        group_id: group.clone().unwrap_or_else(|| id.to_string()),
        trigger_type: "Manual".to_owned(),
        trigger_name: "Manual".to_owned(),
        trigger_id: id.to_string(),
        now_micros: now,
    };
    let owner = FactoryContext { id: factory.id.to_string(), name: factory.name.clone() };
    let bound = bind(pipeline, dialect, document, &parameters, &context, &picture, &owner)?;
    if bound.is_empty() || bound.len() > ACTIVITIES_MAX {
        let message =
            format!("The pipeline \"{pipeline}\" has {} activities; it needs 1 to {ACTIVITIES_MAX}.", bound.len());
        return Err(Fault::new("UserErrorDocument", message).into());
    }
    let mut activities = Vec::new();
    for activity in bound {
        let gateway = choose(service, &picture, activity.gateway.as_deref()).await?;
        activities.push((RunId::new(service.ambient.uuid()), definition(activity, gateway)));
    }
    let run = PipelineRun {
        group: context.group_id,
        id: id.clone(),
        factory: factory.id.clone(),
        pipeline: pipeline.to_owned(),
        parameters,
        status: PipelineRunStatus::Queued,
        message: String::new(),
        cancel: false,
        started: now,
        ended: None,
        changed: now,
    };
    service.state.put_run(NewPipelineRun { run, activities }).await?;
    runs::forward(service, &id).await?;
    Ok(id)
}

/// The gateway an activity goes to: the named one, else the factory's own cloud runtime if the operator runs one, else
/// one that is connected.
async fn choose(
    service: &Service,
    picture: &Picture,
    named: Option<&str>,
) -> Result<std::result::Result<Gateway, Fault>> {
    if let Some(name) = named {
        let found = picture.gateways.iter().find(|gateway| gateway.name.eq_ignore_ascii_case(name));
        return Ok(found.cloned().ok_or_else(|| {
            Fault::new("UserErrorNotFound", format!("The gateway \"{name}\" does not exist."))
                .remedy("Create it and register a node, or name another one in the linked service.")
        }));
    }
    let cloud = picture.gateways.iter().find(|gateway| gateway.name.eq_ignore_ascii_case(api::runtimes::AUTO_RESOLVE));
    if let Some(gateway) = cloud {
        return Ok(Ok(gateway.clone()));
    }
    let mut registered = None;
    for gateway in &picture.gateways {
        let nodes = api::runtimes::node_views(service, gateway).await?;
        if nodes.iter().any(|view| view.state == NodeState::Online) {
            return Ok(Ok(gateway.clone()));
        }
        if !nodes.is_empty() {
            registered.get_or_insert(gateway);
        }
    }
    Ok(registered.cloned().ok_or_else(|| {
        Fault::new("UserErrorNotFound", "No linked service of the copy names a gateway, and the factory has none.")
            .remedy("Create a gateway, register a node, and name it in a linked service (connectVia).")
    }))
}

fn definition(activity: BoundActivity, gateway: std::result::Result<Gateway, Fault>) -> ActivityDefinition {
    let condition = |condition| match condition {
        Condition::Succeeded => DependencyCondition::Succeeded,
        Condition::Failed => DependencyCondition::Failed,
        Condition::Skipped => DependencyCondition::Skipped,
        Condition::Completed => DependencyCondition::Completed,
    };
    let (job, refusal) = match (activity.work, &gateway) {
        (Err(fault), _) => (None, Some(fault)),
        (Ok(_), Err(fault)) => (None, Some(fault.clone())),
        (Ok(job), Ok(gateway)) => (Some(named(job, gateway)), None),
    };
    let gateway = gateway.ok();
    ActivityDefinition {
        name: activity.name,
        type_name: activity.type_name,
        depends_on: activity
            .depends_on
            .into_iter()
            .map(|(activity, conditions)| ActivityDependency {
                activity,
                conditions: conditions.into_iter().map(condition).collect(),
            })
            .collect(),
        retry: activity.policy.retry,
        retry_interval_seconds: activity.policy.retry_interval_seconds,
        timeout_seconds: activity.policy.timeout_seconds,
        secure_input: activity.policy.secure_input,
        secure_output: activity.policy.secure_output,
        inactive: activity.inactive.map(|status| match status {
            Condition::Failed => ActivityRunStatus::Failed,
            Condition::Skipped => ActivityRunStatus::Skipped,
            Condition::Succeeded | Condition::Completed => ActivityRunStatus::Succeeded,
        }),
        gateway: gateway.as_ref().map(|gateway| gateway.id.clone()),
        gateway_name: gateway.map(|gateway| gateway.name),
        job,
        refusal,
        input: activity.input,
        user_properties: activity
            .user_properties
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)))
            .collect(),
    }
}

/// The receipt names the gateway that runs the copy.
fn named(job: Job, gateway: &Gateway) -> Job {
    match job {
        Job::Copy(mut copy) => {
            copy.parties.gateway = Some(gateway.name.clone());
            Job::Copy(copy)
        }
        Job::Procedure(mut procedure) => {
            procedure.parties.gateway = Some(gateway.name.clone());
            Job::Procedure(procedure)
        }
        other @ (Job::Probe(_) | Job::Browse(_)) => other,
    }
}
