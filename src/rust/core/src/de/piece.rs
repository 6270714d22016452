//! Rows turned around: the values of each gene side by side.
//!
//! A piece is one run of bytes, the same in memory, in a spill file and between
//! processes: `n_genes + 1` offsets (u32), then a record for each value, all little-endian.
//! Where the values of rows repeat, a record is the number of one in the [`Dictionary`] of the
//! piece (2 or 4 bytes); otherwise it is the value's ordered key (u64) and its group (1, 2 or
//! 4 bytes). Stored zeros and cells without a group are not in it. How pieces are made says
//! [`turn`](super::turn).

use std::ops::Range;

use super::dictionary::Dictionary;
use crate::error::{Error, Result};
use crate::stats::rank::key_value;

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

/// Bytes of a record.
pub(super) fn record_width(dictionary: Option<&Dictionary>, n_groups: usize) -> usize {
    dictionary.map_or(KEY + label_width(n_groups), Dictionary::code_width)
}

/// Where the parts of a piece are.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    n_genes: usize,
    n_values: usize,
    record: usize,
}

impl Layout {
    /// The layout of a piece of `n_bytes`, whose records take `record` of them.
    ///
    /// # Errors
    /// When no piece has that length.
    pub fn new(n_genes: usize, record: usize, n_bytes: usize) -> Result<Self> {
        let body = n_bytes.checked_sub(OFFSET * (n_genes + 1));
        match body {
            Some(body) if body % record == 0 => {
                Ok(Layout { n_genes, n_values: body / record, record })
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
        let begin = OFFSET * (self.n_genes + 1);
        begin + self.record * values.start..begin + self.record * values.end
    }
}

/// Some genes of a piece, in memory.
#[derive(Debug, Clone, Copy)]
pub struct PieceView<'p> {
    first_gene: usize,
    base: usize,
    offsets: &'p [u8],
    records: &'p [u8],
    record: usize,
    dictionary: Option<&'p Dictionary>,
}

impl<'p> PieceView<'p> {
    /// A whole piece.
    #[must_use]
    pub fn whole(bytes: &'p [u8], layout: Layout, dictionary: Option<&'p Dictionary>) -> Self {
        PieceView {
            first_gene: 0,
            base: 0,
            offsets: &bytes[Layout::offsets(&(0..layout.n_genes))],
            records: &bytes[layout.records(&(0..layout.n_values))],
            record: layout.record,
            dictionary,
        }
    }

    /// Records of `gene`, by their place in the view.
    fn span(&self, gene: usize) -> Range<usize> {
        let offset = |gene| read_offset(self.offsets, gene - self.first_gene) - self.base;
        offset(gene)..offset(gene + 1)
    }

    /// Number of values of `gene`.
    #[must_use]
    pub fn n_values(&self, gene: usize) -> usize {
        self.span(gene).len()
    }

    fn bytes(&self, gene: usize) -> &'p [u8] {
        let span = self.span(gene);
        &self.records[self.record * span.start..self.record * span.end]
    }

    /// Whether values are looked up in a dictionary.
    #[must_use]
    pub fn looks_up(&self) -> bool {
        self.dictionary.is_some()
    }

    /// Copies the keys and groups of `gene` to slices of its number of values.
    pub fn copy(&self, gene: usize, keys: &mut [u64], groups: &mut [u32]) {
        match (self.dictionary, self.record) {
            (Some(dictionary), 2) => self.copy_known::<2>(gene, dictionary, keys, groups),
            (Some(dictionary), _) => self.copy_known::<4>(gene, dictionary, keys, groups),
            (None, 9) => self.copy_whole::<1>(gene, keys, groups),
            (None, 10) => self.copy_whole::<2>(gene, keys, groups),
            (None, _) => self.copy_whole::<4>(gene, keys, groups),
        }
    }

    fn copy_known<const WIDTH: usize>(
        &self,
        gene: usize,
        dictionary: &Dictionary,
        keys: &mut [u64],
        groups: &mut [u32],
    ) {
        let (known_keys, tags) = (dictionary.keys(), dictionary.tags());
        let codes = self.bytes(gene).chunks_exact(WIDTH);
        for ((key, group), code) in keys.iter_mut().zip(groups).zip(codes) {
            let code = read_word::<WIDTH>(code) as usize;
            (*key, *group) = (known_keys[code], dictionary.group(tags[code]));
        }
    }

    /// Copies the tags of the values of `gene` from the dictionary, which there is, and appends
    /// the values.
    pub(super) fn look_up(&self, gene: usize, tags: &mut [u32], values: &mut Vec<f64>) {
        match (self.dictionary, self.record) {
            (Some(dictionary), 2) => self.look_up_known::<2>(gene, dictionary, tags, values),
            (Some(dictionary), _) => self.look_up_known::<4>(gene, dictionary, tags, values),
            (None, _) => debug_assert!(false, "values without an order"),
        }
    }

