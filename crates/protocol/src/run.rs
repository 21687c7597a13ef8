//! Runs as the service stores them: what an activity asks for once it is bound, and where runs stand. Deciding what
//! happens next is the service's; nothing here moves.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Fault, GatewayId, job::Job};

/// Where a pipeline run stands, in the words of the public API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PipelineRunStatus {
    /// Accepted.
    Queued,
    /// Activities are under way.
    InProgress,
    /// All that counts succeeded.
    Succeeded,
    /// Something that counts did not.
    Failed,
    /// Somebody cancelled it; activities are being stopped.
    Canceling,
    /// Stopped.
    Cancelled,
}

/// Where an activity run stands, in the words of the public API. `Pending` is ours and is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActivityRunStatus {
    /// Waits for other activities.
    Pending,
    /// Waits for a node.
    Queued,
    /// A node works on it.
    InProgress,
    /// Done and proved.
    Succeeded,
    /// Failed; nothing was changed.
    Failed,
    /// Stopped.
    Cancelled,
    /// Stopped because it took longer than its policy allows.
    TimedOut,
    /// Not started, because what it depends on ended otherwise.
    Skipped,
}

macro_rules! status_text {
    ($name:ident { $($variant:ident $terminal:literal),* $(,)? }) => {
        impl $name {
            /// The word of the public API.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => stringify!($variant)),* }
            }

            /// The status of that word.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $(stringify!($variant) => Some($name::$variant),)* _ => None }
            }

            /// Whether nothing follows it.
            pub fn is_final(self) -> bool {
                match self { $($name::$variant => $terminal),* }
            }
        }
    };
}

status_text!(PipelineRunStatus {
    Queued false, InProgress false, Succeeded true, Failed true, Canceling false, Cancelled true,
});
status_text!(ActivityRunStatus {
    Pending false, Queued false, InProgress false, Succeeded true, Failed true, Cancelled true, TimedOut true,
    Skipped true,
});

/// How an activity must have ended for another to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DependencyCondition {
    /// It succeeded.
    Succeeded,
    /// It failed or timed out.
    Failed,
    /// It succeeded, failed or timed out.
    Completed,
    /// It was skipped.
    Skipped,
}

/// One activity this one waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivityDependency {
    /// Its name.
    pub activity: String,
    /// Any of these ends is enough.
    pub conditions: Vec<DependencyCondition>,
}

/// An activity of one run, bound and ready to be handed out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ActivityDefinition {
    /// Name in the pipeline.
    pub name: String,
    /// Type in the pipeline: `Copy`.
    pub type_name: String,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ActivityDependency>,
    /// Further attempts after a failure.
    pub retry: u32,
    /// Pause before each of them.
    pub retry_interval_seconds: u64,
    /// How long one attempt may take, waiting included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Its input is not shown.
    #[serde(default)]
    pub secure_input: bool,
    /// Its output is not shown.
    #[serde(default)]
    pub secure_output: bool,
    /// Switched off by its author: it does not run and counts as ended so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inactive: Option<ActivityRunStatus>,
    /// Whose queue it goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayId>,
    /// That gateway's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_name: Option<String>,
    /// What to do, where it can be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// Why it cannot be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Fault>,
    /// What the public API shows as its input.
    pub input: Value,
    /// The author's own properties.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub user_properties: Map<String, Value>,
}
