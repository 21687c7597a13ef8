//! The words of this crate: dialects, document kinds, findings and references. No behavior beyond their texts.

use std::fmt;

use dmg_protocol::Fault;

/// Which of the original's two generations a document is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// Version 1, api-version 2015-10-01.
    V1,
    /// Version 2, api-version 2018-06-01.
    V2,
}

impl Dialect {
    /// `v1` or `v2`, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::V1 => "v1",
            Dialect::V2 => "v2",
        }
    }

    /// The dialect of that text.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Dialect::V1),
            "v2" => Some(Dialect::V2),
            _ => None,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a document defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DocumentKind {
    /// A store and how to log in.
    LinkedService,
    /// Data inside a store.
    Dataset,
    /// What to do.
    Pipeline,
}

impl DocumentKind {
    /// For people: `linked service`.
    pub fn title(self) -> &'static str {
        match self {
            DocumentKind::LinkedService => "linked service",
            DocumentKind::Dataset => "dataset",
            DocumentKind::Pipeline => "pipeline",
        }
    }
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is taken; the author should look.
    Warning,
}

/// One remark about a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where: `$.properties.typeProperties.host`.
    pub path: String,
    /// What, as a sentence.
    pub message: String,
    /// How bad.
    pub severity: Severity,
}

impl Finding {
    pub(crate) fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Finding { path: path.into(), message: message.into(), severity: Severity::Error }
    }

    pub(crate) fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Finding { path: path.into(), message: message.into(), severity: Severity::Warning }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The fault of a document whose findings hold at least one error: all errors, in order.
pub fn findings_fault(kind: DocumentKind, name: &str, findings: &[Finding]) -> Option<Fault> {
    let errors: Vec<String> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).map(Finding::to_string).collect();
    if errors.is_empty() {
        return None;
    }
    let name_only = errors.len() == 1 && errors[0].starts_with("$.name:");
    let code = if name_only { "UserErrorName" } else { "UserErrorDocument" };
    let message = format!("The {kind} \"{name}\" is refused. {}", errors.join(" "));
    Some(Fault::new(code, message))
}

/// What a reference points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReferenceKind {
    /// A linked service.
    LinkedService,
    /// A dataset.
    Dataset,
    /// A pipeline.
    Pipeline,
    /// A gateway (integration runtime).
    Gateway,
}

/// One reference from a document to another resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What it points to.
    pub kind: ReferenceKind,
    /// Its name as written.
    pub name: String,
    /// Where in the document.
    pub path: String,
}
