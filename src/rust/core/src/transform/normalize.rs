//! Scaling each row to a common total.

use crate::matrix::RowBlock;

/// Divides each row by its total and multiplies by a target.
#[derive(Debug, Clone)]
pub(crate) struct Normalize {
    pub(crate) target: f64,
    /// Columns that do not count towards the total.
    pub(crate) excluded: Option<Vec<bool>>,
}

impl Normalize {
    /// The total of a row; exact for counts.
    pub(crate) fn total(&self, indices: &[u32], values: &[f64]) -> f64 {
        match &self.excluded {
            None => lane_sum(values),
            Some(excluded) => indices
                .iter()
                .zip(values)
                .filter(|(gene, _)| !excluded[**gene as usize])
                .map(|(_, value)| value)
                .sum(),
        }
    }

    /// The total of a row of counts.
    pub(crate) fn total_of_counts(&self, indices: &[u16], counts: &[u16]) -> f64 {
        let total: u64 = match &self.excluded {
            None => counts.chunks(1 << 16).map(|c| u64::from(sum_short(c))).sum(),
            Some(excluded) => indices
                .iter()
                .zip(counts)
                .filter(|(gene, _)| !excluded[usize::from(**gene)])
                .map(|(_, &count)| u64::from(count))
                .sum(),
        };
        total as f64
    }

    /// # Numerics
    /// `(x * target) / total`, each operation rounded once, so that equal
    /// ratios of counts stay equal. A row without counts stays as it is.
    pub(crate) fn scaled(&self, x: f64, total: f64) -> f64 {
        (x * self.target) / total
    }

    /// As [`scaled`](Self::scaled); `x` itself where there is no total.
    pub(crate) fn scaled_or_left(&self, x: f64, total: f64) -> f64 {
        if total == 0.0 { x } else { self.scaled(x, total) }
    }

    pub(crate) fn apply(&self, block: &mut RowBlock) {
        for r in 0..block.n_rows() {
            let span = block.indptr[r]..block.indptr[r + 1];
            let total = self.total(&block.indices[span.clone()], &block.values[span.clone()]);
            if total != 0.0 {
                for x in &mut block.values[span] {
                    *x = self.scaled(*x, total);
                }
            }
        }
    }
}

/// A sum in eight interleaved lanes, added pairwise at the end: an order fixed
/// by the length alone that does not wait for each addition.
fn lane_sum(values: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    let pair = |at: usize| lanes[at] + lanes[at + 1];
    (pair(0) + pair(2)) + (pair(4) + pair(6))
}

/// The sum of at most 2^16 counts.
fn sum_short(counts: &[u16]) -> u32 {
    counts.iter().map(|&count| u32::from(count)).sum()
}
