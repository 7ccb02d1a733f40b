//! Section `alerts`: rules and where their alerts go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compounds::{List, Optional, Sub, Tags};
use super::kinds::{BOOL, NUMBER, TEXT, Url, choice as word, count, duration};
use super::receivers::{MaintenanceSettings, Receiver, ReceiverSettings, SilenceSettings};
use super::section::section;
use super::words::{HttpUrl, choice};

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
    }
}

/// Section `alerts`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertsSettings {
    /// Default on.
    pub enabled: bool,
    /// Shorthand for a receiver `webhook` of type webhook that is posted to here.
    pub webhook_url: Option<HttpUrl>,
    /// Time for the receiver to answer. Default 10 s.
    pub webhook_timeout: Duration,
    /// Silence of a series after which its pending or firing alert ends. Default 5 min.
    pub stale: Duration,
    /// Transitions that wait for the receiver before more of them are dropped and counted. Default 10,000.
    pub queue_len_max: usize,
    /// Who is told of transitions. Default nobody, alerts are only listed.
    pub receivers: Vec<ReceiverSettings>,
    /// What nobody is told of until some time. Default none.
    pub silences: Vec<SilenceSettings>,
    /// What nobody is told of in some hours of the week. Default none.
    pub maintenance: Vec<MaintenanceSettings>,
    /// Silences given by the API that are kept; more are refused. Default 1,000.
    pub silences_max: usize,
    /// The rules. Default none.
    pub rules: Vec<RuleSettings>,
}

impl Default for AlertsSettings {
    fn default() -> Self {
        AlertsSettings {
            enabled: true,
            webhook_url: None,
            webhook_timeout: Duration::from_secs(10),
            stale: Duration::from_secs(300),
            queue_len_max: 10_000,
            receivers: Vec::new(),
            silences: Vec::new(),
            maintenance: Vec::new(),
            silences_max: 1000,
            rules: Vec::new(),
        }
    }
}

/// A rule: one state machine for each series that it matches.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSettings {
    /// Unique.
    pub name: String,
    /// Metric name.
    pub metric: String,
    /// The comparison.
    pub operator: Operator,
    /// Finite.
    pub threshold: f64,
    /// How long a breach lasts before it fires, in event time. Default 0: at once.
    pub duration: Duration,
    /// Default `warning`.
    pub severity: String,
    /// Default: name, comparison and threshold in words.
    pub message: String,
    /// Service that its series have, exact or a glob with `*`; `None`: any.
    pub service: Option<String>,
    /// Tag values that its series have, exact or globs with `*`. Default none.
    pub tags: BTreeMap<String, String>,
}

impl Default for RuleSettings {
    fn default() -> Self {
        RuleSettings {
            name: String::new(),
            metric: String::new(),
            operator: Operator::Above,
            threshold: 0.0,
            duration: Duration::ZERO,
            severity: "warning".into(),
            message: String::new(),
            service: None,
            tags: BTreeMap::new(),
        }
    }
}

section! { AlertsSettings requires [] {
    "enabled" => enabled: BOOL,
    "webhook_url" => webhook_url: Optional(Url),
    "webhook_timeout" => webhook_timeout: duration("10ms", "10m"),
    "stale" => stale: duration("1s", "365d"),
    "queue_len_max" => queue_len_max: count(1, 10_000_000),
    "receivers" => receivers: List(Receiver),
    "silences" => silences: List(Sub),
    "maintenance" => maintenance: List(Sub),
    "silences_max" => silences_max: count(0, 1_000_000),
    "rules" => rules: List(Sub),
} }

section! { RuleSettings requires ["name", "metric", "operator", "threshold"] {
    "name" => name: TEXT,
    "metric" => metric: TEXT,
    "operator" => operator: word(),
    "threshold" => threshold: NUMBER,
    "duration" => duration: duration("0s", "365d"),
    "severity" => severity: TEXT,
    "message" => message: TEXT,
    "service" => service: Optional(TEXT),
    "tags" => tags: Tags,
} }
