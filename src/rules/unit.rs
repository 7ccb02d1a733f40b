//! Unit tests of rules: samples in, alerts out, by the engine itself in virtual time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use operators::sample::TimeNs;
use operators::series::{SeriesKey, Target};
use operators::tier::WindowPlan;

use super::alerts::{Breach, State, breaches};
use super::trial::{Arriving, Said, play};
use crate::alerts::RuleTexts;
use crate::service::wiring;
use crate::settings::rules::test_file::{AlertsAt, ExpectedAlert, ExpectedBreach, InputSeries, SeriesText};
use crate::settings::units::show_duration;
use crate::settings::{
    Flags, Origin, Problem, RuleFile, RuleSettings, RuleTest, SettingsErrors, TestFile, load, read_rules,
    read_tests,
};

/// How the tests of a file went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many tests there are.
    pub tests: usize,
    /// What went otherwise than it should, each with its place.
    pub failures: Vec<String>,
}

/// Runs the tests in a file.
///
/// # Errors
/// Everything that is wrong with the file, or with those that it names.
pub fn run(path: &Path) -> Result<Outcome, SettingsErrors> {
    let file = read_tests(path)?;
    let under_test = UnderTest::read(path, &file)?;
    let mut outcome = Outcome::default();
    for (at, test) in file.tests.iter().enumerate() {
        outcome.tests += 1;
        let name = test.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let failures =
            under_test.run(test).map_err(|text| problem(path, format!("tests[{at}]{name}: {text}")))?;
        outcome.failures.extend(failures.into_iter().map(|failure| format!("tests[{at}]{name}: {failure}")));
    }
    Ok(outcome)
}

fn problem(path: &Path, text: String) -> SettingsErrors {
    let origin = Origin::File { file: path.display().to_string().into(), line: 1, column: 1 };
    SettingsErrors(vec![Problem { origin, key: String::new(), text }])
}

/// The rules, and the windows that they are for.
struct UnderTest {
    rules: Vec<RuleSettings>,
    texts: Vec<RuleTexts>,
    windows: WindowPlan,
    stale: Duration,
}

impl UnderTest {
    fn read(path: &Path, file: &TestFile) -> Result<UnderTest, SettingsErrors> {
        let beside = |name: &String| path.parent().unwrap_or(Path::new("")).join(name);
        let config = match &file.config {
            Some(name) => Some(load(&Flags { config: Some(beside(name)), ..Flags::default() }, [])?),
            None => None,
        };
        let mut rules: Vec<RuleSettings> = Vec::new();
        let mut windows = config.as_ref().map(|config| (config.windows.clone(), config.alerts.stale));
        let mut plain = None;
        for name in &file.rule_files {
            let RuleFile { rules: read, windows: their, stale, is_config, problems } =
                read_rules(&beside(name), config.as_ref());
            if !problems.is_empty() {
                return Err(SettingsErrors(problems));
            }
            if let Some(twice) = read.iter().find(|rule| rules.iter().any(|known| known.name == rule.name)) {
                let text = format!("expected names that differ, found {:?} in another file too", twice.name);
                return Err(SettingsErrors(vec![Problem {
                    origin: twice.source.origin.clone(),
                    key: "rule_files".into(),
                    text,
                }]));
            }
            rules.extend(read);
            if is_config {
                windows.get_or_insert((their, stale));
            } else {
                plain.get_or_insert((their, stale));
            }
        }
        let Some((windows, stale)) = windows.or(plain) else {
            return Err(problem(path, "rule_files: expected at least one, found none".into()));
        };
        let texts = rules.iter().map(|rule| RuleTexts::of(&wiring::rule(rule, stale))).collect();
        Ok(UnderTest { rules, texts, windows: wiring::window_plan(&windows), stale })
    }

