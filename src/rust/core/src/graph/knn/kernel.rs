//! Products of a few queries with a panel of points, compared with bounds at once.
//!
//! Problem: a product of matrices writes its result, which takes as long to read and to
//! compare as it took to compute where there are few dimensions. Solution: products stay in
//! registers, and only those that reach the bound of their query leave them.

use pulp::{Arch, Simd, WithSimd, bytemuck};

/// Queries that a panel is multiplied with at a time.
pub(super) const GROUP: usize = 6;

/// Points that stand together in a panel, coordinate after coordinate.
pub(super) const BLOCK: usize = 32;

/// Vectors of a block that are in registers at a time.
const VECTORS: usize = 2;

/// A score that reaches the bound of its query.
#[derive(Clone, Copy)]
pub(super) struct Hit {
    pub(super) query: usize,
    /// Position in the panel.
    pub(super) at: usize,
    pub(super) score: f32,
}

/// What is compared: the score of a query and a point of the panel is the point's last
/// coordinate and the sum of products of the others.
pub(super) struct Scan<'a> {
    /// Coordinate after coordinate.
    pub(super) queries: &'a [[f32; GROUP]],
    pub(super) bounds: [f32; GROUP],
    /// Blocks of `BLOCK` points, `queries.len() + 1` rows of as many each.
    pub(super) panel: &'a [f32],
    pub(super) hits: &'a mut Vec<Hit>,
}

impl Scan<'_> {
    /// Appends what reaches its bound.
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Scan<'_> {
    type Output = ();

    #[allow(clippy::inline_always)] // Or it is not compiled with the features of the processor.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Loops are plain: the calls that iterators make are not always compiled with the
        // features of this processor, and sums would leave their registers.
        let width = self.queries.len();
        let (vectors, _) = S::as_simd_f32s(self.panel);
        // Vectors in a row of a block, and in a block.
        let row = BLOCK / S::F32_LANES;
        let block = row * (width + 1);
        let mut begin = 0;
        while begin + block <= vectors.len() {
            let mut part = 0;
            while part < row {
                let rows = &vectors[begin + part..begin + block];
                let last = [rows[width * row], rows[width * row + 1]];
                let mut sums = [last; GROUP];
                let mut at = 0;
                while at < width {
                    let (y, z) = (rows[at * row], rows[at * row + 1]);
                    let mut g = 0;
                    while g < GROUP {
                        let x = simd.splat_f32s(self.queries[at][g]);
                        sums[g][0] = simd.mul_add_e_f32s(x, y, sums[g][0]);
                        sums[g][1] = simd.mul_add_e_f32s(x, z, sums[g][1]);
                        g += 1;
                    }
                    at += 1;
                }
                // The difference of two floats has the sign of what is compared.
                let mut above = simd.splat_f32s(f32::NEG_INFINITY);
                let mut g = 0;
                while g < GROUP {
                    let bound = simd.splat_f32s(self.bounds[g]);
                    above = simd.max_f32s(above, simd.sub_f32s(sums[g][0], bound));
                    above = simd.max_f32s(above, simd.sub_f32s(sums[g][1], bound));
                    g += 1;
                }
                if simd.reduce_max_f32s(above) >= 0.0 {
                    let at = begin / block * BLOCK + part * S::F32_LANES;
                    // Of a copy, since sums whose address is taken would not stay in registers.
                    let scores = sums;
                    collect(bytemuck::cast_slice(&scores), &self.bounds, at, self.hits);
                }
                part += VECTORS;
            }
            begin += block;
        }
    }
}

/// Appends what reaches its bound among the scores of a group, query after query.
fn collect(scores: &[f32], bounds: &[f32; GROUP], first: usize, hits: &mut Vec<Hit>) {
    let each = scores.len() / GROUP;
    for (query, (scores, &bound)) in scores.chunks_exact(each).zip(bounds).enumerate() {
        for (lane, &score) in scores.iter().enumerate() {
            if score >= bound {
                hits.push(Hit { query, at: first + lane, score });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_those_of_a_loop() {
        for (width, points) in [(1, BLOCK), (3, 2 * BLOCK), (17, 3 * BLOCK)] {
            // Small integers, whose products are exact.
            let value = |at: usize| (at * 37 % 11) as f32 - 5.0;
            let panel: Vec<f32> = (0..points * (width + 1)).map(value).collect();
            let queries: Vec<[f32; GROUP]> =
                (0..width).map(|j| std::array::from_fn(|q| value(q * width + j + 3))).collect();
            let bounds = [f32::MIN, 0.0, 3.0, f32::INFINITY, -4.0, 20.0];
            let mut want = Vec::new();
            for q in 0..GROUP {
                for at in 0..points {
                    let block = &panel[at / BLOCK * BLOCK * (width + 1)..];
                    let number = |row: usize| block[row * BLOCK + at % BLOCK];
                    let sum: f32 = (0..width).map(|j| queries[j][q] * number(j)).sum();
                    if number(width) + sum >= bounds[q] {
                        want.push((q, at, number(width) + sum));
                    }
                }
            }
            let mut hits = Vec::new();
            Scan { queries: &queries, bounds, panel: &panel, hits: &mut hits }.run(Arch::new());
            let mut found: Vec<_> = hits.iter().map(|hit| (hit.query, hit.at, hit.score)).collect();
            found.sort_by_key(|hit| (hit.0, hit.1));
            assert!(!want.is_empty() && found == want);
        }
    }
}
