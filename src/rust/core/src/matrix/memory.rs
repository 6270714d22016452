//! Matrices in memory: sparse or dense, borrowed from the caller.
//!
//! R keeps genes in rows; a `dgCMatrix` of genes by cells is, read by columns, a
//! matrix of cells by genes in row-major order, and goes through as it is.

use std::ops::Range;

use super::block::RowBlock;
use super::grid::{Grid, GridSpec};
use super::source::{Emit, Extent, Fetched, Reader, Scratch, Source};
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Sparse rows in memory, with 32-bit indices as R has them. Columns need not be
/// sorted within a row, which is why these are plain slices.
pub struct SparseRows<'m> {
    indptr: &'m [i32],
    indices: &'m [i32],
    values: &'m [f64],
    extent: Extent,
}

impl<'m> SparseRows<'m> {
    /// A matrix of `n_obs` by `n_vars` whose row `i` has the columns
    /// `indices[indptr[i]..indptr[i + 1]]`.
    ///
    /// # Errors
    /// When the arrays do not describe such a matrix.
    pub fn new(
        n_obs: usize,
        n_vars: usize,
        indptr: &'m [i32],
        indices: &'m [i32],
        values: &'m [f64],
    ) -> Result<Self> {
        let broken = |what: &str| Error::InvalidInput {
            argument: "x",
            message: format!("the sparse matrix is broken: {what}"),
        };
        if indptr.len() != n_obs + 1 || indptr[0] != 0 || indptr.windows(2).any(|w| w[0] > w[1]) {
            return Err(broken("its offsets do not increase from 0"));
        }
        let nnz = indptr[n_obs] as usize;
        if indices.len() != nnz || values.len() != nnz {
            return Err(broken("its values and indices differ in number"));
        }
        if indices.iter().any(|&j| j < 0 || j as usize >= n_vars) {
            return Err(broken("an index lies outside"));
        }
        let grid = Grid::from_indptr(&wide(indptr), &GridSpec::default());
        let extent = Extent::new((n_obs, n_vars), grid);
        Ok(SparseRows { indptr, indices, values, extent })
    }

    /// The same matrix on a grid of another fineness, for tests.
    #[must_use]
    pub fn regrid(mut self, spec: &GridSpec) -> Self {
        let grid = Grid::from_indptr(&wide(self.indptr), spec);
        self.extent = Extent::new((self.n_obs(), self.n_vars()), grid);
        self
    }
}

fn wide(indptr: &[i32]) -> Vec<u64> {
    indptr.iter().map(|&o| o as u64).collect()
}

impl Source for SparseRows<'_> {
    fn extent(&self) -> &Extent {
        &self.extent
    }

    fn nnz(&self) -> Option<u64> {
        Some(self.values.len() as u64)
    }

    fn reader<'a>(&'a self, _ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
        Ok(Box::new(SparseReader(self)))
    }
}

struct SparseReader<'a>(&'a SparseRows<'a>);

impl<'a> Reader<'a> for SparseReader<'a> {
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
        Ok(Box::new(SparseSlice { rows: self.0.grid().rows(block), matrix: self.0 }))
    }
}

struct SparseSlice<'a> {
    rows: Range<usize>,
    matrix: &'a SparseRows<'a>,
}

impl Fetched for SparseSlice<'_> {
    fn decode(
        self: Box<Self>,
        _scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()> {
        let SparseRows { indptr, indices, values, .. } = self.matrix;
        let offset = |row: usize| indptr[self.rows.start + row] as usize;
        emit_slabs(offset, &self.rows, slab, slab_values, emit, |span, slab| {
            slab.indices.extend(indices[span.clone()].iter().map(|&j| j as u32));
            slab.values.extend_from_slice(&values[span]);
            Ok(())
        })
    }
}

