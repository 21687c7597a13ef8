//! The one error of connectors: a fault for people, the driver's error for the log, and whether a commit's outcome
//! is unknown.

use dmg_protocol::Fault;

/// Result of everything a connector does.
pub type Result<T> = std::result::Result<T, Error>;

/// A classified failure.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct Error {
    /// What the user is told. Carries the retry verdict.
    pub fault: Box<Fault>,
    /// The commit was sent and no answer came: read the mark before anything else.
    pub outcome_unknown: bool,
    /// What the driver said, for the log. Must not hold a secret.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a failpoint fails with where a store may go away at any moment.
pub fn cut() -> Error {
    Fault::new("NetworkErrorStoreUnreachable", "The connection to the store was cut by a failpoint.").into()
}

impl Error {
    /// A failure with the driver's own error.
    pub fn caused(fault: Fault, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error { fault: Box::new(fault), outcome_unknown: false, cause: Some(cause.into()) }
    }

    /// Marks that a commit may or may not have happened.
    #[must_use]
    pub fn with_unknown_outcome(mut self) -> Self {
        self.outcome_unknown = true;
        self
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error { fault: Box::new(fault), outcome_unknown: false, cause: None }
    }
}
