//! A file being written: into a hidden file of the target's folder, made durable, marked, and renamed under the
//! condition of the plan. A failed write or sync is final for that file; nothing is tried twice.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dmg_ambient::TaskGroup;
use dmg_connector::{Committed, Condition, FileMark, MarkContent, RangeReader, Result, StagedFile, Traffic};
use dmg_protocol::{Attempt, Fault};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, fchmod, flock, fstat, fsync, linkat, openat, renameat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::errors::failed_io;
use super::leftovers::part_name;
use super::mark;
use super::place::Place;
use super::reader::LocalReader;
use super::root::stamp;
use crate::blocking::{blocking, joined};

/// Bytes handed to the writing thread at once.
const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
const CHUNK_BYTES_MIN: usize = 64 * 1024;
/// After so many bytes the kernel is asked to write out, beside the copy, so that the sync at the end is short.
const WRITE_OUT_BYTES: u64 = 32 * 1024 * 1024;
/// Looks at the folder's lock before the commit gives up, and the pause between them: ten seconds in all.
const LOCK_LOOKS_MAX: u32 = 500;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

pub(super) struct LocalStaged {
    part: Arc<Part>,
    condition: Condition,
    chunk_bytes: usize,
    /// What is larger is waited for.
    large_bytes: usize,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    written: u64,
    written_out: u64,
    /// The one write under way.
    writing: TaskGroup<Result<()>>,
    /// The one early write-out under way.
    writing_out: TaskGroup<Result<()>>,
    broken: bool,
    sealed: bool,
    traffic: Arc<Traffic>,
}

/// The hidden file.
struct Part {
    place: Place,
    name: String,
    file: File,
}

impl LocalStaged {
    pub(super) fn create(
        place: Place,
        attempt: &Attempt,
        condition: Condition,
        budget_bytes: usize,
        traffic: Arc<Traffic>,
    ) -> Result<Self> {
        dmg_ambient::failpoint!("local.create", place.failed(Errno::IO, "write"));
        let name = part_name(&place.name, attempt);
        let file = exclusive(&place, &name).map_err(|errno| place.failed(errno, "write"))?;
        mark::note_writer(&file, attempt);
        traffic.opened();
        Ok(LocalStaged {
            part: Arc::new(Part { place, name, file }),
            condition,
            chunk_bytes: (budget_bytes / 3).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX),
            large_bytes: (budget_bytes / 4).max(CHUNK_BYTES_MAX),
            pending: Vec::new(),
            pending_bytes: 0,
            written: 0,
            written_out: 0,
            writing: TaskGroup::new(),
            writing_out: TaskGroup::new(),
            broken: false,
            sealed: false,
            traffic,
        })
    }

    /// Hands what is pending to the writing thread, after the write before it ended.
    async fn flush(&mut self) -> Result<()> {
        self.written_through().await?;
        let pending = std::mem::take(&mut self.pending);
        let length = std::mem::take(&mut self.pending_bytes) as u64;
        let part = self.part.clone();
        self.writing.spawn_blocking(move || part.write(&pending));
        self.written += length;
        self.traffic.add_bytes(length);
        if self.written - self.written_out >= WRITE_OUT_BYTES {
            self.written_out_through().await?;
            self.written_out = self.written;
            let part = self.part.clone();
            self.writing_out.spawn_blocking(move || part.sync());
        }
        Ok(())
    }

    async fn written_through(&mut self) -> Result<()> {
        if self.writing.is_empty() { Ok(()) } else { joined(self.writing.join_next().await) }
    }

    async fn written_out_through(&mut self) -> Result<()> {
        if self.writing_out.is_empty() { Ok(()) } else { joined(self.writing_out.join_next().await) }
    }

    async fn seal_file(&mut self) -> Result<()> {
        self.flush().await?;
        self.written_through().await?;
        self.written_out_through().await?;
        let (part, written) = (self.part.clone(), self.written);
        blocking(move || part.seal(written)).await
    }

    fn usable(&self) -> Result<()> {
        if self.broken {
            let message = format!("Writing the file \"{}\" failed before; it cannot go on.", self.part.place.path);
            return Err(Fault::new("StoreErrorFailed", message).into());
        }
        Ok(())
    }
}

impl Drop for LocalStaged {
    fn drop(&mut self) {
        self.traffic.closed();
    }
}

