//! Compares what was read with what arrived, by rows and digests, and says which columns differ.

use std::sync::Arc;

use dmg_ambient::TaskGroup;
use dmg_connector::{BatchLimits, Budget, Column, Digester, Error, Result, Source, Sums, data_type, published_seed};
use dmg_protocol::Fault;
use futures::StreamExt;

/// Reads a whole source and digests it, several parts at once.
pub(crate) async fn digest_all(
    source: Arc<dyn Source>,
    columns: &[Column],
    lanes: usize,
    limits: BatchLimits,
) -> Result<Sums> {
    let found = source.columns();
    let same = found.len() == columns.len()
        && found.iter().zip(columns).all(|(a, b)| a.name == b.name && data_type(a.kind) == data_type(b.kind));
    if !same {
        let message = format!("What was staged has other columns than planned: {}.", source.label());
        return Err(Fault::new("SystemErrorVerification", message).into());
    }
    let budget = Budget::of(&limits);
    let mut tasks: TaskGroup<Result<Sums>> = TaskGroup::new();
    for _ in 0..lanes.clamp(1, source.parts().len().max(1)) {
        let (source, seat, columns) = (source.clone(), budget.seat(), columns.to_vec());
        tasks.spawn(seat.clone().scope(async move {
            let mut digester = Digester::new(&columns, published_seed());
            while let Some(part) = source.parts().get(seat.turn()) {
                let mut batches = source.read(part, limits).await?;
                while let Some(batch) = batches.next().await {
                    digester.update(&batch?)?;
                }
            }
            Ok(digester.finish())
        }));
    }
    let mut sums = Sums { columns: vec![0; columns.len()], ..Sums::default() };
    while let Some(lane) = tasks.join_next().await {
        sums.merge(&lane.map_err(crate::lanes::crashed)??);
    }
    Ok(sums)
}

/// Row counts must agree.
pub(crate) fn compare_rows(read: u64, arrived: u64) -> Result<()> {
    if read == arrived {
        return Ok(());
    }
    let message = format!("{read} rows were read, but {arrived} arrived.");
    Err(Fault::new("SystemErrorVerification", message).with("rowsRead", read).with("rowsArrived", arrived).into())
}

/// Sums must agree, column by column and over whole rows.
pub(crate) fn compare(columns: &[Column], read: &Sums, arrived: &Sums) -> Result<()> {
    compare_rows(read.rows, arrived.rows)?;
    let differing: Vec<_> = columns
        .iter()
        .zip(read.columns.iter().zip(&arrived.columns))
        .filter(|(_, (a, b))| a != b)
        .map(|(column, _)| column.name.as_str())
        .collect();
    if !differing.is_empty() {
        let message = format!("What arrived differs from what was read, in column {}.", differing.join(", "));
        return Err(Fault::new("SystemErrorVerification", message).with("columns", differing.join(",")).into());
    }
    if read.row != arrived.row {
        let message = "What arrived differs from what was read: values moved between rows.";
        return Err(Fault::new("SystemErrorVerification", message).into());
    }
    Ok(())
}

/// A failure to decode what we wrote ourselves is a failed proof, not a user's broken file.
pub(crate) fn as_failed_proof(error: Error) -> Error {
    match error.fault.code.as_str() {
        "UserErrorFileFormat" | "UserErrorValue" | "UserErrorSourceChanged" => {
            let message = format!("What was staged cannot be read back: {}", error.fault.message);
            Error::caused(Fault::new("SystemErrorVerification", message), error)
        }
        _ => error,
    }
}
