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
    /// Goes on with the rollups there are, such as those of a snapshot. Numbers below `next` are not given again.
    pub fn resume<'a>(there: impl IntoIterator<Item = (u32, &'a Arc<Rollup>)>, next: u32) -> RollupNumbers {
        let known: HashMap<_, _> =
            there.into_iter().map(|(number, rollup)| (rollup.identity(), number)).collect();
        let next = known.values().map(|number| number + 1).max().unwrap_or(0).max(next);
        RollupNumbers { known, next }
    }

    /// The first number that was never given.
    pub fn next(&self) -> u32 {
        self.next
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

        let mut again = RollupNumbers::resume([(2, &rollup("z", "avg"))], 7);
        let (given, change) = again.set(&[rollup("a", "avg"), rollup("b", "max")]);
        assert_eq!((given, change.added[0].0, again.next()), (vec![2, 7], 7, 8));
    }
}
