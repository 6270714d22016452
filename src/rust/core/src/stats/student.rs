//! The middle of Student's t distribution, several values at once.
//!
//! Thousands of comparisons of twenty thousand genes are tens of millions of p-values, nearly all
//! of small deviates. The complement of these is a short sum of positive terms, and the logarithm and
//! the power before it have no branches: eight go through the registers together. Their
//! operations are the same as of one alone, none fused, and so are their bits.

use std::f64::consts::PI;

use pulp::{Arch, NullaryFnOnce};

use super::log1p::{exp_quick, ln_1p_quick};

/// Values that go together.
const LANES: usize = 8;

/// Whether a deviate `t >= 0` is in the middle.
#[allow(clippy::inline_always)] // Or it is not compiled with the features of the processor.
#[inline(always)]
pub(super) fn is_central(t: f64, df: f64) -> bool {
    t * t < 4.0 && t / df * t <= 1.0 && df > 0.0 && df < f64::INFINITY
}

/// The probability below each absolute deviate `t`, all in the middle: `I_y(1/2, df / 2)` at
/// y = t^2 / (df + t^2), its power times its series.
#[allow(clippy::inline_always)] // As above.
#[inline(always)]
pub(super) fn central<const N: usize>(t: &[f64; N], df: &[f64; N]) -> [f64; N] {
    let a = df.map(|df| 0.5 * df);
    let (square, ln_rest) = gamma_ratios(&a);
    let (mut y, mut factor) = ([0.0; N], [0.0; N]);
    for i in 0..N {
        let odds = t[i] / df[i] * t[i];
        y[i] = odds / (1.0 + odds);
        // x^a y^(1/2) / B(1/2, a) at x = 1 - y = 1 / (1 + odds).
        factor[i] =
            exp_quick(ln_rest[i] - a[i] * ln_1p_quick(odds)) * (y[i] * square[i] / PI).sqrt();
    }
    let shape = a.map(|a| a + 0.5);
    let (mut term, mut sum) = ([2.0; N], [2.0; N]);
    let mut k = 0.0;
    loop {
        // Terms fall; those below a quarter of rounding change nothing.
        let mut counts = false;
        for i in 0..N {
            counts |= term[i] > sum[i] * (0.25 * f64::EPSILON);
        }
        if !counts {
            break;
        }
        let divisor = 1.0 / (1.5 + k);
        for i in 0..N {
            term[i] *= (shape[i] + k) * divisor * y[i];
            sum[i] += term[i];
        }
        k += 1.0;
    }
    for i in 0..N {
        factor[i] *= sum[i];
    }
    factor
}

/// Gamma(a + 1/2) / Gamma(a) of each, as its square without a factor and the logarithm of
/// that factor.
///
/// # Numerics
///
/// The difference of two `lgamma` would lose all digits for large `a`. Instead
/// the asymptotic series, which follows from Stirling's, after moving `a` above
/// 20 by Gamma(a + 1) = a Gamma(a).
#[allow(clippy::inline_always)] // As above.
#[inline(always)]
pub(super) fn gamma_ratios<const N: usize>(a: &[f64; N]) -> ([f64; N], [f64; N]) {
    let (mut a, mut product) = (*a, [1.0; N]);
    loop {
        let mut low = false;
        for i in 0..N {
            low |= a[i] < 20.0;
        }
        if !low {
            break;
        }
        for i in 0..N {
            let (factor, step) = if a[i] < 20.0 { (a[i] / (a[i] + 0.5), 1.0) } else { (1.0, 0.0) };
            product[i] *= factor;
            a[i] += step;
        }
    }
    let (mut square, mut ln_rest) = ([0.0; N], [0.0; N]);
    for i in 0..N {
        let r = 1.0 / a[i];
        let r2 = r * r;
        let inner = 1.0 / 192.0 + r2 * (-1.0 / 640.0 + r2 * (17.0 / 14_336.0));
        ln_rest[i] = r * (-1.0 / 8.0 + r2 * inner);
        square[i] = a[i] * product[i] * product[i];
    }
    (square, ln_rest)
}

/// Appends one less the probabilities in the middle, and for other deviates what `other` says.
pub(super) fn central_all(
    t: &[f64],
    df: &[f64],
    out: &mut Vec<f64>,
    other: impl Fn(f64, f64) -> f64,
) {
    let first = out.len();
    out.resize(first + t.len(), 0.0);
    let out = &mut out[first..];
    Arch::new().dispatch(Central { t, df, out });
    for ((out, &t), &df) in out.iter_mut().zip(t).zip(df) {
        if !is_central(t.abs(), df) {
            *out = other(t, df);
        }
    }
}

/// The loop over all, compiled for several kinds of processors.
struct Central<'v> {
    t: &'v [f64],
    df: &'v [f64],
    out: &'v mut [f64],
}

impl NullaryFnOnce for Central<'_> {
    type Output = ();

    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn call(self) {
        let Central { t, df, out } = self;
        for ((t, df), out) in t.chunks(LANES).zip(df.chunks(LANES)).zip(out.chunks_mut(LANES)) {
            // Something in the middle where there is nothing, or nothing in the middle.
            let (mut deviates, mut dfs) = ([0.0; LANES], [100.0; LANES]);
            for (i, (&t, &df)) in t.iter().zip(df).enumerate() {
                let inside = is_central(t.abs(), df);
                deviates[i] = if inside { t.abs() } else { 0.0 };
                dfs[i] = if inside { df } else { 100.0 };
            }
            for (out, below) in out.iter_mut().zip(central(&deviates, &dfs)) {
                *out = 1.0 - below;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dist::{t_p_values, t_two_sided};
    use super::super::random::Rng;

    #[test]
    fn many_at_once_have_the_bits_of_each() {
        let mut rng = Rng::new(4, 0);
        let special = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2.0, 1e-300, 1e300];
        for n in [0, 1, 7, 8, 9, 1000] {
            let mut draw = |many: f64| match rng.below(20) {
                0 => special[rng.below(8) as usize],
                1 => (rng.uniform() - 0.5) * 40.0 * many,
                _ => (rng.uniform() - 0.5) * many,
            };
            let t: Vec<f64> = (0..n).map(|_| draw(8.0)).collect();
            let df: Vec<f64> = (0..n).map(|_| draw(2000.0).abs()).collect();
            let mut got = vec![7.0];
            t_p_values(&t, &df, &mut got);
            assert_eq!((got.len(), got[0]), (n + 1, 7.0));
            for ((&got, &t), &df) in got[1..].iter().zip(&t).zip(&df) {
                let want = t_two_sided(t, df).p_value;
                assert!(got.to_bits() == want.to_bits(), "t {t}, df {df}: {got} against {want}");
            }
        }
    }
}
