//! The queue: jobs wait, are held under a lease with an epoch, and end. Who may have which job and what an end means
//! is decided by functions handed in; here it is only made true, whole or not at all.

use dmg_protocol::channel::Outcome;
use dmg_protocol::run::ActivityRunStatus;
use dmg_protocol::worker::Progress;
use dmg_protocol::{CommandId, Epoch, FactoryId, Fault, GatewayId, JobId, NodeId, Plan, RunId, Signed};
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use serde_json::Value;

use crate::runs::{ActivityRun, activity_of};
use crate::schema::{json, next, parse, parse_some};
use crate::{Error, Moment, Result, State};

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An activity run; the job's run is its id.
    Activity,
    /// A connection test or a look into a store; the job's run is an id of its own.
    Probe,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Purpose::Activity => "activity",
            Purpose::Probe => "probe",
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Waits for a node.
    Queued,
    /// A node holds it.
    Held,
    /// Nothing follows.
    Done,
}

impl JobState {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "queued" => Ok(JobState::Queued),
            "held" => Ok(JobState::Held),
            "done" => Ok(JobState::Done),
            other => Err(Error::Unknown(other.to_owned())),
        }
    }
}

/// A job to queue.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// The factory.
    pub factory: FactoryId,
    /// Whose queue.
    pub gateway: GatewayId,
    /// The activity run, or an id of its own for a probe.
    pub run: RunId,
    /// What for.
    pub purpose: Purpose,
    /// What to do.
    pub job: dmg_protocol::job::Job,
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The factory.
    pub factory: FactoryId,
    /// Whose queue.
    pub gateway: GatewayId,
    /// The run.
    pub run: RunId,
    /// What for.
    pub purpose: Purpose,
    /// Where it stands.
    pub state: JobState,
    /// Who holds or last held it.
    pub node: Option<NodeId>,
    /// Until when.
    pub lease_until: Option<Moment>,
    /// The last lease's number; 0 before the first.
    pub epoch: Epoch,
    /// Not to be taken before.
    pub not_before: Moment,
    /// Whether it is to be stopped.
    pub cancel: bool,
    /// How often it was given back or lost.
    pub releases: u32,
    /// The command that took it.
    pub command: Option<CommandId>,
    /// What to do.
    pub job: dmg_protocol::job::Job,
    /// The plan of the last epoch that made one.
    pub plan: Option<Plan>,
    /// The last progress.
    pub progress: Option<Progress>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When it was queued.
    pub queued: Moment,
    /// When it was last taken.
    pub taken: Option<Moment>,
    /// When it ended.
    pub ended: Option<Moment>,
}

/// A request to take a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose queue.
    pub gateway: GatewayId,
    /// Who asks.
    pub node: NodeId,
    /// A repeated command gets the same job.
    pub command: CommandId,
    /// When the lease is to end.
    pub lease_until: Moment,
    /// How many jobs the node may hold.
    pub held_max: u32,
}

/// Whether a lease holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseState {
    /// Whether that epoch holds it.
    pub held: bool,
    /// Whether the job is to be stopped.
    pub cancel: bool,
}

/// A node's report that an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Which job.
    pub id: JobId,
    /// Who says so.
    pub node: NodeId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// How it ended.
    pub outcome: Outcome,
    /// The last progress.
    pub progress: Option<Progress>,
}

/// What follows from the end of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Finish {
    /// It is over.
    End {
        /// How the activity ended.
        status: ActivityRunStatus,
        /// Why, where it did not succeed.
        fault: Option<Fault>,
        /// What the public API shows as its output.
        output: Value,
        /// The proof.
        receipt: Option<Signed>,
    },
    /// It is queued once more.
    Again {
        /// Not before.
        not_before: Moment,
        /// Whether it counts as given back rather than as a failed attempt.
        release: bool,
        /// Why.
        fault: Fault,
    },
}

/// What a duty did about leases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Jobs whose lease ended.
    pub jobs: Vec<JobId>,
}

