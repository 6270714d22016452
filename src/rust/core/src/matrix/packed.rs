//! A view of another matrix, packed into memory: what an algorithm keeps when
//! it needs some genes several times and the file only once.
//!
//! Counts of a cell have few distinct values, whatever is done to them as long as it is done to
//! the whole cell. So a row is a table of its values and, for each entry, a place in it, beside
//! the distance from the column before; the bits of values are kept. Rows of many values are
//! written out.
//!
//! The grid is that of the matrix it came from, so that a pass over the packed
//! view gives the bits that it would give over the file. Memory: for each entry of sorted rows
//! a byte for its column (5 after a gap of more than 254, and in rows that are not sorted)
//! and half a byte, a byte past 16 values of the row, or 8 past 255; for each row 17 bytes and 8
//! for each of its values.

use super::block::RowBlock;
use super::grid::Grid;
use super::memory::emit_slabs;
use super::source::{Emit, Extent, Fetched, Reader, Scratch, Source};
use crate::ctx::Ctx;
use crate::error::Result;

/// A column that does not follow from the one before by a byte comes in four bytes after this.
const FAR: u8 = u8::MAX;
/// The most values of a row that are told apart.
const MOST_CODES: usize = 255;
/// The most that half a byte tells apart.
const MOST_HALVES: usize = 16;

/// Bytes that a packed view of `n_values` entries takes where they come from counts, about.
#[must_use]
pub fn packed_bytes(n_values: u64, n_obs: usize) -> u64 {
    n_values + n_values / 2 + ROW_BYTES * n_obs as u64
}

/// Of a row beside its entries: its number and offset, and the six values or so that variable
/// genes have in a cell.
const ROW_BYTES: u64 = 64;

/// Rows of a view, block by block.
pub struct PackedSource {
    blocks: Vec<PackedBlock>,
    extent: Extent,
}

/// The rows of one block.
#[derive(Default)]
pub struct PackedBlock {
    indptr: Vec<usize>,
    rows: Vec<usize>,
    /// Of each row that has entries its columns, the number of its values, or zero
    /// where they are not told apart, these values, and the place of each entry among them.
    bytes: Vec<u8>,
}

impl PackedBlock {
    /// Appends the rows of a slab of a view.
    pub fn append(&mut self, slab: &RowBlock, codes: &mut Codes) {
        if self.indptr.is_empty() {
            self.indptr.push(0);
        }
        let start = self.indptr[self.indptr.len() - 1];
        self.indptr.extend(slab.indptr.iter().skip(1).map(|offset| start + offset));
        self.rows.extend_from_slice(&slab.rows);
        for r in 0..slab.n_rows() {
            let (columns, values) = slab.row(r);
            if !columns.is_empty() {
                self.push_columns(columns);
                self.push_values(values, codes);
            }
        }
    }

    fn push_columns(&mut self, columns: &[u32]) {
        let mut before = 0;
        for &column in columns {
            match u8::try_from(column.wrapping_sub(before)) {
                Ok(gap) if gap < FAR => self.bytes.push(gap),
                _ => {
                    self.bytes.push(FAR);
                    self.bytes.extend(column.to_le_bytes());
                }
            }
            before = column;
        }
    }

    fn push_values(&mut self, values: &[f64], codes: &mut Codes) {
        let n_values = codes.tell_apart(values);
        let of_codes = if n_values > MOST_HALVES { values.len() } else { values.len().div_ceil(2) };
        if n_values == 0 || 8 * n_values + of_codes >= 8 * values.len() {
            self.bytes.push(0);
            self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            return;
        }
        self.bytes.push(n_values as u8);
        self.bytes.extend(codes.table.iter().flat_map(|value| value.to_le_bytes()));
        if n_values > MOST_HALVES {
            self.bytes.extend_from_slice(&codes.places);
        } else {
            let pairs = codes.places.chunks(2);
            self.bytes.extend(pairs.map(|pair| pair[0] | pair.get(1).map_or(0, |code| code << 4)));
        }
    }

    /// Gives back the memory that appending asked for in advance.
    pub fn shrink(&mut self) {
        self.indptr.shrink_to_fit();
        self.rows.shrink_to_fit();
        self.bytes.shrink_to_fit();
    }

    /// Bytes that the block takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len() + 8 * (self.indptr.len() + self.rows.len())
    }
}

/// Tells the values of a row apart by their bits; its memory serves for all rows.
pub struct Codes {
    /// Values by a hash of their bits: the number of the row that has them, and their code.
    slots: Vec<(u64, u32, u8)>,
    row: u32,
    table: Vec<f64>,
    places: Vec<u8>,
}

/// Enough of them that most values find their own at once.
const SLOT_BITS: u32 = 10;

impl Default for Codes {
    fn default() -> Self {
        let slots = vec![(0, 0, 0); 1 << SLOT_BITS];
        Codes { slots, row: 0, table: Vec::new(), places: Vec::new() }
    }
}

