//! Quality control: what one read of the matrix says about cells, genes and
//! values.
//!
//! [`QcPass`] gives the metrics of cells and genes together, [`MomentsPass`]
//! means and variances of genes for any chain, [`TotalsPass`] and
//! [`HighlyExpressedPass`] what normalisation needs, [`CheckPass`] what the
//! values look like. All are small passes: 32 bytes per gene and worker, and the
//! result's columns per cell.

mod check;
mod metrics;
mod moments;
mod row;
mod small_counts;
mod totals;

pub use check::{CheckPartial, CheckPass, Finding, Place, ValueCheck, check_first_block};
pub use metrics::{CellMetrics, GeneMetrics, GeneSets, QcMetrics, QcPartial, QcPass};
pub use moments::{GeneMoments, MomentsPartial, MomentsPass};
pub use totals::{HighlyExpressedPass, TotalsPartial, TotalsPass, nonzero_median};

use crate::error::{Error, Result};
use crate::stats::moments::{MeanVar, Moments};

/// Adds per-gene accumulators; an empty vector is neutral.
fn merge_genes(into: &mut Vec<Moments>, from: Vec<Moments>) {
    if into.is_empty() {
        *into = from;
        return;
    }
    for (gene, other) in into.iter_mut().zip(from) {
        gene.merge(&other);
    }
}

/// Mean and variance of every gene over `n_obs` cells.
fn summarize(genes: &[Moments], n_obs: usize, n_vars: usize) -> Result<Vec<MeanVar>> {
    if let Some(gene) = genes.iter().position(|g| g.n() > n_obs as u64) {
        return Err(Error::InvalidValues {
            message: format!(
                "gene {} has several stored values in one cell; sum the duplicates first",
                gene + 1
            ),
        });
    }
    let none = Moments::default();
    Ok((0..n_vars).map(|gene| genes.get(gene).unwrap_or(&none).with_zeros(n_obs as u64)).collect())
}
