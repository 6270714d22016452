//! Both directions of a graph of neighbours joined, part by part where it is to be.
//!
//! Problem: distances and connectivities of n cells with k neighbours take about 30 n k
//! bytes, and other forms of them on the way would take as much again. Solution: distances
//! are written by columns, which are the cells that have a cell as their neighbour; with the
//! positions of each cell's own neighbours these give the pattern of the union; and each weight
//! follows from the two distances, which are looked up.

use std::sync::{Mutex, PoisonError};

use super::connectivities::Local;
use super::neighbors::Neighbors;
use super::sparse::Sparse;
use crate::ctx::Ctx;
use crate::error::Result;

/// Cells of one task.
const TILE: usize = 1024;

/// Positions of the neighbours of each cell, ascending.
pub struct Positions {
    k: usize,
    index: Vec<u32>,
}

impl Positions {
    /// Those of a table, whose distances are let go.
    #[must_use]
    pub fn of(table: Neighbors) -> Self {
        let Neighbors { k, mut index, distance } = table;
        drop(distance);
        index.chunks_mut(k.max(1)).for_each(<[u32]>::sort_unstable);
        Positions { k, index }
    }

    fn row(&self, i: usize) -> &[u32] {
        &self.index[i * self.k..(i + 1) * self.k]
    }
}

/// Distances by columns: column j has, in ascending order, the cells whose neighbour cell j is.
#[derive(Clone, Copy)]
pub struct ByNeighbor<'a> {
    /// The entries of column j are `offsets[j]..offsets[j + 1]`.
    pub offsets: &'a [usize],
    /// Cell of each entry.
    pub cells: &'a [i32],
    /// Distance of each entry.
    pub distances: &'a [f64],
}

impl ByNeighbor<'_> {
    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn column(&self, j: usize) -> (&[i32], &[f64]) {
        let range = self.offsets[j]..self.offsets[j + 1];
        (&self.cells[range.clone()], &self.distances[range])
    }

    /// How far the neighbour `j` is from cell `i`, if it is one.
    fn distance(&self, i: usize, j: usize) -> Option<f64> {
        let (cells, distances) = self.column(j);
        cells.binary_search(&(i as i32)).ok().map(|at| distances[at])
    }

    /// Where the rows of the union begin.
    #[must_use]
    pub fn union_offsets(&self, own: &Positions) -> Vec<usize> {
        let mut offsets = Vec::with_capacity(self.len() + 1);
        offsets.push(0);
        let mut end = 0;
        for i in 0..self.len() {
            join(own.row(i), self.column(i).0, |_| end += 1);
            offsets.push(end);
        }
        offsets
    }

    /// Writes the columns of the union, row by row in ascending order.
    ///
    /// # Panics
    /// If `columns` is not as long as the offsets say.
    pub fn union_columns(&self, own: &Positions, columns: &mut [i32]) {
        let mut out = columns.iter_mut();
        for i in 0..self.len() {
            join(own.row(i), self.column(i).0, |j| {
                *out.next().expect("room for the union") = j;
            });
        }
        assert!(out.next().is_none(), "too much room for the union");
    }

    /// Writes the weight of each entry of the union. A weight of zero is written too.
    ///
    /// # Errors
    /// When `ctx` stops.
    pub fn union_weights(
        &self,
        local: &Local,
        offsets: &[usize],
        columns: &[i32],
        weights: &mut [f64],
        ctx: &Ctx,
    ) -> Result<()> {
        let n = self.len();
        let mut tiles = Vec::with_capacity(n.div_ceil(TILE));
        let mut left = weights;
        for begin in (0..n).step_by(TILE) {
            let end = (begin + TILE).min(n);
            let (tile, rest) = left.split_at_mut(offsets[end] - offsets[begin]);
            tiles.push(Mutex::new(tile));
            left = rest;
        }
        ctx.parallel(
            "Connectivities",
            tiles.len(),
            || (),
            |tile, ()| {
                let mut weights = tiles[tile].lock().unwrap_or_else(PoisonError::into_inner);
                let begin = tile * TILE;
                let first = offsets[begin];
                for i in begin..(begin + TILE).min(n) {
                    for at in offsets[i]..offsets[i + 1] {
                        let j = columns[at] as usize;
                        weights[at - first] =
                            local.weight(i, j, self.distance(i, j), self.distance(j, i));
                    }
                }
                Ok(())
            },
        )
    }
}

/// The ascending union of two ascending lists.
fn join(own: &[u32], others: &[i32], mut take: impl FnMut(i32)) {
    let (mut a, mut b) = (own.iter().map(|&j| j as i32).peekable(), others.iter().peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(&x), Some(&&y)) => x.min(y),
            (Some(&x), None) => x,
            (None, Some(&&y)) => y,
            (None, None) => return,
        };
        a.next_if_eq(&next);
        b.next_if(|&&y| y == next);
        take(next);
    }
}

/// The union of a table's two directions as one matrix, without entries of zero.
///
/// # Errors
/// When `ctx` stops.
pub(super) fn union(table: &Neighbors, local: &Local, ctx: &Ctx) -> Result<Sparse> {
    let by_neighbor = table.offsets_by_neighbor();
    let mut cells = vec![0; table.index.len()];
    let mut distances = vec![0.0; table.index.len()];
    table.write_by_neighbor(&by_neighbor, &mut cells, &mut distances);
    let by_neighbor = ByNeighbor { offsets: &by_neighbor, cells: &cells, distances: &distances };
    let own = Positions::of(table.clone());
    let offsets = by_neighbor.union_offsets(&own);
    let mut columns = vec![0; offsets[offsets.len() - 1]];
    by_neighbor.union_columns(&own, &mut columns);
    let mut values = vec![0.0; columns.len()];
    by_neighbor.union_weights(local, &offsets, &columns, &mut values, ctx)?;
    Ok(without_zeros(&offsets, &columns, &values))
}

/// A matrix of these rows without its entries of zero.
#[must_use]
pub fn without_zeros(offsets: &[usize], columns: &[i32], values: &[f64]) -> Sparse {
    let mut kept = Sparse { offsets: vec![0], ..Sparse::default() };
    for row in offsets.windows(2) {
        for at in row[0]..row[1] {
            if values[at] != 0.0 {
                kept.columns.push(columns[at] as u32);
                kept.values.push(values[at]);
            }
        }
        kept.offsets.push(kept.columns.len());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_joined_in_order() {
        let joined = |a: &[u32], b: &[i32]| {
            let mut all = Vec::new();
            join(a, b, |j| all.push(j));
            all
        };
        assert_eq!(joined(&[1, 4, 9], &[0, 4, 5]), [0, 1, 4, 5, 9]);
        assert_eq!(joined(&[], &[2, 3]), [2, 3]);
        assert_eq!(joined(&[7], &[]), [7]);
        assert!(joined(&[], &[]).is_empty());
    }

    #[test]
    fn zeros_are_left_out() {
        let kept = without_zeros(&[0, 2, 2, 3], &[0, 2, 1], &[1.0, 0.0, 0.5]);
        assert_eq!(kept.offsets, [0, 1, 1, 2]);
        assert_eq!((kept.row(0), kept.row(2)), ((&[0][..], &[1.0][..]), (&[1][..], &[0.5][..])));
    }
}
