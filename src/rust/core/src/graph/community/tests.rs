//! Communities against brute force, and what they promise.

use std::path::PathBuf;

use super::*;
use crate::ctx::{Monitor, Silent};
use crate::error::Error;

fn ctx() -> Ctx<'static> {
    Ctx::new(1, 1 << 30, PathBuf::new(), &Silent)
}

const OBJECTIVES: [Objective; 2] = [Objective::Modularity, Objective::ConstantPotts];

const LEIDEN: Method = Method::Leiden { n_iterations: Some(2), beta: 0.01 };

const STABLE: Method = Method::Leiden { n_iterations: None, beta: 0.01 };

/// A symmetric matrix in parts.
struct Matrix {
    offsets: Vec<u32>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl Matrix {
    fn from_dense(dense: &[Vec<f64>]) -> Self {
        let mut matrix = Matrix { offsets: vec![0], columns: Vec::new(), values: Vec::new() };
        for row in dense {
            for (j, &x) in row.iter().enumerate().filter(|&(_, &x)| x != 0.0) {
                matrix.columns.push(j as u32);
                matrix.values.push(x);
            }
            matrix.offsets.push(matrix.columns.len() as u32);
        }
        matrix
    }

    fn network(&self, objective: Objective) -> Network<'_> {
        Network::new(&self.offsets, &self.columns, &self.values, objective).unwrap()
    }
}

/// A symmetric matrix without a diagonal.
fn symmetric(n: usize, mut weight: impl FnMut(usize, usize) -> f64) -> Vec<Vec<f64>> {
    let mut dense = vec![vec![0.0; n]; n];
    for (i, j) in (0..n).flat_map(|i| (0..i).map(move |j| (i, j))) {
        dense[i][j] = weight(i, j);
        dense[j][i] = dense[i][j];
    }
    dense
}

/// Edges of random weights between a share of all pairs.
fn random(n: usize, share: f64, rng: &mut Rng) -> Vec<Vec<f64>> {
    symmetric(n, |_, _| if rng.uniform() < share { 0.05 + rng.uniform() } else { 0.0 })
}

/// `groups` of `size` nodes, dense inside and sparse between.
fn planted(groups: usize, size: usize, rng: &mut Rng) -> Vec<Vec<f64>> {
    symmetric(groups * size, |i, j| {
        let share = if i / size == j / size { 0.6 } else { 0.02 };
        if rng.uniform() < share { 0.5 + rng.uniform() } else { 0.0 }
    })
}

/// The quality by its definition, pair by pair.
fn naive_quality(dense: &[Vec<f64>], of: &[u32], objective: Objective, resolution: f64) -> f64 {
    let n = dense.len();
    let strength: Vec<f64> = dense.iter().map(|row| row.iter().sum()).collect();
    let total: f64 = strength.iter().sum();
    let mut quality = 0.0;
    for i in 0..n {
        for j in 0..n {
            if of[i] == of[j] {
                let expected = match objective {
                    Objective::Modularity => strength[i] * strength[j] / total.max(1e-300),
                    Objective::ConstantPotts => 1.0,
                };
                quality += dense[i][j] - resolution * expected;
            }
        }
    }
    quality
}

/// All partitions of `n` nodes, by restricted growth.
fn partitions(n: usize) -> Vec<Vec<u32>> {
    let mut all = vec![Vec::new()];
    for _ in 0..n {
        let mut longer = Vec::new();
        for of in all {
            let next = of.iter().max().map_or(0, |&c: &u32| c + 1);
            for c in 0..=next {
                let mut grown = of.clone();
                grown.push(c);
                longer.push(grown);
            }
        }
        all = longer;
    }
    all
}

