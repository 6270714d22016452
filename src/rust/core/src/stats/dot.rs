//! Sums and sums of products, in lanes that vector registers can hold.

/// The sum of the products, in four lanes of fixed order.
#[must_use]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let (heads_a, heads_b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = heads_a.remainder().iter().zip(heads_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in heads_a.zip(heads_b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}

/// The sum, in four lanes of fixed order.
#[must_use]
pub fn sum(a: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let heads = a.chunks_exact(4);
    let rest: f64 = heads.remainder().iter().sum();
    for a in heads {
        for (lane, a) in lanes.iter_mut().zip(a) {
            *lane += a;
        }
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lengths() {
        for n in 0..11 {
            let a: Vec<f64> = (0..n).map(f64::from).collect();
            let want: f64 = a.iter().map(|x| x * x).sum();
            assert_eq!(dot(&a, &a), want);
            assert_eq!(sum(&a), f64::from(n * (n - 1) / 2));
        }
    }
}
