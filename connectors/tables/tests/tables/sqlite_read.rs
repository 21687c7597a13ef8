//! Reading SQLite: tables, queries, and values that are not what their column says.

use crate::support::{LIMITS, code, query, read_all, rows, table, text};
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use dmg_ambient::Ambient;
use dmg_connector::{Result, Session, Source};
use dmg_protocol::Secrets;
use dmg_protocol::job::StoreObject;
use serde_json::json;

fn database(script: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data.db");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    connection.execute_batch(script).expect("the script");
    (folder, path)
}

async fn open(path: &std::path::Path, object: StoreObject) -> Result<Box<dyn Source>> {
    let settings = json!({"path": path}).as_object().expect("an object").clone();
    let session = Session::new(Ambient::real(), "dmg/test");
    let store = dmg_tables::store("sqlite").expect("listed");
    store.open(&settings, &Secrets::none(), session).await?.source(&object, 2, 1000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_by_its_declared_types() {
    let (_folder, path) = database(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name VARCHAR(20), price DECIMAL(10,2), weight REAL, raw BLOB, ok BOOLEAN, \
         at DATETIME); \
         INSERT INTO t VALUES (1, 'a', 1.5, 2, x'00ff', 1, '2024-01-01 00:00:00'), (2, NULL, NULL, NULL, NULL, NULL, NULL), \
         (9223372036854775807, 'é', 12, 0.1, x'', 0, '')",
    );
    let source = open(&path, table("t")).await.expect("opens");
    let kinds: Vec<_> = source.columns().iter().map(|column| column.kind.to_string()).collect();
    assert_eq!(kinds, ["int64", "text", "decimal", "float64", "bytes", "boolean", "text"]);
    let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
    let batch = &batches[0];
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1, 2, i64::MAX]);
    let prices = batch.column(2).as_string::<i32>();
    assert_eq!((prices.value(0), prices.is_null(1), prices.value(2)), ("1.5", true, "12"));
    assert_eq!(batch.column(3).as_primitive::<Float64Type>().value(0).to_string(), "2");
    source.finish().await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_take_kinds_from_values() {
    let (_folder, path) = database(
        "PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO t SELECT i FROM n",
    );
    let source = open(&path, query("SELECT count(*) AS n, avg(id) AS a, 'x' AS t, NULL AS missing FROM t;"))
        .await
        .expect("opens");
    let kinds: Vec<_> = source.columns().iter().map(|column| column.kind.to_string()).collect();
    assert_eq!(kinds, ["int64", "float64", "text", "text"]);
    let source = open(&path, table("t")).await.expect("opens");
    let writer = rusqlite::Connection::open(&path).expect("opens");
    writer.execute("INSERT INTO t VALUES (0)", []).expect("a writer does not wait for readers");
    let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
    assert_eq!((rows(&batches), batches.len()), (5000, 5));
    assert_eq!(rows(&read_all(source.as_ref(), LIMITS).await.expect("again")), 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused() {
    let (folder, path) =
        database("CREATE TABLE t (id INTEGER, name TEXT); INSERT INTO t VALUES (1, 'a'), ('secret-value', 'b')");
    let source = open(&path, table("t")).await.expect("opens");
    assert_eq!(
        text(read_all(source.as_ref(), LIMITS).await),
        "UserErrorValue: Column \"id\" (INTEGER) holds text, in row 2 of table t. Read it by a query with \
         CAST(\"id\" AS TEXT), or correct the value."
    );
    let source = open(&path, query("SELECT CAST(id AS TEXT) AS id FROM t")).await.expect("opens");
    assert_eq!(rows(&read_all(source.as_ref(), LIMITS).await.expect("the way out works")), 2);
    for (object, expected) in [
        (table("absent"), "UserErrorTableMissing"),
        (query("SELECT absent FROM t"), "UserErrorColumnMissing"),
        (query("SELEC 1"), "UserErrorSettings"),
        (query("DELETE FROM t"), "UserErrorSettings"),
        (query("SELECT 1; DROP TABLE t"), "UserErrorSettings"),
    ] {
        assert_eq!(code(open(&path, object.clone()).await), expected, "{object:?}");
    }
    assert_eq!(code(open(&folder.path().join("absent.db"), table("t")).await), "UserErrorContainerMissing");
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, [b'x'; 4096]).expect("writes");
    assert_eq!(code(open(&garbage, table("t")).await), "StoreErrorAnswer");
}
