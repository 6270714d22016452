//! The graph that a layout follows, compact: 8 bytes an edge.

use std::sync::{Mutex, PoisonError};

use super::super::connectivities::memberships_of;
use crate::ctx::Ctx;
use crate::error::Result;

/// Cells of one task.
const TILE: usize = 1024;

/// A weight of one.
pub(super) const ONE: u32 = 1 << 31;

/// Whether an edge is looked at in an epoch, counted from one, by its weight in units of 2^-31.
///
/// An edge of weight w is looked at in `floor(e w)` of the first e epochs: umap-learn's
/// schedule, without a state. Epoch e is due where the fraction of `e w` is below w.
#[inline]
pub(super) fn is_due(weight: u32, epoch: usize) -> bool {
    (epoch as u32).wrapping_mul(weight) & (ONE - 1) < weight
}

/// The least weight that is looked at in some epoch.
pub(super) fn least_weight(n_epochs: usize) -> u32 {
    (f64::from(ONE) / n_epochs.max(1) as f64).ceil() as u32
}

/// The neighbours of each cell, by position, and a number for each.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    k: usize,
    index: Vec<u32>,
    /// Distances, which [`Table::into_memberships`] replaces.
    value: Vec<f32>,
}

impl Table {
    /// The table of a matrix of distances that is stored by columns, as R does: row i of
    /// the matrix has the neighbours of cell i. `None` where rows have different
    /// numbers of entries.
    ///
    /// Memory: `8 n k` bytes.
    ///
    /// # Panics
    /// If a row is out of range, or offsets, rows and values do not fit.
    #[must_use]
    pub fn from_columns(offsets: &[usize], rows: &[u32], distances: &[f64]) -> Option<Self> {
        let n = offsets.len().saturating_sub(1);
        assert_eq!(rows.len(), distances.len(), "not one distance for each neighbour");
        let k = rows.len().checked_div(n).unwrap_or(0);
        let mut seen = vec![0_u32; n];
        let mut index = vec![0; n * k];
        let mut value = vec![0.0; n * k];
        for j in 0..n {
            for at in offsets[j]..offsets[j + 1] {
                let i = rows[at] as usize;
                let place = seen[i] as usize;
                if place == k {
                    return None;
                }
                index[i * k + place] = j as u32;
                value[i * k + place] = distances[at] as f32;
                seen[i] += 1;
            }
        }
        seen.iter().all(|&count| count as usize == k).then_some(Table { k, index, value })
    }

    /// Number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len().checked_div(self.k).unwrap_or(0)
    }

    /// Whether there are no neighbours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Distances become memberships, in place.
    fn into_memberships(mut self, ctx: &Ctx) -> Result<Self> {
        let total: f64 = self.value.iter().map(|&d| f64::from(d)).sum();
        let overall = total / ((self.k + 1) * self.len()).max(1) as f64;
        let k = self.k.max(1);
        let tiles: Vec<_> = self.value.chunks_mut(TILE * k).map(Mutex::new).collect();
        ctx.parallel(
            "Memberships",
            tiles.len(),
            || (vec![0.0; k], vec![0.0; k]),
            |tile, (distances, memberships)| {
                let mut values = tiles[tile].lock().unwrap_or_else(PoisonError::into_inner);
                for row in values.chunks_mut(k) {
                    for (to, &from) in distances.iter_mut().zip(row.iter()) {
                        *to = f64::from(from);
                    }
                    memberships_of(distances, overall, memberships);
                    for (to, &from) in row.iter_mut().zip(memberships.iter()) {
                        *to = from as f32;
                    }
                }
                Ok(())
            },
        )?;
        drop(tiles);
        Ok(self)
    }

    fn row(&self, i: usize) -> impl Iterator<Item = (u32, f32)> {
        let range = i * self.k..(i + 1) * self.k;
        self.index[range.clone()].iter().copied().zip(self.value[range].iter().copied())
    }

    /// The value of `j` among the neighbours of `i`.
    fn value(&self, i: usize, j: usize) -> Option<f32> {
        let found = self.index[i * self.k..(i + 1) * self.k].binary_search(&(j as u32));
        found.ok().map(|at| self.value[i * self.k + at])
    }
}

