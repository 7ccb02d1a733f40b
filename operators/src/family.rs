//! Metric families: the names under which one quantity goes, such as `cpu_usage` and `cpu_usage_percent`.
//!
//! A name is taken for more than itself in one direction only: from the shorter to the longer. `memory_usage`
//! may mean `memory_usage_percent`; who writes `memory_usage_percent` means that, whatever unit a series
//! `memory_usage` may have.
//!
//! - The *implied suffix* of a name ([`implied_suffix`]) is the unit that its last word has in the document:
//!   `_percent` for a `usage`, `_ms` for a `time`, and so on; where the word says nothing, `_percent`. A name
//!   that ends in a unit already, or in `_count`, implies `_total`, which is how Prometheus writes the same
//!   counter.
//! - A *query* takes the first of [`candidates`] that has any series ([`resolve`]): the exact name, the name
//!   with its implied suffix, then with the other suffixes in the order of [`SUFFIXES`].
//! - A *rule* is bound to series as they appear, in any order, so whether it is bound to one series must not
//!   depend on another: it matches the exact name and the name with the implied suffix, both, and nothing
//!   else ([`rank`]). So the rule `memory_usage > 90` takes a series `memory_usage` and a series
//!   `memory_usage_percent`, and never `memory_usage_bytes`.
//! - A *group* ([`GROUPS`]) is a documented name for several metrics: `network_io` is `network_rx_bytes` and
//!   `network_tx_bytes`. Rules and queries on it take all of them, unless a query finds a metric of the name
//!   itself.

use std::borrow::Cow;

/// Suffixes that state a unit, those that a query prefers first.
pub const UNITS: &[&str] = &["_percent", "_ms", "_seconds", "_bytes", "_celsius", "_hpa", "_ratio"];

/// Suffixes that a query tries, in order: the units, then what counters are called.
pub const SUFFIXES: &[&str] =
    &["_percent", "_ms", "_seconds", "_bytes", "_celsius", "_hpa", "_ratio", "_total", "_count"];

/// The unit that the last word of a name implies.
const IMPLIED: &[(&str, &str)] = &[
    ("usage", "_percent"),
    ("utilization", "_percent"),
    ("humidity", "_percent"),
    ("time", "_ms"),
    ("latency", "_ms"),
    ("duration", "_ms"),
    ("uptime", "_seconds"),
    ("age", "_seconds"),
    ("io", "_bytes"),
    ("rx", "_bytes"),
    ("tx", "_bytes"),
    ("size", "_bytes"),
    ("temperature", "_celsius"),
    ("pressure", "_hpa"),
    ("count", "_total"),
];

/// Names that stand for several metrics.
pub const GROUPS: &[(&str, &[&str])] = &[("network_io", &["network_rx_bytes", "network_tx_bytes"])];

/// What a name may be short for; none when it ends in `_total`.
pub fn implied_suffix(name: &str) -> Option<&'static str> {
    if name.ends_with("_total") {
        return None;
    }
    if UNITS.iter().any(|unit| name.ends_with(unit)) {
        return Some("_total");
    }
    let word = name.rsplit(['_', '.']).next().unwrap_or(name);
    Some(IMPLIED.iter().find(|(last, _)| *last == word).map_or("_percent", |(_, suffix)| suffix))
}

/// The names that a queried `name` may mean, each once, best first. The exact name is the first. Members of a
/// group are not among them.
pub fn candidates(name: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let implied = implied_suffix(name);
    let has_unit = UNITS.iter().any(|unit| name.ends_with(unit)) || name.ends_with("_total");
    let others = SUFFIXES.iter().copied().filter(move |suffix| !has_unit && Some(*suffix) != implied);
    let longer = implied.into_iter().chain(others).map(move |suffix| Cow::Owned(format!("{name}{suffix}")));
    std::iter::once(Cow::Borrowed(name)).chain(longer)
}

