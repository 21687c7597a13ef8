//! The memory that the lanes of a copy share for what is large. Whoever is about to hold a large value takes room for
//! it first, and waits while others have it: large values take turns, and ordinary batches ask nobody. It counts bytes
//! and knows nothing of what is in them.
//!
//! Nobody waits for ever: one lane is the first and never waits, and all the others together get no more than what it
//! leaves over. So it comes to its end, and another is the first. Where parts are written in their order, the first is
//! who has the part that was begun first, as the others may wait for its end; elsewhere it is who asked first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::BatchLimits;

/// The longest value may be this part of the budget, and so much is what the first part leaves over: a value is held
/// three times at most, as it comes, as it is in a batch and as it goes.
const SHARES: usize = 4;
/// How often a value is held at most while it goes through a lane.
const TIMES: usize = 3;

/// The turn of a lane that is not in the queue.
const NOWHERE: usize = usize::MAX;

tokio::task_local! {
    static SEAT: Seat;
}

/// What all lanes share.
#[derive(Debug)]
pub struct Budget {
    bytes: usize,
    /// As much is ordinary: nobody asks for it.
    ordinary: usize,
    /// Whether parts are written in the order they were begun in.
    ordered: bool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    begun: usize,
    turns: usize,
    parts: BTreeMap<usize, Part>,
}

/// A part under way.
#[derive(Debug, Default)]
struct Part {
    held: usize,
    settled: bool,
}

impl State {
    /// Whether a part may have so much more.
    fn admits(&self, turn: usize, more: usize, budget: usize) -> bool {
        let Some((first, part)) = self.parts.first_key_value() else { return true };
        if *first >= turn {
            return true;
        }
        let all = self.parts.values().map(|part| part.held).sum::<usize>().saturating_add(more);
        let before = self.parts.range(..turn);
        // Who still may ask for more must get it, even while all the others wait for him.
        if before.into_iter().all(|(_, part)| part.settled) {
            all <= budget
        } else {
            all - part.held <= budget / SHARES
        }
    }
}

impl Budget {
    /// The budget that those limits are cut from, of lanes that need not wait for one another.
    pub fn of(limits: &BatchLimits) -> Arc<Self> {
        Self::new(limits, false)
    }

    /// The same, of lanes whose parts are written in the order they were begun in.
    pub fn ordered(limits: &BatchLimits) -> Arc<Self> {
        Self::new(limits, true)
    }

