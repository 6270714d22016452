//! The nearest neighbours of every cell, as a table.

use super::sparse::Sparse;

/// For each of `n` cells its `k` nearest others, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// Number of neighbours of each cell, itself not counted.
    pub k: usize,
    /// The neighbours of cell `i` are `index[i * k..(i + 1) * k]`.
    pub index: Vec<u32>,
    /// How far they are.
    pub distance: Vec<f64>,
}

impl Neighbors {
    /// Number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len().checked_div(self.k).unwrap_or(0)
    }

    /// Whether there are no cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Neighbours of a cell and their distances.
    #[must_use]
    pub fn of(&self, cell: usize) -> (&[u32], &[f64]) {
        let range = cell * self.k..(cell + 1) * self.k;
        (&self.index[range.clone()], &self.distance[range])
    }

    /// The table with values of its own, one for each neighbour, as a matrix of
    /// cells by cells with sorted rows.
    ///
    /// # Panics
    /// If there is not one value for each neighbour.
    #[must_use]
    pub fn with_values(&self, values: &[f64]) -> Sparse {
        assert_eq!(values.len(), self.index.len(), "not one value for each neighbour");
        let n = self.len();
        let mut columns = Vec::with_capacity(values.len());
        let mut sorted = Vec::with_capacity(values.len());
        let mut order: Vec<(u32, f64)> = Vec::with_capacity(self.k);
        for cell in 0..n {
            let range = cell * self.k..(cell + 1) * self.k;
            order.clear();
            order.extend(
                self.index[range.clone()].iter().copied().zip(values[range].iter().copied()),
            );
            order.sort_unstable_by_key(|&(j, _)| j);
            columns.extend(order.iter().map(|&(j, _)| j));
            sorted.extend(order.iter().map(|&(_, x)| x));
        }
        Sparse { offsets: (0..=n).map(|i| i * self.k).collect(), columns, values: sorted }
    }

    /// Distances as a matrix of cells by cells. A distance of zero is stored.
    #[must_use]
    pub fn distances(&self) -> Sparse {
        self.with_values(&self.distance)
    }

    /// Where the columns of the matrix of distances begin.
    #[must_use]
    pub fn offsets_by_neighbor(&self) -> Vec<usize> {
        let mut offsets = vec![0; self.len() + 1];
        for &j in &self.index {
            offsets[j as usize + 1] += 1;
        }
        for j in 0..self.len() {
            offsets[j + 1] += offsets[j];
        }
        offsets
    }

    /// Writes the matrix of distances by columns, the cells of each ascending. A distance of
    /// zero is written.
    ///
    /// # Panics
    /// If there is less room than for one cell and one distance for each neighbour.
    pub fn write_by_neighbor(&self, offsets: &[usize], cells: &mut [i32], distances: &mut [f64]) {
        let mut next = offsets.to_vec();
        for i in 0..self.len() {
            let (index, distance) = self.of(i);
            for (&j, &d) in index.iter().zip(distance) {
                let at = &mut next[j as usize];
                cells[*at] = i as i32;
                distances[*at] = d;
                *at += 1;
            }
        }
    }

    /// The table that a matrix of distances holds, or the first row whose number
    /// of entries is not that of the first row.
    ///
    /// # Errors
    /// The row.
    pub fn from_distances(distances: &Sparse) -> Result<Self, usize> {
        let n = distances.len();
        let k = if n == 0 { 0 } else { distances.offsets[1] };
        let mut index = Vec::with_capacity(n * k);
        let mut distance = Vec::with_capacity(n * k);
        let mut order: Vec<(f64, u32)> = Vec::with_capacity(k);
        for row in 0..n {
            let (columns, values) = distances.row(row);
            if columns.len() != k {
                return Err(row);
            }
            order.clear();
            order.extend(values.iter().copied().zip(columns.iter().copied()));
            order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            index.extend(order.iter().map(|&(_, j)| j));
            distance.extend(order.iter().map(|&(x, _)| x));
        }
        Ok(Neighbors { k, index, distance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_distances_gives_the_table_back() {
        let table = Neighbors {
            k: 2,
            index: vec![2, 1, 0, 2, 0, 1],
            distance: vec![0.0, 3.0, 3.0, 4.0, 0.0, 4.0],
        };
        let matrix = table.distances();
        assert_eq!(matrix.columns, [1, 2, 0, 2, 0, 1]);
        assert_eq!(matrix.values, [3.0, 0.0, 3.0, 4.0, 0.0, 4.0]);
        assert_eq!(Neighbors::from_distances(&matrix), Ok(table));
    }

    #[test]
    fn columns_are_those_of_the_matrix() {
        let table = Neighbors {
            k: 2,
            index: vec![2, 1, 0, 2, 3, 0, 2, 1],
            distance: vec![0.0, 3.0, 3.0, 4.0, 1.0, 7.0, 1.0, 5.0],
        };
        let matrix = table.distances().transposed();
        let offsets = table.offsets_by_neighbor();
        let (mut cells, mut distances) = (vec![0; 8], vec![0.0; 8]);
        table.write_by_neighbor(&offsets, &mut cells, &mut distances);
        assert_eq!(offsets, matrix.offsets);
        assert!(cells.iter().zip(&matrix.columns).all(|(&a, &b)| a as u32 == b));
        assert_eq!(distances, matrix.values);
    }

    #[test]
    fn a_row_with_other_entries_is_named() {
        let matrix = Sparse { offsets: vec![0, 1, 1], columns: vec![1], values: vec![1.0] };
        assert_eq!(Neighbors::from_distances(&matrix), Err(1));
    }
}
