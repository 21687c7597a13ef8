//! Source and sink under the watchdog: each passes everything on, and lets no call of a store take longer than it may.

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use dmg_connector::{
    BatchLimits, BatchStream, Checkpoint, Column, Committed, FileEntry, Holding, MarkContent, MarkState, PartReport,
    PartWriter, Place, Refused, Rejects, Result, Resumption, Rule, Sink, SinkPlan, Source, Sums, Traffic,
};
use dmg_protocol::job::Endpoint;
use dmg_protocol::{ColumnPlan, PartPlan};
use futures::StreamExt;

use crate::watchdog::{For, Side, Watchdog};

impl Watchdog {
    /// A source that is being opened, watched from now on. Files may be many: to list them takes its time.
    pub(crate) async fn opened_source(
        &self,
        title: &str,
        endpoint: &Endpoint,
        opening: impl Future<Output = Result<Box<dyn Source>>>,
    ) -> Result<Box<dyn Source>> {
        self.opened_side(Side::Source, title, endpoint, opening).await
    }

    /// The same for one of two sides that are only read.
    pub(crate) async fn opened_side(
        &self,
        side: Side,
        title: &str,
        endpoint: &Endpoint,
        opening: impl Future<Output = Result<Box<dyn Source>>>,
    ) -> Result<Box<dyn Source>> {
        let what = if endpoint.format.is_some() { For::Answer } else { For::Question };
        Ok(self.source(self.wait(side, what, title, opening).await?, side))
    }

    /// A sink that is being opened, watched from now on.
    pub(crate) async fn opened_sink(
        &self,
        title: &str,
        opening: impl Future<Output = Result<Box<dyn Sink>>>,
    ) -> Result<Box<dyn Sink>> {
        Ok(self.sink(self.wait(Side::Sink, For::Question, title, opening).await?))
    }

    /// The source, watched. `side` is whose store it reads: what was staged is read from the sink.
    fn source(&self, source: Box<dyn Source>, side: Side) -> Box<dyn Source> {
        self.count(source.traffic());
        Box::new(WatchedSource { label: source.label(), source, side, watchdog: self.clone() })
    }

    /// The sink, watched.
    fn sink(&self, sink: Box<dyn Sink>) -> Box<dyn Sink> {
        self.count(sink.traffic());
        Box::new(WatchedSink { label: sink.label(), sink, watchdog: self.clone() })
    }
}

struct WatchedSource {
    source: Box<dyn Source>,
    side: Side,
    label: String,
    watchdog: Watchdog,
}

impl WatchedSource {
    async fn wait<T>(&self, what: For, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.watchdog.wait(self.side, what, &self.label, work).await
    }

    /// The batches, each waited for: the first as for an answer, the others as in the middle of rows.
    fn watched(&self, batches: BatchStream) -> BatchStream {
        let (watchdog, side, label) = (self.watchdog.clone(), self.side, self.label.clone());
        let state = (batches, For::FirstRows, watchdog, label);
        Box::pin(futures::stream::unfold(state, move |(mut batches, what, watchdog, label)| async move {
            let next = async { batches.next().await.transpose() };
            let item = watchdog.wait(side, what, &label, next).await.transpose()?;
            Some((item, (batches, For::Rows, watchdog, label)))
        }))
    }
}

#[async_trait]
impl Source for WatchedSource {
    fn label(&self) -> String {
        self.source.label()
    }

    fn columns(&self) -> &[Column] {
        self.source.columns()
    }

    fn parts(&self) -> &[PartPlan] {
        self.source.parts()
    }

    fn rows_estimate(&self) -> Option<u64> {
        self.source.rows_estimate()
    }

    fn at_once(&self) -> usize {
        self.source.at_once()
    }

    fn repeatable(&self) -> bool {
        self.source.repeatable()
    }

    fn identity(&self) -> Option<String> {
        self.source.identity()
    }

    async fn read(&self, part: &PartPlan, limits: BatchLimits) -> Result<BatchStream> {
        let batches = self.wait(For::FirstRows, self.source.read(part, limits)).await?;
        Ok(self.watched(batches))
    }

    async fn read_tolerant(&self, part: &PartPlan, limits: BatchLimits, rejects: Arc<Rejects>) -> Result<BatchStream> {
        let batches = self.wait(For::FirstRows, self.source.read_tolerant(part, limits, rejects)).await?;
        Ok(self.watched(batches))
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.source.traffic()
    }

    fn place(&self, part: &PartPlan, row: u64) -> Option<Place> {
        self.source.place(part, row)
    }

    fn file(&self, index: usize) -> Option<&FileEntry> {
        self.source.file(index)
    }

    fn notices(&self) -> Vec<String> {
        self.source.notices()
    }

    async fn finish(&self) -> Result<()> {
        self.wait(For::Answer, self.source.finish()).await
    }
}

struct WatchedSink {
    sink: Box<dyn Sink>,
    label: String,
    watchdog: Watchdog,
}

impl WatchedSink {
    async fn wait<T>(&self, what: For, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.watchdog.wait(Side::Sink, what, &self.label, work).await
    }
}

#[async_trait]
impl Sink for WatchedSink {
    fn label(&self) -> String {
        self.sink.label()
    }

    async fn columns(&self) -> Result<Option<Vec<Column>>> {
        self.wait(For::Question, self.sink.columns()).await
    }

