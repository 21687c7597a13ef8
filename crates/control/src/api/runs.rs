//! Pipeline runs and activity runs: look, query, cancel.

use dmg_protocol::run::ActivityRunStatus;
use dmg_protocol::{Fault, PipelineRunId};
use dmg_state::{ActivityRun, Factory, Moment, PipelineRun, RunFilter};
use http::StatusCode;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::factory;
use crate::error::{Refusal, Result};
use crate::http::{Answer, Call};
use crate::router::{Route, route};
use crate::runs::forward;

pub(crate) const ROUTES: &[Route] = &[
    route!(POST V2 "~/querypipelineruns" Read => query),
    route!(GET V2 "~/pipelineruns/{run}" Read => get),
    route!(POST V2 "~/pipelineruns/{run}/cancel" Operate => cancel),
    route!(POST V2 "~/pipelineruns/{run}/queryactivityruns" Read => activities),
];

/// Runs in one answer; more follow by token.
const PAGE: usize = 100;

/// The run of the path.
pub(crate) async fn run(call: &Call) -> Result<(Factory, PipelineRun)> {
    let factory = factory(call).await?;
    let id = PipelineRunId::new(call.parameter("run").to_lowercase());
    let run = call.service.state.run(&factory.id, &id).await?;
    let run = run.ok_or_else(|| {
        Refusal::no_resource(&format!("factories/{}/pipelineruns", factory.name), id.as_str(), &factory.resource_group)
    })?;
    Ok((factory, run))
}

fn duration(from: Option<Moment>, to: Option<Moment>) -> Option<i64> {
    Some((to? - from?).max(0) / 1000)
}

fn show(run: &PipelineRun) -> Value {
    let parameters: Map<String, Value> = run
        .parameters
        .iter()
        .map(|(name, value)| {
            // The wire has texts only.
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), Value::String(text))
        })
        .collect();
    json!({
        "runId": run.id,
        "runGroupId": run.group,
        "isLatest": true,
        "pipelineName": run.pipeline,
        "parameters": parameters,
        "invokedBy": { "id": run.id, "name": "Manual", "invokedByType": "Manual" },
        "runStart": dmg_ambient::rfc3339(run.started),
        "runEnd": run.ended.map(dmg_ambient::rfc3339),
        "durationInMs": duration(Some(run.started), run.ended),
        "status": run.status.as_str(),
        "message": run.message,
        "lastUpdated": dmg_ambient::rfc3339(run.changed),
        "annotations": [],
        "runDimension": {},
    })
}

async fn get(call: Call) -> Result<Answer> {
    let (_, run) = run(&call).await?;
    Ok(Answer::ok(show(&run)))
}

async fn cancel(call: Call) -> Result<Answer> {
    let (_, run) = run(&call).await?;
    if call.service.state.cancel_run(&run.id, call.service.now()).await? {
        forward(&call.service, &run.id).await?;
    }
    Ok(Answer::empty(StatusCode::OK))
}

/// What a query asks for.
struct Query {
    span: RunFilter,
    filters: Vec<Filter>,
    order: Vec<(String, bool)>,
    skip: usize,
}

struct Filter {
    operand: String,
    negated: bool,
    values: Vec<String>,
}

impl Filter {
    /// Whether a row with those texts by operand passes; an operand that the row does not have is refused before.
    fn passes(&self, row: &[(&str, String)]) -> bool {
        let Some((_, have)) = row.iter().find(|(name, _)| name.eq_ignore_ascii_case(&self.operand)) else {
            return true;
        };
        self.values.iter().any(|value| value.eq_ignore_ascii_case(have)) != self.negated
    }
}

fn moment(body: &Map<String, Value>, member: &str) -> Result<Moment> {
    let text = body.get(member).and_then(Value::as_str);
    let parsed = text.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let parsed = parsed.ok_or_else(|| {
        Refusal::bad_request(format!("The member {member} must be a time such as 2026-01-31T12:00:00Z.")).about(member)
    })?;
    Ok((parsed.unix_timestamp_nanos() / 1000) as Moment)
}

