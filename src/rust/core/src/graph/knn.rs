//! Exact nearest neighbours.
//!
//! Problem: all pairs of n cells in d dimensions are n² d differences in float64,
//! minutes for a hundred thousand cells. Solution: a product of matrices in float32
//! bounds the separation of every pair from below, and only the few pairs that the
//! bound does not rule out are looked at in float64. The bound is rigorous, so the
//! result is that of comparing all pairs, and does not depend on the kernels of
//! the product: the same bits on every machine and for any number of threads.
//!
//! For 50 dimensions and 15 neighbours about one pair in 500 of 100,000 cells is
//! looked at.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::neighbors::Neighbors;
use super::points::{Metric, Points};
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Cells whose neighbours are searched together.
const QUERIES: usize = 128;

/// Cells that they are compared with at a time.
const CANDIDATES: usize = 512;

/// Scores that are compared with the bound at a time.
const STRIDE: usize = 16;

/// The `k` nearest other points of each. Points at the same distance are ordered
/// by index.
///
/// Memory: `12 n k` bytes, and 1 MB a thread.
///
/// # Errors
/// [`Error::InvalidInput`] unless there are more points than `k`, and when `ctx` stops.
pub fn exact_neighbors(points: &Points, k: usize, ctx: &Ctx) -> Result<Neighbors> {
    check_size(points.len(), k)?;
    search(Pairs { queries: points, points, same: true }, k, ctx)
}

/// The `k` nearest of `points` for each of `queries`.
///
/// # Errors
/// [`Error::InvalidInput`] unless there are `k` points of the dimensions and the
/// metric of the queries, and when `ctx` stops.
pub fn nearest_among(queries: &Points, points: &Points, k: usize, ctx: &Ctx) -> Result<Neighbors> {
    let alike = queries.dimensions() == points.dimensions() && queries.metric() == points.metric();
    if !alike || k == 0 || k > points.len() || u32::try_from(points.len()).is_err() {
        return Err(Error::InvalidInput {
            argument: "n_neighbors",
            message: format!("{} cells have no {k} to be nearest", points.len()),
        });
    }
    search(Pairs { queries, points, same: false }, k, ctx)
}

/// Points that are searched for the neighbours of others, or of themselves.
#[derive(Clone, Copy)]
struct Pairs<'p> {
    queries: &'p Points,
    points: &'p Points,
    /// Whether both are the same, and no point is its own neighbour.
    same: bool,
}

impl Pairs<'_> {
    /// `None` for a metric that is no product.
    fn screen(&self) -> Option<Screen> {
        (self.points.metric() != Metric::Manhattan).then(|| Screen::new(self))
    }

    fn separation(&self, i: usize, j: usize) -> f64 {
        self.queries.separation_from(i, self.points, j)
    }
}

fn search(pairs: Pairs, k: usize, ctx: &Ctx) -> Result<Neighbors> {
    let screen = pairs.screen();
    in_tiles(pairs.queries, k, ctx, |queries, found| match &screen {
        Some(screen) => screen.search(&pairs, queries, found),
        None => search_all(&pairs, queries, found),
    })
}

/// The `k` nearest of some candidates for each point, with distances computed
/// anew. `candidates` has as many positions from one on for each point as R's
/// matrix of them has columns; what is no other point is skipped.
///
/// # Errors
/// As [`exact_neighbors`]; [`Error::InvalidInput`] too where fewer than `k` are left.
///
/// # Panics
/// If `candidates` is not a whole number for each point.
pub fn ranked_neighbors(
    points: &Points,
    candidates: &[i32],
    k: usize,
    ctx: &Ctx,
) -> Result<Neighbors> {
    let n = points.len();
    check_size(n, k)?;
    assert_eq!(candidates.len() % n, 0, "not a table of candidates");
    let width = candidates.len() / n;
    in_tiles(points, k, ctx, |queries, found| {
        for (i, nearest) in queries.zip(found.iter_mut()) {
            for c in 0..width {
                let position = usize::try_from(candidates[c * n + i]).unwrap_or(0);
                if position == 0 || position > n || position == i + 1 {
                    continue;
                }
                let j = (position - 1) as u32;
                if nearest.entries.iter().all(|&(_, seen)| seen != j) {
                    nearest.offer(points.separation(i, j as usize), j);
                }
            }
        }
    })
}

