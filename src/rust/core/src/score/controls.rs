//! Control genes: bins of like expression, and draws from them.

use crate::error::{Error, Result};
use crate::stats::random::Rng;

/// Bits of a mean that do not count: means that agree to 12 digits tie, so that
/// ranks do not follow from the rounding of sums.
const ROUNDING_BITS: u32 = 12;

/// The bin of every gene that can be a control.
#[derive(Debug, Clone, PartialEq)]
pub struct Bins {
    /// The bin of each gene; `None` outside the pool and where the mean is no number.
    of: Vec<Option<usize>>,
    /// The genes of each bin, in order.
    genes: Vec<Vec<usize>>,
}

/// The control genes of one set.
#[derive(Debug, Clone, PartialEq)]
pub struct Controls {
    /// In order, each once.
    pub genes: Vec<usize>,
    /// Bins that a gene of the set lies in and that have no other gene to draw.
    pub empty_bins: Vec<usize>,
}

impl Bins {
    /// Bins by the rank of the mean, as scanpy makes them: rank (the least of ties)
    /// divided by the rounded size of a bin, rounded down.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the genes are too few for `n_bins`, which is two or
    /// more.
    pub fn by_rank(means: &[f64], pool: &[usize], n_bins: usize) -> Result<Self> {
        let mut ranked = finite(means, pool);
        let share = ranked.len() as f64 / n_bins.saturating_sub(1) as f64;
        let size = share.round_ties_even() as usize;
        if size == 0 || n_bins < 2 {
            return Err(too_many_bins(n_bins, ranked.len()));
        }
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut bins = Bins { of: vec![None; means.len()], genes: Vec::new() };
        let mut rank = 1;
        for (at, &(gene, mean)) in ranked.iter().enumerate() {
            if at > 0 && mean > ranked[at - 1].1 {
                rank = at + 1;
            }
            bins.put(gene, rank / size);
        }
        bins.sort();
        Ok(bins)
    }

