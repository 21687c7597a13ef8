//! Linked services, datasets and pipelines: kept as sent, listed by their own version, deleted only when unused.

use dmg_authoring::{
    Dialect, DocumentKind, ReferenceKind, document_name, findings_fault, masked, references, validate,
};
use dmg_protocol::Fault;
use dmg_state::{Document, DocumentKey, Factory, NewDocument};
use http::header::ETAG;
use serde_json::{Value, json};

use super::runtimes::AUTO_RESOLVE;
use super::{factory, list, resource_id, seal};
use crate::error::{Refusal, Result};
use crate::http::{Answer, Call, etag};
use crate::router::{Route, route};
use crate::service::Service;

pub(crate) const ROUTES: &[Route] = &[
    route!(GET V2 "~/linkedservices" Read => linked_services),
    route!(GET V2 "~/linkedservices/{name}" Read => linked_service),
    route!(PUT V2 "~/linkedservices/{name}" Author => put_linked_service),
    route!(DELETE V2 "~/linkedservices/{name}" Author => delete_linked_service),
    route!(GET V2 "~/datasets" Read => datasets),
    route!(GET V2 "~/datasets/{name}" Read => dataset),
    route!(PUT V2 "~/datasets/{name}" Author => put_dataset),
    route!(DELETE V2 "~/datasets/{name}" Author => delete_dataset),
    route!(GET V2 "~/pipelines" Read => pipelines),
    route!(GET V2 "~/pipelines/{name}" Read => pipeline),
    route!(PUT V2 "~/pipelines/{name}" Author => put_pipeline),
    route!(DELETE V2 "~/pipelines/{name}" Author => delete_pipeline),
    route!(GET Ours "~/v1documents/{kind}" Read => v1_list),
    route!(GET Ours "~/v1documents/{kind}/{name}" Read => v1_get),
    route!(PUT Ours "~/v1documents/{kind}/{name}" Author => v1_put),
    route!(DELETE Ours "~/v1documents/{kind}/{name}" Author => v1_delete),
];

/// The kind of a document, as stored.
pub(crate) fn stored_kind(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::LinkedService => "linkedservice",
        DocumentKind::Dataset => "dataset",
        DocumentKind::Pipeline => "pipeline",
    }
}

fn collection(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::LinkedService => "linkedservices",
        DocumentKind::Dataset => "datasets",
        DocumentKind::Pipeline => "pipelines",
    }
}

fn kind_of(call: &Call) -> Result<DocumentKind> {
    let given = call.parameter("kind");
    let kinds = [DocumentKind::LinkedService, DocumentKind::Dataset, DocumentKind::Pipeline];
    kinds
        .into_iter()
        .find(|kind| collection(*kind).eq_ignore_ascii_case(given))
        .ok_or_else(|| Refusal::bad_request(format!("\"{given}\" is not linkedservices, datasets or pipelines.")))
}

macro_rules! document_routes {
    ($($list:ident $get:ident $put:ident $delete:ident $kind:ident)*) => {$(
        async fn $list(call: Call) -> Result<Answer> { all(call, Dialect::V2, DocumentKind::$kind).await }
        async fn $get(call: Call) -> Result<Answer> { get(call, Dialect::V2, DocumentKind::$kind).await }
        async fn $put(call: Call) -> Result<Answer> { put(call, Dialect::V2, DocumentKind::$kind).await }
        async fn $delete(call: Call) -> Result<Answer> { delete(call, Dialect::V2, DocumentKind::$kind).await }
    )*};
}

document_routes! {
    linked_services linked_service put_linked_service delete_linked_service LinkedService
    datasets dataset put_dataset delete_dataset Dataset
    pipelines pipeline put_pipeline delete_pipeline Pipeline
}

async fn v1_list(call: Call) -> Result<Answer> {
    let kind = kind_of(&call)?;
    all(call, Dialect::V1, kind).await
}

async fn v1_get(call: Call) -> Result<Answer> {
    let kind = kind_of(&call)?;
    get(call, Dialect::V1, kind).await
}

async fn v1_put(call: Call) -> Result<Answer> {
    let kind = kind_of(&call)?;
    put(call, Dialect::V1, kind).await
}

async fn v1_delete(call: Call) -> Result<Answer> {
    let kind = kind_of(&call)?;
    delete(call, Dialect::V1, kind).await
}

/// Where a document is stored.
pub(crate) fn key(factory: &Factory, kind: DocumentKind, name: &str) -> DocumentKey {
    DocumentKey { factory: factory.id.clone(), kind: stored_kind(kind), name: name.to_owned() }
}

