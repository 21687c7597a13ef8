//! The stored procedure activity from document to server and back: parameters with types, output values, timeouts,
//! cancel, and that another call is said openly. PostgreSQL itself counts the calls.

use std::time::Duration;

use dmg_system_tests::{Answer, Database, Installation, dmg, need};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

const PROCEDURES: &str = "
CREATE TABLE calls (number int, name text, at timestamp, amount numeric, flag boolean);
CREATE PROCEDURE note(number int, name text, at timestamp, amount numeric, flag boolean, INOUT total bigint DEFAULT NULL)
LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO calls VALUES (number, name, at, amount, flag);
  SELECT count(*) INTO total FROM calls;
  RAISE NOTICE 'noted %', number;
END $$;
CREATE PROCEDURE fails(number int) LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO calls(number) VALUES (number); RAISE EXCEPTION 'the books are closed';
END $$;
CREATE PROCEDURE slow(number int) LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO calls(number) VALUES (number); PERFORM pg_sleep(600);
END $$;
";

struct World {
    site: Installation,
    database: Database,
}

impl World {
    fn new() -> Option<World> {
        let database = Database::create()?;
        database.sql(PROCEDURES);
        let site = Installation::start("info");
        let (host, port) = database.host_and_port();
        let password = std::fs::read_to_string(&database.password_file).expect("the password");
        let via = json!({ "referenceName": "onprem", "type": "IntegrationRuntimeReference" });
        let properties = json!({ "type": "PostgreSqlV2", "connectVia": via, "typeProperties": {
            "server": host, "port": port, "database": database.name, "username": database.user(), "sslMode": 0,
            "authenticationType": "Basic", "password": { "type": "SecureString", "value": password.trim() } } });
        site.put("linked-service", "pg", properties);
        Some(World { site, database })
    }

    fn activity(&self, name: &str, procedure: &str, parameters: Value, policy: Value) {
        let activity = json!({ "name": "call", "type": "SqlServerStoredProcedure", "policy": policy,
            "linkedServiceName": { "referenceName": "pg", "type": "LinkedServiceReference" },
            "typeProperties": { "storedProcedureName": procedure, "storedProcedureParameters": parameters } });
        self.site.put("pipeline", name, json!({ "activities": [activity] }));
    }

    fn run(&self, pipeline: &str) -> (String, Value) {
        let run = self.site.run(pipeline);
        let (status, shown) = self.site.wait_run(&run, DEADLINE);
        (status, shown["activities"][0].clone())
    }
}

#[test]
fn parameters_go_in_and_output_values_come_back() {
    let world = need!(World::new());
    let parameters = json!({
        "number": { "value": "@add(40, 2)", "type": "Int32" },
        "name": { "value": "it's \"quoted\"; DROP TABLE calls", "type": "String" },
        "at": { "value": "2026-01-02T03:04:05", "type": "DateTime" },
        "amount": { "value": "12.345", "type": "Decimal" },
        "flag": { "value": true, "type": "Boolean" },
    });
    world.activity("notes", "public.note", parameters, json!({ "timeout": "0.00:01:00" }));
    let (status, activity) = world.run("notes");
    assert_eq!(status, "Succeeded", "{activity:#}");
    let output = &activity["output"];
    assert_eq!(output["outputParameters"]["total"], "1", "{output:#}");
    assert_eq!(output["delivery"], json!({ "guarantee": "atLeastOnce", "callsAtMost": 1 }));
    assert_eq!(output["effectiveIntegrationRuntime"], "onprem");
    assert!(output["messages"][0].as_str().is_some_and(|text| text.contains("noted 42")), "{output:#}");
    assert_eq!(
        world.database.sql("SELECT * FROM calls").trim(),
        "42|it's \"quoted\"; DROP TABLE calls|2026-01-02 03:04:05|12.345|t"
    );
    let _ = world.site.dmg(["run", "show", activity["pipelineRunId"].as_str().expect("a run")]).ok();
}