    /// Bins between quantiles of the mean, as Seurat makes them; genes of equal mean
    /// are spread by noise of 1e-30 that depends on the seed and the gene.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where quantiles coincide.
    pub fn by_quantile(means: &[f64], pool: &[usize], n_bins: usize, seed: u64) -> Result<Self> {
        let mut noisy = finite(means, pool);
        for (gene, mean) in &mut noisy {
            *mean += (2.0 * Rng::new(seed, *gene as u64).uniform() - 1.0) * 1e-30;
        }
        let mut sorted: Vec<f64> = noisy.iter().map(|&(_, mean)| mean).collect();
        sorted.sort_by(f64::total_cmp);
        if sorted.is_empty() || n_bins == 0 {
            return Err(too_many_bins(n_bins, sorted.len()));
        }
        let breaks: Vec<f64> = (0..=n_bins).map(|i| quantile(&sorted, i, n_bins)).collect();
        if breaks.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(too_many_bins(n_bins, sorted.len()));
        }
        let mut bins = Bins { of: vec![None; means.len()], genes: Vec::new() };
        for (gene, mean) in noisy {
            let above = breaks.partition_point(|&edge| edge <= mean);
            bins.put(gene, above.clamp(1, n_bins) - 1);
        }
        bins.sort();
        Ok(bins)
    }

    fn put(&mut self, gene: usize, bin: usize) {
        if bin >= self.genes.len() {
            self.genes.resize(bin + 1, Vec::new());
        }
        self.of[gene] = Some(bin);
        self.genes[bin].push(gene);
    }

    fn sort(&mut self) {
        for genes in &mut self.genes {
            genes.sort_unstable();
        }
    }

    /// The bin of a gene.
    #[must_use]
    pub fn of(&self, gene: usize) -> Option<usize> {
        self.of.get(gene).copied().flatten()
    }

    fn need(&self, gene: usize) -> Result<usize> {
        self.of(gene).ok_or_else(|| Error::InvalidInput {
            argument: "gene_pool",
            message: format!("gene {} of a set is not in the pool of genes", gene + 1),
        })
    }

    /// Up to `size` genes from each bin that the set has a gene in, as scanpy draws
    /// them. With `as_reference` genes of the set may be drawn, and are then left out;
    /// without they are left out before.
    ///
    /// What is drawn depends on the seed, the bin and, without `as_reference`, the set:
    /// not on other sets.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a gene outside the pool.
    pub fn draw_by_bin(
        &self,
        set: &[usize],
        size: usize,
        as_reference: bool,
        seed: u64,
    ) -> Result<Controls> {
        let mut own = vec![false; self.of.len()];
        let mut bins = Vec::with_capacity(set.len());
        for &gene in set {
            bins.push(self.need(gene)?);
            own[gene] = true;
        }
        bins.sort_unstable();
        bins.dedup();
        let mut controls = Controls { genes: Vec::new(), empty_bins: Vec::new() };
        for bin in bins {
            let mut found: Vec<usize> =
                self.genes[bin].iter().copied().filter(|&g| as_reference || !own[g]).collect();
            if found.len() > size {
                found.sort_by_key(|&gene| (Rng::new(seed, gene as u64).next_u64(), gene));
                found.truncate(size);
            }
            found.retain(|&gene| !own[gene]);
            if found.is_empty() {
                controls.empty_bins.push(bin);
            }
            controls.genes.extend(found);
        }
        controls.genes.sort_unstable();
        Ok(controls)
    }

    /// `size` genes of its bin for each gene of the set, each taken once in the end, as
    /// Seurat draws them. The draw of a gene depends on the seed and the gene alone.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a gene outside the pool, and for a bin of fewer genes.
    pub fn draw_by_gene(&self, set: &[usize], size: usize, seed: u64) -> Result<Controls> {
        let mut taken = vec![false; self.of.len()];
        for &gene in set {
            let mut bin = self.genes[self.need(gene)?].clone();
            if size > bin.len() {
                return Err(Error::InvalidInput {
                    argument: "ctrl_size",
                    message: format!(
                        "`ctrl_size` is {size}, but a bin of gene means has {} genes",
                        bin.len()
                    ),
                });
            }
            // The streams below are those of the noise.
            let mut rng = Rng::new(seed, (self.of.len() + gene) as u64);
            for at in 0..size {
                let other = at + rng.below((bin.len() - at) as u64) as usize;
                bin.swap(at, other);
                taken[bin[at]] = true;
            }
        }
        let genes = (0..taken.len()).filter(|&gene| taken[gene]).collect();
        Ok(Controls { genes, empty_bins: Vec::new() })
    }
}

/// Genes of the pool whose mean is a number, with it.
fn finite(means: &[f64], pool: &[usize]) -> Vec<(usize, f64)> {
    let with_mean = pool.iter().map(|&gene| (gene, rounded(means[gene])));
    with_mean.filter(|(_, mean)| mean.is_finite()).collect()
}

fn rounded(mean: f64) -> f64 {
    if !mean.is_finite() {
        return mean;
    }
    let half = 1_u64 << (ROUNDING_BITS - 1);
    f64::from_bits((mean.to_bits() + half) & !((1 << ROUNDING_BITS) - 1))
}

/// The quantile `i / n` of sorted values, R's type 7.
fn quantile(sorted: &[f64], i: usize, n: usize) -> f64 {
    let last = sorted.len() - 1;
    let index = if i == n { last as f64 } else { last as f64 * (i as f64 * (1.0 / n as f64)) };
    let low = index.floor();
    let (below, above) = (sorted[low as usize], sorted[(index.ceil() as usize).min(last)]);
    let share = index - low;
    if share > 0.0 { (1.0 - share) * below + share * above } else { below }
}

