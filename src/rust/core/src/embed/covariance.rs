//! The covariance of genes from sparse rows.
//!
//! A row of the standardised matrix is `c + s`, with `c` the same for all rows
//! and `s` sparse. The covariance does not see `c`:
//! `sum (z - mean)(z - mean)' = sum s s' - S S' / n` with `S = sum s`. So one
//! pass over the sparse part gives it, and zeros cost nothing.
//!
//! Memory: `g^2` float64 for `g` genes, once for the range in work and once for
//! the total. Cost: for each row half the square of its nonzero genes.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::TiledPass;

/// Genes of a tile: few enough for many tiles, enough for short scans of rows.
const TILE: usize = 64;

/// Accumulates `sum s s'` and `sum s` over the rows of a view with `n_vars`
/// genes and sorted rows ([`View::with_sorted_rows`](crate::transform::View::with_sorted_rows));
/// tiles own genes.
///
/// # Numerics
/// Every element is summed over the rows in file order, range by range.
#[derive(Debug, Clone, Copy)]
pub struct CovariancePass {
    n_vars: usize,
}

/// The part of the sums that belongs to some genes: for each its products with
/// the genes from the tile's first on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CovarianceTile {
    sums: Vec<f64>,
    products: Vec<f64>,
}

impl CovariancePass {
    /// For a view with `n_vars` genes.
    #[must_use]
    pub fn new(n_vars: usize) -> Self {
        CovariancePass { n_vars }
    }

    fn genes(self, tile: usize) -> std::ops::Range<usize> {
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
                    let product = tile.products[row * width + (j - genes.start)];
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

impl TiledPass for CovariancePass {
    type Tile = CovarianceTile;

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

    fn fold(&self, block: &RowBlock, tile: usize, partial: &mut CovarianceTile) -> Result<()> {
        let genes = self.genes(tile);
        let (first, last) = (genes.start as u32, genes.end as u32);
        // Where each entry of the tile's genes is, and where its row ends:
        // gene by gene, so that one gene's products stay in the nearest cache.
        let mut counts = [0usize; TILE + 1];
        let mut found: Vec<(u32, u32, u8)> = Vec::new();
        for r in 0..block.n_rows() {
            let (start, end) = (block.indptr[r], block.indptr[r + 1]);
            let columns = &block.indices[start..end];
            let from = columns.partition_point(|&c| c < first);
            for (at, &column) in columns.iter().enumerate().skip(from) {
                if column >= last {
                    break;
                }
                let gene = (column - first) as usize;
                counts[gene + 1] += 1;
                found.push(((start + at) as u32, end as u32, gene as u8));
            }
        }
        for gene in 0..TILE {
            counts[gene + 1] += counts[gene];
        }
        let mut by_gene = vec![(0u32, 0u32); found.len()];
        let mut next = counts;
        for (at, end, gene) in found {
            by_gene[next[gene as usize]] = (at, end);
            next[gene as usize] += 1;
        }
        let width = self.n_vars - genes.start;
        for gene in 0..genes.len() {
            let products = &mut partial.products[gene * width..(gene + 1) * width];
            for &(at, end) in &by_gene[counts[gene]..counts[gene + 1]] {
                let (at, end) = (at as usize, end as usize);
                let value = block.values[at];
                partial.sums[gene] += value;
                for (&column, &other) in block.indices[at..end].iter().zip(&block.values[at..end]) {
                    products[(column - first) as usize] += value * other;
                }
            }
        }
        Ok(())
    }

    fn merge(&self, _tile: usize, into: &mut CovarianceTile, from: CovarianceTile) {
        let add = |into: &mut [f64], from: &[f64]| {
            for (a, b) in into.iter_mut().zip(from) {
                *a += b;
            }
        };
        add(&mut into.sums, &from.sums);
        add(&mut into.products, &from.products);
    }
}
