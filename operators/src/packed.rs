//! Numbers as few bytes, and back: what saved state is written in.
//!
//! A varint is LEB128, seven bits a byte, lowest first. A signed number is a varint of its zigzag form. An
//! `f64` is the bytes of its bits that differ from those of a number before it (Pelkonen et al., "Gorilla",
//! VLDB 2015, at the grain of bytes), or a whole number of thousandths where that is shorter. Reading never panics, takes no memory before it has looked whether as
//! many bytes are there, and says what it missed at which byte.

use std::borrow::Cow;
use std::fmt;

/// Why bytes can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What was expected, and what was found where that says more.
    pub expected: Cow<'static, str>,
    /// The byte at which it was noticed.
    pub byte: usize,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.byte)
    }
}

impl std::error::Error for Unreadable {}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number; those near zero are short.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// Appends postcard's form of a value behind its length.
pub fn put_framed(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    let at = out.len();
    // Nothing that is saved can fail to be encoded: the size of each sequence is known.
    if postcard::to_extend(value, Appending(out)).is_err() {
        out.truncate(at);
    }
    // Its length is known now, and goes in front of it.
    let end = out.len();
    put_varint(out, (end - at) as u64);
    let len_len = out.len() - end;
    out[at..].rotate_right(len_len);
}

/// Bytes that are extended in place.
struct Appending<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Appending<'_> {
    #[inline]
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

/// Signed as unsigned: 0, -1, 1, -2 are 0, 1, 2, 3.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Which bytes of `bits` are not zero: how many stand above them, and how many below. `SAME` when all are zero.
#[inline]
fn span(bits: u64) -> u8 {
    if bits == 0 {
        return SAME;
    }
    (bits.leading_zeros() / 8 * 8 + bits.trailing_zeros() / 8) as u8
}

/// The span of no byte at all. A real one has at most seven bytes beside it.
const SAME: u8 = 63;

/// The span of a number that is told in thousandths: a varint follows. No real one leaves that much out.
const TOLD_IN_THOUSANDTHS: u8 = 62;

/// Numbers below it have a zigzag varint of at most seven bytes.
const SHORT_END: f64 = (1_u64 << 48) as f64;

/// The whole number that is `value`, bit for bit, if it is short.
#[inline]
pub fn whole(value: f64) -> Option<i64> {
    let whole = value as i64;
    (value.abs() < SHORT_END && (whole as f64).to_bits() == value.to_bits()).then_some(whole)
}

/// The number of thousandths that `value` is, bit for bit when it is divided again, if it is short: what is measured
/// mostly has few decimals.
#[inline]
pub fn thousandths(value: f64) -> Option<i64> {
    let scaled = value * 1000.0;
    let nearest = (scaled + 0.5_f64.copysign(scaled)) as i64;
    (scaled.abs() < SHORT_END && from_thousandths(nearest).to_bits() == value.to_bits()).then_some(nearest)
}

/// The inverse of [`thousandths`].
#[inline]
pub fn from_thousandths(number: i64) -> f64 {
    number as f64 / 1000.0
}

/// Appends the bits of `value` that differ from those of `before`, behind a byte that holds `extra` (below 4)
/// in its upper two bits; or its thousandths.
#[inline]
pub fn put_value(out: &mut Vec<u8>, value: f64, before: f64, extra: u8) {
    let bits = value.to_bits() ^ before.to_bits();
    let span = span(bits);
    if span != SAME {
        let len = 8 - usize::from(span / 8) - usize::from(span % 8);
        // Of what is short already nothing is to be gained.
        if let Some(number) = (len > 2).then(|| thousandths(value)).flatten()
            && zigzag(number) >> (7 * (len - 1)) == 0
        {
            out.push(extra << 6 | TOLD_IN_THOUSANDTHS);
            return put_signed(out, number);
        }
    }
    out.push(extra << 6 | span);
    if span != SAME {
        let (above, below) = (usize::from(span / 8), usize::from(span % 8));
        out.extend_from_slice(&(bits >> (8 * below)).to_le_bytes()[..8 - above - below]);
    }
}

/// Appends `value` on its own.
pub fn put_f64(out: &mut Vec<u8>, value: f64) {
    put_value(out, value, 0.0, 0);
}

