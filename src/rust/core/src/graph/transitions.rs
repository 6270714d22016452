//! Transitions of diffusion over a graph that stays where it is.

use std::sync::{Mutex, PoisonError};

use crate::ctx::Ctx;
use crate::error::{Error, Result};

/// Rows of one task.
const TILE: usize = 4096;

/// Whether cells attract diffusion because there are many of them in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Density {
    /// The connectivities as they are: components are the eigenvectors of the
    /// normalised graph Laplacian, those of the smallest eigenvalues first.
    Kept,
    /// Divided out.
    Removed,
}

/// A symmetric matrix of transitions, each a connectivity times the scales of both of its cells.
///
/// 1. With the density removed: `K = Q⁻¹ W Q⁻¹` with `Q` the row sums of the
///    connectivities `W`; otherwise `K = W`.
/// 2. Transitions: `T = Z⁻¹ K Z⁻¹` with `Z²` the row sums of `K`, symmetric, with the
///    eigenvalues of the random walk `Z⁻² K`.
///
/// Memory: 8 bytes a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Transitions<'g> {
    pub(super) offsets: &'g [u32],
    pub(super) columns: &'g [u32],
    pub(super) values: &'g [f64],
    pub(super) scale: Vec<f64>,
}

impl<'g> Transitions<'g> {
    /// Those over a symmetric graph in rows.
    ///
    /// # Errors
    /// [`Error::InvalidValues`] for a cell without connections or a connectivity that is
    /// negative or not finite.
    ///
    /// # Panics
    /// If offsets, columns and values do not fit each other.
    pub fn new(
        offsets: &'g [u32],
        columns: &'g [u32],
        values: &'g [f64],
        density: Density,
    ) -> Result<Self> {
        if values.iter().any(|x| !(x.is_finite() && *x >= 0.0)) {
            return Err(Error::InvalidValues {
                message: "a connectivity is negative or not finite".into(),
            });
        }
        let scale = vec![1.0; offsets.len().saturating_sub(1)];
        let mut transitions = Transitions { offsets, columns, values, scale };
        if density == Density::Removed {
            transitions.divide_by_sums(|sum| sum)?;
        }
        transitions.divide_by_sums(f64::sqrt)?;
        Ok(transitions)
    }

    /// Number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scale.len()
    }

    /// Whether there are no cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scale.is_empty()
    }

    fn divide_by_sums(&mut self, root: impl Fn(f64) -> f64) -> Result<()> {
        let sum = |i| self.scale[i] * self.row(i).map(|(_, a)| a).sum::<f64>();
        let sums: Vec<f64> = (0..self.len()).map(sum).collect();
        if let Some(cell) = sums.iter().position(|&sum| sum <= 0.0) {
            return Err(Error::InvalidValues {
                message: format!("cell {} has no connections", cell + 1),
            });
        }
        for (scale, sum) in self.scale.iter_mut().zip(sums) {
            *scale /= root(sum);
        }
        Ok(())
    }

    /// The cells that `i` is connected to, with transitions but for the scale of `i`.
    #[inline]
    fn row(&self, i: usize) -> impl Iterator<Item = (usize, f64)> {
        let range = self.offsets[i] as usize..self.offsets[i + 1] as usize;
        let entries = self.columns[range.clone()].iter().zip(&self.values[range]);
        entries.map(|(&j, &a)| (j as usize, a * self.scale[j as usize]))
    }

    /// Writes `a (T x - b x) - c y` to `y` for a block of vectors in rows and factors
    /// `[a, b, c]`; each row of the product is summed in the order of columns.
    pub(super) fn step(
        &self,
        x: &[f64],
        y: &mut [f64],
        [scale, shift, share]: [f64; 3],
        ctx: &Ctx,
    ) -> Result<()> {
        let width = x.len() / self.len().max(1);
        let tiles: Vec<_> = y.chunks_mut(TILE * width).map(Mutex::new).collect();
        ctx.parallel(
            "Diffusion components",
            tiles.len(),
            || vec![0.0; width],
            |tile, sums| {
                let mut rows = tiles[tile].lock().unwrap_or_else(PoisonError::into_inner);
                for (at, row) in rows.chunks_mut(width).enumerate() {
                    let i = tile * TILE + at;
                    sums.fill(0.0);
                    for (j, a) in self.row(i) {
                        let from = &x[j * width..(j + 1) * width];
                        for (sum, x) in sums.iter_mut().zip(from) {
                            *sum += a * x;
                        }
                    }
                    let own = &x[i * width..(i + 1) * width];
                    for ((y, sum), x) in row.iter_mut().zip(sums.iter()).zip(own) {
                        *y = scale * (self.scale[i] * sum - shift * x) - share * *y;
                    }
                }
                Ok(())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_are_divided_by_sums_of_rows() {
        // 0 - 1 and 1 - 2.
        let (offsets, columns) = ([0, 1, 3, 4], [1, 0, 2, 1]);
        let values: [f64; 4] = [2.0, 2.0, 6.0, 6.0];
        let scale = |density| Transitions::new(&offsets, &columns, &values, density).unwrap().scale;
        let close = |found: Vec<f64>, wanted: [f64; 3]| {
            found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-15)
        };
        assert!(close(scale(Density::Kept), [2.0, 8.0, 6.0].map(|q: f64| 1.0 / q.sqrt())));
        // Over the sums of both cells all connectivities are 1 / 8.
        let z = [0.125, 0.25, 0.125].map(f64::sqrt);
        assert!(close(scale(Density::Removed), [0.5 / z[0], 0.125 / z[1], 1.0 / 6.0 / z[2]]));
    }

    #[test]
    fn bad_graphs_are_refused() {
        let error = Transitions::new(&[0, 1, 2, 2], &[1, 0], &[1.0; 2], Density::Kept).unwrap_err();
        assert!(error.to_string().contains("cell 3 has no connections"));
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            let values = [1.0, bad];
            assert!(Transitions::new(&[0, 1, 2], &[1, 0], &values, Density::Removed).is_err());
        }
    }
}
