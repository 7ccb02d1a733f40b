//! Section `alerts`: where rules are and where their alerts go. What a rule is: [`rules`](super::rules).

use std::time::Duration;

use super::compounds::{List, Optional, OrWord, Sub};
use super::kinds::{BOOL, TEXT, Url, count, duration};
use super::receivers::{MaintenanceSettings, Receiver, ReceiverSettings, SilenceSettings};
use super::rules::{Rule, RuleSettings};
use super::section::section;
use super::words::HttpUrl;

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
    /// Directory of files with more rules.
    pub rules_dir: Option<String>,
    /// How often files are looked at; one that changed is read again. Default 5 s; 0: never.
    pub reload_interval: Duration,
    /// How long evaluations wait for samples that come out of order, in event time. `None`: as long as a source has needed
    /// so far, at most a second; a source that has been in order is not waited for.
    pub slack: Option<Duration>,
    /// Whether rules may be written through the API. Default off.
    pub api_rules: bool,
    /// The rules in the files of `rules_dir`. Not a key.
    pub from_files: Vec<RuleSettings>,
}

impl AlertsSettings {
    /// All rules, those of the configuration first, those that are switched off included.
    pub fn all_rules(&self) -> impl Iterator<Item = &RuleSettings> + Clone {
        self.rules.iter().chain(&self.from_files)
    }

    /// The rules that run.
    pub fn active_rules(&self) -> impl Iterator<Item = &RuleSettings> + Clone {
        self.all_rules().filter(|rule| self.enabled && rule.enabled)
    }
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
            rules_dir: None,
            reload_interval: Duration::from_secs(5),
            slack: None,
            api_rules: false,
            from_files: Vec::new(),
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
    "rules_dir" => rules_dir: Optional(TEXT),
    "reload_interval" => reload_interval: duration("0s", "1h"),
    "slack" => slack: OrWord("auto", duration("0s", "10s")),
    "api_rules" => api_rules: BOOL,
    "rules" => rules: List(Rule),
} }
