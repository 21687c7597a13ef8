//! Reading MariaDB: snapshots, parts, values other stores do not have, limits, and servers that misbehave. Needs a
//! server (DMG_TEST_MARIADB), except for the servers played here.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float32Type, Int16Type, Time64MicrosecondType, TimestampMicrosecondType, UInt64Type,
};
use dmg_ambient::{Ambient, TaskGroup};
use dmg_connector::{BatchLimits, Result, Session};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{Kind, Secret, Secrets};
use futures::StreamExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::mysql_support::MariaDb;
use crate::support::{LIMITS, code, query, read_all, rows, table, text};

#[tokio::test(flavor = "multi_thread")]
async fn values_become_what_they_are() {
    let Some(world) = MariaDb::new("values") else { return };
    world.run(
        "SET time_zone = '+00:00'; CREATE TABLE t (f float, n decimal(38,10), u bigint unsigned, b bit(10), y year, \
         ts timestamp(6) NULL, ti time(6), j json); \
         INSERT INTO t VALUES (0.1, -1.5, 18446744073709551615, b'1000000001', 2024, '2024-02-29 12:00:00.000001', '23:59:59.5', '[]')",
    );
    let source = world.source(table("t"), 1, 100).await.expect("opens");
    let kinds: Vec<String> = source.columns().iter().map(|column| column.kind.to_string()).collect();
    let expected = ["float32", "decimal(38,10)", "uint64", "uint64", "int16", "instant", "time", "json"];
    assert_eq!(kinds, expected);
    let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
    let batch = &batches[0];
    assert_eq!(batch.column(0).as_primitive::<Float32Type>().value(0).to_bits(), 0.1_f32.to_bits());
    assert_eq!(batch.column(1).as_primitive::<Decimal128Type>().value(0), -15_000_000_000);
    assert_eq!(batch.column(2).as_primitive::<UInt64Type>().value(0), u64::MAX);
    assert_eq!(batch.column(3).as_primitive::<UInt64Type>().value(0), 0b10_0000_0001);
    assert_eq!(batch.column(4).as_primitive::<Int16Type>().value(0), 2024);
    assert_eq!(batch.column(5).as_primitive::<TimestampMicrosecondType>().value(0), 1_709_208_000_000_001);
    assert_eq!(batch.column(6).as_primitive::<Time64MicrosecondType>().value(0), 86_399_500_000);
    // A query says the same of its columns, floats included.
    let source = world.source(query("SELECT f, n, u, b, y, ts, ti FROM t"), 1, 100).await.expect("opens");
    let kinds: Vec<String> = source.columns().iter().map(|column| column.kind.to_string()).collect();
    assert_eq!(kinds, expected[..7]);
    let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
    assert_eq!(batches[0].column(0).as_primitive::<Float32Type>().value(0).to_bits(), 0.1_f32.to_bits());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_left_in_its_middle_is_read_again_on_its_snapshot() {
    let Some(world) = MariaDb::new("left") else { return };
    world.run("CREATE TABLE t (id bigint PRIMARY KEY, v varchar(250)); INSERT INTO t SELECT seq, REPEAT('x', 250) FROM seq_1_to_100000");
    // One session, one snapshot: who breaks off because of the sink must not lose it.
    // Whatever the server's own isolation is: below that of ours there are no snapshots.
    world.run("SET GLOBAL TRANSACTION ISOLATION LEVEL READ COMMITTED");
    let source = world.source(table("t"), 1, 1_000_000).await;
    world.run("SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    let source = source.expect("opens");
    let part = &source.parts()[0];
    for batches in [0, 1, 3] {
        let mut stream = source.read(part, LIMITS).await.expect("reads");
        for _ in 0..batches {
            stream.next().await.expect("a batch").expect("good");
        }
        world.run("DELETE FROM t ORDER BY id LIMIT 10; UPDATE t SET v = 'changed'");
    }
    let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
    assert_eq!(rows(&batches), 100_000, "what was there at first");
    let text = batches.last().expect("a batch").column(1).as_string::<i32>();
    assert!(text.iter().all(|value| value.is_some_and(|value| value.len() == 250)), "as it was at first");
    source.finish().await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_dates_and_long_times_are_named_or_read_as_text() {
    let Some(world) = MariaDb::new("odd") else { return };
    world.run(
        "SET sql_mode = ''; CREATE TABLE t (id int PRIMARY KEY, d date, at datetime, ts timestamp NULL, ti time); \
         INSERT INTO t VALUES (1, '2024-01-01', '2024-01-01', '2024-01-01', '01:00:00'), \
         (2, '0000-00-00', '2024-00-10 01:02:03', '0000-00-00', '-838:59:59')",
    );
    for (column, what) in [("d", "zero"), ("at", "zero"), ("ts", "zero"), ("ti", "24 hours")] {
        let source = world.source(query(&format!("SELECT id, {column} FROM t")), 1, 100).await.expect("opens");
        let said = text(read_all(source.as_ref(), LIMITS).await);
        for word in ["UserErrorValue", &format!("\"{column}\""), "row 2", what] {
            assert!(said.contains(word), "{column}: {said}");
        }
        assert!(!said.contains("0000-00"), "no value is quoted: {said}");
    }
    let connection = world.open("dmg/test", &[("zeroDates", "text"), ("longTimes", "text")]).await.expect("settings");
    let source = connection.source(&table("t"), 1, 100).await.expect("opens");
    assert!(source.columns()[1..].iter().all(|column| column.kind == Kind::EngineText));
    let batches = read_all(source.as_ref(), LIMITS).await.expect("reads");
    let second = |column: usize| batches[0].column(column).as_string::<i32>().value(1).to_owned();
    assert_eq!(
        [second(1), second(2), second(3), second(4)],
        ["0000-00-00", "2024-00-10 01:02:03", "0000-00-00 00:00:00", "-838:59:59"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_share_one_snapshot_while_others_write() {
    let Some(world) = MariaDb::new("parts") else { return };
    world.run(
        "CREATE TABLE t (id int unsigned PRIMARY KEY AUTO_INCREMENT, balance bigint); \
         INSERT INTO t SELECT seq, 100 FROM seq_1_to_60000;\n\
         DELIMITER //\n CREATE PROCEDURE move() BEGIN DECLARE i int DEFAULT 0; WHILE i < 500 DO START TRANSACTION; \
         UPDATE t SET balance = balance - 1 WHERE id = 1 + i; UPDATE t SET balance = balance + 1 WHERE id = 60000 - i; \
         INSERT INTO t (balance) VALUES (0); COMMIT; SET i = i + 1; END WHILE; END //\n",
    );
    let world = Arc::new(world);
    let mut tasks: TaskGroup<()> = TaskGroup::new();
    let writer = world.clone();
    tasks.spawn_blocking(move || drop(writer.run("CALL move()")));
    for _ in 0..5 {
        let source = world.source(table("t"), 3, 10_000).await.expect("opens");
        assert!(source.parts().len() >= 3);
        let mut sums = (0, 0);
        for part in source.parts() {
            let mut stream = source.read(part, LIMITS).await.expect("reads");
            while let Some(batch) = stream.next().await {
                let batch = batch.expect("a batch");
                let balances = batch.column(1).as_primitive::<arrow_array::types::Int64Type>();
                sums.0 += balances.values().iter().sum::<i64>();
                sums.1 += batch.num_rows();
            }
        }
        assert_eq!(sums.0, 6_000_000, "money is moved, never seen twice or lost");
        assert!(sums.1 >= 60_000);
        source.finish().await.expect("ends");
    }
    while tasks.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_any_value_is_in_one_part() {
    let Some(world) = MariaDb::new("keys") else { return };
    world.run(
        "CREATE TABLE big (id bigint unsigned PRIMARY KEY); INSERT INTO big VALUES (0), (18446744073709551615), (5); \
         INSERT INTO big SELECT seq FROM seq_100_to_60100; \
         CREATE TABLE `od``d \"name\"` (`a``b` bigint, KEY (`a``b`)); INSERT INTO `od``d \"name\"` VALUES (NULL), (-5); \
         INSERT INTO `od``d \"name\"` SELECT seq FROM seq_1_to_60000; \
         CREATE TABLE words (w varchar(20) PRIMARY KEY, n int, KEY (n)); INSERT INTO words SELECT seq, seq FROM seq_1_to_60000",
    );
    for (name, expected, splits) in [("big", 60_004, true), ("od`d \"name\"", 60_002, true), ("words", 60_000, false)] {
        let source = world.source(table(name), 4, 20_000).await.expect("opens");
        assert_eq!(source.parts().len() > 1, splits, "{name}");
        assert_eq!(rows(&read_all(source.as_ref(), LIMITS).await.expect("reads")), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_above_the_limit_is_refused_by_name() {
    let Some(world) = MariaDb::new("large") else { return };
    world.run(
        "CREATE TABLE t (id int, big longtext); INSERT INTO t VALUES (1, 'x'), (2, REPEAT('y', 2000000)), (3, 'z'); \
         CREATE TABLE huge (id int, big longblob); INSERT INTO huge VALUES (1, REPEAT('y', 20000000))",
    );
    let limits = BatchLimits { value_bytes: 1 << 20, ..LIMITS };
    for (name, row) in [("t", "row 2"), ("huge", "row 1")] {
        let source = world.source(table(name), 1, 100).await.expect("opens");
        let said = text(read_all(source.as_ref(), limits).await);
        assert!(said.contains("UserErrorBudgetExceeded") && said.contains("\"big\"") && said.contains(row), "{said}");
    }
    // A value of several packets arrives whole where there is room for it.
    let limits = BatchLimits { value_bytes: 64 << 20, ..LIMITS };
    let source = world.source(table("huge"), 1, 100).await.expect("opens");
    let batches = read_all(source.as_ref(), limits).await.expect("reads");
    let value = batches[0].column(1).as_binary::<i32>().value(0);
    assert!(value.len() == 20_000_000 && value.iter().all(|byte| *byte == b'y'));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_cannot_be_read_are_refused_in_words() {
    let Some(world) = MariaDb::new("queries") else { return };
    world.run("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    for (sql, expected) in [
        ("SELECT 1 AS a, 2 AS A", "UserErrorSchemaMismatch"),
        ("SELECT ? AS a", "UserErrorSettings"),
        ("SELECT 1 AS a; DELETE FROM t", "UserErrorSettings"),
        ("DELETE FROM t RETURNING id", "UserErrorSettings"),
        ("SELECT * FROM missing", "UserErrorTableMissing"),
        ("SELECT 'a' LIKE 'b' ESCAPE 'cc' AS a FROM t", "UserErrorSettings"),
    ] {
        let refused = match world.source(query(sql), 1, 100).await {
            Ok(source) => read_all(source.as_ref(), LIMITS).await.map(drop),
            Err(error) => Err(error),
        };
        let found = code(refused);
        assert!(found == expected || sql.contains("ESCAPE") && found != "no failure", "{sql}: {found}");
    }
    assert_eq!(world.run("SELECT COUNT(*) FROM t"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_ins_that_fail_say_why() {
    let Some(world) = MariaDb::new("log_in") else { return };
    let store = dmg_tables::store("mysql").expect("listed");
    let probe = |database: &str, user: &str, password: &str, mode: &str| {
        let mut settings = world.own_settings();
        settings.insert("database".into(), database.into());
        settings.insert("user".into(), user.into());
        settings.insert("sslMode".into(), mode.into());
        let secrets: Secrets = [("password".to_owned(), Secret::new(password.to_owned()))].into_iter().collect();
        async move {
            let session = Session::new(Ambient::real(), "dmg/probe");
            text(store.open(&settings, &secrets, session).await.expect("settings").probe().await)
        }
    };
    let (database, user, password) = (&world.database, &world.user, &world.password);
    let said = probe(database, user, "wrong", "prefer").await;
    assert!(said.contains("UserErrorLoginRefused") && !said.contains("wrong"), "{said}");
    assert!(probe("no_such_database", user, password, "prefer").await.contains("UserErrorContainerMissing"));
    assert!(probe(database, user, password, "require").await.contains("NetworkErrorTls"), "the server has no TLS");
    assert_eq!(probe(database, user, password, "disable").await, "no failure");
}

/// A greeting of protocol 10 as MariaDB sends it.
fn greeting() -> Vec<u8> {
    let mut body = vec![10];
    body.extend_from_slice(b"10.11.6-MariaDB\0");
    body.extend_from_slice(&7_u32.to_le_bytes());
    body.extend_from_slice(b"abcdefgh\0");
    body.extend_from_slice(&0xf7ff_u16.to_le_bytes());
    body.extend_from_slice(&[45, 2, 0]);
    body.extend_from_slice(&0x81bf_u16.to_le_bytes());
    body.push(21);
    body.extend_from_slice(&[0; 10]);
    body.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
    packet(0, &body)
}

fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let [a, b, c, ..] = (body.len() as u32).to_le_bytes();
    [&[a, b, c, sequence][..], body].concat()
}

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];

/// Reads a command and gives its body.
async fn command(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.ok()?;
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// A server that lets anybody in, says OK to every SET, and answers the first other command by that.
async fn hostile(answer: Vec<u8>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut tasks: TaskGroup<()> = TaskGroup::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(&greeting()).await.expect("greets");
            command(&mut stream).await.expect("who it is");
            stream.write_all(&packet(2, OK)).await.expect("lets in");
            while let Some(body) = command(&mut stream).await {
                let sets = body.get(1..4) == Some(b"SET");
                let said = if sets { packet(1, OK) } else { answer.clone() };
                if stream.write_all(&said).await.is_err() {
                    break;
                }
                if !sets {
                    // Whatever comes now would be a file.
                    let more = command(&mut stream).await;
                    assert!(more.is_none_or(|more| !more.windows(5).any(|w| w == b"root:")), "a file was sent");
                    break;
                }
            }
        }
    });
    let settings = json!({"host": "127.0.0.1", "port": port, "database": "d", "user": "u", "sslMode": "disable"});
    let secrets: Secrets = [("password".to_owned(), Secret::from("x"))].into_iter().collect();
    let store = dmg_tables::store("mysql").expect("listed");
    let session = Session::new(Ambient::real(), "dmg/test");
    let connection = store.open(settings.as_object().expect("an object"), &secrets, session).await?;
    connection.source(&StoreObject::Query { text: "SELECT 1".into() }, 1, 10).await.map(drop)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_server_gets_no_file_and_no_memory() {
    for (what, answer) in [
        ("asks for a file", packet(1, b"\xfb/etc/passwd")),
        ("a length without end", packet(1, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        ("half a description", packet(1, &[0, 1, 0])),
        ("nothing", packet(1, &[])),
    ] {
        let clock = Ambient::real();
        let said = tokio::select! {
            result = hostile(answer) => code(result),
            () = clock.sleep(std::time::Duration::from_secs(20)) => "hangs".to_owned(),
        };
        let fine = ["StoreErrorAnswer", "NetworkErrorStoreUnreachable"].contains(&said.as_str());
        assert!(fine, "{what}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_asked_for_in_the_middle_of_reading_is_refused() {
    // Describes one column, then answers the reading with a wish for a file.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut tasks: TaskGroup<()> = TaskGroup::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a caller");
        stream.write_all(&greeting()).await.expect("greets");
        command(&mut stream).await.expect("who it is");
        stream.write_all(&packet(2, OK)).await.expect("lets in");
        while let Some(body) = command(&mut stream).await {
            let column = b"\x03def\0\0\0\x01a\0\x0c\x2d\0\x04\0\0\0\xfd\0\0\0\0\0";
            let said = match (body[0], body.get(1..7)) {
                (0x16, _) => [
                    packet(1, &[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
                    packet(2, column),
                    packet(3, &[0xfe, 0, 0, 2, 0]),
                ]
                .concat(),
                (0x19, _) => continue,
                (_, Some(b"SELECT")) => packet(1, b"\xfb/etc/passwd"),
                _ => packet(1, OK),
            };
            stream.write_all(&said).await.expect("answers");
        }
    });
    let settings = json!({"host": "127.0.0.1", "port": port, "database": "d", "user": "u", "sslMode": "disable"});
    let store = dmg_tables::store("mysql").expect("listed");
    let session = Session::new(Ambient::real(), "dmg/test");
    let connection =
        store.open(settings.as_object().expect("an object"), &Secrets::none(), session).await.expect("settings");
    let source = connection.source(&query("SELECT a FROM t"), 1, 10).await.expect("describes");
    let said = text(source.read(&source.parts()[0], LIMITS).await.map(drop));
    assert!(said.contains("StoreErrorAnswer") && said.contains("local file"), "{said}");
}
