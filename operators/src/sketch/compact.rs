//! A sketch as few bytes, for closed panes and checkpoints: sorted varint deltas.
//!
//! ```text
//! u8      version, 1
//! u8      precision K
//! varint  bins_max
//! varint  count of zeros
//! u64 le  bits of min      } absent when
//! u64 le  bits of max      } nothing is held
//! twice (negative, then positive bins):
//!   varint  number of bins
//!   a bin:  varint  2 · (index - previous index - 1) + (count > 1), the first previous index being 0
//!           varint  count - 2, only when count > 1
//! ```
//! A varint is LEB128: seven bits a byte, lowest first. A bin with one value near its neighbour takes one
//! byte.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Sketch;
use super::bin::{self, INDEX_END, PRECISION_MAX};
use super::store::Store;

/// The version byte written and understood.
const VERSION: u8 = 1;

/// Why bytes are not a sketch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactError {
    /// What was expected and what was found.
    pub reason: &'static str,
    /// The byte at which it was noticed.
    pub byte: usize,
}

impl fmt::Display for CompactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a compact sketch: {} at byte {}", self.reason, self.byte)
    }
}

impl std::error::Error for CompactError {}

impl Serialize for Sketch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_compact().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sketch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sketch, D::Error> {
        Sketch::from_compact(&Vec::<u8>::deserialize(deserializer)?).map_err(Error::custom)
    }
}

