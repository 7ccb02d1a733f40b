//! Alerts as people see them: the table of those pending and firing, and what receivers are told.
//!
//! This room knows the texts of transitions; it decides nothing.

mod texts;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use operators::alert::{Kind, Machine, Transition, alert_id};
use operators::alerts::{AlertTransition, Expected, Source};
use operators::catalog::Catalog;
use operators::rollup::binding::Directory;
use operators::rule::{Grouping, ROLLUP_OF_RULE, Rule, RuleChange, Signal};
use operators::sample::{SeriesId, TimeNs};
use operators::series::SeriesKey;
use parking_lot::{Mutex, RwLock};
use rapidhash::RapidHashMap as HashMap;

use crate::alert_history::{AlertHistory, Past};
use crate::notify::receipt::Receipt;
use crate::notify::{Notification, Status};

pub use texts::{RuleTexts, Told};

/// An alert that is pending or firing.
#[derive(Clone, Debug)]
pub struct Active {
    /// Stable identity of rule and series.
    pub id: u128,
    /// The rule.
    pub rule: Arc<KnownRule>,
    /// The series.
    pub key: SeriesKey,
    /// Whether it fires, or still waits for its duration.
    pub firing: bool,
    /// When the breach began.
    pub since_ns: TimeNs,
    /// When it fired.
    pub fired_ns: Option<TimeNs>,
    /// Value at the last transition.
    pub value: f64,
    /// What a detector thought of it.
    pub expected: Option<Expected>,
    /// What the rule says of it.
    pub told: Told,
}

/// What is remembered of an alert that is pending or firing.
#[derive(Clone, Copy)]
struct State {
    since_ns: TimeNs,
    fired_ns: Option<TimeNs>,
    value: f64,
    expected: Option<Expected>,
}

/// The table.
pub struct AlertBoard {
    rules: RwLock<Rules>,
    catalog: Arc<Catalog>,
    /// By rule and source. Most alerts come and go unseen, so what people read is looked up when they do.
    active: Mutex<HashMap<(u32, Source), State>>,
    /// Transitions by kind: pending, cancelled, firing, resolved, retracted.
    pub counts: [AtomicU64; 5],
    /// The latest transitions.
    pub history: AlertHistory,
    directory: OnceLock<Arc<Directory>>,
    /// Groups that were named: when a rule goes, its groups do, and the last words of their alerts are still to come.
    groups: Mutex<HashMap<Source, SeriesKey>>,
}

/// A rule, and what it has to say.
#[derive(Clone, Debug)]
pub struct KnownRule {
    /// Its number.
    pub number: u32,
    /// The rule.
    pub rule: Rule,
    /// Its texts.
    pub texts: RuleTexts,
}

/// Rules by number; those that are gone for as long as their last transitions may be on their way.
#[derive(Default)]
struct Rules {
    all: BTreeMap<u32, Arc<KnownRule>>,
    gone: VecDeque<u32>,
}

/// Groups whose names are remembered.
const GROUPS_MAX: usize = 100_000;
/// Rules that are gone and still known.
const GONE_MAX: usize = 100_000;

impl AlertBoard {
    /// A board without rules.
    pub fn new(catalog: Arc<Catalog>) -> AlertBoard {
        let (rules, active, counts, history) = Default::default();
        let (directory, groups) = Default::default();
        AlertBoard { rules, catalog, active, counts, history, directory, groups }
    }

    /// Takes note of rules that come and go.
    pub fn learn(&self, change: &RuleChange) {
        let mut rules = self.rules.write();
        rules.gone.extend(&change.removed);
        while rules.gone.len() > GONE_MAX {
            if let Some(number) = rules.gone.pop_front() {
                rules.all.remove(&number);
            }
        }
        for (number, rule) in &change.added {
            let known = KnownRule { number: *number, rule: rule.clone(), texts: RuleTexts::of(rule) };
            rules.all.insert(*number, Arc::new(known));
        }
    }

    /// A rule, in force or gone not long ago.
    pub fn rule(&self, number: u32) -> Option<Arc<KnownRule>> {
        self.rules.read().all.get(&number).cloned()
    }

    /// The rules that are in force, by number.
    pub fn rules(&self) -> Vec<Arc<KnownRule>> {
        let rules = self.rules.read();
        let gone: HashSet<u32> = rules.gone.iter().copied().collect();
        let in_force = rules.all.iter().filter(|(number, _)| !gone.contains(number));
        in_force.map(|(_, rule)| rule.clone()).collect()
    }

    /// What a source is: a series, or what the members of a group share with the metric of its rule.
    pub fn key(&self, source: Source) -> Option<SeriesKey> {
        let (rollup, group) = match source {
            Source::Series(series) => return self.catalog.key(series),
            Source::Group { rollup, group } => (rollup, group),
        };
        if let Some(known) = self.groups.lock().get(&source) {
            return Some(known.clone());
        }
        let known = self.rule(rollup & !ROLLUP_OF_RULE)?;
        let key = group_key(&known.rule, rollup, group, &self.catalog, self.directory.get()?)?;
        let mut groups = self.groups.lock();
        if groups.len() >= GROUPS_MAX {
            groups.clear();
        }
        groups.insert(source, key.clone());
        Some(key)
    }

