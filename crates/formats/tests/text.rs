//! Delimited text: golden bytes, round trips, refusals, hostile input, and what Python's own reader makes of it.

mod support;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use bytes::Bytes;
use dmg_connector::{BatchLimits, Format, RangeReader, Reject, Rejects};
use dmg_protocol::Kind;
use dmg_protocol::job::{DeclaredColumn, FormatSpec, TextFormat};
use futures::TryStreamExt;
use proptest::prelude::*;
use std::sync::Arc;
use support::*;

fn open(settings: TextFormat) -> Arc<dyn Format> {
    dmg_formats::open(&FormatSpec::Text(settings)).expect("the settings are good")
}

fn texts(columns: &[Vec<Option<&str>>]) -> RecordBatch {
    let named: Vec<_> = (0..columns.len()).map(|index| column(&format!("c{index}"), Kind::Text)).collect();
    let arrays = columns.iter().map(|values| Arc::new(StringArray::from(values.clone())) as ArrayRef).collect();
    RecordBatch::try_new(dmg_connector::schema(&named), arrays).expect("columns fit")
}

fn golden(settings: TextFormat, batch: &RecordBatch, expect: &str) {
    let bytes = write(open(settings).as_ref(), &columns_of(batch), std::slice::from_ref(batch)).expect("it is written");
    assert_eq!(String::from_utf8(bytes.to_vec()).expect("UTF-8"), expect);
}

#[test]
fn golden_bytes() {
    let batch = texts(&[vec![Some("a"), None, Some("")], vec![Some("x\"y"), Some("NULL"), Some("1,2\n")]]);
    golden(TextFormat::lossless(), &batch, "\"c0\",\"c1\"\n\"a\",\"x\"\"y\"\n,\"NULL\"\n\"\",\"1,2\n\"\n");
    let quoted = TextFormat { quote_char: Some('"'), ..TextFormat::default() };
    golden(quoted, &batch, "a,\"x\"\"y\"\r\n\\N,\"NULL\"\r\n\"\",\"1,2\n\"\r\n");
    let backslash = TextFormat { escape_char: Some('\\'), ..TextFormat::default() };
    let batch = texts(&[vec![Some("a"), None], vec![Some("\\N"), Some("1,2\n")]]);
    golden(backslash.clone(), &batch, "a,\\\\N\r\n\\N,1\\,2\\\n\r\n");
    golden(TextFormat { quote_char: Some('"'), ..backslash }, &batch, "a,\"\\\\N\"\r\n\\N,\"1,2\n\"\r\n");
    let many = TextFormat { column_delimiter: "||".into(), row_delimiter: Some("#\n".into()), ..TextFormat::default() };
    golden(many, &texts(&[vec![Some("a|b")], vec![Some("c#")]]), "a|b||c##\n");
}

#[test]
fn every_kind_comes_back_from_the_lossless_profile() {
    let distinct = distinct();
    let bytes = write(open(TextFormat::lossless()).as_ref(), &columns_of(&distinct), std::slice::from_ref(&distinct));
    let kinds = declared(&columns_of(&distinct));
    let found = read(open(TextFormat::lossless()).as_ref(), &bytes.expect("it is written"), &kinds, LIMITS);
    assert_same(&[distinct], &found.expect("it is read").1);
    let batch = everything();
    let columns = columns_of(&batch);
    let format = open(TextFormat::lossless());
    for column in &columns {
        assert_eq!(format.hold(column).verdict, dmg_protocol::Verdict::Exact, "{}", column.name);
    }
    let bytes = write(format.as_ref(), &columns, &[batch.clone(), batch.clone()]).expect("it is written");
    let (shape, found) = read(format.as_ref(), &bytes, &declared(&columns), LIMITS).expect("it is read");
    assert_eq!(
        shape.columns.iter().map(|column| column.kind).collect::<Vec<_>>(),
        columns.iter().map(|c| c.kind).collect::<Vec<_>>()
    );
    assert_same(&[batch.clone(), batch], &found);
}

#[test]
fn every_kind_comes_back_with_a_backslash_escape() {
    let settings = TextFormat { escape_char: Some('\\'), empty_as_null: false, ..TextFormat::default() };
    let batch = everything();
    let columns = columns_of(&batch);
    let format = open(settings);
    let bytes = write(format.as_ref(), &columns, std::slice::from_ref(&batch)).expect("it is written");
    let (_, found) = read(format.as_ref(), &bytes, &declared(&columns), LIMITS).expect("it is read");
    assert_same(&[batch], &found);
}

