//! The first part of a copy: both stores are opened and looked at, and what will happen is fixed.

use std::sync::Arc;
use std::time::Duration;

use dmg_connector::{Column, Committed, MarkState, Result, Session, Sink, SinkPlan, SinkRequest};
use dmg_protocol::job::{CopyOptions, Drift, FormatSpec};
use dmg_protocol::{Fault, Plan, VerifyLevel};

use super::{Ready, Run, newer};
use crate::added;
use crate::layout::Layout;
use crate::open::{self, Beside, Stores};
use crate::planner::{Planned, Wishes, plan_declared};
use crate::redirect::Redirect;
use crate::tolerate::Tolerate;

/// Lanes at least where memory allows: while one waits for a store, another works.
const LANES: usize = 2;
/// Most lanes when the author names no number; beyond, stores are the limit.
const LANES_CHOSEN_MAX: usize = 8;
/// Most lanes whatever the author says.
const LANES_MAX: usize = 32;
/// Memory a lane needs to work well, and the least it can work with.
const LANE_BYTES: usize = 64 * 1024 * 1024;
const LANE_BYTES_MIN: usize = 8 * 1024 * 1024;

pub(super) enum Planning {
    Ready(Box<Ready>),
    AlreadyCommitted { sink: Box<dyn Sink>, committed: Committed, redirect: Option<Box<Redirect>> },
}

impl Run {
    pub(super) async fn plan(&mut self, stores: &dyn Stores) -> Result<Planning> {
        let options = self.request.job.options.clone();
        let wanted = lanes_wanted(options.parallel, self.budget(), cores());
        let session = Session {
            ambient: self.ambient.clone(),
            application: self.request.attempt.session_name(),
            extra_ca: Arc::new(self.request.extra_ca.clone()),
        };
        let job = &self.request.job;
        let request = SinkRequest {
            attempt: self.request.attempt.clone(),
            object: job.sink.object.clone(),
            mode: options.mode,
            keys: options.keys.clone(),
            slice: options.slice.clone(),
            procedure: options.procedure.clone(),
            batch_rows: options.batch_rows,
            batch_timeout: options.batch_timeout_seconds.map(Duration::from_secs),
            add_columns: options.drift == Drift::Add,
            pre_copy_script: options.pre_copy_script.clone(),
            create_table: options.create_table,
            lanes: wanted,
            budget_bytes: self.budget() / 2,
            screen: options.tolerance.is_some(),
        };
        let secrets = &self.request.sink_secrets;
        let opened = open::sink(stores, &job.sink, secrets, session.clone(), request, options.verify);
        let mut sink = self.watchdog.opened_sink(&open::title(stores, &job.sink.store), opened).await?;
        match sink.mark().await? {
            MarkState::None => {}
            MarkState::Committed(committed) => {
                let redirect = self.redirect(stores, session).await?.map(Box::new);
                return Ok(Planning::AlreadyCommitted { sink, committed, redirect });
            }
            MarkState::Newer(epoch) => return Err(newer(epoch).into()),
        }
        let mut redirect = self.redirect(stores, session.clone()).await?;
        let job = &self.request.job;
        let rows_per_part = open::rows_per_part(stores, &job.sink)?;
        let secrets = &self.request.source_secrets;
        let endpoint = added::readable(&job.source);
        let opened = open::source(stores, &endpoint, secrets, session, wanted, rows_per_part);
        let source = self.watchdog.opened_source(&open::title(stores, &endpoint.store), &endpoint, opened).await?;
        let source = added::with(source, &options.added, &self.request.attempt)?;
        let target = sink.columns().await?;
        let columns = plan_declared(
            source.columns(),
            target.as_deref(),
            &Wishes {
                mapping: &job.mapping,
                declared: &job.source.declared,
                options: &options,
                writes_text: matches!(&job.sink.format, Some(FormatSpec::Text(_))),
            },
            sink.as_ref(),
        )?;
        let column_plans: Vec<_> = columns.iter().map(|column| column.plan.clone()).collect();
        if options.verify < VerifyLevel::Transferred {
            // What goes directly into the target cannot be read back before the commit: a bit turned on the way there
            // would be committed. So only who asks for less gets the shape that needs to know how little will come.
            sink.expect(source.rows_estimate(), source.parts().len());
        }
        let SinkPlan { shape, condition, mut notices } = sink.plan(&column_plans).await?;
        notices.extend(source.notices());
        let hashed: Vec<Column> = columns
            .iter()
            .map(|column| Column {
                name: column.plan.sink.clone(),
                kind: column.plan.kind,
                type_name: column.plan.source_type.clone(),
                nullable: true,
                key: false,
            })
            .collect();
        // A lane that waits for what another one's part has would wait for ever where parts are written in order.
        let lanes = wanted.min(source.parts().len()).min(source.at_once()).max(1);
        let plan = Plan {
            version: 1,
            attempt: self.request.attempt.clone(),
            source: source.label(),
            target: sink.label(),
            columns: column_plans,
            parts: source.parts().to_vec(),
            lanes: lanes as u32,
            mode: options.mode,
            shape,
            condition,
            verify: options.verify,
            notices,
        };
        if let Some(redirect) = &mut redirect {
            let ragged = matches!(&job.source.format, Some(FormatSpec::Text(_)));
            redirect.plan(own(source.columns(), &options), ragged);
        }
        let required = if options.tolerance.is_some() { required(&columns, target.as_deref()) } else { Vec::new() };
        let redirect = redirect.map(Arc::new);
        let tolerate = options.tolerance.map(|limits| Arc::new(Tolerate::new(limits, redirect.clone())));
        let (source, sink) = (source.into(), sink.into());
        Ok(Planning::Ready(Box::new(Ready { source, sink, columns, hashed, plan, tolerate, redirect, required })))
    }

