//! The naive version of what the engine does: everything dense, one thread.

use std::sync::Mutex;

use scoom_core::ctx::{Ctx, Monitor, Silent};
use scoom_core::error::Result;
use scoom_core::matrix::Source;
use scoom_core::pass::stream;
use scoom_core::stats::draws::draw_from;
use scoom_core::stats::log1p::ln_1p;
use scoom_core::stats::random::Rng;
use scoom_core::transform::{Adjust, Chain, Downsample, Op, View};

/// A dense matrix, cells in rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Number of rows.
    pub n_obs: usize,
    /// Number of columns.
    pub n_vars: usize,
    /// The values, row by row.
    pub values: Vec<f64>,
}

impl Dense {
    /// A matrix of zeros.
    #[must_use]
    pub fn zeros(n_obs: usize, n_vars: usize) -> Self {
        Dense { n_obs, n_vars, values: vec![0.0; n_obs * n_vars] }
    }

    /// One row.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.n_vars..][..self.n_vars]
    }

    /// The values' bits, for comparisons that see every difference.
    #[must_use]
    pub fn bits(&self) -> Vec<u64> {
        self.values.iter().map(|x| x.to_bits()).collect()
    }

    /// The chosen rows after the chain, computed one value at a time. Columns
    /// are added up in their order, as in a file whose columns are sorted.
    #[must_use]
    pub fn viewed(&self, rows: Option<&[usize]>, chain: &Chain) -> Dense {
        let all: Vec<usize> = (0..self.n_obs).collect();
        let rows = rows.unwrap_or(&all);
        let mut table: Vec<Vec<f64>> = rows.iter().map(|&i| self.row(i).to_vec()).collect();
        let mut width = self.n_vars;
        for op in &chain.ops {
            for (at, row) in table.iter_mut().enumerate() {
                match op {
                    Op::SelectGenes { genes } => {
                        *row = genes.iter().map(|&g| row[g as usize]).collect();
                    }
                    Op::Downsample(draw) => downsample(draw, rows[at], row),
                    Op::Normalize { target, excluded } => {
                        let counted = |g: &usize| !excluded.contains(&(*g as u32));
                        let total: f64 = (0..row.len()).filter(counted).map(|g| row[g]).sum();
                        if total != 0.0 {
                            row.iter_mut().for_each(|x| *x = (*x * target) / total);
                        }
                    }
                    Op::Log1p { base } => row.iter_mut().for_each(|x| {
                        *x = base.map_or(ln_1p(*x), |base| ln_1p(*x) / base.ln());
                    }),
                    Op::Residuals(op) => {
                        for (g, x) in row.iter_mut().enumerate() {
                            *x = op.value(*x, op.totals[at], g);
                        }
                    }
                    Op::Adjust(op) => adjust(op, at, row),
                    Op::Scale(scale) => {
                        for (g, x) in row.iter_mut().enumerate() {
                            *x = scale.value(g, *x);
                        }
                    }
                }
            }
            if let Op::SelectGenes { genes } = op {
                width = genes.len();
            }
        }
        Dense { n_obs: rows.len(), n_vars: width, values: table.concat() }
    }
}

/// One row less what its design explains.
fn adjust(op: &Adjust, at: usize, row: &mut [f64]) {
    let n_vars = row.len();
    let group = op.groups.get(at).map_or(0, |&group| group as usize);
    for (g, x) in row.iter_mut().enumerate() {
        let design = &op.design[at * op.n_columns..][..op.n_columns];
        let explained = design
            .iter()
            .enumerate()
            .fold(0.0, |w, (c, d)| w + d * op.coefficients[c * n_vars + g]);
        let (offset, place) = (op.offset[group * n_vars + g], group * n_vars + g);
        *x = match &op.scale {
            None => (*x - explained) + offset,
            Some(scale) => scale[place] * (*x - explained) + (explained + offset),
        };
    }
}

/// Draws from the counts of one dense row, one number for all rows.
fn downsample(draw: &Downsample, row_of_file: usize, row: &mut [f64]) {
    let mut counts: Vec<u64> = row.iter().map(|&x| x as u64).collect();
    let (total, wanted) = (counts.iter().sum(), draw.counts[0]);
    if total > wanted {
        let mut rng = Rng::new(draw.seed, row_of_file as u64);
        draw_from(&mut rng, &mut counts, total, wanted, draw.replace);
    }
    for (x, count) in row.iter_mut().zip(counts) {
        *x = count as f64;
    }
}

/// A context with a budget of `memory` bytes.
#[must_use]
pub fn ctx(threads: usize, memory: u64) -> Ctx<'static> {
    ctx_with(threads, memory, &Silent)
}

/// A context with a monitor.
#[must_use]
pub fn ctx_with(threads: usize, memory: u64, monitor: &dyn Monitor) -> Ctx<'_> {
    Ctx::new(threads, memory, std::env::temp_dir(), monitor)
}

/// Streams a whole view into a dense matrix; stored duplicates add up. A
/// background is added wherever the chain leaves one.
///
/// # Errors
/// What streaming reports.
pub fn collect(source: &dyn Source, view: &View, ctx: &Ctx) -> Result<Dense> {
    let out = Mutex::new((Dense::zeros(view.n_obs(), view.n_vars()), vec![0; view.n_obs()]));
    let blocks = 0..source.grid().n_blocks();
    stream(source, view, ctx, "Collecting", blocks, |_, block| {
        let mut guard = out.lock().expect("nobody panicked");
        let (dense, seen) = &mut *guard;
        for r in 0..block.n_rows() {
            let at = block.rows[r];
            seen[at] += 1;
            let (genes, values) = block.row(r);
            for (&gene, &value) in genes.iter().zip(values) {
                dense.values[at * dense.n_vars + gene as usize] += value;
            }
        }
        Ok(())
    })?;
    let (mut dense, seen) = out.into_inner().expect("nobody panicked");
    assert!(seen.iter().all(|&n| n == 1), "each row of the view comes once: {seen:?}");
    if let Some(background) = view.background() {
        for row in dense.values.chunks_mut(view.n_vars().max(1)) {
            row.iter_mut().zip(background).for_each(|(x, c)| *x += c);
        }
    }
    Ok(dense)
}

/// Streams a source as it is.
///
/// # Errors
/// What streaming reports.
pub fn collect_all(source: &dyn Source, ctx: &Ctx) -> Result<Dense> {
    let view = View::new(source.n_obs(), source.n_vars(), None, &Chain::default())?;
    collect(source, &view, ctx)
}
