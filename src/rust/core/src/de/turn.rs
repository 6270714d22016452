//! Turning rows around into [pieces](super::piece).
//!
//! 1. Each value of a row gets the number of one in the dictionary ([`Codes`]); of counts the
//!    dictionary has what a logarithm makes of them that the view leaves to be taken here. The
//!    number goes, with the gene, to the tile of genes that it belongs to.
//! 2. The tiles of a block are put in order of their genes, one after the other, by a counting sort.
//!
//! Within a gene a piece has the values in the order of the file.
//!
//! Memory of a thread: 8 MB of values and those of a slab at most, and the piece that they make.

use super::codes::{Codes, NumberedRow};
use super::dictionary::{Dictionary, DistinctValues, MOST_ROWS};
use super::groups::{Groups, NONE, not_finite};
use super::held::CountRows;
use super::piece::{KEY, OFFSET, record_width};
use crate::error::Result;
use crate::matrix::RowBlock;
use crate::stats::rank::ordered_key;
use crate::transform::{RowLog, RowTable};

/// Values that make a piece before their block is at its end: a row may be selected any number
/// of times.
const FULL: usize = 2 << 20;

/// Distinct values that make a piece before: with those of a slab their numbers take two bytes.
const FULL_DICTIONARY: usize = 48 << 10;

/// Genes of a tile: the lines that their values are written to stay in the nearest cache.
const TILE_GENES: u32 = 256;

/// How often values repeat within their rows where numbers of them are kept.
pub(super) const REPEATS: usize = 16;

/// The values of a thread that wait to be turned around.
pub(super) struct Turner {
    n_vars: usize,
    repeats: usize,
    /// One row as counts.
    counts: CountRows,
    /// One row of other values.
    plain: Vec<f64>,
    table: RowTable,
    codes: Codes,
    numbered: NumberedRow,
    distinct: DistinctValues,
    /// For each tile its values in the order of the file: the number in the upper 24 bits, the
    /// gene within the tile in the lowest eight.
    tiles: Vec<Vec<u32>>,
    n_values: usize,
}

impl Turner {
    /// For a view of `n_vars` genes. Pieces have a dictionary where values repeat as often
    /// as `repeats` says.
    pub(super) fn new(n_vars: usize, repeats: usize) -> Self {
        Turner {
            n_vars,
            repeats,
            counts: CountRows::default(),
            plain: Vec::new(),
            table: RowTable::default(),
            codes: Codes::default(),
            numbered: NumberedRow::default(),
            distinct: DistinctValues::default(),
            tiles: vec![Vec::new(); n_vars.div_ceil(TILE_GENES as usize)],
            n_values: 0,
        }
    }

    /// Takes the rows of a slab that have a group. `log` is what the view left out; `full` gets
    /// the pieces that are full.
    ///
    /// # Errors
    /// When a value is not finite; what `full` reports.
    pub(super) fn take(
        &mut self,
        slab: &RowBlock,
        log: Option<&RowLog>,
        groups: &Groups,
        mut full: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        for (r, &position) in slab.rows.iter().enumerate() {
            let group = groups.of(position);
            if group == NONE {
                continue;
            }
            let (genes, values) = slab.row(r);
            self.counts.clear();
            if self.counts.push(position, genes, values, log) {
                self.take_counts(group, log);
            } else {
                let values = self.logged(position, genes, values, log)?;
                // Of a row of any length the last part waits.
                for (genes, values) in genes.chunks(FULL).zip(values.chunks(FULL)) {
                    if self.n_values + values.len() > FULL {
                        full(self)?;
                    }
                    self.take_values(group, genes, values);
                }
                self.plain = values;
            }
            if self.is_full() {
                full(self)?;
            }
        }
        Ok(())
    }

    /// Whether what waits has to be turned around.
    fn is_full(&self) -> bool {
        self.n_values >= FULL
            || self.distinct.n_rows() >= MOST_ROWS
            || self.repeat() && self.distinct.len() >= FULL_DICTIONARY
    }

    /// Whether so many values repeat that numbers of the distinct ones are kept.
    fn repeat(&self) -> bool {
        self.n_values >= self.distinct.len().saturating_mul(self.repeats)
    }

