//! Stores that stay connected and say nothing: a copy or a comparison ends by itself, names who was silent, and the target
//! is as it was. A server that only takes its time is waited for.

use std::net::SocketAddr;
use std::time::Duration;

use dmg_faultproxy::Proxy;
use dmg_system_tests::worker::Worker;
use dmg_system_tests::{Answer, Database, azurite, dmg, judge, need, wait};
use serde_json::json;

/// Longer than any of these copies takes, and much shorter than a limit nobody set.
const DEADLINE: Duration = Duration::from_secs(60);

struct World {
    database: Database,
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl World {
    /// A database with 200,000 rows behind a proxy, and a folder.
    async fn new() -> Option<World> {
        let database = Database::create()?;
        database.sql(
            "CREATE TABLE source AS SELECT n AS id, md5(n::text) AS word FROM generate_series(1, 200000) n; \
             CREATE TABLE target (id int, word text); ANALYZE source",
        );
        let (host, port) = database.host_and_port();
        let address = SocketAddr::new(host.parse().ok()?, port);
        let proxy = Proxy::start(address).await.expect("a port is free");
        Some(World { database, proxy, folder: tempfile::tempdir().expect("a folder") })
    }

    /// The database through the proxy.
    fn through(&self) -> String {
        format!("postgres://{}@{}/{}", self.database.user(), self.proxy.address, self.database.name)
    }

    fn file(&self, name: &str) -> String {
        format!("file:{}", self.folder.path().join(name).display())
    }

    /// Runs a copy, which must end in time.
    async fn copy(&self, arguments: &[&str]) -> Answer {
        let secrets =
            ["--secret-file", &self.database.password_file, "--sink-secret-file", &self.database.password_file];
        self.run(&[&["copy"], &secrets[..], arguments].concat()).await
    }

    /// Runs a program, which must end in time.
    async fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = dmg(arguments);
        let started = wait::now();
        let answer = tokio::task::spawn_blocking(move || Answer::of(&mut command)).await.expect("it runs");
        assert!(started.elapsed() < DEADLINE, "{}", answer.errors);
        answer
    }
}

