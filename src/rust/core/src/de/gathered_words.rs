//! The values of genes as words, gathered from all pieces, and their sums.
//!
//! As [`gathered`](super::gathered), where the values have an [order](super::value_order): 4 bytes
//! of each are kept, and it is added up while the dictionary that it is looked up in is at hand.

use std::ops::Range;

use super::fold_change::Sums;
use super::piece::PieceView;
use super::value_order::ValueOrder;
use crate::transform::View;

/// The words of some genes, one gene after the other.
///
/// Memory: 4 bytes a value, and [`SUM_BYTES`].
#[derive(Default)]
pub(super) struct GatheredWords {
    genes: Range<usize>,
    /// Where the words of each gene begin, and where the last ones end.
    starts: Vec<usize>,
    next: Vec<usize>,
    words: Vec<u32>,
    /// For each gene those of all groups.
    sums: Vec<Sums>,
    /// Those of one piece, before and after the logarithm is undone.
    values: Vec<f64>,
    linear: Vec<f64>,
}

/// Genes that are gathered at a time.
const GENES: usize = 256;

/// Words after which no further gene is gathered.
const WORDS: usize = 1 << 22;

/// Bytes of sums after which no further gene is gathered.
const SUM_BYTES: usize = 1 << 20;

impl GatheredWords {
    /// The words of the first of `genes`, once, in the order of the file, and its sums by group;
    /// more of these may be gathered with them. `view` is the one that was read.
    pub(super) fn take(
        &mut self,
        genes: Range<usize>,
        pieces: &[PieceView],
        order: ValueOrder,
        (view, n_groups): (&View, usize),
    ) -> (&[u32], &[Sums]) {
        if !self.genes.contains(&genes.start) {
            self.fill(&genes, pieces, order, (view, n_groups));
        }
        let at = genes.start - self.genes.start;
        let span = self.starts[at]..self.starts[at + 1];
        (&self.words[span], &self.sums[n_groups * at..][..n_groups])
    }

    fn fill(
        &mut self,
        genes: &Range<usize>,
        pieces: &[PieceView],
        order: ValueOrder,
        (view, n_groups): (&View, usize),
    ) {
        let most_genes = GENES.min(SUM_BYTES / (n_groups.max(1) * size_of::<Sums>())).max(1);
        self.starts.clear();
        let mut total = 0;
        for gene in genes.clone().take(most_genes) {
            self.starts.push(total);
            total += pieces.iter().map(|piece| piece.n_values(gene)).sum::<usize>();
            if total >= WORDS {
                break;
            }
        }
        let n_genes = self.starts.len();
        self.genes = genes.start..genes.start + n_genes;
        self.next.clone_from(&self.starts);
        self.starts.push(total);
        self.words.resize(total, 0);
        self.sums.clear();
        self.sums.resize(n_genes * n_groups, Sums::default());
        for piece in pieces {
            self.values.clear();
            for (gene, &next) in self.genes.clone().zip(&self.next) {
                let words = &mut self.words[next..][..piece.n_values(gene)];
                piece.look_up(gene, words, &mut self.values);
            }
            self.linear.clone_from(&self.values);
            view.undo_log(&mut self.linear);
            let mut values = self.values.iter().zip(&self.linear);
            let sums = self.sums.chunks_exact_mut(n_groups.max(1));
            for ((gene, next), sums) in self.genes.clone().zip(&mut self.next).zip(sums) {
                let span = *next..*next + piece.n_values(gene);
                *next = span.end;
                for (&word, (&value, &linear)) in self.words[span].iter().zip(&mut values) {
                    sums[order.group(word) as usize].push(value, linear);
                }
            }
        }
    }
}
