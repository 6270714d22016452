//! Sparse columns turned into row blocks: the `csc_matrix` encoding.
//!
//! Problem: passes want rows, the file has columns. Solution: one sweep over the
//! file keeps the entries of as many row blocks as the memory budget holds and
//! hands those out; the next sweep fetches the following ones. A matrix that fits
//! is read once. Memory: 12 bytes an entry of the blocks held (half the budget
//! at most), 8 bytes a row.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::block::RowBlock;
use super::chunks::Stream;
use super::compressed::{Arrays, Compressed, ENTRY_BYTES};
use super::grid::{Grid, GridSpec};
use super::location::Location;
use super::memory::emit_slabs;
use super::source::{Emit, Extent, Fetched, Reader, Scratch, Source};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::h5ad::filters::Inflater;

/// Entries read in one go.
const PIECE: u64 = 1 << 20;

/// A `csc_matrix` element of a file.
pub struct CscSource {
    matrix: Compressed,
    extent: Extent,
    row_counts: OnceLock<Vec<u32>>,
}

impl CscSource {
    /// Reads the column offsets of the element and checks them.
    ///
    /// # Errors
    /// When an array is missing, offsets decrease, or lengths do not match.
    pub fn new(location: Location, shape: (usize, usize), spec: &GridSpec) -> Result<Self> {
        let matrix = Compressed::new(location, shape.1)?;
        let grid = Grid::uniform(shape.0, matrix.nnz().div_ceil(shape.0.max(1) as u64), spec);
        let extent = Extent::new(shape, grid);
        Ok(CscSource { matrix, extent, row_counts: OnceLock::new() })
    }
}

impl Source for CscSource {
    fn extent(&self) -> &Extent {
        &self.extent
    }

    fn nnz(&self) -> Option<u64> {
        Some(self.matrix.nnz())
    }

    fn reads_per_sweep(&self, memory_bytes: u64) -> usize {
        let needed = self.matrix.nnz() * ENTRY_BYTES;
        let reads = needed.div_ceil((memory_bytes / 2).max(1)) as usize;
        // A sweep gives one block at least.
        reads.min(self.grid().n_blocks()).max(1)
    }

    fn reads_in_order(&self) -> bool {
        true
    }

    fn reader<'a>(&'a self, ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
        let arrays = self.matrix.arrays(ctx)?;
        Ok(Box::new(CscReader { source: self, ctx, arrays, held: Held::default() }))
    }
}

struct CscReader<'a> {
    source: &'a CscSource,
    ctx: &'a Ctx<'a>,
    arrays: Arrays,
    held: Held,
}

/// Row blocks in memory, entries of each row in column order.
#[derive(Default)]
struct Held {
    blocks: Range<usize>,
    first_row: usize,
    /// Offsets of the rows held.
    indptr: Arc<Vec<usize>>,
    columns: Arc<Vec<u32>>,
    values: Arc<Vec<f64>>,
}

impl<'a> Reader<'a> for CscReader<'a> {
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
        if !self.held.blocks.contains(&block) {
            self.held = Held::default();
            self.held = self.sweep(block)?;
        }
        let held = &self.held;
        Ok(Box::new(CscFetched {
            rows: self.source.grid().rows(block),
            first_row: held.first_row,
            indptr: Arc::clone(&held.indptr),
            columns: Arc::clone(&held.columns),
            values: Arc::clone(&held.values),
        }))
    }
}

