//! Stored procedures and functions called from outside of a copy, and commands cancelled at the server. Needs a server
//! (DMG_TEST_POSTGRES).

use std::time::Duration;

use crate::support::{LIMITS, World, code, query, text};
use dmg_ambient::Ambient;
use dmg_connector::Result;
use dmg_protocol::job::{ProcedureCall, ProcedureOutcome, ProcedureParameter};
use futures::StreamExt;

fn procedure(name: &str, parameters: &[(&str, Option<&str>)]) -> ProcedureCall {
    let parameters = parameters.iter().map(|(name, value)| ProcedureParameter {
        name: (*name).to_owned(),
        type_name: None,
        value: value.map(str::to_owned),
    });
    ProcedureCall { name: name.to_owned(), parameters: parameters.collect(), timeout_seconds: None }
}

async fn call(world: &World, call: &ProcedureCall) -> Result<ProcedureOutcome> {
    world.open(world.settings(), "dmg/call").await?.call(call).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_in_and_what_comes_back() {
    let Some(world) = World::new("call").await else { return };
    world
        .run(
            "CREATE TABLE seen (n numeric, at timestamptz, ok boolean, t text); CREATE SCHEMA \"Etl\"; \
             CREATE PROCEDURE \"Etl\".\"Load It\"(OUT word text, n numeric, at timestamptz, \"Ok\" boolean, \
               t text DEFAULT 'none', INOUT rows int DEFAULT 5) LANGUAGE plpgsql AS \
              'BEGIN INSERT INTO seen VALUES (n, at, \"Ok\", t); RAISE NOTICE ''half %'', n; rows := rows + 1; word := NULL; END'; \
             CREATE FUNCTION add(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b'; \
             CREATE FUNCTION add(a int, b int, c int) RETURNS int LANGUAGE sql AS 'SELECT a + b + c'; \
             CREATE FUNCTION several(OUT x int, OUT y text) LANGUAGE sql AS 'SELECT 1, ''two'''; \
             CREATE FUNCTION many() RETURNS SETOF int LANGUAGE sql AS 'SELECT generate_series(1, 100000)'; \
             CREATE PROCEDURE in_steps(n int) LANGUAGE plpgsql AS \
              'BEGIN INSERT INTO seen VALUES (n); COMMIT; INSERT INTO seen VALUES (n + 1); ROLLBACK; END'",
        )
        .await;
    let parameters = [("n", Some("1.50")), ("AT", Some("2024-02-29T12:00:00Z")), ("ok", Some("True")), ("t", None)];
    let outcome = call(&world, &procedure("[Etl].[Load It]", &parameters)).await.expect("calls");
    assert_eq!(outcome.outputs.get("rows"), Some(&Some("6".to_owned())));
    assert_eq!(outcome.outputs.get("word"), Some(&None));
    assert_eq!(outcome.messages, ["NOTICE: half 1.50"]);
    assert_eq!(world.value("SELECT s::text FROM seen s").await, "(1.50,\"2024-02-29 12:00:00+00\",t,)");

    let outcome = call(&world, &procedure("add", &[("b", Some("2")), ("a", Some("40"))])).await.expect("calls");
    assert_eq!(outcome.return_status, Some(42));
    let three = [("b", Some("2")), ("a", Some("40")), ("c", Some("1"))];
    assert_eq!(call(&world, &procedure("ADD", &three)).await.expect("calls").return_status, Some(43));
    let outcome = call(&world, &procedure("public.several", &[])).await.expect("calls");
    assert_eq!(outcome.outputs.get("y"), Some(&Some("two".to_owned())));
    assert!(call(&world, &procedure("many", &[])).await.expect("calls").outputs.is_empty(), "rows are no outputs");
    call(&world, &procedure("in_steps", &[("n", Some("7"))])).await.expect("may have its own transactions");
    assert_eq!(world.value("SELECT string_agg(n::text, ',') FROM seen WHERE n IN (7, 8)").await, "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_called() {
    let Some(world) = World::new("call_fails").await else { return };
    world
        .run(
            "CREATE TABLE seen (n int PRIMARY KEY); \
             CREATE PROCEDURE load(n int) LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES (n); PERFORM pg_sleep(n); END'",
        )
        .await;
    for (name, parameters, expected) in [
        ("nope", &[][..], "UserErrorProcedureMissing: "),
        ("load; DROP TABLE seen", &[], "UserErrorProcedureMissing: "),
        ("load", &[], "UserErrorSettings: public.load needs its parameter \"n\". It takes: n."),
        ("load", &[("m", Some("1"))], "UserErrorSettings: public.load has no parameter \"m\". It takes: n."),
        ("load", &[("n", Some("many"))], "UserErrorValue: "),
        ("load", &[("n", None)], "UserErrorValue: "),
    ] {
        let words = text(call(&world, &procedure(name, parameters)).await);
        assert!(words.starts_with(expected), "{name} {parameters:?}: {words}");
    }
    let mut slow = procedure("load", &[("n", Some("60"))]);
    slow.timeout_seconds = Some(1);
    let words = text(call(&world, &slow).await);
    assert!(words.contains("StoreErrorTimeout: The stored procedure \"load\" did not end within 1 s"), "{words}");
    assert_eq!(world.value("SELECT count(*) FROM seen").await, "0");
}

/// Waits until nothing of that name is at work, for less than the server itself would take to notice.
async fn ended(world: &World, application: &str) -> bool {
    let busy = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}' AND state = 'active' \
         AND datname = current_database()"
    );
    let ambient = Ambient::real();
    let deadline = ambient.uptime() + Duration::from_secs(3);
    while world.value(&busy).await != "0" {
        if ambient.uptime() > deadline {
            return false;
        }
        ambient.sleep(Duration::from_millis(20)).await;
    }
    true
}

