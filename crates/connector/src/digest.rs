//! The digest both sides of a copy are compared by: order-free, mergeable, without a key of the table.
//!
//! `docs/digest.md` is the specification, `tests/judge/digest.py` the second implementation; both share the golden
//! vectors in `tests/golden/digest.json`. It finds faults, not forgeries.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use dmg_protocol::{ColumnDigest, Digest, Fault, Kind};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{Column, OffsetInstants, Result};

/// Name and version of the algorithm, as receipts state it.
pub const ALGORITHM: &str = "dmg-xxh3-128/1";

/// The seed of copies without a service.
pub fn published_seed() -> u64 {
    0x646d_672d_636f_7079 // "dmg-copy"
}

/// What tells kinds apart in a column's seed. Integers of all widths share one tag, as do both float widths, so that
/// a widened column hashes alike on both sides.
fn tag(kind: Kind) -> u8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Int8
        | Kind::Int16
        | Kind::Int32
        | Kind::Int64
        | Kind::UInt8
        | Kind::UInt16
        | Kind::UInt32
        | Kind::UInt64 => 2,
        Kind::Float32 | Kind::Float64 => 3,
        Kind::Decimal { .. } => 4,
        Kind::Text => 5,
        Kind::Bytes => 6,
        Kind::Date => 7,
        Kind::Timestamp => 8,
        Kind::Instant => 9,
        Kind::Time => 10,
        Kind::Uuid => 11,
        Kind::Json => 12,
        Kind::DecimalText => 13,
        Kind::EngineText => 14,
        Kind::TimestampNanos => 15,
        Kind::InstantNanos => 16,
        Kind::TimeNanos => 17,
        Kind::InstantWithOffset => 18,
    }
}

/// A short name of a long text: equal texts, equal names. It finds differences, not forgeries.
pub fn fingerprint(text: &str) -> String {
    format!("{:032x}", xxh3_128_with_seed(text.as_bytes(), published_seed()))
}

/// Sums of one side, or of one part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// Rows.
    pub rows: u64,
    /// One sum per column, mod 2^128.
    pub columns: Vec<u128>,
    /// Sum over whole rows, mod 2^128.
    pub row: u128,
}

impl Sums {
    /// Adds another part.
    pub fn merge(&mut self, other: &Sums) {
        if self.columns.is_empty() {
            self.columns = vec![0; other.columns.len()];
        }
        self.rows += other.rows;
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            *mine = mine.wrapping_add(*theirs);
        }
        self.row = self.row.wrapping_add(other.row);
    }

    /// Takes rows off that were added before.
    pub fn take_off(&mut self, other: &Sums) {
        self.rows = self.rows.saturating_sub(other.rows);
        for (mine, theirs) in self.columns.iter_mut().zip(&other.columns) {
            *mine = mine.wrapping_sub(*theirs);
        }
        self.row = self.row.wrapping_sub(other.row);
    }

    /// The row sum as 32 hex digits.
    pub fn row_hex(&self) -> String {
        format!("{:032x}", self.row)
    }

    /// All of it as one line of text, for checkpoints.
    pub fn to_text(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|sum| format!("{sum:032x}")).collect();
        format!("{} {} {}", self.rows, self.row_hex(), columns.join(","))
    }

    /// What [`Sums::to_text`] made.
    pub fn from_text(text: &str) -> Option<Sums> {
        let mut words = text.split(' ');
        let rows = words.next()?.parse().ok()?;
        let hex = |text: &str| (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
        let row = hex(words.next()?)?;
        let columns = words.next()?.split(',').filter(|text| !text.is_empty()).map(hex).collect::<Option<_>>()?;
        words.next().is_none().then_some(Sums { rows, columns, row })
    }

    /// The form receipts carry.
    pub fn report(&self, columns: &[Column]) -> Digest {
        Digest {
            algorithm: ALGORITHM.to_owned(),
            rows: self.rows,
            columns: columns
                .iter()
                .zip(&self.columns)
                .map(|(column, sum)| ColumnDigest {
                    name: column.name.clone(),
                    kind: column.kind,
                    sum: format!("{sum:032x}"),
                })
                .collect(),
            row_sum: self.row_hex(),
        }
    }
}

