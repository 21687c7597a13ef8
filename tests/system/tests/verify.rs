//! `dmg verify` against differences that a Python script planted at random: all are found, none is invented, by key and
//! without, across engines and between tables and files. `DMG_VERIFY_SEEDS` sets how many sets are tried.

use std::path::Path;

use dmg_system_tests::{Answer, Database, dmg, judge, mariadb, need, wait};
use dmg_tds_fixture::{Fixture, Options};

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

    /// Numbers that both sides hold in different types, and the truth about them.
    fn of_numbers(seed: u64) -> Option<World> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut numbers = judge("judge/same_numbers.py", [folder.path().as_os_str()])?;
        let _ = Answer::of(numbers.args([seed.to_string(), "3000".to_owned()])).ok();
        Some(World { folder })
    }

    /// Compares numbers and lets the judge look at the answer; `columns` are the only ones that may differ, all if none.
    fn numbers(&self, arguments: &[&str], columns: &[&str]) {
        let mut command = dmg(["verify"]);
        command.args(arguments).args(["--key", "id", "--as", "at=instant", "--json", "--limit", "5000"]);
        let answer = Answer::of(&mut command);
        let file = self.path("answer.json");
        std::fs::write(&file, &answer.output).expect("the answer is kept");
        let truth = self.path("truth.json");
        let mut check = judge("judge/same_numbers.py", ["check", &truth, &file]).expect("it was there");
        let said = Answer::of(check.args(columns));
        assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.errors, answer.errors);
    }

    /// A file with the fixture's password.
    fn fixture_password(&self) -> String {
        std::fs::write(self.path("fixture.password"), "Fixture-Password-1").expect("written");
        self.path("fixture.password")
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

/// SQL Server is the TDS fixture, filled by python-tds.
#[test]
fn planted_differences_between_sql_server_and_others() {
    let world = need!(World::new(11));
    let fixture = Fixture::start(Options::default()).expect("the TDS fixture starts");
    for side in ["left", "right"] {
        let folder = world.folder.path().to_string_lossy().into_owned();
        let mut load = judge("judge/plant.py", ["tds", &folder, &fixture.port.to_string(), side, side]).expect("there");
        let _ = Answer::of(&mut load).ok();
    }
    let (uri, secret) = (
        format!("sqlserver://sa@127.0.0.1:{}/fixture?trustServerCertificate=true", fixture.port),
        world.fixture_password(),
    );
    let side = |table| [uri.as_str(), "--table", table, "--secret-file", &secret];
    let (left, right) = (side("left"), side("right"));
    let (same, file) =
        (format!("file:{}", world.path("left.parquet")), format!("file:{}", world.path("right.parquet")));
    for key in [true, false] {
        world.differs("SQL Server and Parquet", &[left.as_slice(), &[&file]].concat(), key);
        world.differs("SQL Server and SQL Server", &[left, right].concat(), key);
        world.differs("Parquet and SQL Server", &[&[same.as_str()], right.as_slice()].concat(), key);
    }
    world.equals("SQL Server and Parquet", &[left.as_slice(), &[&same]].concat());
    let database = need!(Database::create());
    database.sql(&world.text("left.sql"));
    let url = database.url();
    let from = [url.as_str(), "--table", "l", "--secret-file", &database.password_file];
    world.differs("PostgreSQL and SQL Server", &[from, right].concat(), true);
    world.equals("PostgreSQL and SQL Server", &[from, left].concat());
    assert_eq!(fixture.panics(), 0, "mistakes of the fixture's own");
}

/// Whole numbers and decimals with doubles, instants with clocks: exactly, and as the nearest by the author's word.
#[test]
fn numbers_of_different_types() {
    const NEAREST: [&str; 6] = ["--as", "whole=float64", "--as", "amount=float64", "--as", "free=float64"];
    let world = need!(World::of_numbers(1));
    let database = need!(Database::create());
    database.sql(&world.text("left.sql"));
    let (url, file) = (database.url(), format!("file:{}", world.path("right.parquet")));
    let left = [url.as_str(), "--table", "l", "--secret-file", &database.password_file];
    world.numbers(&[left.as_slice(), &[&file]].concat(), &[]);
    world.numbers(&[left.as_slice(), &[&file], &NEAREST].concat(), &["at"]);
    let answer = Answer::of(dmg(["verify"]).args(left).args([&file])).fault("UserErrorSchemaMismatch");
    assert!(answer.errors.contains("Say --as \"at=instant\" if"), "{}", answer.errors);
    let mariadb = need!(mariadb::Database::create());
    mariadb.sql(&world.text("right.mysql.sql"));
    let to = mariadb.url();
    let right = [to.as_str(), "--table", "r", "--secret-file", &mariadb.password_file];
    world.numbers(&[left, right].concat(), &[]);
    world.numbers(&[left.as_slice(), &right, &NEAREST].concat(), &["at"]);
}

/// One line, and nothing goes on at the server.
#[test]
fn an_interrupt_ends_the_comparison() {
    let database = need!(Database::create());
    let url = database.url();
    let side = |query| [url.as_str(), "--query", query, "--secret-file", &database.password_file];
    let mut command = dmg(["verify"]);
    command.args(side("SELECT 1 AS n FROM pg_sleep(600)")).args(side("SELECT 1 AS n"));
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    let child = child.expect("it starts");
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let deadline = std::time::Duration::from_secs(60);
    wait::until("the query to run", deadline, || (database.number(sleeping) == 1).then_some(()));
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
    let output = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("error: The comparison was cancelled; it changed nothing."), "{errors}");
    assert!(output.stdout.is_empty(), "no verdict");
    wait::until("the server to stop", deadline, || (database.number(sleeping) == 0).then_some(()));
}

