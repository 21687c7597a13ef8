//! Columns the copy adds to what it reads: a source that wraps another and appends them, so that plan, digest and proof
//! treat them like any column. And the author's words on how to read text, kept for the plan.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use async_trait::async_trait;
use dmg_connector::{BatchLimits, BatchStream, Column, Error, Rejects, Result, Source, Traffic, data_type, schema};
use dmg_protocol::job::{AddedColumn, AddedValue, Endpoint};
use dmg_protocol::{Attempt, Fault, Kind, PartPlan};
use futures::StreamExt;

/// Name in a part's spec: path of its file, as the author's columns show it.
pub(crate) const PATH: &str = "path";
/// Name in a part's spec: rows of its file that stand before it.
pub(crate) const ROWS_BEFORE: &str = "rowsBefore";

/// The endpoint as the reader of its files is to see it: a column with a culture or format of its own is text there, and
/// the plan makes its kind of it.
pub(crate) fn readable(endpoint: &Endpoint) -> Endpoint {
    let mut endpoint = endpoint.clone();
    for column in &mut endpoint.declared {
        if column.format.is_some() || column.culture.is_some() {
            column.kind = None;
        }
    }
    endpoint
}

/// The source with the added columns behind its own.
pub(crate) fn with(source: Box<dyn Source>, added: &[AddedColumn], attempt: &Attempt) -> Result<Box<dyn Source>> {
    if added.is_empty() {
        return Ok(source);
    }
    let mut columns = source.columns().to_vec();
    let mut values = Vec::with_capacity(added.len());
    for AddedColumn { name, value } in added {
        if columns.iter().any(|column| column.name == *name) {
            let message = format!("The column \"{name}\" is to be added, but the source has one of that name.");
            let remedy = "Give the added column another name.";
            return Err(Fault::new("UserErrorSchemaMismatch", message).remedy(remedy).with("column", name).into());
        }
        let own = |kind, type_name: &str, nullable| Column {
            name: name.clone(),
            kind,
            type_name: type_name.to_owned(),
            nullable,
            key: false,
        };
        let (column, value) = match value {
            AddedValue::Text { text } => (own(Kind::Text, "added text", false), Value::Text(text.clone())),
            AddedValue::RunId => (own(Kind::Text, "added run id", false), Value::Text(attempt.run.as_str().to_owned())),
            AddedValue::SourceFile => (own(Kind::Text, "added file path", true), Value::SourceFile),
            AddedValue::RowNumber => (own(Kind::Int64, "added row number", false), Value::RowNumber),
            AddedValue::Column { column: wanted } => {
                let known = source.columns();
                let index = known.iter().position(|column| column.name == *wanted).ok_or_else(|| {
                    let message =
                        format!("The added column \"{name}\" repeats the column \"{wanted}\", which the source lacks.");
                    Error::from(Fault::new("UserErrorColumnMissing", message).with("column", wanted))
                })?;
                (Column { name: name.clone(), key: false, ..known[index].clone() }, Value::Column(index))
            }
        };
        columns.push(column);
        values.push(value);
    }
    Ok(Box::new(Adding { source: source.into(), columns, values: values.into() }))
}

/// What an added column holds.
#[derive(Debug)]
enum Value {
    Text(String),
    SourceFile,
    RowNumber,
    Column(usize),
}

struct Adding {
    source: Arc<dyn Source>,
    columns: Vec<Column>,
    values: Arc<[Value]>,
}

/// One part's batches on their way through.
struct Appending {
    schema: arrow_schema::SchemaRef,
    values: Arc<[Value]>,
    path: Option<String>,
    /// Number of the last row seen, those left out included.
    number: i64,
    /// The part, and rows of it seen so far, for sources whose parts hold several files.
    part: Option<(Arc<dyn Source>, PartPlan, u64)>,
    /// What the reader leaves out, and where it is to be told.
    rejects: Option<(Arc<Rejects>, Arc<Rejects>)>,
    /// Numbers of rows left out since the last batch.
    left_out: Vec<i64>,
}

