//! The author's own limit on rows and bytes a second, over all lanes together. A bucket that fills with time; who
//! takes more than is in it waits until the debt is paid.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_connector::Traffic;
use dmg_protocol::job::CopyOptions;

use crate::watchdog::Watchdog;

/// Seconds of its rate that a bucket holds at most: after a pause, no more than this comes at once.
const BURST_SECONDS: f64 = 0.5;
/// Batches a second that a low row rate is cut into, so that rows trickle instead of coming in heaps.
const BATCHES_PER_SECOND: u64 = 4;

/// Limits of one copy.
pub(crate) struct Throttle {
    rows: Option<Bucket>,
    bytes: Option<Bucket>,
    bytes_seen: AtomicU64,
    /// Is told when the author, not a store, lets the copy wait.
    watchdog: Watchdog,
}

#[derive(Debug)]
struct Bucket {
    rate: f64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    available: f64,
    at: Duration,
}

impl Bucket {
    fn new(rate: u64, now: Duration) -> Self {
        Bucket { rate: rate.max(1) as f64, level: Mutex::new(Level { available: 0.0, at: now }) }
    }

    /// Takes that much and says how long to wait for it.
    fn take(&self, amount: u64, now: Duration) -> Duration {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = level.available + now.saturating_sub(level.at).as_secs_f64() * self.rate;
        level.at = level.at.max(now);
        level.available = filled.min(self.rate * BURST_SECONDS) - amount as f64;
        Duration::try_from_secs_f64(-level.available / self.rate).unwrap_or_default()
    }
}

impl Throttle {
    /// The limits of the options; none where there are none.
    pub(crate) fn new(options: &CopyOptions, now: Duration, watchdog: &Watchdog) -> Option<Self> {
        let bucket = |rate: Option<u64>| rate.map(|rate| Bucket::new(rate, now));
        let (rows, bytes) = (bucket(options.rows_per_second), bucket(options.bytes_per_second));
        (rows.is_some() || bytes.is_some()).then(|| Throttle {
            rows,
            bytes,
            bytes_seen: AtomicU64::new(0),
            watchdog: watchdog.clone(),
        })
    }

    /// Rows a batch should have at most.
    pub(crate) fn batch_rows(options: &CopyOptions, rows: usize) -> usize {
        options.rows_per_second.map_or(rows, |rate| rows.min((rate / BATCHES_PER_SECOND).max(1) as usize))
    }

    /// Waits until rows just read, and the bytes read since the last call, are within the limits.
    pub(crate) async fn pace(&self, ambient: &Ambient, rows: u64, traffic: &Traffic) {
        let now = ambient.uptime();
        let mut wait = self.rows.as_ref().map_or(Duration::ZERO, |bucket| bucket.take(rows, now));
        if let Some(bucket) = &self.bytes {
            let total = traffic.bytes();
            let before = self.bytes_seen.fetch_max(total, Ordering::SeqCst);
            wait = wait.max(bucket.take(total.saturating_sub(before), now));
        }
        if !wait.is_zero() {
            let _pause = self.watchdog.pause();
            ambient.sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(rows: Option<u64>, bytes: Option<u64>) -> CopyOptions {
        CopyOptions { rows_per_second: rows, bytes_per_second: bytes, ..CopyOptions::default() }
    }

    fn limited(ambient: &Ambient, options: &CopyOptions) -> Option<Throttle> {
        Throttle::new(options, ambient.uptime(), &Watchdog::new(ambient.clone(), options))
    }

    #[tokio::test]
    async fn rows_and_bytes_come_at_the_rate_asked_for() {
        let (ambient, traffic) = (Ambient::test(1), Traffic::default());
        let throttle = limited(&ambient, &options(Some(1000), None)).expect("a limit");
        let start = ambient.uptime();
        for _ in 0..40 {
            throttle.pace(&ambient, 250, &traffic).await;
        }
        let seconds = (ambient.uptime() - start).as_secs_f64();
        assert!((seconds - 10.0).abs() < 0.01, "10,000 rows at 1,000 a second took {seconds} s");
        let throttle = limited(&ambient, &options(None, Some(1 << 20))).expect("a limit");
        let start = ambient.uptime();
        for _ in 0..16 {
            traffic.add_bytes(512 << 10);
            throttle.pace(&ambient, 1, &traffic).await;
        }
        let seconds = (ambient.uptime() - start).as_secs_f64();
        assert!((seconds - 8.0).abs() < 0.01, "8 MiB at 1 MiB a second took {seconds} s");
    }

    #[tokio::test]
    async fn an_idle_hour_does_not_allow_a_flood() {
        let (ambient, traffic) = (Ambient::test(1), Traffic::default());
        let throttle = limited(&ambient, &options(Some(100), None)).expect("a limit");
        ambient.advance(Duration::from_secs(3600));
        let start = ambient.uptime();
        throttle.pace(&ambient, 1000, &traffic).await;
        assert!((ambient.uptime() - start).as_secs_f64() > 9.4);
    }

    #[test]
    fn without_a_limit_there_is_no_throttle() {
        assert!(limited(&Ambient::test(1), &CopyOptions::default()).is_none());
        assert_eq!(Throttle::batch_rows(&CopyOptions::default(), 8192), 8192);
        assert_eq!(Throttle::batch_rows(&options(Some(100), None), 8192), 25);
        assert_eq!(Throttle::batch_rows(&options(Some(1), None), 8192), 1);
    }
}
