//! Texts with places for values, such as `{{service}}: {{value | 2}} is above {{threshold}}`.
//!
//! A place is a name between double braces, perhaps with a form behind `|`: a number of decimals, `humanize`,
//! `humanizePercentage` or `humanizeDuration`. A text is parsed once; what names no place there is is an error that
//! says where. [`Template::of_prometheus`] reads Prometheus' spelling of the same.

mod forms;
mod prometheus;

use std::fmt;

use operators::condition::Bounds;
use operators::sample::{DurationNs, TimeNs};
use operators::series::Target;

use crate::message::write_rfc3339;
use crate::settings::report::closest;
use forms::Form;

/// Names of places; `tag.` goes before the name of a tag.
pub const PLACES: &[&str] = &[
    "value",
    "threshold",
    "lower",
    "upper",
    "score",
    "service",
    "metric",
    "rule",
    "severity",
    "started",
    "duration",
    "tag.NAME",
];

/// A text with places.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Place(Place, Form),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Value,
    Threshold,
    Lower,
    Upper,
    Score,
    Service,
    Metric,
    Rule,
    Severity,
    Started,
    Duration,
    Tag(String),
}

/// What stands in the places.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// Its severity.
    pub severity: &'a str,
    /// The metric.
    pub metric: &'a str,
    /// Service and tags, of the series or of what its group shares.
    pub target: &'a Target,
    /// The value that was compared.
    pub value: f64,
    /// What it was compared with; a single threshold is both ends.
    pub threshold: Bounds,
    /// How strange the value is, from 0 to 1, where a detector says so.
    pub score: Option<f64>,
    /// What was expected, where a detector says so.
    pub band: Option<Bounds>,
    /// When the breach began, event time.
    pub started_ns: TimeNs,
    /// The moment that is spoken of, event time.
    pub at_ns: TimeNs,
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The character where, from 1.
    pub column: usize,
    /// What was expected and what was found.
    pub text: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "character {}: {}", self.column, self.text)
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// Reads `text`.
    ///
    /// # Errors
    /// A place without an end, or with a name or a form that there is not.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        read(text, |inner| {
            let (name, form) = match inner.split_once('|') {
                Some((name, form)) => (name.trim(), form.trim()),
                None => (inner.trim(), ""),
            };
            let place = Place::named(name).ok_or_else(|| unknown(name))?;
            Ok((place, Form::named(form).ok_or_else(|| Form::unknown(form))?))
        })
    }

    /// `text` as it is, without places.
    pub fn plain(text: &str) -> Template {
        Template { parts: vec![Part::Text(text.into())] }
    }

    /// Reads a text as Prometheus' rule files have it: `{{ $value }}`, `{{ $labels.instance }}`.
    ///
    /// # Errors
    /// What cannot be said with our places.
    pub fn of_prometheus(text: &str) -> Result<Template, TemplateError> {
        read(text, prometheus::place)
    }

    /// Whether nothing in it depends on values.
    pub fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The text with `values` in its places. What there is not, such as a tag that the series has not, is empty.
    pub fn render(&self, values: &Values<'_>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Place(place, form) => place.write(*form, values, &mut text),
            }
        }
        text
    }
}

impl fmt::Display for Template {
    /// As it is written, so that it reads back as the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Place(place, Form::Plain) => write!(f, "{{{{{place}}}}}")?,
                Part::Place(place, form) => write!(f, "{{{{{place} | {form}}}}}")?,
            }
        }
        Ok(())
    }
}

/// Splits `text` into plain parts and places, what is between the braces being read by `place`.
fn read(
    text: &str,
    place: impl Fn(&str) -> Result<(Place, Form), String>,
) -> Result<Template, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let at = text.len() - rest.len() + open;
        let error = |text_: String| TemplateError { column: text[..at].chars().count() + 1, text: text_ };
        if open > 0 {
            parts.push(Part::Text(rest[..open].to_string()));
        }
        let inside = &rest[open + 2..];
        let close = inside.find("}}").ok_or_else(|| error("expected }} behind {{, found none".into()))?;
        // Prometheus' `{{-` and `-}}` take blanks away; ours are taken away in any case.
        let inner = inside[..close].trim_start_matches('-').trim_end_matches('-').trim();
        let (place, form) = place(inner).map_err(error)?;
        parts.push(Part::Place(place, form));
        rest = &inside[close + 2..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_string()));
    }
    Ok(Template { parts })
}

fn unknown(name: &str) -> String {
    let near = closest(name, PLACES.iter().copied()).map(|near| format!("; did you mean {near}?"));
    format!("expected one of {}, found {name:?}{}", PLACES.join(", "), near.unwrap_or_default())
}

impl Place {
    fn named(name: &str) -> Option<Place> {
        Some(match name {
            "value" => Place::Value,
            "threshold" => Place::Threshold,
            "lower" => Place::Lower,
            "upper" => Place::Upper,
            "score" => Place::Score,
            "service" => Place::Service,
            "metric" => Place::Metric,
            "rule" => Place::Rule,
            "severity" => Place::Severity,
            "started" => Place::Started,
            "duration" => Place::Duration,
            _ => Place::Tag(name.strip_prefix("tag.").filter(|tag| !tag.is_empty())?.to_string()),
        })
    }

