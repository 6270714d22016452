//! Matrices as streams of row blocks.
//!
//! A [`Source`] says how large a matrix is and how it is cut into blocks; its
//! reader fetches encoded blocks on the coordinating thread, workers decode
//! them. Sparse rows, sparse columns, dense arrays on disk and matrices in
//! memory all come out as [`RowBlock`]s, so that every pass runs on each of them.

pub mod block;
pub mod chunks;
pub(crate) mod compressed;
pub mod csc;
pub mod csr;
pub mod dense;
pub mod grid;
pub mod location;
pub mod memory;
pub mod open;
pub mod packed;
pub mod source;

pub use block::RowBlock;
pub use grid::{Grid, GridSpec};
pub use location::{Location, Opener};
pub use open::{open_matrix, open_matrix_with};
pub use source::{Emit, Extent, Fetched, Reader, Scratch, Source};

#[cfg(test)]
pub(crate) mod testing;
