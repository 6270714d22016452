//! Mergeable moments of sparse data: one accumulator per gene, or per group
//! and gene.
//!
//! Only stored values are pushed; the zeros that a sparse matrix does not store
//! enter in closed form at the end ([`Moments::with_zeros`]), by the formula of
//! Chan, Golub & `LeVeque` (1983) for merging two samples.
//! [`Moments`] takes any value, [`CountMoments`] takes counts and is exact.

use serde::{Deserialize, Serialize};

/// Number, mean and variance of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeanVar {
    /// Number of observations, zeros included.
    pub n: u64,
    /// Mean; NaN without observations.
    pub mean: f64,
    /// Unbiased variance (divisor n - 1); NaN with fewer than two observations.
    pub var: f64,
}

impl MeanVar {
    /// Whether neither sample varies and both have one value, up to the rounding of sums.
    #[inline]
    #[must_use]
    pub fn same_constant(&self, other: &Self) -> bool {
        let noise = (self.n + other.n) as f64 * f64::EPSILON;
        self.var == 0.0
            && other.var == 0.0
            && (self.mean - other.mean).abs() <= noise * self.mean.abs()
    }
}

/// Shifted sums of the values pushed: 32 bytes, a handful of instructions per
/// value.
///
/// # Numerics
///
/// The sums are taken about the first value seen, so a large mean does not
/// cancel: the relative error of the variance is about
/// `eps * (1 + ((mean - first) / sd)^2)`, and `((mean - first) / sd)^2` cannot
/// exceed `n - 1`. Values are added in the order they come; [`Moments::merge`]
/// of the same partials in the same order gives the same bits, any other split
/// agrees to about 1e-12. A NaN or an infinity makes mean and variance NaN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[repr(C)]
pub struct Moments {
    shift: f64,
    n: u64,
    s1: f64,
    s2: f64,
}

impl Moments {
    /// The moments of `n` counts with this sum and sum of squares, exact below 2^53.
    #[must_use]
    pub fn of_counts(n: u64, sum: u64, sum_sq: u64) -> Self {
        if n == 0 {
            return Moments::default();
        }
        let (count, total) = (n as i64, sum as i64);
        let shift = total / count;
        let s1 = total - count * shift;
        let s2 = sum_sq as i64 - shift * (2 * total - count * shift);
        Moments { shift: shift as f64, n, s1: s1 as f64, s2: s2 as f64 }
    }

    /// The moments of `n` values with this sum and sum of squares, as they were added up.
    ///
    /// # Numerics
    ///
    /// The relative error of the variance is about `eps * (1 + (mean / sd)^2)`, at most `n`
    /// times that. A sample whose spread is below this noise is constant: its variance is zero.
    #[inline]
    #[must_use]
    pub fn of_sums(n: u64, sum: f64, squares: f64) -> Self {
        Moments { shift: 0.0, n, s1: sum, s2: squares }
    }

    /// Adds one value.
    #[inline]
    pub fn push(&mut self, x: f64) {
        self.shift = if self.n == 0 { x } else { self.shift };
        let d = x - self.shift;
        self.n += 1;
        self.s1 += d;
        self.s2 += d * d;
    }

    /// Adds the values of another accumulator, which come after this one's.
    ///
    /// # Numerics
    ///
    /// The other's sums are moved to this one's shift. An empty accumulator is
    /// neutral on either side, and takes no branch.
    #[inline]
    pub fn merge(&mut self, other: &Self) {
        let n = other.n as i64 as f64;
        self.shift = if self.n == 0 { other.shift } else { self.shift };
        let delta = if other.n == 0 { 0.0 } else { other.shift - self.shift };
        self.n += other.n;
        self.s1 += other.s1 + n * delta;
        self.s2 += other.s2 + delta * (2.0 * other.s1 + n * delta);
    }

