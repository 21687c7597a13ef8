//! Writing SQLite: every kind as Python's sqlite3 sees it, the commit shapes, and rows SQLite would change or refuse.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray, RecordBatch,
    StringArray,
};
use dmg_ambient::Ambient;
use dmg_connector::{Column, Error, MarkContent, MarkState, Result, Session, Sink, SinkRequest, schema};
use dmg_protocol::job::Slice;
use dmg_protocol::{ColumnPlan, Secrets, WriteMode};
use serde_json::{Value, json};

use crate::support::request;

const RUN: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const OTHER: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl File {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = File { path: folder.path().join("data.db"), _folder: folder };
        file.run(script);
        file
    }

    fn run(&self, script: &str) {
        let connection = rusqlite::Connection::open(&self.path).expect("a database");
        connection.execute_batch(script).expect(script);
    }

    /// What Python's own SQLite answers.
    fn judge(&self, query: &str) -> Value {
        let script = "import sqlite3, json, sys\n\
            show = lambda v: {'hex': v.hex()} if isinstance(v, bytes) else {'real': repr(v)} if isinstance(v, float) else v\n\
            rows = sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()\n\
            print(json.dumps([[show(v) for v in row] for row in rows]))";
        let python = dmg_ambient::environment("DMG_TEST_PYTHON").unwrap_or_else(|| "python3".to_owned());
        let output =
            Command::new(python).arg("-c").arg(script).arg(&self.path).arg(query).output().expect("Python starts");
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    async fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        sink(&self.path, request).await
    }
}

async fn sink(path: &Path, request: SinkRequest) -> Result<Box<dyn Sink>> {
    let settings = json!({"path": path}).as_object().expect("an object").clone();
    let session = Session::new(Ambient::real(), request.attempt.session_name());
    let store = dmg_tables::store("sqlite").expect("listed");
    store.open(&settings, &Secrets::none(), session).await?.sink(request).await
}

fn column(name: &str, kind: &str) -> Column {
    let kind = kind.parse().expect("a kind");
    Column { name: name.into(), kind, type_name: "source".into(), nullable: true, key: false }
}

/// Plans and stages; the arrays must have the kinds the sink holds.
async fn stage(sink: &mut dyn Sink, columns: &[Column], arrays: Vec<ArrayRef>) -> Result<MarkContent> {
    assert_eq!(sink.mark().await?, MarkState::None);
    let target = sink.columns().await?;
    let plans: Vec<ColumnPlan> = columns
        .iter()
        .map(|column| {
            let held = sink.hold(column, target.iter().flatten().find(|found| found.name == column.name));
            ColumnPlan {
                source: column.name.clone(),
                sink: column.name.clone(),
                kind: held.kind,
                source_type: column.type_name.clone(),
                sink_type: held.type_name,
                key: column.key,
                required: !column.nullable,
                verdict: held.verdict,
                reason: held.reason,
            }
        })
        .collect();
    sink.plan(&plans).await?;
    sink.begin().await?;
    let held: Vec<Column> = plans.iter().map(|plan| Column { kind: plan.kind, ..column(&plan.sink, "text") }).collect();
    let batch = RecordBatch::try_new(schema(&held), arrays).expect("the planned columns");
    let rows = batch.num_rows() as u64;
    let mut writer = sink.part(0).await?;
    writer.write(batch).await?;
    assert_eq!(writer.finish().await?.rows, rows);
    Ok(MarkContent { rows, digest: "00".into() })
}

