//! Waiting for conditions with a deadline.

use std::time::Duration;

/// Asks again and again until there is an answer.
///
/// # Panics
/// When the deadline passes; it says what was waited for.
pub fn until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(now() - started < deadline, "waited {deadline:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The clock of the tests.
#[expect(clippy::disallowed_methods, reason = "tests of whole processes live in real time")]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