    /// Takes the row of counts.
    fn take_counts(&mut self, group: u32, log: Option<&RowLog>) {
        let Turner { counts, codes, numbered, distinct, .. } = self;
        distinct.begin_row(group);
        for row in counts.iter() {
            codes.of_counts(row.genes, row.counts, numbered, |count| {
                let x = f64::from(count);
                distinct.push(ordered_key(log.map_or(x, |log| log.value(x, row.total))))
            });
        }
        self.put_row();
    }

    /// The values of a row, with the logarithm that the view left out.
    ///
    /// # Errors
    /// When one is not finite.
    fn logged(
        &mut self,
        position: usize,
        genes: &[u32],
        values: &[f64],
        log: Option<&RowLog>,
    ) -> Result<Vec<f64>> {
        let mut logged = std::mem::take(&mut self.plain);
        logged.clear();
        logged.extend_from_slice(values);
        if let Some(log) = log {
            let mut function = log.row(genes, &logged, &mut self.table);
            for value in &mut logged {
                *value = function.value(*value).1;
            }
        }
        if logged.iter().all(|value| value.is_finite()) {
            Ok(logged)
        } else {
            Err(not_finite(&logged, genes, position))
        }
    }

    /// Takes a row of any values, or a part of it.
    fn take_values(&mut self, group: u32, genes: &[u32], values: &[f64]) {
        let Turner { codes, numbered, distinct, .. } = self;
        distinct.begin_row(group);
        codes.of_values(genes, values, numbered, |value| distinct.push(ordered_key(value)));
        self.put_row();
    }

    /// Appends the values of a row to the tiles of their genes.
    fn put_row(&mut self) {
        let (mut genes, mut numbers) = self.numbered.parts();
        self.n_values += genes.len();
        while let Some(&first) = genes.first() {
            // Where the row is sorted, all values of a tile come at once.
            let tile = first / TILE_GENES;
            let n = genes.iter().position(|gene| gene / TILE_GENES != tile).unwrap_or(genes.len());
            let values = genes[..n].iter().zip(&numbers[..n]);
            self.tiles[tile as usize]
                .extend(values.map(|(gene, number)| (number << u8::BITS) | (gene % TILE_GENES)));
            (genes, numbers) = (&genes[n..], &numbers[n..]);
        }
    }

    /// Turns around what waits, and has nothing any more. The bytes of a piece and its
    /// dictionary; `None` where nothing has a value.
    pub(super) fn turn(&mut self, n_groups: usize) -> Option<(Vec<u8>, Option<Dictionary>)> {
        let piece = (self.n_values > 0).then(|| self.piece(n_groups));
        self.distinct.clear();
        self.tiles.iter_mut().for_each(Vec::clear);
        self.n_values = 0;
        piece
    }

    fn piece(&self, n_groups: usize) -> (Vec<u8>, Option<Dictionary>) {
        let dictionary = self.distinct.dictionary();
        let repeat = self.repeat();
        let width = record_width(repeat.then_some(&dictionary), n_groups);
        let mut bytes = vec![0; OFFSET * (self.n_vars + 1) + width * self.n_values];
        match (repeat, width) {
            (true, 2) => self.sort(&mut bytes, |place| (place as u16).to_le_bytes()),
            (true, _) => self.sort(&mut bytes, u32::to_le_bytes),
            (false, 9) => self.sort::<9>(&mut bytes, |place| whole(&dictionary, place)),
            (false, 10) => self.sort::<10>(&mut bytes, |place| whole(&dictionary, place)),
            (false, _) => self.sort::<12>(&mut bytes, |place| whole(&dictionary, place)),
        }
        (bytes, repeat.then_some(dictionary))
    }

    /// Writes the offsets of a piece, and what `record` makes of the places of values in the
    /// dictionary: a stable counting sort by gene, tile by tile.
    fn sort<const N: usize>(&self, bytes: &mut [u8], record: impl Fn(u32) -> [u8; N]) {
        let (offsets, records) = bytes.split_at_mut(OFFSET * (self.n_vars + 1));
        let mut offsets = offsets.chunks_exact_mut(OFFSET);
        let mut n_before: u32 = 0;
        let mut n_left = self.n_vars;
        for tile in &self.tiles {
            let mut next = [0_u32; TILE_GENES as usize];
            for &value in tile {
                next[gene_of(value)] += 1;
            }
            for (slot, offset) in next.iter_mut().take(n_left).zip(&mut offsets) {
                offset.copy_from_slice(&n_before.to_le_bytes());
                (*slot, n_before) = (n_before, n_before + *slot);
            }
            n_left = n_left.saturating_sub(next.len());
            for &value in tile {
                let slot = &mut next[gene_of(value)];
                let place = self.distinct.place(value >> u8::BITS);
                records[N * *slot as usize..][..N].copy_from_slice(&record(place));
                *slot += 1;
            }
        }
        if let Some(end) = offsets.next() {
            end.copy_from_slice(&n_before.to_le_bytes());
        }
    }
}

