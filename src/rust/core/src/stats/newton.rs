//! Minimising a smooth convex function of many variables.
//!
//! Newton's method whose steps come from conjugate gradients, so that of the
//! matrix of second derivatives only products are needed: far from the minimum a
//! step is rough and cheap, near it exact (Dembo & Steihaug 1983; Nocedal &
//! Wright 2006, chapter 7). Steps that do not lower the function are halved.
//!
//! Limited-memory BFGS takes about as many looks at the data, but ends where
//! differences of the function drown in rounding; here the gradient decides.

use super::dot::dot;

/// A convex function, by what a look at the data gives.
pub trait Objective {
    /// What can go wrong.
    type Error;

    /// The value at `x`; writes the gradient.
    ///
    /// # Errors
    /// When the data can't be read.
    fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> Result<f64, Self::Error>;

    /// Writes the product of `direction` with the second derivatives at the point
    /// that was evaluated last.
    ///
    /// # Errors
    /// When the data can't be read.
    fn product(&mut self, direction: &[f64], product: &mut [f64]) -> Result<(), Self::Error>;

    /// Writes about the diagonal of the second derivatives at the point that was
    /// evaluated last, positive.
    fn diagonal(&self, diagonal: &mut [f64]);
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The Euclidean norm of the gradient that is small enough.
    pub gradient: f64,
    /// Evaluations and products at most.
    pub looks: usize,
}

/// Where the search ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Minimum {
    /// The point.
    pub x: Vec<f64>,
    /// The function there.
    pub value: f64,
    /// The norm of the gradient there; within the limit unless the looks ran out or
    /// rounding hid any further descent.
    pub gradient: f64,
    /// Evaluations and products that it took.
    pub looks: usize,
}

/// Residual of a step relative to the gradient, at most.
const ROUGHEST: f64 = 0.1;
/// Descent that a step has to bring, as a share of what its slope promises.
const DESCENT: f64 = 1e-4;
/// Relative differences of the function below this are rounding.
const NOISE: f64 = 1e-12;
/// Halvings of a step before the search gives up.
const HALVINGS: usize = 40;

/// Searches the minimum from `start`.
///
/// # Errors
/// What the objective reports.
///
/// # Numerics
/// Sequential; the bits depend on those of the objective alone. Where second
/// derivatives are at least `m` everywhere, every variable is within
/// `gradient / m` of the minimum.
pub fn minimize<O: Objective>(
    objective: &mut O,
    start: Vec<f64>,
    limits: Limits,
) -> Result<Minimum, O::Error> {
    let n = start.len();
    let mut x = start;
    let mut gradient = vec![0.0; n];
    let mut value = objective.evaluate(&x, &mut gradient)?;
    let mut norm = length(&gradient);
    let first = norm;
    let mut looks = 1;
    let (mut next, mut next_gradient) = (vec![0.0; n], vec![0.0; n]);
    let mut solver = Solver::new(n);
    while norm > limits.gradient && looks < limits.looks {
        let rough = ROUGHEST.min((norm / first).sqrt());
        let enough = (rough * norm).max(0.5 * limits.gradient);
        looks += solver.solve(objective, &gradient, enough, limits.looks - looks)?;
        let slope = dot(&gradient, &solver.step);
        let mut share = 1.0;
        let mut moved = false;
        for _ in 0..HALVINGS {
            for ((next, x), step) in next.iter_mut().zip(&x).zip(&solver.step) {
                *next = x + share * step;
            }
            let there = objective.evaluate(&next, &mut next_gradient)?;
            looks += 1;
            let next_norm = length(&next_gradient);
            let hidden = (there - value).abs() <= NOISE * value.abs();
            moved =
                if hidden { next_norm < norm } else { there <= value + DESCENT * share * slope };
            if moved {
                (value, norm) = (there, next_norm);
            }
            if moved || hidden {
                break;
            }
            share *= 0.5;
        }
        if !moved {
            break;
        }
        std::mem::swap(&mut x, &mut next);
        std::mem::swap(&mut gradient, &mut next_gradient);
    }
    Ok(Minimum { x, value, gradient: norm, looks })
}

/// Conjugate gradients for a Newton step, scaled by the diagonal.
struct Solver {
    step: Vec<f64>,
    diagonal: Vec<f64>,
    residual: Vec<f64>,
    direction: Vec<f64>,
    product: Vec<f64>,
}

impl Solver {
    fn new(n: usize) -> Self {
        let zeros = || vec![0.0; n];
        Solver {
            step: zeros(),
            diagonal: zeros(),
            residual: zeros(),
            direction: zeros(),
            product: zeros(),
        }
    }

