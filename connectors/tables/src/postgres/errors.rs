//! What the server reports, as a fault. One table by SQLSTATE. The server's own words are passed on except where
//! they may quote a value of a row.

use dmg_connector::Error;
use dmg_protocol::{Fault, Retry};

/// The fields of an ErrorResponse that we use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) severity: String,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) table: Option<String>,
    pub(super) column: Option<String>,
    pub(super) constraint: Option<String>,
    /// For broken keys: `Key (id)=(5) already exists.`
    detail: Option<String>,
    /// What the author of a procedure suggests.
    hint: Option<String>,
    /// Where in a COPY it happened; quotes the value, so only line and column are ever taken out of it.
    context: Option<String>,
    /// The server's own function that reported it.
    routine: Option<String>,
}

impl ServerError {
    /// Reads the fields of the message body.
    pub(super) fn parse(mut body: &[u8]) -> Self {
        let mut error = ServerError::default();
        while let Some((&field, rest)) = body.split_first() {
            let Some(end) = rest.iter().position(|byte| *byte == 0) else { break };
            let text = String::from_utf8_lossy(&rest[..end]).into_owned();
            match field {
                b'V' => error.severity = text,
                b'C' => error.code = text,
                b'M' => error.message = text,
                b't' => error.table = Some(text),
                b'c' => error.column = Some(text),
                b'n' => error.constraint = Some(text),
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                b'W' => error.context = Some(text),
                b'R' => error.routine = Some(text),
                _ => {}
            }
            body = &rest[end + 1..];
        }
        error
    }

    /// The key that is there twice, or points nowhere: without it nobody finds the row.
    fn key(&self) -> Option<&str> {
        let detail = self.detail.as_deref().filter(|_| matches!(self.code.as_str(), "23505" | "23503" | "23P01"))?;
        let key = detail.strip_prefix("Key ")?;
        let end = [") already exists", ") is duplicated", ") is not present", ") is still referenced", ") conflicts"];
        let end = end.iter().find_map(|end| key.find(end))? + 1;
        Some(&key[..end]).filter(|key| key.len() <= KEY_BYTES_MAX)
    }

    /// Whether a procedure raised it by itself, whatever state it chose.
    pub(super) fn is_raised(&self) -> bool {
        self.code == "P0001" || matches!(self.routine.as_deref(), Some("exec_stmt_raise" | "exec_stmt_assert"))
    }

