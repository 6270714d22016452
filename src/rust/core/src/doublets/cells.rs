//! Which genes a sample has, and whether its values are counts.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::Pass;

/// The number of cells with each gene, of a view with `n_vars` genes. Values that
/// can't be counts end it.
#[derive(Debug, Clone, Copy)]
pub struct GeneCellsPass {
    /// Number of genes of the view.
    pub n_vars: usize,
}

/// Cells with each gene; empty before the first row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneCells(pub Vec<u32>);

impl Pass for GeneCellsPass {
    type Partial = GeneCells;

    fn empty(&self) -> GeneCells {
        GeneCells::default()
    }

    fn partial_bytes(&self) -> usize {
        4 * self.n_vars
    }

    fn fold(&self, block: &RowBlock, partial: &mut GeneCells) -> Result<()> {
        partial.0.resize(self.n_vars, 0);
        for (&gene, &value) in block.indices.iter().zip(&block.values) {
            if value > 0.0 && value < f64::INFINITY {
                partial.0[gene as usize] += 1;
            } else if value != 0.0 {
                let what = if value < 0.0 { "negative" } else { "not finite" };
                return Err(Error::InvalidValues {
                    message: format!(
                        "counts can't be {what}, but gene {} has {value} in some cell",
                        gene + 1
                    ),
                });
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut GeneCells, from: GeneCells) {
        if into.0.is_empty() {
            *into = from;
            return;
        }
        for (a, b) in into.0.iter_mut().zip(from.0) {
            *a += b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::testing::Matrix;
    use crate::pass::testing::run_every_way;

    #[test]
    fn cells_are_counted_without_stored_zeros() {
        let matrix = Matrix::counts(60, 20, 2);
        let GeneCells(found) = run_every_way(&matrix, &GeneCellsPass { n_vars: 20 });
        for (j, &n) in found.iter().enumerate() {
            let want = matrix.dense.iter().filter(|row| row[j] > 0.0).count();
            assert_eq!(n as usize, want);
        }
    }

    #[test]
    fn what_is_no_count_is_refused() {
        let pass = GeneCellsPass { n_vars: 3 };
        for bad in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let block = RowBlock {
                indptr: vec![0, 2],
                indices: vec![0, 2],
                values: vec![0.0, bad],
                linear: Vec::new(),
                rows: vec![0],
            };
            let found = pass.fold(&block, &mut pass.empty());
            assert!(matches!(found, Err(Error::InvalidValues { .. })), "{bad}");
        }
    }
}
