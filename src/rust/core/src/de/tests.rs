//! Tests against loops over the dense matrix, in every way to run.

use super::contrast::{Comparison, Contrasts, Reference};
use super::fold_change::FoldChange;
use super::gene_major::GeneMajor;
use super::group_pass::GroupPass;
use super::groups::{Groups, NONE};
use super::moments::{GroupMoments, GroupSum};
use super::table::Row;
use super::ttest::{Spread, TTest};
use super::wilcoxon::Wilcoxon;
use crate::ctx::{Ctx, Silent};
use crate::error::Error;
use crate::matrix::Source;
use crate::matrix::testing::Matrix;
use crate::pass::{from_bytes, run_tiled, run_tiled_ranges, to_bytes};
use crate::stats::dist::{normal_two_sided, t_two_sided};
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

fn codes(n: usize) -> Vec<u32> {
    let mut rng = Rng::new(4, 0);
    (0..n).map(|_| [0, 1, 2, 2, 3, NONE][rng.below(6) as usize]).collect()
}

fn ctx(threads: usize, memory: u64) -> Ctx<'static> {
    Ctx::new(threads, memory, std::env::temp_dir(), &Silent)
}

fn comparisons() -> Vec<Comparison> {
    let with = |group, reference| Comparison { group, reference };
    vec![
        with(2, Reference::Rest),
        with(0, Reference::Rest),
        with(2, Reference::Group(1)),
        with(1, Reference::Group(3)),
        with(3, Reference::Rest),
    ]
}

