//! Names of the hidden files of a write, and the removal of those whose writer is gone. The target itself is never
//! touched here.

use std::os::fd::OwnedFd;

use dmg_connector::Result;
use dmg_protocol::{Attempt, Epoch};
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;

use super::mark;
use super::place::Place;

const PART: &str = ".part";
const MARK: &str = ".dmg-mark";
const MARK_PART: &str = "~mark.";
/// Longest target name that goes into a hidden name as it is; file systems take 255 bytes.
const NAME_MAX: usize = 200;

/// What stands for the target's name in a hidden name.
fn stem(name: &str) -> String {
    if name.len() <= NAME_MAX {
        return name.to_owned();
    }
    let end = (0..=NAME_MAX - 20).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    format!("{}~{:016x}", &name[..end], fnv(name.as_bytes()))
}

/// FNV-1a: tells long names apart, and stays the same from release to release.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The hidden file an attempt writes into.
pub(super) fn part_name(name: &str, attempt: &Attempt) -> String {
    format!(".{}.{}{PART}", stem(name), attempt.short())
}

/// The file that carries the mark where the file system has no extended attributes.
pub(super) fn mark_name(name: &str) -> String {
    format!(".{}{MARK}", stem(name))
}

/// What that file is called until it is whole.
pub(super) fn mark_part_name(name: &str, attempt: &Attempt) -> String {
    format!(".{}.{MARK_PART}{}{PART}", stem(name), attempt.short())
}

/// Whether a name is one of the hidden names.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with('.')
        && (name.ends_with(MARK)
            || name
                .strip_suffix(PART)
                .and_then(|rest| rest.rsplit_once('.'))
                .is_some_and(|(_, short)| parse(short).is_some()))
}

/// Run prefix and epoch of [`Attempt::short`].
fn parse(short: &str) -> Option<(&str, Epoch)> {
    let (run, epoch) = short.split_once('_')?;
    let run_fits = run.len() == 12 && run.bytes().all(|byte| byte.is_ascii_hexdigit());
    if run_fits { Some((run, Epoch(epoch.parse().ok()?))) } else { None }
}

/// Removes hidden files of that target: those of lower epochs of the same run at once, so that a writer that lost its
/// lease cannot commit; those of other runs only when nobody holds them any more.
pub(super) fn sweep(place: &Place, attempt: &Attempt) -> Result<()> {
    let fault = |errno| place.failed(errno, "clean up beside");
    let prefix = format!(".{}.", stem(&place.name));
    let mine = attempt.short();
    let (my_run, _) = parse(&mine).expect("an attempt's short name has this form");
    for item in Dir::read_from(&*place.folder).map_err(fault)? {
        let item = item.map_err(fault)?;
        let Ok(name) = item.file_name().to_str() else { continue };
        let short = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(PART));
        let short = short.map(|short| short.strip_prefix(MARK_PART).unwrap_or(short));
        let Some((run, epoch)) = short.and_then(parse) else { continue };
        // The lock is held until the name is gone.
        let held = if run == my_run { None } else { abandoned(place, name, attempt) };
        if held.is_some() || (run == my_run && epoch < attempt.epoch) {
            match unlinkat(&*place.folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(fault(errno)),
            }
        }
    }
    Ok(())
}

/// The hidden file of another run, locked by us, if its writer is gone and wrote in our namespace.
fn abandoned(place: &Place, name: &str, attempt: &Attempt) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&*place.folder, name, flags, Mode::empty()).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    mark::may_sweep(&file, attempt).then_some(file)
}

#[cfg(test)]
mod tests {
    use dmg_protocol::RunId;

    use super::*;

    fn attempt(epoch: u64) -> Attempt {
        let run = RunId::new("0191a2b3-c4d5-7000-8000-000000000001");
        Attempt { namespace: "dmg-copy".into(), run, epoch: Epoch(epoch) }
    }

    #[test]
    fn hidden_names_are_known_again() {
        assert_eq!(part_name("a.parquet", &attempt(7)), ".a.parquet.0191a2b3c4d5_7.part");
        assert_eq!(mark_name("a.parquet"), ".a.parquet.dmg-mark");
        for name in [
            part_name("a.parquet", &attempt(7)),
            mark_name("x"),
            mark_part_name("x", &attempt(7)),
            part_name(&"é".repeat(120), &attempt(1)),
        ] {
            assert!(is_ours(&name), "{name}");
            assert!(name.len() <= 255, "{name}");
        }
        for name in ["a.part", ".a.part", ".hidden", ".a.0191a2b3c4d5.part", "a.dmg-mark"] {
            assert!(!is_ours(name), "{name}");
        }
        assert_ne!(stem(&format!("{}1", "x".repeat(240))), stem(&format!("{}2", "x".repeat(240))));
    }
}
