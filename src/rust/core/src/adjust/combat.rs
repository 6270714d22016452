//! `ComBat`: batches brought to a common mean and variance, with parameters shrunk towards
//! those of all genes (Johnson, Li & Rabinovic 2007), as in scanpy's `combat()`.
//!
//! Everything follows from the [`Fit`] of batches and covariates with products by group.
//! Memory: about 80 bytes for each gene and batch.

use super::basis::DesignBasis;
use super::fit::Fit;
use crate::error::{Error, Result};

/// The search of a batch ends when no parameter grows by more than this share of itself.
const CONVERGED: f64 = 1e-4;
/// Steps at most; some ten suffice.
const MOST_STEPS: usize = 100_000;
/// A gene whose variance within batches is this share of its mean square or less does not
/// vary: what is left is rounding.
const ROUNDING: f64 = 1e-13;

/// The numbers of the operation, a gene beside the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Combat {
    /// Slope of each column of the basis.
    pub coefficients: Vec<f64>,
    /// Factor of each batch.
    pub scale: Vec<f64>,
    /// What each batch adds.
    pub offset: Vec<f64>,
    /// Genes that do not vary; they take no part.
    pub n_constant: usize,
}

/// A gene's numbers over all batches.
struct Gene {
    number: usize,
    sd: f64,
    slopes: Vec<f64>,
}

/// Finds the parameters from the fit of `n_vars` genes by batch.
///
/// # Errors
/// [`Error::InvalidInput`] where fewer than two genes vary or a batch has one cell,
/// [`Error::InvalidValues`] where values are not finite.
///
/// # Numerics
/// Variances of batches come from sums that are centred within the batch. As the original,
/// a step's change is taken with the sign of the old value.
pub fn combat(fit: &Fit, basis: &DesignBasis, n_vars: usize) -> Result<Combat> {
    let (n_batches, p) = (basis.sizes.len(), basis.between.len());
    if basis.sizes.iter().any(|&n| n < 2) {
        return Err(invalid("a batch has fewer than two cells"));
    }
    if fit.mean.iter().chain(&fit.squares).chain(&fit.products).any(|x| !x.is_finite()) {
        let message = "the matrix has values that are NaN or infinite".to_owned();
        return Err(Error::InvalidValues { message });
    }
    let n = basis.sizes.iter().sum::<u64>() as f64;
    let mut found = Combat {
        coefficients: vec![0.0; p * n_vars],
        scale: vec![1.0; n_batches * n_vars],
        offset: vec![0.0; n_batches * n_vars],
        n_constant: 0,
    };
    let mut genes = Vec::new();
    for number in 0..n_vars {
        let at = |batch: usize| batch * n_vars + number;
        let product = |batch: usize, c: usize| fit.products[(batch * p + c) * n_vars + number];
        let slopes: Vec<f64> =
            (0..p).map(|c| (0..n_batches).map(|b| product(b, c)).sum()).collect();
        let within: f64 = (0..n_batches).map(|b| fit.squares[at(b)]).sum();
        let explained: f64 = slopes.iter().map(|b| b * b).sum();
        let mean_square = (within
            + (0..n_batches).map(|b| basis.sizes[b] as f64 * fit.mean[at(b)].powi(2)).sum::<f64>())
            / n;
        let variance = ((within - explained) / n).max(0.0);
        if variance <= ROUNDING * mean_square {
            found.n_constant += 1;
            found.level(fit, basis, n_vars, number, &slopes);
        } else {
            genes.push(Gene { number, sd: variance.sqrt(), slopes });
        }
    }
    if genes.len() < 2 {
        return Err(invalid("fewer than two genes vary within batches"));
    }
    for gene in &genes {
        for (c, slope) in gene.slopes.iter().enumerate() {
            found.coefficients[c * n_vars + gene.number] = *slope;
        }
    }
    for batch in 0..n_batches {
        found.adjust(fit, basis, n_vars, &genes, batch)?;
    }
    Ok(found)
}

