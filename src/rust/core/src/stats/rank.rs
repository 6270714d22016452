//! Wilcoxon rank sums of one gene for all groups at once, exact.
//!
//! Only nonzero values are ranked; the block of zeros enters in closed form,
//! between the negative and the positive values. Ranks are doubled, so that the
//! average rank of a tie is an integer, and every sum is an integer: results do
//! not depend on any order.
//!
//! The steps for one gene: map the values with [`ordered_key`], sort them with
//! their group ids by [`PairSorter::sort`], then [`rank_sums`], then for each
//! comparison [`TwoSamples`] with [`wilcoxon_z`], or [`van_elteren`] over strata.

use std::ops::Range;

use super::dist::Alternative;

/// Maps a value to an integer that sorts as the value does.
///
/// # Numerics
///
/// The order is that of `f64::total_cmp`, but -0 maps to the key of 0 as both
/// are one value to a rank. NaNs sort outside the infinities, by their sign.
#[inline]
#[must_use]
pub fn ordered_key(x: f64) -> u64 {
    // -0 + 0 is 0; every other value is unchanged.
    let bits = (x + 0.0).to_bits();
    let flip = ((bits as i64) >> 63) as u64 | (1 << 63);
    bits ^ flip
}

/// The value of a key: the inverse of [`ordered_key`].
#[inline]
#[must_use]
pub fn key_value(key: u64) -> f64 {
    let flip = ((!key as i64) >> 63) as u64 | (1 << 63);
    f64::from_bits(key ^ flip)
}

/// Key of zero.
pub const ZERO_KEY: u64 = 1 << 63;

/// Below this length insertion sort beats anything else.
pub(super) const SHORT: usize = 24;

/// Sorts keys with their groups; keeps its buffers between calls.
#[derive(Debug, Default)]
pub struct PairSorter {
    starts: Vec<u32>,
    words: Vec<u64>,
    pairs: Vec<(u64, u32)>,
}

/// How values spread over buckets.
#[derive(Debug, Clone, Copy)]
struct Spread {
    min: u64,
    /// Bits of `key - min` below those that name the bucket.
    shift: u32,
    /// Bits that name the bucket.
    bits: u32,
}

impl Spread {
    fn bucket(self, key: u64) -> usize {
        ((key - self.min) >> self.shift) as usize
    }
}

impl PairSorter {
    /// A sorter with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sorts `keys` ascending and moves `groups` along. The order of groups
    /// within equal keys is unspecified.
    ///
    /// Problem: comparison sorts take about 25 ns per value at 10,000 values.
    /// Solution: expression values of one gene spread over few binary orders of
    /// magnitude, so the leading bits of `key - min` spread them over about as
    /// many buckets as there are values, and few bits are left over: mostly enough for
    /// the group, so that a word is all that moves. A bucket holds a few values, which one
    /// insertion sort over all buckets finishes; one with many goes to the standard
    /// library's sort before.
    ///
    /// # Panics
    ///
    /// If the lengths differ or reach 2^32.
    pub fn sort(&mut self, keys: &mut [u64], groups: &mut [u32]) {
        assert_eq!(keys.len(), groups.len(), "one group per key");
        assert!(keys.len() < u32::MAX as usize, "too many values to rank");
        let n = keys.len();
        if n <= SHORT {
            insertion_sort(keys, groups);
            return;
        }
        let (mut min, mut max) = (u64::MAX, 0);
        for &key in keys.iter() {
            min = min.min(key);
            max = max.max(key);
        }
        if min == max {
            return;
        }
        let bits = usize::BITS - n.leading_zeros() + 1;
        let bits = bits.min(MAX_BUCKET_BITS);
        let key_bits = u64::BITS - (max - min).leading_zeros();
        let spread = Spread { min, shift: key_bits.saturating_sub(bits), bits };
        let crowded = self.begin(keys, spread);
        let last_group = groups.iter().fold(0, |all, &group| all | group);
        let group_bits = u32::BITS - last_group.leading_zeros();
        if key_bits + group_bits <= u64::BITS {
            self.sort_words(keys, groups, spread, group_bits, crowded);
        } else {
            self.sort_pairs(keys, groups, spread, crowded);
        }
    }

