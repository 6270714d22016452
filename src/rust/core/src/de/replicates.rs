//! What the samples of a comparison say one by one: the look behind a test that
//! takes cells for replicates.
//!
//! A cell's sample is part of its label, so sums for every sample and side come
//! from the read that the test makes anyway. A sum without one sample is the
//! merge of the others, never a difference.

use super::combine::Weight;
use super::contrast::{Contrasts, SideValues, all_but_each};
use super::fold_change::{FoldChange, Sums};

/// The samples of one gene in one comparison. Strata (blocks) are taken together.
#[derive(Debug, Clone, PartialEq)]
pub struct Replicates {
    /// Samples of the group with a nonzero value.
    pub n_expressing: u32,
    /// The sample with the largest share of the group's sum before the logarithm;
    /// none where nothing is expressed.
    pub top_sample: Option<u32>,
    /// Its share of that sum.
    pub top_signal: f64,
    /// Its share of the group's cells.
    pub top_cells: f64,
    /// Fraction of the group's samples whose own mean is on the same side of the
    /// mean of the reference as the group's; NaN where these are equal.
    pub sign_agreement: f64,
    /// The log2 fold change nearest to zero, or furthest past it, when the cells
    /// of one sample are left out of both sides; NaN where that leaves none.
    pub worst_log2_fc: f64,
}

/// How samples are told apart in one call.
///
/// Memory: for each sample 8 bytes a side, and for each thread 24 bytes a side and a part.
#[derive(Debug)]
pub struct ReplicatePlan<'c> {
    contrasts: &'c Contrasts,
    fold_change: FoldChange,
    weight: Weight,
    /// Cells of each sample on each side.
    cells: Vec<SideValues<u64>>,
}

/// One thread's memory.
#[derive(Debug, Default)]
pub(super) struct ReplicateWork {
    parts: Vec<Vec<Sums>>,
    sides: Vec<SideValues<Sums>>,
    samples: Vec<Sample>,
    group: Vec<Sums>,
    reference: Vec<Sums>,
    group_others: Vec<Sums>,
    reference_others: Vec<Sums>,
}

/// What is known of a sample in a comparison.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    cells: u64,
    detected: u64,
    signal: f64,
    /// Sum over the group's cells of their distance from the mean of the reference.
    deviation: f64,
    /// Whether it has cells on any side.
    present: bool,
    /// Weights and weighted fold changes of the strata without this sample.
    weight: f64,
    log2_fc: f64,
}

impl<'c> ReplicatePlan<'c> {
    /// Nothing where samples are not told apart.
    pub(super) fn new(
        contrasts: &'c Contrasts,
        fold_change: FoldChange,
        weight: Weight,
    ) -> Option<Self> {
        let n_samples = contrasts.n_samples()?;
        let mut parts = vec![vec![0; contrasts.n_parts()]; n_samples];
        let labels = contrasts.part_of().iter().zip(contrasts.sample_of());
        for ((&part, &sample), &size) in labels.zip(contrasts.groups().sizes()) {
            parts[sample as usize][part as usize] += size;
        }
        let cells = parts.iter().map(|parts| {
            let mut sides = SideValues::default();
            contrasts.sides(parts, 0, |a, b| a + b, &mut sides);
            sides
        });
        Some(ReplicatePlan { contrasts, fold_change, weight, cells: cells.collect() })
    }

    /// Takes what a gene has in each label.
    pub(super) fn add_up(&self, labels: impl Iterator<Item = Sums>, work: &mut ReplicateWork) {
        let contrasts = self.contrasts;
        work.parts.resize(self.cells.len(), Vec::new());
        work.sides.resize(self.cells.len(), SideValues::default());
        for parts in &mut work.parts {
            parts.clear();
            parts.resize(contrasts.n_parts(), Sums::default());
        }
        for ((&part, &sample), sums) in
            contrasts.part_of().iter().zip(contrasts.sample_of()).zip(labels)
        {
            let slot = &mut work.parts[sample as usize][part as usize];
            *slot = slot.and(sums);
        }
        for (parts, sides) in work.parts.iter().zip(&mut work.sides) {
            contrasts.sides(parts, Sums::default(), Sums::and, sides);
        }
    }

