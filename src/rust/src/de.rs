//! Differential expression and pseudobulk for R.

use extendr_api::prelude::*;
use scoom_core::ctx::Ctx;
use scoom_core::de::binomial::Binomial;
use scoom_core::de::contrast::{Contrasts, Samples, Stratum};
use scoom_core::de::fold_change::FoldChange;
use scoom_core::de::gene_major::GeneMajor;
use scoom_core::de::group_pass::{GroupPass, GroupTable};
use scoom_core::de::groups::{Groups, NONE};
use scoom_core::de::moments::{GroupSum, MomentTest, moment_pass, run_moment_test, test_moments};
use scoom_core::de::replicates::Replicates;
use scoom_core::de::table::{MarkerTable, Order, Row, Scope, TableBuilder, TableOptions};
use scoom_core::de::ttest::{Spread, TTest};
use scoom_core::de::wilcoxon::Wilcoxon;
use scoom_core::error::Result;
use scoom_core::stats::adjust::Adjustment;
use scoom_core::stats::dist::Alternative;

use crate::convert::{Args, named, raws, wrong};
use crate::guard::guard;
use crate::plan::{Mode, Plan, run_tiled_mode, with_ctx};

/// Codes from 0 of all cells, `NA` for none.
pub(crate) fn codes(args: &Args, name: &'static str) -> Result<Vec<u32>> {
    Ok(args.codes(name)?.into_iter().map(|code| code.unwrap_or(NONE)).collect())
}

/// Codes from 0, one list element for each stratum.
pub(crate) fn code_lists(args: &Args, name: &'static str) -> Result<Vec<Vec<u32>>> {
    let bad = || wrong(name, "must be a list of codes from zero");
    let list = args.need(name)?.as_list().ok_or_else(bad)?;
    list.values()
        .map(|codes| {
            let codes = codes.as_integer_slice().ok_or_else(bad)?;
            codes.iter().map(|&code| u32::try_from(code).map_err(|_| bad())).collect()
        })
        .collect()
}

/// The comparisons: `unit`, `n_units`, and of each stratum `group_units`,
/// `reference_units` and `stratum_of`; `sample` with `unit_sample` and `n_samples`.
fn contrasts(args: &Args) -> Result<Contrasts> {
    let (groups, references) =
        (code_lists(args, "group_units")?, code_lists(args, "reference_units")?);
    let comparisons = codes(args, "stratum_of")?;
    if groups.len() != references.len() || groups.len() != comparisons.len() {
        return Err(wrong("stratum_of", "must be as long as `group_units` and `reference_units`"));
    }
    let sides = groups.into_iter().zip(references);
    let strata: Vec<Stratum> = sides
        .zip(comparisons)
        .map(|((group, reference), comparison)| Stratum { comparison, group, reference })
        .collect();
    let samples = match args.get("sample") {
        None => None,
        Some(list) => {
            let sample = Args::new(&list);
            let of_unit = codes(&sample, "unit_sample")?;
            Some(Samples { of_unit, n_samples: sample.count("n_samples")? })
        }
    };
    Contrasts::new(&codes(args, "unit")?, args.count("n_units")?, &strata, samples.as_ref())
}

/// `fold_change`: `"means"` or missing with `pseudocount`; without it scanpy's
/// convention with `ln_base`. `"seurat"` (sums) and `"seurat_v4"` (means) take
/// `pseudocount` too, 1 where it is `NULL`.
pub(crate) fn fold_change(args: &Args) -> Result<FoldChange> {
    let pseudocount = args.number_opt("pseudocount")?;
    let name = args.get("fold_change").map(|_| args.text("fold_change")).transpose()?;
    Ok(match (name.as_deref(), pseudocount) {
        (None | Some("means"), Some(pseudocount)) => FoldChange::LinearMeans { pseudocount },
        (None | Some("means"), None) => {
            FoldChange::MeansOfLogs { ln_base: args.number("ln_base")? }
        }
        (Some("seurat"), c) => FoldChange::LinearSums { pseudocount: c.unwrap_or(1.0) },
        (Some("seurat_v4"), c) => FoldChange::LinearMeans { pseudocount: c.unwrap_or(1.0) },
        _ => return Err(wrong("fold_change", "is not a known convention")),
    })
}