    /// Sets `starts[b]` to the beginning of bucket b, and says whether one has many values.
    fn begin(&mut self, keys: &[u64], spread: Spread) -> bool {
        self.starts.clear();
        self.starts.resize(1 << spread.bits, 0);
        for &key in keys {
            self.starts[spread.bucket(key)] += 1;
        }
        let (mut sum, mut most) = (0, 0);
        for start in &mut self.starts {
            let count = *start;
            *start = sum;
            sum += count;
            most = most.max(count);
        }
        most as usize > SHORT
    }

    fn sort_words(
        &mut self,
        keys: &mut [u64],
        groups: &mut [u32],
        spread: Spread,
        group_bits: u32,
        crowded: bool,
    ) {
        self.words.resize(keys.len(), 0);
        for (&key, &group) in keys.iter().zip(groups.iter()) {
            let slot = &mut self.starts[spread.bucket(key)];
            // A shift by all bits, of the only group, leaves nothing to shift.
            self.words[*slot as usize] = ((key - spread.min) << group_bits) | u64::from(group);
            *slot += 1;
        }
        if crowded {
            for_crowded(&self.starts, &mut self.words, <[u64]>::sort_unstable);
        }
        let last = (1 << group_bits) - 1;
        // Words of equal keys stay where they are.
        finish_sort(&mut self.words, |&before, &word| before > word | last);
        for ((key, group), &word) in keys.iter_mut().zip(groups).zip(&self.words) {
            *key = (word >> group_bits) + spread.min;
            *group = (word & last) as u32;
        }
    }

    fn sort_pairs(&mut self, keys: &mut [u64], groups: &mut [u32], spread: Spread, crowded: bool) {
        self.pairs.resize(keys.len(), (0, 0));
        for (&key, &group) in keys.iter().zip(groups.iter()) {
            let slot = &mut self.starts[spread.bucket(key)];
            self.pairs[*slot as usize] = (key, group);
            *slot += 1;
        }
        if crowded {
            for_crowded(&self.starts, &mut self.pairs, |bucket| {
                bucket.sort_unstable_by_key(|pair| pair.0);
            });
        }
        finish_sort(&mut self.pairs, |before, pair| before.0 > pair.0);
        for ((key, group), pair) in keys.iter_mut().zip(groups).zip(&self.pairs) {
            (*key, *group) = *pair;
        }
    }
}

/// At most 2^16 buckets: their counters stay in the second-level cache.
const MAX_BUCKET_BITS: u32 = 16;

fn insertion_sort(keys: &mut [u64], groups: &mut [u32]) {
    for i in 1..keys.len() {
        let (key, group) = (keys[i], groups[i]);
        let mut j = i;
        while j > 0 && keys[j - 1] > key {
            keys[j] = keys[j - 1];
            groups[j] = groups[j - 1];
            j -= 1;
        }
        keys[j] = key;
        groups[j] = group;
    }
}

/// Hands the buckets that end at `ends` and have many values to `sort`.
pub(super) fn for_crowded<T>(ends: &[u32], values: &mut [T], mut sort: impl FnMut(&mut [T])) {
    let mut begin = 0;
    for &end in ends {
        let end = end as usize;
        if end - begin > SHORT {
            sort(&mut values[begin..end]);
        }
        begin = end;
    }
}

/// Insertion sort of values that are a few places from where they belong; `above` says
/// whether the first belongs after the second.
#[inline]
pub(super) fn finish_sort<T: Copy>(values: &mut [T], above: impl Fn(&T, &T) -> bool) {
    for i in 1..values.len() {
        let value = values[i];
        let mut j = i;
        while j > 0 && above(&values[j - 1], &value) {
            values[j] = values[j - 1];
            j -= 1;
        }
        values[j] = value;
    }
}

/// Rank sums of one gene.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RankSums {
    /// Twice the sum of the average ranks of each group's cells.
    pub doubled: Vec<u64>,
    /// Values of each group that are not zero.
    pub stored: Vec<u64>,
    /// Sum over all ties of t^3 - t, where t is the number of tied cells.
    pub tie_term: u128,
}