    /// Knows from now on what groups are called.
    pub fn name_groups(&self, directory: Arc<Directory>) {
        // There is one engine; a second would change nothing.
        let _ = self.directory.set(directory);
    }

    /// Puts an alert back that was pending or firing when a checkpoint was made. `value` is that of its last transition.
    pub fn restore(&self, rule: u32, source: Source, machine: &Machine, value: f64) {
        if let Some(since_ns) = machine.since_ns() {
            let state = State { since_ns, fired_ns: machine.fired_ns(), value, expected: None };
            self.active.lock().insert((rule, source), state);
        }
    }

    /// Takes note of what an epoch says. Where it is said for the first time, it is remembered, and `tell` is called with
    /// what receivers are to be told and of which of the transitions.
    pub fn apply(
        &self,
        epoch: u64,
        transitions: &[AlertTransition],
        fresh: bool,
        mut tell: impl FnMut(u32, Notification),
    ) {
        let mut told = Vec::new();
        let mut counts = [0; 5];
        let mut past = Vec::with_capacity(transitions.len());
        let mut active = self.active.lock();
        let mut last: Option<Arc<KnownRule>> = None;
        for (place, moved) in (0..).zip(transitions) {
            // Mostly one rule has much to say at a time.
            if last.as_ref().is_none_or(|rule| rule.number != moved.rule) {
                last = self.rule(moved.rule);
            }
            let Some(rule) = &last else { continue };
            counts[show(&mut active, moved)] += 1;
            if let Some(status) = status(moved.transition.kind).filter(|_| fresh) {
                told.push((place, status, rule.clone(), moved));
            }
            if fresh {
                let (name, rule) = (rule.texts.name.clone(), Some(rule.clone()));
                past.push(Past { epoch, name, rule, moved: *moved });
            }
        }
        drop(active);
        for (count, more) in self.counts.iter().zip(counts) {
            count.fetch_add(more, Ordering::Relaxed);
        }
        self.history.extend(past);
        for (place, status, rule, moved) in told {
            if let Some(notification) = self.notification(moved, status, &rule.texts) {
                tell(place, notification);
            }
        }
    }

    /// What receivers are told of a transition.
    fn notification(
        &self,
        moved: &AlertTransition,
        status: Status,
        rule: &RuleTexts,
    ) -> Option<Notification> {
        let (key, transition) = (self.key(moved.source)?, moved.transition);
        let told = self.told(rule, &key, moved);
        Some(Notification {
            id: alert_id(&rule.name, &key),
            rule: rule.name.clone(),
            target: key.target,
            metric: key.metric,
            severity: rule.severity.clone(),
            message: told.message.into(),
            value: transition.value,
            threshold: rule.threshold(transition.value),
            labels: told.labels.into(),
            annotations: told.annotations.into(),
            expected: moved.expected,
            time_ns: transition.at_ns,
            started_ns: transition.since_ns,
            status,
            receipt: Receipt::default(),
        })
    }

    /// What a rule says of a transition.
    pub fn told(&self, rule: &RuleTexts, key: &SeriesKey, moved: &AlertTransition) -> Told {
        let Transition { value, since_ns, at_ns, .. } = moved.transition;
        rule.told(key, value, moved.expected, since_ns, at_ns)
    }

    /// What receivers are to be told of a transition that the table knows already.
    pub fn told_again(&self, rule: &str, moved: &AlertTransition) -> Option<Notification> {
        let status = status(moved.transition.kind)?;
        let rules = self.rules.read();
        // The newest of the name: numbers change with what a rule is, and texts with the configuration.
        let known = rules.all.values().rev().find(|known| *known.texts.name == *rule)?;
        self.notification(moved, status, &known.texts)
    }

    /// What receivers have been told of alerts that fire.
    pub fn firing(&self) -> Vec<Notification> {
        let firing = self.active().into_iter().filter_map(|alert| {
            let rule = &alert.rule.texts;
            Some(Notification {
                id: alert.id,
                rule: rule.name.clone(),
                target: alert.key.target,
                metric: alert.key.metric,
                severity: rule.severity.clone(),
                message: alert.told.message.into(),
                value: alert.value,
                threshold: rule.threshold(alert.value),
                labels: alert.told.labels.into(),
                annotations: alert.told.annotations.into(),
                expected: alert.expected,
                time_ns: alert.fired_ns?,
                started_ns: alert.since_ns,
                status: Status::Firing,
                receipt: Receipt::default(),
            })
        });
        firing.collect()
    }

    /// How many alerts are pending or firing.
    pub fn active_len(&self) -> usize {
        self.active.lock().len()
    }

