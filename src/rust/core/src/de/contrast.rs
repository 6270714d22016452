//! What is compared with what.
//!
//! Cells carry *units*: the finest groups that a call needs. A comparison is one
//! [`Stratum`], or several that are combined (blocks); a stratum names the units
//! of its two sides. Group against rest, against another group, set against set,
//! conditions within every cell type: all are strata.
//!
//! Problem: two thousand groups against their rest name four million units, and
//! no gene may cost that. Solution: units that no comparison tells apart become
//! one *part*; the sides of all strata are kept once each, and a side that is
//! all but one part of its *universe* (both sides together) is not a list at
//! all: [`all_but_each`] gives all such sides of a universe in two sweeps.

use std::collections::HashMap;
use std::ops::Range;

use super::groups::{Groups, NONE};
use crate::error::{Error, Result};

/// Two sides that are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stratum {
    /// The comparison it belongs to.
    pub comparison: u32,
    /// Units of the group.
    pub group: Vec<u32>,
    /// Units of the reference.
    pub reference: Vec<u32>,
}

/// The sample of each unit.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Codes, below `n_samples`.
    pub of_unit: Vec<u32>,
    /// Number of samples.
    pub n_samples: usize,
}

/// One side of a stratum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// These parts, in increasing order.
    Parts(Vec<u32>),
    /// All parts of a universe but the one at this place.
    AllBut {
        /// The universe.
        universe: u32,
        /// Place of the part that is missing.
        at: u32,
    },
}

/// A stratum by its sides and the universe that they make.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) group: u32,
    pub(super) reference: u32,
    pub(super) universe: u32,
}

/// The comparisons of one call: cells by label, labels by part, sides by parts.
///
/// A *label* is what a cell's values carry through a pass: its part, or its part
/// and sample where samples are told apart. Cells that no side names have none,
/// so the work follows the comparisons, not the number of units.
///
/// Memory: 4 bytes a cell; with n parts about 8 n for each stratum that is not
/// one part against its rest.
#[derive(Debug, Clone)]
pub struct Contrasts {
    groups: Groups,
    part_of: Vec<u32>,
    part_sizes: Vec<u64>,
    samples: Option<LabelSamples>,
    universes: Vec<Vec<u32>>,
    sides: Vec<Side>,
    side_sizes: Vec<u64>,
    /// Of each universe the sides that are all but one of its parts, with the
    /// place of that part.
    all_but: Vec<Vec<(u32, u32)>>,
    strata: Vec<Pair>,
    comparisons: Vec<Range<usize>>,
}

/// The sample of each label.
#[derive(Debug, Clone)]
struct LabelSamples {
    of_label: Vec<u32>,
    n_samples: usize,
}

impl Contrasts {
    /// `units[i]` is the unit of the view's row `i`, below `n_units` or [`NONE`].
    /// Strata come in the order of their comparisons, which count from zero
    /// without a gap.
    ///
    /// # Errors
    /// When a unit does not exist, a side has no cells, the sides of a stratum
    /// share cells, or comparisons are out of order.
    pub fn new(
        units: &[u32],
        n_units: usize,
        strata: &[Stratum],
        samples: Option<&Samples>,
    ) -> Result<Self> {
        let sizes = Groups::new(units.to_vec(), n_units)?.sizes().to_vec();
        let comparisons = comparison_ranges(strata)?;
        let parts = Parts::new(&sizes, strata)?;
        let (label_of, part_of, samples) = parts.labels(&sizes, samples)?;
        let codes = units.iter().map(|&unit| match unit {
            NONE => NONE,
            unit => label_of[unit as usize],
        });
        let groups = Groups::new(codes.collect(), part_of.len())?;
        let mut part_sizes = vec![0; parts.n_parts];
        for (&part, &size) in part_of.iter().zip(groups.sizes()) {
            part_sizes[part as usize] += size;
        }
        let mut contrasts = Contrasts {
            groups,
            part_of,
            part_sizes,
            samples,
            universes: Vec::new(),
            sides: Vec::new(),
            side_sizes: Vec::new(),
            all_but: Vec::new(),
            strata: Vec::with_capacity(strata.len()),
            comparisons,
        };
        contrasts.add_strata(&parts, &sizes, strata)?;
        Ok(contrasts)
    }