    /// What went otherwise in one test.
    fn run(&self, test: &RuleTest) -> Result<Vec<String>, String> {
        let mut samples = Vec::new();
        for input in &test.input_series {
            arriving(test, input, &mut samples).map_err(|text| format!("{}: {text}", input.origin))?;
        }
        let end_ns = end(test, &samples);
        let rules = self.rules.iter().map(|rule| wiring::rule(rule, self.stale)).collect();
        let said = play(self.windows.clone(), rules, samples, end_ns)?;
        let mut failures = Vec::new();
        for at in &test.alert_rule_test {
            let place = format!("{}: {} at {}", at.origin, at.alertname, show_duration(at.eval_time));
            let Some(rule) = self.rules.iter().position(|rule| rule.name == at.alertname) else {
                return Err(format!("{place}: expected the name of a rule in rule_files"));
            };
            let known = match at.as_of {
                Some(as_of) => {
                    let as_of_ns = after(test, as_of);
                    said.iter().filter(|said| said.arrival_ns <= as_of_ns).cloned().collect::<Vec<Said>>()
                }
                None => said.clone(),
            };
            failures.extend(
                self.alerts_at(test, at, rule, &breaches(&known)).map(|text| format!("{place}: {text}")),
            );
        }
        if let Some(expected) = &test.expect {
            if let Some(unknown) =
                expected.iter().find(|e| self.rules.iter().all(|rule| rule.name != e.alert))
            {
                let text = "expected the name of a rule in rule_files, found";
                return Err(format!("{}: {text} {:?}", unknown.origin, unknown.alert));
            }
            failures.extend(self.fired(test, expected, &breaches(&said), end_ns));
        }
        Ok(failures)
    }

    /// Compares the alerts of a rule at a moment.
    fn alerts_at(&self, test: &RuleTest, at: &AlertsAt, rule: usize, breaches: &[Breach]) -> Option<String> {
        let at_ns = after(test, at.eval_time);
        let mut found: Vec<(&Breach, State)> = breaches
            .iter()
            .filter(|breach| breach.rule == rule)
            .filter_map(|breach| Some((breach, breach.state(at_ns)?)))
            .collect();
        // Pending ones are compared where any is expected.
        let wants_pending = at.exp_alerts.iter().any(|alert| alert.state.as_deref() == Some("pending"));
        found.retain(|(_, state)| *state == State::Firing || wants_pending);
        let texts = &self.texts[rule];
        let mut left = found.clone();
        let mut missing = Vec::new();
        for expected in &at.exp_alerts {
            match left
                .iter()
                .position(|(breach, state)| self.is_alert(test, expected, texts, breach, *state, at_ns))
            {
                Some(place) => drop(left.remove(place)),
                None => missing.push(expected),
            }
        }
        if missing.is_empty() && left.is_empty() {
            return None;
        }
        let expected = at.exp_alerts.iter().map(shown_expected);
        let found = found.iter().map(|(breach, state)| {
            let told = texts.told(&breach.key, breach.value(at_ns), breach.expected, breach.since_ns, at_ns);
            let labels = texts.labels(&breach.key, &told);
            format!(
                "{} {} since {} value {} labels {} message {:?}",
                state.word(),
                shown_key(&breach.key),
                since(test, breach.since_ns),
                breach.value(at_ns),
                shown_labels(&labels),
                told.message
            )
        });
        Some(compared(expected, found))
    }

    fn is_alert(
        &self,
        test: &RuleTest,
        expected: &ExpectedAlert,
        texts: &RuleTexts,
        breach: &Breach,
        state: State,
        at_ns: TimeNs,
    ) -> bool {
        let ExpectedAlert {
            series,
            service,
            metric,
            tags,
            labels,
            annotations,
            message,
            value,
            since,
            state: word,
        } = expected;
        let found = breach.value(at_ns);
        let told = texts.told(&breach.key, found, breach.expected, breach.since_ns, at_ns);
        let without_name = |labels: &BTreeMap<String, String>| {
            let mut labels = labels.clone();
            labels.remove("alertname");
            labels
        };
        let texts_of = |texts: &[(Arc<str>, String)]| -> BTreeMap<String, String> {
            texts.iter().map(|(name, text)| (name.to_string(), text.clone())).collect()
        };
        is_series(&breach.key, series.as_ref(), service.as_ref(), metric.as_ref(), tags.as_ref())
            && word.as_deref().unwrap_or("firing") == state.word()
            && labels.as_ref().is_none_or(|labels| without_name(labels) == texts.labels(&breach.key, &told))
            && annotations.as_ref().is_none_or(|annotations| *annotations == texts_of(&told.annotations))
            && message.as_ref().is_none_or(|message| *message == told.message)
            && value.is_none_or(|value| value == found)
            && since.is_none_or(|since| after(test, since) == breach.since_ns)
    }

