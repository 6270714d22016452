//! Genes whose values are gathered together, and where those of each go.

use std::ops::Range;

use super::piece::PieceView;

/// Some genes next to each other.
#[derive(Debug, Default)]
pub(super) struct GeneBatch {
    genes: Range<usize>,
    /// Where the values of each gene begin, and where the last ones end.
    starts: Vec<usize>,
    /// Where the next values of each gene go.
    next: Vec<usize>,
}

impl GeneBatch {
    /// Takes the first of `genes`: `most_genes` at most, and none after `most_values` values.
    pub(super) fn begin(
        &mut self,
        genes: &Range<usize>,
        pieces: &[PieceView],
        most_genes: usize,
        most_values: usize,
    ) {
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
    }

    /// Number of genes.
    pub(super) fn n_genes(&self) -> usize {
        self.genes.len()
    }

    /// Number of values of all genes.
    pub(super) fn n_values(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The number of a gene among these, if it is one of them.
    pub(super) fn number(&self, gene: usize) -> Option<usize> {
        self.genes.contains(&gene).then(|| gene - self.genes.start)
    }

    /// Where the values of a gene are, by its number.
    pub(super) fn span(&self, number: usize) -> Range<usize> {
        self.starts[number]..self.starts[number + 1]
    }

    /// Each gene, and where its values of `piece` go; those of the next piece go behind them.
    pub(super) fn places(
        &mut self,
        piece: &PieceView,
    ) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.genes.clone().zip(&mut self.next).map(move |(gene, next)| {
            let span = *next..*next + piece.n_values(gene);
            *next = span.end;
            (gene, span)
        })
    }
}
