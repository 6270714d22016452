//! Mann-Whitney statistics of many pairs of groups from one sweep over the sorted
//! values of a gene, exact.
//!
//! The sweep keeps, for every group that is a reference, how many of its cells
//! are below. A value of another group adds all these counts to that group's
//! row: as many additions as there are references, none of which branches. A tie
//! is taken as a whole, group by group; the zeros are one more tie.

use super::rank::{TwoSamples, tie, zero_span};

/// Stands for a group that is no reference, or that nothing is compared with.
const NONE: u32 = u32::MAX;

/// Which groups are compared, and the memory of a sweep.
///
/// Memory: 24 bytes for each pair of a first and a second group, beside some
/// bytes a group.
#[derive(Debug, Clone, Default)]
pub struct PairSweep {
    /// Row of each group that is the first of a pair.
    row: Vec<u32>,
    /// Column of each group that is the second of a pair.
    column: Vec<u32>,
    n_rows: usize,
    n_columns: usize,
    /// Twice U, row by row.
    doubled_u: Vec<u64>,
    /// Sum over ties shared by both of 3 a b (a + b).
    shared_ties: Vec<u128>,
    /// Sum over ties of t^3 - t within each group.
    own_ties: Vec<u128>,
    /// Twice the cells below, by column.
    below: Vec<u64>,
    /// Cells of each group in the tie at hand.
    tied: Vec<u64>,
    touched: Vec<u32>,
    /// Columns that the tie touches, with its cells there.
    seconds: Vec<(u32, u64)>,
}

impl PairSweep {
    /// For these pairs of groups below `n_groups`.
    #[must_use]
    pub fn new(n_groups: usize, pairs: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut sweep = PairSweep {
            row: vec![NONE; n_groups],
            column: vec![NONE; n_groups],
            own_ties: vec![0; n_groups],
            tied: vec![0; n_groups],
            ..Self::default()
        };
        let number = |slot: &mut u32, next: &mut usize| {
            if *slot == NONE {
                *slot = *next as u32;
                *next += 1;
            }
        };
        for (first, second) in pairs {
            number(&mut sweep.row[first as usize], &mut sweep.n_rows);
            number(&mut sweep.column[second as usize], &mut sweep.n_columns);
        }
        sweep
    }

    /// Takes the sorted keys of the nonzero values, their groups, and the cells
    /// of each group, zeros included.
    ///
    /// # Panics
    /// If the lengths differ, or a group is unknown or has more values than cells.
    pub fn run(&mut self, keys: &[u64], groups: &[u32], group_sizes: &[u64]) {
        assert_eq!(keys.len(), groups.len(), "one group per key");
        let n_cells = self.n_rows * self.n_columns;
        self.doubled_u.clear();
        self.doubled_u.resize(n_cells, 0);
        self.shared_ties.clear();
        self.shared_ties.resize(n_cells, 0);
        self.below.clear();
        self.below.resize(self.n_columns, 0);
        self.own_ties.fill(0);
        let zeros = zero_span(keys);
        self.add_runs(&keys[..zeros.start], &groups[..zeros.start]);
        // The zeros that are not stored are what the groups have left.
        self.touched.clear();
        self.touched.extend(0..group_sizes.len() as u32);
        self.tied.copy_from_slice(group_sizes);
        for &group in groups[..zeros.start].iter().chain(&groups[zeros.end..]) {
            let left = &mut self.tied[group as usize];
            *left = left.checked_sub(1).expect("no more values than cells in a group");
        }
        self.add_tie();
        self.add_runs(&keys[zeros.end..], &groups[zeros.end..]);
    }

    /// What the last run says of a pair: the first group against the second.
    ///
    /// # Panics
    /// If the pair is not one of those given.
    #[must_use]
    pub fn of(&self, first: u32, second: u32, group_sizes: &[u64]) -> TwoSamples {
        let (a, b) = (first as usize, second as usize);
        let at = self.row[a] as usize * self.n_columns + self.column[b] as usize;
        let n1 = group_sizes[a];
        TwoSamples {
            n1,
            n2: group_sizes[b],
            doubled_rank_sum: self.doubled_u[at] + n1 * (n1 + 1),
            tie_term: self.own_ties[a] + self.own_ties[b] + self.shared_ties[at],
        }
    }

