//! What node and service say to each other. A node only ever asks; the service answers. Paths are below
//! [`BASE`]; every request after [`Session`] is signed, see `docs/channel.md`.

use serde::{Deserialize, Serialize};

use crate::job::{Job, Listing, ProcedureOutcome};
use crate::worker::Progress;
use crate::{Attempt, CommandId, Epoch, FactoryId, Fault, GatewayId, JobId, NodeId, Plan, SessionId, Signed};

/// Root of all channel paths.
pub const BASE: &str = "/dmg/node/v1";
/// `POST {BASE}/hello`: who are you, unsigned.
pub const HELLO: &str = "/dmg/node/v1/hello";
/// `POST {BASE}/enroll`: buy a node identity with a key, proved by HMAC.
pub const ENROLL: &str = "/dmg/node/v1/enroll";
/// `POST {BASE}/session`: open a session with the node key.
pub const SESSION: &str = "/dmg/node/v1/session";
/// `POST {BASE}/poll`: long poll for hints.
pub const POLL: &str = "/dmg/node/v1/poll";
/// `POST {BASE}/jobs/take`: take a job under a lease.
pub const TAKE: &str = "/dmg/node/v1/jobs/take";
/// `POST {BASE}/jobs/renew`: keep a lease, report progress.
pub const RENEW: &str = "/dmg/node/v1/jobs/renew";
/// `POST {BASE}/jobs/plan`: store the plan before the first byte moves.
pub const PLAN: &str = "/dmg/node/v1/jobs/plan";
/// `POST {BASE}/jobs/finish`: report the outcome.
pub const FINISH: &str = "/dmg/node/v1/jobs/finish";
/// `POST {BASE}/certificate`: publish the gateway certificate.
pub const CERTIFICATE: &str = "/dmg/node/v1/certificate";

/// Header carrying the session id.
pub const HEADER_SESSION: &str = "x-dmg-session";
/// Header carrying the request number: strictly growing, a sliding window refuses replays.
pub const HEADER_NONCE: &str = "x-dmg-nonce";
/// Header carrying the signature, base64url.
pub const HEADER_SIGNATURE: &str = "x-dmg-signature";

/// Seconds a job lease lasts without renewal.
pub const LEASE_SECONDS: u64 = 15;
/// Seconds a session lasts.
pub const SESSION_SECONDS: u64 = 20 * 60;
/// Seconds a long poll is held at most.
pub const POLL_SECONDS: u64 = 20;
/// How many request numbers back the replay window reaches.
pub const REPLAY_WINDOW: u64 = 1024;

/// Bytes a node signs for one request: method, decoded path with query, SHA-256 of the body in hex, session, nonce,
/// separated by line feeds.
pub fn request_text(method: &str, path_and_query: &str, body_sha256_hex: &str, session: &str, nonce: u64) -> String {
    format!("dmg-request/1\n{method}\n{path_and_query}\n{body_sha256_hex}\n{session}\n{nonce}")
}

/// The first word of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelloRequest {
    /// 32 random bytes, base64url, to be echoed in the signed answer.
    pub nonce: String,
    /// Protocol versions the node speaks.
    pub versions: Vec<u32>,
}

/// The service's answer to hello; the payload of a [`Signed`] of kind `dmg-hello/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The node's nonce.
    pub nonce: String,
    /// 32 random bytes, base64url, good for one enroll or session request within two minutes.
    pub challenge: String,
    /// SHA-256 of the SPKI of TLS keys that are trusted without a CA, base64url.
    pub tls_spki: Vec<String>,
    /// The service's clock, seconds since 1970.
    pub unix_time: i64,
    /// Protocol version chosen.
    pub version: u32,
    /// Program version.
    pub program: String,
}

/// Buys a node identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrollRequest {
    /// From the key text.
    pub gateway_id: GatewayId,
    /// From hello.
    pub challenge: String,
    /// The node's name.
    pub node_name: String,
    /// The machine's name.
    pub machine_name: String,
    /// The node's Ed25519 public key, base64url.
    pub public_key: String,
    /// Program version.
    pub program: String,
    /// HMAC-SHA256(secret of the key, [`enroll_text`]), base64url. The secret itself is never sent.
    pub proof: String,
}

/// Bytes of the enroll proof.
pub fn enroll_text(gateway: &GatewayId, challenge: &str, node_name: &str, public_key: &str) -> String {
    format!("dmg-enroll/1\n{gateway}\n{challenge}\n{node_name}\n{public_key}")
}

/// Answer to enroll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolled {
    /// A [`crate::NodeRecord`] signed by the service, kind `dmg-node-record/1`.
    pub record: Signed,
    /// PEM of the gateway certificate, if some node already published one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// Opens a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionRequest {
    /// Who.
    pub node_id: NodeId,
    /// From hello.
    pub challenge: String,
    /// Ed25519 signature over [`session_text`], base64url.
    pub signature: String,
    /// Program version.
    pub program: String,
}

