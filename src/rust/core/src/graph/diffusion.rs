//! Diffusion maps and diffusion pseudotime (Coifman et al. 2005; Haghverdi et al. 2016),
//! with scanpy's normalisation.

use super::spectrum::leading;
use super::transitions::Transitions;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::stats::linalg::{Eigen, sym_eigen_top_k_with};

/// Cells up to which the eigenvectors are computed to machine precision.
const EXACT: usize = 20_000;

/// Vectors of a product.
const BLOCK: usize = 4;

/// Eigenvalues from here on belong to stationary states: their weight in a
/// pseudotime, `value / (1 - value)`, would be that of rounding. scanpy's figure.
const STATIONARY: f64 = 0.9994;

/// Leading eigenpairs of the symmetric transition matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffusionMap {
    /// Eigenvalues, descending from one.
    pub values: Vec<f64>,
    /// The components of all cells, one after the other.
    pub vectors: Vec<f64>,
}

/// The `n_comps` leading components of diffusion: eigenvectors of the transitions, the
/// entry of largest size of each positive.
///
/// Up to 20,000 cells by Lanczos, to machine precision; beyond, where its basis would be
/// large, by filtered subspaces, with residuals up to `tolerance`.
///
/// # Errors
/// [`Error::InvalidInput`] for more components than cells, [`Error::NotConverged`], and
/// when `ctx` stops.
pub fn diffusion_map(
    transitions: &Transitions,
    n_comps: usize,
    tolerance: f64,
    ctx: &Ctx,
) -> Result<DiffusionMap> {
    let n = transitions.len();
    if n_comps == 0 || n_comps > n {
        return Err(Error::InvalidInput {
            argument: "n_comps",
            message: format!("{n} cells have no {n_comps} diffusion components"),
        });
    }
    let Eigen { values, vectors } = if n <= EXACT {
        sym_eigen_top_k_with(n, n_comps, BLOCK, |x, y| {
            transitions.step(x, y, [1.0, 0.0, 0.0], ctx)
        })?
    } else {
        leading(transitions, n_comps, tolerance, ctx)?
    };
    Ok(DiffusionMap { values, vectors })
}

