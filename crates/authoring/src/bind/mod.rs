//! Binding: a pipeline with its parameters becomes activities with jobs. What cannot run carries its reason instead
//! of a job, so that the run fails with it and the rest is still shown.

mod added;
pub(crate) mod copy;
mod dataset;
mod files;
mod format;
mod mapping;
mod procedure;
mod tables;
mod tolerance;
mod write;

pub use procedure::PARAMETER_TYPES;

use dmg_protocol::Fault;
use dmg_protocol::job::Job;
use serde_json::{Map, Value};

use crate::expression::dates::round_trip;
use crate::expression::{self, PipelineScope, Scope};
use crate::linked_service::arguments;
use crate::member::{find, get, items, present, properties, text, type_of, whole};
use crate::{Dialect, types};

/// How binding finds the documents of a factory. Names are matched without case.
pub trait Lookup {
    /// The linked service of that name, as stored.
    fn linked_service(&self, name: &str) -> Option<(Dialect, Value)>;
    /// The dataset of that name, as stored.
    fn dataset(&self, name: &str) -> Option<(Dialect, Value)>;
    /// Whether there is a gateway of that name.
    fn gateway(&self, name: &str) -> bool;
}

/// The factory a pipeline runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactoryContext {
    /// Its id; credentials are bound to it.
    pub id: String,
    /// Its name, for `pipeline().DataFactory` and receipts.
    pub name: String,
}

/// The run a pipeline is bound for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunContext {
    /// `pipeline().RunId`.
    pub run_id: String,
    /// `pipeline().GroupId`: the first run's id for reruns, else the run's own.
    pub group_id: String,
    /// `Manual`, `ScheduleTrigger`, ...
    pub trigger_type: String,
    /// Name of the trigger; `Manual` where there is none.
    pub trigger_name: String,
    /// Id of the trigger run or of the request.
    pub trigger_id: String,
    /// When the run was asked for, in microseconds since 1970: `TriggerTime` and `utcNow()`.
    pub now_micros: i64,
}

/// How a predecessor must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    /// It succeeded.
    Succeeded,
    /// It failed or timed out.
    Failed,
    /// It was skipped.
    Skipped,
    /// It succeeded or failed.
    Completed,
}

impl Condition {
    fn parse(text: &str) -> Option<Self> {
        let names = [
            ("Succeeded", Condition::Succeeded),
            ("Failed", Condition::Failed),
            ("Skipped", Condition::Skipped),
            ("Completed", Condition::Completed),
        ];
        names.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, condition)| condition)
    }
}

/// How often and how long an activity may try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityPolicy {
    /// Attempts after the first.
    pub retry: u32,
    /// Pause between attempts.
    pub retry_interval_seconds: u64,
    /// Longest time of one attempt; none means no limit (version 1).
    pub timeout_seconds: Option<u64>,
    /// The input is not shown.
    pub secure_input: bool,
    /// The output is not shown.
    pub secure_output: bool,
}

/// One activity, evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundActivity {
    /// Name.
    pub name: String,
    /// Type: `Copy`.
    pub type_name: String,
    /// Predecessors; several conditions of one are alternatives, several predecessors must all fit.
    pub depends_on: Vec<(String, Vec<Condition>)>,
    /// Retries and timeout.
    pub policy: ActivityPolicy,
    /// Switched off by its author: not run, counts as ended in this way.
    pub inactive: Option<Condition>,
    /// The gateway that must run it; none means any of the factory.
    pub gateway: Option<String>,
    /// The job, or why there is none.
    pub work: Result<Job, Fault>,
    /// What is shown as its input: the evaluated `typeProperties`.
    pub input: Value,
    /// The author's properties by name, evaluated.
    pub user_properties: Vec<(String, String)>,
}

/// What binding an activity needs to know.
pub(crate) struct Context<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) pipeline_name: &'a str,
    pub(crate) pipeline: &'a PipelineScope,
    pub(crate) run: &'a RunContext,
    pub(crate) factory: &'a FactoryContext,
    pub(crate) lookup: &'a dyn Lookup,
}

impl Context<'_> {
    /// Evaluates a value of the pipeline. Version 1 has no such expressions; its functions need a slice.
    pub(crate) fn evaluate(&self, value: &Value) -> Result<Value, Fault> {
        match self.dialect {
            Dialect::V1 => {
                no_slice_functions(value)?;
                Ok(value.clone())
            }
            Dialect::V2 => {
                let scope =
                    Scope { pipeline: Some(self.pipeline), now_micros: Some(self.run.now_micros), ..Scope::default() };
                expression::evaluate(value, scope)
            }
        }
    }
}

