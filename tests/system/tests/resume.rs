//! Work that was done is not done again, and none of it counts twice: a worker that dies leaves parts that its successor
//! keeps, a part whose connection is cut is read once more, and a frozen predecessor that wakes up writes nothing. psql
//! judges the target.

use std::path::Path;
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_faultproxy::Proxy;
use dmg_system_tests::wait::until;
use dmg_system_tests::worker::{Ended, Worker};
use dmg_system_tests::{Answer, Database, dmg, need};
use serde_json::{Value, json};

const FILES: u64 = 10;
const ROWS: u64 = 3_000;
const LANES: u64 = 2;

/// Text files with rows of their own, and a database for them.
struct World {
    folder: tempfile::TempDir,
    database: Database,
}

impl World {
    fn new(database: Database) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        for file in 0..FILES {
            write_file(folder.path(), file, 0);
        }
        World { folder, database }
    }

    fn sink(&self, table: &str) -> Value {
        let (host, port) = self.database.host_and_port();
        json!({
            "store": { "store": "postgres", "settings": { "host": host, "port": port, "database": self.database.name,
                "user": self.database.user(), "sslMode": "disable" } },
            "object": { "kind": "table", "schema": "public", "table": table },
        })
    }

    /// Slow enough to be stopped in the middle.
    fn job(&self, table: &str, options: &Value) -> Value {
        let lossless = json!({ "format": "text", "rowDelimiter": "\n", "quoteChar": "\"", "escapeChar": "\"",
            "nullValues": [""], "firstRowAsHeader": true, "emptyAsNull": false, "quoteAll": true });
        let mut job = json!({
            "parties": { "node": "test" },
            "source": {
                "store": { "store": "file", "settings": { "root": self.folder.path() } },
                "object": { "kind": "files", "folder": "" },
                "format": lossless,
                "declared": [{ "name": "id", "kind": "int64" }, { "name": "name", "kind": "text" }],
            },
            "sink": self.sink(table),
            "options": { "parallel": LANES, "rowsPerSecond": FILES * ROWS / 3 },
        });
        for (name, value) in options.as_object().expect("an object") {
            job["options"][name] = value.clone();
        }
        job
    }

    fn secrets(&self) -> [Value; 2] {
        let password = std::fs::read_to_string(&self.database.password_file).expect("the password");
        [json!({}), json!({ "password": password.trim() })]
    }

    /// Parts that are staged, as anybody can see them.
    fn staged(&self, run: &str, epoch: u64) -> u64 {
        let short: String = run.chars().filter(char::is_ascii_hexdigit).take(12).collect();
        let table = format!("_dmg_{short}_{epoch}_parts");
        if self.database.number(&format!("SELECT count(*) FROM pg_tables WHERE tablename = '{table}'")) == 0 {
            return 0;
        }
        self.database.number(&format!("SELECT count(*) FROM {table}")).unsigned_abs()
    }

    fn worker(&self, job: &Value, run: &str, epoch: u64, earlier: Option<&Worker>) -> Worker {
        Worker::start_after(job, run, epoch, self.secrets(), earlier.and_then(|earlier| earlier.plan.as_ref()))
    }

    /// An attempt that is left when three parts are staged.
    fn begun(&self, job: &Value, run: &str) -> Worker {
        let mut worker = self.worker(job, run, 1, None);
        worker.until("three parts are staged", || self.staged(run, 1) >= 3);
        worker
    }

    /// Every row of the files once, and nothing left of the staging.
    fn check(&self, table: &str, generation: u64) {
        let expected = format!(
            "SELECT f * 100000 + i AS id, 'row ' || i || ' of file ' || f || ', {generation}' AS name \
             FROM generate_series(0, {}) f, generate_series(1, {ROWS}) i",
            FILES - 1
        );
        self.database.sql(&format!("DROP VIEW IF EXISTS expected; CREATE VIEW expected AS {expected}"));
        let found = format!("(SELECT id::bigint, name FROM {table})");
        assert_eq!(self.database.differences(&found, "expected"), 0, "the content of {table}");
        let left = "SELECT coalesce(string_agg(relname, ' '), '') FROM pg_class WHERE starts_with(relname, '_dmg_')";
        assert_eq!(self.database.sql(left).trim(), "", "staging is left");
    }
}

