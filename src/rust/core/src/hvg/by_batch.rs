//! One sum for every batch and gene, in one read of the matrix.
//!
//! What is summed may depend on the cell, the batch and the gene: a [`Statistic`]
//! says how. Zeros are left to its user, who knows how many there are.
//!
//! Memory: batches x genes sums for the total and as many for the range in work.
//! [`run_by_batch`] takes slices of the genes where that exceeds half of the budget,
//! at the price of a read for each.

use std::ops::Range;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::ctx::Ctx;
use crate::error::Result;
use crate::matrix::{RowBlock, Source};
use crate::pass::{TiledPass, run_tiled};
use crate::summary::groups::{Groups, not_finite};
use crate::transform::View;

/// What is known of one gene in one batch.
pub trait Statistic: Sync {
    /// The sum.
    type Sum: Copy + Default + Send + Sync + Serialize + DeserializeOwned;
    /// What a cell is to it.
    type Cell: Copy;

    /// The cell at a position of the view.
    fn cell(&self, position: usize, batch: usize) -> Self::Cell;
    /// Adds a nonzero value, and the same value before the logarithm. `at` is
    /// `batch * n_vars + gene`.
    fn push(&self, sum: &mut Self::Sum, cell: Self::Cell, at: usize, value: f64, linear: f64);
    /// Adds what comes later in the file. An empty sum is neutral.
    fn merge(into: &mut Self::Sum, later: &Self::Sum);
}

/// Tiles of batches at most: few enough to go through for every block.
const MOST_BATCH_TILES: usize = 64;

/// Tiles that keep the threads busy; few batches are cut by genes too.
const ENOUGH_TILES: usize = 16;

/// Genes that a tile has at least, where there are as many.
const LEAST_GENES: usize = 64;

/// Sums the genes of a slice for all batches. A tile owns some genes of some
/// batches and visits their rows alone.
pub struct BatchPass<'a, S> {
    groups: &'a Groups,
    statistic: &'a S,
    n_vars: usize,
    genes: Range<usize>,
    with_totals: bool,
    batches_per_tile: usize,
    genes_per_tile: usize,
    gene_tiles: usize,
}

impl<'a, S: Statistic> BatchPass<'a, S> {
    /// A pass over the columns `genes` of a view with `n_vars`, whose rows are in
    /// these batches and sorted ([`View::with_sorted_rows`]). With `with_totals`
    /// it also adds up each row over all columns.
    #[must_use]
    pub fn new(
        groups: &'a Groups,
        statistic: &'a S,
        n_vars: usize,
        genes: Range<usize>,
        with_totals: bool,
    ) -> Self {
        let batches_per_tile = groups.n_groups().div_ceil(MOST_BATCH_TILES).max(1);
        let batch_tiles = groups.n_groups().div_ceil(batches_per_tile).max(1);
        let wanted = ENOUGH_TILES.div_ceil(batch_tiles).min(genes.len() / LEAST_GENES).max(1);
        let genes_per_tile = genes.len().div_ceil(wanted).max(1);
        BatchPass {
            groups,
            statistic,
            n_vars,
            with_totals,
            batches_per_tile,
            genes_per_tile,
            gene_tiles: genes.len().div_ceil(genes_per_tile).max(1),
            genes,
        }
    }

    fn batches_of(&self, tile: usize) -> Range<usize> {
        let first = tile / self.gene_tiles * self.batches_per_tile;
        first..(first + self.batches_per_tile).min(self.groups.n_groups())
    }

    fn genes_of(&self, tile: usize) -> Range<usize> {
        let first = self.genes.start + tile % self.gene_tiles * self.genes_per_tile;
        first..(first + self.genes_per_tile).min(self.genes.end)
    }

