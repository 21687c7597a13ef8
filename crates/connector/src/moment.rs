//! Moments finer than microseconds and moments with an offset: how their carriers count, and nothing about stores.

use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, Decimal128Builder, Int16Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int16Type};
use arrow_array::{Array, ArrayRef, Decimal128Array, Int16Array, StructArray};
use arrow_buffer::{NullBuffer, NullBufferBuilder};
use arrow_schema::{DataType, Field, Fields};

/// Digits of the carrier, and those behind the second.
const NANOS_DIGITS: (u8, i8) = (38, 9);
/// Nanoseconds of a day.
pub const NANOS_PER_DAY: i128 = 86_400_000_000_000;
/// The moment after all others: the greatest number of 38 digits. Its negative is the moment before all others.
pub const NANOS_INFINITY: i128 = 10_i128.pow(38) - 1;
/// Nanoseconds of a microsecond.
pub const NANOS_PER_MICRO: i128 = 1000;

const NANOS_PER_MINUTE: i128 = 60_000_000_000;

/// The carrier of nanoseconds since 1970.
pub(crate) fn nanos_type() -> DataType {
    DataType::Decimal128(NANOS_DIGITS.0, NANOS_DIGITS.1)
}

/// The carrier of instants with an offset.
pub(crate) fn offset_type() -> DataType {
    DataType::Struct(offset_fields())
}

fn offset_fields() -> Fields {
    [Field::new("instant", nanos_type(), false), Field::new("offset", DataType::Int16, false)].into_iter().collect()
}

/// Microseconds since 1970, infinities included, as nanoseconds.
#[inline]
pub fn nanos_of_micros(micros: i64) -> i128 {
    match micros {
        i64::MAX => NANOS_INFINITY,
        i64::MIN => -NANOS_INFINITY,
        _ => i128::from(micros) * NANOS_PER_MICRO,
    }
}

/// A column of instants with their offsets.
#[derive(Debug, Clone, Copy)]
pub struct OffsetInstants<'a> {
    /// Nanoseconds since 1970-01-01 UTC.
    pub instants: &'a [i128],
    /// Minutes east of UTC.
    pub offsets: &'a [i16],
}

impl<'a> OffsetInstants<'a> {
    /// The two parts of a column; `None` if it has another carrier.
    pub fn of(column: &'a dyn Array) -> Option<Self> {
        let both = column.as_struct_opt().filter(|both| both.num_columns() == 2)?;
        Some(OffsetInstants {
            instants: both.column(0).as_primitive_opt::<Decimal128Type>()?.values(),
            offsets: both.column(1).as_primitive_opt::<Int16Type>()?.values(),
        })
    }

    /// What a clock with that offset shows, in nanoseconds since 1970-01-01 00:00 of that clock.
    #[inline]
    pub fn local(&self, row: usize) -> i128 {
        self.instants[row] + i128::from(self.offsets[row]) * NANOS_PER_MINUTE
    }

    /// Whether it is one of the two infinities.
    #[inline]
    pub fn infinite(&self, row: usize) -> bool {
        self.instants[row].abs() == NANOS_INFINITY
    }
}

/// A column out of its two parts, which must be of equal length.
pub fn offset_instants(instants: Vec<i128>, offsets: Vec<i16>, nulls: Option<NullBuffer>) -> ArrayRef {
    let instants = Decimal128Array::from(instants).with_data_type(nanos_type());
    let parts: Vec<ArrayRef> = vec![Arc::new(instants), Arc::new(Int16Array::from(offsets))];
    Arc::new(StructArray::new(offset_fields(), parts, nulls))
}

/// Builds such a column value by value.
#[derive(Debug)]
pub struct OffsetInstantBuilder {
    instants: Decimal128Builder,
    offsets: Int16Builder,
    nulls: NullBufferBuilder,
}

impl OffsetInstantBuilder {
    /// A builder for about that many rows.
    pub fn with_capacity(rows: usize) -> Self {
        OffsetInstantBuilder {
            instants: Decimal128Builder::with_capacity(rows).with_data_type(nanos_type()),
            offsets: Int16Builder::with_capacity(rows),
            nulls: NullBufferBuilder::new(rows),
        }
    }

    /// Adds nanoseconds since 1970-01-01 UTC and minutes east of UTC.
    pub fn append_value(&mut self, (instant, offset): (i128, i16)) {
        self.instants.append_value(instant);
        self.offsets.append_value(offset);
        self.nulls.append_non_null();
    }

    /// Adds NULL.
    pub fn append_null(&mut self) {
        self.instants.append_value(0);
        self.offsets.append_value(0);
        self.nulls.append_null();
    }

    /// Ends the column; the builder is empty afterwards.
    pub fn finish(&mut self) -> StructArray {
        let parts = vec![ArrayBuilder::finish(&mut self.instants), ArrayBuilder::finish(&mut self.offsets)];
        StructArray::new(offset_fields(), parts, self.nulls.finish())
    }
}
