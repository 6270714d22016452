//! Harmony: an embedding in which batches lie on each other.
//!
//! Korsunsky et al. (2019), *Nature Methods* 16, 1289. Two steps in turn:
//!
//! 1. Soft clusters of the cells by the cosine, with a penalty on clusters in
//!    which a batch has more than its share. Cells change their clusters in
//!    blocks, in random order, so that each block sees the shares that the last one
//!    left.
//! 2. Each cluster's regression of the coordinates on the batches, with a ridge on
//!    all but the intercept. What batches explain is subtracted from the cells, in
//!    proportion to their clusters.
//!
//! Cells are kept in the order of their combination of batches, so that a
//! combination is a run of rows, and sums over a batch are products of matrices.
//!
//! Memory: `8 n (2 d + k)` bytes for n cells, d dimensions and k clusters, and as
//! much as `8 n d` for the result.
//!
//! # Numerics
//! Threads own clusters or cells, and sums run in the order of cells: the same bits for
//! any number of threads on one machine. The kernels of products follow the
//! processor.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::kmeans::kmeans_centers;
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::stats::log1p::exp_all;
use crate::stats::random::Rng;

/// Cells whose clusters are computed together.
const CELLS: usize = 128;

/// Rows of a product that sums over cells.
const ROWS: usize = 512;

/// Clusters that a thread sums for.
const CLUSTERS: usize = 16;

/// Objectives that are averaged before they are compared.
const WINDOW: usize = 3;

/// The batches of all cells: one or more variables, each with a level for every cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Batches {
    /// Number of levels of each variable; every level has a cell.
    pub n_levels: Vec<usize>,
    /// The level of each cell, by variable.
    pub codes: Vec<Vec<u32>>,
}

/// How to align.
#[derive(Debug, Clone, PartialEq)]
pub struct HarmonyOptions {
    /// Weight of the penalty on uneven clusters, by variable.
    pub theta: Vec<f64>,
    /// Ridge of the regression, by variable; above zero.
    pub lambda: Vec<f64>,
    /// Width of soft clusters.
    pub sigma: f64,
    /// Number of clusters.
    pub n_clusters: usize,
    /// Weakens the penalty of batches with fewer than about so many cells a
    /// cluster; zero does not.
    pub tau: f64,
    /// Share of the cells that change clusters together.
    pub block_size: f64,
    /// Most alternations of the two steps.
    pub max_iter: usize,
    /// Most rounds of clustering in each.
    pub max_iter_clusters: usize,
    /// Relative change of the objective that ends the rounds of clustering.
    pub epsilon_clusters: f64,
    /// Relative gain in the objective that ends the alternation.
    pub epsilon: f64,
    /// Seed of starts and orders.
    pub seed: u64,
    /// Whether blocks are drawn anew each time; otherwise they follow the order of
    /// cells.
    pub shuffle: bool,
    /// First centres, cluster after cluster; `None` finds some.
    pub centers: Option<Vec<f64>>,
}

/// An aligned embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Harmony {
    /// Coordinates, one dimension after the other.
    pub corrected: Vec<f64>,
    /// Whether the objective stopped falling.
    pub converged: bool,
    /// The objective at the start and after the clustering of each alternation.
    pub objective: Vec<f64>,
    /// Rounds of clustering in each.
    pub rounds: Vec<usize>,
}

/// Aligns the batches of `n` cells whose coordinates are `columns`, one dimension
/// after the other.
///
/// `rows` is what random choices depend on besides the seed, one number a cell.
///
/// # Errors
/// [`Error::InvalidInput`] where sizes do not fit, [`Error::InvalidValues`] for
/// cells without direction or finite values, and when `ctx` stops or the budget is
/// too small.
pub fn harmony(
    columns: &[f64],
    rows: &[usize],
    batches: &Batches,
    options: &HarmonyOptions,
    ctx: &Ctx,
) -> Result<Harmony> {
    let (n, k) = (rows.len(), options.n_clusters);
    let d = columns.len().checked_div(n).unwrap_or(0);
    check(columns.len(), n, d, batches, options)?;
    let needed = 8 * n as u64 * (2 * d + k) as u64;
    ctx.check_budget(|| format!("aligning {n} cells"), needed)?;
    let mut state = State::new(columns, n, d, batches, options)?;
    state.start(rows, options, ctx)?;
    let mut kept = Harmony {
        corrected: Vec::new(),
        converged: false,
        objective: vec![state.objective],
        rounds: Vec::new(),
    };
    for iteration in 0..options.max_iter {
        ctx.poll("Aligning cells", iteration as u64, options.max_iter as u64)?;
        kept.rounds.push(state.cluster(options, ctx)?);
        state.correct(ctx)?;
        let before = kept.objective[iteration];
        kept.objective.push(state.objective);
        if (before - state.objective) / before.abs() < options.epsilon {
            kept.converged = true;
            break;
        }
    }
    kept.corrected = state.layout.columns(&state.corrected, d);
    Ok(kept)
}

