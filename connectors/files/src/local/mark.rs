//! Who committed a file: an extended attribute that travels with the rename, or a file beside it where the file
//! system has none. A mark names the stamp of the file it belongs to, so one that stayed behind is not believed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;

use dmg_connector::{FileMark, MarkContent, Result};
use dmg_protocol::{Attempt, Epoch};
use rustix::fs::{
    FlockOperation, Mode, OFlags, XattrFlags, fgetxattr, flock, fsetxattr, fstat, fsync, openat, renameat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::leftovers::{mark_name, mark_part_name};
use super::place::Place;
use super::root::stamp;

const MARK: &str = "user.dmg.mark";
const WRITER: &str = "user.dmg.writer";
/// A mark is a few hundred bytes; nothing larger is one.
const MARK_BYTES_MAX: usize = 4096;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    namespace: String,
    run: String,
    epoch: Epoch,
    rows: u64,
    digest: String,
    stamp: String,
}

fn unsupported(errno: Errno) -> bool {
    // Some network file systems answer EPERM or EINVAL where they mean "not supported".
    matches!(errno, Errno::NOTSUP | Errno::NOSYS | Errno::PERM | Errno::INVAL)
}

/// Notes on a staged file whose it is, as far as the file system can.
pub(super) fn note_writer(file: impl AsFd, attempt: &Attempt) {
    // Without it a sweep goes by the lock alone, which is right as well.
    let _ = fsetxattr(file, WRITER, attempt.namespace.as_bytes(), XattrFlags::empty());
}

/// Whether a staged file without a living writer may be removed in the name of that attempt.
pub(super) fn may_sweep(file: impl AsFd, attempt: &Attempt) -> bool {
    let mut buffer = vec![0_u8; MARK_BYTES_MAX];
    match fgetxattr(file, WRITER, buffer.as_mut_slice()) {
        Ok(length) => &buffer[..length] == attempt.namespace.as_bytes(),
        Err(_) => true,
    }
}

/// Puts the mark on a staged file, or beside its target, and makes it durable.
pub(super) fn write(place: &Place, file: &File, attempt: &Attempt, content: &MarkContent) -> Result<()> {
    let fault = |errno| place.failed(errno, "write");
    let stat = fstat(file).map_err(fault)?;
    let written = Written {
        namespace: attempt.namespace.clone(),
        run: attempt.run.as_str().to_owned(),
        epoch: attempt.epoch,
        rows: content.rows,
        digest: content.digest.clone(),
        stamp: stamp(&stat),
    };
    let text = serde_json::to_vec(&written).expect("texts and numbers become JSON");
    match fsetxattr(file, MARK, &text, XattrFlags::empty()) {
        Ok(()) => fsync(file).map_err(fault),
        Err(errno) if unsupported(errno) => beside(place, attempt, &text).map_err(fault),
        Err(errno) => Err(fault(errno)),
    }
}

fn beside(place: &Place, attempt: &Attempt, text: &[u8]) -> rustix::io::Result<()> {
    let name = mark_name(&place.name);
    let interim = mark_part_name(&place.name, attempt);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&*place.folder, &interim, flags, Mode::from_raw_mode(0o644))?);
    // The lock tells a sweep of another run that its writer lives.
    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
    file.write_all(text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    fsync(&file)?;
    renameat(&*place.folder, &interim, &*place.folder, &name)
}

/// The mark of the file that is there now.
pub(super) fn read(place: &Place) -> Result<Option<FileMark>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&*place.folder, &place.name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // What is no file, or a link, was not committed by us.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(place.failed(errno, "read")),
    };
    let now = stamp(&fstat(&file).map_err(|errno| place.failed(errno, "read"))?);
    let mut buffer = vec![0_u8; MARK_BYTES_MAX];
    let attribute = fgetxattr(&file, MARK, buffer.as_mut_slice()).ok().map(|length| buffer[..length].to_vec());
    let found = attribute.into_iter().chain(beside_text(place)).find_map(|text| {
        let written: Written = serde_json::from_slice(&text).ok()?;
        (written.stamp == now).then_some(written)
    });
    Ok(found.map(|written| FileMark {
        namespace: written.namespace,
        run: written.run,
        epoch: written.epoch,
        rows: written.rows,
        digest: written.digest,
        stamp: now,
    }))
}

fn beside_text(place: &Place) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&*place.folder, mark_name(&place.name), flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    File::from(file).take(MARK_BYTES_MAX as u64).read_to_end(&mut text).ok()?;
    Some(text)
}
