//! Foreign proof: pyarrow, DuckDB and Python's csv module read what we write, and we read what they write.
//! `DMG_TEST_PYTHON` names a Python that has pyarrow; without one the tests say that they were skipped.

mod support;

use std::path::Path;
use std::process::Command;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use bytes::Bytes;
use dmg_connector::text_form::array_to_text;
use dmg_protocol::Kind;
use dmg_protocol::job::{FormatSpec, ParquetFormat, TextFormat};
use support::{rows as rows_of, *};

/// Runs the script; `None` where Python lacks what it needs.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test asks its environment for the Python to use"
)]
fn python(action: &str, path: &Path, needs: &str) -> Option<String> {
    let python = std::env::var("DMG_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", &format!("import {needs}")]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: {python} has no {needs}; set DMG_TEST_PYTHON to one that has");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign.py");
    let output = Command::new(&python).arg(script).arg(action).arg(path).output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("Python prints UTF-8"))
}

/// What the script prints for a value: integers for days and times, bits for floats, our text form for the rest.
fn raw(array: &ArrayRef, kind: Kind) -> Vec<Option<String>> {
    match kind {
        Kind::Float32 => {
            array.as_primitive::<Float32Type>().iter().map(|v| v.map(|v| format!("{:08x}", v.to_bits()))).collect()
        }
        Kind::Float64 => {
            array.as_primitive::<Float64Type>().iter().map(|v| v.map(|v| format!("{:016x}", v.to_bits()))).collect()
        }
        Kind::Date => array.as_primitive::<Date32Type>().iter().map(|v| v.map(|v| v.to_string())).collect(),
        Kind::Time => array.as_primitive::<Time64MicrosecondType>().iter().map(|v| v.map(|v| v.to_string())).collect(),
        Kind::Timestamp | Kind::Instant => {
            array.as_primitive::<TimestampMicrosecondType>().iter().map(|v| v.map(|v| v.to_string())).collect()
        }
        Kind::TimestampNanos | Kind::InstantNanos => {
            array.as_primitive::<Decimal128Type>().iter().map(|v| v.map(|v| v.to_string())).collect()
        }
        Kind::TimeNanos => {
            array.as_primitive::<Time64NanosecondType>().iter().map(|v| v.map(|v| v.to_string())).collect()
        }
        Kind::Uuid => (0..array.len())
            .map(|row| array.is_valid(row).then(|| array.as_fixed_size_binary().value(row)))
            .map(|v| v.map(|v| format!("\\x{}", v.iter().map(|byte| format!("{byte:02x}")).collect::<String>())))
            .collect(),
        _ => array_to_text(array, kind).iter().map(|v| v.map(str::to_owned)).collect(),
    }
}

#[test]
fn others_read_our_parquet() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ours.parquet");
    let format = dmg_formats::open(&FormatSpec::Parquet(ParquetFormat::default())).expect("good settings");
    let mut answer = serde_json::Value::Null;
    for batch in [distinct(), everything()] {
        let columns = columns_of(&batch);
        let bytes = write(format.as_ref(), &columns, &[batch.clone(), batch.clone()]).expect("it is written");
        read(format.as_ref(), &bytes, &declared(&columns), LIMITS).expect("we read it ourselves");
        std::fs::write(&path, bytes).expect("it is stored");
        let Some(text) = python("read-parquet", &path, "pyarrow") else { return };
        answer = serde_json::from_str(&text).expect("JSON");
        for (index, column) in columns.iter().enumerate() {
            assert_eq!(answer["names"][index], *column.name);
            let once = raw(batch.column(index), column.kind);
            let expect: Vec<_> = once.iter().chain(&once).cloned().collect();
            let found: Vec<Option<String>> = serde_json::from_value(answer["columns"][index].clone()).expect("texts");
            assert_eq!(found, expect, "{}", column.name);
        }
    }
    let columns = columns_of(&everything());
    let type_of = |name: &str| {
        let index = columns.iter().position(|column| column.name == name).expect("it is there");
        answer["types"][index].as_str().expect("a text").to_owned()
    };
    assert_eq!((type_of("uuid"), type_of("json"), type_of("text")), ("UUID".into(), "JSON".into(), "String".into()));
    assert_eq!(type_of("money"), "Decimal(precision=9, scale=2)");
    assert!(type_of("timestamp_nanos").contains("timeUnit=nanoseconds"), "{}", type_of("timestamp_nanos"));
    assert!(type_of("instant_nanos").contains("isAdjustedToUTC=true"), "{}", type_of("instant_nanos"));
    assert!(type_of("time_nanos").contains("timeUnit=nanoseconds"), "{}", type_of("time_nanos"));
    if !answer["duckdb"].is_null() {
        assert_eq!(answer["duckdb"], serde_json::json!([12, 10]));
    }
}

