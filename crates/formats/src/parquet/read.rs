//! Row groups to batches: from a store by ranges, or from a fragment just encoded.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_schema::DataType;
use bytes::{Buf, Bytes};
use dmg_connector::{BatchLimits, BatchStream, Column, Error, FileShape, Fragment, RangeReader, Result, Room};
use dmg_protocol::{Fault, PartPlan};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Type as Physical;
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use serde::{Deserialize, Serialize};

use super::int96::Micros;
use super::{adapt, metadata, outline, schema};
use crate::fault;

/// A row group is held in memory while it is read; its compressed bytes may be this many times the longest value.
const ROW_GROUP_VALUES: u64 = 2;
/// The longest value is this part of the budget.
const BUDGET_VALUES: usize = 4;
/// What a page may take beyond the budget: less than a process may.
const BEYOND_BYTES: usize = 32 * 1024 * 1024;
/// Rows of a batch decoded from a fragment.
const FRAGMENT_BATCH_ROWS: usize = 32 * 1024;

/// What a part is: one row group, counted from 0.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartSpec {
    row_group: usize,
    first_row: u64,
}

/// Columns and parts of a file.
pub(super) fn shape(metadata: &ArrowReaderMetadata, label: &str) -> Result<FileShape> {
    let file = metadata.metadata().file_metadata();
    let columns = schema::columns(file, metadata.schema().fields(), label)?;
    let mut first_row = 0;
    let mut parts = Vec::new();
    let groups = metadata.metadata().row_groups().iter().enumerate();
    for (index, group) in groups.filter(|(_, group)| group.num_rows() > 0) {
        let spec = PartSpec { row_group: index, first_row };
        parts.push(PartPlan {
            index: parts.len() as u32,
            label: format!("row group {}", index + 1),
            spec: serde_json::to_value(spec).expect("two numbers are plain JSON"),
        });
        first_row += group.num_rows().unsigned_abs();
    }
    if parts.is_empty() {
        parts.push(PartPlan { index: 0, label: "no row group".to_owned(), spec: serde_json::Value::Null });
    }
    Ok(FileShape { columns, parts, rows: Some(first_row) })
}

/// Reads one row group.
pub(super) async fn part(
    file: Arc<dyn RangeReader>,
    shape: &FileShape,
    part: &PartPlan,
    limits: BatchLimits,
) -> Result<BatchStream> {
    if part.spec.is_null() {
        return Ok(Box::pin(futures::stream::empty()));
    }
    let label = file.label();
    let spec: PartSpec = serde_json::from_value(part.spec.clone())
        .map_err(|error| fault::internal(format!("The part \"{}\" of a plan cannot be read: {error}.", part.label)))?;
    let metadata = metadata::fetch(file.as_ref()).await?;
    let found = schema::columns(metadata.metadata().file_metadata(), metadata.schema().fields(), &label)?;
    let Some(group) = metadata.metadata().row_groups().get(spec.row_group).filter(|_| found == shape.columns) else {
        let message = format!("The file {label} is not the one that was planned for.");
        return Err(Fault::new("UserErrorSourceChanged", message).into());
    };
    let most = limits.value_bytes as u64 * ROW_GROUP_VALUES;
    let mut room = Room::here();
    let chunks = fetch(file.as_ref(), group, &label, most, &mut room).await?;
    let (column, page, copies) = longest_page(&chunks, group).map_err(|what| fault::file(&label, what))?;
    let beside = limits.value_bytes.saturating_mul(BUDGET_VALUES).saturating_add(BEYOND_BYTES);
    // A value of it may be as long as a value may be.
    let decoded = page.saturating_mul(copies).saturating_add(page.min(limits.value_bytes));
    let needed = chunks.bytes().saturating_add(decoded);
    if needed > beside {
        let name = shape.columns.get(column).map_or("", |column| column.name.as_str());
        let (label, part) = (&label, &part.label);
        let message = format!(
            "Column \"{name}\" in {part} of file {label} has a page of {page} bytes, too large for the memory budget."
        );
        let remedy = "Raise the memory budget, or write the file with smaller pages, or without a dictionary.";
        return Err(Fault::new("UserErrorBudgetExceeded", message).remedy(remedy).with("column", name).into());
    }
    // Beside the bytes as they came, what is in the page is in memory once more as values.
    room.take(chunks.bytes() + (copies + 1) * page).await;
    let repeated = metadata::guarded(|| longest_repeated(&chunks, group)).map_err(|what| fault::file(&label, what))?;
    let rows = limits.rows.min(rows_for(group, limits.bytes, repeated)).max(1);
    let open = || {
        let micros =
            Micros::open(&chunks, &metadata, spec.row_group, rows).map_err(|error| metadata::damaged(&error))?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks, metadata.clone());
        let reader = builder.with_row_groups(vec![spec.row_group]).with_batch_size(rows).build();
        Ok((reader.map_err(|error| metadata::damaged(&error))?, micros))
    };
    let (reader, micros) = metadata::guarded(open).map_err(|what| fault::file(&label, what))?;
    let columns = shape.columns.clone();
    let value_bytes = limits.value_bytes;
    let rows_left = usize::try_from(group.num_rows()).unwrap_or(usize::MAX);
    let row = spec.first_row;
    let decoder = Decoder { reader: Some(reader), micros, columns, label, row, rows_left, value_bytes, _room: room };
    Ok(Box::pin(futures::stream::try_unfold(decoder, |mut decoder| async move {
        Ok(decoder.next()?.map(|batch| (batch, decoder)))
    })))
}

