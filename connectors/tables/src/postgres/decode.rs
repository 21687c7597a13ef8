//! Rows of a binary COPY into Arrow columns, without an allocation per row. It knows no sockets; bytes that are not
//! as the format says are an error, never a panic.

use std::sync::Arc;

use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, UInt32Type,
};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::SchemaRef;
use dmg_connector::{BatchLimits, Column, Error, Result, data_type, schema};
use dmg_protocol::{Fault, Kind};

use super::numeric;
use super::types::Form;

/// Days and microseconds from 1970 to 2000, where PostgreSQL counts from.
pub(super) const EPOCH_DAYS: i32 = 10_957;
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Batches never hold more, whatever is asked: offsets are 32 bits wide.
const BATCH_BYTES_MAX: usize = 1 << 30;

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
    columns: Vec<Column>,
    cells: Vec<Cells>,
    schema: SchemaRef,
    limits: BatchLimits,
    /// For messages: which part.
    label: String,
    rows: usize,
    bytes: usize,
    rows_before: u64,
}

impl Decoder {
    /// A decoder for columns in those forms.
    pub(super) fn new(columns: &[Column], forms: &[Form], limits: BatchLimits, label: &str) -> Self {
        let capacity = limits.rows.min(1 << 16);
        Decoder {
            columns: columns.to_vec(),
            cells: forms.iter().map(|form| Cells::new(*form, capacity)).collect(),
            schema: schema(columns),
            limits: BatchLimits { bytes: limits.bytes.min(BATCH_BYTES_MAX), ..limits },
            label: label.to_owned(),
            rows: 0,
            bytes: 0,
            rows_before: 0,
        }
    }

    /// Whether the batch should be taken.
    #[inline]
    pub(super) fn full(&self) -> bool {
        self.rows >= self.limits.rows || self.bytes >= self.limits.bytes
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
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
        let value_max = self.limits.value_bytes;
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
        self.rows += 1;
        self.bytes += body.len();
        Ok(true)
    }

    /// The batch so far.
    pub(super) fn take(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.cells.len());
        for index in 0..self.cells.len() {
            match self.cells[index].take(self.columns[index].kind) {
                Ok(array) => arrays.push(array),
                Err(()) => {
                    let name = &self.columns[index].name;
                    let message = format!(
                        "Column \"{name}\" holds text that is not UTF-8, within rows {} to {} of {}.",
                        self.rows_before + 1,
                        self.rows_before + rows as u64,
                        self.label
                    );
                    let remedy = "Correct the value, or give the database an encoding, so that the server converts it.";
                    return Err(Fault::new("UserErrorValue", message).remedy(remedy).with("column", name).into());
                }
            }
        }
        self.rows_before += rows as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(|error| {
            Error::caused(Fault::new("SystemErrorInternal", "Decoded columns do not fit their schema."), error)
        })
    }

    /// Refuses a tuple that is too large to be taken whole, naming the column as far as what has come of it tells.
    pub(super) fn oversized(&self, partial: &[u8]) -> Error {
        let mut rest = partial.get(2..).unwrap_or(&[]);
        for index in 0..self.cells.len() {
            let Some((length, after)) = rest.split_first_chunk::<4>() else { break };
            let length = i32::from_be_bytes(*length).max(0) as usize;
            if length > self.limits.value_bytes {
                return self.refuse(index, Refusal::TooLarge);
            }
            let Some(after) = after.get(length..) else { break };
            rest = after;
        }
        let row = self.rows_before + self.rows as u64 + 1;
        let message = format!("Row {row} of {} is too large for the memory budget.", self.label);
        Fault::new("UserErrorBudgetExceeded", message).with("row", row).into()
    }

    #[cold]
    fn damaged(&self) -> Error {
        let row = self.rows_before + self.rows as u64 + 1;
        let message = format!("The server sent row {row} of {} in a form its protocol does not allow.", self.label);
        Fault::new("StoreErrorAnswer", message).with("row", row).into()
    }

    #[cold]
    fn refuse(&self, index: usize, refusal: Refusal) -> Error {
        let Column { name, kind, type_name, .. } = &self.columns[index];
        let row = self.rows_before + self.rows as u64 + 1;
        let (code, what, remedy) = match refusal {
            Refusal::Damaged => return self.damaged(),
            Refusal::NotFinite => (
                "UserErrorValue",
                format!("NaN or an infinity, which {kind} cannot hold"),
                Some(format!("Read the column as text, by a query with \"{name}\"::numeric, or correct the value.")),
            ),
            Refusal::Digits => ("UserErrorValue", format!("a number with more digits than {kind}"), None),
            Refusal::Moment => (
                "UserErrorValue",
                "a moment beyond the year 294246".to_owned(),
                Some(format!("Read the column as text, by a query with \"{name}\"::text, or correct the value.")),
            ),
            Refusal::TooLarge => {
                ("UserErrorBudgetExceeded", "a value too large for the memory budget".to_owned(), None)
            }
        };
        let message = format!("Column \"{name}\" ({type_name}) holds {what}, in row {row} of {}.", self.label);
        let mut fault = Fault::new(code, message).with("column", name).with("row", row);
        if let Some(remedy) = remedy {
            fault = fault.remedy(remedy);
        }
        fault.into()
    }
}

