//! Passes: empty partials are neutral, splits and threads leave no trace, and
//! whatever goes wrong ends in time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use scoom_core::ctx::Monitor;
use scoom_core::error::{Error, Result};
use scoom_core::matrix::{GridSpec, RowBlock, Source};
use scoom_core::pass::{
    Pass, TiledPass, from_bytes, merge_partials, run, run_ranges, run_tiled, run_tiled_ranges,
    stream, to_bytes,
};
use scoom_core::transform::{Chain, Op, View};
use scoom_tests::in_time;
use scoom_tests::oracle::{Dense, ctx, ctx_with};
use scoom_tests::store::{Encoding, Layout, Stored, any_stored};
use serde::{Deserialize, Serialize};

/// Sums of each gene, and each row's position with its sum.
struct Sums {
    n_vars: usize,
    /// Claimed size of a partial: large ones make runs of several blocks.
    bytes: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct SumsPartial {
    genes: Vec<f64>,
    rows: Vec<(usize, f64)>,
}

impl Pass for Sums {
    type Partial = SumsPartial;

    fn empty(&self) -> SumsPartial {
        SumsPartial { genes: vec![0.0; self.n_vars], rows: vec![] }
    }

    fn partial_bytes(&self) -> usize {
        self.bytes
    }

    fn fold(&self, block: &RowBlock, partial: &mut SumsPartial) -> Result<()> {
        for r in 0..block.n_rows() {
            let (genes, values) = block.row(r);
            for (&gene, &value) in genes.iter().zip(values) {
                partial.genes[gene as usize] += value;
            }
            partial.rows.push((block.rows[r], values.iter().sum()));
        }
        Ok(())
    }

    fn merge(&self, into: &mut SumsPartial, from: SumsPartial) {
        into.genes.iter_mut().zip(from.genes).for_each(|(a, b)| *a += b);
        into.rows.extend(from.rows);
    }
}

/// Sums of genes `t`, `t + n_tiles`, ... in tile `t`.
struct Tiles {
    n_vars: usize,
    n_tiles: usize,
}

impl TiledPass for Tiles {
    type Tile = Vec<f64>;
    type Held = RowBlock;

    fn n_tiles(&self) -> usize {
        self.n_tiles
    }

    fn empty(&self, _tile: usize) -> Vec<f64> {
        vec![0.0; self.n_vars]
    }

    fn hold(&self, slab: &mut RowBlock, held: &mut RowBlock) {
        std::mem::swap(slab, held);
    }

    fn fold(&self, block: &RowBlock, tile: usize, partial: &mut Vec<f64>) -> Result<()> {
        for (&gene, &value) in block.indices.iter().zip(&block.values) {
            if gene as usize % self.n_tiles == tile {
                partial[gene as usize] += value;
            }
        }
        Ok(())
    }

