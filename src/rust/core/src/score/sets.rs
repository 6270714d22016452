//! Scores of any number of sets in one pass.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::Pass;

/// A set of genes and its controls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScoredSet {
    /// Positions of its genes, each once.
    pub genes: Vec<usize>,
    /// Positions of the control genes, each once.
    pub controls: Vec<usize>,
}

/// The mean of each set less that of its controls, in every row of a view that does not
/// scale.
///
/// # Numerics
/// Sums run over a row in stored order; NaN is left out of both means, and a mean of
/// nothing is NaN.
#[derive(Debug, Clone)]
pub struct SetScorePass {
    /// For each gene where its slots begin: set `k` sums its genes in slot `2 k`, its
    /// controls in slot `2 k + 1`.
    offsets: Vec<usize>,
    slots: Vec<u32>,
    sizes: Vec<usize>,
}

/// Scores of some rows, set after set for each row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SetScorePiece {
    rows: Vec<usize>,
    scores: Vec<f64>,
}

impl SetScorePass {
    /// For `sets` of a view with `n_vars` genes.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a gene that is not there.
    pub fn new(n_vars: usize, sets: &[ScoredSet]) -> Result<Self> {
        let lists: Vec<&[usize]> =
            sets.iter().flat_map(|set| [set.genes.as_slice(), set.controls.as_slice()]).collect();
        let mut offsets = vec![0; n_vars + 1];
        for &gene in lists.iter().copied().flatten() {
            if gene >= n_vars {
                return Err(Error::InvalidInput {
                    argument: "gene_sets",
                    message: format!("gene {} lies outside the {n_vars} genes", gene + 1),
                });
            }
            offsets[gene + 1] += 1;
        }
        for gene in 0..n_vars {
            offsets[gene + 1] += offsets[gene];
        }
        let mut next = offsets.clone();
        let mut slots = vec![0; offsets[n_vars]];
        for (slot, genes) in lists.iter().enumerate() {
            for &gene in *genes {
                slots[next[gene]] = slot as u32;
                next[gene] += 1;
            }
        }
        let sizes = lists.iter().map(|genes| genes.len()).collect();
        Ok(SetScorePass { offsets, slots, sizes })
    }

    /// The scores of `n_obs` rows in the view's order, one vector a set.
    #[must_use]
    pub fn finish(&self, piece: &SetScorePiece, n_obs: usize) -> Vec<Vec<f64>> {
        let n_sets = self.sizes.len() / 2;
        let mut scores = vec![vec![f64::NAN; n_obs]; n_sets];
        for (&row, of_row) in piece.rows.iter().zip(piece.scores.chunks(n_sets.max(1))) {
            for (set, score) in scores.iter_mut().zip(of_row) {
                set[row] = *score;
            }
        }
        scores
    }
}

impl Pass for SetScorePass {
    type Partial = SetScorePiece;

    fn empty(&self) -> SetScorePiece {
        SetScorePiece::default()
    }

    fn fold(&self, block: &RowBlock, partial: &mut SetScorePiece) -> Result<()> {
        let mut sums = vec![0.0; self.sizes.len()];
        let mut present = self.sizes.clone();
        for (r, &row) in block.rows.iter().enumerate() {
            sums.fill(0.0);
            present.copy_from_slice(&self.sizes);
            let (columns, values) = block.row(r);
            for (&column, &value) in columns.iter().zip(values) {
                let gene = column as usize;
                for &slot in &self.slots[self.offsets[gene]..self.offsets[gene + 1]] {
                    if value.is_nan() {
                        present[slot as usize] -= 1;
                    } else {
                        sums[slot as usize] += value;
                    }
                }
            }
            let mean = |slot: usize| sums[slot] / present[slot] as f64;
            let n_sets = sums.len() / 2;
            partial.scores.extend((0..n_sets).map(|set| mean(2 * set) - mean(2 * set + 1)));
            partial.rows.push(row);
        }
        Ok(())
    }

    fn merge(&self, into: &mut SetScorePiece, mut from: SetScorePiece) {
        into.rows.append(&mut from.rows);
        into.scores.append(&mut from.scores);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::testing::Matrix;
    use crate::pass::testing::{run_every_way, run_every_way_in};
    use crate::transform::{Chain, View};

    fn mean(row: &[f64], genes: &[usize]) -> f64 {
        let values: Vec<f64> = genes.iter().map(|&g| row[g]).filter(|x| !x.is_nan()).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn sets() -> Vec<ScoredSet> {
        vec![
            ScoredSet { genes: vec![0, 3, 5], controls: vec![1, 2, 19] },
            ScoredSet { genes: vec![3], controls: vec![0, 4, 6, 7, 8] },
            ScoredSet { genes: vec![19, 2], controls: vec![3] },
        ]
    }

    #[test]
    fn scores_are_differences_of_means() {
        let mut matrix = Matrix::counts(70, 20, 4);
        matrix.set(5, 3, f64::NAN);
        matrix.set(6, 4, f64::NAN);
        let pass = SetScorePass::new(20, &sets()).unwrap();
        let found = pass.finish(&run_every_way(&matrix, &pass), 70);
        assert_eq!(found.len(), 3);
        for (set, scores) in sets().iter().zip(&found) {
            for (row, score) in matrix.dense.iter().zip(scores) {
                let want = mean(row, &set.genes) - mean(row, &set.controls);
                assert!((score - want).abs() < 1e-12 || score.is_nan() && want.is_nan());
            }
        }
        // All that the second set has is missing in cell 5.
        assert!(found[1][5].is_nan() && !found[0][5].is_nan());
    }

    #[test]
    fn repeated_and_reordered_rows() {
        let matrix = Matrix::counts(30, 20, 4);
        let rows = [7, 7, 29, 0, 7];
        let view = View::new(30, 20, Some(&rows), &Chain::default()).unwrap();
        let pass = SetScorePass::new(20, &sets()).unwrap();
        let found = pass.finish(&run_every_way_in(&matrix, &view, &pass), 5);
        for (score, &row) in found[0].iter().zip(&rows) {
            let row = &matrix.dense[row];
            assert!((score - (mean(row, &[0, 3, 5]) - mean(row, &[1, 2, 19]))).abs() < 1e-12);
        }
        assert_eq!(found[2][0].to_bits(), found[2][4].to_bits());
    }

    #[test]
    fn no_sets_and_genes_that_are_not_there() {
        let pass = SetScorePass::new(3, &[]).unwrap();
        assert!(pass.finish(&run_every_way(&Matrix::counts(5, 3, 1), &pass), 5).is_empty());
        let outside = ScoredSet { genes: vec![3], controls: vec![0] };
        assert!(SetScorePass::new(3, &[outside]).is_err());
    }
}
