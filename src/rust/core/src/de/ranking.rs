//! Which sweeps over the sorted values of a gene give the ranks of every stratum.
//!
//! The values of a gene are sorted once, whatever the comparisons. Then:
//!
//! 1. Strata that share parts, directly or through others, make a *field*;
//!    fields are disjoint (the levels of `within`, blocks). One stable
//!    distribution gives each field its sorted values.
//! 2. A universe that is its whole field, or that three or more strata share,
//!    is ranked in one sweep for all its strata.
//! 3. What remains are pairs of parts, as in all pairs of groups: one sweep with
//!    cumulative counts for all of them ([`PairSweep`]); and sides of several
//!    parts, a sweep for each universe.

use super::contrast::{Contrasts, Side};
use super::groups::NONE;
use crate::stats::pairs::PairSweep;
use crate::stats::rank::{RankSums, TwoSamples, rank_sums};

/// Strata that share a universe before it is ranked for itself.
const SHARED: usize = 3;

/// The sweeps of one call; the same for every gene.
#[derive(Debug)]
pub(super) struct RankPlan {
    /// Field of each label, and the place of its part there.
    place: Vec<(u32, u32)>,
    fields: Vec<Field>,
    n_strata: usize,
    /// Whether labels are the places of the only field.
    direct: bool,
}

/// Parts that comparisons connect.
#[derive(Debug)]
struct Field {
    sizes: Vec<u64>,
    universes: Vec<Universe>,
    pairs: Option<Pairs>,
}

/// A universe that is ranked as a whole.
#[derive(Debug)]
struct Universe {
    /// Where each place of the field is in the universe; empty if they are the same.
    within: Vec<u32>,
    sizes: Vec<u64>,
    strata: Vec<OneSide>,
}

/// A stratum, given by one of its sides.
#[derive(Debug)]
struct OneSide {
    stratum: usize,
    places: Vec<u32>,
    /// Whether the places are those of the reference.
    reference: bool,
}

/// Strata of one part on each side.
#[derive(Debug)]
struct Pairs {
    sweep: PairSweep,
    strata: Vec<(usize, u32, u32)>,
}

/// One thread's memory: 24 bytes a nonzero value, beside the pairs.
#[derive(Debug, Default)]
pub(super) struct RankWork {
    /// What each stratum is.
    pub(super) strata: Vec<TwoSamples>,
    starts: Vec<usize>,
    keys: Vec<u64>,
    places: Vec<u32>,
    own_keys: Vec<u64>,
    own_places: Vec<u32>,
    ranks: RankSums,
    sweeps: Vec<Option<PairSweep>>,
}

impl RankPlan {
    pub(super) fn new(contrasts: &Contrasts) -> Self {
        let (field_of, n_fields) = fields(contrasts);
        let mut parts_of: Vec<Vec<u32>> = vec![Vec::new(); n_fields];
        let mut place_of_part = vec![(NONE, NONE); contrasts.n_parts()];
        for (part, &field) in field_of.iter().enumerate() {
            let parts = &mut parts_of[field as usize];
            place_of_part[part] = (field, parts.len() as u32);
            parts.push(part as u32);
        }
        let mut strata_of: Vec<Vec<usize>> = vec![Vec::new(); contrasts.universes().len()];
        for (stratum, pair) in contrasts.strata().iter().enumerate() {
            strata_of[pair.universe as usize].push(stratum);
        }
        let sizes = contrasts.part_sizes();
        let mut plan = RankPlan {
            place: contrasts.part_of().iter().map(|&p| place_of_part[p as usize]).collect(),
            fields: Vec::with_capacity(n_fields),
            n_strata: contrasts.strata().len(),
            direct: false,
        };
        plan.direct = plan.place.iter().enumerate().all(|(i, &p)| p == (0, i as u32));
        let mut pairs: Vec<Vec<(usize, u32, u32)>> = vec![Vec::new(); n_fields];
        for parts in &parts_of {
            let sizes = parts.iter().map(|&part| sizes[part as usize]).collect();
            plan.fields.push(Field { sizes, universes: Vec::new(), pairs: None });
        }
        for (members, strata) in contrasts.universes().iter().zip(&strata_of) {
            let (at, _) = place_of_part[members[0] as usize];
            let field = &mut plan.fields[at as usize];
            let whole = members.len() == field.sizes.len();
            let places: Vec<u32> =
                members.iter().map(|&part| place_of_part[part as usize].1).collect();
            if members.len() == 2 && !whole && strata.len() < SHARED {
                for &stratum in strata {
                    let group = contrasts.side(contrasts.strata()[stratum].group);
                    let first = usize::from(*group != Side::Parts(vec![members[0]]));
                    pairs[at as usize].push((stratum, places[first], places[1 - first]));
                }
                continue;
            }
            let mut within = Vec::new();
            if !whole {
                within.resize(field.sizes.len(), NONE);
                for (i, &place) in places.iter().enumerate() {
                    within[place as usize] = i as u32;
                }
            }
            let strata = strata.iter().map(|&stratum| one_side(contrasts, stratum, members));
            field.universes.push(Universe {
                sizes: places.iter().map(|&place| field.sizes[place as usize]).collect(),
                within,
                strata: strata.collect(),
            });
        }
        for (field, strata) in plan.fields.iter_mut().zip(pairs) {
            if !strata.is_empty() {
                let sweep =
                    PairSweep::new(field.sizes.len(), strata.iter().map(|&(_, a, b)| (a, b)));
                field.pairs = Some(Pairs { sweep, strata });
            }
        }
        plan
    }

