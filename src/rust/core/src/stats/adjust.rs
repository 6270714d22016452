//! Adjustment of p-values for multiple tests, as R's `p.adjust`.

use serde::{Deserialize, Serialize};

/// How to adjust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Adjustment {
    /// Benjamini & Hochberg (1995): false discovery rate.
    BenjaminiHochberg,
    /// Benjamini & Yekutieli (2001): false discovery rate under any dependence.
    BenjaminiYekutieli,
    /// Bonferroni: family-wise error rate.
    Bonferroni,
    /// Holm (1979): family-wise error rate, uniformly better than Bonferroni.
    Holm,
}

/// Adjusted p-values, in the order of the input.
///
/// # Numerics
///
/// As [`Adjusted`].
#[must_use]
pub fn adjust(p_values: &[f64], method: Adjustment) -> Vec<f64> {
    let adjusted = Adjusted::new(p_values.to_vec(), method, None);
    p_values.iter().map(|&p| adjusted.of(p)).collect()
}

/// The p-values of some tests in ascending order, each with its adjusted value.
///
/// # Numerics
///
/// As `stats::p.adjust` of R: NaN stays NaN and does not count as a test, a
/// single test is unchanged, and the products are taken in R's order. Equal
/// p-values get equal adjusted values whatever their order.
#[derive(Debug, Clone, Default)]
pub struct Adjusted {
    sorted: Vec<f64>,
    adjusted: Vec<f64>,
}

impl Adjusted {
    /// Adjusts for `n_tests`, or for as many tests as there are p-values.
    #[must_use]
    pub fn new(mut p_values: Vec<f64>, method: Adjustment, n_tests: Option<usize>) -> Self {
        p_values.retain(|p| !p.is_nan());
        let p_values = ascending(p_values);
        let n_tests = n_tests.unwrap_or(p_values.len());
        let mut adjusted = p_values.clone();
        if n_tests > 1 {
            adjust_sorted(&mut adjusted, method, n_tests);
        }
        Adjusted { sorted: p_values, adjusted }
    }

    /// The adjusted value of one of the p-values; NaN for any other.
    #[must_use]
    pub fn of(&self, p: f64) -> f64 {
        match self.sorted.binary_search_by_key(&p.to_bits(), |other| other.to_bits()) {
            Ok(at) => self.adjusted[at],
            Err(_) => f64::NAN,
        }
    }
}

/// The p-values in ascending order.
///
/// Problem: comparison sorts take 25 ns for each of 20,000. Solution: p-values are spread from
/// zero to one, so that as many buckets of one width as there are values hold a few each;
/// one that holds more takes no longer than without buckets.
fn ascending(mut p_values: Vec<f64>) -> Vec<f64> {
    let n = p_values.len();
    if n < FEW || n > u32::MAX as usize {
        sort(&mut p_values);
        return p_values;
    }
    let bucket = |p: f64| ((p * n as f64) as usize).min(n - 1);
    let mut ends = vec![0_u32; n];
    for &p in &p_values {
        ends[bucket(p)] += 1;
    }
    let mut start = 0;
    for end in &mut ends {
        // Where the next one of the bucket goes.
        (*end, start) = (start, start + *end);
    }
    let mut sorted = vec![0.0; n];
    for &p in &p_values {
        let end = &mut ends[bucket(p)];
        sorted[*end as usize] = p;
        *end += 1;
    }
    let mut start = 0;
    for end in ends {
        let end = end as usize;
        if end - start > 1 {
            sort(&mut sorted[start..end]);
        }
        start = end;
    }
    sorted
}

/// Fewer p-values than this are sorted as they are.
const FEW: usize = 64;

fn sort(p_values: &mut [f64]) {
    // Of numbers that are not negative the bits have the same order.
    p_values.sort_unstable_by_key(|p| p.to_bits());
}

