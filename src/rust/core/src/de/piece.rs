//! Rows turned around: the values of each gene side by side, with
//! the group of their cell.
//!
//! A piece is one run of bytes, the same in memory, in a spill file and between
//! processes: `n_genes + 1` offsets (u32), then for each value its ordered key (u64) and
//! its group (1, 2 or 4 bytes), all little-endian. Stored zeros and cells
//! without a group are not in it. How they are made says [`turn`](super::turn).

use std::ops::Range;

use crate::error::{Error, Result};

/// Bytes of an offset.
pub(super) const OFFSET: usize = 4;
/// Bytes of a key.
pub(super) const KEY: usize = 8;

/// Bytes of a group's number.
#[must_use]
pub fn label_width(n_groups: usize) -> usize {
    match n_groups {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// Where the parts of a piece are, for some genes of it.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    n_genes: usize,
    n_values: usize,
    width: usize,
}

impl Layout {
    /// The layout of a piece of `n_bytes`.
    ///
    /// # Errors
    /// When no piece has that length.
    pub fn new(n_genes: usize, n_groups: usize, n_bytes: usize) -> Result<Self> {
        let width = label_width(n_groups);
        let body = n_bytes.checked_sub(OFFSET * (n_genes + 1));
        match body {
            Some(body) if body % (KEY + width) == 0 => {
                Ok(Layout { n_genes, n_values: body / (KEY + width), width })
            }
            _ => Err(bad("a piece has an impossible length")),
        }
    }

    /// Bytes of the offsets that bound these genes.
    fn offsets(genes: &Range<usize>) -> Range<usize> {
        OFFSET * genes.start..OFFSET * (genes.end + 1)
    }

    /// Bytes of these values.
    fn records(&self, values: &Range<usize>) -> Range<usize> {
        let (begin, record) = (OFFSET * (self.n_genes + 1), KEY + self.width);
        begin + record * values.start..begin + record * values.end
    }
}

/// Some genes of a piece, in memory.
#[derive(Debug, Clone, Copy)]
pub struct PieceView<'p> {
    first_gene: usize,
    base: usize,
    offsets: &'p [u8],
    records: &'p [u8],
    width: usize,
}

impl<'p> PieceView<'p> {
    /// A whole piece.
    #[must_use]
    pub fn whole(bytes: &'p [u8], layout: Layout) -> Self {
        PieceView {
            first_gene: 0,
            base: 0,
            offsets: &bytes[Layout::offsets(&(0..layout.n_genes))],
            records: &bytes[layout.records(&(0..layout.n_values))],
            width: layout.width,
        }
    }

    /// Values of `gene`, by their place in the view.
    fn span(&self, gene: usize) -> Range<usize> {
        let offset = |gene| read_offset(self.offsets, gene - self.first_gene) - self.base;
        offset(gene)..offset(gene + 1)
    }

    /// Number of values of `gene`.
    #[must_use]
    pub fn n_values(&self, gene: usize) -> usize {
        self.span(gene).len()
    }

    /// Appends the keys and groups of `gene`.
    pub fn gather(&self, gene: usize, keys: &mut Vec<u64>, groups: &mut Vec<u32>) {
        match self.width {
            1 => self.gather_with::<1>(gene, keys, groups),
            2 => self.gather_with::<2>(gene, keys, groups),
            _ => self.gather_with::<4>(gene, keys, groups),
        }
    }

    fn gather_with<const WIDTH: usize>(
        &self,
        gene: usize,
        keys: &mut Vec<u64>,
        groups: &mut Vec<u32>,
    ) {
        let span = self.span(gene);
        let record = KEY + WIDTH;
        let bytes = &self.records[record * span.start..record * span.end];
        keys.extend(bytes.chunks_exact(record).map(|record| {
            let mut key = [0; KEY];
            key.copy_from_slice(&record[..KEY]);
            u64::from_le_bytes(key)
        }));
        groups.extend(bytes.chunks_exact(record).map(|record| {
            let mut label = [0; 4];
            label[..WIDTH].copy_from_slice(&record[KEY..]);
            u32::from_le_bytes(label)
        }));
    }

    /// Checks what the engine relies on, of a piece from another process.
    ///
    /// # Errors
    /// When offsets do not increase to the number of values, or a group is
    /// unknown.
    pub fn check(&self, n_genes: usize, n_groups: usize) -> Result<()> {
        let mut last = 0;
        for gene in 0..=n_genes {
            let offset = read_offset(self.offsets, gene);
            if offset < last || (gene == 0 && offset != 0) {
                return Err(bad("the offsets of a piece do not increase from 0"));
            }
            last = offset;
        }
        if last * (KEY + self.width) != self.records.len() {
            return Err(bad("the offsets of a piece do not reach its end"));
        }
        let (mut keys, mut groups) = (Vec::new(), Vec::new());
        for gene in 0..n_genes {
            keys.clear();
            groups.clear();
            self.gather(gene, &mut keys, &mut groups);
            if groups.iter().any(|&group| group as usize >= n_groups) {
                return Err(bad("a piece names an unknown group"));
            }
        }
        Ok(())
    }
}

