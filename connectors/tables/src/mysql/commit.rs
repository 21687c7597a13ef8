//! The one step that makes staged rows visible, and the mark that says it happened. A swapped table carries its mark
//! in its comment; rows put into a table that stays have theirs in the mark table, written in the same transaction.

use dmg_connector::{Committed, Error, MarkContent, MarkState, Result};
use dmg_protocol::{Attempt, CommitShape, Epoch, Fault, WriteMode};

use super::client::{Client, literal, quoted};
use super::sessions;
use super::write::MySqlSink;
use super::{catalog, publish, shape};

/// The mark table, in the target's database. One row per run: an older run that comes back late still finds its own.
const MARK_TABLE: &str = "__dmg_commit";
/// What a mark in a comment starts with.
const MARK_START: &str = "{dmg:1 ";
/// Marks older than this are removed by the next commit to the same target.
const MARK_DAYS: i64 = 90;
/// How long a commit waits for other writers.
pub(super) const LOCK_SECONDS: u32 = 60;

fn mark_table(sink: &MySqlSink) -> String {
    format!("{}.{}", quoted(&sink.target.schema), quoted(MARK_TABLE))
}

/// Name of an attempt's staging table.
pub(super) fn staging_name(attempt: &Attempt) -> String {
    format!("_dmg_{}", attempt.short())
}

/// Name a replaced table has until it is dropped.
fn old_name(sink: &MySqlSink) -> String {
    format!("{}_old", sink.staging())
}

/// A mark as it stands in a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    namespace: String,
    run: String,
    epoch: u64,
    rows: u64,
    digest: String,
}

impl Mark {
    fn text(&self) -> String {
        let Mark { namespace, run, epoch, rows, digest } = self;
        format!("{MARK_START}{namespace}|{run}|{epoch}|{rows}|{digest}}}")
    }

    /// The comment people wrote, and the mark behind it.
    fn split(comment: &str) -> (&str, Option<Mark>) {
        let parsed = comment.rfind(MARK_START).and_then(|at| {
            let inner = comment[at + MARK_START.len()..].strip_suffix('}')?;
            let mut parts = inner.rsplitn(5, '|');
            let (digest, rows, epoch) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let (run, namespace) = (parts.next()?.to_owned(), parts.next()?.to_owned());
            Some((comment[..at].trim_end(), Mark { namespace, run, epoch, rows, digest: digest.to_owned() }))
        });
        parsed.map_or((comment, None), |(own, mark)| (own, Some(mark)))
    }
}

/// Staging tables in the target's database: name, run, epoch, and whether it is a table beside one, that was replaced or
/// holds checkpoints.
async fn leftovers(sink: &MySqlSink, client: &mut Client) -> Result<Vec<(String, String, u64, bool)>> {
    let sql = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME LIKE '\\\\_dmg\\\\_%'",
        literal(&sink.target.schema)
    );
    let names = client.query(&sql).await?.rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
    let parsed = names.filter_map(|name| {
        let (rest, beside) = match name.strip_suffix("_old").or(name.strip_suffix("_parts")) {
            Some(rest) => (rest, true),
            None => (name.as_str(), false),
        };
        let (run, epoch) = rest.strip_prefix("_dmg_")?.split_once('_')?;
        let known = run.len() == 12 && run.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (run, epoch) = (run.to_owned(), epoch.parse().ok().filter(|_| known)?);
        Some((name, run, epoch, beside))
    });
    Ok(parsed.collect())
}

/// The newest staging table of a lower epoch of this run: epoch and name.
pub(super) async fn lower_staging(sink: &MySqlSink, client: &mut Client) -> Result<Option<(u64, String)>> {
    let attempt = &sink.request.attempt;
    let short = attempt.short();
    let own = short.split('_').next().unwrap_or_default();
    let found = leftovers(sink, client).await?.into_iter();
    let lower = found.filter(|(_, run, epoch, beside)| run == own && *epoch < attempt.epoch.0 && !beside);
    Ok(lower.map(|(name, _, epoch, _)| (epoch, name)).max())
}

/// Removes staging tables of lower epochs and, unless it was just taken over, of this one, and those of other runs that
/// nobody works on any more: a copy that was killed and never came back.
pub(super) async fn sweep(sink: &MySqlSink, client: &mut Client, keep: bool) -> Result<()> {
    let attempt = &sink.request.attempt;
    let short = attempt.short();
    let own = short.split('_').next().unwrap_or_default();
    let table = |name: &str| format!("{}.{}", quoted(&sink.target.schema), quoted(name));
    for (name, run, epoch, _) in leftovers(sink, client).await? {
        if run == own {
            if epoch < attempt.epoch.0 && dmg_ambient::planted!("skip-the-fence") {
                continue;
            }
            if epoch < attempt.epoch.0 || epoch == attempt.epoch.0 && !keep {
                client.batch(&format!("DROP TABLE IF EXISTS {}", table(&name))).await?;
            }
        } else if !sessions::alive(client, &format!("{run}_{epoch}")).await? {
            // A session holds its lock before it stages, so one that just starts is never taken for dead.
            let _ = client.batch(&format!("DROP TABLE IF EXISTS {}", table(&name))).await;
        }
    }
    Ok(())
}

