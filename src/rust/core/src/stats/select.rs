//! Sums of the largest values of a row.

/// Counts below this go through a histogram.
const HISTOGRAM: usize = 256;

/// 2^52: adding it to a double in [0, 2^32) leaves the nearest integer in the
/// low bits.
const MAGIC: f64 = (1_u64 << 52) as f64;

/// Sums of the k largest values of a row, for several k; keeps its buffers
/// between rows.
#[derive(Debug)]
pub struct TopKSums {
    histogram: Box<[[u32; HISTOGRAM]; 2]>,
    rest: Vec<f64>,
}

impl Default for TopKSums {
    fn default() -> Self {
        Self::new()
    }
}

impl TopKSums {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self { histogram: Box::new([[0; HISTOGRAM]; 2]), rest: Vec::new() }
    }

    /// Writes the sum of the `ks[i]` largest of `values` to `sums[i]`; of all
    /// of them where there are fewer.
    ///
    /// The values are those a sparse row stores; zeros add nothing, so a row of
    /// nonnegative values need not store them.
    ///
    /// # Numerics
    ///
    /// Exact for counts (sums below 2^53). Other values are added from the
    /// largest down. A NaN with a positive sign counts as largest.
    ///
    /// # Panics
    ///
    /// If `ks` is not ascending or the lengths differ.
    pub fn sums<T: Copy + Into<f64>>(&mut self, values: &[T], ks: &[usize], sums: &mut [f64]) {
        assert_eq!(ks.len(), sums.len(), "one sum per k");
        assert!(ks.is_sorted(), "ks must ascend");
        self.histogram.iter_mut().for_each(|half| half.fill(0));
        self.rest.clear();
        // Problem: most counts are 1, and an increment waits for the one before
        // it in the same cell. Solution: two histograms take turns.
        let [even, odd] = &mut *self.histogram;
        let mut pairs = values.chunks_exact(2);
        for pair in &mut pairs {
            count(pair[0].into(), even, &mut self.rest);
            count(pair[1].into(), odd, &mut self.rest);
        }
        for &x in pairs.remainder() {
            count(x.into(), even, &mut self.rest);
        }

        let above = |x: &f64| *x >= HISTOGRAM as f64;
        let all_counts = self.rest.iter().all(above);
        if !all_counts {
            self.rest.clear();
            self.rest.extend(values.iter().map(|&x| x.into()));
        }
        keep_largest(&mut self.rest, ks.last().copied().unwrap_or(0));

        let mut walk = Walk::new(ks, sums);
        for &x in &self.rest {
            walk.take(x, 1);
        }
        if all_counts {
            for value in (1..HISTOGRAM).rev() {
                let times = even[value] + odd[value];
                walk.take(value as f64, times as usize);
            }
        }
        walk.finish();
    }
}

/// Counts a small integer; puts anything else aside.
#[inline]
#[allow(clippy::float_cmp, reason = "an integer is one exactly or not at all")]
fn count(x: f64, histogram: &mut [u32; HISTOGRAM], rest: &mut Vec<f64>) {
    let shifted = x + MAGIC;
    // Wraps far above the histogram where x is negative or NaN.
    let index = shifted.to_bits().wrapping_sub(MAGIC.to_bits());
    if index < HISTOGRAM as u64 && shifted - MAGIC == x {
        histogram[index as usize] += 1;
    } else {
        rest.push(x);
    }
}

/// Leaves the `k` largest values, descending.
fn keep_largest(values: &mut Vec<f64>, k: usize) {
    if k < values.len() {
        values.select_nth_unstable_by(k, |a, b| b.total_cmp(a));
        values.truncate(k);
    }
    values.sort_unstable_by(|a, b| b.total_cmp(a));
}

/// Walks down the sorted values and notes the sum at each k.
struct Walk<'a> {
    ks: &'a [usize],
    sums: &'a mut [f64],
    next: usize,
    taken: usize,
    sum: f64,
}

impl<'a> Walk<'a> {
    fn new(ks: &'a [usize], sums: &'a mut [f64]) -> Self {
        let next = ks.partition_point(|&k| k == 0);
        sums[..next].fill(0.0);
        Self { ks, sums, next, taken: 0, sum: 0.0 }
    }

    #[inline]
    fn take(&mut self, value: f64, times: usize) {
        while self.next < self.ks.len() && self.ks[self.next] <= self.taken + times {
            let part = self.ks[self.next] - self.taken;
            self.sums[self.next] = self.sum + value * part as f64;
            self.next += 1;
        }
        self.sum += value * times as f64;
        self.taken += times;
    }

    fn finish(self) {
        self.sums[self.next..].fill(self.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;

    const KS: [usize; 5] = [1, 50, 100, 200, 500];

    fn naive(values: &[f64], ks: &[usize]) -> Vec<f64> {
        let mut sorted = values.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        ks.iter().map(|&k| sorted.iter().take(k).fold(0.0, |sum, x| sum + x)).collect()
    }

    fn check(top: &mut TopKSums, values: &[f64], ks: &[usize]) {
        let mut sums = vec![f64::NAN; ks.len()];
        top.sums(values, ks, &mut sums);
        assert_eq!(sums, naive(values, ks), "{} values", values.len());
    }

    #[test]
    fn agrees_with_a_full_sort() {
        let mut rng = Rng::new(1, 0);
        let mut top = TopKSums::new();
        for n in [0, 1, 2, 49, 50, 51, 501, 3000] {
            for shape in 0..5 {
                let values: Vec<f64> = (0..n)
                    .map(|_| match shape {
                        0 => (1 + rng.below(5)) as f64,
                        // Counts on both sides of the histogram's end.
                        1 => (1 + rng.below(600)) as f64,
                        2 => (1 + rng.below(1 << 40)) as f64,
                        3 => 10.0 * rng.uniform(),
                        _ => 600.0 * rng.uniform() - 100.0,
                    })
                    .collect();
                check(&mut top, &values, &KS);
            }
        }
    }

    #[test]
    fn one_odd_value_among_counts() {
        let mut top = TopKSums::new();
        let mut values: Vec<f64> = (0..600).map(|i| f64::from(i % 7)).collect();
        for odd in [0.5, 255.5, 256.5, -1.0, -f64::from(i32::MAX) + 9.0, 1e300, -0.0] {
            values[300] = odd;
            check(&mut top, &values, &KS);
        }
    }

    #[test]
    fn takes_any_storage_and_any_k() {
        let mut top = TopKSums::new();
        let mut sums = [f64::NAN; 4];
        top.sums(&[1_u16, 7, 300], &[0, 0, 2, 9], &mut sums);
        assert_eq!(sums, [0.0, 0.0, 307.0, 308.0]);
        top.sums(&[1.5_f32, 7.25], &[0, 1, 1, 2], &mut sums);
        assert_eq!(sums, [0.0, 7.25, 7.25, 8.75]);
        top.sums::<f64>(&[], &[0, 1, 2, 3], &mut sums);
        assert_eq!(sums, [0.0; 4]);
        top.sums(&[1.0, 2.0], &[], &mut []);
    }

    #[test]
    fn nan_is_not_hidden() {
        let mut sums = [0.0];
        TopKSums::new().sums(&[1.0, f64::NAN, 3.0], &[2], &mut sums);
        assert!(sums[0].is_nan());
    }
}
