//! Alert rules as they are written: their keys. `check`: what no single key can tell; `files`: rules in files of
//! their own; `prometheus`: files as Prometheus has them; `test_file`: files with unit tests of rules.

mod check;
pub mod files;
mod prometheus;
pub mod test_file;
mod threshold;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use operators::function::{self, Function};

use super::compounds::{List, Optional, Sub, Tags};
use super::kinds::{BOOL, Kind, OneOf, Scalar, Shown, TEXT, choice as word, count, duration, scalar};
use super::report::{Origin, Report};
use super::section::{Key, Section, joined, read_section, section};
use super::units::show_duration;
use super::words::choice;
use super::written::Node;
use threshold::ThresholdKind;

pub(super) use check::{Names, check_names, check_windows, complete};
pub use threshold::Threshold;

choice! {
    /// How a value is compared with the threshold. A value for which it holds breaches.
    pub enum Operator {
        /// Greater.
        ">" => Above,
        /// Greater or equal.
        ">=" => AtLeast,
        /// Less.
        "<" => Below,
        /// Less or equal.
        "<=" => AtMost,
        /// Equal.
        "==" | "=" => Equal,
        /// Not equal.
        "!=" => NotEqual,
        /// Out of the range, whose ends belong to it.
        "outside" => Outside,
        /// In the range.
        "inside" => Inside,
    }
}

impl Operator {
    /// Whether it compares with a range.
    pub fn is_of_range(self) -> bool {
        matches!(self, Operator::Outside | Operator::Inside)
    }
}

choice! {
    /// What a rule compares, where its other keys do not say so.
    pub enum RuleCondition {
        /// Values, of samples or windows, with a threshold.
        "threshold" => Threshold,
        /// How strange each sample is, from 0 to 1.
        "anomaly" => Anomaly,
    }
}

/// Ways to tell how strange a sample is.
pub const METHODS: &[&str] = &["default", "robust_z", "ewma", "seasonal"];

/// The score from which on a sample counts as strange, unless a rule says another.
pub const SCORE_THRESHOLD: f64 = 0.5;

/// A rule: one state machine for each series, or group of series, that it matches.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSettings {
    /// Unique among all rules.
    pub name: String,
    /// A rule that is switched off is checked and does nothing. Default on.
    pub enabled: bool,
    /// Metric name or family.
    pub metric: String,
    /// Service that its series have, exact or a prefix before `*`; `None`: any.
    pub service: Option<String>,
    /// Tag values that its series have, exact or prefixes before `*`. Default none.
    pub tags: BTreeMap<String, String>,
    /// What is compared. Default values.
    pub condition: RuleCondition,
    /// Method of an anomaly. Default `default`.
    pub method: Option<String>,
    /// Window function whose value is compared; `None`: each sample is.
    pub func: Option<String>,
    /// Width of its window.
    pub window: Option<Duration>,
    /// Distance between two of its values. Default the finest pane's width.
    pub every: Option<Duration>,
    /// Tags whose values the series of a group share, `service` among them for the service.
    pub by: Option<Vec<String>>,
    /// Tags in which the series of a group may differ.
    pub without: Option<Vec<String>>,
    /// With fewer samples in a window there is no value. Default 1.
    pub min_samples: usize,
    /// What the value is divided by.
    pub over: Option<OverSettings>,
    /// Longest time between two samples that is no absence.
    pub absent_for: Option<Duration>,
    /// Greatest age of the newest sample, by our clock, that is not stale.
    pub stale_for: Option<Duration>,
    /// The comparison.
    pub operator: Operator,
    /// What values are compared with.
    pub threshold: Threshold,
    /// Up to here an alert that fires goes on.
    pub resolve_threshold: Option<Threshold>,
    /// How long a breach lasts before it fires, in event time. Default 0: at once.
    pub duration: Duration,
    /// How long an alert that fires goes on when its breach has ended. Default 0.
    pub keep_firing_for: Duration,
    /// Default `warning`.
    pub severity: String,
    /// A text with places. Default: what is compared, in words.
    pub message: String,
    /// Further labels, whose texts may have places.
    pub labels: BTreeMap<String, String>,
    /// Further texts with places.
    pub annotations: BTreeMap<String, String>,
    /// Where it was read. Not a key.
    pub source: RuleSource,
}