    fn add_strata(&mut self, parts: &Parts, sizes: &[u64], strata: &[Stratum]) -> Result<()> {
        let mut universes: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut sides: HashMap<Side, u32> = HashMap::new();
        for stratum in strata {
            let group = parts.of_units(sizes, &stratum.group);
            let reference = parts.of_units(sizes, &stratum.reference);
            let mut both: Vec<u32> = group.iter().chain(&reference).copied().collect();
            both.sort_unstable();
            if both.windows(2).any(|w| w[0] == w[1]) {
                return Err(invalid("has the same cells on both sides"));
            }
            let next = universes.len() as u32;
            let universe = *universes.entry(both).or_insert_with_key(|parts| {
                self.universes.push(parts.clone());
                self.all_but.push(Vec::new());
                next
            });
            let mut side = |own: &[u32], other: &[u32]| {
                let members = &self.universes[universe as usize];
                let side = match other {
                    [part] if own.len() > 1 => {
                        let at = members.partition_point(|member| member < part) as u32;
                        Side::AllBut { universe, at }
                    }
                    _ => Side::Parts(own.to_vec()),
                };
                let next = sides.len() as u32;
                *sides.entry(side).or_insert_with_key(|side| {
                    if let Side::AllBut { at, .. } = side {
                        self.all_but[universe as usize].push((next, *at));
                    }
                    self.sides.push(side.clone());
                    let cells = own.iter().map(|&part| self.part_sizes[part as usize]);
                    self.side_sizes.push(cells.sum());
                    next
                })
            };
            let (own, other) = (side(&group, &reference), side(&reference, &group));
            self.strata.push(Pair { group: own, reference: other, universe });
        }
        Ok(())
    }

    /// The label of every cell.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Number of comparisons.
    #[must_use]
    pub fn n_comparisons(&self) -> usize {
        self.comparisons.len()
    }

    /// Cells on either side of a comparison, all strata together.
    #[must_use]
    pub fn sizes(&self, comparison: usize) -> (u64, u64) {
        let strata = self.comparisons[comparison].clone();
        strata
            .map(|stratum| self.stratum_sizes(stratum))
            .fold((0, 0), |all, (group, reference)| (all.0 + group, all.1 + reference))
    }

    /// Number of samples, where they are told apart.
    #[must_use]
    pub fn n_samples(&self) -> Option<usize> {
        self.samples.as_ref().map(|samples| samples.n_samples)
    }

    /// The strata of each comparison.
    pub(super) fn comparisons(&self) -> &[Range<usize>] {
        &self.comparisons
    }

    pub(super) fn strata(&self) -> &[Pair] {
        &self.strata
    }

    pub(super) fn universes(&self) -> &[Vec<u32>] {
        &self.universes
    }

    pub(super) fn side(&self, side: u32) -> &Side {
        &self.sides[side as usize]
    }

    pub(super) fn n_parts(&self) -> usize {
        self.part_sizes.len()
    }

    /// Cells of each part.
    pub(super) fn part_sizes(&self) -> &[u64] {
        &self.part_sizes
    }

    /// The part of each label.
    pub(super) fn part_of(&self) -> &[u32] {
        &self.part_of
    }

    /// The sample of each label; nothing where samples are not told apart.
    pub(super) fn sample_of(&self) -> &[u32] {
        self.samples.as_ref().map_or(&[], |samples| &samples.of_label)
    }

    /// Cells on either side of a stratum.
    pub(super) fn stratum_sizes(&self, stratum: usize) -> (u64, u64) {
        let Pair { group, reference, .. } = self.strata[stratum];
        (self.side_sizes[group as usize], self.side_sizes[reference as usize])
    }

    /// Checks that every label has at most as many values as cells.
    pub(super) fn check_counts(
        &self,
        gene: usize,
        mut values: impl Iterator<Item = u64>,
    ) -> Result<()> {
        if self.groups.sizes().iter().all(|&size| values.next().is_none_or(|n| n <= size)) {
            return Ok(());
        }
        let message = format!("gene {} has several stored values in one cell", gene + 1);
        Err(Error::InvalidValues { message })
    }