/// Rows that fill the limit, by the group's uncompressed bytes or if each row has the longest of the values that are
/// stored once for many rows.
fn rows_for(group: &RowGroupMetaData, bytes: usize, repeated: u64) -> usize {
    let width = group.total_byte_size().max(0) as u64 / group.num_rows().max(1) as u64;
    usize::try_from(bytes as u64 / width.max(repeated).max(1)).unwrap_or(usize::MAX)
}

/// Bytes of the longest values of all dictionaries together: what a row may have that the file's own sizes do not tell.
fn longest_repeated(chunks: &Chunks, group: &RowGroupMetaData) -> std::result::Result<u64, String> {
    let mut longest = 0;
    for column in group.columns() {
        if column.column_type() != Physical::BYTE_ARRAY || column.dictionary_page_offset().is_none() {
            continue;
        }
        let rows = usize::try_from(group.num_rows()).unwrap_or(usize::MAX);
        let first = SerializedPageReader::new(Arc::new(chunks.clone()), column, rows, None)
            .and_then(|mut pages| pages.get_next_page())
            .map_err(|error| metadata::damaged(&error))?;
        let Some(Page::DictionaryPage { buf, .. }) = first else { continue };
        // Each value behind its length. What is not as it should be, the decoder itself will name.
        let (mut rest, mut most) = (buf.as_ref(), 0);
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length);
            let Some(after) = after.get(length as usize..) else { break };
            (rest, most) = (after, most.max(length));
        }
        longest += u64::from(most);
    }
    Ok(longest)
}

/// The page that takes most memory: its column, its bytes when it is decompressed, and how often the decoder holds them,
/// which copies dictionaries. The decoder would make room for as many values as a dictionary announces. What lies outside of
/// the row group, it will name itself.
fn longest_page(chunks: &Chunks, group: &RowGroupMetaData) -> std::result::Result<(usize, usize, usize), &'static str> {
    let mut longest = (0, 0, 1);
    for (index, column) in group.columns().iter().enumerate() {
        let width = match column.column_type() {
            Physical::INT32 | Physical::FLOAT | Physical::BYTE_ARRAY => 4,
            Physical::INT64 | Physical::DOUBLE => 8,
            Physical::INT96 => 12,
            Physical::FIXED_LEN_BYTE_ARRAY => usize::try_from(column.column_descr().type_length()).unwrap_or(1).max(1),
            Physical::BOOLEAN => 1,
        };
        let (start, length) = column.byte_range();
        let (mut at, mut values) = (start, usize::try_from(column.num_values()).unwrap_or(0));
        while at < start + length
            && values > 0
            && let Ok(rest) = chunks.from(at)
        {
            let page = outline::page(&rest).map_err(|_| "the header of a page in it is damaged")?;
            if page.dictionary && page.values > page.bytes / width {
                return Err("a dictionary in it announces more values than it has room for");
            }
            values = values.saturating_sub(if page.dictionary { 0 } else { page.values });
            let copies = if page.dictionary { 2 } else { 1 };
            if page.bytes.saturating_mul(copies) > longest.1 * longest.2 {
                longest = (index, page.bytes, copies);
            }
            at = at.saturating_add(page.next as u64);
        }
    }
    Ok(longest)
}

/// Decodes a fragment again.
pub(super) fn fragment(columns: &[Column], fragment: &Fragment) -> Result<Vec<RecordBatch>> {
    let differs = |what: String| {
        Error::from(Fault::new(
            "SystemErrorVerification",
            format!("An encoded row group cannot be read again: {what}."),
        ))
    };
    if fragment.rows == 0 {
        return Ok(Vec::new());
    }
    let bytes = fragment.bytes.clone();
    let open = || {
        ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, metadata::options())
            .and_then(|builder| builder.with_batch_size(FRAGMENT_BATCH_ROWS).build())
            .map_err(|error| metadata::damaged(&error))
    };
    let reader = metadata::guarded(open).map_err(differs)?;
    let label = "just encoded".to_owned();
    let columns = columns.to_vec();
    // All that is there, whatever the encoder counted.
    let (reader, rows_left, value_bytes) = (Some(reader), usize::MAX, usize::MAX);
    let mut decoder =
        Decoder { reader, micros: None, columns, label, row: 0, rows_left, value_bytes, _room: Room::default() };
    let mut batches = Vec::with_capacity(fragment.rows as usize / FRAGMENT_BATCH_ROWS + 1);
    while let Some(batch) = decoder.next().map_err(|error| differs(error.fault.message))? {
        batches.push(batch);
    }
    Ok(batches)
}