    /// Ranks a gene: the sorted keys of its nonzero values and their labels.
    pub(super) fn rank(&self, keys: &[u64], labels: &[u32], work: &mut RankWork) {
        let none = TwoSamples { n1: 0, n2: 0, doubled_rank_sum: 0, tie_term: 0 };
        work.strata.clear();
        work.strata.resize(self.n_strata, none);
        if work.sweeps.len() != self.fields.len() {
            work.sweeps.clear();
            let sweeps = self.fields.iter().map(|f| f.pairs.as_ref().map(|p| p.sweep.clone()));
            work.sweeps.extend(sweeps);
        }
        if self.direct {
            for (at, field) in self.fields.iter().enumerate() {
                field.rank(at, keys, labels, work);
            }
            return;
        }
        self.distribute(keys, labels, work);
        // Taken out, so that a field can use the rest of the memory.
        let (keys, places) = (std::mem::take(&mut work.keys), std::mem::take(&mut work.places));
        let mut begin = 0;
        for (at, field) in self.fields.iter().enumerate() {
            let end = work.starts[at];
            field.rank(at, &keys[begin..end], &places[begin..end], work);
            begin = end;
        }
        (work.keys, work.places) = (keys, places);
    }

    /// Gives each field its values, in their order.
    fn distribute(&self, keys: &[u64], labels: &[u32], work: &mut RankWork) {
        work.starts.clear();
        work.starts.resize(self.fields.len() + 1, 0);
        for &label in labels {
            work.starts[self.place[label as usize].0 as usize + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut work.starts {
            sum += *start;
            *start = sum;
        }
        work.keys.resize(keys.len(), 0);
        work.places.resize(keys.len(), 0);
        for (&key, &label) in keys.iter().zip(labels) {
            let (field, place) = self.place[label as usize];
            let next = &mut work.starts[field as usize];
            work.keys[*next] = key;
            work.places[*next] = place;
            *next += 1;
        }
    }
}

impl Field {
    fn rank(&self, at: usize, keys: &[u64], places: &[u32], work: &mut RankWork) {
        if let (Some(pairs), Some(sweep)) = (&self.pairs, &mut work.sweeps[at]) {
            sweep.run(keys, places, &self.sizes);
            for &(stratum, first, second) in &pairs.strata {
                work.strata[stratum] = sweep.of(first, second, &self.sizes);
            }
        }
        for universe in &self.universes {
            if universe.within.is_empty() {
                rank_sums(keys, places, &universe.sizes, &mut work.ranks);
            } else {
                work.own_keys.clear();
                work.own_places.clear();
                for (&key, &place) in keys.iter().zip(places) {
                    let place = universe.within[place as usize];
                    if place != NONE {
                        work.own_keys.push(key);
                        work.own_places.push(place);
                    }
                }
                let (keys, places) = (&work.own_keys, &work.own_places);
                rank_sums(keys, places, &universe.sizes, &mut work.ranks);
            }
            let n: u64 = universe.sizes.iter().sum();
            for side in &universe.strata {
                let of = |values: &[u64]| -> u64 {
                    side.places.iter().map(|&place| values[place as usize]).sum()
                };
                let (own, doubled) = (of(&universe.sizes), of(&work.ranks.doubled));
                let (n1, doubled_rank_sum) =
                    if side.reference { (n - own, n * (n + 1) - doubled) } else { (own, doubled) };
                let tie_term = work.ranks.tie_term;
                work.strata[side.stratum] =
                    TwoSamples { n1, n2: n - n1, doubled_rank_sum, tie_term };
            }
        }
    }
}

/// A stratum by the side that lists its parts; their places in the universe.
fn one_side(contrasts: &Contrasts, stratum: usize, members: &[u32]) -> OneSide {
    let pair = contrasts.strata()[stratum];
    let places = |own: &[u32]| {
        own.iter().map(|part| members.partition_point(|member| member < part) as u32).collect()
    };
    match (contrasts.side(pair.group), contrasts.side(pair.reference)) {
        (Side::Parts(own), _) => OneSide { stratum, places: places(own), reference: false },
        (_, Side::Parts(own)) => OneSide { stratum, places: places(own), reference: true },
        // A side is all but one part only where the other is that part.
        (Side::AllBut { at, .. }, _) => OneSide { stratum, places: vec![*at], reference: true },
    }
}

/// The field of each part, numbered by their first parts, and how many there are.
fn fields(contrasts: &Contrasts) -> (Vec<u32>, usize) {
    let mut parent: Vec<u32> = (0..contrasts.n_parts() as u32).collect();
    for universe in contrasts.universes() {
        let first = root(&mut parent, universe[0]);
        for &part in &universe[1..] {
            let other = root(&mut parent, part);
            parent[other as usize] = first;
        }
    }
    let mut number = vec![NONE; parent.len()];
    let mut n_fields = 0;
    let of = (0..parent.len() as u32).map(|part| {
        let slot = &mut number[root(&mut parent, part) as usize];
        if *slot == NONE {
            *slot = n_fields;
            n_fields += 1;
        }
        *slot
    });
    (of.collect(), n_fields as usize)
}

/// The part that stands for the field of `part`; paths to it are halved on the way.
fn root(parent: &mut [u32], mut part: u32) -> u32 {
    while parent[part as usize] != part {
        parent[part as usize] = parent[parent[part as usize] as usize];
        part = parent[part as usize];
    }
    part
}