    /// The tiles of the pass as one table.
    #[must_use]
    pub fn table(&self, tiles: Vec<BatchTile<S::Sum>>) -> BatchSums<S::Sum> {
        let n_genes = self.genes.len();
        let mut sums = vec![S::Sum::default(); self.groups.n_groups() * n_genes];
        let (mut rows, mut totals) = (Vec::new(), Vec::new());
        for (t, mut tile) in tiles.into_iter().enumerate() {
            let genes = self.genes_of(t);
            let first_gene = genes.start - self.genes.start;
            for (b, batch) in self.batches_of(t).enumerate() {
                sums[batch * n_genes + first_gene..][..genes.len()]
                    .copy_from_slice(&tile.sums[b * genes.len()..][..genes.len()]);
            }
            rows.append(&mut tile.rows);
            totals.append(&mut tile.totals);
        }
        BatchSums { genes: self.genes.clone(), sums, rows, totals }
    }
}

/// The sums of some genes in some batches: genes of the first batch, genes of the
/// second ...
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BatchTile<T> {
    sums: Vec<T>,
    rows: Vec<usize>,
    totals: Vec<f64>,
}

impl<S: Statistic> TiledPass for BatchPass<'_, S> {
    type Tile = BatchTile<S::Sum>;
    type Held = RowBlock;

    fn n_tiles(&self) -> usize {
        self.groups.n_groups().div_ceil(self.batches_per_tile) * self.gene_tiles
    }

    fn empty(&self, tile: usize) -> Self::Tile {
        let n = self.batches_of(tile).len() * self.genes_of(tile).len();
        BatchTile { sums: vec![S::Sum::default(); n], rows: Vec::new(), totals: Vec::new() }
    }

    fn hold(&self, slab: &mut RowBlock, held: &mut RowBlock) {
        std::mem::swap(slab, held);
    }

    fn fold(&self, block: &RowBlock, tile: usize, partial: &mut Self::Tile) -> Result<()> {
        let (batches, genes) = (self.batches_of(tile), self.genes_of(tile));
        let adds_totals = self.with_totals && tile % self.gene_tiles == 0;
        for (r, &position) in block.rows.iter().enumerate() {
            let batch = self.groups.of(position) as usize;
            if !batches.contains(&batch) {
                continue;
            }
            let (indices, values) = block.row(r);
            if adds_totals {
                partial.rows.push(position);
                partial.totals.push(values.iter().sum());
            }
            let from = indices.partition_point(|&gene| (gene as usize) < genes.start);
            let owned = from..indices.partition_point(|&gene| (gene as usize) < genes.end);
            let linear = if block.linear.is_empty() { values } else { block.linear_row(r) };
            let sums = &mut partial.sums[(batch - batches.start) * genes.len()..][..genes.len()];
            let (cell, first) = (self.statistic.cell(position, batch), batch * self.n_vars);
            let mut finite = true;
            for at in owned.clone() {
                let (gene, value) = (indices[at] as usize, values[at]);
                if value != 0.0 {
                    finite &= value.is_finite();
                    let sum = &mut sums[gene - genes.start];
                    self.statistic.push(sum, cell, first + gene, value, linear[at]);
                }
            }
            if !finite {
                return Err(not_finite(&values[owned.clone()], &indices[owned], position));
            }
        }
        Ok(())
    }

    fn merge(&self, _tile: usize, into: &mut Self::Tile, from: &mut Self::Tile) {
        for (into, from) in into.sums.iter_mut().zip(&from.sums) {
            S::merge(into, from);
        }
        into.rows.append(&mut from.rows);
        into.totals.append(&mut from.totals);
    }
}

/// The finished sums of a slice of the genes.
#[derive(Debug, Clone)]
pub struct BatchSums<T> {
    genes: Range<usize>,
    sums: Vec<T>,
    rows: Vec<usize>,
    totals: Vec<f64>,
}

impl<T> BatchSums<T> {
    /// The genes of the slice.
    #[must_use]
    pub fn genes(&self) -> Range<usize> {
        self.genes.clone()
    }

    /// The sums of one batch, gene by gene.
    #[must_use]
    pub fn batch(&self, batch: usize) -> &[T] {
        &self.sums[batch * self.genes.len()..][..self.genes.len()]
    }

    /// The positions of rows and their totals, where they were asked for.
    pub fn totals(&self) -> impl Iterator<Item = (usize, f64)> {
        self.rows.iter().copied().zip(self.totals.iter().copied())
    }
}

