//! One copy from first to last: plan, move, verify, commit, receipt. Whatever fails before the commit leaves the
//! target as it was; a doubtful commit is resolved by reading the mark.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_connector::{
    BatchLimits, Checkpoint, Column, Committed, MarkContent, MarkState, Result, Session, Sink, SinkPlan, SinkRequest,
    Source, Sums, schema,
};
use dmg_protocol::job::{CopyJob, CopyOptions, Drift, FormatSpec};
use dmg_protocol::worker::{OUTCOME, OUTCOME_UNKNOWN, Progress};
use dmg_protocol::{
    Attempt, Bottleneck, Digest, Fault, Plan, Receipt, ReceiptColumn, Retry, Secrets, SideReport, Skipped, StageTime,
    VerifyLevel,
};
use tokio_util::sync::CancellationToken;

use crate::bottleneck::{self, Spent};
use crate::lanes::{Counters, Moved, Work};
use crate::open::{self, Stores};
use crate::planner::{Planned, Wishes, plan_declared};
use crate::redirect::Redirect;
use crate::resume::{self, Beginning};
use crate::throttle::Throttle;
use crate::tolerate::Tolerate;
use crate::watchdog::Watchdog;
use crate::{added, lanes, proof, screen, watched};

/// Lanes at least where memory allows: while one waits for a store, another works.
const LANES: usize = 2;
/// Most lanes when the author names no number; beyond, stores are the limit.
const LANES_CHOSEN_MAX: usize = 8;
/// Most lanes whatever the author says.
const LANES_MAX: usize = 32;
/// Memory a lane needs to work well, and the least it can work with.
const LANE_BYTES: usize = 64 * 1024 * 1024;
const LANE_BYTES_MIN: usize = 8 * 1024 * 1024;
/// Rows of one batch.
const BATCH_ROWS: usize = 8 * 1024;
/// Pause between two progress reports.
const PROGRESS: Duration = Duration::from_millis(250);
/// How often a copy is done again because another writer added rows that ours collide with, after they were screened.
const COLLISIONS_MAX: u32 = 2;
/// How often a doubtful commit is looked up before giving up.
const DOUBT_LOOKUPS_MAX: u32 = 8;

/// What to copy, as whom.
pub struct CopyRequest {
    /// The job, without envelopes.
    pub job: CopyJob,
    /// Who writes.
    pub attempt: Attempt,
    /// Opened secrets of the source.
    pub source_secrets: Secrets,
    /// Opened secrets of the sink.
    pub sink_secrets: Secrets,
    /// Opened secrets of the store that rows left out go to.
    pub redirect_secrets: Secrets,
    /// PEM of certificate authorities trusted besides the system's.
    pub extra_ca: Vec<Vec<u8>>,
    /// Whether an earlier attempt of this run got so far as to have a plan.
    pub earlier: bool,
}

/// Who watches, and who says whether a commit is allowed.
#[async_trait]
pub trait Observer: Send + Sync {
    /// The plan is fixed. The copy goes on when this returns; an error stops it.
    async fn planned(&self, plan: &Plan) -> std::result::Result<(), Fault>;
    /// Where it stands; called at most a few times a second.
    fn progress(&self, progress: Progress);
    /// Whether the lease is held. Asked right before the commit.
    async fn may_commit(&self) -> std::result::Result<bool, Fault>;
    /// Whether the one who asked for the copy is gone, rather than does not want it any more: then another attempt will
    /// come, and what is staged may be of use to it.
    fn abandoned(&self) -> bool {
        false
    }
}

