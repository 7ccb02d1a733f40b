//! The second tier of the line protocol: lines of known targets whose fields come in any order, as those of Telegraf do.
//!
//! Names are looked up, numbers are read, and nothing else is accepted: an escape, a boolean, a text or a new field is
//! the full parser's.

use super::keep_last;
use super::known::{Known, end, number};
use super::time::Precision;
use crate::codec::decoder::layout::Form;
use crate::codec::decoder::{Decoder, ShapeId};

/// Decodes a line, of which measurement and tags were read. `None` leaves the decoder as it was.
pub(super) fn line(
    shape: ShapeId,
    (bytes, key_len): (&[u8], usize),
    precision: Precision,
    decoder: &mut Decoder,
) -> Option<Known> {
    if decoder.layouts.may_learn() {
        decoder.layouts.lesson = true;
        return None;
    }
    let (mark, before) = (decoder.mark(), decoder.samples.len());
    decoder.messages += 1;
    let known = fields(shape, bytes, key_len, decoder).and_then(|at| end(bytes, at, precision, decoder));
    let Some((known, time_ns)) = known.filter(|(_, time_ns)| decoder.accept_time(*time_ns)) else {
        decoder.roll_back(mark);
        return None;
    };
    decoder.samples[before..].iter_mut().for_each(|sample| sample.time_ns = time_ns);
    keep_last(&mut decoder.samples, before);
    decoder.shapes.came(shape);
    Some(known)
}

/// Reads all fields, and tells where they end. The time is not known yet.
fn fields(shape: ShapeId, bytes: &[u8], key_len: usize, decoder: &mut Decoder) -> Option<usize> {
    let blanks = bytes[key_len..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let mut at = key_len + blanks;
    let mut place = 0;
    loop {
        let rest = bytes.get(at..)?;
        let len = name_len(rest)?;
        let series = decoder.shapes.series(shape, place, &rest[..len])?;
        let start = at + len + 1;
        let (value, end) = any_number(bytes, start)?;
        decoder.push_known(series, "", 0, value);
        if bytes.get(end) != Some(&b',') {
            return Some(end);
        }
        at = end + 1;
        place += 1;
    }
}

/// Longer names are the full parser's.
const NAME_LEN_MAX: usize = 512;

/// Bytes before the first equals sign, if nothing among them ends or escapes anything.
#[inline]
fn name_len(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    // Not further, since a line may have no equals sign.
    let bytes = &bytes[..bytes.len().min(NAME_LEN_MAX)];
    let mut len = 0;
    while let Some(chunk) = bytes.get(len..).and_then(|rest| rest.first_chunk()) {
        // Mycroft's test for a zero byte, which errs only above one.
        let others = u64::from_le_bytes(*chunk) ^ (ONES * u64::from(b'='));
        let found = others.wrapping_sub(ONES) & !others & (ONES * 0x80);
        len += found.trailing_zeros() as usize / 8;
        if found != 0 {
            break;
        }
    }
    len += bytes[len..].iter().position(|byte| *byte == b'=')?;
    let is_odd = |odd, byte: &u8| odd | matches!(byte, b',' | b' ' | b'\\' | b'\n');
    (!bytes[..len].iter().fold(false, is_odd)).then_some(len)
}

/// Reads a number of any form, with the letter behind it.
fn any_number(bytes: &[u8], start: usize) -> Option<(f64, usize)> {
    let (value, at) = number(Form::Decimal, bytes, start)?;
    let form = match bytes.get(at) {
        Some(b'i') => Form::Integer,
        Some(b'u') => Form::Unsigned,
        _ => return Some((value, at)),
    };
    // One that ends earlier has a fraction.
    let (value, end) = number(form, bytes, start).filter(|(_, end)| *end == at)?;
    Some((value, end + 1))
}
