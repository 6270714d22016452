//! Columns of a design, centred within groups and orthonormal.

use crate::stats::dot::{dot, sum};

/// A column is explained by the groups and the columns before it where no more than this
/// share of its standard deviation is left, as in R's `lm()`.
const TOLERANCE: f64 = 1e-7;

/// An orthonormal basis of what some columns say within groups of rows.
///
/// # Numerics
/// Means in two passes; modified Gram-Schmidt, each column projected twice.
#[derive(Debug, Clone, PartialEq)]
pub struct DesignBasis {
    /// Rows of each group.
    pub sizes: Vec<u64>,
    /// The basis: a row beside the other, one value for each column.
    pub rows: Vec<f64>,
    /// For each column the mean of each group less that of all rows, in terms of the basis.
    pub between: Vec<Vec<f64>>,
    /// `sum q q'` over each group's rows, a square for each group.
    pub products: Vec<f64>,
}

/// A column that adds nothing to the groups and the columns before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collinear {
    /// Which one.
    pub column: usize,
    /// Whether it has one value only.
    pub is_constant: bool,
}

impl DesignBasis {
    /// Of `columns`, one value a row each, within `groups` of rows: codes from zero below
    /// `n_groups`, or empty for one group.
    ///
    /// # Errors
    /// The columns that add nothing.
    ///
    /// # Panics
    /// When lengths differ, or a code is out of bounds.
    pub fn new(
        columns: &[Vec<f64>],
        groups: &[u32],
        n_groups: usize,
        n_rows: usize,
    ) -> Result<Self, Vec<Collinear>> {
        assert!(columns.iter().all(|column| column.len() == n_rows), "one value a row");
        assert!(groups.is_empty() || groups.len() == n_rows, "one group a row");
        let group = |row: usize| groups.get(row).map_or(0, |&g| g as usize);
        let mut sizes = vec![0u64; n_groups];
        (0..n_rows).for_each(|row| sizes[group(row)] += 1);
        let mut basis: Vec<Vec<f64>> = Vec::new();
        let mut between: Vec<Vec<f64>> = Vec::new();
        let mut collinear = Vec::new();
        for (number, column) in columns.iter().enumerate() {
            let mut column = column.clone();
            let mean = centre(&mut column);
            let spread = dot(&column, &column).sqrt();
            let largest = column.iter().fold(mean.abs(), |most, x| most.max(x.abs()));
            let is_constant = spread <= 1e-14 * largest * (n_rows as f64).sqrt();
            let mut means = vec![0.0; n_groups];
            for _ in 0..2 {
                let mut sums = vec![0.0; n_groups];
                column.iter().enumerate().for_each(|(row, x)| sums[group(row)] += x);
                for (row, x) in column.iter_mut().enumerate() {
                    *x -= sums[group(row)] / sizes[group(row)] as f64;
                }
                for ((mean, sum), &n) in means.iter_mut().zip(&sums).zip(&sizes) {
                    *mean += sum / (n as f64).max(1.0);
                }
            }
            for _ in 0..2 {
                for (q, its_means) in basis.iter().zip(&between) {
                    let along = dot(q, &column);
                    column.iter_mut().zip(q).for_each(|(x, q)| *x -= along * q);
                    means.iter_mut().zip(its_means).for_each(|(x, q)| *x -= along * q);
                }
            }
            let left = dot(&column, &column).sqrt();
            if is_constant || left <= TOLERANCE * spread {
                collinear.push(Collinear { column: number, is_constant });
                continue;
            }
            column.iter_mut().chain(&mut means).for_each(|x| *x /= left);
            basis.push(column);
            between.push(means);
        }
        if !collinear.is_empty() {
            return Err(collinear);
        }
        let p = basis.len();
        let mut rows = Vec::with_capacity(n_rows * p);
        let mut products = vec![0.0; n_groups * p * p];
        for row in 0..n_rows {
            rows.extend(basis.iter().map(|q| q[row]));
            let values = &rows[row * p..];
            let square = &mut products[group(row) * p * p..][..p * p];
            for (a, into) in values.iter().zip(square.chunks_mut(p.max(1))) {
                into.iter_mut().zip(values).for_each(|(sum, b)| *sum += a * b);
            }
        }
        Ok(DesignBasis { sizes, rows, between, products })
    }
}

/// Takes the mean off and returns it.
fn centre(column: &mut [f64]) -> f64 {
    let n = (column.len() as f64).max(1.0);
    let mut mean = 0.0;
    for _ in 0..2 {
        let off = sum(column) / n;
        for x in column.iter_mut() {
            *x -= off;
        }
        mean += off;
    }
    mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;

    fn columns(n: usize) -> Vec<Vec<f64>> {
        let mut rng = Rng::new(5, 0);
        let depth: Vec<f64> = (0..n).map(|_| 1e5 + rng.uniform()).collect();
        let share: Vec<f64> = depth.iter().map(|x| x * 3.0 + rng.uniform()).collect();
        vec![depth, share]
    }

    #[test]
    fn basis_is_centred_and_orthonormal_and_spans_the_columns() {
        let n = 60;
        let groups: Vec<u32> = (0..n as u32).map(|row| row % 3).collect();
        let columns = columns(n);
        let basis = DesignBasis::new(&columns, &groups, 3, n).unwrap();
        assert_eq!(basis.sizes, [20, 20, 20]);
        for a in 0..2 {
            for g in 0..3 {
                let mean: f64 =
                    (0..n).filter(|row| row % 3 == g).map(|row| basis.rows[row * 2 + a]).sum();
                assert!(mean.abs() < 1e-14);
            }
            for b in 0..2 {
                let product: f64 =
                    (0..n).map(|row| basis.rows[row * 2 + a] * basis.rows[row * 2 + b]).sum();
                assert!((product - f64::from(u8::from(a == b))).abs() < 1e-14);
            }
        }
        // Means of groups move along: a column less its mean is basis plus `between`.
        let mean = columns[0].iter().sum::<f64>() / n as f64;
        let length: f64 = (0..n).map(|row| basis.rows[row * 2] * (columns[0][row] - mean)).sum();
        for (row, value) in columns[0].iter().enumerate() {
            let back = length * (basis.rows[row * 2] + basis.between[0][row % 3]);
            assert!((back - (value - mean)).abs() < 1e-9, "row {row}");
        }
    }

    #[test]
    fn columns_that_add_nothing_are_named() {
        let n = 12;
        let groups: Vec<u32> = (0..n as u32).map(|row| row / 6).collect();
        let by_group: Vec<f64> = groups.iter().map(|&g| f64::from(g) * 7.1).collect();
        let line: Vec<f64> = (0..n).map(|row| row as f64 * 0.3).collect();
        let twice: Vec<f64> = line.iter().map(|x| 2.0 * x + 1.0).collect();
        let columns = vec![vec![0.1; n], line, by_group, twice];
        let found = DesignBasis::new(&columns, &groups, 2, n).unwrap_err();
        let expected = [(0, true), (2, false), (3, false)];
        let found: Vec<_> = found.iter().map(|c| (c.column, c.is_constant)).collect();
        assert_eq!(found, expected);
    }
}
