//! Pipeline runs and their activity runs. What comes next is decided by a function handed in, over one consistent
//! picture of the run, and made true in the same transaction.

use dmg_protocol::run::{ActivityDefinition, ActivityRunStatus, PipelineRunStatus};
use dmg_protocol::{Epoch, FactoryId, Fault, PipelineRunId, RunId};
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use serde_json::{Map, Value};

use crate::jobs::{self, JobState, NewJob};
use crate::schema::{json, parse, parse_some};
use crate::{Error, Moment, Result, State};

/// Rounds of deciding after one event; each round starts, ends or skips at least one activity.
const ROUNDS_MAX: usize = 1000;

/// A run of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineRun {
    /// Its id.
    pub id: PipelineRunId,
    /// The factory.
    pub factory: FactoryId,
    /// The pipeline's name.
    pub pipeline: String,
    /// The parameters it was started with.
    pub parameters: Map<String, Value>,
    /// The first run of a chain of reruns.
    pub group: String,
    /// Where it stands.
    pub status: PipelineRunStatus,
    /// Why it failed, for people.
    pub message: String,
    /// Whether somebody cancelled it.
    pub cancel: bool,
    /// Start.
    pub started: Moment,
    /// End.
    pub ended: Option<Moment>,
    /// Last change.
    pub changed: Moment,
}

/// A run of an activity.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityRun {
    /// Its id, stable over all attempts.
    pub id: RunId,
    /// The pipeline run.
    pub run: PipelineRunId,
    /// Position in the pipeline.
    pub ordinal: u32,
    /// What it asks for.
    pub definition: ActivityDefinition,
    /// Where it stands.
    pub status: ActivityRunStatus,
    /// Failed attempts before this one.
    pub attempt: u32,
    /// When this attempt was queued.
    pub queued: Option<Moment>,
    /// When a node first took it.
    pub started: Option<Moment>,
    /// End.
    pub ended: Option<Moment>,
    /// Why it failed, or why the attempt before did.
    pub fault: Option<Fault>,
    /// What the public API shows as output.
    pub output: Value,
    /// Last change.
    pub changed: Moment,
    /// State, cancel mark and epoch of its job, where it has one.
    pub job: Option<(JobState, bool, Epoch)>,
}

/// A run to store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPipelineRun {
    /// The run.
    pub run: PipelineRun,
    /// Its activities, in pipeline order.
    pub activities: Vec<(RunId, ActivityDefinition)>,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunAction {
    /// Queue the activity's job.
    Start {
        /// Which activity.
        ordinal: u32,
        /// The job.
        job: Box<NewJob>,
    },
    /// The activity ends without a node's word; a job of it that waits is withdrawn.
    End {
        /// Which activity.
        ordinal: u32,
        /// How.
        status: ActivityRunStatus,
        /// Why.
        fault: Option<Fault>,
    },
    /// Ask the node that holds the activity's job to stop.
    StopJob {
        /// Which activity.
        ordinal: u32,
    },
    /// The run's own status.
    Run {
        /// Where it stands now.
        status: PipelineRunStatus,
        /// Why, for people.
        message: String,
    },
}

/// Which runs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Changed at or after.
    pub after: Moment,
    /// Changed before.
    pub before: Moment,
}

const RUN_COLUMNS: &str =
    "id, factory, pipeline, parameters, run_group, status, message, cancel, started, ended, changed";
const ACTIVITY_COLUMNS: &str = "a.id, a.run, a.ordinal, a.definition, a.status, a.attempt, a.queued, a.started, \
                                a.ended, a.fault, a.output, a.changed, j.state, j.cancel, j.epoch";

fn read_run(row: &Row<'_>) -> rusqlite::Result<(PipelineRun, String, String)> {
    let run = PipelineRun {
        id: PipelineRunId::new(row.get::<_, String>(0)?),
        factory: FactoryId::new(row.get::<_, String>(1)?),
        pipeline: row.get(2)?,
        parameters: Map::new(),
        group: row.get(4)?,
        status: PipelineRunStatus::Queued,
        message: row.get(6)?,
        cancel: row.get(7)?,
        started: row.get(8)?,
        ended: row.get(9)?,
        changed: row.get(10)?,
    };
    Ok((run, row.get(3)?, row.get(5)?))
}

fn whole_run((mut run, parameters, status): (PipelineRun, String, String)) -> Result<PipelineRun> {
    run.parameters = parse("run", &parameters)?;
    run.status = PipelineRunStatus::parse(&status).ok_or(Error::Unknown(status))?;
    Ok(run)
}

