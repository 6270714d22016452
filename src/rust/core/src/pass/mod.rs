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
//! for tiled passes 24 MB of decoded blocks per thread, one partial per range
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
pub(crate) use stream::{SLAB_VALUES, stream_runs};
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
/// 2. `hold` keeps of a block what tiles need, however its rows are cut into slabs.
/// 3. `fold` of tile `t` reads of it only what belongs to `t`, in an order that
///    follows from the block alone.
/// 4. An empty tile is neutral for `merge`.
pub trait TiledPass: Sync {
    /// One tile of the partial.
    type Tile: Send + Serialize + DeserializeOwned;
    /// What waits of a block until every tile has taken it.
    type Held: Held;

    /// Entries, about, of the slabs of sparse rows that `hold` gets; without a bound it
    /// gets each block once.
    const SLAB_VALUES: usize = usize::MAX;

    /// Number of tiles.
    fn n_tiles(&self) -> usize;
    /// Neutral tile `tile`.
    fn empty(&self, tile: usize) -> Self::Tile;
    /// Keeps the rows of a slab, behind those of the slabs of the block before it. The slab
    /// may be exchanged for another block.
    fn hold(&self, slab: &mut RowBlock, held: &mut Self::Held);
    /// Adds what of the block belongs to tile `tile`.
    ///
    /// # Errors
    /// When the values are not what the pass needs.
    fn fold(&self, held: &Self::Held, tile: usize, partial: &mut Self::Tile) -> Result<()>;
    /// Adds `from`, which comes later in the file and is not used again but for its memory.
    fn merge(&self, tile: usize, into: &mut Self::Tile, from: &mut Self::Tile);
    /// Makes a used tile neutral again; its memory may stay.
    fn reset(&self, tile: usize, partial: &mut Self::Tile) {
        *partial = self.empty(tile);
    }
}

/// What a [`TiledPass`] keeps of a block.
pub trait Held: Default + Send + Sync {
    /// Empties it, keeping its memory.
    fn clear(&mut self);
    /// Bytes that it takes.
    fn bytes(&self) -> usize;
}

/// The block itself, for passes that take it whole: their `hold` is a swap.
impl Held for RowBlock {
    fn clear(&mut self) {
        RowBlock::clear(self);
    }

    fn bytes(&self) -> usize {
        RowBlock::bytes(self)
    }
}

#[cfg(test)]
pub(crate) mod testing;