fn write_file(folder: &Path, file: u64, generation: u64) {
    let mut text = "\"id\",\"name\"\n".to_owned();
    for row in 1..=ROWS {
        text.push_str(&format!("\"{}\",\"row {row} of file {file}, {generation}\"\n", file * 100_000 + row));
    }
    std::fs::write(folder.join(format!("file-{file:02}.csv")), text).expect("a file is written");
}

/// How many parts of that epoch the receipt says were kept: those that were seen to be staged, and what the server was
/// just about to take when the worker died.
fn kept(receipt: &Value, epoch: u64, seen: u64) -> u64 {
    let parts = receipt["resumed"]["parts"].as_u64().unwrap_or_default();
    assert!((seen..=seen + LANES).contains(&parts), "{seen} parts seen: {receipt}");
    assert_eq!(receipt["resumed"], json!({ "epoch": epoch, "parts": parts, "rows": parts * ROWS }));
    parts
}

fn run_id() -> String {
    Ambient::real().uuid()
}

#[test]
fn what_a_killed_worker_staged_is_kept() {
    let world = World::new(need!(Database::create()));
    let table = "(id bigint NOT NULL, name text)";
    world.database.sql(&format!("CREATE TABLE replaced {table}; INSERT INTO replaced VALUES (-1, 'old')"));
    world.database.sql(&format!("CREATE TABLE joined {table}; CREATE TABLE keyed (id bigint PRIMARY KEY, name text)"));
    for (target, options, shape) in [
        ("made", json!({ "mode": "append", "createTable": true }), "swap"),
        ("replaced", json!({ "mode": "overwrite" }), "swap"),
        ("joined", json!({ "mode": "append", "verify": "none" }), "staged"),
        ("keyed", json!({ "mode": "upsert", "keys": ["id"] }), "staged"),
    ] {
        let (job, run) = (world.job(target, &options), run_id());
        let killed = world.begun(&job, &run);
        let (read, plan) = (killed.rows_read, killed.plan.clone());
        drop(killed);
        let seen = world.staged(&run, 1);
        let mut next = Worker::start_after(&job, &run, 2, world.secrets(), plan.as_ref());
        let receipt = next.end().receipt();
        println!("{target}: {}", json!([receipt["resumed"], receipt["restarted"], receipt["repeated"]]));
        world.check(target, 0);
        assert_eq!(receipt["shape"], shape);
        assert_eq!(receipt["restarted"], Value::Null);
        let staged = kept(&receipt, 1, seen);
        assert_eq!(receipt["read"]["rows"], json!(FILES * ROWS));
        assert_eq!(receipt["written"]["rows"], json!(FILES * ROWS));
        assert_eq!(next.rows_read, (FILES - staged) * ROWS, "rows that were read by the second attempt");
        // What the first attempt had read and the second read again: at most the part each lane was at.
        assert!(read.saturating_sub(staged * ROWS) <= LANES * ROWS, "{read} rows read, {staged} parts staged");
    }
}

#[test]
fn what_a_worker_staged_whose_host_is_gone_is_kept() {
    let world = World::new(need!(Database::create()));
    let (job, run) = (world.job("made", &json!({ "createTable": true })), run_id());
    let mut left = world.begun(&job, &run);
    let message = left.abandon().fault("UserErrorCancelled");
    println!("{message}");
    let staged = world.staged(&run, 1);
    let receipt = world.worker(&job, &run, 2, Some(&left)).end().receipt();
    world.check("made", 0);
    kept(&receipt, 1, staged);
}

#[test]
fn a_chain_of_killed_workers_ends() {
    let world = World::new(need!(Database::create()));
    let (job, run) = (world.job("made", &json!({ "createTable": true })), run_id());
    let mut plan = world.begun(&job, &run).plan.clone();
    let mut staged = world.staged(&run, 1);
    for epoch in 2..4 {
        let mut worker = Worker::start_after(&job, &run, epoch, world.secrets(), plan.as_ref());
        worker.until("two more parts are staged", || world.staged(&run, epoch) >= staged + 2);
        plan = worker.plan.clone();
        drop(worker);
        staged = world.staged(&run, epoch);
    }
    let receipt = Worker::start_after(&job, &run, 4, world.secrets(), plan.as_ref()).end().receipt();
    world.check("made", 0);
    kept(&receipt, 3, staged);
}

