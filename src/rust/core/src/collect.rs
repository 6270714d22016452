//! A view in memory: what `as.matrix` and the conversions to other objects need.
//!
//! One pass over the file. Memory: the result, and until it is complete the
//! decoded entries beside it (12 bytes each).

use std::sync::{Mutex, PoisonError};

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::{RowBlock, Source};
use crate::pass::stream;
use crate::transform::View;

/// Sparse rows of a view, in the view's order, columns increasing in each row.
///
/// Read as compressed columns, the same arrays are the transpose: genes by
/// cells, R's usual orientation.
pub struct SparseView {
    blocks: Vec<RowBlock>,
    n_obs: usize,
    nnz: usize,
}

impl SparseView {
    /// Decodes the view. Values that the file stores as zero stay stored.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past `most` entries, [`Error::InvalidInput`] where
    /// the chain scales (the result would not be sparse), and as [`stream`].
    pub fn collect(source: &dyn Source, view: &View, ctx: &Ctx, most: usize) -> Result<Self> {
        if view.background().is_some() {
            return Err(Error::InvalidInput {
                argument: "x",
                message: "standardised values are not sparse: zeros become nonzero".into(),
            });
        }
        let blocks = Mutex::new((Vec::new(), 0usize));
        stream(source, view, ctx, "Reading", 0..source.grid().n_blocks(), |_, block| {
            block.sort_rows();
            let mut collected = blocks.lock().unwrap_or_else(PoisonError::into_inner);
            collected.1 += block.nnz();
            if collected.1 > most {
                return Err(Error::TooLarge {
                    message: format!("the matrix has more than {most} stored values"),
                });
            }
            collected.0.push(compact(block));
            Ok(())
        })?;
        let (blocks, nnz) = blocks.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(SparseView { blocks, n_obs: view.n_obs(), nnz })
    }

    /// Number of entries.
    #[must_use]
    pub fn nnz(&self) -> usize {
        self.nnz
    }

    /// Number of rows.
    #[must_use]
    pub fn n_obs(&self) -> usize {
        self.n_obs
    }

    /// Writes offsets, columns and values, freeing the blocks on the way.
    ///
    /// # Panics
    /// Unless `indptr` has one entry more than there are rows, and `indices` and
    /// `values` as many as [`nnz`](Self::nnz) says.
    pub fn write_rows(self, indptr: &mut [i32], indices: &mut [i32], values: &mut [f64]) {
        assert!(indptr.len() == self.n_obs + 1, "one offset more than rows");
        assert!(indices.len() == self.nnz && values.len() == self.nnz, "as many as entries");
        indptr.fill(0);
        for block in &self.blocks {
            for (r, &row) in block.rows.iter().enumerate() {
                indptr[row + 1] = (block.indptr[r + 1] - block.indptr[r]) as i32;
            }
        }
        for row in 0..self.n_obs {
            indptr[row + 1] += indptr[row];
        }
        for block in self.blocks {
            for (r, &row) in block.rows.iter().enumerate() {
                let (from, to) = (indptr[row] as usize, indptr[row + 1] as usize);
                let (columns, data) = block.row(r);
                for (into, &column) in indices[from..to].iter_mut().zip(columns) {
                    *into = column as i32;
                }
                values[from..to].copy_from_slice(data);
            }
        }
    }

    /// Writes the transpose: `indptr` over columns, `rows` increasing in each.
    ///
    /// # Panics
    /// As [`write_rows`](Self::write_rows), with one offset more than columns.
    pub fn write_columns(self, indptr: &mut [i32], rows: &mut [i32], values: &mut [f64]) {
        assert!(rows.len() == self.nnz && values.len() == self.nnz, "as many as entries");
        indptr.fill(0);
        for block in &self.blocks {
            for &column in &block.indices {
                indptr[column as usize + 1] += 1;
            }
        }
        for column in 1..indptr.len() {
            indptr[column] += indptr[column - 1];
        }
        // Where each row of the view is, so that rows come in their order.
        let mut place = vec![(0u32, 0u32); self.n_obs];
        for (b, block) in self.blocks.iter().enumerate() {
            for (r, &row) in block.rows.iter().enumerate() {
                place[row] = (b as u32, r as u32);
            }
        }
        let mut next = indptr.to_vec();
        for (row, (b, r)) in place.into_iter().enumerate() {
            let Some(block) = self.blocks.get(b as usize) else { continue };
            let (columns, data) = block.row(r as usize);
            for (&column, &value) in columns.iter().zip(data) {
                let at = next[column as usize] as usize;
                rows[at] = row as i32;
                values[at] = value;
                next[column as usize] += 1;
            }
        }
    }
}

/// Fills `out`, `n_obs` by `n_vars` in column-major order, with the view's
/// values, zeros and standardised zeros included.
///
/// # Errors
/// As [`stream`].
///
/// # Panics
/// Unless `out` has as many values as the view.
pub fn collect_dense(source: &dyn Source, view: &View, ctx: &Ctx, out: &mut [f64]) -> Result<()> {
    let (n_obs, n_vars) = (view.n_obs(), view.n_vars());
    assert!(out.len() == n_obs * n_vars, "as many values as the view");
    match view.background() {
        None => out.fill(0.0),
        Some(background) => {
            for (column, &value) in out.chunks_mut(n_obs.max(1)).zip(background) {
                column.fill(value);
            }
        }
    }
    let out = Mutex::new(out);
    stream(source, view, ctx, "Reading", 0..source.grid().n_blocks(), |_, block| {
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        for (r, &row) in block.rows.iter().enumerate() {
            let (columns, values) = block.row(r);
            for (&column, &value) in columns.iter().zip(values) {
                out[column as usize * n_obs + row] += value;
            }
        }
        Ok(())
    })
}

/// A copy without spare capacity, so that the worker's buffers are reused.
fn compact(block: &RowBlock) -> RowBlock {
    RowBlock {
        indptr: block.indptr.clone(),
        indices: block.indices.clone(),
        values: block.values.clone(),
        linear: Vec::new(),
        rows: block.rows.clone(),
    }
}
