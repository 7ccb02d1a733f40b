//! Alert rules: every key, every mistake with its exact text, rules in files of their own, Prometheus' files.

use std::collections::BTreeMap;
use std::path::Path;

use plantd_metric::settings::{
    self, Flags, OverSettings, RuleCondition, RuleSettings, SettingsErrors, Threshold, print_rules,
    read_rules,
};

use crate::{load, loaded, seconds};

/// `rule` as the only one of a configuration.
fn one(rule: &str) -> String {
    format!("alerts:\n  rules:\n    - {{ name: r, metric: m, {rule} }}\n")
}

#[test]
fn every_kind_of_rule() {
    for (keys, check, expression, message) in KINDS {
        let settings = loaded(&one(keys), &[]);
        let rule = &settings.alerts.rules[0];
        assert!(check(rule), "{keys}: {rule:?}");
        assert_eq!((rule.expression().as_str(), rule.message.as_str()), (*expression, *message), "{keys}");
        // What is printed reads back as the same.
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("printed.yaml");
        std::fs::write(&path, print_rules(&settings.alerts.rules)).expect("a file for the test");
        let read = read_rules(&path, None);
        assert_eq!((read.rules, read.problems), (settings.alerts.rules.clone(), vec![]), "{keys}");
        let printed = settings::print(&settings, &settings::Origins::default());
        assert_eq!(loaded(&printed, &[]).alerts, settings.alerts, "{printed}");
    }
}

/// Whether a rule was read as it is meant.
type Check = fn(&RuleSettings) -> bool;

/// Keys, what comes of them, and the rule as one line and as a message.
const KINDS: &[(&str, Check, &str, &str)] = &[
    ("operator: \">\", threshold: 5", |r| r.func.is_none() && r.enabled, "m > 5", "m > 5"),
    (
        "operator: outside, threshold: [1, 2]",
        |r| r.threshold == Threshold::Range(1.0, 2.0),
        "m outside [1, 2]",
        "m outside [1, 2]",
    ),
    (
        "operator: \">\", threshold: 5, resolve_threshold: 4, for: 30s, keep_firing_for: 1m, enabled: false",
        |r| {
            r.resolve_threshold == Some(4.0.into())
                && (r.duration, r.keep_firing_for) == (seconds(30), seconds(60))
                && !r.enabled
        },
        "m > 5",
        "m > 5 for 30s",
    ),
    (
        "func: p99, window: 5m, by: [host, service], min_samples: 3, operator: \">\", threshold: 5",
        |r| {
            r.every == Some(seconds(10))
                && r.by.as_ref().is_some_and(|by| by.len() == 2)
                && r.min_samples == 3
        },
        "p99 by (host, service) (m[5m]) > 5",
        "p99 m over 5m > 5",
    ),
    (
        "func: avg, window: 5m, every: 1m, without: [core], operator: \"<\", threshold: 5",
        |r| r.every == Some(seconds(60)) && r.without.as_deref() == Some(&["core".to_string()]),
        "avg without (core) (m[5m]) < 5",
        "avg m over 5m < 5",
    ),
    (
        "func: rate, window: 1m, over: { metric: n, tags: {} }, tags: { a: b* }, operator: \">\", threshold: 0.5",
        |r| {
            let over =
                OverSettings { metric: "n".into(), tags: Some(BTreeMap::new()), ..OverSettings::default() };
            r.over == Some(over)
        },
        "rate(m{a=~\"b.*\"}[1m]) / rate(n[1m]) > 0.5",
        "rate m / rate n over 1m > 0.5",
    ),
    (
        "func: sum, window: 1m, divide_by: { metric: n, func: count }, operator: \">\", threshold: 0.5",
        |r| r.over.as_ref().is_some_and(|over| over.func.as_deref() == Some("count")),
        "sum(m[1m]) / count(n[1m]) > 0.5",
        "sum m / count n over 1m > 0.5",
    ),
    (
        "absent_for: 5m, service: a",
        |r| r.absent_for == Some(seconds(300)),
        "absent(m{service=\"a\"}[5m])",
        "no m for 5m",
    ),
    ("stale_for: 1m", |r| r.stale_for == Some(seconds(60)), "age(m) > 1m", "m is older than 1m"),
    (
        "condition: anomaly, method: seasonal",
        |r| (r.condition, r.threshold) == (RuleCondition::Anomaly, 0.5.into()),
        "anomaly_seasonal(m) > 0.5",
        "m is {{value}}, expected {{lower | 2}} to {{upper | 2}}",
    ),
    (
        "condition: anomaly, threshold: 0.9, operator: \">=\"",
        |r| r.method.as_deref() == Some("default") && r.threshold == 0.9.into(),
        "anomaly_default(m) >= 0.9",
        "m is {{value}}, expected {{lower | 2}} to {{upper | 2}}",
    ),
];

