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
use crate::codec::{number, time};

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
    found.read(layout, &mut decoder.values)?;
    let Found { at: end, spelling, time, guess: guessed, .. } = found;
    let shape = if spelling == guessed { guess } else { None };
    let shape = shape.or_else(|| decoder.shapes.find(spelling))?;
    let time_ns = match time {
        None => decoder.arrival_ns,
        Some((Slot::TimeNumber, text)) => time::parse_number(std::str::from_utf8(text).ok()?)?,
        Some((_, text)) => decoder.minute.parse(text)?,
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
    time: Option<(Slot, &'a [u8])>,
}

impl<'a> Found<'a> {
    #[inline]
    fn read(&mut self, layout: &Layout, values: &mut Vec<f64>) -> Option<()> {
        for (literal, slot) in &layout.before {
            self.at = literal.end(self.bytes, self.at)?;
            self.slot(*slot)?;
        }
        values.clear();
        for (literal, _) in &layout.numbers {
            let start = literal.end(self.bytes, self.at)?;
            let (value, end) = number::json(self.bytes, start).filter(|(value, _)| value.is_finite())?;
            self.at = end;
            values.push(value);
        }
        for (literal, slot) in &layout.after {
            self.at = literal.end(self.bytes, self.at)?;
            self.slot(*slot)?;
        }
        self.at = layout.last.end(self.bytes, self.at)?;
        Some(())
    }

    fn slot(&mut self, slot: Slot) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let len = match slot {
            Slot::Service if self.guess.kind == Kind::Body && rest.starts_with(self.guess.service) => {
                self.guess.service.len()
            }
            Slot::Service => quoted(rest)?.len() + 2,
            Slot::Tags if !self.guess.tags.is_empty() && rest.starts_with(self.guess.tags) => {
                self.guess.tags.len()
            }
            Slot::Tags => rest.iter().position(|byte| *byte == b'}')? + 1,
            Slot::TimeText => rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?,
            Slot::TimeNumber => number::json(rest, 0)?.1,
        };
        let text = &rest[..len];
        match slot {
            Slot::Service => (self.spelling.kind, self.spelling.service) = (Kind::Body, text),
            Slot::Tags => self.spelling.tags = text,
            Slot::TimeText | Slot::TimeNumber => self.time = Some((slot, text)),
        }
        self.at += len;
        Some(())
    }
}

/// What stands between the first quote and the next.
fn quoted(text: &[u8]) -> Option<&[u8]> {
    let inside = text.strip_prefix(b"\"")?;
    let len = inside.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    (inside[len] == b'"').then(|| &inside[..len])
}
