//! A small matrix for tests: dense for loops, sparse for passes.

use super::{Emit, Extent, Fetched, Grid, Reader, RowBlock, Scratch, Source};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::stats::random::Rng;

/// A matrix cut into blocks of three rows and ranges of four blocks.
pub(crate) struct Matrix {
    pub(crate) dense: Vec<Vec<f64>>,
    extent: Extent,
}

impl Matrix {
    /// Counts, about half of them zero; the last gene and some cells are empty.
    pub(crate) fn counts(n_obs: usize, n_vars: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0);
        let mut dense = vec![vec![0.0; n_vars]; n_obs];
        for (i, row) in dense.iter_mut().enumerate() {
            for (j, x) in row.iter_mut().enumerate() {
                let empty = j + 1 == n_vars || i % 17 == 16;
                *x = if empty { 0.0 } else { (rng.below(12) as f64 - 5.0).max(0.0) };
            }
        }
        let cut = |n: usize, by: usize| -> Vec<std::ops::Range<usize>> {
            (0..n).step_by(by).map(|at| at..(at + by).min(n)).collect()
        };
        let blocks = cut(n_obs, 3);
        let ranges = cut(blocks.len(), 4);
        let extent = Extent::new((n_obs, n_vars), Grid::from_parts(blocks, ranges));
        Matrix { dense, extent }
    }

    pub(crate) fn set(&mut self, row: usize, gene: usize, value: f64) {
        self.dense[row][gene] = value;
    }
}

impl Source for Matrix {
    fn extent(&self) -> &Extent {
        &self.extent
    }

    fn reader<'a>(&'a self, _ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
        Ok(Box::new(Rows(self)))
    }
}

struct Rows<'a>(&'a Matrix);

impl<'a> Reader<'a> for Rows<'a> {
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
        Ok(Box::new(Slice(self.0, block)))
    }
}

struct Slice<'a>(&'a Matrix, usize);

impl Fetched for Slice<'_> {
    /// Columns come backwards, every third zero is stored.
    fn decode(
        self: Box<Self>,
        _scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()> {
        let rows = self.0.grid().rows(self.1);
        let last = rows.end - 1;
        slab.clear();
        for i in rows {
            if slab.indptr.is_empty() {
                slab.indptr.push(0);
            }
            for (j, &x) in self.0.dense[i].iter().enumerate().rev() {
                if x != 0.0 || j % 3 == 0 {
                    slab.indices.push(j as u32);
                    slab.values.push(x);
                }
            }
            slab.indptr.push(slab.indices.len());
            slab.rows.push(i);
            if slab.nnz() >= slab_values || i == last {
                emit(slab)?;
                slab.clear();
            }
        }
        Ok(())
    }
}
