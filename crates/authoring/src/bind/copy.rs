//! A Copy activity becomes a copy job: source, sink, mapping and options. Members that would change what is copied
//! and are not built yet are refused by name; members that only tune the original's speed are passed over.

use dmg_protocol::job::{ColumnMapping, CopyJob, CopyOptions, Drift, Endpoint, FormatSpec, Job, StoreObject};
use dmg_protocol::{Fault, ReceiptParties, VerifyLevel, WriteMode};
use serde_json::Value;

use super::dataset::{self, BoundDataset};
use super::tolerance::Said;
use super::{Context, added, files, format, mapping, tables, time_span, tolerance, write};
use crate::Dialect;
use crate::expression::has_expression;
use crate::member::{get, items, present, text};

/// Gateway and job of a Copy activity. The gateway is known even where the job is not.
pub(super) fn bind(
    context: &Context<'_>,
    activity: &Value,
    name: &str,
    members: &Value,
) -> (Option<String>, Result<Job, Fault>) {
    let end = |side: &str| {
        let reference = items(activity, side).first().ok_or_else(|| {
            let message = format!("The activity \"{name}\" has no dataset in \"{side}\".");
            Fault::new("UserErrorDocument", message)
        })?;
        dataset::bind(context, reference)
    };
    let (source, sink) = match (end("inputs"), end("outputs")) {
        (Ok(source), Ok(sink)) => (source, sink),
        (Err(fault), _) | (_, Err(fault)) => return (None, Err(fault)),
    };
    let gateway = match gateway(&source, &sink) {
        Ok(gateway) => gateway,
        Err(fault) => return (None, Err(fault)),
    };
    let Said { tolerance, log, gateway: third } = match tolerance::of(context, members) {
        Ok(said) => said,
        Err(fault) => return (gateway, Err(fault)),
    };
    let gateway = match together(gateway, third) {
        Ok(gateway) => gateway,
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
    let job = job(context, source, sink, members, parties).map(|mut job| {
        (job.options.tolerance, job.options.log) = (tolerance, log);
        Job::Copy(Box::new(job))
    });
    (gateway, job)
}

/// The gateway of the copy, if the store that skipped rows go to is behind the same.
fn together(gateway: Option<String>, redirect: Option<String>) -> Result<Option<String>, Fault> {
    match (&gateway, &redirect) {
        (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => {
            let message = format!(
                "The copy runs on gateway \"{one}\", but the store for skipped rows is reached by gateway \"{other}\"."
            );
            Err(Fault::new("UserErrorNotSupported", message)
                .remedy("Let skipped rows go where the same gateway can reach."))
        }
        _ => Ok(gateway.or(redirect)),
    }
}

/// The gateway of either side; two different ones cannot both run the copy.
fn gateway(source: &BoundDataset, sink: &BoundDataset) -> Result<Option<String>, Fault> {
    match (&source.gateway, &sink.gateway) {
        (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => {
            let message = format!(
                "The source is reached by gateway \"{one}\", the sink by gateway \"{other}\"; one copy runs on one gateway."
            );
            Err(Fault::new("UserErrorNotSupported", message)
                .remedy("Copy in two steps, through a store that both can reach."))
        }
        (one, other) => Ok(other.clone().or_else(|| one.clone())),
    }
}

fn job(
    context: &Context<'_>,
    source: BoundDataset,
    sink: BoundDataset,
    members: &Value,
    parties: ReceiptParties,
) -> Result<CopyJob, Fault> {
    refuse_options(members)?;
    let dialect = context.dialect;
    let end = |name: &str| {
        let message = format!("The copy has no {name}.");
        present(members, name).ok_or_else(|| Fault::new("UserErrorDocument", message))
    };
    let (source_members, sink_members) = (end("source")?, end("sink")?);
    let mut options = options(members)?;

    let source_object = if tables::serves(&source.store.store) {
        tables::source(&source, source_members)?
    } else {
        files::source(dialect, &source, source_members)?
    };
    let sink_object = if tables::serves(&sink.store.store) {
        let activity = parties.activity.as_deref().unwrap_or_default();
        write::options(sink_members, || write::slice_value(context, activity), &mut options)?;
        tables::sink(&sink, sink_members)?
    } else {
        // Files that exist are replaced, as in the original.
        options.mode = WriteMode::Overwrite;
        files::sink(&sink, sink_members, &source_object)?
    };
    let (source_format, sink_format) =
        formats(&source, &sink, (&source_object, &sink_object), source_members, sink_members)?;

    let declared = match &source_format {
        Some(FormatSpec::Text(_)) => mapping::declared(&source)?,
        _ => Vec::new(),
    };
    options.query_timeout_millis =
        millis(source_members, "queryTimeout")?.or(source.command_timeout.map(|seconds| seconds.saturating_mul(1000)));
    options.added = added::columns(source_members, matches!(source_object, StoreObject::Files { .. }))?;
    let translator = present(members, "translator");
    let reads_text = matches!(source_format, Some(FormatSpec::Text(_)));
    let mut lines = mapping::of(translator, &declared, reads_text)?;
    options.conversion = mapping::conversion(translator)?;
    if matches!(sink_format, Some(FormatSpec::Text(_))) {
        mapping::as_sink_declares(&mut lines, &mapping::declared(&sink)?);
    }
    if lines.is_empty() && dialect == Dialect::V1 && matches!(source_object, StoreObject::Table { .. }) {
        lines = structure_only(&source);
    }
    mapping::no_doubles(&lines)?;
    Ok(CopyJob {
        parties,
        source: Endpoint { store: source.store, object: source_object, format: source_format, declared },
        sink: Endpoint { store: sink.store, object: sink_object, format: sink_format, declared: Vec::new() },
        mapping: lines,
        options,
    })
}

/// What a Copy activity says that contradicts itself, by the member it is in. Members with expressions are known only
/// when it runs.
pub(crate) fn contradictions(members: &Value) -> Vec<(&'static str, Fault)> {
    let fixed = |name: &str| present(members, name).filter(|value| !has_expression(value));
    let mut found = Vec::new();
    if let Some(sink) = fixed("sink") {
        found.extend(write::options(sink, String::new, &mut CopyOptions::default()).err().map(|fault| ("sink", fault)));
    }
    if let Some(source) = fixed("source") {
        found.extend(added::columns(source, true).err().map(|fault| ("source", fault)));
    }
    if let Some(translator) = fixed("translator") {
        let refused =
            mapping::conversion(Some(translator)).err().or_else(|| mapping::of(Some(translator), &[], false).err());
        found.extend(refused.map(|fault| ("translator", fault)));
    }
    found.retain(|(_, fault)| fault.code == "UserErrorDocument");
    found
}

/// The formats of both ends, with what source and sink say about them; tables have none.
fn formats(
    source: &BoundDataset,
    sink: &BoundDataset,
    (from, to): (&StoreObject, &StoreObject),
    source_members: &Value,
    sink_members: &Value,
) -> Result<(Option<FormatSpec>, Option<FormatSpec>), Fault> {
    let is_file = |object: &StoreObject| matches!(object, StoreObject::Files { .. });
    let mut source_format = if is_file(from) { format::of(source)? } else { None };
    let mut sink_format = if is_file(to) { format::of(sink)? } else { None };
    if is_file(to) && sink_format.is_none() {
        sink_format = Some(format::fallback(from, source_format.as_ref())?);
    }
    if is_file(from) && source_format.is_none() {
        source_format = Some(FormatSpec::Text(dmg_protocol::job::TextFormat::default()));
    }
    if let Some(format) = &mut source_format {
        format::adjust(format, Some(source_members), None)?;
    }
    if let Some(format) = &mut sink_format {
        format::adjust(format, None, Some(sink_members))?;
    }
    Ok((source_format, sink_format))
}

/// Version 1 reads from a table only the columns its structure names.
fn structure_only(source: &BoundDataset) -> Vec<ColumnMapping> {
    let names = source.columns.as_array().into_iter().flatten().filter_map(|column| text(column, "name"));
    names.map(|name| ColumnMapping::named(name, name)).collect()
}

/// Parallelism, proof, what may be lossy, what columns may be added, and how fast. `verifyLevel`, `allowLossy`,
/// `driftPolicy`, `rowsPerSecond`, `bytesPerSecond`, `stallTimeout` and `commitTimeout` are members of ours.
fn options(members: &Value) -> Result<CopyOptions, Fault> {
    let mut options = CopyOptions::default();
    if let Some(value) = present(members, "parallelCopies") {
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        let number = number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number >= 1);
        let message = || format!("\"parallelCopies\" is a whole number from 1 on, not {value}.");
        options.parallel = Some(number.ok_or_else(|| Fault::new("UserErrorDocument", message()))?);
    }
    if let Some(level) = text(members, "verifyLevel") {
        options.verify = match level.to_ascii_lowercase().as_str() {
            "none" => VerifyLevel::None,
            "counts" => VerifyLevel::Counts,
            "transferred" => VerifyLevel::Transferred,
            "full" => VerifyLevel::Full,
            _ => {
                let message = format!("\"{level}\" is not a verify level.");
                return Err(Fault::new("UserErrorDocument", message).remedy("Use none, counts, transferred or full."));
            }
        };
    }
    if get(members, "validateDataConsistency") == Some(&Value::Bool(true)) {
        options.verify = options.verify.max(VerifyLevel::Transferred);
    }
    let lossy = items(members, "allowLossy").iter().filter_map(Value::as_str);
    options.allow_lossy = lossy.map(str::to_owned).collect();
    options.drift = match text(members, "driftPolicy").unwrap_or("refuse").to_ascii_lowercase().as_str() {
        "refuse" => Drift::Refuse,
        "add" => Drift::Add,
        other => {
            let message = format!("\"{other}\" is not a drift policy.");
            return Err(Fault::new("UserErrorDocument", message).remedy("Use refuse or add."));
        }
    };
    options.rows_per_second = tolerance::limit(members, "rowsPerSecond")?;
    options.bytes_per_second = tolerance::limit(members, "bytesPerSecond")?;
    options.stall_timeout_millis = millis(members, "stallTimeout")?;
    options.commit_timeout_millis = millis(members, "commitTimeout")?;
    Ok(options)
}

/// A time span in milliseconds; zero is no limit.
fn millis(members: &Value, name: &str) -> Result<Option<u64>, Fault> {
    let Some(value) = present(members, name).filter(|value| **value != "") else { return Ok(None) };
    let seconds = value.as_str().and_then(time_span).ok_or_else(|| {
        Fault::new("UserErrorDocument", format!("\"{name}\" is not a time span: {value}."))
            .remedy("Write it as hours:minutes:seconds, such as 02:00:00.")
    })?;
    Ok(Some(seconds.saturating_mul(1000)))
}

/// Options whose absence would change the result.
fn refuse_options(members: &Value) -> Result<(), Fault> {
    let yes = |value: &Value, name: &str| get(value, name) == Some(&Value::Bool(true));
    if yes(members, "enableStaging") {
        return Err(refuse_member("copy", "enableStaging"));
    }
    if !items(members, "preserve").is_empty() {
        return Err(refuse_member("copy", "preserve"));
    }
    Ok(())
}

/// A member that is understood but not built yet.
pub(super) fn refuse_member(place: &str, member: &str) -> Fault {
    Fault::new("UserErrorNotSupported", format!("In the {place}, {member} is not supported yet."))
        .remedy("Leave it out; docs/support.md says what works today.")
}

/// A source or sink of a type that does not belong to the dataset.
pub(super) fn wrong_type(side: &str, name: &str, dataset: &BoundDataset) -> Fault {
    let store = dataset.store.linked_service.as_deref().unwrap_or_default();
    let message = format!(
        "The {side} of type {name} does not fit the dataset \"{}\" of type {} on linked service \"{store}\".",
        dataset.name, dataset.type_name
    );
    Fault::new("UserErrorDocument", message).remedy(format!("Choose the {side} type that belongs to the dataset."))
}
