//! CSV in long form, one sample a row: `time,service,metric,value,tags`, `tags` being a JSON object.
//!
//! RFC 4180: a header in each file, CRLF not used (both ends read LF), fields that hold a comma, a
//! quote or a line end are quoted, quotes doubled. The rows of one message stand together and read
//! back as one message.

use std::borrow::Cow;
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;

use super::newest::{Newest, Targets, write_tags, write_value};
use super::text::{Row, Scratch, TextFormat};
use super::time;
use crate::message::Message;

const HEADER: &[u8] = b"time,service,metric,value,tags\n";
const FIELDS: usize = 5;

/// The format's row of the table in [`super::text`].
pub(super) const CSV: TextFormat = TextFormat { header: HEADER, encode, first_row, read };

fn encode(message: &Message, scratch: &mut Scratch, out: &mut Vec<u8>) {
    // What all rows of the message share is put together once.
    scratch.head.clear();
    scratch.time.write(message.time_ns, &mut scratch.head);
    scratch.head.push(b',');
    write_field(message.target.service.as_bytes(), &mut scratch.head);
    scratch.head.push(b',');
    scratch.tail.clear();
    if !message.target.tags.is_empty() {
        scratch.tags.clear();
        write_tags(&message.target, &mut scratch.tags);
        write_field(&scratch.tags, &mut scratch.tail);
    }
    for (name, value) in &message.metrics {
        out.extend_from_slice(&scratch.head);
        write_field(name.as_bytes(), out);
        out.push(b',');
        write_value(*value, out);
        out.push(b',');
        out.extend_from_slice(&scratch.tail);
        out.push(b'\n');
    }
}

/// Writes a field, quoted if it must be. A lone CR is quoted too, since readers differ over it.
fn write_field(field: &[u8], out: &mut Vec<u8>) {
    if !field.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(field);
        return;
    }
    out.push(b'"');
    for byte in field {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn first_row(text: &[u8]) -> Option<Row> {
    if text.starts_with(HEADER) {
        return Some(Row { len: HEADER.len(), valid: None });
    }
    if let Some((fields, len)) = split(text)
        && let Some(row) = parse(&fields)
    {
        return Some(Row { len, valid: Some((row.time_ns, 1)) });
    }
    // Not a row: go on behind the next line end, whatever quotes have been opened.
    let len = text.iter().position(|byte| *byte == b'\n')? + 1;
    Some(Row { len, valid: None })
}

fn read(mut text: &[u8], targets: &mut Targets, newest: &mut Newest<'_>) {
    let mut group = Group::default();
    while !text.is_empty() {
        let whole = split(text).and_then(|(fields, len)| Some((row_of(&fields, targets, newest)?, len)));
        let len = match whole {
            Some((None, len)) => len,
            Some((Some(row), len)) => {
                group.put(row, newest);
                len
            }
            None => {
                let line = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
                newest.corrupted += u64::from(&text[..line] != HEADER);
                line
            }
        };
        text = &text[len..];
    }
    group.close(newest);
}

/// A row that the query wants.
type Wanted = (TimeNs, Arc<Target>, Arc<str>, f64);

/// `None`: not a row. `Some(None)`: a row the query does not want.
fn row_of(
    fields: &[Cow<'_, str>; FIELDS],
    targets: &mut Targets,
    newest: &Newest<'_>,
) -> Option<Option<Wanted>> {
    let row = parse(fields)?;
    if !newest.wants_time(row.time_ns)
        || !newest.wants_service(row.service)
        || !newest.wants_metric(row.metric)
    {
        return Some(None);
    }
    let target = targets.get(row.service, row.tags)?;
    let wanted = newest.wants_tags(&target);
    Some(wanted.then(|| (row.time_ns, target, row.metric.into(), row.value)))
}

/// Neighbouring rows of one message.
#[derive(Default)]
struct Group {
    of: Option<(TimeNs, Arc<Target>)>,
    metrics: Vec<(Arc<str>, f64)>,
}

impl Group {
    fn put(&mut self, (time_ns, target, metric, value): Wanted, newest: &mut Newest<'_>) {
        let same = self.of.as_ref().is_some_and(|(time, of)| *time == time_ns && *of == target);
        if !same || self.metrics.iter().any(|(name, _)| *name == metric) {
            self.close(newest);
            self.of = Some((time_ns, target));
        }
        self.metrics.push((metric, value));
    }

    fn close(&mut self, newest: &mut Newest<'_>) {
        if let Some((time_ns, target)) = self.of.take() {
            newest.put_message(time_ns, target, std::mem::take(&mut self.metrics));
        }
    }
}

struct Parsed<'a> {
    time_ns: TimeNs,
    service: &'a str,
    metric: &'a str,
    value: f64,
    tags: &'a str,
}

fn parse<'a>(fields: &'a [Cow<'_, str>; FIELDS]) -> Option<Parsed<'a>> {
    let [time, service, metric, value, tags] = fields;
    let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite())?;
    Some(Parsed { time_ns: time::parse(time)?, service, metric, value, tags })
}

/// The fields of the first row of `text` and its length with the line end; `None` where the row is
/// cut off or has another number of fields.
fn split(text: &[u8]) -> Option<([Cow<'_, str>; FIELDS], usize)> {
    let mut fields: [Cow<'_, str>; FIELDS] = Default::default();
    let mut at = 0;
    for (number, field) in fields.iter_mut().enumerate() {
        let (found, len) = split_field(&text[at..])?;
        *field = found;
        at += len;
        let end = if number + 1 == FIELDS { b'\n' } else { b',' };
        if number + 1 == FIELDS && text.get(at) == Some(&b'\r') {
            at += 1;
        }
        if text.get(at) != Some(&end) {
            return None;
        }
        at += 1;
    }
    Some((fields, at))
}

fn split_field(text: &[u8]) -> Option<(Cow<'_, str>, usize)> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let len = text.iter().position(|byte| matches!(byte, b',' | b'\n' | b'\r'))?;
        return Some((Cow::Borrowed(std::str::from_utf8(&text[..len]).ok()?), len));
    };
    let mut at = 0;
    let mut doubled = false;
    loop {
        at += quoted[at..].iter().position(|byte| *byte == b'"')?;
        if quoted.get(at + 1) != Some(&b'"') {
            break;
        }
        doubled = true;
        at += 2;
    }
    let inner = std::str::from_utf8(&quoted[..at]).ok()?;
    let field = if doubled { Cow::Owned(inner.replace("\"\"", "\"")) } else { Cow::Borrowed(inner) };
    Some((field, at + 2))
}
