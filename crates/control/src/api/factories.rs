//! Factories in both versions: one resource, two views.

use dmg_protocol::{FactoryId, Fault, names};
use dmg_state::Factory;
use http::StatusCode;
use http::header::ETAG;
use serde_json::{Map, Value, json};

use super::{factory, list};
use crate::error::{Refusal, Result};
use crate::http::{Answer, Call, etag};
use crate::router::{Route, Version, route};

pub(crate) const ROUTES: &[Route] = &[
    route!(GET V2 "S/factories" Read => all),
    route!(GET V2 "G/factories" Read => all),
    route!(PUT V2 "~" Own => put),
    route!(PATCH V2 "~" Own => patch),
    route!(GET V2 "~" Read => get),
    route!(DELETE V2 "~" Own => delete),
    route!(GET V1 "G/datafactories" Read => all),
    route!(PUT V1 "F1" Own => put),
    route!(GET V1 "F1" Read => get),
    route!(DELETE V1 "F1" Own => delete),
    route!(GET V2 "providers/microsoft.datafactory/operations" Read => operations),
];

/// Members of a factory that its owner writes.
const WRITABLE: [&str; 4] = ["location", "tags", "identity", "properties"];
const RESOURCE_GROUP_MAX: usize = 90;

/// The id of a factory in version 2.
pub(crate) fn id(factory: &Factory) -> String {
    let Factory { subscription, resource_group, name, .. } = factory;
    format!(
        "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.DataFactory/factories/{name}"
    )
}

fn show(factory: &Factory, version: Version) -> Value {
    if version == Version::V1 {
        return show_v1(factory);
    }
    let mut properties = Map::new();
    properties.insert("provisioningState".into(), json!("Succeeded"));
    properties.insert("createTime".into(), json!(dmg_ambient::rfc3339(factory.created)));
    properties.insert("version".into(), json!(Version::V2.text()));
    if let Some(Value::Object(sent)) = factory.body.get("properties") {
        for (name, value) in sent {
            if !properties.contains_key(name) {
                properties.insert(name.clone(), value.clone());
            }
        }
    }
    let mut body = json!({
        "name": factory.name,
        "id": id(factory),
        "type": "Microsoft.DataFactory/factories",
        "properties": properties,
        "eTag": format!("\"{}\"", etag(factory.etag)),
        "location": factory.body.get("location"),
        "tags": factory.body.get("tags").cloned().unwrap_or_else(|| json!({})),
    });
    if let Some(identity) = factory.body.get("identity").filter(|identity| !identity.is_null()) {
        body["identity"] = identity.clone();
    }
    body
}

fn show_v1(factory: &Factory) -> Value {
    let Factory { subscription, resource_group, name, .. } = factory;
    json!({
        "name": name,
        "id": format!(
            "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.DataFactory/datafactories/{name}"
        ),
        "type": "Microsoft.DataFactory/datafactories",
        "location": factory.body.get("location"),
        "tags": factory.body.get("tags").cloned().unwrap_or_else(|| json!({})),
        "properties": {
            "dataFactoryId": factory.id,
            "provisioningState": "Succeeded",
            "error": null,
            "errorMessage": null,
        },
    })
}

async fn all(call: Call) -> Result<Answer> {
    let (subscription, group) = (call.parameter("subscription"), call.parameter("group"));
    let factories = call.service.state.factories().await?;
    let shown = factories
        .iter()
        .filter(|factory| {
            factory.subscription.eq_ignore_ascii_case(subscription)
                && (group.is_empty() || factory.resource_group.eq_ignore_ascii_case(group))
        })
        .map(|factory| show(factory, call.version))
        .collect();
    Ok(Answer::ok(list(shown)))
}

async fn get(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    Ok(Answer::resource(&call, show(&factory, call.version), &etag(factory.etag)))
}

