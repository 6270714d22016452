//! Principal components, exactly.
//!
//! 1. The selected genes are packed into memory as they stream by, if half
//!    of the budget holds them; otherwise each further step reads the file. Of
//!    residuals and adjusted values the sparse values they come from are packed.
//! 2. Means and standard deviations of the genes, where the chain scales.
//! 3. The covariance of the genes in one pass (see [`super::covariance`]).
//! 4. Its leading eigenvectors to machine precision: the loadings.
//! 5. The scores in one more pass.
//!
//! No random projections and no fixed number of iterations. Where the genes are
//! so many that their covariance takes more than a quarter of the budget, step 3
//! and 4 become block Krylov iterations with a test of convergence; each product
//! is a pass over the packed genes or the file.
//!
//! Reads of the file: one where the genes fit; otherwise two, or three with
//! scaling. Memory: `24 g^2` bytes for `g` genes, `8 n k` bytes of scores, and the packed
//! genes, about two bytes for each of their values and 80 for each row where these come from
//! counts, at most 10 for each value otherwise. The scores, which are part of the result, come
//! when only the packed genes are left, so a million cells, 300 values of 2,000
//! genes each, and 50 components take 0.6 + 0.4 GB.

use serde::{Deserialize, Serialize};

use super::covariance::{Covariance, CovariancePass};
use super::scores::ScorePass;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::matrix::packed::packed_bytes;
use crate::matrix::{RowBlock, Source};
use crate::pass::{self, Pass};
use crate::stats::linalg::{sym_eigen_top_k, sym_eigen_top_k_with};
use crate::summary::ColumnSummary;
use crate::transform::{ScaleGenes, View};

/// How genes are standardised before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Whether means are subtracted before clipping.
    pub zero_center: bool,
    /// Clip at this.
    pub max_value: Option<f64>,
    /// Means and standard deviations where they are known; `None` takes those
    /// of the rows at hand.
    pub moments: Option<(Vec<f64>, Vec<f64>)>,
}

/// What to compute.
#[derive(Debug, Clone, PartialEq)]
pub struct PcaOptions {
    /// Number of components.
    pub n_comps: usize,
    /// Standardising; `None` only centres.
    pub scaling: Option<Scaling>,
    /// Stored values of the view, where they are known: packing genes that can't fit
    /// is not tried then.
    pub n_values: Option<u64>,
}

/// Principal components of the rows of a view.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// Scores: component by component, one value a row.
    pub scores: Vec<f64>,
    /// Loadings: component by component, one value a gene; unit length, the
    /// entry of largest size positive.
    pub loadings: Vec<f64>,
    /// Variance of each component.
    pub variance: Vec<f64>,
    /// Share of each in the variance of all genes.
    pub variance_ratio: Vec<f64>,
    /// Sum of the variances of all genes.
    pub total_variance: f64,
    /// Mean of each gene as it was decomposed, standardised where that is so.
    pub center: Vec<f64>,
    /// Means and standard deviations that genes were standardised by.
    pub moments: Option<(Vec<f64>, Vec<f64>)>,
    /// How often the file was read.
    pub reads: usize,
}

