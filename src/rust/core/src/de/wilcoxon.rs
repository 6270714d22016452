//! Wilcoxon's rank sum test between groups, exact, for all groups at once.
//!
//! 1. One read of the matrix turns it around ([`GeneMajor`]).
//! 2. Each gene's nonzero values are sorted once, with the group of their cell.
//! 3. Rank sums of all comparisons follow in a few sweeps (`ranking`); zeros enter
//!    in closed form.
//! 4. Strata of a comparison are combined as van Elteren (1960) does.
//!
//! # Numerics
//! Ranks, ties and rank sums are integers (Mann & Whitney 1947), so nothing
//! depends on any order; means are sums in the order of the file.

use super::combine::{Effects, Verdict, Weight};
use super::contrast::{Contrasts, SideValues};
use super::fold_change::{FoldChange, Sums};
use super::gene_major::GeneMajor;
use super::genes::{for_each_gene, genes_of_task};
use super::ranking::{RankPlan, RankWork};
use super::replicates::{ReplicatePlan, ReplicateWork};
use super::sorted::SortedValues;
use super::table::{MarkerTable, RowBatch, TableBuilder, TableOptions};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::stats::dist::{Alternative, PValue, normal_p_value};
use crate::stats::rank::{TwoSamples, van_elteren, wilcoxon_z};
use crate::transform::View;

/// What to do with the ranks.
#[derive(Debug, Clone, Copy)]
pub struct Wilcoxon<'c> {
    /// The comparisons.
    pub contrasts: &'c Contrasts,
    /// Whether the variance accounts for ties.
    pub tie_correct: bool,
    /// Whether the deviation is moved by 1/2 towards zero.
    pub continuity: bool,
    /// Which differences count.
    pub alternative: Alternative,
    /// Whether to test at all; if not, statistics and p-values are NaN.
    pub p_values: bool,
    /// How fold changes are taken.
    pub fold_change: FoldChange,
}

impl Wilcoxon<'_> {
    /// Tests all genes. `view` is the one that was read; the values are put in order.
    ///
    /// # Errors
    /// When a cell has two values for a gene, the spill file can't be read, or on
    /// interruption; as [`TableBuilder`].
    pub fn run(
        &self,
        ctx: &Ctx,
        view: &View,
        values: &mut GeneMajor,
        options: TableOptions,
    ) -> Result<MarkerTable> {
        let n_comparisons = self.contrasts.n_comparisons();
        let table = TableBuilder::new(options, n_comparisons, values.n_vars())?;
        let plan = RankPlan::new(self.contrasts);
        let replicates = ReplicatePlan::new(self.contrasts, self.fold_change, Weight::Ranks);
        let order = values.put_in_order(ctx)?;
        for genes in values.slices(ctx) {
            let slice = values.load(ctx, &genes)?;
            let views = slice.views()?;
            let task = genes_of_task(ctx, genes.len(), n_comparisons);
            for_each_gene(
                ctx,
                genes.clone(),
                n_comparisons,
                &table,
                Workspace::default,
                |gene, work, rows| {
                    let in_task = (gene - genes.start) % task;
                    let next = gene..(gene + task - in_task).min(genes.end);
                    let Workspace { sorted, test } = work;
                    let n_labels = self.contrasts.groups().n_groups();
                    let values = sorted.take(next, &views, order, (view, n_labels));
                    let detected = values.sums.iter().map(|sums| sums.detected);
                    self.contrasts.check_counts(gene, detected)?;
                    if let Some(plan) = &replicates {
                        plan.add_up(values.sums.iter().copied(), &mut test.replicates);
                    }
                    plan.rank(values.keys, values.groups, &mut test.ranks);
                    self.test_gene(values.sums, test, replicates.as_ref(), rows);
                    Ok(())
                },
            )?;
        }
        table.finish(ctx)
    }

    /// The rows of a gene whose sums and ranks are known.
    fn test_gene(
        &self,
        labels: &[Sums],
        work: &mut TestWork,
        replicates: Option<&ReplicatePlan>,
        rows: &mut RowBatch,
    ) {
        let contrasts = self.contrasts;
        let empty = Sums::default();
        let parts = contrasts.add_up(labels, empty, Sums::and, &mut work.parts);
        contrasts.sides(parts, empty, Sums::and, &mut work.sides);
        for (comparison, strata) in contrasts.comparisons().iter().enumerate() {
            let ranks = &work.ranks.strata[strata.clone()];
            work.effects.clear();
            work.effects.extend(strata.clone().zip(ranks).map(|(stratum, ranks)| {
                let (group, reference) = work.sides.pair(contrasts.strata()[stratum]);
                let (one, other) = (group.side(ranks.n1), reference.side(ranks.n2));
                let constant = ranks.constant();
                let mut effects =
                    Effects::new(&one, &other, constant, self.fold_change, Weight::Ranks);
                effects.auc = ranks.auc();
                effects
            }));
            let mut row = Effects::row(&work.effects, self.verdict(ranks));
            if let Some(plan) = replicates {
                row.replicates =
                    Some(Box::new(plan.of(comparison, row.log2_fc, &mut work.replicates)));
            }
            rows.push(row);
        }
    }

    fn verdict(&self, strata: &[TwoSamples]) -> Verdict {
        let nothing = |p| PValue { p_value: p, log10_p: p.log10() };
        if !self.p_values {
            return Verdict { statistic: f64::NAN, p: nothing(f64::NAN) };
        }
        if strata.iter().all(TwoSamples::constant) {
            return Verdict { statistic: 0.0, p: nothing(1.0) };
        }
        let (continuity, tie_correct) = (self.continuity, self.tie_correct);
        let statistic = match strata {
            [one] => wilcoxon_z(one, continuity, tie_correct, self.alternative),
            _ => van_elteren(strata, continuity, tie_correct, self.alternative),
        };
        Verdict { statistic, p: normal_p_value(statistic, self.alternative) }
    }
}

/// One thread's memory.
#[derive(Default)]
struct Workspace {
    sorted: SortedValues,
    test: TestWork,
}

/// What the tests of a gene take, about 24 bytes a nonzero value.
#[derive(Default)]
struct TestWork {
    parts: Vec<Sums>,
    sides: SideValues<Sums>,
    ranks: RankWork,
    effects: Vec<Effects>,
    replicates: ReplicateWork,
}
