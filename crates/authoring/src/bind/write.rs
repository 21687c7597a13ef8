//! What a database sink does with rows: append, replace, by key, by slice, by procedure; in which batches; and what runs
//! before. Members that contradict each other are refused, because one of them would not act.

use dmg_protocol::job::{CopyOptions, Slice, WriteProcedure};
use dmg_protocol::{Fault, WriteMode};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::copy::refuse_member;
use super::{Context, procedure, time_span};
use crate::Dialect;
use crate::member::{items, present, text, truth, whole};

/// Reads all of it into the options. `slice_value` is asked for where a slice is replaced.
pub(super) fn options(
    sink: &Value,
    slice_value: impl FnOnce() -> String,
    options: &mut CopyOptions,
) -> Result<(), Fault> {
    let said = |name: &str| present(sink, name).filter(|value| **value != "");
    let given = |name: &str| text(sink, name).map(str::trim).filter(|text| !text.is_empty());
    for member in ["allowPolyBase", "allowCopyCommand"] {
        if said(member).and_then(truth) == Some(true) {
            return Err(refuse_member("sink", member));
        }
    }
    options.batch_rows = batch_rows(sink)?;
    options.batch_timeout_seconds = batch_timeout(given("writeBatchTimeout"))?;
    let script = text(sink, "preCopyScript").or_else(|| text(sink, "sqlWriterCleanupScript"));
    options.pre_copy_script = script.filter(|script| !script.trim().is_empty()).map(str::to_owned);
    options.create_table = match given("tableOption").unwrap_or("none").to_ascii_lowercase().as_str() {
        "none" => false,
        "autocreate" => true,
        other => return Err(refuse_member("sink", &format!("tableOption {other}"))),
    };
    let procedure = given("sqlWriterStoredProcedureName");
    let slice = given("sliceIdentifierColumnName");
    let method = given("writeBehavior").or_else(|| given("writeMethod"));
    let word = method.map(str::to_ascii_lowercase);
    let behavior = format!("writeBehavior {}", method.unwrap_or("Insert"));
    options.mode = match word.as_deref() {
        None if procedure.is_some() => WriteMode::Procedure,
        None | Some("copycommand" | "bulkinsert" | "insert" | "append") => WriteMode::Append,
        Some("overwrite") => WriteMode::Overwrite,
        Some("upsert") => WriteMode::Upsert,
        Some("storedprocedure") => WriteMode::Procedure,
        Some(_) => return Err(refuse_member("sink", &format!("writeBehavior {}", method.unwrap_or_default()))),
    };
    if let Some(column) = slice {
        if options.mode != WriteMode::Append {
            let other = if method.is_some() { &behavior } else { "sqlWriterStoredProcedureName" };
            return Err(contradiction("sliceIdentifierColumnName", other));
        }
        options.mode = WriteMode::Slice;
        options.slice = Some(Slice { column: column.to_owned(), value: slice_value() });
    }
    if let Some(settings) = present(sink, "upsertSettings") {
        if options.mode != WriteMode::Upsert && present(settings, "keys").is_some() {
            return Err(contradiction("upsertSettings", &behavior));
        }
        options.keys = keys(settings)?;
    }
    match procedure {
        Some(name) if options.mode == WriteMode::Procedure => {
            if options.create_table {
                return Err(contradiction("tableOption autoCreate", "sqlWriterStoredProcedureName"));
            }
            options.procedure = Some(WriteProcedure {
                name: name.to_owned(),
                table_type: given("sqlWriterTableType").map(str::to_owned),
                table_parameter: given("storedProcedureTableTypeParameterName").map(str::to_owned),
                parameters: procedure::parameters(sink)?,
            });
        }
        Some(_) => {
            return Err(contradiction("sqlWriterStoredProcedureName", &behavior));
        }
        None if options.mode == WriteMode::Procedure => {
            let message = "The sink writes by stored procedure, but does not name it.";
            return Err(
                Fault::new("UserErrorDocument", message).remedy("Write its name in \"sqlWriterStoredProcedureName\".")
            );
        }
        None => {
            for member in ["sqlWriterTableType", "storedProcedureTableTypeParameterName", "storedProcedureParameters"] {
                if said(member).is_some_and(|value| value.as_object().is_none_or(|members| !members.is_empty())) {
                    let message = format!("The sink has {member}, but names no stored procedure.");
                    return Err(Fault::new("UserErrorDocument", message)
                        .remedy("Write its name in \"sqlWriterStoredProcedureName\", or leave the member out."));
                }
            }
        }
    }
    Ok(())
}

fn contradiction(one: &str, other: &str) -> Fault {
    Fault::new("UserErrorDocument", format!("In the sink, {one} and {other} exclude each other."))
        .remedy("Keep the one that is meant.")
}

/// Zero means chosen, as in the original.
fn batch_rows(sink: &Value) -> Result<Option<u32>, Fault> {
    let Some(value) = present(sink, "writeBatchSize") else { return Ok(None) };
    let rows = whole(value).and_then(|number| u32::try_from(number).ok()).ok_or_else(|| {
        let message = format!("\"writeBatchSize\" is a whole number of rows from 0 on, not {value}.");
        Fault::new("UserErrorDocument", message)
    })?;
    Ok((rows > 0).then_some(rows))
}

fn batch_timeout(span: Option<&str>) -> Result<Option<u64>, Fault> {
    let Some(span) = span else { return Ok(None) };
    let seconds = time_span(span).ok_or_else(|| {
        let message = format!("\"writeBatchTimeout\" is not a time span: \"{span}\".");
        Fault::new("UserErrorDocument", message).remedy("Write it as hours:minutes:seconds, such as 00:30:00.")
    })?;
    Ok((seconds > 0).then_some(seconds))
}

fn keys(settings: &Value) -> Result<Vec<String>, Fault> {
    let keys = items(settings, "keys").iter().map(|key| key.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    let listed = present(settings, "keys").is_none_or(Value::is_array);
    keys.filter(|_| listed).ok_or_else(|| {
        let message = "\"upsertSettings.keys\" is a list of column names.";
        Fault::new("UserErrorDocument", message).remedy("Write it as [\"id\"].")
    })
}

/// What tells one slice from another: the activity, and the window or parameters it runs for. The same slice run again
/// has the same value, and so replaces its own rows.
pub(super) fn slice_value(context: &Context<'_>, activity: &str) -> String {
    // Version 1 slices by time; a run on demand is one slice. Version 2 tells windows by parameters.
    let parameters = match context.dialect {
        Dialect::V1 => Value::Null,
        Dialect::V2 => Value::Object(context.pipeline.parameters.clone()),
    };
    let identity = serde_json::json!([context.factory.id, context.pipeline_name, activity, parameters]);
    let hash = Sha256::digest(identity.to_string().as_bytes());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
