//! The one step that makes staged rows visible, and the mark that says it happened, in one transaction. A file has no
//! sessions that could be ended: who comes later takes the staging table away, and with it the zombie's commit.

use dmg_connector::{Committed, Error, MarkContent, MarkState, Result};
use dmg_protocol::{Attempt, CommitShape, Epoch, Fault, Kind, RunId, WriteMode};
use rusqlite::{Connection, OptionalExtension, params};

use super::target::{MARK_TABLE, STAGING_PREFIX, Target, quoted, quoted_list};
use super::write::Work;

/// Marks older than this are removed by the next commit to the same target.
const MARK_DAYS: i64 = 90;
/// Staging of a run that never came back is removed after this.
const ORPHAN_DAYS: i64 = 7;
const DAY_MICROS: i64 = 86_400_000_000;

fn exists(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    connection.query_row(sql, [table], |row| row.get(0))
}

/// Epochs that have a staging table of this run.
fn staged_epochs(work: &Work, connection: &Connection) -> rusqlite::Result<Vec<(Epoch, String)>> {
    let own = work.staging();
    let prefix = own.rsplit_once('_').map_or(own.as_str(), |(prefix, _)| prefix).to_owned() + "_";
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, length(?1)) = ?1";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([&prefix], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let epoch = |name: &String| name.strip_prefix(&prefix)?.parse().ok().map(Epoch);
    Ok(names.into_iter().filter_map(|name| Some((epoch(&name)?, name))).collect())
}

/// What the mark says about this run.
pub(super) fn mark(work: &Work, connection: &mut Connection) -> Result<MarkState> {
    let failed = |e| work.failed(e);
    if let Some(committed) = find(work, connection).map_err(failed)? {
        return Ok(MarkState::Committed(committed));
    }
    let newest = staged_epochs(work, connection).map_err(failed)?.into_iter().map(|(epoch, _)| epoch).max();
    Ok(match newest {
        Some(epoch) if epoch > work.request.attempt.epoch => MarkState::Newer(epoch),
        _ => MarkState::None,
    })
}

fn find(work: &Work, connection: &Connection) -> rusqlite::Result<Option<Committed>> {
    if !exists(connection, MARK_TABLE)? {
        return Ok(None);
    }
    let sql = format!(
        "SELECT epoch, rows, digest, at FROM {MARK_TABLE} WHERE namespace = ?1 AND target = ?2 AND run = ?3 AND rows >= 0"
    );
    let attempt = &work.request.attempt;
    let found =
        connection.query_row(&sql, params![attempt.namespace, work.target.table, attempt.run.as_str()], |row| {
            let at: String = row.get(3)?;
            Ok(Committed {
                mark: format!("row of run {} in {MARK_TABLE}, written {at}", attempt.run),
                rows: row.get::<_, i64>(1)?.unsigned_abs(),
                digest: row.get(2)?,
                epoch: Epoch(row.get::<_, i64>(0)?.unsigned_abs()),
            })
        });
    found.optional()
}

/// Runs something in one transaction that no other writer can enter.
pub(super) fn transaction<T>(
    work: &Work,
    connection: &mut Connection,
    run: impl FnOnce(&Connection) -> Result<(bool, T)>,
) -> Result<T> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| work.failed(e))?;
    let outcome = run(connection).and_then(|(keep, value)| {
        connection.execute_batch(if keep { "COMMIT" } else { "ROLLBACK" }).map_err(|e| {
            // An answer that is not clear about the file leaves the outcome open; a busy file does not.
            let doubtful = matches!(e.sqlite_error_code(), Some(rusqlite::ErrorCode::SystemIoFailure));
            let error = work.failed(e);
            if keep && doubtful { error.with_unknown_outcome() } else { error }
        })?;
        Ok(value)
    });
    if outcome.is_err() && !connection.is_autocommit() {
        // The transaction failed as a whole; what it said is worth more than what the rollback says.
        let _ = connection.execute_batch("ROLLBACK");
    }
    outcome.map_err(|error| explained(work, error))
}