/// The gene of a value within its tile.
#[inline]
fn gene_of(value: u32) -> usize {
    usize::from(value as u8)
}

/// The key and the group of a value.
#[inline]
fn whole<const N: usize>(dictionary: &Dictionary, place: u32) -> [u8; N] {
    let (key, tag) = (dictionary.keys()[place as usize], dictionary.tags()[place as usize]);
    let mut record = [0; N];
    record[..KEY].copy_from_slice(&key.to_le_bytes());
    record[KEY..].copy_from_slice(&dictionary.group(tag).to_le_bytes()[..N - KEY]);
    record
}

#[cfg(test)]
mod tests {
    use super::super::piece::{Layout, PieceView, record_width};
    use super::*;
    use crate::stats::random::Rng;
    use crate::stats::rank::key_value;

    /// Values and groups of each gene of a piece.
    fn genes(
        (bytes, dictionary): &(Vec<u8>, Option<Dictionary>),
        n_vars: usize,
        n_groups: usize,
    ) -> Vec<Vec<(f64, u32)>> {
        let dictionary = dictionary.as_ref();
        let layout = Layout::new(n_vars, record_width(dictionary, n_groups), bytes.len()).unwrap();
        let piece = PieceView::whole(bytes, layout, dictionary);
        piece.check(n_vars, n_groups).unwrap();
        let gene = |gene| {
            let n = piece.n_values(gene);
            let (mut keys, mut groups) = (vec![0; n], vec![0; n]);
            piece.copy(gene, &mut keys, &mut groups);
            keys.into_iter().map(key_value).zip(groups).collect()
        };
        (0..n_vars).map(gene).collect()
    }

    #[test]
    fn tiles_do_not_show() {
        let mut rng = Rng::new(6, 0);
        let (n_obs, n_vars) = (60, 3 * TILE_GENES as usize + 7);
        let groups = Groups::new((0..n_obs as u32).map(|i| i % 3).collect(), 3).unwrap();
        let mut block = RowBlock { indptr: vec![0], ..RowBlock::default() };
        let mut want = vec![Vec::new(); n_vars];
        for row in 0..n_obs {
            // Empty, dense and sparse rows; some values are stored zeros, and some rows
            // have values that are no small counts.
            let share = [0, 1, 3, 50][row % 4];
            let odd = [0.0, 0.5, 1e5, -7.0][row / 4 % 4];
            for (gene, want) in want.iter_mut().enumerate() {
                if share > 0 && rng.below(share) == 0 {
                    let value = rng.below(100) as f64 + if gene % 2 == 0 { odd } else { 0.0 };
                    block.indices.push(gene as u32);
                    block.values.push(value);
                    if value != 0.0 {
                        want.push((value, groups.of(row)));
                    }
                }
            }
            block.indptr.push(block.values.len());
            block.rows.push(row);
        }
        for repeats in [0, usize::MAX] {
            let mut turner = Turner::new(n_vars, repeats);
            let mut turned = |block: &RowBlock| {
                turner.take(block, None, &groups, |_| unreachable!()).unwrap();
                genes(&turner.turn(3).unwrap(), n_vars, 3)
            };
            for _ in 0..2 {
                assert_eq!(turned(&block), want);
            }
            // One row that is not sorted makes no difference either.
            let mut block = block.clone();
            let last = block.indptr[2]..block.indptr[3];
            block.indices[last.clone()].reverse();
            block.values[last].reverse();
            assert_eq!(turned(&block), want);
        }
    }

    #[test]
    fn nothing_makes_no_piece() {
        let mut turner = Turner::new(5, REPEATS);
        let groups = Groups::new(vec![0, NONE], 1).unwrap();
        assert!(turner.turn(1).is_none());
        let block = RowBlock {
            indptr: vec![0, 1, 2],
            indices: vec![3, 4],
            values: vec![0.0, 2.0],
            linear: vec![],
            rows: vec![0, 1],
        };
        turner.take(&block, None, &groups, |_| unreachable!()).unwrap();
        assert!(turner.turn(1).is_none());
    }
}