    /// Adds up what is known of each label to that of each part, in the order of
    /// labels; `room` is for the parts where they are not the labels.
    pub(super) fn add_up<'l, T: Copy>(
        &self,
        labels: &'l [T],
        empty: T,
        merge: impl Fn(T, T) -> T,
        room: &'l mut Vec<T>,
    ) -> &'l [T] {
        if self.samples.is_none() {
            return labels;
        }
        room.clear();
        room.resize(self.n_parts(), empty);
        for (&part, &label) in self.part_of.iter().zip(labels) {
            let slot = &mut room[part as usize];
            *slot = merge(*slot, label);
        }
        room
    }

    /// Adds up what is known of each part to that of each side, in the order of
    /// parts.
    pub(super) fn sides<T: Copy + PartialEq>(
        &self,
        parts: &[T],
        empty: T,
        merge: impl Fn(T, T) -> T + Copy,
        out: &mut SideValues<T>,
    ) {
        out.of.clear();
        out.of.extend(self.sides.iter().map(|side| match side {
            Side::Parts(own) if own.len() == 1 => parts[own[0] as usize],
            Side::Parts(own) => {
                own.iter().fold(empty, |all, &part| merge(all, parts[part as usize]))
            }
            Side::AllBut { .. } => empty,
        }));
        for (universe, sides) in self.universes.iter().zip(&self.all_but) {
            if sides.is_empty() {
                continue;
            }
            out.members.clear();
            out.members.extend(universe.iter().map(|&part| parts[part as usize]));
            all_but_each(&out.members, empty, merge, &mut out.others);
            for &(side, at) in sides {
                out.of[side as usize] = out.others[at as usize];
            }
        }
    }
}

/// What is known of each side, and the memory to find it.
#[derive(Debug, Clone)]
pub(super) struct SideValues<T> {
    of: Vec<T>,
    members: Vec<T>,
    others: Vec<T>,
}

impl<T> Default for SideValues<T> {
    fn default() -> Self {
        SideValues { of: Vec::new(), members: Vec::new(), others: Vec::new() }
    }
}

impl<T: Copy> SideValues<T> {
    /// Both sides of a stratum.
    pub(super) fn pair(&self, pair: Pair) -> (T, T) {
        (self.of[pair.group as usize], self.of[pair.reference as usize])
    }
}

/// Units by part.
struct Parts {
    /// Of each unit; [`NONE`] where no side names it or it has no cells.
    of: Vec<u32>,
    n_parts: usize,
}

impl Parts {
    /// Refines one part, of all units, by every side.
    fn new(sizes: &[u64], strata: &[Stratum]) -> Result<Self> {
        let mut of = vec![NONE; sizes.len()];
        let mut members: Vec<u32> = Vec::new();
        for stratum in strata {
            for side in [&stratum.group, &stratum.reference] {
                let mut n_cells = 0;
                for &unit in side {
                    let size =
                        sizes.get(unit as usize).ok_or_else(|| invalid("has no such unit"))?;
                    n_cells += size;
                    if *size > 0 {
                        of[unit as usize] = 0;
                    }
                }
                if n_cells == 0 {
                    return Err(invalid("has no cells on one side"));
                }
            }
        }
        let mut n_of_part = vec![of.iter().filter(|&&part| part == 0).count()];
        let mut named: Vec<u32> = vec![0];
        let mut target: Vec<u32> = vec![NONE];
        let mut touched: Vec<u32> = Vec::new();
        for side in strata.iter().flat_map(|stratum| [&stratum.group, &stratum.reference]) {
            members.clear();
            members.extend(side.iter().filter(|&&unit| sizes[unit as usize] > 0));
            members.sort_unstable();
            members.dedup();
            touched.clear();
            for &unit in &members {
                let part = of[unit as usize];
                if named[part as usize] == 0 {
                    touched.push(part);
                }
                named[part as usize] += 1;
            }
            for &part in &touched {
                let inside = std::mem::take(&mut named[part as usize]) as usize;
                if inside < n_of_part[part as usize] {
                    target[part as usize] = n_of_part.len() as u32;
                    n_of_part[part as usize] -= inside;
                    n_of_part.push(inside);
                    named.push(0);
                    target.push(NONE);
                }
            }
            for &unit in &members {
                let part = &mut of[unit as usize];
                if target[*part as usize] != NONE {
                    *part = target[*part as usize];
                }
            }
            for &part in &touched {
                target[part as usize] = NONE;
            }
        }
        // Parts in the order of their first units.
        let mut renamed = vec![NONE; n_of_part.len()];
        let mut n_parts = 0;
        for part in of.iter_mut().filter(|part| **part != NONE) {
            let name = &mut renamed[*part as usize];
            if *name == NONE {
                *name = n_parts;
                n_parts += 1;
            }
            *part = *name;
        }
        Ok(Parts { of, n_parts: n_parts as usize })
    }

