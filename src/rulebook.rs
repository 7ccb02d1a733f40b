//! The alert rules as the edge knows them: which are wanted, their numbers, and what changes when others are.
//!
//! A rule keeps its number for as long as it is the same but for its texts; no number is used twice. A change travels
//! with an epoch, so it stands in the journal, and a restart goes on with the rules that the state was made with
//! before it looks what the configuration wants now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use operators::rule::{Rule, RuleChange};
use parking_lot::Mutex;

use crate::alerts::AlertBoard;
use crate::intake::Intake;
use crate::rules::store::RulesApplied;

/// The rules that are in force.
#[derive(Debug, Default)]
pub struct RuleBook {
    next: u32,
    rules: BTreeMap<u32, Rule>,
}

impl RuleBook {
    /// Takes note of a change that an epoch carried.
    pub fn note(&mut self, change: &RuleChange) {
        for number in &change.removed {
            self.rules.remove(number);
        }
        for (number, rule) in &change.added {
            self.rules.insert(*number, rule.clone());
            self.next = self.next.max(number.saturating_add(1));
        }
    }

    /// The rules, by number.
    pub fn rules(&self) -> impl Iterator<Item = (u32, &Rule)> {
        self.rules.iter().map(|(number, rule)| (*number, rule))
    }

    /// What changes so that `wanted` are in force; nothing if they are. Of several alike the first is the first's.
    pub fn change_to(&self, wanted: Vec<Rule>) -> RuleChange {
        let mut known: HashMap<u128, Vec<u32>> = HashMap::new();
        for (number, rule) in self.rules.iter().rev() {
            known.entry(rule.identity()).or_default().push(*number);
        }
        let (mut change, mut next) = (RuleChange::default(), self.next);
        for rule in wanted {
            match known.get_mut(&rule.identity()).and_then(Vec::pop) {
                Some(number) if self.rules.get(&number) == Some(&rule) => {}
                // Other texts.
                Some(number) => change.added.push((number, rule)),
                None => {
                    change.added.push((next, rule));
                    next = next.saturating_add(1);
                }
            }
        }
        change.removed = known.into_values().flatten().collect();
        change.removed.sort_unstable();
        change
    }
}

/// Has other rules come into force.
pub struct RuleControl {
    book: Mutex<RuleBook>,
    board: Arc<AlertBoard>,
    intake: Arc<Intake>,
}

impl RuleControl {
    /// Goes on from the rules that are in force.
    pub fn new(book: Mutex<RuleBook>, board: Arc<AlertBoard>, intake: Arc<Intake>) -> RuleControl {
        RuleControl { book, board, intake }
    }

    /// Brings `wanted` into force, and says what changed.
    pub fn apply(&self, wanted: Vec<Rule>) -> RulesApplied {
        // Held to the end: of two changes the later is the one that stays.
        let mut book = self.book.lock();
        let change = book.change_to(wanted);
        if change.is_empty() {
            return RulesApplied::default();
        }
        let of_change: HashSet<u32> = change.added.iter().map(|(number, _)| *number).collect();
        let changed = book.rules().filter(|(number, _)| of_change.contains(number)).count();
        let names: HashSet<Arc<str>> = change.added.iter().map(|(_, rule)| rule.name.clone()).collect();
        let removed = book.rules().filter(|(number, _)| change.removed.binary_search(number).is_ok());
        let removed = removed.filter(|(_, rule)| !names.contains(&rule.name)).count();
        let applied = RulesApplied { added: change.added.len() - changed, changed, removed };
        book.note(&change);
        // Before the engine can speak of them.
        self.board.learn(&change);
        self.intake.change_rules(change);
        applied
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::rule::{Level, Texts};

    fn rule(name: &str, threshold: f64, message: &str) -> Rule {
        let level = Level::new(">".parse().unwrap(), threshold);
        let texts = Texts { message: message.into(), ..Texts::default() };
        Rule { name: name.into(), metric: "m".into(), level, texts, ..Rule::default() }
    }

    #[test]
    fn a_rule_keeps_its_number_while_it_is_the_same() {
        let mut book = RuleBook::default();
        let mut step = |wanted: Vec<Rule>| {
            let change = book.change_to(wanted);
            book.note(&change);
            let added: Vec<_> = change.added.iter().map(|(n, rule)| (*n, rule.name.to_string())).collect();
            (change.removed, added)
        };
        let names =
            |some: &[(u32, &str)]| some.iter().map(|(n, name)| (*n, name.to_string())).collect::<Vec<_>>();
        let (a, b) = (rule("a", 1.0, "x"), rule("b", 1.0, "x"));
        assert_eq!(step(vec![a.clone(), b.clone()]), (vec![], names(&[(0, "a"), (1, "b")])));
        assert_eq!(step(vec![b.clone(), a.clone()]), (vec![], vec![]), "whatever the order");
        assert_eq!(step(vec![a.clone(), rule("b", 1.0, "y")]), (vec![], names(&[(1, "b")])), "other texts");
        assert_eq!(
            step(vec![a.clone(), rule("b", 2.0, "y")]),
            (vec![1], names(&[(2, "b")])),
            "another threshold"
        );
        assert_eq!(step(vec![b.clone()]), (vec![0, 2], names(&[(3, "b")])), "a number is not used again");
        assert_eq!(step(vec![b.clone(), b.clone()]), (vec![], names(&[(4, "b")])), "two alike are two");
        assert_eq!(step(vec![]), (vec![3, 4], vec![]));
    }
}
