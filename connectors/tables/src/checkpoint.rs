//! What the checkpoints of the table stores have in common: a row for each staged part, in a table beside the staging
//! table, whose comment says of what work the parts are.

use dmg_connector::{Checkpoint, Error, PartReport, Sums};
use dmg_protocol::Fault;

/// A row of the table of checkpoints: part, rows, bytes, and the sums of what was read.
pub(crate) type Row = Vec<Option<String>>;

/// Name of the table of checkpoints beside a staging table.
pub(crate) fn table_of(staging: &str) -> String {
    format!("{staging}_parts")
}

/// What makes staged rows of use to a later attempt: the copy's own fingerprint, and what the target was like.
pub(crate) fn key(fingerprint: &str, target: &str) -> String {
    format!("{fingerprint} {}", dmg_connector::fingerprint(target))
}

/// The copy's own part of a key.
pub(crate) fn fingerprint_of(key: &str) -> Option<String> {
    key.rsplit_once(' ').map(|(fingerprint, _)| fingerprint.to_owned()).filter(|fingerprint| !fingerprint.is_empty())
}

/// The values of a part's row, to be written by its transaction.
pub(crate) fn values(part: u32, report: &PartReport, read: &Sums, literal: impl Fn(&str) -> String) -> String {
    format!("{part}, {}, {}, {}", report.rows, report.bytes, literal(&read.to_text()))
}

/// A row as it was read back; nothing if it is damaged.
pub(crate) fn read(row: Row) -> Option<Checkpoint> {
    let [Some(part), Some(rows), Some(bytes), Some(read)] = <[Option<String>; 4]>::try_from(row).ok()? else {
        return None;
    };
    let report = PartReport { rows: rows.parse().ok()?, bytes: bytes.parse().ok()?, decoded: None };
    let read = Sums::from_text(&read).filter(|read| read.rows == report.rows)?;
    Some(Checkpoint { part: part.parse().ok()?, report, read })
}

/// What it means that the key of a part's row was there.
pub(crate) fn staged_already(part: u32, error: Error) -> Error {
    let message = format!("Part {part} is already staged, by a session of this copy that was thought lost.");
    Error { fault: Box::new(Fault::new("StoreErrorConflict", message)), ..error }
}

/// What it means that the table is gone.
pub(crate) fn taken_over(error: Error) -> Error {
    if error.fault.code != "UserErrorTableMissing" {
        return error;
    }
    let message = "The staging table is gone: another attempt took over.";
    Error { fault: Box::new(Fault::new("SystemErrorLeaseLost", message)), ..error }
}

/// The row of a part is there and cannot be read.
pub(crate) fn damaged(part: u32) -> Error {
    Fault::new("SystemErrorInternal", format!("The checkpoint of part {part} cannot be read.")).into()
}
