//! The output of a copy in the original's members, worked out from the receipt, and the receipt itself. Numbers come
//! from nowhere else. A stored procedure has what it gave back instead.

use dmg_protocol::Receipt;
use dmg_protocol::job::{FilePlace, Job as Work, ProcedureOutcome};
use dmg_state::{ActivityRun, Job, Moment};
use serde_json::{Value, json};

use super::outcome::Proof;

/// The original counts kilobytes of 1024.
const KILOBYTE: f64 = 1024.0;

/// Output of a copy that succeeded.
pub(crate) fn of_copy(proof: &Proof, job: &Job, activity: &ActivityRun, now: Moment) -> Value {
    let Receipt { read, written, bottleneck, .. } = &proof.receipt;
    let seconds = |from: Option<Moment>, to: Moment| from.map_or(0.0, |from| (to - from).max(0) as f64 / 1e6);
    let moved: f64 = proof.receipt.stages.iter().map(|stage| stage.seconds).sum();
    let copy_seconds = if moved > 0.0 { moved } else { seconds(job.taken, now) };
    let queued_seconds = job.taken.map_or(0.0, |taken| seconds(activity.queued, taken));
    let throughput = round(read.bytes as f64 / KILOBYTE / copy_seconds.max(0.001));
    let gateway = activity.definition.gateway_name.clone().unwrap_or_default();
    let (source, sink) = match &job.job {
        Work::Copy(copy) => (store_title(&copy.source.store.store), store_title(&copy.sink.store.store)),
        Work::Probe(_) | Work::Procedure(_) | Work::Browse(_) => ("", ""),
    };
    let lanes = read.peak_connections.max(1);
    let skipped = proof.receipt.skipped.as_ref();
    let stages: serde_json::Map<String, Value> = proof
        .receipt
        .stages
        .iter()
        .map(|stage| (format!("{}Duration", stage.stage), json!(round(stage.seconds))))
        .collect();
    let mut durations = stages;
    durations.insert("queuingDuration".to_owned(), json!(queued_seconds.round() as i64));
    durations.insert("transferDuration".to_owned(), json!(copy_seconds.round() as i64));
    let mut output = json!({
        "dataRead": read.bytes,
        "dataWritten": written.bytes,
        "filesRead": read.files,
        "filesWritten": written.files,
        "sourcePeakConnections": read.peak_connections,
        "sinkPeakConnections": written.peak_connections,
        "rowsRead": read.rows,
        "rowsCopied": written.rows,
        "rowsSkipped": skipped.map_or(0, |skipped| skipped.rows),
        "copyDuration": copy_seconds.ceil() as i64,
        "throughput": throughput,
        "errors": [],
        "effectiveIntegrationRuntime": gateway,
        "usedParallelCopies": lanes,
        "executionDetails": [{
            "source": { "type": source },
            "sink": { "type": sink },
            "status": "Succeeded",
            "start": proof.receipt.started,
            "duration": copy_seconds.ceil() as i64,
            "usedParallelCopies": lanes,
            "detailedDurations": durations,
        }],
        "durationInQueue": { "integrationRuntimeQueue": queued_seconds.round() as i64 },
        "dataConsistencyVerification": {
            "VerificationResult": if proof.receipt.evidence == "none" { "NotVerified" } else { "Verified" },
        },
        "bottleneck": bottleneck,
        "receipt": proof.signed,
    });
    if let Work::Copy(copy) = &job.job {
        let redirected = skipped.and_then(|skipped| skipped.redirect.as_ref()).and(copy.options.redirect());
        if let Some(redirect) = redirected {
            output["redirectRowPath"] = json!(folder(redirect.place(&job.run)));
        }
        if let Some(log) = &copy.options.log {
            output["logFilePath"] = json!(folder(log.place(copy.parties.activity.as_deref(), &job.run)));
        }
    }
    output
}

/// Output of a stored procedure that ended well: the original's members, and what it gave back. Nothing proves that a
/// procedure ran only once, and its output says so.
pub(crate) fn of_procedure(outcome: &ProcedureOutcome, job: &Job, activity: &ActivityRun, now: Moment) -> Value {
    let seconds = |from: Option<Moment>, to: Moment| from.map_or(0, |from| (to - from).max(0) / 1_000_000);
    let queued_seconds = job.taken.map_or(0, |taken| seconds(activity.queued, taken));
    let mut output = json!({
        "effectiveIntegrationRuntime": activity.definition.gateway_name.clone().unwrap_or_default(),
        "executionDuration": seconds(job.taken, now),
        "durationInQueue": { "integrationRuntimeQueue": queued_seconds },
        "billingReference": { "activityType": "ExternalActivity" },
        "outputParameters": outcome.outputs,
        "messages": outcome.messages,
        // Every attempt may have called it, also one whose answer was lost.
        "delivery": { "guarantee": "atLeastOnce", "callsAtMost": activity.attempt + job.releases + 1 },
    });
    if let Some(status) = outcome.return_status {
        output["returnStatus"] = json!(status);
    }
    if let Some(rows) = outcome.rows_affected {
        output["rowsAffected"] = json!(rows);
    }
    output
}

/// The original names the folder of the file, with a slash behind it.
fn folder(place: FilePlace) -> String {
    format!("{}/", place.folder)
}

/// The original's word for a store of that connector name.
fn store_title(store: &str) -> &'static str {
    match store {
        "azblob" => "AzureBlob",
        "file" => "FileServer",
        "mysql" => "MySql",
        "postgres" => "PostgreSql",
        "sqlite" => "Sqlite",
        "sqlserver" => "SqlServer",
        _ => "Other",
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::store_title;

    #[test]
    fn stores_go_by_the_words_of_the_original() {
        for (store, expect) in [
            ("azblob", "AzureBlob"),
            ("file", "FileServer"),
            ("mysql", "MySql"),
            ("postgres", "PostgreSql"),
            ("sqlite", "Sqlite"),
            ("sqlserver", "SqlServer"),
        ] {
            assert_eq!(store_title(store), expect);
        }
    }
}
