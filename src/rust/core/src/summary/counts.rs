//! Sums over the logarithms of normalised counts, gene by gene.
//!
//! Problem: moments about a shift, and those of the same values before the logarithm, are two
//! lines of the cache for each stored value, read and written back, beside the values
//! themselves. Solution: sums about zero of both are one line, and what the usual counts of a
//! row add to it is looked up: two vector additions a value, which is not written anywhere.

use serde::{Deserialize, Serialize};

use crate::matrix::RowBlock;
use crate::stats::moments::Moments;
use crate::transform::{RowLog, RowTable, USUAL};

/// Sums about zero of one gene.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[repr(C, align(32))]
struct Sums {
    /// Of values, of their squares, and the same before the logarithm.
    of: [f64; 4],
}

impl Sums {
    fn new((linear, value): (f64, f64)) -> Self {
        Sums { of: [value, value * value, linear, linear * linear] }
    }

    #[inline]
    fn add(&mut self, other: &Sums) {
        for (into, from) in self.of.iter_mut().zip(other.of) {
            *into += from;
        }
    }
}

/// Sums over the counts of all genes since the last [`drain`](LogCounts::drain_into).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LogCounts {
    sums: Vec<Sums>,
    /// How many each is of.
    n: Vec<u32>,
}

impl LogCounts {
    /// Bytes that a gene takes.
    pub(super) const BYTES_OF_GENE: usize = size_of::<Sums>() + size_of::<u32>();

    /// Adds the counts of rows before their logarithm; `other` gets what is no small count, by
    /// its gene and before and after the logarithm.
    #[allow(clippy::float_cmp, reason = "counts are compared exactly on purpose")]
    pub(super) fn add_rows(
        &mut self,
        log: &RowLog,
        block: &RowBlock,
        n_vars: usize,
        table: &mut RowTable,
        mut other: impl FnMut(u32, (f64, f64)),
    ) {
        self.sums.resize(n_vars, Sums::default());
        self.n.resize(n_vars, 0);
        let (sums, n) = (self.sums.as_mut_slice(), self.n.as_mut_slice());
        for r in 0..block.n_rows() {
            let (genes, values) = block.row(r);
            let mut function = log.row(genes, values, table);
            let usual: [Sums; USUAL] = std::array::from_fn(|count| match count {
                0 => Sums::default(),
                _ => Sums::new(function.count(count as u16)),
            });
            for (&gene, &value) in genes.iter().zip(values) {
                // Adding 2^52 leaves a small integer in the lowest bits; whatever comes out for
                // other numbers does not compare equal to them.
                const SHIFT: f64 = 4_503_599_627_370_496.0;
                let count = (value + SHIFT).to_bits() as usize % USUAL;
                let at = gene as usize;
                if count as f64 == value {
                    sums[at].add(&usual[count]);
                    n[at] += u32::from(count != 0);
                } else if f64::from(value as u16) == value {
                    sums[at].add(&Sums::new(function.value(value)));
                    n[at] += 1;
                } else {
                    other(gene, function.value(value));
                }
            }
        }
    }

    /// Adds the sums to `values` and `linear`, and starts anew.
    pub(super) fn drain_into(&mut self, values: &mut [Moments], linear: &mut [Moments]) {
        let all = self.sums.drain(..).zip(self.n.drain(..));
        for ((Sums { of }, n), (values, linear)) in all.zip(values.iter_mut().zip(linear)) {
            values.merge(&Moments::of_sums(n.into(), of[0], of[1]));
            linear.merge(&Moments::of_sums(n.into(), of[2], of[3]));
        }
    }
}
