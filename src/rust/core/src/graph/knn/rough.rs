//! Points in float32, for what need not be exact.

use super::Points;

/// Where points are seen from: their middle, with dimensions of largest variance first
/// and the longest point of length one.
pub(super) struct Frame {
    pub(super) centre: Vec<f64>,
    /// One over the length of the longest centred point or query.
    pub(super) scale: f64,
    /// Dimensions, those of largest variance first.
    pub(super) dimensions: Vec<usize>,
}

impl Frame {
    /// The frame of some points that others, the queries, are seen in too.
    pub(super) fn new(points: &Points, queries: Option<&Points>) -> Self {
        let (n, d) = (points.len(), points.dimensions());
        let mut centre = vec![0.0; d];
        points.each(|_, row| {
            for (sum, x) in centre.iter_mut().zip(row) {
                *sum += x / n as f64;
            }
        });
        let mut variances = vec![0.0; d];
        let mut longest = 0.0_f64;
        points.each(|_, row| {
            let mut square = 0.0;
            for ((sum, x), c) in variances.iter_mut().zip(row).zip(&centre) {
                let term = (x - c) * (x - c);
                square += term;
                *sum += term / n as f64;
            }
            longest = longest.max(square);
        });
        if let Some(queries) = queries {
            queries.each(|_, row| {
                let square = row.iter().zip(&centre).map(|(x, c)| (x - c) * (x - c)).sum();
                longest = longest.max(square);
            });
        }
        let longest = longest.sqrt();
        let scale = if longest > 0.0 { 1.0 / longest } else { 1.0 };
        let mut dimensions: Vec<usize> = (0..d).collect();
        dimensions.sort_by(|&a, &b| variances[b].total_cmp(&variances[a]));
        Frame { centre, scale, dimensions }
    }

    /// A point as it is seen.
    pub(super) fn see<'a>(&'a self, row: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
        self.dimensions.iter().map(|&j| (row[j] - self.centre[j]) * self.scale)
    }
}

/// Points as a frame sees them, in float32.
pub(super) struct Rough {
    d: usize,
    values: Vec<f32>,
}

impl Rough {
    pub(super) fn new(points: &Points, frame: &Frame) -> Self {
        let d = points.dimensions();
        let mut values = Vec::with_capacity(points.len() * d);
        points.each(|_, row| values.extend(frame.see(row).map(|x| x as f32)));
        Rough { d, values }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len().checked_div(self.d).unwrap_or(0)
    }

    pub(super) fn dimensions(&self) -> usize {
        self.d
    }

    pub(super) fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.d..(i + 1) * self.d]
    }

    pub(super) fn point(&self, i: usize) -> Vec<f64> {
        self.row(i).iter().copied().map(f64::from).collect()
    }
}

/// The sum of the products, in lanes.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    let (heads_a, heads_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = heads_a.remainder().iter().zip(heads_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in heads_a.zip(heads_b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}
