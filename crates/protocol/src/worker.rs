//! What host and worker say to each other over the inherited pipes: one JSON document a line.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{
    Attempt, Fault, Plan, Receipt,
    job::{Job, Listing, ProcedureOutcome},
};

/// Longest line either side accepts, in bytes.
pub const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Fact of a fault: what is known about the commit.
pub const OUTCOME: &str = "outcome";
/// Value of [`OUTCOME`]: the commit was sent, and even the mark could not be read afterwards.
pub const OUTCOME_UNKNOWN: &str = "unknown";

/// Host to worker.
#[derive(Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "camelCase")]
pub enum ToWorker {
    /// The job, once, first.
    Start(Box<Start>),
    /// Answer to [`FromWorker::MayCommit`]: the lease is held, or not.
    CommitAnswer {
        /// Whether the lease is held for long enough to commit.
        granted: bool,
    },
    /// Stop before the commit.
    Cancel,
}

/// Everything a worker needs.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The job without envelopes.
    pub job: Job,
    /// Who writes.
    pub attempt: Attempt,
    /// Opened secrets of the source (or of the probed store).
    pub source_secrets: PipeSecrets,
    /// Opened secrets of the sink.
    pub sink_secrets: PipeSecrets,
    /// Opened secrets of the store that rows left out go to.
    #[serde(default)]
    pub redirect_secrets: PipeSecrets,
    /// Key for keyed digests, base64url; absent: the published seed.
    pub digest_key: Option<PipeSecret>,
    /// The stored plan of an earlier attempt of the same epoch, if any.
    #[serde(default)]
    pub plan: Option<Plan>,
}

/// One plaintext on its way through the pipe. The only secret type that serialises; wiped on drop, never printed.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct PipeSecret(String);

impl PipeSecret {
    /// Takes a copy of a secret for the pipe.
    pub fn new(secret: &crate::Secret<String>) -> Self {
        PipeSecret(secret.expose().clone())
    }

    /// Back into custody.
    pub fn into_secret(mut self) -> crate::Secret<String> {
        crate::Secret::new(std::mem::take(&mut self.0))
    }
}

impl Drop for PipeSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The secrets of one store on their way through the pipe.
#[derive(Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct PipeSecrets(std::collections::BTreeMap<String, PipeSecret>);

impl PipeSecrets {
    /// Takes copies for the pipe.
    pub fn new(secrets: &crate::Secrets) -> Self {
        PipeSecrets(secrets.iter().map(|(name, secret)| (name.to_owned(), PipeSecret::new(secret))).collect())
    }

    /// Back into custody.
    pub fn into_secrets(self) -> crate::Secrets {
        self.0.into_iter().map(|(name, secret)| (name, secret.into_secret())).collect()
    }
}

/// Worker to host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "camelCase")]
pub enum FromWorker {
    /// The plan is fixed; the host stores it at the service before anything moves and then answers
    /// with [`ToWorker::CommitAnswer`]-free silence: the worker goes on at once.
    Planned {
        /// The plan.
        plan: Box<Plan>,
    },
    /// How far it is, at most once a second.
    Progress {
        /// The numbers.
        progress: Progress,
    },
    /// Everything is staged and verified. The worker waits for [`ToWorker::CommitAnswer`].
    MayCommit,
    /// Committed and proved.
    Finished {
        /// The receipt, not yet signed.
        receipt: Box<Receipt>,
    },
    /// The probe's answer.
    Probed {
        /// What was found, for people: server version and the like.
        detail: String,
    },
    /// The procedure ran.
    Called {
        /// What it gave back.
        outcome: ProcedureOutcome,
    },
    /// What a look found.
    Browsed {
        /// The listing.
        listing: Box<Listing>,
    },
    /// It did not work. The old content is whole.
    Failed {
        /// Why.
        fault: Fault,
    },
}

/// Where a copy stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// `plan`, `move`, `verify`, `commit`.
    pub stage: String,
    /// Rows read.
    pub rows_read: u64,
    /// Rows staged.
    pub rows_written: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes staged.
    pub bytes_written: u64,
    /// Parts done.
    pub parts_done: u32,
    /// All parts.
    pub parts: u32,
    /// Rows expected in all, by the source's estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_estimate: Option<u64>,
    /// Wall seconds since the start.
    pub seconds: f64,
}
