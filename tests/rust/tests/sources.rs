//! Sources: every layout comes out as the dense matrix that went in.

use proptest::prelude::*;
use scoom_core::matrix::GridSpec;
use scoom_core::matrix::memory::{DenseRows, SparseRows};
use scoom_tests::in_time;
use scoom_tests::oracle::{Dense, collect_all, ctx};
use scoom_tests::store::{
    Encoding, Layout, Stored, any_dense, any_layout, any_spec, any_stored, compress, open, write,
};

const MEMORY: u64 = 1 << 30;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_layout_holds_the_matrix(stored in any_stored(), threads in 1usize..9) {
        let dense = stored.dense.clone();
        let read = in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            collect_all(stored.open_in(folder.path()).as_ref(), &ctx(threads, MEMORY)).expect("it reads")
        });
        prop_assert_eq!(read.bits(), dense.bits());
    }

    #[test]
    fn columns_read_in_several_sweeps_are_the_same(
        dense in any_dense(),
        layout in any_layout(Just(Encoding::Csc)),
        spec in any_spec(),
        memory in 1u64..2000,
    ) {
        let stored = Stored { dense: dense.clone(), layout, spec };
        let (read, reads) = in_time(move || {
            let folder = tempfile::tempdir().expect("a folder");
            let source = stored.open_in(folder.path());
            let read = collect_all(source.as_ref(), &ctx(3, memory)).expect("it reads");
            (read, source.reads_per_sweep(memory))
        });
        prop_assert_eq!(read.bits(), dense.bits());
        prop_assert!(reads >= 1);
    }

    #[test]
    fn matrices_in_memory_are_the_same(
        dense in any_dense(),
        layout in any_layout(Just(Encoding::Csr)),
        spec in any_spec(),
    ) {
        let sparse = compress(&dense, &layout);
        let indptr: Vec<i32> = sparse.indptr.iter().map(|&o| o as i32).collect();
        let indices: Vec<i32> = sparse.indices.iter().map(|&o| o as i32).collect();
        let rows = SparseRows::new(dense.n_obs, dense.n_vars, &indptr, &indices, &sparse.data)
            .expect("a matrix")
            .regrid(&spec);
        let read = collect_all(&rows, &ctx(2, MEMORY)).expect("it reads");
        prop_assert_eq!(read.bits(), dense.bits());
        let rows = DenseRows::new(dense.n_obs, dense.n_vars, &dense.values).expect("a matrix");
        let read = collect_all(&rows.regrid(&spec), &ctx(2, MEMORY)).expect("it reads");
        prop_assert_eq!(read.bits(), dense.bits());
    }

    #[test]
    fn grids_tile_the_rows(stored in any_stored()) {
        let folder = tempfile::tempdir().expect("a folder");
        let source = stored.open_in(folder.path());
        let grid = source.grid();
        let rows: Vec<usize> = (0..grid.n_blocks()).flat_map(|b| grid.rows(b)).collect();
        prop_assert_eq!(rows, (0..source.n_obs()).collect::<Vec<_>>());
        let blocks: Vec<usize> = (0..grid.n_ranges()).flat_map(|r| grid.blocks(r)).collect();
        prop_assert_eq!(blocks, (0..grid.n_blocks()).collect::<Vec<_>>());
        prop_assert!(grid.n_ranges() as u64 <= stored.spec.max_ranges + 1);
    }
}

/// One chunk under hundreds of blocks, each thread count.
#[test]
fn many_blocks_share_one_chunk() {
    let n_vars = 11;
    let values = (0..500 * n_vars).map(|i| f64::from(i as u32 % 7)).collect();
    let dense = Dense { n_obs: 500, n_vars, values };
    let spec = GridSpec { range_values: 900, max_ranges: 9, block_values: 10, block_rows: 2 };
    for encoding in [Encoding::Csr, Encoding::Csc, Encoding::Dense] {
        for chunk in [usize::MAX, 64, 9] {
            for threads in 1..=8 {
                let stored = Stored {
                    dense: dense.clone(),
                    layout: Layout::plain(encoding).gzip(chunk),
                    spec,
                };
                let read = in_time(move || {
                    let folder = tempfile::tempdir().expect("a folder");
                    collect_all(stored.open_in(folder.path()).as_ref(), &ctx(threads, MEMORY))
                        .expect("it reads")
                });
                assert_eq!(read, dense, "{encoding:?} {chunk} {threads}");
            }
        }
    }
}

/// The shape of a matrix is looked at before anything else.
#[test]
fn empty_matrices_have_no_blocks_or_empty_ones() {
    for (n_obs, n_vars) in [(0, 0), (0, 4), (4, 0), (4, 4)] {
        for encoding in [Encoding::Csr, Encoding::Csc, Encoding::Dense] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("x.h5");
            write(&path, &Dense::zeros(n_obs, n_vars), &Layout::plain(encoding).gzip(5));
            let source = open(&path, &GridSpec::default()).expect("it opens");
            let read = collect_all(source.as_ref(), &ctx(2, MEMORY)).expect("it reads");
            assert_eq!(read, Dense::zeros(n_obs, n_vars), "{encoding:?}");
        }
    }
}
