//! The server's errors by number, as texts of SQL Server, and what ends a request.

use std::io;

use crate::read::WireError;

/// An error message, or with a class of at most ten a notice.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{number}: {message}")]
pub struct SqlError {
    /// The number clients know it by.
    pub number: i32,
    /// State
    pub state: u8,
    /// Severity; up to 10 a notice.
    pub class: u8,
    /// The text.
    pub message: String,
    /// The line of the batch.
    pub line: u32,
    /// The procedure it happened in.
    pub procedure: String,
}

impl SqlError {
    /// An error of class 16, which a statement may go on after.
    pub fn new(number: i32, message: impl Into<String>) -> Self {
        let class = match number {
            18456 => 14,
            4060 => 11,
            1205 => 13,
            2627 | 2601 => 14,
            102 | 156 | 137 | 319 | 105 => 15,
            229 => 14,
            40613 | 40197 | 40501 => 17,
            _ => 16,
        };
        Self { number, state: 1, class, message: message.into(), line: 1, procedure: String::new() }
    }

    pub(crate) fn info(number: i32, message: impl Into<String>) -> Self {
        Self { class: if number == 0 { 0 } else { 10 }, ..Self::new(number, message) }
    }

    /// Whether the rest of the batch is not run.
    pub(crate) fn ends_batch(&self) -> bool {
        self.class >= 17
            || matches!(
                self.number,
                102 | 156 | 105 | 137 | 207 | 208 | 209 | 241 | 245 | 1205 | 3960 | 8114 | 8115 | 8152 | 4104 | 295
            )
    }

    /// Whether the transaction is gone with it.
    pub(crate) fn ends_transaction(&self) -> bool {
        matches!(self.number, 1205 | 3960 | 9002)
    }

    pub(crate) fn at_line(mut self, line: u32) -> Self {
        if self.line <= 1 {
            self.line = line;
        }
        self
    }

    pub(crate) fn syntax(near: &str) -> Self {
        Self::new(102, format!("Incorrect syntax near '{near}'."))
    }

    /// What the front end does not know is an error that says so, never a silent success.
    pub(crate) fn unknown(statement: &str) -> Self {
        let shown: String = statement.chars().take(200).collect();
        Self::new(102, format!("Incorrect syntax near '{shown}'. (This server does not know the statement.)"))
    }

    pub(crate) fn no_object(name: &str) -> Self {
        Self::new(208, format!("Invalid object name '{name}'."))
    }

    pub(crate) fn no_column(name: &str) -> Self {
        Self::new(207, format!("Invalid column name '{name}'."))
    }

    pub(crate) fn no_procedure(name: &str) -> Self {
        Self::new(2812, format!("Could not find stored procedure '{name}'."))
    }

    pub(crate) fn deadlock() -> Self {
        Self::new(
            1205,
            "Transaction (Process ID 51) was deadlocked on lock resources with another process and has been chosen as the \
             deadlock victim. Rerun the transaction.",
        )
    }

    /// Carries the error through SQLite, which keeps only a text.
    pub(crate) fn packed(&self) -> String {
        format!("\u{1}{}\u{1}{}\u{1}{}\u{1}{}", self.number, self.state, self.class, self.message)
    }

    fn unpacked(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('\u{1}')?.splitn(4, '\u{1}');
        let number = parts.next()?.parse().ok()?;
        let (state, class) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { state, class, ..Self::new(number, parts.next()?) })
    }
}

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        let text = match &error {
            rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
            rusqlite::Error::UserFunctionError(inner) => inner.to_string(),
            rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
            other => other.to_string(),
        };
        if let Some(error) = Self::unpacked(&text) {
            return error;
        }
        if let Some(name) = text.strip_prefix("no such table: ") {
            return Self::no_object(name.trim_start_matches("main.").trim_start_matches("temp."));
        }
        if let Some(columns) = text.strip_prefix("UNIQUE constraint failed: ") {
            return duplicate(columns);
        }
        if let Some(index) = text.strip_prefix("UNIQUE constraint failed: index ") {
            return duplicate(index);
        }
        if let Some(column) = text.strip_prefix("NOT NULL constraint failed: ") {
            let (table, column) = column.rsplit_once('.').unwrap_or(("", column));
            return Self::new(
                515,
                format!(
                    "Cannot insert the value NULL into column '{column}', table '{table}'; column does not allow nulls. \
                     The statement fails."
                ),
            );
        }
        if let Some(name) = text.strip_prefix("CHECK constraint failed: ") {
            return Self::new(547, format!("The statement conflicted with the CHECK constraint \"{name}\"."));
        }
        if text.contains("FOREIGN KEY constraint failed") {
            return Self::new(547, "The statement conflicted with the FOREIGN KEY constraint.");
        }
        if let rusqlite::Error::SqliteFailure(code, _) = &error {
            match code.extended_code {
                517 => {
                    return Self::new(
                        3960,
                        "Snapshot isolation transaction aborted due to update conflict. Retry the transaction.",
                    );
                }
                code if code & 0xFF == 5 || code & 0xFF == 6 => {
                    return Self::new(1222, "Lock request time out period exceeded.");
                }
                code if code & 0xFF == 13 => {
                    return Self::new(9002, "The transaction log for database 'fixture' is full due to 'LOG_BACKUP'.");
                }
                _ => {}
            }
        }
        Self::new(50_000, format!("The fixture's store says: {text}"))
    }
}

fn duplicate(columns: &str) -> SqlError {
    let table = columns.split(", ").next().and_then(|first| first.rsplit_once('.')).map_or("", |(table, _)| table);
    SqlError::new(
        2627,
        format!(
            "Violation of PRIMARY KEY constraint. Cannot insert duplicate key in object '{table}'. The duplicate key is in \
             columns ({columns})."
        ),
    )
}

/// What ends a request.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error the client is told, or a TRY block catches.
    Sql(SqlError),
    /// The client cancelled.
    Attention,
    /// The connection is of no more use.
    Wire(WireError),
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error.into())
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Wire(error.into())
    }
}
