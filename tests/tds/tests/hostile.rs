//! Bytes nobody should send, and faults on demand: the server never panics, never hangs, and lets others go on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use dmg_tds_fixture::{Armed, Fault, Fixture, Options};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const PATIENCE: Duration = Duration::from_secs(20);

fn connect(fixture: &Fixture) -> TcpStream {
    let tcp = TcpStream::connect(("127.0.0.1", fixture.port)).expect("the fixture listens");
    tcp.set_read_timeout(Some(PATIENCE)).expect("set");
    tcp
}

fn packet(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 1];
    out.extend((content.len() as u16 + 8).to_be_bytes());
    out.extend([0, 0, 1, 0]);
    out.extend(content);
    out
}

/// Reads a message's content; none when the server ended the connection.
fn answer(tcp: &mut TcpStream) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let mut header = [0; 8];
        match tcp.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) => {
                let waited = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!waited, "the server hangs");
                return None;
            }
        }
        let at = content.len();
        content.resize(at + usize::from(u16::from_be_bytes([header[2], header[3]])) - 8, 0);
        tcp.read_exact(&mut content[at..]).ok()?;
        if header[1] & 1 == 1 {
            return Some(content);
        }
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn prelogin() -> Vec<u8> {
    packet(0x12, &[0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 9, 0, 0, 0, 0, 0, 2])
}

fn login() -> Vec<u8> {
    let mut head = vec![0; 94];
    head[4..8].copy_from_slice(&0x7400_0004_u32.to_le_bytes());
    head[8..12].copy_from_slice(&4096_u32.to_le_bytes());
    let hidden: Vec<u8> = utf16("Fixture-Password-1").iter().map(|byte| byte.rotate_left(4) ^ 0xA5).collect();
    let parts = [(40, utf16("sa")), (44, hidden), (68, utf16("fixture"))];
    let mut body: Vec<u8> = Vec::new();
    for (at, bytes) in parts {
        head[at..at + 2].copy_from_slice(&(94 + body.len() as u16).to_le_bytes());
        head[at + 2..at + 4].copy_from_slice(&(bytes.len() as u16 / 2).to_le_bytes());
        body.extend(bytes);
    }
    head.extend(body);
    let length = head.len() as u32;
    head[..4].copy_from_slice(&length.to_le_bytes());
    packet(0x10, &head)
}

fn logged_in(fixture: &Fixture) -> TcpStream {
    let mut tcp = connect(fixture);
    tcp.write_all(&prelogin()).expect("sent");
    answer(&mut tcp).expect("an answer to the pre-login");
    tcp.write_all(&login()).expect("sent");
    let content = answer(&mut tcp).expect("an answer to the log-in");
    assert!(content.contains(&0xAD), "logged in");
    tcp
}

fn headers() -> Vec<u8> {
    let mut out = vec![22, 0, 0, 0, 18, 0, 0, 0, 2, 0];
    out.extend([0; 8]);
    out.extend([1, 0, 0, 0]);
    out
}

fn batch(tcp: &mut TcpStream, text: &str) -> Option<Vec<u8>> {
    let mut content = headers();
    content.extend(utf16(text));
    tcp.write_all(&packet(0x01, &content)).ok()?;
    answer(tcp)
}

fn error_number(content: &[u8]) -> Option<i32> {
    let at = content.iter().position(|byte| *byte == 0xAA)?;
    Some(i32::from_le_bytes(content.get(at + 3..at + 7)?.try_into().ok()?))
}

fn cases(count: u32) -> TestRunner {
    TestRunner::new(Config { cases: count, failure_persistence: None, ..Config::default() })
}

#[test]
fn random_bytes_never_hang_or_end_the_server() {
    let fixture = Fixture::start(Options::default()).expect("starts");
    cases(300)
        .run(&(any::<u8>(), prop::collection::vec(any::<u8>(), 0..600)), |(kind, bytes)| {
            // Before the log-in: as they are, and inside a packet.
            for sent in [bytes.clone(), packet(kind, &bytes)] {
                let mut tcp = connect(&fixture);
                let _ = tcp.write_all(&sent);
                let _ = tcp.shutdown(std::net::Shutdown::Write);
                while answer(&mut tcp).is_some() {}
            }
            Ok(())
        })
        .expect("no case fails");
    assert!(batch(&mut logged_in(&fixture), "SELECT 1").is_some());
    assert_eq!(fixture.panics(), 0);
}

#[test]
fn random_messages_after_the_log_in_are_answered_or_refused() {
    let fixture = Fixture::start(Options::default()).expect("starts");
    let kinds = prop::sample::select(vec![0x01_u8, 0x03, 0x06, 0x07, 0x0E]);
    cases(400)
        .run(&(kinds, prop::collection::vec(any::<u8>(), 0..400), any::<bool>()), |(kind, bytes, bulk)| {
            let mut tcp = logged_in(&fixture);
            if bulk {
                batch(&mut tcp, "IF OBJECT_ID('f') IS NULL CREATE TABLE f (a int NULL, b nvarchar(20) NULL)");
                batch(&mut tcp, "INSERT BULK f (a int, b nvarchar(20))");
            }
            let mut content = if kind == 0x07 { vec![0x81, 2, 0] } else { headers() };
            content.extend(&bytes);
            let _ = tcp.write_all(&packet(kind, &content));
            let _ = tcp.shutdown(std::net::Shutdown::Write);
            while answer(&mut tcp).is_some() {}
            Ok(())
        })
        .expect("no case fails");
    assert!(batch(&mut logged_in(&fixture), "SELECT 1").is_some());
    assert_eq!(fixture.panics(), 0);
}

