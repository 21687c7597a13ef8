//! The session log of a copy, and the redirect file as the original lays it out: exactly the rows left out, with number,
//! column and code, also when the worker is killed and the run is repeated, and nothing of a copy that did not happen.
//! Python's csv module judges.

use std::path::PathBuf;
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_system_tests::program::judge;
use dmg_system_tests::worker::{Ended, Kill, attempt};
use dmg_system_tests::{Answer, Database, Installation, azurite, need};
use serde_json::{Value, json};

const TABLE: &str = "CREATE TABLE target (id int PRIMARY KEY, name text, amount numeric(12,2), at timestamp NOT NULL, \
                     flag boolean NOT NULL, CHECK (amount < 90000000))";

/// Where rows left out are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Log,
    LogWithFiles,
    Original,
}

impl Told {
    fn judged_as(self) -> &'static str {
        match self {
            Told::Log => "log",
            Told::LogWithFiles => "log-files",
            Told::Original => "original",
        }
    }
}

/// A folder with rows of which some are bad.
struct World {
    folder: tempfile::TempDir,
    database: Option<Database>,
}

impl World {
    fn make(rows: u64, bad: u64, seed: u64, database: Option<Database>) -> Option<World> {
        let world = World { folder: tempfile::tempdir().expect("a folder"), database };
        let (rows, bad, seed) = (rows.to_string(), bad.to_string(), seed.to_string());
        let mut arguments = vec!["make", world.root(), &rows, &bad, &seed];
        arguments.extend(world.database.as_ref().map(|_| "table"));
        let _ = Answer::of(&mut judge("judge/rejects.py", arguments)?).ok();
        Some(world)
    }

    fn root(&self) -> &str {
        self.folder.path().to_str().expect("a plain path")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        format!("{}/{name}", self.root())
    }

    fn job(&self, told: Told) -> Value {
        let store = json!({ "store": "file", "settings": { "root": self.root() } });
        let file = |name: &str, format: Value| {
            let object = json!({ "kind": "files", "folder": "", "file": name });
            json!({ "store": store, "object": object, "format": format })
        };
        let lossless = json!({ "format": "text", "rowDelimiter": "\n", "quoteChar": "\"", "escapeChar": "\"",
            "nullValues": [""], "firstRowAsHeader": true, "emptyAsNull": false, "quoteAll": true });
        let mut source = file("source.csv", lossless);
        let sink = match &self.database {
            Some(database) => {
                let (host, port) = database.host_and_port();
                let settings = json!({ "host": host, "port": port, "database": database.name, "user": database.user(),
                    "sslMode": "disable" });
                json!({ "store": { "store": "postgres", "settings": settings },
                    "object": { "kind": "table", "schema": "public", "table": "target" } })
            }
            None => {
                source["declared"] = json!([
                    { "name": "id", "kind": "int32" }, { "name": "name", "kind": "text" },
                    { "name": "amount", "kind": "decimal(12,2)" }, { "name": "at", "kind": "timestamp" },
                    { "name": "flag", "kind": "boolean" },
                ]);
                file("target.parquet", json!({ "format": "parquet" }))
            }
        };
        let mut options = json!({ "mode": "overwrite", "tolerance": {} });
        match told {
            Told::Log => options["log"] = json!({ "store": store, "folder": "told" }),
            Told::LogWithFiles => options["log"] = json!({ "store": store, "folder": "told", "level": "info" }),
            Told::Original => {
                options["tolerance"]["redirect"] = json!({ "store": store, "folder": "told", "layout": "original" });
            }
        }
        let parties = json!({ "node": "test", "activity": "Copy / orders" });
        json!({ "parties": parties, "source": source, "sink": sink, "options": options })
    }

    /// A job that leaves no row out.
    fn log_alone(&self) -> Value {
        let mut job = self.job(Told::LogWithFiles);
        job["options"]["tolerance"] = Value::Null;
        job
    }

