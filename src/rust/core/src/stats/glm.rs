//! Logistic regression of a two-sided outcome on a few columns, by Newton's method.
//!
//! As `stats::glm(family = binomial)`: iteratively reweighted least squares is the
//! same iteration. It ends when the deviance does: where an outcome is separated
//! by the columns the coefficients have no limit, but the deviance has.

use super::dot::{dot, sum};
use super::log1p::{exp_all, ln_1p_all};

/// Iterations at most; a separated outcome takes about 30.
const ITERATIONS: usize = 100;
/// Deviance left to gain, relative to the deviance, at which the iteration ends.
const TOLERANCE: f64 = 1e-10;
/// Share of a column's sum of squares that the others must leave unexplained.
const UNEXPLAINED: f64 = 1e-12;
/// Observations worked on at a time, for the nearest cache.
const CHUNK: usize = 256;

/// Observations that share their columns: `trials` of them, `hits` of which are on
/// the first side.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Observations.
    pub trials: Vec<f64>,
    /// Those on the first side.
    pub hits: Vec<f64>,
}

impl Outcome {
    /// Forgets all, keeping the memory.
    pub fn clear(&mut self) {
        self.trials.clear();
        self.hits.clear();
    }

    /// Adds `trials` observations with `hits` on the first side.
    pub fn push(&mut self, trials: f64, hits: f64) {
        self.trials.push(trials);
        self.hits.push(hits);
    }
}

/// How a fit ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fitted {
    /// With this deviance.
    Deviance(f64),
    /// Not at all: the last column follows from the others.
    Dependent,
}

/// A fit's memory and, after a fit, its coefficients.
#[derive(Debug, Default)]
pub struct Logistic {
    /// The intercept and the coefficients of the columns.
    pub coefficients: Vec<f64>,
    next: Vec<f64>,
    gradient: Vec<f64>,
    step: Vec<f64>,
    hessian: Vec<f64>,
}

impl Logistic {
    /// Fits `outcome` on an intercept and `columns`, each as long as the outcome, from
    /// `start`.
    ///
    /// # Numerics
    /// Sums are taken in the order of the observations. At the end the deviance is
    /// within about 1e-12 of the smallest, relative to it.
    ///
    /// # Panics
    /// When `start` does not have a value for each coefficient.
    pub fn fit<C: AsRef<[f64]>>(
        &mut self,
        outcome: &Outcome,
        columns: &[C],
        start: &[f64],
    ) -> Fitted {
        let n = columns.len() + 1;
        assert_eq!(start.len(), n, "a start for each coefficient");
        self.coefficients.clear();
        self.coefficients.extend_from_slice(start);
        let mut deviance = self.evaluate(outcome, columns);
        for iteration in 0..ITERATIONS {
            let last = self.hessian[n * n - 1];
            let Some(pivot) = self.solve(n) else { break };
            if iteration == 0 && pivot <= UNEXPLAINED * last {
                return Fitted::Dependent;
            }
            // What the quadratic model says is left to gain.
            let gain = dot(&self.step, &self.gradient);
            if gain.is_nan() || gain <= TOLERANCE * (deviance + 0.1) {
                deviance -= gain.max(0.0);
                break;
            }
            let mut share = 1.0;
            let before = deviance;
            self.next.clear();
            self.next.extend_from_slice(&self.coefficients);
            loop {
                for ((coefficient, old), step) in
                    self.coefficients.iter_mut().zip(&self.next).zip(&self.step)
                {
                    *coefficient = old - share * step;
                }
                deviance = self.evaluate(outcome, columns);
                if deviance <= before || share < 1e-3 {
                    break;
                }
                share *= 0.5;
            }
            if deviance.is_nan() || deviance >= before {
                self.coefficients.copy_from_slice(&self.next);
                deviance = before;
                break;
            }
        }
        Fitted::Deviance(deviance.max(0.0))
    }

    /// The deviance at the coefficients; leaves the gradient of half of it and the
    /// second derivatives (lower triangle, row by row).
    fn evaluate<C: AsRef<[f64]>>(&mut self, outcome: &Outcome, columns: &[C]) -> f64 {
        let n = columns.len() + 1;
        self.gradient.clear();
        self.gradient.resize(n, 0.0);
        self.hessian.clear();
        self.hessian.resize(n * n, 0.0);
        let mut half = 0.0;
        let mut buffers = Buffers::default();
        for start in (0..outcome.trials.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(outcome.trials.len());
            let (trials, hits) = (&outcome.trials[start..end], &outcome.hits[start..end]);
            let column = |j: usize| &columns[j].as_ref()[start..end];
            half += buffers.fill(trials, hits, &self.coefficients, column);
            let len = end - start;
            let (residuals, weights) = (&buffers.residuals[..len], &buffers.weights[..len]);
            self.gradient[0] += sum(residuals);
            self.hessian[0] += sum(weights);
            let weighted = &mut buffers.weighted[..len];
            for a in 1..n {
                let values = column(a - 1);
                self.gradient[a] += dot(residuals, values);
                for ((out, w), x) in weighted.iter_mut().zip(weights).zip(values) {
                    *out = w * x;
                }
                self.hessian[a * n] += sum(weighted);
                for b in 1..=a {
                    self.hessian[a * n + b] += dot(weighted, column(b - 1));
                }
            }
        }
        2.0 * half
    }

