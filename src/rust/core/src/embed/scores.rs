//! Projecting rows on loadings.

use std::sync::{Mutex, PoisonError};

use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::error::Result;
use crate::matrix::{RowBlock, Source};
use crate::pass::{Pass, stream_slabs};
use crate::transform::View;

/// Components whose sums are in registers at a time.
const STRIP: usize = 16;

/// Rows whose scores are put in their places at a time.
const ROWS: usize = 64;

/// Projects every row of a view: `score = s V - shift`, where `s` is the sparse
/// part of the row.
#[derive(Debug, Clone)]
pub struct ScorePass {
    /// Loadings of some components, gene by gene, then of the next.
    strips: Vec<[f64; STRIP]>,
    shift: Vec<f64>,
    n_vars: usize,
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
        assert_eq!(n_comps * n_vars, loadings.len(), "loadings of whole components");
        let mut strips = vec![[0.0; STRIP]; n_comps.div_ceil(STRIP) * n_vars];
        let mut shift = vec![0.0; n_comps];
        for (k, component) in loadings.chunks(n_vars.max(1)).enumerate() {
            let strip = &mut strips[k / STRIP * n_vars..][..n_vars];
            for (genes, &loading) in strip.iter_mut().zip(component) {
                genes[k % STRIP] = loading;
            }
            for (loading, sum) in component.iter().zip(sums) {
                shift[k] += loading * (sum / n_obs as f64);
            }
        }
        ScorePass { strips, shift, n_vars }
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
        let mut scores = vec![0.0; n_obs * self.shift.len()];
        self.place(piece, &mut scores, n_obs);
        scores
    }

    /// As [`finish`](Self::finish), of all rows of the view that the loadings belong to.
    ///
    /// Memory: the scores, once.
    ///
    /// # Errors
    /// As [`stream_slabs`].
    pub fn of_rows(
        &self,
        source: &dyn Source,
        view: &View,
        ctx: &Ctx,
        stage: &str,
    ) -> Result<Vec<f64>> {
        let n_obs = view.n_obs();
        let scores = Mutex::new(vec![0.0; n_obs * self.shift.len()]);
        stream_slabs(source, view, ctx, stage, |slab| {
            let mut piece = ScorePiece::default();
            self.fold(slab, &mut piece)?;
            let mut scores = scores.lock().unwrap_or_else(PoisonError::into_inner);
            self.place(&piece, &mut scores, n_obs);
            Ok(())
        })?;
        Ok(scores.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn place(&self, piece: &ScorePiece, scores: &mut [f64], n_obs: usize) {
        let n_comps = self.shift.len();
        if n_comps == 0 {
            return;
        }
        // So few rows at a time that they stay in the nearest cache.
        let pieces = piece.scores.chunks(ROWS * n_comps);
        for (rows, values) in piece.rows.chunks(ROWS).zip(pieces) {
            for (k, column) in scores.chunks_exact_mut(n_obs).enumerate() {
                for (&row, values) in rows.iter().zip(values.chunks_exact(n_comps)) {
                    column[row] = values[k];
                }
            }
        }
    }
}

impl Pass for ScorePass {
    type Partial = ScorePiece;

    fn empty(&self) -> ScorePiece {
        ScorePiece::default()
    }

    fn fold(&self, block: &RowBlock, partial: &mut ScorePiece) -> Result<()> {
        let start = partial.scores.len();
        partial.scores.resize(start + block.n_rows() * self.shift.len(), 0.0);
        let scores = &mut partial.scores[start..];
        Arch::new().dispatch(Project { pass: self, block, scores });
        partial.rows.extend_from_slice(&block.rows);
        Ok(())
    }

    fn merge(&self, into: &mut ScorePiece, mut from: ScorePiece) {
        into.rows.append(&mut from.rows);
        into.scores.append(&mut from.scores);
    }
}

/// Writes the scores of the rows of a block, row by row.
struct Project<'a> {
    pass: &'a ScorePass,
    block: &'a RowBlock,
    scores: &'a mut [f64],
}

impl WithSimd for Project<'_> {
    type Output = ();

    // Every score is added up in the order of its row, product by product, with any registers.
    #[allow(clippy::inline_always)] // Or it is not compiled with the features of the processor.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Project { pass, block, scores } = self;
        let (n_comps, n_vars) = (pass.shift.len(), pass.n_vars);
        let mut first = 0;
        while first < n_comps {
            let strip = &pass.strips[first / STRIP * n_vars..][..n_vars];
            let width = STRIP.min(n_comps - first);
            let mut shift = [0.0; STRIP];
            let mut k = 0;
            while k < width {
                shift[k] = -pass.shift[first + k];
                k += 1;
            }
            let mut r = 0;
            while r < block.n_rows() {
                let (columns, values) = block.row(r);
                let mut sums = shift;
                let mut at = 0;
                while at < columns.len() && at < values.len() {
                    let (loadings, value) = (&strip[columns[at] as usize], values[at]);
                    let mut k = 0;
                    while k < STRIP {
                        sums[k] += value * loadings[k];
                        k += 1;
                    }
                    at += 1;
                }
                scores[r * n_comps + first..][..width].copy_from_slice(&sums[..width]);
                r += 1;
            }
            first += STRIP;
        }
    }
}
