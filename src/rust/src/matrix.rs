//! A view's values for R: sparse, dense, and sums.

use extendr_api::prelude::*;
use scoom_core::collect::{SparseView, collect_dense};
use scoom_core::error::{Error, Result};
use scoom_core::summary::{ColumnSummary, RowSummary, Summary};

use crate::convert::{Args, named, wrong};
use crate::guard::guard;
use crate::plan::{Plan, run_mode, with_ctx};

/// The values of a plan's view.
///
/// `args$form` is `"genes_by_cells"` (compressed columns, a gene's row index
/// within each cell), `"cells_by_genes"` (compressed columns of the file's own
/// orientation) or `"dense"` (cells by genes).
/// @noRd
#[extendr]
fn rs_matrix_collect(plan: Robj, args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?;
        let form = Args::new(&args).text("form")?;
        with_ctx(&ctx, |ctx| match form.as_str() {
            "dense" => dense(&plan, ctx),
            "genes_by_cells" => sparse(&plan, ctx, true),
            "cells_by_genes" => sparse(&plan, ctx, false),
            other => Err(wrong("form", &format!("is `{other}`, which is none of the forms"))),
        })
    })
}

fn dense(plan: &Plan, ctx: &scoom_core::ctx::Ctx) -> Result<Robj> {
    let (n_obs, n_vars) = (plan.view().n_obs(), plan.view().n_vars());
    let too_large = || Error::TooLarge {
        message: format!("a dense matrix of {n_obs} x {n_vars} is more than R can hold"),
    };
    let n = n_obs.checked_mul(n_vars).filter(|n| *n < 1 << 48).ok_or_else(too_large)?;
    let mut values = Doubles::new(n).into_robj();
    let out = values.as_real_slice_mut().ok_or_else(too_large)?;
    collect_dense(plan.source(), plan.view(), ctx, out)?;
    let dim = Robj::from([n_obs as i32, n_vars as i32]);
    Ok(named(vec![("x", values), ("dim", dim)]))
}

fn sparse(plan: &Plan, ctx: &scoom_core::ctx::Ctx, transposed: bool) -> Result<Robj> {
    let (n_obs, n_vars) = (plan.view().n_obs(), plan.view().n_vars());
    let most = i32::MAX as usize;
    let collected = SparseView::collect(plan.source(), plan.view(), ctx, most)?;
    let nnz = collected.nnz();
    let offsets = if transposed { n_obs } else { n_vars } + 1;
    let mut p = Integers::new(offsets).into_robj();
    let mut i = Integers::new(nnz).into_robj();
    let mut x = Doubles::new(nnz).into_robj();
    let none = || Error::TooLarge { message: "R could not make the vectors".into() };
    {
        let (p, i) = (
            p.as_integer_slice_mut().ok_or_else(none)?,
            i.as_integer_slice_mut().ok_or_else(none)?,
        );
        let x = x.as_real_slice_mut().ok_or_else(none)?;
        if transposed {
            collected.write_rows(p, i, x);
        } else {
            collected.write_columns(p, i, x);
        }
    }
    let dim =
        if transposed { [n_vars as i32, n_obs as i32] } else { [n_obs as i32, n_vars as i32] };
    Ok(named(vec![("i", i), ("p", p), ("x", x), ("dim", dim.into())]))
}

/// Sums, means, variances and counts of nonzero values of a plan's view, by
/// `args$margin`: `"rows"` or `"columns"`.
/// @noRd
#[extendr]
fn rs_matrix_sums(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?;
        let margin = Args::new(&args).text("margin")?;
        with_ctx(&ctx, |ctx| match margin.as_str() {
            "rows" => {
                let pass = RowSummary::new(plan.view());
                run_mode(&plan, ctx, &mode, "Summing rows", &pass, |p| Ok(summary(pass.finish(p))))
            }
            "columns" => {
                let pass = ColumnSummary::new(plan.view());
                run_mode(&plan, ctx, &mode, "Summing columns", &pass, |p| {
                    Ok(summary(pass.finish(&p)?.values))
                })
            }
            other => Err(wrong("margin", &format!("is `{other}`, not rows or columns"))),
        })
    })
}

fn summary(summary: Summary) -> Robj {
    let nonzero: Vec<f64> = summary.nonzero.iter().map(|&n| n as f64).collect();
    named(vec![
        ("sum", summary.sum.into()),
        ("mean", summary.mean.into()),
        ("var", summary.var.into()),
        ("nonzero", nonzero.into()),
    ])
}

extendr_module! {
    mod matrix;
    fn rs_matrix_collect;
    fn rs_matrix_sums;
}
