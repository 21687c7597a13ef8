//! Which column goes where: translators of both dialects, and the columns authors declare.

use dmg_protocol::job::{ColumnMapping, DeclaredColumn};
use dmg_protocol::{Fault, Kind};
use serde_json::Value;

use super::copy::refuse_member;
use super::dataset::BoundDataset;
use crate::member::{get, items, present, text, type_of};

/// Interim types of the original and the kinds that hold them. `TimeSpan` is missing: as a span it has no kind yet.
const INTERIM: &[(&str, Kind)] = &[
    ("boolean", Kind::Boolean),
    ("byte", Kind::UInt8),
    ("byte[]", Kind::Bytes),
    ("bytearray", Kind::Bytes),
    ("date", Kind::Date),
    ("datetime", Kind::Timestamp),
    ("datetimeoffset", Kind::Instant),
    ("decimal", Kind::DecimalText),
    ("double", Kind::Float64),
    ("guid", Kind::Uuid),
    ("int16", Kind::Int16),
    ("int32", Kind::Int32),
    ("int64", Kind::Int64),
    ("sbyte", Kind::Int8),
    ("single", Kind::Float32),
    ("string", Kind::Text),
    ("time", Kind::Time),
    ("uint16", Kind::UInt16),
    ("uint32", Kind::UInt32),
    ("uint64", Kind::UInt64),
];

/// The columns of `structure` or `schema`, for files that do not tell their columns themselves.
pub(super) fn declared(dataset: &BoundDataset) -> Result<Vec<DeclaredColumn>, Fault> {
    let mut columns = Vec::new();
    for column in dataset.columns.as_array().into_iter().flatten() {
        let Some(name) = text(column, "name") else { continue };
        if present(column, "format").is_some_and(|format| format != "") {
            let message =
                format!("The column \"{name}\" of dataset \"{}\" has a date format of its own.", dataset.name);
            return Err(Fault::new("UserErrorNotSupported", message)
                .remedy("Read the column as String, or write dates as yyyy-MM-dd HH:mm:ss in the file."));
        }
        columns
            .push(DeclaredColumn { kind: kind(type_of(column), name, &dataset.name)?, ..DeclaredColumn::named(name) });
    }
    Ok(columns)
}

fn kind(name: &str, column: &str, dataset: &str) -> Result<Option<Kind>, Fault> {
    if name.is_empty() {
        return Ok(None);
    }
    let lower = name.to_ascii_lowercase();
    let found = INTERIM.iter().find(|(known, _)| *known == lower).map(|(_, kind)| *kind);
    found.map(Some).ok_or_else(|| {
        let message = format!(
            "The column \"{column}\" of dataset \"{dataset}\" has the type {name}, which is not supported here."
        );
        Fault::new("UserErrorNotSupported", message).remedy("Declare it as String, or leave the type out.")
    })
}

/// The mapping of a translator; empty means by name.
pub(super) fn of(translator: Option<&Value>, source: &[DeclaredColumn]) -> Result<Vec<ColumnMapping>, Fault> {
    let Some(translator) = translator else { return Ok(Vec::new()) };
    if !type_of(translator).eq_ignore_ascii_case("TabularTranslator") {
        return Err(refuse_member("translator", &format!("type {}", type_of(translator))));
    }
    for member in ["collectionReference", "schemaMapping"] {
        if present(translator, member).is_some_and(|value| value != "") {
            return Err(refuse_member("translator", member));
        }
    }
    let mut mapping = Vec::new();
    for (index, line) in items(translator, "mappings").iter().enumerate() {
        let (from, to) = (get(line, "source").unwrap_or(&Value::Null), get(line, "sink").unwrap_or(&Value::Null));
        if present(from, "path").is_some() || present(to, "path").is_some() {
            return Err(refuse_member("translator", "a mapping by path"));
        }
        let from = column(from, source, index)?;
        let to = match text(to, "name") {
            Some(name) => name.to_owned(),
            // A sink without names takes the source's.
            None => from.clone(),
        };
        mapping.push(ColumnMapping::named(from, to));
    }
    if mapping.is_empty() {
        mapping = old_style(get(translator, "columnMappings"))?;
    }
    Ok(mapping)
}

/// The source column of one line, by name or by position from 1.
fn column(side: &Value, declared: &[DeclaredColumn], index: usize) -> Result<String, Fault> {
    if let Some(name) = text(side, "name") {
        return Ok(name.to_owned());
    }
    let ordinal = match get(side, "ordinal") {
        Some(Value::String(text)) => text.trim().parse::<usize>().ok(),
        Some(value) => value.as_u64().and_then(|number| usize::try_from(number).ok()),
        None => None,
    };
    let Some(place) = ordinal.and_then(|ordinal| ordinal.checked_sub(1)) else {
        let message = format!("Line {} of the column mapping names no source column.", index + 1);
        return Err(Fault::new("UserErrorDocument", message).remedy("Give it a name, or an ordinal from 1 on."));
    };
    Ok(declared.get(place).map_or_else(|| format!("Prop_{place}"), |column| column.name.clone()))
}

/// `"A: X, B: Y"` and `{"A": "X"}`.
fn old_style(value: Option<&Value>) -> Result<Vec<ColumnMapping>, Fault> {
    let line = |source: &str, sink: &str| ColumnMapping::named(source.trim(), sink.trim());
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => text
            .split(',')
            .map(|pair| {
                let parts = pair.split_once(':').filter(|(from, to)| !from.trim().is_empty() && !to.trim().is_empty());
                parts.map(|(from, to)| line(from, to)).ok_or_else(|| {
                    let message =
                        format!("The column mapping \"{}\" is not of the form \"source: sink\".", pair.trim());
                    Fault::new("UserErrorDocument", message)
                })
            })
            .collect(),
        Some(Value::Object(pairs)) => {
            Ok(pairs.iter().filter_map(|(from, to)| Some(line(from, to.as_str()?))).collect())
        }
        Some(_) => Err(Fault::new("UserErrorDocument", "\"columnMappings\" must be a text or an object.")),
    }
}

/// Two lines into one sink column, which no store could take.
pub(super) fn no_doubles(mapping: &[ColumnMapping]) -> Result<(), Fault> {
    for (index, line) in mapping.iter().enumerate() {
        if mapping[..index].iter().any(|other| other.sink == line.sink) {
            let message = format!("The column mapping fills the sink column \"{}\" twice.", line.sink);
            return Err(Fault::new("UserErrorDocument", message).remedy("Map one source column to each sink column."));
        }
    }
    Ok(())
}
