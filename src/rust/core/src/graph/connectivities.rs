//! From distances to how strongly cells are connected.
//!
//! Three kernels of the field, each symmetric and without entries on the diagonal:
//!
//! * `Umap`: the fuzzy union of umap-learn 0.5 (arXiv:1802.03426), which
//!   scanpy uses by default;
//! * `Gaussian`: the adaptive Gaussian kernel of scanpy's `method = "gauss"` (Haghverdi et
//!   al. 2016);
//! * `SharedNeighbors`: the Jaccard index of neighbourhoods, as Seurat's SNN.

use std::sync::{Mutex, PoisonError};

use super::neighbors::Neighbors;
use super::sparse::Sparse;
use crate::ctx::Ctx;
use crate::error::Result;

/// Cells of one task.
const TILE: usize = 1024;

/// How connectivities follow from distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kernel {
    /// Fuzzy union of memberships that decay from each cell's nearest neighbour on.
    Umap,
    /// A Gaussian whose width is each cell's median distance.
    Gaussian,
    /// The share of common neighbours, zero below `prune`.
    SharedNeighbors {
        /// The least share that is kept.
        prune: f64,
    },
}

/// Connectivities of all cells, a symmetric matrix.
///
/// Memory: about `60 n k` bytes; for shared neighbours as much as the result, which
/// has several times `k` entries a cell.
///
/// # Errors
/// When `ctx` stops.
pub fn connectivities(neighbors: &Neighbors, kernel: Kernel, ctx: &Ctx) -> Result<Sparse> {
    match kernel {
        Kernel::Umap => {
            // The table of memberships is let go before both directions are joined.
            let fuzzy = neighbors.with_values(&umap_memberships(neighbors, ctx)?);
            Ok(fuzzy.symmetrized(|a, b| a + b - a * b))
        }
        Kernel::Gaussian => {
            let weighted = neighbors.with_values(&gaussian_weights(neighbors, ctx)?);
            // Both entries of a pair are equal where both are there.
            Ok(weighted.symmetrized(f64::max))
        }
        Kernel::SharedNeighbors { prune } => shared_neighbors(neighbors, prune, ctx),
    }
}

/// Fills a value for each neighbour, cell by cell, on all threads.
fn by_cell(
    neighbors: &Neighbors,
    stage: &str,
    ctx: &Ctx,
    fill: impl Fn(usize, &mut [f64]) + Sync,
) -> Result<Vec<f64>> {
    let k = neighbors.k.max(1);
    let mut values = vec![0.0; neighbors.index.len()];
    let tiles: Vec<_> = values.chunks_mut(TILE * k).map(Mutex::new).collect();
    ctx.parallel(
        stage,
        tiles.len(),
        || (),
        |tile, ()| {
            let mut values = tiles[tile].lock().unwrap_or_else(PoisonError::into_inner);
            for (at, row) in values.chunks_mut(k).enumerate() {
                fill(tile * TILE + at, row);
            }
            Ok(())
        },
    )?;
    drop(tiles);
    Ok(values)
}

// UMAP -----------------------------------------------------------------------------

/// Steps of the search for a width.
const STEPS: usize = 64;

/// How near the sum of memberships must come to its target.
const TOLERANCE: f64 = 1e-5;

/// The least width, as a share of the mean distance.
const LEAST_WIDTH: f64 = 1e-3;

fn umap_memberships(neighbors: &Neighbors, ctx: &Ctx) -> Result<Vec<f64>> {
    let n = neighbors.len();
    let total: f64 = (0..n).map(|i| neighbors.of(i).1.iter().sum::<f64>()).sum();
    let overall = total / ((neighbors.k as f64 + 1.0) * n as f64);
    by_cell(neighbors, "Connectivities", ctx, |i, memberships| {
        let distances: Vec<f64> = neighbors.of(i).1.iter().map(|&d| f64::from(d as f32)).collect();
        memberships_of(&distances, overall, memberships);
    })
}

/// `compute_membership_strengths()` of umap-learn for one cell; `overall` is the mean
/// distance of all.
///
/// Distances are float32 as there: where neighbours lie in a thin shell, the
/// rounding of a distance is a thousand times that of its share of the width, and
/// memberships would differ by 1e-5.
pub(super) fn memberships_of(distances: &[f64], overall: f64, memberships: &mut [f64]) {
    // A cell is its own neighbour at distance zero, which means count.
    let count = distances.len() as f64 + 1.0;
    let others = distances.iter().copied().filter(|&d| d > 0.0);
    let nearest = others.reduce(f64::min).unwrap_or(0.0);
    let mean = distances.iter().sum::<f64>() / count;
    let least = LEAST_WIDTH * if nearest > 0.0 { mean } else { overall };
    let width = umap_width(distances, nearest, count.log2()).max(least);
    for (membership, d) in memberships.iter_mut().zip(distances) {
        let beyond = d - nearest;
        *membership = if beyond <= 0.0 || width == 0.0 { 1.0 } else { (-beyond / width).exp() };
    }
}

