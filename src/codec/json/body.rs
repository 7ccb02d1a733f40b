//! The way through a body of the JSON codec: message by message, each by the fastest tier that can read it.
//!
//! First as one that looks like another before it ([`known`](super::known)), then by the [scanner](super::scan); where a body may
//! go on behind a message that neither reads, the full parser has this one element. Whatever else is met makes this give
//! up without a trace, and the full parser reads the same bytes.

use std::cell::OnceCell;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::scan::Cursor;
use super::{element, known};
use crate::codec::decoder::Decoder;

/// Decodes a whole body. False leaves the decoder as it was: the body is the full parser's.
pub(super) fn decode(bytes: &[u8], decoder: &mut Decoder) -> bool {
    let mut body = Body { bytes, text: OnceCell::new(), at: 0 };
    let before = decoder.mark();
    let read = match body.peek() {
        Some(b'[') => body.array(decoder, |_| true),
        _ if body.opens_batch() => body.batch(decoder),
        _ => body.message(decoder),
    };
    let done = read.is_some() && body.peek().is_none();
    if !done {
        decoder.roll_back(before);
    }
    done
}

/// A place in the body. Every method that returns `None` has met something unexpected.
struct Body<'a> {
    bytes: &'a [u8],
    /// The body as text, once a tier wants it so; none if it is no UTF-8.
    text: OnceCell<Option<&'a str>>,
    at: usize,
}

impl<'a> Body<'a> {
    /// Whether this is the batch object. Reads up to its array if so, nothing if not.
    fn opens_batch(&mut self) -> bool {
        let start = self.at;
        let mut open = || {
            self.expect(b'{')?;
            self.peek()?;
            self.at += self.bytes[self.at..].starts_with(b"\"metrics\"").then_some(9)?;
            self.expect(b':')?;
            (self.peek()? == b'[').then_some(())
        };
        let is_batch = open().is_some();
        if !is_batch {
            self.at = start;
        }
        is_batch
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
                checked = checked || may_continue(self.text()?);
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

    /// A message: all of it, or nothing.
    #[inline]
    fn message(&mut self, decoder: &mut Decoder) -> Option<()> {
        self.at = match known::message(self.bytes, self.at, decoder) {
            Some(end) => end,
            None => {
                let mut cursor = Cursor { text: self.text()?, at: self.at };
                cursor.message(decoder)?;
                cursor.at
            }
        };
        Some(())
    }

    /// Any JSON value, decoded by the full parser.
    fn element(&mut self, decoder: &mut Decoder) -> Option<()> {
        let mut rest = serde_json::Deserializer::from_str(&self.text()?[self.at..]);
        let raw = <&RawValue>::deserialize(&mut rest).ok()?.get();
        element(raw, decoder);
        self.at += raw.len();
        Some(())
    }

    #[cold]
    fn text(&self) -> Option<&'a str> {
        *self.text.get_or_init(|| std::str::from_utf8(self.bytes).ok())
    }

    /// The next byte that is no space, which is not taken.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
