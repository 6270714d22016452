//! What rules pairs out by products in float32.
//!
//! With x and y centred, |x - y|² <= t exactly where the score x'y - |y|²/2 is at
//! least (|x|² - t) / 2. Points are scaled so that the longest has length one.
//!
//! Problem: that product has as many terms as there are dimensions, for every pair.
//! Solution: points are replaced by their *heads*, the few dimensions of largest variance and
//! the length r of what the others hold. Heads are never further apart than their points,
//!
//! `|x - y|² >= sum over the head (x_j - y_j)² + (r_x - r_y)²`,
//!
//! so that the score of heads is never below that of points. What it does not rule out is
//! scored in full (the *tails* are the other dimensions), and what that does not rule out is
//! compared in float64.
//!
//! Whole leaves are left out for the queries that have no nearer neighbour in them, by two
//! bounds on heads: the ball around the leaf, and the plane at its edge that is square to
//! the line from the middle of the queries to its own. In many dimensions balls are wide, and
//! planes part groups of cells that are apart in few.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use pulp::Arch;

use super::kernel::{BLOCK, GROUP, Hit, Scan};
use super::nearest::Nearest;
use super::rough::{Frame, Rough, dot};
use super::tree::{LEAF, Tree};
use super::{Pairs, Points};

/// Points that the number of dimensions of a head is chosen from.
const SAMPLE: usize = 4096;

/// Queries that it is chosen from.
const SAMPLE_QUERIES: usize = 24;

/// What a head takes beside its dimensions, in dimensions.
const FIXED_COST: f64 = 3.0;

/// What a pair takes that a head does not rule out, in dimensions of one that it does.
const PASSED_COST: f64 = 400.0;

/// Points made ready to be searched.
pub(super) struct Screen {
    arch: Arch,
    frame: Frame,
    /// How many dimensions are in a head.
    head: usize,
    /// Bound of the relative error of a product in float32, its inputs rounded and
    /// its terms summed in any order, in pieces or at once.
    error: f64,
    /// Heads of all leaves as the kernel takes them.
    panels: Vec<f32>,
    /// The other dimensions, point after point.
    tails: Vec<f32>,
    leaves: Vec<Leaf>,
    /// Middles of the heads of each leaf, with less half their squared lengths.
    middles: Vec<f32>,
    /// The longest of the middles.
    longest: f64,
}

#[derive(Clone, Copy)]
struct Leaf {
    /// Where its panel begins.
    panel: usize,
    /// Length of its longest point.
    longest: f64,
    /// No head is further from the middle.
    radius: f64,
}

/// Queries that a leaf was searched for.
struct Group<'a> {
    /// All of the tile, and which of them.
    queries: &'a [u32],
    active: &'a [usize],
    bounds: [f32; GROUP],
    leaf: usize,
    /// Position of its first point.
    first: usize,
}

/// What a thread works with.
#[derive(Default)]
pub(super) struct Work {
    /// Coordinates of the queries.
    rows: Vec<f64>,
    /// Coordinates of points of the leaf that is looked at.
    read: Read,
    heads: Vec<f32>,
    /// The heads once more, in blocks.
    panel: Vec<f32>,
    /// Their middle.
    middle: Vec<f64>,
    /// Places along a line, of queries and of points.
    along: [Vec<f32>; 2],
    tails: Vec<f32>,
    squares: Vec<f64>,
    /// For each leaf and query, what the squared distance is at least.
    reach: Vec<f32>,
    order: Vec<(f32, usize)>,
    active: Vec<usize>,
    /// Heads of queries that are searched for together.
    group: Vec<[f32; GROUP]>,
    hits: Vec<Hit>,
}

/// Coordinates of those points of a leaf that were asked for.
#[derive(Default)]
struct Read {
    rows: Vec<f64>,
    is_there: Vec<bool>,
}

