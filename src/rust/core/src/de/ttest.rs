//! Student's t between groups, from their moments.

use std::ops::Range;

use super::contrast::{Contrasts, Reference, all_but_each};
use super::fold_change::{FoldChange, Side};
use super::group_pass::{Accumulate, GroupPass, GroupTable, gene_slices};
use super::moments::GroupMoments;
use super::table::{Row, for_each_gene};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::Source;
use crate::pass::run_tiled;
use crate::stats::dist::{PValue, t_two_sided};
use crate::stats::moments::MeanVar;
use crate::transform::View;

/// How the reference's variance enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// As Welch (1947): the variance of its mean, over all its cells.
    Welch,
    /// As if it had no more cells than the group: scanpy's `t-test_overestim_var`.
    Overestimated,
}

/// What to do with the moments.
#[derive(Debug, Clone, Copy)]
pub struct TTest<'c> {
    /// The comparisons.
    pub contrasts: &'c Contrasts,
    /// How the reference's variance enters.
    pub spread: Spread,
    /// How fold changes are taken.
    pub fold_change: FoldChange,
}

impl TTest<'_> {
    /// The pass over the genes of a slice.
    #[must_use]
    pub fn pass(&self, genes: Range<usize>) -> GroupPass<'_, GroupMoments> {
        GroupPass::new(self.contrasts.groups(), genes)
    }

    /// Reads the matrix and returns the rows of all genes, gene by gene. `view`
    /// keeps values before the logarithm. One read, or one for each slice of genes
    /// whose moments fit the budget.
    ///
    /// # Errors
    /// As [`run_tiled`] and [`TTest::rows`].
    pub fn run(&self, source: &dyn Source, view: &View, ctx: &Ctx) -> Result<Vec<Row>> {
        self.contrasts.groups().check_rows(view.n_obs())?;
        let n_groups = self.contrasts.groups().n_groups();
        let slices = gene_slices::<GroupMoments>(n_groups, view.n_vars(), ctx.memory_bytes());
        let mut rows = Vec::new();
        for genes in slices {
            let pass = self.pass(genes.clone());
            let tiles = run_tiled(source, view, ctx, "reading values", &pass)?;
            rows.extend(self.rows(ctx, &pass.table(tiles), genes)?);
        }
        Ok(rows)
    }

    /// The rows of a slice of genes, gene by gene, from their moments.
    ///
    /// # Errors
    /// When a group has more values than cells, or on interruption.
    pub fn rows(
        &self,
        ctx: &Ctx,
        table: &GroupTable<GroupMoments>,
        genes: Range<usize>,
    ) -> Result<Vec<Row>> {
        let groups = self.contrasts.groups();
        let n_groups = groups.n_groups();
        let state = || (Vec::with_capacity(n_groups), Vec::with_capacity(n_groups));
        for_each_gene(ctx, "testing genes", 0..table.n_genes(), state, |gene, (own, rest), rows| {
            own.clear();
            own.extend((0..n_groups).map(|group| table.group(group)[gene]));
            let stored = own.iter().zip(groups.sizes());
            if stored.into_iter().any(|(m, &size): (&GroupMoments, _)| m.values.n() > size) {
                return Err(stored_twice(genes.start + gene));
            }
            if self.contrasts.needs_rest() {
                all_but_each(own, GroupMoments::default(), merged, rest);
            }
            for &comparison in self.contrasts.comparisons() {
                let group = comparison.group as usize;
                let reference = match comparison.reference {
                    Reference::Rest => &rest[group],
                    Reference::Group(other) => &own[other as usize],
                };
                let (n1, n2) = self.contrasts.sizes(comparison);
                rows.push(self.row(&own[group], n1, reference, n2));
            }
            Ok(())
        })
    }

    fn row(&self, group: &GroupMoments, n1: u64, reference: &GroupMoments, n2: u64) -> Row {
        let (a, b) = (group.values.with_zeros(n1), reference.values.with_zeros(n2));
        let weight = match self.spread {
            Spread::Welch => n2,
            Spread::Overestimated => n1,
        };
        let (statistic, df) = welch(a, MeanVar { n: weight, ..b });
        let p = if statistic == 0.0 {
            PValue { p_value: 1.0, log10_p: 0.0 }
        } else if statistic.is_infinite() {
            PValue { p_value: 0.0, log10_p: f64::NEG_INFINITY }
        } else {
            t_two_sided(statistic, df)
        };
        let side = |moments: &GroupMoments, summary: MeanVar| Side {
            n: summary.n,
            detected: moments.values.n(),
            linear: moments.linear,
            mean: summary.mean,
        };
        let (one, other) = (side(group, a), side(reference, b));
        let constant = a.mean == b.mean && a.var == 0.0 && b.var == 0.0;
        Row {
            log2_fc: if constant { 0.0 } else { self.fold_change.log2(&one, &other) },
            statistic,
            p_value: p.p_value,
            log10_p: p.log10_p,
            auc: f64::NAN,
            mean: (one.linear_mean(), other.linear_mean()),
            fraction: (one.fraction(), other.fraction()),
        }
    }
}

/// Welch's t and the degrees of freedom of Satterthwaite. Equal means give 0
/// whatever the variances; different means without any variance, an infinity.
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

fn merged(mut into: GroupMoments, later: GroupMoments) -> GroupMoments {
    into.merge(&later);
    into
}

pub(super) fn stored_twice(gene: usize) -> Error {
    Error::InvalidValues {
        message: format!("gene {} has several stored values in one cell", gene + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
