//! Turning rows around into [pieces](super::piece).
//!
//! 1. Rows are held as they stream by, small counts in two bytes each, others as they are.
//!    Each value gets the number of one in the dictionary ([`Codes`]); of counts the dictionary
//!    has what a logarithm makes of them that the view leaves to be taken here.
//! 2. Those of a block are turned around at once by a counting sort.
//!
//! Within a gene a piece has the rows of counts in the order of the file, then the others.
//!
//! Memory of a thread: 16 MB of rows and a slab at most, and the piece that they make.

use super::codes::Codes;
use super::dictionary::{Dictionary, DistinctValues};
use super::groups::{Groups, NONE, not_finite};
use super::held::HeldRows;
use super::piece::{KEY, OFFSET, record_width};
use crate::error::Result;
use crate::matrix::RowBlock;
use crate::pass::Held;
use crate::stats::rank::ordered_key;
use crate::transform::{RowLog, RowTable};

/// Bytes of rows that make a piece before their block is at its end: a row may be selected
/// any number of times.
const FULL: usize = 16 << 20;

/// Distinct values that make a piece before: with those of a slab their numbers take two bytes.
const FULL_DICTIONARY: usize = 48 << 10;

/// Genes whose values are written together: the lines that are written to stay in a
/// second-level cache.
const TILE_GENES: usize = 1024;

/// How often values repeat within their rows where numbers of them are kept.
pub(super) const REPEATS: usize = 16;

/// The rows of a thread that wait to be turned around.
pub(super) struct Turner {
    n_vars: usize,
    repeats: usize,
    /// Rows of counts have codes instead of counts.
    held: HeldRows,
    table: RowTable,
    codes: Codes,
    /// Codes of the values of other rows.
    of_plain: Vec<u32>,
    distinct: DistinctValues,
    /// The number of each row of counts and each other row among the distinct values.
    numbers: (Vec<usize>, Vec<usize>),
    /// Number of values of each gene, then where its next one goes.
    next: Vec<u32>,
    sorted: bool,
    /// Where the next tile begins in each row of counts and each other row.
    cursors: (Vec<usize>, Vec<usize>),
}

impl Turner {
    /// For a view of `n_vars` genes. Pieces have a dictionary where values repeat as often
    /// as `repeats` says.
    pub(super) fn new(n_vars: usize, repeats: usize) -> Self {
        Turner {
            n_vars,
            repeats,
            held: HeldRows::default(),
            table: RowTable::default(),
            codes: Codes::default(),
            of_plain: Vec::new(),
            distinct: DistinctValues::default(),
            numbers: (Vec::new(), Vec::new()),
            next: vec![0; n_vars],
            sorted: true,
            cursors: (Vec::new(), Vec::new()),
        }
    }

