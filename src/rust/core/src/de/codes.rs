//! Numbers for the distinct values of each row.
//!
//! Problem: eight bytes a value are most of what values by gene take, in memory, in the spill
//! file and on the way. Solution: a cell has few distinct values, however it was scaled,
//! because they come of few distinct counts; two bytes say which one.

/// Gives the values of one row after the other numbers, in the order of their first
/// appearance.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// Number of the row, from 1 on.
    row: u64,
    /// For each count the last row that had it, and its code there (the lowest 16 bits).
    of_count: Vec<u64>,
    /// A table of values, found by hashing.
    of_value: Vec<Slot>,
}

/// A value of a row.
#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    row: u64,
    bits: u64,
    code: u32,
}

/// Bits of a place in the table of values.
const SLOT_BITS: u32 = 10;

/// Distinct values in the table at most: it stays half empty.
const MOST_SLOTS: u32 = 1 << (SLOT_BITS - 1);

/// Distinct values that any row may have; beyond them a quarter of its values.
const FREE: u32 = 64;

impl Codes {
    /// Replaces the counts of a row by their codes: 0 for zero, and from 1 on the number of a
    /// distinct count, which `new` is told of.
    pub(super) fn replace_counts(&mut self, counts: &mut [u16], mut new: impl FnMut(u16)) {
        self.row += 1;
        self.of_count.resize(1 << u16::BITS, 0);
        let mut n = 0;
        for count in counts {
            if *count == 0 {
                continue;
            }
            let slot = &mut self.of_count[usize::from(*count)];
            if *slot >> u16::BITS != self.row {
                n += 1;
                *slot = self.row << u16::BITS | n;
                new(*count);
            }
            *count = *slot as u16;
        }
    }

    /// Appends the codes of the values of a row: 0 for zero, and from 1 on the number of a
    /// value, which `new` is told of. Where values hardly repeat, each is new.
    pub(super) fn append(
        &mut self,
        values: &[f64],
        codes: &mut Vec<u32>,
        mut new: impl FnMut(f64),
    ) {
        self.row += 1;
        self.of_value.resize(1 << SLOT_BITS, Slot::default());
        let (mut n, mut seen, mut repeats) = (0, 0, true);
        codes.extend(values.iter().map(|&value| {
            if value == 0.0 {
                return 0;
            }
            seen += 1;
            repeats &= n < MOST_SLOTS && n <= FREE + seen / 4;
            if repeats {
                let (row, bits) = (self.row, value.to_bits());
                let slot = self.slot(bits);
                if slot.row == row {
                    return slot.code;
                }
                *slot = Slot { row, bits, code: n + 1 };
            }
            n += 1;
            new(value);
            n
        }));
    }

    /// Where a value of the row is, or would be.
    fn slot(&mut self, bits: u64) -> &mut Slot {
        // Multiples of the golden ratio lie apart.
        let mut at = (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS)) as usize;
        while self.of_value[at].row == self.row && self.of_value[at].bits != bits {
            at = (at + 1) % (1 << SLOT_BITS);
        }
        &mut self.of_value[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;

    /// What the codes of a row stand for.
    fn decoded(codes: &[u32], distinct: &[f64]) -> Vec<f64> {
        let value = |&code: &u32| code.checked_sub(1).map_or(0.0, |at| distinct[at as usize]);
        codes.iter().map(value).collect()
    }

    #[test]
    fn codes_stand_for_their_values() {
        let mut rng = Rng::new(8, 0);
        let mut codes = Codes::default();
        for (n_values, n_distinct) in [(0, 1), (5, 3), (4000, 7), (4000, 100), (9000, 2000)] {
            let counts: Vec<u16> =
                (0..n_values).map(|_| rng.below(n_distinct) as u16 * 31).collect();
            let values: Vec<f64> = counts.iter().map(|&count| f64::from(count).ln_1p()).collect();
            let (mut replaced, mut distinct) = (counts.clone(), Vec::new());
            codes.replace_counts(&mut replaced, |count| distinct.push(f64::from(count)));
            let replaced: Vec<u32> = replaced.into_iter().map(u32::from).collect();
            let want: Vec<f64> = counts.iter().map(|&count| f64::from(count)).collect();
            assert_eq!(decoded(&replaced, &distinct), want);
            let n_counts = distinct.len();
            assert!(n_counts < n_distinct as usize);

            let (mut appended, mut distinct) = (vec![9], Vec::new());
            codes.append(&values, &mut appended, |value| distinct.push(value));
            assert_eq!(decoded(&appended[1..], &distinct), values);
            // As many as there are, unless they are too many to be told apart.
            assert!(n_distinct > 100 || distinct.len() == n_counts);
        }
    }

    #[test]
    fn values_that_do_not_repeat_are_all_new() {
        let values: Vec<f64> = (0..5000).map(|i| f64::from(i) - 2500.0).collect();
        let (mut codes, mut distinct) = (Vec::new(), Vec::new());
        Codes::default().append(&values, &mut codes, |value| distinct.push(value));
        assert_eq!(decoded(&codes, &distinct), values);
        assert_eq!(distinct.len(), 4999);
    }
}