async fn started(world: &World, application: &str) {
    let busy = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}' AND wait_event = 'PgSleep'"
    );
    let ambient = Ambient::real();
    let deadline = ambient.uptime() + Duration::from_secs(20);
    while world.value(&busy).await == "0" {
        assert!(ambient.uptime() < deadline, "it does not start");
        ambient.sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_away_stops_the_server() {
    let Some(world) = World::new("cancel").await else { return };
    // Without this, the server notices by itself, only later.
    world.run(&format!("ALTER DATABASE {} SET client_connection_check_interval = 0", world.database)).await;
    world.run("CREATE PROCEDURE sleep() LANGUAGE sql AS 'SELECT pg_sleep(600)'").await;
    let connection = world.open(world.settings(), "dmg/call").await.expect("opens");
    let sleeping = procedure("sleep", &[]);
    tokio::select! {
        outcome = connection.call(&sleeping) => panic!("{outcome:?}"),
        () = started(&world, "dmg/call") => {}
    }
    assert!(ended(&world, "dmg/call").await, "the call goes on");

    let source = world.source(query("SELECT 1 AS one FROM pg_sleep(600)"), 1, 1000).await.expect("opens");
    let reading = async { source.read(&source.parts()[0], LIMITS).await.expect("starts").next().await };
    tokio::select! {
        batch = reading => panic!("{batch:?}"),
        () = started(&world, "dmg/test") => {}
    }
    assert!(ended(&world, "dmg/test").await, "the query goes on");
    assert_eq!(code(source.finish().await), "no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_around() {
    let Some(world) = World::new("browse").await else { return };
    world
        .run(
            "CREATE SCHEMA \"Zoo\"; CREATE TABLE \"Zoo\".\"B\" AS SELECT g AS id FROM generate_series(1, 1000) g; \
             ANALYZE \"Zoo\".\"B\"; CREATE VIEW \"Zoo\".a AS SELECT 1 AS x, 'y'::varchar(5) AS y; \
             CREATE TABLE \"Zoo\".__dmg_commit (a int); CREATE TABLE \"Zoo\"._dmg_0123456789ab_1 (a int); \
             CREATE TABLE keyed (a int PRIMARY KEY, b text NOT NULL, c numeric(5,2))",
        )
        .await;
    let connection = world.open(world.settings(), "dmg/browse").await.expect("opens");
    assert_eq!(connection.schemas().await.expect("lists"), ["Zoo", "public"]);
    let tables = connection.tables(Some("Zoo"), 10).await.expect("lists");
    let lines: Vec<_> =
        tables.iter().map(|table| (table.name.as_str(), table.kind.as_str(), table.rows_estimate)).collect();
    assert_eq!(lines, [("B", "table", Some(1000)), ("a", "view", None)]);
    assert_eq!(tables[0].schema.as_deref(), Some("Zoo"));
    assert!(tables[0].bytes.is_some_and(|bytes| bytes > 0));
    assert_eq!(code(connection.tables(Some("zoo"), 10).await), "UserErrorContainerMissing");
    let columns = connection.describe(&crate::support::table("keyed")).await.expect("describes");
    let columns: Vec<_> = columns
        .iter()
        .map(|column| (column.name.as_str(), column.type_name.as_str(), column.nullable, column.key))
        .collect();
    assert_eq!(
        columns,
        [("a", "integer", false, true), ("b", "text", false, false), ("c", "numeric(5,2)", true, false)]
    );
    assert_eq!(connection.describe(&query("SELECT 1 AS n;")).await.expect("describes")[0].name, "n");
}
