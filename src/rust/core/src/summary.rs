//! Sums, means, variances and counts of nonzero values, by row or by column.
//!
//! One pass. Memory: 32 bytes a column per partial, or 24 bytes a row.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::matrix::RowBlock;
use crate::pass::Pass;
use crate::stats::moments::Moments;
use crate::transform::View;

/// What rows or columns come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Sums.
    pub sum: Vec<f64>,
    /// Means.
    pub mean: Vec<f64>,
    /// Variances with one degree of freedom taken off; NaN below two values.
    pub var: Vec<f64>,
    /// Numbers of nonzero values that are stored.
    pub nonzero: Vec<u64>,
}

/// Summarises the columns of a view.
///
/// # Numerics
/// Shifted moments of the nonzero values, zeros in closed form: variances agree
/// with two passes in float64 to 1e-10.
#[derive(Debug, Clone)]
pub struct ColumnSummary {
    n_obs: usize,
    n_vars: usize,
    background: Option<Vec<f64>>,
}

impl ColumnSummary {
    /// For the columns of `view`.
    #[must_use]
    pub fn new(view: &View) -> Self {
        ColumnSummary {
            n_obs: view.n_obs(),
            n_vars: view.n_vars(),
            background: view.background().map(<[f64]>::to_vec),
        }
    }

    /// The summary of all rows.
    #[must_use]
    pub fn finish(&self, partial: Vec<Moments>) -> Summary {
        let mut moments = partial;
        moments.resize(self.n_vars, Moments::default());
        let n = self.n_obs as f64;
        let mut summary = Summary::default();
        for (column, moments) in moments.iter().enumerate() {
            // Adding a constant to a column moves its mean alone.
            let shift = self.background.as_ref().map_or(0.0, |b| b[column]);
            let whole = moments.with_zeros(self.n_obs as u64);
            summary.sum.push(moments.sum() + n * shift);
            summary.mean.push(whole.mean + shift);
            summary.var.push(whole.var);
            summary.nonzero.push(moments.n());
        }
        summary
    }
}

impl Pass for ColumnSummary {
    type Partial = Vec<Moments>;

    fn empty(&self) -> Vec<Moments> {
        Vec::new()
    }

    fn partial_bytes(&self) -> usize {
        self.n_vars * size_of::<Moments>()
    }

    fn fold(&self, block: &RowBlock, partial: &mut Vec<Moments>) -> Result<()> {
        partial.resize(self.n_vars, Moments::default());
        for (&column, &value) in block.indices.iter().zip(&block.values) {
            if value != 0.0 {
                partial[column as usize].push(value);
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Vec<Moments>, from: Vec<Moments>) {
        if into.is_empty() {
            *into = from;
            return;
        }
        for (column, other) in into.iter_mut().zip(&from) {
            column.merge(other);
        }
    }
}

/// Summarises the rows of a view.
///
/// # Numerics
/// Sums run over a row in stored order; variances come from deviations from the
/// row's mean.
#[derive(Debug, Clone)]
pub struct RowSummary {
    n_obs: usize,
    n_vars: usize,
    background: Option<Vec<f64>>,
}

/// One row's place in the view and its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RowNumbers {
    row: usize,
    sum: f64,
    squares: f64,
    nonzero: u64,
}

impl RowSummary {
    /// For the rows of `view`.
    #[must_use]
    pub fn new(view: &View) -> Self {
        RowSummary {
            n_obs: view.n_obs(),
            n_vars: view.n_vars(),
            background: view.background().map(<[f64]>::to_vec),
        }
    }

