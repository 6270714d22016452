//! One accumulator for every group and gene, in one read of the matrix.
//!
//! Memory: groups x genes accumulators for the total and as many for the range
//! in work. [`gene_slices`] splits the genes where that exceeds the budget, at
//! the price of a read for each slice.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::groups::{Groups, not_finite};
use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::TiledPass;
use crate::transform::{RowLog, RowTable, View};

/// What is known of one gene in one group: sums over its nonzero values.
pub trait Accumulate: Default + Copy + Send + Sync + Serialize + DeserializeOwned {
    /// Adds a value, and the same value before the logarithm.
    fn push(&mut self, value: f64, linear: f64);
    /// Adds what comes later in the file. An empty accumulator is neutral.
    fn merge(&mut self, later: &Self);

    /// Whether small values have a word ([`Accumulate::pack`]).
    const PACKS: bool = false;
    /// The value as a word such that the sum of up to [`MOST_WORDS`] of them
    /// unpacks to what pushing each value gives.
    #[must_use]
    fn pack(_value: f64) -> Option<u64> {
        None
    }
    /// What a sum of words stands for.
    #[must_use]
    fn unpack(_sum: u64) -> Self {
        Self::default()
    }
}

/// Words that may be added up before they are unpacked.
pub const MOST_WORDS: u32 = (1 << 24) - 1;

/// Tiles at most: enough for any number of threads, few enough to go through
/// for every block.
const MAX_TILES: usize = 64;

/// Accumulates the genes of a slice for all groups. A tile owns some groups and
/// visits their rows alone.
pub struct GroupPass<'g, A> {
    groups: &'g Groups,
    genes: Range<usize>,
    groups_per_tile: usize,
    /// What the view leaves to the pass.
    log: Option<RowLog>,
    accumulator: PhantomData<A>,
}

impl<'g, A: Accumulate> GroupPass<'g, A> {
    /// A pass over the columns `genes` of a view whose rows have these groups.
    #[must_use]
    pub fn new(groups: &'g Groups, genes: Range<usize>) -> Self {
        GroupPass {
            groups,
            genes,
            groups_per_tile: groups.n_groups().div_ceil(MAX_TILES).max(1),
            log: None,
            accumulator: PhantomData,
        }
    }

    /// The same pass and the view that it has to run over for what it gives over
    /// `view`, which keeps values before the logarithm: without a last step that the
    /// pass does itself.
    pub(super) fn over(self, view: &View) -> (Self, View) {
        match view.leaving_log() {
            Some((view, log)) => (GroupPass { log: Some(log), ..self }, view),
            None => (self, view.clone()),
        }
    }

    fn groups_of(&self, tile: usize) -> Range<usize> {
        let first = tile * self.groups_per_tile;
        first..(first + self.groups_per_tile).min(self.groups.n_groups())
    }

    /// What is wrong with a row that holds a value which is no number.
    fn not_finite(&self, (indices, values): (&[u32], &[f64]), position: usize) -> Error {
        let Some(log) = &self.log else { return not_finite(values, indices, position) };
        let mut table = RowTable::default();
        let mut function = log.row(indices, values, &mut table);
        let values: Vec<f64> = values.iter().map(|&value| function.value(value).1).collect();
        not_finite(&values, indices, position)
    }

    /// The tiles of the pass as one table.
    #[must_use]
    pub fn table(&self, mut tiles: Vec<GroupTile<A>>) -> GroupTable<A> {
        for tile in &mut tiles {
            tile.unpack();
            tile.cells();
        }
        GroupTable { n_genes: self.genes.len(), groups_per_tile: self.groups_per_tile, tiles }
    }
}

/// The accumulators of some groups: genes of the first, genes of the second ...
///
/// Problem: a row's values are scattered over the genes of its group, which lie in
/// the third-level cache, and each costs a line to and fro. Solution: words of 8
/// bytes where values allow it, so that a row's lines are neighbours. They become
/// accumulators when a range is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "A: Accumulate")]
pub struct GroupTile<A> {
    /// Empty while words have been enough.
    cells: Vec<A>,
    /// Sums of words; empty where none are taken.
    words: Vec<u64>,
    /// Rows in `words`.
    rows: u32,
}

impl<A: Accumulate> GroupTile<A> {
    fn new(n_cells: usize) -> Self {
        if A::PACKS {
            GroupTile { cells: Vec::new(), words: vec![0; n_cells], rows: 0 }
        } else {
            GroupTile { cells: vec![A::default(); n_cells], words: Vec::new(), rows: 0 }
        }
    }

    /// The accumulators; there are as many as words.
    fn cells(&mut self) -> &mut [A] {
        if self.cells.len() < self.words.len() {
            self.cells.resize(self.words.len(), A::default());
        }
        &mut self.cells
    }

    /// Turns the words into accumulators.
    fn unpack(&mut self) {
        if self.rows == 0 {
            return;
        }
        let words = std::mem::take(&mut self.words);
        self.words = vec![0; words.len()];
        self.rows = 0;
        for (cell, word) in self.cells().iter_mut().zip(words) {
            cell.merge(&A::unpack(word));
        }
    }

    /// Adds the values of a row that have words to the `n_genes` from `at` on;
    /// whether all had.
    fn push_words(&mut self, at: usize, genes: &Range<usize>, row: (&[u32], &[f64])) -> bool {
        if self.rows == MOST_WORDS {
            self.unpack();
        }
        self.rows += 1;
        let words = &mut self.words[at..][..genes.len()];
        let first_gene = genes.start as u32;
        let mut all = true;
        for (&gene, &value) in row.0.iter().zip(row.1) {
            if let Some(word) = words.get_mut(gene.wrapping_sub(first_gene) as usize) {
                match A::pack(value) {
                    Some(packed) => *word += packed,
                    None => all &= value == 0.0,
                }
            }
        }
        all
    }
}

