//! Moments of genes from small counts, one word per gene.
//!
//! Problem: an accumulator of 32 bytes per gene is a cache line for every stored
//! value, read and written back, which costs more than the arithmetic.
//! Solution: number, sum and sum of squares of a few thousand rows of small
//! counts fit in 64 bits. The genes of a row are then neighbours in memory, and
//! one addition does it all.

use serde::{Deserialize, Serialize};

use super::row::RowScan;
use crate::stats::moments::Moments;

/// The largest count that fits.
const MAX_COUNT: f64 = 255.0;
/// 2^52: adding it leaves a small integer in the low bits of a double.
const TO_INTEGER: f64 = 4_503_599_627_370_496.0;
/// Rows after which a sum could run over: 255 * 4096 < 2^20, 255^2 * 4096 < 2^28.
const MAX_ROWS: u32 = 4096;
/// Bits of the sum of squares, and of the sum above it; the number has the rest.
const SQUARES: u32 = 28;
const SUM: u32 = 20;

/// Sums over the rows since the last [`drain`](SmallCounts::drain_into).
///
/// # Numerics
/// Integers, hence exact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SmallCounts {
    words: Vec<u64>,
    rows: u32,
}

impl SmallCounts {
    /// Whether a row fits: small counts, none of them a stored zero.
    pub(super) fn takes(values: &[f64], scan: &RowScan) -> bool {
        !scan.maybe_negative
            && !scan.maybe_fractional
            && scan.detected == values.len()
            && scan.max <= MAX_COUNT
    }

    /// Adds a row that fits; `moments` get what has to make room.
    pub(super) fn add_row(&mut self, genes: &[u32], values: &[f64], moments: &mut [Moments]) {
        if self.rows == MAX_ROWS {
            self.drain_into(moments);
        }
        self.words.resize(moments.len(), 0);
        self.rows += 1;
        let words = self.words.as_mut_slice();
        for (&gene, &value) in genes.iter().zip(values) {
            let count = (value + TO_INTEGER).to_bits() & 0xff;
            words[gene as usize] += (1 << (SQUARES + SUM)) + count * ((1 << SQUARES) + count);
        }
    }

    /// Adds the sums to `moments` and starts anew.
    pub(super) fn drain_into(&mut self, moments: &mut [Moments]) {
        self.add_to(moments);
        self.words.fill(0);
        self.rows = 0;
    }

    /// Adds the sums to `moments`.
    pub(super) fn add_to(&self, moments: &mut [Moments]) {
        if self.rows == 0 {
            return;
        }
        for (&word, moments) in self.words.iter().zip(moments) {
            let sum_sq = word & ((1 << SQUARES) - 1);
            let sum = (word >> SQUARES) & ((1 << SUM) - 1);
            moments.merge(&Moments::of_counts(word >> (SQUARES + SUM), sum, sum_sq));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::row;
    use super::*;

    #[test]
    fn full_words_do_not_run_over() {
        let n_rows = 2 * MAX_ROWS as usize + 7;
        let (mut small, mut moments) = (SmallCounts::default(), vec![Moments::default(); 3]);
        for row in 0..n_rows {
            let low = (row % 3 + 1) as f64;
            let values = [MAX_COUNT, low];
            assert!(SmallCounts::takes(&values, &row::scan(&values)));
            small.add_row(&[2, 0], &values, &mut moments);
        }
        small.drain_into(&mut moments);
        small.drain_into(&mut moments);
        let n = n_rows as u64;
        assert_eq!(moments.iter().map(Moments::n).collect::<Vec<_>>(), [n, 0, n]);
        assert_eq!(moments[2].sum(), 255.0 * n_rows as f64);
        assert_eq!(moments[2].summary().var, 0.0);
        let mut plain = Moments::default();
        (0..n_rows).for_each(|row| plain.push((row % 3 + 1) as f64));
        assert_eq!(moments[0].sum(), plain.sum());
        assert!((moments[0].summary().var - plain.summary().var).abs() < 1e-14);
    }

    #[test]
    fn rows_that_do_not_fit_are_noticed() {
        for odd in [256.0, -1.0, 0.5, 0.0, f64::NAN, f64::INFINITY] {
            let mut values = [3.0; 11];
            values[9] = odd;
            assert!(!SmallCounts::takes(&values, &row::scan(&values)), "{odd}");
        }
        assert!(SmallCounts::takes(&[], &row::scan(&[])));
    }
}
