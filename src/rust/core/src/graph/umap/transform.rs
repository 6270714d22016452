//! Further cells in a layout that stays as it is, after `transform()` of umap-learn 0.5.
//!
//! The cells of the layout, the reference, do not move, so that each further cell goes its way
//! alone: it depends on its own neighbours, not on other cells, their order or threads. What is
//! drawn for it follows from the seed and from who its neighbours are.
//!
//! Unlike in umap-learn the strongest edge of every cell is looked at in all epochs, not that
//! of all cells, and the least width is a share of the cell's own mean distance.
//!
//! Memory: `12 k + 4 D' + 8 D` bytes for each cell with k neighbours, and `4 D'` for each of the
//! reference, with D' the next of 2, 4, 16, 64 dimensions.

use std::sync::{Mutex, PoisonError};

use super::super::connectivities::shares_among;
use super::super::neighbors::Neighbors;
use super::Descent;
use super::forces::Forces;
use super::fuzzy::{ONE, is_due, least_weight};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::stats::random::Rng;

/// Cells of one task, times epochs: some hundredths of a second.
const TASK: usize = 25_600;

/// Most cells of one task.
const TILE: usize = 1024;

/// Squares of differences between larger coordinates overflow in float32.
const LARGEST: f64 = 1e18;

/// Places cells among those of `layout`, whose dimensions stand one after the other, by their
/// `neighbors` there.
///
/// A cell starts at the mean of its neighbours, weighted by its memberships, or where
/// a neighbour at no distance is. `how.learning_rate` is divided by four.
///
/// # Numerics
/// The same bits for any number of threads, and for a cell whatever others there are, but
/// for the default number of epochs.
///
/// # Errors
/// [`Error::InvalidInput`] for a layout that is not of finite points in up to 64 dimensions,
/// [`Error::InvalidValues`] where cells are moved out of range, [`Error::OverBudget`], and
/// when `ctx` stops.
///
/// # Panics
/// If a neighbour is not in the layout.
pub fn umap_place(
    neighbors: &Neighbors,
    layout: &[f64],
    n_dims: usize,
    how: &Descent,
    ctx: &Ctx,
) -> Result<Vec<f64>> {
    let wrong = |message: String| Error::InvalidInput { argument: "reference", message };
    if n_dims == 0 || layout.len() % n_dims != 0 {
        return Err(wrong(format!("the layout is not of points in {n_dims} dimensions")));
    }
    if layout.iter().any(|x| x.is_nan() || x.abs() > LARGEST) {
        return Err(wrong("the layout has values that are not finite, or too large".into()));
    }
    match n_dims {
        0..=2 => place::<2>(neighbors, layout, n_dims, how, ctx),
        3..=4 => place::<4>(neighbors, layout, n_dims, how, ctx),
        5..=16 => place::<16>(neighbors, layout, n_dims, how, ctx),
        17..=64 => place::<64>(neighbors, layout, n_dims, how, ctx),
        _ => Err(wrong(format!("a layout has at most 64 dimensions, not {n_dims}"))),
    }
}

fn place<const D: usize>(
    neighbors: &Neighbors,
    layout: &[f64],
    n_dims: usize,
    how: &Descent,
    ctx: &Ctx,
) -> Result<Vec<f64>> {
    let (m, n, k) = (neighbors.len(), layout.len() / n_dims, neighbors.k);
    let needed = (12 * m * k + 4 * D * (m + n) + 8 * n_dims * m) as u64;
    ctx.check_budget(|| format!("placing {m} cells in the layout of {n}"), needed)?;
    let n_epochs = how.n_epochs.unwrap_or(if m <= 10_000 { 100 } else { 30 });
    let ground = Ground::<D>::new(layout, n_dims, n_epochs, how);
    let mut places = vec![[0.0; D]; m];
    let tile = (TASK / n_epochs.max(1)).clamp(1, TILE);
    let tiles: Vec<_> = places.chunks_mut(tile).map(Mutex::new).collect();
    let state = || (vec![0.0; k], Vec::with_capacity(k));
    ctx.parallel("Layout", tiles.len(), state, |index, (shares, edges)| {
        let mut places = tiles[index].lock().unwrap_or_else(PoisonError::into_inner);
        for (at, place) in places.iter_mut().enumerate() {
            let (cells, distances) = neighbors.of(index * tile + at);
            shares_among(distances, shares);
            *place = ground.start(cells, distances, shares);
            ground.settle(place, cells, shares, edges);
            if place.iter().any(|x| !x.is_finite()) {
                return Err(Error::InvalidValues {
                    message: "cells were moved out of range: the layout is too wide for its \
                              curve, or the learning rate too large"
                        .into(),
                });
            }
        }
        Ok(())
    })?;
    drop(tiles);
    let dimension = |d: usize| places.iter().map(move |place| f64::from(place[d]));
    Ok((0..n_dims).flat_map(dimension).collect())
}

