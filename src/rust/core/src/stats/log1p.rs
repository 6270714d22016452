//! One logarithm of one plus x, and its inverse, with the same bits on every
//! machine. The platform's own differ between C libraries.
//!
//! Both are fdlibm's algorithms in pure Rust (the `libm` crate): IEEE operations
//! only, none fused. About 6 ns per value. A branch-free
//! variant of ours was not faster.

use pulp::{Arch, NullaryFnOnce};

/// `ln(1 + x)`.
///
/// # Numerics
///
/// Below 1 ulp (0.74 observed). Negative infinity at -1, NaN below.
#[inline]
#[must_use]
pub fn ln_1p(x: f64) -> f64 {
    libm::log1p(x)
}

/// `exp(x) - 1`.
///
/// # Numerics
///
/// Below 1 ulp.
#[inline]
#[must_use]
pub fn exp_m1(x: f64) -> f64 {
    libm::expm1(x)
}

/// `exp(x * scale) - 1` of every value, in place.
///
/// # Numerics
/// Within 4e-16 of [`exp_m1`], relative to it, at a quarter of its time: the usual
/// reduction to |r| <= ln(2) / 2 and the Taylor series, without branches, so that
/// several values go at once. Values past +-700 take [`exp_m1`] itself.
pub fn exp_m1_all(values: &mut [f64], scale: f64) {
    if values.iter().fold(0.0, |most, &x| f64::max(most, (x * scale).abs())) < 700.0 {
        Arch::new().dispatch(QuickExpM1 { values, scale });
    } else {
        for x in values {
            *x = exp_m1(*x * scale);
        }
    }
}

/// The quick way, as one loop that is compiled for several kinds of processors. Its
/// operations are the same on all, none fused, and so are its bits.
struct QuickExpM1<'v> {
    values: &'v mut [f64],
    scale: f64,
}

impl NullaryFnOnce for QuickExpM1<'_> {
    type Output = ();

    #[allow(clippy::inline_always)] // Or it is not compiled with the features of the processor.
    #[inline(always)]
    fn call(self) {
        for x in self.values {
            *x = exp_m1_quick(*x * self.scale);
        }
    }
}

/// `exp(x)` of every value, in place; as if past +-700 it went no further.
///
/// # Numerics
/// Within 4e-16 relative, without branches.
pub fn exp_all(values: &mut [f64]) {
    for x in values {
        *x = exp_quick(x.clamp(-700.0, 700.0));
    }
}

/// `ln(1 + x)` of every value from 0 to 1, in place.
///
/// # Numerics
/// Within 5e-16 relative, without branches: the series of `2 atanh(x / (2 + x))`.
pub fn ln_1p_all(values: &mut [f64]) {
    for x in values {
        *x = ln_1p_quick(*x);
    }
}

/// `ln(1 + x)` from 0 to 1, as [`ln_1p_all`].
#[allow(clippy::inline_always)] // As where it is called.
#[inline(always)]
pub(super) fn ln_1p_quick(x: f64) -> f64 {
    let s = x / (2.0 + x);
    let square = s * s;
    let mut series = 0.0;
    for divisor in ATANH_DIVISORS {
        series = series * square + 1.0 / divisor;
    }
    2.0 * s * series
}

/// `exp(x)` between -700 and 700, as [`exp_all`].
#[allow(clippy::inline_always)] // As where it is called.
#[inline(always)]
pub(super) fn exp_quick(x: f64) -> f64 {
    let (power, small) = exp_parts(x);
    power * small + power
}

/// Divisors of the terms of the inverse hyperbolic tangent: at 1/3 the next term
/// is below rounding.
const ATANH_DIVISORS: [f64; 17] = [
    33.0, 31.0, 29.0, 27.0, 25.0, 23.0, 21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0,
];

/// Adding it leaves the nearest integer in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// ln(2) in two parts; products of the first with small integers are exact.
const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// 1 / 13!, 1 / 12! ... 1 / 2!.
const INVERSE_FACTORIALS: [f64; 12] = [
    1.0 / 6_227_020_800.0,
    1.0 / 479_001_600.0,
    1.0 / 39_916_800.0,
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
];

#[allow(clippy::inline_always)] // As where it is called.
#[inline(always)]
fn exp_m1_quick(x: f64) -> f64 {
    let (power, small) = exp_parts(x);
    power * small + (power - 1.0)
}

