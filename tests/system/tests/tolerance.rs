//! Rows that do not fit are left out, exactly: the redirect file holds those rows once and nothing else, the target
//! the others, also when the worker is killed and the run is repeated. Python makes the rows and judges.
//! `DMG_REJECT_RUNS` sets the number of runs of the campaign: with 50, a million rows each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_system_tests::program::judge;
use dmg_system_tests::wait::now;
use dmg_system_tests::worker::{Ended, Kill, attempt};
use dmg_system_tests::{Answer, Database, dmg, need, sql_server};
use serde_json::{Value, json};

struct World {
    folder: tempfile::TempDir,
}

fn judged(arguments: &[&str]) -> Option<Answer> {
    judge("judge/rejects.py", arguments).map(|mut command| Answer::of(&mut command).ok())
}

impl World {
    /// Rows with bad ones among them, if there is a Python to make them.
    fn make(rows: u64, bad: u64, seed: u64) -> Option<World> {
        Self::made(rows, bad, seed, &[])
    }

    /// As [`World::make`], and some of the bad ones only the constraints of [`KEYED`] refuse.
    fn make_for_table(rows: u64, bad: u64, seed: u64) -> Option<World> {
        Self::made(rows, bad, seed, &["table"])
    }

    fn made(rows: u64, bad: u64, seed: u64, more: &[&str]) -> Option<World> {
        let folder = tempfile::tempdir().expect("a folder");
        let (rows, bad, seed) = (rows.to_string(), bad.to_string(), seed.to_string());
        let path = folder.path().to_str().expect("a plain path").to_owned();
        judged(&[&["make", &path, &rows, &bad, &seed], more].concat())?;
        Some(World { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a plain path").to_owned()
    }

    fn file(&self, name: &str, format: Value) -> Value {
        json!({
            "store": { "store": "file", "settings": { "root": self.folder.path() } },
            "object": { "kind": "files", "folder": "", "file": name },
            "format": format,
        })
    }

    /// The text file, with the kinds of its columns declared or not.
    fn source(&self, declared: bool) -> Value {
        let lossless = json!({ "format": "text", "rowDelimiter": "\n", "quoteChar": "\"", "escapeChar": "\"",
            "nullValues": [""], "firstRowAsHeader": true, "emptyAsNull": false, "quoteAll": true });
        let mut source = self.file("source.csv", lossless);
        if declared {
            source["declared"] = json!([
                { "name": "id", "kind": "int32" }, { "name": "name", "kind": "text" },
                { "name": "amount", "kind": "decimal(12,2)" }, { "name": "at", "kind": "timestamp" },
                { "name": "flag", "kind": "boolean" },
            ]);
        }
        source
    }

    fn copied_to_parquet(&self, tolerance: Value) -> Value {
        self.job(self.source(true), self.file("target.parquet", json!({ "format": "parquet" })), tolerance)
    }

    fn copied_to_table(&self, database: &Database, tolerance: Value) -> Value {
        let (host, port) = database.host_and_port();
        let sink = json!({
            "store": { "store": "postgres", "settings": { "host": host, "port": port, "database": database.name,
                "user": database.user(), "sslMode": "disable" } },
            "object": { "kind": "table", "schema": "public", "table": "target" },
        });
        self.job(self.source(false), sink, tolerance)
    }

    fn job(&self, source: Value, sink: Value, mut tolerance: Value) -> Value {
        tolerance["redirect"] =
            json!({ "store": { "store": "file", "settings": { "root": self.folder.path() } }, "folder": "left-out" });
        json!({ "parties": { "node": "test" }, "source": source, "sink": sink,
            "options": { "mode": "overwrite", "tolerance": tolerance } })
    }

    fn redirect(&self, run: &str) -> String {
        self.text(&format!("left-out/{run}.csv"))
    }

    fn check(&self, run: &str, target: &str, receipt: &Value) {
        std::fs::write(self.path("receipt.json"), receipt.to_string()).expect("the receipt is kept");
        let folder = self.folder.path().to_str().expect("a plain path");
        let _ = judged(&["check", folder, &self.redirect(run), target, &self.text("receipt.json")]).expect("python");
        let left: Vec<String> = [self.path(""), self.path("left-out")]
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).expect("a folder"))
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with('.'))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "staging left behind");
    }
}

