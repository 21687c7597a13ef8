//! How sessions with SQL Server begin and end: log-in by token, being sent on to another host, being turned away,
//! being cancelled. The other side is the TDS fixture, which checks and remembers.

use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_connector::Session;
use dmg_connector::conformance::TableWorld as _;
use dmg_protocol::job::ProcedureCall;
use dmg_protocol::{Secret, Secrets, WriteMode};
use dmg_tds_fixture::{Armed, Fault, Options};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::sql_server_support::SqlServer;
use crate::support::{LIMITS, copy, plan, request, table, text};

const RUN: &str = "5d1bff4e-53c9-4a05-b5a0-0d2b0a5c7b11";
/// How long a server may take to notice what is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let ambient = Ambient::real();
    let end = ambient.uptime() + PATIENCE;
    while !holds() {
        assert!(ambient.uptime() < end, "{what} did not come");
        ambient.sleep(Duration::from_millis(10)).await;
    }
}

/// What a probe with these settings and this one secret says.
async fn probe(server: &SqlServer, settings: Value, secret: (&str, &str)) -> String {
    let secrets: Secrets = [(secret.0.to_owned(), Secret::new(secret.1.to_owned()))].into_iter().collect();
    let session = Session::new(Ambient::real(), "dmg/probe");
    let store = dmg_tables::store("sqlserver").expect("is in the list");
    match store.open(&server.settings_with(settings), &secrets, session).await {
        Ok(connection) => match connection.probe().await {
            Ok(answer) => answer,
            Err(error) => error.fault.to_string(),
        },
        Err(error) => error.fault.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_logs_in_and_a_wrong_one_does_not() {
    let server = SqlServer::with(Options { token: "entra-token-1".into(), ..Options::default() }).await;
    let by_token = |encrypt: &str| json!({"authenticationType": "AccessToken", "user": "", "encrypt": encrypt});
    for encrypt in ["mandatory", "strict"] {
        let answer = probe(&server, by_token(encrypt), ("accessToken", "entra-token-1")).await;
        assert!(answer.starts_with("SQL Server "), "{answer}");
    }
    assert_eq!(server.asked("login entra sales dmg/probe"), 2, "the token was demanded and checked");
    let answer = probe(&server, by_token("mandatory"), ("accessToken", "entra-token-2")).await;
    assert!(answer.starts_with("UserErrorLoginRefused"), "{answer}");
    assert!(!answer.contains("entra-token"), "{answer}");
    assert_eq!(server.asked("login refused entra"), 1);
    for (settings, expected) in [
        (by_token("optional"), "UserErrorSettings"),
        (json!({"authenticationType": "ServicePrincipal"}), "UserErrorNotSupported"),
        (json!({"authenticationType": "SystemAssignedManagedIdentity"}), "UserErrorNotSupported"),
        (json!({"authenticationType": "Windows"}), "UserErrorNotSupported"),
    ] {
        let answer = probe(&server, settings.clone(), ("accessToken", "entra-token-1")).await;
        assert!(answer.starts_with(expected), "{settings}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_followed_to_hosts_that_are_named_only() {
    let (front, back) = (SqlServer::new().await, SqlServer::new().await);
    let password = front.secrets().get("password").expect("one").expose().clone();
    let sends_on = |host: &str, times| {
        front.fixture.clear_faults();
        let fault = Fault::Redirect(host.into(), back.fixture.port);
        front.fixture.fault(Armed { times, ..Armed::next(fault) });
    };
    // The same host, another port: where it sends us is where we are.
    sends_on("127.0.0.1", 1);
    let answer = probe(&front, json!({}), ("password", &password)).await;
    assert!(answer.starts_with("SQL Server "), "{answer}");
    assert_eq!(back.asked("login etl sales dmg/probe"), 1);

    // Another host gets nothing, not even a connection, unless the linked service names it.
    sends_on("localhost", 1);
    let before = back.asked("login");
    let answer = probe(&front, json!({}), ("password", &password)).await;
    assert!(answer.starts_with("UserErrorCredentialBound"), "{answer}");
    assert!(answer.contains(&format!("to localhost:{}", back.fixture.port)), "{answer}");
    assert_eq!(back.asked("login"), before, "nothing was sent there");
    sends_on("localhost", 1);
    let answer = probe(&front, json!({"redirectHosts": "db02,localhost"}), ("password", &password)).await;
    assert!(answer.starts_with("SQL Server "), "{answer}");
    assert_eq!(back.asked("login"), before + 1);

    // Around in circles.
    front.fixture.clear_faults();
    let own = Fault::Redirect("127.0.0.1".into(), front.fixture.port);
    front.fixture.fault(Armed { times: 100, ..Armed::next(own) });
    let answer = probe(&front, json!({}), ("password", &password)).await;
    assert!(answer.starts_with("StoreErrorAnswer"), "{answer}");
    front.fixture.clear_faults();

    // A whole copy, every session of which is sent on.
    back.make("src", 20_000).await;
    back.run("CREATE TABLE dst (id bigint NOT NULL, name nvarchar(400) NULL)").await;
    sends_on("127.0.0.1", 1000);
    let source = front.source(table("src"), 2, 5000).await.expect("opens");
    let mut sink = front.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    front.fixture.clear_faults();
    assert_eq!(back.value("SELECT COUNT(*) FROM dst").await, "20000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_log_in_is_tried_once() {
    let server = SqlServer::new().await;
    let settings = server.settings_with(json!({"user": "locked"}));
    let connection = server.open(settings, "dmg/test").await.expect("opens");
    let words = text(connection.source(&table("src"), 4, 1000).await);
    assert!(words.starts_with("UserErrorLoginRefused"), "{words}");
    let words = text(connection.sink(request(RUN, 1, "dst", WriteMode::Append)).await);
    assert!(words.starts_with("UserErrorLoginRefused"), "{words}");
    assert_eq!(server.asked("login refused locked"), 2, "one each: the server counts tries and locks the log-in");
}

/// What a server says instead of letting us in, and what is to be done.
const TURNED_AWAY: &[(i32, &str, &str)] = &[
    (17809, "StoreErrorConflict", "lower parallelCopies"),
    (10928, "StoreErrorConflict", "lower parallelCopies"),
    (18486, "UserErrorLoginRefused", "Do not run again before"),
    (18488, "UserErrorLoginRefused", "Change the password"),
    (18452, "UserErrorLoginRefused", ""),
    (40613, "NetworkErrorStoreUnreachable", ""),
    (40615, "UserErrorPermission", "firewall"),
    (17142, "NetworkErrorStoreUnreachable", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn who_is_turned_away_learns_why() {
    let server = SqlServer::new().await;
    server.make("src", 20_000).await;
    let before = server.fixture.sessions();
    for (number, code, words) in TURNED_AWAY {
        server.fixture.fault(Armed::next(Fault::LoginError(*number, "as the server says it".into())));
        let found = text(server.source(table("src"), 4, 1000).await.map(drop));
        assert!(found.starts_with(code) && found.contains(words), "{number}: {found}");
        assert_eq!(server.asked("login"), server.asked("login etl"), "{number}: tried once");
    }
    // The limit is reached by the third session of a source: none of the others stays.
    server.fixture.fault(Armed { after: 2, ..Armed::next(Fault::LoginError(17809, "too many".into())) });
    let found = text(server.source(table("src"), 4, 1000).await.map(drop));
    assert!(found.starts_with("StoreErrorConflict"), "{found}");
    until("the end of the sessions", || server.fixture.sessions() == before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_given_up_ends_at_the_server() {
    let server = SqlServer::new().await;
    server.make("src", 5000).await;
    let before = server.fixture.sessions();
    let source = server.source(table("src"), 1, 100_000).await.expect("opens");
    let mut stream = source.read(&source.parts()[0], LIMITS).await.expect("begins");
    stream.next().await.expect("there are rows").expect("reads");
    assert!(server.fixture.sessions() > before);
    drop(stream);
    until("the end of the session in the midst of its answer", || server.fixture.sessions() == before).await;
    let words = text(source.read(&source.parts()[0], LIMITS).await.map(drop));
    assert!(words.starts_with("UserErrorSourceChanged"), "another session would see another state: {words}");

    // A server that has not answered at all yet.
    let source = server.source(table("src"), 1, 100_000).await.expect("opens");
    server.fixture.fault(Armed { when: "SELECT [id]".into(), ..Armed::next(Fault::Delay(60_000)) });
    let mut stream = source.read(&source.parts()[0], LIMITS).await.expect("begins");
    let asked = server.asked("SELECT [id]");
    {
        let mut waiting = stream.next();
        tokio::select! {
            batch = &mut waiting => panic!("answered: {}", batch.is_some()),
            () = until("the request", || server.asked("SELECT [id]") > asked) => {}
        }
    }
    drop(stream);
    until("the end of the session before its answer", || server.fixture.sessions() == before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_load_that_is_given_up_leaves_nothing() {
    let server = SqlServer::new().await;
    server.make("src", 3000).await;
    server.run("CREATE TABLE dst (id bigint NOT NULL, name nvarchar(400) NULL)").await;
    let source = server.source(table("src"), 1, 100_000).await.expect("opens");
    let mut sink = server.sink(request(RUN, 1, "dst", WriteMode::Append)).await.expect("opens");
    plan(source.as_ref(), sink.as_mut()).await.expect("plans");
    sink.begin().await.expect("begins");
    let mut stream = source.read(&source.parts()[0], LIMITS).await.expect("begins");
    let batch = stream.next().await.expect("there are rows").expect("reads");
    let mut writer = sink.part(0).await.expect("opens");
    let before = server.fixture.sessions();
    // The source's own rows came by a bulk load as well.
    let loads = server.asked("rows of INSERT BULK");
    server.fixture.fault(Armed { when: "rows of INSERT BULK".into(), ..Armed::next(Fault::Delay(3000)) });
    {
        let mut writing = writer.write(batch.clone());
        tokio::select! {
            done = &mut writing => panic!("written: {}", done.is_ok()),
            () = until("the rows", || server.asked("rows of INSERT BULK") > loads) => {}
        }
    }
    let words = text(writer.write(batch.clone()).await);
    assert!(words.starts_with("SystemErrorInternal"), "a part that was given up takes no more rows: {words}");
    drop(writer);
    until("the end of the session", || server.fixture.sessions() < before).await;
    // The same attempt begins again.
    sink.begin().await.expect("finds the staging table free");
    let mut writer = sink.part(0).await.expect("opens");
    writer.write(batch).await.expect("writes");
    writer.finish().await.expect("ends");
    sink.abort().await.expect("cleans up");
    assert!(!server.names().await.iter().any(|name| name.starts_with("_dmg_")), "no staging left");
    assert_eq!(server.value("SELECT COUNT(*) FROM dst").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_that_takes_too_long_is_cancelled_by_attention() {
    let server = SqlServer::new().await;
    server.run("CREATE TABLE noted (n int NOT NULL); INSERT INTO noted VALUES (1)").await;
    server
        .run("CREATE PROCEDURE slow AS BEGIN TRAN; INSERT INTO noted VALUES (2); WAITFOR DELAY '00:01:00'; COMMIT")
        .await;
    let connection = server.open(server.settings(), "dmg/call").await.expect("opens");
    let call = ProcedureCall { name: "slow".into(), parameters: Vec::new(), timeout_seconds: Some(1) };
    let words = text(connection.call(&call).await);
    assert!(words.contains("was cancelled"), "{words}");
    assert_eq!(server.asked("attention"), 1, "the server was told");
    assert_eq!(server.value("SELECT COUNT(*) FROM noted").await, "1", "and undid what it had begun");
}