/// The metric names that a query for `name` reads, given which names have series: one name, or the members of
/// a group, or none.
pub fn resolve(name: &str, exists: impl Fn(&str) -> bool) -> Vec<Cow<'_, str>> {
    match candidates(name).find(|candidate| exists(candidate)) {
        Some(found) => vec![found],
        None => members(name)
            .iter()
            .filter(|member| exists(member))
            .map(|member| Cow::Borrowed(*member))
            .collect(),
    }
}

/// Whether a rule on `rule_metric` is about a series of `series_metric`, and how directly: 0 the exact name,
/// 1 the name with its implied suffix, 2 a member of the group.
pub fn rank(rule_metric: &str, series_metric: &str) -> Option<u8> {
    let Some(suffix) = series_metric.strip_prefix(rule_metric) else {
        return members(rule_metric).contains(&series_metric).then_some(2);
    };
    match suffix {
        "" => Some(0),
        suffix if implied_suffix(rule_metric) == Some(suffix) => Some(1),
        _ => None,
    }
}

/// The name of the family: `metric` without its suffixes, or the group it is a member of. Whatever [`rank`]
/// matches has the same key, so rules and series can be joined by it first.
pub fn key(metric: &str) -> &str {
    let mut family = metric;
    while let Some(shorter) =
        SUFFIXES.iter().find_map(|suffix| family.strip_suffix(suffix)).filter(|s| !s.is_empty())
    {
        family = shorter;
    }
    let is_of = |member: &str| UNITS.iter().any(|unit| member.strip_suffix(unit) == Some(family));
    GROUPS
        .iter()
        .find(|(_, members)| members.iter().any(|member| is_of(member)))
        .map_or(family, |(group, _)| group)
}

