//! Rows of cells into Arrow columns. It knows no sockets and no driver; a cell that does not fit its column is an
//! error that names row and column, never a panic and never a guess.

use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, UInt8Type,
};
use arrow_array::{ArrayRef, RecordBatch};
use dmg_connector::{BatchLimits, Column, Error, NANOS_PER_DAY, Result, offset_instants};
use dmg_protocol::Kind;

use super::cell::{self, Cell, DAY, DAYS_1900_TO_1970, DAYS_TO_1970, NANOS_PER_TICK};
use super::types::Form;
use super::variant;
use crate::arrays::{self, Rows, primitive, renew};
use crate::batch::Batch;

/// Why a cell is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It is no value of the column's type.
    Damaged,
    /// More digits, or finer, than planned.
    Digits,
    /// Money that a driver could only give as a floating number.
    Money,
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
        let capacity = limits.rows.min(1 << 14);
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

    /// Adds a row. Gives its bytes as the store counts them.
    #[inline]
    pub(super) fn row<'a>(&mut self, cells: impl Iterator<Item = Cell<'a>>) -> Result<usize> {
        let value_max = self.batch.value_bytes_max();
        let mut count = 0;
        let mut bytes = 0;
        for cell in cells {
            let Some(column) = self.cells.get_mut(count) else { return Err(self.damaged()) };
            match column.push(cell, value_max) {
                Ok(length) => bytes += length,
                Err(refusal) => return Err(self.refuse(count, refusal)),
            }
            count += 1;
        }
        if count != self.cells.len() {
            return Err(self.damaged());
        }
        self.batch.count(bytes);
        Ok(bytes)
    }

    /// The batch so far.
    pub(super) fn take(&mut self) -> Result<RecordBatch> {
        let columns = self.cells.iter_mut().zip(self.batch.columns());
        let arrays: Option<Vec<ArrayRef>> = columns.map(|(cells, column)| cells.take(column.kind)).collect();
        self.batch.take_arrays(arrays.unwrap_or_default())
    }

    #[cold]
    fn damaged(&self) -> Error {
        self.batch.damaged("another form than it described")
    }

    #[cold]
    fn refuse(&self, index: usize, refusal: Refusal) -> Error {
        let Column { name, kind, .. } = &self.batch.columns()[index];
        let (what, remedy) = match refusal {
            Refusal::Damaged => return self.damaged(),
            Refusal::TooLarge => return self.batch.too_large(index),
            Refusal::Digits => (format!("a value with more digits than {kind}"), None),
            Refusal::Money => (
                "an amount too large to be read exactly by a query".to_owned(),
                Some(format!("Select CAST([{name}] AS decimal(19,4)) AS [{name}] in the query.")),
            ),
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
    UInt8(Vec<u8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: u8 },
    Date(Vec<i32>),
    Micros(Vec<i64>),
    Time(Vec<i64>),
    Nanos(Vec<i128>),
    TimeNanos(Vec<i64>),
    WithOffset { instants: Vec<i128>, offsets: Vec<i16> },
    Uuid(Vec<u8>),
    Variable { offsets: Vec<i32>, bytes: Vec<u8>, form: Form },
}

impl Cells {
    fn new(form: Form, capacity: usize) -> Self {
        let values = match form {
            Form::Boolean => Values::Boolean(BooleanBufferBuilder::new(capacity)),
            Form::UInt8 => Values::UInt8(Vec::with_capacity(capacity)),
            Form::Int16 => Values::Int16(Vec::with_capacity(capacity)),
            Form::Int32 => Values::Int32(Vec::with_capacity(capacity)),
            Form::Int64 => Values::Int64(Vec::with_capacity(capacity)),
            Form::Float32 => Values::Float32(Vec::with_capacity(capacity)),
            Form::Float64 => Values::Float64(Vec::with_capacity(capacity)),
            Form::Decimal { precision, scale } => {
                Values::Decimal { values: Vec::with_capacity(capacity), precision, scale }
            }
            Form::Date => Values::Date(Vec::with_capacity(capacity)),
            Form::Timestamp | Form::Instant => Values::Micros(Vec::with_capacity(capacity)),
            Form::Time => Values::Time(Vec::with_capacity(capacity)),
            Form::TimestampNanos | Form::InstantNanos => Values::Nanos(Vec::with_capacity(capacity)),
            Form::TimeNanos => Values::TimeNanos(Vec::with_capacity(capacity)),
            Form::WithOffset => {
                Values::WithOffset { instants: Vec::with_capacity(capacity), offsets: Vec::with_capacity(capacity) }
            }
            Form::Uuid => Values::Uuid(Vec::with_capacity(capacity * 16)),
            Form::Text | Form::Bytes | Form::Variant => {
                Values::Variable { offsets: arrays::offsets(capacity), bytes: Vec::new(), form }
            }
        };
        Cells { values, rows: Rows::default() }
    }

    fn push_null(&mut self) {
        self.rows.null();
        match &mut self.values {
            Values::Boolean(bits) => bits.append(false),
            Values::UInt8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Micros(values) | Values::Time(values) | Values::TimeNanos(values) => {
                values.push(0);
            }
            Values::Nanos(values) => values.push(0),
            Values::WithOffset { instants, offsets } => {
                instants.push(0);
                offsets.push(0);
            }
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Uuid(bytes) => bytes.extend_from_slice(&[0; 16]),
            Values::Variable { offsets, bytes, .. } => offsets.push(bytes.len() as i32),
        }
    }

    #[inline]
    fn push(&mut self, cell: Cell<'_>, value_max: usize) -> std::result::Result<usize, Refusal> {
        if cell == Cell::Null {
            self.push_null();
            return Ok(1);
        }
        if !cell::possible(cell) {
            return Err(Refusal::Damaged);
        }
        self.rows.value();
        match (&mut self.values, cell) {
            (Values::Boolean(bits), Cell::Bool(value)) => bits.append(value),
            (Values::UInt8(values), Cell::U8(value)) => values.push(value),
            (Values::Int16(values), Cell::I16(value)) => values.push(value),
            (Values::Int32(values), Cell::I32(value)) => values.push(value),
            (Values::Int64(values), Cell::I64(value)) => values.push(value),
            (Values::Float32(values), Cell::F32(value)) => values.push(value),
            (Values::Float64(values), Cell::F64(value)) => values.push(value),
            (Values::Decimal { values, precision, scale }, cell) => values.push(decimal(cell, *precision, *scale)?),
            (Values::Date(values), Cell::Date(days)) => values.push((i64::from(days) - DAYS_TO_1970) as i32),
            (Values::Micros(values), cell) => values.push(micros(cell)?),
            (Values::Time(values), Cell::Time { ticks, scale }) => {
                values.push(cell::in_micros(ticks, scale).ok_or(Refusal::Digits)?);
            }
            (Values::Nanos(values), cell) => values.push(nanos(cell)?),
            (Values::TimeNanos(values), Cell::Time { ticks, scale }) => {
                values.push(cell::in_ticks7(ticks, scale) as i64 * NANOS_PER_TICK);
            }
            (Values::WithOffset { instants, offsets }, cell @ Cell::Offset { minutes, .. }) => {
                instants.push(nanos(cell)?);
                offsets.push(minutes);
            }
            (Values::Uuid(bytes), Cell::Uuid(value)) => bytes.extend_from_slice(&value),
            (Values::Variable { offsets, bytes, form }, cell) => {
                let start = bytes.len();
                match (*form, cell) {
                    (Form::Text, Cell::Text(text) | Cell::Xml(text)) => {
                        within(text.len(), value_max)?;
                        bytes.extend_from_slice(text.as_bytes());
                    }
                    (Form::Bytes, Cell::Bytes(octets)) => {
                        within(octets.len(), value_max)?;
                        bytes.extend_from_slice(octets);
                    }
                    (Form::Variant, cell) => variant::write(cell, bytes).ok_or(Refusal::Damaged)?,
                    _ => return Err(Refusal::Damaged),
                }
                offsets.push(i32::try_from(bytes.len()).map_err(|_| Refusal::TooLarge)?);
                return Ok(bytes.len() - start + 4);
            }
            _ => return Err(Refusal::Damaged),
        }
        Ok(8)
    }

    fn take(&mut self, kind: Kind) -> Option<ArrayRef> {
        let nulls = self.rows.take();
        Some(match &mut self.values {
            Values::Boolean(bits) => arrays::boolean(bits, nulls),
            Values::UInt8(values) => primitive::<UInt8Type>(values, nulls, kind),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls, kind),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls, kind),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls, kind),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls, kind),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls, kind),
            Values::Decimal { values, .. } => primitive::<Decimal128Type>(values, nulls, kind),
            Values::Date(values) => primitive::<Date32Type>(values, nulls, kind),
            Values::Micros(values) => primitive::<TimestampMicrosecondType>(values, nulls, kind),
            Values::Time(values) => primitive::<Time64MicrosecondType>(values, nulls, kind),
            Values::Nanos(values) => primitive::<Decimal128Type>(values, nulls, kind),
            Values::TimeNanos(values) => primitive::<Time64NanosecondType>(values, nulls, kind),
            Values::WithOffset { instants, offsets } => offset_instants(renew(instants), renew(offsets), nulls),
            Values::Uuid(bytes) => arrays::uuids(bytes, nulls)?,
            Values::Variable { offsets, bytes, .. } => arrays::variable(offsets, bytes, nulls, kind)?,
        })
    }
}