fn check_size(n: usize, k: usize) -> Result<()> {
    if k > 0 && k < n && u32::try_from(n).is_ok() {
        return Ok(());
    }
    Err(Error::InvalidInput {
        argument: "n_neighbors",
        message: format!("{n} cells have no {k} nearest others each"),
    })
}

/// How many of the `k` nearest others of each point are among those from `first` on. Ties as
/// in [`exact_neighbors`].
///
/// Memory: 4 bytes a point, whatever `k`, and 1 MB a thread.
///
/// # Errors
/// As [`exact_neighbors`].
pub fn count_neighbors(points: &Points, k: usize, first: usize, ctx: &Ctx) -> Result<Vec<u32>> {
    check_size(points.len(), k)?;
    let pairs = Pairs { queries: points, points, same: true };
    let screen = pairs.screen();
    let mut counts = vec![0_u32; points.len()];
    let tiles: Vec<_> = counts.chunks_mut(QUERIES).map(Mutex::new).collect();
    let search = |queries: Range<usize>, found: &mut [Nearest]| match &screen {
        Some(screen) => screen.search(&pairs, queries, found),
        None => search_all(&pairs, queries, found),
    };
    for_tiles(points.len(), k, ctx, search, |tile, _, found| {
        let mut counts = tiles[tile].lock().unwrap_or_else(PoisonError::into_inner);
        for (count, nearest) in counts.iter_mut().zip(found) {
            let among = nearest.entries.iter().filter(|(_, j)| *j as usize >= first);
            *count = among.count() as u32;
        }
        Ok(())
    })?;
    drop(tiles);
    Ok(counts)
}

/// Runs `search` over tiles of cells and hands what it finds to `take`, with the number of
/// the tile and its cells.
fn for_tiles(
    n: usize,
    k: usize,
    ctx: &Ctx,
    search: impl Fn(Range<usize>, &mut [Nearest]) + Sync,
    take: impl Fn(usize, Range<usize>, &[Nearest]) -> Result<()> + Sync,
) -> Result<()> {
    ctx.parallel(
        "Nearest neighbours",
        n.div_ceil(QUERIES),
        || (0..QUERIES).map(|_| Nearest::new(k)).collect::<Vec<_>>(),
        |tile, found| {
            let queries = tile * QUERIES..((tile + 1) * QUERIES).min(n);
            for nearest in found.iter_mut() {
                nearest.entries.clear();
            }
            let found = &mut found[..queries.len()];
            search(queries.clone(), found);
            take(tile, queries, found)
        },
    )
}

/// Runs `search` over tiles of cells and collects what it finds.
fn in_tiles(
    points: &Points,
    k: usize,
    ctx: &Ctx,
    search: impl Fn(Range<usize>, &mut [Nearest]) + Sync,
) -> Result<Neighbors> {
    let n = points.len();
    let mut index = vec![0_u32; n * k];
    let mut distance = vec![0.0; n * k];
    let tiles: Vec<_> = index
        .chunks_mut(QUERIES * k)
        .zip(distance.chunks_mut(QUERIES * k))
        .map(Mutex::new)
        .collect();
    for_tiles(n, k, ctx, search, |tile, queries, found| {
        let mut slot = tiles[tile].lock().unwrap_or_else(PoisonError::into_inner);
        let (index, distance) = &mut *slot;
        for (q, nearest) in found.iter().enumerate() {
            if nearest.entries.len() < k {
                return Err(Error::InvalidInput {
                    argument: "candidates",
                    message: format!(
                        "cell {} has {} of {k} neighbours",
                        queries.start + q + 1,
                        nearest.entries.len()
                    ),
                });
            }
            for (at, &(separation, j)) in nearest.entries.iter().enumerate() {
                index[q * k + at] = j;
                distance[q * k + at] = points.distance(separation);
            }
        }
        Ok(())
    })?;
    drop(tiles);
    Ok(Neighbors { k, index, distance })
}

/// The nearest points seen so far, by separation, then index.
struct Nearest {
    k: usize,
    entries: Vec<(f64, u32)>,
}

impl Nearest {
    fn new(k: usize) -> Self {
        Nearest { k, entries: Vec::with_capacity(k + 1) }
    }

    /// What a further point must not exceed to be among the nearest.
    fn limit(&self) -> f64 {
        if self.entries.len() < self.k { f64::INFINITY } else { self.entries[self.k - 1].0 }
    }

    fn offer(&mut self, separation: f64, index: u32) {
        let before = |&(x, j): &(f64, u32)| x < separation || (x == separation && j < index);
        let at = self.entries.partition_point(before);
        if at < self.k {
            self.entries.insert(at, (separation, index));
            self.entries.truncate(self.k);
        }
    }
}

