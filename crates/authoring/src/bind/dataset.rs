//! A dataset with its parameters and its linked service, evaluated.

use dmg_protocol::Fault;
use dmg_protocol::job::StoreRef;
use serde_json::{Map, Value};

use super::{Context, no_slice_functions};
use crate::expression::{self, Scope};
use crate::linked_service::{arguments, command_timeout, gateway_of, store_ref};
use crate::member::{get, present, properties, text, type_of};
use crate::{Dialect, types};

/// A dataset ready for use.
pub(super) struct BoundDataset {
    /// Its name, for messages.
    pub(super) name: String,
    /// Its type in the usual spelling.
    pub(super) type_name: String,
    /// `typeProperties`, evaluated.
    pub(super) members: Value,
    /// `structure`, or `schema` where there is no structure; an array or null.
    pub(super) columns: Value,
    /// The store.
    pub(super) store: StoreRef,
    /// The gateway its linked service names.
    pub(super) gateway: Option<String>,
    /// Seconds a statement may take, as its linked service says; 0 is no limit.
    pub(super) command_timeout: Option<u64>,
}

/// Binds the dataset an activity refers to: a `{"name"}` or a `DatasetReference`.
pub(super) fn bind(context: &Context<'_>, reference: &Value) -> Result<BoundDataset, Fault> {
    let member = if context.dialect == Dialect::V1 { "name" } else { "referenceName" };
    let name = text(reference, member).unwrap_or_default();
    let missing = |what: &str, name: &str| {
        Fault::new(
            "UserErrorNotFound",
            format!("There is no {what} \"{name}\" in factory \"{}\".", context.factory.name),
        )
    };
    let (dialect, document) = context.lookup.dataset(name).ok_or_else(|| missing("dataset", name))?;
    if dialect != context.dialect {
        let message = format!("The dataset \"{name}\" is written in {dialect}, the pipeline in {}.", context.dialect);
        return Err(Fault::new("UserErrorDocument", message).remedy("Use datasets of the pipeline's own dialect."));
    }
    let inner = properties(&document);
    let arguments = match dialect {
        Dialect::V1 => Map::new(),
        Dialect::V2 => {
            let given = get(reference, "parameters").map(|given| context.evaluate(given)).transpose()?;
            let given = given.and_then(|given| given.as_object().cloned()).unwrap_or_default();
            arguments("dataset", name, get(inner, "parameters"), &given)?
        }
    };
    let scope = Scope { dataset: Some(&arguments), now_micros: Some(context.run.now_micros), ..Scope::default() };
    let evaluate = |value: &Value| match dialect {
        Dialect::V1 => no_slice_functions(value).map(|()| value.clone()),
        Dialect::V2 => expression::evaluate(value, scope),
    };
    let members = evaluate(get(inner, "typeProperties").unwrap_or(&Value::Null))?;
    let columns = present(inner, "structure").or_else(|| present(inner, "schema")).map(&evaluate).transpose()?;

    let service = get(inner, "linkedServiceName").unwrap_or(&Value::Null);
    let service_name = service.as_str().or_else(|| text(service, "referenceName")).unwrap_or_default();
    let (service_dialect, service_document) =
        context.lookup.linked_service(service_name).ok_or_else(|| missing("linked service", service_name))?;
    let given = get(service, "parameters").map(&evaluate).transpose()?;
    let given = given.and_then(|given| given.as_object().cloned()).unwrap_or_default();
    let store = store_ref(service_dialect, service_name, &context.factory.id, &service_document, &given)?;
    let gateway = gateway_of(service_dialect, &service_document);
    if let Some(gateway) = &gateway
        && !context.lookup.gateway(gateway)
    {
        return Err(missing("gateway", gateway));
    }
    let declared = type_of(inner);
    let type_name = types::dataset(dialect, declared).map_or(declared, |known| known.name).to_owned();
    Ok(BoundDataset {
        name: name.to_owned(),
        type_name,
        members,
        columns: columns.filter(Value::is_array).unwrap_or_default(),
        store,
        gateway,
        command_timeout: command_timeout(&service_document),
    })
}

/// A linked service named by itself: a name, or a `LinkedServiceReference`. Gives the gateway too.
pub(super) fn service(context: &Context<'_>, reference: &Value) -> Result<(StoreRef, Option<String>), Fault> {
    let name = reference.as_str().or_else(|| text(reference, "referenceName")).unwrap_or_default();
    let missing = |what: &str, name: &str| {
        let factory = &context.factory.name;
        Fault::new("UserErrorNotFound", format!("There is no {what} \"{name}\" in factory \"{factory}\"."))
    };
    let (dialect, document) = context.lookup.linked_service(name).ok_or_else(|| missing("linked service", name))?;
    let given = get(reference, "parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    let store = store_ref(dialect, name, &context.factory.id, &document, &given)?;
    let gateway = gateway_of(dialect, &document);
    match gateway.as_deref().filter(|gateway| !context.lookup.gateway(gateway)) {
        Some(gateway) => Err(missing("gateway", gateway)),
        None => Ok((store, gateway)),
    }
}
