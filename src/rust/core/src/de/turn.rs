//! Turning rows around into [pieces](super::piece).
//!
//! 1. Rows are held as they stream by: small counts in four bytes each, before a
//!    logarithm that the view leaves to be taken here; others as they are.
//! 2. Those of a block are turned around at once by a counting sort.
//!
//! Within a gene a piece has the rows of counts in the order of the file, then the others.
//!
//! Memory of a thread: 16 MB of rows and a slab at most, and the piece that they make.

use super::groups::{Groups, NONE, not_finite};
use super::held::HeldRows;
use super::piece::{KEY, OFFSET, label_width};
use crate::error::Result;
use crate::matrix::RowBlock;
use crate::pass::Held;
use crate::stats::rank::ordered_key;
use crate::transform::{RowLog, RowTable};

/// Bytes of rows that make a piece before their block is at its end: a row may be selected
/// any number of times.
const FULL: usize = 16 << 20;

/// Genes whose values are written together: the lines that are written to stay in a
/// second-level cache.
const TILE_GENES: usize = 1024;

/// The rows of a thread that wait to be turned around.
#[derive(Default)]
pub(super) struct Turner {
    held: HeldRows,
    table: RowTable,
    keys: CountKeys,
    /// Where the next value of each gene goes.
    next: Vec<u32>,
    /// Where the next tile begins in each row of counts and each other row.
    cursors: (Vec<usize>, Vec<usize>),
}

impl Turner {
    /// Keeps the rows of a slab that have a group.
    pub(super) fn hold(&mut self, slab: &RowBlock, groups: &Groups) {
        self.held.append(slab, true, |position| groups.of(position) != NONE);
    }

    /// Whether what is held has to be turned around.
    pub(super) fn is_full(&self) -> bool {
        self.held.bytes() >= FULL
    }

    /// Turns around what is held, and holds nothing any more. `log` is what the view
    /// left out. `None` where nothing has a value.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(super) fn turn(
        &mut self,
        log: Option<&RowLog>,
        groups: &Groups,
        n_vars: usize,
    ) -> Result<Option<Vec<u8>>> {
        if let Some(log) = log {
            take_log(&mut self.held.plain, log, &mut self.table);
        }
        let turned = match label_width(groups.n_groups()) {
            1 => self.turn_with::<1>(log, groups, n_vars),
            2 => self.turn_with::<2>(log, groups, n_vars),
            _ => self.turn_with::<4>(log, groups, n_vars),
        };
        self.held.clear();
        turned
    }

    /// A counting sort by gene, stable.
    ///
    /// Problem: the values of a row go to as many places as it has genes, and all
    /// these places together are larger than the cache. Solution: where rows are
    /// sorted, the genes are taken tile by tile, each row from where it was left.
    fn turn_with<const WIDTH: usize>(
        &mut self,
        log: Option<&RowLog>,
        groups: &Groups,
        n_vars: usize,
    ) -> Result<Option<Vec<u8>>> {
        let sorted = self.count(n_vars)?;
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
        let mut bytes = vec![0; offsets.len() + (KEY + WIDTH) * n_values as usize];
        let (head, records) = bytes.split_at_mut(offsets.len());
        head.copy_from_slice(&offsets);
        let mut places = Places::<WIDTH> { next: &mut self.next, records };

        let HeldRows { counts, plain } = &self.held;
        self.keys.begin(counts.iter().map(|(_, genes, counts)| {
            log.map_or(0.0, |log| log.normalize.total_of_counts(genes, counts))
        }));
        let (of_counts, of_plain) = &mut self.cursors;
        of_counts.clear();
        of_counts.resize(counts.len(), 0);
        of_plain.clear();
        of_plain.resize(plain.rows.len(), 0);
        let label = |position| {
            let mut label = [0; WIDTH];
            label.copy_from_slice(&groups.of(position).to_le_bytes()[..WIDTH]);
            label
        };
        let tile = if sorted { TILE_GENES } else { n_vars };
        let mut end = 0;
        while end < n_vars {
            end = (end + tile).min(n_vars);
            for ((row, (position, genes, counts)), cursor) in
                counts.iter().enumerate().zip(&mut *of_counts)
            {
                let label = label(position);
                let left = genes[*cursor..].iter().zip(&counts[*cursor..]);
                for (&gene, &count) in left {
                    if usize::from(gene) >= end {
                        break;
                    }
                    *cursor += 1;
                    if count != 0 {
                        let key = self.keys.of(row, count, log);
                        places.put(usize::from(gene), key, label);
                    }
                }
            }
            for ((row, &position), cursor) in plain.rows.iter().enumerate().zip(&mut *of_plain) {
                let label = label(position);
                let (genes, values) = plain.row(row);
                let left = genes[*cursor..].iter().zip(&values[*cursor..]);
                for (&gene, &value) in left {
                    if gene as usize >= end {
                        break;
                    }
                    *cursor += 1;
                    if value != 0.0 {
                        places.put(gene as usize, ordered_key(value), label);
                    }
                }
            }
        }
        Ok(Some(bytes))
    }

    /// Counts the values of each gene, and says whether all rows are sorted.
    fn count(&mut self, n_vars: usize) -> Result<bool> {
        self.next.clear();
        self.next.resize(n_vars, 0);
        let mut sorted = true;
        for (_, genes, counts) in self.held.counts.iter() {
            for (&gene, &count) in genes.iter().zip(counts) {
                self.next[usize::from(gene)] += u32::from(count != 0);
            }
            sorted &= genes.is_sorted();
        }
        let plain = &self.held.plain;
        for (r, &position) in plain.rows.iter().enumerate() {
            let (genes, values) = plain.row(r);
            let mut finite = true;
            for (&gene, &value) in genes.iter().zip(values) {
                self.next[gene as usize] += u32::from(value != 0.0);
                finite &= value.is_finite();
            }
            if !finite {
                return Err(not_finite(values, genes, position));
            }
            sorted &= genes.is_sorted();
        }
        Ok(sorted)
    }
}

