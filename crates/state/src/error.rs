//! What can go wrong with our own state, and how a person meets it.

use dmg_protocol::Fault;

/// A failure of our own state.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused or failed.
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    /// A stored document cannot be read.
    #[error("a stored {0} cannot be read")]
    Damaged(&'static str, #[source] serde_json::Error),
    /// A stored value is none that this program writes.
    #[error("a stored value is unknown: {0}")]
    Unknown(String),
    /// The database was written by a newer program.
    #[error("the database has schema version {0}, this program knows up to {1}")]
    Newer(i64, i64),
    /// The thread that owns the database ended.
    #[error("the database is closed")]
    Closed,
    /// A unique name is taken.
    #[error("the name is taken")]
    Taken,
    /// The resource is not in the state the caller asked for.
    #[error("the resource was changed meanwhile")]
    Changed,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match &error {
            Error::Taken => Fault::new("UserErrorNameTaken", "The name is already taken."),
            Error::Changed => Fault::new("UserErrorPrecondition", "The resource was changed since it was read."),
            Error::Newer(have, known) => Fault::new(
                "SystemErrorState",
                format!("The service's database has schema version {have}; this program knows up to {known}."),
            )
            .remedy("Start the newer program, or restore the folder from a backup."),
            _ => {
                let mut text = error.to_string();
                if let Some(source) = std::error::Error::source(&error) {
                    text = format!("{text}: {source}");
                }
                tracing::error!(error = %text, "the service's state failed");
                Fault::new("SystemErrorState", "The service's own state could not be read or written.")
                    .remedy("Look at the service's log; check that its disk is there and has space.")
            }
        }
    }
}
