//! Likelihood ratio tests between groups, gene by gene, with latent columns: does
//! the gene tell the sides of a comparison better than the latent columns alone?
//!
//! For each gene and comparison `glm(side ~ latent + gene, binomial)` against
//! `glm(side ~ latent, binomial)`; twice the gain of the log likelihood follows a
//! chi-square distribution with one degree of freedom.
//!
//! 1. One read of the matrix turns it around ([`GeneMajor`]); each value is marked
//!    with the group and the latent pattern of its cell.
//! 2. The model without a gene is fitted once for each comparison.
//! 3. From there each gene's model needs a few Newton steps. All zeros with the same
//!    latent values are one observation.
//!
//! Memory: that of [`GeneMajor`]; for each thread `8 (q + 9)` bytes for each
//! observation of a gene, q latent columns.
//!
//! # Numerics
//! A gene's sums follow the order of the file. Deviances are within about 1e-12 of
//! the smallest, relative to it. A separated outcome, for which `glm` warns, has a
//! limit of the deviance, and that is taken.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::combine::Verdict;
use super::fold_change::{FoldChange, Sums};
use super::gathered::Gathered;
use super::gene_major::GeneMajor;
use super::groups::{Groups, NONE};
use super::latent::{Latent, independent};
use super::piece::PieceView;
use super::sides::{Sides, described, genes_at_a_time};
use super::table::{MarkerTable, Row, TableBuilder, TableOptions};
use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::stats::dist::{PValue, normal_two_sided};
use crate::stats::glm::{Fitted, Logistic, Outcome};
use crate::stats::rank::key_value;
use crate::transform::View;

/// Deviance of a comparison, relative to that without latent columns, below which
/// these alone tell its sides.
const DETERMINED: f64 = 1e-6;

/// Genes of one task.
const TASK_GENES: usize = 8;

/// The test, before it meets a gene.
pub struct LikelihoodRatio<'c> {
    comparisons: &'c [Sides],
    n_units: usize,
    fold_change: FoldChange,
    latent: Latent,
    /// Labels of the cells: each unit and latent pattern that occur together.
    labels: Groups,
    /// Unit and pattern of each label.
    of_label: Vec<(u32, u32)>,
}

/// What the tests give.
pub struct Tested {
    /// The table: the statistic is the signed root of the gain in deviance.
    pub table: MarkerTable,
    /// Whether the latent columns alone tell the sides of each comparison, so that
    /// nothing is left for a gene to tell.
    pub determined: Vec<bool>,
}

impl<'c> LikelihoodRatio<'c> {
    /// A test of `comparisons` between `units` of cells with `latent` columns, each
    /// with a value for each cell.
    ///
    /// # Errors
    /// As [`Latent::new`] and [`Sides::sizes`].
    pub fn new(
        units: &Groups,
        comparisons: &'c [Sides],
        latent: &[&[f64]],
        fold_change: FoldChange,
        n_obs: usize,
    ) -> Result<Self> {
        for sides in comparisons {
            sides.sizes(units)?;
        }
        let latent = Latent::new(latent, units, n_obs)?;
        let mut known: HashMap<(u32, u32), u32> = HashMap::new();
        let mut of_label = Vec::new();
        let codes = (0..n_obs)
            .map(|cell| match units.of(cell) {
                NONE => NONE,
                unit => *known.entry((unit, latent.of(cell))).or_insert_with_key(|&key| {
                    of_label.push(key);
                    of_label.len() as u32 - 1
                }),
            })
            .collect();
        let labels = Groups::new(codes, of_label.len())?;
        let n_units = units.n_groups();
        Ok(LikelihoodRatio { comparisons, n_units, fold_change, latent, labels, of_label })
    }

    /// What the values have to be marked with when they are read.
    #[must_use]
    pub fn labels(&self) -> &Groups {
        &self.labels
    }

