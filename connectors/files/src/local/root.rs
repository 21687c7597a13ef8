//! The folder all paths start from. The kernel resolves every path beneath it, so that no link leads out; nothing is
//! written here.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use dmg_connector::{FileEntry, Result};
use dmg_protocol::Fault;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2};
use rustix::io::Errno;

use super::errors::failed;
use super::leftovers;
use crate::path::segments;

/// Files a listing may have at most; a folder beyond it is refused, never cut.
const LISTED_MAX: usize = 1_000_000;
/// Folders within each other.
const DEPTH_MAX: usize = 128;

#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    folder: OwnedFd,
}

/// Changes whenever the content does: size, time of the last change and inode.
pub(super) fn stamp(stat: &Stat) -> String {
    let nanos = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    format!("{}-{nanos}-{}", stat.st_size, stat.st_ino)
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

impl Root {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let what = format!("folder \"{}\"", path.display());
        let folder = open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(errno, "open", &what, "the gateway's machine"))?;
        Ok(Root { path, folder })
    }

    pub(super) fn label(&self) -> String {
        format!("folder {}", self.path.display())
    }

    /// Opens something beneath the root. Links are followed as long as they stay inside.
    pub(super) fn open_beneath(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = if self.path.as_os_str() == "/" {
            // Everything is beneath it, and absolute links mean what they say.
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
        } else {
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS
        };
        let path = if path.is_empty() { "." } else { path };
        // The kernel answers EAGAIN when a folder is renamed while it resolves; a few tries suffice.
        let mut tries = 0;
        loop {
            match openat2(&self.folder, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if tries < 8 => tries += 1,
                answer => return answer,
            }
        }
    }

    /// A folder, opened for listing and for changes in it.
    pub(super) fn folder(&self, path: &str) -> Result<OwnedFd> {
        self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|errno| failed(errno, "open", &self.named_folder(path), &self.label()))
    }

    fn named_folder(&self, path: &str) -> String {
        if path.is_empty() { "root folder".to_owned() } else { format!("folder \"{path}\"") }
    }

    /// One file, or none. Never waits: a pipe or a device is refused without being opened.
    pub(super) fn stat(&self, path: &str) -> Result<Option<FileEntry>> {
        let path = segments(path)?.join("/");
        match self.stat_beneath(&path) {
            Ok(stat) if is_file(&stat) => Ok(Some(entry(path, &stat))),
            Ok(_) => {
                let message = format!("\"{path}\" in {} is not a file.", self.label());
                Err(Fault::new("UserErrorContainerMissing", message)
                    .remedy("Name a file, not a folder or a device.")
                    .into())
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(failed(errno, "read", &format!("file \"{path}\""), &self.label())),
        }
    }

    fn stat_beneath(&self, path: &str) -> rustix::io::Result<Stat> {
        fstat(self.open_beneath(path, OFlags::PATH)?)
    }

    /// Opens a file for reading.
    pub(super) fn open_file(&self, path: &str) -> Result<(File, Stat)> {
        let what = format!("file \"{path}\"");
        let fault = |errno| failed(errno, "read", &what, &self.label());
        // NONBLOCK keeps a pipe in the file's place from holding us; it means nothing to a regular file.
        let file = self.open_beneath(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map_err(fault)?;
        let stat = fstat(&file).map_err(fault)?;
        if !is_file(&stat) {
            return Err(fault(Errno::ISDIR));
        }
        Ok((File::from(file), stat))
    }

    /// Files of a folder, sorted by path.
    pub(super) fn list(&self, folder: &str, recursive: bool) -> Result<Vec<FileEntry>> {
        let start = segments(folder)?.join("/");
        let mut found = Vec::new();
        let mut waiting = vec![(start, 0_usize)];
        while let Some((path, depth)) = waiting.pop() {
            let opened = self.folder(&path)?;
            let fault = |errno| failed(errno, "list", &self.named_folder(&path), &self.label());
            for item in Dir::read_from(&opened).map_err(fault)? {
                let item = item.map_err(fault)?;
                let Ok(name) = item.file_name().to_str() else {
                    return Err(self.unreadable_name(&path).into());
                };
                if name == "." || name == ".." || leftovers::is_ours(name) {
                    continue;
                }
                let inner = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                let stat = match self.stat_beneath(&inner) {
                    Ok(stat) => stat,
                    // Gone since the listing, or a link to nothing or to the outside: no file of this store.
                    Err(Errno::NOENT | Errno::XDEV | Errno::LOOP | Errno::NOTDIR) => continue,
                    Err(errno) => return Err(failed(errno, "read", &format!("file \"{inner}\""), &self.label())),
                };
                if is_file(&stat) {
                    found.push(entry(inner, &stat));
                } else if recursive && item.file_type() == FileType::Directory && depth < DEPTH_MAX {
                    waiting.push((inner, depth + 1));
                }
                if found.len() > LISTED_MAX {
                    let message =
                        format!("The folder \"{folder}\" in {} holds more than {LISTED_MAX} files.", self.label());
                    return Err(Fault::new("UserErrorNotSupported", message)
                        .remedy("Copy its sub-folders one by one.")
                        .into());
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn unreadable_name(&self, path: &str) -> Fault {
        let message =
            format!("The {} in {} holds a file whose name is not UTF-8.", self.named_folder(path), self.label());
        Fault::new("UserErrorNotSupported", message).remedy("Rename that file, or copy from another folder.")
    }
}

fn entry(path: String, stat: &Stat) -> FileEntry {
    FileEntry { path, size: stat.st_size.max(0).unsigned_abs(), stamp: stamp(stat) }
}
