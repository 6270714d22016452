//! What else is known of the cells when a gene is tested: columns of numbers whose
//! share of the groups is accounted for first.
//!
//! Cells with the same values are one *pattern*. Where patterns are few, as with
//! batches, all zeros of a gene in a pattern count as one observation; where every
//! cell is its own, as with a measured covariate, nothing is lost.
//!
//! Memory: 4 bytes a cell; 8 bytes a pattern and column.

use std::collections::HashMap;

use super::groups::{Groups, NONE};
use crate::error::{Error, Result};
use crate::stats::dot::dot;

/// Share of a column's variance that those before it must leave unexplained.
const UNEXPLAINED: f64 = 1e-10;

/// The latent columns of the cells, pattern by pattern.
#[derive(Debug, Clone)]
pub struct Latent {
    /// Pattern of each cell, [`NONE`] for those without a group.
    pattern: Vec<u32>,
    /// Columns over the patterns.
    columns: Vec<Vec<f64>>,
    n_patterns: usize,
}

impl Latent {
    /// `columns` have a value for each cell of `groups`; without any, all cells are
    /// one pattern.
    ///
    /// # Errors
    /// When lengths differ, or a cell with a group has a value that is not finite.
    pub fn new(columns: &[&[f64]], groups: &Groups, n_obs: usize) -> Result<Self> {
        groups.check_rows(n_obs)?;
        if columns.iter().any(|column| column.len() != n_obs) {
            return Err(invalid("must have a value for each cell"));
        }
        let mut known: HashMap<Vec<u64>, u32> = HashMap::new();
        let mut latent = Latent {
            pattern: vec![NONE; n_obs],
            columns: vec![Vec::new(); columns.len()],
            n_patterns: 0,
        };
        let mut key = Vec::with_capacity(columns.len());
        for cell in (0..n_obs).filter(|&cell| groups.of(cell) != NONE) {
            key.clear();
            for (j, column) in columns.iter().enumerate() {
                let value = column[cell];
                if !value.is_finite() {
                    let message = format!("column {} is {value} in cell {}", j + 1, cell + 1);
                    return Err(invalid(&message));
                }
                // One zero.
                key.push((value + 0.0).to_bits());
            }
            latent.pattern[cell] = if let Some(&pattern) = known.get(&key) {
                pattern
            } else {
                let pattern = latent.n_patterns as u32;
                known.insert(key.clone(), pattern);
                latent.n_patterns += 1;
                for (values, column) in latent.columns.iter_mut().zip(columns) {
                    values.push(column[cell]);
                }
                pattern
            };
        }
        Ok(latent)
    }

    /// Number of patterns.
    #[must_use]
    pub fn n_patterns(&self) -> usize {
        self.n_patterns
    }

    /// Pattern of a cell that has a group.
    #[must_use]
    pub fn of(&self, cell: usize) -> u32 {
        self.pattern[cell]
    }

    /// The columns over the patterns.
    #[must_use]
    pub fn columns(&self) -> &[Vec<f64>] {
        &self.columns
    }
}

/// The columns that do not follow from those before them, by number, each centred
/// and scaled over `weights` observations of every row.
///
/// A column follows from others when they leave less than 1e-10 of its variance; a
/// constant one follows from the intercept.
#[must_use]
pub fn independent<C: AsRef<[f64]>>(columns: &[C], weights: &[f64]) -> Vec<(usize, Vec<f64>)> {
    let n: f64 = weights.iter().sum();
    let mut kept: Vec<(usize, Vec<f64>)> = Vec::new();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for (j, column) in columns.iter().enumerate() {
        let column = column.as_ref();
        let mean = dot(column, weights) / n;
        let mut scaled: Vec<f64> = column.iter().map(|x| x - mean).collect();
        let spread = (weighted(&scaled, &scaled, weights) / n).sqrt();
        let largest = column.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        if spread.is_nan() || spread <= 1e-13 * largest {
            continue;
        }
        for x in &mut scaled {
            *x /= spread;
        }
        // Twice, as rounding leaves a little of the others the first time.
        let mut rest = scaled.clone();
        for _ in 0..2 {
            for other in &basis {
                let share = weighted(&rest, other, weights) / n;
                rest.iter_mut().zip(other).for_each(|(x, b)| *x -= share * b);
            }
        }
        let left = weighted(&rest, &rest, weights) / n;
        if left > UNEXPLAINED {
            let length = left.sqrt();
            for x in &mut rest {
                *x /= length;
            }
            basis.push(rest);
            kept.push((j, scaled));
        }
    }
    kept
}

fn weighted(a: &[f64], b: &[f64], weights: &[f64]) -> f64 {
    a.iter().zip(b).zip(weights).map(|((a, b), w)| w * a * b).sum()
}

fn invalid(message: &str) -> Error {
    Error::InvalidInput { argument: "latent", message: format!("latent columns: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_equal_values_share_a_pattern() {
        let groups = Groups::new(vec![0, 1, NONE, 0, 1], 2).unwrap();
        let (a, b) = ([1.0, 0.0, f64::NAN, 1.0, -0.0], [5.0, 2.0, 3.0, 5.0, 2.0]);
        let latent = Latent::new(&[&a, &b], &groups, 5).unwrap();
        assert_eq!(latent.n_patterns(), 2);
        assert_eq!([0, 1, 3, 4].map(|cell| latent.of(cell)), [0, 1, 0, 1]);
        assert_eq!(latent.columns(), [vec![1.0, 0.0], vec![5.0, 2.0]]);
        let none = Latent::new(&[], &groups, 5).unwrap();
        assert_eq!(none.n_patterns(), 1);
    }

    #[test]
    fn bad_columns_are_errors() {
        let groups = Groups::new(vec![0, 1], 2).unwrap();
        assert!(Latent::new(&[&[1.0]], &groups, 2).is_err());
        let error = Latent::new(&[&[1.0, f64::NAN]], &groups, 2).unwrap_err();
        assert!(error.to_string().contains("column 1 is NaN in cell 2"), "{error}");
    }

    #[test]
    fn columns_that_follow_are_left_out() {
        let a = vec![1.0, 2.0, 3.0, 4.0, 9.0];
        let constant = vec![0.1; 5];
        let b = vec![0.0, 1.0, 0.0, 1.0, 1.0];
        let sum: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 1e6 * a - b + 3.0).collect();
        let near: Vec<f64> = b.iter().zip(&a).map(|(b, a)| b + 1e-4 * a * a).collect();
        let columns = [constant, a, b, sum, near];
        let kept = independent(&columns, &[1.0; 5]);
        assert_eq!(kept.iter().map(|(j, _)| *j).collect::<Vec<_>>(), [1, 2, 4]);
        // Rows without observations do not count.
        let kept = independent(&columns, &[2.0, 3.0, 0.0, 0.0, 0.0]);
        assert_eq!(kept.len(), 1);
        let mean: f64 = kept[0].1[0] * 2.0 + kept[0].1[1] * 3.0;
        assert!(mean.abs() < 1e-14);
    }
}
