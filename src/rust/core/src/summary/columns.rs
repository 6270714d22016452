//! Summaries of columns: of the chain's values, and of what they were before the
//! logarithm, from one read.

use serde::{Deserialize, Serialize};

use super::Summary;
use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::Pass;
use crate::stats::moments::{MeanVar, Moments};
use crate::transform::View;

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
    linear: bool,
}

/// What [`ColumnSummary`] knows of some rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnPartial {
    values: Vec<Moments>,
    linear: Vec<Moments>,
}

/// Summaries of all columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    /// Of the values of the view.
    pub values: Summary,
    /// Of the values before the logarithm, where they were asked for.
    pub linear: Option<Summary>,
}

impl ColumnSummary {
    /// For the columns of `view`.
    #[must_use]
    pub fn new(view: &View) -> Self {
        ColumnSummary {
            n_obs: view.n_obs(),
            n_vars: view.n_vars(),
            background: view.background().map(<[f64]>::to_vec),
            linear: false,
        }
    }

    /// Also for the values before the logarithm; the view has to keep them
    /// ([`View::with_linear`]).
    #[must_use]
    pub fn with_linear(self) -> Self {
        ColumnSummary { linear: true, ..self }
    }

    /// The summaries of all rows.
    ///
    /// # Errors
    /// When a column has more values than there are rows.
    pub fn finish(&self, partial: &ColumnPartial) -> Result<Columns> {
        let values = self.summary(&partial.values, self.background.as_deref())?;
        let linear = self.linear.then(|| self.summary(&partial.linear, None)).transpose()?;
        Ok(Columns { values, linear })
    }

    fn summary(&self, columns: &[Moments], background: Option<&[f64]>) -> Result<Summary> {
        let n = self.n_obs as f64;
        let none = Moments::default();
        let mut summary = Summary::default();
        for (j, whole) in mean_and_variance(columns, self.n_obs, self.n_vars)?.iter().enumerate() {
            // Adding a constant to a column moves its mean alone.
            let shift = background.map_or(0.0, |zeros| zeros[j]);
            let moments = columns.get(j).unwrap_or(&none);
            summary.sum.push(moments.sum() + n * shift);
            summary.mean.push(whole.mean + shift);
            summary.var.push(whole.var);
            summary.nonzero.push(moments.n());
        }
        Ok(summary)
    }
}

impl Pass for ColumnSummary {
    type Partial = ColumnPartial;

    fn empty(&self) -> ColumnPartial {
        ColumnPartial::default()
    }

    fn partial_bytes(&self) -> usize {
        (1 + usize::from(self.linear)) * self.n_vars * size_of::<Moments>()
    }

    fn fold(&self, block: &RowBlock, partial: &mut ColumnPartial) -> Result<()> {
        push_all(&mut partial.values, self.n_vars, &block.indices, &block.values);
        if self.linear {
            push_all(&mut partial.linear, self.n_vars, &block.indices, &block.linear);
        }
        Ok(())
    }

    fn merge(&self, into: &mut ColumnPartial, from: ColumnPartial) {
        merge_columns(&mut into.values, from.values);
        merge_columns(&mut into.linear, from.linear);
    }
}

fn push_all(moments: &mut Vec<Moments>, n_vars: usize, columns: &[u32], values: &[f64]) {
    moments.resize(n_vars, Moments::default());
    for (&column, &value) in columns.iter().zip(values) {
        if value != 0.0 {
            moments[column as usize].push(value);
        }
    }
}

/// Adds accumulators column by column; none at all are neutral.
pub(crate) fn merge_columns(into: &mut Vec<Moments>, from: Vec<Moments>) {
    if into.is_empty() {
        *into = from;
        return;
    }
    for (column, other) in into.iter_mut().zip(&from) {
        column.merge(other);
    }
}

