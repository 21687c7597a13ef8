//! Formats and the digest, in memory.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use dmg_connector::{BatchLimits, Column, Digester, Format, RangeReader, published_seed};
use dmg_protocol::job::{DeclaredColumn, FormatSpec, ParquetFormat, TextFormat};
use futures::StreamExt;

use crate::rows::{self, BATCH_ROWS};

const LIMITS: BatchLimits = BatchLimits { rows: 8192, bytes: 8 << 20, value_bytes: 1 << 20 };

struct Memory(Bytes);

#[async_trait]
impl RangeReader for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, range: Range<u64>) -> dmg_connector::Result<Bytes> {
        Ok(self.0.slice(range.start as usize..range.end as usize))
    }

    fn label(&self) -> String {
        "memory".to_owned()
    }
}

/// The format of that name.
pub fn format(name: &str) -> Result<Arc<dyn Format>> {
    let spec = match name {
        "parquet" => FormatSpec::Parquet(ParquetFormat::default()),
        _ => FormatSpec::Text(TextFormat {
            quote_char: Some('"'),
            escape_char: Some('"'),
            first_row_as_header: true,
            ..TextFormat::default()
        }),
    };
    Ok(dmg_formats::open(&spec).map_err(|fault| anyhow::anyhow!("{fault}"))?)
}

/// Encodes a file of so many rows.
pub fn write(format: &dyn Format, rows: usize) -> Result<Bytes> {
    let columns = rows::columns();
    let batch = rows::batch(BATCH_ROWS)?;
    let (fragment_rows, _) = format.fragment_limits();
    let mut encoder = format.encoder(&columns)?;
    let mut file = BytesMut::from(&encoder.start()?[..]);
    let mut left = rows;
    while left > 0 {
        let mut fragment = encoder.fragment()?;
        while left > 0 && fragment.rows() + BATCH_ROWS as u64 <= fragment_rows {
            let piece = batch.slice(0, left.min(BATCH_ROWS));
            left -= piece.num_rows();
            fragment.write(&piece)?;
        }
        file.extend_from_slice(&encoder.append(fragment.finish()?)?);
    }
    file.extend_from_slice(&encoder.finish()?);
    Ok(file.freeze())
}

/// Decodes a file, in the kinds its rows were written in.
pub async fn read(format: &dyn Format, file: Bytes) -> Result<usize> {
    let file: Arc<dyn RangeReader> = Arc::new(Memory(file));
    let declared = |column: Column| DeclaredColumn { kind: Some(column.kind), ..DeclaredColumn::named(column.name) };
    let declared: Vec<DeclaredColumn> = rows::columns().into_iter().map(declared).collect();
    let shape = format.inspect(file.clone(), &declared).await?;
    let mut rows = 0;
    for part in &shape.parts {
        let mut batches = format.read(file.clone(), &shape, part, LIMITS).await?;
        while let Some(batch) = batches.next().await {
            rows += batch?.num_rows();
        }
    }
    Ok(rows)
}

/// Digests so many rows.
pub fn digest(rows: usize) -> Result<usize> {
    let batch = rows::batch(BATCH_ROWS)?;
    let mut digester = Digester::new(&rows::columns(), published_seed());
    for _ in 0..rows / BATCH_ROWS {
        digester.update(&batch)?;
    }
    Ok(usize::try_from(digester.finish().rows)?)
}
