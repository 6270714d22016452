//! UMAP: a layout of cells in few dimensions (arXiv:1802.03426), after umap-learn 0.5.
//!
//! 1. [`Curve`]: how near points are that lie at some distance in the layout;
//! 2. `fuzzy`: how strongly neighbours belong together, from their distances;
//! 3. `start`: where points begin;
//! 4. `descent`: attraction along edges, repulsion from cells drawn at random, by `forces`.
//!
//! `transform` places further cells in a layout that stays as it is.
//!
//! Memory: at most `n (20 k + 12)` bytes for n cells with k neighbours while the graph is made,
//! and `n (12 k + 8 D' + 4 D)` in the descent, with D' the next of 2, 4, 16, 64 dimensions.

mod curve;
mod descent;
mod forces;
mod fuzzy;
mod start;
mod transform;

pub use curve::Curve;
pub use fuzzy::Table;
pub use transform::umap_place;

use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Epochs up to which edges are dropped as if there were the default number.
const FEW_EPOCHS: usize = 10;

/// How the descent goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descent {
    /// The curve that the layout shall follow.
    pub curve: Curve,
    /// Rounds over all edges; `None` for 500 up to 10,000 cells and 200 beyond, and for
    /// 100 and 30 where cells are placed among others.
    pub n_epochs: Option<usize>,
    /// The first epoch's share of a gradient that points move by. It falls linearly.
    pub learning_rate: f64,
    /// Cells that repel one for each edge that attracts it.
    pub negative_samples: usize,
    /// The weight of repulsion.
    pub repulsion: f64,
    /// What random draws depend on.
    pub seed: u64,
}

/// Spreads the points `start`, the dimensions of all cells one after the other, and moves them
/// so that neighbours come together.
///
/// # Numerics
/// The same bits for any number of threads; of the machine's functions only those
/// that give the memberships count.
///
/// # Errors
/// [`Error::InvalidInput`] for a start that is not one finite point for each cell, or more
/// than 64 dimensions, and when `ctx` stops.
pub fn umap_layout(
    neighbors: Table,
    start: &[f64],
    n_dims: usize,
    how: &Descent,
    ctx: &Ctx,
) -> Result<Vec<f64>> {
    let n = neighbors.len();
    if start.len() != n * n_dims || start.iter().any(|x| !x.is_finite()) {
        return Err(Error::InvalidInput {
            argument: "init",
            message: format!("the start is not {n} finite points in {n_dims} dimensions"),
        });
    }
    let default_epochs = if n <= 10_000 { 500 } else { 200 };
    let n_epochs = how.n_epochs.unwrap_or(default_epochs);
    let dropping = if n_epochs > FEW_EPOCHS { n_epochs } else { default_epochs };
    let graph = fuzzy::Fuzzy::new(neighbors, dropping, descent::n_blocks(n), ctx)?;
    let start = start::spread(start, n, how.seed);
    // Dimensions that are not there are zero for all cells, and stay so.
    match n_dims {
        0..=2 => descent::run::<2>(&graph, &start, n_dims, n_epochs, how, ctx),
        3..=4 => descent::run::<4>(&graph, &start, n_dims, n_epochs, how, ctx),
        5..=16 => descent::run::<16>(&graph, &start, n_dims, n_epochs, how, ctx),
        17..=64 => descent::run::<64>(&graph, &start, n_dims, n_epochs, how, ctx),
        _ => Err(Error::InvalidInput {
            argument: "n_components",
            message: format!("a layout has at most 64 dimensions, not {n_dims}"),
        }),
    }
}
