//! Doublets by Scrublet, sample by sample, as scanpy 1.11.5 has it.
//!
//! 1. Genes in three cells or more, then cells with three such genes or more.
//! 2. Counts normalised to the median total; variable genes by the dispersion method with
//!    scanpy's default bounds.
//! 3. Simulated doublets: sums of the counts of these genes over pairs of cells.
//! 4. Cells and doublets normalised to a common total over these genes, standardised by
//!    means and deviations of the cells, and projected on the cells' principal components.
//! 5. Neighbours among all of them, exactly; the score of a point from how many are simulated.
//! 6. The threshold between the modes of the simulated scores.
//!
//! Problem: twice as many doublets as cells, each with the genes of two cells, take four times the
//! memory of the cells. Solution: normalising and projecting are linear in the counts but
//! for the total, so a doublet's place is `(P_a + P_b) / (T_a + T_b)`, with `P` the counts of a
//! cell times the loadings and `T` its total. No doublet has counts.
//!
//! This module puts algorithms together and stands above them. Passes over the rows of a sample: six,
//! and those of [`embed::pca`](crate::embed::pca). Memory: that of `embed::pca` for the variable genes, and
//! `32 n k` bytes for `n` points, simulated ones counted, in `k` dimensions.
//!
//! Reference: Wolock, Lopez, Klein (2019) Scrublet. Cell Systems 8, 281.

mod cells;
mod own;
mod parents;
mod rates;
mod threshold;

use crate::ctx::Ctx;
use crate::embed::{PcaOptions, Scaling, ScorePass, pca};
use crate::error::{Error, Result};
use crate::graph::{Metric, Points, count_neighbors};
use crate::hvg::dispersion::{self, Cutoffs, Method, Selection};
use crate::matrix::Source;
use crate::pass;
use crate::summary::{ColumnSummary, RowSummary, Summary};
use crate::transform::{Op, View};

pub use cells::{GeneCells, GeneCellsPass};
pub use own::OwnRows;
pub use parents::{Pair, draw_parents};
pub use rates::{Rates, scores};
pub use threshold::threshold_minimum;

/// Cells that a gene, and genes that a cell must have.
const LEAST: u64 = 3;

/// The bins and bounds of scanpy's variable genes.
const METHOD: Method = Method::Seurat { n_bins: 20 };
const BOUNDS: Cutoffs =
    Cutoffs { min_mean: 0.0125, max_mean: 3.0, min_disp: 0.5, max_disp: f64::INFINITY };

/// The common total of cells and doublets.
const TARGET: f64 = 1e6;

/// What to compute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Simulated doublets for each cell.
    pub ratio: f64,
    /// Expected rates.
    pub rates: Rates,
    /// Principal components.
    pub n_comps: usize,
    /// Neighbours before doublets are counted; `None` is half the root of the cells.
    pub n_neighbors: Option<usize>,
    /// The threshold; `None` finds it.
    pub threshold: Option<f64>,
    /// Of the pairs.
    pub seed: u64,
}

/// Makes the view of some rows with operations.
pub type MakeView<'s> = dyn Fn(&[usize], Vec<Op>) -> Result<View> + 's;

/// Raw counts, of which views can be made.
pub struct Counts<'s> {
    /// The matrix.
    pub source: &'s dyn Source,
    /// The view of some rows, positions that the samples are made of, with operations.
    pub view: &'s MakeView<'s>,
}

/// What was found of one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Doublets {
    /// Positions in the sample of the cells that were scored.
    pub cells: Vec<usize>,
    /// Their scores.
    pub scores: Vec<f64>,
    /// Standard errors of these.
    pub errors: Vec<f64>,
    /// Scores of the simulated doublets.
    pub simulated: Vec<f64>,
    /// Positions in the sample of their parents.
    pub parents: Vec<Pair>,
    /// The threshold, where there is one.
    pub threshold: Option<f64>,
    /// Neighbours before doublets were counted.
    pub n_neighbors: usize,
    /// Number of variable genes.
    pub n_genes: usize,
}

/// A sample with its doublets, or the cells and variable genes of one that is too small.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was scored.
    Scored(Doublets),
    /// It has too few cells or variable genes for the components.
    TooSmall {
        /// Cells that are left.
        n_cells: usize,
        /// Variable genes.
        n_genes: usize,
    },
}

