//! Moments of every group and gene: what t-tests, fold changes and percentages
//! come from, for any number of comparisons from one read.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::contrast::{Contrasts, SideValues};
use super::fold_change::Sums;
use super::genes::{for_each_gene, genes_of_task};
use super::group_pass::{Accumulate, GroupPass, GroupTable, gene_slices};
use super::replicates::{ReplicatePlan, ReplicateWork};
use super::table::{MarkerTable, Row, TableBuilder, TableOptions};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::matrix::Source;
use crate::pass::run_tiled;
use crate::stats::moments::{MeanVar, Moments};
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
    type Quick = QuickMoments;
    const QUICK_ROWS: u32 = u32::MAX;

    #[inline]
    fn push(&mut self, value: f64, linear: f64) {
        self.values.push(value);
        self.linear += linear;
    }

    #[inline]
    fn merge(&mut self, later: &Self) {
        self.values.merge(&later.values);
        self.linear += later.linear;
    }

    fn is_quick(_takes_log: bool) -> bool {
        true
    }

    #[inline]
    fn quick(_count: u16, value: f64, linear: f64) -> QuickMoments {
        QuickMoments { sums: [value, value * value, linear, 1.0] }
    }

    #[inline]
    fn merge_quick(into: &mut QuickMoments, later: &QuickMoments) {
        for (into, later) in into.sums.iter_mut().zip(later.sums) {
            *into += later;
        }
    }

    #[inline]
    fn unpack(quick: &QuickMoments) -> Self {
        let [sum, squares, linear, n] = quick.sums;
        GroupMoments { values: Moments::of_sums(n as u64, sum, squares), linear }
    }
}

/// [`GroupMoments`] as sums about zero: 32 bytes, two to a line of the cache, and a count is
/// added in two vector instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[repr(C, align(32))]
pub struct QuickMoments {
    /// Of values, of their squares, of values before the logarithm, of ones.
    sums: [f64; 4],
}

impl GroupMoments {
    /// The same as sums.
    pub(super) fn sums(&self) -> Sums {
        Sums { detected: self.values.n(), values: self.values.sum(), linear: self.linear }
    }
}

/// What is known of a gene in some groups, in whatever form.
pub(super) trait Known: Copy + Default + PartialEq + Send + Sync {
    /// Fills `out` as [`GroupTable::gather`] does.
    fn gather(table: &GroupTable<GroupMoments>, genes: Range<usize>, out: &mut Vec<Self>);
    /// With what comes later in the file.
    fn with(self, later: Self) -> Self;
    /// What it stands for.
    fn whole(&self) -> GroupMoments;
}

impl Known for GroupMoments {
    fn gather(table: &GroupTable<GroupMoments>, genes: Range<usize>, out: &mut Vec<Self>) {
        table.gather(genes, out);
    }

    #[inline]
    fn with(mut self, later: Self) -> Self {
        self.merge(&later);
        self
    }

    #[inline]
    fn whole(&self) -> GroupMoments {
        *self
    }
}

/// The same bits in a quarter of the time.
impl Known for QuickMoments {
    fn gather(table: &GroupTable<GroupMoments>, genes: Range<usize>, out: &mut Vec<Self>) {
        table.gather_quick(genes, out);
    }

    #[inline]
    fn with(mut self, later: Self) -> Self {
        GroupMoments::merge_quick(&mut self, &later);
        self
    }

