//! Differential expression and pseudobulk for R.

use extendr_api::prelude::*;
use scoom_core::ctx::Ctx;
use scoom_core::de::contrast::{Comparison, Contrasts, Reference};
use scoom_core::de::fold_change::FoldChange;
use scoom_core::de::gene_major::GeneMajor;
use scoom_core::de::group_pass::{GroupPass, GroupTable};
use scoom_core::de::groups::{Groups, NONE};
use scoom_core::de::moments::GroupSum;
use scoom_core::de::table::{MarkerTable, Order, Row};
use scoom_core::de::ttest::{Spread, TTest};
use scoom_core::de::wilcoxon::Wilcoxon;
use scoom_core::error::Result;
use scoom_core::stats::adjust::Adjustment;

use crate::convert::{Args, named, raws, wrong};
use crate::guard::guard;
use crate::plan::{Mode, Plan, run_tiled_mode, with_ctx};

/// Groups of cells: `args$group`, codes from 0, `NA` for none.
fn codes(args: &Args) -> Result<Vec<u32>> {
    Ok(args.codes("group")?.into_iter().map(|code| code.unwrap_or(NONE)).collect())
}

/// The comparisons: `args$compare` with the codes of groups, `args$with` with those
/// of their references, `NA` for the rest.
fn contrasts(args: &Args) -> Result<Contrasts> {
    let (groups, references) = (args.codes("compare")?, args.codes("with")?);
    if groups.len() != references.len() {
        return Err(wrong("with", "must be as long as `compare`"));
    }
    let comparisons = groups
        .into_iter()
        .zip(references)
        .map(|(group, reference)| {
            let group = group.ok_or_else(|| wrong("compare", "must not be NA"))?;
            let reference = reference.map_or(Reference::Rest, Reference::Group);
            Ok(Comparison { group, reference })
        })
        .collect::<Result<Vec<_>>>()?;
    Contrasts::new(&codes(args)?, args.count("n_groups")?, &comparisons)
}

/// `args$pseudocount`, or where it is `NULL` scanpy's convention with `args$ln_base`.
fn fold_change(args: &Args) -> Result<FoldChange> {
    Ok(match args.number_opt("pseudocount")? {
        Some(pseudocount) => FoldChange::LinearMeans { pseudocount },
        None => FoldChange::MeansOfLogs { ln_base: args.number("ln_base")? },
    })
}

/// The table for R: ordered by `args$order`, adjusted by `args$p_adjust`.
fn marker_table(args: &Args, contrasts: &Contrasts, rows: &[Row]) -> Result<Robj> {
    let order = match args.text("order")?.as_str() {
        "auc" => Order::Auc,
        "statistic" => Order::Statistic,
        _ => return Err(wrong("order", "must be \"auc\" or \"statistic\"")),
    };
    let adjustment = match args.text("p_adjust")?.as_str() {
        "BH" | "fdr" => Some(Adjustment::BenjaminiHochberg),
        "BY" => Some(Adjustment::BenjaminiYekutieli),
        "bonferroni" => Some(Adjustment::Bonferroni),
        "holm" => Some(Adjustment::Holm),
        "none" => None,
        _ => return Err(wrong("p_adjust", "is not a known adjustment")),
    };
    let table = MarkerTable::new(rows, contrasts.comparisons().len(), order, adjustment);
    let column =
        |value: fn(&Row) -> f64| Robj::from(table.rows.iter().map(value).collect::<Vec<f64>>());
    let from_one =
        |codes: &[u32]| Robj::from(codes.iter().map(|&c| c as i32 + 1).collect::<Vec<i32>>());
    let (group, reference): (Vec<f64>, Vec<f64>) = contrasts
        .comparisons()
        .iter()
        .map(|&comparison| contrasts.sizes(comparison))
        .map(|(group, reference)| (group as f64, reference as f64))
        .unzip();
    Ok(named(vec![
        ("feature", from_one(&table.gene)),
        ("comparison", from_one(&table.comparison)),
        ("log2_fc", column(|row| row.log2_fc)),
        ("statistic", column(|row| row.statistic)),
        ("p_value", column(|row| row.p_value)),
        ("p_adj", table.p_adj.clone().into()),
        ("log10_p", column(|row| row.log10_p)),
        ("auc", column(|row| row.auc)),
        ("mean_group", column(|row| row.mean.0)),
        ("mean_reference", column(|row| row.mean.1)),
        ("pct_group", column(|row| row.fraction.0)),
        ("pct_reference", column(|row| row.fraction.1)),
        ("n_group", group.into()),
        ("n_reference", reference.into()),
    ]))
}

