//! Gateways as version 1 sees them.

use dmg_protocol::{Fault, names};
use dmg_seal::KeyLook;
use dmg_state::{Factory, Gateway, Slot};
use serde_json::{Map, Value, json};

use super::runtimes::{self, connection, cut_off, node_views, show_node, state_of, version_of};
use super::{factory, list};
use crate::error::{Refusal, Result};
use crate::http::{Answer, Call, etag};
use crate::keys::key_text;
use crate::presence::NodeState;
use crate::router::{Route, route};

pub(crate) const ROUTES: &[Route] = &[
    route!(GET V1 "F1/gateways" Read => all),
    route!(PUT V1 "F1/gateways/{gateway}" Own => put),
    route!(PATCH V1 "F1/gateways/{gateway}" Own => patch),
    route!(GET V1 "F1/gateways/{gateway}" Read => get),
    route!(DELETE V1 "F1/gateways/{gateway}" Own => delete),
    route!(POST V1 "F1/gateways/{gateway}/regeneratekey" Own => regenerate),
    route!(POST V1 "F1/gateways/{gateway}/listauthkeys" Own => list_keys),
    route!(POST V1 "F1/gateways/{gateway}/regenerateauthkey" Own => regenerate_key),
    route!(POST V1 "F1/gateways/{gateway}/connectioninfo" Author => connection_info),
];

/// The gateway of the path.
async fn gateway(call: &Call) -> Result<(Factory, Gateway)> {
    let factory = factory(call).await?;
    let name = call.parameter("gateway");
    let found = call.service.state.gateway(&factory.id, name).await?;
    let kind = format!("datafactories/{}/gateways", factory.name);
    let gateway = found.ok_or_else(|| Refusal::no_resource(&kind, name, &factory.resource_group))?;
    Ok((factory, gateway))
}

async fn show(call: &Call, factory: &Factory, gateway: &Gateway) -> Result<Value> {
    let views = node_views(&call.service, gateway).await?;
    let first = views.first();
    let time = |moment: Option<i64>| moment.map(dmg_ambient::rfc3339);
    let dispatcher = views.iter().position(|view| view.state == NodeState::Online);
    let nodes: Vec<Value> =
        views.iter().enumerate().map(|(index, view)| show_node(view, dispatcher == Some(index))).collect();
    let key = |slot, look| key_text(&call.service, factory, gateway, slot, look, &call.endpoint());
    let limited = views.iter().any(|view| view.state == NodeState::Limited);
    let Factory { subscription, resource_group, .. } = factory;
    Ok(json!({
        "name": gateway.name,
        "id": format!(
            "/subscriptions/{subscription}/resourcegroups/{resource_group}/providers/Microsoft.DataFactory/datafactories/{}/gateways/{}",
            factory.name, gateway.name
        ),
        "properties": {
            "description": gateway.body.get("description").cloned().unwrap_or(Value::Null),
            "key": key(Slot::One, KeyLook::V1Adf),
            "authenticationKey1": key(Slot::One, KeyLook::V1Dmg),
            "authenticationKey2": key(Slot::Two, KeyLook::V1Dmg),
            "version": first.map(|view| version_of(&view.node.program)),
            "status": state_of(&views).as_str(),
            "versionStatus": if views.is_empty() { "None" } else { "UpToDate" },
            "createTime": dmg_ambient::rfc3339(gateway.created),
            "registerTime": time(views.iter().map(|view| view.node.registered).min()),
            "lastConnectTime": time(views.iter().filter_map(|view| view.node.last_connect).max()),
            "expiryTime": null,
            "provisioningState": "Succeeded",
            "dataFactoryName": factory.name,
            "multiNodeSupportEnabled": true,
            "nodes": nodes,
            "isCredentailSyncFailed": limited,
        },
    }))
}

async fn all(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let mut shown = Vec::new();
    for gateway in call.service.state.gateways(&factory.id).await? {
        shown.push(show(&call, &factory, &gateway).await?);
    }
    Ok(Answer::ok(list(shown)))
}

async fn get(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    let shown = show(&call, &factory, &gateway).await?;
    Ok(Answer::resource(&call, shown, &etag(gateway.etag)))
}

