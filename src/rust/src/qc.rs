//! Quality control for R.

use extendr_api::prelude::*;
use scoom_core::error::Result;
use scoom_core::qc::{
    CellBounds, CheckPass, Finding, GeneSets, HighlyExpressedPass, KeptCounts, Place, QcPass,
    TotalsPass, ValueCheck, check_first_block, nonzero_median,
};
use scoom_core::summary::{ColumnSummary, Summary};

use crate::convert::{Args, named, wrong};
use crate::guard::guard;
use crate::plan::{Plan, run_mode, with_ctx};

/// Metrics of cells and genes. `args`: `sets`, a list of positions of genes;
/// `tops`, ascending numbers of genes; `bounds`, `NULL` or `list(detected, total,
/// set, below)`: genes are also counted over the cells within.
/// @noRd
#[extendr]
fn rs_qc_metrics(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let (plan, args) = (Plan::from_robj(&plan)?, Args::new(&args));
        let (n_obs, n_vars) = (plan.view().n_obs(), plan.view().n_vars());
        let sets = GeneSets::new(n_vars, &gene_sets(&args)?)?;
        let tops = args.numbers("tops")?.iter().map(|&k| k as usize).collect();
        let mut pass = QcPass::new(n_vars, sets, tops)?;
        if let Some(bounds) = args.get("bounds") {
            pass = pass.with_bounds(cell_bounds(&bounds)?)?;
        }
        with_ctx(&ctx, |ctx| {
            run_mode(&plan, ctx, &mode, "counting", &pass, |partial| {
                let found = pass.finish(&partial, n_obs)?;
                Ok(named(vec![
                    ("totals", found.cells.totals.into()),
                    ("detected", found.cells.detected.into()),
                    ("set_totals", List::from_values(found.cells.set_totals).into()),
                    ("top_sums", List::from_values(found.cells.top_sums).into()),
                    ("gene_detected", found.genes.detected.into()),
                    ("gene_totals", found.genes.totals.into()),
                    ("gene_mean", found.genes.mean.into()),
                    ("gene_var", found.genes.var.into()),
                    ("kept", found.kept.map_or_else(|| ().into(), kept)),
                    ("check", check(&found.check)),
                ]))
            })
        })
    })
}

/// Number of cells with a value, mean and variance of every gene; with
/// `args$linear` also those of the values before the logarithm.
/// @noRd
#[extendr]
fn rs_qc_gene_moments(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let mut plan = Plan::from_robj(&plan)?;
        let mut pass = ColumnSummary::new(plan.view());
        if Args::new(&args).flag("linear")? {
            pass = pass.with_linear();
            plan = plan.with_linear();
        }
        let (pass, view) = pass.over(plan.view());
        let plan = plan.with_view(view);
        with_ctx(&ctx, |ctx| {
            run_mode(&plan, ctx, &mode, "means and variances", &pass, |partial| {
                let found = pass.finish(&partial)?;
                let linear = found.linear.map_or_else(|| ().into(), moments);
                Ok(named(vec![("values", moments(found.values)), ("linear", linear)]))
            })
        })
    })
}

/// Total of every cell without the genes `args$excluded`, the median of those
/// above zero, and what the values look like.
/// @noRd
#[extendr]
fn rs_qc_totals(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let (plan, args) = (Plan::from_robj(&plan)?, Args::new(&args));
        let (n_obs, n_vars) = (plan.view().n_obs(), plan.view().n_vars());
        let pass = TotalsPass::new(n_vars, &args.positions("excluded")?.unwrap_or_default())?;
        with_ctx(&ctx, |ctx| {
            run_mode(&plan, ctx, &mode, "totals", &pass, |partial| {
                let totals = pass.finish(&partial, n_obs);
                let median = nonzero_median(&totals).unwrap_or(f64::NAN);
                Ok(named(vec![
                    ("totals", totals.into()),
                    ("median", median.into()),
                    ("check", check(&partial.check)),
                ]))
            })
        })
    })
}