#[test]
fn failures_roll_back_and_say_what_the_server_said() {
    let world = need!(World::new());
    let one = json!({ "number": { "value": 1, "type": "Int" } });
    world.activity("fails", "fails", one.clone(), json!({}));
    let (status, activity) = world.run("fails");
    assert_eq!(status, "Failed");
    let message = activity["error"]["message"].as_str().expect("a message");
    assert!(message.contains("The procedure ended with error P0001: the books are closed."), "{message}");
    world.activity("missing", "no_such_procedure", one.clone(), json!({}));
    let (status, activity) = world.run("missing");
    assert_eq!((status.as_str(), &activity["error"]["errorCode"]), ("Failed", &json!("UserErrorProcedureMissing")));
    let (status, activity) = {
        let wrong = json!({ "number": { "value": 1, "type": "Money" } });
        world.activity("wrong", "fails", wrong, json!({}));
        world.run("wrong")
    };
    assert_eq!((status.as_str(), &activity["error"]["errorCode"]), ("Failed", &json!("UserErrorDocument")));
    assert_eq!(world.database.number("SELECT count(*) FROM calls"), 0, "what failed left nothing");
}

#[test]
fn a_slow_procedure_is_stopped_at_the_server() {
    let world = need!(World::new());
    let parameters = json!({ "number": { "value": 1, "type": "Int" } });
    let sleeping = || {
        let busy =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
        world.database.number(busy)
    };
    world.activity("late", "slow", parameters.clone(), json!({ "timeout": "0.00:00:03" }));
    let (status, activity) = world.run("late");
    assert_eq!((status.as_str(), &activity["status"]), ("Failed", &json!("TimedOut")), "{activity:#}");
    dmg_system_tests::wait::until("the server to stop", DEADLINE, || (sleeping() == 0).then_some(()));

    world.activity("cancelled", "slow", parameters, json!({}));
    let run = world.site.run("cancelled");
    dmg_system_tests::wait::until("the procedure to run", DEADLINE, || (sleeping() == 1).then_some(()));
    let _ = world.site.dmg(["run", "cancel", &run]).ok();
    let (status, _) = world.site.wait_run(&run, DEADLINE);
    assert_eq!(status, "Cancelled");
    dmg_system_tests::wait::until("the server to stop", DEADLINE, || (sleeping() == 0).then_some(()));
    assert_eq!(world.database.number("SELECT count(*) FROM calls"), 0, "what was stopped left nothing");
}

/// A worker that dies takes its answer with it: the procedure is called again, and the output says that it may have
/// been called twice.
#[test]
fn a_lost_answer_is_followed_by_another_call_and_said() {
    let world = need!(World::new());
    world.database.sql(
        "CREATE SEQUENCE tries; CREATE PROCEDURE once_slow() LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('tries') = 1 THEN PERFORM pg_sleep(600); END IF; END $$",
    );
    world.activity("again", "once_slow", json!({}), json!({}));
    let run = world.site.run("again");
    let worker = dmg_system_tests::wait::until("the first call", DEADLINE, || {
        let tried = world.database.sql("SELECT is_called FROM tries");
        (tried.trim() == "t").then(|| world.site.workers().first().copied()).flatten()
    });
    dmg_system_tests::installation::kill_process(worker);
    let (status, shown) = world.site.wait_run(&run, DEADLINE);
    assert_eq!(status, "Succeeded", "{shown:#}");
    assert_eq!(world.database.number("SELECT last_value FROM tries"), 2);
    let delivery = &shown["activities"][0]["output"]["delivery"];
    assert_eq!(*delivery, json!({ "guarantee": "atLeastOnce", "callsAtMost": 2 }));
}

