//! What the server reports, as a fault. One table by error number. The server's own words are passed on except where
//! they quote a value of a row.

use dmg_connector::Error;
use dmg_protocol::{Fault, Retry};

/// What the server said of one failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) number: u32,
    pub(super) state: u8,
    pub(super) class: u8,
    pub(super) message: String,
    pub(super) procedure: String,
    pub(super) line: u32,
}

/// Error number and the fault code it becomes.
const CODES: &[(u32, &str)] = &[
    (102, "UserErrorSettings"),
    (103, "UserErrorName"),
    (105, "UserErrorSettings"),
    (109, "UserErrorSettings"),
    (137, "UserErrorSettings"),
    (156, "UserErrorSettings"),
    (201, "UserErrorSettings"),
    (207, "UserErrorColumnMissing"),
    (208, "UserErrorTableMissing"),
    (220, "UserErrorValue"),
    (229, "UserErrorPermission"),
    (230, "UserErrorPermission"),
    (232, "UserErrorValue"),
    (241, "UserErrorValue"),
    (242, "UserErrorValue"),
    (245, "UserErrorValue"),
    (262, "UserErrorPermission"),
    (295, "UserErrorValue"),
    (297, "UserErrorPermission"),
    (300, "UserErrorPermission"),
    (319, "UserErrorSettings"),
    (515, "UserErrorValue"),
    (544, "UserErrorPermission"),
    (547, "UserErrorValue"),
    (911, "UserErrorContainerMissing"),
    (916, "UserErrorPermission"),
    (1088, "UserErrorPermission"),
    (1101, "StoreErrorNoSpace"),
    (1105, "StoreErrorNoSpace"),
    (1204, "StoreErrorFailed"),
    (1205, "StoreErrorConflict"),
    (1222, "StoreErrorConflict"),
    (1505, "UserErrorDuplicateKey"),
    (2601, "UserErrorDuplicateKey"),
    (2627, "UserErrorDuplicateKey"),
    (2628, "UserErrorValue"),
    (2705, "UserErrorName"),
    (2714, "UserErrorTargetExists"),
    (2760, "UserErrorContainerMissing"),
    (2812, "UserErrorProcedureMissing"),
    (3701, "UserErrorTableMissing"),
    (3906, "UserErrorPermission"),
    (3960, "StoreErrorConflict"),
    (4060, "UserErrorContainerMissing"),
    (4815, "UserErrorValue"),
    (4863, "UserErrorValue"),
    (5074, "UserErrorSettings"),
    (6005, "NetworkErrorStoreUnreachable"),
    (6107, "UserErrorPermission"),
    (8114, "UserErrorValue"),
    (8115, "UserErrorValue"),
    (8134, "UserErrorValue"),
    (8144, "UserErrorSettings"),
    (8145, "UserErrorSettings"),
    (8146, "UserErrorSettings"),
    (8152, "UserErrorValue"),
    (8162, "UserErrorSettings"),
    (8178, "UserErrorSettings"),
    (9002, "StoreErrorNoSpace"),
    (10928, "StoreErrorConflict"),
    (10929, "StoreErrorConflict"),
    (10936, "StoreErrorConflict"),
    (17142, "NetworkErrorStoreUnreachable"),
    (17809, "StoreErrorConflict"),
    (18452, "UserErrorLoginRefused"),
    (18456, "UserErrorLoginRefused"),
    (18461, "StoreErrorConflict"),
    (18470, "UserErrorLoginRefused"),
    (18486, "UserErrorLoginRefused"),
    (18487, "UserErrorLoginRefused"),
    (18488, "UserErrorLoginRefused"),
    (40501, "StoreErrorConflict"),
    (40532, "UserErrorLoginRefused"),
    (40544, "StoreErrorNoSpace"),
    (40613, "NetworkErrorStoreUnreachable"),
    (40615, "UserErrorPermission"),
    (49918, "StoreErrorConflict"),
    (49919, "StoreErrorConflict"),
    (49920, "StoreErrorConflict"),
];

fn code(number: u32) -> &'static str {
    CODES.iter().find(|(known, _)| *known == number).map_or("StoreErrorFailed", |(_, code)| *code)
}

