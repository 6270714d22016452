//! Scores of gene sets: the mean of a set's genes in each cell less the mean of
//! control genes of like expression.
//!
//! 1. Means of the genes, in one pass or known before ([`GeneMeansPass`]).
//! 2. Genes fall into bins by their mean, controls are drawn from the bins of a set's
//!    genes ([`Bins`]). No pass.
//! 3. Any number of sets in one pass ([`SetScorePass`]).
//!
//! Memory: 16 bytes a gene for each partial of the means; 16 bytes a cell for each set.
//!
//! References: Tirosh et al. (2016) Science 352, 189; scanpy 1.11.5
//! `tools/_score_genes.py`; Seurat 4.3 `AddModuleScore()`.

mod controls;
mod means;
mod sets;

pub use controls::{Bins, Controls};
pub use means::{GeneMeans, GeneMeansPass};
pub use sets::{ScoredSet, SetScorePass, SetScorePiece};
