//! Rows of text into Arrow columns, without an allocation per row. It knows no sockets; bytes that are not as the
//! protocol says are an error, never a panic.

use arrow_array::builder::BooleanBufferBuilder;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, RecordBatch};
use dmg_connector::{BatchLimits, Column, Error, Result};
use dmg_protocol::Kind;

use super::parse;
use super::types::Form;
use crate::arrays::{self, Rows, primitive};
use crate::batch::Batch;

/// Why a value is refused: the sentence "the value is ..." and perhaps a way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The bytes are not a value of the form.
    Damaged,
    /// A number outside the planned type.
    Range,
    /// More digits than planned.
    Digits,
    /// A date with a zero in it, or a day its month does not have.
    ZeroDate,
    /// A time below 0 or beyond 24 hours.
    LongTime,
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

    /// Adds a row: the body of its packet.
    #[inline]
    pub(super) fn row(&mut self, body: &[u8]) -> Result<()> {
        let value_max = self.batch.value_bytes_max();
        let mut rest = body;
        for index in 0..self.cells.len() {
            let Some((&first, after)) = rest.split_first() else { return Err(self.damaged()) };
            let (length, after) = match first {
                0..=0xfa => (usize::from(first), after),
                0xfb => {
                    rest = after;
                    self.cells[index].push_null();
                    continue;
                }
                _ => match long(first, after) {
                    Some(found) => found,
                    None => return Err(self.damaged()),
                },
            };
            let Some((value, after)) = after.split_at_checked(length) else { return Err(self.damaged()) };
            rest = after;
            if length > value_max {
                return Err(self.refuse(index, Refusal::TooLarge));
            }
            if let Err(refusal) = self.cells[index].push(value) {
                return Err(self.refuse(index, refusal));
            }
        }
        if !rest.is_empty() {
            return Err(self.damaged());
        }
        self.batch.count(body.len());
        Ok(())
    }

    /// The batch so far.
    pub(super) fn take(&mut self) -> Result<RecordBatch> {
        let Decoder { batch, cells } = self;
        batch.take(|index, kind| cells[index].take(kind))
    }

    /// Refuses a row that is too large to be taken whole, naming the column as far as what has come of it tells.
    pub(super) fn oversized(&self, partial: &[u8]) -> Error {
        let mut rest = partial;
        for index in 0..self.cells.len() {
            let Some((&first, after)) = rest.split_first() else { break };
            let (length, after) = match first {
                0..=0xfa => (usize::from(first), after),
                0xfb => (0, after),
                _ => match long(first, after) {
                    Some(found) => found,
                    None => break,
                },
            };
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
        let Column { kind, .. } = &self.batch.columns()[index];
        let (what, remedy) = match refusal {
            Refusal::Damaged => return self.damaged(),
            Refusal::TooLarge => return self.batch.too_large(index),
            Refusal::Range => (format!("a number outside {kind}"), None),
            Refusal::Digits => (format!("a number with more digits than {kind}"), None),
            Refusal::ZeroDate => (
                "a date with a zero in it or a day its month does not have, which no other store holds".to_owned(),
                Some("Correct the value, or set zeroDates to text in the linked service to read dates as text."),
            ),
            Refusal::LongTime => (
                "a time below 0 or beyond 24 hours".to_owned(),
                Some("Correct the value, or set longTimes to text in the linked service to read times as text."),
            ),
        };
        self.batch.refuse(index, &what, remedy)
    }
}

/// The values of one column so far.
struct Cells {
    values: Values,
    rows: Rows,
}

enum Values {
    Boolean(BooleanBufferBuilder),
    Bit(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UInt8(Vec<u8>),
    UInt16(Vec<u16>),
    UInt32(Vec<u32>),
    UInt64(Vec<u64>),
    Bits(Vec<u64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: u8 },
    Date(Vec<i32>),
    Moment(Vec<i64>),
    Time(Vec<i64>),
    UuidText(Vec<u8>),
    UuidBytes(Vec<u8>),
    Variable { offsets: Vec<i32>, bytes: Vec<u8>, digits: bool },
}

impl Cells {
    fn new(form: Form, capacity: usize) -> Self {
        let values = match form {
            Form::Flag => Values::Boolean(BooleanBufferBuilder::new(capacity)),
            Form::Bit => Values::Bit(BooleanBufferBuilder::new(capacity)),
            Form::Int8 => Values::Int8(Vec::with_capacity(capacity)),
            Form::Int16 => Values::Int16(Vec::with_capacity(capacity)),
            Form::Int32 => Values::Int32(Vec::with_capacity(capacity)),
            Form::Int64 => Values::Int64(Vec::with_capacity(capacity)),
            Form::UInt8 => Values::UInt8(Vec::with_capacity(capacity)),
            Form::UInt16 => Values::UInt16(Vec::with_capacity(capacity)),
            Form::UInt32 => Values::UInt32(Vec::with_capacity(capacity)),
            Form::UInt64 => Values::UInt64(Vec::with_capacity(capacity)),
            Form::Bits => Values::Bits(Vec::with_capacity(capacity)),
            Form::Float32 => Values::Float32(Vec::with_capacity(capacity)),
            Form::Float64 => Values::Float64(Vec::with_capacity(capacity)),
            Form::Decimal { precision, scale } => {
                Values::Decimal { values: Vec::with_capacity(capacity), precision, scale }
            }
            Form::Date => Values::Date(Vec::with_capacity(capacity)),
            Form::Moment => Values::Moment(Vec::with_capacity(capacity)),
            Form::Time => Values::Time(Vec::with_capacity(capacity)),
            Form::UuidText => Values::UuidText(Vec::with_capacity(capacity * 16)),
            Form::UuidBytes => Values::UuidBytes(Vec::with_capacity(capacity * 16)),
            Form::Text | Form::Bytes | Form::DecimalText => Values::Variable {
                offsets: arrays::offsets(capacity),
                bytes: Vec::new(),
                digits: form == Form::DecimalText,
            },
        };
        Cells { values, rows: Rows::default() }
    }

