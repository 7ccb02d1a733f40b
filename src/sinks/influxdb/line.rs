//! Line protocol: `measurement,tag=value field=45.2,field=3 time`, one line a message
//! (InfluxDB 1.8, "Line protocol reference").
//!
//! Every value is written as a float: digits without a letter behind them, as few as read back as the same `f64`.

use std::borrow::Cow;
use std::io::Write;

use super::config::{InfluxConfig, Precision};
use super::names;
use super::template::Template;
use crate::message::{Message, write_json_f64};
use crate::sinks::SinkError;

/// The field where a measurement has but one metric.
const ONE_FIELD: &str = "value";

/// Writes messages as lines.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    pub(super) template: Template,
    precision: Precision,
    /// Tags of every line, by stored key and value, sorted.
    tags: Vec<(String, String)>,
}

/// Stored keys with their values, sorted by key.
type Tags<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

impl Encoder {
    pub(super) fn new(config: &InfluxConfig) -> Result<Self, SinkError> {
        let template = Template::parse(&config.measurement)?;
        let tag = |(name, value): &(String, String)| (names::tag_key(name).into(), names::held(value).into());
        Ok(Encoder { template, precision: config.precision, tags: config.tags.iter().map(tag).collect() })
    }

    /// Appends `message` to `out`, each line with its break; returns how many lines. A value that is not finite
    /// is left out, since InfluxDB has no word for it; a message without values is no line.
    pub(super) fn push(&self, message: &Message, out: &mut Vec<u8>) -> usize {
        let tags = self.tags(message);
        let keys: Vec<&str> = tags.iter().map(|(key, _)| key.as_ref()).collect();
        let time = self.precision.of(message.time_ns);
        let finite = message.metrics.iter().filter(|(_, value)| value.is_finite());
        let mut lines = 0;
        if self.template.is_per_metric() {
            let field = names::field_key(ONE_FIELD, &keys);
            for (metric, value) in finite {
                push_series(&self.template.measurement(message, metric), &tags, out);
                push_field(b' ', &field, *value, out);
                push_time(time, out);
                lines += 1;
            }
            return lines;
        }
        for (metric, value) in finite {
            if lines == 0 {
                push_series(&self.template.measurement(message, ""), &tags, out);
            }
            push_field(if lines == 0 { b' ' } else { b',' }, &names::field_key(metric, &keys), *value, out);
            lines = 1;
        }
        if lines > 0 {
            push_time(time, out);
        }
        lines
    }

    /// Whether a stored tag was put there by us.
    pub(super) fn is_own_tag(&self, key: &str, value: &str) -> bool {
        self.tags.iter().any(|(own_key, own_value)| own_key == key && own_value == value)
    }

    fn tags<'a>(&'a self, message: &'a Message) -> Tags<'a> {
        let given = message.target.tags.iter().filter(|(name, value)| !name.is_empty() && !value.is_empty());
        let mut tags: Tags<'a> =
            given.map(|(name, value)| (names::tag_key(name), names::held(value))).collect();
        for (key, value) in &self.tags {
            if !value.is_empty() && tags.iter().all(|(given, _)| given != key) {
                tags.push((Cow::Borrowed(key), Cow::Borrowed(value)));
            }
        }
        // Servers sort them otherwise.
        tags.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        tags
    }
}

fn push_series(measurement: &str, tags: &Tags<'_>, out: &mut Vec<u8>) {
    push_escaped(measurement, b", ", out);
    for (key, value) in tags {
        out.push(b',');
        push_escaped(key, b",= ", out);
        out.push(b'=');
        push_escaped(value, b",= ", out);
    }
}

fn push_field(before: u8, key: &str, value: f64, out: &mut Vec<u8>) {
    out.push(before);
    push_escaped(key, b",= ", out);
    out.push(b'=');
    write_json_f64(value, out);
}

fn push_time(time: i64, out: &mut Vec<u8>) {
    // A Vec takes every byte.
    let _ = writeln!(out, " {time}");
}

fn push_escaped(text: &str, special: &[u8], out: &mut Vec<u8>) {
    for byte in text.bytes() {
        if special.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}
