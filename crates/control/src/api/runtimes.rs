//! Integration runtimes: gateways as version 2 sees them.

use dmg_protocol::channel::NodeStatus;
use dmg_protocol::{Fault, GatewayId, NodeId, names};
use dmg_seal::{KeyLook, RecipientCertificate};
use dmg_state::{Factory, Gateway, Node, Slot};
use http::StatusCode;
use http::header::ETAG;
use serde_json::{Value, json};

use super::{factory, list, resource_id};
use crate::channel;
use crate::error::{Refusal, Result};
use crate::http::{Answer, Call, etag};
use crate::keys::key_text;
use crate::presence::{GatewayState, NodeState, gateway_state, node_state};
use crate::router::{Route, route};
use crate::service::{PROGRAM, Service};

/// The runtime of copies that name no gateway: an ordinary gateway that the operator may register a node for.
pub(crate) const AUTO_RESOLVE: &str = "AutoResolveIntegrationRuntime";

pub(crate) const ROUTES: &[Route] = &[
    route!(GET V2 "~/integrationruntimes" Read => all),
    route!(PUT V2 "~/integrationruntimes/{ir}" Own => put),
    route!(GET V2 "~/integrationruntimes/{ir}" Read => get),
    route!(PATCH V2 "~/integrationruntimes/{ir}" Own => patch),
    route!(DELETE V2 "~/integrationruntimes/{ir}" Own => delete),
    route!(POST V2 "~/integrationruntimes/{ir}/getstatus" Read => status),
    route!(POST V2 "~/integrationruntimes/{ir}/getconnectioninfo" Author => connection_info),
    route!(POST V2 "~/integrationruntimes/{ir}/listauthkeys" Own => list_keys),
    route!(POST V2 "~/integrationruntimes/{ir}/regenerateauthkey" Own => regenerate_key),
    route!(POST V2 "~/integrationruntimes/{ir}/monitoringdata" Read => monitoring),
];

/// A node and how it is.
pub(crate) struct NodeView {
    pub(crate) node: Node,
    pub(crate) state: NodeState,
    pub(crate) status: Option<NodeStatus>,
    /// Why it is limited.
    pub(crate) reason: Option<&'static str>,
}

/// The gateway of that name in a factory.
pub(crate) async fn gateway_named(service: &Service, factory: &Factory, name: &str) -> Result<Gateway> {
    let found = service.state.gateway(&factory.id, name).await?;
    found.ok_or_else(|| {
        Refusal::no_resource(&format!("factories/{}/integrationRuntimes", factory.name), name, &factory.resource_group)
    })
}

async fn gateway(call: &Call) -> Result<(Factory, Gateway)> {
    let factory = factory(call).await?;
    let gateway = gateway_named(&call.service, &factory, call.parameter("ir")).await?;
    Ok((factory, gateway))
}

/// The nodes of a gateway with their states.
pub(crate) async fn node_views(service: &Service, gateway: &Gateway) -> dmg_state::Result<Vec<NodeView>> {
    let now = service.ambient.uptime();
    let nodes = service.state.nodes(&gateway.id).await?;
    Ok(nodes
        .into_iter()
        .map(|node| {
            let (connected, seen) = service.presence.of(&node.id, now);
            let opens = channel::opens_credentials(gateway, seen.as_ref());
            let state = node_state(connected, opens);
            let reason = (state == NodeState::Limited).then_some("The node does not hold the gateway's certificate.");
            NodeView { status: seen.or_else(|| node.status.clone()), node, state, reason }
        })
        .collect())
}

/// The state of a gateway from its nodes.
pub(crate) fn state_of(views: &[NodeView]) -> GatewayState {
    gateway_state(&views.iter().map(|view| view.state).collect::<Vec<_>>())
}

/// Version without the program's name.
pub(crate) fn version_of(program: &str) -> &str {
    program.strip_prefix("dmg/").unwrap_or(program)
}

