//! Variances of standardised counts, clipped: the second read of
//! `flavor = "seurat_v3"`.
//!
//! Reference: Stuart et al. (2019) Comprehensive integration of single-cell data.
//! Cell 177, 1888.

use serde::{Deserialize, Serialize};

use super::by_batch::{BatchSums, Statistic};
use crate::summary::groups::Groups;

/// Sums the values above a gene's limit, which are few. The variance is that of the
/// first read with these taken out and the limit put in their place.
///
/// With mean m and expected deviation s of a gene in a batch of n cells, the limit is
/// `m + s sqrt(n)`.
///
/// # Numerics
/// Sums of counts are exact, so that genes with the same counts tie. The difference
/// loses as many digits as the variance shrinks: relative errors below 1e-11 where
/// clipping takes all but a ten-thousandth.
#[derive(Debug, Clone)]
pub struct Clipped<'a> {
    groups: &'a Groups,
    n_vars: usize,
    mean: &'a [f64],
    var: &'a [f64],
    sd: &'a [f64],
    limit: Vec<f64>,
}

/// The values above the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Above {
    n: f64,
    sum: f64,
    squares: f64,
}

impl<'a> Clipped<'a> {
    /// From batch-major means, variances and expected deviations.
    ///
    /// # Panics
    /// If their lengths are not batches x genes.
    #[must_use]
    pub fn new(
        groups: &'a Groups,
        n_vars: usize,
        (mean, var, sd): (&'a [f64], &'a [f64], &'a [f64]),
    ) -> Self {
        let n = groups.n_groups() * n_vars;
        assert!([mean, var, sd].iter().all(|v| v.len() == n), "batches x genes");
        let limit_of = |at: usize| {
            let n_cells = groups.sizes()[at / n_vars] as f64;
            sd[at] * n_cells.sqrt() + mean[at]
        };
        Clipped { groups, n_vars, mean, var, sd, limit: (0..n).map(limit_of).collect() }
    }

    /// Writes the variances of a slice of the genes into `variances`, batch-major.
    pub fn finish(&self, sums: &BatchSums<Above>, variances: &mut [f64]) {
        for (batch, &size) in self.groups.sizes().iter().enumerate() {
            let first = batch * self.n_vars + sums.genes().start;
            for (k, above) in sums.batch(batch).iter().enumerate() {
                variances[first + k] = self.variance(first + k, size as f64, above);
            }
        }
    }

    fn variance(&self, at: usize, n: f64, above: &Above) -> f64 {
        let (m, s) = (self.mean[at], self.sd[at]);
        let mut spread = self.var[at] * (n - 1.0);
        if above.n > 0.0 {
            let most = self.limit[at] - m;
            let without = spread - (above.squares - 2.0 * m * above.sum + above.n * m * m);
            spread = (if without < 0.0 { 0.0 } else { without }) + above.n * most * most;
        }
        spread / ((n - 1.0) * s * s)
    }
}

impl Statistic for Clipped<'_> {
    type Sum = Above;
    type Cell = ();

    fn cell(&self, _position: usize, _batch: usize) {}

    #[inline]
    fn push(&self, sum: &mut Above, (): (), at: usize, value: f64, _linear: f64) {
        if value > self.limit[at] {
            sum.n += 1.0;
            sum.sum += value;
            sum.squares += value * value;
        }
    }

    fn merge(into: &mut Above, later: &Above) {
        into.n += later.n;
        into.sum += later.sum;
        into.squares += later.squares;
    }
}

#[cfg(test)]
mod tests {
    use super::super::by_batch::testing::{batches, rows_of, sums_every_way};
    use super::*;
    use crate::matrix::testing::Matrix;

    #[test]
    fn variances_are_those_of_clipped_values() {
        let mut matrix = Matrix::counts(90, 130, 8);
        matrix.set(3, 5, 4000.0);
        matrix.set(9, 5, 70.0);
        let groups = batches(90, 3);
        let (mut mean, mut var, mut sd) = (Vec::new(), Vec::new(), Vec::new());
        for batch in 0..3 {
            let rows = rows_of(&matrix, &groups, batch);
            let n = rows.len() as f64;
            for j in 0..130 {
                let m = rows.iter().map(|row| row[j]).sum::<f64>() / n;
                mean.push(m);
                var.push(rows.iter().map(|row| (row[j] - m).powi(2)).sum::<f64>() / (n - 1.0));
                // Small enough that many values are clipped in some genes.
                sd.push([0.2, 1.0, 3.0][j % 3]);
            }
        }
        let pass = Clipped::new(&groups, 130, (&mean, &var, &sd));
        let mut got = vec![f64::NAN; 390];
        pass.finish(&sums_every_way(&matrix, &groups, &pass), &mut got);
        let mut n_clipped = 0;
        for batch in 0..3 {
            let rows = rows_of(&matrix, &groups, batch);
            let n = rows.len() as f64;
            for j in 0..130 {
                let at = batch * 130 + j;
                let z = |row: &Vec<f64>| (row[j] - mean[at]) / sd[at];
                n_clipped += rows.iter().filter(|row| z(row) > n.sqrt()).count();
                let want: f64 =
                    rows.iter().map(|row| z(row).min(n.sqrt()).powi(2)).sum::<f64>() / (n - 1.0);
                assert!((got[at] - want).abs() <= 1e-11 * want, "{} against {want}", got[at]);
            }
        }
        assert!(n_clipped > 50);
    }
}
