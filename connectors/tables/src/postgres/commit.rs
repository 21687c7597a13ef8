//! The one step that makes rows visible, with the mark that says it happened, in one transaction of the target.

use dmg_connector::{Committed, Error, MarkContent, Result};
use dmg_protocol::Fault;

use super::client::Client;
use super::sessions::LOCK_SECONDS;
use super::shape::Way;
use super::write::PostgresSink;
use super::{mark, publish};

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
    dmg_ambient::failpoint!("postgres.commit", dmg_connector::cut());
    let fenced = !dmg_ambient::planted!("skip-the-fence");
    if let Some(committed) = mark::find(sink, client).await?.filter(|_| fenced) {
        if client.in_transaction() {
            client.batch("ROLLBACK").await?;
        }
        return Ok(committed);
    }
    if !matches!(sink.way, Way::Direct) {
        client.batch(&format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")).await?;
    } else if !client.in_transaction() {
        let message = format!("The rows sent to {} are gone with their session.", sink.target.label());
        let remedy = "Nothing was committed; the attempt is repeated by itself.";
        return Err(Fault::new("SystemErrorLeaseLost", message).remedy(remedy).into());
    }
    publish::prepare(sink, client).await?;
    let way = publish::lock(sink, client).await?;
    dmg_ambient::failpoint!("postgres.commit.locked", dmg_connector::cut());
    if let Some(committed) = mark::find(sink, client).await?.filter(|_| fenced) {
        client.batch("ROLLBACK").await?;
        return Ok(committed);
    }
    publish::add_columns(sink, client, way).await?;
    run_script(sink, client).await?;
    if !mark::write(sink, client, content).await? && fenced {
        // Another attempt of this run committed while we waited for its row.
        client.batch("ROLLBACK").await?;
        let committed = mark::find(sink, client).await?;
        return committed.ok_or_else(|| {
            let message = format!("Another attempt of this run held the mark of {}.", sink.target.label());
            Fault::new("StoreErrorConflict", message).into()
        });
    }
    dmg_ambient::failpoint!("postgres.commit.marked", dmg_connector::cut());
    let rows = publish::rows(sink, client, way).await?;
    dmg_ambient::failpoint!("postgres.commit.published", dmg_connector::cut());
    if rows != content.rows {
        let message = format!("{} took {rows} rows where {} were staged.", sink.target.label(), content.rows);
        let remedy = "Look for triggers or rules on the table that drop or add rows; nothing was committed.";
        return Err(Fault::new("SystemErrorVerification", message).remedy(remedy).into());
    }
    let committed = mark::find(sink, client).await?;
    if dmg_ambient::planted!("commit-without-mark") {
        client.batch(&format!("DELETE FROM {}", mark::marks(sink))).await?;
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
    let Some(script) = sink.script() else { return Ok(()) };
    let before = client.query("SELECT txid_current()", &[]).await?.single();
    client.batch(script).await?;
    if !client.in_transaction() || client.query("SELECT txid_current()", &[]).await?.single() != before {
        let message = "The script before the copy ended the transaction it must be part of.";
        let remedy = "Take BEGIN, COMMIT and ROLLBACK out of the script.";
        return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
    }
    Ok(())
}

/// Says in the copy's words what a failed commit means.
fn explained(sink: &PostgresSink, error: Error) -> Error {
    let label = sink.target.label();
    let state = error.fault.context.get("sqlState").map(String::as_str);
    let fault = match (error.fault.code.as_str(), state) {
        ("UserErrorTableMissing", _) if error.fault.message.contains(&sink.staging()) => {
            let message = format!("The staged rows for {label} are gone: another attempt took over.");
            Fault::new("SystemErrorLeaseLost", message)
        }
        ("UserErrorTableMissing", _) if error.fault.message.contains(&sink.target.table) => {
            let message = format!("Table {label} was dropped or renamed since the plan was made.");
            Fault::new("StoreErrorCommitRefused", message)
        }
        (_, Some("42P07")) if matches!(sink.way, Way::Become) => {
            let message = format!("Table {label} was created by somebody else meanwhile.");
            Fault::new("StoreErrorCommitRefused", message)
        }
        (_, Some("55P03")) => {
            let message = format!("Another writer holds {label}, and did not let go within {LOCK_SECONDS} seconds.");
            Fault::new("StoreErrorConflict", message)
        }
        (_, Some("40P01")) => {
            let message = format!("The commit to {label} and another transaction waited for each other.");
            let remedy = "Nothing was committed; run again.";
            Fault::new("StoreErrorConflict", message).remedy(remedy)
        }
        _ => return error,
    };
    Error { fault: Box::new(fault), ..error }
}
