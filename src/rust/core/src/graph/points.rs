//! Cells as points, and the distances between them.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// Squares of what is larger overflow.
const LARGEST: f64 = 1e150;

/// How far apart two points are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The straight line.
    Euclidean,
    /// One minus the cosine of the angle.
    Cosine,
    /// One minus Pearson's correlation.
    Correlation,
    /// The sum of absolute differences.
    Manhattan,
}

impl Metric {
    /// The metric of this name, as R and scanpy spell it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "euclidean" => Some(Metric::Euclidean),
            "cosine" => Some(Metric::Cosine),
            "correlation" => Some(Metric::Correlation),
            "manhattan" => Some(Metric::Manhattan),
            _ => None,
        }
    }
}

/// Rows that are looked at together.
const TILE: usize = 384;

/// Some points of equal dimension, where they are, and their metric.
///
/// For the angular metrics coordinates are handed out with length one: half the squared
/// straight line between two points is then one minus the cosine, without its
/// cancellation.
#[derive(Debug, Clone)]
pub struct Points<'x> {
    n: usize,
    d: usize,
    metric: Metric,
    /// One dimension after the other.
    columns: Cow<'x, [f64]>,
}

impl<'x> Points<'x> {
    /// The points whose coordinates stand one dimension after the other, as R
    /// keeps a matrix. Borrowed ones are not copied.
    ///
    /// # Errors
    /// [`Error::InvalidValues`] for a value that is not finite or whose square
    /// overflows and, under an angular metric, for a point without direction.
    ///
    /// # Panics
    /// If `columns` does not hold a multiple of `n` values.
    pub fn from_columns(
        columns: impl Into<Cow<'x, [f64]>>,
        n: usize,
        metric: Metric,
    ) -> Result<Self> {
        let columns = columns.into();
        let d = columns.len().checked_div(n).unwrap_or(0);
        assert_eq!(columns.len(), n * d, "not a matrix");
        if let Some(at) = columns.iter().position(|x| x.is_nan() || x.abs() > LARGEST) {
            let what = if columns[at].is_finite() { "too large" } else { "not finite" };
            return Err(Error::InvalidValues {
                message: format!(
                    "the embedding has a value that is {what}, at cell {}, dimension {}",
                    at % n + 1,
                    at / n + 1
                ),
            });
        }
        let points = Points { n, d, metric, columns };
        if points.is_angular() {
            points.check_directions()?;
        }
        Ok(points)
    }

    fn is_angular(&self) -> bool {
        matches!(self.metric, Metric::Cosine | Metric::Correlation)
    }

    fn check_directions(&self) -> Result<()> {
        let mut lost = None;
        self.each(|i, row| {
            if lost.is_none() && row.iter().all(|&x| x == 0.0) {
                lost = Some(i);
            }
        });
        let Some(i) = lost else { return Ok(()) };
        Err(Error::InvalidValues {
            message: format!(
                "cell {} has no direction in the embedding: all its values are equal",
                i + 1
            ),
        })
    }

    /// Gives a row length one, after its mean is taken away for correlations. What has no
    /// direction becomes zero.
    fn normalize(&self, row: &mut [f64]) {
        if self.metric == Metric::Correlation {
            let mean = row.iter().sum::<f64>() / row.len() as f64;
            for x in row.iter_mut() {
                *x -= mean;
            }
        }
        // Scaled first, so that squares neither overflow nor vanish.
        let largest = row.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        if largest == 0.0 {
            return;
        }
        for x in row.iter_mut() {
            *x /= largest;
        }
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        for x in row.iter_mut() {
            *x /= length;
        }
    }

