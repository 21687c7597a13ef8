//! Records to batches: each field parsed into its column's kind.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use dmg_connector::text_form::ColumnParser;
use dmg_connector::{BatchLimits, Column, Error, Fragment, Result};
use dmg_protocol::Fault;

use super::dialect::Dialect;
use super::scan::{self, Record, Scanned};
use crate::fault;

/// Rows of a batch decoded from a fragment.
const FRAGMENT_BATCH_ROWS: usize = 32 * 1024;
/// Rows a builder is made ready for.
const BUILDER_ROWS: usize = 8 * 1024;

/// Why reading paused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// A batch is full.
    Full,
    /// The text ends before the record does.
    NeedsMore,
    /// No text is left.
    End,
}

/// Collects records into batches.
pub(super) struct RowReader {
    dialect: Arc<Dialect>,
    columns: Vec<Column>,
    schema: SchemaRef,
    parsers: Vec<ColumnParser>,
    record: Record,
    label: String,
    /// Rows before the batch being collected.
    rows: u64,
    /// Rows in it.
    pending: usize,
    pending_bytes: usize,
    limits: BatchLimits,
}

impl RowReader {
    pub(super) fn new(dialect: Arc<Dialect>, columns: Vec<Column>, label: String, limits: BatchLimits) -> Self {
        let ready_for = limits.rows.min(BUILDER_ROWS);
        RowReader {
            dialect,
            schema: dmg_connector::schema(&columns),
            parsers: columns.iter().map(|column| ColumnParser::new(column.kind, ready_for)).collect(),
            columns,
            record: Record::default(),
            label,
            rows: 0,
            pending: 0,
            pending_bytes: 0,
            limits,
        }
    }

    /// Takes records from `at` on, until a batch is full or the text is used up.
    pub(super) fn take(&mut self, text: &str, at: &mut usize, last: bool) -> Result<Pause> {
        while *at < text.len() {
            if self.pending >= self.limits.rows || self.pending_bytes >= self.limits.bytes {
                return Ok(Pause::Full);
            }
            let row = self.rows + self.pending as u64 + 1;
            match scan::record(&self.dialect, text, *at, last, &mut self.record) {
                Scanned::Record(next) => {
                    if self.columns.len() > 1 && self.record.blank() {
                        *at = next;
                        continue;
                    }
                    self.row(text, row)?;
                    self.pending += 1;
                    self.pending_bytes += next - *at;
                    *at = next;
                }
                Scanned::Cut(field) => {
                    if text.len() - field > self.limits.value_bytes.saturating_add(8) {
                        return Err(self.too_large(row, self.record.fields.len()));
                    }
                    return Ok(Pause::NeedsMore);
                }
                Scanned::Malformed(what) => {
                    return Err(fault::file(&self.label, format!("row {row} is damaged: {what}")));
                }
            }
        }
        Ok(if last { Pause::End } else { Pause::NeedsMore })
    }

    fn too_large(&self, row: u64, field: usize) -> Error {
        let column = self.columns.get(field).map_or("", |column| column.name.as_str());
        fault::too_large(&self.label, row, column, self.limits.value_bytes)
    }

    /// Adds the record found last.
    fn row(&mut self, text: &str, row: u64) -> Result<()> {
        let RowReader { dialect, columns, parsers, record, label, limits, .. } = self;
        if record.fields.len() != columns.len() {
            let what = format!("row {row} has {} columns instead of {}", record.fields.len(), columns.len());
            return Err(fault::file(label, what));
        }
        for (index, span) in record.fields.iter().enumerate() {
            if record.is_null(text, span, dialect) {
                if !columns[index].nullable {
                    return Err(fault::value(&format!("File {label}"), row, &columns[index].name, "NULL"));
                }
                parsers[index].push_null();
                continue;
            }
            let value = record.value(text, span);
            if value.len() > limits.value_bytes {
                return Err(fault::too_large(label, row, &columns[index].name, limits.value_bytes));
            }
            parsers[index]
                .push(value)
                .map_err(|class| fault::value(&format!("File {label}"), row, &columns[index].name, class))?;
        }
        Ok(())
    }

    /// The batch collected so far, unless it is empty.
    pub(super) fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if self.pending == 0 {
            return Ok(None);
        }
        let arrays = self.parsers.iter_mut().map(ColumnParser::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(|error| fault::internal(format!("Rows of {} make no batch: {error}.", self.label)))?;
        self.rows += self.pending as u64;
        (self.pending, self.pending_bytes) = (0, 0);
        Ok(Some(batch))
    }
}

/// Decodes a fragment again.
pub(super) fn fragment(dialect: &Arc<Dialect>, columns: &[Column], fragment: &Fragment) -> Result<Vec<RecordBatch>> {
    let differs = |what: &str| {
        let message = format!("Rows just written as text cannot be read again: {what}");
        Error::from(Fault::new("SystemErrorVerification", message))
    };
    let text = std::str::from_utf8(&fragment.bytes).map_err(|_| differs("they are no UTF-8."))?;
    let limits = BatchLimits { rows: FRAGMENT_BATCH_ROWS, bytes: usize::MAX, value_bytes: usize::MAX };
    let mut reader = RowReader::new(dialect.clone(), columns.to_vec(), "just written".to_owned(), limits);
    let (mut at, mut batches) = (0, Vec::new());
    loop {
        let pause = reader.take(text, &mut at, true).map_err(|error| differs(&error.fault.message))?;
        batches.extend(reader.batch()?);
        if pause != Pause::Full {
            return Ok(batches);
        }
    }
}

#[cfg(test)]
mod tests {
    use dmg_protocol::Kind;
    use dmg_protocol::job::TextFormat;
    use proptest::prelude::*;

    use super::*;

    fn reader(dialect: &Arc<Dialect>) -> RowReader {
        let columns = ["a", "b"].map(|name| super::super::text_column(name.to_owned(), Some(Kind::Text))).to_vec();
        let limits = BatchLimits { rows: usize::MAX, bytes: usize::MAX, value_bytes: 1 << 20 };
        RowReader::new(dialect.clone(), columns, "test".to_owned(), limits)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Wherever a piece of the file ends, the rows are the same.
        #[test]
        fn pieces_do_not_matter(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["a", "||", "|", "\"", "\\", "\r", "\n", "\r\n", "#", "##", "x\""]), 0..12),
            custom in any::<bool>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let settings = TextFormat {
                column_delimiter: "||".into(),
                row_delimiter: custom.then(|| "##".to_owned()),
                quote_char: Some('"'),
                escape_char: Some('\\'),
                ..TextFormat::default()
            };
            let dialect = Arc::new(Dialect::new(&settings).expect("good settings"));
            let text = pieces.concat();
            let mut whole = reader(&dialect);
            let expect = whole.take(&text, &mut 0, true).and_then(|_| whole.batch());
            let mut cut_reader = reader(&dialect);
            let mut at = 0;
            let first = &text[..cut.index(text.len() + 1)];
            let found = cut_reader
                .take(first, &mut at, false)
                .and_then(|_| cut_reader.take(&text, &mut at, true))
                .and_then(|_| cut_reader.batch());
            match (expect, found) {
                (Ok(expect), Ok(found)) => prop_assert_eq!(expect, found),
                (Err(expect), Err(found)) => prop_assert_eq!(expect.fault.message, found.fault.message),
                (expect, found) => prop_assert!(false, "{expect:?} against {found:?}"),
            }
        }
    }
}
