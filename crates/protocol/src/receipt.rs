//! The proof a copy ends in: what was read, what arrived, how far it was checked, signed by the node.

use serde::{Deserialize, Serialize};

use crate::{Attempt, CommitShape, Epoch, Kind, Verdict, WriteMode};

/// How far the content is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum VerifyLevel {
    /// Nothing is checked beyond what stores say.
    None,
    /// Rows are counted on both sides.
    Counts,
    /// What was staged is read back, or decoded again, and compared by digest before the commit.
    #[default]
    Transferred,
    /// As `transferred`, and the target is read once more after the commit.
    Full,
}

/// The digest of one column: how it was hashed and the sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnDigest {
    /// Name of the column in the sink.
    pub name: String,
    /// Kind it was hashed in.
    pub kind: Kind,
    /// 32 hex digits; under a service the HMAC of the sum.
    pub sum: String,
}

/// An order-free digest of rows. See `docs/digest.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// `dmg-xxh3-128/1`, or the same with `+hmac-sha256` when the sums are keyed.
    pub algorithm: String,
    /// Rows digested.
    pub rows: u64,
    /// One sum per column, in target order.
    pub columns: Vec<ColumnDigest>,
    /// The sum over whole rows; finds values swapped between rows.
    pub row_sum: String,
}

/// What one side of the copy reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct SideReport {
    /// Rows.
    pub rows: u64,
    /// Bytes on the wire or in the file, as the store counts them.
    pub bytes: u64,
    /// Files or blobs, 0 for tables.
    pub files: u64,
    /// Most connections or streams open at once.
    pub peak_connections: u32,
    /// The digest, absent where the verify level asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Seconds one stage took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageTime {
    /// `plan`, `move`, `verify`, `commit`, `confirm`.
    pub stage: String,
    /// Wall seconds.
    pub seconds: f64,
}

/// Who took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptParties {
    /// Factory name, absent for `dmg copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factory: Option<String>,
    /// Gateway name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Node name, or the machine's name for `dmg copy`.
    pub node: String,
    /// Pipeline and activity, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The activity's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<String>,
    /// The pipeline run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline_run: Option<String>,
}

/// One column in the receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiptColumn {
    /// Name in the source.
    pub source: String,
    /// Name in the sink.
    pub sink: String,
    /// Kind carried.
    pub kind: Kind,
    /// The source's own type.
    pub source_type: String,
    /// The sink's own type.
    pub sink_type: String,
    /// What was promised and kept.
    pub verdict: Verdict,
}

/// Which side held the copy back, in seconds of waiting and working summed over lanes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Bottleneck {
    /// Seconds lanes spent in reading and decoding the source.
    pub read_seconds: f64,
    /// Seconds lanes spent in digesting and converting.
    pub convert_seconds: f64,
    /// Seconds lanes spent in encoding and handing over to the sink.
    pub write_seconds: f64,
    /// Share of the move during which at least two source connections were active.
    pub parallel_share: f64,
    /// What held the copy back: `read`, `decode`, `convert`, `encode`, `write`, `commit`; empty where unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verdict: String,
    /// Which side that is: `source`, `gateway`, `sink`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub side: String,
}

/// Rows that were left out, by the author's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Skipped {
    /// Rows: read = written + skipped.
    pub rows: u64,
    /// Where they were written to, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
    /// Row sum over what was written there, 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Rows by fault code.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub by_code: std::collections::BTreeMap<String, u64>,
}

/// Parts that an earlier attempt had staged and this one kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resumed {
    /// The attempt whose staging it was.
    pub epoch: Epoch,
    /// Parts kept.
    pub parts: u32,
    /// Their rows: this attempt read them not, and counts them all the same.
    pub rows: u64,
}

/// Parts of this attempt that broke off on the way and were read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Repeated {
    /// Times a part was begun anew.
    pub parts: u32,
    /// Rows that had been read by then, and count once.
    pub rows: u64,
    /// Why, by fault code.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub by_code: std::collections::BTreeMap<String, u64>,
}

/// The receipt. What is signed is its JSON text exactly as stored; see [`Signed`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Version of this document.
    pub version: u32,
    /// Who writes.
    pub attempt: Attempt,
    /// Factory, gateway, node, pipeline.
    pub parties: ReceiptParties,
    /// The program's version.
    pub program: String,
    /// Source, for people.
    pub source: String,
    /// Target, for people.
    pub target: String,
    /// Start, RFC 3339 UTC.
    pub started: String,
    /// End, RFC 3339 UTC.
    pub ended: String,
    /// Columns in target order.
    pub columns: Vec<ReceiptColumn>,
    /// What was read.
    pub read: SideReport,
    /// What arrived.
    pub written: SideReport,
    /// How far it was proved.
    pub verify: VerifyLevel,
    /// Where the proof of what arrived comes from: `stagedReadBack`, `encodedDecode`, `readBack`, `rowCount`, `none`.
    pub evidence: String,
    /// Append or overwrite.
    pub mode: WriteMode,
    /// How the commit happened.
    pub shape: CommitShape,
    /// What the sink remembers of this run: an ETag, a mark row, a file stamp.
    pub mark: String,
    /// Whether this attempt found the commit already done by an earlier one.
    #[serde(default)]
    pub found_committed: bool,
    /// Why an earlier attempt's work was thrown away, where that happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<String>,
    /// What an earlier attempt had staged and this one kept, where that happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Resumed>,
    /// What had to be done again within this attempt, where that happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Repeated>,
    /// Times by stage.
    pub stages: Vec<StageTime>,
    /// Who waited for whom.
    pub bottleneck: Bottleneck,
    /// Rows left out, where the author allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
    /// Remarks a person should see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// One signature over the bytes of a payload text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signature {
    /// `ed25519`.
    pub algorithm: String,
    /// The signer's public key, base64url without padding.
    pub public_key: String,
    /// The signature, base64url without padding.
    pub value: String,
}

/// A document together with who signed it. The signature is over `payload` byte for byte, so no canonical JSON is
/// needed to check it. `dmg-seal` signs and opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signed {
    /// What is signed: `dmg-receipt/1`, `dmg-node-record/1`, `dmg-job/1`, ... It is part of the signed bytes.
    pub kind: String,
    /// JSON text of the document.
    pub payload: String,
    /// The signer.
    pub signature: Signature,
    /// Who vouches for the signer: a receipt carries the node record, itself signed by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<Box<Signed>>,
}

/// The service's statement that a node key belongs to a node of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRecord {
    /// Factory name and id.
    pub factory: String,
    /// The factory's id; it is the namespace of marks.
    pub factory_id: crate::FactoryId,
    /// Gateway name.
    pub gateway: String,
    /// Gateway id.
    pub gateway_id: crate::GatewayId,
    /// Node id.
    pub node_id: crate::NodeId,
    /// Node name.
    pub node: String,
    /// The node's Ed25519 public key, base64url without padding.
    pub public_key: String,
    /// RFC 3339 UTC.
    pub registered: String,
}
