//! A stored procedure activity becomes a procedure job: version 1 takes the store from its output dataset, version 2
//! from its own linked service. Parameters are evaluated already and travel as invariant texts.

use dmg_protocol::job::{Job, ProcedureCall, ProcedureJob, ProcedureParameter, StoreRef};
use dmg_protocol::{Fault, ReceiptParties};
use serde_json::Value;

use super::{Context, dataset};
use crate::Dialect;
use crate::member::{get, items, present, text};

/// Type names a parameter may carry: those of the original, and the interim types of copies.
pub const PARAMETER_TYPES: &[&str] = &[
    "Boolean",
    "Byte",
    "Byte[]",
    "Date",
    "DateTime",
    "Datetimeoffset",
    "Decimal",
    "Double",
    "Guid",
    "Int",
    "Int16",
    "Int32",
    "Int64",
    "Single",
    "String",
    "Timespan",
];

/// How much longer the server may take than the policy allows. The service ends an attempt in time, waiting included;
/// the server's own limit is there for when nobody can tell it to stop.
const GRACE_SECONDS: u64 = 15;

/// Gateway and job of a stored procedure activity. `timeout_seconds` is its policy's.
pub(super) fn bind(
    context: &Context<'_>,
    activity: &Value,
    name: &str,
    members: &Value,
    timeout_seconds: Option<u64>,
) -> (Option<String>, Result<Job, Fault>) {
    let (store, gateway) = match place(context, activity, name) {
        Ok(found) => found,
        Err(fault) => return (None, Err(fault)),
    };
    let parties = ReceiptParties {
        factory: Some(context.factory.name.clone()),
        gateway: gateway.clone(),
        node: String::new(),
        pipeline: Some(context.pipeline_name.to_owned()),
        activity: Some(name.to_owned()),
        pipeline_run: Some(context.run.run_id.clone()),
    };
    let call = call(name, members, timeout_seconds);
    (gateway, call.map(|call| Job::Procedure(Box::new(ProcedureJob { parties, store, call }))))
}

/// The store to call in and the gateway that reaches it.
fn place(context: &Context<'_>, activity: &Value, name: &str) -> Result<(StoreRef, Option<String>), Fault> {
    if context.dialect == Dialect::V1 && present(activity, "linkedServiceName").is_none() {
        let output = items(activity, "outputs").first().ok_or_else(|| {
            let message = format!("The activity \"{name}\" has no output dataset, which would name its database.");
            Fault::new("UserErrorDocument", message)
        })?;
        let bound = dataset::bind(context, output)?;
        return Ok((bound.store, bound.gateway));
    }
    let reference = get(activity, "linkedServiceName").map(|reference| context.evaluate(reference)).transpose()?;
    let reference = reference.unwrap_or_default();
    let service = reference.as_str().or_else(|| text(&reference, "referenceName")).unwrap_or_default();
    if service.is_empty() {
        let message = format!("The activity \"{name}\" names no linked service to call its procedure in.");
        return Err(
            Fault::new("UserErrorDocument", message).remedy("Add \"linkedServiceName\" beside \"typeProperties\".")
        );
    }
    dataset::service(context, &reference)
}

fn call(activity: &str, members: &Value, timeout_seconds: Option<u64>) -> Result<ProcedureCall, Fault> {
    let name = text(members, "storedProcedureName").map(str::trim).unwrap_or_default();
    if name.is_empty() {
        let message = format!("The activity \"{activity}\" does not name its stored procedure.");
        return Err(Fault::new("UserErrorDocument", message).remedy("Write its name in \"storedProcedureName\"."));
    }
    let timeout_seconds = timeout_seconds.map(|seconds| seconds.saturating_add(GRACE_SECONDS));
    Ok(ProcedureCall { name: name.to_owned(), parameters: parameters(members)?, timeout_seconds })
}

/// `storedProcedureParameters` of an activity, source or sink.
pub(super) fn parameters(members: &Value) -> Result<Vec<ProcedureParameter>, Fault> {
    match present(members, "storedProcedureParameters") {
        None => Ok(Vec::new()),
        Some(Value::Object(given)) => given.iter().map(|(name, value)| parameter(name, value)).collect(),
        Some(_) => {
            let message = "The member \"storedProcedureParameters\" is an object of parameters by name.";
            Err(Fault::new("UserErrorDocument", message))
        }
    }
}

/// `{"value": …, "type": "…"}`, or the value itself as in version 1.
fn parameter(name: &str, given: &Value) -> Result<ProcedureParameter, Fault> {
    let (value, declared) = match given {
        Value::Object(_) => (get(given, "value").cloned().unwrap_or_default(), present(given, "type")),
        plain => (plain.clone(), None),
    };
    let type_name = match declared {
        None => None,
        Some(declared) => {
            let word = declared.as_str().unwrap_or_default();
            let known = PARAMETER_TYPES.iter().find(|known| known.eq_ignore_ascii_case(word)).ok_or_else(|| {
                let message = format!("The parameter \"{name}\" has the type {declared}, which is not known.");
                Fault::new("UserErrorDocument", message).remedy(format!("Use one of {}.", PARAMETER_TYPES.join(", ")))
            })?;
            Some((*known).to_owned())
        }
    };
    let value = match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Array(_) | Value::Object(_) => {
            let message =
                format!("The parameter \"{name}\" has a value that is neither text, number, boolean nor null.");
            return Err(Fault::new("UserErrorDocument", message).remedy("Turn it into text with string()."));
        }
    };
    Ok(ProcedureParameter { name: name.trim_start_matches('@').to_owned(), type_name, value })
}
