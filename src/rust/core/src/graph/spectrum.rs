//! Leading eigenpairs of large transition matrices in little memory.
//!
//! Problem: Lanczos without restart needs some hundred vectors where eigenvalues lie
//! close together, which for a million cells is gigabytes. Solution: filter a block of
//! few vectors more than are wanted by Chebyshev polynomials, which damp what lies
//! below the block's smallest Ritz value (Zhou & Saad 2007), until residuals are small.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::transitions::Transitions;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::stats::linalg::{Eigen, fix_signs, sym_eigen_top_k};
use crate::stats::random::Rng;

/// Seed of the first block.
const SEED: u64 = 0xd1f;

/// Rounds after which a filter is given up.
const ROUNDS: usize = 300;

/// The largest degree of a polynomial.
const DEGREE: f64 = 60.0;

/// How much a round shall lift the last wanted vector over the unwanted ones, and at
/// most lifts the first: beyond, vectors would become parallel.
const LIFT: (f64, f64) = (1e2, 1e6);

/// The `k` largest eigenpairs of a symmetric matrix whose eigenvalues lie in [-1, 1],
/// with residuals up to `tolerance`.
///
/// Memory: `8 n (4 k + 16)` bytes.
///
/// # Numerics
/// The same bits for any number of threads; faer's kernels differ between kinds of
/// processors.
///
/// # Errors
/// [`Error::NotConverged`], and when `ctx` stops.
pub(super) fn leading(matrix: &Transitions, k: usize, tolerance: f64, ctx: &Ctx) -> Result<Eigen> {
    let n = matrix.len();
    let width = n.min(2 * k + 8);
    let mut basis = vec![0.0; n * width];
    for (i, row) in basis.chunks_mut(width).enumerate() {
        let mut rng = Rng::new(SEED, i as u64);
        for value in row {
            *value = rng.uniform() - 0.5;
        }
    }
    let mut image = vec![0.0; n * width];
    let mut worst = f64::INFINITY;
    for _ in 0..ROUNDS {
        // Once for the directions, once more for the digits.
        orthonormalize(&mut basis, width);
        orthonormalize(&mut basis, width);
        matrix.step(&basis, &mut image, [1.0, 0.0, 0.0], ctx)?;
        let ritz = sym_eigen_top_k(&inner(&basis, &image, width), width, width);
        rotate(&mut basis, &ritz.vectors, width);
        rotate(&mut image, &ritz.vectors, width);
        worst = largest_residual(&basis, &image, &ritz.values[..k], width);
        if worst <= tolerance {
            drop(image);
            let mut vectors: Vec<f64> =
                (0..k).flat_map(|j| basis.chunks(width).map(move |row| row[j])).collect();
            fix_signs(&mut vectors, n);
            return Ok(Eigen { values: ritz.values[..k].to_vec(), vectors });
        }
        filter(matrix, &mut basis, &mut image, &ritz.values, k, ctx)?;
    }
    Err(Error::NotConverged {
        message: format!(
            "the components of the graph did not converge: residuals are {worst:.1e}, above {tolerance:.1e}"
        ),
    })
}

/// X'Y of two blocks with vectors in rows, symmetric but for rounding.
fn inner(x: &[f64], y: &[f64], m: usize) -> Vec<f64> {
    let n = x.len() / m;
    let mut product = vec![0.0; m * m];
    matmul(
        MatMut::from_row_major_slice_mut(&mut product, m, m),
        Accum::Replace,
        MatRef::from_row_major_slice(x, n, m).transpose(),
        MatRef::from_row_major_slice(y, n, m),
        1.0,
        Par::Seq,
    );
    for i in 0..m {
        for j in 0..i {
            let mean = f64::midpoint(product[i * m + j], product[j * m + i]);
            product[i * m + j] = mean;
            product[j * m + i] = mean;
        }
    }
    product
}

/// X V for V in columns, row by row in place.
fn rotate(x: &mut [f64], v: &[f64], m: usize) {
    let mut turned = vec![0.0; m];
    for row in x.chunks_mut(m) {
        for (to, column) in turned.iter_mut().zip(v.chunks(m)) {
            *to = row.iter().zip(column).map(|(a, b)| a * b).sum();
        }
        row.copy_from_slice(&turned);
    }
}

