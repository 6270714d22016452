//! Differences in detection between groups, from their moments: whether more
//! cells of one have a nonzero value, as `pairwiseBinom()` of scran tests it.
//!
//! Given the cells that express a gene, those of the group are binomial with the
//! group's share of the cells (Przyborowski & Wilenski 1940). The statistic is the
//! normal deviate of the nearer tail, positive where more cells of the group express
//! the gene; a two-sided p-value is twice the smaller tail. Fold changes are those
//! of [`FoldChange::Detection`].

use std::f64::consts::{LN_2, LN_10};

use super::combine::{Effects, Verdict, Weight, stouffer};
use super::contrast::Contrasts;
use super::fold_change::FoldChange;
use super::moments::{MomentTest, StratumMoments};
use super::replicates::ReplicatePlan;
use super::table::Row;
use crate::stats::binom::{BinomialTails, binomial_tails};
use crate::stats::dist::{Alternative, PValue, normal_deviate, normal_log_sf};

/// What to do with the numbers of cells.
///
/// The tails of strata are combined as Stouffer does, each for itself, with the
/// cells as weights; strata in which no cell expresses the gene say nothing and
/// are left out of the statistic.
#[derive(Debug, Clone, Copy)]
pub struct Binomial<'c> {
    /// The comparisons.
    pub contrasts: &'c Contrasts,
    /// Which differences count.
    pub alternative: Alternative,
}

impl MomentTest for Binomial<'_> {
    fn contrasts(&self) -> &Contrasts {
        self.contrasts
    }

    fn replicates(&self) -> Option<ReplicatePlan<'_>> {
        ReplicatePlan::new(self.contrasts, FoldChange::Detection, Weight::Cells)
    }

    fn row(&self, strata: &[StratumMoments]) -> Row {
        let effects: Vec<Effects> = strata.iter().map(effects).collect();
        let tails = combined(strata);
        let verdict = Verdict { statistic: deviate(&tails), p: p_value(&tails, self.alternative) };
        Effects::row(&effects, verdict)
    }
}

fn effects(stratum: &StratumMoments) -> Effects {
    let one = stratum.group.sums().side(stratum.n_group);
    let other = stratum.reference.sums().side(stratum.n_reference);
    Effects::new(&one, &other, false, FoldChange::Detection, Weight::Cells)
}

fn combined(strata: &[StratumMoments]) -> BinomialTails {
    let tails = |s: &StratumMoments| {
        let (k, other) = (s.group.values.n(), s.reference.values.n());
        binomial_tails(k, k + other, s.n_group as f64, s.n_reference as f64)
    };
    if let [one] = strata {
        return tails(one);
    }
    let detected = |s: &&StratumMoments| s.group.values.n() + s.reference.values.n() > 0;
    let known: Vec<(f64, BinomialTails)> = strata
        .iter()
        .filter(detected)
        .map(|s| (Weight::Cells.of(s.n_group, s.n_reference), tails(s)))
        .collect();
    if known.is_empty() {
        return BinomialTails { ln_lower: 0.0, ln_upper: 0.0 };
    }
    let combine = |ln_tail: fn(&BinomialTails) -> f64| {
        let deviates = known.iter().map(|(weight, tails)| (*weight, upper_deviate(ln_tail(tails))));
        // A sum of both infinities is no number: no evidence either.
        let z = stouffer(deviates);
        if z.is_nan() { 0.0 } else { normal_log_sf(z) }
    };
    BinomialTails { ln_lower: combine(|t| t.ln_lower), ln_upper: combine(|t| t.ln_upper) }
}

/// The deviate whose upper tail has this logarithm, on either side of zero.
fn upper_deviate(ln_tail: f64) -> f64 {
    if ln_tail <= -LN_2 {
        normal_deviate(ln_tail)
    } else {
        -normal_deviate(libm::log(-libm::expm1(ln_tail)))
    }
}

fn deviate(tails: &BinomialTails) -> f64 {
    if tails.ln_upper < tails.ln_lower {
        normal_deviate(tails.ln_upper)
    } else {
        0.0 - normal_deviate(tails.ln_lower)
    }
}

fn p_value(tails: &BinomialTails, alternative: Alternative) -> PValue {
    let ln = match alternative {
        Alternative::TwoSided => (tails.ln_lower.min(tails.ln_upper) + LN_2).min(0.0),
        Alternative::Greater => tails.ln_upper,
        Alternative::Less => tails.ln_lower,
    };
    PValue { p_value: libm::exp(ln), log10_p: ln / LN_10 + 0.0 }
}

