//! Finds the staged rows that the table would refuse, by trying: each goes into the table by itself, in the order of the
//! source, in a transaction that is then undone. SQLite says of each row what is wrong with it, so nothing has to be
//! known here of keys, checks, foreign keys or triggers.

use dmg_connector::{Error, ROW_COLUMN, Refused, Result, Rule};
use dmg_protocol::{Fault, WriteMode};
use rusqlite::types::Value;
use rusqlite::{CachedStatement, Connection, ffi, params};

use super::commit;
use super::target::{Target, quoted, quoted_list};
use super::write::Work;
use crate::screen::REFUSED_COLUMN;

/// What is added to the staging table's definition.
pub(super) fn columns() -> [String; 2] {
    [format!("{ROW_COLUMN} INTEGER PRIMARY KEY"), format!("{REFUSED_COLUMN} INTEGER")]
}

/// Whether the table has anything that could refuse a row.
pub(super) fn any(work: &Work, connection: &Connection, target: &Target) -> Result<bool> {
    let Some(sql) = &target.sql else { return Ok(false) };
    let upper = sql.to_ascii_uppercase();
    if ["PRIMARY", "UNIQUE", "CHECK", "REFERENCES"].iter().any(|word| upper.contains(word)) {
        return Ok(true);
    }
    let query = "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE \"unique\") \
         OR EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE)";
    connection.query_row(query, [&target.table], |row| row.get(0)).map_err(|e| work.failed(e))
}

/// Marks the rows that the table refuses, and gives the rules they break.
pub(super) fn screen(work: &Work, connection: &mut Connection) -> Result<Vec<Rule>> {
    let failed = |e| work.failed(e);
    let staging = quoted(&work.staging());
    let found = commit::transaction(work, connection, |connection| {
        commit::prepare(work, connection)?;
        let trial = Trial::new(work, connection)?;
        Ok((false, trial.all()?))
    })?;
    if found.refused.is_empty() {
        return Ok(Vec::new());
    }
    dmg_ambient::failpoint!("sqlite.screened", dmg_connector::cut());
    commit::transaction(work, connection, |connection| {
        let sql = format!("UPDATE {staging} SET {REFUSED_COLUMN} = ?1 WHERE {ROW_COLUMN} = ?2");
        let mut mark = connection.prepare(&sql).map_err(failed)?;
        for refused in &found.refused {
            mark.execute(params![refused.rule as i64, refused.row]).map_err(failed)?;
        }
        Ok((true, ()))
    })?;
    Ok(found.rules)
}

/// Marked rows, in order.
pub(super) fn refused(work: &Work, connection: &Connection, after: i64, rows_max: usize) -> Result<Vec<Refused>> {
    let failed = |e| work.failed(e);
    let sql = format!(
        "SELECT {ROW_COLUMN}, {REFUSED_COLUMN} FROM {} WHERE {REFUSED_COLUMN} IS NOT NULL AND {ROW_COLUMN} > ?1 \
         ORDER BY {ROW_COLUMN} LIMIT ?2",
        quoted(&work.staging())
    );
    let mut statement = connection.prepare(&sql).map_err(failed)?;
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let row = |row: &rusqlite::Row<'_>| {
        let rule: i64 = row.get(1)?;
        Ok(Refused { row: row.get(0)?, rule: usize::try_from(rule).unwrap_or(usize::MAX) })
    };
    statement.query_map([after, rows_max], row).and_then(Iterator::collect).map_err(failed)
}

/// Takes the marked rows out.
pub(super) fn take_out(work: &Work, connection: &Connection) -> Result<u64> {
    let sql = format!("DELETE FROM {} WHERE {REFUSED_COLUMN} IS NOT NULL", quoted(&work.staging()));
    Ok(connection.execute(&sql, []).map_err(|e| work.failed(e))? as u64)
}

/// What a trial found.
#[derive(Default)]
struct Found {
    rules: Vec<Rule>,
    refused: Vec<Refused>,
}

impl Found {
    fn add(&mut self, row: i64, rule: Rule) {
        let known = self.rules.iter().position(|known| *known == rule);
        let rule = known.unwrap_or_else(|| {
            self.rules.push(rule);
            self.rules.len() - 1
        });
        self.refused.push(Refused { row, rule });
    }
}