/// Makes the vectors orthonormal without changing what they span.
fn orthonormalize(x: &mut [f64], m: usize) {
    let gram = inner(x, x, m);
    // Lengths first: they differ by the lift of the filter.
    let length: Vec<f64> = (0..m).map(|j| gram[j * m + j].sqrt().max(f64::MIN_POSITIVE)).collect();
    let scaled: Vec<f64> =
        (0..m * m).map(|at| gram[at] / length[at / m] / length[at % m]).collect();
    let eigen = sym_eigen_top_k(&scaled, m, m);
    let least = eigen.values[0] * f64::EPSILON;
    let mut v = eigen.vectors;
    for (column, value) in v.chunks_mut(m).zip(&eigen.values) {
        for (entry, length) in column.iter_mut().zip(&length) {
            *entry /= length * value.max(least).sqrt();
        }
    }
    rotate(x, &v, m);
}

fn largest_residual(x: &[f64], y: &[f64], values: &[f64], m: usize) -> f64 {
    let mut squares = vec![0.0; values.len()];
    for (x, y) in x.chunks(m).zip(y.chunks(m)) {
        for (j, square) in squares.iter_mut().enumerate() {
            let rest = y[j] - values[j] * x[j];
            *square += rest * rest;
        }
    }
    squares.iter().fold(0.0_f64, |most, s| most.max(s.sqrt()))
}

/// Applies a Chebyshev polynomial that is small on [-1, smallest Ritz value] and one at
/// the largest.
fn filter(
    matrix: &Transitions,
    x: &mut Vec<f64>,
    y: &mut Vec<f64>,
    ritz: &[f64],
    k: usize,
    ctx: &Ctx,
) -> Result<()> {
    let (low, high) = (-1.0, ritz[ritz.len() - 1].min(ritz[k - 1] - 1e-9));
    let (centre, half) = (f64::midpoint(low, high), (high - low) / 2.0);
    let growth = |value: f64| ((value - centre) / half).max(1.0 + 1e-12).acosh();
    let wanted = LIFT.0.ln() / growth(ritz[k - 1]);
    let allowed = LIFT.1.ln() / growth(ritz[0]);
    let degree = wanted.min(allowed).clamp(4.0, DEGREE) as usize;
    let first = half / (ritz[0] - centre);
    let mut sigma = first;
    matrix.step(x, y, [first / half, centre, 0.0], ctx)?;
    for _ in 1..degree {
        let next = 1.0 / (2.0 / first - sigma);
        matrix.step(y, x, [2.0 * next / half, centre, sigma * next], ctx)?;
        std::mem::swap(x, y);
        sigma = next;
    }
    std::mem::swap(x, y);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::ctx::Silent;
    use crate::stats::linalg::sym_eigen_top_k_with;

    /// Offsets, columns and values.
    type Stored = (Vec<u32>, Vec<u32>, Vec<f64>);

    /// A ring of unequal steps, whose eigenvalues crowd near one.
    fn ring(n: usize) -> Stored {
        let weight = |i: usize| 0.2 + 0.1 * ((i * 7919) % 13) as f64 / 13.0;
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        for i in 0..n {
            let before = (i + n - 1) % n;
            let mut row = [(before, weight(before)), ((i + 1) % n, weight(i))];
            row.sort_by_key(|entry| entry.0);
            columns.extend(row.map(|entry| entry.0 as u32));
            values.extend(row.map(|entry| entry.1));
        }
        ((0..=2 * n as u32).step_by(2).collect(), columns, values)
    }

    fn as_they_are((offsets, columns, values): &Stored) -> Transitions<'_> {
        Transitions { offsets, columns, values, scale: vec![1.0; offsets.len() - 1] }
    }

    #[test]
    fn pairs_are_those_of_lanczos() {
        let (n, k) = (400, 5);
        let graph = ring(n);
        let matrix = as_they_are(&graph);
        let ctx = Ctx::new(2, 1 << 30, PathBuf::new(), &Silent);
        let found = leading(&matrix, k, 1e-10, &ctx).unwrap();
        let wanted =
            sym_eigen_top_k_with(n, k, 4, |x, y| matrix.step(x, y, [1.0, 0.0, 0.0], &ctx)).unwrap();
        for j in 0..k {
            assert!((found.values[j] - wanted.values[j]).abs() < 1e-12, "value {j}");
            for at in j * n..(j + 1) * n {
                assert!((found.vectors[at] - wanted.vectors[at]).abs() < 1e-6, "vector {j}");
            }
        }
        let one = Ctx::new(1, 1 << 30, PathBuf::new(), &Silent);
        assert!(found == leading(&matrix, k, 1e-10, &one).unwrap());
    }

    #[test]
    fn a_tolerance_out_of_reach_is_an_error() {
        let ctx = Ctx::new(1, 1 << 30, PathBuf::new(), &Silent);
        let outcome = leading(&as_they_are(&ring(60)), 3, 1e-30, &ctx);
        assert!(matches!(outcome, Err(Error::NotConverged { .. })));
    }
}
