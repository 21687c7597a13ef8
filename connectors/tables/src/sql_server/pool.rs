//! Sessions of a source that share what they see. A part takes one and gives it back; who asks for one more than
//! there are waits. A session that is lost on the way is never replaced: a new one would see another state.

use std::sync::{Arc, Mutex};

use dmg_connector::{Result, Traffic};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::driver::{Driver, Reading};
use crate::parts::{Active, snapshot_ended};

/// The sessions.
pub(super) struct Pool {
    permits: Arc<Semaphore>,
    sessions: Mutex<Sessions>,
    count: usize,
}

struct Sessions {
    idle: Vec<Box<dyn Driver>>,
    alive: usize,
}

impl Pool {
    /// A pool of these.
    pub(super) fn new(idle: Vec<Box<dyn Driver>>) -> Arc<Self> {
        let alive = idle.len();
        Arc::new(Pool {
            permits: Arc::new(Semaphore::new(alive)),
            sessions: Mutex::new(Sessions { idle, alive }),
            count: alive,
        })
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// A session, and what gives it back.
    pub(super) async fn take(self: &Arc<Self>, traffic: &Arc<Traffic>) -> Result<(Box<dyn Driver>, Lease)> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| snapshot_ended())?;
        let session = self.sessions.lock().expect("no one panics while holding it").idle.pop();
        let session = session.ok_or_else(snapshot_ended)?;
        let lease = Lease { pool: self.clone(), permit: Some(permit), active: Active::new(traffic.clone()) };
        Ok((session, lease))
    }

    /// Ends the sessions that nobody uses now, and with them what they see.
    pub(super) fn end(&self) {
        self.permits.close();
        self.sessions.lock().expect("no one panics while holding it").idle.clear();
    }
}

/// The right to one session. Dropped without it, the session is lost.
pub(super) struct Lease {
    pool: Arc<Pool>,
    permit: Option<OwnedSemaphorePermit>,
    active: Active,
}

impl Reading for Lease {
    fn bytes(&mut self, bytes: u64) {
        self.active.add_bytes(bytes);
    }

    fn done(mut self: Box<Self>, session: Box<dyn Driver>) {
        if session.usable() && !self.pool.permits.is_closed() {
            self.pool.sessions.lock().expect("no one panics while holding it").idle.push(session);
            self.permit = None;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.forget();
            let mut sessions = self.pool.sessions.lock().expect("no one panics while holding it");
            sessions.alive -= 1;
            if sessions.alive == 0 {
                self.pool.permits.close();
            }
        }
    }
}
