//! Rules as they are written -> rules as the engine knows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use operators::alert::Timing;
use operators::condition::Operator;
use operators::rollup::Rollup;
use operators::rule::{Grouping, Level, Over, Rule, Signal, Texts, WindowSignal};
use operators::series::TargetMatcher;

use super::ns;
use crate::settings::rules::METHODS;
use crate::settings::{RuleCondition, RuleSettings, Settings};

/// The rules that the settings want.
pub fn rules(settings: &Settings) -> Vec<Rule> {
    settings.alerts.active_rules().map(|written| rule_in(written, settings)).collect()
}

/// One rule among settings: its metric may be that of a rollup, `NAME_FUNCTION`, whose windows it compares then.
pub fn rule_in(written: &RuleSettings, settings: &Settings) -> Rule {
    let mut rule = rule(written, settings.alerts.stale);
    if rule.signal != Signal::Sample {
        return rule;
    }
    for rollup in &settings.rollups {
        let function = written.metric.strip_prefix(&rollup.name).and_then(|rest| rest.strip_prefix('_'));
        let Some(function) = function.filter(|name| rollup.functions.iter().any(|f| f == name)) else {
            continue;
        };
        let Rollup { metric, matcher, over, grouping, width_ns, hop_ns, samples_min, .. } =
            rollup.rollup(&settings.windows);
        // What the rule asks of groups as well, it asks of their members.
        rule.matcher.service = rule.matcher.service.or(matcher.service);
        rule.matcher.tags.extend(matcher.tags);
        rule.metric = metric;
        rule.signal = Signal::Window(WindowSignal {
            function: function.into(),
            window_ns: width_ns,
            hop_ns,
            grouping,
            over,
            samples_min,
        });
        break;
    }
    rule
}

/// One rule; a value of it holds for `stale` when no newer sample comes.
pub fn rule(written: &RuleSettings, stale: Duration) -> Rule {
    Rule {
        name: written.name.as_str().into(),
        metric: written.metric.clone(),
        matcher: matcher(written.service.as_ref(), &written.tags),
        signal: signal(written),
        level: level(written),
        timing: Timing {
            duration_ns: ns(written.duration),
            stale_ns: ns(stale),
            keep_ns: ns(written.keep_firing_for),
        },
        texts: texts(written),
    }
}

fn matcher(service: Option<&String>, tags: &BTreeMap<String, String>) -> TargetMatcher {
    let tags = tags.iter().map(|(name, text)| (name.clone(), text.clone()));
    TargetMatcher { service: service.cloned(), tags: tags.collect() }
}

fn signal(written: &RuleSettings) -> Signal {
    if let Some(stale) = written.stale_for {
        return Signal::Stale { for_ns: ns(stale) };
    }
    if let Some(absent) = written.absent_for {
        return Signal::Absent { for_ns: ns(absent) };
    }
    if written.condition == RuleCondition::Anomaly {
        // The settings take no other names: a test holds them together.
        let method = written.method.as_deref().unwrap_or(METHODS[0]).parse().unwrap_or_default();
        return Signal::Anomaly { method };
    }
    let (Some(func), Some(window)) = (&written.func, written.window) else { return Signal::Sample };
    let over = written.over.as_ref().map(|over| Over {
        metric: over.metric.clone(),
        matcher: matcher(
            over.service.as_ref().or(written.service.as_ref()),
            over.tags.as_ref().unwrap_or(&written.tags),
        ),
        function: over.func.as_ref().unwrap_or(func).clone(),
    });
    let grouping = match (&written.by, &written.without) {
        (Some(by), _) => Grouping::By(by.clone()),
        (None, Some(without)) => Grouping::Without(without.clone()),
        (None, None) => Grouping::Series,
    };
    Signal::Window(WindowSignal {
        function: func.clone(),
        window_ns: ns(window),
        hop_ns: ns(written.every.unwrap_or(window)),
        grouping,
        over,
        samples_min: written.min_samples as u64,
    })
}

/// What silence is compared with are seconds.
fn level(written: &RuleSettings) -> Level {
    if let Some(silence) = written.stale_for.or(written.absent_for) {
        return Level::new(Operator::default(), silence.as_secs_f64());
    }
    // The settings' operators are those of the conditions' table: a test holds them together.
    let operator = written.operator.word().parse().expect("every operator of the settings is a condition");
    let resolve = written.resolve_threshold.map(|resolve| resolve.bounds());
    Level { operator, bounds: written.threshold.bounds(), resolve }
}

