//! The values of genes, gathered from all pieces.
//!
//! Problem: a piece has few values of a gene, and getting at them, or at the dictionary that
//! they are looked up in, costs more than copying them. Solution: those of the next genes,
//! which follow them, are copied too.

use std::ops::Range;

use super::piece::PieceView;

/// The values of some genes, one gene after the other.
///
/// Memory: 12 bytes a value.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    genes: Range<usize>,
    /// Where the values of each gene begin, and where the last ones end.
    starts: Vec<usize>,
    next: Vec<usize>,
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
        if !self.genes.contains(&genes.start) {
            self.fill(&genes, pieces);
        }
        let at = genes.start - self.genes.start;
        let span = self.starts[at]..self.starts[at + 1];
        (&mut self.keys[span.clone()], &mut self.groups[span])
    }

    fn fill(&mut self, genes: &Range<usize>, pieces: &[PieceView]) {
        let looks_up = pieces.iter().any(PieceView::looks_up);
        let (most_genes, most_values) =
            if looks_up { (GENES_LOOKED_UP, VALUES_LOOKED_UP) } else { (GENES, VALUES) };
        self.starts.clear();
        let mut total = 0;
        for gene in genes.clone().take(most_genes) {
            self.starts.push(total);
            total += pieces.iter().map(|piece| piece.n_values(gene)).sum::<usize>();
            if total >= most_values {
                break;
            }
        }
        self.genes = genes.start..genes.start + self.starts.len();
        self.next.clone_from(&self.starts);
        self.starts.push(total);
        self.keys.resize(total, 0);
        self.groups.resize(total, 0);
        for piece in pieces {
            for (gene, next) in self.genes.clone().zip(&mut self.next) {
                let span = *next..*next + piece.n_values(gene);
                *next = span.end;
                piece.copy(gene, &mut self.keys[span.clone()], &mut self.groups[span]);
            }
        }
    }
}
