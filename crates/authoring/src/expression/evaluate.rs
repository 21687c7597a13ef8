//! Tree to value: accessors and members here, functions in their own table.

use serde_json::Value;

use super::parse::Tree;
use super::{Scope, functions};
use crate::member::find;

/// The value of an expression.
pub(super) fn evaluate(tree: &Tree, scope: Scope<'_>) -> Result<Value, String> {
    match tree {
        Tree::Literal(value) => Ok(value.clone()),
        Tree::Member { base, key, optional } => {
            let base = evaluate(base, scope)?;
            let key = evaluate(key, scope)?;
            member(&base, &key, *optional)
        }
        Tree::Call { name, arguments } => {
            if let Some(value) = accessor(name, arguments, scope) {
                return value;
            }
            let values = arguments.iter().map(|argument| evaluate(argument, scope)).collect::<Result<Vec<_>, _>>()?;
            functions::call(name, &values, scope.now_micros)
        }
    }
}

/// `pipeline()`, `dataset()`, `linkedService()` and what is refused; none where the name is an ordinary function.
fn accessor(name: &str, arguments: &[Tree], scope: Scope<'_>) -> Option<Result<Value, String>> {
    let parameters = |found: Option<&serde_json::Map<String, Value>>, what: &str| match found {
        Some(parameters) => Ok(Value::Object(parameters.clone())),
        None => Err(format!("{name}() is known only inside a {what}.")),
    };
    let later = |what: &str| Err(format!("{what} cannot be used yet: its value is known only while the run goes on."));
    Some(match (name.to_ascii_lowercase().as_str(), arguments.len()) {
        ("pipeline", 0) => match scope.pipeline {
            Some(pipeline) => {
                let mut members = pipeline.members.clone();
                members.insert("parameters".to_owned(), Value::Object(pipeline.parameters.clone()));
                Ok(Value::Object(members))
            }
            None => Err("pipeline() is known only inside a pipeline.".to_owned()),
        },
        ("dataset", 0) => parameters(scope.dataset, "dataset"),
        ("linkedservice", 0) => parameters(scope.linked_service, "linked service"),
        ("activity", 1) => later("activity()"),
        ("variables", 1) => later("variables()"),
        ("item", 0) => later("item()"),
        ("trigger", 0) | ("triggerbody", 0) => Err(format!("{name}() is known only to runs of a trigger.")),
        ("guid", _) | ("rand", _) => {
            Err(format!("{name}() cannot be used yet: a repeated attempt would get another value."))
        }
        _ => return None,
    })
}

fn member(base: &Value, key: &Value, optional: bool) -> Result<Value, String> {
    let found = match (base, key) {
        (Value::Object(members), Value::String(name)) => find(members, name),
        (Value::Array(items), Value::Number(index)) => {
            index.as_i64().and_then(|index| usize::try_from(index).ok()).and_then(|index| items.get(index))
        }
        _ => None,
    };
    match (found, optional, base) {
        (Some(value), ..) => Ok(value.clone()),
        (None, true, _) => Ok(Value::Null),
        (None, false, Value::Object(members)) => {
            let names: Vec<&str> = members.keys().map(String::as_str).collect();
            Err(format!(
                "The property '{}' does not exist; available properties are '{}'.",
                to_text(key),
                names.join(", ")
            ))
        }
        (None, false, Value::Array(items)) => {
            Err(format!("The index {} is outside an array of {} items.", to_text(key), items.len()))
        }
        (None, false, _) => Err(format!("'{}' is asked of a value that has no members.", to_text(key))),
    }
}

/// A value inside a text: null is empty, objects and arrays are their JSON.
pub(super) fn to_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}
