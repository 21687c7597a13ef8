//! Odd names, tables with triggers and keys, engines that cannot keep what is promised, errors a server may give at any
//! time: one clear fault each, and nothing lost. The other side is the TDS fixture.

use dmg_connector::conformance::TableWorld as _;
use dmg_connector::{MarkState, SinkRequest};
use dmg_protocol::WriteMode;
use dmg_protocol::job::StoreObject;
use dmg_tds_fixture::{Armed, Fault, Options};

use crate::sql_server_support::SqlServer;
use crate::support::{LIMITS, code, content, copy, query, read_all, request, rows, stage, table, text};

const RUN: &str = "c0a4b9d2-6c1e-4d55-9c0b-3f6f2f1e7d20";

fn fresh(name: &str, mode: WriteMode) -> SinkRequest {
    request(&dmg_ambient::Ambient::real().uuid(), 1, name, mode)
}

async fn filled() -> SqlServer {
    let server = SqlServer::new().await;
    server.make("src", 300).await;
    server
        .run("CREATE TABLE dst (id bigint NOT NULL, name nvarchar(400) NULL); INSERT INTO dst VALUES (0, N'old')")
        .await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_every_kind() {
    let server = SqlServer::new().await;
    server.run("CREATE SCHEMA [Upper Case]").await;
    let long = "\u{e4}".repeat(127) + "x";
    for (schema, name) in [
        ("dbo", "select"),
        ("dbo", "a ]quoted] [name; DROP TABLE x"),
        ("Upper Case", "Mixed.Dotted"),
        ("dbo", long.as_str()),
        ("dbo", "it's %s \"x\" \\"),
        ("dbo", "\u{65e5}\u{672c} \u{1f600}"),
    ] {
        let quoted = |name: &str| format!("[{}]", name.replace(']', "]]"));
        let copied = format!("_2{}", name.chars().skip(2).collect::<String>());
        let full = format!("{}.{}", quoted(schema), quoted(name));
        server
            .run(&format!(
                "CREATE TABLE {full} ({} int NOT NULL PRIMARY KEY, [user] nvarchar(20) NULL, {} nvarchar(20) NULL)",
                quoted(name),
                quoted("order] by 1")
            ))
            .await;
        server.run(&format!("INSERT INTO {full} VALUES (1, N'a', NULL), (2, N'b', N'x')")).await;
        let object = |name: &str| StoreObject::Table { schema: Some(schema.to_owned()), table: name.to_owned() };
        for (mode, to) in [
            (WriteMode::Append, copied.as_str()),
            (WriteMode::Append, copied.as_str()),
            (WriteMode::Overwrite, copied.as_str()),
            (WriteMode::Upsert, name),
        ] {
            let source = server.source(object(name), 2, 1000).await.expect(name);
            let wanted = SinkRequest { object: object(to), create_table: true, ..fresh(to, mode) };
            let mut sink = server.sink(wanted).await.expect(name);
            copy(source.as_ref(), sink.as_mut()).await.expect(name);
        }
        for table in [name, copied.as_str()] {
            let found = server.rows(&format!("SELECT * FROM {}.{} ORDER BY 1", quoted(schema), quoted(table))).await;
            assert_eq!(found, [["1", "a", "String(None)"], ["2", "b", "x"]], "{table}");
        }
    }
    // One character more than the server keeps.
    let source = server.source(query("SELECT 1 AS id"), 1, 1000).await.expect("opens");
    let wanted = SinkRequest { create_table: true, ..fresh(&(long.clone() + "y"), WriteMode::Append) };
    assert_eq!(code(server.sink(wanted).await.map(drop)), "UserErrorName");
    drop(source);
    for (text_of, expected) in [
        ("SELECT 1 AS a, 2 AS a", "UserErrorSchemaMismatch"),
        ("SELECT 1 AS a, 2", "UserErrorSchemaMismatch"),
        ("SELECT FROM WHERE", "UserErrorSettings"),
        ("SELECT x FROM nowhere", "UserErrorTableMissing"),
    ] {
        assert_eq!(code(server.source(query(text_of), 1, 1000).await.map(drop)), expected, "{text_of}");
    }
}

/// What the server says, to which of our requests, and what becomes of it.
const REFUSALS: &[(i32, &str, &str, &str)] = &[
    (1205, "INSERT INTO [dbo].[dst]", "StoreErrorConflict", "end a deadlock"),
    (1222, "TABLOCKX", "StoreErrorConflict", "Another writer holds dbo.dst"),
    (9002, "rows of INSERT BULK", "StoreErrorNoSpace", "transaction log"),
    (9002, "INSERT INTO [dbo].[dst]", "StoreErrorNoSpace", "transaction log"),
    (1105, "rows of INSERT BULK", "StoreErrorNoSpace", "(error 1105)"),
    (3906, "CREATE TABLE", "UserErrorPermission", "read-only or a secondary"),
    (3906, "commit", "UserErrorPermission", "read-only or a secondary"),
    (229, "INSERT BULK", "UserErrorPermission", "(error 229)"),
    (262, "CREATE TABLE", "UserErrorPermission", "(error 262)"),
    (1204, "INSERT INTO [dbo].[dst]", "StoreErrorFailed", "(error 1204)"),
    (40501, "INSERT BULK", "StoreErrorConflict", "lower parallelCopies"),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_may_refuse_at_any_time_changes_nothing() {
    let server = filled().await;
    for (at, (number, when, expected, words)) in REFUSALS.iter().enumerate() {
        let source = server.source(table("src"), 1, 5000).await.expect("opens");
        let run = format!("{at:08}-6c1e-4d55-9c0b-3f6f2f1e7d20");
        let mut sink = server.sink(request(&run, 1, "dst", WriteMode::Append)).await.expect("opens");
        let when = if *when == "commit" { "COMMIT TRANSACTION" } else { when };
        server.fixture.fault(Armed { when: when.into(), ..Armed::next(Fault::Error(*number, String::new())) });
        let found = text(copy(source.as_ref(), sink.as_mut()).await);
        assert!(found.starts_with(expected) && found.contains(words), "{number} at {when}: {found}");
        server.fixture.clear_faults();
        assert_eq!(server.rows("SELECT id FROM dst").await, [["0"]], "{number} at {when}");
        assert_eq!(sink.mark().await.expect("reads"), MarkState::None, "{number} at {when}");
        sink.abort().await.expect("cleans up");
        assert!(!server.names().await.iter().any(|name| name.starts_with("_dmg_")), "no staging left of {number}");
    }
    // After all of them the same copy goes through.
    let source = server.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = server.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, "301");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_while_reading_is_named() {
    let server = filled().await;
    let source = server.source(table("src"), 1, 5000).await.expect("opens");
    server.fixture.fault(Armed { when: "SELECT [id]".into(), ..Armed::next(Fault::Error(1205, String::new())) });
    let words = text(read_all(source.as_ref(), LIMITS).await.map(|batches| rows(&batches)));
    assert!(words.starts_with("StoreErrorConflict") && words.contains("end a deadlock"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_found_by_its_mark() {
    let server = filled().await;
    let source = server.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = server.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    server.fixture.fault(Armed { when: "COMMIT TRANSACTION".into(), ..Armed::next(Fault::DoneThenCut) });
    let error = sink.commit(&content(&sums)).await.expect_err("the answer is lost");
    assert!(error.outcome_unknown, "{}", error.fault);
    assert!(matches!(sink.mark().await.expect("reads"), MarkState::Committed(_)));
    let committed = sink.commit(&content(&sums)).await.expect("finds the mark");
    assert_eq!(committed.rows, 300);
    assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, "301", "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_target_is_waited_for_and_then_named() {
    let server = filled().await;
    let source = server.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = server.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    // The fixture locks the whole file for who writes; a short limit in place of ours.
    server.run("BEGIN TRAN; UPDATE dst SET name = N'held'").await;
    server.fixture.fault(Armed { when: "TABLOCKX".into(), ..Armed::next(Fault::Error(1222, String::new())) });
    let words = text(sink.commit(&content(&sums)).await);
    assert!(words.starts_with("StoreErrorConflict") && words.contains("did not let go in time"), "{words}");
    server.run("COMMIT").await;
    sink.commit(&content(&sums)).await.expect("the lock is gone");
    assert_eq!(server.rows("SELECT name FROM dst WHERE id = 0").await, [["held"]]);
    assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, "301");
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_are_told_of_and_one_instead_of_inserting_is_refused() {
    let server = filled().await;
    server.run("CREATE TRIGGER audit_dst ON dst AFTER INSERT AS SELECT 1 AS one").await;
    let source = server.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = server.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    let columns = crate::support::plan(source.as_ref(), sink.as_mut()).await.expect("plans");
    let notices = sink.plan(&columns).await.expect("plans").notices;
    assert_eq!(notices, ["Triggers of dbo.dst run inside the commit, once for all rows: audit_dst."]);
    server.run("CREATE TABLE led (id bigint NOT NULL, name nvarchar(400) NULL)").await;
    server
        .run("CREATE TRIGGER elsewhere ON led INSTEAD OF INSERT AS INSERT INTO dst SELECT id, name FROM inserted")
        .await;
    let words = text(server.sink(request(RUN, 1, "led", WriteMode::Append)).await.map(drop));
    assert!(words.starts_with("UserErrorSettings") && words.contains("\"elsewhere\""), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_hold_and_nothing_changes() {
    let server = filled().await;
    server
        .run(
            "CREATE TABLE kinds (id bigint NOT NULL PRIMARY KEY); INSERT INTO kinds VALUES (1), (2); \
             CREATE TABLE goods (id bigint NOT NULL, name nvarchar(400) NULL, FOREIGN KEY (id) REFERENCES kinds (id)); \
             INSERT INTO goods VALUES (1, N'old')",
        )
        .await;
    for (to, mode, from) in [
        ("goods", WriteMode::Append, "SELECT CAST(7 AS bigint) AS id, N'lost' AS name"),
        ("kinds", WriteMode::Overwrite, "SELECT CAST(2 AS bigint) AS id"),
    ] {
        let source = server.source(query(from), 1, 1000).await.expect("opens");
        let mut sink = server.sink(fresh(to, mode)).await.expect("opens");
        let words = text(copy(source.as_ref(), sink.as_mut()).await);
        assert!(words.starts_with("UserErrorValue") && words.contains("foreign key"), "{to}: {words}");
        sink.abort().await.expect("cleans up");
    }
    assert_eq!(server.rows("SELECT id FROM goods").await, [["1"]]);
    assert_eq!(server.value("SELECT COUNT(*) FROM kinds").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_computes_is_not_written() {
    let server = SqlServer::new().await;
    server.make("src", 10).await;
    server
        .run(
            "CREATE TABLE made (number int IDENTITY(5, 5) NOT NULL, id bigint NOT NULL, name nvarchar(400) NULL, \
             twice AS id * 2, version rowversion)",
        )
        .await;
    let source = server.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = server.sink(request(RUN, 1, "made", WriteMode::Append)).await.expect("opens");
    let offered = sink.columns().await.expect("reads").expect("exists");
    let names: Vec<&str> = offered.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["number", "id", "name"], "computed columns and row versions are not offered");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    let found = server.rows("SELECT COUNT(*), SUM(twice), MIN(number), COUNT(DISTINCT version) FROM made").await;
    assert_eq!(found, [["10", "110", "5", "10"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn synapse_is_read_and_not_written() {
    for engine_edition in [6, 11] {
        let server = SqlServer::with(Options { engine_edition, ..Options::default() }).await;
        server.make("src", 50).await;
        let source = server.source(table("src"), 4, 10).await.expect("opens");
        assert_eq!(rows(&read_all(source.as_ref(), LIMITS).await.expect("reads")), 50);
        let notices = source.notices();
        assert!(notices.iter().any(|notice| notice.contains("no snapshot")), "{notices:?}");
        let words = text(server.sink(request(RUN, 1, "src", WriteMode::Append)).await.map(drop));
        assert!(words.starts_with("UserErrorNotSupported") && words.contains("Synapse"), "{words}");
        assert!(!server.names().await.iter().any(|name| name.contains("dmg")), "nothing was made");
    }
}
