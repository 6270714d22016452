//! A weighted graph, the cells' or one of groups of them.
//!
//! That of the cells borrows the caller's matrix, those of groups own theirs. Loops and weights of
//! zero may be stored and are passed over: neither matters to where a node belongs.
//!
//! Memory: 8 bytes a node beside the matrix.

use std::borrow::Cow;

use super::Objective;
use crate::error::{Error, Result};

/// An undirected graph, each edge stored from both of its ends, and the mass of its nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Network<'a> {
    objective: Objective,
    offsets: Cow<'a, [u32]>,
    columns: Cow<'a, [u32]>,
    values: Cow<'a, [f64]>,
    /// What a node counts for in the size of its community.
    pub(super) mass: Vec<f64>,
}

impl<'a> Network<'a> {
    /// The graph of a symmetric matrix with ascending columns in each row, borrowed. The
    /// mass of a node is what `objective` makes it.
    ///
    /// Memory: 8 bytes a node, 4 of which for the time of the check.
    ///
    /// # Errors
    /// [`Error::InvalidGraph`] where values are not finite, negative, or differ between the
    /// two directions. An entry of zero is the same as none.
    ///
    /// # Panics
    /// If offsets, columns and values do not fit each other.
    pub fn new(
        offsets: &'a [u32],
        columns: &'a [u32],
        values: &'a [f64],
        objective: Objective,
    ) -> Result<Self> {
        check_graph(offsets, columns, values)?;
        let (offsets, columns, values) = (offsets.into(), columns.into(), values.into());
        Ok(Network { objective, offsets, columns, values, mass: Vec::new() }.weighed())
    }

    /// A graph of groups of this one's nodes.
    pub(super) fn above(
        &self,
        offsets: Vec<u32>,
        columns: Vec<u32>,
        values: Vec<f64>,
        mass: Vec<f64>,
    ) -> Network<'static> {
        let (offsets, columns, values) = (offsets.into(), columns.into(), values.into());
        Network { objective: self.objective, offsets, columns, values, mass }
    }

    fn weighed(mut self) -> Self {
        let nodes = 0..self.len() as u32;
        self.mass = match self.objective {
            Objective::Modularity => nodes.map(|v| self.edges(v).map(|(_, w)| w).sum()).collect(),
            Objective::ConstantPotts => vec![1.0; nodes.len()],
        };
        self
    }

    /// How much the product of two masses counts against the weight between them.
    pub(super) fn gamma(&self, resolution: f64) -> f64 {
        match self.objective {
            Objective::Modularity => {
                let total: f64 = self.mass.iter().sum();
                // Without edges nothing is weighed against anything.
                if total > 0.0 { resolution / total } else { 0.0 }
            }
            Objective::ConstantPotts => resolution,
        }
    }

    /// The graph of some nodes, which ascend, and the edges between them.
    ///
    /// Memory: that of the part, and 4 bytes for each node of the whole.
    ///
    /// # Panics
    /// If a node is out of range.
    #[must_use]
    pub fn part(&self, nodes: &[u32]) -> Network<'static> {
        const ABSENT: u32 = u32::MAX;
        let mut place = vec![ABSENT; self.len()];
        for (at, &v) in nodes.iter().enumerate() {
            place[v as usize] = at as u32;
        }
        let mut offsets = Vec::with_capacity(nodes.len() + 1);
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        offsets.push(0);
        for &v in nodes {
            for (u, w) in self.edges(v) {
                if place[u as usize] != ABSENT {
                    columns.push(place[u as usize]);
                    values.push(w);
                }
            }
            offsets.push(columns.len() as u32);
        }
        self.above(offsets, columns, values, Vec::new()).weighed()
    }

    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Neighbours of a node and weights, in the order in which they are stored.
    #[inline]
    pub(super) fn edges(&self, v: u32) -> impl Iterator<Item = (u32, f64)> {
        let range = self.offsets[v as usize] as usize..self.offsets[v as usize + 1] as usize;
        let all = self.columns[range.clone()].iter().zip(&self.values[range]);
        all.map(|(&u, &w)| (u, w)).filter(move |&(u, w)| u != v && w > 0.0)
    }
}

