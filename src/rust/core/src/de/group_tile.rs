//! The accumulators of some groups, in whatever form takes least.
//!
//! Problem: a row's values are scattered over the genes of its group, and each costs
//! a line of the cache to and fro. Solutions:
//!
//! 1. A smaller form while there are counts alone, so that a row's lines are neighbours.
//! 2. Where the groups are so many that theirs are larger than any cache, rows of counts wait
//!    in four bytes a value and are [settled](GroupTile::settle) group by group.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::group_pass::Accumulate;
use super::held::{CountRow, CountRows};

/// The accumulators of some groups: genes of the first, genes of the second ...
///
/// There are those of the smaller form, or whole ones, or none yet; rows that wait come
/// after what is in them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound = "A: Accumulate")]
pub struct GroupTile<A: Accumulate> {
    /// Accumulators; none before anything is added.
    len: usize,
    quick: Vec<A::Quick>,
    cells: Vec<A>,
    /// Rows added to the smaller form.
    rows: u32,
    /// By range; a row goes by the place of its group in the tile.
    waiting: Vec<CountRows>,
    /// Of a part: how much of each row went to the parts before.
    #[serde(skip)]
    taken: Vec<u32>,
}

/// What a row is added to: the accumulators of its group.
pub(super) enum Form<'t, A: Accumulate> {
    Quick(&'t mut [A::Quick]),
    Cells(&'t mut [A]),
}

impl<A: Accumulate> GroupTile<A> {
    pub(super) fn new(len: usize) -> Self {
        let (quick, cells, waiting, taken) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        GroupTile { len, quick, cells, rows: 0, waiting, taken }
    }

    /// Number of accumulators.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the accumulators in their smaller form.
    pub(super) fn quick_bytes(&self) -> usize {
        self.len * size_of::<A::Quick>()
    }

    fn has_accumulators(&self) -> bool {
        !self.quick.is_empty() || !self.cells.is_empty()
    }

    /// The accumulators, no longer in the smaller form.
    pub(super) fn cells(&mut self) -> &mut [A] {
        if self.cells.is_empty() {
            let quick = std::mem::take(&mut self.quick);
            self.rows = 0;
            self.cells.extend(quick.iter().map(A::unpack));
            self.cells.resize(self.len, A::default());
        }
        &mut self.cells
    }

    /// The `n` accumulators from `at` on for a row of counts.
    pub(super) fn for_counts(&mut self, at: usize, n: usize) -> Form<'_, A> {
        if !self.cells.is_empty() || self.rows == A::QUICK_ROWS {
            return Form::Cells(&mut self.cells()[at..][..n]);
        }
        self.rows += 1;
        self.quick.resize(self.len, A::Quick::default());
        Form::Quick(&mut self.quick[at..][..n])
    }

    /// Keeps a row of the tile's range for later, unless rows of it were added already or
    /// its genes are in no order.
    pub(super) fn wait(&mut self, slot: usize, row: CountRow) -> bool {
        if self.has_accumulators() || !row.genes.is_sorted() {
            return false;
        }
        if self.waiting.is_empty() {
            self.waiting.push(CountRows::default());
        }
        self.waiting[0].push_row(slot, row);
        true
    }

    /// Whether so much waits that it had better be added.
    pub(super) fn is_full(&self) -> bool {
        let bytes: usize = self.waiting.iter().map(CountRows::bytes).sum();
        bytes > self.quick_bytes()
    }

    /// Rows that wait.
    fn n_waiting(&self) -> usize {
        self.waiting.iter().map(CountRows::len).sum()
    }

    /// Whether all rows wait, few enough for the smaller form.
    pub(super) fn waits(&self) -> bool {
        !self.has_accumulators() && self.n_waiting() <= A::QUICK_ROWS as usize
    }

    /// Adds the rows that wait, range by range, with `add`, to the `n_genes` accumulators of
    /// each group: the sums are those of rows that never waited.
    pub(super) fn settle(
        &mut self,
        n_genes: usize,
        add: impl FnMut(Form<'_, A>, CountRow) -> usize,
    ) {
        let ranges = std::mem::take(&mut self.waiting);
        self.add_rows(&ranges, &mut Vec::new(), n_genes, add);
    }

    /// Makes this one what `whole`, of which all rows wait, comes to in the next `n_genes` of its
    /// genes, to which `add` keeps.
    pub(super) fn become_part(
        &mut self,
        whole: &Self,
        n_groups: usize,
        n_genes: usize,
        add: impl FnMut(Form<'_, A>, CountRow) -> usize,
    ) {
        self.len = n_groups * n_genes;
        self.quick.clear();
        self.rows = 0;
        let mut taken = std::mem::take(&mut self.taken);
        self.add_rows(&whole.waiting, &mut taken, n_genes, add);
        self.taken = taken;
    }

    /// Adds what was not taken of the rows with `add`, which says how much it takes.
    fn add_rows(
        &mut self,
        ranges: &[CountRows],
        taken: &mut Vec<u32>,
        n_genes: usize,
        mut add: impl FnMut(Form<'_, A>, CountRow) -> usize,
    ) {
        let n_rows: usize = ranges.iter().map(CountRows::len).sum();
        taken.resize(n_rows, 0);
        if n_rows == 0 || n_genes == 0 {
            return;
        }
        let rows = u32::try_from(n_rows).ok().and_then(|rows| self.rows.checked_add(rows));
        let rows = rows.filter(|&rows| rows <= A::QUICK_ROWS && self.cells.is_empty());
        if rows.is_none() {
            self.cells();
        } else if self.quick.is_empty() {
            self.quick.reserve_exact(self.len);
        }
        let mut sums = GroupTile::<A>::new(n_genes);
        for slot in 0..self.len / n_genes {
            let at = slot * n_genes;
            let mut rest = taken.as_mut_slice();
            for waiting in ranges {
                let (of_range, later) = rest.split_at_mut(waiting.len());
                rest = later;
                let own = waiting.iter().zip(of_range).filter(|(row, _)| row.number == slot);
                if rows.is_some() && self.quick.len() == at {
                    self.quick.resize(at + n_genes, A::Quick::default());
                    own.for_each(|(row, taken)| {
                        let form = Form::Quick(&mut self.quick[at..]);
                        *taken += add(form, row.past(*taken as usize)) as u32;
                    });
                } else {
                    sums.reset();
                    own.for_each(|(row, taken)| {
                        let form = sums.for_counts(0, n_genes);
                        *taken += add(form, row.past(*taken as usize)) as u32;
                    });
                    self.add(at, &sums);
                }
            }
        }
        self.rows = rows.unwrap_or(0);
    }

    /// Adds accumulators of what comes later to those from `at` on.
    fn add(&mut self, at: usize, later: &Self) {
        if later.rows == 0 && later.cells.is_empty() {
            return;
        }
        if self.cells.is_empty() {
            for (into, from) in self.quick[at..].iter_mut().zip(&later.quick) {
                A::merge_quick(into, from);
            }
        } else {
            for (into, from) in self.cells[at..].iter_mut().zip(later.each(0..later.len)) {
                into.merge(&from);
            }
        }
    }

    /// Adds what comes later; nothing of this one may wait where `later` has accumulators.
    /// `later` is not used again but for its memory.
    pub(super) fn merge(&mut self, later: &mut Self) {
        if !self.has_accumulators() {
            std::mem::swap(&mut self.quick, &mut later.quick);
            std::mem::swap(&mut self.cells, &mut later.cells);
            self.rows = later.rows;
        } else if later.has_accumulators() {
            let rows = self.rows.checked_add(later.rows).filter(|&rows| rows <= A::QUICK_ROWS);
            if rows.is_none() || !later.cells.is_empty() {
                self.cells();
            }
            self.add(0, later);
            self.rows = if self.cells.is_empty() { rows.unwrap_or(0) } else { 0 };
        }
        self.waiting.append(&mut later.waiting);
    }

    /// Whether this one has to be settled before `later` is merged.
    pub(super) fn comes_before(&self, later: &Self) -> bool {
        !self.waiting.is_empty() && later.has_accumulators()
    }

    /// Empties it; its memory stays.
    pub(super) fn reset(&mut self) {
        self.cells = Vec::new();
        self.quick.fill(A::Quick::default());
        self.rows = 0;
        self.waiting.clear();
    }

    /// Accumulators, without what waits.
    pub(super) fn each(&self, span: Range<usize>) -> impl Iterator<Item = A> {
        let cells = self.cells.get(span.clone()).unwrap_or(&[]);
        let quick = self.quick.get(span.clone()).unwrap_or(&[]);
        let n_none = span.len() - cells.len() - quick.len();
        let none = std::iter::repeat_n(A::default(), n_none);
        cells.iter().copied().chain(quick.iter().map(A::unpack)).chain(none)
    }

    /// Whether its accumulators are of the smaller form, or none were made.
    pub(super) fn is_quick(&self) -> bool {
        self.cells.is_empty()
    }

    /// [`each`](Self::each) where it is.
    pub(super) fn each_quick(&self, span: Range<usize>) -> impl Iterator<Item = A::Quick> {
        let quick = self.quick.get(span.clone()).unwrap_or(&[]);
        let none = std::iter::repeat_n(A::Quick::default(), span.len() - quick.len());
        quick.iter().copied().chain(none)
    }

    /// An accumulator, without what waits.
    #[inline]
    pub(super) fn at(&self, at: usize) -> A {
        match (self.cells.get(at), self.quick.get(at)) {
            (Some(cell), _) => *cell,
            (None, Some(quick)) => A::unpack(quick),
            (None, None) => A::default(),
        }
    }
}
