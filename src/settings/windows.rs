//! Section `windows`: panes, tiers, time and what they may cost.

use std::time::Duration;

use super::compounds::{List, OrWord, Sub};
use super::kinds::{Kind, Shown, count, duration, size};
use super::machine;
use super::report::Report;
use super::section::{Key, Section, section};
use super::units::{parse_duration, show_duration};
use super::written::Node;

/// Section `windows`.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowsSettings {
    /// Width of the finest pane: that of the first tier. Default 10 s.
    pub pane: Duration,
    /// Panes by width, finest first: each width a multiple of the one before, each retention longer.
    /// Default 10 s for 1 h, 1 min for 12 h.
    pub tiers: Vec<Tier>,
    /// How long after its end, by its series' clock, a window stays provisional. Default 30 s.
    pub lateness: Duration,
    /// How far behind its series' clock a straggler still corrects its window; `None` (`held`): as long as the pane
    /// is held. Default `held`.
    pub correction_horizon: Option<Duration>,
    /// Silence after which the arrival clock moves a series on. Default 30 s.
    pub idle_timeout: Duration,
    /// `memory_budget`: bytes for panes; beyond it the oldest panes go first. Default a quarter of the machine.
    pub memory_budget_bytes: u64,
    /// `recent`: bytes for the newest raw samples that `GET /api/v1/metrics` answers from, about five a sample. Default
    /// 16 MiB.
    pub recent_bytes: u64,
    /// Series, all together. Default 1,000,000.
    pub series_max: usize,
    /// Series of one service, so that one that runs wild leaves room for the others. Default 250,000.
    pub series_per_service_max: usize,
    /// Groups of one rollup. Default 10,000.
    pub rollup_groups_max: usize,
    /// Series in one group of a rollup. Default 100,000.
    pub rollup_members_max: usize,
}

/// Panes of one width, held for `retention`. Written `10s for 1h`, or as a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Width of its panes.
    pub width: Duration,
    /// How long they are held.
    pub retention: Duration,
}

impl Default for WindowsSettings {
    fn default() -> Self {
        WindowsSettings {
            pane: Duration::from_secs(10),
            tiers: vec![
                Tier { width: Duration::from_secs(10), retention: Duration::from_secs(3600) },
                Tier { width: Duration::from_secs(60), retention: Duration::from_secs(12 * 3600) },
            ],
            lateness: Duration::from_secs(30),
            correction_horizon: None,
            idle_timeout: Duration::from_secs(30),
            memory_budget_bytes: machine::memory_bytes() / 4,
            recent_bytes: 16 << 20,
            series_max: 1_000_000,
            series_per_service_max: 250_000,
            rollup_groups_max: 10_000,
            rollup_members_max: 100_000,
        }
    }
}

impl Default for Tier {
    fn default() -> Self {
        Tier { width: Duration::from_secs(10), retention: Duration::from_secs(3600) }
    }
}

section! { WindowsSettings requires [] {
    "pane" => pane: duration("1ms", "1d"),
    "tiers" => tiers: List(TierKind),
    "lateness" => lateness: duration("0s", "30d"),
    "correction_horizon" => correction_horizon: OrWord("held", duration("0s", "3650d")),
    "idle_timeout" => idle_timeout: duration("10ms", "30d"),
    "memory_budget" => memory_budget_bytes: size(1 << 20, 1 << 50),
    "recent" => recent_bytes: size(0, 1 << 50),
    "series_max" => series_max: count(1, 1_000_000_000),
    "series_per_service_max" => series_per_service_max: count(1, 1_000_000_000),
    "rollup_groups_max" => rollup_groups_max: count(1, 1_000_000_000),
    "rollup_members_max" => rollup_members_max: count(1, 1_000_000_000),
} }

section! { Tier requires ["width", "retention"] {
    "width" => width: duration("1ms", "366d"),
    "retention" => retention: duration("1ms", "3650d"),
} }

/// A tier as `10s for 1h`, or as a mapping.
struct TierKind;

impl Kind<Tier> for TierKind {
    fn read(&self, node: &Node, into: &mut Tier, key: &str, report: &mut Report) {
        let Some(text) = node.text() else { return Sub.read(node, into, key, report) };
        let parts = text.split_once(" for ");
        let tier =
            parts.and_then(|(width, retention)| Some((parse_duration(width)?, parse_duration(retention)?)));
        match tier {
            Some((width, retention)) if !width.is_zero() => *into = Tier { width, retention },
            _ => {
                report.problem(&node.origin, key, format!("expected a tier such as 10s for 1h, found {node}"))
            }
        }
    }

    fn show(&self, value: &Tier) -> Shown {
        Shown::Text(format!("{} for {}", show_duration(value.width), show_duration(value.retention)))
    }

    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        Tier::keys(key, keys);
    }
}
