//! Copies between tables of the SQL Server fixture: every type there and back, every mode, and what must be refused.

use dmg_connector::conformance::TableWorld as _;
use dmg_connector::{Digester, MarkState, published_seed};
use dmg_protocol::job::{ProcedureCall, ProcedureParameter};
use dmg_protocol::{Epoch, Verdict, WriteMode};
use serde_json::json;

use crate::sql_server_support::SqlServer;
use crate::support::{code, content, copy, digest, plan, request, stage, staged, table, text};

const RUN: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// One column of every type, three rows: ordinary values, the extremes, NULL.
const WIDE: &[Typed] = &[
    ("bit", "1", "0"),
    ("tinyint", "0", "255"),
    ("smallint", "-32768", "32767"),
    ("int", "-2147483648", "2147483647"),
    ("bigint", "-9223372036854775808", "9223372036854775807"),
    ("real", "1.5", "-0.25"),
    ("float", "0.1", "-1.7976931348623157E+308"),
    ("smallmoney", "-214748.3648", "214748.3647"),
    ("money", "-922337203685477.5808", "922337203685477.5807"),
    ("decimal(10,2)", "-12345678.90", "0.01"),
    ("numeric(38,10)", "1234567890123456789012345678.0123456789", "-0.0000000001"),
    ("date", "'0001-01-01'", "'9999-12-31'"),
    ("time(0)", "'00:00:00'", "'23:59:59'"),
    ("time(3)", "'00:00:00.001'", "'23:59:59.999'"),
    ("time(7)", "'00:00:00.0000001'", "'23:59:59.9999999'"),
    ("smalldatetime", "'1900-01-01 00:00:00'", "'2079-06-06 23:59:00'"),
    ("datetime", "'1753-01-01 00:00:00.003'", "'9999-12-31 23:59:59.997'"),
    ("datetime2(0)", "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59'"),
    ("datetime2(3)", "'2024-02-29 12:34:56.789'", "'1969-12-31 23:59:59.999'"),
    ("datetime2(7)", "'0001-01-01 00:00:00.0000001'", "'9999-12-31 23:59:59.9999999'"),
    ("datetimeoffset(0)", "'2024-02-29 00:30:00 +05:30'", "'2024-02-29 23:30:00 -14:00'"),
    ("datetimeoffset(7)", "'2024-02-29 00:30:00.1234567 +05:30'", "'1969-12-31 23:59:59.9999999 -03:30'"),
    ("char(5)", "'abc  '", "'12345'"),
    ("varchar(20)", "''", "'it''s caf\u{e9}'"),
    ("varchar(max)", "'plain'", "'more'"),
    ("text", "'old'", "''"),
    ("nchar(4)", "N'\u{17c}\u{f3}\u{142}w'", "N'    '"),
    ("nvarchar(20)", "N''", "N'\u{1f600} it''s'"),
    ("nvarchar(3000)", "N'wide'", "N' padded '"),
    ("nvarchar(max)", "N'line\nbreak'", "N'\u{10ffff}'"),
    ("ntext", "N'older'", "N'\u{e9}'"),
    ("binary(4)", "0x00FF00FF", "0x00000000"),
    ("varbinary(10)", "0x", "0xDEADBEEF"),
    ("varbinary(max)", "0x00", "0x010203"),
    ("image", "0xFF", "0x"),
    ("uniqueidentifier", "'00112233-4455-6677-8899-AABBCCDDEEFF'", "'FFFFFFFF-0000-0000-0000-000000000001'"),
    ("xml", "'<a>1</a>'", "'<b x=\"2\"/>'"),
];

