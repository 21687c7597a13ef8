//! The contract of byte stores: files by path, ranges, and staged writes that nobody sees before the commit. A
//! byte store knows no format.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dmg_protocol::catalog::StoreDescriptor;
use dmg_protocol::{Attempt, CommitShape, Epoch, Secrets};
use serde_json::{Map, Value};

use crate::{Committed, MarkContent, Result, Session, Traffic};

/// One file as listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    /// Path relative to the store's root, `/` between folders.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Changes whenever the content does: an ETag, or size, mtime and inode.
    pub stamp: String,
}

/// What the target must be like at the commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Must not exist.
    Absent,
    /// Must still carry this stamp.
    Stamp(String),
}

/// What a committed file tells about who wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMark {
    /// The writer's namespace.
    pub namespace: String,
    /// The run.
    pub run: String,
    /// The epoch that committed.
    pub epoch: Epoch,
    /// Rows.
    pub rows: u64,
    /// Row sum, or empty.
    pub digest: String,
    /// The stamp the file has now.
    pub stamp: String,
}

/// Random access to one file's bytes. A changed file is refused with `UserErrorSourceChanged`.
#[async_trait]
pub trait RangeReader: Send + Sync {
    /// All bytes.
    fn size(&self) -> u64;
    /// Those bytes; a short answer is an error.
    async fn read(&self, range: Range<u64>) -> Result<Bytes>;
    /// For people: the file's path.
    fn label(&self) -> String;
}

/// A byte store: describes itself and opens connections.
#[async_trait]
pub trait ByteStoreConnector: Send + Sync {
    /// Names, settings, capabilities.
    fn descriptor(&self) -> &'static StoreDescriptor;

    /// Pure check of the settings.
    fn validate(&self, settings: &Map<String, Value>) -> Result<()>;

    /// Opens the store.
    async fn open(
        &self,
        settings: &Map<String, Value>,
        secrets: &Secrets,
        session: Session,
    ) -> Result<Arc<dyn ByteStore>>;
}

/// An opened byte store.
#[async_trait]
pub trait ByteStore: Send + Sync {
    /// For people, without secrets: `folder /srv/data`, `blob container acme/raw`.
    fn label(&self) -> String;

    /// Says whether the root can be reached, and what answered.
    async fn probe(&self) -> Result<String>;

    /// Files below a folder, sorted by path; staging leftovers of ours are never listed. A folder that does not
    /// exist is `UserErrorContainerMissing`.
    async fn list(&self, folder: &str, recursive: bool) -> Result<Vec<FileEntry>>;

    /// One file, or none.
    async fn stat(&self, path: &str) -> Result<Option<FileEntry>>;

    /// Opens a file for reading, as it was when listed.
    async fn open(&self, entry: &FileEntry) -> Result<Arc<dyn RangeReader>>;

    /// How commits happen.
    fn shape(&self) -> CommitShape;

    /// Who committed the file that is there now, if a copy of ours did.
    async fn mark(&self, path: &str) -> Result<Option<FileMark>>;

    /// Removes staging leftovers of lower epochs of the same namespace and target.
    async fn sweep(&self, path: &str, attempt: &Attempt) -> Result<()>;

    /// Opens a staging place for that target. `block_bytes` is the write size the caller would like, and
    /// `budget_bytes` what may be held in memory for uploads in flight.
    async fn stage(
        &self,
        path: &str,
        attempt: &Attempt,
        condition: Condition,
        budget_bytes: usize,
    ) -> Result<Box<dyn StagedFile>>;

    /// Bytes and streams so far.
    fn traffic(&self) -> Arc<Traffic>;
}

/// A file being written where no reader looks.
#[async_trait]
pub trait StagedFile: Send + Sync {
    /// Takes the next bytes, in order. Returns when they may be forgotten by the caller.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Everything is written and durable.
    async fn seal(&mut self) -> Result<()>;

    /// The staged bytes for reading back, where the store can do that; opened anew, not from a buffer.
    async fn reader(&self) -> Result<Option<Arc<dyn RangeReader>>>;

    /// The atomic step, under the condition of [`ByteStore::stage`]. Records who wrote. A refused condition is
    /// `StoreErrorCommitRefused`.
    async fn commit(&mut self, attempt: &Attempt, content: &MarkContent) -> Result<Committed>;

    /// Removes the staged bytes.
    async fn abort(&mut self) -> Result<()>;
}