    /// Tests all genes. `view` is the one that was read.
    ///
    /// # Errors
    /// When a cell has two values for a gene, the spill file can't be read, or on
    /// interruption.
    pub fn test(
        &self,
        ctx: &Ctx,
        view: &View,
        values: &GeneMajor,
        options: TableOptions,
    ) -> Result<Tested> {
        let n_comparisons = self.comparisons.len();
        let table = TableBuilder::new(options, n_comparisons, values.n_vars())?;
        let mut determined = vec![false; n_comparisons];
        for slice in values.slices(ctx) {
            let loaded = values.load(ctx, &slice)?;
            let pieces = loaded.views()?;
            let step = genes_at_a_time(n_comparisons);
            for first in slice.clone().step_by(step) {
                let genes = first..(first + step).min(slice.end);
                // One comparison at a time: its model is as large as the cells.
                let mut columns = Vec::with_capacity(n_comparisons);
                for (sides, determined) in self.comparisons.iter().zip(&mut determined) {
                    let model = self.model(sides)?;
                    *determined = model.determined;
                    columns.push(self.column(ctx, view, &pieces, &genes, &model)?.into_iter());
                }
                let rows = (0..genes.len() * n_comparisons)
                    .filter_map(|at| columns[at % n_comparisons].next());
                let mut rows: Vec<Row> = rows.collect();
                table.add(first, &mut rows);
            }
        }
        Ok(Tested { table: table.finish(ctx)?, determined })
    }

    /// One comparison's rows of some genes.
    fn column(
        &self,
        ctx: &Ctx,
        view: &View,
        pieces: &[PieceView],
        genes: &Range<usize>,
        model: &Model,
    ) -> Result<Vec<Row>> {
        let tasks = genes.len().div_ceil(TASK_GENES);
        let done: Vec<Mutex<Vec<Row>>> = (0..tasks).map(|_| Mutex::default()).collect();
        ctx.parallel("testing genes", tasks, Workspace::default, |task, work| {
            let first = genes.start + task * TASK_GENES;
            let own = first..(first + TASK_GENES).min(genes.end);
            let rows = own.clone().map(|gene| {
                work.gather(gene..own.end, pieces);
                model.test(gene, view, work, self.fold_change)
            });
            let rows = rows.collect::<Result<Vec<Row>>>()?;
            *done[task].lock().unwrap_or_else(PoisonError::into_inner) = rows;
            Ok(())
        })?;
        let rows = done.into_iter().map(|m| m.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(rows.flatten().collect())
    }

    /// The model of a comparison without a gene.
    fn model(&self, sides: &Sides) -> Result<Model> {
        let sides = sides.of_units(self.n_units)?;
        let mut places = vec![NONE; self.latent.n_patterns()];
        let mut patterns: Vec<usize> = Vec::new();
        let mut outcome = Outcome::default();
        let labels = self.of_label.iter().zip(self.labels.sizes()).map(|(&(unit, pattern), &n)| {
            let first = sides[unit as usize]?;
            let place = &mut places[pattern as usize];
            if *place == NONE {
                *place = patterns.len() as u32;
                patterns.push(pattern as usize);
                outcome.push(0.0, 0.0);
            }
            outcome.trials[*place as usize] += n as f64;
            outcome.hits[*place as usize] += if first { n as f64 } else { 0.0 };
            Some((*place, first))
        });
        let labels: Vec<Option<(u32, bool)>> = labels.collect();
        let here: Vec<Vec<f64>> = self
            .latent
            .columns()
            .iter()
            .map(|column| patterns.iter().map(|&pattern| column[pattern]).collect())
            .collect();
        let columns: Vec<Vec<f64>> =
            independent(&here, &outcome.trials).into_iter().map(|(_, column)| column).collect();
        let (n, hits): (f64, f64) = (outcome.trials.iter().sum(), outcome.hits.iter().sum());
        let mut start = vec![0.0; columns.len() + 1];
        start[0] = libm::log(hits / (n - hits));
        let mut logistic = Logistic::default();
        let none: [&[f64]; 0] = [];
        let without = deviance(logistic.fit(&outcome, &none, &start[..1]));
        let deviance = if columns.is_empty() {
            without
        } else {
            deviance(logistic.fit(&outcome, &columns, &start))
        };
        let mut start = logistic.coefficients;
        start.push(0.0);
        Ok(Model {
            labels,
            outcome,
            columns,
            start,
            deviance,
            determined: deviance <= DETERMINED * without,
            sizes: (hits as u64, (n - hits) as u64),
        })
    }
}

/// Latent columns never follow from each other when they get here.
fn deviance(fitted: Fitted) -> f64 {
    match fitted {
        Fitted::Deviance(deviance) => deviance,
        Fitted::Dependent => f64::NAN,
    }
}

/// The model of one comparison that a gene is added to.
struct Model {
    /// The observation that each label's zeros belong to, and its side; `None` where
    /// the comparison has nothing to do with it.
    labels: Vec<Option<(u32, bool)>>,
    /// Cells of each latent pattern and those of them on the first side.
    outcome: Outcome,
    /// Latent columns over these patterns.
    columns: Vec<Vec<f64>>,
    /// Coefficients without the gene, and zero for it.
    start: Vec<f64>,
    deviance: f64,
    determined: bool,
    sizes: (u64, u64),
}

impl Model {
    fn test(
        &self,
        gene: usize,
        view: &View,
        work: &mut Workspace,
        fold: FoldChange,
    ) -> Result<Row> {
        let (group, reference) = self.observe(view, work);
        if group.detected > self.sizes.0 || reference.detected > self.sizes.1 {
            let message = format!("gene {} has several stored values in one cell", gene + 1);
            return Err(Error::InvalidValues { message });
        }
        let z = if self.determined { 0.0 } else { self.root(work) };
        let p = if z == 0.0 { PValue { p_value: 1.0, log10_p: 0.0 } } else { normal_two_sided(z) };
        let (one, other) = (group.side(self.sizes.0), reference.side(self.sizes.1));
        let verdict = Verdict { statistic: z, p };
        Ok(described(verdict, &one, &other, work.is_constant(), fold))
    }

