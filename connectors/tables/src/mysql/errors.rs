//! What the server reports, as a fault. One table by error number. The server's own words are passed on except where
//! they may quote a value of a row.

use dmg_connector::Error;
use dmg_protocol::{Fault, Retry};

use super::wire::Walk;

/// An error packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) number: u16,
    pub(super) message: String,
}

impl ServerError {
    /// Reads the body of an error packet, its first byte included.
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut walk = Walk(body.get(1..).unwrap_or(&[]));
        let number = walk.short().unwrap_or(0);
        let text = walk.0;
        // Before the log-in there is no state.
        let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or(&[]) } else { text };
        ServerError { number, message: String::from_utf8_lossy(text).into_owned() }
    }
}

/// Errors that mean a value did not fit, and what they say without the value.
const VALUES: &[(u16, &str)] = &[
    (1048, "NULL in a column that does not allow it"),
    (1062, "a row whose key is there already"),
    (1169, "a row whose key is there already"),
    (1216, "a row whose foreign key points nowhere"),
    (1217, "a row to which others still point"),
    (1261, "a row with too few values"),
    (1262, "a row with too many values"),
    (1263, "NULL in a column that does not allow it"),
    (1264, "a number or moment outside the range of its column"),
    (1265, "a value longer or finer than its column allows"),
    (1292, "a value that is no date, time or number"),
    (1364, "a column without a default that gets no value"),
    (1365, "a division by zero"),
    (1366, "text with characters its column cannot store, or no number"),
    (1367, "text that is no value of its column's type"),
    (1406, "a value longer than its column allows"),
    (1411, "a value that cannot be converted"),
    (1416, "octets that are no geometry"),
    (1451, "a row to which others still point"),
    (1452, "a row whose foreign key points nowhere"),
    (1526, "a row for which the table has no partition"),
    (1586, "a row whose key is there already"),
    (1644, "a trigger or procedure stopped it"),
    (1690, "a number outside the range of its column"),
    (1906, "a generated column that would be written to"),
    (3140, "text that is no JSON"),
    (3819, "a row that breaks a check"),
    (4025, "a row that breaks a check"),
    (4078, "a value of another type"),
];

/// All other error numbers and the fault code they become.
const CODES: &[(u16, &str)] = &[
    (1021, "StoreErrorNoSpace"),
    (1037, "StoreErrorFailed"),
    (1040, "StoreErrorConflict"),
    (1042, "NetworkErrorStoreUnreachable"),
    (1044, "UserErrorPermission"),
    (1045, "UserErrorLoginRefused"),
    (1046, "UserErrorSettings"),
    (1049, "UserErrorContainerMissing"),
    (1051, "UserErrorTableMissing"),
    (1053, "NetworkErrorStoreUnreachable"),
    (1054, "UserErrorColumnMissing"),
    (1056, "UserErrorSettings"),
    (1059, "UserErrorName"),
    (1060, "UserErrorSettings"),
    (1064, "UserErrorSettings"),
    (1075, "UserErrorSettings"),
    (1103, "UserErrorName"),
    (1109, "UserErrorTableMissing"),
    (1114, "StoreErrorNoSpace"),
    (1129, "StoreErrorConflict"),
    (1130, "UserErrorLoginRefused"),
    (1142, "UserErrorPermission"),
    (1143, "UserErrorPermission"),
    (1146, "UserErrorTableMissing"),
    (1152, "NetworkErrorStoreUnreachable"),
    (1153, "UserErrorBudgetExceeded"),
    (1203, "StoreErrorConflict"),
    (1205, "StoreErrorConflict"),
    (1206, "StoreErrorConflict"),
    (1213, "StoreErrorConflict"),
    (1222, "UserErrorSettings"),
    (1226, "StoreErrorConflict"),
    (1227, "UserErrorPermission"),
    (1235, "UserErrorNotSupported"),
    (1290, "UserErrorPermission"),
    (1305, "UserErrorProcedureMissing"),
    (1317, "NetworkErrorStoreUnreachable"),
    (1318, "UserErrorProcedureMissing"),
    (1356, "UserErrorSettings"),
    (1370, "UserErrorPermission"),
    (1414, "UserErrorProcedureMissing"),
    (1698, "UserErrorLoginRefused"),
    (1792, "UserErrorSettings"),
    (1820, "UserErrorLoginRefused"),
    (1836, "UserErrorPermission"),
    (1862, "UserErrorLoginRefused"),
    (1927, "NetworkErrorStoreUnreachable"),
    (1969, "StoreErrorConflict"),
    (3024, "StoreErrorConflict"),
    (3118, "UserErrorLoginRefused"),
    (3159, "NetworkErrorTls"),
    (4031, "NetworkErrorStoreUnreachable"),
    (4151, "UserErrorLoginRefused"),
];

