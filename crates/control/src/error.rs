//! A refusal as HTTP: which status a fault has and how the error envelope looks. No wording of faults here, except
//! the few texts that the original's clients know.

use dmg_protocol::Fault;
use http::StatusCode;
use serde_json::{Value, json};

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    /// The status.
    pub(crate) status: StatusCode,
    /// The original's code, where it has one.
    code: Option<&'static str>,
    /// The original's exact text, where it has one.
    text: Option<String>,
    /// What happened. Boxed, because every handler's answer carries room for it.
    pub(crate) fault: Box<Fault>,
    /// What it is about.
    target: Option<String>,
}

/// What a handler answers.
pub(crate) type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    fn original(status: StatusCode, code: &'static str, text: Option<String>, fault: Fault) -> Self {
        Refusal { status, code: Some(code), text, fault: Box::new(fault), target: None }
    }

    /// The fault with another status than its code's own.
    pub(crate) fn with_status(fault: Fault, status: StatusCode) -> Self {
        Refusal { status, ..Refusal::from(fault) }
    }

    /// Says what it is about.
    pub(crate) fn about(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// No or a wrong token.
    pub(crate) fn unauthorized(message: &str) -> Self {
        let fault = Fault::new("UserErrorAuthentication", message);
        Refusal::original(StatusCode::UNAUTHORIZED, "AuthenticationFailed", None, fault)
    }

    /// The original's text for a resource that is not there.
    pub(crate) fn no_resource(kind: &str, name: &str, group: &str) -> Self {
        let text =
            format!("The Resource 'Microsoft.DataFactory/{kind}/{name}' under resource group '{group}' was not found.");
        let fault = Fault::new("UserErrorNotFound", text.clone());
        Refusal::original(StatusCode::NOT_FOUND, "ResourceNotFound", Some(text), fault)
    }

    /// Something inside a factory that is not there.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        let fault = Fault::new("UserErrorNotFound", format!("The {what} \"{name}\" does not exist."));
        Refusal::original(StatusCode::NOT_FOUND, "ResourceNotFound", None, fault).about(name)
    }

    /// The request is not as the API asks.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Refusal::original(StatusCode::BAD_REQUEST, "BadRequest", None, Fault::new("UserErrorBadRequest", message))
    }

    /// A bad `api-version`.
    pub(crate) fn api_version(code: &'static str, text: String) -> Self {
        let fault = Fault::new("UserErrorBadRequest", text.clone());
        Refusal::original(StatusCode::BAD_REQUEST, code, Some(text), fault)
    }

    /// A path that nobody knows.
    pub(crate) fn no_such_path(version: &str) -> Self {
        let text = format!(
            "The resource type could not be found in the namespace 'Microsoft.DataFactory' for api version '{version}'."
        );
        let fault = Fault::new("UserErrorBadRequest", text.clone());
        Refusal::original(StatusCode::NOT_FOUND, "InvalidResourceType", Some(text), fault)
    }

    /// An `If-Match` that does not.
    pub(crate) fn precondition(what: &str, name: &str) -> Self {
        let message = format!("The {what} \"{name}\" was changed since it was read.");
        let fault = Fault::new("UserErrorPrecondition", message);
        Refusal::original(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", None, fault).about(name)
    }

    /// The error envelope.
    pub(crate) fn body(&self) -> Value {
        let Fault { code, message, remedy, .. } = &*self.fault;
        let text = match &self.text {
            Some(text) => text.clone(),
            None if remedy.is_empty() || message.contains(remedy.as_str()) => message.clone(),
            None => format!("{message} {remedy}"),
        };
        json!({ "error": {
            "code": self.code.unwrap_or(code.as_str()),
            "message": text,
            "target": self.target,
            "details": [{ "code": code, "message": message, "target": self.target, "remedy": remedy }],
        }})
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let status = match fault.code.as_str() {
            "UserErrorAuthentication" => StatusCode::UNAUTHORIZED,
            "UserErrorNotFound" => StatusCode::NOT_FOUND,
            "UserErrorInUse" | "UserErrorNameTaken" => StatusCode::CONFLICT,
            "UserErrorPrecondition" => StatusCode::PRECONDITION_FAILED,
            code if code.starts_with("SystemError") => StatusCode::INTERNAL_SERVER_ERROR,
            code if code.starts_with("NetworkError") => StatusCode::BAD_GATEWAY,
            _ => StatusCode::BAD_REQUEST,
        };
        Refusal { status, code: None, text: None, fault: Box::new(fault), target: None }
    }
}

impl From<dmg_state::Error> for Refusal {
    fn from(error: dmg_state::Error) -> Self {
        Refusal::from(Fault::from(error))
    }
}
