//! Procedures of SQL Server as source and as taker of rows: parameters, table types, what they raise and print.

use dmg_connector::conformance::TableWorld as _;
use dmg_connector::{MarkState, SinkRequest};
use dmg_protocol::WriteMode;
use dmg_protocol::job::{ProcedureCall, ProcedureParameter, WriteProcedure};

use crate::sql_server_support::SqlServer;
use crate::support::{LIMITS, copy, query, read_all, request, rows, table, text};

const RUN: &str = "7a6f4d0e-2f0c-4a39-b7a4-2e5d8c1b9a03";

async fn shop() -> SqlServer {
    let server = SqlServer::new().await;
    server.make("src", 100).await;
    server
        .run(
            "CREATE TABLE dst (id bigint NOT NULL PRIMARY KEY, name nvarchar(400) NULL, tag nvarchar(20) NULL); \
             CREATE TYPE dbo.[odd rows] AS TABLE (id bigint NOT NULL, name nvarchar(400) NULL)",
        )
        .await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_procedure_are_read() {
    let server = shop().await;
    server
        .run(
            "CREATE PROCEDURE dbo.[some rows] @from bigint, @to bigint = 10, @name nvarchar(20) = N'none' AS \
             SET NOCOUNT ON; SELECT id, name, @name AS said FROM src WHERE id >= @from AND id <= @to",
        )
        .await;
    // As `sqlReaderStoredProcedureName` with its parameters is bound.
    for (call, expected) in [
        ("EXEC [dbo].[some rows] @from = N'8'", 3),
        ("EXEC [dbo].[some rows] @from = N'1', @to = N'100', @name = N'it''s'", 100),
        ("EXEC [some rows] @from = N'200'", 0),
    ] {
        let source = server.source(query(call), 4, 1000).await.expect(call);
        let names: Vec<&str> = source.columns().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["id", "name", "said"]);
        let batches = read_all(source.as_ref(), LIMITS).await.expect(call);
        assert_eq!(rows(&batches), expected, "{call}");
    }
    let source =
        server.source(query("EXEC [dbo].[some rows] @from = N'91', @to = N'100'"), 1, 1000).await.expect("opens");
    server.run("CREATE TABLE three (id bigint NOT NULL, name nvarchar(400) NULL, said nvarchar(20) NULL)").await;
    let mut sink = server.sink(request(RUN, 1, "three", WriteMode::Append)).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    assert_eq!(server.value("SELECT COUNT(*) FROM three WHERE said = N'none'").await, "10");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_that_cannot_be_read_says_why() {
    let server = shop().await;
    server.run("CREATE PROCEDURE silent AS INSERT INTO dst (id) VALUES (0)").await;
    server.run("CREATE PROCEDURE one @n int AS SELECT @n AS n").await;
    server.run("CREATE PROCEDURE twice AS BEGIN SELECT 1 AS n; SELECT 2 AS n END").await;
    for (call, expected) in [
        ("EXEC [nothing]", "UserErrorProcedureMissing"),
        ("EXEC [silent]", "UserErrorSettings"),
        ("EXEC [one]", "UserErrorSettings"),
        ("EXEC [one] @n = N'x'", "UserErrorValue"),
        ("EXEC [one] @m = N'1'", "UserErrorSettings"),
        ("EXEC [twice]", "UserErrorSettings"),
    ] {
        let words = match server.source(query(call), 1, 1000).await {
            Ok(source) => text(read_all(source.as_ref(), LIMITS).await.map(|batches| rows(&batches))),
            Err(error) => error.fault.to_string(),
        };
        assert!(words.starts_with(expected), "{call}: {words}");
    }
    assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, "0", "describing runs nothing");
}

fn handed_to(procedure: &str, parameters: Vec<ProcedureParameter>) -> SinkRequest {
    SinkRequest {
        procedure: Some(WriteProcedure {
            name: procedure.into(),
            table_type: Some("dbo.[odd rows]".into()),
            table_parameter: Some("rows".into()),
            parameters,
        }),
        ..request(RUN, 1, "dst", WriteMode::Procedure)
    }
}

