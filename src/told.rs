//! What people are told of one alert: the texts of its rule with its values in their places, and its labels.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::alert::Transition;
use operators::condition::Bounds;
use operators::rule::{Rule, Signal};
use operators::sample::{SECOND, TimeNs};
use operators::series::SeriesKey;

use crate::templates::{Template, Values};

/// The moment of an alert that is spoken of.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// The value.
    pub value: f64,
    /// When the breach began, event time.
    pub since_ns: TimeNs,
    /// The moment, event time.
    pub at_ns: TimeNs,
    /// What was expected, where a detector says so.
    pub band: Option<Bounds>,
}

impl Said {
    /// What a transition says.
    pub fn of(transition: &Transition) -> Said {
        let Transition { value, since_ns, at_ns, .. } = *transition;
        Said { value, since_ns, at_ns, band: None }
    }
}

/// What is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Message.
    pub message: String,
    /// Labels that the rule adds.
    pub labels: Vec<(Arc<str>, String)>,
    /// Annotations.
    pub annotations: Vec<(Arc<str>, String)>,
}

impl Told {
    /// The texts of `rule` for an alert of the series, or group, `key`.
    pub fn of(rule: &Rule, key: &SeriesKey, said: &Said) -> Told {
        let threshold = match rule.signal {
            Signal::Absent { for_ns } | Signal::Stale { for_ns } => (for_ns as f64 / SECOND as f64).into(),
            _ => rule.level.bounds,
        };
        let values = Values {
            rule: &rule.name,
            severity: &rule.texts.severity,
            metric: &key.metric,
            target: &key.target,
            value: said.value,
            threshold,
            score: matches!(rule.signal, Signal::Anomaly { .. }).then_some(said.value),
            band: said.band,
            started_ns: said.since_ns,
            at_ns: said.at_ns,
        };
        // The settings let only templates through; any other text stands for itself.
        let render = |text: &str| match Template::parse(text) {
            Ok(template) => template.render(&values),
            Err(_) => text.to_string(),
        };
        let all = |texts: &[(Arc<str>, Arc<str>)]| {
            texts.iter().map(|(name, text)| (name.clone(), render(text))).collect()
        };
        Told {
            message: render(&rule.texts.message),
            labels: all(&rule.texts.labels),
            annotations: all(&rule.texts.annotations),
        }
    }

    /// All labels, as Prometheus and Alertmanager have them, but for the rule's name: severity, service, tags and those
    /// of the rule, which stand above tags; and the metric where the rule names a family of them.
    pub fn labels(&self, rule: &Rule, key: &SeriesKey) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([("severity".to_string(), rule.texts.severity.to_string())]);
        if !key.target.service.is_empty() {
            labels.insert("service".into(), key.target.service.to_string());
        }
        if *key.metric != *rule.metric {
            labels.insert("metric".into(), key.metric.to_string());
        }
        labels.extend(key.target.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        labels.extend(self.labels.iter().map(|(name, text)| (name.to_string(), text.clone())));
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::rule::Texts;
    use operators::series::Target;

    #[test]
    fn labels_of_a_rule_stand_above_tags() {
        let texts = Texts {
            severity: "page".into(),
            message: "{{value}} of {{threshold}}".into(),
            labels: vec![("host".into(), "{{tag.host}}!".into()), ("team".into(), "x".into())],
            annotations: vec![("runbook".into(), "{{rule".into())],
        };
        let rule = Rule {
            name: "r".into(),
            metric: "cpu_usage".into(),
            signal: Signal::Stale { for_ns: 90 * SECOND },
            texts,
            ..Rule::default()
        };
        let target = Arc::new(Target::new("s", [("host", "a"), ("zone", "b")]));
        let key = SeriesKey { target, metric: "cpu_usage_percent".into() };
        let told = Told::of(&rule, &key, &Said { value: 100.0, since_ns: 0, at_ns: 0, band: None });
        assert_eq!(told.message, "100 of 90");
        assert_eq!(told.annotations, [("runbook".into(), "{{rule".to_string())]);
        let labels: Vec<(String, String)> = told.labels(&rule, &key).into_iter().collect();
        let expected = [
            ("host", "a!"),
            ("metric", "cpu_usage_percent"),
            ("service", "s"),
            ("severity", "page"),
            ("team", "x"),
            ("zone", "b"),
        ];
        assert_eq!(labels, expected.map(|(name, text)| (name.to_string(), text.to_string())));
    }
}
