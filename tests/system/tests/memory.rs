//! The memory budget holds: the real `dmg copy` runs in a control group of its budget and 64 MiB more, whatever the shape
//! of the rows, and is not killed. `DMG_MEMORY_ROWS` and `DMG_MEMORY_FILES` set the number of narrow rows and of files.
//! Where no group can be made (`DMG_TEST_CGROUP` names one to make it in), the kernel's count of resident memory judges,
//! and the test says so.

use std::io::Write;
use std::path::PathBuf;

use dmg_system_tests::program::{judge, path};
use dmg_system_tests::{Answer, Database, mariadb, need, report, skipped};
use serde_json::{Value, json};

/// What a process may take beyond its budget: program, runtime, connections.
const BEYOND_MIB: u32 = 64;

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        // On a disk: files of a memory file system would count as memory.
        World { folder: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn uri(&self, name: &str) -> String {
        format!("file:{}", self.path(name).display())
    }

    /// A text file of those rows.
    fn write(&self, name: &str, header: &str, rows: impl Iterator<Item = String>) -> String {
        let file = std::fs::File::create(self.path(name)).expect("a source file");
        let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
        writeln!(file, "{header}").expect("written");
        rows.for_each(|row| writeln!(file, "{row}").expect("written"));
        file.flush().expect("written");
        self.uri(name)
    }

    /// The rows of a text file, without its header.
    fn rows(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.path(name)).expect("a file");
        text.split_once('\n').expect("a header").1.to_owned()
    }

    /// Copies at once, within the sum of their budgets and what a process may take beyond.
    fn copy(&self, what: &str, budget: u32, ends: &[(&[&str], &[&str])]) -> Option<Value> {
        let words = |(from, to): &(&[&str], &[&str])| {
            let words =
                ["copy", "--from"].iter().chain(*from).chain(&["--to"]).chain(*to).chain(&["--mode", "overwrite"]);
            words.map(|word| (*word).to_owned()).collect()
        };
        self.judged(what, budget, ends.iter().map(words).collect())
    }

    /// Commands at once, each with that budget.
    fn judged(&self, what: &str, budget: u32, mut commands: Vec<Vec<String>>) -> Option<Value> {
        for words in &mut commands {
            words.insert(0, path().to_str().expect("a plain path").to_owned());
            words.extend(["--memory".to_owned(), budget.to_string()]);
        }
        let file = self.path("commands.json");
        std::fs::write(&file, json!(commands).to_string()).expect("the commands are kept");
        let limit = budget * commands.len() as u32 + BEYOND_MIB;
        let mut judge = judge("judge/memory.py", [limit.to_string(), file.display().to_string()])?;
        let answer = Answer::of(&mut judge).ok().json();
        let (peak, how) = (&answer["peakMib"], answer["how"].as_str().unwrap_or_default());
        let (reclaims, seconds) = (&answer["reclaims"], &answer["seconds"]);
        report(&format!(
            "{what}: {} commands of {budget} MiB took {peak} MiB of {limit} in {seconds} s, by {how}, {reclaims} reclaims",
            commands.len()
        ));
        if how != "control group" {
            skipped("no control group can be made (DMG_TEST_CGROUP): memory is judged by what the kernel counts");
        }
        assert_eq!(answer["within"], true, "{what}: {answer:#}");
        Some(answer)
    }

    /// A Parquet file of another writer, with so many texts in each of its row groups.
    fn foreign(&self, name: &str, bytes: usize, rows: usize, groups: usize) -> Option<()> {
        let file = self.path(name).display().to_string();
        let numbers = [bytes, rows, groups].map(|number| number.to_string());
        let mut judge = judge("judge/long_values.py", [file].into_iter().chain(numbers))?;
        assert_eq!(Answer::of(&mut judge).ok().output, "");
        Some(())
    }

    /// Two ends compared.
    fn verify(&self, what: &str, budget: u32, ends: &[&[&str]]) -> Option<()> {
        let words = ["verify", "--parallel", "4"].iter().chain(ends.iter().copied().flatten());
        let answer = self.judged(what, budget, vec![words.map(|word| (*word).to_owned()).collect()])?;
        assert_eq!(answer["codes"], json!([0]), "{what}: {answer:#}");
        Some(())
    }

    /// The same, and all must succeed.
    fn copies(&self, what: &str, budget: u32, ends: &[(&[&str], &[&str])]) -> Option<()> {
        let answer = self.copy(what, budget, ends)?;
        let good = answer["codes"].as_array().expect("codes").iter().all(|code| *code == 0);
        assert!(good, "{what}: {answer:#}");
        Some(())
    }
}

