//! From the results of genes to a marker table.
//!
//! Every p-value is kept for the adjustment, but a row only while it can still be
//! in the table: thresholds that the row itself decides are applied at once, and
//! with `n_genes` a comparison drops the rows that cannot be among its first.
//!
//! Memory: 8 bytes for each comparison and gene if p-values are adjusted (24 over
//! all comparisons together, when they are sorted), 96 bytes for each row that is
//! kept; with `n_genes` about twice as many rows as asked for.

use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::replicates::Replicates;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::stats::adjust::{Adjusted, Adjustment};
use crate::stats::rank::ordered_key;

/// The result of one gene in one comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Log2 fold change.
    pub log2_fc: f64,
    /// The test statistic.
    pub statistic: f64,
    /// The p-value.
    pub p_value: f64,
    /// Its decimal logarithm, from the tail.
    pub log10_p: f64,
    /// Area under the ROC curve; NaN where the test ranks nothing.
    pub auc: f64,
    /// Means before the logarithm: of the group and of the reference.
    pub mean: (f64, f64),
    /// Fractions of cells with a nonzero value: of the group and of the reference.
    pub fraction: (f64, f64),
    /// What the samples say one by one, where they are told apart.
    pub replicates: Option<Box<Replicates>>,
}

/// By what genes are ordered within a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By the area under the curve, descending.
    Auc,
    /// By the test statistic, descending.
    Statistic,
    /// By the p-value, ascending, also where it underflows.
    PValue,
    /// By the log2 fold change, descending.
    Log2Fc,
}

impl Order {
    /// Sorts ascending as the rows do; NaN comes last.
    fn key(self, row: &Row) -> u64 {
        descending(match self {
            Order::Auc => row.auc,
            Order::Statistic => row.statistic,
            Order::PValue => -row.log10_p,
            Order::Log2Fc => row.log2_fc,
        })
    }
}

/// Which p-values are adjusted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of a comparison.
    Comparison,
    /// All.
    All,
}

/// Which rows a table has, and how p-values are adjusted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TableOptions {
    /// The order of genes.
    pub order: Order,
    /// How p-values are adjusted; `None`: not at all.
    pub adjustment: Option<Adjustment>,
    /// Over what.
    pub scope: Scope,
    /// For how many tests, where not for those made.
    pub n_adjust: Option<usize>,
    /// Rows of a comparison at most: its first.
    pub n_genes: Option<usize>,
    /// The fraction of expressing cells that either side must reach.
    pub min_pct: f64,
    /// The absolute log2 fold change that a row must reach.
    pub min_log2_fc: f64,
    /// Whether a log2 fold change must be above zero.
    pub only_up: bool,
    /// The adjusted p-value that a row must not exceed.
    pub max_p_adj: Option<f64>,
}

impl TableOptions {
    /// All rows in this order.
    #[must_use]
    pub fn all(order: Order, adjustment: Option<Adjustment>) -> Self {
        TableOptions {
            order,
            adjustment,
            scope: Scope::Comparison,
            n_adjust: None,
            n_genes: None,
            min_pct: 0.0,
            min_log2_fc: 0.0,
            only_up: false,
            max_p_adj: None,
        }
    }

    /// Whether a row may be in the table, as far as it says itself: no adjusted
    /// p-value is below its p-value.
    fn may_stay(&self, row: &Row) -> bool {
        let fraction = row.fraction.0.max(row.fraction.1);
        (self.min_pct <= 0.0 || fraction >= self.min_pct)
            && (self.min_log2_fc <= 0.0 || row.log2_fc.abs() >= self.min_log2_fc)
            && (!self.only_up || row.log2_fc > 0.0)
            && self.max_p_adj.is_none_or(|most| row.p_value <= most)
    }
}

/// A marker table: comparisons in their order, genes of each in the order asked
/// for, then by their place in the matrix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MarkerTable {
    /// Comparison of each row.
    pub comparison: Vec<u32>,
    /// Gene of each row.
    pub gene: Vec<u32>,
    /// The result.
    pub rows: Vec<Row>,
    /// The adjusted p-value.
    pub p_adj: Vec<f64>,
}