/// Makes the mark table, once.
pub(super) async fn make_mark_table(sink: &MySqlSink, client: &mut Client) -> Result<()> {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {} (namespace varchar(190) NOT NULL, target varchar(200) NOT NULL, \
         slice varchar(64) NOT NULL, run varchar(64) NOT NULL, epoch bigint unsigned NOT NULL, \
         `rows` bigint unsigned NOT NULL, digest varchar(64) NOT NULL, at varchar(40) NOT NULL, \
         PRIMARY KEY (namespace, target, slice, run)) \
         ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        mark_table(sink)
    );
    client.batch(&sql).await.map(drop)
}

/// What the mark says about this run.
pub(super) async fn mark(sink: &MySqlSink, client: &mut Client) -> Result<MarkState> {
    if let Some(committed) = find(sink, client).await? {
        drop_own(sink, client).await;
        return Ok(MarkState::Committed(committed));
    }
    let attempt = &sink.request.attempt;
    let short = attempt.short();
    let own = short.split('_').next().unwrap_or_default();
    let staged = leftovers(sink, client).await?.into_iter().filter(|(_, run, ..)| run == own);
    let newest = staged.map(|(_, _, epoch, _)| Epoch(epoch)).max();
    Ok(match newest {
        Some(epoch) if epoch > attempt.epoch => MarkState::Newer(epoch),
        _ => MarkState::None,
    })
}

/// What a committed run leaves behind does no harm, so it does not matter if it cannot be removed now.
async fn drop_own(sink: &MySqlSink, client: &mut Client) {
    let attempt = &sink.request.attempt;
    let short = attempt.short();
    let own = short.split('_').next().unwrap_or_default();
    let Ok(found) = leftovers(sink, client).await else { return };
    for (name, ..) in found.into_iter().filter(|(_, run, epoch, _)| run == own && *epoch <= attempt.epoch.0) {
        let table = format!("{}.{}", quoted(&sink.target.schema), quoted(&name));
        let _ = client.batch("SET lock_wait_timeout = 10").await;
        let _ = client.batch(&format!("DROP TABLE IF EXISTS {table}")).await;
    }
}

