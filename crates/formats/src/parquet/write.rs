//! Row groups encoded on their own, and the file they are copied into.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use dmg_connector::{Column, FileEncoder, Fragment, FragmentEncoder, Result};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, Encoding, Type as Physical};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::SchemaDescriptor;

use super::read::longer;
use super::{adapt, dictionary, metadata, schema};
use crate::fault;

/// Encoded bytes of a data page. Larger than usual: fewer pages, less overhead, and nothing skips pages here.
const PAGE_BYTES: usize = 1024 * 1024;
/// Bytes a dictionary may have before the column falls back to plain values.
const DICTIONARY_BYTES: usize = 512 * 1024;
/// A value longer than this is long: no more copies of it may be in memory than must be.
const LONG_BYTES: usize = 4 * 1024 * 1024;
/// Rows handed to a column's encoder at once.
const WRITE_ROWS: usize = 4096;

/// What all fragments of a file share.
struct Layout {
    columns: Vec<Column>,
    schema: SchemaRef,
    parquet: SchemaDescriptor,
    compression: Compression,
    note: KeyValue,
}

impl Layout {
    /// The columns of a batch as they are written.
    fn written(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, array) in self.columns.iter().zip(batch.columns()) {
            arrays.push(adapt::write(array, column.kind).map_err(|row| {
                let class = "a moment outside the years that nanoseconds can say";
                fault::value("A row group", row as u64 + 1, &column.name, class)
            })?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|error| fault::internal(format!("A batch is not as it was planned: {error}.")))
    }

    fn properties(&self) -> WriterPropertiesBuilder {
        WriterProperties::builder()
            .set_created_by(concat!("dmg version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(self.compression)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_data_page_size_limit(PAGE_BYTES)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_write_batch_size(WRITE_ROWS)
            .set_data_page_row_count_limit(usize::MAX)
            .set_max_row_group_row_count(None)
            .set_key_value_metadata(Some(vec![self.note.clone()]))
    }
}

/// Writes one Parquet file.
pub(super) struct Encoder {
    layout: Arc<Layout>,
    file: SerializedFileWriter<Vec<u8>>,
}

impl Encoder {
    pub(super) fn new(columns: &[Column], compression: Compression) -> Result<Self> {
        let layout = Layout {
            columns: columns.to_vec(),
            schema: Arc::new(schema::written(columns)),
            parquet: schema::parquet_schema(columns)?,
            compression,
            note: schema::note(columns),
        };
        let file =
            SerializedFileWriter::new(Vec::new(), layout.parquet.root_schema_ptr(), layout.properties().build().into())
                .map_err(encoding)?;
        Ok(Encoder { layout: Arc::new(layout), file })
    }

    /// The bytes produced since the last call.
    fn drain(&mut self) -> Result<Bytes> {
        self.file.flush().map_err(|error| encoding(error.into()))?;
        Ok(std::mem::take(self.file.inner_mut()).into())
    }
}

impl FileEncoder for Encoder {
    fn fragment(&self) -> Result<Box<dyn FragmentEncoder>> {
        Ok(Box::new(RowGroup { layout: self.layout.clone(), writer: None, long: false, rows: 0 }))
    }

    fn start(&mut self) -> Result<Bytes> {
        self.drain()
    }

    fn append(&mut self, fragment: Fragment) -> Result<Bytes> {
        if fragment.rows == 0 {
            return Ok(Bytes::new());
        }
        let footer = ParquetMetaDataReader::new().parse_and_finish(&fragment.bytes).map_err(encoding)?;
        self.file.inner_mut().reserve(fragment.bytes.len());
        for group in footer.row_groups() {
            let mut target = self.file.next_row_group().map_err(encoding)?;
            for chunk in group.columns() {
                let close = ColumnCloseResult {
                    bytes_written: chunk.compressed_size() as u64,
                    rows_written: group.num_rows() as u64,
                    metadata: chunk.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                target.append_column(&fragment.bytes, close).map_err(encoding)?;
            }
            target.close().map_err(encoding)?;
        }
        self.drain()
    }

    fn finish(&mut self) -> Result<Bytes> {
        self.file.finish().map_err(encoding)?;
        self.drain()
    }
}

/// Encodes one row group as a file of its own. Whether a column gets a dictionary, and whether it is made for long values,
/// is decided by the first batch.
struct RowGroup {
    layout: Arc<Layout>,
    writer: Option<ArrowWriter<Vec<u8>>>,
    /// Whether it is made for long values.
    long: bool,
    rows: u64,
}

impl RowGroup {
    fn open(&self, first: Option<&RecordBatch>) -> Result<ArrowWriter<Vec<u8>>> {
        let mut properties = self.layout.properties();
        for (index, column) in self.layout.parquet.columns().iter().enumerate() {
            let path = column.path().clone();
            if column.physical_type() == Physical::BYTE_ARRAY {
                // Comparing every text costs a sixth of the encoding, and bounds of texts hardly ever skip a group.
                properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
            }
            let long = first.is_some_and(|batch| longer(batch.column(index), LONG_BYTES).is_some());
            if long {
                // Made into a page when the group ends: then the batch it comes from has gone.
                properties = properties.set_column_data_page_size_limit(path.clone(), usize::MAX);
            }
            if long || !first.is_some_and(|batch| dictionary::pays(batch.column(index))) {
                let encoding = match column.physical_type() {
                    // Of all encodings, only this one has no second copy of what is long.
                    Physical::BYTE_ARRAY if long => Encoding::PLAIN,
                    Physical::INT32 | Physical::INT64 => Encoding::DELTA_BINARY_PACKED,
                    Physical::BYTE_ARRAY => Encoding::DELTA_LENGTH_BYTE_ARRAY,
                    _ => Encoding::PLAIN,
                };
                properties =
                    properties.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, encoding);
            }
        }
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(self.layout.parquet.clone());
        ArrowWriter::try_new_with_options(Vec::new(), self.layout.schema.clone(), options).map_err(encoding)
    }
}

impl FragmentEncoder for RowGroup {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = self.layout.written(batch)?;
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                self.long = is_long(&batch);
                self.open(Some(&batch))?
            }
        };
        writer.write(&batch).map_err(encoding)?;
        self.writer = Some(writer);
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn ends_before(&self, batch: &RecordBatch) -> bool {
        self.writer.is_some() && !self.long && is_long(batch)
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn size(&self) -> usize {
        // With very many columns, or very long values, what the encoders hold is far more than what they will write.
        self.writer.as_ref().map_or(0, |writer| writer.in_progress_size().max(writer.memory_size() / 2))
    }

    fn finish(self: Box<Self>) -> Result<Fragment> {
        let writer = match self.writer {
            Some(writer) => writer,
            None => self.open(None)?,
        };
        let bytes = writer.into_inner().map_err(encoding)?;
        Ok(Fragment { rows: self.rows, bytes: bytes.into() })
    }
}

fn is_long(batch: &RecordBatch) -> bool {
    batch.columns().iter().any(|column| longer(column, LONG_BYTES).is_some())
}

fn encoding(error: ParquetError) -> dmg_connector::Error {
    fault::internal(format!("Rows cannot be encoded as Parquet: {}.", metadata::words(&error)))
}