/// A table that is being filled, by several threads and in any order.
#[derive(Debug)]
pub struct TableBuilder {
    options: TableOptions,
    n_genes: usize,
    columns: Vec<Mutex<Column>>,
    /// For each column a key past which no row can stay. It only falls, so a
    /// reader who sees an earlier one keeps some rows too many for a while.
    last_keys: Vec<AtomicU64>,
}

/// One comparison.
#[derive(Debug, Default)]
struct Column {
    /// The p-value of each gene, if they are adjusted and some are known.
    p_values: Vec<f64>,
    kept: Vec<Kept>,
    /// Rows at which those that cannot stay are dropped.
    limit: usize,
    /// Rows past this key and gene cannot be among the first.
    last: Option<(u64, u32)>,
}

#[derive(Debug)]
struct Kept {
    key: u64,
    gene: u32,
    row: Row,
}

impl TableBuilder {
    /// An empty table of some comparisons and genes.
    ///
    /// # Errors
    /// When there are more tests than p-values are adjusted for.
    pub fn new(options: TableOptions, n_comparisons: usize, n_genes: usize) -> Result<Self> {
        let n_tests = match options.scope {
            Scope::Comparison => n_genes,
            Scope::All => n_genes * n_comparisons,
        };
        if options.n_adjust.is_some_and(|n| n < n_tests) {
            let message =
                format!("`n_adjust` must not be less than the number of tests, {n_tests}");
            return Err(Error::InvalidInput { argument: "n_adjust", message });
        }
        let column = || Column {
            p_values: Vec::new(),
            kept: Vec::new(),
            limit: options.n_genes.map_or(usize::MAX, |n| (2 * n).max(64)),
            last: None,
        };
        let columns = (0..n_comparisons).map(|_| Mutex::new(column())).collect();
        let last_keys = (0..n_comparisons).map(|_| AtomicU64::new(u64::MAX)).collect();
        Ok(TableBuilder { options, n_genes, columns, last_keys })
    }

    /// Adds the rows of genes from `first` on: all comparisons of the first gene,
    /// of the second ...
    pub(super) fn add(&self, first: usize, rows: &mut Vec<Row>) {
        let n_genes = rows.len().checked_div(self.columns.len()).unwrap_or(0);
        let mut batch = RowBatch::new(self);
        batch.begin(first..first + n_genes);
        for row in rows.drain(..) {
            batch.push(row);
        }
        batch.deliver();
    }

    /// Adjusts, selects and orders.
    ///
    /// # Errors
    /// On interruption.
    pub fn finish(self, ctx: &Ctx) -> Result<MarkerTable> {
        let TableBuilder { options, columns, .. } = self;
        let adjust = |p_values: Vec<f64>| {
            options.adjustment.map(|how| Adjusted::new(p_values, how, options.n_adjust))
        };
        let all = match options.scope {
            Scope::Comparison => None,
            Scope::All => {
                let each = columns.iter().map(|column| {
                    let mut column = column.lock().unwrap_or_else(PoisonError::into_inner);
                    std::mem::take(&mut column.p_values)
                });
                Some(adjust(each.collect::<Vec<_>>().concat()))
            }
        };
        let ready: Vec<Mutex<Vec<f64>>> = columns.iter().map(|_| Mutex::default()).collect();
        ctx.parallel(
            "ordering genes",
            columns.len(),
            || (),
            |i, ()| {
                let mut column = columns[i].lock().unwrap_or_else(PoisonError::into_inner);
                let own = match &all {
                    Some(_) => None,
                    None => adjust(std::mem::take(&mut column.p_values)),
                };
                let adjusted = all.as_ref().map_or(own.as_ref(), Option::as_ref);
                let p_adj = |row: &Row| adjusted.map_or(row.p_value, |a| a.of(row.p_value));
                if let Some(most) = options.max_p_adj {
                    column.kept.retain(|kept| p_adj(&kept.row) <= most);
                }
                column.sort();
                column.kept.truncate(options.n_genes.unwrap_or(usize::MAX));
                let values = column.kept.iter().map(|kept| p_adj(&kept.row)).collect();
                *ready[i].lock().unwrap_or_else(PoisonError::into_inner) = values;
                Ok(())
            },
        )?;
        let mut table = MarkerTable::default();
        for (comparison, (column, p_adj)) in columns.into_iter().zip(ready).enumerate() {
            let column = column.into_inner().unwrap_or_else(PoisonError::into_inner);
            let p_adj = p_adj.into_inner().unwrap_or_else(PoisonError::into_inner);
            table.comparison.extend(std::iter::repeat_n(comparison as u32, p_adj.len()));
            table.p_adj.extend(p_adj);
            for Kept { gene, row, .. } in column.kept {
                table.gene.push(gene);
                table.rows.push(row);
            }
        }
        Ok(table)
    }
}

