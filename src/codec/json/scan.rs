//! The scanner, the second tier of the JSON codec: documented messages of known targets and metrics, whatever they look like.
//!
//! One pass over the bytes; a service, tags and names are compared with what was learned before, only numbers
//! and times are parsed. Whatever it does not expect, an escape, a new series, a value that is no number, makes it
//! give up without a trace, and the full parser reads the same bytes. It accepts nothing that the full parser would
//! not, and gives the same samples and rejects: tested on every input that proptest thinks of. What it has read, it teaches
//! the [first tier](super::known).

use std::ops::Range;

use super::spelling;
use crate::codec::decoder::layout::{Form, Part, Slot};
use crate::codec::decoder::{Decoder, ShapeId};
use crate::codec::{number, time};
use operators::sample::TimeNs;

/// A metric of the message being read.
pub(in crate::codec) struct Scanned {
    name: Range<usize>,
    number: Range<usize>,
    value: f64,
}

/// Where in the text a message spells what.
#[derive(Default)]
struct Spelled {
    /// Without its quotes.
    time_text: Option<Range<usize>>,
    time_number: Option<Range<usize>>,
    /// With its quotes.
    service: Option<Range<usize>>,
    /// From brace to brace.
    tags: Option<Range<usize>>,
    has_metrics: bool,
}

/// A place in the text. Every method that returns `None` has met something unexpected.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// A message: all of it, or nothing.
    pub(super) fn message(&mut self, decoder: &mut Decoder) -> Option<()> {
        let start = self.at;
        let mut scanned = std::mem::take(&mut decoder.scanned);
        scanned.clear();
        let spelled = self.spelled(&mut scanned);
        let accepted = spelled.and_then(|spelled| {
            let shape = accept(self.text, &spelled, &scanned, decoder)?;
            decoder.shapes.came(shape);
            if decoder.layouts.may_learn() {
                learn(self.text, start..self.at, &spelled, &scanned, shape, decoder);
            }
            Some(())
        });
        decoder.scanned = scanned;
        accepted
    }

    fn spelled(&mut self, scanned: &mut Vec<Scanned>) -> Option<Spelled> {
        let mut spelled = Spelled::default();
        self.expect(b'{')?;
        loop {
            match self.key()? {
                "timestamp" if spelled.time_text.is_none() && spelled.time_number.is_none() => {
                    let quoted = self.peek()? == b'"';
                    let start = self.at;
                    if quoted {
                        self.string()?;
                        spelled.time_text = Some(start + 1..self.at - 1);
                    } else {
                        self.number()?;
                        spelled.time_number = Some(start..self.at);
                    }
                }
                "service" if spelled.service.is_none() => {
                    self.peek()?;
                    let start = self.at;
                    self.string()?;
                    spelled.service = Some(start..self.at);
                }
                "tags" if spelled.tags.is_none() => spelled.tags = Some(self.braced()?),
                "metrics" if !spelled.has_metrics => {
                    spelled.has_metrics = true;
                    self.metrics(scanned)?;
                }
                _ => return None,
            }
            match self.peek()? {
                b',' => self.at += 1,
                _ => break,
            }
        }
        self.expect(b'}')?;
        spelled.has_metrics.then_some(spelled)
    }

    /// At least one name with its number.
    fn metrics(&mut self, scanned: &mut Vec<Scanned>) -> Option<()> {
        self.expect(b'{')?;
        loop {
            self.peek()?;
            let start = self.at + 1;
            let name = start..start + self.key()?.len();
            self.peek()?;
            let start = self.at;
            let value = self.number()?;
            scanned.push(Scanned { name, number: start..self.at, value });
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.expect(b'}'),
            }
        }
    }

    /// From a brace to the next closing one. Whether that is an object is not judged here: it is compared with
    /// objects that were read before, and no JSON value begins with another.
    fn braced(&mut self) -> Option<Range<usize>> {
        if self.peek()? != b'{' {
            return None;
        }
        let start = self.at;
        self.at += self.text.as_bytes()[start..].iter().position(|byte| *byte == b'}')? + 1;
        Some(start..self.at)
    }

    /// The next byte that is no space, which is not taken.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.as_bytes().get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    #[inline]
    fn key(&mut self) -> Option<&'a str> {
        let key = self.string()?;
        self.expect(b':')?;
        Some(key)
    }

    /// What stands between two quotes, if none of it is escaped or to be refused.
    #[inline]
    fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let mut at = start;
        while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            let found = quotes_escapes_controls(u64::from_le_bytes(*word));
            at += found.trailing_zeros() as usize / 8;
            if found != 0 {
                break;
            }
        }
        at += bytes[at..].iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..0x20)).count();
        self.at = at + 1;
        (*bytes.get(at)? == b'"').then(|| &self.text[start..at])
    }

    /// A number by JSON's grammar, correctly rounded.
    #[inline]
    fn number(&mut self) -> Option<f64> {
        let (value, end) = number::json(self.text.as_bytes(), self.at)?;
        self.at = end;
        Some(value)
    }
}

