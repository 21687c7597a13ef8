//! Text files from a store: fetched piece by piece, checked to be UTF-8, and never held as a whole.

use std::sync::Arc;

use arrow_array::RecordBatch;
use dmg_connector::{BatchLimits, BatchStream, Column, RangeReader, Rejects, Result, Room};
use dmg_protocol::Fault;
use dmg_protocol::job::DeclaredColumn;

use super::dialect::Dialect;
use super::read::{Pause, RowReader};
use super::scan::{self, Record, Scanned};
use super::text_column;
use crate::fault;

/// Bytes fetched at once.
const PIECE_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes fetched at once where the budget is small.
const PIECE_BYTES_MIN: usize = 256 * 1024;
/// Bytes fetched at once while a record does not fit: it is scanned anew after each.
const GROWTH_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes fetched at once while only the first rows are wanted.
const FIRST_PIECE_BYTES: u64 = 64 * 1024;
/// Bytes that skipped lines and the first record may have together.
const PREAMBLE_BYTES_MAX: usize = 16 * 1024 * 1024;
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The part of a file that is in memory: valid text, from `at` on not yet used.
struct Window {
    file: Arc<dyn RangeReader>,
    label: String,
    text: String,
    at: usize,
    /// Bytes of a character that the last piece cut.
    cut: Vec<u8>,
    /// Where the next piece begins.
    next: u64,
    /// For a record that does not fit into pieces.
    room: Room,
}

impl Window {
    fn new(file: Arc<dyn RangeReader>) -> Self {
        Window { label: file.label(), file, text: String::new(), at: 0, cut: Vec::new(), next: 0, room: Room::here() }
    }

    /// Whether the rest of the file is in memory.
    fn last(&self) -> bool {
        self.next >= self.file.size()
    }

    /// Fetches the next piece, larger while one record does not fit.
    async fn more(&mut self, piece: u64) -> Result<()> {
        self.text.drain(..self.at);
        self.at = 0;
        let length = piece.max(GROWTH_BYTES_MAX.min(self.text.len() as u64)).min(self.file.size() - self.next);
        if self.room.is_large(self.text.len()) {
            self.room.pass(self.text.len() + length as usize).await;
        }
        let mut joined = self.file.read(self.next..self.next + length).await?;
        let begin = self.next - self.cut.len() as u64;
        if !self.cut.is_empty() {
            joined = [std::mem::take(&mut self.cut).as_slice(), &joined].concat().into();
        }
        self.next += length;
        if self.text.is_empty() {
            // One long record must not keep its room for ever.
            self.text.shrink_to(joined.len());
        }
        match std::str::from_utf8(&joined) {
            Ok(text) => self.text.push_str(text),
            Err(error) => {
                let (valid, rest) = joined.split_at(error.valid_up_to());
                if error.error_len().is_some() || self.last() {
                    let offset = begin + error.valid_up_to() as u64;
                    return Err(fault::file(&self.label, format!("it is no UTF-8 text at byte {offset}")));
                }
                self.text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                self.cut = rest.to_vec();
            }
        }
        Ok(())
    }

    /// Forgets a long record, which is in a batch now.
    fn forget(&mut self) {
        if self.room.is_large(self.at) {
            self.text.drain(..self.at);
            self.text.shrink_to_fit();
            self.at = 0;
        }
    }

    /// Moves behind byte order mark, skipped lines and header; gives the header's names.
    async fn preamble(&mut self, dialect: &Dialect) -> Result<Option<Vec<String>>> {
        loop {
            if let Some((at, names)) = self.try_preamble(dialect)? {
                self.at = at;
                return Ok(names);
            }
            if self.text.len() > PREAMBLE_BYTES_MAX {
                let what = format!("its first row does not end within {PREAMBLE_BYTES_MAX} bytes");
                return Err(fault::file(&self.label, what));
            }
            self.more(FIRST_PIECE_BYTES).await?;
        }
    }

    /// `None` asks for more text.
    fn try_preamble(&self, dialect: &Dialect) -> Result<Option<(usize, Option<Vec<String>>)>> {
        let last = self.last();
        if self.text.is_empty() && !last {
            return Ok(None);
        }
        let start = if self.text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
        let Some(at) = scan::skip_lines(dialect, &self.text, start, dialect.skip_lines, last) else { return Ok(None) };
        if !dialect.header {
            return Ok(Some((at, None)));
        }
        if at == self.text.len() {
            return if last { Ok(Some((at, None))) } else { Ok(None) };
        }
        let mut record = Record::default();
        match scan::record(dialect, &self.text, at, last, &mut record) {
            Scanned::Record(next) => {
                let names = record.fields.iter().map(|span| record.value(&self.text, span).to_owned()).collect();
                Ok(Some((next, Some(names))))
            }
            Scanned::Cut(_) => Ok(None),
            Scanned::Malformed(what) => Err(fault::file(&self.label, format!("the header is damaged: {what}"))),
        }
    }

