//! Golden text forms, and that every value reads back.

use std::sync::Arc;

use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int8Array, Int64Array, Time64MicrosecondArray, Time64NanosecondArray, TimestampMicrosecondArray, UInt64Array,
};

use super::*;

fn check(kind: Kind, column: impl Array + 'static, expect: &[&str]) {
    let column: ArrayRef = Arc::new(column);
    assert_eq!(*column.data_type(), crate::data_type(kind), "{kind}");
    let text = array_to_text(&column, kind);
    let written: Vec<_> = text.iter().map(|value| value.unwrap_or("(null)").to_owned()).collect();
    assert_eq!(written, expect, "{kind}");
    let back = text_to_array(&text, kind).unwrap_or_else(|(row, class)| panic!("{kind}: row {row} is {class}"));
    match kind {
        Kind::Float32 => same_bits(
            column.as_primitive::<Float32Type>().iter().map(|v| v.map(f32::to_bits)),
            back.as_primitive::<Float32Type>().iter().map(|v| v.map(f32::to_bits)),
        ),
        Kind::Float64 => same_bits(
            column.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)),
            back.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)),
        ),
        _ => assert_eq!(column.to_data(), back.to_data(), "{kind}"),
    }
}

fn same_bits<T: PartialEq + std::fmt::Debug>(a: impl Iterator<Item = T>, b: impl Iterator<Item = T>) {
    assert_eq!(a.collect::<Vec<_>>(), b.collect::<Vec<_>>());
}

#[test]
fn numbers() {
    check(Kind::Boolean, BooleanArray::from(vec![Some(true), None, Some(false)]), &["true", "(null)", "false"]);
    check(Kind::Int8, Int8Array::from(vec![-128, 0, 127]), &["-128", "0", "127"]);
    check(Kind::Int64, Int64Array::from(vec![i64::MIN, i64::MAX]), &["-9223372036854775808", "9223372036854775807"]);
    check(Kind::UInt64, UInt64Array::from(vec![u64::MAX]), &["18446744073709551615"]);
    let doubles = vec![0.1, -0.0, 1e300, 5e-324, 3.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e15];
    let expect = ["0.1", "-0", "1e300", "5e-324", "3", "Infinity", "-Infinity", "NaN", "1000000000000000"];
    check(Kind::Float64, Float64Array::from(doubles), &expect);
    check(Kind::Float32, Float32Array::from(vec![0.1, f32::MAX, -0.0]), &["0.1", "3.4028235e38", "-0"]);
}

#[test]
fn decimals() {
    let make = |values: Vec<i128>, precision, scale| {
        Decimal128Array::from(values).with_precision_and_scale(precision, scale).expect("fits")
    };
    let kind = Kind::Decimal { precision: 10, scale: 2 };
    check(kind, make(vec![0, 1, -1, 100, -12345, 10], 10, 2), &["0.00", "0.01", "-0.01", "1.00", "-123.45", "0.10"]);
    check(Kind::Decimal { precision: 5, scale: 0 }, make(vec![-12], 5, 0), &["-12"]);
    let largest = 10_i128.pow(38) - 1;
    let expect = ["9999999999999999999999999999.9999999999", "-9999999999999999999999999999.9999999999"];
    check(Kind::Decimal { precision: 38, scale: 10 }, make(vec![largest, -largest], 38, 10), &expect);
    let all_behind = Kind::Decimal { precision: 38, scale: 38 };
    check(all_behind, make(vec![1], 38, 38), &["0.00000000000000000000000000000000000001"]);
    let text = StringArray::from(vec!["1.50", "NaN", "-Infinity", "0.000"]);
    check(Kind::DecimalText, text, &["1.50", "NaN", "-Infinity", "0.000"]);
}