fn read_query(call: &Call, operands: &[&str]) -> Result<Query> {
    let body = call.object()?;
    let span = RunFilter { after: moment(&body, "lastUpdatedAfter")?, before: moment(&body, "lastUpdatedBefore")? };
    let text = |value: &Value, member: &str| value.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut filters = Vec::new();
    for filter in body.get("filters").and_then(Value::as_array).into_iter().flatten() {
        let operand = text(filter, "operand");
        if !operands.iter().any(|known| known.eq_ignore_ascii_case(&operand)) {
            let message = format!("The operand \"{operand}\" is not one of {}.", operands.join(", "));
            return Err(Refusal::bad_request(message).about("filters"));
        }
        let negated = match text(filter, "operator").to_ascii_lowercase().as_str() {
            "equals" | "in" => false,
            "notequals" | "notin" => true,
            other => {
                return Err(Refusal::bad_request(format!("The operator \"{other}\" is not known.")).about("filters"));
            }
        };
        let values = filter.get("values").and_then(Value::as_array).into_iter().flatten();
        let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
        filters.push(Filter { operand, negated, values });
    }
    let order = body.get("orderBy").and_then(Value::as_array).into_iter().flatten();
    let order = order.map(|by| (text(by, "orderBy"), text(by, "order").eq_ignore_ascii_case("DESC"))).collect();
    let skip = match body.get("continuationToken").and_then(Value::as_str).filter(|token| !token.is_empty()) {
        Some(token) => token.parse().map_err(|_| {
            Refusal::bad_request("The continuationToken is none of this service.").about("continuationToken")
        })?,
        None => 0,
    };
    Ok(Query { span, filters, order, skip })
}

/// Sorts rows by the texts their operands have; times are written so that they sort as texts.
fn sort<T>(rows: &mut [T], order: &[(String, bool)], texts: impl Fn(&T) -> Vec<(&'static str, String)>) {
    for (name, descending) in order.iter().rev() {
        let key =
            |row: &T| texts(row).into_iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, text)| text);
        rows.sort_by(|a, b| if *descending { key(b).cmp(&key(a)) } else { key(a).cmp(&key(b)) });
    }
}

fn page<T>(rows: Vec<T>, skip: usize, show: impl Fn(&T) -> Value) -> Value {
    let more = rows.len() > skip.saturating_add(PAGE);
    let value: Vec<Value> = rows.iter().skip(skip).take(PAGE).map(show).collect();
    let mut body = json!({ "value": value });
    if more {
        body["continuationToken"] = json!((skip + PAGE).to_string());
    }
    body
}

fn run_texts(run: &PipelineRun) -> Vec<(&'static str, String)> {
    vec![
        ("PipelineName", run.pipeline.clone()),
        ("Status", run.status.as_str().to_owned()),
        ("RunStart", dmg_ambient::rfc3339(run.started)),
        ("RunEnd", run.ended.map(dmg_ambient::rfc3339).unwrap_or_default()),
        ("RunGroupId", run.group.clone()),
    ]
}

async fn query(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let query = read_query(&call, &["PipelineName", "Status", "RunStart", "RunEnd", "RunGroupId", "LatestOnly"])?;
    let mut runs = call.service.state.runs(&factory.id, query.span).await?;
    runs.retain(|run| {
        let texts = run_texts(run);
        query.filters.iter().all(|filter| filter.passes(&texts))
    });
    sort(&mut runs, &query.order, run_texts);
    Ok(Answer::ok(page(runs, query.skip, show)))
}