    #[inline]
    fn whole(&self) -> GroupMoments {
        GroupMoments::unpack(self)
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

impl StratumMoments {
    /// Mean and variance of both sides.
    #[inline]
    pub(super) fn summaries(&self) -> (MeanVar, MeanVar) {
        (
            self.group.values.with_zeros(self.n_group),
            self.reference.values.with_zeros(self.n_reference),
        )
    }
}

/// The least of the rows of a gene: by comparison.
#[derive(Debug, Default)]
pub struct Briefs {
    /// Test statistics.
    pub statistics: Vec<f64>,
    /// Degrees of freedom, or whatever the p-values come from beside the statistics.
    pub(super) dfs: Vec<f64>,
    /// p-values.
    pub p_values: Vec<f64>,
}

impl Briefs {
    /// Empties all.
    pub(super) fn clear(&mut self) {
        let Briefs { statistics, dfs, p_values } = self;
        statistics.clear();
        dfs.clear();
        p_values.clear();
    }
}

/// A test that needs moments alone.
pub trait MomentTest: Sync {
    /// The comparisons.
    fn contrasts(&self) -> &Contrasts;
    /// What a comparison of these strata comes to.
    fn row(&self, strata: &[StratumMoments]) -> Row;
    /// What matters of comparisons of one stratum where nobody looks at the row: each by the
    /// means and variances of its sides. `false` where a row is as quick, or it takes more than these.
    fn briefs(&self, _sides: impl Iterator<Item = (MeanVar, MeanVar)>, _out: &mut Briefs) -> bool {
        false
    }
    /// How samples are told apart, where they are.
    fn replicates(&self) -> Option<ReplicatePlan<'_>>;
}

/// The pass over the genes of a slice that a test needs.
/// `view` keeps values before the logarithm; the pass runs over the view that is returned.
#[must_use]
pub fn moment_pass<'t>(
    test: &'t impl MomentTest,
    view: &View,
    genes: Range<usize>,
) -> (GroupPass<'t, GroupMoments>, View) {
    GroupPass::new(test.contrasts().groups(), genes).over(view)
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
        let (pass, view) = moment_pass(test, view, genes);
        let tiles = run_tiled(source, &view, ctx, "reading values", &pass)?;
        pass.for_each_part(tiles, ctx, |genes, moments| {
            test_moments(ctx, test, moments, genes, &table)
        })?;
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
    if moments.is_quick() {
        test_known::<QuickMoments>(ctx, test, moments, genes, table)
    } else {
        test_known::<GroupMoments>(ctx, test, moments, genes, table)
    }
}

fn test_known<K: Known>(
    ctx: &Ctx,
    test: &impl MomentTest,
    moments: &GroupTable<GroupMoments>,
    genes: Range<usize>,
    table: &TableBuilder,
) -> Result<()> {
    let contrasts = test.contrasts();
    let plan = test.replicates();
    let (first, end) = (genes.start, genes.end);
    let at_once = GATHERED.min(genes_of_task(ctx, genes.len(), contrasts.n_comparisons()));
    let simple = plan.is_none() && contrasts.comparisons().iter().all(|strata| strata.len() == 1);
    for_each_gene(
        ctx,
        genes,
        contrasts.n_comparisons(),
        table,
        Workspace::<K>::default,
        |gene, w, rows| {
            if !w.gathered.contains(&gene) {
                w.gathered = gene..(gene + at_once).min(end);
                K::gather(moments, gene - first..w.gathered.end - first, &mut w.known);
            }
            let n_labels = w.known.len() / w.gathered.len();
            let labels = &w.known[(gene - w.gathered.start) * n_labels..][..n_labels];
            contrasts.check_counts(gene, labels.iter().map(|known| known.whole().values.n()))?;
            let parts = contrasts.add_up(labels, K::default(), K::with, &mut w.parts);
            contrasts.sides(parts, K::default(), K::with, &mut w.sides);
            if let Some(plan) = &plan {
                plan.add_up(labels.iter().map(|known| known.whole().sums()), &mut w.replicates);
            }
            w.briefs.clear();
            let brief = simple && rows.skips() && {
                w.tests.fill(&w.sides, contrasts);
                test.briefs(w.tests.summaries.iter().copied(), &mut w.briefs)
            };
            let Workspace { sides, tests, briefs, strata, replicates, .. } = w;
            let mut row = |comparison: usize| {
                strata.clear();
                let own = contrasts.comparisons()[comparison].clone();
                strata.extend(own.map(|at| sides.stratum(contrasts, at)));
                let mut row = test.row(strata);
                if let Some(plan) = &plan {
                    row.replicates = Some(Box::new(plan.of(comparison, row.log2_fc, replicates)));
                }
                row
            };
            if brief {
                let of_test = |&test: &u32| {
                    (briefs.statistics[test as usize], briefs.p_values[test as usize])
                };
                rows.push_briefs(tests.of_stratum.iter().map(of_test), row);
            } else {
                for comparison in 0..contrasts.n_comparisons() {
                    rows.push(row(comparison));
                }
            }
            Ok(())
        },
    )
}

/// Genes that are gathered at once, so that the pages of memory that are looked up serve them
/// all.
const GATHERED: usize = 32;

/// One thread's memory.
#[derive(Default)]
struct Workspace<K> {
    gathered: Range<usize>,
    /// Of the gathered genes: of the first label by label, of the second ...
    known: Vec<K>,
    parts: Vec<K>,
    sides: SideValues<K>,
    tests: Tests<K>,
    briefs: Briefs,
    strata: Vec<StratumMoments>,
    replicates: ReplicateWork,
}

impl<K: Known> SideValues<K> {
    /// A stratum by its number.
    #[inline]
    fn stratum(&self, contrasts: &Contrasts, number: usize) -> StratumMoments {
        let (group, reference) = self.pair(contrasts.strata()[number]);
        let (n_group, n_reference) = contrasts.stratum_sizes(number);
        StratumMoments { group: group.whole(), n_group, reference: reference.whole(), n_reference }
    }
}

/// The tests of a gene, each once.
///
/// Problem: most genes are found in no cell of most of thousands of groups. Solution: such
/// groups of as many cells come to the same.
#[derive(Default)]
struct Tests<K> {
    /// The number of the test of each stratum.
    of_stratum: Vec<u32>,
    /// Mean and variance of both sides of each test.
    summaries: Vec<(MeanVar, MeanVar)>,
    /// The last tests of groups without values, by their cells.
    empty: Vec<Option<EmptyGroup<K>>>,
}

/// A test of a group without values.
#[derive(Clone, Copy)]
struct EmptyGroup<K> {
    n_group: u64,
    reference: K,
    n_reference: u64,
    number: u32,
}

/// Places for tests of groups without values.
const EMPTY_GROUPS: usize = 64;

impl<K: Known> Tests<K> {
    fn fill(&mut self, sides: &SideValues<K>, contrasts: &Contrasts) {
        let Tests { of_stratum, summaries, empty } = self;
        of_stratum.clear();
        summaries.clear();
        empty.clear();
        empty.resize_with(EMPTY_GROUPS, || None);
        for (stratum, &pair) in contrasts.strata().iter().enumerate() {
            let (group, reference) = sides.pair(pair);
            let (n_group, n_reference) = contrasts.stratum_sizes(stratum);
            let mut number = summaries.len() as u32;
            if group == K::default() {
                let slot = &mut empty[n_group as usize % EMPTY_GROUPS];
                match slot {
                    Some(one)
                        if (one.n_group, one.n_reference) == (n_group, n_reference)
                            && one.reference == reference =>
                    {
                        number = one.number;
                    }
                    _ => *slot = Some(EmptyGroup { n_group, reference, n_reference, number }),
                }
            }
            if number as usize == summaries.len() {
                summaries.push(sides.stratum(contrasts, stratum).summaries());
            }
            of_stratum.push(number);
        }
    }
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
    /// The number of values above 40 bits of their sum.
    type Quick = u64;
    const QUICK_ROWS: u32 = MOST_WORDS;

