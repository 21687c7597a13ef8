//! Parquet: round trips, hostile files, planted changes, and the shape of what is written.

mod support;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use bytes::Bytes;
use dmg_connector::{BatchLimits, Column, Format, Fragment, schema};
use dmg_protocol::Kind;
use dmg_protocol::job::{DeclaredColumn, FormatSpec, ParquetCompression, ParquetFormat};
use proptest::prelude::*;
use support::*;

fn open(compression: ParquetCompression) -> Arc<dyn Format> {
    dmg_formats::open(&FormatSpec::Parquet(ParquetFormat { compression })).expect("the settings are good")
}

fn snappy() -> Arc<dyn Format> {
    open(ParquetCompression::Snappy)
}

/// The same rows many times, so that dictionaries and several pages come into play.
fn many(times: usize) -> RecordBatch {
    let batch = everything();
    let indices: Vec<_> = (0..times).flat_map(|_| 0..batch.num_rows() as u32).collect();
    let indices = arrow_array::UInt32Array::from(indices);
    arrow_select::take::take_record_batch(&batch, &indices).expect("rows are there")
}

#[test]
fn every_kind_comes_back_in_every_compression() {
    for compression in [ParquetCompression::None, ParquetCompression::Snappy, ParquetCompression::Zstd] {
        let format = open(compression);
        let batches = [everything(), many(2000), everything()];
        let columns = columns_of(&batches[0]);
        let bytes = write(format.as_ref(), &columns, &batches).expect("it is written");
        let (shape, found) = read(format.as_ref(), &bytes, &declared(&columns), LIMITS).expect("it is read");
        assert_eq!(shape.columns, columns, "names, kinds and the source's type names are kept");
        assert_eq!(shape.parts.len(), 3, "a row group is a part");
        assert_eq!(shape.rows, Some(12_012));
        assert!(found.iter().all(|batch| batch.num_rows() <= LIMITS.rows));
        assert_same(&batches, &found);
    }
}

/// Values that hardly repeat get other encodings than those with a dictionary.
#[test]
fn values_without_a_dictionary_come_back() {
    let batch = distinct();
    let columns = columns_of(&batch);
    let bytes = write(snappy().as_ref(), &columns, std::slice::from_ref(&batch)).expect("it is written");
    let (_, found) = read(snappy().as_ref(), &bytes, &[], LIMITS).expect("it is read");
    assert_same(&[batch], &found);
}

#[test]
fn a_file_without_rows_keeps_its_columns() {
    let columns = columns_of(&everything());
    let bytes = write(snappy().as_ref(), &columns, &[]).expect("it is written");
    let (shape, found) = read(snappy().as_ref(), &bytes, &[], LIMITS).expect("it is read");
    assert_eq!((shape.columns, shape.rows, found.len()), (columns.clone(), Some(0), 0));
    let mut file = snappy().encoder(&columns).expect("it starts");
    let empty = file.fragment().and_then(|encoder| encoder.finish()).expect("it ends");
    assert_eq!(empty.rows, 0);
    assert!(snappy().decode(&columns, &empty).expect("nothing is decoded").is_empty());
    file.start().expect("it starts");
    assert!(file.append(empty).expect("it is appended").is_empty());
}

#[test]
fn columns_that_may_not_be_null_are_required() {
    let columns = [Column { nullable: false, ..column("id", Kind::Int64) }];
    let ids: arrow_array::ArrayRef = Arc::new(arrow_array::Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_new(dmg_connector::schema(&columns), vec![ids]).expect("it fits");
    let bytes = write(snappy().as_ref(), &columns, std::slice::from_ref(&batch)).expect("it is written");
    let (shape, found) = read(snappy().as_ref(), &bytes, &[], LIMITS).expect("it is read");
    assert!(!shape.columns[0].nullable);
    assert_same(&[batch], &found);
}

#[test]
fn a_declared_column_must_be_there() {
    let batch = everything();
    let bytes = write(snappy().as_ref(), &columns_of(&batch), &[batch]).expect("it is written");
    let gone = [DeclaredColumn::named("gone")];
    let refused = fault(read(snappy().as_ref(), &bytes, &gone, LIMITS));
    assert_eq!(refused.code, "UserErrorColumnMissing");
}

#[test]
fn a_value_beyond_the_budget_is_named() {
    // A long text of one letter: the row group that holds it is small, the value is not.
    let columns = [column("note", Kind::Text)];
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["short".to_owned(), "x".repeat(5_000)]));
    let batch = RecordBatch::try_new(schema(&columns), vec![texts]).expect("columns fit");
    let bytes = write(snappy().as_ref(), &columns, &[batch]).expect("it is written");
    let refused = fault(read(snappy().as_ref(), &bytes, &[], BatchLimits { value_bytes: 4_000, ..LIMITS }));
    assert_eq!(refused.code, "UserErrorBudgetExceeded");
    assert_eq!(refused.message, "File test/file, row 2, column \"note\": the value has more than 4000 bytes.");
    // A row group that does not fit the budget is refused before it is read.
    let refused = fault(read(snappy().as_ref(), &bytes, &[], BatchLimits { value_bytes: 40, ..LIMITS }));
    assert_eq!(refused.code, "UserErrorBudgetExceeded");
    assert!(refused.message.starts_with("A row group of file test/file has"), "{refused}");
}

