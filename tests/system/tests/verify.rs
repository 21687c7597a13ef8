//! `dmg verify` against differences that a Python script planted at random: all are found, none is invented, by key and
//! without, across engines and between tables and files. `DMG_VERIFY_SEEDS` sets how many sets are tried.

use std::path::Path;

use dmg_system_tests::{Answer, Database, dmg, judge, need};

const ROWS: u32 = 20_000;
const PLANTS: u32 = 60;

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> Option<World> {
        let folder = tempfile::tempdir().expect("a folder");
        let numbers = [seed, u64::from(ROWS), u64::from(PLANTS)].map(|number| number.to_string());
        let mut plant = judge("judge/plant.py", [folder.path().as_os_str()])?;
        let _ = Answer::of(plant.args(numbers)).ok();
        Some(World { folder })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("it was written")
    }

    /// Compares by `dmg verify` and lets the judge look at the answer.
    fn differs(&self, what: &str, arguments: &[&str], key: bool) {
        let limit = (PLANTS * 3).to_string();
        let mut command = dmg(["verify"]);
        command.args(arguments).args(["--json", "--limit", &limit]);
        command.args(if key { ["--key", "id"].as_slice() } else { &["--no-key"] });
        let answer = Answer::of(&mut command);
        assert_eq!(answer.code, 1, "{what}: {}{}", answer.output, answer.errors);
        let file = self.path("answer.json");
        std::fs::write(&file, &answer.output).expect("the answer is kept");
        let truth = self.path("truth.json");
        let mut check = judge("judge/plant.py", ["check", &truth, &file]).expect("it was there");
        if !key {
            check.arg("nokey");
        }
        let said = Answer::of(&mut check);
        assert_eq!(said.code, 0, "{what}, seed kept in {}: {}", Path::new(&file).display(), said.errors);
    }

    fn equals(&self, what: &str, arguments: &[&str]) {
        let answer = Answer::of(dmg(["verify"]).args(arguments));
        assert_eq!(answer.code, 0, "{what}: {}{}", answer.output, answer.errors);
        assert!(answer.output.contains("\nequal"), "{what}: {}", answer.output);
    }
}