    /// The summary in the view's order.
    #[must_use]
    pub fn finish(&self, partial: Vec<RowNumbers>) -> Summary {
        let n = self.n_vars as f64;
        let mut summary = Summary {
            sum: vec![0.0; self.n_obs],
            mean: vec![f64::NAN; self.n_obs],
            var: vec![f64::NAN; self.n_obs],
            nonzero: vec![0; self.n_obs],
        };
        for numbers in partial {
            summary.sum[numbers.row] = numbers.sum;
            summary.mean[numbers.row] = numbers.sum / n;
            summary.nonzero[numbers.row] = numbers.nonzero;
            if self.n_vars > 1 {
                summary.var[numbers.row] = numbers.squares / (n - 1.0);
            }
        }
        summary
    }

    fn numbers(&self, row: usize, values: &[f64], zeros: usize) -> RowNumbers {
        let sum: f64 = values.iter().sum();
        let mean = sum / self.n_vars as f64;
        let spread: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        RowNumbers {
            row,
            sum,
            squares: spread + zeros as f64 * mean * mean,
            nonzero: values.iter().filter(|x| **x != 0.0).count() as u64,
        }
    }
}

impl Pass for RowSummary {
    type Partial = Vec<RowNumbers>;

    fn empty(&self) -> Vec<RowNumbers> {
        Vec::new()
    }

    fn fold(&self, block: &RowBlock, partial: &mut Vec<RowNumbers>) -> Result<()> {
        for (r, &row) in block.rows.iter().enumerate() {
            let (columns, values) = block.row(r);
            partial.push(match &self.background {
                None => self.numbers(row, values, self.n_vars.saturating_sub(values.len())),
                Some(background) => {
                    let mut dense = background.clone();
                    for (&column, &value) in columns.iter().zip(values) {
                        dense[column as usize] += value;
                    }
                    self.numbers(row, &dense, 0)
                }
            });
        }
        Ok(())
    }

    fn merge(&self, into: &mut Vec<RowNumbers>, mut from: Vec<RowNumbers>) {
        into.append(&mut from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Ctx, Silent};
    use crate::matrix::memory::DenseRows;
    use crate::pass::run;
    use crate::transform::{Chain, Op, ScaleGenes};

    const VALUES: [f64; 12] = [1.0, 0.0, 3.0, 0.0, 0.0, 5.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0];

    fn summaries(chain: &Chain) -> (Summary, Summary) {
        let source = DenseRows::new(4, 3, &VALUES).unwrap();
        let view = View::new(4, 3, None, chain).unwrap();
        let ctx = Ctx::new(2, 1 << 30, std::env::temp_dir(), &Silent);
        let (rows, columns) = (RowSummary::new(&view), ColumnSummary::new(&view));
        (
            rows.finish(run(&source, &view, &ctx, "rows", &rows).unwrap()),
            columns.finish(run(&source, &view, &ctx, "columns", &columns).unwrap()),
        )
    }

    #[test]
    fn sums_means_and_variances() {
        let (rows, columns) = summaries(&Chain::default());
        assert_eq!(rows.sum, [4.0, 5.0, 6.0, 0.0]);
        assert_eq!(rows.nonzero, [2, 1, 3, 0]);
        assert!((rows.var[0] - 7.0 / 3.0).abs() < 1e-15);
        assert_eq!(rows.var[2], 0.0);
        assert_eq!(columns.sum, [3.0, 2.0, 10.0]);
        assert_eq!(columns.mean, [0.75, 0.5, 2.5]);
        assert!((columns.var[2] - 13.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn standardised_zeros_count() {
        let scale = ScaleGenes {
            mean: vec![0.75, 0.5, 2.5],
            sd: vec![1.0, 2.0, 0.5],
            zero_center: true,
            max_value: None,
        };
        let (rows, columns) =
            summaries(&Chain { ops: vec![Op::Scale(scale.clone())], stored_log: None });
        for (row, sum) in rows.sum.iter().enumerate() {
            let want: f64 = (0..3).map(|g| scale.value(g, VALUES[row * 3 + g])).sum();
            assert!((sum - want).abs() < 1e-14);
        }
        for mean in columns.mean {
            assert!(mean.abs() < 1e-15);
        }
    }
}
