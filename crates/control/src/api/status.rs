//! One plain page that says how the service is. It shows only what the public API answers, and no secret.

use dmg_ambient::rfc3339;
use dmg_protocol::run::PipelineRunStatus;
use dmg_state::RunFilter;
use http::header::ACCEPT;
use serde_json::{Value, json};

use super::runtimes::{node_views, state_of};
use crate::error::Result;
use crate::http::{Answer, Call};
use crate::service::PROGRAM;

/// Runs shown per factory.
const RUNS_MAX: usize = 20;
const DAY_MICROS: i64 = 86_400_000_000;

/// The page, or the same as JSON where the caller asks for that.
pub(crate) async fn page(call: Call) -> Result<Answer> {
    let status = gather(&call).await?;
    let accepts = call.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("application/json") && !accepts.contains("text/html") {
        return Ok(Answer::ok(status));
    }
    Ok(Answer::page(html(&status)))
}

async fn gather(call: &Call) -> Result<Value> {
    let service = &call.service;
    let now = service.now();
    let mut factories = Vec::new();
    for factory in service.state.factories().await? {
        let mut gateways = Vec::new();
        for gateway in service.state.gateways(&factory.id).await? {
            let views = node_views(service, &gateway).await?;
            let (waiting, held) = service.state.queue_lengths(&gateway.id).await?;
            let nodes: Vec<Value> = views
                .iter()
                .map(|view| {
                    let running = held.iter().find(|(id, _)| *id == view.node.id).map_or(0, |(_, count)| *count);
                    json!({
                        "name": view.node.name,
                        "status": view.state.as_str(),
                        "reason": view.reason,
                        "jobs": running,
                    })
                })
                .collect();
            gateways.push(json!({
                "name": gateway.name,
                "state": state_of(&views).as_str(),
                "waiting": waiting,
                "nodes": nodes,
            }));
        }
        let span = RunFilter { after: now - DAY_MICROS, before: i64::MAX };
        let runs = service.state.runs(&factory.id, span).await?;
        let failed = runs.iter().filter(|run| run.status == PipelineRunStatus::Failed).count();
        let shown: Vec<Value> = runs
            .iter()
            .take(RUNS_MAX)
            .map(|run| {
                json!({
                    "id": run.id,
                    "pipeline": run.pipeline,
                    "status": run.status.as_str(),
                    "started": rfc3339(run.started),
                    "ended": run.ended.map(rfc3339),
                    "message": run.message,
                })
            })
            .collect();
        factories.push(json!({
            "name": factory.name,
            "gateways": gateways,
            "runsToday": runs.len(),
            "failedToday": failed,
            "runs": shown,
        }));
    }
    Ok(json!({ "program": PROGRAM, "time": rfc3339(now), "factories": factories }))
}

fn escape(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn rows(items: &Value, cells: &[&str]) -> String {
    let mut text = String::new();
    for item in items.as_array().into_iter().flatten() {
        text.push_str("<tr>");
        for cell in cells {
            text.push_str(&format!("<td>{}</td>", escape(&item[*cell])));
        }
        text.push_str("</tr>\n");
    }
    text
}

fn html(status: &Value) -> String {
    let mut body = String::new();
    for factory in status["factories"].as_array().into_iter().flatten() {
        body.push_str(&format!("<h2>Factory {}</h2>\n", escape(&factory["name"])));
        for gateway in factory["gateways"].as_array().into_iter().flatten() {
            body.push_str(&format!(
                "<h3>Gateway {}: {}</h3>\n<p>Jobs waiting: {}</p>\n",
                escape(&gateway["name"]),
                escape(&gateway["state"]),
                escape(&gateway["waiting"])
            ));
            body.push_str(
                "<table><thead><tr><th>Node</th><th>Status</th><th>Why</th><th>Jobs</th></tr></thead><tbody>\n",
            );
            body.push_str(&rows(&gateway["nodes"], &["name", "status", "reason", "jobs"]));
            body.push_str("</tbody></table>\n");
        }
        body.push_str(&format!(
            "<h3>Runs of the last 24 hours: {}, failed: {}</h3>\n<table><thead><tr><th>Started (UTC)</th><th>Pipeline</th>\
             <th>Status</th><th>Run</th><th>Message</th></tr></thead><tbody>\n",
            escape(&factory["runsToday"]),
            escape(&factory["failedToday"])
        ));
        body.push_str(&rows(&factory["runs"], &["started", "pipeline", "status", "id", "message"]));
        body.push_str("</tbody></table>\n");
    }
    if body.is_empty() {
        body.push_str("<p>There is no factory yet. Make one with <code>dmg factory create NAME</code>.</p>\n");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Data Management Gateway</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>body{{font:16px/1.5 system-ui,\
         sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}}table{{border-collapse:collapse;width:100%}}\
         th,td{{text-align:left;padding:.25rem .75rem;border-bottom:1px solid #ccc}}</style></head>\n<body><main>\n\
         <h1>Data Management Gateway</h1>\n<p>{} at {}</p>\n{body}</main></body></html>\n",
        escape(&status["program"]),
        escape(&status["time"])
    )
}