type RawActivity = (ActivityRun, [String; 3], Option<String>, Option<(String, bool, i64)>);

fn read_activity(row: &Row<'_>) -> rusqlite::Result<RawActivity> {
    let activity = ActivityRun {
        id: RunId::new(row.get::<_, String>(0)?),
        run: PipelineRunId::new(row.get::<_, String>(1)?),
        ordinal: row.get(2)?,
        definition: ActivityDefinition::default(),
        status: ActivityRunStatus::Pending,
        attempt: row.get(5)?,
        queued: row.get(6)?,
        started: row.get(7)?,
        ended: row.get(8)?,
        fault: None,
        output: Value::Null,
        changed: row.get(11)?,
        job: None,
    };
    let job = match row.get::<_, Option<String>>(12)? {
        Some(state) => Some((state, row.get(13)?, row.get(14)?)),
        None => None,
    };
    Ok((activity, [row.get(3)?, row.get(4)?, row.get(10)?], row.get(9)?, job))
}

fn whole_activity((mut activity, [definition, status, output], fault, job): RawActivity) -> Result<ActivityRun> {
    activity.definition = parse("activity run", &definition)?;
    activity.status = ActivityRunStatus::parse(&status).ok_or(Error::Unknown(status))?;
    activity.output = parse("activity output", &output)?;
    activity.fault = parse_some("activity fault", fault)?;
    activity.job = match job {
        Some((state, cancel, epoch)) => Some((JobState::parse(&state)?, cancel, Epoch(epoch as u64))),
        None => None,
    };
    Ok(activity)
}

fn activities(t: &Transaction<'_>, run: &str) -> Result<Vec<ActivityRun>> {
    let sql = format!(
        "SELECT {ACTIVITY_COLUMNS} FROM activity_runs a LEFT JOIN jobs j ON j.run = a.id WHERE a.run = ?1 ORDER BY a.ordinal"
    );
    let rows: Vec<_> = t.prepare_cached(&sql)?.query_map([run], read_activity)?.collect::<rusqlite::Result<_>>()?;
    rows.into_iter().map(whole_activity).collect()
}

/// The activity run of that id.
pub(crate) fn activity_of(t: &Transaction<'_>, id: &RunId) -> Result<Option<ActivityRun>> {
    let sql =
        format!("SELECT {ACTIVITY_COLUMNS} FROM activity_runs a LEFT JOIN jobs j ON j.run = a.id WHERE a.id = ?1");
    t.prepare_cached(&sql)?.query_row([id.as_str()], read_activity).optional()?.map(whole_activity).transpose()
}

fn apply(t: &Transaction<'_>, run: &str, action: RunAction, now: Moment) -> Result<()> {
    match action {
        RunAction::Start { ordinal, job } => {
            jobs::insert(t, &job, now)?;
            t.execute(
                "UPDATE activity_runs SET status = 'Queued', queued = ?3, changed = ?3 WHERE run = ?1 AND ordinal = ?2",
                params![run, ordinal, now],
            )?;
        }
        RunAction::End { ordinal, status, fault } => {
            t.execute(
                "UPDATE jobs SET state = 'done', lease_until = NULL, cancel = 1, ended = ?3
                 WHERE state <> 'done' AND run = (SELECT id FROM activity_runs WHERE run = ?1 AND ordinal = ?2)",
                params![run, ordinal, now],
            )?;
            t.execute(
                "UPDATE activity_runs SET status = ?3, fault = ?4, ended = ?5, changed = ?5
                 WHERE run = ?1 AND ordinal = ?2 AND ended IS NULL",
                params![run, ordinal, status.as_str(), fault.map(|fault| json(&fault)), now],
            )?;
        }
        RunAction::StopJob { ordinal } => {
            t.execute(
                "UPDATE jobs SET cancel = 1
                 WHERE run = (SELECT id FROM activity_runs WHERE run = ?1 AND ordinal = ?2)",
                params![run, ordinal],
            )?;
        }
        RunAction::Run { status, message } => {
            t.execute(
                "UPDATE pipeline_runs SET status = ?2, message = ?3, ended = CASE WHEN ?4 THEN ?5 ELSE ended END
                 WHERE id = ?1",
                params![run, status.as_str(), message, status.is_final(), now],
            )?;
        }
    }
    t.execute("UPDATE pipeline_runs SET changed = max(changed, ?2) WHERE id = ?1", params![run, now])?;
    Ok(())
}