    fn new(limits: &BatchLimits, ordered: bool) -> Arc<Self> {
        Arc::new(Budget {
            bytes: limits.value_bytes.saturating_mul(SHARES),
            ordinary: limits.bytes,
            ordered,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A lane's seat.
    pub fn seat(self: &Arc<Self>) -> Seat {
        Seat(Arc::new(Lane { budget: self.clone(), turn: AtomicUsize::new(NOWHERE) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one entry: a panic of another holder leaves the map whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane's place in the budget. What runs in its scope takes room from there.
#[derive(Debug, Clone)]
pub struct Seat(Arc<Lane>);

#[derive(Debug)]
struct Lane {
    budget: Arc<Budget>,
    turn: AtomicUsize,
}

impl Seat {
    /// Runs a lane's work.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        SEAT.scope(self, work).await
    }

    /// Ends the lane's part and begins another, behind all that were begun before. Gives its number, from 0.
    pub fn turn(&self) -> usize {
        let mut state = self.0.budget.state();
        let part = state.begun;
        state.begun += 1;
        self.0.leave(&mut state);
        if self.0.budget.ordered {
            self.0.queue(&mut state);
        }
        drop(state);
        self.0.budget.changed.notify_waiters();
        part
    }

    /// Promises, in whatever lane this is called, that its part takes no more room than it has by now.
    pub fn settle() {
        let _ = SEAT.try_with(|Seat(lane)| {
            if let Some(part) = lane.budget.state().parts.get_mut(&lane.turn.load(Ordering::SeqCst)) {
                part.settled = true;
            }
            lane.budget.changed.notify_waiters();
        });
    }
}

impl Lane {
    /// Its turn, which begins now if it has none.
    fn queue(&self, state: &mut State) -> usize {
        let turn = self.turn.load(Ordering::SeqCst);
        if turn != NOWHERE {
            return turn;
        }
        let turn = state.turns;
        state.turns += 1;
        state.parts.insert(turn, Part::default());
        self.turn.store(turn, Ordering::SeqCst);
        turn
    }

    fn leave(&self, state: &mut State) {
        state.parts.remove(&self.turn.swap(NOWHERE, Ordering::SeqCst));
    }

    /// Takes so much more, if the lane may have it.
    fn take(&self, more: usize) -> bool {
        let mut state = self.budget.state();
        let turn = self.queue(&mut state);
        let admitted = state.admits(turn, more, self.budget.bytes);
        if admitted && let Some(part) = state.parts.get_mut(&turn) {
            part.held += more;
            part.settled = false;
        }
        admitted
    }

    fn give_back(&self, held: usize) {
        let mut state = self.budget.state();
        if let Some(part) = state.parts.get_mut(&self.turn.load(Ordering::SeqCst)) {
            part.held = part.held.saturating_sub(held);
            if part.held == 0 && !self.budget.ordered {
                self.leave(&mut state);
            }
        }
        drop(state);
        self.budget.changed.notify_waiters();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.leave(&mut self.budget.state());
        self.budget.changed.notify_waiters();
    }
}

/// Room that a reader has taken in its lane's name; given back when it is dropped.
#[derive(Debug, Default)]
pub struct Room {
    lane: Option<Arc<Lane>>,
    held: usize,
    /// Whether the lane is in the queue for it, with or without success.
    asked: bool,
}

impl Room {
    /// No room yet, in the lane this is called in. Outside of one there is room without end.
    pub fn here() -> Self {
        Room { lane: SEAT.try_with(|Seat(lane)| lane.clone()).ok(), held: 0, asked: false }
    }

    /// Waits until there is room for bytes that will come, be in a batch, and go.
    pub async fn pass(&mut self, bytes: usize) {
        if self.is_large(bytes) {
            self.take(bytes.saturating_mul(TIMES)).await;
        }
    }

    /// Whether so much is more than ordinary.
    pub fn is_large(&self, bytes: usize) -> bool {
        self.lane.as_ref().is_some_and(|lane| bytes > lane.budget.ordinary)
    }

    /// Whether it has taken any.
    pub fn is_taken(&self) -> bool {
        self.held > 0
    }

    /// Waits until there is room for so many bytes, those it has included.
    pub async fn take(&mut self, bytes: usize) {
        let Some(lane) = &self.lane else { return };
        if bytes <= self.held.max(lane.budget.ordinary) {
            return;
        }
        let more = bytes - self.held;
        self.asked = true;
        loop {
            let mut changed = std::pin::pin!(lane.budget.changed.notified());
            changed.as_mut().enable();
            if lane.take(more) {
                self.held = bytes;
                return;
            }
            changed.await;
        }
    }

    /// Gives all of it back.
    pub fn give_back(&mut self) {
        if std::mem::take(&mut self.asked)
            && let Some(lane) = &self.lane
        {
            lane.give_back(std::mem::take(&mut self.held));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const MIB: usize = 1 << 20;

    const LIMITS: BatchLimits = BatchLimits { rows: 1, bytes: 8 * MIB, value_bytes: 64 * MIB };

    /// A lane with a part begun, and its room.
    async fn lane(budget: &Arc<Budget>) -> (Seat, Room) {
        let seat = budget.seat();
        seat.turn();
        let room = seat.clone().scope(async { Room::here() }).await;
        (seat, room)
    }

    #[tokio::test]
    async fn the_first_never_waits_and_the_others_share_what_it_leaves_over() {
        let budget = Budget::ordered(&LIMITS);
        let (first, mut one) = lane(&budget).await;
        let (_second, mut two) = lane(&budget).await;
        let (_third, mut three) = lane(&budget).await;
        assert!(two.pass(20 * MIB).now_or_never().is_some(), "60 of the 64 that are left over");
        assert!(three.pass(9 * MIB).now_or_never().is_none(), "27 more are too many");
        assert!(three.pass(8 * MIB).now_or_never().is_some(), "what is ordinary needs no room");
        assert!(one.pass(64 * MIB).now_or_never().is_some());
        two.give_back();
        assert!(three.pass(9 * MIB).now_or_never().is_some());
        assert!(two.pass(64 * MIB).now_or_never().is_none());
        drop(one);
        first.turn();
        assert!(two.pass(64 * MIB).now_or_never().is_some(), "now it is the first");
    }

    #[tokio::test]
    async fn who_is_settled_leaves_all_that_he_has_not() {
        let budget = Budget::ordered(&LIMITS);
        let (first, mut one) = lane(&budget).await;
        let (second, mut two) = lane(&budget).await;
        let (_third, mut three) = lane(&budget).await;
        one.take(56 * MIB).await;
        assert!(two.take(100 * MIB).now_or_never().is_none());
        first.scope(async { Seat::settle() }).await;
        assert!(two.take(100 * MIB).now_or_never().is_some());
        assert!(three.take(100 * MIB).now_or_never().is_none(), "the second may still ask for more");
        second.scope(async { Seat::settle() }).await;
        assert!(three.take(100 * MIB).now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let budget = Budget::ordered(&LIMITS);
        let (first, mut one) = lane(&budget).await;
        let (_second, mut two) = lane(&budget).await;
        one.pass(64 * MIB).await;
        let mut waiting = std::pin::pin!(two.pass(64 * MIB));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop((one, first));
        waiting.await;
    }

    #[tokio::test]
    async fn without_order_who_asked_first_is_the_first() {
        let budget = Budget::of(&LIMITS);
        let (_first, mut one) = lane(&budget).await;
        let (_second, mut two) = lane(&budget).await;
        let (_third, mut three) = lane(&budget).await;
        assert!(two.pass(64 * MIB).now_or_never().is_some(), "the first part may never ask for any");
        assert!(one.pass(64 * MIB).now_or_never().is_none());
        assert!(three.pass(20 * MIB).now_or_never().is_some());
        two.give_back();
        assert!(two.pass(64 * MIB).now_or_never().is_none(), "it has had its turn");
        assert!(one.pass(64 * MIB).now_or_never().is_some());
        one.give_back();
        assert!(three.take(192 * MIB).now_or_never().is_some(), "now it is the first");
        drop(three);
        assert!(two.pass(64 * MIB).now_or_never().is_some());
    }

    #[tokio::test]
    async fn outside_of_a_lane_there_is_room() {
        let mut room = Room::here();
        assert!(!room.is_large(usize::MAX) && room.take(usize::MAX).now_or_never().is_some());
    }
}