    fn hold(&self, source: &Column, target: Option<&Column>) -> Holding {
        self.sink.hold(source, target)
    }

    fn span(&self, holding: &Holding) -> Option<(i128, i128)> {
        self.sink.span(holding)
    }

    fn pads(&self, target: &Column) -> Option<usize> {
        self.sink.pads(target)
    }

    fn expect(&mut self, rows: Option<u64>, parts: usize) {
        self.sink.expect(rows, parts);
    }

    async fn plan(&mut self, columns: &[ColumnPlan]) -> Result<SinkPlan> {
        let Self { sink, label, watchdog } = self;
        watchdog.wait(Side::Sink, For::Question, label, sink.plan(columns)).await
    }

    async fn mark(&self) -> Result<MarkState> {
        self.wait(For::Question, self.sink.mark()).await
    }

    async fn begin(&self) -> Result<()> {
        self.wait(For::Answer, self.sink.begin()).await
    }

    fn checkpoints(&self) -> bool {
        self.sink.checkpoints()
    }

    async fn resume(&self, fingerprint: &str) -> Result<Resumption> {
        self.wait(For::Answer, self.sink.resume(fingerprint)).await
    }

    async fn settle(&self, part: u32) -> Result<Option<Checkpoint>> {
        self.wait(For::Answer, self.sink.settle(part)).await
    }

    async fn part(&self, index: u32) -> Result<Box<dyn PartWriter>> {
        let writer = self.wait(For::Answer, self.sink.part(index)).await?;
        Ok(Box::new(WatchedWriter { writer, label: self.label.clone(), watchdog: self.watchdog.clone() }))
    }

    fn screens(&self) -> bool {
        self.sink.screens()
    }

    async fn screen(&self) -> Result<Vec<Rule>> {
        self.wait(For::Answer, self.sink.screen()).await
    }

    async fn refused(&self, after: i64, rows_max: usize) -> Result<Vec<Refused>> {
        self.wait(For::Answer, self.sink.refused(after, rows_max)).await
    }

    async fn take_out(&self) -> Result<u64> {
        self.wait(For::Answer, self.sink.take_out()).await
    }

    async fn staged(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        let staged = self.wait(For::Answer, self.sink.staged(lanes)).await?;
        Ok(staged.map(|staged| self.watchdog.source(staged, Side::Sink)))
    }

    /// Given up in the middle, it may have happened all the same.
    async fn commit(&self, content: &MarkContent) -> Result<Committed> {
        let committed = self.wait(For::Answer, self.sink.commit(content)).await;
        committed.map_err(|error| if late(&error) { error.with_unknown_outcome() } else { error })
    }

    async fn committed(&self, lanes: usize) -> Result<Option<Box<dyn Source>>> {
        let committed = self.wait(For::Answer, self.sink.committed(lanes)).await?;
        Ok(committed.map(|committed| self.watchdog.source(committed, Side::Sink)))
    }

    async fn abort(&self) -> Result<()> {
        self.wait(For::Farewell, self.sink.abort()).await
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.sink.traffic()
    }

    fn files(&self) -> u64 {
        self.sink.files()
    }

    async fn file(&self, index: usize) -> Result<Option<(String, u64)>> {
        self.wait(For::Answer, self.sink.file(index)).await
    }
}

/// Whether a store was given up because it took too long.
pub(crate) fn late(error: &dmg_connector::Error) -> bool {
    error.fault.code == "StoreErrorTimeout"
}

struct WatchedWriter {
    writer: Box<dyn PartWriter>,
    label: String,
    watchdog: Watchdog,
}

#[async_trait]
impl PartWriter for WatchedWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.watchdog.wait(Side::Sink, For::Room, &self.label, self.writer.write(batch)).await
    }

    fn note(&mut self, read: &Sums) {
        self.writer.note(read);
    }

    async fn finish(self: Box<Self>) -> Result<PartReport> {
        let Self { writer, label, watchdog } = *self;
        watchdog.wait(Side::Sink, For::Answer, &label, writer.finish()).await
    }
}

#[cfg(test)]
mod tests {
    /// A function with a default that is not passed on would silently be the default.
    #[test]
    fn everything_is_passed_on() {
        let (tables, files) =
            (include_str!("../../connector/src/tables.rs"), include_str!("../../connector/src/files.rs"));
        let (here, added, beside) =
            (include_str!("watched.rs"), include_str!("added.rs"), include_str!("watched_store.rs"));
        let wrapped = [
            (tables, "Source", here),
            (tables, "Sink", here),
            (tables, "PartWriter", here),
            (tables, "Source", added),
            (files, "ByteStore", beside),
            (files, "StagedFile", beside),
        ];
        for (contract, name, here) in wrapped {
            let body = contract.split(&format!("pub trait {name}: ")).nth(1).expect("the contract has it");
            let body = body.split("\n}\n").next().expect("it ends");
            let implemented = here.split(&format!("impl {name} for ")).nth(1).expect("it is wrapped");
            let implemented = implemented.split("\n}\n").next().expect("it ends");
            for line in body.lines().filter(|line| line.starts_with("    fn ") || line.starts_with("    async fn ")) {
                let function = line.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next()).expect("a name");
                assert!(implemented.contains(&format!("fn {function}(")), "{name}::{function} is not passed on");
            }
        }
    }
}
