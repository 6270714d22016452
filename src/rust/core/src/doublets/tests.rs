//! A sample of two kinds of cells, with doublets of both planted in it.

use super::*;
use crate::ctx::Silent;
use crate::matrix::GridSpec;
use crate::matrix::memory::SparseRows;
use crate::stats::random::Rng;
use crate::transform::Chain;

const KINDS: usize = 3;
const SINGLETS: usize = 240;
const PLANTED: usize = 12;
const N: usize = SINGLETS + PLANTED;
const G: usize = 400;

struct Sample {
    indptr: Vec<i32>,
    indices: Vec<i32>,
    values: Vec<f64>,
}

/// Cells of three kinds, then doublets of two kinds; at the end the genes of a gene or two.
fn sample() -> Sample {
    let mut rng = Rng::new(5, 0);
    let mut cell = |kind: usize| -> Vec<f64> {
        (0..G)
            .map(|gene| {
                let own = gene % (2 * KINDS) == kind;
                let high = if own { 9 } else { 2 };
                (rng.below(high + 3) as f64 - 3.0).max(0.0)
            })
            .collect()
    };
    let mut rows: Vec<Vec<f64>> = (0..SINGLETS).map(|i| cell(i % KINDS)).collect();
    for i in 0..PLANTED {
        let (a, b) = (cell(i % KINDS), cell((i + 1) % KINDS));
        rows.push(a.iter().zip(b).map(|(a, b)| a + b).collect());
    }
    let mut sample = Sample { indptr: vec![0], indices: vec![], values: vec![] };
    for row in rows {
        for (gene, value) in row.into_iter().enumerate() {
            if value > 0.0 {
                sample.indices.push(gene as i32);
                sample.values.push(value);
            }
        }
        sample.indptr.push(sample.indices.len() as i32);
    }
    sample
}

const OPTIONS: Options = Options {
    ratio: 2.0,
    rates: Rates { expected: 0.05, stdev: 0.02 },
    n_comps: 10,
    n_neighbors: None,
    threshold: None,
    seed: 1,
};

fn run(
    rows: &[usize],
    parents: Option<&[Pair]>,
    threads: usize,
    options: &Options,
) -> Result<Outcome> {
    let sample = sample();
    let spec = GridSpec { range_values: 5000, block_values: 1000, ..GridSpec::default() };
    let source =
        SparseRows::new(N, G, &sample.indptr, &sample.indices, &sample.values)?.regrid(&spec);
    let view = |rows: &[usize], ops| View::new(N, G, Some(rows), &Chain { ops, stored_log: None });
    let ctx = Ctx::new(threads, 1 << 30, std::env::temp_dir(), &Silent);
    find_doublets(&Counts { source: &source, view: &view }, rows, parents, &ctx, options)
}

fn scored(outcome: Result<Outcome>) -> Doublets {
    match outcome.unwrap() {
        Outcome::Scored(found) => found,
        Outcome::TooSmall { n_cells, n_genes } => panic!("{n_cells} cells, {n_genes} genes"),
    }
}

fn all() -> Vec<usize> {
    (0..N).collect()
}

#[test]
fn planted_doublets_score_highest() {
    let found = scored(run(&all(), None, 2, &OPTIONS));
    assert_eq!(found.cells, all());
    assert_eq!((found.simulated.len(), found.parents.len()), (2 * N, 2 * N));
    let (singlets, planted) = found.scores.split_at(SINGLETS);
    let above: usize = planted.iter().map(|p| singlets.iter().filter(|s| *s < p).count()).sum();
    let auc = above as f64 / (SINGLETS * PLANTED) as f64;
    assert!(auc > 0.98, "AUC {auc}");
    // Doublets of one kind hide among its cells, those of two do not.
    assert!(found.threshold.is_some());
    let (mut apart, mut alike) = (Vec::new(), Vec::new());
    for (score, pair) in found.simulated.iter().zip(&found.parents) {
        let [a, b] = pair.map(|cell| cell as usize);
        if a < SINGLETS && b < SINGLETS {
            if a % KINDS == b % KINDS { &mut alike } else { &mut apart }.push(*score);
        }
    }
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    assert!(mean(&apart) > 2.0 * mean(&alike));
}

