//! A door for the fuzzer: bytes as rows of a text result, in every form there is.

use dmg_connector::{BatchLimits, Column};
use dmg_protocol::Kind;

use super::decode::Decoder;
use super::types::Form;

const LIMITS: BatchLimits = BatchLimits { rows: 5, bytes: 1 << 12, value_bytes: 256 };

const COLUMNS: &[(Kind, Form, &str)] = &[
    (Kind::Boolean, Form::Flag, "1"),
    (Kind::Boolean, Form::Bit, "\u{1}"),
    (Kind::Int8, Form::Int8, "-128"),
    (Kind::Int16, Form::Int16, "-32768"),
    (Kind::Int32, Form::Int32, "2147483647"),
    (Kind::Int64, Form::Int64, "-9223372036854775808"),
    (Kind::UInt8, Form::UInt8, "255"),
    (Kind::UInt16, Form::UInt16, "65535"),
    (Kind::UInt32, Form::UInt32, "4294967295"),
    (Kind::UInt64, Form::UInt64, "18446744073709551615"),
    (Kind::UInt64, Form::Bits, "\u{1}\u{2}"),
    (Kind::Float32, Form::Float32, "0.1"),
    (Kind::Float64, Form::Float64, "-1.7976931348623157e308"),
    (Kind::Decimal { precision: 18, scale: 4 }, Form::Decimal { precision: 18, scale: 4 }, "-12345.6789"),
    (Kind::DecimalText, Form::DecimalText, "000123456789012345678901234567890123456789.50"),
    (Kind::Text, Form::Text, "text ä"),
    (Kind::Bytes, Form::Bytes, "\u{0}x"),
    (Kind::Date, Form::Date, "2026-01-02"),
    (Kind::Timestamp, Form::Moment, "2026-01-02 03:04:05.678901"),
    (Kind::Instant, Form::Moment, "1970-01-01 00:00:01"),
    (Kind::Time, Form::Time, "23:59:59.999999"),
    (Kind::Uuid, Form::UuidText, "00112233-4455-6677-8899-aabbccddeeff"),
    (Kind::Uuid, Form::UuidBytes, "0123456789abcdef"),
];

/// The first byte chooses one column, or all of them; what follows is split into rows by length bytes.
pub(crate) fn rows(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let chosen = match COLUMNS.get(usize::from(*choice) % (COLUMNS.len() + 1)) {
        Some(one) => std::slice::from_ref(one),
        None => COLUMNS,
    };
    let described: Vec<Column> = chosen
        .iter()
        .enumerate()
        .map(|(index, (kind, ..))| Column {
            name: format!("c{index}"),
            kind: *kind,
            type_name: String::new(),
            nullable: true,
            key: false,
        })
        .collect();
    let forms: Vec<Form> = chosen.iter().map(|(_, form, _)| *form).collect();
    let mut decoder = Decoder::new(&described, &forms, LIMITS, "fuzz");
    while let Some((length, after)) = rest.split_first() {
        let (row, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        if decoder.row(row).is_err() || (decoder.full() && decoder.take().is_err()) {
            return;
        }
    }
    if !decoder.is_empty() {
        let _ = decoder.take();
    }
}

/// One row of one value each, with a NULL between, and one row of all.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let cell = |value: &str| [&[value.len() as u8][..], value.as_bytes()].concat();
    let framed = |choice: usize, rows: &[Vec<u8>]| {
        let mut input = vec![choice as u8];
        for row in rows {
            input.push(row.len().min(255) as u8);
            input.extend(row);
        }
        input
    };
    let one = COLUMNS.iter().enumerate();
    let mut seeds: Vec<Vec<u8>> =
        one.map(|(index, (.., value))| framed(index, &[cell(value), vec![0xfb], cell(value)])).collect();
    let half: Vec<u8> = COLUMNS.iter().flat_map(|(.., value)| cell(&value[..value.len().min(9)])).collect();
    seeds.push(framed(COLUMNS.len(), &[half]));
    seeds
}