/// The parameters a pipeline would run with: given values, else defaults, in their declared types. For checking a
/// request before anything is stored.
pub fn pipeline_parameters(
    name: &str,
    pipeline: &Value,
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, Fault> {
    arguments("pipeline", name, get(properties(pipeline), "parameters"), given)
}

/// Binds a pipeline. Fails as a whole only where its parameters are wrong; an activity that cannot run carries its
/// own fault.
pub fn bind(
    pipeline_name: &str,
    dialect: Dialect,
    pipeline: &Value,
    parameters: &Map<String, Value>,
    run: &RunContext,
    lookup: &dyn Lookup,
    factory: &FactoryContext,
) -> Result<Vec<BoundActivity>, Fault> {
    let scope = PipelineScope {
        parameters: pipeline_parameters(pipeline_name, pipeline, parameters)?,
        members: pipeline_members(pipeline_name, run, factory),
    };
    let context = Context { dialect, pipeline_name, pipeline: &scope, run, factory, lookup };
    let activities = items(properties(pipeline), "activities");
    let mut bound: Vec<BoundActivity> = activities.iter().map(|activity| bind_activity(&context, activity)).collect();
    if dialect == Dialect::V1 {
        chain(activities, &mut bound);
    }
    Ok(bound)
}

/// What `pipeline()` shows besides parameters.
fn pipeline_members(name: &str, run: &RunContext, factory: &FactoryContext) -> Map<String, Value> {
    let time = round_trip(run.now_micros);
    let texts = [
        ("DataFactory", factory.name.as_str()),
        ("Pipeline", name),
        ("RunId", &run.run_id),
        ("GroupId", &run.group_id),
        ("TriggerType", &run.trigger_type),
        ("TriggerName", &run.trigger_name),
        ("TriggerId", &run.trigger_id),
        ("TriggerTime", &time),
    ];
    texts.into_iter().map(|(name, text)| (name.to_owned(), Value::String(text.to_owned()))).collect()
}

fn bind_activity(context: &Context<'_>, activity: &Value) -> BoundActivity {
    let name = text(activity, "name").unwrap_or_default().to_owned();
    let declared = type_of(activity);
    let known = types::activity(context.dialect, declared);
    let type_name = known.map_or(declared, |known| known.name).to_owned();
    let raw = get(activity, "typeProperties").cloned().unwrap_or_default();
    let evaluated = context.evaluate(&raw);
    let inactive = inactive(activity);
    let policy = policy(context, activity);
    let (gateway, work) = match (&evaluated, type_name.as_str()) {
        _ if inactive.is_some() => {
            (None, Err(Fault::new("UserErrorNotSupported", format!("The activity \"{name}\" is switched off."))))
        }
        (Err(fault), _) => (None, Err(fault.clone())),
        (Ok(members), "Copy") => copy::bind(context, activity, &name, members),
        (Ok(members), "SqlServerStoredProcedure") => {
            let timeout = policy.as_ref().ok().and_then(|policy| policy.timeout_seconds);
            procedure::bind(context, activity, &name, members, timeout)
        }
        (Ok(_), _) => (None, Err(not_built(&name, &type_name))),
    };
    let work = match &policy {
        Ok(_) => work,
        Err(fault) => Err(fault.clone()),
    };
    BoundActivity {
        name,
        type_name,
        depends_on: depends_on(activity),
        policy: policy.unwrap_or_else(|_| default_policy(context.dialect)),
        inactive,
        gateway,
        work,
        input: evaluated.unwrap_or(raw),
        user_properties: user_properties(context, activity),
    }
}

fn not_built(name: &str, type_name: &str) -> Fault {
    let message =
        format!("The activity \"{name}\" is of type {type_name}, which is stored and checked but cannot run yet.");
    Fault::new("UserErrorNotSupported", message).remedy("Use Copy and SqlServerStoredProcedure activities meanwhile.")
}

fn inactive(activity: &Value) -> Option<Condition> {
    let off = text(activity, "state").is_some_and(|state| state.eq_ignore_ascii_case("Inactive"));
    off.then(|| text(activity, "onInactiveMarkAs").and_then(Condition::parse).unwrap_or(Condition::Succeeded))
}

fn depends_on(activity: &Value) -> Vec<(String, Vec<Condition>)> {
    let one = |dependency: &Value| {
        let name = text(dependency, "activity")?.to_owned();
        let mut conditions: Vec<Condition> = items(dependency, "dependencyConditions")
            .iter()
            .filter_map(|condition| condition.as_str().and_then(Condition::parse))
            .collect();
        if conditions.is_empty() {
            conditions.push(Condition::Succeeded);
        }
        Some((name, conditions))
    };
    items(activity, "dependsOn").iter().filter_map(one).collect()
}

/// Version 1: an activity waits for those whose output datasets it reads.
fn chain(activities: &[Value], bound: &mut [BoundActivity]) {
    let names = |activity: &Value, side: &str| -> Vec<String> {
        items(activity, side).iter().filter_map(|end| text(end, "name")).map(str::to_lowercase).collect()
    };
    for (index, activity) in activities.iter().enumerate() {
        let inputs = names(activity, "inputs");
        for (other, before) in activities.iter().enumerate() {
            if other != index && names(before, "outputs").iter().any(|output| inputs.contains(output)) {
                let name = bound[other].name.clone();
                bound[index].depends_on.push((name, vec![Condition::Succeeded]));
            }
        }
    }
}

/// Version 1 gives no limit; version 2 seven days and 30 seconds between attempts.
fn default_policy(dialect: Dialect) -> ActivityPolicy {
    let (pause, timeout) = match dialect {
        Dialect::V1 => (1, None),
        Dialect::V2 => (30, Some(7 * 86_400)),
    };
    ActivityPolicy {
        retry: 0,
        retry_interval_seconds: pause,
        timeout_seconds: timeout,
        secure_input: false,
        secure_output: false,
    }
}

fn policy(context: &Context<'_>, activity: &Value) -> Result<ActivityPolicy, Fault> {
    let mut policy = default_policy(context.dialect);
    let Some(members) = present(activity, "policy") else { return Ok(policy) };
    let members = context.evaluate(members)?;
    let number = |name: &str| get(&members, name).and_then(whole);
    let yes = |name: &str| get(&members, name).and_then(Value::as_bool).unwrap_or(false);
    policy.retry = number("retry").map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX));
    policy.retry_interval_seconds = number("retryIntervalInSeconds").unwrap_or(policy.retry_interval_seconds);
    if let Some(span) = text(&members, "timeout") {
        let seconds = time_span(span).ok_or_else(|| {
            let message = format!("The timeout \"{span}\" is not a time span.");
            Fault::new("UserErrorDocument", message)
                .remedy("Write it as days.hours:minutes:seconds, such as 0.12:00:00.")
        })?;
        // Version 1 writes "no limit" as zero.
        policy.timeout_seconds = (seconds > 0).then_some(seconds);
    }
    policy.secure_input = yes("secureInput");
    policy.secure_output = yes("secureOutput");
    Ok(policy)
}

