//! File formats: the first bytes choose the settings, the rest is the file.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dmg_connector::{BatchLimits, Format, RangeReader, Result};
use dmg_protocol::job::{DeclaredColumn, FormatSpec, ParquetFormat, TextFormat};
use dmg_protocol::{Fault, Kind};
use futures::StreamExt;

use crate::runtime::block_on;

const LIMITS: BatchLimits = BatchLimits { rows: 7, bytes: 4 << 10, value_bytes: 1 << 10 };

struct Memory(Bytes);

#[async_trait]
impl RangeReader for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let (start, end) = (range.start as usize, range.end as usize);
        if start > end || end > self.0.len() {
            return Err(Fault::new("StoreErrorAnswer", "Bytes beyond the end of the file were asked for.").into());
        }
        Ok(self.0.slice(start..end))
    }

    fn label(&self) -> String {
        "fuzz".to_owned()
    }
}

/// Reads the whole file as a copy would; faults are as good as rows.
fn read(format: &dyn Format, file: Bytes, declared: &[DeclaredColumn]) {
    let file: Arc<dyn RangeReader> = Arc::new(Memory(file));
    block_on(async {
        let Ok(shape) = format.inspect(file.clone(), declared).await else { return };
        for part in &shape.parts {
            let Ok(mut stream) = format.read(file.clone(), &shape, part, LIMITS).await else { return };
            while let Some(Ok(batch)) = stream.next().await {
                assert_eq!(batch.num_columns(), shape.columns.len(), "a batch has the columns that were announced");
            }
        }
    });
}

pub(crate) fn text(data: &[u8]) {
    let Some((settings, file)) = data.split_first_chunk::<3>() else { return };
    let [separators, quoting, columns] = *settings;
    let pick = |byte: u8, count: u8| usize::from(byte % count);
    let format = TextFormat {
        column_delimiter: [",", "\t", "||", ";"][pick(separators, 4)].to_owned(),
        row_delimiter: [None, Some("\n"), Some("\r\n"), Some("ab")][pick(separators / 4, 4)].map(str::to_owned),
        quote_char: [None, Some('"'), Some('\'')][pick(quoting, 3)],
        escape_char: [None, Some('"'), Some('\\'), Some('\'')][pick(quoting / 3, 4)],
        null_values: [vec![], vec!["\\N".to_owned()], vec![String::new(), "NULL".to_owned()]][pick(quoting / 12, 3)]
            .clone(),
        first_row_as_header: separators & 0x40 != 0,
        skip_lines: u32::from(separators >> 7) * 2,
        empty_as_null: quoting & 0x40 != 0,
        quote_all: quoting & 0x80 != 0,
        ..TextFormat::default()
    };
    let kinds = [
        Kind::Int32,
        Kind::Text,
        Kind::Decimal { precision: 9, scale: 2 },
        Kind::Timestamp,
        Kind::Boolean,
        Kind::Bytes,
    ];
    let declared: Vec<DeclaredColumn> = (0..columns % 7)
        .map(|index| DeclaredColumn {
            kind: Some(kinds[usize::from(index)]),
            ..DeclaredColumn::named(format!("c{index}"))
        })
        .collect();
    let Ok(format) = dmg_formats::open(&FormatSpec::Text(format)) else { return };
    read(format.as_ref(), Bytes::copy_from_slice(file), &declared);
}

pub(crate) fn text_seeds() -> Vec<Vec<u8>> {
    let files: &[&[u8]] = &[
        b"a,b\n1,2\n\"x\"\"y\",z\n",
        b"id\tname\r\n1\t\\N\r\n2\t'it\\'s'\r\n",
        b"c0||c1abc||dab",
        b"\xef\xbb\xbfa;b\r1;2\r",
        b"1,text,1.25,2026-01-02 03:04:05.678,true,\\x00ff\n,,,,,\n",
        b"\"open, never closed\n",
    ];
    let mut seeds = Vec::new();
    for (index, file) in files.iter().enumerate() {
        for settings in [[0x40, 1, 0], [0, 4, 2], [0x41, 0x0d, 6], [index as u8 * 17, index as u8 * 31, index as u8]] {
            seeds.push([&settings[..], file].concat());
        }
    }
    seeds
}

pub(crate) fn parquet(data: &[u8]) {
    let Ok(format) = dmg_formats::open(&FormatSpec::Parquet(ParquetFormat::default())) else { return };
    read(format.as_ref(), Bytes::copy_from_slice(data), &[]);
}

/// Real files, small: made by our own writer, and by pyarrow where the corpus holds them.
pub(crate) fn parquet_seeds() -> Vec<Vec<u8>> {
    let columns = |count: usize| -> Vec<dmg_connector::Column> {
        let kinds = [Kind::Int64, Kind::Text, Kind::Decimal { precision: 18, scale: 4 }, Kind::Instant, Kind::Uuid];
        kinds[..count]
            .iter()
            .enumerate()
            .map(|(index, kind)| dmg_connector::Column {
                name: format!("c{index}"),
                kind: *kind,
                type_name: String::new(),
                nullable: true,
                key: false,
            })
            .collect()
    };
    let Ok(format) = dmg_formats::open(&FormatSpec::Parquet(ParquetFormat::default())) else { return Vec::new() };
    let one = |count: usize| -> Result<Vec<u8>> {
        let mut encoder = format.encoder(&columns(count))?;
        let mut bytes = encoder.start()?.to_vec();
        bytes.extend_from_slice(&encoder.finish()?);
        Ok(bytes)
    };
    (1..=5).filter_map(|count| one(count).ok()).collect()
}
