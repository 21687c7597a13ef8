//! Ends a copy, or a comparison, whose store says nothing any more. Source and sink are wrapped, so that every wait for a store passes
//! here and nowhere else; a wait is over its limit when nothing at all has happened in the copy for that long: no byte
//! came or went, no wait began or ended. Who waits for an answer is allowed more than who waits in the middle of rows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_connector::{Result, Traffic};
use dmg_protocol::job::CopyOptions;
use dmg_protocol::{Fault, Retry};

/// Longest wait for an answer unless the author says otherwise: the original's limit of a query.
const ANSWER: Duration = Duration::from_secs(2 * 60 * 60);
/// Longest silence in the middle of rows unless the author says otherwise.
const STALL: Duration = Duration::from_secs(10 * 60);
/// How long a sink that has just been given up may take to remove what was staged; the next attempt does it too.
const FAREWELL: Duration = Duration::from_secs(30);
/// What raises the limit of a silence.
const STALL_WORDS: &str = "--stall-timeout, or stallTimeout of the activity";
/// Pause between two looks, at most; a quarter of the limit where that is less.
const LOOK_MAX: Duration = Duration::from_secs(1);
const LOOK_MIN: Duration = Duration::from_millis(5);
/// A stream that has brought more than this has begun to bring rows, even if its first batch is not full.
const PREAMBLE_BYTES: u64 = 64 * 1024;

/// One of the two ends of a copy, or of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Where rows come from.
    Source,
    /// Where rows go.
    Sink,
    /// The first of two stores that are compared.
    From,
    /// The second.
    To,
    /// Where rows left out, or a log of the copy, are written.
    Beside,
}

impl Side {
    /// For programs.
    fn word(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Sink => "sink",
            Side::From => "from",
            Side::To => "to",
            Side::Beside => "beside",
        }
    }
}

/// What a store is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// That it opens, says what it has, or reads its mark: quick questions.
    Question,
    /// The end of a statement.
    Answer,
    /// The first rows of a part.
    FirstRows,
    /// More rows.
    Rows,
    /// That it takes rows.
    Room,
    /// That it removes what was staged.
    Farewell,
}

/// How long which wait may be.
#[derive(Debug, Clone, Copy)]
struct Limits {
    query: Duration,
    commit: Duration,
    stall: Duration,
    /// The author's limit of one write.
    write: Option<Duration>,
}

impl Limits {
    fn of(options: &CopyOptions) -> Self {
        let limit = |millis: Option<u64>, usual| match millis {
            None => usual,
            Some(0) => Duration::MAX,
            Some(millis) => Duration::from_millis(millis),
        };
        Limits {
            query: limit(options.query_timeout_millis, ANSWER),
            commit: limit(options.commit_timeout_millis, ANSWER),
            stall: limit(options.stall_timeout_millis, STALL),
            write: options.batch_timeout_seconds.map(Duration::from_secs),
        }
    }

    fn of_wait(&self, side: Side, what: For) -> Duration {
        match (what, side) {
            (For::Question | For::Rows, _) => self.stall,
            (For::Answer | For::FirstRows, Side::Sink | Side::Beside) => self.commit,
            (For::Room, Side::Beside) => self.stall,
            (For::Answer | For::FirstRows, _) => self.query,
            (For::Room, _) => self.write.unwrap_or(self.stall),
            (For::Farewell, _) => self.stall.min(FAREWELL),
        }
    }
}

/// The waits of a copy and when something last happened. Pure.
#[derive(Debug, Default)]
struct Waits {
    last: Duration,
    bytes: u64,
    pauses: u32,
    next: u64,
    active: Vec<Wait>,
}

#[derive(Debug)]
struct Wait {
    id: u64,
    side: Side,
    what: For,
    limit: Duration,
    /// Bytes both sides had counted when it began.
    bytes: u64,
}

impl Waits {
    fn enter(&mut self, now: Duration, bytes: u64, side: Side, what: For, limit: Duration) -> u64 {
        self.happened(now, bytes);
        self.next += 1;
        self.active.push(Wait { id: self.next, side, what, limit, bytes });
        self.next
    }

    fn leave(&mut self, now: Duration, id: u64) {
        self.last = now;
        self.active.retain(|wait| wait.id != id);
    }

    fn happened(&mut self, now: Duration, bytes: u64) {
        self.last = now;
        self.bytes = bytes;
    }

    /// Looks at one wait: how long nothing has happened in the copy, if that is longer than this wait may be.
    fn look(&mut self, now: Duration, bytes: u64, id: u64, stall: Duration) -> Option<Duration> {
        if bytes != self.bytes || self.pauses > 0 {
            self.happened(now, bytes);
        }
        let alone = self.active.len() == 1;
        if let Some(wait) = self.active.iter_mut().find(|wait| wait.id == id)
            && wait.what == For::FirstRows
            && alone
            && bytes.saturating_sub(wait.bytes) > PREAMBLE_BYTES
        {
            (wait.what, wait.limit) = (For::Rows, stall);
        }
        let silence = now.saturating_sub(self.last);
        let asked = self.active.iter().find(|wait| wait.id == id)?;
        // A lane that waits for the sink may only wait for its turn behind one that waits for the source.
        let may_queue = asked.side == Side::Sink && self.active.iter().any(|wait| wait.side == Side::Source);
        (silence >= asked.limit && !may_queue).then_some(silence)
    }
}