fn within(length: usize, most: usize) -> std::result::Result<(), Refusal> {
    if length > most { Err(Refusal::TooLarge) } else { Ok(()) }
}

fn decimal(cell: Cell<'_>, precision: u8, scale: u8) -> std::result::Result<i128, Refusal> {
    let value = match cell {
        Cell::Decimal { value, scale: own } if own == scale => value,
        Cell::Decimal { value, scale: own } if own < scale => {
            let factor = 10_i128.checked_pow(u32::from(scale - own)).ok_or(Refusal::Digits)?;
            value.checked_mul(factor).ok_or(Refusal::Digits)?
        }
        Cell::Decimal { value, scale: own } => {
            let factor = 10_i128.checked_pow(u32::from(own - scale)).ok_or(Refusal::Digits)?;
            if value % factor != 0 {
                return Err(Refusal::Digits);
            }
            value / factor
        }
        // Money in a query: below this a double holds four digits behind the point without doubt.
        Cell::F64(value) if scale == 4 && value.abs() < 400_000_000_000.0 => (value * 10_000.0).round() as i128,
        Cell::F64(_) => return Err(Refusal::Money),
        _ => return Err(Refusal::Damaged),
    };
    let most = 10_i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    if value <= -most || value >= most { Err(Refusal::Digits) } else { Ok(value) }
}