/// Cuts the rows of a block into slabs of about `slab_values` entries. Row `r` of
/// the block has the entries `offset(r)..offset(r + 1)`; `fill` appends those of a
/// slab.
pub(crate) fn emit_slabs(
    offset: impl Fn(usize) -> usize,
    rows: &Range<usize>,
    slab: &mut RowBlock,
    slab_values: usize,
    emit: &mut Emit,
    mut fill: impl FnMut(Range<usize>, &mut RowBlock) -> Result<()>,
) -> Result<()> {
    let mut row = 0;
    while row < rows.len() {
        let first = offset(row);
        let mut end = row + 1;
        while end < rows.len() && offset(end) - first < slab_values {
            end += 1;
        }
        slab.clear();
        slab.indptr.extend((row..=end).map(|r| offset(r) - first));
        slab.rows.extend(rows.start + row..rows.start + end);
        fill(first..offset(end), slab)?;
        emit(slab)?;
        row = end;
    }
    Ok(())
}

/// A dense matrix in memory whose rows are contiguous: R's genes by cells.
pub struct DenseRows<'m> {
    values: &'m [f64],
    extent: Extent,
}

impl<'m> DenseRows<'m> {
    /// A matrix of `n_obs` by `n_vars`; row `i` is `values[i * n_vars..][..n_vars]`.
    ///
    /// # Errors
    /// When there are not `n_obs * n_vars` values.
    pub fn new(n_obs: usize, n_vars: usize, values: &'m [f64]) -> Result<Self> {
        if n_obs.checked_mul(n_vars) != Some(values.len()) {
            return Err(Error::InvalidInput {
                argument: "x",
                message: format!("{} values make no {n_obs} x {n_vars} matrix", values.len()),
            });
        }
        let grid = Grid::uniform(n_obs, n_vars as u64, &GridSpec::default());
        Ok(DenseRows { values, extent: Extent::new((n_obs, n_vars), grid) })
    }

    /// The same matrix on a grid of another fineness, for tests.
    #[must_use]
    pub fn regrid(mut self, spec: &GridSpec) -> Self {
        let (n_obs, n_vars) = (self.n_obs(), self.n_vars());
        self.extent = Extent::new((n_obs, n_vars), Grid::uniform(n_obs, n_vars as u64, spec));
        self
    }
}

impl Source for DenseRows<'_> {
    fn extent(&self) -> &Extent {
        &self.extent
    }

    fn reader<'a>(&'a self, _ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
        Ok(Box::new(DenseReader(self)))
    }
}

struct DenseReader<'a>(&'a DenseRows<'a>);

impl<'a> Reader<'a> for DenseReader<'a> {
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
        let rows = self.0.grid().rows(block);
        let n_vars = self.0.n_vars();
        Ok(Box::new(DenseSlice {
            values: &self.0.values[rows.start * n_vars..rows.end * n_vars],
            rows,
            n_vars,
        }))
    }
}

struct DenseSlice<'a> {
    values: &'a [f64],
    rows: Range<usize>,
    n_vars: usize,
}

impl Fetched for DenseSlice<'_> {
    fn decode(
        self: Box<Self>,
        _scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()> {
        emit_dense(&self.rows, slab, slab_values, emit, |row, slab| {
            append_nonzero(&self.values[row * self.n_vars..][..self.n_vars], slab);
        })
    }
}

/// Hands out rows in slabs; `append` appends row `r` of the block.
pub(crate) fn emit_dense(
    rows: &Range<usize>,
    slab: &mut RowBlock,
    slab_values: usize,
    emit: &mut Emit,
    mut append: impl FnMut(usize, &mut RowBlock),
) -> Result<()> {
    slab.clear();
    for row in 0..rows.len() {
        if slab.indptr.is_empty() {
            slab.indptr.push(0);
        }
        append(row, slab);
        slab.rows.push(rows.start + row);
        if slab.nnz() >= slab_values || row + 1 == rows.len() {
            emit(slab)?;
            slab.clear();
        }
    }
    Ok(())
}

/// Appends a dense row to a block, without its zeros.
pub(crate) fn append_nonzero(row: &[f64], block: &mut RowBlock) {
    for (gene, &value) in row.iter().enumerate() {
        if value != 0.0 {
            block.indices.push(gene as u32);
            block.values.push(value);
        }
    }
    block.indptr.push(block.indices.len());
}
