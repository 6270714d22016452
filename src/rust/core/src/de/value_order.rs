//! One order of the distinct values of all pieces.
//!
//! Problem: the values of a gene have to be sorted with their groups, and twelve bytes of each
//! are moved again and again. Solution: values repeat, so that all distinct ones are few enough to
//! be sorted once; each gets a word of 32 bits that sorts as it does, with its group in the
//! lowest bits.

use std::sync::{Mutex, PoisonError};

use rayon::slice::ParallelSliceMut;

use super::dictionary::Dictionary;
use crate::ctx::Ctx;
use crate::error::Result;
use crate::stats::rank::ZERO_KEY;

/// Bytes of a distinct value while they are sorted.
const SORTED_BYTES: u64 = 20;

/// How the words of values are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct ValueOrder {
    group_bits: u32,
    /// The place of zero among the values.
    zero: u64,
}

impl ValueOrder {
    /// Gives each value of the dictionaries its word as tag; `None`, and nothing changes, if that
    /// takes more than `most_bytes` for a while ([`SORTED_BYTES`]) or words are too short.
    ///
    /// # Errors
    /// On interruption.
    pub(super) fn of(
        dictionaries: &mut [&mut Dictionary],
        n_groups: usize,
        ctx: &Ctx,
        most_bytes: u64,
    ) -> Result<Option<Self>> {
        let n_values: usize = dictionaries.iter().map(|dictionary| dictionary.len()).sum();
        let group_bits = usize::BITS - n_groups.saturating_sub(1).leading_zeros();
        // A place for zero, whether it is among them or not.
        let room = (1_u64 << u32::BITS.saturating_sub(group_bits)) - 1;
        if n_values as u64 > room.min(most_bytes / SORTED_BYTES) {
            return Ok(None);
        }
        let values = sorted(dictionaries, ctx)?;
        let zeros = values.partition_point(|value| value.0 < ZERO_KEY)
            ..values.partition_point(|value| value.0 <= ZERO_KEY);
        let (negative, positive) = (&values[..zeros.start], &values[zeros.end..]);
        // Room in proportion to the values, and each side has as many places as values.
        let n_both = (negative.len() + positive.len()) as u64;
        let free = room - n_both;
        let below = (free as f64 * (negative.len() as f64 / n_both.max(1) as f64)) as u64;
        let zero = below + negative.len() as u64;
        let mut places = vec![zero as u32; n_values];
        spread(negative, 0, below, &mut places);
        spread(positive, zero + 1, free - below, &mut places);
        let mut places = places.into_iter();
        for dictionary in dictionaries {
            let mut word =
                |group| places.next().map_or(group, |place| (place << group_bits) | group);
            dictionary.set_tags(group_bits, &mut word);
        }
        Ok(Some(ValueOrder { group_bits, zero }))
    }

    /// Bits of a word below those of the value: the group.
    pub(super) fn group_bits(self) -> u32 {
        self.group_bits
    }

    /// The group of a word.
    #[inline]
    pub(super) fn group(self, word: u32) -> u32 {
        word & ((1 << self.group_bits) - 1)
    }

    /// A key that sorts as the value of a word, and is that of zero where the value is.
    #[inline]
    pub(super) fn key(self, word: u32) -> u64 {
        u64::from(word >> self.group_bits) + (ZERO_KEY - self.zero)
    }
}

/// The keys of all values, ascending, each with its number over all dictionaries.
fn sorted(dictionaries: &[&mut Dictionary], ctx: &Ctx) -> Result<Vec<(u64, u32)>> {
    let keys = dictionaries.iter().flat_map(|dictionary| dictionary.keys());
    let values = Mutex::new(keys.copied().zip(0..).collect::<Vec<_>>());
    // One task, which splits over the threads by itself.
    ctx.parallel(
        "ordering values",
        1,
        || (),
        |_, ()| {
            values.lock().unwrap_or_else(PoisonError::into_inner).par_sort_unstable();
            Ok(())
        },
    )?;
    Ok(values.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Gives sorted values places from `first` on: equal ones the same, others as far apart as their
/// keys are, so that those of a gene spread; `free` places more than there are values.
fn spread(values: &[(u64, u32)], first: u64, free: u64, places: &mut [u32]) {
    let (Some(&(least, _)), Some(&(most, _))) = (values.first(), values.last()) else { return };
    let scale = free as f64 / (most - least).max(1) as f64;
    let (mut last, mut next) = (least, first);
    for &(key, at) in values {
        if key != last {
            last = key;
            let apart = (((key - least) as f64 * scale) as u64).min(free);
            next = (next + 1).max(first + apart);
        }
        places[at as usize] = next as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Silent;
    use crate::stats::random::Rng;
    use crate::stats::rank::ordered_key;

    fn ctx() -> Ctx<'static> {
        Ctx::new(2, 1 << 20, std::env::temp_dir(), &Silent)
    }

    #[test]
    fn words_sort_as_values_do() {
        let (mut rng, ctx) = (Rng::new(5, 0), ctx());
        for (n_groups, lowest) in [(1, 1.0), (3, -4.0), (300, 0.0), (5, -1e9)] {
            let mut dictionary = |n: usize| {
                let mut key = |i: usize| {
                    let value = rng.below(400) as f64 / 8.0 + lowest;
                    // Some next to each other.
                    ordered_key(value) + i as u64 % 2
                };
                let keys = (0..n).map(&mut key).collect();
                Dictionary::new(keys, (0..n as u32).map(|i| i % n_groups).collect())
            };
            let mut dictionaries = [400, 0, 1, 700].map(&mut dictionary);
            let groups: Vec<Vec<u32>> =
                dictionaries.iter().map(|dictionary| dictionary.tags().to_vec()).collect();
            let mut all: Vec<&mut Dictionary> = dictionaries.iter_mut().collect();
            let order =
                ValueOrder::of(&mut all, n_groups as usize, &ctx, 1 << 20).unwrap().unwrap();
            let mut pairs = vec![(ZERO_KEY, ZERO_KEY)];
            for (dictionary, groups) in dictionaries.iter().zip(groups) {
                let tags = dictionary.tags().iter().zip(groups);
                for (&key, (&tag, group)) in dictionary.keys().iter().zip(tags) {
                    assert_eq!((order.group(tag), dictionary.group(tag)), (group, group));
                    pairs.push((key, order.key(tag)));
                }
            }
            pairs.sort_unstable();
            for two in pairs.windows(2) {
                assert_eq!(two[0].0.cmp(&two[1].0), two[0].1.cmp(&two[1].1));
            }
        }
    }

    #[test]
    fn what_does_not_fit_has_no_order() {
        let keys: Vec<u64> = (0..1000).map(|i| ordered_key(f64::from(i))).collect();
        let mut dictionary = Dictionary::new(keys, vec![0; 1000]);
        let ctx = ctx();
        let mut fits = |n_groups, bytes| {
            ValueOrder::of(&mut [&mut dictionary], n_groups, &ctx, bytes).unwrap().is_some()
        };
        // Ten bits are enough for a thousand values and zero.
        assert!(fits(1 << 22, 1 << 20));
        assert!(!fits(1 << 23, 1 << 20));
        assert!(!fits(1, 19_999));
        assert!(!fits(1 << 32, 1 << 20));
        assert!(ValueOrder::of(&mut [], 1, &ctx, 0).unwrap().is_some());
    }
}
