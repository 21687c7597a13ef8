//! Nodes of an integration runtime: look, limit, cut off.

use dmg_protocol::Fault;
use dmg_state::{Factory, Gateway};
use serde_json::Value;

use super::factory;
use super::runtimes::{NodeView, cut_off, gateway_named, node_views, show_node};
use crate::error::{Refusal, Result};
use crate::http::{Answer, Call};
use crate::presence::NodeState;
use crate::router::{Route, route};

pub(crate) const ROUTES: &[Route] = &[
    route!(GET V2 "~/integrationruntimes/{ir}/nodes/{node}" Read => get),
    route!(DELETE V2 "~/integrationruntimes/{ir}/nodes/{node}" Own => delete),
    route!(PATCH V2 "~/integrationruntimes/{ir}/nodes/{node}" Own => patch),
    route!(POST V2 "~/integrationruntimes/{ir}/nodes/{node}/ipaddress" Read => ip_address),
];

const LIMIT_MAX: u64 = 1024;

async fn views(call: &Call) -> Result<(Factory, Gateway, Vec<NodeView>)> {
    let factory = factory(call).await?;
    let gateway = gateway_named(&call.service, &factory, call.parameter("ir")).await?;
    let views = node_views(&call.service, &gateway).await?;
    Ok((factory, gateway, views))
}

fn place(call: &Call, views: &[NodeView]) -> Option<usize> {
    views.iter().position(|view| view.node.name.eq_ignore_ascii_case(call.parameter("node")))
}

fn missing(call: &Call, factory: &Factory, gateway: &Gateway) -> Refusal {
    let kind = format!("factories/{}/integrationRuntimes/{}/nodes", factory.name, gateway.name);
    Refusal::no_resource(&kind, call.parameter("node"), &factory.resource_group)
}

fn show(views: &[NodeView], place: usize) -> Value {
    let dispatcher = views.iter().position(|view| view.state == NodeState::Online);
    show_node(&views[place], dispatcher == Some(place))
}

async fn get(call: Call) -> Result<Answer> {
    let (factory, gateway, views) = views(&call).await?;
    let place = place(&call, &views).ok_or_else(|| missing(&call, &factory, &gateway))?;
    Ok(Answer::ok(show(&views, place)))
}

async fn delete(call: Call) -> Result<Answer> {
    let (_, _, views) = views(&call).await?;
    let Some(place) = place(&call, &views) else { return Ok(Answer::deleted(false)) };
    let id = views[place].node.id.clone();
    let there = call.service.state.delete_node(&id).await?;
    cut_off(&call.service, std::iter::once(id));
    Ok(Answer::deleted(there))
}

async fn patch(call: Call) -> Result<Answer> {
    let (factory, gateway, mut views) = views(&call).await?;
    let place = place(&call, &views).ok_or_else(|| missing(&call, &factory, &gateway))?;
    let body = call.object()?;
    let limit = body.get("concurrentJobsLimit").and_then(Value::as_u64).filter(|limit| (1..=LIMIT_MAX).contains(limit));
    let Some(limit) = limit.and_then(|limit| u32::try_from(limit).ok()) else {
        let message = format!("The member concurrentJobsLimit must be a number from 1 to {LIMIT_MAX}.");
        return Err(Refusal::bad_request(message).about("concurrentJobsLimit"));
    };
    call.service.state.limit_node(&views[place].node.id, limit).await?;
    call.service.ring();
    views[place].node.jobs_limit = Some(limit);
    Ok(Answer::ok(show(&views, place)))
}

/// The service does not ask nodes for their addresses.
async fn ip_address(call: Call) -> Result<Answer> {
    let (factory, gateway, views) = views(&call).await?;
    place(&call, &views).ok_or_else(|| missing(&call, &factory, &gateway))?;
    let message = "The address of a node is not known to the service: nodes dial out and are never called.";
    Err(Fault::new("UserErrorNotSupported", message)
        .remedy("Ask the machine itself; its name is shown with the node.")
        .into())
}
