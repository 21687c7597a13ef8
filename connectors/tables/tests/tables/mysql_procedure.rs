//! Procedures of MariaDB that are called by somebody: one that commits by itself leaves no mark that would say that half a
//! copy is a whole one, and what one signals reaches its caller. Judged by the `mariadb` client.

use dmg_connector::{MarkState, SinkRequest};
use dmg_protocol::WriteMode;
use dmg_protocol::job::{ProcedureCall, ProcedureParameter, WriteProcedure};

use crate::mysql_support::MariaDb;
use crate::mysql_write::{WIDE, columns};
use crate::support::{code, content, copy, request, stage, table};

#[tokio::test(flavor = "multi_thread")]
async fn a_procedure_that_commits_leaves_no_mark() {
    let Some(world) = MariaDb::new("commits") else { return };
    world.run("CREATE TABLE src AS SELECT CAST(seq AS signed) AS id FROM seq_1_to_10; CREATE TABLE sink (id bigint)");
    for (number, ends) in
        ["COMMIT", "COMMIT; START TRANSACTION", "CREATE OR REPLACE TABLE ddl (a int)"].into_iter().enumerate()
    {
        world.run(&format!(
            "DELETE FROM sink;\nDELIMITER //\nCREATE OR REPLACE PROCEDURE sneaky(IN id bigint) BEGIN INSERT INTO sink VALUES (id); \
             IF id = 7 THEN {ends}; END IF; END //\nDELIMITER ;\n"
        ));
        let run = world.run_id(number as u8);
        let request = |epoch| {
            let name = "sneaky".to_owned();
            let procedure = WriteProcedure { name, table_type: None, table_parameter: None, parameters: Vec::new() };
            let mut request = request(&run, epoch, "sink", WriteMode::Procedure);
            request.procedure = Some(procedure);
            request
        };
        let source = world.source(table("src"), 1, 100_000).await.expect("opens");
        let mut sink = world.sink(request(1)).await.expect("opens");
        let sums = stage(source.as_ref(), sink.as_mut()).await.expect("stages");
        let error = sink.commit(&content(&sums)).await.expect_err("it ended the transaction");
        assert_eq!(error.fault.code, "UserErrorSettings", "{ends}: {error}");
        assert!(error.fault.message.contains("ended the transaction"), "{error}");
        assert!(!error.outcome_unknown, "{ends}");
        assert_eq!(world.run("SELECT COUNT(*) FROM sink WHERE id = 7"), "1", "{ends}: what it committed is there");
        let next = world.sink(request(2)).await.expect("opens");
        assert_eq!(next.mark().await.expect("reads"), MarkState::None, "{ends}: nobody may take it for a copy");
        sink.abort().await.expect("removes what was staged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_reaches_the_procedure_as_it_was_proven() {
    let Some(world) = MariaDb::new("takes") else { return };
    world.run(WIDE);
    world.run("CREATE TABLE sink LIKE wide");
    let types = "SELECT CONCAT('IN `', COLUMN_NAME, '` ', COLUMN_TYPE, COALESCE(CONCAT(' CHARACTER SET ', \
        IF(COLUMN_TYPE = 'json', NULL, CHARACTER_SET_NAME), ' COLLATE ', COLLATION_NAME), '')) FROM information_schema.COLUMNS \
        WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'wide' ORDER BY ORDINAL_POSITION";
    let parameters = world.run(types).lines().collect::<Vec<_>>().join(", ");
    let names = columns(&world, "wide");
    let list = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    // What one does without a handler of its own must not end the loop over the rows.
    world.run(&format!(
        "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';\nDELIMITER //\n\
         CREATE PROCEDURE takes({parameters}, IN `made by` varchar(20)) BEGIN DECLARE nothing int; \
         SELECT 1 INTO nothing FROM sink WHERE FALSE; SELECT id, v; \
         INSERT INTO sink ({list}) SELECT {list} FROM (SELECT 1) one WHERE `made by` = 'it''s \\\\us'; END //\nDELIMITER ;\n"
    ));
    let given = ProcedureParameter { name: "made by".into(), type_name: None, value: Some("it's \\us".into()) };
    let name = "takes".to_owned();
    let procedure = WriteProcedure { name, table_type: None, table_parameter: None, parameters: vec![given] };
    let wanted =
        SinkRequest { procedure: Some(procedure), ..request(&world.run_id(1), 1, "sink", WriteMode::Procedure) };
    let mut sink = world.sink(wanted).await.expect("opens");
    let source = world.source(table("wide"), 1, 100_000).await.expect("opens");
    let committed = copy(source.as_ref(), sink.as_mut()).await.expect("copies");
    assert_eq!(committed.rows, 4);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.same("wide", "sink", &names);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_procedure_signals_reaches_its_caller() {
    let Some(world) = MariaDb::new("signals") else { return };
    world.run(
        "DELIMITER //\nCREATE PROCEDURE fails(IN day date) \
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'No slice of that day' //\n\
         CREATE PROCEDURE sleeps() SELECT SLEEP(60) //\nDELIMITER ;\n",
    );
    let connection = world.open("dmg/test", &[]).await.expect("opens");
    let day = ProcedureParameter { name: "day".into(), type_name: None, value: Some("2024-02-29".into()) };
    let fails = ProcedureCall { name: "fails".into(), parameters: vec![day], timeout_seconds: None };
    let fault = *connection.call(&fails).await.expect_err("it signals").fault;
    assert_eq!(fault.message, "The procedure ended with error 1644: No slice of that day.");
    let sleeps = ProcedureCall { name: "sleeps".into(), parameters: Vec::new(), timeout_seconds: Some(1) };
    assert_eq!(code(connection.call(&sleeps).await), "StoreErrorTimeout");
}
