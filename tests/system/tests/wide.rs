//! A table with every type PostgreSQL has goes into Parquet, text and blobs and comes back; psql and the Python
//! digest judge, not we.

use std::collections::BTreeMap;
use std::path::Path;

use dmg_system_tests::program::receipt;
use dmg_system_tests::{Answer, Database, azurite, dmg, judge, need};

const WIDE: &str = include_str!("wide.sql");

/// Columns whose kinds we model: each must be exact or checked.
const MODELED: &[&str] = &[
    "a_bool",
    "a_int2",
    "a_int4",
    "a_int8",
    "a_float4",
    "a_float8",
    "a_num_9_2",
    "a_num_38_10",
    "a_text",
    "a_varchar",
    "a_char",
    "a_bytea",
    "a_date",
    "a_time",
    "a_timestamp",
    "a_timestamptz",
    "a_uuid",
    "a_json",
    "a_jsonb",
];

struct World {
    database: Database,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Option<World> {
        let database = Database::create()?;
        database.sql(WIDE);
        database.sql("CREATE TABLE back (LIKE wide)");
        Some(World { database, folder: tempfile::tempdir().expect("a folder") })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn copy_out(&self, table: &str, to: &[&str]) -> Answer {
        let (url, receipt) = (self.database.url(), self.path("receipt.json"));
        let from = ["copy", "--from", &url, "--secret-file", &self.database.password_file, "--table", table];
        let tail = ["--mode", "overwrite", "--verify", "full", "--receipt", &receipt];
        Answer::of(&mut dmg(from.iter().chain(to).chain(&tail)))
    }

    fn copy_in(&self, from: &[&str], table: &str) -> Answer {
        let url = self.database.url();
        let to = ["--to", &url, "--secret-file", &self.database.password_file, "--table", table, "--mode", "overwrite"];
        Answer::of(&mut dmg(["copy"].iter().chain(from).chain(&to)))
    }

    fn equal(&self) {
        assert!(self.database.number("SELECT count(*) FROM back") > 5);
        // Column by column first, so that a failure names the column; one query for all, since psql starts slowly.
        let columns = "SELECT attname FROM pg_attribute WHERE attrelid = 'wide'::regclass AND attnum > 0";
        let columns = self.database.sql(columns);
        let query: Vec<String> = columns
            .lines()
            .map(|c| {
                let one_way =
                    |a: &str, b: &str| format!("SELECT {c}::text FROM {a} EXCEPT ALL SELECT {c}::text FROM {b}");
                let (there, back) = (one_way("wide", "back"), one_way("back", "wide"));
                format!("SELECT '{c}' WHERE EXISTS ({there}) OR EXISTS ({back})")
            })
            .collect();
        let query = format!("SET extra_float_digits = 3; SET TimeZone = 'UTC'; {}", query.join(" UNION ALL "));
        assert_eq!(self.database.sql(&query), "", "columns that differ");
        assert_eq!(self.database.differences("wide", "back"), 0);
    }

    fn verdicts(&self) -> BTreeMap<String, String> {
        let receipt = receipt(Path::new(&self.path("receipt.json")));
        let columns = receipt["columns"].as_array().expect("columns").iter();
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        columns.map(|column| (text(&column["source"]), text(&column["verdict"]))).collect()
    }

    fn modeled_columns_are_safe(&self) {
        let verdicts = self.verdicts();
        for column in MODELED {
            let verdict = verdicts[*column].as_str();
            assert!(matches!(verdict, "exact" | "checked" | "widened"), "{column} is {verdict}");
        }
    }
}

#[test]
fn through_parquet_and_back() {
    let world = need!(World::new());
    let file = world.path("wide.parquet");
    let _ = world.copy_out("wide", &["--to", &format!("file:{file}")]).ok();
    world.modeled_columns_are_safe();
    let receipt = world.path("receipt.json");
    let mut parquet = need!(judge("judge/digest.py", ["parquet", &receipt, &file]));
    let _ = Answer::of(&mut parquet).ok();
    let url = world.database.url();
    let table = ["postgres", &receipt, &url, "wide", "--password-file", &world.database.password_file];
    let mut table = need!(judge("judge/digest.py", table));
    let _ = Answer::of(&mut table).ok();
    let _ = world.copy_in(&["--from", &format!("file:{file}")], "back").ok();
    world.equal();
}

#[test]
fn through_text_and_back() {
    let world = need!(World::new());
    let file = world.path("wide.csv");
    let _ = world.copy_out("wide", &["--to", &format!("file:{file}")]).ok();
    world.modeled_columns_are_safe();
    let _ = world.copy_in(&["--from", &format!("file:{file}")], "back").ok();
    world.equal();
}

#[test]
fn from_table_to_table() {
    let world = need!(World::new());
    let (url, password) = (world.database.url(), world.database.password_file.clone());
    let _ = world.copy_out("wide", &["--to", &url, "--secret-file", &password, "--table", "back"]).ok();
    world.modeled_columns_are_safe();
    world.equal();
}

#[test]
fn through_a_blob_and_back() {
    let world = need!(World::new());
    let azurite = need!(azurite());
    let container = world.database.name.replace('_', "-");
    let mut make = need!(judge("judge/container.py", [&azurite.endpoint, &azurite.key_file, &container]));
    let _ = Answer::of(&mut make).ok();
    for name in ["wide.parquet", "wide.csv"] {
        let uri = format!("azblob://devstoreaccount1/{container}/folder/{name}");
        let blob = [&uri, "--endpoint", &azurite.endpoint, "--secret-file", &azurite.key_file];
        let to: Vec<&str> = ["--to"].into_iter().chain(blob).collect();
        let _ = world.copy_out("wide", &to).ok();
        let from: Vec<&str> = ["--from"].into_iter().chain(blob).collect();
        let _ = world.copy_in(&from, "back").ok();
        world.equal();
    }
}

#[test]
fn a_value_the_plan_did_not_promise_changes_nothing() {
    let world = need!(World::new());
    let file = world.path("kept.parquet");
    let _ = world.copy_out("wide", &["--to", &format!("file:{file}")]).ok();
    let before = std::fs::read(&file).expect("it was written");
    world.database.sql("INSERT INTO wide (id, a_num_38_10) VALUES (99, 'NaN')");
    let answer = world.copy_out("wide", &["--to", &format!("file:{file}")]).fault("UserErrorValue");
    assert!(answer.errors.contains("a_num_38_10"), "{}", answer.errors);
    assert_eq!(std::fs::read(&file).expect("it is still there"), before);
    let left: Vec<_> = std::fs::read_dir(world.folder.path()).expect("a folder").collect();
    assert_eq!(left.len(), 2, "nothing but the file and the receipt: {left:?}");
}
