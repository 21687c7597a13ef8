//! How a command fails: the fault a person reads and the exit code a program reads. Nothing else.

use dmg_protocol::Fault;

/// Exit code of a failed run or a fault.
pub(crate) const EXIT_FAULT: u8 = 1;
/// Exit code of a configuration that cannot work, found before anything was done.
pub(crate) const EXIT_CONFIGURATION: u8 = 64;

/// A command that did not work.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) exit: u8,
}

impl Failure {
    /// A configuration that cannot work.
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Fault::new("UserErrorSettings", message).into_configuration()
    }

    /// Replaces the remedy.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.fault = self.fault.remedy(remedy);
        self
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure { fault, exit: EXIT_FAULT }
    }
}

/// Marks a fault as one of configuration.
pub(crate) trait IntoConfiguration {
    /// The same fault with exit code 64.
    fn into_configuration(self) -> Failure;
}

impl IntoConfiguration for Fault {
    fn into_configuration(self) -> Failure {
        Failure { fault: self, exit: EXIT_CONFIGURATION }
    }
}

/// A file of ours that cannot be read or written.
pub(crate) fn file_fault(action: &str, path: &std::path::Path, error: &std::io::Error) -> Fault {
    Fault::new("UserErrorSettings", format!("\"{}\" cannot be {action}: {error}.", path.display()))
        .remedy("Check the path and your rights on it.")
}
