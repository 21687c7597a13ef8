//! A batch under way: what it holds so far, when it is full, and the words for a row that cannot go into it. It knows
//! no values: each store decodes its own.

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use dmg_connector::{BatchLimits, Column, Error, Result, schema};
use dmg_protocol::{Fault, Kind};

/// Batches never hold more, whatever is asked: offsets are 32 bits wide.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// Counts the rows of a part into batches.
pub(crate) struct Batch {
    columns: Vec<Column>,
    schema: SchemaRef,
    limits: BatchLimits,
    /// For messages: which part.
    label: String,
    rows: usize,
    bytes: usize,
    rows_before: u64,
}

impl Batch {
    /// An empty one.
    pub(crate) fn new(columns: &[Column], limits: BatchLimits, label: &str) -> Self {
        Batch {
            columns: columns.to_vec(),
            schema: schema(columns),
            limits: BatchLimits { bytes: limits.bytes.min(BATCH_BYTES_MAX), ..limits },
            label: label.to_owned(),
            rows: 0,
            bytes: 0,
            rows_before: 0,
        }
    }

    /// Whether it should be taken.
    #[inline]
    pub(crate) fn full(&self) -> bool {
        self.rows >= self.limits.rows || self.bytes >= self.limits.bytes
    }

    /// Whether there is nothing to take.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// No value may be larger.
    #[inline]
    pub(crate) fn value_bytes_max(&self) -> usize {
        self.limits.value_bytes
    }

    /// The columns.
    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Counts a row whose values are all in.
    #[inline]
    pub(crate) fn count(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }

    /// The rows so far, of columns that are given one after the other; none for text that is not UTF-8. The next
    /// batch begins.
    pub(crate) fn take(&mut self, mut column: impl FnMut(usize, Kind) -> Option<ArrayRef>) -> Result<RecordBatch> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for index in 0..self.columns.len() {
            match column(index, self.columns[index].kind) {
                Some(array) => arrays.push(array),
                None => {
                    let refusal = self.not_utf8(index);
                    (self.rows, self.bytes) = (0, 0);
                    return Err(refusal);
                }
            }
        }
        self.take_arrays(arrays)
    }

    /// The rows so far, of columns that are whole. The next batch begins.
    pub(crate) fn take_arrays(&mut self, arrays: Vec<ArrayRef>) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        self.rows_before += rows as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(|error| {
            Error::caused(Fault::new("SystemErrorInternal", "Decoded columns do not fit their schema."), error)
        })
    }

    /// The number of the row that is being added, of all rows of the part.
    fn row_number(&self) -> u64 {
        self.rows_before + self.rows as u64 + 1
    }

    fn not_utf8(&self, index: usize) -> Error {
        let name = &self.columns[index].name;
        let message = format!(
            "Column \"{name}\" holds text that is not UTF-8, within rows {} to {} of {}.",
            self.rows_before + 1,
            self.rows_before + self.rows as u64,
            self.label
        );
        let remedy = "Correct the value, or give the database an encoding, so that the server converts it.";
        Fault::new("UserErrorValue", message).remedy(remedy).with("column", name).into()
    }

    /// Refuses a row that is not as the server's protocol, or its own description, says. `how` ends the sentence "The
    /// server sent the row in ...".
    #[cold]
    pub(crate) fn damaged(&self, how: &str) -> Error {
        let row = self.row_number();
        let message = format!("The server sent row {row} of {} in {how}.", self.label);
        Fault::new("StoreErrorAnswer", message).with("row", row).into()
    }

    /// Refuses a row that is too large to be taken whole, where no single column is to blame.
    #[cold]
    pub(crate) fn oversized(&self) -> Error {
        let row = self.row_number();
        let message = format!("Row {row} of {} is too large for the memory budget.", self.label);
        Fault::new("UserErrorBudgetExceeded", message).with("row", row).into()
    }

    /// Refuses a value above the limit.
    #[cold]
    pub(crate) fn too_large(&self, index: usize) -> Error {
        self.value("UserErrorBudgetExceeded", index, "a value too large for the memory budget").into()
    }

    /// Refuses a value. `what` ends the sentence "The column holds ...".
    #[cold]
    pub(crate) fn refuse(&self, index: usize, what: &str, remedy: Option<&str>) -> Error {
        let fault = self.value("UserErrorValue", index, what);
        match remedy {
            Some(remedy) => fault.remedy(remedy).into(),
            None => fault.into(),
        }
    }

    fn value(&self, code: &str, index: usize, what: &str) -> Fault {
        let Column { name, type_name, .. } = &self.columns[index];
        let row = self.row_number();
        let message = format!("Column \"{name}\" ({type_name}) holds {what}, in row {row} of {}.", self.label);
        Fault::new(code, message).with("column", name).with("row", row)
    }
}
