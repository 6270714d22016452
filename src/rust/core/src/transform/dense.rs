//! Operations that leave no zeros: residuals and adjusted values.
//!
//! A row is written out, all its genes beside each other, and goes through these
//! operations gene by gene. Each knows what it needs of every gene and of every row of
//! the view, so that genes and rows may be selected before it at will.
//!
//! Memory: 8 bytes for each number known of a row or a gene, and 12 bytes for each value of
//! the rows in work, of which a [`View`](super::View) writes out a slab at a time.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Analytic Pearson residuals of counts (Lause, Berens & Kobak 2021):
/// `(x - mu) / sqrt(mu + mu^2 / theta)`, clipped, with `mu` the total of the row times
/// the gene's share of all counts. Where nothing is expected the residual is zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PearsonResiduals {
    /// Overdispersion.
    pub theta: f64,
    /// Residuals are clipped to this and its negative.
    pub clip: f64,
    /// Total of each row of the view.
    pub totals: Vec<f64>,
    /// Each gene's share of all counts.
    pub shares: Vec<f64>,
}

impl PearsonResiduals {
    /// The residual of the count `x` of a gene in a row with this total.
    #[must_use]
    pub fn value(&self, x: f64, total: f64, gene: usize) -> f64 {
        let mu = total * self.shares[gene];
        let z = (x - mu) / (mu + mu * mu / self.theta).sqrt();
        let z = if z > self.clip { self.clip } else { z };
        let z = if z < -self.clip { -self.clip } else { z };
        if mu > 0.0 { z } else { 0.0 }
    }

    fn apply(&self, row: usize, values: &mut [f64]) {
        let total = self.totals[row];
        for (gene, x) in values.iter_mut().enumerate() {
            *x = self.value(*x, total, gene);
        }
    }
}

/// Values less what a linear model explains: with `w` the row's design times the gene's
/// coefficients, `x - w + offset`, or where genes are scaled by group
/// `scale * (x - w) + w + offset`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adjust {
    /// Columns of the design.
    pub n_columns: usize,
    /// The design of the view's rows, one row after the other.
    pub design: Vec<f64>,
    /// Coefficients, one gene beside the other for each column.
    pub coefficients: Vec<f64>,
    /// Group of each row of the view; empty where there is one group.
    pub groups: Vec<u32>,
    /// Added to each gene, group after group.
    pub offset: Vec<f64>,
    /// Factor of each gene, group after group; what the model explains comes back then.
    pub scale: Option<Vec<f64>>,
}

impl Adjust {
    /// Whether values stay on their scale: corrected ones do, residuals do not.
    #[must_use]
    pub fn keeps_scale(&self) -> bool {
        self.scale.is_some()
    }