/// t-tests between groups of cells.
///
/// `args`: `group`, `n_groups`, `compare`, `with`, `overestimated`, `pseudocount`
/// or `ln_base`, `order`, `p_adjust`.
/// @noRd
#[extendr]
fn rs_de_ttest(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_linear();
        let args = Args::new(&args);
        let contrasts = contrasts(&args)?;
        contrasts.groups().check_rows(plan.view().n_obs())?;
        let spread =
            if args.flag("overestimated")? { Spread::Overestimated } else { Spread::Welch };
        let fold_change = fold_change(&args)?;
        let test = TTest { contrasts: &contrasts, spread, fold_change };
        with_ctx(&ctx, |ctx| {
            if let Mode::Whole = Mode::from_robj(&mode)? {
                let rows = test.run(plan.source(), plan.view(), ctx)?;
                return marker_table(&args, &contrasts, &rows);
            }
            let genes = 0..plan.view().n_vars();
            let pass = test.pass(genes.clone());
            run_tiled_mode(&plan, ctx, &mode, "reading values", &pass, |tiles| {
                let rows = test.rows(ctx, &pass.table(tiles), genes)?;
                marker_table(&args, &contrasts, &rows)
            })
        })
    })
}

/// Wilcoxon tests between groups of cells.
///
/// `args`: `group`, `n_groups`, `compare`, `with`, `tie_correct`, `continuity`,
/// `pseudocount` or `ln_base`, `order`, `p_adjust`.
/// @noRd
#[extendr]
fn rs_de_wilcoxon(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?;
        let args = Args::new(&args);
        let contrasts = contrasts(&args)?;
        let (tie_correct, continuity) = (args.flag("tie_correct")?, args.flag("continuity")?);
        let fold_change = fold_change(&args)?;
        let test = Wilcoxon { contrasts: &contrasts, tie_correct, continuity, fold_change };
        let (source, view, groups) = (plan.source(), plan.view(), contrasts.groups());
        with_ctx(&ctx, |ctx| {
            let finish = |values: GeneMajor, ctx: &Ctx| {
                marker_table(&args, &contrasts, &test.rows(ctx, view, &values)?)
            };
            match Mode::from_robj(&mode)? {
                Mode::Whole => finish(GeneMajor::read(source, view, ctx, groups, None)?, ctx),
                Mode::Ranges(ranges) => {
                    let read =
                        |range| GeneMajor::read(source, view, ctx, groups, Some(range))?.to_bytes();
                    Ok(raws(&ranges.into_iter().map(read).collect::<Result<Vec<_>>>()?))
                }
                Mode::Merge(partials) => {
                    let n_groups = groups.n_groups();
                    finish(GeneMajor::from_partials(&partials, ctx, view.n_vars(), n_groups)?, ctx)
                }
            }
        })
    })
}

/// Sums and numbers of nonzero values of every gene in every group, genes x groups.
///
/// `args`: `group`, `n_groups`.
/// @noRd
#[extendr]
fn rs_de_pseudobulk(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?;
        let args = Args::new(&args);
        let groups = Groups::new(codes(&args)?, args.count("n_groups")?)?;
        groups.check_rows(plan.view().n_obs())?;
        let pass = GroupPass::<GroupSum>::new(&groups, 0..plan.view().n_vars());
        with_ctx(&ctx, |ctx| {
            run_tiled_mode(&plan, ctx, &mode, "summing groups", &pass, |tiles| {
                Ok(sums(&pass.table(tiles), &groups))
            })
        })
    })
}

fn sums(table: &GroupTable<GroupSum>, groups: &Groups) -> Robj {
    let all = || (0..groups.n_groups()).flat_map(|group| table.group(group));
    let dim = [table.n_genes() as i32, groups.n_groups() as i32];
    let counts = all().all(|cell| cell.odd == 0);
    named(vec![
        ("sum", all().map(|cell| cell.sum).collect::<Vec<f64>>().into()),
        ("detected", all().map(|cell| cell.n as i32).collect::<Vec<i32>>().into()),
        ("dim", dim.into()),
        ("counts", counts.into()),
        ("n_cells", groups.sizes().iter().map(|&n| n as f64).collect::<Vec<f64>>().into()),
    ])
}

extendr_module! {
    mod de;
    fn rs_de_ttest;
    fn rs_de_wilcoxon;
    fn rs_de_pseudobulk;
}