fn check(
    len: usize,
    n: usize,
    d: usize,
    batches: &Batches,
    options: &HarmonyOptions,
) -> Result<()> {
    let wrong = |argument, message: &str| {
        Err(Error::InvalidInput { argument, message: message.to_owned() })
    };
    if n == 0 || d == 0 || len != n * d || u32::try_from(n).is_err() {
        return wrong("x", "the embedding is no matrix of cells");
    }
    let n_variables = batches.n_levels.len();
    let fits = |(codes, &levels): (&Vec<u32>, &usize)| {
        codes.len() == n && codes.iter().all(|&code| (code as usize) < levels)
    };
    if n_variables == 0
        || batches.codes.len() != n_variables
        || !batches.codes.iter().zip(&batches.n_levels).all(fits)
    {
        return wrong("batches", "there is not one level of each variable for each cell");
    }
    if options.theta.len() != n_variables || options.lambda.len() != n_variables {
        return wrong("theta", "there is not one weight for each variable");
    }
    let k = options.n_clusters;
    if k == 0 || k > n {
        return wrong("n_clusters", "there must be from one to as many clusters as cells");
    }
    if options.centers.as_ref().is_some_and(|centers| centers.len() != k * d) {
        return wrong("centers", "centres do not fit clusters and dimensions");
    }
    let positive = |x: &f64| *x > 0.0;
    let share = options.block_size > 0.0 && options.block_size <= 1.0;
    if !(positive(&options.sigma) && options.lambda.iter().all(positive) && share) {
        return wrong("sigma", "widths, ridges and shares must be above zero");
    }
    Ok(())
}

/// Cells of one combination of batches.
struct Run {
    cells: Range<usize>,
    /// One level of each variable, counted through all of them.
    levels: Vec<usize>,
}

/// Where cells stand.
struct Layout {
    /// The cell at each place.
    cell: Vec<usize>,
    /// The place of each cell.
    place: Vec<usize>,
    runs: Vec<Run>,
    /// The run of each place.
    run_of: Vec<u32>,
}

impl Layout {
    fn new(batches: &Batches, n: usize) -> Self {
        let key = |cell: usize| batches.codes.iter().map(move |codes| codes[cell]);
        let mut cell: Vec<usize> = (0..n).collect();
        cell.sort_by(|&a, &b| key(a).cmp(key(b)));
        let mut place = vec![0; n];
        for (at, &cell) in cell.iter().enumerate() {
            place[cell] = at;
        }
        let first_level: Vec<usize> = batches
            .n_levels
            .iter()
            .scan(0, |sum, &levels| {
                *sum += levels;
                Some(*sum - levels)
            })
            .collect();
        let mut runs: Vec<Run> = Vec::new();
        let mut run_of = vec![0; n];
        for at in 0..n {
            if at == 0 || !key(cell[at]).eq(key(cell[at - 1])) {
                let levels =
                    key(cell[at]).zip(&first_level).map(|(code, first)| first + code as usize);
                runs.push(Run { cells: at..at, levels: levels.collect() });
            }
            let last = runs.len() - 1;
            runs[last].cells.end = at + 1;
            run_of[at] = last as u32;
        }
        Layout { cell, place, runs, run_of }
    }

    /// Rows of the places from columns of the cells.
    fn rows(&self, columns: &[f64], d: usize) -> Vec<f64> {
        let n = self.cell.len();
        let mut rows = vec![0.0; n * d];
        for (row, &cell) in rows.chunks_mut(d).zip(&self.cell) {
            for (j, x) in row.iter_mut().enumerate() {
                *x = columns[j * n + cell];
            }
        }
        rows
    }

    /// Columns of the cells from rows of the places.
    fn columns(&self, rows: &[f64], d: usize) -> Vec<f64> {
        let n = self.cell.len();
        let mut columns = vec![0.0; n * d];
        for (row, &cell) in rows.chunks(d).zip(&self.cell) {
            for (j, &x) in row.iter().enumerate() {
                columns[j * n + cell] = x;
            }
        }
        columns
    }

    /// Parts of runs of at most `size` cells.
    fn tiles(&self, size: usize) -> Vec<(usize, Range<usize>)> {
        let cut = |(number, run): (usize, &Run)| {
            let cells = run.cells.clone();
            let end = cells.end;
            cells
                .step_by(size)
                .map(move |at| (number, at..(at + size).min(end)))
                .collect::<Vec<_>>()
        };
        self.runs.iter().enumerate().flat_map(cut).collect()
    }
}

struct State {
    n: usize,
    d: usize,
    k: usize,
    sigma: f64,
    layout: Layout,
    /// Weight, ridge and share of the cells of each level.
    theta: Vec<f64>,
    lambda: Vec<f64>,
    share: Vec<f64>,
    /// Coordinates, a row for each place.
    original: Vec<f64>,
    corrected: Vec<f64>,
    /// One over the length of each corrected row.
    inverse: Vec<f64>,
    /// Centres of length one, a row for each cluster.
    centers: Vec<f64>,
    /// Probabilities of the clusters, a row for each place.
    soft: Vec<f64>,
    /// Sum of the probabilities of each cluster, and of the cells of each level:
    /// a row for each level.
    mass: Vec<f64>,
    observed: Vec<f64>,
    objective: f64,
    /// Rounds of clustering so far.
    n_rounds: u64,
}

/// New probabilities of some cells and their parts of the objective.
#[derive(Default)]
struct Update {
    soft: Vec<f64>,
    distance: f64,
    entropy: f64,
}

