//! Which column goes where: translators of both dialects, and the columns authors declare.

use dmg_protocol::job::{ColumnMapping, DeclaredColumn, TypeConversion};
use dmg_protocol::{Fault, Kind};
use serde_json::Value;

use super::copy::refuse_member;
use super::dataset::BoundDataset;
use crate::member::{get, items, present, text, truth, type_of, whole};

/// Interim types of the original and the kinds that hold them. A `TimeSpan` is what columns of type time are to it.
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
    ("timespan", Kind::Time),
    ("uint16", Kind::UInt16),
    ("uint32", Kind::UInt32),
    ("uint64", Kind::UInt64),
];

/// The columns of `structure` or `schema`, for files that do not tell their columns themselves.
pub(super) fn declared(dataset: &BoundDataset) -> Result<Vec<DeclaredColumn>, Fault> {
    let mut columns = Vec::new();
    for column in dataset.columns.as_array().into_iter().flatten() {
        let Some(name) = text(column, "name") else { continue };
        let place = format!("dataset \"{}\"", dataset.name);
        let kind = kind(column, name, &place)?;
        let (format, culture) = style(column, kind, name, &place)?;
        columns.push(DeclaredColumn { name: name.to_owned(), kind, format, culture });
    }
    Ok(columns)
}

/// The kind of a column's type, with the digits of a decimal where they are given.
fn kind(column: &Value, name: &str, place: &str) -> Result<Option<Kind>, Fault> {
    let declared = type_of(column);
    if declared.is_empty() {
        return Ok(None);
    }
    let lower = declared.to_ascii_lowercase();
    if lower == "decimal" {
        let digits = |member: &str| get(column, member).and_then(Value::as_u64);
        if let (Some(precision), Some(scale)) = (digits("precision"), digits("scale")) {
            return format!("decimal({precision},{scale})").parse().map(Some).map_err(|_| {
                let message = format!(
                    "The column \"{name}\" of {place} cannot have {precision} digits, {scale} of them behind the point."
                );
                Fault::new("UserErrorDocument", message)
                    .remedy("Use at most 38 digits, or leave precision and scale out.")
            });
        }
    }
    let found = INTERIM.iter().find(|(known, _)| *known == lower).map(|(_, kind)| *kind);
    found.map(Some).ok_or_else(|| {
        let message = format!("The column \"{name}\" of {place} has the type {declared}, which is not supported here.");
        Fault::new("UserErrorNotSupported", message).remedy("Declare it as String, or leave the type out.")
    })
}

/// Format and culture of a column's text. They act on numbers, dates and times only.
fn style(
    column: &Value,
    kind: Option<Kind>,
    name: &str,
    place: &str,
) -> Result<(Option<String>, Option<String>), Fault> {
    let said = |member: &str| text(column, member).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let (format, culture) = (said("format"), said("culture"));
    let moment = matches!(kind, Some(Kind::Date | Kind::Timestamp | Kind::Instant | Kind::Time));
    if format.is_some() && !moment {
        let message = format!("The column \"{name}\" of {place} has a format, but no type of date or time.");
        return Err(Fault::new("UserErrorDocument", message).remedy("Declare it as DateTime, or leave the format out."));
    }
    // A culture without anything it could act on is how the original's own tools write columns.
    let acts = kind.is_some_and(|kind| !matches!(kind, Kind::Text | Kind::Bytes | Kind::Uuid | Kind::Boolean));
    let format = match kind {
        Some(Kind::Time) if type_of(column).eq_ignore_ascii_case("timespan") => {
            format.map(|format| span_format(&format)).transpose()?.flatten()
        }
        _ => format,
    };
    Ok((format, culture.filter(|_| acts)))
}

/// A .NET format of time spans as one of times of day: hours count to 24 in both, but are written `h` in spans.
fn span_format(format: &str) -> Result<Option<String>, Fault> {
    match format {
        "c" | "t" | "T" => Ok(None),
        _ if format.contains(['d', 'g', 'G']) => {
            let message = format!("The time span format \"{format}\" counts days, which a time of day has not.");
            Err(Fault::new("UserErrorNotSupported", message).remedy("Read the column as String."))
        }
        custom => Ok(Some(custom.replace('h', "H"))),
    }
}