    #[inline]
    fn push(&mut self, value: f64, _linear: f64) {
        self.sum += value;
        self.n += 1;
        // A value past 2^63 is whole, but no longer exact.
        self.odd += u32::from(value < 0.0 || (value as i64) as f64 != value);
    }

    fn merge(&mut self, later: &Self) {
        self.sum += later.sum;
        self.n += later.n;
        self.odd += later.odd;
    }

    fn is_quick(takes_log: bool) -> bool {
        !takes_log
    }

    #[inline]
    fn quick(count: u16, _value: f64, _linear: f64) -> u64 {
        (1 << 40) | u64::from(count)
    }

    fn merge_quick(into: &mut u64, later: &u64) {
        *into += later;
    }

    fn unpack(quick: &u64) -> Self {
        GroupSum { sum: (quick & ((1 << 40) - 1)) as f64, n: (quick >> 40) as u32, odd: 0 }
    }
}

/// Counts that may be added up in a word.
const MOST_WORDS: u32 = (1 << 24) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_not_run_over() {
        for count in [1, 2, u16::MAX] {
            let word = GroupSum::quick(count, 0.0, 0.0);
            let all = GroupSum::unpack(&word.checked_mul(u64::from(MOST_WORDS)).unwrap());
            let sum = f64::from(count) * f64::from(MOST_WORDS);
            assert_eq!(all, GroupSum { sum, n: MOST_WORDS, odd: 0 });
        }
    }
}
