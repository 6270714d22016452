//! A view in memory: what `as.matrix` and the conversions to other objects need.
//!
//! One pass over the file, or two where values have to be counted first. Memory:
//! the result, and until it is complete the decoded entries beside it (12 bytes
//! each).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ndarray::{ArrayViewMut2, ShapeBuilder};

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::{RowBlock, Source};
use crate::pass::{Pass, run, stream_slabs};
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
    /// Decodes the view. Values that the file stores as zero stay stored. A view
    /// that may have too many values is read twice: they are counted first.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past `most` entries, [`Error::InvalidInput`] where
    /// the chain scales (the result would not be sparse), and as [`stream_slabs`].
    pub fn collect(source: &dyn Source, view: &View, ctx: &Ctx, most: usize) -> Result<Self> {
        if view.background().is_some() {
            return Err(Error::InvalidInput {
                argument: "x",
                message: "standardised values are not sparse: zeros become nonzero".into(),
            });
        }
        let is_sparse = !view.repeats() && !view.is_dense();
        let stored = source.nnz().filter(|_| is_sparse).unwrap_or(u64::MAX);
        let bound = stored.min((view.n_obs() as u64).saturating_mul(view.n_vars() as u64));
        if bound > most as u64 {
            let count = Count { most: most as u64, seen: AtomicU64::new(0) };
            run(source, view, ctx, "Counting values", &count)?;
        }
        let blocks = Mutex::new(Vec::new());
        stream_slabs(source, view, ctx, "Reading", |block| {
            block.sort_rows();
            blocks.lock().unwrap_or_else(PoisonError::into_inner).push(compact(block));
            Ok(())
        })?;
        let blocks = blocks.into_inner().unwrap_or_else(PoisonError::into_inner);
        let nnz = blocks.iter().map(RowBlock::nnz).sum();
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

/// Counts entries, and stops at the first too many.
struct Count {
    most: u64,
    seen: AtomicU64,
}

impl Pass for Count {
    type Partial = ();

    fn empty(&self) {}

    fn fold(&self, block: &RowBlock, (): &mut ()) -> Result<()> {
        let more = block.nnz() as u64;
        if self.seen.fetch_add(more, Ordering::Relaxed) + more > self.most {
            return Err(Error::TooLarge {
                message: format!("the matrix has more than {} stored values", self.most),
            });
        }
        Ok(())
    }

    fn merge(&self, (): &mut (), (): ()) {}
}

/// Fills `out`, `n_obs` by `n_vars` in column-major order, with the view's
/// values, zeros and standardised zeros included.
///
/// # Errors
/// As [`stream_slabs`].
///
/// # Panics
/// Unless `out` has as many values as the view.
pub fn collect_dense(source: &dyn Source, view: &View, ctx: &Ctx, out: &mut [f64]) -> Result<()> {
    let mut out = ArrayViewMut2::from_shape((view.n_obs(), view.n_vars()).f(), out)
        .expect("as many values as the view");
    match view.background() {
        None => out.fill(0.0),
        Some(background) => {
            for (mut column, &value) in out.columns_mut().into_iter().zip(background) {
                column.fill(value);
            }
        }
    }
    let out = Mutex::new(out);
    stream_slabs(source, view, ctx, "Reading", |block| {
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
        for (r, &row) in block.rows.iter().enumerate() {
            let (columns, values) = block.row(r);
            for (&column, &value) in columns.iter().zip(values) {
                out[[row, column as usize]] += value;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Silent;
    use crate::matrix::testing::Matrix;
    use crate::transform::Chain;

    fn view(rows: &[usize]) -> View {
        View::new(40, 30, Some(rows), &Chain::default()).unwrap()
    }

    #[test]
    fn repeated_rows_are_collected_each_time() {
        let matrix = Matrix::counts(40, 30, 3);
        let rows: Vec<usize> = (0..9000).map(|i| (i * 7) % 40).collect();
        let ctx = Ctx::new(3, 1 << 30, std::env::temp_dir(), &Silent);
        let collected = SparseView::collect(&matrix, &view(&rows), &ctx, 1 << 30).unwrap();
        let (mut p, n) = (vec![0; rows.len() + 1], collected.nnz());
        let (mut j, mut x) = (vec![0; n], vec![0.0; n]);
        collected.write_rows(&mut p, &mut j, &mut x);
        let mut dense = vec![0.0; rows.len() * 30];
        collect_dense(&matrix, &view(&rows), &ctx, &mut dense).unwrap();
        for (i, &row) in rows.iter().enumerate() {
            let mut found = vec![0.0; 30];
            for at in p[i] as usize..p[i + 1] as usize {
                found[j[at] as usize] += x[at];
            }
            assert_eq!(found, matrix.dense[row]);
            assert!((0..30).all(|gene| dense[gene * rows.len() + i] == found[gene]));
        }
    }

    /// Built at once, the values of this view would take a gigabyte.
    #[test]
    fn too_many_values_are_noticed_before_they_are_held() {
        let matrix = Matrix::counts(40, 30, 3);
        let rows = vec![1; 5_000_000];
        let ctx = Ctx::new(2, 1 << 30, std::env::temp_dir(), &Silent);
        let outcome = SparseView::collect(&matrix, &view(&rows), &ctx, 1 << 26);
        assert!(matches!(outcome, Err(Error::TooLarge { .. })));
    }
}
