//! The digest against the golden vectors, which `tests/judge/digest.py` made without our code.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray, Time64MicrosecondArray, Time64NanosecondArray,
    TimestampMicrosecondArray,
};

use dmg_connector::{Column, Digester, OffsetInstantBuilder, schema};
use dmg_protocol::Kind;
use serde_json::Value;

type Texts<'a> = Vec<Option<&'a str>>;

fn numbers<T>(texts: &Texts<'_>) -> ArrayRef
where
    T: ArrowPrimitiveType,
    T::Native: std::str::FromStr<Err: std::fmt::Debug>,
{
    Arc::new(texts.iter().map(|text| text.map(|text| text.parse().unwrap())).collect::<PrimitiveArray<T>>())
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn array(kind: Kind, texts: &Texts<'_>) -> ArrayRef {
    let words = || texts.iter().map(|text| text.map(|text| text.parse::<i64>().unwrap()));
    match kind {
        Kind::Boolean => Arc::new(texts.iter().map(|text| text.map(|text| text == "true")).collect::<BooleanArray>()),
        Kind::Int8 => numbers::<Int8Type>(texts),
        Kind::Int16 => numbers::<Int16Type>(texts),
        Kind::Int32 => numbers::<Int32Type>(texts),
        Kind::Int64 => numbers::<Int64Type>(texts),
        Kind::UInt8 => numbers::<UInt8Type>(texts),
        Kind::UInt16 => numbers::<UInt16Type>(texts),
        Kind::UInt32 => numbers::<UInt32Type>(texts),
        Kind::UInt64 => numbers::<UInt64Type>(texts),
        Kind::Date => numbers::<Date32Type>(texts),
        Kind::Float32 => {
            let bits = |text| f32::from_bits(u32::from_str_radix(text, 16).unwrap());
            Arc::new(texts.iter().map(|text| text.map(bits)).collect::<Float32Array>())
        }
        Kind::Float64 => {
            let bits = |text| f64::from_bits(u64::from_str_radix(text, 16).unwrap());
            Arc::new(texts.iter().map(|text| text.map(bits)).collect::<Float64Array>())
        }
        Kind::Decimal { precision, scale } => {
            let values = texts.iter().map(|text| text.map(|text| text.parse::<i128>().unwrap()));
            Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(precision, scale as i8).unwrap())
        }
        Kind::Text | Kind::Json | Kind::DecimalText | Kind::EngineText => Arc::new(StringArray::from(texts.clone())),
        Kind::Bytes => Arc::new(texts.iter().map(|text| text.map(bytes)).collect::<BinaryArray>()),
        Kind::Timestamp => Arc::new(words().collect::<TimestampMicrosecondArray>()),
        Kind::Instant => Arc::new(words().collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Kind::Time => Arc::new(words().collect::<Time64MicrosecondArray>()),
        Kind::TimeNanos => Arc::new(words().collect::<Time64NanosecondArray>()),
        Kind::TimestampNanos | Kind::InstantNanos => {
            let values = texts.iter().map(|text| text.map(|text| text.parse::<i128>().unwrap()));
            Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(38, 9).unwrap())
        }
        Kind::InstantWithOffset => {
            let mut builder = OffsetInstantBuilder::with_capacity(texts.len());
            for text in texts {
                match text.map(|text| text.split_once(' ').unwrap()) {
                    Some((moment, offset)) => builder.append_value((moment.parse().unwrap(), offset.parse().unwrap())),
                    None => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        Kind::Uuid => {
            let values = texts.iter().map(|text| text.map(bytes));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16).unwrap())
        }
    }
}

#[test]
fn every_golden_vector_agrees() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/digest.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 30, "the file was cut");
    for case in cases {
        let mut columns = Vec::new();
        let mut arrays = Vec::new();
        for column in case["columns"].as_array().unwrap() {
            let kind: Kind = column["kind"].as_str().unwrap().parse().unwrap();
            let name = column["name"].as_str().unwrap().to_owned();
            let texts: Texts<'_> = column["values"].as_array().unwrap().iter().map(Value::as_str).collect();
            arrays.push(array(kind, &texts));
            columns.push(Column { name, kind, type_name: String::new(), nullable: true, key: false });
        }
        let rows = arrays[0].len();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(schema(&columns), arrays, &options).unwrap();
        let seed = u64::from_str_radix(case["seed"].as_str().unwrap(), 16).unwrap();

        let mut whole = Digester::new(&columns, seed);
        whole.update(&batch).unwrap();
        let whole = whole.finish();
        // The same rows one by one and merged backwards: neither batches nor order may enter.
        let mut merged = Digester::new(&columns, seed).finish();
        for row in (0..rows).rev() {
            let mut part = Digester::new(&columns, seed);
            part.update(&batch.slice(row, 1)).unwrap();
            merged.merge(&part.finish());
        }

        let name = &case["name"];
        let expect = &case["expect"];
        for sums in [whole, merged] {
            assert_eq!(expect["rows"], sums.rows, "{name}");
            let texts: Vec<String> = sums.columns.iter().map(|sum| format!("{sum:032x}")).collect();
            assert_eq!(expect["sums"], serde_json::json!(texts), "{name}");
            assert_eq!(expect["rowSum"], sums.row_hex(), "{name}");
        }
    }
}