    /// The gene's observations: each nonzero value, then the zeros of each pattern.
    fn observe(&self, view: &View, work: &mut Workspace) -> (Sums, Sums) {
        let (mut group, mut reference) = (Sums::default(), Sums::default());
        work.zeros.trials.clone_from(&self.outcome.trials);
        work.zeros.hits.clone_from(&self.outcome.hits);
        work.outcome.clear();
        work.places.clear();
        work.columns.resize_with(self.columns.len() + 1, Vec::new);
        let x = self.columns.len();
        work.columns[x].clear();
        work.linear.clear();
        work.linear.extend_from_slice(&work.values);
        view.undo_log(&mut work.linear);
        for ((&value, &linear), &label) in work.values.iter().zip(&work.linear).zip(&work.labels) {
            let Some((place, first)) = self.labels[label as usize] else { continue };
            let hit = f64::from(first);
            work.zeros.trials[place as usize] -= 1.0;
            work.zeros.hits[place as usize] -= hit;
            work.outcome.push(1.0, hit);
            work.columns[x].push(value);
            work.places.push(place);
            let side = if first { &mut group } else { &mut reference };
            *side = side.and(Sums { detected: 1, values: value, linear });
        }
        for (place, (&trials, &hits)) in work.zeros.trials.iter().zip(&work.zeros.hits).enumerate()
        {
            if trials > 0.0 {
                work.outcome.push(trials, hits);
                work.columns[x].push(0.0);
                work.places.push(place as u32);
            }
        }
        for (here, column) in work.columns.iter_mut().zip(&self.columns) {
            here.clear();
            here.extend(work.places.iter().map(|&place| column[place as usize]));
        }
        (group, reference)
    }

    /// The square root of what the gene takes off the deviance, with the sign of its
    /// coefficient.
    fn root(&self, work: &mut Workspace) -> f64 {
        match work.logistic.fit(&work.outcome, &work.columns, &self.start) {
            Fitted::Dependent => 0.0,
            Fitted::Deviance(deviance) => {
                let sign = work.logistic.coefficients.last().copied().unwrap_or(0.0);
                (self.deviance - deviance).max(0.0).sqrt().copysign(sign)
            }
        }
    }
}

/// One thread's memory.
#[derive(Default)]
struct Workspace {
    gathered: Gathered,
    labels: Vec<u32>,
    values: Vec<f64>,
    linear: Vec<f64>,
    zeros: Outcome,
    outcome: Outcome,
    /// Pattern of each observation.
    places: Vec<u32>,
    /// The latent columns of the observations and then the gene.
    columns: Vec<Vec<f64>>,
    logistic: Logistic,
}

impl Workspace {
    fn gather(&mut self, genes: Range<usize>, pieces: &[PieceView]) {
        let (keys, labels) = self.gathered.take(genes, pieces);
        self.labels.clear();
        self.labels.extend_from_slice(labels);
        self.values.clear();
        self.values.extend(keys.iter().map(|&key| key_value(key)));
    }