impl Read {
    /// Begins with another leaf.
    fn clear(&mut self, d: usize) {
        self.rows.resize(LEAF * d, 0.0);
        self.is_there.clear();
        self.is_there.resize(LEAF, false);
    }

    /// The point `i`, which is the leaf's `at`-th.
    fn point(&mut self, points: &Points, i: usize, at: usize) -> &[f64] {
        let d = points.dimensions();
        let row = &mut self.rows[at * d..(at + 1) * d];
        if !std::mem::replace(&mut self.is_there[at], true) {
            points.read(i, row);
        }
        row
    }
}

impl Screen {
    pub(super) fn new(pairs: &Pairs, tree: &Tree, frame: Frame, rough: Rough) -> Self {
        let head = choose_head(&rough, tree, pairs.k);
        let d = rough.dimensions();
        drop(rough);
        let mut screen = Screen {
            arch: Arch::new(),
            frame,
            head,
            error: 2.0 * (d + 8) as f64 * f64::from(f32::EPSILON),
            panels: Vec::new(),
            tails: Vec::new(),
            leaves: Vec::new(),
            middles: Vec::new(),
            longest: 0.0,
        };
        screen.pack(pairs.points, tree);
        screen
    }

    /// Numbers in the product of heads.
    fn width(&self) -> usize {
        self.head + 1
    }

    fn pack(&mut self, points: &Points, tree: &Tree) {
        let (width, head) = (self.width(), self.head);
        let sizes = tree.leaves.iter().map(|leaf| panel_len(leaf.len(), width + 1));
        let mut panels = vec![0.0; sizes.sum()];
        let mut tails = Vec::with_capacity(points.len() * (self.frame.dimensions.len() - head));
        let mut panel = 0;
        let mut rows = Vec::new();
        for leaf in 0..tree.leaves.len() {
            let members = tree.points(leaf);
            points.read_all(&members.iter().map(|&i| i as usize), &mut rows);
            let size = panel_len(members.len(), width + 1);
            let out = &mut panels[panel..panel + size];
            let mut heads = Vec::with_capacity(members.len());
            let mut longest = 0.0_f64;
            for at in 0..members.len().div_ceil(BLOCK) * BLOCK {
                let block = &mut out[at / BLOCK * BLOCK * (width + 1)..];
                let lane = at % BLOCK;
                if at >= members.len() {
                    // Below any bound.
                    block[width * BLOCK + lane] = f32::NEG_INFINITY;
                    continue;
                }
                let d = points.dimensions();
                let mut y: Vec<f64> = self.frame.see(&rows[at * d..(at + 1) * d]).collect();
                let square = y.iter().map(|x| x * x).sum::<f64>();
                longest = longest.max(square);
                tails.extend(y[head..].iter().map(|&x| x as f32));
                let rest = y[head..].iter().map(|x| x * x).sum::<f64>().sqrt();
                y.truncate(head);
                y.push(rest);
                for (j, &x) in y.iter().enumerate() {
                    block[j * BLOCK + lane] = x as f32;
                }
                block[width * BLOCK + lane] = (-square / 2.0) as f32;
                heads.push(y);
            }
            let mut middle = vec![0.0; width];
            for y in &heads {
                for (sum, x) in middle.iter_mut().zip(y) {
                    *sum += x / heads.len() as f64;
                }
            }
            // The middle is where it is in float32.
            for x in &mut middle {
                *x = f64::from(*x as f32);
            }
            let square_middle = middle.iter().map(|x| x * x).sum::<f64>();
            let radius = heads.iter().map(|y| square(y, &middle)).fold(0.0, f64::max).sqrt();
            self.middles.extend(middle.iter().map(|&x| x as f32));
            self.middles.push((-square_middle / 2.0) as f32);
            self.longest = self.longest.max(square_middle.sqrt());
            self.leaves.push(Leaf { panel, longest: longest.sqrt(), radius });
            panel += size;
        }
        self.panels = panels;
        self.tails = tails;
    }

