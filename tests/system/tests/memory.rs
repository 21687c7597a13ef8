//! The memory budget holds: the real `dmg copy` with a budget stays within it and 64 MiB more, whatever the shape of
//! the rows. `DMG_MEMORY_ROWS` sets the number of narrow rows. `DMG_TEST_CGROUP` names a memory control group of one's
//! own, in which the kernel judges; without one the kernel's own count of resident memory does, and the test says so.

use std::io::Write;
use std::path::PathBuf;

use dmg_system_tests::program::{judge, path};
use dmg_system_tests::{Answer, Database, need, report};
use serde_json::{Value, json};

/// What a process may take beyond its budget: program, runtime, connections.
const BEYOND_MIB: u32 = 64;

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World { folder: tempfile::tempdir().expect("a folder") }
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

    /// Copies at once, within the sum of their budgets and what a process may take beyond.
    fn copy(&self, what: &str, budget: u32, ends: &[(&[&str], &[&str])]) -> Option<Value> {
        let commands: Vec<Vec<String>> = ends
            .iter()
            .map(|(from, to)| {
                let memory = budget.to_string();
                let program = path().to_str().expect("a plain path").to_owned();
                let words = ["copy", "--from"].iter().chain(*from).chain(&["--to"]).chain(*to);
                let tail = ["--mode", "overwrite", "--memory", memory.as_str()];
                [program].into_iter().chain(words.chain(&tail).map(|word| (*word).to_owned())).collect()
            })
            .collect();
        let file = self.path("commands.json");
        std::fs::write(&file, json!(commands).to_string()).expect("the commands are kept");
        let limit = budget * ends.len() as u32 + BEYOND_MIB;
        let mut judge = judge("judge/memory.py", [limit.to_string(), file.display().to_string()])?;
        let answer = Answer::of(&mut judge).ok().json();
        let (peak, how) = (&answer["peakMib"], answer["how"].as_str().unwrap_or_default());
        report(&format!("{what}: {} copies of {budget} MiB took {peak} MiB of {limit}, by {how}", ends.len()));
        if how != "control group" {
            report("no control group to use (DMG_TEST_CGROUP): memory is judged by what the kernel counts");
        }
        assert_eq!(answer["within"], true, "{what}: {answer:#}");
        Some(answer)
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

#[test]
fn texts_of_16_mib() {
    let world = World::new();
    let long: String =
        (0..16_u32 << 20).map(|at| char::from(b'a' + (at.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
    let text = world.write("long.csv", "id,t", (0..12).map(|row| format!("\"{row}\",\"{long}\"")));
    let (parquet, back) = (world.uri("long.parquet"), world.uri("back.csv"));
    // Twice what such a value needs at least: at a quarter of the budget its copies exceed what is allowed beyond.
    for budget in [128, 256] {
        need!(world.copies("texts of 16 MiB, text to Parquet", budget, &[(&[&text], &[&parquet])]));
        need!(world.copies("texts of 16 MiB, Parquet to text", budget, &[(&[&parquet], &[&back])]));
    }
    for from in [&text, &parquet] {
        let answer = need!(world.copy("texts beyond a quarter", 48, &[(&[from], &[&back])]));
        let said = answer["errors"][0].as_str().expect("a message");
        assert!(said.contains("UserErrorBudgetExceeded") && said.contains("row 1, column \"t\""), "{said}");
    }
    let Some(database) = Database::create() else { return };
    let (url, secret) = (database.url(), database.password_file.clone());
    let table = [url.as_str(), "--secret-file", &secret, "--table", "long"];
    let mut create = table.to_vec();
    create.push("--create-table");
    need!(world.copies("texts of 16 MiB, text to PostgreSQL", 256, &[(&[&text], &create)]));
    need!(world.copies("texts of 16 MiB, PostgreSQL to Parquet", 256, &[(&table, &[&parquet])]));
    assert_eq!(database.number("SELECT sum(length(t)) FROM long"), 12 * (16 << 20));
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
