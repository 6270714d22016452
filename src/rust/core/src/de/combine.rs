//! From the strata of a comparison to its row.
//!
//! Effects of several strata (blocks) are averaged with the weights that the
//! statistic gives them: for rank tests `n m / (n + m + 1)`, by which deviations of
//! the area under the curve enter van Elteren's statistic; for t-tests
//! `(1 / n + 1 / m)^(-1/2)`, Stouffer's weights; for detection `n + m`.

use super::fold_change::{FoldChange, Side};
use super::table::Row;
use crate::stats::dist::PValue;

/// How much a stratum of n cells against m counts among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// As van Elteren weights areas under the curve.
    Ranks,
    /// As Stouffer's deviates of t.
    Means,
    /// The cells.
    Cells,
}

impl Weight {
    pub(super) fn of(self, n: u64, m: u64) -> f64 {
        let (n, m) = (n as f64, m as f64);
        match self {
            Weight::Ranks => n * m / (n + m + 1.0),
            Weight::Means => (1.0 / (1.0 / n + 1.0 / m)).sqrt(),
            Weight::Cells => n + m,
        }
    }
}

/// What a test makes of a comparison beside its effects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) statistic: f64,
    pub(super) p: PValue,
}

/// The effects in one stratum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effects {
    pub(super) log2_fc: f64,
    pub(super) auc: f64,
    mean: (f64, f64),
    fraction: (f64, f64),
    weight: f64,
}

impl Effects {
    /// Of two sides; the area under the curve is up to the test.
    pub(super) fn new(
        group: &Side,
        reference: &Side,
        constant: bool,
        fold_change: FoldChange,
        weight: Weight,
    ) -> Self {
        Effects {
            log2_fc: fold_change.log2(group, reference, constant),
            auc: f64::NAN,
            mean: (group.linear_mean(), reference.linear_mean()),
            fraction: (group.fraction(), reference.fraction()),
            weight: weight.of(group.n, reference.n),
        }
    }

    /// The row of a comparison.
    pub(super) fn row(strata: &[Effects], verdict: Verdict) -> Row {
        let average = |value: fn(&Effects) -> f64| match strata {
            [one] => value(one),
            _ => average(strata.iter().map(|effects| (effects.weight, value(effects)))),
        };
        Row {
            log2_fc: average(|e| e.log2_fc),
            statistic: verdict.statistic,
            p_value: verdict.p.p_value,
            log10_p: verdict.p.log10_p,
            auc: average(|e| e.auc),
            mean: (average(|e| e.mean.0), average(|e| e.mean.1)),
            fraction: (average(|e| e.fraction.0), average(|e| e.fraction.1)),
            replicates: None,
        }
    }
}

/// The average of values with their weights.
fn average(values: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (total, sum) =
        values.fold((0.0, 0.0), |(total, sum), (weight, x)| (total + weight, sum + weight * x));
    sum / total
}

/// Stouffer's weighted sum of normal deviates, itself a normal deviate. Strata
/// without a deviate (NaN) do not count; NaN if there is none.
pub(super) fn stouffer(deviates: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for (weight, z) in deviates.filter(|(_, z)| !z.is_nan()) {
        sum += weight * z;
        squares += weight * weight;
    }
    sum / f64::sqrt(squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        assert_eq!(Weight::Ranks.of(4, 5), 2.0);
        assert_eq!(Weight::Means.of(8, 8), 2.0);
        assert_eq!(Weight::Cells.of(8, 3), 11.0);
    }

    #[test]
    fn strata_without_a_deviate_do_not_count() {
        assert_eq!(stouffer([(3.0, 1.0), (4.0, 2.0)].into_iter()), 11.0 / 5.0);
        assert_eq!(stouffer([(3.0, 1.0), (4.0, f64::NAN)].into_iter()), 1.0);
        assert!(stouffer([(3.0, f64::NAN)].into_iter()).is_nan());
    }
}
