//! Which Arrow type carries which kind. The kind itself travels in the field's metadata.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use dmg_protocol::Kind;

use crate::{Column, moment};

/// Field metadata: the kind.
pub const KIND_KEY: &str = "dmg.kind";
/// Field metadata: the source's own type name.
pub const TYPE_KEY: &str = "dmg.type";

/// The carrier of a kind.
pub fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Boolean => DataType::Boolean,
        Kind::Int8 => DataType::Int8,
        Kind::Int16 => DataType::Int16,
        Kind::Int32 => DataType::Int32,
        Kind::Int64 => DataType::Int64,
        Kind::UInt8 => DataType::UInt8,
        Kind::UInt16 => DataType::UInt16,
        Kind::UInt32 => DataType::UInt32,
        Kind::UInt64 => DataType::UInt64,
        Kind::Float32 => DataType::Float32,
        Kind::Float64 => DataType::Float64,
        Kind::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
        Kind::DecimalText | Kind::Text | Kind::Json | Kind::EngineText => DataType::Utf8,
        Kind::Bytes => DataType::Binary,
        Kind::Date => DataType::Date32,
        Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        Kind::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Time => DataType::Time64(TimeUnit::Microsecond),
        Kind::TimestampNanos | Kind::InstantNanos => moment::nanos_type(),
        Kind::TimeNanos => DataType::Time64(TimeUnit::Nanosecond),
        Kind::InstantWithOffset => moment::offset_type(),
        Kind::Uuid => DataType::FixedSizeBinary(16),
    }
}

/// The Arrow field of a column.
pub fn field(column: &Column) -> Field {
    Field::new(&column.name, data_type(column.kind), column.nullable).with_metadata(
        [(KIND_KEY.to_owned(), column.kind.to_string()), (TYPE_KEY.to_owned(), column.type_name.clone())].into(),
    )
}

/// The Arrow schema of columns.
pub fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The column of an Arrow field: by its metadata where a copy of ours wrote it, else by its type. `None` for types
/// no kind covers.
pub fn column_of(field: &Field) -> Option<Column> {
    let noted = field.metadata().get(KIND_KEY).and_then(|text| text.parse::<Kind>().ok());
    let kind = match noted {
        Some(kind) if data_type(kind) == *field.data_type() => kind,
        _ => match field.data_type() {
            DataType::Boolean => Kind::Boolean,
            DataType::Int8 => Kind::Int8,
            DataType::Int16 => Kind::Int16,
            DataType::Int32 => Kind::Int32,
            DataType::Int64 => Kind::Int64,
            DataType::UInt8 => Kind::UInt8,
            DataType::UInt16 => Kind::UInt16,
            DataType::UInt32 => Kind::UInt32,
            DataType::UInt64 => Kind::UInt64,
            DataType::Float32 => Kind::Float32,
            DataType::Float64 => Kind::Float64,
            DataType::Decimal128(precision, scale) if *scale >= 0 => {
                Kind::Decimal { precision: *precision, scale: *scale as u8 }
            }
            DataType::Utf8 => Kind::Text,
            DataType::Binary => Kind::Bytes,
            DataType::Date32 => Kind::Date,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Kind::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Kind::Instant,
            DataType::Time64(TimeUnit::Microsecond) => Kind::Time,
            DataType::Time64(TimeUnit::Nanosecond) => Kind::TimeNanos,
            DataType::FixedSizeBinary(16) => Kind::Uuid,
            _ => return None,
        },
    };
    let type_name = field.metadata().get(TYPE_KEY).cloned().unwrap_or_else(|| field.data_type().to_string());
    Some(Column { name: field.name().clone(), kind, type_name, nullable: field.is_nullable(), key: false })
}