/// Runs the copy. Cancelling stops it before the commit; during the commit it is too late.
pub async fn copy(
    ambient: &Ambient,
    stores: &dyn Stores,
    request: CopyRequest,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> std::result::Result<Receipt, Fault> {
    let mut run = Run::new(ambient.clone(), request);
    let mut result = run.work(stores, observer, cancel).await;
    for _ in 0..COLLISIONS_MAX {
        if !std::mem::take(&mut run.collided) {
            break;
        }
        run.begin_again();
        result = run.work(stores, observer, cancel).await;
    }
    match result {
        Ok(receipt) => Ok(receipt),
        Err(error) => {
            if let Some(cause) = &error.cause {
                tracing::debug!(code = %error.fault.code, cause = %cause, "copy failed");
            }
            let unknown = error.outcome_unknown;
            Err(if unknown { error.fault.with(OUTCOME, OUTCOME_UNKNOWN) } else { *error.fault })
        }
    }
}

struct Run {
    ambient: Ambient,
    request: CopyRequest,
    started: String,
    clock: Duration,
    stages: Vec<StageTime>,
    counters: Arc<Counters>,
    watchdog: Watchdog,
    beginning: Beginning,
    /// The commit failed for rows that another writer added after ours were screened.
    collided: bool,
    /// How often that was.
    collisions: u32,
    /// Whether a later attempt could go on with what this one stages.
    resumable: bool,
}

/// A planned copy, ready to move.
struct Ready {
    source: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    columns: Vec<Planned>,
    hashed: Vec<Column>,
    plan: Plan,
    tolerate: Option<Arc<Tolerate>>,
    /// Whether the target takes no NULL in a column; only where rows may be left out for it.
    required: Vec<bool>,
}

impl Run {
    fn new(ambient: Ambient, request: CopyRequest) -> Self {
        let (started, clock) = (ambient.rfc3339(), ambient.uptime());
        let watchdog = Watchdog::new(ambient.clone(), &request.job.options);
        Run {
            ambient,
            request,
            started,
            clock,
            stages: Vec::new(),
            counters: Arc::default(),
            watchdog,
            beginning: Beginning::default(),
            resumable: false,
            collided: false,
            collisions: 0,
        }
    }

    /// Forgets what was done; nothing of it was committed.
    fn begin_again(&mut self) {
        tracing::info!("another writer added rows that ours collide with; doing the copy again");
        self.collisions += 1;
        self.stages.clear();
        self.counters = Arc::default();
        self.clock = self.ambient.uptime();
    }

    /// Says in the log that a stage begins; the kill tests wait for these lines.
    fn begins(&self, stage: &str) {
        tracing::debug!(stage, run = %self.request.attempt.run, epoch = self.request.attempt.epoch.0, "stage begins");
    }

    fn lap(&mut self, stage: &str) {
        let now = self.ambient.uptime();
        self.stages.push(StageTime { stage: stage.to_owned(), seconds: (now - self.clock).as_secs_f64() });
        self.clock = now;
    }

    fn budget(&self) -> usize {
        self.request.job.options.memory_mib.max(32) as usize * 1024 * 1024
    }

    /// What was staged in parts can be read back by all cores, however few parts the source had.
    fn reading_lanes(&self, lanes: usize) -> usize {
        lanes.max(lanes_wanted(None, self.budget(), cores()).min(LANES))
    }

    fn limits(&self) -> BatchLimits {
        let budget = self.budget();
        let rows = Throttle::batch_rows(&self.request.job.options, BATCH_ROWS);
        BatchLimits { rows, bytes: (budget / 32).max(1024 * 1024), value_bytes: budget / 4 }
    }

    async fn work(
        &mut self,
        stores: &dyn Stores,
        observer: &dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Receipt> {
        self.begins("plan");
        dmg_ambient::failpoint!("engine.plan", dmg_connector::cut());
        let planned = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(cancelled().into()),
            planned = self.plan(stores) => planned,
        };
        let ready = match planned? {
            Planning::Ready(ready) => ready,
            Planning::AlreadyCommitted { sink, committed, redirect } => {
                return self.found(sink.as_ref(), committed, redirect.as_deref()).await;
            }
        };
        dmg_ambient::failpoint!("engine.plan.made", dmg_connector::cut());
        observer.planned(&ready.plan).await?;
        dmg_ambient::failpoint!("engine.plan.stored");
        self.lap("plan");
        let mut committing = false;
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(cancelled().into()),
            result = self.until_commit(&ready, observer) => result,
        };
        let result = match result {
            Ok((moved, arrived)) => {
                committing = true;
                self.commit(&ready, &moved, arrived, observer).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            // Nothing was committed, or the mark will tell; either way the staging place is of no use any more.
            let doubtful = committing && error.outcome_unknown;
            let redirect = ready.tolerate.as_ref().and_then(|tolerate| tolerate.redirect());
            if let Some(redirect) = redirect {
                left_behind(redirect.abort().await);
            }
            let of_use = self.resumable && observer.abandoned();
            if !doubtful && !of_use {
                left_behind(ready.sink.abort().await);
            }
        }
        result
    }

    async fn plan(&mut self, stores: &dyn Stores) -> Result<Planning> {
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
        let lanes = wanted.min(source.parts().len()).max(1);
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
        let tolerate = options.tolerance.map(|limits| Arc::new(Tolerate::new(limits, redirect)));
        let (source, sink) = (source.into(), sink.into());
        Ok(Planning::Ready(Box::new(Ready { source, sink, columns, hashed, plan, tolerate, required })))
    }

    /// The redirect file of this run, where the author asked for one.
    async fn redirect(&self, stores: &dyn Stores, session: Session) -> Result<Option<Redirect>> {
        let request = &self.request;
        let wanted = request.job.options.tolerance.as_ref().and_then(|tolerance| tolerance.redirect.as_ref());
        let Some(wanted) = wanted else { return Ok(None) };
        open::redirect(stores, wanted, &request.redirect_secrets, session, &request.attempt).await.map(Some)
    }

    /// Makes the staging, or goes on with that of an earlier attempt: gives the parts that need not be read again.
    async fn begin(&mut self, ready: &Ready) -> Result<BTreeMap<u32, Checkpoint>> {
        let (source, sink) = (ready.source.as_ref(), ready.sink.as_ref());
        let (earlier, tolerant) = (self.request.earlier, ready.tolerate.is_some());
        let key = resume::key(&self.request.job, &ready.plan, source).filter(|_| sink.checkpoints() && !tolerant);
        let Some(key) = key else {
            self.beginning = Beginning::anew(source, sink, tolerant, earlier);
            sink.begin().await?;
            return Ok(BTreeMap::new());
        };
        self.resumable = true;
        let found = sink.resume(&key).await?;
        self.beginning = Beginning::of(&found, &key, earlier);
        if let Some(resumed) = &self.beginning.resumed {
            tracing::info!(from = resumed.epoch.0, parts = resumed.parts, rows = resumed.rows, "going on");
        }
        Ok(found.kept.into_iter().map(|kept| (kept.part, kept)).collect())
    }

    /// Everything that can be cancelled: staging and proof.
    async fn until_commit(&mut self, ready: &Ready, observer: &dyn Observer) -> Result<(Moved, Option<Sums>)> {
        self.begins("move");
        let kept = self.begin(ready).await?;
        if let Some(redirect) = ready.tolerate.as_ref().and_then(|tolerate| tolerate.redirect()) {
            redirect.begin().await?;
        }
        dmg_ambient::failpoint!("engine.begun", dmg_connector::cut());
        let screens = ready.tolerate.is_some() && ready.sink.screens();
        let planned = schema(&ready.hashed);
        let work = Arc::new(Work {
            ambient: self.ambient.clone(),
            source: ready.source.clone(),
            sink: ready.sink.clone(),
            columns: ready.columns.clone(),
            numbered: screens.then(|| screen::numbered_schema(&planned)),
            schema: planned,
            hashed: ready.hashed.clone(),
            limits: self.limits(),
            lanes: ready.plan.lanes as usize,
            digest: ready.plan.verify >= VerifyLevel::Transferred || screens,
            counters: self.counters.clone(),
            tolerate: ready.tolerate.clone(),
            required: ready.required.clone(),
            own_columns: own(ready.source.columns(), &self.request.job.options).len(),
            throttle: Throttle::new(&self.request.job.options, self.ambient.uptime(), &self.watchdog),
            kept,
        });
        let mut moved = self.watched("move", ready, observer, lanes::run(work.clone())).await?;
        if let Some(tolerate) = &ready.tolerate {
            if screens {
                dmg_ambient::failpoint!("engine.screen", dmg_connector::cut());
                let sums = self.watched("move", ready, observer, screen::screen(&work, tolerate)).await?;
                moved.take_off(&sums);
            }
            tolerate.check_share(moved.read.rows)?;
        }
        // Before the proof, which reads and waits as well.
        moved.source_waited = ready.source.traffic().waited().as_secs_f64();
        moved.sink_waited = ready.sink.traffic().waited().as_secs_f64();
        moved.queued = ready.sink.traffic().queued().as_secs_f64();
        dmg_ambient::failpoint!("engine.moved", dmg_connector::cut());
        ready.source.finish().await?;
        dmg_ambient::failpoint!("engine.source.finished", dmg_connector::cut());
        self.lap("move");
        self.begins("verify");
        let arrived = self.watched("verify", ready, observer, self.prove(ready, &moved)).await?;
        dmg_ambient::failpoint!("engine.verified", dmg_connector::cut());
        self.lap("verify");
        Ok((moved, arrived))
    }

    /// Reports progress while something runs.
    async fn watched<T>(
        &self,
        stage: &str,
        ready: &Ready,
        observer: &dyn Observer,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            observer.progress(self.progress(stage, ready));
            tokio::select! {
                result = &mut work => {
                    observer.progress(self.progress(stage, ready));
                    return result;
                }
                () = self.ambient.sleep(PROGRESS) => {}
            }
        }
    }

    fn progress(&self, stage: &str, ready: &Ready) -> Progress {
        use std::sync::atomic::Ordering::Relaxed;
        let before: f64 = self.stages.iter().map(|stage| stage.seconds).sum();
        Progress {
            stage: stage.to_owned(),
            rows_read: self.counters.rows_read.load(Relaxed),
            rows_written: self.counters.rows_written.load(Relaxed),
            bytes_read: ready.source.traffic().bytes(),
            bytes_written: ready.sink.traffic().bytes(),
            parts_done: self.counters.parts_done.load(Relaxed),
            parts: ready.plan.parts.len() as u32,
            rows_estimate: ready.source.rows_estimate(),
            seconds: before + (self.ambient.uptime() - self.clock).as_secs_f64(),
        }
    }

    /// What arrived, as far as the level asks.
    async fn prove(&self, ready: &Ready, moved: &Moved) -> Result<Option<Sums>> {
        let level = ready.plan.verify;
        if level >= VerifyLevel::Counts {
            proof::compare_rows(moved.read.rows, moved.rows_written)?;
        }
        if level < VerifyLevel::Transferred && !moved.screened {
            return Ok(None);
        }
        let lanes = ready.plan.lanes as usize;
        let staged = ready.sink.staged(lanes).await.map_err(proof::as_failed_proof)?;
        let arrived = match (staged, &moved.decoded) {
            (Some(staged), _) => {
                proof::digest_all(staged.into(), &ready.hashed, self.reading_lanes(lanes), self.limits())
                    .await
                    .map_err(proof::as_failed_proof)?
            }
            (None, Some(decoded)) => decoded.clone(),
            // A table or file without a single row decodes nothing.
            (None, None) => Sums { columns: vec![0; ready.hashed.len()], ..Sums::default() },
        };
        proof::compare(&ready.hashed, &moved.read, &arrived)?;
        Ok(Some(arrived))
    }

    async fn commit(
        &mut self,
        ready: &Ready,
        moved: &Moved,
        arrived: Option<Sums>,
        observer: &dyn Observer,
    ) -> Result<Receipt> {
        self.begins("commit");
        observer.progress(self.progress("commit", ready));
        dmg_ambient::failpoint!("engine.commit.ask", dmg_connector::cut());
        if !observer.may_commit().await? {
            let message = "The lease on this job is over; another attempt may hold it.";
            return Err(Fault::new("SystemErrorLeaseLost", message).into());
        }
        dmg_ambient::failpoint!("engine.commit.granted", dmg_connector::cut());
        let redirected = match ready.tolerate.as_ref().and_then(|tolerate| tolerate.redirect()) {
            Some(redirect) => redirect.commit().await?,
            None => None,
        };
        dmg_ambient::failpoint!("engine.redirected", dmg_connector::cut());
        let digest = arrived.as_ref().map_or(String::new(), Sums::row_hex);
        let content = MarkContent { rows: moved.read.rows, digest };
        let committed = match self.commit_surely(ready, &content).await {
            Err(error) if screen::collided(ready.tolerate.is_some(), ready.sink.as_ref(), &error).await => {
                self.collided = true;
                return Err(error);
            }
            committed => committed?,
        };
        dmg_ambient::failpoint!("engine.commit.answered");
        if committed.epoch != ready.plan.attempt.epoch {
            // An earlier attempt, thought dead, committed after this one had looked for its mark: what it read is there,
            // and what this one read is not.
            left_behind(ready.sink.abort().await);
            let redirect = ready.tolerate.as_ref().and_then(|tolerate| tolerate.redirect());
            return self.found(ready.sink.as_ref(), committed, redirect).await;
        }
        self.begins("report");
        self.lap("commit");
        if ready.plan.verify == VerifyLevel::Full {
            self.confirm(ready, moved).await?;
            self.lap("confirm");
        }
        dmg_ambient::failpoint!("engine.report");
        let mut receipt = self.receipt(ready, moved, arrived, &committed);
        if let Some(tolerate) = &ready.tolerate {
            let skipped = tolerate.report(redirected.as_ref());
            receipt.read.rows += skipped.rows;
            receipt.skipped = Some(skipped);
        }
        if self.collisions > 0 {
            let times = if self.collisions == 1 { "once" } else { "twice" };
            receipt.notices.push(format!(
                "The copy was done again {times}: meanwhile another writer had added rows that its rows collide with."
            ));
        }
        Ok(receipt)
    }

    /// Commits, and on any doubt reads the mark before anything else.
    async fn commit_surely(&self, ready: &Ready, content: &MarkContent) -> Result<Committed> {
        let mut lookups = 0;
        loop {
            let error = match ready.sink.commit(content).await {
                Ok(committed) => return Ok(committed),
                Err(error) if error.fault.code == "StoreErrorCommitRefused" => {
                    // The target changed: perhaps by an earlier epoch of this very run, which is as good.
                    return match ready.sink.mark().await {
                        Ok(MarkState::Committed(committed)) if committed.digest == content.digest => Ok(committed),
                        _ => Err(error),
                    };
                }
                Err(error) if error.outcome_unknown && lookups < DOUBT_LOOKUPS_MAX => error,
                Err(error) => return Err(error),
            };
            tracing::info!(fault = %error.fault.code, "no answer to the commit; reading the mark");
            loop {
                lookups += 1;
                let pause = self.ambient.backoff(Duration::from_millis(500), lookups, Duration::from_secs(10));
                self.ambient.sleep(pause).await;
                dmg_ambient::failpoint!("engine.mark.read");
                match ready.sink.mark().await {
                    Ok(MarkState::Committed(committed)) => return Ok(committed),
                    Ok(MarkState::Newer(epoch)) => return Err(newer(epoch).into()),
                    // What took too long once would take too long again; nobody knows yet whether it goes on.
                    Ok(MarkState::None) if watched::late(&error) => return Err(error),
                    Ok(MarkState::None) => break,
                    Err(_) if lookups < DOUBT_LOOKUPS_MAX => {}
                    Err(_) => return Err(error),
                }
            }
        }
    }

    async fn confirm(&self, ready: &Ready, moved: &Moved) -> Result<()> {
        let lanes = ready.plan.lanes as usize;
        let Some(source) = ready.sink.committed(lanes).await? else { return Ok(()) };
        let found = proof::digest_all(source.into(), &ready.hashed, lanes, self.limits()).await?;
        proof::compare(&ready.hashed, &moved.read, &found).map_err(|error| {
            let message = format!("The commit happened, but the target now differs. {}", error.fault.message);
            let remedy = "Another writer may have changed the target after the commit; compare it and run again.";
            Fault::new("SystemErrorVerification", message).remedy(remedy).retry(Retry::AfterFix).into()
        })
    }

    fn receipt(&self, ready: &Ready, moved: &Moved, arrived: Option<Sums>, committed: &Committed) -> Receipt {
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
    async fn found(&mut self, sink: &dyn Sink, committed: Committed, redirect: Option<&Redirect>) -> Result<Receipt> {
        // The redirect file was committed before the target, so it tells what was left out.
        let mark = match redirect {
            Some(redirect) => redirect.mark().await?,
            None => None,
        };
        // Another epoch's file tells of other rows.
        let foreign = mark.as_ref().is_some_and(|mark| mark.epoch != committed.epoch);
        let mark = mark.filter(|_| !foreign);
        let tolerant = self.request.job.options.tolerance.is_some();
        let skipped = mark.zip(redirect).map(|(mark, redirect)| Skipped {
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
            None if tolerant => Some("there is no redirect file"),
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

/// The columns that the source itself has: those the copy adds stand behind them.
fn own<'a>(columns: &'a [Column], options: &CopyOptions) -> &'a [Column] {
    &columns[..columns.len().saturating_sub(options.added.len())]
}

/// How many parts are read at once: as the author says, else by cores, within the memory budget.
fn lanes_wanted(named: Option<u32>, budget: usize, cores: usize) -> usize {
    match named {
        Some(named) => (named as usize).clamp(1, LANES_MAX).min((budget / LANE_BYTES_MIN).max(1)),
        None => cores.clamp(LANES, LANES_CHOSEN_MAX).min((budget / LANE_BYTES).max(1)),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(LANES, usize::from)
}

/// Whether the target takes no NULL in a planned column.
fn required(columns: &[Planned], target: Option<&[Column]>) -> Vec<bool> {
    let find = |name: &str| target.and_then(|target| target.iter().find(|column| column.name == name));
    columns.iter().map(|column| find(&column.plan.sink).is_some_and(|target| !target.nullable)).collect()
}

enum Planning {
    Ready(Box<Ready>),
    AlreadyCommitted { sink: Box<dyn Sink>, committed: Committed, redirect: Option<Box<Redirect>> },
}

fn left_behind(abort: Result<()>) {
    if let Err(error) = abort {
        tracing::info!(fault = %error.fault.code, "staging left behind; the next attempt removes it");
    }
}

fn program() -> String {
    format!("dmg {}", env!("CARGO_PKG_VERSION"))
}

fn cancelled() -> Fault {
    Fault::new("UserErrorCancelled", "The run was cancelled before its commit; the target is as it was.")
}

fn newer(epoch: dmg_protocol::Epoch) -> Fault {
    let message = format!("A later attempt (epoch {epoch}) already works on this target; this one steps down.");
    Fault::new("SystemErrorLeaseLost", message)
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
