//! Every way to run a pass, for tests.

use std::path::PathBuf;

use super::{Pass, from_bytes, merge_partials, run, run_ranges, to_bytes};
use crate::ctx::{Ctx, Silent};
use crate::matrix::Source;
use crate::matrix::testing::Matrix;
use crate::transform::{Chain, View};

/// Runs a pass over all of a matrix, by 1, 2 and 4 threads, and by ranges whose
/// partials travel as bytes, merged with an empty partial on either side; all
/// of them have to give the same bytes.
pub(crate) fn run_every_way<P: Pass>(matrix: &Matrix, pass: &P) -> P::Partial {
    let view = View::new(matrix.n_obs(), matrix.n_vars(), None, &Chain::default()).unwrap();
    run_every_way_in(matrix, &view, pass)
}

/// As [`run_every_way`], through a view.
pub(crate) fn run_every_way_in<P: Pass>(matrix: &Matrix, view: &View, pass: &P) -> P::Partial {
    let all = |threads| {
        let ctx = Ctx::new(threads, 1 << 30, PathBuf::new(), &Silent);
        run(matrix, view, &ctx, "test", pass).unwrap()
    };
    let one = all(1);
    let bytes = to_bytes(&one).unwrap();
    assert_eq!(to_bytes(&all(2)).unwrap(), bytes);
    assert_eq!(to_bytes(&all(4)).unwrap(), bytes);
    let ctx = Ctx::new(2, 1 << 30, PathBuf::new(), &Silent);
    let mut partials = vec![pass.empty()];
    for range in 0..matrix.grid().n_ranges() {
        let part = run_ranges(matrix, view, &ctx, "test", pass, &[range]).unwrap();
        for partial in part {
            let sent = to_bytes(&partial).unwrap();
            partials.push(from_bytes(&sent).unwrap());
        }
    }
    partials.push(pass.empty());
    assert_eq!(to_bytes(&merge_partials(pass, partials)).unwrap(), bytes);
    one
}
