//! Delimited text. The writer refuses a value that its own settings would not read back as written; the reader
//! gives texts, or values where the columns' kinds are declared. Only UTF-8.

mod dialect;
mod read;
mod scan;
mod source;
mod write;

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{
    BatchLimits, BatchStream, Column, FileEncoder, FileShape, Format, Fragment, Holding, RangeReader, Rejects, Result,
};
use dmg_protocol::job::{DeclaredColumn, TextFormat};
use dmg_protocol::{Fault, Kind, PartPlan, Verdict};

use dialect::Dialect;

/// Rows of a fragment.
const FRAGMENT_ROWS: u64 = 100_000;
/// Bytes of a fragment.
const FRAGMENT_BYTES: usize = 8 * 1024 * 1024;

/// The format with its settings.
pub(crate) struct Text {
    dialect: Arc<Dialect>,
}

impl Text {
    pub(crate) fn new(settings: &TextFormat) -> std::result::Result<Self, Fault> {
        Ok(Text { dialect: Arc::new(Dialect::new(settings)?) })
    }
}

#[async_trait]
impl Format for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn extension(&self) -> &'static str {
        ".txt"
    }

    fn hold(&self, column: &Column) -> Holding {
        let mut holding = Holding::exact(column.kind, "text");
        let every_value = self.dialect.lossless() || self.dialect.plain(column.kind);
        if !every_value {
            holding.verdict = Verdict::Checked;
            holding.reason = Some("a value that would not read back as written stops the copy".to_owned());
        } else if column.nullable && self.dialect.null().is_err() {
            holding.verdict = Verdict::Checked;
            holding.reason = Some("the format has no marker for NULL; the first NULL stops the copy".to_owned());
        }
        holding
    }

    fn fragment_limits(&self) -> (u64, usize) {
        (FRAGMENT_ROWS, FRAGMENT_BYTES)
    }

    fn encoder(&self, columns: &[Column]) -> Result<Box<dyn FileEncoder>> {
        Ok(Box::new(write::Encoder::new(self.dialect.clone(), columns)?))
    }

    async fn inspect(&self, file: Arc<dyn RangeReader>, declared: &[DeclaredColumn]) -> Result<FileShape> {
        let label = file.label();
        let columns = source::columns(&self.dialect, file, declared).await?;
        let part = PartPlan { index: 0, label, spec: serde_json::Value::Null };
        Ok(FileShape { columns, parts: vec![part], rows: None })
    }

    async fn read(
        &self,
        file: Arc<dyn RangeReader>,
        shape: &FileShape,
        _part: &PartPlan,
        limits: BatchLimits,
    ) -> Result<BatchStream> {
        Ok(source::stream(self.dialect.clone(), file, shape.columns.clone(), limits, None))
    }

    async fn read_tolerant(
        &self,
        file: Arc<dyn RangeReader>,
        shape: &FileShape,
        _part: &PartPlan,
        limits: BatchLimits,
        rejects: Arc<Rejects>,
    ) -> Result<BatchStream> {
        Ok(source::stream(self.dialect.clone(), file, shape.columns.clone(), limits, Some(rejects)))
    }

    fn decode(&self, columns: &[Column], fragment: &Fragment) -> Result<Vec<RecordBatch>> {
        read::fragment(&self.dialect, columns, fragment)
    }
}

/// A column whose kind nobody declared.
fn text_column(name: String, kind: Option<Kind>) -> Column {
    let kind = kind.unwrap_or(Kind::Text);
    Column { name, kind, type_name: "text".to_owned(), nullable: true, key: false }
}
