//! The graph of neighbouring cells, and what follows from it alone.
//!
//! Everything here works on an embedding of `n` cells in few dimensions, or on a
//! graph of `n` cells with about `k` edges each. Nothing reads the file. Memory is
//! `8 n d` bytes for the embedding and about `40 n k` for a graph.
//!
//! What threads do is cut by cell, and no sum goes over a border: results are the
//! same bits for any number of threads.

mod community;
mod components;
mod connectivities;
mod diffusion;
mod knn;
mod neighbors;
mod paga;
mod points;
mod sparse;
mod spectrum;
mod transfer;
mod transitions;
mod umap;
mod union;

pub use community::{Method, Network, Objective, check_graph, communities, modularity};
pub use components::{components, components_of};
pub use connectivities::{Kernel, Local, connectivities};
pub use diffusion::{DiffusionMap, diffusion_map, diffusion_pseudotime};
pub use knn::{count_neighbors, exact_neighbors, nearest_among, ranked_neighbors};
pub use neighbors::Neighbors;
pub use paga::{Paga, paga};
pub use points::{Metric, Points};
pub use sparse::Sparse;
pub use transfer::{Vote, Votes, vote};
pub use transitions::{Density, Transitions};
pub use umap::{Curve, Descent, Table, umap_layout, umap_place};
pub use union::{ByNeighbor, Positions, without_zeros};
