//! Sums, means, variances and counts of nonzero values, by row or by column; and
//! which group each row belongs to.
//!
//! One pass. Memory: 32 bytes a column per partial, twice that with the values
//! before the logarithm, 100 bytes where the pass takes it; or 32 bytes a row.

mod columns;
mod counts;
pub mod groups;
mod rows;

pub use columns::{ColumnPartial, ColumnSummary, Columns};
pub(crate) use columns::{mean_and_variance, merge_columns};
pub use rows::{RowNumbers, RowSummary};

/// What rows or columns come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Sums.
    pub sum: Vec<f64>,
    /// Means.
    pub mean: Vec<f64>,
    /// Variances with one degree of freedom taken off; NaN below two values.
    pub var: Vec<f64>,
    /// Numbers of nonzero values that are stored.
    pub nonzero: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Ctx, Silent};
    use crate::matrix::memory::DenseRows;
    use crate::pass::run;
    use crate::transform::{Chain, Op, ScaleGenes, View};

    const VALUES: [f64; 12] = [1.0, 0.0, 3.0, 0.0, 0.0, 5.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0];

    fn summaries(chain: &Chain) -> (Summary, Summary) {
        let source = DenseRows::new(4, 3, &VALUES).unwrap();
        let view = View::new(4, 3, None, chain).unwrap();
        let ctx = Ctx::new(2, 1 << 30, std::env::temp_dir(), &Silent);
        let (rows, columns) = (RowSummary::new(&view), ColumnSummary::new(&view));
        (
            rows.finish(run(&source, &view, &ctx, "rows", &rows).unwrap()),
            columns
                .finish(&run(&source, &view, &ctx, "columns", &columns).unwrap())
                .unwrap()
                .values,
        )
    }

    #[test]
    fn sums_means_and_variances() {
        let (rows, columns) = summaries(&Chain::default());
        assert_eq!(rows.sum, [4.0, 5.0, 6.0, 0.0]);
        assert_eq!(rows.nonzero, [2, 1, 3, 0]);
        assert!((rows.var[0] - 7.0 / 3.0).abs() < 1e-15);
        assert_eq!(rows.var[2], 0.0);
        assert_eq!(columns.sum, [3.0, 2.0, 10.0]);
        assert_eq!(columns.mean, [0.75, 0.5, 2.5]);
        assert!((columns.var[2] - 13.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn standardised_zeros_count() {
        let scale = ScaleGenes {
            mean: vec![0.75, 0.5, 2.5],
            sd: vec![1.0, 2.0, 0.5],
            zero_center: true,
            max_value: None,
        };
        let (rows, columns) =
            summaries(&Chain { ops: vec![Op::Scale(scale.clone())], stored_log: None });
        for (row, sum) in rows.sum.iter().enumerate() {
            let want: f64 = (0..3).map(|g| scale.value(g, VALUES[row * 3 + g])).sum();
            assert!((sum - want).abs() < 1e-14);
        }
        for mean in columns.mean {
            assert!(mean.abs() < 1e-15);
        }
    }
}
