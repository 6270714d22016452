//! Fold changes, in the conventions of the field.

/// One side of a comparison: what fold changes and percentages need of a gene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// Cells.
    pub n: u64,
    /// Cells with a nonzero value.
    pub detected: u64,
    /// Sum of the values before the logarithm.
    pub linear: f64,
    /// Mean of the values as they are tested.
    pub mean: f64,
}

impl Side {
    /// Mean of the values before the logarithm.
    #[must_use]
    pub fn linear_mean(&self) -> f64 {
        self.linear / self.n as f64
    }

    /// Fraction of the cells with a nonzero value.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        self.detected as f64 / self.n as f64
    }
}

/// Sums over a gene's nonzero values in some cells.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// How many there are.
    pub detected: u64,
    /// Sum of the values as they are tested.
    pub values: f64,
    /// Sum of the values before the logarithm.
    pub linear: f64,
}

impl Sums {
    /// Adds a value that is not zero, and what it was before the logarithm.
    #[inline]
    pub fn push(&mut self, value: f64, linear: f64) {
        self.detected += 1;
        self.values += value;
        self.linear += linear;
    }

    /// With the sums over cells that come later.
    #[must_use]
    pub fn and(self, later: Sums) -> Sums {
        Sums {
            detected: self.detected + later.detected,
            values: self.values + later.values,
            linear: self.linear + later.linear,
        }
    }

    /// These cells as a side of `n` cells.
    #[must_use]
    pub fn side(self, n: u64) -> Side {
        Side { n, detected: self.detected, linear: self.linear, mean: self.values / n as f64 }
    }
}

/// How a log2 fold change is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FoldChange {
    /// `log2((m_g + c) / (m_r + c))` of the means before the logarithm.
    LinearMeans {
        /// The constant c.
        pseudocount: f64,
    },
    /// `log2((s_g + c) / n_g) - log2((s_r + c) / n_r)` of the sums before the
    /// logarithm, as Seurat 5 does: nonzero for a gene that no cell has, where
    /// the sides differ in size.
    LinearSums {
        /// The constant c.
        pseudocount: f64,
    },
    /// The same ratio of the fractions of cells with a nonzero value, each shrunk
    /// by one cell that has one and one that has not, scaled to the size of its
    /// side, as scran's `pairwiseBinom()` does.
    Detection,
    /// `log2((e_g + 1e-9) / (e_r + 1e-9))`, e being the exponentiated mean of the
    /// logarithms less one, as scanpy does.
    MeansOfLogs {
        /// Natural logarithm of the base.
        ln_base: f64,
    },
}

impl FoldChange {
    /// Of `group` against `reference`; zero where both are the same. `constant`
    /// says that all cells of both have one value: means that differ do so by
    /// rounding.
    #[must_use]
    pub fn log2(self, group: &Side, reference: &Side, constant: bool) -> f64 {
        let (above, below) = match self {
            FoldChange::LinearMeans { pseudocount } => {
                (group.linear_mean() + pseudocount, reference.linear_mean() + pseudocount)
            }
            FoldChange::LinearSums { pseudocount } => {
                let per_cell = |side: &Side| (side.linear + pseudocount) / side.n as f64;
                return (per_cell(group) / per_cell(reference)).log2();
            }
            FoldChange::Detection => {
                let mean = f64::midpoint(group.n as f64, reference.n as f64);
                let fraction = |side: &Side| {
                    let (n, shrink) = (side.n as f64, side.n as f64 / mean);
                    (side.detected as f64 + shrink) / (n + 2.0 * shrink)
                };
                (fraction(group), fraction(reference))
            }
            FoldChange::MeansOfLogs { ln_base } => {
                let unlog = |mean: f64| libm::expm1(mean * ln_base) + 1e-9;
                (unlog(group.mean), unlog(reference.mean))
            }
        };
        if constant || above == below { 0.0 } else { (above / below).log2() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(n: u64, linear: f64, mean: f64) -> Side {
        Side { n, detected: 1, linear, mean }
    }

    #[test]
    fn conventions() {
        let linear = FoldChange::LinearMeans { pseudocount: 0.5 };
        assert_eq!(linear.log2(&side(2, 7.0, 0.0), &side(4, 2.0, 0.0), false), 2.0);
        let logs = FoldChange::MeansOfLogs { ln_base: 1.0 };
        let got = logs.log2(&side(2, 0.0, 5f64.ln()), &side(4, 0.0, 2f64.ln()), false);
        assert!((got - 2.0).abs() < 1e-8, "{got}");
        // A gene absent from the reference, as scanpy has it.
        let got = logs.log2(&side(2, 0.0, 2f64.ln()), &side(4, 0.0, 0.0), false);
        assert!((got - 1e9f64.log2()).abs() < 1e-8, "{got}");
    }

    #[test]
    fn sums_differ_by_size_alone() {
        let sums = FoldChange::LinearSums { pseudocount: 1.0 };
        // log2((7 + 1) / 2) - log2((1 + 1) / 4)
        assert_eq!(sums.log2(&side(2, 7.0, 0.0), &side(4, 1.0, 0.0), false), 3.0);
        assert_eq!(sums.log2(&side(2, 0.0, 0.0), &side(8, 0.0, 0.0), true), 2.0);
    }

    #[test]
    fn absent_on_both_sides_is_no_change() {
        for fold_change in
            [FoldChange::LinearMeans { pseudocount: 0.0 }, FoldChange::MeansOfLogs { ln_base: 1.0 }]
        {
            assert_eq!(fold_change.log2(&side(2, 0.0, 0.0), &side(4, 0.0, 0.0), false), 0.0);
        }
    }
}