/// Scores the cells of a sample, the rows `sample` of `counts`.
///
/// `parents` gives the pairs of the simulated doublets instead of drawing them, as
/// positions in the sample.
///
/// # Errors
/// [`Error::InvalidValues`] for what can't be a count; [`Error::InvalidInput`] for parents that
/// are not among the scored cells, and for more neighbours than points.
///
/// # Numerics
/// The same bits for any number of threads; between machines as [`pca`].
pub fn find_doublets(
    counts: &Counts,
    sample: &[usize],
    parents: Option<&[Pair]>,
    ctx: &Ctx,
    options: &Options,
) -> Result<Outcome> {
    let genes = common_genes(counts, sample, ctx)?;
    let (cells, median) = rich_cells(counts, sample, &genes, ctx)?;
    let rows: Vec<usize> = cells.iter().map(|&at| sample[at]).collect();
    let genes = if cells.is_empty() {
        Vec::new()
    } else {
        variable_genes(counts, &rows, genes, median, ctx)?
    };
    let (n_cells, n_genes) = (cells.len(), genes.len());
    if n_cells.min(n_genes) <= options.n_comps {
        return Ok(Outcome::TooSmall { n_cells, n_genes });
    }
    let pairs = if let Some(given) = parents {
        among(given, &cells, sample.len())?
    } else {
        let n_pairs = (n_cells as f64 * options.ratio) as usize;
        draw_parents(n_cells, n_pairs, options.seed)?
    };
    let k = options
        .n_neighbors
        .unwrap_or_else(|| (0.5 * (n_cells as f64).sqrt()).round_ties_even() as usize);
    let ratio = pairs.len() as f64 / n_cells as f64;
    let k_all = (k as f64 * (1.0 + ratio)).round_ties_even() as usize;
    let n_points = n_cells + pairs.len();
    if k_all < 2 || k_all > n_points {
        return Err(Error::InvalidInput {
            argument: "n_neighbors",
            message: format!("{k} neighbours become {k_all} among {n_points} cells and doublets"),
        });
    }
    let needed = 8 * 4 * (n_points * options.n_comps) as u64;
    ctx.check_budget(|| format!("placing {n_points} cells and doublets"), needed)?;
    let points = place(counts, &rows, &genes, &pairs, ctx, options.n_comps)?;
    let simulated = count_neighbors(&points, k_all - 1, n_cells, ctx)?;
    drop(points);
    let (of_cells, of_doublets) = simulated.split_at(n_cells);
    let (found, errors) = scores(of_cells, k_all, ratio, options.rates);
    let (simulated, _) = scores(of_doublets, k_all, ratio, options.rates);
    let threshold = options.threshold.or_else(|| threshold_minimum(&simulated));
    let parents = pairs.iter().map(|pair| pair.map(|at| cells[at as usize] as u32)).collect();
    let n_neighbors = k;
    Ok(Outcome::Scored(Doublets {
        cells,
        scores: found,
        errors,
        simulated,
        parents,
        threshold,
        n_neighbors,
        n_genes,
    }))
}

/// Genes in three cells or more.
fn common_genes(counts: &Counts, rows: &[usize], ctx: &Ctx) -> Result<Vec<u32>> {
    let view = (counts.view)(rows, Vec::new())?;
    let pass = GeneCellsPass { n_vars: view.n_vars() };
    let GeneCells(cells) = pass::run(counts.source, &view, ctx, "Counting genes", &pass)?;
    let often = cells.iter().enumerate().filter(|(_, n)| u64::from(**n) >= LEAST);
    Ok(often.map(|(gene, _)| gene as u32).collect())
}

/// Cells with three of the genes or more, and the median of their totals.
fn rich_cells(
    counts: &Counts,
    rows: &[usize],
    genes: &[u32],
    ctx: &Ctx,
) -> Result<(Vec<usize>, f64)> {
    let summary = row_sums(counts, rows, genes, ctx, "Totals of cells")?;
    let cells: Vec<usize> = (0..rows.len()).filter(|&at| summary.nonzero[at] >= LEAST).collect();
    let mut totals: Vec<f64> = cells.iter().map(|&at| summary.sum[at]).collect();
    totals.sort_by(f64::total_cmp);
    let n = totals.len();
    let median = match n {
        0 => f64::NAN,
        _ if n % 2 == 1 => totals[n / 2],
        _ => f64::midpoint(totals[n / 2 - 1], totals[n / 2]),
    };
    Ok((cells, median))
}

fn row_sums(
    counts: &Counts,
    rows: &[usize],
    genes: &[u32],
    ctx: &Ctx,
    stage: &str,
) -> Result<Summary> {
    let view = (counts.view)(rows, vec![select(genes)])?;
    let pass = RowSummary::new(&view);
    Ok(pass.finish(pass::run(counts.source, &view, ctx, stage, &pass)?))
}

