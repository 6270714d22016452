//! What one sweep over the values of a row says.

/// Independent sums, so that the sweep runs in vector registers.
const LANES: usize = 4;

/// 1.5 * 2^52: adding and subtracting it rounds a double below 2^51 to an integer.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Total, detected values, and whether anything needs a closer look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RowScan {
    /// Sum of the values.
    pub total: f64,
    /// Number of values that are not zero.
    pub detected: usize,
    /// The largest value, at least zero; NaN is passed over.
    pub max: f64,
    /// Perhaps a value is negative (or a negative zero, or a NaN).
    pub maybe_negative: bool,
    /// Perhaps a value is not an integer (or is 2^51 or more, or not finite).
    pub maybe_fractional: bool,
}

/// Scans a row.
///
/// # Numerics
/// The total is added up in four interleaved sums, which are then added in
/// order: exact for counts, and the same bits wherever the row is read.
pub(super) fn scan(values: &[f64]) -> RowScan {
    let mut sum = [0.0_f64; LANES];
    let mut max = [0.0_f64; LANES];
    let mut zeros = [0_u64; LANES];
    let mut bits = [0_u64; LANES];
    let mut rest = [0_u64; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            let x = chunk[lane];
            sum[lane] += x;
            max[lane] = if x > max[lane] { x } else { max[lane] };
            zeros[lane] += u64::from(x == 0.0);
            bits[lane] |= x.to_bits();
            rest[lane] |= (((x + ROUND) - ROUND) - x).to_bits();
        }
    }
    for (lane, &x) in chunks.remainder().iter().enumerate() {
        sum[lane] += x;
        max[lane] = if x > max[lane] { x } else { max[lane] };
        zeros[lane] += u64::from(x == 0.0);
        bits[lane] |= x.to_bits();
        rest[lane] |= (((x + ROUND) - ROUND) - x).to_bits();
    }
    RowScan {
        total: sum.iter().sum(),
        detected: values.len() - zeros.iter().sum::<u64>() as usize,
        max: max.into_iter().fold(0.0, f64::max),
        maybe_negative: bits.iter().fold(0, |a, b| a | b) >> 63 != 0,
        maybe_fractional: rest.iter().fold(0, |a, b| a | b) != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "sums of small integers are exact")]
    fn counts_are_exact_at_every_length() {
        for n in 0..40 {
            let values: Vec<f64> = (0..n).map(|i| f64::from(i % 3)).collect();
            let got = scan(&values);
            assert_eq!(got.total, values.iter().sum::<f64>());
            assert_eq!(got.detected, values.iter().filter(|x| **x != 0.0).count());
            assert!(!got.maybe_negative && !got.maybe_fractional);
        }
    }

    #[test]
    fn odd_values_are_noticed_in_every_lane() {
        for at in 0..19 {
            for (odd, negative, fractional) in [
                (0.5, false, true),
                (-1.0, true, false),
                (f64::NAN, false, true),
                (f64::INFINITY, false, true),
                (f64::NEG_INFINITY, true, true),
                (1e-300, false, true),
                (2_f64.powi(40) + 0.25, false, true),
            ] {
                let mut values = vec![3.0; 19];
                values[at] = odd;
                let got = scan(&values);
                assert_eq!(
                    (got.maybe_negative, got.maybe_fractional),
                    (negative, fractional),
                    "{odd}"
                );
            }
        }
    }
}
