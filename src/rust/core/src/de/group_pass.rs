//! One accumulator for every group and gene, in one read of the matrix.
//!
//! Memory: groups x genes accumulators for the total and as many for the range
//! in work, in their smaller form where they are of counts; or, where they are many, for the
//! total alone and as many bytes of rows that wait. Where all rows wait to the end there are
//! accumulators of some genes at a time ([`GroupPass::for_each_part`]). [`gene_slices`] splits
//! the genes where that exceeds the budget, at the price of a read for each slice.

use std::cell::RefCell;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use serde::{Serialize, de::DeserializeOwned};

use super::group_tile::{Form, GroupTile};
use super::groups::{Groups, not_finite};
use super::held::{CountRow, CountRows, HeldRows};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::TiledPass;
use crate::transform::{RowLog, RowTable, USUAL, View};

/// What is known of one gene in one group: sums over its nonzero values.
pub trait Accumulate: Default + Copy + Send + Sync + Serialize + DeserializeOwned {
    /// A smaller form that takes counts alone.
    type Quick: Debug + Default + Copy + Send + Sync + Serialize + DeserializeOwned;
    /// Rows that may be added to it.
    const QUICK_ROWS: u32;

    /// Adds a value, and the same value before the logarithm.
    fn push(&mut self, value: f64, linear: f64);
    /// Adds what comes later in the file. An empty accumulator is neutral.
    fn merge(&mut self, later: &Self);

    /// Whether counts can be added to the smaller form, where the pass takes their
    /// logarithm or does not.
    fn is_quick(takes_log: bool) -> bool;
    /// What is known of one count above zero, from the value and the value before the
    /// logarithm that it stands for.
    fn quick(count: u16, value: f64, linear: f64) -> Self::Quick;
    /// Adds what comes later in the file. What is empty is neutral.
    fn merge_quick(into: &mut Self::Quick, later: &Self::Quick);
    /// What the smaller form stands for.
    #[must_use]
    fn unpack(quick: &Self::Quick) -> Self;
}

/// Tiles at most: enough for any number of threads, few enough to go through
/// for every block.
const MAX_TILES: usize = 64;

/// Bytes of a tile's accumulators past which its rows wait.
const CACHED: usize = 4 << 20;

/// Bytes of accumulators that are made at a time of rows that wait.
const PART: usize = 384 << 20;