/// A store that is not asked for a snapshot, altered between the first pass and the second: neither state is told as the other.
#[test]
fn what_changes_between_two_passes_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = need!(Database::create());
    let world = World { folder };
    let fixture = Fixture::start(Options::default()).expect("the TDS fixture starts");
    let run = |name: &str, statement: &str| {
        let text = serde_json::to_string(&[statement]).expect("text");
        std::fs::write(world.path(&format!("{name}.tds.sql")), text).expect("written");
        let folder = world.folder.path().to_string_lossy().into_owned();
        Some(Answer::of(&mut judge("judge/plant.py", ["tds", &folder, &fixture.port.to_string(), name, "t"])?).ok())
    };
    let _ = need!(run("make", "CREATE TABLE {table} (id int, v int)"));
    let _ = run("fill", "INSERT INTO {table} VALUES (1, 1), (2, 2)");
    let url = database.url();
    let slow = "SELECT id, id AS v FROM (SELECT pg_sleep(2)) s, generate_series(1, 3) id";
    let more = "trustServerCertificate=true&isolationLevel=ReadCommitted";
    let uri = format!("sqlserver://sa@127.0.0.1:{}/fixture?{more}", fixture.port);
    let mut command = dmg(["verify", &url, "--query", slow, "--secret-file", &database.password_file]);
    command.args([&uri, "--table", "t", "--secret-file", &world.fixture_password()]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn();
    let child = child.expect("it starts");
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let deadline = std::time::Duration::from_secs(60);
    let read = || fixture.requests().iter().any(|request| request.contains("SELECT [id], [v] FROM"));
    wait::until("the first pass", deadline, || (read() && database.number(sleeping) == 1).then_some(()));
    let _ = run("alter", "UPDATE {table} SET v = 7 WHERE id = 2");
    let output = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("changed while it was compared") && errors.contains("UserErrorSourceChanged"), "{errors}");
    assert!(output.stdout.is_empty(), "no verdict");
}

/// Rows that are hard to tell apart: keys doubled and NULL, columns in another order, names and values that need quotes.
#[test]
fn awkward_rows() {
    let database = need!(Database::create());
    database.sql(
        "CREATE TABLE l (k int, v text, \"odd name\" int); CREATE TABLE r (\"odd name\" int, v text, k int); \
         CREATE TABLE empty (v text, k int, \"odd name\" int); \
         INSERT INTO l VALUES (1, 'a', 0), (1, 'a', 0), (1, 'b', 0), (NULL, 'n', 0), (NULL, NULL, 0), (NULL, NULL, 0), (2, 'x', 1), \
             (3, repeat('long ', 40) || 'end', 0), (4, repeat('x', 2000) || 'a', 0); \
         INSERT INTO r SELECT \"odd name\", v, k FROM l WHERE k IS DISTINCT FROM 2; \
         UPDATE r SET v = 'c' WHERE v = 'b'; UPDATE r SET v = 'm' WHERE v = 'n'; INSERT INTO r VALUES (2, 'x', 2), (0, NULL, NULL); \
         UPDATE r SET v = repeat('long ', 40) || 'and' WHERE k = 3; UPDATE r SET v = repeat('x', 2000) || 'b' WHERE k = 4",
    );
    let url = database.url();
    let side = |table| [url.as_str(), "--table", table, "--secret-file", &database.password_file];
    let cases: [(&str, &str, &[&str]); 4] =
        [("l", "r", &["--key", "k"]), ("l", "r", &[]), ("empty", "r", &["--key", "k"]), ("empty", "empty", &[])];
    let mut all = String::new();
    for (left, right, more) in cases {
        let answer = Answer::of(dmg(["verify"]).args(side(left)).args(side(right)).args(more));
        let said = format!("{}{}", answer.output, answer.errors);
        all.push_str(&format!("$ {left} {right} {}\n{said}exit {}\n\n", more.join(" "), answer.code));
    }
    let server = url.trim_start_matches("postgres://").split_once('@').expect("a user").1.to_owned();
    insta::assert_snapshot!(all.replace(&server, "server/database"));
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
