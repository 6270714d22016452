//! Centres to start soft clusters from.

use std::sync::{Mutex, PoisonError};

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::ctx::Ctx;
use crate::error::Result;
use crate::stats::random::Rng;

/// Random starts, of which the best is kept.
const STARTS: usize = 10;

/// Iterations of a start.
const ITERATIONS: usize = 25;

/// Points that are looked at: so many for each centre, and at least so many.
const PER_CENTER: usize = 100;
const AT_LEAST: usize = 10_000;

/// Points compared with the centres at a time.
const TILE: usize = 256;

/// `k` centres of `n` points in `d` dimensions, row after row: the best of ten
/// runs of Lloyd's algorithm, each started as k-means++ (Arthur & Vassilvitskii
/// 2007). Of many points a random part is looked at.
///
/// `row_of[i]` is what the draw of point `i` depends on besides `seed`.
pub(super) fn kmeans_centers(
    points: &[f64],
    d: usize,
    row_of: &[usize],
    k: usize,
    seed: u64,
    ctx: &Ctx,
) -> Result<Vec<f64>> {
    let sample = Sample::new(points, d, row_of, k, seed);
    let found: Vec<_> = (0..STARTS).map(|_| Mutex::new(None)).collect();
    ctx.parallel("Starting clusters", STARTS, Vec::new, |start, scores| {
        // Streams of rows end where indices of cells do.
        let mut rng = Rng::new(seed, u64::MAX - start as u64);
        let mut centers = sample.spread(k, &mut rng);
        let inertia = sample.settle(&mut centers, scores);
        *found[start].lock().unwrap_or_else(PoisonError::into_inner) = Some((inertia, centers));
        Ok(())
    })?;
    let best = found
        .into_iter()
        .filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
        .reduce(|best, next| if next.0 < best.0 { next } else { best });
    Ok(best.map(|(_, centers)| centers).unwrap_or_default())
}

struct Sample {
    n: usize,
    d: usize,
    values: Vec<f64>,
    /// Sum of the squared lengths.
    squares: f64,
}