/// Where a rule was read. That is no part of what it is: all are equal.
#[derive(Clone, Debug)]
pub struct RuleSource {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Group of rules that it stands in.
    pub group: Arc<str>,
    /// Place of the rule.
    pub origin: Origin,
    /// Its path there, such as `alerts.rules[0]`.
    pub path: String,
    /// What an import could not say in the same way.
    pub notes: Vec<String>,
}

impl Default for RuleSource {
    fn default() -> RuleSource {
        let (file, group) = ("".into(), "alerts".into());
        RuleSource { file, group, origin: Origin::Default, path: String::new(), notes: Vec::new() }
    }
}

impl PartialEq for RuleSource {
    fn eq(&self, _: &RuleSource) -> bool {
        true
    }
}

/// The lower half of a ratio. What is absent is as in the upper half.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OverSettings {
    /// Metric name or family.
    pub metric: String,
    /// Window function.
    pub func: Option<String>,
    /// Service, or a prefix before `*`.
    pub service: Option<String>,
    /// Tag values, exact or prefixes before `*`.
    pub tags: Option<BTreeMap<String, String>>,
}

impl Default for RuleSettings {
    fn default() -> Self {
        RuleSettings {
            name: String::new(),
            enabled: true,
            metric: String::new(),
            service: None,
            tags: BTreeMap::new(),
            condition: RuleCondition::Threshold,
            method: None,
            func: None,
            window: None,
            every: None,
            by: None,
            without: None,
            min_samples: 1,
            over: None,
            absent_for: None,
            stale_for: None,
            operator: Operator::Above,
            threshold: Threshold::One(0.0),
            resolve_threshold: None,
            duration: Duration::ZERO,
            keep_firing_for: Duration::ZERO,
            severity: "warning".into(),
            message: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            source: RuleSource::default(),
        }
    }
}

impl RuleSettings {
    /// What it compares, as one line: `p99 by (host) (response_time_ms{service="a"}[5m]) > 250`.
    pub fn expression(&self) -> String {
        let matched = selector(&self.metric, self.service.as_deref(), &self.tags);
        if let Some(absent) = self.absent_for {
            return format!("absent({matched}[{}])", show_duration(absent));
        }
        if let Some(stale) = self.stale_for {
            return format!("age({matched}) > {}", show_duration(stale));
        }
        let value = match (&self.func, self.condition) {
            (Some(func), _) => {
                let by = self.grouping_text();
                let of = |func: &str, matched: &str| {
                    let window = self.window.map(show_duration).unwrap_or_default();
                    format!("{func}{by}({matched}[{window}])")
                };
                match &self.over {
                    None => of(func, &matched),
                    Some(over) => {
                        let service = over.service.as_ref().or(self.service.as_ref());
                        let tags = over.tags.as_ref().unwrap_or(&self.tags);
                        let below = selector(&over.metric, service.map(String::as_str), tags);
                        format!("{} / {}", of(func, &matched), of(over.func.as_ref().unwrap_or(func), &below))
                    }
                }
            }
            (None, RuleCondition::Anomaly) => {
                format!("anomaly_{}({matched})", self.method.as_deref().unwrap_or(METHODS[0]))
            }
            (None, RuleCondition::Threshold) => matched,
        };
        format!("{value} {} {}", self.operator, self.threshold)
    }

    fn grouping_text(&self) -> String {
        let list = |word: &str, names: &Vec<String>| format!(" {word} ({}) ", names.join(", "));
        let by = self.by.as_ref().map(|names| list("by", names));
        by.or_else(|| self.without.as_ref().map(|names| list("without", names))).unwrap_or_default()
    }
}

fn selector(metric: &str, service: Option<&str>, tags: &BTreeMap<String, String>) -> String {
    let service = service.map(|text| ("service", text));
    let tags = tags.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let matchers: Vec<String> = service
        .into_iter()
        .chain(tags)
        .map(|(name, text)| match text.strip_suffix('*') {
            Some(prefix) => format!("{name}=~{:?}", format!("{prefix}.*")),
            None => format!("{name}={text:?}"),
        })
        .collect();
    if matchers.is_empty() { metric.to_string() } else { format!("{metric}{{{}}}", matchers.join(",")) }
}

