//! Procedures of MariaDB that are called by somebody: one that commits by itself leaves no mark that would say that half a
//! copy is a whole one, and what one signals reaches its caller. Judged by the `mariadb` client.

use dmg_connector::MarkState;
use dmg_protocol::WriteMode;
use dmg_protocol::job::{ProcedureCall, ProcedureParameter, WriteProcedure};

use crate::mysql_support::MariaDb;
use crate::support::{code, content, request, stage, table};

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
