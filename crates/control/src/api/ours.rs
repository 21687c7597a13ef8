//! What the original does not have: connection tests, receipts, and to whom to seal. They live under the original's
//! resources with an api-version of their own.

use dmg_authoring::{Dialect, DocumentKind, gateway_of, store_ref};
use dmg_protocol::channel::Outcome;
use dmg_protocol::job::{Job, ProbeJob, StoreRef};
use dmg_protocol::{Fault, JobId, RunId};
use dmg_state::{Factory, Gateway, JobState, NewJob, Purpose};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{documents, factory, list, runs, runtimes, seal};
use crate::error::{Refusal, Result};
use crate::http::{Answer, Call};
use crate::presence::NodeState;
use crate::router::{Route, route};

pub(crate) const ROUTES: &[Route] = &[
    route!(POST Ours "~/linkedservices/{name}/testconnection" Operate => test),
    route!(GET Ours "~/linkedservices/{name}/testconnection/{test}" Read => test_result),
    route!(GET Ours "~/pipelineruns/{run}/activityruns/{activity}/receipt" Read => receipt),
    route!(GET Ours "~/sealing" Read => sealing),
    route!(POST Ours "~/integrationruntimes/{ir}/revokenodes" Own => revoke_nodes),
];

/// Queues a connection test at the linked service's gateway. Parameters of a parameterized linked service come in the
/// body under `parameters`.
async fn test(call: Call) -> Result<Answer> {
    let members = call.object()?;
    let asked = Asked::of(&call, &members).await?;
    let Asked { gateway, .. } = &asked;
    let gateway = gateway.name.clone();
    let id = asked.queue(&call, |store| Job::Probe(Box::new(ProbeJob { store }))).await?;
    let body = json!({ "id": id, "status": "Queued", "gateway": gateway });
    Ok(Answer::with_status(StatusCode::ACCEPTED, body))
}

/// A store that somebody wants to be looked at, and the gateway that looks.
pub(crate) struct Asked {
    pub(crate) factory: Factory,
    pub(crate) store: StoreRef,
    pub(crate) gateway: Gateway,
}

impl Asked {
    /// The linked service of the path as a store, and a gateway with a node online. `members` is the body.
    pub(crate) async fn of(call: &Call, members: &Map<String, Value>) -> Result<Self> {
        let factory = factory(call).await?;
        let name = call.parameter("name");
        let document =
            call.service.state.document(&documents::key(&factory, DocumentKind::LinkedService, name)).await?;
        let document = document.ok_or_else(|| {
            Refusal::no_resource(&format!("factories/{}/linkedservices", factory.name), name, &factory.resource_group)
        })?;
        let dialect = Dialect::parse(&document.dialect).unwrap_or(Dialect::V2);
        let parameters = members.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
        let store = store_ref(dialect, &document.name, factory.id.as_str(), &document.body, &parameters)?;
        let named = gateway_of(dialect, &document.body).or_else(|| call.query("gateway").map(str::to_owned));
        for gateway in call.service.state.gateways(&factory.id).await? {
            if named.as_ref().is_some_and(|name| !gateway.name.eq_ignore_ascii_case(name)) {
                continue;
            }
            let views = runtimes::node_views(&call.service, &gateway).await?;
            if views.iter().any(|view| view.state == NodeState::Online) {
                return Ok(Asked { factory, store, gateway });
            }
        }
        let whose =
            named.map_or_else(|| "of the factory's gateways".to_owned(), |name| format!("of gateway \"{name}\""));
        let message = format!("The connection cannot be tested: no node {whose} is online.");
        let fault = Fault::new("UserErrorNotFound", message).remedy("Start a node: dmg node run.");
        Err(Refusal::with_status(fault, StatusCode::CONFLICT))
    }

    /// Queues a job on that store and answers its id.
    pub(crate) async fn queue(self, call: &Call, job: impl FnOnce(StoreRef) -> Job) -> Result<String> {
        let id = call.service.ambient.uuid();
        let new = NewJob {
            id: JobId::new(id.clone()),
            factory: self.factory.id,
            gateway: self.gateway.id,
            run: RunId::new(id.clone()),
            purpose: Purpose::Probe,
            job: job(self.store),
        };
        call.service.state.queue_job(new, call.service.now()).await?;
        call.service.ring();
        Ok(id)
    }
}