/// Statements for one row, whose number is their first parameter.
struct Trial<'a> {
    work: &'a Work,
    connection: &'a Connection,
    /// For an upsert: whether a row before has the key, and what replaces the row of the table.
    doubled: Option<CachedStatement<'a>>,
    update: Option<CachedStatement<'a>>,
    insert: CachedStatement<'a>,
    mark: CachedStatement<'a>,
    slice: Option<Value>,
}

impl<'a> Trial<'a> {
    fn new(work: &'a Work, connection: &'a Connection) -> Result<Self> {
        let failed = |e| work.failed(e);
        let prepare = |sql: &str| connection.prepare_cached(sql).map_err(failed);
        let (target, staging) = (quoted(&work.target.table), quoted(&work.staging()));
        let columns = work.column_list();
        let (mut doubled, mut update, mut slice) = (None, None, None);
        let (mut into, mut from) = (columns.clone(), columns.clone());
        match work.request.mode {
            WriteMode::Slice => {
                let (name, value) = commit::slice_value(work)?;
                (into, from) = (format!("{columns}, {name}"), format!("{columns}, ?2"));
                slice = Some(value);
            }
            WriteMode::Upsert => {
                let keys = work.keys();
                let key_list = quoted_list(keys.iter().map(String::as_str));
                // They go with the trial.
                let index = |name: &str, table: &str| {
                    let sql = format!(
                        "CREATE INDEX {} ON {table} ({key_list})",
                        quoted(&format!("{}_{name}", work.staging()))
                    );
                    connection.execute_batch(&sql).map_err(failed)
                };
                index("s", &staging)?;
                index("t", &target)?;
                let same = |a: &str, b: &str| {
                    let same = keys.iter().map(|key| format!("{a}.{0} IS {b}.{0}", quoted(key)));
                    same.collect::<Vec<_>>().join(" AND ")
                };
                doubled = Some(prepare(&format!(
                    "SELECT EXISTS (SELECT 1 FROM {staging} s JOIN {staging} b ON {} WHERE s.{ROW_COLUMN} = ?1 \
                     AND b.{ROW_COLUMN} < ?1 AND b.{REFUSED_COLUMN} IS NULL)",
                    same("b", "s")
                ))?);
                let sets: Vec<String> =
                    work.planned.iter().map(|plan| format!("{0} = s.{0}", quoted(&plan.sink))).collect();
                update = Some(prepare(&format!(
                    "UPDATE OR ABORT {target} AS t SET {} FROM {staging} s WHERE s.{ROW_COLUMN} = ?1 AND {}",
                    sets.join(", "),
                    same("t", "s")
                ))?);
            }
            _ => {}
        }
        let insert = prepare(&format!(
            "INSERT OR ABORT INTO {target} ({into}) SELECT {from} FROM {staging} WHERE {ROW_COLUMN} = ?1"
        ))?;
        let mark = prepare(&format!("UPDATE {staging} SET {REFUSED_COLUMN} = 0 WHERE {ROW_COLUMN} = ?1"))?;
        Ok(Trial { work, connection, doubled, update, insert, mark, slice })
    }

    /// Tries every row. One that points to a row that is not there gets another chance when all have had theirs.
    fn all(mut self) -> Result<Found> {
        let failed = |e| self.work.failed(e);
        let sql = format!("SELECT {ROW_COLUMN} FROM {} ORDER BY {ROW_COLUMN}", quoted(&self.work.staging()));
        let mut rows = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = rows.query([]).map_err(failed)?;
        let (mut found, mut pending) = (Found::default(), Vec::new());
        while let Some(row) = rows.next().map_err(|e| self.work.failed(e))? {
            let row = row.get(0).map_err(|e| self.work.failed(e))?;
            match self.row(row)? {
                None => {}
                Some(Unfit::Foreign) => pending.push(row),
                Some(Unfit::Rule(rule)) => self.refuse(&mut found, row, rule)?,
            }
        }
        loop {
            let before = pending.len();
            let mut still = Vec::new();
            for row in pending {
                match self.row(row)? {
                    None => {}
                    Some(Unfit::Foreign) => still.push(row),
                    Some(Unfit::Rule(rule)) => self.refuse(&mut found, row, rule)?,
                }
            }
            pending = still;
            if pending.len() == before {
                break;
            }
        }
        for row in pending {
            found.add(row, foreign());
        }
        Ok(found)
    }

