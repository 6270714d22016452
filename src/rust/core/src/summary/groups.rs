//! Which group each cell belongs to.

use crate::error::{Error, Result};

/// The group of a cell that takes no part.
pub const NONE: u32 = u32::MAX;

/// The group of every row of a view, and how many cells each group has.
///
/// Memory: 4 bytes a cell.
#[derive(Debug, Clone)]
pub struct Groups {
    codes: Vec<u32>,
    sizes: Vec<u64>,
}

impl Groups {
    /// `codes[i]` is the group of the view's row `i`, below `n_groups` or [`NONE`].
    ///
    /// # Errors
    /// When a code is neither.
    pub fn new(codes: Vec<u32>, n_groups: usize) -> Result<Self> {
        let mut sizes = vec![0; n_groups];
        for &code in codes.iter().filter(|&&code| code != NONE) {
            let size = sizes.get_mut(code as usize).ok_or_else(|| Error::InvalidInput {
                argument: "group",
                message: format!("a cell is in group {}, but there are {n_groups}", code + 1),
            })?;
            *size += 1;
        }
        Ok(Groups { codes, sizes })
    }

    /// Checks that there is one code for each row of a view.
    ///
    /// # Errors
    /// When there is not.
    pub fn check_rows(&self, n_obs: usize) -> Result<()> {
        if self.codes.len() == n_obs {
            return Ok(());
        }
        let have = self.codes.len();
        Err(Error::InvalidInput {
            argument: "group",
            message: format!("there are {have} group labels for {n_obs} cells"),
        })
    }

    /// The group of the view's row `position`, or [`NONE`].
    #[inline]
    #[must_use]
    pub fn of(&self, position: usize) -> u32 {
        self.codes[position]
    }

    /// Number of cells in each group.
    #[must_use]
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    /// Number of groups.
    #[must_use]
    pub fn n_groups(&self) -> usize {
        self.sizes.len()
    }
}

/// What is wrong with a block that holds a value which is no number.
pub(crate) fn not_finite(values: &[f64], indices: &[u32], position: usize) -> Error {
    let at = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Error::InvalidValues {
        message: format!(
            "the value of cell {} and gene {} is {}; tests and sums need finite values",
            position + 1,
            indices.get(at).map_or(0, |gene| gene + 1),
            values.get(at).copied().unwrap_or(f64::NAN),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_without_a_group_are_not_counted() {
        let groups = Groups::new(vec![1, NONE, 0, 1], 3).unwrap();
        assert_eq!(groups.sizes(), [1, 2, 0]);
        assert_eq!(groups.of(1), NONE);
        assert!(groups.check_rows(4).is_ok());
        assert!(groups.check_rows(5).is_err());
    }

    #[test]
    fn unknown_groups_are_errors() {
        assert!(Groups::new(vec![0, 3], 3).is_err());
    }
}
