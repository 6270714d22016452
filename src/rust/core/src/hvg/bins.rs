//! Bins of genes by their mean, as pandas cuts them.

/// The bin of each value: `n_bins` of equal width, closed on the right; the
/// first edge lies 0.1 % of the width of all below the least value.
pub(super) fn equal_width(values: &[f64], n_bins: usize) -> Vec<usize> {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (from, to) = if least < largest {
        (least, largest)
    } else {
        let margin = if least == 0.0 { 0.001 } else { 0.001 * least.abs() };
        (least - margin, largest + margin)
    };
    let step = (to - from) / n_bins as f64;
    let mut edges: Vec<f64> = (0..=n_bins).map(|i| i as f64 * step + from).collect();
    edges[n_bins] = to;
    if least < largest {
        edges[0] -= (to - from) * 0.001;
    }
    values.iter().map(|&x| edges.partition_point(|&edge| edge < x).clamp(1, n_bins) - 1).collect()
}

/// Bins between the percentiles 10, 15, 20 ... 100, one below and one above.
pub(super) const PERCENTILE_BINS: usize = 20;

/// The bin of each value, closed on the right. Bins between equal percentiles
/// stay empty.
pub(super) fn percentiles(values: &[f64]) -> Vec<usize> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let edges: Vec<f64> =
        (2..=PERCENTILE_BINS).map(|i| quantile(&sorted, 5.0 * i as f64 / 100.0)).collect();
    values.iter().map(|&x| edges.partition_point(|&edge| edge < x)).collect()
}

/// Linear interpolation between sorted values, rounded as numpy does.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = last as f64 * q;
    let below = at.floor();
    let share = at - below;
    let (low, high) = (sorted[below as usize], sorted[(below as usize + 1).min(last)]);
    let step = high - low;
    if share < 0.5 { low + step * share } else { high - step * (1.0 - share) }
}

/// The median; reorders the values. NaN without any.
pub(super) fn median(values: &mut [f64]) -> f64 {
    let n = values.len();
    if n == 0 {
        return f64::NAN;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_those_of_pandas() {
        // pandas 2: pd.cut([0, 1, 2, 2.5, 3, 4], bins=4).codes
        assert_eq!(equal_width(&[0.0, 1.0, 2.0, 2.5, 3.0, 4.0], 4), [0, 0, 1, 2, 2, 3]);
        // pd.cut([5, 5], bins=3).codes
        assert_eq!(equal_width(&[5.0, 5.0], 3), [1, 1]);
        // pd.cut([0, 0], bins=2).codes
        assert_eq!(equal_width(&[0.0, 0.0], 2), [0, 0]);
        assert_eq!(equal_width(&[], 2), Vec::<usize>::new());
    }

    #[test]
    fn percentiles_are_those_of_numpy() {
        // np.percentile([1, 2, 4, 8, 16], [10, 35, 50, 90, 100])
        let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
        let got: Vec<f64> =
            [0.10, 0.35, 0.5, 0.9, 1.0].iter().map(|&q| quantile(&sorted, q)).collect();
        let want = [1.4, 2.8, 4.0, 12.8, 16.0];
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-14), "{got:?}");
        // A value on an edge belongs below it: np.arange(21) has its percentiles at
        // 2, 3, 4 ...
        let values: Vec<f64> = (0..21).map(f64::from).collect();
        let want: Vec<usize> = (0..21_usize).map(|i| i.saturating_sub(2)).collect();
        assert_eq!(percentiles(&values), want);
    }

    #[test]
    fn equal_percentiles_make_empty_bins() {
        let mut values = vec![0.0; 50];
        values.extend((1..=50).map(f64::from));
        let bins = percentiles(&values);
        assert!(bins[..50].iter().all(|&bin| bin == 0));
        assert_eq!(bins[99], PERCENTILE_BINS - 2);
        assert!(bins.is_sorted());
        assert!(percentiles(&[]).is_empty());
    }

    #[test]
    fn medians() {
        assert!(median(&mut []).is_nan());
        assert_eq!(median(&mut [3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 9.0]).to_bits(), 3.0_f64.to_bits());
    }
}