#[test]
fn version_1_takes_the_database_of_its_output_dataset() {
    let world = need!(World::new());
    let (host, port) = world.database.host_and_port();
    let password = std::fs::read_to_string(&world.database.password_file).expect("the password");
    let site = &world.site;
    site.put(
        "linked-service",
        "pg1",
        json!({ "type": "OnPremisesPostgreSql", "typeProperties": { "server": host, "port": port,
            "database": world.database.name, "authenticationType": "Basic", "username": world.database.user(),
            "password": password.trim(), "gatewayName": "onprem" } }),
    );
    site.put(
        "dataset",
        "done",
        json!({ "type": "RelationalTable", "linkedServiceName": "pg1", "typeProperties": { "tableName": "calls" },
            "availability": { "frequency": "Day", "interval": 1 } }),
    );
    site.put(
        "pipeline",
        "v1",
        json!({ "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", "activities": [{
            "name": "call", "type": "SqlServerStoredProcedure", "outputs": [{ "name": "done" }],
            "typeProperties": { "storedProcedureName": "note", "storedProcedureParameters": {
                "number": "7", "name": null, "at": "2026-01-02", "amount": "1.5", "flag": "false" } } }] }),
    );
    let (status, activity) = world.run("v1");
    assert_eq!(status, "Succeeded", "{activity:#}");
    assert_eq!(world.database.sql("SELECT * FROM calls").trim(), "7||2026-01-02 00:00:00|1.5|f");
}

#[test]
fn a_procedure_of_mariadb_is_called_too() {
    let database = need!(dmg_system_tests::mariadb::Database::create());
    database.sql(
        "CREATE TABLE calls (number int, name text, at datetime, flag boolean);\nDELIMITER //\n\
         CREATE PROCEDURE note(number int, name text, at datetime, flag boolean, OUT total bigint) BEGIN \
         INSERT INTO calls VALUES (number, name, at, flag); SELECT count(*) INTO total FROM calls; END //\n",
    );
    let site = Installation::start("info");
    let (host, port) = database.host_and_port();
    let password = std::fs::read_to_string(&database.password_file).expect("the password");
    let via = json!({ "referenceName": "onprem", "type": "IntegrationRuntimeReference" });
    let properties = json!({ "type": "MariaDB", "connectVia": via, "typeProperties": {
        "driverVersion": "v2", "server": host, "port": port, "database": database.name, "username": database.user(),
        "sslMode": 0, "password": { "type": "SecureString", "value": password.trim() } } });
    site.put("linked-service", "maria", properties);
    let parameters = json!({ "number": { "value": 3, "type": "Int" }, "name": { "value": null },
        "at": { "value": "2026-01-02T03:04:05", "type": "DateTime" }, "flag": { "value": true, "type": "Boolean" } });
    let activity = json!({ "name": "call", "type": "SqlServerStoredProcedure",
        "linkedServiceName": { "referenceName": "maria", "type": "LinkedServiceReference" },
        "typeProperties": { "storedProcedureName": "note", "storedProcedureParameters": parameters } });
    site.put("pipeline", "notes", json!({ "activities": [activity] }));
    let (status, shown) = site.wait_run(&site.run("notes"), DEADLINE);
    assert_eq!(status, "Succeeded", "{shown:#}");
    assert_eq!(shown["activities"][0]["output"]["outputParameters"], json!({ "total": "1" }));
    assert_eq!(database.sql("SELECT * FROM calls").trim(), "3\tNULL\t2026-01-02 03:04:05\t1");
}

#[test]
fn a_call_straight_from_this_machine() {
    let database = need!(Database::create());
    database.sql(PROCEDURES);
    let url = database.url();
    let call = |arguments: &[&str]| {
        let secret = ["--secret-file", &database.password_file];
        Answer::of(dmg(["store", "call", &url]).args(arguments).args(secret))
    };
    let given = ["--param", "number=5:Int32", "--param", "name", "--param", "at=2026-01-02 10:30:00", "--param"];
    let answer =
        call(&[["note"].as_slice(), &given, &["amount=2.5:Decimal", "--param", "flag=false:Boolean"]].concat());
    let answer = answer.ok();
    assert!(answer.output.contains("total = 1"), "{}", answer.output);
    assert_eq!(database.sql("SELECT * FROM calls").trim(), "5||2026-01-02 10:30:00|2.5|f");
    let _ = call(&["note", "--param", "numbr=5:Int32"]).fault("UserError");
    let started = dmg_system_tests::wait::now();
    let _ = call(&["slow", "--param", "number=5:Int32", "--timeout", "1"]).fault("StoreErrorTimeout");
    assert!(started.elapsed() < Duration::from_secs(30));
}