/// Whether a matrix is one of weights that are the same both ways, in one sweep.
///
/// Row after row, the entries of a column come in the order of rows. So the partner of each
/// entry is the next one of its own row that has not been met yet.
///
/// Memory: 4 bytes a node.
///
/// # Errors
/// [`Error::InvalidGraph`], as [`Network::new`].
///
/// # Panics
/// If offsets, columns and values do not fit each other.
pub fn check_graph(offsets: &[u32], columns: &[u32], values: &[f64]) -> Result<()> {
    let n = offsets.len().saturating_sub(1);
    let n_edges = offsets.last().map_or(0, |&last| last as usize);
    assert!(n_edges == columns.len() && n_edges == values.len(), "not a matrix");
    let name = |i: usize, j: usize| format!("of cells {} and {}", i + 1, j + 1);
    let mut next = offsets[..n].to_vec();
    for i in 0..n {
        for at in offsets[i] as usize..offsets[i + 1] as usize {
            let (j, value) = (columns[at] as usize, values[at]);
            if !value.is_finite() {
                let message = format!("the connectivity {} is no finite number", name(i, j));
                return Err(Error::InvalidGraph { message });
            }
            if value < 0.0 {
                let message = format!("the connectivity {} is negative, {value}", name(i, j));
                return Err(Error::InvalidGraph { message });
            }
            if value == 0.0 {
                continue;
            }
            let end = offsets[j + 1];
            while next[j] < end && values[next[j] as usize] == 0.0 {
                next[j] += 1;
            }
            let partner = next[j] as usize;
            let same = next[j] < end && columns[partner] as usize == i && values[partner] == value;
            if !same {
                let message = format!(
                    "the connectivities are not symmetric: those {} differ from one direction to \
                     the other",
                    if next[j] < end && (columns[partner] as usize) < i {
                        name(j, columns[partner] as usize)
                    } else {
                        name(i, j)
                    }
                );
                return Err(Error::InvalidGraph { message });
            }
            next[j] += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network<'a>(p: &'a [u32], i: &'a [u32], x: &'a [f64]) -> Result<Network<'a>> {
        Network::new(p, i, x, Objective::Modularity)
    }

    fn verdict(offsets: &[u32], columns: &[u32], values: &[f64]) -> Option<String> {
        network(offsets, columns, values).err().map(|error| error.to_string())
    }

    #[test]
    fn symmetric_weights_pass_with_zeros_and_loops() {
        // 0 - 1 of weight 2, a loop at 1, a zero from 2 to 0 without a partner.
        let graph = network(&[0, 1, 3, 4], &[1, 0, 1, 0], &[2.0, 2.0, 5.0, 0.0]).unwrap();
        assert_eq!(graph.edges(1).collect::<Vec<_>>(), [(0, 2.0)]);
        assert_eq!(graph.edges(2).count(), 0);
        assert_eq!(graph.mass, [2.0, 2.0, 0.0]);
        assert!(network(&[0], &[], &[]).unwrap().is_empty());
        assert!(network(&[0, 0, 0], &[], &[]).is_ok());
    }

    #[test]
    fn other_matrices_are_refused_and_the_pair_is_named() {
        let offsets = [0, 1, 2, 2];
        assert_eq!(verdict(&offsets, &[1, 0], &[1.0, 1.0]), None);
        for bad in [f64::NAN, f64::INFINITY] {
            let text = verdict(&offsets, &[1, 0], &[1.0, bad]).unwrap();
            assert!(text.contains("no finite number") || text.contains("symmetric"), "{text}");
        }
        let negative = verdict(&offsets, &[1, 0], &[-1.0, -1.0]).unwrap();
        assert_eq!(negative, "the connectivity of cells 1 and 2 is negative, -1");
        for (columns, values) in [([1, 0], [1.0, 2.0]), ([1, 2], [1.0, 1.0]), ([2, 0], [1.0, 1.0])]
        {
            assert!(verdict(&offsets, &columns, &values).unwrap().contains("not symmetric"));
        }
        // Only below the diagonal, and only above it.
        let below = verdict(&[0, 0, 1, 1], &[0], &[1.0]).unwrap();
        assert!(below.contains("cells 2 and 1"), "{below}");
        let above = verdict(&[0, 1, 1, 1], &[2], &[1.0]).unwrap();
        assert!(above.contains("cells 1 and 3"), "{above}");
    }

    /// Against the comparison of dense matrices, all patterns of three nodes.
    #[test]
    fn the_sweep_agrees_with_a_dense_comparison() {
        for code in 0..3_usize.pow(9) {
            let dense: Vec<f64> = (0..9).map(|e| (code / 3_usize.pow(e) % 3) as f64).collect();
            for keep_zeros in [false, true] {
                let (mut offsets, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
                for i in 0..3 {
                    for j in 0..3 {
                        if keep_zeros || dense[3 * i + j] != 0.0 {
                            columns.push(j as u32);
                            values.push(dense[3 * i + j]);
                        }
                    }
                    offsets.push(columns.len() as u32);
                }
                let symmetric = (0..9).all(|e| dense[e] == dense[3 * (e % 3) + e / 3]);
                assert_eq!(verdict(&offsets, &columns, &values).is_none(), symmetric, "{dense:?}");
            }
        }
    }

    #[test]
    fn a_part_has_the_edges_between_its_nodes() {
        // A path 0 - 1 - 2 - 3.
        let columns = [1, 0, 2, 1, 3, 2];
        let path = network(&[0, 1, 3, 5, 6], &columns, &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0]).unwrap();
        let part = path.part(&[1, 2]);
        assert_eq!(part.mass, [2.0, 2.0]);
        assert_eq!(path.part(&[0, 2, 3]).mass, [0.0, 3.0, 3.0]);
        assert!(path.part(&[]).is_empty());
    }
}