/// Two cells that attract each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Edge {
    /// Both.
    pub ends: [u32; 2],
    /// In units of 2^-31.
    weight: u32,
}

impl Edge {
    /// As the function of this name.
    #[inline]
    pub fn is_due(self, epoch: usize) -> bool {
        is_due(self.weight, epoch)
    }
}

/// A graph of fuzzy memberships. Cells fall into blocks by their position, and the edges
/// between two blocks lie together, in the order of cells.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fuzzy {
    n: usize,
    n_blocks: usize,
    /// Where the edges of each pair of blocks begin, all pairs `(p, q)` with `p <= q`.
    offsets: Vec<usize>,
    edges: Vec<Edge>,
}

impl Fuzzy {
    /// The fuzzy union of both directions, `a + b - a b`, without edges below
    /// `1 / n_epochs` of the strongest, which would never be looked at.
    ///
    /// The strongest is one: a cell is fully a member of its nearest neighbour's
    /// surroundings. The table is let go on the way.
    ///
    /// Memory: at most `20 n k` bytes with the table.
    pub fn new(table: Table, n_epochs: usize, n_blocks: usize, ctx: &Ctx) -> Result<Self> {
        let table = table.into_memberships(ctx)?;
        let n = table.len();
        let least = least_weight(n_epochs);
        let n_pairs = n_blocks * (n_blocks + 1) / 2;
        let mut offsets = vec![0; n_pairs + 1];
        let pair = |edge: Edge| {
            let [a, b] = edge.ends.map(|cell| cell as usize % n_blocks);
            pair_index(a.min(b), a.max(b), n_blocks)
        };
        for_edges(&table, least, |edge| offsets[pair(edge) + 1] += 1);
        for at in 0..n_pairs {
            offsets[at + 1] += offsets[at];
        }
        let mut edges = vec![Edge::default(); offsets[n_pairs]];
        for_edges(&table, least, |edge| {
            let next = &mut offsets[pair(edge)];
            edges[*next] = edge;
            *next += 1;
        });
        // Each offset is now where the next pair begins.
        offsets.rotate_right(1);
        offsets[0] = 0;
        Ok(Fuzzy { n, n_blocks, offsets, edges })
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Number of blocks.
    pub fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// The edges between two blocks, or within one.
    pub fn between(&self, p: usize, q: usize) -> &[Edge] {
        let at = pair_index(p.min(q), p.max(q), self.n_blocks);
        &self.edges[self.offsets[at]..self.offsets[at + 1]]
    }
}

/// Pairs of `n` with `p <= q`, in the order of `p`, then `q`.
fn pair_index(p: usize, q: usize, n: usize) -> usize {
    p * (2 * n - p + 1) / 2 + q - p
}

/// Calls `take` for every edge once.
fn for_edges(table: &Table, least: u32, mut take: impl FnMut(Edge)) {
    for i in 0..table.len() {
        for (j, there) in table.row(i) {
            let back = table.value(j as usize, i);
            let weight = union(there, back.unwrap_or(0.0));
            if weight >= least && (back.is_none() || i < j as usize) {
                take(Edge { ends: [i as u32, j], weight });
            }
        }
    }
}

/// The same whichever comes first, and one where either is.
fn union(a: f32, b: f32) -> u32 {
    let (low, high) = (f64::from(a.min(b)), f64::from(a.max(b)));
    ((high + low * (1.0 - high)) * f64::from(ONE)).round() as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::super::super::connectivities::{Kernel, connectivities};
    use super::super::super::knn::exact_neighbors;
    use super::super::super::points::{Metric, Points};
    use super::*;
    use crate::ctx::Silent;
    use crate::stats::random::Rng;

    fn ctx(threads: usize) -> Ctx<'static> {
        Ctx::new(threads, 1 << 30, PathBuf::new(), &Silent)
    }