#[test]
fn a_thousand_columns() {
    let world = World::new();
    let header: Vec<String> = (0..1000).map(|column| format!("c{column}")).collect();
    let row = |row: u64| (0..1000).map(|column| format!("\"{}\"", row * 1000 + column)).collect::<Vec<_>>().join(",");
    let text = world.write("wide.csv", &header.join(","), (0..10_000).map(row));
    let (parquet, back) = (world.uri("wide.parquet"), world.uri("back.csv"));
    for budget in [64, 256] {
        need!(world.copies("1,000 columns, text to Parquet", budget, &[(&[&text], &[&parquet])]));
        need!(world.copies("1,000 columns, Parquet to text", budget, &[(&[&parquet], &[&back])]));
    }
    let (before, after) = (std::fs::read(world.path("wide.csv")), std::fs::read(world.path("back.csv")));
    let lines = |bytes: Vec<u8>| bytes.split(|byte| *byte == b'\n').skip(1).map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert!(lines(before.expect("text")) == lines(after.expect("text")), "what came back differs");
}

/// A text of so many bytes, another one for each seed, in which one of 64 is a quote; as it stands in a text file.
fn long_text(bytes: usize, mut seed: u64) -> String {
    let mut text = String::with_capacity(bytes + bytes / 32);
    for _ in 0..bytes {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        match (seed >> 32) as u8 % 64 {
            0 => text.push_str("\"\""),
            30 => text.push('~'),
            letter => text.push(char::from(b'>' + letter)),
        }
    }
    text
}

/// A quarter of the smallest budget they are copied with, which is the most a value may have.
#[test]
fn texts_of_16_mib() {
    let world = World::new();
    let row = |row: u64| format!("\"{row}\",\"{}\"", long_text(16 << 20, 88_172_645_463_325_252 + row));
    let text = world.write("long.csv", "id,t", (0..8).map(row));
    let (parquet, back) = (world.uri("long.parquet"), world.uri("back.csv"));
    for budget in [64, 128, 256] {
        need!(world.copies("texts of 16 MiB, text to Parquet", budget, &[(&[&text], &[&parquet])]));
        need!(world.copies("texts of 16 MiB, Parquet to text", budget, &[(&[&parquet], &[&back])]));
    }
    for from in [&text, &parquet] {
        let answer = need!(world.copy("texts beyond a quarter", 48, &[(&[from], &[&back])]));
        let said = answer["errors"][0].as_str().expect("a message");
        assert!(said.contains("UserErrorBudgetExceeded") && said.contains("row 1, column \"t\""), "{said}");
    }
    let sqlite = world.path("long.db");
    let sqlite = format!("sqlite:{}", sqlite.display());
    let lite = [sqlite.as_str(), "--table", "long"];
    let mut create = lite.to_vec();
    create.push("--create-table");
    need!(world.copies("texts of 16 MiB, text to SQLite", 64, &[(&[&text], &create)]));
    need!(world.copies("texts of 16 MiB, SQLite to Parquet", 64, &[(&lite, &[&parquet])]));
    let Some(database) = Database::create() else { return };
    let (url, secret) = (database.url(), database.password_file.clone());
    let table = [url.as_str(), "--secret-file", &secret, "--table", "long"];
    let mut create = table.to_vec();
    create.push("--create-table");
    need!(world.copies("texts of 16 MiB, text to PostgreSQL", 64, &[(&[&text], &create)]));
    need!(world.copies("texts of 16 MiB, PostgreSQL to Parquet", 64, &[(&table, &[&parquet])]));
    assert_eq!(database.number("SELECT sum(length(t)) FROM long"), 8 * (16 << 20));
    let Some(database) = mariadb::Database::create() else { return };
    let (url, secret) = (database.url(), database.password_file.clone());
    let table = [url.as_str(), "--secret-file", &secret, "--table", "long"];
    let mut create = table.to_vec();
    create.push("--create-table");
    need!(world.copies("texts of 16 MiB, Parquet to MariaDB", 64, &[(&[&parquet], &create)]));
    need!(world.copies("texts of 16 MiB, MariaDB to text", 64, &[(&table, &[&back])]));
    assert!(world.rows("long.csv") == world.rows("back.csv"), "what came through all of them differs");
}

