//! Tails of the normal, Student's t and chi-square distributions, on the
//! logarithmic scale.
//!
//! A p-value of 1e-5,000,000 is zero as an `f64`; its logarithm still orders
//! the genes. Every tail is the logarithm of a product, in closed form, plus
//! that of a continued fraction near one, and never `log10(p)`. Near p = 1 the
//! complement is summed and enters through `ln_1p`.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LN_10, PI};

use statrs::function::gamma::gamma_lr;

use super::student::{beta_fractions, central, gamma_ratios, is_central, outer, two_sided};

/// A p-value and its decimal logarithm, taken from the tail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PValue {
    /// The p-value, zero where it underflows.
    pub p_value: f64,
    /// Its decimal logarithm, at most 0.
    pub log10_p: f64,
}

/// Which deviations count against the null hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alternative {
    /// Both.
    TwoSided,
    /// Positive ones.
    Greater,
    /// Negative ones.
    Less,
}

/// A tail probability by its logarithm, or by its complement where that is the
/// smaller of the two.
enum Tail {
    Log(f64),
    Complement(f64),
}

impl Tail {
    #[inline]
    fn ln(&self) -> f64 {
        match *self {
            Self::Log(ln) => at_most_zero(ln),
            Self::Complement(q) => libm::log1p(-q),
        }
    }

    // Inlined: a logarithm that is not looked at need not be taken.
    #[inline]
    fn p_value(&self) -> PValue {
        let p_value = match *self {
            Self::Log(ln) => libm::exp(at_most_zero(ln)),
            Self::Complement(q) => 1.0 - q,
        };
        let log10_p = self.ln() / LN_10;
        PValue {
            p_value,
            // Not -0 for p = 1.
            log10_p: log10_p + 0.0,
        }
    }
}

/// The p-value of a deviate of a symmetric distribution, from both tails beyond
/// its absolute value.
#[inline]
fn p_value(tails: &Tail, deviate: f64, alternative: Alternative) -> PValue {
    let beyond = match alternative {
        Alternative::TwoSided => return tails.p_value(),
        Alternative::Greater => deviate >= 0.0,
        Alternative::Less => deviate <= 0.0,
    };
    let ln_one = tails.ln() - LN_2;
    if beyond { Tail::Log(ln_one) } else { Tail::Complement(libm::exp(ln_one)) }.p_value()
}

/// Removes the last bit of a logarithm that rounding made positive. Unlike
/// `f64::min` it keeps a NaN.
fn at_most_zero(ln: f64) -> f64 {
    if ln > 0.0 { 0.0 } else { ln }
}

/// Two-sided p-value of a normal deviate.
///
/// # Numerics
///
/// The logarithm is accurate to about 1e-15 relative for any `z`; NaN gives NaN.
#[must_use]
pub fn normal_two_sided(z: f64) -> PValue {
    normal_tails(z.abs()).p_value()
}

/// p-value of a normal deviate.
///
/// # Numerics
///
/// As [`normal_two_sided`].
#[must_use]
pub fn normal_p_value(z: f64, alternative: Alternative) -> PValue {
    p_value(&normal_tails(z.abs()), z, alternative)
}

/// The deviate `z >= 0` whose upper tail has this natural logarithm, at most
/// that of 1/2: the inverse of [`normal_log_sf`].
///
/// # Numerics
///
/// Newton's method on the logarithm, which is concave, from a point beyond the
/// root: it descends to it. Infinite for an empty tail.
#[must_use]
pub fn normal_deviate(ln_tail: f64) -> f64 {
    if ln_tail.is_nan() {
        return f64::NAN;
    }
    if ln_tail >= -LN_2 {
        return 0.0;
    }
    let mut z = (-2.0 * ln_tail).sqrt();
    if z.is_infinite() {
        return z;
    }
    for _ in 0..64 {
        let ln_sf = normal_log_sf(z);
        // The density over the tail; far out their logarithms would cancel.
        let hazard = if z > 30.0 {
            z + 1.0 / z
        } else {
            libm::exp(-0.5 * z * z - 0.5 * libm::log(2.0 * PI) - ln_sf)
        };
        let step = (ln_sf - ln_tail) / hazard;
        z += step;
        if step.abs() <= 1e-15 * z.abs() || step > 0.0 {
            break;
        }
    }
    z.max(0.0)
}

