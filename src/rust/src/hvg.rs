//! Highly variable genes for R.
//!
//! Batches come as `group`, codes from 0 of all cells with `NA` for none, or `NULL`
//! for one batch, and `n_groups`. Matrices of genes x batches are vectors, the genes
//! of a batch side by side.

use extendr_api::prelude::*;
use scoom_core::ctx::Ctx;
use scoom_core::error::Result;
use scoom_core::hvg::by_batch::{BatchPass, BatchSums, Statistic, run_by_batch};
use scoom_core::hvg::clipped::Clipped;
use scoom_core::hvg::counts::{BatchCounts, CountStatistic, Odd};
use scoom_core::hvg::dispersion::{
    Cutoffs, Method, Selection, VariableGenes, variable_genes, variable_genes_over_batches,
};
use scoom_core::hvg::moments::{BatchMoments, BothMoments, HasMoments, ValueMoments};
use scoom_core::hvg::ranks::{Order, rank_over_batches};
use scoom_core::hvg::residuals::{Model, Residuals};
use scoom_core::summary::groups::{Groups, NONE};

use crate::convert::{Args, named, wrong};
use crate::guard::guard;
use crate::plan::{Mode, Plan, run_tiled_mode, with_ctx};

/// Selects by dispersions, from the moments of all cells.
///
/// `args`: `mean`, `var`, `method` (`"seurat"` with `n_bins`, or `"cell_ranger"`),
/// and `n_top` or the four bounds.
/// @noRd
#[extendr]
fn rs_hvg_dispersion(args: Robj) -> Robj {
    guard(|| {
        let fields = Args::new(&args);
        let (mean, var) = (fields.doubles("mean")?, fields.doubles("var")?);
        let found = variable_genes(mean, var, method(&fields)?, selection(&fields)?);
        Ok(named(dispersion_columns(found)))
    })
}

/// As `rs_hvg_dispersion()` over batches: `mean` and `var` of genes x batches,
/// `n_groups`, and `name_order`, the place of each gene among all names.
/// @noRd
#[extendr]
fn rs_hvg_dispersion_batches(args: Robj) -> Robj {
    guard(|| {
        let fields = Args::new(&args);
        let (mean, var) = (fields.doubles("mean")?, fields.doubles("var")?);
        let names = fields.positions("name_order")?.unwrap_or_default();
        let n_batches = fields.count("n_groups")?;
        let found = variable_genes_over_batches(
            mean,
            var,
            n_batches,
            &names,
            method(&fields)?,
            selection(&fields)?,
        );
        let n_taken = found.n_batches.clone();
        let mut columns = dispersion_columns(found);
        columns.extend(batch_columns(&n_taken, n_batches));
        Ok(named(columns))
    })
}

fn method(args: &Args) -> Result<Method> {
    match args.text("method")?.as_str() {
        "seurat" => Ok(Method::Seurat { n_bins: args.count("n_bins")? }),
        "cell_ranger" => Ok(Method::CellRanger),
        _ => Err(wrong("method", "is not a known method")),
    }
}

fn selection(args: &Args) -> Result<Selection> {
    if args.get("n_top").is_some() {
        return Ok(Selection::Top(args.count("n_top")?));
    }
    Ok(Selection::Within(Cutoffs {
        min_mean: args.number("min_mean")?,
        max_mean: args.number("max_mean")?,
        min_disp: args.number("min_disp")?,
        max_disp: args.number("max_disp")?,
    }))
}

fn dispersion_columns(found: VariableGenes) -> Vec<(&'static str, Robj)> {
    let rank: Vec<f64> =
        found.rank.iter().map(|r| r.map_or_else(f64::na, |rank| rank as f64)).collect();
    vec![
        ("highly_variable", logicals(found.highly_variable)),
        ("highly_variable_rank", rank.into()),
        ("means", found.means.into()),
        ("dispersions", found.dispersions.into()),
        ("dispersions_norm", found.dispersions_norm.into()),
    ]
}

fn batch_columns(n_taken: &[u32], n_batches: usize) -> Vec<(&'static str, Robj)> {
    let counts: Vec<i32> = n_taken.iter().map(|&n| n as i32).collect();
    let everywhere = n_taken.iter().map(|&n| n as usize == n_batches).collect();
    vec![
        ("highly_variable_nbatches", counts.into()),
        ("highly_variable_intersection", logicals(everywhere)),
    ]
}