/// The look with that id, if it is of that sort: `what` names it where it is missing.
pub(crate) async fn look(call: &Call, id: &str, what: &str, is: impl Fn(&Job) -> bool) -> Result<dmg_state::Job> {
    let factory = factory(call).await?;
    let job = call.service.state.job_of_run(&RunId::new(id)).await?;
    let job = job.filter(|job| job.factory == factory.id && job.purpose == Purpose::Probe && is(&job.job));
    job.ok_or_else(|| Refusal::not_found(what, id))
}

/// Where a look stands, in the members that are the same for all: `id`, `status`, and `fault` where it failed.
pub(crate) fn standing(id: &str, job: &dmg_state::Job) -> Value {
    let mut body = json!({ "id": id });
    let status = match (&job.state, &job.outcome) {
        (JobState::Queued, _) => "Queued",
        (JobState::Held, _) => "InProgress",
        (JobState::Done, Some(Outcome::Probed { .. } | Outcome::Browsed { .. })) => "Succeeded",
        (JobState::Done, Some(Outcome::Failed { fault } | Outcome::Released { fault })) => {
            body["fault"] = json!(fault);
            "Failed"
        }
        (JobState::Done, Some(Outcome::Cancelled)) => "Cancelled",
        (JobState::Done, _) => {
            body["fault"] = json!(Fault::new("SystemErrorLeaseLost", "The node that looked was not heard of in time."));
            "Failed"
        }
    };
    body["status"] = json!(status);
    body
}

async fn test_result(call: Call) -> Result<Answer> {
    let id = call.parameter("test");
    let job = look(&call, id, "connection test", |job| matches!(job, Job::Probe(_))).await?;
    let mut body = standing(id, &job);
    if let Some(Outcome::Probed { detail }) = job.outcome {
        body["detail"] = json!(detail);
    }
    Ok(Answer::ok(body))
}

/// The receipt as the node signed it, with the node record that the service signed.
async fn receipt(call: Call) -> Result<Answer> {
    let (_, run) = runs::run(&call).await?;
    let wanted = call.parameter("activity");
    let activities = call.service.state.activity_runs(&run.id).await?;
    let activity = activities
        .iter()
        .find(|activity| activity.id.as_str() == wanted)
        .or_else(|| activities.iter().find(|activity| activity.definition.name.eq_ignore_ascii_case(wanted)));
    let activity = activity.ok_or_else(|| Refusal::not_found("activity run", wanted))?;
    let receipt = call.service.state.receipt(&activity.id).await?;
    let receipt = receipt.ok_or_else(|| {
        let message = format!(
            "The activity \"{}\" has no receipt: its status is {}.",
            activity.definition.name,
            activity.status.as_str()
        );
        Fault::new("UserErrorNotFound", message).remedy("Only a copy that succeeded ends in a receipt.")
    })?;
    Ok(Answer::ok(serde_json::to_value(receipt).unwrap_or_default()))
}

/// The public certificates to seal a linked service's secret to, and what it is bound to.
async fn sealing(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let gateways = call.service.state.gateways(&factory.id).await?;
    let named = call.query("gateway").filter(|name| !name.is_empty());
    if let Some(name) = named
        && !gateways.iter().any(|gateway| gateway.name.eq_ignore_ascii_case(name))
    {
        return Err(Refusal::not_found("gateway", name));
    }
    let recipients: Vec<Value> = seal::recipients(&gateways, named)?
        .iter()
        .map(|(gateway, certificate)| {
            json!({
                "gateway": gateway,
                "certificate": certificate.to_pem(),
                "thumbprint": certificate.thumbprint(),
            })
        })
        .collect();
    Ok(Answer::ok(json!({ "factoryId": factory.id, "factory": factory.name, "recipients": recipients })))
}

/// Cuts all nodes of a gateway off without changing its keys.
async fn revoke_nodes(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let gateway = runtimes::gateway_named(&call.service, &factory, call.parameter("ir")).await?;
    let nodes = call.service.state.delete_nodes(&gateway.id).await?;
    let revoked = nodes.iter().map(|node| json!(node)).collect();
    runtimes::cut_off(&call.service, nodes.into_iter());
    Ok(Answer::ok(list(revoked)))
}
