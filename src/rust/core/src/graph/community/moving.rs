//! Fast local moving: nodes go to the community where they add most to the quality, until none
//! would go elsewhere.
//!
//! A queue in random order has all nodes first. A node that moves puts back those of its
//! neighbours that are not in its new community; others keep their reasons to stay.

use std::collections::VecDeque;

use super::Pulse;
use super::network::Network;
use super::tally::Tally;
use crate::error::Result;
use crate::stats::random::Rng;

/// The least share of a node's weights by which a move must pay. Below it is rounding, after
/// which a node could go to and fro for ever.
const LEAST_GAIN: f64 = 1e-12;

/// Communities of the nodes of a level.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clusters {
    /// The community of each node, below the number of nodes.
    pub of: Vec<u32>,
    /// The mass of each community.
    pub mass: Vec<f64>,
    /// The number of its nodes.
    size: Vec<u32>,
}

impl Clusters {
    /// Communities as `of` says.
    pub fn new(level: &Network, of: Vec<u32>) -> Self {
        let mut mass = vec![0.0; of.len()];
        let mut size = vec![0; of.len()];
        for (&c, m) in of.iter().zip(&level.mass) {
            mass[c as usize] += m;
            size[c as usize] += 1;
        }
        Clusters { of, mass, size }
    }

    /// The number of communities that have nodes.
    pub fn count(&self) -> usize {
        self.size.iter().filter(|&&size| size > 0).count()
    }

    fn leave(&mut self, c: u32, mass: f64) {
        let c = c as usize;
        self.size[c] -= 1;
        // A community without nodes has no mass, whatever rounding left of it.
        self.mass[c] = if self.size[c] == 0 { 0.0 } else { self.mass[c] - mass };
    }

    fn enter(&mut self, c: u32, mass: f64) {
        self.size[c as usize] += 1;
        self.mass[c as usize] += mass;
    }
}

/// All nodes in random order.
pub(super) fn shuffled(n: usize, rng: &mut Rng) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for at in (1..n).rev() {
        order.swap(at, rng.below(at as u64 + 1) as usize);
    }
    order
}

/// Moves nodes until none gains by it. Communities keep their numbers; new ones take free
/// numbers.
///
/// Numerics: of equal gains the own community's, then that of the neighbour stored first.
/// Memory: 17 bytes a node beside the communities.
pub(super) fn move_nodes(
    level: &Network,
    clusters: &mut Clusters,
    gamma: f64,
    rng: &mut Rng,
    pulse: &mut Pulse,
) -> Result<()> {
    let n = level.len();
    let mut queue = VecDeque::from(shuffled(n, rng));
    let mut waits = vec![true; n];
    let mut free: Vec<u32> = (0..n as u32).filter(|&c| clusters.size[c as usize] == 0).collect();
    let mut tally = Tally::new(n);
    while let Some(v) = queue.pop_front() {
        pulse.beat()?;
        waits[v as usize] = false;
        let (own, mass) = (clusters.of[v as usize], level.mass[v as usize]);
        let mut strength = 0.0;
        for (u, w) in level.edges(v) {
            tally.add(clusters.of[u as usize], w);
            strength += w;
        }
        clusters.leave(own, mass);
        let gain = |weight: f64, c: u32| weight - gamma * mass * clusters.mass[c as usize];
        let stay = gain(tally.get(own), own);
        let (mut best, mut to) = (stay + LEAST_GAIN * strength, own);
        for (c, weight) in tally.iter() {
            let gain = gain(weight, c);
            if c != own && gain > best {
                (best, to) = (gain, c);
            }
        }
        tally.clear();
        // Alone, a node gains nothing and loses nothing.
        if best < 0.0 && clusters.size[own as usize] > 0 {
            to = free.pop().expect("two nodes of one community leave a number free");
        }
        clusters.enter(to, mass);
        if to == own {
            continue;
        }
        if clusters.size[own as usize] == 0 {
            free.push(own);
        }
        for (u, _) in level.edges(v) {
            if clusters.of[u as usize] != to && !waits[u as usize] {
                waits[u as usize] = true;
                queue.push_back(u);
            }
        }
        clusters.of[v as usize] = to;
    }
    Ok(())
}
