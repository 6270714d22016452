//! Counts drawn at random: hypergeometric, binomial, and shares of a total.
//!
//! Exact distributions, up to the rounding of float64 where a draw is large.
//! Small draws take one molecule after the other, in integers. Larger ones are
//! accepted or rejected by the ratio of uniforms (Stadlober 1990, "The ratio of
//! uniforms approach for generating discrete random variates", J. Comput. Appl.
//! Math. 31, 181; for the hypergeometric Kachitvichyanukul & Schmeiser 1985,
//! J. Stat. Comput. Simul. 22, 127), which needs the probability of a count
//! relative to that of the mode alone.
//!
//! # Numerics
//! Logarithms are not the platform's, so that a seed gives the same counts on every
//! machine. Ratios of factorials are computed as such, without the cancellation
//! of two large logarithms: a relative probability is right to about 1e-10 for
//! totals up to 2^53.

use super::log1p::ln_1p;
use super::random::Rng;

/// Up to so many molecules are drawn one by one.
const ONE_BY_ONE: u64 = 16;

/// How many of `marked` molecules among `total` are there in `drawn` of them,
/// drawn without replacement.
///
/// Nothing is taken from `rng` where there is no choice.
///
/// # Panics
/// If `marked` or `drawn` exceed `total`.
#[must_use]
pub fn hypergeometric(rng: &mut Rng, total: u64, marked: u64, drawn: u64) -> u64 {
    assert!(marked <= total && drawn <= total, "more than there are");
    // The same number with fewer than half drawn, and fewer than half marked.
    if drawn > total - drawn {
        return marked - hypergeometric(rng, total, marked, total - drawn);
    }
    if marked > total - marked {
        return drawn - hypergeometric(rng, total, total - marked, drawn);
    }
    // Marked and drawn change places without a change of the distribution.
    let (few, many) = (marked.min(drawn), marked.max(drawn));
    if few <= ONE_BY_ONE {
        let mut found = 0;
        for taken in 0..few {
            found += u64::from(rng.below(total - taken) < many - found);
        }
        return found;
    }
    let (n, k, m) = (total as f64, many as f64, few as f64);
    let mean = m * k / n;
    let variance = mean * ((n - k) / n) * ((n - m) / (n - 1.0));
    let mode = ((m + 1.0) * ((k + 1.0) / (n + 2.0))).floor();
    ratio_of_uniforms(rng, mean, variance, m, |x| {
        ln_factorial_ratio(mode, x)
            + ln_factorial_ratio(k - mode, k - x)
            + ln_factorial_ratio(m - mode, m - x)
            + ln_factorial_ratio(n - k - m + mode, n - k - m + x)
    })
}

/// How many of `n` draws with replacement hit one of `marked` molecules among
/// `total`.
///
/// Nothing is taken from `rng` where there is no choice.
///
/// # Panics
/// If `marked` exceeds `total`.
#[must_use]
pub fn binomial(rng: &mut Rng, n: u64, marked: u64, total: u64) -> u64 {
    assert!(marked <= total, "more than there are");
    if marked > total - marked {
        return n - binomial(rng, n, total - marked, total);
    }
    if n == 0 || marked == 0 {
        return 0;
    }
    if n <= ONE_BY_ONE {
        return (0..n).filter(|_| rng.below(total) < marked).count() as u64;
    }
    let (size, p) = (n as f64, marked as f64 / total as f64);
    let mean = size * p;
    let mode = ((size + 1.0) * p).floor();
    let ln_odds = ln(marked as f64) - ln((total - marked) as f64);
    ratio_of_uniforms(rng, mean, mean * (1.0 - p), size, |x| {
        ln_factorial_ratio(mode, x)
            + ln_factorial_ratio(size - mode, size - x)
            + (x - mode) * ln_odds
    })
}

/// Draws `n` molecules from boxes of `counts`, which hold `total`, and leaves in each how
/// many were drawn from it: a multivariate hypergeometric draw, with `replace`
/// a multinomial one. Boxes are looked at in their order; empty ones change
/// nothing.
///
/// # Panics
/// If `counts` hold another total, or less than `n` without replacement.
pub fn draw_from(rng: &mut Rng, counts: &mut [u64], total: u64, n: u64, replace: bool) {
    assert!(replace && (total > 0 || n == 0) || n <= total, "more than there are");
    let (mut left, mut wanted) = (total, n);
    for count in counts {
        let here = *count;
        *count = if replace {
            binomial(rng, wanted, here, left)
        } else {
            hypergeometric(rng, left, here, wanted)
        };
        left -= here;
        wanted -= *count;
    }
    assert!(wanted == 0, "the total is that of the counts");
}

