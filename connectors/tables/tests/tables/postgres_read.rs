//! Reading PostgreSQL: every type, parts on one snapshot, limits. Needs a server (DMG_TEST_POSTGRES).

use crate::support::{LIMITS, World, code, query, read_all, rows, table, text};
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use dmg_ambient::TaskGroup;
use dmg_connector::BatchLimits;
use futures::StreamExt;

fn sum(batches: &[RecordBatch], column: usize) -> i64 {
    batches.iter().flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().iter().flatten()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_hold_every_row_once() {
    let Some(world) = World::new("parts").await else { return };
    world
        .run("CREATE TABLE t AS SELECT g::bigint AS id, repeat('x', 100) AS pad FROM generate_series(1, 100000) g")
        .await;
    for analyzed in [false, true] {
        if analyzed {
            world.run("ANALYZE t; DELETE FROM t WHERE id % 3 = 0").await;
        }
        let source = world.source(table("t"), 2, 10_000).await.expect("opens");
        assert!(source.parts().len() >= 8, "{} parts", source.parts().len());
        let estimate = source.rows_estimate().expect("an estimate");
        assert!((50_000..200_000).contains(&estimate), "{estimate}");
        let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
        assert_eq!(rows(&batches).to_string(), world.value("SELECT count(*) FROM t").await);
        assert_eq!(sum(&batches, 0).to_string(), world.value("SELECT sum(id) FROM t").await);
        assert!(source.traffic().bytes() > 5_000_000);
        source.finish().await.expect("ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_parts_see_one_snapshot() {
    let Some(world) = World::new("snapshot").await else { return };
    world.run("CREATE TABLE t AS SELECT g::bigint AS id, 1::bigint AS n FROM generate_series(1, 300000) g").await;
    let source = world.source(table("t"), 2, 50_000).await.expect("opens");
    let mut tasks = TaskGroup::new();
    let writer = world.another(&mut tasks).await;
    let mut seen = Vec::new();
    for part in source.parts() {
        writer
            .batch_execute("UPDATE t SET n = n + 1 WHERE id % 10 = 0; DELETE FROM t WHERE id % 7 = 0")
            .await
            .expect("writes");
        writer.batch_execute("INSERT INTO t SELECT 1, 1 FROM generate_series(1, 10000)").await.expect("writes");
        let mut stream = source.read(part, LIMITS).await.expect("reads");
        while let Some(batch) = stream.next().await {
            seen.push(batch.expect("a batch"));
        }
    }
    assert_eq!((rows(&seen), sum(&seen, 1)), (300_000, 300_000));
    let again = read_all(source.as_ref(), LIMITS).await.expect("reads again");
    assert_eq!((rows(&again), sum(&again, 0)), (300_000, sum(&seen, 0)), "the same part twice is the same rows");
    source.finish().await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_inheritance_views_and_queries() {
    let Some(world) = World::new("relations").await else { return };
    world
        .run(
            "CREATE TABLE p (id bigint, at date) PARTITION BY RANGE (id); \
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000); \
             CREATE TABLE p2 (at date, gone int, id bigint); ALTER TABLE p2 DROP COLUMN gone; \
             ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (1000) TO (9000); \
             INSERT INTO p SELECT g, '2024-01-01' FROM generate_series(1, 5000) g; \
             CREATE TABLE empty (id bigint) PARTITION BY RANGE (id); \
             CREATE TABLE base (id bigint); CREATE TABLE child () INHERITS (base); \
             INSERT INTO base VALUES (1); INSERT INTO child VALUES (2); \
             CREATE VIEW v AS SELECT id FROM p WHERE id <= 10; \
             CREATE MATERIALIZED VIEW m AS SELECT id FROM p; \
             CREATE TABLE \"Odd \"\"Name\" (\"a \"\"b\" bigint, \"select\" bigint); \
             INSERT INTO \"Odd \"\"Name\" VALUES (7, 8)",
        )
        .await;
    for (object, expected) in [
        (table("p"), 5000),
        (table("empty"), 0),
        (table("base"), 2),
        (table("v"), 10),
        (table("m"), 5000),
        (table("Odd \"Name"), 1),
        (query("SELECT id FROM p WHERE id > 4000 -- the last thousand\n;"), 1000),
        (query("WITH x AS (SELECT 1::bigint AS one) SELECT one FROM x ; "), 1),
    ] {
        let source = world.source(object.clone(), 2, 1000).await.expect("opens");
        let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
        assert_eq!(rows(&batches), expected, "{object:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extremes_of_dates_and_decimals() {
    let Some(world) = World::new("extremes").await else { return };
    let sql = "SELECT 'infinity'::date d1, '-infinity'::date d2, '0001-01-01'::date d3, '4713-01-01 BC'::date d4, \
               '5874897-12-31'::date d5, 'infinity'::timestamp t1, '-infinity'::timestamptz t2, \
               '9999-12-31 23:59:59.999999'::timestamp t3, 'NaN'::numeric n1, '-Infinity'::numeric n2, \
               1.50::numeric n3, '24:00'::time x";
    let source = world.source(query(sql), 1, 1000).await.expect("opens");
    let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
    let batch = &batches[0];
    let day = |index: usize| batch.column(index).as_primitive::<Date32Type>().value(0);
    assert_eq!((day(0), day(1), day(2), day(3)), (i32::MAX, i32::MIN, -719_162, -2_440_550));
    assert_eq!(day(4), 2_145_042_905);
    let moment = |index: usize| batch.column(index).as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!((moment(5), moment(6), moment(7)), (i64::MAX, i64::MIN, 253_402_300_799_999_999));
    let decimal = |index: usize| batch.column(index).as_string::<i32>().value(0).to_owned();
    assert_eq!((decimal(8).as_str(), decimal(9).as_str(), decimal(10).as_str()), ("NaN", "-Infinity", "1.50"));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_do_not_fit_are_named() {
    let Some(world) = World::new("refused").await else { return };
    world
        .run(
            "CREATE TABLE n (id bigint, amount numeric(10,2)); \
             INSERT INTO n SELECT g, 1 FROM generate_series(1, 41) g; INSERT INTO n VALUES (42, 'NaN'); \
             CREATE TABLE big (id bigint, doc text); INSERT INTO big VALUES (1, repeat('a', 3000000))",
        )
        .await;
    let source = world.source(table("n"), 1, 1000).await.expect("opens");
    assert_eq!(
        text(read_all(source.as_ref(), LIMITS).await),
        "UserErrorValue: Column \"amount\" (numeric(10,2)) holds NaN or an infinity, which decimal(10,2) cannot hold, \
         in row 42 of public.n. Read the column as text, by a query with \"amount\"::numeric, or correct the value."
    );
    let source = world.source(query("SELECT id, amount::numeric FROM n"), 1, 1000).await.expect("opens");
    assert_eq!(rows(&read_all(source.as_ref(), LIMITS).await.expect("the way out works")), 42);

    let source = world.source(query("SELECT '294270-01-01'::timestamp AS t"), 1, 1000).await.expect("opens");
    assert_eq!(code(read_all(source.as_ref(), LIMITS).await), "UserErrorValue");

    let source = world.source(table("big"), 1, 1000).await.expect("opens");
    for value_bytes in [10_000, 2_000_000, 2_999_999] {
        let failure = text(read_all(source.as_ref(), BatchLimits { value_bytes, ..LIMITS }).await);
        assert!(failure.starts_with("UserErrorBudgetExceeded: Column \"doc\""), "{failure}");
        assert!(failure.contains("row 1"), "{failure}");
    }
    let limits = BatchLimits { value_bytes: 3_000_000, ..LIMITS };
    assert_eq!(rows(&read_all(source.as_ref(), limits).await.expect("fits exactly")), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nulls_do_not_shift_values() {
    let Some(world) = World::new("nulls").await else { return };
    world
        .run(
            "CREATE TABLE t AS SELECT CASE WHEN g % 3 = 0 THEN NULL ELSE g END::bigint AS a, \
             CASE WHEN g % 2 = 0 THEN NULL ELSE 'v' || g END AS b, g % 5 = 0 AS c FROM generate_series(1, 5000) g",
        )
        .await;
    let source = world.source(table("t"), 1, 100_000).await.expect("opens");
    let batches = read_all(source.as_ref(), BatchLimits { rows: 77, ..LIMITS }).await.expect("reads");
    let mut g = 0;
    for batch in &batches {
        let (a, b, c) = (
            batch.column(0).as_primitive::<Int64Type>(),
            batch.column(1).as_string::<i32>(),
            batch.column(2).as_boolean(),
        );
        for row in 0..batch.num_rows() {
            g += 1;
            assert_eq!(a.is_valid(row).then(|| a.value(row)), (g % 3 != 0).then_some(g));
            assert_eq!(b.is_valid(row).then(|| b.value(row).to_owned()), (g % 2 != 0).then(|| format!("v{g}")));
            assert_eq!(c.value(row), g % 5 == 0);
        }
    }
    assert_eq!(g, 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_ends_the_servers_work() {
    let Some(world) = World::new("dropped").await else { return };
    let sql = "SELECT generate_series(1, 100000000) AS g, repeat('x', 1000) AS pad";
    let source = world.source(query(sql), 1, 1000).await.expect("opens");
    let mut stream = source.read(&source.parts()[0], LIMITS).await.expect("reads");
    stream.next().await.expect("a batch").expect("sound");
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE 'COPY%' AND state = 'active'",
        world.database
    );
    assert_eq!(world.value(&running).await, "1");
    drop(stream);
    let ambient = dmg_ambient::Ambient::real();
    let deadline = ambient.uptime() + std::time::Duration::from_secs(20);
    while world.value(&running).await != "0" {
        assert!(ambient.uptime() < deadline, "the server still runs the query");
        ambient.sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_one_statement() {
    let Some(world) = World::new("injection").await else { return };
    world.run("CREATE TABLE canary (id int)").await;
    for sql in [
        "SELECT 1) AS q; DROP TABLE canary; --",
        "SELECT 1; DROP TABLE canary",
        "DROP TABLE canary",
        "DELETE FROM canary RETURNING id",
    ] {
        assert_eq!(code(world.source(query(sql), 1, 1000).await), "UserErrorSettings", "{sql}");
    }
    assert_eq!(world.value("SELECT count(*) FROM canary").await, "0");
    assert_eq!(code(world.source(query("SELECT 1 AS a, 2 AS a"), 1, 1000).await), "UserErrorSchemaMismatch");
}