impl Appending {
    fn append(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut ahead = 0;
        if let Some((source, part, seen)) = &self.part
            && let Some(place) = source.place(part, seen + 1)
        {
            // A batch holds rows of one file.
            self.path = place.path;
            self.number = i64::try_from(place.row - 1).unwrap_or(i64::MAX);
            ahead = i64::try_from(*seen).unwrap_or(i64::MAX) - self.number;
        }
        if let Some((inner, outer)) = &self.rejects {
            for reject in inner.take() {
                self.left_out.push(i64::try_from(reject.row).unwrap_or(i64::MAX) - ahead);
                outer.push(reject);
            }
        }
        let rows = batch.num_rows();
        let mut arrays = batch.columns().to_vec();
        if let Some((.., seen)) = &mut self.part {
            *seen += (rows + self.left_out.len()) as u64;
        }
        let numbers = self.numbers(rows);
        for value in self.values.iter() {
            let array: ArrayRef = match value {
                Value::Text(text) => repeated(text, rows),
                Value::SourceFile => match &self.path {
                    Some(path) => repeated(path, rows),
                    None => new_null_array(&data_type(Kind::Text), rows),
                },
                Value::RowNumber => Arc::new(Int64Array::from(numbers.clone())),
                Value::Column(index) => batch.column(*index).clone(),
            };
            arrays.push(array);
        }
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(|error| {
            Error::caused(Fault::new("SystemErrorInternal", "Added columns do not fit the rows."), error)
        })
    }

    /// Numbers of the next rows: what was left out has numbers too.
    fn numbers(&mut self, rows: usize) -> Vec<i64> {
        let mut left_out = std::mem::take(&mut self.left_out).into_iter().peekable();
        let mut numbers = Vec::with_capacity(rows);
        for _ in 0..rows {
            self.number += 1;
            while left_out.next_if(|row| *row <= self.number).is_some() {
                self.number += 1;
            }
            numbers.push(self.number);
        }
        self.number += left_out.count() as i64;
        numbers
    }
}

fn repeated(text: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, rows)))
}

impl Adding {
    fn through(
        &self,
        part: &PartPlan,
        batches: BatchStream,
        rejects: Option<(Arc<Rejects>, Arc<Rejects>)>,
    ) -> BatchStream {
        let mut appending = Appending {
            schema: schema(&self.columns),
            values: self.values.clone(),
            path: part.spec.get(PATH).and_then(serde_json::Value::as_str).map(str::to_owned),
            number: part.spec.get(ROWS_BEFORE).and_then(serde_json::Value::as_i64).unwrap_or(0),
            part: Some((self.source.clone(), part.clone(), 0)),
            rejects,
            left_out: Vec::new(),
        };
        Box::pin(batches.map(move |batch| batch.and_then(|batch| appending.append(&batch))))
    }
}

#[async_trait]
impl Source for Adding {
    fn label(&self) -> String {
        self.source.label()
    }

    fn columns(&self) -> &[Column] {
        &self.columns
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
        Ok(self.through(part, self.source.read(part, limits).await?, None))
    }

    async fn read_tolerant(&self, part: &PartPlan, limits: BatchLimits, rejects: Arc<Rejects>) -> Result<BatchStream> {
        let inner = Arc::new(Rejects::default());
        let batches = self.source.read_tolerant(part, limits, inner.clone()).await?;
        Ok(self.through(part, batches, Some((inner, rejects))))
    }

    fn traffic(&self) -> Arc<Traffic> {
        self.source.traffic()
    }

    fn place(&self, part: &PartPlan, row: u64) -> Option<dmg_connector::Place> {
        self.source.place(part, row)
    }

    fn file(&self, index: usize) -> Option<&dmg_connector::FileEntry> {
        self.source.file(index)
    }

    fn notices(&self) -> Vec<String> {
        self.source.notices()
    }

    async fn finish(&self) -> Result<()> {
        self.source.finish().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_what_was_left_out() {
        let mut appending = Appending {
            schema: schema(&[]),
            values: Arc::new([]),
            path: None,
            number: 10,
            part: None,
            rejects: None,
            left_out: vec![11, 13, 14, 17],
        };
        assert_eq!(appending.numbers(3), [12, 15, 16]);
        appending.left_out = vec![19];
        assert_eq!(appending.numbers(3), [18, 20, 21]);
    }
}