/// Diffusion distance from the cell `root` over the largest one, from zero to one;
/// infinite for cells of other components.
///
/// The distance is scanpy's: components weigh `value / (1 - value)`, stationary ones
/// one.
///
/// # Panics
/// If `root` is no cell, or there is not one component for each cell.
#[must_use]
pub fn diffusion_pseudotime(map: &DiffusionMap, root: usize, component: &[u32]) -> Vec<f64> {
    let n = component.len();
    assert!(root < n, "no such cell");
    assert_eq!(map.vectors.len(), n * map.values.len(), "not one value for each cell");
    let mut time = vec![0.0; n];
    for (&value, vector) in map.values.iter().zip(map.vectors.chunks(n)) {
        let weight = if value < STATIONARY { value / (1.0 - value) } else { 1.0 };
        for (time, x) in time.iter_mut().zip(vector) {
            let step = weight * (vector[root] - x);
            *time += step * step;
        }
    }
    let mut latest = 0.0_f64;
    for (time, &own) in time.iter_mut().zip(component) {
        *time = if own == component[root] { time.sqrt() } else { f64::INFINITY };
        if time.is_finite() {
            latest = latest.max(*time);
        }
    }
    if latest > 0.0 {
        for time in &mut time {
            *time /= latest;
        }
    }
    time
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::components::components;
    use super::super::sparse::Sparse;
    use super::super::transitions::Density;
    use super::*;
    use crate::ctx::Silent;

    fn ctx(threads: usize) -> Ctx<'static> {
        Ctx::new(threads, 1 << 30, PathBuf::new(), &Silent)
    }

    /// Cells in a line, joined to the next two.
    fn line(n: usize) -> Sparse {
        let mut offsets = vec![0];
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        for i in 0..n {
            for j in (0..n).filter(|&j| j != i && j.abs_diff(i) <= 2) {
                columns.push(j as u32);
                values.push(1.0 / j.abs_diff(i) as f64);
            }
            offsets.push(columns.len());
        }
        Sparse { offsets, columns, values }
    }

    fn map_of(graph: &Sparse, n_comps: usize, density: Density, threads: usize) -> DiffusionMap {
        let offsets: Vec<u32> = graph.offsets.iter().map(|&at| at as u32).collect();
        let transitions =
            Transitions::new(&offsets, &graph.columns, &graph.values, density).unwrap();
        diffusion_map(&transitions, n_comps, 1e-10, &ctx(threads)).unwrap()
    }

    #[test]
    fn the_first_component_is_stationary() {
        let graph = line(300);
        let map = map_of(&graph, 6, Density::Removed, 2);
        assert!((map.values[0] - 1.0).abs() < 1e-12);
        assert!(map.values.windows(2).all(|pair| pair[0] > pair[1]));
        // Its entries are the square roots of the stationary distribution: Z.
        let q = graph.row_sums();
        let z: Vec<f64> = (0..300)
            .map(|i| {
                let (columns, values) = graph.row(i);
                let row = columns.iter().zip(values);
                row.map(|(&j, w)| w / q[i] / q[j as usize]).sum::<f64>().sqrt()
            })
            .collect();
        let length = z.iter().map(|z| z * z).sum::<f64>().sqrt();
        for (x, z) in map.vectors[..300].iter().zip(z) {
            assert!((x - z / length).abs() < 1e-10);
        }
    }

    #[test]
    fn components_solve_the_eigenproblem() {
        let graph = line(500);
        let offsets: Vec<u32> = graph.offsets.iter().map(|&at| at as u32).collect();
        let matrix =
            Transitions::new(&offsets, &graph.columns, &graph.values, Density::Removed).unwrap();
        let map = map_of(&graph, 5, Density::Removed, 1);
        let mut image = vec![0.0; 500];
        for (value, vector) in map.values.iter().zip(map.vectors.chunks(500)) {
            matrix.step(vector, &mut image, [1.0, 0.0, 0.0], &ctx(1)).unwrap();
            for (a, x) in image.iter().zip(vector) {
                assert!((a - value * x).abs() < 1e-12);
            }
        }
        assert!(map == map_of(&graph, 5, Density::Removed, 4));
    }

    #[test]
    fn with_its_density_the_stationary_state_is_the_degree() {
        let graph = line(300);
        let map = map_of(&graph, 3, Density::Kept, 1);
        let total: f64 = graph.values.iter().sum();
        for (x, degree) in map.vectors[..300].iter().zip(graph.row_sums()) {
            assert!((x * x - degree / total).abs() < 1e-12);
        }
    }

    #[test]
    fn pseudotime_grows_along_a_line() {
        // So short that no component but the first is stationary.
        let graph = line(60);
        let map = map_of(&graph, 10, Density::Removed, 1);
        assert!(map.values[1] < STATIONARY);
        let time = diffusion_pseudotime(&map, 0, &components(&graph));
        assert_eq!(time[0], 0.0);
        assert_eq!(time.iter().fold(0.0_f64, |m, &t| m.max(t)), 1.0);
        // At both ends cells have fewer neighbours, and lie near each other.
        assert!(time[5..55].windows(2).all(|pair| pair[0] < pair[1]), "{time:?}");
    }

    #[test]
    fn other_components_are_infinitely_late() {
        let map =
            DiffusionMap { values: vec![1.0, 0.5], vectors: vec![1.0, 1.0, 0.0, 0.0, 2.0, 9.0] };
        let time = diffusion_pseudotime(&map, 0, &[0, 0, 1]);
        assert_eq!(time, [0.0, 1.0, f64::INFINITY]);
        assert_eq!(diffusion_pseudotime(&map, 2, &[0, 0, 1])[2], 0.0);
    }

    #[test]
    fn there_are_no_more_components_than_cells() {
        let graph = Transitions::new(&[0, 1, 2], &[1, 0], &[1.0; 2], Density::Kept).unwrap();
        assert!(diffusion_map(&graph, 0, 1e-10, &ctx(1)).is_err());
        assert!(diffusion_map(&graph, 3, 1e-10, &ctx(1)).is_err());
    }
}
