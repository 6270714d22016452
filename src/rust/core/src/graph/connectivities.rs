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
use super::union::union;
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
        Kernel::SharedNeighbors { prune } => shared_neighbors(neighbors, prune, ctx),
        Kernel::Umap => union(neighbors, &Local::umap(neighbors, ctx)?, ctx),
        Kernel::Gaussian => union(neighbors, &Local::gaussian(neighbors), ctx),
    }
}

/// What the weight of an edge needs beside its distances, for every cell.
pub enum Local {
    /// How membership decays.
    Umap(Vec<Decay>),
    /// Median squared distances.
    Gaussian(Vec<f64>),
}

impl Local {
    /// The weight of the edge between two cells, by the distance of `j` as a neighbour of `i`
    /// and that of `i` as one of `j`.
    pub(super) fn weight(&self, i: usize, j: usize, to: Option<f64>, back: Option<f64>) -> f64 {
        match self {
            Local::Umap(decays) => {
                let membership = |cell: usize, distance: Option<f64>| {
                    distance.map_or(0.0, |d| decays[cell].membership(single(d)))
                };
                let (a, b) = (membership(i, to), membership(j, back));
                a + b - a * b
            }
            // Both distances of a pair are equal where both are there.
            Local::Gaussian(squares) => {
                to.or(back).map_or(0.0, |d| gaussian(squares[i], squares[j], d))
            }
        }
    }
}

// UMAP -----------------------------------------------------------------------------

/// Steps of the search for a width.
const STEPS: usize = 64;

/// How near the sum of memberships must come to its target.
const TOLERANCE: f64 = 1e-5;

/// The least width, as a share of the mean distance.
const LEAST_WIDTH: f64 = 1e-3;

/// Distances are float32 as in umap-learn: where neighbours lie in a thin shell, the
/// rounding of a distance is a thousand times that of its share of the width, and
/// memberships would differ by 1e-5.
fn single(distance: f64) -> f64 {
    f64::from(distance as f32)
}

impl Local {
    /// That of [`Kernel::Umap`].
    ///
    /// # Errors
    /// When `ctx` stops.
    pub fn umap(neighbors: &Neighbors, ctx: &Ctx) -> Result<Self> {
        let n = neighbors.len();
        let total: f64 = (0..n).map(|i| neighbors.of(i).1.iter().sum::<f64>()).sum();
        let overall = total / ((neighbors.k as f64 + 1.0) * n as f64);
        let mut decays = vec![Decay { nearest: 0.0, width: 0.0 }; n];
        let tiles: Vec<_> = decays.chunks_mut(TILE).map(Mutex::new).collect();
        ctx.parallel("Connectivities", tiles.len(), Vec::new, |tile, distances: &mut Vec<f64>| {
            let mut decays = tiles[tile].lock().unwrap_or_else(PoisonError::into_inner);
            for (at, decay) in decays.iter_mut().enumerate() {
                distances.clear();
                distances.extend(neighbors.of(tile * TILE + at).1.iter().map(|&d| single(d)));
                *decay = Decay::of(distances, overall);
            }
            Ok(())
        })?;
        drop(tiles);
        Ok(Local::Umap(decays))
    }
}

/// How membership in a cell's surroundings decays.
#[derive(Debug, Clone, Copy)]
pub struct Decay {
    /// Distance up to which it is one.
    nearest: f64,
    width: f64,
}

impl Decay {
    /// `smooth_knn_dist()` of umap-learn for one cell; `overall` is the mean distance
    /// of all.
    fn of(distances: &[f64], overall: f64) -> Self {
        // A cell is its own neighbour at distance zero, which means count.
        let count = distances.len() as f64 + 1.0;
        let others = distances.iter().copied().filter(|&d| d > 0.0);
        let nearest = others.reduce(f64::min).unwrap_or(0.0);
        let mean = distances.iter().sum::<f64>() / count;
        let least = LEAST_WIDTH * if nearest > 0.0 { mean } else { overall };
        Decay { nearest, width: umap_width(distances, nearest, count.log2()).max(least) }
    }

    fn membership(self, distance: f64) -> f64 {
        let beyond = distance - self.nearest;
        if beyond <= 0.0 || self.width == 0.0 { 1.0 } else { (-beyond / self.width).exp() }
    }
}

/// `compute_membership_strengths()` of umap-learn for one cell, of distances in float32;
/// `overall` is the mean distance of all.
pub(super) fn memberships_of(distances: &[f64], overall: f64, memberships: &mut [f64]) {
    let decay = Decay::of(distances, overall);
    for (membership, &d) in memberships.iter_mut().zip(distances) {
        *membership = decay.membership(d);
    }
}

