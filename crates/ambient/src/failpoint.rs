//! Failpoints: named places where a test makes the program die, fail or wait, at the n-th time it comes by; and
//! planted bugs, which show that the tests find them. Both exist only with the feature `failpoints`; without it the
//! macros expand to nothing, and nothing of this module is in the executable.
//!
//! `DMG_FAILPOINTS="lane.batch=3*off->kill;local.sync=error"` sets them for one process;
//! `DMG_FAILPOINTS=@/path/file` reads the same text from a file at every hit, and each text fires once among all
//! processes: who fires first makes `/path/file.fired`. Actions: `kill`, `error`, `delay(milliseconds)`.
//! `DMG_FAILPOINTS_SEEN=/path/file` collects the names of the points that were reached.
//! `DMG_PLANT=name` switches one planted bug on. `DMG_CLOCK=/path/file` moves the wall clock by the seconds in it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use crate::environment;

/// A place where a test may kill or delay the program, or, with an error given, make the function fail with it.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        let _ = $crate::failpoint::hit($name);
    };
    ($name:literal, $error:expr) => {
        if $crate::failpoint::hit($name) {
            return Err(($error).into());
        }
    };
}

/// Whether a planted bug is on.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::failpoint::planted($name)
    };
}

static SETTING: LazyLock<Option<String>> = LazyLock::new(|| environment("DMG_FAILPOINTS"));
static SEEN: LazyLock<Option<String>> = LazyLock::new(|| environment("DMG_FAILPOINTS_SEEN"));
static PLANT: LazyLock<Option<String>> = LazyLock::new(|| environment("DMG_PLANT"));
static CLOCK: LazyLock<Option<String>> = LazyLock::new(|| environment("DMG_CLOCK"));
static HITS: LazyLock<Mutex<Hits>> = LazyLock::new(Mutex::default);

/// How often each point was reached since the text changed.
#[derive(Default)]
struct Hits {
    text: String,
    counts: BTreeMap<&'static str, u64>,
    seen: BTreeMap<&'static str, ()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Error,
    Delay(u64),
}

/// Comes by a point. True: the caller fails.
pub fn hit(name: &'static str) -> bool {
    let (text, file) = match SETTING.as_deref() {
        Some(setting) => match setting.strip_prefix('@') {
            Some(path) => (std::fs::read_to_string(path).unwrap_or_default(), Some(path)),
            None => (setting.to_owned(), None),
        },
        None => (String::new(), None),
    };
    let count = count(name, &text);
    let Some((skip, action)) = parse(&text, name) else { return false };
    if count != skip + 1 || !file.is_none_or(|path| claim(path, name)) {
        return false;
    }
    match action {
        // No destructor runs and nothing is flushed, as after SIGKILL.
        Action::Kill => std::process::abort(),
        Action::Error => true,
        Action::Delay(millis) => {
            std::thread::sleep(Duration::from_millis(millis));
            false
        }
    }
}

/// Whether that planted bug is on.
pub fn planted(name: &str) -> bool {
    PLANT.as_deref() == Some(name)
}

/// By how many microseconds the wall clock is wrong.
pub(crate) fn clock_micros() -> i64 {
    let text = CLOCK.as_deref().and_then(|path| std::fs::read_to_string(path).ok());
    text.and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(0) * 1_000_000
}

fn hits() -> MutexGuard<'static, Hits> {
    HITS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn count(name: &'static str, text: &str) -> u64 {
    let mut hits = hits();
    if hits.text != text {
        text.clone_into(&mut hits.text);
        hits.counts.clear();
    }
    if let Some(path) = SEEN.as_deref()
        && hits.seen.insert(name, ()).is_none()
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        // One write of a short line is never torn between processes.
        let _ = file.write_all(format!("{name}\n").as_bytes());
    }
    let count = hits.counts.entry(name).or_default();
    *count += 1;
    *count
}

fn claim(path: &str, name: &str) -> bool {
    std::fs::File::create_new(format!("{path}.fired")).is_ok_and(|mut file| file.write_all(name.as_bytes()).is_ok())
}

/// What the text says about a point: how many hits pass, and what then happens.
fn parse(text: &str, name: &str) -> Option<(u64, Action)> {
    let rule = text.split([';', '\n']).find_map(|rule| rule.trim().strip_prefix(name)?.strip_prefix('='))?;
    let (skip, action) = match rule.split_once("*off->") {
        Some((skip, action)) => (skip.parse().ok()?, action),
        None => (0, rule),
    };
    let action = match action {
        "kill" => Action::Kill,
        "error" => Action::Error,
        _ => Action::Delay(action.strip_prefix("delay(")?.strip_suffix(')')?.parse().ok()?),
    };
    Some((skip, action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let text = "#7\nlane.batch=3*off->kill;local.sync=error\nx=delay(250)";
        for (name, expect) in [
            ("lane.batch", Some((3, Action::Kill))),
            ("local.sync", Some((0, Action::Error))),
            ("x", Some((0, Action::Delay(250)))),
            ("lane", None),
            ("local", None),
        ] {
            assert_eq!(parse(text, name), expect, "{name}");
        }
        for nonsense in ["x=", "x=explode", "x=delay(", "x=y*off->kill"] {
            assert_eq!(parse(nonsense, "x"), None, "{nonsense}");
        }
    }

    #[test]
    fn hits_count_anew_with_every_text() {
        assert_eq!((count("a", "1"), count("a", "1"), count("b", "1")), (1, 2, 1));
        assert_eq!(count("a", "2"), 1);
    }

    #[test]
    fn a_file_fires_once() {
        let folder = tempfile_folder();
        let path = folder.join("points");
        let path = path.to_str().unwrap();
        assert!(claim(path, "a"));
        assert!(!claim(path, "a"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn tempfile_folder() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("dmg-failpoint-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
