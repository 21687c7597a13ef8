//! One copy from first to last: plan, move, verify, commit, receipt. Whatever fails before the commit leaves the
//! target as it was; a doubtful commit is resolved by reading the mark.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dmg_ambient::Ambient;
use dmg_connector::{BatchLimits, Checkpoint, Column, Result, Sink, Source, Sums, schema};
use dmg_protocol::job::CopyJob;
use dmg_protocol::worker::{OUTCOME, OUTCOME_UNKNOWN, Progress};
use dmg_protocol::{Attempt, Fault, Plan, Receipt, Secrets, StageTime, VerifyLevel};
use tokio_util::sync::CancellationToken;

use self::plan::{Planning, own, reading_lanes};
use crate::lanes::{Counters, Moved, Work};
use crate::open::Stores;
use crate::planner::Planned;
use crate::redirect::Redirect;
use crate::resume::{self, Beginning};
use crate::throttle::Throttle;
use crate::tolerate::Tolerate;
use crate::watchdog::Watchdog;
use crate::{lanes, proof, screen};

mod commit;
mod plan;
mod receipt;

/// Rows of one batch.
const BATCH_ROWS: usize = 8 * 1024;
/// Pause between two progress reports.
const PROGRESS: Duration = Duration::from_millis(250);
/// How often a copy is done again because another writer added rows that ours collide with, after they were screened.
const COLLISIONS_MAX: u32 = 2;

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
    /// The redirect file, or the log of the copy.
    redirect: Option<Arc<Redirect>>,
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
            if let Some(redirect) = &ready.redirect {
                left_behind(redirect.abort().await);
            }
            let of_use = self.resumable && observer.abandoned();
            if !doubtful && !of_use {
                left_behind(ready.sink.abort().await);
            }
        }
        result
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
        if let Some(redirect) = &ready.redirect {
            redirect.begin(ready.source.as_ref()).await?;
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
            ordered: self.request.job.sink.format.is_some(),
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
        if let Some(redirect) = &ready.redirect {
            redirect.moved(ready.source.as_ref(), ready.sink.as_ref()).await?;
        }
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
                proof::digest_all(staged.into(), &ready.hashed, reading_lanes(lanes, self.budget()), self.limits())
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
}

fn left_behind(abort: Result<()>) {
    if let Err(error) = abort {
        tracing::info!(fault = %error.fault.code, "staging left behind; the next attempt removes it");
    }
}

fn cancelled() -> Fault {
    Fault::new("UserErrorCancelled", "The run was cancelled before its commit; the target is as it was.")
}

fn newer(epoch: dmg_protocol::Epoch) -> Fault {
    let message = format!("A later attempt (epoch {epoch}) already works on this target; this one steps down.");
    Fault::new("SystemErrorLeaseLost", message)
}
