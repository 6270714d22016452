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
        Log1p {
            ln_base: base.map_or(1.0, f64::ln),
            natural: base.is_none(),
        }
    }

    pub(crate) fn value(self, x: f64) -> f64 {
        if self.natural {
            ln_1p(x)
        } else {
            ln_1p(x) / self.ln_base
        }
    }

    /// The inverse of [`value`](Self::value).
    pub(crate) fn inverse(self, y: f64) -> f64 {
        if self.natural {
            exp_m1(y)
        } else {
            exp_m1(y * self.ln_base)
        }
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

/// Results of the current row by count: valid where the stamp is the row's.
pub(crate) struct RowTable {
    stamp: Vec<u64>,
    linear: Vec<f64>,
    log: Vec<f64>,
    row: u64,
}

impl Default for RowTable {
    fn default() -> Self {
        RowTable {
            stamp: vec![0; TABLE],
            linear: vec![0.0; TABLE],
            log: vec![0.0; TABLE],
            row: 0,
        }
    }
}

/// Normalises and takes logarithms in one go.
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
) {
    if keep_linear {
        block.linear.clear();
        block.linear.resize(block.values.len(), 0.0);
    }
    for r in 0..block.n_rows() {
        let span = block.indptr[r]..block.indptr[r + 1];
        let total = normalize.total(&block.indices[span.clone()], &block.values[span.clone()]);
        table.row += 1;
        for at in span {
            let x = block.values[at];
            let count = x as usize;
            let (linear, value) = if count < TABLE && count as f64 == x {
                if table.stamp[count] != table.row {
                    table.stamp[count] = table.row;
                    let linear = if total == 0.0 {
                        x
                    } else {
                        normalize.scaled(x, total)
                    };
                    table.linear[count] = linear;
                    table.log[count] = log.value(linear);
                }
                (table.linear[count], table.log[count])
            } else {
                let linear = if total == 0.0 {
                    x
                } else {
                    normalize.scaled(x, total)
                };
                (linear, log.value(linear))
            };
            block.values[at] = value;
            if keep_linear {
                block.linear[at] = linear;
            }
        }
    }
}
