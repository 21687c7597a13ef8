//! The tables. One step per schema version, applied once, in order; a released step never changes.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use crate::{Error, Result};

const STEPS: &[&str] = &[STEP_1, STEP_2];

const STEP_1: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('epoch', 0), ('etag', 0);

CREATE TABLE factories (
  id TEXT PRIMARY KEY, name TEXT NOT NULL COLLATE NOCASE UNIQUE, subscription TEXT NOT NULL,
  resource_group TEXT NOT NULL, body TEXT NOT NULL, etag INTEGER NOT NULL, created INTEGER NOT NULL
) STRICT;

CREATE TABLE gateways (
  id TEXT PRIMARY KEY, factory TEXT NOT NULL REFERENCES factories ON DELETE CASCADE,
  name TEXT NOT NULL COLLATE NOCASE, body TEXT NOT NULL, generation1 INTEGER NOT NULL, generation2 INTEGER NOT NULL,
  certificate TEXT, etag INTEGER NOT NULL, created INTEGER NOT NULL, UNIQUE (factory, name)
) STRICT;

CREATE TABLE nodes (
  id TEXT PRIMARY KEY, gateway TEXT NOT NULL REFERENCES gateways ON DELETE CASCADE,
  name TEXT NOT NULL COLLATE NOCASE, machine TEXT NOT NULL, public_key TEXT NOT NULL, program TEXT NOT NULL,
  registered INTEGER NOT NULL, last_start INTEGER, last_connect INTEGER, status TEXT, jobs_limit INTEGER,
  UNIQUE (gateway, name)
) STRICT;

CREATE TABLE documents (
  factory TEXT NOT NULL REFERENCES factories ON DELETE CASCADE, kind TEXT NOT NULL,
  name TEXT NOT NULL COLLATE NOCASE, dialect TEXT NOT NULL, body TEXT NOT NULL, etag INTEGER NOT NULL,
  created INTEGER NOT NULL, changed INTEGER NOT NULL, PRIMARY KEY (factory, kind, name)
) STRICT;

CREATE TABLE pipeline_runs (
  id TEXT PRIMARY KEY, factory TEXT NOT NULL REFERENCES factories ON DELETE CASCADE, pipeline TEXT NOT NULL COLLATE NOCASE,
  parameters TEXT NOT NULL, run_group TEXT NOT NULL, status TEXT NOT NULL, message TEXT NOT NULL,
  cancel INTEGER NOT NULL, started INTEGER NOT NULL, ended INTEGER, changed INTEGER NOT NULL
) STRICT;
CREATE INDEX pipeline_runs_by_change ON pipeline_runs (factory, changed);
CREATE INDEX pipeline_runs_open ON pipeline_runs (id) WHERE ended IS NULL;

CREATE TABLE activity_runs (
  id TEXT PRIMARY KEY, run TEXT NOT NULL REFERENCES pipeline_runs ON DELETE CASCADE, ordinal INTEGER NOT NULL,
  definition TEXT NOT NULL, status TEXT NOT NULL, attempt INTEGER NOT NULL, queued INTEGER, started INTEGER,
  ended INTEGER, fault TEXT, output TEXT NOT NULL, changed INTEGER NOT NULL, UNIQUE (run, ordinal)
) STRICT;

CREATE TABLE jobs (
  id TEXT PRIMARY KEY, factory TEXT NOT NULL REFERENCES factories ON DELETE CASCADE,
  gateway TEXT NOT NULL REFERENCES gateways ON DELETE CASCADE, run TEXT NOT NULL UNIQUE, purpose TEXT NOT NULL,
  state TEXT NOT NULL, node TEXT, lease_until INTEGER, epoch INTEGER NOT NULL, not_before INTEGER NOT NULL,
  cancel INTEGER NOT NULL, releases INTEGER NOT NULL, command TEXT, job TEXT NOT NULL, plan TEXT, progress TEXT,
  outcome TEXT, queued INTEGER NOT NULL, taken INTEGER, ended INTEGER
) STRICT;
CREATE INDEX jobs_waiting ON jobs (gateway, not_before) WHERE state = 'queued';
CREATE INDEX jobs_held ON jobs (lease_until) WHERE state = 'held';

CREATE TABLE receipts (
  run TEXT PRIMARY KEY, factory TEXT NOT NULL REFERENCES factories ON DELETE CASCADE, receipt TEXT NOT NULL,
  stored INTEGER NOT NULL
) STRICT;
";

/// Looks into stores are forgotten by their age.
const STEP_2: &str = "CREATE INDEX jobs_looked ON jobs (ended) WHERE purpose = 'probe' AND state = 'done';";

/// Brings the database to this program's schema; refuses one from the future.
pub(crate) fn migrate(connection: &mut Connection) -> Result<()> {
    let known = STEPS.len() as i64;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let have: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).optional()?.unwrap_or(0);
    if have > known {
        return Err(Error::Newer(have, known));
    }
    for step in STEPS.iter().skip(have as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

/// The next number of a sequence; grows over the whole life of the database.
pub(crate) fn next(transaction: &rusqlite::Transaction<'_>, sequence: &str) -> Result<i64> {
    Ok(transaction.query_row(
        "UPDATE meta SET value = value + 1 WHERE name = ?1 RETURNING value",
        [sequence],
        |row| row.get(0),
    )?)
}

/// Reads a stored JSON text.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Damaged(what, error))
}

/// Reads a stored JSON text that may be absent.
pub(crate) fn parse_some<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: Option<String>,
) -> Result<Option<T>> {
    text.map(|text| parse(what, &text)).transpose()
}

/// Writes a JSON text.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("stored documents have string keys and always serialise")
}