    /// The parts of some units, in increasing order.
    fn of_units(&self, sizes: &[u64], units: &[u32]) -> Vec<u32> {
        let live = units.iter().filter(|&&unit| sizes[unit as usize] > 0);
        let mut parts: Vec<u32> = live.map(|&unit| self.of[unit as usize]).collect();
        parts.sort_unstable();
        parts.dedup();
        parts
    }

    /// The label of each unit, the part of each label, the sample of each label.
    fn labels(
        &self,
        sizes: &[u64],
        samples: Option<&Samples>,
    ) -> Result<(Vec<u32>, Vec<u32>, Option<LabelSamples>)> {
        let Some(Samples { of_unit, n_samples }) = samples else {
            return Ok((self.of.clone(), (0..self.n_parts as u32).collect(), None));
        };
        if of_unit.len() != sizes.len() || of_unit.iter().any(|&s| s as usize >= *n_samples) {
            let message = "every unit must have one of the samples".to_owned();
            return Err(Error::InvalidInput { argument: "sample", message });
        }
        let mut names: HashMap<(u32, u32), u32> = HashMap::new();
        let (mut part_of, mut sample_of) = (Vec::new(), Vec::new());
        let label_of = self.of.iter().zip(of_unit).map(|(&part, &sample)| {
            if part == NONE {
                return NONE;
            }
            *names.entry((part, sample)).or_insert_with(|| {
                part_of.push(part);
                sample_of.push(sample);
                part_of.len() as u32 - 1
            })
        });
        let label_of = label_of.collect();
        let samples = LabelSamples { of_label: sample_of, n_samples: *n_samples };
        Ok((label_of, part_of, Some(samples)))
    }
}

/// The strata of each comparison.
fn comparison_ranges(strata: &[Stratum]) -> Result<Vec<Range<usize>>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (at, stratum) in strata.iter().enumerate() {
        let comparison = stratum.comparison as usize;
        if comparison == ranges.len() {
            ranges.push(at..at + 1);
        } else if comparison + 1 == ranges.len() {
            ranges[comparison].end = at + 1;
        } else {
            return Err(invalid("is out of order"));
        }
    }
    Ok(ranges)
}

fn invalid(what: &str) -> Error {
    Error::InvalidInput { argument: "reference", message: format!("a comparison {what}") }
}

