//! The dispersion methods, as scanpy 1.11.5 has them: Satija et al. (2015) under
//! `flavor = "seurat"` (Seurat's `mean.var.plot`), Zheng et al. (2017) under
//! `"cell_ranger"`.
//!
//! References: Satija, Farrell, Gennert, Schier, Regev (2015) Spatial
//! reconstruction of single-cell gene expression data. Nat. Biotechnol. 33, 495.
//! Zheng et al. (2017) Massively parallel digital transcriptional profiling of
//! single cells. Nat. Commun. 8, 14049.

use std::cmp::Ordering;

use super::bins::{PERCENTILE_BINS, equal_width, median, percentiles};
use crate::stats::log1p::ln_1p;

/// How dispersions are computed and standardised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Logarithms of mean and dispersion; bins of equal width; mean and standard
    /// deviation of a bin.
    Seurat {
        /// Number of bins.
        n_bins: usize,
    },
    /// Bins between percentiles; median and median absolute deviation of a bin.
    CellRanger,
}

/// Bounds on mean and normalised dispersion; a gene lies strictly between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cutoffs {
    /// Least mean.
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
    /// Those with the largest normalised dispersion.
    Top(usize),
    /// Those within bounds; an undefined dispersion counts as zero
    /// and an infinite one as the largest number.
    Within(Cutoffs),
}

impl Cutoffs {
    fn hold(&self, mean: f64, norm: f64) -> bool {
        self.min_mean < mean && mean < self.max_mean && self.min_disp < norm && norm < self.max_disp
    }
}

/// What a method says of every gene.
#[derive(Debug, Clone, PartialEq)]
pub struct VariableGenes {
    /// Means; `ln(1 + mean)` by [`Method::Seurat`].
    pub means: Vec<f64>,
    /// Variance over mean; its logarithm by [`Method::Seurat`], NaN without variance.
    pub dispersions: Vec<f64>,
    /// Dispersions standardised within bins of the mean.
    pub dispersions_norm: Vec<f64>,
    /// Whether the gene is taken.
    pub highly_variable: Vec<bool>,
    /// Rank by falling normalised dispersion, from one; `None` where undefined. Over
    /// batches: by the number of batches first.
    pub rank: Vec<Option<usize>>,
    /// In how many batches the gene was taken; empty without batches.
    pub n_batches: Vec<u32>,
}

/// Selects genes from means and variances. `Top` takes those too that tie with
/// the last.
///
/// # Numerics
/// As scanpy 1.11.5: an all-zero mean becomes 1e-12; bins as `pandas.cut` makes
/// them; by [`Method::Seurat`] a bin with one defined dispersion gives it the value
/// one.
///
/// # Panics
/// If `mean` and `var` differ in length or there are no bins.
#[must_use]
pub fn variable_genes(
    mean: &[f64],
    var: &[f64],
    method: Method,
    selection: Selection,
) -> VariableGenes {
    assert_eq!(mean.len(), var.len(), "one variance per mean");
    let found = Dispersions::of(mean, var, method);
    let order = ranked(&found.norm);
    let mut rank = vec![None; mean.len()];
    for (at, &gene) in order.iter().enumerate() {
        rank[gene] = Some(at + 1);
    }
    VariableGenes {
        highly_variable: found.select(selection, &order),
        means: found.means,
        dispersions: found.values,
        dispersions_norm: found.norm,
        rank,
        n_batches: Vec::new(),
    }
}

