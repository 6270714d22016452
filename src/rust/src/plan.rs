//! Plans from R: which matrix, which rows, which chain; and how to run a pass
//! on one, whole or by ranges.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use extendr_api::prelude::*;
use scoom_core::ctx::Ctx;
use scoom_core::error::Result;
use scoom_core::matrix::Source;
use scoom_core::pass::{self, Pass, TiledPass};
use scoom_core::transform::{
    Adjust, Chain, Downsample, Op, PearsonResiduals, ScaleGenes, View, split_total,
};

use crate::convert::{Args, named, raws, wrong};
use crate::guard::guard;
use crate::interrupt::RMonitor;
use crate::source::{in_memory, on_disk};

/// A matrix and a view of it.
pub struct Plan<'r> {
    source: Arc<dyn Source + 'r>,
    view: View,
    rows: Option<Vec<usize>>,
    chain: Chain,
}

impl<'r> Plan<'r> {
    /// Reads a plan, opens its matrix and checks that the two fit.
    pub fn from_robj(plan: &'r Robj) -> Result<Self> {
        let args = Args::new(plan);
        let source: Arc<dyn Source + 'r> = match args.get("matrix") {
            Some(_) => in_memory(plan)?,
            None => on_disk(&args)?,
        };
        let rows = args.positions("rows")?;
        let chain = chain(&args)?;
        let view = View::new(source.n_obs(), source.n_vars(), rows.as_deref(), &chain)?;
        Ok(Plan { source, view, rows, chain })
    }

    /// The matrix.
    pub fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// The view of it.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The view of some rows of the plan's view, with further operations.
    ///
    /// # Errors
    /// When a row or an operation does not fit.
    pub fn narrowed(&self, rows: &[usize], ops: Vec<Op>) -> Result<View> {
        let outside = || wrong("rows", "lie outside the plan");
        let place = |&row: &usize| match &self.rows {
            None => Ok(row),
            Some(selected) => selected.get(row).copied().ok_or_else(outside),
        };
        let rows = rows.iter().map(place).collect::<Result<Vec<_>>>()?;
        let mut chain = self.chain.clone();
        chain.ops.extend(ops);
        View::new(self.source.n_obs(), self.source.n_vars(), Some(&rows), &chain)
    }

    /// The plan with sorted columns in each row of its blocks.
    pub fn with_sorted_rows(mut self) -> Self {
        self.view = self.view.with_sorted_rows();
        self
    }

    /// The plan with another view of its matrix.
    pub fn with_view(self, view: View) -> Self {
        Plan { view, ..self }
    }

    /// The plan with values before the logarithm kept in its blocks.
    pub fn with_linear(mut self) -> Self {
        self.view = self.view.with_linear();
        self
    }
}

fn chain(args: &Args) -> Result<Chain> {
    let mut chain = Chain { ops: Vec::new(), stored_log: args.number_opt("stored_log")? };
    let Some(ops) = args.get("ops") else { return Ok(chain) };
    let ops = ops.as_list().ok_or_else(|| wrong("ops", "must be a list"))?;
    for op in ops.values() {
        let op = Args::new(&op);
        let genes = |name| {
            op.positions(name)
                .map(|genes| genes.unwrap_or_default().into_iter().map(|g| g as u32).collect())
        };
        chain.ops.push(match op.text("op")?.as_str() {
            "select_genes" => Op::SelectGenes { genes: genes("genes")? },
            "downsample" => Op::Downsample(Downsample {
                rows: op.positions("rows")?,
                counts: molecules(&op, "counts")?,
                replace: op.flag("replace")?,
                keep_fewer: op.flag("keep_fewer")?,
                seed: op.count("seed")? as u64,
            }),
            "normalize" => {
                Op::Normalize { target: op.number("target")?, excluded: genes("excluded")? }
            }
            "log1p" => Op::Log1p { base: op.number_opt("base")? },
            "residuals" => Op::Residuals(PearsonResiduals {
                theta: op.number("theta")?,
                clip: op.number("clip")?,
                totals: op.numbers("totals")?,
                shares: op.numbers("shares")?,
            }),
            "adjust" => Op::Adjust(Adjust {
                n_columns: op.count("n_columns")?,
                design: op.numbers("design")?,
                coefficients: op.numbers("coefficients")?,
                groups: groups(&op)?,
                offset: op.numbers("offset")?,
                scale: op.get("scale").map(|_| op.numbers("scale")).transpose()?,
            }),
            "scale" => Op::Scale(ScaleGenes {
                mean: op.numbers("mean")?,
                sd: op.numbers("sd")?,
                zero_center: op.flag("zero_center")?,
                max_value: op.number_opt("max_value")?,
            }),
            other => return Err(wrong("ops", &format!("has an unknown operation `{other}`"))),
        });
    }
    Ok(chain)
}

