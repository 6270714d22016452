//! The `.h5ad` format: what is in a file, and its bytes.

pub mod filters;
pub mod raw;
