//! From neighbours to scores.

/// What is expected of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Expected share of doublets.
    pub expected: f64,
    /// Its uncertainty.
    pub stdev: f64,
}

/// Scores and their standard errors of points of which so many among `n_neighbors` are
/// simulated, `ratio` simulated doublets standing beside each cell.
///
/// Formula of Wolock, Lopez & Klein (2019), with the likelihood of being a doublet from
/// the share of simulated neighbours, one of each kind added.
#[must_use]
pub fn scores(
    simulated: &[u32],
    n_neighbors: usize,
    ratio: f64,
    rates: Rates,
) -> (Vec<f64>, Vec<f64>) {
    let (n, rho) = (n_neighbors as f64, rates.expected);
    let of = |&count: &u32| {
        let q = (f64::from(count) + 1.0) / (n + 2.0);
        let rest = 1.0 - rho - q * (1.0 - rho - rho / ratio);
        let score = q * rho / ratio / rest;
        let se_q = (q * (1.0 - q) / (n + 3.0)).sqrt();
        let spread = (se_q / q * (1.0 - rho)).powi(2) + (rates.stdev / rho * (1.0 - q)).powi(2);
        (score, q * rho / ratio / (rest * rest) * spread.sqrt())
    };
    simulated.iter().map(of).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_posterior_odds() {
        // As many simulated neighbours as their share among all points: near the
        // expected rate; all of them: near one.
        let rates = Rates { expected: 0.05, stdev: 0.02 };
        let (found, errors) = scores(&[0, 100, 150], 150, 2.0, rates);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        let wanted = [0.000_174_246_384_387_524, 0.049_534_085_335_949, 0.798_941_798_941_8];
        for (a, b) in found.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        assert!(errors.iter().all(|e| *e > 0.0));
    }
}
