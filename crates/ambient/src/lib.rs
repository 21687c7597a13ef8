//! The outside world passed as a value: clock, chance, tasks and the environment. The only crate that touches them,
//! so that a test can replace them.

#[cfg(feature = "failpoints")]
pub mod failpoint;
mod tasks;

/// Nothing: failpoints are compiled out.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal $(, $error:expr)?) => {};
}

/// No planted bug: they are compiled out.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        false
    };
}

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use tasks::TaskGroup;

/// Clock and chance. Cheap to clone.
#[derive(Clone)]
pub struct Ambient(Arc<World>);

enum World {
    Real { start: std::time::Instant },
    Test { seed: u64, draws: AtomicU64, unix_micros: AtomicU64 },
}

impl Ambient {
    /// The real world.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn real() -> Self {
        Ambient(Arc::new(World::Real { start: std::time::Instant::now() }))
    }

    /// A world for tests: time stands still until moved, chance follows the seed.
    pub fn test(seed: u64) -> Self {
        let unix_micros = AtomicU64::new(1_767_225_600_000_000); // 2026-01-01T00:00:00Z
        Ambient(Arc::new(World::Test { seed, draws: AtomicU64::new(0), unix_micros }))
    }

    /// Moves a test world's clock forward. Does nothing in the real one.
    pub fn advance(&self, by: Duration) {
        if let World::Test { unix_micros, .. } = &*self.0 {
            unix_micros.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
        }
    }

    /// Microseconds since 1970 by the wall clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn unix_micros(&self) -> i64 {
        match &*self.0 {
            World::Real { .. } => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_micros() as i64 + clock_error()),
            World::Test { unix_micros, .. } => unix_micros.load(Ordering::SeqCst) as i64,
        }
    }

    /// Seconds since 1970 by the wall clock.
    pub fn unix_seconds(&self) -> i64 {
        self.unix_micros().div_euclid(1_000_000)
    }

    /// The wall clock as RFC 3339 in UTC with microseconds: `2026-01-01T00:00:00.000000Z`.
    pub fn rfc3339(&self) -> String {
        rfc3339(self.unix_micros())
    }

    /// Time since the program started, never jumping. Leases and timeouts use this.
    pub fn uptime(&self) -> Duration {
        match &*self.0 {
            World::Real { .. } if planted!("trust-the-wall-clock") => Duration::from_micros(self.unix_micros() as u64),
            World::Real { start } => start.elapsed(),
            World::Test { unix_micros, .. } => Duration::from_micros(unix_micros.load(Ordering::SeqCst)),
        }
    }

    /// Waits.
    pub async fn sleep(&self, duration: Duration) {
        match &*self.0 {
            World::Real { .. } => tokio::time::sleep(duration).await,
            World::Test { .. } => {
                self.advance(duration);
                tokio::task::yield_now().await;
            }
        }
    }

    /// A new random UUID (version 4), lower case with dashes.
    pub fn uuid(&self) -> String {
        match &*self.0 {
            World::Real { .. } => {
                #[expect(clippy::disallowed_methods, reason = "this is the one place that draws randomness")]
                let id = uuid::Uuid::new_v4();
                id.to_string()
            }
            World::Test { .. } => {
                let bits = (u128::from(self.next_test_draw()) << 64) | u128::from(self.next_test_draw());
                uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
            }
        }
    }

    /// A random number for jitter. Not for keys: those are drawn in `dmg-seal`.
    pub fn draw(&self) -> u64 {
        match &*self.0 {
            World::Real { .. } => {
                #[expect(clippy::disallowed_methods, reason = "this is the one place that draws randomness")]
                let id = uuid::Uuid::new_v4();
                id.as_u64_pair().1
            }
            World::Test { .. } => self.next_test_draw(),
        }
    }

    /// Full jitter: a duration between nothing and `base * 2^attempt`, at most `most`.
    pub fn backoff(&self, base: Duration, attempt: u32, most: Duration) -> Duration {
        let ceiling = base.saturating_mul(1_u32 << attempt.min(16)).min(most);
        let micros = ceiling.as_micros() as u64;
        Duration::from_micros(if micros == 0 { 0 } else { self.draw() % micros })
    }

    /// SplitMix64: good enough for tests, and needs no crate.
    fn next_test_draw(&self) -> u64 {
        let World::Test { seed, draws, .. } = &*self.0 else { return 0 };
        let n = draws.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        let mut z = seed.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// By how much a test has moved the wall clock.
#[cfg(feature = "failpoints")]
fn clock_error() -> i64 {
    failpoint::clock_micros()
}

#[cfg(not(feature = "failpoints"))]
fn clock_error() -> i64 {
    0
}

/// Microseconds since 1970 as RFC 3339 in UTC with microseconds.
pub fn rfc3339(unix_micros: i64) -> String {
    let moment = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_micros) * 1000)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        moment.year(),
        u8::from(moment.month()),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second(),
        moment.microsecond()
    )
}

/// A variable of the process environment. Never a secret.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_world_repeats() {
        let (a, b) = (Ambient::test(7), Ambient::test(7));
        assert_eq!(a.uuid(), b.uuid());
        assert_eq!(a.rfc3339(), "2026-01-01T00:00:00.000000Z");
        a.advance(Duration::from_micros(1_500_000));
        assert_eq!(a.rfc3339(), "2026-01-01T00:00:01.500000Z");
    }

    #[test]
    fn backoff_stays_below_its_ceiling() {
        let ambient = Ambient::test(1);
        for attempt in 0..40 {
            let pause = ambient.backoff(Duration::from_millis(500), attempt, Duration::from_secs(30));
            assert!(pause < Duration::from_secs(30));
        }
    }
}