#[test]
fn we_read_the_parquet_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    if python("write-parquet", folder.path(), "pyarrow").is_none() {
        return;
    }
    let format = dmg_formats::open(&FormatSpec::Parquet(ParquetFormat::default())).expect("good settings");
    let load = |name: &str| Bytes::from(std::fs::read(folder.path().join(name)).expect("it was written"));
    let (shape, found) = read(format.as_ref(), &load("foreign.parquet"), &[], LIMITS).expect("it is read");
    assert_eq!(shape.parts.len(), 2);
    let kinds: Vec<_> = shape.columns.iter().map(|column| column.kind.to_string()).collect();
    let expect = [
        "text",
        "text",
        "text",
        "bytes",
        "bytes",
        "timestamp",
        "instant-nanos",
        "instant",
        "time",
        "time-nanos",
        "decimal",
        "decimal(20,2)",
        "float32",
        "text",
        "uint64",
    ];
    assert_eq!(kinds, expect);
    let first = [
        "a",
        "x",
        "r",
        "\\x3132333435",
        "\\x30313233343536373839616263646566",
        "2024-02-29 12:34:56.789",
        "2024-02-29 12:34:56.789+00",
        "2024-02-29 12:34:56+00",
        "12:34:56.789",
        "12:34:56.789",
        "1.500",
        "1.50",
        "0.5",
        "(null)",
        "0",
    ];
    let rows = rows_of(&found);
    let shown: Vec<_> = rows[0].iter().map(|value| value.as_deref().unwrap_or("(null)")).collect();
    assert_eq!(shown, first);
    assert_eq!(rows[1].iter().flatten().count(), usize::from(rows[1][2].is_some()), "the second row is NULL but one");
    assert_eq!(rows[2][14].as_deref(), Some("18446744073709551615"));

    let (shape, found) = read(format.as_ref(), &load("empty.parquet"), &[], LIMITS).expect("a file without rows");
    assert_eq!((shape.columns.len(), shape.rows, found.len()), (2, Some(0), 0));

    let refused = fault(read(format.as_ref(), &load("nested.parquet"), &[], LIMITS));
    assert_eq!(refused.code, "UserErrorNotSupported");
    assert_eq!(refused.context["column"], "deep");
    let (shape, found) = read(format.as_ref(), &load("fine.parquet"), &[], LIMITS).expect("nanoseconds are read");
    assert_eq!(shape.columns[0].kind, Kind::TimestampNanos);
    let shown: Vec<_> = rows_of(&found).into_iter().flatten().flatten().collect();
    assert_eq!(shown, ["1970-01-01 00:00:00.000001", "1970-01-01 00:00:00.000000001", "2262-04-11 23:47:16.854775807"]);
}

#[test]
fn moments_of_older_writers_are_read_in_every_year() {
    let folder = tempfile::tempdir().expect("a folder");
    if python("write-parquet", folder.path(), "pyarrow").is_none() {
        return;
    }
    let format = dmg_formats::open(&FormatSpec::Parquet(ParquetFormat::default())).expect("good settings");
    let bytes = Bytes::from(std::fs::read(folder.path().join("old.parquet")).expect("it was written"));
    let (shape, found) = read(format.as_ref(), &bytes, &[], LIMITS).expect("it is read");
    assert_eq!(shape.columns[1].kind, Kind::TimestampNanos);
    let shown: Vec<_> = rows_of(&found).into_iter().map(|row| row[1].clone()).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(shown, [some("9999-12-31 23:59:59.9999999"), None, some("1969-12-31 23:59:59.999999999")]);
}

#[test]
fn python_reads_our_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ours.csv");
    let format = dmg_formats::open(&FormatSpec::Text(TextFormat::lossless())).expect("good settings");
    let batch = everything();
    let columns = columns_of(&batch);
    let bytes = write(format.as_ref(), &columns, std::slice::from_ref(&batch)).expect("it is written");
    std::fs::write(&path, bytes).expect("it is stored");
    let Some(answer) = python("read-csv", &path, "csv") else { return };
    let found: Vec<Vec<String>> = serde_json::from_str(&answer).expect("JSON");
    let mut expect = vec![columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>()];
    expect.extend(rows_of(&[batch]).into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()));
    assert_eq!(found, expect);
}

#[test]
fn we_read_the_text_of_python() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("theirs.csv");
    if python("write-csv", &path, "csv").is_none() {
        return;
    }
    let settings = TextFormat { first_row_as_header: true, quote_char: Some('"'), ..TextFormat::default() };
    let format = dmg_formats::open(&FormatSpec::Text(settings)).expect("good settings");
    let bytes = Bytes::from(std::fs::read(path).expect("it was written"));
    let (shape, found): (_, Vec<RecordBatch>) = read(format.as_ref(), &bytes, &[], LIMITS).expect("it is read");
    assert_eq!(shape.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["id", "text"]);
    let some = |text: &str| Some(text.to_owned());
    let expect = vec![
        vec![some("1"), some("a \"quoted\", text\r\nover lines")],
        vec![some("2"), some("")],
        vec![some("3"), some("😀")],
    ];
    assert_eq!(rows_of(&found), expect);
}
