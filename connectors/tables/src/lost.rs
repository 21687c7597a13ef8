//! Sessions that broke off in the middle of a part: what each did last is not known until it is ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Numbers of such sessions, as the server knows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost(Arc<Mutex<Vec<i64>>>);

impl Lost {
    fn lock(&self) -> MutexGuard<'_, Vec<i64>> {
        // Every change is one push or one removal, so a panic of another holder leaves the list whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that a part takes in hand.
    pub(crate) fn in_hand(&self, session: impl Into<i64>) -> InHand {
        InHand { session: session.into(), lost: self.clone(), returned: false }
    }

    /// One that is still to be ended.
    pub(crate) fn last(&self) -> Option<i64> {
        self.lock().last().copied()
    }

    /// It is ended for sure.
    pub(crate) fn ended(&self, session: i64) {
        self.lock().retain(|lost| *lost != session);
    }
}

/// A session in the hand of a part. It is lost unless it is given back.
#[derive(Debug)]
pub(crate) struct InHand {
    session: i64,
    lost: Lost,
    returned: bool,
}

impl InHand {
    /// The part is done, and its session is as good as before.
    pub(crate) fn give_back(&mut self) {
        self.returned = true;
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if !self.returned {
            self.lost.lock().push(self.session);
        }
    }
}
