//! Passes: every scan is fold, merge, finish.
//!
//! A [`Pass`] folds rows into partials. A run of blocks (one, or more where the
//! partial is large) starts with an empty partial and is folded slab by slab on
//! one worker; runs are merged in order into their range, ranges from left to
//! right. Runs depend on the grid and the size of the partial alone, so one
//! thread, many threads and processes that take whole ranges give the same
//! bits. A [`TiledPass`] has a partial too large to have several of; its threads
//! share one per range by owning disjoint tiles of it, each folded in block
//! order.
//!
//! Memory: per worker three blocks' encoded chunks and a decoded slab, about
//! 30 MB; partials of runs in work or waiting for their turn, two per thread;
//! for tiled passes up to two decoded blocks per thread, one partial per range
//! in work and the total.

mod bytes;
mod executor;
mod pack;
mod stream;

use serde::{Serialize, de::DeserializeOwned};

pub use bytes::{from_bytes, to_bytes};
pub(crate) use bytes::{partial_body, partial_header};
pub use executor::{merge_partials, run, run_ranges, run_tiled, run_tiled_ranges};
pub use pack::pack;
pub use stream::{stream, stream_slabs};

use crate::error::Result;
use crate::matrix::RowBlock;

/// A scan whose partial is small enough to have a few per thread.
///
/// Duties of an implementer:
/// 1. An [`empty`](Pass::empty) partial is neutral for [`merge`](Pass::merge).
/// 2. `merge` is called with partials in file order; it may concatenate.
/// 3. `fold` sees the slabs of a run in order; how rows are cut into slabs must not
///    show in the result.
/// 4. What a pass writes per row goes by [`RowBlock::rows`], the position in the
///    view, not by the order of folding.
pub trait Pass: Sync {
    /// What a run or a range comes to.
    type Partial: Send + Serialize + DeserializeOwned;

    /// The neutral partial.
    fn empty(&self) -> Self::Partial;
    /// Size of a partial, about; decides how many blocks share one.
    fn partial_bytes(&self) -> usize {
        0
    }
    /// Adds the rows of a slab.
    ///
    /// # Errors
    /// When the values are not what the pass needs.
    fn fold(&self, block: &RowBlock, partial: &mut Self::Partial) -> Result<()>;
    /// Adds `from`, which comes later in the file.
    fn merge(&self, into: &mut Self::Partial, from: Self::Partial);
}

/// A scan whose partial is shared by the threads, tile by tile.
///
/// Duties of an implementer:
/// 1. Tiles are disjoint and their number does not depend on threads.
/// 2. `fold` of tile `t` reads of the block only what belongs to `t`, in the
///    block's order.
/// 3. An empty tile is neutral for `merge`.
pub trait TiledPass: Sync {
    /// One tile of the partial.
    type Tile: Send + Serialize + DeserializeOwned;

    /// Number of tiles.
    fn n_tiles(&self) -> usize;
    /// Neutral tile `tile`.
    fn empty(&self, tile: usize) -> Self::Tile;
    /// Adds what of the block belongs to tile `tile`.
    ///
    /// # Errors
    /// When the values are not what the pass needs.
    fn fold(&self, block: &RowBlock, tile: usize, partial: &mut Self::Tile) -> Result<()>;
    /// Adds `from`, which comes later in the file.
    fn merge(&self, tile: usize, into: &mut Self::Tile, from: Self::Tile);
}

#[cfg(test)]
pub(crate) mod testing;
