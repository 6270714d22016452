//! The nearest points seen so far.

/// The `k` nearest points seen so far, by separation, then index: the order in which
/// they are offered does not matter.
pub(super) struct Nearest {
    k: usize,
    entries: Vec<(f64, u32)>,
}

impl Nearest {
    pub(super) fn new(k: usize) -> Self {
        Nearest { k, entries: Vec::with_capacity(k + 1) }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Separations and indices, nearest first.
    pub(super) fn entries(&self) -> &[(f64, u32)] {
        &self.entries
    }

    /// What a further point must not exceed to be among the nearest.
    pub(super) fn limit(&self) -> f64 {
        if self.entries.len() < self.k { f64::INFINITY } else { self.entries[self.k - 1].0 }
    }

    pub(super) fn offer(&mut self, separation: f64, index: u32) {
        let before = |&(x, j): &(f64, u32)| x < separation || (x == separation && j < index);
        let at = self.entries.partition_point(before);
        if at < self.k {
            self.entries.truncate(self.k - 1);
            self.entries.insert(at, (separation, index));
        }
    }
}
