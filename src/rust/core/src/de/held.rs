//! Rows that wait for the tiles of a group pass.
//!
//! Problem: a block is decoded by one thread and visited by each tile, from beyond the
//! second-level cache; 12 bytes a value are most of what a visit costs. Solution: counts,
//! which nearly all values are, wait in four bytes, packed while their slab is still in
//! the nearest cache.

use pulp::{Arch, NullaryFnOnce};
use serde::{Deserialize, Serialize};

use crate::matrix::RowBlock;
use crate::pass::Held;
use crate::transform::RowLog;

/// Rows of small counts, and the others.
#[derive(Default)]
pub struct HeldRows {
    /// Rows of counts below 2^16 in columns below 2^16.
    pub(super) counts: CountRows,
    /// All other rows, as they are.
    pub(super) plain: RowBlock,
}

impl HeldRows {
    /// Keeps the rows of a slab that `wanted` takes by position; as counts where `packs`
    /// and they are, with their totals where `log` takes some.
    pub(super) fn append(
        &mut self,
        slab: &RowBlock,
        packs: bool,
        wanted: impl Fn(usize) -> bool,
        log: Option<&RowLog>,
    ) {
        let packs = packs && slab.linear.is_empty();
        for (r, &position) in slab.rows.iter().enumerate() {
            if !wanted(position) {
                continue;
            }
            let (indices, values) = slab.row(r);
            if packs && self.counts.push(position, indices, values, log) {
                continue;
            }
            let plain = &mut self.plain;
            if plain.indptr.is_empty() {
                plain.indptr.push(0);
            }
            plain.indices.extend_from_slice(indices);
            plain.values.extend_from_slice(values);
            if !slab.linear.is_empty() {
                plain.linear.extend_from_slice(slab.linear_row(r));
            }
            plain.indptr.push(plain.values.len());
            plain.rows.push(position);
        }
    }
}

impl Held for HeldRows {
    fn clear(&mut self) {
        self.counts.clear();
        self.plain.clear();
    }

    fn bytes(&self) -> usize {
        self.counts.bytes() + self.plain.bytes()
    }
}

/// A row of counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountRow<'r> {
    /// Its position in the view, or another number.
    pub(super) number: usize,
    /// What its counts are divided by, if they are.
    pub(super) total: f64,
    pub(super) genes: &'r [u16],
    pub(super) counts: &'r [u16],
}

impl CountRow<'_> {
    /// The row without its first `n` entries.
    #[must_use]
    pub(super) fn past(self, n: usize) -> Self {
        let genes = self.genes.get(n..).unwrap_or_default();
        CountRow { genes, counts: self.counts.get(n..).unwrap_or_default(), ..self }
    }
}

/// Rows of counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct CountRows {
    /// By what each row goes: its position in the view, or another number.
    rows: Vec<usize>,
    /// What the counts of each row are divided by, if they are.
    totals: Vec<f64>,
    /// Where each row ends.
    ends: Vec<usize>,
    genes: Vec<u16>,
    counts: Vec<u16>,
}

impl CountRows {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        4 * self.genes.len() + 24 * self.rows.len()
    }

    /// The rows one after the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = CountRow<'_>> {
        let mut start = 0;
        let rows = self.rows.iter().zip(&self.totals).zip(&self.ends);
        rows.map(move |((&number, &total), &end)| {
            let span = start..end;
            start = end;
            // Rows from another process may be anything.
            let genes = self.genes.get(span.clone()).unwrap_or_default();
            CountRow { number, total, genes, counts: self.counts.get(span).unwrap_or_default() }
        })
    }

    /// Appends a row under another number.
    pub(super) fn push_row(&mut self, number: usize, row: CountRow) {
        self.genes.extend_from_slice(row.genes);
        self.counts.extend_from_slice(row.counts);
        self.rows.push(number);
        self.totals.push(row.total);
        self.ends.push(self.counts.len());
    }

    /// Empties it, keeping its memory.
    pub(super) fn clear(&mut self) {
        let CountRows { rows, totals, ends, genes, counts } = self;
        rows.clear();
        totals.clear();
        ends.clear();
        genes.clear();
        counts.clear();
    }

    /// Appends a row, unless a value is no small count or a column does not fit.
    pub(super) fn push(
        &mut self,
        position: usize,
        columns: &[u32],
        values: &[f64],
        log: Option<&RowLog>,
    ) -> bool {
        let start = self.counts.len();
        let (genes, counts) = (&mut self.genes, &mut self.counts);
        if !Arch::new().dispatch(Narrow { columns, values, genes, counts }) {
            self.genes.truncate(start);
            self.counts.truncate(start);
            return false;
        }
        self.rows.push(position);
        let (genes, counts) = (&self.genes[start..], &self.counts[start..]);
        let total = log.map_or(0.0, |log| log.normalize.total_of_counts(genes, counts));
        self.totals.push(total);
        self.ends.push(self.counts.len());
        true
    }
}

