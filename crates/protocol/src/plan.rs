//! What a copy is going to do, fixed and stored before the first byte moves.

use serde::{Deserialize, Serialize};

use crate::{Attempt, Kind, Verdict, VerifyLevel};

/// What happens to what is already in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum WriteMode {
    /// New rows join the old ones. A file cannot be appended to: a file target must not exist.
    #[default]
    Append,
    /// The new content replaces the old in one step.
    Overwrite,
    /// Rows whose key exists are replaced, the others are added, in one step.
    Upsert,
    /// The rows of one slice are replaced in one step; what belongs to other slices stays.
    Slice,
    /// Rows are handed to a stored procedure of the target.
    Procedure,
}

/// How the new content becomes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommitShape {
    /// Rows and mark in one transaction of the target.
    Direct,
    /// A new table takes the target's name in one transaction.
    Swap,
    /// A staging table, then delete and insert in one transaction.
    Staged,
    /// A temporary file in the target's folder, renamed.
    Rename,
    /// Uncommitted blocks, then one conditional block list.
    BlockList,
    /// Rows are handed to a stored procedure in one transaction with the mark.
    Procedure,
}

/// One column: where it comes from, what it carries, where it goes, and what is promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnPlan {
    /// Name in the source.
    pub source: String,
    /// Name in the sink.
    pub sink: String,
    /// The kind both sides hash in.
    pub kind: Kind,
    /// The source's own type name.
    pub source_type: String,
    /// The sink's own type name.
    pub sink_type: String,
    /// Whether it belongs to the source's primary key; a table that is created gets it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub key: bool,
    /// Whether the source says that NULL never occurs; a table that is created says so too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What is promised.
    pub verdict: Verdict,
    /// Why, where the verdict is not exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One piece of the source, read by one task in one go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartPlan {
    /// Position in the source's order, from 0.
    pub index: u32,
    /// What the part is, for people: `ctid (0,0)..(512,0)`, a file name, a row group.
    pub label: String,
    /// The connector's own description of the part.
    pub spec: serde_json::Value,
}

/// The whole plan of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Version of this document.
    pub version: u32,
    /// Who writes.
    pub attempt: Attempt,
    /// The source, for people, without secrets.
    pub source: String,
    /// The target, for people, without secrets.
    pub target: String,
    /// Columns in target order.
    pub columns: Vec<ColumnPlan>,
    /// Parts in source order.
    pub parts: Vec<PartPlan>,
    /// Parts read at the same time.
    pub lanes: u32,
    /// Append or overwrite.
    pub mode: WriteMode,
    /// How the commit happens.
    pub shape: CommitShape,
    /// The target's state the commit depends on: an ETag, `absent`, a file stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// How much is proved.
    pub verify: VerifyLevel,
    /// Remarks a person should see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}