fn show(factory: &Factory, dialect: Dialect, kind: DocumentKind, document: &Document) -> Value {
    let body = match kind {
        DocumentKind::LinkedService => masked(dialect, &document.body),
        DocumentKind::Dataset | DocumentKind::Pipeline => document.body.clone(),
    };
    let mut properties = body.get("properties").cloned().unwrap_or_else(|| json!({}));
    let collection = collection(kind);
    let type_name = match dialect {
        Dialect::V2 => format!("Microsoft.DataFactory/factories/{collection}"),
        Dialect::V1 => format!("Microsoft.DataFactory/datafactories/{collection}"),
    };
    if dialect == Dialect::V1
        && let Some(properties) = properties.as_object_mut()
    {
        properties.insert("provisioningState".to_owned(), json!("Succeeded"));
    }
    let id = match dialect {
        Dialect::V2 => resource_id(factory, collection, &document.name),
        Dialect::V1 => resource_id(factory, &format!("v1documents/{collection}"), &document.name),
    };
    let mut shown = json!({
        "id": id,
        "name": document.name,
        "type": type_name,
        "properties": properties,
        "etag": etag(document.etag),
    });
    // Members beside properties that the author sent stay too.
    for (member, value) in body.as_object().into_iter().flatten() {
        if shown.get(member).is_none() {
            shown[member.as_str()] = value.clone();
        }
    }
    shown
}

async fn all(call: Call, dialect: Dialect, kind: DocumentKind) -> Result<Answer> {
    let factory = factory(&call).await?;
    let documents = call.service.state.documents(&factory.id).await?;
    let shown = documents
        .iter()
        .filter(|document| document.kind == stored_kind(kind) && document.dialect == dialect.as_str())
        .map(|document| show(&factory, dialect, kind, document))
        .collect();
    Ok(Answer::ok(list(shown)))
}

async fn get(call: Call, dialect: Dialect, kind: DocumentKind) -> Result<Answer> {
    let factory = factory(&call).await?;
    let name = call.parameter("name");
    let document = call.service.state.document(&key(&factory, kind, name)).await?;
    let document = document.filter(|document| document.dialect == dialect.as_str());
    let document = document.ok_or_else(|| missing(&factory, kind, name))?;
    let shown = show(&factory, dialect, kind, &document);
    Ok(Answer::resource(&call, shown, &etag(document.etag)))
}

fn missing(factory: &Factory, kind: DocumentKind, name: &str) -> Refusal {
    Refusal::no_resource(&format!("factories/{}/{}", factory.name, collection(kind)), name, &factory.resource_group)
}

async fn put(call: Call, dialect: Dialect, kind: DocumentKind) -> Result<Answer> {
    let factory = factory(&call).await?;
    let name = call.parameter("name").to_owned();
    let sent = read(&call, kind, &name)?;
    if let Some(fault) = findings_fault(kind, &name, &validate(dialect, kind, &name, &sent)) {
        return Err(Refusal::from(fault).about(&name));
    }
    let key = key(&factory, kind, &name);
    let before = call.service.state.document(&key).await?;
    if before.as_ref().is_some_and(|before| before.dialect != dialect.as_str()) {
        return Err(clash(kind, &name, dialect));
    }
    let tag = before.as_ref().map(|before| etag(before.etag));
    if !call.conditions().allow_write(tag.as_deref()) {
        return Err(Refusal::precondition(kind.title(), &name));
    }
    check_references(&call.service, &factory, dialect, kind, &name, &sent).await?;
    let stored_name = before.as_ref().map_or(name.as_str(), |before| before.name.as_str());
    let body = match kind {
        DocumentKind::LinkedService => {
            let stored = before.as_ref().map(|before| &before.body);
            seal::linked_service(&call.service, &factory, dialect, stored_name, &sent, stored).await?
        }
        DocumentKind::Dataset | DocumentKind::Pipeline => {
            seal::refuse_secrets(kind.title(), &name, &sent)?;
            sent
        }
    };
    let new = NewDocument { key, dialect: dialect.as_str(), body };
    let base = before.map(|before| before.etag);
    let document = match call.service.state.put_document(new, None, base, call.service.now()).await {
        Ok(document) => document,
        Err(dmg_state::Error::Taken) => return Err(clash(kind, &name, dialect)),
        Err(dmg_state::Error::Changed) => return Err(Refusal::precondition(kind.title(), &name)),
        Err(error) => return Err(error.into()),
    };
    let tag = etag(document.etag);
    Ok(Answer::ok(show(&factory, dialect, kind, &document)).header(ETAG, &format!("\"{tag}\"")))
}

fn clash(kind: DocumentKind, name: &str, dialect: Dialect) -> Refusal {
    let other = if dialect == Dialect::V1 { "2" } else { "1" };
    let message = format!("The name \"{name}\" is taken by a {kind} of version {other}.");
    Refusal::from(Fault::new("UserErrorNameTaken", message)).about(name)
}