    /// Number of values pushed.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Sum of the values pushed.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.shift * self.n as f64 + self.s1
    }

    /// Mean and variance of the values pushed, with no further zeros.
    #[must_use]
    pub fn summary(&self) -> MeanVar {
        self.with_zeros(self.n)
    }

    /// Mean and variance of `n_total` observations of which those not pushed
    /// are zero.
    ///
    /// # Panics
    ///
    /// If more than `n_total` values were pushed.
    #[inline]
    #[must_use]
    pub fn with_zeros(&self, n_total: u64) -> MeanVar {
        assert!(self.n <= n_total, "more values than observations");
        let total = n_total as f64;
        if self.n == 0 {
            return MeanVar {
                n: n_total,
                mean: if n_total == 0 { f64::NAN } else { 0.0 },
                var: if n_total < 2 { f64::NAN } else { 0.0 },
            };
        }
        let n = self.n as f64;
        let offset = self.s1 / n;
        let mean_nz = self.shift + offset;
        let m2_nz = self.s2 - self.s1 * offset;
        // Sums about zero of n equal values err by at most n roundings; those of a first zero
        // and others have 1 / n of them left. A NaN stays.
        let noise = if self.shift == 0.0 { (n * f64::EPSILON).min(0.25 / n) } else { 0.0 };
        let m2_nz = if m2_nz < noise * self.s2 { 0.0 } else { m2_nz };
        let m2 = m2_nz + mean_nz * mean_nz * (n * ((total - n) / total));
        MeanVar {
            n: n_total,
            mean: mean_nz * (n / total),
            var: if n_total < 2 { f64::NAN } else { m2 / (total - 1.0) },
        }
    }
}

/// Exact sums of counts.
///
/// # Numerics
///
/// Sums are integers, so any split and any order give the same bits. Mean and
/// variance are the exact rational numbers, rounded once to the nearest `f64`,
/// as long as `n_total * sum of squares` is below 2^128; past it the variance
/// is rounded three times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct CountMoments {
    sum_sq: u128,
    sum: u64,
    n: u64,
}

impl CountMoments {
    /// The moments of `n` counts with this sum and sum of squares.
    #[must_use]
    pub fn of(n: u64, sum: u64, sum_sq: u64) -> Self {
        CountMoments { sum_sq: u128::from(sum_sq), sum, n }
    }

    /// Adds one count.
    #[inline]
    pub fn push(&mut self, count: u64) {
        self.n += 1;
        self.sum += count;
        self.sum_sq += u128::from(count) * u128::from(count);
    }

    /// Adds the counts of another accumulator.
    pub fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.sum += other.sum;
        self.sum_sq += other.sum_sq;
    }

    /// Number of counts pushed.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Sum of the counts pushed.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Mean and variance of the counts pushed, with no further zeros.
    #[must_use]
    pub fn summary(&self) -> MeanVar {
        self.with_zeros(self.n)
    }

    /// Mean and variance of `n_total` observations of which those not pushed
    /// are zero.
    ///
    /// # Panics
    ///
    /// If more than `n_total` counts were pushed.
    #[inline]
    #[must_use]
    pub fn with_zeros(&self, n_total: u64) -> MeanVar {
        assert!(self.n <= n_total, "more values than observations");
        let n = u128::from(n_total);
        let mean = if n == 0 { f64::NAN } else { ratio(u128::from(self.sum), n) };
        let var = if n < 2 {
            f64::NAN
        } else {
            // n * sum_sq >= sum^2 by Cauchy and Schwarz, and sum^2 fits.
            let square = u128::from(self.sum) * u128::from(self.sum);
            match n.checked_mul(self.sum_sq) {
                Some(scaled) => ratio(scaled - square, n * (n - 1)),
                None => (self.sum_sq - square / n) as f64 / (n - 1) as f64,
            }
        };
        MeanVar { n: n_total, mean, var }
    }
}