/// Yields the batches of one row group in the carriers of the columns' kinds.
struct Decoder {
    /// Gone with the last row, and with it the bytes that were read.
    reader: Option<ParquetRecordBatchReader>,
    micros: Option<Micros>,
    columns: Vec<Column>,
    label: String,
    row: u64,
    rows_left: usize,
    value_bytes: usize,
    /// Kept until the last batch has gone.
    _room: Room,
}

impl Decoder {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        let next = || reader.next().transpose().map_err(|error| metadata::damaged(&error));
        let Some(batch) = metadata::guarded(next).map_err(|what| fault::file(&self.label, what))? else {
            return Ok(None);
        };
        if batch.num_columns() != self.columns.len() {
            return Err(fault::file(&self.label, "it has another number of columns than planned"));
        }
        let mut arrays = batch.columns().to_vec();
        if let Some(micros) = &mut self.micros {
            metadata::guarded(|| micros.join(&mut arrays)).map_err(|what| fault::file(&self.label, what))?;
        }
        let mut adapted = Vec::with_capacity(self.columns.len());
        for (column, array) in self.columns.iter().zip(&arrays) {
            let array = adapt::adapt(array, column.kind).map_err(|(row, class)| {
                fault::value(&format!("File {}", self.label), self.row + row as u64 + 1, &column.name, class)
            })?;
            if let Some(row) = longer(&array, self.value_bytes) {
                let row = self.row + row as u64 + 1;
                return Err(fault::too_large(&self.label, row, &column.name, self.value_bytes));
            }
            adapted.push(array);
        }
        self.row += batch.num_rows() as u64;
        self.rows_left = self.rows_left.saturating_sub(batch.num_rows());
        if self.rows_left == 0 {
            (self.reader, self.micros) = (None, None);
        }
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(dmg_connector::schema(&self.columns), adapted, &options)
            .map(Some)
            .map_err(|error| fault::file(&self.label, metadata::damaged(&error)))
    }
}

/// The first row whose value is longer than the limit.
pub(super) fn longer(array: &ArrayRef, limit: usize) -> Option<usize> {
    let offsets = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().offsets(),
        DataType::Binary => array.as_binary::<i32>().offsets(),
        _ => return None,
    };
    let all = offsets.last()? - offsets.first()?;
    if all as usize <= limit {
        return None;
    }
    offsets.windows(2).position(|pair| (pair[1] - pair[0]) as usize > limit)
}

/// The column chunks of one row group, in memory.
#[derive(Clone)]
struct Chunks(Vec<(u64, Bytes)>, u64);

async fn fetch(
    file: &dyn RangeReader,
    group: &RowGroupMetaData,
    label: &str,
    most: u64,
    room: &mut Room,
) -> Result<Chunks> {
    let ranges: Vec<Range<u64>> = group
        .columns()
        .iter()
        .map(|column| {
            let (start, length) = column.byte_range();
            start..start + length
        })
        .collect();
    let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    if bytes > most {
        let message = format!("A row group of file {label} has {bytes} bytes, and the memory budget leaves {most}.");
        return Err(Fault::new("UserErrorBudgetExceeded", message)
            .remedy("Raise the memory budget, or write the file with smaller row groups.")
            .into());
    }
    room.take(usize::try_from(bytes).unwrap_or(usize::MAX)).await;
    // Writers put the chunks of a row group one after the other: one request then fetches them all.
    let start = ranges.iter().map(|range| range.start).min().unwrap_or(0);
    let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
    let size = file.size();
    if end - start <= bytes + bytes / 8 {
        return Ok(Chunks(vec![(start, file.read(start..end).await?)], size));
    }
    let mut chunks = Vec::with_capacity(ranges.len());
    for range in ranges {
        chunks.push((range.start, file.read(range).await?));
    }
    Ok(Chunks(chunks, size))
}

impl Chunks {
    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    fn from(&self, start: u64) -> parquet::errors::Result<Bytes> {
        self.0
            .iter()
            .find(|(first, bytes)| (*first..first + bytes.len() as u64).contains(&start))
            .map(|(first, bytes)| bytes.slice((start - first) as usize..))
            .ok_or_else(|| ParquetError::EOF("a page lies outside of its row group".to_owned()))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.1
    }
}

impl ChunkReader for Chunks {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF("a page ends outside of its row group".to_owned()));
        }
        Ok(bytes.slice(..length))
    }
}
