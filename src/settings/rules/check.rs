//! What no single key of a rule can tell, and what follows from others.

use std::collections::HashMap;
use std::time::Duration;

use super::{
    Operator, Origin, Report, RuleCondition, RuleSettings, SCORE_THRESHOLD, Threshold, joined, show_duration,
};
use crate::settings::WindowsSettings;
use crate::settings::written::Node;
use crate::templates::Template;

/// One rule while it is checked.
struct Checked<'a> {
    rule: &'a RuleSettings,
    path: &'a str,
    node: &'a Node,
    report: &'a mut Report,
}

/// Checks what needs no other section than the rule's own, which stands at `path`.
pub(super) fn check_rule(rule: &mut RuleSettings, path: &str, node: &Node, report: &mut Report) {
    if rule.condition == RuleCondition::Anomaly && !report.origins.is_given(&joined(path, "threshold")) {
        rule.threshold = SCORE_THRESHOLD.into();
    }
    let mut checked = Checked { rule, path, node, report };
    checked.keys_together();
    checked.comparison();
    checked.texts();
}

impl Checked<'_> {
    fn is_given(&self, key: &str) -> bool {
        self.report.origins.is_given(&joined(self.path, key))
    }

    fn has_problem(&self, key: &str) -> bool {
        let key = joined(self.path, key);
        self.report.problems.iter().any(|problem| problem.key == key)
    }

    /// Lays a problem at `key`, or at the rule where the key is not given.
    fn problem(&mut self, key: &str, text: impl Into<String>) {
        if self.has_problem(key) {
            return;
        }
        problem_at(self.path, key, &self.node.origin, text, self.report);
    }

    /// What this rule is: the key that says so, and the keys that have no meaning then.
    fn kind(&self) -> (&'static str, &'static [&'static str]) {
        const OF_WINDOWS: &[&str] = &["every", "by", "without", "min_samples", "over"];
        const BUT_STALE: &[&str] = &[
            "absent_for",
            "condition",
            "method",
            "func",
            "window",
            "every",
            "by",
            "without",
            "min_samples",
            "over",
            "operator",
            "threshold",
            "resolve_threshold",
        ];
        // All but the first, `absent_for`, which is what it is.
        const BUT_SILENCE: &[&str] = BUT_STALE.split_at(1).1;
        const BUT_ANOMALY: &[&str] = &["func", "window", "every", "by", "without", "min_samples", "over"];
        if self.is_given("stale_for") {
            ("stale_for", BUT_STALE)
        } else if self.is_given("absent_for") {
            ("absent_for", BUT_SILENCE)
        } else if self.rule.condition == RuleCondition::Anomaly {
            ("condition: anomaly", BUT_ANOMALY)
        } else if self.is_given("func") || self.is_given("window") {
            ("func and window", &["method"])
        } else {
            ("a rule without func and window", OF_WINDOWS)
        }
    }

    fn keys_together(&mut self) {
        let (kind, without) = self.kind();
        for key in without.iter().filter(|key| self.is_given(key)).copied().collect::<Vec<_>>() {
            let text = match kind {
                "a rule without func and window" => {
                    format!(
                        "expected func and window beside it, which say what is compared, found {key} alone"
                    )
                }
                _ => format!("expected either {kind} or {key}, found both"),
            };
            self.problem(key, text);
        }
        if kind == "a rule without func and window" && self.is_given("method") {
            self.problem("method", "expected condition: anomaly beside it, found none");
        }
        for (key, other) in [("func", "window"), ("window", "func")] {
            if kind == "func and window" && self.is_given(key) && !self.is_given(other) {
                self.problem(key, format!("expected {other} beside it, found none"));
            }
        }
        if self.is_given("by") && self.is_given("without") {
            self.problem("without", "expected either by or without, found both");
        }
        if let (Some(window), Some(every)) = (self.rule.window, self.rule.every)
            && every > window
        {
            let text =
                format!("expected at most window, {}, found {}", show_duration(window), show_duration(every));
            self.problem("every", text);
        }
        let needs_level = !matches!(kind, "stale_for" | "absent_for" | "condition: anomaly");
        for key in ["operator", "threshold"] {
            if needs_level && !self.is_given(key) {
                self.problem(key, "expected this key, found none");
            }
        }
    }

    /// Operator, threshold and second threshold.
    fn comparison(&mut self) {
        if ["operator", "threshold", "resolve_threshold"].iter().any(|key| self.has_problem(key)) {
            return;
        }
        let RuleSettings { operator, threshold, resolve_threshold, condition, .. } = *self.rule;
        if condition == RuleCondition::Anomaly {
            if !matches!(operator, Operator::Above | Operator::AtLeast) {
                let text = format!("expected > or >=, which a score can be strange by, found {operator}");
                return self.problem("operator", text);
            }
            let fits = |threshold: Threshold| matches!(threshold, Threshold::One(score) if (0.0..=1.0).contains(&score));
            for (key, score) in [("threshold", Some(threshold)), ("resolve_threshold", resolve_threshold)] {
                if let Some(score) = score.filter(|score| !fits(*score)) {
                    self.problem(key, format!("expected a score from 0 to 1, found {score}"));
                }
            }
        }
        for (key, value) in [("threshold", Some(threshold)), ("resolve_threshold", resolve_threshold)] {
            match value {
                Some(Threshold::One(number)) if operator.is_of_range() && self.is_given(key) => {
                    let text = format!("expected the two ends of a range for {operator}, found {number}");
                    self.problem(key, text);
                }
                Some(Threshold::Range(..)) if !operator.is_of_range() => {
                    self.problem(key, format!("expected one number for {operator}, found two"));
                }
                _ => {}
            }
        }
        if let Some(resolve) = resolve_threshold {
            self.hysteresis(operator, threshold, resolve);
        }
    }

    /// The second threshold is passed after the first on the way back.
    fn hysteresis(&mut self, operator: Operator, threshold: Threshold, resolve: Threshold) {
        let (first, second) = (threshold.bounds(), resolve.bounds());
        let (fits, expected) = match operator {
            Operator::Above | Operator::AtLeast => {
                (second.lower <= first.lower, format!("expected at most threshold, {threshold}"))
            }
            Operator::Below | Operator::AtMost => {
                (second.lower >= first.lower, format!("expected at least threshold, {threshold}"))
            }
            Operator::Outside => (
                second.lower >= first.lower && second.upper <= first.upper,
                format!("expected a range within threshold, {threshold}"),
            ),
            Operator::Inside => (
                second.lower <= first.lower && second.upper >= first.upper,
                format!("expected a range around threshold, {threshold}"),
            ),
            Operator::Equal | Operator::NotEqual => (false, format!("expected none for {operator}")),
        };
        if !fits {
            self.problem("resolve_threshold", format!("{expected}, found {resolve}"));
        }
    }

    /// Texts with places, and the names of labels.
    fn texts(&mut self) {
        let rule = self.rule;
        let of = |section: &'static str, texts: &std::collections::BTreeMap<String, String>| {
            texts.iter().map(|(name, text)| (format!("{section}.{name}"), text.clone())).collect::<Vec<_>>()
        };
        let message = [("message".to_string(), rule.message.clone())];
        for (key, text) in
            message.into_iter().chain(of("labels", &rule.labels)).chain(of("annotations", &rule.annotations))
        {
            if let Err(error) = Template::parse(&text) {
                self.problem(&key, error.to_string());
            }
        }
        for name in rule.labels.keys() {
            let key = format!("labels.{name}");
            if matches!(name.as_str(), "alertname" | "severity" | "service") {
                let own = if name == "alertname" { "name" } else { name };
                self.problem(&key, format!("expected other labels, found {name}, which {own} says"));
            } else if !is_label(name) {
                let text = format!("expected a name of letters, digits and _, found {name:?}");
                self.problem(&key, text);
            }
        }
    }
}

