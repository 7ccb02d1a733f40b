//! Rule files as Prometheus has them: `groups:` -> rules of ours. What cannot be said in the same way is a problem with
//! its place; nothing is changed silently.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::is_label;
use super::{Operator, Origin, Report, RuleSettings, RuleSource, Threshold, joined};
use crate::promql::alert::{self, Compared, Grouping, LOOKBACK, Series, What, Window};
use crate::promql::{self, parse};
use crate::settings::compounds::Tags;
use crate::settings::kinds::{Kind, TEXT};
use crate::settings::report::closest;
use crate::settings::rules::OverSettings;
use crate::settings::words::Word;
use crate::settings::written::{Entry, Node, Value};
use crate::templates::Template;

/// How often Prometheus looks, unless a group says otherwise.
const INTERVAL: Duration = Duration::from_secs(60);

/// Longest duration of a rule, as for rules of ours.
const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);

const GROUP_KEYS: &[&str] = &["name", "interval", "rules", "labels", "limit", "query_offset"];
const RULE_KEYS: &[&str] = &["alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"];

/// Reads what stands below `groups`.
pub(super) fn read(groups: &Node, report: &mut Report) -> Vec<RuleSettings> {
    let mut rules = Vec::new();
    let Some(entries) = list(groups, "groups", report) else { return rules };
    for (at, group) in entries.iter().enumerate() {
        read_group(group, &format!("groups[{at}]"), report, &mut rules);
    }
    rules
}

fn list<'a>(node: &'a Node, path: &str, report: &mut Report) -> Option<&'a [Node]> {
    match &node.value {
        Value::List(entries) => Some(entries),
        Value::Null => Some(&[]),
        _ => {
            report.problem(&node.origin, path, format!("expected a list, found {node}"));
            None
        }
    }
}

/// The entries of a mapping whose keys are all known.
fn map<'a>(node: &'a Node, path: &str, keys: &[&str], report: &mut Report) -> Option<&'a [Entry]> {
    let Value::Map(entries) = &node.value else {
        let text = format!("expected a mapping with the keys {}, found {node}", keys.join(", "));
        report.problem(&node.origin, path, text);
        return None;
    };
    for entry in entries.iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
        let proposal = match closest(&entry.key, keys.iter().copied()) {
            Some(key) => format!("did you mean {key}?"),
            None => format!("expected one of {}", keys.join(", ")),
        };
        report.problem(&entry.origin, &joined(path, &entry.key), format!("unrecognised key; {proposal}"));
    }
    Some(entries)
}

fn entry<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.key == key && !matches!(entry.node.value, Value::Null))
}

fn text<'a>(entries: &'a [Entry], key: &str, path: &str, report: &mut Report) -> Option<&'a str> {
    let node = &entry(entries, key)?.node;
    let text = node.text();
    if text.is_none() {
        report.problem(&node.origin, &joined(path, key), format!("expected a text, found {node}"));
    }
    text
}

fn time(entries: &[Entry], key: &str, path: &str, report: &mut Report) -> Option<Duration> {
    let node = &entry(entries, key)?.node;
    // `0` alone is none at all.
    let read = |text: &str| promql::duration(text).or((text == "0").then_some(Duration::ZERO));
    let found = node.text().and_then(read).filter(|duration| *duration <= DURATION_MAX);
    if found.is_none() {
        let text = format!("expected a duration up to 365d, such as 5m, found {node}");
        report.problem(&node.origin, &joined(path, key), text);
    }
    found
}

fn texts(entries: &[Entry], key: &str, path: &str, report: &mut Report) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    if let Some(entry) = entry(entries, key) {
        Tags.read(&entry.node, &mut texts, &joined(path, key), report);
    }
    texts
}

fn read_group(node: &Node, path: &str, report: &mut Report, rules: &mut Vec<RuleSettings>) {
    let Some(entries) = map(node, path, GROUP_KEYS, report) else { return };
    let mut name = String::new();
    match entry(entries, "name") {
        Some(entry) => TEXT.read(&entry.node, &mut name, &joined(path, "name"), report),
        None => report.problem(&node.origin, &joined(path, "name"), "expected this key, found none"),
    }
    for key in ["limit", "query_offset"] {
        if let Some(entry) = entry(entries, key).filter(|entry| entry.node.text() != Some("0")) {
            let text = format!("expected no {key}, which rules here do not have");
            report.problem(&entry.origin, &joined(path, key), text);
        }
    }
    let interval = time(entries, "interval", path, report);
    let group = Group { name, interval, labels: texts(entries, "labels", path, report) };
    let Some(given) = entry(entries, "rules") else { return };
    let path = joined(path, "rules");
    for (at, node) in list(&given.node, &path, report).unwrap_or_default().iter().enumerate() {
        rules.extend(read_rule(node, &format!("{path}[{at}]"), &group, report));
    }
}

struct Group {
    name: String,
    interval: Option<Duration>,
    labels: BTreeMap<String, String>,
}