    fn add_runs(&mut self, keys: &[u64], groups: &[u32]) {
        let mut begin = 0;
        while begin < keys.len() {
            let mut end = begin + 1;
            while end < keys.len() && keys[end] == keys[begin] {
                end += 1;
            }
            if end - begin == 1 {
                self.add_one(groups[begin] as usize);
            } else {
                self.touched.clear();
                for &group in &groups[begin..end] {
                    let count = &mut self.tied[group as usize];
                    if *count == 0 {
                        self.touched.push(group);
                    }
                    *count += 1;
                }
                self.add_tie();
            }
            begin = end;
        }
    }

    /// A value that no other equals.
    fn add_one(&mut self, group: usize) {
        if self.row[group] != NONE {
            let first = self.row[group] as usize * self.n_columns;
            let row = &mut self.doubled_u[first..first + self.n_columns];
            for (u, below) in row.iter_mut().zip(&self.below) {
                *u += below;
            }
        }
        if self.column[group] != NONE {
            self.below[self.column[group] as usize] += 2;
        }
    }

    /// The tie in `tied` and `touched`, which it empties.
    fn add_tie(&mut self) {
        self.seconds.clear();
        self.seconds.extend(self.touched.iter().filter_map(|&group| {
            let (column, count) = (self.column[group as usize], self.tied[group as usize]);
            (column != NONE && count > 0).then_some((column, count))
        }));
        for &group in &self.touched {
            let (row, count) = (self.row[group as usize], self.tied[group as usize]);
            self.own_ties[group as usize] += tie(count);
            if row == NONE || count == 0 {
                continue;
            }
            let first = row as usize * self.n_columns;
            let row = &mut self.doubled_u[first..first + self.n_columns];
            for (u, below) in row.iter_mut().zip(&self.below) {
                *u += count * below;
            }
            for &(column, others) in &self.seconds {
                row[column as usize] += count * others;
                let product = u128::from(count) * u128::from(others);
                self.shared_ties[first + column as usize] +=
                    3 * product * u128::from(count + others);
            }
        }
        for &(column, count) in &self.seconds {
            self.below[column as usize] += 2 * count;
        }
        for &group in &self.touched {
            self.tied[group as usize] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;
    use crate::stats::rank::{PairSorter, RankSums, ordered_key, rank_sums};

    #[test]
    fn agrees_with_ranking_every_pair() {
        let mut rng = Rng::new(5, 0);
        let sizes = [40_u64, 3, 25, 1, 30];
        let pairs = [(0, 1), (0, 2), (2, 0), (3, 1), (4, 2), (2, 3), (1, 4)];
        let mut sweep = PairSweep::new(5, pairs.into_iter());
        for levels in [1, 2, 6, 100_000] {
            let (mut keys, mut groups) = (Vec::new(), Vec::new());
            for (group, &size) in sizes.iter().enumerate() {
                for _ in 0..size {
                    let value = (rng.below(levels + 1) as f64 - (levels / 3) as f64) / 4.0;
                    // Most zeros are not stored, some are.
                    if value != 0.0 || rng.below(4) == 0 {
                        keys.push(ordered_key(value));
                        groups.push(group as u32);
                    }
                }
            }
            PairSorter::new().sort(&mut keys, &mut groups);
            sweep.run(&keys, &groups, &sizes);
            for (a, b) in pairs {
                let own: Vec<usize> =
                    (0..keys.len()).filter(|&i| groups[i] == a || groups[i] == b).collect();
                let pair_keys: Vec<u64> = own.iter().map(|&i| keys[i]).collect();
                let pair_groups: Vec<u32> =
                    own.iter().map(|&i| u32::from(groups[i] == b)).collect();
                let (n1, n2) = (sizes[a as usize], sizes[b as usize]);
                let mut ranks = RankSums::default();
                rank_sums(&pair_keys, &pair_groups, &[n1, n2], &mut ranks);
                let want = TwoSamples {
                    n1,
                    n2,
                    doubled_rank_sum: ranks.doubled[0],
                    tie_term: ranks.tie_term,
                };
                assert_eq!(sweep.of(a, b, &sizes), want, "{a} against {b}, {levels} levels");
            }
        }
    }

    #[test]
    fn nothing_stored() {
        let mut sweep = PairSweep::new(2, [(0, 1)].into_iter());
        sweep.run(&[], &[], &[4, 7]);
        let got = sweep.of(0, 1, &[4, 7]);
        assert!(got.constant());
        assert_eq!(got.auc(), 0.5);
    }
}
