//! Time spent waiting for a server is counted apart from the time spent decoding and encoding, so that a copy can say what
//! held it back.

use std::time::Duration;

use dmg_connector::{Sink, Source};
use dmg_protocol::WriteMode;

use crate::mysql_support::MariaDb;
use crate::support::{LIMITS, World, query, read_all, request, rows, stage, table};

/// How long the servers sleep.
const NAP: Duration = Duration::from_millis(300);

async fn reads_and_writes(slow: &dyn Source, all: &dyn Source, sink: &mut dyn Sink) {
    assert_eq!(rows(&read_all(slow, LIMITS).await.expect("reads")), 1);
    let waited = slow.traffic().waited();
    assert!(waited >= NAP && waited < 20 * NAP, "{waited:?}");
    stage(all, sink).await.expect("stages");
    assert!(sink.traffic().waited() > Duration::ZERO);
    sink.abort().await.expect("removes what was staged");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_postgres() {
    let Some(world) = World::new("waits").await else { return };
    world.run("CREATE TABLE src AS SELECT n AS id FROM generate_series(1, 1000) n; CREATE TABLE sink (id int)").await;
    let slow = world.source(query("SELECT 1 AS one FROM pg_sleep(0.3)"), 1, 1000).await.expect("opens");
    let all = world.source(table("src"), 1, 1000).await.expect("opens");
    let mut sink = world.sink(request("1a", 1, "sink", WriteMode::Append)).await.expect("opens");
    reads_and_writes(slow.as_ref(), all.as_ref(), sink.as_mut()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_mariadb() {
    let Some(world) = MariaDb::new("waits") else { return };
    world.run("CREATE TABLE src AS SELECT CAST(seq AS signed) AS id FROM seq_1_to_1000; CREATE TABLE sink (id bigint)");
    let slow = world.source(query("SELECT 1 AS one FROM (SELECT SLEEP(0.3)) s"), 1, 1000).await.expect("opens");
    let all = world.source(table("src"), 1, 1000).await.expect("opens");
    let run = world.run_id(1);
    let mut sink = world.sink(request(&run, 1, "sink", WriteMode::Append)).await.expect("opens");
    reads_and_writes(slow.as_ref(), all.as_ref(), sink.as_mut()).await;
}
