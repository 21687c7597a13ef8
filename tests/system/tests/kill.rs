//! Kills worker, host or service at a random moment of a chosen stage while a copy runs into a Parquet file, a blob or
//! a PostgreSQL table. Afterwards the target is old or new content, at the end it is the new one, and nothing is
//! doubled. `DMG_KILLS` sets the number of kills; the default fits a test run.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_system_tests::installation::kill_process;
use dmg_system_tests::program::judge;
use dmg_system_tests::wait::now;
use dmg_system_tests::{Answer, Azurite, Database, Installation, azurite, need};
use serde_json::{Value, json};

const ROWS: u64 = 200_000;
const STAGES: [&str; 5] = ["plan", "move", "verify", "commit", "report"];
const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    File,
    Blob,
    Table,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Worker,
    Host,
    Service,
}

struct World {
    installation: Installation,
    database: Database,
    azurite: Azurite,
    container: String,
}

impl World {
    fn new(database: Database, azurite: Azurite) -> World {
        for (name, batch) in [("src_a", 1), ("src_b", 2)] {
            database.sql(&format!(
                "CREATE TABLE {name} AS SELECT i AS id, {batch} AS batch, 'label ' || md5((i * {batch})::text) AS label, \
                 (i * 7.25 + {batch})::numeric(15,2) AS amount, \
                 timestamp '2024-01-01' + i * interval '1.000001 s' AS at FROM generate_series(1, {ROWS}) i; \
                 ANALYZE {name}"
            ));
        }
        database.sql("CREATE TABLE target (id int, batch int, label text, amount numeric(15,2), at timestamp)");
        let installation = Installation::start("debug,hyper=info,rustls=info,tokio_postgres=info");
        std::fs::create_dir(installation.path("out")).expect("a target folder");
        let container = database.name.replace('_', "-");
        let make = judge("judge/container.py", [&azurite.endpoint, &azurite.key_file, &container]);
        let _ = Answer::of(&mut make.expect("python")).ok();
        let world = World { installation, database, azurite, container };
        world.documents();
        world
    }

    fn documents(&self) {
        let it = &self.installation;
        let via = json!({ "referenceName": "onprem", "type": "IntegrationRuntimeReference" });
        let (host, port) = self.database.host_and_port();
        let password = std::fs::read_to_string(&self.database.password_file).expect("the password");
        it.put(
            "linked-service",
            "pg",
            json!({ "type": "PostgreSqlV2", "connectVia": via, "typeProperties": {
            "server": host, "port": port, "database": self.database.name, "username": self.database.user(),
            "sslMode": 0, "password": { "type": "SecureString", "value": password.trim() } } }),
        );
        it.put(
            "linked-service",
            "disk",
            json!({ "type": "FileServer", "connectVia": via,
            "typeProperties": { "host": it.path("out") } }),
        );
        let key = std::fs::read_to_string(&self.azurite.key_file).expect("the key");
        let account = self.azurite.endpoint.rsplit('/').next().expect("the account");
        let text = format!(
            "DefaultEndpointsProtocol=http;AccountName={account};AccountKey={};BlobEndpoint={}",
            key.trim(),
            self.azurite.endpoint
        );
        it.put(
            "linked-service",
            "blobs",
            json!({ "type": "AzureBlobStorage", "connectVia": via,
            "typeProperties": { "connectionString": { "type": "SecureString", "value": text } } }),
        );
        let dataset = |kind: &str, service: &str, properties: Value| {
            json!({ "type": kind, "linkedServiceName": { "referenceName": service, "type": "LinkedServiceReference" },
                "typeProperties": properties })
        };
        for table in ["src_a", "src_b", "target"] {
            it.put("dataset", table, dataset("PostgreSqlV2Table", "pg", json!({ "schema": "public", "table": table })));
        }
        it.put(
            "dataset",
            "file",
            dataset(
                "Parquet",
                "disk",
                json!({
            "location": { "type": "FileServerLocation", "fileName": "target.parquet" } }),
            ),
        );
        it.put("dataset", "blob", dataset("Parquet", "blobs", json!({
            "location": { "type": "AzureBlobStorageLocation", "container": self.container, "fileName": "target.parquet" } })));
        for (target, sink) in [("file", "ParquetSink"), ("blob", "ParquetSink"), ("target", "AzurePostgreSQLSink")] {
            for source in ["src_a", "src_b"] {
                it.put(
                    "pipeline",
                    &format!("{source}-{target}"),
                    json!({ "activities": [{
                    "name": "copy", "type": "Copy",
                    "inputs": [{ "referenceName": source, "type": "DatasetReference" }],
                    "outputs": [{ "referenceName": target, "type": "DatasetReference" }],
                    "typeProperties": { "source": { "type": "PostgreSqlV2Source" }, "sink": { "type": sink } } }] }),
                );
            }
        }
    }

    fn pipeline(target: Target, source: &str) -> String {
        format!(
            "{source}-{}",
            match target {
                Target::File => "file",
                Target::Blob => "blob",
                Target::Table => "target",
            }
        )
    }