fn parameter(name: &str, value: Option<&str>) -> ProcedureParameter {
    ProcedureParameter { name: name.into(), type_name: Some("String".into()), value: value.map(str::to_owned) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_takes_rows_in_its_table_type() {
    let server = shop().await;
    server
        .run(
            "CREATE PROCEDURE dbo.[take all] @rows dbo.[odd rows] READONLY, @tag nvarchar(20), @more int = 0 AS \
             INSERT INTO dst (id, name, tag) SELECT id + @more, name, @tag FROM @rows",
        )
        .await;
    let source = server.source(table("src"), 1, 1000).await.expect("opens");
    let given = vec![parameter("tag", Some("it's")), parameter("more", Some("1000"))];
    let mut sink = server.sink(handed_to("dbo.[take all]", given)).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    let found = server.rows("SELECT COUNT(*), MIN(id), MAX(id) FROM dst WHERE tag = N'it''s'").await;
    assert_eq!(found, [["100", "1001", "1100"]]);
    assert!(!server.names().await.iter().any(|name| name.starts_with("_dmg_")), "no staging left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_that_fails_or_rolls_back_changes_nothing() {
    let server = shop().await;
    let take = "INSERT INTO dst (id, name) SELECT id, name FROM @rows";
    for (name, body) in [
        ("raises", format!("{take}; THROW 50001, N'no slice for row 7', 1")),
        ("rolls", "ROLLBACK TRANSACTION".to_owned()),
    ] {
        server.run(&format!("CREATE PROCEDURE {name} @rows dbo.[odd rows] READONLY AS {body}")).await;
    }
    let before = server.value("SELECT COUNT(*) FROM dst").await;
    for (procedure, expected) in
        [("raises", "UserErrorValue"), ("rolls", "UserErrorSettings"), ("no_such", "UserErrorProcedureMissing")]
    {
        let source = server.source(table("src"), 1, 1000).await.expect("opens");
        let mut sink = server.sink(handed_to(procedure, Vec::new())).await.expect("opens");
        let words = text(copy(source.as_ref(), sink.as_mut()).await);
        sink.abort().await.expect("cleans up");
        assert!(words.starts_with(expected), "{procedure}: {words}");
        assert!(!words.contains("row 7"), "what it raises may quote a row: {words}");
        assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, before, "{procedure}");
    }
    for (request, expected) in [
        (SinkRequest { procedure: None, ..handed_to("raises", Vec::new()) }, "UserErrorSettings"),
        (
            SinkRequest {
                procedure: Some(WriteProcedure {
                    name: "raises".into(),
                    table_type: Some("dbo.nothing".into()),
                    table_parameter: None,
                    parameters: Vec::new(),
                }),
                ..handed_to("raises", Vec::new())
            },
            "UserErrorProcedureMissing",
        ),
    ] {
        let words = text(server.sink(request).await.map(drop));
        assert!(words.starts_with(expected), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_that_commits_is_named_and_leaves_rows_and_mark_together() {
    let server = shop().await;
    server
        .run(
            "CREATE PROCEDURE commits @rows dbo.[odd rows] READONLY AS \
             INSERT INTO dst (id, name) SELECT id, name FROM @rows; COMMIT TRANSACTION",
        )
        .await;
    let source = server.source(table("src"), 1, 1000).await.expect("opens");
    let mut sink = server.sink(handed_to("commits", Vec::new())).await.expect("opens");
    let words = text(copy(source.as_ref(), sink.as_mut()).await);
    assert!(words.starts_with("UserErrorSettings") && words.contains("ended the transaction"), "{words}");
    assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, "100");
    assert!(
        matches!(sink.mark().await.expect("reads"), MarkState::Committed(_)),
        "whoever comes next hands nothing over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_procedure_prints_is_left_out_and_disturbs_nothing() {
    let server = shop().await;
    server
        .run(
            "CREATE PROCEDURE talks @n int, @twice int OUTPUT AS PRINT 'first'; RAISERROR('a notice', 5, 1); \
             SET @twice = @n * 2; PRINT 'last'; RETURN 3",
        )
        .await;
    let connection = server.open(server.settings(), "dmg/call").await.expect("opens");
    let call = ProcedureCall {
        name: "talks".into(),
        parameters: vec![
            ProcedureParameter { name: "n".into(), type_name: Some("Int32".into()), value: Some("4".into()) },
            ProcedureParameter { name: "twice".into(), type_name: Some("Int32".into()), value: None },
        ],
        timeout_seconds: Some(30),
    };
    let outcome = connection.call(&call).await.expect("calls");
    assert_eq!((outcome.return_status, outcome.outputs.get("twice")), (Some(3), Some(&Some("8".to_owned()))));
    assert!(outcome.messages.is_empty(), "the driver hands no messages on: docs/support.md says so");
}
