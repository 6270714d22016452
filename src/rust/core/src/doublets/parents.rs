//! Pairs of cells that simulated doublets are sums of.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::stats::random::Rng;

/// The positions of two cells.
pub type Pair = [u32; 2];

/// `n_pairs` ordered pairs of `n_cells` cells, none twice; a cell may meet itself. The
/// pair of a doublet depends on the seed and the doublet's number, and on earlier ones where
/// it was drawn before.
///
/// # Errors
/// [`Error::InvalidInput`] where there are not as many pairs.
pub fn draw_parents(n_cells: usize, n_pairs: usize, seed: u64) -> Result<Vec<Pair>> {
    let all = (n_cells as u64).pow(2);
    if n_pairs as u64 > all {
        return Err(Error::InvalidInput {
            argument: "sim_doublet_ratio",
            message: format!("{n_cells} cells do not make {n_pairs} different pairs"),
        });
    }
    let mut seen = HashSet::with_capacity(n_pairs);
    let mut pairs = Vec::with_capacity(n_pairs);
    for doublet in 0..n_pairs {
        let mut rng = Rng::new(seed, doublet as u64);
        let pair = loop {
            let pair = rng.below(all);
            if seen.insert(pair) {
                break pair;
            }
        };
        pairs.push([(pair / n_cells as u64) as u32, (pair % n_cells as u64) as u32]);
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_differ_and_follow_from_the_seed() {
        let pairs = draw_parents(50, 1000, 3).unwrap();
        let distinct: HashSet<Pair> = pairs.iter().copied().collect();
        assert_eq!(distinct.len(), 1000);
        assert!(pairs.iter().flatten().all(|&cell| cell < 50));
        assert_eq!(pairs, draw_parents(50, 1000, 3).unwrap());
        assert_ne!(pairs, draw_parents(50, 1000, 4).unwrap());
        assert_eq!(draw_parents(50, 10, 3).unwrap(), pairs[..10]);
    }

    #[test]
    fn all_pairs_and_no_more() {
        assert_eq!(draw_parents(4, 16, 0).unwrap().len(), 16);
        assert!(draw_parents(4, 17, 0).is_err());
        assert!(draw_parents(0, 0, 0).unwrap().is_empty());
    }

    #[test]
    fn cells_are_parents_equally_often() {
        let mut seen = [0_u32; 100];
        for pair in draw_parents(100, 5000, 9).unwrap() {
            for cell in pair {
                seen[cell as usize] += 1;
            }
        }
        // A hundred times each, standard deviation below ten.
        assert!(seen.iter().all(|n| n.abs_diff(100) < 60), "{seen:?}");
    }
}
