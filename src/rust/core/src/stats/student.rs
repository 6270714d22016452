//! Student's t distribution, several values at once.
//!
//! Thousands of comparisons of twenty thousand genes are tens of millions of p-values, nearly all of them such
//! that nobody looks at. In the middle their complement is a short sum of positive terms, outside they are
//! a continued fraction, and the power before it has no branches: eight of a kind go through the
//! registers together. Their operations are the same as of one alone, none fused, and so are
//! their bits.

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
    while a.iter().any(|&a| a < 20.0) {
        for (a, product) in a.iter_mut().zip(&mut product) {
            let (factor, step) = if *a < 20.0 { (*a / (*a + 0.5), 1.0) } else { (1.0, 0.0) };
            *product *= factor;
            *a += step;
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

/// Natural logarithm of both tails beyond each `t > 0` that is not in the middle, given that of
/// 1 + t^2 / df: that of the power at which they fall less that of a continued fraction.
#[allow(clippy::inline_always)] // As above.
#[inline(always)]
pub(super) fn outer<const N: usize>(t: &[f64; N], df: &[f64; N], ln_odds: &[f64; N]) -> [f64; N] {
    let a = df.map(|df| 0.5 * df);
    let (square, ln_rest) = gamma_ratios(&a);
    let (mut x, mut y) = ([0.0; N], [0.0; N]);
    for i in 0..N {
        // Neither by subtraction.
        let odds = t[i] / df[i] * t[i];
        x[i] = 1.0 / (1.0 + odds);
        y[i] = odds / (1.0 + odds);
    }
    let fraction = beta_fractions(&a, &x, &y);
    let mut ln_p = [0.0; N];
    for i in 0..N {
        // x^a y^(1/2) / B(a, 1/2), with one logarithm for all that is small.
        let rest = (y[i] * square[i] / PI).sqrt() / fraction[i];
        ln_p[i] = ln_rest[i] - a[i] * ln_odds[i] + libm::log(rest);
    }
    ln_p
}

/// x^a y^(1/2) / B(a, 1/2) over `I_x(a, 1/2)` of each, the continued fraction of
/// Didonato & Morris (1992) by Lentz's method: it holds for any `a` without cancellation, and in
/// the tail it needs ten to thirty terms.
#[allow(clippy::inline_always)] // As above.
#[inline(always)]
pub(super) fn beta_fractions<const N: usize>(a: &[f64; N], x: &[f64; N], y: &[f64; N]) -> [f64; N] {
    let half = 0.5;
    let (mut start, mut fraction) = ([0.0; N], [0.0; N]);
    for i in 0..N {
        start[i] = a[i] * y[i] - half * x[i] + 1.0;
        fraction[i] = a[i] * start[i] / (a[i] + 1.0);
    }
    let (mut ratio, mut inverse, mut open) = (fraction, [0.0; N], [true; N]);
    let mut m = 1.0;
    // The last is not reached in the domain: an end for arguments that are not finite.
    while open.iter().any(|&open| open) && m <= 1e5 {
        for i in 0..N {
            let middle = a[i] + 2.0 * m;
            // Divided before it multiplies, so that no product of two large factors forms.
            let part = x[i] / (middle - 1.0);
            let up = ((a[i] + m - 1.0) * part) * ((a[i] + m - half) * part) * (m * (half - m));
            let lift = start[i] + m * (1.0 + y[i]);
            let down = m + m * (half - m) * part + (a[i] + m) * lift / (middle + 1.0);
            inverse[i] = 1.0 / (down + up * inverse[i]);
            ratio[i] = down + up / ratio[i];
            let step = ratio[i] * inverse[i];
            fraction[i] = if open[i] { fraction[i] * step } else { fraction[i] };
            open[i] &= (step - 1.0).abs() > 2.0 * f64::EPSILON;
        }
        m += 1.0;
    }
    fraction
}

/// Appends the two-sided p-values of all; `other` gives those of no number and of infinities.
pub(super) fn two_sided(
    t: &[f64],
    df: &[f64],
    out: &mut Vec<f64>,
    other: impl Fn(f64, f64) -> f64,
) {
    let first = out.len();
    out.resize(first + t.len(), 0.0);
    Arch::new().dispatch(TwoSided { t, df, out: &mut out[first..], other });
}

/// The loop over all, compiled for several kinds of processors.
struct TwoSided<'v, F> {
    t: &'v [f64],
    df: &'v [f64],
    out: &'v mut [f64],
    other: F,
}

/// Deviates that wait until there are enough of one kind.
struct Queue {
    n: usize,
    place: [usize; LANES],
    t: [f64; LANES],
    df: [f64; LANES],
    ln_odds: [f64; LANES],
}

impl Queue {
    /// With something of the kind in every lane.
    fn new(t: f64, df: f64) -> Self {
        let ln_odds = libm::log1p(t / df * t);
        Queue { n: 0, place: [0; LANES], t: [t; LANES], df: [df; LANES], ln_odds: [ln_odds; LANES] }
    }

    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn push(&mut self, place: usize, t: f64, df: f64, ln_odds: f64) -> bool {
        (self.place[self.n], self.t[self.n], self.df[self.n]) = (place, t, df);
        self.ln_odds[self.n] = ln_odds;
        self.n += 1;
        self.n == LANES
    }

    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn empty(&mut self, p_values: [f64; LANES], out: &mut [f64]) {
        for (&place, p) in self.place[..self.n].iter().zip(p_values) {
            out[place] = p;
        }
        self.n = 0;
    }

    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn empty_central(&mut self, out: &mut [f64]) {
        self.empty(central(&self.t, &self.df).map(|below| 1.0 - below), out);
    }

    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn empty_outer(&mut self, out: &mut [f64]) {
        let ln_p = outer(&self.t, &self.df, &self.ln_odds);
        self.empty(ln_p.map(|ln_p| libm::exp(if ln_p > 0.0 { 0.0 } else { ln_p })), out);
    }
}

impl<F: Fn(f64, f64) -> f64> NullaryFnOnce for TwoSided<'_, F> {
    type Output = ();

    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn call(self) {
        let TwoSided { t, df, out, other } = self;
        let (mut middle, mut tails) = (Queue::new(1.0, 100.0), Queue::new(3.0, 100.0));
        for (place, (&t, &df)) in t.iter().zip(df).enumerate() {
            let (deviate, odds) = (t.abs(), t / df * t);
            if is_central(deviate, df) {
                if middle.push(place, deviate, df, 0.0) {
                    middle.empty_central(out);
                }
            } else if df > 0.0 && df < f64::INFINITY && odds < f64::INFINITY {
                let ln_odds = libm::log1p(odds);
                if 0.5 * df * ln_odds > BEYOND && df >= 1.0 {
                    out[place] = 0.0;
                } else if tails.push(place, deviate, df, ln_odds) {
                    tails.empty_outer(out);
                }
            } else {
                out[place] = other(t, df);
            }
        }
        middle.empty_central(out);
        tails.empty_outer(out);
    }
}

/// Both tails are less than `1.2 x^(df / 2)` for `t` and `df` from 1 on, with
/// x = df / (df + t^2): past the exponential of this they are below the smallest number.
const BEYOND: f64 = 760.0;

#[cfg(test)]
mod tests {
    use super::super::dist::{t_p_values, t_two_sided};
    use super::super::random::Rng;

    #[test]
    fn many_at_once_have_the_bits_of_each() {
        let mut rng = Rng::new(4, 0);
        let special =
            [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2.0, 1e-300, 1e300, 0.5, -1.0];
        for n in [0, 1, 7, 8, 9, 1000] {
            let mut draw = |many: f64| match rng.below(20) {
                0 => special[rng.below(10) as usize],
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
