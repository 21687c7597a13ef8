//! Rows that do not fit are left out, counted, and written to the redirect file; beyond the author's limits the copy
//! stops. Read = written + left out, exactly: a row is either in the digest of the source or counted here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use dmg_connector::{Column, Error, Reject, Result, text_form};
use dmg_protocol::job::Tolerance;
use dmg_protocol::{Fault, PartPlan, Skipped};

use crate::planner::Planned;
use crate::redirect::{self, Redirect};

/// What one copy leaves out, over all lanes.
pub(crate) struct Tolerate {
    limits: Tolerance,
    redirect: Option<Arc<Redirect>>,
    rows: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    by_code: BTreeMap<String, u64>,
    /// Part, row and words of the row that comes first in the source.
    first: Option<(u32, u64, String)>,
}

impl Tolerate {
    pub(crate) fn new(limits: Tolerance, redirect: Option<Arc<Redirect>>) -> Self {
        Tolerate { limits, redirect, rows: AtomicU64::new(0), told: Mutex::default() }
    }

    /// Rows left out so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::SeqCst)
    }

    /// Whether that many more are beyond the author's limit.
    fn would_be_too_many(&self, more: usize) -> bool {
        self.limits.rows_max.is_some_and(|most| self.rows() + more as u64 > most)
    }

    /// Takes rows of a part, in row order.
    pub(crate) async fn leave_out(&self, part: &PartPlan, rows: Vec<Reject>) -> Result<()> {
        self.count(part, &rows)?;
        match &self.redirect {
            Some(redirect) if !rows.is_empty() => redirect.add(part.index, &part.label, rows).await,
            _ => Ok(()),
        }
    }

    /// Takes rows of a part after all parts have ended.
    pub(crate) async fn leave_out_late(&self, part: &PartPlan, rows: Vec<Reject>) -> Result<()> {
        self.count(part, &rows)?;
        match &self.redirect {
            Some(redirect) => redirect.add_late(&part.label, &rows).await,
            None => Ok(()),
        }
    }

    fn count(&self, part: &PartPlan, rows: &[Reject]) -> Result<()> {
        let Some(first) = rows.first() else { return Ok(()) };
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            for reject in rows {
                *told.by_code.entry(reject.code.to_owned()).or_default() += 1;
            }
            if told.first.as_ref().is_none_or(|(index, row, _)| (part.index, first.row) < (*index, *row)) {
                let column =
                    if first.column.is_empty() { String::new() } else { format!(", column \"{}\"", first.column) };
                let words = format!("row {} of {}{column}: {}", first.row, part.label, first.reason);
                told.first = Some((part.index, first.row, words));
            }
        }
        let count = rows.len() as u64;
        let all = self.rows.fetch_add(count, Ordering::SeqCst) + count;
        match self.limits.rows_max.filter(|most| all > *most) {
            Some(most) => Err(self.too_many(&format!("At least {all} rows do not fit, and {most} may be left out"))),
            None => Ok(()),
        }
    }

    /// No more rows of that part will come.
    pub(crate) async fn end_part(&self, part: &PartPlan) -> Result<()> {
        match &self.redirect {
            Some(redirect) => redirect.end_part(part.index).await,
            None => Ok(()),
        }
    }

    /// Everything was read: `kept` rows and those left out.
    pub(crate) fn check_share(&self, kept: u64) -> Result<()> {
        let (left_out, read) = (self.rows(), kept + self.rows());
        match self.limits.share_max {
            Some(share) if left_out as f64 > share * read as f64 => {
                let most = share * 100.0;
                Err(self.too_many(&format!("{left_out} of {read} rows do not fit, and {most} % may be left out")))
            }
            _ => Ok(()),
        }
    }

    fn too_many(&self, what: &str) -> Error {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let first = told.first.as_ref().map_or("", |(_, _, words)| words);
        let message = format!("{what}. The target is as it was. The first: {first}");
        let mut fault = Fault::new("UserErrorTooManySkipped", message);
        for (code, rows) in &told.by_code {
            fault = fault.with(code, rows);
        }
        fault.into()
    }

    /// For the receipt. `committed` is what the redirect file's commit said.
    pub(crate) fn report(&self, committed: Option<&(u64, String)>) -> Skipped {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        Skipped {
            rows: self.rows(),
            redirect: committed.and(self.redirect.as_ref()).map(|redirect| redirect.label()),
            digest: committed.map(|(_, digest)| digest.clone()),
            by_code: told.by_code.clone(),
        }
    }
}

/// Bytes of rows left out that a part may hold back.
const HELD_BYTES_MAX: usize = 1024 * 1024;

/// Rows that a part left out so far. Where the part may yet be done again they are held back until it is done, so that
/// nobody hears of a row twice; beyond a size they are told at once, and the part cannot be repeated any more.
pub(crate) struct LeftOut {
    held: Option<Vec<Reject>>,
    bytes: usize,
}

