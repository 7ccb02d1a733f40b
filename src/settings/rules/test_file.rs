//! Files with unit tests of rules, as they are written: their keys. What they mean: [`unit`](crate::rules::unit).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Kind, List, Node, Optional, Origin, Report, Scalar, Shown, Sub, TEXT, Tags, duration, section};
use crate::codec::{labels, time};
use crate::promql;
use crate::settings::compounds::Tags as TagsKind;
use crate::settings::kinds::{BOOL, NUMBER, OneOf, form};
use crate::settings::report::SettingsErrors;
use crate::settings::section::read_section;
use crate::settings::units;
use crate::settings::written::Value;

/// A file with tests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestFile {
    /// Files with the rules, relative to this one.
    pub rule_files: Vec<String>,
    /// A configuration, relative to this file, whose windows hold; default: the default ones.
    pub config: Option<String>,
    /// The tests.
    pub tests: Vec<RuleTest>,
    /// How often Prometheus would look; nothing depends on it here.
    pub evaluation_interval: Option<Duration>,
}

/// One test. Times are durations from its start.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleTest {
    /// Its name.
    pub name: Option<String>,
    /// Event time of its start, nanoseconds.
    pub start_ns: i64,
    /// Distance between two values of a series.
    pub interval: Duration,
    /// Until when it lasts; default: the latest time in it.
    pub end: Option<Duration>,
    /// The samples.
    pub input_series: Vec<InputSeries>,
    /// Alerts at moments.
    pub alert_rule_test: Vec<AlertsAt>,
    /// All alerts that fired, if given.
    pub expect: Option<Vec<ExpectedBreach>>,
}

/// Samples of one series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputSeries {
    /// As Prometheus writes it: `up{job="a"}`.
    pub series: Option<SeriesText>,
    /// The service.
    pub service: Option<String>,
    /// The metric name.
    pub metric: Option<String>,
    /// The tags.
    pub tags: BTreeMap<String, String>,
    /// Values at every interval: `0+10x5 _ 1x3`.
    pub values: Option<Values>,
    /// Samples by themselves.
    pub samples: Vec<InputSample>,
    /// When all of them come; default: at their event times.
    pub arrives_at: Option<Duration>,
    /// Where it stands.
    pub origin: String,
}

/// A series, as Prometheus writes it, by our names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesText {
    /// The service.
    pub service: String,
    /// The metric name.
    pub metric: String,
    /// The tags.
    pub tags: BTreeMap<String, String>,
}

/// Values at every interval; none where there is no sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(pub Vec<Option<f64>>);

/// A sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputSample {
    /// Event time.
    pub at: Duration,
    /// Value.
    pub value: f64,
    /// When it comes, if not at its event time.
    pub arrives_at: Option<Duration>,
}

/// Which alerts of a rule there are at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertsAt {
    /// The moment, event time.
    pub eval_time: Duration,
    /// By what had come by then; default: by all that comes.
    pub as_of: Option<Duration>,
    /// The rule.
    pub alertname: String,
    /// The alerts.
    pub exp_alerts: Vec<ExpectedAlert>,
    /// Where it stands.
    pub origin: String,
}

/// An alert at a moment. What is not given is not compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedAlert {
    /// As Prometheus writes it.
    pub series: Option<SeriesText>,
    /// The service.
    pub service: Option<String>,
    /// The metric name.
    pub metric: Option<String>,
    /// All tags.
    pub tags: Option<BTreeMap<String, String>>,
    /// All labels, as Prometheus would have them, but for the name of the rule.
    pub labels: Option<BTreeMap<String, String>>,
    /// All annotations.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The message.
    pub message: Option<String>,
    /// The value that was said last.
    pub value: Option<f64>,
    /// When it began.
    pub since: Option<Duration>,
    /// `firing` (the default) or `pending`.
    pub state: Option<String>,
}

/// An alert that fired.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedBreach {
    /// The rule.
    pub alert: String,
    /// As Prometheus writes it.
    pub series: Option<SeriesText>,
    /// The service.
    pub service: Option<String>,
    /// The metric name.
    pub metric: Option<String>,
    /// All tags.
    pub tags: Option<BTreeMap<String, String>>,
    /// When it began; not compared if not given.
    pub started: Option<Duration>,
    /// When it fired.
    pub fired: Duration,
    /// When it ended; not given: not until the end.
    pub ended: Option<Duration>,
    /// Whether a late sample took its reason away.
    pub retracted: bool,
    /// Where it stands.
    pub origin: String,
}

/// A Monday at midnight, a multiple of every window's width: 2024-01-01T00:00:00Z.
const START_NS: i64 = 1_704_067_200_000_000_000;

impl Default for RuleTest {
    fn default() -> RuleTest {
        RuleTest {
            name: None,
            start_ns: START_NS,
            interval: Duration::from_secs(60),
            end: None,
            input_series: Vec::new(),
            alert_rule_test: Vec::new(),
            expect: None,
        }
    }
}

