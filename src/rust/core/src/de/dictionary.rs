//! The distinct values of the rows of a piece.
//!
//! Problem: a gene has values of all rows, mostly the first one or two that these have; row after
//! row each would be on a line of its own. Solution: the first values of all rows come
//! before the second ones, and so on for a few *levels*; what rows have beyond them follows
//! row after row.

use crate::error::{Error, Result};

/// Ordered key and group of each distinct value of each row.
///
/// Memory: 12 bytes each.
#[derive(Debug, Default)]
pub struct Dictionary {
    pub(super) keys: Vec<u64>,
    pub(super) groups: Vec<u32>,
}

/// Levels: values of rows that come side by side. Places of rows that have fewer are unused.
const LEVELS: u32 = 4;

/// Distinct values of rows as they come.
#[derive(Debug, Default)]
pub(super) struct DistinctValues {
    keys: Vec<u64>,
    rows: Vec<Row>,
}

/// A row and its distinct values.
#[derive(Debug)]
struct Row {
    group: u32,
    /// Where its values begin.
    start: u32,
    /// Where its values past all levels go.
    beyond: u32,
}

impl DistinctValues {
    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Begins a row, and returns its number.
    pub(super) fn begin_row(&mut self, group: u32) -> usize {
        self.rows.push(Row { group, start: self.keys.len() as u32, beyond: 0 });
        self.rows.len() - 1
    }

    /// Adds a value to the row that was begun last.
    pub(super) fn push(&mut self, key: u64) {
        self.keys.push(key);
    }

    /// The dictionary of these values, of which there is at least one.
    pub(super) fn dictionary(&mut self) -> Dictionary {
        let mut n = self.rows.len() * LEVELS as usize;
        let ends = self.rows.iter().skip(1).map(|row| row.start);
        let ends: Vec<u32> = ends.chain([self.keys.len() as u32]).collect();
        for (row, end) in self.rows.iter_mut().zip(&ends) {
            row.beyond = n as u32;
            n += (end - row.start).saturating_sub(LEVELS) as usize;
        }
        let first = (self.keys[0], self.rows[0].group);
        let mut dictionary = Dictionary { keys: vec![first.0; n], groups: vec![first.1; n] };
        for ((number, row), &end) in self.rows.iter().enumerate().zip(&ends) {
            for (code, &key) in (1..).zip(&self.keys[row.start as usize..end as usize]) {
                let place = self.place(number, code) as usize;
                (dictionary.keys[place], dictionary.groups[place]) = (key, row.group);
            }
        }
        dictionary
    }

    /// Where the dictionary has the value of a row that has this code.
    #[inline]
    pub(super) fn place(&self, row: usize, code: u32) -> u32 {
        if code <= LEVELS {
            (code - 1) * self.rows.len() as u32 + row as u32
        } else {
            self.rows[row].beyond + code - LEVELS - 1
        }
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.rows.clear();
    }
}

/// Bytes of a value.
pub(super) const ENTRY: usize = 12;

impl Dictionary {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes of a number that says which of them.
    pub(super) fn code_width(&self) -> usize {
        if self.len() <= 1 << u16::BITS { 2 } else { 4 }
    }

    /// Bytes for another process.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        out.extend(self.keys.iter().flat_map(|key| key.to_le_bytes()));
        out.extend(self.groups.iter().flat_map(|group| group.to_le_bytes()));
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
        let dictionary = Dictionary { keys: keys.collect(), groups: groups.collect() };
        if dictionary.groups.iter().any(|&group| group as usize >= n_groups) {
            return Err(Error::BadPartial { reason: "a piece names an unknown group".to_owned() });
        }
        Ok(dictionary)
    }
}