/// Selects genes from batch-major means and variances of `n_batches`.
///
/// 1. Genes with a value in a batch are ranked among each other as
///    [`variable_genes`] does; the others have zeros there.
/// 2. Means, dispersions and normalised dispersions are averaged over the batches
///    where they are defined.
/// 3. `Top`: by falling number of batches that took a gene, then falling normalised
///    dispersion, undefined ones last, then by `name_order`; exactly as many as asked
///    for. `Within`: the bounds hold for the averages.
///
/// `name_order[j]` is the place of gene j among all names in alphabetical order.
///
/// # Panics
/// If the lengths do not fit.
#[must_use]
pub fn variable_genes_over_batches(
    mean: &[f64],
    var: &[f64],
    n_batches: usize,
    name_order: &[usize],
    method: Method,
    selection: Selection,
) -> VariableGenes {
    let n_vars = name_order.len();
    assert!(mean.len() == n_batches * n_vars && var.len() == mean.len(), "batches x genes");
    let mut averages = vec![[Average::default(); 3]; n_vars];
    let mut taken = vec![0; n_vars];
    for batch in 0..n_batches {
        let of_batch = batch * n_vars..(batch + 1) * n_vars;
        let (mean, var) = (&mean[of_batch.clone()], &var[of_batch]);
        let expressed: Vec<usize> = (0..n_vars).filter(|&j| mean[j] != 0.0).collect();
        let pick = |values: &[f64]| expressed.iter().map(|&j| values[j]).collect::<Vec<f64>>();
        let found = Dispersions::of(&pick(mean), &pick(var), method);
        let highly_variable = found.select(selection, &ranked(&found.norm));
        for (at, &j) in expressed.iter().enumerate() {
            for (average, values) in
                averages[j].iter_mut().zip([&found.means, &found.values, &found.norm])
            {
                average.push(values[at]);
            }
            taken[j] += u32::from(highly_variable[at]);
        }
        for j in (0..n_vars).filter(|&j| mean[j] == 0.0) {
            for average in &mut averages[j] {
                average.push(0.0);
            }
        }
    }
    let column = |k: usize| averages.iter().map(|a| a[k].value()).collect::<Vec<f64>>();
    let (means, dispersions, mut norm) = (column(0), column(1), column(2));
    let by_batches = |&a: &usize, &b: &usize| {
        (taken[b].cmp(&taken[a]))
            .then_with(|| falling(norm[a], norm[b]))
            .then(name_order[a].cmp(&name_order[b]))
    };
    let mut order: Vec<usize> = (0..n_vars).collect();
    order.sort_by(by_batches);
    let mut rank = vec![None; n_vars];
    let mut highly_variable = vec![false; n_vars];
    for (at, &j) in order.iter().enumerate() {
        rank[j] = (!norm[j].is_nan()).then_some(at + 1);
        highly_variable[j] = matches!(selection, Selection::Top(n_top) if at < n_top);
    }
    if let Selection::Within(bounds) = selection {
        for j in 0..n_vars {
            norm[j] = if norm[j].is_nan() { 0.0 } else { norm[j] };
            highly_variable[j] = bounds.hold(means[j], norm[j]);
        }
    }
    VariableGenes {
        means,
        dispersions,
        dispersions_norm: norm,
        highly_variable,
        rank,
        n_batches: taken,
    }
}

/// The larger first, NaN last.
fn falling(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => b.total_cmp(&a),
        (a_nan, b_nan) => a_nan.cmp(&b_nan),
    }
}