#[cfg(test)]
// References are as R prints them.
#[allow(clippy::excessive_precision)]
mod tests {
    use super::*;
    use crate::de::moments::GroupMoments;

    fn stratum(detected: (u64, u64), n_group: u64, n_reference: u64) -> StratumMoments {
        let moments = |n: u64| {
            let mut moments = GroupMoments::default();
            for _ in 0..n {
                crate::de::group_pass::Accumulate::push(&mut moments, 1.0, 1.0);
            }
            moments
        };
        let (group, reference) = (moments(detected.0), moments(detected.1));
        StratumMoments { group, n_group, reference, n_reference }
    }

    fn row(alternative: Alternative, strata: &[StratumMoments]) -> Row {
        let contrasts = Contrasts::new(&[], 0, &[], None).unwrap();
        Binomial { contrasts: &contrasts, alternative }.row(strata)
    }

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-13 * want.abs().max(1.0), "{got} against {want}");
    }

    // tests/fixtures-src/reference_scran.R, scran 1.26.2, R 4.2.2: pairwiseBinom() with
    // 3 of 5 cells against 0 of 4 in one block, 2 of 4 against 1 of 4 in another:
    // logFC and log.p.value for any, up, down; first without blocks.
    #[test]
    fn agrees_with_scran() {
        let two = Alternative::TwoSided;
        let pooled = [stratum((5, 1), 9, 8)];
        close(row(two, &pooled).log2_fc, 1.472_181_406_382_452_54);
        close(row(two, &pooled).log10_p * LN_10, -1.276_958_729_261_703_51);
        close(row(Alternative::Greater, &pooled).log10_p * LN_10, -1.970_105_909_821_648_904);
        close(row(Alternative::Less, &pooled).log10_p * LN_10, -0.022_263_167_030_596_050);
        let blocks = [stratum((3, 0), 5, 4), stratum((2, 1), 4, 4)];
        close(row(two, &blocks).log2_fc, 1.274_554_555_437_855_2);
        close(row(two, &blocks).log10_p * LN_10, -0.737_243_854_300_443_26);
        close(row(Alternative::Greater, &blocks).log10_p * LN_10, -1.430_391_034_860_388_544);
        assert_eq!(row(Alternative::Less, &blocks).p_value, 1.0);
        // 2 of 5 against 3 of 4, 1 of 4 against 3 of 4.
        let down = [stratum((2, 3), 5, 4), stratum((1, 3), 4, 4)];
        close(row(two, &down).log2_fc, -0.811_453_276_939_560_26);
        close(row(two, &down).log10_p * LN_10, -0.506_304_490_607_485_72);
        close(row(Alternative::Greater, &down).log10_p * LN_10, -0.030_771_195_511_333_879);
        close(row(Alternative::Less, &down).log10_p * LN_10, -1.199_451_671_167_431_01);
        assert!(row(two, &down).statistic < 0.0);
    }

    #[test]
    fn the_statistic_has_the_tail_of_the_p_value() {
        for strata in
            [vec![stratum((5, 1), 9, 8)], vec![stratum((2, 3), 5, 4), stratum((1, 3), 4, 4)]]
        {
            let row = row(Alternative::TwoSided, &strata);
            close(crate::stats::dist::normal_two_sided(row.statistic).log10_p, row.log10_p);
        }
    }

    #[test]
    fn undetected_genes_say_nothing() {
        let nothing = [stratum((0, 0), 9, 3)];
        for alternative in [Alternative::TwoSided, Alternative::Greater, Alternative::Less] {
            let got = row(alternative, &nothing);
            assert_eq!((got.log2_fc, got.statistic), (0.0, 0.0));
            assert_eq!((got.p_value, got.log10_p), (1.0, 0.0));
            let twice = row(alternative, &[nothing[0], nothing[0]]);
            assert_eq!((twice.statistic, twice.p_value), (0.0, 1.0));
            // Beside an informative block the empty one does not count.
            let one = stratum((3, 0), 5, 4);
            let beside = row(alternative, &[one, nothing[0]]);
            close(beside.log10_p, row(alternative, &[one]).log10_p);
        }
    }

    #[test]
    fn opposite_certainties_cancel() {
        let got = row(Alternative::TwoSided, &[stratum((3, 0), 5, 4), stratum((0, 3), 4, 4)]);
        assert_eq!((got.p_value, got.statistic), (1.0, 0.0));
    }
}
