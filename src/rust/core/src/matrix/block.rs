//! A block of whole rows, in compressed sparse row form.

/// Some rows of a matrix: what a source decodes, the chain transforms and a
/// pass folds.
///
/// Row `r` of the block has the entries `indptr[r]..indptr[r + 1]` of
/// `indices` (columns) and `values`. Columns need not be sorted within a row.
/// Values may be stored zeros; sources add up what a file holds twice. Buffers are
/// reused from block to block.
#[derive(Debug, Default, Clone)]
pub struct RowBlock {
    /// Row offsets; one more than there are rows.
    pub indptr: Vec<usize>,
    /// Column of each entry.
    pub indices: Vec<u32>,
    /// Value of each entry.
    pub values: Vec<f64>,
    /// The values before the logarithm of the chain, where a pass asks for them.
    pub linear: Vec<f64>,
    /// Position of each row in the view (in the file, before the view is applied).
    pub rows: Vec<usize>,
}

impl RowBlock {
    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.indptr.len().saturating_sub(1)
    }

    /// Number of entries.
    #[must_use]
    pub fn nnz(&self) -> usize {
        self.indices.len()
    }

    /// The entries of row `r`: columns and values.
    #[must_use]
    pub fn row(&self, r: usize) -> (&[u32], &[f64]) {
        let span = self.indptr[r]..self.indptr[r + 1];
        (&self.indices[span.clone()], &self.values[span])
    }

    /// The values of row `r` before the logarithm; empty unless asked for.
    #[must_use]
    pub fn linear_row(&self, r: usize) -> &[f64] {
        &self.linear[self.indptr[r]..self.indptr[r + 1]]
    }

    /// Sorts the entries of each row by column, where they are not sorted yet.
    pub fn sort_rows(&mut self) {
        let mut order: Vec<usize> = Vec::new();
        let with_linear = !self.linear.is_empty();
        for r in 0..self.n_rows() {
            let span = self.indptr[r]..self.indptr[r + 1];
            if self.indices[span.clone()].is_sorted() {
                continue;
            }
            order.clear();
            order.extend(span.clone());
            order.sort_by_key(|&at| self.indices[at]);
            let indices: Vec<u32> = order.iter().map(|&at| self.indices[at]).collect();
            let values: Vec<f64> = order.iter().map(|&at| self.values[at]).collect();
            self.indices[span.clone()].copy_from_slice(&indices);
            self.values[span.clone()].copy_from_slice(&values);
            if with_linear {
                let linear: Vec<f64> = order.iter().map(|&at| self.linear[at]).collect();
                self.linear[span].copy_from_slice(&linear);
            }
        }
    }

    /// Adds up entries that a row has several of in one column, as files may
    /// hold them. Rows that increase strictly stay as they are; where one does
    /// not, it comes out sorted.
    pub fn sum_duplicates(&mut self) {
        // Counting has no way out, so it runs in vector registers.
        let increases = |row: &[u32]| {
            let falls = row.iter().zip(row.iter().skip(1)).map(|(a, b)| u32::from(a >= b));
            falls.fold(0, |any, falls| any | falls) == 0
        };
        let n_rows = self.n_rows();
        if (0..n_rows).all(|r| increases(&self.indices[self.indptr[r]..self.indptr[r + 1]])) {
            return;
        }
        debug_assert!(self.linear.is_empty(), "before the chain");
        self.sort_rows();
        let (mut kept, mut start) = (0, 0);
        for r in 0..n_rows {
            let end = self.indptr[r + 1];
            let first = kept;
            for at in start..end {
                if kept > first && self.indices[kept - 1] == self.indices[at] {
                    self.values[kept - 1] += self.values[at];
                } else {
                    self.indices[kept] = self.indices[at];
                    self.values[kept] = self.values[at];
                    kept += 1;
                }
            }
            start = end;
            self.indptr[r + 1] = kept;
        }
        self.indices.truncate(kept);
        self.values.truncate(kept);
    }

    /// Empties the block, keeping its memory.
    pub fn clear(&mut self) {
        self.indptr.clear();
        self.indices.clear();
        self.values.clear();
        self.linear.clear();
        self.rows.clear();
    }

    /// Bytes that the block's entries take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.indices.len() * 4
            + (self.values.len() + self.linear.len()) * 8
            + (self.indptr.len() + self.rows.len()) * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_added_up_and_nothing_else_changes() {
        let mut block = RowBlock {
            indptr: vec![0, 3, 3, 7, 9],
            indices: vec![0, 2, 5, 4, 1, 4, 1, 0, 3],
            values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            linear: Vec::new(),
            rows: vec![0, 1, 2, 3],
        };
        block.sum_duplicates();
        assert_eq!(block.indptr, [0, 3, 3, 5, 7]);
        assert_eq!(block.indices, [0, 2, 5, 1, 4, 0, 3]);
        assert_eq!(block.values, [1.0, 2.0, 3.0, 12.0, 10.0, 8.0, 9.0]);
    }

    #[test]
    fn rows_that_increase_stay() {
        let mut block = RowBlock {
            indptr: vec![0, 2, 4],
            indices: vec![3, 7, 1, 2],
            values: vec![1.0, 2.0, 3.0, 4.0],
            linear: Vec::new(),
            rows: vec![0, 1],
        };
        let before = (block.indices.clone(), block.values.clone());
        block.sum_duplicates();
        assert_eq!((block.indices, block.values), before);
    }
}
