//! Times the covariance of genes and components on one file.
//! usage: components FILE [threads] [genes] [components] [power]
//! Takes the genes of the highest variance, over the mean to so many tenths as a power, of
//! logarithms of normalised counts: the power sets how many cells have the genes.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use scoom_core::ctx::{Ctx, Silent};
use scoom_core::embed::{CovariancePass, PcaOptions, Scaling, pca};
use scoom_core::error::{Error, Result};
use scoom_core::matrix::open_matrix;
use scoom_core::pass::{pack, run, run_tiled};
use scoom_core::summary::ColumnSummary;
use scoom_core::transform::{Chain, Op, View};

/// Prints what took how long since the time given.
fn report(what: &str, since: Instant) {
    println!("{what}: {:.3} s", since.elapsed().as_secs_f64());
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("a file");
    let mut number =
        |default: usize| args.next().map_or(default, |text| text.parse().expect("a number"));
    let (threads, n_genes, n_comps) = (number(2), number(2_000), number(50));
    let power = number(0) as f64 / 10.0;
    let at = path.clone();
    let open = Arc::new(move || {
        hdf5_metno::File::open(&at).map_err(|_| Error::NotHdf5 { path: (&at).into() })
    });
    let source = open_matrix(Path::new(&path), "X", open)?;
    let ctx = Ctx::new(threads, 16 << 30, std::env::temp_dir(), &Silent);
    let (n, m) = (source.n_obs(), source.n_vars());
    let mut ops = vec![Op::Normalize { target: 1e4, excluded: vec![] }, Op::Log1p { base: None }];
    let all = View::new(n, m, None, &Chain { ops: ops.clone(), stored_log: None })?;
    let pass = ColumnSummary::new(&all);
    let moments = pass.finish(&run(source.as_ref(), &all, &ctx, "moments", &pass)?)?.values;
    let ratio = |gene: usize| moments.var[gene] / moments.mean[gene].max(1e-9).powf(power);
    let mut genes: Vec<u32> = (0..m as u32).collect();
    genes.sort_by(|&a, &b| ratio(b as usize).total_cmp(&ratio(a as usize)));
    genes.truncate(n_genes);
    genes.sort_unstable();
    ops.push(Op::SelectGenes { genes });
    let view = View::new(n, m, None, &Chain { ops, stored_log: None })?.with_sorted_rows();
    let start = Instant::now();
    let packed = pack(source.as_ref(), &view, &ctx, "packing", 8 << 30)?.expect("genes that fit");
    report("packing", start);
    println!(
        "values of a cell: {:.1}, bytes of each: {:.2}",
        packed.entries() as f64 / n as f64,
        packed.bytes() as f64 / packed.entries() as f64
    );
    let base = view.of_copy();
    let start = Instant::now();
    let pass = CovariancePass::new(&base);
    let tiles = run_tiled(&packed, &base, &ctx, "covariance", &pass)?;
    let covariance = pass.finish(&tiles, n)?;
    report("covariance", start);
    std::hint::black_box(covariance);
    let start = Instant::now();
    let scaling = Some(Scaling { zero_center: true, max_value: Some(10.0), moments: None });
    let found = pca(&packed, &base, &ctx, &PcaOptions { n_comps, scaling, n_values: None })?;
    report("components", start);
    println!("first variance {:?}", found.variance[0]);
    Ok(())
}