    /// Keeps the rows of a slab that have a group. `log` is what the view left out.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(super) fn hold(
        &mut self,
        slab: &RowBlock,
        log: Option<&RowLog>,
        groups: &Groups,
    ) -> Result<()> {
        let (counts_from, plain_from) = (self.held.counts.len(), self.held.plain.rows.len());
        self.held.append(slab, true, |position| groups.of(position) != NONE, log);
        self.code_counts(counts_from, log, groups);
        self.code_plain(plain_from, log, groups)
    }

    /// Whether what is held has to be turned around.
    pub(super) fn is_full(&self) -> bool {
        let HeldRows { counts, plain } = &self.held;
        let n_values = counts.n_values() + plain.values.len();
        let needs_dictionary = self.repeat(n_values, self.distinct.len());
        self.held.bytes() >= FULL || needs_dictionary && self.distinct.len() >= FULL_DICTIONARY
    }

    /// Whether so many values repeat that numbers of the distinct ones are kept.
    fn repeat(&self, n_values: usize, n_distinct: usize) -> bool {
        n_values >= n_distinct.saturating_mul(self.repeats)
    }

    /// Codes the rows of counts from the `from`th on.
    fn code_counts(&mut self, from: usize, log: Option<&RowLog>, groups: &Groups) {
        let Turner { held, codes, distinct, numbers, next, sorted, .. } = self;
        held.counts.for_each_mut(from, |(position, total), genes, counts| {
            numbers.0.push(distinct.begin_row(groups.of(position)));
            codes.replace_counts(counts, |count| {
                let x = f64::from(count);
                distinct.push(ordered_key(log.map_or(x, |log| log.value(x, total))));
            });
            for (&gene, &code) in genes.iter().zip(&*counts) {
                next[usize::from(gene)] += u32::from(code != 0);
            }
            *sorted &= genes.is_sorted();
        });
    }

    /// Codes the other rows from the `from`th on.
    fn code_plain(&mut self, from: usize, log: Option<&RowLog>, groups: &Groups) -> Result<()> {
        let plain = &mut self.held.plain;
        for r in from..plain.rows.len() {
            if let Some(log) = log {
                take_log(plain, r, log, &mut self.table);
            }
            let ((genes, values), position) = (plain.row(r), plain.rows[r]);
            if !values.iter().all(|value| value.is_finite()) {
                return Err(not_finite(values, genes, position));
            }
            self.numbers.1.push(self.distinct.begin_row(groups.of(position)));
            let first = self.of_plain.len();
            let new = |value| self.distinct.push(ordered_key(value));
            self.codes.append(values, &mut self.of_plain, new);
            for (&gene, &code) in genes.iter().zip(&self.of_plain[first..]) {
                self.next[gene as usize] += u32::from(code != 0);
            }
            self.sorted &= genes.is_sorted();
        }
        Ok(())
    }

    /// Turns around what is held, and holds nothing any more. The bytes of a piece and its
    /// dictionary; `None` where nothing has a value.
    pub(super) fn turn(&mut self, n_groups: usize) -> Option<(Vec<u8>, Option<Dictionary>)> {
        let mut n_values: u32 = 0;
        let mut offsets = Vec::with_capacity(OFFSET * (self.n_vars + 1));
        for slot in &mut self.next {
            offsets.extend_from_slice(&n_values.to_le_bytes());
            let count = *slot;
            *slot = n_values;
            n_values += count;
        }
        offsets.extend_from_slice(&n_values.to_le_bytes());
        let piece = (n_values > 0).then(|| self.piece(offsets, n_values as usize, n_groups));
        self.held.clear();
        self.of_plain.clear();
        self.distinct.clear();
        self.numbers.0.clear();
        self.numbers.1.clear();
        self.next.fill(0);
        self.sorted = true;
        piece
    }

    /// Appends the records of a piece to its offsets.
    fn piece(
        &mut self,
        mut bytes: Vec<u8>,
        n_values: usize,
        n_groups: usize,
    ) -> (Vec<u8>, Option<Dictionary>) {
        let dictionary = self.distinct.dictionary();
        let repeat = self.repeat(n_values, dictionary.len());
        let begin = bytes.len();
        let record = record_width(repeat.then_some(&dictionary), n_groups);
        bytes.resize(begin + record * n_values, 0);
        let out = &mut bytes[begin..];
        match (repeat, record) {
            (true, 2) => self.scatter(out, |place| (place as u16).to_le_bytes()),
            (true, _) => self.scatter(out, u32::to_le_bytes),
            (false, 9) => self.scatter::<9>(out, |place| whole(&dictionary, place)),
            (false, 10) => self.scatter::<10>(out, |place| whole(&dictionary, place)),
            (false, _) => self.scatter::<12>(out, |place| whole(&dictionary, place)),
        }
        (bytes, repeat.then_some(dictionary))
    }

    /// A counting sort by gene, stable, of what `record` makes of the places of values in
    /// the dictionary.
    ///
    /// Problem: the values of a row go to as many places as it has genes, and all
    /// these places together are larger than the cache. Solution: where rows are
    /// sorted, the genes are taken tile by tile, each row from where it was left.
    fn scatter<const N: usize>(&mut self, out: &mut [u8], record: impl Fn(u32) -> [u8; N]) {
        let Turner { held, distinct, next, .. } = self;
        let mut put = |gene: usize, row: usize, code: u32| {
            let slot = &mut next[gene];
            out[N * *slot as usize..][..N].copy_from_slice(&record(distinct.place(row, code)));
            *slot += 1;
        };
        let HeldRows { counts, plain } = held;
        let (of_counts, of_plain) = &mut self.cursors;
        of_counts.clear();
        of_counts.resize(counts.len(), 0);
        of_plain.clear();
        of_plain.resize(plain.rows.len(), 0);
        let tile = if self.sorted { TILE_GENES } else { self.n_vars };
        let mut end = 0;
        while end < self.n_vars {
            end = (end + tile).min(self.n_vars);
            for ((held, &row), cursor) in counts.iter().zip(&self.numbers.0).zip(&mut *of_counts) {
                let (genes, codes) = (&held.genes[*cursor..], &held.counts[*cursor..]);
                for (&gene, &code) in genes.iter().zip(codes) {
                    if usize::from(gene) >= end {
                        break;
                    }
                    *cursor += 1;
                    if code != 0 {
                        put(usize::from(gene), row, u32::from(code));
                    }
                }
            }
            let ends = plain.indptr.windows(2);
            for ((ends, &row), cursor) in ends.zip(&self.numbers.1).zip(&mut *of_plain) {
                let left = ends[0] + *cursor..ends[1];
                let codes = &self.of_plain[left.clone()];
                for (&gene, &code) in plain.indices[left].iter().zip(codes) {
                    if gene as usize >= end {
                        break;
                    }
                    *cursor += 1;
                    if code != 0 {
                        put(gene as usize, row, code);
                    }
                }
            }
        }
    }
}

