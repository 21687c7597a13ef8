//! The second pass: of the buckets that differ, every row by the hashes of its key and of itself, counted on both
//! sides. What is left over on a side is a difference; rows whose key is left over on both are changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use dmg_connector::Result;
use dmg_protocol::Fault;

use super::buckets::bucket;
use super::scan::Gather;

/// Bytes one remembered row takes, its share of the table's free places included.
pub(super) const ENTRY_BYTES: usize = 128;

/// Which side a pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    From,
    To,
}

/// How often a row is on either side, and a part where it was seen.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    from: u64,
    to: u64,
    part_from: u32,
    part_to: u32,
}

/// The rows of a group of buckets, on both sides.
#[derive(Default)]
pub(super) struct Table(Mutex<HashMap<(u128, u128), Seen>>);

/// Fills the table with the rows of one side.
pub(super) struct Count {
    pub(super) of: Of,
    pub(super) wanted: Arc<Vec<bool>>,
    pub(super) table: Arc<Table>,
    pub(super) entries_max: usize,
}

impl Gather for Count {
    fn take(&mut self, part: usize, _: &RecordBatch, keys: &[u128], rows: &[u128]) -> Result<()> {
        let wanted = |key: &u128| self.wanted[bucket(*key)];
        if !keys.iter().any(wanted) {
            return Ok(());
        }
        let mut table = self.table.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, row) in keys.iter().zip(rows).filter(|(key, _)| wanted(key)) {
            let seen = table.entry((*key, *row)).or_default();
            let (count, place) = match self.of {
                Of::From => (&mut seen.from, &mut seen.part_from),
                Of::To => (&mut seen.to, &mut seen.part_to),
            };
            *count += 1;
            *place = part as u32;
        }
        if table.len() > self.entries_max {
            return Err(too_many().into());
        }
        Ok(())
    }
}

fn too_many() -> Fault {
    let message = "The two sides differ in so many rows of one key that they cannot be held in memory.";
    Fault::new("UserErrorBudgetExceeded", message)
        .remedy("Choose a key that tells rows apart, or compare without one by --no-key, or raise --memory.")
}

/// A row that one side has more often than the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Surplus {
    pub(super) key: u128,
    pub(super) row: u128,
    pub(super) times: u64,
    pub(super) part: u32,
}

/// All surplus rows of one key.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub(super) from: Vec<Surplus>,
    pub(super) to: Vec<Surplus>,
}

/// What a group of buckets came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) equal: u64,
    pub(super) only_from: u64,
    pub(super) only_to: u64,
    pub(super) changed: u64,
    /// The first differing keys by hash, at most as many as asked for.
    pub(super) groups: Vec<Group>,
}

impl Tally {
    /// Adds what the table holds.
    pub(super) fn add(&mut self, table: &Table, groups_max: usize) {
        let table = std::mem::take(&mut *table.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left: Vec<(Of, Surplus)> = Vec::new();
        for ((key, row), seen) in table {
            let matched = seen.from.min(seen.to);
            self.equal += matched;
            if seen.from > matched {
                let times = seen.from - matched;
                left.push((Of::From, Surplus { key, row, times, part: seen.part_from }));
            }
            if seen.to > matched {
                let times = seen.to - matched;
                left.push((Of::To, Surplus { key, row, times, part: seen.part_to }));
            }
        }
        left.sort_unstable_by_key(|(_, surplus)| *surplus);
        for of_key in left.chunk_by(|(_, a), (_, b)| a.key == b.key) {
            let total = |of: Of| of_key.iter().filter(|(is, _)| *is == of).map(|(_, s)| s.times).sum::<u64>();
            let (from, to) = (total(Of::From), total(Of::To));
            let changed = from.min(to);
            self.changed += changed;
            self.only_from += from - changed;
            self.only_to += to - changed;
            if self.groups.len() < groups_max {
                let side = |of: Of| of_key.iter().filter(move |(is, _)| *is == of).map(|(_, s)| *s).take(groups_max);
                self.groups.push(Group { from: side(Of::From).collect(), to: side(Of::To).collect() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;

    use super::*;

    fn tally(from: &[(u128, u128)], to: &[(u128, u128)]) -> Tally {
        let table = Arc::new(Table::default());
        let batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
        for (of, rows) in [(Of::From, from), (Of::To, to)] {
            let (keys, hashes): (Vec<u128>, Vec<u128>) = rows.iter().copied().unzip();
            let wanted = Arc::new(vec![true; super::super::buckets::BUCKETS]);
            let mut count = Count { of, wanted, table: table.clone(), entries_max: 100 };
            count.take(0, &batch, &keys, &hashes).expect("they fit");
        }
        let mut tally = Tally::default();
        tally.add(&table, 10);
        tally
    }

    fn counts(tally: &Tally) -> [u64; 4] {
        [tally.equal, tally.only_from, tally.only_to, tally.changed]
    }

    #[test]
    fn rows_are_told_apart() {
        assert_eq!(counts(&tally(&[(1, 10), (2, 20)], &[(1, 10), (2, 20)])), [2, 0, 0, 0]);
        assert_eq!(counts(&tally(&[(1, 10), (2, 20)], &[(1, 10), (2, 21)])), [1, 0, 0, 1], "changed");
        assert_eq!(counts(&tally(&[(1, 10)], &[(1, 10), (1, 10)])), [1, 0, 1, 0], "doubled");
        assert_eq!(counts(&tally(&[(1, 10), (2, 20)], &[(3, 30)])), [0, 2, 1, 0], "others");
        assert_eq!(counts(&tally(&[(1, 10), (1, 11), (1, 12)], &[(1, 12), (1, 13)])), [1, 1, 0, 1], "a doubled key");
    }
}