fn time(moment: Option<i64>) -> Value {
    moment.map_or(Value::Null, |moment| json!(dmg_ambient::rfc3339(moment)))
}

/// A node on the wire.
pub(crate) fn show_node(view: &NodeView, is_dispatcher: bool) -> Value {
    let NodeView { node, state, status, .. } = view;
    let yes = |yes: bool| if yes { "True" } else { "False" };
    let connected = *state != NodeState::Offline;
    let mut shown = json!({
        "nodeName": node.name,
        "machineName": node.machine,
        "hostServiceUri": host_uri(&node.machine),
        "status": state.as_str(),
        "capabilities": {
            "serviceBusConnected": yes(connected),
            "httpsPortEnabled": yes(false),
            "credentialInSync": yes(*state == NodeState::Online),
            "connectedToResourceManager": yes(connected),
            "nodeEnabled": yes(true),
        },
        "versionStatus": "UpToDate",
        "version": version_of(&node.program),
        "registerTime": dmg_ambient::rfc3339(node.registered),
        "lastConnectTime": time(node.last_connect),
        "lastStartTime": time(node.last_start),
        "lastUpdateResult": "None",
        "isActiveDispatcher": is_dispatcher,
        "concurrentJobsLimit": node.jobs_limit.or(status.as_ref().map(|status| status.concurrent_jobs_limit)),
        "maxConcurrentJobs": status.as_ref().map(|status| status.max_concurrent_jobs),
    });
    if let Some(reason) = view.reason {
        shown["statusReason"] = json!(reason);
    }
    shown
}

/// Where the node's credential endpoint is, by the original's rule.
pub(crate) fn host_uri(machine: &str) -> String {
    format!("https://{}:8050/HostServiceRemote.svc/", machine.to_lowercase())
}

fn show(factory: &Factory, gateway: &Gateway) -> Value {
    json!({
        "id": resource_id(factory, "integrationruntimes", &gateway.name),
        "name": gateway.name,
        "type": "Microsoft.DataFactory/factories/integrationruntimes",
        "properties": gateway.body,
        "etag": etag(gateway.etag),
    })
}

async fn all(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let gateways = call.service.state.gateways(&factory.id).await?;
    Ok(Answer::ok(list(gateways.iter().map(|gateway| show(&factory, gateway)).collect())))
}

async fn get(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    Ok(Answer::resource(&call, show(&factory, &gateway), &etag(gateway.etag)))
}

async fn put(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let name = call.parameter("ir").to_owned();
    if !names::is_factory_name(&name) {
        return Err(Fault::new("UserErrorName", format!("\"{name}\" is not a name for an integration runtime."))
            .remedy("Use letters and digits in groups joined by single dashes, 3 to 63 characters.")
            .into());
    }
    let mut sent = call.object()?;
    let Some(Value::Object(properties)) = sent.remove("properties") else {
        return Err(Refusal::bad_request("The body has no properties.").about("properties"));
    };
    match properties.get("type").and_then(Value::as_str) {
        Some(kind) if kind.eq_ignore_ascii_case("SelfHosted") => {}
        Some(kind) if kind.eq_ignore_ascii_case("Managed") => {
            let message = "Managed integration runtimes are machines of the original's cloud; there are none here.";
            return Err(Fault::new("UserErrorNotSupported", message)
                .remedy("Create one of type SelfHosted and register a node for it.")
                .into());
        }
        Some(kind) => {
            let message = format!("The integration runtime type \"{kind}\" is not known.");
            return Err(Refusal::bad_request(message).about("properties.type"));
        }
        None => return Err(Refusal::bad_request("The body has no properties.type.").about("properties.type")),
    }
    if properties.get("typeProperties").and_then(|inner| inner.get("linkedInfo")).is_some_and(|info| !info.is_null()) {
        return Err(Fault::new("UserErrorNotSupported", "Linked integration runtimes are not built yet.").into());
    }
    let before = call.service.state.gateway(&factory.id, &name).await?;
    let tag = before.as_ref().map(|before| etag(before.etag));
    if !call.conditions().allow_write(tag.as_deref()) {
        return Err(Refusal::precondition("integration runtime", &name));
    }
    let stored = store(&call, &factory, &name, Value::Object(properties), before.map(|before| before.etag)).await?;
    let tag = etag(stored.etag);
    Ok(Answer::ok(show(&factory, &stored)).header(ETAG, &format!("\"{tag}\"")))
}

