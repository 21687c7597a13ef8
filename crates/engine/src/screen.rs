//! Rows that the target's own constraints refuse: the sink finds them among the staged ones, and they are left out like
//! any row that does not fit. The source's parts that hold them are read once more, for the redirect file tells the
//! row as the source has it. What is read then comes off the sums of what was read before, so the proof that follows
//! also tells whether it was these very rows that were taken out. It decides nothing about constraints itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::filter::filter_record_batch;
use dmg_connector::{
    BatchStream, Digester, Error, ROW_COLUMN, Refused, Reject, Rejects, Result, Rule, Sink, Sums, published_seed,
    text_form,
};
use dmg_protocol::{Fault, PartPlan};
use futures::StreamExt;

use crate::lanes::{self, Work};
use crate::tolerate::{self, Tolerate};

/// Refused rows asked for at once.
const PAGE: usize = 10_000;
/// Bits of a row's number within its part.
const ROW_BITS: u32 = 40;

/// What tells a staged row apart: ascending in the order of the source.
fn key(part: u32, row: u64) -> i64 {
    (i64::from(part) << ROW_BITS) | (row as i64 & ((1 << ROW_BITS) - 1))
}

/// Part and row of a key.
fn place(key: i64) -> (u32, u64) {
    ((key >> ROW_BITS) as u32, (key & ((1 << ROW_BITS) - 1)) as u64)
}