    /// The samples of a comparison whose log2 fold change is `log2_fc`.
    pub(super) fn of(
        &self,
        comparison: usize,
        log2_fc: f64,
        work: &mut ReplicateWork,
    ) -> Replicates {
        work.samples.clear();
        work.samples.resize(self.cells.len(), Sample::default());
        for stratum in self.contrasts.comparisons()[comparison].clone() {
            self.add_stratum(stratum, work);
        }
        let own = || work.samples.iter().filter(|sample| sample.cells > 0);
        let total: f64 = own().map(|sample| sample.signal).sum();
        let n_cells: u64 = own().map(|sample| sample.cells).sum();
        let mut top: Option<(usize, &Sample)> = None;
        for (i, sample) in work.samples.iter().enumerate() {
            if sample.detected > 0 && top.is_none_or(|(_, best)| sample.signal > best.signal) {
                top = Some((i, sample));
            }
        }
        let share = |part: f64, whole: f64| if whole == 0.0 { f64::NAN } else { part / whole };
        let deviation: f64 = own().map(|sample| sample.deviation).sum();
        let agree = own().filter(|sample| sample.deviation * deviation > 0.0).count();
        let sign = if log2_fc == 0.0 { 0.0 } else { log2_fc.signum() };
        let left_out = work.samples.iter().filter(|sample| sample.present && sample.weight > 0.0);
        let worst = left_out.map(|sample| sign * (sample.log2_fc / sample.weight)).reduce(f64::min);
        Replicates {
            n_expressing: own().filter(|sample| sample.detected > 0).count() as u32,
            top_sample: top.map(|(i, _)| i as u32),
            top_signal: top.map_or(f64::NAN, |(_, best)| share(best.signal, total)),
            top_cells: top.map_or(f64::NAN, |(_, best)| best.cells as f64 / n_cells as f64),
            sign_agreement: if deviation == 0.0 || log2_fc == 0.0 {
                f64::NAN
            } else {
                agree as f64 / own().count() as f64
            },
            worst_log2_fc: worst.map_or(f64::NAN, |worst| sign * worst + 0.0),
        }
    }

    fn add_stratum(&self, stratum: usize, work: &mut ReplicateWork) {
        let pair = self.contrasts.strata()[stratum];
        let (n_group, n_reference) = self.contrasts.stratum_sizes(stratum);
        work.group.clear();
        work.reference.clear();
        for sides in &work.sides {
            let (group, reference) = sides.pair(pair);
            work.group.push(group);
            work.reference.push(reference);
        }
        let merge = Sums::and;
        all_but_each(&work.group, Sums::default(), merge, &mut work.group_others);
        all_but_each(&work.reference, Sums::default(), merge, &mut work.reference_others);
        let reference_sum: f64 = work.reference.iter().map(|sums| sums.linear).sum();
        let reference_mean = reference_sum / n_reference as f64;
        for (i, sample) in work.samples.iter_mut().enumerate() {
            let (own, other) = self.cells[i].pair(pair);
            sample.cells += own;
            sample.detected += work.group[i].detected;
            sample.signal += work.group[i].linear;
            if own > 0 {
                // Means that are equal as fractions differ by nothing at all.
                let mean = work.group[i].linear / own as f64;
                sample.deviation += own as f64 * (mean - reference_mean);
            }
            sample.present |= own + other > 0;
            let (n, m) = (n_group - own, n_reference - other);
            if n > 0 && m > 0 {
                let group = work.group_others[i].side(n);
                let reference = work.reference_others[i].side(m);
                let weight = self.weight.of(n, m);
                sample.weight += weight;
                sample.log2_fc += weight * self.fold_change.log2(&group, &reference, false);
            }
        }
    }
}
