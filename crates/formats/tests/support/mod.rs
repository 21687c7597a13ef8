//! What the tests of all formats need: bytes in memory as a file, one column of every kind, and the way through a
//! format and back. Nothing here knows a particular format.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use async_trait::async_trait;
use bytes::Bytes;
use dmg_connector::text_form::text_to_array;
use dmg_connector::{BatchLimits, Column, FileShape, Format, RangeReader, Result, schema};
use dmg_protocol::job::DeclaredColumn;
use dmg_protocol::{Fault, Kind};
use futures::TryStreamExt;

pub(crate) struct Memory(pub(crate) Bytes);

#[async_trait]
impl RangeReader for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        Ok(self.0.slice(range.start as usize..range.end as usize))
    }

    fn label(&self) -> String {
        "test/file".to_owned()
    }
}

pub(crate) const LIMITS: BatchLimits = BatchLimits { rows: 1000, bytes: 1 << 20, value_bytes: 1 << 20 };

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts").block_on(future)
}

pub(crate) fn column(name: &str, kind: Kind) -> Column {
    Column { name: name.into(), kind, type_name: format!("source {kind}"), nullable: true, key: false }
}

/// One column of every kind, with extremes, NULLs and texts that look like everything else.
pub(crate) fn everything() -> RecordBatch {
    let cells: &[(&str, Kind, [&str; 6])] = &[
        ("boolean", Kind::Boolean, ["true", "false", "-", "true", "false", "true"]),
        ("int8", Kind::Int8, ["-128", "127", "-", "0", "1", "2"]),
        ("int16", Kind::Int16, ["-32768", "32767", "-", "0", "1", "2"]),
        ("int32", Kind::Int32, ["-2147483648", "2147483647", "-", "0", "1", "2"]),
        ("int64", Kind::Int64, ["-9223372036854775808", "9223372036854775807", "-", "0", "1", "2"]),
        ("uint8", Kind::UInt8, ["0", "255", "-", "0", "1", "2"]),
        ("uint16", Kind::UInt16, ["0", "65535", "-", "0", "1", "2"]),
        ("uint32", Kind::UInt32, ["0", "4294967295", "-", "0", "1", "2"]),
        ("uint64", Kind::UInt64, ["0", "18446744073709551615", "-", "0", "1", "2"]),
        ("float32", Kind::Float32, ["NaN", "Infinity", "-", "-0", "0.1", "3.4028235e38"]),
        ("float64", Kind::Float64, ["-Infinity", "5e-324", "-", "-0", "0.1", "1.7976931348623157e308"]),
        ("money", Kind::Decimal { precision: 9, scale: 2 }, ["-9999999.99", "0.01", "-", "0.00", "1.10", "2.00"]),
        ("mid", Kind::Decimal { precision: 18, scale: 0 }, ["999999999999999999", "-1", "-", "0", "1", "2"]),
        (
            "wide",
            Kind::Decimal { precision: 38, scale: 10 },
            ["9999999999999999999999999999.9999999999", "-0.0000000001", "-", "0.0000000000", "1.0000000000", "2.5"],
        ),
        (
            "numeric",
            Kind::DecimalText,
            ["NaN", "Infinity", "-", "-1.500", "0.00", "12345678901234567890123456789012345678901234"],
        ),
        ("text", Kind::Text, ["", "a,b\t|;", "-", "line\r\nbreak\nand \"quotes\" '' \\N", "NULL", "😀 é \u{feff}"]),
        ("bytes", Kind::Bytes, ["\\x", "\\x00ff", "-", "\\x2c220a", "\\x5c4e", "\\x4e554c4c"]),
        ("date", Kind::Date, ["infinity", "-infinity", "-", "0001-01-01 BC", "9999-12-31", "1970-01-01"]),
        (
            "timestamp",
            Kind::Timestamp,
            [
                "infinity",
                "-infinity",
                "-",
                "0044-03-15 12:00:00.000001 BC",
                "9999-12-31 23:59:59.999999",
                "1970-01-01 00:00:00",
            ],
        ),
        (
            "instant",
            Kind::Instant,
            [
                "infinity",
                "-infinity",
                "-",
                "0001-01-01 00:00:00+00",
                "294246-12-31 00:00:00+00",
                "1970-01-01 00:00:00.5+00",
            ],
        ),
        ("time", Kind::Time, ["00:00:00", "24:00:00", "-", "12:34:56.789", "00:00:00.000001", "23:59:59"]),
        (
            "timestamp_nanos",
            Kind::TimestampNanos,
            [
                "1677-09-21 00:12:43.145224192",
                "2262-04-11 23:47:16.854775807",
                "-",
                "1969-12-31 23:59:59.9999999",
                "2024-02-29 12:34:56.123456789",
                "1970-01-01 00:00:00",
            ],
        ),
        (
            "instant_nanos",
            Kind::InstantNanos,
            [
                "1677-09-21 00:12:43.145224192+00",
                "2262-04-11 23:47:16.854775807+00",
                "-",
                "1969-12-31 23:59:59.9999999+00",
                "2024-02-29 12:34:56.123456789+00",
                "1970-01-01 00:00:00+00",
            ],
        ),
        (
            "time_nanos",
            Kind::TimeNanos,
            ["00:00:00", "24:00:00", "-", "12:34:56.789", "00:00:00.000000001", "23:59:59.9999999"],
        ),
        (
            "uuid",
            Kind::Uuid,
            [
                "00000000-0000-0000-0000-000000000000",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
                "-",
                "00112233-4455-6677-8899-aabbccddeeff",
                "01112233-4455-6677-8899-aabbccddeeff",
                "02112233-4455-6677-8899-aabbccddeeff",
            ],
        ),
        ("json", Kind::Json, ["{}", "[1, \"a,b\"]", "-", "null", "\"x\"", "{\"a\":\n1}"]),
        ("engine", Kind::EngineText, ["[1,10)", "{a,b}", "-", "", "(1,2)", "01:00"]),
    ];
    let columns: Vec<_> = cells.iter().map(|(name, kind, _)| column(name, *kind)).collect();
    let arrays: Vec<ArrayRef> = cells
        .iter()
        .map(|(name, kind, texts)| {
            let texts: StringArray = texts.iter().map(|text| (*text != "-").then_some(*text)).collect();
            text_to_array(&texts, *kind).unwrap_or_else(|(row, class)| panic!("{name} row {row} is {class}"))
        })
        .collect();
    RecordBatch::try_new(schema(&columns), arrays).expect("columns fit")
}