/// Ranks all cells of the gene and sums the ranks by group, into `out`.
///
/// `keys` are the sorted keys of the stored values, `groups` their groups, and
/// `group_sizes` the cells of each group; cells without a stored value are
/// zeros. Stored zeros are allowed and join them.
///
/// # Numerics
///
/// Exact. Ties get their average rank.
///
/// # Panics
///
/// If the lengths differ, if a group is unknown or has more values than cells,
/// or if there are 2^32 cells or more.
pub fn rank_sums(keys: &[u64], groups: &[u32], group_sizes: &[u64], out: &mut RankSums) {
    assert_eq!(keys.len(), groups.len(), "one group per key");
    let n_total: u64 = group_sizes.iter().sum();
    assert!(n_total < 1 << 32, "too many cells to rank");
    let Range { start: n_negative, end: n_not_positive } = zero_span(keys);
    let n_positive = (keys.len() - n_not_positive) as u64;
    let n_zero =
        n_total.checked_sub(n_negative as u64 + n_positive).expect("no more values than cells");
    out.doubled.clear();
    out.doubled.resize(group_sizes.len(), 0);
    out.stored.clear();
    out.stored.resize(group_sizes.len(), 0);
    out.tie_term = tie(n_zero);
    add_ranks(&keys[..n_negative], &groups[..n_negative], 0, out);
    let before = n_negative as u64 + n_zero;
    add_ranks(&keys[n_not_positive..], &groups[n_not_positive..], before, out);
    let zero_rank = 2 * n_negative as u64 + n_zero + 1;
    for ((doubled, &stored), &size) in out.doubled.iter_mut().zip(&out.stored).zip(group_sizes) {
        let zeros = size.checked_sub(stored).expect("no more values than cells in a group");
        *doubled += zeros * zero_rank;
    }
}

/// Where the stored zeros are among sorted keys.
pub(super) fn zero_span(keys: &[u64]) -> Range<usize> {
    keys.partition_point(|&key| key < ZERO_KEY)..keys.partition_point(|&key| key <= ZERO_KEY)
}

/// Adds the doubled ranks of sorted keys that have `before` cells below them, and counts
/// the keys of each group.
///
/// Problem: whether the next key is tied can't be foreseen, and a wrong guess costs more than
/// the sums. Solution: the rank of a tie that takes the places from `begin` up to `end`,
/// doubled, is `begin + end + 1`; one loop upwards adds the beginnings, one downwards the
/// ends, neither with a branch. The kth key of a tie, from 0, adds `3 k (k + 1)` to its term.
fn add_ranks(keys: &[u64], groups: &[u32], before: u64, out: &mut RankSums) {
    if keys.is_empty() {
        return;
    }
    let (mut last, mut begin, mut ties) = (keys[0], 0, 0_u128);
    for (at, (&key, &group)) in (0..).zip(keys.iter().zip(groups)) {
        begin = if key == last { begin } else { at };
        last = key;
        let k: u64 = at - begin;
        ties += u128::from(k * (k + 1));
        out.doubled[group as usize] += 2 * before + 1 + begin;
        out.stored[group as usize] += 1;
    }
    out.tie_term += 3 * ties;
    let (mut last, mut end) = (keys[keys.len() - 1], keys.len() as u64);
    for (at, (&key, &group)) in keys.iter().zip(groups).enumerate().rev() {
        end = if key == last { end } else { at as u64 + 1 };
        last = key;
        out.doubled[group as usize] += end;
    }
}

/// t^3 - t.
pub(super) fn tie(t: u64) -> u128 {
    let t = u128::from(t);
    t * t * t - t
}

/// Twice the Mann-Whitney statistic U of the first sample.
fn doubled_u(doubled_rank_sum: u64, n1: u64) -> i128 {
    i128::from(doubled_rank_sum) - i128::from(n1) * (i128::from(n1) + 1)
}

/// Area under the ROC curve of the first sample against the second: the
/// probability that a cell of the first is above one of the second, ties
/// counting one half. NaN if a sample is empty.
#[must_use]
pub fn auc(doubled_rank_sum: u64, n1: u64, n2: u64) -> f64 {
    let pairs = 2 * i128::from(n1) * i128::from(n2);
    doubled_u(doubled_rank_sum, n1) as f64 / pairs as f64
}

/// Two samples and the ranks of the first among both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TwoSamples {
    /// Cells of the first sample.
    pub n1: u64,
    /// Cells of the second sample.
    pub n2: u64,
    /// Twice the rank sum of the first sample among the cells of both.
    pub doubled_rank_sum: u64,
    /// The tie term of [`RankSums`] for the cells of both.
    pub tie_term: u128,
}