/// Makes the staging place; removes what lower epochs and runs that never came back left.
pub(super) fn begin(work: &Work, connection: &mut Connection) -> Result<()> {
    let attempt = &work.request.attempt;
    dmg_ambient::failpoint!("sqlite.begin", dmg_connector::cut());
    let orphans_before = dmg_ambient::rfc3339(work.ambient.unix_micros() - ORPHAN_DAYS * DAY_MICROS);
    transaction(work, connection, |connection| {
        let failed = |e| work.failed(e);
        for (epoch, name) in staged_epochs(work, connection).map_err(failed)? {
            if epoch > attempt.epoch {
                let message = format!("A later attempt (epoch {epoch}) already works on this target.");
                return Err(Fault::new("SystemErrorLeaseLost", message).into());
            }
            connection.execute_batch(&format!("DROP TABLE {}", quoted(&name))).map_err(failed)?;
        }
        let table = format!(
            "CREATE TABLE IF NOT EXISTS {MARK_TABLE} (namespace TEXT NOT NULL, target TEXT NOT NULL, run TEXT NOT NULL, \
             epoch INTEGER NOT NULL, rows INTEGER NOT NULL, digest TEXT NOT NULL, at TEXT NOT NULL, \
             PRIMARY KEY (namespace, target, run)) WITHOUT ROWID"
        );
        connection.execute_batch(&table).map_err(failed)?;
        drop_orphans(connection, &orphans_before).map_err(failed)?;
        // A row without a number of rows says: staged, not committed.
        write_mark(work, connection, -1, "").map_err(failed)?;
        connection.execute_batch(&work.staging_statements()).map_err(failed)?;
        dmg_ambient::failpoint!("sqlite.staging.made", dmg_connector::cut());
        Ok((true, ()))
    })
}

fn drop_orphans(connection: &Connection, before: &str) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare(&format!("SELECT run, epoch FROM {MARK_TABLE} WHERE rows < 0 AND at < ?1"))?;
    let rows = statement.query_map([before], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    for (run, epoch) in rows.collect::<rusqlite::Result<Vec<_>>>()? {
        let attempt = Attempt { namespace: String::new(), run: RunId::new(run), epoch: Epoch(epoch.unsigned_abs()) };
        let name = format!("{STAGING_PREFIX}{}", attempt.short());
        connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", quoted(&name)))?;
    }
    connection.execute(&format!("DELETE FROM {MARK_TABLE} WHERE rows < 0 AND at < ?1"), [before]).map(drop)
}

fn write_mark(work: &Work, connection: &Connection, rows: i64, digest: &str) -> rusqlite::Result<()> {
    let attempt = &work.request.attempt;
    let sql = format!(
        "INSERT INTO {MARK_TABLE} (namespace, target, run, epoch, rows, digest, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT DO UPDATE SET epoch = excluded.epoch, rows = excluded.rows, digest = excluded.digest, \
         at = excluded.at WHERE rows < 0"
    );
    let epoch = i64::try_from(attempt.epoch.0).unwrap_or(i64::MAX);
    let (target, now) = (&work.target.table, work.ambient.rfc3339());
    connection.execute(&sql, params![attempt.namespace, target, attempt.run.as_str(), epoch, rows, digest, now])?;
    Ok(())
}

/// Removes the staging place.
pub(super) fn abort(work: &Work, connection: &mut Connection) -> Result<()> {
    let failed = |e| work.failed(e);
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(failed)?;
    }
    if !exists(connection, MARK_TABLE).map_err(failed)? {
        return Ok(());
    }
    transaction(work, connection, |connection| {
        connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", quoted(&work.staging()))).map_err(failed)?;
        let attempt = &work.request.attempt;
        let sql = format!(
            "DELETE FROM {MARK_TABLE} WHERE namespace = ?1 AND target = ?2 AND run = ?3 AND epoch = ?4 AND rows < 0"
        );
        let epoch = i64::try_from(attempt.epoch.0).unwrap_or(i64::MAX);
        connection
            .execute(&sql, params![attempt.namespace, work.target.table, attempt.run.as_str(), epoch])
            .map_err(failed)?;
        Ok((true, ()))
    })
}