/// Digests record batches of fixed columns.
#[derive(Debug, Clone)]
pub struct Digester {
    hashers: Vec<ColumnHasher>,
    seed: u64,
    sums: Sums,
    /// Low halves of the value hashes as little-endian bytes, row by row: what the row hash is taken over.
    rows: Vec<u8>,
}

impl Digester {
    /// A digester for columns by name and kind, in plan order.
    pub fn new(columns: &[Column], seed: u64) -> Self {
        Digester {
            hashers: columns.iter().map(|column| ColumnHasher::new(&column.name, column.kind, seed)).collect(),
            seed,
            sums: Sums { rows: 0, columns: vec![0; columns.len()], row: 0 },
            rows: Vec::new(),
        }
    }

    /// Adds the rows of a batch whose columns are in the digester's order and kinds.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<()> {
        self.update_each(batch, |_| {})
    }

    /// The same, and gives each row's own hash, in order. The sum over rows is the sum of these.
    pub fn update_each(&mut self, batch: &RecordBatch, mut each: impl FnMut(u128)) -> Result<()> {
        let width = self.hashers.len();
        if batch.num_columns() != width {
            let message = format!("A batch has {} columns where {width} are planned.", batch.num_columns());
            return Err(Fault::new("SystemErrorInternal", message).into());
        }
        let rows = batch.num_rows();
        self.rows.resize(rows * width * 8, 0);
        for (index, hasher) in self.hashers.iter().enumerate() {
            let sum = hasher.hash_into(batch.column(index), &mut self.rows, index, width)?;
            self.sums.columns[index] = self.sums.columns[index].wrapping_add(sum);
        }
        let mut row_sum = self.sums.row;
        let mut add = |row: &[u8]| {
            let hash = xxh3_128_with_seed(row, self.seed);
            each(hash);
            row_sum = row_sum.wrapping_add(hash);
        };
        if width == 0 {
            (0..rows).for_each(|_| add(&[]));
        } else {
            self.rows.chunks_exact(width * 8).for_each(add);
        }
        self.sums.row = row_sum;
        self.sums.rows += rows as u64;
        Ok(())
    }

    /// What was added so far.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// Ends.
    pub fn finish(self) -> Sums {
        self.sums
    }
}

/// Hashes the values of one column.
#[derive(Debug, Clone)]
pub struct ColumnHasher {
    kind: Kind,
    seed: u64,
    null: u128,
}

impl ColumnHasher {
    /// The column's own seed mixes name, kind and the copy's seed, so that equal values in two columns hash
    /// differently. NULL is the empty content under the inverted seed, so that it differs from empty text.
    pub fn new(name: &str, kind: Kind, seed: u64) -> Self {
        let mut text = name.as_bytes().to_vec();
        text.extend_from_slice(&[0, tag(kind)]);
        let seed = xxh3_64_with_seed(&text, seed);
        ColumnHasher { kind, seed, null: xxh3_128_with_seed(&[], !seed) }
    }