/// Decimal logarithm of the two-sided p-value of a normal deviate.
#[must_use]
pub fn normal_log10_two_sided(z: f64) -> f64 {
    normal_two_sided(z).log10_p
}

/// Upper tail probability of the standard normal distribution.
#[must_use]
pub fn normal_sf(z: f64) -> f64 {
    0.5 * libm::erfc(z * FRAC_1_SQRT_2)
}

/// Natural logarithm of [`normal_sf`], for any `z`.
#[must_use]
pub fn normal_log_sf(z: f64) -> f64 {
    if z < 0.0 { libm::log1p(-normal_sf(-z)) } else { normal_tails(z).ln() - LN_2 }
}

/// Both tails together beyond `z >= 0`.
fn normal_tails(z: f64) -> Tail {
    let x = z * FRAC_1_SQRT_2;
    if x < 0.5 {
        return Tail::Complement(libm::erf(x));
    }
    if z < 10.0 {
        return Tail::Log(libm::log(libm::erfc(x)));
    }
    // Laplace's continued fraction of Mills' ratio, 1 / (z + 1 / (z + 2 / (z +
    // ...))), evaluated from the depth at which it is exact for z >= 10.
    let mut below = z;
    for k in (1..=24).rev() {
        below = z + f64::from(k) / below;
    }
    Tail::Log(-0.5 * z * z - libm::log(below) + 0.5 * libm::log(2.0 / PI))
}

/// Two-sided p-value of Student's t with real degrees of freedom `df`.
///
/// # Numerics
///
/// The p-value is the incomplete beta function `I_x(df / 2, 1 / 2)` at
/// x = df / (df + t^2). Its logarithm is accurate to about 1e-14 relative, and absolutely
/// so where it is above -1, for `df` from 0.5 upwards. Infinite `df` is the
/// normal distribution; NaN or `df <= 0` gives NaN.
#[must_use]
pub fn t_two_sided(t: f64, df: f64) -> PValue {
    t_tails(t.abs(), df).p_value()
}

/// p-value of Student's t.
///
/// # Numerics
///
/// As [`t_two_sided`].
#[inline]
#[must_use]
pub fn t_p_value(t: f64, df: f64, alternative: Alternative) -> PValue {
    p_value(&t_tails(t.abs(), df), t, alternative)
}

/// Appends the p-values of [`t_two_sided`], the same bits, at a fraction of the time.
///
/// # Panics
/// If there are not as many `df` as `t`.
pub fn t_p_values(t: &[f64], df: &[f64], out: &mut Vec<f64>) {
    assert_eq!(t.len(), df.len(), "degrees of freedom of each");
    two_sided(t, df, out, |t, df| t_two_sided(t, df).p_value);
}

/// The normal deviate that cuts off the same tail as `t` does.
#[must_use]
pub fn t_to_normal(t: f64, df: f64) -> f64 {
    normal_deviate(t_tails(t.abs(), df).ln() - LN_2).copysign(t)
}

/// Decimal logarithm of the two-sided p-value of Student's t.
#[must_use]
pub fn t_log10_two_sided(t: f64, df: f64) -> f64 {
    t_two_sided(t, df).log10_p
}

/// Both tails together beyond `t >= 0`.
fn t_tails(t: f64, df: f64) -> Tail {
    if t.is_nan() || df.is_nan() || df <= 0.0 {
        return Tail::Log(f64::NAN);
    }
    if df.is_infinite() {
        return normal_tails(t);
    }
    if is_central(t, df) {
        return Tail::Complement(central(&[t], &[df])[0]);
    }
    let odds = t / df * t;
    if odds.is_finite() {
        let [ln_p] = outer(&[t], &[df], &[libm::log1p(odds)]);
        return Tail::Log(ln_p);
    }
    // The square overflows where its logarithm does not.
    let a = 0.5 * df;
    let ([square], [ln_rest]) = gamma_ratios(&[a]);
    let [fraction] = beta_fractions(&[a], &[0.0], &[1.0]);
    let ln_x = libm::log(df) - 2.0 * libm::log(t);
    Tail::Log(a * ln_x + ln_rest + libm::log((square / PI).sqrt() / fraction))
}

