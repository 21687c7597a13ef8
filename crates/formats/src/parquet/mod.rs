//! Apache Parquet. A fragment is a whole Parquet file of one row group in memory; its column chunks are copied into
//! the target file as they are, so a file is encoded on all cores and never twice.

mod adapt;
mod dictionary;
mod int96;
mod metadata;
mod outline;
mod read;
mod schema;
mod write;

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{
    BatchLimits, BatchStream, Column, FileEncoder, FileShape, Format, Fragment, Holding, RangeReader, Result,
};
use dmg_protocol::job::{DeclaredColumn, ParquetCompression, ParquetFormat};
use dmg_protocol::{Fault, Kind, PartPlan, Verdict};
use parquet::basic::{Compression, ZstdLevel};

/// Rows of a row group.
const FRAGMENT_ROWS: u64 = 128 * 1024;
/// Encoded bytes of a row group.
const FRAGMENT_BYTES: usize = 16 * 1024 * 1024;
/// What 64 bits of nanoseconds can say.
const SPAN: &str = "nanoseconds can say the years 1678 to 2261 only";

/// The format with its settings.
pub(crate) struct Parquet {
    compression: Compression,
}

impl Parquet {
    pub(crate) fn new(settings: &ParquetFormat) -> Self {
        let compression = match settings.compression {
            ParquetCompression::None => Compression::UNCOMPRESSED,
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        Parquet { compression }
    }
}

#[async_trait]
impl Format for Parquet {
    fn name(&self) -> &'static str {
        "parquet"
    }

    fn extension(&self) -> &'static str {
        ".parquet"
    }

    fn hold(&self, column: &Column) -> Holding {
        let held = |kind| Holding::exact(kind, type_name(kind));
        match column.kind {
            Kind::TimestampNanos | Kind::InstantNanos => Holding {
                verdict: if column.type_name == type_name(column.kind) { Verdict::Exact } else { Verdict::Checked },
                reason: Some(SPAN.to_owned()).filter(|_| column.type_name != type_name(column.kind)),
                ..held(column.kind)
            },
            // The format has no such type; its text says all of it.
            Kind::InstantWithOffset => held(Kind::Text),
            kind => held(kind),
        }
    }

    fn span(&self, holding: &Holding) -> Option<(i128, i128)> {
        let nanos = matches!(holding.kind, Kind::TimestampNanos | Kind::InstantNanos);
        nanos.then(|| (i128::from(i64::MIN), i128::from(i64::MAX)))
    }

    fn fragment_limits(&self) -> (u64, usize) {
        (FRAGMENT_ROWS, FRAGMENT_BYTES)
    }

    fn encoder(&self, columns: &[Column]) -> Result<Box<dyn FileEncoder>> {
        Ok(Box::new(write::Encoder::new(columns, self.compression)?))
    }

    async fn inspect(&self, file: Arc<dyn RangeReader>, declared: &[DeclaredColumn]) -> Result<FileShape> {
        let metadata = metadata::fetch(file.as_ref()).await?;
        let shape = read::shape(&metadata, &file.label())?;
        let missing = declared.iter().find(|declared| !shape.columns.iter().any(|column| column.name == declared.name));
        if let Some(declared) = missing {
            let message =
                format!("The file {} has no column \"{}\", which the dataset declares.", file.label(), declared.name);
            return Err(Fault::new("UserErrorColumnMissing", message).with("column", &declared.name).into());
        }
        Ok(shape)
    }

    fn takes_room_at_once(&self) -> bool {
        true
    }

    async fn read(
        &self,
        file: Arc<dyn RangeReader>,
        shape: &FileShape,
        part: &PartPlan,
        limits: BatchLimits,
    ) -> Result<BatchStream> {
        read::part(file, shape, part, limits).await
    }

    fn decode(&self, columns: &[Column], fragment: &Fragment) -> Result<Vec<RecordBatch>> {
        read::fragment(columns, fragment)
    }
}

/// What Parquet calls the type that holds a kind.
fn type_name(kind: Kind) -> String {
    match kind {
        Kind::Boolean => "BOOLEAN",
        Kind::Int8 => "INT(8,true)",
        Kind::Int16 => "INT(16,true)",
        Kind::Int32 => "INT32",
        Kind::Int64 => "INT64",
        Kind::UInt8 => "INT(8,false)",
        Kind::UInt16 => "INT(16,false)",
        Kind::UInt32 => "INT(32,false)",
        Kind::UInt64 => "INT(64,false)",
        Kind::Float32 => "FLOAT",
        Kind::Float64 => "DOUBLE",
        Kind::Decimal { precision, scale } => return format!("DECIMAL({precision},{scale})"),
        Kind::DecimalText | Kind::Text | Kind::EngineText | Kind::InstantWithOffset => "STRING",
        Kind::Bytes => "BYTE_ARRAY",
        Kind::Date => "DATE",
        Kind::Timestamp => "TIMESTAMP(MICROS,false)",
        Kind::Instant => "TIMESTAMP(MICROS,true)",
        Kind::Time => "TIME(MICROS,false)",
        Kind::TimestampNanos => "TIMESTAMP(NANOS,false)",
        Kind::InstantNanos => "TIMESTAMP(NANOS,true)",
        Kind::TimeNanos => "TIME(NANOS,false)",
        Kind::Uuid => "UUID",
        Kind::Json => "JSON",
    }
    .to_owned()
}
