//! The engine of scoom: single-cell analysis out of memory, without R.
//!
//! Layers, each using only those before it: `stats` (numerics), `h5ad` (the
//! file format), `matrix` (sources of row blocks), `transform` (the lazy
//! chain), `pass` (folding the blocks), and the algorithms.

pub mod adjust;
pub mod collect;
pub mod ctx;
pub mod de;
pub mod doublets;
pub mod embed;
pub mod error;
pub mod graph;
pub mod h5ad;
pub mod hvg;
pub mod matrix;
pub mod pass;
pub mod qc;
pub mod score;
pub mod stats;
pub mod summary;
pub mod transform;