/// Commits, or finds that it happened already.
pub(super) fn commit(work: &Work, connection: &mut Connection, content: &MarkContent) -> Result<Committed> {
    dmg_ambient::failpoint!("sqlite.commit", dmg_connector::cut());
    let outdated = dmg_ambient::rfc3339(work.ambient.unix_micros() - MARK_DAYS * DAY_MICROS);
    transaction(work, connection, |connection| {
        let failed = |e| work.failed(e);
        if let Some(committed) = find(work, connection).map_err(failed)? {
            return Ok((false, committed));
        }
        if !exists(connection, &work.staging()).map_err(failed)? {
            return Err(taken_over(work).into());
        }
        dmg_ambient::failpoint!("sqlite.commit.locked", dmg_connector::cut());
        unchanged(work, connection)?;
        run_script(work, connection)?;
        let rows = publish(work, connection)?;
        dmg_ambient::failpoint!("sqlite.commit.published", dmg_connector::cut());
        if rows != content.rows {
            let message = format!("Table {} took {rows} rows where {} were staged.", work.target.table, content.rows);
            let remedy = "Look for triggers on the table that drop or add rows; nothing was committed.";
            return Err(Fault::new("SystemErrorVerification", message).remedy(remedy).into());
        }
        let sql = format!("DELETE FROM {MARK_TABLE} WHERE namespace = ?1 AND target = ?2 AND at < ?3 AND rows >= 0");
        let namespace = &work.request.attempt.namespace;
        connection.execute(&sql, params![namespace, work.target.table, outdated]).map_err(failed)?;
        write_mark(work, connection, i64::try_from(content.rows).unwrap_or(i64::MAX), &content.digest)
            .map_err(failed)?;
        let committed = find(work, connection)
            .map_err(failed)?
            .ok_or_else(|| Fault::new("SystemErrorInternal", "The mark vanished in its own transaction."))?;
        dmg_ambient::failpoint!("sqlite.commit.marked", dmg_connector::cut());
        Ok((true, committed))
    })
    .and_then(answered)
}

/// The commit has happened; a failpoint may lose its answer.
fn answered(committed: Committed) -> Result<Committed> {
    dmg_ambient::failpoint!("sqlite.commit.answered", dmg_connector::cut().with_unknown_outcome());
    Ok(committed)
}

fn taken_over(work: &Work) -> Fault {
    let message = format!("The staged rows for table {} are gone: another attempt took over.", work.target.table);
    Fault::new("SystemErrorLeaseLost", message)
}

/// The table must be what the plan was made for.
fn unchanged(work: &Work, connection: &Connection) -> Result<()> {
    let now = Target::look(connection, &work.path, &work.target.table)?;
    let what = match now.bound {
        // Another table cannot take its place any more.
        Some(_) if work.shape == CommitShape::Swap && work.target.exists() => "was altered",
        _ if now.sql == work.target.sql => return Ok(()),
        _ if work.target.exists() => "was altered",
        _ => "was created by somebody else",
    };
    let message = format!("Table {} {what} meanwhile.", work.target.table);
    Err(Fault::new("StoreErrorCommitRefused", message).into())
}