impl State {
    fn new(
        columns: &[f64],
        n: usize,
        d: usize,
        batches: &Batches,
        options: &HarmonyOptions,
    ) -> Result<Self> {
        let layout = Layout::new(batches, n);
        let k = options.n_clusters;
        let original = layout.rows(columns, d);
        let n_levels = batches.n_levels.iter().sum();
        let mut share = vec![0.0; n_levels];
        for run in &layout.runs {
            for &level in &run.levels {
                share[level] += run.cells.len() as f64;
            }
        }
        let by_level = |values: &[f64]| -> Vec<f64> {
            let each = values.iter().zip(&batches.n_levels);
            each.flat_map(|(&value, &levels)| std::iter::repeat_n(value, levels)).collect()
        };
        let mut theta = by_level(&options.theta);
        if options.tau > 0.0 {
            for (theta, cells) in theta.iter_mut().zip(&share) {
                let ratio = cells / (k as f64 * options.tau);
                *theta *= -libm::expm1(-ratio * ratio);
            }
        }
        for share in &mut share {
            *share /= n as f64;
        }
        let mut state = State {
            n,
            d,
            k,
            sigma: options.sigma,
            theta,
            lambda: by_level(&options.lambda),
            share,
            corrected: original.clone(),
            original,
            inverse: vec![0.0; n],
            centers: Vec::new(),
            soft: vec![0.0; n * k],
            mass: vec![0.0; k],
            observed: vec![0.0; n_levels * k],
            objective: 0.0,
            n_rounds: 0,
            layout,
        };
        for (place, row) in state.original.chunks(d).enumerate() {
            state.inverse[place] = 1.0 / length(row);
            if !state.inverse[place].is_finite() || state.inverse[place] == 0.0 {
                return Err(Error::InvalidValues {
                    message: format!(
                        "cell {} has no direction in the embedding: its values are zero or not finite",
                        state.layout.cell[place] + 1
                    ),
                });
            }
        }
        Ok(state)
    }

    /// First centres and probabilities.
    fn start(&mut self, rows: &[usize], options: &HarmonyOptions, ctx: &Ctx) -> Result<()> {
        self.centers = if let Some(centers) = &options.centers {
            centers.clone()
        } else {
            let mut unit = self.original.clone();
            for (row, inverse) in unit.chunks_mut(self.d).zip(&self.inverse) {
                for x in row {
                    *x *= inverse;
                }
            }
            let rows: Vec<usize> = self.layout.cell.iter().map(|&cell| rows[cell]).collect();
            kmeans_centers(&unit, self.d, &rows, self.k, options.seed, ctx)?
        };
        self.normalize_centers();
        let all: Vec<usize> = (0..self.n).collect();
        let even = vec![1.0; self.layout.runs.len() * self.k];
        let (distance, entropy) = self.assign(&all, &even, ctx)?;
        self.count(&all, 1.0);
        self.objective = distance + entropy + self.unevenness();
        Ok(())
    }

    fn normalize_centers(&mut self) {
        for center in self.centers.chunks_mut(self.d) {
            let length = length(center);
            // A cluster without cells has a centre nowhere and attracts none.
            if length > 0.0 {
                for x in center {
                    *x /= length;
                }
            }
        }
    }

    /// Rounds of clustering until the objective settles. Returns their number.
    fn cluster(&mut self, options: &HarmonyOptions, ctx: &Ctx) -> Result<usize> {
        let mut objectives = Vec::with_capacity(options.max_iter_clusters);
        for round in 0..options.max_iter_clusters {
            ctx.poll("Aligning cells", round as u64, options.max_iter_clusters as u64)?;
            self.move_centers(ctx)?;
            self.objective = self.update(options, ctx)?;
            objectives.push(self.objective);
            let n = objectives.len();
            if n > WINDOW + 1 {
                let old: f64 = objectives[n - WINDOW - 1..n - 1].iter().sum();
                let new: f64 = objectives[n - WINDOW..].iter().sum();
                if (old - new).abs() / old.abs() < options.epsilon_clusters {
                    break;
                }
            }
        }
        Ok(objectives.len())
    }

    /// Centres are the directions of the weighted sums of their cells.
    fn move_centers(&mut self, ctx: &Ctx) -> Result<()> {
        let (d, k) = (self.d, self.k);
        let mut centers = vec![0.0; k * d];
        let slots: Vec<_> = centers.chunks_mut(CLUSTERS * d).map(Mutex::new).collect();
        let state = &*self;
        tasks(ctx, slots.len(), |chunk, scratch: &mut Vec<f64>| {
            let first = chunk * CLUSTERS;
            let width = CLUSTERS.min(k - first);
            let mut sum = slots[chunk].lock().unwrap_or_else(PoisonError::into_inner);
            for begin in (0..state.n).step_by(ROWS) {
                let places = begin..(begin + ROWS).min(state.n);
                scratch.clear();
                for place in places.clone() {
                    let soft = &state.soft[place * k + first..][..width];
                    scratch.extend(soft.iter().map(|r| r * state.inverse[place]));
                }
                add_product(&mut sum, scratch, width, rows_of(&state.corrected, &places, d), d);
            }
        })?;
        drop(slots);
        self.centers = centers;
        self.normalize_centers();
        Ok(())
    }

    /// New probabilities of all cells, block by block. Returns the objective.
    fn update(&mut self, options: &HarmonyOptions, ctx: &Ctx) -> Result<f64> {
        let mut order: Vec<usize> = (0..self.n).collect();
        if options.shuffle {
            let mut rng = Rng::new(options.seed, self.n_rounds);
            for i in (1..self.n).rev() {
                order.swap(i, rng.below(i as u64 + 1) as usize);
            }
        }
        self.n_rounds += 1;
        // Afresh, so that rounding does not add up.
        let all: Vec<usize> = (0..self.n).collect();
        self.mass.fill(0.0);
        self.observed.fill(0.0);
        self.count(&all, 1.0);
        let n_blocks = (1.0 / options.block_size).ceil() as usize;
        let (mut distance, mut entropy, mut begin) = (0.0, 0.0, 0);
        for block in 0..n_blocks {
            let size = self.n / n_blocks + usize::from(block < self.n % n_blocks);
            let cells = &order[begin..begin + size];
            begin += size;
            let mut places: Vec<usize> = cells.iter().map(|&c| self.layout.place[c]).collect();
            places.sort_unstable();
            self.count(&places, -1.0);
            let penalty = self.penalty();
            let (of_distance, of_entropy) = self.assign(&places, &penalty, ctx)?;
            distance += of_distance;
            entropy += of_entropy;
            self.count(&places, 1.0);
        }
        Ok(distance + entropy + self.unevenness())
    }

