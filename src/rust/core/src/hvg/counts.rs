//! Mean and variance of the counts of every gene in every batch, and the total of
//! every cell: the first read of the flavours that take counts.

use serde::{Deserialize, Serialize};

use super::by_batch::{BatchSums, Statistic};
use crate::error::{Error, Result};
use crate::stats::moments::CountMoments;
use crate::summary::groups::Groups;

/// Sums of counts, and how many of the values are none.
///
/// # Numerics
/// Sums of integers are exact below 2^53, so that genes with the same counts
/// have the same bits, wherever these stand.
#[derive(Debug, Clone, Copy)]
pub struct CountStatistic;

/// What [`CountStatistic`] sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CountSum {
    sum: f64,
    squares: f64,
    n: u32,
    negative: u32,
    fractional: u32,
}

impl Statistic for CountStatistic {
    type Sum = CountSum;
    type Cell = ();

    fn cell(&self, _position: usize, _batch: usize) {}

    #[inline]
    fn push(&self, sum: &mut CountSum, (): (), _at: usize, value: f64, _linear: f64) {
        sum.sum += value;
        sum.squares += value * value;
        sum.n += 1;
        sum.negative += u32::from(value < 0.0);
        sum.fractional += u32::from(value.trunc() != value);
    }

    fn merge(into: &mut CountSum, later: &CountSum) {
        into.sum += later.sum;
        into.squares += later.squares;
        into.n += later.n;
        into.negative += later.negative;
        into.fractional += later.fractional;
    }
}

impl CountSum {
    /// Mean and variance over `n` cells.
    fn moments(&self, n: u64) -> (f64, f64) {
        let exact = (1_u64 << 53) as f64;
        if self.negative == 0 && self.fractional == 0 && self.squares < exact {
            let counts = CountMoments::of(u64::from(self.n), self.sum as u64, self.squares as u64);
            let found = counts.with_zeros(n);
            return (found.mean, found.var);
        }
        let mean = self.sum / n as f64;
        let spread = self.squares - self.sum * mean;
        let spread = if spread < 0.0 { 0.0 } else { spread };
        (mean, if n < 2 { f64::NAN } else { spread / (n - 1) as f64 })
    }
}

/// A gene with values that are no counts, and how many there are in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Odd {
    /// Number of values.
    pub count: u64,
    /// The first gene with one.
    pub gene: Option<usize>,
}

impl Odd {
    fn add(&mut self, count: u32, gene: usize) {
        self.count += u64::from(count);
        if count > 0 && self.gene.is_none_or(|first| gene < first) {
            self.gene = Some(gene);
        }
    }
}

/// The counts of a view by batch; batch-major where it is by gene too.
#[derive(Debug, Clone)]
pub struct BatchCounts<'g> {
    groups: &'g Groups,
    n_vars: usize,
    /// Sums.
    pub sum: Vec<f64>,
    /// Means.
    pub mean: Vec<f64>,
    /// Variances.
    pub var: Vec<f64>,
    /// Means over the cells of all batches.
    pub overall_mean: Vec<f64>,
    /// Variances over the cells of all batches.
    pub overall_var: Vec<f64>,
    /// Totals of the cells in the view's order; zero for those in no batch.
    pub totals: Vec<f64>,
    /// Values below zero.
    pub negative: Odd,
    /// Values that are not whole.
    pub fractional: Odd,
}

impl<'g> BatchCounts<'g> {
    /// Of no genes yet.
    #[must_use]
    pub fn new(groups: &'g Groups, n_obs: usize, n_vars: usize) -> Self {
        let n = groups.n_groups() * n_vars;
        BatchCounts {
            groups,
            n_vars,
            sum: vec![0.0; n],
            mean: vec![f64::NAN; n],
            var: vec![f64::NAN; n],
            overall_mean: vec![f64::NAN; n_vars],
            overall_var: vec![f64::NAN; n_vars],
            totals: vec![0.0; n_obs],
            negative: Odd::default(),
            fractional: Odd::default(),
        }
    }