/// A moment: a duration from the start, `0` being the start itself.
fn moment() -> Scalar<Duration, String> {
    duration("0s", "3650d")
}

/// RFC 3339.
const TIME: Scalar<i64, &str> = form(
    |text, _| time::parse_text(text),
    |value| Shown::Word(value.to_string()),
    "an RFC 3339 time such as 2024-01-01T00:00:00Z",
);

/// `[TIME, VALUE]` or `[TIME, VALUE, TIME OF ARRIVAL]`.
struct SampleKind;

impl Kind<InputSample> for SampleKind {
    fn read(&self, node: &Node, into: &mut InputSample, key: &str, report: &mut Report) {
        let parts = match &node.value {
            Value::List(parts) if (2..=3).contains(&parts.len()) => parts.as_slice(),
            _ => {
                let text = format!("expected [time, value] or [time, value, time of arrival], found {node}");
                return report.problem(&node.origin, key, text);
            }
        };
        moment().read(&parts[0], &mut into.at, &format!("{key}[0]"), report);
        NUMBER.read(&parts[1], &mut into.value, &format!("{key}[1]"), report);
        if let Some(arrives_at) = parts.get(2) {
            Optional(moment()).read(arrives_at, &mut into.arrives_at, &format!("{key}[2]"), report);
        }
    }

    fn show(&self, value: &InputSample) -> Shown {
        let time = |at: Duration| Shown::Word(units::show_duration(at));
        let parts = [time(value.at), NUMBER.show(&value.value)];
        Shown::List(parts.into_iter().chain(value.arrives_at.map(time)).collect())
    }
}

/// A section that remembers where it stands.
struct Placed;

macro_rules! placed {
    ($($section:ident),+) => {$(
        impl Kind<$section> for Placed {
            fn read(&self, node: &Node, into: &mut $section, key: &str, report: &mut Report) {
                read_section(node, into, key, report);
                into.origin = node.origin.to_string();
            }

            fn show(&self, value: &$section) -> Shown {
                Kind::<$section>::show(&Sub, value)
            }
        }
    )+};
}

placed! { InputSeries, AlertsAt, ExpectedBreach }

section! { TestFile requires ["rule_files", "tests"] {
    "rule_files" => rule_files: List(TEXT),
    "config" => config: Optional(TEXT),
    "evaluation_interval" => evaluation_interval: Optional(moment()),
    "tests" => tests: List(Sub),
} }

section! { RuleTest requires ["input_series"] {
    "name" => name: Optional(TEXT),
    "start" => start_ns: TIME,
    "interval" => interval: duration("1ms", "365d"),
    "end" => end: Optional(moment()),
    "input_series" => input_series: List(Placed),
    "alert_rule_test" => alert_rule_test: List(Placed),
    "expect" => expect: Optional(List(Placed)),
} }

section! { InputSeries requires [] {
    "series" => series: Optional(SERIES),
    "service" => service: Optional(TEXT),
    "metric" => metric: Optional(TEXT),
    "tags" => tags: Tags,
    "values" => values: Optional(VALUES),
    "samples" => samples: List(SampleKind),
    "arrives_at" => arrives_at: Optional(moment()),
} }

section! { AlertsAt requires ["eval_time", "alertname"] {
    "eval_time" => eval_time: moment(),
    "as_of" => as_of: Optional(moment()),
    "alertname" => alertname: TEXT,
    "exp_alerts" => exp_alerts: List(Sub),
} }

section! { ExpectedAlert requires [] {
    "series" => series: Optional(SERIES),
    "service" => service: Optional(TEXT),
    "metric" => metric: Optional(TEXT),
    "tags" => tags: Optional(TagsKind),
    "labels" | "exp_labels" => labels: Optional(TagsKind),
    "annotations" | "exp_annotations" => annotations: Optional(TagsKind),
    "message" => message: Optional(TEXT),
    "value" => value: Optional(NUMBER),
    "since" => since: Optional(moment()),
    "state" => state: Optional(OneOf(&["firing", "pending"])),
} }

section! { ExpectedBreach requires ["alert", "fired"] {
    "alert" => alert: TEXT,
    "series" => series: Optional(SERIES),
    "service" => service: Optional(TEXT),
    "metric" => metric: Optional(TEXT),
    "tags" => tags: Optional(TagsKind),
    "started" => started: Optional(moment()),
    "fired" => fired: moment(),
    "ended" => ended: Optional(moment()),
    "retracted" => retracted: BOOL,
} }

/// Values, most of them at most.
const VALUES_MAX: usize = 1_000_000;