#[test]
fn mistakes_in_rules() {
    let places =
        "value, threshold, lower, upper, score, service, metric, rule, severity, started, duration, tag.NAME";
    for (keys, expected) in MISTAKES {
        let told = load(&one(keys), &[]).map(|_| ());
        assert_eq!(told, Err(format!("metric.yaml:{expected}")), "{keys}");
    }
    let told =
        load(&one("operator: \">\", threshold: 5, annotations: { a: \"x {{valu}}\" }"), &[]).map(|_| ());
    let expected = format!(
        "metric.yaml:3:76: alerts.rules[0].annotations.a: character 3: expected one of {places}, found \"valu\"; did you \
         mean value?"
    );
    assert_eq!(told, Err(expected));
}

/// Keys of a rule, and what is told of them.
const MISTAKES: &[(&str, &str)] = &[
    ("operator: \">\"", "3:7: alerts.rules[0].threshold: expected this key, found none"),
    (
        "func: avg, operator: \">\", threshold: 1",
        "3:35: alerts.rules[0].func: expected window beside it, found none",
    ),
    (
        "window: 1m, operator: \">\", threshold: 1",
        "3:37: alerts.rules[0].window: expected func beside it, found none",
    ),
    (
        "by: [a], operator: \">\", threshold: 1",
        "3:33: alerts.rules[0].by: expected func and window beside it, which say what is compared, found by alone",
    ),
    (
        "func: mode, window: 1m, operator: \">\", threshold: 1",
        "3:35: alerts.rules[0].func: expected a window function: avg, count, first, increase, last, max, min, rate, \
             stddev, sum, median, pNN (such as p50, p99.9), found mode",
    ),
    (
        "func: avg, window: 15s, operator: \">\", threshold: 1",
        "3:48: alerts.rules[0].window: expected a multiple of windows.pane, 10s, found 15s",
    ),
    (
        "func: avg, window: 1d, operator: \">\", threshold: 1",
        "3:48: alerts.rules[0].window: expected at most 12h, for which windows are held, found 1d",
    ),
    (
        "func: avg, window: 1m, every: 2m, operator: \">\", threshold: 1",
        "3:59: alerts.rules[0].every: expected at most window, 1m, found 2m",
    ),
    (
        "func: avg, window: 1m, by: [a], without: [b], operator: \">\", threshold: 1",
        "3:70: alerts.rules[0].without: expected either by or without, found both",
    ),
    (
        "absent_for: 1m, operator: \">\"",
        "3:55: alerts.rules[0].operator: expected either absent_for or operator, found both",
    ),
    (
        "stale_for: 1m, absent_for: 1m",
        "3:56: alerts.rules[0].absent_for: expected either stale_for or absent_for, found both",
    ),
    (
        "condition: anomaly, func: avg",
        "3:55: alerts.rules[0].func: expected either condition: anomaly or func, found both",
    ),
    (
        "condition: anomaly, threshold: 2",
        "3:60: alerts.rules[0].threshold: expected a score from 0 to 1, found 2",
    ),
    (
        "condition: anomaly, operator: \"<\"",
        "3:59: alerts.rules[0].operator: expected > or >=, which a score can be strange by, found <",
    ),
    (
        "method: ewma, operator: \">\", threshold: 1",
        "3:37: alerts.rules[0].method: expected condition: anomaly beside it, found none",
    ),
    (
        "operator: outside, threshold: 1",
        "3:59: alerts.rules[0].threshold: expected the two ends of a range for outside, found 1",
    ),
    (
        "operator: \">\", threshold: [1, 2]",
        "3:55: alerts.rules[0].threshold: expected one number for >, found two",
    ),
    (
        "operator: inside, threshold: [2, 1]",
        "3:58: alerts.rules[0].threshold: expected the lower end first, found 2 and 1",
    ),
    (
        "operator: inside, threshold: [2]",
        "3:58: alerts.rules[0].threshold: expected a finite number, or the two ends of a range, found 1 of them",
    ),
    (
        "operator: \">\", threshold: 5, resolve_threshold: 6",
        "3:77: alerts.rules[0].resolve_threshold: expected at most threshold, 5, found 6",
    ),
    (
        "operator: \"<=\", threshold: 5, resolve_threshold: 4",
        "3:78: alerts.rules[0].resolve_threshold: expected at least threshold, 5, found 4",
    ),
    (
        "operator: outside, threshold: [1, 5], resolve_threshold: [0, 4]",
        "3:86: alerts.rules[0].resolve_threshold: expected a range within threshold, [1, 5], found [0, 4]",
    ),
    (
        "operator: \"==\", threshold: 5, resolve_threshold: 4",
        "3:78: alerts.rules[0].resolve_threshold: expected none for ==, found 4",
    ),
    (
        "operator: \">\", threshold: 5, labels: { severity: a }",
        "3:78: alerts.rules[0].labels.severity: expected other labels, found severity, which severity says",
    ),
    (
        "operator: \">\", threshold: 5, labels: { a-b: a }",
        "3:73: alerts.rules[0].labels.a-b: expected a name of letters, digits and _, found \"a-b\"",
    ),
];

