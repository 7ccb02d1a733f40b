//! The first tier of the line protocol: lines that look like one seen before, byte by byte but for numbers and time.
//!
//! Measurement and tags are compared with those that came next last time, the bytes between two numbers with those that
//! stood there last time. What does not fit, the [scanner](super::scan) or the full parser reads. No check for UTF-8 is needed: every byte of a line
//! that is taken equals one that was checked before, or is a digit.

use std::ops::Range;

use operators::sample::TimeNs;

use super::parse::Field;
use super::scan;
use super::time::Precision;
use crate::codec::decoder::layout::{Form, Layout, LayoutId, Part};
use crate::codec::decoder::shapes::{Kind, Spelling};
use crate::codec::decoder::{Decoder, ShapeId};
use crate::codec::number;

/// A line that was taken.
pub(super) struct Known {
    /// Its bytes, and those that end it.
    pub(super) len: usize,
    pub(super) has_time: bool,
}

/// Decodes the line that `bytes` begins with. `None` leaves the decoder as it was.
#[inline]
pub(super) fn line(bytes: &[u8], precision: Precision, decoder: &mut Decoder) -> Option<Known> {
    let (shape, key_len) = target(bytes, decoder)?;
    let guess = decoder.shapes.layout(shape);
    let from = (bytes, key_len);
    line_of(guess, shape, from, precision, decoder)
        .or_else(|| {
            let mut others = decoder.layouts.others(guess);
            others.find_map(|layout| line_of(layout, shape, from, precision, decoder))
        })
        .or_else(|| scan::line(shape, from, precision, decoder))
}

/// The target, and the length of its spelling.
#[inline]
fn target(bytes: &[u8], decoder: &Decoder) -> Option<(ShapeId, usize)> {
    if let Some(shape) = decoder.shapes.guess() {
        let key = decoder.shapes.spelling(shape).service;
        if bytes.starts_with(key) && bytes.get(key.len()) == Some(&b' ') && !key.is_empty() {
            return Some((shape, key.len()));
        }
    }
    let key_len = (0..bytes.len()).find(|at| match bytes[*at] {
        b' ' => *at == 0 || bytes[*at - 1] != b'\\',
        byte => byte == b'\n',
    })?;
    let spelling = Spelling { kind: Kind::Body, service: &bytes[..key_len], tags: b"" };
    Some((decoder.shapes.find(spelling)?, key_len))
}

/// Decodes the line, of which measurement and tags were read, if it is of this layout.
#[inline]
fn line_of(
    id: LayoutId,
    shape: ShapeId,
    (bytes, key_len): (&[u8], usize),
    precision: Precision,
    decoder: &mut Decoder,
) -> Option<Known> {
    let layout = decoder.layouts.get(id)?;
    let at = numbers(layout, bytes, key_len, &mut decoder.values)?;
    let (known, time_ns) = end(bytes, at, precision, decoder)?;
    let before = decoder.mark();
    decoder.messages += 1;
    if !decoder.accept_time(time_ns) || !decoder.push_values(shape, id, time_ns) {
        decoder.roll_back(before);
        return None;
    }
    decoder.shapes.came(shape);
    Some(known)
}

/// What stands behind the fields: where the line ends, and its event time.
#[inline]
pub(super) fn end(
    bytes: &[u8],
    at: usize,
    precision: Precision,
    decoder: &Decoder,
) -> Option<(Known, TimeNs)> {
    let (time, at) = time(bytes, at)?;
    let len = line_end(bytes, at)?;
    let time_ns = time.map_or(Some(decoder.arrival_ns), |time| precision.nanoseconds(time).ok())?;
    Some((Known { len, has_time: time.is_some() }, time_ns))
}

/// Reads all numbers of a line, and tells where they end.
#[inline]
fn numbers(layout: &Layout, bytes: &[u8], mut at: usize, values: &mut Vec<f64>) -> Option<usize> {
    values.resize(layout.numbers.len(), 0.0);
    for ((literal, form), into) in layout.numbers.iter().zip(values) {
        let start = literal.end(bytes, at)?;
        (*into, at) = number(*form, bytes, start)?;
    }
    layout.last.end(bytes, at)
}

/// Reads a number of this form, without the letter behind it.
#[inline(always)]
pub(super) fn number(form: Form, bytes: &[u8], start: usize) -> Option<(f64, usize)> {
    match form {
        Form::Decimal => number::plain(bytes, start),
        Form::Integer => {
            let (integer, end) = integer(bytes, start)?;
            Some((integer as f64, end))
        }
        Form::Unsigned => {
            let (integer, end) = number::whole(bytes, start)?;
            Some((integer as f64, end))
        }
    }
}

#[inline]
fn integer(bytes: &[u8], start: usize) -> Option<(i64, usize)> {
    let negative = *bytes.get(start)? == b'-';
    let (magnitude, end) = number::whole(bytes, start + usize::from(negative))?;
    let magnitude = i64::try_from(magnitude).ok()?;
    Some((if negative { -magnitude } else { magnitude }, end))
}

/// The time behind the fields, if there is one, and where it ends.
#[inline]
fn time(bytes: &[u8], at: usize) -> Option<(Option<i64>, usize)> {
    if bytes.get(at) != Some(&b' ') {
        return Some((None, at));
    }
    let (time, end) = integer(bytes, at + 1)?;
    Some((Some(time), end))
}

/// Where the next line begins, if this one ends at `at`.
#[inline]
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at..)? {
        [] => Some(at),
        [b'\n', ..] => Some(at + 1),
        [b'\r'] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    }
}

/// Learns what a line looks like. All its fields were taken.
#[cold]
pub(super) fn learn(text: &str, key_len: usize, fields: &[Field], shape: ShapeId, decoder: &mut Decoder) {
    let names: Vec<_> = fields.iter().map(Field::name).collect();
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let ends = fields.iter().map(|field| text.len() - field.left - key_len);
    let text = &text.as_bytes()[key_len..];
    let parts = names.iter().zip(ends).map(|(name, end)| part(text, end, name));
    let parts: Option<Vec<(Part, Range<usize>)>> = parts.collect();
    if let Some(parts) = parts.filter(|_| distinct.len() == names.len()) {
        let end = fields.last().map_or(text.len(), |last| text.len() - last.left);
        decoder.learn_layout(shape, &text[..end], &parts);
    }
}

/// The number that ends at `end`, if it is one; without the letter that tells its kind.
fn part<'a>(text: &[u8], end: usize, name: &'a str) -> Option<(Part<'a>, Range<usize>)> {
    let (form, end) = match text[end - 1] {
        b'i' => (Form::Integer, end - 1),
        b'u' => (Form::Unsigned, end - 1),
        b'0'..=b'9' => (Form::Decimal, end),
        _ => return None,
    };
    let is_part = |byte: &&u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let len = text[..end].iter().rev().take_while(is_part).count();
    // Where an exponent stands, what was found is a part of the number alone.
    (text.get(end - len - 1) == Some(&b'=')).then(|| (Part::Number(name, form), end - len..end))
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