/// The width at which memberships sum to `target`, by umap-learn's bisection, step
/// for step: it ends within a tolerance, and another path would end elsewhere.
fn umap_width(distances: &[f64], nearest: f64, target: f64) -> f64 {
    let (mut low, mut high, mut width) = (0.0_f64, f64::INFINITY, 1.0_f64);
    for _ in 0..STEPS {
        let sum: f64 = distances
            .iter()
            .map(|&d| if d > nearest { (-(d - nearest) / width).exp() } else { 1.0 })
            .sum();
        if (sum - target).abs() < TOLERANCE {
            break;
        }
        if sum > target {
            high = width;
            width = f64::midpoint(low, high);
        } else {
            low = width;
            width = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * width };
        }
    }
    width
}

// Gaussian -------------------------------------------------------------------------

fn gaussian_weights(neighbors: &Neighbors, ctx: &Ctx) -> Result<Vec<f64>> {
    let squares: Vec<f64> = (0..neighbors.len())
        .map(|i| {
            // Distances ascend, so do their squares.
            let d = neighbors.of(i).1;
            let (low, high) = (d[(d.len() - 1) / 2], d[d.len() / 2]);
            f64::midpoint(low * low, high * high)
        })
        .collect();
    by_cell(neighbors, "Connectivities", ctx, |i, weights| {
        let (index, distances) = neighbors.of(i);
        for ((weight, &j), &d) in weights.iter_mut().zip(index).zip(distances) {
            let (a, b) = (squares[i], squares[j as usize]);
            let sum = a + b;
            // Cells in one place have no width, and nothing between them.
            *weight = if sum == 0.0 {
                1.0
            } else {
                (2.0 * a.sqrt() * b.sqrt() / sum).sqrt() * (-d * d / sum).exp()
            };
        }
    })
}

// Shared neighbours ----------------------------------------------------------------

/// Columns and values.
type SparseRow = (Vec<u32>, Vec<f64>);