/// Computes the leading principal components of `view`, whose chain must not
/// scale.
///
/// # Errors
/// [`Error::InvalidInput`] where there are fewer than `n_comps + 1` rows or
/// `n_comps` genes, [`Error::InvalidValues`] for NaN or infinite values.
///
/// # Numerics
/// The same bits for any number of threads, and whether the genes fit into
/// memory or not.
pub fn pca(source: &dyn Source, view: &View, ctx: &Ctx, options: &PcaOptions) -> Result<Pca> {
    check(view, options.n_comps)?;
    let (n_obs, n_vars) = (view.n_obs(), view.n_vars());
    let view = &view.clone().with_sorted_rows();
    let budget = ctx.memory_bytes() / 2;
    // An abandoned attempt at packing reads a part of the file.
    let attempt = options.n_values.is_none_or(|n| packed_bytes(n, n_obs) <= budget);
    let packed =
        if attempt { pass::pack(source, view, ctx, "Reading genes", budget)? } else { None };
    let mut reads = usize::from(attempt);
    let plain = view.of_copy();
    let (source, base): (&dyn Source, &View) = match &packed {
        Some(packed) => (packed, &plain),
        None => (source, view),
    };
    let in_file = usize::from(packed.is_none());
    let mut known = None;
    let scaled = match &options.scaling {
        None => base.clone(),
        Some(scaling) => {
            let moments = if let Some((mean, sd)) = &scaling.moments {
                (mean.clone(), sd.clone())
            } else {
                reads += in_file;
                moments(source, base, ctx)?
            };
            known = Some(moments.clone());
            base.clone().then_scale(ScaleGenes {
                mean: moments.0,
                sd: moments.1,
                zero_center: scaling.zero_center,
                max_value: scaling.max_value,
            })?
        }
    };
    let covariance_bytes = 24 * (n_vars as u64).pow(2);
    let (mut pca, sums) = if covariance_bytes <= ctx.memory_bytes() / 4 {
        reads += in_file;
        let pass = CovariancePass::new(&scaled);
        let tiles = pass::run_tiled(source, &scaled, ctx, "Covariance of genes", &pass)?;
        let covariance = pass.finish(&tiles, n_obs)?;
        drop(tiles);
        (pca_from_covariance(&covariance, options.n_comps), covariance.sums)
    } else {
        krylov(source, &scaled, ctx, options.n_comps, &mut reads, in_file)?
    };
    reads += in_file;
    let scores = ScorePass::new(&pca.loadings, n_vars, &sums, n_obs);
    pca.scores = scores.of_rows(source, &scaled, ctx, "Projecting cells")?;
    pca.center = means(&scaled, &sums);
    pca.moments = known;
    pca.reads = reads;
    Ok(pca)
}

/// Mean of each gene of a view from the sums of its sparse part.
#[must_use]
pub fn means(view: &View, sums: &[f64]) -> Vec<f64> {
    let n = view.n_obs() as f64;
    let background = view.background();
    sums.iter()
        .enumerate()
        .map(|(gene, sum)| background.map_or(0.0, |zeros| zeros[gene]) + sum / n)
        .collect()
}

/// Loadings and variances from the covariance; no scores yet.
#[must_use]
pub fn pca_from_covariance(covariance: &Covariance, n_comps: usize) -> Pca {
    let g = covariance.n_vars;
    let freedom = (covariance.n_obs as f64 - 1.0).max(1.0);
    let eigen = sym_eigen_top_k(&covariance.scatter, g, n_comps);
    let total = (0..g).map(|i| covariance.scatter[i * g + i]).sum::<f64>() / freedom;
    with_variances(eigen.vectors, &eigen.values, total, freedom)
}

fn with_variances(loadings: Vec<f64>, eigenvalues: &[f64], total: f64, freedom: f64) -> Pca {
    // A matrix without rank left has eigenvalues of rounding's size and sign.
    let variance: Vec<f64> = eigenvalues.iter().map(|v| v.max(0.0) / freedom).collect();
    let share = |v: &f64| if total > 0.0 { v / total } else { 0.0 };
    Pca {
        scores: Vec::new(),
        loadings,
        variance_ratio: variance.iter().map(share).collect(),
        variance,
        total_variance: total,
        center: Vec::new(),
        moments: None,
        reads: 0,
    }
}

fn check(view: &View, n_comps: usize) -> Result<()> {
    let most = view.n_obs().min(view.n_vars()).saturating_sub(1);
    let message = if view.scales() {
        "the chain scales already".to_owned()
    } else if n_comps == 0 || n_comps > most {
        format!(
            "{n_comps} components can't come from {} cells and {} genes; at most {most} can",
            view.n_obs(),
            view.n_vars()
        )
    } else {
        return Ok(());
    };
    Err(Error::InvalidInput { argument: "n_comps", message })
}

