//! The first tier of the JSON codec: messages that look like one seen before, byte by byte but for numbers and times.
//!
//! Nothing is tokenised. The bytes between two numbers are compared as one piece with what stood there last time; service
//! and tags are compared with those of the target that came next last time. What does not fit costs nothing but the
//! comparison, and the scanner reads the same bytes.
//!
//! No check for UTF-8 is needed here: every byte of a message that is accepted equals one that was checked before, or is
//! a digit, or belongs to a time.

use crate::codec::decoder::Decoder;
use crate::codec::decoder::layout::{Layout, LayoutId, Slot};
use crate::codec::decoder::shapes::{Kind, Spelling};
use crate::codec::number;
use crate::codec::time::{self, Minute};
use operators::sample::TimeNs;

/// Decodes the message at `at`, and tells where it ends. `None` leaves the decoder as it was.
#[inline]
pub(super) fn message(bytes: &[u8], at: usize, decoder: &mut Decoder) -> Option<usize> {
    let guess = decoder.shapes.guess().map_or_else(LayoutId::default, |shape| decoder.shapes.layout(shape));
    message_of(guess, bytes, at, decoder)
        .or_else(|| decoder.layouts.others(guess).find_map(|layout| message_of(layout, bytes, at, decoder)))
}

/// Decodes the message if it is of this layout.
fn message_of(id: LayoutId, bytes: &[u8], at: usize, decoder: &mut Decoder) -> Option<usize> {
    let layout = decoder.layouts.get(id)?;
    let guess = decoder.shapes.guess();
    let topic = Spelling { kind: Kind::Topic, service: decoder.default_service.as_bytes(), tags: b"" };
    let mut found = Found {
        bytes,
        at,
        guess: guess.map_or(topic, |shape| decoder.shapes.spelling(shape)),
        spelling: topic,
        time: None,
    };
    found.read(layout, &decoder.minute, &mut decoder.values)?;
    let Found { at: end, spelling, time, guess: guessed, .. } = found;
    let shape = if spelling == guessed { guess } else { None };
    let shape = shape.or_else(|| decoder.shapes.find(spelling))?;
    let time_ns = match time {
        None => decoder.arrival_ns,
        Some(Time::Read(time_ns)) => time_ns,
        Some(Time::Text(text)) => decoder.minute.parse(text)?,
        Some(Time::Number(text)) => time::parse_number(std::str::from_utf8(text).ok()?)?,
    };
    let before = decoder.mark();
    decoder.messages += 1;
    if decoder.accept_time(time_ns) && !decoder.push_values(shape, id, time_ns) {
        decoder.roll_back(before);
        return None;
    }
    decoder.shapes.came(shape);
    Some(end)
}

/// A message being read.
struct Found<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What spells the target that is expected.
    guess: Spelling<'a>,
    /// What spells the target that was found.
    spelling: Spelling<'a>,
    time: Option<Time<'a>>,
}

/// The event time of a message.
enum Time<'a> {
    /// Of the minute of the last one.
    Read(TimeNs),
    Text(&'a [u8]),
    Number(&'a [u8]),
}

impl<'a> Found<'a> {
    #[inline]
    fn read(&mut self, layout: &Layout, minute: &Minute, values: &mut Vec<f64>) -> Option<()> {
        for (literal, slot) in &layout.before {
            self.at = literal.end(self.bytes, self.at)?;
            self.slot(*slot, minute)?;
        }
        values.resize(layout.numbers.len(), 0.0);
        let mut at = self.at;
        for ((literal, _), into) in layout.numbers.iter().zip(values) {
            let start = literal.end(self.bytes, at)?;
            (*into, at) = number::finite_json(self.bytes, start)?;
        }
        self.at = at;
        for (literal, slot) in &layout.after {
            self.at = literal.end(self.bytes, self.at)?;
            self.slot(*slot, minute)?;
        }
        self.at = layout.last.end(self.bytes, self.at)?;
        Some(())
    }

    #[inline]
    fn slot(&mut self, slot: Slot, minute: &Minute) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let len = match slot {
            Slot::Service => {
                let guess = self.guess.service;
                let is_guess = self.guess.kind == Kind::Body && rest.starts_with(guess);
                let len = if is_guess { guess.len() } else { quoted_len(rest)? };
                (self.spelling.kind, self.spelling.service) = (Kind::Body, &rest[..len]);
                len
            }
            Slot::Tags => {
                let guess = self.guess.tags;
                let is_guess = !guess.is_empty() && rest.starts_with(guess);
                let len = if is_guess { guess.len() } else { braced_len(rest)? };
                self.spelling.tags = &rest[..len];
                len
            }
            Slot::TimeText => match minute.read(rest) {
                Some((time_ns, len)) => {
                    self.time = Some(Time::Read(time_ns));
                    len
                }
                None => {
                    let len = plain_len(rest)?;
                    self.time = Some(Time::Text(&rest[..len]));
                    len
                }
            },
            Slot::TimeNumber => {
                let (_, len) = number::json(rest, 0)?;
                self.time = Some(Time::Number(&rest[..len]));
                len
            }
        };
        self.at += len;
        Some(())
    }
}

/// Length of a string with its quotes, if nothing in it is escaped.
#[cold]
fn quoted_len(text: &[u8]) -> Option<usize> {
    let len = plain_len(text.strip_prefix(b"\"")?)?;
    (text[len + 1] == b'"').then_some(len + 2)
}

/// Bytes up to a quote, or to what does not stand in a plain string.
fn plain_len(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
}

/// Length of an object up to its first closing brace.
#[cold]
fn braced_len(text: &[u8]) -> Option<usize> {
    Some(text.iter().position(|byte| *byte == b'}')? + 1)
}
