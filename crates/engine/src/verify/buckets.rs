//! The first pass: every row falls into one of many buckets by the hash of its key, and each bucket has a count and a
//! sum. Equal buckets hold equal rows; only the others are looked at again.

use arrow_array::RecordBatch;
use dmg_connector::Result;

use super::scan::Gather;

/// Buckets of a side: 1.5 MiB per lane. A million rows put 15 into each, so that one wrong row costs 15 to look at.
pub(super) const BUCKETS: usize = 1 << 16;

/// The bucket of a key.
pub(super) fn bucket(key: u128) -> usize {
    (key % BUCKETS as u128) as usize
}

/// Counts and sums per bucket.
pub(super) struct Buckets {
    counts: Vec<u64>,
    sums: Vec<u128>,
}

impl Buckets {
    pub(super) fn new() -> Self {
        Buckets { counts: vec![0; BUCKETS], sums: vec![0; BUCKETS] }
    }

    pub(super) fn merged(all: Vec<Buckets>) -> Self {
        let mut whole = Buckets::new();
        for one in all {
            for at in 0..BUCKETS {
                whole.counts[at] += one.counts[at];
                whole.sums[at] = whole.sums[at].wrapping_add(one.sums[at]);
            }
        }
        whole
    }

    /// Buckets that differ, with the rows of the fuller side.
    pub(super) fn differing(&self, other: &Buckets) -> Vec<(usize, u64)> {
        (0..BUCKETS)
            .filter(|at| self.counts[*at] != other.counts[*at] || self.sums[*at] != other.sums[*at])
            .map(|at| (at, self.counts[at].max(other.counts[at])))
            .collect()
    }

    /// Rows in buckets that do not differ.
    pub(super) fn equal_rows(&self, differing: &[(usize, u64)]) -> u64 {
        let all: u64 = self.counts.iter().sum();
        all - differing.iter().map(|(at, _)| self.counts[*at]).sum::<u64>()
    }
}

impl Gather for Buckets {
    fn take(&mut self, _: usize, _: &RecordBatch, keys: &[u128], rows: &[u128]) -> Result<()> {
        for (key, row) in keys.iter().zip(rows) {
            let at = bucket(*key);
            self.counts[at] += 1;
            self.sums[at] = self.sums[at].wrapping_add(*row);
        }
        Ok(())
    }
}

/// Cuts differing buckets into groups that can be looked at in one pass each.
pub(super) fn groups(differing: &[(usize, u64)], rows_max: u64) -> Vec<Vec<bool>> {
    let mut groups: Vec<Vec<bool>> = Vec::new();
    let mut held = u64::MAX;
    for (at, rows) in differing {
        if held.saturating_add(*rows) > rows_max {
            groups.push(vec![false; BUCKETS]);
            held = 0;
        }
        held += rows;
        if let Some(group) = groups.last_mut() {
            group[*at] = true;
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_what_fits_and_a_large_bucket_stands_alone() {
        let groups = groups(&[(1, 3), (2, 3), (3, 9), (4, 1)], 6);
        let members: Vec<Vec<usize>> = groups
            .iter()
            .map(|group| group.iter().enumerate().filter(|(_, is)| **is).map(|(at, _)| at).collect())
            .collect();
        assert_eq!(members, [vec![1, 2], vec![3], vec![4]]);
    }
}
