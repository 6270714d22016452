//! How near points of a layout are, as a smooth function of their distance.

/// Points that the curve is fitted on.
const POINTS: usize = 300;

/// Steps of the fit; some ten are needed.
const STEPS: usize = 200;

/// `1 / (1 + a d^(2 b))` for points at distance `d`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// The scale.
    pub a: f64,
    /// The steepness.
    pub b: f64,
}

impl Curve {
    /// The curve nearest by least squares to one up to `min_dist` and
    /// `exp(-(d - min_dist) / spread)` beyond, on 300 distances up to three times
    /// `spread`: `find_ab_params()` of umap-learn.
    ///
    /// In units of `spread` the fit is the same for all, so that it starts as well for
    /// a small spread as for one. Steps are those of Levenberg and Marquardt.
    #[must_use]
    pub fn fitted(min_dist: f64, spread: f64) -> Self {
        let flat = min_dist / spread;
        let points: Vec<(f64, f64)> = (0..POINTS)
            .map(|i| {
                let d = 3.0 * i as f64 / (POINTS - 1) as f64;
                (d, if d < flat { 1.0 } else { libm::exp(flat - d) })
            })
            .collect();
        // The logarithm of a, which keeps it positive, and b.
        let mut at = [0.0, 1.0];
        let mut damping = 1e-3;
        let mut fit = Fit::at(&points, at);
        for _ in 0..STEPS {
            let step = fit.step(damping);
            let next = [at[0] + step[0], at[1] + step[1]];
            let tried = Fit::at(&points, next);
            if tried.squares <= fit.squares {
                (at, fit) = (next, tried);
                damping *= 0.1;
            } else {
                damping *= 10.0;
            }
            if step[0].abs().max(step[1].abs()) < 1e-12 {
                break;
            }
        }
        Curve { a: libm::exp(at[0] - 2.0 * at[1] * libm::log(spread)), b: at[1] }
    }
}

/// Sums over the points at one pair of parameters.
struct Fit {
    squares: f64,
    /// The product of the derivatives with themselves: both diagonal entries and the other.
    normal: [f64; 3],
    /// That with the residuals.
    slope: [f64; 2],
}

impl Fit {
    fn at(points: &[(f64, f64)], [log_a, b]: [f64; 2]) -> Self {
        let mut fit = Fit { squares: 0.0, normal: [0.0; 3], slope: [0.0; 2] };
        for &(d, wanted) in points {
            let log_d = if d > 0.0 { libm::log(d) } else { f64::NEG_INFINITY };
            let z = libm::exp(log_a + 2.0 * b * log_d);
            let value = 1.0 / (1.0 + z);
            let rest = wanted - value;
            fit.squares += rest * rest;
            if z == 0.0 {
                continue;
            }
            let by_log_a = -z * value * value;
            let by_b = 2.0 * log_d * by_log_a;
            fit.normal[0] += by_log_a * by_log_a;
            fit.normal[1] += by_b * by_b;
            fit.normal[2] += by_log_a * by_b;
            fit.slope[0] += by_log_a * rest;
            fit.slope[1] += by_b * rest;
        }
        fit
    }

    fn step(&self, damping: f64) -> [f64; 2] {
        let first = self.normal[0] * (1.0 + damping);
        let second = self.normal[1] * (1.0 + damping);
        let (mixed, [u, v]) = (self.normal[2], self.slope);
        let determinant = first * second - mixed * mixed;
        [(second * u - mixed * v) / determinant, (first * v - mixed * u) / determinant]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_umap_learn() {
        // find_ab_params(spread, min_dist) of umap-learn 0.5.12, whose fit ends when
        // squares no longer fall by 1e-8.
        let known = [
            (1.0, 0.5, 0.583_030_020_341_442_5, 1.334_166_992_431_491_4),
            (1.0, 0.1, 1.576_943_460_269_765_2, 0.895_060_877_851_573_3),
            (1.0, 0.0, 1.932_808_397_343_15, 0.790_494_973_223_383_1),
            (2.0, 0.5, 0.258_878_741_286_962_7, 1.057_499_699_440_902_5),
            (1.0, 1.0, 0.114_975_683_274_419_22, 1.929_237_144_081_752),
        ];
        for (spread, min_dist, a, b) in known {
            let found = Curve::fitted(min_dist, spread);
            assert!((found.a / a - 1.0).abs() < 1e-5, "{found:?}, a is {a}");
            assert!((found.b / b - 1.0).abs() < 1e-5, "{found:?}, b is {b}");
        }
    }

    #[test]
    fn the_scale_follows_the_spread() {
        let (one, small) = (Curve::fitted(0.5, 1.0), Curve::fitted(0.005, 0.01));
        assert!((one.b - small.b).abs() < 1e-9);
        let at = |curve: Curve, d: f64| 1.0 / (1.0 + curve.a * d.powf(2.0 * curve.b));
        assert!((at(one, 0.7) - at(small, 0.007)).abs() < 1e-9);
    }
}