/// The values of one column so far. NULL rows are remembered by number, so that columns without NULL pay nothing.
struct Cells {
    values: Values,
    rows: u32,
    nulls: Vec<u32>,
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
            Form::Text | Form::Bytes | Form::Jsonb => {
                let mut offsets = Vec::with_capacity(capacity + 1);
                offsets.push(0);
                Values::Variable { offsets, bytes: Vec::new(), skip: usize::from(form == Form::Jsonb) }
            }
        };
        Cells { values, rows: 0, nulls: Vec::new() }
    }

    #[inline]
    fn push_null(&mut self) {
        self.nulls.push(self.rows);
        self.rows += 1;
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
        self.rows += 1;
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

    fn take_nulls(&mut self) -> Option<NullBuffer> {
        let rows = std::mem::take(&mut self.rows) as usize;
        if self.nulls.is_empty() {
            return None;
        }
        let mut valid = BooleanBufferBuilder::new(rows);
        valid.append_n(rows, true);
        self.nulls.drain(..).for_each(|row| valid.set_bit(row as usize, false));
        Some(NullBuffer::new(valid.finish()))
    }

    /// The column; an error if text is not UTF-8.
    fn take(&mut self, kind: Kind) -> std::result::Result<ArrayRef, ()> {
        let nulls = self.take_nulls();
        Ok(match &mut self.values {
            Values::Boolean(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
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
            Values::Uuid(bytes) => {
                let bytes = renew(bytes);
                Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(bytes), nulls).map_err(|_| ())?)
            }
            Values::Variable { offsets, bytes, .. } => {
                let full = renew(offsets);
                offsets.push(0);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(full));
                let bytes = Buffer::from_vec(renew(bytes));
                if kind == Kind::Bytes {
                    Arc::new(BinaryArray::try_new(offsets, bytes, nulls).map_err(|_| ())?)
                } else {
                    Arc::new(StringArray::try_new(offsets, bytes, nulls).map_err(|_| ())?)
                }
            }
        })
    }
}

/// The vector's content; what stays behind has room for as much again.
fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let fresh = Vec::with_capacity(values.len());
    std::mem::replace(values, fresh)
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>, kind: Kind) -> ArrayRef {
    let values = ScalarBuffer::from(renew(values));
    Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(data_type(kind)))
}

#[inline]
fn exact<const N: usize>(value: &[u8]) -> std::result::Result<[u8; N], Refusal> {
    value.try_into().map_err(|_| Refusal::Damaged)
}