fn select(genes: &[u32]) -> Op {
    Op::SelectGenes { genes: genes.to_vec() }
}

/// Those of the genes that vary more than others of their mean.
fn variable_genes(
    counts: &Counts,
    rows: &[usize],
    genes: Vec<u32>,
    median: f64,
    ctx: &Ctx,
) -> Result<Vec<u32>> {
    let ops = vec![
        select(&genes),
        Op::Normalize { target: median, excluded: Vec::new() },
        Op::Log1p { base: None },
    ];
    let view = (counts.view)(rows, ops)?.with_linear();
    let (pass, view) = ColumnSummary::new(&view).with_linear().over(&view);
    let columns = pass.finish(&pass::run(counts.source, &view, ctx, "Variable genes", &pass)?)?;
    let Some(linear) = columns.linear else { return Ok(Vec::new()) };
    let found =
        dispersion::variable_genes(&linear.mean, &linear.var, METHOD, Selection::Within(BOUNDS));
    Ok(genes.into_iter().zip(found.highly_variable).filter(|(_, is)| *is).map(|(g, _)| g).collect())
}

/// Given parents as positions among the scored cells.
fn among(given: &[Pair], cells: &[usize], n_sample: usize) -> Result<Vec<Pair>> {
    let mut place = vec![None; n_sample];
    for (at, &cell) in cells.iter().enumerate() {
        place[cell] = Some(at as u32);
    }
    let find = |cell: u32| {
        place.get(cell as usize).copied().flatten().ok_or_else(|| Error::InvalidInput {
            argument: "parents",
            message: format!("cell {} of a sample has too few genes for a parent", cell + 1),
        })
    };
    if given.is_empty() {
        return Err(Error::InvalidInput {
            argument: "parents",
            message: "a sample has no parents of doublets".into(),
        });
    }
    given.iter().map(|&[a, b]| Ok([find(a)?, find(b)?])).collect()
}

/// Cells, then doublets, in the space of the cells' principal components.
fn place(
    counts: &Counts,
    rows: &[usize],
    genes: &[u32],
    pairs: &[Pair],
    ctx: &Ctx,
    n_comps: usize,
) -> Result<Points<'static>> {
    let (n, g) = (rows.len(), genes.len());
    let normalize = Op::Normalize { target: TARGET, excluded: Vec::new() };
    let normalized = (counts.view)(rows, vec![select(genes), normalize])?;
    let pass = ColumnSummary::new(&normalized);
    let stage = "Moments of genes";
    let moments = pass.finish(&pass::run(counts.source, &normalized, ctx, stage, &pass)?)?.values;
    let sd: Vec<f64> =
        moments.var.iter().map(|var| if *var > 0.0 { var.sqrt() } else { 1.0 }).collect();
    let scaling = Scaling {
        zero_center: true,
        max_value: None,
        moments: Some((moments.mean.clone(), sd.clone())),
    };
    let options = PcaOptions { n_comps, scaling: Some(scaling), n_values: None };
    let mut weights = pca(counts.source, &normalized, ctx, &options)?.loadings;
    drop(normalized);
    for component in weights.chunks_mut(g) {
        for (weight, sd) in component.iter_mut().zip(&sd) {
            *weight /= sd;
        }
    }
    let view = (counts.view)(rows, vec![select(genes)])?;
    let pass = ScorePass::new(&weights, g, &vec![0.0; g], n);
    let projected = pass::run(counts.source, &view, ctx, "Projecting cells", &pass)?;
    let projected = pass.finish(&projected, n);
    let totals = row_sums(counts, rows, genes, ctx, "Totals of variable genes")?.sum;
    let mut columns = Vec::with_capacity((n + pairs.len()) * n_comps);
    for (weights, of_cells) in weights.chunks(g).zip(projected.chunks(n)) {
        let centre: f64 = weights.iter().zip(&moments.mean).map(|(w, mean)| w * mean).sum();
        // A point without counts stays at zero counts, as normalising leaves it.
        let at = |sum: f64, total: f64| {
            let share = if total > 0.0 { sum * TARGET / total } else { 0.0 };
            share - centre
        };
        columns.extend(of_cells.iter().zip(&totals).map(|(sum, total)| at(*sum, *total)));
        columns.extend(pairs.iter().map(|&[a, b]| {
            let (a, b) = (a as usize, b as usize);
            at(of_cells[a] + of_cells[b], totals[a] + totals[b])
        }));
    }
    Points::from_columns(columns, n + pairs.len(), Metric::Euclidean)
}

#[cfg(test)]
mod tests;
