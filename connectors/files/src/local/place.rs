//! The place of one target: its folder, held open, and its name in it. Everything of a write happens by name in that
//! one folder, so that a folder renamed or linked meanwhile cannot lead it elsewhere.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use dmg_connector::{Error, Result};
use dmg_protocol::Fault;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fsync, mkdirat, statat};
use rustix::io::Errno;

use super::errors::failed;
use super::root::Root;
use crate::path::folder_and_name;

/// A target.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: String,
    /// The whole path, for people.
    pub(super) path: String,
    pub(super) store: String,
}

impl Place {
    /// The place if its folder exists.
    pub(super) fn existing(root: &Root, path: &str) -> Result<Option<Self>> {
        let (folder, name) = folder_and_name(path)?;
        match root.open_beneath(&folder, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(opened) => Ok(Some(Self::of(root, opened, name, path))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(failed(errno, "open", &format!("folder \"{folder}\""), &root.label())),
        }
    }

    /// The place; missing folders are made.
    pub(super) fn create(root: &Root, path: &str) -> Result<Self> {
        let (folder, name) = folder_and_name(path)?;
        let mut opened = root.folder("")?;
        let mut inner = String::new();
        for segment in folder.split('/').filter(|segment| !segment.is_empty()) {
            if !inner.is_empty() {
                inner.push('/');
            }
            inner.push_str(segment);
            let fault = |errno| failed(errno, "create", &format!("folder \"{inner}\""), &root.label());
            opened = match root.open_beneath(&inner, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(next) => next,
                Err(Errno::NOENT) => {
                    match mkdirat(&opened, segment, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(fault(errno)),
                    }
                    fsync(&opened).map_err(fault)?;
                    root.open_beneath(&inner, OFlags::RDONLY | OFlags::DIRECTORY).map_err(fault)?
                }
                Err(errno) => return Err(fault(errno)),
            };
        }
        let place = Self::of(root, opened, name, path);
        place.target()?;
        Ok(place)
    }

    fn of(root: &Root, folder: OwnedFd, name: String, path: &str) -> Self {
        Place { folder: Arc::new(folder), name, path: path.trim_matches('/').to_owned(), store: root.label() }
    }

    /// A failure about the target.
    pub(super) fn failed(&self, errno: Errno, doing: &str) -> Error {
        failed(errno, doing, &format!("file \"{}\"", self.path), &self.store)
    }

    /// The target as it is now, or none. Only a file can be replaced.
    pub(super) fn target(&self) -> Result<Option<Stat>> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => Ok(Some(stat)),
                FileType::Symlink => {
                    let message = format!(
                        "\"{}\" in {} is a link, and replacing a link is not supported.",
                        self.path, self.store
                    );
                    Err(Fault::new("UserErrorNotSupported", message)
                        .remedy("Name the file that the link points to.")
                        .into())
                }
                _ => Err(self.failed(Errno::ISDIR, "write")),
            },
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed(errno, "read")),
        }
    }
}