/// Watches the waits of one copy. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watchdog(Arc<Watched>);

struct Watched {
    ambient: Ambient,
    limits: Limits,
    waits: Mutex<Waits>,
    traffic: Mutex<Vec<Arc<Traffic>>>,
    /// What is written to was given up.
    lost: AtomicBool,
}

impl Watchdog {
    /// With the limits of the options.
    pub(crate) fn new(ambient: Ambient, options: &CopyOptions) -> Self {
        let waits = Mutex::new(Waits { last: ambient.uptime(), ..Waits::default() });
        Watchdog(Arc::new(Watched {
            ambient,
            limits: Limits::of(options),
            waits,
            traffic: Mutex::default(),
            lost: AtomicBool::new(false),
        }))
    }

    /// From now on bytes of that counter are signs of life.
    pub(super) fn count(&self, traffic: Arc<Traffic>) {
        self.0.traffic.lock().unwrap_or_else(PoisonError::into_inner).push(traffic);
    }

    /// Nobody is to blame for silence while the returned value lives: the copy itself pauses.
    pub(crate) fn pause(&self) -> Pause {
        self.waits().pauses += 1;
        Pause(self.clone())
    }

    /// Waits for a store, as long as that may take. `store` names it for people.
    pub(crate) async fn wait<T>(
        &self,
        side: Side,
        what: For,
        store: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let ambient = &self.0.ambient;
        let limit = match what {
            For::Farewell if !self.0.lost.load(Ordering::SeqCst) => self.0.limits.stall,
            _ => self.0.limits.of_wait(side, what),
        };
        let id = self.waits().enter(ambient.uptime(), self.bytes(), side, what, limit);
        let active = Active { watchdog: self, id };
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = ambient.sleep((limit / 4).clamp(LOOK_MIN, LOOK_MAX)) => {}
            }
            let silence = self.waits().look(ambient.uptime(), self.bytes(), id, self.0.limits.stall);
            if let Some(silence) = silence {
                let what = self.waits().active.iter().find(|wait| wait.id == id).map_or(what, |wait| wait.what);
                drop(active);
                self.0.lost.fetch_or(matches!(side, Side::Sink | Side::Beside), Ordering::SeqCst);
                return Err(self.silent(side, what, store, silence).into());
            }
        }
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.0.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> u64 {
        let traffic = self.0.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic.iter().map(|traffic| traffic.bytes()).sum()
    }

    fn silent(&self, side: Side, what: For, store: &str, silence: Duration) -> Fault {
        let (who, answer, stall) = match side {
            Side::Source => ("The source", "--query-timeout, or queryTimeout of the activity's source", STALL_WORDS),
            Side::Sink => ("The sink", "--commit-timeout, or commitTimeout of the activity", STALL_WORDS),
            Side::From => ("FROM", "--query-timeout", "--stall-timeout"),
            Side::To => ("TO", "--query-timeout", "--stall-timeout"),
            Side::Beside => (
                "The store of the rows left out or of the copy's log",
                "--commit-timeout, or commitTimeout of the activity",
                STALL_WORDS,
            ),
        };
        let when = match what {
            For::Question => "when it was asked what it has",
            For::Answer => "while its answer was awaited",
            For::FirstRows => "while its first rows were awaited",
            For::Rows => "in the middle of its rows",
            For::Room => "while it was to take rows",
            For::Farewell => "when it was asked to remove what was staged",
        };
        let option = match what {
            For::Answer | For::FirstRows => answer,
            For::Room if side == Side::Sink && self.0.limits.write.is_some() => {
                "writeBatchTimeout of the activity's sink"
            }
            _ => stall,
        };
        let seconds = silence.as_millis() as f64 / 1000.0;
        Fault::new("StoreErrorTimeout", format!("{who} said nothing for {seconds} s {when}: {store}."))
            .remedy(format!("Look what the store waits for. If it needs that long, raise {option}; 0 is no limit."))
            // Another try would wait as long again.
            .retry(Retry::AfterFix)
            .with("side", side.word())
            .with("silentSeconds", seconds)
    }
}

/// A wait that is under way.
struct Active<'a> {
    watchdog: &'a Watchdog,
    id: u64,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let now = self.watchdog.0.ambient.uptime();
        self.watchdog.waits().leave(now, self.id);
    }
}

/// A pause of the copy's own making.
pub(crate) struct Pause(Watchdog);

