//! Sorting words of 32 bits by their upper bits.

use super::rank::{SHORT, finish_sort, for_crowded};

/// Sorts words; keeps its buffers between calls.
#[derive(Debug, Default)]
pub struct WordSorter {
    ends: Vec<u32>,
    sorted: Vec<u32>,
}

/// At most 2^16 buckets: their counters stay in the second-level cache.
const MAX_BUCKET_BITS: u32 = 16;

impl WordSorter {
    /// The words, ascending by what is above their lowest `low_bits` bits. The order of words that
    /// differ in these alone is that in which they come.
    ///
    /// The leading bits of `word - least` spread words over about as many buckets as there are
    /// words; a bucket holds a few, which one insertion sort over all buckets finishes. One
    /// with many goes to the standard library's sort before.
    ///
    /// # Panics
    ///
    /// If there are 2^32 words or more, or `low_bits` is 32 or more.
    pub fn sort(&mut self, words: &[u32], low_bits: u32) -> &[u32] {
        assert!(words.len() < u32::MAX as usize, "too many words to sort");
        let last = (1 << low_bits) - 1;
        let (mut least, mut most) = (u32::MAX, 0);
        for &word in words {
            least = least.min(word);
            most = most.max(word);
        }
        // Buckets begin where values do.
        let least = least.min(most) & !last;
        let width = u32::BITS - (most - least).leading_zeros();
        let bits = (usize::BITS - words.len().leading_zeros() + 1).min(MAX_BUCKET_BITS);
        let shift = width.saturating_sub(bits).max(low_bits);
        let bucket = |word: u32| ((word - least) >> shift) as usize;
        let WordSorter { ends, sorted } = self;
        ends.clear();
        ends.resize(bucket(most) + 1, 0);
        for &word in words {
            ends[bucket(word)] += 1;
        }
        let (mut sum, mut crowd) = (0, 0);
        for end in &mut *ends {
            crowd = crowd.max(*end);
            // Where the next one of the bucket goes.
            (*end, sum) = (sum, sum + *end);
        }
        sorted.resize(words.len(), 0);
        for &word in words {
            let end = &mut ends[bucket(word)];
            sorted[*end as usize] = word;
            *end += 1;
        }
        // A bucket of one value is in order.
        if shift > low_bits {
            if crowd as usize > SHORT {
                for_crowded(ends, sorted, |bucket| bucket.sort_by_key(|word| word >> low_bits));
            }
            finish_sort(sorted, |&before, &word| before > word | last);
        }
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;

    #[test]
    fn words_are_sorted_and_ties_stay() {
        let mut rng = Rng::new(3, 0);
        let mut sorter = WordSorter::default();
        for n in [0, 1, 2, 30, 1000, 70_000] {
            for (low_bits, shape) in [(0, 0), (4, 0), (31, 0), (4, 1), (8, 2), (4, 3), (3, 4)] {
                let words: Vec<u32> = (0..n)
                    .map(|i| match shape {
                        0 => rng.below(1 << 32) as u32,
                        1 => 0xffff_fff0 + rng.below(16) as u32,
                        2 => ((rng.below(5) as u32) << 10) | (i % 256),
                        // One far from all others, which share a bucket.
                        3 if i == 0 => u32::MAX,
                        3 => rng.below(1 << 14) as u32,
                        _ => ((rng.below(1 << 20) as u32) << 3) | (i % 8),
                    })
                    .collect();
                let mut want = words.clone();
                want.sort_by_key(|word| word >> low_bits);
                assert_eq!(sorter.sort(&words, low_bits), want, "{n}, {low_bits}, {shape}");
            }
        }
    }
}
