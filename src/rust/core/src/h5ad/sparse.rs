//! Sparse matrices small enough to be read whole (`obsp`, sparse entries of
//! `obsm` and `uns`). `X` and the layers stream instead.

use super::array::{self, Values};
use super::encoding::Encoding;
use super::node::Node;
use crate::error::{Error, Result};

/// Which dimension the values of a sparse matrix are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SparseKind {
    /// By rows.
    Csr,
    /// By columns.
    Csc,
}

/// A sparse matrix in memory. Indices ascend within each row (column) and occur
/// once, whatever the file holds: duplicates are summed, as scipy does.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparse {
    /// Grouped by rows or by columns.
    pub kind: SparseKind,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Where each row (column) starts, one more than there are.
    pub indptr: Vec<i32>,
    /// The column (row) of each value.
    pub indices: Vec<i32>,
    /// The values.
    pub values: Vec<f64>,
}

/// The shape attribute of a sparse matrix.
pub(crate) fn shape(node: &Node) -> Result<[usize; 2]> {
    let lengths = match node.attr_lengths("shape")? {
        Some(lengths) => Some(lengths),
        None => node.attr_lengths("h5sparse_shape")?,
    };
    match lengths.as_deref() {
        Some(&[rows, columns]) => Ok([rows, columns]),
        Some(other) => Err(node.corrupt(format!("the shape {other:?} is not that of a matrix"))),
        None => Err(node.corrupt("the attribute `shape` is absent")),
    }
}

/// Reads a sparse matrix whole and checks it.
///
/// # Errors
///
/// `Corrupt` for lengths, offsets or indices that contradict each other,
/// `TooLarge` past 2^31 - 1 values, which no R vector of offsets reaches.
pub(crate) fn read(node: &Node, encoding: &Encoding) -> Result<Sparse> {
    let kind = if *encoding == Encoding::Csc { SparseKind::Csc } else { SparseKind::Csr };
    let shape = shape(node)?;
    let (n_major, n_minor) = match kind {
        SparseKind::Csr => (shape[0], shape[1]),
        SparseKind::Csc => (shape[1], shape[0]),
    };
    let data = node.child("data")?;
    let values = to_doubles(&data, array::read(&data)?.values)?;
    if i32::try_from(values.len()).is_err() || i32::try_from(n_minor).is_err() {
        return Err(Error::TooLarge {
            message: format!(
                "`{}` has {} stored values in {} x {}, more than an R matrix can hold",
                node.element(),
                values.len(),
                shape[0],
                shape[1]
            ),
        });
    }
    let indices_node = node.child("indices")?;
    let mut indices = Vec::with_capacity(values.len());
    for index in array::read_integers(&indices_node)? {
        match usize::try_from(index) {
            Ok(at) if at < n_minor => indices.push(index as i32),
            _ => {
                return Err(
                    indices_node.corrupt(format!("index {index} is outside of 0 to {n_minor}"))
                );
            }
        }
    }
    if indices.len() != values.len() {
        return Err(node.corrupt(format!("{} indices for {} values", indices.len(), values.len())));
    }
    let indptr = offsets(&node.child("indptr")?, n_major, values.len())?;
    let mut matrix = Sparse { kind, shape, indptr, indices, values };
    matrix.canonicalize();
    Ok(matrix)
}

impl Sparse {
    /// Sorts the indices of each row (column) and sums duplicates.
    fn canonicalize(&mut self) {
        let ascending = self.indptr.windows(2).all(|bounds| {
            self.indices[bounds[0] as usize..bounds[1] as usize].is_sorted_by(|a, b| a < b)
        });
        if ascending {
            return;
        }
        let mut indptr = vec![0];
        let mut indices = Vec::with_capacity(self.indices.len());
        let mut values = Vec::with_capacity(self.values.len());
        let mut row: Vec<(i32, f64)> = Vec::new();
        for bounds in self.indptr.windows(2) {
            let range = bounds[0] as usize..bounds[1] as usize;
            row.clear();
            row.extend(
                self.indices[range.clone()].iter().copied().zip(self.values[range].iter().copied()),
            );
            row.sort_by_key(|&(index, _)| index);
            let start = indices.len();
            for &(index, value) in &row {
                if indices.len() > start && indices.last() == Some(&index) {
                    *values.last_mut().expect("a value per index") += value;
                } else {
                    indices.push(index);
                    values.push(value);
                }
            }
            indptr.push(indices.len() as i32);
        }
        self.indptr = indptr;
        self.indices = indices;
        self.values = values;
    }
}

fn offsets(node: &Node, n_major: usize, n_values: usize) -> Result<Vec<i32>> {
    let stored = array::read_integers(node)?;
    if stored.len() != n_major + 1 {
        return Err(node.corrupt(format!("{} offsets, expected {}", stored.len(), n_major + 1)));
    }
    if stored.first() != Some(&0) || stored.last() != Some(&(n_values as i64)) {
        return Err(node.corrupt(format!("the offsets do not run from 0 to {n_values}")));
    }
    if !stored.is_sorted() {
        return Err(node.corrupt("the offsets are not increasing"));
    }
    Ok(stored.into_iter().map(|offset| offset as i32).collect())
}

fn to_doubles(node: &Node, values: Values) -> Result<Vec<f64>> {
    Ok(match values {
        Values::Bool(values) => {
            values.into_iter().map(|value| f64::from(u8::from(value))).collect()
        }
        Values::Int32(values) => values.into_iter().map(f64::from).collect(),
        Values::Int64(values) => values.into_iter().map(|value| value as f64).collect(),
        Values::UInt64(values) => values.into_iter().map(|value| value as f64).collect(),
        Values::Float32(values) => values.into_iter().map(f64::from).collect(),
        Values::Float64(values) => values,
        Values::Text(_) => return Err(node.corrupt("a matrix of strings")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsorted_and_repeated_indices_are_put_right() {
        let mut matrix = Sparse {
            kind: SparseKind::Csr,
            shape: [3, 4],
            indptr: vec![0, 3, 3, 5],
            indices: vec![2, 0, 2, 3, 1],
            values: vec![1.0, 2.0, 4.0, 8.0, 16.0],
        };
        matrix.canonicalize();
        assert_eq!(matrix.indptr, [0, 2, 2, 4]);
        assert_eq!(matrix.indices, [0, 2, 1, 3]);
        assert_eq!(matrix.values, [2.0, 5.0, 16.0, 8.0]);
    }
}