    #[test]
    fn edges_are_those_of_the_connectivities() {
        let (n, k) = (3000, 7);
        let mut rng = Rng::new(5, 0);
        let columns: Vec<f64> = (0..2 * n).map(|_| rng.uniform()).collect();
        let points = Points::from_columns(&columns, n, Metric::Euclidean).unwrap();
        let neighbors = exact_neighbors(&points, k, &ctx(2)).unwrap();
        let stored = neighbors.distances().transposed();
        let table = Table::from_columns(&stored.offsets, &stored.columns, &stored.values).unwrap();
        let wanted = connectivities(&neighbors, Kernel::Umap, &ctx(1)).unwrap();
        let (n_epochs, n_blocks) = (50, 6);
        let graph = Fuzzy::new(table.clone(), n_epochs, n_blocks, &ctx(2)).unwrap();
        assert_eq!(graph, Fuzzy::new(table, n_epochs, n_blocks, &ctx(1)).unwrap());
        assert_eq!(graph.len(), n);
        let mut found = BTreeMap::new();
        for p in 0..n_blocks {
            for q in p..n_blocks {
                for edge in graph.between(q, p) {
                    let [i, j] = edge.ends;
                    let blocks = [i as usize % n_blocks, j as usize % n_blocks];
                    assert!(blocks == [p, q] || blocks == [q, p], "{edge:?}");
                    let weight = f64::from(edge.weight) / f64::from(ONE);
                    assert_eq!(found.insert((i.min(j), i.max(j)), weight), None, "{edge:?}");
                }
            }
        }
        let n_found = found.len();
        let mut n_wanted = 0;
        for i in 0..n {
            let (columns, values) = wanted.row(i);
            let upper = columns.iter().zip(values).filter(|&(&j, _)| i < j as usize);
            for (&j, &value) in upper {
                // Memberships are float32, and so are their sums of distances.
                match found.remove(&(i as u32, j)) {
                    Some(weight) => assert!((weight - value).abs() < 1e-6, "{i} {j}"),
                    None => assert!(value < 1.0 / n_epochs as f64 + 1e-6, "{i} {j}: {value}"),
                }
                n_wanted += 1;
            }
        }
        assert!(found.is_empty());
        assert!(n_found < n_wanted);
    }

    #[test]
    fn the_schedule_is_that_of_umap_learn() {
        // Its loop: the next sample of an edge comes 1 / w epochs after the last. It adds them
        // up; multiplied they don't drift.
        for share in [1.0, 0.75, 0.5, 0.3, 0.02, 1.0 / 3.0 + 1e-7] {
            let weight = (share * f64::from(ONE)).round() as u32;
            let edge = Edge { ends: [0, 1], weight };
            let every = f64::from(ONE) / f64::from(weight);
            let mut samples = 0;
            for epoch in 1..500 {
                let due = f64::from(samples + 1) * every <= f64::from(epoch) + 1e-12;
                assert_eq!(edge.is_due(epoch as usize), due, "{share} {epoch}");
                samples += i32::from(due);
            }
        }
    }

    #[test]
    fn tables_must_be_complete() {
        // Two cells, each the other's neighbour.
        let table = Table::from_columns(&[0, 1, 2], &[1, 0], &[0.5, 0.5]).unwrap();
        assert_eq!((table.len(), table.is_empty()), (2, false));
        // The first cell has both.
        assert!(Table::from_columns(&[0, 1, 2], &[0, 0], &[0.5, 0.5]).is_none());
        assert!(Table::from_columns(&[0, 1, 1], &[1], &[0.5]).is_none());
        assert!(Table::from_columns(&[0], &[], &[]).unwrap().is_empty());
    }

    #[test]
    fn the_union_is_one_where_a_membership_is() {
        assert_eq!(union(1.0, 0.3), ONE);
        assert_eq!(union(0.3, 1.0), ONE);
        assert_eq!(union(0.0, 0.5), ONE / 2);
        assert_eq!(union(0.2, 0.7), union(0.7, 0.2));
    }
}
