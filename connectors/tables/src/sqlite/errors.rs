//! What SQLite reports, as a fault. One table by result code.

use std::path::Path;

use dmg_connector::Error;
use dmg_protocol::Fault;
use rusqlite::ErrorCode;

/// The fault for an error while something was done with that file.
pub(super) fn error(path: &Path, error: rusqlite::Error) -> Error {
    let place = format!("SQLite {}", path.display());
    let code = error.sqlite_error_code();
    let text = error.to_string();
    let fault = match code {
        Some(ErrorCode::CannotOpen) => {
            Fault::new("UserErrorContainerMissing", format!("{place} cannot be opened: there is no such file."))
                .remedy("Check the path; it is a path on the gateway's machine.")
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            Fault::new("StoreErrorAnswer", format!("{place} is not a sound SQLite database."))
                .remedy("Check the path, or restore the file from a backup.")
        }
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied) => {
            Fault::new(
                "UserErrorPermission",
                format!("{place} may not be read or not be written by the gateway's user."),
            )
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::new(
            "StoreErrorConflict",
            format!("{place} is locked by another program."),
        )
        .remedy(
            "Wait until the other program is done. To read and write one file at once, set its journal_mode to wal.",
        ),
        Some(ErrorCode::DiskFull) => Fault::new("StoreErrorNoSpace", format!("{place}: the disk is full.")),
        Some(ErrorCode::ConstraintViolation) => constraint(&place, &error, &text),
        _ if text.contains("no such table") => {
            Fault::new("UserErrorTableMissing", format!("{place} reports: {}.", first_line(&text)))
        }
        _ if text.contains("no such column") => {
            Fault::new("UserErrorColumnMissing", format!("{place} reports: {}.", first_line(&text)))
        }
        _ if text.contains("syntax error") || matches!(error, rusqlite::Error::MultipleStatement) => {
            Fault::new("UserErrorSettings", format!("{place} reports: {}.", first_line(&text)))
                .remedy("Correct the query; it must be a single SELECT.")
        }
        _ => Fault::new("StoreErrorFailed", format!("{place} reports: {}.", first_line(&text))),
    };
    Error::caused(fault, code.map_or_else(|| "SQLite".to_owned(), |code| format!("{code:?}")))
}

/// A row that the table's own rules refuse.
fn constraint(place: &str, error: &rusqlite::Error, text: &str) -> Fault {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE};
    let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
    let double = [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE].contains(&extended);
    let code = if double { "UserErrorDuplicateKey" } else { "UserErrorValue" };
    Fault::new(code, format!("{place} refuses a row: {}.", first_line(text)))
}

/// The message without the statement rusqlite adds.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or(text);
    line.split(" in SELECT").next().unwrap_or(line).trim_end_matches('.')
}
