//! Means and variances of genes, of the chain's values and of what they were
//! before the logarithm, from one read.

use serde::{Deserialize, Serialize};

use super::{merge_genes, summarize};
use crate::error::Result;
use crate::matrix::RowBlock;
use crate::pass::Pass;
use crate::stats::moments::Moments;
use crate::transform::View;

/// Moments of every gene.
///
/// # Numerics
/// Shifted sums of the nonzero values, the zeros in closed form: within 1e-10
/// of two passes in double precision.
#[derive(Debug, Clone, Copy)]
pub struct MomentsPass {
    n_vars: usize,
    linear: bool,
}

impl MomentsPass {
    /// Moments of the values of a view with `n_vars` genes.
    #[must_use]
    pub fn new(n_vars: usize) -> Self {
        MomentsPass { n_vars, linear: false }
    }

    /// Also those of the values before the logarithm; the view has to keep them
    /// ([`View::with_linear`]).
    #[must_use]
    pub fn with_linear(self) -> Self {
        MomentsPass { linear: true, ..self }
    }
}

/// What [`MomentsPass`] knows of some rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MomentsPartial {
    values: Vec<Moments>,
    linear: Vec<Moments>,
}

fn push_all(moments: &mut [Moments], genes: &[u32], values: &[f64]) {
    for (&gene, &value) in genes.iter().zip(values) {
        if value != 0.0 {
            moments[gene as usize].push(value);
        }
    }
}

impl Pass for MomentsPass {
    type Partial = MomentsPartial;

    fn empty(&self) -> MomentsPartial {
        MomentsPartial::default()
    }

    fn fold(&self, block: &RowBlock, partial: &mut MomentsPartial) -> Result<()> {
        partial.values.resize(self.n_vars, Moments::default());
        push_all(&mut partial.values, &block.indices, &block.values);
        if self.linear {
            partial.linear.resize(self.n_vars, Moments::default());
            push_all(&mut partial.linear, &block.indices, &block.linear);
        }
        Ok(())
    }

    fn merge(&self, into: &mut MomentsPartial, from: MomentsPartial) {
        merge_genes(&mut into.values, from.values);
        merge_genes(&mut into.linear, from.linear);
    }
}

/// Moments of every gene of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneMoments {
    /// Number of cells with a nonzero value.
    pub detected: Vec<f64>,
    /// Mean over all cells.
    pub mean: Vec<f64>,
    /// Unbiased variance.
    pub var: Vec<f64>,
}

impl GeneMoments {
    fn new(genes: &[Moments], view: &View, background: Option<&[f64]>) -> Result<Self> {
        let summary = summarize(genes, view.n_obs(), view.n_vars())?;
        let none = Moments::default();
        let offset = |j: usize| background.map_or(0.0, |zeros| zeros[j]);
        Ok(GeneMoments {
            detected: (0..summary.len())
                .map(|j| genes.get(j).unwrap_or(&none).n() as f64)
                .collect(),
            mean: summary.iter().enumerate().map(|(j, s)| s.mean + offset(j)).collect(),
            var: summary.iter().map(|s| s.var).collect(),
        })
    }
}

impl MomentsPass {
    /// Moments of the values of `view`, and of the values before the logarithm
    /// where they were asked for.
    ///
    /// # Errors
    /// When a gene has more values than there are cells.
    pub fn finish(
        &self,
        partial: &MomentsPartial,
        view: &View,
    ) -> Result<(GeneMoments, Option<GeneMoments>)> {
        let values = GeneMoments::new(&partial.values, view, view.background())?;
        let linear =
            self.linear.then(|| GeneMoments::new(&partial.linear, view, None)).transpose()?;
        Ok((values, linear))
    }
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

    fn check(got: &GeneMoments, dense: &[Vec<f64>]) {
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
        let pass = MomentsPass::new(40).with_linear();
        let (values, linear) =
            pass.finish(&run_every_way_in(&matrix, &view, &pass), &view).unwrap();
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
        let pass = MomentsPass::new(30);
        let (values, linear) =
            pass.finish(&run_every_way_in(&matrix, &view, &pass), &view).unwrap();
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
        let pass = MomentsPass::new(10);
        let (values, _) = pass.finish(&run_every_way_in(&matrix, &view, &pass), &view).unwrap();
        let dense: Vec<Vec<f64>> = rows.iter().map(|&r| matrix.dense[r].clone()).collect();
        check(&values, &dense);
    }
}
