//! The file that rows left out are written to. It is staged like any target, holds the rows in the order of the
//! source's parts whichever lane found them, and is committed under a name that follows from the run, right *before*
//! the main commit: if the worker dies between the two, the next attempt replaces it by the same rows. The other order
//! would lose the rows of a copy that happened. What is in it is text that `dmg copy` reads back as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use dmg_ambient::Ambient;
use dmg_connector::{
    ByteStore, Column, Condition, Digester, Error, FileMark, Format, MarkContent, Meter, Reject, Result, published_seed,
};
use dmg_protocol::{Attempt, Fault, Kind};
use tokio::sync::{Mutex, watch};

use crate::assemble::Assembler;
use crate::file_source::join;
use crate::retry::retrying;

/// Bytes of rows that wait for their part's turn; who has more waits with them.
const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes the store may hold of this file.
const BUDGET_BYTES: usize = 4 * 1024 * 1024;
/// What precedes the source's columns.
const LEADING: [&str; 5] = ["RowNumber", "Part", "Column", "ErrorCode", "ErrorMessage"];
/// What follows them, where rows may have more values than there are columns.
const TRAILING: &str = "MoreValues";

pub(crate) struct Redirect {
    store: Arc<dyn ByteStore>,
    format: Arc<dyn Format>,
    meter: Meter,
    path: String,
    attempt: Attempt,
    columns: Vec<Column>,
    /// Columns of the source.
    width: usize,
    state: Mutex<State>,
    /// Part whose rows are written at once.
    turn: watch::Sender<u32>,
}

#[derive(Default)]
struct State {
    file: Option<Assembler>,
    existed: bool,
    digester: Option<Digester>,
    rows: u64,
    waiting: BTreeMap<u32, Waiting>,
    waiting_bytes: usize,
}

#[derive(Default)]
struct Waiting {
    label: String,
    rows: Vec<Reject>,
    ended: bool,
}

/// Our columns around the source's, ours renamed where the source has the name too.
fn columns(source: &[Column], ragged: bool) -> Vec<Column> {
    let own = |name: &str| {
        let mut name = name.to_owned();
        while source.iter().any(|column| column.name.eq_ignore_ascii_case(&name)) {
            name.push('_');
        }
        name
    };
    let text =
        |name: String| Column { name, kind: Kind::Text, type_name: "text".to_owned(), nullable: true, key: false };
    let leading = LEADING.iter().map(|name| own(name));
    let trailing = ragged.then(|| own(TRAILING));
    leading.chain(source.iter().map(|column| column.name.clone())).chain(trailing).map(text).collect()
}

impl Redirect {
    /// In that folder of that store.
    pub(crate) fn new(
        ambient: Ambient,
        store: Arc<dyn ByteStore>,
        format: Arc<dyn Format>,
        folder: &str,
        attempt: Attempt,
    ) -> Self {
        let path = join(folder, &format!("{}.csv", attempt.run.as_str()));
        let meter = Meter { ambient, traffic: store.traffic() };
        let (columns, width, state) = (Vec::new(), 0, Mutex::default());
        Redirect { store, format, meter, path, attempt, columns, width, state, turn: watch::Sender::new(0) }
    }

