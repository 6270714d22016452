//! Exact nearest neighbours.
//!
//! Problem: all pairs of n cells in d dimensions are n² d differences in float64,
//! minutes for a hundred thousand cells. Solution: cells are put into groups of near ones
//! ([`tree`]); pairs of groups that are too far apart are left out, products of a few
//! leading dimensions in float32 bound the separation of every other pair from below
//! ([`screen`]), and only the few pairs that the bounds do not rule out are looked at in
//! float64. The bounds are rigorous, so the result is that of comparing all pairs, and does
//! not depend on the kernels of the product: the same bits on every machine and for any
//! number of threads.

mod kernel;
mod nearest;
mod rough;
mod screen;
mod tree;

use std::sync::{Mutex, PoisonError};

use nearest::Nearest;
use rough::{Frame, Rough};
use screen::Screen;
use tree::{LEAF, Tree};

use super::neighbors::Neighbors;
use super::points::{Metric, Points};
use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Cells that are compared with a tile of others at a time where no product bounds their
/// separation.
const CANDIDATES: usize = 512;

/// The `k` nearest other points of each. Points at the same distance are ordered
/// by index.
///
/// Memory: about `4 n (d + 5)` bytes for the points in float32, twice as much while they are
/// put in order and then `12 n k` for the result, and for each thread about `6 n` and 1 MB.
///
/// # Errors
/// [`Error::InvalidInput`] unless there are more points than `k`, and when `ctx` stops.
pub fn exact_neighbors(points: &Points, k: usize, ctx: &Ctx) -> Result<Neighbors> {
    check_size(points.len(), k)?;
    table(Pairs { queries: points, points, same: true, k }, ctx)
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
    table(Pairs { queries, points, same: false, k }, ctx)
}

/// Points that are searched for the neighbours of others, or of themselves.
#[derive(Clone, Copy)]
struct Pairs<'p> {
    queries: &'p Points<'p>,
    points: &'p Points<'p>,
    /// Whether both are the same, and no point is its own neighbour.
    same: bool,
    /// How many are wanted.
    k: usize,
}

impl Pairs<'_> {
    /// Hands the nearest of every query to `take`, tile by tile, with the queries of the tile.
    fn search(
        &self,
        ctx: &Ctx,
        take: impl Fn(&[u32], &[Nearest]) -> Result<()> + Sync,
    ) -> Result<()> {
        // No product bounds a sum of absolute differences.
        if self.points.metric() == Metric::Manhattan {
            let search = |queries: &[u32], found: &mut [Nearest], work: &mut [Vec<f64>; 2]| {
                search_all(self, queries, found, work);
            };
            let tree = Tree::none(self.queries.len());
            return for_tiles(&tree, self.k, ctx, Default::default, search, take);
        }
        let frame = Frame::new(self.points, (!self.same).then_some(self.queries));
        let others = (!self.same).then(|| Tree::new(&Rough::new(self.queries, &frame)));
        let rough = Rough::new(self.points, &frame);
        let tree = Tree::new(&rough);
        let screen = Screen::new(self, &tree, frame, rough);
        let search = |queries: &[u32], found: &mut [Nearest], work: &mut screen::Work| {
            screen.search(self, &tree, queries, found, work);
        };
        let queries = others.as_ref().unwrap_or(&tree);
        for_tiles(queries, self.k, ctx, screen::Work::default, search, take)
    }
}

