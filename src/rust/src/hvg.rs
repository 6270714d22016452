//! Highly variable genes for R.

use extendr_api::prelude::*;
use scoom_core::error::Result;
use scoom_core::hvg::{Cutoffs, Selection, seurat};

use crate::convert::{Args, named};
use crate::guard::guard;

/// The dispersion method, from the moments of values that are not logarithms.
/// `args`: `mean`, `var`, `n_bins`, and `n_top` or the four bounds.
/// @noRd
#[extendr]
fn rs_hvg_seurat(args: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let (mean, var) = (args.numbers("mean")?, args.numbers("var")?);
        let found = seurat(&mean, &var, args.count("n_bins")?, selection(&args)?);
        let rank: Vec<f64> =
            found.rank.iter().map(|r| r.map_or_else(f64::na, |rank| rank as f64)).collect();
        Ok(named(vec![
            ("highly_variable", found.highly_variable.into_iter().collect::<Logicals>().into()),
            ("rank", rank.into()),
            ("means", found.means.into()),
            ("dispersions", found.dispersions.into()),
            ("dispersions_norm", found.dispersions_norm.into()),
        ]))
    })
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

extendr_module! {
    mod hvg;
    fn rs_hvg_seurat;
}