const VALUES: Scalar<Values, &str> = form(
    |text, _| values(text).map(Values),
    |value| {
        let texts = value.0.iter().map(|value| value.map_or("_".to_string(), |value| value.to_string()));
        Shown::Text(texts.collect::<Vec<_>>().join(" "))
    },
    "finite values such as 1 2.5, 0+10x5 (from 0 by 10, five more), 7x3 (three more), _ or stale (no sample), _x4",
);

const SERIES: Scalar<SeriesText, &str> =
    form(|text, _| series(text), |value| Shown::Text(format!("{value:?}")), "a series such as up{job=\"a\"}");

/// The notation of promtool. `stale` is a gap: what has no value any more is silent here.
fn values(text: &str) -> Option<Vec<Option<f64>>> {
    let mut values = Vec::new();
    for part in text.split_whitespace() {
        let (first, more) = match part.rsplit_once('x') {
            Some((first, more)) => (first, more.parse().ok().filter(|more| *more < VALUES_MAX)?),
            None => (part, 0usize),
        };
        if matches!(first, "_" | "stale") {
            // Unlike values, gaps are as many as the number says.
            values.extend(std::iter::repeat_n(None, if part.contains('x') { more } else { 1 }));
        } else {
            let (from, step) = stepped(first)?;
            values.extend((0..=more).map(|at| Some(from + step * at as f64)));
        }
        if values.len() > VALUES_MAX {
            return None;
        }
    }
    (!values.is_empty()).then_some(values)
}

/// `0+10` -> 0 and 10; a sign at the beginning or behind an exponent is part of a number.
fn stepped(text: &str) -> Option<(f64, f64)> {
    let finite = |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite());
    let is_step = |(at, c): &(usize, char)| {
        matches!(c, '+' | '-') && *at > 0 && !text[..*at].ends_with(['e', 'E', '+', '-'])
    };
    match text.char_indices().find(is_step) {
        Some((at, '-')) => Some((finite(&text[..at])?, -finite(&text[at + 1..])?)),
        Some((at, _)) => Some((finite(&text[..at])?, finite(&text[at + 1..])?)),
        None => Some((finite(text)?, 0.0)),
    }
}

/// A series by Prometheus' labels.
fn series(text: &str) -> Option<SeriesText> {
    let promql::Kind::Selector(selector) = promql::parse(text).ok()?.kind else { return None };
    let exact = selector.range.is_none() && selector.matchers.iter().all(|matcher| matcher.operator == "=");
    let labels = selector.matchers.iter().map(|matcher| (matcher.name.as_str(), matcher.value.as_str()));
    let labels: Vec<(&str, &str)> = labels.chain([(labels::NAME, selector.metric.as_str())]).collect();
    let called = labels::called(&labels).ok().filter(|_| exact)?;
    let tags = called.tags.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Some(SeriesText {
        service: called.service.into(),
        metric: called.metric.into_owned(),
        tags: tags.collect(),
    })
}

/// Reads a file with tests.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_tests(path: &Path) -> Result<TestFile, SettingsErrors> {
    let mut report = Report::default();
    let mut file = TestFile::default();
    match super::files::read_node(path, &mut report) {
        Ok(Some(node)) => read_section(&node, &mut file, "", &mut report),
        Ok(None) => {
            let origin = Origin::File { file: path.display().to_string().into(), line: 1, column: 1 };
            report.problem(
                &origin,
                "",
                "expected a mapping with the keys rule_files and tests, found nothing",
            );
        }
        Err(problem) => report.problems.push(problem),
    }
    report.finish().map(|_| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_the_notation_of_promtool() {
        let some = |numbers: &[f64]| Some(numbers.iter().map(|number| Some(*number)).collect::<Vec<_>>());
        for (text, expected) in [
            ("1 2.5 -3", some(&[1.0, 2.5, -3.0])),
            ("0+10x3", some(&[0.0, 10.0, 20.0, 30.0])),
            ("-2-1x2", some(&[-2.0, -3.0, -4.0])),
            ("7x2", some(&[7.0, 7.0, 7.0])),
            ("1e-3+1e2x1", some(&[0.001, 100.001])),
            ("1 _ stale 2 _x2", Some(vec![Some(1.0), None, None, Some(2.0), None, None])),
            ("", None),
            ("1x", None),
            ("one", None),
            ("NaN", None),
            ("1x9999999", None),
        ] {
            assert_eq!(values(text), expected, "{text}");
        }
    }

    #[test]
    fn series_by_their_labels() {
        let found = series("up{job=\"a\", host=\"b\"}").unwrap();
        assert_eq!((found.service.as_str(), found.metric.as_str()), ("a", "up"));
        assert_eq!(found.tags, BTreeMap::from([("host".to_string(), "b".to_string())]));
        for text in ["up{job=~\"a\"}", "up > 1", "{a=\"b\"}", "up[5m]"] {
            assert_eq!(series(text), None, "{text}");
        }
    }
}
