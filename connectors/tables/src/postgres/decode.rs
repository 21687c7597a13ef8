//! Rows of a binary COPY into Arrow columns, without an allocation per row. It knows no sockets; bytes that are not
//! as the format says are an error, never a panic.

use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, UInt32Type,
};
use arrow_array::{ArrayRef, RecordBatch};
use dmg_connector::{BatchLimits, Column, Error, Result};
use dmg_protocol::Kind;

use super::numeric;
use super::types::Form;
use crate::arrays::{self, Rows, primitive};
use crate::batch::Batch;

/// Days and microseconds from 1970 to 2000, where PostgreSQL counts from.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Why a value is refused: the sentence "the value is ..." and perhaps a way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The bytes are not a value of the form.
    Damaged,
    /// NaN or an infinity in a decimal column.
    NotFinite,
    /// More digits than planned.
    Digits,
    /// A moment beyond what microseconds since 1970 can say.
    Moment,
    /// A value above the limit.
    TooLarge,
}

/// Collects rows into batches.
pub(super) struct Decoder {
    batch: Batch,
    cells: Vec<Cells>,
}

impl Decoder {
    /// A decoder for columns in those forms.
    pub(super) fn new(columns: &[Column], forms: &[Form], limits: BatchLimits, label: &str) -> Self {
        let capacity = limits.rows.min(1 << 16);
        Decoder {
            batch: Batch::new(columns, limits, label),
            cells: forms.iter().map(|form| Cells::new(*form, capacity)).collect(),
        }
    }

    /// Whether the batch should be taken.
    #[inline]
    pub(super) fn full(&self) -> bool {
        self.batch.full()
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Adds a row: the body of one tuple, without the header of the stream. `false` at the trailer.
    #[inline]
    pub(super) fn row(&mut self, body: &[u8]) -> Result<bool> {
        let Some((count, mut rest)) = body.split_first_chunk::<2>() else { return Err(self.damaged()) };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            return Ok(false);
        }
        if count as usize != self.cells.len() {
            return Err(self.damaged());
        }
        let value_max = self.batch.value_bytes_max();
        for index in 0..self.cells.len() {
            let Some((length, after)) = rest.split_first_chunk::<4>() else { return Err(self.damaged()) };
            let length = i32::from_be_bytes(*length);
            if length < 0 {
                rest = after;
                self.cells[index].push_null();
                continue;
            }
            let Some((value, after)) = after.split_at_checked(length as usize) else { return Err(self.damaged()) };
            rest = after;
            if value.len() > value_max {
                return Err(self.refuse(index, Refusal::TooLarge));
            }
            if let Err(refusal) = self.cells[index].push(value) {
                return Err(self.refuse(index, refusal));
            }
        }
        self.batch.count(body.len());
        Ok(true)
    }

    /// The batch so far.
    pub(super) fn take(&mut self) -> Result<RecordBatch> {
        let Decoder { batch, cells } = self;
        batch.take(|index, kind| cells[index].take(kind))
    }

    /// Refuses a tuple that is too large to be taken whole, naming the column as far as what has come of it tells.
    pub(super) fn oversized(&self, partial: &[u8]) -> Error {
        let mut rest = partial.get(2..).unwrap_or(&[]);
        for index in 0..self.cells.len() {
            let Some((length, after)) = rest.split_first_chunk::<4>() else { break };
            let length = i32::from_be_bytes(*length).max(0) as usize;
            if length > self.batch.value_bytes_max() {
                return self.batch.too_large(index);
            }
            let Some(after) = after.get(length..) else { break };
            rest = after;
        }
        self.batch.oversized()
    }

    #[cold]
    fn damaged(&self) -> Error {
        self.batch.damaged("a form its protocol does not allow")
    }

    #[cold]
    fn refuse(&self, index: usize, refusal: Refusal) -> Error {
        let Column { name, kind, .. } = &self.batch.columns()[index];
        let as_text =
            |cast: &str| format!("Read the column as text, by a query with \"{name}\"::{cast}, or correct the value.");
        let (what, remedy) = match refusal {
            Refusal::Damaged => return self.damaged(),
            Refusal::TooLarge => return self.batch.too_large(index),
            Refusal::NotFinite => (format!("NaN or an infinity, which {kind} cannot hold"), Some(as_text("numeric"))),
            Refusal::Digits => (format!("a number with more digits than {kind}"), None),
            Refusal::Moment => ("a moment beyond the year 294246".to_owned(), Some(as_text("text"))),
        };
        self.batch.refuse(index, &what, remedy.as_deref())
    }
}

/// The values of one column so far.
struct Cells {
    values: Values,
    rows: Rows,
}

