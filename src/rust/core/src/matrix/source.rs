//! Where row blocks come from: an element of an `.h5ad`, or a matrix in memory.

use super::block::RowBlock;
use super::grid::Grid;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::h5ad::filters::Inflater;

/// A matrix of cells (rows) by genes (columns) that can be read in row blocks.
///
/// Duties of an implementer:
/// 1. The grid of [`extent`](Source::extent) follows from the matrix alone.
/// 2. A [`Reader`] lives on the coordinating thread and is the only one to touch
///    libhdf5; it is made anew for each pass and holds no identifier longer.
/// 3. What it fetches is decoded on any thread; blocks are fetched in increasing
///    order within a run, and runs beside each other unless the source
///    [asks for order](Source::reads_in_order); some may be left out.
/// 4. Bytes that do not make a matrix are errors, never panics.
pub trait Source: Send + Sync {
    /// How large the matrix is and how it is cut.
    fn extent(&self) -> &Extent;
    /// Opens the matrix for one sweep over some of its blocks.
    ///
    /// # Errors
    /// When the file changed or can't be read.
    fn reader<'a>(&'a self, ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>>;
    /// How often a full sweep reads the stored bytes within `memory_bytes`; one
    /// but for layouts that must be turned around piece by piece.
    fn reads_per_sweep(&self, memory_bytes: u64) -> usize {
        let _ = memory_bytes;
        1
    }
    /// Whether all blocks have to be fetched in increasing order, for a source
    /// that would read the file anew to go back; its fetched blocks must be small.
    fn reads_in_order(&self) -> bool {
        false
    }
    /// Stored values, where the source knows.
    fn nnz(&self) -> Option<u64> {
        None
    }
    /// Number of rows (observations, cells).
    fn n_obs(&self) -> usize {
        self.extent().n_obs
    }
    /// Number of columns (variables, genes).
    fn n_vars(&self) -> usize {
        self.extent().n_vars
    }
    /// The grid of ranges and blocks.
    fn grid(&self) -> &Grid {
        &self.extent().grid
    }
}

/// How large a matrix is and how it is cut into ranges and blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    n_obs: usize,
    n_vars: usize,
    grid: Grid,
}

impl Extent {
    /// So many rows and columns, cut by `grid`.
    #[must_use]
    pub fn new((n_obs, n_vars): (usize, usize), grid: Grid) -> Self {
        Extent { n_obs, n_vars, grid }
    }
}

/// One sweep over a source, on the coordinating thread.
pub trait Reader<'a> {
    /// Gets what block `block` needs, still encoded.
    ///
    /// # Errors
    /// When the bytes can't be read.
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>>;
}

/// An encoded block on its way to a worker.
pub trait Fetched: Send {
    /// Decodes all rows of the block and hands them to `emit` in order, in slabs
    /// of whole rows with about `slab_values` entries each, with their row
    /// numbers in the file. Slabs are built in `slab`, whose buffers are reused.
    ///
    /// # Errors
    /// When the bytes make no matrix, and what `emit` reports.
    fn decode(
        self: Box<Self>,
        scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()>;
}

/// Takes a slab.
pub type Emit<'e> = dyn FnMut(&mut RowBlock) -> Result<()> + 'e;

/// What a worker keeps between blocks.
#[derive(Default)]
pub struct Scratch {
    /// Decompressors and their spare buffer.
    pub inflater: Inflater,
    /// Decoded bytes of a chunk of values.
    pub data: Vec<u8>,
    /// Decoded bytes of a chunk of indices.
    pub indices: Vec<u8>,
}
