//! What the fuzzers of `tests/fuzz` feed: decoders of what servers send. Behind a feature; nothing else uses it.

/// Rows of PostgreSQL's binary COPY.
pub fn postgres_copy(data: &[u8]) {
    crate::postgres::fuzz::copy(data);
}

/// Where to start.
pub fn postgres_copy_seeds() -> Vec<Vec<u8>> {
    crate::postgres::fuzz::seeds()
}

/// Rows of a text result of MariaDB or MySQL.
pub fn mysql_rows(data: &[u8]) {
    crate::mysql::fuzz::rows(data);
}

/// Where to start.
pub fn mysql_rows_seeds() -> Vec<Vec<u8>> {
    crate::mysql::fuzz::seeds()
}

/// Answers of SQL Server to a query, through the driver.
pub fn sql_server_answer(data: &[u8]) {
    crate::sql_server::fuzz::answer(data);
}

/// Where to start.
pub fn sql_server_answer_seeds() -> Vec<Vec<u8>> {
    crate::sql_server::fuzz::seeds()
}
