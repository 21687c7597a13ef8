//! The folder of `dmg up`: what is in it, that one program uses it at a time, and how it is emptied. Only what was
//! made by `dmg up` is ever removed.

use std::fs::File;
use std::path::{Path, PathBuf};

use dmg_protocol::Fault;

use crate::failure::{Failure, file_fault};

/// Says that the folder is ours.
const MARKER: &str = ".dmg-up";
/// What we make in it.
const OURS: &[&str] = &["service", "node", "sample", "documents"];

/// The folder, held until dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens or makes the folder; `reset` empties it first.
    pub(crate) fn open(root: &Path, reset: bool) -> Result<Self, Failure> {
        let refused = |error: &std::io::Error| Failure::from(file_fault("used", root, error));
        let root = std::path::absolute(root).map_err(|error| refused(&error))?;
        let marker = root.join(MARKER);
        if !marker.is_file()
            && let Some(taken) = OURS.iter().map(|name| root.join(name)).find(|path| path.exists())
        {
            return Err(Failure::configuration(format!(
                "{} is there, and dmg up did not make it. Nothing was touched.",
                taken.display()
            ))
            .remedy("Name another folder with --data DIR."));
        }
        std::fs::create_dir_all(&root).map_err(|error| refused(&error))?;
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&marker)
            .map_err(|error| refused(&error))?;
        if lock.try_lock().is_err() {
            let message = format!("Another dmg up runs on {}.", root.display());
            return Err(Fault::new("UserErrorInUse", message)
                .remedy("Stop it with Ctrl-C, or name another folder with --data DIR.")
                .into());
        }
        if reset {
            for path in OURS.iter().map(|name| root.join(name)).filter(|path| path.exists()) {
                std::fs::remove_dir_all(&path).map_err(|error| Failure::from(file_fault("removed", &path, &error)))?;
            }
        }
        let folder = Folder { root, _lock: lock };
        for path in [folder.sample(), folder.documents()] {
            std::fs::create_dir_all(&path).map_err(|error| Failure::from(file_fault("made", &path, &error)))?;
        }
        Ok(folder)
    }

    /// Its path.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The service's data.
    pub(crate) fn service(&self) -> PathBuf {
        self.root.join("service")
    }

    /// The access token the service wrote at its first start.
    pub(crate) fn token(&self) -> PathBuf {
        self.service().join("admin.token")
    }

    /// The service's own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.service().join("service.pem")
    }

    /// The node's data.
    pub(crate) fn node(&self) -> PathBuf {
        self.root.join("node")
    }

    /// Database and copies.
    pub(crate) fn sample(&self) -> PathBuf {
        self.root.join("sample")
    }

    /// JSON to look at and change.
    pub(crate) fn documents(&self) -> PathBuf {
        self.root.join("documents")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_is_removed() {
        let parent = tempfile::tempdir().expect("a folder");
        let root = parent.path().join("up");
        let folder = Folder::open(&root, false).expect("new");
        std::fs::create_dir_all(folder.service()).expect("made");
        std::fs::write(root.join("mine.txt"), "mine").expect("written");
        assert_eq!(Folder::open(&root, false).expect_err("held").fault.code, "UserErrorInUse");
        drop(folder);
        let folder = Folder::open(&root, true).expect("emptied");
        assert!(!folder.service().exists());
        assert!(root.join("mine.txt").exists());

        let foreign = parent.path().join("foreign");
        std::fs::create_dir_all(foreign.join("service")).expect("made");
        assert_eq!(Folder::open(&foreign, true).expect_err("not ours").exit, 64);
        assert!(foreign.join("service").exists());
    }
}