/// Rows whose values hardly repeat, extremes and NULLs among them: columns that get no dictionary.
pub(crate) fn distinct() -> RecordBatch {
    let mut seed = 42_u64;
    let mut draw = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed ^ (seed >> 29)
    };
    let rows = 5000;
    let mut of = |name: &str, kind: Kind, text: &mut dyn FnMut(u64) -> String| {
        let texts = |row: usize| match row {
            0 => Some(text(0)),
            1 => Some(text(u64::MAX)),
            _ => (!row.is_multiple_of(17)).then(|| text(draw())),
        };
        let texts: StringArray = (0..rows).map(texts).collect();
        let array = text_to_array(&texts, kind).expect("they are of the kind");
        (column(name, kind), array)
    };
    let money = Kind::Decimal { precision: 18, scale: 2 };
    let wide = Kind::Decimal { precision: 38, scale: 0 };
    let (columns, arrays): (Vec<_>, Vec<_>) = [
        of("int64", Kind::Int64, &mut |n| (n as i64).wrapping_add(i64::MIN).to_string()),
        of("uint64", Kind::UInt64, &mut |n| n.to_string()),
        of("int32", Kind::Int32, &mut |n| (n as i32).to_string()),
        of("uint16", Kind::UInt16, &mut |n| (n as u16).to_string()),
        of("float64", Kind::Float64, &mut |n| f64::from_bits(n >> 2).to_string()),
        of("money", money, &mut |n| format!("-{}.{:02}", n % 10_000_000_000_000_000, n % 100)),
        of("wide", wide, &mut |n| format!("{n}{:018}", n % 1_000_000_000_000_000_000)),
        of("text", Kind::Text, &mut |n| "é".repeat((n % 40) as usize) + &n.to_string()),
        of("bytes", Kind::Bytes, &mut |n| format!("\\x{n:016x}")),
        of("uuid", Kind::Uuid, &mut |n| format!("{n:016x}{n:016x}")),
        of("timestamp", Kind::Timestamp, &mut |n| format!("{:04}-01-02 03:04:05.{:06}", 1 + n % 9999, n % 1_000_000)),
    ]
    .into_iter()
    .unzip();
    RecordBatch::try_new(schema(&columns), arrays).expect("columns fit")
}