/// Seconds of `[d.]hh:mm:ss[.fffffff]`; a fraction is dropped. As in the original, `24:00:00` is 24 days.
pub(crate) fn time_span(span: &str) -> Option<u64> {
    let mut numbers = span.trim().split(':');
    let (first, minutes, seconds) = (numbers.next()?, numbers.next()?, numbers.next()?);
    if numbers.next().is_some() {
        return None;
    }
    let (days, hours) = match first.split_once('.') {
        Some((days, hours)) => (days.parse::<u64>().ok()?, hours.parse::<u64>().ok()?),
        None => (0, first.parse::<u64>().ok()?),
    };
    let (days, hours) = if days == 0 && hours >= 24 { (hours, 0) } else { (days, hours) };
    let minutes: u64 = minutes.parse().ok()?;
    let seconds: u64 = seconds.split('.').next()?.parse().ok()?;
    if hours > 23 || minutes > 59 || seconds > 60 || days > 3_650_000 {
        return None;
    }
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

fn user_properties(context: &Context<'_>, activity: &Value) -> Vec<(String, String)> {
    let one = |property: &Value| {
        let name = text(property, "name")?.to_owned();
        let value = context.evaluate(find(property.as_object()?, "value")?).ok()?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some((name, value))
    };
    items(activity, "userProperties").iter().filter_map(one).collect()
}

/// Version 1 functions start with `$$` and speak of a slice, which a run on demand does not have.
pub(crate) fn no_slice_functions(value: &Value) -> Result<(), Fault> {
    match value {
        Value::String(text) if text.starts_with("$$") => {
            let message = format!("The function \"{text}\" needs a slice, and a run on demand has none.");
            Err(Fault::new("UserErrorNotSupported", message)
                .remedy("Write the text out, until schedules of version 1 are built."))
        }
        Value::Array(values) => values.iter().try_for_each(no_slice_functions),
        Value::Object(members) => members.values().try_for_each(no_slice_functions),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
