//! Tests against loops over the dense matrix, in every way to run.

use super::contrast::{Contrasts, Samples, Stratum};
use super::fold_change::FoldChange;
use super::gene_major::GeneMajor;
use super::group_pass::GroupPass;
use super::group_tile::GroupTile;
use super::groups::{Groups, NONE};
use super::moments::{
    GroupMoments, GroupSum, MomentTest, moment_pass, run_moment_test, test_moments,
};
use super::replicates::Replicates;
use super::table::{MarkerTable, Order, Row, TableBuilder, TableOptions};
use super::ttest::{Spread, TTest};
use super::wilcoxon::Wilcoxon;
use crate::ctx::{Ctx, Silent};
use crate::error::Error;
use crate::matrix::Source;
use crate::matrix::testing::Matrix;
use crate::pass::{TiledPass, from_bytes, run_tiled, run_tiled_ranges, to_bytes};
use crate::stats::adjust::Adjustment;
use crate::stats::dist::{Alternative, normal_p_value, t_p_value, t_to_normal};
use crate::stats::log1p::ln_1p;
use crate::stats::random::Rng;
use crate::transform::{Chain, Op, View};

const N_OBS: usize = 61;
const N_VARS: usize = 40;
const MEMORY: u64 = 1 << 30;

/// Counts, with negative values in gene 2, a constant gene 3, an empty last gene.
fn matrix() -> Matrix {
    let mut matrix = Matrix::counts(N_OBS, N_VARS, 7);
    for row in 0..N_OBS {
        matrix.set(row, 2, (row % 5) as f64 - 0.5);
        matrix.set(row, 3, 3.0);
    }
    matrix
}

/// Rows in another order, some twice, some not at all.
fn rows() -> Vec<usize> {
    let mut rng = Rng::new(3, 0);
    (0..80).map(|_| rng.below(N_OBS as u64) as usize).collect()
}

/// Units of the rows: six, and none.
fn units(n: usize) -> Vec<u32> {
    let mut rng = Rng::new(4, 0);
    (0..n).map(|_| [0, 1, 2, 2, 3, 4, 5, NONE][rng.below(8) as usize]).collect()
}

const N_UNITS: usize = 6;

fn ctx(threads: usize, memory: u64) -> Ctx<'static> {
    Ctx::new(threads, memory, std::env::temp_dir(), &Silent)
}

/// Strata from (comparison, group, reference).
fn strata(sides: &[(u32, &[u32], &[u32])]) -> Vec<Stratum> {
    sides
        .iter()
        .map(|&(comparison, group, reference)| Stratum {
            comparison,
            group: group.to_vec(),
            reference: reference.to_vec(),
        })
        .collect()
}

/// Groups against the rest, against one other, sets, overlapping sets.
fn mixed() -> Vec<Stratum> {
    strata(&[
        (0, &[2], &[0, 1, 3]),
        (1, &[0], &[1, 2, 3]),
        (2, &[2], &[1]),
        (3, &[1], &[3]),
        (4, &[3], &[2, 1, 0]),
        (5, &[0, 1], &[2, 4]),
        (6, &[0, 2, 5], &[1]),
    ])
}

/// All pairs of groups, both ways.
fn all_pairs() -> Vec<Stratum> {
    let ordered = (0..36_u32).map(|i| (i / 6, i % 6)).filter(|(a, b)| a != b);
    let stratum =
        |(i, (a, b))| Stratum { comparison: i as u32, group: vec![a], reference: vec![b] };
    ordered.enumerate().map(stratum).collect()
}

/// Conditions 0, 2, 4 against 1, 3, 5 within three cell types.
fn within() -> Vec<Stratum> {
    strata(&[(0, &[0], &[1]), (1, &[2], &[3]), (2, &[4], &[5])])
}

/// The same as blocks of one comparison, then two blocks of two pairs.
fn blocks() -> Vec<Stratum> {
    strata(&[
        (0, &[0], &[1]),
        (0, &[2], &[3]),
        (0, &[4], &[5]),
        (1, &[0], &[1, 4]),
        (1, &[2, 5], &[3]),
        (2, &[3], &[0]),
    ])
}

/// Every unit against its rest: one universe.
fn each_against_rest() -> Vec<Stratum> {
    let rest = |unit: u32| (0..N_UNITS as u32).filter(|&other| other != unit).collect();
    (0..N_UNITS as u32)
        .map(|unit| Stratum { comparison: unit, group: vec![unit], reference: rest(unit) })
        .collect()
}

