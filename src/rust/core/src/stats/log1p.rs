//! One logarithm of one plus x, and its inverse, with the same bits on every
//! machine. The platform's own differ between C libraries.

/// `ln(1 + x)`.
#[must_use]
pub fn ln_1p(x: f64) -> f64 {
    libm::log1p(x)
}

/// `exp(x) - 1`.
#[must_use]
pub fn exp_m1(x: f64) -> f64 {
    libm::expm1(x)
}
