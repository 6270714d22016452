//! Variances of analytic Pearson residuals: the second read of
//! `flavor = "pearson_residuals"`.
//!
//! Reference: Lause, Berens, Kobak (2021) Analytic Pearson residuals for
//! normalization of single-cell RNA-seq UMI data. Genome Biol. 22, 258.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::by_batch::{BatchSums, Statistic};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::summary::groups::Groups;

/// Sums the residuals of the values against those that zeros in their place would
/// have.
///
/// The residual of a count x of gene j in cell i is `(x - mu) / sqrt(mu + mu^2 /
/// theta)` with `mu = gene sum * cell total / total of the batch`, clipped on either
/// side. A cell without counts has residuals of zero.
///
/// Problem: every zero has a residual of its own. Solution: that of a zero depends on
/// the sum of the gene and the total of the cell alone. Added over the distinct totals of
/// a batch, once for every distinct sum of a gene, it stands for all cells; what is
/// read corrects the nonzero values.
///
/// # Numerics
/// Residuals of zeros cancel against themselves, bit by bit; relative errors of
/// variances stay below 1e-10.
#[derive(Debug, Clone)]
pub struct Residuals<'a> {
    groups: &'a Groups,
    n_vars: usize,
    gene_sums: &'a [f64],
    /// Of each cell: its part of the counts of its batch.
    shares: Vec<f64>,
    model: Model,
}

/// The dispersion and the clipping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    /// The dispersion of the negative binomial model; infinite for Poisson.
    pub theta: f64,
    /// The largest residual.
    pub clip: f64,
}

impl Model {
    #[inline]
    fn of_value(&self, value: f64, mu: f64) -> f64 {
        let residual = (value - mu) / (mu * (1.0 + mu / self.theta)).sqrt();
        residual.min(self.clip).max(-self.clip)
    }

    #[inline]
    fn of_zero(&self, mu: f64) -> f64 {
        (-(mu / (1.0 + mu / self.theta)).sqrt()).max(-self.clip)
    }
}

/// Sums of residuals and of their squares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ResidualSum {
    sum: f64,
    squares: f64,
}

impl<'a> Residuals<'a> {
    /// From the batch-major sums of the genes and the totals of the cells.
    ///
    /// # Panics
    /// If there are not batches x genes sums and a total for each cell.
    #[must_use]
    pub fn new(
        groups: &'a Groups,
        n_vars: usize,
        gene_sums: &'a [f64],
        totals: &[f64],
        model: Model,
    ) -> Self {
        assert_eq!(gene_sums.len(), groups.n_groups() * n_vars, "batches x genes");
        let mut of_batch = vec![0.0; groups.n_groups()];
        for (i, &total) in totals.iter().enumerate() {
            if let Some(batch) = of_batch.get_mut(groups.of(i) as usize) {
                *batch += total;
            }
        }
        let share = |(i, &total): (usize, &f64)| match of_batch.get(groups.of(i) as usize) {
            Some(&batch) if total > 0.0 => total / batch,
            _ => 0.0,
        };
        let shares = totals.iter().enumerate().map(share).collect();
        Residuals { groups, n_vars, gene_sums, shares, model }
    }

    /// Writes the variances of a slice of the genes into `variances`, batch-major.
    ///
    /// # Errors
    /// On interruption.
    pub fn finish(
        &self,
        ctx: &Ctx,
        sums: &BatchSums<ResidualSum>,
        variances: &mut [f64],
    ) -> Result<()> {
        for (batch, &size) in self.groups.sizes().iter().enumerate() {
            let first = batch * self.n_vars + sums.genes().start;
            let gene_sums = &self.gene_sums[first..][..sums.genes().len()];
            let zeros = self.zeros(ctx, batch, gene_sums)?;
            let n = size as f64;
            for (k, (zero, value)) in zeros.iter().zip(sums.batch(batch)).enumerate() {
                let mean = (zero.sum + value.sum) / n;
                let var = (zero.squares + value.squares) / n - mean * mean;
                variances[first + k] = if var < 0.0 { 0.0 } else { var };
            }
        }
        Ok(())
    }