/// The author's script. It must leave the transaction as it found it.
fn run_script(work: &Work, connection: &Connection) -> Result<()> {
    let Some(script) = work.request.pre_copy_script.as_ref().filter(|script| !script.trim().is_empty()) else {
        return Ok(());
    };
    connection.execute_batch("SAVEPOINT dmg_script").map_err(|e| work.failed(e))?;
    connection.execute_batch(script).map_err(|e| work.failed(e))?;
    connection.execute_batch("RELEASE dmg_script").map_err(|_| {
        let message = "The script before the copy ended the transaction it must be part of.";
        let remedy = "Take BEGIN, COMMIT and ROLLBACK out of the script.";
        Error::from(Fault::new("UserErrorSettings", message).remedy(remedy))
    })
}

/// Moves the staged rows to where readers look. Gives the number of rows.
fn publish(work: &Work, connection: &Connection) -> Result<u64> {
    let failed = |e| work.failed(e);
    let run = |sql: &str| connection.execute_batch(sql).map_err(failed);
    let (target, staging) = (quoted(&work.target.table), quoted(&work.staging()));
    let count = || -> Result<u64> {
        let rows: i64 =
            connection.query_row(&format!("SELECT count(*) FROM {staging}"), [], |row| row.get(0)).map_err(failed)?;
        Ok(rows.unsigned_abs())
    };
    if work.shape == CommitShape::Swap {
        let rows = count()?;
        if work.request.mode == WriteMode::Slice {
            let slice = work.request.slice.as_ref().expect("the request was checked for it");
            run(&format!("ALTER TABLE {staging} ADD COLUMN {} BLOB", quoted(&slice.column)))?;
            let sql = format!("UPDATE {staging} SET {} = ?1", quoted(&slice.column));
            connection.execute(&sql, [slice_bytes(&slice.value)?]).map_err(failed)?;
        }
        let indexes = indexes(connection, &work.target.table).map_err(failed)?;
        if work.target.exists() {
            run(&format!("DROP TABLE {target}"))?;
        }
        run(&format!("ALTER TABLE {staging} RENAME TO {target}"))?;
        for index in indexes {
            run(&index)?;
        }
        return Ok(rows);
    }
    make_room(work, connection)?;
    let columns = work.column_list();
    let rows = match work.request.mode {
        WriteMode::Upsert => upsert(work, connection)?,
        WriteMode::Slice => slice(work, connection)?,
        _ => {
            let sql = format!("INSERT OR ABORT INTO {target} ({columns}) SELECT {columns} FROM {staging}");
            connection.execute(&sql, []).map_err(failed)? as u64
        }
    };
    run(&format!("DROP TABLE {staging}"))?;
    Ok(rows)
}

/// Brings the table to where staged rows can join it, as the commit would, inside a transaction that is undone.
pub(super) fn prepare(work: &Work, connection: &Connection) -> Result<()> {
    unchanged(work, connection)?;
    run_script(work, connection)?;
    make_room(work, connection)
}

