//! Waiting for conditions with a deadline: the one place of the tests that pauses.

use std::time::Duration;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks again and again until there is an answer.
///
/// # Panics
/// When the deadline passes; it says what was waited for.
pub fn until<T>(what: &str, deadline: Duration, ask: impl FnMut() -> Option<T>) -> T {
    until_or(what, deadline, ask, String::new)
}

/// The same; where the deadline passes, `said` adds what is known of the reason.
///
/// # Panics
/// When the deadline passes.
pub fn until_or<T>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> Option<T>,
    said: impl FnOnce() -> String,
) -> T {
    let started = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        if now() - started >= deadline {
            panic!("waited {deadline:?} for {what}; {}", said());
        }
        // Other processes tell nobody when they are ready; between two looks they need the processor.
        std::thread::sleep(PAUSE);
    }
}

/// The clock of the tests.
#[expect(clippy::disallowed_methods, reason = "tests of whole processes live in real time")]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