    /// Offers to the nearest of each of some queries what may be among them.
    pub(super) fn search(
        &self,
        pairs: &Pairs,
        tree: &Tree,
        queries: &[u32],
        found: &mut [Nearest],
        work: &mut Work,
    ) {
        let width = self.width();
        self.prepare(pairs.queries, queries, work);
        self.measure(queries.len(), work);
        let mut read = std::mem::take(&mut work.read);
        for at in 0..work.order.len() {
            let leaf = work.order[at].1;
            let reach = &work.reach[leaf * queries.len()..][..queries.len()];
            work.active.clear();
            for (q, nearest) in found.iter().enumerate() {
                if f64::from(reach[q]) <= self.scaled(nearest.limit()) {
                    work.active.push(q);
                }
            }
            if work.active.is_empty() {
                continue;
            }
            self.part(leaf, tree.leaves[leaf].len(), found, work);
            read.clear(pairs.points.dimensions());
            for group in 0..work.active.len().div_ceil(GROUP) {
                let active = &work.active[group * GROUP..];
                let active = &active[..active.len().min(GROUP)];
                let mut bounds = [f32::INFINITY; GROUP];
                for (bound, &q) in bounds.iter_mut().zip(active) {
                    let limit = found[q].limit();
                    *bound = self.least_score(work.squares[q], self.leaves[leaf].longest, limit);
                }
                work.group.clear();
                work.group.resize(width, [0.0; GROUP]);
                for (g, &q) in active.iter().enumerate() {
                    let head = &work.heads[q * width..(q + 1) * width];
                    for (out, &x) in work.group.iter_mut().zip(head) {
                        out[g] = x;
                    }
                }
                work.hits.clear();
                let size = panel_len(tree.leaves[leaf].len(), width + 1);
                let panel = &self.panels[self.leaves[leaf].panel..][..size];
                Scan { queries: &work.group, bounds, panel, hits: &mut work.hits }.run(self.arch);
                let first = tree.leaves[leaf].start;
                let group = Group { queries, active, bounds, leaf, first };
                self.look(pairs, tree, group, work, &mut read, found);
            }
        }
        work.read = read;
    }

    /// Takes the queries away that a plane parts from a leaf.
    fn part(&self, leaf: usize, size: usize, found: &[Nearest], work: &mut Work) {
        let width = self.width();
        let middle = &self.middles[leaf * (width + 1)..][..width];
        let line: Vec<f64> =
            middle.iter().zip(&work.middle).map(|(&to, from)| f64::from(to) - from).collect();
        let length = line.iter().map(|x| x * x).sum::<f64>().sqrt();
        // Nothing to tell apart, as for a leaf and itself.
        if length < 1e-10 {
            return;
        }
        let line: Vec<f32> = line.iter().map(|x| (x / length) as f32).collect();
        let [queries, points] = &mut work.along;
        project(&work.panel, width, &line, queries);
        let longest = self.leaves[leaf].longest;
        project(
            &self.panels[self.leaves[leaf].panel..][..panel_len(size, width + 1)],
            width + 1,
            &line,
            points,
        );
        let edge = points[..size].iter().fold(f32::INFINITY, |least, &x| least.min(x));
        work.active.retain(|&q| {
            let error = self.error * (longest + work.squares[q].sqrt()) + 1e-30;
            let gap = f64::from(edge) - f64::from(queries[q]) - error;
            gap <= 0.0 || gap * gap * (1.0 - 1e-5) <= self.scaled(found[q].limit())
        });
    }

    fn scaled(&self, limit: f64) -> f64 {
        limit * self.frame.scale * self.frame.scale * (1.0 + 1e-9)
    }