/// What a translator says about conversions as a whole.
pub(super) fn conversion(translator: Option<&Value>) -> Result<TypeConversion, Fault> {
    let Some(translator) = translator else { return Ok(TypeConversion::default()) };
    let Some(settings) = present(translator, "typeConversionSettings") else { return Ok(TypeConversion::default()) };
    if present(translator, "typeConversion").and_then(truth) != Some(true) {
        let message = "The translator has typeConversionSettings, but typeConversion is not true.";
        return Err(Fault::new("UserErrorDocument", message).remedy("Set it to true, or leave the settings out."));
    }
    const KNOWN: &[&str] = &[
        "allowDataTruncation",
        "treatBooleanAsNumber",
        "dateTimeFormat",
        "dateTimeOffsetFormat",
        "timeSpanFormat",
        "dateFormat",
        "timeFormat",
        "culture",
    ];
    let unknown = settings.as_object().into_iter().flatten();
    let mut unknown = unknown.filter(|(name, _)| !KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name)));
    if let Some((name, _)) = unknown.next() {
        return Err(refuse_member("translator", &format!("typeConversionSettings.{name}")));
    }
    let said = |name: &str| text(settings, name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let span = said("timeSpanFormat").map(|format| span_format(&format)).transpose()?.flatten();
    Ok(TypeConversion {
        // The original takes silence for a yes; here a loss needs the author's word.
        allow_truncation: present(settings, "allowDataTruncation").and_then(truth) == Some(true),
        boolean_as_number: present(settings, "treatBooleanAsNumber").and_then(truth) == Some(true),
        culture: said("culture"),
        date_format: said("dateFormat"),
        timestamp_format: said("dateTimeFormat"),
        instant_format: said("dateTimeOffsetFormat"),
        time_format: said("timeFormat").or(span),
        ..TypeConversion::default()
    })
}

/// Formats and cultures that a sink's dataset of text declares, for the columns that say none themselves.
pub(super) fn as_sink_declares(lines: &mut Vec<ColumnMapping>, declared: &[DeclaredColumn]) {
    if declared.iter().all(|column| column.format.is_none() && column.culture.is_none()) {
        return;
    }
    if lines.is_empty() {
        *lines = declared.iter().map(|column| ColumnMapping::named(&column.name, &column.name)).collect();
    }
    for line in lines {
        let Some(column) = declared.iter().find(|column| column.name == line.sink) else { continue };
        if line.format.is_none() && line.culture.is_none() {
            line.kind = line.kind.or(column.kind);
            line.format.clone_from(&column.format);
            line.culture.clone_from(&column.culture);
        }
    }
}

/// The mapping of a translator; empty means by name. `reads_text` tells whether the source's own kinds are unknown.
pub(super) fn of(
    translator: Option<&Value>,
    source: &[DeclaredColumn],
    reads_text: bool,
) -> Result<Vec<ColumnMapping>, Fault> {
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
        let name = column(from, source, index)?;
        let sink = match text(to, "name") {
            Some(name) => name.to_owned(),
            // A sink without names takes the source's.
            None => name.clone(),
        };
        mapping.push(typed(name, sink, (from, to), reads_text)?);
    }
    if mapping.is_empty() {
        mapping = old_style(get(translator, "columnMappings"))?;
    }
    Ok(mapping)
}

/// A line with what its two sides say of types. One kind stands between the stores: what text is read as, or else what
/// the sink's side asks for.
fn typed(source: String, sink: String, (from, to): (&Value, &Value), reads_text: bool) -> Result<ColumnMapping, Fault> {
    let place = "the column mapping";
    let (read, written) = (kind(from, &source, place)?, kind(to, &sink, place)?);
    let (from_style, to_style) = (style(from, read, &source, place)?, style(to, written, &sink, place)?);
    let one = |a: Option<String>, b: Option<String>, member: &str| match (a, b) {
        (Some(a), Some(b)) if a != b => {
            let message = format!("The mapping of \"{source}\" has a {member} on both sides, and they differ.");
            Err(Fault::new("UserErrorNotSupported", message).remedy("Keep the one that reads or writes text."))
        }
        (a, b) => Ok(a.or(b)),
    };
    let format = one(from_style.0, to_style.0, "format")?;
    let culture = one(from_style.1, to_style.1, "culture")?;
    let text = Some(Kind::Text);
    let between = match (read, written) {
        // Text that is read as something: that is what the format is about.
        (Some(read), _) if reads_text && (format.is_some() || culture.is_some()) && read != Kind::Text => Some(read),
        (read, written) if read == text || read.is_none() => written,
        (read, written) if written == text || written.is_none() => {
            // A format on a column that is written as text is how the text looks.
            if written == text && !reads_text { text.filter(|_| format.is_none()).or(read) } else { read }
        }
        (_, written) => written,
    };
    Ok(ColumnMapping { source, sink, kind: between, format, culture })
}

/// The source column of one line, by name or by position from 1.
fn column(side: &Value, declared: &[DeclaredColumn], index: usize) -> Result<String, Fault> {
    if let Some(name) = text(side, "name") {
        return Ok(name.to_owned());
    }
    let ordinal = get(side, "ordinal").and_then(whole).and_then(|number| usize::try_from(number).ok());
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
