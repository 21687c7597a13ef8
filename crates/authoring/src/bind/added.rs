//! Columns the copy adds: `additionalColumns` of a source.

use dmg_protocol::Fault;
use dmg_protocol::job::{AddedColumn, AddedValue};
use serde_json::Value;

use super::copy::refuse_member;
use crate::member::{get, present, text, type_of};

/// The added columns of a source. `files` tells whether rows come out of files.
pub(super) fn columns(source: &Value, files: bool) -> Result<Vec<AddedColumn>, Fault> {
    let listed = match present(source, "additionalColumns") {
        None => return Ok(Vec::new()),
        Some(Value::Array(listed)) => listed,
        Some(_) => {
            let message = "The member \"additionalColumns\" is a list of columns with name and value.";
            return Err(Fault::new("UserErrorDocument", message).remedy("Write it as [{\"name\": …, \"value\": …}]."));
        }
    };
    let mut columns: Vec<AddedColumn> = Vec::with_capacity(listed.len());
    for column in listed {
        let name = text(column, "name").unwrap_or_default();
        if name.is_empty() {
            let message = "A column of \"additionalColumns\" has no name.";
            return Err(Fault::new("UserErrorDocument", message).remedy("Give each added column a name."));
        }
        if columns.iter().any(|other| other.name == name) {
            let message = format!("The column \"{name}\" is added twice.");
            return Err(Fault::new("UserErrorDocument", message).remedy("Give each added column its own name."));
        }
        let value = value(name, get(column, "value").unwrap_or(&Value::Null), files)?;
        columns.push(AddedColumn { name: name.to_owned(), value });
    }
    Ok(columns)
}

/// A literal, or what the original's reserved words mean. `$$RUNID` and `$$ROWNUMBER` are words of ours.
fn value(name: &str, value: &Value, files: bool) -> Result<AddedValue, Fault> {
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Bool(_) | Value::Number(_) => return Ok(AddedValue::Text { text: value.to_string() }),
        _ => {
            let kind = if type_of(value).is_empty() { "no text" } else { type_of(value) };
            let message = format!("The value of the added column \"{name}\" is {kind}.");
            return Err(Fault::new("UserErrorDocument", message).remedy("Give it a text, a number or an expression."));
        }
    };
    let Some(word) = text.strip_prefix("$$") else { return Ok(AddedValue::Text { text: text.to_owned() }) };
    if let Some((head, column)) = word.split_once(':')
        && head.eq_ignore_ascii_case("COLUMN")
    {
        return Ok(AddedValue::Column { column: column.trim().to_owned() });
    }
    match word.to_ascii_uppercase().as_str() {
        "FILEPATH" if files => Ok(AddedValue::SourceFile),
        "FILEPATH" => {
            let message = format!("The added column \"{name}\" asks for $$FILEPATH, but the source has no files.");
            Err(Fault::new("UserErrorDocument", message).remedy("Leave the column out."))
        }
        "RUNID" => Ok(AddedValue::RunId),
        "ROWNUMBER" => Ok(AddedValue::RowNumber),
        _ => Err(refuse_member("source", &format!("additionalColumns with the value {text}"))),
    }
}