/// The fault for an error the server reported.
pub(super) fn fault(place: &str, error: &ServerError) -> Fault {
    let code = code(error.number);
    let raised = error.number >= 50_000;
    let mut message = match code {
        _ if raised => format!("{place} refused a value: a trigger or procedure stopped it (error {})", error.number),
        "UserErrorValue" | "UserErrorDuplicateKey" => format!("{place} refused a value: {}", refusal(error)),
        _ => format!("{place} reports: {} (error {})", error.message.trim().trim_end_matches('.'), error.number),
    };
    message.push('.');
    let mut fault = Fault::new(if raised { "UserErrorValue" } else { code }, message).with("errorNumber", error.number);
    if let Some(column) = column(error) {
        fault = fault.with("column", column);
    }
    match error.number {
        102 | 105 | 109 | 137 | 156 | 319 => fault.remedy("Correct the query or script the message speaks of."),
        201 | 8144 | 8145 | 8146 | 8162 => {
            fault.remedy("Give the procedure exactly the parameters it declares, in their own spelling.")
        }
        544 => fault.remedy("Leave the identity column out of the mapping, or grant ALTER on the table."),
        1205 => fault.retry(Retry::Now).remedy("Run again; the server chose this session to end a deadlock."),
        1222 => fault.remedy("Wait until the other writer is done, then run again."),
        3906 => fault.remedy("Name a database that can be written to: this one is read-only or a secondary."),
        9002 => fault.remedy("Back up or enlarge the transaction log, then run again."),
        10928 | 10929 | 10936 | 17809 | 40501 => {
            fault.remedy("Wait until sessions or workers are free, lower parallelCopies, or raise the server's limit.")
        }
        18486 => fault.remedy("Have the log-in unlocked. Do not run again before: each try prolongs the lock."),
        18487 | 18488 => fault.remedy("Change the password of the log-in at the server, then enter the new one."),
        40615 => fault.remedy("Let the server's firewall admit the address of this gateway."),
        _ => fault,
    }
}

/// The fault for an error of a procedure the author called: what it raised itself is meant for the author.
pub(super) fn raised(place: &str, error: &ServerError) -> Fault {
    if error.number < 50_000 {
        return fault(place, error);
    }
    let message =
        format!("The procedure ended with error {}: {}.", error.number, error.message.trim().trim_end_matches('.'));
    Fault::new("StoreErrorFailed", message)
        .retry(Retry::AfterFix)
        .remedy("Look into the procedure; the message is its own.")
        .with("errorNumber", error.number)
}

/// What was wrong with a value, without the value.
fn refusal(error: &ServerError) -> String {
    let what = match error.number {
        220 | 232 | 8115 => "a number outside the range of its column",
        241 | 242 | 295 => "a date or time it cannot take",
        245 | 8114 => "text that is no value of its column's type",
        515 => "NULL in a column that does not allow it",
        547 => "a row that breaks a check, or whose foreign key points nowhere or is still pointed to",
        1505 | 2601 | 2627 => "a row whose key is there already",
        2628 | 4863 | 8152 => "text or bytes longer than their column allows",
        4815 => "a value longer than its column allows",
        8134 => "a division by zero",
        _ => "a value that does not fit",
    };
    let mut text = what.to_owned();
    if let Some(column) = column(error) {
        text.push_str(&format!(", column \"{column}\""));
    }
    if let Some(name) = named(&error.message, &["constraint '", "constraint \"", "unique index '", "index '"]) {
        text.push_str(&format!(", constraint \"{name}\""));
    }
    if let Some(table) = named(&error.message, &["table '", "object '"]).filter(|table| !table.contains("_dmg_")) {
        text.push_str(&format!(", table \"{table}\""));
    }
    format!("{text} (error {})", error.number)
}

/// The column an English message names; other languages tell less.
fn column(error: &ServerError) -> Option<String> {
    match error.number {
        207 => named(&error.message, &["Invalid column name '"]),
        515 | 547 | 2628 => named(&error.message, &["column '"]),
        _ => None,
    }
}

/// What stands in quotes behind one of these words.
fn named(message: &str, behind: &[&str]) -> Option<String> {
    behind.iter().find_map(|word| {
        let rest = &message[message.find(word)? + word.len()..];
        let quote = word.chars().last()?;
        let name = &rest[..rest.find(quote)?];
        (!name.is_empty()).then(|| name.to_owned())
    })
}

/// The same as an error; the log gets the number, which quotes nothing.
pub(super) fn error(place: &str, error: &ServerError) -> Error {
    let cause = format!("error {}, state {}, class {}, line {}", error.number, error.state, error.class, error.line);
    Error::caused(fault(place, error), cause)
}

