//! Whose session is whose: every session of a sink holds a user lock with a name of its own, and a successor finds
//! and ends those of lower epochs by it.

use dmg_connector::Result;
use dmg_protocol::{Attempt, Epoch, Fault};

use super::client::{Client, literal};

/// Sessions of one attempt that can be told apart: 32 lanes at most, the control session, and one that was lost.
pub(super) const SLOTS: u32 = 34;
/// Epochs before this one whose sessions are looked for; those before them were ended by their successors.
const EPOCHS: u64 = 16;
/// How long a successor waits for the end of a session.
const END_SECONDS: u32 = 60;

/// Name of the lock of one session. Not longer than the 64 characters MySQL allows.
fn name(short: &str, slot: u32) -> String {
    format!("dmg_{short}_{slot}")
}

/// Takes the first free slot from `first` on. Gives none where the server has no such locks (a cluster may not);
/// then a predecessor's locks can only be waited for.
pub(super) async fn claim(client: &mut Client, attempt: &Attempt, first: u32) -> Result<Option<u32>> {
    let short = attempt.short();
    for slot in (0..SLOTS).map(|slot| (first + slot) % SLOTS) {
        let sql = format!("SELECT GET_LOCK({}, 0)", literal(&name(&short, slot)));
        match client.query(&sql).await {
            Ok(answer) if answer.rows.first().is_some_and(|row| row[0].as_deref() == Some("1")) => {
                return Ok(Some(slot));
            }
            Ok(_) => {}
            Err(_) if client.usable() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Sessions that hold a lock of those attempts: attempt, slot, session.
async fn holders(client: &mut Client, shorts: &[String]) -> Result<Vec<(usize, u32, u32)>> {
    let mut found = Vec::new();
    for (index, short) in shorts.iter().enumerate() {
        let asked: Vec<String> =
            (0..SLOTS).map(|slot| format!("IS_USED_LOCK({})", literal(&name(short, slot)))).collect();
        let row = client.query(&format!("SELECT {}", asked.join(", "))).await?.rows.into_iter().next();
        for (slot, session) in (0..SLOTS).zip(row.unwrap_or_default()) {
            if let Some(session) = session.and_then(|session| session.parse().ok()) {
                found.push((index, slot, session));
            }
        }
    }
    Ok(found)
}

/// Ends what lower epochs of this run left running, and waits until it is gone.
pub(super) async fn end_lower_epochs(client: &mut Client, attempt: &Attempt) -> Result<()> {
    let lowest = attempt.epoch.0.saturating_sub(EPOCHS).max(1);
    let shorts: Vec<String> =
        (lowest..attempt.epoch.0).map(|epoch| Attempt { epoch: Epoch(epoch), ..attempt.clone() }.short()).collect();
    for (index, slot, session) in holders(client, &shorts).await? {
        end(client, session, &name(&shorts[index], slot)).await?;
    }
    Ok(())
}

/// Ends a session of this attempt that was lost in doubt.
pub(super) async fn end_own(client: &mut Client, attempt: &Attempt, lost: u32) -> Result<()> {
    let short = attempt.short();
    for (_, slot, session) in holders(client, std::slice::from_ref(&short)).await? {
        if session == lost {
            end(client, session, &name(&short, slot)).await?;
        }
    }
    Ok(())
}

async fn end(client: &mut Client, session: u32, lock: &str) -> Result<()> {
    // It may have gone by itself meanwhile: no such session is no failure.
    let _ = client.batch(&format!("KILL {session}")).await;
    let waited = client.query(&format!("SELECT GET_LOCK({}, {END_SECONDS})", literal(lock))).await?.single();
    if waited.as_deref() != Some("1") {
        let message = format!("An earlier session of this run on {} does not end.", client.wire.place);
        let remedy = "Run again later, or end the session with KILL as an administrator.";
        return Err(Fault::new("StoreErrorConflict", message).remedy(remedy).into());
    }
    client.batch(&format!("DO RELEASE_LOCK({})", literal(lock))).await?;
    Ok(())
}

/// Whether anybody works on that attempt.
pub(super) async fn alive(client: &mut Client, short: &str) -> Result<bool> {
    Ok(!holders(client, &[short.to_owned()]).await?.is_empty())
}
