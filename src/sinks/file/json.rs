//! JSON lines: one documented message a line, so that a line can be posted back as it is.
//!
//! `{"timestamp":"2024-01-01T12:00:00Z","service":"system","metrics":{"cpu_usage_percent":45.2},"tags":{..}}`,
//! `tags` only where there are any. Values are shortest decimals that read back bit for bit.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use operators::sample::TimeNs;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::newest::{Newest, Targets, write_tags, write_text, write_value};
use super::text::{Row, Scratch, TextFormat};
use super::time;
use crate::message::Message;

/// The format's row of the table in [`super::text`].
pub(super) const JSON: TextFormat = TextFormat { header: b"", encode, first_row, read };

fn encode(message: &Message, scratch: &mut Scratch, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    scratch.time.write(message.time_ns, out);
    out.extend_from_slice(b"\",\"service\":");
    write_text(&message.target.service, out);
    out.extend_from_slice(b",\"metrics\":{");
    for (at, (name, value)) in message.metrics.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(name, out);
        out.push(b':');
        write_value(*value, out);
    }
    out.push(b'}');
    if !message.target.tags.is_empty() {
        out.extend_from_slice(b",\"tags\":");
        write_tags(&message.target, out);
    }
    out.extend_from_slice(b"}\n");
}

fn first_row(text: &[u8]) -> Option<Row> {
    let len = text.iter().position(|byte| *byte == b'\n')? + 1;
    let line: Option<Line<'_>> = serde_json::from_slice(&text[..len]).ok();
    let valid = line.and_then(|line| {
        let metrics = serde_json::from_str::<Metrics>(line.metrics.get()).ok()?;
        Some((time::parse(&line.timestamp)?, metrics.0.len() as u64))
    });
    Some(Row { len, valid })
}

fn read(text: &[u8], targets: &mut Targets, newest: &mut Newest<'_>) {
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if read_line(line, targets, newest).is_none() {
            newest.corrupted += 1;
        }
    }
}

/// `None` where the line is not what [`encode`] writes.
fn read_line(line: &[u8], targets: &mut Targets, newest: &mut Newest<'_>) -> Option<()> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let time_ns: TimeNs = time::parse(&line.timestamp)?;
    if !newest.wants_time(time_ns) || !newest.wants_service(&line.service) {
        return Some(());
    }
    let target = targets.get(&line.service, line.tags.map_or("", RawValue::get))?;
    if newest.wants_tags(&target) {
        let metrics: Metrics = serde_json::from_str(line.metrics.get()).ok()?;
        newest.put_message(time_ns, target, metrics.0);
    }
    Some(())
}

/// A line, with the parts that most queries never look at left as they are.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    service: Cow<'a, str>,
    #[serde(borrow)]
    metrics: &'a RawValue,
    #[serde(borrow, default)]
    tags: Option<&'a RawValue>,
}

/// Metric names and values in the order they stand, a name given twice included.
struct Metrics(Vec<(Arc<str>, f64)>);

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Metrics;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
                let mut metrics = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, f64>()? {
                    metrics.push((name.into(), value));
                }
                Ok(Metrics(metrics))
            }
        }
        from.deserialize_map(Pairs)
    }
}
