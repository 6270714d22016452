//! What normalisation to a common total needs to know beforehand.

use serde::{Deserialize, Serialize};

use super::check::ValueCheck;
use super::row;
use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::Pass;

/// The total of every row, some genes left out; checks the values on the way.
#[derive(Debug, Clone, Default)]
pub struct TotalsPass {
    excluded: Option<Vec<bool>>,
}

impl TotalsPass {
    /// Totals over all genes of a view with `n_vars` but `excluded`.
    ///
    /// # Errors
    /// When a gene lies outside.
    pub fn new(n_vars: usize, excluded: &[usize]) -> Result<Self> {
        if excluded.is_empty() {
            return Ok(TotalsPass { excluded: None });
        }
        let mut mask = vec![false; n_vars];
        for &gene in excluded {
            *mask.get_mut(gene).ok_or_else(|| Error::InvalidInput {
                argument: "excluded",
                message: format!("gene {} lies outside the {n_vars} genes", gene + 1),
            })? = true;
        }
        Ok(TotalsPass { excluded: Some(mask) })
    }

    /// The totals in the order of the view.
    #[must_use]
    pub fn finish(&self, partial: &TotalsPartial, n_obs: usize) -> Vec<f64> {
        let mut totals = vec![0.0; n_obs];
        for (&row, &total) in partial.rows.iter().zip(&partial.totals) {
            totals[row] = total;
        }
        totals
    }
}

/// What [`TotalsPass`] knows of some rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TotalsPartial {
    rows: Vec<usize>,
    totals: Vec<f64>,
    /// What the values look like.
    pub check: ValueCheck,
}

impl Pass for TotalsPass {
    type Partial = TotalsPartial;

    fn empty(&self) -> TotalsPartial {
        TotalsPartial::default()
    }

    fn fold(&self, block: &RowBlock, partial: &mut TotalsPartial) -> Result<()> {
        partial.rows.extend_from_slice(&block.rows);
        for r in 0..block.n_rows() {
            let (genes, values) = block.row(r);
            let scan = row::scan(values);
            partial.check.row(block.rows[r], genes, values, &scan);
            partial.totals.push(match &self.excluded {
                None => scan.total,
                Some(excluded) => genes
                    .iter()
                    .zip(values)
                    .filter(|(gene, _)| !excluded[**gene as usize])
                    .map(|(_, value)| value)
                    .sum(),
            });
        }
        Ok(())
    }

    fn merge(&self, into: &mut TotalsPartial, from: TotalsPartial) {
        into.rows.extend(from.rows);
        into.totals.extend(from.totals);
        into.check.merge(&from.check);
    }
}

/// Genes that take more than a fraction of the total in some cell.
#[derive(Debug, Clone, Copy)]
pub struct HighlyExpressedPass {
    /// Number of genes of the view.
    pub n_vars: usize,
    /// The fraction.
    pub max_fraction: f64,
}

impl Pass for HighlyExpressedPass {
    type Partial = Vec<bool>;

    fn empty(&self) -> Vec<bool> {
        vec![false; self.n_vars]
    }

    fn fold(&self, block: &RowBlock, partial: &mut Vec<bool>) -> Result<()> {
        for r in 0..block.n_rows() {
            let (genes, values) = block.row(r);
            let limit = self.max_fraction * row::scan(values).total;
            for (&gene, &value) in genes.iter().zip(values) {
                if value > limit {
                    partial[gene as usize] = true;
                }
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Vec<bool>, from: Vec<bool>) {
        for (gene, other) in into.iter_mut().zip(from) {
            *gene |= other;
        }
    }
}

/// The median of the totals above zero; `None` where there is none.
///
/// # Numerics
/// Of an even number, the mean of the middle two.
#[must_use]
pub fn nonzero_median(totals: &[f64]) -> Option<f64> {
    let mut totals: Vec<f64> = totals.iter().copied().filter(|&t| t > 0.0).collect();
    let n = totals.len();
    if n == 0 {
        return None;
    }
    let (below, &mut upper, _) = totals.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::testing::Matrix;
    use crate::pass::testing::run_every_way;

    #[test]
    fn totals_with_and_without_genes() {
        let matrix = Matrix::counts(40, 25, 8);
        for excluded in [vec![], vec![3, 24]] {
            let pass = TotalsPass::new(25, &excluded).unwrap();
            let got = pass.finish(&run_every_way(&matrix, &pass), 40);
            let want: Vec<f64> = matrix
                .dense
                .iter()
                .map(|row| (0..25).filter(|j| !excluded.contains(j)).map(|j| row[j]).sum())
                .collect();
            assert_eq!(got, want);
        }
        assert!(TotalsPass::new(25, &[25]).is_err());
    }

    #[test]
    fn negative_values_are_placed() {
        let mut matrix = Matrix::counts(10, 5, 9);
        matrix.set(4, 2, -1.0);
        let pass = TotalsPass::new(5, &[]).unwrap();
        let bad = run_every_way(&matrix, &pass).check.first_bad().unwrap();
        assert_eq!((bad.row, bad.gene), (4, 2));
    }

    #[test]
    fn highly_expressed_genes_are_found_once_anywhere() {
        let mut matrix = Matrix::counts(30, 50, 10);
        matrix.set(11, 7, 1000.0);
        let pass = HighlyExpressedPass { n_vars: 50, max_fraction: 0.2 };
        let got = run_every_way(&matrix, &pass);
        let want: Vec<bool> = (0..50)
            .map(|j| matrix.dense.iter().any(|row| row[j] > 0.2 * row.iter().sum::<f64>()))
            .collect();
        assert_eq!(got, want);
        assert!(got[7]);
    }

    #[test]
    fn medians_leave_out_empty_cells() {
        assert_eq!(nonzero_median(&[]), None);
        assert_eq!(nonzero_median(&[0.0, 0.0]), None);
        assert_eq!(nonzero_median(&[0.0, 5.0]), Some(5.0));
        assert_eq!(nonzero_median(&[9.0, 1.0, 0.0, 4.0, 2.0]), Some(3.0));
        assert_eq!(nonzero_median(&[9.0, 1.0, 4.0]), Some(4.0));
    }
}
