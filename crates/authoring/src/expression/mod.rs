//! The expression language of version 2: `@expression`, `@{interpolation}` and `{"type": "Expression"}` objects.
//! Pure; what is known only while a run goes on (outputs of activities, variables, chance) is refused by name.

pub(crate) mod dates;
mod evaluate;
mod functions;
mod parse;

use dmg_protocol::Fault;
use serde_json::{Map, Value};

use crate::member::{get, type_of};

/// Longest expression, in characters, as in the original.
const EXPRESSION_CHARACTERS_MAX: usize = 8_192;

/// What `pipeline()` knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct PipelineScope {
    /// `pipeline().parameters`.
    pub(crate) parameters: Map<String, Value>,
    /// The other members: `RunId`, `Pipeline`, `TriggerTime`, ...
    pub(crate) members: Map<String, Value>,
}

/// What an expression may refer to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scope<'a> {
    pub(crate) pipeline: Option<&'a PipelineScope>,
    pub(crate) dataset: Option<&'a Map<String, Value>>,
    pub(crate) linked_service: Option<&'a Map<String, Value>>,
    /// What `utcNow()` says, in microseconds since 1970.
    pub(crate) now_micros: Option<i64>,
}

/// Evaluates every expression inside a value; the rest stays as it is.
pub(crate) fn evaluate(value: &Value, scope: Scope<'_>) -> Result<Value, Fault> {
    match value {
        Value::String(text) => evaluate_text(text, scope),
        Value::Array(values) => {
            values.iter().map(|item| evaluate(item, scope)).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        Value::Object(members) => {
            if type_of(value).eq_ignore_ascii_case("Expression")
                && let Some(inner) = get(value, "value")
            {
                return evaluate(inner, scope);
            }
            let mut evaluated = Map::new();
            for (name, member) in members {
                evaluated.insert(name.clone(), evaluate(member, scope)?);
            }
            Ok(Value::Object(evaluated))
        }
        other => Ok(other.clone()),
    }
}

/// Evaluates one text: a whole expression keeps its JSON type, an interpolation is text.
fn evaluate_text(text: &str, scope: Scope<'_>) -> Result<Value, Fault> {
    let refuse = |reason: String| {
        Fault::new("UserErrorExpression", format!("The expression \"{}\" cannot be evaluated. {reason}", shown(text)))
    };
    if let Some(literal) = text.strip_prefix("@@") {
        return Ok(Value::String(format!("@{literal}")));
    }
    let whole = text.starts_with('@') && !text.starts_with("@{");
    if !whole && !text.contains("@{") {
        return Ok(Value::String(text.to_owned()));
    }
    if text.chars().count() > EXPRESSION_CHARACTERS_MAX {
        return Err(refuse(format!("It is longer than {EXPRESSION_CHARACTERS_MAX} characters.")));
    }
    if whole {
        let tree = parse::whole(&text[1..]).map_err(&refuse)?;
        return evaluate::evaluate(&tree, scope).map_err(&refuse);
    }
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("@{") {
        if rest[..start].ends_with('@') {
            // `@@{` is the literal text `@{`.
            result.push_str(&rest[..start - 1]);
            result.push_str("@{");
            rest = &rest[start + 2..];
            continue;
        }
        result.push_str(&rest[..start]);
        let (tree, used) = parse::interpolation(&rest[start + 2..]).map_err(&refuse)?;
        let value = evaluate::evaluate(&tree, scope).map_err(&refuse)?;
        result.push_str(&evaluate::to_text(&value));
        rest = &rest[start + 2 + used..];
    }
    result.push_str(rest);
    Ok(Value::String(result))
}

/// Whether a value holds an expression anywhere.
pub(crate) fn has_expression(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.starts_with("@@") && (text.starts_with('@') || text.contains("@{")),
        Value::Array(values) => values.iter().any(has_expression),
        Value::Object(members) => members.values().any(has_expression),
        _ => false,
    }
}

/// Long expressions are cut in messages.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(120).collect();
    if cut.len() < text.len() { format!("{cut}...") } else { cut }
}

#[cfg(test)]
mod tests;