/// The nearest of every query as a table.
fn table(pairs: Pairs, ctx: &Ctx) -> Result<Neighbors> {
    let (n, k) = (pairs.queries.len(), pairs.k);
    // Zeroed memory takes none until it is written.
    let found = Neighbors { k, index: vec![0; n * k], distance: vec![0.0; n * k] };
    let found = Mutex::new(found);
    pairs.search(ctx, |queries, nearest| {
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        for (&i, nearest) in queries.iter().zip(nearest) {
            fill(&mut found, pairs.points, i as usize, nearest);
        }
        Ok(())
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Writes a row of the table.
fn fill(found: &mut Neighbors, points: &Points, i: usize, nearest: &Nearest) {
    let row = i * found.k..(i + 1) * found.k;
    let out = found.index[row.clone()].iter_mut().zip(&mut found.distance[row]);
    for ((index, distance), &(separation, j)) in out.zip(nearest.entries()) {
        *index = j;
        *distance = points.distance(separation);
    }
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
    let found = Neighbors { k, index: vec![0; n * k], distance: vec![0.0; n * k] };
    let found = Mutex::new(found);
    let search = |queries: &[u32], nearest: &mut [Nearest], [x, y]: &mut [Vec<f64>; 2]| {
        for (&i, nearest) in queries.iter().zip(nearest) {
            let i = i as usize;
            points.read_all(&[i].into_iter(), x);
            for c in 0..width {
                let position = usize::try_from(candidates[c * n + i]).unwrap_or(0);
                if position == 0 || position > n || position == i + 1 {
                    continue;
                }
                let j = (position - 1) as u32;
                if nearest.entries().iter().all(|&(_, seen)| seen != j) {
                    points.read_all(&[j as usize].into_iter(), y);
                    nearest.offer(points.separation(x, y), j);
                }
            }
        }
    };
    for_tiles(&Tree::none(n), k, ctx, Default::default, search, |queries, nearest| {
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        for (&i, nearest) in queries.iter().zip(nearest) {
            let have = nearest.entries().len();
            if have < k {
                return Err(Error::InvalidInput {
                    argument: "candidates",
                    message: format!("cell {} has {have} of {k} neighbours", i + 1),
                });
            }
            fill(&mut found, points, i as usize, nearest);
        }
        Ok(())
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
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
/// Memory: 4 bytes a point for the result, whatever `k`, and otherwise as [`exact_neighbors`].
///
/// # Errors
/// As [`exact_neighbors`].
pub fn count_neighbors(points: &Points, k: usize, first: usize, ctx: &Ctx) -> Result<Vec<u32>> {
    check_size(points.len(), k)?;
    let counts = Mutex::new(vec![0_u32; points.len()]);
    Pairs { queries: points, points, same: true, k }.search(ctx, |queries, found| {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (&i, nearest) in queries.iter().zip(found) {
            let among = nearest.entries().iter().filter(|(_, j)| *j as usize >= first);
            counts[i as usize] = among.count() as u32;
        }
        Ok(())
    })?;
    Ok(counts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Runs `search` over the leaves of queries and hands what it finds to `take`, with the queries.
fn for_tiles<W>(
    queries: &Tree,
    k: usize,
    ctx: &Ctx,
    work: impl Fn() -> W + Sync,
    search: impl Fn(&[u32], &mut [Nearest], &mut W) + Sync,
    take: impl Fn(&[u32], &[Nearest]) -> Result<()> + Sync,
) -> Result<()> {
    ctx.parallel(
        "Nearest neighbours",
        queries.leaves.len(),
        || ((0..LEAF).map(|_| Nearest::new(k)).collect::<Vec<_>>(), work()),
        |tile, (found, work)| {
            let queries = queries.points(tile);
            let found = &mut found[..queries.len()];
            found.iter_mut().for_each(Nearest::clear);
            search(queries, found, work);
            take(queries, found)
        },
    )
}

/// Every pair.
fn search_all(pairs: &Pairs, queries: &[u32], found: &mut [Nearest], [xs, ys]: &mut [Vec<f64>; 2]) {
    let (n, d) = (pairs.points.len(), pairs.points.dimensions());
    pairs.queries.read_all(&queries.iter().map(|&i| i as usize), xs);
    for begin in (0..n).step_by(CANDIDATES) {
        let candidates = begin..(begin + CANDIDATES).min(n);
        pairs.points.read_all(&candidates, ys);
        for ((&i, x), nearest) in queries.iter().zip(xs.chunks_exact(d)).zip(found.iter_mut()) {
            for (j, y) in candidates.clone().zip(ys.chunks_exact(d)) {
                let separation = pairs.points.separation(x, y);
                let is_itself = pairs.same && j == i as usize;
                if separation <= nearest.limit() && !is_itself {
                    nearest.offer(separation, j as u32);
                }
            }
        }
    }
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
        let rows: Vec<Vec<f64>> = (0..n).map(|i| points.point(i)).collect();
        let (mut index, mut distance) = (Vec::new(), Vec::new());
        for i in 0..n {
            let mut all: Vec<(f64, u32)> = (0..n)
                .filter(|&j| j != i)
                .map(|j| (points.separation(&rows[i], &rows[j]), j as u32))
                .collect();
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
            let points = Points::from_columns(cloud(700, 5, 0.0, true), 700, metric).unwrap();
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
                let points = Points::from_columns(cloud(n, d, 0.3, false), n, metric).unwrap();
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
            let points = Points::from_columns(cloud(700, 11, 0.3, false), 700, metric).unwrap();
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
                        .map(|j| (points.separation(&queries.point(i), &points.point(j)), j as u32))
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

    /// Groups of points apart in a few dimensions, around each other in many.
    fn groups(n: usize, d: usize, apart: f64) -> Vec<f64> {
        let mut rng = Rng::new(3, n as u64);
        let mut values = Vec::new();
        for j in 0..d {
            let places: Vec<f64> = (0..7).map(|_| apart * (rng.uniform() - 0.5)).collect();
            for i in 0..n {
                let noise = rng.uniform() + rng.uniform() + rng.uniform();
                values.push(noise + if j < 4 { places[i % 7] } else { 0.0 });
            }
        }
        values
    }

    /// The `k` nearest of some cells are those of all pairs.
    fn assert_nearest(points: &Points, found: &Neighbors, every: usize, what: &str) {
        let rows: Vec<Vec<f64>> = (0..points.len()).map(|i| points.point(i)).collect();
        for i in (0..points.len()).step_by(every) {
            let mut all: Vec<(f64, u32)> = (0..points.len())
                .filter(|&j| j != i)
                .map(|j| (points.separation(&rows[i], &rows[j]), j as u32))
                .collect();
            all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let want: Vec<u32> = all[..found.k].iter().map(|x| x.1).collect();
            assert_eq!(found.of(i).0, want, "{what}, cell {i}");
            for (x, want) in found.of(i).1.iter().zip(&all) {
                assert_eq!(*x, points.distance(want.0), "{what}, cell {i}");
            }
        }
    }

    /// More points than the choice of heads needs, so that heads, balls and planes are used.
    #[test]
    fn many_points_lose_no_neighbour() {
        let n = 5000;
        for apart in [0.0, 4.0, 1000.0] {
            for metric in [Metric::Euclidean, Metric::Cosine, Metric::Correlation] {
                let points = Points::from_columns(groups(n, 22, apart), n, metric).unwrap();
                let found = exact_neighbors(&points, 15, &ctx(2)).unwrap();
                assert_nearest(&points, &found, 23, &format!("{apart} apart, {metric:?}"));
            }
        }
    }

    #[test]
    fn many_points_of_awkward_shapes_lose_no_neighbour() {
        let n = 4600;
        let mut line = groups(n, 9, 0.0);
        for i in 0..n {
            for j in 1..9 {
                line[j * n + i] = line[i] * j as f64;
            }
        }
        let mut lattice = groups(n, 9, 3.0);
        for x in &mut lattice {
            *x = x.round();
        }
        let mut far = groups(n, 9, 10.0);
        for x in &mut far {
            *x += 1e9;
        }
        let mut outlier = groups(n, 9, 10.0);
        outlier[17] = 1e12;
        let mut copies = groups(n, 9, 10.0);
        for j in 0..9 {
            copies[j * n..j * n + 2000].fill(0.5);
        }
        let huge: Vec<f64> = groups(n, 9, 10.0).iter().map(|x| x * 1e148).collect();
        let tiny: Vec<f64> = groups(n, 9, 10.0).iter().map(|x| x * 1e-120).collect();
        let shapes = [
            ("a line", line),
            ("a lattice", lattice),
            ("far off", far),
            ("an outlier", outlier),
            ("copies", copies),
            ("huge", huge),
            ("tiny", tiny),
        ];
        for (what, columns) in shapes {
            let points = Points::from_columns(&columns, n, Metric::Euclidean).unwrap();
            let found = exact_neighbors(&points, 12, &ctx(2)).unwrap();
            assert_nearest(&points, &found, 23, what);
        }
    }

    #[test]
    fn nearly_all_points_can_be_wanted() {
        let points = Points::from_columns(groups(900, 6, 9.0), 900, Metric::Euclidean).unwrap();
        let found = exact_neighbors(&points, 899, &ctx(2)).unwrap();
        assert_nearest(&points, &found, 50, "all others");
    }

    #[test]
    fn many_queries_find_the_nearest_among_many() {
        let points = Points::from_columns(groups(4500, 14, 5.0), 4500, Metric::Euclidean);
        let queries = Points::from_columns(groups(1200, 14, 6.0), 1200, Metric::Euclidean);
        let (points, queries) = (points.unwrap(), queries.unwrap());
        let found = nearest_among(&queries, &points, 8, &ctx(2)).unwrap();
        for i in (0..1200).step_by(5) {
            let mut all: Vec<(f64, u32)> = (0..4500)
                .map(|j| (points.separation(&queries.point(i), &points.point(j)), j as u32))
                .collect();
            all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let want: Vec<u32> = all[..8].iter().map(|x| x.1).collect();
            assert_eq!(found.of(i).0, want);
        }
    }

    #[test]
    fn threads_do_not_matter() {
        let points = Points::from_columns(groups(5000, 20, 3.0), 5000, Metric::Cosine).unwrap();
        let one = exact_neighbors(&points, 10, &ctx(1)).unwrap();
        for threads in [2, 4] {
            assert!(one == exact_neighbors(&points, 10, &ctx(threads)).unwrap());
        }
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