fn numbers(values: &[i64]) -> ArrayRef {
    Arc::new(PrimitiveArray::<Int64Type>::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn id_and_name() -> [Column; 2] {
    [column("id", "int64"), column("name", "text")]
}

fn fault(error: Error) -> String {
    error.fault.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_in_a_new_file_as_python_reads_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = File { path: folder.path().join("new.db"), _folder: folder };
    let create = SinkRequest { create_table: true, ..request(RUN, 1, "made", WriteMode::Append) };
    let mut sink = file.sink(create).await.expect("opens");
    let columns = [
        Column { nullable: false, key: true, ..column("id", "int64") },
        column("flag", "boolean"),
        column("ratio", "float64"),
        column("price", "decimal(20,2)"),
        column("huge", "decimal"),
        column("name", "text"),
        column("raw", "bytes"),
        column("day", "date"),
    ];
    let decimals = Decimal128Array::from(vec![Some(-1), Some(99_999_999_999_999_999_999)]);
    let arrays: Vec<ArrayRef> = vec![
        numbers(&[i64::MIN, i64::MAX]),
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Float64Array::from(vec![f64::INFINITY, 9_007_199_254_740_993.0])),
        Arc::new(decimals.with_precision_and_scale(20, 2).expect("fits")),
        texts(&["0.10", "12345678901234567890123456789012345678901234567890"]),
        texts(&["é\0🎉", "1.50"]),
        Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), None])),
        texts(&["2024-02-29", "infinity"]),
    ];
    let content = stage(sink.as_mut(), &columns, arrays).await.expect("stages");
    assert_eq!(file.judge("SELECT count(*) FROM sqlite_schema WHERE name = 'made'"), json!([[0]]));
    let committed = sink.commit(&content).await.expect("commits");
    assert_eq!(committed.rows, 2);
    assert_eq!(
        file.judge("SELECT * FROM made ORDER BY id"),
        json!([
            [i64::MIN, 1, {"real": "inf"}, "-0.01", "0.10", "é\0🎉", {"hex": "00ff"}, "2024-02-29"],
            [i64::MAX, null, {"real": "9007199254740992.0"}, "999999999999999999.99",
             "12345678901234567890123456789012345678901234567890", "1.50", null, "infinity"],
        ])
    );
    let types = file.judge("SELECT name || ' ' || type || ' ' || \"notnull\" || pk FROM pragma_table_info('made')");
    assert_eq!(types[0], json!(["id INTEGER 11"]));
    assert_eq!(types[3], json!(["price DECIMAL_TEXT(20,2) 00"]));
    assert_eq!(file.judge("SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_dmg%' ESCAPE '\\'"), json!([[0]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_swaps_and_keeps_what_the_table_was() {
    let file = File::new(
        "CREATE TABLE [odd \"t\"] (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x', twice AS (id * 2), CHECK (id > 0)); \
         CREATE INDEX by_name ON \"odd \"\"t\"\"\" (name); INSERT INTO \"odd \"\"t\"\"\" VALUES (1, 'old')",
    );
    let mut sink = file.sink(request(RUN, 1, "odd \"t\"", WriteMode::Overwrite)).await.expect("opens");
    let content =
        stage(sink.as_mut(), &id_and_name(), vec![numbers(&[7, 8]), texts(&["a", "b"])]).await.expect("stages");
    assert_eq!(file.judge("SELECT name FROM \"odd \"\"t\"\"\""), json!([["old"]]), "nothing before the commit");
    let committed = sink.commit(&content).await.expect("commits");
    assert_eq!(sink.commit(&content).await.expect("again"), committed);
    assert_eq!(file.judge("SELECT id, name, twice FROM \"odd \"\"t\"\"\""), json!([[7, "a", 14], [8, "b", 16]]));
    assert_eq!(file.judge("SELECT tbl_name FROM sqlite_schema WHERE name = 'by_name'"), json!([["odd \"t\""]]));
    assert_eq!(file.judge("PRAGMA integrity_check"), json!([["ok"]]));
    // The successor of this run finds the mark.
    let later = file.sink(request(RUN, 2, "odd \"t\"", WriteMode::Overwrite)).await.expect("opens");
    assert_eq!(later.mark().await.expect("reads"), MarkState::Committed(committed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_a_table_keeps_it_from_being_swapped() {
    for (dependent, word) in [
        ("CREATE VIEW v AS SELECT name FROM t", "view"),
        ("CREATE TABLE child (t INTEGER REFERENCES t(id))", "foreign"),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END", "trigger"),
    ] {
        let file = File::new(&format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'old'); {dependent}"
        ));
        let mut sink = file.sink(request(RUN, 1, "t", WriteMode::Overwrite)).await.expect("opens");
        let content =
            stage(sink.as_mut(), &id_and_name(), vec![numbers(&[1, 2]), texts(&["a", "b"])]).await.expect("stages");
        sink.commit(&content).await.expect("commits");
        assert_eq!(file.judge("SELECT * FROM t"), json!([[1, "a"], [2, "b"]]), "{word}");
        let dependents = file.judge("SELECT count(*) FROM sqlite_schema WHERE name IN ('v', 'child', 'g')");
        assert_eq!(dependents, json!([[1]]), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upsert_slice_and_new_columns() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER, day TEXT, name TEXT, kept TEXT DEFAULT 'd', PRIMARY KEY (id, day)); \
         INSERT INTO t VALUES (1, 'mon', 'old', 'mine'), (2, 'mon', 'old', 'mine')",
    );
    let keyed = [column("id", "int64"), column("day", "text"), column("name", "text")];
    let arrays = || vec![numbers(&[1, 1]), texts(&["mon", "tue"]), texts(&["new", "new"])];
    let mut sink = file.sink(request(RUN, 1, "t", WriteMode::Upsert)).await.expect("opens");
    let content = stage(sink.as_mut(), &keyed, arrays()).await.expect("stages");
    sink.commit(&content).await.expect("commits");
    let expected = json!([[1, "mon", "new", "mine"], [1, "tue", "new", "d"], [2, "mon", "old", "mine"]]);
    assert_eq!(file.judge("SELECT * FROM t ORDER BY id, day"), expected);

    // A column the table lacks is added by the commit.
    file.run("CREATE TABLE s (id INTEGER, name TEXT, slice TEXT)");
    let slice = Slice { column: "slice".into(), value: "ab".repeat(32) };
    let wanted = SinkRequest { slice: Some(slice), add_columns: true, ..request(OTHER, 1, "s", WriteMode::Slice) };
    let columns = [column("id", "int64"), column("name", "text"), column("more", "decimal(9,1)")];
    let decimals: ArrayRef = Arc::new(Decimal128Array::from(vec![15]).with_precision_and_scale(9, 1).expect("fits"));
    let mut sink = file.sink(wanted).await.expect("opens");
    let content = stage(sink.as_mut(), &columns, vec![numbers(&[1]), texts(&["a"]), decimals]).await.expect("stages");
    sink.commit(&content).await.expect("commits");
    assert_eq!(file.judge("SELECT id, name, more, slice FROM s"), json!([[1, "a", "1.5", "ab".repeat(32)]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_sqlite_would_change_or_refuse_are_named() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE ON CONFLICT REPLACE, ratio REAL, at DATE, n INTEGER CHECK (n < 10))",
    );
    let all: [(Column, ArrayRef, &str); 6] = [
        (column("ratio", "float64"), Arc::new(Float64Array::from(vec![0.0, f64::NAN])), "holds NaN in row 2"),
        (column("ratio", "float64"), Arc::new(Float64Array::from(vec![-0.0, 1.0])), "holds negative zero in row 1"),
        (column("at", "text"), texts(&["2024-01-01", "2024"]), "text that looks like a number in row 2"),
        (column("id", "int64"), Arc::new(Int64Array::from(vec![Some(1), None])), "holds NULL in row 2"),
        (column("name", "text"), texts(&["same", "same"]), "UserErrorDuplicateKey"),
        (column("n", "int64"), numbers(&[1, 10]), "UserErrorValue"),
    ];
    for (number, (column, array, expected)) in all.into_iter().enumerate() {
        let run = format!("{number:08x}-d9cb-469f-a165-70867728950e");
        let mut sink = file.sink(request(&run, 1, "t", WriteMode::Append)).await.expect("opens");
        let refused = match stage(sink.as_mut(), &[column], vec![array]).await {
            Ok(content) => sink.commit(&content).await.map(drop),
            Err(error) => Err(error),
        };
        let words = fault(refused.expect_err(expected));
        assert!(words.contains(expected), "{words}");
        assert!(!words.contains("_dmg_"), "{words}");
        sink.abort().await.expect("aborts");
    }
    assert_eq!(file.judge("SELECT count(*) FROM t"), json!([[0]]));
    assert_eq!(file.judge("SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_dmg%' ESCAPE '\\'"), json!([[0]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn others_come_between() {
    let file = File::new(
        "CREATE TABLE t (id INTEGER, name TEXT); CREATE TABLE goods (id INTEGER, name TEXT); CREATE TABLE log (n INTEGER)",
    );
    let rows = || vec![numbers(&[1]), texts(&["a"])];
    // Somebody alters the table between plan and commit.
    let mut sink = file.sink(request(RUN, 1, "t", WriteMode::Append)).await.expect("opens");
    let content = stage(sink.as_mut(), &id_and_name(), rows()).await.expect("stages");
    file.run("ALTER TABLE t ADD COLUMN more TEXT");
    assert!(fault(sink.commit(&content).await.expect_err("altered")).contains("StoreErrorCommitRefused"));
    sink.abort().await.expect("aborts");
    // A trigger that came meanwhile would go with a table that is replaced.
    let mut sink = file.sink(request(OTHER, 1, "goods", WriteMode::Overwrite)).await.expect("opens");
    let content = stage(sink.as_mut(), &id_and_name(), rows()).await.expect("stages");
    file.run("CREATE TRIGGER added AFTER INSERT ON goods BEGIN INSERT INTO log VALUES (new.id); END");
    assert!(fault(sink.commit(&content).await.expect_err("altered")).contains("StoreErrorCommitRefused"));
    sink.abort().await.expect("aborts");
    // A script that ends the transaction is refused, and nothing of it stays.
    let script = Some("INSERT INTO log VALUES (1); COMMIT; BEGIN".to_owned());
    let mut sink = file
        .sink(SinkRequest { pre_copy_script: script, ..request(OTHER, 1, "t", WriteMode::Append) })
        .await
        .expect("opens");
    let content = stage(sink.as_mut(), &id_and_name(), rows()).await.expect("stages");
    assert!(fault(sink.commit(&content).await.expect_err("a script")).contains("UserErrorSettings"));
    sink.abort().await.expect("aborts");
    // Somebody holds the file.
    let holder = rusqlite::Connection::open(&file.path).expect("opens");
    holder.execute_batch("BEGIN IMMEDIATE").expect("holds");
    let sink = file.sink(request(RUN, 2, "t", WriteMode::Append)).await.expect("opens");
    assert!(fault(sink.begin().await.expect_err("held")).contains("StoreErrorConflict"));
    holder.execute_batch("ROLLBACK").expect("lets go");
    // A shape and a mode SQLite does not have.
    assert!(file.sink(request(RUN, 3, "t", WriteMode::Procedure)).await.is_err());
    assert_eq!(file.judge("SELECT count(*) FROM t"), json!([[0]]));
}
