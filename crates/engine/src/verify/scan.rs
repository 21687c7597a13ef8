//! One pass over one side: its rows in the common kinds, with the hash of each row and of its key. What is gathered on
//! the way is the caller's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use dmg_ambient::TaskGroup;
use dmg_connector::{BatchLimits, Budget, Column, Digester, Result, Seat, Source, Sums, published_seed, schema};
use futures::StreamExt;

use super::align;
use super::pairs::Side;

/// One side, ready to be read as often as needed.
pub(super) struct Reading {
    pub(super) source: Arc<dyn Source>,
    pub(super) sides: Vec<Side>,
    /// The compared columns: the names of FROM, the common kinds.
    pub(super) columns: Vec<Column>,
    schema: SchemaRef,
    /// Places of the key in the compared columns; empty: the row is its own key.
    pub(super) key: Vec<usize>,
    pub(super) limits: BatchLimits,
    pub(super) lanes: usize,
    /// For large values of both sides.
    budget: Arc<Budget>,
    /// Rows read so far, over all passes and both sides.
    pub(super) rows: Arc<AtomicU64>,
}

impl Reading {
    pub(super) fn new(
        source: Box<dyn Source>,
        sides: Vec<Side>,
        columns: Vec<Column>,
        key: Vec<usize>,
        (limits, lanes, budget): (BatchLimits, usize, Arc<Budget>),
        rows: Arc<AtomicU64>,
    ) -> Self {
        let schema = schema(&columns);
        Reading { source: source.into(), sides, columns, schema, key, limits, lanes, budget, rows }
    }

    /// All parts.
    pub(super) fn parts(&self) -> Vec<usize> {
        (0..self.source.parts().len()).collect()
    }
}

/// Gathers what a pass is for. One per lane.
pub(super) trait Gather: Send + 'static {
    /// Takes a batch of that part. Row and key hashes stand in its order.
    fn take(&mut self, part: usize, batch: &RecordBatch, keys: &[u128], rows: &[u128]) -> Result<()>;

    /// Whether nothing more is wanted.
    fn is_content(&self) -> bool {
        false
    }
}

/// Reads those parts in as many lanes as there may be; answers the sums over them and what each lane gathered.
pub(super) async fn scan<G: Gather>(
    reading: &Arc<Reading>,
    parts: Vec<usize>,
    make: impl Fn() -> G,
) -> Result<(Sums, Vec<G>)> {
    let next = Arc::new(AtomicUsize::new(0));
    let lanes = reading.lanes.clamp(1, parts.len().max(1));
    let parts = Arc::new(parts);
    let mut tasks: TaskGroup<Result<(Sums, G)>> = TaskGroup::new();
    for _ in 0..lanes {
        let (reading, parts, next, gather) = (reading.clone(), parts.clone(), next.clone(), make());
        let seat = reading.budget.seat();
        tasks.spawn(seat.clone().scope(lane(reading, seat, parts, next, gather)));
    }
    let mut sums = Sums { columns: vec![0; reading.columns.len()], ..Sums::default() };
    let mut gathered = Vec::with_capacity(lanes);
    while let Some(lane) = tasks.join_next().await {
        let (of_lane, gather) = lane.map_err(crate::lanes::crashed)??;
        sums.merge(&of_lane);
        gathered.push(gather);
    }
    Ok((sums, gathered))
}

async fn lane<G: Gather>(
    reading: Arc<Reading>,
    seat: Seat,
    parts: Arc<Vec<usize>>,
    next: Arc<AtomicUsize>,
    mut gather: G,
) -> Result<(Sums, G)> {
    let mut digester = Digester::new(&reading.columns, published_seed());
    let key: Vec<Column> = reading.key.iter().map(|at| reading.columns[*at].clone()).collect();
    let mut key_digester = Digester::new(&key, published_seed());
    let (mut rows, mut keys) = (Vec::new(), Vec::new());
    while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
        let Some(plan) = reading.source.parts().get(*part) else { continue };
        seat.turn();
        let mut batches = reading.source.read(plan, reading.limits).await?;
        while !gather.is_content()
            && let Some(batch) = batches.next().await
        {
            let batch = align::align(&batch?, &reading.sides, &reading.schema)?;
            rows.clear();
            digester.update_each(&batch, |hash| rows.push(hash))?;
            reading.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            if key.is_empty() {
                gather.take(*part, &batch, &rows, &rows)?;
            } else {
                keys.clear();
                let key_batch = batch.project(&reading.key).map_err(|error| {
                    let fault = dmg_protocol::Fault::new("SystemErrorInternal", "The key is no part of the batch.");
                    dmg_connector::Error::caused(fault, error)
                })?;
                key_digester.update_each(&key_batch, |hash| keys.push(hash))?;
                gather.take(*part, &batch, &keys, &rows)?;
            }
            // Hashing takes long; the other side wants a turn too.
            tokio::task::yield_now().await;
        }
    }
    Ok((digester.finish(), gather))
}
