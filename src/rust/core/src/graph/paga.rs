//! Partition-based graph abstraction (Wolf et al. 2019), model 1.2.

use super::sparse::Sparse;

/// How strongly groups of cells are connected.
#[derive(Debug, Clone, PartialEq)]
pub struct Paga {
    /// Groups x groups, symmetric: the edges between two groups over those
    /// expected if edges were thrown at random, at most one.
    pub connectivities: Vec<f64>,
    /// The same on the edges of the spanning tree of strongest connections, zero
    /// elsewhere.
    pub tree: Vec<f64>,
    /// Number of cells of each group.
    pub sizes: Vec<usize>,
}

/// Connectivities of the groups of cells in a graph of nearest neighbours.
///
/// Each entry of `graph` is an edge of weight one from its row to its column; cells
/// without a group, `None`, and their edges count nowhere.
///
/// # Panics
/// If a group is not below `n_groups`, or there is not one for each cell.
#[must_use]
pub fn paga(graph: &Sparse, groups: &[Option<u32>], n_groups: usize) -> Paga {
    assert_eq!(groups.len(), graph.len(), "not one group for each cell");
    let mut sizes = vec![0_usize; n_groups];
    let mut edges = vec![0_u64; n_groups * n_groups];
    for (i, group) in groups.iter().enumerate() {
        let Some(a) = *group else { continue };
        sizes[a as usize] += 1;
        for &j in graph.row(i).0 {
            if let Some(b) = groups[j as usize] {
                edges[a as usize * n_groups + b as usize] += 1;
            }
        }
    }
    let n: usize = sizes.iter().sum();
    let leaving: Vec<f64> =
        edges.chunks(n_groups.max(1)).map(|row| row.iter().sum::<u64>() as f64).collect();
    let mut connectivities = vec![0.0; n_groups * n_groups];
    for i in 0..n_groups {
        for j in (0..n_groups).filter(|&j| j != i) {
            let between = (edges[i * n_groups + j] + edges[j * n_groups + i]) as f64;
            if between > 0.0 {
                let expected = (leaving[i] * sizes[j] as f64 + leaving[j] * sizes[i] as f64)
                    / (n as f64 - 1.0);
                connectivities[i * n_groups + j] = (between / expected).min(1.0);
            }
        }
    }
    let tree = strongest_tree(&connectivities, n_groups);
    Paga { connectivities, tree, sizes }
}

/// The spanning forest of largest weights by Kruskal's algorithm; of equal weights
/// the pair of lower indices comes first.
fn strongest_tree(weights: &[f64], n: usize) -> Vec<f64> {
    let mut edges: Vec<(usize, usize)> = (0..n)
        .flat_map(|i| (i + 1..n).map(move |j| (i, j)))
        .filter(|&(i, j)| weights[i * n + j] > 0.0)
        .collect();
    edges.sort_by(|&(a, b), &(c, d)| weights[c * n + d].total_cmp(&weights[a * n + b]));
    let mut tree_of: Vec<usize> = (0..n).collect();
    let mut tree = vec![0.0; n * n];
    for (i, j) in edges {
        let (a, b) = (tree_of[i], tree_of[j]);
        if a != b {
            tree[i * n + j] = weights[i * n + j];
            tree[j * n + i] = weights[i * n + j];
            tree_of.iter_mut().filter(|t| **t == b).for_each(|t| *t = a);
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six cells in a ring, each with its next two as neighbours; groups 0, 0, 1, 1,
    /// 2 and none.
    #[test]
    fn edges_between_groups_are_compared_with_chance() {
        let graph = Sparse {
            offsets: (0..=6).map(|i| 2 * i).collect(),
            columns: vec![1, 2, 2, 3, 3, 4, 4, 5, 0, 5, 0, 1],
            values: vec![1.0; 12],
        };
        let groups = [Some(0), Some(0), Some(1), Some(1), Some(2), None];
        let found = paga(&graph, &groups, 3);
        assert_eq!(found.sizes, [2, 2, 1]);
        // Leaving: group 0 has 4, group 1 has 3 (one goes to no group), group 2 has 1.
        let expected_01 = (4.0 * 2.0 + 3.0 * 2.0) / 4.0;
        let expected_02 = (4.0 * 1.0 + 1.0 * 2.0) / 4.0;
        let expected_12 = (3.0 * 1.0 + 1.0 * 2.0) / 4.0;
        let (c01, c02, c12) = (3.0 / expected_01, 1.0 / expected_02, 1.0_f64);
        assert!(2.0 / expected_12 > 1.0);
        assert_eq!(found.connectivities, [0.0, c01, c02, c01, 0.0, c12, c02, c12, 0.0]);
        assert_eq!(found.tree, [0.0, c01, 0.0, c01, 0.0, c12, 0.0, c12, 0.0]);
    }

    #[test]
    fn groups_that_are_apart_have_a_forest() {
        let graph = Sparse { offsets: vec![0, 1, 2, 2], columns: vec![1, 0], values: vec![1.0; 2] };
        let found = paga(&graph, &[Some(0), Some(1), Some(2)], 3);
        assert_eq!(found.tree.iter().filter(|&&x| x > 0.0).count(), 2);
        assert_eq!(found.connectivities[2], 0.0);
    }
}