/// Bytes signed to open a session.
pub fn session_text(node: &NodeId, challenge: &str) -> String {
    format!("dmg-session/1\n{node}\n{challenge}")
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Its id.
    pub session_id: SessionId,
    /// Seconds it lasts.
    pub seconds: u64,
    /// The service's clock, seconds since 1970.
    pub unix_time: i64,
}

/// State of the node, sent with every poll.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Jobs running here.
    pub running: Vec<JobId>,
    /// How many jobs may run at once.
    pub concurrent_jobs_limit: u32,
    /// Upper bound of the limit on this machine.
    pub max_concurrent_jobs: u32,
    /// Free memory.
    pub available_memory_mib: u64,
    /// 0 to 100.
    pub cpu_percent: u32,
    /// Bytes per second sent since the last poll.
    pub sent_bytes: f64,
    /// Bytes per second received since the last poll.
    pub received_bytes: f64,
    /// Whether the node holds the gateway's private key.
    pub holds_certificate: bool,
    /// SHA-256 thumbprint of that certificate, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_thumbprint: Option<String>,
    /// Program version.
    pub program: String,
}

/// A long poll.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PollRequest {
    /// The node's state.
    pub status: NodeStatus,
    /// Seconds to hold the request when there is nothing, at most [`POLL_SECONDS`]; 0 answers at once.
    pub wait_seconds: u64,
}

/// Small hints; losing one costs seconds, never a run. Payload of a [`Signed`] of kind `dmg-hints/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Hints {
    /// There is work to take.
    pub work: bool,
    /// Jobs to stop.
    pub cancel: Vec<JobId>,
    /// The node's limit as set by an operator, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_jobs_limit: Option<u32>,
    /// Echo of the request's nonce, so that an old answer cannot be replayed.
    pub nonce: u64,
}

/// Takes work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TakeRequest {
    /// Repeats get the same grant.
    pub command_id: CommandId,
}

/// What take answers: the payload of a [`Signed`] of kind `dmg-job/1`, or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobGrant {
    /// The queue entry.
    pub job_id: JobId,
    /// Who is to write: factory as namespace, activity run, lease epoch.
    pub attempt: Attempt,
    /// The command this answers.
    pub command_id: CommandId,
    /// For which node.
    pub node_id: NodeId,
    /// Gateway and factory, for opening envelopes.
    pub factory_id: FactoryId,
    /// What to do.
    pub job: Job,
    /// The plan of an earlier epoch, if one was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier_plan: Option<Plan>,
    /// Seconds until the lease ends unless renewed.
    pub lease_seconds: u64,
}

/// Answer to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct TakeAnswer {
    /// A signed [`JobGrant`], or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Signed>,
}

/// Keeps a lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenewRequest {
    /// Which job.
    pub job_id: JobId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// Answer to renew and plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseAnswer {
    /// Whether this epoch holds the lease.
    pub held: bool,
    /// Seconds it now lasts.
    pub lease_seconds: u64,
    /// Whether the run was cancelled.
    pub cancel: bool,
}

/// Stores the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanRequest {
    /// Which job.
    pub job_id: JobId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The plan.
    pub plan: Plan,
}

/// How a job ended on a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Outcome {
    /// A copy, proved. The receipt is signed by the node, kind `dmg-receipt/1`.
    Succeeded {
        /// The receipt.
        receipt: Signed,
    },
    /// A probe, answered.
    Probed {
        /// What was found.
        detail: String,
    },
    /// A stored procedure, called. At least once: an earlier attempt may have called it too.
    Called {
        /// What it gave back.
        returned: ProcedureOutcome,
    },
    /// A look into a store, answered.
    Browsed {
        /// What was found.
        listing: Box<Listing>,
    },
    /// It failed; nothing changed.
    Failed {
        /// Why.
        fault: Fault,
    },
    /// It was cancelled; nothing changed.
    Cancelled,
    /// Given back unfinished: worker died or host stops. Another attempt may be made.
    Released {
        /// Why.
        fault: Fault,
    },
}

/// Reports the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FinishRequest {
    /// Which job.
    pub job_id: JobId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// How it ended.
    pub outcome: Outcome,
    /// Last progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// Answer to finish: accepted, or the epoch is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishAnswer {
    /// Whether the report counts.
    pub accepted: bool,
}

/// Publishes the gateway certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateRequest {
    /// PEM of the certificate, without a key.
    pub certificate: String,
    /// Whether it replaces a different one that other envelopes are sealed to.
    pub replace: bool,
}
