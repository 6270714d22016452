//! Refinement: each community falls into parts that are well connected in it.
//!
//! Starting from single nodes, a node that is still alone joins one of the parts of its own
//! community, drawn with probability proportional to `exp(gain / beta)` among those that do
//! not lower the quality, its own included. Node and part must be well connected to the rest
//! of the community: the weight between is at least what the quality expects. Parts only grow
//! along edges, so each is connected.

use super::Pulse;
use super::moving::{Clusters, shuffled};
use super::network::Network;
use super::tally::Tally;
use crate::error::Result;
use crate::stats::random::Rng;

/// The part of each node, named by one of its nodes.
///
/// Communities do not meet, so that one random order of all nodes is a random order of each.
///
/// Memory: 32 bytes a node beside the result.
pub(super) fn refine(
    level: &Network,
    clusters: &Clusters,
    gamma: f64,
    beta: f64,
    rng: &mut Rng,
    pulse: &mut Pulse,
) -> Result<Vec<u32>> {
    let n = level.len();
    let mut part: Vec<u32> = (0..n as u32).collect();
    let mut alone = vec![true; n];
    let mut mass = level.mass.clone();
    let community = |v: u32| clusters.of[v as usize];
    // The weight between a part and the rest of its community.
    let mut outward: Vec<f64> = (0..n as u32)
        .map(|v| {
            level.edges(v).filter(|&(u, _)| community(u) == community(v)).map(|(_, w)| w).sum()
        })
        .collect();
    let mut tally = Tally::new(n);
    let mut choices: Vec<(u32, f64)> = Vec::new();
    for v in shuffled(n, rng) {
        pulse.beat()?;
        let here = v as usize;
        let whole = clusters.mass[community(v) as usize];
        let expected = |mass: f64| gamma * mass * (whole - mass);
        if !alone[here] || outward[here] < expected(mass[here]) {
            continue;
        }
        for (u, w) in level.edges(v) {
            if community(u) == community(v) {
                tally.add(part[u as usize], w);
            }
        }
        choices.clear();
        choices.push((v, 0.0));
        for (p, weight) in tally.iter() {
            let at = p as usize;
            let gain = weight - gamma * mass[here] * mass[at];
            if gain >= 0.0 && outward[at] >= expected(mass[at]) {
                choices.push((p, gain));
            }
        }
        let to = draw(&mut choices, beta, rng);
        if to != v {
            let at = to as usize;
            outward[at] += outward[here] - 2.0 * tally.get(to);
            mass[at] += mass[here];
            alone[at] = false;
            alone[here] = false;
            part[here] = to;
        }
        tally.clear();
    }
    Ok(part)
}

/// One of the choices, with probability proportional to `exp(gain / beta)`; where `beta` is
/// zero, one of the best.
///
/// The exponential is that of the crate `libm`, the same on every machine.
fn draw(choices: &mut [(u32, f64)], beta: f64, rng: &mut Rng) -> u32 {
    let most = choices.iter().fold(0.0_f64, |most, &(_, gain)| most.max(gain));
    let mut total = 0.0;
    for (_, gain) in choices.iter_mut() {
        let below = most - *gain;
        // The running sum takes the gain's place.
        total += if below == 0.0 { 1.0 } else { libm::exp(-below / beta) };
        *gain = total;
    }
    let at = rng.uniform() * total;
    let chosen = choices.iter().find(|&&(_, sum)| at < sum);
    chosen.or(choices.last()).map_or(0, |&(p, _)| p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_drawn_as_their_exponentials_say() {
        let mut rng = Rng::new(5, 0);
        let gains = [0.0, 0.02, 0.05, 0.05];
        let total: f64 = gains.iter().map(|g| (g / 0.02_f64).exp()).sum();
        let mut counts = [0.0; 4];
        let draws = 40_000;
        for _ in 0..draws {
            let mut choices: Vec<_> =
                gains.iter().enumerate().map(|(i, &g)| (i as u32, g)).collect();
            counts[draw(&mut choices, 0.02, &mut rng) as usize] += 1.0;
        }
        for (count, gain) in counts.iter().zip(gains) {
            let share = (gain / 0.02_f64).exp() / total;
            // Six standard deviations of a binomial share.
            let tolerance = 6.0 * (share * (1.0 - share) / f64::from(draws)).sqrt();
            assert!((count / f64::from(draws) - share).abs() < tolerance, "{counts:?}");
        }
    }

    #[test]
    fn without_randomness_the_best_is_taken() {
        let mut rng = Rng::new(5, 0);
        for _ in 0..100 {
            assert_eq!(draw(&mut [(7, 0.0), (1, 2.0), (2, 3.0), (4, 1.0)], 0.0, &mut rng), 2);
            assert_eq!(draw(&mut [(7, 0.0)], 0.0, &mut rng), 7);
            // Far above what an exponential can hold.
            assert_eq!(draw(&mut [(7, 0.0), (1, 1e6)], 1e-3, &mut rng), 1);
        }
    }
}
