//! The lazy chain: what happens to a block between the file and a pass.
//!
//! A [`View`] is a selection of rows and a [`Chain`] of operations, each a pure
//! function of one row. Whatever an operation needs to know of other rows (a
//! median of totals, a standard deviation) has been computed before and is part
//! of it. Hence a chain gives the same bits on any block, thread or process.

mod chain;
mod log1p;
mod normalize;
mod scale;
mod subset;

pub use chain::{Chain, Op, View, ViewScratch};
pub(crate) use log1p::{RowLog, RowTable};
pub use scale::ScaleGenes;
