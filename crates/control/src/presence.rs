//! Who is there: what nodes last said about themselves, and what follows for node and gateway. The statuses are the
//! original's, computed by pure functions, each row of its tables tested.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmg_protocol::NodeId;
use dmg_protocol::channel::NodeStatus;

/// Silence after which a node counts as offline.
const SILENCE: Duration = Duration::from_secs(10);

/// Status of a node on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeState {
    Online,
    Limited,
    Offline,
}

impl NodeState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            NodeState::Online => "Online",
            NodeState::Limited => "Limited",
            NodeState::Offline => "Offline",
        }
    }
}

/// Status of a gateway on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatewayState {
    NeedRegistration,
    Online,
    Limited,
    Offline,
}

impl GatewayState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            GatewayState::NeedRegistration => "NeedRegistration",
            GatewayState::Online => "Online",
            GatewayState::Limited => "Limited",
            GatewayState::Offline => "Offline",
        }
    }
}

/// The state of a gateway from those of its nodes.
pub(crate) fn gateway_state(nodes: &[NodeState]) -> GatewayState {
    if nodes.is_empty() {
        GatewayState::NeedRegistration
    } else if nodes.iter().all(|node| *node == NodeState::Online) {
        GatewayState::Online
    } else if nodes.iter().all(|node| *node == NodeState::Offline) {
        GatewayState::Offline
    } else {
        GatewayState::Limited
    }
}

/// The state of a node: connected and able to open credentials, connected only, or silent.
pub(crate) fn node_state(connected: bool, opens_credentials: bool) -> NodeState {
    match (connected, opens_credentials) {
        (true, true) => NodeState::Online,
        (true, false) => NodeState::Limited,
        (false, _) => NodeState::Offline,
    }
}

/// What is known of one node since the service started.
#[derive(Debug, Clone, Default)]
struct Seen {
    polls: u32,
    last: Duration,
    last_noted: Option<Duration>,
    status: Option<NodeStatus>,
}

/// What all nodes last said.
#[derive(Default)]
pub(crate) struct Presence(Mutex<HashMap<NodeId, Seen>>);

/// A poll that is being held; dropped with its connection.
pub(crate) struct HeldPoll<'a>(&'a Presence, NodeId);

impl Drop for HeldPoll<'_> {
    fn drop(&mut self) {
        if let Some(seen) = self.0.lock().get_mut(&self.1) {
            seen.polls = seen.polls.saturating_sub(1);
        }
    }
}

impl Presence {
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a node was heard of.
    pub(crate) fn touch(&self, node: &NodeId, now: Duration) {
        self.lock().entry(node.clone()).or_default().last = now;
    }

    /// Notes what a node says of itself. Answers whether it is time to write that down.
    pub(crate) fn note(&self, node: &NodeId, status: &NodeStatus, now: Duration, every: Duration) -> bool {
        let mut all = self.lock();
        let seen = all.entry(node.clone()).or_default();
        seen.last = now;
        seen.status = Some(status.clone());
        let due = seen.last_noted.is_none_or(|noted| now >= noted + every);
        if due {
            seen.last_noted = Some(now);
        }
        due
    }

    /// Counts a held poll until the answer is dropped.
    pub(crate) fn hold(&self, node: &NodeId) -> HeldPoll<'_> {
        self.lock().entry(node.clone()).or_default().polls += 1;
        HeldPoll(self, node.clone())
    }

    /// Whether a node was heard of lately, and what it said.
    pub(crate) fn of(&self, node: &NodeId, now: Duration) -> (bool, Option<NodeStatus>) {
        let all = self.lock();
        let Some(seen) = all.get(node) else { return (false, None) };
        (seen.polls > 0 || now.saturating_sub(seen.last) < SILENCE, seen.status.clone())
    }

    /// Forgets a node that was cut off.
    pub(crate) fn forget(&self, node: &NodeId) {
        self.lock().remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_states() {
        use NodeState::{Limited, Offline, Online};
        for (nodes, expect) in [
            (&[][..], GatewayState::NeedRegistration),
            (&[Online], GatewayState::Online),
            (&[Online, Online], GatewayState::Online),
            (&[Offline], GatewayState::Offline),
            (&[Offline, Offline], GatewayState::Offline),
            (&[Online, Offline], GatewayState::Limited),
            (&[Limited], GatewayState::Limited),
            (&[Limited, Offline], GatewayState::Limited),
            (&[Online, Limited], GatewayState::Limited),
        ] {
            assert_eq!(gateway_state(nodes), expect, "{nodes:?}");
        }
    }

    #[test]
    fn node_states() {
        for (connected, opens, expect) in [
            (true, true, NodeState::Online),
            (true, false, NodeState::Limited),
            (false, true, NodeState::Offline),
            (false, false, NodeState::Offline),
        ] {
            assert_eq!(node_state(connected, opens), expect);
        }
    }

    #[test]
    fn a_held_poll_is_presence_and_silence_is_not() {
        let presence = Presence::default();
        let node = NodeId::new("n");
        assert!(presence.note(&node, &NodeStatus::default(), Duration::from_secs(1), Duration::from_secs(60)));
        assert!(!presence.note(&node, &NodeStatus::default(), Duration::from_secs(2), Duration::from_secs(60)));
        assert!(presence.of(&node, Duration::from_secs(11)).0);
        assert!(!presence.of(&node, Duration::from_secs(13)).0);
        let held = presence.hold(&node);
        assert!(presence.of(&node, Duration::from_secs(100)).0);
        drop(held);
        assert!(!presence.of(&node, Duration::from_secs(100)).0);
    }
}