fn members(name: &str) -> &'static [&'static str] {
    GROUPS.iter().find(|(group, _)| *group == name).map_or(&[], |(_, members)| members)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every metric name in the document.
    const DOCUMENTED: &[&str] = &[
        "cpu_usage",
        "memory_usage",
        "disk_usage",
        "network_io",
        "process_count",
        "request_count",
        "response_time",
        "error_rate",
        "queue_depth",
        "cpu_usage_percent",
        "memory_usage_bytes",
        "memory_usage_percent",
        "disk_usage_bytes",
        "disk_usage_percent",
        "network_rx_bytes",
        "network_tx_bytes",
        "load_average_1m",
        "load_average_5m",
        "load_average_15m",
        "message_count",
        "message_rate",
        "connection_count",
        "error_count",
        "response_time_ms",
        "uptime_seconds",
        "temperature_celsius",
        "humidity_percent",
        "pressure_hpa",
        "custom_metric",
        "value",
    ];

    #[test]
    fn a_rule_matches_the_name_and_its_implied_unit_alone() {
        for (rule, matched) in [
            ("cpu_usage", vec!["cpu_usage", "cpu_usage_percent"]),
            ("memory_usage", vec!["memory_usage", "memory_usage_percent"]),
            ("disk_usage", vec!["disk_usage", "disk_usage_percent"]),
            ("cpu_usage_percent", vec!["cpu_usage_percent"]),
            ("memory_usage_percent", vec!["memory_usage_percent"]),
            ("memory_usage_bytes", vec!["memory_usage_bytes"]),
            ("uptime_seconds", vec!["uptime_seconds"]),
            ("uptime", vec!["uptime_seconds"]),
            ("response_time", vec!["response_time", "response_time_ms"]),
            ("temperature", vec!["temperature_celsius"]),
            ("humidity", vec!["humidity_percent"]),
            ("pressure", vec!["pressure_hpa"]),
            ("network_io", vec!["network_io", "network_rx_bytes", "network_tx_bytes"]),
            ("network_rx", vec!["network_rx_bytes"]),
            ("error", vec![]),
            ("cpu", vec![]),
            ("queue_depth", vec!["queue_depth"]),
            ("load_average_1m", vec!["load_average_1m"]),
        ] {
            let found: Vec<&str> =
                DOCUMENTED.iter().copied().filter(|series| rank(rule, series).is_some()).collect();
            assert_eq!(found, matched, "{rule}");
        }
        assert_eq!(rank("memory_usage", "memory_usage"), Some(0));
        assert_eq!(rank("memory_usage", "memory_usage_percent"), Some(1));
        assert_eq!(rank("network_io", "network_tx_bytes"), Some(2));
        assert_eq!(rank("message_count", "message_count_total"), Some(1), "as Prometheus calls it");
        assert_eq!(rank("network_rx_bytes", "network_rx_bytes_total"), Some(1));
    }

    #[test]
    fn a_query_takes_the_best_name_that_exists() {
        for (name, existing, expect) in [
            ("cpu_usage", vec!["cpu_usage_percent"], vec!["cpu_usage_percent"]),
            ("cpu_usage", vec!["cpu_usage_percent", "cpu_usage"], vec!["cpu_usage"]),
            (
                "memory_usage",
                vec!["memory_usage_bytes", "memory_usage_percent"],
                vec!["memory_usage_percent"],
            ),
            ("memory_usage", vec!["memory_usage_bytes"], vec!["memory_usage_bytes"]),
            ("response_time", vec!["response_time_seconds", "response_time_ms"], vec!["response_time_ms"]),
            ("message", vec!["message_count"], vec!["message_count"]),
            (
                "network_io",
                vec!["network_tx_bytes", "network_rx_bytes"],
                vec!["network_rx_bytes", "network_tx_bytes"],
            ),
            ("network_io", vec!["network_io_bytes", "network_rx_bytes"], vec!["network_io_bytes"]),
            ("cpu_usage_percent", vec!["cpu_usage"], vec![]),
            ("memory_usage_bytes", vec!["memory_usage_percent"], vec![]),
            ("nothing", vec!["something"], vec![]),
        ] {
            assert_eq!(resolve(name, |name| existing.contains(&name)), expect, "{name} of {existing:?}");
        }
    }

    #[test]
    fn candidates_are_in_order_and_each_once() {
        let names = |name| candidates(name).map(Cow::into_owned).collect::<Vec<String>>();
        assert_eq!(
            names("response_time")[..3],
            ["response_time", "response_time_ms", "response_time_percent"]
        );
        assert_eq!(names("cpu_usage_percent"), ["cpu_usage_percent", "cpu_usage_percent_total"]);
        assert_eq!(names("message_count_total"), ["message_count_total"]);
        for name in DOCUMENTED {
            let unique: std::collections::BTreeSet<String> = names(name).into_iter().collect();
            assert_eq!(unique.len(), names(name).len(), "{name}");
        }
    }

    #[test]
    fn units_are_suffixes() {
        assert!(UNITS.iter().all(|unit| SUFFIXES.contains(unit)));
        assert!(IMPLIED.iter().all(|(_, suffix)| SUFFIXES.contains(suffix)));
    }

    #[test]
    fn a_key_is_the_family() {
        for (metric, family) in [
            ("cpu_usage_percent", "cpu_usage"),
            ("cpu_usage", "cpu_usage"),
            ("message_count_total", "message"),
            ("message_count", "message"),
            ("network_rx_bytes", "network_io"),
            ("network_tx_bytes_total", "network_io"),
            ("network_io", "network_io"),
            ("_percent", "_percent"),
            ("", ""),
        ] {
            assert_eq!(key(metric), family, "{metric}");
        }
    }

    #[test]
    fn what_a_rule_matches_has_its_key() {
        for rule in DOCUMENTED {
            for series in DOCUMENTED {
                assert!(rank(rule, series).is_none() || key(rule) == key(series), "{rule} {series}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_candidate_has_the_key_of_its_name(name in "[a-z]{0,3}(_(percent|ms|total|count|io|rx|usage|x)){0,3}") {
            for candidate in candidates(&name) {
                // An empty name is no metric: `_percent` is not short for it.
                prop_assert!(name.is_empty() || key(&candidate) == key(&name), "{} of {}", candidate, name);
                if let Some(rank) = rank(&name, &candidate) {
                    prop_assert_eq!(candidate.len() == name.len(), rank == 0);
                }
            }
            prop_assert_eq!(key(key(&name)), key(&name));
        }
    }
}
