//! What the values of a matrix look like: finite, negative, integers, logarithms.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::row::{self, RowScan};
use crate::ctx::Ctx;
use crate::error::Result;
use crate::matrix::{RowBlock, Source};
use crate::pass::{Pass, stream};
use crate::stats::log1p::exp_m1;
use crate::transform::View;

/// Where a value stands, in the view.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Position of the cell.
    pub row: usize,
    /// Position of the gene.
    pub gene: usize,
    /// The value.
    pub value: f64,
}

/// How many values are of some kind, and the first of them in the file's order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Number of values.
    pub count: u64,
    /// The first one.
    pub first: Option<Place>,
}

impl Finding {
    fn add(&mut self, place: Place) {
        self.count += 1;
        self.first.get_or_insert(place);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.first = self.first.or(other.first);
    }
}

/// Values that a method for counts can't take, or would misread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueCheck {
    /// NaN and infinities.
    pub nonfinite: Finding,
    /// Values below zero.
    pub negative: Finding,
    /// A value that is no integer. Only the first is looked for.
    pub fractional: Option<Place>,
}

impl ValueCheck {
    /// Looks closer at a row where its scan gives reason to.
    pub(super) fn row(&mut self, row: usize, genes: &[u32], values: &[f64], scan: &RowScan) {
        let worth = scan.maybe_negative
            || !scan.total.is_finite()
            || (scan.maybe_fractional && self.fractional.is_none());
        if !worth {
            return;
        }
        for (&gene, &value) in genes.iter().zip(values) {
            let place = Place { row, gene: gene as usize, value };
            if !value.is_finite() {
                self.nonfinite.add(place);
            } else if value < 0.0 {
                self.negative.add(place);
            } else if value.fract() != 0.0 && self.fractional.is_none() {
                self.fractional = Some(place);
            }
        }
    }

    /// Adds the findings of later rows.
    pub(super) fn merge(&mut self, other: &Self) {
        self.nonfinite.merge(&other.nonfinite);
        self.negative.merge(&other.negative);
        self.fractional = self.fractional.or(other.fractional);
    }

    /// The first value that is NaN, infinite or negative.
    #[must_use]
    pub fn first_bad(&self) -> Option<Place> {
        self.nonfinite.first.or(self.negative.first)
    }
}

/// Checks every value; also tells logarithms of normalised counts apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckPass;

/// The findings of [`CheckPass`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CheckPartial {
    /// NaN, negative values, fractions.
    pub values: ValueCheck,
    /// The least stored value; infinite where none is stored.
    pub min: f64,
    /// The largest stored value.
    pub max: f64,
    /// Rows with a value.
    pub rows: u64,
    /// The least sum of `exp(x) - 1` over a row with values.
    pub min_unlogged: f64,
    /// The largest such sum.
    pub max_unlogged: f64,
}

impl CheckPartial {
    /// Whether the values are `ln(1 + x)` of rows with one common total: no
    /// other data have that property.
    #[must_use]
    pub fn is_log_normalized(&self) -> bool {
        self.rows > 1
            && self.values.fractional.is_some()
            && self.max_unlogged.is_finite()
            && self.max_unlogged - self.min_unlogged <= 1e-3 * self.max_unlogged
    }
}

impl Pass for CheckPass {
    type Partial = CheckPartial;

    fn empty(&self) -> CheckPartial {
        CheckPartial {
            values: ValueCheck::default(),
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            rows: 0,
            min_unlogged: f64::INFINITY,
            max_unlogged: f64::NEG_INFINITY,
        }
    }

    fn fold(&self, block: &RowBlock, partial: &mut CheckPartial) -> Result<()> {
        for r in 0..block.n_rows() {
            let (genes, values) = block.row(r);
            if values.is_empty() {
                continue;
            }
            let scan = row::scan(values);
            partial.values.row(block.rows[r], genes, values, &scan);
            partial.min = values.iter().copied().fold(partial.min, f64::min);
            partial.max = values.iter().copied().fold(partial.max, f64::max);
            partial.rows += 1;
            let unlogged: f64 = values.iter().map(|&x| exp_m1(x)).sum();
            partial.min_unlogged = partial.min_unlogged.min(unlogged);
            partial.max_unlogged = partial.max_unlogged.max(unlogged);
        }
        Ok(())
    }