/// A window function by its name.
fn function() -> Scalar<String, String> {
    scalar(
        |text, _| Function::parse(text).map(|_| text.to_string()),
        |value| Shown::Text(value.clone()),
        format!("a window function: {}", function::names()),
    )
}

/// An entry of a list of rules: its keys, and what no single one of them can tell.
pub(super) struct Rule;

impl Kind<RuleSettings> for Rule {
    fn read(&self, node: &Node, into: &mut RuleSettings, key: &str, report: &mut Report) {
        read_section(node, into, key, report);
        into.source.origin = node.origin.clone();
        into.source.path = key.to_string();
        if let Origin::File { file, .. } = &node.origin {
            into.source.file = file.clone();
        }
        check::check_rule(into, key, node, report);
    }

    /// Without keys that have no meaning for it, which would be refused beside those that have.
    fn show(&self, value: &RuleSettings) -> Shown {
        let is_silence = value.absent_for.is_some() || value.stale_for.is_some();
        let means = |key: &str| match key {
            "operator" | "threshold" => !is_silence,
            "condition" => value.condition == RuleCondition::Anomaly,
            "min_samples" => value.func.is_some(),
            _ => true,
        };
        let keys = RuleSettings::KEYS.iter().zip(value.show_fields());
        Shown::Map(keys.filter(|(key, _)| means(key)).map(|(key, value)| (key.to_string(), value)).collect())
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        RuleSettings::keys(key, keys);
    }
}

/// Shows the keys of a rule that are not as they would be by themselves.
pub(super) fn show_given(rule: &RuleSettings) -> Shown {
    let plain = RuleSettings::default();
    let keys = RuleSettings::KEYS.iter().zip(rule.show_fields().into_iter().zip(plain.show_fields()));
    let always = |key: &str| match key {
        "operator" | "threshold" => {
            rule.absent_for.is_none()
                && rule.stale_for.is_none()
                && (rule.condition != RuleCondition::Anomaly || rule.threshold != SCORE_THRESHOLD.into())
        }
        _ => false,
    };
    let given = keys.filter(|(key, (value, default))| value != default || always(key));
    Shown::Map(
        given
            .filter(|(key, _)| **key != "threshold" || always(key))
            .map(|(key, (value, _))| (key.to_string(), without_nulls(value)))
            .collect(),
    )
}

fn without_nulls(value: Shown) -> Shown {
    match value {
        Shown::Map(entries) => {
            Shown::Map(entries.into_iter().filter(|(_, value)| *value != Shown::Null).collect())
        }
        other => other,
    }
}

section! { RuleSettings requires ["name", "metric"] {
    "name" => name: TEXT,
    "enabled" => enabled: BOOL,
    "metric" => metric: TEXT,
    "service" => service: Optional(TEXT),
    "tags" => tags: Tags,
    "condition" => condition: word(),
    "method" => method: Optional(OneOf(METHODS)),
    "func" => func: Optional(function()),
    "window" => window: Optional(duration("1ms", "365d")),
    "every" => every: Optional(duration("1ms", "365d")),
    "by" => by: Optional(List(TEXT)),
    "without" => without: Optional(List(TEXT)),
    "min_samples" => min_samples: count(1, 1_000_000_000),
    "over" | "divide_by" => over: Optional(Sub),
    "absent_for" => absent_for: Optional(duration("1ms", "365d")),
    "stale_for" => stale_for: Optional(duration("1ms", "365d")),
    "operator" => operator: word(),
    "threshold" => threshold: ThresholdKind,
    "resolve_threshold" => resolve_threshold: Optional(ThresholdKind),
    "duration" | "for" => duration: duration("0s", "365d"),
    "keep_firing_for" => keep_firing_for: duration("0s", "365d"),
    "severity" => severity: TEXT,
    "message" => message: TEXT,
    "labels" => labels: Tags,
    "annotations" => annotations: Tags,
} }

section! { OverSettings requires ["metric"] {
    "metric" => metric: TEXT,
    "func" => func: Optional(function()),
    "service" => service: Optional(TEXT),
    "tags" => tags: Optional(Tags),
} }
