//! Moments of every group and gene: what t-tests, fold changes and percentages
//! come from.

use serde::{Deserialize, Serialize};

use super::group_pass::Accumulate;
use crate::stats::moments::Moments;

/// Moments of a gene's nonzero values in one group, and the sum of the same
/// values before the logarithm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupMoments {
    /// Of the values.
    pub values: Moments,
    /// Sum of the values before the logarithm.
    pub linear: f64,
}

impl Accumulate for GroupMoments {
    #[inline]
    fn push(&mut self, value: f64, linear: f64) {
        self.values.push(value);
        self.linear += linear;
    }

    fn merge(&mut self, later: &Self) {
        self.values.merge(&later.values);
        self.linear += later.linear;
    }
}

/// Sum and number of a gene's nonzero values in one group.
///
/// # Numerics
/// Sums of integers are exact below 2^53.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupSum {
    /// Sum of the values.
    pub sum: f64,
    /// Number of nonzero values; a group has fewer than 2^32 cells.
    pub n: u32,
    /// How many of them are no counts: negative or not whole.
    pub odd: u32,
}

impl Accumulate for GroupSum {
    #[inline]
    fn push(&mut self, value: f64, _linear: f64) {
        self.sum += value;
        self.n += 1;
        // A value past 2^63 is whole, but no longer exact.
        self.odd += u32::from(value < 0.0 || (value as i64) as f64 != value);
    }

    fn merge(&mut self, later: &Self) {
        self.sum += later.sum;
        self.n += later.n;
        self.odd += later.odd;
    }
}