    /// Adds some cells to the sums, or takes them out.
    fn count(&mut self, places: &[usize], sign: f64) {
        let k = self.k;
        let mut sum = vec![0.0; k];
        let mut at = 0;
        while at < places.len() {
            let run = self.layout.run_of[places[at]];
            sum.fill(0.0);
            while at < places.len() && self.layout.run_of[places[at]] == run {
                let soft = &self.soft[places[at] * k..][..k];
                sum.iter_mut().zip(soft).for_each(|(sum, r)| *sum += r);
                at += 1;
            }
            let add = |into: &mut [f64]| {
                into.iter_mut().zip(&sum).for_each(|(into, x)| *into += sign * x);
            };
            add(&mut self.mass);
            for &level in &self.layout.runs[run as usize].levels {
                add(&mut self.observed[level * k..(level + 1) * k]);
            }
        }
    }

    /// What a cluster's probability is multiplied by, a row for each run: more than
    /// one for each variable of which the cluster has less than its share.
    fn penalty(&self) -> Vec<f64> {
        let k = self.k;
        let mut by_level = vec![0.0; self.observed.len()];
        for (level, row) in by_level.chunks_mut(k).enumerate() {
            for (c, x) in row.iter_mut().enumerate() {
                let expected = self.share[level] * self.mass[c] + 1.0;
                let ratio = expected / (self.observed[level * k + c] + 1.0);
                *x = libm::pow(ratio, self.theta[level]);
            }
        }
        let mut penalty = vec![0.0; self.layout.runs.len() * k];
        for (row, run) in penalty.chunks_mut(k).zip(&self.layout.runs) {
            for &level in &run.levels {
                let of_level = &by_level[level * k..(level + 1) * k];
                row.iter_mut().zip(of_level).for_each(|(sum, x)| *sum += x);
            }
        }
        penalty
    }

    /// The penalty's part of the objective.
    fn unevenness(&self) -> f64 {
        let k = self.k;
        let mut sum = 0.0;
        for (level, row) in self.observed.chunks(k).enumerate() {
            for (&observed, mass) in row.iter().zip(&self.mass) {
                let expected = self.share[level] * mass;
                let log = libm::log((observed + 1.0) / (expected + 1.0));
                sum += self.sigma * self.theta[level] * log * observed;
            }
        }
        sum
    }

    /// Gives the cells at some places their clusters. Returns the distance and the
    /// entropy that these add to the objective.
    fn assign(&mut self, places: &[usize], penalty: &[f64], ctx: &Ctx) -> Result<(f64, f64)> {
        let k = self.k;
        // Some tiles at a time: the updates are a small part of all probabilities.
        let (mut distance, mut entropy) = (0.0, 0.0);
        for places in places.chunks(CELLS * 64) {
            let tiles: Vec<&[usize]> = places.chunks(CELLS).collect();
            let updates: Vec<Mutex<Update>> = tiles.iter().map(|_| Mutex::default()).collect();
            let state = &*self;
            let logs: Vec<f64> = penalty.iter().map(|&x| libm::log(x)).collect();
            tasks(ctx, tiles.len(), |tile, scratch: &mut Vec<f64>| {
                let update = state.soft_clusters(tiles[tile], penalty, &logs, scratch);
                *updates[tile].lock().unwrap_or_else(PoisonError::into_inner) = update;
            })?;
            for (tile, update) in tiles.iter().zip(updates) {
                let update = update.into_inner().unwrap_or_else(PoisonError::into_inner);
                distance += update.distance;
                entropy += update.entropy;
                for (&place, soft) in tile.iter().zip(update.soft.chunks(k)) {
                    self.soft[place * k..][..k].copy_from_slice(soft);
                }
            }
        }
        Ok((distance, entropy))
    }

    fn soft_clusters(
        &self,
        places: &[usize],
        penalty: &[f64],
        logs: &[f64],
        scratch: &mut Vec<f64>,
    ) -> Update {
        let (d, k) = (self.d, self.k);
        scratch.clear();
        for &place in places {
            let row = &self.corrected[place * d..][..d];
            scratch.extend(row.iter().map(|x| x * self.inverse[place]));
        }
        let mut soft = vec![0.0; places.len() * k];
        matmul(
            MatMut::from_row_major_slice_mut(&mut soft, places.len(), k),
            Accum::Replace,
            MatRef::from_row_major_slice(scratch, places.len(), d),
            MatRef::from_row_major_slice(&self.centers, k, d).transpose(),
            1.0,
            Par::Seq,
        );
        let (mut distance, mut entropy) = (0.0, 0.0);
        scratch.resize(k.max(scratch.len()), 0.0);
        let cosines = &mut scratch[..k];
        for (&place, soft) in places.iter().zip(soft.chunks_mut(k)) {
            let run = self.layout.run_of[place] as usize;
            let (penalty, logs) = (&penalty[run * k..][..k], &logs[run * k..][..k]);
            cosines.copy_from_slice(soft);
            let nearest = soft.iter().fold(f64::NEG_INFINITY, |most, &x| most.max(x));
            let scale = 2.0 / self.sigma;
            for x in soft.iter_mut() {
                *x = (*x - nearest) * scale;
            }
            exp_all(soft);
            let mut sum = 0.0;
            for (x, penalty) in soft.iter_mut().zip(penalty) {
                *x *= penalty;
                sum += *x;
            }
            let (inverse, log_sum) = (1.0 / sum, libm::log(sum));
            for ((x, log), cosine) in soft.iter_mut().zip(logs).zip(cosines.iter()) {
                *x *= inverse;
                distance += *x * (2.0 - 2.0 * cosine);
                entropy += *x * ((cosine - nearest) * scale + log - log_sum);
            }
        }
        Update { soft, distance, entropy: entropy * self.sigma }
    }