/// A draw from a unimodal distribution on `0..=most`, by the ratio of uniforms
/// with Stadlober's table mountain, which covers the binomial and the
/// hypergeometric family. `ln_ratio(x)` is the logarithm of the probability of `x`
/// over that of the mode.
fn ratio_of_uniforms(
    rng: &mut Rng,
    mean: f64,
    variance: f64,
    most: f64,
    ln_ratio: impl Fn(f64) -> f64,
) -> u64 {
    // 2 sqrt(2 / e) and 3 - 2 sqrt(3 / e).
    const SLOPE: f64 = 1.715_527_769_921_413_5;
    const OFFSET: f64 = 0.898_916_162_058_898_8;
    let center = mean + 0.5;
    let width = SLOPE * (variance + 0.5).sqrt() + OFFSET;
    loop {
        let u = rng.uniform();
        let v = rng.uniform();
        let at = center + width * (v - 0.5) / u;
        // Zero over zero is not a number, and fails too.
        if !(at >= 0.0 && at < most + 1.0) {
            continue;
        }
        let x = at.floor();
        let t = ln_ratio(x);
        // Two quick bounds of 2 ln(u), from below and above.
        if u * (4.0 - u) - 3.0 <= t {
            return x as u64;
        }
        if u * (u - t) < 1.0 && 2.0 * ln(u) <= t {
            return x as u64;
        }
    }
}

/// The natural logarithm.
fn ln(x: f64) -> f64 {
    // Exact subtraction: `x` is a whole number or a multiple of 2^-53 below one.
    ln_1p(x - 1.0)
}

/// `ln(a! / b!)` of whole numbers.
fn ln_factorial_ratio(a: f64, b: f64) -> f64 {
    if a.min(b) < SMALL as f64 {
        return ln_factorial(a) - ln_factorial(b);
    }
    // Stirling's series for both, the leading terms taken together.
    let step = a - b;
    step * (ln(b) - 1.0) + (a + 0.5) * ln_1p(step / b) + (stirling(a) - stirling(b))
}

const SMALL: usize = 16;

/// `ln(x!)` of a whole number.
fn ln_factorial(x: f64) -> f64 {
    if x < SMALL as f64 {
        // Exact: 15! is below 2^53.
        return ln((2..=x as u64).product::<u64>() as f64);
    }
    // Half the logarithm of two pi.
    (x + 0.5) * ln(x) - x + 0.918_938_533_204_672_7 + stirling(x)
}

