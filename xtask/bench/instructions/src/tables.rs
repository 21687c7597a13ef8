//! Our connectors, by their public contract: from the socket to Arrow, and from Arrow to the socket.

use anyhow::{Context, Result, bail};
use dmg_ambient::Ambient;
use dmg_connector::{BatchLimits, MarkContent, Session, Sink, SinkRequest, TableConnection};
use dmg_protocol::job::StoreObject;
use dmg_protocol::{Attempt, ColumnPlan, Epoch, RunId, Secret, Secrets};
use futures::StreamExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::rows::{self, BATCH_ROWS};

const LIMITS: BatchLimits = BatchLimits { rows: 8192, bytes: 8 << 20, value_bytes: 1 << 20 };

/// A store by its connector name; settings as JSON in `DMG_COUNT_SETTINGS`, password in `DMG_COUNT_PASSWORD`.
async fn open(store: &str) -> Result<Arc<dyn TableConnection>> {
    let given = |name: &str| dmg_ambient::environment(name).with_context(|| format!("{name} is not set"));
    let settings = serde_json::from_str(&given("DMG_COUNT_SETTINGS")?)?;
    let secrets: Secrets = [("password".to_owned(), Secret::new(given("DMG_COUNT_PASSWORD")?))].into_iter().collect();
    let connector = dmg_tables::store(store).with_context(|| format!("there is no store {store}"))?;
    Ok(connector.open(&settings, &secrets, Session::new(Ambient::real(), "dmg/count")).await?)
}

fn table(name: &str) -> StoreObject {
    StoreObject::Table { schema: None, table: name.to_owned() }
}

/// Reads a table into batches.
pub async fn read(store: &str, name: &str) -> Result<usize> {
    let source = open(store).await?.source(&table(name), 1, 1 << 40).await?;
    let mut rows = 0;
    for part in source.parts() {
        let mut batches = source.read(part, LIMITS).await?;
        while let Some(batch) = batches.next().await {
            rows += batch?.num_rows();
        }
    }
    source.finish().await?;
    Ok(rows)
}

/// Writes rows into the staging place of a table, and forgets or commits them.
pub async fn write(store: &str, name: &str, rows: usize, commit: bool) -> Result<usize> {
    let attempt = Attempt {
        namespace: "count".to_owned(),
        // A run of its own each time: a mark of an earlier one would say that everything is there.
        run: RunId::new(uuid::Uuid::from_u128(since_1970()?.as_nanos()).to_string()),
        epoch: Epoch(1),
    };
    let mut sink = open(store).await?.sink(SinkRequest::append(attempt, table(name))).await?;
    plan(sink.as_mut()).await?;
    sink.mark().await?;
    sink.begin().await?;
    let mut part = sink.part(0).await?;
    let batch = rows::batch(BATCH_ROWS)?;
    let mut left = rows;
    while left > 0 {
        let piece = batch.slice(0, left.min(BATCH_ROWS));
        left -= piece.num_rows();
        part.write(piece).await?;
    }
    let report = part.finish().await?;
    if commit {
        sink.commit(&MarkContent { rows: report.rows, digest: String::new() }).await?;
    } else {
        sink.abort().await?;
    }
    Ok(usize::try_from(report.rows)?)
}

fn since_1970() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?)
}

/// Columns by name, each in the kind it has.
async fn plan(sink: &mut dyn Sink) -> Result<()> {
    let target = sink.columns().await?.context("the table does not exist")?;
    let mut plans = Vec::new();
    for column in rows::columns() {
        let found = target.iter().find(|other| other.name == column.name);
        let held = sink.hold(&column, found);
        if held.kind != column.kind {
            bail!("column {} would become {}", column.name, held.kind);
        }
        plans.push(ColumnPlan {
            source: column.name.clone(),
            sink: column.name,
            kind: held.kind,
            source_type: column.type_name,
            sink_type: held.type_name,
            key: false,
            required: false,
            verdict: held.verdict,
            reason: held.reason,
        });
    }
    sink.plan(&plans).await?;
    Ok(())
}