    fn place(&self, told: Told, run: &str) -> String {
        match told {
            Told::Original => self.text(&format!("told/{run}/{run}.csv")),
            _ => self.text(&format!("told/copyactivity-logs/Copy _ orders/{run}/{run}.txt")),
        }
    }

    fn attempt(&self, job: &Value, run: &str, epoch: u64, kill: Option<Kill>) -> Ended {
        let password = self.database.as_ref().map(|it| std::fs::read_to_string(&it.password_file).expect("a password"));
        let sink = password.map_or(json!({}), |password| json!({ "password": password.trim() }));
        attempt(job, run, epoch, [json!({}), sink], kill)
    }

    fn check(&self, told: Told, run: &str, receipt: &Value) {
        self.check_file(told, &self.place(told, run), receipt);
    }

    fn check_file(&self, told: Told, file: &str, receipt: &Value) {
        std::fs::write(self.path("receipt.json"), receipt.to_string()).expect("the receipt is kept");
        let target = match &self.database {
            Some(database) => {
                let text = database.sql("COPY (SELECT * FROM target) TO STDOUT (FORMAT csv, HEADER)");
                std::fs::write(self.path("target.csv"), text).expect("the dump is kept");
                self.text("target.csv")
            }
            None => self.text("target.parquet"),
        };
        let receipt = self.text("receipt.json");
        let arguments = ["check", self.root(), file, &target, &receipt, told.judged_as()];
        let _ = Answer::of(&mut judge("judge/rejects.py", arguments).expect("python")).ok();
    }
}

fn run_id() -> String {
    Ambient::real().uuid()
}

fn table() -> Option<Database> {
    let database = Database::create()?;
    database.sql(TABLE);
    Some(database)
}

#[test]
fn exactly_the_rows_left_out_are_told_also_after_a_kill() {
    let worlds = [need!(World::make(20_000, 50, 31, None)), need!(World::make(20_000, 50, 32, Some(need!(table()))))];
    let chance = Ambient::test(1131);
    let (mut killed, mut runs) = (0, 0);
    for (index, world) in worlds.iter().enumerate() {
        for told in [Told::Log, Told::LogWithFiles, Told::Original] {
            for moment in 0..3 {
                let share = (chance.draw() % 1000) as f64 / 1000.0;
                let kill = match moment {
                    0 => None,
                    1 => Some(Kill::AfterStart(Duration::from_secs_f64(0.05 + share * 0.1))),
                    _ => Some(Kill::AfterGrant(Duration::from_secs_f64(share * if index == 1 { 0.1 } else { 0.02 }))),
                };
                let (job, run) = (world.job(told), run_id());
                let receipt = match world.attempt(&job, &run, 1, kill) {
                    Ended::Killed => {
                        killed += 1;
                        world.attempt(&job, &run, 2, None).receipt()
                    }
                    ended => ended.receipt(),
                };
                world.check(told, &run, &receipt);
                // A commit that is found tells the same.
                let found = world.attempt(&job, &run, 3, None).receipt();
                assert_eq!(found["foundCommitted"], true);
                assert_eq!(found["skipped"]["digest"], receipt["skipped"]["digest"]);
                world.check(told, &run, &found);
                runs += 1;
            }
        }
    }
    println!("{runs} runs, {killed} killed once: all exact");
    assert!(killed > 0);
}

#[test]
fn where_no_row_is_left_out_the_log_says_so() {
    let world = need!(World::make(1_000, 0, 33, None));
    for told in [Told::Log, Told::LogWithFiles] {
        let run = run_id();
        let receipt = world.attempt(&world.job(told), &run, 1, None).receipt();
        assert_eq!(receipt["skipped"]["rows"], 0);
        world.check(told, &run, &receipt);
        let found = world.attempt(&world.job(told), &run, 2, None).receipt();
        assert_eq!((&found["foundCommitted"], &found["skipped"]["rows"]), (&json!(true), &json!(0)));
    }
    let run = run_id();
    let receipt = world.attempt(&world.job(Told::Original), &run, 1, None).receipt();
    assert_eq!(receipt["skipped"], json!({ "rows": 0 }));
    assert!(!world.path(&world.place(Told::Original, &run)).exists());
}

