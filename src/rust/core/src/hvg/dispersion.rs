//! The dispersion method of Satija et al. (2015), as Seurat's `mean.var.plot`
//! and as scanpy 1.11.5 has it under `flavor = "seurat"`.
//!
//! Reference: Satija, Farrell, Gennert, Schier, Regev (2015) Spatial
//! reconstruction of single-cell gene expression data. Nat. Biotechnol. 33, 495.

use crate::stats::log1p::ln_1p;

/// Bounds on mean and normalised dispersion; a gene lies strictly between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cutoffs {
    /// Least mean (as a logarithm of one plus the mean).
    pub min_mean: f64,
    /// Largest mean.
    pub max_mean: f64,
    /// Least normalised dispersion.
    pub min_disp: f64,
    /// Largest normalised dispersion.
    pub max_disp: f64,
}

/// Which genes are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection {
    /// Those with the largest normalised dispersion; ties with the last of them
    /// are taken too.
    Top(usize),
    /// Those within bounds; an undefined dispersion counts as zero
    /// and an infinite one as the largest number.
    Within(Cutoffs),
}

/// What the method says of every gene.
#[derive(Debug, Clone, PartialEq)]
pub struct VariableGenes {
    /// `ln(1 + mean)`.
    pub means: Vec<f64>,
    /// `ln(variance / mean)`; NaN without variance.
    pub dispersions: Vec<f64>,
    /// Dispersions standardised within bins of the mean.
    pub dispersions_norm: Vec<f64>,
    /// Whether the gene is taken.
    pub highly_variable: Vec<bool>,
    /// Rank by falling normalised dispersion, from one; `None` where undefined.
    pub rank: Vec<Option<usize>>,
}

/// Selects genes from means and variances of normalised values that are not
/// logarithms.
///
/// # Numerics
/// As scanpy 1.11.5: an all-zero mean becomes 1e-12; bins as `pandas.cut` makes
/// them; a bin with one defined dispersion gives it the value one.
///
/// # Panics
/// If `mean` and `var` differ in length or `n_bins` is zero.
#[must_use]
pub fn seurat(mean: &[f64], var: &[f64], n_bins: usize, selection: Selection) -> VariableGenes {
    assert_eq!(mean.len(), var.len(), "one variance per mean");
    assert!(n_bins > 0, "at least one bin");
    let mut means = Vec::with_capacity(mean.len());
    let mut dispersions = Vec::with_capacity(mean.len());
    for (&mean, &var) in mean.iter().zip(var) {
        let mean = if mean == 0.0 { 1e-12 } else { mean };
        let dispersion = var / mean;
        dispersions.push(if dispersion == 0.0 { f64::NAN } else { libm::log(dispersion) });
        means.push(ln_1p(mean));
    }
    let dispersions_norm = standardize(&dispersions, &bin(&means, n_bins), n_bins);
    let order = ranked(&dispersions_norm);
    let mut rank = vec![None; means.len()];
    for (at, &gene) in order.iter().enumerate() {
        rank[gene] = Some(at + 1);
    }
    let highly_variable = match selection {
        Selection::Top(n_top) => {
            let last = n_top.min(order.len()).checked_sub(1).map(|at| dispersions_norm[order[at]]);
            dispersions_norm.iter().map(|d| last.is_some_and(|last| *d >= last)).collect()
        }
        Selection::Within(bounds) => means
            .iter()
            .zip(&dispersions_norm)
            .map(|(&mean, &norm)| {
                let norm = if norm.is_nan() { 0.0 } else { norm.clamp(f64::MIN, f64::MAX) };
                bounds.min_mean < mean
                    && mean < bounds.max_mean
                    && bounds.min_disp < norm
                    && norm < bounds.max_disp
            })
            .collect(),
    };
    VariableGenes { means, dispersions, dispersions_norm, highly_variable, rank }
}

