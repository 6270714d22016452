//! Principal components for R.

use extendr_api::prelude::*;
use scoom_core::embed::{
    Batches, CovariancePass, HarmonyOptions, Pca, PcaOptions, Scaling, ScorePass, harmony, means,
    pca, pca_from_covariance,
};
use scoom_core::error::Result;

use crate::convert::{Args, named, wrong};
use crate::guard::guard;
use crate::plan::{Plan, run_mode, run_tiled_mode, with_ctx};

/// Principal components of a plan's view, whose chain does not scale.
///
/// `args`: `n_comps`; `scale`: `NULL` or `list(zero_center, max_value, mean, sd)`
/// with `mean` and `sd` `NULL` to take those of the cells at hand; `n_values`: stored
/// values of the view, or `NULL`.
/// @noRd
#[extendr]
fn rs_pca(plan: Robj, args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?;
        let args = Args::new(&args);
        let n_comps = args.count("n_comps")?;
        let scaling = args.get("scale").map(|scale| scaling(&scale)).transpose()?;
        let n_values = args.number_opt("n_values")?.map(|n| n as u64);
        let options = PcaOptions { n_comps, scaling, n_values };
        with_ctx(&ctx, |ctx| Ok(result(&pca(plan.source(), plan.view(), ctx, &options)?)))
    })
}

/// Loadings and variances of a plan's view, whose chain may scale: all of
/// `rs_pca()` but the scores, for workers that take ranges.
/// @noRd
#[extendr]
fn rs_pca_loadings(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_sorted_rows();
        let n_comps = Args::new(&args).count("n_comps")?;
        let n_obs = plan.view().n_obs();
        let pass = CovariancePass::new(plan.view());
        with_ctx(&ctx, |ctx| {
            run_tiled_mode(
                (plan.source(), plan.view()),
                ctx,
                &mode,
                "Covariance of genes",
                &pass,
                |tiles| {
                    let covariance = pass.finish(&tiles, n_obs)?;
                    let mut fields = fields(&pca_from_covariance(&covariance, n_comps));
                    fields.push(("center", means(plan.view(), &covariance.sums).into()));
                    fields.push(("sums", covariance.sums.into()));
                    Ok(named(fields))
                },
            )
        })
    })
}

/// Scores of a plan's view on `args$loadings`, centred by `args$sums` over
/// `args$n_obs` cells.
/// @noRd
#[extendr]
fn rs_pca_scores(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_sorted_rows();
        let args = Args::new(&args);
        let (loadings, sums) = (args.numbers("loadings")?, args.numbers("sums")?);
        let (n_obs, n_vars) = (plan.view().n_obs(), plan.view().n_vars());
        if n_vars == 0 || loadings.len() % n_vars != 0 || sums.len() != n_vars {
            return Err(wrong("loadings", "do not fit the genes"));
        }
        let pass = ScorePass::new(&loadings, n_vars, &sums, args.count("n_obs")?);
        with_ctx(&ctx, |ctx| {
            run_mode(&plan, ctx, &mode, "Projecting cells", &pass, |piece| {
                Ok(named(vec![("scores", pass.finish(&piece, n_obs).into())]))
            })
        })
    })
}

/// Scores of a plan's view on `args$loadings` of other cells, centred at their
/// `args$center`.
/// @noRd
#[extendr]
fn rs_pca_project(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_sorted_rows();
        let args = Args::new(&args);
        let (loadings, center) = (args.numbers("loadings")?, args.numbers("center")?);
        let (n_obs, n_vars) = (plan.view().n_obs(), plan.view().n_vars());
        if n_vars == 0 || loadings.len() % n_vars != 0 || center.len() != n_vars {
            return Err(wrong("loadings", "do not fit the genes"));
        }
        let pass = ScorePass::around(&loadings, plan.view(), &center);
        with_ctx(&ctx, |ctx| {
            run_mode(&plan, ctx, &mode, "Projecting cells", &pass, |piece| {
                Ok(named(vec![("scores", pass.finish(&piece, n_obs).into())]))
            })
        })
    })
}