/// first + up(1) / (down(1) + up(2) / (down(2) + ...)) by Lentz's method;
/// `term(m)` gives (up(m), down(m)).
fn continued_fraction(first: f64, term: impl Fn(f64) -> (f64, f64)) -> f64 {
    let mut fraction = first;
    let mut ratio = first;
    let mut inverse = 0.0;
    let mut m = 1.0;
    loop {
        let (up, down) = term(m);
        inverse = 1.0 / (down + up * inverse);
        ratio = down + up / ratio;
        let step = ratio * inverse;
        fraction *= step;
        m += 1.0;
        // Not reached in the domain: an end for arguments that are not finite.
        let exhausted = m > 1e5;
        if (step - 1.0).abs() <= 2.0 * f64::EPSILON || step.is_nan() || exhausted {
            return fraction;
        }
    }
}

/// Natural logarithm of the upper tail probability of the chi-square
/// distribution with real degrees of freedom `df`.
///
/// # Numerics
///
/// Accurate to about 1e-11 relative, and absolutely so where it is above -1,
/// for `df` up to 1e4. NaN or `df <= 0` gives NaN.
#[must_use]
pub fn chisq_log_sf(x: f64, df: f64) -> f64 {
    if x.is_nan() || df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    if x <= 0.0 {
        return 0.0;
    }
    if x.is_infinite() {
        return f64::NEG_INFINITY;
    }
    let (a, x) = (0.5 * df, 0.5 * x);
    if x < a + 1.0 {
        return libm::log1p(-gamma_lr(a, x));
    }
    // x^a e^-x / Gamma(a)
    let ln_power = a * libm::log(x) - x - libm::lgamma(a);
    // Legendre's continued fraction.
    let start = x + 1.0 - a;
    let fraction = continued_fraction(start, |m| (m * (a - m), start + 2.0 * m));
    at_most_zero(ln_power - libm::log(fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64, tolerance: f64, what: &str) {
        assert!(
            (got - want).abs() <= tolerance * want.abs().max(1.0),
            "{what}: {got} against {want}"
        );
    }

    /// (z, upper log tail, lower log tail)
    // R 4.2.2: pnorm(z, lower.tail = FALSE, log.p = TRUE), pnorm(-z, ...)
    const NORMAL: [(f64, f64, f64); 15] = [
        (0.0, -0.6931471805599453, -0.6931471805599453),
        (1e-10, -0.6931471806397338, -0.6931471804801569),
        (0.5, -1.1759117615936185, -0.3689464152886565),
        (0.7, -1.4189677615315315, -0.2770239422771312),
        (1.0, -1.8410216450092636, -0.17275377902344988),
        (1.4, -2.516314852988329, -0.08420440303017268),
        (1.5, -2.7059444008238898, -0.06914345561223399),
        (3.0, -6.607726221510349, -0.0013508099647481938),
        (5.0, -15.064998393988725, -2.866516129637636e-07),
        (8.0, -35.01343715991455, -6.220960574271787e-16),
        (10.0, -53.23128515051247, -7.619853024160527e-24),
        (37.5, -707.6689893175072, -4.605353009581955e-308),
        (40.0, -804.6084420137538, 0.0),
        (1000.0, -500007.82669481216, 0.0),
        (100000000.0, -5000000000000019.0, 0.0),
    ];

    /// (t, df, log10 p)
    // R 4.2.2: (pt(t, df, lower.tail = FALSE, log.p = TRUE) + log(2)) / log(10);
    // the incomplete beta function at 60 digits agrees to 6e-16.
    const STUDENT: [(f64, f64, f64); 72] = [
        (1e-06, 0.5, -2.3423792168544674e-07),
        (0.1, 0.5, -0.023956647965278438),
        (1.0, 0.5, -0.22022807933690913),
        (1.9, 0.5, -0.34079394075537245),
        (2.1, 0.5, -0.36104248122183724),
        (4.0, 0.5, -0.4959097938351099),
        (37.0, 0.5, -0.9769943745699494),
        (1000.0, 0.5, -1.6928697560679944),
        (10000.0, 0.5, -2.192869723821636),
        (1e-06, 1.0, -2.7648054219389035e-07),
        (0.1, 1.0, -0.028469511685737237),
        (1.0, 1.0, -0.30102999566398164),
        (1.9, 1.0, -0.5108458799896276),
        (2.1, 1.0, -0.5483270540931501),
        (4.0, 1.0, -0.8069916167055924),
        (37.0, 1.0, -1.7644273125836327),
        (1000.0, 1.0, -3.196120021794917),
        (10000.0, 1.0, -4.1961198784778),
        (1e-06, 2.5, -3.142631784011911e-07),
        (0.1, 2.5, -0.03254256861376109),
        (1.0, 2.5, -0.39355303635325617),
        (1.9, 2.5, -0.7651132619098893),
        (2.1, 2.5, -0.8401248052634421),
        (4.0, 2.5, -1.408790921203933),
        (37.0, 2.5, -3.7633106752767325),
        (1000.0, 2.5, -7.3420370189318644),
        (10000.0, 2.5, -9.842035973911997),
        (1e-06, 10.0, -3.3797537956477174e-07),
        (0.1, 10.0, -0.03511803547245808),
        (1.0, 10.0, -0.46738174806228666),
        (1.9, 10.0, -1.062369499309828),
        (2.1, 10.0, -1.2070675709756211),
        (4.0, 10.0, -2.5988869082443484),
        (37.0, 10.0, -11.305404367459948),
        (1000.0, 10.0, -25.60891932092368),
        (10000.0, 10.0, -35.60889961490989),
        (1e-06, 99.3, -3.456457125100802e-07),
        (0.1, 99.3, -0.03595453280653921),
        (1.0, 99.3, -0.4952014981485075),
        (1.9, 99.3, -1.219435936644764),
        (2.1, 99.3, -1.417219640931589),
        (4.0, 99.3, -3.9135287433813586),
        (37.0, 99.3, -59.166557260714384),
        (1000.0, 99.3, -199.85121768238662),
        (10000.0, 99.3, -299.149118946824),
        (1e-06, 1000.0, -3.4643038176765565e-07),
        (0.1, 1000.0, -0.03604020294990259),
        (1.0, 1000.0, -0.4981845758651311),
        (1.9, 1000.0, -1.2386694738080977),
        (2.1, 1000.0, -1.4439524287687768),
        (4.0, 1000.0, -4.167427741066203),
        (37.0, 1000.0, -188.76193409525368),
        (1000.0, 1000.0, -1501.8149906464637),
        (10000.0, 1000.0, -2501.6003378065425),
        (1e-06, 100000.0, -3.4651613391258965e-07),
        (0.1, 100000.0, -0.03604956646869463),
        (1.0, 100000.0, -0.4985122340597227),
        (1.9, 100000.0, -1.2408158639484739),
        (2.1, 100000.0, -1.446950701009766),
        (4.0, 100000.0, -4.197992967483372),
        (37.0, 100000.0, -296.9217379605301),
        (1000.0, 100000.0, -52072.2116230272),
        (10000.0, 100000.0, -150024.30171795574),
        (1e-06, 10000000.0, -3.46516991537222e-07),
        (0.1, 10000000.0, -0.03604966011670151),
        (1.0, 10000000.0, -0.4985155127100991),
        (1.9, 10000000.0, -1.2408373759255633),
        (2.1, 10000000.0, -1.4469807663265182),
        (4.0, 10000000.0, -4.198301792127369),
        (37.0, 10000000.0, -298.9207748807492),
        (1000.0, 10000000.0, -206966.50315516625),
        (10000.0, 10000000.0, -5206967.003154736),
    ];

    /// (x, df, upper log tail)
    // R 4.2.2: pchisq(x, df, lower.tail = FALSE, log.p = TRUE)
    const CHI_SQUARE: [(f64, f64, f64); 42] = [
        (0.01, 1.0, -0.08300741217032799),
        (0.5, 1.0, -0.7350111298370844),
        (0.99, 1.0, -1.1402396871507248),
        (1.0, 1.0, -1.147874464449318),
        (1.3, 1.0, -1.369581901107872),
        (4.0, 1.0, -3.090037153122086),
        (100.0, 1.0, -52.53813796995253),
        (0.02, 2.0, -0.01),
        (1.0, 2.0, -0.5),
        (1.98, 2.0, -0.9899999999999997),
        (2.0, 2.0, -1.0),
        (2.6, 2.0, -1.3),
        (8.0, 2.0, -4.0),
        (200.0, 2.0, -100.0),
        (0.035, 3.5, -0.000517861434607793),
        (1.75, 3.5, -0.3410620416977667),
        (3.465, 3.5, -0.9047777840816043),
        (3.5, 3.5, -0.9173610551331808),
        (4.55, 3.5, -1.3083504989359391),
        (14.0, 3.5, -5.3573663403425344),
        (350.0, 3.5, -171.0377388951144),
        (0.11, 11.0, -3.9135904415770893e-10),
        (5.5, 11.0, -0.10030605280716728),
        (10.89, 11.0, -0.7929138182465122),
        (11.0, 11.0, -0.81359137750762),
        (14.3, 11.0, -1.5286163383982379),
        (44.0, 11.0, -11.832171263636603),
        (1100.0, 11.0, -525.5549813094195),
        (1.0, 100.0, -1.788776510435164e-80),
        (50.0, 100.0, -6.953329421955097e-06),
        (99.0, 100.0, -0.674379993463909),
        (100.0, 100.0, -0.7314895757292708),
        (130.0, 100.0, -3.7502274305714014),
        (400.0, 100.0, -84.6692656620035),
        (10000.0, 100.0, -4727.213431229066),
        (50.0, 5000.0, 0.0),
        (2500.0, 5000.0, -3.131283085795721e-212),
        (4950.0, 5000.0, -0.37149652044223985),
        (5000.0, 5000.0, -0.6984806203132707),
        (6500.0, 5000.0, -97.72206483982558),
        (20000.0, 5000.0, -4040.193882083411),
        (500000.0, 5000.0, -235996.50065383306),
    ];

    #[test]
    fn normal_agrees_with_pnorm() {
        for (z, upper, lower) in NORMAL {
            close(normal_log_sf(z), upper, 4e-16, &format!("upper tail of {z}"));
            close(normal_log_sf(-z), lower, 4e-16, &format!("lower tail of {z}"));
            close(normal_sf(z), upper.exp(), 1e-15, &format!("tail of {z}"));
            let log10 = (upper + LN_2) / LN_10;
            for z in [z, -z] {
                let got = normal_two_sided(z);
                close(got.log10_p, log10, 4e-16, &format!("two tails of {z}"));
                close(got.p_value, (upper + LN_2).exp(), 1e-15, &format!("p of {z}"));
                assert_eq!(normal_log10_two_sided(z), got.log10_p);
            }
        }
    }

    #[test]
    fn one_sided_p_values_are_single_tails() {
        for (z, upper, lower) in NORMAL {
            for (z, greater, less) in [(z, upper, lower), (-z, lower, upper)] {
                let got = normal_p_value(z, Alternative::Greater);
                close(got.log10_p, greater / LN_10, 4e-16, &format!("above {z}"));
                close(got.p_value, greater.exp(), 1e-15, &format!("p above {z}"));
                let got = normal_p_value(z, Alternative::Less);
                close(got.log10_p, less / LN_10, 4e-16, &format!("below {z}"));
                assert_eq!(normal_p_value(z, Alternative::TwoSided), normal_two_sided(z));
            }
        }
        // R 4.2.2: pt(1.3, 4.5, lower.tail = c(FALSE, TRUE))
        let greater = t_p_value(1.3, 4.5, Alternative::Greater).p_value;
        close(greater, R_PT_UPPER, 1e-14, "upper tail of t");
        close(t_p_value(1.3, 4.5, Alternative::Less).p_value, 1.0 - R_PT_UPPER, 1e-14, "lower");
        close(t_p_value(-1.3, 4.5, Alternative::Less).p_value, R_PT_UPPER, 1e-14, "mirrored");
        assert!(normal_p_value(f64::NAN, Alternative::Less).p_value.is_nan());
    }
    const R_PT_UPPER: f64 = 0.12809804397201696;

    #[test]
    fn deviates_have_their_tails() {
        for (z, upper, _) in NORMAL {
            close(normal_deviate(upper), z, 2e-15, &format!("deviate {z}"));
        }
        for (t, df, log10_two) in STUDENT {
            let z = t_to_normal(t, df);
            close(normal_two_sided(z).log10_p, log10_two, 1e-13, &format!("t {t}, df {df}"));
            assert_eq!(t_to_normal(-t, df), -z);
        }
        assert_eq!(normal_deviate(f64::NEG_INFINITY), f64::INFINITY);
        assert!(t_to_normal(f64::NAN, 3.0).is_nan());
    }

    #[test]
    fn student_agrees_with_pt() {
        for (t, df, want) in STUDENT {
            let what = format!("t {t}, df {df}");
            let got = t_two_sided(t, df);
            close(got.log10_p, want, 1e-13, &what);
            // Relative: tails as small as 1e-300 keep their digits.
            let p = (want * LN_10).exp();
            assert!((got.p_value - p).abs() <= 2e-12 * p, "{what}: {got:?}");
            assert_eq!(t_two_sided(-t, df), got);
            assert_eq!(t_log10_two_sided(t, df), got.log10_p);
        }
    }

    #[test]
    fn student_has_no_seam() {
        // The series and the fraction meet at t = 2, or at y = 0.6.
        for df in [0.5_f64, 1.0, 2.7, 6.0, 40.0, 1e3, 1e7] {
            for seam in [2.0, (1.5 * df).sqrt()] {
                let (below, above) = (seam * (1.0 - 1e-12), seam * (1.0 + 1e-12));
                let (p, q) = (t_two_sided(below, df), t_two_sided(above, df));
                close(p.log10_p, q.log10_p, 1e-11, &format!("df {df}, t {seam}"));
                assert!(p.p_value >= q.p_value, "df {df}, t {seam}");
            }
        }
    }

    #[test]
    fn student_closed_forms() {
        // df 1 is Cauchy, df 2 is 1 - t / sqrt(2 + t^2), infinite df is normal.
        for t in [1e-3_f64, 0.3, 1.0, 2.5, 70.0, 1e6, 1e200] {
            let cauchy = 2.0 / PI * (1.0 / t).atan();
            close(t_log10_two_sided(t, 1.0), cauchy.log10(), 1e-14, "Cauchy");
            // 1 - t / r = 2 / (r (r + t)) with r = sqrt(2 + t^2)
            let r = t.hypot(2.0_f64.sqrt());
            let two = 2.0_f64.log10() - r.log10() - (r + t).log10();
            close(t_log10_two_sided(t, 2.0), two, 1e-14, "df 2");
            close(
                t_log10_two_sided(t.min(1e3), 1e15),
                normal_log10_two_sided(t.min(1e3)),
                1e-8,
                "large df",
            );
            assert_eq!(t_two_sided(t, f64::INFINITY), normal_two_sided(t));
        }
    }

    #[test]
    fn edges() {
        for got in [normal_two_sided(0.0), t_two_sided(0.0, 5.0)] {
            assert_eq!(got.p_value, 1.0);
            assert_eq!(got.log10_p.to_bits(), 0);
        }
        for got in [normal_two_sided(f64::INFINITY), t_two_sided(f64::NEG_INFINITY, 5.0)] {
            assert_eq!(got.p_value, 0.0);
            assert_eq!(got.log10_p, f64::NEG_INFINITY);
        }
        for (t, df) in [(f64::NAN, 1.0), (1.0, f64::NAN), (1.0, 0.0), (1.0, -1.0)] {
            assert!(t_two_sided(t, df).p_value.is_nan());
            assert!(t_two_sided(t, df).log10_p.is_nan());
        }
        assert!(normal_two_sided(f64::NAN).log10_p.is_nan());
        assert!(chisq_log_sf(f64::NAN, 1.0).is_nan());
        assert!(chisq_log_sf(1.0, 0.0).is_nan());
        assert_eq!(chisq_log_sf(0.0, 3.0), 0.0);
        assert_eq!(chisq_log_sf(f64::INFINITY, 3.0), f64::NEG_INFINITY);
    }

    #[test]
    fn chi_square_agrees_with_pchisq() {
        for (x, df, want) in CHI_SQUARE {
            close(chisq_log_sf(x, df), want, 1e-11, &format!("x {x}, df {df}"));
        }
    }
}
