//! The third pass: reads the parts where the shown differences are and takes those rows, as texts and hashes per value.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use dmg_connector::{Column, Digester, Result, published_seed};
use dmg_protocol::Fault;

use super::count::{Group, Surplus};
use super::scan::{Gather, Reading, scan};
use super::{Change, Difference};
use crate::browse::row_texts;

/// A row as it is shown, and its values' hashes: texts may be cut, hashes tell whether values are the same.
#[derive(Debug, Clone)]
struct Row {
    texts: Vec<Option<String>>,
    hashes: Vec<u128>,
}

/// Rows still wanted and rows found, of one side.
struct Wanted {
    columns: Vec<Column>,
    rows: Mutex<HashMap<(u128, u128), Option<Row>>>,
}

struct Find(Arc<Wanted>);

impl Gather for Find {
    fn take(&mut self, _: usize, batch: &RecordBatch, keys: &[u128], rows: &[u128]) -> Result<()> {
        let mut wanted = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, (key, row)) in keys.iter().zip(rows).enumerate() {
            if let Some(slot @ None) = wanted.get_mut(&(*key, *row)) {
                let mut digester = Digester::new(&self.0.columns, published_seed());
                digester.update(&batch.slice(at, 1))?;
                let texts = row_texts(batch, &self.0.columns, at);
                *slot = Some(Row { texts, hashes: digester.finish().columns });
            }
        }
        Ok(())
    }

    fn is_content(&self) -> bool {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner).values().all(Option::is_some)
    }
}

async fn fetch<'a>(
    reading: &Arc<Reading>,
    surplus: impl Iterator<Item = &'a Surplus>,
) -> Result<HashMap<(u128, u128), Row>> {
    let mut parts = BTreeSet::new();
    let mut rows = HashMap::new();
    for Surplus { key, row, part, .. } in surplus {
        parts.insert(*part as usize);
        rows.insert((*key, *row), None);
    }
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let wanted = Arc::new(Wanted { columns: reading.columns.clone(), rows: Mutex::new(rows) });
    scan(reading, parts.into_iter().collect(), || Find(wanted.clone())).await?;
    let rows = std::mem::take(&mut *wanted.rows.lock().unwrap_or_else(PoisonError::into_inner));
    rows.into_iter()
        .map(|(hashes, row)| row.map(|row| (hashes, row)).ok_or_else(|| changed(&reading.source.label()).into()))
        .collect()
}

/// A row of an earlier pass that is not there any more.
pub(super) fn changed(label: &str) -> Fault {
    let message = format!("{label} changed while it was compared.");
    Fault::new("UserErrorSourceChanged", message).remedy("Compare again while nobody writes to it.")
}

/// The differences of those groups, at most `limit`.
pub(super) async fn differences(
    from: &Arc<Reading>,
    to: &Arc<Reading>,
    groups: &[Group],
    limit: usize,
) -> Result<Vec<Difference>> {
    let (left, right) = tokio::try_join!(
        fetch(from, groups.iter().flat_map(|group| &group.from)),
        fetch(to, groups.iter().flat_map(|group| &group.to)),
    )?;
    let mut found = Vec::new();
    for group in groups {
        of_group(group, &left, &right, &mut found);
    }
    let key = from.key.clone();
    found.sort_by_cached_key(|row| order(row, &key));
    found.truncate(limit);
    Ok(found)
}

type Rows = HashMap<(u128, u128), Row>;

/// Pairs the surplus rows of one key: what both sides have left is changed, the rest is on one side only.
fn of_group(group: &Group, left: &Rows, right: &Rows, found: &mut Vec<Difference>) {
    let row = |rows: &Rows, surplus: &Surplus| rows.get(&(surplus.key, surplus.row)).cloned();
    let (mut from, mut to) = (group.from.clone(), group.to.clone());
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        match (from.get_mut(i), to.get_mut(j)) {
            (Some(a), Some(b)) => {
                let times = a.times.min(b.times);
                if let (Some(x), Some(y)) = (row(left, a), row(right, b)) {
                    let differs = x.hashes.iter().zip(&y.hashes).enumerate();
                    let columns = differs.filter(|(_, (p, q))| p != q).map(|(at, _)| at).collect();
                    found.push(Difference { change: Change::Changed, times, from: x.texts, to: y.texts, columns });
                }
                a.times -= times;
                b.times -= times;
                i += usize::from(a.times == 0);
                j += usize::from(b.times == 0);
            }
            (Some(a), None) => {
                if let Some(x) = row(left, a) {
                    found.push(Difference::alone(Change::OnlyFrom, a.times, x.texts));
                }
                i += 1;
            }
            (None, Some(b)) => {
                if let Some(y) = row(right, b) {
                    found.push(Difference::alone(Change::OnlyTo, b.times, y.texts));
                }
                j += 1;
            }
            (None, None) => break,
        }
    }
}

/// A value's place among others: numbers as numbers, then texts.
type Ordinal = (i128, String);

/// By key, then by the rest of the row.
fn order(difference: &Difference, key: &[usize]) -> (Vec<Ordinal>, Change, Vec<Ordinal>) {
    let row = if difference.change == Change::OnlyTo { &difference.to } else { &difference.from };
    let one = |at: usize| {
        let text = row[at].clone().unwrap_or_default();
        (text.parse().unwrap_or(i128::MAX), text)
    };
    let all: Vec<_> = (0..row.len()).map(one).collect();
    let places: Vec<_> = if key.is_empty() { all.clone() } else { key.iter().map(|at| one(*at)).collect() };
    (places, difference.change, all)
}