/// Genes with a defined value, by falling value, then in order.
fn ranked(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&j| !values[j].is_nan()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// The dispersions of the genes of one batch.
struct Dispersions {
    means: Vec<f64>,
    values: Vec<f64>,
    norm: Vec<f64>,
}

impl Dispersions {
    fn of(mean: &[f64], var: &[f64], method: Method) -> Self {
        let mut means = Vec::with_capacity(mean.len());
        let mut values = Vec::with_capacity(mean.len());
        for (&mean, &var) in mean.iter().zip(var) {
            let mean = if mean == 0.0 { 1e-12 } else { mean };
            let dispersion = var / mean;
            match method {
                Method::CellRanger => {
                    values.push(dispersion);
                    means.push(mean);
                }
                Method::Seurat { .. } => {
                    let undefined = dispersion == 0.0;
                    values.push(if undefined { f64::NAN } else { libm::log(dispersion) });
                    means.push(ln_1p(mean));
                }
            }
        }
        let norm = match method {
            Method::Seurat { n_bins } => {
                assert!(n_bins > 0, "at least one bin");
                by_mean_and_deviation(&values, &equal_width(&means, n_bins), n_bins)
            }
            Method::CellRanger => by_median(&values, &percentiles(&means)),
        };
        Dispersions { means, values, norm }
    }

    fn select(&self, selection: Selection, order: &[usize]) -> Vec<bool> {
        match selection {
            Selection::Top(n_top) => {
                let last = n_top.min(order.len()).checked_sub(1).map(|at| self.norm[order[at]]);
                self.norm.iter().map(|d| last.is_some_and(|last| *d >= last)).collect()
            }
            Selection::Within(bounds) => self
                .means
                .iter()
                .zip(&self.norm)
                .map(|(&mean, &norm)| {
                    let norm = if norm.is_nan() { 0.0 } else { norm.clamp(f64::MIN, f64::MAX) };
                    bounds.hold(mean, norm)
                })
                .collect(),
        }
    }
}

/// Subtracts the mean of the gene's bin and divides by its standard deviation.
fn by_mean_and_deviation(dispersions: &[f64], bins: &[usize], n_bins: usize) -> Vec<f64> {
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

/// The median absolute deviation of a standard normal variable.
const NORMAL_MAD: f64 = 0.674_489_750_196_081_7;

/// Subtracts the median of the gene's bin and divides by its median absolute
/// deviation. Where that is zero, so are the median's own genes undefined and the
/// others infinite.
fn by_median(dispersions: &[f64], bins: &[usize]) -> Vec<f64> {
    let mut of_bin = vec![Vec::new(); PERCENTILE_BINS];
    for (&x, &bin) in dispersions.iter().zip(bins) {
        if !x.is_nan() {
            of_bin[bin].push(x);
        }
    }
    let centres: Vec<(f64, f64)> = of_bin
        .into_iter()
        .map(|mut values| {
            let centre = median(&mut values);
            for x in &mut values {
                *x = (*x - centre).abs() / NORMAL_MAD;
            }
            (centre, median(&mut values))
        })
        .collect();
    let norm = |(&x, &bin): (&f64, &usize)| (x - centres[bin].0) / centres[bin].1;
    dispersions.iter().zip(bins).map(norm).collect()
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

/// The mean of defined values; sums are compensated, as pandas does.
#[derive(Clone, Copy, Default)]
struct Average {
    n: u32,
    sum: f64,
    lost: f64,
}

impl Average {
    fn push(&mut self, x: f64) {
        if x.is_nan() {
            return;
        }
        self.n += 1;
        let y = x - self.lost;
        let sum = self.sum + y;
        self.lost = (sum - self.sum) - y;
        if self.lost.is_nan() {
            self.lost = 0.0;
        }
        self.sum = sum;
    }

    fn value(&self) -> f64 {
        self.sum / f64::from(self.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEURAT: Method = Method::Seurat { n_bins: 20 };

    fn all_but(min_disp: f64, max_disp: f64) -> Selection {
        Selection::Within(Cutoffs { min_mean: -1.0, max_mean: 3.0, min_disp, max_disp })
    }

    #[test]
    fn a_bin_of_one_gives_one() {
        let norm = by_mean_and_deviation(&[2.0, 1.0, 3.0, f64::NAN, -4.0], &[0, 1, 1, 1, 2], 4);
        assert_eq!(norm[0].to_bits(), 1.0_f64.to_bits());
        assert_eq!(norm[4].to_bits(), 1.0_f64.to_bits());
        assert!((norm[1] + 0.5_f64.sqrt()).abs() < 1e-15);
        assert!((norm[2] - 0.5_f64.sqrt()).abs() < 1e-15);
        assert!(norm[3].is_nan());
    }

    #[test]
    fn medians_of_bins() {
        let norm = by_median(&[1.0, 2.0, 4.0, 5.0, 5.0, 7.0, 9.0], &[0, 0, 0, 1, 1, 1, 2]);
        // Deviations 1, 0, 2 from the median 2.
        assert!((norm[0] + NORMAL_MAD).abs() < 1e-15);
        assert!((norm[2] - 2.0 * NORMAL_MAD).abs() < 1e-15);
        // Deviations 0, 0, 2: no spread.
        assert!(norm[3].is_nan() && norm[5].is_infinite() && norm[6].is_nan());
    }

    #[test]
    fn ties_with_the_last_are_taken() {
        // Every gene is alone in its bin, so that all are one.
        let (mean, var) = ([1.0, 10.0, 100.0], [2.0, 30.0, 400.0]);
        let taken = |n| variable_genes(&mean, &var, SEURAT, Selection::Top(n));
        let got = taken(1);
        assert_eq!(got.highly_variable, [true; 3]);
        assert_eq!(got.rank, [Some(1), Some(2), Some(3)]);
        assert_eq!(taken(0).highly_variable, [false; 3]);
        assert_eq!(taken(9).highly_variable, [true; 3]);
    }

    #[test]
    fn genes_without_counts_or_variance_are_never_taken() {
        let (mean, var) = ([0.0, 2.0, 2.1, 2.2, 0.0], [0.0, 0.0, 3.0, 8.0, 0.0]);
        let got = variable_genes(&mean, &var, Method::Seurat { n_bins: 1 }, Selection::Top(5));
        assert_eq!(got.highly_variable, [false, false, true, true, false]);
        assert_eq!(got.rank, [None, None, Some(2), Some(1), None]);
        assert!(got.dispersions[0].is_nan() && got.dispersions_norm[1].is_nan());
        assert!((got.means[0] - 1e-12).abs() < 1e-20);
        let got = variable_genes(&mean, &var, Method::CellRanger, Selection::Top(5));
        assert!(!got.highly_variable[0] && got.dispersions[0] == 0.0);
        assert!((got.means[3] - 2.2).abs() < 1e-15);
    }

    #[test]
    fn cutoffs_are_strict_and_undefined_counts_as_zero() {
        let (mean, var) = ([1.0, 1.1, 1.2, 0.0], [1.0, 2.0, 9.0, 0.0]);
        let one = Method::Seurat { n_bins: 1 };
        let within = |min, max| variable_genes(&mean, &var, one, all_but(min, max)).highly_variable;
        assert_eq!(within(0.5, f64::INFINITY), [false, false, true, false]);
        assert_eq!(within(-0.1, 0.1), [false, false, false, true]);
    }

    #[test]
    fn no_genes() {
        for method in [SEURAT, Method::CellRanger] {
            let got = variable_genes(&[], &[], method, Selection::Top(10));
            assert!(got.means.is_empty() && got.highly_variable.is_empty());
            let got = variable_genes_over_batches(&[], &[], 2, &[], method, Selection::Top(10));
            assert!(got.n_batches.is_empty());
        }
    }

    #[test]
    fn one_batch_is_the_whole_where_all_genes_have_values() {
        let mean: Vec<f64> = (1..60).map(|j| 0.1 * f64::from(j)).collect();
        let var: Vec<f64> = (1..60).map(|j| 0.2 + f64::from(j * 37 % 59)).collect();
        let names: Vec<usize> = (0..59).rev().collect();
        for method in [SEURAT, Method::CellRanger] {
            for selection in [Selection::Top(12), all_but(0.5, 9.0)] {
                let whole = variable_genes(&mean, &var, method, selection);
                let got = variable_genes_over_batches(&mean, &var, 1, &names, method, selection);
                assert_eq!(got.highly_variable, whole.highly_variable);
                assert_eq!(got.means, whole.means);
                let taken: Vec<bool> = got.n_batches.iter().map(|&n| n == 1).collect();
                assert_eq!(taken, whole.highly_variable);
            }
        }
    }

    #[test]
    fn batches_count_before_dispersions_and_names_settle_ties() {
        // Gene 0 is taken in both batches, 1 and 2 alike in one, 3 has no value.
        let mean = [1.0, 1.1, 1.1, 0.0, 1.0, 0.0, 0.0, 0.0];
        let var = [9.0, 9.0, 9.0, 0.0, 2.0, 0.0, 0.0, 0.0];
        let method = Method::Seurat { n_bins: 1 };
        let of = |names: &[usize]| {
            variable_genes_over_batches(&mean, &var, 2, names, method, Selection::Top(2))
        };
        let got = of(&[0, 1, 2, 3]);
        assert_eq!(got.n_batches[0], 2);
        assert_eq!(got.highly_variable, [true, true, false, false]);
        assert_eq!(of(&[0, 2, 1, 3]).highly_variable, [true, false, true, false]);
        assert_eq!(got.means[3], 0.0);
        assert!((got.means[1] - 0.5 * 1.1_f64.ln_1p()).abs() < 1e-15);
    }

    #[test]
    fn averages_leave_out_what_is_undefined() {
        let mut average = Average::default();
        assert!(average.value().is_nan());
        for x in [1.0, f64::NAN, 1e-17, 2.0] {
            average.push(x);
        }
        assert!((average.value() - 1.0).abs() < 1e-15);
        average.push(f64::INFINITY);
        assert!(average.value().is_infinite());
    }
}
