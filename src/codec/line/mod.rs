//! InfluxDB's line protocol: `measurement,tag=value field=45.2,field=3i 1704110400000000000`, one line a message
//! (InfluxDB 1.8, "Line protocol reference"; what that leaves open was asked of a running influxd 1.6).
//!
//! | a line's | becomes |
//! |---|---|
//! | tag `service`, if it has one | the service; the measurement is then kept as the tag `measurement`, unless it is the same text or the line has such a tag |
//! | measurement otherwise | the service |
//! | other tags | tags |
//! | field that is a float, an integer `i` or an unsigned integer `u` | a sample of the metric with the field's name |
//! | field that is a boolean | the same, 1 for true and 0 for false |
//! | field that is text | nothing: counted as passed over, and no error |
//! | time | the event time, in the request's precision; without one, the arrival clock |
//!
//! A line is taken whole or not at all, as InfluxDB does it, but for single fields for which there is no room. Of a
//! field that is given twice the last value stays, and a tag that is given twice is an error, both as in InfluxDB.
//! What is different from InfluxDB 1.x: lines may end in `\r\n`; nothing may stand between a text's closing quote and
//! the comma or blank behind it; control characters in names are refused; a field or a tag may be called `time`.
//!
//! # Layout
//! - [`parse`]: one line taken apart; [`lines`]: where lines end; [`time`]: precisions
//! - [`known`]: lines that look like one before them, which are compared and not parsed; [`scan`]: those of known fields in
//!   another order

mod known;
mod lines;
mod parse;
mod scan;
mod time;

use operators::sample::Sample;

use super::Codec;
use super::decoder::{Decoder, ShapeId};
use super::reject::{Malformed, Reason, excerpt};
use lines::Lines;
use parse::{Field, Line, Wrong};
pub use time::Precision;

/// The line protocol as a request has it.
pub struct LineProtocol {
    /// Of the times in its lines.
    pub precision: Precision,
    /// Whether nothing of a body is taken if one of its lines is bad.
    pub is_whole: bool,
}

/// Without any word about it, times are nanoseconds and good lines are taken.
pub static USUAL: LineProtocol = LineProtocol { precision: Precision::NANOSECOND, is_whole: false };

impl Codec for LineProtocol {
    fn name(&self) -> &'static str {
        "line"
    }

    fn decode(&self, body: &[u8], decoder: &mut Decoder) -> Result<(), Malformed> {
        let before = decoder.samples.len();
        let all_have_times = decode_known(body, self.precision, decoder);
        // Those that have none got the arrival clock's, and a body is of one kind.
        if !all_have_times {
            decoder.tell_apart(before);
        }
        if self.is_whole && decoder.rejected() > 0 {
            decoder.samples.truncate(before);
        }
        Ok(())
    }
}

/// Decodes any body: lines that look like one before them by [`known`], and the others by the full parser. Tells whether
/// all lines that were taken have times.
fn decode_known(body: &[u8], precision: Precision, decoder: &mut Decoder) -> bool {
    let mut fields = Vec::new();
    let mut all_have_times = true;
    let mut lines = Lines::new(body);
    loop {
        if let Some(known) = known::line(lines.rest(), precision, decoder) {
            lines.pass(known.len);
            all_have_times &= known.has_time;
            continue;
        }
        let Some(line) = lines.next() else { return all_have_times };
        all_have_times &= one(line, precision, &mut fields, decoder);
    }
}

/// The same without the faster tier, to compare with.
#[cfg(test)]
fn decode_fully(body: &[u8], precision: Precision, decoder: &mut Decoder) -> bool {
    let mut fields = Vec::new();
    let mut all_have_times = true;
    for line in Lines::new(body) {
        all_have_times &= one(line, precision, &mut fields, decoder);
    }
    all_have_times
}

/// Decodes one line, which is neither empty nor a comment. `fields` is scratch. False if it was taken and has no time.
fn one<'a>(line: &'a [u8], precision: Precision, fields: &mut Vec<Field<'a>>, decoder: &mut Decoder) -> bool {
    decoder.messages += 1;
    let read = std::str::from_utf8(line).map_err(|_| Wrong::new(Reason::BadLine, "expected UTF-8"));
    let accepted = read.and_then(|text| accept(text, precision, fields, decoder));
    accepted.unwrap_or_else(|wrong| {
        decoder.reject(None, wrong.reason, in_line(&wrong.found, line));
        true
    })
}

