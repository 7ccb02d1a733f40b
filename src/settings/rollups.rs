//! Section `rollups`: windows over groups of series, kept up to date while samples come.

use std::collections::BTreeMap;
use std::time::Duration;

use operators::rollup::Rollup;
use operators::rule::{Grouping, Over};
use operators::sample::DurationNs;
use operators::series::TargetMatcher;
use operators::tier::{Tier, WindowPlan};

use super::WindowsSettings;
use super::compounds::{List, Optional, Sub, Tags};
use super::kinds::{BOOL, TEXT, count, duration};
use super::report::Report;
use super::section::section;

/// Rollups there may be.
pub const ROLLUPS_MAX: usize = 1_000;

/// A rollup.
#[derive(Clone, Debug, PartialEq)]
pub struct RollupSettings {
    /// Unique; with a function behind it a metric name, `NAME_avg`.
    pub name: String,
    /// Metric name or family.
    pub metric: String,
    /// Service that its series have, exact or a prefix and `*`; `None`: any.
    pub service: Option<String>,
    /// Tag values that its series have, exact or a prefix and `*`. Default none.
    pub tags: BTreeMap<String, String>,
    /// Tags whose values a group has in common; `service` stands for the service. Default none: all series are one
    /// group.
    pub by: Vec<String>,
    /// Instead of `by`: tags in which the members of a group may differ. Default none.
    pub without: Vec<String>,
    /// Width of a window. Default 1 min.
    pub window: Duration,
    /// Time from one window to the next; `None`: the width.
    pub every: Option<Duration>,
    /// Names of window functions. Default `avg`.
    pub functions: Vec<String>,
    /// What the one function's value is divided by.
    pub over: Option<OverSettings>,
    /// With fewer samples there is no value. Default 0.
    pub samples_min: usize,
    /// How far behind its group's clock a window is still corrected. Default 10 min, or `windows.lateness` if that is
    /// more.
    pub correct_for: Option<Duration>,
    /// How long windows are held for queries. Default 1 h.
    pub keep: Duration,
    /// Whether final windows go to the storages that take windows. Default on.
    pub store: bool,
}

impl Default for RollupSettings {
    fn default() -> Self {
        RollupSettings {
            name: String::new(),
            metric: String::new(),
            service: None,
            tags: BTreeMap::new(),
            by: Vec::new(),
            without: Vec::new(),
            window: Duration::from_secs(60),
            every: None,
            functions: vec!["avg".into()],
            over: None,
            samples_min: 0,
            correct_for: None,
            keep: Duration::from_secs(3600),
            store: true,
        }
    }
}

/// The lower half of a ratio.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OverSettings {
    /// Metric name or family.
    pub metric: String,
    /// Name of its window function; `None`: that of the upper half.
    pub function: Option<String>,
    /// As above.
    pub service: Option<String>,
    /// As above.
    pub tags: BTreeMap<String, String>,
}

section! { RollupSettings requires ["name", "metric"] {
    "name" => name: TEXT,
    "metric" => metric: TEXT,
    "service" => service: Optional(TEXT),
    "tags" => tags: Tags,
    "by" => by: List(TEXT),
    "without" => without: List(TEXT),
    "window" => window: duration("1ms", "3650d"),
    "every" => every: Optional(duration("1ms", "3650d")),
    "functions" => functions: List(TEXT),
    "over" => over: Optional(Sub),
    "min_samples" => samples_min: count(0, 1_000_000_000),
    "correct_for" => correct_for: Optional(duration("0s", "3650d")),
    "keep" => keep: duration("0s", "3650d"),
    "store" => store: BOOL,
} }

section! { OverSettings requires ["metric"] {
    "metric" => metric: TEXT,
    "function" => function: Optional(TEXT),
    "service" => service: Optional(TEXT),
    "tags" => tags: Tags,
} }

fn ns(duration: Duration) -> DurationNs {
    DurationNs::try_from(duration.as_nanos()).unwrap_or(DurationNs::MAX)
}

fn matcher(service: &Option<String>, tags: &BTreeMap<String, String>) -> TargetMatcher {
    let tags = tags.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    TargetMatcher { service: service.clone(), tags }
}

impl RollupSettings {
    /// The rollup as the engine knows it.
    pub fn rollup(&self, windows: &WindowsSettings) -> Rollup {
        let first = self.functions.first().cloned().unwrap_or_default();
        let over = self.over.as_ref().map(|over| Over {
            metric: over.metric.clone(),
            matcher: matcher(&over.service, &over.tags),
            function: over.function.clone().unwrap_or(first),
        });
        let correct_for = self.correct_for.unwrap_or(Duration::from_secs(600).max(windows.lateness));
        let grouping = match self.without.is_empty() {
            true => Grouping::By(self.by.clone()),
            false => Grouping::Without(self.without.clone()),
        };
        Rollup {
            name: self.name.as_str().into(),
            metric: self.metric.clone(),
            matcher: matcher(&self.service, &self.tags),
            over,
            grouping,
            width_ns: ns(self.window),
            hop_ns: ns(self.every.unwrap_or(self.window)),
            functions: self.functions.clone(),
            samples_min: self.samples_min as u64,
            correct_ns: ns(correct_for),
            keep_ns: ns(self.keep),
        }
    }
}

/// Reports what no single key can tell.
pub(super) fn check(rollups: &[RollupSettings], windows: &WindowsSettings, report: &mut Report) {
    if rollups.len() > ROLLUPS_MAX {
        let text = format!("expected at most {ROLLUPS_MAX} rollups, found {}", rollups.len());
        report.conflict(&["rollups"], text);
    }
    let tiers = windows.tiers.iter();
    let plan = WindowPlan {
        tiers: tiers.map(|t| Tier { width_ns: ns(t.width), retention_ns: ns(t.retention) }).collect(),
        lateness_ns: ns(windows.lateness),
        correction_horizon_ns: windows.correction_horizon.map_or(0, ns),
        idle_timeout_ns: ns(windows.idle_timeout),
    };
    for (at, rollup) in rollups.iter().enumerate() {
        let key = |name: &str| format!("rollups[{at}].{name}");
        if rollups[..at].iter().any(|other| other.name == rollup.name) {
            let text = format!("expected names that differ, found {:?} twice", rollup.name);
            report.conflict(&[&key("name")], text);
        }
        if !rollup.by.is_empty() && !rollup.without.is_empty() {
            report.conflict(&[&key("without"), &key("by")], "expected by or without, found both");
        }
        // Tiers that can't be are told of by themselves.
        if plan.check().is_ok()
            && let Err(text) = rollup.rollup(windows).check(&plan)
        {
            let keys = ["window", "every", "functions", "correct_for", "name"].map(key);
            report.conflict(&keys.each_ref().map(String::as_str), text);
        }
    }
}