/// A power of two and what its multiple `exp(x) / power` is above one.
#[allow(clippy::inline_always)] // As where it is called.
#[inline(always)]
fn exp_parts(x: f64) -> (f64, f64) {
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let mut series = 0.0;
    for coefficient in INVERSE_FACTORIALS {
        series = series * r + coefficient;
    }
    let small = r + r * r * series;
    (f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52), small)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (x, ln(1 + x)), the latter computed with 2,500 bits by mpmath 1.3.0 and
    /// rounded to the nearest double.
    const LN_1P: [(f64, f64); 49] = [
        (5e-324, 5e-324),
        (1e-300, 1e-300),
        (1e-20, 1e-20),
        (1.1102230246251565e-16, 1.1102230246251565e-16),
        (1e-16, 1e-16),
        (1e-09, 9.999999995e-10),
        (1e-05, 9.999950000333332e-06),
        (0.01, 0.009950330853168083),
        (0.1, 0.09531017980432487),
        (0.29, 0.25464221837358075),
        (0.41421356237309503, 0.34657359027997264),
        (0.4142135623730951, 0.3465735902799727),
        (0.5, 0.4054651081081644),
        (0.75, 0.5596157879354227),
        (1.0, 0.6931471805599453),
        (1.5, 0.9162907318741551),
        (3.141592653589793, 1.4210804127942926),
        (10.0, 2.3978952727983707),
        (123.456, 4.823952239784821),
        (10000.0, 9.210440366976517),
        (98765.4321, 11.500513069932914),
        (2147483648.0, 21.487562597823967),
        (1000000000000000.0, 34.538776394910684),
        (1e+16, 36.841361487904734),
        (1e+100, 230.25850929940458),
        (1.7976931348623157e+308, 709.782712893384),
        (-1e-300, -1e-300),
        (-1e-17, -1e-17),
        (-1e-06, -1.0000005000003334e-06),
        (-0.01, -0.010050335853501442),
        (-0.2, -0.22314355131420976),
        (-0.2928932188134524, -0.3465735902799726),
        (-0.29289321881345254, -0.34657359027997275),
        (-0.5, -0.6931471805599453),
        (-0.9, -2.302585092994046),
        (-0.999999, -13.815510557935518),
        (-0.9999999999999999, -36.7368005696771),
        (1.6556527171431945, 0.9766904689774738),
        (10.17683315639993, 2.413843167887562),
        (9.177106696770538, 2.320140756263173),
        (3.098074857586089, 1.4105173165083602),
        (5.970449290748694, 1.9416796833475443),
        (5.4214182242254205, 1.8596390005056884),
        (7.8365360240370165, 2.178894947370805),
        (9.475244046069383, 2.349014763490926),
        (1.171622061952107, 0.7754743823050259),
        (0.38875234443797535, 0.3284057501344364),
        (10.037392991842443, 2.4012888709197697),
        (5.221566461465387, 1.8280217177233664),
    ];

    /// (x, exp(x) - 1), likewise.
    const EXP_M1: [(f64, f64); 42] = [
        (5e-324, 5e-324),
        (1e-300, 1e-300),
        (1e-20, 1e-20),
        (1e-16, 1e-16),
        (1e-09, 1.0000000005000001e-09),
        (1e-05, 1.0000050000166668e-05),
        (0.01, 0.010050167084168058),
        (0.1, 0.10517091807564763),
        (0.34657359027997264, 0.41421356237309503),
        (0.35, 0.41906754859325723),
        (0.5, 0.6487212707001282),
        (1.0, 1.7182818284590453),
        (2.5, 11.182493960703473),
        (3.141592653589793, 22.140692632779267),
        (9.2, 9896.129058743909),
        (20.0, 485165194.4097903),
        (38.0, 3.1855931757113756e+16),
        (100.0, 2.6881171418161356e+43),
        (709.0, 8.218407461554972e+307),
        (-1e-300, -1e-300),
        (-1e-17, -1e-17),
        (-1e-06, -9.999995000001667e-07),
        (-0.01, -0.009950166250831947),
        (-0.3, -0.2591817793182821),
        (-0.35, -0.29531191028128656),
        (-1.0, -0.6321205588285577),
        (-5.0, -0.9932620530009145),
        (-36.0, -0.9999999999999998),
        (-60.0, -1.0),
        (-1000.0, -1.0),
        (6.87240673799858, 964.2689218405103),
        (0.0688491774924407, 0.07127462463818943),
        (4.036215386790473, 55.61168353521219),
        (6.507783289450003, 669.3388222767134),
        (2.097421880370551, 7.145143665355242),
        (8.510172725207605, 4964.020598478897),
        (8.117775745622778, 3352.5532878166655),
        (0.3237803481503041, 0.38234363943279914),
        (0.27774045589147417, 0.3201435172684236),
        (4.895641631501793, 132.70576893102017),
        (8.455385006867669, 4699.315940715256),
        (3.461777927309501, 30.87359510307174),
    ];

    /// An error below 1 ulp is a distance of at most one double from the nearest.
    fn check(name: &str, function: fn(f64) -> f64, table: &[(f64, f64)]) {
        for &(x, want) in table {
            let got = function(x);
            let distance = got.to_bits().abs_diff(want.to_bits());
            assert!(distance <= 1, "{name}({x}): {got} against {want}");
        }
    }

    #[test]
    fn within_one_ulp() {
        check("ln_1p", ln_1p, &LN_1P);
        check("exp_m1", exp_m1, &EXP_M1);
    }

    #[test]
    fn special_values() {
        for function in [ln_1p, exp_m1] {
            assert_eq!(function(0.0).to_bits(), 0);
            assert_eq!(function(-0.0).to_bits(), (-0.0_f64).to_bits());
            assert_eq!(function(f64::INFINITY), f64::INFINITY);
            assert!(function(f64::NAN).is_nan());
        }
        assert_eq!(ln_1p(-1.0), f64::NEG_INFINITY);
        assert!(ln_1p(-1.1).is_nan());
        assert_eq!(exp_m1(f64::NEG_INFINITY), -1.0);
        assert_eq!(exp_m1(710.0), f64::INFINITY);
    }

    // The bits of these, summed over a grid, differ as soon as one machine or
    // one version of the dependency rounds one value differently.
    #[test]
    fn bits_are_pinned() {
        let grid = |function: fn(f64) -> f64| {
            (1..=100_000_u64).fold(0_u64, |hash, i| {
                let bits = function(i as f64 / 8192.0).to_bits();
                (hash ^ bits).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
            })
        };
        assert_eq!(grid(ln_1p), 4297083594174134626);
        assert_eq!(grid(exp_m1), 5487164951195541656);
    }

    #[test]
    fn many_exponentials_at_once() {
        let mut x = -30.0;
        while x < 30.0 {
            let mut got = [x];
            exp_m1_all(&mut got, 1.0);
            let want = exp_m1(x);
            assert!((got[0] - want).abs() <= 4e-16 * want.abs(), "{x}: {} {want}", got[0]);
            x += 0.001_37;
        }
        let mut got = [0.0, 1e-300, -1e-20, 3.0, 10.0];
        exp_m1_all(&mut got, std::f64::consts::LN_2);
        assert_eq!(got[0], 0.0);
        assert_eq!(got[2], exp_m1(-1e-20 * std::f64::consts::LN_2));
        assert!((got[3] - 7.0).abs() < 1e-14 && (got[4] - 1023.0).abs() < 1e-12);
        let mut far = [800.0, -800.0, f64::NAN];
        exp_m1_all(&mut far, 1.0);
        assert!(far[0].is_infinite() && far[1] == -1.0 && far[2].is_nan());
    }

    #[test]
    fn whole_slices_agree_with_the_library() {
        let mut xs: Vec<f64> = (-14_000..=14_000).map(|i| f64::from(i) * 0.05).collect();
        xs.extend([-1e-9, 1e-300, 0.0, -1e5, 1e5]);
        let mut got = xs.clone();
        exp_all(&mut got);
        for (&x, got) in xs.iter().zip(got) {
            let want = libm::exp(x.clamp(-700.0, 700.0));
            assert!((got - want).abs() <= 4e-16 * want, "exp({x}) = {got}, not {want}");
        }
        let mut xs: Vec<f64> = (0..=10_000).map(|i| f64::from(i) * 1e-4).collect();
        xs.extend([1e-300, 1e-17, 1e-9]);
        let mut got = xs.clone();
        ln_1p_all(&mut got);
        for (&x, got) in xs.iter().zip(got) {
            let want = ln_1p(x);
            assert!((got - want).abs() <= 5e-16 * want, "ln(1 + {x}) = {got}, not {want}");
        }
    }
}