#[test]
fn without_declared_kinds_all_is_text() {
    let format = open(TextFormat { quote_char: Some('"'), ..TextFormat::default() });
    let bytes = Bytes::from_static("\u{feff}1,\"a\"\"b\"\r\n\\N,\"\"\n\r\nNULL,x\ry,\"\\N\"".as_bytes());
    let (shape, found) = read(format.as_ref(), &bytes, &[], LIMITS).expect("it is read");
    assert_eq!(shape.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["Prop_0", "Prop_1"]);
    let some = |text: &str| Some(text.to_owned());
    let expect =
        vec![vec![some("1"), some("a\"b")], vec![None, some("")], vec![None, some("x")], vec![some("y"), some("\\N")]];
    assert_eq!(rows(&found), expect);
}

#[test]
fn lines_are_skipped_and_the_header_names() {
    let settings = TextFormat { first_row_as_header: true, skip_lines: 2, ..TextFormat::default() };
    let bytes = Bytes::from_static(b"a remark\r\nanother, longer\nid,,name\n1,2,x\n");
    let only_id = [DeclaredColumn { kind: Some(Kind::Int32), ..DeclaredColumn::named("id") }];
    let (shape, found) = read(open(settings.clone()).as_ref(), &bytes, &only_id, LIMITS).expect("it is read");
    let names: Vec<_> = shape.columns.iter().map(|column| (column.name.as_str(), column.kind)).collect();
    assert_eq!(names, [("id", Kind::Int32), ("Prop_1", Kind::Text), ("name", Kind::Text)]);
    assert_eq!(rows(&found).len(), 1);
    let missing = [DeclaredColumn::named("gone")];
    let refused = fault(read(open(settings).as_ref(), &bytes, &missing, LIMITS));
    assert_eq!(refused.code, "UserErrorColumnMissing");
}

#[test]
fn an_empty_file_with_declared_columns_has_no_rows() {
    let format = open(TextFormat::default());
    let one = [DeclaredColumn::named("a")];
    let (_, found) = read(format.as_ref(), &Bytes::new(), &one, LIMITS).expect("it is read");
    assert!(found.is_empty());
    let text = fault(read(format.as_ref(), &Bytes::new(), &[], LIMITS)).to_string();
    assert_eq!(
        text,
        "UserErrorFileFormat: The file test/file cannot be read: it is empty, and the dataset declares no columns. Check the file and the dataset's format settings."
    );
}

#[test]
fn what_would_not_read_back_is_refused() {
    let cases = [
        ("a,b", "a text with a delimiter in it, and the format has neither quotes nor an escape"),
        ("a\nb", "a text with a line break in it, and the format has neither quotes nor an escape"),
        ("", "empty, which the format reads as NULL"),
        ("\\N", "a text that the format reads as NULL"),
        ("NULL", "a text that the format reads as NULL"),
    ];
    for (value, why) in cases {
        let batch = texts(&[vec![Some("fine"), Some(value)]]);
        let refused = fault(write(open(TextFormat::default()).as_ref(), &columns_of(&batch), &[batch]));
        assert_eq!(refused.code, "UserErrorValue");
        assert_eq!(
            refused.message,
            format!("A value of column \"c0\" cannot be written as text: it is {why} (row 2 of its piece).")
        );
    }
    let no_marker = TextFormat { null_values: vec![], empty_as_null: false, ..TextFormat::default() };
    let batch = texts(&[vec![None]]);
    let refused = fault(write(open(no_marker).as_ref(), &columns_of(&batch), &[batch]));
    assert!(refused.message.contains("it is NULL, for which the format has no marker (row 1"), "{refused}");
    let escape = TextFormat { escape_char: Some('\\'), ..TextFormat::default() };
    let batch = texts(&[vec![Some("")]]);
    assert_eq!(fault(write(open(escape).as_ref(), &columns_of(&batch), &[batch])).code, "UserErrorValue");
}

#[test]
fn bad_settings_are_refused() {
    let refused = |settings: TextFormat| dmg_formats::open(&FormatSpec::Text(settings)).err().map(|fault| fault.code);
    let base = TextFormat::default;
    let settings = Some("UserErrorSettings".to_owned());
    assert_eq!(refused(TextFormat { encoding: "utf-16".into(), ..base() }), Some("UserErrorNotSupported".to_owned()));
    assert_eq!(refused(TextFormat { column_delimiter: String::new(), ..base() }), settings);
    assert_eq!(refused(TextFormat { column_delimiter: "\n".into(), ..base() }), settings);
    assert_eq!(refused(TextFormat { quote_char: Some(','), ..base() }), settings);
    assert_eq!(refused(TextFormat { null_values: vec!["a,b".into()], ..base() }), settings);
    assert_eq!(refused(TextFormat { quote_all: true, ..base() }), settings);
}

