//! The conformance suites: what a store claims in its descriptor is tried, and what it does not claim must be refused
//! by a fault, never by a panic and never by doing it all the same. They know no store; a test gives them a world to
//! make fresh objects in. They print nothing: a [`Report`] tells.

mod files;
mod tables;

use std::fmt;
use std::panic::AssertUnwindSafe;

use dmg_protocol::catalog::{Capability, StoreDescriptor};
use dmg_protocol::{Attempt, Epoch, RunId};
use futures::FutureExt as _;

use crate::{Error, Result};

pub use files::{FileWorld, files};
pub use tables::{TableWorld, tables};

/// Every capability there is, in the order of the catalog.
pub const CAPABILITIES: &[Capability] = &[
    Capability::ReadTable,
    Capability::ReadQuery,
    Capability::ReadParts,
    Capability::WriteAppend,
    Capability::WriteOverwrite,
    Capability::CreateTable,
    Capability::ReadFiles,
    Capability::WriteFiles,
    Capability::ReadStaged,
    Capability::ReadBack,
    Capability::Probe,
    Capability::WriteUpsert,
    Capability::WriteSlice,
    Capability::WriteProcedure,
    Capability::CallProcedure,
    Capability::Browse,
];

/// What became of one capability of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Claimed, and every check held. Names them.
    Tested(&'static str),
    /// Not claimed, and refused: by this code, or by a contract that has no call for it.
    Refused(String),
    /// A check did not hold.
    Failed(String),
}

/// One capability of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub capability: Capability,
    /// Whether the descriptor claims it.
    pub claimed: bool,
    /// What the suite found.
    pub outcome: Outcome,
}

/// All capabilities of one store. `Display` gives one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Connector name.
    pub store: &'static str,
    /// In the order of the catalog.
    pub lines: Vec<Line>,
}

impl Report {
    /// Whether every claim held and every other capability was refused.
    pub fn holds(&self) -> bool {
        self.lines.iter().all(|line| match line.outcome {
            Outcome::Tested(_) => line.claimed,
            Outcome::Refused(_) => !line.claimed,
            Outcome::Failed(_) => false,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let claimed = if line.claimed { "claimed" } else { "-" };
            let (word, detail) = match &line.outcome {
                Outcome::Tested(checks) => ("tested", *checks),
                Outcome::Refused(by) => ("refused", by.as_str()),
                Outcome::Failed(why) => ("FAILED", why.as_str()),
            };
            let capability = format!("{:?}", line.capability);
            writeln!(f, "{:<9} {capability:<15} {claimed:<8} {word:<8} {detail}", self.store)?;
        }
        Ok(())
    }
}

/// A check that did not hold.
#[derive(Debug)]
struct Broken(String);

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Broken(format!("an unexpected failure: {error}"))
    }
}

type Checked<T> = std::result::Result<T, Broken>;

fn want(holds: bool, what: &str) -> Checked<()> {
    if holds { Ok(()) } else { Err(Broken(format!("does not hold: {what}"))) }
}

fn same<T: PartialEq + fmt::Debug>(found: &T, expected: &T, what: &str) -> Checked<()> {
    if found == expected { Ok(()) } else { Err(Broken(format!("{what}: {found:?} instead of {expected:?}"))) }
}

/// Wants a fault of one of these codes, with something to read and something to do.
fn refusal<T>(result: Result<T>, codes: &[&str], what: &str) -> Checked<String> {
    let Err(error) = result else { return Err(Broken(format!("was not refused: {what}"))) };
    let fault = *error.fault;
    if !codes.contains(&fault.code.as_str()) {
        return Err(Broken(format!("{what} was refused by {fault}, not by {}", codes.join(" or "))));
    }
    want(!fault.message.is_empty() && !fault.remedy.is_empty(), "a refusal says what happened and what to do")?;
    Ok(fault.code)
}

/// A writer. Each check takes a run of its own, so that no check finds the mark of another.
fn attempt(run: u32, epoch: u64) -> Attempt {
    let run = RunId::new(format!("{run:08x}-c0f0-4000-8000-000000000000"));
    Attempt { namespace: "conformance".to_owned(), run, epoch: Epoch(epoch) }
}

/// Runs a check per capability. A panic is a failed check, not the end of the suite.
async fn run<F>(descriptor: &'static StoreDescriptor, mut check: impl FnMut(Capability, bool) -> F) -> Report
where
    F: Future<Output = Checked<Outcome>>,
{
    let mut lines = Vec::new();
    for &capability in CAPABILITIES {
        let claimed = descriptor.capabilities.contains(&capability);
        let outcome = match AssertUnwindSafe(check(capability, claimed)).catch_unwind().await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(Broken(why))) => Outcome::Failed(why),
            Err(_) => Outcome::Failed("it panicked".to_owned()),
        };
        lines.push(Line { capability, claimed, outcome });
    }
    Report { store: descriptor.name, lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_capability_is_forgotten() {
        // Whoever adds a capability is led here by the compiler.
        let position = |capability| match capability {
            Capability::ReadTable => 0,
            Capability::ReadQuery => 1,
            Capability::ReadParts => 2,
            Capability::WriteAppend => 3,
            Capability::WriteOverwrite => 4,
            Capability::CreateTable => 5,
            Capability::ReadFiles => 6,
            Capability::WriteFiles => 7,
            Capability::ReadStaged => 8,
            Capability::ReadBack => 9,
            Capability::Probe => 10,
            Capability::WriteUpsert => 11,
            Capability::WriteSlice => 12,
            Capability::WriteProcedure => 13,
            Capability::CallProcedure => 14,
            Capability::Browse => 15,
        };
        let found: Vec<usize> = CAPABILITIES.iter().map(|capability| position(*capability)).collect();
        assert_eq!(found, (0..=15).collect::<Vec<usize>>());
    }

    #[test]
    fn a_claim_without_a_test_and_a_deed_without_a_claim_do_not_hold() {
        let report = |claimed, outcome| Report {
            store: "x",
            lines: vec![Line { capability: Capability::Probe, claimed, outcome }],
        };
        assert!(report(true, Outcome::Tested("")).holds());
        assert!(report(false, Outcome::Refused(String::new())).holds());
        assert!(!report(true, Outcome::Refused(String::new())).holds());
        assert!(!report(false, Outcome::Tested("")).holds());
        assert!(!report(true, Outcome::Failed(String::new())).holds());
    }
}