/// What Stirling's formula lacks of `ln(x!)`; below 1e-16 wrong from 16 on.
fn stirling(x: f64) -> f64 {
    let y = 1.0 / (x * x);
    (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * (1.0 / 1680.0 - y * (1.0 / 1188.0)))))
        / x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities of all counts, by the ratio of neighbours.
    fn hypergeometric_pmf(total: u64, marked: u64, drawn: u64) -> Vec<f64> {
        let (n, k, m) = (total as f64, marked as f64, drawn as f64);
        let low = (marked + drawn).saturating_sub(total);
        let mut p = vec![0.0; drawn.min(marked) as usize + 1];
        p[low as usize] = 1.0;
        for x in low as usize..p.len() - 1 {
            let at = x as f64;
            p[x + 1] = p[x] * (k - at) * (m - at) / ((at + 1.0) * (n - k - m + at + 1.0));
            if p[x + 1] > 1e200 {
                for p in &mut p {
                    *p *= 1e-200;
                }
            }
        }
        let sum: f64 = p.iter().sum();
        p.into_iter().map(|p| p / sum).collect()
    }

    fn binomial_pmf(n: u64, p: f64) -> Vec<f64> {
        let mut f = vec![1.0];
        for x in 0..n as usize {
            f.push(f[x] * (n as f64 - x as f64) / (x as f64 + 1.0) * p / (1.0 - p));
            if f[x + 1] > 1e200 {
                for f in &mut f {
                    *f *= 1e-200;
                }
            }
        }
        let sum: f64 = f.iter().sum();
        f.into_iter().map(|p| p / sum).collect()
    }

    /// Chi-square of draws against probabilities, classes pooled until each is
    /// expected ten times; as a normal deviate (Wilson & Hilferty).
    fn deviate(pmf: &[f64], draws: &[u64]) -> f64 {
        let mut seen = vec![0.0; pmf.len()];
        for &x in draws {
            assert!(pmf[x as usize] > 0.0, "{x} can't be");
            seen[x as usize] += 1.0;
        }
        let n = draws.len() as f64;
        let (mut chi, mut classes, mut got, mut want) = (0.0, 0.0, 0.0, 0.0);
        let mut left = n;
        for (p, s) in pmf.iter().zip(&seen) {
            got += s;
            want += p * n;
            left -= p * n;
            if want >= 10.0 && left >= 10.0 {
                chi += (got - want) * (got - want) / want;
                classes += 1.0;
                (got, want) = (0.0, 0.0);
            }
        }
        chi += (got - want) * (got - want) / want;
        let df: f64 = classes;
        if df == 0.0 {
            return 0.0;
        }
        ((chi / df).cbrt() - (1.0 - 2.0 / (9.0 * df))) / (2.0 / (9.0 * df)).sqrt()
    }

    fn moments(draws: &[u64]) -> (f64, f64) {
        let n = draws.len() as f64;
        let mean = draws.iter().map(|&x| x as f64).sum::<f64>() / n;
        let var = draws.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / n;
        (mean, var)
    }

    /// Mean and variance.
    fn hypergeometric_moments(total: u64, marked: u64, drawn: u64) -> (f64, f64) {
        let (t, k, m) = (total as f64, marked as f64, drawn as f64);
        (m * k / t, m * k / t * (1.0 - k / t) * (t - m) / (t - 1.0))
    }

    #[test]
    fn hypergeometric_draws_are_distributed_as_they_should() {
        // One by one, by ratio of uniforms, and either with more than half.
        let cases = [
            (10, 3, 4),
            (10, 7, 8),
            (100, 50, 30),
            (100, 90, 95),
            (500, 17, 100),
            (1_000, 400, 300),
            (1_000, 600, 700),
            (5_000, 4_000, 50),
            (100_000, 20, 5_000),
            (100_000, 30_000, 40_000),
        ];
        for (i, (total, marked, drawn)) in cases.into_iter().enumerate() {
            let mut rng = Rng::new(11, i as u64);
            let n = 40_000;
            let draws: Vec<u64> =
                (0..n).map(|_| hypergeometric(&mut rng, total, marked, drawn)).collect();
            let z = deviate(&hypergeometric_pmf(total, marked, drawn), &draws);
            assert!(z.abs() < 5.0, "{total} {marked} {drawn}: {z}");
            let (mean, var) = moments(&draws);
            let (expected, exact) = hypergeometric_moments(total, marked, drawn);
            let n = f64::from(n);
            assert!((mean - expected).abs() < 5.0 * (exact / n).sqrt() + 1e-12);
            // Kurtosis of the small cases is at most a few.
            assert!((var / exact - 1.0).abs() < 6.0 * (4.0 / n).sqrt(), "{var} {exact}");
        }
    }

    #[test]
    fn binomial_draws_are_distributed_as_they_should() {
        let cases = [
            (10, 1, 3),
            (16, 9, 10),
            (17, 1, 2),
            (200, 1, 100),
            (1_000, 2, 3),
            (30_000, 77, 5_000),
        ];
        for (i, (size, marked, total)) in cases.into_iter().enumerate() {
            let mut rng = Rng::new(12, i as u64);
            let n = 40_000;
            let draws: Vec<u64> = (0..n).map(|_| binomial(&mut rng, size, marked, total)).collect();
            let p = marked as f64 / total as f64;
            let z = deviate(&binomial_pmf(size, p), &draws);
            assert!(z.abs() < 5.0, "{size} {marked} {total}: {z}");
            let (mean, var) = moments(&draws);
            let exact = size as f64 * p * (1.0 - p);
            let n = f64::from(n);
            assert!((mean - size as f64 * p).abs() < 5.0 * (exact / n).sqrt());
            assert!((var / exact - 1.0).abs() < 6.0 * (4.0 / n).sqrt());
        }
    }

    #[test]
    fn large_draws_have_the_right_moments() {
        let (total, marked, drawn) = (4_000_000_000_u64, 900_000_000, 1_500_000_000);
        let mut rng = Rng::new(13, 0);
        let n = 20_000;
        let draws: Vec<u64> =
            (0..n).map(|_| hypergeometric(&mut rng, total, marked, drawn)).collect();
        let (expected, exact) = hypergeometric_moments(total, marked, drawn);
        let (mean, var) = moments(&draws);
        let n = f64::from(n);
        assert!((mean - expected).abs() < 5.0 * (exact / n).sqrt());
        assert!((var / exact - 1.0).abs() < 6.0 * (2.0 / n).sqrt());
    }

    #[test]
    fn without_a_choice_nothing_is_drawn() {
        let mut rng = Rng::new(1, 2);
        let next = rng.clone().next_u64();
        assert_eq!(hypergeometric(&mut rng, 10, 0, 4), 0);
        assert_eq!(hypergeometric(&mut rng, 10, 10, 4), 4);
        assert_eq!(hypergeometric(&mut rng, 10, 3, 0), 0);
        assert_eq!(hypergeometric(&mut rng, 10, 3, 10), 3);
        assert_eq!(hypergeometric(&mut rng, 0, 0, 0), 0);
        assert_eq!(binomial(&mut rng, 0, 3, 10), 0);
        assert_eq!(binomial(&mut rng, 9, 0, 10), 0);
        assert_eq!(binomial(&mut rng, 9, 10, 10), 9);
        assert_eq!(binomial(&mut rng, 0, 0, 0), 0);
        assert_eq!(rng.next_u64(), next);
    }

    #[test]
    fn shares_add_up_and_empty_boxes_change_nothing() {
        for replace in [false, true] {
            let draw = |counts: &[u64]| {
                let mut counts = counts.to_vec();
                let total = counts.iter().sum();
                draw_from(&mut Rng::new(3, 4), &mut counts, total, 60, replace);
                counts
            };
            let got = draw(&[40, 1, 3, 200, 12]);
            assert_eq!(got.iter().sum::<u64>(), 60);
            let padded = draw(&[0, 40, 1, 0, 0, 3, 200, 12, 0]);
            assert_eq!(padded.into_iter().filter(|&x| x > 0).sum::<u64>(), 60);
            let padded = draw(&[0, 40, 1, 0, 0, 3, 200, 12, 0]);
            assert_eq!([padded[1], padded[2], padded[5], padded[6], padded[7]], got[..]);
            if !replace {
                assert!(got.iter().zip([40, 1, 3, 200, 12]).all(|(&g, c)| g <= c));
            }
        }
        let mut all = [4, 0, 7];
        draw_from(&mut Rng::new(0, 0), &mut all, 11, 11, false);
        assert_eq!(all, [4, 0, 7]);
        let mut none: [u64; 0] = [];
        draw_from(&mut Rng::new(0, 0), &mut none, 0, 0, true);
    }

    #[test]
    fn every_way_to_draw_is_equally_likely() {
        // All ways to draw 3 of the molecules AABBC, with the number of their ways.
        let ways = [
            ([2, 1, 0], 2.0),
            ([2, 0, 1], 1.0),
            ([1, 2, 0], 2.0),
            ([1, 1, 1], 4.0),
            ([0, 2, 1], 1.0),
        ];
        let n = 50_000;
        let mut seen = [0.0; 5];
        for i in 0..n {
            let mut counts = [2, 2, 1];
            draw_from(&mut Rng::new(5, i), &mut counts, 5, 3, false);
            let which = ways.iter().position(|(way, _)| *way == counts).unwrap();
            seen[which] += 1.0;
        }
        let chi: f64 = ways
            .iter()
            .zip(seen)
            .map(|((_, w), s)| {
                let e = n as f64 * w / 10.0;
                (s - e) * (s - e) / e
            })
            .sum();
        // The 1e-6 point of 4 degrees of freedom is 33.4.
        assert!(chi < 33.4, "{seen:?}");
    }

    #[test]
    fn ratios_of_factorials() {
        let direct = |a: u64, b: u64| -> f64 {
            let (low, high) = (a.min(b), a.max(b));
            let sum: f64 = (low + 1..=high).map(|x| (x as f64).ln()).sum();
            if a > b { sum } else { -sum }
        };
        for (a, b) in [(0, 5), (5, 0), (15, 16), (16, 15), (3, 200), (1_000, 900), (17, 4_000)] {
            let got = ln_factorial_ratio(a as f64, b as f64);
            let want = direct(a, b);
            assert!((got - want).abs() <= 1e-12 * want.abs().max(1.0), "{a} {b}: {got} {want}");
        }
        // Far out, where the two logarithms would cancel.
        let (a, b) = (1_000_000_100_u64, 1_000_000_000);
        let want = direct(a, b);
        assert!((ln_factorial_ratio(a as f64, b as f64) - want).abs() < 1e-9);
    }
}