#[test]
fn hostile_files_are_refused_with_their_place() {
    let quoted = TextFormat { quote_char: Some('"'), ..TextFormat::default() };
    let cases: &[(&[u8], &str, &str)] = &[
        (b"a,b\n1,\"x", "UserErrorFileFormat", "row 2 is damaged: a quote is never closed"),
        (b"a,b\n1,\"x\"y\n", "UserErrorFileFormat", "row 2 is damaged: text follows a closing quote"),
        (b"a,b\n1\n", "UserErrorFileFormat", "row 2 has 1 columns instead of 2"),
        (b"a,b\n1,2,3\n", "UserErrorFileFormat", "row 2 has 3 columns instead of 2"),
        (b"a,b\n1,\xff\n", "UserErrorFileFormat", "it is no UTF-8 text at byte 6"),
        (b"a,b\n1,\xe2\x82", "UserErrorFileFormat", "it is no UTF-8 text at byte 6"),
    ];
    for (bytes, code, what) in cases {
        let refused = fault(read(open(quoted.clone()).as_ref(), &Bytes::from_static(bytes), &[], LIMITS));
        assert_eq!(refused.code, *code);
        assert_eq!(refused.message, format!("The file test/file cannot be read: {what}."));
    }
    let mut endless = b"a,\"".to_vec();
    endless.resize(9_000_000, b'x');
    let two = [DeclaredColumn::named("a"), DeclaredColumn::named("b")];
    let refused = fault(read(open(quoted).as_ref(), &endless.into(), &two, LIMITS));
    assert_eq!(refused.code, "UserErrorBudgetExceeded");
    assert_eq!(refused.message, "File test/file, row 1, column \"b\": the value has more than 1048576 bytes.");
}

#[test]
fn a_bad_value_names_row_column_and_class() {
    let two = [
        DeclaredColumn { kind: Some(Kind::Int32), ..DeclaredColumn::named("id") },
        DeclaredColumn { kind: Some(Kind::Date), ..DeclaredColumn::named("day") },
    ];
    let bytes = Bytes::from_static(b"1,2024-01-01\n2,2024-02-30\n");
    let refused = fault(read(open(TextFormat::default()).as_ref(), &bytes, &two, LIMITS));
    assert_eq!(refused.code, "UserErrorValue");
    assert_eq!(refused.message, "File test/file, row 2, column \"day\": the value is not a date.");
}

#[test]
fn a_changed_byte_in_a_fragment_is_found() {
    let batch = everything();
    let columns = columns_of(&batch);
    let format = open(TextFormat::lossless());
    let mut encoder = format.encoder(&columns).and_then(|file| file.fragment()).expect("it starts");
    encoder.write(&batch).expect("it is written");
    let fragment = encoder.finish().expect("it ends");
    for at in (0..fragment.bytes.len()).step_by(7) {
        let mut bytes = fragment.bytes.to_vec();
        bytes[at] ^= 1;
        let changed = dmg_connector::Fragment { rows: fragment.rows, bytes: bytes.into() };
        match format.decode(&columns, &changed) {
            Ok(found) => {
                let same = rows(std::slice::from_ref(&batch)) == rows(&found);
                // A blank between two JSON tokens and the like is a change of the value as well; only the case of
                // hexadecimal digits is not.
                assert!(!same || fragment.bytes[at].is_ascii_hexdigit(), "byte {at}");
            }
            Err(error) => assert_eq!(error.fault.code, "SystemErrorVerification"),
        }
    }
}

fn dialects() -> impl Strategy<Value = TextFormat> {
    let delimiter = prop::sample::select(vec![",", ";", "||", "\t", "|,|", "aa", "€"]);
    let row = prop::sample::select(vec![None, Some("\n"), Some("\r\n"), Some("|\n"), Some("##"), Some("\r")]);
    let quote = prop::sample::select(vec![None, Some('"'), Some('\'')]);
    let escape = prop::sample::select(vec![None, Some('\\'), Some('"'), Some('^')]);
    let nulls = prop::sample::select(vec![vec![], vec![""], vec!["\\N"], vec!["\\N", "NULL"], vec!["0"], vec!["N|"]]);
    (delimiter, row, quote, escape, nulls, any::<(bool, bool, bool)>()).prop_map(
        |(delimiter, row, quote, escape, nulls, (header, empty_as_null, quote_all))| TextFormat {
            column_delimiter: delimiter.into(),
            row_delimiter: row.map(str::to_owned),
            quote_char: quote,
            escape_char: escape,
            null_values: nulls.into_iter().map(str::to_owned).collect(),
            first_row_as_header: header,
            empty_as_null,
            quote_all: quote_all && quote.is_some(),
            ..TextFormat::default()
        },
    )
}