#[async_trait]
impl StagedFile for LocalStaged {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.usable()?;
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        if self.pending_bytes < self.chunk_bytes {
            return Ok(());
        }
        let large = self.pending_bytes > self.large_bytes;
        let mut result = self.flush().await;
        if large && result.is_ok() {
            // Who wrote it may hold as much again while it is still in memory here.
            result = self.written_through().await;
        }
        self.broken |= result.is_err();
        result
    }

    async fn seal(&mut self) -> Result<()> {
        self.usable()?;
        if self.sealed {
            return Ok(());
        }
        let result = self.seal_file().await;
        self.broken |= result.is_err();
        self.sealed = result.is_ok();
        result
    }

    async fn reader(&self) -> Result<Option<Arc<dyn RangeReader>>> {
        let part = self.part.clone();
        let reader = blocking(move || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&*part.place.folder, &part.name, flags, Mode::empty()).map_err(|errno| match errno {
                Errno::NOENT => part.gone().into(),
                errno => part.place.failed(errno, "read back"),
            })?;
            LocalReader::staged(File::from(file), part.place.path.clone(), part.place.store.clone())
        })
        .await?;
        Ok(Some(Arc::new(reader)))
    }

    async fn commit(&mut self, attempt: &Attempt, content: &MarkContent) -> Result<Committed> {
        if !self.sealed {
            return Err(Fault::new("SystemErrorInternal", "A file was to be committed before it was sealed.").into());
        }
        let (part, condition) = (self.part.clone(), self.condition.clone());
        let (attempt, content) = (attempt.clone(), content.clone());
        blocking(move || part.commit(&condition, &attempt, &content)).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.writing.shutdown().await;
        self.writing_out.shutdown().await;
        self.broken = true;
        let part = self.part.clone();
        blocking(move || part.remove()).await
    }
}

/// Creates the hidden file and holds its lock for as long as the file is open.
fn exclusive(place: &Place, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..8 {
        let file = match openat(&*place.folder, name, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => file,
            Err(Errno::EXIST) => {
                // Only this very attempt makes this name: it is what an earlier try of ours left.
                unlinkat(&*place.folder, name, AtFlags::empty())?;
                continue;
            }
            Err(errno) => return Err(errno),
        };
        // Between creation and lock a sweep of another run may have taken it for abandoned. A file system without
        // locks cannot be swept by lock either, so going on without one is safe.
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::AGAIN) {
            continue;
        }
        match statat(&*place.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_ino == fstat(&file)?.st_ino => return Ok(File::from(file)),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::AGAIN)
}

impl Part {
    fn write(&self, pending: &[Bytes]) -> Result<()> {
        for bytes in pending {
            dmg_ambient::failpoint!("local.write", self.place.failed(Errno::NOSPC, "write"));
            (&self.file).write_all(bytes).map_err(|error| {
                failed_io(&error, "write", &format!("file \"{}\"", self.place.path), &self.place.store)
            })?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        dmg_ambient::failpoint!("local.sync", self.place.failed(Errno::IO, "write"));
        fsync(&self.file).map_err(|errno| self.place.failed(errno, "write"))
    }

    fn seal(&self, written: u64) -> Result<()> {
        self.sync()
            .or_else(|error| if dmg_ambient::planted!("retry-a-failed-fsync") { self.sync() } else { Err(error) })?;
        dmg_ambient::failpoint!("local.sealed", self.place.failed(Errno::IO, "write"));
        let stat = fstat(&self.file).map_err(|errno| self.place.failed(errno, "write"))?;
        if stat.st_size.max(0).unsigned_abs() != written {
            let message =
                format!("The file \"{}\" has {} bytes after {written} were written.", self.place.path, stat.st_size);
            return Err(Fault::new("StoreErrorFailed", message).into());
        }
        Ok(())
    }

    fn commit(&self, condition: &Condition, attempt: &Attempt, content: &MarkContent) -> Result<Committed> {
        let fault = |errno| self.place.failed(errno, "write");
        let _lock = self.lock_folder()?;
        if !self.still_there()? {
            return self.committed_before(attempt);
        }
        let target = self.place.target()?;
        let stands = match (condition, &target) {
            (Condition::Absent, None) => true,
            (Condition::Stamp(expected), Some(stat)) => stamp(stat) == *expected,
            _ => false,
        };
        if !stands && !dmg_ambient::planted!("forget-the-condition") {
            return Err(self.refused().into());
        }
        let mode = target.map_or_else(mode_by_umask, |stat| Mode::from_raw_mode(stat.st_mode & 0o777));
        fchmod(&self.file, mode).map_err(fault)?;
        dmg_ambient::failpoint!("local.mark", fault(Errno::IO));
        mark::write(&self.place, &self.file, attempt, content)?;
        dmg_ambient::failpoint!("local.rename", fault(Errno::IO));
        let folder = &*self.place.folder;
        let renamed = match condition {
            Condition::Absent => self.rename_absent(),
            Condition::Stamp(_) => renameat(folder, &self.name, folder, &self.place.name),
        };
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(self.refused().into()),
            Err(Errno::NOENT) => return self.committed_before(attempt),
            Err(errno) => return Err(fault(errno)),
        }
        // From here on the new content is visible. If the folder cannot be synced, a power cut could still bring the
        // old one back: the caller reads the mark.
        dmg_ambient::failpoint!("local.renamed", fault(Errno::IO).with_unknown_outcome());
        if !dmg_ambient::planted!("acknowledge-before-durable") {
            fsync(folder).map_err(|errno| fault(errno).with_unknown_outcome())?;
        }
        let stat = fstat(&self.file).map_err(|errno| fault(errno).with_unknown_outcome())?;
        Ok(Committed { mark: stamp(&stat), rows: content.rows, digest: content.digest.clone(), epoch: attempt.epoch })
    }