#[test]
fn threads_do_not_change_a_bit() {
    let one = scored(run(&all(), None, 1, &OPTIONS));
    assert_eq!(one, scored(run(&all(), None, 4, &OPTIONS)));
    let other = Options { seed: 2, ..OPTIONS };
    assert_ne!(one.parents, scored(run(&all(), None, 2, &other)).parents);
}

#[test]
fn given_parents_are_those_that_were_drawn() {
    let drawn = scored(run(&all(), None, 2, &OPTIONS));
    let other = Options { seed: 77, ..OPTIONS };
    assert_eq!(drawn, scored(run(&all(), Some(&drawn.parents), 2, &other)));
    let outside: [Pair; 1] = [[0, N as u32]];
    assert!(matches!(run(&all(), Some(&outside), 1, &OPTIONS), Err(Error::InvalidInput { .. })));
    assert!(matches!(run(&all(), Some(&[]), 1, &OPTIONS), Err(Error::InvalidInput { .. })));
}

#[test]
fn small_samples_are_told_apart_from_errors() {
    let few = run(&[0, 1, 2, 3, 4], None, 1, &OPTIONS).unwrap();
    assert!(matches!(few, Outcome::TooSmall { n_cells: 5, .. }), "{few:?}");
    let none = run(&[], None, 1, &OPTIONS).unwrap();
    assert_eq!(none, Outcome::TooSmall { n_cells: 0, n_genes: 0 });
    let wide = Options { n_neighbors: Some(10_000), ..OPTIONS };
    assert!(matches!(run(&all(), None, 1, &wide), Err(Error::InvalidInput { .. })));
}

/// Steps 3 to 5 with dense loops, from the same variable genes.
#[test]
fn doublets_are_placed_where_their_counts_are() {
    let sample = sample();
    let source = SparseRows::new(N, G, &sample.indptr, &sample.indices, &sample.values).unwrap();
    let view = |rows: &[usize], ops| View::new(N, G, Some(rows), &Chain { ops, stored_log: None });
    let counts = Counts { source: &source, view: &view };
    let ctx = Ctx::new(2, 1 << 30, std::env::temp_dir(), &Silent);
    let genes: Vec<u32> = (0..60).collect();
    let pairs: Vec<Pair> = vec![[0, 1], [5, 5], [200, 3], [3, 200]];
    let points = place(&counts, &all(), &genes, &pairs, &ctx, 59).unwrap();

    let mut dense = vec![vec![0.0; 60]; N];
    for (i, row) in dense.iter_mut().enumerate() {
        for at in sample.indptr[i] as usize..sample.indptr[i + 1] as usize {
            if let Some(x) = row.get_mut(sample.indices[at] as usize) {
                *x = sample.values[at];
            }
        }
    }
    for [a, b] in &pairs {
        let sum = (0..60).map(|j| dense[*a as usize][j] + dense[*b as usize][j]).collect();
        dense.push(sum);
    }
    for row in &mut dense {
        let total: f64 = row.iter().sum();
        for x in row.iter_mut() {
            *x *= TARGET / total;
        }
    }
    for j in 0..60 {
        let mean = dense[..N].iter().map(|row| row[j]).sum::<f64>() / N as f64;
        let var =
            dense[..N].iter().map(|row| (row[j] - mean).powi(2)).sum::<f64>() / (N - 1) as f64;
        for row in &mut dense {
            row[j] = (row[j] - mean) / var.sqrt();
        }
    }
    // Shares add up to one, so 59 components hold all distances between points that
    // lie in the cells' space.
    for i in 0..dense.len() {
        for j in [0, 7, N, N + 1, N + 2] {
            let want: f64 = dense[i].iter().zip(&dense[j]).map(|(a, b)| (a - b).powi(2)).sum();
            let found = points.separation(&points.point(i), &points.point(j));
            assert!((found - want).abs() < 1e-8 * want.max(1.0), "{i} {j}: {found} {want}");
        }
    }
    assert_eq!(points.point(N + 1), points.point(5), "a cell that meets itself stays in its place");
    assert_eq!(points.point(N + 2), points.point(N + 3));
}
