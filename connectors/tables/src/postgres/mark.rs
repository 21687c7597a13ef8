//! The mark of a run, and the names it stages under. The mark is a row that changes with the content in one
//! transaction; who finds the mark of its own run there has nothing left to do.

use dmg_connector::{Committed, MarkContent, MarkState, Result};
use dmg_protocol::{Attempt, Epoch};

use super::catalog::quoted;
use super::client::Client;
use super::sessions;
use super::write::PostgresSink;

/// The mark table, in the target's schema. One row per run: an older run that comes back late still finds its own.
const MARK_TABLE: &str = "__dmg_commit";
/// Marks older than this are removed by the next commit to the same target.
const MARK_DAYS: i64 = 90;

pub(super) fn marks(sink: &PostgresSink) -> String {
    format!("{}.{}", quoted(&sink.target.schema), quoted(MARK_TABLE))
}

/// Staging tables of this run in the target's schema, by epoch.
pub(super) async fn staging_tables(sink: &PostgresSink, client: &mut Client) -> Result<Vec<(Epoch, String)>> {
    let short = sink.staging();
    let prefix = short.rsplit_once('_').map_or(short.as_str(), |(prefix, _)| prefix).to_owned() + "_";
    let sql = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND starts_with(c.relname, $2) AND c.relkind = 'r'";
    let rows = client.query(sql, &[Some(&sink.target.schema), Some(&prefix)]).await?.rows;
    let names = rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
    Ok(names.filter_map(|name| Some((Epoch(name.strip_prefix(&prefix)?.parse().ok()?), name))).collect())
}

/// Removes staging tables of lower epochs and, unless it was just taken over, of this one, and those of other runs of
/// this role that nobody works on any more: a copy that was killed and never came back.
pub(super) async fn drop_staging_up_to_now(sink: &PostgresSink, client: &mut Client, keep: bool) -> Result<()> {
    let now = sink.request.attempt.epoch;
    let own = staging_tables(sink, client).await?;
    let own = own.into_iter().filter(|(epoch, _)| *epoch < now || *epoch == now && !keep);
    let own = own
        .filter(|(epoch, _)| *epoch == sink.request.attempt.epoch || !dmg_ambient::planted!("skip-the-fence"))
        .map(|(_, name)| name);
    let table = |name: &str| format!("{}.{}", quoted(&sink.target.schema), quoted(name));
    let drop = |name: &str| {
        let parts = crate::checkpoint::table_of(name);
        format!("DROP TABLE IF EXISTS {}, {}", table(name), table(&parts))
    };
    for name in own {
        sessions::insist(client, &sink.server.place(), &sink.request.attempt, &drop(&name)).await?;
    }
    for name in orphans(sink, client).await? {
        // Whoever holds it is not dead after all.
        let _ = client.batch(&format!("SET lock_timeout = '1s'; {}", drop(&name))).await;
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
pub(super) async fn make_table(sink: &PostgresSink, client: &mut Client) -> Result<()> {
    let table = marks(sink);
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
pub(super) async fn state(sink: &PostgresSink, client: &mut Client) -> Result<MarkState> {
    if exists(client, &marks(sink)).await?
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

pub(super) async fn find(sink: &PostgresSink, client: &mut Client) -> Result<Option<Committed>> {
    let sql = format!(
        "SELECT epoch, rows, digest, at FROM {} WHERE namespace = $1 AND target = $2 AND slice = '' AND run = $3",
        marks(sink)
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

/// Writes the mark; `false` if this run has one already.
pub(super) async fn write(sink: &PostgresSink, client: &mut Client, content: &MarkContent) -> Result<bool> {
    let attempt = &sink.request.attempt;
    let ambient = &sink.server.session.ambient;
    let (now, label) = (ambient.rfc3339(), sink.target.label());
    let oldest = dmg_ambient::rfc3339(ambient.unix_micros() - MARK_DAYS * 86_400_000_000);
    let table = marks(sink);
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