/// Values close to the most they may have, in several parts that are moved, proved and compared at once.
#[test]
fn files_of_values_close_to_a_quarter() {
    for (budget, rows) in [(64, 8), (256, 5)] {
        let world = World::new();
        let bytes = ((budget as usize / 4) << 20) - (256 << 10);
        let row = |row: u64| format!("\"{row}\",\"{}\"", long_text(bytes, 88_172_645_463_325_252 + row));
        let text = world.write("long.csv", "id,t", (0..rows).map(row));
        let (parquet, again, back) = (world.uri("long.parquet"), world.uri("again.parquet"), world.uri("back.csv"));
        let copies = |what: &str, from: &str, to: &str, lanes: &str| {
            world.copies(&format!("a quarter, {what}, {lanes} lanes"), budget, &[(&[from], &[to, "--parallel", lanes])])
        };
        // Each row becomes a row group, and so a part.
        need!(copies("text to Parquet", &text, &parquet, "4"));
        need!(copies("Parquet to Parquet", &parquet, &again, "1"));
        need!(copies("Parquet to Parquet", &parquet, &again, "4"));
        need!(copies("Parquet to text", &again, &back, "4"));
        need!(world.verify("a quarter, Parquet against text", budget, &[&[&parquet], &[&back]]));
        assert!(world.rows("long.csv") == world.rows("back.csv"), "what came through all of them differs");
        // What another writer made holds each value in a dictionary.
        need!(world.foreign("long.parquet", bytes, 1, 5));
        need!(copies("another writer's Parquet to Parquet", &parquet, &again, "4"));
        need!(world.verify("a quarter, another writer's Parquet", budget, &[&[&parquet], &[&again]]));
    }
}

/// Two of them in one page are more than can be held.
#[test]
fn a_page_beyond_the_budget_is_named() {
    let world = World::new();
    need!(world.foreign("long.parquet", 62 << 20, 2, 1));
    let (parquet, again) = (world.uri("long.parquet"), world.uri("again.parquet"));
    let answer = need!(world.copy("two quarters in one page", 256, &[(&[&parquet], &[&again])]));
    let said = answer["errors"][0].as_str().expect("a message");
    assert!(said.contains("UserErrorBudgetExceeded") && said.contains("Column \"t\" in row group 1"), "{said}");
}

