//! Genes ranked within batches by a variance, and the ranks made one.
//!
//! Reference: Stuart et al. (2019) Comprehensive integration of single-cell data.
//! Cell 177, 1888, for the order by number of batches.

use super::bins::median;

/// What counts first where a gene is taken in some batches only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The median of its ranks, then the number of batches.
    RankFirst,
    /// The number of batches, then the median of its ranks.
    BatchesFirst,
}

/// What ranks say of every gene.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedGenes {
    /// Whether the gene is taken.
    pub highly_variable: Vec<bool>,
    /// The median of the gene's ranks in the batches where it is among the first,
    /// counted from zero; NaN where it is in none.
    pub rank: Vec<f64>,
    /// In how many batches the gene is among the first.
    pub n_batches: Vec<u32>,
    /// The mean of its variances.
    pub variance: Vec<f64>,
}

/// Ranks the genes of each batch by falling variance and takes the `n_top` first
/// over all. `variances` is batch-major.
///
/// # Numerics
/// As scanpy 1.11.5, but ties go by the order of the genes; there they go by what an
/// unstable sort leaves.
///
/// # Panics
/// If there are not batches x genes variances.
#[must_use]
pub fn rank_over_batches(
    variances: &[f64],
    n_batches: usize,
    n_vars: usize,
    n_top: usize,
    order: Order,
) -> RankedGenes {
    assert_eq!(variances.len(), n_batches * n_vars, "batches x genes");
    let mut places: Vec<Vec<f64>> = vec![Vec::new(); n_vars];
    let mut sums = vec![0.0; n_vars];
    let mut by_variance: Vec<usize> = Vec::with_capacity(n_vars);
    for batch in 0..n_batches {
        let variances = &variances[batch * n_vars..][..n_vars];
        by_variance.clear();
        by_variance.extend(0..n_vars);
        by_variance.sort_by(|&a, &b| {
            let (a, b) = (variances[a], variances[b]);
            a.is_nan().cmp(&b.is_nan()).then_with(|| b.partial_cmp(&a).unwrap_or(a.total_cmp(&b)))
        });
        for (place, &gene) in by_variance.iter().take(n_top).enumerate() {
            places[gene].push(place as f64);
        }
        for (sum, variance) in sums.iter_mut().zip(variances) {
            *sum += variance;
        }
    }
    let taken: Vec<u32> = places.iter().map(|places| places.len() as u32).collect();
    let rank: Vec<f64> = places.iter_mut().map(|places| median(places)).collect();
    let mut genes: Vec<usize> = (0..n_vars).collect();
    genes.sort_by(|&a, &b| {
        let by_rank =
            || rank[a].is_nan().cmp(&rank[b].is_nan()).then_with(|| rank[a].total_cmp(&rank[b]));
        let by_batches = || taken[b].cmp(&taken[a]);
        match order {
            Order::RankFirst => by_rank().then_with(by_batches),
            Order::BatchesFirst => by_batches().then_with(by_rank),
        }
    });
    let mut highly_variable = vec![false; n_vars];
    for &gene in genes.iter().take(n_top) {
        highly_variable[gene] = true;
    }
    let variance = sums.iter().map(|sum| sum / n_batches as f64).collect();
    RankedGenes { highly_variable, rank, n_batches: taken, variance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_batch_is_ranked() {
        let got = rank_over_batches(&[1.0, 5.0, 3.0, 5.0, 0.0], 1, 5, 3, Order::RankFirst);
        assert_eq!(got.highly_variable, [false, true, true, true, false]);
        assert_eq!(got.n_batches, [0, 1, 1, 1, 0]);
        assert!(got.rank[0].is_nan() && got.rank[4].is_nan());
        assert_eq!(got.rank[1..4], [0.0, 2.0, 1.0]);
        assert_eq!(got.variance, [1.0, 5.0, 3.0, 5.0, 0.0]);
    }

    #[test]
    fn what_counts_first() {
        // Gene 0 is first in one batch of three, gene 1 second in all.
        let variances = [9.0, 8.0, 1.0, 0.0, 0.0, 8.0, 1.0, 9.0, 0.0, 8.0, 9.0, 1.0];
        let of = |order| rank_over_batches(&variances, 3, 4, 2, order);
        let got = of(Order::RankFirst);
        assert_eq!(got.n_batches, [1, 3, 1, 1]);
        assert_eq!(got.rank, [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(got.highly_variable, [true, false, true, false]);
        assert_eq!(of(Order::BatchesFirst).highly_variable, [true, true, false, false]);
        assert!((got.variance[1] - 8.0).abs() < 1e-15);
    }

    #[test]
    fn medians_of_ranks() {
        let variances = [9.0, 8.0, 7.0, 8.0, 9.0, 7.0];
        let got = rank_over_batches(&variances, 2, 3, 3, Order::RankFirst);
        assert_eq!(got.rank, [0.5, 0.5, 2.0]);
    }

    #[test]
    fn more_than_there_are_and_none() {
        let got = rank_over_batches(&[1.0, 2.0], 1, 2, 10, Order::BatchesFirst);
        assert_eq!(got.highly_variable, [true, true]);
        assert!(rank_over_batches(&[], 2, 0, 10, Order::RankFirst).rank.is_empty());
    }
}
