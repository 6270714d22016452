//! Times the engine on one file, in units of a bare inflate.
//! usage: passes FILE [threads]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use scoom_core::ctx::{Ctx, Silent};
use scoom_core::matrix::{RowBlock, Source, open_matrix};
use scoom_core::pass::stream;
use scoom_core::transform::{Chain, Op, View};

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("a file");
    let threads = args
        .next()
        .map_or(2, |t| t.parse().expect("a number of threads"));
    let at = path.clone();
    let open = Arc::new(move || {
        hdf5_metno::File::open(&at)
            .map_err(|_| scoom_core::error::Error::NotHdf5 { path: (&at).into() })
    });
    let source = open_matrix(Path::new(&path), "X", open).expect("a matrix");
    let ctx = Ctx::new(threads, 2 << 30, std::env::temp_dir(), &Silent);
    let blocks = 0..source.grid().n_blocks();
    let time = |name: &str, view: &View| {
        for _ in 0..3 {
            let start = Instant::now();
            stream(
                source.as_ref(),
                view,
                &ctx,
                name,
                blocks.clone(),
                |_, block: &mut RowBlock| {
                    std::hint::black_box(block.nnz());
                    Ok(())
                },
            )
            .expect("a pass");
            println!("{name}: {:.3} s", start.elapsed().as_secs_f64());
        }
    };
    let (n, m) = (source.n_obs(), source.n_vars());
    println!(
        "{n} x {m}, {:?} values, {} blocks",
        source.nnz(),
        source.grid().n_blocks()
    );
    let view = |ops| {
        View::new(
            n,
            m,
            None,
            &Chain {
                ops,
                stored_log: None,
            },
        )
        .expect("a view")
    };
    time("decode", &view(vec![]));
    let ops = vec![
        Op::Normalize {
            target: 1e4,
            excluded: vec![],
        },
        Op::Log1p { base: None },
    ];
    time("normalize + log1p", &view(ops.clone()));
    time("normalize + log1p + linear", &view(ops).with_linear());
}