    /// Makes queries ready.
    fn prepare(&self, points: &Points, queries: &[u32], work: &mut Work) {
        let width = self.width();
        work.heads.clear();
        work.tails.clear();
        work.squares.clear();
        points.read_all(&queries.iter().map(|&i| i as usize), &mut work.rows);
        for row in work.rows.chunks_exact(points.dimensions()) {
            let x: Vec<f64> = self.frame.see(row).collect();
            let rest = x[self.head..].iter().map(|x| x * x).sum::<f64>();
            work.heads.extend(x[..self.head].iter().map(|&x| x as f32));
            work.heads.push(rest.sqrt() as f32);
            work.tails.extend(x[self.head..].iter().map(|&x| x as f32));
            work.squares.push(x.iter().map(|x| x * x).sum());
        }
        work.panel.clear();
        work.panel.resize(queries.len().div_ceil(BLOCK) * BLOCK * width, 0.0);
        work.middle.clear();
        work.middle.resize(width, 0.0);
        for (q, head) in work.heads.chunks_exact(width).enumerate() {
            let block = &mut work.panel[q / BLOCK * BLOCK * width..];
            for (j, &x) in head.iter().enumerate() {
                block[j * BLOCK + q % BLOCK] = x;
                work.middle[j] += f64::from(x) / queries.len() as f64;
            }
        }
    }

    /// What the distance of each query to each leaf is at least, and the order of leaves.
    fn measure(&self, n: usize, work: &mut Work) {
        let (width, leaves) = (self.width(), self.leaves.len());
        let columns = width + 1;
        let middles = MatRef::from_row_major_slice(&self.middles, leaves, columns);
        let mut heads = Vec::with_capacity(n * columns);
        for head in work.heads.chunks(width) {
            heads.extend_from_slice(head);
            heads.push(1.0);
        }
        let heads = MatRef::from_row_major_slice(&heads, n, columns);
        work.reach.resize(n * leaves, 0.0);
        let product = MatMut::from_row_major_slice_mut(&mut work.reach, leaves, n);
        matmul(product, Accum::Replace, middles, heads.transpose(), 1.0, Par::Seq);
        work.order.clear();
        for (at, (leaf, reach)) in self.leaves.iter().zip(work.reach.chunks_mut(n)).enumerate() {
            let mut total = 0.0;
            for (reach, &square) in reach.iter_mut().zip(&work.squares) {
                let error =
                    self.error * (square.sqrt() * self.longest + self.longest * self.longest);
                let least = square - 2.0 * (f64::from(*reach) + error) - 1e-12 * square - 1e-30;
                total += (square - 2.0 * f64::from(*reach)).max(0.0).sqrt();
                let least = least.max(0.0).sqrt();
                let gap = (least - leaf.radius - 1e-6 * (least + leaf.radius)).max(0.0);
                *reach = (gap * gap * (1.0 - 1e-6)) as f32;
            }
            work.order.push((total as f32, at));
        }
        work.order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }

    /// Looks at what the heads did not rule out.
    fn look(
        &self,
        pairs: &Pairs,
        tree: &Tree,
        mut group: Group,
        work: &Work,
        read: &mut Read,
        found: &mut [Nearest],
    ) {
        let (width, head) = (self.width(), self.head);
        let dimensions = pairs.points.dimensions();
        let tail = dimensions - head;
        let Leaf { panel, longest, .. } = self.leaves[group.leaf];
        let rests = &self.panels[panel + head * BLOCK..];
        for hit in &work.hits {
            if hit.score < group.bounds[hit.query] {
                continue;
            }
            let (q, at) = (group.active[hit.query], group.first + hit.at);
            let (i, j) = (group.queries[q] as usize, tree.order[at] as usize);
            if i == j && pairs.same {
                continue;
            }
            if tail > 0 {
                let own = &self.tails[at * tail..][..tail];
                let other = &work.tails[q * tail..][..tail];
                let rest = rests[hit.at / BLOCK * BLOCK * (width + 1) + hit.at % BLOCK];
                let score = hit.score - rest * work.heads[q * width + head] + dot(other, own);
                if score < group.bounds[hit.query] {
                    continue;
                }
            }
            let x = &work.rows[q * dimensions..(q + 1) * dimensions];
            let separation = pairs.points.separation(x, read.point(pairs.points, j, hit.at));
            let nearest = &mut found[q];
            if separation <= nearest.limit() {
                nearest.offer(separation, j as u32);
                group.bounds[hit.query] =
                    self.least_score(work.squares[q], longest, nearest.limit());
            }
        }
    }

