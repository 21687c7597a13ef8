//! Arrow columns as rows of a binary COPY, one strategy per column, without an allocation per value. What the target
//! would bend in silence (a rounded number, a padded text) is refused here; everything else the server judges.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, UInt32Type,
};
use arrow_array::{Array, BooleanArray, FixedSizeBinaryArray, RecordBatch};
use arrow_buffer::NullBuffer;
use dmg_protocol::Kind;

use super::decode::{EPOCH_DAYS, EPOCH_MICROS};
use super::numeric;
use super::types::{BPCHAR, JSON, JSONB, NUMERIC, VARCHAR, numeric_limits};

/// What a stream of rows begins with: the signature, no flags, no extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub(super) const TRAILER: &[u8] = &[0xff, 0xff];

/// How the values of one column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Putting {
    form: Form,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Boolean,
    Int16,
    Int32,
    Int64,
    Oid,
    Float32,
    Float64,
    Numeric { scale: u8 },
    NumericText,
    Text,
    Jsonb,
    Bytes,
    Date,
    Timestamp,
    Time,
    Uuid,
}

/// What the column's type would change without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    /// Blanks beyond so many characters are cut off.
    Most(usize),
    /// Text is padded to so many characters.
    Padded(usize),
    /// Moments are rounded to multiples of so many microseconds.
    Micros(i64),
    /// Scaled integers are rounded to multiples.
    Multiple(i128),
    /// Decimal text is rounded to so many digits.
    Digits(usize),
}

/// A value that must not be sent: where, and what is wrong, to complete "holds ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit {
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) what: &'static str,
}

/// The strategy for a kind that goes into a column of that base type; `None` where only the server's own input
/// function can make the value out of text.
pub(super) fn putting(kind: Kind, type_oid: u32, modifier: i32) -> Option<Putting> {
    let form = match (kind, type_oid) {
        (Kind::Boolean, 16) => Form::Boolean,
        (Kind::Bytes, 17) => Form::Bytes,
        (Kind::Int64, 20) => Form::Int64,
        (Kind::Int16, 21) => Form::Int16,
        (Kind::Int32, 23) => Form::Int32,
        (Kind::UInt32, 26) => Form::Oid,
        (Kind::Float32, 700) => Form::Float32,
        (Kind::Float64, 701) => Form::Float64,
        (Kind::Text, 19 | 25 | BPCHAR | VARCHAR) | (Kind::Json, JSON) => Form::Text,
        (Kind::Json, JSONB) => Form::Jsonb,
        (Kind::Date, 1082) => Form::Date,
        (Kind::Time, 1083) => Form::Time,
        (Kind::Timestamp, 1114) | (Kind::Instant, 1184) => Form::Timestamp,
        (Kind::Decimal { scale, .. }, NUMERIC) => Form::Numeric { scale },
        (Kind::DecimalText, NUMERIC) => Form::NumericText,
        (Kind::Uuid, 2950) => Form::Uuid,
        _ => return None,
    };
    Some(Putting { form, limit: limit(form, type_oid, modifier) })
}