/// Genes with a defined value, by falling value, then in order.
fn ranked(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&j| !values[j].is_nan()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// The bin of each value: `n_bins` of equal width, closed on the right; the
/// first edge lies 0.1 % of the width of all below the least value.
fn bin(values: &[f64], n_bins: usize) -> Vec<usize> {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (from, to) = if least < largest {
        (least, largest)
    } else {
        let margin = if least == 0.0 { 0.001 } else { 0.001 * least.abs() };
        (least - margin, largest + margin)
    };
    let step = (to - from) / n_bins as f64;
    let mut edges: Vec<f64> = (0..=n_bins).map(|i| i as f64 * step + from).collect();
    edges[n_bins] = to;
    if least < largest {
        edges[0] -= (to - from) * 0.001;
    }
    values.iter().map(|&x| edges.partition_point(|&edge| edge < x).clamp(1, n_bins) - 1).collect()
}

/// Subtracts the mean of the gene's bin and divides by its standard deviation.
fn standardize(dispersions: &[f64], bins: &[usize], n_bins: usize) -> Vec<f64> {
    let mut of_bin = vec![Welford::default(); n_bins];
    for (&x, &bin) in dispersions.iter().zip(bins) {
        if !x.is_nan() {
            of_bin[bin].push(x);
        }
    }
    dispersions
        .iter()
        .zip(bins)
        .map(|(&x, &bin)| match of_bin[bin].n {
            // One defined dispersion has no deviation: it becomes one.
            0 | 1 => x / of_bin[bin].mean,
            _ => (x - of_bin[bin].mean) / of_bin[bin].sd(),
        })
        .collect()
}

/// Mean and deviation of the few hundred genes of a bin.
#[derive(Clone, Copy, Default)]
struct Welford {
    n: u64,
    mean: f64,
    m2: f64,
}

impl Welford {
    fn push(&mut self, x: f64) {
        self.n += 1;
        let delta = x - self.mean;
        self.mean += delta / self.n as f64;
        self.m2 += delta * (x - self.mean);
    }

    fn sd(&self) -> f64 {
        (self.m2 / (self.n - 1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_those_of_pandas() {
        // pandas 2: pd.cut([0, 1, 2, 2.5, 3, 4], bins=4).codes
        assert_eq!(bin(&[0.0, 1.0, 2.0, 2.5, 3.0, 4.0], 4), [0, 0, 1, 2, 2, 3]);
        // pd.cut([5, 5], bins=3).codes
        assert_eq!(bin(&[5.0, 5.0], 3), [1, 1]);
        // pd.cut([0, 0], bins=2).codes
        assert_eq!(bin(&[0.0, 0.0], 2), [0, 0]);
        assert_eq!(bin(&[], 2), Vec::<usize>::new());
    }

    #[test]
    fn a_bin_of_one_gives_one() {
        let norm = standardize(&[2.0, 1.0, 3.0, f64::NAN, -4.0], &[0, 1, 1, 1, 2], 4);
        assert_eq!(norm[0].to_bits(), 1.0_f64.to_bits());
        assert_eq!(norm[4].to_bits(), 1.0_f64.to_bits());
        assert!((norm[1] + 0.5_f64.sqrt()).abs() < 1e-15);
        assert!((norm[2] - 0.5_f64.sqrt()).abs() < 1e-15);
        assert!(norm[3].is_nan());
    }

    #[test]
    fn ties_with_the_last_are_taken() {
        // Every gene is alone in its bin, so that all are one.
        let (mean, var) = ([1.0, 10.0, 100.0], [2.0, 30.0, 400.0]);
        let got = seurat(&mean, &var, 20, Selection::Top(1));
        assert_eq!(got.highly_variable, [true; 3]);
        assert_eq!(got.rank, [Some(1), Some(2), Some(3)]);
        assert_eq!(seurat(&mean, &var, 20, Selection::Top(0)).highly_variable, [false; 3]);
        assert_eq!(seurat(&mean, &var, 20, Selection::Top(9)).highly_variable, [true; 3]);
    }

    #[test]
    fn genes_without_counts_or_variance_are_never_taken() {
        let (mean, var) = ([0.0, 2.0, 2.1, 2.2, 0.0], [0.0, 0.0, 3.0, 8.0, 0.0]);
        let got = seurat(&mean, &var, 1, Selection::Top(5));
        assert_eq!(got.highly_variable, [false, false, true, true, false]);
        assert_eq!(got.rank, [None, None, Some(2), Some(1), None]);
        assert!(got.dispersions[0].is_nan() && got.dispersions_norm[1].is_nan());
        assert!((got.means[0] - 1e-12).abs() < 1e-20);
    }

    #[test]
    fn cutoffs_are_strict_and_undefined_counts_as_zero() {
        let (mean, var) = ([1.0, 1.1, 1.2, 0.0], [1.0, 2.0, 9.0, 0.0]);
        let within = |min_disp, max_disp| {
            let bounds = Cutoffs { min_mean: -1.0, max_mean: 3.0, min_disp, max_disp };
            seurat(&mean, &var, 1, Selection::Within(bounds)).highly_variable
        };
        assert_eq!(within(0.5, f64::INFINITY), [false, false, true, false]);
        assert_eq!(within(-0.1, 0.1), [false, false, false, true]);
    }

    #[test]
    fn no_genes() {
        let got = seurat(&[], &[], 20, Selection::Top(10));
        assert!(got.means.is_empty() && got.highly_variable.is_empty());
    }
}