impl Sample {
    fn new(points: &[f64], d: usize, row_of: &[usize], k: usize, seed: u64) -> Self {
        let most = AT_LEAST.max(PER_CENTER * k);
        let mut chosen: Vec<(u64, usize)> = row_of
            .iter()
            .enumerate()
            .map(|(i, &row)| (Rng::new(seed, row as u64).next_u64(), i))
            .collect();
        chosen.sort_by_key(|&(key, i)| (key, row_of[i]));
        chosen.truncate(most);
        let mut values = Vec::with_capacity(chosen.len() * d);
        for &(_, i) in &chosen {
            values.extend_from_slice(&points[i * d..(i + 1) * d]);
        }
        let squares = values.iter().map(|x| x * x).sum();
        Sample { n: chosen.len(), d, values, squares }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.d..(i + 1) * self.d]
    }

    /// Each further centre is a point drawn in proportion to its squared distance
    /// from the nearest centre so far.
    fn spread(&self, k: usize, rng: &mut Rng) -> Vec<f64> {
        let mut centers = Vec::with_capacity(k * self.d);
        let mut nearest = vec![f64::INFINITY; self.n];
        let mut next = rng.below(self.n as u64) as usize;
        loop {
            centers.extend_from_slice(self.row(next));
            if centers.len() == k * self.d {
                return centers;
            }
            let mut total = 0.0;
            for (i, nearest) in nearest.iter_mut().enumerate() {
                let pairs = self.row(i).iter().zip(self.row(next));
                let distance: f64 = pairs.map(|(x, y)| (x - y) * (x - y)).sum();
                *nearest = nearest.min(distance);
                total += *nearest;
            }
            next = if total > 0.0 {
                let mut left = rng.uniform() * total;
                // Rounding may leave something at the end.
                nearest
                    .iter()
                    .position(|&distance| {
                        left -= distance;
                        left < 0.0
                    })
                    .unwrap_or(self.n - 1)
            } else {
                rng.below(self.n as u64) as usize
            };
        }
    }

    /// Moves centres to the means of the points nearest to them until nothing
    /// changes. Returns the sum of squared distances.
    fn settle(&self, centers: &mut [f64], scores: &mut Vec<f64>) -> f64 {
        let d = self.d;
        let k = centers.len() / d;
        let mut assigned = vec![u32::MAX; self.n];
        let mut inertia = f64::INFINITY;
        for _ in 0..ITERATIONS {
            let halves: Vec<f64> = centers
                .chunks(d)
                .map(|center| center.iter().map(|x| x * x).sum::<f64>() / 2.0)
                .collect();
            let mut sums = vec![0.0; k * d];
            let mut sizes = vec![0_u64; k];
            let (mut changed, mut gain) = (false, 0.0);
            for begin in (0..self.n).step_by(TILE) {
                let size = TILE.min(self.n - begin);
                scores.resize(TILE * k, 0.0);
                let points = &self.values[begin * d..(begin + size) * d];
                matmul(
                    MatMut::from_row_major_slice_mut(&mut scores[..size * k], size, k),
                    Accum::Replace,
                    MatRef::from_row_major_slice(points, size, d),
                    MatRef::from_row_major_slice(centers, k, d).transpose(),
                    1.0,
                    Par::Seq,
                );
                for (i, scores) in scores[..size * k].chunks(k).enumerate() {
                    let (mut best, mut at) = (f64::NEG_INFINITY, 0);
                    for (c, (score, half)) in scores.iter().zip(&halves).enumerate() {
                        if score - half > best {
                            (best, at) = (score - half, c);
                        }
                    }
                    gain += best;
                    changed |= assigned[begin + i] != at as u32;
                    assigned[begin + i] = at as u32;
                    sizes[at] += 1;
                    let sum = &mut sums[at * d..(at + 1) * d];
                    for (sum, x) in sum.iter_mut().zip(self.row(begin + i)) {
                        *sum += x;
                    }
                }
            }
            // |x - c|² = |x|² - 2 (x'c - |c|²/2)
            inertia = self.squares - 2.0 * gain;
            if !changed {
                break;
            }
            for ((center, sum), size) in centers.chunks_mut(d).zip(sums.chunks(d)).zip(&sizes) {
                // A centre without points stays where it is.
                if *size > 0 {
                    for (x, sum) in center.iter_mut().zip(sum) {
                        *x = sum / *size as f64;
                    }
                }
            }
        }
        inertia
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Silent;

    fn ctx(threads: usize) -> Ctx<'static> {
        Ctx::new(threads, 1 << 30, std::path::PathBuf::new(), &Silent)
    }

    #[test]
    fn blobs_far_apart_have_one_centre_each() {
        let mut rng = Rng::new(1, 1);
        let points: Vec<f64> = (0..300)
            .flat_map(|i| {
                let at = f64::from(i % 3) * 10.0;
                [at + rng.uniform(), 5.0 - at + rng.uniform()]
            })
            .collect();
        let rows: Vec<usize> = (0..300).collect();
        let centers = kmeans_centers(&points, 2, &rows, 3, 7, &ctx(1)).unwrap();
        assert_eq!(centers, kmeans_centers(&points, 2, &rows, 3, 7, &ctx(4)).unwrap());
        let mut first: Vec<f64> = centers.chunks(2).map(|c| c[0]).collect();
        first.sort_by(f64::total_cmp);
        for (blob, x) in first.iter().enumerate() {
            let members = points.chunks(2).filter(|p| (p[0] / 10.0) as usize == blob);
            let mean = members.map(|p| p[0]).sum::<f64>() / 100.0;
            assert!((x - mean).abs() < 1e-12);
        }
    }

    #[test]
    fn equal_points_are_fine() {
        let rows: Vec<usize> = (0..20).collect();
        let centers = kmeans_centers(&[1.5; 40], 2, &rows, 4, 0, &ctx(2)).unwrap();
        assert_eq!(centers, [1.5; 8]);
    }
}