/// Makes or changes a gateway.
pub(crate) async fn store(
    call: &Call,
    factory: &Factory,
    name: &str,
    body: Value,
    base: Option<i64>,
) -> Result<Gateway> {
    let id = GatewayId::new(call.service.ambient.uuid());
    let now = call.service.now();
    Ok(call.service.state.put_gateway(id, &factory.id, name, body, base, now).await?)
}

async fn patch(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    for (member, value) in call.object()? {
        let on = value.as_str().is_some_and(|value| value.eq_ignore_ascii_case("On"));
        if member.eq_ignore_ascii_case("autoUpdate") && on {
            return Err(Fault::new("UserErrorNotSupported", "Automatic updates are not built yet.")
                .remedy("Leave autoUpdate off and install new versions by hand.")
                .into());
        }
    }
    Ok(Answer::ok(show(&factory, &gateway)))
}

async fn delete(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let Some(gateway) = call.service.state.gateway(&factory.id, call.parameter("ir")).await? else {
        return Ok(Answer::deleted(false));
    };
    remove(&call, &factory, &gateway).await
}

/// Deletes a gateway that nothing refers to, and cuts its nodes off.
pub(crate) async fn remove(call: &Call, factory: &Factory, gateway: &Gateway) -> Result<Answer> {
    super::documents::refuse_if_used(
        &call.service,
        factory,
        dmg_authoring::ReferenceKind::Gateway,
        "gateway",
        &gateway.name,
    )
    .await?;
    let nodes = call.service.state.nodes(&gateway.id).await?;
    let there = call.service.state.delete_gateway(&gateway.id).await?;
    cut_off(&call.service, nodes.into_iter().map(|node| node.id));
    Ok(Answer::deleted(there))
}

/// Makes nodes that were deleted notice it at once.
pub(crate) fn cut_off(service: &Service, nodes: impl Iterator<Item = NodeId>) {
    for node in nodes {
        service.presence.forget(&node);
    }
    service.ring();
}

async fn status(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    let views = node_views(&call.service, &gateway).await?;
    let dispatcher = views.iter().position(|view| view.state == NodeState::Online);
    let nodes: Vec<Value> =
        views.iter().enumerate().map(|(index, view)| show_node(view, dispatcher == Some(index))).collect();
    let capabilities = match dispatcher {
        Some(index) => nodes[index]["capabilities"].clone(),
        None => nodes.first().map_or_else(|| json!({}), |node| node["capabilities"].clone()),
    };
    let version = views.first().map(|view| version_of(&view.node.program).to_owned());
    let status = if views.is_empty() { "None" } else { "UpToDate" };
    Ok(Answer::ok(json!({
        "name": gateway.name,
        "properties": {
            "dataFactoryName": factory.name,
            "state": state_of(&views).as_str(),
            "type": "SelfHosted",
            "typeProperties": {
                "autoUpdate": "Off",
                "taskQueueId": gateway.id,
                "internalChannelEncryption": "NotSet",
                "version": version,
                "nodes": nodes,
                "updateDelayOffset": "PT3H",
                "localTimeZoneOffset": "PT0S",
                "serviceUrls": [call.endpoint()],
                "versionStatus": status,
                "capabilities": capabilities,
                "latestVersion": version_of(PROGRAM),
                "createTime": dmg_ambient::rfc3339(gateway.created),
                "links": [],
                "selfContainedInteractiveAuthoringEnabled": false,
            },
        },
    })))
}