/// Mean and variance of every column over `n_obs` rows.
///
/// # Errors
/// When a column has more values than there are rows, as a matrix in memory may.
pub(crate) fn mean_and_variance(
    columns: &[Moments],
    n_obs: usize,
    n_vars: usize,
) -> Result<Vec<MeanVar>> {
    if let Some(column) = columns.iter().position(|moments| moments.n() > n_obs as u64) {
        return Err(Error::InvalidValues {
            message: format!(
                "gene {} has several stored values in one cell; sum the duplicates first",
                column + 1
            ),
        });
    }
    let none = Moments::default();
    let moments = |column| columns.get(column).unwrap_or(&none);
    Ok((0..n_vars).map(|column| moments(column).with_zeros(n_obs as u64)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::testing::Matrix;
    use crate::pass::testing::run_every_way_in;
    use crate::transform::{Chain, Op, ScaleGenes};

    fn two_passes(column: &[f64]) -> (f64, f64) {
        let n = column.len() as f64;
        let mean = column.iter().sum::<f64>() / n;
        let drift: f64 = column.iter().map(|x| x - mean).sum();
        let m2: f64 = column.iter().map(|x| (x - mean).powi(2)).sum();
        (mean, (m2 - drift * drift / n) / (n - 1.0))
    }

    fn check(got: &Summary, dense: &[Vec<f64>]) {
        for j in 0..got.mean.len() {
            let column: Vec<f64> = dense.iter().map(|row| row[j]).collect();
            let (mean, var) = two_passes(&column);
            assert!((got.mean[j] - mean).abs() <= 1e-10 * mean.abs().max(1e-300), "mean of {j}");
            assert!((got.var[j] - var).abs() <= 1e-10 * var, "variance of {j}");
        }
    }

    #[test]
    fn values_and_linear_values_in_one_read() {
        let matrix = Matrix::counts(61, 40, 5);
        let ops = vec![Op::Normalize { target: 1e4, excluded: vec![] }, Op::Log1p { base: None }];
        let view = View::new(61, 40, None, &Chain { ops, stored_log: None }).unwrap().with_linear();
        let pass = ColumnSummary::new(&view).with_linear();
        let Columns { values, linear } =
            pass.finish(&run_every_way_in(&matrix, &view, &pass)).unwrap();
        let linear_dense: Vec<Vec<f64>> = matrix
            .dense
            .iter()
            .map(|row| {
                let total: f64 = row.iter().sum();
                row.iter().map(|x| if total > 0.0 { x * 1e4 / total } else { *x }).collect()
            })
            .collect();
        let logged: Vec<Vec<f64>> =
            linear_dense.iter().map(|row| row.iter().map(|x| x.ln_1p()).collect()).collect();
        check(&values, &logged);
        check(&linear.unwrap(), &linear_dense);
    }

    #[test]
    fn scaled_values_have_their_background() {
        let matrix = Matrix::counts(50, 30, 6);
        let scale = ScaleGenes {
            mean: (0..30).map(|j| f64::from(j) / 40.0 + 0.1).collect(),
            sd: (0..30).map(|j| 1.0 + f64::from(j)).collect(),
            zero_center: true,
            max_value: Some(3.0),
        };
        let scaled: Vec<Vec<f64>> = matrix
            .dense
            .iter()
            .map(|row| row.iter().enumerate().map(|(j, x)| scale.value(j, *x)).collect())
            .collect();
        let chain = Chain { ops: vec![Op::Scale(scale)], stored_log: None };
        let view = View::new(50, 30, None, &chain).unwrap();
        let pass = ColumnSummary::new(&view);
        let Columns { values, linear } =
            pass.finish(&run_every_way_in(&matrix, &view, &pass)).unwrap();
        assert!(linear.is_none());
        for j in 0..30 {
            let column: Vec<f64> = scaled.iter().map(|row| row[j]).collect();
            let (mean, var) = two_passes(&column);
            assert!((values.mean[j] - mean).abs() < 1e-12);
            assert!((values.var[j] - var).abs() <= 1e-10 * var);
        }
    }

    #[test]
    fn selections_with_repeats_count_as_selected() {
        let matrix = Matrix::counts(20, 10, 7);
        let rows = [5, 5, 2, 19, 0, 5];
        let view = View::new(20, 10, Some(&rows), &Chain::default()).unwrap();
        let pass = ColumnSummary::new(&view);
        let values = pass.finish(&run_every_way_in(&matrix, &view, &pass)).unwrap().values;
        let dense: Vec<Vec<f64>> = rows.iter().map(|&r| matrix.dense[r].clone()).collect();
        check(&values, &dense);
    }
}
