//! Projecting rows on loadings.

use ndarray::{Array2, ArrayView1, ArrayView2, ShapeBuilder};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::matrix::RowBlock;
use crate::pass::Pass;
use crate::transform::View;

/// Projects every row of a view: `score = s V - shift`, where `s` is the sparse
/// part of the row.
#[derive(Debug, Clone)]
pub struct ScorePass {
    /// Loadings, one row per gene.
    by_gene: Array2<f64>,
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
    ///
    /// # Panics
    /// Unless `loadings` holds whole components.
    #[must_use]
    pub fn new(loadings: &[f64], n_vars: usize, sums: &[f64], n_obs: usize) -> Self {
        let n_comps = loadings.len().checked_div(n_vars).unwrap_or(0);
        let by_gene = ArrayView2::from_shape((n_vars, n_comps).f(), loadings)
            .expect("loadings of whole components")
            .as_standard_layout()
            .into_owned();
        let mut shift = vec![0.0; n_comps];
        for (loadings, sum) in by_gene.rows().into_iter().zip(sums) {
            for (shift, loading) in shift.iter_mut().zip(loadings) {
                *shift += loading * (sum / n_obs as f64);
            }
        }
        ScorePass { by_gene, shift }
    }

    /// As [`ScorePass::new`], centred at a point given: the mean of each gene of other
    /// rows, standardised as those of `view`.
    ///
    /// # Panics
    /// Unless `loadings` holds whole components.
    #[must_use]
    pub fn around(loadings: &[f64], view: &View, center: &[f64]) -> Self {
        let sparse: Vec<f64> = match view.background() {
            None => center.to_vec(),
            Some(zeros) => center.iter().zip(zeros).map(|(mean, zero)| mean - zero).collect(),
        };
        ScorePass::new(loadings, view.n_vars(), &sparse, 1)
    }

    /// The scores of `n_obs` rows in the view's order, component by component.
    #[must_use]
    pub fn finish(&self, piece: &ScorePiece, n_obs: usize) -> Vec<f64> {
        let n_comps = self.shift.len();
        let mut scores = Array2::zeros((n_obs, n_comps).f());
        for (&row, values) in piece.rows.iter().zip(piece.scores.chunks(n_comps.max(1))) {
            scores.row_mut(row).assign(&ArrayView1::from(values));
        }
        scores.into_raw_vec_and_offset().0
    }
}

impl Pass for ScorePass {
    type Partial = ScorePiece;

    fn empty(&self) -> ScorePiece {
        ScorePiece::default()
    }

    fn fold(&self, block: &RowBlock, partial: &mut ScorePiece) -> Result<()> {
        debug_assert!(block.indices.iter().all(|&c| (c as usize) < self.by_gene.nrows()));
        for (r, &row) in block.rows.iter().enumerate() {
            let start = partial.scores.len();
            partial.scores.extend(self.shift.iter().map(|shift| -shift));
            let into = &mut partial.scores[start..];
            let (columns, values) = block.row(r);
            for (&column, &value) in columns.iter().zip(values) {
                let loadings = self.by_gene.row(column as usize);
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
