//! Means by group and slopes along a basis, for every gene, in one pass.
//!
//! Memory: for each gene 32 bytes a group and 8 a column (of each group, where those are
//! told apart), for every partial in work. Genes that are too many are fitted in slices.

use serde::{Deserialize, Serialize};

use super::basis::DesignBasis;
use crate::error::Result;
use crate::matrix::RowBlock;
use crate::pass::Pass;
use crate::stats::moments::Moments;

/// Fits the columns of a view.
///
/// # Numerics
/// Shifted moments of the nonzero values, zeros in closed form. The basis is centred, so
/// that products with it are those of centred values.
pub struct FitPass<'d> {
    n_vars: usize,
    groups: &'d [u32],
    basis: &'d DesignBasis,
    n_columns: usize,
    by_group: bool,
}

/// Sums over some rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FitPartial {
    /// Genes of the first group, of the second ...
    moments: Vec<Moments>,
    /// For each group, or all of them together, and gene: products with the columns.
    products: Vec<f64>,
}

/// The fit of all genes; a gene beside the other within each group and column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fit {
    /// Mean of each group.
    pub mean: Vec<f64>,
    /// Sum of squared deviations from it.
    pub squares: Vec<f64>,
    /// Products with each column: of all cells, or of each group.
    pub products: Vec<f64>,
}

impl<'d> FitPass<'d> {
    /// For a view with `n_vars` genes whose rows have these groups and this basis.
    #[must_use]
    pub fn new(n_vars: usize, groups: &'d [u32], basis: &'d DesignBasis, by_group: bool) -> Self {
        FitPass { n_vars, groups, basis, n_columns: basis.between.len(), by_group }
    }

    fn n_groups(&self) -> usize {
        self.basis.sizes.len()
    }

    fn n_products(&self) -> usize {
        self.n_vars * self.n_columns * if self.by_group { self.n_groups() } else { 1 }
    }

    /// The fit.
    #[must_use]
    pub fn finish(&self, partial: &FitPartial) -> Fit {
        let mut fit = Fit::default();
        let none = Moments::default();
        for (group, &n) in self.basis.sizes.iter().enumerate() {
            for gene in 0..self.n_vars {
                let moments = partial.moments.get(group * self.n_vars + gene).unwrap_or(&none);
                let whole = moments.with_zeros(n.max(moments.n()));
                let freedom = n.saturating_sub(1) as f64;
                fit.mean.push(whole.mean);
                fit.squares.push(if n < 2 { 0.0 } else { whole.var * freedom });
            }
        }
        fit.products = vec![0.0; self.n_products()];
        let genes = self.n_vars * self.n_columns;
        for (into, from) in
            fit.products.chunks_mut(genes.max(1)).zip(partial.products.chunks(genes.max(1)))
        {
            for (gene, products) in from.chunks(self.n_columns).enumerate() {
                for (column, product) in products.iter().enumerate() {
                    into[column * self.n_vars + gene] = *product;
                }
            }
        }
        fit
    }
}

impl Pass for FitPass<'_> {
    type Partial = FitPartial;

    fn empty(&self) -> FitPartial {
        FitPartial::default()
    }

    fn partial_bytes(&self) -> usize {
        self.n_groups() * self.n_vars * size_of::<Moments>() + 8 * self.n_products()
    }

    fn fold(&self, block: &RowBlock, partial: &mut FitPartial) -> Result<()> {
        let (n_vars, p) = (self.n_vars, self.n_columns);
        partial.moments.resize(self.n_groups() * n_vars, Moments::default());
        partial.products.resize(self.n_products(), 0.0);
        for (r, &row) in block.rows.iter().enumerate() {
            let (columns, values) = block.row(r);
            let group = self.groups.get(row).map_or(0, |&group| group as usize);
            let moments = &mut partial.moments[group * n_vars..(group + 1) * n_vars];
            for (&gene, &value) in columns.iter().zip(values) {
                if value != 0.0 {
                    moments[gene as usize].push(value);
                }
            }
            if p == 0 {
                continue;
            }
            let design = &self.basis.rows[row * p..(row + 1) * p];
            let first = if self.by_group { group * n_vars * p } else { 0 };
            let products = &mut partial.products[first..first + n_vars * p];
            for (&gene, &value) in columns.iter().zip(values) {
                let into = &mut products[gene as usize * p..(gene as usize + 1) * p];
                into.iter_mut().zip(design).for_each(|(sum, d)| *sum += d * value);
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut FitPartial, from: FitPartial) {
        if into.moments.is_empty() {
            *into = from;
            return;
        }
        into.moments.iter_mut().zip(&from.moments).for_each(|(a, b)| a.merge(b));
        into.products.iter_mut().zip(&from.products).for_each(|(a, b)| *a += b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::testing::Matrix;
    use crate::pass::testing::run_every_way_in;
    use crate::transform::{Chain, View};

    #[test]
    fn sums_of_every_group_and_column() {
        let (n, g) = (61, 12);
        let matrix = Matrix::counts(n, g, 9);
        let rows: Vec<usize> = (0..n + 9).map(|at| (at * 7) % n).collect();
        let groups: Vec<u32> = (0..rows.len() as u32).map(|at| at % 3).collect();
        let columns: Vec<Vec<f64>> = (1..3)
            .map(|k| (0..rows.len()).map(|at| ((at * at * k) % 17) as f64).collect())
            .collect();
        let basis = DesignBasis::new(&columns, &groups, 3, rows.len()).unwrap();
        let view = View::new(n, g, Some(&rows), &Chain::default()).unwrap();
        for by_group in [false, true] {
            let pass = FitPass::new(g, &groups, &basis, by_group);
            let fit = pass.finish(&run_every_way_in(&matrix, &view, &pass));
            for gene in 0..g {
                let value = |at: usize| matrix.dense[rows[at]][gene];
                for group in 0..3 {
                    let cells: Vec<usize> = (group..rows.len()).step_by(3).collect();
                    let mean = cells.iter().map(|&at| value(at)).sum::<f64>() / cells.len() as f64;
                    let squares: f64 = cells.iter().map(|&at| (value(at) - mean).powi(2)).sum();
                    assert!((fit.mean[group * g + gene] - mean).abs() < 1e-12);
                    assert!((fit.squares[group * g + gene] - squares).abs() < 1e-9);
                    for column in 0..2 {
                        let of = |at: &usize| basis.rows[at * 2 + column] * value(*at);
                        let (want, at) = if by_group {
                            (cells.iter().map(of).sum::<f64>(), (group * 2 + column) * g + gene)
                        } else {
                            ((0..rows.len()).map(|at| of(&at)).sum(), column * g + gene)
                        };
                        assert!((fit.products[at] - want).abs() < 1e-11);
                    }
                }
            }
        }
    }
}