/// The mark of this run: in the comment of the target, or in the mark table.
async fn find(sink: &MySqlSink, client: &mut Client) -> Result<Option<Committed>> {
    let attempt = &sink.request.attempt;
    let relation = catalog::relation(client, &sink.target.schema, &sink.target.table).await?;
    if let Some(relation) = relation
        && let (_, Some(mark)) = Mark::split(&relation.comment)
        && mark.namespace == attempt.namespace
        && mark.run == attempt.run.as_str()
    {
        return Ok(Some(Committed {
            mark: format!("comment of table {}, run {}", sink.target.label(), attempt.run),
            rows: mark.rows,
            digest: mark.digest,
            epoch: Epoch(mark.epoch),
        }));
    }
    let sql = format!(
        "SELECT epoch, `rows`, digest, at FROM {} WHERE namespace = {} AND target = {} AND slice = '' AND run = {}",
        mark_table(sink),
        literal(&attempt.namespace),
        literal(&sink.target.label()),
        literal(attempt.run.as_str())
    );
    let rows = match client.query(&sql).await {
        Ok(answer) => answer.rows,
        Err(error) if error.fault.code == "UserErrorTableMissing" => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
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
pub(super) async fn commit(sink: &MySqlSink, client: &mut Client, content: &MarkContent) -> Result<Committed> {
    if let Some(committed) = find(sink, client).await?
        && !dmg_ambient::planted!("skip-the-fence")
    {
        drop_own(sink, client).await;
        return Ok(committed);
    }
    dmg_ambient::failpoint!("mysql.commit", dmg_connector::cut());
    client.batch(&format!("SET lock_wait_timeout = {LOCK_SECONDS}, innodb_lock_wait_timeout = {LOCK_SECONDS}")).await?;
    let done = match sink.shape {
        CommitShape::Swap => swap(sink, client, content).await,
        _ => transaction(sink, client, content).await,
    };
    match done {
        Ok(committed) => {
            drop_own(sink, client).await;
            Ok(committed)
        }
        Err(error) => {
            if client.usable() {
                // The transaction failed as a whole; what it said is worth more than what the rollback says.
                let _ = client.batch("ROLLBACK").await;
            }
            Err(explained(sink, error))
        }
    }
}

fn vanished() -> Error {
    Fault::new("SystemErrorInternal", "The mark vanished in its own commit.").into()
}

/// The staging table takes the target's place.
async fn swap(sink: &MySqlSink, client: &mut Client, content: &MarkContent) -> Result<Committed> {
    let (target, staging) = (sink.target.quoted(), sink.staging_quoted());
    let count = client.query(&format!("SELECT COUNT(*) FROM {staging}")).await?.single();
    check_rows(sink, count.and_then(|count| count.parse().ok()).unwrap_or(0), content)?;
    let now = catalog::relation(client, &sink.target.schema, &sink.target.table).await?;
    let comment = now.as_ref().map_or("", |relation| relation.comment.as_str());
    let (words, before) = Mark::split(comment);
    if let Some(before) = before {
        // The run that wrote the table before may still come back and ask.
        insert_mark(sink, client, &before, true).await?;
    }
    let attempt = &sink.request.attempt;
    let mark = Mark {
        namespace: attempt.namespace.clone(),
        run: attempt.run.to_string(),
        epoch: attempt.epoch.0,
        rows: content.rows,
        digest: content.digest.clone(),
    };
    let comment = if words.is_empty() { mark.text() } else { format!("{words} {}", mark.text()) };
    if !dmg_ambient::planted!("commit-without-mark") {
        client.batch(&format!("ALTER TABLE {staging} COMMENT = {}", literal(&comment))).await?;
    }
    dmg_ambient::failpoint!("mysql.commit.marked", dmg_connector::cut());
    // As late as can be: a table cannot be held while it is renamed.
    shape::check_unaltered(sink, client).await?;
    let rename = if sink.target.exists.is_some() {
        let old = format!("{}.{}", quoted(&sink.target.schema), quoted(&old_name(sink)));
        format!("RENAME TABLE {target} TO {old}, {staging} TO {target}")
    } else {
        format!("RENAME TABLE {staging} TO {target}")
    };
    // From here on, silence may mean either.
    dmg_ambient::failpoint!("mysql.commit.send", dmg_connector::cut());
    decide(client, &rename).await?;
    dmg_ambient::failpoint!("mysql.commit.answered", dmg_connector::cut().with_unknown_outcome());
    find(sink, client).await?.ok_or_else(vanished)
}

/// Sends what decides. Without an answer nobody knows.
async fn decide(client: &mut Client, sql: &str) -> Result<()> {
    match client.batch(sql).await {
        Ok(_) => Ok(()),
        Err(error) if client.usable() => Err(error),
        Err(error) => Err(error.with_unknown_outcome()),
    }
}

fn check_rows(sink: &MySqlSink, rows: u64, content: &MarkContent) -> Result<()> {
    if rows == content.rows {
        return Ok(());
    }
    let message = format!("{} took {rows} rows where {} were staged.", sink.target.label(), content.rows);
    let remedy = "Look for keys that are there twice, and for triggers that drop rows; nothing was committed.";
    Err(Fault::new("SystemErrorVerification", message).remedy(remedy).into())
}

/// Rows and mark in one transaction of the target.
async fn transaction(sink: &MySqlSink, client: &mut Client, content: &MarkContent) -> Result<Committed> {
    publish::add_columns(sink, client).await?;
    client.batch("START TRANSACTION").await?;
    dmg_ambient::failpoint!("mysql.commit.locked", dmg_connector::cut());
    run_script(sink, client).await?;
    let attempt = &sink.request.attempt;
    let mark = Mark {
        namespace: attempt.namespace.clone(),
        run: attempt.run.to_string(),
        epoch: attempt.epoch.0,
        rows: content.rows,
        digest: content.digest.clone(),
    };
    // A procedure could commit by itself: the mark must not be there before that is known not to have happened.
    let procedure = sink.request.mode == WriteMode::Procedure;
    if procedure {
        client.batch("SAVEPOINT dmg_before_calls").await?;
    } else if let Some(committed) = write_mark(sink, client, &mark).await? {
        return Ok(committed);
    }
    dmg_ambient::failpoint!("mysql.commit.marked", dmg_connector::cut());
    let rows = publish::publish(sink, client).await?;
    dmg_ambient::failpoint!("mysql.commit.published", dmg_connector::cut());
    // One that commits and begins another transaction takes the savepoint along.
    let kept = client.in_transaction();
    let kept = kept && (!procedure || client.batch("RELEASE SAVEPOINT dmg_before_calls").await.is_ok());
    if !kept {
        let message = format!(
            "What wrote into {} ended the transaction it must be part of; what it committed is there, and is no copy.",
            sink.target.label()
        );
        let remedy = "Take COMMIT, ROLLBACK and what commits by itself (DDL) out of the procedure.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    }
    if procedure && let Some(committed) = write_mark(sink, client, &mark).await? {
        return Ok(committed);
    }
    check_rows(sink, rows, content)?;
    let committed = find(sink, client).await?;
    if dmg_ambient::planted!("commit-without-mark") {
        client.batch(&format!("DELETE FROM {}", mark_table(sink))).await?;
    }
    // From here on, silence may mean either.
    dmg_ambient::failpoint!("mysql.commit.send", dmg_connector::cut());
    decide(client, "COMMIT").await?;
    dmg_ambient::failpoint!("mysql.commit.answered", dmg_connector::cut().with_unknown_outcome());
    committed.ok_or_else(vanished)
}

/// Writes the mark; gives the commit that another attempt of this run made while we waited for its row.
async fn write_mark(sink: &MySqlSink, client: &mut Client, mark: &Mark) -> Result<Option<Committed>> {
    if insert_mark(sink, client, mark, false).await? || dmg_ambient::planted!("skip-the-fence") {
        return Ok(None);
    }
    client.batch("ROLLBACK").await?;
    let message = format!("Another attempt of this run held the mark of {}.", sink.target.label());
    let conflict = || Fault::new("StoreErrorConflict", message).into();
    find(sink, client).await?.map(Some).ok_or_else(conflict)
}

/// The author's script. It must leave the transaction as it found it; a savepoint tells.
async fn run_script(sink: &MySqlSink, client: &mut Client) -> Result<()> {
    let Some(script) = sink.request.pre_copy_script.as_ref().filter(|script| !script.trim().is_empty()) else {
        return Ok(());
    };
    client.batch("SAVEPOINT dmg_before_script").await?;
    client.script(script).await?;
    if !client.in_transaction() || client.batch("RELEASE SAVEPOINT dmg_before_script").await.is_err() {
        let message = "The script before the copy ended the transaction it must be part of.";
        let remedy = "Take COMMIT, ROLLBACK and what commits by itself (TRUNCATE, CREATE, ALTER, DROP) out of it; \
                      use DELETE in the place of TRUNCATE.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    }
    Ok(())
}

/// Writes a mark; `false` if that run has one already.
async fn insert_mark(sink: &MySqlSink, client: &mut Client, mark: &Mark, may_be_there: bool) -> Result<bool> {
    let ambient = &sink.server.session.ambient;
    let oldest = dmg_ambient::rfc3339(ambient.unix_micros() - MARK_DAYS * 86_400_000_000);
    let (table, label) = (mark_table(sink), sink.target.label());
    let outdated = format!(
        "DELETE FROM {table} WHERE namespace = {} AND target = {} AND at < {}",
        literal(&mark.namespace),
        literal(&label),
        literal(&oldest)
    );
    client.batch(&outdated).await?;
    let sql = format!(
        "INSERT {} INTO {table} (namespace, target, slice, run, epoch, `rows`, digest, at) \
         VALUES ({}, {}, '', {}, {}, {}, {}, {})",
        if may_be_there { "IGNORE" } else { "" },
        literal(&mark.namespace),
        literal(&label),
        literal(&mark.run),
        mark.epoch,
        mark.rows,
        literal(&mark.digest),
        literal(&ambient.rfc3339())
    );
    match client.batch(&sql).await {
        Ok(done) => Ok(done.affected == 1),
        Err(error) if error.fault.code == "UserErrorDuplicateKey" => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says in the copy's words what a failed commit means.
fn explained(sink: &MySqlSink, error: Error) -> Error {
    let number = error.fault.context.get("errorNumber").map(String::as_str);
    let fault = match (error.fault.code.as_str(), number) {
        ("UserErrorTableMissing", _) if error.fault.message.contains(&sink.staging()) => {
            let message = format!("The staged rows for {} are gone: another attempt took over.", sink.target.label());
            Fault::new("SystemErrorLeaseLost", message)
        }
        // RENAME names the file it did not find rather than the table.
        (_, Some("1017" | "1032")) if sink.shape == CommitShape::Swap => {
            let message = format!("The staged rows for {} are gone: another attempt took over.", sink.target.label());
            Fault::new("SystemErrorLeaseLost", message)
        }
        (_, Some("1050")) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_comments() {
        let mark = Mark {
            namespace: "dmg copy | here".into(),
            run: "0f8fad5b".into(),
            epoch: 3,
            rows: 12,
            digest: "abc".into(),
        };
        let comment = format!("orders of {{today}} {}", mark.text());
        assert_eq!(Mark::split(&comment), ("orders of {today}", Some(mark.clone())));
        assert_eq!(Mark::split(&mark.text()), ("", Some(mark)));
        for other in ["", "orders", "{dmg:1 x}", "{dmg:1 a|b|c|d|e}"] {
            assert_eq!(Mark::split(other), (other, None));
        }
    }
}
