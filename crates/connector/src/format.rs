//! The contract of file formats: bytes to Arrow batches and back. A format knows no store.
//!
//! A file is written as *fragments* (a row group, a run of text rows) that lanes encode independently and one
//! writer appends in order; so a single file can be encoded on all cores, and every fragment can be decoded again
//! on its own before its bytes leave the process.

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use dmg_protocol::job::DeclaredColumn;
use dmg_protocol::{Kind, PartPlan, Verdict};

use crate::{BatchLimits, BatchStream, Column, RangeReader, Rejects, Result};

/// How a sink or format holds a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The kind batches must have when they are handed over. Both sides hash in this kind.
    pub kind: Kind,
    /// The sink's own type name.
    pub type_name: String,
    /// What can be promised if source values are converted to that kind.
    pub verdict: Verdict,
    /// Why, where it is not exact.
    pub reason: Option<String>,
}

/// What is in a file.
#[derive(Debug, Clone)]
pub struct FileShape {
    /// Columns in file order.
    pub columns: Vec<Column>,
    /// Pieces that can be read independently (row groups); at least one. `spec` is the format's own.
    pub parts: Vec<PartPlan>,
    /// Rows, if the file tells.
    pub rows: Option<u64>,
}

/// One encoded piece of a file.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// Rows in it.
    pub rows: u64,
    /// The encoded bytes, in the format's own framing; see [`FileEncoder::append`].
    pub bytes: Bytes,
}

/// A file format with its settings.
#[async_trait]
pub trait Format: Send + Sync {
    /// `text`, `parquet`.
    fn name(&self) -> &'static str;

    /// File name ending for generated names: `.parquet`, `.txt`.
    fn extension(&self) -> &'static str;

    /// How the format holds a column.
    fn hold(&self, column: &Column) -> Holding;

    /// The first and the last moment a column so held can say, in nanoseconds since 1970; none where it can say all that
    /// its kind can. The copy checks each value before it hands it over.
    fn span(&self, holding: &Holding) -> Option<(i128, i128)> {
        let _ = holding;
        None
    }

    /// Rows and bytes a fragment should have at most; lanes end a fragment at whichever comes first.
    fn fragment_limits(&self) -> (u64, usize);

    /// Starts writing a file of these columns.
    fn encoder(&self, columns: &[Column]) -> Result<Box<dyn FileEncoder>>;

    /// Reads what is in a file. `declared` are the author's columns, if any.
    async fn inspect(&self, file: Arc<dyn RangeReader>, declared: &[DeclaredColumn]) -> Result<FileShape>;

    /// Reads one part of a file. Batches have exactly [`crate::schema`] of `shape.columns`.
    async fn read(
        &self,
        file: Arc<dyn RangeReader>,
        shape: &FileShape,
        part: &PartPlan,
        limits: BatchLimits,
    ) -> Result<BatchStream>;

    /// Whether [`Format::read`] has all the [`crate::Room`] of its part before it gives the stream: the lane then needs
    /// no more, and leaves the rest to others.
    fn takes_room_at_once(&self) -> bool {
        false
    }

    /// As [`Format::read`], but rows that do not fit the columns go to `rejects`. A batch may be empty then: it says
    /// that only rows left out were found. Formats whose rows always fit need not implement it.
    async fn read_tolerant(
        &self,
        file: Arc<dyn RangeReader>,
        shape: &FileShape,
        part: &PartPlan,
        limits: BatchLimits,
        rejects: Arc<Rejects>,
    ) -> Result<BatchStream> {
        let _ = rejects;
        self.read(file, shape, part, limits).await
    }

    /// Decodes one fragment again, from its bytes alone, as batches of `columns`. It must not use anything the
    /// encoder knows but the columns.
    fn decode(&self, columns: &[Column], fragment: &Fragment) -> Result<Vec<RecordBatch>>;
}

/// Encodes one fragment. Independent of all others.
pub trait FragmentEncoder: Send {
    /// Adds rows. The schema is [`crate::schema`] of the encoder's columns. A value the format cannot hold as it
    /// would be read back is `UserErrorValue`, naming row and column.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;
    /// Whether the fragment should rather end before these rows: in one begun for others they would take more memory.
    fn ends_before(&self, batch: &RecordBatch) -> bool {
        let _ = batch;
        false
    }
    /// Rows so far.
    fn rows(&self) -> u64;
    /// Bytes held in memory so far, estimated.
    fn size(&self) -> usize;
    /// Ends the fragment.
    fn finish(self: Box<Self>) -> Result<Fragment>;
}

/// Writes one file out of fragments.
pub trait FileEncoder: Send + Sync {
    /// A new fragment encoder.
    fn fragment(&self) -> Result<Box<dyn FragmentEncoder>>;
    /// Bytes the file starts with. Called once, first.
    fn start(&mut self) -> Result<Bytes>;
    /// Bytes of the next fragment, in file order.
    fn append(&mut self, fragment: Fragment) -> Result<Bytes>;
    /// Bytes the file ends with. Called once, last.
    fn finish(&mut self) -> Result<Bytes>;
}
