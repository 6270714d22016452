//! A block of whole rows, in compressed sparse row form.

/// Some rows of a matrix: what a source decodes, the chain transforms and a
/// pass folds.
///
/// Row `r` of the block has the entries `indptr[r]..indptr[r + 1]` of
/// `indices` (columns) and `values`. Columns need not be sorted within a row.
/// Values may be stored zeros. Buffers are reused from block to block.
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
