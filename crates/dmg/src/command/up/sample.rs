//! The sample of `dmg up`: a small shop's database made by ourselves, and the documents that copy it.

use std::path::{Path, PathBuf};

use dmg_authoring::{Dialect, DocumentKind};
use dmg_protocol::Fault;
use rusqlite::Connection;
use serde_json::Value;

/// The pipeline that is run.
pub(crate) const PIPELINE: &str = "sample-copy";
/// The database's file.
pub(crate) const DATABASE: &str = "shop.db";
/// Its table.
pub(crate) const TABLE: &str = "orders";
/// Rows of the table.
const ROWS: u32 = 5_000;

/// The documents as shipped; `{folder}` stands for the sample's folder.
const DOCUMENTS: &[(&str, DocumentKind, &str)] = &[
    ("1-database.json", DocumentKind::LinkedService, include_str!("../../../sample/1-database.json")),
    ("2-folder.json", DocumentKind::LinkedService, include_str!("../../../sample/2-folder.json")),
    ("3-orders.json", DocumentKind::Dataset, include_str!("../../../sample/3-orders.json")),
    ("4-orders-file.json", DocumentKind::Dataset, include_str!("../../../sample/4-orders-file.json")),
    ("5-pipeline.json", DocumentKind::Pipeline, include_str!("../../../sample/5-pipeline.json")),
];

fn state(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Fault {
    Fault::new("SystemErrorState", format!("The sample's {what} {} cannot be made: {error}.", path.display()))
        .remedy("Check the folder, or start afresh with dmg up --reset.")
}

/// Makes the database if it is not there yet.
pub(crate) fn database(folder: &Path) -> Result<PathBuf, Fault> {
    let path = folder.join(DATABASE);
    if path.is_file() {
        return Ok(path);
    }
    // Made beside and renamed: what carries the name is whole.
    let beside = folder.join("shop.db.part");
    let _ = std::fs::remove_file(&beside);
    fill(&beside).map_err(|error| state("database", &path, &error))?;
    std::fs::rename(&beside, &path).map_err(|error| state("database", &path, &error))?;
    Ok(path)
}

fn fill(path: &Path) -> rusqlite::Result<()> {
    const CUSTOMERS: &[&str] =
        &["Åse", "Bruno", "Chloé", "Dmitri", "Eva", "Farid", "Grace", "Hiroshi", "Inês", "Jürgen"];
    const ARTICLES: &[(&str, u32)] =
        &[("bicycle", 48_900), ("bell", 1_250), ("lamp", 3_495), ("pump", 2_199), ("saddle", 5_990), ("lock", 2_750)];
    let mut database = Connection::open(path)?;
    let transaction = database.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE orders (
            id INTEGER PRIMARY KEY,
            customer TEXT NOT NULL,
            article TEXT NOT NULL,
            quantity INTEGER NOT NULL,
            price TEXT NOT NULL,
            weight_kg REAL,
            ordered TIMESTAMP NOT NULL,
            paid BOOLEAN NOT NULL,
            note TEXT
        )",
    )?;
    let mut insert = transaction.prepare("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    for id in 1..=ROWS {
        // A fixed scramble instead of chance: the sample is the same everywhere.
        let scrambled = id.wrapping_mul(2_654_435_761);
        let pick = |shift: u32, most: usize| (scrambled >> shift) as usize % most;
        let (article, cents) = ARTICLES[pick(7, ARTICLES.len())];
        let (day, hour, minute) = (id / 14 % 28 + 1, pick(3, 24), pick(11, 60));
        let note = match pick(15, 6) {
            0 => Some("leave it with the neighbor, \"2nd floor\""),
            1 => Some("gift wrap 🎁"),
            2 => Some(""),
            _ => None,
        };
        insert.execute((
            id,
            CUSTOMERS[pick(19, CUSTOMERS.len())],
            article,
            pick(5, 4) as u32 + 1,
            format!("{}.{:02}", cents / 100, cents % 100),
            (id % 10 != 0).then(|| f64::from(cents) / 7_000.0),
            format!("2026-{:02}-{day:02} {hour:02}:{minute:02}:00", id / 420 % 12 + 1),
            id % 3 != 0,
            note,
        ))?;
    }
    drop(insert);
    transaction.commit()?;
    database.close().map_err(|(_, error)| error)
}

/// One document of the sample.
pub(crate) struct SampleDocument {
    pub(crate) kind: DocumentKind,
    pub(crate) name: String,
    pub(crate) body: Value,
}

/// The dialect of all of them.
pub(crate) const DIALECT: Dialect = Dialect::V2;

/// The documents for this folder, also written to `documents` for people to look at and change. Files that are there
/// already are left as they are.
pub(crate) fn documents(folder: &Path, documents: &Path) -> Result<Vec<SampleDocument>, Fault> {
    let escaped = Value::String(folder.display().to_string()).to_string();
    let escaped = escaped.trim_matches('"');
    let mut all = Vec::new();
    for (file, kind, text) in DOCUMENTS {
        let text = text.replace("{folder}", escaped);
        let path = documents.join(file);
        if !path.exists() {
            std::fs::write(&path, &text).map_err(|error| state("document", &path, &error))?;
        }
        let body: Value = serde_json::from_str(&text).map_err(|error| state("document", &path, &error))?;
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        all.push(SampleDocument { kind: *kind, name, body });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_are_valid_and_the_database_repeats() {
        let folder = tempfile::tempdir().expect("a folder");
        for document in documents(folder.path(), folder.path()).expect("documents") {
            let findings = dmg_authoring::validate(DIALECT, document.kind, &document.name, &document.body);
            assert!(findings.is_empty(), "{}: {findings:?}", document.name);
            assert_eq!(dmg_authoring::detect(&document.body), Some((DIALECT, document.kind)));
        }
        let path = database(folder.path()).expect("a database");
        let first = std::fs::read(&path).expect("read");
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(std::fs::read(database(folder.path()).expect("again")).expect("read"), first);
    }
}
