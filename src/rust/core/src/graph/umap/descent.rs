//! Stochastic gradient descent on all threads, with the same result for any number.
//!
//! Problem: umap-learn moves both ends of an edge as it comes to it, a race on several
//! threads. Moving each cell along its own edges alone is none, but there what pulls a cell far
//! is undone by its nearest neighbours before these have felt it, and small groups drift
//! away from where they belong. Solution: cells fall into blocks, and each edge lies between two
//! blocks, or within one. As in a tournament, the blocks of each round meet in disjoint pairs: an edge
//! moves both of its ends, and nobody else touches these. The cells that repel are where they
//! were when the epoch began. What is drawn depends on the seed, the epoch and the pair of
//! blocks.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::Descent;
use super::forces::{Crowd, Forces};
use super::fuzzy::{Edge, Fuzzy};
use crate::ctx::{Ctx, POLL, Stop};
use crate::error::Result;
use crate::stats::random::Rng;

/// How often a thread looks whether the others are done before it lets them run.
const SPINS: usize = 200;

/// Dimensions of all cells, cell by cell. The numbers are atomic for the compiler's sake:
/// no thread reads what another writes in the same round.
type Places<const D: usize> = Vec<[AtomicU32; D]>;

/// What is the same in all epochs.
struct Moves<'g, const D: usize> {
    graph: &'g Fuzzy,
    places: Places<D>,
    /// Where cells were when the epoch began.
    before: Places<D>,
    forces: Forces,
    seed: u64,
}

/// Blocks for `n` cells, an even number: twice as many as threads that can be busy. Few for few
/// cells, whose rounds would be too short.
pub(super) fn n_blocks(n: usize) -> usize {
    match n {
        0..10_000 => 8,
        10_000..100_000 => 16,
        _ => 32,
    }
}

/// Which blocks meet in a round, the `i`-th of `n / 2` pairs. In `n` rounds every block meets
/// every other once; in the last one each meets itself, and a pair are two such.
fn meeting(round: usize, i: usize, n: usize) -> [[usize; 2]; 2] {
    if round == n - 1 {
        return [[2 * i; 2], [2 * i + 1; 2]];
    }
    // The last block stays where it is, the others go round.
    let last = n - 1;
    let pair = match i {
        0 => [last, round],
        _ => [(round + i) % last, (round + last - i) % last],
    };
    [pair; 2]
}

/// Runs all epochs from `start`, with `n_dims` of the `D` dimensions in use.
pub(super) fn run<const D: usize>(
    graph: &Fuzzy,
    start: &[f32],
    n_dims: usize,
    n_epochs: usize,
    how: &Descent,
    ctx: &Ctx,
) -> Result<Vec<f64>> {
    let moves = Moves::<D>::new(graph, start, n_dims, how);
    // Every meeting of every round has a number, and threads take them in turn. The first round
    // of an epoch notes where cells are.
    let (meetings, rounds) = (graph.n_blocks() / 2, graph.n_blocks() + 1);
    let total = n_epochs * rounds * meetings;
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = |index: usize, stop: &Stop| {
        // Rounds have nothing for further threads.
        if index >= meetings {
            return Ok(());
        }
        loop {
            let ticket = next.fetch_add(1, Ordering::Relaxed);
            if ticket >= total || !wait_for(&done, ticket - ticket % meetings, stop) {
                break;
            }
            let (turn, i) = (ticket / meetings, ticket % meetings);
            let epoch = turn / rounds + 1;
            match turn % rounds {
                0 => moves.note(i, meetings),
                round => {
                    let left = 1.0 - (epoch - 1) as f64 / n_epochs as f64;
                    let rate = (how.learning_rate * left) as f32;
                    moves.meet(round - 1, i, epoch, rate);
                }
            }
            done.fetch_add(1, Ordering::Release);
        }
        Ok(())
    };
    ctx.with_workers(work, |stop| {
        while stop.running() > 0 {
            stop.wait(POLL);
            let epoch = done.load(Ordering::Relaxed) / (rounds * meetings);
            ctx.poll("Layout", epoch as u64, n_epochs as u64)?;
        }
        Ok(())
    })?;
    let dimension = |d| moves.places.iter().map(move |place| f64::from(read(place)[d]));
    Ok((0..n_dims).flat_map(dimension).collect())
}