/// Some genes of a piece, read from somewhere.
#[derive(Debug)]
pub struct LoadedPiece {
    first_gene: usize,
    base: usize,
    offsets: Vec<u8>,
    records: Vec<u8>,
    width: usize,
}

impl LoadedPiece {
    /// Reads `genes` of a piece with `read(bytes, from)`, which fills `bytes`
    /// from byte `from` of the piece on.
    ///
    /// # Errors
    /// What reading reports.
    pub fn load(
        layout: Layout,
        genes: Range<usize>,
        read: impl Fn(&mut [u8], usize) -> Result<()>,
    ) -> Result<Self> {
        let get = |range: Range<usize>| {
            let mut bytes = vec![0; range.len()];
            read(&mut bytes, range.start)?;
            Ok(bytes)
        };
        let offsets = get(Layout::offsets(&genes))?;
        let base = read_offset(&offsets, 0);
        let records = get(layout.records(&(base..read_offset(&offsets, genes.len()))))?;
        Ok(LoadedPiece { first_gene: genes.start, base, offsets, records, width: layout.width })
    }

    /// The same as a view.
    #[must_use]
    pub fn view(&self) -> PieceView<'_> {
        PieceView {
            first_gene: self.first_gene,
            base: self.base,
            offsets: &self.offsets,
            records: &self.records,
            width: self.width,
        }
    }
}

/// Adds the number of values of each gene of a piece to `counts`.
pub fn count_genes(bytes: &[u8], counts: &mut [u64]) {
    for (gene, count) in counts.iter_mut().enumerate() {
        *count += (read_offset(bytes, gene + 1) - read_offset(bytes, gene)) as u64;
    }
}

/// Bytes of memory that `n_values` values and the offsets of one gene take.
#[must_use]
pub fn gene_bytes(n_values: u64, n_groups: usize, n_pieces: usize) -> u64 {
    n_values * (KEY + label_width(n_groups)) as u64 + (OFFSET * n_pieces) as u64
}

fn read_offset(offsets: &[u8], at: usize) -> usize {
    let mut word = [0; OFFSET];
    word.copy_from_slice(&offsets[OFFSET * at..][..OFFSET]);
    u32::from_le_bytes(word) as usize
}

fn bad(reason: &str) -> Error {
    Error::BadPartial { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::groups::{Groups, NONE};
    use super::super::turn::Turner;
    use super::*;
    use crate::matrix::RowBlock;
    use crate::stats::rank::key_value;

    fn block() -> RowBlock {
        RowBlock {
            indptr: vec![0, 3, 3, 5, 7],
            indices: vec![2, 0, 3, 1, 2, 0, 2],
            values: vec![1.5, -2.0, 0.0, 9.0, 9.0, 4.0, 1.5],
            linear: vec![],
            rows: vec![3, 0, 2, 1],
        }
    }

    fn gathered(view: PieceView, gene: usize) -> Vec<(f64, u32)> {
        let (mut keys, mut groups) = (Vec::new(), Vec::new());
        view.gather(gene, &mut keys, &mut groups);
        keys.into_iter().map(key_value).zip(groups).collect()
    }

    fn check(n_groups: usize) {
        let last = n_groups as u32 - 1;
        let groups = Groups::new(vec![0, last, NONE, 0], n_groups).unwrap();
        let mut turner = Turner::default();
        turner.hold(&block(), &groups);
        let bytes = turner.turn(None, &groups, 4).unwrap().unwrap();
        let layout = Layout::new(4, n_groups, bytes.len()).unwrap();
        let whole = PieceView::whole(&bytes, layout);
        whole.check(4, n_groups).unwrap();
        let want = [vec![(-2.0, 0), (4.0, last)], vec![], vec![(1.5, 0), (1.5, last)], vec![]];
        let mut counts = vec![10; 4];
        count_genes(&bytes, &mut counts);
        for (gene, want) in want.iter().enumerate() {
            assert_eq!(&gathered(whole, gene), want);
            assert_eq!(counts[gene], 10 + want.len() as u64);
            let read = |out: &mut [u8], at: usize| {
                out.copy_from_slice(&bytes[at..at + out.len()]);
                Ok(())
            };
            let loaded = LoadedPiece::load(layout, gene..4, read).unwrap();
            for later in gene..4 {
                assert_eq!(gathered(loaded.view(), later), gathered(whole, later));
            }
        }
    }

    #[test]
    fn genes_come_back_in_the_order_of_the_file() {
        for n_groups in [2, 256, 257, 65_536, 65_537] {
            check(n_groups);
        }
    }
}
