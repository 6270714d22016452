//! Leading eigenpairs of a symmetric matrix.
//!
//! Small matrices, and those of which a large share is wanted, are decomposed
//! in full by faer. From a large one the leading subspace is taken by block
//! Lanczos, see `lanczos.rs`. Both are exact to rounding.
//!
//! Processor time on one core for n = 2000, k = 50, for the Gram matrix of noise
//! plus 15 factors: faer 1.2 s, Lanczos 0.4 s, at residuals of 2e-15 of the norm.

use std::convert::Infallible;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::lanczos::lanczos;

/// Vectors of one Lanczos block: one read of the matrix serves all of them,
/// but larger blocks need larger subspaces.
const BLOCK: usize = 4;

/// Rows of a tile of [`multiply`].
pub const TILE: usize = 256;

/// Eigenvalues and eigenvectors of a symmetric matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    /// The leading eigenvalues, descending.
    pub values: Vec<f64>,
    /// Their orthonormal eigenvectors, one after the other.
    pub vectors: Vec<f64>,
}

impl Eigen {
    fn none() -> Self {
        Self { values: Vec::new(), vectors: Vec::new() }
    }
}

/// The `k` algebraically largest eigenvalues of a symmetric matrix and their
/// vectors.
///
/// `a` holds the `n` rows one after the other. Signs are those of
/// [`fix_signs`]. Needs memory for about `n * (12 k + 100)` values beside `a`.
///
/// # Numerics
///
/// Residuals are within 1e-13 of the matrix norm. Sequential; the same matrix
/// gives the same bits, but faer's kernels differ between kinds of processors.
///
/// # Panics
///
/// If `a` is not n x n, `k` exceeds `n`, or a value is not finite.
#[must_use]
pub fn sym_eigen_top_k(a: &[f64], n: usize, k: usize) -> Eigen {
    assert_eq!(a.len(), n * n, "a is not n x n");
    assert!(k <= n, "more eigenpairs than rows");
    assert!(a.iter().all(|x| x.is_finite()), "a is not finite");
    // Below, the full decomposition is the faster one.
    if n < 500 || 10 * k > n {
        return full(a, n, k);
    }
    let Ok(eigen) = sym_eigen_top_k_with(n, k, BLOCK, |x, y| {
        multiply(a, x, y);
        Ok::<(), Infallible>(())
    });
    eigen
}

/// As [`sym_eigen_top_k`] for a matrix known by its products only.
///
/// `apply(x, y)` writes A x to `y` for at most `block` vectors at a time. `x`
/// and `y` hold them in rows: the entries of row i of all vectors stand
/// together, so that threads may own rows, and the number of vectors is
/// `x.len() / n`. Blocks of 4 suit a matrix in memory; where a product is a
/// pass over a file, blocks of `k` need fewer products in all.
///
/// # Numerics
///
/// As exact as the products. The bits depend on those of `apply` alone, which
/// must not let them depend on the number of threads. An eigenvalue of exact
/// multiplicity above `block` may come with fewer copies than it has.
///
/// # Errors
///
/// The first error of `apply`.
///
/// # Panics
///
/// If `k` exceeds `n`, `block` is zero, or a product is not finite.
pub fn sym_eigen_top_k_with<E>(
    n: usize,
    k: usize,
    block: usize,
    apply: impl FnMut(&[f64], &mut [f64]) -> Result<(), E>,
) -> Result<Eigen, E> {
    assert!(k <= n, "more eigenpairs than rows");
    assert!(block > 0, "an empty block");
    if k == 0 {
        return Ok(Eigen::none());
    }
    let mut eigen = lanczos(n, k, block, apply)?;
    fix_signs(&mut eigen.vectors, n);
    Ok(eigen)
}

/// Writes A x to `y` for a square matrix and a block of vectors, both in rows.
///
/// # Numerics
///
/// The rows go through [`multiply_rows`] in tiles of [`TILE`]. A caller that
/// gives the same tiles to its threads gets the same bits.
pub fn multiply(a: &[f64], x: &[f64], y: &mut [f64]) {
    let n = a.len().isqrt();
    if x.is_empty() {
        return;
    }
    let n_vectors = x.len() / n;
    for (rows, y) in a.chunks(TILE * n).zip(y.chunks_mut(TILE * n_vectors)) {
        multiply_rows(rows, n, x, y);
    }
}

/// Writes the product of some rows of A, of length `n`, and a block of vectors
/// to the same rows of the result, `y`.
pub fn multiply_rows(rows: &[f64], n: usize, x: &[f64], y: &mut [f64]) {
    let (n_rows, n_vectors) = (rows.len() / n, x.len() / n);
    matmul(
        MatMut::from_row_major_slice_mut(y, n_rows, n_vectors),
        Accum::Replace,
        MatRef::from_row_major_slice(rows, n_rows, n),
        MatRef::from_row_major_slice(x, n, n_vectors),
        1.0,
        Par::Seq,
    );
}