    /// Solves for the step to a residual of `enough`; returns the products taken.
    fn solve<O: Objective>(
        &mut self,
        objective: &mut O,
        gradient: &[f64],
        enough: f64,
        most: usize,
    ) -> Result<usize, O::Error> {
        objective.diagonal(&mut self.diagonal);
        self.step.fill(0.0);
        for (residual, g) in self.residual.iter_mut().zip(gradient) {
            *residual = -g;
        }
        for i in 0..self.direction.len() {
            self.direction[i] = self.residual[i] / self.diagonal[i];
        }
        let mut scaled = dot(&self.residual, &self.direction);
        let mut taken = 0;
        while taken < most.max(1) {
            objective.product(&self.direction, &mut self.product)?;
            taken += 1;
            let curvature = dot(&self.direction, &self.product);
            // Only rounding makes it otherwise.
            if curvature.is_nan() || curvature <= 0.0 {
                break;
            }
            let share = scaled / curvature;
            for i in 0..self.step.len() {
                self.step[i] += share * self.direction[i];
                self.residual[i] -= share * self.product[i];
            }
            if length(&self.residual) <= enough {
                break;
            }
            // The product's memory serves for the scaled residual.
            for i in 0..self.step.len() {
                self.product[i] = self.residual[i] / self.diagonal[i];
            }
            let next = dot(&self.residual, &self.product);
            let turn = next / scaled;
            scaled = next;
            for (direction, scaled) in self.direction.iter_mut().zip(&self.product) {
                *direction = scaled + turn * *direction;
            }
        }
        Ok(taken)
    }
}

fn length(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// `sum_i ln cosh(x_i - i) + x' A x / 2` with A of constant off-diagonals.
    struct Bowl {
        n: usize,
        x: Vec<f64>,
    }

    impl Bowl {
        const TIE: f64 = 0.3;

        fn scale(i: usize) -> f64 {
            10f64.powi((i % 5) as i32 - 2)
        }
    }

    impl Objective for Bowl {
        type Error = Infallible;

        fn evaluate(&mut self, x: &[f64], gradient: &mut [f64]) -> Result<f64, Infallible> {
            self.x = x.to_vec();
            let sum: f64 = x.iter().sum();
            let mut value = 0.5 * Self::TIE * sum * sum;
            for (i, (&x, g)) in x.iter().zip(gradient).enumerate() {
                let away = x - i as f64;
                value += away.abs() + (-2.0 * away.abs()).exp().ln_1p() - 2f64.ln()
                    + 0.5 * Self::scale(i) * x * x;
                *g = away.tanh() + Self::scale(i) * x + Self::TIE * sum;
            }
            Ok(value)
        }

        fn product(&mut self, v: &[f64], product: &mut [f64]) -> Result<(), Infallible> {
            let sum: f64 = v.iter().sum();
            for (i, out) in product.iter_mut().enumerate() {
                let tanh = (self.x[i] - i as f64).tanh();
                *out = (1.0 - tanh * tanh + Self::scale(i)) * v[i] + Self::TIE * sum;
            }
            Ok(())
        }

        fn diagonal(&self, diagonal: &mut [f64]) {
            for (i, d) in diagonal.iter_mut().enumerate() {
                *d = Self::scale(i) + Self::TIE;
            }
        }
    }

    #[test]
    fn finds_the_minimum() {
        let mut bowl = Bowl { n: 37, x: Vec::new() };
        let limits = Limits { gradient: 1e-10, looks: 1000 };
        let start: Vec<f64> = (0..bowl.n).map(|i| (i as f64 * 7.0).sin() * 50.0).collect();
        let found = minimize(&mut bowl, start, limits).unwrap();
        assert!(found.gradient <= 1e-10, "{}", found.gradient);
        assert!(found.looks < 200, "{}", found.looks);
        // From elsewhere to the same place.
        let other = minimize(&mut bowl, vec![0.0; 37], limits).unwrap();
        for (a, b) in found.x.iter().zip(&other.x) {
            assert!((a - b).abs() < 1e-8, "{a} {b}");
        }
        // Already there.
        let again = minimize(&mut bowl, found.x.clone(), limits).unwrap();
        assert_eq!(again.looks, 1);
        assert_eq!(again.x, found.x);
    }

    #[test]
    fn looks_are_limited_and_reported() {
        let mut bowl = Bowl { n: 37, x: Vec::new() };
        let limits = Limits { gradient: 1e-10, looks: 6 };
        let found = minimize(&mut bowl, vec![30.0; 37], limits).unwrap();
        assert!(found.gradient > 1e-10);
        assert!(found.looks >= 6 && found.looks <= 6 + HALVINGS, "{}", found.looks);
    }

    #[test]
    fn asking_for_more_than_rounding_gives_ends() {
        let mut bowl = Bowl { n: 37, x: Vec::new() };
        let limits = Limits { gradient: 0.0, looks: 100_000 };
        let found = minimize(&mut bowl, vec![30.0; 37], limits).unwrap();
        assert!(found.gradient < 1e-11, "{}", found.gradient);
        assert!(found.looks < 10_000, "{}", found.looks);
    }

    #[test]
    fn nothing_to_vary() {
        let mut bowl = Bowl { n: 0, x: Vec::new() };
        let limits = Limits { gradient: 1e-10, looks: 10 };
        assert_eq!(minimize(&mut bowl, Vec::new(), limits).unwrap().looks, 1);
    }
}