    /// Fixes the columns; `ragged` where rows of the source may have more values than columns.
    pub(crate) fn plan(&mut self, source: &[Column], ragged: bool) {
        (self.columns, self.width) = (columns(source, ragged), source.len());
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
    pub(crate) async fn begin(&self) -> Result<()> {
        let mut state = self.state.lock().await;
        self.store.sweep(&self.path, &self.attempt).await?;
        let found = self.store.stat(&self.path).await?;
        state.existed = found.is_some();
        let condition = found.map_or(Condition::Absent, |entry| Condition::Stamp(entry.stamp));
        let staged = self.store.stage(&self.path, &self.attempt, condition, BUDGET_BYTES).await?;
        let encoder = self.format.encoder(&self.columns)?;
        state.file = Some(Assembler::start(encoder, staged, 0, self.meter.clone()).await?);
        state.digester = Some(Digester::new(&self.columns, published_seed()));
        Ok(())
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
        let batch = self.batch(label, rows)?;
        let (Some(file), Some(digester)) = (&state.file, &mut state.digester) else {
            return Err(Fault::new("SystemErrorInternal", "The redirect file was not begun.").into());
        };
        digester.update(&batch)?;
        let mut fragment = file.fragment().await?;
        fragment.write(&batch)?;
        file.push(0, fragment.finish()?).await?;
        state.rows += rows.len() as u64;
        Ok(())
    }

    fn batch(&self, label: &str, rows: &[Reject]) -> Result<RecordBatch> {
        let text = |value: fn(&Reject) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(value)))
        };
        let mut arrays = vec![
            text(|reject| reject.row.to_string()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|_| label))),
            Arc::new(rows.iter().map(|reject| named(&reject.column)).collect::<StringArray>()),
            text(|reject| reject.code.to_owned()),
            text(|reject| reject.reason.clone()),
        ];
        for index in 0..self.width {
            let value = |reject: &Reject| reject.values.get(index).cloned().flatten();
            arrays.push(Arc::new(rows.iter().map(value).collect::<StringArray>()));
        }
        if arrays.len() < self.columns.len() {
            let more = |reject: &Reject| more(reject.values.get(self.width..).unwrap_or_default());
            arrays.push(Arc::new(rows.iter().map(more).collect::<StringArray>()));
        }
        RecordBatch::try_new(dmg_connector::schema(&self.columns), arrays).map_err(|error| {
            let fault = Fault::new("SystemErrorInternal", "Rows left out do not fit the redirect file.");
            Error::caused(fault, error)
        })
    }

    /// Makes the rows visible, and says how many there are and their row sum; no file where no row was left out.
    /// Called when the main commit is allowed, right before it.
    pub(crate) async fn commit(&self) -> Result<Option<(u64, String)>> {
        let state = self.state.lock().await;
        let (Some(file), Some(digester)) = (&state.file, &state.digester) else { return Ok(None) };
        if state.rows == 0 && !state.existed {
            file.abort().await?;
            return Ok(None);
        }
        file.finish().await?;
        file.reader().await?;
        let content = MarkContent { rows: state.rows, digest: digester.sums().row_hex() };
        let ours = |epoch, digest: &str| epoch == self.attempt.epoch && digest == content.digest;
        match file.commit(&self.attempt, &content).await {
            Ok(committed) if ours(committed.epoch, &committed.digest) => {}
            // What stands there tells of the rows of another try, which may be others.
            Ok(_) => {
                let message = format!("What was written for {} was removed before its commit.", self.label());
                return Err(Fault::new("StoreErrorCommitRefused", message).into());
            }
            Err(error) => {
                // A lost answer is no failure if the file says that it is ours.
                let done = |mark: FileMark| ours(mark.epoch, &mark.digest);
                let found = retrying(&self.meter.ambient, "mark of the redirect file", || self.mark()).await;
                if !found.is_ok_and(|mark| mark.is_some_and(done)) {
                    // The doubt is about this file only: the target's commit was not begun.
                    return Err(Error { outcome_unknown: false, ..error });
                }
            }
        }
        Ok(Some((content.rows, content.digest)))
    }

    /// Removes the staging place.
    pub(crate) async fn abort(&self) -> Result<()> {
        match &self.state.lock().await.file {
            Some(file) => file.abort().await,
            None => Ok(()),
        }
    }
}

fn named(column: &str) -> Option<&str> {
    (!column.is_empty()).then_some(column)
}

/// Memory that a row left out takes.
pub(crate) fn bytes(reject: &Reject) -> usize {
    let values: usize = reject.values.iter().flatten().map(String::len).sum();
    size_of::<Reject>() + reject.reason.len() + values + reject.values.len() * size_of::<Option<String>>()
}

/// Values beyond the last column, as one row of text.
fn more(values: &[Option<String>]) -> Option<String> {
    let quoted = |value: &Option<String>| {
        value.as_ref().map_or(String::new(), |text| format!("\"{}\"", text.replace('"', "\"\"")))
    };
    (!values.is_empty()).then(|| values.iter().map(quoted).collect::<Vec<_>>().join(","))
}