/// The median of the totals above zero; NaN where there is none.
/// @noRd
#[extendr]
fn rs_qc_median(totals: Robj) -> Robj {
    guard(|| {
        let totals = totals.as_real_slice().ok_or_else(|| wrong("totals", "must be doubles"))?;
        Ok(nonzero_median(totals).unwrap_or(f64::NAN))
    })
}

/// Positions of the genes that take more than `args$max_fraction` of the total
/// in some cell.
/// @noRd
#[extendr]
fn rs_qc_highly_expressed(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let (plan, args) = (Plan::from_robj(&plan)?, Args::new(&args));
        let n_vars = plan.view().n_vars();
        let pass = HighlyExpressedPass { n_vars, max_fraction: args.number("max_fraction")? };
        with_ctx(&ctx, |ctx| {
            run_mode(&plan, ctx, &mode, "highly expressed genes", &pass, |genes| {
                let found = genes.iter().enumerate().filter(|(_, found)| **found);
                Ok(found.map(|(gene, _)| gene as i32 + 1).collect::<Vec<_>>().into())
            })
        })
    })
}

/// What the values look like; with `args$first` those of the first rows alone.
/// @noRd
#[extendr]
fn rs_qc_check(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let (plan, args) = (Plan::from_robj(&plan)?, Args::new(&args));
        let finish = |found: scoom_core::qc::CheckPartial| {
            Ok(named(vec![
                ("check", check(&found.values)),
                ("min", found.min.into()),
                ("max", found.max.into()),
                ("is_log_normalized", found.is_log_normalized().into()),
            ]))
        };
        with_ctx(&ctx, |ctx| {
            if args.flag("first")? {
                return finish(check_first_block(plan.source(), plan.view(), ctx)?);
            }
            run_mode(&plan, ctx, &mode, "checking values", &CheckPass, finish)
        })
    })
}

fn gene_sets(args: &Args) -> Result<Vec<Vec<usize>>> {
    let sets = args.inner("sets")?;
    let sets = sets.as_list().ok_or_else(|| wrong("sets", "must be a list"))?;
    let mut found = Vec::with_capacity(sets.len());
    for set in sets.values() {
        let set = named(vec![("sets", set)]);
        found.push(Args::new(&set).positions("sets")?.unwrap_or_default());
    }
    Ok(found)
}

fn cell_bounds(bounds: &Robj) -> Result<CellBounds> {
    let args = Args::new(bounds);
    let pair = |name| match args.numbers(name)?[..] {
        [least, most] => Ok((least, most)),
        _ => Err(wrong(name, "must be two numbers")),
    };
    let sets = args.positions("set")?.unwrap_or_default();
    Ok(CellBounds {
        detected: pair("detected")?,
        total: pair("total")?,
        below: sets.into_iter().zip(args.numbers("below")?).collect(),
    })
}

fn kept(found: KeptCounts) -> Robj {
    named(vec![
        ("n_cells", found.cells.into()),
        ("gene_detected", found.detected.into()),
        ("gene_totals", found.totals.into()),
    ])
}

fn moments(found: Summary) -> Robj {
    let detected: Vec<f64> = found.nonzero.iter().map(|&n| n as f64).collect();
    named(vec![
        ("detected", detected.into()),
        ("mean", found.mean.into()),
        ("var", found.var.into()),
    ])
}

fn check(found: &ValueCheck) -> Robj {
    let finding = |found: &Finding| {
        named(vec![
            ("count", (found.count as f64).into()),
            ("first", found.first.as_ref().map_or_else(|| ().into(), place)),
        ])
    };
    named(vec![
        ("nonfinite", finding(&found.nonfinite)),
        ("negative", finding(&found.negative)),
        ("fractional", found.fractional.as_ref().map_or_else(|| ().into(), place)),
    ])
}

fn place(found: &Place) -> Robj {
    named(vec![
        ("cell", (found.row as f64 + 1.0).into()),
        ("gene", (found.gene as f64 + 1.0).into()),
        ("value", found.value.into()),
    ])
}

extendr_module! {
    mod qc;
    fn rs_qc_metrics;
    fn rs_qc_gene_moments;
    fn rs_qc_totals;
    fn rs_qc_median;
    fn rs_qc_highly_expressed;
    fn rs_qc_check;
}
