//! Powers in float32 for gradients: a few multiplications, no table, no call.
//!
//! Written so that a loop over an array compiles to vector instructions of any
//! processor. Only additions, multiplications and divisions of IEEE 754 are used,
//! so results are the same bits everywhere.

use std::f32::consts::{LN_2, LOG2_E};

/// The bits of the square root of one half, from which on a mantissa counts.
const ROOT_HALF: i32 = 0x3f35_04f3;

/// Bits of the mantissa.
const MANTISSA: i32 = 23;

/// Adding it rounds a small number to a whole one, which the last bits then hold.
const ROUNDER: f32 = 12_582_912.0;

/// `x` to the power of `exponent`, for `x` at least zero.
///
/// # Numerics
/// The relative error is below 2e-5 for normal `x` while the result is normal and the
/// exponent at most 4 in size. Results leave neither [2^-126, 2^126] nor become NaN:
/// powers of zero are 2^-126 or, for exponents below one, something like 2^(-127 exponent).
#[inline]
#[must_use]
pub fn power(x: f32, exponent: f32) -> f32 {
    exp2(exponent * log2(x))
}

/// The logarithm by `2 atanh((m - 1) / (m + 1))` for a mantissa m between the roots of one
/// half and of two. That of zero is -127.
#[inline]
fn log2(x: f32) -> f32 {
    let bits = x.to_bits() as i32;
    let whole = bits.wrapping_sub(ROOT_HALF) >> MANTISSA;
    let mantissa = f32::from_bits(bits.wrapping_sub(whole << MANTISSA) as u32);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let t = s * s;
    // The next term is below 3e-7.
    let series = s * (1.0 + t * (1.0 / 3.0 + t * (1.0 / 5.0 + t * (1.0 / 7.0))));
    whole as f32 + 2.0 * LOG2_E * series
}

/// Two to the power of `x`, by the series of the exponential around a whole number.
#[inline]
fn exp2(x: f32) -> f32 {
    let x = if x > 126.0 { 126.0 } else { x };
    let x = if x < -126.0 { -126.0 } else { x };
    let shifted = x + ROUNDER;
    let whole = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    let r = (x - (shifted - ROUNDER)) * LN_2;
    // The next term is below 3e-6.
    let series =
        1.0 + r * (1.0 + r * (1.0 / 2.0 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0)))));
    f32::from_bits((series.to_bits() as i32).wrapping_add(whole << MANTISSA) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_libm() {
        let mut worst = 0.0_f64;
        for exponent in [0.3_f32, 0.79, 0.895, 1.0, 1.334, 1.93, 4.0, -0.5] {
            for step in -3000..=3000 {
                let x = libm::exp2f(step as f32 / 200.0);
                let wanted = libm::pow(f64::from(x), f64::from(exponent));
                worst = worst.max((f64::from(power(x, exponent)) / wanted - 1.0).abs());
            }
        }
        assert!(worst < 2e-5, "{worst}");
        // The bound is no more than ten times what is found.
        assert!(worst > 2e-6, "{worst}");
    }

    #[test]
    fn whole_powers_of_two_are_exact() {
        for e in -60..60 {
            assert_eq!(power(libm::exp2f(e as f32), 2.0), libm::exp2f(2.0 * e as f32));
        }
    }

    #[test]
    fn the_ends_are_finite() {
        let least = libm::exp2f(-126.0);
        assert_eq!(power(0.0, 1.5), least);
        assert!(power(0.0, 0.5) < 1e-18);
        assert_eq!(power(f32::MAX, 3.0), libm::exp2f(126.0));
        assert!(power(1e-40, 1.3) < 1e-37);
    }
}
