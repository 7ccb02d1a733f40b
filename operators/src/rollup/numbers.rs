//! The numbers of rollups: each definition once, however many ask for it, and no number twice.
//!
//! This is kept at the edge, by whoever seals epochs: what it says travels with them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Rollup, RollupChange};

/// Which definition has which number.
#[derive(Debug, Default)]
pub struct RollupNumbers {
    known: HashMap<u128, u32>,
    next: u32,
}

impl RollupNumbers {
    /// Takes note of a change that an epoch carried, or of the rollups of a snapshot.
    pub fn note(&mut self, change: &RollupChange) {
        self.known.retain(|_, number| !change.removed.contains(number));
        for (number, rollup) in &change.added {
            self.known.insert(rollup.identity(), *number);
            self.next = self.next.max(number.saturating_add(1));
        }
    }

    /// The number of a rollup, if it is there.
    pub fn number_of(&self, rollup: &Rollup) -> Option<u32> {
        self.known.get(&rollup.identity()).copied()
    }

    /// From now on there are these rollups and no others. Gives the number of each, and what changes.
    pub fn set(&mut self, wanted: &[Arc<Rollup>]) -> (Vec<u32>, RollupChange) {
        let mut added: BTreeMap<u32, Arc<Rollup>> = BTreeMap::new();
        let mut numbers = Vec::with_capacity(wanted.len());
        let mut kept: HashSet<u128> = HashSet::new();
        for rollup in wanted {
            let identity = rollup.identity();
            let number = *self.known.entry(identity).or_insert_with(|| {
                added.insert(self.next, rollup.clone());
                self.next += 1;
                self.next - 1
            });
            kept.insert(identity);
            numbers.push(number);
        }
        let mut removed: Vec<u32> = Vec::new();
        self.known.retain(|identity, number| {
            let stays = kept.contains(identity);
            if !stays {
                removed.push(*number);
            }
            stays
        });
        removed.sort_unstable();
        (numbers, RollupChange { removed, added: added.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Grouping;
    use crate::sample::SECOND;
    use crate::series::TargetMatcher;

    fn rollup(name: &str, function: &str) -> Arc<Rollup> {
        Arc::new(Rollup {
            name: name.into(),
            metric: "m".into(),
            matcher: TargetMatcher::default(),
            over: None,
            grouping: Grouping::By(Vec::new()),
            width_ns: 60 * SECOND,
            hop_ns: 60 * SECOND,
            functions: vec![function.into()],
            samples_min: 0,
            correct_ns: 600 * SECOND,
            keep_ns: 0,
        })
    }

    #[test]
    fn a_definition_has_one_number_whatever_its_names_and_no_number_comes_again() {
        let mut numbers = RollupNumbers::default();
        let (given, change) = numbers.set(&[rollup("a", "avg"), rollup("b", "max"), rollup("c", "avg")]);
        assert_eq!((given, change.added.len(), change.removed.len()), (vec![0, 1, 0], 2, 0));
        let (given, change) = numbers.set(&[rollup("d", "max")]);
        assert_eq!((given, change.added.len(), change.removed), (vec![1], 0, vec![0]));
        let (given, change) = numbers.set(&[rollup("a", "avg")]);
        assert_eq!((given, change.removed), (vec![2], vec![1]));
        assert_eq!(change.added, [(2, rollup("a", "avg"))]);

        let mut again = RollupNumbers::default();
        let added = vec![(2, rollup("z", "avg")), (6, rollup("y", "min"))];
        again.note(&RollupChange { removed: vec![], added });
        again.note(&RollupChange { removed: vec![6], added: vec![] });
        let (given, change) = again.set(&[rollup("a", "avg"), rollup("b", "max")]);
        assert_eq!((given, change.added[0].0), (vec![2, 7], 7));
    }
}
