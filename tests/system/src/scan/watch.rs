//! Looks all the time, while something runs: at arguments and environments of every process this one started, however
//! short it lives, and at files that may be gone before the end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::{Hit, Scanner};
use crate::wait::until;

const PERIOD: Duration = Duration::from_millis(2);
const FILE_PERIOD: Duration = Duration::from_millis(30);
/// Where arguments were seen.
const ARGUMENTS: &str = "arguments";
/// Where an environment was seen.
const ENVIRONMENT: &str = "environment";

/// A watch that runs: one thread for processes, which must be quick, and one for files, which take their time.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    processes: Rounds,
    files: Rounds,
}

#[derive(Debug)]
struct Rounds {
    count: Arc<AtomicU32>,
    thread: JoinHandle<Seen>,
}

/// What a watch saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Processes by what they are (program and first words), and how many of them showed their environment.
    pub processes: BTreeMap<String, usize>,
    /// Files seen, each version counted.
    pub files: usize,
    /// Secrets seen.
    pub hits: BTreeSet<Hit>,
    known: HashSet<(u32, Vec<u8>)>,
    versions: HashSet<(PathBuf, u64, Option<SystemTime>)>,
}

impl Watch {
    /// Watches the processes below this one, and the files in those folders.
    pub fn start(scanner: Arc<Scanner>, folders: Vec<PathBuf>) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let files = Arc::clone(&scanner);
        let processes = Rounds::start(&stop, PERIOD, move |seen| seen.processes(&scanner));
        let files = Rounds::start(&stop, FILE_PERIOD, move |seen| {
            folders.iter().for_each(|folder| seen.folder(&files, folder));
        });
        Watch { stop, processes, files }
    }

    /// Waits until everything that is there now was looked at.
    ///
    /// # Panics
    /// When the watch broke.
    pub fn has_looked(&self) {
        for rounds in [&self.processes, &self.files] {
            // The round that runs now may have passed the place already.
            let enough = rounds.count.load(Ordering::SeqCst) + 2;
            until("the watch to look", Duration::from_secs(60), || {
                (rounds.count.load(Ordering::SeqCst) >= enough).then_some(())
            });
        }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When it broke before.
    pub fn stop(self) -> Seen {
        const PROOF: &str = "the watch runs until it is told to stop";
        self.stop.store(true, Ordering::SeqCst);
        let mut seen = self.processes.thread.join().expect(PROOF);
        let files = self.files.thread.join().expect(PROOF);
        seen.files = files.files;
        seen.hits.extend(files.hits);
        seen
    }
}

impl Rounds {
    fn start(stop: &Arc<AtomicBool>, period: Duration, look: impl Fn(&mut Seen) + Send + 'static) -> Rounds {
        let (stop, count) = (Arc::clone(stop), Arc::new(AtomicU32::new(0)));
        let counter = Arc::clone(&count);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            loop {
                // The last round begins after the word to stop, so that nothing of before it is missed.
                let last = stop.load(Ordering::SeqCst);
                look(&mut seen);
                counter.fetch_add(1, Ordering::SeqCst);
                if last {
                    return seen;
                }
                std::thread::sleep(period);
            }
        });
        Rounds { count, thread }
    }
}

impl Seen {
    fn processes(&mut self, scanner: &Scanner) {
        for pid in descendants(std::process::id()) {
            let [arguments, environment] =
                ["cmdline", "environ"].map(|what| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default());
            // A process that ends at this moment shows nothing any more.
            if arguments.is_empty() {
                continue;
            }
            let role = role(&arguments);
            if self.known.insert((pid, arguments.clone())) {
                self.hits.extend(scanner.bytes(&format!("{ARGUMENTS} of {role}"), &arguments));
            }
            if !environment.is_empty() && self.known.insert((pid, environment.clone())) {
                *self.processes.entry(role.clone()).or_default() += 1;
                self.hits.extend(scanner.bytes(&format!("{ENVIRONMENT} of {role}"), &environment));
            }
        }
    }

    fn folder(&mut self, scanner: &Scanner, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let path = entry.path();
            if metadata.is_dir() {
                self.folder(scanner, &path);
            } else if self.versions.insert((path.clone(), metadata.len(), metadata.modified().ok())) {
                self.files += 1;
                // A file that vanished meanwhile has nothing to show.
                let bytes = std::fs::read(&path).unwrap_or_default();
                self.hits.extend(scanner.bytes(&path.display().to_string(), &bytes));
            }
        }
    }
}

/// Program and first two words, such as `dmg node worker`.
fn role(arguments: &[u8]) -> String {
    let text = String::from_utf8_lossy(arguments);
    let mut words = text.split('\0');
    let program = words.next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    match program {
        "dmg" => [program].into_iter().chain(words.take(2)).collect::<Vec<_>>().join(" "),
        _ => program.to_owned(),
    }
}

/// All processes below one.
fn descendants(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name stands in parentheses and may hold anything; state and parent follow it.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(&below);
        open.extend(below);
    }
    found
}
