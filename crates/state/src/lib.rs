//! Durable state of the service: factories, gateways, nodes, documents, runs and the queue, in one embedded SQLite
//! database. Times are parameters and decisions are functions handed in: nothing here reads a clock or knows a rule.

mod database;
mod documents;
mod error;
mod factories;
mod gateways;
mod jobs;
mod nodes;
mod runs;
mod schema;

pub use database::State;
pub use documents::{Document, DocumentKey, NewDocument};
pub use error::Error;
pub use factories::Factory;
pub use gateways::{Gateway, Slot};
pub use jobs::{Expiry, Finish, Grant, Job, JobState, LeaseState, NewJob, Purpose, Report};
pub use nodes::Node;
pub use runs::{ActivityRun, NewPipelineRun, PipelineRun, RunAction, RunFilter};

/// Microseconds since 1970 by the service's clock.
pub type Moment = i64;

/// What every call answers.
pub type Result<T> = std::result::Result<T, Error>;