/// `alternative`, two-sided where it is missing.
fn alternative(args: &Args) -> Result<Alternative> {
    let Some(value) = args.get("alternative") else { return Ok(Alternative::TwoSided) };
    match value.as_str() {
        Some("two.sided") => Ok(Alternative::TwoSided),
        Some("greater") => Ok(Alternative::Greater),
        Some("less") => Ok(Alternative::Less),
        _ => Err(wrong("alternative", "must be \"two.sided\", \"greater\" or \"less\"")),
    }
}

/// `order`, `p_adjust`, `adjust_over`, `n_adjust`, `n_genes`, `min_pct`,
/// `min_log2_fc`, `only_up`, `max_p_adj`; all but the first two may be missing.
pub(crate) fn table_options(args: &Args) -> Result<TableOptions> {
    let order = match args.text("order")?.as_str() {
        "auc" => Order::Auc,
        "statistic" => Order::Statistic,
        "p_value" => Order::PValue,
        "log2_fc" => Order::Log2Fc,
        _ => return Err(wrong("order", "is not a column to order by")),
    };
    let adjustment = match args.text("p_adjust")?.as_str() {
        "BH" | "fdr" => Some(Adjustment::BenjaminiHochberg),
        "BY" => Some(Adjustment::BenjaminiYekutieli),
        "bonferroni" => Some(Adjustment::Bonferroni),
        "holm" => Some(Adjustment::Holm),
        "none" => None,
        _ => return Err(wrong("p_adjust", "is not a known adjustment")),
    };
    let scope = match args.get("adjust_over").as_ref().map(Robj::as_str) {
        None | Some(Some("comparison")) => Scope::Comparison,
        Some(Some("all")) => Scope::All,
        _ => return Err(wrong("adjust_over", "must be \"comparison\" or \"all\"")),
    };
    let count = |name| args.get(name).map(|_| args.count(name)).transpose();
    Ok(TableOptions {
        scope,
        n_adjust: count("n_adjust")?,
        n_genes: count("n_genes")?,
        min_pct: args.number_opt("min_pct")?.unwrap_or(0.0),
        min_log2_fc: args.number_opt("min_log2_fc")?.unwrap_or(0.0),
        only_up: args.get("only_up").is_some() && args.flag("only_up")?,
        max_p_adj: args.number_opt("max_p_adj")?,
        ..TableOptions::all(order, adjustment)
    })
}

/// The table for R: rows as columns; `n_group` and `n_reference` by comparison.
pub(crate) fn marker_columns(
    sizes: &[(u64, u64)],
    table: &MarkerTable,
) -> Vec<(&'static str, Robj)> {
    let column =
        |value: fn(&Row) -> f64| Robj::from(table.rows.iter().map(value).collect::<Vec<f64>>());
    let from_one =
        |codes: &[u32]| Robj::from(codes.iter().map(|&c| c as i32 + 1).collect::<Vec<i32>>());
    let (group, reference): (Vec<f64>, Vec<f64>) =
        sizes.iter().map(|&(group, reference)| (group as f64, reference as f64)).unzip();
    vec![
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
    ]
}

/// The table for R, with the columns of samples where they are told apart.
fn marker_table(contrasts: &Contrasts, table: &MarkerTable) -> Robj {
    let sizes: Vec<(u64, u64)> =
        (0..contrasts.n_comparisons()).map(|comparison| contrasts.sizes(comparison)).collect();
    let mut fields = marker_columns(&sizes, table);
    if contrasts.n_samples().is_some() {
        fields.extend(replicate_columns(&table.rows));
    }
    named(fields)
}

/// The columns of samples; `top_sample` counts from one.
fn replicate_columns(rows: &[Row]) -> Vec<(&'static str, Robj)> {
    let all = || rows.iter().filter_map(|row| row.replicates.as_deref());
    let column = |value: fn(&Replicates) -> f64| Robj::from(all().map(value).collect::<Vec<f64>>());
    let integers =
        |value: fn(&Replicates) -> i32| Robj::from(all().map(value).collect::<Vec<i32>>());
    vec![
        ("n_samples_expressing", integers(|r| r.n_expressing as i32)),
        ("top_sample", integers(|r| r.top_sample.map_or(i32::MIN, |sample| sample as i32 + 1))),
        ("top_sample_signal", column(|r| r.top_signal)),
        ("top_sample_cells", column(|r| r.top_cells)),
        ("sign_agreement", column(|r| r.sign_agreement)),
        ("worst_log2_fc", column(|r| r.worst_log2_fc)),
    ]
}

