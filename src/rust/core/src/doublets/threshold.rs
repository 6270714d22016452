//! Where two modes of a sample meet.
//!
//! The minimum method of Prewitt & Mendelsohn (1966): the histogram is smoothed until it
//! has two maxima; the lowest point between them is the threshold. Step by step as
//! `skimage.filters.threshold_minimum()` of scikit-image 0.26, down to its rounding.

/// Bins of the histogram.
const BINS: usize = 256;

/// Smoothing ends without a result after so many rounds.
const ROUNDS: usize = 10_000;

/// The threshold between the two modes of `values`, or `None` where smoothing leaves one
/// mode or too many.
#[must_use]
pub fn threshold_minimum(values: &[f64]) -> Option<f64> {
    let (counts, edges) = histogram(values)?;
    let mut smooth: Vec<f32> = counts.iter().map(|&n| n as f32).collect();
    let mut maxima = Vec::new();
    for round in 0..ROUNDS {
        smooth = smoothed(&smooth);
        maxima = local_maxima(&smooth);
        if maxima.len() < 3 {
            break;
        }
        if round + 1 == ROUNDS {
            return None;
        }
    }
    let &[first, second] = maxima.as_slice() else { return None };
    let mut lowest = first;
    for at in first..=second {
        if smooth[at] < smooth[lowest] {
            lowest = at;
        }
    }
    Some(f64::midpoint(edges[lowest], edges[lowest + 1]))
}

/// Counts in bins of equal width from the least value to the largest, and the edges, as
/// `numpy.histogram()` has them.
fn histogram(values: &[f64]) -> Option<(Vec<u32>, Vec<f64>)> {
    if values.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let mut least = values.iter().copied().reduce(f64::min)?;
    let mut largest = values.iter().copied().reduce(f64::max)?;
    if least >= largest {
        (least, largest) = (least - 0.5, largest + 0.5);
    }
    let step = (largest - least) / BINS as f64;
    let mut edges: Vec<f64> = (0..=BINS).map(|i| i as f64 * step + least).collect();
    edges[BINS] = largest;
    let mut counts = vec![0; BINS];
    for &x in values {
        let mut bin = (((x - least) / (largest - least)) * BINS as f64) as usize;
        bin = bin.min(BINS - 1);
        // Rounding may have put it beside its bin.
        if x < edges[bin] {
            bin -= 1;
        } else if bin + 1 < BINS && x >= edges[bin + 1] {
            bin += 1;
        }
        counts[bin] += 1;
    }
    Some((counts, edges))
}

/// The running mean of three, ends repeated: `scipy.ndimage.uniform_filter1d()` of float32,
/// which adds and takes off thirds in float64.
fn smoothed(values: &[f32]) -> Vec<f32> {
    let n = values.len();
    let at = |i: usize| f64::from(values[i.clamp(1, n) - 1]);
    let mut mean = (at(0) + at(1) + at(2)) / 3.0;
    let mut smooth = Vec::with_capacity(n);
    smooth.push(mean as f32);
    for i in 1..n {
        mean += (at(i + 2) - at(i - 1)) / 3.0;
        smooth.push(mean as f32);
    }
    smooth
}

/// Where a rise ends, plateaus by their last value.
fn local_maxima(values: &[f32]) -> Vec<usize> {
    let mut rising = true;
    let mut maxima = Vec::new();
    for (i, pair) in values.windows(2).enumerate() {
        if rising && pair[1] < pair[0] {
            rising = false;
            maxima.push(i);
        } else if !rising && pair[1] > pair[0] {
            rising = true;
        }
    }
    maxima
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_those_of_scikit_image() {
        // scikit-image 0.26: a triangle around 50 and one around 200.
        let mut values = Vec::new();
        for i in 0_u32..256 {
            let height =
                40_u32.saturating_sub(i.abs_diff(50)) + 20_u32.saturating_sub(i.abs_diff(200));
            values.extend(std::iter::repeat_n(f64::from(i), height as usize));
        }
        assert_eq!(threshold_minimum(&values), Some(95.906_25));
        // Alone, the first has a shoulder in its histogram.
        let one: Vec<f64> = values.iter().copied().filter(|x| *x < 100.0).collect();
        assert_eq!(threshold_minimum(&one), Some(45.886_718_75));
    }

    #[test]
    fn samples_without_modes() {
        assert_eq!(threshold_minimum(&[]), None);
        assert_eq!(threshold_minimum(&[0.3; 50]), None);
        assert_eq!(threshold_minimum(&[0.1, 0.2, 0.2, 0.2]), None);
        assert_eq!(threshold_minimum(&[0.1, f64::NAN]), None);
    }

    #[test]
    fn histograms_put_every_value_between_its_edges() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i) / 7.0).collect();
        let (counts, edges) = histogram(&values).unwrap();
        assert_eq!(counts.iter().sum::<u32>(), 1000);
        for (bin, &count) in counts.iter().enumerate() {
            let last = bin + 1 == BINS;
            let inside = values
                .iter()
                .filter(|&&x| x >= edges[bin] && (x < edges[bin + 1] || last && x <= edges[BINS]));
            assert_eq!(inside.count(), count as usize, "bin {bin}");
        }
    }

    #[test]
    fn maxima_end_at_falls() {
        assert_eq!(local_maxima(&[0.0, 1.0, 1.0, 0.0, 2.0, 1.0, 1.0, 3.0]), [2, 4]);
        assert_eq!(local_maxima(&[3.0, 2.0]), [0]);
        assert_eq!(smoothed(&[3.0, 0.0, 3.0, 6.0]), [2.0, 2.0, 3.0, 5.0]);
    }
}
