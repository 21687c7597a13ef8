//! A part whose source broke off, read again from its beginning to where it was, for a sink that cannot forget the rows
//! it has. It goes on only if the rows it passes are the very rows that were handed over.

use std::pin::Pin;

use arrow_array::RecordBatch;
use dmg_connector::{BatchStream, Digester, Result, Sums};
use dmg_protocol::PartPlan;
use futures::{Stream, StreamExt, stream};

use crate::lanes::{Work, convert};

type Rest = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// The rows of a part behind those of `sums`; none if the part begins with other rows now.
pub(crate) async fn behind(
    work: &Work,
    part: &PartPlan,
    sums: &Sums,
    mut passed: Digester,
) -> Result<Option<BatchStream>> {
    let mut batches = work.source.read(part, work.limits).await?;
    let mut rest: Rest = Box::pin(stream::empty());
    while passed.sums().rows < sums.rows {
        let Some(batch) = batches.next().await else { return Ok(None) };
        let batch = batch?;
        let before = passed.sums().rows;
        let missing = usize::try_from(sums.rows - before).unwrap_or(usize::MAX).min(batch.num_rows());
        passed.update(&convert(work, &batch.slice(0, missing), part, before)?)?;
        if missing < batch.num_rows() {
            rest = Box::pin(stream::iter([Ok(batch.slice(missing, batch.num_rows() - missing))]));
        }
    }
    Ok((passed.sums() == sums).then(|| Box::pin(rest.chain(batches)) as BatchStream))
}