    /// The redirect file or the log of this run, where the author asked for one.
    async fn redirect(&self, stores: &dyn Stores, session: Session) -> Result<Option<Redirect>> {
        let request = &self.request;
        let (options, run) = (&request.job.options, &request.attempt.run);
        let (store, layout, place) = match (&options.log, options.redirect()) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                let message = "Rows left out go to the log of the copy or to a redirect file, not to both.";
                return Err(Fault::new("UserErrorSettings", message).remedy("Leave out one of them.").into());
            }
            (Some(log), None) => {
                (&log.store, Layout::Log(log.level), log.place(request.job.parties.activity.as_deref(), run))
            }
            (None, Some(redirect)) => (&redirect.store, Layout::Rows(redirect.layout), redirect.place(run)),
        };
        let beside = Beside { store, layout, path: place.path() };
        let opened =
            open::redirect(stores, beside, &self.watchdog, &request.redirect_secrets, session, &request.attempt);
        opened.await.map(Some)
    }
}

/// The columns that the source itself has: those the copy adds stand behind them.
pub(super) fn own<'a>(columns: &'a [Column], options: &CopyOptions) -> &'a [Column] {
    &columns[..columns.len().saturating_sub(options.added.len())]
}

/// How many parts are read at once: as the author says, else by cores, within the memory budget.
fn lanes_wanted(named: Option<u32>, budget: usize, cores: usize) -> usize {
    match named {
        Some(named) => (named as usize).clamp(1, LANES_MAX).min((budget / LANE_BYTES_MIN).max(1)),
        None => cores.clamp(LANES, LANES_CHOSEN_MAX).min((budget / LANE_BYTES).max(1)),
    }
}

/// What was staged in parts can be read back by all cores, however few parts the source had.
pub(super) fn reading_lanes(lanes: usize, budget: usize) -> usize {
    lanes.max(lanes_wanted(None, budget, cores()).min(LANES))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(LANES, usize::from)
}

/// Whether the target takes no NULL in a planned column.
fn required(columns: &[Planned], target: Option<&[Column]>) -> Vec<bool> {
    let find = |name: &str| target.and_then(|target| target.iter().find(|column| column.name == name));
    columns.iter().map(|column| find(&column.plan.sink).is_some_and(|target| !target.nullable)).collect()
}

#[cfg(test)]
mod tests {
    use super::lanes_wanted;

    #[test]
    fn lanes_follow_from_word_cores_and_memory() {
        let mib = 1024 * 1024;
        for (named, budget, cores, expect) in [
            (None, 256, 1, 2),
            (None, 256, 2, 2),
            (None, 256, 16, 4),
            (None, 4096, 64, 8),
            (None, 64, 16, 1),
            (None, 32, 16, 1),
            (Some(1), 256, 16, 1),
            (Some(6), 256, 2, 6),
            (Some(100), 4096, 2, 32),
            (Some(32), 32, 2, 4),
        ] {
            assert_eq!(lanes_wanted(named, budget * mib, cores), expect, "{named:?} {budget} MiB {cores} cores");
        }
    }
}