#[test]
fn a_frozen_worker_that_wakes_up_writes_nothing() {
    let world = World::new(need!(Database::create()));
    let (job, run) = (world.job("made", &json!({ "createTable": true })), run_id());
    let mut zombie = world.begun(&job, &run);
    zombie.signal("STOP");
    let mut successor = world.worker(&job, &run, 2, Some(&zombie));
    successor.until("its parts are taken over", || world.staged(&run, 2) >= 4);
    zombie.signal("CONT");
    let woken = zombie.end();
    let receipt = successor.end().receipt();
    world.check("made", 0);
    assert!(matches!(woken, Ended::Failed(_)), "{woken:?}");
    assert_eq!(woken.fault("SystemErrorLeaseLost"), "The staging table is gone: another attempt took over.");
    assert_eq!(receipt["resumed"]["epoch"], 1, "{receipt}");
}

#[test]
fn a_changed_source_is_read_anew() {
    let world = World::new(need!(Database::create()));
    let (job, run) = (world.job("made", &json!({ "createTable": true })), run_id());
    let plan = world.begun(&job, &run).plan.clone();
    for file in 0..FILES {
        write_file(world.folder.path(), file, 1);
    }
    let mut next = Worker::start_after(&job, &run, 2, world.secrets(), plan.as_ref());
    let receipt = next.end().receipt();
    world.check("made", 1);
    assert_eq!(receipt["resumed"], Value::Null);
    let why = receipt["restarted"].as_str().unwrap_or_default();
    assert!(why.ends_with("thrown away: the source changed since."), "{why}");
    assert_eq!(next.rows_read, FILES * ROWS);
}

#[test]
fn a_source_without_a_lasting_state_is_read_anew() {
    let world = World::new(need!(Database::create()));
    world.database.sql(&format!(
        "CREATE TABLE source AS SELECT i::bigint AS id, 'row ' || i AS name FROM generate_series(1, {}) i",
        FILES * ROWS
    ));
    let mut job = world.job("made", &json!({ "createTable": true }));
    job["source"] = world.sink("source");
    let (run, [_, password]) = (run_id(), world.secrets());
    let mut killed = Worker::start(&job, &run, 1, [password.clone(), password.clone()]);
    killed.until("rows were read", || world.staged_rows(&run) > 0);
    let plan = killed.plan.clone();
    drop(killed);
    let receipt = Worker::start_after(&job, &run, 2, [password.clone(), password], plan.as_ref()).end().receipt();
    assert_eq!(world.database.differences("made", "source"), 0);
    let why = receipt["restarted"].as_str().unwrap_or_default();
    assert!(why.ends_with("thrown away: the state of the source that it read ended with it."), "{why}");
}

impl World {
    /// Whether anything of the first attempt's staging is there.
    fn staged_rows(&self, run: &str) -> u64 {
        let short: String = run.chars().filter(char::is_ascii_hexdigit).take(12).collect();
        let table = format!("SELECT count(*) FROM pg_tables WHERE tablename = '_dmg_{short}_1'");
        self.database.number(&table).unsigned_abs()
    }
}

/// A proxy before the test server.
struct Between {
    proxy: Proxy,
    runtime: tokio::runtime::Runtime,
}

impl Between {
    fn new(database: &Database) -> Between {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (host, port) = database.host_and_port();
        let upstream = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port));
        let upstream = upstream.expect("the server has an address").next().expect("at least one");
        let proxy = runtime.block_on(Proxy::start(upstream)).expect("a port is free");
        Between { proxy, runtime }
    }

    /// The database's address, through the proxy.
    fn url(&self, database: &Database) -> String {
        let (host, port) = database.host_and_port();
        database.url().replace(&format!("{host}:{port}"), &self.proxy.address.to_string())
    }
}

