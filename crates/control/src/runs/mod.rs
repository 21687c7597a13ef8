//! Runs: starting one, moving it forward, and what the end of an attempt means. The decisions are pure functions over
//! one picture of the run; this file only calls them.

pub(crate) mod advance;
pub(crate) mod outcome;
pub(crate) mod output;
pub(crate) mod start;

use dmg_protocol::{PipelineRunId, RunId};
use dmg_state::Result;

use crate::service::Service;

/// Moves a run as far as it goes now and wakes whoever that concerns.
pub(crate) async fn forward(service: &Service, run: &PipelineRunId) -> Result<()> {
    let now = service.now();
    if service.state.change_run(run, now, move |run, activities| advance::advance(run, activities, now)).await? {
        service.ring();
    }
    Ok(())
}

/// Moves the run forward that an activity run belongs to.
pub(crate) async fn forward_of(service: &Service, activity: &RunId) -> Result<()> {
    match service.state.run_of_activity(activity).await? {
        Some(run) => forward(service, &run).await,
        None => Ok(()),
    }
}