fn nasty() -> impl Strategy<Value = Option<String>> {
    let piece = prop::sample::select(vec![
        "a", "b", "|", ",", ";", "\t", "\"", "'", "\\", "N", "NULL", "\r", "\n", "#", "^", "€", "0", "\u{feff}", "😀",
        "",
    ]);
    prop::option::of(prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever is written reads back; what would not is refused.
    #[test]
    fn written_is_read(
        settings in dialects(),
        cells in prop::collection::vec((nasty(), nasty()), 0..5),
        single in any::<bool>(),
    ) {
        let Ok(format) = dmg_formats::open(&FormatSpec::Text(settings.clone())) else { return Ok(()) };
        let first = cells.iter().map(|(cell, _)| cell.as_deref()).collect();
        let second = cells.iter().map(|(_, cell)| cell.as_deref()).collect();
        let batch = if single { texts(&[first]) } else { texts(&[first, second]) };
        let columns = columns_of(&batch);
        let bytes = match write(format.as_ref(), &columns, std::slice::from_ref(&batch)) {
            Ok(bytes) => bytes,
            Err(error) => {
                prop_assert_eq!(error.fault.code.as_str(), "UserErrorValue", "{}", error);
                return Ok(());
            }
        };
        let found = read(format.as_ref(), &bytes, &declared(&columns), LIMITS);
        let found = found.map_err(|error| TestCaseError::fail(format!("{error} in {bytes:?}")))?.1;
        prop_assert_eq!(rows(&[batch]), rows(&found), "{:?}", bytes);
    }

    /// Garbage ends in rows or in a fault, never in a panic.
    #[test]
    fn garbage_is_survived(settings in dialects(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let Ok(format) = dmg_formats::open(&FormatSpec::Text(settings)) else { return Ok(()) };
        let limits = BatchLimits { rows: 3, ..LIMITS };
        if let Err(error) = read(format.as_ref(), &bytes.into(), &[], limits) {
            prop_assert_eq!(error.fault.code.as_str(), "UserErrorFileFormat");
        }
    }
}

/// Rows of a text, and the rows left out, when that is allowed.
fn tolerant(text: &str, columns: &[(&str, Kind)], limits: BatchLimits) -> (Vec<RecordBatch>, Vec<Reject>) {
    let settings = TextFormat { first_row_as_header: true, ..TextFormat::lossless() };
    let format = dmg_formats::open(&FormatSpec::Text(settings)).expect("good settings");
    let declared: Vec<_> = columns
        .iter()
        .map(|(name, kind)| DeclaredColumn { kind: Some(*kind), ..DeclaredColumn::named(*name) })
        .collect();
    run(async {
        let file: Arc<dyn RangeReader> = Arc::new(Memory(text.to_owned().into()));
        let shape = format.inspect(file.clone(), &declared).await.expect("it has a header");
        let rejects = Arc::new(Rejects::default());
        let stream = format.read_tolerant(file, &shape, &shape.parts[0], limits, rejects.clone()).await.expect("opens");
        let batches: Vec<RecordBatch> = stream.try_collect().await.expect("all that does not fit is left out");
        (batches, rejects.take())
    })
}

#[test]
fn rows_that_do_not_fit_are_left_out_with_their_numbers() {
    let text = "a,b\n1,x\nseven,y\n\n3,z\n4\n5,u,v\n\"6\",\n,w\n";
    let (batches, rejects) = tolerant(text, &[("a", Kind::Int32), ("b", Kind::Text)], LIMITS);
    assert_eq!(batches.len(), 1);
    let kept: Vec<_> = batches[0].column(0).as_primitive::<Int32Type>().iter().collect();
    assert_eq!(kept, [Some(1), Some(3), Some(6), None]);
    let kept: Vec<_> = batches[0].column(1).as_string::<i32>().iter().collect();
    assert_eq!(kept, [Some("x"), Some("z"), None, Some("w")]);
    let value = |text: &str| Some(text.to_owned());
    let expect = [
        (2, "a", "UserErrorValue", "The value is not a whole number.", vec![value("seven"), value("y")]),
        (4, "", "UserErrorFileFormat", "The row has 1 columns instead of 2.", vec![value("4")]),
        (5, "", "UserErrorFileFormat", "The row has 3 columns instead of 2.", vec![value("5"), value("u"), value("v")]),
    ];
    let expect = expect.map(|(row, column, code, reason, values)| Reject {
        row,
        column: column.to_owned(),
        code,
        reason: reason.to_owned(),
        values,
    });
    assert_eq!(rejects, expect);
}

#[test]
fn a_file_of_bad_rows_is_not_held_in_memory() {
    let text = format!("a\n{}", "x\n".repeat(1000));
    let (batches, rejects) = tolerant(&text, &[("a", Kind::Int32)], BatchLimits { rows: 100, ..LIMITS });
    assert_eq!((batches.len(), rejects.len()), (10, 1000), "an empty batch after each hundred rows");
    assert!(batches.iter().all(|batch| batch.num_rows() == 0));
    assert_eq!(rejects[999].row, 1000);
}
