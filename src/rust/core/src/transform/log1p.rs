//! The logarithm of one plus the value, alone or fused with normalisation.

use super::normalize::Normalize;
use crate::matrix::RowBlock;
use crate::stats::log1p::{exp_m1, ln_1p};

/// Counts below this are looked up instead of computed anew.
const TABLE: usize = 256;

/// `ln(1 + x)`, or to another base.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log1p {
    /// Natural logarithm of the base; one for the natural logarithm.
    pub(crate) ln_base: f64,
    pub(crate) natural: bool,
}

impl Log1p {
    pub(crate) fn new(base: Option<f64>) -> Self {
        Log1p { ln_base: base.map_or(1.0, f64::ln), natural: base.is_none() }
    }

    pub(crate) fn value(self, x: f64) -> f64 {
        if self.natural { ln_1p(x) } else { ln_1p(x) / self.ln_base }
    }

    /// The inverse of [`value`](Self::value).
    pub(crate) fn inverse(self, y: f64) -> f64 {
        if self.natural { exp_m1(y) } else { exp_m1(y * self.ln_base) }
    }

    pub(crate) fn apply(self, block: &mut RowBlock, keep_linear: bool) {
        if keep_linear {
            block.linear.clear();
            block.linear.extend_from_slice(&block.values);
        }
        for x in &mut block.values {
            *x = self.value(*x);
        }
    }
}

/// The commonest counts, whose results are made for each row in advance.
pub(crate) const USUAL: usize = 16;

/// Normalisation and logarithm that a view leaves to its pass, which applies them
/// as it folds: nothing is written and read again.
#[derive(Debug, Clone)]
pub(crate) struct RowLog {
    pub(crate) normalize: Normalize,
    pub(crate) log: Log1p,
}

impl RowLog {
    /// The function of a row with these columns and values.
    pub(crate) fn row<'a>(
        &'a self,
        indices: &[u32],
        values: &[f64],
        table: &'a mut RowTable,
    ) -> RowFunction<'a> {
        self.row_of_total(self.normalize.total(indices, values), table)
    }

    /// The value that `x` becomes in a row of this total.
    pub(crate) fn value(&self, x: f64, total: f64) -> f64 {
        self.log.value(self.normalize.scaled_or_left(x, total))
    }

    /// The function of a row of this total.
    pub(crate) fn row_of_total<'a>(
        &'a self,
        total: f64,
        table: &'a mut RowTable,
    ) -> RowFunction<'a> {
        RowFunction::new(&self.normalize, self.log, total, table)
    }
}

/// Results of the current row by count.
pub(crate) struct RowTable {
    /// Valid where it is the number of the current row.
    stamp: Vec<u64>,
    linear: Vec<f64>,
    log: Vec<f64>,
    row: u64,
}

impl Default for RowTable {
    fn default() -> Self {
        RowTable { stamp: vec![0; TABLE], linear: vec![0.0; TABLE], log: vec![0.0; TABLE], row: 0 }
    }
}

/// Normalisation and logarithm for one row.
pub(crate) struct RowFunction<'a> {
    normalize: &'a Normalize,
    log: Log1p,
    total: f64,
    table: &'a mut RowTable,
    counts: [f64; USUAL],
    /// Before and after the logarithm.
    usual: [(f64, f64); USUAL],
}

// Counts are compared exactly on purpose.
#[allow(clippy::float_cmp)]
impl<'a> RowFunction<'a> {
    fn new(normalize: &'a Normalize, log: Log1p, total: f64, table: &'a mut RowTable) -> Self {
        table.row += 1;
        let mut function = RowFunction {
            normalize,
            log,
            total,
            table,
            counts: std::array::from_fn(|count| count as f64),
            usual: [(0.0, 0.0); USUAL],
        };
        for count in 0..USUAL {
            function.usual[count] = function.compute(function.counts[count]);
        }
        function
    }

    fn compute(&self, x: f64) -> (f64, f64) {
        let linear = self.normalize.scaled_or_left(x, self.total);
        (linear, self.log.value(linear))
    }

    /// The value before and after the logarithm.
    #[inline(always)]
    pub(crate) fn value(&mut self, x: f64) -> (f64, f64) {
        // Adding 2^52 leaves a small integer in the lowest bits; whatever comes
        // out for other numbers does not compare equal to them.
        const SHIFT: f64 = 4_503_599_627_370_496.0;
        let count = (x + SHIFT).to_bits() as usize % USUAL;
        if self.counts[count] == x { self.usual[count] } else { self.unusual(x) }
    }

    /// The same of a count.
    #[inline]
    pub(crate) fn count(&mut self, count: u16) -> (f64, f64) {
        match self.usual.get(usize::from(count)) {
            Some(&pair) => pair,
            None => self.unusual(f64::from(count)),
        }
    }

    #[inline(never)]
    fn unusual(&mut self, x: f64) -> (f64, f64) {
        let count = x as usize;
        if count >= TABLE || count as f64 != x {
            return self.compute(x);
        }
        if self.table.stamp[count] != self.table.row {
            let (linear, log) = self.compute(x);
            self.table.stamp[count] = self.table.row;
            self.table.linear[count] = linear;
            self.table.log[count] = log;
        }
        (self.table.linear[count], self.table.log[count])
    }
}

/// Normalises and takes logarithms in one go; `total` gives the total of a row.
///
/// A cell's values are few distinct counts, so each logarithm is computed once
/// per cell and count and looked up afterwards. The bits are those of the two
/// steps one after the other.
pub(crate) fn normalize_log1p(
    normalize: &Normalize,
    log: Log1p,
    block: &mut RowBlock,
    keep_linear: bool,
    table: &mut RowTable,
    total: impl Fn(usize, &[u32], &[f64]) -> f64,
) {
    block.linear.clear();
    block.linear.resize(if keep_linear { block.values.len() } else { 0 }, 0.0);
    for r in 0..block.n_rows() {
        let span = block.indptr[r]..block.indptr[r + 1];
        let values = &mut block.values[span.clone()];
        let total = total(r, &block.indices[span.clone()], values);
        let mut function = RowFunction::new(normalize, log, total, table);
        if keep_linear {
            for (x, linear) in values.iter_mut().zip(&mut block.linear[span]) {
                (*linear, *x) = function.value(*x);
            }
        } else {
            for x in values {
                *x = function.value(*x).1;
            }
        }
    }
}
