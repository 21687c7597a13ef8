//! What `dmg copy` does in a target, from SQLite and text into SQLite, as Python's own SQLite sees it.

use std::process::Command;

use crate::world::{World, text};

/// Rows a query yields, as Python prints them.
fn judge(world: &World, database: &str, query: &str) -> String {
    let script =
        "import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]): print(*row, sep='|')";
    let output = Command::new("python3").args(["-c", script]).arg(world.path(database)).arg(query).output();
    let output = output.expect("Python starts");
    assert!(output.status.success(), "{query}: {}", text(&output.stderr));
    text(&output.stdout).trim_end().to_owned()
}

fn make(world: &World, database: &str, script: &str) {
    let made = rusqlite::Connection::open(world.path(database)).expect("a file").execute_batch(script);
    made.expect(script);
}

/// `dmg copy` from a table to a table, with further options.
fn copy(world: &World, from: &str, to: &str, options: &[&str]) -> std::process::Output {
    let ends = ["copy", "--from", "sqlite:a.db", "--table", from, "--to", "sqlite:b.db", "--table", to];
    let arguments: Vec<&str> = ends.into_iter().chain(options.iter().copied()).collect();
    world.run(&arguments)
}

fn good(world: &World, from: &str, to: &str, options: &[&str]) {
    let output = copy(world, from, to, options);
    assert!(output.status.success(), "{options:?}: {}", text(&output.stderr));
}

fn refused(world: &World, from: &str, to: &str, options: &[&str], words: &str) {
    let output = copy(world, from, to, options);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains(words), "{options:?}: {said}");
}

#[test]
fn every_mode_into_sqlite() {
    let world = World::new();
    make(
        &world,
        "a.db",
        "CREATE TABLE src (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO src VALUES (1, 'a'), (2, 'b')",
    );
    make(
        &world,
        "b.db",
        "CREATE TABLE dst (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO dst VALUES (2, 'old'), (3, 'c'); \
         CREATE TABLE sliced (id INTEGER, name TEXT, s BLOB)",
    );
    refused(&world, "src", "dst", &[], "UserErrorDuplicateKey");
    assert_eq!(judge(&world, "b.db", "SELECT * FROM dst"), "2|old\n3|c", "nothing half done");
    good(&world, "src", "dst", &["--mode", "upsert"]);
    assert_eq!(judge(&world, "b.db", "SELECT * FROM dst"), "1|a\n2|b\n3|c");
    good(&world, "src", "dst", &["--mode", "overwrite"]);
    assert_eq!(judge(&world, "b.db", "SELECT * FROM dst"), "1|a\n2|b");
    for day in ["monday", "tuesday", "monday"] {
        good(&world, "src", "sliced", &["--mode", "slice", "--slice-column", "s", "--slice", day]);
    }
    assert_eq!(judge(&world, "b.db", "SELECT count(*), count(DISTINCT s), max(length(s)) FROM sliced"), "4|2|32");
    refused(&world, "src", "dst", &["--mode", "procedure", "--procedure", "p"], "UserErrorNotSupported");
    good(&world, "src", "fresh", &["--create-table", "--verify", "full"]);
    assert_eq!(judge(&world, "b.db", "SELECT * FROM fresh"), "1|a\n2|b");
}

#[test]
fn added_columns_drift_and_losses() {
    let world = World::new();
    make(
        &world,
        "a.db",
        "CREATE TABLE src (id INTEGER, price DECIMAL_TEXT(9,3)); INSERT INTO src VALUES (1, '1.005'), (2, '-2.345'), (3, NULL)",
    );
    make(&world, "b.db", "CREATE TABLE dst (id INTEGER); CREATE TABLE cents (id INTEGER, price DECIMAL_TEXT(9,2))");
    refused(&world, "src", "dst", &[], "UserErrorColumnMissing");
    let added = [
        "--drift",
        "add",
        "--add-column",
        "n=row-number",
        "--add-column",
        "again=column:id",
        "--add-column",
        "t=text:x y",
    ];
    good(&world, "src", "dst", &added);
    let rows = judge(&world, "b.db", "SELECT id, price, n, again, t FROM dst");
    assert_eq!(rows, "1|1.005|1|1|x y\n2|-2.345|2|2|x y\n3|None|3|3|x y");
    refused(&world, "src", "cents", &[], "UserErrorValue");
    good(&world, "src", "cents", &["--allow-lossy", "price"]);
    assert_eq!(judge(&world, "b.db", "SELECT price FROM cents"), "1.01\n-2.35\nNone");
}

#[test]
fn rows_know_their_file_and_number() {
    let world = World::new();
    std::fs::create_dir_all(world.path("in/sub")).expect("made");
    std::fs::write(world.path("in/a.csv"), "id\n1\n2\n").expect("written");
    std::fs::write(world.path("in/b.csv"), "id\n3\n").expect("written");
    let added =
        ["--create-table", "--add-column", "file=file", "--add-column", "n=row-number", "--add-column", "run=run-id"];
    let ends = ["copy", "--from", "file:in/", "--format", "csv", "--to", "sqlite:b.db", "--table", "t"];
    let arguments: Vec<&str> = ends.into_iter().chain(added).collect();
    world.good(&arguments);
    assert_eq!(judge(&world, "b.db", "SELECT id, file, n FROM t ORDER BY id"), "1|a.csv|1\n2|a.csv|2\n3|b.csv|1");
    assert_eq!(judge(&world, "b.db", "SELECT count(DISTINCT run), max(length(run)) FROM t"), "1|36");
}
