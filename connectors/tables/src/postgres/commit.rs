//! The one step that makes staged rows visible, and the mark that says it happened. Rows and mark change in the same
//! transaction; who finds the mark of its own run there has nothing left to do.

use dmg_connector::{Committed, Error, MarkContent, MarkState, Result};
use dmg_protocol::{Attempt, Epoch, Fault, WriteMode};

use super::catalog::{quoted, quoted_list};
use super::client::Client;
use super::write::PostgresSink;

/// The mark table, in the target's schema. One row per run: an older run that comes back late still finds its own.
const MARK_TABLE: &str = "__dmg_commit";
/// Marks older than this are removed by the next commit to the same target.
const MARK_DAYS: i64 = 90;
/// How long a commit waits for other writers, and a successor for the end of its predecessor's sessions.
const LOCK_SECONDS: u32 = 60;

fn mark_table(sink: &PostgresSink) -> String {
    format!("{}.{}", quoted(&sink.target.schema), quoted(MARK_TABLE))
}

/// Ends one session of this role and waits until it is gone.
pub(super) async fn end_session(client: &mut Client, place: &str, process: i32, application: &str) -> Result<()> {
    let process = process.to_string();
    let own = "FROM pg_stat_activity WHERE pid = $1::int AND usename = current_user \
         AND datname = current_database() AND application_name = left($2, 63) AND pid <> pg_backend_pid()";
    // Since version 14 the server itself waits for the end; before, the locks of the session are waited for.
    let wait = if client.version >= 14 { format!(", {}", LOCK_SECONDS * 1000) } else { String::new() };
    let sql = format!("SELECT pg_terminate_backend(pid{wait}) {own}");
    let ended = client.query(&sql, &[Some(&process), Some(application)]).await?;
    if ended.rows.iter().flatten().any(|gone| gone.as_deref() == Some("f")) {
        let message = format!("An earlier session of this run on {place} does not end.");
        return Err(Fault::new("StoreErrorConflict", message).into());
    }
    Ok(())
}

/// Ends what lower epochs of this run left running.
pub(super) async fn end_lower_epochs(client: &mut Client, place: &str, attempt: &Attempt) -> Result<()> {
    let prefix = format!("dmg/{}/", attempt.run);
    let sql = "SELECT pid, application_name FROM pg_stat_activity \
         WHERE usename = current_user AND datname = current_database() AND starts_with(application_name, $1) \
         AND pid <> pg_backend_pid()";
    for row in client.query(sql, &[Some(&prefix)]).await?.rows {
        let [Some(process), Some(name)] = row.as_slice() else { continue };
        let epoch = name.strip_prefix(&prefix).and_then(|epoch| epoch.parse::<u64>().ok());
        if let (Some(epoch), Ok(process)) = (epoch, process.parse())
            && Epoch(epoch) < attempt.epoch
        {
            end_session(client, place, process, name).await?;
        }
    }
    Ok(())
}

/// Staging tables of this run in the target's schema, by epoch.
async fn staging_tables(sink: &PostgresSink, client: &mut Client) -> Result<Vec<(Epoch, String)>> {
    let short = sink.staging();
    let prefix = short.rsplit_once('_').map_or(short.as_str(), |(prefix, _)| prefix).to_owned() + "_";
    let sql = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND starts_with(c.relname, $2) AND c.relkind = 'r'";
    let rows = client.query(sql, &[Some(&sink.target.schema), Some(&prefix)]).await?.rows;
    let names = rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
    Ok(names.filter_map(|name| Some((Epoch(name.strip_prefix(&prefix)?.parse().ok()?), name))).collect())
}