impl Combat {
    /// A gene that does not vary within batches takes the mean that all share.
    fn level(
        &mut self,
        fit: &Fit,
        basis: &DesignBasis,
        n_vars: usize,
        gene: usize,
        slopes: &[f64],
    ) {
        let means: Vec<f64> =
            (0..basis.sizes.len()).map(|batch| fit.mean[batch * n_vars + gene]).collect();
        if means.iter().all(|mean| mean.to_bits() == means[0].to_bits()) {
            return;
        }
        for (c, slope) in slopes.iter().enumerate() {
            self.coefficients[c * n_vars + gene] = *slope;
        }
        for batch in 0..means.len() {
            self.scale[batch * n_vars + gene] = 0.0;
            self.offset[batch * n_vars + gene] = level(fit, basis, n_vars, gene, slopes, batch);
        }
    }

    /// Parameters of one batch.
    fn adjust(
        &mut self,
        fit: &Fit,
        basis: &DesignBasis,
        n_vars: usize,
        genes: &[Gene],
        batch: usize,
    ) -> Result<()> {
        let n = basis.sizes[batch] as f64;
        let levels: Vec<f64> = genes
            .iter()
            .map(|gene| level(fit, basis, n_vars, gene.number, &gene.slopes, batch))
            .collect();
        let (mut means, mut squares) = (Vec::new(), Vec::new());
        for (gene, level) in genes.iter().zip(&levels) {
            let at = batch * n_vars + gene.number;
            means.push((fit.mean[at] - level) / gene.sd);
            squares.push(left_over(fit, basis, n_vars, gene, batch) / (gene.sd * gene.sd));
        }
        let (gamma, delta) = shrink(&means, &squares, n)?;
        for (k, (gene, level)) in genes.iter().zip(&levels).enumerate() {
            let at = batch * n_vars + gene.number;
            let scale = 1.0 / delta[k].sqrt();
            self.scale[at] = scale;
            self.offset[at] = (1.0 - scale) * level - scale * gene.sd * gamma[k];
        }
        Ok(())
    }
}

/// The mean of all cells, moved to where the covariates of the batch are.
fn level(
    fit: &Fit,
    basis: &DesignBasis,
    n_vars: usize,
    gene: usize,
    slopes: &[f64],
    batch: usize,
) -> f64 {
    let n = basis.sizes.iter().sum::<u64>() as f64;
    let all: f64 = basis
        .sizes
        .iter()
        .enumerate()
        .map(|(b, &size)| size as f64 * fit.mean[b * n_vars + gene])
        .sum::<f64>()
        / n;
    all + slopes.iter().zip(&basis.between).map(|(slope, means)| slope * means[batch]).sum::<f64>()
}

/// Sum of squares within a batch that the covariates do not explain.
fn left_over(fit: &Fit, basis: &DesignBasis, n_vars: usize, gene: &Gene, batch: usize) -> f64 {
    let p = gene.slopes.len();
    let mut left = fit.squares[batch * n_vars + gene.number];
    let square = &basis.products[batch * p * p..(batch + 1) * p * p];
    for (c, slope) in gene.slopes.iter().enumerate() {
        left -= 2.0 * slope * fit.products[(batch * p + c) * n_vars + gene.number];
        let row = &square[c * p..(c + 1) * p];
        left += slope * row.iter().zip(&gene.slopes).map(|(q, b)| q * b).sum::<f64>();
    }
    left.max(0.0)
}