/// Every pair, for metrics that are no product.
fn search_all(pairs: &Pairs, queries: Range<usize>, found: &mut [Nearest]) {
    let n = pairs.points.len();
    for begin in (0..n).step_by(CANDIDATES) {
        let candidates = begin..(begin + CANDIDATES).min(n);
        for (i, nearest) in queries.clone().zip(found.iter_mut()) {
            for j in candidates.clone().filter(|&j| j != i || !pairs.same) {
                let separation = pairs.separation(i, j);
                if separation <= nearest.limit() {
                    nearest.offer(separation, j as u32);
                }
            }
        }
    }
}

/// What rules pairs out by a product in float32.
///
/// With x and y centred, |x - y|² <= t exactly where the score x'y - |y|²/2 is at
/// least (|x|² - t) / 2. Points are scaled so that the longest has length one;
/// an appended coordinate brings -|y|²/2 into the product.
struct Screen {
    centre: Vec<f64>,
    /// One over the length of the longest centred point or query.
    scale: f64,
    /// Squared lengths of the centred and scaled points.
    squares: Vec<f64>,
    /// Bound of the relative error of a product of d + 1 terms in float32, its
    /// inputs rounded, whatever the order of its sum.
    error: f64,
}

impl Screen {
    fn new(pairs: &Pairs) -> Self {
        let points = pairs.points;
        let (n, d) = (points.len(), points.dimensions());
        let mut centre = vec![0.0; d];
        for i in 0..n {
            for (sum, x) in centre.iter_mut().zip(points.row(i)) {
                *sum += x / n as f64;
            }
        }
        let mut squares: Vec<f64> = (0..n).map(|i| square(points.row(i), &centre)).collect();
        let mut longest = squares.iter().fold(0.0_f64, |m, &x| m.max(x));
        if !pairs.same {
            let queries = pairs.queries;
            longest =
                (0..queries.len()).map(|i| square(queries.row(i), &centre)).fold(longest, f64::max);
        }
        let longest = longest.sqrt();
        let scale = if longest > 0.0 { 1.0 / longest } else { 1.0 };
        for square in &mut squares {
            *square *= scale * scale;
        }
        let error = (d + 8) as f64 * f64::from(f32::EPSILON);
        Screen { centre, scale, squares, error }
    }

    /// Centred and scaled points with one more coordinate, in float32.
    fn pack(
        &self,
        points: &Points,
        which: Range<usize>,
        last: impl Fn(usize) -> f64,
        out: &mut Vec<f32>,
    ) {
        out.clear();
        for i in which {
            let row = points.row(i).iter().zip(&self.centre);
            out.extend(row.map(|(x, c)| ((x - c) * self.scale) as f32));
            out.push(last(i) as f32);
        }
    }

    fn search(&self, pairs: &Pairs, queries: Range<usize>, found: &mut [Nearest]) {
        let points = pairs.points;
        let (n, width) = (points.len(), points.dimensions() + 1);
        let mut left = Vec::with_capacity(QUERIES * width);
        let mut right = Vec::with_capacity(CANDIDATES * width);
        let mut scores = vec![0.0_f32; QUERIES * CANDIDATES];
        self.pack(pairs.queries, queries.clone(), |_| 1.0, &mut left);
        let left = MatRef::from_row_major_slice(&left, queries.len(), width);
        for begin in (0..n).step_by(CANDIDATES) {
            let candidates = begin..(begin + CANDIDATES).min(n);
            let size = candidates.len();
            self.pack(points, candidates.clone(), |j| -self.squares[j] / 2.0, &mut right);
            let right = MatRef::from_row_major_slice(&right, size, width);
            let scores = &mut scores[..queries.len() * size];
            // The scores of one query stand together.
            let product = MatMut::from_column_major_slice_mut(scores, size, queries.len());
            matmul(product, Accum::Replace, right, left.transpose(), 1.0, Par::Seq);
            let longest = self.squares[candidates].iter().fold(0.0_f64, |m, &x| m.max(x)).sqrt();
            for (q, (i, nearest)) in queries.clone().zip(found.iter_mut()).enumerate() {
                let scores = &scores[q * size..(q + 1) * size];
                self.look(pairs, i, begin, scores, longest, nearest);
            }
        }
    }

