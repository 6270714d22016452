//! Regression and `ComBat` for R.

use extendr_api::prelude::*;
use scoom_core::adjust::{DesignBasis, Fit, FitPass, combat};
use scoom_core::error::Result;

use crate::convert::{Args, named, wrong};
use crate::guard::guard;
use crate::plan::{Plan, groups, run_mode, with_ctx};

/// An orthonormal basis of `args$columns`, a list of numbers for each of `args$n_rows` cells,
/// within `args$groups` (codes, or `NULL`) of which there are `args$n_groups`. Or
/// `collinear`: the columns that add nothing, and `constant`: which of them do not vary.
/// @noRd
#[extendr]
fn rs_adjust_basis(args: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let groups = groups(&args)?;
        let list = args.inner("columns")?;
        let list = list.as_list().ok_or_else(|| wrong("columns", "must be a list"))?;
        let mut columns = Vec::with_capacity(list.len());
        for column in list.values() {
            let column = named(vec![("columns", column)]);
            columns.push(Args::new(&column).numbers("columns")?);
        }
        let (n_groups, n_rows) = (args.count("n_groups")?, args.count("n_rows")?);
        let fits = columns.iter().all(|column| column.len() == n_rows)
            && (groups.is_empty() || groups.len() == n_rows)
            && groups.iter().all(|&group| (group as usize) < n_groups);
        if !fits {
            return Err(wrong("columns", "do not fit the cells"));
        }
        match DesignBasis::new(&columns, &groups, n_groups, n_rows) {
            Ok(basis) => {
                let sizes: Vec<f64> = basis.sizes.iter().map(|&n| n as f64).collect();
                Ok(named(vec![
                    ("sizes", sizes.into()),
                    ("rows", basis.rows.into()),
                    ("between", List::from_values(basis.between).into()),
                    ("products", basis.products.into()),
                ]))
            }
            Err(found) => {
                let columns: Vec<i32> = found.iter().map(|c| c.column as i32 + 1).collect();
                let constant: Vec<bool> = found.iter().map(|c| c.is_constant).collect();
                Ok(named(vec![("collinear", columns.into()), ("constant", constant.into())]))
            }
        }
    })
}

/// Means by group, squared deviations from them and products with the basis `args$basis`,
/// by group where `args$by_group`, of every gene.
/// @noRd
#[extendr]
fn rs_adjust_fit(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let (plan, args) = (Plan::from_robj(&plan)?, Args::new(&args));
        let (groups, basis) = (groups(&args)?, basis(&args)?);
        let view = plan.view();
        let n_columns = basis.between.len();
        if basis.rows.len() != view.n_obs() * n_columns
            || !(groups.is_empty() || groups.len() == view.n_obs())
            || groups.iter().any(|&group| group as usize >= basis.sizes.len())
        {
            return Err(wrong("basis", "does not fit the cells"));
        }
        let pass = FitPass::new(view.n_vars(), &groups, &basis, args.flag("by_group")?);
        with_ctx(&ctx, |ctx| {
            run_mode(&plan, ctx, &mode, "Fitting genes", &pass, |partial| {
                let fit = pass.finish(&partial);
                Ok(named(vec![
                    ("mean", fit.mean.into()),
                    ("squares", fit.squares.into()),
                    ("products", fit.products.into()),
                ]))
            })
        })
    })
}

/// The operation that `ComBat` comes to, from what `rs_adjust_fit()` found by group.
/// @noRd
#[extendr]
fn rs_adjust_combat(args: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let basis = basis(&args)?;
        let fit = Fit {
            mean: args.numbers("mean")?,
            squares: args.numbers("squares")?,
            products: args.numbers("products")?,
        };
        let (n_vars, n_groups) = (args.count("n_vars")?, basis.sizes.len());
        if fit.mean.len() != n_vars * n_groups
            || fit.squares.len() != fit.mean.len()
            || fit.products.len() != fit.mean.len() * basis.between.len()
        {
            return Err(wrong("mean", "does not fit the genes and batches"));
        }
        let found = combat(&fit, &basis, n_vars)?;
        Ok(named(vec![
            ("coefficients", found.coefficients.into()),
            ("scale", found.scale.into()),
            ("offset", found.offset.into()),
            ("n_constant", (found.n_constant as f64).into()),
        ]))
    })
}

fn basis(args: &Args) -> Result<DesignBasis> {
    let basis = args.inner("basis")?;
    let basis = Args::new(&basis);
    let list = basis.inner("between")?;
    let list = list.as_list().ok_or_else(|| wrong("between", "must be a list"))?;
    let mut between = Vec::with_capacity(list.len());
    for means in list.values() {
        let means = named(vec![("between", means)]);
        between.push(Args::new(&means).numbers("between")?);
    }
    let (sizes, products) = (basis.numbers("sizes")?, basis.numbers("products")?);
    let p = between.len();
    if between.iter().any(|means| means.len() != sizes.len())
        || products.len() != sizes.len() * p * p
    {
        return Err(wrong("basis", "contradicts itself"));
    }
    Ok(DesignBasis {
        sizes: sizes.iter().map(|&n| n as u64).collect(),
        rows: basis.numbers("rows")?,
        between,
        products,
    })
}

extendr_module! {
    mod adjust;
    fn rs_adjust_basis;
    fn rs_adjust_fit;
    fn rs_adjust_combat;
}