type Typed = (&'static str, &'static str, &'static str);

fn wide(name: &str, typed: &[Typed]) -> String {
    let columns: Vec<String> =
        typed.iter().enumerate().map(|(index, (kind, _, _))| format!("c{index} {kind} NULL")).collect();
    format!("CREATE TABLE {name} (id int NOT NULL, {})", columns.join(", "))
}

async fn fill(server: &SqlServer, name: &str, typed: &[Typed]) {
    server.run(&wide(name, typed)).await;
    let row = |id: u32, pick: &dyn Fn(&Typed) -> String| {
        let values: Vec<String> = typed.iter().map(pick).collect();
        format!("INSERT INTO {name} VALUES ({id}, {})", values.join(", "))
    };
    server.run(&row(1, &|column| column.1.to_owned())).await;
    server.run(&row(2, &|column| column.2.to_owned())).await;
    server.run(&row(3, &|_| "NULL".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_goes_there_and_back() {
    let server = SqlServer::new().await;
    fill(&server, "wide", WIDE).await;
    server.run(&wide("arrived", WIDE)).await;
    let source = server.source(table("wide"), 2, 100_000).await.expect("opens");
    let mut sink = server.sink(request(RUN, 1, "arrived", WriteMode::Append)).await.expect("opens");
    let plans = plan(source.as_ref(), sink.as_mut()).await.expect("plans");
    for plan in &plans {
        assert!(plan.verdict <= Verdict::Checked, "column {} is {}", plan.sink, plan.verdict);
    }
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    assert_eq!(staged(sink.as_ref(), source.columns()).await.expect("reads back").row_hex(), sums.row_hex());
    sink.commit(&content(&sums)).await.expect("commits");
    let expected = server.rows("SELECT * FROM wide ORDER BY id").await;
    assert_eq!(server.rows("SELECT * FROM arrived ORDER BY id").await, expected);
    assert_eq!(expected.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_makes_a_table_that_holds_it() {
    let server = SqlServer::new().await;
    // XML becomes text in a table that is made: the name of the type is another engine's too.
    let (last, typed) = WIDE.split_last().expect("there are types");
    assert_eq!(last.0, "xml");
    fill(&server, "wide", typed).await;
    let source = server.source(table("wide"), 1, 100_000).await.expect("opens");
    let mut wanted = request(RUN, 1, "made", WriteMode::Overwrite);
    wanted.create_table = true;
    let mut sink = server.sink(wanted).await.expect("opens");
    let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
    sink.commit(&content(&sums)).await.expect("commits");
    let back = sink.committed(2).await.expect("opens").expect("can be read");
    let mut digester = Digester::new(back.columns(), published_seed());
    for batch in crate::support::read_all(back.as_ref(), crate::support::LIMITS).await.expect("reads") {
        digester.update(&batch).expect("digests");
    }
    assert_eq!(digester.finish().rows, 3);
    assert_eq!(server.value("SELECT COUNT(*) FROM made").await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_arrive_whole() {
    let server = SqlServer::new().await;
    for name in ["large", "arrived"] {
        server
            .run(&format!("CREATE TABLE {name} (id int NOT NULL, t nvarchar(max) NULL, b varbinary(max) NULL)"))
            .await;
    }
    let long = "\u{17c}".repeat(50_000);
    let octets = "0A".repeat(80_000);
    server.run(&format!("INSERT INTO large VALUES (1, N'{long}', 0x{octets})")).await;
    server.run("INSERT INTO large VALUES (2, N'short', 0x01)").await;
    let source = server.source(table("large"), 1, 100_000).await.expect("opens");
    let mut sink = server.sink(request(RUN, 1, "arrived", WriteMode::Append)).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    let lengths = "SELECT LEN(t), DATALENGTH(b) FROM arrived ORDER BY id";
    assert_eq!(server.rows(lengths).await, [["50000", "80000"], ["5", "1"]]);
    let target = server.source(table("arrived"), 1, 100_000).await.expect("opens");
    let columns = source.columns().to_vec();
    let source = server.source(table("large"), 1, 100_000).await.expect("opens");
    let sums = digest(source.as_ref(), &columns).await.expect("reads");
    assert_eq!(digest(target.as_ref(), &columns).await.expect("reads").row_hex(), sums.row_hex());
}

async fn numbers(server: &SqlServer) {
    server.make("src", 3000).await;
    server
        .run(
            "CREATE TABLE dst (id bigint NOT NULL, name nvarchar(400) NULL, added int NULL, doubled AS id * 2); \
             INSERT INTO dst (id, name) VALUES (0, N'old')",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_refuses_changes_nothing() {
    let server = SqlServer::new().await;
    numbers(&server).await;
    server
        .run(
            "CREATE TABLE short (id bigint NOT NULL, name nvarchar(2) NULL); \
             CREATE TABLE required (id bigint NOT NULL, name nvarchar(400) NOT NULL); \
             CREATE TABLE keyed (id bigint NOT NULL PRIMARY KEY, name nvarchar(400) NULL); \
             INSERT INTO keyed VALUES (5, N'old'); \
             CREATE TABLE holes (id bigint NOT NULL, name nvarchar(400) NULL); INSERT INTO holes VALUES (1, NULL)",
        )
        .await;
    for (from, to, expected, naming) in [
        ("src", "short", "UserErrorValue", "column \"name\" (nvarchar(2)) in row 1 of its part is longer"),
        ("holes", "required", "UserErrorValue", "column \"name\" (nvarchar(400)) in row 1 of its part is NULL"),
        ("src", "keyed", "UserErrorDuplicateKey", "a row whose key is there already"),
    ] {
        let source = server.source(table(from), 1, 5000).await.expect("opens");
        let mut sink = server.sink(request(RUN, 1, to, WriteMode::Append)).await.expect("opens");
        let before = server.value(&format!("SELECT COUNT(*) FROM {to}")).await;
        let words = text(copy(source.as_ref(), sink.as_mut()).await);
        assert!(words.starts_with(expected) && words.contains(naming), "{to}: {words}");
        sink.abort().await.expect("cleans up");
        assert_eq!(server.value(&format!("SELECT COUNT(*) FROM {to}")).await, before);
    }
    let mut wanted = request(RUN, 1, "dst", WriteMode::Append);
    wanted.pre_copy_script = Some("COMMIT TRANSACTION; BEGIN TRANSACTION".to_owned());
    let source = server.source(table("src"), 1, 5000).await.expect("opens");
    let mut sink = server.sink(wanted).await.expect("opens");
    assert_eq!(code(copy(source.as_ref(), sink.as_mut()).await), "UserErrorSettings");
    sink.abort().await.expect("cleans up");
    assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, "1");
    assert_eq!(server.value("SELECT COUNT(*) FROM __dmg_commit").await, "0", "no mark");
    assert!(!server.names().await.iter().any(|name| name.starts_with("_dmg_")), "no staging left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_runs_in_the_commit_and_a_successor_fences() {
    let server = SqlServer::new().await;
    numbers(&server).await;
    server.run("CREATE TABLE noted (n int NOT NULL)").await;
    let open = |epoch| {
        let mut wanted = request(RUN, epoch, "dst", WriteMode::Overwrite);
        wanted.pre_copy_script = Some("INSERT INTO noted SELECT COUNT(*) FROM dst".to_owned());
        server.sink(wanted)
    };
    let source = server.source(table("src"), 1, 5000).await.expect("opens");
    let mut zombie = open(1).await.expect("opens");
    let old = stage(source.as_ref(), zombie.as_mut()).await.expect("stages");
    let source = server.source(table("src"), 1, 5000).await.expect("opens");
    let mut successor = open(2).await.expect("opens");
    let read = stage(source.as_ref(), successor.as_mut()).await.expect("stages");
    assert_eq!(code(zombie.commit(&content(&old)).await), "SystemErrorLeaseLost");
    assert_eq!(zombie.mark().await.expect("reads"), MarkState::Newer(Epoch(2)));
    successor.commit(&content(&read)).await.expect("commits");
    assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, "3000");
    assert_eq!(server.rows("SELECT n FROM noted").await, [["1"]], "once, before, in the same transaction");
    assert_eq!(code(zombie.commit(&content(&old)).await), "no failure", "finds the mark and says the same");
}

fn parameter(name: &str, type_name: &str, value: &str) -> ProcedureParameter {
    ProcedureParameter { name: name.into(), type_name: Some(type_name.into()), value: Some(value.into()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_gives_output_values_and_a_status() {
    let server = SqlServer::new().await;
    server.run("CREATE PROCEDURE twice @n int, @double int OUTPUT AS SET @double = @n * 2; RETURN 7").await;
    let connection = server.open(server.settings(), "dmg/call").await.expect("opens");
    let call = ProcedureCall {
        name: "dbo.twice".into(),
        parameters: vec![parameter("n", "Int32", "21"), parameter("double", "Int32", "0")],
        timeout_seconds: Some(30),
    };
    let outcome = connection.call(&call).await.expect("calls");
    assert_eq!(outcome.outputs.get("double"), Some(&Some("42".to_owned())));
    assert_eq!(outcome.return_status, Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_missing_database_are_told_apart() {
    let server = SqlServer::new().await;
    for (settings, expected) in [
        (json!({"user": "nobody"}), "UserErrorLoginRefused"),
        (json!({"database": "no_such_database"}), "UserErrorContainerMissing"),
        (json!({"trustServerCertificate": "false"}), "NetworkErrorTls"),
    ] {
        let connection = server.open(server.settings_with(settings.clone()), "dmg/probe").await.expect("opens");
        let words = text(connection.probe().await);
        assert!(words.starts_with(expected), "{settings}: {words}");
    }
    for encrypt in ["optional", "mandatory", "strict"] {
        let settings = server.settings_with(json!({"encrypt": encrypt}));
        let answer = server.open(settings, "dmg/probe").await.expect("opens").probe().await.expect(encrypt);
        assert!(answer.starts_with("SQL Server "), "{answer}");
    }
}