impl State {
    /// Stores a new run with all its activities waiting.
    pub async fn put_run(&self, new: NewPipelineRun) -> Result<()> {
        self.write(move |t| {
            let NewPipelineRun { run, activities } = new;
            t.execute(
                "INSERT INTO pipeline_runs (id, factory, pipeline, parameters, run_group, status, message, cancel, started, changed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?8)",
                params![
                    run.id.as_str(),
                    run.factory.as_str(),
                    run.pipeline,
                    json(&run.parameters),
                    run.group,
                    run.status.as_str(),
                    run.message,
                    run.started
                ],
            )?;
            for (ordinal, (id, definition)) in activities.iter().enumerate() {
                t.execute(
                    "INSERT INTO activity_runs (id, run, ordinal, definition, status, attempt, output, changed)
                     VALUES (?1, ?2, ?3, ?4, 'Pending', 0, '{}', ?5)",
                    params![id.as_str(), run.id.as_str(), ordinal as i64, json(definition), run.started],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Lets `decide` look at a run and makes its actions true, until it has none. Says whether anything changed.
    pub async fn change_run(
        &self,
        id: &PipelineRunId,
        now: Moment,
        decide: impl Fn(&PipelineRun, &[ActivityRun]) -> Vec<RunAction> + Send + 'static,
    ) -> Result<bool> {
        let id = id.to_string();
        self.write(move |t| {
            let sql = format!("SELECT {RUN_COLUMNS} FROM pipeline_runs WHERE id = ?1");
            for round in 0..ROUNDS_MAX {
                let Some(run) = t.query_row(&sql, [&id], read_run).optional()?.map(whole_run).transpose()? else {
                    return Ok(false);
                };
                let actions = decide(&run, &activities(t, &id)?);
                if actions.is_empty() {
                    return Ok(round > 0);
                }
                for action in actions {
                    apply(t, &id, action, now)?;
                }
            }
            Ok(true)
        })
        .await
    }

    /// Marks a run as cancelled; says whether it was still open.
    pub async fn cancel_run(&self, id: &PipelineRunId, now: Moment) -> Result<bool> {
        let id = id.to_string();
        self.write(move |t| {
            let count = t.execute(
                "UPDATE pipeline_runs SET cancel = 1, changed = max(changed, ?2) WHERE id = ?1 AND ended IS NULL",
                params![id, now],
            )?;
            Ok(count > 0)
        })
        .await
    }

    /// Runs that have not ended.
    pub async fn open_runs(&self) -> Result<Vec<PipelineRunId>> {
        self.read(move |t| {
            let ids = t
                .prepare_cached("SELECT id FROM pipeline_runs WHERE ended IS NULL ORDER BY id")?
                .query_map([], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(ids.into_iter().map(PipelineRunId::new).collect())
        })
        .await
    }

    /// The run of that id.
    pub async fn run(&self, factory: &FactoryId, id: &PipelineRunId) -> Result<Option<PipelineRun>> {
        let (factory, id) = (factory.to_string(), id.to_string());
        self.read(move |t| {
            let sql = format!("SELECT {RUN_COLUMNS} FROM pipeline_runs WHERE factory = ?1 AND id = ?2");
            t.prepare_cached(&sql)?.query_row([factory, id], read_run).optional()?.map(whole_run).transpose()
        })
        .await
    }

    /// The run an activity run belongs to.
    pub async fn run_of_activity(&self, id: &RunId) -> Result<Option<PipelineRunId>> {
        let id = id.to_string();
        self.read(move |t| {
            let run: Option<String> =
                t.query_row("SELECT run FROM activity_runs WHERE id = ?1", [id], |row| row.get(0)).optional()?;
            Ok(run.map(PipelineRunId::new))
        })
        .await
    }

    /// Runs changed in a span, newest first.
    pub async fn runs(&self, factory: &FactoryId, filter: RunFilter) -> Result<Vec<PipelineRun>> {
        let factory = factory.to_string();
        self.read(move |t| {
            let sql = format!(
                "SELECT {RUN_COLUMNS} FROM pipeline_runs WHERE factory = ?1 AND changed >= ?2 AND changed < ?3
                 ORDER BY started DESC, id"
            );
            let rows: Vec<_> = t
                .prepare_cached(&sql)?
                .query_map(params![factory, filter.after, filter.before], read_run)?
                .collect::<rusqlite::Result<_>>()?;
            rows.into_iter().map(whole_run).collect()
        })
        .await
    }

    /// The activity runs of a run, in pipeline order.
    pub async fn activity_runs(&self, run: &PipelineRunId) -> Result<Vec<ActivityRun>> {
        let run = run.to_string();
        self.read(move |t| activities(t, &run)).await
    }
}