#[test]
fn random_statements_are_run_or_refused() {
    let fixture = Fixture::start(Options::default()).expect("starts");
    let tcp = std::cell::RefCell::new(logged_in(&fixture));
    batch(
        &mut tcp.borrow_mut(),
        "CREATE TABLE s (id int NOT NULL PRIMARY KEY, name nvarchar(20) NULL, d decimal(10,2) NULL)",
    );
    let words = prop::sample::select(vec![
        "SELECT",
        "*",
        "FROM",
        "s",
        "id",
        "name",
        "d",
        "(",
        ")",
        ",",
        "=",
        "1",
        "2.5",
        "N'x'",
        "0xFF",
        "NULL",
        "WHERE",
        "AND",
        "INSERT INTO",
        "VALUES",
        "UPDATE",
        "SET",
        "DELETE",
        "MERGE",
        "USING",
        "ON",
        "WHEN MATCHED THEN",
        "CASE",
        "END",
        "CAST",
        "AS",
        "int",
        "nvarchar(10)",
        "BEGIN TRAN",
        "COMMIT",
        "ROLLBACK",
        "IF",
        "ELSE",
        "DECLARE",
        "@a",
        "TOP",
        "ORDER BY",
        "GROUP BY",
        "COUNT(*)",
        "+",
        "-",
        "*",
        "/",
        "EXISTS",
        "IN",
        "UNION ALL",
        "WITH",
        "JOIN",
        "LEFT",
        "[",
        "]",
        "'",
        "--",
        ";",
    ]);
    cases(1500)
        .run(&prop::collection::vec(words, 1..25), |words| {
            prop_assert!(batch(&mut tcp.borrow_mut(), &words.join(" ")).is_some(), "the connection ended");
            Ok(())
        })
        .expect("no case fails");
    assert_eq!(fixture.panics(), 0);
}

#[test]
fn nesting_without_end_is_refused() {
    let fixture = Fixture::start(Options::default()).expect("starts");
    let mut tcp = logged_in(&fixture);
    let deep = format!("SELECT {}1{}", "(".repeat(3000), ")".repeat(3000));
    assert_eq!(error_number(&batch(&mut tcp, &deep).expect("answered")), Some(191));
    let deep = format!("SELECT {}1", "- ".repeat(3000));
    assert_eq!(error_number(&batch(&mut tcp, &deep).expect("answered")), Some(191));
    assert_eq!(error_number(&batch(&mut tcp, "SELECT 1").expect("answered")), None);
}

#[test]
fn faults_hit_what_they_are_meant_for() {
    let fixture = Fixture::start(Options::default()).expect("starts");
    let mut tcp = logged_in(&fixture);
    batch(&mut tcp, "CREATE TABLE a (id int NOT NULL)").expect("answered");

    fixture.fault(Armed { when: "INTO a".into(), after: 1, ..Armed::next(Fault::Error(1222, String::new())) });
    assert_eq!(error_number(&batch(&mut tcp, "INSERT INTO a VALUES (1)").expect("answered")), None);
    assert_eq!(error_number(&batch(&mut tcp, "INSERT INTO a VALUES (2)").expect("answered")), Some(1222));
    assert_eq!(error_number(&batch(&mut tcp, "INSERT INTO a VALUES (3)").expect("answered")), None);

    // A deadlock takes the transaction with it.
    batch(&mut tcp, "BEGIN TRAN; INSERT INTO a VALUES (4)").expect("answered");
    batch(&mut tcp, "EXEC fixture.fault 'deadlock'").expect("answered");
    assert_eq!(error_number(&batch(&mut tcp, "INSERT INTO a VALUES (5)").expect("answered")), Some(1205));
    assert_eq!(
        error_number(&batch(&mut tcp, "IF (SELECT count(*) FROM a) <> 2 THROW 50001, 'wrong', 1").expect("answered")),
        None
    );

    // Done, but the client never learns of it.
    fixture.fault(Armed::next(Fault::DoneThenCut));
    assert!(batch(&mut tcp, "INSERT INTO a VALUES (6)").is_none());
    let mut tcp = logged_in(&fixture);
    assert_eq!(
        error_number(&batch(&mut tcp, "IF (SELECT count(*) FROM a) <> 3 THROW 50001, 'wrong', 1").expect("answered")),
        None
    );

    for fault in [Fault::Cut(100), Fault::Truncate] {
        fixture.fault(Armed::next(fault));
        assert!(batch(&mut logged_in(&fixture), "SELECT replicate(N'x', 4000)").is_none());
    }
    fixture.fault(Armed::next(Fault::WrongToken));
    assert!(batch(&mut logged_in(&fixture), "SELECT 1").expect("answered").starts_with(&[0x42]));
    fixture.fault(Armed::next(Fault::Drip(1, 1)));
    assert!(batch(&mut logged_in(&fixture), "SELECT 1").is_some());
    assert_eq!(error_number(&batch(&mut tcp, "SELECT 1").expect("others go on")), None);
}