/// Rows of some genes on their way to a table, gene by gene and within a gene by
/// comparison.
///
/// Problem: of thousands of comparisons nearly no row stays, and building all of them
/// takes longer than testing. Solution: what cannot stay is left out here, before it is
/// locked, copied or even built.
pub(super) struct RowBatch<'t> {
    table: &'t TableBuilder,
    genes: Range<usize>,
    /// Where the next row belongs.
    gene: usize,
    comparison: usize,
    /// All comparisons of the first gene, of the second ...; empty unless adjusted.
    p_values: Vec<f64>,
    /// By comparison.
    kept: Vec<Vec<Kept>>,
}

impl<'t> RowBatch<'t> {
    pub(super) fn new(table: &'t TableBuilder) -> Self {
        let mut kept = Vec::new();
        kept.resize_with(table.columns.len(), Vec::new);
        RowBatch { table, genes: 0..0, gene: 0, comparison: 0, p_values: Vec::new(), kept }
    }

    /// Rows of these genes follow.
    pub(super) fn begin(&mut self, genes: Range<usize>) {
        (self.gene, self.comparison) = (genes.start, 0);
        self.genes = genes;
        if self.table.options.adjustment.is_some() {
            self.p_values.resize(self.genes.len() * self.kept.len(), f64::NAN);
        }
    }

    /// Adds the next row.
    pub(super) fn push(&mut self, row: Row) {
        let comparison = self.comparison;
        self.keep(comparison, row);
        self.comparison += 1;
        if self.comparison == self.kept.len() {
            (self.gene, self.comparison) = (self.gene + 1, 0);
        }
    }

    /// Adds the row of a comparison of the current gene.
    fn keep(&mut self, comparison: usize, row: Row) {
        let place = self.place(comparison);
        if let Some(slot) = self.p_values.get_mut(place) {
            *slot = row.p_value;
        }
        let key = self.table.options.order.key(&row);
        if self.reaches(comparison, key) && self.table.options.may_stay(&row) {
            self.kept[comparison].push(Kept { key, gene: self.gene as u32, row });
        }
    }

    /// Where the p-value of a comparison of the current gene belongs.
    fn place(&self, comparison: usize) -> usize {
        (self.gene - self.genes.start) * self.kept.len() + comparison
    }

    /// Whether some rows are decided by their statistic alone.
    pub(super) fn skips(&self) -> bool {
        let options = &self.table.options;
        options.order == Order::Statistic && options.n_genes.is_some()
    }

    /// Adds all rows of a gene by the statistics and p-values of its comparisons; `row` makes
    /// the few that might stay.
    pub(super) fn push_briefs(
        &mut self,
        briefs: impl Iterator<Item = (f64, f64)> + Clone,
        mut row: impl FnMut(usize) -> Row,
    ) {
        let first = self.place(0);
        let p_values = self.p_values.get_mut(first..).unwrap_or_default();
        for (slot, (_, p_value)) in p_values.iter_mut().zip(briefs.clone()) {
            *slot = p_value;
        }
        for (comparison, (statistic, _)) in briefs.enumerate() {
            if self.reaches(comparison, descending(statistic)) {
                self.keep(comparison, row(comparison));
            }
        }
        self.gene += 1;
    }

    fn reaches(&self, comparison: usize, key: u64) -> bool {
        key <= self.table.last_keys[comparison].load(Ordering::Relaxed)
    }