/// Accumulates the genes of a slice for all groups. A tile owns some groups and
/// visits their rows alone.
pub struct GroupPass<'g, A> {
    groups: &'g Groups,
    genes: Range<usize>,
    groups_per_tile: usize,
    cached: usize,
    part: usize,
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
            cached: CACHED,
            part: PART,
            log: None,
            accumulator: PhantomData,
        }
    }

    /// The same pass with other ideas of what fits a cache and a part.
    #[cfg(test)]
    pub(super) fn with_sizes(self, cached: usize, part: usize) -> Self {
        GroupPass { cached, part, ..self }
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
    ///
    /// # Errors
    /// On interruption.
    pub fn table(&self, tiles: Vec<GroupTile<A>>, ctx: &Ctx) -> Result<GroupTable<A>> {
        let tiles: Vec<Mutex<GroupTile<A>>> = tiles.into_iter().map(Mutex::new).collect();
        ctx.parallel(
            "adding up groups",
            tiles.len(),
            || (),
            |tile, ()| {
                let mut tile = tiles[tile].lock().unwrap_or_else(PoisonError::into_inner);
                self.settle(&mut tile);
                Ok(())
            },
        )?;
        Ok(self.table_of(tiles, self.genes.len()))
    }

    fn table_of(&self, tiles: Vec<Mutex<GroupTile<A>>>, n_genes: usize) -> GroupTable<A> {
        let whole = |tile: Mutex<_>| tile.into_inner().unwrap_or_else(PoisonError::into_inner);
        let tiles = tiles.into_iter().map(whole).collect();
        GroupTable { n_genes, groups_per_tile: self.groups_per_tile, tiles }
    }

    /// The tiles of the pass as tables of some genes each, one after the other: of all genes,
    /// unless accumulators would be many and all rows wait.
    ///
    /// # Errors
    /// On interruption, and what `each` reports.
    pub fn for_each_part(
        &self,
        tiles: Vec<GroupTile<A>>,
        ctx: &Ctx,
        mut each: impl FnMut(Range<usize>, &GroupTable<A>) -> Result<()>,
    ) -> Result<()> {
        let bytes_of_gene = self.groups.n_groups() * size_of::<A::Quick>();
        let most = self.part / bytes_of_gene.max(1);
        if most >= self.genes.len() || !tiles.iter().all(GroupTile::waits) {
            return each(self.genes.clone(), &self.table(tiles, ctx)?);
        }
        // The memory of a part serves for the next.
        let mut parts: Vec<_> = tiles.iter().map(|_| Mutex::new(GroupTile::new(0))).collect();
        for start in self.genes.clone().step_by(most.max(1)) {
            let genes = start..(start + most.max(1)).min(self.genes.end);
            ctx.parallel(
                "adding up groups",
                tiles.len(),
                || (),
                |t, ()| {
                    let mut part = parts[t].lock().unwrap_or_else(PoisonError::into_inner);
                    let n_groups = self.groups_of(t).len();
                    part.become_part(&tiles[t], n_groups, genes.len(), |form, row| {
                        self.add_counts(form, &genes, row)
                    });
                    Ok(())
                },
            )?;
            let table = self.table_of(parts, genes.len());
            each(genes, &table)?;
            parts = table.tiles.into_iter().map(Mutex::new).collect();
        }
        Ok(())
    }
}

thread_local! {
    /// Results by count are kept between blocks.
    static TABLE: RefCell<RowTable> = RefCell::default();
}

/// Pushes the values of a row that are not zero, each with what it was before the
/// logarithm; whether all are finite.
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
            if value != 0.0 {
                finite &= value.is_finite();
                cell.push(value, linear);
            }
        }
    }
    finite
}

/// Adds the counts of a row that are not zero; `pair` gives the values before and after
/// the logarithm.
#[inline]
fn push_counts<A: Accumulate>(
    form: Form<'_, A>,
    first_gene: usize,
    (genes, counts): (&[u16], &[u16]),
    mut pair: impl FnMut(u16) -> (f64, f64),
) {
    let at = |gene: u16| usize::from(gene).wrapping_sub(first_gene);
    match form {
        Form::Quick(cells) => {
            let mut quick = |count: u16| {
                let (linear, value) = pair(count);
                A::quick(count, value, linear)
            };
            // Looked up, so that most counts are added without a branch.
            let usual: [A::Quick; USUAL] = std::array::from_fn(|count| match count {
                0 => A::Quick::default(),
                _ => quick(count as u16),
            });
            for (&gene, &count) in genes.iter().zip(counts) {
                let Some(cell) = cells.get_mut(at(gene)) else { continue };
                match usual.get(usize::from(count)) {
                    Some(one) => A::merge_quick(cell, one),
                    None => A::merge_quick(cell, &quick(count)),
                }
            }
        }
        Form::Cells(cells) => {
            for (&gene, &count) in genes.iter().zip(counts) {
                if let Some(cell) = cells.get_mut(at(gene)) {
                    if count != 0 {
                        let (linear, value) = pair(count);
                        cell.push(value, linear);
                    }
                }
            }
        }
    }
}

/// How many genes, which are in order, lie below `end`: few more are looked at, since rows come
/// from beyond the caches.
fn n_below(genes: &[u16], end: usize) -> usize {
    let is_below = |&gene: &u16| usize::from(gene) < end;
    let mut most = 64;
    while genes.get(most).is_some_and(is_below) {
        most *= 2;
    }
    genes[..most.min(genes.len())].partition_point(is_below)
}