    /// Keeps other writers of ours out between the look at the condition and the rename. Other programs are not
    /// kept out: file systems have no rename under a condition on content.
    fn lock_folder(&self) -> Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = File::from(
            openat(&*self.place.folder, ".", flags, Mode::empty())
                .map_err(|errno| self.place.failed(errno, "open the folder of"))?,
        );
        for _ in 0..LOCK_LOOKS_MAX {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(folder)),
                Err(Errno::AGAIN | Errno::INTR) => std::thread::sleep(LOCK_PAUSE),
                // A file system without locks.
                Err(_) => return Ok(None),
            }
        }
        let message =
            format!("The folder of \"{}\" in {} is locked by another program.", self.place.path, self.place.store);
        Err(Fault::new("StoreErrorConflict", message).into())
    }

    fn still_there(&self) -> Result<bool> {
        match statat(&*self.place.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => {
                let ours = fstat(&self.file).map_err(|errno| self.place.failed(errno, "write"))?;
                Ok((named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino))
            }
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.place.failed(errno, "write")),
        }
    }

    fn rename_absent(&self) -> rustix::io::Result<()> {
        let folder = &*self.place.folder;
        match renameat_with(folder, &self.name, folder, &self.place.name, RenameFlags::NOREPLACE) {
            // Some file systems know no such rename; a hard link refuses an existing name just as well.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                linkat(folder, &self.name, folder, &self.place.name, AtFlags::empty())?;
                unlinkat(folder, &self.name, AtFlags::empty())
            }
            answer => answer,
        }
    }

    /// The hidden file is gone: either it already has the target's name, or a later attempt removed it.
    fn committed_before(&self, attempt: &Attempt) -> Result<Committed> {
        match mark::read(&self.place)? {
            Some(FileMark { namespace, run, epoch, rows, digest, stamp })
                if namespace == attempt.namespace && run == attempt.run.as_str() && epoch <= attempt.epoch =>
            {
                Ok(Committed { mark: stamp, rows, digest, epoch })
            }
            _ => Err(self.gone().into()),
        }
    }

    fn gone(&self) -> Fault {
        let message = format!(
            "What was written for the file \"{}\" in {} was removed before the commit, by a later attempt of this copy or by another program.",
            self.place.path, self.place.store
        );
        Fault::new("StoreErrorCommitRefused", message)
    }

    fn refused(&self) -> Fault {
        let message = format!(
            "The file \"{}\" in {} was created or changed by somebody else since the copy began; it was left alone.",
            self.place.path, self.place.store
        );
        Fault::new("StoreErrorCommitRefused", message)
    }

    fn remove(&self) -> Result<()> {
        match self.still_there() {
            Ok(true) => match unlinkat(&*self.place.folder, &self.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(self.place.failed(errno, "remove what was staged for")),
            },
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// What a new file of this process may be used for. The process-wide mask can only be read from the kernel's own
/// report; asking for it by call would change it for a moment.
fn mode_by_umask() -> Mode {
    let umask = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
            u32::from_str_radix(line.trim(), 8).ok()
        })
        .unwrap_or(0o077);
    Mode::from_raw_mode(0o666 & !umask)
}