    /// Looks at the candidates from `begin` on that their scores do not rule out.
    fn look(
        &self,
        pairs: &Pairs,
        i: usize,
        begin: usize,
        scores: &[f32],
        longest: f64,
        nearest: &mut Nearest,
    ) {
        let square = square(pairs.queries.row(i), &self.centre) * (self.scale * self.scale);
        let mut least = self.least_score(square, longest, nearest.limit());
        for (block, scores) in scores.chunks(STRIDE).enumerate() {
            if scores.iter().fold(f32::NEG_INFINITY, |most, &s| most.max(s)) < least {
                continue;
            }
            for (at, &score) in scores.iter().enumerate() {
                let j = begin + block * STRIDE + at;
                if score < least || (j == i && pairs.same) {
                    continue;
                }
                let separation = pairs.separation(i, j);
                if separation <= nearest.limit() {
                    nearest.offer(separation, j as u32);
                    least = self.least_score(square, longest, nearest.limit());
                }
            }
        }
    }

    /// What the computed score of a point no further than `limit` from a query of
    /// this squared length, and no longer than `longest`, is never below.
    fn least_score(&self, square: f64, longest: f64, limit: f64) -> f32 {
        if limit == f64::INFINITY {
            return f32::NEG_INFINITY;
        }
        let least = (square - limit * self.scale * self.scale) / 2.0;
        let error = self.error * (square.sqrt() * longest + longest * longest);
        let rounding = 1e-6 * least.abs() + 1e-12 * square + 1e-30;
        (least - error - rounding) as f32
    }
}