#[test]
fn days_and_times() {
    let days = vec![0, -1, 2_932_896, 2_932_897, -719_528, -735_160, i32::MAX, i32::MIN, 19_782];
    let expect = [
        "1970-01-01",
        "1969-12-31",
        "9999-12-31",
        "10000-01-01",
        "0001-01-01 BC",
        "0044-03-15 BC",
        "infinity",
        "-infinity",
        "2024-02-29",
    ];
    check(Kind::Date, Date32Array::from(days), &expect);
    let micros = vec![0, 1, -1, 1_500_000, -62_135_596_800_000_001, i64::MAX, i64::MIN];
    let expect = [
        "1970-01-01 00:00:00",
        "1970-01-01 00:00:00.000001",
        "1969-12-31 23:59:59.999999",
        "1970-01-01 00:00:01.5",
        "0001-12-31 23:59:59.999999 BC",
        "infinity",
        "-infinity",
    ];
    check(Kind::Timestamp, TimestampMicrosecondArray::from(micros.clone()), &expect);
    let with_zone: Vec<_> = expect
        .iter()
        .map(|text| match *text {
            "infinity" | "-infinity" => (*text).to_owned(),
            _ => text.strip_suffix(" BC").map_or(format!("{text}+00"), |rest| format!("{rest}+00 BC")),
        })
        .collect();
    let with_zone: Vec<_> = with_zone.iter().map(String::as_str).collect();
    check(Kind::Instant, TimestampMicrosecondArray::from(micros).with_timezone("UTC"), &with_zone);
    let times = Time64MicrosecondArray::from(vec![0, 86_400_000_000, 45_296_789_000]);
    check(Kind::Time, times, &["00:00:00", "24:00:00", "12:34:56.789"]);
}

#[test]
fn moments_finer_than_microseconds() {
    let nanos = vec![
        0,
        1,
        -100,
        1_500_000_000,
        253_402_300_799_999_999_900,
        -62_135_596_800_000_000_001,
        crate::NANOS_INFINITY,
        -crate::NANOS_INFINITY,
    ];
    let expect = [
        "1970-01-01 00:00:00",
        "1970-01-01 00:00:00.000000001",
        "1969-12-31 23:59:59.9999999",
        "1970-01-01 00:00:01.5",
        "9999-12-31 23:59:59.9999999",
        "0001-12-31 23:59:59.999999999 BC",
        "infinity",
        "-infinity",
    ];
    let column = |values: Vec<i128>| Decimal128Array::from(values).with_precision_and_scale(38, 9).expect("fits");
    check(Kind::TimestampNanos, column(nanos), &expect);
    check(
        Kind::InstantNanos,
        column(vec![100, -1]),
        &["1970-01-01 00:00:00.0000001+00", "1969-12-31 23:59:59.999999999+00"],
    );
    let times = Time64NanosecondArray::from(vec![0, 86_400_000_000_000, 45_296_789_000_100]);
    check(Kind::TimeNanos, times, &["00:00:00", "24:00:00", "12:34:56.7890001"]);
    let mut zoned = crate::OffsetInstantBuilder::with_capacity(5);
    for value in [(100, 330), (0, -840), (-62_135_596_800_000_000_000, -1), (crate::NANOS_INFINITY, 0)] {
        zoned.append_value(value);
    }
    zoned.append_null();
    check(
        Kind::InstantWithOffset,
        zoned.finish(),
        &[
            "1970-01-01 05:30:00.0000001+05:30",
            "1969-12-31 10:00:00-14:00",
            "0001-12-31 23:59:00-00:01 BC",
            "infinity",
            "(null)",
        ],
    );
}

#[test]
fn octets() {
    check(Kind::Bytes, BinaryArray::from(vec![&b""[..], b"\x00\xff"]), &["\\x", "\\x00ff"]);
    let uuid: Vec<u8> = (0..16).map(|n| n * 16 + n).collect();
    let column = FixedSizeBinaryArray::try_from_iter([uuid].into_iter()).expect("16 octets");
    check(Kind::Uuid, column, &["00112233-4455-6677-8899-aabbccddeeff"]);
}

