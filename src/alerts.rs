//! Alerts as people see them: the table of those pending and firing, and what receivers are told.
//!
//! This room knows the texts of transitions; it decides nothing.

mod texts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use operators::alert::{Kind, Machine, Transition, alert_id};
use operators::alerts::AlertTransition;
use operators::catalog::Catalog;
use operators::rule::Rule;
use operators::sample::{SeriesId, TimeNs};
use operators::series::SeriesKey;
use parking_lot::Mutex;

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
    /// What the rule says of it.
    pub told: Told,
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

/// What is remembered of an alert that is pending or firing.
#[derive(Clone, Copy)]
struct State {
    since_ns: TimeNs,
    fired_ns: Option<TimeNs>,
    value: f64,
}

/// The table.
pub struct AlertBoard {
    rules: Vec<Arc<KnownRule>>,
    catalog: Arc<Catalog>,
    /// By rule and series. Most alerts come and go unseen, so what people read is looked up when they do.
    active: Mutex<BTreeMap<(u32, SeriesId), State>>,
    /// Transitions by kind: pending, cancelled, firing, resolved.
    pub counts: [AtomicU64; 4],
    /// The latest transitions.
    pub history: AlertHistory,
}

impl AlertBoard {
    /// A board for `rules`, numbered by their place.
    pub fn new(rules: Vec<Rule>, catalog: Arc<Catalog>) -> AlertBoard {
        let known =
            |(number, rule): (u32, Rule)| Arc::new(KnownRule { number, texts: RuleTexts::of(&rule), rule });
        let rules = (0..).zip(rules).map(known).collect();
        AlertBoard {
            rules,
            catalog,
            active: Mutex::default(),
            counts: Default::default(),
            history: AlertHistory::default(),
        }
    }

    /// Puts an alert back that was pending or firing when a checkpoint was made. `value` is that of its last transition.
    pub fn restore(&self, rule: u32, series: SeriesId, machine: &Machine, value: f64) {
        if let Some(since_ns) = machine.since_ns() {
            let state = State { since_ns, fired_ns: machine.fired_ns(), value };
            self.active.lock().insert((rule, series), state);
        }
    }

    /// Takes note of a transition; gives what receivers are to be told, if anything.
    pub fn apply(&self, moved: &AlertTransition) -> Option<Notification> {
        let rule = self.rules.get(moved.rule as usize)?;
        let transition = moved.transition;
        let place = (moved.rule, moved.series);
        let state = |fired_ns| State { since_ns: transition.since_ns, fired_ns, value: transition.value };
        let mut active = self.active.lock();
        let (count, status) = match transition.kind {
            Kind::Pending => {
                active.insert(place, state(None));
                (0, None)
            }
            Kind::Cancelled => {
                active.remove(&place);
                (1, None)
            }
            Kind::Firing => {
                active.insert(place, state(Some(transition.at_ns)));
                (2, Some(Status::Firing))
            }
            Kind::Resolved { .. } | Kind::Retracted => {
                active.remove(&place);
                (3, Some(Status::Resolved))
            }
        };
        drop(active);
        self.counts[count].fetch_add(1, Ordering::Relaxed);
        self.notification(moved, status?, &rule.texts)
    }

    /// What receivers are told of a transition.
    fn notification(
        &self,
        moved: &AlertTransition,
        status: Status,
        rule: &RuleTexts,
    ) -> Option<Notification> {
        let (key, transition) = (self.key(moved)?, moved.transition);
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
            time_ns: transition.at_ns,
            started_ns: transition.since_ns,
            status,
            receipt: Receipt::default(),
        })
    }

    /// What a transition is of.
    pub fn key(&self, moved: &AlertTransition) -> Option<SeriesKey> {
        self.catalog.key(moved.series)
    }

    /// What a rule says of a transition.
    pub fn told(&self, rule: &RuleTexts, key: &SeriesKey, moved: &AlertTransition) -> Told {
        let Transition { value, since_ns, at_ns, .. } = moved.transition;
        rule.told(key, value, since_ns, at_ns)
    }

    /// Remembers a transition that an epoch said for the first time.
    pub fn remember(&self, epoch: u64, moved: &AlertTransition) {
        if let Some(rule) = self.rule(moved.rule) {
            self.history.push(Past { epoch, name: rule.texts.name.clone(), rule: Some(rule), moved: *moved });
        }
    }

    /// What receivers are to be told of a transition that the table knows already.
    pub fn told_again(&self, rule: &str, moved: &AlertTransition) -> Option<Notification> {
        let status = match moved.transition.kind {
            Kind::Pending | Kind::Cancelled => return None,
            Kind::Firing => Status::Firing,
            Kind::Resolved { .. } | Kind::Retracted => Status::Resolved,
        };
        let known = self.rules.iter().find(|known| *known.texts.name == *rule)?;
        self.notification(moved, status, &known.texts)
    }

    /// How many alerts are pending or firing.
    pub fn active_len(&self) -> usize {
        self.active.lock().len()
    }

    /// Alerts that are pending or firing, firing ones first.
    pub fn active(&self) -> Vec<Active> {
        let states: Vec<((u32, SeriesId), State)> =
            self.active.lock().iter().map(|(place, state)| (*place, *state)).collect();
        let shown = states.into_iter().filter_map(|((rule, series), state)| {
            let (key, rule) = (self.catalog.key(series)?, self.rules.get(rule as usize)?.clone());
            let at_ns = state.fired_ns.unwrap_or(state.since_ns);
            Some(Active {
                id: alert_id(&rule.texts.name, &key),
                told: rule.texts.told(&key, state.value, state.since_ns, at_ns),
                rule,
                key,
                firing: state.fired_ns.is_some(),
                since_ns: state.since_ns,
                fired_ns: state.fired_ns,
                value: state.value,
            })
        });
        let mut active: Vec<Active> = shown.collect();
        active.sort_by_key(|alert| (!alert.firing, alert.since_ns));
        active
    }

    /// A rule.
    pub fn rule(&self, number: u32) -> Option<Arc<KnownRule>> {
        self.rules.get(number as usize).cloned()
    }

    /// The rules that are in force, by number.
    pub fn rules(&self) -> Vec<Arc<KnownRule>> {
        self.rules.clone()
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
        let board = AlertBoard::new(vec![rule], catalog);
        let seen = |kind, at_ns| {
            let transition = Transition { kind, at_ns, since_ns: 5, value: 2.0, decided_by_ns: at_ns };
            board.apply(&AlertTransition { rule: 0, series, transition });
            board.active().iter().map(|a| (a.firing, a.since_ns, a.fired_ns)).collect::<Vec<_>>()
        };
        assert_eq!(seen(Kind::Pending, 5), [(false, 5, None)]);
        assert_eq!(seen(Kind::Firing, 9), [(true, 5, Some(9))]);
        assert_eq!(seen(Kind::Resolved { no_data: false }, 12), []);
    }
}