    /// Compares everything that fired.
    fn fired(
        &self,
        test: &RuleTest,
        expected: &[ExpectedBreach],
        breaches: &[Breach],
        end_ns: TimeNs,
    ) -> Option<String> {
        let found: Vec<Breach> = breaches
            .iter()
            .filter(|breach| breach.fired_ns.is_some_and(|fired_ns| fired_ns <= end_ns))
            .map(|breach| Breach {
                ended_ns: breach.ended_ns.filter(|ended_ns| *ended_ns <= end_ns),
                ..breach.clone()
            })
            .collect();
        let is_it = |expected: &ExpectedBreach, breach: &Breach| {
            let ExpectedBreach {
                alert, series, service, metric, tags, started, fired, ended, retracted, ..
            } = expected;
            self.rules[breach.rule].name == *alert
                && is_series(&breach.key, series.as_ref(), service.as_ref(), metric.as_ref(), tags.as_ref())
                && started.is_none_or(|started| after(test, started) == breach.since_ns)
                && Some(after(test, *fired)) == breach.fired_ns
                && *retracted == breach.retracted
                && (*retracted || ended.map(|ended| after(test, ended)) == breach.ended_ns)
        };
        let mut left: Vec<&Breach> = found.iter().collect();
        let mut complete = true;
        for expected in expected {
            match left.iter().position(|breach| is_it(expected, breach)) {
                Some(place) => drop(left.remove(place)),
                None => complete = false,
            }
        }
        if complete && left.is_empty() {
            return None;
        }
        let wanted = expected.iter().map(|e| {
            let series =
                shown_series(e.series.as_ref(), e.service.as_ref(), e.metric.as_ref(), e.tags.as_ref());
            let times = [("started", e.started), ("fired", Some(e.fired)), ("ended", e.ended)];
            let times =
                times.iter().filter_map(|(word, at)| Some(format!(" {word} {}", show_duration((*at)?))));
            format!(
                "{}{series}{}{}",
                e.alert,
                times.collect::<String>(),
                if e.retracted { " retracted" } else { "" }
            )
        });
        let shown = found.iter().map(|breach| {
            let ends = breach.ended_ns.map(|ended_ns| format!(" ended {}", since(test, ended_ns)));
            format!(
                "{} {} started {} fired {}{}{}",
                self.rules[breach.rule].name,
                shown_key(&breach.key),
                since(test, breach.since_ns),
                since(test, breach.fired_ns.unwrap_or_default()),
                ends.unwrap_or_default(),
                if breach.retracted { " retracted" } else { "" }
            )
        });
        Some(format!("expect: {}", compared(wanted, shown)))
    }
}

fn compared(expected: impl Iterator<Item = String>, found: impl Iterator<Item = String>) -> String {
    let lines = |lines: Vec<String>| match lines.as_slice() {
        [] => "\n      nothing".to_string(),
        lines => lines.iter().map(|line| format!("\n      {line}")).collect(),
    };
    format!("\n    expected:{}\n    found:{}", lines(expected.collect()), lines(found.collect()))
}

/// Event time of a moment of a test.
fn after(test: &RuleTest, moment: Duration) -> TimeNs {
    test.start_ns.saturating_add(TimeNs::try_from(moment.as_nanos()).unwrap_or(TimeNs::MAX))
}

/// A moment of a test, as it is written there.
fn since(test: &RuleTest, time_ns: TimeNs) -> String {
    let ns = time_ns.saturating_sub(test.start_ns);
    let text = show_duration(Duration::from_nanos(ns.unsigned_abs()));
    if ns < 0 { format!("-{text}") } else { text }
}

