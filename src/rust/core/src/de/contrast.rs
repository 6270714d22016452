//! Which groups are compared with which.

use super::groups::{Groups, NONE};
use crate::error::{Error, Result};

/// The other side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// All cells that have a group, but not this one.
    Rest,
    /// The cells of one other group.
    Group(u32),
}

/// One group against its reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// The group.
    pub group: u32,
    /// What it is compared with.
    pub reference: Reference,
}

/// The comparisons of one call and the groups that they need.
///
/// Groups that no comparison names are one group among the rest, or no group at
/// all where nothing is compared with the rest; so the work follows the
/// comparisons, not the number of labels.
#[derive(Debug, Clone)]
pub struct Contrasts {
    groups: Groups,
    comparisons: Vec<Comparison>,
}

impl Contrasts {
    /// `codes` as in [`Groups::new`], and the comparisons between those groups.
    ///
    /// # Errors
    /// When a code or a comparison names a group that does not exist, or a group
    /// is compared with itself.
    pub fn new(codes: &[u32], n_groups: usize, comparisons: &[Comparison]) -> Result<Self> {
        let mut compact = vec![NONE; n_groups];
        let mut n_compact = 0;
        let mut name = |group: u32| {
            let slot =
                compact.get_mut(group as usize).ok_or_else(|| invalid("has no such group"))?;
            if *slot == NONE {
                *slot = n_compact;
                n_compact += 1;
            }
            Ok(*slot)
        };
        let comparisons = comparisons
            .iter()
            .map(|comparison| {
                let group = name(comparison.group)?;
                let reference = match comparison.reference {
                    Reference::Rest => Reference::Rest,
                    Reference::Group(other) if other == comparison.group => {
                        return Err(invalid("compares a group with itself"));
                    }
                    Reference::Group(other) => Reference::Group(name(other)?),
                };
                Ok(Comparison { group, reference })
            })
            .collect::<Result<Vec<_>>>()?;
        let others =
            comparisons.iter().any(|c| c.reference == Reference::Rest) && compact.contains(&NONE);
        if others {
            compact.iter_mut().filter(|slot| **slot == NONE).for_each(|slot| *slot = n_compact);
        }
        let codes = codes
            .iter()
            .map(|&code| match code {
                NONE => Ok(NONE),
                code => compact
                    .get(code as usize)
                    .copied()
                    .ok_or_else(|| invalid("meets a cell of an unknown group")),
            })
            .collect::<Result<Vec<_>>>()?;
        let groups = Groups::new(codes, n_compact as usize + usize::from(others))?;
        Ok(Contrasts { groups, comparisons })
    }

    /// The groups that the comparisons need.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The comparisons, in the order given, between those groups.
    #[must_use]
    pub fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }

    /// Whether a comparison is with the rest.
    #[must_use]
    pub fn needs_rest(&self) -> bool {
        self.comparisons.iter().any(|c| c.reference == Reference::Rest)
    }

    /// Whether a comparison is with another group.
    #[must_use]
    pub fn needs_pairs(&self) -> bool {
        self.comparisons.iter().any(|c| c.reference != Reference::Rest)
    }

    /// Cells on either side of a comparison.
    #[must_use]
    pub fn sizes(&self, comparison: Comparison) -> (u64, u64) {
        let sizes = self.groups.sizes();
        let group = sizes[comparison.group as usize];
        let reference = match comparison.reference {
            Reference::Rest => sizes.iter().sum::<u64>() - group,
            Reference::Group(other) => sizes[other as usize],
        };
        (group, reference)
    }
}

fn invalid(what: &str) -> Error {
    Error::InvalidInput { argument: "reference", message: format!("a comparison {what}") }
}

/// For each item the merge of all others, in their order: never a total from
/// which the item is subtracted, so that nothing cancels.
pub(super) fn all_but_each<T: Copy>(
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
    let mut after = empty;
    for (slot, &item) in out.iter_mut().zip(items).rev() {
        *slot = merge(*slot, after);
        after = merge(item, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(group: u32) -> Comparison {
        Comparison { group, reference: Reference::Rest }
    }

    #[test]
    fn groups_not_named_join_the_rest() {
        let codes = [0, 1, 2, 3, NONE, 3];
        let contrasts = Contrasts::new(&codes, 4, &[rest(3), rest(1)]).unwrap();
        assert_eq!(contrasts.groups().sizes(), [2, 1, 2]);
        assert_eq!(contrasts.groups().of(4), NONE);
        assert_eq!(contrasts.sizes(contrasts.comparisons()[0]), (2, 3));
        assert_eq!(contrasts.sizes(contrasts.comparisons()[1]), (1, 4));
    }

    #[test]
    fn groups_not_named_take_no_part_in_pairs() {
        let pair = Comparison { group: 2, reference: Reference::Group(0) };
        let contrasts = Contrasts::new(&[0, 1, 2, 2], 3, &[pair]).unwrap();
        assert_eq!(contrasts.groups().sizes(), [2, 1]);
        assert_eq!(contrasts.groups().of(1), NONE);
        assert_eq!(contrasts.sizes(contrasts.comparisons()[0]), (2, 1));
        assert!(!contrasts.needs_rest());
    }

    #[test]
    fn impossible_comparisons_are_errors() {
        let itself = Comparison { group: 1, reference: Reference::Group(1) };
        assert!(Contrasts::new(&[0, 1], 2, &[itself]).is_err());
        assert!(Contrasts::new(&[0, 1], 2, &[rest(2)]).is_err());
        assert!(Contrasts::new(&[0, 5], 2, &[rest(0)]).is_err());
    }

    #[test]
    fn all_but_each_keeps_the_order() {
        let items: Vec<u64> = vec![1, 2, 3, 4];
        let mut out = Vec::new();
        all_but_each(
            &items,
            0,
            |a, b| {
                if a == 0 {
                    b
                } else if b == 0 {
                    a
                } else {
                    a * 10u64.pow(b.ilog10() + 1) + b
                }
            },
            &mut out,
        );
        assert_eq!(out, [234, 134, 124, 123]);
    }
}