impl Codes {
    /// Fills the table and the codes, and says how many values there are; zero for too many.
    fn tell_apart(&mut self, values: &[f64]) -> usize {
        self.table.clear();
        self.places.clear();
        self.row = self.row.wrapping_add(1);
        if self.row == 0 {
            self.slots.fill((0, 0, 0));
            self.row = 1;
        }
        for &value in values {
            let bits = value.to_bits();
            let mut at = (bits.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SLOT_BITS)) as usize;
            let code = loop {
                let slot = &mut self.slots[at];
                if slot.1 != self.row {
                    if self.table.len() == MOST_CODES {
                        return 0;
                    }
                    *slot = (bits, self.row, self.table.len() as u8);
                    self.table.push(value);
                }
                if slot.0 == bits {
                    break slot.2;
                }
                at = (at + 1) % (1 << SLOT_BITS);
            };
            self.places.push(code);
        }
        self.table.len()
    }
}

impl PackedSource {
    /// A source of `blocks`, one for each block of `grid`, whose rows are those
    /// of a view of `n_obs` by `n_vars`.
    #[must_use]
    pub fn new(blocks: Vec<PackedBlock>, grid: Grid, n_obs: usize, n_vars: usize) -> Self {
        PackedSource { blocks, extent: Extent::new((n_obs, n_vars), grid) }
    }

    /// Number of entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.blocks.iter().map(|block| block.indptr.last().copied().unwrap_or(0)).sum()
    }

    /// Bytes that the rows take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(PackedBlock::bytes).sum()
    }
}

impl Source for PackedSource {
    fn extent(&self) -> &Extent {
        &self.extent
    }

    fn nnz(&self) -> Option<u64> {
        Some(self.entries() as u64)
    }

    fn reader<'a>(&'a self, _ctx: &'a Ctx) -> Result<Box<dyn Reader<'a> + 'a>> {
        Ok(Box::new(PackedReader(self)))
    }
}

struct PackedReader<'a>(&'a PackedSource);

impl<'a> Reader<'a> for PackedReader<'a> {
    fn fetch(&mut self, block: usize) -> Result<Box<dyn Fetched + 'a>> {
        Ok(Box::new(PackedSlice(&self.0.blocks[block])))
    }
}

struct PackedSlice<'a>(&'a PackedBlock);

impl Fetched for PackedSlice<'_> {
    fn decode(
        self: Box<Self>,
        _scratch: &mut Scratch,
        slab: &mut RowBlock,
        slab_values: usize,
        emit: &mut Emit,
    ) -> Result<()> {
        let block = self.0;
        let all = 0..block.rows.len();
        let mut done = 0;
        let mut bytes = Bytes(&block.bytes);
        emit_slabs(
            |row| block.indptr[row],
            &all,
            slab,
            slab_values,
            &mut |slab| {
                // Positions in the view, not in the packed block.
                let n = slab.rows.len();
                slab.rows.copy_from_slice(&block.rows[done..done + n]);
                done += n;
                emit(slab)
            },
            |span, slab| {
                slab.indices.reserve(span.len());
                slab.values.reserve(span.len());
                for r in 0..slab.n_rows() {
                    let n = slab.indptr[r + 1] - slab.indptr[r];
                    if n > 0 {
                        bytes.columns(n, &mut slab.indices);
                        bytes.values(n, &mut slab.values);
                    }
                }
                Ok(())
            },
        )
    }
}

/// What is left of the rows of a block.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn columns(&mut self, n: usize, columns: &mut Vec<u32>) {
        let (bytes, mut at, mut column) = (self.0, 0, 0);
        columns.extend((0..n).map(|_| {
            let gap = bytes[at];
            at += 1;
            if gap == FAR {
                column = le_u32(&bytes[at..at + 4]);
                at += 4;
            } else {
                column += u32::from(gap);
            }
            column
        }));
        self.0 = &bytes[at..];
    }

    fn values(&mut self, n: usize, values: &mut Vec<f64>) {
        let n_values = usize::from(self.take(1)[0]);
        if n_values == 0 {
            values.extend(self.take(8 * n).chunks_exact(8).map(le_f64));
            return;
        }
        let mut table = [0.0; 256];
        for (value, bytes) in table.iter_mut().zip(self.take(8 * n_values).chunks_exact(8)) {
            *value = le_f64(bytes);
        }
        if n_values > MOST_HALVES {
            values.extend(self.take(n).iter().map(|&code| table[usize::from(code)]));
            return;
        }
        let codes = self.take(n.div_ceil(2));
        let pairs = codes[..n / 2].iter();
        values.extend(
            pairs.flat_map(|&pair| [table[usize::from(pair & 15)], table[usize::from(pair >> 4)]]),
        );
        if n % 2 == 1 {
            values.push(table[usize::from(codes[n / 2] & 15)]);
        }
    }
}

fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn le_f64(bytes: &[u8]) -> f64 {
    f64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Silent;
    use crate::pass::stream_slabs;
    use crate::stats::random::Rng;
    use crate::transform::{Chain, View};
    use std::sync::Mutex;

    type Row = (Vec<u32>, Vec<f64>);

    /// Packs rows as one block, in slabs of seven, and gives back what is streamed with the
    /// bytes that it took.
    fn through(rows: &[Row], n_vars: usize) -> (Vec<Row>, usize) {
        let (mut block, mut codes) = (PackedBlock::default(), Codes::default());
        for (s, rows) in rows.chunks(7).enumerate() {
            let mut slab = RowBlock { indptr: vec![0], ..RowBlock::default() };
            for (r, (columns, values)) in rows.iter().enumerate() {
                slab.indices.extend(columns);
                slab.values.extend(values);
                slab.indptr.push(slab.indices.len());
                slab.rows.push(s * 7 + r);
            }
            block.append(&slab, &mut codes);
        }
        block.shrink();
        let once = |range| std::iter::once(range).collect();
        let grid = Grid::from_parts(once(0..rows.len()), once(0..1));
        let source = PackedSource::new(vec![block], grid, rows.len(), n_vars);
        assert_eq!(source.entries(), rows.iter().map(|row| row.0.len()).sum::<usize>());
        let ctx = Ctx::new(1, 1 << 30, std::env::temp_dir(), &Silent);
        let view = View::new(rows.len(), n_vars, None, &Chain::default()).unwrap();
        let found = Mutex::new(vec![Row::default(); rows.len()]);
        stream_slabs(&source, &view, &ctx, "packed", |slab| {
            for r in 0..slab.n_rows() {
                let (columns, values) = slab.row(r);
                found.lock().unwrap()[slab.rows[r]] = (columns.to_vec(), values.to_vec());
            }
            Ok(())
        })
        .unwrap();
        (found.into_inner().unwrap(), source.bytes())
    }

    /// Bits, since NaN is not equal to itself and zeros of both signs are.
    fn check(rows: &[Row], n_vars: usize) -> usize {
        let (found, bytes) = through(rows, n_vars);
        for (r, (got, want)) in found.iter().zip(rows).enumerate() {
            assert_eq!(got.0, want.0, "columns of row {r}");
            let bits = |row: &Row| row.1.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(got), bits(want), "values of row {r}");
        }
        bytes
    }

    #[test]
    fn rows_come_back_whatever_they_hold() {
        let mut rng = Rng::new(7, 0);
        let mut uniform = move || rng.uniform();
        // Tables of one, of halves, of bytes, and rows that are written out; narrow and wide
        // gaps; columns past 16 bits.
        for n_values in [1, 2, 15, 16, 17, 254, 255, 256, 257, 100_000] {
            for step in [1.0, 3.0, 253.0, 600.0, 70_000.0] {
                let rows: Vec<Row> = (0..40)
                    .map(|r| {
                        let n = [0, 1, 2, 3, 40, 1001][r % 6];
                        let mut column = 0;
                        let columns = (0..n).map(|_| {
                            column += (2.0 * step * uniform()) as u32 + 1;
                            column
                        });
                        let columns: Vec<u32> = columns.collect();
                        let value = |at: usize| ((at % n_values) as f64 - 3.0).exp();
                        (columns, (0..n).map(|_| value((uniform() * 1e6) as usize)).collect())
                    })
                    .collect();
                check(&rows, 1 << 30);
            }
        }
    }

    #[test]
    fn gaps_about_a_byte_and_unsorted_columns_come_back() {
        let columns = |columns: &[u32]| (columns.to_vec(), vec![1.0; columns.len()]);
        let rows = [
            columns(&[0, 254, 508, 763, 1019]),
            columns(&[254]),
            columns(&[255]),
            columns(&[256, 65_535, 65_536, u32::MAX - 1]),
            columns(&[9, 3, 3, 800, 0, 1]),
            columns(&[]),
        ];
        check(&rows, 1 << 32);
    }

    #[test]
    fn bits_of_values_are_kept() {
        let payload = f64::from_bits(f64::NAN.to_bits() | 0x4d);
        let odd = [0.0, -0.0, f64::NAN, payload, -f64::NAN, f64::INFINITY, -1.5, 5e-324, f64::MIN];
        let short: Row = ((0..9).collect(), odd.to_vec());
        // Long enough for a table.
        let long: Row = ((0..900).collect(), odd.iter().copied().cycle().take(900).collect());
        check(&[short, long], 1000);
    }

    #[test]
    fn counts_take_two_bytes_at_most() {
        let rows: Vec<Row> = (0..100)
            .map(|r| {
                let columns = (0..300).map(|j| j * 6 + r % 3);
                (columns.collect(), (0..300).map(|j| f64::from(j * (r + 1) % 7)).collect())
            })
            .collect();
        let bytes = check(&rows, 2000);
        assert!(bytes as u64 >= packed_bytes(30_000, 100));
        assert!(bytes <= 2 * 30_000, "{bytes}");
    }
}