    fn merge(&self, _tile: usize, into: &mut Vec<f64>, from: &mut Vec<f64>) {
        into.iter_mut().zip(from).for_each(|(a, b)| *a += *b);
    }
}

/// A chain whose values are no integers, so that orders of summation show.
fn view_of(source: &dyn Source, rows: Option<&[usize]>) -> View {
    let ops = vec![Op::Normalize { target: 97.3, excluded: vec![] }, Op::Log1p { base: None }];
    View::new(source.n_obs(), source.n_vars(), rows, &Chain { ops, stored_log: None })
        .expect("it fits")
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}

fn close(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs().max(1.0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn splits_and_threads_leave_no_trace(
        stored in any_stored(),
        some_rows in any::<bool>(),
        bytes in prop::sample::select(vec![0usize, 7 << 20, 40 << 20]),
        cut in any::<prop::sample::Index>(),
    ) {
        in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let source = stored.open_in(folder.path());
            let source = source.as_ref();
            let n = source.n_obs();
            let rows: Vec<usize> = (0..n).rev().filter(|i| i % 3 != 1).chain(0..n / 2).collect();
            let rows = some_rows.then_some(&*rows);
            let view = view_of(source, rows);
            let pass = Sums { n_vars: source.n_vars(), bytes };
            let go = |threads| run(source, &view, &ctx(threads, 1 << 30), "", &pass).expect("it runs");
            let one = go(1);
            for threads in 2..=4 {
                assert_eq!(to_bytes(&go(threads)).unwrap(), to_bytes(&one).unwrap(), "{threads} threads");
            }

            // The naive version, in any order.
            let oracle = stored.dense.viewed(rows, &Chain {
                ops: vec![Op::Normalize { target: 97.3, excluded: vec![] }, Op::Log1p { base: None }],
                stored_log: None,
            });
            let mut genes = vec![0.0; oracle.n_vars];
            let mut totals = vec![0.0; oracle.n_obs];
            for (i, total) in totals.iter_mut().enumerate() {
                *total = oracle.row(i).iter().sum();
                genes.iter_mut().zip(oracle.row(i)).for_each(|(a, b)| *a += b);
            }
            assert!(close(&one.genes, &genes));
            let mut by_row = vec![f64::NAN; oracle.n_obs];
            one.rows.iter().for_each(|&(at, sum)| by_row[at] = sum);
            assert!(close(&by_row, &totals));

            // Ranges apart, as bytes, on different numbers of threads.
            let n_ranges = source.grid().n_ranges();
            let cut = cut.index(n_ranges + 1);
            let ranges: Vec<usize> = (0..n_ranges).collect();
            let part = |ranges: &[usize], threads| -> Vec<SumsPartial> {
                run_ranges(source, &view, &ctx(threads, 1 << 30), "", &pass, ranges)
                    .expect("it runs")
                    .iter()
                    .map(|p| from_bytes(&to_bytes(p).unwrap()).unwrap())
                    .collect()
            };
            let mut partials = part(&ranges[..cut], 2);
            partials.extend(part(&ranges[cut..], 3));
            assert_eq!(to_bytes(&merge_partials(&pass, partials.clone())).unwrap(), to_bytes(&one).unwrap());

            // Empty partials change nothing, in front or behind.
            let mut padded = vec![pass.empty()];
            padded.extend(partials.iter().cloned().flat_map(|p| [p, pass.empty()]));
            assert_eq!(to_bytes(&merge_partials(&pass, padded)).unwrap(), to_bytes(&one).unwrap());

            // Any other split: the same to rounding.
            let mut halves = partials.split_off(cut);
            let left = merge_partials(&pass, partials);
            halves.insert(0, left);
            assert!(close(&merge_partials(&pass, halves).genes, &one.genes));
        });
    }

