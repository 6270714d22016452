//! Points in groups of near ones.
//!
//! Points are cut in two along their direction of largest variance, and each part again,
//! until they are few. Whatever the groups, the search is exact; good ones let it
//! leave out most pairs.

use std::ops::Range;

use super::rough::{Rough, dot as dot_rough};

/// Most points of a leaf.
pub(super) const LEAF: usize = 384;

/// Points that a direction is estimated from.
const SAMPLE: usize = 256;

/// Multiplications with the covariance of the sample. The direction need not be good.
const ROUNDS: usize = 6;

/// An order of the points in which leaves stand together.
pub(super) struct Tree {
    pub(super) order: Vec<u32>,
    /// Positions in the order.
    pub(super) leaves: Vec<Range<usize>>,
}

impl Tree {
    pub(super) fn new(points: &Rough) -> Self {
        let n = points.len();
        let mut keys: Vec<(f32, u32)> = (0..n as u32).map(|i| (0.0, i)).collect();
        let mut leaves = Vec::new();
        let mut pending = Vec::from([Range { start: 0, end: n }]);
        while let Some(range) = pending.pop() {
            if range.len() <= LEAF {
                leaves.push(range);
                continue;
            }
            let part = &mut keys[range.clone()];
            let direction: Vec<f32> =
                direction(points, part).into_iter().map(|x| x as f32).collect();
            for (key, i) in part.iter_mut() {
                *key = dot_rough(points.row(*i as usize), &direction);
            }
            let middle = range.start + split(part);
            pending.push(middle..range.end);
            pending.push(range.start..middle);
        }
        Tree { order: keys.into_iter().map(|(_, i)| i).collect(), leaves }
    }

    /// So many points as they stand, in pieces.
    pub(super) fn none(n: usize) -> Self {
        let leaves = (0..n).step_by(LEAF).map(|at| at..(at + LEAF).min(n)).collect();
        Tree { order: (0..n as u32).collect(), leaves }
    }

    /// The points of a leaf.
    pub(super) fn points(&self, leaf: usize) -> &[u32] {
        &self.order[self.leaves[leaf].clone()]
    }
}

/// Puts smaller keys first, and says how many they are: those on one side of the gap that
/// leaves least variance in both parts, or half of them.
fn split(part: &mut [(f32, u32)]) -> usize {
    let n = part.len();
    let mut sample: Vec<f64> =
        part.iter().step_by(n.div_ceil(SAMPLE)).map(|x| f64::from(x.0)).collect();
    sample.sort_unstable_by(f64::total_cmp);
    let (size, total) = (sample.len(), sample.iter().sum::<f64>());
    let mut best = (f64::NEG_INFINITY, 0.0);
    let mut sum = 0.0;
    for at in 1..size {
        sum += sample[at - 1];
        let (low, high) = (at as f64, (size - at) as f64);
        let between = low * high * ((total - sum) / high - sum / low).powi(2);
        if at >= size / 8 && at <= size - size / 8 && between > best.0 {
            best = (between, f64::midpoint(sample[at - 1], sample[at]));
        }
    }
    let mut low = 0;
    for at in 0..n {
        if f64::from(part[at].0) < best.1 {
            part.swap(low, at);
            low += 1;
        }
    }
    if (n / 16..=n - n / 16).contains(&low) && low > 0 && low < n {
        return low;
    }
    part.select_nth_unstable_by(n / 2, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    n / 2
}

/// About the direction in which some of these points vary most.
fn direction(points: &Rough, part: &[(f32, u32)]) -> Vec<f64> {
    let d = points.dimensions();
    let step = part.len().div_ceil(SAMPLE);
    let sample: Vec<Vec<f64>> =
        part.iter().step_by(step).map(|&(_, i)| points.point(i as usize)).collect();
    let mut mean = vec![0.0; d];
    for row in &sample {
        for (sum, x) in mean.iter_mut().zip(row) {
            *sum += x / sample.len() as f64;
        }
    }
    let mut largest = vec![0.0; d];
    for row in &sample {
        for ((most, x), m) in largest.iter_mut().zip(row).zip(&mean) {
            *most = f64::max(*most, (x - m).abs());
        }
    }
    let mut direction = largest;
    for _ in 0..ROUNDS {
        if !normalize(&mut direction) {
            break;
        }
        let shift = dot(&mean, &direction);
        let mut next = vec![0.0; d];
        for row in &sample {
            let along = dot(row, &direction) - shift;
            for ((sum, x), m) in next.iter_mut().zip(row).zip(&mean) {
                *sum += along * (x - m);
            }
        }
        direction = next;
    }
    normalize(&mut direction);
    direction
}

/// Gives a vector length one, unless it has none.
fn normalize(vector: &mut [f64]) -> bool {
    // Scaled first, so that squares do not overflow.
    let largest = vector.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return false;
    }
    let length = largest * vector.iter().map(|x| (x / largest).powi(2)).sum::<f64>().sqrt();
    for x in vector {
        *x /= length;
    }
    true
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    crate::stats::dot::dot(a, b)
}

#[cfg(test)]
mod tests {
    use super::super::rough::Frame;
    use super::super::{Metric, Points};
    use super::*;

    fn rough(columns: &[f64], n: usize) -> Rough {
        let points = Points::from_columns(columns, n, Metric::Euclidean).unwrap();
        Rough::new(&points, &Frame::new(&points, None))
    }

    #[test]
    fn every_point_is_in_one_leaf() {
        // Many equal ones among them, which nothing tells apart.
        for (n, equal) in [(0, 0), (1, 0), (LEAF, 0), (LEAF + 1, LEAF + 1), (3000, 2000)] {
            let value = |at: usize| if at % n < equal { 1.0 } else { (at * 7919 % 1009) as f64 };
            let columns: Vec<f64> = (0..n * 3).map(value).collect();
            for tree in [Tree::new(&rough(&columns, n)), Tree::none(n)] {
                let mut seen = tree.order.clone();
                seen.sort_unstable();
                assert_eq!(seen, (0..n as u32).collect::<Vec<_>>());
                let mut end = 0;
                for leaf in tree.leaves {
                    assert_eq!(leaf.start, end);
                    assert!(leaf.len() <= LEAF);
                    end = leaf.end;
                }
                assert_eq!(end, n);
            }
        }
    }

    #[test]
    fn groups_that_are_apart_share_no_leaf() {
        let n = 1000;
        let group = |i: usize| usize::from(i % 5 == 0);
        let columns: Vec<f64> =
            (0..2 * n).map(|at| 50.0 * group(at % n) as f64 + (at * 31 % 17) as f64).collect();
        let tree = Tree::new(&rough(&columns, n));
        for leaf in 0..tree.leaves.len() {
            let members = tree.points(leaf);
            let first = group(members[0] as usize);
            assert!(members.iter().all(|&i| group(i as usize) == first), "leaf {leaf}");
        }
    }
}
