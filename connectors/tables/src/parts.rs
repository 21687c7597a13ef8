//! Parts of a source that all table stores cut and read alike. It knows no statement and no session.

use std::sync::Arc;

use dmg_connector::{Error, Result, Traffic};
use dmg_protocol::{Fault, PartPlan};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// More parts than this only cost round trips.
const PARTS_MAX: u64 = 10_000;

/// How many parts those rows are cut into: enough for their number and for the lanes that pay.
pub(crate) fn part_count(rows: u64, lanes: u64, rows_per_part: u64) -> u64 {
    rows.div_ceil(rows_per_part.max(1)).max(lanes).clamp(1, PARTS_MAX)
}

/// A part for the plan, with what the store must know to read it.
pub(crate) fn part(index: u32, label: String, spec: &impl Serialize) -> PartPlan {
    let spec = serde_json::to_value(spec).expect("text and numbers are JSON");
    PartPlan { index, label, spec }
}

/// What the store knew when it planned the part.
pub(crate) fn spec<T: DeserializeOwned>(part: &PartPlan, store: &str) -> Result<T> {
    serde_json::from_value(part.spec.clone()).map_err(|error| {
        let fault = Fault::new("SystemErrorInternal", format!("Part {} is not a part of {store}.", part.index));
        Error::caused(fault, error)
    })
}

/// The session that held the snapshot is gone, and no other has these rows.
pub(crate) fn snapshot_ended() -> Fault {
    let message = "The snapshot of the source ended with the session that held it.";
    Fault::new("UserErrorSourceChanged", message).remedy("Run again.")
}

/// Counts a stream as active for as long as it lives.
pub(crate) struct Active(Arc<Traffic>);

impl Active {
    /// The stream begins.
    pub(crate) fn new(traffic: Arc<Traffic>) -> Self {
        traffic.opened();
        Active(traffic)
    }

    /// Adds bytes as the store counts them.
    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.0.add_bytes(bytes);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.closed();
    }
}
