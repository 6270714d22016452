//! The values of a gene, sorted, with their groups, and what they come to in each.

use std::ops::Range;

use super::fold_change::Sums;
use super::gathered::Gathered;
use super::gathered_words::GatheredWords;
use super::piece::PieceView;
use super::value_order::ValueOrder;
use crate::stats::rank::{PairSorter, key_value};
use crate::stats::words::WordSorter;
use crate::transform::View;

/// One thread's memory: about 60 bytes a nonzero value of the largest gene, and 17 MB.
#[derive(Default)]
pub(super) struct SortedValues {
    gathered: Gathered,
    pairs: PairSorter,
    linear: Vec<f64>,
    sums: Vec<Sums>,
    words: GatheredWords,
    sorter: WordSorter,
    keys: Vec<u64>,
    groups: Vec<u32>,
}

/// The nonzero values of a gene.
pub(super) struct SortedGene<'s> {
    /// Keys in ascending order: they sort as the values do, and zero has its own.
    pub(super) keys: &'s [u64],
    /// The group of each.
    pub(super) groups: &'s [u32],
    /// By group, added up in the order of the file.
    pub(super) sums: &'s [Sums],
}

impl SortedValues {
    /// The values of the first of `genes`, once; more of these may be gathered with them.
    /// `order` is that of the values, if they have one, and `view` the one that was read.
    pub(super) fn take(
        &mut self,
        genes: Range<usize>,
        pieces: &[PieceView],
        order: Option<ValueOrder>,
        (view, n_groups): (&View, usize),
    ) -> SortedGene<'_> {
        let Some(order) = order else {
            let (keys, groups) = self.gathered.take(genes, pieces);
            add_up(keys, groups, (view, n_groups), &mut self.linear, &mut self.sums);
            self.pairs.sort(keys, groups);
            return SortedGene { keys, groups, sums: &self.sums };
        };
        let (words, sums) = self.words.take(genes, pieces, order, (view, n_groups));
        let words = self.sorter.sort(words, order.group_bits());
        self.keys.clear();
        self.keys.extend(words.iter().map(|&word| order.key(word)));
        self.groups.clear();
        self.groups.extend(words.iter().map(|&word| order.group(word)));
        SortedGene { keys: &self.keys, groups: &self.groups, sums }
    }
}

/// Sums by group.
fn add_up(
    keys: &[u64],
    groups: &[u32],
    (view, n_groups): (&View, usize),
    linear: &mut Vec<f64>,
    sums: &mut Vec<Sums>,
) {
    linear.clear();
    linear.extend(keys.iter().map(|&key| key_value(key)));
    view.undo_log(linear);
    sums.clear();
    sums.resize(n_groups, Sums::default());
    for ((&key, &group), &linear) in keys.iter().zip(groups).zip(&*linear) {
        sums[group as usize].push(key_value(key), linear);
    }
}