    /// Number of points.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Number of dimensions.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.d
    }

    /// The metric they are ready for.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The coordinates of a point.
    #[must_use]
    pub fn point(&self, i: usize) -> Vec<f64> {
        let mut row = vec![0.0; self.d];
        self.read(i, &mut row);
        row
    }

    /// As [`Points::point`], into memory that is there.
    pub(super) fn read(&self, i: usize, row: &mut [f64]) {
        for (x, column) in row.iter_mut().zip(self.columns.chunks_exact(self.n)) {
            *x = column[i];
        }
        if self.is_angular() {
            self.normalize(row);
        }
    }

    /// The coordinates of some points, point after point. One dimension is read after the
    /// other, so that reads do not wait for each other.
    pub(super) fn read_all(
        &self,
        which: &(impl ExactSizeIterator<Item = usize> + Clone),
        rows: &mut Vec<f64>,
    ) {
        rows.clear();
        rows.resize(which.len() * self.d, 0.0);
        for (j, column) in self.columns.chunks_exact(self.n.max(1)).enumerate() {
            for (row, i) in rows.chunks_exact_mut(self.d.max(1)).zip(which.clone()) {
                row[j] = column[i];
            }
        }
        if self.is_angular() {
            rows.chunks_exact_mut(self.d.max(1)).for_each(|row| self.normalize(row));
        }
    }

    /// Hands out the coordinates of every point in turn.
    pub(super) fn each(&self, mut take: impl FnMut(usize, &[f64])) {
        let mut rows = Vec::new();
        for begin in (0..self.n).step_by(TILE) {
            let tile = begin..(begin + TILE).min(self.n);
            self.read_all(&tile, &mut rows);
            for (i, row) in tile.zip(rows.chunks_exact(self.d.max(1))) {
                take(i, row);
            }
        }
    }

    /// What orders pairs as their distance does, of the coordinates of two points: the sum
    /// of absolute or of squared differences.
    #[must_use]
    pub fn separation(&self, x: &[f64], y: &[f64]) -> f64 {
        if self.metric == Metric::Manhattan {
            sum_over(x, y, f64::abs)
        } else {
            sum_over(x, y, |difference| difference * difference)
        }
    }

    /// The distance that a separation stands for.
    #[must_use]
    pub fn distance(&self, separation: f64) -> f64 {
        match self.metric {
            Metric::Euclidean => separation.sqrt(),
            Metric::Cosine | Metric::Correlation => separation / 2.0,
            Metric::Manhattan => separation,
        }
    }
}

/// The sum of `term(x - y)` in four interleaved sums, an order that compilers can
/// vectorise and that is the same everywhere.
#[inline]
fn sum_over(x: &[f64], y: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; 4];
    let (xs, ys) = (x.chunks_exact(4), y.chunks_exact(4));
    let rest = xs.remainder().iter().zip(ys.remainder()).map(|(a, b)| term(a - b)).sum::<f64>();
    for (a, b) in xs.zip(ys) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += term(a - b);
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_formulas() {
        // Two points in five dimensions: (1, 2, 3, 4, 5) and (2, 1, 0, -1, 7).
        let columns = [1.0, 2.0, 2.0, 1.0, 3.0, 0.0, 4.0, -1.0, 5.0, 7.0];
        let distance = |metric| {
            let points = Points::from_columns(&columns[..], 2, metric).unwrap();
            points.distance(points.separation(&points.point(0), &points.point(1)))
        };
        assert!((distance(Metric::Euclidean) - 40.0_f64.sqrt()).abs() < 1e-14);
        assert!((distance(Metric::Manhattan) - 12.0).abs() < 1e-14);
        let cosine = 35.0 / (55.0_f64 * 55.0).sqrt();
        assert!((distance(Metric::Cosine) - (1.0 - cosine)).abs() < 1e-14);
        // Centred: (-2, -1, 0, 1, 2) and (0.2, -0.8, -1.8, -2.8, 5.2).
        let correlation = 8.0 / (10.0_f64 * 38.8).sqrt();
        assert!((distance(Metric::Correlation) - (1.0 - correlation)).abs() < 1e-14);
    }

    #[test]
    fn unusable_values_are_named() {
        let message = |columns: &[f64], metric| {
            Points::from_columns(columns, 2, metric).unwrap_err().to_string()
        };
        let nan = message(&[1.0, 2.0, 3.0, f64::NAN], Metric::Euclidean);
        assert!(nan.contains("cell 2, dimension 2"), "{nan}");
        let large = message(&[1.0, 2.0, -1e200, 3.0], Metric::Euclidean);
        assert!(large.contains("too large, at cell 1, dimension 2"), "{large}");
        let zero = message(&[1.0, 0.0, 3.0, 0.0], Metric::Cosine);
        assert!(zero.contains("cell 2 has no direction"), "{zero}");
    }

    #[test]
    fn directions_of_very_long_and_very_short_points_are_kept() {
        let columns = [3e149, 3e-200, 4e149, 4e-200];
        let points = Points::from_columns(&columns, 2, Metric::Cosine).unwrap();
        assert!(points.separation(&points.point(0), &points.point(1)) < 1e-30);
    }
}
