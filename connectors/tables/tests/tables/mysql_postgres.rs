//! MariaDB to PostgreSQL and back: each side's own client says what is there, in the same words. Needs both servers.

use dmg_connector::SinkRequest;
use dmg_protocol::WriteMode;

use crate::mysql_support::MariaDb;
use crate::support::{World, copy, request, table};

const VALUES: &str = "(1, true, -32768, -2147483648, -9223372036854775808, 0.1, 0.1, -0.01, '', '\\x', '0001-01-01', '0001-01-01 00:00:00', \
     '0001-01-01 00:00:00+00', '00:00:00', '00000000-0000-0000-0000-000000000000', '{\"a\" :  1}'), \
    (2, false, 32767, 2147483647, 9223372036854775807, 3.4028235e38, 1.7976931348623157e308, 9999999999999999999999999999.9999999999, \
     E'line\\nbreak\\ttab\\\\back\\r\"quote\" '' ,;| é 🎉 ', '\\x00ff5c0a09', '9999-12-31', '9999-12-31 23:59:59.999999', \
     '9999-12-31 23:59:59.999999+00', '23:59:59.999999', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '[1, 2.50, \"é\"]'), \
    (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), \
    (4, true, 0, 0, 0, 1.1754944e-38, 2.2250738585072014e-308, 0, '\\N', '\\x5c4e', '2024-02-29', '1969-12-31 23:59:59.5', \
     '1883-11-18 12:03:58+00', '24:00:00', '01234567-89ab-cdef-0123-456789abcdef', 'null')";

const SEEN_BY_POSTGRES: &str = "SELECT string_agg(concat_ws('|', id, coalesce(b::int::text, 'NULL'), coalesce(i2::text, 'NULL'), \
     coalesce(i4::text, 'NULL'), coalesce(i8::text, 'NULL'), coalesce(n::text, 'NULL'), \
     coalesce(encode(convert_to(t, 'UTF8'), 'hex'), 'NULL'), coalesce(encode(y, 'hex'), 'NULL'), \
     coalesce(to_char(d, 'YYYY-MM-DD'), 'NULL'), coalesce(to_char(ts, 'YYYY-MM-DD HH24:MI:SS.US'), 'NULL'), \
     coalesce(to_char(tz AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), 'NULL'), coalesce(left(tm::text, 8), 'NULL'), \
     coalesce(u::text, 'NULL'), coalesce(encode(convert_to(j::text, 'UTF8'), 'hex'), 'NULL')), E'\\n' ORDER BY id) FROM ";

const SEEN_BY_MARIADB: &str = "SELECT CONCAT_WS('|', id, COALESCE(b, 'NULL'), COALESCE(i2, 'NULL'), COALESCE(i4, 'NULL'), \
     COALESCE(i8, 'NULL'), COALESCE(n, 'NULL'), COALESCE(LOWER(HEX(t)), 'NULL'), COALESCE(LOWER(HEX(y)), 'NULL'), \
     COALESCE(DATE_FORMAT(d, '%Y-%m-%d'), 'NULL'), COALESCE(DATE_FORMAT(ts, '%Y-%m-%d %H:%i:%s.%f'), 'NULL'), \
     COALESCE(DATE_FORMAT(tz, '%Y-%m-%d %H:%i:%s.%f'), 'NULL'), COALESCE(LEFT(tm, 8), 'NULL'), COALESCE(u, 'NULL'), \
     COALESCE(LOWER(HEX(j)), 'NULL')) FROM ";

#[tokio::test(flavor = "multi_thread")]
async fn values_go_to_mariadb_and_back() {
    let (Some(postgres), Some(maria)) = (World::new("both").await, MariaDb::new("both")) else { return };
    postgres
        .run(&format!(
            "CREATE TABLE there (id bigint PRIMARY KEY, b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, \
             n numeric(38,10), t text, y bytea, d date, ts timestamp, tz timestamptz, tm time, u uuid, j json); \
             INSERT INTO there VALUES {VALUES}"
        ))
        .await;
    let source = postgres.source(table("there"), 1, 100).await.expect("opens");
    let wanted = SinkRequest { create_table: true, ..request(&maria.run_id(1), 1, "arrived", WriteMode::Overwrite) };
    let mut sink = maria.sink(wanted).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    let seen = postgres.value(&format!("{SEEN_BY_POSTGRES} there")).await;
    assert_eq!(maria.run(&format!("{SEEN_BY_MARIADB} arrived ORDER BY id")), seen);
    let floats = maria.run("SELECT f4 * 1e0, f8 FROM arrived WHERE id IN (1, 2, 4) ORDER BY id");
    let floats: Vec<f64> = floats.split(['\t', '\n']).map(|text| text.parse().expect("a number")).collect();
    let single = |value: f32| f64::from(value);
    let expected = [single(0.1), 0.1, single(f32::MAX), f64::MAX, single(f32::MIN_POSITIVE), f64::MIN_POSITIVE];
    assert_eq!(floats, expected);

    // Back into a table of the same types. MariaDB has no instants here, only moments in UTC, and no booleans.
    let back = crate::support::query("SELECT id, i2, i4, i8, f4, f8, n, t, y, d, ts, tm, j FROM arrived");
    let source = maria.source(back, 1, 100).await.expect("opens");
    let wanted = SinkRequest { create_table: true, ..request(&maria.run_id(1), 1, "back", WriteMode::Overwrite) };
    let mut sink = postgres.sink(wanted).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    let differing = "SELECT count(*) FROM (SELECT id, i2, i4, i8, f4, f8, n, t, y, d, ts, tm, j::text FROM there \
         EXCEPT ALL SELECT id, i2, i4, i8, f4, f8, n, t, y, d, ts, tm, j::text FROM back) x";
    assert_eq!(postgres.value(differing).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_mariadb_cannot_hold_is_refused_by_row_and_column() {
    let (Some(postgres), Some(maria)) = (World::new("refused").await, MariaDb::new("refused")) else { return };
    for (definition, value, column) in [
        ("f double precision", "'NaN'", "f"),
        ("f real", "'-Infinity'", "f"),
        ("d date", "'infinity'", "d"),
        ("d date", "'0044-03-15 BC'", "d"),
        ("ts timestamp", "'10000-01-01'", "ts"),
        ("tz timestamptz", "'-infinity'", "tz"),
    ] {
        postgres
            .run(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t ({definition}); INSERT INTO t VALUES (NULL), ({value})"
            ))
            .await;
        let run = dmg_ambient::Ambient::real().uuid();
        let source = postgres.source(table("t"), 1, 100).await.expect("opens");
        let wanted = SinkRequest { create_table: true, ..request(&run, 1, "arrived", WriteMode::Overwrite) };
        let mut sink = maria.sink(wanted).await.expect("opens");
        let said = crate::support::text(copy(source.as_ref(), sink.as_mut()).await);
        assert!(said.contains("UserErrorValue") && said.contains(&format!("\"{column}\"")), "{definition}: {said}");
        assert!(said.contains("row 2"), "{definition}: {said}");
        sink.abort().await.expect("aborts");
        assert_eq!(maria.run("SHOW TABLES LIKE 'arrived'"), "");
    }
}