    /// Whether all cells of the comparison have the same value.
    fn is_constant(&self) -> bool {
        let values = self.columns.last().map_or(&[][..], Vec::as_slice);
        values.windows(2).all(|pair| pair[0] == pair[1])
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Order;
    use super::*;
    use crate::ctx::Silent;
    use crate::matrix::testing::Matrix;
    use crate::stats::random::Rng;
    use crate::transform::Chain;

    /// The rows of all comparisons, gene by gene.
    struct Got {
        rows: Vec<Row>,
        determined: Vec<bool>,
    }

    const N_OBS: usize = 61;
    const N_VARS: usize = 30;
    const FOLD: FoldChange = FoldChange::LinearMeans { pseudocount: 1.0 };

    fn matrix() -> Matrix {
        let mut matrix = Matrix::counts(N_OBS, N_VARS, 9);
        for row in 0..N_OBS {
            matrix.set(row, 2, (row % 5) as f64 - 0.5);
            matrix.set(row, 3, 3.0);
            // Tells unit 0 from all others.
            matrix.set(row, 4, if row % 4 == 0 { 1.0 + (row % 3) as f64 } else { 0.0 });
        }
        matrix
    }

    fn units() -> Groups {
        let code = |i: usize| if i % 11 == 7 { NONE } else { i as u32 % 4 };
        Groups::new((0..N_OBS).map(code).collect(), 4).unwrap()
    }

    fn comparisons() -> Vec<Sides> {
        let sides = |group: &[u32], reference: &[u32]| Sides {
            group: group.to_vec(),
            reference: reference.to_vec(),
        };
        vec![sides(&[0], &[1, 2, 3]), sides(&[1, 3], &[2]), sides(&[2], &[0])]
    }

    /// No latent column, a batch, and a batch with a measured covariate.
    fn latents() -> Vec<Vec<Vec<f64>>> {
        let mut rng = Rng::new(5, 0);
        let batch: Vec<f64> = (0..N_OBS).map(|_| f64::from(rng.uniform() < 0.4)).collect();
        let depth: Vec<f64> = (0..N_OBS).map(|_| 1000.0 + 50.0 * rng.uniform()).collect();
        vec![vec![], vec![batch.clone()], vec![batch, depth]]
    }

    fn run(
        latent: &[Vec<f64>],
        comparisons: &[Sides],
        threads: usize,
        memory: u64,
        parts: bool,
    ) -> Got {
        let ctx = Ctx::new(threads, memory, std::env::temp_dir(), &Silent);
        let (matrix, units) = (matrix(), units());
        let view = View::new(N_OBS, N_VARS, None, &Chain::default()).unwrap();
        let columns: Vec<&[f64]> = latent.iter().map(Vec::as_slice).collect();
        let test = LikelihoodRatio::new(&units, comparisons, &columns, FOLD, N_OBS).unwrap();
        let labels = test.labels();
        let values = if parts {
            use crate::matrix::Source;
            let bytes: Vec<Vec<u8>> = (0..matrix.grid().n_ranges())
                .map(|r| GeneMajor::read(&matrix, &view, &ctx, labels, Some(r)).unwrap())
                .map(|values| values.to_bytes().unwrap())
                .collect();
            GeneMajor::from_partials(&bytes, &ctx, N_VARS, labels.n_groups()).unwrap()
        } else {
            GeneMajor::read(&matrix, &view, &ctx, labels, None).unwrap()
        };
        let options = TableOptions::all(Order::Statistic, None);
        let Tested { table, determined } = test.test(&ctx, &view, &values, options).unwrap();
        let places: Vec<(u32, u32)> =
            table.gene.iter().copied().zip(table.comparison.iter().copied()).collect();
        let mut rows: Vec<((u32, u32), Row)> = places.into_iter().zip(table.rows).collect();
        rows.sort_by_key(|(place, _)| *place);
        Got { rows: rows.into_iter().map(|(_, row)| row).collect(), determined }
    }

    fn bits(tested: &Got) -> Vec<[u64; 4]> {
        let row =
            |r: &Row| [r.statistic, r.log10_p, r.log2_fc, r.mean.0].map(|x| (x + 0.0).to_bits());
        tested.rows.iter().map(row).collect()
    }

    /// Cell by cell, from zero, with raw latent columns.
    #[test]
    fn agrees_with_models_of_single_cells() {
        let (matrix, units) = (matrix(), units());
        for latent in latents() {
            let got = run(&latent, &comparisons(), 2, 1 << 30, false);
            for (c, sides) in comparisons().iter().enumerate() {
                assert!(!got.determined[c]);
                let side = sides.of_units(4).unwrap();
                let cells: Vec<(usize, bool)> = (0..N_OBS)
                    .filter(|&i| units.of(i) != NONE)
                    .filter_map(|i| side[units.of(i) as usize].map(|first| (i, first)))
                    .collect();
                let mut outcome = Outcome::default();
                for &(_, first) in &cells {
                    outcome.push(1.0, f64::from(first));
                }
                let take = |column: &dyn Fn(usize) -> f64| -> Vec<f64> {
                    cells.iter().map(|&(i, _)| column(i)).collect()
                };
                let mut columns: Vec<Vec<f64>> =
                    latent.iter().map(|column| take(&|i| column[i] - column[0])).collect();
                let mut logistic = Logistic::default();
                let start = vec![0.0; columns.len() + 2];
                let null = deviance(logistic.fit(&outcome, &columns, &start[1..]));
                for gene in 0..N_VARS {
                    let row = &got.rows[gene * 3 + c];
                    columns.push(take(&|i| matrix.dense[i][gene]));
                    let fitted = logistic.fit(&outcome, &columns, &start);
                    columns.pop();
                    let z = match fitted {
                        Fitted::Dependent => 0.0,
                        Fitted::Deviance(d) => (null - d).max(0.0).sqrt(),
                    };
                    let what = format!("gene {gene}, comparison {c}: {row:?}, not {z}");
                    assert!((row.statistic.abs() - z).abs() < 1e-7 * z.max(1e-2), "{what}");
                    assert!(row.p_value > 0.0 && row.p_value <= 1.0, "{what}");
                    let n = cells.iter().filter(|(_, first)| *first).count() as f64;
                    let mean = cells.iter().filter(|(_, first)| *first);
                    let mean = mean.map(|&(i, _)| matrix.dense[i][gene]).sum::<f64>() / n;
                    assert!((row.mean.0 - mean).abs() < 1e-12, "{what}");
                }
            }
            // Absent and constant genes.
            for gene in [3, N_VARS - 1] {
                for row in &got.rows[gene * 3..][..3] {
                    assert_eq!((row.statistic, row.p_value, row.log2_fc), (0.0, 1.0, 0.0));
                    assert_eq!(row.log10_p.to_bits(), 0.0_f64.to_bits());
                }
            }
        }
    }

    #[test]
    fn separation_has_the_limit() {
        let got = run(&[], &comparisons()[..1], 1, 1 << 30, false);
        let sizes = comparisons()[0].sizes(&units()).unwrap();
        let (a, b) = (sizes.0 as f64, sizes.1 as f64);
        let null = -2.0 * (a * (a / (a + b)).ln() + b * (b / (a + b)).ln());
        let row = &got.rows[4];
        assert!((row.statistic - null.sqrt()).abs() < 1e-6, "{row:?} {null}");
    }

    #[test]
    fn latent_columns_that_tell_the_sides_leave_nothing() {
        let latent = vec![(0..N_OBS).map(|i| f64::from(i % 4 == 0)).collect::<Vec<f64>>()];
        let got = run(&latent, &comparisons(), 1, 1 << 30, false);
        assert_eq!(got.determined, [true, false, true]);
        assert!(got.rows.iter().step_by(3).all(|row| row.statistic == 0.0 && row.p_value == 1.0));
        // In the second comparison the column is constant, as if it were not there.
        let without = run(&[], &comparisons(), 1, 1 << 30, false);
        for (a, b) in got.rows.iter().zip(&without.rows).skip(1).step_by(3) {
            assert_eq!(a.statistic, b.statistic);
        }
    }

    #[test]
    fn threads_memory_and_processes_do_not_show() {
        for latent in latents() {
            let one = bits(&run(&latent, &comparisons(), 1, 1 << 30, false));
            for (threads, memory, parts) in
                [(2, 1 << 30, false), (4, 1 << 30, true), (2, 1 << 10, false), (3, 1 << 10, true)]
            {
                let other = bits(&run(&latent, &comparisons(), threads, memory, parts));
                assert_eq!(one, other, "{threads} threads, {memory} bytes, parts {parts}");
            }
        }
    }
}
