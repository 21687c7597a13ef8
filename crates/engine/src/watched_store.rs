//! The store of the file beside the target under the watchdog: it passes everything on, and no call takes longer than it
//! may. What is read from it is not watched: nobody reads there.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dmg_connector::{
    ByteStore, Committed, Condition, FileEntry, FileMark, MarkContent, RangeReader, Result, StagedFile, Traffic,
};
use dmg_protocol::{Attempt, CommitShape};

use crate::watchdog::{For, Side, Watchdog};

impl Watchdog {
    /// A store of a file beside the target that is being opened, watched from now on.
    pub(crate) async fn opened_store(
        &self,
        title: &str,
        opening: impl Future<Output = Result<Arc<dyn ByteStore>>>,
    ) -> Result<Arc<dyn ByteStore>> {
        let store = self.wait(Side::Beside, For::Question, title, opening).await?;
        self.count(store.traffic());
        Ok(Arc::new(WatchedStore { label: store.label(), store, watchdog: self.clone() }))
    }
}

struct WatchedStore {
    store: Arc<dyn ByteStore>,
    label: String,
    watchdog: Watchdog,
}

impl WatchedStore {
    async fn wait<T>(&self, what: For, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.watchdog.wait(Side::Beside, what, &self.label, work).await
    }
}

#[async_trait]
impl ByteStore for WatchedStore {
    fn label(&self) -> String {
        self.store.label()
    }

    async fn probe(&self) -> Result<String> {
        self.wait(For::Question, self.store.probe()).await
    }

    async fn list(&self, folder: &str, recursive: bool) -> Result<Vec<FileEntry>> {
        self.wait(For::Answer, self.store.list(folder, recursive)).await
    }

    async fn stat(&self, path: &str) -> Result<Option<FileEntry>> {
        self.wait(For::Question, self.store.stat(path)).await
    }

    async fn open(&self, entry: &FileEntry) -> Result<Arc<dyn RangeReader>> {
        self.wait(For::Question, self.store.open(entry)).await
    }

    fn shape(&self) -> CommitShape {
        self.store.shape()
    }

    async fn mark(&self, path: &str) -> Result<Option<FileMark>> {
        self.wait(For::Question, self.store.mark(path)).await
    }

    async fn sweep(&self, path: &str, attempt: &Attempt) -> Result<()> {
        self.wait(For::Answer, self.store.sweep(path, attempt)).await
    }

    async fn stage(
        &self,
        path: &str,
        attempt: &Attempt,
        condition: Condition,
        budget_bytes: usize,
    ) -> Result<Box<dyn StagedFile>> {
        let file = self.wait(For::Answer, self.store.stage(path, attempt, condition, budget_bytes)).await?;
        Ok(Box::new(WatchedFile { file, label: self.label.clone(), watchdog: self.watchdog.clone() }))
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.store.traffic()
    }
}

struct WatchedFile {
    file: Box<dyn StagedFile>,
    label: String,
    watchdog: Watchdog,
}

#[async_trait]
impl StagedFile for WatchedFile {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.watchdog.wait(Side::Beside, For::Room, &self.label, self.file.write(bytes)).await
    }

    async fn seal(&mut self) -> Result<()> {
        self.watchdog.wait(Side::Beside, For::Answer, &self.label, self.file.seal()).await
    }

    async fn reader(&self) -> Result<Option<Arc<dyn RangeReader>>> {
        self.watchdog.wait(Side::Beside, For::Answer, &self.label, self.file.reader()).await
    }

    async fn commit(&mut self, attempt: &Attempt, content: &MarkContent) -> Result<Committed> {
        self.watchdog.wait(Side::Beside, For::Answer, &self.label, self.file.commit(attempt, content)).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.watchdog.wait(Side::Beside, For::Farewell, &self.label, self.file.abort()).await
    }
}
