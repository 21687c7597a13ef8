//! Places on disk: folders with all that is in them, and databases as their rows.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::{Hit, Scanner};

const SQLITE: &[u8] = b"SQLite format 3\0";

impl Scanner {
    /// Forms in all files below a folder and in their names. A database is looked at as bytes and as rows.
    pub fn folder(&self, folder: &Path) -> Vec<Hit> {
        let mut hits = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let place = path.display().to_string();
            hits.extend(self.bytes(&format!("name of {place}"), entry.file_name().as_encoded_bytes()));
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => hits.extend(self.folder(&path)),
                Ok(kind) if kind.is_file() => hits.extend(self.file(&path)),
                Ok(_) => {
                    let target = std::fs::read_link(&path).unwrap_or_default();
                    hits.extend(self.bytes(&place, target.as_os_str().as_encoded_bytes()));
                }
                Err(_) => {}
            }
        }
        hits
    }

    /// Forms in one file.
    pub fn file(&self, path: &Path) -> Vec<Hit> {
        let place = path.display().to_string();
        let bytes = std::fs::read(path).unwrap_or_default();
        let mut hits = self.bytes(&place, &bytes);
        if bytes.starts_with(SQLITE) {
            hits.extend(self.rows(path));
        }
        hits
    }

    /// Forms in the cells of a database. A long cell is spread over pages, so that its bytes in the file are torn. A
    /// copy is read, so that looking changes nothing.
    ///
    /// # Panics
    /// When it cannot be read: what was not read was not looked at.
    fn rows(&self, path: &Path) -> Vec<Hit> {
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("copy.db");
        let beside = |of: &Path, ending: &str| of.with_file_name(format!("{}{ending}", name(of)));
        std::fs::copy(path, &copy).expect("the database can be copied");
        for ending in ["-wal", "-journal"] {
            if beside(path, ending).exists() {
                std::fs::copy(beside(path, ending), beside(&copy, ending)).expect("its journal can be copied");
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(&copy, flags).expect("the copy can be opened");
        let mut hits = Vec::new();
        for table in texts(&database, "SELECT name FROM sqlite_master WHERE type = 'table'") {
            let place = format!("table {table} of {}", path.display());
            hits.extend(self.cells(&database, &table, &place));
        }
        hits
    }

    fn cells(&self, database: &Connection, table: &str, place: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        let query = format!("SELECT * FROM \"{}\"", table.replace('"', "\"\""));
        let mut statement = database.prepare(&query).expect("the table can be read");
        let columns = statement.column_count();
        let mut rows = statement.query([]).expect("the table can be read");
        while let Some(row) = rows.next().expect("the row can be read") {
            for column in 0..columns {
                if let Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) = row.get_ref(column) {
                    hits.extend(self.bytes(place, bytes));
                }
            }
        }
        hits
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn texts(database: &Connection, query: &str) -> Vec<String> {
    let mut statement = database.prepare(query).expect("the catalog can be read");
    let rows = statement.query_map([], |row| row.get(0)).expect("the catalog can be read");
    rows.map(|row| row.expect("the row can be read")).collect()
}