/// Removes staging tables of this and lower epochs, and those of other runs of this role that nobody works on any
/// more: a copy that was killed and never came back.
pub(super) async fn drop_staging_up_to_now(sink: &PostgresSink, client: &mut Client) -> Result<()> {
    let own = staging_tables(sink, client).await?;
    let own = own.into_iter().filter(|(epoch, _)| *epoch <= sink.request.attempt.epoch);
    let own = own
        .filter(|(epoch, _)| *epoch == sink.request.attempt.epoch || !dmg_ambient::planted!("skip-the-fence"))
        .map(|(_, name)| name);
    let table = |name: &str| format!("{}.{}", quoted(&sink.target.schema), quoted(name));
    for name in own {
        client.batch(&format!("SET lock_timeout = '{LOCK_SECONDS}s'; DROP TABLE IF EXISTS {}", table(&name))).await?;
    }
    for name in orphans(sink, client).await? {
        // Whoever holds it is not dead after all.
        let _ = client.batch(&format!("SET lock_timeout = '1s'; DROP TABLE IF EXISTS {}", table(&name))).await;
    }
    client.batch("SET lock_timeout = 0").await
}

/// Staging tables of this role whose run has no session. Tables are listed before sessions: a run connects before it
/// stages, so one that just starts is never taken for dead.
async fn orphans(sink: &PostgresSink, client: &mut Client) -> Result<Vec<String>> {
    let tables = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname ~ '^_dmg_[0-9a-f]{12}_[0-9]+$' \
         AND pg_get_userbyid(c.relowner) = current_user";
    let tables = client.query(tables, &[Some(&sink.target.schema)]).await?.rows;
    let sessions = "SELECT split_part(application_name, '/', 2) FROM pg_stat_activity \
         WHERE datname = current_database() AND starts_with(application_name, 'dmg/')";
    let sessions = client.query(sessions, &[]).await?.rows;
    let alive: Vec<String> = sessions
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .map(|run| staging_name(&Attempt { namespace: String::new(), run: run.into(), epoch: Epoch(0) }))
        .collect();
    let run_of = |name: &str| name.rsplit_once('_').map(|(run, _)| run.to_owned());
    let alive: Vec<_> = alive.iter().filter_map(|name| run_of(name)).collect();
    let names = tables.into_iter().filter_map(|row| row.into_iter().next().flatten());
    Ok(names.filter(|name| run_of(name).is_some_and(|run| !alive.contains(&run))).collect())
}

/// Name of an attempt's staging table.
pub(super) fn staging_name(attempt: &Attempt) -> String {
    format!("_dmg_{}", attempt.short())
}

/// Makes the mark table, once; several runs may try at the same time.
pub(super) async fn make_mark_table(sink: &PostgresSink, client: &mut Client) -> Result<()> {
    let table = mark_table(sink);
    if exists(client, &table).await? {
        return Ok(());
    }
    let sql = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(hashtext('__dmg_commit')); CREATE TABLE IF NOT EXISTS {table} (\
         namespace text NOT NULL, target text NOT NULL, slice text NOT NULL, run text NOT NULL, \
         epoch bigint NOT NULL, rows bigint NOT NULL, digest text NOT NULL, at timestamptz NOT NULL, \
         PRIMARY KEY (namespace, target, slice, run)); COMMIT"
    );
    let made = client.batch(&sql).await;
    if made.is_err() {
        let _ = client.batch("ROLLBACK").await;
    }
    made
}

async fn exists(client: &mut Client, table: &str) -> Result<bool> {
    Ok(client.query("SELECT to_regclass($1)", &[Some(table)]).await?.single().is_some())
}

/// What the mark says about this run.
pub(super) async fn mark(sink: &PostgresSink, client: &mut Client) -> Result<MarkState> {
    if exists(client, &mark_table(sink)).await?
        && let Some(committed) = find(sink, client).await?
    {
        return Ok(MarkState::Committed(committed));
    }
    let newest = staging_tables(sink, client).await?.into_iter().map(|(epoch, _)| epoch).max();
    Ok(match newest {
        Some(epoch) if epoch > sink.request.attempt.epoch => MarkState::Newer(epoch),
        _ => MarkState::None,
    })
}