/// Runs a test of moments in any mode.
fn run_moments(
    plan: &Plan,
    args: &Args,
    ctx: &Robj,
    mode: &Robj,
    test: &impl MomentTest,
) -> Result<Robj> {
    let options = table_options(args)?;
    let (contrasts, n_vars) = (test.contrasts(), plan.view().n_vars());
    contrasts.groups().check_rows(plan.view().n_obs())?;
    with_ctx(ctx, |ctx| {
        if let Mode::Whole = Mode::from_robj(mode)? {
            let table = run_moment_test(plan.source(), plan.view(), ctx, test, options)?;
            return Ok(marker_table(contrasts, &table));
        }
        let (pass, view) = moment_pass(test, plan.view(), 0..n_vars);
        run_tiled_mode((plan.source(), &view), ctx, mode, "reading values", &pass, |tiles| {
            let table = TableBuilder::new(options, contrasts.n_comparisons(), n_vars)?;
            pass.for_each_part(tiles, ctx, |genes, moments| {
                test_moments(ctx, test, moments, genes, &table)
            })?;
            Ok(marker_table(contrasts, &table.finish(ctx)?))
        })
    })
}

/// t-tests between groups of cells.
///
/// `args`: the comparisons (`contrasts`), `overestimated`, `alternative`, the
/// convention of fold changes (`fold_change`), the table (`table_options`).
/// @noRd
#[extendr]
fn rs_de_ttest(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_linear();
        let args = Args::new(&args);
        let contrasts = contrasts(&args)?;
        let test = TTest {
            contrasts: &contrasts,
            spread: if args.flag("overestimated")? { Spread::Overestimated } else { Spread::Welch },
            alternative: alternative(&args)?,
            fold_change: fold_change(&args)?,
        };
        run_moments(&plan, &args, &ctx, &mode, &test)
    })
}

/// Tests of detection between groups of cells: `log2_fc` is the ratio of the
/// fractions of cells that express a gene.
///
/// `args`: the comparisons, `alternative`, the table.
/// @noRd
#[extendr]
fn rs_de_binomial(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?.with_linear();
        let args = Args::new(&args);
        let contrasts = contrasts(&args)?;
        let test = Binomial { contrasts: &contrasts, alternative: alternative(&args)? };
        run_moments(&plan, &args, &ctx, &mode, &test)
    })
}

/// Wilcoxon tests between groups of cells.
///
/// `args`: as `rs_de_ttest()`, but `tie_correct` and `continuity`; `p_values = FALSE`
/// leaves out the test (areas under the curve alone).
/// @noRd
#[extendr]
fn rs_de_wilcoxon(plan: Robj, args: Robj, ctx: Robj, mode: Robj) -> Robj {
    guard(|| {
        let plan = Plan::from_robj(&plan)?;
        let args = Args::new(&args);
        let contrasts = contrasts(&args)?;
        let test = Wilcoxon {
            contrasts: &contrasts,
            tie_correct: args.flag("tie_correct")?,
            continuity: args.flag("continuity")?,
            alternative: alternative(&args)?,
            p_values: args.get("p_values").is_none() || args.flag("p_values")?,
            fold_change: fold_change(&args)?,
        };
        let options = table_options(&args)?;
        let (source, view, groups) = (plan.source(), plan.view(), contrasts.groups());
        with_ctx(&ctx, |ctx| {
            let finish = |mut values: GeneMajor, ctx: &Ctx| {
                Ok(marker_table(&contrasts, &test.run(ctx, view, &mut values, options)?))
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
        let groups = Groups::new(codes(&args, "group")?, args.count("n_groups")?)?;
        groups.check_rows(plan.view().n_obs())?;
        let pass = GroupPass::<GroupSum>::new(&groups, 0..plan.view().n_vars());
        with_ctx(&ctx, |ctx| {
            let over = (plan.source(), plan.view());
            run_tiled_mode(over, ctx, &mode, "summing groups", &pass, |tiles| {
                Ok(sums(&pass.table(tiles, ctx)?, &groups))
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
    fn rs_de_binomial;
    fn rs_de_wilcoxon;
    fn rs_de_pseudobulk;
}
