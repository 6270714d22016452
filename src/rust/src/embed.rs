//! Principal components for R.

use extendr_api::prelude::*;
use scoom_core::embed::{
    CovariancePass, Pca, PcaOptions, Scaling, ScorePass, pca, pca_from_covariance,
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
            run_tiled_mode(&plan, ctx, &mode, "Covariance of genes", &pass, |tiles| {
                let covariance = pass.finish(&tiles, n_obs)?;
                let mut fields = fields(&pca_from_covariance(&covariance, n_comps));
                fields.push(("sums", covariance.sums.into()));
                Ok(named(fields))
            })
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
        ("loadings", pca.loadings.clone().into()),
        ("variance", pca.variance.clone().into()),
        ("variance_ratio", pca.variance_ratio.clone().into()),
        ("total_variance", pca.total_variance.into()),
    ]
}

fn result(pca: &Pca) -> Robj {
    let mut fields = fields(pca);
    fields.push(("scores", pca.scores.clone().into()));
    fields.push(("reads", (pca.reads as f64).into()));
    named(fields)
}

extendr_module! {
    mod embed;
    fn rs_pca;
    fn rs_pca_loadings;
    fn rs_pca_scores;
}
