//! Looking into a store through its gateway: schemas, tables, columns, the first rows. Rows of a preview pass through
//! the service to whoever asked; they are kept for a few minutes at most, as part of the look's answer.

use std::time::Duration;

use dmg_protocol::RunId;
use dmg_protocol::channel::Outcome;
use dmg_protocol::job::{Browse, BrowseJob, FormatSpec, Job, PREVIEW_ROWS_MAX};
use dmg_state::JobState;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::ours::{self, Asked};
use crate::error::{Refusal, Result};
use crate::http::{Answer, Call};
use crate::router::{Route, route};

pub(crate) const ROUTES: &[Route] = &[
    // A look may be a query of the caller's own, which the credential's rights alone bound: that is an author's business.
    route!(POST Ours "~/linkedservices/{name}/browse" Author => browse),
    route!(GET Ours "~/linkedservices/{name}/browse/{look}" Author => result),
];

/// How long a caller waits for the answer before it gets a place to ask for it.
const WAIT: Duration = Duration::from_secs(20);
/// How long an answer is kept. It may hold rows.
pub(crate) const KEPT: Duration = Duration::from_secs(10 * 60);

/// Looks: the body is what to look at (`look`, `schema`, `object`, `rows`), the `format` of a file where its name does
/// not tell, and `parameters` of the linked service. Answers the listing, or 202 where that takes long.
async fn browse(call: Call) -> Result<Answer> {
    let mut members = call.object()?;
    let asked = Asked::of(&call, &members).await?;
    members.remove("parameters");
    let format = read::<FormatSpec>(members.remove("format"), "format")?;
    let browse = wanted(members)?;
    let id = asked.queue(&call, |store| Job::Browse(Box::new(BrowseJob { store, browse, format }))).await?;
    let run = RunId::new(id.clone());
    let mut bell = call.service.bell();
    let patience = call.service.ambient.sleep(WAIT);
    tokio::pin!(patience);
    loop {
        bell.borrow_and_update();
        let job = call.service.state.job_of_run(&run).await?;
        match job {
            Some(job) if job.state == JobState::Done => return Ok(Answer::ok(shown(&id, job))),
            Some(_) => {}
            None => return Err(Refusal::not_found("look", &id)),
        }
        tokio::select! {
            // The sender lives as long as the service.
            _ = bell.changed() => {}
            () = &mut patience => {
                return Ok(Answer::with_status(StatusCode::ACCEPTED, json!({ "id": id, "status": "InProgress" })));
            }
            () = call.service.stopping.cancelled() => {
                return Ok(Answer::with_status(StatusCode::ACCEPTED, json!({ "id": id, "status": "InProgress" })));
            }
        }
    }
}

async fn result(call: Call) -> Result<Answer> {
    let id = call.parameter("look");
    let job = ours::look(&call, id, "look", |job| matches!(job, Job::Browse(_))).await?;
    Ok(Answer::ok(shown(id, job)))
}

fn shown(id: &str, job: dmg_state::Job) -> Value {
    let mut body = ours::standing(id, &job);
    if let Some(Outcome::Browsed { listing }) = job.outcome {
        body["listing"] = json!(listing);
    }
    body
}

fn wanted(members: Map<String, Value>) -> Result<Browse> {
    let browse = read::<Browse>(Some(Value::Object(members)), "look")?;
    match browse {
        Some(Browse::Preview { rows, .. }) if rows == 0 || rows > PREVIEW_ROWS_MAX => {
            let message = format!("A preview has 1 to {PREVIEW_ROWS_MAX} rows, not {rows}.");
            Err(Refusal::bad_request(message).about("rows"))
        }
        Some(browse) => Ok(browse),
        None => Err(Refusal::bad_request("The body does not say what to look at.").about("look")),
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Option<Value>, member: &'static str) -> Result<Option<T>> {
    let Some(value) = value else { return Ok(None) };
    serde_json::from_value(value).map(Some).map_err(|error| {
        Refusal::bad_request(format!("The member {member} cannot be understood: {error}.")).about(member)
    })
}