/// Adds the columns that the table lacks, and removes the rows whose place is taken.
fn make_room(work: &Work, connection: &Connection) -> Result<()> {
    let failed = |e| work.failed(e);
    let target = quoted(&work.target.table);
    for plan in work.missing() {
        let sql = format!("ALTER TABLE {target} ADD COLUMN {} {}", quoted(&plan.sink), plan.sink_type);
        connection.execute_batch(&sql).map_err(failed)?;
    }
    match work.request.mode {
        WriteMode::Overwrite => connection.execute_batch(&format!("DELETE FROM {target}")).map_err(failed),
        WriteMode::Slice => {
            let (name, value) = slice_value(work)?;
            connection.execute(&format!("DELETE FROM {target} WHERE {name} IS ?1"), [&value]).map_err(failed)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Statements that made the table's own indexes.
fn indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// Replaces rows by key and adds the others. Gives the number of rows of both.
fn upsert(work: &Work, connection: &Connection) -> Result<u64> {
    let failed = |e| work.failed(e);
    let (target, staging) = (quoted(&work.target.table), quoted(&work.staging()));
    let keys = work.keys();
    let key_list = quoted_list(keys.iter().map(String::as_str));
    let index = format!("CREATE INDEX {} ON {staging} ({key_list})", quoted(&format!("{}_k", work.staging())));
    connection.execute_batch(&index).map_err(failed)?;
    let doubled = format!("SELECT EXISTS (SELECT 1 FROM {staging} GROUP BY {key_list} HAVING count(*) > 1)");
    if connection.query_row(&doubled, [], |row| row.get(0)).map_err(failed)? {
        let message = format!("Two rows of the source have the same key ({}).", keys.join(", "));
        return Err(Fault::new("UserErrorDuplicateKey", message).into());
    }
    let same = keys.iter().map(|key| format!("t.{0} IS s.{0}", quoted(key))).collect::<Vec<_>>().join(" AND ");
    let matched = format!("SELECT count(*) FROM {staging} s WHERE EXISTS (SELECT 1 FROM {target} t WHERE {same})");
    let matched: i64 = connection.query_row(&matched, [], |row| row.get(0)).map_err(failed)?;
    let is_key = |name: &str| keys.iter().any(|key| key.eq_ignore_ascii_case(name));
    let others = work.planned.iter().filter(|plan| !is_key(&plan.sink));
    let others: Vec<_> = others.map(|plan| format!("{0} = s.{0}", quoted(&plan.sink))).collect();
    if !others.is_empty() {
        let sql = format!("UPDATE OR ABORT {target} AS t SET {} FROM {staging} s WHERE {same}", others.join(", "));
        connection.execute(&sql, []).map_err(failed)?;
    }
    let columns = work.column_list();
    let sql = format!(
        "INSERT OR ABORT INTO {target} ({columns}) SELECT {columns} FROM {staging} s \
         WHERE NOT EXISTS (SELECT 1 FROM {target} t WHERE {same})"
    );
    let added = connection.execute(&sql, []).map_err(failed)? as u64;
    Ok(added + matched.unsigned_abs())
}

/// Adds the rows of one slice.
fn slice(work: &Work, connection: &Connection) -> Result<u64> {
    let (target, staging) = (quoted(&work.target.table), quoted(&work.staging()));
    let (name, value) = slice_value(work)?;
    let columns = work.column_list();
    let sql = format!("INSERT OR ABORT INTO {target} ({columns}, {name}) SELECT {columns}, ?1 FROM {staging}");
    Ok(connection.execute(&sql, [&value]).map_err(|e| work.failed(e))? as u64)
}

/// The column of the slice, quoted, and its value: a text column takes the digits, any other the bytes.
pub(super) fn slice_value(work: &Work) -> Result<(String, rusqlite::types::Value)> {
    let slice = work.request.slice.as_ref().expect("the request was checked for it");
    let column = work.target.column(&slice.column).map(|found| &found.column);
    let name = quoted(column.map_or(&slice.column, |column| &column.name));
    let textual = column.is_some_and(|column| column.kind == Kind::Text && !column.type_name.is_empty());
    let value = if textual {
        rusqlite::types::Value::Text(slice.value.clone())
    } else {
        rusqlite::types::Value::Blob(slice_bytes(&slice.value)?)
    };
    Ok((name, value))
}

/// The bytes that hex digits stand for.
fn slice_bytes(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2).and_then(|pair| u8::from_str_radix(pair, 16).ok())
    });
    pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| {
        let message = "The value of the slice is not made of hexadecimal digits.";
        Fault::new("UserErrorSettings", message).remedy("Give 64 hexadecimal digits.").into()
    })
}

/// Says in the copy's words what a failure means.
pub(super) fn explained(work: &Work, mut error: Error) -> Error {
    let staging = work.staging();
    if error.fault.code == "UserErrorTableMissing" && error.fault.message.contains(&staging) {
        return Error { fault: Box::new(taken_over(work)), ..error };
    }
    // People do not know the staging table.
    error.fault.message = error.fault.message.replace(&staging, &work.target.table);
    error
}