async fn find(sink: &PostgresSink, client: &mut Client) -> Result<Option<Committed>> {
    let sql = format!(
        "SELECT epoch, rows, digest, at FROM {} WHERE namespace = $1 AND target = $2 AND slice = '' AND run = $3",
        mark_table(sink)
    );
    let attempt = &sink.request.attempt;
    let parameters = [Some(attempt.namespace.as_str()), Some(&sink.target.label()), Some(attempt.run.as_str())];
    let Some(row) = client.query(&sql, &parameters).await?.rows.into_iter().next() else { return Ok(None) };
    let mut values = row.into_iter().map(Option::unwrap_or_default);
    let mut next = || values.next().unwrap_or_default();
    let (epoch, rows, digest, at) = (next(), next(), next(), next());
    Ok(Some(Committed {
        mark: format!("row of run {} in {}.{MARK_TABLE}, written {at}", attempt.run, sink.target.schema),
        rows: rows.parse().unwrap_or(0),
        digest,
        epoch: Epoch(epoch.parse().unwrap_or(0)),
    }))
}

/// Commits, or finds that it happened already.
pub(super) async fn commit(sink: &PostgresSink, client: &mut Client, content: &MarkContent) -> Result<Committed> {
    match transaction(sink, client, content).await {
        Ok(committed) => Ok(committed),
        Err(error) => {
            if client.usable() {
                // The transaction failed as a whole; what it said is worth more than what the rollback says.
                let _ = client.batch("ROLLBACK").await;
            }
            Err(explained(sink, error))
        }
    }
}