impl LeftOut {
    pub(crate) fn new(hold: bool) -> Self {
        LeftOut { held: hold.then(Vec::new), bytes: 0 }
    }

    /// Whether nobody was told anything yet.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Takes rows, in row order.
    pub(crate) async fn add(&mut self, tolerate: &Tolerate, part: &PartPlan, rows: Vec<Reject>) -> Result<()> {
        let Some(held) = &mut self.held else { return tolerate.leave_out(part, rows).await };
        self.bytes += rows.iter().map(redirect::bytes).sum::<usize>();
        held.extend(rows);
        if self.bytes > HELD_BYTES_MAX || tolerate.would_be_too_many(held.len()) {
            return self.tell(tolerate, part).await;
        }
        Ok(())
    }

    /// Tells of all of them.
    pub(crate) async fn tell(&mut self, tolerate: &Tolerate, part: &PartPlan) -> Result<()> {
        match self.held.take() {
            Some(held) => tolerate.leave_out(part, held).await,
            None => Ok(()),
        }
    }
}

/// A batch whose rows all fit, their numbers, and those that did not fit.
pub(crate) struct Sorted {
    pub(crate) kept: RecordBatch,
    pub(crate) numbers: Vec<u64>,
    pub(crate) unfit: Vec<Reject>,
}

/// Takes rows out of a batch that a conversion refuses, or that are NULL where the target takes none. Only called
/// where such a row is known to be in it. `numbers` are those of the batch's rows.
pub(crate) fn sort(
    batch: &RecordBatch,
    source: &[Column],
    planned: &[Planned],
    required: &[bool],
    numbers: &[u64],
) -> Result<Sorted> {
    let mut found: BTreeMap<usize, (usize, String)> = BTreeMap::new();
    for (index, column) in planned.iter().enumerate() {
        let array = batch.column(column.source);
        if required.get(index).is_some_and(|required| *required) && array.null_count() > 0 {
            for row in (0..array.len()).filter(|row| array.is_null(*row)) {
                found.entry(row).or_insert((index, "NULL, which the target's column does not take".to_owned()));
            }
        }
        for unfit in column.conversion.unfit_rows(array) {
            found.entry(unfit.row).or_insert((index, unfit.class));
        }
    }
    let keep: BooleanArray = (0..batch.num_rows()).map(|row| Some(!found.contains_key(&row))).collect();
    let filter = |keep: &BooleanArray| {
        filter_record_batch(batch, keep).map_err(|error| {
            Error::caused(Fault::new("SystemErrorInternal", "Rows cannot be left out of a batch."), error)
        })
    };
    let kept = filter(&keep)?;
    let out =
        filter(&arrow_array::BooleanArray::from(keep.iter().map(|keep| keep == Some(false)).collect::<Vec<_>>()))?;
    let texts: Vec<_> =
        out.columns().iter().zip(source).map(|(array, column)| text_form::array_to_text(array, column.kind)).collect();
    let kept_numbers =
        numbers.iter().enumerate().filter(|(row, _)| !found.contains_key(row)).map(|(_, number)| *number);
    let kept_numbers = kept_numbers.collect();
    let unfit = found.into_iter().enumerate().map(|(at, (row, (index, class)))| Reject {
        row: numbers[row],
        column: planned[index].plan.source.clone(),
        code: "UserErrorValue",
        reason: format!("The value is {class}; the target's type is {}.", planned[index].plan.sink_type),
        values: texts.iter().map(|text| text.is_valid(at).then(|| text.value(at).to_owned())).collect(),
    });
    Ok(Sorted { unfit: unfit.collect(), numbers: kept_numbers, kept })
}

/// Numbers of the rows of a batch, from the numbers of rows left out around them: `before` rows were seen before.
pub(crate) fn numbers(rows: usize, before: u64, left_out: &[Reject]) -> Vec<u64> {
    let mut gaps = left_out.iter().map(|reject| reject.row).peekable();
    let mut next = before + 1;
    let mut numbers = Vec::with_capacity(rows);
    while numbers.len() < rows {
        if gaps.next_if_eq(&next).is_none() {
            numbers.push(next);
        }
        next += 1;
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers_in_the_file() {
        let reject = |row| Reject { row, column: String::new(), code: "x", reason: String::new(), values: Vec::new() };
        let check = |rows, before, left_out: &[u64], expect: &[u64]| {
            let left_out: Vec<_> = left_out.iter().map(|row| reject(*row)).collect();
            assert_eq!(numbers(rows, before, &left_out), expect);
        };
        check(3, 0, &[], &[1, 2, 3]);
        check(3, 10, &[11, 13], &[12, 14, 15]);
        check(2, 0, &[1, 2, 3], &[4, 5]);
        check(2, 0, &[3, 4], &[1, 2]);
        check(0, 5, &[6, 7], &[]);
    }
}
