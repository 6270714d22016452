//! The covariance of genes from sparse rows.
//!
//! A row of the standardised matrix is `c + s`, with `c` the same for all rows
//! and `s` sparse. The covariance does not see `c`:
//! `sum (z - mean)(z - mean)' = sum s s' - S S' / n` with `S = sum s`. So one
//! pass over the sparse part gives it, and zeros cost nothing.
//!
//! Memory: `g^2` float64 for `g` genes, once for the range in work and once for
//! the total. Cost: for each row half the square of its nonzero genes. Rows that have all
//! their genes (residuals, adjusted values) are multiplied as dense matrices, a piece at a
//! time.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::{Held, TiledPass};
use crate::transform::View;

/// Genes of a tile: few enough for many tiles, enough for short scans of rows.
const TILE: usize = 64;

/// Accumulates `sum s s'` and `sum s` over the rows of a view with sorted rows
/// ([`View::with_sorted_rows`]); tiles own genes.
///
/// # Numerics
/// Every element is summed over the rows in file order, range by range. Sums over the rows
/// of a dense piece are faer's, whose kernels follow the processor; pieces follow from the
/// grid alone.
#[derive(Debug, Clone, Copy)]
pub struct CovariancePass {
    n_vars: usize,
    is_dense: bool,
}

/// The part of the sums that belongs to some genes: for each its products with
/// the genes from the tile's first on, of sparse rows from the last to the tile's first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CovarianceTile {
    sums: Vec<f64>,
    products: Vec<f64>,
}

impl CovariancePass {
    /// For the genes of `view`.
    #[must_use]
    pub fn new(view: &View) -> Self {
        CovariancePass { n_vars: view.n_vars(), is_dense: view.is_dense() }
    }

    fn fold_dense(self, block: &RowBlock, tile: usize, partial: &mut CovarianceTile) {
        let (genes, n_rows) = (self.genes(tile), block.n_rows());
        for row in block.values.chunks_exact(self.n_vars.max(1)) {
            for (sum, value) in partial.sums.iter_mut().zip(&row[genes.clone()]) {
                *sum += value;
            }
        }
        let width = self.n_vars - genes.start;
        let rows = MatRef::from_row_major_slice(&block.values, n_rows, self.n_vars);
        let right = rows.subcols(genes.start, width);
        matmul(
            MatMut::from_row_major_slice_mut(&mut partial.products, genes.len(), width),
            Accum::Add,
            right.subcols(0, genes.len()).transpose(),
            right,
            1.0,
            Par::Seq,
        );
    }

    fn genes(self, tile: usize) -> Range<usize> {
        tile * TILE..((tile + 1) * TILE).min(self.n_vars)
    }

    /// Centres the sums over `n_obs` rows.
    ///
    /// # Errors
    /// [`Error::InvalidValues`] where a value was NaN or infinite.
    pub fn finish(self, tiles: &[CovarianceTile], n_obs: usize) -> Result<Covariance> {
        let g = self.n_vars;
        let sums: Vec<f64> = tiles.iter().flat_map(|tile| tile.sums.iter().copied()).collect();
        let mut scatter = vec![0.0; g * g];
        for (t, tile) in tiles.iter().enumerate() {
            let genes = self.genes(t);
            let width = g - genes.start;
            for (row, i) in genes.clone().enumerate() {
                for j in i..g {
                    let column = if self.is_dense { j - genes.start } else { g - 1 - j };
                    let product = tile.products[row * width + column];
                    let centred = product - sums[i] * sums[j] / n_obs as f64;
                    scatter[i * g + j] = centred;
                    scatter[j * g + i] = centred;
                }
            }
        }
        if scatter.iter().any(|x| !x.is_finite()) {
            return Err(Error::InvalidValues {
                message: "the selected genes have values that are NaN or infinite".into(),
            });
        }
        Ok(Covariance { n_vars: g, n_obs, scatter, sums })
    }
}

/// Sums of squares and products of the centred genes.
#[derive(Debug, Clone)]
pub struct Covariance {
    /// Number of genes.
    pub n_vars: usize,
    /// Number of rows they were summed over.
    pub n_obs: usize,
    /// `sum (z - mean)(z - mean)'`, row by row.
    pub scatter: Vec<f64>,
    /// Sums of the sparse part of each gene.
    pub sums: Vec<f64>,
}

/// Rows, and of sparse ones where the genes of each tile begin in them; their columns count
/// from the last gene, so that they are places among the products of every tile.
#[derive(Debug, Default)]
pub struct Rows {
    block: RowBlock,
    /// Row by row for the first tile, then for the second and so on; the last are the ends
    /// of the rows.
    starts: Vec<u32>,
}