/// Mean and standard deviation of every gene.
fn moments(source: &dyn Source, view: &View, ctx: &Ctx) -> Result<(Vec<f64>, Vec<f64>)> {
    let pass = ColumnSummary::new(view);
    let summary = pass.finish(&pass::run(source, view, ctx, "Moments of genes", &pass)?)?.values;
    Ok((summary.mean, summary.var.iter().map(|v| v.sqrt()).collect()))
}

/// Leading components without the covariance: its products with vectors are
/// passes.
fn krylov(
    source: &dyn Source,
    view: &View,
    ctx: &Ctx,
    n_comps: usize,
    reads: &mut usize,
    in_file: usize,
) -> Result<(Pca, Vec<f64>)> {
    let (n_obs, n_vars) = (view.n_obs(), view.n_vars());
    // The sparse part's own moments: without the background, which moves only means.
    let sparse = view.without_background();
    let pass = ColumnSummary::new(&sparse);
    let summary = pass.finish(&pass::run(source, &sparse, ctx, "Moments of genes", &pass)?)?.values;
    *reads += in_file;
    let freedom = n_obs as f64 - 1.0;
    let total: f64 = summary.var.iter().sum();
    if !total.is_finite() {
        return Err(Error::InvalidValues {
            message: "the selected genes have values that are NaN or infinite".into(),
        });
    }
    let block = n_comps.clamp(4, 64);
    let eigen = sym_eigen_top_k_with(n_vars, n_comps, block, |x, y| {
        *reads += in_file;
        let pass = ProductPass { n_vars, x };
        let product = pass::run(source, &sparse, ctx, "Iterating", &pass)?;
        y.copy_from_slice(&pass.centred(product, &summary.mean, n_obs));
        Ok::<(), Error>(())
    })?;
    Ok((with_variances(eigen.vectors, &eigen.values, total, freedom), summary.sum))
}

/// `sum s (s' X)` for a block of vectors in rows.
struct ProductPass<'x> {
    n_vars: usize,
    x: &'x [f64],
}

impl ProductPass<'_> {
    fn width(&self) -> usize {
        self.x.len() / self.n_vars
    }

    /// Takes off what the means contribute: `n m (m' X)`.
    fn centred(&self, product: Vec<f64>, mean: &[f64], n_obs: usize) -> Vec<f64> {
        let width = self.width();
        let mut along = vec![0.0; width];
        for (row, m) in self.x.chunks(width).zip(mean) {
            for (a, x) in along.iter_mut().zip(row) {
                *a += m * x;
            }
        }
        let mut product = product;
        product.resize(self.x.len(), 0.0);
        for (row, m) in product.chunks_mut(width).zip(mean) {
            for (p, a) in row.iter_mut().zip(&along) {
                *p -= n_obs as f64 * m * a;
            }
        }
        product
    }
}