    #[test]
    fn tiles_leave_no_trace(stored in any_stored(), n_tiles in 1usize..6) {
        in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let source = stored.open_in(folder.path());
            let source = source.as_ref();
            let view = view_of(source, None);
            let n_vars = source.n_vars();
            let pass = Tiles { n_vars, n_tiles };
            let go = |threads| -> Vec<u64> {
                let tiles = run_tiled(source, &view, &ctx(threads, 1 << 30), "", &pass).expect("it runs");
                assert_eq!(tiles.len(), n_tiles);
                bits(&tiles.concat())
            };
            let one = go(1);
            for threads in 2..=4 {
                assert_eq!(go(threads), one, "{threads} threads");
            }
            // Ranges apart.
            let mut total: Vec<Vec<f64>> = (0..n_tiles).map(|t| pass.empty(t)).collect();
            for range in 0..source.grid().n_ranges() {
                let tiles = run_tiled_ranges(source, &view, &ctx(2, 1 << 30), "", &pass, range);
                for (t, tile) in tiles.expect("it runs").into_iter().enumerate() {
                    let mut tile: Vec<f64> = from_bytes(&to_bytes(&tile).unwrap()).unwrap();
                    pass.merge(t, &mut total[t], &mut tile);
                }
            }
            assert_eq!(bits(&total.concat()), one);
            // Against the pass whose partials are not shared.
            let sums = run(source, &view, &ctx(2, 1 << 30), "", &Sums { n_vars, bytes: 0 });
            let mut genes = vec![0.0; n_vars];
            for (gene, sum) in genes.iter_mut().enumerate() {
                *sum = total[gene % n_tiles][gene];
            }
            assert!(close(&genes, &sums.expect("it runs").genes));
        });
    }

    /// A fold that fails, or panics, in any block, on any number of threads,
    /// with chunks that blocks share: the error comes back, nothing hangs.
    #[test]
    fn failures_anywhere_end_the_pass(
        encoding in prop::sample::select(vec![Encoding::Csr, Encoding::Csc, Encoding::Dense]),
        chunk in prop::sample::select(vec![usize::MAX, 200, 31]),
        threads in 1usize..9,
        at in 0usize..120,
        panics in any::<bool>(),
        bytes in prop::sample::select(vec![0usize, 9 << 20]),
    ) {
        in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let stored = many_blocks(Layout::plain(encoding).gzip(chunk));
            let source = stored.open_in(folder.path());
            let source = source.as_ref();
            let view = view_of(source, None);
            let fails = Fails { at, panics, bytes };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(source, &view, &ctx(threads, 1 << 30), "", &fails)));
            match outcome {
                Err(panic) => {
                    assert!(panics);
                    assert_eq!(panic.downcast_ref::<&str>(), Some(&"planted"));
                }
                Ok(outcome) => {
                    assert!(!panics);
                    assert!(matches!(outcome, Err(Error::InvalidValues { .. })), "{:?}", outcome.is_ok());
                }
            }
        });
    }
}

/// 240 rows in 120 blocks.
fn many_blocks(layout: Layout) -> Stored {
    let values = (0..240 * 7).map(|i| f64::from(i as u32 % 5 + 1)).collect();
    let spec = GridSpec { range_values: 500, max_ranges: 9, block_values: 14, block_rows: 2 };
    Stored { dense: Dense { n_obs: 240, n_vars: 7, values }, layout, spec }
}

/// Fails when it sees row `2 * at`.
struct Fails {
    at: usize,
    panics: bool,
    bytes: usize,
}

impl Pass for Fails {
    type Partial = u8;

    fn empty(&self) -> u8 {
        0
    }

    fn partial_bytes(&self) -> usize {
        self.bytes
    }

    fn fold(&self, block: &RowBlock, _partial: &mut u8) -> Result<()> {
        if block.rows.contains(&(2 * self.at)) {
            if self.panics {
                panic!("planted");
            }
            return Err(Error::InvalidValues { message: "planted".into() });
        }
        Ok(())
    }

    fn merge(&self, _into: &mut u8, _from: u8) {}
}

/// Says stop when it is asked for the `after`-th time.
struct StopAt {
    after: u64,
    asked: AtomicU64,
}

impl Monitor for StopAt {
    fn poll(&self, _stage: &str, done: u64, total: u64) -> bool {
        assert!(done <= total);
        self.asked.fetch_add(1, Ordering::Relaxed) + 1 < self.after
    }
}

#[test]
fn interruptions_end_a_slow_pass_within_half_a_second() {
    for encoding in [Encoding::Csr, Encoding::Csc, Encoding::Dense] {
        for (threads, after) in [(1, 1), (2, 2), (8, 3)] {
            in_time(move || {
                let folder = tempfile::tempdir().expect("a folder");
                let stored = many_blocks(Layout::plain(encoding).gzip(usize::MAX));
                let source = stored.open_in(folder.path());
                let view = view_of(source.as_ref(), None);
                let monitor = StopAt { after, asked: AtomicU64::new(0) };
                let begun = Instant::now();
                let blocks = 0..source.grid().n_blocks();
                let ctx = ctx_with(threads, 1 << 30, &monitor);
                let outcome = stream(source.as_ref(), &view, &ctx, "", blocks, |_, _| {
                    std::thread::sleep(Duration::from_millis(100));
                    Ok(())
                });
                assert!(matches!(outcome, Err(Error::Interrupted)), "{encoding:?} {threads}");
                // Three polls of 30 ms and the blocks in work.
                assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
            });
        }
    }
}