#[test]
fn a_part_whose_connection_is_cut_is_done_again() {
    let database = need!(Database::create());
    let between = Between::new(&database);
    // Wide enough that only sessions with rows get as far as the cut.
    database.sql(
        "CREATE TABLE source AS SELECT i AS id, repeat(md5(i::text), 8) AS name FROM generate_series(1, 60000) i; \
         ANALYZE source",
    );
    let (direct, through) = (database.url(), between.url(&database));
    let file = &database.password_file;
    for (from, to, fault) in [
        (&through, &direct, "cut after=2000000 way=down"),
        (&through, &direct, "reset after=3000000 way=down times=2"),
        (&direct, &through, "cut after=2000000 way=up"),
        (&direct, &through, "reset after=3000000 way=up times=2"),
    ] {
        for verify in ["transferred", "none"] {
            database.sql("DROP TABLE IF EXISTS target; CREATE TABLE target (id int, name text)");
            between.proxy.set(fault.parse().expect("a fault"));
            let arguments =
                ["--from", from, "--table", "source", "--secret-file", file, "--to", to, "--table", "target"];
            let more = ["--secret-file", file, "--mode", "overwrite", "--verify", verify, "--parallel", "2"];
            let answer = Answer::of(dmg(["copy", "--output", "json"]).args(arguments).args(more)).ok().json();
            let struck = between.proxy.seen().struck;
            println!("{fault}, verify {verify}: struck {struck}, repeated {}", answer["repeated"]);
            assert_eq!(database.differences("source", "target"), 0, "{fault}");
            assert!(struck > 0, "{fault} met nothing");
            let left = "SELECT count(*) FROM pg_class WHERE starts_with(relname, '_dmg_')";
            until("staging is gone", Duration::from_secs(10), || (database.number(left) == 0).then_some(()));
            assert_eq!(answer["repeated"]["parts"], json!(struck), "{answer}");
            assert_eq!(answer["repeated"]["byCode"]["NetworkErrorStoreUnreachable"], json!(struck), "{answer}");
        }
    }
    drop(between.runtime);
}

#[test]
fn a_source_that_breaks_off_every_time_is_given_up() {
    let database = need!(Database::create());
    let between = Between::new(&database);
    database.sql(
        "CREATE TABLE source AS SELECT i AS id, repeat(md5(i::text), 8) AS name FROM generate_series(1, 50000) i; \
         ANALYZE source",
    );
    // Enough to look at the table, and less than a batch of it: no try gets further than the one before.
    between.proxy.set("cut way=down after=200000 times=0".parse().expect("a fault"));
    let folder = tempfile::tempdir().expect("a folder");
    let (file, to) = (&database.password_file, format!("file:{}/out.parquet", folder.path().display()));
    let from = between.url(&database);
    let copy = dmg(["copy", "--from", &from, "--table", "source", "--secret-file", file, "--to", &to]).output();
    let copy = copy.expect("the copy ends");
    let said = String::from_utf8_lossy(&copy.stderr);
    assert!(said.contains("(NetworkErrorStoreUnreachable)"), "{said}");
    let struck = between.proxy.seen().struck;
    assert!((7..=30).contains(&struck), "seven tries for each of the parts under way, not {struck}");
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 0, "nothing is left");
}

#[test]
fn without_the_snapshots_holder_a_part_is_not_read_again() {
    let database = need!(Database::create());
    let between = Between::new(&database);
    database.sql(
        "CREATE TABLE source AS SELECT i AS id, repeat(md5(i::text), 8) AS name FROM generate_series(1, 200000) i; \
         ANALYZE source; CREATE TABLE target (id int, name text); INSERT INTO target VALUES (1, 'old')",
    );
    let file = &database.password_file;
    let (from, to) = (between.url(&database), database.url());
    let mut command = dmg(["copy", "--from", &from, "--table", "source", "--secret-file", file, "--to", &to]);
    command.args(["--table", "target", "--secret-file", file, "--mode", "overwrite", "--rate-bytes", "8M"]);
    let copy = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    let copy = copy.expect("the copy starts");
    // The first session of the source; those of its parts came later, and those of the sink are in no transaction.
    let ours = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dmg/%'";
    let holder = format!(
        "SELECT pid {ours} AND state = 'idle in transaction' \
         AND EXISTS (SELECT {ours} AND state = 'active' AND query LIKE 'COPY (SELECT%') ORDER BY backend_start LIMIT 1"
    );
    until("the holder is there", Duration::from_secs(20), || {
        let found = database.sql(&format!("SELECT count(pg_terminate_backend(pid)) FROM ({holder}) h"));
        (found.trim() != "0").then_some(())
    });
    // Larger than what fits between the two, so that there are rows to come that can be cut off. Twice, as the holder's
    // last words may come after this and be taken for rows.
    between.proxy.set("reset after=1 way=down times=2".parse().expect("a fault"));
    let answer = copy.wait_with_output().expect("the copy ends");
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(!answer.status.success(), "{said}");
    assert!(said.contains("The snapshot of the source ended with the session that held it."), "{said}");
    assert_eq!(database.sql("SELECT id || name FROM target").trim(), "1old");
}
