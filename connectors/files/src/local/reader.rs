//! Reads ranges of one open file and refuses to go on when it changed. It never follows a file to a new inode: what
//! was opened is what is read.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dmg_connector::{FileEntry, RangeReader, Result, Traffic};
use dmg_protocol::Fault;
use rustix::fs::fstat;

use super::errors::{failed, failed_io};
use super::root::{Root, stamp};
use crate::blocking::blocking;

/// An open file.
#[derive(Debug)]
pub(super) struct LocalReader {
    open: Arc<Open>,
    traffic: Option<Arc<Traffic>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    stamp: String,
    path: String,
    store: String,
}

impl LocalReader {
    /// Opens a file of a listing; it must still be as it was listed.
    pub(super) fn open(root: &Root, entry: &FileEntry, traffic: Arc<Traffic>) -> Result<Self> {
        let (file, stat) = root.open_file(&entry.path)?;
        let open =
            Open { file, size: entry.size, stamp: entry.stamp.clone(), path: entry.path.clone(), store: root.label() };
        if stamp(&stat) != open.stamp {
            return Err(open.changed().into());
        }
        traffic.opened();
        Ok(LocalReader { open: Arc::new(open), traffic: Some(traffic) })
    }

    /// A file of our own, as it is now. It does not count as traffic.
    pub(super) fn staged(file: File, path: String, store: String) -> Result<Self> {
        let stat = fstat(&file).map_err(|errno| failed(errno, "read", &format!("file \"{path}\""), &store))?;
        let open = Open { file, size: stat.st_size.max(0).unsigned_abs(), stamp: stamp(&stat), path, store };
        Ok(LocalReader { open: Arc::new(open), traffic: None })
    }
}

impl Drop for LocalReader {
    fn drop(&mut self) {
        if let Some(traffic) = &self.traffic {
            traffic.closed();
        }
    }
}

impl Open {
    fn changed(&self) -> Fault {
        let message = format!("The file \"{}\" in {} changed while it was read.", self.path, self.store);
        Fault::new("UserErrorSourceChanged", message)
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let what = format!("file \"{}\"", self.path);
        if range.end > self.size || range.start > range.end {
            let message = format!(
                "Bytes {} to {} of the {what} were asked for, which has {}.",
                range.start, range.end, self.size
            );
            return Err(Fault::new("SystemErrorInternal", message).into());
        }
        let length = usize::try_from(range.end - range.start).expect("a range is far smaller than the address space");
        let mut bytes = vec![0; length];
        let answer = self.file.read_exact_at(&mut bytes, range.start);
        // The stamp is looked at after the bytes: what came in between must not be trusted.
        let stat = fstat(&self.file).map_err(|errno| failed(errno, "read", &what, &self.store))?;
        if stamp(&stat) != self.stamp {
            return Err(self.changed().into());
        }
        answer.map_err(|error| failed_io(&error, "read", &what, &self.store))?;
        Ok(Bytes::from(bytes))
    }
}

#[async_trait]
impl RangeReader for LocalReader {
    fn size(&self) -> u64 {
        self.open.size
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let open = self.open.clone();
        let bytes = blocking(move || open.read(range)).await?;
        if let Some(traffic) = &self.traffic {
            traffic.add_bytes(bytes.len() as u64);
        }
        Ok(bytes)
    }

    fn label(&self) -> String {
        self.open.path.clone()
    }
}
