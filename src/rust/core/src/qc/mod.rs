//! Quality control: what one read of the matrix says about cells, genes and
//! values.
//!
//! [`QcPass`] gives the metrics of cells and genes together, [`TotalsPass`] and
//! [`HighlyExpressedPass`] what normalisation needs, [`CheckPass`] what the
//! values look like. All are small passes: 32 bytes per gene and worker, and the
//! result's columns per cell.

mod check;
mod metrics;
mod row;
mod small_counts;
mod totals;

pub use check::{CheckPartial, CheckPass, Finding, Place, ValueCheck, check_first_block};
pub use metrics::{
    CellBounds, CellMetrics, GeneMetrics, GeneSets, KeptCounts, QcMetrics, QcPartial, QcPass,
};
pub use totals::{HighlyExpressedPass, TotalsPartial, TotalsPass, nonzero_median};