    fn apply(&self, row: usize, values: &mut [f64], explained: &mut Vec<f64>) {
        let n_vars = values.len();
        if n_vars == 0 {
            return;
        }
        explained.clear();
        explained.resize(n_vars, 0.0);
        let design = &self.design[row * self.n_columns..(row + 1) * self.n_columns];
        for (&d, coefficients) in design.iter().zip(self.coefficients.chunks_exact(n_vars)) {
            if d != 0.0 {
                for (w, b) in explained.iter_mut().zip(coefficients) {
                    *w += d * b;
                }
            }
        }
        let group = self.groups.get(row).map_or(0, |&group| group as usize);
        let genes = group * n_vars..(group + 1) * n_vars;
        let fixed = explained.iter().zip(&self.offset[genes.clone()]);
        match &self.scale {
            None => {
                for (x, (w, offset)) in values.iter_mut().zip(fixed) {
                    *x = (*x - w) + offset;
                }
            }
            Some(scale) => {
                for ((x, (w, offset)), m) in values.iter_mut().zip(fixed).zip(&scale[genes]) {
                    *x = m * (*x - w) + (w + offset);
                }
            }
        }
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum DenseOp {
    Residuals(PearsonResiduals),
    Adjust(Adjust),
    Scale(super::ScaleGenes),
}

impl DenseOp {
    /// Checks that it knows `n_obs` rows and `n_vars` genes.
    pub(crate) fn check(&self, n_obs: usize, n_vars: usize) -> Result<()> {
        let fits = match self {
            DenseOp::Residuals(op) => op.totals.len() == n_obs && op.shares.len() == n_vars,
            DenseOp::Adjust(op) => {
                let n_groups = op.groups.iter().max().map_or(1, |&last| last as usize + 1);
                op.design.len() == n_obs * op.n_columns
                    && op.coefficients.len() == n_vars * op.n_columns
                    && (op.groups.is_empty() || op.groups.len() == n_obs)
                    && op.offset.len() >= n_groups * n_vars
                    && op.scale.as_ref().is_none_or(|scale| scale.len() == op.offset.len())
            }
            DenseOp::Scale(op) => op.mean.len() == n_vars && op.sd.len() == n_vars,
        };
        if fits {
            return Ok(());
        }
        Err(Error::InvalidInput {
            argument: "chain",
            message: format!("an operation does not know the {n_obs} cells and {n_vars} genes"),
        })
    }

    /// Turns the values of row `row` of the view into what they become.
    pub(crate) fn apply(&self, row: usize, values: &mut [f64], spare: &mut Vec<f64>) {
        match self {
            DenseOp::Residuals(op) => op.apply(row, values),
            DenseOp::Adjust(op) => op.apply(row, values, spare),
            DenseOp::Scale(op) => {
                for (gene, x) in values.iter_mut().enumerate() {
                    *x = op.value(gene, *x);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::RowBlock;
    use crate::matrix::testing::Matrix;
    use crate::pass::stream;
    use crate::transform::{Chain, Op, ScaleGenes, View, ViewScratch};

    const G: usize = 9;

    fn view(rows: &[usize], ops: Vec<Op>) -> View {
        View::new(40, 12, Some(rows), &Chain { ops, stored_log: None }).unwrap()
    }

    /// Every value and linear value by row of the view, in pieces of about `most` values.
    fn values(view: &View, most: usize) -> Vec<(Vec<f64>, Vec<f64>)> {
        let matrix = Matrix::counts(40, 12, 4);
        let mut block = RowBlock { indptr: vec![0], ..RowBlock::default() };
        for (row, values) in matrix.dense.iter().enumerate() {
            for (gene, &x) in values.iter().enumerate().rev() {
                if x != 0.0 {
                    block.indices.push(gene as u32);
                    block.values.push(x);
                }
            }
            block.indptr.push(block.indices.len());
            block.rows.push(row);
        }
        let mut found = vec![(Vec::new(), Vec::new()); view.n_obs()];
        view.apply(&mut block, &mut ViewScratch::default(), most, |piece| {
            assert!(most < 20 * G || piece.n_rows() * G <= most, "pieces are small");
            for (r, &row) in piece.rows.iter().enumerate() {
                let (columns, values) = piece.row(r);
                assert!(columns.iter().copied().eq(0..view.n_vars() as u32));
                let linear = if piece.linear.is_empty() { &[] } else { piece.linear_row(r) };
                found[row] = (values.to_vec(), linear.to_vec());
            }
            Ok(())
        })
        .unwrap();
        found
    }

    fn rows() -> Vec<usize> {
        (0..70).map(|at| (at * 11) % 40).collect()
    }

    /// Numbers from 0 to 1 without a pattern.
    fn some(n: usize, by: f64) -> Vec<f64> {
        (0..n).map(|i| (i as f64 * by).sin().abs()).collect()
    }

    fn adjust(n_obs: usize, scale: bool) -> Adjust {
        Adjust {
            n_columns: 2,
            design: some(2 * n_obs, 0.7),
            coefficients: some(2 * G, 0.3),
            groups: (0..n_obs as u32).map(|row| row % 3).collect(),
            offset: some(3 * G, 1.1),
            scale: scale.then(|| some(3 * G, 0.9)),
        }
    }

    fn explained(op: &Adjust, row: usize, gene: usize) -> f64 {
        (0..2).map(|c| op.design[row * 2 + c] * op.coefficients[c * G + gene]).sum()
    }

    #[test]
    fn residuals_of_selected_genes_and_repeated_rows() {
        let (rows, genes) = (rows(), [3u32, 0, 11, 5, 7, 2, 9, 4, 1]);
        let residuals = PearsonResiduals {
            theta: 10.0,
            clip: 1.5,
            totals: (0..rows.len()).map(|row| (row % 5) as f64 * 8.0).collect(),
            shares: (0..G)
                .map(|gene| if gene == 4 { 0.0 } else { 0.02 * gene as f64 + 0.01 })
                .collect(),
        };
        let ops = vec![Op::SelectGenes { genes: genes.to_vec() }, Op::Residuals(residuals.clone())];
        let view = view(&rows, ops).with_linear();
        let matrix = Matrix::counts(40, 12, 4);
        for most in [1, 40, usize::MAX] {
            for (row, (values, linear)) in values(&view, most).iter().enumerate() {
                assert_eq!(values, linear, "there is no logarithm");
                for (gene, value) in values.iter().enumerate() {
                    let x = matrix.dense[rows[row]][genes[gene] as usize];
                    let mu = residuals.totals[row] * residuals.shares[gene];
                    let z = (x - mu) / (mu + mu * mu / 10.0).sqrt();
                    let want = if mu == 0.0 { 0.0 } else { z.clamp(-1.5, 1.5) };
                    assert!((value - want).abs() < 1e-14, "row {row}, gene {gene}");
                }
            }
        }
    }

    #[test]
    fn adjusted_and_scaled_values_with_what_comes_before_the_logarithm() {
        let rows = rows();
        let genes: Vec<u32> = (0..G as u32).collect();
        let matrix = Matrix::counts(40, 12, 4);
        for scales in [false, true] {
            let op = adjust(rows.len(), scales);
            let scaling = ScaleGenes {
                mean: some(G, 0.2),
                sd: some(G, 0.4),
                zero_center: true,
                max_value: Some(2.0),
            };
            let ops = vec![
                Op::SelectGenes { genes: genes.clone() },
                Op::Log1p { base: None },
                Op::Adjust(op.clone()),
                Op::Scale(scaling.clone()),
            ];
            let view = view(&rows, ops).with_linear();
            assert!(view.background().is_none() && view.scales());
            for (row, (values, linear)) in values(&view, 50).iter().enumerate() {
                for gene in 0..G {
                    let x = matrix.dense[rows[row]][gene].ln_1p();
                    let (w, at) = (explained(&op, row, gene), row % 3 * G + gene);
                    let adjusted = match &op.scale {
                        None => x - w + op.offset[at],
                        Some(scale) => scale[at] * (x - w) + w + op.offset[at],
                    };
                    assert!((values[gene] - scaling.value(gene, adjusted)).abs() < 1e-12);
                    // Corrected logarithms are still logarithms, residuals are not.
                    let before = if scales { adjusted.exp_m1() } else { adjusted };
                    assert!((linear[gene] - before).abs() < 1e-12 * before.abs().max(1.0));
                }
            }
        }
    }

    #[test]
    fn pieces_are_as_many_as_announced() {
        let rows = rows();
        let shape = |n_vars: usize| Adjust {
            n_columns: 0,
            design: vec![],
            coefficients: vec![],
            groups: vec![],
            offset: vec![0.0; n_vars],
            scale: None,
        };
        let matrix = Matrix::counts(40, 12, 4);
        let ctx = crate::ctx::Ctx::new(2, 1 << 30, std::env::temp_dir(), &crate::ctx::Silent);
        let chain = Chain { ops: vec![Op::Adjust(shape(12))], stored_log: None };
        for rows in [None, Some(&rows[..])] {
            let view = View::new(40, 12, rows, &chain).unwrap();
            let seen = std::sync::Mutex::new(0);
            let grid = crate::matrix::Source::grid(&matrix);
            let blocks = 0..grid.n_blocks();
            stream(&matrix, &view, &ctx, "", blocks.clone(), |_, _| {
                *seen.lock().unwrap() += 1;
                Ok(())
            })
            .unwrap();
            let announced: usize = blocks.map(|b| view.n_pieces(&grid.rows(b))).sum();
            assert_eq!(*seen.lock().unwrap(), announced);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new = |ops| View::new(40, 12, None, &Chain { ops, stored_log: None });
        assert!(new(vec![Op::Adjust(adjust(40, false))]).is_err(), "12 genes, not 9");
        let genes: Vec<u32> = (0..G as u32).collect();
        let select = Op::SelectGenes { genes };
        assert!(new(vec![select.clone(), Op::Adjust(adjust(39, false))]).is_err());
        let after = vec![select.clone(), Op::Adjust(adjust(40, false)), Op::Log1p { base: None }];
        assert!(new(after).is_err());
        assert!(new(vec![select, Op::Adjust(adjust(40, false))]).is_ok());
    }
}
