//! Identifiers, each its own type, so that a run can never be passed where a job is meant.

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                $name(text.into())
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(text)
            }
        }
    )*};
}

ids! {
    /// A gateway (integration runtime), stable over its whole life; lower-case UUID.
    GatewayId,
    /// A factory's own id; lower-case UUID.
    FactoryId,
    /// One machine of a gateway.
    NodeId,
    /// One session of a node with the service.
    SessionId,
    /// One run of a pipeline.
    PipelineRunId,
    /// One run of an activity; stable over all its attempts. It names the copy in marks and receipts.
    RunId,
    /// One entry of a gateway's queue.
    JobId,
    /// Chosen by the sender of a command; a repeated command with the same id gets the first answer.
    CommandId,
}

/// Fencing number of a job lease. A higher epoch always wins over a lower one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Who writes: part of every mark, staging name and block id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The writer's namespace: the factory id, or `dmg-copy` for copies without a service.
    pub namespace: String,
    /// The run, stable over attempts.
    pub run: RunId,
    /// The lease's fencing number.
    pub epoch: Epoch,
}

impl Attempt {
    /// A short name that is safe in file names, table names and block ids: 12 hex digits of the run and the epoch.
    pub fn short(&self) -> String {
        let hex: String = self.run.as_str().chars().filter(char::is_ascii_hexdigit).take(12).collect();
        format!("{hex:0>12}_{}", self.epoch)
    }

    /// The application name of database sessions: `dmg/<run>/<epoch>`.
    pub fn session_name(&self) -> String {
        format!("dmg/{}/{}", self.run, self.epoch)
    }
}