/// The schema of batches for a sink that screens.
pub(crate) fn numbered_schema(planned: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = planned.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ROW_COLUMN, DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

/// The batch with the numbers of its rows behind.
pub(crate) fn number(batch: &RecordBatch, schema: &SchemaRef, part: u32, rows: &[u64]) -> Result<RecordBatch> {
    let keys: Int64Array = rows.iter().map(|row| Some(key(part, *row))).collect();
    let mut arrays: Vec<ArrayRef> = batch.columns().to_vec();
    arrays.push(Arc::new(keys));
    RecordBatch::try_new(schema.clone(), arrays).map_err(|error| {
        Error::caused(Fault::new("SystemErrorInternal", "The numbers of rows do not fit the rows."), error)
    })
}

/// Has the sink find what the target refuses, and leaves it out. Gives the sums of those rows, to be taken off those of
/// what was read.
pub(crate) async fn screen(work: &Work, tolerate: &Tolerate) -> Result<Sums> {
    let digester = Digester::new(&work.hashed, published_seed());
    let rules = work.sink.screen().await?;
    if rules.is_empty() {
        return Ok(digester.finish());
    }
    dmg_ambient::failpoint!("engine.screened", dmg_connector::cut());
    let mut again = Again { work, rules, digester, part: None };
    let (mut after, mut rows) = (-1, 0_u64);
    loop {
        let page = work.sink.refused(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.row;
        for refused in page.chunk_by(|a, b| place(a.row).0 == place(b.row).0) {
            let part = work.source.parts().get(place(refused[0].row).0 as usize).ok_or_else(|| unknown(refused[0]))?;
            let left_out = again.rows(part, refused).await?;
            rows += left_out.len() as u64;
            tolerate.leave_out_late(part, left_out).await?;
        }
    }
    again.end().await?;
    let sums = again.digester.finish();
    dmg_ambient::failpoint!("engine.screened.told", dmg_connector::cut());
    let taken = work.sink.take_out().await?;
    if taken != rows {
        let message = format!("{rows} staged rows were refused, but {taken} were taken out of the staging place.");
        return Err(Fault::new("SystemErrorVerification", message).into());
    }
    work.counters.rows_written.fetch_sub(rows, Ordering::Relaxed);
    Ok(Sums { rows, ..sums })
}

/// Whether a commit failed for staged rows that fitted when they were screened: then somebody else wrote since.
pub(crate) async fn collided(tolerant: bool, sink: &dyn Sink, error: &Error) -> bool {
    let constraint = matches!(error.fault.code.as_str(), "UserErrorDuplicateKey" | "UserErrorValue");
    if !tolerant || !sink.screens() || !constraint || error.outcome_unknown {
        return false;
    }
    sink.screen().await.is_ok_and(|rules| !rules.is_empty())
}

fn unknown(refused: Refused) -> Error {
    let message = format!("The staging place holds a row with the number {}, which nobody gave it.", refused.row);
    Fault::new("SystemErrorVerification", message).into()
}

/// Reads parts once more.
struct Again<'a> {
    work: &'a Work,
    rules: Vec<Rule>,
    digester: Digester,
    part: Option<Reading>,
}

/// A part on its way, as far as it was needed.
struct Reading {
    index: u32,
    batches: BatchStream,
    rejects: Arc<Rejects>,
    /// Rows before the batch, those left out included.
    before: u64,
    batch: RecordBatch,
    numbers: Vec<u64>,
}

impl Reading {
    /// Whether there was another batch.
    async fn next(&mut self) -> Result<bool> {
        let Some(batch) = self.batches.next().await else { return Ok(false) };
        let batch = batch?;
        let left_out = self.rejects.take();
        self.numbers = tolerate::numbers(batch.num_rows(), self.before, &left_out);
        self.before += (batch.num_rows() + left_out.len()) as u64;
        self.batch = batch;
        Ok(true)
    }
}

impl Again<'_> {
    /// Those rows of a part, in their order, as the redirect file tells them.
    async fn rows(&mut self, part: &PartPlan, refused: &[Refused]) -> Result<Vec<Reject>> {
        let mut wanted: BTreeMap<u64, usize> =
            refused.iter().map(|refused| (place(refused.row).1, refused.rule)).collect();
        if self.part.as_ref().is_some_and(|reading| reading.index != part.index) {
            self.end().await?;
        }
        let mut reading = match self.part.take() {
            Some(reading) => reading,
            None => self.open(part).await?,
        };
        let mut found = Vec::with_capacity(wanted.len());
        loop {
            let keep: BooleanArray = reading.numbers.iter().map(|number| Some(wanted.contains_key(number))).collect();
            if keep.true_count() > 0 {
                let rows: Vec<(u64, usize)> = reading
                    .numbers
                    .iter()
                    .filter_map(|number| wanted.remove(number).map(|rule| (*number, rule)))
                    .collect();
                self.tell(part, &reading.batch, &keep, &rows, &mut found)?;
            }
            if wanted.is_empty() {
                self.part = Some(reading);
                return Ok(found);
            }
            if !reading.next().await? {
                return Err(unstable(part));
            }
        }
    }

    /// Reads the part to its end: a session of the source that is left in the middle of its rows is lost.
    async fn end(&mut self) -> Result<()> {
        if let Some(mut reading) = self.part.take() {
            while reading.next().await? {}
        }
        Ok(())
    }

    async fn open(&self, part: &PartPlan) -> Result<Reading> {
        let rejects = Arc::new(Rejects::default());
        let batches = self.work.source.read_tolerant(part, self.work.limits, rejects.clone()).await?;
        let batch = RecordBatch::new_empty(dmg_connector::schema(self.work.source.columns()));
        Ok(Reading { index: part.index, batches, rejects, before: 0, batch, numbers: Vec::new() })
    }

    fn tell(
        &mut self,
        part: &PartPlan,
        batch: &RecordBatch,
        keep: &BooleanArray,
        rows: &[(u64, usize)],
        found: &mut Vec<Reject>,
    ) -> Result<()> {
        let work = self.work;
        let batch = filter_record_batch(batch, keep).map_err(|error| {
            Error::caused(Fault::new("SystemErrorInternal", "Rows cannot be picked out of a batch."), error)
        })?;
        // A row that was staged could be converted; one that cannot be now is another one.
        let converted = lanes::convert(work, &batch, part, 0).map_err(|error| match error.fault.code.as_str() {
            "UserErrorValue" => unstable(part),
            _ => error,
        })?;
        self.digester.update(&converted)?;
        let own = &work.source.columns()[..work.own_columns];
        let texts: Vec<_> = batch
            .columns()
            .iter()
            .zip(own)
            .map(|(array, column)| text_form::array_to_text(array, column.kind))
            .collect();
        for (at, (row, rule)) in rows.iter().enumerate() {
            let Some(rule) = self.rules.get(*rule) else {
                return Err(unknown(Refused { row: *row as i64, rule: *rule }));
            };
            let values = texts.iter().map(|text| text.is_valid(at).then(|| text.value(at).to_owned())).collect();
            let (column, code, reason) = (self.source_column(rule), rule.code, rule.reason.clone());
            found.push(Reject { row: *row, column, code, reason, values });
        }
        Ok(())
    }

    /// The source's column, where the rule speaks of one only.
    fn source_column(&self, rule: &Rule) -> String {
        let [column] = rule.columns.as_slice() else { return String::new() };
        let planned = self.work.columns.iter().find(|planned| planned.plan.sink.eq_ignore_ascii_case(column));
        planned.map_or(String::new(), |planned| planned.plan.source.clone())
    }
}

fn unstable(part: &PartPlan) -> Error {
    let message = format!(
        "{} was read again to tell which of its rows the target refuses, and its rows came in another order.",
        part.label
    );
    let remedy = "Order the query by a key, so that it gives its rows in the same order each time.";
    Fault::new("UserErrorSourceChanged", message).remedy(remedy).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend_with_the_source() {
        let places = [(0, 1), (0, 2), (0, (1 << ROW_BITS) - 1), (1, 1), (9_999, 1), (9_999, 500_000)];
        let keys: Vec<i64> = places.iter().map(|(part, row)| key(*part, *row)).collect();
        assert!(keys.is_sorted() && keys[0] > 0, "{keys:?}");
        assert_eq!(keys.iter().map(|key| place(*key)).collect::<Vec<_>>(), places);
    }
}
