//! The file beside the target: rows left out, or a log of the copy. It is staged like any target, holds the rows in the
//! order of the source's parts whichever lane found them, and is committed under a name that follows from the run, right
//! *before* the main commit: if the worker dies between the two, the next attempt replaces it. The other order would lose
//! the rows of a copy that happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use dmg_ambient::Ambient;
use dmg_connector::{
    ByteStore, Column, Condition, Digester, Error, FileEntry, FileMark, Format, MarkContent, Meter, Reject, Result,
    Sink, Source, published_seed,
};
use dmg_protocol::{Attempt, Fault};
use tokio::sync::{Mutex, watch};

use crate::assemble::Assembler;
use crate::layout::{FileLine, Layout, Sheet};
use crate::retry::retrying;

/// Bytes of rows that wait for their part's turn; who has more waits with them.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes the store may hold of this file.
const BUDGET_BYTES: usize = 4 * 1024 * 1024;
/// Lines on files that are written at once.
const FILES: usize = 500;

pub(crate) struct Redirect {
    store: Arc<dyn ByteStore>,
    format: Arc<dyn Format>,
    meter: Meter,
    path: String,
    attempt: Attempt,
    layout: Layout,
    sheet: Sheet,
    state: Mutex<State>,
    /// Part whose rows are written at once.
    turn: watch::Sender<u32>,
}

#[derive(Default)]
struct State {
    file: Option<Assembler>,
    existed: bool,
    digester: Option<Digester>,
    /// Rows left out that are in it.
    rows: u64,
    /// Stamp of what was committed.
    committed: Option<String>,
    waiting: BTreeMap<u32, Waiting>,
    waiting_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    label: String,
    rows: Vec<Reject>,
    ended: bool,
}

impl Redirect {
    /// At that path of that store, whose format is that of the layout.
    pub(crate) fn new(
        ambient: Ambient,
        store: Arc<dyn ByteStore>,
        format: Arc<dyn Format>,
        layout: Layout,
        path: String,
        attempt: Attempt,
    ) -> Self {
        let meter = Meter { ambient, traffic: store.traffic() };
        let (sheet, state) = (layout.sheet(&[], false), Mutex::default());
        Redirect { store, format, meter, path, attempt, layout, sheet, state, turn: watch::Sender::new(0) }
    }

    /// Fixes the columns; `ragged` where rows of the source may have more values than columns.
    pub(crate) fn plan(&mut self, source: &[Column], ragged: bool) {
        self.sheet = self.layout.sheet(source, ragged);
    }

    /// For people, without secrets.
    pub(crate) fn label(&self) -> String {
        format!("{}, file {}", self.store.label(), self.path)
    }

    /// Rows that this run left out, if an attempt of it got so far as to say so.
    pub(crate) async fn mark(&self) -> Result<Option<FileMark>> {
        let ours = |mark: &FileMark| mark.namespace == self.attempt.namespace && mark.run == self.attempt.run.as_str();
        Ok(self.store.mark(&self.path).await?.filter(ours))
    }

    /// Makes the staging place; removes what lower epochs left.
    pub(crate) async fn begin(&self, source: &dyn Source) -> Result<()> {
        let mut state = self.state.lock().await;
        self.store.sweep(&self.path, &self.attempt).await?;
        let found = self.store.stat(&self.path).await?;
        state.existed = found.is_some();
        let condition = found.map_or(Condition::Absent, |entry| Condition::Stamp(entry.stamp));
        state.file = Some(self.stage(condition).await?);
        state.digester = Some(Digester::new(self.sheet.columns(), published_seed()));
        if self.layout.tells_files() {
            self.source_files(&mut state, source, FileLine::Listed).await?;
        }
        Ok(())
    }

    async fn stage(&self, condition: Condition) -> Result<Assembler> {
        let staged = self.store.stage(&self.path, &self.attempt, condition, BUDGET_BYTES).await?;
        let encoder = self.format.encoder(self.sheet.columns())?;
        Assembler::start(encoder, staged, 0, self.meter.clone()).await
    }

    /// Everything was read, and is staged: tells the files, where the layout has them.
    pub(crate) async fn moved(&self, source: &dyn Source, sink: &dyn Sink) -> Result<()> {
        if !self.layout.tells_files() {
            return Ok(());
        }
        let mut state = self.state.lock().await;
        self.source_files(&mut state, source, FileLine::Read).await?;
        let mut written = Vec::new();
        while let Some(file) = sink.file(written.len()).await? {
            written.push(file);
        }
        let lines: Vec<_> = written.iter().map(FileLine::Written).collect();
        for lines in lines.chunks(FILES) {
            let batch = self.sheet.files(lines, &self.meter.ambient.rfc3339())?;
            self.append(&mut state, &batch).await?;
        }
        Ok(())
    }

    async fn source_files<'a>(
        &self,
        state: &mut State,
        source: &'a dyn Source,
        line: fn(&'a FileEntry) -> FileLine<'a>,
    ) -> Result<()> {
        let mut told = 0;
        loop {
            let lines: Vec<_> = (told..told + FILES).map_while(|index| source.file(index)).map(line).collect();
            if lines.is_empty() {
                return Ok(());
            }
            told += lines.len();
            let batch = self.sheet.files(&lines, &self.meter.ambient.rfc3339())?;
            self.append(state, &batch).await?;
        }
    }

