//! The rules of a worker, by their numbers.

use std::sync::Arc;

use rapidhash::RapidHashMap as HashMap;

use crate::rule::{Rule, RuleChange};

/// The rules there are, by number.
#[derive(Clone, Debug, Default)]
pub struct Rules(HashMap<u32, Arc<Rule>>);

impl Rules {
    /// Takes note of a change. Rules that are gone stay until [`Self::forget`]: their alerts have to end.
    pub fn add(&mut self, change: &RuleChange) {
        for (number, rule) in &change.added {
            self.0.insert(*number, Arc::new(rule.clone()));
        }
    }

    /// Lets go of a rule.
    pub fn forget(&mut self, number: u32) {
        self.0.remove(&number);
    }

    /// A rule.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&Rule> {
        self.0.get(&number).map(|rule| &**rule)
    }

    /// All rules, by number.
    pub fn all(&self) -> Vec<(u32, Arc<Rule>)> {
        let mut all: Vec<_> = self.0.iter().map(|(number, rule)| (*number, rule.clone())).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all
    }
}