impl Drop for Pause {
    fn drop(&mut self) {
        let now = self.0.0.ambient.uptime();
        let mut waits = self.0.waits();
        waits.pauses -= 1;
        waits.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn options(query: Option<u64>, stall: Option<u64>) -> CopyOptions {
        CopyOptions { query_timeout_millis: query, stall_timeout_millis: stall, ..CopyOptions::default() }
    }

    async fn never(watchdog: &Watchdog, side: Side, what: For) -> (Fault, f64) {
        let started = watchdog.0.ambient.uptime();
        let ended = watchdog.wait(side, what, "PostgreSQL db01", std::future::pending::<Result<()>>()).await;
        let fault = *ended.expect_err("nobody answers").fault;
        (fault, (watchdog.0.ambient.uptime() - started).as_secs_f64())
    }

    #[tokio::test]
    async fn a_silent_store_is_waited_for_as_long_as_its_wait_may_take() {
        let watchdog = Watchdog::new(Ambient::test(1), &CopyOptions::default());
        for (side, what, seconds, words) in [
            (Side::Source, For::Rows, 600.0, "The source said nothing for 600 s in the middle of its rows"),
            (Side::Source, For::FirstRows, 7200.0, "while its first rows were awaited: PostgreSQL db01."),
            (Side::Sink, For::Answer, 7200.0, "The sink said nothing for 7200 s while its answer"),
            (Side::Sink, For::Room, 600.0, "while it was to take rows"),
            (Side::Sink, For::Farewell, 30.0, "remove what was staged"),
            (Side::Beside, For::Room, 600.0, "The store of the rows left out or of the copy's log said nothing"),
            (Side::From, For::Rows, 600.0, "FROM said nothing for 600 s in the middle of its rows"),
            (Side::To, For::FirstRows, 7200.0, "TO said nothing for 7200 s while its first rows"),
        ] {
            let (fault, took) = never(&watchdog, side, what).await;
            assert!((took - seconds).abs() < 2.0, "{what:?} took {took} s");
            assert_eq!(fault.code, "StoreErrorTimeout");
            assert!(fault.message.contains(words), "{fault}");
        }
    }

    #[tokio::test]
    async fn limits_are_the_authors() {
        let watchdog = Watchdog::new(Ambient::test(1), &options(Some(50), Some(2000)));
        let (fault, took) = never(&watchdog, Side::Source, For::FirstRows).await;
        assert!((0.05..0.1).contains(&took), "{took} s");
        assert!(fault.remedy.contains("queryTimeout"), "{fault}");
        let written = CopyOptions { batch_timeout_seconds: Some(3), ..CopyOptions::default() };
        let (fault, took) = never(&Watchdog::new(Ambient::test(1), &written), Side::Sink, For::Room).await;
        assert!((3.0..4.5).contains(&took) && fault.remedy.contains("writeBatchTimeout"), "{took} s: {fault}");
        assert_eq!(Limits::of(&options(Some(0), Some(0))).of_wait(Side::Sink, For::Rows), Duration::MAX);
    }

    /// Looks at the wait after so many seconds in which only what is told has happened.
    fn fires(waits: &mut Waits, seconds: u32, id: u64) -> bool {
        let bytes = waits.bytes;
        waits.look(waits.last + SECOND * seconds, bytes, id, 10 * SECOND).is_some()
    }

    #[test]
    fn who_waits_for_his_turn_is_not_to_blame() {
        let mut waits = Waits::default();
        let sink = waits.enter(SECOND, 0, Side::Sink, For::Room, 10 * SECOND);
        assert!(fires(&mut waits, 10, sink) && !fires(&mut waits, 9, sink));
        let sorting = waits.enter(SECOND, 0, Side::Source, For::FirstRows, 100 * SECOND);
        assert!(!fires(&mut waits, 99, sink) && !fires(&mut waits, 99, sorting));
        assert!(!fires(&mut waits, 500, sink), "the source is to be named");
        assert!(fires(&mut waits, 100, sorting));
        let stuck = waits.enter(SECOND, 0, Side::Source, For::Rows, 10 * SECOND);
        assert!(fires(&mut waits, 10, stuck), "that another sorts does not help who is in the middle");
    }

    #[test]
    fn bytes_and_pauses_are_signs_of_life() {
        let mut waits = Waits::default();
        let rows = waits.enter(SECOND, 0, Side::Source, For::Rows, 10 * SECOND);
        assert_eq!(waits.look(10 * SECOND, 1, rows, 10 * SECOND), None);
        assert_eq!(waits.look(19 * SECOND, 1, rows, 10 * SECOND), None);
        assert_eq!(waits.look(20 * SECOND, 1, rows, 10 * SECOND), Some(10 * SECOND));
        waits.pauses = 1;
        assert_eq!(waits.look(90 * SECOND, 1, rows, 10 * SECOND), None);
        waits.pauses = 0;
        assert_eq!(waits.look(99 * SECOND, 1, rows, 10 * SECOND), None);
    }

    #[test]
    fn a_first_batch_that_has_begun_is_the_middle_of_rows() {
        let mut waits = Waits::default();
        let first = waits.enter(SECOND, 0, Side::Source, For::FirstRows, 100 * SECOND);
        assert_eq!(waits.look(2 * SECOND, PREAMBLE_BYTES, first, 10 * SECOND), None);
        assert!(!fires(&mut waits, 50, first), "so little is no row yet");
        assert_eq!(waits.look(60 * SECOND, PREAMBLE_BYTES + 1, first, 10 * SECOND), None);
        assert!(fires(&mut waits, 10, first));
    }
}
