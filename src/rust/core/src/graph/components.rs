//! Connected components.

use super::sparse::Sparse;

/// The component of each cell, numbered from zero in the order of their first
/// cells. An entry joins two cells whichever of them has it; its value is not
/// looked at.
#[must_use]
pub fn components(graph: &Sparse) -> Vec<u32> {
    components_of(&graph.offsets, &graph.columns)
}

/// As [`components`], for a graph whose values are elsewhere.
///
/// Memory: 8 bytes a cell.
#[must_use]
pub fn components_of(offsets: &[usize], columns: &[u32]) -> Vec<u32> {
    let n = offsets.len().saturating_sub(1);
    let mut parent: Vec<u32> = (0..n as u32).collect();
    for i in 0..n {
        for &j in &columns[offsets[i]..offsets[i + 1]] {
            let (a, b) = (root(&mut parent, i as u32), root(&mut parent, j));
            // The smaller root stays, so that a root is its component's first cell.
            let (low, high) = (a.min(b), a.max(b));
            parent[high as usize] = low;
        }
    }
    let mut label = vec![0; n];
    let mut count = 0;
    for i in 0..n {
        let first = root(&mut parent, i as u32) as usize;
        label[i] = if first == i {
            count += 1;
            count - 1
        } else {
            label[first]
        };
    }
    label
}

/// The root of a cell's tree; halves the paths it walks.
fn root(parent: &mut [u32], cell: u32) -> u32 {
    let mut at = cell;
    while parent[at as usize] != at {
        let above = parent[at as usize];
        parent[at as usize] = parent[above as usize];
        at = above;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_numbered_by_their_first_cells() {
        // 0 - 3, 1 alone, 2 - 4 - 5, each edge stored once.
        let graph = Sparse {
            offsets: vec![0, 0, 0, 1, 2, 2, 3],
            columns: vec![4, 0, 4],
            values: vec![1.0, 1.0, 0.0],
        };
        assert_eq!(components(&graph), [0, 1, 2, 0, 2, 2]);
        assert_eq!(components(&Sparse { offsets: vec![0], ..Sparse::default() }), []);
    }

    #[test]
    fn a_long_chain_is_one_component() {
        let n = 10_000;
        let graph = Sparse {
            offsets: (0..=n).map(|i| i.min(n - 1)).collect(),
            columns: (1..n as u32).collect(),
            values: vec![1.0; n - 1],
        };
        assert!(components(&graph).iter().all(|&c| c == 0));
    }
}