/// The key and the group of a value.
#[inline]
fn whole<const N: usize>(dictionary: &Dictionary, place: u32) -> [u8; N] {
    let (key, group) = (dictionary.keys[place as usize], dictionary.groups[place as usize]);
    let mut record = [0; N];
    record[..KEY].copy_from_slice(&key.to_le_bytes());
    record[KEY..].copy_from_slice(&group.to_le_bytes()[..N - KEY]);
    record
}

/// Takes the logarithm of a row whose view left it out.
fn take_log(rows: &mut RowBlock, r: usize, log: &RowLog, table: &mut RowTable) {
    let span = rows.indptr[r]..rows.indptr[r + 1];
    let values = &mut rows.values[span.clone()];
    let mut function = log.row(&rows.indices[span], values, table);
    for value in values {
        *value = function.value(*value).1;
    }
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
        let (n_obs, n_vars) = (60, 3 * TILE_GENES + 7);
        let groups = Groups::new((0..n_obs as u32).map(|i| i % 3).collect(), 3).unwrap();
        let mut block = RowBlock { indptr: vec![0], ..RowBlock::default() };
        // Rows of counts come first in a piece.
        let (mut of_counts, mut others) = (vec![Vec::new(); n_vars], vec![Vec::new(); n_vars]);
        for row in 0..n_obs {
            // Empty, dense and sparse rows; some values are stored zeros, and some rows
            // have values that are no small counts.
            let share = [0, 1, 3, 50][row % 4];
            let odd = [0.0, 0.5, 1e5, -7.0][row / 4 % 4];
            let want = if odd == 0.0 { &mut of_counts } else { &mut others };
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
        for (want, others) in of_counts.iter_mut().zip(others) {
            want.extend(others);
        }
        for repeats in [0, usize::MAX] {
            let mut turner = Turner::new(n_vars, repeats);
            let mut turned = |block: &RowBlock| {
                turner.hold(block, None, &groups).unwrap();
                genes(&turner.turn(3).unwrap(), n_vars, 3)
            };
            for _ in 0..2 {
                assert_eq!(turned(&block), of_counts);
            }
            // One row that is not sorted makes no difference either.
            let mut block = block.clone();
            let last = block.indptr[2]..block.indptr[3];
            block.indices[last.clone()].reverse();
            block.values[last].reverse();
            assert_eq!(turned(&block), of_counts);
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
        turner.hold(&block, None, &groups).unwrap();
        assert!(turner.turn(1).is_none());
    }
}
