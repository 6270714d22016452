//! The values of genes as words, gathered from all pieces, and their sums.
//!
//! As [`gathered`](super::gathered), where the values have an [order](super::value_order): 4 bytes
//! of each are kept, and it is added up while the dictionary that it is looked up in is at hand.

use std::ops::Range;

use super::fold_change::Sums;
use super::gene_batch::GeneBatch;
use super::piece::PieceView;
use super::value_order::ValueOrder;
use crate::transform::View;

/// The words of some genes, one gene after the other.
///
/// Memory: 4 bytes a value, and [`SUM_BYTES`].
#[derive(Default)]
pub(super) struct GatheredWords {
    batch: GeneBatch,
    words: Vec<u32>,
    /// For each gene those of all groups.
    sums: Vec<Sums>,
    /// Where the values of one piece go, by gene.
    spans: Vec<Range<usize>>,
    /// These values, before and after the logarithm is undone.
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
        let number = self.batch.number(genes.start).unwrap_or_else(|| {
            self.fill(&genes, pieces, order, (view, n_groups));
            0
        });
        (&self.words[self.batch.span(number)], &self.sums[n_groups * number..][..n_groups])
    }

    fn fill(
        &mut self,
        genes: &Range<usize>,
        pieces: &[PieceView],
        order: ValueOrder,
        (view, n_groups): (&View, usize),
    ) {
        let most_genes = GENES.min(SUM_BYTES / (n_groups.max(1) * size_of::<Sums>())).max(1);
        self.batch.begin(genes, pieces, most_genes, WORDS);
        self.words.resize(self.batch.n_values(), 0);
        self.sums.clear();
        self.sums.resize(self.batch.n_genes() * n_groups, Sums::default());
        for piece in pieces {
            self.values.clear();
            self.spans.clear();
            for (gene, span) in self.batch.places(piece) {
                piece.look_up(gene, &mut self.words[span.clone()], &mut self.values);
                self.spans.push(span);
            }
            self.linear.clone_from(&self.values);
            view.undo_log(&mut self.linear);
            let mut values = self.values.iter().zip(&self.linear);
            let sums = self.sums.chunks_exact_mut(n_groups.max(1));
            for (span, sums) in self.spans.iter().zip(sums) {
                for (&word, (&value, &linear)) in self.words[span.clone()].iter().zip(&mut values) {
                    sums[order.group(word) as usize].push(value, linear);
                }
            }
        }
    }
}
