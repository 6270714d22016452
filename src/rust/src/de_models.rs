//! Tests by regression for R.

use extendr_api::prelude::*;
use scoom_core::ctx::Ctx;
use scoom_core::de::classes::Models;
use scoom_core::de::gene_major::GeneMajor;
use scoom_core::de::groups::Groups;
use scoom_core::de::latent::independent;
use scoom_core::de::logreg::LogRegTest;
use scoom_core::de::lr::LikelihoodRatio;
use scoom_core::de::sides::Sides;
use scoom_core::error::Result;

use crate::convert::{Args, named, raws, wrong};
use crate::de::{code_lists, codes, fold_change, marker_columns, table_options};
use crate::guard::guard;
use crate::plan::{Mode, Plan, with_ctx};

/// The comparisons: `unit`, `n_units`, and of each `group_units` and
/// `reference_units`. `stratum_of` must name a comparison only once.
struct Comparisons {
    units: Groups,
    sides: Vec<Sides>,
    sizes: Vec<(u64, u64)>,
}

impl Comparisons {
    fn new(args: &Args) -> Result<Self> {
        let units = Groups::new(codes(args, "unit")?, args.count("n_units")?)?;
        let (groups, references) =
            (code_lists(args, "group_units")?, code_lists(args, "reference_units")?);
        let numbers = codes(args, "stratum_of")?;
        if groups.len() != references.len() || groups.len() != numbers.len() {
            return Err(wrong("stratum_of", "must be as long as the sides"));
        }
        if numbers.iter().enumerate().any(|(i, &number)| number as usize != i) {
            return Err(wrong(
                "stratum_of",
                "must be one stratum a comparison: models have no blocks",
            ));
        }
        let both = groups.into_iter().zip(references);
        let sides: Vec<Sides> = both.map(|(group, reference)| Sides { group, reference }).collect();
        let sizes = sides.iter().map(|sides| sides.sizes(&units)).collect::<Result<_>>()?;
        Ok(Comparisons { units, sides, sizes })
    }
}

/// Logistic regressions of groups on all genes.
///
/// `args`: as `rs_de_ttest()`, and `models`: `"shared"`, `"pairs"`, `"listed"` or
/// `"listed_with_references"`.
/// @noRd
#[extendr]
fn rs_de_logreg(plan: Robj, args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?;
        let args = Args::new(&args);
        let comparisons = Comparisons::new(&args)?;
        let models = match args.text("models")?.as_str() {
            "shared" => Models::Shared,
            "pairs" => Models::Pairs,
            "listed" => Models::Listed { references: false },
            "listed_with_references" => Models::Listed { references: true },
            _ => return Err(wrong("models", "is not a way to make models")),
        };
        let test = LogRegTest {
            units: &comparisons.units,
            comparisons: &comparisons.sides,
            models,
            fold_change: fold_change(&args)?,
        };
        let options = table_options(&args)?;
        with_ctx(&ctx, |ctx| {
            let fitted = test.run(plan.source(), plan.view(), ctx, options)?;
            let mut fields = marker_columns(&comparisons.sizes, &fitted.table);
            fields.push(("in_memory", fitted.in_memory.into()));
            fields.push(("looks", (fitted.looks as f64).into()));
            Ok(named(fields))
        })
    })
}

/// Likelihood ratio tests of genes with latent columns.
///
/// `args`: as `rs_de_ttest()`, and `latent`: doubles, a column of all cells after the
/// other.
/// @noRd
#[extendr]
fn rs_de_lr(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?;
        let args = Args::new(&args);
        let comparisons = Comparisons::new(&args)?;
        let (source, view) = (plan.source(), plan.view());
        let latent = latent_columns(&args, view.n_obs())?;
        let fold = fold_change(&args)?;
        let Comparisons { units, sides, sizes } = &comparisons;
        let test = LikelihoodRatio::new(units, sides, &latent, fold, view.n_obs())?;
        let options = table_options(&args)?;
        with_ctx(&ctx, |ctx| {
            let finish = |values: GeneMajor, ctx: &Ctx| {
                let tested = test.test(ctx, view, &values, options)?;
                let mut fields = marker_columns(sizes, &tested.table);
                fields.push(("determined", tested.determined.into()));
                Ok(named(fields))
            };
            let labels = test.labels();
            match Mode::from_robj(&mode)? {
                Mode::Whole => finish(GeneMajor::read(source, view, ctx, labels, None)?, ctx),
                Mode::Ranges(ranges) => {
                    let read =
                        |range| GeneMajor::read(source, view, ctx, labels, Some(range))?.to_bytes();
                    Ok(raws(&ranges.into_iter().map(read).collect::<Result<Vec<_>>>()?))
                }
                Mode::Merge(partials) => {
                    let n_labels = labels.n_groups();
                    finish(GeneMajor::from_partials(&partials, ctx, view.n_vars(), n_labels)?, ctx)
                }
            }
        })
    })
}

/// Latent columns that do not follow from those before them, counted from one.
///
/// `args`: `latent` as in `rs_de_lr()`, `n_obs`.
/// @noRd
#[extendr]
fn rs_de_latent_independent(args: Robj) -> Robj {
    guard(|| {
        let args = Args::new(&args);
        let n_obs = args.count("n_obs")?;
        let latent = latent_columns(&args, n_obs)?;
        let kept = independent(&latent, &vec![1.0; n_obs]);
        Ok(Robj::from(kept.into_iter().map(|(j, _)| j as i32 + 1).collect::<Vec<i32>>()))
    })
}

fn latent_columns<'r>(args: &Args<'r>, n_obs: usize) -> Result<Vec<&'r [f64]>> {
    let latent = args.doubles("latent")?;
    if latent.is_empty() {
        return Ok(Vec::new());
    }
    if n_obs == 0 || latent.len() % n_obs != 0 {
        return Err(wrong("latent", "must have a value for each cell in each column"));
    }
    Ok(latent.chunks_exact(n_obs).collect())
}

extendr_module! {
    mod de_models;
    fn rs_de_logreg;
    fn rs_de_lr;
    fn rs_de_latent_independent;
}