/// The quotient of two integers, rounded once to the nearest `f64`.
///
/// `den` must be positive and below 2^127.
fn ratio(num: u128, den: u128) -> f64 {
    let mut quotient = num / den;
    let mut rest = num % den;
    let mut exponent = 0_i32;
    // Long division until the quotient holds 64 bits: 53 for the result, one to
    // round, the others and the rest as sticky bits.
    while rest != 0 && quotient < 1 << 64 {
        let step = rest.leading_zeros().min(64);
        rest <<= step;
        quotient = (quotient << step) | (rest / den);
        rest %= den;
        exponent -= step as i32;
    }
    let sticky = u128::from(rest != 0);
    (quotient | sticky) as f64 * 2.0_f64.powi(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;

    /// Two passes over a dense sample with compensated sums.
    fn naive(values: &[f64], n_total: usize) -> (f64, f64) {
        let sum = |f: &dyn Fn(f64) -> f64| {
            let (mut s, mut c) = (0.0_f64, 0.0_f64);
            let zeros = std::iter::repeat_n(&0.0, n_total - values.len());
            for &x in values.iter().chain(zeros) {
                let x = f(x);
                let t = s + x;
                c += if s.abs() >= x.abs() { (s - t) + x } else { (x - t) + s };
                s = t;
            }
            s + c
        };
        let n = n_total as f64;
        let mean = sum(&|x| x) / n;
        let drift = sum(&|x| x - mean);
        let m2 = sum(&|x| (x - mean) * (x - mean)) - drift * drift / n;
        (mean, m2 / (n - 1.0))
    }

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!(
            (a - b).abs() <= tolerance * b.abs(),
            "{a} against {b}: relative {}",
            (a - b).abs() / b.abs()
        );
    }

    fn accumulate(values: &[f64]) -> Moments {
        let mut m = Moments::default();
        for &x in values {
            m.push(x);
        }
        m
    }

    #[test]
    fn layout_is_32_bytes() {
        assert_eq!(size_of::<Moments>(), 32);
        assert_eq!(size_of::<CountMoments>(), 32);
    }

    #[test]
    fn agrees_with_two_passes() {
        let mut rng = Rng::new(1, 0);
        for (n, zeros) in [(1, 1), (2, 0), (3, 7), (100, 0), (1000, 5000)] {
            let values: Vec<f64> = (0..n).map(|_| 5.0 * rng.uniform() - 1.0).collect();
            let (mean, var) = naive(&values, n + zeros);
            let got = accumulate(&values).with_zeros((n + zeros) as u64);
            assert_eq!(got.n, (n + zeros) as u64);
            close(got.mean, mean, 1e-13);
            close(got.var, var, 1e-13);
        }
    }

    #[test]
    fn any_split_agrees_and_empty_is_neutral() {
        let mut rng = Rng::new(2, 0);
        let values: Vec<f64> = (0..997).map(|_| (8.0 * rng.uniform()).exp2() + 1.0).collect();
        let whole = accumulate(&values);
        let want = whole.with_zeros(3000);
        for _ in 0..200 {
            let mut cuts: Vec<usize> = (0..4).map(|_| rng.below(998) as usize).collect();
            cuts.extend([0, 997]);
            cuts.sort_unstable();
            let mut merged = Moments::default();
            for pair in cuts.windows(2) {
                merged.merge(&accumulate(&values[pair[0]..pair[1]]));
            }
            let got = merged.with_zeros(3000);
            close(got.mean, want.mean, 1e-12);
            close(got.var, want.var, 1e-12);
            close(merged.sum(), whole.sum(), 1e-12);
        }
        let mut left = Moments::default();
        left.merge(&whole);
        let mut right = whole;
        right.merge(&Moments::default());
        assert_eq!(left, whole);
        assert_eq!(right, whole);
    }

    #[test]
    fn large_means_keep_the_variance() {
        let mut rng = Rng::new(3, 0);
        for spread in [1e-3, 1.0, 1e3] {
            let values: Vec<f64> = (0..10_000).map(|_| 1e9 + spread * rng.uniform()).collect();
            let (_, var) = naive(&values, values.len());
            close(accumulate(&values).summary().var, var, 1e-9);
            let mut merged = accumulate(&values[..1234]);
            merged.merge(&accumulate(&values[1234..]));
            close(merged.summary().var, var, 1e-9);
        }
    }

    #[test]
    fn a_far_first_value_costs_little() {
        let mut rng = Rng::new(4, 0);
        let mut values: Vec<f64> = (0..100_000).map(|_| rng.uniform()).collect();
        values[0] = 1e3;
        let (mean, var) = naive(&values, values.len());
        let got = accumulate(&values).summary();
        close(got.mean, mean, 1e-9);
        close(got.var, var, 1e-9);
    }

    #[test]
    fn constants_and_degenerate_samples() {
        let same = accumulate(&[0.1; 7]).summary();
        assert_eq!((same.mean, same.var), (0.1, 0.0));
        let zeros = Moments::default().with_zeros(5);
        assert_eq!((zeros.mean, zeros.var), (0.0, 0.0));
        assert!(Moments::default().summary().mean.is_nan());
        assert!(accumulate(&[2.0]).summary().var.is_nan());
        assert!(accumulate(&[1.0, f64::NAN, 2.0]).summary().var.is_nan());
        assert!(accumulate(&[1.0, f64::INFINITY, 2.0]).summary().var.is_nan());
    }

    /// Sums about zero, in one go and of some parts.
    fn sums(values: &[f64], parts: usize) -> Moments {
        let mut all = Moments::default();
        for part in values.chunks(values.len().div_ceil(parts)) {
            let squares = part.iter().map(|x| x * x).sum();
            all.merge(&Moments::of_sums(part.len() as u64, part.iter().sum(), squares));
        }
        all
    }

    #[test]
    fn sums_about_zero_agree_with_two_passes() {
        let mut rng = Rng::new(6, 0);
        for n in [1, 2, 3, 50, 10_000] {
            for (base, spread) in [(0.0, 1.0), (5.0, 1e-2), (300.0, 1.0), (1e-9, 1e-9)] {
                let values: Vec<f64> = (0..n).map(|_| base + spread * rng.uniform()).collect();
                for parts in [1, 3] {
                    let (mean, var) = naive(&values, n + 7);
                    let got = sums(&values, parts).with_zeros((n + 7) as u64);
                    close(got.mean, mean, 1e-13);
                    // (mean / sd)^2 is about 1500 at most, and there are 10,000 roundings.
                    close(got.var, var, 1e-10);
                    if n >= 50 {
                        // (mean / sd)^2 is about 3e6 at most.
                        close(sums(&values, parts).summary().var, naive(&values, n).1, 1e-6);
                    }
                }
            }
        }
    }

    #[test]
    fn sums_about_zero_know_what_is_constant() {
        for value in [0.1, 1.0 / 3.0, 7.0, 123_456.789, 2.5e-7] {
            let two = sums(&[value; 2], 1).summary();
            for n in [2, 7, 1000, 100_000] {
                for parts in [1, 2, 5] {
                    let got = sums(&vec![value; n], parts).summary();
                    assert_eq!(got.var, 0.0, "{value}, {n} times");
                    assert!(got.same_constant(&two) && two.same_constant(&got));
                }
            }
            let mut other = vec![value; 1000];
            assert!(!sums(&other, 2).with_zeros(1001).same_constant(&two));
            other[3] *= 1.0 + 1e-4;
            assert!(sums(&other, 2).summary().var > 0.0);
            let next = sums(&vec![value * (1.0 + 1e-9); 1000], 2).summary();
            assert!(!next.same_constant(&two));
        }
        // Zeros that were pushed.
        let first: Vec<f64> = (0..100_000).map(|i| f64::from(u8::from(i == 5))).collect();
        close(accumulate(&first).summary().var, naive(&first, first.len()).1, 1e-12);
    }

    #[test]
    fn counts_are_exactly_rounded() {
        // R 4.2.2: v <- c(3, 1, 4, 1, 5, 9, 2, 6, rep(0, 12)); mean(v); var(v)
        let mut m = CountMoments::default();
        for x in [3, 1, 4, 1, 5, 9, 2, 6] {
            m.push(x);
        }
        let got = m.with_zeros(20);
        assert_eq!(got.mean, 1.55);
        assert_eq!(got.var, (20.0 * 173.0 - 31.0 * 31.0) / 380.0);
        assert_eq!((m.n(), m.sum()), (8, 31));
    }

    #[test]
    fn counts_stay_exact_at_large_values() {
        // Counts B and B + 1 in equal number have variance n / (4 (n - 1)),
        // whatever B.
        let mut m = CountMoments::default();
        for i in 0..1000_u64 {
            m.push((1 << 40) + i % 2);
        }
        let got = m.summary();
        assert_eq!(got.mean, (1_u64 << 40) as f64 + 0.5);
        assert_eq!(got.var, 1000.0 / (4.0 * 999.0));
        // Past 2^128 of n * sum_sq the floating-point branch takes over.
        let mut big = CountMoments::default();
        big.push(1 << 62);
        let n = 1 << 20;
        close(big.with_zeros(n).var, 2.0_f64.powi(124) / n as f64, 1e-15);
    }

    #[test]
    fn counts_agree_with_moments_at_any_split() {
        let mut rng = Rng::new(5, 0);
        let counts: Vec<u64> = (0..500).map(|_| 1 + rng.below(40)).collect();
        let mut whole = CountMoments::default();
        let mut float = Moments::default();
        for &c in &counts {
            whole.push(c);
            float.push(c as f64);
        }
        for cut in [0, 1, 77, 499, 500] {
            let (mut a, mut b) = (CountMoments::default(), CountMoments::default());
            for &c in &counts[..cut] {
                a.push(c);
            }
            for &c in &counts[cut..] {
                b.push(c);
            }
            a.merge(&b);
            assert_eq!(a, whole);
        }
        close(float.with_zeros(900).mean, whole.with_zeros(900).mean, 1e-14);
        close(float.with_zeros(900).var, whole.with_zeros(900).var, 1e-13);
    }

    #[test]
    fn ratio_rounds_once() {
        let cases: [(u128, u128); 6] =
            [(1, 3), (2, 3), (1, 10), (0, 7), (12_345_678_901_234_567, 1), (1, (1 << 126) + 1)];
        let want =
            [1.0 / 3.0, 2.0 / 3.0, 0.1, 0.0, 12_345_678_901_234_567_u64 as f64, 2.0_f64.powi(-126)];
        for ((num, den), want) in cases.into_iter().zip(want) {
            assert_eq!(ratio(num, den), want, "{num} / {den}");
        }
        // Halfway cases decided by the sticky bit: 2^53 + 1 +- 2^-60.
        let half = ((1_u128 << 53) + 1) << 60;
        assert_eq!(ratio(half, 1 << 60), 2.0_f64.powi(53));
        assert_eq!(ratio(half + 1, 1 << 60), 2.0_f64.powi(53) + 2.0);
        assert_eq!(ratio(half - 1, 1 << 60), 2.0_f64.powi(53));
    }

    #[test]
    fn partials_survive_serialisation() {
        let m = accumulate(&[0.1, 0.7, 1e9]);
        let bytes = postcard::to_stdvec(&m).unwrap();
        assert_eq!(postcard::from_bytes::<Moments>(&bytes).unwrap(), m);
        let mut c = CountMoments::default();
        c.push(u64::from(u32::MAX));
        let bytes = postcard::to_stdvec(&c).unwrap();
        assert_eq!(postcard::from_bytes::<CountMoments>(&bytes).unwrap(), c);
    }
}