thread_local! {
    /// Results by count are kept between slabs.
    static TABLE: RefCell<RowTable> = RefCell::default();
}

/// Pushes the values of a row, each with what it was before the logarithm, that are
/// not zero and have no word; whether all are finite.
#[inline]
fn push_all<A: Accumulate>(
    cells: &mut [A],
    first_gene: u32,
    genes: &[u32],
    pairs: impl Iterator<Item = (f64, f64)>,
) -> bool {
    let mut finite = true;
    for (&gene, (linear, value)) in genes.iter().zip(pairs) {
        if let Some(cell) = cells.get_mut(gene.wrapping_sub(first_gene) as usize) {
            let is_packed = A::PACKS && A::pack(value).is_some();
            if value != 0.0 && !is_packed {
                finite &= value.is_finite();
                cell.push(value, linear);
            }
        }
    }
    finite
}

impl<A: Accumulate> TiledPass for GroupPass<'_, A> {
    type Tile = GroupTile<A>;

    fn n_tiles(&self) -> usize {
        self.groups.n_groups().div_ceil(self.groups_per_tile)
    }

    fn empty(&self, tile: usize) -> GroupTile<A> {
        GroupTile::new(self.groups_of(tile).len() * self.genes.len())
    }

    fn fold(&self, block: &RowBlock, tile: usize, partial: &mut GroupTile<A>) -> Result<()> {
        let owned = self.groups_of(tile);
        let (first_gene, n_genes) = (self.genes.start as u32, self.genes.len());
        for (r, &position) in block.rows.iter().enumerate() {
            let group = self.groups.of(position) as usize;
            if !owned.contains(&group) {
                continue;
            }
            let (indices, values) = block.row(r);
            let at = (group - owned.start) * n_genes;
            if A::PACKS && partial.push_words(at, &self.genes, (indices, values)) {
                continue;
            }
            let cells = &mut partial.cells()[at..][..n_genes];
            let finite = match &self.log {
                None => {
                    let linear = if block.linear.is_empty() { values } else { block.linear_row(r) };
                    let pairs = linear.iter().zip(values).map(|(&linear, &value)| (linear, value));
                    push_all(cells, first_gene, indices, pairs)
                }
                Some(log) => TABLE.with_borrow_mut(|table| {
                    let mut function = log.row(indices, values, table);
                    let pairs = values.iter().map(|&value| function.value(value));
                    push_all(cells, first_gene, indices, pairs)
                }),
            };
            if !finite {
                return Err(self.not_finite((indices, values), position));
            }
        }
        Ok(())
    }

    fn merge(&self, _tile: usize, into: &mut GroupTile<A>, mut from: GroupTile<A>) {
        into.unpack();
        from.unpack();
        if from.cells.is_empty() {
            return;
        }
        for (into, from) in into.cells().iter_mut().zip(&from.cells) {
            into.merge(from);
        }
    }
}

/// The finished accumulators.
#[derive(Debug, Clone)]
pub struct GroupTable<A> {
    n_genes: usize,
    groups_per_tile: usize,
    tiles: Vec<GroupTile<A>>,
}

impl<A: Accumulate> GroupTable<A> {
    /// Number of genes: those of the slice.
    #[must_use]
    pub fn n_genes(&self) -> usize {
        self.n_genes
    }

    /// The accumulators of one gene, group by group.
    ///
    /// # Panics
    /// If the slice has no such gene.
    pub fn gene(&self, gene: usize) -> impl Iterator<Item = &A> {
        assert!(gene < self.n_genes, "a gene of the slice");
        self.tiles.iter().flat_map(move |tile| tile.cells[gene..].iter().step_by(self.n_genes))
    }

    /// The accumulators of one group, gene by gene.
    #[must_use]
    pub fn group(&self, group: usize) -> &[A] {
        let tile = &self.tiles[group / self.groups_per_tile];
        &tile.cells[group % self.groups_per_tile * self.n_genes..][..self.n_genes]
    }
}

/// Slices of the genes so that the accumulators of one, for the total and for a
/// range, take at most half of `memory_bytes`. At least one gene each.
#[must_use]
pub fn gene_slices<A>(n_groups: usize, n_vars: usize, memory_bytes: u64) -> Vec<Range<usize>> {
    let per_gene = (2 * size_of::<A>() * n_groups.max(1)) as u64;
    let most = (memory_bytes / 2 / per_gene).clamp(1, n_vars.max(1) as u64) as usize;
    (0..n_vars).step_by(most).map(|start| start..(start + most).min(n_vars)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_tile_the_genes_within_the_budget() {
        assert_eq!(gene_slices::<u64>(10, 100, 1 << 20).len(), 1);
        let slices = gene_slices::<u64>(10, 100, 10_000);
        assert!(slices.iter().all(|s| s.len() * 160 <= 5_000));
        assert_eq!(slices.first().map(|s| s.start), Some(0));
        assert_eq!(slices.last().map(|s| s.end), Some(100));
        assert!(slices.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!(gene_slices::<u64>(10, 3, 0).len(), 3);
        assert!(gene_slices::<u64>(10, 0, 1 << 20).is_empty());
    }
}