/// The server sends the log-in on to a host that nobody named.
pub(super) fn sent_on(place: &str, host: &str, port: u16) -> Fault {
    // The name comes from outside: it is shown, so it is kept short and of one line.
    let host: String = host.chars().filter(|c| !c.is_control()).take(255).collect();
    let message =
        format!("{place} sends its clients on to {host}:{port}, a host that the credential is not meant for.");
    let remedy = format!("If that host is meant, name it: redirectHosts={host}. Nothing was sent to it.");
    Fault::new("UserErrorCredentialBound", message).remedy(remedy).with("host", host)
}

/// The connection broke.
pub(super) fn broken(place: &str, cause: impl std::fmt::Display) -> Error {
    let message = format!("The connection to {place} broke.");
    Error::caused(Fault::new("NetworkErrorStoreUnreachable", message), cause.to_string())
}

/// Something answered that is not SQL Server, or its answer was damaged.
pub(super) fn garbled(place: &str, what: impl std::fmt::Display) -> Error {
    let message = format!("What answers as {place} does not speak SQL Server's protocol as it should.");
    Error::caused(Fault::new("StoreErrorAnswer", message), what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "SQL Server db01:1433";

    fn server(number: u32, message: &str) -> ServerError {
        ServerError { number, message: message.to_owned(), ..ServerError::default() }
    }

    #[test]
    fn numbers_become_codes() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0), "the table is in order of number, without doubles");
        for (number, code) in [
            (208, "UserErrorTableMissing"),
            (207, "UserErrorColumnMissing"),
            (2627, "UserErrorDuplicateKey"),
            (2601, "UserErrorDuplicateKey"),
            (515, "UserErrorValue"),
            (547, "UserErrorValue"),
            (8152, "UserErrorValue"),
            (2628, "UserErrorValue"),
            (1205, "StoreErrorConflict"),
            (1222, "StoreErrorConflict"),
            (18456, "UserErrorLoginRefused"),
            (4060, "UserErrorContainerMissing"),
            (229, "UserErrorPermission"),
            (9002, "StoreErrorNoSpace"),
            (3906, "UserErrorPermission"),
            (2812, "UserErrorProcedureMissing"),
            (201, "UserErrorSettings"),
            (8144, "UserErrorSettings"),
            (10928, "StoreErrorConflict"),
            (999_999, "UserErrorValue"),
            (7, "StoreErrorFailed"),
        ] {
            assert_eq!(fault(PLACE, &server(number, "x")).code, code, "{number}");
        }
    }

    #[test]
    fn a_refused_login_is_never_tried_again() {
        for number in [18452, 18456, 18470, 18486, 18487, 18488] {
            assert_eq!(fault(PLACE, &server(number, "Login failed.")).retry, Retry::AfterFix, "{number}");
        }
    }

    #[test]
    fn values_are_never_quoted() {
        for (number, message, expected) in [
            (
                2627,
                "Violation of PRIMARY KEY constraint 'PK_orders'. Cannot insert duplicate key in object 'dbo.orders'. \
                 The duplicate key value is (secret-value).",
                "SQL Server db01:1433 refused a value: a row whose key is there already, constraint \"PK_orders\", \
                 table \"dbo.orders\" (error 2627).",
            ),
            (
                2628,
                "String or binary data would be truncated in table 'sales.dbo.orders', column 'origin'. \
                 Truncated value: 'secret-value'.",
                "SQL Server db01:1433 refused a value: text or bytes longer than their column allows, column \
                 \"origin\", table \"sales.dbo.orders\" (error 2628).",
            ),
            (
                245,
                "Conversion failed when converting the varchar value 'secret-value' to data type int.",
                "SQL Server db01:1433 refused a value: text that is no value of its column's type (error 245).",
            ),
            (
                515,
                "Cannot insert the value NULL into column 'origin', table 'sales.dbo._dmg_1_1'; column does not \
                 allow nulls. INSERT fails.",
                "SQL Server db01:1433 refused a value: NULL in a column that does not allow it, column \"origin\" \
                 (error 515).",
            ),
            (
                50_001,
                "secret-value is too dear",
                "SQL Server db01:1433 refused a value: a trigger or procedure stopped it (error 50001).",
            ),
        ] {
            let fault = fault(PLACE, &server(number, message));
            assert_eq!(fault.message, expected);
            assert!(!format!("{fault:?}").contains("secret-value"), "{number}");
        }
    }

    #[test]
    fn what_a_called_procedure_raises_is_passed_on() {
        let fault = raised(PLACE, &server(50_001, "No slice to merge."));
        assert_eq!(fault.message, "The procedure ended with error 50001: No slice to merge.");
    }
}