/// Codes of groups in the field `groups`, counted from zero; none where it is missing.
pub fn groups(args: &Args) -> Result<Vec<u32>> {
    let Some(_) = args.get("groups") else { return Ok(Vec::new()) };
    let codes = args.codes("groups")?;
    codes.into_iter().collect::<Option<_>>().ok_or_else(|| wrong("groups", "can't be missing"))
}

/// How often calls have read a matrix from its file since the library was loaded.
static READS: Mutex<f64> = Mutex::new(0.0);

/// Whole numbers from zero on.
fn molecules(args: &Args, name: &'static str) -> Result<Vec<u64>> {
    let whole = |x: f64| (x >= 0.0 && x.fract() == 0.0 && x <= 2f64.powi(53)).then_some(x as u64);
    let numbers = args.numbers(name)?;
    let counts: Option<Vec<u64>> = numbers.into_iter().map(whole).collect();
    counts.ok_or_else(|| wrong(name, "must be whole numbers from zero on"))
}

/// How many of `args$n` molecules come from each of `args$rows`, which have
/// `args$totals`.
/// @noRd
#[extendr]
fn rs_plan_split_total(args: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let rows = args.positions("rows")?.unwrap_or_default();
        let totals = args.numbers("totals")?;
        if rows.len() != totals.len() {
            return Err(wrong("totals", "must have one number for each row"));
        }
        let (n, seed) = (args.count("n")? as u64, args.count("seed")? as u64);
        let shares = split_total(&rows, &totals, n, args.flag("replace")?, seed)?;
        Ok(shares.into_iter().map(|share| share as f64).collect::<Vec<f64>>())
    })
}

/// Runs `body` with the resources in R's list `ctx`.
pub fn with_ctx<T>(ctx: &Robj, body: impl FnOnce(&Ctx) -> Result<T>) -> Result<T> {
    let args = Args::new(ctx);
    let monitor = RMonitor::new(&args.get("progress").unwrap_or_default());
    let scratch = PathBuf::from(args.text("scratch")?);
    let ctx = Ctx::new(args.count("threads")?, args.number("memory")? as u64, scratch, &monitor);
    let outcome = body(&ctx);
    *READS.lock().unwrap_or_else(PoisonError::into_inner) += ctx.reads();
    outcome
}