fn is_connected(dense: &[Vec<f64>], of: &[u32]) -> bool {
    let n = dense.len();
    let mut seen = vec![false; n];
    let mut pieces = 0;
    for first in 0..n {
        if seen[first] {
            continue;
        }
        pieces += 1;
        let mut stack = vec![first];
        seen[first] = true;
        while let Some(v) = stack.pop() {
            for u in 0..n {
                if dense[v][u] > 0.0 && of[u] == of[v] && !seen[u] {
                    seen[u] = true;
                    stack.push(u);
                }
            }
        }
    }
    pieces == of.iter().collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn small_graphs_come_to_the_best_of_all_partitions() {
    let mut rng = Rng::new(11, 0);
    let every = partitions(7);
    assert_eq!(every.len(), 877);
    let (mut tries, mut best_found) = (0, 0);
    for round in 0..60 {
        let dense = random(7, 0.3 + 0.1 * f64::from(round % 4), &mut rng);
        let matrix = Matrix::from_dense(&dense);
        for objective in OBJECTIVES {
            let graph = matrix.network(objective);
            for resolution in [0.3, 1.0] {
                let quality = |of: &[u32]| naive_quality(&dense, of, objective, resolution);
                let best = every.iter().map(|of| quality(of)).fold(f64::MIN, f64::max);
                let alone = quality(&[0, 1, 2, 3, 4, 5, 6]);
                for seed in 0..3 {
                    let of = communities(&graph, STABLE, resolution, seed, &ctx()).unwrap();
                    assert!(is_connected(&dense, &of), "{of:?}");
                    let found = quality(&of);
                    assert!(found <= best + 1e-9);
                    // A heuristic: what it gains over single nodes is never far from the best.
                    assert!(found - alone >= 0.75 * (best - alone) - 1e-9, "{found} {best}");
                    tries += 1;
                    best_found += i32::from(found > best - 1e-9);
                }
            }
        }
    }
    assert!(best_found * 10 >= tries * 9, "{best_found} of {tries}");
}

#[test]
fn communities_are_connected_and_no_node_would_go_elsewhere() {
    let mut rng = Rng::new(12, 0);
    for round in 0..40 {
        let n = 20 + round;
        let dense = random(n, 0.12, &mut rng);
        let matrix = Matrix::from_dense(&dense);
        for objective in OBJECTIVES {
            let graph = matrix.network(objective);
            for (resolution, beta) in [(0.1, 0.01), (0.7, 0.0), (1.5, 0.3), (0.0, 0.01)] {
                let method = Method::Leiden { n_iterations: None, beta };
                let of = communities(&graph, method, resolution, round as u64, &ctx()).unwrap();
                assert!(is_connected(&dense, &of), "{of:?}");
                let quality = |of: &[u32]| naive_quality(&dense, of, objective, resolution);
                let all: Vec<u32> = (0..n as u32).collect();
                let found = quality(&of);
                assert!(found >= quality(&all) - 1e-9);
                for v in 0..n {
                    let mut other = of.clone();
                    for c in 0..=*of.iter().max().unwrap() + 1 {
                        other[v] = c;
                        // The last iteration may move less than the least rise.
                        assert!(quality(&other) <= found + 1e-6, "{round} {v} {c}");
                    }
                }
            }
        }
    }
}

#[test]
fn qualities_are_those_of_their_definitions() {
    let mut rng = Rng::new(13, 0);
    let dense = random(30, 0.2, &mut rng);
    let matrix = Matrix::from_dense(&dense);
    let of: Vec<u32> = (0..30).map(|_| rng.below(5) as u32).collect();
    for objective in OBJECTIVES {
        let graph = matrix.network(objective);
        let wanted = naive_quality(&dense, &of, objective, 0.8);
        let got = quality::twice_quality(&graph, &of, graph.gamma(0.8));
        assert!((got - wanted).abs() < 1e-10, "{objective:?}: {got} {wanted}");
        let total: f64 = dense.iter().flatten().sum();
        let wanted = naive_quality(&dense, &of, Objective::Modularity, 1.0) / total;
        assert!((modularity(&graph, &of) - wanted).abs() < 1e-12);
    }
}

#[test]
fn parts_are_connected_and_lie_within_communities() {
    let mut rng = Rng::new(14, 0);
    for round in 0..40 {
        let dense = random(25, 0.2, &mut rng);
        let matrix = Matrix::from_dense(&dense);
        for objective in OBJECTIVES {
            let graph = matrix.network(objective);
            let gamma = graph.gamma(0.6);
            let mut pulse = Pulse { ctx: &ctx(), beats: 0 };
            let mut clusters = Clusters::new(&graph, (0..25).collect());
            move_nodes(&graph, &mut clusters, gamma, &mut rng, &mut pulse).unwrap();
            let part = refine(&graph, &clusters, gamma, 0.05, &mut rng, &mut pulse).unwrap();
            assert!(is_connected(&dense, &part), "{round}");
            for (&p, c) in part.iter().zip(&clusters.of) {
                assert_eq!(clusters.of[p as usize], *c);
            }
            let single = naive_quality(&dense, &(0..25).collect::<Vec<_>>(), objective, 0.6);
            assert!(naive_quality(&dense, &part, objective, 0.6) >= single - 1e-9);
        }
    }
}

#[test]
fn planted_groups_are_found() {
    let dense = planted(6, 30, &mut Rng::new(15, 0));
    let matrix = Matrix::from_dense(&dense);
    let wanted: Vec<u32> = (0..180).map(|i| i / 30).collect();
    for seed in 0..5 {
        for (objective, resolution) in OBJECTIVES.into_iter().zip([1.0, 0.2]) {
            let graph = matrix.network(objective);
            for method in [LEIDEN, STABLE, Method::Louvain] {
                assert_eq!(communities(&graph, method, resolution, seed, &ctx()).unwrap(), wanted);
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_communities_and_others_may_differ() {
    let dense = random(200, 0.03, &mut Rng::new(16, 0));
    let matrix = Matrix::from_dense(&dense);
    let graph = matrix.network(Objective::Modularity);
    let run = |seed| communities(&graph, LEIDEN, 1.0, seed, &ctx()).unwrap();
    assert_eq!(run(3), run(3));
    assert!((0..10).any(|seed| run(seed) != run(3)));
}

#[test]
fn numbers_follow_the_first_nodes_on_any_graph() {
    for n in [0, 1, 5] {
        // No edges: each node is alone.
        let matrix = Matrix::from_dense(&vec![vec![0.0; n]; n]);
        for objective in OBJECTIVES {
            let graph = matrix.network(objective);
            for method in [LEIDEN, STABLE, Method::Louvain] {
                let of = communities(&graph, method, 1.0, 0, &ctx()).unwrap();
                assert_eq!(of, (0..n as u32).collect::<Vec<_>>());
            }
            assert!(n == 0 || modularity(&graph, &vec![0; n]).is_nan());
        }
    }
    // Two triangles, a node alone between them, a loop on it.
    let mut dense = vec![vec![0.0; 7]; 7];
    for group in [[0, 1, 5], [2, 4, 6]] {
        for i in group {
            for j in group {
                dense[i][j] = f64::from(i != j);
            }
        }
    }
    dense[3][3] = 4.0;
    let matrix = Matrix::from_dense(&dense);
    for objective in OBJECTIVES {
        let graph = matrix.network(objective);
        for method in [LEIDEN, STABLE, Method::Louvain] {
            for resolution in [0.0, 0.5] {
                let of = communities(&graph, method, resolution, 1, &ctx()).unwrap();
                assert_eq!(of, [0, 0, 1, 2, 1, 0, 1]);
            }
        }
        assert!((modularity(&graph, &[0, 0, 1, 2, 1, 0, 1]) - 0.5).abs() < 1e-15);
    }
}

#[test]
fn pieces_of_a_community_are_told_apart() {
    let mut dense = vec![vec![0.0; 6]; 6];
    for (i, j) in [(0, 1), (2, 3), (4, 5)] {
        dense[i][j] = 1.0;
        dense[j][i] = 1.0;
    }
    let matrix = Matrix::from_dense(&dense);
    let graph = matrix.network(Objective::Modularity);
    assert_eq!(split(&graph, &[0, 0, 0, 0, 1, 1]), [0, 0, 2, 2, 4, 4]);
}

#[test]
fn the_monitor_stops_the_search() {
    struct Never;
    impl Monitor for Never {
        fn poll(&self, _: &str, _: u64, _: u64) -> bool {
            false
        }
    }
    let n = 20_000_u32;
    // A ring.
    let offsets: Vec<u32> = (0..=n).map(|i| 2 * i).collect();
    let columns: Vec<u32> = (0..n)
        .flat_map(|i| {
            let (a, b) = ((i + n - 1) % n, (i + 1) % n);
            [a.min(b), a.max(b)]
        })
        .collect();
    let values = vec![1.0; columns.len()];
    let graph = Network::new(&offsets, &columns, &values, Objective::Modularity).unwrap();
    let stopping = Ctx::new(1, 1 << 30, PathBuf::new(), &Never);
    let stopped = communities(&graph, LEIDEN, 1.0, 0, &stopping);
    assert!(matches!(stopped, Err(Error::Interrupted)));
}