    #[inline]
    fn push_null(&mut self) {
        self.rows.null();
        match &mut self.values {
            Values::Boolean(bits) | Values::Bit(bits) => bits.append(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Moment(values) | Values::Time(values) => values.push(0),
            Values::UInt8(values) => values.push(0),
            Values::UInt16(values) => values.push(0),
            Values::UInt32(values) => values.push(0),
            Values::UInt64(values) | Values::Bits(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::UuidText(bytes) | Values::UuidBytes(bytes) => bytes.extend_from_slice(&[0; 16]),
            Values::Variable { offsets, bytes, .. } => offsets.push(bytes.len() as i32),
        }
    }

    #[inline]
    fn push(&mut self, value: &[u8]) -> std::result::Result<(), Refusal> {
        match &mut self.values {
            Values::Boolean(bits) => bits.append(match value {
                b"0" => false,
                b"1" => true,
                _ => return Err(Refusal::Range),
            }),
            Values::Bit(bits) => bits.append(bits_of(value)? != 0),
            Values::Int8(values) => values.push(i8::try_from(parse::signed(value)?).map_err(|_| Refusal::Range)?),
            Values::Int16(values) => values.push(i16::try_from(parse::signed(value)?).map_err(|_| Refusal::Range)?),
            Values::Int32(values) => values.push(i32::try_from(parse::signed(value)?).map_err(|_| Refusal::Range)?),
            Values::Int64(values) => values.push(parse::signed(value)?),
            Values::UInt8(values) => values.push(u8::try_from(parse::unsigned(value)?).map_err(|_| Refusal::Range)?),
            Values::UInt16(values) => values.push(u16::try_from(parse::unsigned(value)?).map_err(|_| Refusal::Range)?),
            Values::UInt32(values) => values.push(u32::try_from(parse::unsigned(value)?).map_err(|_| Refusal::Range)?),
            Values::UInt64(values) => values.push(parse::unsigned(value)?),
            Values::Bits(values) => values.push(bits_of(value)?),
            Values::Float32(values) => {
                // The server was asked for the double that the single is.
                let double = float(value)?;
                let single = double as f32;
                if f64::from(single).to_bits() != double.to_bits() {
                    return Err(Refusal::Digits);
                }
                values.push(single);
            }
            Values::Float64(values) => values.push(float(value)?),
            Values::Decimal { values, precision, scale } => values.push(parse::decimal(value, *precision, *scale)?),
            Values::Date(values) => values.push(parse::date(value)? as i32),
            Values::Moment(values) => values.push(parse::moment(value)?),
            Values::Time(values) => values.push(parse::time(value)?),
            Values::UuidText(bytes) => bytes.extend_from_slice(&parse::uuid(value)?),
            Values::UuidBytes(bytes) => bytes.extend_from_slice(value.first_chunk::<16>().ok_or(Refusal::Damaged)?),
            Values::Variable { offsets, bytes, digits } => {
                if *digits {
                    canonical(value, bytes);
                } else {
                    bytes.extend_from_slice(value);
                }
                offsets.push(i32::try_from(bytes.len()).map_err(|_| Refusal::TooLarge)?);
            }
        }
        self.rows.value();
        Ok(())
    }

    /// The column; none if text is not UTF-8.
    fn take(&mut self, kind: Kind) -> Option<ArrayRef> {
        let nulls = self.rows.take();
        Some(match &mut self.values {
            Values::Boolean(bits) | Values::Bit(bits) => arrays::boolean(bits, nulls),
            Values::Int8(values) => primitive::<Int8Type>(values, nulls, kind),
            Values::Int16(values) => primitive::<Int16Type>(values, nulls, kind),
            Values::Int32(values) => primitive::<Int32Type>(values, nulls, kind),
            Values::Int64(values) => primitive::<Int64Type>(values, nulls, kind),
            Values::UInt8(values) => primitive::<UInt8Type>(values, nulls, kind),
            Values::UInt16(values) => primitive::<UInt16Type>(values, nulls, kind),
            Values::UInt32(values) => primitive::<UInt32Type>(values, nulls, kind),
            Values::UInt64(values) | Values::Bits(values) => primitive::<UInt64Type>(values, nulls, kind),
            Values::Float32(values) => primitive::<Float32Type>(values, nulls, kind),
            Values::Float64(values) => primitive::<Float64Type>(values, nulls, kind),
            Values::Decimal { values, .. } => primitive::<Decimal128Type>(values, nulls, kind),
            Values::Date(values) => primitive::<Date32Type>(values, nulls, kind),
            Values::Moment(values) => primitive::<TimestampMicrosecondType>(values, nulls, kind),
            Values::Time(values) => primitive::<Time64MicrosecondType>(values, nulls, kind),
            Values::UuidText(bytes) | Values::UuidBytes(bytes) => arrays::uuids(bytes, nulls)?,
            Values::Variable { offsets, bytes, .. } => arrays::variable(offsets, bytes, nulls, kind)?,
        })
    }
}

/// A length above 250, and what follows it.
#[inline]
fn long(first: u8, rest: &[u8]) -> Option<(usize, &[u8])> {
    let (bytes, rest) = match first {
        0xfc => rest.split_at_checked(2)?,
        0xfd => rest.split_at_checked(3)?,
        0xfe => rest.split_at_checked(8)?,
        _ => return None,
    };
    let mut length = [0; 8];
    length[..bytes.len()].copy_from_slice(bytes);
    Some((usize::try_from(u64::from_le_bytes(length)).ok()?, rest))
}

fn float(text: &[u8]) -> std::result::Result<f64, Refusal> {
    let text = std::str::from_utf8(text).map_err(|_| Refusal::Damaged)?;
    text.parse().map_err(|_| Refusal::Damaged)
}

/// Up to eight octets, the highest first.
fn bits_of(octets: &[u8]) -> std::result::Result<u64, Refusal> {
    if octets.is_empty() || octets.len() > 8 {
        return Err(Refusal::Damaged);
    }
    Ok(octets.iter().fold(0, |bits, octet| bits << 8 | u64::from(*octet)))
}

/// Decimal text without the zeros that `zerofill` puts before it.
fn canonical(text: &[u8], out: &mut Vec<u8>) {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.len() < text.len() {
        out.push(b'-');
    }
    let zeros = digits.windows(2).take_while(|pair| pair[0] == b'0' && pair[1].is_ascii_digit()).count();
    out.extend_from_slice(&digits[zeros..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits { rows: 10, bytes: 1 << 20, value_bytes: 300 };

    fn decoder(kinds: &[(Kind, Form)]) -> Decoder {
        let column = |(index, (kind, _)): (usize, &(Kind, Form))| Column {
            name: format!("c{index}"),
            kind: *kind,
            type_name: String::new(),
            nullable: true,
            key: false,
        };
        let columns: Vec<Column> = kinds.iter().enumerate().map(column).collect();
        let forms: Vec<Form> = kinds.iter().map(|(_, form)| *form).collect();
        Decoder::new(&columns, &forms, LIMITS, "table t")
    }

    #[test]
    fn rows_become_columns() {
        let mut decoder = decoder(&[(Kind::Int32, Form::Int32), (Kind::Text, Form::Text), (Kind::UInt64, Form::Bits)]);
        decoder.row(b"\x02-7\x03abc\x02\x01\x02").expect("a row");
        decoder.row(b"\xfb\xfb\xfb").expect("a row");
        let long = [b"\x011\xfc\x2c\x01".as_slice(), &[b'x'; 300], b"\x01\xff"].concat();
        decoder.row(&long).expect("a row");
        let batch = decoder.take().expect("a batch");
        assert_eq!((batch.num_rows(), batch.column(0).null_count()), (3, 1));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        for body in [&b""[..], b"\x05ab", b"\xfc", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff", b"\xff", b"\x011\x011"] {
            let error = decoder(&[(Kind::Int32, Form::Int32)]).row(body).expect_err("is damaged");
            assert_eq!(error.fault.code, "StoreErrorAnswer", "{body:?}");
        }
        let zero = decoder(&[(Kind::Date, Form::Date)]).row(b"\x0a0000-00-00").expect_err("is no date");
        assert_eq!(zero.fault.code, "UserErrorValue");
        assert!(zero.fault.message.contains("\"c0\""), "{}", zero.fault);
        let large = [b"\xfc\x2d\x01".as_slice(), &[b'x'; 301]].concat();
        let large = decoder(&[(Kind::Text, Form::Text)]).row(&large).expect_err("is too large");
        assert_eq!(large.fault.code, "UserErrorBudgetExceeded");
    }

    #[test]
    fn zeros_of_zerofill_go() {
        for (text, expected) in [("0001.50", "1.50"), ("-000.5", "-0.5"), ("0", "0"), ("000", "0"), ("10", "10")] {
            let mut out = Vec::new();
            canonical(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).expect("digits"), expected);
        }
    }
}