    /// Alerts that are pending or firing, firing ones first.
    pub fn active(&self) -> Vec<Active> {
        let mut states: Vec<((u32, Source), State)> =
            self.active.lock().iter().map(|(place, state)| (*place, *state)).collect();
        states.sort_unstable_by_key(|(place, _)| *place);
        let shown = states.into_iter().filter_map(|((number, source), state)| {
            let (key, rule) = (self.key(source)?, self.rule(number)?);
            let State { since_ns, fired_ns, value, expected } = state;
            let at_ns = fired_ns.unwrap_or(since_ns);
            Some(Active {
                id: alert_id(&rule.texts.name, &key),
                told: rule.texts.told(&key, value, expected, since_ns, at_ns),
                rule,
                key,
                firing: fired_ns.is_some(),
                since_ns,
                fired_ns,
                value,
                expected,
            })
        });
        let mut active: Vec<Active> = shown.collect();
        active.sort_by_key(|alert| (!alert.firing, alert.since_ns));
        active
    }
}

/// Has the table show a transition; gives which of the counts it belongs to.
fn show(active: &mut HashMap<(u32, Source), State>, moved: &AlertTransition) -> usize {
    let transition = moved.transition;
    let (since_ns, value, expected) = (transition.since_ns, transition.value, moved.expected);
    let state = |fired_ns| State { since_ns, fired_ns, value, expected };
    let (count, now) = match transition.kind {
        Kind::Pending => (0, Some(state(None))),
        Kind::Cancelled => (1, None),
        Kind::Firing => (2, Some(state(Some(transition.at_ns)))),
        Kind::Resolved { .. } => (3, None),
        Kind::Retracted => (4, None),
    };
    match (active.entry((moved.rule, moved.source)), now) {
        // A correction may speak of an earlier breach than the one that is shown.
        (Entry::Occupied(mut shown), Some(state)) if shown.get().since_ns <= since_ns => {
            shown.insert(state);
        }
        (Entry::Occupied(shown), None) if shown.get().since_ns == since_ns => {
            shown.remove();
        }
        (Entry::Vacant(place), Some(state)) => {
            place.insert(state);
        }
        _ => {}
    }
    count
}

/// What a group of a rule's windows is: the series that stands for itself, or what its members share with the metric of
/// the rule.
pub fn group_key(
    rule: &Rule,
    rollup: u32,
    group: u64,
    catalog: &Catalog,
    directory: &Directory,
) -> Option<SeriesKey> {
    match &rule.signal {
        Signal::Window(window) if window.grouping == Grouping::Series => {
            catalog.key(SeriesId::try_from(group).ok()?)
        }
        _ => {
            let target = Arc::new(directory.group(rollup, group)?);
            Some(SeriesKey { target, metric: rule.metric.as_str().into() })
        }
    }
}

/// What receivers call a transition of this kind, if they are told.
fn status(kind: Kind) -> Option<Status> {
    match kind {
        Kind::Pending | Kind::Cancelled => None,
        Kind::Firing => Some(Status::Firing),
        Kind::Resolved { .. } => Some(Status::Resolved),
        Kind::Retracted => Some(Status::Retracted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::catalog::CatalogLimits;
    use operators::series::Target;

    #[test]
    fn the_board_shows_what_is_pending_and_firing() {
        let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
        let series = catalog.resolve(&Arc::new(Target::new("s", [])), "m").unwrap();
        let rule = Rule { name: "r".into(), metric: "m".into(), ..Rule::default() };
        let board = AlertBoard::new(catalog);
        board.learn(&RuleChange { removed: Vec::new(), added: vec![(0, rule)] });
        assert_eq!(board.rules().len(), 1);
        let seen = |kind, since_ns, at_ns| {
            let transition = Transition { kind, at_ns, since_ns, value: 2.0, decided_by_ns: at_ns };
            let source = Source::Series(series);
            board.apply(
                1,
                &[AlertTransition { rule: 0, source, transition, expected: None }],
                true,
                |_, _| {},
            );
            board.active().iter().map(|a| (a.firing, a.since_ns, a.fired_ns)).collect::<Vec<_>>()
        };
        assert_eq!(seen(Kind::Pending, 5, 5), [(false, 5, None)]);
        assert_eq!(seen(Kind::Firing, 5, 9), [(true, 5, Some(9))]);
        // Corrections of an earlier breach leave this one as it is.
        let resolved = Kind::Resolved { no_data: false };
        assert_eq!(seen(Kind::Firing, 1, 2), [(true, 5, Some(9))]);
        assert_eq!(seen(resolved, 1, 3), [(true, 5, Some(9))]);
        assert_eq!(seen(Kind::Retracted, 5, 9), []);
        assert_eq!(seen(Kind::Firing, 6, 9), [(true, 6, Some(9))]);
        assert_eq!(seen(resolved, 6, 12), []);
        board.learn(&RuleChange { removed: vec![0], added: Vec::new() });
        assert_eq!(
            (board.rules().len(), board.rule(0).is_some()),
            (0, true),
            "its last words may be on their way"
        );
    }
}
