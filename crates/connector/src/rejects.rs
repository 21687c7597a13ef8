//! Rows that a reader leaves out instead of failing: they travel beside the batches, so that reading without
//! tolerance pays nothing for them. Nothing here decides how many may be left out.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A row that does not fit, and why. The reason never quotes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Its number in the part, from 1, counting the rows left out; for text files the number in the file.
    pub row: u64,
    /// Name of the source's column that does not fit; empty where it is the row as a whole.
    pub column: String,
    /// Fault code.
    pub code: &'static str,
    /// A sentence.
    pub reason: String,
    /// The row as text, by source column; more or fewer where the row has another number of values.
    pub values: Vec<Option<String>>,
}

/// Where a reader puts the rows it leaves out, in row order. What it has put in before a batch comes before the
/// first row after that batch; so numbers of the batch's rows follow from the numbers left out.
#[derive(Debug, Default)]
pub struct Rejects(Mutex<Vec<Reject>>);

impl Rejects {
    fn lock(&self) -> MutexGuard<'_, Vec<Reject>> {
        // A panic of another holder leaves the list whole: every change is one push or one take.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a row.
    pub fn push(&self, reject: Reject) {
        self.lock().push(reject);
    }

    /// Takes what was added since the last call.
    pub fn take(&self) -> Vec<Reject> {
        std::mem::take(&mut *self.lock())
    }
}
