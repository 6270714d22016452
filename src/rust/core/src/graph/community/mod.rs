//! Communities of a weighted graph: Leiden and Louvain.
//!
//! Both raise the weight within communities less what is expected of them: with masses `m` of
//! nodes and `M` of communities, a node that joins community c gains `w(v, c) - gamma m M`.
//! For modularity the mass of a node is the sum of its weights and `gamma` the resolution over
//! the sum of all masses; for the constant Potts model masses are one and `gamma` is the
//! resolution.
//!
//! An iteration of Leiden (Traag, Waltman, van Eck 2019): nodes move (`moving`), communities fall
//! into well connected parts (`refine`), parts become the nodes of a smaller graph (`aggregate`)
//! that starts from the communities, and so on until each community is one node. Every community
//! is connected: it was one part. The next iteration begins from the communities of the one before.
//! Louvain (Blondel et al. 2008) is one iteration without refinement, and promises no connection.
//!
//! One thread, since each move depends on those before. Draws are those of `stats::random`, and
//! sums go in the order of nodes and edges: the same bits on every machine.
//!
//! Memory beside the matrix: about 60 bytes a node, and the graph of the parts, 12 bytes for
//! each pair of parts with an edge between, both ways.

mod aggregate;
mod moving;
mod network;
mod quality;
mod refine;
mod tally;

pub use network::{Network, check_graph};
pub use quality::modularity;

use aggregate::{aggregate, renumber};
use moving::{Clusters, move_nodes};
use refine::refine;

use crate::ctx::Ctx;
use crate::error::Result;
use crate::stats::random::Rng;

/// What communities are good at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// More weight within than in a random graph of the same sums.
    Modularity,
    /// More weight within than the resolution times the number of pairs.
    ConstantPotts,
}

/// How communities are looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// With refinement.
    Leiden {
        /// How many iterations; `None` until the quality no longer rises.
        n_iterations: Option<usize>,
        /// The randomness of the refinement; zero for none.
        beta: f64,
    },
    /// Without it.
    Louvain,
}

/// The least share of all weights by which a rise of quality counts.
const LEAST_RISE: f64 = 1e-10;

/// The community of each node, numbered from zero in the order of their first nodes.
///
/// # Errors
/// When `ctx` stops.
pub fn communities(
    graph: &Network,
    method: Method,
    resolution: f64,
    seed: u64,
    ctx: &Ctx,
) -> Result<Vec<u32>> {
    let gamma = graph.gamma(resolution);
    let mut rng = Rng::new(seed, 0);
    let mut pulse = Pulse { ctx, beats: 0 };
    let mut of: Vec<u32> = (0..graph.len() as u32).collect();
    match method {
        Method::Louvain => of = iterate(graph, of, gamma, None, &mut rng, &mut pulse)?,
        Method::Leiden { n_iterations: Some(n), beta } => {
            for _ in 0..n {
                of = iterate(graph, of, gamma, Some(beta), &mut rng, &mut pulse)?;
            }
        }
        Method::Leiden { n_iterations: None, beta } => {
            let least = LEAST_RISE * quality::twice_quality(graph, &vec![0; graph.len()], 0.0);
            let mut before = f64::NEG_INFINITY;
            loop {
                of = iterate(graph, of, gamma, Some(beta), &mut rng, &mut pulse)?;
                let now = quality::twice_quality(graph, &of, gamma);
                // Also where there are no edges, and nothing to rise.
                if now <= before + least {
                    break;
                }
                before = now;
            }
        }
    }
    Ok(of)
}

/// One way through the levels from the communities `of`; without `beta`, without refinement.
fn iterate(
    graph: &Network,
    mut of: Vec<u32>,
    gamma: f64,
    beta: Option<f64>,
    rng: &mut Rng,
    pulse: &mut Pulse,
) -> Result<Vec<u32>> {
    // The node of the level that a node of the graph is in; itself on the first one.
    let mut place: Option<Vec<u32>> = None;
    let mut above: Option<Network> = None;
    let mut stuck = false;
    loop {
        let level = above.as_ref().unwrap_or(graph);
        let mut clusters = Clusters::new(level, of);
        move_nodes(level, &mut clusters, gamma, rng, pulse)?;
        if clusters.count() == level.len() {
            of = clusters.of;
            break;
        }
        let (mut group, n_groups) = match beta {
            None => numbered(clusters.of.clone()),
            Some(beta) => parts(level, &clusters, gamma, beta, rng, pulse)?,
        };
        of = clusters.of;
        if n_groups == level.len() {
            stuck = true;
            break;
        }
        let next = aggregate(level, &group, n_groups);
        // Each group starts in the community of its nodes.
        renumber(&mut of);
        let mut start = vec![0; n_groups];
        for (&g, &c) in group.iter().zip(&of) {
            start[g as usize] = c;
        }
        of = start;
        if let Some(mut place_before) = place {
            for at in &mut place_before {
                *at = group[*at as usize];
            }
            group = place_before;
        }
        place = Some(group);
        above = Some(next);
    }
    drop(above);
    if let Some(mut place) = place {
        for at in &mut place {
            *at = of[*at as usize];
        }
        of = place;
    }
    if stuck {
        of = split(graph, &of);
    }
    renumber(&mut of);
    Ok(of)
}

/// The parts that communities fall into, numbered.
fn parts(
    level: &Network,
    clusters: &Clusters,
    gamma: f64,
    beta: f64,
    rng: &mut Rng,
    pulse: &mut Pulse,
) -> Result<(Vec<u32>, usize)> {
    let (part, count) = numbered(refine(level, clusters, gamma, beta, rng, pulse)?);
    if count < level.len() || beta == 0.0 {
        return Ok((part, count));
    }
    // By chance each node stayed alone. Of the nodes that have moved together two are better
    // together, so that without chance they meet.
    Ok(numbered(refine(level, clusters, gamma, 0.0, rng, pulse)?))
}

/// Numbers from zero on, and how many.
fn numbered(mut group: Vec<u32>) -> (Vec<u32>, usize) {
    let count = renumber(&mut group);
    (group, count)
}

/// The connected pieces of communities, for the case that rounding kept their parts from being
/// joined. No weight is lost by it, so that the quality does not fall.
fn split(graph: &Network, of: &[u32]) -> Vec<u32> {
    const NONE: u32 = u32::MAX;
    let mut piece = vec![NONE; of.len()];
    let mut reached = Vec::new();
    for first in 0..of.len() as u32 {
        if piece[first as usize] != NONE {
            continue;
        }
        piece[first as usize] = first;
        reached.push(first);
        while let Some(v) = reached.pop() {
            for (u, _) in graph.edges(v) {
                if of[u as usize] == of[v as usize] && piece[u as usize] == NONE {
                    piece[u as usize] = first;
                    reached.push(u);
                }
            }
        }
    }
    piece
}

/// Asks now and then whether to go on.
struct Pulse<'a> {
    ctx: &'a Ctx<'a>,
    beats: u64,
}

impl Pulse<'_> {
    /// Nodes between two questions.
    const EVERY: u64 = 1 << 14;

    #[inline]
    fn beat(&mut self) -> Result<()> {
        self.beats += 1;
        if self.beats % Self::EVERY == 0 { self.ctx.poll("Communities", 0, 1) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