/// Posterior means of the additive and multiplicative effects of a batch of `n` cells, from
/// the mean and the sum of squared deviations of every standardised gene.
fn shrink(means: &[f64], squares: &[f64], n: f64) -> Result<(Vec<f64>, Vec<f64>)> {
    let count = means.len() as f64;
    let average = |values: &[f64]| values.iter().sum::<f64>() / count;
    let spread = |values: &[f64], mean: f64| values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    let variances: Vec<f64> = squares.iter().map(|s| s / (n - 1.0)).collect();
    let (gamma_mean, m) = (average(means), average(&variances));
    let t2 = spread(means, gamma_mean) / count;
    let s2 = spread(&variances, m) / (count - 1.0);
    let (a, b) = ((2.0 * s2 + m * m) / s2, (m * s2 + m * m * m) / s2);
    let (mut gamma, mut delta) = (means.to_vec(), variances);
    for _ in 0..MOST_STEPS {
        let mut change = 0.0f64;
        for gene in 0..means.len() {
            let (old_gamma, old_delta) = (gamma[gene], delta[gene]);
            let new = (t2 * n * means[gene] + old_delta * gamma_mean) / (t2 * n + old_delta);
            let sum2 = squares[gene] + n * (means[gene] - new).powi(2);
            // Without spread between genes the prior is a point.
            let spread = if s2 > 0.0 { (0.5 * sum2 + b) / (n / 2.0 + a - 1.0) } else { m };
            let share = |new: f64, old: f64| (new - old).abs() / old;
            change = change.max(share(new, old_gamma)).max(share(spread, old_delta));
            (gamma[gene], delta[gene]) = (new, spread);
        }
        if change <= CONVERGED {
            return Ok((gamma, delta));
        }
    }
    Err(invalid("the search for the parameters of a batch does not converge"))
}

