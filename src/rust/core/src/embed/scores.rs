//! Projecting rows on loadings.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::matrix::RowBlock;
use crate::pass::Pass;

/// Projects every row of a view: `score = s V - shift`, where `s` is the sparse
/// part of the row.
#[derive(Debug, Clone)]
pub struct ScorePass {
    n_vars: usize,
    n_comps: usize,
    /// Loadings of each gene, gene by gene.
    by_gene: Vec<f64>,
    shift: Vec<f64>,
}

/// Scores of some rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ScorePiece {
    rows: Vec<usize>,
    scores: Vec<f64>,
}

impl ScorePass {
    /// `loadings` holds the components one after the other, `n_vars` values
    /// each; `sums` are the sums of the sparse part over `n_obs` rows, which
    /// centre the scores.
    #[must_use]
    pub fn new(loadings: &[f64], n_vars: usize, sums: &[f64], n_obs: usize) -> Self {
        let n_comps = loadings.len().checked_div(n_vars).unwrap_or(0);
        let mut by_gene = vec![0.0; loadings.len()];
        let mut shift = vec![0.0; n_comps];
        for (k, component) in loadings.chunks(n_vars.max(1)).enumerate() {
            for (gene, &loading) in component.iter().enumerate() {
                by_gene[gene * n_comps + k] = loading;
                shift[k] += loading * (sums[gene] / n_obs as f64);
            }
        }
        ScorePass { n_vars, n_comps, by_gene, shift }
    }

    /// The scores of `n_obs` rows in the view's order, component by component.
    #[must_use]
    pub fn finish(&self, piece: &ScorePiece, n_obs: usize) -> Vec<f64> {
        let mut scores = vec![0.0; n_obs * self.n_comps];
        if self.n_comps > 0 {
            for (&row, values) in piece.rows.iter().zip(piece.scores.chunks(self.n_comps)) {
                for (k, &value) in values.iter().enumerate() {
                    scores[k * n_obs + row] = value;
                }
            }
        }
        scores
    }
}

impl Pass for ScorePass {
    type Partial = ScorePiece;

    fn empty(&self) -> ScorePiece {
        ScorePiece::default()
    }

    fn fold(&self, block: &RowBlock, partial: &mut ScorePiece) -> Result<()> {
        debug_assert!(block.indices.iter().all(|&c| (c as usize) < self.n_vars));
        for (r, &row) in block.rows.iter().enumerate() {
            let start = partial.scores.len();
            partial.scores.extend(self.shift.iter().map(|shift| -shift));
            let into = &mut partial.scores[start..];
            let (columns, values) = block.row(r);
            for (&column, &value) in columns.iter().zip(values) {
                let loadings = &self.by_gene[column as usize * self.n_comps..][..self.n_comps];
                for (score, loading) in into.iter_mut().zip(loadings) {
                    *score += value * loading;
                }
            }
            partial.rows.push(row);
        }
        Ok(())
    }

    fn merge(&self, into: &mut ScorePiece, mut from: ScorePiece) {
        into.rows.append(&mut from.rows);
        into.scores.append(&mut from.scores);
    }
}
