//! Views: any selection and chain gives the bits of the naive computation.

use proptest::prelude::*;
use proptest::sample::Index;
use scoom_core::matrix::Source;
use scoom_core::transform::{Chain, Downsample, Op, ScaleGenes, View};
use scoom_tests::in_time;
use scoom_tests::oracle::{Dense, collect, ctx};
use scoom_tests::store::any_stored;

/// What a chain is drawn from; genes become numbers once the width is known.
#[derive(Clone, Debug)]
enum Draft {
    Select(Vec<Index>),
    Normalize(f64, Vec<Index>),
    Log(Option<f64>),
    Scale(bool, Option<f64>),
}

fn any_draft() -> impl Strategy<Value = Vec<Draft>> {
    let genes = || prop::collection::vec(any::<Index>(), 0..30);
    let step = prop_oneof![
        3 => genes().prop_map(Draft::Select),
        3 => (prop::sample::select(vec![1.0, 1e4, 123.456]), prop::collection::vec(any::<Index>(), 0..3))
            .prop_map(|(target, excluded)| Draft::Normalize(target, excluded)),
        3 => prop::sample::select(vec![None, Some(2.0), Some(10.0)]).prop_map(Draft::Log),
    ];
    let scale = prop::option::of((any::<bool>(), prop::option::of(Just(1.5))));
    (prop::collection::vec(step, 0..5), scale).prop_map(|(mut steps, scale)| {
        steps.extend(scale.map(|(center, max)| Draft::Scale(center, max)));
        steps
    })
}

fn chain_of(drafts: &[Draft], n_vars: usize) -> Chain {
    let mut width = n_vars;
    let mut ops = Vec::new();
    for draft in drafts {
        let pick = |picks: &[Index]| -> Vec<u32> {
            picks.iter().filter(|_| width > 0).map(|i| i.index(width) as u32).collect()
        };
        ops.push(match draft {
            Draft::Select(genes) => {
                let genes = pick(genes);
                width = genes.len();
                Op::SelectGenes { genes }
            }
            Draft::Normalize(target, excluded) => {
                Op::Normalize { target: *target, excluded: pick(excluded) }
            }
            Draft::Log(base) => Op::Log1p { base: *base },
            Draft::Scale(zero_center, max_value) => Op::Scale(ScaleGenes {
                mean: (0..width).map(|g| g as f64 * 0.3).collect(),
                sd: (0..width).map(|g| (g % 4) as f64 * 0.7).collect(),
                zero_center: *zero_center,
                max_value: *max_value,
            }),
        });
    }
    Chain { ops, stored_log: None }
}

fn through(source: &dyn Source, rows: Option<&[usize]>, chain: &Chain, threads: usize) -> Dense {
    let view = View::new(source.n_obs(), source.n_vars(), rows, chain).expect("it fits");
    collect(source, &view, &ctx(threads, 1 << 30)).expect("it reads")
}

