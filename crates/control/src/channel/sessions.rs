//! Challenges and sessions, in memory only: after a start of the service nodes open new ones. A sliding window per
//! session refuses replays.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmg_protocol::channel::{REPLAY_WINDOW, SESSION_SECONDS};
use dmg_protocol::{NodeId, SessionId};

const CHALLENGE_LIFE: Duration = Duration::from_secs(120);
/// Challenges held at once; hello is unsigned, so anybody can ask for one. The oldest go first.
const CHALLENGES_MAX: usize = 4096;
const SESSIONS_MAX: usize = 8192;
const WORDS: usize = (REPLAY_WINDOW / 64) as usize;

/// Open challenges and sessions.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    challenges: HashMap<String, Duration>,
    sessions: HashMap<SessionId, Open>,
}

struct Open {
    owner: Owner,
    until: Duration,
    window: Window,
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) node: NodeId,
    pub(crate) public_key: String,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a challenge.
    pub(crate) fn challenge(&self, text: String, now: Duration) {
        let challenges = &mut self.lock().challenges;
        if challenges.len() >= CHALLENGES_MAX {
            challenges.retain(|_, until| *until > now);
        }
        while challenges.len() >= CHALLENGES_MAX {
            let oldest = challenges.iter().min_by_key(|(_, until)| **until).map(|(text, _)| text.clone());
            let Some(oldest) = oldest else { break };
            challenges.remove(&oldest);
        }
        challenges.insert(text, now + CHALLENGE_LIFE);
    }

    /// Uses a challenge up; false where it is unknown, used or over.
    pub(crate) fn redeem(&self, text: &str, now: Duration) -> bool {
        self.lock().challenges.remove(text).is_some_and(|until| until > now)
    }

    /// Opens a session.
    pub(crate) fn open(&self, id: SessionId, owner: Owner, now: Duration) {
        let sessions = &mut self.lock().sessions;
        if sessions.len() >= SESSIONS_MAX {
            sessions.retain(|_, open| open.until > now);
        }
        let until = now + Duration::from_secs(SESSION_SECONDS);
        sessions.insert(id, Open { owner, until, window: Window::default() });
    }

    /// Whose session it is, while it lasts.
    pub(crate) fn owner(&self, id: &SessionId, now: Duration) -> Option<Owner> {
        self.lock().sessions.get(id).filter(|open| open.until > now).map(|open| open.owner.clone())
    }

    /// Uses a request number up; false where it was used before or is too old.
    pub(crate) fn accept(&self, id: &SessionId, nonce: u64) -> bool {
        self.lock().sessions.get_mut(id).is_some_and(|open| open.window.accept(nonce))
    }

    /// Ends a session.
    pub(crate) fn end(&self, id: &SessionId) {
        self.lock().sessions.remove(id);
    }

    /// Drops what is over.
    pub(crate) fn sweep(&self, now: Duration) {
        let mut inner = self.lock();
        inner.challenges.retain(|_, until| *until > now);
        inner.sessions.retain(|_, open| open.until > now);
    }
}

/// Which of the last numbers were used.
#[derive(Default)]
struct Window {
    highest: u64,
    used: [u64; WORDS],
}

impl Window {
    fn accept(&mut self, nonce: u64) -> bool {
        if nonce == 0 || nonce + REPLAY_WINDOW <= self.highest {
            return false;
        }
        if nonce > self.highest {
            let steps = (nonce - self.highest).min(REPLAY_WINDOW);
            for step in 0..steps {
                self.clear(nonce - step);
            }
            self.highest = nonce;
        }
        let (word, bit) = Self::place(nonce);
        let fresh = self.used[word] & bit == 0;
        self.used[word] |= bit;
        fresh
    }

    fn clear(&mut self, nonce: u64) {
        let (word, bit) = Self::place(nonce);
        self.used[word] &= !bit;
    }

    fn place(nonce: u64) -> (usize, u64) {
        let place = nonce % REPLAY_WINDOW;
        ((place / 64) as usize, 1 << (place % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let mut window = Window::default();
        for (nonce, expect) in [
            (0, false),
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (1000, true),
            (3, false),
            (4, true),
            (1030, true),
            (6, false),
            (7, true),
            (100_000, true),
            (1030, false),
            (99_999, true),
            (99_999, false),
            (98_976, false),
            (98_977, true),
        ] {
            assert_eq!(window.accept(nonce), expect, "{nonce}");
        }
    }

    #[test]
    fn a_challenge_is_good_once_and_for_two_minutes() {
        let sessions = Sessions::default();
        sessions.challenge("c".into(), Duration::ZERO);
        assert!(sessions.redeem("c", Duration::from_secs(119)));
        assert!(!sessions.redeem("c", Duration::from_secs(119)));
        sessions.challenge("d".into(), Duration::ZERO);
        assert!(!sessions.redeem("d", Duration::from_secs(120)));
        for index in 0..CHALLENGES_MAX + 10 {
            sessions.challenge(index.to_string(), Duration::from_secs(index as u64 / 100));
        }
        assert_eq!(sessions.lock().challenges.len(), CHALLENGES_MAX);
    }
}