/// For each item the merge of all others, in their order: never a total from
/// which the item is subtracted, so that nothing cancels. That of `empty` items is one and
/// the same.
pub(super) fn all_but_each<T: Copy + PartialEq>(
    items: &[T],
    empty: T,
    merge: impl Fn(T, T) -> T,
    out: &mut Vec<T>,
) {
    out.clear();
    let mut before = empty;
    for &item in items {
        out.push(before);
        before = merge(before, item);
    }
    let total = before;
    let mut after = empty;
    for (slot, &item) in out.iter_mut().zip(items).rev() {
        if item == empty {
            *slot = total;
        } else {
            *slot = merge(*slot, after);
            after = merge(item, after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stratum(comparison: u32, group: &[u32], reference: &[u32]) -> Stratum {
        Stratum { comparison, group: group.to_vec(), reference: reference.to_vec() }
    }

    fn contrasts(units: &[u32], n_units: usize, strata: &[Stratum]) -> Result<Contrasts> {
        Contrasts::new(units, n_units, strata, None)
    }

    #[test]
    fn units_that_nothing_tells_apart_are_one_part() {
        let units = [0, 1, 2, 3, NONE, 3, 4];
        let rest = |unit: u32, c| {
            let others: Vec<u32> = (0..4).filter(|&other| other != unit).collect();
            stratum(c, &[unit], &others)
        };
        let got = contrasts(&units, 6, &[rest(3, 0), rest(1, 1)]).unwrap();
        // Units 0 and 2 are always on one side, 4 and 5 on none.
        assert_eq!(got.groups().sizes(), [2, 1, 2]);
        assert_eq!((got.groups().of(4), got.groups().of(6)), (NONE, NONE));
        assert_eq!((got.sizes(0), got.sizes(1)), ((2, 3), (1, 4)));
        assert_eq!(got.universes(), [[0, 1, 2]]);
        assert_eq!(got.n_comparisons(), 2);
    }

    #[test]
    fn every_side_is_kept_once() {
        let pairs = [stratum(0, &[0], &[1]), stratum(1, &[1], &[0]), stratum(2, &[2], &[0])];
        let got = contrasts(&[0, 1, 2, 2], 3, &pairs).unwrap();
        assert_eq!(got.sides.len(), 3);
        assert_eq!(got.universes().len(), 2);
        assert_eq!(got.sizes(2), (2, 1));
    }

    #[test]
    fn blocks_are_strata_of_one_comparison() {
        let blocks = [stratum(0, &[0], &[1]), stratum(0, &[2], &[3]), stratum(1, &[1], &[0])];
        let got = contrasts(&[0, 0, 1, 2, 3, 3], 4, &blocks).unwrap();
        assert_eq!(got.comparisons(), [0..2, 2..3]);
        assert_eq!((got.sizes(0), got.sizes(1)), ((3, 3), (1, 2)));
    }

    #[test]
    fn samples_refine_labels_but_not_parts() {
        let samples = Samples { of_unit: vec![0, 1, 0, 1], n_samples: 2 };
        let strata = [stratum(0, &[0, 1], &[2, 3])];
        let got = Contrasts::new(&[0, 1, 2, 3, 3], 4, &strata, Some(&samples)).unwrap();
        assert_eq!(got.groups().sizes(), [1, 1, 1, 2]);
        assert_eq!((got.part_of(), got.sample_of()), (&[0, 0, 1, 1][..], &[0, 1, 0, 1][..]));
        assert_eq!(got.part_sizes(), [2, 3]);
        let few = Samples { of_unit: vec![0, 1, 0, 2], n_samples: 2 };
        assert!(Contrasts::new(&[0, 1, 2, 3], 4, &strata, Some(&few)).is_err());
    }

    #[test]
    fn impossible_comparisons_are_errors() {
        for (strata, what) in [
            (vec![stratum(0, &[1], &[0, 1])], "same cells"),
            (vec![stratum(0, &[0], &[2])], "no such unit"),
            (vec![stratum(0, &[0], &[])], "no cells"),
            (vec![stratum(1, &[0], &[1])], "out of order"),
            (vec![stratum(0, &[0], &[1]), stratum(2, &[0], &[1])], "out of order"),
        ] {
            let error = contrasts(&[0, 1], 2, &strata).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        // Unit 1 has no cells.
        assert!(contrasts(&[0, 0], 2, &[stratum(0, &[0], &[1])]).is_err());
        assert!(contrasts(&[0, 5], 2, &[]).is_err());
    }

    #[test]
    fn sides_add_up_whatever_their_form() {
        let units: Vec<u32> = (0..5).collect();
        let strata = [
            stratum(0, &[0], &[1, 2, 3, 4]),
            stratum(1, &[1, 2], &[0, 4]),
            stratum(2, &[0, 1, 3, 4], &[2]),
            stratum(3, &[3], &[1]),
        ];
        let got = contrasts(&units, 5, &strata).unwrap();
        // Parts are units here; the merge keeps the order in decimal digits.
        let items = [1_u64, 2, 3, 4, 5];
        let mut values = SideValues::default();
        let append = |a: u64, b: u64| match (a, b) {
            (0, b) => b,
            (a, 0) => a,
            (a, b) => a * 10u64.pow(b.ilog10() + 1) + b,
        };
        got.sides(&items, 0, append, &mut values);
        let pairs: Vec<(u64, u64)> = got.strata().iter().map(|&pair| values.pair(pair)).collect();
        assert_eq!(pairs, [(1, 2345), (23, 15), (1245, 3), (4, 2)]);
    }
}