    /// Takes over the genes of a slice.
    ///
    /// # Errors
    /// When a gene has more values in a batch than that has cells.
    pub fn add(&mut self, sums: &BatchSums<CountSum>) -> Result<()> {
        let genes = sums.genes();
        let mut overall = vec![CountSum::default(); genes.len()];
        for (batch, &size) in self.groups.sizes().iter().enumerate() {
            let at = batch * self.n_vars + genes.start;
            for (k, sum) in sums.batch(batch).iter().enumerate() {
                if u64::from(sum.n) > size {
                    return Err(Error::InvalidValues {
                        message: format!(
                            "gene {} has several stored values in one cell; sum the duplicates first",
                            genes.start + k + 1
                        ),
                    });
                }
                self.sum[at + k] = sum.sum;
                (self.mean[at + k], self.var[at + k]) = sum.moments(size);
                self.negative.add(sum.negative, genes.start + k);
                self.fractional.add(sum.fractional, genes.start + k);
                CountStatistic::merge(&mut overall[k], sum);
            }
        }
        let n_cells = self.groups.sizes().iter().sum();
        for (k, sum) in overall.iter().enumerate() {
            let at = genes.start + k;
            (self.overall_mean[at], self.overall_var[at]) = sum.moments(n_cells);
        }
        for (row, total) in sums.totals() {
            self.totals[row] = total;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::by_batch::testing::{batches, rows_of, sums_every_way};
    use super::*;
    use crate::matrix::testing::Matrix;
    use crate::summary::groups::NONE;

    fn counts<'g>(matrix: &Matrix, groups: &'g Groups) -> BatchCounts<'g> {
        let (n_obs, n_vars) = (matrix.dense.len(), matrix.dense[0].len());
        let mut found = BatchCounts::new(groups, n_obs, n_vars);
        found.add(&sums_every_way(matrix, groups, &CountStatistic)).unwrap();
        found
    }

    #[test]
    fn counts_are_exact() {
        let matrix = Matrix::counts(80, 140, 5);
        let groups = batches(80, 3);
        let got = counts(&matrix, &groups);
        for batch in 0..3 {
            let rows = rows_of(&matrix, &groups, batch);
            let n = rows.len() as f64;
            for j in 0..140 {
                let sum: f64 = rows.iter().map(|row| row[j]).sum();
                let squares: f64 = rows.iter().map(|row| row[j] * row[j]).sum();
                let at = batch * 140 + j;
                assert_eq!(got.sum[at].to_bits(), sum.to_bits());
                assert_eq!(got.mean[at].to_bits(), (sum / n).to_bits());
                let var = (n * squares - sum * sum) / (n * (n - 1.0));
                assert!((got.var[at] - var).abs() <= 1e-15 * var);
            }
        }
        for i in 0..80 {
            let total: f64 = matrix.dense[i].iter().sum();
            let want = if groups.of(i) == NONE { 0.0 } else { total };
            assert_eq!(got.totals[i].to_bits(), want.to_bits());
        }
        assert_eq!((got.negative, got.fractional), (Odd::default(), Odd::default()));
    }

    #[test]
    fn what_is_no_count_is_counted() {
        let mut matrix = Matrix::counts(40, 100, 6);
        matrix.set(3, 90, 0.5);
        matrix.set(2, 70, 1.5);
        matrix.set(4, 8, -2.0);
        let groups = batches(40, 2);
        let got = counts(&matrix, &groups);
        assert_eq!(got.fractional, Odd { count: 2, gene: Some(70) });
        assert_eq!(got.negative, Odd { count: 1, gene: Some(8) });
        let column: Vec<f64> = rows_of(&matrix, &groups, 0).iter().map(|row| row[70]).collect();
        let mean = column.iter().sum::<f64>() / column.len() as f64;
        let spread: f64 = column.iter().map(|x| (x - mean).powi(2)).sum();
        assert!((got.var[70] - spread / (column.len() as f64 - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn one_cell_has_no_variance() {
        let matrix = Matrix::counts(1, 70, 7);
        let groups = Groups::new(vec![0], 1).unwrap();
        let got = counts(&matrix, &groups);
        assert!(got.var.iter().all(|v| v.is_nan()));
        assert_eq!(got.mean, matrix.dense[0]);
    }
}
