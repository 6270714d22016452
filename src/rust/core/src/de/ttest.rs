//! Student's t between groups, from their moments.

use super::combine::{Effects, Verdict, Weight, stouffer};
use super::contrast::Contrasts;
use super::fold_change::{FoldChange, Side};
use super::moments::{Briefs, GroupMoments, MomentTest, StratumMoments};
use super::replicates::ReplicatePlan;
use super::table::Row;
use crate::stats::dist::{Alternative, PValue, normal_p_value, t_p_value, t_p_values, t_to_normal};
use crate::stats::moments::MeanVar;

/// How the reference's variance enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// As Welch (1947): the variance of its mean, over all its cells.
    Welch,
    /// As if it had no more cells than the group: scanpy's `t-test_overestim_var`.
    Overestimated,
}

/// What to do with the moments.
///
/// Strata are tested each for itself; their t become normal deviates with the
/// same tails, and these are combined as Stouffer does, with weights
/// `(1 / n + 1 / m)^(-1/2)`.
#[derive(Debug, Clone, Copy)]
pub struct TTest<'c> {
    /// The comparisons.
    pub contrasts: &'c Contrasts,
    /// How the reference's variance enters.
    pub spread: Spread,
    /// Which differences count.
    pub alternative: Alternative,
    /// How fold changes are taken.
    pub fold_change: FoldChange,
}

impl MomentTest for TTest<'_> {
    fn contrasts(&self) -> &Contrasts {
        self.contrasts
    }

    fn replicates(&self) -> Option<ReplicatePlan<'_>> {
        ReplicatePlan::new(self.contrasts, self.fold_change, Weight::Means)
    }

    fn row(&self, strata: &[StratumMoments]) -> Row {
        if let [stratum] = strata {
            let one = self.stratum(stratum);
            return Effects::row(&[one.effects], self.verdict(&one.student));
        }
        let strata: Vec<Tested> = strata.iter().map(|stratum| self.stratum(stratum)).collect();
        let deviates = strata.iter().map(|s| (s.weight, t_to_normal(s.student.t, s.student.df)));
        let constant = strata.iter().all(|s| s.student.constant);
        let statistic = if constant { 0.0 } else { stouffer(deviates) };
        let p = if constant { CERTAIN } else { normal_p_value(statistic, self.alternative) };
        let effects: Vec<Effects> = strata.iter().map(|s| s.effects).collect();
        Effects::row(&effects, Verdict { statistic, p })
    }

    fn briefs(&self, sides: impl Iterator<Item = (MeanVar, MeanVar)>, out: &mut Briefs) -> bool {
        if self.alternative != Alternative::TwoSided {
            return false;
        }
        for (a, b) in sides {
            let Student { t, df, .. } = self.student(a, b);
            out.statistics.push(t);
            // As in a verdict: none are needed where t is zero or infinite.
            out.dfs.push(match t {
                0.0 => 100.0,
                _ if t.is_infinite() => f64::INFINITY,
                _ => df,
            });
        }
        t_p_values(&out.statistics, &out.dfs, &mut out.p_values);
        true
    }
}

/// The p-value of what never varies.
const CERTAIN: PValue = PValue { p_value: 1.0, log10_p: 0.0 };

/// Student's t of one stratum.
struct Student {
    t: f64,
    df: f64,
    /// Whether all cells have the same value.
    constant: bool,
}

/// One stratum.
struct Tested {
    student: Student,
    weight: f64,
    effects: Effects,
}

impl TTest<'_> {
    fn student(&self, a: MeanVar, b: MeanVar) -> Student {
        let n = match self.spread {
            Spread::Welch => b.n,
            Spread::Overestimated => a.n,
        };
        if a.same_constant(&b) {
            return Student { t: 0.0, df: f64::NAN, constant: true };
        }
        let (t, df) = welch(a, MeanVar { n, ..b });
        Student { t, df, constant: false }
    }

    fn stratum(&self, stratum: &StratumMoments) -> Tested {
        let (a, b) = stratum.summaries();
        let student = self.student(a, b);
        let side = |moments: &GroupMoments, summary: MeanVar| Side {
            n: summary.n,
            detected: moments.values.n(),
            linear: moments.linear,
            mean: summary.mean,
        };
        let (one, other) = (side(&stratum.group, a), side(&stratum.reference, b));
        let effects = Effects::new(&one, &other, student.constant, self.fold_change, Weight::Means);
        Tested { student, weight: Weight::Means.of(a.n, b.n), effects }
    }

    #[inline]
    fn verdict(&self, one: &Student) -> Verdict {
        let p = if one.constant || (one.t == 0.0 && self.alternative == Alternative::TwoSided) {
            CERTAIN
        } else if one.t == 0.0 || one.t.is_infinite() {
            // No degrees of freedom are needed.
            normal_p_value(one.t, self.alternative)
        } else {
            t_p_value(one.t, one.df, self.alternative)
        };
        Verdict { statistic: one.t, p }
    }
}

/// Welch's t and the degrees of freedom of Satterthwaite. Equal means give 0
/// whatever the variances; different means without any variance, an infinity.
#[inline]
#[must_use]
pub fn welch(a: MeanVar, b: MeanVar) -> (f64, f64) {
    let (va, vb) = (a.var / a.n as f64, b.var / b.n as f64);
    let difference = a.mean - b.mean;
    if difference == 0.0 && !(va + vb).is_nan() {
        return (0.0, f64::NAN);
    }
    let df =
        (va + vb).powi(2) / (va.powi(2) / (a.n as f64 - 1.0) + vb.powi(2) / (b.n as f64 - 1.0));
    (difference / (va + vb).sqrt(), df)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::dist::t_two_sided;
    use crate::stats::moments::Moments;

    fn summary(values: &[f64]) -> MeanVar {
        let mut moments = Moments::default();
        for &x in values {
            moments.push(x);
        }
        moments.summary()
    }

    // R 4.2.2: t.test(c(1, 2, 4, 8), c(0, 0, 1.5, 3, 0.5)): t, parameter, p.value.
    #[test]
    fn agrees_with_t_test() {
        let (t, df) = welch(summary(&[1.0, 2.0, 4.0, 8.0]), summary(&[0.0, 0.0, 1.5, 3.0, 0.5]));
        assert!((t - R_T).abs() < 1e-14, "{t}");
        assert!((df - R_DF).abs() < 1e-13, "{df}");
        assert!((t_two_sided(t, df).p_value - R_P).abs() < 1e-14);
    }
    const R_T: f64 = 1.667_177_053_041_106_7;
    const R_DF: f64 = 3.816_446_292_826_712_7;
    const R_P: f64 = 0.174_227_403_394_280_67;

    #[test]
    fn without_variance() {
        let (same, other) = (summary(&[2.0, 2.0]), summary(&[3.0, 3.0, 3.0]));
        assert_eq!(welch(same, same).0, 0.0);
        assert_eq!(welch(other, same).0, f64::INFINITY);
        assert!(welch(summary(&[2.0]), other).0.is_nan());
    }
}
