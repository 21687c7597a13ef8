//! Values of one column into an Arrow array. It copies nothing, and leaves room for as many values again.

use std::sync::Arc;

use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use dmg_connector::data_type;
use dmg_protocol::Kind;

/// The rows of a column so far. Those that are NULL are remembered by number, so that columns without NULL pay nothing.
#[derive(Default)]
pub(crate) struct Rows {
    count: u32,
    nulls: Vec<u32>,
}

impl Rows {
    /// Counts a row with a value.
    #[inline]
    pub(crate) fn value(&mut self) {
        self.count += 1;
    }

    /// Counts a row that is NULL.
    #[inline]
    pub(crate) fn null(&mut self) {
        self.nulls.push(self.count);
        self.count += 1;
    }

    /// Which rows are NULL, if any is.
    pub(crate) fn take(&mut self) -> Option<NullBuffer> {
        let rows = std::mem::take(&mut self.count) as usize;
        if self.nulls.is_empty() {
            return None;
        }
        let mut valid = BooleanBufferBuilder::new(rows);
        valid.append_n(rows, true);
        self.nulls.drain(..).for_each(|row| valid.set_bit(row as usize, false));
        Some(NullBuffer::new(valid.finish()))
    }
}

/// The vector's content; what stays behind has room for as much again.
pub(crate) fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let fresh = Vec::with_capacity(values.len());
    std::mem::replace(values, fresh)
}

/// A column of bits.
pub(crate) fn boolean(bits: &mut BooleanBufferBuilder, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(BooleanArray::new(bits.finish(), nulls))
}

/// A column of numbers, or of what is counted by numbers.
pub(crate) fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    kind: Kind,
) -> ArrayRef {
    let values = ScalarBuffer::from(renew(values));
    Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(data_type(kind)))
}

/// A column of 16 bytes each.
pub(crate) fn uuids(bytes: &mut Vec<u8>, nulls: Option<NullBuffer>) -> Option<ArrayRef> {
    let array = FixedSizeBinaryArray::try_new(16, Buffer::from_vec(renew(bytes)), nulls);
    Some(Arc::new(array.ok()?))
}

/// Where values of any length begin and end, so far: the first at 0.
pub(crate) fn offsets(capacity: usize) -> Vec<i32> {
    let mut offsets = Vec::with_capacity(capacity + 1);
    offsets.push(0);
    offsets
}

/// A column of bytes or text; none if text is not UTF-8.
pub(crate) fn variable(
    offsets: &mut Vec<i32>,
    bytes: &mut Vec<u8>,
    nulls: Option<NullBuffer>,
    kind: Kind,
) -> Option<ArrayRef> {
    let full = renew(offsets);
    offsets.push(0);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(full));
    let bytes = Buffer::from_vec(renew(bytes));
    Some(if kind == Kind::Bytes {
        Arc::new(BinaryArray::try_new(offsets, bytes, nulls).ok()?)
    } else {
        Arc::new(StringArray::try_new(offsets, bytes, nulls).ok()?)
    })
}
