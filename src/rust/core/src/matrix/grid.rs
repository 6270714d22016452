//! The grid over a matrix: coarse ranges of rows (the unit of merging and of
//! distribution) and fine blocks inside them (the unit of decoding).
//!
//! Both levels follow from the matrix alone, never from threads, workers or
//! memory, so that every split of the work adds up in the same order.

use std::ops::Range;

/// Values that a matrix can claim; what claims more is damaged. It keeps the
/// number of blocks in bounds, whatever a file says.
pub(crate) const MOST_VALUES: u64 = 1 << 44;

/// How fine a grid is. All files are read with the [default](GridSpec::default);
/// tests cut small matrices into many blocks and ranges with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GridSpec {
    /// Stored values in a range, about.
    pub range_values: u64,
    /// Ranges at most, not counting one for empty rows at the end.
    pub max_ranges: u64,
    /// Stored values in a block, about.
    pub block_values: u64,
    /// Rows in a block at most.
    pub block_rows: usize,
}

impl Default for GridSpec {
    fn default() -> Self {
        GridSpec {
            range_values: 1 << 26,
            max_ranges: 256,
            block_values: 1 << 20,
            block_rows: 1 << 16,
        }
    }
}

/// Rows of each block, blocks of each range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    blocks: Vec<Range<usize>>,
    ranges: Vec<Range<usize>>,
}

impl Grid {
    /// The grid of a row-major sparse matrix with these row offsets.
    #[must_use]
    pub fn from_indptr(indptr: &[u64], spec: &GridSpec) -> Self {
        let n_rows = indptr.len().saturating_sub(1);
        Self::build(n_rows, spec, |row| indptr[row])
    }

    /// The grid of a matrix whose rows hold `row_values` values each.
    #[must_use]
    pub fn uniform(n_rows: usize, row_values: u64, spec: &GridSpec) -> Self {
        Self::build(n_rows, spec, |row| row as u64 * row_values)
    }

    /// The grid of a matrix whose rows hold `row_values` values each and are
    /// best read `band` at a time: blocks are whole bands as long as those are
    /// not larger than four blocks ought to be.
    #[must_use]
    pub fn banded(n_rows: usize, row_values: u64, band: usize, spec: &GridSpec) -> Self {
        let rows =
            (spec.block_values / row_values.max(1)).clamp(1, spec.block_rows as u64) as usize;
        let rows = if band <= 4 * rows { rows.next_multiple_of(band.max(1)) } else { rows };
        let blocks: Vec<Range<usize>> =
            (0..n_rows).step_by(rows).map(|start| start..(start + rows).min(n_rows)).collect();
        let total = n_rows as u64 * row_values;
        let n_ranges = total.div_ceil(spec.range_values).clamp(1, spec.max_ranges) as usize;
        let per_range = blocks.len().div_ceil(n_ranges).max(1);
        let ranges = (0..blocks.len())
            .step_by(per_range)
            .map(|start| start..(start + per_range).min(blocks.len()))
            .collect();
        Grid { blocks, ranges }
    }

    /// A grid with the given rows per block and blocks per range; for matrices
    /// that are packed block by block.
    #[must_use]
    pub fn from_parts(blocks: Vec<Range<usize>>, ranges: Vec<Range<usize>>) -> Self {
        Grid { blocks, ranges }
    }

    fn build(n_rows: usize, spec: &GridSpec, offset: impl Fn(usize) -> u64) -> Self {
        let (mut blocks, mut ranges) = (Vec::new(), Vec::new());
        if n_rows == 0 {
            return Grid { blocks, ranges };
        }
        let total = offset(n_rows);
        let n_ranges = total.div_ceil(spec.range_values).clamp(1, spec.max_ranges);
        let range_values = total.div_ceil(n_ranges).max(1);
        let (mut start, mut first_block) = (0, 0);
        for row in 0..n_rows {
            let end = row + 1;
            // A range ends with the row that carries the total past its share.
            let range_ends =
                end == n_rows || offset(end) >= (ranges.len() as u64 + 1) * range_values;
            let block_ends =
                offset(end) - offset(start) >= spec.block_values || end - start >= spec.block_rows;
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
        let grid = Grid::from_indptr(indptr, &GridSpec::default());
        tiles(&grid, indptr.len() - 1);
        grid
    }

    fn tiles(grid: &Grid, n_rows: usize) {
        let mut row = 0;
        for b in 0..grid.n_blocks() {
            assert_eq!(grid.rows(b).start, row);
            assert!(!grid.rows(b).is_empty());
            row = grid.rows(b).end;
        }
        assert_eq!(row, n_rows);
        let mut block = 0;
        for r in 0..grid.n_ranges() {
            assert_eq!(grid.blocks(r).start, block);
            block = grid.blocks(r).end;
            assert!(grid.blocks(r).all(|b| grid.range_of(b) == r));
        }
        assert_eq!(block, grid.n_blocks());
    }

    #[test]
    fn bands_are_kept_whole_where_they_fit() {
        let spec = GridSpec { range_values: 500, block_values: 100, ..GridSpec::default() };
        for (n_rows, width, band) in
            [(100, 10, 7), (100, 10, 64), (3, 0, 2), (0, 5, 1), (9, 900, 5)]
        {
            let grid = Grid::banded(n_rows, width, band, &spec);
            tiles(&grid, n_rows);
            let whole = (0..grid.n_blocks()).all(|b| grid.rows(b).start % band == 0);
            assert_eq!(whole, band < 64 && width < 900, "{n_rows} {width} {band}");
        }
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
        assert_eq!(grid.rows(0).len(), GridSpec::default().block_rows);
    }
}