    /// Hands everything to the table.
    pub(super) fn deliver(&mut self) {
        let n_comparisons = self.kept.len();
        let table = self.table;
        for (comparison, (column, kept)) in table.columns.iter().zip(&mut self.kept).enumerate() {
            let mut column = column.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.p_values.is_empty() {
                // Made by whoever needs it first, so that not one thread makes all.
                column.p_values.resize(table.n_genes, f64::NAN);
                let own = self.p_values[comparison..].iter().step_by(n_comparisons);
                for (slot, &p_value) in column.p_values[self.genes.clone()].iter_mut().zip(own) {
                    *slot = p_value;
                }
            }
            let last = column.last;
            let stays = |kept: &Kept| last.is_none_or(|last| (kept.key, kept.gene) < last);
            column.kept.extend(kept.drain(..).filter(stays));
            if column.kept.len() > column.limit {
                column.prune(&table.options);
                if let Some((key, _)) = column.last {
                    table.last_keys[comparison].store(key, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Sorts ascending as the values do descending; NaN comes last.
fn descending(value: f64) -> u64 {
    if value.is_nan() { u64::MAX } else { ordered_key(-value) }
}

impl Column {
    fn sort(&mut self) {
        self.kept.sort_unstable_by_key(|kept| (kept.key, kept.gene));
    }

    /// Drops what cannot be among the first `n_genes`, whatever genes follow.
    ///
    /// The last threshold, on adjusted p-values, comes to one on p-values that is
    /// not known yet. A row is out for any of them if `n_genes` rows before it
    /// have p-values that are no larger.
    fn prune(&mut self, options: &TableOptions) {
        let Some(n) = options.n_genes else { return };
        self.sort();
        if options.max_p_adj.is_none() {
            self.kept.truncate(n);
            if self.kept.len() == n {
                self.last = Some(self.kept.last().map_or((0, 0), |kept| (kept.key, kept.gene)));
            }
        } else {
            let mut smallest: BinaryHeap<u64> = BinaryHeap::with_capacity(n + 1);
            self.kept.retain(|kept| {
                let p = ordered_key(kept.row.p_value);
                let full = smallest.len() >= n;
                if full && smallest.peek().is_none_or(|&worst| worst <= p) {
                    return false;
                }
                smallest.push(p);
                if full {
                    smallest.pop();
                }
                true
            });
        }
        self.limit = (2 * self.kept.len()).max(64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Silent;
    use crate::stats::random::Rng;

    fn row(statistic: f64, auc: f64, p_value: f64) -> Row {
        Row {
            log2_fc: statistic,
            statistic,
            p_value,
            log10_p: p_value.log10(),
            auc,
            mean: (0.0, 0.0),
            fraction: (0.0, auc),
            replicates: None,
        }
    }

    fn table(rows: &[Row], n_comparisons: usize, options: TableOptions) -> MarkerTable {
        let n_genes = rows.len() / n_comparisons;
        let builder = TableBuilder::new(options, n_comparisons, n_genes).unwrap();
        // Genes come in any order.
        for gene in (0..n_genes).rev() {
            builder.add(gene, &mut rows[gene * n_comparisons..][..n_comparisons].to_vec());
        }
        builder.finish(&Ctx::new(2, 1 << 20, std::env::temp_dir(), &Silent)).unwrap()
    }

    const BH: Option<Adjustment> = Some(Adjustment::BenjaminiHochberg);

    /// Three genes, two comparisons.
    fn few() -> [Row; 6] {
        [
            row(1.0, 0.6, 0.5),
            row(9.0, 0.5, 0.04),
            row(2.0, 0.6, 0.01),
            row(f64::NAN, 0.9, f64::NAN),
            row(3.0, 0.4, 0.02),
            row(10.0, 0.5, 0.03),
        ]
    }

    #[test]
    fn rows_are_ordered_and_adjusted_within_each_comparison() {
        let rows = few();
        let got = table(&rows, 2, TableOptions::all(Order::Auc, BH));
        assert_eq!(got.comparison, [0, 0, 0, 1, 1, 1]);
        assert_eq!(got.gene, [0, 1, 2, 1, 0, 2]);
        assert_eq!(got.p_adj[0], 0.5);
        assert!((got.p_adj[1] - 0.03).abs() < 1e-15);
        assert!((got.p_adj[2] - 0.03).abs() < 1e-15);
        assert!(got.p_adj[3].is_nan());
        assert_eq!(got.p_adj[4..], [0.04, 0.04]);
        let got = table(&rows, 2, TableOptions::all(Order::Statistic, None));
        assert_eq!(got.gene, [2, 1, 0, 2, 0, 1]);
        assert_eq!(got.p_adj[..3], [0.02, 0.01, 0.5]);
        let got = table(&rows, 2, TableOptions::all(Order::PValue, None));
        assert_eq!(got.gene, [1, 2, 0, 2, 0, 1]);
    }

    #[test]
    fn adjustment_over_all_and_for_more_tests() {
        let rows = few();
        let all = TableOptions { scope: Scope::All, ..TableOptions::all(Order::Auc, BH) };
        let got = table(&rows, 2, all);
        let want = [0.5, 0.05, 0.05, f64::NAN, 0.05, 0.05];
        for (got, want) in got.p_adj.iter().zip(want) {
            assert!((got - want).abs() < 1e-15 || (got.is_nan() && want.is_nan()));
        }
        let bonferroni = TableOptions::all(Order::Auc, Some(Adjustment::Bonferroni));
        let got = table(&rows, 2, TableOptions { n_adjust: Some(10), ..bonferroni });
        assert_eq!(got.p_adj[..3], [1.0, 0.1, 0.2]);
        assert!(TableBuilder::new(TableOptions { n_adjust: Some(2), ..bonferroni }, 2, 3).is_err());
    }

    #[test]
    fn thresholds_come_after_adjustment_and_before_truncation() {
        let rows = few();
        let auc = TableOptions::all(Order::Auc, BH);
        let some = TableOptions { max_p_adj: Some(0.03), min_pct: 0.4, ..auc };
        let got = table(&rows, 2, some);
        assert_eq!((&got.gene[..], &got.comparison[..]), (&[1, 2][..], &[0, 0][..]));
        assert!((got.p_adj[1] - 0.03).abs() < 1e-15);
        let got = table(&rows, 2, TableOptions { n_genes: Some(1), ..some });
        assert_eq!(got.gene, [1]);
        let got = table(&rows, 2, TableOptions { min_log2_fc: 2.5, ..auc });
        assert_eq!(got.gene, [2, 0, 2]);
        let up = TableOptions { only_up: true, ..auc };
        assert_eq!(table(&[row(-3.0, 0.1, 0.1), row(1.0, 0.2, 0.1)], 1, up).gene, [1]);
    }

    #[test]
    fn rows_are_dropped_early_without_a_trace() {
        let mut rng = Rng::new(8, 0);
        let n = 3000;
        let rows: Vec<Row> = (0..n)
            .map(|_| {
                // Loosely related, with ties and underflow.
                let auc = (rng.uniform() * 50.0).round() / 50.0;
                let p = (10.0 * rng.uniform() - 20.0 * auc).exp();
                row(auc - 0.4, auc, if p < 1e-7 { 0.0 } else { p.min(1.0) })
            })
            .collect();
        for order in [Order::Auc, Order::PValue, Order::Statistic, Order::Log2Fc] {
            for max_p_adj in [None, Some(0.3), Some(0.01)] {
                let all = TableOptions { max_p_adj, ..TableOptions::all(order, BH) };
                let want = table(&rows, 1, all);
                for n_genes in [1, 10, 700, 5000] {
                    let got = table(&rows, 1, TableOptions { n_genes: Some(n_genes), ..all });
                    let most = n_genes.min(want.gene.len());
                    assert_eq!(got.gene, want.gene[..most], "{order:?}, {max_p_adj:?}");
                    assert_eq!(got.p_adj, want.p_adj[..most]);
                }
            }
        }
    }

    #[test]
    fn few_rows_are_held() {
        let options = TableOptions { n_genes: Some(20), ..TableOptions::all(Order::Statistic, BH) };
        let builder = TableBuilder::new(options, 1, 10_000).unwrap();
        for gene in 0..10_000 {
            builder.add(gene, &mut vec![row((gene % 997) as f64, 0.5, 0.5)]);
            assert!(builder.columns[0].lock().unwrap().kept.len() <= 64);
        }
    }

    #[test]
    fn nothing_to_compare() {
        let ctx = Ctx::new(2, 1 << 20, std::env::temp_dir(), &Silent);
        for (n_comparisons, n_genes) in [(0, 5), (2, 0)] {
            let options = TableOptions::all(Order::Auc, BH);
            let builder = TableBuilder::new(options, n_comparisons, n_genes).unwrap();
            assert_eq!(builder.finish(&ctx).unwrap(), MarkerTable::default());
        }
    }
}