#[test]
fn interruptions_at_any_time_leave_nobody_waiting() {
    for after in 1..12 {
        for threads in [1, 2, 5, 8] {
            in_time(move || {
                let folder = tempfile::tempdir().expect("a folder");
                let stored = many_blocks(Layout::plain(Encoding::Csr).gzip(usize::MAX));
                let source = stored.open_in(folder.path());
                let view = view_of(source.as_ref(), None);
                let monitor = StopAt { after, asked: AtomicU64::new(0) };
                let ctx = ctx_with(threads, 1 << 30, &monitor);
                let blocks = 0..source.grid().n_blocks();
                let outcome = stream(source.as_ref(), &view, &ctx, "", blocks, |n, _| {
                    std::thread::sleep(Duration::from_millis(n as u64 % 7));
                    Ok(())
                });
                assert!(matches!(outcome, Ok(()) | Err(Error::Interrupted)));
            });
        }
    }
}

/// Counts how often the columns are read.
struct Sweeps(AtomicU64);

impl Monitor for Sweeps {
    fn poll(&self, stage: &str, done: u64, _total: u64) -> bool {
        if stage == "Turning columns into rows" && done == 0 {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

/// Runs of many blocks beside each other must not make a column-major source
/// read the file again for each block.
#[test]
fn columns_are_read_as_often_as_announced() {
    in_time(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let source = many_blocks(Layout::plain(Encoding::Csc).gzip(50)).open_in(folder.path());
        let view = view_of(source.as_ref(), None);
        // Ten blocks of 14 entries of 12 bytes in half of it.
        let memory = 2 * 10 * 14 * 12;
        for bytes in [0, 40 << 20] {
            let pass = Sums { n_vars: 7, bytes };
            let sweeps = Sweeps(AtomicU64::new(0));
            let few = ctx_with(3, memory, &sweeps);
            let it = run(source.as_ref(), &view, &few, "", &pass).expect("it runs");
            let alone = run(source.as_ref(), &view, &ctx(1, 1 << 30), "", &pass).expect("it runs");
            assert_eq!(it, alone);
            assert_eq!(sweeps.0.load(Ordering::Relaxed), 12);
            assert_eq!(source.reads_per_sweep(memory), 12);
        }
    });
}

/// Passes from several threads at once share nothing but libhdf5.
#[test]
fn passes_run_beside_each_other() {
    in_time(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let source = many_blocks(Layout::plain(Encoding::Csr).gzip(50)).open_in(folder.path());
        let view = view_of(source.as_ref(), None);
        let pass = Sums { n_vars: 7, bytes: 0 };
        let alone = run(source.as_ref(), &view, &ctx(1, 1 << 30), "", &pass).expect("it runs");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let it = run(source.as_ref(), &view, &ctx(2, 1 << 30), "", &pass);
                        assert_eq!(it.expect("it runs"), alone);
                    }
                });
            }
        });
    });
}

#[test]
fn ranges_and_bytes_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = many_blocks(Layout::plain(Encoding::Csr)).open_in(folder.path());
    let source = source.as_ref();
    let view = view_of(source, None);
    let pass = Sums { n_vars: 7, bytes: 0 };
    for ranges in [&[99usize][..], &[1, 0], &[0, 0]] {
        assert!(run_ranges(source, &view, &ctx(1, 1 << 30), "", &pass, ranges).is_err());
    }
    let bytes = to_bytes(&pass.empty()).expect("it encodes");
    assert!(from_bytes::<SumsPartial>(&bytes[..bytes.len() - 1]).is_err());
    assert!(from_bytes::<SumsPartial>(&[0xff; 40]).is_err());
}