/// Waits until `done` has come to `wanted`; whether to go on.
fn wait_for(done: &AtomicUsize, wanted: usize, stop: &Stop) -> bool {
    let mut spins = 0;
    while done.load(Ordering::Acquire) < wanted {
        if stop.is_raised() {
            return false;
        }
        spins += 1;
        if spins < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    !stop.is_raised()
}

impl<const D: usize> Crowd<D> for [[AtomicU32; D]] {
    fn count(&self) -> usize {
        self.len()
    }

    #[inline]
    fn place(&self, cell: usize) -> [f32; D] {
        read(&self[cell])
    }
}

#[inline]
fn read<const D: usize>(place: &[AtomicU32; D]) -> [f32; D] {
    let mut point = [0.0; D];
    for d in 0..D {
        point[d] = f32::from_bits(place[d].load(Ordering::Relaxed));
    }
    point
}

#[inline]
fn write<const D: usize>(place: &[AtomicU32; D], point: [f32; D]) {
    for d in 0..D {
        place[d].store(point[d].to_bits(), Ordering::Relaxed);
    }
}

impl<'g, const D: usize> Moves<'g, D> {
    fn new(graph: &'g Fuzzy, start: &[f32], n_dims: usize, how: &Descent) -> Self {
        let n = graph.len();
        let at = |i: usize, d: usize| if d < n_dims { start[d * n + i] } else { 0.0 };
        let place = |i| std::array::from_fn(|d| AtomicU32::new(at(i, d).to_bits()));
        Moves {
            graph,
            places: (0..n).map(place).collect(),
            before: (0..n).map(place).collect(),
            forces: Forces::new(how),
            seed: how.seed,
        }
    }

    /// Notes where the cells of a share are.
    fn note(&self, share: usize, n_shares: usize) {
        let n = self.graph.len();
        for i in share * n / n_shares..(share + 1) * n / n_shares {
            write(&self.before[i], read(&self.places[i]));
        }
    }

    fn meet(&self, round: usize, i: usize, epoch: usize, rate: f32) {
        let n = self.graph.n_blocks();
        let [first, second] = meeting(round, i, n);
        let within = round == n - 1;
        let place = ((epoch * n + round) * n + i) as u64;
        let mut rng = Rng::new(self.seed, place);
        for [p, q] in [Some(first), within.then_some(second)].into_iter().flatten() {
            for edge in self.graph.between(p, q) {
                if edge.is_due(epoch) {
                    self.follow(*edge, rate, &mut rng);
                }
            }
        }
    }

    /// An edge from both ends.
    #[inline]
    fn follow(&self, edge: Edge, rate: f32, rng: &mut Rng) {
        let [first, second] = [edge.ends[0] as usize, edge.ends[1] as usize];
        let (mut x, mut y) = (read(&self.places[first]), read(&self.places[second]));
        let others = &self.before[..];
        self.forces.attract(&mut x, &mut y, rate);
        self.forces.repel(&mut x, Some(first), others, rate, rng);
        self.forces.attract(&mut y, &mut x, rate);
        self.forces.repel(&mut y, Some(second), others, rate, rng);
        write(&self.places[first], x);
        write(&self.places[second], y);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::super::super::knn::exact_neighbors;
    use super::super::super::points::{Metric, Points};
    use super::super::start::spread;
    use super::super::{Curve, Table, umap_layout};
    use super::*;
    use crate::ctx::{Monitor, Silent};
    use crate::error::Error;

    fn ctx(threads: usize) -> Ctx<'static> {
        Ctx::new(threads, 1 << 30, PathBuf::new(), &Silent)
    }

    fn how(n_epochs: usize) -> Descent {
        Descent {
            curve: Curve { a: 0.583, b: 1.334 },
            n_epochs: Some(n_epochs),
            learning_rate: 1.0,
            negative_samples: 5,
            repulsion: 1.0,
            seed: 1,
        }
    }

    /// Neighbours of points in the plane, of which the second half lies far off.
    fn example(n: usize, k: usize) -> (Table, Vec<f64>) {
        let mut rng = Rng::new(8, 0);
        let mut columns: Vec<f64> = (0..2 * n).map(|_| rng.uniform()).collect();
        for x in &mut columns[n / 2..n] {
            *x += 5.0;
        }
        let points = Points::from_columns(&columns, n, Metric::Euclidean).unwrap();
        let stored = exact_neighbors(&points, k, &ctx(2)).unwrap().distances().transposed();
        let table = Table::from_columns(&stored.offsets, &stored.columns, &stored.values);
        (table.unwrap(), columns)
    }

    fn graph(table: &Table, n_epochs: usize) -> Fuzzy {
        Fuzzy::new(table.clone(), n_epochs, n_blocks(table.len()), &ctx(1)).unwrap()
    }

    #[test]
    fn in_the_rounds_of_an_epoch_every_pair_of_blocks_meets_once() {
        for n in [2, 8, 16, 32] {
            let mut met = BTreeSet::new();
            for round in 0..n {
                let mut busy = BTreeSet::new();
                for i in 0..n / 2 {
                    let pairs = meeting(round, i, n);
                    let within = pairs[0][0] == pairs[0][1];
                    for [p, q] in &pairs[..if within { 2 } else { 1 }] {
                        assert!(met.insert((*p.min(q), *p.max(q))), "{n} {round} {p} {q}");
                        assert!(busy.insert(*p) && (within || busy.insert(*q)), "{n} {round}");
                    }
                }
            }
            assert_eq!(met.len(), n * (n + 1) / 2);
        }
    }

    /// The formulas of umap-learn's loop in float64 with functions of libm, one edge after
    /// the other and one draw after the other from what `draws` says.
    fn naive_edge(points: &mut [[f64; 2]], ends: [usize; 2], draws: &[Vec<usize>; 2], rate: f64) {
        let before = points.to_vec();
        let (a, b) = (0.583, 1.334);
        for side in 0..2 {
            let (j, k) = (ends[side], ends[1 - side]);
            let apart = [points[j][0] - points[k][0], points[j][1] - points[k][1]];
            let square = apart[0].powi(2) + apart[1].powi(2);
            let slope = -2.0 * a * b * square.powf(b - 1.0) / (a * square.powf(b) + 1.0);
            for d in 0..2 {
                let step = rate * (slope * apart[d]).clamp(-4.0, 4.0);
                points[j][d] += step;
                points[k][d] -= step;
            }
            // Four at a time, then one by one.
            for group in draws[side].chunks(4) {
                let own = points[j];
                for &other in group {
                    let apart = [own[0] - before[other][0], own[1] - before[other][1]];
                    let square = apart[0].powi(2) + apart[1].powi(2);
                    let slope = 2.0 * b / ((0.001 + square) * (a * square.powf(b) + 1.0));
                    for d in 0..2 {
                        if other != j {
                            points[j][d] += rate * (slope * apart[d]).clamp(-4.0, 4.0);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_edge_moves_its_ends_as_umap_learn_says() {
        let (table, start) = example(60, 5);
        let n = table.len();
        let graph = graph(&table, 100);
        let single: Vec<f32> = start.iter().map(|&x| x as f32).collect();
        let places: Vec<[f64; 2]> =
            (0..n).map(|i| [single[i], single[n + i]].map(f64::from)).collect();
        for (at, edge) in graph.between(1, 2).iter().enumerate() {
            let moves = Moves::<2>::new(&graph, &single, 2, &how(1));
            let mut rng = Rng::new(4, at as u64);
            let mut same = rng.clone();
            let mut draw = |count: usize| {
                let mut cells = Vec::new();
                for lane in (0..count).step_by(2) {
                    let bits = same.next_u64();
                    let halves = [bits & 0xffff_ffff, bits >> 32];
                    let cell = |half: u64| (half as f64 / 4_294_967_296.0 * n as f64) as usize;
                    cells.extend(halves.iter().take(count - lane).map(|&half| cell(half)));
                }
                cells
            };
            let draws = [0; 2].map(|_| [draw(4), draw(1)].concat());
            let ends = edge.ends.map(|end| end as usize);
            let mut wanted = places.clone();
            naive_edge(&mut wanted, ends, &draws, 0.3);
            moves.follow(*edge, 0.3, &mut rng);
            for (i, wanted) in wanted.iter().enumerate() {
                let found = read(&moves.places[i]);
                for d in 0..2 {
                    // Float32 at up to six from the origin, powers to 2e-5 and moves up to a few.
                    let error = (f64::from(found[d]) - wanted[d]).abs();
                    assert!(error < 1e-4, "edge {at}, cell {i}: {found:?} {wanted:?}");
                }
            }
        }
        assert!(graph.between(1, 2).len() > 2);
    }

    #[test]
    fn a_layout_is_the_same_for_any_number_of_threads() {
        let (table, start) = example(3000, 10);
        let layout = |threads, seed| {
            let how = Descent { seed, ..how(30) };
            umap_layout(table.clone(), &start, 2, &how, &ctx(threads)).unwrap()
        };
        let one = layout(1, 1);
        for threads in [1, 2, 3, 4, 9] {
            assert!(one == layout(threads, 1), "{threads} threads");
        }
        assert!(one != layout(2, 2));
    }

    #[test]
    fn neighbours_come_together_and_strangers_part() {
        let (table, _) = example(600, 10);
        let mut rng = Rng::new(2, 0);
        for n_dims in [1, 2, 3, 5, 17] {
            let start: Vec<f64> = (0..600 * n_dims).map(|_| 10.0 * rng.uniform()).collect();
            let layout = umap_layout(table.clone(), &start, n_dims, &how(200), &ctx(2)).unwrap();
            assert_eq!(layout.len(), 600 * n_dims);
            assert!(layout.iter().all(|x| x.is_finite()));
            let apart = |i: usize, j: usize| {
                let square = |d: usize| (layout[d * 600 + i] - layout[d * 600 + j]).powi(2);
                (0..n_dims).map(square).sum::<f64>().sqrt()
            };
            let edges = graph(&table, 200);
            let pairs: Vec<_> = (0..8).flat_map(|p| (p..8).map(move |q| (p, q))).collect();
            let joined: Vec<f64> = pairs
                .iter()
                .flat_map(|&(p, q)| edges.between(p, q))
                .map(|edge| apart(edge.ends[0] as usize, edge.ends[1] as usize))
                .collect();
            let near = joined.iter().sum::<f64>() / joined.len() as f64;
            let far = (0..300).map(|i| apart(i, i + 300)).sum::<f64>() / 300.0;
            assert!(near < 0.5 * far, "{n_dims} dimensions: {near} {far}");
        }
    }

    #[test]
    fn without_epochs_cells_stay() {
        let (table, start) = example(50, 3);
        let layout = umap_layout(table, &start, 2, &how(0), &ctx(2)).unwrap();
        let begin = spread(&start, 50, how(0).seed);
        assert!(layout.iter().zip(&begin).all(|(x, y)| *x == f64::from(*y)));
    }

    #[test]
    fn two_cells_and_cells_in_one_place_are_laid_out() {
        let table = Table::from_columns(&[0, 1, 2], &[1, 0], &[0.0, 0.0]).unwrap();
        for start in [[0.0; 4], [0.0, 3.0, 1.0, 2.0]] {
            let layout = umap_layout(table.clone(), &start, 2, &how(50), &ctx(4)).unwrap();
            assert!(layout.iter().all(|x| x.is_finite()));
        }
    }

    struct StopAt(u64);
    impl Monitor for StopAt {
        fn poll(&self, stage: &str, done: u64, _: u64) -> bool {
            stage != "Layout" || done < self.0
        }
    }

    #[test]
    fn a_monitor_stops_the_descent() {
        let (table, start) = example(3000, 10);
        let stopping = Ctx::new(2, 1 << 30, PathBuf::new(), &StopAt(2));
        let outcome = umap_layout(table, &start, 2, &how(1_000_000), &stopping);
        assert!(matches!(outcome, Err(Error::Interrupted)));
    }

    #[test]
    fn bad_starts_are_refused() {
        let (table, mut start) = example(50, 3);
        assert!(umap_layout(table.clone(), &start[1..], 2, &how(1), &ctx(1)).is_err());
        start[3] = f64::NAN;
        assert!(umap_layout(table.clone(), &start, 2, &how(1), &ctx(1)).is_err());
        assert!(umap_layout(table, &vec![0.0; 50 * 65], 65, &how(1), &ctx(1)).is_err());
    }
}