    fn hash_into(&self, array: &ArrayRef, rows: &mut [u8], offset: usize, width: usize) -> Result<u128> {
        let expected = crate::data_type(self.kind);
        if *array.data_type() != expected {
            let message =
                format!("A column of kind {} came as {} instead of {expected}.", self.kind, array.data_type());
            return Err(Fault::new("SystemErrorInternal", message).into());
        }
        let mut out = Out { rows, offset, width, sum: 0 };
        match self.kind {
            Kind::Boolean => {
                let array = array.as_boolean();
                self.each(array, &mut out, |row| self.word(i64::from(array.value(row))));
            }
            Kind::Int8 => self.words(array.as_primitive::<Int8Type>(), &mut out),
            Kind::Int16 => self.words(array.as_primitive::<Int16Type>(), &mut out),
            Kind::Int32 => self.words(array.as_primitive::<Int32Type>(), &mut out),
            Kind::Int64 => self.words(array.as_primitive::<Int64Type>(), &mut out),
            Kind::UInt8 => self.words(array.as_primitive::<UInt8Type>(), &mut out),
            Kind::UInt16 => self.words(array.as_primitive::<UInt16Type>(), &mut out),
            Kind::UInt32 => self.words(array.as_primitive::<UInt32Type>(), &mut out),
            Kind::UInt64 => {
                let array = array.as_primitive::<UInt64Type>();
                self.each(array, &mut out, |row| self.wide(i128::from(array.value(row))));
            }
            Kind::Float32 => {
                let array = array.as_primitive::<Float32Type>();
                self.each(array, &mut out, |row| self.float(f64::from(array.value(row))));
            }
            Kind::Float64 => {
                let array = array.as_primitive::<Float64Type>();
                self.each(array, &mut out, |row| self.float(array.value(row)));
            }
            Kind::Decimal { .. } | Kind::TimestampNanos | Kind::InstantNanos => {
                let array = array.as_primitive::<Decimal128Type>();
                self.each(array, &mut out, |row| self.wide(array.value(row)));
            }
            Kind::Text | Kind::Json | Kind::DecimalText | Kind::EngineText => {
                let array = array.as_string::<i32>();
                self.each(array, &mut out, |row| xxh3_128_with_seed(array.value(row).as_bytes(), self.seed));
            }
            Kind::Bytes => {
                let array = array.as_binary::<i32>();
                self.each(array, &mut out, |row| xxh3_128_with_seed(array.value(row), self.seed));
            }
            Kind::Date => self.words(array.as_primitive::<Date32Type>(), &mut out),
            Kind::Timestamp | Kind::Instant => {
                self.words(array.as_primitive::<TimestampMicrosecondType>(), &mut out);
            }
            Kind::Time => self.words(array.as_primitive::<Time64MicrosecondType>(), &mut out),
            Kind::TimeNanos => self.words(array.as_primitive::<Time64NanosecondType>(), &mut out),
            Kind::InstantWithOffset => {
                let parts = OffsetInstants::of(array).expect("the data type was just compared");
                self.each(array, &mut out, |row| self.with_offset(parts.instants[row], parts.offsets[row]));
            }
            Kind::Uuid => {
                let array = array.as_fixed_size_binary();
                self.each(array, &mut out, |row| xxh3_128_with_seed(array.value(row), self.seed));
            }
        }
        Ok(out.sum)
    }

    #[inline]
    fn each(&self, array: &dyn Array, out: &mut Out<'_>, mut hash: impl FnMut(usize) -> u128) {
        if array.null_count() == 0 {
            for row in 0..array.len() {
                out.put(row, hash(row));
            }
        } else {
            for row in 0..array.len() {
                out.put(row, if array.is_null(row) { self.null } else { hash(row) });
            }
        }
    }

    fn words<T: ArrowPrimitiveType>(&self, array: &PrimitiveArray<T>, out: &mut Out<'_>)
    where
        T::Native: Into<i64>,
    {
        let values = array.values();
        self.each(array, out, |row| self.word(values[row].into()));
    }

    /// Eight bytes of content, little-endian.
    #[inline]
    fn word(&self, value: i64) -> u128 {
        xxh3_128_with_seed(&value.to_le_bytes(), self.seed)
    }

    /// Eight bytes where they suffice, else sixteen.
    #[inline]
    fn wide(&self, value: i128) -> u128 {
        match i64::try_from(value) {
            Ok(word) => self.word(word),
            Err(_) => xxh3_128_with_seed(&value.to_le_bytes(), self.seed),
        }
    }

    /// Sixteen bytes of the moment, two of the offset.
    #[inline]
    fn with_offset(&self, instant: i128, offset: i16) -> u128 {
        let mut content = [0; 18];
        content[..16].copy_from_slice(&instant.to_le_bytes());
        content[16..].copy_from_slice(&offset.to_le_bytes());
        xxh3_128_with_seed(&content, self.seed)
    }

    /// The bits of the double; one NaN only; negative zero keeps its sign.
    #[inline]
    fn float(&self, value: f64) -> u128 {
        let bits = if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() };
        self.word(bits as i64)
    }
}