/// The same in tables, among many small values, so that other lanes have ordinary batches meanwhile.
#[test]
fn tables_of_values_close_to_a_quarter() {
    let postgres = need!(Database::create());
    let mariadb = need!(mariadb::Database::create());
    let (from, to) = (postgres.url(), mariadb.url());
    let from = [from.as_str(), "--secret-file", &postgres.password_file, "--table", "quarter"];
    let to = [to.as_str(), "--secret-file", &mariadb.password_file, "--table", "quarter"];
    for (budget, every) in [(64, 20_000), (256, 40_000)] {
        let world = World::new();
        let bytes = ((budget as usize / 4) << 20) - (256 << 10);
        postgres.sql(&format!(
            "DROP TABLE IF EXISTS quarter; CREATE TABLE quarter (id bigint PRIMARY KEY, t text); INSERT INTO quarter \
             SELECT i, CASE i % {every} WHEN 7 THEN repeat(md5(i::text), {}) ELSE 'short ' || i END \
             FROM generate_series(1, {}) i",
            bytes / 32,
            every * 8
        ));
        mariadb.sql("DROP TABLE IF EXISTS quarter; CREATE TABLE quarter (id bigint PRIMARY KEY, t longtext)");
        let (parquet, back) = (world.uri("long.parquet"), world.uri("back.csv"));
        let copies = |what: &str, from: &[&str], to: &[&str]| {
            let to = [to, &["--parallel", "4"]].concat();
            world.copies(&format!("a quarter here and there, {what}"), budget, &[(from, &to)])
        };
        need!(copies("PostgreSQL to MariaDB", &from, &to));
        need!(world.verify("a quarter here and there, PostgreSQL against MariaDB", budget, &[&from, &to]));
        need!(copies("MariaDB to Parquet", &to, &[&parquet]));
        need!(copies("MariaDB to text", &to, &[&back]));
        postgres.sql("CREATE TABLE again (id bigint PRIMARY KEY, t text)");
        let again = [&from[..4], &["again"]].concat();
        need!(copies("Parquet to PostgreSQL", &[&parquet], &again));
        let all = |table: &str| postgres.sql(&format!("SELECT md5(string_agg(md5(t), '' ORDER BY id)) FROM {table}"));
        assert_eq!(all("quarter"), all("again"));
        postgres.sql("DROP TABLE again");
        let long = "SELECT id, md5(t) FROM quarter WHERE length(t) > 1000 ORDER BY id";
        let (sent, arrived) = (postgres.sql(long).replace('|', "\t"), mariadb.sql(long));
        assert!(sent.lines().count() == 8 && sent == arrived, "{sent}{arrived}");
    }
}

/// A Parquet file that holds a long text once and names it in every row: far smaller than what is read of it.
#[test]
fn one_long_text_in_every_row() {
    let world = World::new();
    let long = "long text ".repeat(26_000);
    let text = world.write("long.csv", "id,t", (0..1000).map(|row| format!("\"{row}\",\"{long}\"")));
    let (parquet, again) = (world.uri("long.parquet"), world.uri("again.parquet"));
    need!(world.copies("one long text in every row, text to Parquet", 64, &[(&[&text], &[&parquet])]));
    need!(world.copies("one long text in every row, Parquet to Parquet", 64, &[(&[&parquet], &[&again])]));
}

#[test]
fn many_narrow_rows() {
    let rows = dmg_ambient::environment("DMG_MEMORY_ROWS").and_then(|text| text.parse().ok()).unwrap_or(2_000_000_u64);
    let world = World::new();
    let text = world.write("narrow.csv", "id", (0..rows).map(|row| format!("\"{row}\"")));
    let (parquet, back) = (world.uri("narrow.parquet"), world.uri("back.csv"));
    need!(world.copies("narrow rows, text to Parquet", 64, &[(&[&text], &[&parquet])]));
    need!(world.copies("narrow rows, Parquet to text", 64, &[(&[&parquet], &[&back])]));
}