    fn merge(&self, into: &mut CheckPartial, from: CheckPartial) {
        into.values.merge(&from.values);
        into.min = into.min.min(from.min);
        into.max = into.max.max(from.max);
        into.rows += from.rows;
        into.min_unlogged = into.min_unlogged.min(from.min_unlogged);
        into.max_unlogged = into.max_unlogged.max(from.max_unlogged);
    }
}

/// Checks the first block of the view alone: enough to tell counts from
/// logarithms, and quick whatever the size of the matrix.
///
/// # Errors
/// As [`stream`].
pub fn check_first_block(source: &dyn Source, view: &View, ctx: &Ctx) -> Result<CheckPartial> {
    let grid = source.grid();
    let first = (0..grid.n_blocks()).find(|&block| view.touches(&grid.rows(block)));
    let found = Mutex::new(CheckPass.empty());
    stream(source, view, ctx, "checking values", first.into_iter(), |_, block| {
        CheckPass.fold(block, &mut found.lock().unwrap_or_else(PoisonError::into_inner))
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::testing::Matrix;
    use crate::pass::testing::run_every_way;
    use crate::stats::log1p::ln_1p;
    use crate::transform::Chain;

    #[test]
    fn bad_values_are_counted_and_placed() {
        let mut matrix = Matrix::counts(30, 20, 1);
        matrix.set(7, 4, f64::NAN);
        matrix.set(20, 2, f64::INFINITY);
        matrix.set(12, 3, -2.0);
        matrix.set(13, 3, -1.0);
        matrix.set(9, 1, 0.5);
        let got = run_every_way(&matrix, &CheckPass);
        assert_eq!(got.values.nonfinite.count, 2);
        let first = got.values.nonfinite.first.unwrap();
        assert_eq!((first.row, first.gene), (7, 4));
        assert!(first.value.is_nan());
        assert_eq!(
            got.values.negative,
            Finding { count: 2, first: Some(Place { row: 12, gene: 3, value: -2.0 }) }
        );
        assert_eq!(got.values.fractional, Some(Place { row: 9, gene: 1, value: 0.5 }));
        assert_eq!(got.values.first_bad().unwrap().row, 7);
    }

    #[test]
    fn counts_are_fine_and_logs_are_recognised() {
        let mut matrix = Matrix::counts(30, 20, 2);
        let got = run_every_way(&matrix, &CheckPass);
        assert_eq!(got.values, ValueCheck::default());
        assert_eq!(got.values.first_bad(), None);
        assert!(!got.is_log_normalized());
        for r in 0..30 {
            let total: f64 = matrix.dense[r].iter().sum();
            for x in &mut matrix.dense[r] {
                *x = ln_1p(*x * 1e4 / total);
            }
        }
        assert!(run_every_way(&matrix, &CheckPass).is_log_normalized());
        matrix.dense[3].iter_mut().for_each(|x| *x *= 1.1);
        assert!(!run_every_way(&matrix, &CheckPass).is_log_normalized());
    }

    #[test]
    fn the_first_block_of_a_selection_is_checked() {
        let mut matrix = Matrix::counts(30, 20, 3);
        matrix.set(1, 4, -1.0);
        matrix.set(20, 4, -1.0);
        let ctx = Ctx::new(2, 1 << 30, std::path::PathBuf::new(), &crate::ctx::Silent);
        for (rows, count) in [(0..30, 1), (5..30, 0), (20..22, 1), (0..0, 0)] {
            let rows: Vec<usize> = rows.collect();
            let view = View::new(30, 20, Some(&rows), &Chain::default()).unwrap();
            let got = check_first_block(&matrix, &view, &ctx).unwrap();
            assert_eq!(got.values.negative.count, count, "{rows:?}");
        }
    }

    #[test]
    fn nothing_stored() {
        let got = run_every_way(&Matrix::counts(0, 5, 1), &CheckPass);
        assert_eq!(got.rows, 0);
        assert!(got.min.is_infinite());
        assert!(!got.is_log_normalized());
    }
}