/// Whether Prometheus and Alertmanager take it for the name of a label.
pub(super) fn is_label(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Fills in what follows from other keys.
pub(in crate::settings) fn complete(rule: &mut RuleSettings, windows: &WindowsSettings) {
    if rule.func.is_some() && rule.every.is_none() {
        rule.every = Some(windows.pane);
    }
    if rule.condition == RuleCondition::Anomaly && rule.method.is_none() {
        rule.method = Some(super::METHODS[0].into());
    }
    if rule.message.is_empty() {
        rule.message = message_of(rule);
    }
}

fn message_of(rule: &RuleSettings) -> String {
    let lasting = match rule.duration {
        Duration::ZERO => String::new(),
        duration => format!(" for {}", show_duration(duration)),
    };
    let metric = &rule.metric;
    if let Some(absent) = rule.absent_for {
        return format!("no {metric} for {}", show_duration(absent));
    }
    if let Some(stale) = rule.stale_for {
        return format!("{metric} is older than {}", show_duration(stale));
    }
    let compared = format!("{} {}", rule.operator, rule.threshold);
    let within = rule.window.map(|window| format!(" over {}", show_duration(window))).unwrap_or_default();
    match (&rule.func, &rule.over) {
        (Some(func), Some(over)) => {
            format!(
                "{func} {metric} / {} {}{within} {compared}{lasting}",
                over.func.as_ref().unwrap_or(func),
                over.metric
            )
        }
        (Some(func), None) => format!("{func} {metric}{within} {compared}{lasting}"),
        (None, _) if rule.condition == RuleCondition::Anomaly => {
            format!("{metric} is {{{{value}}}}, expected {{{{lower | 2}}}} to {{{{upper | 2}}}}{lasting}")
        }
        (None, _) => format!("{metric} {compared}{lasting}"),
    }
}

/// Checks the windows of rules against the panes that they are made of.
pub(in crate::settings) fn check_windows(
    rules: &[RuleSettings],
    windows: &WindowsSettings,
    report: &mut Report,
) {
    if report.has_problem(&["windows"]) {
        return;
    }
    let held = windows.tiers.last().map_or(windows.pane, |tier| tier.retention);
    for rule in rules {
        for (key, width) in [("window", rule.window), ("every", rule.every)] {
            let Some(width) = width else { continue };
            if !width.as_nanos().is_multiple_of(windows.pane.as_nanos().max(1)) {
                let (pane, found) = (show_duration(windows.pane), show_duration(width));
                let text = format!("expected a multiple of windows.pane, {pane}, found {found}");
                problem_of(rule, key, text, report);
            } else if width > held {
                let (most, found) = (show_duration(held), show_duration(width));
                let text = format!("expected at most {most}, for which windows are held, found {found}");
                problem_of(rule, key, text, report);
            }
        }
    }
}

/// Names of rules, and where they stand.
pub(in crate::settings) type Names = HashMap<String, Origin>;

/// Checks that no two rules have one name, nor one of those known before; they are known then.
pub(in crate::settings) fn check_names(known: &mut Names, rules: &[RuleSettings], report: &mut Report) {
    for rule in rules {
        match known.get(&rule.name) {
            Some(other) => {
                let text = format!("expected names that differ, found {:?} here and at {other}", rule.name);
                problem_of(rule, "name", text, report);
            }
            None => drop(known.insert(rule.name.clone(), rule.source.origin.clone())),
        }
    }
}

/// Lays a problem at a key of a rule that was read.
fn problem_of(rule: &RuleSettings, key: &str, text: String, report: &mut Report) {
    problem_at(&rule.source.path, key, &rule.source.origin, text, report);
}

/// Lays a problem at a key of the rule at `path`, or where the key is not given at the rule, which stands at `origin`.
fn problem_at(path: &str, key: &str, origin: &Origin, text: impl Into<String>, report: &mut Report) {
    let path = joined(path, key);
    let origin = match report.origins.of(&path) {
        Origin::Default => origin.clone(),
        of_key => of_key,
    };
    report.problem(&origin, &path, text);
}
