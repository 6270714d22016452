//! The values of genes, gathered from all pieces.
//!
//! Problem: a piece has few values of a gene, and getting at them, or at the dictionary that
//! they are looked up in, costs more than copying them. Solution: those of the next genes,
//! which follow them, are copied too.

use std::ops::Range;

use super::gene_batch::GeneBatch;
use super::piece::PieceView;

/// The values of some genes, one gene after the other.
///
/// Memory: 12 bytes a value.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    batch: GeneBatch,
    keys: Vec<u64>,
    groups: Vec<u32>,
}

/// Genes that are gathered at a time.
const GENES: usize = 8;

/// The same where values are looked up.
const GENES_LOOKED_UP: usize = 128;

/// Values after which no further gene is gathered.
const VALUES: usize = 1 << 19;

/// The same where values are looked up.
const VALUES_LOOKED_UP: usize = 1 << 20;

impl Gathered {
    /// Keys and groups of the first of `genes`, once, in the order of the file; more of these
    /// may be gathered with them.
    pub(super) fn take(
        &mut self,
        genes: Range<usize>,
        pieces: &[PieceView],
    ) -> (&mut [u64], &mut [u32]) {
        let number = self.batch.number(genes.start).unwrap_or_else(|| {
            self.fill(&genes, pieces);
            0
        });
        let span = self.batch.span(number);
        (&mut self.keys[span.clone()], &mut self.groups[span])
    }

    fn fill(&mut self, genes: &Range<usize>, pieces: &[PieceView]) {
        let looks_up = pieces.iter().any(PieceView::looks_up);
        let (most_genes, most_values) =
            if looks_up { (GENES_LOOKED_UP, VALUES_LOOKED_UP) } else { (GENES, VALUES) };
        self.batch.begin(genes, pieces, most_genes, most_values);
        self.keys.resize(self.batch.n_values(), 0);
        self.groups.resize(self.batch.n_values(), 0);
        for piece in pieces {
            for (gene, span) in self.batch.places(piece) {
                piece.copy(gene, &mut self.keys[span.clone()], &mut self.groups[span]);
            }
        }
    }
}