#[test]
fn what_is_no_parquet_is_refused() {
    let whole = write(snappy().as_ref(), &columns_of(&everything()), &[everything()]).expect("it is written");
    let refused = |bytes: Bytes| fault(read(snappy().as_ref(), &bytes, &[], LIMITS));
    let cases = [
        (Bytes::new(), "it is too short for a Parquet file"),
        (Bytes::from_static(b"a,b,c\n1,2,3\n4,5,6\n"), "it is no Parquet file, or its end is missing"),
        (whole.slice(..whole.len() - 5), "it is no Parquet file, or its end is missing"),
        (whole.slice(whole.len() - 20..), "the length of its footer is impossible"),
        (Bytes::from_static(b"PAR1xxxx\xff\xff\xff\xffPAR1"), "the length of its footer is impossible"),
    ];
    for (bytes, what) in cases {
        let fault = refused(bytes);
        assert_eq!(fault.code, "UserErrorFileFormat");
        assert_eq!(fault.message, format!("The file test/file cannot be read: {what}."));
    }
    let inside = [&whole[..4], &whole[900..]].concat();
    assert_eq!(refused(inside.into()).code, "UserErrorFileFormat");
}

#[test]
fn a_dictionary_announces_no_more_than_its_page_has_room_for() {
    let columns = [column("note", Kind::Text)];
    let texts: ArrayRef = Arc::new(StringArray::from(["a", "b", "a", "b", "a", "b"].repeat(100)));
    let batch = RecordBatch::try_new(schema(&columns), vec![texts]).expect("columns fit");
    let mut bytes = write(snappy().as_ref(), &columns, &[batch]).expect("it is written").to_vec();
    assert!(read(snappy().as_ref(), &bytes.clone().into(), &[], LIMITS).is_ok());
    // What a dictionary says of itself begins with the number of its values: 2, of five octets each.
    let at = bytes.windows(3).position(|three| three == [0x4c, 0x15, 4]).expect("a dictionary");
    bytes[at + 2] = 6;
    let refused = fault(read(snappy().as_ref(), &bytes.into(), &[], LIMITS));
    assert_eq!(refused.code, "UserErrorFileFormat");
    assert!(refused.message.ends_with("a dictionary in it announces more values than it has room for."), "{refused}");
}

#[test]
fn a_changed_byte_in_a_fragment_changes_the_rows_or_is_refused() {
    let batch = many(50);
    let columns = columns_of(&batch);
    let mut encoder = snappy().encoder(&columns).and_then(|file| file.fragment()).expect("it starts");
    encoder.write(&batch).expect("it is written");
    let fragment = encoder.finish().expect("it ends");
    let expect = rows(&[batch]);
    let (mut found_by_rows, mut refused) = (0, 0);
    for at in (4..fragment.bytes.len() - 8).step_by(fragment.bytes.len() / 300) {
        let mut bytes = fragment.bytes.to_vec();
        bytes[at] ^= 0x10;
        match snappy().decode(&columns, &Fragment { rows: fragment.rows, bytes: bytes.into() }) {
            Ok(batches) if rows(&batches) == expect => {} // Statistics and other bytes that carry no row.
            Ok(_) => found_by_rows += 1,
            Err(error) => {
                assert_eq!(error.fault.code, "SystemErrorVerification");
                refused += 1;
            }
        }
    }
    assert!(found_by_rows > 0 && refused > 0, "{found_by_rows} and {refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Damaged files end in rows or in a fault, never in a panic.
    #[test]
    fn damage_is_survived(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let whole = write(snappy().as_ref(), &columns_of(&everything()), &[everything()]).expect("it is written");
        let mut bytes = whole.to_vec();
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Err(error) = read(snappy().as_ref(), &bytes.into(), &[], LIMITS) {
            let known = ["UserErrorFileFormat", "UserErrorNotSupported", "UserErrorValue", "UserErrorBudgetExceeded"];
            prop_assert!(known.contains(&error.fault.code.as_str()), "{}", error);
        }
    }
}