    /// Subtracts what the batches explain in each cluster.
    fn correct(&mut self, ctx: &Ctx) -> Result<()> {
        let (d, k) = (self.d, self.k);
        let n_chunks = k.div_ceil(CLUSTERS);
        let effects: Vec<Mutex<Vec<f64>>> = (0..n_chunks).map(|_| Mutex::default()).collect();
        let state = &*self;
        tasks(ctx, n_chunks, |chunk, scratch: &mut Vec<f64>| {
            let found = state.regress(chunk * CLUSTERS, scratch);
            *effects[chunk].lock().unwrap_or_else(PoisonError::into_inner) = found;
        })?;
        let effects: Vec<Vec<f64>> = effects
            .into_iter()
            .map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let tiles = self.layout.tiles(ROWS);
        let mut slots = Vec::with_capacity(tiles.len());
        let (mut rows, mut inverses) =
            (std::mem::take(&mut self.corrected), std::mem::take(&mut self.inverse));
        let (mut rows_left, mut inverses_left) = (&mut rows[..], &mut inverses[..]);
        for (_, places) in &tiles {
            let (rows, rest) = rows_left.split_at_mut(places.len() * d);
            let (inverses, more) = inverses_left.split_at_mut(places.len());
            (rows_left, inverses_left) = (rest, more);
            slots.push(Mutex::new((rows, inverses)));
        }
        let state = &*self;
        tasks(ctx, tiles.len(), |tile, scratch: &mut Vec<f64>| {
            let (run, places) = &tiles[tile];
            // Effects of this combination of levels, a row for each cluster.
            scratch.clear();
            scratch.resize(k * d, 0.0);
            for (chunk, effects) in effects.iter().enumerate() {
                let width = CLUSTERS.min(k - chunk * CLUSTERS) * d;
                let into = &mut scratch[chunk * CLUSTERS * d..][..width];
                for &level in &state.layout.runs[*run].levels {
                    let of_level = &effects[level * width..][..width];
                    into.iter_mut().zip(of_level).for_each(|(sum, x)| *sum += x);
                }
            }
            let mut slot = slots[tile].lock().unwrap_or_else(PoisonError::into_inner);
            let (rows, inverses) = &mut *slot;
            rows.copy_from_slice(rows_of(&state.original, places, d));
            matmul(
                MatMut::from_row_major_slice_mut(rows, places.len(), d),
                Accum::Add,
                MatRef::from_row_major_slice(rows_of(&state.soft, places, k), places.len(), k),
                MatRef::from_row_major_slice(scratch, k, d),
                -1.0,
                Par::Seq,
            );
            for (row, inverse) in rows.chunks(d).zip(inverses.iter_mut()) {
                let length = length(row);
                *inverse = if length > 0.0 { 1.0 / length } else { 0.0 };
            }
        })?;
        drop(slots);
        (self.corrected, self.inverse) = (rows, inverses);
        Ok(())
    }

    /// Coefficients of the levels in the clusters from `first` on: for each level a
    /// row for each cluster.
    fn regress(&self, first: usize, scratch: &mut Vec<f64>) -> Vec<f64> {
        let (d, k) = (self.d, self.k);
        let n_levels = self.share.len();
        let width = CLUSTERS.min(k - first);
        let size = width * d;
        // The right-hand sides: of the intercept, then of the levels.
        let mut sides = vec![0.0; (n_levels + 1) * size];
        let mut masses = vec![0.0; self.layout.runs.len() * width];
        let mut of_run = vec![0.0; size];
        for (run, masses) in self.layout.runs.iter().zip(masses.chunks_mut(width)) {
            of_run.fill(0.0);
            for begin in run.cells.clone().step_by(ROWS) {
                let places = begin..(begin + ROWS).min(run.cells.end);
                scratch.clear();
                for place in places.clone() {
                    scratch.extend_from_slice(&self.soft[place * k + first..][..width]);
                }
                for soft in scratch.chunks(width) {
                    masses.iter_mut().zip(soft).for_each(|(sum, r)| *sum += r);
                }
                add_product(&mut of_run, scratch, width, rows_of(&self.original, &places, d), d);
            }
            for row in std::iter::once(0).chain(run.levels.iter().map(|level| level + 1)) {
                let into = &mut sides[row * size..(row + 1) * size];
                into.iter_mut().zip(&of_run).for_each(|(sum, x)| *sum += x);
            }
        }
        let order = n_levels + 1;
        let mut matrix = vec![0.0; order * order];
        let mut side = vec![0.0; order * d];
        let mut effects = vec![0.0; n_levels * size];
        for cluster in 0..width {
            matrix.fill(0.0);
            for (run, masses) in self.layout.runs.iter().zip(masses.chunks(width)) {
                let mass = masses[cluster];
                matrix[0] += mass;
                for &a in &run.levels {
                    matrix[(a + 1) * order] += mass;
                    for &b in &run.levels {
                        matrix[(a + 1) * order + b + 1] += mass;
                    }
                }
            }
            for (level, lambda) in self.lambda.iter().enumerate() {
                matrix[(level + 1) * order + level + 1] += lambda;
            }
            for (row, side) in side.chunks_mut(d).enumerate() {
                side.copy_from_slice(&sides[row * size + cluster * d..][..d]);
            }
            // An empty cluster corrects nothing.
            if solve(&mut matrix, &mut side, order, d) {
                for level in 0..n_levels {
                    let row = &side[(level + 1) * d..(level + 2) * d];
                    effects[level * size + cluster * d..][..d].copy_from_slice(row);
                }
            }
        }
        effects
    }
}

