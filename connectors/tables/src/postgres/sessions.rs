//! Sessions of earlier attempts, which may hold locks or be about to commit: a successor ends them first.

use dmg_connector::Result;
use dmg_protocol::{Attempt, Epoch, Fault};

use super::client::Client;

/// How long a commit waits for other writers, and a successor for the end of its predecessor's sessions.
pub(super) const LOCK_SECONDS: u32 = 60;

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

/// How long a table is waited for before its holders are looked at again, and how often.
const LOOK_SECONDS: u32 = 5;
const LOOKS_MAX: u32 = LOCK_SECONDS / LOOK_SECONDS;

/// Runs statements that need a table to themselves. A lower epoch that is not dead after all may connect again between
/// its end and the lock; it is ended as often as it comes. The time limit of locks stays set.
pub(super) async fn insist(client: &mut Client, place: &str, attempt: &Attempt, sql: &str) -> Result<()> {
    let mut looks = 0;
    loop {
        end_lower_epochs(client, place, attempt).await?;
        let error = match client.batch(&format!("SET lock_timeout = '{LOOK_SECONDS}s'; {sql}")).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        looks += 1;
        if looks == LOOKS_MAX || error.fault.context.get("sqlState").is_none_or(|state| state != "55P03") {
            return Err(error);
        }
        client.batch("ROLLBACK").await?;
    }
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