/// What a version 1 body changes; everything else that version 2 wrote stays.
fn merged(before: Option<&Gateway>, sent: &Map<String, Value>) -> Value {
    let mut body = before.and_then(|before| before.body.as_object().cloned()).unwrap_or_default();
    body.entry("type").or_insert_with(|| json!("SelfHosted"));
    let properties = sent.get("properties").and_then(Value::as_object);
    if let Some(description) = properties.and_then(|properties| properties.get("description")) {
        body.insert("description".to_owned(), description.clone());
    }
    Value::Object(body)
}

async fn put(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let name = call.parameter("gateway").to_owned();
    // One resource for both versions: the name must suit both.
    if !names::is_factory_name(&name) {
        return Err(Fault::new("UserErrorName", format!("\"{name}\" is not a name for a gateway."))
            .remedy("Use letters and digits in groups joined by single dashes, 3 to 63 characters.")
            .into());
    }
    let sent = call.object()?;
    if let Some(given) = sent.get("name").and_then(Value::as_str)
        && !given.eq_ignore_ascii_case(&name)
    {
        return Err(Refusal::bad_request("The name in the body is not the one in the path.").about("name"));
    }
    let before = call.service.state.gateway(&factory.id, &name).await?;
    let tag = before.as_ref().map(|before| etag(before.etag));
    if !call.conditions().allow_write(tag.as_deref()) {
        return Err(Refusal::precondition("gateway", &name));
    }
    let body = merged(before.as_ref(), &sent);
    let stored = runtimes::store(&call, &factory, &name, body, before.map(|before| before.etag)).await?;
    Ok(Answer::ok(show(&call, &factory, &stored).await?))
}

async fn patch(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    let body = merged(Some(&gateway), &call.object()?);
    let stored = runtimes::store(&call, &factory, &gateway.name, body, Some(gateway.etag)).await?;
    Ok(Answer::ok(show(&call, &factory, &stored).await?))
}

async fn delete(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let Some(gateway) = call.service.state.gateway(&factory.id, call.parameter("gateway")).await? else {
        return Ok(Answer::deleted(false));
    };
    runtimes::remove(&call, &factory, &gateway).await
}

/// A new first key; all nodes are cut off, as in the original.
async fn regenerate(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    let missing = || Refusal::not_found("gateway", &gateway.name);
    let renewed = call.service.state.regenerate_key(&gateway.id, Slot::One).await?.ok_or_else(missing)?;
    let nodes = call.service.state.delete_nodes(&gateway.id).await?;
    tracing::info!(gateway = %gateway.name, nodes = nodes.len(), "the gateway key was regenerated, its nodes are cut off");
    cut_off(&call.service, nodes.into_iter());
    let text = key_text(&call.service, &factory, &renewed, Slot::One, KeyLook::V1Adf, &call.endpoint());
    Ok(Answer::ok(json!({ "key": text })))
}

async fn list_keys(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    let text = |slot| key_text(&call.service, &factory, &gateway, slot, KeyLook::V1Dmg, &call.endpoint());
    Ok(Answer::ok(json!({ "key1": text(Slot::One), "key2": text(Slot::Two) })))
}

async fn regenerate_key(call: Call) -> Result<Answer> {
    let (factory, gateway) = gateway(&call).await?;
    let body = call.object()?;
    let name = body.iter().find(|(name, _)| name.eq_ignore_ascii_case("keyname")).and_then(|(_, value)| value.as_str());
    let (slot, member) = match name.unwrap_or_default().to_ascii_lowercase().as_str() {
        "key1" => (Slot::One, "key1"),
        "key2" => (Slot::Two, "key2"),
        _ => return Err(Refusal::bad_request("The member keyname must be key1 or key2.").about("keyname")),
    };
    let missing = || Refusal::not_found("gateway", &gateway.name);
    let renewed = call.service.state.regenerate_key(&gateway.id, slot).await?.ok_or_else(missing)?;
    let text = key_text(&call.service, &factory, &renewed, slot, KeyLook::V1Dmg, &call.endpoint());
    Ok(Answer::ok(json!({ member: text })))
}

async fn connection_info(call: Call) -> Result<Answer> {
    let (_, gateway) = gateway(&call).await?;
    let info = connection(&call.service, &gateway).await?;
    Ok(Answer::ok(json!({
        "hostServiceUri": info["hostServiceUri"],
        "identityCertThumbprint": info["identityCertThumbprint"],
        "serviceToken": "",
        "version": info["version"],
    })))
}
