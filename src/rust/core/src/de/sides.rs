//! The two sides of a comparison as models take them, and what describes them.

use super::combine::{Effects, Verdict, Weight};
use super::fold_change::{FoldChange, Side};
use super::groups::Groups;
use super::table::Row;
use crate::error::{Error, Result};

/// The units of cells on either side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// Units of the group.
    pub group: Vec<u32>,
    /// Units of the reference.
    pub reference: Vec<u32>,
}

impl Sides {
    /// Whether each unit is on the side of the group, on the other, or on none.
    ///
    /// # Errors
    /// When a unit does not exist or is on both sides.
    pub fn of_units(&self, n_units: usize) -> Result<Vec<Option<bool>>> {
        let mut sides = vec![None; n_units];
        for (units, first) in [(&self.group, true), (&self.reference, false)] {
            for &unit in units {
                let slot = sides
                    .get_mut(unit as usize)
                    .ok_or_else(|| invalid("names a unit that does not exist"))?;
                if slot.replace(first) == Some(!first) {
                    return Err(invalid("has the same cells on both sides"));
                }
            }
        }
        Ok(sides)
    }

    /// Cells on either side.
    ///
    /// # Errors
    /// When a side has none; as [`Sides::of_units`].
    pub fn sizes(&self, units: &Groups) -> Result<(u64, u64)> {
        let (mut group, mut reference) = (0, 0);
        for (side, size) in self.of_units(units.n_groups())?.into_iter().zip(units.sizes()) {
            match side {
                Some(true) => group += size,
                Some(false) => reference += size,
                None => {}
            }
        }
        if group == 0 || reference == 0 {
            return Err(invalid("has a side without cells"));
        }
        Ok((group, reference))
    }
}

fn invalid(what: &str) -> Error {
    Error::InvalidInput { argument: "reference", message: format!("a comparison {what}") }
}

/// The row of a gene that a model was fitted for.
pub(super) fn described(
    verdict: Verdict,
    group: &Side,
    reference: &Side,
    constant: bool,
    fold_change: FoldChange,
) -> Row {
    let effects = Effects::new(group, reference, constant, fold_change, Weight::Cells);
    Effects::row(&[effects], verdict)
}

/// Rows that are kept at a time before they go to the table.
const ROWS: usize = 1 << 20;

/// Genes whose rows are kept at a time.
pub(super) fn genes_at_a_time(n_comparisons: usize) -> usize {
    (ROWS / n_comparisons.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::de::groups::NONE;

    #[test]
    fn sides_are_checked() {
        let units = Groups::new(vec![0, 1, 1, 2, NONE], 4).unwrap();
        let sides = |group: &[u32], reference: &[u32]| Sides {
            group: group.to_vec(),
            reference: reference.to_vec(),
        };
        assert_eq!(sides(&[1], &[0, 2]).sizes(&units).unwrap(), (2, 2));
        assert_eq!(sides(&[1], &[2]).of_units(4).unwrap(), [None, Some(true), Some(false), None]);
        for bad in [sides(&[0], &[0, 1]), sides(&[0], &[4]), sides(&[0], &[3]), sides(&[], &[1])] {
            assert!(bad.sizes(&units).is_err(), "{bad:?}");
        }
    }
}