/// Adjusts p-values in ascending order in their place.
fn adjust_sorted(p_values: &mut [f64], method: Adjustment, n_tests: usize) {
    let n = n_tests as f64;
    match method {
        Adjustment::Bonferroni => {
            for p in p_values {
                *p = (n * *p).min(1.0);
            }
        }
        Adjustment::Holm => {
            let mut largest = 0.0_f64;
            for (rank, p) in p_values.iter_mut().enumerate() {
                largest = largest.max((n - rank as f64) * *p);
                *p = largest.min(1.0);
            }
        }
        Adjustment::BenjaminiHochberg | Adjustment::BenjaminiYekutieli => {
            let factor = if method == Adjustment::BenjaminiYekutieli {
                (1..=n_tests).map(|i| 1.0 / i as f64).sum::<f64>() * n
            } else {
                n
            };
            let mut smallest = f64::INFINITY;
            for (rank, p) in p_values.iter_mut().enumerate().rev() {
                smallest = smallest.min(factor / (rank + 1) as f64 * *p);
                *p = smallest.min(1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;

    /// With ties, a zero, a one, a NaN and values out of order.
    const P: [f64; 12] =
        [0.01, 0.04, 0.04, 1e-300, f64::NAN, 0.5, 0.03, 1.0, 0.0, 0.04, 0.2, 0.011];

    fn check(method: Adjustment, want: [f64; 12]) {
        for (i, (got, want)) in adjust(&P, method).into_iter().zip(want).enumerate() {
            let same = (got.is_nan() && want.is_nan()) || (got - want).abs() <= 1e-15 * want;
            assert!(same, "{method:?} [{i}]: {got} against {want}");
        }
    }

    // R 4.2.2: p <- c(.01, .04, .04, 1e-300, NA, .5, .03, 1, 0, .04, .2, .011);
    // sprintf("%.17g", p.adjust(p, method)) with method BH, BY, bonferroni, holm.
    #[test]
    fn agrees_with_p_adjust() {
        check(
            Adjustment::BenjaminiHochberg,
            [
                0.030249999999999999,
                0.055,
                0.055,
                5.4999999999999999e-300,
                f64::NAN,
                0.55000000000000004,
                0.055,
                1.0,
                0.0,
                0.055,
                0.24444444444444446,
                0.030249999999999999,
            ],
        );
        check(
            Adjustment::BenjaminiYekutieli,
            [
                0.09135128968253968,
                0.16609325396825397,
                0.16609325396825397,
                1.6609325396825397e-299,
                f64::NAN,
                1.0,
                0.16609325396825397,
                1.0,
                0.0,
                0.16609325396825397,
                0.73819223985890658,
                0.09135128968253968,
            ],
        );
        check(
            Adjustment::Bonferroni,
            [
                0.11,
                0.44,
                0.44,
                1.1e-299,
                f64::NAN,
                1.0,
                0.32999999999999996,
                1.0,
                0.0,
                0.44,
                1.0,
                0.121,
            ],
        );
        check(
            Adjustment::Holm,
            [
                0.089999999999999997,
                0.23999999999999999,
                0.23999999999999999,
                9.9999999999999999e-300,
                f64::NAN,
                1.0,
                0.20999999999999999,
                1.0,
                0.0,
                0.23999999999999999,
                0.60000000000000009,
                0.089999999999999997,
            ],
        );
    }

    #[test]
    fn ties_are_adjusted_alike_in_any_order() {
        let forward = [0.3, 0.1, 0.1, 0.02, 0.1];
        let mut backward = forward;
        backward.reverse();
        for method in
            [Adjustment::BenjaminiHochberg, Adjustment::BenjaminiYekutieli, Adjustment::Holm]
        {
            let mut mirrored = adjust(&backward, method);
            mirrored.reverse();
            let straight = adjust(&forward, method);
            assert_eq!(straight, mirrored);
            assert_eq!(straight[1], straight[2]);
            assert_eq!(straight[1], straight[4]);
        }
    }

    // R 4.2.2: p <- c(.01, .04, NA, .5, .001); p.adjust(p[!is.na(p)], method, n = 40)
    #[test]
    fn more_tests_than_p_values() {
        let p_values = [0.01, 0.04, f64::NAN, 0.5, 0.001];
        for (method, first, last) in [
            (Adjustment::BenjaminiHochberg, 0.2, 0.04),
            (Adjustment::BenjaminiYekutieli, 0.855_708_607_787_275_2, 0.171_141_721_557_455_05),
            (Adjustment::Bonferroni, 0.4, 0.04),
            (Adjustment::Holm, 0.39, 0.04),
        ] {
            let adjusted = Adjusted::new(p_values.to_vec(), method, Some(40));
            assert_eq!((adjusted.of(0.01), adjusted.of(0.001)), (first, last), "{method:?}");
            assert_eq!(adjusted.of(0.5), 1.0);
            assert!(adjusted.of(f64::NAN).is_nan());
        }
    }

    #[test]
    fn buckets_sort_as_comparisons_do() {
        let mut rng = Rng::new(3, 0);
        for n in [1, FEW - 1, FEW, 1000, 20_000] {
            for shape in 0..4 {
                let mut p_values: Vec<f64> = (0..n)
                    .map(|i| match shape {
                        0 => rng.uniform(),
                        1 => rng.uniform().powi(40),
                        2 => rng.below(3) as f64 / 2.0,
                        _ if i % 2 == 0 => 1.0,
                        _ => rng.uniform() * 1e-300,
                    })
                    .collect();
                let got = ascending(p_values.clone());
                sort(&mut p_values);
                assert_eq!(got, p_values, "n {n}, shape {shape}");
            }
        }
    }

    #[test]
    fn none_and_one_test() {
        assert!(adjust(&[], Adjustment::BenjaminiHochberg).is_empty());
        assert_eq!(adjust(&[0.2], Adjustment::BenjaminiYekutieli), [0.2]);
        let got = adjust(&[f64::NAN, 0.2], Adjustment::Bonferroni);
        assert!(got[0].is_nan());
        assert_eq!(got[1], 0.2);
    }
}
