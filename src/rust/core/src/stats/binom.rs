//! Tails of the binomial distribution, on the logarithmic scale.
//!
//! The probability of one outcome is Loader's saddle-point expansion (2000),
//! which never subtracts large logarithms; a tail is the sum of outcomes away
//! from the mean, all positive and falling, and the other tail its complement.

use std::f64::consts::PI;

/// Natural logarithms of both tails of a binomial variable at an outcome, which
/// belongs to both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BinomialTails {
    /// Of this many successes or fewer.
    pub ln_lower: f64,
    /// Of this many or more.
    pub ln_upper: f64,
}

/// The tails at `k` successes of `n`, each with odds `yes : no`.
///
/// # Numerics
///
/// Accurate to about 1e-13 relative in the tail that is summed, for any `n` below
/// 2^53. The sum has some ten standard deviations of terms at most.
#[must_use]
pub fn binomial_tails(k: u64, n: u64, yes: f64, no: f64) -> BinomialTails {
    let (p, q) = (yes / (yes + no), no / (yes + no));
    let ln_density = ln_density(k as f64, n as f64, p, q);
    let above = k as f64 >= n as f64 * p;
    // Terms relative to the first, away from the mean.
    let odds = if above { p / q } else { q / p };
    let mut left = if above { n - k } else { k } as f64;
    let mut taken = if above { k } else { n - k } as f64;
    let (mut term, mut beyond) = (1.0, 0.0);
    while left > 0.0 {
        taken += 1.0;
        term *= left / taken * odds;
        beyond += term;
        if term < beyond * (0.25 * f64::EPSILON) {
            break;
        }
        left -= 1.0;
    }
    let summed = (ln_density + libm::log1p(beyond)).min(0.0);
    // Zero, where the outcome is the last one: not minus zero.
    let other = libm::log1p(-(libm::exp(ln_density) * beyond).min(1.0)) + 0.0;
    if above {
        BinomialTails { ln_lower: other, ln_upper: summed }
    } else {
        BinomialTails { ln_lower: summed, ln_upper: other }
    }
}

/// Natural logarithm of the probability of `k` successes of `n`.
fn ln_density(k: f64, n: f64, p: f64, q: f64) -> f64 {
    if n == 0.0 {
        return 0.0;
    }
    // Each from the smaller of the two, which has no rounding to pass on.
    let ln = |x: f64, other: f64| if x > 0.5 { libm::log1p(-other) } else { libm::log(x) };
    if k == 0.0 {
        return n * ln(q, p);
    }
    if k == n {
        return n * ln(p, q);
    }
    let rest = n - k;
    stirling_error(n)
        - stirling_error(k)
        - stirling_error(rest)
        - deviance(k, n * p)
        - deviance(rest, n * q)
        + 0.5 * libm::log(n / (2.0 * PI * k * rest))
}

/// What Stirling's formula lacks of ln n!.
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        return libm::lgamma(n + 1.0) - (n + 0.5) * libm::log(n) + n - 0.5 * libm::log(2.0 * PI);
    }
    let r2 = 1.0 / (n * n);
    (1.0 / 12.0
        - r2 * (1.0 / 360.0 - r2 * (1.0 / 1260.0 - r2 * (1.0 / 1680.0 - r2 * (1.0 / 1188.0)))))
        / n
}

/// x ln(x / m) + m - x, without cancellation near x = m.
fn deviance(x: f64, m: f64) -> f64 {
    let d = x - m;
    if d.abs() >= 0.1 * (x + m) {
        return x * libm::log(x / m) - d;
    }
    let v = d / (x + m);
    let mut sum = d * v;
    let mut term = 2.0 * x * v;
    let v2 = v * v;
    let mut odd = 3.0;
    loop {
        term *= v2;
        let next = sum + term / odd;
        if next == sum {
            return sum;
        }
        sum = next;
        odd += 2.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (k, n, yes, no, lower, upper)
    // R 4.2.2: pbinom(k, n, yes / (yes + no), log.p = TRUE),
    // pbinom(k - 1, n, yes / (yes + no), lower.tail = FALSE, log.p = TRUE)
    const R: [(u64, u64, f64, f64, f64, f64); 14] = [
        (0, 10, 3.0, 7.0, -3.5667494393873245, 0.0),
        (10, 10, 3.0, 7.0, 0.0, -12.039728043259363),
        (3, 10, 3.0, 7.0, -0.43138199027079199, -0.48253426905702856),
        (7, 9, 50.0, 60.0, -0.0098222051080345783, -2.9428740398088449),
        (40, 5000, 10.0, 990.0, -2.4651904040343262, -0.065737437696057111),
        (80, 5000, 10.0, 990.0, -3.1136568529342244e-05, -9.8709828973203635),
        (300, 5000, 10.0, 990.0, -9.7027332434394257e-131, -297.51866908012721),
        (5000, 100000, 5000.0, 95000.0, -0.68565054110202728, -0.68910344457225736),
        (6000, 100000, 5000.0, 95000.0, -2.0328205795610868e-45, -102.71301094939055),
        (3000, 100000, 5000.0, 95000.0, -492.45135781618148, -7.9429007034915958e-215),
        (90000, 1000000, 8000.0, 92000.0, -3.426826852121006e-287, -659.48147501693302),
        (1, 250000, 1.0, 99.0, -2504.7494711070403, 0.0),
        (12, 15, 1.0, 1.0, -0.0036994615302492081, -4.0411000477032877),
        (2, 1000, 1000.0, 3.0, -5787.3988444301303, 0.0),
    ];

    #[test]
    fn agrees_with_pbinom() {
        for (k, n, yes, no, lower, upper) in R {
            let got = binomial_tails(k, n, yes, no);
            for (got, want) in [(got.ln_lower, lower), (got.ln_upper, upper)] {
                // R takes the complement of a tail near one with 1e-16 of rounding.
                let tolerance = 2e-13 * want.abs() + 1e-15;
                assert!((got - want).abs() <= tolerance, "{k} of {n}: {got} against {want}");
            }
        }
    }

    #[test]
    fn agrees_with_adding_up() {
        for n in [1_u64, 2, 9, 40] {
            for (yes, no) in [(1.0, 1.0), (1.0, 6.0), (30.0, 4.0)] {
                let p = yes / (yes + no);
                let density = |k: u64| {
                    let choose: f64 = (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product();
                    choose * f64::powi(p, k as i32) * f64::powi(1.0 - p, (n - k) as i32)
                };
                for k in 0..=n {
                    let got = binomial_tails(k, n, yes, no);
                    let lower: f64 = (0..=k).map(density).sum();
                    let upper: f64 = (k..=n).map(density).sum();
                    assert!((got.ln_lower.exp() / lower - 1.0).abs() < 1e-12, "{k} of {n}");
                    assert!((got.ln_upper.exp() / upper - 1.0).abs() < 1e-12, "{k} of {n}");
                }
            }
        }
    }

    #[test]
    fn certain_outcomes() {
        let nothing = binomial_tails(0, 0, 3.0, 4.0);
        assert_eq!((nothing.ln_lower, nothing.ln_upper), (0.0, 0.0));
        assert_eq!(binomial_tails(5, 5, 3.0, 4.0).ln_lower, 0.0);
        assert_eq!(binomial_tails(0, 5, 3.0, 4.0).ln_upper, 0.0);
    }
}
