//! The copy itself: plan, move, verify, commit, and the receipt at the end. It decides order, parallelism and
//! retries, and knows stores and formats only by their contracts.

mod added;
mod assemble;
mod bottleneck;
mod browse;
mod call;
mod convert;
mod copy;
mod culture;
mod date_format;
mod file_sink;
mod file_source;
mod lanes;
mod layout;
mod lossy;
mod nanos;
mod open;
mod planner;
mod proof;
mod redirect;
mod reread;
mod resume;
mod retry;
mod screen;
mod styled;
mod throttle;
mod tolerate;
mod verify;
mod watchdog;
mod watched;
mod watched_store;

pub use browse::browse;
pub use call::call;
pub use copy::{CopyRequest, Observer, copy};
pub use open::{Stores, probe};
pub use verify::{
    Change, ColumnChoice, DIFFERENCES_MAX, Difference, KeyChoice, VerifiedColumn, VerifiedSide, VerifyReport,
    VerifyRequest, verify,
};
