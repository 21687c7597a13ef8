//! File formats of both dialects, onto the two formats that this release reads and writes.

use dmg_protocol::job::{FormatSpec, ParquetCompression, ParquetFormat, TextFormat};
use dmg_protocol::{Fault, job::StoreObject};
use serde_json::Value;

use super::copy::refuse_member;
use super::dataset::BoundDataset;
use crate::member::{get, present, text, truth, type_of, whole};

/// The format of a dataset; none where the old model names none.
pub(super) fn of(dataset: &BoundDataset) -> Result<Option<FormatSpec>, Fault> {
    let members = &dataset.members;
    match dataset.type_name.as_str() {
        "DelimitedText" => delimited_text(dataset).map(|format| Some(FormatSpec::Text(format))),
        "Parquet" => parquet(dataset).map(|format| Some(FormatSpec::Parquet(format))),
        _ => {
            let codec = get(members, "compression").map(type_of).unwrap_or_default();
            if !codec.is_empty() && !codec.eq_ignore_ascii_case("none") {
                return Err(refuse_member("dataset", &format!("compression {codec}")));
            }
            let Some(format) = present(members, "format") else { return Ok(None) };
            match type_of(format).to_ascii_lowercase().as_str() {
                "textformat" => text_format(format).map(|format| Some(FormatSpec::Text(format))),
                "parquetformat" => Ok(Some(FormatSpec::Parquet(ParquetFormat::default()))),
                _ => Err(refuse_member("dataset", &format!("format {}", type_of(format)))),
            }
        }
    }
}

/// Settings of source and sink that belong to the format.
pub(super) fn adjust(format: &mut FormatSpec, source: Option<&Value>, sink: Option<&Value>) -> Result<(), Fault> {
    let FormatSpec::Text(text_format) = format else { return Ok(()) };
    if let Some(source) = source {
        let settings = get(source, "formatSettings").unwrap_or(&Value::Null);
        if let Some(count) = number(settings, "skipLineCount")?.or(number(source, "skipHeaderLineCount")?) {
            text_format.skip_lines = count;
        }
        if let Some(empty) = get(source, "treatEmptyAsNull").and_then(truth) {
            text_format.empty_as_null = empty;
        }
    }
    if let Some(sink) = sink {
        let settings = get(sink, "formatSettings").unwrap_or(&Value::Null);
        if get(settings, "quoteAllText").and_then(truth) == Some(true) {
            text_format.quote_all = true;
        }
        if get(sink, "blobWriterAddHeader").and_then(truth) == Some(true) {
            text_format.first_row_as_header = true;
        }
        text_format.skip_lines = 0;
    }
    Ok(())
}

/// The format of a sink whose old-model dataset names none: text, unless files would be copied byte for byte.
pub(super) fn fallback(source: &StoreObject, other: Option<&FormatSpec>) -> Result<FormatSpec, Fault> {
    if matches!(source, StoreObject::Files { .. }) && other.is_none() {
        return Err(Fault::new("UserErrorNotSupported", "Copying files byte for byte is not supported yet.")
            .remedy("Give both datasets a format."));
    }
    Ok(FormatSpec::Text(TextFormat::default()))
}

fn number(value: &Value, name: &str) -> Result<Option<u32>, Fault> {
    let Some(value) = present(value, name) else { return Ok(None) };
    let found = whole(value).and_then(|number| u32::try_from(number).ok());
    let message = || format!("\"{name}\" must be a whole number, not {value}.");
    found.map(Some).ok_or_else(|| Fault::new("UserErrorSettings", message()))
}

/// A member of exactly one character; an empty text means none.
fn character(value: &Value, name: &str) -> Result<Option<Option<char>>, Fault> {
    let Some(text) = text(value, name) else { return Ok(None) };
    let mut characters = text.chars();
    let found = characters.next();
    if characters.next().is_some() {
        let message = format!("\"{name}\" must be one character, not \"{text}\".");
        return Err(Fault::new("UserErrorSettings", message));
    }
    Ok(Some(found))
}

fn delimiter(value: &Value, name: &str) -> Result<Option<String>, Fault> {
    match text(value, name) {
        None => Ok(None),
        Some("") => Err(refuse_member("dataset", &format!("an empty {name}"))),
        Some(text) => Ok(Some(text.to_owned())),
    }
}

fn encoding(value: &Value) -> String {
    text(value, "encodingName").filter(|name| !name.is_empty()).unwrap_or("utf-8").to_ascii_lowercase()
}

/// `TextFormat` of version 1 and of the old model of version 2.
fn text_format(value: &Value) -> Result<TextFormat, Fault> {
    let mut format = TextFormat::default();
    format.column_delimiter = delimiter(value, "columnDelimiter")?.unwrap_or(format.column_delimiter);
    format.row_delimiter = delimiter(value, "rowDelimiter")?;
    format.escape_char = character(value, "escapeChar")?.flatten();
    format.quote_char = character(value, "quoteChar")?.flatten();
    if format.escape_char.is_some() && format.quote_char.is_some() {
        return Err(Fault::new("UserErrorSettings", "A TextFormat has either escapeChar or quoteChar, not both.")
            .remedy("Leave one of them out, or use a dataset of type DelimitedText."));
    }
    if let Some(null) = text(value, "nullValue") {
        format.null_values = vec![null.to_owned()];
    }
    format.encoding = encoding(value);
    format.first_row_as_header = get(value, "firstRowAsHeader").and_then(truth).unwrap_or(false);
    format.skip_lines = number(value, "skipLineCount")?.unwrap_or(0);
    format.empty_as_null = get(value, "treatEmptyAsNull").and_then(truth).unwrap_or(true);
    Ok(format)
}

/// `DelimitedText` of version 2.
fn delimited_text(dataset: &BoundDataset) -> Result<TextFormat, Fault> {
    let value = &dataset.members;
    let codec = text(value, "compressionCodec").unwrap_or("none");
    if !codec.is_empty() && !codec.eq_ignore_ascii_case("none") {
        return Err(refuse_member("dataset", &format!("compressionCodec {codec}")));
    }
    let quote_char = character(value, "quoteChar")?.unwrap_or(Some('"'));
    let escape_char = character(value, "escapeChar")?.unwrap_or(Some('\\'));
    if escape_char.is_none() && quote_char.is_some() {
        let message = format!("The dataset \"{}\" has a quoteChar but an empty escapeChar.", dataset.name);
        return Err(Fault::new("UserErrorSettings", message)
            .remedy("Set escapeChar to \"\\\\\", or to the quoteChar itself to double quotes."));
    }
    Ok(TextFormat {
        column_delimiter: delimiter(value, "columnDelimiter")?.unwrap_or(",".to_owned()),
        row_delimiter: delimiter(value, "rowDelimiter")?,
        escape_char,
        quote_char,
        null_values: vec![text(value, "nullValue").unwrap_or_default().to_owned()],
        encoding: encoding(value),
        first_row_as_header: get(value, "firstRowAsHeader").and_then(truth).unwrap_or(false),
        skip_lines: 0,
        empty_as_null: false,
        quote_all: false,
    })
}

fn parquet(dataset: &BoundDataset) -> Result<ParquetFormat, Fault> {
    let codec = text(&dataset.members, "compressionCodec").unwrap_or("snappy").to_ascii_lowercase();
    let compression = match codec.as_str() {
        "none" | "uncompressed" => ParquetCompression::None,
        "snappy" | "" => ParquetCompression::Snappy,
        "zstd" => ParquetCompression::Zstd,
        _ => return Err(refuse_member("dataset", &format!("compressionCodec {codec}"))),
    };
    Ok(ParquetFormat { compression })
}
