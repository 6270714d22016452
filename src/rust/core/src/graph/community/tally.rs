//! Sums of weights by community, for one node after the other.

/// A sum for each of some communities, and which of them are not zero.
///
/// Weights are positive, so a sum of zero is one that nothing was added to. Nothing is searched
/// or hashed: a look costs one access. Memory: 8 bytes for each community there could be.
pub(super) struct Tally {
    sums: Vec<f64>,
    touched: Vec<u32>,
}

impl Tally {
    /// Sums of zero for `n` communities.
    pub fn new(n: usize) -> Self {
        Tally { sums: vec![0.0; n], touched: Vec::new() }
    }

    /// Adds a positive weight.
    #[inline]
    pub fn add(&mut self, at: u32, weight: f64) {
        let sum = &mut self.sums[at as usize];
        if *sum == 0.0 {
            self.touched.push(at);
        }
        *sum += weight;
    }

    /// The sum of a community.
    #[inline]
    pub fn get(&self, at: u32) -> f64 {
        self.sums[at as usize]
    }

    /// Communities in the order in which they were met first, with their sums.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f64)> {
        self.touched.iter().map(|&at| (at, self.sums[at as usize]))
    }

    /// All sums are zero again.
    pub fn clear(&mut self) {
        for &at in &self.touched {
            self.sums[at as usize] = 0.0;
        }
        self.touched.clear();
    }
}
