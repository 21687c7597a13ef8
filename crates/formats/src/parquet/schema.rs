//! Kinds in a Parquet file: native logical types for every reader, and a note of ours for what those cannot say.

use std::sync::Arc;

use arrow_schema::{Fields, Schema};
use dmg_connector::{Column, Result, data_type};
use dmg_protocol::Kind;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::file::metadata::{FileMetaData, KeyValue};
use parquet::schema::types::{SchemaDescriptor, Type};
use serde::{Deserialize, Serialize};

use super::adapt;
use crate::fault;

/// Key of the note in the file's metadata: a JSON array, one entry per column.
const NOTE_KEY: &str = "dmg.columns";

#[derive(Serialize, Deserialize)]
struct Note {
    name: String,
    kind: Kind,
    #[serde(rename = "type")]
    type_name: String,
}

/// The Parquet schema of columns.
pub(super) fn parquet_schema(columns: &[Column]) -> Result<SchemaDescriptor> {
    let build = || {
        let converted = ArrowSchemaConverter::new().convert(&written(columns))?;
        let fields = columns
            .iter()
            .zip(converted.root_schema().get_fields())
            .map(|(column, field)| {
                let repetition = if column.nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
                let typed = |physical, logical, length| {
                    Type::primitive_type_builder(&column.name, physical)
                        .with_repetition(repetition)
                        .with_logical_type(Some(logical))
                        .with_length(length)
                        .build()
                        .map(Arc::new)
                };
                match column.kind {
                    Kind::Uuid => typed(Physical::FIXED_LEN_BYTE_ARRAY, LogicalType::Uuid, 16),
                    Kind::Json => typed(Physical::BYTE_ARRAY, LogicalType::Json, -1),
                    _ => Ok(field.clone()),
                }
            })
            .collect::<parquet::errors::Result<Vec<_>>>()?;
        let root = Type::group_type_builder("schema").with_fields(fields).build()?;
        Ok(SchemaDescriptor::new(Arc::new(root)))
    };
    build().map_err(|error: parquet::errors::ParquetError| {
        fault::internal(format!("No Parquet schema can be made of the columns: {error}."))
    })
}

/// The Arrow schema of what is written.
pub(super) fn written(columns: &[Column]) -> Schema {
    let field = |column| dmg_connector::field(column).with_data_type(adapt::written(column.kind));
    Schema::new(columns.iter().map(field).collect::<Vec<_>>())
}

/// The note of columns.
pub(super) fn note(columns: &[Column]) -> KeyValue {
    let notes: Vec<_> = columns
        .iter()
        .map(|column| Note { name: column.name.clone(), kind: column.kind, type_name: column.type_name.clone() })
        .collect();
    let text = serde_json::to_string(&notes).expect("names and kinds are plain JSON");
    KeyValue::new(NOTE_KEY.to_owned(), text)
}

/// The columns of a file: by the note where a copy of ours wrote it and it fits, else by the native types.
pub(super) fn columns(file: &FileMetaData, fields: &Fields, label: &str) -> Result<Vec<Column>> {
    let noted = file.key_value_metadata().into_iter().flatten().find(|entry| entry.key == NOTE_KEY);
    let notes: Vec<Note> = noted
        .and_then(|entry| entry.value.as_deref())
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let descriptors = file.schema_descr().root_schema().get_fields();
    if descriptors.len() != fields.len() {
        return Err(fault::file(label, "its schema contradicts itself"));
    }
    fields
        .iter()
        .zip(descriptors)
        .enumerate()
        .map(|(index, (field, descriptor))| {
            let logical = descriptor.get_basic_info().logical_type_ref();
            let Some(native) = adapt::kind_of(field.data_type(), logical) else {
                let message = format!(
                    "The file {label} holds column \"{}\" as {}, which cannot be copied yet.",
                    field.name(),
                    field.data_type()
                );
                return Err(fault::not_supported(message).with("column", field.name()).into());
            };
            let note = notes.get(index).filter(|note| note.name == *field.name());
            let old = descriptor.is_primitive() && descriptor.get_physical_type() == Physical::INT96;
            // A decimal that says of itself it were a moment is not believed.
            let nanos = |kind| matches!(kind, Kind::TimestampNanos | Kind::InstantNanos);
            let note = note.filter(|note| {
                note.kind == native || data_type(note.kind) == data_type(native) && !nanos(native) && !nanos(note.kind)
            });
            Ok(Column {
                name: field.name().clone(),
                kind: note.map_or(native, |note| note.kind),
                type_name: match note {
                    Some(note) => note.type_name.clone(),
                    // Its moments are of more years than the type of today can say.
                    None if old => "INT96".to_owned(),
                    None => super::type_name(native),
                },
                nullable: field.is_nullable(),
                key: false,
            })
        })
        .collect()
}
