//! The distinct values of the rows of a piece.
//!
//! Problem: a gene has values of all rows, mostly the first one or two that these have; row after
//! row each would be on a line of its own. Solution: the first values of all rows come
//! before the second ones, and so on for a few *levels*; what rows have beyond them follows
//! row after row.

use crate::error::{Error, Result};
use crate::stats::rank::ZERO_KEY;

/// Ordered key and group of each distinct value of each row.
///
/// Memory: 12 bytes each.
#[derive(Debug)]
pub struct Dictionary {
    keys: Vec<u64>,
    /// The group of each, or the word that an [order](super::value_order) puts in its place.
    tags: Vec<u32>,
    /// The bits of a tag that are the group.
    group_mask: u32,
}

/// Levels: values of rows that come side by side. Places of rows that have fewer have
/// the key of zero.
const LEVELS: usize = 4;

/// Rows whose values have numbers at a time.
pub(super) const MOST_ROWS: usize = 1 << 16;

/// Numbers of values past all levels begin here: before come those of the first level, of the
/// second ...
const BEYOND: u32 = (LEVELS * MOST_ROWS) as u32;

/// Distinct values of rows as they come.
#[derive(Debug, Default)]
pub(super) struct DistinctValues {
    /// Of each row its group and the values of its levels.
    rows: Vec<(u32, [u64; LEVELS])>,
    /// Values past all levels, with their groups.
    beyond: Vec<(u64, u32)>,
    /// Values of the last row.
    n_of_row: usize,
}

impl DistinctValues {
    /// Number of rows.
    pub(super) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of values that the dictionary will have.
    pub(super) fn len(&self) -> usize {
        LEVELS * self.rows.len() + self.beyond.len()
    }

    /// Begins a row; at most [`MOST_ROWS`].
    pub(super) fn begin_row(&mut self, group: u32) {
        self.n_of_row = 0;
        self.rows.push((group, [ZERO_KEY; LEVELS]));
    }

    /// Adds a value to the row that was begun last; its number.
    pub(super) fn push(&mut self, key: u64) -> u32 {
        let row = self.rows.len() - 1;
        let (group, levels) = &mut self.rows[row];
        let level = self.n_of_row;
        self.n_of_row += 1;
        if level < LEVELS {
            levels[level] = key;
            (level * MOST_ROWS + row) as u32
        } else {
            self.beyond.push((key, *group));
            BEYOND + (self.beyond.len() - 1) as u32
        }
    }

    /// The dictionary of these values.
    pub(super) fn dictionary(&self) -> Dictionary {
        let (mut keys, mut groups) = (Vec::new(), Vec::new());
        keys.reserve_exact(self.len());
        groups.reserve_exact(self.len());
        for level in 0..LEVELS {
            keys.extend(self.rows.iter().map(|row| row.1[level]));
            groups.extend(self.rows.iter().map(|row| row.0));
        }
        keys.extend(self.beyond.iter().map(|value| value.0));
        groups.extend(self.beyond.iter().map(|value| value.1));
        Dictionary::new(keys, groups)
    }

    /// Where the dictionary has the value of a number.
    #[inline]
    pub(super) fn place(&self, number: u32) -> u32 {
        let (n_rows, row) = (self.rows.len() as u32, number % MOST_ROWS as u32);
        let of_level = number / MOST_ROWS as u32 * n_rows + row;
        if number < BEYOND { of_level } else { LEVELS as u32 * n_rows + (number - BEYOND) }
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.beyond.clear();
    }
}

/// Bytes of a value.
pub(super) const ENTRY: usize = 12;

impl Dictionary {
    /// A dictionary of these values and their groups.
    pub(super) fn new(keys: Vec<u64>, groups: Vec<u32>) -> Self {
        Dictionary { keys, tags: groups, group_mask: u32::MAX }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The ordered key of each value.
    pub(super) fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// The group of each value, below whatever else its tag has.
    pub(super) fn tags(&self) -> &[u32] {
        &self.tags
    }

    /// The group that a tag has.
    #[inline]
    pub(super) fn group(&self, tag: u32) -> u32 {
        tag & self.group_mask
    }

    /// Gives each value a tag, of which the lowest bits are its group.
    pub(super) fn set_tags(&mut self, group_bits: u32, mut tag: impl FnMut(u32) -> u32) {
        for slot in &mut self.tags {
            *slot = tag(*slot & self.group_mask);
        }
        self.group_mask = (1 << group_bits) - 1;
    }

    /// Bytes of a number that says which of them.
    pub(super) fn code_width(&self) -> usize {
        if self.len() <= 1 << u16::BITS { 2 } else { 4 }
    }

    /// Bytes for another process.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        out.extend(self.keys.iter().flat_map(|key| key.to_le_bytes()));
        out.extend(self.tags.iter().flat_map(|&tag| self.group(tag).to_le_bytes()));
    }

    /// From the bytes of another process.
    ///
    /// # Errors
    /// When a group is unknown.
    pub(super) fn from_bytes(bytes: &[u8], n_groups: usize) -> Result<Self> {
        let (keys, groups) = bytes.split_at(bytes.len() / ENTRY * 8);
        let keys = keys.chunks_exact(8).map(|key| {
            let mut word = [0; 8];
            word.copy_from_slice(key);
            u64::from_le_bytes(word)
        });
        let groups = groups.chunks_exact(4).map(|group| {
            let mut word = [0; 4];
            word.copy_from_slice(group);
            u32::from_le_bytes(word)
        });
        let dictionary = Dictionary::new(keys.collect(), groups.collect());
        if dictionary.tags.iter().any(|&group| group as usize >= n_groups) {
            return Err(Error::BadPartial { reason: "a piece names an unknown group".to_owned() });
        }
        Ok(dictionary)
    }
}