    /// Line and column of the COPY statement the error happened in: `COPY t, line 5, column b: "..."`.
    fn copy_place(&self) -> (Option<u64>, Option<String>) {
        let Some(context) = &self.context else { return (None, None) };
        let line = context.split(", line ").nth(1).and_then(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        let column = context.split(", column ").nth(1).and_then(|rest| rest.split(':').next()).map(str::to_owned);
        (line, column)
    }
}

/// Most bytes of a key that a message names.
const KEY_BYTES_MAX: usize = 300;
/// Most characters of each text that a procedure raises.
const RAISED_CHARACTERS_MAX: usize = 2000;

/// SQLSTATE (or its first two characters) and the fault code it becomes. The first match counts.
const CODES: &[(&str, &str)] = &[
    ("28", "UserErrorLoginRefused"),
    ("3D000", "UserErrorContainerMissing"),
    ("3F000", "UserErrorContainerMissing"),
    ("42P01", "UserErrorTableMissing"),
    ("42703", "UserErrorColumnMissing"),
    ("42501", "UserErrorPermission"),
    ("25006", "UserErrorPermission"),
    ("42", "UserErrorSettings"),
    ("0A", "UserErrorSettings"),
    ("22", "UserErrorValue"),
    ("23505", "UserErrorDuplicateKey"),
    ("23", "UserErrorValue"),
    ("54", "UserErrorValue"),
    ("P0001", "UserErrorValue"),
    ("53100", "StoreErrorNoSpace"),
    ("53200", "StoreErrorFailed"),
    ("53300", "StoreErrorConflict"),
    ("55P03", "StoreErrorConflict"),
    ("55006", "StoreErrorConflict"),
    ("40", "StoreErrorConflict"),
    ("57P", "NetworkErrorStoreUnreachable"),
    ("08", "NetworkErrorStoreUnreachable"),
];

/// The fault for an error the server reported.
pub(super) fn fault(place: &str, error: &ServerError) -> Fault {
    let code =
        CODES.iter().find(|(state, _)| error.code.starts_with(state)).map_or("StoreErrorFailed", |(_, code)| *code);
    let quotes_values = ["22", "23", "P0"].iter().any(|class| error.code.starts_with(class));
    let mut message = if quotes_values {
        format!("{place} refused a value: {}", refusal(error))
    } else {
        format!("{place} reports: {}", error.message)
    };
    if !message.ends_with('.') {
        message.push('.');
    }
    let mut fault = Fault::new(code, message).with("sqlState", &error.code);
    if let Some(column) = error.column.clone().or_else(|| error.copy_place().1) {
        fault = fault.with("column", column);
    }
    match error.code.as_str() {
        "22012" => fault.remedy("Correct the query; it divides by zero."),
        state if state.starts_with("57P") => fault.remedy("Run again; the server ended the session."),
        "53300" => fault.remedy("Wait until connections are free, or raise max_connections."),
        "3F000" => fault.remedy("Check the schema name or create the schema."),
        state if state.starts_with("42") && code == "UserErrorSettings" => {
            fault.remedy("Correct the query or script the message speaks of.")
        }
        _ => fault,
    }
}

/// The fault for an error that a procedure the author called has raised: its words are meant for the author.
pub(super) fn raised(error: &ServerError) -> Fault {
    let sentence = |text: &str| format!(" {}.", cut(text.trim()).trim_end_matches('.'));
    let mut message = format!("The procedure ended with error {}:{}", error.code, sentence(&error.message));
    for text in [&error.detail, &error.hint].into_iter().flatten() {
        message.push_str(&sentence(text));
    }
    Fault::new("StoreErrorFailed", message)
        .retry(Retry::AfterFix)
        .remedy("Look into the procedure; the message is its own.")
        .with("sqlState", &error.code)
}

/// The beginning of a text that is too long for a message.
fn cut(text: &str) -> &str {
    text.char_indices().nth(RAISED_CHARACTERS_MAX).map_or(text, |(end, _)| &text[..end])
}

/// What was wrong with a value, without the value.
fn refusal(error: &ServerError) -> String {
    let (line, column) = error.copy_place();
    let what = match error.code.as_str() {
        "22001" => "text longer than its column allows",
        "22003" => "a number outside the range of its column",
        "22007" | "22008" | "22009" => "a date or time it cannot take",
        "22P02" | "22P03" => "text that is no value of its column's type",
        "22021" | "22P05" => "text with characters it cannot store",
        "22012" => "a division by zero",
        "23502" => "NULL in a column that does not allow it",
        "23503" => "a row whose foreign key points nowhere, or to which others still point",
        "23505" => "a row whose key is there already",
        "23514" => "a row that breaks a check",
        "23P01" => "a row that breaks an exclusion constraint",
        "P0001" => "a trigger or function stopped it",
        _ => "a value that does not fit",
    };
    let mut text = what.to_owned();
    if let Some(column) = error.column.clone().or(column) {
        text.push_str(&format!(", column \"{column}\""));
    }
    if let Some(table) = error.table.as_ref().filter(|table| !table.starts_with("_dmg_")) {
        text.push_str(&format!(", table \"{table}\""));
    }
    if let Some(constraint) = &error.constraint {
        text.push_str(&format!(", constraint \"{constraint}\""));
    }
    if let Some(key) = error.key() {
        text.push_str(&format!(", key {key}"));
    }
    if let Some(line) = line {
        text.push_str(&format!(", row {line} of its part"));
    }
    format!("{text} (SQLSTATE {})", error.code)
}

/// The same as an error; the log gets the state, which quotes nothing.
pub(super) fn error(place: &str, error: &ServerError) -> Error {
    let cause = format!("{} {}", error.severity, error.code);
    Error::caused(fault(place, error), cause)
}

/// The connection broke.
pub(super) fn broken(place: &str, cause: std::io::Error) -> Error {
    let message = format!("The connection to {place} broke.");
    Error::caused(Fault::new("NetworkErrorStoreUnreachable", message), cause)
}

/// Something answered that is not PostgreSQL, or its answer was damaged.
pub(super) fn garbled(place: &str, what: &str) -> Error {
    let message = format!("What answers as {place} does not speak PostgreSQL's protocol: {what}.");
    Fault::new("StoreErrorAnswer", message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fields: &[(u8, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (field, text) in fields {
            body.push(*field);
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        body
    }

    #[test]
    fn states_become_codes() {
        for (state, code) in [
            ("28P01", "UserErrorLoginRefused"),
            ("28000", "UserErrorLoginRefused"),
            ("3D000", "UserErrorContainerMissing"),
            ("42P01", "UserErrorTableMissing"),
            ("42703", "UserErrorColumnMissing"),
            ("42501", "UserErrorPermission"),
            ("42601", "UserErrorSettings"),
            ("22001", "UserErrorValue"),
            ("23505", "UserErrorDuplicateKey"),
            ("23514", "UserErrorValue"),
            ("53100", "StoreErrorNoSpace"),
            ("55P03", "StoreErrorConflict"),
            ("40P01", "StoreErrorConflict"),
            ("40001", "StoreErrorConflict"),
            ("57P01", "NetworkErrorStoreUnreachable"),
            ("XX000", "StoreErrorFailed"),
        ] {
            let error = ServerError { code: state.into(), ..ServerError::default() };
            assert_eq!(fault("PostgreSQL db01:5432", &error).code, code, "{state}");
        }
    }

    #[test]
    fn a_broken_key_is_named() {
        let body = body(&[
            (b'C', "23505"),
            (b'M', "duplicate key value violates unique constraint \"t_pkey\""),
            (b'D', "Key (a, b)=(5, x) already exists."),
            (b't', "t"),
            (b'n', "t_pkey"),
        ]);
        let fault = fault("PostgreSQL db01:5432", &ServerError::parse(&body));
        assert_eq!(
            fault.message,
            "PostgreSQL db01:5432 refused a value: a row whose key is there already, table \"t\", constraint \"t_pkey\", \
             key (a, b)=(5, x) (SQLSTATE 23505)."
        );
    }

    #[test]
    fn what_a_called_procedure_raises_is_passed_on() {
        let fields =
            [(b'C', "22012"), (b'M', "no slice"), (b'D', "Day 5."), (b'H', "Load it"), (b'R', "exec_stmt_raise")];
        let error = ServerError::parse(&body(&fields));
        assert!(error.is_raised());
        let raised = raised(&error);
        assert_eq!(raised.message, "The procedure ended with error 22012: no slice. Day 5. Load it.");
        assert!(!ServerError::parse(&body(&[(b'C', "22012"), (b'R', "int4div")])).is_raised());
    }

    #[test]
    fn values_are_never_quoted() {
        let body = body(&[
            (b'V', "ERROR"),
            (b'C', "22P02"),
            (b'M', "invalid input syntax for type integer: \"secret-value\""),
            (b'W', "COPY _dmg_1_1, line 5, column b: \"secret-value\""),
        ]);
        let fault = fault("PostgreSQL db01:5432", &ServerError::parse(&body));
        assert_eq!(
            fault.message,
            "PostgreSQL db01:5432 refused a value: text that is no value of its column's type, column \"b\", \
             row 5 of its part (SQLSTATE 22P02)."
        );
        assert_eq!(fault.context["column"], "b");
        assert!(!format!("{fault:?}").contains("secret-value"));
    }
}
