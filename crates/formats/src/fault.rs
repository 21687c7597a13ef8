//! What goes wrong with a file or a value, in the user's words. Never quotes a value.

use dmg_connector::Error;
use dmg_protocol::Fault;

/// The file is not what the dataset says.
pub(crate) fn file(label: &str, what: impl std::fmt::Display) -> Error {
    Fault::new("UserErrorFileFormat", format!("The file {label} cannot be read: {what}.")).with("file", label).into()
}

/// A value that is refused; rows count from 1.
pub(crate) fn value(place: &str, row: u64, column: &str, what: &str) -> Error {
    Fault::new("UserErrorValue", format!("{place}, row {row}, column \"{column}\": the value is {what}."))
        .with("row", row)
        .with("column", column)
        .into()
}

/// A value too large for the budget; rows count from 1.
pub(crate) fn too_large(label: &str, row: u64, column: &str, limit: usize) -> Error {
    let message = format!("File {label}, row {row}, column \"{column}\": the value has more than {limit} bytes.");
    Fault::new("UserErrorBudgetExceeded", message).with("row", row).with("column", column).into()
}

/// Something the format cannot do yet.
pub(crate) fn not_supported(message: impl Into<String>) -> Fault {
    Fault::new("UserErrorNotSupported", message)
}

/// A fault of ours.
pub(crate) fn internal(message: impl Into<String>) -> Error {
    Fault::new("SystemErrorInternal", message).into()
}
