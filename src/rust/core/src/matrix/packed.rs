//! A view of another matrix, packed into memory: what an algorithm keeps when
//! it needs some genes several times and the file only once.
//!
//! The grid is that of the matrix it came from, so that a pass over the packed
//! view gives the bits that it would give over the file. Memory: 10 bytes an
//! entry (12 past 65,536 columns), 16 bytes a row.

use super::block::RowBlock;
use super::grid::Grid;
use super::memory::emit_slabs;
use super::source::{Emit, Extent, Fetched, Reader, Scratch, Source};
use crate::ctx::Ctx;
use crate::error::Result;

/// Rows of a view, block by block.
pub struct PackedSource {
    blocks: Vec<PackedBlock>,
    extent: Extent,
}

/// The rows of one block.
#[derive(Default)]
pub struct PackedBlock {
    indptr: Vec<usize>,
    rows: Vec<usize>,
    columns: Columns,
    values: Vec<f64>,
}

enum Columns {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

impl Default for Columns {
    fn default() -> Self {
        Columns::Narrow(Vec::new())
    }
}

impl PackedBlock {
    /// Appends the rows of a slab of a view with `n_vars` columns.
    pub fn append(&mut self, slab: &RowBlock, n_vars: usize) {
        if self.indptr.is_empty() {
            self.indptr.push(0);
            if n_vars > 1 << 16 {
                self.columns = Columns::Wide(Vec::new());
            }
        }
        let start = self.values.len();
        self.indptr.extend(slab.indptr.iter().skip(1).map(|offset| start + offset));
        self.rows.extend_from_slice(&slab.rows);
        self.values.extend_from_slice(&slab.values);
        match &mut self.columns {
            Columns::Narrow(columns) => columns.extend(slab.indices.iter().map(|&c| c as u16)),
            Columns::Wide(columns) => columns.extend_from_slice(&slab.indices),
        }
    }

    /// Gives back the memory that appending asked for in advance.
    pub fn shrink(&mut self) {
        self.values.shrink_to_fit();
        match &mut self.columns {
            Columns::Narrow(columns) => columns.shrink_to_fit(),
            Columns::Wide(columns) => columns.shrink_to_fit(),
        }
    }

    /// Bytes that the block takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let column = match self.columns {
            Columns::Narrow(_) => 2,
            Columns::Wide(_) => 4,
        };
        self.values.len() * (8 + column) + 8 * (self.indptr.len() + self.rows.len())
    }
}

impl PackedSource {
    /// A source of `blocks`, one for each block of `grid`, whose rows are those
    /// of a view of `n_obs` by `n_vars`.
    #[must_use]
    pub fn new(blocks: Vec<PackedBlock>, grid: Grid, n_obs: usize, n_vars: usize) -> Self {
        PackedSource { blocks, extent: Extent::new((n_obs, n_vars), grid) }
    }

    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.blocks.iter().map(|block| block.values.len()).sum()
    }
}

impl Source for PackedSource {
    fn extent(&self) -> &Extent {
        &self.extent
    }

    fn nnz(&self) -> Option<u64> {
        Some(self.entries() as u64)
    }

    fn reader<'a>(&'a self, _ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
        Ok(Box::new(PackedReader(self)))
    }
}

struct PackedReader<'a>(&'a PackedSource);

impl<'a> Reader<'a> for PackedReader<'a> {
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
        Ok(Box::new(PackedSlice(&self.0.blocks[block])))
    }
}

struct PackedSlice<'a>(&'a PackedBlock);

impl Fetched for PackedSlice<'_> {
    fn decode(
        self: Box<Self>,
        _scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()> {
        let block = self.0;
        let all = 0..block.rows.len();
        let mut done = 0;
        emit_slabs(
            |row| block.indptr[row],
            &all,
            slab,
            slab_values,
            &mut |slab| {
                // Positions in the view, not in the packed block.
                let n = slab.rows.len();
                slab.rows.copy_from_slice(&block.rows[done..done + n]);
                done += n;
                emit(slab)
            },
            |span, slab| {
                slab.values.extend_from_slice(&block.values[span.clone()]);
                match &block.columns {
                    Columns::Narrow(columns) => {
                        slab.indices.extend(columns[span].iter().map(|&c| u32::from(c)));
                    }
                    Columns::Wide(columns) => slab.indices.extend_from_slice(&columns[span]),
                }
                Ok(())
            },
        )
    }
}