    /// What the target holds now, in a form that can be compared; judged by other people's code.
    fn content(&self, target: Target) -> String {
        match target {
            Target::Table => self.database.sql(&format!("SELECT {SUM} FROM target t")),
            Target::File => {
                let path = self.installation.path("out/target.parquet");
                let mut command =
                    judge("judge/rows.py", ["file", path.to_str().expect("a plain path")]).expect("python");
                Answer::of(&mut command).ok().output.trim().to_owned()
            }
            Target::Blob => {
                let Azurite { endpoint, key_file } = &self.azurite;
                let arguments = ["blob", endpoint, key_file, &self.container, "target.parquet"];
                let mut command = judge("judge/rows.py", arguments).expect("python");
                Answer::of(&mut command).ok().output.trim().to_owned()
            }
        }
        .trim()
        .to_owned()
    }

    fn kill(&mut self, victim: Victim) -> bool {
        match victim {
            Victim::Worker => {
                let workers = self.installation.workers();
                workers.iter().for_each(|id| kill_process(*id));
                return !workers.is_empty();
            }
            Victim::Host => {
                self.installation.kill_node();
                self.installation.start_node();
            }
            Victim::Service => {
                self.installation.kill_service();
                self.installation.start_service();
            }
        }
        true
    }
}

/// Seconds each stage takes without kills.
fn stage_seconds(shown: &Value) -> BTreeMap<String, f64> {
    let text = shown.to_string();
    let stages = find_stages(shown).unwrap_or_else(|| panic!("no receipt in {text}"));
    let mut seconds: BTreeMap<String, f64> = stages
        .iter()
        .filter_map(|stage| Some((stage["stage"].as_str()?.to_owned(), stage["seconds"].as_f64()?)))
        .collect();
    seconds.insert("report".into(), 0.02);
    seconds
}

fn find_stages(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Object(members) => members.iter().find_map(|(name, value)| match (name.as_str(), value) {
            ("stages", Value::Array(stages)) => Some(stages.clone()),
            // Receipts are signed as text.
            ("payload", Value::String(text)) => find_stages(&serde_json::from_str(text).ok()?),
            _ => find_stages(value),
        }),
        Value::Array(items) => items.iter().find_map(find_stages),
        _ => None,
    }
}

/// Waits until the log says that a stage of the run began; false if the run went past it unseen. Looks without a
/// pause: the moment between commit and report is a few milliseconds long.
fn reached(world: &World, from: usize, stage: &str) -> bool {
    let path = world.installation.path("node.log");
    let mut log = std::fs::File::open(path).expect("the node has a log");
    log.seek(SeekFrom::Start(from as u64)).expect("the log does not shrink");
    let (begun, mut text) = (now(), String::new());
    while now() - begun < DEADLINE {
        let mut more = Vec::new();
        log.read_to_end(&mut more).expect("the log can be read");
        text.push_str(&String::from_utf8_lossy(&more));
        let at = |stage: &str| {
            text.lines().any(|line| line.contains("stage begins") && line.contains(&format!("\"{stage}\"")))
        };
        if at(stage) {
            return true;
        }
        if text.contains("job reported") || (stage != "report" && at("report")) {
            return false;
        }
        std::thread::yield_now();
    }
    panic!("waited {DEADLINE:?} for stage {stage}");
}

/// One copy with one kill. Returns whether the kill met the running copy, and what went wrong.
struct Trial {
    met: bool,
    told: bool,
    wrong: Option<String>,
}

/// Contents of the whole targets after each source, and seconds of each stage, without kills.
struct Clean {
    contents: BTreeMap<(Target, &'static str), String>,
    stages: BTreeMap<Target, BTreeMap<String, f64>>,
}

const SUM: &str = "count(*) || ' ' || coalesce(sum(('x' || md5(t::text))::bit(64)::bigint::numeric), 0)";

impl World {
    fn clean(&self, targets: &[Target]) -> Clean {
        let mut clean = Clean { contents: BTreeMap::new(), stages: BTreeMap::new() };
        for target in targets {
            for source in ["src_a", "src_b"] {
                let run = self.installation.run(&World::pipeline(*target, source));
                let (status, shown) = self.installation.wait_run(&run, DEADLINE);
                assert_eq!(status, "Succeeded", "{shown:#}");
                clean.contents.insert((*target, source), self.content(*target));
                let receipts = self.installation.dmg(["run", "receipt", &run]).ok().json();
                clean.stages.insert(*target, stage_seconds(&receipts));
            }
        }
        clean
    }