impl CscReader<'_> {
    /// Entries of every row; counted once per source.
    fn row_counts(&self) -> Result<&[u32]> {
        if let Some(counts) = self.source.row_counts.get() {
            return Ok(counts);
        }
        let mut counts = vec![0u32; self.source.n_obs()];
        self.each_piece("Counting values", false, |_, rows, _| {
            for &row in rows {
                let count = &mut counts[row as usize];
                *count = count.saturating_add(1);
            }
        })?;
        if counts.contains(&u32::MAX) {
            return Err(self
                .arrays
                .indices
                .corrupt("it names one row for billions of values".into()));
        }
        Ok(self.source.row_counts.get_or_init(|| counts))
    }

    /// Collects the blocks from `first` on that fit half the budget.
    fn sweep(&self, first: usize) -> Result<Held> {
        let counts = self.row_counts()?;
        let grid = self.source.grid();
        let budget = (self.ctx.memory_bytes() / 2).max(1);
        let (mut last, mut entries) = (first, 0u64);
        while last < grid.n_blocks() {
            let block: u64 = grid.rows(last).map(|r| u64::from(counts[r])).sum();
            if last > first && (entries + block) * ENTRY_BYTES > budget {
                break;
            }
            entries += block;
            last += 1;
        }
        if last == first + 1 {
            let what = || format!("one block of rows of `{}`", self.source.matrix.element());
            self.ctx.check_budget(what, entries * ENTRY_BYTES)?;
        }
        let rows = grid.rows(first).start..grid.rows(last - 1).end;
        let mut indptr = Vec::with_capacity(rows.len() + 1);
        indptr.push(0usize);
        for row in rows.clone() {
            indptr.push(indptr[indptr.len() - 1] + counts[row] as usize);
        }
        let mut next = indptr[..rows.len()].to_vec();
        let mut columns = vec![0u32; entries as usize];
        let mut values = vec![0f64; entries as usize];
        let (from, to) = (rows.start as u32, rows.end as u32);
        self.each_piece("Turning columns into rows", true, |column, piece, data| {
            for (&row, &value) in piece.iter().zip(data) {
                if (from..to).contains(&row) {
                    let at = &mut next[(row - from) as usize];
                    columns[*at] = column;
                    values[*at] = value;
                    *at += 1;
                }
            }
        })?;
        Ok(Held {
            blocks: first..last,
            first_row: rows.start,
            indptr: Arc::new(indptr),
            columns: Arc::new(columns),
            values: Arc::new(values),
        })
    }

    /// Reads the whole matrix in order and hands out each column's pieces: the
    /// column, its rows and, where asked for, its values.
    fn each_piece(
        &self,
        stage: &str,
        with_values: bool,
        mut take: impl FnMut(u32, &[u32], &[f64]),
    ) -> Result<()> {
        let (nnz, indptr) = (self.source.matrix.nnz(), self.source.matrix.indptr());
        let (mut rows, mut data) = (Vec::new(), Vec::new());
        let (mut inflater, mut buffer) = (Inflater::default(), Vec::new());
        let mut row_stream = Stream::new(Arc::clone(&self.arrays.indices));
        let mut data_stream = Stream::new(Arc::clone(&self.arrays.data));
        let (mut column, mut start) = (0usize, 0u64);
        while start < nnz {
            self.ctx.poll(stage, start, nnz)?;
            let end = (start + PIECE).min(nnz);
            // Indices alone are half of what is stored.
            self.ctx.count_read(end - start, nnz * if with_values { 1 } else { 2 });
            rows.clear();
            let (array, n_obs) = (&self.arrays.indices, self.source.n_obs() as u64);
            row_stream.fetch(start..end)?.decode(array, &mut inflater, &mut buffer, |bytes| {
                if array.dtype.append_indices(bytes, n_obs, &mut rows) {
                    Ok(())
                } else {
                    Err(array.corrupt(format!("it points outside the {n_obs} rows")))
                }
            })?;
            data.clear();
            if with_values {
                let array = &self.arrays.data;
                data_stream.fetch(start..end)?.decode(
                    array,
                    &mut inflater,
                    &mut buffer,
                    |bytes| {
                        array.dtype.append_f64(bytes, &mut data);
                        Ok(())
                    },
                )?;
            }
            let mut at = start;
            while at < end {
                while indptr[column + 1] <= at {
                    column += 1;
                }
                let to = indptr[column + 1].min(end);
                let span = (at - start) as usize..(to - start) as usize;
                let piece = if with_values { &data[span.clone()] } else { &[] };
                take(column as u32, &rows[span], piece);
                at = to;
            }
            start = end;
        }
        Ok(())
    }
}

struct CscFetched {
    rows: Range<usize>,
    first_row: usize,
    indptr: Arc<Vec<usize>>,
    columns: Arc<Vec<u32>>,
    values: Arc<Vec<f64>>,
}

impl Fetched for CscFetched {
    fn decode(
        self: Box<Self>,
        _scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()> {
        let local = self.rows.start - self.first_row;
        let offset = |row: usize| self.indptr[local + row];
        emit_slabs(offset, &self.rows, slab, slab_values, emit, |span, slab| {
            slab.indices.extend_from_slice(&self.columns[span.clone()]);
            slab.values.extend_from_slice(&self.values[span]);
            slab.sum_duplicates();
            Ok(())
        })
    }
}