/// Where value hashes go: their sum, and their low halves row by row.
struct Out<'a> {
    rows: &'a mut [u8],
    offset: usize,
    width: usize,
    sum: u128,
}

impl Out<'_> {
    #[inline]
    fn put(&mut self, row: usize, hash: u128) {
        self.sum = self.sum.wrapping_add(hash);
        let at = (row * self.width + self.offset) * 8;
        self.rows[at..at + 8].copy_from_slice(&(hash as u64).to_le_bytes());
    }
}

/// Digest of a file's bytes in order: finds any flipped bit between writing and reading back.
#[derive(Clone, Default)]
pub struct ByteDigest(xxhash_rust::xxh3::Xxh3);

impl ByteDigest {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes so far.
    pub fn finish(&self) -> u128 {
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int32Array, Int64Array, StringArray};

    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column { name: name.into(), kind, type_name: String::new(), nullable: true, key: false }
    }

    fn digest(columns: &[Column], arrays: Vec<ArrayRef>) -> Sums {
        let batch = RecordBatch::try_new(crate::schema(columns), arrays).expect("fits");
        let mut digester = Digester::new(columns, published_seed());
        digester.update(&batch).expect("kinds match");
        digester.finish()
    }

    #[test]
    fn order_does_not_matter_but_rows_do() {
        let columns = [column("a", Kind::Int64), column("b", Kind::Text)];
        let make = |a: Vec<i64>, b: Vec<&str>| {
            digest(&columns, vec![Arc::new(Int64Array::from(a)), Arc::new(StringArray::from(b))])
        };
        let base = make(vec![1, 2, 3], vec!["x", "y", "z"]);
        assert_eq!(base, make(vec![3, 1, 2], vec!["z", "x", "y"]), "order");
        let swapped = make(vec![1, 2, 3], vec!["y", "x", "z"]);
        assert_eq!(base.columns, swapped.columns, "same values in each column");
        assert_ne!(base.row, swapped.row, "but not in the same rows");
        assert_ne!(base, make(vec![1, 2], vec!["x", "y"]), "a dropped row");
        assert_ne!(base, make(vec![1, 2, 3, 3], vec!["x", "y", "z", "z"]), "a doubled row");
    }

    #[test]
    fn parts_merge() {
        let columns = [column("a", Kind::Int32)];
        let whole = digest(&columns, vec![Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]))]);
        let mut merged = digest(&columns, vec![Arc::new(Int32Array::from(vec![Some(3)]))]);
        merged.merge(&digest(&columns, vec![Arc::new(Int32Array::from(vec![Some(1), None]))]));
        assert_eq!(whole, merged);
    }

    #[test]
    fn null_empty_and_zero_differ() {
        let columns = [column("a", Kind::Text)];
        let one = |value: Option<&str>| digest(&columns, vec![Arc::new(StringArray::from(vec![value]))]);
        let all = [one(None), one(Some("")), one(Some("0")), one(Some("\\N"))];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn wider_integers_hash_alike() {
        let narrow = digest(&[column("a", Kind::Int32)], vec![Arc::new(Int32Array::from(vec![7, -1]))]);
        let wide = digest(&[column("a", Kind::Int64)], vec![Arc::new(Int64Array::from(vec![7, -1]))]);
        assert_eq!(narrow, wide);
    }

    #[test]
    fn sums_go_through_text() {
        for columns in [vec![], vec![7], vec![u128::MAX, 0, 1 << 100]] {
            let sums = Sums { rows: u64::MAX, columns, row: 0xabc };
            assert_eq!(Sums::from_text(&sums.to_text()), Some(sums));
        }
        for damaged in ["", "1", "1 2", "1 00000000000000000000000000000abc 7", "x 00000000000000000000000000000abc "] {
            assert_eq!(Sums::from_text(damaged), None, "{damaged}");
        }
    }
}