/// The rows of a view: none, or any, in any order, repeated.
fn pick_rows(picks: Option<Vec<Index>>, n_obs: usize) -> Option<Vec<usize>> {
    picks.map(|picks| picks.iter().filter(|_| n_obs > 0).map(|i| i.index(n_obs)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chains_give_the_bits_of_the_naive_version(
        stored in any_stored(),
        picks in prop::option::of(prop::collection::vec(any::<Index>(), 0..60)),
        drafts in any_draft(),
        threads in 1usize..5,
    ) {
        let chain = chain_of(&drafts, stored.dense.n_vars);
        let rows = pick_rows(picks, stored.dense.n_obs);
        let expected = stored.dense.viewed(rows.as_deref(), &chain);
        let scaled = matches!(drafts.last(), Some(Draft::Scale(..)));
        // Totals of counts are exact; those of other numbers depend on the order
        // of summation, which stored zeros change.
        let counts = |i: usize| drafts[..i].iter().all(|d| matches!(d, Draft::Select(_)));
        let exact =
            drafts.iter().enumerate().all(|(i, d)| !matches!(d, Draft::Normalize(..)) || counts(i));
        let got = in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let source = stored.open_in(folder.path());
            through(source.as_ref(), rows.as_deref(), &chain, threads)
        });
        prop_assert_eq!((got.n_obs, got.n_vars), (expected.n_obs, expected.n_vars));
        for (g, e) in got.values.iter().zip(&expected.values) {
            if scaled {
                // A value is stored as its difference from the background.
                prop_assert!((g - e).abs() <= 1e-12 * e.abs().max(1.0), "{} {}", g, e);
            } else if !exact {
                prop_assert!((g - e).abs() <= 1e-12 * e.abs().max(1.0), "{} {}", g, e);
            } else {
                prop_assert_eq!(g.to_bits(), e.to_bits());
            }
        }
    }

    /// Draws depend on the seed, the row of the file and the counts by column alone:
    /// every layout gives those of the dense rows.
    #[test]
    fn downsampled_counts_are_those_of_the_dense_rows(
        stored in any_stored(),
        picks in prop::option::of(prop::collection::vec(any::<Index>(), 0..60)),
        before in prop::option::of(prop::collection::vec(any::<Index>(), 0..30)),
        drafts in any_draft(),
        wanted in 0u64..60,
        seed in any::<u64>(),
        replace in any::<bool>(),
        threads in 1usize..5,
    ) {
        let n_vars = stored.dense.n_vars;
        let mut ops = chain_of(&before.map(Draft::Select).into_iter().collect::<Vec<_>>(), n_vars).ops;
        let width = match ops.first() {
            Some(Op::SelectGenes { genes }) => genes.len(),
            _ => n_vars,
        };
        let draw = Downsample { rows: None, counts: vec![wanted], replace, keep_fewer: true, seed };
        ops.push(Op::Downsample(draw));
        // One operation after it.
        let after = drafts.iter().filter(|d| !matches!(d, Draft::Scale(..))).take(1).cloned();
        ops.extend(chain_of(&after.collect::<Vec<_>>(), width).ops);
        let chain = Chain { ops, stored_log: None };
        let rows = pick_rows(picks, stored.dense.n_obs);
        let expected = stored.dense.viewed(rows.as_deref(), &chain);
        let got = in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let source = stored.open_in(folder.path());
            through(source.as_ref(), rows.as_deref(), &chain, threads)
        });
        prop_assert_eq!(got.bits(), expected.bits());
    }

    /// The fused step against the two plain ones: a selection of all genes
    /// between them keeps the engine from fusing.
    #[test]
    fn fused_and_plain_paths_give_the_same_bits(
        stored in any_stored(),
        target in prop::sample::select(vec![1.0, 1e4, 0.1, 33.3]),
        base in prop::sample::select(vec![None, Some(2.0)]),
        scale in prop::sample::select(vec![1.0, 0.37, 1e3, -1.0]),
        threads in 1usize..5,
    ) {
        let mut stored = stored;
        stored.layout.values = scoom_tests::store::Type::F64;
        stored.dense.values.iter_mut().for_each(|x| if *x != 0.0 { *x *= scale });
        let all: Vec<u32> = (0..stored.dense.n_vars as u32).collect();
        let normalize = Op::Normalize { target, excluded: vec![] };
        let log = Op::Log1p { base };
        let fused = Chain { ops: vec![normalize.clone(), log.clone()], stored_log: None };
        let plain = Chain { ops: vec![normalize, Op::SelectGenes { genes: all }, log], stored_log: None };
        let (a, b) = in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let source = stored.open_in(folder.path());
            (through(source.as_ref(), None, &fused, threads), through(source.as_ref(), None, &plain, threads))
        });
        for (a, b) in a.values.iter().zip(&b.values) {
            prop_assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{} {}", a, b);
        }
    }

    /// The values before the logarithm ride along, whatever follows it.
    #[test]
    fn linear_values_are_those_before_the_logarithm(
        stored in any_stored(),
        drafts in any_draft(),
        logged in any::<bool>(),
        threads in 1usize..5,
    ) {
        let mut ops = vec![Op::Normalize { target: 100.0, excluded: vec![] }];
        let before = Chain { ops: ops.clone(), stored_log: None };
        if logged {
            ops.push(Op::Log1p { base: None });
        }
        let n_vars = stored.dense.n_vars;
        if let Some(Draft::Scale(center, max)) = drafts.last() {
            ops.extend(chain_of(&[Draft::Scale(*center, *max)], n_vars).ops);
        }
        let expected = stored.dense.viewed(None, &before);
        let n_obs = stored.dense.n_obs;
        let got = in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let source = stored.open_in(folder.path());
            let chain = Chain { ops, stored_log: None };
            let view = View::new(n_obs, n_vars, None, &chain).expect("it fits").with_linear();
            let got = std::sync::Mutex::new(Dense::zeros(n_obs, n_vars));
            let blocks = 0..source.grid().n_blocks();
            scoom_core::pass::stream(source.as_ref(), &view, &ctx(threads, 1 << 30), "", blocks, |_, b| {
                let mut got = got.lock().expect("nobody panicked");
                for r in 0..b.n_rows() {
                    for (&g, &x) in b.row(r).0.iter().zip(b.linear_row(r)) {
                        got.values[b.rows[r] * n_vars + g as usize] = x;
                    }
                }
                Ok(())
            })
            .expect("it reads");
            got.into_inner().expect("nobody panicked")
        });
        prop_assert_eq!(got.bits(), expected.bits());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let view =
        |rows: Option<&[usize]>, ops| View::new(3, 4, rows, &Chain { ops, stored_log: None });
    assert!(view(Some(&[0, 3]), vec![]).is_err());
    assert!(view(None, vec![Op::SelectGenes { genes: vec![4] }]).is_err());
    assert!(view(None, vec![Op::Normalize { target: 1.0, excluded: vec![4] }]).is_err());
    assert!(view(None, vec![Op::Log1p { base: Some(1.0) }]).is_err());
    assert!(view(None, vec![Op::Log1p { base: Some(-2.0) }]).is_err());
    let scale =
        ScaleGenes { mean: vec![0.0; 3], sd: vec![1.0; 4], zero_center: true, max_value: None };
    assert!(view(None, vec![Op::Scale(scale)]).is_err());
}