    /// The sums of each gene over all cells of a batch, as if it had no counts
    /// in any.
    fn zeros(&self, ctx: &Ctx, batch: usize, gene_sums: &[f64]) -> Result<Vec<ResidualSum>> {
        let inside = (0..self.shares.len()).filter(|&i| self.groups.of(i) as usize == batch);
        let (shares, weights) = distinct(inside.map(|i| self.shares[i]).collect());
        let (of_genes, _) = distinct(gene_sums.to_vec());
        let chunks: Vec<Mutex<Vec<ResidualSum>>> =
            of_genes.chunks(GENES_PER_TASK).map(|_| Mutex::default()).collect();
        ctx.parallel(
            "residuals of zeros",
            chunks.len(),
            || (),
            |task, ()| {
                let genes = of_genes.chunks(GENES_PER_TASK).nth(task).unwrap_or_default();
                let found = genes.iter().map(|&g| self.model.over_zeros(g, &shares, &weights));
                *chunks[task].lock().unwrap_or_else(PoisonError::into_inner) = found.collect();
                Ok(())
            },
        )?;
        let found: Vec<ResidualSum> = chunks
            .into_iter()
            .flat_map(|chunk| chunk.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let at = |sum: &f64| of_genes.partition_point(|other| other < sum);
        Ok(gene_sums.iter().map(|sum| found[at(sum)]).collect())
    }
}

/// Distinct sums of genes that a thread takes at once.
const GENES_PER_TASK: usize = 32;

/// Terms that are added side by side.
const LANES: usize = 8;

impl Model {
    /// Sums of the residuals of zeros in cells with these shares.
    fn over_zeros(&self, gene_sum: f64, shares: &[f64], weights: &[f64]) -> ResidualSum {
        let (mut sum, mut squares) = ([0.0; LANES], [0.0; LANES]);
        for (shares, weights) in shares.chunks(LANES).zip(weights.chunks(LANES)) {
            for (lane, (&share, &weight)) in shares.iter().zip(weights).enumerate() {
                let residual = self.of_zero(gene_sum * share);
                sum[lane] += weight * residual;
                squares[lane] += weight * (residual * residual);
            }
        }
        ResidualSum { sum: sum.iter().sum(), squares: squares.iter().sum() }
    }
}

/// The distinct values, ascending, and how often each occurs.
fn distinct(mut values: Vec<f64>) -> (Vec<f64>, Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (mut unique, mut times): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for value in values {
        match times.last_mut() {
            Some(n) if unique.last() == Some(&value) => *n += 1.0,
            _ => {
                unique.push(value);
                times.push(1.0);
            }
        }
    }
    (unique, times)
}

impl Statistic for Residuals<'_> {
    type Sum = ResidualSum;
    type Cell = f64;

    fn cell(&self, position: usize, _batch: usize) -> f64 {
        self.shares[position]
    }

    #[inline]
    fn push(&self, sum: &mut ResidualSum, share: f64, at: usize, value: f64, _linear: f64) {
        let mu = self.gene_sums[at] * share;
        let (residual, zero) = (self.model.of_value(value, mu), self.model.of_zero(mu));
        sum.sum += residual - zero;
        sum.squares += residual * residual - zero * zero;
    }

    fn merge(into: &mut ResidualSum, later: &ResidualSum) {
        into.sum += later.sum;
        into.squares += later.squares;
    }
}

#[cfg(test)]
mod tests {
    use super::super::by_batch::testing::{batches, rows_of, sums_every_way};
    use super::*;
    use crate::ctx::Silent;
    use crate::matrix::testing::Matrix;

    fn naive(rows: &[Vec<f64>], model: Model) -> Vec<f64> {
        let n_vars = rows[0].len();
        let total: f64 = rows.iter().flatten().sum();
        let of_gene: Vec<f64> = (0..n_vars).map(|j| rows.iter().map(|row| row[j]).sum()).collect();
        (0..n_vars)
            .map(|j| {
                let residuals: Vec<f64> = rows
                    .iter()
                    .map(|row| {
                        let mu = of_gene[j] * row.iter().sum::<f64>() / total;
                        if mu == 0.0 {
                            return 0.0;
                        }
                        let residual = (row[j] - mu) / (mu + mu * mu / model.theta).sqrt();
                        residual.clamp(-model.clip, model.clip)
                    })
                    .collect();
                let mean = residuals.iter().sum::<f64>() / rows.len() as f64;
                residuals.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rows.len() as f64
            })
            .collect()
    }

    #[test]
    fn variances_are_those_of_all_residuals() {
        let mut matrix = Matrix::counts(120, 150, 9);
        matrix.set(3, 5, 900.0);
        for i in 0..120 {
            // As large a part of every cell's total as can be.
            matrix.set(i, 6, matrix.dense[i].iter().sum::<f64>() - matrix.dense[i][6]);
        }
        let ctx = Ctx::new(2, 1 << 30, std::path::PathBuf::new(), &Silent);
        for n_batches in [1, 3] {
            let groups = batches(120, n_batches);
            for (theta, clip) in [
                (100.0, 10.0),
                (100.0, f64::INFINITY),
                (f64::INFINITY, 3.0),
                (0.5, 0.3),
                (1.0, 0.0),
            ] {
                let model = Model { theta, clip };
                let totals: Vec<f64> = matrix.dense.iter().map(|row| row.iter().sum()).collect();
                let by_batch: Vec<Vec<Vec<f64>>> =
                    (0..n_batches).map(|batch| rows_of(&matrix, &groups, batch)).collect();
                let gene_sums: Vec<f64> = by_batch
                    .iter()
                    .flat_map(|rows| (0..150).map(|j| rows.iter().map(|row| row[j]).sum()))
                    .collect();
                let pass = Residuals::new(&groups, 150, &gene_sums, &totals, model);
                let sums = sums_every_way(&matrix, &groups, &pass);
                let mut got = vec![f64::NAN; n_batches * 150];
                pass.finish(&ctx, &sums, &mut got).unwrap();
                let want: Vec<f64> = by_batch.iter().flat_map(|rows| naive(rows, model)).collect();
                for (got, want) in got.iter().zip(want) {
                    // A variance of rounding errors is zero.
                    assert!((got - want).abs() <= 1e-10 * want + 1e-13, "{got} against {want}");
                }
            }
        }
    }

    #[test]
    fn distinct_values_are_counted() {
        let got = distinct(vec![3.0, 1.0, 3.0, 2.0, 3.0, 1.0]);
        assert_eq!(got, (vec![1.0, 2.0, 3.0], vec![2.0, 1.0, 3.0]));
    }
}
