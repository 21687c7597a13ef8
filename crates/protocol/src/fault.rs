//! A failure as the user meets it: a stable code, what happened, what to do, and whether trying again helps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault_table::fault_info;

/// Whether and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Retry {
    /// It will fail again.
    Never,
    /// Another attempt may succeed at once.
    Now,
    /// Another attempt may succeed after a pause.
    Later,
    /// After somebody did what the remedy says.
    AfterFix,
}

/// One failure. `Display` gives code, message and remedy on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{code}: {message} {remedy}")]
pub struct Fault {
    /// Stable, never reused; its prefix says who must act: `UserError`, `StoreError`, `NetworkError`, `SystemError`.
    pub code: String,
    /// What happened, to what, in the user's words. No secret, no row value.
    pub message: String,
    /// What to do next.
    pub remedy: String,
    /// Whether to try again.
    pub retry: Retry,
    /// Facts by name, for programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
}

impl Fault {
    /// A fault of the table. Remedy and retry come from the table unless replaced.
    ///
    /// `code` must be in [`crate::FAULTS`]; a debug build asserts it, and `cargo xtask tidy` checks the sources.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let info = fault_info(code);
        debug_assert!(info.is_some(), "fault code {code} is not in the table");
        Fault {
            code: code.to_owned(),
            message: message.into(),
            remedy: info.map_or(String::new(), |info| info.remedy.to_owned()),
            retry: info.map_or(Retry::Never, |info| info.retry),
            context: BTreeMap::new(),
        }
    }

    /// Replaces the remedy by a more fitting one.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Replaces the retry verdict.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Adds a fact for programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.context.insert(name.to_owned(), value.to_string());
        self
    }

    /// Who must act, by the code's prefix: `user`, `store`, `network` or `system`.
    pub fn owner(&self) -> &'static str {
        match self.code.as_str() {
            code if code.starts_with("UserError") => "user",
            code if code.starts_with("StoreError") => "store",
            code if code.starts_with("NetworkError") => "network",
            _ => "system",
        }
    }
}
