//! Block Lanczos with full reorthogonalisation and without restart.
//!
//! Problem: the eigenvalues of a few factors stand far above the noise, but the
//! last of the wanted ones lie in the upper edge of the noise, where gaps are
//! small; subspace iteration and restarted methods need very many products
//! there. Solution: keep the whole Krylov basis. It finds 50 eigenpairs of 2,000
//! within 500 to 700 vectors, and at most the whole space.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use super::linalg::{Eigen, decompose};
use super::random::Rng;

/// Residuals below this multiple of the largest eigenvalue are rounding.
const TOLERANCE: f64 = 1e-14;

/// Seed of the first block.
const SEED: u64 = 0x5eed;

/// Orthonormal vectors one after the other, and the source of new ones.
struct Basis {
    n: usize,
    columns: Vec<f64>,
    rng: Rng,
}

/// One step of the recurrence: A Q = ... + Q `diagonal` + next Q `below`.
struct Step {
    diagonal: Mat<f64>,
    below: Mat<f64>,
}

/// The `k` largest eigenpairs; signs are arbitrary.
pub(super) fn lanczos<E>(
    n: usize,
    k: usize,
    block: usize,
    mut apply: impl FnMut(&[f64], &mut [f64]) -> Result<(), E>,
) -> Result<Eigen, E> {
    let mut basis = Basis { n, columns: Vec::new(), rng: Rng::new(SEED, 0) };
    let mut steps: Vec<Step> = Vec::new();
    let mut scale = 0.0_f64;
    let mut next_check = 4 * k;
    let mut width = block.min(n);
    let mut x = vec![0.0; n * width];
    let mut y = vec![0.0; n * width];
    let first: Vec<f64> = (0..n * width).map(|_| basis.rng.uniform() - 0.5).collect();
    basis.extend(&first, width, 0.0);
    loop {
        // The product with the newest block; its vectors in rows for `apply`.
        let size = basis.len();
        x.truncate(n * width);
        y.truncate(n * width);
        MatMut::from_row_major_slice_mut(&mut x, n, width)
            .copy_from(basis.columns(size - width, size));
        apply(&x, &mut y)?;
        let mut product = vec![0.0; n * width];
        MatMut::from_column_major_slice_mut(&mut product, n, width)
            .copy_from(MatRef::from_row_major_slice(&y, n, width));
        scale = product.chunks(n.max(1)).map(norm).fold(scale, f64::max);
        assert!(scale.is_finite(), "a product is not finite");

        // In exact arithmetic the last two blocks are all that it overlaps with.
        let before = size - width - steps.last().map_or(0, |step| step.diagonal.nrows());
        let overlap = basis.project(&mut product, before, size);
        let last = overlap.nrows() - width;
        let diagonal = overlap.subrows(last, width).to_owned();
        basis.project(&mut product, 0, size);

        let next_width = width.min(n - size);
        let below = basis.extend(&product, next_width, scale);
        steps.push(Step { diagonal, below });
        if size >= next_check || next_width == 0 {
            if let Some(eigen) = converged(&basis, &steps, size, k) {
                return Ok(eigen);
            }
            next_check = size * 5 / 4;
        }
        width = next_width;
    }
}

/// The Ritz pairs, once the residuals of the first `k` are rounding.
fn converged(basis: &Basis, steps: &[Step], size: usize, k: usize) -> Option<Eigen> {
    if k > size {
        return None;
    }
    let mut projected = Mat::<f64>::zeros(size, size);
    let mut at = 0;
    for Step { diagonal, below } in steps {
        let width = diagonal.nrows();
        projected.submatrix_mut(at, at, width, width).copy_from(diagonal);
        let rows = below.nrows().min(size - at - width);
        projected.submatrix_mut(at + width, at, rows, width).copy_from(below.subrows(0, rows));
        at += width;
    }
    let (values, vectors) = decompose(projected.as_ref());
    let largest = values.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
    let below = &steps.last()?.below;
    let wanted = vectors.subcols(size - k, k);
    let residuals = below * wanted.subrows(size - below.ncols(), below.ncols());
    if (0..k).any(|j| residuals.col(j).norm_l2() > TOLERANCE * largest) {
        return None;
    }
    let mut ritz = Mat::<f64>::zeros(basis.n, k);
    matmul(&mut ritz, Accum::Replace, basis.columns(0, size), wanted, 1.0, Par::Seq);
    Some(Eigen {
        values: values.iter().rev().take(k).copied().collect(),
        vectors: (0..k).rev().flat_map(|j| ritz.col(j).iter().copied()).collect(),
    })
}

impl Basis {
    /// Number of vectors.
    fn len(&self) -> usize {
        self.columns.len() / self.n.max(1)
    }

    fn columns(&self, begin: usize, end: usize) -> MatRef<'_, f64> {
        let n = self.n;
        MatRef::from_column_major_slice(&self.columns[begin * n..end * n], n, end - begin)
    }

    /// Removes the vectors `begin..end` from some others; returns the
    /// coefficients.
    fn project(&self, others: &mut [f64], begin: usize, end: usize) -> Mat<f64> {
        let width = others.len() / self.n.max(1);
        let mut others = MatMut::from_column_major_slice_mut(others, self.n, width);
        let vectors = self.columns(begin, end);
        let mut overlap = Mat::zeros(end - begin, width);
        matmul(&mut overlap, Accum::Replace, vectors.transpose(), &others, 1.0, Par::Seq);
        matmul(&mut others, Accum::Add, vectors, &overlap, -1.0, Par::Seq);
        overlap
    }

    /// Appends `width` orthonormal vectors that span the given ones, which are
    /// orthogonal to the basis already; returns their coefficients (`width` x
    /// number given).
    ///
    /// A vector that is rounding, measured by `scale`, has no direction of its
    /// own: a random one takes its place, with coefficient zero.
    fn extend(&mut self, given: &[f64], width: usize, scale: f64) -> Mat<f64> {
        let n = self.n.max(1);
        let old = self.len();
        let mut coefficients = Mat::zeros(width, given.len() / n);
        for (j, given) in given.chunks(n).enumerate() {
            let mut vector = given.to_vec();
            let accepted = j.min(width);
            let before = norm(&vector);
            for _ in 0..2 {
                let overlap = self.project(&mut vector, old, old + accepted);
                for i in 0..accepted {
                    coefficients[(i, j)] += overlap[(i, 0)];
                }
            }
            if j >= width {
                continue;
            }
            if norm(&vector) < 0.1 * before {
                // What is left has lost digits against the whole basis.
                self.project(&mut vector, 0, old + accepted);
                self.project(&mut vector, 0, old + accepted);
            }
            let length = norm(&vector);
            if length > f64::EPSILON * scale {
                coefficients[(j, j)] = length;
                divide(&mut vector, length);
            } else {
                for x in &mut vector {
                    *x = self.rng.uniform() - 0.5;
                }
                for _ in 0..3 {
                    self.project(&mut vector, 0, old + accepted);
                    let length = norm(&vector);
                    divide(&mut vector, length);
                }
            }
            self.columns.extend_from_slice(&vector);
        }
        coefficients
    }
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn divide(vector: &mut [f64], length: f64) {
    for x in vector {
        *x /= length;
    }
}