/// A directory with files, and a configuration that names it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        let folder = tempfile::tempdir().expect("a folder for the test");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder in it");
            std::fs::write(path, text).expect("a file for the test");
        }
        Folder(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What is told of it, without the folder.
    fn told(&self, errors: &SettingsErrors) -> String {
        errors.to_string().replace(&format!("{}/", self.path().display()), "")
    }

    fn load(&self) -> Result<settings::Settings, String> {
        let config = self.path().join("metric.yaml");
        let flags = Flags { config: Some(config), ..Flags::default() };
        let dir = self.path().join("rules").display().to_string();
        let env = [("PLANTD_MODULE_METRIC__ALERTS__RULES_DIR".to_string(), dir)];
        settings::load(&flags, env).map_err(|errors| self.told(&errors))
    }
}

const CONFIG: &str = "alerts:\n  rules:\n    - { name: a, metric: m, operator: \">\", threshold: 1 }\n";
const OURS: &str = "rules:\n  - { name: b, metric: m, operator: \"<\", threshold: 1 }\n";
const THEIRS: &str = "groups:\n  - name: g\n    interval: 30s\n    rules:\n      - alert: c\n        expr: m > 2\n        for: 1m\n";

#[test]
fn rules_in_files_of_their_own() {
    let folder = Folder::new(&[
        ("metric.yaml", CONFIG),
        ("rules/2.yaml", OURS),
        ("rules/1.yml", THEIRS),
        ("rules/.hidden.yaml", "nonsense"),
        ("rules/readme.txt", "nonsense"),
        ("rules/empty.yaml", "# nothing yet\n"),
    ]);
    let mut settings = folder.load().unwrap_or_else(|told| panic!("{told}"));
    let shown = |rules: &mut dyn Iterator<Item = &RuleSettings>| -> Vec<(String, String, String)> {
        let of = |rule: &RuleSettings| {
            let file =
                Path::new(&*rule.source.file).file_name().map(|name| name.to_string_lossy().into_owned());
            (rule.name.clone(), rule.source.group.to_string(), file.unwrap_or_default())
        };
        rules.map(of).collect()
    };
    let all = |a: &[(&str, &str, &str)]| -> Vec<(String, String, String)> {
        a.iter().map(|(n, g, f)| (n.to_string(), g.to_string(), f.to_string())).collect()
    };
    let expected = all(&[("a", "alerts", "metric.yaml"), ("c", "g", "1.yml"), ("b", "2", "2.yaml")]);
    assert_eq!(shown(&mut settings.alerts.active_rules()), expected);
    settings.alerts.enabled = false;
    assert_eq!(settings.alerts.active_rules().count(), 0);

    // Read again after a change; a broken file changes nothing and is told with its place.
    std::fs::write(folder.path().join("rules/2.yaml"), OURS.replace("name: b", "name: d")).expect("a file");
    let again = settings::load_rules(&settings).expect("they are sound");
    assert_eq!(shown(&mut again.iter())[2].0, "d");
    for (text, expected) in [
        ("rules:\n  - { name: b\n", "rules/2.yaml:2:5: expected YAML"),
        (
            "rules:\n  - { name: a, metric: m, operator: \"<\", threshold: 1 }\n",
            "rules/2.yaml:2:13: rules[0].name: expected names that differ, found \"a\" here and at metric.yaml:3:7",
        ),
        (
            "rules:\n  - { name: c, metric: m, operator: \"<\", threshold: 1 }\n",
            "rules/2.yaml:2:13: rules[0].name: expected names that differ, found \"c\" here and at rules/1.yml:5:9",
        ),
        ("rule: []\n", "rules/2.yaml:1:1: rule: unrecognised key; did you mean rules?"),
        ("- a\n", "rules/2.yaml:1:1: expected a mapping with the key rules or groups, found a list"),
        (
            "rules:\n  - { name: b, metric: m, operator: \"<\", threshold: x }\n",
            "rules/2.yaml:2:53: rules[0].threshold: expected a finite number, found x",
        ),
    ] {
        std::fs::write(folder.path().join("rules/2.yaml"), text).expect("a file");
        for told in [
            settings::load_rules(&settings).map_err(|errors| folder.told(&errors)).err(),
            folder.load().err(),
        ] {
            let told = told.unwrap_or_default();
            assert!(told.starts_with(expected), "{text}: {told}");
        }
    }
    std::fs::remove_dir_all(folder.path().join("rules")).expect("it is there");
    let told = folder.load().expect_err("the directory is gone");
    assert!(
        told.starts_with("PLANTD_MODULE_METRIC__ALERTS__RULES_DIR: alerts.rules_dir: expected a directory"),
        "{told}"
    );
}