fn logicals(values: Vec<bool>) -> Robj {
    values.into_iter().collect::<Logicals>().into()
}

/// Ranks genes by variances of genes x batches.
///
/// `args`: `variances`, `n_groups`, `n_genes`, `n_top`, `batches_first`.
/// @noRd
#[extendr]
fn rs_hvg_rank(args: Robj) -> Robj {
    guard(|| {
        let fields = Args::new(&args);
        let (n_batches, n_vars) = (fields.count("n_groups")?, fields.count("n_genes")?);
        let order =
            if fields.flag("batches_first")? { Order::BatchesFirst } else { Order::RankFirst };
        let variances = fields.doubles("variances")?;
        let n_top = fields.count("n_top")?;
        let found = rank_over_batches(variances, n_batches, n_vars, n_top, order);
        let rank: Vec<f64> =
            found.rank.iter().map(|&r| if r.is_nan() { f64::na() } else { r }).collect();
        let mut columns = vec![
            ("highly_variable", logicals(found.highly_variable)),
            ("highly_variable_rank", rank.into()),
            ("variance", found.variance.into()),
        ];
        columns.extend(batch_columns(&found.n_batches, n_batches));
        Ok(named(columns))
    })
}

/// Means and variances of genes x batches; with `args$linear` those of values
/// before the logarithm. `overall`: those of the values over all batches.
/// @noRd
#[extendr]
fn rs_hvg_moments(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_sorted_rows();
        let args = Args::new(&args);
        let groups = batches(&args, plan.view().n_obs())?;
        if args.flag("linear")? {
            return moments(&plan.with_linear(), &groups, &ctx, &mode, &BothMoments);
        }
        moments(&plan, &groups, &ctx, &mode, &ValueMoments)
    })
}

fn moments<S: Statistic>(
    plan: &Plan,
    groups: &Groups,
    ctx: &Robj,
    mode: &Robj,
    statistic: &S,
) -> Result<Robj>
where
    S::Sum: HasMoments,
{
    let mut found = BatchMoments::new(groups, plan.view().n_vars());
    let add = |sums: BatchSums<S::Sum>, _: &Ctx| found.add(&sums);
    if let Some(partials) =
        run(plan, ctx, mode, "means and variances", groups, statistic, false, add)?
    {
        return Ok(partials);
    }
    let (mean, var): (Vec<f64>, Vec<f64>) =
        found.overall().iter().map(|moments| (moments.mean, moments.var)).unzip();
    let detected: Vec<f64> = found.detected().into_iter().map(|n| n as f64).collect();
    let overall =
        named(vec![("detected", detected.into()), ("mean", mean.into()), ("var", var.into())]);
    Ok(named(vec![("mean", found.mean.into()), ("var", found.var.into()), ("overall", overall)]))
}

/// Counts by batch: `overall_mean` and `overall_var` of the genes, what is no count,
/// and `mean` and `var` of genes x batches, or with `args$totals` their `sum` and the
/// `totals` of the cells.
/// @noRd
#[extendr]
fn rs_hvg_counts(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_sorted_rows();
        let args = Args::new(&args);
        let groups = batches(&args, plan.view().n_obs())?;
        let totals = args.flag("totals")?;
        let mut found = BatchCounts::new(&groups, plan.view().n_obs(), plan.view().n_vars());
        let add = |sums: BatchSums<_>, _: &Ctx| found.add(&sums);
        let stage = "summing counts";
        if let Some(partials) =
            run(&plan, &ctx, &mode, stage, &groups, &CountStatistic, totals, add)?
        {
            return Ok(partials);
        }
        let mut fields = vec![
            ("overall_mean", found.overall_mean.into()),
            ("overall_var", found.overall_var.into()),
            ("negative", odd(found.negative)),
            ("fractional", odd(found.fractional)),
        ];
        if totals {
            fields.extend([("sum", found.sum.into()), ("totals", found.totals.into())]);
        } else {
            fields.extend([("mean", found.mean.into()), ("var", found.var.into())]);
        }
        Ok(named(fields))
    })
}