/// The fault for an error the server reported.
pub(super) fn fault(place: &str, error: &ServerError) -> Fault {
    let number = error.number;
    if let Some((_, what)) = VALUES.iter().find(|(known, _)| *known == number) {
        let code = if matches!(number, 1062 | 1169 | 1586) { "UserErrorDuplicateKey" } else { "UserErrorValue" };
        return value(code, place, number, what, &error.message);
    }
    let code = CODES.iter().find(|(known, _)| *known == number).map_or("StoreErrorFailed", |(_, code)| *code);
    let mut message = format!("{place} reports: {} (error {number})", error.message);
    if !message.ends_with('.') {
        message.push('.');
    }
    let fault = Fault::new(code, message).with("errorNumber", number);
    match number {
        1040 | 1203 | 1226 => fault.remedy("Wait until connections are free, or raise max_connections."),
        1129 => fault.remedy("Run mariadb-admin flush-hosts at the server; it counted too many failed connections."),
        1153 => fault.remedy("Raise max_allowed_packet at the server."),
        1205 => fault.remedy("Run again when no other transaction holds the rows or the table."),
        1213 => fault.remedy("Run again; the server ended one of two transactions that waited for each other."),
        1290 | 1836 => fault.remedy("Write to a server that is not read-only."),
        1317 | 1927 | 1053 | 1152 => fault.remedy("Run again; the server or an administrator ended the session."),
        1064 | 1222 => fault.remedy("Correct the query or script the message speaks of."),
        1792 => fault.remedy("Name a query that only reads."),
        3159 => fault.remedy("Set sslMode to require; the server takes encrypted connections only."),
        _ => fault,
    }
}

/// The fault for an error that a procedure the author called has signalled: its words are meant for the author.
pub(super) fn raised(error: &ServerError) -> Fault {
    let words = error.message.trim().trim_end_matches('.');
    Fault::new("StoreErrorFailed", format!("The procedure ended with error {}: {words}.", error.number))
        .retry(Retry::AfterFix)
        .remedy("Look into the procedure; the message is its own.")
        .with("errorNumber", error.number)
}

/// What was wrong with a value, without the value: column, row and key are taken out of the server's words.
fn value(code: &str, place: &str, number: u16, what: &str, words: &str) -> Fault {
    let mut text = format!("{place} refused a value: {what}");
    let column = after(words, "column ").or_else(|| after(words, "Column ")).or_else(|| after(words, "Field "));
    if let Some(column) = &column {
        text.push_str(&format!(", column \"{column}\""));
    }
    if let Some(key) = after(words, "for key ") {
        text.push_str(&format!(", key \"{key}\""));
    }
    if let Some(constraint) = after(words, "CONSTRAINT ").filter(|_| matches!(number, 4025 | 3819 | 1451 | 1452)) {
        text.push_str(&format!(", constraint \"{constraint}\""));
    }
    let row = words.rsplit_once(" at row ").and_then(|(_, row)| row.trim().parse::<u64>().ok());
    if let Some(row) = row {
        text.push_str(&format!(", row {row} of its part"));
    }
    let mut fault = Fault::new(code, format!("{text} (error {number}).")).with("errorNumber", number);
    if let Some(column) = column {
        fault = fault.with("column", column);
    }
    if let Some(row) = row {
        fault = fault.with("row", row);
    }
    fault
}