fn activity_texts(activity: &ActivityRun) -> Vec<(&'static str, String)> {
    vec![
        ("ActivityName", activity.definition.name.clone()),
        ("ActivityType", activity.definition.type_name.clone()),
        ("Status", activity.status.as_str().to_owned()),
        ("ActivityRunStart", start_of(activity).map(dmg_ambient::rfc3339).unwrap_or_default()),
        ("ActivityRunEnd", activity.ended.map(dmg_ambient::rfc3339).unwrap_or_default()),
    ]
}

fn start_of(activity: &ActivityRun) -> Option<Moment> {
    activity.started.or(activity.queued).or(activity.ended)
}

async fn activities(call: Call) -> Result<Answer> {
    let (factory, run) = run(&call).await?;
    let operands = ["ActivityName", "ActivityType", "Status", "ActivityRunStart", "ActivityRunEnd", "PipelineName"];
    let query = read_query(&call, &operands)?;
    let mut activities = call.service.state.activity_runs(&run.id).await?;
    activities.retain(|activity| {
        let texts = activity_texts(activity);
        activity.status != ActivityRunStatus::Pending
            && activity.changed >= query.span.after
            && activity.changed < query.span.before
            && query.filters.iter().all(|filter| filter.passes(&texts))
    });
    sort(&mut activities, &query.order, activity_texts);
    let mut shown = Vec::with_capacity(activities.len());
    for activity in &activities {
        shown.push(show_activity(&call, &factory, &run, activity).await?);
    }
    Ok(Answer::ok(page(shown, query.skip, Value::clone)))
}

async fn show_activity(call: &Call, _factory: &Factory, run: &PipelineRun, activity: &ActivityRun) -> Result<Value> {
    let definition = &activity.definition;
    let failed = !matches!(activity.status, ActivityRunStatus::Queued | ActivityRunStatus::InProgress);
    let mut output = if definition.secure_output { json!({}) } else { activity.output.clone() };
    if activity.status == ActivityRunStatus::InProgress
        && let Some(job) = call.service.state.job_of_run(&activity.id).await?
        && let Some(progress) = job.progress
    {
        output["rowsRead"] = json!(progress.rows_read);
        output["rowsCopied"] = json!(progress.rows_written);
        output["dataRead"] = json!(progress.bytes_read);
        output["dataWritten"] = json!(progress.bytes_written);
        output["copyDuration"] = json!(progress.seconds.ceil() as i64);
        output["progress"] = json!(progress);
    }
    if output.as_object().is_some_and(Map::is_empty)
        && let Some(gateway) = definition.gateway_name.as_ref().filter(|_| definition.job.is_some())
    {
        output["effectiveIntegrationRuntime"] = json!(gateway);
    }
    let start = start_of(activity);
    Ok(json!({
        "activityRunId": activity.id,
        "activityName": definition.name,
        "activityType": definition.type_name,
        "activityRunStart": start.map(dmg_ambient::rfc3339),
        "activityRunEnd": activity.ended.map(dmg_ambient::rfc3339),
        "durationInMs": duration(start, activity.ended),
        "retryAttempt": (activity.attempt > 0).then_some(activity.attempt),
        "error": error(activity, activity.fault.as_ref().filter(|_| failed)),
        "input": if definition.secure_input { json!({}) } else { definition.input.clone() },
        "output": output,
        "linkedServiceName": "",
        "userProperties": definition.user_properties,
        "pipelineName": run.pipeline,
        "pipelineRunId": run.id,
        "status": activity.status.as_str(),
    }))
}

/// The original's four members and the remedy apart.
fn error(activity: &ActivityRun, fault: Option<&Fault>) -> Value {
    let target = &activity.definition.name;
    match fault {
        None => json!({ "errorCode": "", "message": "", "failureType": "", "target": target }),
        Some(fault) => json!({
            "errorCode": fault.code,
            "message": format!("{} {}", fault.message, fault.remedy).trim_end(),
            "failureType": if fault.owner() == "user" { "UserError" } else { "SystemError" },
            "target": target,
            "remedy": fault.remedy,
            "details": fault.context,
        }),
    }
}
