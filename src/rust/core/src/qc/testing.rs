//! A small matrix, dense for loops and sparse for passes; and every way to run one.

use std::path::PathBuf;

use crate::ctx::{Ctx, Silent};
use crate::error::Result;
use crate::matrix::{Emit, Fetched, Grid, Reader, RowBlock, Scratch, Source};
use crate::pass::{self, Pass};
use crate::stats::random::Rng;
use crate::transform::{Chain, View};

/// A matrix cut into blocks of three rows and ranges of four blocks.
pub(super) struct Matrix {
    pub(super) dense: Vec<Vec<f64>>,
    n_vars: usize,
    grid: Grid,
}

impl Matrix {
    /// Counts, about half of them zero; the last gene and some cells are empty.
    pub(super) fn counts(n_obs: usize, n_vars: usize, seed: u64) -> Self {
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
        Matrix { dense, n_vars, grid: Grid::from_parts(blocks, ranges) }
    }

    pub(super) fn set(&mut self, row: usize, gene: usize, value: f64) {
        self.dense[row][gene] = value;
    }
}

impl Source for Matrix {
    fn n_obs(&self) -> usize {
        self.dense.len()
    }

    fn n_vars(&self) -> usize {
        self.n_vars
    }

    fn grid(&self) -> &Grid {
        &self.grid
    }

    fn nnz(&self) -> Option<u64> {
        None
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
        let rows = self.0.grid.rows(self.1);
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

/// Runs a pass over all of a matrix, by 1, 2 and 4 threads, and by ranges whose
/// partials travel as bytes, merged with an empty partial on either side; all
/// of them have to give the same bytes.
pub(super) fn run_every_way<P: Pass>(matrix: &Matrix, pass: &P) -> P::Partial {
    let view = View::new(matrix.n_obs(), matrix.n_vars(), None, &Chain::default()).unwrap();
    run_every_way_in(matrix, &view, pass)
}

/// As [`run_every_way`], through a view.
pub(super) fn run_every_way_in<P: Pass>(matrix: &Matrix, view: &View, pass: &P) -> P::Partial {
    let run = |threads| {
        let ctx = Ctx::new(threads, 1 << 30, PathBuf::new(), &Silent);
        pass::run(matrix, view, &ctx, "test", pass).unwrap()
    };
    let one = run(1);
    let bytes = pass::to_bytes(&one).unwrap();
    assert_eq!(pass::to_bytes(&run(2)).unwrap(), bytes);
    assert_eq!(pass::to_bytes(&run(4)).unwrap(), bytes);
    let ctx = Ctx::new(2, 1 << 30, PathBuf::new(), &Silent);
    let mut partials = vec![pass.empty()];
    for range in 0..matrix.grid.n_ranges() {
        let part = pass::run_ranges(matrix, view, &ctx, "test", pass, &[range]).unwrap();
        for partial in part {
            let sent = pass::to_bytes(&partial).unwrap();
            partials.push(pass::from_bytes(&sent).unwrap());
        }
    }
    partials.push(pass.empty());
    assert_eq!(pass::to_bytes(&pass::merge_partials(pass, partials)).unwrap(), bytes);
    one
}