    /// Solves for the Newton step by Cholesky's decomposition, in place of the
    /// second derivatives. Returns the last pivot; `None` where one is not positive.
    fn solve(&mut self, n: usize) -> Option<f64> {
        let h = &mut self.hessian;
        let mut pivot = 0.0;
        for j in 0..n {
            for i in j..n {
                let mut sum = h[i * n + j];
                for k in 0..j {
                    sum -= h[i * n + k] * h[j * n + k];
                }
                if i == j {
                    pivot = sum;
                    // The last one may vanish: its column follows from the others.
                    if !(sum > 0.0 || (sum <= 0.0 && j + 1 == n)) {
                        return None;
                    }
                    h[j * n + j] = sum.max(f64::MIN_POSITIVE).sqrt();
                } else {
                    h[i * n + j] = sum / h[j * n + j];
                }
            }
        }
        self.step.clear();
        self.step.extend_from_slice(&self.gradient);
        for i in 0..n {
            for k in 0..i {
                self.step[i] -= h[i * n + k] * self.step[k];
            }
            self.step[i] /= h[i * n + i];
        }
        for i in (0..n).rev() {
            for k in i + 1..n {
                self.step[i] -= h[k * n + i] * self.step[k];
            }
            self.step[i] /= h[i * n + i];
        }
        Some(pivot)
    }
}

/// What is known of a chunk of observations.
struct Buffers {
    scores: [f64; CHUNK],
    powers: [f64; CHUNK],
    logs: [f64; CHUNK],
    residuals: [f64; CHUNK],
    weights: [f64; CHUNK],
    weighted: [f64; CHUNK],
}

impl Default for Buffers {
    fn default() -> Self {
        let zeros = [0.0; CHUNK];
        Buffers {
            scores: zeros,
            powers: zeros,
            logs: zeros,
            residuals: zeros,
            weights: zeros,
            weighted: zeros,
        }
    }
}