impl TwoSamples {
    /// Whether all cells are tied.
    #[must_use]
    pub fn constant(&self) -> bool {
        let n = u128::from(self.n1 + self.n2);
        self.tie_term == n * n * n - n
    }

    /// [`auc`] of the first sample.
    #[must_use]
    pub fn auc(&self) -> f64 {
        auc(self.doubled_rank_sum, self.n1, self.n2)
    }

    /// Twice the deviation of U from its mean.
    fn doubled_deviation(&self) -> i128 {
        let product = i128::from(self.n1) * i128::from(self.n2);
        doubled_u(self.doubled_rank_sum, self.n1) - product
    }

    /// Variance of U.
    fn variance(&self, tie_correct: bool) -> f64 {
        let n = u128::from(self.n1) + u128::from(self.n2);
        let product = u128::from(self.n1) * u128::from(self.n2);
        if product == 0 {
            return 0.0;
        }
        let spread = if tie_correct {
            // (n + 1) - tie_term / (n (n - 1)), as one fraction.
            let pairs = n * (n - 1);
            (pairs * (n + 1) - self.tie_term) as f64 / pairs as f64
        } else {
            (n + 1) as f64
        };
        product as f64 / 12.0 * spread
    }
}

/// The normal deviate of the rank sum test.
///
/// # Numerics
///
/// With both corrections as `stats::wilcox.test(exact = FALSE)` of R: the
/// deviation of U from its mean, moved by 1/2 towards zero (but not past it; for
/// a one-sided alternative by 1/2 against it), over its standard deviation under
/// ties. With neither as scanpy. Everything up to one division and one square
/// root is exact or rounded once. Zero if all cells are tied or a sample is empty.
#[must_use]
pub fn wilcoxon_z(
    samples: &TwoSamples,
    continuity: bool,
    tie_correct: bool,
    alternative: Alternative,
) -> f64 {
    let doubled = samples.doubled_deviation();
    let doubled = match alternative {
        _ if !continuity => doubled,
        Alternative::TwoSided => doubled - doubled.signum(),
        Alternative::Greater => doubled - 1,
        Alternative::Less => doubled + 1,
    };
    deviate(doubled as f64 / 2.0, samples.variance(tie_correct))
}

/// The normal deviate of the stratified rank sum test of van Elteren (1960):
/// ranks and ties within each stratum, deviations weighted by 1 / (n + 1).
///
/// # Numerics
///
/// One stratum is [`wilcoxon_z`] to rounding. The correction for continuity is applied
/// once, to the sum of the weighted deviations: half of the smallest step that
/// this sum can make.
#[must_use]
pub fn van_elteren(
    strata: &[TwoSamples],
    continuity: bool,
    tie_correct: bool,
    alternative: Alternative,
) -> f64 {
    let (mut deviation, mut variance, mut step) = (0.0, 0.0, f64::INFINITY);
    for samples in strata {
        let weight = 1.0 / (samples.n1 + samples.n2 + 1) as f64;
        deviation += weight * (samples.doubled_deviation() as f64 / 2.0);
        variance += weight * weight * samples.variance(tie_correct);
        step = step.min(weight);
    }
    let deviation = match alternative {
        _ if !continuity => deviation,
        Alternative::TwoSided => deviation - (step / 2.0).min(deviation.abs()).copysign(deviation),
        Alternative::Greater => deviation - step / 2.0,
        Alternative::Less => deviation + step / 2.0,
    };
    deviate(deviation, variance)
}