/// Makes the entry of largest absolute value in each vector positive; among
/// equals the first decides.
///
/// The vectors, of length `n`, stand one after the other.
pub fn fix_signs(vectors: &mut [f64], n: usize) {
    for vector in vectors.chunks_mut(n.max(1)) {
        let mut largest = 0.0_f64;
        for &x in vector.iter() {
            if x.abs() > largest.abs() {
                largest = x;
            }
        }
        if largest < 0.0 {
            for x in vector {
                *x = -*x;
            }
        }
    }
}

/// All eigenpairs, of which the `k` leading ones are returned.
fn full(a: &[f64], n: usize, k: usize) -> Eigen {
    if k == 0 {
        return Eigen::none();
    }
    let (values, basis) = decompose(MatRef::from_row_major_slice(a, n, n));
    let mut eigen = Eigen {
        values: values.iter().rev().take(k).copied().collect(),
        vectors: (0..k).flat_map(|j| basis.col(n - 1 - j).iter().copied()).collect(),
    };
    fix_signs(&mut eigen.vectors, n);
    eigen
}

/// All eigenvalues, ascending, and eigenvectors of a finite matrix of which the
/// lower triangle is read.
pub(super) fn decompose(a: MatRef<'_, f64>) -> (Vec<f64>, Mat<f64>) {
    let n = a.nrows();
    let mut values = vec![0.0; n];
    let mut vectors = Mat::zeros(n, n);
    let scratch = self_adjoint_evd_scratch::<f64>(
        n,
        ComputeEigenvectors::Yes,
        Par::Seq,
        faer::Spec::default(),
    );
    self_adjoint_evd(
        a,
        faer::diag::DiagMut::from_slice_mut(&mut values),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        faer::Spec::default(),
    )
    .expect("QR iterations converge on finite values");
    (values, vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::Rng;

    /// A Gram matrix of noise plus `n_factors` factors of falling strength: a
    /// few large eigenvalues above a Marchenko-Pastur bulk.
    fn gram(n: usize, n_samples: usize, n_factors: usize, seed: u64) -> Vec<f64> {
        let mut rng = Rng::new(seed, 0);
        // Sum of four uniforms: near enough to normal.
        let mut noise = move || (0..4).map(|_| rng.uniform()).sum::<f64>() - 2.0;
        let loadings = Mat::from_fn(n_factors, n, |i, _| noise() / (1 + i) as f64);
        let scores = Mat::from_fn(n_samples, n_factors, |_, _| noise());
        let x = Mat::from_fn(n_samples, n, |_, _| noise()) + scores * loadings;
        let a = x.transpose() * &x;
        (0..n * n).map(|i| a[(i / n, i % n)]).collect()
    }

    /// Asserts A v = lambda v and V'V = 1 to `tolerance` and the sign rule.
    fn check(a: &[f64], n: usize, eigen: &Eigen, tolerance: f64) {
        let k = eigen.values.len();
        assert_eq!(eigen.vectors.len(), n * k);
        assert!(eigen.values.is_sorted_by(|x, y| x >= y));
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let norm = dot(a, a).sqrt();
        for (j, &value) in eigen.values.iter().enumerate() {
            let vector = &eigen.vectors[j * n..][..n];
            let residual: f64 = a
                .chunks(n)
                .zip(vector)
                .map(|(row, x)| (dot(row, vector) - value * x).powi(2))
                .sum();
            assert!(residual.sqrt() <= tolerance * norm, "pair {j} of {n}");
            for l in 0..=j {
                let want = if l == j { 1.0 } else { 0.0 };
                let got = dot(vector, &eigen.vectors[l * n..][..n]);
                assert!((got - want).abs() <= tolerance, "vectors {l}, {j}: {got}");
            }
            let largest = vector.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
            let first = vector.iter().find(|x| x.abs() == largest);
            assert!(first.is_some_and(|&x| x > 0.0));
        }
    }

    fn by_lanczos(a: &[f64], n: usize, k: usize, block: usize) -> Eigen {
        sym_eigen_top_k_with(n, k, block, |x, y| {
            multiply(a, x, y);
            Ok::<(), Infallible>(())
        })
        .unwrap()
    }

    #[test]
    fn full_and_lanczos_agree() {
        let n = 600;
        let a = gram(n, 3000, 8, 1);
        let want = full(&a, n, 30);
        check(&a, n, &want, 1e-13);
        for block in [1, 4, 30] {
            let got = by_lanczos(&a, n, 30, block);
            check(&a, n, &got, 1e-13);
            for (x, y) in got.values.iter().zip(&want.values) {
                assert!((x - y).abs() <= 1e-13 * want.values[0]);
            }
            for (x, y) in got.vectors.chunks(n).zip(want.vectors.chunks(n)) {
                let cosine: f64 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                assert!((1.0 - cosine).abs() < 1e-12);
            }
        }
        assert_eq!(sym_eigen_top_k(&a, n, 30), by_lanczos(&a, n, 30, BLOCK));
        assert_eq!(sym_eigen_top_k(&a, n, 61), full(&a, n, 61));
    }

    #[test]
    fn tiles_may_be_computed_by_anyone() {
        let n = 700;
        let a = gram(n, 800, 3, 2);
        let in_order = by_lanczos(&a, n, 10, 4);
        let scattered = sym_eigen_top_k_with(n, 10, 4, |x, y| {
            let n_vectors = x.len() / n;
            std::thread::scope(|scope| {
                for (rows, y) in a.chunks(TILE * n).zip(y.chunks_mut(TILE * n_vectors)) {
                    scope.spawn(move || multiply_rows(rows, n, x, y));
                }
            });
            Ok::<(), Infallible>(())
        });
        assert_eq!(scattered.unwrap(), in_order);
    }

    #[test]
    fn low_rank_and_repeated_eigenvalues() {
        let n = 550;
        // Rank 5 of 20 wanted: the rest are zero.
        let mut rng = Rng::new(3, 0);
        let factors: Vec<f64> = (0..5 * n).map(|_| rng.uniform() - 0.5).collect();
        let product = |i: usize, j: usize| {
            (0..5).map(|l| factors[l * n + i] * factors[l * n + j]).sum::<f64>()
        };
        let a: Vec<f64> = (0..n * n).map(|i| product(i / n, i % n)).collect();
        let eigen = by_lanczos(&a, n, 20, 4);
        check(&a, n, &eigen, 1e-13);
        assert!(eigen.values[4] > 1.0);
        assert!(eigen.values[5..].iter().all(|x| x.abs() < 1e-12));

        // The identity, the zero matrix, and 3 copies of 2 above ones.
        for (top, rest, copies) in [(1.0, 1.0, 0), (0.0, 0.0, 0), (2.0, 1.0, 3)] {
            let a: Vec<f64> = (0..n * n)
                .map(|i| match i / n {
                    row if row != i % n => 0.0,
                    row if row < copies => top,
                    _ => rest,
                })
                .collect();
            let eigen = by_lanczos(&a, n, 7, 4);
            check(&a, n, &eigen, 1e-13);
            for (j, value) in eigen.values.iter().enumerate() {
                let want = if j < copies { top } else { rest };
                assert!((value - want).abs() < 1e-14, "{j}: {value}");
            }
        }
    }

    #[test]
    fn largest_means_algebraically_largest() {
        let n = 520;
        let a: Vec<f64> =
            (0..n * n).map(|i| if i / n == i % n { (i / n) as f64 - 400.0 } else { 0.0 }).collect();
        let eigen = sym_eigen_top_k(&a, n, 3);
        for (value, want) in eigen.values.iter().zip([119.0, 118.0, 117.0]) {
            assert!((value - want).abs() < 1e-11, "{value}");
        }
    }

    #[test]
    fn tiny_matrices_and_whole_spectra() {
        assert_eq!(sym_eigen_top_k(&[], 0, 0).values, [0.0; 0]);
        assert_eq!(sym_eigen_top_k(&[-3.0], 1, 1).vectors, [1.0]);
        let two = sym_eigen_top_k(&[2.0, 1.0, 1.0, 2.0], 2, 2);
        check(&[2.0, 1.0, 1.0, 2.0], 2, &two, 1e-15);
        assert!((two.values[0] - 3.0).abs() < 1e-15 && (two.values[1] - 1.0).abs() < 1e-15);
        for n in [1, 2, 5, 13] {
            let a = gram(n, 20, 1, 4);
            for block in [1, 3, 4, 20] {
                check(&a, n, &by_lanczos(&a, n, n, block), 1e-13);
            }
            assert!(by_lanczos(&a, n, 0, 4).values.is_empty());
        }
    }

    #[test]
    fn errors_of_products_are_returned() {
        let mut calls = 0;
        let got = sym_eigen_top_k_with(600, 5, 4, |x, y| {
            calls += 1;
            y.copy_from_slice(x);
            if calls == 2 { Err("interrupted") } else { Ok(()) }
        });
        assert_eq!(got, Err("interrupted"));
    }

    #[test]
    #[should_panic(expected = "a is not finite")]
    fn nan_panics() {
        let _ = sym_eigen_top_k(&[1.0, f64::NAN, f64::NAN, 1.0], 2, 1);
    }

    #[test]
    fn signs_follow_the_first_largest_entry() {
        let mut vectors = [1.0, -2.0, 2.0, -3.0, 3.0, 1.0, 0.0, 0.0, 0.0];
        fix_signs(&mut vectors, 3);
        assert_eq!(vectors, [-1.0, 2.0, -2.0, 3.0, -3.0, -1.0, 0.0, 0.0, 0.0]);
    }
}