    fn refuse(&mut self, found: &mut Found, row: i64, rule: Rule) -> Result<()> {
        // For the trial only: rows behind it must not be compared with it.
        self.mark.execute([row]).map_err(|e| self.work.failed(e))?;
        found.add(row, rule);
        Ok(())
    }

    /// Tries a row.
    fn row(&mut self, row: i64) -> Result<Option<Unfit>> {
        if let Some(doubled) = &mut self.doubled
            && doubled.query_row([row], |row| row.get::<_, bool>(0)).map_err(|e| self.work.failed(e))?
        {
            let columns = self.work.keys();
            let reason = format!("A row before it has the same key of the copy ({}).", columns.join(", "));
            return Ok(Some(Unfit::Rule(Rule { columns, code: "UserErrorDuplicateKey", reason })));
        }
        let updated = self.update.as_mut().map_or(Ok(0), |update| update.execute([row]));
        let tried = updated.and_then(|updated| match (updated, &self.slice) {
            (0, None) => self.insert.execute([row]),
            (0, Some(slice)) => self.insert.execute(params![row, slice]),
            (updated, _) => Ok(updated),
        });
        match tried {
            Ok(_) => Ok(None),
            Err(error) if !self.connection.is_autocommit() => {
                unfit(&error).map(Some).ok_or_else(|| self.work.failed(error))
            }
            Err(_) => {
                let message =
                    format!("A trigger of table {} ended the transaction it must be part of.", self.work.target.table);
                let remedy = "Let it use RAISE(ABORT, ...) in place of RAISE(ROLLBACK, ...).";
                Err(Error::from(Fault::new("UserErrorSettings", message).remedy(remedy)))
            }
        }
    }
}

/// Why a row does not go in.
enum Unfit {
    /// What it points to is not there yet.
    Foreign,
    Rule(Rule),
}

fn foreign() -> Rule {
    let reason = "A foreign key of the target points to no row.".to_owned();
    Rule { columns: Vec::new(), code: "UserErrorValue", reason }
}

/// What a constraint says about a row; nothing if it was none.
fn unfit(error: &rusqlite::Error) -> Option<Unfit> {
    let extended = error.sqlite_error()?.extended_code;
    let text = error.to_string();
    // `UNIQUE constraint failed: t.a, t.b`; names and, for checks, what the table's definition says: never a value.
    let (_, what) = text.split_once(" constraint failed: ").unwrap_or_default();
    let columns = || -> Vec<String> {
        let named = |name: &str| name.split_once('.').map(|(_, column)| column.to_owned());
        what.split(", ").map(named).collect::<Option<_>>().unwrap_or_default()
    };
    let rule = |columns, code, reason: String| Some(Unfit::Rule(Rule { columns, code, reason }));
    match extended {
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Some(Unfit::Foreign),
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_ROWID => {
            let reason = match columns().as_slice() {
                [] => "A row of the target, or one before it, has the same key.".to_owned(),
                columns => format!("A row of the target, or one before it, has the same key ({}).", columns.join(", ")),
            };
            rule(columns(), "UserErrorDuplicateKey", reason)
        }
        ffi::SQLITE_CONSTRAINT_CHECK => {
            rule(Vec::new(), "UserErrorValue", format!("The row breaks the check \"{what}\" of the target."))
        }
        ffi::SQLITE_CONSTRAINT_NOTNULL => {
            rule(columns(), "UserErrorValue", "NULL, which the target's column does not take.".to_owned())
        }
        ffi::SQLITE_CONSTRAINT_TRIGGER => {
            rule(Vec::new(), "UserErrorValue", "A trigger of the target refuses the row.".to_owned())
        }
        ffi::SQLITE_CONSTRAINT_DATATYPE => {
            rule(Vec::new(), "UserErrorValue", "The target's type does not take a value of the row.".to_owned())
        }
        _ => None,
    }
}
