//! Whether a dictionary pays for a column, judged by a sample of its values. A dictionary of values that hardly
//! repeat costs hashing and gains nothing.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

/// Values looked at.
const SAMPLE_VALUES: usize = 1024;
/// Below this many values the sample says nothing.
const SAMPLE_VALUES_MIN: usize = 64;

type Seen<T> = HashSet<T, BuildHasherDefault<DefaultHasher>>;

/// Whether to encode the column with a dictionary.
pub(super) fn pays(column: &ArrayRef) -> bool {
    let stride = column.len().div_ceil(SAMPLE_VALUES).max(1);
    let rows = || (0..column.len()).step_by(stride).filter(|row| column.is_valid(*row));
    let values = rows().count();
    if values < SAMPLE_VALUES_MIN {
        return !matches!(column.data_type(), DataType::Boolean);
    }
    let distinct = match column.data_type() {
        DataType::Boolean => return false,
        DataType::Utf8 => count(rows().map(|row| column.as_string::<i32>().value(row))),
        DataType::Binary => count(rows().map(|row| column.as_binary::<i32>().value(row))),
        DataType::FixedSizeBinary(_) => count(rows().map(|row| column.as_fixed_size_binary().value(row))),
        fixed => {
            let Some(width) = fixed.primitive_width() else { return true };
            let data = column.to_data();
            let bytes = &data.buffers()[0].as_slice()[data.offset() * width..];
            count(rows().map(|row| &bytes[row * width..(row + 1) * width]))
        }
    };
    distinct * 2 <= values
}

fn count<T: Hash + Eq>(values: impl Iterator<Item = T>) -> usize {
    values.collect::<Seen<T>>().len()
}
