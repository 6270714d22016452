//! Which logistic regressions a set of comparisons needs, and which of their
//! coefficients belong to a comparison.

use std::collections::HashMap;

use super::groups::{Groups, NONE};
use super::sides::Sides;
use crate::error::Result;

/// How comparisons make models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Models {
    /// One model for all comparisons over the same cells: each group is a class, and
    /// so is each unit that no comparison names as a group.
    Shared,
    /// One model for each comparison: its two sides.
    Pairs,
    /// As scanpy: one model, whose classes are the groups that are compared (and their
    /// references where `references` says so), in the order of their units. With two
    /// of them the coefficients are in favour of the second, whatever is compared.
    Listed {
        /// Whether references are classes.
        references: bool,
    },
}

/// One model and the comparisons that it serves.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The class of each cell.
    pub classes: Groups,
    /// Comparisons, with the class whose coefficients are theirs.
    pub serves: Vec<(usize, usize)>,
}

/// The models of `comparisons` between `units`.
///
/// # Errors
/// As [`Sides::of_units`].
pub fn fits(
    units: &Groups,
    n_obs: usize,
    comparisons: &[Sides],
    models: Models,
) -> Result<Vec<Fit>> {
    let mut plans: Vec<Plan> = Vec::new();
    let n_units = units.n_groups();
    match models {
        Models::Pairs => {
            let mut known: HashMap<(Vec<u32>, Vec<u32>), usize> = HashMap::new();
            for (number, sides) in comparisons.iter().enumerate() {
                sides.of_units(n_units)?;
                let (group, reference) = (sorted(&sides.group), sorted(&sides.reference));
                if let Some(&at) = known.get(&(reference.clone(), group.clone())) {
                    plans[at].serves.push((number, 0));
                    continue;
                }
                known.insert((group.clone(), reference.clone()), plans.len());
                plans.push(Plan { classes: vec![reference, group], serves: vec![(number, 1)] });
            }
        }
        Models::Shared => {
            let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
            let mut universes: Vec<Vec<u32>> = Vec::new();
            for (number, sides) in comparisons.iter().enumerate() {
                sides.of_units(n_units)?;
                let universe = sorted(&[&sides.group[..], &sides.reference[..]].concat());
                let at = *known.entry(universe.clone()).or_insert_with(|| {
                    universes.push(universe);
                    plans.push(Plan::default());
                    plans.len() - 1
                });
                let class = plans[at].class(sorted(&sides.group));
                plans[at].serves.push((number, class));
            }
            for (plan, universe) in plans.iter_mut().zip(universes) {
                let named: Vec<u32> = plan.classes.concat();
                plan.classes.extend(
                    universe
                        .into_iter()
                        .filter(|unit| !named.contains(unit))
                        .map(|unit| vec![unit]),
                );
            }
        }
        Models::Listed { references } => {
            let mut plan = Plan::default();
            for sides in comparisons {
                sides.of_units(n_units)?;
                plan.class(sorted(&sides.group));
                if references {
                    plan.class(sorted(&sides.reference));
                }
            }
            plan.classes.sort();
            for (number, sides) in comparisons.iter().enumerate() {
                let class =
                    if plan.classes.len() == 2 { 1 } else { plan.class(sorted(&sides.group)) };
                plan.serves.push((number, class));
            }
            plans.push(plan);
        }
    }
    plans.into_iter().map(|plan| plan.finish(units, n_obs)).collect()
}

#[derive(Default)]
struct Plan {
    /// Units of each class.
    classes: Vec<Vec<u32>>,
    serves: Vec<(usize, usize)>,
}

impl Plan {
    /// The number of a class, new or known.
    fn class(&mut self, units: Vec<u32>) -> usize {
        if let Some(at) = self.classes.iter().position(|class| *class == units) {
            return at;
        }
        self.classes.push(units);
        self.classes.len() - 1
    }