    /// Number of fields of the next record; `None` at the end of the file.
    async fn width(&mut self, dialect: &Dialect) -> Result<Option<usize>> {
        let mut record = Record::default();
        loop {
            let last = self.last();
            if self.at < self.text.len() {
                match scan::record(dialect, &self.text, self.at, last, &mut record) {
                    Scanned::Record(_) => return Ok(Some(record.fields.len())),
                    Scanned::Cut(_) => {}
                    Scanned::Malformed(what) => {
                        return Err(fault::file(&self.label, format!("row 1 is damaged: {what}")));
                    }
                }
            }
            if last {
                return Ok(None);
            }
            if self.text.len() > PREAMBLE_BYTES_MAX {
                let what = format!("its first row does not end within {PREAMBLE_BYTES_MAX} bytes");
                return Err(fault::file(&self.label, what));
            }
            self.more(FIRST_PIECE_BYTES).await?;
        }
    }
}

/// The columns of a file: named by its header, else by the declaration, else `Prop_0` and so on.
pub(super) async fn columns(
    dialect: &Dialect,
    file: Arc<dyn RangeReader>,
    declared: &[DeclaredColumn],
) -> Result<Vec<Column>> {
    let mut window = Window::new(file);
    let names = window.preamble(dialect).await?;
    let by_declaration = || declared.iter().map(|column| text_column(column.name.clone(), column.kind)).collect();
    match names {
        Some(names) => named(names, declared, &window.label),
        None if !declared.is_empty() => Ok(by_declaration()),
        None if dialect.header => Err(fault::file(&window.label, "it is empty, where a header should be")),
        None => match window.width(dialect).await? {
            Some(width) => Ok((0..width).map(|index| text_column(format!("Prop_{index}"), None)).collect()),
            None => Err(fault::file(&window.label, "it is empty, and the dataset declares no columns")),
        },
    }
}

fn named(names: Vec<String>, declared: &[DeclaredColumn], label: &str) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let name = if name.is_empty() { format!("Prop_{index}") } else { name };
        if columns.iter().any(|column| column.name == name) {
            return Err(fault::file(label, format!("its header names column \"{name}\" twice")));
        }
        let kind = declared.iter().find(|declared| declared.name == name).and_then(|declared| declared.kind);
        columns.push(text_column(name, kind));
    }
    let missing = declared.iter().find(|declared| !columns.iter().any(|column| column.name == declared.name));
    if let Some(declared) = missing {
        let message = format!("The header of file {label} has no column \"{}\", which is declared.", declared.name);
        return Err(Fault::new("UserErrorColumnMissing", message).with("column", &declared.name).into());
    }
    Ok(columns)
}

/// All rows of a file.
pub(super) fn stream(
    dialect: Arc<Dialect>,
    file: Arc<dyn RangeReader>,
    columns: Vec<Column>,
    limits: BatchLimits,
    rejects: Option<Arc<Rejects>>,
) -> BatchStream {
    let window = Window::new(file);
    let mut reader = RowReader::new(dialect.clone(), columns, window.label.clone(), limits);
    if let Some(rejects) = rejects {
        reader = reader.tolerant(rejects);
    }
    let piece = PIECE_BYTES.min(limits.bytes.max(PIECE_BYTES_MIN) as u64);
    let state = Reading { dialect, window, reader, piece, started: false, ended: false };
    Box::pin(futures::stream::try_unfold(state, |mut state| async move {
        Ok(state.next().await?.map(|batch| (batch, state)))
    }))
}

struct Reading {
    dialect: Arc<Dialect>,
    window: Window,
    reader: RowReader,
    piece: u64,
    started: bool,
    ended: bool,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if !self.started {
            self.window.preamble(&self.dialect).await?;
            self.started = true;
        }
        // The batch before has gone.
        self.window.room.give_back();
        while !self.ended {
            let last = self.window.last();
            match self.reader.take(&self.window.text, &mut self.window.at, last)? {
                Pause::Full => {
                    self.window.forget();
                    return self.reader.batch();
                }
                Pause::End => {
                    self.window.forget();
                    self.ended = true;
                }
                Pause::NeedsMore => self.window.more(self.piece).await?,
            }
        }
        self.reader.batch()
    }
}