/// Reads the matrix and gives `each` the sums of one slice of the genes after the
/// other. Totals come with the first slice.
///
/// # Errors
/// As [`run_tiled`], and what `each` reports.
pub fn run_by_batch<S: Statistic>(
    (source, view, ctx): (&dyn Source, &View, &Ctx),
    stage: &str,
    groups: &Groups,
    statistic: &S,
    with_totals: bool,
    mut each: impl FnMut(BatchSums<S::Sum>) -> Result<()>,
) -> Result<()> {
    groups.check_rows(view.n_obs())?;
    let n_vars = view.n_vars();
    let slices = gene_slices::<S::Sum>(groups.n_groups(), n_vars, ctx.memory_bytes());
    for (number, genes) in slices.into_iter().enumerate() {
        let pass = BatchPass::new(groups, statistic, n_vars, genes, with_totals && number == 0);
        each(pass.table(run_tiled(source, view, ctx, stage, &pass)?))?;
    }
    Ok(())
}

/// Slices of the genes so that the sums of one, for the total and for a range,
/// take at most half of `memory_bytes`. At least one, and one gene each where
/// there are any.
fn gene_slices<T>(n_batches: usize, n_vars: usize, memory_bytes: u64) -> Vec<Range<usize>> {
    let per_gene = (2 * size_of::<T>() * n_batches.max(1)) as u64;
    let most = (memory_bytes / 2 / per_gene).clamp(1, n_vars.max(1) as u64) as usize;
    (0..n_vars.max(1)).step_by(most).map(|start| start..(start + most).min(n_vars)).collect()
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::ctx::Silent;
    use crate::matrix::testing::Matrix;
    use crate::pass::{from_bytes, run_tiled_ranges, to_bytes};
    use crate::summary::groups::NONE;
    use crate::transform::Chain;

    /// Batches in turns; every seventh cell is in none.
    pub(crate) fn batches(n_obs: usize, n_batches: usize) -> Groups {
        let code = |i: usize| if i % 7 == 6 { NONE } else { (i % n_batches) as u32 };
        Groups::new((0..n_obs).map(code).collect(), n_batches).unwrap()
    }

    /// The rows of a batch.
    pub(crate) fn rows_of(matrix: &Matrix, groups: &Groups, batch: usize) -> Vec<Vec<f64>> {
        let inside = (0..matrix.dense.len()).filter(|&i| groups.of(i) as usize == batch);
        inside.map(|i| matrix.dense[i].clone()).collect()
    }

    /// Runs a statistic by 1 and 4 threads, in slices, and by ranges whose tiles
    /// travel as bytes: all have to give the same bytes.
    pub(crate) fn sums_every_way<S: Statistic>(
        matrix: &Matrix,
        groups: &Groups,
        statistic: &S,
    ) -> BatchSums<S::Sum> {
        let (n_obs, n_vars) = (matrix.n_obs(), matrix.n_vars());
        let view = View::new(n_obs, n_vars, None, &Chain::default()).unwrap().with_sorted_rows();
        let whole = |threads| {
            let ctx = Ctx::new(threads, 1 << 30, std::path::PathBuf::new(), &Silent);
            let pass = BatchPass::new(groups, statistic, n_vars, 0..n_vars, true);
            pass.table(run_tiled(matrix, &view, &ctx, "test", &pass).unwrap())
        };
        let one = whole(1);
        let bytes = to_bytes(&one.sums).unwrap();
        assert_eq!(to_bytes(&whole(4).sums).unwrap(), bytes);
        let ctx = Ctx::new(2, 1 << 30, std::path::PathBuf::new(), &Silent);
        let pass = BatchPass::new(groups, statistic, n_vars, 0..n_vars, true);
        let mut total: Vec<_> = (0..pass.n_tiles()).map(|t| pass.empty(t)).collect();
        for range in 0..matrix.grid().n_ranges() {
            let tiles = run_tiled_ranges(matrix, &view, &ctx, "test", &pass, range).unwrap();
            let sent: Vec<BatchTile<S::Sum>> = from_bytes(&to_bytes(&tiles).unwrap()).unwrap();
            for (t, (into, mut from)) in total.iter_mut().zip(sent).enumerate() {
                pass.merge(t, into, &mut from);
            }
        }
        assert_eq!(to_bytes(&pass.table(total).sums).unwrap(), bytes);
        // A budget too small for all genes at once.
        let third = 4 * size_of::<S::Sum>() * groups.n_groups() * n_vars.div_ceil(3);
        let small = third as u64;
        let ctx = Ctx::new(2, small, std::path::PathBuf::new(), &Silent);
        let mut sliced = vec![S::Sum::default(); one.sums.len()];
        let mut n_slices = 0;
        run_by_batch((matrix, &view, &ctx), "test", groups, statistic, false, |sums| {
            for batch in 0..groups.n_groups() {
                sliced[batch * n_vars + sums.genes().start..][..sums.genes().len()]
                    .copy_from_slice(sums.batch(batch));
            }
            n_slices += 1;
            Ok(())
        })
        .unwrap();
        assert!(n_slices > 1 || n_vars < 3);
        assert_eq!(to_bytes(&sliced).unwrap(), bytes);
        one
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{batches, rows_of, sums_every_way};
    use super::*;
    use crate::ctx::Silent;
    use crate::matrix::testing::Matrix;
    use crate::transform::Chain;

    /// The sum of the values, each times its place and its cell.
    struct Places;

    impl Statistic for Places {
        type Sum = f64;
        type Cell = f64;

        fn cell(&self, position: usize, batch: usize) -> f64 {
            position as f64 + 1000.0 * batch as f64
        }

        fn push(&self, sum: &mut f64, cell: f64, at: usize, value: f64, _linear: f64) {
            *sum += value * (at as f64) * cell;
        }

        fn merge(into: &mut f64, later: &f64) {
            *into += later;
        }
    }

    #[test]
    fn every_value_goes_to_its_batch_and_gene_once() {
        // Few batches are cut by genes, many are not.
        for (n_vars, n_batches) in [(400, 1), (300, 3), (30, 20), (5, 130)] {
            let matrix = Matrix::counts(150, n_vars, 3);
            let groups = batches(150, n_batches);
            let got = sums_every_way(&matrix, &groups, &Places);
            for batch in 0..n_batches {
                for (gene, sum) in got.batch(batch).iter().enumerate() {
                    let want: f64 = (0..150)
                        .filter(|&i| groups.of(i) as usize == batch)
                        .map(|i| {
                            let cell = i as f64 + 1000.0 * batch as f64;
                            matrix.dense[i][gene] * ((batch * n_vars + gene) as f64) * cell
                        })
                        .sum();
                    assert_eq!(*sum, want);
                }
                let rows = rows_of(&matrix, &groups, batch);
                let of_batch: Vec<f64> = rows.iter().map(|row| row.iter().sum()).collect();
                let mut totals: Vec<(usize, f64)> =
                    got.totals().filter(|&(i, _)| groups.of(i) as usize == batch).collect();
                totals.sort_by_key(|&(i, _)| i);
                assert_eq!(totals.iter().map(|&(_, t)| t).collect::<Vec<_>>(), of_batch);
            }
        }
    }

    #[test]
    fn nothing_to_sum() {
        for (n_obs, n_vars) in [(0, 5), (5, 0)] {
            let matrix = Matrix::counts(n_obs, n_vars, 1);
            let got = sums_every_way(&matrix, &batches(n_obs, 2), &Places);
            assert_eq!(got.batch(1).len(), n_vars);
        }
    }

    #[test]
    fn values_that_are_no_numbers_are_errors_that_say_where() {
        let mut matrix = Matrix::counts(20, 200, 1);
        matrix.set(4, 150, f64::NAN);
        let view = View::new(20, 200, None, &Chain::default()).unwrap().with_sorted_rows();
        let ctx = Ctx::new(2, 1 << 30, std::path::PathBuf::new(), &Silent);
        let groups = batches(20, 2);
        let job = (&matrix as &dyn Source, &view, &ctx);
        let error = run_by_batch(job, "test", &groups, &Places, false, |_| Ok(())).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("cell 5 and gene 151"), "{message}");
    }
}