/// The body without what only answers carry; the name in it must be the one in the path.
fn read(call: &Call, kind: DocumentKind, name: &str) -> Result<Value> {
    let mut sent = Value::Object(call.object()?);
    if let Some(given) = document_name(&sent)
        && !given.eq_ignore_ascii_case(name)
    {
        let message = format!("The body names the {kind} \"{given}\", the path \"{name}\".");
        return Err(Refusal::bad_request(message).about("name"));
    }
    let has_type = sent.get("properties").and_then(|inner| inner.get("type")).is_some_and(Value::is_string);
    if kind != DocumentKind::Pipeline && !has_type {
        return Err(
            Refusal::bad_request(format!("The {kind} \"{name}\" has no properties.type.")).about("properties.type")
        );
    }
    if let Some(members) = sent.as_object_mut() {
        for answered in ["id", "etag", "type"] {
            members.remove(answered);
        }
    }
    Ok(sent)
}

/// Every resource a document names must be there, in a version it may refer to.
async fn check_references(
    service: &Service,
    factory: &Factory,
    dialect: Dialect,
    kind: DocumentKind,
    name: &str,
    document: &Value,
) -> Result<()> {
    let documents = service.state.documents(&factory.id).await?;
    let gateways = service.state.gateways(&factory.id).await?;
    let mut missing = Vec::new();
    for reference in references(dialect, kind, document) {
        let wanted = match reference.kind {
            ReferenceKind::Gateway => {
                let there = gateways.iter().any(|gateway| gateway.name.eq_ignore_ascii_case(&reference.name));
                if !there && !reference.name.eq_ignore_ascii_case(AUTO_RESOLVE) {
                    missing.push(format!("the gateway \"{}\" ({})", reference.name, reference.path));
                }
                continue;
            }
            ReferenceKind::LinkedService => DocumentKind::LinkedService,
            ReferenceKind::Dataset => DocumentKind::Dataset,
            ReferenceKind::Pipeline => DocumentKind::Pipeline,
        };
        let itself = wanted == kind && reference.name.eq_ignore_ascii_case(name);
        let there = itself
            || documents.iter().any(|document| {
                document.kind == stored_kind(wanted)
                    && document.name.eq_ignore_ascii_case(&reference.name)
                    && (wanted == DocumentKind::LinkedService || document.dialect == dialect.as_str())
            });
        if !there {
            missing.push(format!("the {wanted} \"{}\" ({})", reference.name, reference.path));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("The {kind} \"{name}\" refers to what does not exist: {}.", missing.join(", "));
    Err(Refusal::from(Fault::new("UserErrorDocument", message).remedy("Create it first, or correct the name."))
        .about(name))
}

async fn delete(call: Call, dialect: Dialect, kind: DocumentKind) -> Result<Answer> {
    let factory = factory(&call).await?;
    let name = call.parameter("name");
    let key = key(&factory, kind, name);
    let document = call.service.state.document(&key).await?;
    if document.is_none_or(|document| document.dialect != dialect.as_str()) {
        return Ok(Answer::deleted(false));
    }
    let reference = match kind {
        DocumentKind::LinkedService => ReferenceKind::LinkedService,
        DocumentKind::Dataset => ReferenceKind::Dataset,
        DocumentKind::Pipeline => ReferenceKind::Pipeline,
    };
    refuse_if_used(&call.service, &factory, reference, kind.title(), name).await?;
    Ok(Answer::deleted(call.service.state.delete_document(&key).await?))
}

/// Refuses with the names of the documents that refer to a resource.
pub(crate) async fn refuse_if_used(
    service: &Service,
    factory: &Factory,
    reference: ReferenceKind,
    title: &str,
    name: &str,
) -> Result<()> {
    let mut users = Vec::new();
    for document in service.state.documents(&factory.id).await? {
        let Some(dialect) = Dialect::parse(&document.dialect) else { continue };
        let kind = match document.kind.as_str() {
            "linkedservice" => DocumentKind::LinkedService,
            "dataset" => DocumentKind::Dataset,
            _ => DocumentKind::Pipeline,
        };
        let uses = references(dialect, kind, &document.body)
            .iter()
            .any(|found| found.kind == reference && found.name.eq_ignore_ascii_case(name));
        let itself = document.name.eq_ignore_ascii_case(name) && kind.title() == title;
        if uses && !itself {
            users.push(format!("{kind} \"{}\"", document.name));
        }
    }
    if users.is_empty() {
        return Ok(());
    }
    let message = format!("The {title} \"{name}\" cannot be deleted: it is used by {}.", users.join(", "));
    Err(Refusal::from(Fault::new("UserErrorInUse", message)).about(name))
}
