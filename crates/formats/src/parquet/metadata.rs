//! The footer of a Parquet file, fetched by ranges and bounded before it is believed.

use bytes::Bytes;
use dmg_connector::{RangeReader, Result};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::outline;
use crate::fault;

/// A footer larger than this is not believed.
const FOOTER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes fetched from the end at first: enough for the footer of most files.
const FOOTER_BYTES_GUESS: u64 = 64 * 1024;
/// Footer length and magic.
const TAIL_BYTES: u64 = 8;
const MAGIC: &[u8] = b"PAR1";

/// The metadata of a file.
pub(super) async fn fetch(file: &dyn RangeReader) -> Result<ArrowReaderMetadata> {
    let (size, label) = (file.size(), file.label());
    if size < TAIL_BYTES + MAGIC.len() as u64 {
        return Err(fault::file(&label, "it is too short for a Parquet file"));
    }
    let end = file.read(size.saturating_sub(FOOTER_BYTES_GUESS)..size).await?;
    let tail = end.len() - TAIL_BYTES as usize;
    if !end.ends_with(MAGIC) {
        return Err(fault::file(&label, "it is no Parquet file, or its end is missing"));
    }
    let length: [u8; 4] = end[tail..tail + 4].try_into().expect("four bytes are four bytes");
    let length = u64::from(u32::from_le_bytes(length));
    if length > FOOTER_BYTES_MAX || length + TAIL_BYTES + MAGIC.len() as u64 > size {
        return Err(fault::file(&label, "the length of its footer is impossible"));
    }
    let footer = if length as usize <= tail {
        end.slice(tail - length as usize..tail)
    } else {
        file.read(size - TAIL_BYTES - length..size - TAIL_BYTES).await?
    };
    outline::check(&footer).map_err(|what| fault::file(&label, what))?;
    let metadata = guarded(|| decode(&footer)).map_err(|what| fault::file(&label, what))?;
    check_chunks(metadata.metadata(), size).map_err(|what| fault::file(&label, what))?;
    Ok(metadata)
}

fn decode(footer: &Bytes) -> std::result::Result<ArrowReaderMetadata, String> {
    let metadata = ParquetMetaDataReader::decode_metadata(footer).map_err(|error| damaged(&error))?;
    ArrowReaderMetadata::try_new(metadata.into(), options()).map_err(|error| damaged(&error))
}

/// The hints of other programs' Arrow are left aside: the native types say all, and only one set has to be known.
pub(super) fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

pub(super) fn damaged(error: &dyn std::error::Error) -> String {
    format!("it is damaged ({})", words(error))
}

/// A library's own words, cut to a bearable length.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.char_indices().nth(200).map_or(text.len(), |(at, _)| at));
    text
}

/// The decoder is written for honest files; where a hostile one drives it into a panic, the copy still ends with a
/// clear answer.
pub(super) fn guarded<T>(decode: impl FnOnce() -> std::result::Result<T, String>) -> std::result::Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err("it is damaged in a way the decoder does not know".to_owned()))
}

fn check_chunks(metadata: &ParquetMetaData, size: u64) -> std::result::Result<(), &'static str> {
    let mut rows = 0_i64;
    for group in metadata.row_groups() {
        rows = match rows.checked_add(group.num_rows()) {
            Some(rows) if group.num_rows() >= 0 => rows,
            _ => return Err("a row group has an impossible number of rows"),
        };
        if group.num_rows() == 0 {
            // Nothing is read of it; other programs give its chunks places that mean nothing.
            continue;
        }
        for column in group.columns() {
            let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let inside = u64::try_from(start)
                .ok()
                .zip(u64::try_from(column.compressed_size()).ok())
                .and_then(|(start, length)| start.checked_add(length))
                .is_some_and(|end| end <= size);
            if !inside || column.data_page_offset() < start {
                return Err("a column chunk lies outside of the file");
            }
        }
    }
    Ok(())
}
