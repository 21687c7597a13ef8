//! A door for the fuzzer: bytes as rows of a binary COPY, in every form there is.

use dmg_connector::{BatchLimits, Column};
use dmg_protocol::Kind;

use super::decode::Decoder;
use super::types::Form;

const LIMITS: BatchLimits = BatchLimits { rows: 5, bytes: 1 << 12, value_bytes: 256 };

fn columns() -> Vec<(Kind, Form)> {
    vec![
        (Kind::Boolean, Form::Boolean),
        (Kind::Int16, Form::Int16),
        (Kind::Int32, Form::Int32),
        (Kind::Int64, Form::Int64),
        (Kind::UInt32, Form::Oid),
        (Kind::Float32, Form::Float32),
        (Kind::Float64, Form::Float64),
        (Kind::Decimal { precision: 18, scale: 4 }, Form::Numeric { precision: 18, scale: 4 }),
        (Kind::Decimal { precision: 38, scale: 0 }, Form::Numeric { precision: 38, scale: 0 }),
        (Kind::Text, Form::Text),
        (Kind::Json, Form::Jsonb),
        (Kind::Bytes, Form::Bytes),
        (Kind::Date, Form::Date),
        (Kind::Timestamp, Form::Timestamp),
        (Kind::Instant, Form::Timestamp),
        (Kind::Time, Form::Time),
        (Kind::Uuid, Form::Uuid),
    ]
}

/// The first byte chooses one column, or all of them; what follows is split into rows by length bytes.
pub(crate) fn copy(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let all = columns();
    let chosen = match all.get(usize::from(*choice) % (all.len() + 1)) {
        Some(one) => vec![*one],
        None => all,
    };
    let described: Vec<Column> = chosen
        .iter()
        .enumerate()
        .map(|(index, (kind, _))| Column {
            name: format!("c{index}"),
            kind: *kind,
            type_name: String::new(),
            nullable: true,
            key: false,
        })
        .collect();
    let forms: Vec<Form> = chosen.iter().map(|(_, form)| *form).collect();
    let mut decoder = Decoder::new(&described, &forms, LIMITS, "fuzz");
    while let Some((length, after)) = rest.split_first() {
        let (row, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        if !matches!(decoder.row(row), Ok(true)) {
            return;
        }
        if decoder.full() && decoder.take().is_err() {
            return;
        }
    }
    if !decoder.is_empty() {
        let _ = decoder.take();
    }
}

/// One row of one value each, and one row of all.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let values: &[&[u8]] = &[
        &[1],
        &7_i16.to_be_bytes(),
        &(-7_i32).to_be_bytes(),
        &i64::MAX.to_be_bytes(),
        &7_u32.to_be_bytes(),
        &1.5_f32.to_be_bytes(),
        &(-0.1_f64).to_be_bytes(),
        // 12345.6789: two digits of base 10000 before the point and one behind it.
        &[0, 3, 0, 1, 0, 0, 0, 4, 0, 1, 0x09, 0x29, 0x1a, 0x85],
        // NaN, and a negative whole number.
        &[0, 0, 0, 0, 0xc0, 0, 0, 0],
        "text ä".as_bytes(),
        b"\x01{\"a\":1}",
        &[0, 255],
        &9000_i32.to_be_bytes(),
        &i64::MIN.to_be_bytes(),
        &800_000_000_000_000_i64.to_be_bytes(),
        &86_400_000_000_i64.to_be_bytes(),
        &[7; 16],
    ];
    let row = |values: &[&[u8]]| {
        let mut body = (values.len() as i16).to_be_bytes().to_vec();
        for value in values {
            body.extend((value.len() as i32).to_be_bytes());
            body.extend(*value);
        }
        body
    };
    let framed = |choice: usize, rows: &[Vec<u8>]| {
        let mut input = vec![choice as u8];
        for row in rows {
            input.push(row.len() as u8);
            input.extend(row);
        }
        input
    };
    let trailer = (-1_i16).to_be_bytes().to_vec();
    let null = [&1_i16.to_be_bytes()[..], &(-1_i32).to_be_bytes()].concat();
    let mut seeds: Vec<Vec<u8>> = values
        .iter()
        .enumerate()
        .map(|(index, value)| framed(index, &[row(&[value]), null.clone(), row(&[value]), trailer.clone()]))
        .collect();
    seeds.push(framed(values.len(), &[row(values), trailer]));
    seeds
}
