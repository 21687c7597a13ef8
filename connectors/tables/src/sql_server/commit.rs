//! The one step that makes staged rows visible, and the mark that says it happened. Rows and mark change in the same
//! transaction; who finds the mark of its own run there has nothing left to do.

use dmg_connector::{Committed, Error, MarkContent, MarkState, Result};
use dmg_protocol::{Attempt, Epoch, Fault, WriteMode};

use super::catalog::{literal, quoted, texts};
use super::driver::Driver;
use super::publish;
use super::write::SqlServerSink;

/// The mark table, in the target's schema. One row per run: an older run that comes back late still finds its own.
const MARK_TABLE: &str = "__dmg_commit";
/// Marks older than this are removed by the next commit to the same target.
const MARK_DAYS: i64 = 90;
/// How long a commit waits for other writers, and a successor for the end of its predecessor.
pub(super) const LOCK_SECONDS: u32 = 60;

fn mark_table(sink: &SqlServerSink) -> String {
    format!("{}.{}", quoted(&sink.target.schema), quoted(MARK_TABLE))
}

/// Ends what lower epochs of this run left running, as far as the log-in may see and end sessions. Where it may not,
/// their locks are waited for, and the staging they write to is taken away from them.
pub(super) async fn end_lower_epochs(session: &mut dyn Driver, attempt: &Attempt) {
    let prefix = format!("dmg/{}/", attempt.run);
    let sql = "SELECT s.session_id, s.program_name FROM sys.dm_exec_sessions s \
         WHERE LEFT(s.program_name, LEN(@P1)) = @P1 AND s.session_id <> @@SPID AND s.is_user_process = 1 \
         AND s.login_name = (SELECT o.login_name FROM sys.dm_exec_sessions o WHERE o.session_id = @@SPID)";
    let Ok(rows) = session.query(sql, &[Some(&prefix)]).await else { return };
    for row in rows {
        let mut next = texts(row);
        let (id, name) = (next().parse::<u32>(), next());
        let epoch = name.strip_prefix(&prefix).and_then(|epoch| epoch.parse::<u64>().ok());
        if let (Ok(id), Some(epoch)) = (id, epoch)
            && Epoch(epoch) < attempt.epoch
        {
            let _ = session.batch(&format!("KILL {id}")).await;
        }
    }
}

/// Tables of the target's schema whose name begins like that.
async fn tables_named(sink: &SqlServerSink, session: &mut dyn Driver, prefix: &str) -> Result<Vec<String>> {
    let sql = "SELECT o.name FROM sys.objects o JOIN sys.schemas s ON s.schema_id = o.schema_id \
         WHERE s.name = @P1 AND o.type = 'U' AND LEFT(o.name, LEN(@P2)) = @P2";
    let rows = session.query(sql, &[Some(&sink.target.schema), Some(prefix)]).await?;
    Ok(rows.into_iter().map(|row| texts(row)()).collect())
}

