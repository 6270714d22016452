//! Means of genes, missing values left out.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::matrix::RowBlock;
use crate::pass::Pass;

/// The mean of every gene of a view that does not scale.
#[derive(Debug, Clone, Copy)]
pub struct GeneMeansPass {
    n_vars: usize,
}

/// Sums of some rows, and how many values were NaN.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneMeans {
    sums: Vec<f64>,
    missing: Vec<u64>,
}

impl GeneMeansPass {
    /// For a view with `n_vars` genes.
    #[must_use]
    pub fn new(n_vars: usize) -> Self {
        GeneMeansPass { n_vars }
    }

    /// Means over `n_obs` rows; NaN for a gene without values.
    #[must_use]
    pub fn finish(self, total: &GeneMeans, n_obs: usize) -> Vec<f64> {
        let of = |gene: usize| {
            let sum = total.sums.get(gene).copied().unwrap_or(0.0);
            let missing = total.missing.get(gene).copied().unwrap_or(0);
            sum / (n_obs as u64).saturating_sub(missing) as f64
        };
        (0..self.n_vars).map(of).collect()
    }
}

impl Pass for GeneMeansPass {
    type Partial = GeneMeans;

    fn empty(&self) -> GeneMeans {
        GeneMeans::default()
    }

    fn partial_bytes(&self) -> usize {
        16 * self.n_vars
    }

    fn fold(&self, block: &RowBlock, partial: &mut GeneMeans) -> Result<()> {
        partial.sums.resize(self.n_vars, 0.0);
        partial.missing.resize(self.n_vars, 0);
        for (&gene, &value) in block.indices.iter().zip(&block.values) {
            if value.is_nan() {
                partial.missing[gene as usize] += 1;
            } else {
                partial.sums[gene as usize] += value;
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut GeneMeans, from: GeneMeans) {
        if into.sums.is_empty() {
            *into = from;
            return;
        }
        for (a, b) in into.sums.iter_mut().zip(from.sums) {
            *a += b;
        }
        for (a, b) in into.missing.iter_mut().zip(from.missing) {
            *a += b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::testing::Matrix;
    use crate::pass::testing::run_every_way;

    #[test]
    fn means_leave_missing_values_out() {
        let mut matrix = Matrix::counts(50, 12, 8);
        matrix.set(3, 4, f64::NAN);
        matrix.set(40, 4, f64::NAN);
        for i in 0..50 {
            matrix.set(i, 7, f64::NAN);
        }
        let pass = GeneMeansPass::new(12);
        let means = pass.finish(&run_every_way(&matrix, &pass), 50);
        for (j, mean) in means.iter().enumerate() {
            let values: Vec<f64> =
                matrix.dense.iter().map(|row| row[j]).filter(|x| !x.is_nan()).collect();
            let want = values.iter().sum::<f64>() / values.len() as f64;
            assert!(mean.is_nan() && want.is_nan() || mean.to_bits() == want.to_bits(), "gene {j}");
        }
        assert!(means[7].is_nan());
    }

    #[test]
    fn no_rows_have_no_means() {
        let pass = GeneMeansPass::new(3);
        assert!(pass.finish(&pass.empty(), 0).iter().all(|mean| mean.is_nan()));
    }
}