fn secrets(database: Option<&Database>) -> [Value; 2] {
    let password = database.map(|database| std::fs::read_to_string(&database.password_file).expect("the password"));
    [json!({}), password.map_or(json!({}), |password| json!({ "password": password.trim() }))]
}

fn run_id() -> String {
    Ambient::real().uuid()
}

const TABLE: &str = "CREATE TABLE target (id int NOT NULL, name text, amount numeric(12,2), at timestamp NOT NULL, \
                     flag boolean NOT NULL)";
const KEYED: &str = "CREATE TABLE target (id int PRIMARY KEY, name text, amount numeric(12,2), at timestamp NOT NULL, \
                     flag boolean NOT NULL, CHECK (amount < 90000000))";

fn dump(database: &Database, world: &World) -> String {
    let text = database.sql("COPY (SELECT * FROM target) TO STDOUT (FORMAT csv, HEADER)");
    std::fs::write(world.path("target.csv"), text).expect("the dump is kept");
    world.text("target.csv")
}

/// Attempts a run until one ends by itself; the first is killed where it is said. Returns the receipt and the kills.
fn carried_out(job: &Value, run: &str, secrets: &[Value; 2], kill: Option<Kill>) -> (Value, u32) {
    let mut kills = 0;
    for epoch in 1..10 {
        let kill = kill.filter(|_| epoch == 1);
        match attempt(job, run, epoch, secrets.clone(), kill) {
            Ended::Killed => kills += 1,
            Ended::Finished(receipt) => return (*receipt, kills),
            Ended::Failed(fault) => panic!("{fault:#}"),
        }
    }
    panic!("the run never ends");
}

/// Where the campaign copies to.
enum Target {
    Parquet,
    Postgres(Database),
    SqlServer(sql_server::Server),
}

/// A copy that is done again and again.
struct Trial {
    world: World,
    target: Target,
    job: Value,
    secrets: [Value; 2],
    /// How long it takes where nothing kills it.
    seconds: f64,
}

impl Trial {
    fn of(world: World, target: Target) -> Trial {
        let (job, secrets) = match &target {
            Target::Parquet => (world.copied_to_parquet(json!({})), secrets(None)),
            Target::Postgres(database) => (world.copied_to_table(database, json!({})), secrets(Some(database))),
            Target::SqlServer(server) => {
                let sink = json!({ "store": server.store(),
                    "object": { "kind": "table", "schema": "dbo", "table": "target" } });
                let job = world.job(world.source(false), sink, json!({}));
                (job, [json!({}), json!({ "password": sql_server::PASSWORD })])
            }
        };
        Trial { world, target, job, secrets, seconds: 0.0 }
    }

    /// The target as a file that the judge reads.
    fn dump(&self) -> String {
        match &self.target {
            Target::Parquet => self.world.text("target.parquet"),
            Target::Postgres(database) => dump(database, &self.world),
            Target::SqlServer(server) => {
                server.dump("target", &self.world.path("target.csv"));
                self.world.text("target.csv")
            }
        }
    }
}

/// Rows, bad ones among them, and runs.
fn size() -> (u64, u64, Option<usize>) {
    let campaign = dmg_ambient::environment("DMG_REJECT_RUNS").and_then(|text| text.parse().ok());
    if campaign.is_some() { (1_000_000, 1_000, campaign) } else { (100_000, 100, None) }
}

/// Carries the copies out in turn and judges each; of two runs over all of them one is killed once. Says what happened.
fn campaign(mut trials: Vec<Trial>, runs: usize) -> String {
    let (rows, bad, _) = size();
    let chance = Ambient::test(1121);
    let (mut done, mut killed, mut found, mut shift) = (0, 0, 0, 0);
    let (mut kills_wanted, count) = (0, trials.len());
    while done < runs {
        let run = run_id();
        let Trial { world, target, job, secrets, seconds } = &trials[done % count];
        let _ = std::fs::remove_file(world.path("target.parquet"));
        // Half of the runs are killed once: at any moment, or right around the two commits. A kill that comes too late
        // is tried again, earlier.
        let share = (chance.draw() % 1000) as f64 / 1000.0 / f64::from(1 << shift);
        let commit = if matches!(target, Target::Parquet) { 0.02 } else { 0.3 };
        let kill = match (done / count) % 4 {
            1 => Some(Kill::AfterGrant(Duration::from_secs_f64(share * commit))),
            3 => Some(Kill::AfterStart(Duration::from_secs_f64(share * seconds))),
            _ => None,
        };
        let begun = now();
        let (receipt, kills) = carried_out(job, &run, secrets, kill);
        let took = (now() - begun).as_secs_f64();
        world.check(&run, &trials[done % count].dump(), &receipt);
        if kill.is_some() && kills == 0 {
            shift += 1;
            continue;
        }
        if kill.is_none() {
            trials[done % count].seconds = took;
        }
        (done, shift) = (done + 1, 0);
        killed += kills;
        kills_wanted += u32::from(kill.is_some());
        found += u32::from(receipt["foundCommitted"] == true);
    }
    assert_eq!(killed, kills_wanted);
    format!(
        "{runs} runs of {rows} rows with {bad} bad: all exact; {killed} killed, {found} of these found committed, the \
         others repeated"
    )
}

