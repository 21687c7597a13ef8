//! Records to batches: each field parsed into its column's kind.

use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use dmg_connector::text_form::ColumnParser;
use dmg_connector::{BatchLimits, Column, Error, Fragment, Reject, Rejects, Result};
use dmg_protocol::Fault;

use super::dialect::Dialect;
use super::scan::{self, Record, Scanned};
use crate::fault;

/// Rows of a batch decoded from a fragment.
const FRAGMENT_BATCH_ROWS: usize = 32 * 1024;
/// Rows a builder is made ready for.
const BUILDER_ROWS: usize = 8 * 1024;
/// Bytes a value takes at least while it is read.
const VALUE_BYTES: usize = 16;

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
    /// Rows found so far, those left out included.
    rows: u64,
    /// Rows in the batch being collected.
    pending: usize,
    pending_bytes: usize,
    limits: BatchLimits,
    /// Where rows go that do not fit; absent: the first one ends the reading.
    rejects: Option<Arc<Rejects>>,
    /// Rows of the batch being collected that were left out after some of their values were taken.
    dead: Vec<usize>,
    /// Rows left out since the last batch, and their bytes.
    left_out: usize,
    left_out_bytes: usize,
}

impl RowReader {
    pub(super) fn new(dialect: Arc<Dialect>, columns: Vec<Column>, label: String, limits: BatchLimits) -> Self {
        // A builder that is made ready for more rows than a batch can have keeps memory that nobody counts.
        let fitting = limits.bytes / (columns.len().max(1) * VALUE_BYTES);
        let ready_for = limits.rows.min(BUILDER_ROWS).min(fitting.max(1));
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
            rejects: None,
            dead: Vec::new(),
            left_out: 0,
            left_out_bytes: 0,
        }
    }

    /// Leaves rows out that do not fit, instead of failing.
    pub(super) fn tolerant(mut self, rejects: Arc<Rejects>) -> Self {
        self.rejects = Some(rejects);
        self
    }

    /// Takes records from `at` on, until a batch is full or the text is used up.
    pub(super) fn take(&mut self, text: &str, at: &mut usize, last: bool) -> Result<Pause> {
        while *at < text.len() {
            if self.pending >= self.limits.rows || self.pending_bytes >= self.limits.bytes || self.many_left_out() {
                return Ok(Pause::Full);
            }
            let row = self.rows + 1;
            match scan::record(&self.dialect, text, *at, last, &mut self.record) {
                Scanned::Record(next) => {
                    if self.columns.len() > 1 && self.record.blank() {
                        *at = next;
                        continue;
                    }
                    if let Err(error) = self.row(text, row) {
                        self.leave_out(text, row, next - *at, error)?;
                    } else {
                        self.pending += 1;
                        self.pending_bytes += next - *at;
                    }
                    self.rows = row;
                    *at = next;
                }
                Scanned::Cut(field) => {
                    if self.dialect.shortest(&text.as_bytes()[field..]) > self.limits.value_bytes.saturating_add(8) {
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

    /// Adds the record found last. Where it does not fit, the columns before the one that is named have its values.
    #[inline]
    fn row(&mut self, text: &str, row: u64) -> std::result::Result<(), Unfit> {
        let RowReader { dialect, columns, parsers, record, label, limits, .. } = self;
        if record.fields.len() != columns.len() {
            return Err(Unfit::Shape);
        }
        for (index, span) in record.fields.iter().enumerate() {
            if record.is_null(text, span, dialect) {
                if !columns[index].nullable {
                    return Err(Unfit::Value(index, "NULL"));
                }
                parsers[index].push_null();
                continue;
            }
            let value = record.value(text, span);
            if value.len() > limits.value_bytes {
                return Err(Unfit::Fatal(fault::too_large(label, row, &columns[index].name, limits.value_bytes)));
            }
            parsers[index].push(value).map_err(|class| Unfit::Value(index, class))?;
        }
        Ok(())
    }

    /// A row that does not fit ends the reading, or is left out where that is allowed.
    #[cold]
    fn leave_out(&mut self, text: &str, row: u64, bytes: usize, unfit: Unfit) -> Result<()> {
        let Some(rejects) = &self.rejects else { return Err(self.failed(row, unfit)) };
        let (column, code, reason) = match unfit {
            Unfit::Fatal(error) => return Err(error),
            Unfit::Shape => {
                let (found, wanted) = (self.record.fields.len(), self.columns.len());
                (String::new(), "UserErrorFileFormat", format!("The row has {found} columns instead of {wanted}."))
            }
            Unfit::Value(index, class) => {
                // The row's place in the batch is taken already: it is filled up, and cut out with the batch.
                self.parsers[index..].iter_mut().for_each(ColumnParser::push_null);
                self.dead.push(self.pending);
                self.pending += 1;
                (self.columns[index].name.clone(), "UserErrorValue", format!("The value is {class}."))
            }
        };
        let field = |span| {
            let null = self.record.is_null(text, span, &self.dialect);
            (!null).then(|| self.record.value(text, span).to_owned())
        };
        let values = self.record.fields.iter().map(field).collect();
        rejects.push(Reject { row, column, code, reason, values });
        self.left_out += 1;
        self.left_out_bytes += bytes;
        Ok(())
    }

    #[cold]
    fn failed(&self, row: u64, unfit: Unfit) -> Error {
        match unfit {
            Unfit::Fatal(error) => error,
            Unfit::Shape => {
                let (found, wanted) = (self.record.fields.len(), self.columns.len());
                fault::file(&self.label, format!("row {row} has {found} columns instead of {wanted}"))
            }
            Unfit::Value(index, class) => {
                fault::value(&format!("File {}", self.label), row, &self.columns[index].name, class)
            }
        }
    }

    /// Rows left out are held in memory until a batch takes them along.
    fn many_left_out(&self) -> bool {
        self.left_out >= self.limits.rows || self.left_out_bytes >= self.limits.bytes
    }

    /// The batch collected so far, unless nothing was found; empty where only rows to leave out were.
    pub(super) fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if self.pending == 0 && self.left_out == 0 {
            return Ok(None);
        }
        let arrays = self.parsers.iter_mut().map(ColumnParser::finish).collect();
        let mut batch = RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(|error| fault::internal(format!("Rows of {} make no batch: {error}.", self.label)))?;
        if !self.dead.is_empty() {
            batch = without(&batch, &std::mem::take(&mut self.dead))?;
        }
        (self.pending, self.pending_bytes) = (0, 0);
        self.record.shrink(self.limits.bytes);
        (self.left_out, self.left_out_bytes) = (0, 0);
        Ok(Some(batch))
    }
}

/// Why a record is no row.
enum Unfit {
    /// It has another number of values than there are columns.
    Shape,
    /// The value of that column is of that class.
    Value(usize, &'static str),
    /// Nothing may be left out for this.
    Fatal(Error),
}

/// The batch without those rows.
fn without(batch: &RecordBatch, dead: &[usize]) -> Result<RecordBatch> {
    let mut keep = vec![true; batch.num_rows()];
    dead.iter().for_each(|row| keep[*row] = false);
    filter_record_batch(batch, &BooleanArray::from(keep))
        .map_err(|error| fault::internal(format!("Rows cannot be left out of a batch: {error}.")))
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