    fn write(&self, form: Form, values: &Values<'_>, out: &mut String) {
        let expected = values.band.unwrap_or(values.threshold);
        match self {
            Place::Value => form.write(values.value, out),
            Place::Threshold if values.threshold.lower == values.threshold.upper => {
                form.write(values.threshold.lower, out);
            }
            Place::Threshold => {
                form.write(values.threshold.lower, out);
                out.push_str(" to ");
                form.write(values.threshold.upper, out);
            }
            Place::Lower => form.write(expected.lower, out),
            Place::Upper => form.write(expected.upper, out),
            Place::Score => values.score.into_iter().for_each(|score| form.write(score, out)),
            Place::Service => out.push_str(&values.target.service),
            Place::Metric => out.push_str(values.metric),
            Place::Rule => out.push_str(values.rule),
            Place::Severity => out.push_str(values.severity),
            Place::Started => out.push_str(&rfc3339(values.started_ns)),
            Place::Duration => forms::write_duration(lasted(values), out),
            Place::Tag(name) => out.push_str(values.target.tag(name).unwrap_or_default()),
        }
    }
}

fn lasted(values: &Values<'_>) -> DurationNs {
    values.at_ns.saturating_sub(values.started_ns).max(0)
}

fn rfc3339(time_ns: TimeNs) -> String {
    let mut text = Vec::new();
    write_rfc3339(time_ns, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Value => "value",
            Place::Threshold => "threshold",
            Place::Lower => "lower",
            Place::Upper => "upper",
            Place::Score => "score",
            Place::Service => "service",
            Place::Metric => "metric",
            Place::Rule => "rule",
            Place::Severity => "severity",
            Place::Started => "started",
            Place::Duration => "duration",
            Place::Tag(name) => return write!(f, "tag.{name}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &Template) -> String {
        let target = Target::new("org.plantd.Broker", [("host", "b-1"), ("zone", "ü")]);
        template.render(&Values {
            rule: "hot",
            severity: "critical",
            metric: "cpu_usage_percent",
            target: &target,
            value: 91.523,
            threshold: 80.0.into(),
            score: Some(0.9993),
            band: Some(Bounds { lower: 10.0, upper: 20.5 }),
            started_ns: 1_704_110_407_123_000_000,
            at_ns: 1_704_110_437_123_000_000,
        })
    }

    #[test]
    fn values_stand_in_their_places() {
        for (text, expected) in [
            ("", ""),
            ("plain } and { braces", "plain } and { braces"),
            ("{{value}}/{{ threshold }}", "91.523/80"),
            ("{{value | 1}} {{value|0}}", "91.5 92"),
            (
                "{{service}} {{metric}} {{rule}} {{severity}}",
                "org.plantd.Broker cpu_usage_percent hot critical",
            ),
            ("[{{tag.host}}] [{{tag.zone}}] [{{tag.rack}}]", "[b-1] [ü] []"),
            ("{{started}} for {{duration}}", "2024-01-01T12:00:07.123Z for 30s"),
            ("{{score | 3}} of {{lower}} to {{upper}}", "0.999 of 10 to 20.5"),
        ] {
            let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(rendered(&template), expected, "{text}");
            assert_eq!(template.is_plain(), !text.contains("{{"), "{text}");
            assert_eq!(Template::parse(&template.to_string()), Ok(template), "{text}");
        }
    }

    #[test]
    fn a_range_has_two_ends() {
        let template = Template::parse("{{threshold}} {{lower}} {{upper}} {{score}}").unwrap();
        let target = Target::new("s", []);
        let text = template.render(&Values {
            rule: "r",
            severity: "",
            metric: "m",
            target: &target,
            value: 1.0,
            threshold: Bounds { lower: 1.5, upper: 3.0 },
            score: None,
            band: None,
            started_ns: 0,
            at_ns: 0,
        });
        assert_eq!(text, "1.5 to 3 1.5 3 ");
    }

    #[test]
    fn what_is_no_place_is_told_with_its_character() {
        let places = PLACES.join(", ");
        for (text, expected) in [
            (
                "ü {{valu}}",
                format!("character 3: expected one of {places}, found \"valu\"; did you mean value?"),
            ),
            ("{{}}", format!("character 1: expected one of {places}, found \"\"")),
            ("{{tag.}}", format!("character 1: expected one of {places}, found \"tag.\"")),
            ("a {{value", "character 3: expected }} behind {{, found none".into()),
            (
                "{{value | words}}",
                "character 1: expected a number of decimals from 0 to 17, humanize, humanizePercentage or \
                 humanizeDuration behind |, found \"words\""
                    .into(),
            ),
        ] {
            assert_eq!(Template::parse(text).map(|_| ()).map_err(|e| e.to_string()), Err(expected), "{text}");
        }
    }
}
