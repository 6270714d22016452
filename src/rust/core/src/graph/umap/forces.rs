//! What moves points: the gradients of umap-learn's loop, in float32.

use super::Descent;
use crate::stats::powers::power;
use crate::stats::random::Rng;

/// Cells that repel at a time.
const LANES: usize = 4;

/// A move in one dimension is cut to this before the learning rate.
const LONGEST: f32 = 4.0;

/// What keeps the repulsion of cells in one place finite.
const CLOSEST: f32 = 1e-3;

/// Cells that repel, and stay where they are meanwhile.
pub(super) trait Crowd<const D: usize> {
    /// Number of cells.
    fn count(&self) -> usize;
    /// Where one is.
    fn place(&self, cell: usize) -> [f32; D];
}

impl<const D: usize> Crowd<D> for [[f32; D]] {
    fn count(&self) -> usize {
        self.len()
    }

    #[inline]
    fn place(&self, cell: usize) -> [f32; D] {
        self[cell]
    }
}

/// The curve of a layout, and the repulsion of cells.
pub(super) struct Forces {
    a: f32,
    b: f32,
    repulsion: f32,
    negative_samples: usize,
}

impl Forces {
    pub fn new(how: &Descent) -> Self {
        Forces {
            a: how.curve.a as f32,
            b: how.curve.b as f32,
            repulsion: how.repulsion as f32,
            negative_samples: how.negative_samples,
        }
    }

    /// Moves two points towards each other.
    #[inline]
    pub fn attract<const D: usize>(&self, x: &mut [f32; D], y: &mut [f32; D], rate: f32) {
        let mut square = 0.0;
        for d in 0..D {
            square += (x[d] - y[d]) * (x[d] - y[d]);
        }
        if square <= 0.0 {
            return;
        }
        let by = self.a * power(square, self.b);
        let slope = -2.0 * self.b * by / (square * (1.0 + by));
        for d in 0..D {
            let step = rate * clipped(slope * (x[d] - y[d]));
            x[d] += step;
            y[d] -= step;
        }
    }

    /// Moves a point away from cells drawn at random. It may be one of them itself.
    #[inline]
    pub fn repel<const D: usize, C: Crowd<D> + ?Sized>(
        &self,
        own: &mut [f32; D],
        itself: Option<usize>,
        others: &C,
        rate: f32,
        rng: &mut Rng,
    ) {
        for _ in 0..self.negative_samples / LANES {
            self.repel_from::<LANES, D, C>(own, itself, others, rate, rng);
        }
        for _ in 0..self.negative_samples % LANES {
            self.repel_from::<1, D, C>(own, itself, others, rate, rng);
        }
    }

    /// Moves a point away from `N` cells, from all at a time.
    // Loops over lanes by index are what compiles to vector instructions.
    #[allow(clippy::needless_range_loop)]
    #[inline]
    fn repel_from<const N: usize, const D: usize, C: Crowd<D> + ?Sized>(
        &self,
        own: &mut [f32; D],
        itself: Option<usize>,
        others: &C,
        rate: f32,
        rng: &mut Rng,
    ) {
        let n = others.count() as u64;
        let mut difference = [[0.0_f32; N]; D];
        let mut bits = 0;
        for lane in 0..N {
            bits = if lane % 2 == 0 { rng.next_u64() } else { bits >> 32 };
            let other = (((bits & 0xffff_ffff) * n) >> 32) as usize;
            // A cell does not repel itself: no difference, no move.
            let place = others.place(other);
            let share = if itself == Some(other) { 0.0 } else { 1.0 };
            for d in 0..D {
                difference[d][lane] = share * (own[d] - place[d]);
            }
        }
        let mut square = [0.0_f32; N];
        for dimension in &difference {
            for lane in 0..N {
                square[lane] += dimension[lane] * dimension[lane];
            }
        }
        let mut slope = [0.0_f32; N];
        for lane in 0..N {
            let nearness = (CLOSEST + square[lane]) * (1.0 + self.a * power(square[lane], self.b));
            slope[lane] = 2.0 * self.repulsion * self.b / nearness;
        }
        for d in 0..D {
            let mut step = 0.0;
            for lane in 0..N {
                step += clipped(slope[lane] * difference[d][lane]);
            }
            own[d] += rate * step;
        }
    }
}

#[inline]
fn clipped(x: f32) -> f32 {
    let x = if x > LONGEST { LONGEST } else { x };
    if x < -LONGEST { -LONGEST } else { x }
}