fn arriving(test: &RuleTest, input: &InputSeries, out: &mut Vec<Arriving>) -> Result<(), String> {
    let InputSeries { series, service, metric, tags, values, samples, arrives_at, .. } = input;
    let (service, metric, tags) = match (series, metric) {
        (Some(SeriesText { service, metric, tags }), None) => (service.as_str(), metric, tags),
        (None, Some(metric)) => (service.as_deref().unwrap_or_default(), metric, tags),
        _ => return Err("expected either series, or metric with service and tags".into()),
    };
    let target = Target::new(service, tags.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let key = SeriesKey { target: Arc::new(target), metric: metric.as_str().into() };
    let mut push = |at: Duration, value: f64, own: Option<Duration>| {
        let time_ns = after(test, at);
        let arrival_ns = own.or(*arrives_at).map_or(time_ns, |arrives| after(test, arrives));
        out.push(Arriving { arrival_ns, time_ns, key: key.clone(), value });
    };
    for (at, value) in values.iter().flat_map(|values| values.0.iter().enumerate()) {
        if let Some(value) = value {
            push(test.interval.saturating_mul(u32::try_from(at).unwrap_or(u32::MAX)), *value, None);
        }
    }
    for sample in samples {
        push(sample.at, sample.value, sample.arrives_at);
    }
    Ok(())
}

/// The latest time in a test.
fn end(test: &RuleTest, samples: &[Arriving]) -> TimeNs {
    if let Some(end) = test.end {
        return after(test, end);
    }
    let of_samples = samples.iter().flat_map(|sample| [sample.arrival_ns, sample.time_ns]);
    let asked = test.alert_rule_test.iter().flat_map(|at| [Some(at.eval_time), at.as_of]);
    let expected = test.expect.iter().flatten().flat_map(|breach| [Some(breach.fired), breach.ended]);
    let moments = asked.chain(expected).flatten().map(|moment| after(test, moment));
    of_samples.chain(moments).max().unwrap_or(test.start_ns)
}

fn is_series(
    key: &SeriesKey,
    series: Option<&SeriesText>,
    service: Option<&String>,
    metric: Option<&String>,
    tags: Option<&BTreeMap<String, String>>,
) -> bool {
    let has = |tags: &BTreeMap<String, String>| {
        key.target.tags.len() == tags.len()
            && key
                .target
                .tags
                .iter()
                .all(|(name, value)| tags.get(&**name).is_some_and(|wanted| **value == **wanted))
    };
    series.is_none_or(|series| {
        *key.target.service == *series.service && *key.metric == *series.metric && has(&series.tags)
    }) && service.is_none_or(|service| *key.target.service == **service)
        && metric.is_none_or(|metric| *key.metric == **metric)
        && tags.is_none_or(has)
}

/// A series as people read it: `service metric{tag="value"}`.
pub(super) fn shown_key(key: &SeriesKey) -> String {
    let tags = key.target.tags.iter().map(|(name, value)| format!("{name}={value:?}"));
    let tags = tags.collect::<Vec<_>>().join(", ");
    let service = if key.target.service.is_empty() { "*" } else { &*key.target.service };
    format!("{service} {}{{{tags}}}", key.metric)
}

fn shown_labels(labels: &BTreeMap<String, String>) -> String {
    let labels = labels.iter().map(|(name, value)| format!("{name}: {value:?}"));
    format!("{{ {} }}", labels.collect::<Vec<_>>().join(", "))
}

fn shown_series(
    series: Option<&SeriesText>,
    service: Option<&String>,
    metric: Option<&String>,
    tags: Option<&BTreeMap<String, String>>,
) -> String {
    let service = service.or(series.map(|series| &series.service)).map(|text| format!(" service {text}"));
    let metric = metric.or(series.map(|series| &series.metric)).map(|text| format!(" metric {text}"));
    let tags = tags.or(series.map(|series| &series.tags)).map(|tags| format!(" tags {}", shown_labels(tags)));
    [service, metric, tags].into_iter().flatten().collect()
}

fn shown_expected(expected: &ExpectedAlert) -> String {
    let ExpectedAlert { series, service, metric, tags, labels, annotations, message, value, since, state } =
        expected;
    let mut text = state.clone().unwrap_or_else(|| "firing".into());
    text += &shown_series(series.as_ref(), service.as_ref(), metric.as_ref(), tags.as_ref());
    text += &since.map(|since| format!(" since {}", show_duration(since))).unwrap_or_default();
    text += &value.map(|value| format!(" value {value}")).unwrap_or_default();
    text += &labels.as_ref().map(|labels| format!(" labels {}", shown_labels(labels))).unwrap_or_default();
    text += &annotations
        .as_ref()
        .map(|texts| format!(" annotations {}", shown_labels(texts)))
        .unwrap_or_default();
    text += &message.as_ref().map(|message| format!(" message {message:?}")).unwrap_or_default();
    text
}