#[test]
fn rows_left_out_are_accounted_for_also_after_a_kill() {
    let (rows, bad, runs) = size();
    let worlds = [need!(World::make(rows, bad, 7)), need!(World::make_for_table(rows, bad, 16))];
    let database = need!(Database::create());
    database.sql(KEYED);
    let [files, tables] = worlds;
    let trials = vec![Trial::of(files, Target::Parquet), Trial::of(tables, Target::Postgres(database))];
    println!("{}", campaign(trials, runs.unwrap_or(4)));
}

#[test]
fn rows_that_sql_server_refuses_are_accounted_for_also_after_a_kill() {
    let (rows, bad, runs) = size();
    let world = need!(World::make_for_table(rows, bad, 21));
    let server = need!(sql_server::Server::start());
    server.sql(
        "CREATE TABLE target (id int NOT NULL PRIMARY KEY, name nvarchar(100), amount decimal(12,2), \
         at datetime2(6) NOT NULL, flag bit NOT NULL, CHECK (amount < 90000000))",
    );
    println!("{}", campaign(vec![Trial::of(world, Target::SqlServer(server))], runs.unwrap_or(2)));
}

#[test]
fn a_commit_that_is_found_tells_what_was_left_out() {
    let world = need!(World::make(5_000, 50, 15));
    let (run, job) = (run_id(), world.copied_to_parquet(json!({})));
    let first = attempt(&job, &run, 1, secrets(None), None).receipt();
    let second = attempt(&job, &run, 2, secrets(None), None).receipt();
    assert_eq!((&first["foundCommitted"], &second["foundCommitted"]), (&json!(false), &json!(true)));
    assert_eq!(first["skipped"]["digest"], second["skipped"]["digest"]);
    world.check(&run, &world.text("target.parquet"), &second);
}

#[test]
fn too_many_rows_stop_the_copy_and_the_target_stays() {
    let world = need!(World::make(5_000, 100, 8));
    std::fs::write(world.path("target.parquet"), "old").expect("an old target");
    let fault = |tolerance: Value| {
        let run = run_id();
        let message =
            attempt(&world.copied_to_parquet(tolerance), &run, 1, secrets(None), None).fault("UserErrorTooManySkipped");
        assert!(message.contains("The first: row "), "{message}");
        assert_eq!(std::fs::read_to_string(world.path("target.parquet")).expect("it is there"), "old");
        assert!(!Path::new(&world.redirect(&run)).exists(), "nothing was left out, for nothing was copied");
        message
    };
    println!("{}", fault(json!({ "rowsMax": 99 })));
    println!("{}", fault(json!({ "shareMax": 0.019 })));
    println!("{}", fault(json!({ "rowsMax": 0 })));
    let run = run_id();
    let job = world.copied_to_parquet(json!({ "rowsMax": 100, "shareMax": 0.02 }));
    let receipt = attempt(&job, &run, 1, secrets(None), None).receipt();
    world.check(&run, &world.text("target.parquet"), &receipt);
}

#[test]
fn without_tolerance_the_first_bad_row_stops_the_copy() {
    let world = need!(World::make(5_000, 1, 9));
    let mut job = world.copied_to_parquet(json!({}));
    job["options"]["tolerance"] = Value::Null;
    assert!(matches!(attempt(&job, &run_id(), 1, secrets(None), None), Ended::Failed(_)));
    assert!(!world.path("target.parquet").exists() && !world.path("left-out").exists());
}

