//! The logistic and the softmax function and what they cost, without overflow.

use super::log1p::ln_1p;

/// `1 / (1 + exp(-x))`.
///
/// # Numerics
/// Within 2 ulp; neither overflows nor loses the small tail.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
}

/// `ln(1 + exp(x))`.
///
/// # Numerics
/// Within 2 ulp, whatever the size of `x`.
#[must_use]
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + ln_1p(libm::exp(-x.abs()))
}

/// Turns scores into the probabilities of their classes, in place, and returns
/// `ln sum exp(score)`.
///
/// # Panics
/// Without any class.
pub fn softmax(scores: &mut [f64]) -> f64 {
    let top = scores.iter().copied().reduce(f64::max).expect("at least one class");
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = libm::exp(*score - top);
        sum += *score;
    }
    for score in scores.iter_mut() {
        *score /= sum;
    }
    top + libm::log(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64) {
        assert!((got - want).abs() <= 4e-16 * want.abs(), "{got} is not {want}");
    }

    // R 4.2.2: plogis(x), -plogis(-x, log.p = TRUE)
    #[test]
    fn agree_with_plogis() {
        for (x, p, cost) in [
            (-800.0, 0.0, 0.0),
            (-40.0, 4.248354255291589e-18, 4.248354255291589e-18),
            (-1.0, 0.2689414213699951, 0.3132616875182228),
            (0.0, 0.5, 0.6931471805599453),
            (2.5, 0.9241418199787566, 2.5788897342925496),
            (40.0, 1.0, 40.0),
            (800.0, 1.0, 800.0),
        ] {
            close(sigmoid(x), p);
            close(softplus(x), cost);
        }
    }

    #[test]
    fn softmax_of_two_is_the_sigmoid_of_the_difference() {
        for (a, b) in [(0.3, -1.2), (1e4, -1e4), (-700.0, -702.0)] {
            let mut scores = [a, b];
            let total = softmax(&mut scores);
            assert!((scores[0] - sigmoid(a - b)).abs() < 1e-15);
            assert!((scores[0] + scores[1] - 1.0).abs() < 1e-15);
            assert!((total - (b + softplus(a - b))).abs() < 1e-15 * total.abs().max(1.0));
        }
        let mut one = [5.0];
        assert_eq!(softmax(&mut one), 5.0);
        assert_eq!(one, [1.0]);
    }
}
