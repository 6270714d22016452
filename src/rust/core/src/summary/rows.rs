//! Summaries of rows.

use serde::{Deserialize, Serialize};

use super::Summary;
use crate::error::Result;
use crate::matrix::RowBlock;
use crate::pass::Pass;
use crate::transform::View;

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