enum Values {
    Boolean(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Oid(Vec<u32>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: u8 },
    Date(Vec<i32>),
    Moment(Vec<i64>),
    Time(Vec<i64>),
    Uuid(Vec<u8>),
    Variable { offsets: Vec<i32>, bytes: Vec<u8>, skip: usize },
}

impl Cells {
    fn new(form: Form, capacity: usize) -> Self {
        let values = match form {
            Form::Boolean => Values::Boolean(BooleanBufferBuilder::new(capacity)),
            Form::Int16 => Values::Int16(Vec::with_capacity(capacity)),
            Form::Int32 => Values::Int32(Vec::with_capacity(capacity)),
            Form::Int64 => Values::Int64(Vec::with_capacity(capacity)),
            Form::Oid => Values::Oid(Vec::with_capacity(capacity)),
            Form::Float32 => Values::Float32(Vec::with_capacity(capacity)),
            Form::Float64 => Values::Float64(Vec::with_capacity(capacity)),
            Form::Numeric { precision, scale } => {
                Values::Decimal { values: Vec::with_capacity(capacity), precision, scale }
            }
            Form::Date => Values::Date(Vec::with_capacity(capacity)),
            Form::Timestamp => Values::Moment(Vec::with_capacity(capacity)),
            Form::Time => Values::Time(Vec::with_capacity(capacity)),
            Form::Uuid => Values::Uuid(Vec::with_capacity(capacity * 16)),
            Form::Text | Form::Bytes | Form::Jsonb => Values::Variable {
                offsets: arrays::offsets(capacity),
                bytes: Vec::new(),
                skip: usize::from(form == Form::Jsonb),
            },
        };
        Cells { values, rows: Rows::default() }
    }

    #[inline]
    fn push_null(&mut self) {
        self.rows.null();
        match &mut self.values {
            Values::Boolean(bits) => bits.append(false),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Moment(values) | Values::Time(values) => values.push(0),
            Values::Oid(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Uuid(bytes) => bytes.extend_from_slice(&[0; 16]),
            Values::Variable { offsets, bytes, .. } => offsets.push(bytes.len() as i32),
        }
    }

    #[inline]
    fn push(&mut self, value: &[u8]) -> std::result::Result<(), Refusal> {
        self.rows.value();
        match &mut self.values {
            Values::Boolean(bits) => bits.append(exact::<1>(value)?[0] != 0),
            Values::Int16(values) => values.push(i16::from_be_bytes(exact(value)?)),
            Values::Int32(values) => values.push(i32::from_be_bytes(exact(value)?)),
            Values::Int64(values) => values.push(i64::from_be_bytes(exact(value)?)),
            Values::Oid(values) => values.push(u32::from_be_bytes(exact(value)?)),
            Values::Float32(values) => values.push(f32::from_be_bytes(exact(value)?)),
            Values::Float64(values) => values.push(f64::from_be_bytes(exact(value)?)),
            Values::Decimal { values, precision, scale } => values.push(numeric::decode(value, *precision, *scale)?),
            Values::Date(values) => values.push(match i32::from_be_bytes(exact(value)?) {
                infinite @ (i32::MAX | i32::MIN) => infinite,
                days => days.checked_add(EPOCH_DAYS).ok_or(Refusal::Moment)?,
            }),
            Values::Moment(values) => values.push(match i64::from_be_bytes(exact(value)?) {
                infinite @ (i64::MAX | i64::MIN) => infinite,
                micros => micros.checked_add(EPOCH_MICROS).filter(|sum| *sum != i64::MAX).ok_or(Refusal::Moment)?,
            }),
            Values::Time(values) => values.push(i64::from_be_bytes(exact(value)?)),
            Values::Uuid(bytes) => bytes.extend_from_slice(&exact::<16>(value)?),
            Values::Variable { offsets, bytes, skip } => {
                bytes.extend_from_slice(value.get(*skip..).ok_or(Refusal::Damaged)?);
                offsets.push(i32::try_from(bytes.len()).map_err(|_| Refusal::TooLarge)?);
            }
        }
        Ok(())
    }

    /// The column; none if text is not UTF-8.
    fn take(&mut self, kind: Kind) -> Option<ArrayRef> {
        let nulls = self.rows.take();
        Some(match &mut self.values {
            Values::Boolean(bits) => arrays::boolean(bits, nulls),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls, kind),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls, kind),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls, kind),
            Values::Oid(values) => primitive::<UInt32Type>(values, nulls, kind),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls, kind),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls, kind),
            Values::Decimal { values, .. } => primitive::<Decimal128Type>(values, nulls, kind),
            Values::Date(values) => primitive::<Date32Type>(values, nulls, kind),
            Values::Moment(values) => primitive::<TimestampMicrosecondType>(values, nulls, kind),
            Values::Time(values) => primitive::<Time64MicrosecondType>(values, nulls, kind),
            Values::Uuid(bytes) => arrays::uuids(bytes, nulls)?,
            Values::Variable { offsets, bytes, .. } => arrays::variable(offsets, bytes, nulls, kind)?,
        })
    }
}

#[inline]
fn exact<const N: usize>(value: &[u8]) -> std::result::Result<[u8; N], Refusal> {
    value.try_into().map_err(|_| Refusal::Damaged)
}
