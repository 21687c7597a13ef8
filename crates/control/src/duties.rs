//! What keeps moving without being asked: leases that run out, attempts that take too long, jobs that become due,
//! sessions that end. Each round is idempotent; the next round is the retry.

use std::sync::Arc;
use std::time::Duration;

use dmg_protocol::Fault;
use dmg_protocol::channel::LEASE_SECONDS;
use dmg_state::Moment;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::runs::{self, outcome};
use crate::service::Service;

const PERIOD: Duration = Duration::from_secs(1);
/// After a start, lease periods that pass before a held job is handed to anybody else: the holder's pauses between
/// its tries to renew grow while the service is away.
const GRACE_PERIODS: u64 = 2;

/// Once, before the first request: holders who could not renew while the service was away get time to.
pub(crate) async fn start(service: &Service) -> Result<(), Fault> {
    let grace = Duration::from_secs(LEASE_SECONDS * GRACE_PERIODS);
    service.state.extend_leases(service.now() + grace.as_micros() as Moment).await?;
    for run in service.state.open_runs().await? {
        runs::forward(service, &run).await?;
    }
    Ok(())
}

/// Rounds until the stop.
pub(crate) async fn run(service: Arc<Service>, stop: CancellationToken) {
    let mut last = service.now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = service.ambient.sleep(PERIOD) => {}
        }
        let now = service.now();
        if let Err(error) = round(&service, last, now).await {
            tracing::error!(%error, "a round of the duties failed");
        }
        last = now;
    }
}

async fn round(service: &Service, last: Moment, now: Moment) -> dmg_state::Result<()> {
    service.sessions.sweep(service.ambient.uptime());
    service.state.forget_looks(now - api::browse::KEPT.as_micros() as Moment).await?;
    let expiry = service.state.expire_leases(now, move |job, activity| outcome::expired(job, activity, now)).await?;
    for job in &expiry.jobs {
        tracing::warn!(%job, "a lease ran out");
    }
    for run in service.state.open_runs().await? {
        runs::forward(service, &run).await?;
    }
    if !expiry.jobs.is_empty() || service.state.job_due(last, now).await? {
        service.ring();
    }
    Ok(())
}