fn texts(written: &RuleSettings) -> Texts {
    let of = |texts: &BTreeMap<String, String>| -> Vec<(Arc<str>, Arc<str>)> {
        texts.iter().map(|(name, text)| (name.as_str().into(), text.as_str().into())).collect()
    };
    Texts {
        severity: written.severity.as_str().into(),
        message: written.message.as_str().into(),
        labels: of(&written.labels),
        annotations: of(&written.annotations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Operator as Word, rule_of_json};
    use operators::condition::Bounds;
    use operators::sample::SECOND;
    use serde_json::json;

    fn wired(json: serde_json::Value) -> Rule {
        let written = rule_of_json(&json, &Settings::default().windows).unwrap_or_else(|e| panic!("{e}"));
        rule(&written, Duration::from_secs(300))
    }

    #[test]
    fn every_operator_of_the_settings_is_a_condition() {
        for word in Word::WORDS {
            let written = RuleSettings {
                operator: Word::from_word(word).expect("a word of its own"),
                ..RuleSettings::default()
            };
            let rule = rule(&written, Duration::ZERO);
            assert_eq!(rule.level.operator.symbol(), *word);
            assert_eq!(rule.level.operator.is_of_range(), written.operator.is_of_range());
        }
    }

    #[test]
    fn samples_with_every_time_and_text() {
        let rule = wired(json!({
            "name": "a", "metric": "m", "service": "s*", "tags": {"host": "h"}, "operator": "outside",
            "threshold": [1, 2.5], "resolve_threshold": [1.5, 2], "for": "10s", "keep_firing_for": "1m",
            "message": "{{value}}", "labels": {"team": "x"}, "annotations": {"runbook": "y"}, "severity": "page",
        }));
        let texts = Texts {
            severity: "page".into(),
            message: "{{value}}".into(),
            labels: vec![("team".into(), "x".into())],
            annotations: vec![("runbook".into(), "y".into())],
        };
        let expected = Rule {
            name: "a".into(),
            metric: "m".into(),
            matcher: TargetMatcher { service: Some("s*".into()), tags: vec![("host".into(), "h".into())] },
            signal: Signal::Sample,
            level: Level {
                operator: "outside".parse().expect("it is one"),
                bounds: Bounds { lower: 1.0, upper: 2.5 },
                resolve: Some(Bounds { lower: 1.5, upper: 2.0 }),
            },
            timing: Timing { duration_ns: 10 * SECOND, stale_ns: 300 * SECOND, keep_ns: 60 * SECOND },
            texts,
        };
        assert_eq!(rule, expected);
    }

    #[test]
    fn windows_ratios_silence_and_anomalies() {
        let window = wired(json!({
            "name": "a", "metric": "errors", "tags": {"zone": "b"}, "func": "rate", "window": "5m", "by": ["service"],
            "min_samples": 3, "over": {"metric": "requests", "tags": {}}, "operator": ">", "threshold": 0.1,
        }));
        let expected = WindowSignal {
            function: "rate".into(),
            window_ns: 300 * SECOND,
            hop_ns: 10 * SECOND,
            grouping: Grouping::By(vec!["service".into()]),
            over: Some(Over {
                metric: "requests".into(),
                matcher: TargetMatcher::default(),
                function: "rate".into(),
            }),
            samples_min: 3,
        };
        assert_eq!(window.signal, Signal::Window(expected));
        for (key, signal) in [
            ("absent_for", Signal::Absent { for_ns: 90 * SECOND }),
            ("stale_for", Signal::Stale { for_ns: 90 * SECOND }),
        ] {
            let rule = wired(json!({"name": "a", "metric": "m", key: "90s"}));
            assert_eq!((rule.signal, rule.level.bounds), (signal, 90.0.into()));
        }
        let anomaly = wired(json!({"name": "a", "metric": "m", "condition": "anomaly", "method": "ewma"}));
        assert_eq!(anomaly.signal, Signal::Anomaly { method: "ewma".parse().unwrap() });
        assert_eq!(anomaly.level, Level::new(">".parse().expect("it is one"), 0.5));
    }
}