fn says(answer: &Answer, words: &[&str]) {
    let said = format!("{}{}", answer.output, answer.errors);
    for word in words {
        assert!(said.contains(word), "\"{word}\" is not in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_stops_in_the_middle_of_its_rows() {
    let world = need!(World::new().await);
    let (from, to) = (world.through(), world.file("out.parquet"));
    for parallel in ["1", "2"] {
        world.proxy.set("halfopen after=2000000 way=down times=0".parse().expect("a fault"));
        let limits = ["--stall-timeout", "400ms", "--query-timeout", "2s", "--parallel", parallel];
        let answer = world.copy(&[&["--from", &from, "--table", "source", "--to", &to], &limits[..]].concat()).await;
        assert!(world.proxy.seen().struck > 0, "the fault struck");
        let answer = answer.fault("StoreErrorTimeout");
        let port = world.proxy.address.port().to_string();
        says(&answer, &["The source said nothing for", "in the middle of its rows", &port, "--stall-timeout"]);
        let left: Vec<_> = std::fs::read_dir(world.folder.path()).expect("a folder").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_takes_no_more_rows() {
    let world = need!(World::new().await);
    let (from, file, to) = (world.database.url(), world.file("rows.parquet"), world.through());
    let _ = world.copy(&["--from", &from, "--table", "source", "--to", &file]).await.ok();
    for parallel in ["1", "2"] {
        world.proxy.set("halfopen after=500000 way=up times=0".parse().expect("a fault"));
        let limits = ["--stall-timeout", "400ms", "--commit-timeout", "2s", "--parallel", parallel];
        let answer = world.copy(&[&["--from", &file, "--to", &to, "--table", "target"], &limits[..]].concat()).await;
        let answer = answer.fault("StoreErrorTimeout");
        // The system's own buffers may take what is left; then it is the end of the part that is waited for.
        let full = answer.errors.contains("while it was to take rows") && answer.errors.contains("--stall-timeout");
        let sent = answer.errors.contains("while its answer was awaited") && answer.errors.contains("--commit-timeout");
        assert!(full || sent, "{}", answer.errors);
        says(&answer, &["The sink said nothing for"]);
    }
    assert_eq!(world.database.number("SELECT count(*) FROM target"), 0);
    // The next copy is none the worse.
    world.proxy.set(dmg_faultproxy::Fault::NONE);
    let _ = world.copy(&["--from", &file, "--to", &to, "--table", "target"]).await.ok();
    assert_eq!(world.database.differences("source", "target"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_its_time_is_waited_for() {
    let world = need!(World::new().await);
    let (from, to) = (world.database.url(), world.file("slow.parquet"));
    let slow = "SELECT n FROM (SELECT pg_sleep(1.5)) s, generate_series(1, 10) n ORDER BY n DESC";
    let ends = ["--from", &from, "--query", slow, "--to", &to];
    let _ = world.copy(&[&ends[..], &["--stall-timeout", "300ms"]].concat()).await.ok();
    let long = slow.replace("1.5", "600");
    let ends = ["--from", &from, "--query", &long, "--to", &to, "--mode", "overwrite"];
    let answer = world.copy(&[&ends[..], &["--query-timeout", "300ms"]].concat()).await.fault("StoreErrorTimeout");
    says(&answer, &["while its first rows were awaited", "--query-timeout"]);
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    wait::until("the server to stop", DEADLINE, || (world.database.number(sleeping) == 0).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_does_not_end() {
    let world = need!(World::new().await);
    world.database.sql(
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NULL; END'; \
         CREATE TRIGGER nap BEFORE INSERT ON target EXECUTE FUNCTION nap()",
    );
    let url = world.database.url();
    let ends = ["--from", &url, "--table", "source", "--to", &url, "--table", "target"];
    let answer = world.copy(&[&ends[..], &["--commit-timeout", "500ms"]].concat()).await.fault("StoreErrorTimeout");
    says(&answer, &["The sink said nothing for", "while its answer was awaited", "--commit-timeout"]);
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    wait::until("the server to stop", DEADLINE, || (world.database.number(sleeping) == 0).then_some(()));
    assert_eq!(world.database.number("SELECT count(*) FROM target"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_of_a_comparison_that_says_nothing() {
    let world = need!(World::new().await);
    let (direct, behind) = (world.database.url(), world.through());
    let secret = ["--secret-file", world.database.password_file.as_str()];
    let near = [&[direct.as_str(), "--table", "source"], &secret[..]].concat();
    let far = [&[behind.as_str(), "--table", "source"], &secret[..]].concat();
    let limits = ["--stall-timeout", "400ms", "--query-timeout", "2s"];
    for (who, sides) in [("FROM", [&far[..], &near]), ("TO", [&near[..], &far])] {
        for (fault, when, option) in [
            ("halfopen after=2000000 way=down times=0", "in the middle of its rows", "--stall-timeout"),
            ("halfopen after=0 way=down times=0", "when it was asked what it has", "--stall-timeout"),
        ] {
            world.proxy.set(fault.parse().expect("a fault"));
            let answer = world.run(&[&["verify"], sides[0], sides[1], &limits].concat()).await;
            says(&answer.fault("StoreErrorTimeout"), &[&format!("{who} said nothing for"), when, option]);
        }
    }
    // A server that only takes its time is waited for, as long as it may.
    world.proxy.set(dmg_faultproxy::Fault::NONE);
    let slow = "SELECT n FROM (SELECT pg_sleep(1.5)) s, generate_series(1, 10) n ORDER BY n DESC";
    let slow = [&[direct.as_str(), "--query", slow], &secret[..]].concat();
    let quick = [&[direct.as_str(), "--query", "SELECT n FROM generate_series(1, 10) n"], &secret[..]].concat();
    let _ = world.run(&[&["verify"], &slow[..], &quick, &["--stall-timeout", "300ms"]].concat()).await.ok();
    let answer = world.run(&[&["verify"], &quick[..], &slow, &["--query-timeout", "300ms"]].concat()).await;
    says(
        &answer.fault("StoreErrorTimeout"),
        &["TO said nothing for", "its first rows were awaited", "--query-timeout"],
    );
}

/// The store of the rows left out is another than source and sink, and alone in being silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_rows_left_out_that_says_nothing() {
    let azurite = need!(azurite());
    let folder = tempfile::tempdir().expect("a folder");
    let rows: String =
        (0..2000).map(|n| if n % 2 == 0 { format!("\"{n}\"\n") } else { "\"no number\"\n".into() }).collect();
    std::fs::write(folder.path().join("source.csv"), format!("\"id\"\n{rows}")).expect("written");
    let run = dmg_ambient::Ambient::real().uuid().to_string();
    let container = format!("silent-{run}");
    let mut make = need!(judge("judge/container.py", [&azurite.endpoint, &azurite.key_file, &container]));
    let _ = Answer::of(&mut make).ok();
    let (host, account) = azurite.endpoint.trim_start_matches("http://").split_once('/').expect("host and account");
    let proxy = Proxy::start(host.parse().expect("an address")).await.expect("a port is free");
    let key = std::fs::read_to_string(&azurite.key_file).expect("the key").trim().to_owned();
    let file = |name: &str, format| {
        json!({ "store": { "store": "file", "settings": { "root": folder.path() } },
            "object": { "kind": "files", "folder": "", "file": name }, "format": format })
    };
    let mut source = file(
        "source.csv",
        json!({ "format": "text", "rowDelimiter": "\n", "quoteChar": "\"",
        "escapeChar": "\"", "firstRowAsHeader": true }),
    );
    source["declared"] = json!([{ "name": "id", "kind": "int32" }]);
    let endpoint = format!("http://{}/{account}", proxy.address);
    let beside = json!({ "store": { "store": "azblob",
        "settings": { "account": account, "container": container, "endpoint": endpoint } }, "folder": "left-out" });
    let job = json!({ "parties": { "node": "test" }, "source": source,
        "sink": file("target.parquet", json!({ "format": "parquet" })),
        "options": { "tolerance": { "redirect": beside }, "stallTimeoutMillis": 400, "commitTimeoutMillis": 400 } });
    for (epoch, fault) in [(1, "after=0 way=down"), (2, "after=500 way=down"), (3, "after=20000 way=up")] {
        proxy.set(format!("halfopen {fault} times=0").parse().expect("a fault"));
        let (job, run, key) = (job.clone(), run.clone(), key.clone());
        let ended = tokio::task::spawn_blocking(move || {
            let started = wait::now();
            let secrets = [json!({}), json!({}), json!({ "accountKey": key })];
            let ended = Worker::start_with(&job, &run, epoch, secrets, None).end();
            assert!(started.elapsed() < DEADLINE, "{ended:?}");
            ended
        });
        let message = ended.await.expect("it ends").fault("StoreErrorTimeout");
        let words = "The store of the rows left out or of the copy's log said nothing for";
        assert!(message.starts_with(words), "{message}");
        assert!(proxy.seen().struck > 0, "the fault struck");
        assert!(!folder.path().join("target.parquet").exists(), "nothing was committed");
    }
    // Once it answers, the run goes on to its end.
    proxy.set(dmg_faultproxy::Fault::NONE);
    let secrets = [json!({}), json!({}), json!({ "accountKey": key })];
    let ended = tokio::task::spawn_blocking(move || Worker::start_with(&job, &run, 4, secrets, None).end());
    let receipt = ended.await.expect("it ends").receipt();
    assert_eq!(receipt["skipped"]["rows"], 1000, "{receipt}");
}
