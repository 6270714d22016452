//! A square sparse matrix of cells by cells.

use sprs::{CsMatI, CsMatViewI};

/// Rows one after the other, columns of each row ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sparse {
    /// The entries of row `i` are `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<usize>,
    /// Column of each entry.
    pub columns: Vec<u32>,
    /// Value of each entry.
    pub values: Vec<f64>,
}

impl Sparse {
    /// Number of rows and of columns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns and values of a row.
    #[must_use]
    pub fn row(&self, i: usize) -> (&[u32], &[f64]) {
        let range = self.offsets[i]..self.offsets[i + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// Sums of rows, in the order of columns.
    #[must_use]
    pub fn row_sums(&self) -> Vec<f64> {
        (0..self.len()).map(|i| self.row(i).1.iter().sum()).collect()
    }

    /// The transposed matrix. Rows come out sorted.
    ///
    /// # Panics
    /// If the columns of a row do not ascend.
    #[must_use]
    pub fn transposed(&self) -> Sparse {
        // Stored by columns, a matrix is its transpose stored by rows.
        self.view().to_other_storage().into()
    }

    fn view(&self) -> CsMatViewI<'_, f64, u32, usize> {
        let n = self.len();
        CsMatViewI::new((n, n), &self.offsets, &self.columns, &self.values)
    }
}

impl From<CsMatI<f64, u32, usize>> for Sparse {
    fn from(matrix: CsMatI<f64, u32, usize>) -> Self {
        let (offsets, columns, values) = matrix.into_raw_storage();
        Sparse { offsets, columns, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 x 3: row 0 (1: 2), row 1 (0: 5, 2: 7), row 2 empty.
    fn example() -> Sparse {
        Sparse { offsets: vec![0, 1, 3, 3], columns: vec![1, 0, 2], values: vec![2.0, 5.0, 7.0] }
    }

    #[test]
    fn transposing_twice_changes_nothing() {
        let turned = example().transposed();
        assert_eq!(turned.row(0), (&[1][..], &[5.0][..]));
        assert_eq!(turned.row(2), (&[1][..], &[7.0][..]));
        assert_eq!(turned.transposed(), example());
    }

    #[test]
    fn sums_are_those_of_rows() {
        assert_eq!(example().row_sums(), [2.0, 12.0, 0.0]);
    }
}
