//! Groups of nodes become the nodes of the next level.

use super::network::Network;
use super::tally::Tally;

/// Numbers groups from zero on in the order of their first nodes; returns how many there are.
/// Names are below the number of nodes.
///
/// Memory: 4 bytes a node.
pub(super) fn renumber(group: &mut [u32]) -> usize {
    const NONE: u32 = u32::MAX;
    let mut number = vec![NONE; group.len()];
    let mut count = 0;
    for g in group {
        let known = &mut number[*g as usize];
        if *known == NONE {
            *known = count;
            count += 1;
        }
        *g = *known;
    }
    count as usize
}

/// The graph of groups: weights between them add up, and so do masses. Edges within a group are
/// left out, as they never decide where it goes.
///
/// Numerics: sums in the order of nodes and of their edges.
/// Memory: 4 bytes a node of the level, 16 a group, and the result, which has at most as many
/// edges as the level.
pub(super) fn aggregate(level: &Network, group: &[u32], n_groups: usize) -> Network<'static> {
    let mut first = vec![0_u32; n_groups + 1];
    let mut mass = vec![0.0; n_groups];
    for (&g, m) in group.iter().zip(&level.mass) {
        first[g as usize + 1] += 1;
        mass[g as usize] += m;
    }
    for g in 0..n_groups {
        first[g + 1] += first[g];
    }
    let mut members = vec![0_u32; group.len()];
    for (v, &g) in group.iter().enumerate() {
        members[first[g as usize] as usize] = v as u32;
        first[g as usize] += 1;
    }
    // Each begin has moved to the end of its group.
    let mut offsets = Vec::with_capacity(n_groups + 1);
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    let mut tally = Tally::new(n_groups);
    let mut begin = 0;
    offsets.push(0);
    for (g, &end) in first[..n_groups].iter().enumerate() {
        for &v in &members[begin as usize..end as usize] {
            for (u, w) in level.edges(v) {
                let other = group[u as usize];
                if other as usize != g {
                    tally.add(other, w);
                }
            }
        }
        for (other, weight) in tally.iter() {
            columns.push(other);
            values.push(weight);
        }
        tally.clear();
        offsets.push(columns.len() as u32);
        begin = end;
    }
    columns.shrink_to_fit();
    values.shrink_to_fit();
    level.above(offsets, columns, values, mass)
}

#[cfg(test)]
mod tests {
    use super::super::Objective;
    use super::*;

    #[test]
    fn numbers_follow_first_nodes() {
        let mut group = [4, 4, 1, 0, 1];
        assert_eq!(renumber(&mut group), 3);
        assert_eq!(group, [0, 0, 1, 2, 1]);
        assert_eq!(renumber(&mut []), 0);
    }

    #[test]
    fn weights_and_masses_add_up() {
        // A path 0 - 1 - 2 - 3 of weights 1, 2, 3 and an edge 0 - 3 of weight 4.
        let columns = [1, 3, 0, 2, 1, 3, 0, 2];
        let values = [1.0, 4.0, 1.0, 2.0, 2.0, 3.0, 4.0, 3.0];
        let offsets = [0, 2, 4, 6, 8];
        let mut level =
            Network::new(&offsets, &columns, &values, Objective::ConstantPotts).unwrap();
        assert_eq!(level.mass, [1.0; 4]);
        level.mass = vec![1.0, 2.0, 4.0, 8.0];
        let next = aggregate(&level, &[0, 0, 1, 2], 3);
        assert_eq!(next.mass, [3.0, 4.0, 8.0]);
        let edges = |v| {
            let mut edges: Vec<_> = next.edges(v).collect();
            edges.sort_by_key(|&(u, _)| u);
            edges
        };
        assert_eq!(edges(0), [(1, 2.0), (2, 4.0)]);
        assert_eq!(edges(1), [(0, 2.0), (2, 3.0)]);
        assert_eq!(edges(2), [(0, 4.0), (1, 3.0)]);
    }
}
