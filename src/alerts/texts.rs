//! What a rule has to say of an alert: its texts with the values in their places, and the alert's labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::condition::Bounds;
use operators::rule::{Rule, Signal};
use operators::sample::{SECOND, TimeNs};
use operators::series::SeriesKey;

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
        let bounds = match rule.signal {
            // Seconds are what is compared.
            Signal::Absent { for_ns } | Signal::Stale { for_ns } => (for_ns as f64 / SECOND as f64).into(),
            _ => rule.level.bounds,
        };
        RuleTexts {
            name: rule.name.clone(),
            metric: rule.metric.as_str().into(),
            operator: rule.level.operator.to_string(),
            bounds,
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
            score: None,
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
