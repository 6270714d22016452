//! Mean and variance of every gene in every batch.

use serde::{Deserialize, Serialize};

use super::by_batch::{BatchSums, Statistic};
use crate::error::Result;
use crate::stats::moments::{MeanVar, Moments};
use crate::summary::groups::Groups;
use crate::summary::mean_and_variance;

/// Moments of the values.
#[derive(Debug, Clone, Copy)]
pub struct ValueMoments;

impl Statistic for ValueMoments {
    type Sum = Moments;
    type Cell = ();

    fn cell(&self, _position: usize, _batch: usize) {}

    fn push(&self, sum: &mut Moments, (): (), _at: usize, value: f64, _linear: f64) {
        sum.push(value);
    }

    fn merge(into: &mut Moments, later: &Moments) {
        into.merge(later);
    }
}

/// Moments of the values, and of the same values before the logarithm.
#[derive(Debug, Clone, Copy)]
pub struct BothMoments;

/// What [`BothMoments`] sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Both {
    values: Moments,
    linear: Moments,
}

impl Statistic for BothMoments {
    type Sum = Both;
    type Cell = ();

    fn cell(&self, _position: usize, _batch: usize) {}

    fn push(&self, sum: &mut Both, (): (), _at: usize, value: f64, linear: f64) {
        sum.values.push(value);
        sum.linear.push(linear);
    }

    fn merge(into: &mut Both, later: &Both) {
        into.values.merge(&later.values);
        into.linear.merge(&later.linear);
    }
}

/// Sums that moments can be taken of: those of the values, and those that the
/// dispersions come from.
pub trait HasMoments {
    /// Of the values.
    fn values(&self) -> Moments;
    /// Of what dispersions come from.
    fn ranked(&self) -> Moments;
}

impl HasMoments for Moments {
    fn values(&self) -> Moments {
        *self
    }

    fn ranked(&self) -> Moments {
        *self
    }
}

impl HasMoments for Both {
    fn values(&self) -> Moments {
        self.values
    }

    fn ranked(&self) -> Moments {
        self.linear
    }
}

/// Means and variances, batch-major, and those of the values over all batches.
#[derive(Debug, Clone)]
pub struct BatchMoments<'g> {
    groups: &'g Groups,
    n_vars: usize,
    /// Means of what dispersions come from.
    pub mean: Vec<f64>,
    /// Their variances.
    pub var: Vec<f64>,
    overall: Vec<Moments>,
}

impl<'g> BatchMoments<'g> {
    /// Of no genes yet.
    #[must_use]
    pub fn new(groups: &'g Groups, n_vars: usize) -> Self {
        let n = groups.n_groups() * n_vars;
        BatchMoments {
            groups,
            n_vars,
            mean: vec![f64::NAN; n],
            var: vec![f64::NAN; n],
            overall: vec![Moments::default(); n_vars],
        }
    }

    /// Takes over the genes of a slice.
    ///
    /// # Errors
    /// When a gene has more values in a batch than that has cells.
    pub fn add(&mut self, sums: &BatchSums<impl HasMoments>) -> Result<()> {
        let genes = sums.genes();
        for (batch, &size) in self.groups.sizes().iter().enumerate() {
            let ranked: Vec<Moments> = sums.batch(batch).iter().map(HasMoments::ranked).collect();
            let found = mean_and_variance(&ranked, size as usize, genes.len())?;
            let at = batch * self.n_vars + genes.start;
            for (k, moments) in found.iter().enumerate() {
                self.mean[at + k] = moments.mean;
                self.var[at + k] = moments.var;
            }
            for (overall, sum) in self.overall[genes.clone()].iter_mut().zip(sums.batch(batch)) {
                overall.merge(&sum.values());
            }
        }
        Ok(())
    }

    /// Mean and variance of the values of each gene over the cells of all batches.
    #[must_use]
    pub fn overall(&self) -> Vec<MeanVar> {
        let n = self.groups.sizes().iter().sum();
        self.overall.iter().map(|moments| moments.with_zeros(n)).collect()
    }

    /// Number of nonzero values of each gene in all batches.
    #[must_use]
    pub fn detected(&self) -> Vec<u64> {
        self.overall.iter().map(Moments::n).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::by_batch::testing::{batches, rows_of, sums_every_way};
    use super::*;
    use crate::matrix::testing::Matrix;

    fn naive(column: &[f64]) -> (f64, f64) {
        let n = column.len() as f64;
        let mean = column.iter().sum::<f64>() / n;
        (mean, column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0))
    }

    #[test]
    fn moments_of_batches_and_of_all() {
        let matrix = Matrix::counts(90, 130, 4);
        let groups = batches(90, 3);
        let mut got = BatchMoments::new(&groups, 130);
        got.add(&sums_every_way(&matrix, &groups, &ValueMoments)).unwrap();
        let mut both = BatchMoments::new(&groups, 130);
        both.add(&sums_every_way(&matrix, &groups, &BothMoments)).unwrap();
        assert_eq!(both.mean, got.mean);
        let mut all = Vec::new();
        for batch in 0..3 {
            let rows = rows_of(&matrix, &groups, batch);
            for j in 0..130 {
                let (mean, var) = naive(&rows.iter().map(|row| row[j]).collect::<Vec<_>>());
                assert!((got.mean[batch * 130 + j] - mean).abs() < 1e-12);
                assert!((got.var[batch * 130 + j] - var).abs() < 1e-12);
            }
            all.extend(rows);
        }
        for (j, overall) in got.overall().iter().enumerate() {
            let (mean, var) = naive(&all.iter().map(|row| row[j]).collect::<Vec<_>>());
            assert!((overall.mean - mean).abs() < 1e-12 && (overall.var - var).abs() < 1e-12);
        }
    }
}