#[test]
fn eight_copies_at_once() {
    let world = World::new();
    let row = |row: u64| format!("\"{row}\",\"{:x}\",\"some text {row}\"", row.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let text = world.write("rows.csv", "id,hash,label", (0..300_000).map(row));
    let targets: Vec<String> = (0..8).map(|number| world.uri(&format!("{number}.parquet"))).collect();
    let from = [text.as_str()];
    let to: Vec<[&str; 1]> = targets.iter().map(|target| [target.as_str()]).collect();
    let ends: Vec<(&[&str], &[&str])> = to.iter().map(|to| (&from[..], &to[..])).collect();
    need!(world.copies("8 copies at once", 32, &ends));
}

/// Far more files than a process may open, than a plan should have parts, and than a Parquet file may have row groups.
#[test]
fn many_files() {
    let files = dmg_ambient::environment("DMG_MEMORY_FILES").and_then(|text| text.parse().ok()).unwrap_or(3000_u64);
    let world = World::new();
    std::fs::create_dir(world.path("texts")).expect("a folder");
    let row = |file: u64, row: u64| format!("\"{}\",\"of {file}\"", file * 2 + row);
    for file in 0..files {
        let text = format!("id,t\n{}\n{}\n", row(file, 0), row(file, 1));
        std::fs::write(world.path(&format!("texts/{file:07}.csv")), text).expect("written");
    }
    let (texts, parquet, back) = (world.uri("texts/"), world.uri("all.parquet"), world.uri("back.csv"));
    let from = [texts.as_str(), "--format", "csv"];
    need!(world.copies("files of text to Parquet", 64, &[(&from, &[&parquet])]));
    need!(world.copies("Parquet of many files to text", 64, &[(&[&parquet], &[&back])]));
    let all: String = (0..files * 2).map(|at| row(at / 2, at % 2) + "\n").collect();
    let found = std::fs::read_to_string(world.path("back.csv")).expect("a file");
    assert!(found.replace('\r', "") == format!("\"id\",\"t\"\n{all}"), "not the rows of all files, in their order");
    let telling = [texts.as_str(), "--format", "csv", "--add-column", "f=file", "--add-column", "n=row-number"];
    need!(world.copies("files of text, told apart, to text", 64, &[(&telling, &[&back])]));
    let found = std::fs::read_to_string(world.path("back.csv")).expect("a file");
    let told = |at: u64| format!("{},\"{:07}.csv\",\"{}\"\n", row(at / 2, at % 2), at / 2, at % 2 + 1);
    let all: String = (0..files * 2).map(told).collect();
    assert!(found.replace('\r', "").split_once('\n').expect("a header").1 == all, "not the files the rows came from");
    // The same of Parquet: one file under as many names.
    let one = world.write("one.csv", "id,t", (0..5).map(|at| row(at, 0)));
    need!(world.copies("one file", 64, &[(&[&one], &[&parquet])]));
    std::fs::create_dir(world.path("parquets")).expect("a folder");
    for file in 0..files {
        std::fs::copy(world.path("all.parquet"), world.path(&format!("parquets/{file:07}.parquet"))).expect("copied");
    }
    let from = world.uri("parquets/");
    need!(world.copies("files of Parquet to text", 64, &[(&[&from, "--format", "parquet"], &[&back])]));
    let found = std::fs::read_to_string(world.path("back.csv")).expect("a file");
    let one: String = (0..5).map(|at| row(at, 0) + "\n").collect();
    let same = found.replace('\r', "").split_once('\n').expect("a header").1 == one.repeat(files as usize);
    assert!(same, "not the rows of all files");
    let Some(database) = Database::create() else { return };
    std::fs::write(world.path(&format!("texts/{:07}.csv", files / 2)), "id,t\n\"1\",\n\"x\",\n").expect("written");
    database.sql("CREATE TABLE n (id bigint, t text)");
    let (url, secret) = (database.url(), database.password_file.clone());
    let to = [url.as_str(), "--secret-file", &secret, "--table", "n"];
    let from = [texts.as_str(), "--format", "csv"];
    let answer = need!(world.copy("files of text, one of them wrong", 64, &[(&from, &to)]));
    let said = answer["errors"][0].as_str().expect("a message");
    assert!(said.contains(&format!("row 2 of {:07}.csv", files / 2)), "{said}");
}