/// What all cells are placed on.
struct Ground<const D: usize> {
    /// The cells of the layout. Dimensions that are not there are zero.
    reference: Vec<[f32; D]>,
    forces: Forces,
    n_epochs: usize,
    /// The rate of the first epoch.
    rate: f64,
    seed: u64,
}

impl<const D: usize> Ground<D> {
    fn new(layout: &[f64], n_dims: usize, n_epochs: usize, how: &Descent) -> Self {
        let n = layout.len() / n_dims;
        let at = |i: usize, d: usize| if d < n_dims { layout[d * n + i] as f32 } else { 0.0 };
        Ground {
            reference: (0..n).map(|i| std::array::from_fn(|d| at(i, d))).collect(),
            forces: Forces::new(how),
            n_epochs,
            rate: how.learning_rate / 4.0,
            seed: how.seed,
        }
    }

    fn start(&self, cells: &[u32], distances: &[f64], shares: &[f64]) -> [f32; D] {
        if let (Some(&first), Some(0.0)) = (cells.first(), distances.first()) {
            return self.reference[first as usize];
        }
        let total: f64 = shares.iter().sum();
        let mut mean = [0.0; D];
        for (&cell, share) in cells.iter().zip(shares) {
            for (mean, &x) in mean.iter_mut().zip(&self.reference[cell as usize]) {
                *mean += share / total * f64::from(x);
            }
        }
        mean.map(|x| x as f32)
    }

    /// All epochs of one cell; `edges` is room for its edges and their weights.
    fn settle(
        &self,
        place: &mut [f32; D],
        cells: &[u32],
        shares: &[f64],
        edges: &mut Vec<(u32, u32)>,
    ) {
        let least = least_weight(self.n_epochs);
        let weight = |share: f64| (share * f64::from(ONE)).round() as u32;
        edges.clear();
        edges.extend(cells.iter().zip(shares).map(|(&cell, &share)| (cell, weight(share))));
        edges.retain(|&(_, weight)| weight >= least);
        let mut rng = Rng::new(self.seed, stream(cells));
        for epoch in 1..=self.n_epochs {
            let left = 1.0 - (epoch - 1) as f64 / self.n_epochs as f64;
            let rate = (self.rate * left) as f32;
            for &(cell, weight) in edges.iter() {
                if is_due(weight, epoch) {
                    // What attracts does not move.
                    let mut other = self.reference[cell as usize];
                    self.forces.attract(place, &mut other, rate);
                    self.forces.repel(place, None, &self.reference[..], rate, &mut rng);
                }
            }
        }
    }
}