/// Bytes, and how far they have been read.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their beginning.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// The error that says what was expected here.
    #[cold]
    pub fn wrong(&self, expected: impl Into<Cow<'static, str>>) -> Unreadable {
        Unreadable { expected: expected.into(), byte: self.at }
    }

    /// Bytes read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Unreadable> {
        let Some(byte) = self.bytes.get(self.at) else { return Err(self.wrong("more bytes")) };
        self.at += 1;
        Ok(*byte)
    }

    /// The next `len` bytes.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Unreadable> {
        if len > self.left() {
            return Err(self.wrong("more bytes"));
        }
        self.at += len;
        Ok(&self.bytes[self.at - len..self.at])
    }

    /// A varint.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Unreadable> {
        let first = self.byte()?;
        if first < 0x80 { Ok(u64::from(first)) } else { self.varint_from(first) }
    }

    fn varint_from(&mut self, first: u8) -> Result<u64, Unreadable> {
        let mut value = u64::from(first & 0x7f);
        for place in 1..10 {
            let byte = self.byte()?;
            if place == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.wrong("a varint below 2^64"))
    }

    /// A signed number.
    #[inline]
    pub fn signed(&mut self) -> Result<i64, Unreadable> {
        Ok(unzigzag(self.varint()?))
    }

    /// A count of things that take at least `bytes_each` bytes, which must be there: so memory for that many
    /// may be taken.
    #[inline]
    pub fn len(&mut self, bytes_each: usize) -> Result<usize, Unreadable> {
        let len = self.varint()?;
        let fits = usize::try_from(len).ok().filter(|len| *len <= self.left() / bytes_each.max(1));
        fits.ok_or_else(|| {
            self.wrong(format!("no more than the {} bytes left, found a count of {len}", self.left()))
        })
    }

    /// What [`put_value`] wrote after `before`, and its `extra`.
    #[inline]
    pub fn value(&mut self, before: f64) -> Result<(f64, u8), Unreadable> {
        let head = self.byte()?;
        let (extra, span) = (head >> 6, head & 63);
        if span == SAME {
            return Ok((before, extra));
        }
        if span == TOLD_IN_THOUSANDTHS {
            return Ok((from_thousandths(self.signed()?), extra));
        }
        let (above, below) = (usize::from(span / 8), usize::from(span % 8));
        let Some(len) = 8usize.checked_sub(above + below).filter(|len| *len > 0) else {
            return Err(self.wrong("the bytes of a number"));
        };
        let word = match self.bytes[self.at..].first_chunk() {
            // Eight bytes at once, of which some belong to what follows.
            Some(word) => {
                self.at += len;
                u64::from_le_bytes(*word) & (u64::MAX >> (64 - 8 * len))
            }
            None => self.bytes(len)?.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        let bits = word << (8 * below);
        Ok((f64::from_bits(before.to_bits() ^ bits), extra))
    }

    /// A number on its own.
    pub fn f64(&mut self) -> Result<f64, Unreadable> {
        Ok(self.value(0.0)?.0)
    }

    /// What [`put_framed`] wrote, all of it; `expected` is what it is called where it is something else.
    pub fn framed<T: serde::de::DeserializeOwned>(
        &mut self,
        expected: &'static str,
    ) -> Result<T, Unreadable> {
        let len = self.len(1)?;
        match postcard::take_from_bytes(self.bytes(len)?) {
            Ok((value, [])) => Ok(value),
            _ => Err(self.wrong(expected)),
        }
    }

    /// Checks that nothing is left.
    pub fn end(&self) -> Result<(), Unreadable> {
        if self.left() == 0 {
            Ok(())
        } else {
            Err(self.wrong(format!("the end, found {} more bytes", self.left())))
        }
    }
}

/// A checksum of 64 bits. Each step is one to one in what it takes and in the state it leaves, so a change
/// that lies within eight bytes on an eight-byte boundary is always noticed, others all but always.
pub fn checksum(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    let mut words = bytes.chunks_exact(8);
    let mut sum = step(MULTIPLIER, bytes.len() as u64);
    for word in &mut words {
        // A chunk of eight is eight bytes.
        sum = step(sum, word.try_into().map_or(0, u64::from_le_bytes));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    step(step(sum, u64::from_le_bytes(last)), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_things_are_short() {
        for (value, before, len) in [
            (7.5, 7.5, 1),
            (0.0, 0.0, 1),
            (3.0, 0.0, 3),
            (46.0, 44.0, 2),
            (0.1, 0.0, 3),
            (-12.345, 40.0, 4),
            (1.0 / 3.0, 0.0, 9),
            (f64::MIN, f64::MAX, 2),
        ] {
            let mut out = Vec::new();
            put_value(&mut out, value, before, 0);
            assert_eq!(out.len(), len, "{value} after {before}");
        }
    }

    proptest! {
        #[test]
        fn numbers_read_back(numbers in prop::collection::vec((any::<u64>(), 0u32..64, any::<u64>(), 0u8..4), 0..50)) {
            let mut out = Vec::new();
            let mut before = 0.0;
            for (number, shift, bits, extra) in &numbers {
                put_varint(&mut out, number >> shift);
                put_signed(&mut out, *number as i64 >> shift);
                put_value(&mut out, f64::from_bits(bits << shift), before, *extra);
                before = f64::from_bits(bits << shift);
            }
            let mut reader = Reader::new(&out);
            before = 0.0;
            for (number, shift, bits, extra) in &numbers {
                prop_assert_eq!(reader.varint(), Ok(number >> shift));
                prop_assert_eq!(reader.signed(), Ok(*number as i64 >> shift));
                let (value, found) = reader.value(before).unwrap();
                prop_assert_eq!((value.to_bits(), found), (bits << shift, *extra));
                before = value;
            }
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn one_changed_byte_changes_the_checksum(bytes in prop::collection::vec(any::<u8>(), 1..100), at in 0usize..100, by in 1u8..) {
            let mut changed = bytes.clone();
            let at = at % bytes.len();
            changed[at] ^= by;
            prop_assert_ne!(checksum(&bytes), checksum(&changed));
            prop_assert_ne!(checksum(&bytes), checksum(&bytes[..at]));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while reader.varint().and_then(|_| reader.f64()).and_then(|_| reader.len(3)).is_ok() {}
            prop_assert!(reader.left() <= bytes.len());
        }
    }
}