/// Aligns batches in the embedding `args$x`, cells in rows.
///
/// `args`: `rows`, what random choices depend on; `batches`, a list of codes from zero,
/// and `n_levels`; `theta`, `lambda`, `sigma`, `n_clusters`, `tau`, `block_size`,
/// `max_iter`, `max_iter_clusters`, `epsilon_clusters`, `epsilon`, `seed`, `shuffle`;
/// `centers`, dimensions in rows, or `NULL`.
/// @noRd
#[extendr]
fn rs_harmony(args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let rows = args.positions("rows")?.unwrap_or_default();
        let codes = args.inner("batches")?;
        let codes = codes.as_list().ok_or_else(|| wrong("batches", "must be a list"))?;
        let mut batches = Batches { n_levels: Vec::new(), codes: Vec::new() };
        for (variable, &levels) in codes.values().zip(&args.numbers("n_levels")?) {
            let bad = || wrong("batches", "must be codes from zero on");
            let variable = variable.as_integer_slice().ok_or_else(bad)?;
            let variable = variable.iter().map(|&code| u32::try_from(code).map_err(|_| bad()));
            batches.codes.push(variable.collect::<Result<_>>()?);
            batches.n_levels.push(levels as usize);
        }
        let options = HarmonyOptions {
            theta: args.numbers("theta")?,
            lambda: args.numbers("lambda")?,
            sigma: args.number("sigma")?,
            n_clusters: args.count("n_clusters")?,
            tau: args.number("tau")?,
            block_size: args.number("block_size")?,
            max_iter: args.count("max_iter")?,
            max_iter_clusters: args.count("max_iter_clusters")?,
            epsilon_clusters: args.number("epsilon_clusters")?,
            epsilon: args.number("epsilon")?,
            seed: args.count("seed")? as u64,
            shuffle: args.flag("shuffle")?,
            centers: args.get("centers").map(|_| args.numbers("centers")).transpose()?,
        };
        let x = args.doubles("x")?;
        let found = with_ctx(&ctx, |ctx| harmony(x, &rows, &batches, &options, ctx))?;
        let rounds: Vec<i32> = found.rounds.iter().map(|&rounds| rounds as i32).collect();
        Ok(named(vec![
            ("corrected", found.corrected.into()),
            ("converged", found.converged.into()),
            ("objective", found.objective.into()),
            ("rounds", rounds.into()),
        ]))
    })
}

fn scaling(scale: &Robj) -> Result<Scaling> {
    let args = Args::new(scale);
    let moments = match args.get("mean") {
        Some(_) => Some((args.numbers("mean")?, args.numbers("sd")?)),
        None => None,
    };
    Ok(Scaling {
        zero_center: args.flag("zero_center")?,
        max_value: args.number_opt("max_value")?,
        moments,
    })
}

fn fields(pca: &Pca) -> Vec<(&'static str, Robj)> {
    vec![
        ("loadings", pca.loadings.as_slice().into()),
        ("variance", pca.variance.clone().into()),
        ("variance_ratio", pca.variance_ratio.clone().into()),
        ("total_variance", pca.total_variance.into()),
    ]
}

fn result(pca: &Pca) -> Robj {
    let mut fields = fields(pca);
    fields.push(("scores", pca.scores.as_slice().into()));
    fields.push(("reads", (pca.reads as f64).into()));
    fields.push(("center", pca.center.clone().into()));
    if let Some((mean, sd)) = &pca.moments {
        fields.push(("mean", mean.clone().into()));
        fields.push(("sd", sd.clone().into()));
    }
    named(fields)
}

extendr_module! {
    mod embed;
    fn rs_pca;
    fn rs_pca_loadings;
    fn rs_pca_scores;
    fn rs_pca_project;
    fn rs_harmony;
}
