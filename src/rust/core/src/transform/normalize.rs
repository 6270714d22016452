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
    /// The total of a row, in stored order.
    pub(crate) fn total(&self, indices: &[u32], values: &[f64]) -> f64 {
        match &self.excluded {
            None => values.iter().sum(),
            Some(excluded) => indices
                .iter()
                .zip(values)
                .filter(|(gene, _)| !excluded[**gene as usize])
                .map(|(_, value)| value)
                .sum(),
        }
    }

    /// # Numerics
    /// `(x * target) / total`, each operation rounded once, so that equal
    /// ratios of counts stay equal. A row without counts stays as it is.
    pub(crate) fn scaled(&self, x: f64, total: f64) -> f64 {
        (x * self.target) / total
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