const COLUMNS: &str = "id, factory, gateway, run, purpose, state, node, lease_until, epoch, not_before, cancel, \
                       releases, command, job, plan, progress, outcome, queued, taken, ended";

struct Raw {
    ids: [String; 4],
    words: [String; 2],
    node: Option<String>,
    lease_until: Option<Moment>,
    epoch: i64,
    not_before: Moment,
    cancel: bool,
    releases: u32,
    command: Option<String>,
    job: String,
    plan: Option<String>,
    progress: Option<String>,
    outcome: Option<String>,
    times: (Moment, Option<Moment>, Option<Moment>),
}

fn read(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        ids: [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?],
        words: [row.get(4)?, row.get(5)?],
        node: row.get(6)?,
        lease_until: row.get(7)?,
        epoch: row.get(8)?,
        not_before: row.get(9)?,
        cancel: row.get(10)?,
        releases: row.get(11)?,
        command: row.get(12)?,
        job: row.get(13)?,
        plan: row.get(14)?,
        progress: row.get(15)?,
        outcome: row.get(16)?,
        times: (row.get(17)?, row.get(18)?, row.get(19)?),
    })
}

fn whole(raw: Raw) -> Result<Job> {
    let [id, factory, gateway, run] = raw.ids;
    let [purpose, state] = raw.words;
    Ok(Job {
        id: JobId::new(id),
        factory: FactoryId::new(factory),
        gateway: GatewayId::new(gateway),
        run: RunId::new(run),
        purpose: match purpose.as_str() {
            "activity" => Purpose::Activity,
            "probe" => Purpose::Probe,
            other => return Err(Error::Unknown(other.to_owned())),
        },
        state: JobState::parse(&state)?,
        node: raw.node.map(NodeId::new),
        lease_until: raw.lease_until,
        epoch: Epoch(raw.epoch as u64),
        not_before: raw.not_before,
        cancel: raw.cancel,
        releases: raw.releases,
        command: raw.command.map(CommandId::new),
        job: parse("job", &raw.job)?,
        plan: parse_some("plan", raw.plan)?,
        progress: parse_some("progress", raw.progress)?,
        outcome: parse_some("outcome", raw.outcome)?,
        queued: raw.times.0,
        taken: raw.times.1,
        ended: raw.times.2,
    })
}

/// Puts a job into its gateway's queue.
pub(crate) fn insert(t: &Transaction<'_>, new: &NewJob, now: Moment) -> Result<()> {
    t.execute(
        "INSERT INTO jobs (id, factory, gateway, run, purpose, state, epoch, not_before, cancel, releases, job, queued)
         VALUES (?1, ?2, ?3, ?4, ?5, 'queued', 0, ?6, 0, 0, ?7, ?6)",
        params![
            new.id.as_str(),
            new.factory.as_str(),
            new.gateway.as_str(),
            new.run.as_str(),
            new.purpose.as_str(),
            now,
            json(&new.job)
        ],
    )?;
    Ok(())
}

fn held(t: &Transaction<'_>, id: &JobId, node: &NodeId, epoch: Epoch) -> Result<Option<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1 AND node = ?2 AND epoch = ?3 AND state = 'held'");
    t.prepare_cached(&sql)?
        .query_row(params![id.as_str(), node.as_str(), epoch.0 as i64], read)
        .optional()?
        .map(whole)
        .transpose()
}

