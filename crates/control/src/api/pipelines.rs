//! Starting a pipeline. Its document is in `documents`; what happens then is in `runs`.

use dmg_authoring::{Dialect, DocumentKind};
use dmg_protocol::{Fault, PipelineRunId};
use serde_json::json;

use super::{documents, factory};
use crate::error::{Refusal, Result};
use crate::http::{Answer, Call};
use crate::router::{Route, route};
use crate::runs::start::{Start, start};

pub(crate) const ROUTES: &[Route] = &[route!(POST V2 "~/pipelines/{name}/createrun" Operate => create_run)];

/// The body is the bare map of parameters.
async fn create_run(call: Call) -> Result<Answer> {
    let factory = factory(&call).await?;
    let name = call.parameter("name");
    for unsupported in ["startActivityName", "startFromFailure", "isRecovery"] {
        if call.query(unsupported).is_some_and(|value| !value.is_empty() && !value.eq_ignore_ascii_case("false")) {
            let message = format!("Starting a run in the middle ({unsupported}) is not built yet.");
            return Err(Fault::new("UserErrorNotSupported", message).remedy("Start the whole pipeline.").into());
        }
    }
    let document = call.service.state.document(&documents::key(&factory, DocumentKind::Pipeline, name)).await?;
    let Some(document) = document else {
        let kind = format!("factories/{}/pipelines", factory.name);
        return Err(Refusal::no_resource(&kind, name, &factory.resource_group));
    };
    let dialect = Dialect::parse(&document.dialect).unwrap_or(Dialect::V2);
    let group = match call.query("referencePipelineRunId").filter(|id| !id.is_empty()) {
        Some(id) => {
            let earlier = call.service.state.run(&factory.id, &PipelineRunId::new(id)).await?;
            Some(earlier.ok_or_else(|| Refusal::not_found("pipeline run", id))?.group)
        }
        None => None,
    };
    let parameters = call.object()?;
    let run = start(
        &call.service,
        Start { factory: &factory, pipeline: &document.name, dialect, document: &document.body, parameters, group },
    )
    .await?;
    Ok(Answer::ok(json!({ "runId": run })))
}