/// The name in quotes that follows the last such word. The server quotes values in the same way, so the word must
/// stand directly before it; `a`.`b`.`c` gives `c`.
fn after(words: &str, word: &str) -> Option<String> {
    let rest = words.rsplit_once(word)?.1;
    let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '`'))?;
    let mut name = String::new();
    for piece in rest.split('.') {
        let piece = piece.strip_prefix(quote)?;
        let (inner, behind) = piece.split_once(quote)?;
        name = inner.to_owned();
        if !behind.is_empty() || piece.ends_with(quote) && !rest.contains(&format!("{quote}.{quote}")) {
            break;
        }
    }
    (!name.is_empty()).then_some(name)
}

/// The same as an error; the log gets the number, which quotes nothing.
pub(super) fn error(place: &str, error: &ServerError) -> Error {
    let cause = format!("error {} from {place}", error.number);
    Error::caused(fault(place, error), cause)
}

/// The connection broke.
pub(super) fn broken(place: &str, cause: std::io::Error) -> Error {
    let message = format!("The connection to {place} broke.");
    Error::caused(Fault::new("NetworkErrorStoreUnreachable", message), cause)
}

/// Something answered that is neither MariaDB nor MySQL, or its answer was damaged.
pub(super) fn garbled(place: &str, what: &str) -> Error {
    let message = format!("What answers as {place} does not speak MySQL's protocol: {what}.");
    Fault::new("StoreErrorAnswer", message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: u16, message: &str) -> Fault {
        fault("MariaDB db01:3306", &ServerError { number, message: message.into() })
    }

    #[test]
    fn numbers_become_codes() {
        for (number, code) in [
            (1045, "UserErrorLoginRefused"),
            (1049, "UserErrorContainerMissing"),
            (1146, "UserErrorTableMissing"),
            (1054, "UserErrorColumnMissing"),
            (1142, "UserErrorPermission"),
            (1064, "UserErrorSettings"),
            (1406, "UserErrorValue"),
            (1062, "UserErrorDuplicateKey"),
            (1114, "StoreErrorNoSpace"),
            (1205, "StoreErrorConflict"),
            (1213, "StoreErrorConflict"),
            (1040, "StoreErrorConflict"),
            (1927, "NetworkErrorStoreUnreachable"),
            (9999, "StoreErrorFailed"),
        ] {
            assert_eq!(check(number, "x").code, code, "{number}");
        }
    }

    #[test]
    fn values_are_never_quoted() {
        for (number, words, expected) in [
            (
                1366,
                "Incorrect string value: '\\xF0secret' for column `d`.`_dmg_1_1`.`t` at row 7",
                "text with characters its column cannot store, or no number, column \"t\", row 7 of its part (error 1366).",
            ),
            (
                1062,
                "Duplicate entry 'secret' for key 'PRIMARY'",
                "a row whose key is there already, key \"PRIMARY\" (error 1062).",
            ),
            (
                1406,
                "Data too long for column 'v' at row 2",
                "a value longer than its column allows, column \"v\", row 2 of its part (error 1406).",
            ),
            (1048, "Column 'c' cannot be null", "NULL in a column that does not allow it, column \"c\" (error 1048)."),
            (
                1292,
                "Incorrect datetime value: 'secret' for column `d`.`t`.`at` at row 1",
                "a value that is no date, time or number, column \"at\", row 1 of its part (error 1292).",
            ),
            (
                4025,
                "CONSTRAINT `positive` failed for `d`.`t`",
                "a row that breaks a check, constraint \"positive\" (error 4025).",
            ),
        ] {
            let fault = check(number, words);
            assert_eq!(fault.message, format!("MariaDB db01:3306 refused a value: {expected}"));
            assert!(!format!("{fault:?}").contains("secret"));
        }
    }

    #[test]
    fn an_error_packet_with_and_without_state() {
        let parsed = ServerError::parse(b"\xff\x15\x04#28000Access denied");
        assert_eq!(parsed, ServerError { number: 1045, message: "Access denied".into() });
        assert_eq!(ServerError::parse(b"\xff\x10\x04Too many connections").message, "Too many connections");
        assert_eq!(ServerError::parse(b"\xff"), ServerError::default());
    }
}