    /// Takes rows of a part, in row order. Returns when they may be forgotten.
    pub(crate) async fn add(&self, part: u32, label: &str, rows: Vec<Reject>) -> Result<()> {
        {
            let mut state = self.state.lock().await;
            if *self.turn.borrow() == part {
                return self.write(&mut state, label, &rows).await;
            }
            state.waiting_bytes += rows.iter().map(bytes).sum::<usize>();
            let waiting = state.waiting.entry(part).or_default();
            waiting.label = label.to_owned();
            waiting.rows.extend(rows);
            if state.waiting_bytes <= WAITING_BYTES_MAX {
                return Ok(());
            }
        }
        let mut turn = self.turn.subscribe();
        let closed = || Fault::new("SystemErrorInternal", "The redirect file was closed while a part wrote to it.");
        turn.wait_for(|next| *next >= part).await.map_err(|_| closed())?;
        let mut state = self.state.lock().await;
        self.flush(&mut state, part).await
    }

    /// Takes rows after all parts have ended.
    pub(crate) async fn add_late(&self, label: &str, rows: &[Reject]) -> Result<()> {
        self.write(&mut *self.state.lock().await, label, rows).await
    }

    /// No more rows of that part will come.
    pub(crate) async fn end_part(&self, part: u32) -> Result<()> {
        let mut state = self.state.lock().await;
        state.waiting.entry(part).or_default().ended = true;
        loop {
            let next = *self.turn.borrow();
            self.flush(&mut state, next).await?;
            match state.waiting.remove(&next) {
                Some(waiting) if waiting.ended => self.turn.send_replace(next + 1),
                Some(waiting) => {
                    state.waiting.insert(next, waiting);
                    return Ok(());
                }
                None => return Ok(()),
            };
        }
    }

    async fn flush(&self, state: &mut State, part: u32) -> Result<()> {
        let Some(waiting) = state.waiting.get_mut(&part) else { return Ok(()) };
        let (rows, label) = (std::mem::take(&mut waiting.rows), waiting.label.clone());
        state.waiting_bytes -= rows.iter().map(bytes).sum::<usize>();
        self.write(state, &label, &rows).await
    }

    async fn write(&self, state: &mut State, label: &str, rows: &[Reject]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let batch = self.sheet.rows(label, rows, &self.meter.ambient.rfc3339())?;
        self.append(state, &batch).await?;
        state.rows += rows.len() as u64;
        Ok(())
    }

    async fn append(&self, state: &mut State, batch: &RecordBatch) -> Result<()> {
        let (Some(file), Some(digester)) = (&state.file, &mut state.digester) else {
            return Err(Fault::new("SystemErrorInternal", "The redirect file was not begun.").into());
        };
        digester.update(batch)?;
        let mut fragment = file.fragment().await?;
        fragment.write(batch)?;
        file.push(0, fragment.finish()?).await?;
        Ok(())
    }

    /// Makes the file visible, and says how many rows were left out and the row sum of what is in it; no file where
    /// there is nothing to tell. Called when the main commit is allowed, right before it.
    pub(crate) async fn commit(&self) -> Result<Option<(u64, String)>> {
        let state = &mut *self.state.lock().await;
        let (Some(file), Some(digester)) = (&state.file, &state.digester) else { return Ok(None) };
        if state.rows == 0 && !state.existed && !self.layout.always() {
            file.abort().await?;
            return Ok(None);
        }
        file.finish().await?;
        file.reader().await?;
        let content = MarkContent { rows: state.rows, digest: digester.sums().row_hex() };
        let ours = |epoch, digest: &str| epoch == self.attempt.epoch && digest == content.digest;
        match file.commit(&self.attempt, &content).await {
            Ok(committed) if ours(committed.epoch, &committed.digest) => state.committed = Some(committed.mark),
            // What stands there tells of the rows of another try, which may be others.
            Ok(_) => {
                let message = format!("What was written for {} was removed before its commit.", self.label());
                return Err(Fault::new("StoreErrorCommitRefused", message).into());
            }
            Err(error) => {
                // A lost answer is no failure if the file says that it is ours.
                let found = retrying(&self.meter.ambient, "mark of the redirect file", || self.mark()).await;
                match found {
                    Ok(Some(mark)) if ours(mark.epoch, &mark.digest) => state.committed = Some(mark.stamp),
                    // The doubt is about this file only: the target's commit was not begun.
                    _ => return Err(Error { outcome_unknown: false, ..error }),
                }
            }
        }
        Ok(Some((content.rows, content.digest)))
    }

    /// The copy did not happen after all: takes out what was committed, if nobody has replaced it since. An empty file
    /// stays.
    pub(crate) async fn withdraw(&self) -> Result<()> {
        let Some(stamp) = self.state.lock().await.committed.take() else { return Ok(()) };
        let file = self.stage(Condition::Stamp(stamp)).await?;
        file.finish().await?;
        let nothing = Digester::new(self.sheet.columns(), published_seed()).finish();
        let content = MarkContent { rows: 0, digest: nothing.row_hex() };
        file.commit(&self.attempt, &content).await.map(|_| ())
    }

    /// Removes the staging place.
    pub(crate) async fn abort(&self) -> Result<()> {
        match &self.state.lock().await.file {
            Some(file) => file.abort().await,
            None => Ok(()),
        }
    }
}

/// Memory that a row left out takes.
pub(crate) fn bytes(reject: &Reject) -> usize {
    let values: usize = reject.values.iter().flatten().map(String::len).sum();
    size_of::<Reject>() + reject.reason.len() + values + reject.values.len() * size_of::<Option<String>>()
}
