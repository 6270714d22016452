//! Dense arrays on disk, contiguous or chunked in any two-dimensional tiles.
//!
//! A block is a band of whole rows. Where chunks hold whole bands, workers
//! inflate them; a chunk that two bands share is decoded by libhdf5, once where a
//! row of such chunks fits half the budget, for each band anew where not.
//! Memory: per worker a band of about 2^20 numbers
//! in the file's type, once more in float64 without its zeros.

use std::ops::Range;
use std::sync::Arc;

use super::block::RowBlock;
use super::chunks::check_chunks;
use super::compressed::ENTRY_BYTES;
use super::grid::{Grid, GridSpec};
use super::location::Location;
use super::memory::{append_nonzero, emit_dense};
use super::source::{Emit, Extent, Fetched, Reader, Scratch, Source};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::h5ad::raw::RawArray;

/// An `array` element of a file, cells in rows.
pub struct DenseSource {
    location: Location,
    extent: Extent,
}

impl DenseSource {
    /// Opens the element and lays a grid that respects its chunks.
    ///
    /// # Errors
    /// When it is no two-dimensional array of numbers of this shape.
    pub fn new(location: Location, shape: (usize, usize), spec: &GridSpec) -> Result<Self> {
        let array = location.array(&location.open()?)?;
        if array.dims != [shape.0 as u64, shape.1 as u64] {
            return Err(array.corrupt(format!(
                "its dimensions are {:?} where {} x {} are expected",
                array.dims, shape.0, shape.1
            )));
        }
        array.check_claim(1 << 20)?;
        let band = array.chunk.as_ref().map_or(1, |c| c[0] as usize).clamp(1, shape.0.max(1));
        let grid = Grid::banded(shape.0, shape.1 as u64, band, spec);
        Ok(DenseSource { location, extent: Extent::new(shape, grid) })
    }
}

impl Source for DenseSource {
    fn extent(&self) -> &Extent {
        &self.extent
    }

    fn reader<'a>(&'a self, ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
        let file = self.location.open()?;
        let mut array = self.location.array(&file)?;
        if array.dims != [self.n_obs() as u64, self.n_vars() as u64] {
            return Err(self.location.changed());
        }
        check_chunks(self.location.element(), &[&array], ctx)?;
        if let Some(&[height, width]) = array.chunk.as_deref() {
            let is_cut = |b| self.grid().rows(b).start as u64 % height != 0;
            // A row of tiles that several bands share is decoded once if it fits.
            let tiles = (self.n_vars() as u64).div_ceil(width);
            let bytes = tiles.saturating_mul(array.chunk_bytes());
            if bytes <= ctx.memory_bytes() / 2 && (0..self.grid().n_blocks()).any(is_cut) {
                array = array.with_cache(bytes)?;
            }
        }
        Ok(Box::new(DenseReader { source: self, ctx, array: Arc::new(array), _file: file }))
    }
}

struct DenseReader<'a> {
    source: &'a DenseSource,
    ctx: &'a Ctx<'a>,
    array: Arc<RawArray>,
    _file: hdf5_metno::File,
}

impl<'a> Reader<'a> for DenseReader<'a> {
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
        let rows = self.source.grid().rows(block);
        let n_vars = self.source.n_vars() as u64;
        let width = self.array.dtype.bytes() as u64 + ENTRY_BYTES;
        self.ctx.check_budget(
            || {
                let element = self.source.location.element();
                format!("rows {} to {} of `{element}`", rows.start + 1, rows.end)
            },
            (rows.len() as u64 * n_vars).saturating_mul(width),
        )?;
        self.ctx.count_read(rows.len() as u64, self.source.n_obs() as u64);
        let tiles = self.whole_tiles(&rows)?;
        let mut plain = Vec::new();
        if tiles.is_none() {
            self.array.read_slab(
                &[rows.start as u64, 0],
                &[rows.len() as u64, n_vars],
                &mut plain,
            )?;
        }
        Ok(Box::new(DenseFetched {
            rows,
            n_vars: self.source.n_vars(),
            array: Arc::clone(&self.array),
            tiles,
            plain,
        }))
    }
}

/// One stored tile of a band.
struct Tile {
    row: usize,
    column: usize,
    raw: Vec<u8>,
    mask: u32,
}

impl DenseReader<'_> {
    /// The stored tiles of a band, where no tile reaches beyond it.
    fn whole_tiles(&self, rows: &Range<usize>) -> Result<Option<Vec<Tile>>> {
        let (Some(_), Some(&[height, width])) =
            (self.array.pipeline(), self.array.chunk.as_deref())
        else {
            return Ok(None);
        };
        let (height, width) = (height as usize, width as usize);
        let ends = rows.end % height == 0 || rows.end == self.source.n_obs();
        if rows.start % height != 0 || !ends {
            return Ok(None);
        }
        let mut tiles = Vec::new();
        for row in rows.clone().step_by(height) {
            for column in (0..self.source.n_vars()).step_by(width) {
                let mut raw = Vec::new();
                match self.array.read_chunk(&[row as u64, column as u64], &mut raw)? {
                    Some(mask) => tiles.push(Tile { row: row - rows.start, column, raw, mask }),
                    // Never written: the library knows the fill value.
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(tiles))
    }
}

struct DenseFetched {
    rows: Range<usize>,
    n_vars: usize,
    array: Arc<RawArray>,
    tiles: Option<Vec<Tile>>,
    plain: Vec<u8>,
}

impl DenseFetched {
    /// Puts the tiles of the band side by side, in the file's type.
    fn assemble(&mut self, tiles: &[Tile], scratch: &mut Scratch) -> Result<()> {
        let bytes = self.array.dtype.bytes();
        let Some(&[height, width]) = self.array.chunk.as_deref() else {
            return Ok(());
        };
        let (height, width) = (height as usize, width as usize);
        let pipeline =
            self.array.pipeline().expect("tiles are fetched raw only where a pipeline exists");
        self.plain.resize(self.rows.len() * self.n_vars * bytes, 0);
        for tile in tiles {
            pipeline
                .decode(&tile.raw, tile.mask, &mut scratch.inflater, &mut scratch.data)
                .map_err(|reason| self.array.corrupt(reason))?;
            let columns = width.min(self.n_vars - tile.column) * bytes;
            for r in 0..height.min(self.rows.len() - tile.row) {
                let to = ((tile.row + r) * self.n_vars + tile.column) * bytes;
                let from = r * width * bytes;
                self.plain[to..to + columns].copy_from_slice(&scratch.data[from..from + columns]);
            }
        }
        Ok(())
    }
}

impl Fetched for DenseFetched {
    fn decode(
        mut self: Box<Self>,
        scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()> {
        if let Some(tiles) = self.tiles.take() {
            self.assemble(&tiles, scratch)?;
        }
        let row_bytes = self.n_vars * self.array.dtype.bytes();
        let mut values = Vec::with_capacity(self.n_vars);
        emit_dense(&self.rows, slab, slab_values, emit, |row, slab| {
            values.clear();
            self.array.dtype.append_f64(&self.plain[row * row_bytes..][..row_bytes], &mut values);
            append_nonzero(&values, slab);
        })
    }
}