/// Squared distance of a row from the centre.
fn square(row: &[f64], centre: &[f64]) -> f64 {
    row.iter().zip(centre).map(|(x, c)| (x - c) * (x - c)).sum()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::ctx::Silent;
    use crate::stats::random::Rng;

    fn ctx(threads: usize) -> Ctx<'static> {
        Ctx::new(threads, 1 << 30, PathBuf::new(), &Silent)
    }

    fn cloud(n: usize, d: usize, shift: f64, round: bool) -> Vec<f64> {
        let mut rng = Rng::new(7, d as u64);
        let spread = |j: usize| 10.0 / (1.0 + j as f64);
        (0..n * d)
            .map(|at| {
                let x = (rng.uniform() + rng.uniform() - 1.0) * spread(at / n);
                shift + if round { x.round() } else { x }
            })
            .collect()
    }

    /// Every pair, sorted.
    fn naive(points: &Points, k: usize) -> Neighbors {
        let n = points.len();
        let (mut index, mut distance) = (Vec::new(), Vec::new());
        for i in 0..n {
            let mut all: Vec<(f64, u32)> =
                (0..n).filter(|&j| j != i).map(|j| (points.separation(i, j), j as u32)).collect();
            all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            index.extend(all[..k].iter().map(|x| x.1));
            distance.extend(all[..k].iter().map(|x| points.distance(x.0)));
        }
        Neighbors { k, index, distance }
    }

    #[test]
    fn counted_neighbours_are_those_of_the_table() {
        for metric in [Metric::Euclidean, Metric::Manhattan] {
            // Rounded, so that points coincide.
            let points = Points::from_columns(&cloud(700, 5, 0.0, true), 700, metric).unwrap();
            let table = exact_neighbors(&points, 40, &ctx(2)).unwrap();
            let counts = count_neighbors(&points, 40, 500, &ctx(3)).unwrap();
            for (i, &count) in counts.iter().enumerate() {
                let among = table.of(i).0.iter().filter(|j| **j >= 500).count();
                assert_eq!(count as usize, among, "cell {i}");
            }
        }
    }

    #[test]
    fn the_nearest_are_those_of_all_pairs() {
        let metrics = [Metric::Euclidean, Metric::Cosine, Metric::Correlation, Metric::Manhattan];
        for (n, d, k) in [(700, 11, 9), (1100, 3, 30), (40, 60, 39), (2, 5, 1)] {
            for metric in metrics {
                let points = Points::from_columns(&cloud(n, d, 0.3, false), n, metric).unwrap();
                let found = exact_neighbors(&points, k, &ctx(2)).unwrap();
                assert!(found == naive(&points, k), "{n} points, {metric:?}");
            }
        }
    }

    /// Coordinates on a lattice have very many equal distances, all of which the
    /// bound must let through; a large common shift must not blur them.
    #[test]
    fn ties_are_ordered_by_index() {
        for shift in [0.0, 1e9] {
            let columns = cloud(900, 4, shift, true);
            let points = Points::from_columns(&columns, 900, Metric::Euclidean).unwrap();
            let found = exact_neighbors(&points, 12, &ctx(2)).unwrap();
            assert!(found == naive(&points, 12));
            let ties = found.distance.windows(2).filter(|pair| pair[0] == pair[1]).count();
            assert!(ties > 5000, "{ties}");
        }
    }

    #[test]
    fn the_nearest_among_others_are_those_of_all_pairs() {
        let metrics = [Metric::Euclidean, Metric::Cosine, Metric::Correlation, Metric::Manhattan];
        for metric in metrics {
            let points = Points::from_columns(&cloud(700, 11, 0.3, false), 700, metric).unwrap();
            // Further out than the points, with the first of them among them.
            let mut columns: Vec<f64> = cloud(300, 11, 0.2, false);
            for x in &mut columns {
                *x *= 30.0;
            }
            for j in 0..11 {
                columns[j * 300 + 5] = cloud(700, 11, 0.3, false)[j * 700];
            }
            let queries = Points::from_columns(&columns, 300, metric).unwrap();
            for k in [1, 9, 700] {
                let found = nearest_among(&queries, &points, k, &ctx(2)).unwrap();
                for i in 0..300 {
                    let mut all: Vec<(f64, u32)> = (0..700)
                        .map(|j| (queries.separation_from(i, &points, j), j as u32))
                        .collect();
                    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                    let want: Vec<u32> = all[..k].iter().map(|x| x.1).collect();
                    assert_eq!(found.of(i).0, want, "{metric:?}");
                }
                assert_eq!(found.of(5).0[0], 0);
            }
            assert!(nearest_among(&queries, &points, 701, &ctx(1)).is_err());
            assert!(nearest_among(&queries, &points, 0, &ctx(1)).is_err());
        }
    }

    #[test]
    fn outliers_and_equal_points_lose_no_neighbour() {
        let mut columns = cloud(600, 8, 0.0, false);
        // One cell a million times further out, two hundred in one place.
        columns[5] = 1e7;
        for j in 0..8 {
            columns[j * 600 + 300..j * 600 + 500].fill(0.25);
        }
        let points = Points::from_columns(&columns, 600, Metric::Euclidean).unwrap();
        assert!(exact_neighbors(&points, 15, &ctx(2)).unwrap() == naive(&points, 15));
        let zeros = Points::from_columns(&[0.0; 60], 20, Metric::Euclidean).unwrap();
        let found = exact_neighbors(&zeros, 3, &ctx(2)).unwrap();
        assert_eq!(found.of(0).0, [1, 2, 3]);
        assert_eq!(found.of(19), (&[0, 1, 2][..], &[0.0; 3][..]));
    }

    #[test]
    fn threads_do_not_matter() {
        let points = Points::from_columns(&cloud(1500, 20, 0.0, false), 1500, Metric::Cosine);
        let points = points.unwrap();
        let one = exact_neighbors(&points, 10, &ctx(1)).unwrap();
        assert!(one == exact_neighbors(&points, 10, &ctx(4)).unwrap());
    }

    #[test]
    fn candidates_are_ranked_anew() {
        let columns = [0.0, 1.0, 3.0, 6.0];
        let points = Points::from_columns(&columns, 4, Metric::Euclidean).unwrap();
        // From one on, in columns; itself, absent ones and repeats are skipped.
        let candidates = [4, 1, 2, 3, 1, 4, 2, 0, 2, 3, 1, 1, 2, 3, 9, 2];
        let found = ranked_neighbors(&points, &candidates, 2, &ctx(1)).unwrap();
        assert_eq!(found.index, [1, 3, 0, 2, 1, 0, 2, 1]);
        assert_eq!(found.distance, [1.0, 6.0, 1.0, 2.0, 2.0, 3.0, 3.0, 5.0]);
        let few = ranked_neighbors(&points, &[2, 1, 1, 1], 2, &ctx(1));
        assert!(few.unwrap_err().to_string().contains("cell 1 has 1 of 2"));
    }

    #[test]
    fn too_few_points_are_refused() {
        let points = Points::from_columns(&[1.0, 2.0, 3.0], 3, Metric::Euclidean).unwrap();
        assert!(exact_neighbors(&points, 3, &ctx(1)).is_err());
        assert!(exact_neighbors(&points, 0, &ctx(1)).is_err());
        let none = Points::from_columns(&[], 0, Metric::Euclidean).unwrap();
        assert!(exact_neighbors(&none, 1, &ctx(1)).is_err());
    }
}
