//! The fast tier of the JSON codec: documented messages of known targets and metrics, alone or in arrays.
//!
//! One pass over the bytes; a service, tags and names are compared with what was learned before, only numbers
//! and times are parsed. Whatever it does not expect, an escape, a new series, a value that is no number, makes it
//! give up without a trace, and the full parser reads the same bytes. It accepts nothing that the full parser would
//! not, and gives the same samples and rejects: tested on every input that proptest thinks of.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::element;
use crate::codec::decoder::Decoder;
use crate::codec::time;
use operators::sample::TimeNs;

/// A metric of the message being read.
pub(in crate::codec) struct Scanned {
    name: Range<usize>,
    value: f64,
}

/// Decodes a whole body. False leaves the decoder as it was: the body is the full parser's.
pub(super) fn body(text: &str, decoder: &mut Decoder) -> bool {
    let mut cursor = Cursor { text, at: 0 };
    let before = decoder.mark();
    let read = match cursor.peek() {
        Some(b'[') => cursor.array(decoder, |_| true),
        _ if cursor.opens_batch() => cursor.batch(decoder),
        _ => cursor.message(decoder),
    };
    let done = read.is_some() && cursor.peek().is_none();
    if !done {
        decoder.roll_back(before);
    }
    done
}

/// What a message spells, as it stands in the text.
#[derive(Default)]
struct Spelled<'a> {
    /// Without its quotes.
    time_text: Option<&'a str>,
    time_number: Option<&'a str>,
    /// With its quotes.
    service: Option<&'a str>,
    /// From brace to brace.
    tags: Option<&'a str>,
    has_metrics: bool,
}

/// A place in the text. Every method that returns `None` has met something unexpected.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Whether this is the batch object. Reads up to its array if so, nothing if not.
    fn opens_batch(&mut self) -> bool {
        let mut ahead = Cursor { text: self.text, at: self.at };
        let mut open = || {
            ahead.expect(b'{')?;
            (ahead.key()? == "metrics" && ahead.peek()? == b'[').then_some(ahead.at)
        };
        let array_at = open();
        self.at = array_at.unwrap_or(self.at);
        array_at.is_some()
    }

    fn batch(&mut self, decoder: &mut Decoder) -> Option<()> {
        // The full parser takes nothing of a batch object that is not well-formed to its end.
        self.array(decoder, super::is_json)?;
        self.expect(b'}')
    }

    /// Messages of an array. One that is unexpected is the full parser's, if `may_continue` says so of the whole text.
    fn array(&mut self, decoder: &mut Decoder, may_continue: impl Fn(&str) -> bool) -> Option<()> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            return self.expect(b']');
        }
        let mut checked = false;
        loop {
            self.peek()?;
            let start = self.at;
            if self.message(decoder).is_none() {
                checked = checked || may_continue(self.text);
                if !checked {
                    return None;
                }
                self.at = start;
                self.element(decoder)?;
            }
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.expect(b']'),
            }
        }
    }

    /// Any JSON value, decoded by the full parser.
    fn element(&mut self, decoder: &mut Decoder) -> Option<()> {
        let mut rest = serde_json::Deserializer::from_str(&self.text[self.at..]);
        let raw = <&RawValue>::deserialize(&mut rest).ok()?.get();
        element(raw, decoder);
        self.at += raw.len();
        Some(())
    }

    /// A message: all of it, or nothing.
    fn message(&mut self, decoder: &mut Decoder) -> Option<()> {
        let mut scanned = std::mem::take(&mut decoder.scanned);
        scanned.clear();
        let spelled = self.spelled(&mut scanned);
        let accepted = spelled.and_then(|spelled| accept(self.text, &spelled, &scanned, decoder));
        decoder.scanned = scanned;
        accepted
    }

    fn spelled(&mut self, scanned: &mut Vec<Scanned>) -> Option<Spelled<'a>> {
        let mut spelled = Spelled::default();
        self.expect(b'{')?;
        loop {
            match self.key()? {
                "timestamp" if spelled.time_text.is_none() && spelled.time_number.is_none() => {
                    if self.peek()? == b'"' {
                        spelled.time_text = Some(self.string()?);
                    } else {
                        let start = self.at;
                        self.number()?;
                        spelled.time_number = Some(&self.text[start..self.at]);
                    }
                }
                "service" if spelled.service.is_none() => {
                    self.peek()?;
                    let start = self.at;
                    self.string()?;
                    spelled.service = Some(&self.text[start..self.at]);
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
            scanned.push(Scanned { name, value: self.number()? });
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.expect(b'}'),
            }
        }
    }

    /// From a brace to the next closing one. Whether that is an object is not judged here: it is compared with
    /// objects that were read before, and no JSON value begins with another.
    fn braced(&mut self) -> Option<&'a str> {
        if self.peek()? != b'{' {
            return None;
        }
        let start = self.at;
        self.at += self.text.as_bytes()[start..].iter().position(|byte| *byte == b'}')? + 1;
        Some(&self.text[start..self.at])
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
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let negative = *bytes.get(start)? == b'-';
        let first = start + usize::from(negative);
        let (mut mantissa, mut at) = digits(bytes, first, 0);
        let whole_len = at - first;
        if whole_len == 0 || whole_len > 1 && bytes[first] == b'0' {
            return None;
        }
        let mut fraction_len = 0;
        if bytes.get(at) == Some(&b'.') {
            let point = at;
            (mantissa, at) = digits(bytes, point + 1, mantissa);
            fraction_len = at - point - 1;
            if fraction_len == 0 {
                return None;
            }
        }
        let plain_end = at;
        if let Some(b'e' | b'E') = bytes.get(at) {
            at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let (_, end) = digits(bytes, at, 0);
            if end == at {
                return None;
            }
            at = end;
        }
        self.at = at;
        // Clinger 1990: two numbers that a double holds exactly give a correctly rounded quotient.
        let is_exact = at == plain_end && whole_len + fraction_len <= 18 && mantissa <= 1 << 53;
        match POWERS_OF_TEN.get(fraction_len).filter(|_| is_exact) {
            Some(power) => {
                let magnitude = mantissa as f64 / power;
                Some(if negative { -magnitude } else { magnitude })
            }
            None => self.text[start..at].parse().ok(),
        }
    }
}

const POWERS_OF_TEN: [f64; 19] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

/// Digits from `at` on, appended to `number`, which may overflow; and where they end.
#[inline]
fn digits(bytes: &[u8], mut at: usize, mut number: u64) -> (u64, usize) {
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (number, at)
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
fn accept(text: &str, spelled: &Spelled, scanned: &[Scanned], decoder: &mut Decoder) -> Option<()> {
    let service = spelled.service.unwrap_or(&decoder.default_service);
    let shape = decoder.known_shape(service.as_bytes(), spelled.tags.unwrap_or_default().as_bytes())?;
    let time_ns = event_time(spelled, decoder.arrival_ns)?;
    let before = decoder.mark();
    decoder.messages += 1;
    if !decoder.accept_time(time_ns) {
        return Some(());
    }
    for (place, metric) in scanned.iter().enumerate() {
        let name = &text[metric.name.clone()];
        let Some(id) = decoder.known_series(shape, place, name) else {
            decoder.roll_back(before);
            return None;
        };
        decoder.push_known(id, name, time_ns, metric.value);
    }
    Some(())
}

fn event_time(spelled: &Spelled, arrival_ns: TimeNs) -> Option<TimeNs> {
    match (spelled.time_text, spelled.time_number) {
        (Some(text), _) => time::parse_text(text),
        (None, Some(number)) => time::parse_number(number),
        (None, None) => Some(arrival_ns),
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
