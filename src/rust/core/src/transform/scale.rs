//! Standardising genes without making the matrix dense.
//!
//! A standardised, clipped value is `z = c_j + s_ij`: `c_j` is what a zero of
//! gene `j` becomes, `s_ij` is nonzero only where the matrix is. Blocks carry
//! `s`; `c` is [`ScaleGenes::background`].

use serde::{Deserialize, Serialize};

use crate::matrix::RowBlock;

/// Centre, scale and clip by gene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleGenes {
    /// Mean of each gene.
    pub mean: Vec<f64>,
    /// Standard deviation of each gene; zero counts as one.
    pub sd: Vec<f64>,
    /// Whether means are subtracted.
    pub zero_center: bool,
    /// Values are clipped to this (and, when centred, to its negative).
    pub max_value: Option<f64>,
}

impl ScaleGenes {
    /// What the value `x` of gene `gene` becomes.
    #[must_use]
    pub fn value(&self, gene: usize, x: f64) -> f64 {
        let sd = if self.sd[gene] == 0.0 { 1.0 } else { self.sd[gene] };
        let z = if self.zero_center { (x - self.mean[gene]) / sd } else { x / sd };
        match self.max_value {
            Some(max) if z > max => max,
            Some(max) if self.zero_center && z < -max => -max,
            _ => z,
        }
    }

    /// What a zero of each gene becomes.
    #[must_use]
    pub fn background(&self) -> Vec<f64> {
        (0..self.mean.len()).map(|gene| self.value(gene, 0.0)).collect()
    }

    pub(crate) fn apply(&self, background: &[f64], block: &mut RowBlock) {
        for (gene, x) in block.indices.iter().zip(&mut block.values) {
            let gene = *gene as usize;
            *x = self.value(gene, *x) - background[gene];
        }
    }
}
