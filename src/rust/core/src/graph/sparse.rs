//! A square sparse matrix of cells by cells.

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
    #[must_use]
    pub fn transposed(&self) -> Sparse {
        let n = self.len();
        let mut offsets = vec![0_usize; n + 1];
        for &j in &self.columns {
            offsets[j as usize + 1] += 1;
        }
        for j in 0..n {
            offsets[j + 1] += offsets[j];
        }
        let mut next = offsets.clone();
        let mut columns = vec![0_u32; self.columns.len()];
        let mut values = vec![0.0; self.values.len()];
        for i in 0..n {
            let (row, x) = self.row(i);
            for (&j, &x) in row.iter().zip(x) {
                let at = &mut next[j as usize];
                columns[*at] = i as u32;
                values[*at] = x;
                *at += 1;
            }
        }
        Sparse { offsets, columns, values }
    }

    /// The matrix of `combine(a_ij, a_ji)` over the entries of either; an absent one
    /// is zero. Results of zero are left out.
    #[must_use]
    pub fn symmetrized(&self, combine: impl Fn(f64, f64) -> f64) -> Sparse {
        let other = self.transposed();
        let n = self.len();
        let mut result = Sparse { offsets: Vec::with_capacity(n + 1), ..Sparse::default() };
        result.offsets.push(0);
        for i in 0..n {
            let (own, own_values) = self.row(i);
            let (turned, turned_values) = other.row(i);
            let (mut left, mut right) = (0, 0);
            while left < own.len() || right < turned.len() {
                let from_own = own.get(left).copied().unwrap_or(u32::MAX);
                let from_turned = turned.get(right).copied().unwrap_or(u32::MAX);
                let column = from_own.min(from_turned);
                let (mut first, mut second) = (0.0, 0.0);
                if from_own == column {
                    first = own_values[left];
                    left += 1;
                }
                if from_turned == column {
                    second = turned_values[right];
                    right += 1;
                }
                let value = combine(first, second);
                if value != 0.0 {
                    result.columns.push(column);
                    result.values.push(value);
                }
            }
            result.offsets.push(result.columns.len());
        }
        result
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
    fn symmetry_takes_both_entries_and_drops_zeros() {
        let sum = example().symmetrized(|a, b| a + b);
        assert_eq!(sum.row(0), (&[1][..], &[7.0][..]));
        assert_eq!(sum.row(1), (&[0, 2][..], &[7.0, 7.0][..]));
        assert_eq!(sum, sum.transposed());
        assert_eq!(example().symmetrized(|a, b| a * b).row(1), (&[0][..], &[10.0][..]));
        assert_eq!(example().row_sums(), [2.0, 12.0, 0.0]);
    }
}
