//! The lazy chain: what happens to a block between the file and a pass.
//!
//! A [`View`] is a selection of rows and a [`Chain`] of operations, each a pure
//! function of one row. Whatever an operation needs to know of other rows (a
//! median of totals, a standard deviation) has been computed before and is part
//! of it. Hence a chain gives the same bits on any block, thread or process.
//!
//! The chain is sparse up to the first operation of [`dense`], from where rows have all
//! their genes. What is packed into memory is the sparse part.

mod chain;
mod dense;
mod downsample;
mod log1p;
mod normalize;
mod scale;
mod subset;

pub use chain::{Chain, Op, View, ViewScratch};
pub use dense::{Adjust, PearsonResiduals};
pub use downsample::{Downsample, split_total};
pub(crate) use log1p::{RowLog, RowTable, USUAL};
pub use scale::ScaleGenes;