impl Pass for ProductPass<'_> {
    type Partial = Vec<f64>;

    fn empty(&self) -> Vec<f64> {
        Vec::new()
    }

    fn partial_bytes(&self) -> usize {
        self.x.len() * 8
    }

    fn fold(&self, block: &RowBlock, partial: &mut Vec<f64>) -> Result<()> {
        let width = self.width();
        partial.resize(self.x.len(), 0.0);
        let mut along = vec![0.0; width];
        for r in 0..block.n_rows() {
            let (columns, values) = block.row(r);
            along.fill(0.0);
            for (&column, &value) in columns.iter().zip(values) {
                let x = &self.x[column as usize * width..][..width];
                for (a, x) in along.iter_mut().zip(x) {
                    *a += value * x;
                }
            }
            for (&column, &value) in columns.iter().zip(values) {
                let into = &mut partial[column as usize * width..][..width];
                for (p, a) in into.iter_mut().zip(&along) {
                    *p += value * a;
                }
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut Vec<f64>, from: Vec<f64>) {
        if into.is_empty() {
            *into = from;
            return;
        }
        for (a, b) in into.iter_mut().zip(from) {
            *a += b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Silent;
    use crate::matrix::memory::DenseRows;
    use crate::stats::random::Rng;
    use crate::transform::{Adjust, Chain, Op};

    const N: usize = 2000;
    const G: usize = 30;

    /// Sparse nonnegative values with some structure.
    fn values() -> Vec<f64> {
        let mut rng = Rng::new(3, 0);
        (0..N * G)
            .map(|at| {
                let (cell, gene) = (at / G, at % G);
                let shared = if cell % 3 == gene % 3 { 2.0 } else { 0.5 };
                let x = rng.uniform();
                if x < 0.6 { 0.0 } else { x * shared }
            })
            .collect()
    }

    fn run_with(memory: u64, threads: usize, scaling: Option<Scaling>) -> Pca {
        run_knowing(None, memory, threads, scaling)
    }

    fn run_knowing(
        n_values: Option<u64>,
        memory: u64,
        threads: usize,
        scaling: Option<Scaling>,
    ) -> Pca {
        let values = values();
        let source = DenseRows::new(N, G, &values).unwrap();
        let view = View::new(N, G, None, &Chain::default()).unwrap();
        let ctx = Ctx::new(threads, memory, std::env::temp_dir(), &Silent);
        pca(&source, &view, &ctx, &PcaOptions { n_comps: 5, scaling, n_values }).unwrap()
    }

    /// The standardised, centred matrix, cell by cell.
    fn dense(scaling: &Scaling) -> Vec<f64> {
        let values = values();
        let mut z = vec![0.0; N * G];
        for g in 0..G {
            let column: Vec<f64> = (0..N).map(|i| values[i * G + g]).collect();
            let mean = column.iter().sum::<f64>() / N as f64;
            let var = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (N - 1) as f64;
            let scale = ScaleGenes {
                mean: vec![mean],
                sd: vec![var.sqrt()],
                zero_center: scaling.zero_center,
                max_value: scaling.max_value,
            };
            let scaled: Vec<f64> = column.iter().map(|&x| scale.value(0, x)).collect();
            let centre = scaled.iter().sum::<f64>() / N as f64;
            for i in 0..N {
                z[i * G + g] = scaled[i] - centre;
            }
        }
        z
    }

    #[test]
    fn loadings_are_eigenvectors_of_the_dense_covariance() {
        let scaling = Scaling { zero_center: true, max_value: Some(1.5), moments: None };
        let found = run_with(1 << 30, 2, Some(scaling.clone()));
        let z = dense(&scaling);
        let mut total = 0.0;
        for g in 0..G {
            total += (0..N).map(|i| z[i * G + g].powi(2)).sum::<f64>() / (N - 1) as f64;
        }
        assert!((found.total_variance - total).abs() < 1e-10 * total);
        for k in 0..5 {
            let v = &found.loadings[k * G..(k + 1) * G];
            let scores: Vec<f64> =
                z.chunks(G).map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect();
            for (i, score) in scores.iter().enumerate() {
                assert!((score - found.scores[k * N + i]).abs() < 1e-10);
            }
            // Z'Z v = (n - 1) lambda v
            for g in 0..G {
                let image: f64 = (0..N).map(|i| z[i * G + g] * scores[i]).sum();
                let want = found.variance[k] * (N - 1) as f64 * v[g];
                assert!((image - want).abs() < 1e-9, "component {k}, gene {g}");
            }
        }
    }

    #[test]
    fn threads_and_packing_do_not_change_a_bit() {
        let scaling = Scaling { zero_center: true, max_value: None, moments: None };
        let mut base = run_with(1 << 30, 1, Some(scaling.clone()));
        assert_eq!(base.reads, 1);
        assert_eq!(base, run_with(1 << 30, 4, Some(scaling.clone())));
        // Half of this does not hold the packed genes; a quarter holds their covariance.
        let small = 24 * (G * G) as u64 * 4;
        let streamed = run_with(small, 2, Some(scaling.clone()));
        assert_eq!(streamed.reads, 4, "packing given up, moments, covariance, scores");
        base.reads = streamed.reads;
        assert_eq!(base, streamed);
        let n_values = values().iter().filter(|x| **x != 0.0).count() as u64;
        let warned = run_knowing(Some(n_values), small, 2, Some(scaling.clone()));
        assert_eq!(warned.reads, 3, "packing not tried");
        base.reads = warned.reads;
        assert_eq!(base, warned);
        assert_eq!(run_knowing(Some(n_values), 1 << 30, 2, Some(scaling)).reads, 1);
    }

    #[test]
    fn krylov_agrees_with_the_covariance() {
        let exact = run_with(1 << 30, 2, None);
        let krylov = run_with(1000, 2, None);
        assert!(krylov.reads > 3);
        for (a, b) in exact.variance.iter().zip(&krylov.variance) {
            assert!((a - b).abs() < 1e-12 * a.abs().max(1.0));
        }
        for (a, b) in exact.loadings.iter().zip(&krylov.loadings) {
            assert!((a - b).abs() < 1e-8);
        }
        assert!((exact.total_variance - krylov.total_variance).abs() < 1e-12);
    }

    #[test]
    fn adjusted_values_are_packed_as_what_they_come_from() {
        let values = values();
        let source = DenseRows::new(N, G, &values).unwrap();
        let adjust = Adjust {
            n_columns: 1,
            design: (0..N).map(|i| (i as f64).cos()).collect(),
            coefficients: (0..G).map(|g| (g as f64 * 0.7).sin()).collect(),
            groups: vec![],
            offset: vec![0.0; G],
            scale: None,
        };
        let adjusted: Vec<f64> = (0..N * G)
            .map(|at| values[at] - adjust.design[at / G] * adjust.coefficients[at % G])
            .collect();
        let chain = Chain { ops: vec![Op::Adjust(adjust)], stored_log: None };
        let view = View::new(N, G, None, &chain).unwrap();
        let scaling = Scaling { zero_center: true, max_value: Some(1.5), moments: None };
        let options = PcaOptions { n_comps: 4, scaling: Some(scaling), n_values: None };
        let run = |source: &dyn Source, view: &View, memory, threads| {
            let ctx = Ctx::new(threads, memory, std::env::temp_dir(), &Silent);
            pca(source, view, &ctx, &options).unwrap()
        };
        let mut found = run(&source, &view, 1 << 30, 1);
        assert_eq!(found.reads, 1);
        assert_eq!(found, run(&source, &view, 1 << 30, 4));
        let streamed = run(&source, &view, 24 * (G * G) as u64 * 4, 2);
        assert_eq!(streamed.reads, 4);
        found.reads = 4;
        assert_eq!(found, streamed);
        // The same as of the adjusted values themselves.
        let source = DenseRows::new(N, G, &adjusted).unwrap();
        let plain = View::new(N, G, None, &Chain::default()).unwrap();
        let want = run(&source, &plain, 1 << 30, 2);
        for (a, b) in found.scores.iter().zip(&want.scores) {
            assert!((a - b).abs() < 1e-10);
        }
        assert!((found.total_variance - want.total_variance).abs() < 1e-11);
    }

    #[test]
    fn too_many_components_are_refused() {
        let values = values();
        let source = DenseRows::new(N, G, &values).unwrap();
        let view = View::new(N, G, None, &Chain::default()).unwrap();
        let ctx = Ctx::new(1, 1 << 30, std::env::temp_dir(), &Silent);
        let options = PcaOptions { n_comps: G, scaling: None, n_values: None };
        assert!(matches!(pca(&source, &view, &ctx, &options), Err(Error::InvalidInput { .. })));
    }
}
