//! Alerts as people see them: the table of those pending and firing, and what receivers are told.
//!
//! This room knows the texts of transitions; it decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use operators::alert::{Kind, Machine, alert_id};
use operators::alerts::AlertTransition;
use operators::catalog::Catalog;
use operators::sample::{SeriesId, TimeNs};
use operators::series::SeriesKey;
use parking_lot::Mutex;

use crate::notify::receipt::Receipt;
use crate::notify::{Notification, Status};

/// The texts of a rule, and its threshold for the payload.
#[derive(Clone, Debug)]
pub struct RuleTexts {
    /// Name.
    pub name: Arc<str>,
    /// Metric as the rule names it.
    pub metric: Arc<str>,
    /// Symbol of the comparison.
    pub operator: String,
    /// Threshold.
    pub threshold: f64,
    /// Severity.
    pub severity: Arc<str>,
    /// Message.
    pub message: Arc<str>,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug)]
pub struct Active {
    /// Stable identity of rule and series.
    pub id: u128,
    /// The rule's number.
    pub rule: u32,
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
    rules: Vec<RuleTexts>,
    catalog: Arc<Catalog>,
    /// By rule and series. Most alerts come and go unseen, so what people read is looked up when they do.
    active: Mutex<BTreeMap<(u32, SeriesId), State>>,
    /// Transitions by kind: pending, cancelled, firing, resolved.
    pub counts: [AtomicU64; 4],
}

impl AlertBoard {
    /// A board for `rules`, numbered by their place.
    pub fn new(rules: Vec<RuleTexts>, catalog: Arc<Catalog>) -> AlertBoard {
        AlertBoard { rules, catalog, active: Mutex::default(), counts: Default::default() }
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
            Kind::Resolved { .. } => {
                active.remove(&place);
                (3, Some(Status::Resolved))
            }
        };
        drop(active);
        self.counts[count].fetch_add(1, Ordering::Relaxed);
        self.notification(moved, status?, rule)
    }

    /// What receivers are told of a transition.
    fn notification(
        &self,
        moved: &AlertTransition,
        status: Status,
        rule: &RuleTexts,
    ) -> Option<Notification> {
        let (key, transition) = (self.catalog.key(moved.series)?, moved.transition);
        Some(Notification {
            id: alert_id(&rule.name, &key),
            rule: rule.name.clone(),
            target: key.target,
            metric: key.metric,
            severity: rule.severity.clone(),
            message: rule.message.clone(),
            value: transition.value,
            threshold: rule.threshold,
            time_ns: transition.at_ns,
            started_ns: transition.since_ns,
            status,
            receipt: Receipt::default(),
        })
    }

    /// What receivers are to be told of a transition that the table knows already.
    pub fn told_again(&self, rule: &str, moved: &AlertTransition) -> Option<Notification> {
        let status = match moved.transition.kind {
            Kind::Pending | Kind::Cancelled => return None,
            Kind::Firing => Status::Firing,
            Kind::Resolved { .. } => Status::Resolved,
        };
        let texts = self.rules.iter().find(|texts| &*texts.name == rule)?;
        self.notification(moved, status, texts)
    }

    /// What receivers have been told of alerts that fire.
    pub fn firing(&self) -> Vec<Notification> {
        let firing = self.active().into_iter().filter_map(|alert| {
            let rule = self.rules.get(alert.rule as usize)?;
            Some(Notification {
                id: alert.id,
                rule: rule.name.clone(),
                target: alert.key.target,
                metric: alert.key.metric,
                severity: rule.severity.clone(),
                message: rule.message.clone(),
                value: alert.value,
                threshold: rule.threshold,
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
        let states: Vec<((u32, SeriesId), State)> =
            self.active.lock().iter().map(|(place, state)| (*place, *state)).collect();
        let shown = states.into_iter().filter_map(|((rule, series), state)| {
            let key = self.catalog.key(series)?;
            Some(Active {
                id: alert_id(&self.rules.get(rule as usize)?.name, &key),
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

    /// The rules.
    pub fn rules(&self) -> &[RuleTexts] {
        &self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::alert::Transition;
    use operators::catalog::CatalogLimits;
    use operators::series::Target;

    #[test]
    fn the_board_shows_what_is_pending_and_firing() {
        let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
        let series = catalog.resolve(&Arc::new(Target::new("s", [])), "m").unwrap();
        let texts = RuleTexts {
            name: "r".into(),
            metric: "m".into(),
            operator: ">".into(),
            threshold: 1.0,
            severity: "warning".into(),
            message: "".into(),
        };
        let board = AlertBoard::new(vec![texts], catalog);
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
