//! Sparse rows on disk: the `csr_matrix` encoding.
//!
//! Memory beside the row offsets: per worker one block (about 2^20 entries of 12
//! bytes) and its encoded chunks.

use std::ops::Range;
use std::sync::Arc;

use super::block::RowBlock;
use super::chunks::{Cursor, Pieces, Stream};
use super::compressed::{Compressed, ENTRY_BYTES};
use super::grid::{Grid, GridSpec};
use super::location::Location;
use super::memory::emit_slabs;
use super::source::{Emit, Extent, Fetched, Reader, Scratch, Source};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::h5ad::raw::RawArray;

/// A `csr_matrix` element of a file.
pub struct CsrSource {
    matrix: Compressed,
    extent: Extent,
}

impl CsrSource {
    /// Reads the row offsets of the element and checks them.
    ///
    /// # Errors
    /// When an array is missing, offsets decrease, or lengths do not match.
    pub fn new(location: Location, shape: (usize, usize), spec: &GridSpec) -> Result<Self> {
        let matrix = Compressed::new(location, shape.0)?;
        let extent = Extent::new(shape, Grid::from_indptr(matrix.indptr(), spec));
        Ok(CsrSource { matrix, extent })
    }
}

impl Source for CsrSource {
    fn extent(&self) -> &Extent {
        &self.extent
    }

    fn nnz(&self) -> Option<u64> {
        Some(self.matrix.nnz())
    }

    fn reader<'a>(&'a self, ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
        let arrays = self.matrix.arrays(ctx)?;
        Ok(Box::new(CsrReader {
            source: self,
            ctx,
            data: Stream::new(arrays.data),
            indices: Stream::new(arrays.indices),
            _file: arrays.file,
        }))
    }
}

struct CsrReader<'a> {
    source: &'a CsrSource,
    ctx: &'a Ctx<'a>,
    data: Stream,
    indices: Stream,
    _file: hdf5_metno::File,
}

impl<'a> Reader<'a> for CsrReader<'a> {
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
        let rows = self.source.grid().rows(block);
        let matrix = &self.source.matrix;
        let offsets = &matrix.indptr()[rows.start..=rows.end];
        let span = offsets[0]..offsets[rows.len()];
        self.ctx.check_budget(
            || format!("rows {} to {} of `{}`", rows.start + 1, rows.end, matrix.element()),
            (span.end - span.start) * ENTRY_BYTES,
        )?;
        self.ctx.count_read(span.end - span.start, matrix.nnz());
        Ok(Box::new(CsrFetched {
            n_vars: self.source.n_vars() as u64,
            rows,
            offsets,
            indices: self.indices.fetch(span.clone())?,
            data: self.data.fetch(span)?,
            data_array: Arc::clone(self.data.array()),
            index_array: Arc::clone(self.indices.array()),
        }))
    }
}

struct CsrFetched<'a> {
    n_vars: u64,
    rows: Range<usize>,
    offsets: &'a [u64],
    indices: Pieces,
    data: Pieces,
    data_array: Arc<RawArray>,
    index_array: Arc<RawArray>,
}

impl Fetched for CsrFetched<'_> {
    fn decode(
        self: Box<Self>,
        scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()> {
        let Scratch { inflater, data, indices } = scratch;
        let (index_array, data_array) = (&*self.index_array, &*self.data_array);
        let mut columns = Cursor::new(self.indices, index_array, indices);
        let mut values = Cursor::new(self.data, data_array, data);
        let n_vars = self.n_vars;
        let offset = |row: usize| (self.offsets[row] - self.offsets[0]) as usize;
        emit_slabs(offset, &self.rows, slab, slab_values, emit, |span, slab| {
            columns.take(span.len(), inflater, |bytes| {
                if index_array.dtype.append_indices(bytes, n_vars, &mut slab.indices) {
                    Ok(())
                } else {
                    Err(index_array.corrupt(format!("it points outside the {n_vars} columns")))
                }
            })?;
            values.take(span.len(), inflater, |bytes| {
                data_array.dtype.append_f64(bytes, &mut slab.values);
                Ok(())
            })?;
            slab.sum_duplicates();
            Ok(())
        })
    }
}
