//! Moments of every group and gene: what t-tests, fold changes and percentages
//! come from, for any number of comparisons from one read.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::contrast::{Contrasts, SideValues};
use super::fold_change::Sums;
use super::genes::for_each_gene;
use super::group_pass::{Accumulate, GroupPass, GroupTable, gene_slices};
use super::replicates::{ReplicatePlan, ReplicateWork};
use super::table::{MarkerTable, Row, TableBuilder, TableOptions};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::matrix::Source;
use crate::pass::run_tiled;
use crate::stats::moments::Moments;
use crate::transform::View;

/// Moments of a gene's nonzero values in one group, and the sum of the same
/// values before the logarithm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupMoments {
    /// Of the values.
    pub values: Moments,
    /// Sum of the values before the logarithm.
    pub linear: f64,
}

impl Accumulate for GroupMoments {
    #[inline]
    fn push(&mut self, value: f64, linear: f64) {
        self.values.push(value);
        self.linear += linear;
    }

    fn merge(&mut self, later: &Self) {
        self.values.merge(&later.values);
        self.linear += later.linear;
    }
}

impl GroupMoments {
    /// The same as sums.
    pub(super) fn sums(&self) -> Sums {
        Sums { detected: self.values.n(), values: self.values.sum(), linear: self.linear }
    }
}

/// One stratum of a comparison: moments and cells of both sides.
#[derive(Debug, Clone, Copy)]
pub struct StratumMoments {
    /// The group.
    pub group: GroupMoments,
    /// Its cells.
    pub n_group: u64,
    /// The reference.
    pub reference: GroupMoments,
    /// Its cells.
    pub n_reference: u64,
}

/// A test that needs moments alone.
pub trait MomentTest: Sync {
    /// The comparisons.
    fn contrasts(&self) -> &Contrasts;
    /// What a comparison of these strata comes to.
    fn row(&self, strata: &[StratumMoments]) -> Row;
    /// How samples are told apart, where they are.
    fn replicates(&self) -> Option<ReplicatePlan<'_>>;
}

/// The pass over the genes of a slice that a test needs.
#[must_use]
pub fn moment_pass(test: &impl MomentTest, genes: Range<usize>) -> GroupPass<'_, GroupMoments> {
    GroupPass::new(test.contrasts().groups(), genes)
}

/// Reads the matrix and tests all genes. `view` keeps values before the logarithm.
/// One read, or one for each slice of genes whose moments fit the budget.
///
/// # Errors
/// As [`run_tiled`], [`test_moments`] and [`TableBuilder`].
pub fn run_moment_test(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    test: &impl MomentTest,
    options: TableOptions,
) -> Result<MarkerTable> {
    let contrasts = test.contrasts();
    contrasts.groups().check_rows(view.n_obs())?;
    let table = TableBuilder::new(options, contrasts.n_comparisons(), view.n_vars())?;
    let n_groups = contrasts.groups().n_groups();
    for genes in gene_slices::<GroupMoments>(n_groups, view.n_vars(), ctx.memory_bytes()) {
        let (pass, view) = moment_pass(test, genes.clone()).over(view);
        let tiles = run_tiled(source, &view, ctx, "reading values", &pass)?;
        test_moments(ctx, test, &pass.table(tiles), genes, &table)?;
    }
    table.finish(ctx)
}

/// Tests the genes of a slice from their moments.
///
/// # Errors
/// When a group has more values than cells, or on interruption.
pub fn test_moments(
    ctx: &Ctx,
    test: &impl MomentTest,
    moments: &GroupTable<GroupMoments>,
    genes: Range<usize>,
    table: &TableBuilder,
) -> Result<()> {
    let contrasts = test.contrasts();
    let plan = test.replicates();
    let first = genes.start;
    for_each_gene(
        ctx,
        genes,
        contrasts.n_comparisons(),
        table,
        Workspace::default,
        |gene, w, rows| {
            w.labels.clear();
            w.labels.extend(moments.gene(gene - first).copied());
            contrasts.check_counts(gene, w.labels.iter().map(|m| m.values.n()))?;
            let labels = w.labels.iter().copied();
            contrasts.add_up(labels, GroupMoments::default(), merged, &mut w.parts);
            contrasts.sides(&w.parts, GroupMoments::default(), merged, &mut w.sides);
            if let Some(plan) = &plan {
                plan.add_up(w.labels.iter().map(GroupMoments::sums), &mut w.replicates);
            }
            for (comparison, strata) in contrasts.comparisons().iter().enumerate() {
                w.strata.clear();
                w.strata.extend(strata.clone().map(|stratum| {
                    let (group, reference) = w.sides.pair(contrasts.strata()[stratum]);
                    let (n_group, n_reference) = contrasts.stratum_sizes(stratum);
                    StratumMoments { group, n_group, reference, n_reference }
                }));
                let mut row = test.row(&w.strata);
                if let Some(plan) = &plan {
                    row.replicates =
                        Some(Box::new(plan.of(comparison, row.log2_fc, &mut w.replicates)));
                }
                rows.push(row);
            }
            Ok(())
        },
    )
}

/// One thread's memory.
#[derive(Default)]
struct Workspace {
    labels: Vec<GroupMoments>,
    parts: Vec<GroupMoments>,
    sides: SideValues<GroupMoments>,
    strata: Vec<StratumMoments>,
    replicates: ReplicateWork,
}

fn merged(mut into: GroupMoments, later: GroupMoments) -> GroupMoments {
    into.merge(&later);
    into
}

/// Sum and number of a gene's nonzero values in one group.
///
/// # Numerics
/// Sums of integers are exact below 2^53.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupSum {
    /// Sum of the values.
    pub sum: f64,
    /// Number of nonzero values; a group has fewer than 2^32 cells.
    pub n: u32,
    /// How many of them are no counts: negative or not whole.
    pub odd: u32,
}

impl Accumulate for GroupSum {
    #[inline]
    fn push(&mut self, value: f64, _linear: f64) {
        self.sum += value;
        self.n += 1;
        // A value past 2^63 is whole, but no longer exact.
        self.odd += u32::from(value < 0.0 || (value as i64) as f64 != value);
    }

    const PACKS: bool = true;

    // The number of values above 40 bits of their sum.
    #[inline]
    fn pack(value: f64) -> Option<u64> {
        let count = (value + 4_503_599_627_370_496.0).to_bits() & 0xffff;
        (count as f64 == value && count != 0).then_some((1 << 40) | count)
    }

    fn unpack(sum: u64) -> Self {
        GroupSum { sum: (sum & ((1 << 40) - 1)) as f64, n: (sum >> 40) as u32, odd: 0 }
    }

    fn merge(&mut self, later: &Self) {
        self.sum += later.sum;
        self.n += later.n;
        self.odd += later.odd;
    }
}