/// Memberships of a cell that is none of its neighbours, as shares of the first one's, which
/// is the nearest: those of umap-learn's `transform()`, where they decay from the cell
/// itself on and the nearest neighbour takes the part that the cell has among its own.
pub(super) fn shares_among(distances: &[f64], shares: &mut [f64]) {
    let Some((&nearest, others)) = distances.split_first() else { return };
    let target = (distances.len() as f64).log2();
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    let width = umap_width(others, 0.0, target).max(LEAST_WIDTH * mean);
    let decay = Decay { nearest, width };
    for (share, &d) in shares.iter_mut().zip(distances) {
        *share = decay.membership(d);
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

impl Local {
    /// That of [`Kernel::Gaussian`].
    #[must_use]
    pub fn gaussian(neighbors: &Neighbors) -> Self {
        let square = |i| {
            // Distances ascend, so do their squares.
            let d = neighbors.of(i).1;
            let (low, high) = (d[(d.len() - 1) / 2], d[d.len() / 2]);
            f64::midpoint(low * low, high * high)
        };
        Local::Gaussian((0..neighbors.len()).map(square).collect())
    }
}

fn gaussian(a: f64, b: f64, distance: f64) -> f64 {
    let sum = a + b;
    // Cells in one place have no width, and nothing between them.
    if sum == 0.0 {
        return 1.0;
    }
    (2.0 * a.sqrt() * b.sqrt() / sum).sqrt() * (-distance * distance / sum).exp()
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
    use std::collections::{BTreeMap, BTreeSet};
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
        let points = Points::from_columns(columns, n, Metric::Euclidean).unwrap();
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

    /// Memberships of a table, neighbour by neighbour.
    fn memberships(neighbors: &Neighbors) -> Vec<f64> {
        let Local::Umap(decays) = Local::umap(neighbors, &ctx(2)).unwrap() else {
            unreachable!("memberships decay");
        };
        let of = |i: usize| neighbors.of(i).1.iter().map(move |&d| (i, d));
        let all = (0..neighbors.len()).flat_map(of);
        all.map(|(i, d)| decays[i].membership(single(d))).collect()
    }

    #[test]
    fn memberships_sum_to_the_logarithm_of_the_number_of_neighbours() {
        let memberships = memberships(&example(400, 14));
        for i in 10..400 {
            let sum: f64 = memberships[i * 14..(i + 1) * 14].iter().sum();
            assert!((sum - 15.0_f64.log2()).abs() < 1e-5, "{i}: {sum}");
            assert_eq!(memberships[i * 14], 1.0);
        }
        // Nine neighbours in one place count fully.
        assert!(memberships[..9].iter().all(|&m| m == 1.0));
    }

    #[test]
    fn shares_are_those_of_memberships_that_begin_at_the_cell() {
        let distances = [2.0, 2.5, 3.0, 3.0, 7.0, 8.5, 9.0, 11.0];
        let mut shares = [0.0; 8];
        shares_among(&distances, &mut shares);
        assert_eq!(shares[0], 1.0);
        // The width is that of any two, and all but the nearest sum to the logarithm.
        let width = (distances[7] - distances[0]) / -shares[7].ln();
        let membership = |d: f64| (-d / width).exp();
        for (share, d) in shares.iter().zip(distances) {
            assert!((share - membership(d) / membership(2.0)).abs() < 1e-12);
        }
        let sum: f64 = distances[1..].iter().map(|&d| membership(d)).sum();
        assert!((sum - 3.0).abs() < 1e-5, "{sum}");
    }

    #[test]
    fn shares_are_finite_at_any_distance() {
        for distances in [
            &[0.0; 4][..],
            &[0.0, 0.0, 1e-300, 1.0],
            &[1e150, 1e150, 1.5e150, 2e150],
            &[1e100, 2e150],
            &[3.0],
            &[],
        ] {
            let mut shares = vec![f64::NAN; distances.len()];
            shares_among(distances, &mut shares);
            assert!(shares.iter().all(|&x| (0.0..=1.0).contains(&x)), "{distances:?} {shares:?}");
            assert!(shares.first().is_none_or(|&x| x == 1.0), "{distances:?} {shares:?}");
        }
    }

    #[test]
    fn memberships_of_both_directions_are_joined() {
        let neighbors = example(700, 9);
        let memberships = memberships(&neighbors);
        let mut wanted = vec![BTreeMap::new(); 700];
        for (at, &j) in neighbors.index.iter().enumerate() {
            let (i, j, membership) = (at / 9, j as usize, memberships[at]);
            for (a, b) in [(i, j), (j, i)] {
                let joined = wanted[a].entry(b as u32).or_insert(0.0);
                *joined = *joined + membership - *joined * membership;
            }
        }
        let graph = connectivities(&neighbors, Kernel::Umap, &ctx(2)).unwrap();
        for (i, wanted) in wanted.iter().enumerate() {
            let (columns, values) = graph.row(i);
            assert!(columns.iter().eq(wanted.keys()), "{i}");
            assert!(values.iter().zip(wanted.values()).all(|(a, b)| (a - b).abs() < 1e-15), "{i}");
        }
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
        let points = Points::from_columns(vec![0.0, 1.0, 3.0, 7.0], 4, Metric::Euclidean).unwrap();
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
