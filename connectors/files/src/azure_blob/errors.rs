//! What the blob service or the way to it says, as a fault. One table. Texts of the service are not passed on: some
//! of them quote the request.

use azure_core::error::ErrorKind;
use dmg_connector::Error;
use dmg_protocol::{Fault, Retry};

use super::transport::{Broken, TransportError};

/// What was being done to what, for the message.
#[derive(Debug, Clone)]
pub(super) struct Doing {
    /// `read`, `write`, `list`.
    pub(super) action: &'static str,
    /// `blob "a/b"`, `container "raw"`.
    pub(super) what: String,
    /// `Azure Blob Storage acme`.
    pub(super) store: String,
}

/// The service's own code of an answer, as far as it sent one.
pub(super) fn code(error: &azure_core::Error) -> Option<(u16, String)> {
    match error.kind() {
        ErrorKind::HttpResponse { status, raw_response, error_code } => {
            let header =
                raw_response.as_ref().and_then(|raw| raw.headers().get_optional_string(&"x-ms-error-code".into()));
            Some((u16::from(*status), header.or_else(|| error_code.clone()).unwrap_or_default()))
        }
        _ => None,
    }
}

/// Whether the answer carries what only the blob service sends.
fn is_from_the_service(error: &azure_core::Error) -> bool {
    match error.kind() {
        ErrorKind::HttpResponse { raw_response: Some(raw), .. } => {
            let header = |name: &'static str| raw.headers().get_optional_string(&name.into()).is_some();
            header("x-ms-error-code") || header("x-ms-request-id")
        }
        _ => false,
    }
}

/// Whether the request may have had its effect although it failed.
pub(super) fn outcome_unknown(error: &azure_core::Error) -> bool {
    match code(error) {
        Some((status, _)) => status >= 500,
        None => match error.downcast_ref::<TransportError>() {
            Some(transport) => matches!(transport.broken, Broken::Lost | Broken::Garbage),
            None => true,
        },
    }
}

/// An answer that came but cannot be understood.
pub(super) fn strange(doing: &Doing, why: &str) -> Fault {
    let Doing { action, what, store } = doing;
    let message = format!(
        "The gateway could not {action} the {what}: what answers for {store} does not speak like Azure Blob Storage ({why})."
    );
    Fault::new("StoreErrorAnswer", message)
}

/// The table.
pub(super) fn failed(error: &azure_core::Error, doing: &Doing) -> Error {
    let fault = match code(error) {
        Some((status, code)) if is_from_the_service(error) => answered(status, &code, doing),
        Some((status, _)) => strange(doing, &format!("status {status} without the service's own headers")),
        None => match error.downcast_ref::<TransportError>() {
            Some(transport) => below_http(transport.broken, doing),
            None => strange(doing, "its answer cannot be read"),
        },
    };
    // The SDK's own text may quote an answer; only ours is kept.
    let words = match (code(error), error.downcast_ref::<TransportError>()) {
        (Some((status, code)), _) => format!("status {status} {code}"),
        (None, Some(transport)) => transport.to_string(),
        (None, None) => format!("{}", error.kind()),
    };
    Error::caused(fault, words)
}

fn below_http(broken: Broken, doing: &Doing) -> Fault {
    let Doing { action, what, store } = doing;
    match broken {
        Broken::Unreachable => Fault::new("NetworkErrorStoreUnreachable", format!("{store} could not be reached."))
            .remedy("Check the account's name or the endpoint, and that this machine may connect to it."),
        Broken::Untrusted => Fault::new("NetworkErrorTls", format!("The certificate of {store} is not trusted.")),
        Broken::Lost => {
            let message = format!("The connection to {store} broke while the gateway tried to {action} the {what}.");
            Fault::new("NetworkErrorStoreUnreachable", message)
                .remedy("Run again; if it repeats, check the network to the store.")
        }
        Broken::Garbage => strange(doing, "its answer is not HTTP"),
    }
}

fn answered(status: u16, code: &str, doing: &Doing) -> Fault {
    let Doing { action, what, store } = doing;
    match (status, code) {
        (404, "ContainerNotFound") | (409, "ContainerBeingDeleted") => {
            Fault::new("UserErrorContainerMissing", format!("The container of the {what} does not exist in {store}."))
                .remedy("Create the container, or correct its name.")
        }
        (404, _) => Fault::new("UserErrorContainerMissing", format!("There is no {what} in {store}.")),
        (
            403,
            "AuthorizationPermissionMismatch"
            | "AuthorizationResourceTypeMismatch"
            | "AuthorizationServiceMismatch"
            | "AuthorizationProtocolMismatch"
            | "AuthorizationSourceIPMismatch"
            | "InsufficientAccountPermissions",
        ) => Fault::new("UserErrorPermission", format!("{store} does not let this log-in {action} the {what} ({code})."))
            .remedy(format!("Use a shared access signature or a key that may {action} it, from this machine's address.")),
        (401 | 403, _) => {
            Fault::new("UserErrorLoginRefused", format!("{store} refused the log-in ({code})."))
                .remedy("Correct the account key or the shared access signature of the linked service; check that it has not expired, that this machine's clock is right, and that the network rules of the account let this machine in.")
        }
        (409 | 412, "LeaseIdMissing" | "LeaseNotPresentWithBlobOperation" | "LeaseAlreadyPresent") => {
            Fault::new("StoreErrorConflict", format!("The {what} in {store} is leased by another program."))
                .remedy("End that lease, or wait for its end.")
        }
        (409, "InvalidBlobType") => {
            Fault::new("UserErrorNotSupported", format!("The {what} in {store} is a page or append blob; only block blobs can be written."))
                .remedy("Choose another name.")
        }
        (400, "InvalidBlobOrBlock" | "InvalidBlockId") => {
            Fault::new("StoreErrorConflict", format!("The {what} in {store} has unfinished blocks of another program."))
                .remedy("Let that program end, or choose another name.")
        }
        (400, "Md5Mismatch") => {
            Fault::new("SystemErrorVerification", format!("A block of the {what} arrived at {store} other than it was sent."))
        }
        (400, "InvalidBlockList") | (409 | 412, _) => {
            let message = format!("The {what} in {store} was created or changed by somebody else since the copy began; it was left alone.");
            Fault::new("StoreErrorCommitRefused", message)
        }
        (416, _) => Fault::new("UserErrorSourceChanged", format!("The {what} in {store} became shorter while it was read.")),
        (429 | 503, _) => Fault::new("StoreErrorFailed", format!("{store} is too busy to {action} the {what} ({code})."))
            .remedy("Wait, or run fewer copies at once."),
        _ => {
            let message = format!("{store} could not {action} the {what}: it answered {status} {code}.");
            let fault = Fault::new("StoreErrorFailed", message);
            if status >= 500 { fault } else { fault.retry(Retry::Never) }
        }
    }
}
