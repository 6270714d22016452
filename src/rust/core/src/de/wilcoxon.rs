//! Wilcoxon's rank sum test between groups, exact, for all groups at once.
//!
//! 1. One read of the matrix turns it around ([`GeneMajor`]).
//! 2. Each gene's nonzero values are sorted once, with the group of their cell.
//! 3. Rank sums of all groups follow in one sweep; zeros enter in closed form.
//!    For a pair of groups their sorted values are merged.
//!
//! # Numerics
//! Ranks, ties and rank sums are integers (Mann & Whitney 1947), so nothing
//! depends on any order; means are sums in the order of the file.

use super::contrast::{Contrasts, Reference, all_but_each};
use super::fold_change::{FoldChange, Side};
use super::gene_major::GeneMajor;
use super::piece::PieceView;
use super::table::{Row, for_each_gene};
use super::ttest::stored_twice;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::stats::dist::normal_two_sided;
use crate::stats::rank::{PairSorter, RankSums, auc, key_value, rank_sums, wilcoxon_z};
use crate::transform::View;

/// What to do with the ranks.
#[derive(Debug, Clone, Copy)]
pub struct Wilcoxon<'c> {
    /// The comparisons.
    pub contrasts: &'c Contrasts,
    /// Whether the variance accounts for ties.
    pub tie_correct: bool,
    /// Whether the deviation is moved by 1/2 towards zero.
    pub continuity: bool,
    /// How fold changes are taken.
    pub fold_change: FoldChange,
}

impl Wilcoxon<'_> {
    /// The rows of all genes, gene by gene. `view` is the one that was read.
    ///
    /// # Errors
    /// When a cell has two values for a gene, the spill file can't be read, or on
    /// interruption.
    pub fn rows(&self, ctx: &Ctx, view: &View, values: &GeneMajor) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for genes in values.slices(ctx) {
            let slice = values.load(ctx, &genes)?;
            let views = slice.views()?;
            rows.extend(for_each_gene(
                ctx,
                "testing genes",
                genes,
                Workspace::default,
                |gene, work, rows| self.test_gene(gene, view, &views, work, rows),
            )?);
        }
        Ok(rows)
    }

    fn test_gene(
        &self,
        gene: usize,
        view: &View,
        pieces: &[PieceView],
        work: &mut Workspace,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let sizes = self.contrasts.groups().sizes();
        work.gather(gene, pieces);
        work.add_up(view, sizes.len());
        if work.own.iter().zip(sizes).any(|(sums, &size)| sums.detected > size) {
            return Err(stored_twice(gene));
        }
        work.sorter.sort(&mut work.keys, &mut work.groups);
        if self.contrasts.needs_rest() {
            all_but_each(&work.own, Sums::default(), Sums::and, &mut work.rest);
            rank_sums(&work.keys, &work.groups, sizes, &mut work.ranks);
        }
        if self.contrasts.needs_pairs() {
            work.split(sizes.len());
        }
        for &comparison in self.contrasts.comparisons() {
            let group = comparison.group as usize;
            let (n1, n2) = self.contrasts.sizes(comparison);
            let (reference, doubled, ties) = match comparison.reference {
                Reference::Rest => {
                    (work.rest[group], work.ranks.doubled[group], work.ranks.tie_term)
                }
                Reference::Group(other) => {
                    let (doubled, ties) = work.rank_pair(group, other as usize, n1, n2);
                    (work.own[other as usize], doubled, ties)
                }
            };
            let z = wilcoxon_z(doubled, n1, n2, ties, self.continuity, self.tie_correct);
            let p = normal_two_sided(z);
            let (one, other) = (work.own[group].side(n1), reference.side(n2));
            let n = u128::from(n1 + n2);
            let constant = ties == n * n * n - n;
            rows.push(Row {
                log2_fc: if constant { 0.0 } else { self.fold_change.log2(&one, &other) },
                statistic: z,
                p_value: p.p_value,
                log10_p: p.log10_p,
                auc: auc(doubled, n1, n2),
                mean: (one.linear_mean(), other.linear_mean()),
                fraction: (one.fraction(), other.fraction()),
            });
        }
        Ok(())
    }
}

/// Sums over a gene's nonzero values in one group.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    detected: u64,
    values: f64,
    linear: f64,
}

impl Sums {
    fn and(self, later: Sums) -> Sums {
        Sums {
            detected: self.detected + later.detected,
            values: self.values + later.values,
            linear: self.linear + later.linear,
        }
    }

    fn side(self, n: u64) -> Side {
        Side { n, detected: self.detected, linear: self.linear, mean: self.values / n as f64 }
    }
}

/// One thread's memory: about 60 bytes a nonzero value of the largest gene.
#[derive(Default)]
struct Workspace {
    keys: Vec<u64>,
    groups: Vec<u32>,
    linear: Vec<f64>,
    own: Vec<Sums>,
    rest: Vec<Sums>,
    ranks: RankSums,
    sorter: PairSorter,
    by_group: Vec<u64>,
    starts: Vec<usize>,
    pair_keys: Vec<u64>,
    pair_groups: Vec<u32>,
    pair_ranks: RankSums,
}

impl Workspace {
    fn gather(&mut self, gene: usize, pieces: &[PieceView]) {
        self.keys.clear();
        self.groups.clear();
        for piece in pieces {
            piece.gather(gene, &mut self.keys, &mut self.groups);
        }
    }

    /// Sums by group, in the order of the file.
    fn add_up(&mut self, view: &View, n_groups: usize) {
        self.linear.clear();
        self.linear.extend(self.keys.iter().map(|&key| key_value(key)));
        view.undo_log(&mut self.linear);
        self.own.clear();
        self.own.resize(n_groups, Sums::default());
        for ((&key, &group), &linear) in self.keys.iter().zip(&self.groups).zip(&self.linear) {
            let sums = &mut self.own[group as usize];
            sums.detected += 1;
            sums.values += key_value(key);
            sums.linear += linear;
        }
    }

    /// The sorted keys of each group side by side.
    fn split(&mut self, n_groups: usize) {
        self.starts.clear();
        self.starts.resize(n_groups + 1, 0);
        for &group in &self.groups {
            self.starts[group as usize + 1] += 1;
        }
        for group in 0..n_groups {
            self.starts[group + 1] += self.starts[group];
        }
        self.by_group.resize(self.keys.len(), 0);
        for (&key, &group) in self.keys.iter().zip(&self.groups) {
            let next = &mut self.starts[group as usize];
            self.by_group[*next] = key;
            *next += 1;
        }
        // Each start has moved to the next one's place.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
    }

    /// Doubled rank sum of the first of two groups among both, and their ties.
    fn rank_pair(&mut self, first: usize, second: usize, n1: u64, n2: u64) -> (u64, u128) {
        let of = |group: usize| self.starts[group]..self.starts[group + 1];
        let (a, b) = (&self.by_group[of(first)], &self.by_group[of(second)]);
        self.pair_keys.clear();
        self.pair_groups.clear();
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            let from_a = j == b.len() || (i < a.len() && a[i] <= b[j]);
            self.pair_keys.push(if from_a { a[i] } else { b[j] });
            self.pair_groups.push(u32::from(!from_a));
            i += usize::from(from_a);
            j += usize::from(!from_a);
        }
        rank_sums(&self.pair_keys, &self.pair_groups, &[n1, n2], &mut self.pair_ranks);
        (self.pair_ranks.doubled[0], self.pair_ranks.tie_term)
    }
}