    fn finish(self, units: &Groups, n_obs: usize) -> Result<Fit> {
        let mut class_of = vec![NONE; units.n_groups()];
        let mut n_classes = 0;
        let mut numbers = vec![0; self.classes.len()];
        for (class, number) in self.classes.iter().zip(&mut numbers) {
            *number = n_classes;
            // Units without cells make no class.
            if class.iter().any(|&unit| units.sizes()[unit as usize] > 0) {
                n_classes += 1;
            }
            for &unit in class {
                class_of[unit as usize] = *number as u32;
            }
        }
        let codes = (0..n_obs).map(|cell| match units.of(cell) {
            NONE => NONE,
            unit => class_of[unit as usize],
        });
        let classes = Groups::new(codes.collect(), n_classes)?;
        let serves = self.serves.into_iter().map(|(c, class)| (c, numbers[class])).collect();
        Ok(Fit { classes, serves })
    }
}

fn sorted(units: &[u32]) -> Vec<u32> {
    let mut units = units.to_vec();
    units.sort_unstable();
    units.dedup();
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sides(group: &[u32], reference: &[u32]) -> Sides {
        Sides { group: group.to_vec(), reference: reference.to_vec() }
    }

    fn units() -> Groups {
        Groups::new(vec![0, 1, 2, 3, NONE, 3], 5).unwrap()
    }

    fn codes(fit: &Fit) -> Vec<u32> {
        (0..6).map(|cell| fit.classes.of(cell)).collect()
    }

    #[test]
    fn groups_against_the_rest_share_a_model() {
        let asked = [sides(&[2], &[0, 1, 3]), sides(&[0, 3], &[1, 2])];
        let fits = fits(&units(), 6, &asked, Models::Shared).unwrap();
        assert_eq!(fits.len(), 1);
        // Unit 1, which nobody asked for, is a class of its own.
        assert_eq!(codes(&fits[0]), [1, 2, 0, 1, NONE, 1]);
        assert_eq!(fits[0].serves, [(0, 0), (1, 1)]);
    }

    #[test]
    fn separate_cells_have_separate_models() {
        let asked = [sides(&[0], &[1]), sides(&[2], &[3]), sides(&[1], &[0])];
        let fits = fits(&units(), 6, &asked, Models::Shared).unwrap();
        assert_eq!(fits.len(), 2);
        assert_eq!(codes(&fits[0]), [0, 1, NONE, NONE, NONE, NONE]);
        assert_eq!(fits[0].serves, [(0, 0), (2, 1)]);
        assert_eq!(fits[1].serves, [(1, 0)]);
    }

    #[test]
    fn pairs_and_their_reverses() {
        let asked = [sides(&[0, 1], &[2, 3]), sides(&[3, 2], &[1, 0]), sides(&[0], &[1])];
        let fits = fits(&units(), 6, &asked, Models::Pairs).unwrap();
        assert_eq!(fits.len(), 2);
        assert_eq!(codes(&fits[0]), [1, 1, 0, 0, NONE, 0]);
        assert_eq!(fits[0].serves, [(0, 1), (1, 0)]);
    }

    #[test]
    fn as_scanpy() {
        let rest = [sides(&[2], &[0, 1, 3]), sides(&[0], &[1, 2, 3])];
        let two = fits(&units(), 6, &rest, Models::Listed { references: false }).unwrap();
        assert_eq!(codes(&two[0]), [0, NONE, 1, NONE, NONE, NONE]);
        assert_eq!(two[0].serves, [(0, 1), (1, 1)]);
        let pairs = [sides(&[2], &[1]), sides(&[0], &[1])];
        let three = fits(&units(), 6, &pairs, Models::Listed { references: true }).unwrap();
        assert_eq!(codes(&three[0]), [0, 1, 2, NONE, NONE, NONE]);
        assert_eq!(three[0].serves, [(0, 2), (1, 0)]);
    }
}
