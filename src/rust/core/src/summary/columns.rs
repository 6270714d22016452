//! Summaries of columns: of the chain's values, and of what they were before the
//! logarithm, from one read.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use super::Summary;
use super::counts::LogCounts;
use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::Pass;
use crate::stats::moments::{MeanVar, Moments};
use crate::transform::{RowLog, RowTable, View};

/// Summarises the columns of a view.
///
/// # Numerics
/// Shifted moments of the nonzero values, zeros in closed form: variances agree
/// with two passes in float64 to 1e-10. Where the pass takes the logarithm, counts have sums
/// about zero ([`Moments::of_sums`]).
#[derive(Debug, Clone)]
pub struct ColumnSummary {
    n_obs: usize,
    n_vars: usize,
    background: Option<Vec<f64>>,
    linear: bool,
    /// What the view leaves to the pass.
    log: Option<RowLog>,
}

/// What [`ColumnSummary`] knows of some rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnPartial {
    values: Vec<Moments>,
    linear: Vec<Moments>,
    /// What both lack.
    counts: LogCounts,
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
            log: None,
        }
    }

    /// Also for the values before the logarithm; the view has to keep them
    /// ([`View::with_linear`]).
    #[must_use]
    pub fn with_linear(self) -> Self {
        ColumnSummary { linear: true, ..self }
    }

    /// The same pass and the view that it has to run over for what it gives over `view`:
    /// without a last logarithm of normalised values, which the pass takes itself.
    #[must_use]
    pub fn over(self, view: &View) -> (Self, View) {
        match view.leaving_log() {
            Some((view, log)) => (ColumnSummary { log: Some(log), ..self }, view),
            None => (self, view.clone()),
        }
    }

    /// The summaries of all rows.
    ///
    /// # Errors
    /// When a column has more values than there are rows.
    pub fn finish(&self, partial: &ColumnPartial) -> Result<Columns> {
        let mut whole = partial.clone();
        whole.settle();
        let values = self.summary(&whole.values, self.background.as_deref())?;
        let linear = self.linear.then(|| self.summary(&whole.linear, None)).transpose()?;
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

impl ColumnPartial {
    /// Moves the sums of counts to the moments.
    fn settle(&mut self) {
        self.counts.drain_into(&mut self.values, &mut self.linear);
    }
}

thread_local! {
    /// Results by count are kept between blocks.
    static TABLE: RefCell<RowTable> = RefCell::default();
}

impl ColumnSummary {
    /// Adds rows before their logarithm.
    fn fold_logs(&self, log: &RowLog, block: &RowBlock, partial: &mut ColumnPartial) {
        partial.values.resize(self.n_vars, Moments::default());
        partial.linear.resize(self.n_vars, Moments::default());
        let ColumnPartial { values, linear, counts } = partial;
        let other = |gene: u32, (before, after): (f64, f64)| {
            if after != 0.0 {
                values[gene as usize].push(after);
                linear[gene as usize].push(before);
            }
        };
        TABLE.with_borrow_mut(|table| counts.add_rows(log, block, self.n_vars, table, other));
    }
}

impl Pass for ColumnSummary {
    type Partial = ColumnPartial;

    fn empty(&self) -> ColumnPartial {
        ColumnPartial::default()
    }

    fn partial_bytes(&self) -> usize {
        let takes_log = self.log.is_some();
        let moments = 1 + usize::from(self.linear || takes_log);
        let counts = if takes_log { LogCounts::BYTES_OF_GENE } else { 0 };
        self.n_vars * (moments * size_of::<Moments>() + counts)
    }

    fn fold(&self, block: &RowBlock, partial: &mut ColumnPartial) -> Result<()> {
        if let Some(log) = &self.log {
            self.fold_logs(log, block, partial);
            return Ok(());
        }
        push_all(&mut partial.values, self.n_vars, &block.indices, &block.values);
        if self.linear {
            push_all(&mut partial.linear, self.n_vars, &block.indices, &block.linear);
        }
        Ok(())
    }

    fn merge(&self, into: &mut ColumnPartial, mut from: ColumnPartial) {
        into.settle();
        from.settle();
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
        let (over, left) = pass.clone().over(&view);
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
        for (pass, view) in [(pass, view), (over, left)] {
            let Columns { values, linear } =
                pass.finish(&run_every_way_in(&matrix, &view, &pass)).unwrap();
            check(&values, &logged);
            check(&linear.unwrap(), &linear_dense);
        }
    }

    /// Counts of all sizes, whole numbers that are none, fractions, and stored zeros.
    #[test]
    fn a_logarithm_that_the_pass_takes_changes_nothing() {
        let mut matrix = Matrix::counts(61, 40, 8);
        let odd = [16.0, 255.0, 300.0, 65_535.0, 65_536.0, 1e7, 0.5, 15.25, 1e-9, 0.0];
        for (i, value) in matrix.dense.iter_mut().flatten().enumerate().step_by(3) {
            *value = odd[i / 3 % odd.len()];
        }
        let ops = vec![Op::Normalize { target: 1e4, excluded: vec![] }, Op::Log1p { base: None }];
        let view = View::new(61, 40, None, &Chain { ops, stored_log: None }).unwrap().with_linear();
        for pass in [ColumnSummary::new(&view), ColumnSummary::new(&view).with_linear()] {
            let want = pass.finish(&run_every_way_in(&matrix, &view, &pass)).unwrap();
            let (pass, left) = pass.over(&view);
            let got = pass.finish(&run_every_way_in(&matrix, &left, &pass)).unwrap();
            assert_eq!(got.linear.is_some(), want.linear.is_some());
            let pairs = [(got.values, want.values)].into_iter().chain(got.linear.zip(want.linear));
            for (got, want) in pairs {
                assert_eq!(got.nonzero, want.nonzero);
                let all = got.sum.iter().chain(&got.mean).chain(&got.var);
                for (a, b) in all.zip(want.sum.iter().chain(&want.mean).chain(&want.var)) {
                    assert!((a - b).abs() <= 1e-10 * b.abs(), "{a} {b}");
                }
            }
        }
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
