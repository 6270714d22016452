//! From the results of genes to the columns of a marker table.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::ctx::Ctx;
use crate::error::Result;
use crate::stats::adjust::{Adjustment, adjust};

/// The result of one gene in one comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Log2 fold change.
    pub log2_fc: f64,
    /// The test statistic.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p_value: f64,
    /// Its decimal logarithm, from the tail.
    pub log10_p: f64,
    /// Area under the ROC curve; NaN where the test ranks nothing.
    pub auc: f64,
    /// Means before the logarithm: of the group and of the reference.
    pub mean: (f64, f64),
    /// Fractions of cells with a nonzero value: of the group and of the reference.
    pub fraction: (f64, f64),
}

/// By which column genes are ordered within a comparison, descending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By the area under the curve.
    Auc,
    /// By the test statistic.
    Statistic,
}

/// A marker table: comparisons in their order, genes of each by `Order`, then by
/// their place in the matrix.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MarkerTable {
    /// Comparison of each row.
    pub comparison: Vec<u32>,
    /// Gene of each row.
    pub gene: Vec<u32>,
    /// The result.
    pub rows: Vec<Row>,
    /// The p-value adjusted within the comparison, over all genes.
    pub p_adj: Vec<f64>,
}

impl MarkerTable {
    /// Orders and adjusts. `results` holds the comparisons of the first gene,
    /// then of the second ...
    #[must_use]
    pub fn new(
        results: &[Row],
        n_comparisons: usize,
        order: Order,
        adjustment: Option<Adjustment>,
    ) -> Self {
        let mut table = MarkerTable::default();
        if n_comparisons == 0 {
            return table;
        }
        let n_genes = results.len() / n_comparisons;
        let key = |row: &Row| match order {
            Order::Auc => row.auc,
            Order::Statistic => row.statistic,
        };
        for comparison in 0..n_comparisons {
            let row = |gene: usize| &results[gene * n_comparisons + comparison];
            let p_values: Vec<f64> = (0..n_genes).map(|gene| row(gene).p_value).collect();
            let p_adj = match adjustment {
                Some(method) => adjust(&p_values, method),
                None => p_values,
            };
            let mut genes: Vec<usize> = (0..n_genes).collect();
            genes.sort_by(|&a, &b| {
                let (a, b) = (key(row(a)), key(row(b)));
                a.is_nan().cmp(&b.is_nan()).then(b.total_cmp(&a))
            });
            table.comparison.extend(std::iter::repeat_n(comparison as u32, n_genes));
            table.gene.extend(genes.iter().map(|&gene| gene as u32));
            table.rows.extend(genes.iter().map(|&gene| *row(gene)));
            table.p_adj.extend(genes.iter().map(|&gene| p_adj[gene]));
        }
        table
    }
}

/// Genes of one task: enough that a task is worth its start, and that what is
/// read for one gene serves its neighbours.
const TASK_GENES: usize = 32;

/// Runs `test` on every gene of a slice, in parallel; it appends the rows of the
/// gene. Returns them gene by gene.
pub(super) fn for_each_gene<S>(
    ctx: &Ctx,
    stage: &str,
    genes: Range<usize>,
    scratch: impl Fn() -> S + Sync,
    test: impl Fn(usize, &mut S, &mut Vec<Row>) -> Result<()> + Sync,
) -> Result<Vec<Row>> {
    let n_tasks = genes.len().div_ceil(TASK_GENES);
    let done: Vec<Mutex<Vec<Row>>> = (0..n_tasks).map(|_| Mutex::default()).collect();
    ctx.parallel(stage, n_tasks, scratch, |task, scratch| {
        let first = genes.start + task * TASK_GENES;
        let mut rows = Vec::new();
        for gene in first..(first + TASK_GENES).min(genes.end) {
            test(gene, scratch, &mut rows)?;
        }
        *done[task].lock().unwrap_or_else(PoisonError::into_inner) = rows;
        Ok(())
    })?;
    Ok(done
        .into_iter()
        .flat_map(|rows| rows.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(statistic: f64, auc: f64, p_value: f64) -> Row {
        Row {
            log2_fc: 0.0,
            statistic,
            p_value,
            log10_p: p_value.log10(),
            auc,
            mean: (0.0, 0.0),
            fraction: (0.0, 0.0),
        }
    }

    #[test]
    fn rows_are_ordered_and_adjusted_within_each_comparison() {
        // Three genes, two comparisons.
        let results = [
            row(1.0, 0.6, 0.5),
            row(9.0, 0.5, 0.04),
            row(2.0, 0.6, 0.01),
            row(f64::NAN, 0.9, f64::NAN),
            row(3.0, 0.4, 0.02),
            row(10.0, 0.5, 0.03),
        ];
        let bh = Some(Adjustment::BenjaminiHochberg);
        let table = MarkerTable::new(&results, 2, Order::Auc, bh);
        assert_eq!(table.comparison, [0, 0, 0, 1, 1, 1]);
        assert_eq!(table.gene, [0, 1, 2, 1, 0, 2]);
        assert_eq!(table.p_adj[0], 0.5);
        assert!((table.p_adj[1] - 0.03).abs() < 1e-15);
        assert!((table.p_adj[2] - 0.03).abs() < 1e-15);
        assert!(table.p_adj[3].is_nan());
        assert_eq!(table.p_adj[4..], [0.04, 0.04]);
        let table = MarkerTable::new(&results, 2, Order::Statistic, None);
        assert_eq!(table.gene, [2, 1, 0, 2, 0, 1]);
        assert_eq!(table.p_adj[..3], [0.02, 0.01, 0.5]);
    }

    #[test]
    fn nothing_to_compare() {
        assert_eq!(MarkerTable::new(&[], 0, Order::Auc, None), MarkerTable::default());
        assert!(MarkerTable::new(&[], 2, Order::Auc, None).rows.is_empty());
    }
}
