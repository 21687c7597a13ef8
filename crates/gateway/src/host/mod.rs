//! The host: the node's identity, its channel to the service, the vault, and the workers' keeper. It talks to the
//! service and to its workers; it never calls a driver and never sees a row.

mod certificate;
mod channel;
mod egress;
mod enroll;
mod folder;
mod job;
mod journal;
mod lease;
mod load;
mod node;
mod process;
mod run;
mod status;
mod trust;
mod vault;

pub use certificate::{CertificateReport, certificate_export, certificate_import, certificate_show};
pub use enroll::{Registered, register};
pub use folder::{NodeFolder, NodeState};
pub use process::WorkerProgram;
pub use run::{run, run_with};
pub use status::{Connection, NodeReport, status};