/// The lowest bit set lies in the first byte that ends a plain string or has no place in it; 0 if there is none.
/// Mycroft's test for a zero byte, which errs only above a byte that it is right about.
#[inline]
fn quotes_escapes_controls(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | is(b'"') | is(b'\\')) & (ONES * 0x80)
}

/// Takes a message in, if its target, its time and all its metrics are as expected.
fn accept(text: &str, spelled: &Spelled, scanned: &[Scanned], decoder: &mut Decoder) -> Option<ShapeId> {
    let part = |range: &Option<Range<usize>>| range.clone().map_or("", |range| &text[range]);
    let shape = decoder.shapes.find(spelling(
        part(&spelled.service),
        &decoder.default_service,
        part(&spelled.tags),
    ))?;
    let time_ns = event_time(text, spelled, decoder.arrival_ns)?;
    let before = decoder.mark();
    decoder.messages += 1;
    if !decoder.accept_time(time_ns) {
        return Some(shape);
    }
    for (place, metric) in scanned.iter().enumerate() {
        let name = &text[metric.name.clone()];
        let Some(id) = decoder.known_series(shape, place, name) else {
            decoder.roll_back(before);
            return None;
        };
        decoder.push_known(id, name, time_ns, metric.value);
    }
    Some(shape)
}

fn event_time(text: &str, spelled: &Spelled, arrival_ns: TimeNs) -> Option<TimeNs> {
    match (&spelled.time_text, &spelled.time_number) {
        (Some(quoted), _) => time::parse_text(&text[quoted.clone()]),
        (None, Some(number)) => time::parse_number(&text[number.clone()]),
        (None, None) => Some(arrival_ns),
    }
}

/// Teaches the first tier what a message looks like.
#[cold]
fn learn(
    text: &str,
    message: Range<usize>,
    spelled: &Spelled,
    scanned: &[Scanned],
    shape: ShapeId,
    decoder: &mut Decoder,
) {
    let within = |range: &Range<usize>| range.start - message.start..range.end - message.start;
    let slots = [
        (Slot::TimeText, &spelled.time_text),
        (Slot::TimeNumber, &spelled.time_number),
        (Slot::Service, &spelled.service),
        (Slot::Tags, &spelled.tags),
    ];
    let slots =
        slots.into_iter().filter_map(|(slot, range)| Some((Part::Slot(slot), within(range.as_ref()?))));
    let number =
        |metric: &Scanned| (Part::Number(&text[metric.name.clone()], Form::Decimal), within(&metric.number));
    let mut parts: Vec<(Part, Range<usize>)> = slots.chain(scanned.iter().map(number)).collect();
    parts.sort_by_key(|(_, range)| range.start);
    decoder.learn_layout(shape, text[message.clone()].as_bytes(), &parts);
}