    fn look_up_known<const WIDTH: usize>(
        &self,
        gene: usize,
        dictionary: &Dictionary,
        tags: &mut [u32],
        values: &mut Vec<f64>,
    ) {
        let (keys, known_tags) = (dictionary.keys(), dictionary.tags());
        let codes = self.bytes(gene).chunks_exact(WIDTH);
        values.extend(tags.iter_mut().zip(codes).map(|(tag, code)| {
            let code = read_word::<WIDTH>(code) as usize;
            *tag = known_tags[code];
            key_value(keys[code])
        }));
    }

    fn copy_whole<const WIDTH: usize>(&self, gene: usize, keys: &mut [u64], groups: &mut [u32]) {
        let records = self.bytes(gene).chunks_exact(KEY + WIDTH);
        for ((key, group), record) in keys.iter_mut().zip(groups).zip(records) {
            *key = read_word::<KEY>(&record[..KEY]);
            *group = read_word::<WIDTH>(&record[KEY..]) as u32;
        }
    }

    /// Checks what the engine relies on, of a piece from another process.
    ///
    /// # Errors
    /// When offsets do not increase to the number of values, or a group or a value is
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
        if last * self.record != self.records.len() {
            return Err(bad("the offsets of a piece do not reach its end"));
        }
        // A number in the dictionary, or the group behind a key.
        let (from, below) = self.dictionary.map_or((KEY, n_groups), |known| (0, known.len()));
        let mut records = self.records.chunks_exact(self.record);
        if records.all(|record| (read_number(&record[from..]) as usize) < below) {
            return Ok(());
        }
        Err(bad("a piece names an unknown group or value"))
    }
}

/// Some genes of a piece, read from somewhere.
#[derive(Debug)]
pub struct LoadedPiece {
    first_gene: usize,
    base: usize,
    offsets: Vec<u8>,
    records: Vec<u8>,
    record: usize,
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
        Ok(LoadedPiece { first_gene: genes.start, base, offsets, records, record: layout.record })
    }

    /// The same as a view, with the dictionary of the piece.
    #[must_use]
    pub fn view<'p>(&'p self, dictionary: Option<&'p Dictionary>) -> PieceView<'p> {
        PieceView {
            first_gene: self.first_gene,
            base: self.base,
            offsets: &self.offsets,
            records: &self.records,
            record: self.record,
            dictionary,
        }
    }
}

/// Adds the bytes of the records of each gene of a piece to `bytes_of`.
pub fn count_genes(bytes: &[u8], record: usize, bytes_of: &mut [u64]) {
    for (gene, of_gene) in bytes_of.iter_mut().enumerate() {
        let n_values = read_offset(bytes, gene + 1) - read_offset(bytes, gene);
        *of_gene += (record * n_values) as u64;
    }
}

fn read_offset(offsets: &[u8], at: usize) -> usize {
    read_word::<OFFSET>(&offsets[OFFSET * at..][..OFFSET]) as usize
}

/// The number in `N` bytes.
#[inline]
fn read_word<const N: usize>(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..N].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// The same for as many bytes as there are, up to eight.
fn read_number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
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
        let n = view.n_values(gene);
        let (mut keys, mut groups) = (vec![0; n], vec![0; n]);
        view.copy(gene, &mut keys, &mut groups);
        keys.into_iter().map(key_value).zip(groups).collect()
    }

    fn check(n_groups: usize, repeats: usize) {
        let last = n_groups as u32 - 1;
        let groups = Groups::new(vec![0, last, NONE, 0], n_groups).unwrap();
        let mut turner = Turner::new(4, repeats);
        turner.take(&block(), None, &groups, |_| unreachable!()).unwrap();
        let (bytes, dictionary) = turner.turn(n_groups).unwrap();
        assert_eq!(dictionary.is_some(), repeats == 0);
        let dictionary = dictionary.as_ref();
        let layout = Layout::new(4, record_width(dictionary, n_groups), bytes.len()).unwrap();
        let whole = PieceView::whole(&bytes, layout, dictionary);
        whole.check(4, n_groups).unwrap();
        let want = [vec![(-2.0, 0), (4.0, last)], vec![], vec![(1.5, 0), (1.5, last)], vec![]];
        let mut counts = vec![10; 4];
        count_genes(&bytes, 3, &mut counts);
        for (gene, want) in want.iter().enumerate() {
            assert_eq!(&gathered(whole, gene), want);
            assert_eq!(counts[gene], 10 + 3 * want.len() as u64);
            let read = |out: &mut [u8], at: usize| {
                out.copy_from_slice(&bytes[at..at + out.len()]);
                Ok(())
            };
            let loaded = LoadedPiece::load(layout, gene..4, read).unwrap();
            for later in gene..4 {
                assert_eq!(gathered(loaded.view(dictionary), later), gathered(whole, later));
            }
        }
    }

    #[test]
    fn genes_come_back_in_the_order_of_the_file() {
        for n_groups in [2, 256, 257, 65_536, 65_537] {
            check(n_groups, 0);
            check(n_groups, usize::MAX);
        }
    }
}