fn invalid(message: &str) -> Error {
    Error::InvalidInput { argument: "batch", message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adjust::FitPass;
    use crate::matrix::RowBlock;
    use crate::pass::Pass;
    use crate::stats::random::Rng;
    use crate::transform::{Adjust, Chain, Op, View, ViewScratch};

    const N: usize = 60;
    const G: usize = 25;

    /// Two batches apart in mean and spread; gene 3 is constant, gene 4 within batches.
    fn values() -> (Vec<Vec<f64>>, Vec<u32>, Vec<f64>) {
        let mut rng = Rng::new(11, 0);
        let batches: Vec<u32> = (0..N as u32).map(|i| u32::from(i % 3 == 0)).collect();
        let age: Vec<f64> = (0..N).map(|_| rng.uniform()).collect();
        let rows = (0..N)
            .map(|i| {
                let b = f64::from(batches[i]);
                (0..G)
                    .map(|j| match j {
                        3 => 2.5,
                        4 => 1.0 + b,
                        _ => {
                            let noise = rng.uniform() + rng.uniform() - 1.0;
                            2.0 + j as f64 / 9.0 + age[i] + b * (0.4 + noise) + noise
                        }
                    })
                    .collect()
            })
            .collect();
        (rows, batches, age)
    }

    /// scanpy's steps on the dense matrix, its covariate taken as it is.
    fn dense(rows: &[Vec<f64>], batches: &[u32], age: &[f64], gene: &[usize]) -> Vec<Vec<f64>> {
        let sizes: Vec<f64> =
            (0..2).map(|b| batches.iter().filter(|x| **x == b).count() as f64).collect();
        let of = |b: u32| (0..N).filter(move |&i| batches[i] == b);
        let mean_age: Vec<f64> =
            (0..2).map(|b| of(b).map(|i| age[i]).sum::<f64>() / sizes[b as usize]).collect();
        let mut z = vec![vec![0.0; gene.len()]; N];
        let mut stand = z.clone();
        let mut sds = Vec::new();
        for (k, &j) in gene.iter().enumerate() {
            let means: Vec<f64> = (0..2)
                .map(|b| of(b).map(|i| rows[i][j]).sum::<f64>() / sizes[b as usize])
                .collect();
            let (mut cross, mut square) = (0.0, 0.0);
            for i in 0..N {
                let b = batches[i] as usize;
                cross += (age[i] - mean_age[b]) * (rows[i][j] - means[b]);
                square += (age[i] - mean_age[b]).powi(2);
            }
            let slope = cross / square;
            let hat: Vec<f64> = (0..2).map(|b| means[b] - slope * mean_age[b]).collect();
            let grand = (sizes[0] * hat[0] + sizes[1] * hat[1]) / N as f64;
            let rss: f64 = (0..N)
                .map(|i| (rows[i][j] - hat[batches[i] as usize] - slope * age[i]).powi(2))
                .sum();
            let sd = (rss / N as f64).sqrt();
            sds.push(sd);
            for i in 0..N {
                stand[i][k] = grand + slope * age[i];
                z[i][k] = (rows[i][j] - stand[i][k]) / sd;
            }
        }
        let mut out = z.clone();
        for b in 0..2u32 {
            let n = sizes[b as usize];
            let hat: Vec<f64> =
                (0..gene.len()).map(|k| of(b).map(|i| z[i][k]).sum::<f64>() / n).collect();
            let squares: Vec<f64> =
                (0..gene.len()).map(|k| of(b).map(|i| (z[i][k] - hat[k]).powi(2)).sum()).collect();
            let (gamma, delta) = shrink(&hat, &squares, n).unwrap();
            for i in of(b) {
                for k in 0..gene.len() {
                    out[i][k] = (z[i][k] - gamma[k]) / delta[k].sqrt() * sds[k] + stand[i][k];
                }
            }
        }
        out
    }

    #[test]
    fn adjusted_values_are_those_of_the_dense_steps() {
        let (rows, batches, age) = values();
        let basis = DesignBasis::new(std::slice::from_ref(&age), &batches, 2, N).unwrap();
        let pass = FitPass::new(G, &batches, &basis, true);
        let block = RowBlock {
            indptr: (0..=N).map(|i| i * G).collect(),
            indices: (0..N).flat_map(|_| 0..G as u32).collect(),
            values: rows.concat(),
            linear: Vec::new(),
            rows: (0..N).collect(),
        };
        let mut partial = pass.empty();
        pass.fold(&block, &mut partial).unwrap();
        let found = combat(&pass.finish(&partial), &basis, G).unwrap();
        assert_eq!(found.n_constant, 2);
        let adjust = Adjust {
            n_columns: 1,
            design: basis.rows.clone(),
            coefficients: found.coefficients,
            groups: batches.clone(),
            offset: found.offset,
            scale: Some(found.scale),
        };
        let chain = Chain { ops: vec![Op::Adjust(adjust)], stored_log: None };
        let view = View::new(N, G, None, &chain).unwrap();
        let mut got = Vec::new();
        view.apply(&mut block.clone(), &mut ViewScratch::default(), 100, |piece| {
            got.extend_from_slice(&piece.values);
            Ok(())
        })
        .unwrap();
        let varying: Vec<usize> = (0..G).filter(|j| ![3, 4].contains(j)).collect();
        let want = dense(&rows, &batches, &age, &varying);
        for i in 0..N {
            for (k, &j) in varying.iter().enumerate() {
                assert!((got[i * G + j] - want[i][k]).abs() < 1e-10, "cell {i}, gene {j}");
            }
            assert_eq!(got[i * G + 3], 2.5, "a constant gene stays");
            // 40 cells have 1, 20 have 2.
            assert!((got[i * G + 4] - 4.0 / 3.0).abs() < 1e-12, "batches take one mean");
        }
    }

    #[test]
    fn small_batches_and_too_few_genes_are_refused() {
        let basis = |sizes: Vec<u64>| DesignBasis {
            sizes,
            rows: vec![],
            between: vec![],
            products: vec![],
        };
        let fit = Fit { mean: vec![0.0; 2], squares: vec![1.0; 2], products: vec![] };
        assert!(combat(&fit, &basis(vec![4, 1]), 1).is_err());
        assert!(combat(&fit, &basis(vec![4, 4]), 1).is_err());
    }
}