#[test]
fn a_log_alone_tells_files_and_lets_no_row_out() {
    let world = need!(World::make(1_000, 0, 34, None));
    let (job, run) = (world.log_alone(), run_id());
    let mut receipt = world.attempt(&job, &run, 1, None).receipt();
    assert_eq!(receipt["skipped"], Value::Null);
    let found = world.attempt(&job, &run, 2, None).receipt();
    assert_eq!((&found["foundCommitted"], &found["skipped"]), (&json!(true), &Value::Null));
    assert!(!found["notices"].to_string().contains("left out"), "{found}");
    receipt["skipped"] = json!({ "rows": 0 });
    world.check(Told::LogWithFiles, &run, &receipt);
    let world = need!(World::make(1_000, 1, 35, None));
    let run = run_id();
    assert!(matches!(world.attempt(&world.log_alone(), &run, 1, None), Ended::Failed(_)));
    assert!(!world.path("target.parquet").exists() && !world.path(&world.place(Told::Log, &run)).exists());
}

#[test]
fn a_commit_that_is_refused_takes_back_what_was_told() {
    let world = need!(World::make(500, 20, 36, Some(need!(table()))));
    let database = world.database.as_ref().expect("it was made with one");
    // Nothing but the commit itself finds this.
    database.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$; \
         CREATE CONSTRAINT TRIGGER refusing AFTER INSERT ON target DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let named = |run: &str| world.text(&format!("told/{run}.csv"));
    for told in [Some(Told::Log), Some(Told::Original), None] {
        let run = run_id();
        let mut job = world.job(told.unwrap_or(Told::Original));
        if told.is_none() {
            job["options"]["tolerance"]["redirect"]["layout"] = json!("named");
        }
        job["options"]["mode"] = json!("append");
        assert!(matches!(world.attempt(&job, &run, 1, None), Ended::Failed(_)));
        assert_eq!(database.number("SELECT count(*) FROM target"), 0);
        let file = told.map_or_else(|| named(&run), |told| world.place(told, &run));
        let text = std::fs::read_to_string(&file).expect("it was committed before the table");
        let lines = text.lines().count();
        assert_eq!(lines, usize::from(told != Some(Told::Original)), "{text}");
        // Nobody is in the way any more: another attempt of the run tells the rows again.
        database.sql("ALTER TABLE target DISABLE TRIGGER refusing");
        let receipt = world.attempt(&job, &run, 2, None).receipt();
        match told {
            Some(told) => world.check(told, &run, &receipt),
            None => assert_eq!(std::fs::read_to_string(file).expect("a file").lines().next(), text.lines().next()),
        }
        database.sql("DELETE FROM target; ALTER TABLE target ENABLE TRIGGER refusing");
    }
}

const DEADLINE: Duration = Duration::from_secs(60);