fn accept<'a>(
    text: &'a str,
    precision: Precision,
    fields: &mut Vec<Field<'a>>,
    decoder: &mut Decoder,
) -> Result<bool, Wrong> {
    let mut line = Line::new(text)?;
    let known = decoder.known_shape(line.key.as_bytes(), b"");
    let tags = if known.is_none() { line.tags()? } else { Vec::new() };
    fields.clear();
    line.fields(fields)?;
    let time = line.time()?;
    let time_ns = time.map_or(Ok(decoder.arrival_ns), |time| precision.nanoseconds(time))?;
    let before = (decoder.samples.len(), decoder.rejects.len());
    if !decoder.accept_time(time_ns) {
        tell_line(decoder, before.1, text);
        return Ok(true);
    }
    let shape = match known {
        Some(shape) => shape,
        None => learn(&line, &tags, decoder)?,
    };
    let mut place = 0;
    for field in &*fields {
        match field.value {
            Some(value) => {
                decoder.push(shape, place, &field.name(), time_ns, value);
                place += 1;
            }
            None => decoder.pass_over(Reason::TextField),
        }
    }
    decoder.shapes.came(shape);
    // A line of numbers, all of which were taken, can teach what it looks like.
    let is_lesson = std::mem::take(&mut decoder.layouts.lesson);
    if is_lesson && decoder.samples.len() == before.0 + fields.len() {
        known::learn(text, line.key.len(), fields, shape, decoder);
    }
    keep_last(&mut decoder.samples, before.0);
    tell_line(decoder, before.1, text);
    Ok(time.is_some())
}

/// A target is spelled by measurement and tags as they stand in the line.
fn learn(line: &Line, tags: &[parse::Tag], decoder: &mut Decoder) -> Result<ShapeId, Wrong> {
    let measurement = line.measurement();
    let mut pairs: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (&**key, &**value)).collect();
    let service = match pairs.iter().position(|(key, _)| *key == "service") {
        Some(at) => pairs.swap_remove(at).1,
        None => &*measurement,
    };
    if service != measurement && pairs.iter().all(|(key, _)| *key != "measurement") {
        pairs.push(("measurement", &measurement));
    }
    let learned = decoder.learn_shape(line.key.as_bytes(), b"", service, &pairs);
    learned.map_err(|(reason, found)| Wrong { reason, found: found.into() })
}

/// Drops those samples of a line, the ones from `before` on, that a later one of the same series replaces.
fn keep_last(samples: &mut Vec<Sample>, before: usize) {
    let line = &samples[before..];
    // Series are numbered as they appear: in the order of the fields, mostly.
    if line.is_sorted_by(|a, b| a.series < b.series) {
        return;
    }
    let few = line.len() <= 64;
    if few && (1..line.len()).all(|at| line[..at].iter().all(|sample| sample.series != line[at].series)) {
        return;
    }
    let mut order: Vec<(u32, usize)> = line.iter().enumerate().map(|(at, s)| (s.series, at)).collect();
    order.sort_unstable();
    let mut is_last = vec![true; line.len()];
    for two in order.windows(2).filter(|two| two[0].0 == two[1].0) {
        is_last[two[0].1] = false;
    }
    let line = samples.split_off(before);
    samples.extend(line.into_iter().zip(is_last).filter(|(_, is_last)| *is_last).map(|(sample, _)| sample));
}

/// What was found, and in which line.
fn in_line(found: &str, line: &[u8]) -> String {
    format!("{found}{IN}{}'", excerpt(line))
}

const IN: &str = " in '";

/// Rejects from `before` on are told with their line.
fn tell_line(decoder: &mut Decoder, before: usize, line: &str) {
    for reject in &mut decoder.rejects[before..] {
        reject.found = in_line(&reject.found, line.as_bytes());
    }
}

/// What a reject of this codec found, and an excerpt of the line in which it did.
pub fn found_and_line(found: &str) -> (&str, &str) {
    let (found, line) = found.split_once(IN).unwrap_or((found, ""));
    (found, line.strip_suffix('\'').unwrap_or(line))
}

#[cfg(test)]
mod tests;