#[test]
fn all_good_leaves_no_redirect_and_all_bad_no_rows() {
    let world = need!(World::make(3_000, 0, 10));
    let run = run_id();
    let receipt = attempt(&world.copied_to_parquet(json!({})), &run, 1, secrets(None), None).receipt();
    assert_eq!(receipt["skipped"], json!({ "rows": 0 }));
    assert!(!Path::new(&world.redirect(&run)).exists());
    let world = need!(World::make(3_000, 3_000, 11));
    let receipt = attempt(&world.copied_to_parquet(json!({})), &run, 1, secrets(None), None).receipt();
    assert_eq!(receipt["written"]["rows"], 0);
    world.check(&run, &world.text("target.parquet"), &receipt);
}

#[test]
fn a_null_the_target_does_not_take_is_left_out() {
    let world = need!(World::make(10, 0, 12));
    let database = need!(Database::create());
    database.sql(TABLE);
    let source = "id,name,amount,at,flag\n\"1\",,,\"2024-01-01 00:00:00\",\"true\"\n,\"x\",,\"2024-01-01\",\"true\"\n";
    std::fs::write(world.path("source.csv"), source).expect("a source");
    let run = run_id();
    let job = world.copied_to_table(&database, json!({}));
    let receipt = attempt(&job, &run, 1, secrets(Some(&database)), None).receipt();
    assert_eq!((&receipt["written"]["rows"], &receipt["skipped"]["rows"]), (&json!(1), &json!(1)));
    assert_eq!(database.number("SELECT sum(id) FROM target"), 1);
    let redirect = std::fs::read_to_string(world.redirect(&run)).expect("a redirect file");
    assert!(redirect.contains("NULL, which the target's column does not take"), "{redirect}");
}

#[test]
fn a_mended_redirect_file_can_be_copied_in() {
    let world = need!(World::make(20_000, 200, 13));
    let database = need!(Database::create());
    database.sql(TABLE);
    let run = run_id();
    let receipt =
        attempt(&world.copied_to_table(&database, json!({})), &run, 1, secrets(Some(&database)), None).receipt();
    world.check(&run, &dump(&database, &world), &receipt);
    let folder = world.folder.path().to_str().expect("a plain path");
    let _ = judged(&["mend", folder, &world.redirect(&run), &world.text("mended.csv")]).expect("python");
    let (url, mended) = (database.url(), format!("file:{}", world.text("mended.csv")));
    let mut copy = dmg(["copy", "--from", &mended, "--to", &url, "--secret-file", &database.password_file]);
    copy.args(["--table", "target"]);
    for name in ["id", "name", "amount", "at", "flag"] {
        copy.args(["--column", name]);
    }
    let _ = Answer::of(&mut copy).ok();
    assert_eq!(database.number("SELECT count(*) FROM target"), 20_000);
    assert_eq!(database.number("SELECT count(DISTINCT id) FROM target"), 20_000);
}

#[test]
fn a_copy_keeps_to_its_rate_and_says_what_held_it_back() {
    let world = need!(World::make(20_000, 0, 14));
    let copy = |options: &[(&str, Value)]| {
        let mut job = world.copied_to_parquet(json!({}));
        options.iter().for_each(|(name, value)| job["options"][*name] = value.clone());
        attempt(&job, &run_id(), 1, secrets(None), None).receipt()
    };
    let moving = |receipt: &Value| {
        let stages = receipt["stages"].as_array().expect("stages");
        stages.iter().find(|stage| stage["stage"] == "move").and_then(|it| it["seconds"].as_f64()).expect("a move")
    };
    let free = copy(&[]);
    let verdict = free["bottleneck"]["verdict"].as_str().expect("a verdict");
    assert!(["read", "decode", "convert", "encode", "write", "commit"].contains(&verdict), "{verdict}");
    let rows = moving(&copy(&[("rowsPerSecond", json!(10_000))]));
    assert!((1.8..4.0).contains(&rows), "20,000 rows at 10,000 a second took {rows} s");
    let size = std::fs::metadata(world.path("source.csv")).expect("the source").len();
    let bytes = moving(&copy(&[("bytesPerSecond", json!(size / 2))]));
    assert!((1.8..4.0).contains(&bytes), "{size} bytes at half of them a second took {bytes} s");
    println!("free {:.2} s, held back by {verdict}; by rows {rows:.2} s, by bytes {bytes:.2} s", moving(&free));
}
