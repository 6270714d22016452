//! Student's t between groups, from their moments.

use super::combine::{Effects, Verdict, Weight, stouffer};
use super::contrast::Contrasts;
use super::fold_change::{FoldChange, Side};
use super::moments::{Briefs, GroupMoments, MomentTest, StratumMoments};
use super::replicates::ReplicatePlan;
use super::table::Row;
use super::welch::{SideSummaries, welch, welch_of_strata};
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

    fn briefs(&self, sides: &SideSummaries, out: &mut Briefs) -> bool {
        if self.alternative != Alternative::TwoSided {
            return false;
        }
        let smaller = self.spread == Spread::Overestimated;
        welch_of_strata(self.contrasts, sides, smaller, out);
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
        let ([t], [df]) = welch(&a.into(), &b.into(), &[n as f64]);
        Student { t, df, constant: a.same_constant(&b) }
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
