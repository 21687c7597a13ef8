//! The one wrapper that retries: for opening and probing stores, for reading a mark after a doubtful commit, and for
//! parts that broke off. Connectors and drivers never retry by themselves.

use std::future::Future;
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_connector::{Error, Result};
use dmg_protocol::Retry;

/// Tries at most this often.
const ATTEMPTS_MAX: u32 = 4;
/// The same for a part: a store that starts anew takes some seconds.
const PART_ATTEMPTS_MAX: u32 = 7;
/// First pause; doubles, with full jitter.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The tries of one thing.
pub(crate) struct Tries {
    what: &'static str,
    made: u32,
    most: u32,
}

impl Tries {
    /// Of a part.
    pub(crate) fn of_part() -> Self {
        Tries { what: "part", made: 0, most: PART_ATTEMPTS_MAX }
    }

    /// Returns when it is time for another try, or the error for which there is none: it will not go away, or enough
    /// was tried.
    pub(crate) async fn again(&mut self, ambient: &Ambient, error: Error) -> Result<()> {
        self.made += 1;
        let worth_it = matches!(error.fault.retry, Retry::Now | Retry::Later) && !error.outcome_unknown;
        if !worth_it || self.made >= self.most {
            return Err(error);
        }
        tracing::info!(what = self.what, attempt = self.made, fault = %error.fault.code, "trying again");
        ambient.sleep(ambient.backoff(PAUSE, self.made, PAUSE_MAX)).await;
        Ok(())
    }
}

/// Runs `work` until it succeeds, fails for good, or the attempts are used up; the last error is returned.
pub(crate) async fn retrying<T, F, Fut>(ambient: &Ambient, what: &'static str, mut work: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let mut tries = Tries { what, made: 0, most: ATTEMPTS_MAX };
    loop {
        match work().await {
            Ok(value) => return Ok(value),
            Err(error) => tries.again(ambient, error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use dmg_protocol::Fault;

    use super::*;

    async fn tries(code: &str, succeed_at: u32) -> (u32, bool) {
        let count = AtomicU32::new(0);
        let result = retrying(&Ambient::test(1), "test", || async {
            let n = count.fetch_add(1, Ordering::SeqCst) + 1;
            if n >= succeed_at { Ok(()) } else { Err(Fault::new(code, "x").into()) }
        })
        .await;
        (count.load(Ordering::SeqCst), result.is_ok())
    }

    #[tokio::test]
    async fn transient_faults_are_retried_and_others_are_not() {
        assert_eq!(tries("NetworkErrorStoreUnreachable", 3).await, (3, true));
        assert_eq!(tries("NetworkErrorStoreUnreachable", 99).await, (ATTEMPTS_MAX, false));
        assert_eq!(tries("UserErrorLoginRefused", 3).await, (1, false));
    }
}