#[test]
fn variants_are_read() {
    let same = |kind, variant: &str, canonical: &str| {
        let read = text_to_array(&StringArray::from(vec![variant]), kind).unwrap_or_else(|_| panic!("{variant}"));
        assert_eq!(array_to_text(&read, kind).value(0), canonical, "{variant}");
    };
    same(Kind::Boolean, "TRUE", "true");
    same(Kind::Int32, "+007", "7");
    same(Kind::Decimal { precision: 4, scale: 2 }, "1.5000", "1.50");
    same(Kind::DecimalText, "-0.0", "0.0");
    same(Kind::DecimalText, "+007.10", "7.10");
    same(Kind::DecimalText, ".5", "0.5");
    same(Kind::Timestamp, "2024-01-02T03:04", "2024-01-02 03:04:00");
    same(Kind::Timestamp, "2024-01-02", "2024-01-02 00:00:00");
    same(Kind::Instant, "2024-01-02T03:04:05Z", "2024-01-02 03:04:05+00");
    same(Kind::Instant, "2024-01-02 03:04:05.25+05:30", "2024-01-01 21:34:05.25+00");
    same(Kind::Instant, "2024-01-02 23:04:05-0330", "2024-01-03 02:34:05+00");
    same(Kind::InstantWithOffset, "2024-01-02 03:04:05.1234567 +05:30", "2024-01-02 03:04:05.1234567+05:30");
    same(Kind::InstantWithOffset, "2024-01-02T03:04:05Z", "2024-01-02 03:04:05+00:00");
    same(Kind::TimestampNanos, "2024-01-02T03:04:05.1234567000", "2024-01-02 03:04:05.1234567");
    same(Kind::Uuid, "00112233445566778899AABBCCDDEEFF", "00112233-4455-6677-8899-aabbccddeeff");
}

#[test]
fn bad_texts_are_refused_by_class() {
    let refused = |kind, text: &str, class: &str| {
        let column = StringArray::from(vec![None, Some(text)]);
        assert_eq!(text_to_array(&column, kind).err(), Some((1, class)), "{kind} {text}");
    };
    refused(Kind::Boolean, "yes!", "not a boolean");
    refused(Kind::Int8, "128", "out of the column's range");
    refused(Kind::UInt8, "-1", "out of the column's range");
    refused(Kind::Int32, "1.0", "not a whole number");
    refused(Kind::Int32, "", "not a whole number");
    refused(Kind::Float32, "1e39", "out of the column's range");
    refused(Kind::Float64, "1,5", "not a number");
    refused(Kind::Decimal { precision: 4, scale: 2 }, "100", "a number with more digits than the column holds");
    refused(Kind::Decimal { precision: 4, scale: 2 }, "1.001", "a number with more digits than the column holds");
    refused(Kind::Decimal { precision: 4, scale: 2 }, "-", "not a decimal number");
    refused(Kind::DecimalText, "1e5", "not a decimal number");
    refused(Kind::Bytes, "00", "not hexadecimal bytes beginning with \\x");
    refused(Kind::Bytes, "\\x0", "not hexadecimal bytes beginning with \\x");
    refused(Kind::Date, "2023-02-29", "not a date");
    refused(Kind::Date, "0000-01-01", "not a date");
    refused(Kind::Date, "é-01-01-01", "not a date");
    refused(Kind::Timestamp, "2024-01-01 24:00:00", "not a date and time");
    refused(Kind::Timestamp, "2024-01-01 00:00:00.0000001", "finer than microseconds");
    refused(Kind::Timestamp, "9999999-01-01 00:00:00", "out of the column's range");
    refused(Kind::Instant, "2024-01-01 00:00:00", "not a date and time with a UTC offset");
    refused(Kind::Time, "24:00:00.000001", "not a time of day");
    refused(Kind::TimeNanos, "24:00:00.000000001", "not a time of day");
    refused(Kind::TimestampNanos, "2024-01-01 00:00:00.0000000001", "finer than nanoseconds");
    refused(Kind::InstantWithOffset, "2024-01-01 00:00:00", "not a date and time with a UTC offset");
    let odd = "a time whose UTC offset is not of whole minutes";
    refused(Kind::InstantWithOffset, "2024-01-01 00:00:00+05:30:15", odd);
    refused(Kind::Uuid, "00112233-4455-6677-8899-aabbccddeef", "not a UUID");
}
