//! Bytes to Arrow batches and back: one folder per file format, and one table of them. A format knows no store.

mod fault;
mod parquet;
mod text;

use std::sync::Arc;

use dmg_connector::Format;
use dmg_protocol::Fault;
use dmg_protocol::job::FormatSpec;

/// The format of a dataset, its settings checked.
pub fn open(spec: &FormatSpec) -> Result<Arc<dyn Format>, Fault> {
    Ok(match spec {
        FormatSpec::Parquet(settings) => Arc::new(parquet::Parquet::new(settings)),
        FormatSpec::Text(settings) => Arc::new(text::Text::new(settings)?),
    })
}
