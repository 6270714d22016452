//! The metrics of cells and genes, from one read.
//!
//! Per stored value: one word of the gene's accumulator ([`SmallCounts`], a cache
//! line where counts are large or no counts), and the row's values once more in
//! vector registers for totals and checks. A gene that is in no set costs
//! one byte looked up.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use super::check::ValueCheck;
use super::row;
use super::small_counts::SmallCounts;
use crate::error::{Error, Result};
use crate::matrix::RowBlock;
use crate::pass::Pass;
use crate::stats::moments::Moments;
use crate::stats::select::TopKSums;
use crate::summary::{mean_and_variance, merge_columns};

/// Any number of sets of genes, by the sets that each gene is in.
#[derive(Debug, Clone, Default)]
pub struct GeneSets {
    n_sets: usize,
    /// Whether each gene is in any set: small, so that it stays in the nearest cache.
    any: Vec<bool>,
    /// Per gene its entry of `combinations`; zero where it is in no set.
    combination: Vec<u32>,
    /// The distinct lists of sets that genes are in.
    combinations: Vec<Vec<usize>>,
}

impl GeneSets {
    /// Sets given as columns of a matrix with `n_vars` genes; a gene named twice
    /// counts once.
    ///
    /// # Errors
    /// When a set names a column that does not exist.
    pub fn new(n_vars: usize, sets: &[Vec<usize>]) -> Result<Self> {
        let mut of_gene: Vec<Vec<usize>> = vec![Vec::new(); n_vars];
        for (set, genes) in sets.iter().enumerate() {
            for &gene in genes {
                let slot = of_gene.get_mut(gene).ok_or_else(|| Error::InvalidInput {
                    argument: "gene_sets",
                    message: format!("gene {} lies outside the {n_vars} genes", gene + 1),
                })?;
                if slot.last() != Some(&set) {
                    slot.push(set);
                }
            }
        }
        let mut combinations = vec![Vec::new()];
        let mut known = std::collections::HashMap::from([(Vec::new(), 0_u32)]);
        let mut any = vec![false; n_vars];
        let mut combination = vec![0; n_vars];
        for (gene, sets) in of_gene.into_iter().enumerate() {
            if sets.is_empty() {
                continue;
            }
            any[gene] = true;
            combination[gene] = *known.entry(sets).or_insert_with_key(|sets| {
                combinations.push(sets.clone());
                combinations.len() as u32 - 1
            });
        }
        Ok(GeneSets { n_sets: sets.len(), any, combination, combinations })
    }

    /// Number of sets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.n_sets
    }

    /// Whether there is no set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_sets == 0
    }

    /// Appends a row's total in each set.
    fn append_totals(&self, genes: &[u32], values: &[f64], totals: &mut Vec<f64>) {
        let from = totals.len();
        totals.resize(from + self.n_sets, 0.0);
        let totals = &mut totals[from..];
        let any = self.any.as_slice();
        for (&gene, &value) in genes.iter().zip(values) {
            let gene = gene as usize;
            if any[gene] {
                for &set in &self.combinations[self.combination[gene] as usize] {
                    totals[set] += value;
                }
            }
        }
    }
}

/// What a cell has to meet to be kept, known before the cells are read.
#[derive(Debug, Clone, PartialEq)]
pub struct CellBounds {
    /// Least and largest number of detected genes; both are kept.
    pub detected: (f64, f64),
    /// Least and largest total; both are kept.
    pub total: (f64, f64),
    /// For sets, by their number: the percentage of the total that the set's must
    /// stay below. A cell without counts has no percentage and is not kept.
    pub below: Vec<(usize, f64)>,
}

impl CellBounds {
    /// Whether a cell is kept.
    fn keep(&self, detected: f64, total: f64, set_totals: &[f64]) -> bool {
        let within = |value: f64, (least, most): (f64, f64)| value >= least && value <= most;
        within(detected, self.detected)
            && within(total, self.total)
            && self.below.iter().all(|&(set, most)| 100.0 * set_totals[set] / total < most)
    }
}

/// What the cells that are not kept have of each gene. They are few, so that taking
/// theirs off costs less than adding up those of the others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Dropped {
    cells: u64,
    detected: Vec<u32>,
    totals: Vec<f64>,
}

impl Dropped {
    fn add_row(&mut self, genes: &[u32], values: &[f64], n_vars: usize) {
        self.cells += 1;
        self.detected.resize(n_vars, 0);
        self.totals.resize(n_vars, 0.0);
        for (&gene, &value) in genes.iter().zip(values) {
            self.detected[gene as usize] += u32::from(value != 0.0);
            self.totals[gene as usize] += value;
        }
    }

