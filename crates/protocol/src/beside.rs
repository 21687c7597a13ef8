//! The files a copy writes beside its target, and where they stand: the redirect file and the session log. Their paths
//! follow from the run, so that each attempt of it replaces what the last one wrote.

use serde::{Deserialize, Serialize};

use crate::RunId;
use crate::job::{StoreRef, is_default};

/// Where rows left out go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// A byte store.
    pub store: StoreRef,
    /// Folder in it.
    pub folder: String,
    /// How the rows are laid out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub layout: RedirectLayout,
}

/// How rows are laid out in a redirect file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub enum RedirectLayout {
    /// `<folder>/<run>.csv` with a header, ours before the row's values: `dmg copy` reads it back.
    #[default]
    Named,
    /// As `redirectIncompatibleRowSettings` of both dialects: `<folder>/<run>/<run>.csv` without a header, the row's
    /// values before code and message.
    Original,
}

/// The log of one copy, as `logSettings` of version 2 asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionLog {
    /// A byte store.
    pub store: StoreRef,
    /// Folder in it.
    pub folder: String,
    /// What is told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub level: LogLevel,
}

/// What a session log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// Rows left out.
    #[default]
    Warning,
    /// Files read and written as well.
    Info,
}

/// Where a file beside the target stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePlace {
    /// Its folder, empty for the root of the store.
    pub folder: String,
    /// Its name.
    pub file: String,
}

impl FilePlace {
    fn new(folders: &[&str], file: String) -> Self {
        let folders = folders.iter().map(|folder| folder.trim_matches('/')).filter(|folder| !folder.is_empty());
        FilePlace { folder: folders.collect::<Vec<_>>().join("/"), file }
    }

    /// Folder and name.
    pub fn path(&self) -> String {
        if self.folder.is_empty() { self.file.clone() } else { format!("{}/{}", self.folder, self.file) }
    }
}

impl Redirect {
    /// The file of that run.
    pub fn place(&self, run: &RunId) -> FilePlace {
        let file = format!("{run}.csv");
        match self.layout {
            RedirectLayout::Named => FilePlace::new(&[&self.folder], file),
            RedirectLayout::Original => FilePlace::new(&[&self.folder, run.as_str()], file),
        }
    }
}

impl SessionLog {
    /// The file of that run of that activity.
    pub fn place(&self, activity: Option<&str>, run: &RunId) -> FilePlace {
        let activity = folder_name(activity.unwrap_or("Copy"));
        FilePlace::new(&[&self.folder, "copyactivity-logs", &activity, run.as_str()], format!("{run}.txt"))
    }
}

/// A name as one folder: no part of it leads elsewhere.
fn folder_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if matches!(c, '/' | '\\') || c.is_control() { '_' } else { c }).collect();
    if name.chars().all(|c| c == '.') { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> StoreRef {
        StoreRef {
            store: "file".into(),
            linked_service: None,
            settings: serde_json::Map::new(),
            envelope: None,
            binding: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn places_follow_from_the_run() {
        let run = RunId::new("r1");
        let redirect =
            |folder: &str, layout| Redirect { store: store(), folder: folder.into(), layout }.place(&run).path();
        assert_eq!(redirect("bad/rows/", RedirectLayout::Named), "bad/rows/r1.csv");
        assert_eq!(redirect("", RedirectLayout::Named), "r1.csv");
        assert_eq!(redirect("/bad", RedirectLayout::Original), "bad/r1/r1.csv");
        let log = |folder: &str, activity| {
            let log = SessionLog { store: store(), folder: folder.into(), level: LogLevel::Info };
            log.place(activity, &run).path()
        };
        assert_eq!(log("logs/", Some("Copy orders")), "logs/copyactivity-logs/Copy orders/r1/r1.txt");
        assert_eq!(log("", None), "copyactivity-logs/Copy/r1/r1.txt");
        assert_eq!(log("l", Some("a/../b")), "l/copyactivity-logs/a_.._b/r1/r1.txt");
        assert_eq!(log("l", Some("..")), "l/copyactivity-logs/_../r1/r1.txt");
    }
}