/// Makes the end of an attempt true.
fn finish(t: &Transaction<'_>, job: &Job, finish: Finish, outcome: Option<&Outcome>, now: Moment) -> Result<()> {
    match finish {
        Finish::End { status, fault, output, receipt } => {
            t.execute(
                "UPDATE jobs SET state = 'done', lease_until = NULL, outcome = ?2, ended = ?3 WHERE id = ?1",
                params![job.id.as_str(), outcome.map(json), now],
            )?;
            t.execute(
                "UPDATE activity_runs SET status = ?2, fault = ?3, output = ?4, ended = ?5, changed = ?5
                 WHERE id = ?1 AND ended IS NULL",
                params![job.run.as_str(), status.as_str(), fault.map(|fault| json(&fault)), json(&output), now],
            )?;
            if let Some(receipt) = receipt {
                t.execute(
                    "INSERT OR REPLACE INTO receipts (run, factory, receipt, stored) VALUES (?1, ?2, ?3, ?4)",
                    params![job.run.as_str(), job.factory.as_str(), json(&receipt), now],
                )?;
            }
        }
        Finish::Again { not_before, release, fault } => {
            t.execute(
                "UPDATE jobs SET state = 'queued', lease_until = NULL, not_before = ?2, releases = releases + ?3,
                   progress = NULL WHERE id = ?1",
                params![job.id.as_str(), not_before, release],
            )?;
            // The clock of the policy's timeout starts anew with a new attempt, not with a job that was given back.
            t.execute(
                "UPDATE activity_runs SET status = 'Queued', attempt = attempt + ?2, fault = ?3, changed = ?4,
                   queued = CASE WHEN ?2 THEN ?4 ELSE queued END WHERE id = ?1 AND ended IS NULL",
                params![job.run.as_str(), !release, json(&fault), now],
            )?;
        }
    }
    touch_run(t, &job.run, now)
}

/// Moves the pipeline run's last change forward.
fn touch_run(t: &Transaction<'_>, activity: &RunId, now: Moment) -> Result<()> {
    t.execute(
        "UPDATE pipeline_runs SET changed = max(changed, ?2) WHERE id = (SELECT run FROM activity_runs WHERE id = ?1)",
        params![activity.as_str(), now],
    )?;
    Ok(())
}

impl State {
    /// Queues a job that belongs to no pipeline run.
    pub async fn queue_job(&self, new: NewJob, now: Moment) -> Result<()> {
        self.write(move |t| insert(t, &new, now)).await
    }

    /// Takes the next job of a gateway under a lease with a new epoch.
    pub async fn take_job(&self, grant: Grant, now: Moment) -> Result<Option<Job>> {
        self.write(move |t| {
            let again = format!("SELECT {COLUMNS} FROM jobs WHERE state = 'held' AND node = ?1 AND command = ?2");
            let before = t.query_row(&again, [grant.node.as_str(), grant.command.as_str()], read).optional()?;
            if let Some(raw) = before {
                return whole(raw).map(Some);
            }
            let held: u32 = t.query_row(
                "SELECT count(*) FROM jobs WHERE state = 'held' AND node = ?1",
                [grant.node.as_str()],
                |row| row.get(0),
            )?;
            if held >= grant.held_max {
                return Ok(None);
            }
            let sql = format!(
                "UPDATE jobs SET state = 'held', node = ?2, command = ?3, lease_until = ?4, taken = ?5, epoch = ?6,
                   progress = NULL
                 WHERE id = (SELECT id FROM jobs WHERE gateway = ?1 AND state = 'queued' AND cancel = 0
                             AND not_before <= ?5 ORDER BY not_before, queued, id LIMIT 1)
                 RETURNING {COLUMNS}"
            );
            let epoch = next(t, "epoch")?;
            let taken = t
                .query_row(
                    &sql,
                    params![
                        grant.gateway.as_str(),
                        grant.node.as_str(),
                        grant.command.as_str(),
                        grant.lease_until,
                        now,
                        epoch
                    ],
                    read,
                )
                .optional()?;
            let Some(job) = taken.map(whole).transpose()? else { return Ok(None) };
            t.execute(
                "UPDATE activity_runs SET status = 'InProgress', started = coalesce(started, ?2), changed = ?2
                 WHERE id = ?1 AND ended IS NULL",
                params![job.run.as_str(), now],
            )?;
            touch_run(t, &job.run, now)?;
            Ok(Some(job))
        })
        .await
    }

