//! What is written down of a copy, whether this attempt made it or an earlier one.

use std::collections::BTreeMap;

use dmg_connector::{Committed, Result, Sink, Sums};
use dmg_protocol::{Attempt, Bottleneck, Digest, Plan, Receipt, ReceiptColumn, SideReport, Skipped, VerifyLevel};

use super::{Ready, Run};
use crate::bottleneck::{self, Spent};
use crate::lanes::Moved;
use crate::redirect::Redirect;

impl Run {
    pub(super) fn receipt(
        &self,
        ready: &Ready,
        moved: &Moved,
        arrived: Option<Sums>,
        committed: &Committed,
    ) -> Receipt {
        let plan = &ready.plan;
        let evidence = match (&arrived, &moved.decoded, plan.verify) {
            (Some(_), Some(_), _) => "encodedDecode",
            (Some(_), None, _) => "stagedReadBack",
            (None, _, VerifyLevel::Counts) => "rowCount",
            _ => "none",
        };
        let report = |sums: &Sums| -> Option<Digest> {
            (plan.verify >= VerifyLevel::Transferred).then(|| sums.report(&ready.hashed))
        };
        let (from, to) = (ready.source.traffic(), ready.sink.traffic());
        Receipt {
            version: 1,
            attempt: plan.attempt.clone(),
            parties: self.request.job.parties.clone(),
            program: program(),
            source: plan.source.clone(),
            target: plan.target.clone(),
            started: self.started.clone(),
            ended: self.ambient.rfc3339(),
            columns: plan
                .columns
                .iter()
                .map(|column| ReceiptColumn {
                    source: column.source.clone(),
                    sink: column.sink.clone(),
                    kind: column.kind,
                    source_type: column.source_type.clone(),
                    sink_type: column.sink_type.clone(),
                    verdict: column.verdict,
                })
                .collect(),
            read: SideReport {
                rows: moved.read.rows,
                bytes: from.bytes(),
                files: 0,
                peak_connections: from.peak(),
                digest: report(&moved.read),
            },
            written: SideReport {
                rows: moved.rows_written,
                bytes: to.bytes().max(moved.bytes_written),
                files: ready.sink.files(),
                peak_connections: to.peak(),
                digest: arrived.as_ref().and_then(report),
            },
            verify: plan.verify,
            evidence: evidence.to_owned(),
            mode: plan.mode,
            shape: plan.shape,
            mark: committed.mark.clone(),
            found_committed: false,
            restarted: self.beginning.restarted.clone(),
            resumed: self.beginning.resumed.clone(),
            repeated: (moved.repeated.parts > 0).then(|| moved.repeated.clone()),
            skipped: None,
            stages: self.stages.clone(),
            bottleneck: self.bottleneck(plan, moved),
            notices: plan.notices.clone(),
        }
    }

    fn bottleneck(&self, plan: &Plan, moved: &Moved) -> Bottleneck {
        let seconds = |stage: &str| self.stages.iter().find(|it| it.stage == stage).map_or(0.0, |it| it.seconds);
        let spent = Spent {
            reading: moved.read_seconds,
            source_waited: moved.source_waited,
            converting: moved.convert_seconds,
            writing: moved.write_seconds,
            sink_waited: moved.sink_waited,
            queued: moved.queued,
            throttled: moved.throttled_seconds,
            commit: seconds("commit"),
            lanes: plan.lanes,
        };
        let moving = seconds("move");
        bottleneck::report(&spent, if moving > 0.0 { self.counters.parallel_seconds() / moving } else { 0.0 })
    }

    /// An earlier attempt of this run committed; its mark is all that is left to tell of it.
    pub(super) async fn found(
        &mut self,
        sink: &dyn Sink,
        committed: Committed,
        redirect: Option<&Redirect>,
    ) -> Result<Receipt> {
        // The redirect file was committed before the target, so it tells what was left out.
        let mark = match redirect {
            Some(redirect) => redirect.mark().await?,
            None => None,
        };
        // Another epoch's file tells of other rows.
        let foreign = mark.as_ref().is_some_and(|mark| mark.epoch != committed.epoch);
        let mark = mark.filter(|_| !foreign);
        let tolerant = self.request.job.options.tolerance.is_some();
        let skipped = mark.zip(redirect).filter(|_| tolerant).map(|(mark, redirect)| Skipped {
            rows: mark.rows,
            redirect: Some(redirect.label()),
            digest: Some(mark.digest),
            by_code: BTreeMap::new(),
        });
        self.lap("plan");
        let digest = |rows| {
            (!committed.digest.is_empty()).then(|| Digest {
                algorithm: dmg_connector::ALGORITHM.to_owned(),
                rows,
                columns: Vec::new(),
                row_sum: committed.digest.clone(),
            })
        };
        let side = || SideReport { rows: committed.rows, digest: digest(committed.rows), ..SideReport::default() };
        let options = &self.request.job.options;
        let mut notices = vec![format!(
            "Epoch {} had already committed before it was lost; its mark in the target tells rows and digest.",
            committed.epoch
        )];
        let unknown = match redirect {
            _ if !tolerant => None,
            None => Some("there is no redirect file"),
            Some(_) if foreign => Some("the redirect file is of another attempt"),
            Some(_) if skipped.is_none() => Some("there is no redirect file; if nobody removed it, there were none"),
            _ => None,
        };
        if let Some(why) = unknown {
            notices.push(format!("How many rows that attempt left out is not known: {why}."));
        }
        let read = SideReport { rows: committed.rows + skipped.as_ref().map_or(0, |skipped| skipped.rows), ..side() };
        Ok(Receipt {
            version: 1,
            attempt: Attempt { epoch: committed.epoch, ..self.request.attempt.clone() },
            parties: self.request.job.parties.clone(),
            program: program(),
            source: String::new(),
            target: sink.label(),
            started: self.started.clone(),
            ended: self.ambient.rfc3339(),
            columns: Vec::new(),
            read,
            written: side(),
            verify: options.verify,
            evidence: "mark".to_owned(),
            mode: options.mode,
            shape: dmg_protocol::CommitShape::Direct,
            mark: committed.mark.clone(),
            found_committed: true,
            restarted: None,
            resumed: None,
            repeated: None,
            skipped,
            stages: self.stages.clone(),
            bottleneck: Bottleneck::default(),
            notices,
        })
    }
}

fn program() -> String {
    format!("dmg {}", env!("CARGO_PKG_VERSION"))
}