/// Zero without a deviation or without a spread.
fn deviate(deviation: f64, variance: f64) -> f64 {
    if deviation == 0.0 || variance <= 0.0 { 0.0 } else { deviation / variance.sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;

    /// Average ranks of all values by counting, zeros written out.
    fn naive(values: &[f64], groups: &[usize], n_groups: usize) -> RankSums {
        let mut out =
            RankSums { doubled: vec![0; n_groups], stored: vec![0; n_groups], tie_term: 0 };
        let mut seen: Vec<f64> = Vec::new();
        for (&x, &group) in values.iter().zip(groups) {
            let below = values.iter().filter(|&&y| y < x).count() as u64;
            let tied = values.iter().filter(|&&y| y == x).count() as u64;
            out.doubled[group] += 2 * below + tied + 1;
            out.stored[group] += u64::from(x != 0.0);
            if !seen.contains(&x) {
                seen.push(x);
                out.tie_term += u128::from(tied * tied * tied - tied);
            }
        }
        out
    }

    /// The route a caller takes: nonzeros only, sorted.
    fn sparse(values: &[f64], groups: &[usize], n_groups: usize) -> RankSums {
        let mut sizes = vec![0; n_groups];
        for &g in groups {
            sizes[g] += 1;
        }
        let stored = || (0..values.len()).filter(|&i| values[i] != 0.0);
        let mut keys: Vec<u64> = stored().map(|i| ordered_key(values[i])).collect();
        let mut ids: Vec<u32> = stored().map(|i| groups[i] as u32).collect();
        PairSorter::new().sort(&mut keys, &mut ids);
        let mut out = RankSums::default();
        rank_sums(&keys, &ids, &sizes, &mut out);
        out
    }

    #[test]
    fn keys_order_as_values() {
        let values = [
            f64::NEG_INFINITY,
            -1e300,
            -1.0,
            -f64::MIN_POSITIVE,
            -5e-324,
            0.0,
            5e-324,
            1.0,
            1.0 + f64::EPSILON,
            f64::INFINITY,
        ];
        for pair in values.windows(2) {
            assert!(ordered_key(pair[0]) < ordered_key(pair[1]), "{pair:?}");
        }
        for x in values {
            assert_eq!(key_value(ordered_key(x)), x);
        }
        assert_eq!(ordered_key(-0.0), ordered_key(0.0));
        assert_eq!(ordered_key(0.0), ZERO_KEY);
    }

    #[test]
    fn sorter_agrees_with_standard_sort() {
        let mut rng = Rng::new(1, 0);
        let mut sorter = PairSorter::new();
        for n in [0, 1, 2, 23, 24, 25, 100, 1000, 40_000] {
            for shape in 0..6 {
                let values: Vec<f64> = (0..n)
                    .map(|i| match shape {
                        0 => rng.uniform(),
                        1 => rng.uniform() - 0.5,
                        2 => (rng.below(4) + 1) as f64,
                        3 => 1.0,
                        4 => (rng.uniform() * 1400.0 - 700.0).exp2(),
                        // One outlier, all others in the lowest bucket.
                        _ if i == 0 => 1e300,
                        _ => 1.0 + rng.uniform() * 1e-9,
                    })
                    .collect();
                let mut keys: Vec<u64> = values.iter().map(|&x| ordered_key(x)).collect();
                let mut groups: Vec<u32> = (0..n as u32).collect();
                let mut want: Vec<(u64, u32)> =
                    keys.iter().copied().zip(groups.iter().copied()).collect();
                want.sort_unstable();
                sorter.sort(&mut keys, &mut groups);
                assert!(keys.iter().eq(want.iter().map(|pair| &pair.0)));
                let mut got: Vec<(u64, u32)> = keys.into_iter().zip(groups).collect();
                got.sort_unstable();
                assert_eq!(got, want, "n {n}, shape {shape}");
            }
        }
    }

    #[test]
    fn rank_sums_agree_with_counting() {
        let mut rng = Rng::new(2, 0);
        for n in [1, 2, 10, 300] {
            for n_groups in [1, 2, 5] {
                for levels in [1, 2, 9, 1000] {
                    let values: Vec<f64> = (0..n)
                        .map(|_| (rng.below(levels + 1) as f64 - (levels / 2) as f64) / 8.0)
                        .collect();
                    let groups: Vec<usize> = (0..n).map(|_| rng.below(n_groups) as usize).collect();
                    let want = naive(&values, &groups, n_groups as usize);
                    assert_eq!(sparse(&values, &groups, n_groups as usize), want);
                    // All ranks together are those of 1..=n.
                    let all: u64 = want.doubled.iter().sum();
                    assert_eq!(all, n * (n + 1));
                }
            }
        }
    }

    #[test]
    fn stored_zeros_join_the_others() {
        let mut keys = [1.0, 0.0, -2.0, -0.0].map(ordered_key);
        let mut groups = [0, 1, 1, 0];
        PairSorter::new().sort(&mut keys, &mut groups);
        let mut out = RankSums::default();
        rank_sums(&keys, &groups, &[3, 4], &mut out);
        let values = [1.0, 0.0, 0.0, 0.0, -2.0, 0.0, 0.0];
        assert_eq!(out, naive(&values, &[0, 0, 0, 1, 1, 1, 1], 2));
    }

    fn two_sided(
        doubled_rank_sum: u64,
        n1: u64,
        n2: u64,
        tie_term: u128,
        continuity: bool,
        tie_correct: bool,
    ) -> f64 {
        let samples = TwoSamples { n1, n2, doubled_rank_sum, tie_term };
        wilcoxon_z(&samples, continuity, tie_correct, Alternative::TwoSided)
    }

    #[test]
    fn millions_of_ties_do_not_overflow() {
        let n = 1_000_000;
        let keys = vec![ordered_key(1.0); n];
        let groups: Vec<u32> = (0..n as u32).map(|i| i % 2).collect();
        let mut out = RankSums::default();
        // 10^6 ties at one and 4 * 10^9 zeros.
        rank_sums(&keys, &groups, &[500_000, 4_000_500_000], &mut out);
        let (zeros, ones) = (4_000_000_000_u128, 1_000_000_u128);
        assert_eq!(out.tie_term, zeros.pow(3) - zeros + ones.pow(3) - ones);
        let rank = 2 * 4_000_000_000 + 1_000_000 + 1;
        assert_eq!(out.doubled[0], 500_000 * rank);
        assert_eq!(out.doubled[1], 500_000 * rank + 4_000_000_000 * 4_000_000_001);
        let z = two_sided(out.doubled[0], 500_000, 4_000_500_000, out.tie_term, true, true);
        // Two binary samples: z^2 is the chi-square of the 2 x 2 table times
        // (n - 1) / n, the correction of 1/2 being 1e-16 of the deviation.
        let (ones, zeros) = (5e5_f64, 4e9_f64);
        let n = 2.0 * ones + zeros;
        let chi = n * (ones * zeros).powi(2) / (ones * (ones + zeros) * 2.0 * ones * zeros);
        let want = (chi * (n - 1.0) / n).sqrt();
        assert!((z - want).abs() < 1e-12 * want, "{z} against {want}");
    }

    /// Samples of the R oracle: x is group 0, y group 1.
    const X: [f64; 8] = [0.0, 1.1, 2.0, 2.0, 0.0, 3.5, -1.0, 4.0];
    const Y: [f64; 11] = [0.0, 0.0, 0.0, 1.1, 0.5, 2.0, 0.0, -1.0, -2.5, 0.0, 0.7];

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-15 * want.abs().max(1e-300) * 4.0, "{got} against {want}");
    }

    // R 4.2.2: r <- rank(c(x, y)); t <- table(r); n1 <- length(x); n2 <- length(y)
    // d <- sum(r[1:n1]) - n1 * (n1 + 1) / 2 - n1 * n2 / 2
    // s <- sqrt(n1 * n2 / 12 * (n1 + n2 + 1 - sum(t^3 - t) / ((n1 + n2) * (n1 + n2 - 1))))
    // z is (d - sign(d) / 2) / s, d / s and d / sqrt(n1 * n2 * (n1 + n2 + 1) / 12);
    // 2 * pnorm(-abs(z)) of the first two is wilcox.test(x, y, exact = FALSE)$p.value,
    // 0.11620543907299545 and 0.10666660039183978.
    #[test]
    fn agrees_with_wilcox_test() {
        let values: Vec<f64> = X.into_iter().chain(Y).collect();
        let groups: Vec<usize> = (0..values.len()).map(|i| usize::from(i >= X.len())).collect();
        let sums = sparse(&values, &groups, 2);
        assert_eq!(sums.doubled, [198, 182]);
        assert_eq!(sums.tie_term, 372);
        let z = |group: usize, continuity, tie_correct| {
            let (n1, n2) = if group == 0 { (8, 11) } else { (11, 8) };
            let doubled = sums.doubled[group];
            two_sided(doubled, n1, n2, sums.tie_term, continuity, tie_correct)
        };
        close(z(0, true, true), 1.5709018919903077);
        close(z(0, false, true), 1.6133586998819376);
        close(z(0, false, false), 1.5688733653050639);
        close(z(1, true, true), -1.5709018919903077);
        close(z(1, false, true), -1.6133586998819376);
        // wilcox.test(x, y)$statistic is 63, of 88 pairs.
        close(auc(sums.doubled[0], 8, 11), 63.0 / 88.0);
        close(auc(sums.doubled[1], 11, 8), 25.0 / 88.0);
    }

    // R 4.2.2: qnorm of wilcox.test(x, y, exact = FALSE, alternative)$p.value; for
    // the strata d, s as above and w = 1 / (n1 + n2 + 1) of each:
    // (sum(w * d) - c) / sqrt(sum((w * s)^2)) with c = 0, min(w) / 2, -min(w) / 2;
    // the second stratum is c(1, 5, 2, 2) against c(0, 2, 3, 3, 9).
    #[test]
    fn one_sided_and_stratified() {
        let (two, greater, less) = (Alternative::TwoSided, Alternative::Greater, Alternative::Less);
        let first = TwoSamples { n1: 8, n2: 11, doubled_rank_sum: 198, tie_term: 372 };
        close(wilcoxon_z(&first, true, true, greater), 1.570_901_891_990_307_3);
        close(wilcoxon_z(&first, true, true, less), 1.655_815_507_773_567_5);
        let second = TwoSamples { n1: 4, n2: 5, doubled_rank_sum: 36, tie_term: 30 };
        let strata = [first, second];
        close(van_elteren(&strata, false, true, two), 1.053_887_137_319_422_1);
        close(van_elteren(&strata, true, true, two), 1.018_757_566_075_441_3);
        close(van_elteren(&strata, true, true, greater), 1.018_757_566_075_441_3);
        close(van_elteren(&strata, true, true, less), 1.089_016_708_563_402_8);
        for alternative in [two, greater, less] {
            for samples in strata {
                for (continuity, tie_correct) in [(true, true), (false, true), (false, false)] {
                    let plain = wilcoxon_z(&samples, continuity, tie_correct, alternative);
                    let one = van_elteren(&[samples], continuity, tie_correct, alternative);
                    assert!((plain - one).abs() < 4e-16 * plain.abs(), "{plain} and {one}");
                }
            }
        }
        // A stratum without any difference, and one that is half a step off.
        let tied = TwoSamples { n1: 2, n2: 3, doubled_rank_sum: 12, tie_term: 120 };
        assert!(tied.constant() && !first.constant());
        assert_eq!(van_elteren(&[tied, tied], true, true, less), 0.0);
        let half = TwoSamples { n1: 3, n2: 3, doubled_rank_sum: 22, tie_term: 0 };
        assert_eq!(van_elteren(&[half], true, true, two), 0.0);
    }

    // R 4.2.2: wilcox.test(c(1, 4, 6), c(2, 3, 5), exact = FALSE, correct = )
    // has p 1 with and 0.82725934656271138 without correction;
    // wilcox.test(c(1, 4), c(2, 3), exact = FALSE) has p 1 both ways.
    #[test]
    fn continuity_never_crosses_zero() {
        assert_eq!(two_sided(22, 3, 3, 0, true, true), 0.0);
        close(two_sided(22, 3, 3, 0, false, true), 0.21821789023599239);
        assert_eq!(two_sided(20, 3, 3, 0, true, true), 0.0);
        assert_eq!(two_sided(10, 2, 2, 0, true, true), 0.0);
        assert_eq!(two_sided(10, 2, 2, 0, false, true), 0.0);
    }

    #[test]
    fn constant_genes_and_empty_groups() {
        let mut out = RankSums::default();
        rank_sums(&[], &[], &[5, 7, 0], &mut out);
        assert_eq!(out.doubled, [5 * 13, 7 * 13, 0]);
        assert_eq!(two_sided(out.doubled[0], 5, 7, out.tie_term, true, true), 0.0);
        assert_eq!(two_sided(out.doubled[0], 5, 7, out.tie_term, false, false), 0.0);
        assert_eq!(auc(out.doubled[0], 5, 7), 0.5);
        assert!(auc(out.doubled[2], 0, 12).is_nan());
        assert_eq!(two_sided(0, 0, 12, out.tie_term, true, true), 0.0);
    }
}