impl Sketch {
    /// The sketch as bytes. Equal sketches give equal bytes.
    pub fn to_compact(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + 2 * self.bins());
        out.extend([VERSION, self.precision]);
        put_varint(&mut out, u64::from(self.bins_max));
        put_varint(&mut out, self.zero_count);
        if self.count > 0 {
            out.extend(self.min.to_bits().to_le_bytes());
            out.extend(self.max.to_bits().to_le_bytes());
        }
        for store in [&self.negative, &self.positive] {
            put_store(&mut out, store);
        }
        out.shrink_to_fit();
        out
    }

    /// The sketch that [`Self::to_compact`] wrote. Bytes that no sketch can have written are an error that
    /// names the byte; memory is taken in proportion to the input.
    pub fn from_compact(bytes: &[u8]) -> Result<Sketch, CompactError> {
        let mut input = Input { bytes, at: 0 };
        if input.byte()? != VERSION {
            return Err(input.wrong("expected version 1"));
        }
        let precision = input.byte()?;
        if precision > PRECISION_MAX {
            return Err(input.wrong("expected a precision of at most 7"));
        }
        let bins_max =
            u16::try_from(input.varint()?).map_err(|_| input.wrong("expected a cap below 65536"))?;
        let mut sketch = Sketch { precision, ..Sketch::with_bins_max(bins_max) };
        sketch.zero_count = input.varint()?;
        // Whether extremes follow is known only from the counts, which stand behind them: nothing is held
        // exactly when what is left is the two empty stores.
        let holds_nothing = sketch.zero_count == 0 && input.bytes[input.at..] == [0, 0];
        if !holds_nothing {
            sketch.min = f64::from_bits(input.u64()?);
            sketch.max = f64::from_bits(input.u64()?);
        }
        (sketch.negative, sketch.negative_count) = input.store(precision)?;
        let positive_count;
        (sketch.positive, positive_count) = input.store(precision)?;
        sketch.count = [sketch.negative_count, sketch.zero_count, positive_count]
            .into_iter()
            .try_fold(0_u64, u64::checked_add)
            .ok_or_else(|| input.wrong("expected fewer than 2^64 values"))?;
        input.check_end(&sketch, holds_nothing)?;
        Ok(sketch)
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_store(out: &mut Vec<u8>, store: &Store) {
    put_varint(out, store.occupied() as u64);
    let mut previous = 0;
    store.for_each(|index, count| {
        let gap = u64::from(index - previous - 1);
        put_varint(out, 2 * gap + u64::from(count > 1));
        if count > 1 {
            put_varint(out, count - 2);
        }
        previous = index;
    });
}

/// The bytes and how far they have been read.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn wrong(&self, reason: &'static str) -> CompactError {
        CompactError { reason, byte: self.at.saturating_sub(1) }
    }

    fn byte(&mut self) -> Result<u8, CompactError> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte.ok_or_else(|| self.wrong("expected more bytes, found the end"))
    }

    fn u64(&mut self) -> Result<u64, CompactError> {
        let mut bits = 0;
        for place in 0..8 {
            bits |= u64::from(self.byte()?) << (8 * place);
        }
        Ok(bits)
    }

    fn varint(&mut self) -> Result<u64, CompactError> {
        if let Some(byte) = self.bytes.get(self.at).filter(|byte| **byte < 0x80) {
            self.at += 1;
            return Ok(u64::from(*byte));
        }
        let mut value = 0_u64;
        for place in 0..10 {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if place == 9 && part > 1 {
                break;
            }
            value |= part << (7 * place);
            if byte & 0x80 == 0 {
                // One number, one spelling: else equal sketches could have different bytes.
                return if byte == 0 && place > 0 {
                    Err(self.wrong("expected the shortest varint"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(self.wrong("expected a varint below 2^64"))
    }

    /// The bins of one sign, and how many values they hold.
    fn store(&mut self, precision: u8) -> Result<(Store, u64), CompactError> {
        let end = u64::from(INDEX_END >> (PRECISION_MAX - precision));
        let bins = self.varint()?;
        let left = self.bytes.len().saturating_sub(self.at);
        let mut found = Vec::with_capacity(left.min(usize::try_from(bins).unwrap_or(left)));
        let (mut total, mut index) = (0_u64, 0_u64);
        for _ in 0..bins {
            let word = self.varint()?;
            index = index.saturating_add(word / 2).saturating_add(1);
            if index < 1 << precision || index >= end {
                return Err(self.wrong("expected the index of a bin"));
            }
            let extra = if word % 2 == 1 { self.varint()?.checked_add(1) } else { Some(0) };
            let count = extra.and_then(|extra| extra.checked_add(1));
            let sum = count.and_then(|count| total.checked_add(count));
            let (Some(count), Some(sum)) = (count, sum) else {
                return Err(self.wrong("expected fewer than 2^64 values"));
            };
            total = sum;
            found.push((index as u32, count));
        }
        Ok((Store::from_sorted(&found), total))
    }

    /// Checks what can be known only when all is read.
    fn check_end(&self, sketch: &Sketch, holds_nothing: bool) -> Result<(), CompactError> {
        if self.at != self.bytes.len() {
            return Err(self.wrong("expected the end, found more bytes"));
        }
        if holds_nothing {
            return Ok(());
        }
        if sketch.bins() > usize::from(sketch.bins_max) && sketch.precision > 0 {
            return Err(self.wrong("expected no more bins than the cap"));
        }
        if sketch.count == 0 || !sketch.min.is_finite() || !sketch.max.is_finite() || sketch.min > sketch.max
        {
            return Err(self.wrong("expected a finite min and max in order"));
        }
        let min_bin = -outermost(&sketch.negative, &sketch.positive, sketch.zero_count);
        let max_bin = outermost(&sketch.positive, &sketch.negative, sketch.zero_count);
        let ends = [min_bin, max_bin];
        let found = [signed_bin(sketch.min, sketch.precision), signed_bin(sketch.max, sketch.precision)];
        let negative_zero = |value: f64| value == 0.0 && value.is_sign_negative();
        if ends != found || negative_zero(sketch.min) || negative_zero(sketch.max) {
            return Err(self.wrong("expected min and max in the outermost bins"));
        }
        Ok(())
    }
}

/// The outermost bin on the side of `near`: its highest, else zero, else the lowest of `far`, which is negative.
fn outermost(near: &Store, far: &Store, zero_count: u64) -> i64 {
    match (near.ends(), far.ends()) {
        (Some((_, highest)), _) => i64::from(highest),
        (None, Some((lowest, _))) if zero_count == 0 => -i64::from(lowest),
        _ => 0,
    }
}

fn signed_bin(value: f64, precision: u8) -> i64 {
    let index = i64::from(bin::index(value.abs(), precision));
    if value < 0.0 { -index } else { index }
}
