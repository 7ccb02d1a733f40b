//! Alerts as people see them: the table of those pending and firing, and what receivers are told.
//!
//! This room knows the texts of transitions; it decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use operators::alert::{Kind, Machine, alert_id};
use operators::alerts::AlertTransition;
use operators::catalog::Catalog;
use operators::condition::Bounds;
use operators::rule::{Rule, Signal};
use operators::sample::{SeriesId, TimeNs};
use operators::series::SeriesKey;
use parking_lot::Mutex;

use crate::notify::receipt::Receipt;
use crate::notify::{Notification, Status};
use crate::templates::{Template, Values};

/// The texts of a rule, and its threshold for the payload.
#[derive(Clone, Debug)]
pub struct RuleTexts {
    /// Name.
    pub name: Arc<str>,
    /// Metric as the rule names it.
    pub metric: Arc<str>,
    /// Symbol of the comparison.
    pub operator: String,
    /// What is compared with.
    pub bounds: Bounds,
    /// Whether the value is how strange a sample is.
    pub is_score: bool,
    /// Severity.
    pub severity: Arc<str>,
    /// Message.
    pub message: Template,
    /// Further labels.
    pub labels: Vec<(Arc<str>, Template)>,
    /// Further texts.
    pub annotations: Vec<(Arc<str>, Template)>,
}

/// What is said of one alert, its values in their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Message.
    pub message: String,
    /// Further labels.
    pub labels: Vec<(Arc<str>, String)>,
    /// Further texts.
    pub annotations: Vec<(Arc<str>, String)>,
}

impl RuleTexts {
    /// Those of a rule.
    pub fn of(rule: &Rule) -> RuleTexts {
        // The settings let only templates through; any other text stands for itself.
        let template = |text: &Arc<str>| Template::parse(text).unwrap_or_else(|_| Template::plain(text));
        let all = |texts: &[(Arc<str>, Arc<str>)]| {
            texts.iter().map(|(name, text)| (name.clone(), template(text))).collect()
        };
        RuleTexts {
            name: rule.name.clone(),
            metric: rule.metric.as_str().into(),
            operator: rule.level.operator.to_string(),
            bounds: rule.level.bounds,
            is_score: matches!(rule.signal, Signal::Anomaly { .. }),
            severity: rule.texts.severity.clone(),
            message: template(&rule.texts.message),
            labels: all(&rule.texts.labels),
            annotations: all(&rule.texts.annotations),
        }
    }

    /// The threshold; of a range, the end that `value` is nearer to.
    pub fn threshold(&self, value: f64) -> f64 {
        let Bounds { lower, upper } = self.bounds;
        if (value - lower).abs() < (upper - value).abs() { lower } else { upper }
    }

    /// The labels of an alert, as Prometheus and Alertmanager have them, but for the rule's name: severity, service, tags
    /// and those of the rule, which stand above tags; and the metric where the rule names a family of them.
    pub fn labels(&self, key: &SeriesKey, told: &Told) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([("severity".to_string(), self.severity.to_string())]);
        if !key.target.service.is_empty() {
            labels.insert("service".into(), key.target.service.to_string());
        }
        if key.metric != self.metric {
            labels.insert("metric".into(), key.metric.to_string());
        }
        labels.extend(key.target.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        labels.extend(told.labels.iter().map(|(name, text)| (name.to_string(), text.clone())));
        labels
    }

    /// What is said of an alert at `at_ns`.
    pub fn told(&self, key: &SeriesKey, value: f64, started_ns: TimeNs, at_ns: TimeNs) -> Told {
        let values = Values {
            rule: &self.name,
            severity: &self.severity,
            metric: &key.metric,
            target: &key.target,
            value,
            threshold: self.bounds,
            score: self.is_score.then_some(value),
            band: None,
            started_ns,
            at_ns,
        };
        let all = |texts: &[(Arc<str>, Template)]| {
            texts.iter().map(|(name, text)| (name.clone(), text.render(&values))).collect()
        };
        Told {
            message: self.message.render(&values),
            labels: all(&self.labels),
            annotations: all(&self.annotations),
        }
    }
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
            Kind::Resolved { .. } | Kind::Retracted => {
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
        let told = rule.told(&key, transition.value, transition.since_ns, transition.at_ns);
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

    /// What receivers are to be told of a transition that the table knows already.
    pub fn told_again(&self, rule: &str, moved: &AlertTransition) -> Option<Notification> {
        let status = match moved.transition.kind {
            Kind::Pending | Kind::Cancelled => return None,
            Kind::Firing => Status::Firing,
            Kind::Resolved { .. } | Kind::Retracted => Status::Resolved,
        };
        let texts = self.rules.iter().find(|texts| &*texts.name == rule)?;
        self.notification(moved, status, texts)
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
        let texts = RuleTexts::of(&Rule { name: "r".into(), metric: "m".into(), ..Rule::default() });
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