/// Values of one gene on both sides of a comparison.
fn sides(values: &[f64], codes: &[u32], comparison: Comparison) -> (Vec<f64>, Vec<f64>) {
    let pick = |keep: &dyn Fn(u32) -> bool| -> Vec<f64> {
        values.iter().zip(codes).filter(|&(_, &c)| keep(c)).map(|(&x, _)| x).collect()
    };
    let reference = match comparison.reference {
        Reference::Rest => pick(&|c| c != NONE && c != comparison.group),
        Reference::Group(other) => pick(&|c| c == other),
    };
    (pick(&|c| c == comparison.group), reference)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn var(values: &[f64]) -> f64 {
    let m = mean(values);
    values.iter().map(|x| (x - m) * (x - m)).sum::<f64>() / (values.len() as f64 - 1.0)
}

/// z and the area under the curve by comparing every pair.
fn naive_ranks(a: &[f64], b: &[f64], tie_correct: bool, continuity: bool) -> (f64, f64) {
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
    let off = u - n1 * n2 / 2.0;
    let off = if continuity && off != 0.0 { off - off.signum() / 2.0 } else { off };
    let spread = (n1 * n2 / 12.0 * (total + 1.0 - ties)).sqrt();
    (if spread > 0.0 { off / spread } else { 0.0 }, u / (n1 * n2))
}

fn close(got: f64, want: f64, what: &str) {
    let same = got == want || (got - want).abs() <= 1e-12 * want.abs().max(1e-3);
    assert!(same || (got.is_nan() && want.is_nan()), "{what}: {got} against {want}");
}

/// What every test reports beside its statistic.
fn check_shared(row: &Row, a: &[f64], b: &[f64], pseudocount: f64, linear: impl Fn(f64) -> f64) {
    let un = |values: &[f64]| mean(&values.iter().map(|&x| linear(x)).collect::<Vec<_>>());
    let pct = |v: &[f64]| v.iter().filter(|x| **x != 0.0).count() as f64 / v.len() as f64;
    close(row.mean.0, un(a), "mean of the group");
    close(row.mean.1, un(b), "mean of the reference");
    assert_eq!(row.fraction, (pct(a), pct(b)));
    let constant = a.iter().chain(b).all(|x| *x == a[0]);
    let want = ((un(a) + pseudocount) / (un(b) + pseudocount)).log2();
    close(row.log2_fc, if constant { 0.0 } else { want }, "fold change");
}

fn log_view(rows: Option<&[usize]>) -> View {
    let ops = vec![Op::Log1p { base: Some(2.0) }];
    View::new(N_OBS, N_VARS, rows, &Chain { ops, stored_log: None }).unwrap()
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
    Wilcoxon { contrasts, tie_correct, continuity, fold_change: LINEAR }
}

#[test]
fn rank_tests_agree_with_comparing_every_pair() {
    let (matrix, rows) = (matrix(), rows());
    let codes = codes(rows.len());
    let comparisons = comparisons();
    let contrasts = Contrasts::new(&codes, 4, &comparisons).unwrap();
    let view = plain_view(Some(&rows));
    let ctx = ctx(2, MEMORY);
    let values = GeneMajor::read(&matrix, &view, &ctx, contrasts.groups(), None).unwrap();
    for (tie_correct, continuity) in [(true, true), (true, false), (false, true), (false, false)] {
        let test = wilcoxon(&contrasts, tie_correct, continuity);
        let got = test.rows(&ctx, &view, &values).unwrap();
        assert_eq!(got.len(), N_VARS * comparisons.len());
        for gene in 0..N_VARS {
            let column = column(&matrix, &rows, gene);
            for (c, &comparison) in comparisons.iter().enumerate() {
                let row = &got[gene * comparisons.len() + c];
                let (a, b) = sides(&column, &codes, comparison);
                let (z, auc) = naive_ranks(&a, &b, tie_correct, continuity);
                close(row.statistic, z, "z");
                close(row.auc, auc, "auc");
                assert_eq!(row.p_value, normal_two_sided(row.statistic).p_value);
                check_shared(row, &a, &b, 4.0, |x| x);
            }
        }
        // Constant and empty genes.
        for gene in [3, N_VARS - 1] {
            for row in &got[gene * comparisons.len()..][..comparisons.len()] {
                assert_eq!((row.statistic, row.auc, row.log2_fc), (0.0, 0.5, 0.0));
                assert_eq!((row.p_value, row.log10_p), (1.0, 0.0));
            }
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
    let codes = codes(rows.len());
    let comparisons = comparisons();
    let contrasts = Contrasts::new(&codes, 4, &comparisons).unwrap();
    let view = log_view(Some(&rows)).with_linear();
    for spread in [Spread::Welch, Spread::Overestimated] {
        let test = TTest { contrasts: &contrasts, spread, fold_change: LINEAR };
        let got = test.run(&matrix, &view, &ctx(2, MEMORY)).unwrap();
        for gene in 0..N_VARS {
            let column: Vec<f64> =
                column(&matrix, &rows, gene).iter().map(|&x| ln_1p(x) / 2f64.ln()).collect();
            for (c, &comparison) in comparisons.iter().enumerate() {
                let row = &got[gene * comparisons.len() + c];
                let (a, b) = sides(&column, &codes, comparison);
                let n2 = if spread == Spread::Welch { b.len() } else { a.len() } as f64;
                let (va, vb) = (var(&a) / a.len() as f64, var(&b) / n2);
                check_shared(row, &a, &b, 4.0, |x| x.exp2() - 1.0);
                assert!(row.auc.is_nan());
                if gene == 3 || gene == N_VARS - 1 {
                    assert_eq!((row.statistic, row.p_value, row.log2_fc), (0.0, 1.0, 0.0));
                    continue;
                }
                let t = (mean(&a) - mean(&b)) / (va + vb).sqrt();
                let df =
                    (va + vb).powi(2) / (va * va / (a.len() as f64 - 1.0) + vb * vb / (n2 - 1.0));
                close(row.statistic, t, "t");
                close(row.log10_p, t_two_sided(t, df).log10_p, "log10 p");
            }
        }
    }
}

/// Bits of all rows.
fn bits(rows: &[Row]) -> Vec<u64> {
    let all = |r: &Row| {
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
        ]
    };
    rows.iter().flat_map(all).map(f64::to_bits).collect()
}

#[test]
fn threads_memory_and_ranges_do_not_matter_to_ranks() {
    let (matrix, rows) = (matrix(), rows());
    let contrasts = Contrasts::new(&codes(rows.len()), 4, &comparisons()).unwrap();
    let view = log_view(Some(&rows));
    let test = wilcoxon(&contrasts, true, true);
    let run = |threads, memory| {
        let ctx = ctx(threads, memory);
        let values = GeneMajor::read(&matrix, &view, &ctx, contrasts.groups(), None).unwrap();
        (bits(&test.rows(&ctx, &view, &values).unwrap()), values.slices(&ctx).len())
    };
    let (want, n_slices) = run(1, MEMORY);
    assert_eq!(n_slices, 1);
    for (threads, memory) in [(2, MEMORY), (4, MEMORY), (1, 0), (2, 0), (2, 5_000), (4, 20_000)] {
        let (got, n_slices) = run(threads, memory);
        assert_eq!(got, want, "{threads} threads, {memory} bytes");
        // Without memory nothing stays and every gene is a slice.
        assert!(memory > 0 || n_slices == N_VARS);
    }
    for memory in [MEMORY, 0] {
        let ctx = ctx(2, memory);
        let groups = contrasts.groups();
        let partials: Vec<Vec<u8>> = (0..matrix.grid().n_ranges())
            .map(|range| {
                let part = GeneMajor::read(&matrix, &view, &ctx, groups, Some(range)).unwrap();
                part.to_bytes().unwrap()
            })
            .collect();
        assert!(partials.len() > 3);
        let merged = GeneMajor::from_partials(&partials, &ctx, N_VARS, groups.n_groups()).unwrap();
        assert_eq!(bits(&test.rows(&ctx, &view, &merged).unwrap()), want);
        let cut = [&partials[0][..partials[0].len() - 1]];
        for broken in [&cut[..], &[&b"nonsense"[..]]] {
            let refused = GeneMajor::from_partials(broken, &ctx, N_VARS, groups.n_groups());
            assert!(matches!(refused, Err(Error::BadPartial { .. })));
        }
        assert!(GeneMajor::from_partials(&partials, &ctx, N_VARS, 7).is_err());
    }
}

#[test]
fn threads_memory_and_ranges_do_not_matter_to_moments() {
    let (matrix, rows) = (matrix(), rows());
    let contrasts = Contrasts::new(&codes(rows.len()), 4, &comparisons()).unwrap();
    let view = log_view(Some(&rows)).with_linear();
    let test = TTest { contrasts: &contrasts, spread: Spread::Welch, fold_change: LINEAR };
    let want = bits(&test.run(&matrix, &view, &ctx(1, MEMORY)).unwrap());
    for (threads, memory) in [(2, MEMORY), (4, MEMORY), (1, 0), (3, 3_000)] {
        assert_eq!(bits(&test.run(&matrix, &view, &ctx(threads, memory)).unwrap()), want);
    }
    let pass = test.pass(0..N_VARS);
    let ctx = ctx(2, MEMORY);
    let mut total: Vec<_> = (0..crate::pass::TiledPass::n_tiles(&pass))
        .map(|tile| crate::pass::TiledPass::empty(&pass, tile))
        .collect();
    for range in 0..matrix.grid().n_ranges() {
        let tiles = run_tiled_ranges(&matrix, &view, &ctx, "test", &pass, range).unwrap();
        let tiles: Vec<_> =
            tiles.iter().map(|tile| from_bytes(&to_bytes(tile).unwrap()).unwrap()).collect();
        for (t, (into, from)) in total.iter_mut().zip(tiles).enumerate() {
            crate::pass::TiledPass::merge(&pass, t, into, from);
        }
    }
    assert_eq!(bits(&test.rows(&ctx, &pass.table(total), 0..N_VARS).unwrap()), want);
}

#[test]
fn sums_of_many_groups_are_exact() {
    let matrix = matrix();
    let view = plain_view(None);
    // More groups than tiles, most of them with one cell or none.
    let codes: Vec<u32> = (0..N_OBS as u32).map(|row| row * 3 % 150).collect();
    let groups = Groups::new(codes.clone(), 150).unwrap();
    let pass = GroupPass::<GroupSum>::new(&groups, 0..N_VARS);
    let tiles = run_tiled(&matrix, &view, &ctx(4, MEMORY), "test", &pass).unwrap();
    let table = pass.table(tiles);
    for group in 0..150 {
        for gene in 0..N_VARS {
            let cells = (0..N_OBS).filter(|&row| codes[row] as usize == group);
            let values: Vec<f64> = cells.map(|row| matrix.dense[row][gene]).collect();
            let got = table.group(group)[gene];
            assert_eq!(got.sum, values.iter().sum::<f64>());
            assert_eq!(got.n as usize, values.iter().filter(|x| **x != 0.0).count());
            let odd = values.iter().filter(|x| **x < 0.0 || x.fract() != 0.0).count();
            assert_eq!(got.odd as usize, odd);
        }
    }
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
    let contrasts = Contrasts::new(&[0, 1], 2, &comparisons()[1..2]).unwrap();
    let values = GeneMajor::read(&matrix, &view, &ctx, contrasts.groups(), None);
    assert!(matches!(values, Err(Error::InvalidInput { .. })));
    let test = TTest { contrasts: &contrasts, spread: Spread::Welch, fold_change: LINEAR };
    assert!(matches!(test.run(&matrix, &view, &ctx), Err(Error::InvalidInput { .. })));
}