/// How often matrices were read from their files in this process since the library
/// was loaded; reading a part counts as such.
/// @noRd
#[extendr]
fn rs_plan_reads() -> Robj {
    guard(|| Ok(*READS.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// How much of a pass to run.
pub enum Mode {
    /// All of it.
    Whole,
    /// These ranges, giving a partial for each.
    Ranges(Vec<usize>),
    /// None: merge these partials.
    Merge(Vec<Vec<u8>>),
}

impl Mode {
    /// Reads the `mode` of an `rs_*` function.
    pub fn from_robj(mode: &Robj) -> Result<Self> {
        let args = Args::new(mode);
        if let Some(ranges) = args.positions("ranges")? {
            return Ok(Mode::Ranges(ranges));
        }
        let Some(partials) = args.get("partials") else { return Ok(Mode::Whole) };
        let partials = partials.as_list().ok_or_else(|| wrong("partials", "must be a list"))?;
        partials
            .values()
            .map(|raw| {
                raw.as_raw_slice()
                    .map(<[u8]>::to_vec)
                    .ok_or_else(|| wrong("partials", "must be raw vectors"))
            })
            .collect::<Result<_>>()
            .map(Mode::Merge)
    }
}

/// Runs a pass as `mode` says and turns the total into R's result with `finish`;
/// partials go to R as they are.
pub fn run_mode<P: Pass>(
    plan: &Plan,
    ctx: &Ctx,
    mode: &Robj,
    stage: &str,
    pass: &P,
    finish: impl FnOnce(P::Partial) -> Result<Robj>,
) -> Result<Robj> {
    let (source, view) = (plan.source(), plan.view());
    match Mode::from_robj(mode)? {
        Mode::Whole => finish(pass::run(source, view, ctx, stage, pass)?),
        Mode::Ranges(ranges) => {
            let partials = pass::run_ranges(source, view, ctx, stage, pass, &ranges)?;
            Ok(raws(&partials.iter().map(pass::to_bytes).collect::<Result<Vec<_>>>()?))
        }
        Mode::Merge(bytes) => {
            let partials = bytes.iter().map(|b| pass::from_bytes(b)).collect::<Result<Vec<_>>>()?;
            finish(pass::merge_partials(pass, partials))
        }
    }
}

/// As [`run_mode`], for a tiled pass.
pub fn run_tiled_mode<P: TiledPass>(
    (source, view): (&dyn Source, &View),
    ctx: &Ctx,
    mode: &Robj,
    stage: &str,
    pass: &P,
    finish: impl FnOnce(Vec<P::Tile>) -> Result<Robj>,
) -> Result<Robj> {
    match Mode::from_robj(mode)? {
        Mode::Whole => finish(pass::run_tiled(source, view, ctx, stage, pass)?),
        Mode::Ranges(ranges) => {
            let mut parts = Vec::with_capacity(ranges.len());
            for range in ranges {
                let tiles = pass::run_tiled_ranges(source, view, ctx, stage, pass, range)?;
                parts.push(pass::to_bytes(&tiles)?);
            }
            Ok(raws(&parts))
        }
        Mode::Merge(bytes) => {
            let mut total: Vec<P::Tile> = (0..pass.n_tiles()).map(|t| pass.empty(t)).collect();
            for part in &bytes {
                let tiles: Vec<P::Tile> = pass::from_bytes(part)?;
                if tiles.len() != total.len() {
                    return Err(wrong("partials", "come from another pass"));
                }
                for (t, (into, mut from)) in total.iter_mut().zip(tiles).enumerate() {
                    pass.merge(t, into, &mut from);
                }
            }
            finish(total)
        }
    }
}

/// Shape of a plan's view, its grid, and how often a sweep reads the file.
/// @noRd
#[extendr]
fn rs_plan_info(plan: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?;
        let (source, view) = (plan.source(), plan.view());
        let memory = Args::new(&ctx).number("memory")? as u64;
        Ok(named(vec![
            ("n_obs", (view.n_obs() as f64).into()),
            ("n_vars", (view.n_vars() as f64).into()),
            ("n_ranges", (source.grid().n_ranges() as f64).into()),
            ("n_blocks", (source.grid().n_blocks() as f64).into()),
            ("nnz", source.nnz().map_or(f64::NAN, |n| n as f64).into()),
            ("reads_per_sweep", (source.reads_per_sweep(memory) as f64).into()),
        ]))
    })
}

extendr_module! {
    mod plan;
    fn rs_plan_info;
    fn rs_plan_reads;
    fn rs_plan_split_total;
}