async fn transaction(sink: &PostgresSink, client: &mut Client, content: &MarkContent) -> Result<Committed> {
    let target = sink.target.quoted();
    dmg_ambient::failpoint!("postgres.commit", dmg_connector::cut());
    client.batch(&format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")).await?;
    if sink.target.exists {
        // An overwrite keeps other writers out until it is done; an append lets them in. Readers never wait.
        let lock = match sink.request.mode {
            WriteMode::Overwrite => "SHARE ROW EXCLUSIVE",
            _ => "ROW EXCLUSIVE",
        };
        client.batch(&format!("LOCK TABLE {target} IN {lock} MODE")).await?;
    }
    dmg_ambient::failpoint!("postgres.commit.locked", dmg_connector::cut());
    if let Some(committed) = find(sink, client).await?
        && !dmg_ambient::planted!("skip-the-fence")
    {
        client.batch("ROLLBACK").await?;
        return Ok(committed);
    }
    run_script(sink, client).await?;
    if !write_mark(sink, client, content).await? && !dmg_ambient::planted!("skip-the-fence") {
        // Another attempt of this run committed while we waited for its row.
        client.batch("ROLLBACK").await?;
        let committed = find(sink, client).await?;
        return committed.ok_or_else(|| {
            let message = format!("Another attempt of this run held the mark of {}.", sink.target.label());
            Fault::new("StoreErrorConflict", message).into()
        });
    }
    dmg_ambient::failpoint!("postgres.commit.marked", dmg_connector::cut());
    let rows = publish(sink, client).await?;
    dmg_ambient::failpoint!("postgres.commit.published", dmg_connector::cut());
    if rows != content.rows {
        let message = format!("{} took {rows} rows where {} were staged.", sink.target.label(), content.rows);
        let remedy = "Look for triggers or rules on the table that drop or add rows; nothing was committed.";
        return Err(Fault::new("SystemErrorVerification", message).remedy(remedy).into());
    }
    let committed = find(sink, client).await?;
    if dmg_ambient::planted!("commit-without-mark") {
        client.batch(&format!("DELETE FROM {}", mark_table(sink))).await?;
    }
    if dmg_ambient::planted!("acknowledge-before-durable") {
        client.batch("SET LOCAL synchronous_commit = off").await?;
    }
    // From here on, silence may mean either.
    dmg_ambient::failpoint!("postgres.commit.send", dmg_connector::cut());
    if let Err(error) = client.batch("COMMIT").await {
        return Err(if client.usable() { error } else { error.with_unknown_outcome() });
    }
    dmg_ambient::failpoint!("postgres.commit.answered", dmg_connector::cut().with_unknown_outcome());
    committed.ok_or_else(|| Fault::new("SystemErrorInternal", "The mark vanished in its own transaction.").into())
}

/// The author's script. It must leave the transaction as it found it.
async fn run_script(sink: &PostgresSink, client: &mut Client) -> Result<()> {
    let Some(script) = sink.request.pre_copy_script.as_ref().filter(|script| !script.trim().is_empty()) else {
        return Ok(());
    };
    let before = client.query("SELECT txid_current()", &[]).await?.single();
    client.batch(script).await?;
    if !client.in_transaction() || client.query("SELECT txid_current()", &[]).await?.single() != before {
        let message = "The script before the copy ended the transaction it must be part of.";
        let remedy = "Take BEGIN, COMMIT and ROLLBACK out of the script.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    }
    Ok(())
}

/// Writes the mark; `false` if this run has one already.
async fn write_mark(sink: &PostgresSink, client: &mut Client, content: &MarkContent) -> Result<bool> {
    let attempt = &sink.request.attempt;
    let ambient = &sink.server.session.ambient;
    let (now, label) = (ambient.rfc3339(), sink.target.label());
    let oldest = dmg_ambient::rfc3339(ambient.unix_micros() - MARK_DAYS * 86_400_000_000);
    let table = mark_table(sink);
    let outdated = format!("DELETE FROM {table} WHERE namespace = $1 AND target = $2 AND at < $3::timestamptz");
    client.query(&outdated, &[Some(&attempt.namespace), Some(&label), Some(&oldest)]).await?;
    let sql = format!(
        "INSERT INTO {table} (namespace, target, slice, run, epoch, rows, digest, at) \
         VALUES ($1, $2, '', $3, $4::bigint, $5::bigint, $6, $7::timestamptz) ON CONFLICT DO NOTHING"
    );
    let (epoch, rows) = (attempt.epoch.to_string(), content.rows.to_string());
    let parameters = [
        Some(attempt.namespace.as_str()),
        Some(&label),
        Some(attempt.run.as_str()),
        Some(&epoch),
        Some(&rows),
        Some(&content.digest),
        Some(&now),
    ];
    Ok(client.query(&sql, &parameters).await?.affected == 1)
}

/// Moves the staged rows to where readers look. Gives the number of rows.
async fn publish(sink: &PostgresSink, client: &mut Client) -> Result<u64> {
    let (target, staging) = (sink.target.quoted(), sink.staging_quoted());
    if !sink.target.exists {
        let count = client.query(&format!("SELECT count(*) FROM {staging}"), &[]).await?.single();
        client.batch(&format!("ALTER TABLE {staging} RENAME TO {}", quoted(&sink.target.table))).await?;
        return Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0));
    }
    if sink.request.mode == WriteMode::Overwrite {
        client.query(&format!("DELETE FROM {target}"), &[]).await?;
    }
    let columns = quoted_list(sink.planned.iter().map(|column| column.sink.as_str()));
    let sql = format!("INSERT INTO {target} ({columns}) SELECT {columns} FROM {staging}");
    let rows = client.query(&sql, &[]).await?.affected;
    client.batch(&format!("DROP TABLE {staging}")).await?;
    Ok(rows)
}

/// Says in the copy's words what a failed commit means.
fn explained(sink: &PostgresSink, error: Error) -> Error {
    let state = error.fault.context.get("sqlState").map(String::as_str);
    let fault = match (error.fault.code.as_str(), state) {
        ("UserErrorTableMissing", _) if error.fault.message.contains(&sink.staging()) => {
            let message = format!("The staged rows for {} are gone: another attempt took over.", sink.target.label());
            Fault::new("SystemErrorLeaseLost", message)
        }
        (_, Some("42P07")) => {
            let message = format!("Table {} was created by somebody else meanwhile.", sink.target.label());
            Fault::new("StoreErrorCommitRefused", message)
        }
        ("StoreErrorConflict", _) => {
            let message = format!("Another writer holds {}, and did not let go in time.", sink.target.label());
            Fault::new("StoreErrorConflict", message)
        }
        _ => return error,
    };
    Error { fault: Box::new(fault), ..error }
}