/// Staging tables of this run in the target's schema, by epoch.
async fn staging_tables(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<Vec<(Epoch, String)>> {
    let short = sink.staging();
    let prefix = format!("{}_", short.rsplit_once('_').map_or(short.as_str(), |(prefix, _)| prefix));
    let names = tables_named(sink, session, &prefix).await?;
    Ok(names.into_iter().filter_map(|name| Some((Epoch(name.strip_prefix(&prefix)?.parse().ok()?), name))).collect())
}

/// Drops a staging table if it is there.
pub(super) async fn drop_staging(session: &mut dyn Driver, staging: &str, seconds: u32) -> Result<()> {
    let sql = format!("SET LOCK_TIMEOUT {}; DROP TABLE IF EXISTS {staging}; SET LOCK_TIMEOUT -1", seconds * 1000);
    session.batch(&sql).await.map(drop)
}

/// Removes staging tables of this and lower epochs, and those of other runs that nobody works on any more: a copy
/// that was killed and never came back.
pub(super) async fn drop_staging_up_to_now(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<()> {
    let table = |name: &str| format!("{}.{}", quoted(&sink.target.schema), quoted(name));
    for (epoch, name) in staging_tables(sink, session).await? {
        if epoch <= sink.request.attempt.epoch {
            drop_staging(session, &table(&name), LOCK_SECONDS).await?;
        }
    }
    for name in orphans(sink, session).await? {
        // Whoever holds it is not dead after all.
        let _ = drop_staging(session, &table(&name), 1).await;
    }
    session.batch("SET LOCK_TIMEOUT -1").await.map(drop)
}

/// Staging tables whose run has no session, if the log-in may see all sessions: who sees only its own would take the
/// living for dead. Tables are listed before sessions: a run connects before it stages.
async fn orphans(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<Vec<String>> {
    let tables = tables_named(sink, session, "_dmg_").await?;
    let sees = "SELECT HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE') AS sees";
    let Ok(sees) = session.batch(sees).await else { return Ok(Vec::new()) };
    if !sees.into_iter().any(|row| texts(row)() == "1") {
        return Ok(Vec::new());
    }
    let sql = "SELECT s.program_name FROM sys.dm_exec_sessions s WHERE LEFT(s.program_name, 4) = N'dmg/'";
    let run_of = |name: &str| name.rsplit_once('_').map(|(run, _)| run.to_owned());
    let alive: Vec<String> = session
        .batch(sql)
        .await?
        .into_iter()
        .filter_map(|row| {
            let run = texts(row)().split('/').nth(1)?.to_owned();
            run_of(&staging_name(&Attempt { namespace: String::new(), run: run.into(), epoch: Epoch(0) }))
        })
        .collect();
    let ours = |name: &String| {
        name.strip_prefix("_dmg_").and_then(|rest| rest.split_once('_')).is_some_and(|(run, epoch)| {
            run.len() == 12 && run.bytes().all(|b| b.is_ascii_hexdigit()) && epoch.parse::<u64>().is_ok()
        })
    };
    Ok(tables.into_iter().filter(ours).filter(|name| run_of(name).is_some_and(|run| !alive.contains(&run))).collect())
}

/// Name of an attempt's staging table.
pub(super) fn staging_name(attempt: &Attempt) -> String {
    format!("_dmg_{}", attempt.short())
}

/// Makes the mark table, once; several runs may try at the same time.
pub(super) async fn make_mark_table(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<()> {
    if exists(sink, session).await? {
        return Ok(());
    }
    let sql = format!(
        "CREATE TABLE {} ([namespace] nvarchar(128) NOT NULL, [target] nvarchar(260) NOT NULL, \
         [slice] nvarchar(64) NOT NULL, [run] nvarchar(64) NOT NULL, [epoch] bigint NOT NULL, [rows] bigint NOT NULL, \
         [digest] nvarchar(64) NOT NULL, [at] datetime2(6) NOT NULL, \
         PRIMARY KEY NONCLUSTERED ([namespace], [target], [slice], [run]))",
        mark_table(sink)
    );
    match session.batch(&sql).await {
        // Somebody else was faster.
        Err(error) if error.fault.code == "UserErrorTargetExists" => Ok(()),
        other => other.map(drop),
    }
}

async fn exists(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<bool> {
    let sql = "SELECT OBJECT_ID(@P1) AS id";
    let rows = session.query(sql, &[Some(&mark_table(sink))]).await?;
    Ok(rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()).is_some())
}

/// What the mark says about this run.
pub(super) async fn mark(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<MarkState> {
    if exists(sink, session).await?
        && let Some(committed) = find(sink, session).await?
    {
        return Ok(MarkState::Committed(committed));
    }
    let newest = staging_tables(sink, session).await?.into_iter().map(|(epoch, _)| epoch).max();
    Ok(match newest {
        Some(epoch) if epoch > sink.request.attempt.epoch => MarkState::Newer(epoch),
        _ => MarkState::None,
    })
}

/// The slice in the key of the mark: its hash, or nothing.
fn slice(sink: &SqlServerSink) -> &str {
    let slice = sink.request.slice.as_ref().filter(|_| sink.request.mode == WriteMode::Slice);
    slice.map_or("", |slice| slice.value.as_str())
}

async fn find(sink: &SqlServerSink, session: &mut dyn Driver) -> Result<Option<Committed>> {
    let sql = format!(
        "SELECT [epoch], [rows], [digest], CONVERT(nvarchar(30), [at], 126) FROM {} \
         WHERE [namespace] = @P1 AND [target] = @P2 AND [slice] = @P3 AND [run] = @P4",
        mark_table(sink)
    );
    let attempt = &sink.request.attempt;
    let label = sink.target.label();
    let parameters =
        [Some(attempt.namespace.as_str()), Some(label.as_str()), Some(slice(sink)), Some(attempt.run.as_str())];
    let Some(row) = session.query(&sql, &parameters).await?.into_iter().next() else { return Ok(None) };
    let mut next = texts(row);
    let (epoch, rows, digest, at) = (next(), next(), next(), next());
    Ok(Some(Committed {
        mark: format!("row of run {} in {}.{MARK_TABLE}, written {at}", attempt.run, sink.target.schema),
        rows: rows.parse().unwrap_or(0),
        digest,
        epoch: Epoch(epoch.parse().unwrap_or(0)),
    }))
}

/// Commits, or finds that it happened already.
pub(super) async fn commit(sink: &SqlServerSink, session: &mut dyn Driver, content: &MarkContent) -> Result<Committed> {
    match transaction(sink, session, content).await {
        Ok(committed) => Ok(committed),
        Err(error) => {
            if session.usable() {
                // The transaction failed as a whole; what it said is worth more than what the rollback says.
                let _ = session.batch("IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION").await;
            }
            Err(explained(sink, error))
        }
    }
}

async fn transaction(sink: &SqlServerSink, session: &mut dyn Driver, content: &MarkContent) -> Result<Committed> {
    let begin = format!(
        "SET LOCK_TIMEOUT {}; SET TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN TRANSACTION",
        LOCK_SECONDS * 1000
    );
    dmg_ambient::failpoint!("sql_server.commit", dmg_connector::cut());
    session.batch(&begin).await?;
    if sink.target.exists && sink.request.mode != WriteMode::Procedure {
        // A reader that locks would see a part of what is inserted and deleted row by row. Under the lock of the whole
        // table it sees the old or the new; one that reads versions never waits.
        let lock = format!("SELECT TOP (1) 1 AS one FROM {} WITH (TABLOCKX, HOLDLOCK)", sink.target.quoted());
        session.batch(&lock).await?;
    }
    dmg_ambient::failpoint!("sql_server.commit.locked", dmg_connector::cut());
    if let Some(committed) = find(sink, session).await? {
        session.batch("ROLLBACK TRANSACTION").await?;
        return Ok(committed);
    }
    let own = transaction_id(session).await?;
    run_script(sink, session, &own).await?;
    write_mark(sink, session, content).await?;
    dmg_ambient::failpoint!("sql_server.commit.marked", dmg_connector::cut());
    let rows = publish::publish(sink, session).await?;
    dmg_ambient::failpoint!("sql_server.commit.published", dmg_connector::cut());
    if sink.request.mode == WriteMode::Procedure && transaction_id(session).await? != own {
        return Err(ended_by_procedure().into());
    }
    if rows != content.rows {
        let message = format!("{} took {rows} rows where {} were staged.", sink.target.label(), content.rows);
        let remedy = "Look for triggers on the table that drop or add rows; nothing was committed.";
        return Err(Fault::new("SystemErrorVerification", message).remedy(remedy).into());
    }
    let committed = find(sink, session).await?;
    dmg_ambient::failpoint!("sql_server.commit.send", dmg_connector::cut());
    // From here on, silence may mean either.
    if let Err(error) = session.batch("COMMIT TRANSACTION").await {
        return Err(if session.usable() { error } else { error.with_unknown_outcome() });
    }
    dmg_ambient::failpoint!("sql_server.commit.answered", dmg_connector::cut().with_unknown_outcome());
    committed.ok_or_else(|| Fault::new("SystemErrorInternal", "The mark vanished in its own transaction.").into())
}

/// Which transaction this is; empty outside of one.
async fn transaction_id(session: &mut dyn Driver) -> Result<String> {
    let sql = "SELECT CASE WHEN @@TRANCOUNT = 1 THEN CURRENT_TRANSACTION_ID() END AS id";
    Ok(session.batch(sql).await?.into_iter().next().map(|row| texts(row)()).unwrap_or_default())
}

/// The author's script. It must leave the transaction as it found it.
async fn run_script(sink: &SqlServerSink, session: &mut dyn Driver, own: &str) -> Result<()> {
    let Some(script) = sink.request.pre_copy_script.as_ref().filter(|script| !script.trim().is_empty()) else {
        return Ok(());
    };
    session.batch(script).await?;
    if transaction_id(session).await? != own {
        let message = "The script before the copy ended the transaction it must be part of.";
        let remedy = "Take BEGIN, COMMIT and ROLLBACK out of the script.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    }
    Ok(())
}

/// Writes the mark. Another attempt of this run that commits at the same time waits at its row, and then finds it.
async fn write_mark(sink: &SqlServerSink, session: &mut dyn Driver, content: &MarkContent) -> Result<()> {
    let attempt = &sink.request.attempt;
    let ambient = &sink.server.session.ambient;
    let moment = |text: String| text.trim_end_matches('Z').to_owned();
    let (now, label) = (moment(ambient.rfc3339()), sink.target.label());
    let oldest = moment(dmg_ambient::rfc3339(ambient.unix_micros() - MARK_DAYS * 86_400_000_000));
    let table = mark_table(sink);
    let outdated =
        format!("DELETE FROM {table} WHERE [namespace] = @P1 AND [target] = @P2 AND [at] < CAST(@P3 AS datetime2(6))");
    session.query(&outdated, &[Some(&attempt.namespace), Some(&label), Some(&oldest)]).await?;
    let sql = format!(
        "INSERT INTO {table} ([namespace], [target], [slice], [run], [epoch], [rows], [digest], [at]) \
         VALUES (@P1, @P2, @P3, @P4, CAST(@P5 AS bigint), CAST(@P6 AS bigint), @P7, CAST(@P8 AS datetime2(6)))"
    );
    let (epoch, rows) = (attempt.epoch.to_string(), content.rows.to_string());
    let parameters = [
        Some(attempt.namespace.as_str()),
        Some(label.as_str()),
        Some(slice(sink)),
        Some(attempt.run.as_str()),
        Some(epoch.as_str()),
        Some(rows.as_str()),
        Some(content.digest.as_str()),
        Some(now.as_str()),
    ];
    session.query(&sql, &parameters).await.map(drop)
}

fn ended_by_procedure() -> Fault {
    let message = "The procedure ended the transaction it must be part of.";
    let remedy = "Take COMMIT and ROLLBACK out of the procedure; RAISERROR or THROW undoes everything.";
    Fault::new("UserErrorSettings", message).remedy(remedy)
}

/// Says in the copy's words what a failed commit means.
pub(super) fn explained(sink: &SqlServerSink, error: Error) -> Error {
    let number = error.fault.context.get("errorNumber").map(String::as_str);
    let marked = error.fault.message.contains(MARK_TABLE);
    let fault = match (error.fault.code.as_str(), number) {
        ("UserErrorTableMissing", _) if error.fault.message.contains(&sink.staging()) => {
            let message = format!("The staged rows for {} are gone: another attempt took over.", sink.target.label());
            Fault::new("SystemErrorLeaseLost", message)
        }
        (_, Some("2627")) if marked => {
            let message = format!("Another attempt of this run held the mark of {}.", sink.target.label());
            Fault::new("StoreErrorConflict", message)
        }
        (_, Some("2714" | "15335")) => {
            let message = format!("Table {} was created by somebody else meanwhile.", sink.target.label());
            Fault::new("StoreErrorCommitRefused", message)
        }
        // The server says it before we can ask: the count of transactions differs after the call, or there is none.
        (_, Some("266" | "3902" | "3903" | "3609")) if sink.request.mode == WriteMode::Procedure => {
            ended_by_procedure()
        }
        (_, Some("1222")) => {
            let message = format!("Another writer holds {}, and did not let go in time.", sink.target.label());
            Fault::new("StoreErrorConflict", message)
        }
        _ => return error,
    };
    Error { fault: Box::new(fault), ..error }
}

/// A statement that renames the staging table into the target.
pub(super) fn rename(sink: &SqlServerSink) -> String {
    format!("EXEC sp_rename {}, {}", literal(&sink.staging_quoted()), literal(&sink.target.table))
}