    fn trial(
        &mut self,
        clean: &Clean,
        target: Target,
        source: &'static str,
        victim: Victim,
        stage: &str,
        share: f64,
    ) -> Trial {
        let (old, new) = match target {
            // Appending: the old rows and, once, the new ones. Doubled rows would show in the sum.
            Target::Table => {
                self.database.sql("DELETE FROM target; INSERT INTO target SELECT * FROM src_a WHERE id <= 1000");
                let both = format!("(SELECT * FROM target UNION ALL SELECT * FROM {source})");
                (self.content(target), self.database.sql(&format!("SELECT {SUM} FROM {both} t")).trim().to_owned())
            }
            _ => (self.content(target), clean.contents[&(target, source)].clone()),
        };
        let from = self.installation.log_length("node");
        let run = self.installation.run(&World::pipeline(target, source));
        let (mut met, mut wrong) = (false, None);
        if reached(self, from, stage) {
            let pause = Duration::from_secs_f64(share * clean.stages[&target].get(stage).copied().unwrap_or(0.01));
            let begun = now();
            while now() - begun < pause {
                std::thread::yield_now();
            }
            met = self.kill(victim);
            let found = self.content(target);
            if found != old && found != new {
                wrong = Some(format!("right after the kill neither old nor new: {found}"));
            }
        }
        let (status, shown) = self.installation.wait_run(&run, DEADLINE);
        let last = self.content(target);
        if status != "Succeeded" || last != new {
            let message = shown["run"]["message"].as_str().unwrap_or_default();
            wrong.get_or_insert(format!("ended {status} with {last} instead of {new} {message}"));
        }
        let told = ["restarted", "foundCommitted\":true", "foundCommitted\\\":true"];
        let receipt = self.installation.dmg(["run", "receipt", &run]).output;
        let told = told.iter().any(|word| receipt.contains(word) || shown.to_string().contains(word));
        Trial { met, told, wrong: wrong.map(|why| format!("{victim:?} killed in {stage} of {target:?}: {why}")) }
    }
}

#[test]
fn killed_at_any_moment_the_target_is_old_or_new() {
    let database = need!(Database::create());
    let azurite = need!(azurite());
    let _python = need!(judge("judge/rows.py", ["file", "/nonexistent"]));
    let kills: usize = dmg_ambient::environment("DMG_KILLS").and_then(|text| text.parse().ok()).unwrap_or(12);
    let chance = Ambient::test(dmg_ambient::environment("DMG_SEED").and_then(|text| text.parse().ok()).unwrap_or(1121));
    let mut world = World::new(database, azurite);
    let targets = [Target::File, Target::Blob, Target::Table];
    let clean = world.clean(&targets);
    let mut table: BTreeMap<(Target, &str, Victim), u32> = BTreeMap::new();
    let (mut met, mut told) = (0_usize, 0);
    for trial in 0..kills * 2 {
        if met == kills {
            break;
        }
        let target = targets[trial % 3];
        let victim = [Victim::Worker, Victim::Host, Victim::Service][(trial / 3) % 3];
        let stage = STAGES[(trial + trial / 5) % STAGES.len()];
        let source = if (trial / 3) % 2 == 0 { "src_a" } else { "src_b" };
        let share = (chance.draw() % 1000) as f64 / 1000.0;
        let result = world.trial(&clean, target, source, victim, stage, share);
        assert_eq!(result.wrong, None, "trial {trial}");
        if result.met {
            met += 1;
            *table.entry((target, stage, victim)).or_default() += 1;
        }
        told += u32::from(result.told);
    }
    println!("{:8} {:8} {:>8} {:>6} {:>8}", "target", "stage", "worker", "host", "service");
    for target in targets {
        for stage in STAGES {
            let of = |victim| table.get(&(target, stage, victim)).copied().unwrap_or(0);
            let (worker, host, service) = (of(Victim::Worker), of(Victim::Host), of(Victim::Service));
            println!("{:8} {stage:8} {worker:>8} {host:>6} {service:>8}", format!("{target:?}"));
        }
    }
    println!("{met} kills met a running copy, {told} told of it; all ended with the new content, none doubled");
    assert_eq!(met, kills, "too few kills met a running copy");
    if kills >= 60 {
        for stage in &STAGES[..4] {
            let met: u32 = table.iter().filter(|((_, at, _), _)| at == stage).map(|(_, count)| count).sum();
            assert!(met >= 5, "only {met} kills in stage {stage}");
        }
    }
    let staging = "SELECT count(*) FROM pg_tables WHERE tablename ~ '^_dmg_[0-9a-f]'";
    assert_eq!(world.database.sql(staging).trim(), "0", "no staging table is left");
}

/// The same trials without the mark: rows are doubled, and the trial says so. A test that cannot fail proves nothing.
#[test]
fn without_the_mark_the_same_kills_double_rows() {
    let database = need!(Database::create());
    let azurite = need!(azurite());
    let mut world = World::new(database, azurite);
    let clean = world.clean(&[Target::Table]);
    // The mark is written, and gone again when its transaction commits.
    world.database.sql(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN DELETE FROM __dmg_commit WHERE run = NEW.run; RETURN NULL; END $$; \
         CREATE CONSTRAINT TRIGGER forget AFTER INSERT ON __dmg_commit DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION forget()",
    );
    let doubled = (0..20).find_map(|trial| {
        let victim = [Victim::Host, Victim::Worker][trial % 2];
        let wrong = world.trial(&clean, Target::Table, "src_b", victim, "report", 0.0).wrong;
        if let Some(wrong) = &wrong {
            println!("{wrong}");
        }
        wrong.filter(|_| world.database.number("SELECT count(*) FROM target") > 201_000)
    });
    let said = doubled.expect("20 kills right after a commit without a mark, and nothing was doubled");
    println!("found without the mark: {said}");
}