#[test]
fn what_prometheus_has_becomes_rules() {
    let text = r#"
groups:
  - name: hosts
    labels: { team: infra }
    rules:
      - alert: HighErrorRate
        expr: |
          sum by (job) (rate(http_errors_total{env="prod"}[5m]))
            / sum by (job) (rate(http_requests_total{env="prod"}[5m])) > 0.05
        for: 10m
        keep_firing_for: 5m
        labels: { severity: page, tier: "{{ $labels.tier }}" }
        annotations:
          summary: "{{ $labels.job }} fails {{ $value | humanizePercentage }}"
          runbook: http://runbooks/errors
      - alert: Down
        expr: up == 0
  - name: slow
    interval: 1m
    rules:
      - alert: Slow
        expr: 0.5 < quantile_over_time(0.99, latency_seconds{job=~"api.*"}[10m])
      - alert: Gone
        expr: absent(up{job="api"})
"#;
    let folder = Folder::new(&[("their.yaml", text)]);
    let read = read_rules(&folder.path().join("their.yaml"), None);
    assert_eq!(read.problems, vec![]);
    let printed = print_rules(&read.rules);
    let expected = r#"rules:
  - name: HighErrorRate
    metric: http_errors_total
    tags:
      env: prod
    func: rate
    window: 5m
    every: 10s
    by: [service]
    over:
      metric: http_requests_total
      tags:
        env: prod
    operator: ">"
    threshold: 0.05
    duration: 10m
    keep_firing_for: 5m
    severity: page
    message: "{{service}} fails {{value | humanizePercentage}}"
    labels:
      team: infra
      tier: "{{tag.tier}}"
    annotations:
      runbook: "http://runbooks/errors"
      summary: "{{service}} fails {{value | humanizePercentage}}"
  - name: Down
    metric: up
    operator: "=="
    threshold: 0.0
    message: "up == 0"
    labels:
      team: infra
  - name: Slow
    metric: latency_seconds
    service: "api*"
    func: p99
    window: 10m
    every: 1m
    operator: ">"
    threshold: 0.5
    message: "p99 latency_seconds over 10m > 0.5"
  # absent() asks whether any such series is there; this watches each series that was there once
  - name: Gone
    metric: up
    service: api
    absent_for: 5m
    message: "no up for 5m"
"#;
    assert_eq!(printed, expected);
    std::fs::write(folder.path().join("ours.yaml"), &printed).expect("a file");
    assert_eq!(read_rules(&folder.path().join("ours.yaml"), None).rules, read.rules);
}

#[test]
fn what_cannot_be_imported_is_named() {
    let text = r#"groups:
  - name: g
    limit: 5
    rules:
      - record: a:b
        expr: sum(a)
      - alert: One
        expr: a > 1 and b > 2
      - alert: Two
        expr: a > 1
        labels: { alertname: x }
        annotations: { summary: "{{ with query }}" }
      - alert: Three
        expr: a >
        four: 5
      - alert: Good
        expr: a > 1
        for: 5
  - rules: []
"#;
    let folder = Folder::new(&[("their.yaml", text)]);
    let read = read_rules(&folder.path().join("their.yaml"), None);
    assert_eq!(read.rules, vec![]);
    let told = folder.told(&SettingsErrors(read.problems));
    let expected = "their.yaml:3:5: groups[0].limit: expected no limit, which rules here do not have\n\
        their.yaml:5:9: groups[0].rules[0].record: expected an alert, found a recording rule, which cannot be imported\n\
        their.yaml:8:15: groups[0].rules[1] (One).expr: character 7: expected a comparison with a number, found and\n\
        their.yaml:11:30: groups[0].rules[2] (Two).labels.alertname: expected other labels, or a plain text, found \
        alertname\n\
        their.yaml:12:33: groups[0].rules[2] (Two).annotations.summary: character 1: expected $value or $labels.NAME, \
        perhaps with humanize, humanizePercentage, humanizeDuration or printf \"%.2f\", found \"with query\"\n\
        their.yaml:14:15: groups[0].rules[3] (Three).expr: character 4: expected a number, a metric or a function, \
        found the end\n\
        their.yaml:15:9: groups[0].rules[3].four: unrecognised key; did you mean for?\n\
        their.yaml:18:14: groups[0].rules[4] (Good).for: expected a duration up to 365d, such as 5m, found 5\n\
        their.yaml:19:5: groups[1].name: expected this key, found none";
    assert_eq!(told, expected);
}
