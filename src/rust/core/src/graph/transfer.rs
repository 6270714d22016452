//! Labels of cells from those of their neighbours among others.

use super::neighbors::Neighbors;

/// What a neighbour's vote counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Votes {
    /// One each.
    Equal,
    /// One over the distance. Where neighbours are at no distance, they alone vote.
    ByDistance,
}

/// The winning label of a cell and its share of the votes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vote {
    /// The label; `None` where no neighbour has one.
    pub label: Option<u32>,
    /// Its share in the votes of all neighbours, those without a label too.
    pub share: f64,
}

/// The label that most neighbours of each cell have; of equal ones the first.
///
/// # Panics
/// If a neighbour has no entry in `labels`, or a label is not below `n_labels`.
#[must_use]
pub fn vote(
    neighbors: &Neighbors,
    labels: &[Option<u32>],
    n_labels: usize,
    votes: Votes,
) -> Vec<Vote> {
    let mut counts = vec![0.0; n_labels];
    (0..neighbors.len())
        .map(|cell| {
            let (index, distance) = neighbors.of(cell);
            let at_once = distance.first().is_some_and(|&nearest| nearest == 0.0);
            let weight = |d: f64| match votes {
                Votes::Equal => 1.0,
                Votes::ByDistance if at_once => f64::from(u8::from(d == 0.0)),
                Votes::ByDistance => 1.0 / d,
            };
            counts.fill(0.0);
            let mut total = 0.0;
            for (&j, &d) in index.iter().zip(distance) {
                total += weight(d);
                if let Some(label) = labels[j as usize] {
                    counts[label as usize] += weight(d);
                }
            }
            let mut best = Vote { label: None, share: 0.0 };
            let mut most = 0.0;
            for (label, &count) in counts.iter().enumerate() {
                if count > most {
                    most = count;
                    best = Vote { label: Some(label as u32), share: count / total };
                }
            }
            best
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_label_wins() {
        let neighbors = Neighbors {
            k: 3,
            index: vec![0, 1, 2, 2, 3, 4, 0, 3, 1, 4, 4, 4],
            distance: vec![1.0, 2.0, 2.0, 0.0, 0.0, 5.0, 0.5, 4.0, 4.0, 1.0, 1.0, 1.0],
        };
        let labels = [Some(1), Some(0), Some(0), Some(2), None];
        let as_pairs = |votes| -> Vec<(Option<u32>, f64)> {
            vote(&neighbors, &labels, 3, votes).iter().map(|v| (v.label, v.share)).collect()
        };
        let third = 1.0 / 3.0;
        // The second has one vote each for 0 and 2: the first of them. The last
        // knows cells without a label alone.
        assert_eq!(
            as_pairs(Votes::Equal),
            [(Some(0), 2.0 * third), (Some(0), third), (Some(0), third), (None, 0.0)]
        );
        assert_eq!(
            as_pairs(Votes::ByDistance),
            [(Some(0), 0.5), (Some(0), 0.5), (Some(1), 0.8), (None, 0.0)]
        );
        assert!(
            vote(&Neighbors { k: 3, index: vec![], distance: vec![] }, &[], 0, Votes::Equal)
                .is_empty()
        );
    }
}
