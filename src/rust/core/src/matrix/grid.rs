//! The grid over a matrix: coarse ranges of rows (the unit of merging and of
//! distribution) and fine blocks inside them (the unit of decoding).
//!
//! Both levels follow from the matrix alone, never from threads, workers or
//! memory, so that every split of the work adds up in the same order.

use std::ops::Range;

/// Stored values in a range, about.
const RANGE_VALUES: u64 = 1 << 26;
/// Ranges at most.
const MAX_RANGES: u64 = 256;
/// Stored values in a block, about.
const BLOCK_VALUES: u64 = 1 << 20;
/// Rows in a block at most.
const BLOCK_ROWS: usize = 1 << 16;

/// Rows of each block, blocks of each range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    blocks: Vec<Range<usize>>,
    ranges: Vec<Range<usize>>,
}

impl Grid {
    /// The grid of a row-major sparse matrix with these row offsets.
    #[must_use]
    pub fn from_indptr(indptr: &[u64]) -> Self {
        let n_rows = indptr.len().saturating_sub(1);
        Self::build(n_rows, |row| indptr[row])
    }

    /// The grid of a matrix whose rows hold `row_values` values each.
    #[must_use]
    pub fn uniform(n_rows: usize, row_values: u64) -> Self {
        Self::build(n_rows, |row| row as u64 * row_values)
    }

    /// A grid with the given rows per block and one range; for matrices that
    /// are packed block by block and for tests.
    #[must_use]
    pub fn from_parts(blocks: Vec<Range<usize>>, ranges: Vec<Range<usize>>) -> Self {
        Grid { blocks, ranges }
    }

    fn build(n_rows: usize, offset: impl Fn(usize) -> u64) -> Self {
        let (mut blocks, mut ranges) = (Vec::new(), Vec::new());
        if n_rows == 0 {
            return Grid { blocks, ranges };
        }
        let total = offset(n_rows);
        let n_ranges = total.div_ceil(RANGE_VALUES).clamp(1, MAX_RANGES);
        let range_values = total.div_ceil(n_ranges).max(1);
        let (mut start, mut first_block) = (0, 0);
        for row in 0..n_rows {
            let end = row + 1;
            // A range ends with the row that carries the total past its share.
            let range_ends =
                end == n_rows || offset(end) >= (ranges.len() as u64 + 1) * range_values;
            let block_ends =
                offset(end) - offset(start) >= BLOCK_VALUES || end - start >= BLOCK_ROWS;
            if range_ends || block_ends {
                blocks.push(start..end);
                start = end;
            }
            if range_ends {
                ranges.push(first_block..blocks.len());
                first_block = blocks.len();
            }
        }
        Grid { blocks, ranges }
    }

    /// Number of blocks.
    #[must_use]
    pub fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Number of ranges.
    #[must_use]
    pub fn n_ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Rows of block `block`.
    #[must_use]
    pub fn rows(&self, block: usize) -> Range<usize> {
        self.blocks[block].clone()
    }

    /// Blocks of range `range`.
    #[must_use]
    pub fn blocks(&self, range: usize) -> Range<usize> {
        self.ranges[range].clone()
    }

    /// The range that block `block` belongs to.
    #[must_use]
    pub fn range_of(&self, block: usize) -> usize {
        self.ranges.partition_point(|r| r.end <= block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(indptr: &[u64]) -> Grid {
        let grid = Grid::from_indptr(indptr);
        let mut row = 0;
        for b in 0..grid.n_blocks() {
            assert_eq!(grid.rows(b).start, row);
            assert!(!grid.rows(b).is_empty());
            row = grid.rows(b).end;
        }
        assert_eq!(row, indptr.len() - 1);
        let mut block = 0;
        for r in 0..grid.n_ranges() {
            assert_eq!(grid.blocks(r).start, block);
            block = grid.blocks(r).end;
            assert!(grid.blocks(r).all(|b| grid.range_of(b) == r));
        }
        assert_eq!(block, grid.n_blocks());
        grid
    }

    #[test]
    fn blocks_and_ranges_tile_the_rows() {
        assert_eq!(check(&[0]).n_ranges(), 0);
        assert_eq!(check(&[0, 0, 0]).n_blocks(), 1);
        let even: Vec<u64> = (0..=1000).map(|r| r * 300_000).collect();
        let grid = check(&even);
        assert_eq!(grid.n_ranges(), 5);
        assert_eq!(grid.rows(0), 0..4);
    }

    #[test]
    fn one_huge_row_is_one_block() {
        let indptr = [0, 10, 300_000_000, 300_000_010];
        let grid = check(&indptr);
        assert!(grid.n_blocks() <= 2);
    }

    #[test]
    fn empty_rows_do_not_make_endless_blocks() {
        let grid = check(&vec![0; 200_001]);
        assert_eq!(grid.rows(0).len(), BLOCK_ROWS);
    }
}