fn limit(form: Form, type_oid: u32, modifier: i32) -> Limit {
    let characters = usize::try_from(modifier.saturating_sub(4)).ok();
    match (form, characters) {
        (Form::Text, Some(most)) if type_oid == VARCHAR => Limit::Most(most),
        (Form::Text, Some(length)) if type_oid == BPCHAR => Limit::Padded(length),
        (Form::Timestamp | Form::Time, _) if (0..6).contains(&modifier) => {
            Limit::Micros(10_i64.pow(6 - modifier as u32))
        }
        (Form::Numeric { scale }, _) => match numeric_limits(modifier) {
            Some((_, kept)) if kept < i32::from(scale) => {
                Limit::Multiple(10_i128.checked_pow(i32::from(scale).abs_diff(kept)).unwrap_or(i128::MAX))
            }
            _ => Limit::None,
        },
        (Form::NumericText, _) => match numeric_limits(modifier) {
            Some((_, kept)) => Limit::Digits(usize::try_from(kept).unwrap_or(0)),
            None => Limit::None,
        },
        _ => Limit::None,
    }
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Oid(&'a [u32]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Numeric(&'a [i128], u8),
    NumericText(Variable<'a>),
    Text(Variable<'a>),
    Jsonb(Variable<'a>),
    Date(&'a [i32]),
    Timestamp(&'a [i64]),
    Time(&'a [i64]),
    Uuid(&'a FixedSizeBinaryArray),
}

struct Variable<'a> {
    offsets: &'a [i32],
    bytes: &'a [u8],
}

impl<'a> Variable<'a> {
    #[inline]
    fn value(&self, row: usize) -> &'a [u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

struct Cells<'a> {
    values: Values<'a>,
    limit: Limit,
    nulls: Option<&'a NullBuffer>,
}

impl<'a> Cells<'a> {
    /// # Panics
    /// If the column does not have the carrier of the kind the strategy was chosen for.
    fn new(column: &'a dyn Array, putting: Putting) -> Self {
        let text = || {
            let array = column.as_string::<i32>();
            Variable { offsets: array.value_offsets(), bytes: array.value_data() }
        };
        let values = match putting.form {
            Form::Boolean => Values::Boolean(column.as_boolean()),
            Form::Int16 => Values::Int16(column.as_primitive::<Int16Type>().values()),
            Form::Int32 => Values::Int32(column.as_primitive::<Int32Type>().values()),
            Form::Int64 => Values::Int64(column.as_primitive::<Int64Type>().values()),
            Form::Oid => Values::Oid(column.as_primitive::<UInt32Type>().values()),
            Form::Float32 => Values::Float32(column.as_primitive::<Float32Type>().values()),
            Form::Float64 => Values::Float64(column.as_primitive::<Float64Type>().values()),
            Form::Numeric { scale } => Values::Numeric(column.as_primitive::<Decimal128Type>().values(), scale),
            Form::NumericText => Values::NumericText(text()),
            Form::Text => Values::Text(text()),
            Form::Jsonb => Values::Jsonb(text()),
            Form::Bytes => {
                let array = column.as_binary::<i32>();
                Values::Text(Variable { offsets: array.value_offsets(), bytes: array.value_data() })
            }
            Form::Date => Values::Date(column.as_primitive::<Date32Type>().values()),
            Form::Timestamp => Values::Timestamp(column.as_primitive::<TimestampMicrosecondType>().values()),
            Form::Time => Values::Time(column.as_primitive::<Time64MicrosecondType>().values()),
            Form::Uuid => Values::Uuid(column.as_fixed_size_binary()),
        };
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        Cells { values, limit: putting.limit, nulls }
    }

    #[inline]
    fn put(&self, row: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match &self.values {
            Values::Boolean(values) => out.extend_from_slice(&[0, 0, 0, 1, u8::from(values.value(row))]),
            Values::Int16(values) => {
                let [a, b] = values[row].to_be_bytes();
                out.extend_from_slice(&[0, 0, 0, 2, a, b]);
            }
            Values::Int32(values) => four(values[row].to_be_bytes(), out),
            Values::Oid(values) => four(values[row].to_be_bytes(), out),
            Values::Float32(values) => four(values[row].to_be_bytes(), out),
            Values::Int64(values) => eight(values[row].to_be_bytes(), out),
            Values::Float64(values) => eight(values[row].to_be_bytes(), out),
            Values::Numeric(values, scale) => {
                if let Limit::Multiple(unit) = self.limit
                    && values[row] % unit != 0
                {
                    return Err("a number with more digits than its column keeps");
                }
                numeric::encode(values[row], *scale, out);
            }
            Values::NumericText(values) => self.put_numeric_text(values.value(row), out)?,
            Values::Text(values) => {
                let value = values.value(row);
                if self.limit != Limit::None {
                    self.check_length(value)?;
                }
                out.extend_from_slice(&(value.len() as u32).to_be_bytes());
                out.extend_from_slice(value);
            }
            Values::Jsonb(values) => {
                let value = values.value(row);
                out.extend_from_slice(&(value.len() as u32 + 1).to_be_bytes());
                out.push(1);
                out.extend_from_slice(value);
            }
            Values::Date(values) => {
                let days = match values[row] {
                    infinite @ (i32::MAX | i32::MIN) => infinite,
                    days => days.checked_sub(EPOCH_DAYS).ok_or("a date before those its column can hold")?,
                };
                four(days.to_be_bytes(), out);
            }
            Values::Timestamp(values) => {
                let micros = match values[row] {
                    infinite @ (i64::MAX | i64::MIN) => infinite,
                    micros => {
                        self.check_moment(micros)?;
                        micros.checked_sub(EPOCH_MICROS).ok_or("a moment before those its column can hold")?
                    }
                };
                eight(micros.to_be_bytes(), out);
            }
            Values::Time(values) => {
                self.check_moment(values[row])?;
                eight(values[row].to_be_bytes(), out);
            }
            Values::Uuid(values) => {
                out.extend_from_slice(&[0, 0, 0, 16]);
                out.extend_from_slice(values.value(row));
            }
        }
        Ok(())
    }

    #[inline]
    fn check_moment(&self, micros: i64) -> Result<(), &'static str> {
        match self.limit {
            Limit::Micros(unit) if micros % unit != 0 => Err("a time of day finer than its column keeps"),
            _ => Ok(()),
        }
    }

    #[inline]
    fn check_length(&self, value: &[u8]) -> Result<(), &'static str> {
        match self.limit {
            Limit::Most(most) if value.len() > most && characters(value) > most => {
                Err("text longer than its column allows")
            }
            Limit::Padded(length) if value.len() != length || !value.is_ascii() => {
                match characters(value).cmp(&length) {
                    std::cmp::Ordering::Equal => Ok(()),
                    std::cmp::Ordering::Less => Err("text that its column would fill up with blanks"),
                    std::cmp::Ordering::Greater => Err("text longer than its column allows"),
                }
            }
            _ => Ok(()),
        }
    }

    fn put_numeric_text(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        const NO_NUMBER: &str = "text that is no decimal number";
        let text = std::str::from_utf8(value).map_err(|_| NO_NUMBER)?;
        if let (Limit::Digits(kept), Some((_, fraction))) = (self.limit, text.split_once('.'))
            && fraction.bytes().skip(kept).any(|digit| digit != b'0')
        {
            return Err("a number with more digits than its column keeps");
        }
        numeric::encode_text(text, out).ok_or(NO_NUMBER)
    }
}

/// Characters of UTF-8: the bytes that begin one.
fn characters(value: &[u8]) -> usize {
    value.iter().filter(|byte| (**byte & 0xc0) != 0x80).count()
}

#[inline]
fn four(value: [u8; 4], out: &mut Vec<u8>) {
    let [a, b, c, d] = value;
    out.extend_from_slice(&[0, 0, 0, 4, a, b, c, d]);
}

#[inline]
fn eight(value: [u8; 8], out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h] = value;
    out.extend_from_slice(&[0, 0, 0, 8, a, b, c, d, e, f, g, h]);
}

/// Appends the rows of a batch from `row` on, until `out` holds about `bytes`. Gives back the next row.
pub(super) fn rows(
    batch: &RecordBatch,
    puttings: &[Putting],
    row: usize,
    bytes: usize,
    out: &mut Vec<u8>,
) -> Result<usize, Unfit> {
    let cells: Vec<Cells<'_>> =
        batch.columns().iter().zip(puttings).map(|(column, putting)| Cells::new(column.as_ref(), *putting)).collect();
    let count = (cells.len() as u16).to_be_bytes();
    for row in row..batch.num_rows() {
        if out.len() >= bytes {
            return Ok(row);
        }
        out.extend_from_slice(&count);
        for (column, cell) in cells.iter().enumerate() {
            if cell.nulls.is_some_and(|nulls| nulls.is_null(row)) {
                out.extend_from_slice(&[0xff; 4]);
            } else {
                cell.put(row, out).map_err(|what| Unfit { row, column, what })?;
            }
        }
    }
    Ok(batch.num_rows())
}

/// Where the row that begins at `start` ends; `None` if it is cut.
pub(super) fn row_end(bytes: &[u8], start: usize) -> Option<usize> {
    let count = u16::from_be_bytes(*bytes.get(start..)?.first_chunk()?);
    let mut at = start + 2;
    for _ in 0..count {
        let length = i32::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
        at += 4 + usize::try_from(length).unwrap_or(0);
    }
    (at <= bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Decimal128Array, Int32Array, StringArray, TimestampMicrosecondArray};
    use arrow_schema::{Field, Schema};

    use super::*;

    fn encoded(columns: Vec<(ArrayRef, Kind, u32, i32)>) -> Result<Vec<u8>, Unfit> {
        let puttings: Vec<Putting> =
            columns.iter().map(|(_, kind, oid, modifier)| putting(*kind, *oid, *modifier).expect("a way")).collect();
        let arrays: Vec<ArrayRef> = columns.into_iter().map(|column| column.0).collect();
        let fields: Vec<Field> = arrays.iter().map(|array| Field::new("c", array.data_type().clone(), true)).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("fits");
        let mut out = Vec::new();
        assert_eq!(rows(&batch, &puttings, 0, usize::MAX, &mut out)?, batch.num_rows());
        Ok(out)
    }

    #[test]
    fn rows_as_the_format_says() {
        let out = encoded(vec![
            (Arc::new(Int32Array::from(vec![Some(-2), None])), Kind::Int32, 23, -1),
            (Arc::new(StringArray::from(vec![Some("é"), Some("")])), Kind::Text, 25, -1),
            (Arc::new(StringArray::from(vec![None, Some("{}")])), Kind::Json, JSONB, -1),
        ])
        .expect("fits");
        let first = b"\0\x03\0\0\0\x04\xff\xff\xff\xfe\0\0\0\x02\xc3\xa9\xff\xff\xff\xff";
        let second = b"\0\x03\xff\xff\xff\xff\0\0\0\0\0\0\0\x03\x01{}";
        assert_eq!(out, [&first[..], second].concat());
        assert_eq!(row_end(&out, 0), Some(first.len()));
        assert_eq!(row_end(&out, first.len()), Some(out.len()));
        assert_eq!(row_end(&out[..out.len() - 1], first.len()), None);
    }

    #[test]
    fn what_would_be_bent_is_refused() {
        let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let decimal = |value: i128| {
            let array = Decimal128Array::from(vec![value]).with_precision_and_scale(10, 3).expect("fits");
            Arc::new(array) as ArrayRef
        };
        let kind = Kind::Decimal { precision: 10, scale: 3 };
        let numeric = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        let moment = |value: i64| Arc::new(TimestampMicrosecondArray::from(vec![value])) as ArrayRef;
        for (array, kind, oid, modifier, fits) in [
            (text("äöü"), Kind::Text, VARCHAR, 7, true),
            (text("ab  "), Kind::Text, VARCHAR, 7, false),
            (text("äöü"), Kind::Text, BPCHAR, 7, true),
            (text("ab"), Kind::Text, BPCHAR, 7, false),
            (text("abcd"), Kind::Text, BPCHAR, 7, false),
            (decimal(1500), kind, NUMERIC, numeric(60, 1), true),
            (decimal(1550), kind, NUMERIC, numeric(60, 1), false),
            (decimal(1_000_000), kind, NUMERIC, numeric(5, -2), true),
            (decimal(1_050_000), kind, NUMERIC, numeric(5, -2), false),
            (text("1.500"), Kind::DecimalText, NUMERIC, numeric(60, 1), true),
            (text("1.501"), Kind::DecimalText, NUMERIC, numeric(60, 2), false),
            (text("abc"), Kind::DecimalText, NUMERIC, -1, false),
            (moment(1_000_000), Kind::Timestamp, 1114, 0, true),
            (moment(1_000_001), Kind::Timestamp, 1114, 0, false),
            (moment(i64::MAX), Kind::Timestamp, 1114, 0, true),
            (moment(i64::MIN + 1), Kind::Timestamp, 1114, -1, false),
        ] {
            let shown = format!("{array:?} into {oid} with {modifier}");
            assert_eq!(encoded(vec![(array, kind, oid, modifier)]).is_ok(), fits, "{shown}");
        }
    }

    #[test]
    fn what_only_the_server_can_read_goes_as_text() {
        for (kind, oid) in [(Kind::EngineText, 1186), (Kind::Text, 1186), (Kind::Int32, 20), (Kind::Json, 25)] {
            assert_eq!(putting(kind, oid, -1), None, "{kind} into {oid}");
        }
    }
}