impl<A: Accumulate> GroupPass<'_, A> {
    /// Adds the rows of counts that belong to the tile's groups, or lets them wait.
    fn fold_counts(&self, rows: &CountRows, owned: &Range<usize>, partial: &mut GroupTile<A>) {
        let waits = partial.quick_bytes() > self.cached;
        for row in rows.iter() {
            let group = self.groups.of(row.number) as usize;
            if !owned.contains(&group) {
                continue;
            }
            let slot = group - owned.start;
            if !(waits && partial.wait(slot, row)) {
                let n_genes = self.genes.len();
                let form = partial.for_counts(slot * n_genes, n_genes);
                self.add_counts(form, &self.genes, row);
            }
        }
        if partial.is_full() {
            self.settle(partial);
        }
    }

    /// Adds a row of counts to the accumulators of its group for the genes `part`: as many of its
    /// first entries as are returned. Genes are in order where the part is not all.
    fn add_counts(&self, form: Form<'_, A>, part: &Range<usize>, row: CountRow) -> usize {
        let n =
            if part.end < self.genes.end { n_below(row.genes, part.end) } else { row.genes.len() };
        // Rows from another process may be anything.
        let counts = row.counts.get(..n).unwrap_or_default();
        let entries = (row.genes.get(..n).unwrap_or_default(), counts);
        match &self.log {
            None => {
                push_counts(form, part.start, entries, |count| {
                    (f64::from(count), f64::from(count))
                });
            }
            Some(log) => TABLE.with_borrow_mut(|table| {
                let mut function = log.row_of_total(row.total, table);
                push_counts(form, part.start, entries, |count| function.count(count));
            }),
        }
        n
    }

    /// Adds the rows of a tile that wait.
    fn settle(&self, tile: &mut GroupTile<A>) {
        tile.settle(self.genes.len(), |form, row| self.add_counts(form, &self.genes, row));
    }

    /// Adds the other rows that do.
    fn fold_plain(
        &self,
        block: &RowBlock,
        owned: &Range<usize>,
        partial: &mut GroupTile<A>,
    ) -> Result<()> {
        let (first_gene, n_genes) = (self.genes.start as u32, self.genes.len());
        for (r, &position) in block.rows.iter().enumerate() {
            let group = self.groups.of(position) as usize;
            if !owned.contains(&group) {
                continue;
            }
            self.settle(partial);
            let (indices, values) = block.row(r);
            let cells = &mut partial.cells()[(group - owned.start) * n_genes..][..n_genes];
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
}

impl<A: Accumulate> TiledPass for GroupPass<'_, A> {
    type Tile = GroupTile<A>;
    type Held = HeldRows;

    const SLAB_VALUES: usize = crate::pass::SLAB_VALUES;

    fn n_tiles(&self) -> usize {
        self.groups.n_groups().div_ceil(self.groups_per_tile)
    }

    fn empty(&self, tile: usize) -> GroupTile<A> {
        GroupTile::new(self.groups_of(tile).len() * self.genes.len())
    }

    fn hold(&self, slab: &mut RowBlock, held: &mut HeldRows) {
        let n_groups = self.groups.n_groups();
        let wanted = |position| (self.groups.of(position) as usize) < n_groups;
        held.append(slab, A::is_quick(self.log.is_some()), wanted, self.log.as_ref());
    }

    fn fold(&self, held: &HeldRows, tile: usize, partial: &mut GroupTile<A>) -> Result<()> {
        let owned = self.groups_of(tile);
        self.fold_counts(&held.counts, &owned, partial);
        self.fold_plain(&held.plain, &owned, partial)
    }

    fn merge(&self, _tile: usize, into: &mut GroupTile<A>, from: &mut GroupTile<A>) {
        if into.comes_before(from) {
            self.settle(into);
        }
        into.merge(from);
        if into.is_full() {
            self.settle(into);
        }
    }

    fn reset(&self, _tile: usize, partial: &mut GroupTile<A>) {
        partial.reset();
    }
}

