//! How good communities are.

use super::network::Network;

/// Twice the quality that moves raise: the weight within communities, both directions,
/// less `gamma` times the squares of their masses.
///
/// Numerics: sums in the order of nodes. Memory: 8 bytes a node.
pub(super) fn twice_quality(level: &Network, of: &[u32], gamma: f64) -> f64 {
    let mut mass = vec![0.0; level.len()];
    for (&c, m) in of.iter().zip(&level.mass) {
        mass[c as usize] += m;
    }
    weight_within(level, of) - gamma * mass.iter().map(|m| m * m).sum::<f64>()
}

/// The weighted modularity of communities at resolution one, whatever the graph's objective;
/// NaN without edges.
///
/// Memory: 8 bytes a node.
///
/// # Panics
/// If there is not one community, below the number of nodes, for each node.
#[must_use]
pub fn modularity(level: &Network, of: &[u32]) -> f64 {
    assert_eq!(of.len(), level.len(), "not one community for each node");
    let mut strength = vec![0.0; level.len()];
    let mut total = 0.0;
    for v in 0..level.len() as u32 {
        let own: f64 = level.edges(v).map(|(_, w)| w).sum();
        strength[of[v as usize] as usize] += own;
        total += own;
    }
    let squares: f64 = strength.iter().map(|s| (s / total).powi(2)).sum();
    weight_within(level, of) / total - squares
}

fn weight_within(level: &Network, of: &[u32]) -> f64 {
    let within = |v: u32| {
        let own = of[v as usize];
        level.edges(v).filter(|&(u, _)| of[u as usize] == own).map(|(_, w)| w).sum::<f64>()
    };
    (0..level.len() as u32).map(within).sum()
}