    fn merge(&mut self, from: Dropped) {
        if self.cells == 0 {
            *self = from;
            return;
        }
        self.cells += from.cells;
        for (into, from) in self.detected.iter_mut().zip(from.detected) {
            *into += from;
        }
        for (into, from) in self.totals.iter_mut().zip(from.totals) {
            *into += from;
        }
    }
}

/// Totals, detected genes, gene sets, largest counts, and moments of genes.
#[derive(Debug, Clone)]
pub struct QcPass {
    n_vars: usize,
    sets: GeneSets,
    tops: Vec<usize>,
    bounds: Option<CellBounds>,
}

impl QcPass {
    /// Metrics of a view with `n_vars` genes. `tops` are the numbers of largest
    /// counts whose share is asked for, ascending.
    ///
    /// # Errors
    /// When `tops` do not ascend.
    pub fn new(n_vars: usize, sets: GeneSets, tops: Vec<usize>) -> Result<Self> {
        if !tops.is_sorted() {
            return Err(Error::InvalidInput {
                argument: "percent_top",
                message: "the numbers of genes must ascend".into(),
            });
        }
        Ok(QcPass { n_vars, sets, tops, bounds: None })
    }

    /// Counts genes also over the cells within `bounds` alone.
    ///
    /// # Errors
    /// When `bounds` name a set that does not exist.
    pub fn with_bounds(mut self, bounds: CellBounds) -> Result<Self> {
        if bounds.below.iter().any(|&(set, _)| set >= self.sets.len()) {
            return Err(Error::InvalidInput {
                argument: "bounds",
                message: "there is a bound of a set that is not there".into(),
            });
        }
        self.bounds = Some(bounds);
        Ok(self)
    }
}

/// What [`QcPass`] knows of some rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QcPartial {
    rows: Vec<usize>,
    totals: Vec<f64>,
    detected: Vec<u32>,
    set_totals: Vec<f64>,
    top_sums: Vec<f64>,
    genes: Vec<Moments>,
    /// What `genes` lack.
    small: SmallCounts,
    check: ValueCheck,
    dropped: Dropped,
}

impl QcPartial {
    /// The moments of all genes seen.
    fn all_genes(&self) -> Vec<Moments> {
        let mut genes = self.genes.clone();
        self.small.add_to(&mut genes);
        genes
    }
}

thread_local! {
    /// The histogram of the largest counts is kept between blocks.
    static TOP: RefCell<TopKSums> = RefCell::new(TopKSums::new());
}

impl Pass for QcPass {
    type Partial = QcPartial;

    fn empty(&self) -> QcPartial {
        QcPartial::default()
    }

    fn fold(&self, block: &RowBlock, partial: &mut QcPartial) -> Result<()> {
        partial.genes.resize(self.n_vars, Moments::default());
        let moments = partial.genes.as_mut_slice();
        let n_rows = block.n_rows();
        partial.rows.extend_from_slice(&block.rows);
        partial.totals.reserve(n_rows);
        partial.detected.reserve(n_rows);
        for r in 0..n_rows {
            let (genes, values) = block.row(r);
            let scan = row::scan(values);
            partial.totals.push(scan.total);
            partial.detected.push(scan.detected as u32);
            partial.check.row(block.rows[r], genes, values, &scan);
            if SmallCounts::takes(values, &scan) {
                partial.small.add_row(genes, values, moments);
            } else {
                for (&gene, &value) in genes.iter().zip(values) {
                    if value != 0.0 {
                        moments[gene as usize].push(value);
                    }
                }
            }
            if !self.sets.is_empty() {
                self.sets.append_totals(genes, values, &mut partial.set_totals);
            }
            if let Some(bounds) = &self.bounds {
                let sets = &partial.set_totals[partial.set_totals.len() - self.sets.len()..];
                if !bounds.keep(scan.detected as f64, scan.total, sets) {
                    partial.dropped.add_row(genes, values, self.n_vars);
                }
            }
            if !self.tops.is_empty() {
                let from = partial.top_sums.len();
                partial.top_sums.resize(from + self.tops.len(), 0.0);
                let sums = &mut partial.top_sums[from..];
                TOP.with_borrow_mut(|top| top.sums(values, &self.tops, sums));
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut QcPartial, mut from: QcPartial) {
        into.small.drain_into(&mut into.genes);
        from.small.drain_into(&mut from.genes);
        into.rows.extend(from.rows);
        into.totals.extend(from.totals);
        into.detected.extend(from.detected);
        into.set_totals.extend(from.set_totals);
        into.top_sums.extend(from.top_sums);
        merge_columns(&mut into.genes, from.genes);
        into.check.merge(&from.check);
        into.dropped.merge(from.dropped);
    }
}

/// The metrics of every cell of a view, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct CellMetrics {
    /// Sum of the values.
    pub totals: Vec<f64>,
    /// Number of genes with a nonzero value.
    pub detected: Vec<f64>,
    /// Sum of the values in each set.
    pub set_totals: Vec<Vec<f64>>,
    /// Sum of the largest values, for each number asked for.
    pub top_sums: Vec<Vec<f64>>,
}

/// The metrics of every gene of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneMetrics {
    /// Number of cells with a nonzero value.
    pub detected: Vec<f64>,
    /// Sum of the values.
    pub totals: Vec<f64>,
    /// Mean over all cells; NaN without cells.
    pub mean: Vec<f64>,
    /// Unbiased variance; NaN with fewer than two cells.
    pub var: Vec<f64>,
}