    /// Keeps a lease and notes progress.
    pub async fn renew_job(
        &self,
        id: &JobId,
        node: &NodeId,
        epoch: Epoch,
        lease_until: Moment,
        progress: Option<Progress>,
    ) -> Result<LeaseState> {
        let (id, node) = (id.clone(), node.clone());
        self.write(move |t| {
            let cancel: Option<bool> = t
                .query_row(
                    "UPDATE jobs SET lease_until = max(lease_until, ?4), progress = coalesce(?5, progress)
                     WHERE id = ?1 AND node = ?2 AND epoch = ?3 AND state = 'held' RETURNING cancel",
                    params![id.as_str(), node.as_str(), epoch.0 as i64, lease_until, progress.map(|p| json(&p))],
                    |row| row.get(0),
                )
                .optional()?;
            Ok(LeaseState { held: cancel.is_some(), cancel: cancel.unwrap_or(false) })
        })
        .await
    }

    /// Stores the plan of an epoch.
    pub async fn plan_job(
        &self,
        id: &JobId,
        node: &NodeId,
        epoch: Epoch,
        plan: Plan,
        lease_until: Moment,
    ) -> Result<LeaseState> {
        let (id, node) = (id.clone(), node.clone());
        self.write(move |t| {
            let cancel: Option<bool> = t
                .query_row(
                    "UPDATE jobs SET plan = ?4, lease_until = max(lease_until, ?5)
                     WHERE id = ?1 AND node = ?2 AND epoch = ?3 AND state = 'held' RETURNING cancel",
                    params![id.as_str(), node.as_str(), epoch.0 as i64, json(&plan), lease_until],
                    |row| row.get(0),
                )
                .optional()?;
            Ok(LeaseState { held: cancel.is_some(), cancel: cancel.unwrap_or(false) })
        })
        .await
    }

    /// Ends an attempt, if that epoch holds the job. A repeated report of the same epoch is accepted and changes
    /// nothing. Answers whether the report counts.
    pub async fn finish_job(
        &self,
        report: Report,
        now: Moment,
        decide: impl FnOnce(&Job, Option<&ActivityRun>) -> Finish + Send + 'static,
    ) -> Result<bool> {
        let Report { id, node, epoch, outcome, progress } = report;
        self.write(move |t| {
            let Some(mut job) = held(t, &id, &node, epoch)? else {
                let done: Option<i64> = t
                    .query_row(
                        "SELECT 1 FROM jobs WHERE id = ?1 AND node = ?2 AND epoch = ?3 AND state = 'done'
                         AND outcome = ?4",
                        params![id.as_str(), node.as_str(), epoch.0 as i64, json(&outcome)],
                        |row| row.get(0),
                    )
                    .optional()?;
                return Ok(done.is_some());
            };
            if let Some(progress) = progress {
                t.execute("UPDATE jobs SET progress = ?2 WHERE id = ?1", params![id.as_str(), json(&progress)])?;
                job.progress = Some(progress);
            }
            let activity = activity_of(t, &job.run)?;
            finish(t, &job, decide(&job, activity.as_ref()), Some(&outcome), now)?;
            Ok(true)
        })
        .await
    }

