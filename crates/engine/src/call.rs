//! Calls one stored procedure. Opening the store is retried, the call is not: whether it ran is only known when its
//! answer arrives, so a second call is the decision of whoever asked for the first.

use std::time::Duration;

use dmg_connector::{Result, Session};
use dmg_protocol::catalog::Capability;
use dmg_protocol::job::{ProcedureCall, ProcedureOutcome, StoreRef};
use dmg_protocol::worker::{OUTCOME, OUTCOME_UNKNOWN};
use dmg_protocol::{Fault, Secrets};
use tokio_util::sync::CancellationToken;

use crate::open::{Stores, unknown};
use crate::retry::retrying;

/// How much longer than its own limit a call may take: the server's word on its limit is better than ours.
const GRACE: Duration = Duration::from_secs(10);

/// Calls the procedure. Cancelling asks the server to stop it; what it had committed by then stays.
pub async fn call(
    stores: &dyn Stores,
    store: &StoreRef,
    secrets: &Secrets,
    session: Session,
    call: &ProcedureCall,
    cancel: &CancellationToken,
) -> std::result::Result<ProcedureOutcome, Fault> {
    let ambient = session.ambient.clone();
    let limit = call.timeout_seconds.map(|seconds| Duration::from_secs(seconds).saturating_add(GRACE));
    let limited = async {
        match limit {
            Some(limit) => ambient.sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(cancelled(call).into()),
        result = called(stores, store, secrets, session, call) => result,
        () = limited => Err(call.too_long().into()),
    };
    result.map_err(|error| {
        if let Some(cause) = &error.cause {
            tracing::debug!(code = %error.fault.code, cause = %cause, "call failed");
        }
        let unknown = error.outcome_unknown;
        if unknown { error.fault.with(OUTCOME, OUTCOME_UNKNOWN) } else { *error.fault }
    })
}

async fn called(
    stores: &dyn Stores,
    store: &StoreRef,
    secrets: &Secrets,
    session: Session,
    call: &ProcedureCall,
) -> Result<ProcedureOutcome> {
    let Some(connector) = stores.tables(&store.store) else {
        return Err(match stores.files(&store.store) {
            Some(files) => refused(files.descriptor().title).into(),
            None => unknown(&store.store).into(),
        });
    };
    let descriptor = connector.descriptor();
    if !descriptor.capabilities.contains(&Capability::CallProcedure) {
        return Err(refused(descriptor.title).into());
    }
    connector.validate(&store.settings)?;
    let ambient = session.ambient.clone();
    let connection =
        retrying(&ambient, "open store", || connector.open(&store.settings, secrets, session.clone())).await?;
    connection.call(call).await
}

fn refused(title: &str) -> Fault {
    Fault::new("UserErrorNotSupported", format!("{title} has no stored procedures that could be called here."))
        .remedy("Name a linked service of a database that has them; docs/support.md lists which do.")
}

fn cancelled(call: &ProcedureCall) -> Fault {
    let message = format!("The call of \"{}\" was cancelled; what it had committed by then stays.", call.name);
    Fault::new("UserErrorCancelled", message)
}