/// Counts of every gene over the cells within bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptCounts {
    /// Number of cells that are kept.
    pub cells: f64,
    /// Number of them with a nonzero value, for each gene.
    pub detected: Vec<f64>,
    /// Sum of their values: exact for counts, to rounding otherwise.
    pub totals: Vec<f64>,
}

/// What [`QcPass`] comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct QcMetrics {
    /// By cell.
    pub cells: CellMetrics,
    /// By gene.
    pub genes: GeneMetrics,
    /// By gene over the cells within bounds, where there are any.
    pub kept: Option<KeptCounts>,
    /// What the values look like.
    pub check: ValueCheck,
}

impl QcPass {
    /// The metrics of a view with `n_obs` rows.
    ///
    /// # Errors
    /// When a gene has more values than there are cells.
    pub fn finish(&self, partial: &QcPartial, n_obs: usize) -> Result<QcMetrics> {
        let column = |values: &[f64], width: usize, at: usize| {
            let mut column = vec![0.0; n_obs];
            for (i, &row) in partial.rows.iter().enumerate() {
                column[row] = values[i * width + at];
            }
            column
        };
        let columns = |values: &[f64], width: usize| -> Vec<Vec<f64>> {
            (0..width).map(|at| column(values, width, at)).collect()
        };
        let detected: Vec<f64> = partial.detected.iter().map(|&n| f64::from(n)).collect();
        let cells = CellMetrics {
            totals: column(&partial.totals, 1, 0),
            detected: column(&detected, 1, 0),
            set_totals: columns(&partial.set_totals, self.sets.len()),
            top_sums: columns(&partial.top_sums, self.tops.len()),
        };
        let moments = partial.all_genes();
        let summary = mean_and_variance(&moments, n_obs, self.n_vars)?;
        let none = Moments::default();
        let gene = |j: usize| moments.get(j).unwrap_or(&none);
        let genes = GeneMetrics {
            detected: (0..self.n_vars).map(|j| gene(j).n() as f64).collect(),
            totals: (0..self.n_vars).map(|j| gene(j).sum()).collect(),
            mean: summary.iter().map(|s| s.mean).collect(),
            var: summary.iter().map(|s| s.var).collect(),
        };
        let dropped = &partial.dropped;
        let kept = self.bounds.as_ref().map(|_| KeptCounts {
            cells: n_obs as f64 - dropped.cells as f64,
            detected: (0..self.n_vars)
                .map(|j| genes.detected[j] - dropped.detected.get(j).map_or(0.0, |&n| n.into()))
                .collect(),
            totals: (0..self.n_vars)
                .map(|j| genes.totals[j] - dropped.totals.get(j).copied().unwrap_or(0.0))
                .collect(),
        });
        Ok(QcMetrics { cells, genes, kept, check: partial.check })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::testing::Matrix;
    use crate::pass::testing::run_every_way;

    fn naive_top(row: &[f64], k: usize) -> f64 {
        let mut sorted = row.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted.iter().take(k).sum()
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "sums of counts are exact")]
    fn agrees_with_loops_over_the_dense_matrix() {
        let matrix = Matrix::counts(57, 130, 3);
        let sets = vec![vec![0, 5, 5, 129], vec![5, 64], vec![], (0..130).collect::<Vec<_>>()];
        let pass = QcPass::new(130, GeneSets::new(130, &sets).unwrap(), vec![1, 5, 500]).unwrap();
        let partial = run_every_way(&matrix, &pass);
        let got = pass.finish(&partial, 57).unwrap();
        for (i, row) in matrix.dense.iter().enumerate() {
            assert_eq!(got.cells.totals[i], row.iter().sum::<f64>());
            assert_eq!(got.cells.detected[i], row.iter().filter(|x| **x != 0.0).count() as f64);
            for (s, set) in sets.iter().enumerate() {
                let mut genes = set.clone();
                genes.dedup();
                assert_eq!(got.cells.set_totals[s][i], genes.iter().map(|&g| row[g]).sum::<f64>());
            }
            for (t, k) in [1, 5, 500].into_iter().enumerate() {
                assert_eq!(got.cells.top_sums[t][i], naive_top(row, k));
            }
        }
        for j in 0..130 {
            let column: Vec<f64> = matrix.dense.iter().map(|row| row[j]).collect();
            let total: f64 = column.iter().sum();
            let mean = total / 57.0;
            let var = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 56.0;
            assert_eq!(got.genes.totals[j], total);
            assert_eq!(got.genes.detected[j], column.iter().filter(|x| **x != 0.0).count() as f64);
            assert!((got.genes.mean[j] - mean).abs() <= 1e-14 * mean);
            assert!((got.genes.var[j] - var).abs() <= 1e-12 * var);
        }
        assert_eq!(got.check, ValueCheck::default());
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "sums of counts are exact")]
    fn genes_are_counted_over_the_cells_within_bounds() {
        let matrix = Matrix::counts(57, 130, 3);
        let set: Vec<usize> = (0..40).collect();
        let detected: Vec<f64> = matrix
            .dense
            .iter()
            .map(|row| row.iter().filter(|x| **x != 0.0).count() as f64)
            .collect();
        let mut sorted = detected.clone();
        sorted.sort_by(f64::total_cmp);
        let unbounded = (f64::NEG_INFINITY, f64::INFINITY);
        let cases = [
            CellBounds { detected: (sorted[10], sorted[50]), total: unbounded, below: vec![] },
            CellBounds { detected: unbounded, total: unbounded, below: vec![(1, 31.0)] },
            CellBounds { detected: unbounded, total: (0.0, 120.0), below: vec![(1, 35.0)] },
            CellBounds { detected: (1e9, 1e9), total: unbounded, below: vec![] },
        ];
        for bounds in cases {
            let sets = GeneSets::new(130, &[vec![3], set.clone()]).unwrap();
            let pass = QcPass::new(130, sets, vec![]).unwrap().with_bounds(bounds.clone()).unwrap();
            let got = pass.finish(&run_every_way(&matrix, &pass), 57).unwrap();
            let kept: Vec<&Vec<f64>> = matrix
                .dense
                .iter()
                .zip(&detected)
                .filter(|(row, detected)| {
                    let total: f64 = row.iter().sum();
                    let share = 100.0 * set.iter().map(|&g| row[g]).sum::<f64>() / total;
                    **detected >= bounds.detected.0
                        && **detected <= bounds.detected.1
                        && total >= bounds.total.0
                        && total <= bounds.total.1
                        && bounds.below.iter().all(|&(_, most)| share < most)
                })
                .map(|(row, _)| row)
                .collect();
            assert!(kept.len() < 57, "{bounds:?} drops nothing");
            let counts = got.kept.unwrap();
            assert_eq!(counts.cells, kept.len() as f64);
            for j in 0..130 {
                let column: Vec<f64> = kept.iter().map(|row| row[j]).collect();
                assert_eq!(counts.totals[j], column.iter().sum::<f64>());
                assert_eq!(counts.detected[j], column.iter().filter(|x| **x != 0.0).count() as f64);
            }
        }
        let pass = QcPass::new(130, GeneSets::default(), vec![]).unwrap();
        let bounds = CellBounds { detected: unbounded, total: unbounded, below: vec![(0, 5.0)] };
        assert!(pass.with_bounds(bounds).is_err());
    }

    #[test]
    fn no_cells_no_genes_one_cell() {
        for (n_obs, n_vars) in [(0, 4), (4, 0), (1, 3), (0, 0)] {
            let matrix = Matrix::counts(n_obs, n_vars, 4);
            let sets = GeneSets::new(n_vars, &[vec![]]).unwrap();
            let pass = QcPass::new(n_vars, sets, vec![50]).unwrap();
            let got = pass.finish(&run_every_way(&matrix, &pass), n_obs).unwrap();
            assert_eq!(got.cells.totals.len(), n_obs);
            assert_eq!(got.cells.set_totals[0].len(), n_obs);
            assert_eq!(got.genes.var.len(), n_vars);
            assert!(n_obs > 1 || got.genes.var.iter().all(|v| v.is_nan()));
        }
    }

    #[test]
    fn unusable_arguments_are_refused() {
        assert!(GeneSets::new(3, &[vec![3]]).is_err());
        assert!(QcPass::new(3, GeneSets::default(), vec![100, 50]).is_err());
    }

    #[test]
    fn repeated_entries_of_a_cell_are_an_error() {
        let pass = QcPass::new(1, GeneSets::default(), vec![]).unwrap();
        let mut partial = pass.empty();
        let block = RowBlock {
            indptr: vec![0, 2],
            indices: vec![0, 0],
            values: vec![1.0, 2.0],
            rows: vec![0],
            ..RowBlock::default()
        };
        pass.fold(&block, &mut partial).unwrap();
        assert!(pass.finish(&partial, 1).is_err());
    }
}