/// One rule; `None` where something is wrong with it, which `report` says then.
fn read_rule(node: &Node, path: &str, group: &Group, report: &mut Report) -> Option<RuleSettings> {
    let before = report.problems.len();
    let entries = map(node, path, RULE_KEYS, report)?;
    if let Some(entry) = entry(entries, "record") {
        let text = "expected an alert, found a recording rule, which cannot be imported";
        report.problem(&entry.origin, &joined(path, "record"), text);
        return None;
    }
    let mut rule = RuleSettings::default();
    for (key, found) in [("alert", &mut rule.name), ("expr", &mut String::new())] {
        match text(entries, key, path, report) {
            Some(text) => *found = text.trim().to_string(),
            None if entry(entries, key).is_some() => {}
            None => report.problem(&node.origin, &joined(path, key), "expected this key, found none"),
        }
    }
    // What follows is about this rule of several: its name says which.
    let path = &if rule.name.is_empty() { path.to_string() } else { format!("{path} ({})", rule.name) };
    rule.duration = time(entries, "for", path, report).unwrap_or_default();
    rule.keep_firing_for = time(entries, "keep_firing_for", path, report).unwrap_or_default();
    let (group_name, origin) = (group.name.as_str().into(), node.origin.clone());
    rule.source = RuleSource { group: group_name, origin, path: path.clone(), ..rule.source };
    if let Origin::File { file, .. } = &node.origin {
        rule.source.file = file.clone();
    }
    read_labels(&mut rule, entries, path, group, report);
    let expr = &entry(entries, "expr")?.node;
    let interval = group.interval.unwrap_or(INTERVAL);
    match parse(expr.text()?).and_then(|parsed| alert::compared(&parsed, interval)) {
        Ok(compared) => set_condition(&mut rule, compared, group.interval),
        Err(error) => report.problem(&expr.origin, &joined(path, "expr"), error.to_string()),
    }
    (report.problems.len() == before).then_some(rule)
}

fn read_labels(rule: &mut RuleSettings, entries: &[Entry], path: &str, group: &Group, report: &mut Report) {
    let place = |section: &str, name: &str| {
        let found = entry(entries, section).and_then(|section| match &section.node.value {
            Value::Map(entries) => entry(entries, name).map(|entry| entry.node.origin.clone()),
            _ => None,
        });
        found.unwrap_or_else(|| rule.source.origin.clone())
    };
    let mut given = group.labels.clone();
    given.extend(texts(entries, "labels", path, report));
    let (mut labels, mut annotations, mut severity) = (BTreeMap::new(), BTreeMap::new(), None);
    for (section, texts) in [("labels", given), ("annotations", texts(entries, "annotations", path, report))]
    {
        for (name, text) in texts {
            let path = joined(path, &format!("{section}.{name}"));
            let template = match Template::of_prometheus(&text) {
                Ok(template) => template,
                Err(error) => {
                    report.problem(&place(section, &name), &path, error.to_string());
                    continue;
                }
            };
            if section == "annotations" {
                annotations.insert(name, template.to_string());
            } else if name == "severity" && template.is_plain() {
                severity = Some(text);
            } else if matches!(name.as_str(), "severity" | "alertname" | "service") {
                let text = format!("expected other labels, or a plain text, found {name}");
                report.problem(&place(section, &name), &path, text);
            } else if !is_label(&name) {
                let text = format!("expected a name of letters, digits and _, found {name:?}");
                report.problem(&place(section, &name), &path, text);
            } else {
                labels.insert(name, template.to_string());
            }
        }
    }
    rule.severity = severity.unwrap_or_else(|| rule.severity.clone());
    let message = ["message", "summary", "description"].iter().find_map(|name| annotations.get(*name));
    rule.message = message.cloned().unwrap_or_default();
    rule.labels = labels;
    rule.annotations = annotations;
}

fn set_condition(rule: &mut RuleSettings, compared: Compared, interval: Option<Duration>) {
    let Compared { what, operator, threshold, notes } = compared;
    rule.source.notes.extend(notes);
    // All six are words of ours.
    rule.operator = Operator::parse(&operator).unwrap_or(rule.operator);
    rule.threshold = Threshold::One(threshold);
    match what {
        What::Samples(series) => set_series(rule, series),
        What::Absence(series) => {
            set_series(rule, series);
            rule.absent_for = Some(LOOKBACK);
        }
        What::Window(window, grouping) => set_window(rule, window, grouping, interval),
        What::Ratio(above, below, grouping) => {
            let Series { metric, service, tags } = below.series;
            let func = Some(below.func).filter(|func| *func != above.func);
            let service = match (service, &above.series.service) {
                (None, Some(_)) => Some("*".to_string()),
                (service, _) => service,
            };
            set_window(rule, above, grouping, interval);
            rule.over = Some(OverSettings { metric, func, service, tags: Some(tags) });
        }
    }
}

fn set_series(rule: &mut RuleSettings, series: Series) {
    let Series { metric, service, tags } = series;
    (rule.metric, rule.service, rule.tags) = (metric, service, tags);
}

fn set_window(rule: &mut RuleSettings, window: Window, grouping: Grouping, interval: Option<Duration>) {
    let Window { series, func, width } = window;
    set_series(rule, series);
    rule.func = Some(func);
    rule.window = Some(width);
    // More often than Prometheus would is no harm; as often where it is said.
    rule.every = interval.map(|interval| interval.min(width));
    match grouping {
        Grouping::Series => {}
        Grouping::By(names) => rule.by = Some(names),
        Grouping::Without(names) => rule.without = Some(names),
    }
}