/// Where the values of each gene go.
struct Places<'b, const WIDTH: usize> {
    next: &'b mut [u32],
    records: &'b mut [u8],
}

impl<const WIDTH: usize> Places<'_, WIDTH> {
    #[inline]
    fn put(&mut self, gene: usize, key: u64, label: [u8; WIDTH]) {
        let slot = &mut self.next[gene];
        let record = &mut self.records[(KEY + WIDTH) * *slot as usize..][..KEY + WIDTH];
        *slot += 1;
        record[..KEY].copy_from_slice(&key.to_le_bytes());
        record[KEY..].copy_from_slice(&label);
    }
}

/// The keys that counts have, by row.
///
/// Problem: a row is visited once for each tile, and each time its few distinct counts
/// stand for as many logarithms. Solution: a row keeps those of usual counts.
#[derive(Default)]
struct CountKeys {
    totals: Vec<f64>,
    /// Of `USUAL` counts of each row; zero, which no number has, until it is asked for.
    keys: Vec<u64>,
}

/// Counts from here on are rare.
const USUAL: usize = 16;

impl CountKeys {
    /// Begins with rows of these totals.
    fn begin(&mut self, totals: impl Iterator<Item = f64>) {
        self.totals.clear();
        self.totals.extend(totals);
        self.keys.clear();
        self.keys.resize(USUAL * self.totals.len(), 0);
    }

    #[inline]
    fn of(&mut self, row: usize, count: u16, log: Option<&RowLog>) -> u64 {
        if usize::from(count) >= USUAL {
            return self.compute(row, count, log);
        }
        let at = USUAL * row + usize::from(count);
        if self.keys[at] == 0 {
            self.keys[at] = self.compute(row, count, log);
        }
        self.keys[at]
    }

    #[inline(never)]
    fn compute(&self, row: usize, count: u16, log: Option<&RowLog>) -> u64 {
        let x = f64::from(count);
        ordered_key(log.map_or(x, |log| log.value(x, self.totals[row])))
    }
}

/// Takes the logarithm of rows whose view left it out.
fn take_log(rows: &mut RowBlock, log: &RowLog, table: &mut RowTable) {
    for r in 0..rows.n_rows() {
        let span = rows.indptr[r]..rows.indptr[r + 1];
        let values = &mut rows.values[span.clone()];
        let mut function = log.row(&rows.indices[span], values, table);
        for value in values {
            *value = function.value(*value).1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::piece::{Layout, PieceView};
    use super::*;
    use crate::stats::random::Rng;
    use crate::stats::rank::key_value;

    /// Values and groups of each gene of a piece.
    fn genes(bytes: &[u8], n_vars: usize, n_groups: usize) -> Vec<Vec<(f64, u32)>> {
        let piece = PieceView::whole(bytes, Layout::new(n_vars, n_groups, bytes.len()).unwrap());
        piece.check(n_vars, n_groups).unwrap();
        let gene = |gene| {
            let (mut keys, mut groups) = (Vec::new(), Vec::new());
            piece.gather(gene, &mut keys, &mut groups);
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
        let mut turner = Turner::default();
        for _ in 0..2 {
            turner.hold(&block, &groups);
            let bytes = turner.turn(None, &groups, n_vars).unwrap().unwrap();
            assert_eq!(genes(&bytes, n_vars, 3), of_counts);
        }
        // One row that is not sorted makes no difference either.
        let last = block.indptr[2]..block.indptr[3];
        block.indices[last.clone()].reverse();
        block.values[last].reverse();
        turner.hold(&block, &groups);
        let bytes = turner.turn(None, &groups, n_vars).unwrap().unwrap();
        assert_eq!(genes(&bytes, n_vars, 3), of_counts);
    }

    #[test]
    fn nothing_makes_no_piece() {
        let mut turner = Turner::default();
        let groups = Groups::new(vec![0, NONE], 1).unwrap();
        assert!(turner.turn(None, &groups, 5).unwrap().is_none());
        let block = RowBlock {
            indptr: vec![0, 1, 2],
            indices: vec![3, 4],
            values: vec![0.0, 2.0],
            linear: vec![],
            rows: vec![0, 1],
        };
        turner.hold(&block, &groups);
        assert!(turner.turn(None, &groups, 5).unwrap().is_none());
    }
}