impl Buffers {
    /// Half of the deviance of a chunk; leaves residuals and weights.
    fn fill<'c>(
        &mut self,
        trials: &[f64],
        hits: &[f64],
        coefficients: &[f64],
        column: impl Fn(usize) -> &'c [f64],
    ) -> f64 {
        let len = trials.len();
        let scores = &mut self.scores[..len];
        scores.fill(coefficients[0]);
        for (j, coefficient) in coefficients.iter().enumerate().skip(1) {
            for (score, x) in scores.iter_mut().zip(column(j - 1)) {
                *score += coefficient * x;
            }
        }
        // exp(-|s|), of which all else is made without overflow.
        let powers = &mut self.powers[..len];
        for (power, score) in powers.iter_mut().zip(&*scores) {
            *power = -score.abs();
        }
        exp_all(powers);
        let logs = &mut self.logs[..len];
        logs.copy_from_slice(powers);
        ln_1p_all(logs);
        let (residuals, weights) = (&mut self.residuals[..len], &mut self.weights[..len]);
        for i in 0..len {
            let (score, power) = (scores[i], powers[i]);
            let inverse = 1.0 / (1.0 + power);
            let p = if score < 0.0 { power * inverse } else { inverse };
            weights[i] = trials[i] * power * inverse * inverse;
            residuals[i] = trials[i] * p - hits[i];
            // ln(1 + exp(s)) for each trial, less s for each hit.
            logs[i] = trials[i] * (score.max(0.0) + logs[i]) - hits[i] * score;
        }
        sum(logs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;

    fn outcome(hits: &[f64]) -> Outcome {
        Outcome { trials: vec![1.0; hits.len()], hits: hits.to_vec() }
    }

    fn deviance(fitted: Fitted) -> f64 {
        match fitted {
            Fitted::Deviance(deviance) => deviance,
            Fitted::Dependent => panic!("dependent"),
        }
    }

    fn close(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{got} is not {want}");
    }

    // R 4.2.2:
    // glm(am ~ wt, binomial, mtcars, control = list(epsilon = 1e-15))
    const AM: [f64; 32] = [
        1., 1., 1., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 1., 1., 1., 0., 0., 0.,
        0., 0., 1., 1., 1., 1., 1., 1., 1.,
    ];
    const WT: [f64; 32] = [
        2.62, 2.875, 2.32, 3.215, 3.44, 3.46, 3.57, 3.19, 3.15, 3.44, 3.44, 4.07, 3.73, 3.78, 5.25,
        5.424, 5.345, 2.2, 1.615, 1.835, 2.465, 3.52, 3.435, 3.84, 3.845, 1.935, 2.14, 1.513, 3.17,
        2.77, 3.57, 2.78,
    ];

    #[test]
    fn agrees_with_glm() {
        let mut logistic = Logistic::default();
        let fitted = logistic.fit(&outcome(&AM), &[&WT[..]], &[0.0, 0.0]);
        close(deviance(fitted), WT_DEVIANCE, 1e-12);
        close(logistic.coefficients[0], WT_COEFFICIENTS[0], 1e-6);
        close(logistic.coefficients[1], WT_COEFFICIENTS[1], 1e-6);
        let none: [&[f64]; 0] = [];
        close(deviance(logistic.fit(&outcome(&AM), &none, &[0.3])), NULL_DEVIANCE, 1e-13);
    }
    const WT_DEVIANCE: f64 = 19.1760848074450863;
    const WT_COEFFICIENTS: [f64; 2] = [12.0403697286573195, -4.0239699621732017];
    const NULL_DEVIANCE: f64 = 43.2297332768578073;

    /// The deviance as its definition says, at given coefficients.
    fn naive(outcome: &Outcome, columns: &[Vec<f64>], b: &[f64]) -> f64 {
        let mut sum = 0.0;
        for i in 0..outcome.trials.len() {
            let score = b[0] + columns.iter().zip(&b[1..]).map(|(c, b)| c[i] * b).sum::<f64>();
            let p = 1.0 / (1.0 + (-score).exp());
            sum +=
                outcome.hits[i] * p.ln() + (outcome.trials[i] - outcome.hits[i]) * (1.0 - p).ln();
        }
        -2.0 * sum
    }

    #[test]
    fn no_neighbour_is_better_and_counts_are_repeated_rows() {
        let mut rng = Rng::new(3, 0);
        let n = 700;
        let columns: Vec<Vec<f64>> =
            (0..3).map(|_| (0..n).map(|_| rng.uniform() * 4.0 - 2.0).collect()).collect();
        let mut merged = Outcome::default();
        let mut single = Outcome::default();
        let mut long: Vec<Vec<f64>> = vec![Vec::new(); 3];
        for i in 0..n {
            let trials = 1 + rng.below(3);
            let mut hits = 0.0;
            for _ in 0..trials {
                let hit = f64::from(rng.uniform() < 1.0 / (1.0 + (-columns[0][i]).exp()));
                hits += hit;
                single.push(1.0, hit);
                long.iter_mut().zip(&columns).for_each(|(l, c)| l.push(c[i]));
            }
            merged.push(trials as f64, hits);
        }
        let mut logistic = Logistic::default();
        let best = deviance(logistic.fit(&merged, &columns, &[0.0; 4]));
        let b = logistic.coefficients.clone();
        close(best, naive(&merged, &columns, &b), 1e-12);
        for j in 0..4 {
            for by in [-1e-3, 1e-3] {
                let mut other = b.clone();
                other[j] += by;
                assert!(naive(&merged, &columns, &other) > best);
            }
        }
        close(deviance(logistic.fit(&single, &long, &[0.5, -0.5, 1.0, 0.0])), best, 1e-11);
    }

    #[test]
    fn separation_ends_with_the_limit_of_the_deviance() {
        let y = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let mut logistic = Logistic::default();
        let x = [vec![0.1, 0.2, 0.3, 0.9, 1.0, 1.1]];
        let complete = deviance(logistic.fit(&outcome(&y), &x, &[0.0, 0.0]));
        assert!((0.0..1e-8).contains(&complete), "{complete}");
        assert!(logistic.coefficients[1].is_finite() && logistic.coefficients[1] > 10.0);
        // One of the first side at x = 0 with the others; the rest alone at x = 1:
        // the limit is the deviance of the four at 0.
        let x = [vec![0.0, 0.0, 0.0, 0.0, 1.0, 1.0]];
        let quasi = deviance(logistic.fit(&outcome(&y), &x, &[0.0, 0.0]));
        close(quasi, -2.0 * (3.0 * 0.75f64.ln() + 0.25f64.ln()), 1e-8);
    }

    #[test]
    fn a_column_that_follows_from_the_others_is_told() {
        let y = [0.0, 1.0, 0.0, 1.0, 1.0];
        let (a, b) = (vec![1.0, 2.0, 5.0, 3.0, 0.0], vec![3.0, 3.0, 3.0, 3.0, 3.0]);
        let c: Vec<f64> = a.iter().map(|a| 0.1 * a - 7.0).collect();
        let mut logistic = Logistic::default();
        for columns in [vec![b], vec![a.clone(), c], vec![vec![0.0; 5]]] {
            let start = vec![0.0; columns.len() + 1];
            assert_eq!(logistic.fit(&outcome(&y), &columns, &start), Fitted::Dependent);
        }
        assert!(matches!(logistic.fit(&outcome(&y), &[a], &[0.0; 2]), Fitted::Deviance(_)));
    }
}
