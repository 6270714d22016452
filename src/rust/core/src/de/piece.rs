//! A block of rows turned around: the values of each gene side by side, with
//! the group of their cell.
//!
//! A piece is one run of bytes, the same in memory, in a spill file and between
//! processes: `n_genes + 1` offsets (u32), one ordered key a value (u64), one
//! group a value (1, 2 or 4 bytes), all little-endian. Stored zeros and cells
//! without a group are not in it. Within a gene values are in the order of the
//! file.

use std::ops::Range;

use super::groups::{Groups, NONE, not_finite};
use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::stats::rank::ordered_key;

const OFFSET: usize = 4;
const KEY: usize = 8;

/// Bytes of a group's number.
#[must_use]
pub fn label_width(n_groups: usize) -> usize {
    match n_groups {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

/// The memory of a thread that turns blocks around.
#[derive(Debug, Default)]
pub struct Turner {
    /// Where the next value of each gene goes.
    next: Vec<u32>,
    /// Where the next tile begins in each row.
    cursors: Vec<usize>,
}

/// Genes whose values are written together: the lines of their keys and groups
/// stay in a second-level cache.
const TILE_GENES: usize = 1024;

impl Turner {
    /// Turns a block around. `None` where it has nothing.
    ///
    /// # Errors
    /// When a value is not finite.
    pub fn turn(
        &mut self,
        block: &RowBlock,
        groups: &Groups,
        n_vars: usize,
    ) -> Result<Option<Vec<u8>>> {
        match label_width(groups.n_groups()) {
            1 => self.turn_with::<1>(block, groups, n_vars),
            2 => self.turn_with::<2>(block, groups, n_vars),
            _ => self.turn_with::<4>(block, groups, n_vars),
        }
    }

    /// A counting sort by gene, stable.
    ///
    /// Problem: the values of a row go to as many places as it has genes, and all
    /// these places together are larger than the cache. Solution: where rows are
    /// sorted, the genes are taken tile by tile, each row from where it was left.
    fn turn_with<const WIDTH: usize>(
        &mut self,
        block: &RowBlock,
        groups: &Groups,
        n_vars: usize,
    ) -> Result<Option<Vec<u8>>> {
        let sorted = self.count(block, groups, n_vars)?;
        let mut n_values: u32 = 0;
        let mut offsets = Vec::with_capacity(OFFSET * (n_vars + 1));
        for slot in &mut self.next {
            offsets.extend_from_slice(&n_values.to_le_bytes());
            let count = *slot;
            *slot = n_values;
            n_values += count;
        }
        if n_values == 0 {
            return Ok(None);
        }
        offsets.extend_from_slice(&n_values.to_le_bytes());
        let n = n_values as usize;
        let mut bytes = vec![0; offsets.len() + (KEY + WIDTH) * n];
        let (head, body) = bytes.split_at_mut(offsets.len());
        head.copy_from_slice(&offsets);
        let (keys, labels) = body.split_at_mut(KEY * n);
        self.cursors.clear();
        self.cursors.resize(block.rows.len(), 0);
        let tile = if sorted { TILE_GENES } else { n_vars };
        let mut end = 0;
        while end < n_vars {
            end = (end + tile).min(n_vars);
            for (r, &position) in block.rows.iter().enumerate() {
                let group = groups.of(position);
                if group == NONE {
                    continue;
                }
                let mut label = [0; WIDTH];
                label.copy_from_slice(&group.to_le_bytes()[..WIDTH]);
                let (indices, values) = block.row(r);
                let from = self.cursors[r];
                let length =
                    if sorted { tile_length(&indices[from..], end) } else { indices.len() };
                let own = from..from + length;
                self.cursors[r] = own.end;
                for (&gene, &value) in indices[own.clone()].iter().zip(&values[own]) {
                    if value != 0.0 {
                        let slot = &mut self.next[gene as usize];
                        let at = *slot as usize;
                        *slot += 1;
                        let key = ordered_key(value).to_le_bytes();
                        keys[KEY * at..][..KEY].copy_from_slice(&key);
                        labels[WIDTH * at..][..WIDTH].copy_from_slice(&label);
                    }
                }
            }
        }
        Ok(Some(bytes))
    }

    /// Counts the values of each gene, and says whether all rows are sorted.
    fn count(&mut self, block: &RowBlock, groups: &Groups, n_vars: usize) -> Result<bool> {
        self.next.clear();
        self.next.resize(n_vars, 0);
        let mut sorted = true;
        for (r, &position) in block.rows.iter().enumerate() {
            if groups.of(position) == NONE {
                continue;
            }
            let (indices, values) = block.row(r);
            let mut finite = true;
            for (&gene, &value) in indices.iter().zip(values) {
                self.next[gene as usize] += u32::from(value != 0.0);
                finite &= value.is_finite();
            }
            if !finite {
                return Err(not_finite(values, indices, position));
            }
            sorted &= indices.is_sorted();
        }
        Ok(sorted)
    }
}

/// How many of these sorted genes are below `end`; few or many of them.
fn tile_length(genes: &[u32], end: usize) -> usize {
    let below = |gene: &u32| (*gene as usize) < end;
    let mut step = 16;
    while genes.get(step).is_some_and(below) {
        step *= 2;
    }
    let most = (step + 1).min(genes.len());
    let least = if step > 16 { step / 2 } else { 0 };
    least + genes[least..most].partition_point(below)
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

    /// Bytes of the keys and of the groups of these values.
    fn values(&self, values: &Range<usize>) -> (Range<usize>, Range<usize>) {
        let keys = OFFSET * (self.n_genes + 1);
        let labels = keys + KEY * self.n_values;
        let width = self.width;
        (
            keys + KEY * values.start..keys + KEY * values.end,
            labels + width * values.start..labels + width * values.end,
        )
    }
}

/// Some genes of a piece, in memory.
#[derive(Debug, Clone, Copy)]
pub struct PieceView<'p> {
    first_gene: usize,
    base: usize,
    offsets: &'p [u8],
    keys: &'p [u8],
    labels: &'p [u8],
    width: usize,
}

impl<'p> PieceView<'p> {
    /// A whole piece.
    #[must_use]
    pub fn whole(bytes: &'p [u8], layout: Layout) -> Self {
        let (keys, labels) = layout.values(&(0..layout.n_values));
        PieceView {
            first_gene: 0,
            base: 0,
            offsets: &bytes[Layout::offsets(&(0..layout.n_genes))],
            keys: &bytes[keys],
            labels: &bytes[labels],
            width: layout.width,
        }
    }

    /// Values of `gene`, by their place in the view.
    fn span(&self, gene: usize) -> Range<usize> {
        let offset = |gene| read_offset(self.offsets, gene - self.first_gene) - self.base;
        offset(gene)..offset(gene + 1)
    }

    /// Appends the keys and groups of `gene`.
    pub fn gather(&self, gene: usize, keys: &mut Vec<u64>, groups: &mut Vec<u32>) {
        let span = self.span(gene);
        let bytes = &self.keys[KEY * span.start..KEY * span.end];
        keys.extend(bytes.chunks_exact(KEY).map(|key| {
            let mut word = [0; KEY];
            word.copy_from_slice(key);
            u64::from_le_bytes(word)
        }));
        let labels = &self.labels[self.width * span.start..self.width * span.end];
        match self.width {
            1 => groups.extend(labels.iter().map(|&label| u32::from(label))),
            2 => groups.extend(
                labels.chunks_exact(2).map(|l| u32::from(u16::from_le_bytes([l[0], l[1]]))),
            ),
            _ => groups.extend(
                labels.chunks_exact(4).map(|l| u32::from_le_bytes([l[0], l[1], l[2], l[3]])),
            ),
        }
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
        if last * KEY != self.keys.len() {
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
    keys: Vec<u8>,
    labels: Vec<u8>,
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
        let (keys, labels) = layout.values(&(base..read_offset(&offsets, genes.len())));
        Ok(LoadedPiece {
            first_gene: genes.start,
            base,
            offsets,
            keys: get(keys)?,
            labels: get(labels)?,
            width: layout.width,
        })
    }

    /// The same as a view.
    #[must_use]
    pub fn view(&self) -> PieceView<'_> {
        PieceView {
            first_gene: self.first_gene,
            base: self.base,
            offsets: &self.offsets,
            keys: &self.keys,
            labels: &self.labels,
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
    use super::*;
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
        let bytes = Turner::default().turn(&block(), &groups, 4).unwrap().unwrap();
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

    #[test]
    fn tiles_do_not_show() {
        let mut rng = crate::stats::random::Rng::new(6, 0);
        let (n_obs, n_vars) = (30, 3 * TILE_GENES + 7);
        let mut block = RowBlock { indptr: vec![0], ..RowBlock::default() };
        let mut want = vec![Vec::new(); n_vars];
        let groups = Groups::new((0..n_obs as u32).map(|i| i % 3).collect(), 3).unwrap();
        for row in 0..n_obs {
            // Empty, dense and sparse rows; some values are stored zeros.
            let share = [0, 1, 3, 50][row % 4];
            for (gene, want) in want.iter_mut().enumerate() {
                if share > 0 && rng.below(share) == 0 {
                    let value = rng.below(4) as f64;
                    block.indices.push(gene as u32);
                    block.values.push(value);
                    if value != 0.0 {
                        want.push((value, groups.of(row)));
                    }
                }
            }
            block.indptr.push(block.indices.len());
            block.rows.push(row);
        }
        let mut turner = Turner::default();
        let tiled = turner.turn(&block, &groups, n_vars).unwrap().unwrap();
        let layout = Layout::new(n_vars, 3, tiled.len()).unwrap();
        for (gene, want) in want.iter().enumerate() {
            assert_eq!(&gathered(PieceView::whole(&tiled, layout), gene), want);
        }
        // One row the wrong way round: no tiles, the same bytes.
        let first = block.indptr[1]..block.indptr[2];
        block.indices[first.clone()].reverse();
        block.values[first].reverse();
        assert_eq!(turner.turn(&block, &groups, n_vars).unwrap().unwrap(), tiled);
    }

    #[test]
    fn tiles_end_where_genes_do() {
        let genes: Vec<u32> = (0..200).map(|i| 3 * i).collect();
        for end in 0..610 {
            let want = genes.iter().filter(|&&gene| (gene as usize) < end).count();
            assert_eq!(tile_length(&genes, end), want);
            assert_eq!(tile_length(&genes[..7], end), want.min(7));
        }
        assert_eq!(tile_length(&[], 5), 0);
    }

    #[test]
    fn blocks_without_labelled_values_make_no_piece() {
        let groups = Groups::new(vec![NONE; 4], 1).unwrap();
        assert!(Turner::default().turn(&block(), &groups, 4).unwrap().is_none());
    }

    #[test]
    fn values_that_are_no_numbers_are_errors() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut block = block();
            block.values[5] = bad;
            let groups = Groups::new(vec![0; 4], 1).unwrap();
            let error = Turner::default().turn(&block, &groups, 4).unwrap_err();
            assert!(error.to_string().starts_with("the value of cell 2 and gene 1 is"), "{error}");
        }
    }

    #[test]
    fn damaged_pieces_are_errors() {
        let groups = Groups::new(vec![0, 1, 0, 0], 2).unwrap();
        let bytes = Turner::default().turn(&block(), &groups, 4).unwrap().unwrap();
        assert!(Layout::new(4, 2, bytes.len() - 1).is_err());
        let layout = Layout::new(4, 2, bytes.len()).unwrap();
        for (at, byte) in [(0, 1), (4, 200), (bytes.len() - 1, 2)] {
            let mut damaged = bytes.clone();
            damaged[at] = byte;
            assert!(PieceView::whole(&damaged, layout).check(4, 2).is_err(), "byte {at}");
        }
    }
}
