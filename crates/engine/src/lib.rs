//! The copy itself: plan, move, verify, commit, and the receipt at the end. It decides order, parallelism and
//! retries, and knows stores and formats only by their contracts.

mod assemble;
mod convert;
mod copy;
mod file_sink;
mod file_source;
mod lanes;
mod open;
mod planner;
mod proof;
mod retry;

pub use copy::{CopyRequest, Observer, copy};
pub use open::{Stores, probe};