fn odd(found: Odd) -> Robj {
    let gene = found.gene.map_or_else(|| ().into(), |gene| (gene as f64 + 1.0).into());
    named(vec![("count", (found.count as f64).into()), ("gene", gene)])
}

/// Variances of clipped standardised counts, genes x batches.
///
/// `args`: the batches; `mean`, `var` and `sd` of genes x batches.
/// @noRd
#[extendr]
fn rs_hvg_clipped(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_sorted_rows();
        let fields = Args::new(&args);
        let groups = batches(&fields, plan.view().n_obs())?;
        let moments = (fields.doubles("mean")?, fields.doubles("var")?, fields.doubles("sd")?);
        let pass = Clipped::new(&groups, plan.view().n_vars(), moments);
        let mut variances = vec![f64::NAN; moments.0.len()];
        let add = |sums: BatchSums<_>, _: &Ctx| {
            pass.finish(&sums, &mut variances);
            Ok(())
        };
        let partials = run(&plan, &ctx, &mode, "clipped variances", &groups, &pass, false, add)?;
        Ok(partials.unwrap_or_else(|| variances.into()))
    })
}

/// Variances of Pearson residuals, genes x batches.
///
/// `args`: the batches; `sum` of genes x batches, `totals` of the cells, `theta`,
/// `clip`.
/// @noRd
#[extendr]
fn rs_hvg_residuals(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_sorted_rows();
        let fields = Args::new(&args);
        let groups = batches(&fields, plan.view().n_obs())?;
        let model = Model { theta: fields.number("theta")?, clip: fields.number("clip")? };
        let (sums, totals) = (fields.doubles("sum")?, fields.doubles("totals")?);
        let pass = Residuals::new(&groups, plan.view().n_vars(), sums, totals, model);
        let mut variances = vec![f64::NAN; sums.len()];
        let add = |sums: BatchSums<_>, ctx: &Ctx| pass.finish(ctx, &sums, &mut variances);
        let partials = run(&plan, &ctx, &mode, "Pearson residuals", &groups, &pass, false, add)?;
        Ok(partials.unwrap_or_else(|| variances.into()))
    })
}

fn batches(args: &Args, n_obs: usize) -> Result<Groups> {
    let codes = match args.get("group") {
        None => vec![0; n_obs],
        Some(_) => args.codes("group")?.into_iter().map(|code| code.unwrap_or(NONE)).collect(),
    };
    let groups = Groups::new(codes, args.count("n_groups")?)?;
    groups.check_rows(n_obs)?;
    Ok(groups)
}

/// Runs a statistic as `mode` says and gives its sums to `add`, slice by slice;
/// partials are returned.
#[expect(clippy::too_many_arguments, reason = "one call for each of four passes")]
fn run<S: Statistic>(
    plan: &Plan,
    ctx: &Robj,
    mode: &Robj,
    stage: &str,
    groups: &Groups,
    statistic: &S,
    with_totals: bool,
    mut add: impl FnMut(BatchSums<S::Sum>, &Ctx) -> Result<()>,
) -> Result<Option<Robj>> {
    let n_vars = plan.view().n_vars();
    with_ctx(ctx, |ctx| {
        if let Mode::Whole = Mode::from_robj(mode)? {
            let job = (plan.source(), plan.view(), ctx);
            let each = |sums| add(sums, ctx);
            run_by_batch(job, stage, groups, statistic, with_totals, each)?;
            return Ok(None);
        }
        let pass = BatchPass::new(groups, statistic, n_vars, 0..n_vars, with_totals);
        let mut merged = false;
        let partials =
            run_tiled_mode((plan.source(), plan.view()), ctx, mode, stage, &pass, |tiles| {
                merged = true;
                add(pass.table(tiles), ctx)?;
                Ok(().into())
            })?;
        Ok((!merged).then_some(partials))
    })
}

extendr_module! {
    mod hvg;
    fn rs_hvg_dispersion;
    fn rs_hvg_dispersion_batches;
    fn rs_hvg_rank;
    fn rs_hvg_moments;
    fn rs_hvg_counts;
    fn rs_hvg_clipped;
    fn rs_hvg_residuals;
}
