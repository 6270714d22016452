//! Finds the values that a row has several times.
//!
//! Problem: eight bytes a value are most of what values by gene take, in memory, in the spill
//! file and on the way. Solution: a cell has few distinct values, however it was scaled,
//! because they come of few distinct counts; two bytes say which one.

/// Gives the distinct values of one row after the other numbers, as whoever asks says.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// Number of the row, from 1 on.
    row: u64,
    /// For each count the last row that had it, and its number there (the lowest 32 bits).
    of_count: Vec<u64>,
    /// A table of values, found by hashing.
    of_value: Vec<Slot>,
}

/// A value of a row.
#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    row: u64,
    bits: u64,
    number: u32,
}

/// Bits of a place in the table of values.
const SLOT_BITS: u32 = 10;

/// Distinct values in the table at most: it stays half empty.
const MOST_SLOTS: u32 = 1 << (SLOT_BITS - 1);

/// Distinct values that any row may have; beyond them a quarter of its values.
const FREE: u32 = 64;

/// The values of a row that are not zero, by the numbers they have.
#[derive(Debug, Default)]
pub(super) struct NumberedRow {
    columns: Vec<u32>,
    numbers: Vec<u32>,
}

impl NumberedRow {
    /// Columns and numbers, beside each other.
    pub(super) fn parts(&self) -> (&[u32], &[u32]) {
        (&self.columns, &self.numbers)
    }

    /// Room for up to `n` values.
    fn begin(&mut self, n: usize) {
        self.columns.resize(n, 0);
        self.numbers.resize(n, 0);
    }

    /// Has `n` values after all.
    fn end(&mut self, n: usize) {
        self.columns.truncate(n);
        self.numbers.truncate(n);
    }
}

impl Codes {
    /// Numbers the counts of a row; `new` says the number of one where it first comes.
    pub(super) fn of_counts(
        &mut self,
        columns: &[u16],
        counts: &[u16],
        row: &mut NumberedRow,
        mut new: impl FnMut(u16) -> u32,
    ) {
        self.row += 1;
        self.of_count.resize(1 << u16::BITS, 0);
        let stamp = self.row << u32::BITS;
        row.begin(counts.len());
        let mut n = 0;
        for (&column, &count) in columns.iter().zip(counts) {
            if count == 0 {
                continue;
            }
            let slot = &mut self.of_count[usize::from(count)];
            if *slot < stamp {
                *slot = stamp | u64::from(new(count));
            }
            row.columns[n] = u32::from(column);
            row.numbers[n] = *slot as u32;
            n += 1;
        }
        row.end(n);
    }

    /// Numbers any values of a row. Where they hardly repeat, each is new.
    pub(super) fn of_values(
        &mut self,
        columns: &[u32],
        values: &[f64],
        row: &mut NumberedRow,
        mut new: impl FnMut(f64) -> u32,
    ) {
        self.row += 1;
        self.of_value.resize(1 << SLOT_BITS, Slot::default());
        row.begin(values.len());
        let (mut n, mut n_distinct, mut repeats) = (0, 0, true);
        for (&column, &value) in columns.iter().zip(values) {
            if value == 0.0 {
                continue;
            }
            row.columns[n] = column;
            n += 1;
            repeats &= n_distinct < MOST_SLOTS && n_distinct <= FREE + n as u32 / 4;
            row.numbers[n - 1] = if repeats {
                let (stamp, bits) = (self.row, value.to_bits());
                let slot = self.slot(bits);
                if slot.row != stamp {
                    n_distinct += 1;
                    *slot = Slot { row: stamp, bits, number: new(value) };
                }
                slot.number
            } else {
                new(value)
            };
        }
        row.end(n);
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

    /// What the numbers of a row stand for, and how many distinct values it has.
    fn numbered(fill: impl FnOnce(&mut NumberedRow, &mut dyn FnMut(f64) -> u32)) -> Decoded {
        let (mut row, mut distinct) = (NumberedRow::default(), Vec::new());
        fill(&mut row, &mut |value| {
            distinct.push(value);
            distinct.len() as u32 + 6
        });
        let (columns, numbers) = row.parts();
        let values = numbers.iter().map(|&number| distinct[number as usize - 7]);
        (columns.iter().copied().zip(values).collect(), distinct.len())
    }

    type Decoded = (Vec<(u32, f64)>, usize);

    #[test]
    fn numbers_stand_for_their_values() {
        let mut rng = Rng::new(8, 0);
        let mut codes = Codes::default();
        for (n_values, n_distinct) in [(0, 1), (5, 3), (4000, 7), (4000, 100), (9000, 2000)] {
            let counts: Vec<u16> =
                (0..n_values).map(|_| rng.below(n_distinct) as u16 * 31).collect();
            let values: Vec<f64> = counts.iter().map(|&count| f64::from(count).ln_1p()).collect();
            let columns: Vec<u16> = (0..n_values).collect();
            let wide: Vec<u32> = columns.iter().map(|&column| u32::from(column)).collect();
            let all = wide.iter().copied().zip(values.clone());
            let want: Vec<(u32, f64)> = all.filter(|entry| entry.1 != 0.0).collect();

            let (got, n_counts) = numbered(|row, number| {
                codes.of_counts(&columns, &counts, row, |count| number(f64::from(count).ln_1p()));
            });
            assert_eq!(got, want);
            assert!(n_counts < n_distinct as usize);

            let (got, n_found) = numbered(|row, number| {
                codes.of_values(&wide, &values, row, number);
            });
            assert_eq!(got, want);
            // As many as there are, unless they are too many to be told apart.
            assert!(n_distinct > 100 || n_found == n_counts);
        }
    }

    #[test]
    fn values_that_do_not_repeat_are_all_new() {
        let values: Vec<f64> = (0..5000).map(|i| f64::from(i) - 2500.0).collect();
        let columns: Vec<u32> = (0..5000).collect();
        let (got, n_distinct) = numbered(|row, number| {
            Codes::default().of_values(&columns, &values, row, number);
        });
        assert_eq!(n_distinct, 4999);
        assert!(got.len() == 4999 && got.iter().all(|&(at, value)| value == values[at as usize]));
    }
}