fn too_many_bins(n_bins: usize, n_genes: usize) -> Error {
    Error::InvalidInput {
        argument: "n_bins",
        message: format!("{n_genes} genes with a mean do not make {n_bins} bins"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(n: usize) -> Vec<usize> {
        (0..n).collect()
    }

    #[test]
    fn ranks_make_bins_as_pandas_does() {
        // pandas 2: s = pd.Series([0, 0, 0, .5, .2, 3, 2, 2, 9, 1])
        // s.rank(method="min") // round(10 / 3)
        let means = [0.0, 0.0, 0.0, 0.5, 0.2, 3.0, 2.0, 2.0, 9.0, 1.0];
        let bins = Bins::by_rank(&means, &all(10), 4).unwrap();
        let found: Vec<usize> = (0..10).map(|g| bins.of(g).unwrap()).collect();
        assert_eq!(found, [0, 0, 0, 1, 1, 3, 2, 2, 3, 2]);
        // Ten genes in five parts of 2.5, which rounds to even.
        let bins = Bins::by_rank(&means, &all(10), 5).unwrap();
        assert_eq!(bins.of(8), Some(5));
    }

    #[test]
    fn means_that_differ_by_rounding_tie() {
        let means = [0.1 + 0.2, 0.3, 0.5, 0.7];
        let bins = Bins::by_rank(&means, &all(4), 5).unwrap();
        assert_eq!(bins.of(0), bins.of(1));
        assert_ne!(bins.of(1), bins.of(2));
    }

    #[test]
    fn genes_without_a_mean_and_outside_the_pool_have_no_bin() {
        let means = [1.0, f64::NAN, 2.0, f64::INFINITY, 3.0];
        let bins = Bins::by_rank(&means, &[0, 1, 2, 3], 2).unwrap();
        let found: Vec<bool> = (0..6).map(|gene| bins.of(gene).is_some()).collect();
        assert_eq!(found, [true, false, true, false, false, false]);
        assert!(bins.draw_by_bin(&[4], 1, true, 0).is_err());
        assert!(bins.draw_by_bin(&[1], 1, true, 0).is_err());
    }

    #[test]
    fn too_few_genes_for_the_bins() {
        assert!(Bins::by_rank(&[1.0, 2.0], &all(2), 25).is_err());
        assert!(Bins::by_rank(&[], &[], 2).is_err());
        assert!(Bins::by_rank(&[1.0, 2.0], &all(2), 1).is_err());
        assert!(Bins::by_quantile(&[1.0; 10], &all(10), 4, 0).is_err());
        assert!(Bins::by_quantile(&[], &[], 4, 0).is_err());
    }

    #[test]
    fn quantiles_are_those_of_r() {
        // R: quantile(c(1, 2, 4, 8, 16), seq(0, 1, length.out = 4))
        let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
        let found: Vec<f64> = (0..4).map(|i| quantile(&sorted, i, 3)).collect();
        for (a, b) in found.iter().zip([1.0, 2.0 + 2.0 / 3.0, 6.0 + 2.0 / 3.0, 16.0]) {
            assert!((a - b).abs() < 1e-12, "{found:?}");
        }
        // findInterval(1:9, quantile(1:9, 0:4 / 4), rightmost.closed = TRUE)
        let means: Vec<f64> = (1..=9).map(f64::from).collect();
        let bins = Bins::by_quantile(&means, &all(9), 4, 1).unwrap();
        let found: Vec<usize> = (0..9).map(|g| bins.of(g).unwrap()).collect();
        assert_eq!(found, [0, 0, 1, 1, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn genes_without_counts_are_spread_over_bins() {
        let means = [0.0; 40];
        let bins = Bins::by_quantile(&means, &all(40), 4, 3).unwrap();
        assert_eq!(bins.genes.iter().map(Vec::len).collect::<Vec<_>>(), [10; 4]);
        assert_ne!(bins, Bins::by_quantile(&means, &all(40), 4, 4).unwrap());
        assert_eq!(bins, Bins::by_quantile(&means, &all(40), 4, 3).unwrap());
    }

    #[test]
    fn draws_by_bin() {
        let means: Vec<f64> = (0..100).map(f64::from).collect();
        // Ranks 1 to 100 in bins of 25: 24 genes, 25, 25, 25, 1.
        let bins = Bins::by_rank(&means, &all(100), 5).unwrap();
        let set = [3, 30, 31];
        let drawn = bins.draw_by_bin(&set, 10, false, 7).unwrap();
        assert_eq!(drawn.genes.len(), 20);
        assert!(drawn.genes.iter().all(|g| !set.contains(g)));
        assert_eq!(drawn.genes.iter().filter(|&&g| bins.of(g) == Some(0)).count(), 10);
        // Those of the set may be drawn, and are gone then.
        let reference = bins.draw_by_bin(&set, 1000, true, 7).unwrap();
        assert_eq!(reference.genes.len(), 24 + 25 - 3);
        // Another seed draws others; another set of the same bins the same.
        assert_ne!(bins.draw_by_bin(&set, 10, false, 8).unwrap(), drawn);
        let other = bins.draw_by_bin(&[5, 40], 10, true, 7).unwrap();
        let common = other.genes.iter().filter(|g| drawn.genes.contains(g)).count();
        assert!(common >= 17, "{common}");
        // The last gene is alone in its bin.
        for as_reference in [true, false] {
            let alone = bins.draw_by_bin(&[99], 10, as_reference, 7).unwrap();
            assert_eq!(alone, Controls { genes: vec![], empty_bins: vec![4] });
        }
    }

    #[test]
    fn draws_by_gene() {
        let means: Vec<f64> = (0..100).map(f64::from).collect();
        let bins = Bins::by_quantile(&means, &all(100), 4, 0).unwrap();
        let one = bins.draw_by_gene(&[3], 10, 7).unwrap().genes;
        assert_eq!(one.len(), 10);
        assert!(one.iter().all(|&g| g < 25));
        let both = bins.draw_by_gene(&[3, 4], 10, 7).unwrap().genes;
        assert!(one.iter().all(|g| both.contains(g)) && both.len() > 10);
        assert_eq!(both, bins.draw_by_gene(&[4, 3], 10, 7).unwrap().genes);
        assert_eq!(bins.draw_by_gene(&[3], 25, 7).unwrap().genes, all(25));
        assert!(bins.draw_by_gene(&[3], 26, 7).is_err());
    }

    #[test]
    fn every_gene_of_a_bin_is_drawn_alike() {
        let means: Vec<f64> = (0..20).map(f64::from).collect();
        let by_gene = Bins::by_quantile(&means, &all(20), 1, 0).unwrap();
        let by_bin = Bins::by_rank(&means, &all(20), 2).unwrap();
        let (mut seen, n) = ([[0_u32; 20]; 2], 4000);
        for seed in 0..n {
            for gene in by_gene.draw_by_gene(&[0], 5, seed).unwrap().genes {
                seen[0][gene] += 1;
            }
            for gene in by_bin.draw_by_bin(&[19], 5, true, seed).unwrap().genes {
                seen[1][gene] += 1;
            }
        }
        // Five of twenty: binomial with mean 1000, six standard deviations are 164.
        assert!(seen[0].iter().all(|&k| k.abs_diff(1000) < 164), "{:?}", seen[0]);
        // The twentieth is alone in the last bin.
        assert!(seen[1].iter().all(|&k| k == 0), "{:?}", seen[1]);
        for seed in 0..n {
            for gene in by_bin.draw_by_bin(&[18], 5, true, seed).unwrap().genes {
                seen[1][gene] += 1;
            }
        }
        assert!(seen[1][..18].iter().all(|&k| k.abs_diff(1053) < 170), "{:?}", seen[1]);
    }
}
