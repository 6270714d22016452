//! The counts of one sample, by themselves.
//!
//! Their own matrix has its own grid, which follows from the sample alone: results do not depend
//! on the file's layout nor on other samples. Memory: 12 bytes a stored value, twice that
//! while it is made, and 8 bytes a row.

use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::memory::SparseRows;
use crate::matrix::{RowBlock, Source};
use crate::pass::{self, Pass};
use crate::transform::View;

/// Some rows of a view, in an order of their own, columns sorted.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnRows {
    n_vars: usize,
    indptr: Vec<i32>,
    indices: Vec<i32>,
    values: Vec<f64>,
}

impl OwnRows {
    /// Takes the rows at these positions of a view.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past 2^31 stored values.
    pub fn take(source: &dyn Source, view: &View, rows: &[usize], ctx: &Ctx) -> Result<Self> {
        let mut wanted = vec![false; view.n_obs()];
        for &row in rows {
            wanted[row] = true;
        }
        let pass = TakePass { wanted };
        let taken = pass::run(source, view, ctx, "Counts of a sample", &pass)?;
        let n_values = taken.values.len();
        if i32::try_from(n_values).is_err() {
            return Err(Error::TooLarge {
                message: format!("a sample has {n_values} stored values, more than 2^31 - 1"),
            });
        }
        let mut place = vec![0..0; view.n_obs()];
        let mut start = 0;
        for (&row, &length) in taken.rows.iter().zip(&taken.lengths) {
            place[row] = start..start + length;
            start += length;
        }
        let mut own = OwnRows {
            n_vars: view.n_vars(),
            indptr: vec![0],
            indices: Vec::with_capacity(n_values),
            values: Vec::with_capacity(n_values),
        };
        let mut entries: Vec<(u32, f64)> = Vec::new();
        for &row in rows {
            let at = place[row].clone();
            let (columns, values) = (&taken.columns[at.clone()], &taken.values[at]);
            entries.clear();
            entries.extend(columns.iter().copied().zip(values.iter().copied()));
            entries.sort_by_key(|&(column, _)| column);
            own.indices.extend(entries.iter().map(|&(column, _)| column as i32));
            own.values.extend(entries.iter().map(|&(_, value)| value));
            own.indptr.push(own.values.len() as i32);
        }
        Ok(own)
    }

    /// The rows as a matrix.
    ///
    /// # Errors
    /// Never, for rows that were taken.
    pub fn source(&self) -> Result<SparseRows<'_>> {
        let n_obs = self.indptr.len() - 1;
        SparseRows::new(n_obs, self.n_vars, &self.indptr, &self.indices, &self.values)
    }
}

struct TakePass {
    wanted: Vec<bool>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Taken {
    rows: Vec<usize>,
    lengths: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl Pass for TakePass {
    type Partial = Taken;

    fn empty(&self) -> Taken {
        Taken::default()
    }

    fn fold(&self, block: &RowBlock, partial: &mut Taken) -> Result<()> {
        for (r, &row) in block.rows.iter().enumerate() {
            if !self.wanted[row] {
                continue;
            }
            let (columns, values) = block.row(r);
            let kept = columns.iter().zip(values).filter(|(_, value)| **value != 0.0);
            let before = partial.values.len();
            for (&column, &value) in kept {
                partial.columns.push(column);
                partial.values.push(value);
            }
            partial.rows.push(row);
            partial.lengths.push(partial.values.len() - before);
        }
        Ok(())
    }

    fn merge(&self, into: &mut Taken, mut from: Taken) {
        into.rows.append(&mut from.rows);
        into.lengths.append(&mut from.lengths);
        into.columns.append(&mut from.columns);
        into.values.append(&mut from.values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Silent;
    use crate::matrix::testing::Matrix;
    use crate::transform::Chain;

    #[test]
    fn rows_come_in_their_order_without_stored_zeros() {
        let matrix = Matrix::counts(40, 9, 3);
        let view = View::new(40, 9, None, &Chain::default()).unwrap();
        let ctx = Ctx::new(2, 1 << 30, std::env::temp_dir(), &Silent);
        let rows = [30, 2, 17, 39];
        let own = OwnRows::take(&matrix, &view, &rows, &ctx).unwrap();
        assert_eq!(own.source().unwrap().n_obs(), 4);
        for (i, &row) in rows.iter().enumerate() {
            let at = own.indptr[i] as usize..own.indptr[i + 1] as usize;
            let mut dense = vec![0.0; 9];
            for (&j, &x) in own.indices[at.clone()].iter().zip(&own.values[at.clone()]) {
                dense[j as usize] = x;
            }
            assert_eq!(dense, matrix.dense[row]);
            assert!(own.indices[at].is_sorted());
        }
        let none = OwnRows::take(&matrix, &view, &[], &ctx).unwrap();
        assert_eq!(none.source().unwrap().n_obs(), 0);
    }
}