    /// What the computed score of a point no further than `limit` from a query of
    /// this squared length, and no longer than `longest`, is never below.
    fn least_score(&self, square: f64, longest: f64, limit: f64) -> f32 {
        if limit == f64::INFINITY {
            return f32::MIN;
        }
        let least = (square - limit * self.frame.scale * self.frame.scale) / 2.0;
        let error = self.error * (square.sqrt() * longest + longest * longest);
        let rounding = 1e-6 * least.abs() + 1e-12 * square + 1e-30;
        (least - error - rounding) as f32
    }
}

/// The number of dimensions that takes least time on a sample.
fn choose_head(points: &Rough, tree: &Tree, wanted: usize) -> usize {
    let (n, all) = (points.len(), points.dimensions());
    if n < SAMPLE || all <= 4 {
        return all;
    }
    let choices: Vec<usize> = (4..all).step_by(4).collect();
    let mut passed = vec![0_u64; choices.len()];
    let mut seen = 0_u64;
    let every = n.div_ceil(SAMPLE);
    for query in (0..n).step_by(n.div_ceil(SAMPLE_QUERIES)) {
        let i = tree.order[query] as usize;
        let mut nearest = Nearest::new(wanted);
        for j in (0..n).filter(|&j| j != i) {
            let pairs = points.row(i).iter().zip(points.row(j));
            let separation = f64::from(pairs.map(|(x, y)| (x - y) * (x - y)).sum::<f32>());
            if separation <= nearest.limit() {
                nearest.offer(separation, j as u32);
            }
        }
        let x = points.point(i);
        for position in (0..n).step_by(every) {
            let y = points.point(tree.order[position] as usize);
            seen += 1;
            for (passed, &head) in passed.iter_mut().zip(&choices) {
                *passed += u64::from(head_separation(&x, &y, head) <= nearest.limit());
            }
        }
    }
    let cost = |head: usize, passed: u64| {
        head as f64 + FIXED_COST + PASSED_COST * passed as f64 / seen as f64
    };
    let mut best = (cost(all, 0), all);
    for (&head, &passed) in choices.iter().zip(&passed) {
        let cost = cost(head, passed);
        if cost < best.0 {
            best = (cost, head);
        }
    }
    best.1
}

/// Numbers in the panel of so many points, of so many each.
fn panel_len(points: usize, rows: usize) -> usize {
    points.div_ceil(BLOCK) * BLOCK * rows
}

/// Products of all points of a panel, of `rows` numbers each, with one line.
fn project(panel: &[f32], rows: usize, line: &[f32], out: &mut Vec<f32>) {
    out.clear();
    for block in panel.chunks_exact(rows * BLOCK) {
        let mut sums = [0.0; BLOCK];
        for (row, &x) in block.chunks_exact(BLOCK).zip(line) {
            for (sum, &y) in sums.iter_mut().zip(row) {
                *sum += x * y;
            }
        }
        out.extend_from_slice(&sums);
    }
}

/// The squared distance of two heads.
fn head_separation(x: &[f64], y: &[f64], head: usize) -> f64 {
    let rest = |x: &[f64]| x[head..].iter().map(|x| x * x).sum::<f64>().sqrt();
    square(&x[..head], &y[..head]) + (rest(x) - rest(y)).powi(2)
}

/// Squared distance of a row from the centre.
fn square(row: &[f64], centre: &[f64]) -> f64 {
    row.iter().zip(centre).map(|(x, c)| (x - c) * (x - c)).sum()
}