fn every_design() -> [(&'static str, Vec<Stratum>); 5] {
    [
        ("mixed", mixed()),
        ("pairs", all_pairs()),
        ("within", within()),
        ("blocks", blocks()),
        ("rest", each_against_rest()),
    ]
}

/// Values of one gene on both sides of a stratum.
fn sides(values: &[f64], units: &[u32], stratum: &Stratum) -> (Vec<f64>, Vec<f64>) {
    let pick = |side: &[u32]| -> Vec<f64> {
        values.iter().zip(units).filter(|&(_, unit)| side.contains(unit)).map(|(&x, _)| x).collect()
    };
    (pick(&stratum.group), pick(&stratum.reference))
}

/// Rows gene by gene, comparisons of each in order.
fn by_gene(table: MarkerTable) -> Vec<Row> {
    let places = table.gene.iter().zip(&table.comparison);
    let mut rows: Vec<((u32, u32), Row)> =
        places.map(|(&gene, &c)| (gene, c)).zip(table.rows).collect();
    rows.sort_by_key(|(place, _)| *place);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn all_rows() -> TableOptions {
    TableOptions::all(Order::Statistic, None)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn var(values: &[f64]) -> f64 {
    let m = mean(values);
    values.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / (values.len() as f64 - 1.0)
}

/// Deviation of U from its mean, its variance, and the area under the curve, by
/// comparing every pair.
fn naive_ranks(a: &[f64], b: &[f64], tie_correct: bool) -> (f64, f64, f64) {
    let mut u = 0.0;
    for x in a {
        for y in b {
            u += if x > y { 1.0 } else { f64::from(u8::from(x == y)) / 2.0 };
        }
    }
    let (n1, n2) = (a.len() as f64, b.len() as f64);
    let total = n1 + n2;
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    // Every member of a tie of t adds (t^3 - t) / t.
    let ties: f64 = all
        .iter()
        .map(|x| {
            let tied = all.iter().filter(|other| *other == x).count() as f64;
            tied * tied - 1.0
        })
        .sum();
    let ties = if tie_correct { ties / (total * (total - 1.0)) } else { 0.0 };
    (u - n1 * n2 / 2.0, n1 * n2 / 12.0 * (total + 1.0 - ties), u / (n1 * n2))
}

/// What a comparison comes to, from the values of its strata.
struct Naive {
    statistic: f64,
    auc: f64,
    /// Weight, both sides.
    strata: Vec<(f64, Vec<f64>, Vec<f64>)>,
    constant: bool,
}

/// NaN for nothing.
fn weighted(strata: &[(f64, f64)]) -> f64 {
    let total: f64 = strata.iter().map(|(weight, _)| weight).sum();
    strata.iter().map(|(weight, x)| weight * x).sum::<f64>() / total
}

fn is_constant(a: &[f64], b: &[f64]) -> bool {
    a.iter().chain(b).all(|x| *x == a[0])
}

fn naive_wilcoxon(sides: Vec<(Vec<f64>, Vec<f64>)>, test: &Wilcoxon) -> Naive {
    let (mut deviation, mut variance, mut step) = (0.0, 0.0, f64::INFINITY);
    let (mut areas, mut strata) = (Vec::new(), Vec::new());
    for (a, b) in sides {
        let (off, spread, auc) = naive_ranks(&a, &b, test.tie_correct);
        let (n, m) = (a.len() as f64, b.len() as f64);
        let weight = 1.0 / (n + m + 1.0);
        deviation += weight * off;
        variance += weight * weight * spread;
        step = f64::min(step, weight);
        areas.push((n * m * weight, auc));
        strata.push((n * m * weight, a, b));
    }
    if test.continuity {
        deviation = match test.alternative {
            Alternative::Greater => deviation - step / 2.0,
            Alternative::Less => deviation + step / 2.0,
            Alternative::TwoSided if deviation.abs() < step / 2.0 => 0.0,
            Alternative::TwoSided => deviation - deviation.signum() * step / 2.0,
        };
    }
    let constant = strata.iter().all(|(_, a, b)| is_constant(a, b));
    let statistic =
        if constant || deviation.abs() < 1e-12 { 0.0 } else { deviation / variance.sqrt() };
    Naive { statistic, auc: weighted(&areas), strata, constant }
}

fn naive_t(sides: Vec<(Vec<f64>, Vec<f64>)>, spread: Spread) -> (Naive, f64) {
    let (mut strata, mut deviates, mut df_of_one) = (Vec::new(), Vec::new(), f64::NAN);
    let n_strata = sides.len();
    for (a, b) in sides {
        let n2 = if spread == Spread::Welch { b.len() } else { a.len() } as f64;
        let (va, vb) = (var(&a) / a.len() as f64, var(&b) / n2);
        let df = (va + vb).powi(2) / (va * va / (a.len() as f64 - 1.0) + vb * vb / (n2 - 1.0));
        let t = if is_constant(&a, &b) { 0.0 } else { (mean(&a) - mean(&b)) / (va + vb).sqrt() };
        let weight = (1.0 / a.len() as f64 + 1.0 / b.len() as f64).powf(-0.5);
        deviates.push((weight, if n_strata == 1 || t == 0.0 { t } else { t_to_normal(t, df) }));
        df_of_one = df;
        strata.push((weight, a, b));
    }
    let constant = strata.iter().all(|(_, a, b)| is_constant(a, b));
    let squares: f64 = deviates.iter().map(|(weight, _)| weight * weight).sum();
    let sum: f64 = deviates.iter().map(|(weight, z)| weight * z).sum();
    let statistic = if n_strata == 1 { deviates[0].1 } else { sum / squares.sqrt() };
    (Naive { statistic, auc: f64::NAN, strata, constant }, df_of_one)
}

fn close(got: f64, want: f64, what: &str) {
    let same = got == want || (got - want).abs() <= 1e-12 * want.abs().max(1e-3);
    assert!(same || (got.is_nan() && want.is_nan()), "{what}: {got} against {want}");
}

/// What every test reports beside its statistic.
fn check_shared(row: &Row, naive: &Naive, pseudocount: f64, linear: impl Fn(f64) -> f64) {
    let un = |values: &[f64]| mean(&values.iter().map(|&x| linear(x)).collect::<Vec<_>>());
    let pct = |v: &[f64]| v.iter().filter(|x| **x != 0.0).count() as f64 / v.len() as f64;
    let average = |value: &dyn Fn(&[f64], &[f64]) -> f64| {
        let each = naive.strata.iter().map(|(weight, a, b)| (*weight, value(a, b)));
        weighted(&each.collect::<Vec<_>>())
    };
    close(row.mean.0, average(&|a, _| un(a)), "mean of the group");
    close(row.mean.1, average(&|_, b| un(b)), "mean of the reference");
    close(row.fraction.0, average(&|a, _| pct(a)), "fraction of the group");
    close(row.fraction.1, average(&|_, b| pct(b)), "fraction of the reference");
    let fold_change = |a: &[f64], b: &[f64]| {
        if is_constant(a, b) { 0.0 } else { ((un(a) + pseudocount) / (un(b) + pseudocount)).log2() }
    };
    close(row.log2_fc, average(&fold_change), "fold change");
}

fn log_view(rows: Option<&[usize]>) -> View {
    let ops = vec![Op::Log1p { base: Some(2.0) }];
    View::new(N_OBS, N_VARS, rows, &Chain { ops, stored_log: None }).unwrap()
}

/// Whose logarithm is left to the pass.
fn normalized_view(rows: &[usize]) -> View {
    let ops = vec![Op::Normalize { target: 1e4, excluded: vec![] }, Op::Log1p { base: None }];
    View::new(N_OBS, N_VARS, Some(rows), &Chain { ops, stored_log: None }).unwrap()
}

fn plain_view(rows: Option<&[usize]>) -> View {
    View::new(N_OBS, N_VARS, rows, &Chain::default()).unwrap()
}

/// Gene `gene` of the selected rows.
fn column(matrix: &Matrix, rows: &[usize], gene: usize) -> Vec<f64> {
    rows.iter().map(|&row| matrix.dense[row][gene]).collect()
}

const LINEAR: FoldChange = FoldChange::LinearMeans { pseudocount: 4.0 };

fn wilcoxon(contrasts: &Contrasts, tie_correct: bool, continuity: bool) -> Wilcoxon<'_> {
    Wilcoxon {
        contrasts,
        tie_correct,
        continuity,
        alternative: Alternative::TwoSided,
        p_values: true,
        fold_change: LINEAR,
    }
}

fn ttest(contrasts: &Contrasts) -> TTest<'_> {
    TTest {
        contrasts,
        spread: Spread::Welch,
        alternative: Alternative::TwoSided,
        fold_change: LINEAR,
    }
}

const ALTERNATIVES: [Alternative; 3] =
    [Alternative::TwoSided, Alternative::Greater, Alternative::Less];

/// The strata of each comparison.
fn of_comparison(strata: &[Stratum], comparison: usize) -> impl Iterator<Item = &Stratum> {
    strata.iter().filter(move |stratum| stratum.comparison as usize == comparison)
}

#[test]
fn rank_tests_agree_with_comparing_every_pair() {
    let (matrix, rows) = (matrix(), rows());
    let units = units(rows.len());
    let view = plain_view(Some(&rows));
    let ctx = ctx(2, MEMORY);
    for (design, strata) in every_design() {
        let contrasts = Contrasts::new(&units, N_UNITS, &strata, None).unwrap();
        let n_comparisons = contrasts.n_comparisons();
        let mut values = GeneMajor::read(&matrix, &view, &ctx, contrasts.groups(), None).unwrap();
        for (i, (tie_correct, continuity)) in
            [(true, true), (true, false), (false, true), (false, false)].into_iter().enumerate()
        {
            let alternative = ALTERNATIVES[i % 3];
            let test = Wilcoxon { alternative, ..wilcoxon(&contrasts, tie_correct, continuity) };
            let got = by_gene(test.run(&ctx, &view, &mut values, all_rows()).unwrap());
            assert_eq!(got.len(), N_VARS * n_comparisons);
            for gene in 0..N_VARS {
                let column = column(&matrix, &rows, gene);
                for c in 0..n_comparisons {
                    let row = &got[gene * n_comparisons + c];
                    let both = of_comparison(&strata, c).map(|s| sides(&column, &units, s));
                    let want = naive_wilcoxon(both.collect(), &test);
                    close(row.statistic, want.statistic, design);
                    close(row.auc, want.auc, "auc");
                    if want.constant {
                        assert_eq!((row.statistic, row.auc, row.log2_fc), (0.0, 0.5, 0.0));
                        assert_eq!((row.p_value, row.log10_p), (1.0, 0.0));
                    } else {
                        assert_eq!(row.p_value, normal_p_value(row.statistic, alternative).p_value);
                    }
                    check_shared(row, &want, 4.0, |x| x);
                }
            }
        }
        let areas = Wilcoxon { p_values: false, ..wilcoxon(&contrasts, true, true) };
        let full = by_gene(
            wilcoxon(&contrasts, true, true).run(&ctx, &view, &mut values, all_rows()).unwrap(),
        );
        for (row, full) in
            by_gene(areas.run(&ctx, &view, &mut values, all_rows()).unwrap()).iter().zip(full)
        {
            assert_eq!((row.auc, row.log2_fc), (full.auc, full.log2_fc));
            assert!(row.statistic.is_nan() && row.p_value.is_nan() && row.log10_p.is_nan());
        }
    }
}

#[test]
fn t_tests_agree_with_two_passes() {
    let mut matrix = matrix();
    for row in 0..N_OBS {
        matrix.set(row, 2, (row % 5) as f64);
    }
    let rows = rows();
    let units = units(rows.len());
    let view = log_view(Some(&rows)).with_linear();
    for (i, (design, strata)) in every_design().into_iter().enumerate() {
        let contrasts = Contrasts::new(&units, N_UNITS, &strata, None).unwrap();
        let n_comparisons = contrasts.n_comparisons();
        let alternative = ALTERNATIVES[i % 3];
        for spread in [Spread::Welch, Spread::Overestimated] {
            let test = TTest { spread, alternative, ..ttest(&contrasts) };
            let got = run_moment_test(&matrix, &view, &ctx(2, MEMORY), &test, all_rows());
            let got = by_gene(got.unwrap());
            for gene in 0..N_VARS {
                let column: Vec<f64> =
                    column(&matrix, &rows, gene).iter().map(|&x| ln_1p(x) / 2f64.ln()).collect();
                for c in 0..n_comparisons {
                    let row = &got[gene * n_comparisons + c];
                    let both = of_comparison(&strata, c).map(|s| sides(&column, &units, s));
                    let (want, df) = naive_t(both.collect(), spread);
                    check_shared(row, &want, 4.0, |x| x.exp2() - 1.0);
                    assert!(row.auc.is_nan());
                    let (got, statistic) = (row.statistic, want.statistic);
                    assert!(
                        (got - statistic).abs() <= 1e-12 * statistic.abs().max(1.0),
                        "{design}"
                    );
                    let p = match want.strata.len() {
                        _ if want.constant => 0.0,
                        1 => t_p_value(want.statistic, df, alternative).log10_p,
                        _ => normal_p_value(want.statistic, alternative).log10_p,
                    };
                    close(row.log10_p, p, "log10 p");
                }
            }
        }
    }
}

/// The samples of each unit, and the strata: two groups of three samples each,
/// one sample on both sides.
fn with_samples() -> (Samples, Vec<Stratum>) {
    let samples = Samples { of_unit: vec![0, 1, 1, 2, 3, 0], n_samples: 5 };
    let strata = strata(&[
        (0, &[0, 1], &[2, 3, 4, 5]),
        (1, &[2], &[3]),
        (2, &[0], &[3, 4]),
        (2, &[1], &[2]),
    ]);
    (samples, strata)
}

/// The samples of one comparison by loops over its cells.
fn naive_replicates(
    column: &[f64],
    units: &[u32],
    strata: &[&Stratum],
    samples: &Samples,
    weight: impl Fn(f64, f64) -> f64,
    pseudocount: f64,
) -> Replicates {
    // (sample, value) of the cells of a side.
    let cells = |side: &[u32]| -> Vec<(usize, f64)> {
        let all = column.iter().zip(units).filter(|(_, unit)| side.contains(unit));
        all.map(|(&x, &unit)| (samples.of_unit[unit as usize] as usize, x)).collect()
    };
    let values = |side: &[(usize, f64)], keep: &dyn Fn(usize) -> bool| -> Vec<f64> {
        side.iter().filter(|(sample, _)| keep(*sample)).map(|(_, x)| *x).collect()
    };
    let sides: Vec<_> = strata.iter().map(|s| (cells(&s.group), cells(&s.reference))).collect();
    let fold_change = |keep: &dyn Fn(usize) -> bool| {
        let each = sides.iter().filter_map(|(group, reference)| {
            let (a, b) = (values(group, keep), values(reference, keep));
            (!a.is_empty() && !b.is_empty()).then(|| {
                let change = ((mean(&a) + pseudocount) / (mean(&b) + pseudocount)).log2();
                (weight(a.len() as f64, b.len() as f64), change)
            })
        });
        weighted(&each.collect::<Vec<_>>())
    };
    let group: Vec<(usize, f64)> = sides.iter().flat_map(|(group, _)| group.clone()).collect();
    let own = |sample: usize| values(&group, &|s| s == sample);
    let sum = |sample: usize| own(sample).iter().sum::<f64>();
    let present: Vec<usize> = (0..samples.n_samples).filter(|&s| !own(s).is_empty()).collect();
    let deviation = |keep: &dyn Fn(usize) -> bool| -> f64 {
        let each = sides.iter().map(|(group, reference)| {
            let m = mean(&values(reference, &|_| true));
            let own = values(group, keep);
            if own.is_empty() { 0.0 } else { own.len() as f64 * (mean(&own) - m) }
        });
        each.sum()
    };
    let whole = deviation(&|_| true);
    let expressing = |&&s: &&usize| own(s).iter().any(|x| *x != 0.0);
    let top = present
        .iter()
        .filter(expressing)
        .copied()
        .reduce(|best, s| if sum(s) > sum(best) { s } else { best });
    let full = fold_change(&|_| true);
    let without: Vec<f64> = (0..samples.n_samples)
        .filter(|&s| sides.iter().any(|(a, b)| a.iter().chain(b).any(|(own, _)| *own == s)))
        .map(|s| fold_change(&|other| other != s))
        .filter(|change| !change.is_nan())
        .collect();
    let worst = without.iter().map(|change| change * full.signum()).reduce(f64::min);
    let agreeing = present.iter().filter(|&&s| deviation(&|own| own == s) * whole > 0.0).count();
    let total: f64 = present.iter().map(|&s| sum(s)).sum();
    Replicates {
        n_expressing: present.iter().filter(expressing).count() as u32,
        top_sample: top.map(|s| s as u32),
        top_signal: top.map_or(f64::NAN, |s| sum(s) / total),
        top_cells: top.map_or(f64::NAN, |s| own(s).len() as f64 / group.len() as f64),
        sign_agreement: agreeing as f64 / present.len() as f64,
        worst_log2_fc: worst.map_or(f64::NAN, |worst| worst * full.signum()),
    }
}

#[test]
fn samples_agree_with_leaving_each_out() {
    let (matrix, rows) = (Matrix::counts(N_OBS, N_VARS, 7), rows());
    let units = units(rows.len());
    let view = plain_view(Some(&rows));
    let (samples, strata) = with_samples();
    let contrasts = Contrasts::new(&units, N_UNITS, &strata, Some(&samples)).unwrap();
    let plain = Contrasts::new(&units, N_UNITS, &strata, None).unwrap();
    let ctx = ctx(2, MEMORY);
    let ranks = |contrasts: &Contrasts| {
        let mut values = GeneMajor::read(&matrix, &view, &ctx, contrasts.groups(), None).unwrap();
        by_gene(wilcoxon(contrasts, true, true).run(&ctx, &view, &mut values, all_rows()).unwrap())
    };
    let moments = |contrasts: &Contrasts| {
        let linear = view.clone().with_linear();
        by_gene(run_moment_test(&matrix, &linear, &ctx, &ttest(contrasts), all_rows()).unwrap())
    };
    let by_ranks = |n: f64, m: f64| n * m / (n + m + 1.0);
    let by_means = |n: f64, m: f64| (1.0 / n + 1.0 / m).powf(-0.5);
    for (got, without, weight) in [
        (ranks(&contrasts), ranks(&plain), &by_ranks as &dyn Fn(f64, f64) -> f64),
        (moments(&contrasts), moments(&plain), &by_means),
    ] {
        for gene in 0..N_VARS {
            let column = column(&matrix, &rows, gene);
            for c in 0..3 {
                let (row, plain) = (&got[gene * 3 + c], &without[gene * 3 + c]);
                close(row.statistic, plain.statistic, "statistic beside samples");
                close(row.log2_fc, plain.log2_fc, "fold change beside samples");
                let own: Vec<&Stratum> = of_comparison(&strata, c).collect();
                let want = naive_replicates(&column, &units, &own, &samples, weight, 4.0);
                let got = row.replicates.as_deref().unwrap();
                assert!(plain.replicates.is_none());
                assert_eq!(got.n_expressing, want.n_expressing);
                assert_eq!(got.top_sample, want.top_sample);
                close(got.top_signal, want.top_signal, "signal of the top sample");
                close(got.top_cells, want.top_cells, "cells of the top sample");
                if row.log2_fc == 0.0 {
                    assert!(got.sign_agreement.is_nan());
                } else {
                    close(got.sign_agreement, want.sign_agreement, "sign agreement");
                    close(got.worst_log2_fc, want.worst_log2_fc, "worst fold change");
                }
            }
        }
    }
}

/// Bits of all rows.
fn bits(table: MarkerTable) -> Vec<u64> {
    let all = |r: &Row| {
        let samples = r.replicates.as_deref();
        let sample = |value: fn(&Replicates) -> f64| samples.map_or(0.0, value);
        [
            r.log2_fc,
            r.statistic,
            r.p_value,
            r.log10_p,
            r.auc,
            r.mean.0,
            r.mean.1,
            r.fraction.0,
            r.fraction.1,
            sample(|s| s.top_signal),
            sample(|s| s.sign_agreement),
            sample(|s| s.worst_log2_fc),
        ]
    };
    by_gene(table).iter().flat_map(all).map(f64::to_bits).collect()
}

/// Every design in one: blocks, pairs, rest; with and without samples.
fn hard() -> [Contrasts; 2] {
    let mut strata = Vec::new();
    let mut n = 0;
    for (_, design) in every_design() {
        let most = design.iter().map(|s| s.comparison).max().unwrap_or(0);
        strata.extend(design.into_iter().map(|s| Stratum { comparison: s.comparison + n, ..s }));
        n += most + 1;
    }
    let units = units(rows().len());
    let (samples, _) = with_samples();
    [None, Some(&samples)].map(|samples| Contrasts::new(&units, N_UNITS, &strata, samples).unwrap())
}

#[test]
fn threads_memory_and_ranges_do_not_matter_to_ranks() {
    let (matrix, rows) = (matrix(), rows());
    let view = log_view(Some(&rows));
    for contrasts in hard() {
        let test = wilcoxon(&contrasts, true, true);
        let groups = contrasts.groups();
        // With and without dictionaries.
        let read = |repeats, ctx: &Ctx, range| {
            GeneMajor::read_where(repeats, &matrix, &view, ctx, groups, range).unwrap()
        };
        let run = |repeats, threads, memory| {
            let ctx = ctx(threads, memory);
            let mut values = read(repeats, &ctx, None);
            let table = test.run(&ctx, &view, &mut values, all_rows()).unwrap();
            // Where values have dictionaries and memory is no matter, they are sorted as words.
            let in_order = values.put_in_order(&ctx).unwrap().is_some();
            assert!(in_order || repeats > 0 || memory < MEMORY);
            assert!(!in_order || repeats < usize::MAX);
            (bits(table), values.slices(&ctx).len())
        };
        let (want, n_slices) = run(usize::MAX, 1, MEMORY);
        assert_eq!(n_slices, 1);
        for (threads, memory) in
            [(1, MEMORY), (2, MEMORY), (4, MEMORY), (1, 0), (2, 0), (2, 5_000), (4, 20_000)]
        {
            for repeats in [0, 2, usize::MAX] {
                let (got, n_slices) = run(repeats, threads, memory);
                assert_eq!(got, want, "{threads} threads, {memory} bytes");
                // Without memory nothing stays and every gene is a slice.
                assert!(memory > 0 || n_slices == N_VARS);
            }
        }
        for (memory, repeats) in [(MEMORY, 0), (MEMORY, usize::MAX), (0, 0), (0, usize::MAX)] {
            let ctx = ctx(2, memory);
            let partials: Vec<Vec<u8>> = (0..matrix.grid().n_ranges())
                .map(|range| read(repeats, &ctx, Some(range)).to_bytes().unwrap())
                .collect();
            assert!(partials.len() > 3);
            let n_groups = groups.n_groups();
            let mut merged = GeneMajor::from_partials(&partials, &ctx, N_VARS, n_groups).unwrap();
            assert_eq!(bits(test.run(&ctx, &view, &mut merged, all_rows()).unwrap()), want);
            let cut = [&partials[0][..partials[0].len() - 1]];
            for broken in [&cut[..], &[&b"nonsense"[..]]] {
                let refused = GeneMajor::from_partials(broken, &ctx, N_VARS, n_groups);
                assert!(matches!(refused, Err(Error::BadPartial { .. })));
            }
            assert!(GeneMajor::from_partials(&partials, &ctx, N_VARS, n_groups + 1).is_err());
        }
    }
}

#[test]
fn threads_memory_and_ranges_do_not_matter_to_moments() {
    let (matrix, rows) = (matrix(), rows());
    let view = log_view(Some(&rows)).with_linear();
    for contrasts in hard() {
        let test = ttest(&contrasts);
        let run = |threads, memory| {
            let ctx = ctx(threads, memory);
            bits(run_moment_test(&matrix, &view, &ctx, &test, all_rows()).unwrap())
        };
        let want = run(1, MEMORY);
        for (threads, memory) in [(2, MEMORY), (4, MEMORY), (1, 0), (3, 3_000)] {
            assert_eq!(run(threads, memory), want);
        }
        let (pass, left) = moment_pass(&test, &view, 0..N_VARS);
        let ctx = ctx(2, MEMORY);
        let mut total: Vec<_> = (0..crate::pass::TiledPass::n_tiles(&pass))
            .map(|tile| crate::pass::TiledPass::empty(&pass, tile))
            .collect();
        for range in 0..matrix.grid().n_ranges() {
            let tiles = run_tiled_ranges(&matrix, &left, &ctx, "test", &pass, range).unwrap();
            let tiles: Vec<_> =
                tiles.iter().map(|tile| from_bytes(&to_bytes(tile).unwrap()).unwrap()).collect();
            for (t, (into, mut from)) in total.iter_mut().zip(tiles).enumerate() {
                crate::pass::TiledPass::merge(&pass, t, into, &mut from);
            }
        }
        let n_comparisons = test.contrasts().n_comparisons();
        let table = TableBuilder::new(all_rows(), n_comparisons, N_VARS).unwrap();
        test_moments(&ctx, &test, &pass.table(total, &ctx).unwrap(), 0..N_VARS, &table).unwrap();
        assert_eq!(bits(table.finish(&ctx).unwrap()), want);
    }
}

#[test]
fn rows_that_nobody_looks_at_count_all_the_same() {
    const FIRST: usize = 12;
    // So many genes that rows are left out before they are built.
    const GENES: usize = 500;
    let mut matrix = Matrix::counts(N_OBS, GENES, 11);
    for row in 0..N_OBS {
        matrix.set(row, 3, 3.0);
        matrix.set(row, 400, -1e9 * (row % 2) as f64);
    }
    let view = View::new(N_OBS, GENES, None, &Chain::default()).unwrap().with_linear();
    let all = TableOptions::all(Order::Statistic, Some(Adjustment::BenjaminiHochberg));
    for (_, strata) in every_design() {
        let contrasts = Contrasts::new(&units(N_OBS), N_UNITS, &strata, None).unwrap();
        for spread in [Spread::Welch, Spread::Overestimated] {
            let test = TTest { spread, ..ttest(&contrasts) };
            let run = |n_genes: Option<usize>| -> Vec<[u64; 5]> {
                let options = TableOptions { n_genes, ..all };
                let table = run_moment_test(&matrix, &view, &ctx(1, MEMORY), &test, options);
                let table = table.unwrap();
                let places = table.comparison.iter().zip(&table.gene);
                let rows = places.zip(&table.rows).zip(&table.p_adj).enumerate();
                let first = rows.filter(|(at, _)| n_genes.is_some() || at % GENES < FIRST);
                let bits = |((place, row), p_adj): ((_, &Row), &f64)| {
                    let (&comparison, &gene): (&u32, &u32) = place;
                    let [t, p, p_adj] = [row.statistic, row.p_value, *p_adj].map(f64::to_bits);
                    [comparison.into(), gene.into(), t, p, p_adj]
                };
                first.map(|(_, row)| bits(row)).collect()
            };
            assert_eq!(run(Some(FIRST)), run(None));
        }
    }
}

#[test]
fn sums_of_many_groups_are_exact() {
    let mut matrix = matrix();
    // Larger than what a word takes, and no count.
    matrix.set(3, 4, 70_000.0);
    matrix.set(7, 4, 0.5);
    matrix.set(9, 5, -2.0);
    let view = plain_view(None);
    // More groups than tiles, most of them with one cell or none.
    let codes: Vec<u32> = (0..N_OBS as u32).map(|row| row * 3 % 150).collect();
    let groups = Groups::new(codes.clone(), 150).unwrap();
    let pass = GroupPass::<GroupSum>::new(&groups, 0..N_VARS);
    let ctx = ctx(4, MEMORY);
    let tiles = run_tiled(&matrix, &view, &ctx, "test", &pass).unwrap();
    let table = pass.table(tiles, &ctx).unwrap();
    for group in 0..150 {
        for gene in 0..N_VARS {
            let cells = (0..N_OBS).filter(|&row| codes[row] as usize == group);
            let values: Vec<f64> = cells.map(|row| matrix.dense[row][gene]).collect();
            let got = table.at(group, gene);
            assert_eq!(got.sum, values.iter().sum::<f64>());
            assert_eq!(got.n as usize, values.iter().filter(|x| **x != 0.0).count());
            let odd = values.iter().filter(|x| **x < 0.0 || x.fract() != 0.0).count();
            assert_eq!(got.odd as usize, odd);
        }
    }
}

#[test]
fn rows_that_wait_come_to_the_same() {
    let counts = Matrix::counts(N_OBS, N_VARS, 7);
    let mut mixed = Matrix::counts(N_OBS, N_VARS, 7);
    // Rows that can't wait, in some ranges; nor do those whose genes are in no order.
    mixed.set(3, 4, 0.5);
    mixed.set(N_OBS / 2, 7, 1e6);
    let rows = rows();
    for (matrix, is_mixed) in [(counts, false), (mixed, true)] {
        // Groups that fill their tiles within a range, and groups that never do.
        for n_groups in [2, 7, 150] {
            let codes = (0..rows.len() as u32).map(|row| row * 5 % n_groups).collect();
            let groups = Groups::new(codes, n_groups as usize).unwrap();
            for view in [plain_view(Some(&rows)), normalized_view(&rows).with_linear()] {
                let view = if is_mixed { view } else { view.with_sorted_rows() };
                let run = |cache, threads| {
                    let pass = GroupPass::<GroupMoments>::new(&groups, 2..N_VARS);
                    // Of 150 groups nine genes at a time.
                    let (pass, view) = pass.with_sizes(cache, 32 * 150 * 9).over(&view);
                    let ctx = ctx(threads, MEMORY);
                    tiles_in_two_ways(&matrix, &view, &ctx, &pass).map(|tiles| {
                        let waits = tiles.iter().all(GroupTile::waits);
                        let want = n_groups == 150 && cache == 0 && !is_mixed;
                        assert!(n_groups < 150 || waits == want);
                        every_cell(&pass, tiles, &ctx, if want { 5 } else { 1 })
                    })
                };
                let [want, merged] = run(usize::MAX, 1);
                assert!(want == merged);
                for threads in [1, 4] {
                    let [whole, merged] = run(0, threads);
                    assert!(
                        whole == want && merged == want,
                        "{n_groups} groups, {threads} threads"
                    );
                }
            }
        }
    }
}

/// The tiles of a pass, and those of its ranges merged after a journey as bytes.
fn tiles_in_two_ways(
    matrix: &Matrix,
    view: &View,
    ctx: &Ctx,
    pass: &GroupPass<GroupMoments>,
) -> [Vec<GroupTile<GroupMoments>>; 2] {
    let whole = run_tiled(matrix, view, ctx, "test", pass).unwrap();
    let mut total: Vec<_> = (0..pass.n_tiles()).map(|tile| pass.empty(tile)).collect();
    for range in 0..matrix.grid().n_ranges() {
        let tiles = run_tiled_ranges(matrix, view, ctx, "test", pass, range).unwrap();
        for (t, (into, tile)) in total.iter_mut().zip(tiles).enumerate() {
            let mut from = from_bytes(&to_bytes(&tile).unwrap()).unwrap();
            pass.merge(t, into, &mut from);
        }
    }
    [whole, total]
}

/// The accumulators of all genes and groups as bytes, which are the same got one by one,
/// together, or in parts.
fn every_cell(
    pass: &GroupPass<GroupMoments>,
    tiles: Vec<GroupTile<GroupMoments>>,
    ctx: &Ctx,
    n_parts: usize,
) -> Vec<Vec<u8>> {
    let (mut starts, mut parts, mut some) = (Vec::new(), Vec::new(), Vec::new());
    pass.for_each_part(tiles.clone(), ctx, |genes, part| {
        part.gather(0..genes.len(), &mut some);
        parts.append(&mut some);
        starts.push(genes.start);
        Ok(())
    })
    .unwrap();
    assert!(starts.len() == n_parts && starts[0] == 2);
    let table = pass.table(tiles, ctx).unwrap();
    let n_genes = table.n_genes();
    let n_groups = parts.len() / n_genes;
    let mut gathered = Vec::new();
    table.gather(0..n_genes, &mut gathered);
    assert!(parts == gathered);
    table.gather(1..n_genes - 2, &mut gathered);
    let genes = (1..n_genes - 2).flat_map(|gene| (0..n_groups).map(move |group| (group, gene)));
    assert!(gathered.into_iter().eq(genes.map(|(group, gene)| table.at(group, gene))));
    let cells = (0..n_groups).flat_map(|group| table.group(group));
    cells.map(|cell| to_bytes(&cell).unwrap()).collect()
}

#[test]
fn values_that_are_no_numbers_are_refused() {
    let mut matrix = matrix();
    matrix.set(20, 5, f64::NAN);
    let view = plain_view(None);
    let ctx = ctx(2, MEMORY);
    let groups = Groups::new(vec![0; N_OBS], 1).unwrap();
    let pass = GroupPass::<GroupMoments>::new(&groups, 0..N_VARS);
    let Err(moments) = run_tiled(&matrix, &view, &ctx, "test", &pass) else { panic!("no error") };
    let Err(ranks) = GeneMajor::read(&matrix, &view, &ctx, &groups, None) else {
        panic!("no error")
    };
    for error in [moments, ranks] {
        let text = error.to_string();
        assert!(text.starts_with("the value of cell 21 and gene 6 is NaN"), "{text}");
    }
    // The same where the pass takes the logarithm itself.
    let logs = log_view(None).with_linear();
    let units: Vec<u32> = (0..N_OBS as u32).map(|row| row % 2).collect();
    let contrasts = Contrasts::new(&units, 2, &strata(&[(0, &[0], &[1])]), None).unwrap();
    let test = ttest(&contrasts);
    let alone = run_moment_test(&matrix, &logs, &ctx, &test, all_rows()).unwrap_err();
    let pass = GroupPass::<GroupMoments>::new(contrasts.groups(), 0..N_VARS);
    let Err(chained) = run_tiled(&matrix, &logs, &ctx, "test", &pass) else { panic!("no error") };
    assert!(alone.to_string().starts_with("the value of cell 21 and gene "), "{alone}");
    assert_eq!(alone.to_string(), chained.to_string());
    // A cell that takes no part may hold anything.
    let mut codes = vec![0; N_OBS];
    codes[20] = NONE;
    let groups = Groups::new(codes, 1).unwrap();
    assert!(GeneMajor::read(&matrix, &view, &ctx, &groups, None).is_ok());
    let pass = GroupPass::<GroupMoments>::new(&groups, 0..N_VARS);
    assert!(run_tiled(&matrix, &view, &ctx, "test", &pass).is_ok());
}

#[test]
fn labels_must_match_the_cells() {
    let (matrix, view, ctx) = (matrix(), plain_view(None), ctx(1, MEMORY));
    let strata = strata(&[(0, &[0], &[1])]);
    let contrasts = Contrasts::new(&[0, 1], 2, &strata, None).unwrap();
    let values = GeneMajor::read(&matrix, &view, &ctx, contrasts.groups(), None);
    assert!(matches!(values, Err(Error::InvalidInput { .. })));
    let run = run_moment_test(&matrix, &view, &ctx, &ttest(&contrasts), all_rows());
    assert!(matches!(run, Err(Error::InvalidInput { .. })));
}