/// `ComputeSNN()` of Seurat: with itself a cell has `k + 1` neighbours, and two that
/// share s of them have connectivity s / (2 (k + 1) - s).
fn shared_neighbors(neighbors: &Neighbors, prune: f64, ctx: &Ctx) -> Result<Sparse> {
    let (n, k) = (neighbors.len(), neighbors.k);
    let all = (k + 1) as f64;
    // Who has a cell among its neighbours, itself included.
    let members = neighbors.with_values(&vec![1.0; n * k]).transposed();
    let tiles: Vec<Mutex<Vec<SparseRow>>> =
        (0..n.div_ceil(TILE)).map(|_| Mutex::default()).collect();
    ctx.parallel(
        "Connectivities",
        tiles.len(),
        || (vec![0_u32; n], Vec::new()),
        |tile, (shared, touched): &mut (Vec<u32>, Vec<u32>)| {
            let cells = tile * TILE..((tile + 1) * TILE).min(n);
            let mut rows = Vec::with_capacity(cells.len());
            for i in cells {
                let own = neighbors.of(i).0.iter().copied();
                for common in own.chain([i as u32]) {
                    let others = members.row(common as usize).0.iter().copied();
                    for j in others.chain([common]) {
                        let count = &mut shared[j as usize];
                        if *count == 0 {
                            touched.push(j);
                        }
                        *count += 1;
                    }
                }
                touched.sort_unstable();
                let (mut columns, mut values) = (Vec::new(), Vec::new());
                for &j in touched.iter() {
                    let common = f64::from(std::mem::take(&mut shared[j as usize]));
                    let share = common / (2.0 * all - common);
                    if share >= prune && j as usize != i {
                        columns.push(j);
                        values.push(share);
                    }
                }
                touched.clear();
                rows.push((columns, values));
            }
            *tiles[tile].lock().unwrap_or_else(PoisonError::into_inner) = rows;
            Ok(())
        },
    )?;
    let mut graph = Sparse { offsets: vec![0], ..Sparse::default() };
    for rows in tiles {
        for (columns, values) in rows.into_inner().unwrap_or_else(PoisonError::into_inner) {
            graph.columns.extend(columns);
            graph.values.extend(values);
            graph.offsets.push(graph.columns.len());
        }
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::super::knn::exact_neighbors;
    use super::super::points::{Metric, Points};
    use super::*;
    use crate::ctx::Silent;
    use crate::stats::random::Rng;

    fn ctx(threads: usize) -> Ctx<'static> {
        Ctx::new(threads, 1 << 30, PathBuf::new(), &Silent)
    }

    /// Neighbours of points in the plane, the first ten of them in one place.
    fn example(n: usize, k: usize) -> Neighbors {
        let mut rng = Rng::new(3, 0);
        let mut columns: Vec<f64> = (0..2 * n).map(|_| rng.uniform()).collect();
        columns[..10].fill(0.5);
        columns[n..n + 10].fill(0.5);
        let points = Points::from_columns(&columns, n, Metric::Euclidean).unwrap();
        exact_neighbors(&points, k, &ctx(1)).unwrap()
    }

    const KERNELS: [Kernel; 3] =
        [Kernel::Umap, Kernel::Gaussian, Kernel::SharedNeighbors { prune: 1.0 / 15.0 }];

    #[test]
    fn connectivities_are_symmetric_shares_off_the_diagonal() {
        let neighbors = example(3000, 6);
        for kernel in KERNELS {
            let graph = connectivities(&neighbors, kernel, &ctx(2)).unwrap();
            assert!(graph == graph.transposed(), "{kernel:?}");
            assert!(graph.values.iter().all(|&x| x > 0.0 && x <= 1.0), "{kernel:?}");
            assert!((0..3000).all(|i| !graph.row(i).0.contains(&(i as u32))), "{kernel:?}");
            assert!(graph == connectivities(&neighbors, kernel, &ctx(1)).unwrap());
        }
    }

    #[test]
    fn memberships_sum_to_the_logarithm_of_the_number_of_neighbours() {
        let neighbors = example(400, 14);
        let memberships = umap_memberships(&neighbors, &ctx(2)).unwrap();
        for i in 10..400 {
            let sum: f64 = memberships[i * 14..(i + 1) * 14].iter().sum();
            assert!((sum - 15.0_f64.log2()).abs() < 1e-5, "{i}: {sum}");
            assert_eq!(memberships[i * 14], 1.0);
        }
        // Nine neighbours in one place count fully.
        assert!(memberships[..9].iter().all(|&m| m == 1.0));
    }

    #[test]
    fn shares_are_those_of_sets() {
        let (n, k) = (300, 7);
        let neighbors = example(n, k);
        let set = |i: usize| -> BTreeSet<u32> {
            neighbors.of(i).0.iter().copied().chain([i as u32]).collect()
        };
        let graph =
            connectivities(&neighbors, Kernel::SharedNeighbors { prune: 0.2 }, &ctx(2)).unwrap();
        for i in 0..n {
            let mut row = (Vec::new(), Vec::new());
            for j in (0..n).filter(|&j| j != i) {
                let (a, b) = (set(i), set(j));
                let share = a.intersection(&b).count() as f64 / a.union(&b).count() as f64;
                if share >= 0.2 {
                    row.0.push(j as u32);
                    row.1.push(share);
                }
            }
            assert_eq!(graph.row(i), (&row.0[..], &row.1[..]), "{i}");
        }
    }

    #[test]
    fn the_gaussian_takes_the_median_distance() {
        // On a line at 0, 1, 3, 7 with two neighbours each.
        let points = Points::from_columns(&[0.0, 1.0, 3.0, 7.0], 4, Metric::Euclidean).unwrap();
        let neighbors = exact_neighbors(&points, 2, &ctx(1)).unwrap();
        let graph = connectivities(&neighbors, Kernel::Gaussian, &ctx(1)).unwrap();
        let square = [5.0, 2.5, 6.5, 26.0_f64];
        let wanted = |i: usize, j: usize, d: f64| {
            let sum = square[i] + square[j];
            (2.0 * (square[i] * square[j]).sqrt() / sum).sqrt() * (-d * d / sum).exp()
        };
        // Cell 3 has cells 1 and 2 as neighbours, none of which has it.
        assert_eq!(graph.row(3).0, [1, 2]);
        assert!((graph.row(3).1[0] - wanted(1, 3, 6.0)).abs() < 1e-15);
        assert!((graph.row(0).1[0] - wanted(0, 1, 1.0)).abs() < 1e-15);
    }
}
