//! Welch's t of one comparison, and of thousands at once.
//!
//! Problem: two thousand groups against the rest are forty million comparisons, and most of
//! what each takes are divisions that wait for each other. Solution: the mean and the variance of each
//! side are found once, and both these and the statistics eight at a time, without branches.
//! Their operations are the same as of one alone, none fused, and so are their bits.

use pulp::{Arch, NullaryFnOnce};

use super::contrast::Contrasts;
use super::moments::Briefs;
use crate::stats::moments::{MeanVar, Moments, same_constant, with_zeros};

/// What goes together.
const LANES: usize = 8;

/// `N` samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples<const N: usize> {
    /// Cells.
    pub(super) n: [f64; N],
    pub(super) mean: [f64; N],
    pub(super) var: [f64; N],
}

impl From<MeanVar> for Samples<1> {
    fn from(MeanVar { n, mean, var }: MeanVar) -> Self {
        Samples { n: [n as f64], mean: [mean], var: [var] }
    }
}

/// Welch's t and the degrees of freedom of Satterthwaite. Equal means give 0
/// whatever the variances, and no degrees of freedom, as does what never varies; different
/// means without any variance, an infinity.
/// `n_reference` is what the cells of the reference count as.
#[allow(clippy::inline_always)] // Or it is not compiled with the features of the processor.
#[inline(always)]
pub(super) fn welch<const N: usize>(
    group: &Samples<N>,
    reference: &Samples<N>,
    n_reference: &[f64; N],
) -> ([f64; N], [f64; N]) {
    let (mut t, mut df) = ([0.0; N], [0.0; N]);
    for i in 0..N {
        let (n, m) = (group.n[i], n_reference[i]);
        let (one, other) = ((group.mean[i], group.var[i]), (reference.mean[i], reference.var[i]));
        let (va, vb) = (one.1 / n, other.1 / m);
        let (both, difference) = (va + vb, one.0 - other.0);
        let constant = same_constant(n + reference.n[i], one, other);
        let zero = constant || (difference == 0.0 && !both.is_nan());
        let freedom = both * both / (va * va / (n - 1.0) + vb * vb / (m - 1.0));
        t[i] = if zero { 0.0 } else { difference / both.sqrt() };
        df[i] = if zero { f64::NAN } else { freedom };
    }
    (t, df)
}

/// Means and variances of the sides of all comparisons.
#[derive(Debug, Default)]
pub struct SideSummaries {
    means: Vec<f64>,
    vars: Vec<f64>,
}

impl SideSummaries {
    /// Of sides whose nonzero values have these moments.
    pub(super) fn fill(&mut self, contrasts: &Contrasts, sides: impl Iterator<Item = Moments>) {
        let SideSummaries { means, vars } = self;
        means.clear();
        vars.clear();
        Arch::new().dispatch(Summarise { contrasts, sides, means, vars });
    }
}

struct Summarise<'v, S> {
    contrasts: &'v Contrasts,
    sides: S,
    means: &'v mut Vec<f64>,
    vars: &'v mut Vec<f64>,
}

impl<S: Iterator<Item = Moments>> NullaryFnOnce for Summarise<'_, S> {
    type Output = ();

    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn call(mut self) {
        for sizes in self.contrasts.side_sizes().chunks(LANES) {
            let (mut samples, mut totals) = ([Moments::default(); LANES], [1.0; LANES]);
            for ((sample, total), &size) in samples.iter_mut().zip(&mut totals).zip(sizes) {
                (*sample, *total) = (self.sides.next().unwrap_or_default(), size as f64);
            }
            let (means, vars) = with_zeros(&samples, &totals);
            self.means.extend_from_slice(&means[..sizes.len()]);
            self.vars.extend_from_slice(&vars[..sizes.len()]);
        }
    }
}

/// Appends t and the degrees of freedom of every stratum. `smaller`: the reference counts as no
/// more cells than the group.
pub(super) fn welch_of_strata(
    contrasts: &Contrasts,
    sides: &SideSummaries,
    smaller: bool,
    out: &mut Briefs,
) {
    Arch::new().dispatch(OfStrata { contrasts, sides, smaller, out });
}

struct OfStrata<'v> {
    contrasts: &'v Contrasts,
    sides: &'v SideSummaries,
    smaller: bool,
    out: &'v mut Briefs,
}

impl NullaryFnOnce for OfStrata<'_> {
    type Output = ();

    #[allow(clippy::inline_always)] // As above.
    #[inline(always)]
    fn call(self) {
        let OfStrata { contrasts, sides: SideSummaries { means, vars }, smaller, out } = self;
        let sizes = contrasts.side_sizes();
        for strata in contrasts.strata().chunks(LANES) {
            let empty = Samples { n: [1.0; LANES], mean: [0.0; LANES], var: [0.0; LANES] };
            let (mut group, mut reference) = (empty, empty);
            for (i, pair) in strata.iter().enumerate() {
                for (samples, side) in [(&mut group, pair.group), (&mut reference, pair.reference)]
                {
                    let side = side as usize;
                    samples.n[i] = sizes[side] as f64;
                    (samples.mean[i], samples.var[i]) = (means[side], vars[side]);
                }
            }
            let n_reference = if smaller { group.n } else { reference.n };
            let (t, mut df) = welch(&group, &reference, &n_reference);
            for (df, &t) in df.iter_mut().zip(&t) {
                // As in a verdict: none are needed where t is zero or infinite.
                let needed = if t.is_infinite() { f64::INFINITY } else { *df };
                *df = if t == 0.0 { 100.0 } else { needed };
            }
            out.statistics.extend_from_slice(&t[..strata.len()]);
            out.dfs.extend_from_slice(&df[..strata.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::dist::t_two_sided;

    fn summary(values: &[f64]) -> MeanVar {
        let mut moments = Moments::default();
        for &x in values {
            moments.push(x);
        }
        moments.summary()
    }

    fn of_two(a: MeanVar, b: MeanVar) -> (f64, f64) {
        let ([t], [df]) = welch(&a.into(), &b.into(), &[b.n as f64]);
        (t, df)
    }

    // R 4.2.2: t.test(c(1, 2, 4, 8), c(0, 0, 1.5, 3, 0.5)): t, parameter, p.value.
    #[test]
    fn agrees_with_t_test() {
        let (t, df) = of_two(summary(&[1.0, 2.0, 4.0, 8.0]), summary(&[0.0, 0.0, 1.5, 3.0, 0.5]));
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
        assert_eq!(of_two(same, same).0, 0.0);
        assert_eq!(of_two(other, same).0, f64::INFINITY);
        assert!(of_two(summary(&[2.0]), other).0.is_nan());
    }
}