/// Documents of version 2 through service and node: what the original's members do, and what the output says.
#[test]
fn the_output_says_where_rows_left_out_are_told() {
    let azurite = need!(azurite());
    let world = need!(World::make(2_000, 40, 37, None));
    let it = Installation::start("info");
    let container = format!("log-{}", run_id());
    let make = judge("judge/container.py", [&azurite.endpoint, &azurite.key_file, &container]);
    let _ = Answer::of(&mut make.expect("python")).ok();
    let via = json!({ "referenceName": "onprem", "type": "IntegrationRuntimeReference" });
    let service =
        |kind: &str, properties: Value| json!({ "type": kind, "connectVia": via, "typeProperties": properties });
    it.put("linked-service", "disk", service("FileServer", json!({ "host": world.root() })));
    let key = std::fs::read_to_string(&azurite.key_file).expect("the key");
    let account = azurite.endpoint.rsplit('/').next().expect("the account");
    let text = format!(
        "DefaultEndpointsProtocol=http;AccountName={account};AccountKey={};BlobEndpoint={}",
        key.trim(),
        azurite.endpoint
    );
    let secret = json!({ "connectionString": { "type": "SecureString", "value": text } });
    it.put("linked-service", "blobs", service("AzureBlobStorage", secret));
    let reference = |name: &str| json!({ "referenceName": name, "type": "LinkedServiceReference" });
    let dataset = |kind: &str, properties: Value, schema: Value| json!({ "type": kind, "linkedServiceName": reference("disk"), "typeProperties": properties, "schema": schema });
    let location = |file: &str| json!({ "type": "FileServerLocation", "fileName": file });
    let schema = json!([
        { "name": "id", "type": "Int32" }, { "name": "name", "type": "String" },
        { "name": "amount", "type": "Decimal", "precision": 12, "scale": 2 }, { "name": "at", "type": "DateTime" },
        { "name": "flag", "type": "Boolean" },
    ]);
    let format = json!({ "location": location("source.csv"), "columnDelimiter": ",", "rowDelimiter": "\n",
        "quoteChar": "\"", "escapeChar": "\"", "firstRowAsHeader": true, "nullValue": "" });
    it.put("dataset", "source", dataset("DelimitedText", format, schema));
    let target = json!({ "location": location("target.parquet") });
    it.put("dataset", "target", dataset("Parquet", target, json!([])));
    let log = |store: &str, path: &str| {
        json!({ "logSettings": { "enableCopyActivityLog": true,
            "copyActivityLogSettings": { "logLevel": "Info", "enableReliableLogging": false },
            "logLocationSettings": { "linkedServiceName": reference(store), "path": path } } })
    };
    let redirect = |store: &str, path: &str| json!({ "redirectIncompatibleRowSettings": { "linkedServiceName": reference(store), "path": path } });
    let in_blob = format!("{container}/session");
    for (told, store, path, settings) in [
        (Told::LogWithFiles, "disk", "logs", log("disk", "logs")),
        (Told::LogWithFiles, "blobs", &in_blob, log("blobs", &in_blob)),
        (Told::Original, "disk", "bad", redirect("disk", "bad")),
        (Told::Original, "blobs", &in_blob, redirect("blobs", &in_blob)),
    ] {
        let mut properties = json!({ "source": { "type": "DelimitedTextSource" }, "sink": { "type": "ParquetSink" },
            "enableSkipIncompatibleRow": true });
        properties.as_object_mut().expect("members").extend(settings.as_object().expect("members").clone());
        let dataset = |name: &str| json!([{ "referenceName": name, "type": "DatasetReference" }]);
        it.put(
            "pipeline",
            "bad",
            json!({ "activities": [{ "name": "Copy rows", "type": "Copy", "inputs": dataset("source"),
                "outputs": dataset("target"), "typeProperties": properties }] }),
        );
        let (status, shown) = it.wait_run(&it.run("bad"), DEADLINE);
        assert_eq!(status, "Succeeded", "{shown:#}");
        let activity = &shown["activities"][0];
        let output = &activity["output"];
        assert_eq!((&output["rowsSkipped"], &output["rowsCopied"]), (&json!(40), &json!(1960)), "{output:#}");
        let run = activity["activityRunId"].as_str().expect("an id");
        let (member, other, folder, name) = match told {
            Told::Original => ("redirectRowPath", "logFilePath", format!("{path}/{run}/"), format!("{run}.csv")),
            _ => (
                "logFilePath",
                "redirectRowPath",
                format!("{path}/copyactivity-logs/Copy rows/{run}/"),
                format!("{run}.txt"),
            ),
        };
        assert_eq!((output[member].as_str(), output.get(other)), (Some(folder.as_str()), None), "{output:#}");
        if store == "blobs" {
            let arguments = [&azurite.endpoint, &azurite.key_file, &container, &world.text(&container)];
            let _ = Answer::of(&mut judge("judge/blobs.py", arguments).expect("python")).ok();
        }
        let receipt: Value =
            serde_json::from_str(output["receipt"]["payload"].as_str().expect("it is signed")).expect("it is JSON");
        world.check_file(told, &world.text(&format!("{folder}{name}")), &receipt);
    }
}