fn length(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Rows of a matrix of `width` columns.
fn rows_of<'a>(rows: &'a [f64], places: &Range<usize>, width: usize) -> &'a [f64] {
    &rows[places.start * width..places.end * width]
}

/// Adds `weights' rows` to a sum of `width` by `d`.
fn add_product(sum: &mut [f64], weights: &[f64], width: usize, rows: &[f64], d: usize) {
    let n = rows.len() / d;
    matmul(
        MatMut::from_row_major_slice_mut(sum, width, d),
        Accum::Add,
        MatRef::from_row_major_slice(weights, n, width).transpose(),
        MatRef::from_row_major_slice(rows, n, d),
        1.0,
        Par::Seq,
    );
}

/// Runs tasks over the threads, a single one without them.
fn tasks(ctx: &Ctx, n: usize, task: impl Fn(usize, &mut Vec<f64>) + Sync) -> Result<()> {
    if n <= 1 || ctx.threads() == 1 {
        let mut scratch = Vec::new();
        for i in 0..n {
            task(i, &mut scratch);
        }
        return Ok(());
    }
    ctx.parallel("Aligning cells", n, Vec::new, |i, scratch| {
        task(i, scratch);
        Ok(())
    })
}

/// Solves for `d` right-hand sides at once, rows of `side`, by Cholesky's decomposition
/// of the lower triangle of `a`, both in place; `false` where a pivot is not positive.
fn solve(a: &mut [f64], side: &mut [f64], n: usize, d: usize) -> bool {
    for j in 0..n {
        for i in j..n {
            let (row_i, row_j) = (&a[i * n..i * n + j], &a[j * n..j * n + j]);
            let sum = a[i * n + j] - row_i.iter().zip(row_j).map(|(x, y)| x * y).sum::<f64>();
            if i > j {
                a[i * n + j] = sum / a[j * n + j];
            } else if sum > 0.0 {
                a[j * n + j] = sum.sqrt();
            } else {
                return false;
            }
        }
    }
    let subtract = |side: &mut [f64], i: usize, j: usize, factor: f64| {
        for c in 0..d {
            side[i * d + c] -= factor * side[j * d + c];
        }
    };
    let divide = |side: &mut [f64], i: usize, pivot: f64| {
        for x in &mut side[i * d..(i + 1) * d] {
            *x /= pivot;
        }
    };
    for i in 0..n {
        for j in 0..i {
            subtract(side, i, j, a[i * n + j]);
        }
        divide(side, i, a[i * n + i]);
    }
    for i in (0..n).rev() {
        for j in i + 1..n {
            subtract(side, i, j, a[j * n + i]);
        }
        divide(side, i, a[i * n + i]);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Silent;

    fn ctx(threads: usize) -> Ctx<'static> {
        Ctx::new(threads, 1 << 30, std::path::PathBuf::new(), &Silent)
    }

    /// Three types of cells in two batches, one shifted, and two donors of each
    /// batch; in columns.
    fn cells(n: usize) -> (Vec<f64>, Batches) {
        let mut rng = Rng::new(3, 1);
        let batch: Vec<u32> = (0..n).map(|i| u32::from(i % 5 < 2)).collect();
        let donor: Vec<u32> = (0..n).map(|i| (i % 7 % 3) as u32).collect();
        let mut columns = Vec::new();
        for j in 0..4_usize {
            for (i, &batch) in batch.iter().enumerate() {
                let of_type = if i % 3 == j { 5.0 } else { 0.0 };
                let shift = if j == 3 { 4.0 * f64::from(batch) } else { f64::from(batch) };
                columns.push(of_type + shift + rng.uniform() - 0.5);
            }
        }
        (columns, Batches { n_levels: vec![2, 3], codes: vec![batch, donor] })
    }

    fn options() -> HarmonyOptions {
        HarmonyOptions {
            theta: vec![2.0, 1.0],
            lambda: vec![1.0, 0.5],
            sigma: 0.1,
            n_clusters: 5,
            tau: 0.0,
            block_size: 0.05,
            max_iter: 10,
            max_iter_clusters: 20,
            epsilon_clusters: 1e-5,
            epsilon: 1e-4,
            seed: 0,
            shuffle: true,
            centers: None,
        }
    }

    fn rows(n: usize) -> Vec<usize> {
        (0..n).collect()
    }

    /// The algorithm in plain loops over cells, clusters and levels, cells in their
    /// order; returns the columns and objectives.
    // Named as in the paper, and as plain as can be.
    #[allow(clippy::many_single_char_names, clippy::needless_range_loop, clippy::too_many_lines)]
    fn naive(
        columns: &[f64],
        n: usize,
        batches: &Batches,
        options: &HarmonyOptions,
    ) -> (Vec<f64>, Vec<f64>) {
        let (d, k) = (columns.len() / n, options.n_clusters);
        let unit = |x: &[f64]| -> Vec<f64> {
            let l = length(x);
            x.iter().map(|x| x / l).collect()
        };
        let levels: Vec<(usize, u32)> = (0..batches.n_levels.len())
            .flat_map(|v| (0..batches.n_levels[v] as u32).map(move |l| (v, l)))
            .collect();
        let has =
            |i: usize, b: usize| f64::from(u8::from(batches.codes[levels[b].0][i] == levels[b].1));
        let original: Vec<Vec<f64>> =
            (0..n).map(|i| (0..d).map(|j| columns[j * n + i]).collect()).collect();
        let mut z: Vec<Vec<f64>> = original.iter().map(|x| unit(x)).collect();
        let mut corrected = original.clone();
        let share: Vec<f64> =
            (0..levels.len()).map(|b| (0..n).map(|i| has(i, b)).sum::<f64>() / n as f64).collect();
        let theta = |b: usize| options.theta[levels[b].0];
        let mut y: Vec<Vec<f64>> = options.centers.as_ref().unwrap().chunks(d).map(unit).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let distance = |z: &[f64], y: &[f64]| 2.0 * (1.0 - dot(z, y));
        let weights = |z: &[f64], y: &[Vec<f64>]| -> Vec<f64> {
            y.iter().map(|y| (-distance(z, y) / options.sigma).exp()).collect()
        };
        let share_out = |w: Vec<f64>| -> Vec<f64> {
            let sum: f64 = w.iter().sum();
            w.into_iter().map(|w| w / sum).collect()
        };
        let mut r: Vec<Vec<f64>> = z.iter().map(|z| share_out(weights(z, &y))).collect();
        let observed = |r: &[Vec<f64>], out: &[usize], c: usize, b: usize| -> f64 {
            (0..n).filter(|i| !out.contains(i)).map(|i| r[i][c] * has(i, b)).sum()
        };
        let mass = |r: &[Vec<f64>], out: &[usize], c: usize| -> f64 {
            (0..n).filter(|i| !out.contains(i)).map(|i| r[i][c]).sum()
        };
        let objective = |r: &[Vec<f64>], z: &[Vec<f64>], y: &[Vec<f64>]| {
            let mut sum = 0.0;
            for i in 0..n {
                for c in 0..k {
                    sum += r[i][c] * distance(&z[i], &y[c]);
                    sum += options.sigma * r[i][c] * r[i][c].ln();
                }
            }
            for c in 0..k {
                for b in 0..levels.len() {
                    let o = observed(r, &[], c, b);
                    let e = share[b] * mass(r, &[], c);
                    sum += options.sigma * theta(b) * o * ((o + 1.0) / (e + 1.0)).ln();
                }
            }
            sum
        };
        let mut objectives = vec![objective(&r, &z, &y)];
        for _ in 0..options.max_iter {
            let mut last: Vec<f64> = Vec::new();
            for round in 0..options.max_iter_clusters {
                for (c, y) in y.iter_mut().enumerate() {
                    let sum: Vec<f64> =
                        (0..d).map(|j| (0..n).map(|i| r[i][c] * z[i][j]).sum()).collect();
                    *y = unit(&sum);
                }
                let n_blocks = (1.0 / options.block_size).ceil() as usize;
                let mut begin = 0;
                for block in 0..n_blocks {
                    let size = n / n_blocks + usize::from(block < n % n_blocks);
                    let out: Vec<usize> = (begin..begin + size).collect();
                    begin += size;
                    let factor = |c: usize, b: usize| {
                        let e = share[b] * mass(&r, &out, c) + 1.0;
                        (e / (observed(&r, &out, c, b) + 1.0)).powf(theta(b))
                    };
                    let factors: Vec<Vec<f64>> =
                        (0..k).map(|c| (0..levels.len()).map(|b| factor(c, b)).collect()).collect();
                    for &i in &out {
                        let w = weights(&z[i], &y);
                        let sum = |c: usize| -> f64 {
                            (0..levels.len()).map(|b| factors[c][b] * has(i, b)).sum()
                        };
                        r[i] = share_out((0..k).map(|c| w[c] * sum(c)).collect());
                    }
                }
                last.push(objective(&r, &z, &y));
                if round > 3 {
                    let at = last.len();
                    let old: f64 = last[at - 4..at - 1].iter().sum();
                    let new: f64 = last[at - 3..].iter().sum();
                    if ((old - new) / old).abs() < options.epsilon_clusters {
                        break;
                    }
                }
            }
            corrected.clone_from(&original);
            for c in 0..k {
                let order = levels.len() + 1;
                let design = |i: usize, b: usize| if b == 0 { 1.0 } else { has(i, b - 1) };
                let mut a = vec![0.0; order * order];
                let mut side = vec![0.0; order * d];
                for i in 0..n {
                    for p in 0..order {
                        for q in 0..order {
                            a[p * order + q] += r[i][c] * design(i, p) * design(i, q);
                        }
                        for j in 0..d {
                            side[p * d + j] += r[i][c] * design(i, p) * original[i][j];
                        }
                    }
                }
                for b in 0..levels.len() {
                    a[(b + 1) * order + b + 1] += options.lambda[levels[b].0];
                }
                gauss(&mut a, &mut side, order, d);
                for i in 0..n {
                    for b in 1..order {
                        for j in 0..d {
                            corrected[i][j] -= side[b * d + j] * r[i][c] * design(i, b);
                        }
                    }
                }
            }
            z = corrected.iter().map(|x| unit(x)).collect();
            let (old, new) = (objectives[objectives.len() - 1], last[last.len() - 1]);
            objectives.push(new);
            if (old - new) / old.abs() < options.epsilon {
                break;
            }
        }
        let columns = (0..d).flat_map(|j| corrected.iter().map(move |x| x[j])).collect();
        (columns, objectives)
    }

    /// Gauss and Jordan without pivots.
    fn gauss(a: &mut [f64], side: &mut [f64], n: usize, d: usize) {
        for p in 0..n {
            let pivot = a[p * n + p];
            for q in (0..n).filter(|&q| q != p) {
                let factor = a[q * n + p] / pivot;
                for c in 0..n {
                    a[q * n + c] -= factor * a[p * n + c];
                }
                for c in 0..d {
                    side[q * d + c] -= factor * side[p * d + c];
                }
            }
        }
        for p in 0..n {
            for c in 0..d {
                side[p * d + c] /= a[p * n + p];
            }
        }
    }

    #[test]
    fn numbers_are_those_of_plain_loops() {
        let n = 143;
        let (columns, batches) = cells(n);
        for (block_size, variables) in [(0.05, 2), (0.3, 1), (1.0, 2)] {
            let at = |c: usize, j: usize| columns[j * n + 13 * c + 1];
            let centers: Vec<f64> = (0..20).map(|entry| at(entry / 4, entry % 4)).collect();
            let batches = Batches {
                n_levels: batches.n_levels[..variables].to_vec(),
                codes: batches.codes[..variables].to_vec(),
            };
            let options = HarmonyOptions {
                theta: options().theta[..variables].to_vec(),
                lambda: options().lambda[..variables].to_vec(),
                block_size,
                max_iter: 3,
                shuffle: false,
                centers: Some(centers),
                ..options()
            };
            let got = harmony(&columns, &rows(n), &batches, &options, &ctx(2)).unwrap();
            let (want, objectives) = naive(&columns, n, &batches, &options);
            assert_eq!(got.objective.len(), objectives.len());
            for (got, want) in got.objective.iter().zip(&objectives) {
                assert!((got - want).abs() < 1e-9 * want.abs(), "{got} {want}");
            }
            for (got, want) in got.corrected.iter().zip(&want) {
                assert!((got - want).abs() < 1e-8, "{got} {want}");
            }
        }
    }

    #[test]
    fn a_shifted_batch_lands_on_the_other() {
        let n = 900;
        let (columns, batches) = cells(n);
        let got = harmony(&columns, &rows(n), &batches, &options(), &ctx(2)).unwrap();
        assert!(got.converged);
        assert_eq!(got.objective.len(), got.rounds.len() + 1);
        // The means of a type's cells in the two batches.
        let gap = |x: &[f64], of_type: usize| -> f64 {
            let mean = |batch: u32, j: usize| {
                let cells: Vec<usize> =
                    (0..n).filter(|&i| i % 3 == of_type && batches.codes[0][i] == batch).collect();
                cells.iter().map(|&i| x[j * n + i]).sum::<f64>() / cells.len() as f64
            };
            (0..4).map(|j| (mean(0, j) - mean(1, j)).powi(2)).sum::<f64>().sqrt()
        };
        for of_type in 0..3 {
            assert!(gap(&columns, of_type) > 4.0);
            assert!(gap(&got.corrected, of_type) < 0.5, "{}", gap(&got.corrected, of_type));
        }
    }

    #[test]
    fn threads_do_not_matter() {
        let n = 700;
        let (columns, batches) = cells(n);
        let one = harmony(&columns, &rows(n), &batches, &options(), &ctx(1)).unwrap();
        for threads in [2, 4] {
            assert_eq!(
                harmony(&columns, &rows(n), &batches, &options(), &ctx(threads)).unwrap(),
                one
            );
        }
        let other = HarmonyOptions { seed: 1, ..options() };
        assert_ne!(harmony(&columns, &rows(n), &batches, &other, &ctx(1)).unwrap(), one);
    }

    #[test]
    fn few_cells_and_large_tau_are_fine() {
        let n = 6;
        let (columns, batches) = cells(n);
        let small = HarmonyOptions { n_clusters: 1, tau: 1e6, ..options() };
        let got = harmony(&columns, &rows(n), &batches, &small, &ctx(2)).unwrap();
        assert!(got.corrected.iter().all(|x| x.is_finite()));
        let many = HarmonyOptions { n_clusters: 6, ..options() };
        let got = harmony(&columns, &rows(n), &batches, &many, &ctx(2)).unwrap();
        assert!(got.corrected.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let n = 30;
        let (mut columns, batches) = cells(n);
        let run = |columns: &[f64], options: &HarmonyOptions| {
            harmony(columns, &rows(n), &batches, options, &ctx(1))
        };
        for bad in [
            HarmonyOptions { n_clusters: 0, ..options() },
            HarmonyOptions { n_clusters: 31, ..options() },
            HarmonyOptions { theta: vec![1.0], ..options() },
            HarmonyOptions { lambda: vec![1.0, 0.0], ..options() },
            HarmonyOptions { sigma: 0.0, ..options() },
            HarmonyOptions { block_size: 0.0, ..options() },
            HarmonyOptions { centers: Some(vec![0.0]), ..options() },
        ] {
            assert!(matches!(run(&columns, &bad), Err(Error::InvalidInput { .. })));
        }
        assert!(run(&columns[1..], &options()).is_err());
        for j in 0..4 {
            columns[j * n + 7] = 0.0;
        }
        let error = run(&columns, &options()).unwrap_err();
        assert!(error.to_string().contains("cell 8"), "{error}");
        columns[7] = f64::NAN;
        assert!(matches!(run(&columns, &options()), Err(Error::InvalidValues { .. })));
    }
}
