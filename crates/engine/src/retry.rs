//! The one wrapper that retries: for opening and probing stores, and for reading a mark after a doubtful commit.
//! Connectors and drivers never retry by themselves.

use std::future::Future;
use std::time::Duration;

use dmg_ambient::Ambient;
use dmg_connector::Result;
use dmg_protocol::Retry;

/// Tries at most this often.
const ATTEMPTS_MAX: u32 = 4;
/// First pause; doubles, with full jitter.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Runs `work` until it succeeds, fails for good, or the attempts are used up; the last error is returned.
pub(crate) async fn retrying<T, F, Fut>(ambient: &Ambient, what: &str, mut work: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let mut attempt = 0;
    loop {
        let error = match work().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        attempt += 1;
        let worth_it = matches!(error.fault.retry, Retry::Now | Retry::Later) && !error.outcome_unknown;
        if !worth_it || attempt >= ATTEMPTS_MAX {
            return Err(error);
        }
        tracing::info!(what, attempt, fault = %error.fault.code, "trying again");
        ambient.sleep(ambient.backoff(PAUSE, attempt, PAUSE_MAX)).await;
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