pub(crate) fn columns_of(batch: &RecordBatch) -> Vec<Column> {
    batch.schema().fields().iter().map(|field| dmg_connector::column_of(field).expect("a kind")).collect()
}

pub(crate) fn declared(columns: &[Column]) -> Vec<DeclaredColumn> {
    columns
        .iter()
        .map(|column| DeclaredColumn { kind: Some(column.kind), ..DeclaredColumn::named(column.name.clone()) })
        .collect()
}

/// Writes batches, one fragment each, decodes each fragment, and gives the file.
pub(crate) fn write(format: &dyn Format, columns: &[Column], batches: &[RecordBatch]) -> Result<Bytes> {
    let mut file = format.encoder(columns)?;
    let mut bytes = file.start()?.to_vec();
    for batch in batches {
        let mut encoder = file.fragment()?;
        encoder.write(batch)?;
        assert_eq!(encoder.rows(), batch.num_rows() as u64);
        let fragment = encoder.finish()?;
        let decoded = format.decode(columns, &fragment)?;
        assert_same(std::slice::from_ref(batch), &decoded);
        bytes.extend_from_slice(&file.append(fragment)?);
    }
    bytes.extend_from_slice(&file.finish()?);
    Ok(bytes.into())
}

pub(crate) fn read(
    format: &dyn Format,
    bytes: &Bytes,
    declared: &[DeclaredColumn],
    limits: BatchLimits,
) -> Result<(FileShape, Vec<RecordBatch>)> {
    let file: Arc<dyn RangeReader> = Arc::new(Memory(bytes.clone()));
    run(async {
        let shape = format.inspect(file.clone(), declared).await?;
        let mut batches = Vec::new();
        for part in &shape.parts {
            batches.extend(format.read(file.clone(), &shape, part, limits).await?.try_collect::<Vec<_>>().await?);
        }
        for batch in &batches {
            assert_eq!(batch.schema(), schema(&shape.columns), "batches have the shape's columns");
        }
        Ok((shape, batches))
    })
}

/// The same rows by their text forms, however they are cut into batches.
pub(crate) fn assert_same(expected: &[RecordBatch], found: &[RecordBatch]) {
    assert_eq!(rows(expected), rows(found));
}

/// All rows as text, NULL as `None`; bits of floats are kept by their shortest forms.
pub(crate) fn rows(batches: &[RecordBatch]) -> Vec<Vec<Option<String>>> {
    let mut all = Vec::new();
    for batch in batches {
        let kinds = columns_of(batch);
        let texts: Vec<_> = batch
            .columns()
            .iter()
            .zip(&kinds)
            .map(|(array, column)| dmg_connector::text_form::array_to_text(array, column.kind))
            .collect();
        for row in 0..batch.num_rows() {
            let value = |text: &StringArray| text.is_valid(row).then(|| text.value(row).to_owned());
            all.push(texts.iter().map(value).collect());
        }
    }
    all
}

pub(crate) fn fault<T>(result: Result<T>) -> Fault {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => *error.fault,
    }
}
