//! Where points begin.

use crate::stats::random::Rng;

/// The range of each dimension.
const RANGE: f64 = 10.0;

/// The range of the noise.
const NOISE: f64 = 4e-4;

/// The dimensions of `n` points, one after the other, each from zero to ten and with a
/// little noise, so that no two points are in one place: as umap-learn.
///
/// A dimension in which all points are in one place stays there.
pub(super) fn spread(start: &[f64], n: usize, seed: u64) -> Vec<f32> {
    // The descent draws from other places of the seed.
    let mut rng = Rng::new(seed, 0);
    let mut points = Vec::with_capacity(start.len());
    for dimension in start.chunks(n.max(1)) {
        let lowest = dimension.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = dimension.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Halves, whose difference is finite.
        let half = highest / 2.0 - lowest / 2.0;
        for x in dimension {
            let share = if half > 0.0 { (x / 2.0 - lowest / 2.0) / half } else { 0.0 };
            points.push((RANGE * share + NOISE * (rng.uniform() - 0.5)) as f32);
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dimension_has_the_same_range() {
        let start = [-1.0, 0.0, 3.0, f64::MAX, f64::MIN, 0.0, 2.0, 2.0, 2.0];
        let wanted = [0.0, 2.5, 10.0, 10.0, 0.0, 5.0, 0.0, 0.0, 0.0];
        let points = spread(&start, 3, 1);
        for (x, y) in points.iter().zip(wanted) {
            assert!((f64::from(*x) - y).abs() <= NOISE / 2.0 + 1e-6, "{points:?}");
        }
        assert!(points[6] != points[7] && points[7] != points[8]);
        assert_ne!(points, spread(&start, 3, 2));
        assert!(spread(&[], 0, 1).is_empty());
    }
}
