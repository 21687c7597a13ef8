//! The nouns and the wire: everything that crosses a process or disk boundary is declared here and has golden
//! files. No I/O, no async, no clock.

mod beside;
mod binding;
pub mod catalog;
pub mod channel;
mod fault;
mod fault_table;
mod ids;
pub mod job;
mod kind;
pub mod names;
mod plan;
mod receipt;
pub mod run;
mod secret;
pub mod worker;

pub use binding::binding;
pub use fault::{Fault, Retry};
pub use fault_table::{FAULTS, FaultInfo, fault_info};
pub use ids::*;
pub use kind::{Kind, ParseKindError, Verdict};
pub use plan::{ColumnPlan, CommitShape, PartPlan, Plan, WriteMode};
pub use receipt::{
    Bottleneck, ColumnDigest, Digest, NodeRecord, Receipt, ReceiptColumn, ReceiptParties, Repeated, Resumed,
    SideReport, Signature, Signed, Skipped, StageTime, VerifyLevel,
};
pub use secret::{MASK, Secret, Secrets};