/// Microseconds since 1970.
#[inline]
fn micros(cell: Cell<'_>) -> std::result::Result<i64, Refusal> {
    let (days, micros) = match cell {
        Cell::DateTime2 { days, ticks, scale } | Cell::Offset { days, ticks, scale, .. } => {
            let micros = cell::in_micros(ticks, scale).ok_or(Refusal::Digits)?;
            (i64::from(days) - DAYS_TO_1970, micros)
        }
        Cell::DateTime { days, ticks } => (i64::from(days) - DAYS_1900_TO_1970, cell::shown_millis(ticks) * 1000),
        Cell::SmallDateTime { days, minutes } => (i64::from(days) - DAYS_1900_TO_1970, i64::from(minutes) * 60_000_000),
        _ => return Err(Refusal::Damaged),
    };
    Ok(days * DAY + micros)
}

/// Nanoseconds since 1970.
#[inline]
fn nanos(cell: Cell<'_>) -> std::result::Result<i128, Refusal> {
    let (Cell::DateTime2 { days, ticks, scale } | Cell::Offset { days, ticks, scale, .. }) = cell else {
        return Err(Refusal::Damaged);
    };
    let ticks = i128::from(cell::in_ticks7(ticks, scale));
    Ok(i128::from(i64::from(days) - DAYS_TO_1970) * NANOS_PER_DAY + ticks * i128::from(NANOS_PER_TICK))
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;

    use super::*;

    const LIMITS: BatchLimits = BatchLimits { rows: 10, bytes: 1 << 20, value_bytes: 5 };

    fn one(kind: Kind, form: Form, cells: &[Cell<'_>]) -> Result<ArrayRef> {
        let column = Column { name: "c".into(), kind, type_name: "t".into(), nullable: true, key: false };
        let mut decoder = Decoder::new(&[column], &[form], LIMITS, "part 1");
        for cell in cells {
            decoder.row([*cell].into_iter())?;
        }
        Ok(decoder.take()?.column(0).clone())
    }

    #[test]
    fn values_and_nulls() {
        let array = one(Kind::Int32, Form::Int32, &[Cell::I32(7), Cell::Null, Cell::I32(-7)]).expect("decodes");
        assert_eq!(array.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(7), None, Some(-7)]);
        let array = one(Kind::Text, Form::Text, &[Cell::Text("a"), Cell::Null, Cell::Text("")]).expect("decodes");
        assert_eq!(array.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), None, Some("")]);
        let kind = Kind::Decimal { precision: 19, scale: 4 };
        let cells = [Cell::Decimal { value: 15, scale: 1 }, Cell::F64(-0.0001)];
        let array = one(kind, Form::Decimal { precision: 19, scale: 4 }, &cells).expect("decodes");
        assert_eq!(array.as_primitive::<Decimal128Type>().values().to_vec(), [15_000, -1]);
        let cells = [
            Cell::DateTime { days: 0, ticks: 1 },
            Cell::SmallDateTime { days: 25_567, minutes: 1 },
            Cell::DateTime2 { days: 719_162, ticks: 5, scale: 1 },
        ];
        let array = one(Kind::Timestamp, Form::Timestamp, &cells).expect("decodes");
        let expected = [-2_208_988_799_997_000, 60_000_000, 500_000];
        assert_eq!(array.as_primitive::<TimestampMicrosecondType>().values().to_vec(), expected);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let decimal = Form::Decimal { precision: 5, scale: 4 };
        let kind = Kind::Decimal { precision: 5, scale: 4 };
        for (kind, form, cell, code) in [
            (Kind::Int32, Form::Int32, Cell::I64(1), "StoreErrorAnswer"),
            (Kind::Text, Form::Text, Cell::Text("longer"), "UserErrorBudgetExceeded"),
            (kind, decimal, Cell::Decimal { value: 123_456, scale: 4 }, "UserErrorValue"),
            (kind, decimal, Cell::Decimal { value: 1, scale: 5 }, "UserErrorValue"),
            (kind, decimal, Cell::F64(1e15), "UserErrorValue"),
            (Kind::Time, Form::Time, Cell::Time { ticks: 1, scale: 7 }, "UserErrorValue"),
            (Kind::Timestamp, Form::Timestamp, Cell::DateTime { days: 0x0808_0808, ticks: 0 }, "StoreErrorAnswer"),
        ] {
            let fault = one(kind, form, &[cell]).expect_err("is refused").fault;
            assert_eq!(fault.code, code, "{cell:?}");
            assert_eq!(fault.context["row"], "1");
        }
    }
}