/// Appends a row as counts, as loops that are compiled for several kinds of processors;
/// whether they stand for it.
struct Narrow<'r> {
    columns: &'r [u32],
    values: &'r [f64],
    genes: &'r mut Vec<u16>,
    counts: &'r mut Vec<u16>,
}

impl NullaryFnOnce for Narrow<'_> {
    type Output = bool;

    #[allow(clippy::inline_always)] // Or it is not compiled with the features of the processor.
    #[inline(always)]
    fn call(self) -> bool {
        // Adding 2^52 leaves a small integer in the lowest bits, and whatever else a
        // number had elsewhere.
        const SHIFT: f64 = 4_503_599_627_370_496.0;
        let Narrow { columns, values, genes, counts } = self;
        let start = counts.len();
        // All loops go to their ends, so that they run in vector registers.
        counts.extend(values.iter().map(|value| (value + SHIFT).to_bits() as u16));
        let differ = |(value, &count): (&f64, &u16)| u32::from(f64::from(count) != *value);
        let wrong: u32 = values.iter().zip(&counts[start..]).map(differ).sum();
        let all_columns = columns.iter().fold(0, |all, &column| all | column);
        genes.extend(columns.iter().map(|&column| column as u16));
        wrong == 0 && u16::try_from(all_columns).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::{Chain, Op, View};

    fn slab(rows: &[&[(u32, f64)]]) -> RowBlock {
        let mut slab = RowBlock { indptr: vec![0], ..RowBlock::default() };
        for (position, row) in rows.iter().enumerate() {
            slab.indices.extend(row.iter().map(|entry| entry.0));
            slab.values.extend(row.iter().map(|entry| entry.1));
            slab.indptr.push(slab.values.len());
            slab.rows.push(position);
        }
        slab
    }

    /// A logarithm of counts to a total of one.
    fn log() -> RowLog {
        let normalize = Op::Normalize { target: 1.0, excluded: vec![] };
        let chain = Chain { ops: vec![normalize, Op::Log1p { base: None }], stored_log: None };
        let view = View::new(1, 1 << 17, None, &chain).unwrap();
        view.leaving_log().unwrap().1
    }

    #[test]
    fn counts_are_told_from_other_values() {
        let others = [-1.0, 0.5, 65_536.0, 4_503_599_627_370_497.0, f64::NAN, f64::INFINITY, 1e300];
        let mut rows: Vec<Vec<(u32, f64)>> =
            vec![vec![(3, 1.0), (65_535, 65_535.0)], vec![], vec![(0, 0.0), (1, -0.0)]];
        rows.extend(others.iter().map(|&value| vec![(0, 2.0), (7, value)]));
        rows.push(vec![(65_536, 1.0)]);
        let rows: Vec<&[(u32, f64)]> = rows.iter().map(Vec::as_slice).collect();
        let mut held = HeldRows::default();
        held.append(&slab(&rows), true, |_| true, Some(&log()));
        let row = |row: CountRow| (row.number, row.total, row.genes.to_vec(), row.counts.to_vec());
        let counts: Vec<_> = held.counts.iter().map(row).collect();
        let want = [
            (0, 65_536.0, vec![3, 65_535], vec![1, 65_535]),
            (1, 0.0, vec![], vec![]),
            (2, 0.0, vec![0, 1], vec![0, 0]),
        ];
        assert_eq!(counts, want);
        assert_eq!(held.plain.rows, (3..=10).collect::<Vec<_>>());
        assert_eq!(held.plain.indptr, [0, 2, 4, 6, 8, 10, 12, 14, 15]);
        held.clear();
        held.append(&slab(&rows), true, |position| position == 1, None);
        assert_eq!((held.counts.rows.len(), held.plain.rows.len()), (1, 0));
    }

    #[test]
    fn values_beside_others_stay_whole() {
        let mut block = slab(&[&[(0, 1.0), (2, 3.0)], &[(1, 2.0)]]);
        let mut held = HeldRows::default();
        held.append(&block, false, |_| true, None);
        assert_eq!((held.counts.rows.len(), held.plain.rows.len()), (0, 2));
        block.linear = vec![1.0, 2.0, 3.0];
        held.clear();
        held.append(&block, true, |position| position == 1, None);
        assert_eq!((&held.plain.values[..], &held.plain.linear[..]), (&[2.0][..], &[3.0][..]));
    }
}