/// The finished accumulators.
#[derive(Debug, Clone)]
pub struct GroupTable<A: Accumulate> {
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

    /// The accumulators of some genes: of the first group by group, of the second ...
    ///
    /// # Panics
    /// If the slice has no such genes.
    pub fn gather(&self, genes: Range<usize>, out: &mut Vec<A>) {
        self.gather_from(genes, out, GroupTile::each);
    }

    /// Whether all accumulators are of the smaller form.
    pub(super) fn is_quick(&self) -> bool {
        self.tiles.iter().all(GroupTile::is_quick)
    }

    /// [`gather`](Self::gather) where they are.
    pub(super) fn gather_quick(&self, genes: Range<usize>, out: &mut Vec<A::Quick>) {
        self.gather_from(genes, out, GroupTile::each_quick);
    }

    fn gather_from<'t, T: Copy + Default, I: Iterator<Item = T>>(
        &'t self,
        genes: Range<usize>,
        out: &mut Vec<T>,
        of_tile: impl Fn(&'t GroupTile<A>, Range<usize>) -> I,
    ) {
        assert!(genes.end <= self.n_genes, "genes of the slice");
        let per_tile = |tile: &GroupTile<A>| tile.len().checked_div(self.n_genes).unwrap_or(0);
        let n_groups: usize = self.tiles.iter().map(per_tile).sum();
        out.clear();
        out.resize(genes.len() * n_groups, T::default());
        let slots = self.tiles.iter().flat_map(|tile| (0..per_tile(tile)).map(move |s| (tile, s)));
        for (group, (tile, slot)) in slots.enumerate() {
            let first = slot * self.n_genes;
            let own = of_tile(tile, first + genes.start..first + genes.end);
            let mut at = group;
            own.for_each(|accumulator| {
                out[at] = accumulator;
                at += n_groups;
            });
        }
    }

    /// The accumulators of one group, gene by gene.
    pub fn group(&self, group: usize) -> impl Iterator<Item = A> {
        let tile = &self.tiles[group / self.groups_per_tile];
        let first = group % self.groups_per_tile * self.n_genes;
        tile.each(first..first + self.n_genes)
    }

    /// The accumulator of a gene in a group.
    #[must_use]
    pub fn at(&self, group: usize, gene: usize) -> A {
        let tile = &self.tiles[group / self.groups_per_tile];
        tile.at(group % self.groups_per_tile * self.n_genes + gene)
    }
}

/// Slices of the genes so that the accumulators of one, for the total and for a
/// range, take at most half of `memory_bytes` in their smaller form. At least one gene each.
#[must_use]
pub fn gene_slices<A: Accumulate>(
    n_groups: usize,
    n_vars: usize,
    memory_bytes: u64,
) -> Vec<Range<usize>> {
    let per_gene = (2 * size_of::<A::Quick>() * n_groups.max(1)) as u64;
    let most = (memory_bytes / 2 / per_gene).clamp(1, n_vars.max(1) as u64) as usize;
    (0..n_vars).step_by(most).map(|start| start..(start + most).min(n_vars)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::moments::GroupSum;
    use super::*;

    #[test]
    fn slices_tile_the_genes_within_the_budget() {
        assert_eq!(gene_slices::<GroupSum>(10, 100, 1 << 20).len(), 1);
        let slices = gene_slices::<GroupSum>(10, 100, 10_000);
        assert!(slices.iter().all(|s| s.len() * 160 <= 5_000));
        assert_eq!(slices.first().map(|s| s.start), Some(0));
        assert_eq!(slices.last().map(|s| s.end), Some(100));
        assert!(slices.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!(gene_slices::<GroupSum>(10, 3, 0).len(), 3);
        assert!(gene_slices::<GroupSum>(10, 0, 1 << 20).is_empty());
    }
}