/// Which stream of random numbers is that of a cell with these neighbours.
fn stream(cells: &[u32]) -> u64 {
    cells.iter().fold(0, |key, &cell| Rng::new(key, u64::from(cell)).next_u64())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::super::knn::nearest_among;
    use super::super::super::points::{Metric, Points};
    use super::super::Curve;
    use super::*;
    use crate::ctx::{Monitor, Silent};

    fn ctx(threads: usize) -> Ctx<'static> {
        Ctx::new(threads, 1 << 30, PathBuf::new(), &Silent)
    }

    const A: f64 = 0.583;
    const B: f64 = 1.334;

    fn how(n_epochs: usize) -> Descent {
        Descent {
            curve: Curve { a: A, b: B },
            n_epochs: Some(n_epochs),
            learning_rate: 1.0,
            negative_samples: 5,
            repulsion: 1.0,
            seed: 1,
        }
    }

    /// Points in the plane, every other one far off.
    fn points(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::new(seed, 0);
        (0..2 * n).map(|at| rng.uniform() + if at % 2 == 0 { 0.0 } else { 9.0 }).collect()
    }

    /// The neighbours of `m` cells among `n`, and a layout of the `n`: that of the embedding,
    /// stretched.
    fn example(m: usize, n: usize, k: usize) -> (Neighbors, Vec<f64>) {
        let reference = points(n, 1);
        let layout = reference.iter().map(|x| 3.0 * x).collect();
        let reference = Points::from_columns(reference, n, Metric::Euclidean).unwrap();
        let queries = Points::from_columns(points(m, 2), m, Metric::Euclidean).unwrap();
        (nearest_among(&queries, &reference, k, &ctx(2)).unwrap(), layout)
    }

    /// The way of a cell by the formulas of umap-learn's loop in float64 with functions of libm,
    /// from a start at `place`.
    fn naive_way(
        mut place: [f64; 2],
        cells: &[u32],
        shares: &[f64],
        reference: &[[f64; 2]],
        n_epochs: usize,
        rng: &mut Rng,
    ) -> [f64; 2] {
        let n = reference.len() as f64;
        let mut looked_at = vec![0.0; cells.len()];
        for epoch in 1..=n_epochs {
            let rate = 0.25 * (1.0 - (epoch as f64 - 1.0) / n_epochs as f64);
            for (edge, &cell) in cells.iter().enumerate() {
                if looked_at[edge] + 1.0 > epoch as f64 * shares[edge] {
                    continue;
                }
                looked_at[edge] += 1.0;
                let other = reference[cell as usize];
                let apart = [place[0] - other[0], place[1] - other[1]];
                let square = apart[0].powi(2) + apart[1].powi(2);
                if square > 0.0 {
                    let slope = -2.0 * A * B * square.powf(B - 1.0) / (A * square.powf(B) + 1.0);
                    for d in 0..2 {
                        place[d] += rate * (slope * apart[d]).clamp(-4.0, 4.0);
                    }
                }
                // Four at a time, then one.
                for count in [4, 1] {
                    let own = place;
                    let mut bits = 0;
                    for lane in 0..count {
                        bits = if lane % 2 == 0 { rng.next_u64() } else { bits >> 32 };
                        let drawn = (bits & 0xffff_ffff) as f64 / 4_294_967_296.0 * n;
                        let other = reference[drawn as usize];
                        let apart = [own[0] - other[0], own[1] - other[1]];
                        let square = apart[0].powi(2) + apart[1].powi(2);
                        let slope = 2.0 * B / ((0.001 + square) * (A * square.powf(B) + 1.0));
                        for d in 0..2 {
                            place[d] += rate * (slope * apart[d]).clamp(-4.0, 4.0);
                        }
                    }
                }
            }
        }
        place
    }

    #[test]
    fn cells_go_as_umap_learn_says() {
        let (m, n, k) = (40, 200, 6);
        let (neighbors, layout) = example(m, n, k);
        let single = |x: f64| f64::from(x as f32);
        let reference: Vec<[f64; 2]> =
            (0..n).map(|i| [single(layout[i]), single(layout[n + i])]).collect();
        let mut shares = vec![0.0; k];
        for n_epochs in [0, 1, 2, 5, 10] {
            let found = umap_place(&neighbors, &layout, 2, &how(n_epochs), &ctx(2)).unwrap();
            for i in 0..m {
                let (cells, distances) = neighbors.of(i);
                shares_among(distances, &mut shares);
                let total: f64 = shares.iter().sum();
                let start = [0, 1].map(|d| {
                    let weighted = cells.iter().zip(&shares);
                    weighted.map(|(&j, w)| w / total * reference[j as usize][d]).sum()
                });
                let mut rng = Rng::new(1, stream(cells));
                let wanted = naive_way(start, cells, &shares, &reference, n_epochs, &mut rng);
                for d in 0..2 {
                    // Float32 at up to thirty, powers to 2e-5 and some hundred moves.
                    let error = (found[d * m + i] - wanted[d]).abs();
                    assert!(error < 1e-3, "{n_epochs} epochs, cell {i}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_cell_is_placed_the_same_on_any_thread_and_in_any_company() {
        let (m, n, k) = (700, 500, 8);
        let (neighbors, layout) = example(m, n, k);
        let run = |neighbors: &Neighbors, threads, seed| {
            let how = Descent { seed, ..how(40) };
            umap_place(neighbors, &layout, 2, &how, &ctx(threads)).unwrap()
        };
        let one = run(&neighbors, 1, 1);
        for threads in [1, 2, 3, 5] {
            assert!(one == run(&neighbors, threads, 1), "{threads} threads");
        }
        assert!(one != run(&neighbors, 2, 2));
        let chosen = [650, 3, 3, 17];
        let rows = chosen.map(|i| neighbors.of(i));
        let some = Neighbors {
            k,
            index: rows.iter().flat_map(|row| row.0).copied().collect(),
            distance: rows.iter().flat_map(|row| row.1).copied().collect(),
        };
        let placed = run(&some, 2, 1);
        for (at, i) in chosen.into_iter().enumerate() {
            assert_eq!([placed[at], placed[4 + at]], [one[i], one[m + i]], "cell {i}");
        }
    }

    #[test]
    fn cells_stay_with_their_neighbours() {
        let mut rng = Rng::new(5, 0);
        let (m, n, k) = (300, 400, 10);
        let neighbors = example(m, n, k).0;
        for n_dims in [1, 2, 3, 5, 17] {
            // A layout of two groups, those of the embedding, apart in all dimensions.
            let layout: Vec<f64> = (0..n * n_dims)
                .map(|at| rng.uniform() + if at % 2 == 0 { 0.0 } else { 5.0 })
                .collect();
            let placed = umap_place(&neighbors, &layout, n_dims, &how(100), &ctx(2)).unwrap();
            assert_eq!(placed.len(), m * n_dims);
            for (at, x) in placed.iter().enumerate() {
                let far = at % m % 2 == 1;
                assert!((*x > 3.0) == far, "{n_dims} dimensions, cell {}: {x}", at % m);
            }
        }
    }

    #[test]
    fn a_cell_at_no_distance_starts_there() {
        let neighbors = Neighbors { k: 3, index: vec![2, 0, 1], distance: vec![0.0, 0.0, 4.0] };
        let layout = [1.0, 2.0, 3.0, -1.0, -2.0, -3.0];
        let placed = umap_place(&neighbors, &layout, 2, &how(0), &ctx(1)).unwrap();
        assert_eq!(placed, [3.0, -3.0]);
    }

    #[test]
    fn far_cells_and_no_cells_are_placed() {
        let layout = example(1, 90, 3).1;
        for distance in [[1e150, 1e150, 1.5e150], [1e-300, 1e150, 1e150], [0.0; 3]] {
            let neighbors = Neighbors { k: 3, index: vec![4, 8, 80], distance: distance.to_vec() };
            let placed = umap_place(&neighbors, &layout, 2, &how(100), &ctx(1)).unwrap();
            assert!(placed.iter().all(|x| x.is_finite()), "{distance:?} {placed:?}");
        }
        let none = Neighbors { k: 3, index: vec![], distance: vec![] };
        assert!(umap_place(&none, &layout, 2, &how(9), &ctx(2)).unwrap().is_empty());
        // All cells of the reference in one place.
        let (neighbors, _) = example(10, 90, 3);
        let placed = umap_place(&neighbors, &[0.0; 180], 2, &how(9), &ctx(2)).unwrap();
        assert_eq!(placed, [0.0; 20]);
    }

    struct StopAt(u64);
    impl Monitor for StopAt {
        fn poll(&self, stage: &str, done: u64, _: u64) -> bool {
            stage != "Layout" || done < self.0
        }
    }

    #[test]
    fn a_monitor_and_a_budget_stop_it() {
        let (neighbors, layout) = example(3000, 300, 10);
        let stopping = Ctx::new(2, 1 << 30, PathBuf::new(), &StopAt(2));
        let outcome = umap_place(&neighbors, &layout, 2, &how(1_000_000), &stopping);
        assert!(matches!(outcome, Err(Error::Interrupted)));
        // Up to 64 MiB are never refused.
        let many = Neighbors { k: 1, index: vec![0; 4 << 20], distance: vec![1.0; 4 << 20] };
        let small = Ctx::new(2, 1, PathBuf::new(), &Silent);
        let outcome = umap_place(&many, &layout, 2, &how(1), &small);
        assert!(matches!(outcome, Err(Error::OverBudget { .. })));
    }

    #[test]
    fn bad_layouts_are_refused() {
        let (neighbors, layout) = example(10, 60, 3);
        let run = |layout: &[f64], n_dims, how: Descent| {
            umap_place(&neighbors, layout, n_dims, &how, &ctx(1))
        };
        for bad in [f64::NAN, f64::INFINITY, -1e19] {
            let mut layout = layout.clone();
            layout[7] = bad;
            assert!(run(&layout, 2, how(1)).is_err(), "{bad}");
        }
        assert!(run(&layout[1..], 2, how(1)).is_err());
        assert!(run(&layout, 0, how(1)).is_err());
        assert!(run(&vec![0.0; 65 * 60], 65, how(1)).is_err());
        let fast = Descent { learning_rate: f64::MAX, ..how(10) };
        assert!(matches!(run(&layout, 2, fast), Err(Error::InvalidValues { .. })));
    }
}