    /// Ends the attempts whose lease ran out.
    pub async fn expire_leases(
        &self,
        now: Moment,
        decide: impl Fn(&Job, Option<&ActivityRun>) -> Finish + Send + 'static,
    ) -> Result<Expiry> {
        let due = self
            .read(move |t| {
                let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'held' AND lease_until <= ?1)";
                Ok(t.prepare_cached(sql)?.query_row([now], |row| row.get::<_, bool>(0))?)
            })
            .await?;
        if !due {
            return Ok(Expiry::default());
        }
        self.write(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM jobs WHERE state = 'held' AND lease_until <= ?1");
            let rows: Vec<Raw> = t.prepare(&sql)?.query_map([now], read)?.collect::<rusqlite::Result<_>>()?;
            let mut expiry = Expiry::default();
            for raw in rows {
                let job = whole(raw)?;
                let activity = activity_of(t, &job.run)?;
                finish(t, &job, decide(&job, activity.as_ref()), None, now)?;
                expiry.jobs.push(job.id);
            }
            Ok(expiry)
        })
        .await
    }

    /// After a start of the service: no lease ends before `until`, so that holders who could not renew meanwhile can.
    pub async fn extend_leases(&self, until: Moment) -> Result<()> {
        self.write(move |t| {
            t.execute("UPDATE jobs SET lease_until = max(lease_until, ?1) WHERE state = 'held'", [until])?;
            Ok(())
        })
        .await
    }

    /// Whether a job waits for a gateway, and what a node holds, with what is to be stopped.
    pub async fn node_work(
        &self,
        gateway: &GatewayId,
        node: &NodeId,
        now: Moment,
    ) -> Result<(bool, Vec<(JobId, bool)>)> {
        let (gateway, node) = (gateway.to_string(), node.to_string());
        self.read(move |t| {
            let waiting = t
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM jobs WHERE gateway = ?1 AND state = 'queued' AND cancel = 0
                     AND not_before <= ?2)",
                )?
                .query_row(params![gateway, now], |row| row.get(0))?;
            let held = t
                .prepare_cached("SELECT id, cancel FROM jobs WHERE state = 'held' AND node = ?1")?
                .query_map([node], |row| Ok((JobId::new(row.get::<_, String>(0)?), row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok((waiting, held))
        })
        .await
    }

    /// Whether a job that had to wait became due in that span.
    pub async fn job_due(&self, after: Moment, until: Moment) -> Result<bool> {
        self.read(move |t| {
            let sql =
                "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND not_before > ?1 AND not_before <= ?2)";
            Ok(t.prepare_cached(sql)?.query_row([after, until], |row| row.get(0))?)
        })
        .await
    }

    /// The job of a run.
    pub async fn job_of_run(&self, run: &RunId) -> Result<Option<Job>> {
        let run = run.to_string();
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM jobs WHERE run = ?1");
            t.prepare_cached(&sql)?.query_row([run], read).optional()?.map(whole).transpose()
        })
        .await
    }

    /// Forgets connection tests and looks into stores that ended before then: a preview holds rows.
    pub async fn forget_looks(&self, before: Moment) -> Result<()> {
        let due = self
            .read(move |t| {
                let sql =
                    "SELECT EXISTS (SELECT 1 FROM jobs WHERE purpose = 'probe' AND state = 'done' AND ended < ?1)";
                Ok(t.prepare_cached(sql)?.query_row([before], |row| row.get::<_, bool>(0))?)
            })
            .await?;
        if !due {
            return Ok(());
        }
        self.write(move |t| {
            t.execute("DELETE FROM jobs WHERE purpose = 'probe' AND state = 'done' AND ended < ?1", [before])?;
            Ok(())
        })
        .await
    }

    /// How many jobs wait for a gateway and how many each of its nodes holds.
    pub async fn queue_lengths(&self, gateway: &GatewayId) -> Result<(u32, Vec<(NodeId, u32)>)> {
        let gateway = gateway.to_string();
        self.read(move |t| {
            let waiting =
                t.query_row("SELECT count(*) FROM jobs WHERE gateway = ?1 AND state = 'queued'", [&gateway], |row| {
                    row.get(0)
                })?;
            let held = t
                .prepare_cached("SELECT node, count(*) FROM jobs WHERE gateway = ?1 AND state = 'held' GROUP BY node")?
                .query_map([&gateway], |row| Ok((NodeId::new(row.get::<_, String>(0)?), row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok((waiting, held))
        })
        .await
    }

    /// The receipt of a run, as the node signed it.
    pub async fn receipt(&self, run: &RunId) -> Result<Option<Signed>> {
        let run = run.to_string();
        self.read(move |t| {
            let text: Option<String> =
                t.query_row("SELECT receipt FROM receipts WHERE run = ?1", [run], |row| row.get(0)).optional()?;
            parse_some("receipt", text)
        })
        .await
    }
}
