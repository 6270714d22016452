//! Doublets for R.

use extendr_api::prelude::*;
use scoom_core::doublets::{
    Counts, Doublets, Options, Outcome, OwnRows, Pair, Rates, find_doublets, threshold_minimum,
};
use scoom_core::error::Result;
use scoom_core::matrix::Source;
use scoom_core::pass;
use scoom_core::transform::{Chain, View};

use crate::convert::{Args, named, wrong};
use crate::guard::guard;
use crate::plan::{Plan, with_ctx};

/// Doublets in some samples of a plan of counts.
///
/// `args`: `samples`, codes of the cells from zero, `NA` for none; `n_samples`; `parents`, `NULL`
/// or for each sample a list of `a` and `b`, positions of cells of the plan; `ratio`,
/// `expected`, `stdev`, `n_comps`, `seed`; `n_neighbors` and `threshold` or `NULL`.
///
/// The values are read once and kept where a fifth of the budget holds them. Otherwise, of
/// several samples, the answer is `NULL`; one alone reads the file for each step. Answers with
/// a list for each sample.
/// @noRd
#[extendr]
fn rs_doublets(plan: Robj, args: Robj, ctx: Robj) -> Robj {
    guard(|| {
        let (plan, args) = (Plan::from_robj(&plan)?, Args::new(&args));
        let (n_obs, n_vars) = (plan.view().n_obs(), plan.view().n_vars());
        let samples = rows_by_sample(&args, n_obs)?;
        let parents = given_parents(&args, &samples)?;
        let options = options(&args)?;
        with_ctx(&ctx, |ctx| {
            let budget = ctx.memory_bytes() / 5;
            let packed = pass::pack(plan.source(), plan.view(), ctx, "Reading counts", budget)?;
            if packed.is_none() && samples.len() > 1 {
                return Ok(Robj::from(()));
            }
            let all = View::new(n_obs, n_vars, None, &Chain::default())?;
            let of_file = |rows: &[usize], ops| plan.narrowed(rows, ops);
            let mut found = Vec::with_capacity(samples.len());
            for (rows, parents) in samples.iter().zip(&parents) {
                let parents = parents.as_deref();
                let outcome = if let Some(packed) = &packed {
                    let own = OwnRows::take(packed, &all, rows, ctx)?;
                    let source = own.source()?;
                    let of_own = |rows: &[usize], ops| {
                        let chain = Chain { ops, stored_log: None };
                        View::new(source.n_obs(), n_vars, Some(rows), &chain)
                    };
                    let counts = Counts { source: &source, view: &of_own };
                    let places: Vec<usize> = (0..rows.len()).collect();
                    find_doublets(&counts, &places, parents, ctx, &options)?
                } else {
                    let counts = Counts { source: plan.source(), view: &of_file };
                    find_doublets(&counts, rows, parents, ctx, &options)?
                };
                found.push(answer(&outcome, rows));
            }
            Ok(List::from_values(found).into_robj())
        })
    })
}

/// The threshold between two modes of some scores, `NULL` where there are not two.
/// @noRd
#[extendr]
fn rs_doublets_threshold(scores: Robj) -> Robj {
    guard(|| {
        let scores = scores.as_real_slice().ok_or_else(|| wrong("scores", "must be doubles"))?;
        Ok(threshold_minimum(scores).map_or_else(|| Robj::from(()), Robj::from))
    })
}

fn options(args: &Args) -> Result<Options> {
    let n_neighbors = match args.get("n_neighbors") {
        Some(_) => Some(args.count("n_neighbors")?),
        None => None,
    };
    Ok(Options {
        ratio: args.number("ratio")?,
        rates: Rates { expected: args.number("expected")?, stdev: args.number("stdev")? },
        n_comps: args.count("n_comps")?,
        n_neighbors,
        threshold: args.number_opt("threshold")?,
        seed: args.count("seed")? as u64,
    })
}

fn rows_by_sample(args: &Args, n_obs: usize) -> Result<Vec<Vec<usize>>> {
    let codes = args.codes("samples")?;
    if codes.len() != n_obs {
        return Err(wrong("samples", "do not fit the cells"));
    }
    let mut samples = vec![Vec::new(); args.count("n_samples")?];
    for (row, code) in codes.iter().enumerate() {
        if let Some(code) = code {
            let sample = samples.get_mut(*code as usize);
            sample.ok_or_else(|| wrong("samples", "are more than there are"))?.push(row);
        }
    }
    Ok(samples)
}

/// Parents as positions in their sample.
fn given_parents(args: &Args, samples: &[Vec<usize>]) -> Result<Vec<Option<Vec<Pair>>>> {
    if args.get("parents").is_none() {
        return Ok(vec![None; samples.len()]);
    }
    let lists = args.inner("parents")?;
    let lists = lists.as_list().ok_or_else(|| wrong("parents", "must be a list"))?;
    if lists.len() != samples.len() {
        return Err(wrong("parents", "are not as many as samples"));
    }
    let mut found = Vec::with_capacity(samples.len());
    for (pairs, rows) in lists.values().zip(samples) {
        let pairs = Args::new(&pairs);
        let of = |name| -> Result<Vec<u32>> {
            let cells = pairs.positions(name)?.unwrap_or_default();
            let place = |cell: &usize| {
                let at = rows.binary_search(cell);
                at.map(|at| at as u32).map_err(|_| wrong("parents", "are cells of another sample"))
            };
            cells.iter().map(place).collect()
        };
        let (a, b) = (of("a")?, of("b")?);
        if a.len() != b.len() {
            return Err(wrong("parents", "must be pairs"));
        }
        found.push(Some(a.into_iter().zip(b).map(|(a, b)| [a, b]).collect()));
    }
    Ok(found)
}

/// Cells as positions of the plan, counted from one.
fn answer(outcome: &Outcome, rows: &[usize]) -> Robj {
    let Doublets { cells, scores, errors, simulated, parents, threshold, n_neighbors, n_genes } =
        match outcome {
            Outcome::Scored(found) => found,
            Outcome::TooSmall { n_cells, n_genes } => {
                return named(vec![
                    ("n_cells", (*n_cells as f64).into()),
                    ("n_genes", (*n_genes as f64).into()),
                ]);
            }
        };
    let place = |at: usize| rows[at] as i32 + 1;
    let parent = |which: usize| -> Vec<i32> {
        parents.iter().map(|pair| place(pair[which] as usize)).collect()
    };
    named(vec![
        ("cells", cells.iter().map(|&at| place(at)).collect::<Vec<_>>().into()),
        ("scores", scores.as_slice().into()),
        ("errors", errors.as_slice().into()),
        ("simulated", simulated.as_slice().into()),
        ("a", parent(0).into()),
        ("b", parent(1).into()),
        ("threshold", threshold.map_or_else(|| ().into(), Into::into)),
        ("n_neighbors", (*n_neighbors as f64).into()),
        ("n_cells", (cells.len() as f64).into()),
        ("n_genes", (*n_genes as f64).into()),
    ])
}

extendr_module! {
    mod doublets;
    fn rs_doublets;
    fn rs_doublets_threshold;
}