async fn connection_info(call: Call) -> Result<Answer> {
    let (_, gateway) = gateway(&call).await?;
    let info = connection(&call.service, &gateway).await?;
    Ok(Answer::ok(json!({
        "version": info["version"],
        "publicKey": info["publicKey"],
        "serviceToken": "",
        "identityCertThumbprint": info["identityCertThumbprint"],
        "hostServiceUri": info["hostServiceUri"],
        "isIdentityCertExprired": false,
    })))
}

/// How to reach a node of a gateway and to what certificate credentials are sealed.
pub(crate) async fn connection(service: &Service, gateway: &Gateway) -> Result<Value> {
    let views = node_views(service, gateway).await?;
    let view = views.iter().find(|view| view.state == NodeState::Online).or_else(|| views.first());
    let Some(view) = view else {
        let message = format!("The gateway \"{}\" has no node yet.", gateway.name);
        let fault = Fault::new("UserErrorNoGatewayToSealTo", message).remedy("Register a node first.");
        return Err(Refusal::with_status(fault, StatusCode::CONFLICT));
    };
    let certificate = gateway.certificate.as_deref().and_then(|pem| RecipientCertificate::from_pem(pem).ok());
    let public_key = certificate.as_ref().map(|certificate| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(certificate.der())
    });
    Ok(json!({
        "hostServiceUri": host_uri(&view.node.machine),
        "identityCertThumbprint": certificate.map(|certificate| certificate.thumbprint().to_uppercase()),
        "publicKey": public_key,
        "version": version_of(&view.node.program),
    }))
}

async fn list_keys(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    let text = |slot| key_text(&call.service, &factory, &gateway, slot, KeyLook::V2, &call.endpoint());
    Ok(Answer::ok(json!({ "authKey1": text(Slot::One), "authKey2": text(Slot::Two) })))
}

async fn regenerate_key(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    let body = call.object()?;
    let name = body.get("keyName").and_then(Value::as_str).unwrap_or_default();
    let slot = match name.to_ascii_lowercase().as_str() {
        "authkey1" => Slot::One,
        "authkey2" => Slot::Two,
        _ => return Err(Refusal::bad_request("The member keyName must be authKey1 or authKey2.").about("keyName")),
    };
    let gateway = call
        .service
        .state
        .regenerate_key(&gateway.id, slot)
        .await?
        .ok_or_else(|| Refusal::not_found("integration runtime", &gateway.name))?;
    let text = key_text(&call.service, &factory, &gateway, slot, KeyLook::V2, &call.endpoint());
    Ok(Answer::ok(match slot {
        Slot::One => json!({ "authKey1": text }),
        Slot::Two => json!({ "authKey2": text }),
    }))
}

async fn monitoring(call: Call) -> Result<Answer> {
    let (_, gateway) = gateway(&call).await?;
    let (_, held) = call.service.state.queue_lengths(&gateway.id).await?;
    let views = node_views(&call.service, &gateway).await?;
    let nodes: Vec<Value> = views
        .iter()
        .map(|view| {
            let status = view.status.clone().unwrap_or_default();
            let running = held.iter().find(|(id, _)| *id == view.node.id).map_or(0, |(_, count)| *count);
            json!({
                "nodeName": view.node.name,
                "availableMemoryInMB": status.available_memory_mib,
                "cpuUtilization": status.cpu_percent,
                "concurrentJobsLimit": view.node.jobs_limit.unwrap_or(status.concurrent_jobs_limit),
                "concurrentJobsRunning": running,
                "maxConcurrentJobs": status.max_concurrent_jobs,
                "sentBytes": status.sent_bytes,
                "receivedBytes": status.received_bytes,
            })
        })
        .collect();
    Ok(Answer::ok(json!({ "name": gateway.name, "nodes": nodes })))
}
