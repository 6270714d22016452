//! Scores of gene sets for R.

use extendr_api::prelude::*;
use scoom_core::error::Result;
use scoom_core::score::{Bins, GeneMeansPass, ScoredSet, SetScorePass};

use crate::convert::{Args, named, wrong};
use crate::guard::guard;
use crate::plan::{Plan, run_mode, with_ctx};

/// The mean of every gene, missing values left out.
/// @noRd
#[extendr]
fn rs_score_means(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let _ = args;
        let plan = Plan::from_robj(&plan)?;
        let (n_obs, n_vars) = (plan.view().n_obs(), plan.view().n_vars());
        let pass = GeneMeansPass::new(n_vars);
        with_ctx(&ctx, |ctx| {
            run_mode(&plan, ctx, &mode, "means of genes", &pass, |total| {
                Ok(pass.finish(&total, n_obs).into())
            })
        })
    })
}

/// Control genes of sets, from the means of the genes.
///
/// `args`: `mean` of every gene, `pool` and `sets` of positions, `method` (`"scanpy"` or
/// `"seurat"`), `n_bins`, `ctrl_size`, `ctrl_as_ref`, `seed`. Answers with a list for each
/// set: `genes`, positions, and `empty_bins`, bins counted from one that had no control.
/// @noRd
#[extendr]
fn rs_score_controls(args: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let (means, n_bins) = (args.numbers("mean")?, args.count("n_bins")?);
        let (size, seed) = (args.count("ctrl_size")?, args.count("seed")? as u64);
        let pool = args.positions("pool")?.unwrap_or_default();
        if pool.iter().any(|&gene| gene >= means.len()) {
            return Err(wrong("pool", "has a gene that is not there"));
        }
        let by_bin = match args.text("method")?.as_str() {
            "scanpy" => true,
            "seurat" => false,
            _ => return Err(wrong("method", "is not known")),
        };
        let as_reference = args.flag("ctrl_as_ref")?;
        let bins = if by_bin {
            Bins::by_rank(&means, &pool, n_bins)?
        } else {
            Bins::by_quantile(&means, &pool, n_bins, seed)?
        };
        let mut found = Vec::new();
        for set in gene_lists(&args, "sets")? {
            let controls = if by_bin {
                bins.draw_by_bin(&set, size, as_reference, seed)?
            } else {
                bins.draw_by_gene(&set, size, seed)?
            };
            let from_one = |at: &[usize]| at.iter().map(|&at| at as i32 + 1).collect::<Vec<_>>();
            found.push(named(vec![
                ("genes", from_one(&controls.genes).into()),
                ("empty_bins", from_one(&controls.empty_bins).into()),
            ]));
        }
        Ok(List::from_values(found).into_robj())
    })
}

/// Scores of `args$sets` against `args$controls`, lists of positions of genes: a list
/// with a number a cell for each set.
/// @noRd
#[extendr]
fn rs_score_sets(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let (plan, args) = (Plan::from_robj(&plan)?, Args::new(&args));
        let (n_obs, n_vars) = (plan.view().n_obs(), plan.view().n_vars());
        let (genes, controls) = (gene_lists(&args, "sets")?, gene_lists(&args, "controls")?);
        if genes.len() != controls.len() {
            return Err(wrong("controls", "are not as many as sets"));
        }
        let sets: Vec<ScoredSet> = genes
            .into_iter()
            .zip(controls)
            .map(|(genes, controls)| ScoredSet { genes, controls })
            .collect();
        let pass = SetScorePass::new(n_vars, &sets)?;
        with_ctx(&ctx, |ctx| {
            run_mode(&plan, ctx, &mode, "scores", &pass, |piece| {
                Ok(List::from_values(pass.finish(&piece, n_obs)).into())
            })
        })
    })
}

fn gene_lists(args: &Args, name: &'static str) -> Result<Vec<Vec<usize>>> {
    let lists = args.inner(name)?;
    let lists = lists.as_list().ok_or_else(|| wrong(name, "must be a list"))?;
    let mut found = Vec::with_capacity(lists.len());
    for genes in lists.values() {
        let genes = named(vec![("genes", genes)]);
        found.push(Args::new(&genes).positions("genes")?.unwrap_or_default());
    }
    Ok(found)
}

extendr_module! {
    mod score;
    fn rs_score_means;
    fn rs_score_controls;
    fn rs_score_sets;
}
