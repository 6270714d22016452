//! Random numbers that depend on a seed and an index only.
//!
//! A pass gives each row (or block) its own stream, `Rng::new(seed, row)`: what
//! is drawn for a row is the same whatever thread or process visits it.

/// Weyl increment of `SplitMix64`: 2^64 over the golden ratio, made odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The stream of one (seed, index): `SplitMix64` (Steele, Lea & Flood 2014)
/// started at a hash of both.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

/// Finaliser of `SplitMix64` (Stafford's variant 13): a bijection of the 64-bit
/// integers.
#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream of `index` under `seed`.
    #[must_use]
    pub fn new(seed: u64, index: u64) -> Self {
        let key = mix(seed.wrapping_add(GAMMA));
        Self { state: mix(key ^ mix(index.wrapping_mul(GAMMA) ^ !GAMMA)) }
    }

    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// A number in [0, 1), a multiple of 2^-53.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// An integer in `0..bound`, each equally likely (Lemire 2019).
    ///
    /// # Panics
    ///
    /// If `bound` is zero.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no integer below zero");
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let low = product as u64;
            // Reject the 2^64 mod `bound` lowest products, which would favour
            // some results.
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_reference_values() {
        // First outputs of SplitMix64 from state 0 (Vigna's splitmix64.c).
        let mut rng = Rng { state: 0 };
        assert_eq!(rng.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(rng.next_u64(), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(rng.next_u64(), 0x06c4_5d18_8009_454f);
    }

    #[test]
    fn streams_depend_on_seed_and_index_only() {
        let draw = |seed, index| {
            let mut rng = Rng::new(seed, index);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(draw(7, 3), draw(7, 3));
        let mut seen = std::collections::HashSet::new();
        for seed in 0..100 {
            for index in 0..100 {
                for x in draw(seed, index) {
                    assert!(seen.insert(x), "streams ({seed}, {index}) collide");
                }
            }
        }
    }

    #[test]
    fn uniform_fills_the_unit_interval() {
        // First draws of neighbouring streams: mean 1/2, variance 1/12, no
        // correlation between neighbours; the bounds are six standard errors.
        let n = 100_000;
        let x: Vec<f64> = (0..n).map(|i| Rng::new(42, i).uniform()).collect();
        assert!(x.iter().all(|u| (0.0..1.0).contains(u)));
        let n = n as f64;
        let mean = x.iter().sum::<f64>() / n;
        assert!((mean - 0.5).abs() < 6.0 * (1.0 / 12.0 / n).sqrt());
        let var = x.iter().map(|u| (u - 0.5).powi(2)).sum::<f64>() / n;
        assert!((var - 1.0 / 12.0).abs() < 6.0 * (1.0 / 180.0 / n).sqrt());
        let lag = x.windows(2).map(|w| (w[0] - 0.5) * (w[1] - 0.5)).sum::<f64>() / n;
        assert!(lag.abs() < 6.0 / 12.0 / n.sqrt());
    }

    #[test]
    fn below_is_unbiased() {
        // Chi-square of 6 classes: 5 degrees of freedom, 1e-6 point 35.9.
        let mut counts = [0_u32; 6];
        let mut rng = Rng::new(1, 1);
        for _ in 0..60_000 {
            counts[rng.below(6) as usize] += 1;
        }
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 35.9, "{counts:?}");
        // With bound 3 * 2^62, plain multiplication would hit each third twice
        // as often in some places; the results must spread evenly.
        let bound = 3 << 62;
        let high = (0..30_000).filter(|_| rng.below(bound) >= 1 << 63).count() as f64;
        assert!((high - 10_000.0).abs() < 6.0 * (30_000.0_f64 * 2.0 / 9.0).sqrt());
        assert!((0..100).all(|_| rng.below(1) == 0));
    }

    #[test]
    #[should_panic(expected = "no integer below zero")]
    fn below_zero_panics() {
        Rng::new(0, 0).below(0);
    }
}