async fn put(call: Call) -> Result<Answer> {
    let (name, group) = (call.parameter("factory").to_owned(), call.parameter("group").to_owned());
    if !names::is_factory_name(&name) {
        return Err(Fault::new("UserErrorName", format!("\"{name}\" is not a name for a factory."))
            .remedy("Use letters and digits in groups joined by single dashes, 3 to 63 characters.")
            .into());
    }
    if group.is_empty() || group.len() > RESOURCE_GROUP_MAX {
        return Err(Refusal::bad_request("The name of the resource group has 1 to 90 characters."));
    }
    let sent = call.object()?;
    let mut body = Map::new();
    for (member, value) in &sent {
        let known = WRITABLE.iter().find(|known| known.eq_ignore_ascii_case(member));
        if let Some(known) = known {
            body.insert((*known).to_owned(), value.clone());
        }
    }
    if !body.get("location").is_some_and(Value::is_string) {
        let fault = Fault::new("UserErrorBadRequest", "The factory has no location.")
            .remedy("Add the member \"location\"; any text will do.");
        return Err(fault.into());
    }
    let before = call.service.state.factory(&name).await?;
    if let Some(before) = &before {
        let same = before.resource_group.eq_ignore_ascii_case(&group)
            && before.subscription.eq_ignore_ascii_case(call.parameter("subscription"));
        if !same {
            let message = format!("The factory name \"{name}\" is already taken in another group of this service.");
            return Err(Fault::new("UserErrorNameTaken", message).into());
        }
    }
    let tag = before.as_ref().map(|before| etag(before.etag));
    if !call.conditions().allow_write(tag.as_deref()) {
        return Err(Refusal::precondition("factory", &name));
    }
    let (is_new, base) = (before.is_none(), before.as_ref().map(|before| before.etag));
    let new = match before {
        Some(before) => Factory { body: Value::Object(body), ..before },
        None => Factory {
            id: FactoryId::new(call.service.ambient.uuid()),
            name,
            subscription: call.parameter("subscription").to_owned(),
            resource_group: group,
            body: Value::Object(body),
            etag: 0,
            created: call.service.now(),
        },
    };
    let stored = call.service.state.put_factory(new, base).await?;
    let status = if is_new && call.version == Version::V1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Answer::with_status(status, show(&stored, call.version)).header(ETAG, &format!("\"{}\"", etag(stored.etag))))
}

async fn patch(call: Call) -> Result<Answer> {
    let before = factory(&call).await?;
    let mut body = before.body.as_object().cloned().unwrap_or_default();
    for (member, value) in call.object()? {
        match member.to_ascii_lowercase().as_str() {
            "tags" => drop(body.insert("tags".to_owned(), value)),
            "identity" => drop(body.insert("identity".to_owned(), value)),
            "properties" => {
                let mut properties = body.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
                for (name, value) in value.as_object().cloned().unwrap_or_default() {
                    properties.insert(name, value);
                }
                body.insert("properties".to_owned(), Value::Object(properties));
            }
            _ => {}
        }
    }
    let base = before.etag;
    let stored = call.service.state.put_factory(Factory { body: Value::Object(body), ..before }, Some(base)).await?;
    Ok(Answer::ok(show(&stored, call.version)))
}

async fn delete(call: Call) -> Result<Answer> {
    let there = match factory(&call).await {
        Ok(factory) => call.service.state.delete_factory(&factory.id).await?,
        Err(refusal) if refusal.status == StatusCode::NOT_FOUND => false,
        Err(refusal) => return Err(refusal),
    };
    call.service.ring();
    Ok(Answer::deleted(there))
}

/// What the API can do, by permission; the original's clients list it.
async fn operations(_call: Call) -> Result<Answer> {
    let value = super::routes()
        .map(|route| {
            json!({
                "name": format!("Microsoft.DataFactory/{} {}", route.path.trim_start_matches(['~', '/']), route.method),
                "origin": "user,system",
                "display": {
                    "provider": "Data Management Gateway",
                    "operation": format!("{} {}", route.method, route.path),
                    "description": format!("Needs the permission {:?}.", route.permission),
                },
            })
        })
        .collect();
    Ok(Answer::ok(list(value)))
}