impl Rows {
    fn find_tiles(&mut self, n_tiles: usize) {
        let (block, n_rows) = (&self.block, self.block.n_rows());
        self.starts.clear();
        self.starts.resize((n_tiles + 1) * n_rows, 0);
        for r in 0..n_rows {
            let (mut at, end) = (block.indptr[r], block.indptr[r + 1]);
            for tile in 0..=n_tiles {
                let first = (tile * TILE) as u32;
                while at < end && block.indices[at] < first {
                    at += 1;
                }
                self.starts[tile * n_rows + r] = at as u32;
            }
        }
    }

    fn starts_of(&self, tile: usize) -> &[u32] {
        let n_rows = self.block.n_rows();
        &self.starts[tile * n_rows..(tile + 1) * n_rows]
    }
}

impl Held for Rows {
    fn clear(&mut self) {
        self.block.clear();
        self.starts.clear();
    }

    fn bytes(&self) -> usize {
        self.block.bytes() + 4 * self.starts.len()
    }
}

/// Adds products of the entries of a tile's genes with what follows in their rows.
struct AddProducts<'a> {
    block: &'a RowBlock,
    places: &'a Places,
    width: usize,
    partial: &'a mut CovarianceTile,
}

impl WithSimd for AddProducts<'_> {
    type Output = ();

    // No vectors, and no operation that rounds otherwise: instructions of newer processors are
    // fewer.
    #[allow(clippy::inline_always)] // Or it is not compiled with the features of the processor.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let AddProducts { block, places, width, partial } = self;
        for (gene, sum) in partial.sums.iter_mut().enumerate() {
            let products = &mut partial.products[gene * width..(gene + 1) * width];
            let mut total = *sum;
            for &(at, end) in places.of(gene) {
                let row = at as usize..end as usize;
                let (columns, values) = (&block.indices[row.clone()], &block.values[row]);
                let value = values[0];
                total += value;
                // Four in a turn: the loop itself would take a quarter of the time.
                let (mut column, mut other) = (columns.chunks_exact(4), values.chunks_exact(4));
                while let (Some(c), Some(x)) = (column.next(), other.next()) {
                    products[c[0] as usize] += value * x[0];
                    products[c[1] as usize] += value * x[1];
                    products[c[2] as usize] += value * x[2];
                    products[c[3] as usize] += value * x[3];
                }
                let (c, x) = (column.remainder(), other.remainder());
                let mut i = 0;
                while i < c.len() && i < x.len() {
                    products[c[i] as usize] += value * x[i];
                    i += 1;
                }
            }
            *sum = total;
        }
    }
}

/// Where the entries of a tile's genes are and where their rows end: gene by gene, so that
/// one gene's products stay in the nearest cache.
struct Places {
    /// Place and end of the row.
    by_gene: Vec<(u32, u32)>,
    /// Where each gene begins in it.
    starts: [usize; TILE + 1],
}

impl Places {
    fn of_tile(held: &Rows, tile: usize, n_vars: usize) -> Self {
        let (block, last) = (&held.block, (n_vars - 1 - tile * TILE) as u32);
        let rows = held.starts_of(tile).iter().zip(held.starts_of(tile + 1));
        let mut counts = [0usize; TILE + 1];
        let mut found: Vec<(u32, u32, u8)> = Vec::new();
        for ((&start, &stop), &end) in rows.zip(block.indptr.iter().skip(1)) {
            for (at, &column) in (start..).zip(&block.indices[start as usize..stop as usize]) {
                let gene = (last - column) as usize;
                counts[gene + 1] += 1;
                found.push((at, end as u32, gene as u8));
            }
        }
        for gene in 0..TILE {
            counts[gene + 1] += counts[gene];
        }
        let starts = counts;
        let mut by_gene = vec![(0, 0); found.len()];
        for (at, end, gene) in found {
            by_gene[counts[gene as usize]] = (at, end);
            counts[gene as usize] += 1;
        }
        Places { by_gene, starts }
    }

    fn of(&self, gene: usize) -> &[(u32, u32)] {
        &self.by_gene[self.starts[gene]..self.starts[gene + 1]]
    }
}

impl TiledPass for CovariancePass {
    type Tile = CovarianceTile;
    type Held = Rows;

    fn n_tiles(&self) -> usize {
        self.n_vars.div_ceil(TILE)
    }

    fn empty(&self, tile: usize) -> CovarianceTile {
        let genes = self.genes(tile);
        CovarianceTile {
            sums: vec![0.0; genes.len()],
            products: vec![0.0; genes.len() * (self.n_vars - genes.start)],
        }
    }