fn seeds() -> u64 {
    dmg_ambient::environment("DMG_VERIFY_SEEDS").and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[test]
fn planted_differences_between_tables_and_files_of_postgresql() {
    for seed in 1..=seeds() {
        let world = need!(World::new(seed));
        let database = need!(Database::create());
        database.sql(&world.text("left.sql"));
        database.sql(&world.text("right.sql"));
        let url = database.url();
        let left = [url.as_str(), "--table", "l", "--secret-file", &database.password_file];
        let right = [url.as_str(), "--table", "r", "--secret-file", &database.password_file];
        let (same, file) =
            (format!("file:{}", world.path("left.parquet")), format!("file:{}", world.path("right.parquet")));
        for key in [true, false] {
            world.differs("PostgreSQL and PostgreSQL", &[left, right].concat(), key);
            world.differs("PostgreSQL and Parquet", &[left.as_slice(), &[&file]].concat(), key);
            world.differs("Parquet and Parquet", &[same.as_str(), &file], key);
        }
        world.equals("PostgreSQL and itself", &[left, left].concat());
        world.equals("PostgreSQL and Parquet", &[left.as_slice(), &[&same]].concat());
    }
}

#[test]
fn planted_differences_between_sqlite_and_text() {
    for seed in 100..100 + seeds() {
        let world = need!(World::new(seed));
        let (left, right) =
            (format!("sqlite:{}", world.path("left.sqlite")), format!("file:{}", world.path("right.csv")));
        let parquet = format!("file:{}", world.path("left.parquet"));
        for key in [true, false] {
            world.differs("SQLite and text", &[&left, "--table", "t", &right], key);
        }
        world.differs("Parquet and text", &[&parquet, &right], true);
        world.equals("SQLite and Parquet", &[&left, "--table", "t", &parquet]);
    }
}

#[test]
fn planted_differences_between_postgresql_and_mariadb() {
    let mariadb = need!(dmg_system_tests::mariadb::Database::create());
    let database = need!(Database::create());
    let world = need!(World::new(7));
    database.sql(&world.text("left.sql"));
    mariadb.sql(&world.text("right.mysql.sql"));
    let (from, to) = (database.url(), mariadb.url());
    let left = [from.as_str(), "--table", "l", "--secret-file", &database.password_file];
    let right = [to.as_str(), "--table", "r", "--secret-file", &mariadb.password_file];
    for key in [true, false] {
        world.differs("PostgreSQL and MariaDB", &[left, right].concat(), key);
    }
}

/// More differences than fit into the memory for one pass: the buckets are looked at in groups.
#[test]
fn differences_that_do_not_fit_into_memory_are_counted_in_groups() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, rows: i64, offset: i64| {
        let connection = rusqlite::Connection::open(path(name)).expect("a database");
        connection
            .execute_batch(&format!(
                "CREATE TABLE t (id INTEGER, v TEXT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE \
                 i < {rows}) INSERT INTO t SELECT i, 'value ' || (i + {offset}) FROM n"
            ))
            .expect("rows");
    };
    write("a.sqlite", 300_000, 0);
    write("b.sqlite", 299_990, 1);
    let uri = |name: &str| format!("sqlite:{}", path(name).display());
    let arguments = ["verify", &uri("a.sqlite"), "--table", "t", &uri("b.sqlite"), "--table", "t", "--key", "id"];
    let answer = Answer::of(dmg(arguments).args(["--json", "--memory", "32", "--limit", "3"]));
    assert_eq!(answer.code, 1, "{}", answer.errors);
    let value = answer.json();
    assert_eq!(value["rows"], serde_json::json!({ "=": 0, "-": 10, "+": 0, "*": 299_990 }));
    assert_eq!(value["differences"].as_array().map(Vec::len), Some(3));
    assert_eq!(value["columns"][0]["differs"], true);
}

/// What people read, and the refusals.
#[test]
fn words() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().display().to_string();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    file(
        "a.csv",
        "\"id\",\"name\",\"amount\"\n\"1\",\"one\",\"1.50\"\n\"2\",,\"2\"\n\"3\",\"three\",\"3\"\n\"9\",\"nine\",\"9\"\n",
    );
    file(
        "b.csv",
        "\"id\",\"name\",\"amount\"\n\"1\",\"one\",\"1.50\"\n\"2\",\"\",\"2\"\n\"3\",\"drei\",\"4\"\n\"10\",\"ten\",\"10\"\n\"10\",\"ten\",\"10\"\n",
    );
    file("c.csv", "\"id\",\"label\"\n\"1\",\"one\"\n");
    let uri = |name: &str| format!("file:{here}/{name}");
    let (a, b, c) = (uri("a.csv"), uri("b.csv"), uri("c.csv"));
    let cases: &[&[&str]] = &[
        &[&a, &b, "--key", "id"],
        &[&a, &b, "--key", "id", "--limit", "1"],
        &[&a, &b],
        &[&a, &b, "--key", "id", "--columns", "id,amount"],
        &[&a, &a],
        &[&a, &c],
        &[&a, &c, "--mapping", "name=label", "--except", "amount"],
        &[&a, &b, "--key", "number"],
        &[&a, &b, "--key", "id", "--columns", "name"],
        &[&a, &uri("missing.csv")],
        &[&a],
    ];
    let mut all = String::new();
    for arguments in cases {
        let answer = Answer::of(dmg(["verify"]).args(*arguments));
        let shown =
            format!("$ dmg verify {}\n{}{}exit {}\n\n", arguments.join(" "), answer.output, answer.errors, answer.code);
        all.push_str(&shown.replace(&here, "/data"));
    }
    insta::assert_snapshot!(all);
}
