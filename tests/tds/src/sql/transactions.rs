//! Transactions and the options of a session: BEGIN to ROLLBACK, what is undone with a failed statement, SET.

use super::parse::Parsed;
use super::run::Done;
use super::tree::*;
use crate::errors::SqlError;
use crate::out::Out;
use crate::session::{Isolation, Session};

/// Options that change nothing here.
const HARMLESS: &[&str] = &[
    "ANSI_NULLS",
    "ANSI_NULL_DFLT_ON",
    "ANSI_NULL_DFLT_OFF",
    "ANSI_PADDING",
    "ANSI_WARNINGS",
    "ANSI_DEFAULTS",
    "ARITHABORT",
    "ARITHIGNORE",
    "CONCAT_NULL_YIELDS_NULL",
    "CURSOR_CLOSE_ON_COMMIT",
    "DATEFIRST",
    "DATEFORMAT",
    "DEADLOCK_PRIORITY",
    "LANGUAGE",
    "NUMERIC_ROUNDABORT",
    "QUOTED_IDENTIFIER",
    "TEXTSIZE",
    "STATISTICS",
    "CONTEXT_INFO",
    "QUERY_GOVERNOR_COST_LIMIT",
    "ROWCOUNT",
    "NO_BROWSETABLE",
];

impl Session {
    /// Runs a part that writes: alone it is its own transaction, inside one it is undone alone.
    pub(crate) fn in_statement<T>(
        &mut self,
        out: &mut Out,
        part: impl FnOnce(&mut Self, &mut Out) -> Done<T>,
    ) -> Done<T> {
        if self.doomed {
            return Err(SqlError::new(3930, "The current transaction cannot be committed and cannot support operations that write to the log file. Roll back the transaction.").into());
        }
        if self.implicit && self.transactions == 0 {
            self.begin_told(out);
        }
        let alone = self.before_write(out)?;
        if !alone {
            self.db.execute_batch("SAVEPOINT fx_statement")?;
        }
        let result = part(self, out);
        match (&result, alone) {
            (Ok(_), true) => self.end(true)?,
            (Ok(_), false) => self.db.execute_batch("RELEASE fx_statement")?,
            (Err(_), true) => self.abandon(),
            // The error may have ended the transaction already.
            (Err(_), false) if self.opened => {
                self.db.execute_batch("ROLLBACK TO fx_statement; RELEASE fx_statement")?;
            }
            (Err(_), false) => {}
        }
        result
    }

    pub(crate) fn begin_told(&mut self, out: &mut Out) {
        self.transactions += 1;
        self.server.opened(self.id, self.transactions);
        if self.transactions == 1 {
            self.transaction_id += 1;
            out.environment_bytes(8, &1_u64.to_le_bytes(), &[]);
        }
    }

    pub(crate) fn commit_told(&mut self, out: &mut Out) -> Done<()> {
        if self.transactions == 0 {
            return Err(
                SqlError::new(3902, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.").into()
            );
        }
        if self.doomed {
            self.roll_back_told(out);
            return Err(
                SqlError::new(3930, "The current transaction cannot be committed. Roll back the transaction.").into()
            );
        }
        if self.transactions > 1 {
            self.transactions -= 1;
            return Ok(());
        }
        self.end(true)?;
        out.environment_bytes(9, &[], &1_u64.to_le_bytes());
        Ok(())
    }

    pub(super) fn run_transaction(&mut self, kind: &Kind, out: &mut Out) -> Done<()> {
        match kind {
            Kind::Begin(_) => self.begin_told(out),
            Kind::Commit => self.commit_told(out)?,
            Kind::Save(name) => {
                if self.transactions == 0 {
                    return Err(SqlError::new(
                        628,
                        "Cannot issue SAVE TRANSACTION when there is no active transaction.",
                    )
                    .into());
                }
                self.before_write(out)?;
                self.db.execute_batch(&format!("SAVEPOINT {}", super::scope::quoted(&format!("save {name}"))))?;
            }
            Kind::Rollback(name) => {
                if self.transactions == 0 {
                    return Err(SqlError::new(
                        3903,
                        "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.",
                    )
                    .into());
                }
                if let Some(name) = name {
                    let point = super::scope::quoted(&format!("save {name}"));
                    if self.opened && self.db.execute_batch(&format!("ROLLBACK TO {point}")).is_ok() {
                        return Ok(());
                    }
                }
                self.roll_back_told(out);
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn set_option(&mut self, option: &str, words: &[String]) -> Parsed<()> {
        let word = |at: usize| words.get(at).map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        let on = words.last().is_some_and(|word| word.eq_ignore_ascii_case("ON"));
        match option {
            "NOCOUNT" => self.no_count = on,
            "XACT_ABORT" => self.abort_on_error = on,
            "IMPLICIT_TRANSACTIONS" => self.implicit = on,
            "FMTONLY" => self.format_only = on,
            "NOEXEC" | "PARSEONLY" => self.no_execute = on,
            "ROWCOUNT" => self.row_limit = word(0).parse().unwrap_or(0),
            "LOCK_TIMEOUT" => {
                let limit: i64 = word(0).parse().map_err(|_| SqlError::syntax(&word(0)))?;
                self.lock_timeout = u64::try_from(limit).ok();
            }
            "TRANSACTION" => {
                self.isolation = match word(3).as_str() {
                    _ if word(2) == "SNAPSHOT" || word(1) == "SNAPSHOT" => Isolation::Snapshot,
                    _ if words.iter().any(|word| word == "SNAPSHOT") => Isolation::Snapshot,
                    _ if words.iter().any(|word| word == "SERIALIZABLE" || word == "REPEATABLE") => Isolation::Strict,
                    _ if words.iter().any(|word| word == "COMMITTED" || word == "UNCOMMITTED") => Isolation::Committed,
                    _ => return Err(SqlError::syntax("ISOLATION LEVEL")),
                };
            }
            "IDENTITY_INSERT" => {
                let mut parts: Vec<String> = words[..words.len().saturating_sub(1)].to_vec();
                let object = parts.pop().unwrap_or_default();
                let name = Name { database: None, schema: parts.pop(), object };
                let table = self.target(&Target::Table(name))?;
                if on && !table.columns.iter().any(|column| column.identity.is_some()) {
                    return Err(SqlError::new(
                        8106,
                        format!(
                            "Table '{}' does not have the identity property. Cannot perform SET operation.",
                            table.name
                        ),
                    ));
                }
                self.identity_insert = on.then_some(table.object_id);
            }
            other if HARMLESS.contains(&other) => {}
            other => return Err(SqlError::unknown(&format!("SET {other}"))),
        }
        Ok(())
    }
}