    fn hold(&self, slab: &mut RowBlock, held: &mut Rows) {
        std::mem::swap(slab, &mut held.block);
        if !self.is_dense {
            held.find_tiles(self.n_tiles());
            for column in &mut held.block.indices {
                *column = (self.n_vars - 1) as u32 - *column;
            }
        }
    }

    fn fold(&self, held: &Rows, tile: usize, partial: &mut CovarianceTile) -> Result<()> {
        if self.is_dense {
            self.fold_dense(&held.block, tile, partial);
            return Ok(());
        }
        let (n_vars, block) = (self.n_vars, &held.block);
        let places = Places::of_tile(held, tile, n_vars);
        let width = n_vars - tile * TILE;
        Arch::new().dispatch(AddProducts { block, places: &places, width, partial });
        Ok(())
    }

    fn merge(&self, _tile: usize, into: &mut CovarianceTile, from: &mut CovarianceTile) {
        let add = |into: &mut [f64], from: &[f64]| {
            for (a, b) in into.iter_mut().zip(from) {
                *a += b;
            }
        };
        add(&mut into.sums, &from.sums);
        add(&mut into.products, &from.products);
    }

    fn reset(&self, _tile: usize, partial: &mut CovarianceTile) {
        partial.sums.fill(0.0);
        partial.products.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Ctx, Silent};
    use crate::matrix::memory::SparseRows;
    use crate::matrix::testing::Matrix;
    use crate::pass::run_tiled;
    use crate::transform::{Adjust, Chain, Op};

    fn covariance(source: &dyn crate::matrix::Source, view: &View, threads: usize) -> Covariance {
        let ctx = Ctx::new(threads, 1 << 30, std::env::temp_dir(), &Silent);
        let pass = CovariancePass::new(view);
        let tiles = run_tiled(source, view, &ctx, "covariance", &pass).unwrap();
        pass.finish(&tiles, view.n_obs()).unwrap()
    }

    fn check(found: &Covariance, dense: &[Vec<f64>], tolerance: f64) {
        let (g, n) = (found.n_vars, dense.len() as f64);
        let means: Vec<f64> =
            (0..g).map(|j| dense.iter().map(|row| row[j]).sum::<f64>() / n).collect();
        for i in 0..g {
            for j in 0..g {
                let want: f64 =
                    dense.iter().map(|row| (row[i] - means[i]) * (row[j] - means[j])).sum();
                let got = found.scatter[i * g + j];
                assert!((got - want).abs() < tolerance, "{i}, {j}: {got} {want}");
            }
        }
    }

    #[test]
    fn columns_of_a_row_may_come_in_any_order() {
        let matrix = Matrix::counts(61, 20, 2);
        let view = View::new(61, 20, None, &Chain::default()).unwrap().with_sorted_rows();
        check(&covariance(&matrix, &view, 2), &matrix.dense, 1e-9);
    }

    /// Two blocks of many short rows, which have more values written out than may be held.
    #[test]
    fn rows_with_all_genes_come_in_pieces() {
        let (n, g) = (70_000, 70);
        let indptr: Vec<i32> = (0..=n as i32).collect();
        let indices: Vec<i32> = (0..n as i32).map(|row| row * 7 % g as i32).collect();
        let values: Vec<f64> = (0..n).map(|row| (row % 13) as f64).collect();
        let source = SparseRows::new(n, g, &indptr, &indices, &values).unwrap();
        let adjust = Adjust {
            n_columns: 1,
            design: (0..n).map(|row| (row % 5) as f64 - 2.0).collect(),
            coefficients: (0..g).map(|gene| gene as f64 / 50.0).collect(),
            groups: vec![],
            offset: vec![0.25; g],
            scale: None,
        };
        let dense: Vec<Vec<f64>> = (0..n)
            .map(|row| {
                (0..g)
                    .map(|gene| {
                        let x = if indices[row] as usize == gene { values[row] } else { 0.0 };
                        x - adjust.design[row] * adjust.coefficients[gene] + 0.25
                    })
                    .collect()
            })
            .collect();
        let chain = Chain { ops: vec![Op::Adjust(adjust)], stored_log: None };
        let view = View::new(n, g, None, &chain).unwrap().with_sorted_rows();
        assert!(
            (0..2)
                .map(|b| view.n_pieces(&crate::matrix::Source::grid(&source).rows(b)))
                .sum::<usize>()
                > 4
        );
        let one = covariance(&source, &view, 1);
        check(&one, &dense, 1e-6);
        let two = covariance(&source, &view, 2);
        assert_eq!(one.scatter, two.scatter);
        assert_eq!(one.sums, two.sums);
    }
}
